import Domain

/// How many days after the due date a customer pays: a bounded, mergeable quantile sketch over whole days.
///
/// Payment behaviour is measured in whole days and lies within months of the due date, so a histogram with fixed
/// buckets says more than a general sketch (t-digest, KLL) in the same space, and unlike those it gives the same answer
/// for any order of arrival and any way of merging: exact to the day from 60 days early to 180 days late, to the week
/// up to three years late, and one bucket for each end. Only the buckets in use are stored; 383 of them, 3 kB, at most.
public struct DaysSketch: Hashable, Sendable {
  struct Bin: Hashable, Sendable {
    var bucket: UInt16
    var count: UInt32
  }

  static let earliestExact: Int32 = -60
  static let latestExact: Int32 = 180
  /// 140 weeks.
  static let weeks: Int32 = 140
  public static let maximumBins = Int(latestExact - earliestExact) + 1 + Int(weeks) + 2

  private(set) var bins: [Bin] = []
  public private(set) var count: Int64 = 0

  public init() {}

  static func bucket(_ days: Int32) -> UInt16 {
    if days < earliestExact { return 0 }
    if days <= latestExact { return UInt16(days - earliestExact + 1) }
    let week = (days - latestExact - 1) / 7
    return UInt16(Int32(latestExact - earliestExact + 2) + min(week, weeks))
  }

  /// The day that stands for a bucket: the day itself, the middle of a week, the near edge of an end.
  static func day(_ bucket: UInt16) -> Int32 {
    let bucket = Int32(bucket)
    if bucket == 0 { return earliestExact - 1 }
    let exact = earliestExact + bucket - 1
    if exact <= latestExact { return exact }
    let week = bucket - (latestExact - earliestExact + 2)
    return latestExact + 1 + week * 7 + (week == weeks ? 0 : 3)
  }

  public mutating func add(days: Int32, count added: UInt32 = 1) {
    add(Bin(bucket: DaysSketch.bucket(days), count: added))
  }

  private mutating func add(_ bin: Bin) {
    guard bin.count > 0 else { return }
    count += Int64(bin.count)
    let at = bins.firstIndex { $0.bucket >= bin.bucket } ?? bins.count
    if at < bins.count, bins[at].bucket == bin.bucket {
      // A count that is full stays full: four billion payments of a customer on one day are enough.
      let (sum, isOver) = bins[at].count.addingReportingOverflow(bin.count)
      bins[at].count = isOver ? .max : sum
    } else {
      bins.insert(bin, at: at)
    }
  }

  public mutating func merge(_ other: DaysSketch) { for bin in other.bins { add(bin) } }

  /// How many lie behind a number of days.
  public func count(after days: Int32) -> Int64 {
    bins.reduce(0) { DaysSketch.day($1.bucket) > days ? $0 + Int64($1.count) : $0 }
  }

  /// The least number of days within which at least `fraction` (0…1) of those behind `after` lie; nil where none do.
  public func quantile(_ fraction: Double, after days: Int32 = .min) -> Int32? {
    let total = count(after: days)
    guard total > 0 else { return nil }
    let wanted = max(1, (Double(total) * min(max(fraction, 0), 1)).rounded(.up))
    var seen: Int64 = 0
    for bin in bins where DaysSketch.day(bin.bucket) > days {
      seen += Int64(bin.count)
      if Double(seen) >= wanted { return DaysSketch.day(bin.bucket) }
    }
    return nil
  }

  /// Calls `body` with each day behind `after` and its count, in order.
  func forEach(after days: Int32, _ body: (_ day: Int32, _ count: Int64) -> Void) {
    for bin in bins {
      let day = DaysSketch.day(bin.bucket)
      if day > days { body(day, Int64(bin.count)) }
    }
  }

  public func write(into writer: inout ByteWriter) {
    writer.writeVarint(UInt64(bins.count))
    for bin in bins {
      writer.writeVarint(UInt64(bin.bucket))
      writer.writeVarint(UInt64(bin.count))
    }
  }

  public init(from reader: inout ByteReader) throws(ByteCodingError) {
    for _ in 0..<(try reader.readCount(atMost: DaysSketch.maximumBins)) {
      let bucket = try reader.readVarint()
      let count = try reader.readVarint()
      guard bucket < UInt64(DaysSketch.maximumBins), count <= UInt64(UInt32.max) else {
        throw ByteCodingError("a sketch with a bucket that is not known")
      }
      add(Bin(bucket: UInt16(bucket), count: UInt32(count)))
    }
  }
}
