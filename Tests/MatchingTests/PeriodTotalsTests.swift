import Aggregates
import Domain
import Simulation
import Testing

@testable import Matching

/// Control totals period by period.
@Suite struct PeriodTotalsTests {
  let r = Records()
  let now = t0 + 10_000 * hour
  static let april = t0 + 30 * 24 * hour

  static func matcher(_ policy: MatchingPolicy) -> Matcher {
    var matcher = Matcher(policy: policy, dimensionCount: 0)
    matcher.tracksPeriods = true
    matcher.aggregates = TaskAggregates(dimensionCount: 0)
    matcher.quality = TaskQuality(sourceCount: 2)
    matcher.tellSources(2)
    return matcher
  }

  /// "period role: expected posted open accepted pending"
  func texts(_ totals: PeriodTotals) -> [String] {
    totals.lines.map { period, line in
      "\(period) \(line.role.name): \(line.expected) \(line.posted) \(line.open) \(line.accepted) \(line.pending)"
    }
  }

  func totals(_ inputs: [Input], _ policy: MatchingPolicy = DisputeTests.policy()) -> [String] {
    var matcher = PeriodTotalsTests.matcher(policy)
    var outputs = MatchOutputs()
    matcher.take(inputs, now_ms: now, into: &outputs)
    matcher.finish(outputs: &outputs)
    return texts(matcher.periodTotals)
  }

  /// Nonsense in `period` fills the places; what comes then is counted.
  @Test func whatFindsNoPeriodIsCounted() throws {
    var totals = PeriodTotals()
    func add(_ period: Int32) { totals.add(5, .posted, Currency("EUR")!, period, AccountRole.revenue.rawValue) }
    for period in 1...Int32(PeriodTotals.maximum) { add(period) }
    #expect(totals.overflow == 0)
    for _ in 0..<2 { add(202_601) }
    add(1)
    #expect(totals.overflow == 2 && texts(totals).last == "\(CellTable.overflowPeriod) revenue: 0 10 0 0 10")
  }

  @Test func aDifferenceIsInItsPeriod() {
    let sales = [
      Input.order(r.event("O1", document: "D1", net: 100, gross: 100)),
      .order(r.event("O1", at: Self.april, document: "D2", net: 50, gross: 50)),
    ]
    let posted = r.invoice("O1", net: 100, document: "D1").map { Input.posting($0) }
    #expect(
      totals(sales + posted) == [
        "202603 receivable: 100 100 0 0 0", "202603 revenue: -100 -100 0 0 0", "202604 receivable: 50 0 -50 0 0",
        "202604 revenue: -50 0 50 0 0",
      ])
    // Within tolerance.
    var tolerant = DisputeTests.policy()
    tolerant.tolerances = Array(repeating: Tolerance(absolute_u: 1_000_000), count: AccountRole.count)
    #expect(totals(sales + posted, tolerant).contains("202604 revenue: -50 0 0 50 0"))
  }

  /// The right amount in another period: +x here, −x there, and nothing over both.
  @Test func aCutoffMovesBetweenPeriods() {
    let sale = Input.order(r.event("O1", document: "D1", net: 100, gross: 100))
    let posted = r.invoice("O1", net: 100, document: "D1", date: day(ofMilliseconds: Self.april))
    #expect(
      totals([sale] + posted.map { .posting($0) }) == [
        "202603 receivable: 100 0 0 0 -100", "202603 revenue: -100 0 0 0 100", "202604 receivable: 0 100 0 0 100",
        "202604 revenue: 0 -100 0 0 -100",
      ])
  }

  /// Two invoices that were not posted: each is missing in its own period, and the one that was agrees.
  @Test func aDifferenceOfSeveralPeriodsIsInEach() {
    let sales = [(t0, "D1", Int64(100)), (Self.april, "D2", 200), (DisputeTests.may, "D3", 300)].map {
      Input.order(r.event("O1", at: $0.0, document: $0.1, net: $0.2, gross: $0.2))
    }
    let posted = r.invoice("O1", net: 100, document: "D1").map { Input.posting($0) }
    #expect(
      totals(sales + posted).filter { $0.contains("revenue") } == [
        "202603 revenue: -100 -100 0 0 0", "202604 revenue: -200 0 200 0 0", "202605 revenue: -300 0 300 0 0",
      ])
  }

  /// Releases that were not posted are missing in the months of the schedule.
  @Test func missingReleasesAreInTheirPeriods() {
    var matcher = Self.matcher(ScheduleTests.policy())
    var outputs = MatchOutputs()
    // It holds the bytes of the records.
    let schedules = ScheduleTests()
    let (event, lines) = schedules.billed()
    let release = [(AccountRole.deferred, Int64(100_00)), (.revenue, -100_00)].map {
      Input.posting(r.posting("S1", $0.0, $0.1, journal: "R3", date: ScheduleTests.date(3, 31)))
    }
    matcher.take(
      [.order(event)] + lines.map { .posting($0) } + release, now_ms: ScheduleTests.now_ms, into: &outputs)
    matcher.watermarks.force(ScheduleTests.ms(7, 7))
    matcher.advance(now_ms: ScheduleTests.now_ms, outputs: &outputs)
    withExtendedLifetime(schedules) {}
    #expect(outputs.breaks.last?.reason == "release of 202604, 202605, 202606: 300.00 is due, 0.00 is posted")
    #expect(
      texts(matcher.periodTotals).filter { $0.contains("revenue") } == [
        "202603 revenue: -10000 -10000 0 0 0", "202604 revenue: -10000 0 10000 0 0",
        "202605 revenue: -10000 0 10000 0 0", "202606 revenue: -10000 0 10000 0 0",
      ])
  }

  /// A cancellation takes back in its own period: one that is over stays as it was.
  @Test(arguments: [OrderEventKind.cancelled, .invoiceCancelled]) func aCancelledInvoiceStaysInItsPeriod(
    kind: OrderEventKind
  ) {
    let sale = Input.order(r.event("O1", document: "D1", net: 100, gross: 100))
    let end = Input.order(
      r.event("O1", kind, at: Self.april, document: kind == .cancelled ? "" : "D1", net: 100, gross: 100))
    let posted = r.invoice("O1", net: 100, document: "D1").map { Input.posting($0) }
    let reversal = r.invoice("O1", net: -100, journal: "JE2", at: Self.april + hour, document: "D1").map {
      var posting = $0
      (posting.isReversal, posting.reverses) = (true, r.view("JE1"))
      return Input.posting(posting)
    }
    let march = ["202603 receivable: 100 100 0 0 0", "202603 revenue: -100 -100 0 0 0"]
    #expect(
      totals([sale, end] + posted + reversal) == march + [
        "202604 receivable: -100 -100 0 0 0", "202604 revenue: 100 100 0 0 0",
      ])
    // What is not reversed is missing in the period of the cancellation.
    #expect(
      totals([sale, end] + posted) == march + [
        "202604 receivable: -100 0 100 0 0", "202604 revenue: 100 0 -100 0 0",
      ])
    // Whatever is cancelled was never posted.
    #expect(
      totals([sale, end]) == [
        "202603 receivable: 100 0 0 0 -100", "202603 revenue: -100 0 0 0 100", "202604 receivable: -100 0 0 0 100",
        "202604 revenue: 100 0 0 0 -100",
      ])
    // In one period it comes to nothing.
    let atOnce = Input.order(
      r.event("O1", kind, at: t0 + hour, document: kind == .cancelled ? "" : "D1", net: 100, gross: 100))
    #expect(totals([sale, atOnce]) == [])
  }

  /// What was released of a service before its invoice was cancelled stays in its months.
  @Test func aCancelledServiceStaysInItsPeriods() {
    // It holds the bytes of the records.
    let schedules = ScheduleTests()
    let (event, lines) = schedules.billed()
    var end = schedules.r.event(
      "S1", .invoiceCancelled, at: ScheduleTests.ms(5, 12), document: "S1-INV", net: 600_00, gross: 600_00)
    (end.serviceStart_d, end.serviceEnd_d) = (event.serviceStart_d, event.serviceEnd_d)
    let releases =
      schedules.release(100_00, on: ScheduleTests.date(3, 31), "R3")
      + schedules.release(100_00, on: ScheduleTests.date(4, 30), "R4")
    let reversal = [(AccountRole.receivable, Int64(-600_00)), (.deferred, 400_00), (.revenue, 200_00)].map {
      schedules.r.posting(
        "S1", $0.0, $0.1, journal: "X", at: ScheduleTests.ms(5, 12) + hour, document: "S1-INV", isReversal: true)
    }
    let inputs = [Input.order(event), .order(end)] + (lines + releases + reversal).map { .posting($0) }
    #expect(
      totals(inputs, ScheduleTests.policy()) == [
        "202603 receivable: 60000 60000 0 0 0", "202603 revenue: -10000 -10000 0 0 0",
        "202603 deferred: -50000 -50000 0 0 0", "202604 revenue: -10000 -10000 0 0 0",
        "202604 deferred: 10000 10000 0 0 0", "202605 receivable: -60000 -60000 0 0 0",
        "202605 revenue: 20000 20000 0 0 0", "202605 deferred: 40000 40000 0 0 0",
      ])
    withExtendedLifetime(schedules) {}
  }

  /// A service that is cancelled from a later day on goes on until then: what is to come is not released yet.
  @Test func aServiceThatIsCancelledAheadGoesOn() {
    let schedules = ScheduleTests()
    let (event, lines) = schedules.billed()
    var end = schedules.r.event("S1", .invoiceCancelled, at: ScheduleTests.ms(3, 20), document: "S1-INV")
    end.documentDate_d = ScheduleTests.date(6, 15)
    var matcher = Self.matcher(ScheduleTests.policy())
    var outputs = MatchOutputs()
    matcher.take(
      [.order(event), .order(end)] + lines.map { .posting($0) }, now_ms: ScheduleTests.now_ms, into: &outputs)
    func released(at time_ms: Int64) -> [String] {
      matcher.watermarks.force(time_ms)
      matcher.advance(now_ms: ScheduleTests.now_ms, outputs: &outputs)
      for line in matcher.totals.lines { #expect(line.pending == 0) }
      return matcher.periodTotals.lines.filter { $0.line.role == .revenue && $0.line.expected != 0 }.map {
        "\($0.period) \($0.line.expected)"
      }
    }
    #expect(released(at: ScheduleTests.ms(4, 20)) == ["202603 -10000", "202604 -10000", "202606 20000"])
    // April's is due on 6 May, May's on 6 June.
    #expect(
      released(at: ScheduleTests.ms(6, 7)) == ["202603 -10000", "202604 -10000", "202605 -10000", "202606 30000"])
    #expect(
      released(at: ScheduleTests.ms(9, 7)) == ["202603 -10000", "202604 -10000", "202605 -10000", "202606 30000"])
    withExtendedLifetime(schedules) {}
  }

  /// A state of before knows the sums, and of no periods.
  @Test func anEarlierStateIsOfNoPeriod() throws {
    let inputs = [Input.order(r.event("O1", document: "D1", net: 100, gross: 100))]
    var first = Matcher(policy: DisputeTests.policy(), dimensionCount: 0)
    var outputs = MatchOutputs()
    first.take(inputs, into: &outputs)
    first.finish(outputs: &outputs)
    let state = WrittenState(first)
    var second = Matcher(policy: DisputeTests.policy(), dimensionCount: 0)
    second.tracksPeriods = true
    second.watermarks = first.watermarks
    try second.read(shard: state.shard)
    try second.read(sums: state.sums)
    #expect(texts(second.periodTotals) == ["0 receivable: 100 0 -100 0 0", "0 revenue: -100 0 100 0 0"])
    // What it explained there is taken back there.
    second.take(r.invoice("O1", net: 100, document: "D1").map { .posting($0) }, now_ms: now, into: &outputs)
    second.finish(outputs: &outputs)
    #expect(
      texts(second.periodTotals) == [
        "0 receivable: 100 0 0 0 -100", "0 revenue: -100 0 0 0 100", "202603 receivable: 0 100 0 0 100",
        "202603 revenue: 0 -100 0 0 -100",
      ])
  }

  /// What is judged while a state of before is restored has its periods, and is taken back where it is then.
  @Test func whatIsJudgedInARestoreStaysInItsPeriod() throws {
    let first = [Input.order(r.event("O1", document: "D1", net: 100, gross: 100))]
    var before = Matcher(policy: DisputeTests.policy(), dimensionCount: 0)
    var outputs = MatchOutputs()
    var shard = ByteWriter()
    before.exportShard(0, bits: 0, into: &shard)
    var second = Matcher(policy: DisputeTests.policy(), dimensionCount: 0)
    second.tracksPeriods = true
    var reader = ByteReader(shard.bytes)
    try second.importShard(0, bits: 0, from: &reader)
    // Both see it: the one replays what the other, which writes the sums, took in behind the shard.
    before.take(first, now_ms: now, into: &outputs)
    before.finish(outputs: &outputs)
    second.take(first, now_ms: now, into: &outputs)
    second.finish(outputs: &outputs)
    var sums = ByteWriter()
    before.exportSums(into: &sums)
    var sumReader = ByteReader(sums.bytes)
    try second.importSums(from: &sumReader)
    #expect(
      texts(second.periodTotals).filter { $0.contains("revenue") }
        == ["0 revenue: -100 0 0 0 100", "202603 revenue: 0 0 100 0 -100"])
    second.take(r.invoice("O1", net: 100, document: "D1").map { .posting($0) }, now_ms: now, into: &outputs)
    second.finish(outputs: &outputs)
    #expect(
      texts(second.periodTotals).filter { $0.contains("revenue") }
        == ["0 revenue: -100 0 0 0 100", "202603 revenue: 0 -100 0 0 -100"])
  }

  /// Periods are told when something in them has changed, whole, and again where it was not sent.
  @Test func changesAreToldOnce() {
    var matcher = Self.matcher(DisputeTests.policy())
    var outputs = MatchOutputs()
    matcher.take([.order(r.event("O1", document: "D1", net: 100, gross: 100))], now_ms: now, into: &outputs)
    matcher.take(
      [.order(r.event("O2", at: Self.april, document: "D2", net: 7, gross: 7))], now_ms: now, into: &outputs)
    let first = matcher.tellQuality(now_ms: now, times: [])
    #expect(first.periods.map(\.period) == [202_603, 202_604])
    #expect(first.periods[1].control.lines.map { $0.pending(Int(AccountRole.revenue.rawValue)) } == [7])
    matcher.untellQuality()
    #expect(matcher.tellQuality(now_ms: now, times: []) == first)
    #expect(matcher.tellQuality(now_ms: now + 60_000, times: []).periods.isEmpty)
    matcher.take([.posting(r.posting("O2", .revenue, -7, at: Self.april))], now_ms: now, into: &outputs)
    // Not before the interval is over.
    #expect(matcher.tellQuality(now_ms: now + 1, times: []).periods.isEmpty)
    #expect(matcher.tellQuality(now_ms: now + 60_000, times: []).periods.map(\.period) == [202_604])
  }

  // MARK: - Over random histories

  private struct Side: Hashable {
    var currency: Currency
    var role: AccountRole
    var period: Int32 = 0
  }

  /// Over all periods they are the control totals; posted is what the cells hold; where nothing lies in two periods,
  /// nothing is left unexplained in any. In any order of arrival, over tasks, over an end in the middle.
  @Test(arguments: 0..<150 as Range<UInt64>) func periodsAddUpToTheTotals(seed: UInt64) throws {
    var generator = HistoryGenerator(seed: seed, start_ms: t0)
    let history = generator.next()
    let storage = HistoryStorage()
    var random = SeededRandom(seed: seed)
    let isOne = seed % 3 == 0
    let moved: (String) -> Int32 = { isOne ? 0 : Int32($0.utf8.last ?? 0) % 3 * 20 }
    let inputs =
      history.events.map {
        var event = storage.record($0)
        event.documentDate_d += moved($0.document)
        return Input.order(event)
      }
      + history.postings.map {
        var posting = storage.record($0)
        posting.postingDate_d = day(ofMilliseconds: $0.time_ms) + moved($0.journal)
        return .posting(posting)
      }
    func key(_ input: Input) -> ByteView {
      switch input {
      case .order(let event): event.order
      case .posting(let posting): posting.order
      }
    }
    var reference: [String]?
    for round in 0..<4 {
      var sum = PeriodTotals()
      var whole = ControlTotals()
      var table = CellTable(dimensionCount: 0)
      let tasks = 1 + round % 2
      let shuffled = inputs.shuffled(using: &random)
      for task in 0..<tasks {
        let own = shuffled.filter { Int(Fingerprint(key($0)).low % UInt64(tasks)) == task }
        let cut = random.below(own.count + 1)
        var matcher = Self.matcher(DisputeTests.policy())
        var outputs = MatchOutputs()
        for input in own[..<cut] {
          matcher.take([input], now_ms: now, into: &outputs)
          matcher.watermarks.force(max(t0 + Int64(random.below(60)) * hour, matcher.watermarks.current_ms))
          matcher.advance(now_ms: now, outputs: &outputs)
        }
        if round > 1 {
          let state = WrittenState(matcher)
          var second = Self.matcher(DisputeTests.policy())
          second.watermarks = matcher.watermarks
          try second.read(shard: state.shard)
          try second.read(sums: state.sums)
          try second.read(cells: state.cells)
          #expect(WrittenState(second).sums.array == state.sums.array, "seed \(seed)")
          matcher = second
        }
        matcher.take(Array(own[cut...]), now_ms: now, into: &outputs)
        matcher.finish(outputs: &outputs)
        sum.merge(matcher.periodTotals)
        whole.merge(matcher.totals)
        matcher.mergeAggregates(into: &table)
      }
      var added: [Side: [Int128]] = [:]
      var posted: [Side: Int128] = [:]
      for (period, line) in sum.lines {
        let values = [line.expected, line.posted, line.open, line.accepted]
        let side = Side(currency: line.currency, role: line.role)
        added[side] = zip(added[side] ?? [0, 0, 0, 0], values).map { $0 + $1 }
        if line.posted != 0 {
          posted[Side(currency: line.currency, role: line.role, period: period)] = line.posted
        }
        if isOne { #expect(line.pending == 0, "seed \(seed) \(period) \(line)") }
      }
      var right: [Side: [Int128]] = [:]
      for line in whole.lines {
        right[Side(currency: line.currency, role: line.role)] = [line.expected, line.posted, line.open, line.accepted]
      }
      #expect(added.filter { $0.value.contains { $0 != 0 } } == right, "seed \(seed) round \(round)")
      var held: [Side: Int128] = [:]
      for line in table.lines where !line.key.isBase {
        for role in AccountRole.allCases where line.values[role, .posting] != 0 {
          held[Side(currency: line.key.currency, role: role, period: line.key.period)] = line.values[role, .posting]
        }
      }
      #expect(posted == held, "seed \(seed) round \(round)")
      let found = texts(sum)
      if let reference { #expect(found == reference, "seed \(seed) round \(round)") }
      reference = found
    }
    withExtendedLifetime(storage) {}
  }
}
