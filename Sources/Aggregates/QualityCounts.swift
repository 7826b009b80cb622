import Domain

/// What is counted of a source in a period of event time.
public enum QualityColumn: Int, CaseIterable, Sendable {
  /// Taken in.
  case records = 0
  /// Of these, those whose order is known to the other side too, repetitions left out.
  case matched
  /// Came after window and grace.
  case late
  /// Came again and were dropped.
  case duplicates
  /// Older images of a row that a newer one has replaced.
  case superseded
  /// Broke a validation rule that does not reject.
  case flagged
}

/// The counts of one source and period. Plain sums, so that tasks add up; dead letters by reason, and how long records
/// waited for their counterpart, in buckets of a quarter of an octave.
public struct QualityCounts: Hashable, Sendable {
  static let firstReason = QualityColumn.allCases.count
  static let firstWait = firstReason + DataFaultReason.allCases.count
  /// 0 to 3 ms apart, then four to an octave up to 2³⁸ ms (eight years); the last holds whatever is longer.
  static let waitBuckets = 4 + 36 * 4
  static let width = firstWait + waitBuckets

  var sums: [Int64]
  /// By currency, those with neither sum left out.
  public internal(set) var amounts: [QualityAmount] = []

  public init() { sums = Array(repeating: 0, count: QualityCounts.width) }

  init(_ start: UnsafePointer<Int64>, amounts: [QualityAmount]) {
    sums = Array(UnsafeBufferPointer(start: start, count: QualityCounts.width))
    self.amounts = amounts
  }

  public subscript(column: QualityColumn) -> Int64 {
    get { sums[column.rawValue] }
    set { sums[column.rawValue] = newValue }
  }

  /// Dead letters of a reason.
  public subscript(reason: DataFaultReason) -> Int64 {
    get { sums[QualityCounts.place(of: reason)] }
    set { sums[QualityCounts.place(of: reason)] = newValue }
  }

  public var deadLetters: Int64 { DataFaultReason.allCases.reduce(0) { $0 + self[$1] } }

  /// Those for which nothing has come from the other side.
  public var unmatched: Int64 { self[.records] - self[.duplicates] - self[.superseded] - self[.matched] }

  static func place(of reason: DataFaultReason) -> Int {
    switch reason {
    case .schemaInvalid: firstReason
    case .masterDataMissing: firstReason + 1
    case .futureDated: firstReason + 2
    case .nonDecimalAmount: firstReason + 3
    }
  }

  // MARK: - Waits

  /// The bucket of a wait in milliseconds.
  @inline(__always)
  static func bucket(_ wait_ms: Int64) -> Int {
    let wait = UInt64(bitPattern: max(0, wait_ms))
    guard wait >= 4 else { return Int(wait) }
    let octave = 63 &- wait.leadingZeroBitCount
    let quarter = Int((wait &>> UInt64(octave &- 2)) & 3)
    return min(4 &+ (octave &- 2) &* 4 &+ quarter, waitBuckets &- 1)
  }

  /// The longest wait of a bucket, in milliseconds.
  static func longest(_ bucket: Int) -> Int64 {
    guard bucket >= 4 else { return Int64(bucket) }
    let (octave, quarter) = ((bucket - 4) / 4 + 2, (bucket - 4) % 4)
    return (Int64(5 + quarter) << Int64(octave - 2)) - 1
  }

  public mutating func addWait(_ wait_ms: Int64) { sums[QualityCounts.firstWait + QualityCounts.bucket(wait_ms)] += 1 }

  /// Waits that were counted.
  public var waits: Int64 { sums[QualityCounts.firstWait...].reduce(0, +) }

  /// The wait that `percent` of the records did not exceed, up to a fourth too long; nil without any.
  public func wait_ms(percent: Int64) -> Int64? {
    let all = waits
    guard all > 0 else { return nil }
    // The smallest rank that has as many: rounded up.
    let rank = max(1, (all * percent + 99) / 100)
    var seen: Int64 = 0
    for bucket in 0..<QualityCounts.waitBuckets {
      seen += sums[QualityCounts.firstWait + bucket]
      if seen >= rank { return QualityCounts.longest(bucket) }
    }
    return nil
  }

  // MARK: - Sums

  public static func += (a: inout QualityCounts, b: QualityCounts) {
    for at in a.sums.indices { a.sums[at] += b.sums[at] }
    for amount in b.amounts { a.add(amount) }
  }
  public static func -= (a: inout QualityCounts, b: QualityCounts) {
    for at in a.sums.indices { a.sums[at] -= b.sums[at] }
    for amount in b.amounts {
      a.add(QualityAmount(currency: amount.currency, total: -amount.total, matched: -amount.matched))
    }
  }

  /// Adds the sums of a currency.
  public mutating func add(_ amount: QualityAmount) { amounts.add(amount) }

  // MARK: - Bytes

  /// What is not zero, by place.
  public func write(into writer: inout ByteWriter) {
    sums.withUnsafeBufferPointer { QualityCounts.write($0.baseAddress!, into: &writer) }
    amounts.write(into: &writer)
  }

  static func write(_ sums: UnsafePointer<Int64>, into writer: inout ByteWriter) {
    var count: UInt64 = 0
    for at in 0..<width where sums[at] != 0 { count += 1 }
    writer.writeVarint(count)
    for at in 0..<width where sums[at] != 0 {
      writer.writeVarint(UInt64(at))
      writer.writeSigned(sums[at])
    }
  }

  /// - Parameter hasAmounts: False for bytes of a version that counted records alone.
  public init(from reader: inout ByteReader, hasAmounts: Bool = true) throws(ByteCodingError) {
    self.init()
    for _ in 0..<(try reader.readCount(atMost: QualityCounts.width)) {
      let place = try reader.readVarint()
      guard place < UInt64(QualityCounts.width) else { throw ByteCodingError("a count of quality that is not known") }
      sums[Int(place)] = try reader.readSigned()
    }
    if hasAmounts { amounts = try [QualityAmount](from: &reader) }
  }
}

/// A source and a period of event time.
public struct QualityKey: Hashable, Comparable, Sendable {
  /// Index of the source in the configuration.
  public var source: UInt16
  /// Year × 100 + month; `CellTable.unknownPeriod` where there is none, `CellTable.overflowPeriod` beyond the bound.
  public var period: Int32

  public init(source: UInt16, period: Int32) {
    self.source = source
    self.period = period
  }

  /// What stands for all sources and all periods, in the message of what belongs to no source: it is no month.
  public static let allSources = "(all)"
  public static let allPeriods: Int32 = -1

  public static func < (a: QualityKey, b: QualityKey) -> Bool { (a.source, a.period) < (b.source, b.period) }
}
