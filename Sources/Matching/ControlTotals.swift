import Aggregates
import Domain

/// Σ expected, Σ posted and the differences by currency and role.
///
/// Expected and posted are summed record by record as they come in, the differences from the breaks as they are found,
/// so that `posted − expected = open + accepted + pending` is a check and no tautology; `pending` is what belongs to
/// ties that are not due yet, and zero once every tie has been judged.
public struct ControlTotals: Sendable {
  public struct Line: Sendable, Equatable {
    public var currency: Currency
    public var role: AccountRole
    public var expected: Int128
    public var posted: Int128
    /// posted − expected of the differences in open breaks, and in those that stand: accepted, explained, force-closed.
    public var open: Int128
    public var accepted: Int128
    /// posted − expected that no break explains: not due yet.
    public var pending: Int128 { posted - expected - open - accepted }
  }

  enum Column: Int { case expected = 0, posted, open, accepted }

  private var currencies: [Currency] = []
  private var sums: [Int128] = []
  private var lastCurrency = Currency.none
  private var lastBase = -1

  public init() {}

  /// Those of a control.
  public init(_ control: QualityControl) {
    for line in control.lines {
      for role in AccountRole.allCases {
        let at = Int(role.rawValue)
        add(line.expected[at], .expected, line.currency, role)
        add(line.posted[at], .posted, line.currency, role)
        add(line.openDifference[at], .open, line.currency, role)
        add(line.acceptedDifference[at], .accepted, line.currency, role)
      }
    }
  }

  mutating func add(_ amount: Int128, _ column: Column, _ currency: Currency, _ role: AccountRole) {
    if lastBase < 0 || currency != lastCurrency {
      lastCurrency = currency
      if let found = currencies.firstIndex(of: currency) {
        lastBase = found * 4 * AccountRole.count
      } else {
        lastBase = sums.count
        currencies.append(currency)
        sums.append(contentsOf: repeatElement(0, count: 4 * AccountRole.count))
      }
    }
    sums[lastBase + column.rawValue * AccountRole.count + Int(role.rawValue)] += amount
  }

  /// The same sums give the same bytes, whichever way they came to be: a currency whose amounts have all gone back to
  /// zero is left out, since a matcher that was restored between them knows of it, and one that was not may not.
  func export(into writer: inout ByteWriter) {
    let size = 4 * AccountRole.count
    let order = currencies.enumerated()
      .filter { sums[$0.offset * size..<($0.offset + 1) * size].contains { $0 != 0 } }
      .sorted { $0.element.rawValue < $1.element.rawValue }
    writer.writeVarint(UInt64(order.count))
    for (at, currency) in order {
      writer.write(currency.rawValue)
      writer.writeVarint(UInt64(AccountRole.count))
      for value in sums[at * size..<(at + 1) * size] { writer.write(value) }
    }
  }

  init(from reader: inout ByteReader) throws(ByteCodingError) {
    for _ in 0..<(try reader.readCount(atMost: 1 << 16)) {
      currencies.append(Currency(rawValue: try reader.read()))
      guard try reader.readVarint() == UInt64(AccountRole.count) else {
        throw ByteCodingError("totals of another number of roles")
      }
      for _ in 0..<4 * AccountRole.count { sums.append(try reader.read()) }
    }
  }

  /// Adds another task's totals.
  public mutating func merge(_ other: ControlTotals) {
    for line in other.lines {
      add(line.expected, .expected, line.currency, line.role)
      add(line.posted, .posted, line.currency, line.role)
      add(line.open, .open, line.currency, line.role)
      add(line.accepted, .accepted, line.currency, line.role)
    }
  }

  /// Every currency and role that ever had an amount, by currency code, then role.
  public var lines: [Line] {
    var lines: [Line] = []
    for (index, currency) in currencies.enumerated() {
      for role in AccountRole.allCases {
        func value(_ column: Column) -> Int128 {
          sums[(index * 4 + column.rawValue) * AccountRole.count + Int(role.rawValue)]
        }
        let line = Line(
          currency: currency, role: role, expected: value(.expected), posted: value(.posted), open: value(.open),
          accepted: value(.accepted))
        if line.expected != 0 || line.posted != 0 || line.open != 0 || line.accepted != 0 { lines.append(line) }
      }
    }
    return lines.sorted { ($0.currency.code, $0.role.rawValue) < ($1.currency.code, $1.role.rawValue) }
  }
}

/// What the records of one currency add to Σ expected and Σ posted until another currency comes: two words a role, in
/// place, without the totals' arrays.
struct RunningTotals: ~Copyable {
  private var currency = Currency.none
  private let sums: UnsafeMutablePointer<Int128>
  private static let count = 2 * AccountRole.count

  init() {
    sums = .allocate(capacity: RunningTotals.count)
    sums.initialize(repeating: 0, count: RunningTotals.count)
  }

  deinit { sums.deallocate() }

  @inline(__always)
  mutating func add(
    _ amount: Int64, _ column: ControlTotals.Column, _ currency: Currency, _ role: UInt8, _ totals: inout ControlTotals
  ) {
    if currency != self.currency {
      add(to: &totals)
      clear()
      self.currency = currency
    }
    sums[column.rawValue &* AccountRole.count &+ Int(role)] &+= Int128(amount)
  }

  @inline(never)
  func add(to totals: inout ControlTotals) {
    for role in AccountRole.allCases {
      for column in [ControlTotals.Column.expected, .posted] {
        let sum = sums[column.rawValue * AccountRole.count + Int(role.rawValue)]
        if sum != 0 { totals.add(sum, column, currency, role) }
      }
    }
  }

  mutating func clear() { sums.update(repeating: 0, count: RunningTotals.count) }
}

/// A sum for each of a few currencies. Adding to the one that was added to last costs a comparison.
public struct CurrencySums: Sendable, Equatable {
  public private(set) var keys: [Currency] = []
  private var sums: [Int128] = []
  /// What has been added since to the sum at `last`, of the currency `lastKey`: in place, without the array.
  private var running: Int128 = 0
  private var last = -1
  private var lastKey = Currency.none

  public init() {}

  /// nil where nothing was ever added.
  public subscript(currency: Currency) -> Int128? {
    keys.firstIndex(of: currency).map { $0 == last ? sums[$0] + running : sums[$0] }
  }

  @inline(__always)
  public mutating func add(_ amount: Int64, _ currency: Currency) { add(Int128(amount), currency) }

  @inline(__always)
  public mutating func add(_ amount: Int128, _ currency: Currency) {
    if currency != lastKey || last < 0 { turn(to: currency) }
    running += amount
  }

  @inline(never)
  private mutating func turn(to currency: Currency) {
    if last >= 0 { sums[last] += running }
    running = 0
    lastKey = currency
    if let found = keys.firstIndex(of: currency) {
      last = found
    } else {
      keys.append(currency)
      sums.append(0)
      last = keys.count - 1
    }
  }

  public mutating func merge(_ other: CurrencySums) {
    for currency in other.keys { add(other[currency]!, currency) }
  }

  public static func == (a: CurrencySums, b: CurrencySums) -> Bool {
    Set(a.keys + b.keys).allSatisfy { a[$0] ?? 0 == b[$0] ?? 0 }
  }
}

/// What one task has done so far. Plain sums, so that tasks add up.
public struct MatchCounters: Sendable, Equatable {
  public var orderEvents = 0
  public var postings = 0
  /// Records that had been taken in before, dropped.
  public var duplicates = 0
  /// Older images of a row that a newer one replaced.
  public var superseded = 0
  /// Records that came after window + grace.
  public var late = 0
  /// Records dated too far in the future.
  public var quarantined = 0
  public var tiesOpened = 0
  /// Ties whose deadline has passed, and of those the ones without an open break.
  public var tiesClosed = 0
  public var tiesTiedOut = 0
  public var tiesForgotten = 0
  public var judgements = 0
  /// Revisions sent, by break type (index in `BreakType.allCases`).
  public var revisions = [Int](repeating: 0, count: BreakType.allCases.count)
  /// Breaks now open, and now accepted (explained and force-closed ones with them), by break type.
  public var open = [Int](repeating: 0, count: BreakType.allCases.count)
  public var accepted = [Int](repeating: 0, count: BreakType.allCases.count)
  /// Value of the closed ties (size of the main role) and of those that tie out, minor units by currency.
  public var closedValue = CurrencySums()
  public var tiedOutValue = CurrencySums()
  /// What people's actions have come to.
  public var actions = ActionCounters()

  public init() {}

  public mutating func add(_ other: MatchCounters) {
    actions.add(other.actions)
    orderEvents += other.orderEvents
    postings += other.postings
    duplicates += other.duplicates
    superseded += other.superseded
    late += other.late
    quarantined += other.quarantined
    tiesOpened += other.tiesOpened
    tiesClosed += other.tiesClosed
    tiesTiedOut += other.tiesTiedOut
    tiesForgotten += other.tiesForgotten
    judgements += other.judgements
    for index in revisions.indices {
      revisions[index] += other.revisions[index]
      open[index] += other.open[index]
      accepted[index] += other.accepted[index]
    }
    closedValue.merge(other.closedValue)
    tiedOutValue.merge(other.tiedOutValue)
  }
}

/// What has become of people's actions on breaks.
public struct ActionCounters: Sendable, Equatable {
  /// Taken in, repetitions included.
  public var taken = 0
  /// Decisions that took effect.
  public var decided = 0
  /// Taken in before.
  public var repeated = 0
  /// About an order that is not known, or not any more.
  public var unknown = 0
  /// Beyond what one order or one break can keep.
  public var refused = 0

  public init() {}

  public mutating func add(_ other: ActionCounters) {
    taken += other.taken
    decided += other.decided
    repeated += other.repeated
    unknown += other.unknown
    refused += other.refused
  }

  /// What stands before them among the sums of a state.
  static let tag: UInt64 = 0x736e_6f69_7463_6149  // "Iactions"

  func export(into writer: inout ByteWriter) {
    for value in [taken, decided, repeated, unknown, refused] { writer.writeVarint(UInt64(value)) }
  }

  init(from reader: inout ByteReader) throws(ByteCodingError) {
    taken = try reader.readCount(atMost: .max)
    decided = try reader.readCount(atMost: .max)
    repeated = try reader.readCount(atMost: .max)
    unknown = try reader.readCount(atMost: .max)
    refused = try reader.readCount(atMost: .max)
  }
}

/// Kinds without values are kept as their places among all of them; asking `allCases` takes as long as all else that is
/// done with one.
extension BreakType {
  /// Index in `allCases`: the place in the counters.
  @inline(__always)
  public var index: Int { Int(unsafeBitCast(self, to: UInt8.self)) }
}

extension BreakState {
  /// The state of a break that a judgement has found, as the reconciler itself sees it.
  /// - Parameter before: nil where it has not been found yet.
  @inline(__always)
  static func found(_ before: BreakState?, isAccepted: Bool) -> BreakState {
    if isAccepted { return .accepted }
    switch before {
    case .autoCleared, .closed, .reopened: return .reopened
    default: return .open
    }
  }

  /// Index in `allCases`.
  @inline(__always)
  var index: Int { Int(unsafeBitCast(self, to: UInt8.self)) }
}

extension Severity {
  /// Index in `allCases`.
  @inline(__always)
  var index: Int { Int(unsafeBitCast(self, to: UInt8.self)) }
}
