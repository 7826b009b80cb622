import Aggregates
import Domain

/// How revenue that was billed in advance is released: straight over the service period that the billing event tells.
public struct RevenueSchedules: Sendable, Equatable {
  public enum Basis: String, Sendable, CaseIterable {
    /// By the days of the service that lie in each accounting period.
    case day
    /// The same for every accounting period that the service touches.
    case period
  }

  /// Where the minor units go by which equal parts do not add up to the whole.
  public enum Remainder: String, Sendable, CaseIterable {
    /// To the parts as they come: what has been released up to the end of each period is rounded.
    case spread
    /// To the last period: every part before it is rounded by itself, as long as that is not more than the whole.
    case last
  }

  public var basis = Basis.day
  public var remainder = Remainder.spread
  /// Days after the end of a period in which its release may still be posted.
  public var grace_d: Int32 = 5

  public init() {}

  /// Calls `body` for each accounting period of a service: its name, its last day, and what part of the whole is released
  /// by its end.
  func forEach(
    from first: Int32, to last: Int32, _ calendar: FiscalCalendar?,
    _ body: (_ period: Int32, _ last_d: Int32, _ done: Int, _ of: Int) -> Void
  ) {
    guard first <= last, Int(last) - Int(first) < maximumServiceDays else { return }
    var count = 0
    if basis == .period {
      var day = first
      while day <= last {
        count += 1
        day = accountingPeriod(ofDay: day, calendar).last_d + 1
      }
    }
    var (day, done) = (first, 0)
    while day <= last {
      let (period, end) = accountingPeriod(ofDay: day, calendar)
      if basis == .period {
        done += 1
      } else {
        done = Int(min(end, last)) - Int(first) + 1
      }
      body(period, end, done, basis == .period ? count : Int(last) - Int(first) + 1)
      day = end + 1
    }
  }

  /// Calls `body` for each release of an amount over a service: its accounting period, the first and the last day of it,
  /// and what is released in it. The releases add up to the whole.
  /// - Parameter isRemainderWhole: As an earlier version did: more than the whole may be released before the last period.
  func forEachRelease(
    of whole: Int128, from first: Int32, to last: Int32, _ calendar: FiscalCalendar?, isRemainderWhole: Bool = false,
    _ body: (_ period: Int32, _ first_d: Int32, _ last_d: Int32, _ amount: Int128) -> Void
  ) {
    var before: Int128 = 0
    var doneBefore = 0
    var from = first
    forEach(from: first, to: last, calendar) { period, last, done, all in
      var until = dividedHalfEven(whole * Int128(done), Int128(all))
      if remainder == .last, done < all {
        until = before + dividedHalfEven(whole * Int128(done - doneBefore), Int128(all))
        // Of a few minor units over many periods: none is released with the other sign for it.
        if !isRemainderWhole { until = whole < 0 ? max(whole, until) : min(whole, until) }
      }
      body(period, from, last, until - before)
      before = until
      doneBefore = done
      from = last + 1
    }
  }

  /// When a release is called missing: behind the end of its period with grace, and behind the deadline of the event.
  func due_ms(lastDay: Int32, event_ms: Int64, horizon_ms: Int64) -> Int64 {
    max(
      (Int64(lastDay) + 1 + Int64(grace_d)) * millisecondsPerDay, event_ms.addingSaturating(horizon_ms))
  }
}

/// A release of one billing event.
struct ScheduledRelease {
  var period: Int32
  var last_d: Int32
  /// Of the period: before it nothing is released.
  var begin_ms: Int64
  var due_ms: Int64
  var amount: Int128
}

extension Judge {
  /// Adds what the schedules have released by now to what is expected.
  ///
  /// A release may be posted from the beginning of its period on and must be there after its end and grace. In between
  /// the ledger's own figure is what is expected. A period has begun by the clock, or where a release is posted into it or
  /// into a later one of the service: one source may hold the clock back while the ledger goes on.
  mutating func addReleases(_ schedules: RevenueSchedules) {
    releases.removeAll(keepingCapacity: true)
    if let periods {
      for place in dueEvents.indices where isVoid[place] {
        for (period, amount) in releasesBeforeCancellation(place, periods) {
          schedule(amount, in: period, dueEvents[place].currency)
        }
        if isCancelledAhead(place) { hasPendingRelease = true }
      }
    }
    for currency in currencies.indices {
      var steps: [ScheduledRelease] = []
      for (place, event) in dueEvents.enumerated() where event.currency == currencies[currency] && !isVoid[place] {
        appendReleases(of: event, schedules, to: &steps)
      }
      guard !steps.isEmpty else { continue }
      steps.sort { ($0.last_d, $0.amount) < ($1.last_d, $1.amount) }
      releases.append((currency, steps))
      let (deferred, revenue) = (index(currency, .deferred), index(currency, .revenue))
      let released = posted[deferred] - expected[deferred]
      var due: Int128 = 0
      for step in steps where step.due_ms < clock_ms { due += step.amount }
      var begun = due
      let reached = lastReleasedPeriod(currency, steps)
      for step in steps where step.due_ms >= clock_ms {
        hasPendingRelease = true
        if hasBegun(step, reached) { begun += step.amount }
      }
      let own = releasedByNow(currency, released, due: due, begun: begun)
      guard own != 0 else { continue }
      expected[deferred] += own
      expected[revenue] -= own
      hasExpectation = true
      for (period, amount) in byPeriod(own, steps, reached) { schedule(amount, in: period, currencies[currency]) }
    }
  }

  private mutating func schedule(_ amount: Int128, in period: Int32, _ currency: Currency) {
    scheduled.append(
      .init(currency: currency, role: .deferred, delta: Int64(clamping: amount), period: period))
    scheduled.append(
      .init(currency: currency, role: .revenue, delta: Int64(clamping: -amount), period: period))
  }

  /// What an event that is void released in the periods that were over when it was cancelled, and what the cancellation
  /// takes back of it in its own: together they are nothing. Where a cancellation is dated ahead, the service goes on until
  /// then: of periods that have not begun nothing is released yet.
  func releasesBeforeCancellation(
    _ place: Int, _ periods: borrowing PeriodCalendar
  ) -> [(period: Int32, amount: Int128)] {
    guard let schedules, dueEvents[place].service != nil else { return [] }
    var steps: [ScheduledRelease] = []
    appendReleases(of: dueEvents[place], schedules, to: &steps)
    var amounts: [(period: Int32, amount: Int128)] = []
    for step in steps where step.last_d < cancelDay(place) && step.begin_ms < clock_ms {
      amounts.append((periods.period(ofDay: day(ofMilliseconds: step.begin_ms)), step.amount))
    }
    let released = amounts.reduce(0) { $0 + $1.amount }
    if released != 0 { amounts.append((periods.period(ofDay: cancelDay(place)), -released)) }
    return amounts
  }

  /// Whether an event that is void goes on releasing until its cancellation, which is dated ahead.
  private func isCancelledAhead(_ place: Int) -> Bool {
    guard let schedules, dueEvents[place].service != nil, Int64(cancelDay(place)) * millisecondsPerDay > clock_ms else {
      return false
    }
    var steps: [ScheduledRelease] = []
    appendReleases(of: dueEvents[place], schedules, to: &steps)
    return steps.contains { $0.last_d < cancelDay(place) && $0.begin_ms >= clock_ms }
  }

  /// What of it is taken for right: the ledger's own figure between what is due and what has begun, the nearer of the two
  /// beyond. Where the billing itself is not posted as it should be, that figure says nothing: then what is due.
  private func releasedByNow(_ currency: Int, _ released: Int128, due: Int128, begun: Int128) -> Int128 {
    let billed = expected[index(currency, .deferred)]
    var (posted, isPosted) = (Int128(0), false)
    for posting in duePostings where posting.currency == currencies[currency] && posting.role == .deferred {
      isPosted = true
      if !posting.isReversal, (posting.amount < 0) == (billed < 0) { posted += Int128(posting.amount) }
    }
    guard isPosted else { return due }
    let (least, most) = (min(due, begun), max(due, begun))
    if least <= released, released <= most { return released }
    return posted == billed ? max(least, min(most, released)) : due
  }

  /// What is expected to be released, by period where control totals are kept by period: what is due in its own, what the
  /// ledger has released beyond it in the first that has begun.
  private func byPeriod(
    _ own: Int128, _ steps: [ScheduledRelease], _ reached: Int32
  ) -> [(period: Int32, amount: Int128)] {
    guard let periods else { return [(0, own)] }
    var amounts: [(period: Int32, amount: Int128)] = []
    var rest = own
    var begun: Int32?
    for step in steps {
      // As in the aggregates: behind the end of the calendar periods have no names.
      let period = periods.period(ofDay: day(ofMilliseconds: step.begin_ms))
      if step.due_ms < clock_ms {
        amounts.append((period, step.amount))
        rest -= step.amount
      } else if begun == nil, hasBegun(step, reached) {
        begun = period
      }
    }
    if rest != 0 { amounts.append((begun ?? amounts.last?.period ?? CellTable.unknownPeriod, rest)) }
    return amounts
  }

  private func hasBegun(_ step: ScheduledRelease, _ reached: Int32) -> Bool {
    step.begin_ms < clock_ms || step.period <= reached
  }

  /// The last period of the schedules into which a release is posted; 0 where there is none.
  private func lastReleasedPeriod(_ currency: Int, _ steps: [ScheduledRelease]) -> Int32 {
    let whole = steps.reduce(Int128(0)) { $0 + $1.amount }
    var last: Int32 = 0
    for posting in duePostings
    where posting.currency == currencies[currency] && posting.role == .deferred && (posting.amount < 0) == (whole < 0) {
      let period = releasedPeriod(posting)
      if period > last, steps.contains(where: { $0.period == period }) { last = period }
    }
    return last
  }

  /// The period that a posting names, else that of its date or time.
  func releasedPeriod(_ posting: Fact) -> Int32 {
    let calendar = policy.checks?.calendar
    let period = posting.period(calendar)
    return period != 0 ? period : accountingPeriod(ofDay: day(ofMilliseconds: posting.time_ms), calendar).name
  }

  /// What the schedule of an event, by place, releases in an accounting period: until its cancellation, which takes it back.
  func released(_ place: Int, in period: Int32) -> Int128 {
    guard let schedules, dueEvents[place].service != nil else { return 0 }
    var steps: [ScheduledRelease] = []
    appendReleases(of: dueEvents[place], schedules, to: &steps)
    guard isVoid[place] else { return steps.reduce(0) { $1.period == period ? $0 + $1.amount : $0 } }
    let day = cancelDay(place)
    let own = accountingPeriod(ofDay: day, policy.checks?.calendar).name
    return steps.reduce(0) { sum, step in
      guard step.last_d < day else { return sum }
      return sum + (step.period == period ? step.amount : 0) - (own == period ? step.amount : 0)
    }
  }

  /// What the schedules of an event have released that is due by now.
  func dueReleases(of event: Fact) -> Int128 {
    guard let schedules, event.service != nil else { return 0 }
    var steps: [ScheduledRelease] = []
    appendReleases(of: event, schedules, to: &steps)
    return steps.reduce(0) { $1.due_ms < clock_ms ? $0 + $1.amount : $0 }
  }

  private func index(_ currency: Int, _ role: AccountRole) -> Int { currency * roleCount + Int(role.rawValue) }

  private func appendReleases(
    of event: Fact, _ schedules: RevenueSchedules, to steps: inout [ScheduledRelease]
  ) {
    guard let service = event.service else { return }
    var whole: Int128 = 0
    for entry in policy.entries(of: event) where entry.role == .deferred {
      whole -= Int128(event.amount(entry.component)) * Int128(entry.sign)
    }
    guard whole != 0 else { return }
    let horizon_ms = policy.window_ms.addingSaturating(policy.grace_ms)
    schedules.forEachRelease(of: whole, from: service.first_d, to: service.last_d, policy.checks?.calendar) {
      period, first, last, amount in
      steps.append(
        ScheduledRelease(
          period: period, last_d: last, begin_ms: Int64(first) * millisecondsPerDay,
          due_ms: schedules.due_ms(lastDay: last, event_ms: event.time_ms, horizon_ms: horizon_ms), amount: amount))
    }
  }

  /// What of the deferred revenue is not released as scheduled, with its counter-entry in the revenue.
  mutating func judgeReleases(_ currency: Int) {
    guard let steps = releases.first(where: { $0.currency == currency })?.steps else { return }
    let (deferred, revenue) = (index(currency, .deferred), index(currency, .revenue))
    let open = residual[deferred]
    guard open != 0, !isAccepted(deferred), !isRounding(deferred) else { return }
    // Only what moves between the two is a release.
    guard residual[revenue] != 0, (residual[revenue] < 0) != (open < 0),
      magnitude(residual[revenue]) >= magnitude(open)
    else { return }
    var finding = Finding(
      .revenueScheduleGap, .deferred, currencies[currency], expected: value(expected, currency, .deferred),
      posted: value(posted, currency, .deferred), reason: reason(steps, currency))
    finding.parts = [
      .init(currency: currencies[currency], role: .deferred, delta: Int64(clamping: open)),
      .init(currency: currencies[currency], role: .revenue, delta: Int64(clamping: -open)),
    ]
    residual[deferred] = 0
    residual[revenue] += open
    append(finding)
  }

  /// The periods whose releases are not what is scheduled, by the periods of the postings, and what these come to.
  private func reason(_ steps: [ScheduledRelease], _ currency: Int) -> TextBytes {
    let calendar = policy.checks?.calendar
    var posted: [Int32: Int128] = [:]
    for posting in duePostings
    where posting.currency == currencies[currency] && posting.role == .deferred && posting.amount > 0 {
      posted[posting.period(calendar), default: 0] += Int128(posting.amount)
    }
    var wanted: [Int32: Int128] = [:]
    // Of a period that is not due yet all may be there, or nothing.
    var allowed: [Int32: Int128] = [:]
    for step in steps {
      allowed[step.period, default: 0] += step.amount
      if step.due_ms < clock_ms { wanted[step.period, default: 0] += step.amount }
    }
    let gaps = Set(wanted.keys).union(posted.keys).sorted().filter {
      let own = posted[$0] ?? 0
      return own != wanted[$0] ?? 0 && own != allowed[$0] ?? 0
    }
    guard !gaps.isEmpty else { return "the releases are not those of the schedule" }
    func sum(_ amounts: [Int32: Int128]) -> String {
      formatDecimal(gaps.reduce(0) { $0 + (amounts[$1] ?? 0) }, decimals: currencies[currency].exponent)
    }
    // A dozen months say enough.
    let more = gaps.count > 12 ? " and \(gaps.count - 12) more" : ""
    let names = gaps.prefix(12).map { "\($0)" }.joined(separator: ", ") + more
    return "release of \(names): \(sum(wanted)) is due, \(sum(posted)) is posted"
  }

  /// Whether lines move something from deferred to recognised revenue, and nothing else.
  func isRelease(_ lines: [Int128]) -> Bool {
    lines.indices.allSatisfy { index in
      let currency = index / roleCount * roleCount
      let moved = lines[currency + Int(AccountRole.deferred.rawValue)]
      switch AccountRole(rawValue: UInt8(index % roleCount))! {
      case .deferred: return moved >= 0
      case .revenue: return lines[index] == -moved
      default: return lines[index] == 0
      }
    } && lines.contains { $0 != 0 }
  }

  /// Whether a posting releases deferred revenue of a schedule: its date is that of the release, not of the billing.
  func isRelease(_ posting: Fact) -> Bool {
    guard posting.role == .deferred, posting.amount > 0 else { return false }
    return releases.contains { currencies[$0.currency] == posting.currency }
  }
}

extension Matcher {
  /// When the schedules of a tie's events next have a release due, and the last of all.
  func releaseTimes_ms(_ slot: Int, _ clock_ms: Int64) -> (next: Int64, last: Int64) {
    var times = (next: Int64.max, last: Int64.min)
    guard let schedules = policy.checks?.schedules else { return times }
    var facts = facts(slot)
    while facts.next() {
      guard let service = facts.service, facts.flags & (Fact.Flag.delete | Fact.Flag.rejected) == 0 else { continue }
      let event_ms = facts.time_ms
      schedules.forEach(from: service.first_d, to: service.last_d, policy.checks?.calendar) { _, last, _, _ in
        let due_ms = schedules.due_ms(lastDay: last, event_ms: event_ms, horizon_ms: horizon_ms)
        if due_ms >= clock_ms { times.next = min(times.next, due_ms) }
        times.last = max(times.last, due_ms)
      }
    }
    return times
  }
}
