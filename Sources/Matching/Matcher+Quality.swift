import Aggregates
import Domain

/// Counts of quality: what came, what found its counterpart and how long that took, what came again.
///
/// A record is matched once its order is known to both sides. When the first record of the second side comes, those that
/// were there, all of the first, are counted with it (`append` reads them anyway); from then on each as it comes. What is dropped as a repetition is taken back. So at
/// any time `matched` is the number of facts of the ties that have both sides, and of those forgotten since.
extension Matcher {
  /// The facts of a body that is too long to be read for each that comes.
  @inline(never)
  mutating func countMeetings(_ facts: FactCursor, at time_ms: Int64) {
    var facts = facts
    while facts.next() {
      quality!.meet(source: facts.source, time_ms: facts.time_ms, at: time_ms)
      countMatched(facts)
    }
  }

  // MARK: - Values

  /// What a fact that is taken in is worth.
  @inline(__always)
  mutating func countValue(_ fact: UnsafePointer<Fact>, isMatched: Bool) {
    let value = debits(fact)
    guard value != 0 else { return }
    quality!.add(
      total: value, matched: isMatched ? value : 0, fact.pointee.currency, source: fact.pointee.source,
      time_ms: fact.pointee.time_ms)
  }

  /// A fact, by its place among those read, comes to count or no longer does.
  @inline(never)
  mutating func recountValue(_ place: Int, _ slot: Int, sign: Int64) {
    let fact = read[place]
    let value = withUnsafePointer(to: fact) { debits($0) } * Int128(sign)
    guard value != 0 else { return }
    let isMatched = ties[slot].has(Tie.Flag.hasOrder | Tie.Flag.hasPosting)
    quality!.add(
      total: value, matched: isMatched ? value : 0, fact.currency, source: fact.source, time_ms: fact.time_ms)
  }

  /// A fact that was there finds its counterpart. One that counts for nothing has no value.
  @inline(__always)
  mutating func countMatched(_ fact: FactCursor) {
    guard fact.flags & (Fact.Flag.rejected | Fact.Flag.delete) == 0 else { return }
    var value: Int128 = 0
    if fact.isPosting {
      value = Int128(max(0, fact.amount))
    } else {
      for entry in expectations.of(fact.code, date_d: fact.date_d, time_ms: fact.time_ms, source: fact.source) {
        value += Int128(max(0, Int64(entry.sign) &* fact.amount(entry.component)))
      }
    }
    guard value != 0 else { return }
    quality!.add(total: 0, matched: value, fact.currency, source: fact.source, time_ms: fact.time_ms)
  }

  /// The debits that a posting makes, or that an order event must make; zero of a delete.
  @inline(__always)
  private func debits(_ fact: UnsafePointer<Fact>) -> Int128 {
    guard fact.pointee.flags & Fact.Flag.delete == 0 else { return 0 }
    if fact.pointee.isPosting { return Int128(max(0, fact.pointee.amounts[0])) }
    var value: Int128 = 0
    for entry in expectations(of: fact) {
      value += Int128(max(0, Int64(entry.sign) &* fact.amount(entry.component)))
    }
    return value
  }

  /// A break comes to be open, or no longer is: the difference in its own role and currency.
  mutating func countOpen(_ record: BreakRecord, _ parts: [Finding.Part], _ slot: Int, sign: Int) {
    let amount = Matcher.openAmount(record, parts)
    let currency = Currency(rawValue: record.currency)
    if quality != nil, amount != 0 {
      quality!.addOpen(Int128(sign) * amount, currency, opened_s: record.opened_s)
    }
    if sourceTotals != nil {
      sourceTotals!.addOpen(amount, currency, opened_s: record.opened_s, sign: sign, slot)
    }
  }

  /// |posted − expected| of a break in its own role and currency.
  static func openAmount(_ record: BreakRecord, _ parts: [Finding.Part]) -> Int128 {
    var difference: Int128 = 0
    for part in parts where part.role.rawValue == record.role && part.currency.rawValue == record.currency {
      difference += Int128(part.delta)
    }
    return Int128(difference.magnitude)
  }

  /// A fact, by its place among those read, is dropped: the same came again, or a newer image of its row.
  @inline(never)
  mutating func countDropped(_ place: Int, _ slot: Int, isRepeat: Bool) {
    let (source, time_ms) = (read[place].source, read[place].time_ms)
    quality!.add(isRepeat ? .duplicates : .superseded, source: source, time_ms: time_ms)
    guard ties[slot].has(Tie.Flag.hasOrder | Tie.Flag.hasPosting) else { return }
    quality!.add(.matched, -1, source: source, time_ms: time_ms)
  }

  // MARK: - Telling

  /// What to tell now of the sources, and of all of them together.
  public mutating func tellQuality(now_ms: Int64, times: [Int64]) -> TaskQuality.Told {
    let isDue = quality!.isDue(now_ms: now_ms)
    periodTotals.forgetTaken()
    var hasMore = tracksPeriods && periodTotals.hasChanges
    if sourceTotals != nil {
      sourceTotals!.forgetTaken()
      if sourceTotals!.hasChanges() { hasMore = true }
    }
    var told = quality!.tell(
      now_ms: now_ms, times: times, control: isDue ? qualityControl : nil, hasMore: isDue && hasMore)
    if isDue, tracksPeriods { told.periods = periodTotals.takeChanged() }
    if isDue, sourceTotals != nil { told.sources = sourceTotals!.takeChanged() }
    return told
  }

  /// What `tellQuality` just returned was not sent after all: it is told again.
  public mutating func untellQuality() {
    quality!.untell()
    periodTotals.untakeChanged()
    if sourceTotals != nil { sourceTotals!.untakeChanged() }
  }

  /// How the orders and control totals stand, over all sources and times; nil where quality is not counted.
  public var qualityControl: QualityControl? {
    guard quality != nil else { return nil }
    var control = QualityControl()
    control.closedOrders = Int64(counters.tiesClosed)
    control.tiedOutOrders = Int64(counters.tiesTiedOut)
    control.openBreaks = Int64(counters.open.reduce(0, +))
    for currency in counters.closedValue.keys {
      control.update(currency) { $0.closed = counters.closedValue[currency]! }
    }
    for currency in counters.tiedOutValue.keys {
      control.update(currency) { $0.tiedOut = counters.tiedOutValue[currency]! }
    }
    for line in totals.lines {
      let role = Int(line.role.rawValue)
      control.update(line.currency) {
        ($0.expected[role], $0.posted[role]) = (line.expected, line.posted)
        ($0.openDifference[role], $0.acceptedDifference[role]) = (line.open, line.accepted)
      }
    }
    quality!.tellOpen(&control)
    return control
  }

  /// What was counted, by source and period.
  public var qualityLines: [(key: QualityKey, counts: QualityCounts)] {
    guard quality != nil else { return [] }
    return quality!.makeLines()
  }

  public var hasQuality: Bool { quality != nil }
}
