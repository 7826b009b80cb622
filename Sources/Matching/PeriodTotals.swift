import Aggregates
import Domain

/// The control totals period by period: Σ expected by the date of the document, Σ posted by the posting date, and the
/// differences of the breaks where they lie.
///
/// For every role, currency and period posted − expected = open + accepted + pending. Pending is what is not due yet and,
/// in a period by itself, what the ledger has in another one than the orders: +x here, −x there, so that over all
/// periods it is the pending of `ControlTotals`. Records of one period mostly follow each other: adding to the sums that
/// were added to last costs a comparison.
public struct PeriodTotals: Sendable {
  public struct Key: Hashable, Comparable, Sendable {
    public var period: Int32
    public var currency: Currency

    public static func < (a: Key, b: Key) -> Bool { (a.period, a.currency) < (b.period, b.currency) }
  }

  /// Pairs of period and currency that are kept apart, 1.2 kB each; what comes later is `CellTable.overflowPeriod`. Two
  /// decades of months in seventeen currencies.
  public static let maximum = 4_096
  private static let width = 4 * AccountRole.count

  private var keys: [Key] = []
  private var places: [Key: Int] = [:]
  private var sums: [Int128] = []
  private var isChanged: [Bool] = []
  private var last = -1
  /// Amounts that were added to `CellTable.overflowPeriod` since the process has them, because of the bound; no part of the
  /// state.
  public private(set) var overflow = 0
  /// What `takeChanged` returned last.
  private var taken: [Int] = []

  public init() {}

  @inline(__always)
  mutating func add(
    _ amount: Int128, _ column: ControlTotals.Column, _ currency: Currency, _ period: Int32, _ role: UInt8
  ) {
    if last < 0 || keys[last].period != period || keys[last].currency != currency {
      last = place(Key(period: period, currency: currency))
    }
    isChanged[last] = true
    sums[last * PeriodTotals.width + column.rawValue * AccountRole.count + Int(role)] += amount
  }

  @inline(never)
  private mutating func place(_ key: Key) -> Int {
    if let known = places[key] { return known }
    if keys.count >= PeriodTotals.maximum, key.period != CellTable.overflowPeriod {
      overflow += 1
      return place(Key(period: CellTable.overflowPeriod, currency: key.currency))
    }
    places[key] = keys.count
    keys.append(key)
    isChanged.append(false)
    sums.append(contentsOf: repeatElement(0, count: PeriodTotals.width))
    return keys.count - 1
  }

  private func sum(_ at: Int, _ column: ControlTotals.Column, _ role: AccountRole) -> Int128 {
    sums[at * PeriodTotals.width + column.rawValue * AccountRole.count + Int(role.rawValue)]
  }

  private func lines(_ at: Int) -> [ControlTotals.Line] {
    AccountRole.allCases.compactMap { role in
      let line = ControlTotals.Line(
        currency: keys[at].currency, role: role, expected: sum(at, .expected, role), posted: sum(at, .posted, role),
        open: sum(at, .open, role), accepted: sum(at, .accepted, role))
      return line.expected == 0 && line.posted == 0 && line.open == 0 && line.accepted == 0 ? nil : line
    }
  }

  /// By period, then currency and role, without those that are all zero.
  public var lines: [(period: Int32, line: ControlTotals.Line)] {
    keys.indices.sorted { keys[$0] < keys[$1] }.flatMap { at in lines(at).map { (keys[at].period, $0) } }
  }

  /// Adds another task's.
  public mutating func merge(_ other: PeriodTotals) {
    for (period, line) in other.lines { add(line, period) }
  }

  private mutating func add(_ line: ControlTotals.Line, _ period: Int32) {
    for (column, amount) in [
      (ControlTotals.Column.expected, line.expected), (.posted, line.posted), (.open, line.open),
      (.accepted, line.accepted),
    ] where amount != 0 { add(amount, column, line.currency, period, line.role.rawValue) }
  }

  // MARK: - Telling

  var hasChanges: Bool { isChanged.contains(true) }

  /// The periods of which something has changed since the last call, whole, in order.
  mutating func takeChanged() -> [(period: Int32, control: QualityControl)] {
    taken = isChanged.indices.filter { isChanged[$0] }
    for at in taken { isChanged[at] = false }
    let changed = Set(taken.map { keys[$0].period })
    return changed.sorted().map { period in
      var control = QualityControl()
      for at in keys.indices where keys[at].period == period {
        for line in lines(at) {
          let role = Int(line.role.rawValue)
          control.update(line.currency) {
            ($0.expected[role], $0.posted[role]) = (line.expected, line.posted)
            ($0.openDifference[role], $0.acceptedDifference[role]) = (line.open, line.accepted)
          }
        }
      }
      return (period, control)
    }
  }

  /// There is nothing that `untakeChanged` could take back.
  mutating func forgetTaken() { taken = [] }

  /// What `takeChanged` returned last was not sent after all.
  mutating func untakeChanged() {
    for at in taken { isChanged[at] = true }
    taken = []
  }

  // MARK: - State

  /// What stands before them among the sums of a state.
  static let tag: UInt64 = 0x7364_6f69_7265_5049  // "IPeriods"

  /// By key, those that are zero too: they hold a place under the bound.
  func export(into writer: inout ByteWriter) {
    writer.writeVarint(UInt64(keys.count))
    for at in keys.indices.sorted(by: { keys[$0] < keys[$1] }) {
      writer.write(keys[at].period)
      writer.write(keys[at].currency.rawValue)
      writer.write(UInt8(isChanged[at] ? 1 : 0))
      let own = sums[at * PeriodTotals.width..<(at + 1) * PeriodTotals.width]
      writer.writeVarint(UInt64(own.count { $0 != 0 }))
      for (place, sum) in own.enumerated() where sum != 0 {
        writer.write(UInt8(place))
        writer.write(sum)
      }
    }
  }

  init(from reader: inout ByteReader) throws(ByteCodingError) {
    for _ in 0..<(try reader.readCount(atMost: 2 * PeriodTotals.maximum + 1 << 15)) {
      let key = Key(period: try reader.read(), currency: Currency(rawValue: try reader.read()))
      guard places[key] == nil else { throw ByteCodingError("control totals of a period come twice") }
      let at = keys.count
      places[key] = at
      keys.append(key)
      isChanged.append(try reader.read(UInt8.self) != 0)
      sums.append(contentsOf: repeatElement(0, count: PeriodTotals.width))
      for _ in 0..<(try reader.readCount(atMost: PeriodTotals.width)) {
        let place = Int(try reader.read(UInt8.self))
        guard place < PeriodTotals.width else { throw ByteCodingError("control totals of a role that is not known") }
        sums[at * PeriodTotals.width + place] = try reader.read()
      }
    }
  }

  /// Those of a state that knew of no periods: all of it is of an unknown one.
  init(before totals: ControlTotals) {
    for line in totals.lines { add(line, CellTable.unknownPeriod) }
  }
}

extension Fact {
  /// The period in which it counts, by the calendar of the aggregates.
  func period(_ periods: borrowing PeriodCalendar) -> Int32 {
    statedPeriod != 0 ? periods.period(entered: statedPeriod) : periods.period(ofDay: rateDay)
  }
}

extension Matcher {
  /// Adds what a fact says to the totals of its period, or takes it back.
  @inline(never)
  mutating func accountByPeriod(_ fact: UnsafePointer<Fact>, sign: Int64) {
    let period: Int32
    if fact.pointee.statedPeriod != 0 {
      period = periods.period(entered: fact.pointee.statedPeriod)
    } else {
      let date_d = fact.pointee.date_d
      period = periods.period(ofDay: date_d == absentDate ? day(ofMilliseconds: fact.pointee.time_ms) : date_d)
    }
    let currency = fact.pointee.currency
    if fact.pointee.isPosting {
      periodTotals.add(Int128(sign) * Int128(fact.pointee.amounts[0]), .posted, currency, period, fact.pointee.code)
      return
    }
    for entry in expectations(of: fact) {
      let amount = Int128(sign) * Int128(entry.sign) * Int128(fact.amount(entry.component))
      if amount != 0 { periodTotals.add(amount, .expected, currency, period, entry.role.rawValue) }
    }
  }

  /// Takes differences that ties keep under a period out of the unknown one, where sums of a state that knew of no periods
  /// have put them: those that were judged while the ties were restored. There they are taken back one day.
  mutating func movePlacedDifferences() {
    for slot in 1..<usedSlots where ties[slot].has(Tie.Flag.live) {
      var ref = ties[slot].breaks
      while ref != 0 {
        let record = store.breakRecord(ref)
        if record.type != BreakRecord.chargeType {
          let column: ControlTotals.Column? =
            record.type == BreakRecord.voidType
            ? .expected
            : record.stateValue.isOpen ? .open : record.stateValue.isSettled ? .accepted : nil
          if let column {
            for part in store.breakParts(ref) where part.period != CellTable.unknownPeriod {
              let amount = Int128(part.delta)
              periodTotals.add(-amount, column, part.currency, CellTable.unknownPeriod, part.role.rawValue)
              periodTotals.add(amount, column, part.currency, part.period, part.role.rawValue)
            }
          }
        }
        ref = record.next
      }
    }
  }

  /// The parts of a finding with the periods in which they lie.
  func located(_ parts: [Finding.Part]) -> [Finding.Part] {
    guard tracksPeriods else { return parts }
    return parts.flatMap { part in
      var located: [Finding.Part] = []
      for (place, delta) in judge.places(of: Int128(part.delta), part.currency, part.role, periods) {
        let period = place?.period ?? CellTable.unknownPeriod
        if let at = located.firstIndex(where: { $0.period == period }) {
          located[at].delta += Int64(clamping: delta)
        } else {
          located.append(
            .init(currency: part.currency, role: part.role, delta: Int64(clamping: delta), period: period))
        }
      }
      return located
    }
  }
}
