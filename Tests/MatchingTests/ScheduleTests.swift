import Aggregates
import Domain
import Testing

@testable import Matching

/// Revenue that is billed in advance and released over the service.
@Suite struct ScheduleTests {
  let r = Records()
  static let dayMs: Int64 = 24 * hour
  /// The wall clock stands still, long after everything.
  static let now_ms = t0 + 100_000 * hour

  static func policy(_ basis: RevenueSchedules.Basis = .period, grace_d: Int32 = 5) -> MatchingPolicy {
    testPolicy {
      var schedules = RevenueSchedules()
      (schedules.basis, schedules.grace_d) = (basis, grace_d)
      var checks = FinanceChecks()
      checks.schedules = schedules
      $0.checks = checks
      $0.entries[Int(OrderEventKind.invoiced.rawValue)] = [
        .init(.receivable, 1, .gross), .init(.deferred, -1, .net), .init(.tax, -1, .tax),
      ]
    }
  }

  static func date(_ month: Int, _ day: Int, year: Int = 2026) -> Int32 {
    Int32(daysFromCivil(year: year, month: month, day: day))
  }
  static func ms(_ month: Int, _ day: Int) -> Int64 { Int64(date(month, day)) * millisecondsPerDay }

  /// Billed on 2026-03-10 for a service of six months, from March to August.
  func billed(
    net: Int64 = 600_00, from: Int32 = date(3, 1), to: Int32 = date(8, 31), order: String = "S1"
  ) -> (event: OrderEvent, lines: [Posting]) {
    var event = r.event(order, document: "\(order)-INV", net: net, gross: net)
    (event.serviceStart_d, event.serviceEnd_d) = (from, to)
    let lines = [(AccountRole.receivable, net), (.deferred, -net)].map {
      r.posting(order, $0.0, $0.1, journal: "\(order)-J0", document: "\(order)-INV")
    }
    return (event, lines)
  }

  func release(_ amount: Int64, on day: Int32, _ journal: String, order: String = "S1") -> [Posting] {
    [(AccountRole.deferred, amount), (.revenue, -amount)].map {
      r.posting(
        order, $0.0, $0.1, journal: "\(order)-\(journal)", at: Int64(day) * millisecondsPerDay + 8 * hour, date: day)
    }
  }

  // MARK: - The schedule

  func parts(
    _ basis: RevenueSchedules.Basis, _ first: Int32, _ last: Int32, _ calendar: FiscalCalendar? = nil
  ) -> [[Int]] {
    var schedules = RevenueSchedules()
    schedules.basis = basis
    var made: [[Int]] = []
    schedules.forEach(from: first, to: last, calendar) { made.append([Int($0), Int($1 - first), $2, $3]) }
    return made
  }

  @Test func periodsOfAService() throws {
    let first = Self.date(1, 15)
    #expect(
      parts(.day, first, Self.date(3, 2))
        == [[202_601, 16, 17, 47], [202_602, 44, 45, 47], [202_603, 75, 47, 47]])
    #expect(
      parts(.period, first, Self.date(3, 2)) == [[202_601, 16, 1, 3], [202_602, 44, 2, 3], [202_603, 75, 3, 3]])
    #expect(parts(.day, first, first) == [[202_601, 16, 1, 1]])
    #expect(parts(.day, first, first - 1).isEmpty)
    // By fiscal period, and by month where the calendar ends.
    let calendar = try FiscalCalendar([
      .init(name: 202_601, first_d: first - 3, last_d: first + 9),
      .init(name: 202_602, first_d: first + 10, last_d: first + 20),
    ])
    #expect(
      parts(.day, first, first + 30, calendar)
        == [[202_601, 9, 10, 31], [202_602, 20, 21, 31], [202_602, 44, 31, 31]])
  }

  /// 100.00 over twelve months: eleven times 8.33, and 8.37 in the last.
  @Test func theLastPeriodTakesTheRemainder() {
    func states(_ remainder: RevenueSchedules.Remainder, _ amounts: [Int64]) -> [String] {
      var policy = Self.policy()
      policy.checks!.schedules!.remainder = remainder
      var matcher = Matcher(policy: policy, dimensionCount: 0)
      var course = Course()
      let last = Self.date(2, 28, year: 2027)
      let (event, lines) = billed(net: 100_00, from: Self.date(3, 1), to: last)
      matcher.take([.order(event)] + lines.map { .posting($0) }, now_ms: Self.now_ms, into: &course.outputs)
      for (at, amount) in amounts.enumerated() {
        let (year, month) = (2026 + (2 + at) / 12, (2 + at) % 12 + 1)
        let end = Self.date(month, daysInMonth(year: year, month: month), year: year)
        matcher.take(
          release(amount, on: end, "R\(at)").map { .posting($0) }, now_ms: Self.now_ms, into: &course.outputs)
        advance(&matcher, to: Int64(end + 20) * millisecondsPerDay, &course)
      }
      for line in matcher.totals.lines { #expect(line.pending == 0, "\(line)") }
      return course.states
    }
    let last = Array(repeating: Int64(8_33), count: 11) + [8_37]
    let spread: [Int64] = [8_33, 8_34, 8_33, 8_33, 8_34, 8_33, 8_33, 8_34, 8_33, 8_33, 8_34, 8_33]
    #expect(last.reduce(0, +) == 100_00 && spread.reduce(0, +) == 100_00)
    #expect(states(.last, last) == [] && states(.spread, spread) == [])
    // What is spread has released a minor unit more by the second month.
    #expect(states(.spread, last).first == "REVENUE_SCHEDULE_GAP:deferred:open")
    #expect(states(.last, Array(repeating: 8_33, count: 12)).last?.hasPrefix("REVENUE_SCHEDULE_GAP:deferred:") == true)
  }

  // MARK: - Through time

  struct Course {
    var outputs = MatchOutputs()
    var states: [String] { outputs.breaks.map { "\($0.type.rawValue):\($0.role.name):\($0.state.rawValue)" } }
  }

  func advance(_ matcher: inout Matcher, to time_ms: Int64, _ course: inout Course) {
    matcher.watermarks.force(time_ms)
    matcher.advance(now_ms: Self.now_ms, outputs: &course.outputs)
  }

  @Test func aServiceThatIsReleasedOnTimeTiesOut() {
    var matcher = Matcher(policy: Self.policy(), dimensionCount: 0)
    var course = Course()
    let (event, lines) = billed()
    matcher.take([.order(event)] + lines.map { .posting($0) }, now_ms: Self.now_ms, into: &course.outputs)
    for month in 3...8 {
      let end = Self.date(month, daysInMonth(year: 2026, month: month))
      // On the last day of each month, on the day after it, or in the month after.
      let day = end + Int32(month % 3)
      advance(&matcher, to: Int64(day) * millisecondsPerDay, &course)
      matcher.take(
        release(100_00, on: day, "R\(month)").map { .posting($0) }, now_ms: Self.now_ms, into: &course.outputs)
      advance(&matcher, to: Int64(day + (month == 8 ? 5 : 20)) * millisecondsPerDay, &course)
      #expect(matcher.tieCount == 1 && matcher.counters.tiesTiedOut == 1)
    }
    #expect(course.outputs.breaks.isEmpty)
    for line in matcher.totals.lines { #expect(line.pending == 0 && line.open == 0, "\(line)") }
    #expect(matcher.totals.lines.first { $0.role == .revenue }?.expected == -600_00)
    // When the last release has been due for as long as agreed ties are remembered, it is forgotten.
    // It is due on 2026-09-06, and kept for seven days.
    advance(&matcher, to: Self.ms(9, 13), &course)
    #expect(matcher.tieCount == 1)
    advance(&matcher, to: Self.ms(9, 13) + 1, &course)
    #expect(matcher.tieCount == 0 && course.outputs.breaks.isEmpty)
  }

  @Test func aMissingReleaseIsABreakAfterItsPeriodWithGrace() {
    var matcher = Matcher(policy: Self.policy(), dimensionCount: 0)
    var course = Course()
    let (event, lines) = billed()
    matcher.take([.order(event)] + lines.map { .posting($0) }, now_ms: Self.now_ms, into: &course.outputs)
    matcher.take(
      release(100_00, on: Self.date(3, 31), "R3").map { .posting($0) }, now_ms: Self.now_ms, into: &course.outputs)
    // April's is due on 2026-05-06, to the millisecond.
    advance(&matcher, to: Self.ms(5, 6), &course)
    #expect(course.states == [])
    advance(&matcher, to: Self.ms(5, 6) + 1, &course)
    #expect(course.states == ["REVENUE_SCHEDULE_GAP:deferred:open"])
    let gap = course.outputs.breaks[0]
    #expect(gap.expected == -400_00 && gap.posted == -500_00)
    #expect(gap.reason == "release of 202604: 100.00 is due, 0.00 is posted")
    for line in matcher.totals.lines { #expect(line.pending == 0, "\(line)") }
    // It comes late, and May's with it.
    matcher.take(
      (release(100_00, on: Self.date(5, 8), "R4") + release(100_00, on: Self.date(5, 31), "R5")).map { .posting($0) },
      now_ms: Self.now_ms, into: &course.outputs)
    advance(&matcher, to: Self.ms(6, 30), &course)
    #expect(course.states.last == "REVENUE_SCHEDULE_GAP:deferred:auto_cleared")
    // June's does not.
    advance(&matcher, to: Self.ms(7, 7), &course)
    #expect(course.states.last == "REVENUE_SCHEDULE_GAP:deferred:reopened")
  }

  @Test func wrongAndEarlyReleases() {
    func states(_ releases: [Posting], at time_ms: Int64, _ policy: MatchingPolicy = ScheduleTests.policy()) -> [String]
    {
      var matcher = Matcher(policy: policy, dimensionCount: 0)
      var course = Course()
      let (event, lines) = billed()
      matcher.take(
        [.order(event)] + (lines + releases).map { .posting($0) }, now_ms: Self.now_ms, into: &course.outputs)
      advance(&matcher, to: time_ms, &course)
      for line in matcher.totals.lines { #expect(line.pending == 0, "\(line)") }
      var last: [String: Break] = [:]
      for made in course.outputs.breaks { last[made.id] = made }
      return last.values.filter(\.state.isOpen).map { "\($0.type.rawValue):\($0.role.name)" }.sorted()
    }
    let march = release(100_00, on: Self.date(3, 31), "R3")
    #expect(states(march, at: Self.ms(4, 20)) == [])
    #expect(states(release(90_00, on: Self.date(3, 31), "R3"), at: Self.ms(4, 20)) == ["REVENUE_SCHEDULE_GAP:deferred"])
    #expect(states(march + march, at: Self.ms(4, 20)) == [])
    // A part of April's is no fault before it is due; what belongs to May is, all at once.
    let april = release(60_00, on: Self.date(4, 15), "R4")
    #expect(states(march + april, at: Self.ms(4, 30)) == [])
    #expect(states(march + april, at: Self.ms(5, 7)) == ["REVENUE_SCHEDULE_GAP:deferred"])
    #expect(
      states(release(300_00, on: Self.date(3, 31), "R3"), at: Self.ms(4, 20)) == ["REVENUE_SCHEDULE_GAP:deferred"])
    // By days March has 31 of 184: 101.09.
    #expect(states(release(101_09, on: Self.date(3, 31), "R3"), at: Self.ms(4, 20), Self.policy(.day)) == [])
    #expect(
      states(march, at: Self.ms(4, 20), Self.policy(.day)) == ["REVENUE_SCHEDULE_GAP:deferred"])
    // Without schedules a release is not expected at all, nor is anything due.
    let plain = Self.policy()
    var without = plain
    without.checks = nil
    #expect(states([], at: Self.ms(9, 20), without) == [])
    #expect(states([], at: Self.ms(9, 20), plain) == ["REVENUE_SCHEDULE_GAP:deferred"])
  }

  /// Another source may hold the watermark back while the ledger goes on: a release has begun by its own date, and those
  /// of several periods are no duplicates.
  @Test(arguments: [false, true]) func aSourceThatLagsMakesNothingTooEarly(_ statesPeriod: Bool) {
    func breaks(_ releases: [Posting], _ months: ClosedRange<Int> = 3...5) -> [String] {
      var matcher = Matcher(policy: Self.policy(), dimensionCount: 0)
      var course = Course()
      let (event, lines) = billed()
      let healthy = months.flatMap { release(100_00, on: Self.date($0, 1), "R\($0)") } + releases
      let postings = healthy.map {
        var posting = $0
        posting.document = r.view("S1-INV")
        guard statesPeriod else { return posting }
        posting.period = calendarPeriod(ofDay: posting.postingDate_d)
        posting.postingDate_d = absentDate
        return posting
      }
      matcher.take(
        [.order(event)] + (lines + postings).map { .posting($0) }, now_ms: Self.now_ms, into: &course.outputs)
      advance(&matcher, to: Self.ms(4, 20), &course)
      for line in matcher.totals.lines { #expect(line.pending == 0, "\(line)") }
      return course.states
    }
    #expect(breaks([]) == [])
    // More than the periods of all postings is too much, be it a copy or the release of another one.
    #expect(breaks(release(100_00, on: Self.date(5, 1), "R6")) == ["DUPLICATE_POSTING:revenue:open"])
    #expect(breaks(release(50_00, on: Self.date(5, 1), "R6")) == ["REVENUE_SCHEDULE_GAP:deferred:open"])
    // Nor does a date behind the end of the service let all of it begin.
    #expect(
      breaks(release(500_00, on: Self.date(12, 1), "R6"), 3...3) == ["REVENUE_SCHEDULE_GAP:deferred:open"])
  }

  /// An invoice that is not posted is missing with what it would have released by now.
  @Test func aMissingInvoiceTakesItsReleasesWithIt() {
    var matcher = Matcher(policy: Self.policy(), dimensionCount: 0)
    var course = Course()
    var shipment = r.event("S1", .shipped, document: "D1")
    shipment.amounts[.cost] = 20_00
    let issue = [(AccountRole.cogs, Int64(20_00)), (.inventory, -20_00)].map {
      r.posting("S1", $0.0, $0.1, journal: "J-D1", document: "D1")
    }
    matcher.take(
      [.order(billed().event), .order(shipment)] + issue.map { .posting($0) }, now_ms: Self.now_ms,
      into: &course.outputs)
    advance(&matcher, to: Self.ms(5, 7), &course)
    #expect(course.states.last == "MISSING_IN_LEDGER:receivable:open")
    #expect(Set(course.outputs.breaks.map(\.id)) == ["S1:MISSING_IN_LEDGER:receivable"])
    #expect(course.outputs.breaks.last?.affected == -600_00)
    for line in matcher.totals.lines { #expect(line.pending == 0, "\(line)") }
  }

  /// An invoice that is reversed and posted anew in a period in which some of it is released: the period is right with that.
  @Test(arguments: [true, false]) func aPeriodIsRightWithItsReleases(isReleased: Bool) {
    var policy = Self.policy()
    policy.checksPostingDates = true
    let (event, lines) = billed()
    func again(_ sign: Int64, _ journal: String, on day: Int32) -> [Posting] {
      lines.map {
        r.posting(
          "S1", $0.role, sign * $0.amount, journal: journal, at: Int64(day) * millisecondsPerDay, document: "S1-INV",
          date: day)
      }
    }
    var postings = lines + release(100_00, on: Self.date(3, 31), "R3")
    postings += again(-1, "J1", on: Self.date(4, 2)) + again(1, "J2", on: Self.date(4, 3))
    if isReleased { postings += release(100_00, on: Self.date(4, 10), "R4") }
    let named = postings.map {
      var posting = $0
      posting.document = r.view("S1-INV")
      return posting
    }
    for postings in [postings, named] {
      var matcher = Matcher(policy: policy, dimensionCount: 0)
      var course = Course()
      matcher.take([.order(event)] + postings.map { .posting($0) }, now_ms: Self.now_ms, into: &course.outputs)
      advance(&matcher, to: Self.ms(4, 20), &course)
      #expect(course.states == [])
    }
  }

  /// An order that is cancelled has no schedule.
  @Test func aCancelledOrderReleasesNothing() {
    var matcher = Matcher(policy: Self.policy(), dimensionCount: 0)
    var course = Course()
    let (event, lines) = billed()
    let reversal = lines.map {
      var posting = $0
      posting.id = r.view("S1-JR-\(posting.role.rawValue)")
      posting.journal = r.view("S1-JR")
      posting.amount = -posting.amount
      posting.reverses = r.view("S1-J0")
      return posting
    }
    matcher.take(
      [.order(event), .order(r.event("S1", .cancelled, at: t0 + hour))] + (lines + reversal).map { .posting($0) },
      now_ms: Self.now_ms, into: &course.outputs)
    advance(&matcher, to: Self.ms(9, 20), &course)
    #expect(!course.outputs.breaks.contains { $0.state.isOpen })
  }

  @Test func aRestoredStateKnowsItsReleases() throws {
    let (event, lines) = billed()
    func taken() -> Matcher {
      var matcher = Matcher(policy: Self.policy(), dimensionCount: 0)
      var course = Course()
      matcher.take([.order(event)] + lines.map { .posting($0) }, now_ms: Self.now_ms, into: &course.outputs)
      matcher.take(
        release(100_00, on: Self.date(3, 31), "R3").map { .posting($0) }, now_ms: Self.now_ms, into: &course.outputs)
      advance(&matcher, to: Self.ms(4, 10), &course)
      return matcher
    }
    let matcher = taken()
    var writer = ByteWriter()
    matcher.exportShard(0, bits: 0, into: &writer)
    let bytes = writer.array
    var restored = Matcher(policy: Self.policy(), dimensionCount: 0)
    try bytes.withUnsafeBytes { raw in
      var reader = ByteReader(raw)
      try restored.importShard(0, bits: 0, from: &reader)
    }
    var course = Course()
    advance(&restored, to: Self.ms(5, 7), &course)
    #expect(course.states == ["REVENUE_SCHEDULE_GAP:deferred:open"])
  }

  /// Against plain arithmetic: which orders are in want at a time, whatever the order of arrival and the steps of time;
  /// and every minor unit of the difference belongs to a break.
  @Test(arguments: 0..<200 as Range<UInt64>) func agreesWithPlainArithmetic(seed: UInt64) {
    var generator = SeededGenerator(state: seed &* 7 &+ 1)
    let until = Self.ms(5, 1) + Int64.random(in: 0...150, using: &generator) * Self.dayMs
    var inputs: [Input] = []
    var wrong: Set<String> = []
    for number in 0..<4 {
      let key = "S\(number)"
      let net = Int64.random(in: 1...99_999, using: &generator)
      let first = Self.date(3, 1) + Int32.random(in: 0...25, using: &generator)
      let last = first + Int32.random(in: 0...170, using: &generator)
      let (event, lines) = billed(net: net, from: first, to: last, order: key)
      inputs.append(.order(event))
      inputs += lines.map { .posting($0) }
      // Months by a walk over days, and cumulative parts by whole numbers.
      var months: [(name: Int32, last: Int32, days: Int)] = []
      for day in first...last {
        let name = calendarPeriod(ofDay: day)
        if months.last?.name != name {
          let (year, month, _) = civilFromDays(Int(day))
          months.append(
            (name, Int32(daysFromCivil(year: year, month: month, day: daysInMonth(year: year, month: month))), 0))
        }
        months[months.count - 1].days += 1
      }
      let total = Int128(last - first) + 1
      var (elapsed, done, due, begun, released) = (Int128(0), Int128(0), Int128(0), Int128(0), Int128(0))
      var begin = first
      for (place, month) in months.enumerated() {
        elapsed += Int128(month.days)
        let cumulative = dividedHalfEven(Int128(net) * elapsed, total)
        let amount = cumulative - done
        done = cumulative
        if max(Int64(month.last + 6) * millisecondsPerDay, t0 + 25 * hour) < until { due += amount }
        if Int64(begin) * millisecondsPerDay < until { begun += amount }
        begin = month.last + 1
        // What has been posted last is judged when window and grace have passed for it, too.
        guard Int64(month.last) * millisecondsPerDay + 34 * hour < until else { continue }
        var posted = amount
        switch Int.random(in: 0..<14, using: &generator) {
        case 0: posted = 0
        case 1: posted += 1_000_000
        default: break
        }
        released += posted
        if posted != 0 {
          inputs += release(Int64(posted), on: month.last, "R\(place)", order: key).map { .posting($0) }
        }
      }
      if released < due || released > begun { wrong.insert(key) }
    }
    for round in 0..<3 {
      var matcher = Matcher(policy: Self.policy(.day), dimensionCount: 0)
      var course = Course()
      var step = t0
      // By time of arrival, but for the first round.
      let ordered = round == 0 ? inputs.shuffled(using: &generator) : inputs.sorted { $0.time_ms < $1.time_ms }
      for input in ordered {
        if round == 1, input.time_ms > step {
          step = input.time_ms
          advance(&matcher, to: step, &course)
        }
        matcher.take([input], now_ms: Self.now_ms, into: &course.outputs)
      }
      advance(&matcher, to: until, &course)
      for line in matcher.totals.lines { #expect(line.pending == 0, "seed \(seed) round \(round): \(line)") }
      var state: [String: Break] = [:]
      for made in course.outputs.breaks { state[made.id] = made }
      let found = Set(state.values.filter { $0.state.isOpen }.map(\.order))
      #expect(found == wrong, "seed \(seed) round \(round)")
    }
  }

  /// 7 over twelve months: each rounded by itself would release 12, and −5 in the last.
  @Test(arguments: [7, -7, 0, 100] as [Int128]) func noReleaseHasTheOtherSign(whole: Int128) {
    var schedules = RevenueSchedules()
    (schedules.basis, schedules.remainder) = (.period, .last)
    var amounts: [Int128] = []
    schedules.forEachRelease(of: whole, from: Self.date(1, 1), to: Self.date(12, 31), nil) { amounts.append($3) }
    #expect(amounts.count == 12 && amounts.reduce(0, +) == whole)
    #expect(amounts.allSatisfy { $0 == 0 || ($0 < 0) == (whole < 0) })
    if whole == 100 { #expect(amounts == Array(repeating: 8, count: 11) + [12]) }
  }

  // MARK: - Aggregates

  func cells(_ inputs: [Input], policy: MatchingPolicy, batches: Int = 1) -> [CellLine] {
    var matcher = Matcher(policy: policy, dimensionCount: 0)
    matcher.aggregates = TaskAggregates(dimensionCount: 0)
    var outputs = MatchOutputs()
    for batch in 0..<batches {
      let own = inputs.indices.filter { $0 * batches / max(1, inputs.count) == batch }.map { inputs[$0] }
      matcher.take(own, into: &outputs)
    }
    matcher.finish(outputs: &outputs)
    var table = CellTable(dimensionCount: 0)
    matcher.mergeAggregates(into: &table)
    return table.lines
  }

  func due(_ lines: [CellLine], isBase: Bool = false) -> [Int32: Int128] {
    var due: [Int32: Int128] = [:]
    for line in lines where line.key.isBase == isBase && line.values.value(.releasesDue) != 0 {
      due[line.key.period, default: 0] += line.values.value(.releasesDue)
    }
    return due
  }

  /// What the schedules release stands in the cells of its periods, whether it has been posted or not.
  @Test func releasesAreAddedUpByPeriod() throws {
    let year = billed(net: 1_200_00, from: Self.date(1, 1), to: Self.date(12, 31))
    let posted = (1...6).flatMap { release(100_00, on: Self.date($0, 28), "R\($0)") }
    let inputs: [Input] = [.order(year.event)] + (year.lines + posted).map { .posting($0) }
    let lines = cells(inputs, policy: Self.policy())
    #expect(due(lines) == Dictionary(uniqueKeysWithValues: (1...12).map { (Int32(202_600 + $0), 100_00) }))
    // Events are counted once, in the period of the document.
    #expect(lines.reduce(0) { $0 + $1.values[.events] } == 1 && lines.allSatisfy { $0.values[.unvalued] == 0 })
    // By days, with the minor units that they leave; and in the base currency the parts of the converted whole.
    var odd = billed(net: 100_01, from: Self.date(1, 20), to: Self.date(3, 10))
    odd.event.documentDate_d = Self.date(3, 10)
    var policy = Self.policy(.day)
    policy.checks?.exchange = ExchangeTests.policy().checks?.exchange
    let both = cells([.order(odd.event)], policy: policy)
    #expect(due(both) == [202_601: 24_00, 202_602: 56_01, 202_603: 20_00])
    #expect(due(both, isBase: true).values.reduce(0, +) == 92_51)
    // A cancelled invoice takes back those of its invoice, with or without entries of its own.
    var cancel = r.event("S1", .invoiceCancelled, document: "S1-INV", net: 1_200_00, gross: 1_200_00)
    (cancel.serviceStart_d, cancel.serviceEnd_d) = (Self.date(1, 1), Self.date(12, 31))
    // What was released in months that were over is taken back in that of the cancellation.
    #expect(
      due(cells(inputs + [.order(cancel)], policy: Self.policy()))
        == [202_601: 100_00, 202_602: 100_00, 202_603: -200_00])
    // Behind the end of a fiscal calendar there is no period: a month's name would be that of another one.
    var fiscal = Self.policy()
    fiscal.checks?.calendar = try FiscalCalendar(
      (1...3).map {
        .init(name: 202_603 + Int32($0), first_d: Self.date($0, 1), last_d: Self.date($0 + 1, 1) - 1)
      })
    let half = billed(net: 600_00, from: Self.date(1, 1), to: Self.date(6, 30))
    #expect(
      due(cells([.order(half.event)], policy: fiscal))
        == [202_604: 100_00, 202_605: 100_00, 202_606: 100_00, CellTable.unknownPeriod: 300_00])
    // Without schedules there are none.
    policy.checks?.schedules = nil
    #expect(due(cells(inputs, policy: policy)) == [:])
  }

  /// A cancelled invoice takes back what it has added: by the policy on its own day, in whatever order the records come, and
  /// also where that policy changes later.
  @Test(arguments: 0..<40 as Range<UInt64>) func aCancelledInvoiceGoesByItsOwnDay(_ seed: UInt64) {
    var generator = SeededGenerator(state: seed)
    func policy(_ from_d: Int32?) -> MatchingPolicy {
      var policy = Self.policy()
      policy.postingPolicies = PostingPolicies(
        base: MatchingPolicy.standardEntries, changes: PolicyTests.deferring(from: from_d))
      return policy
    }
    // At once in January, deferred from February on.
    let final = policy(Self.date(2, 1))
    func invoice(_ document: String, _ day: Int32, _ kind: OrderEventKind = .invoiced) -> Input {
      var event = r.event("S1", kind, document: document, net: 300_00, gross: 300_00)
      event.documentDate_d = day
      (event.serviceStart_d, event.serviceEnd_d) = (Self.date(2, 1), Self.date(4, 30))
      return .order(event)
    }
    let months: [Int32: Int128] = [202_602: 100_00, 202_603: 100_00, 202_604: 100_00]
    let first = [invoice("D1", Self.date(1, 15)), invoice("D1", Self.date(2, 15), .invoiceCancelled)]
    let second = [invoice("D2", Self.date(2, 3)), invoice("D2", Self.date(2, 15), .invoiceCancelled)]
    for (inputs, wanted) in [
      (first, [:]), (second, [:]), (first + second, [:]), ([second[0]], months), ([first[0]], [:]),
      ([first[1]], months.mapValues { -$0 }), (first + [second[0]], months),
    ] {
      var all = inputs
      for _ in 0..<Int.random(in: 0...3, using: &generator) { all.append(inputs.randomElement(using: &generator)!) }
      all.shuffle(using: &generator)
      var matcher = Matcher(
        policy: seed % 3 == 0 ? final : policy(seed % 3 == 1 ? nil : Self.date(1, 10)), dimensionCount: 0)
      matcher.aggregates = TaskAggregates(dimensionCount: 0)
      var outputs = MatchOutputs()
      for (at, input) in all.enumerated() {
        if at == all.count / 2 { matcher.use(final, periods: .months) }
        matcher.take([input], into: &outputs)
        if Bool.random(using: &generator) { matcher.revise(atMost: 1 << 11) }
      }
      matcher.finish(outputs: &outputs)
      var table = CellTable(dimensionCount: 0)
      matcher.mergeAggregates(into: &table)
      #expect(due(table.lines) == wanted, "seed \(seed), \(inputs.count)")
    }
  }

  /// Releases in the cells are those of the schedules of what counts, however the records come and however often.
  @Test(arguments: 0..<60 as Range<UInt64>) func releasesDoNotDependOnArrival(_ seed: UInt64) {
    var generator = SeededGenerator(state: seed)
    let basis = RevenueSchedules.Basis.allCases.randomElement(using: &generator)!
    var policy = Self.policy(basis)
    policy.checks?.schedules?.remainder = seed % 2 == 0 ? .last : .spread
    if seed % 3 == 0 { policy.checks?.exchange = ExchangeTests.policy().checks?.exchange }
    var inputs: [Input] = []
    var naive: [Int32: Int128] = [:]
    var whole: Int128 = 0
    for order in 0..<6 {
      let from = Self.date(Int.random(in: 1...12, using: &generator), Int.random(in: 1...28, using: &generator))
      let to = from + Int32.random(in: 0...500, using: &generator)
      let net = Int64.random(in: 1...99_999, using: &generator)
      let made = billed(net: net, from: from, to: to, order: "O\(order)")
      inputs += [.order(made.event)] + made.lines.map { .posting($0) }
      whole += Int128(net)
      // A period has what is released by its end less what was before.
      var before: Int128 = 0
      policy.checks!.schedules!.forEach(from: from, to: to, nil) { period, _, done, all in
        guard policy.checks!.schedules!.remainder == .spread else { return }
        let until = dividedHalfEven(Int128(net) * Int128(done), Int128(all))
        naive[period, default: 0] += until - before
        before = until
      }
    }
    inputs += [inputs[0], inputs[3], inputs.randomElement(using: &generator)!]
    let reference = cells(inputs, policy: policy)
    let told = due(reference)
    #expect(told.values.reduce(0, +) == whole)
    if policy.checks!.schedules!.remainder == .spread { #expect(told == naive.filter { $0.value != 0 }) }
    for batches in 1...4 {
      #expect(cells(inputs.shuffled(using: &generator), policy: policy, batches: batches) == reference, "seed \(seed)")
    }
  }
}
