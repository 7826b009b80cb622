import Domain

/// What the records of a source and period come to in one currency, in minor units: the debits that a posting makes, or
/// that an order event must make by the posting policy. So both sides are measured alike, and a document counts once.
public struct QualityAmount: Hashable, Sendable, CurrencySums {
  public var currency: Currency
  /// Of all records that count: those dropped as repetitions, replaced, deleted or in conflict are taken back.
  public var total: Int128
  /// Of these, those whose order is known to the other side too.
  public var matched: Int128

  public init(currency: Currency, total: Int128 = 0, matched: Int128 = 0) {
    self.currency = currency
    self.total = total
    self.matched = matched
  }

  var isZero: Bool { total == 0 && matched == 0 }

  mutating func add(_ other: QualityAmount) {
    total += other.total
    matched += other.matched
  }
}

/// Sums of one currency.
protocol CurrencySums {
  var currency: Currency { get }
  var isZero: Bool { get }
  mutating func add(_ other: Self)
}

extension Array where Element: CurrencySums {
  /// Adds the sums of a currency; the list stays in the order of the currencies, without zeros.
  mutating func add(_ amount: Element) {
    let at = firstIndex { $0.currency >= amount.currency } ?? count
    if at < count, self[at].currency == amount.currency {
      self[at].add(amount)
      if self[at].isZero { remove(at: at) }
    } else if !amount.isZero {
      insert(amount, at: at)
    }
  }
}

extension [QualityAmount] {
  func write(into writer: inout ByteWriter) {
    writer.writeVarint(UInt64(count))
    for amount in self {
      writer.write(amount.currency.rawValue)
      writer.write(amount.total)
      writer.write(amount.matched)
    }
  }

  init(from reader: inout ByteReader) throws(ByteCodingError) {
    self.init()
    for _ in 0..<(try reader.readCount(atMost: 1 << 15)) {
      add(
        QualityAmount(
          currency: Currency(rawValue: try reader.read()), total: try reader.read(), matched: try reader.read()))
    }
  }
}

/// How one task stands over all its sources and times: orders whose window and grace have passed, their value, what is
/// in open breaks, and the control totals. Plain sums, so that tasks add up.
public struct QualityControl: Hashable, Sendable {
  /// Sums of one currency, in minor units.
  public struct Line: Hashable, Sendable {
    public var currency: Currency
    /// Value of the closed orders (size of the main role), and of those that tie out.
    public var closed: Int128 = 0
    public var tiedOut: Int128 = 0
    /// Σ |posted − expected| of the open breaks, each in its own role.
    public var open: Int128 = 0
    /// Of these, those of which is known since when they have been open, and Σ |posted − expected| × the second since
    /// which they have been.
    public var aged: Int128 = 0
    public var openedAt_s: Int128 = 0
    /// The control totals by role: Σ expected, Σ posted, and posted − expected of the differences in open breaks, and in
    /// those that stand.
    public var expected = [Int128](repeating: 0, count: AccountRole.count)
    public var posted = [Int128](repeating: 0, count: AccountRole.count)
    public var openDifference = [Int128](repeating: 0, count: AccountRole.count)
    public var acceptedDifference = [Int128](repeating: 0, count: AccountRole.count)

    /// By role: posted − expected that no break explains. What is not due yet is in it.
    public func pending(_ role: Int) -> Int128 {
      posted[role] - expected[role] - openDifference[role] - acceptedDifference[role]
    }

    public init(_ currency: Currency) { self.currency = currency }

    /// Σ over the roles of |posted − expected − explained|.
    public var controlDifference: Int128 {
      posted.indices.reduce(0) { $0 + Int128(pending($1).magnitude) }
    }

    /// Σ |posted − expected| × age / Σ |posted − expected| of the open breaks, in milliseconds; nil without any, and where
    /// the time is not known yet (`Int64.min`).
    public func weightedAge_ms(at time_ms: Int64) -> Int64? {
      guard aged > 0, time_ms > .min else { return nil }
      return max(0, Int64(clamping: Int128(time_ms) - openedAt_s * 1_000 / aged))
    }

    /// Sums by role, in the order in which they are written.
    fileprivate static let sums: [WritableKeyPath<Line, [Int128]> & Sendable] = [
      \.expected, \.posted, \.openDifference, \.acceptedDifference,
    ]

    fileprivate func hasRole(_ role: Int) -> Bool { Line.sums.contains { self[keyPath: $0][role] != 0 } }

    var isZero: Bool {
      closed == 0 && tiedOut == 0 && open == 0 && aged == 0 && openedAt_s == 0
        && !expected.indices.contains(where: hasRole)
    }
  }

  public var closedOrders: Int64 = 0
  public var tiedOutOrders: Int64 = 0
  /// Breaks that are open.
  public var openBreaks: Int64 = 0
  /// By currency, without those that are all zero.
  public private(set) var lines: [Line] = []

  public init() {}

  public var isZero: Bool { closedOrders == 0 && tiedOutOrders == 0 && openBreaks == 0 && lines.isEmpty }

  /// Changes the sums of a currency.
  public mutating func update(_ currency: Currency, _ change: (inout Line) -> Void) {
    let at = lines.firstIndex { $0.currency >= currency } ?? lines.count
    let isKnown = at < lines.count && lines[at].currency == currency
    var line = isKnown ? lines[at] : Line(currency)
    change(&line)
    if isKnown { lines.remove(at: at) }
    if !line.isZero { lines.insert(line, at: at) }
  }

  public static func += (a: inout QualityControl, b: QualityControl) {
    a.closedOrders += b.closedOrders
    a.tiedOutOrders += b.tiedOutOrders
    a.openBreaks += b.openBreaks
    for other in b.lines {
      a.update(other.currency) { line in
        line.closed += other.closed
        line.tiedOut += other.tiedOut
        line.open += other.open
        line.aged += other.aged
        line.openedAt_s += other.openedAt_s
        for sum in Line.sums {
          for role in line.expected.indices { line[keyPath: sum][role] += other[keyPath: sum][role] }
        }
      }
    }
  }

  public func write(into writer: inout ByteWriter) {
    writer.writeSigned(closedOrders)
    writer.writeSigned(tiedOutOrders)
    writer.writeSigned(openBreaks)
    writer.writeVarint(UInt64(lines.count))
    for line in lines {
      writer.write(line.currency.rawValue)
      for sum in [line.closed, line.tiedOut, line.open, line.aged, line.openedAt_s] { writer.write(sum) }
      let roles = line.expected.indices.filter(line.hasRole)
      writer.writeVarint(UInt64(roles.count))
      for role in roles {
        writer.write(UInt8(role))
        for sum in Line.sums { writer.write(line[keyPath: sum][role]) }
      }
    }
  }

  /// - Parameter version: Of `QualityPartial` and of the state of `TaskQuality`, which are the same: 2 had differences
  ///   alone, and no ages, 3 did not count open breaks.
  public init(from reader: inout ByteReader, version: UInt8 = QualityPartial.version) throws(ByteCodingError) {
    let isWhole = version > 2
    closedOrders = try reader.readSigned()
    tiedOutOrders = try reader.readSigned()
    if version > 3 { openBreaks = try reader.readSigned() }
    for _ in 0..<(try reader.readCount(atMost: 1 << 15)) {
      var read = Line(Currency(rawValue: try reader.read()))
      read.closed = try reader.read()
      read.tiedOut = try reader.read()
      read.open = try reader.read()
      if isWhole {
        read.aged = try reader.read()
        read.openedAt_s = try reader.read()
      }
      for _ in 0..<(try reader.readCount(atMost: AccountRole.count)) {
        let role: UInt8 = try reader.read()
        guard Int(role) < AccountRole.count else { throw ByteCodingError("control totals of a role that is not known") }
        if isWhole {
          for sum in Line.sums { read[keyPath: sum][Int(role)] = try reader.read() }
        } else {
          read.posted[Int(role)] = try reader.read()
        }
      }
      update(read.currency) { $0 = read }
    }
  }
}

/// What is in open breaks in one currency: Σ |posted − expected|, of those whose opening is known the same, and the same
/// times the second in which they came to be open.
struct OpenAmount: Hashable, Sendable, CurrencySums {
  var currency: Currency
  var total: Int128 = 0
  var aged: Int128 = 0
  var openedAt_s: Int128 = 0

  var isZero: Bool { total == 0 && aged == 0 && openedAt_s == 0 }

  mutating func add(_ other: OpenAmount) {
    total += other.total
    aged += other.aged
    openedAt_s += other.openedAt_s
  }
}

extension [OpenAmount] {
  func write(into writer: inout ByteWriter) {
    writer.writeVarint(UInt64(count))
    for amount in self {
      writer.write(amount.currency.rawValue)
      for sum in [amount.total, amount.aged, amount.openedAt_s] { writer.write(sum) }
    }
  }

  init(from reader: inout ByteReader) throws(ByteCodingError) {
    self.init()
    for _ in 0..<(try reader.readCount(atMost: 1 << 15)) {
      add(
        OpenAmount(
          currency: Currency(rawValue: try reader.read()), total: try reader.read(), aged: try reader.read(),
          openedAt_s: try reader.read()))
    }
  }
}
