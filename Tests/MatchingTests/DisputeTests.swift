import Aggregates
import Domain
import Simulation
import Testing

@testable import Matching

/// What of the aggregates is in dispute: the differences of the open breaks, each in one cell.
@Suite struct DisputeTests {
  let r = Records()
  static let usd = Currency("USD")!
  static let eur = Currency("EUR")!
  let now = t0 + 10_000 * hour
  /// April, a month after `t0`.
  static let april = t0 + 30 * 24 * hour
  static let may = t0 + 60 * 24 * hour

  static func policy(_ rates: ExchangeRates? = nil) -> MatchingPolicy {
    testPolicy {
      if let rates {
        var checks = FinanceChecks()
        checks.exchange = ExchangeChecks(rates: rates)
        $0.checks = checks
      }
      $0.lateAfter_d = 60
      $0.earlyBefore_d = 60
      $0.outOfOrderness_ms = 5_000 * hour
      ($0.retention_ms, $0.openRetention_ms) = (100_000 * hour, 100_000 * hour)
    }
  }

  static func matcher(_ policy: MatchingPolicy) -> Matcher {
    var matcher = Matcher(policy: policy, dimensionCount: 1)
    matcher.aggregates = TaskAggregates(dimensionCount: 1)
    return matcher
  }

  func event(
    _ document: String, _ region: String, at time_ms: Int64 = t0, net: Int64, tax: Int64 = 0,
    currency: String = "USD"
  ) -> Input {
    var event = r.event(
      "O1", at: time_ms, currency: currency, document: document, net: net, tax: tax, gross: net + tax)
    event.dimensions[0] = r.view(region)
    return .order(event)
  }

  func invoice(
    _ document: String, _ region: String, at time_ms: Int64 = t0, net: Int64, tax: Int64 = 0,
    currency: String = "USD"
  ) -> [Input] {
    r.invoice(
      "O1", net: net, tax: tax, journal: "J-\(document)", at: time_ms + 1_000, currency: currency, document: document
    ).map {
      var posting = $0
      posting.dimensions[0] = r.view(region)
      return .posting(posting)
    }
  }

  /// What is in dispute, as "region currency period role: amount", the base view in brackets.
  func disputes(_ matcher: borrowing Matcher) -> [String] {
    var table = CellTable(dimensionCount: 1)
    matcher.mergeAggregates(into: &table)
    return table.lines.flatMap { line in
      var texts: [String] = []
      func add(_ name: String, _ amount: Int128) {
        guard amount != 0 else { return }
        let text = "\(line.key.dimensions[0]) \(line.key.currency.code) \(line.key.period) \(name): \(amount)"
        texts.append(line.key.isBase ? "(\(text))" : text)
      }
      for role in AccountRole.allCases { add(role.name, line.values[disputed: role]) }
      add("without a rate", line.values[.unconverted])
      return texts
    }.sorted()
  }

  func disputes(_ inputs: [Input], _ policy: MatchingPolicy = policy()) -> [String] {
    var matcher = DisputeTests.matcher(policy)
    var outputs = MatchOutputs()
    matcher.take(inputs, now_ms: now, into: &outputs)
    matcher.finish(outputs: &outputs)
    return disputes(matcher)
  }

  // MARK: - Where it goes

  @Test func whatTiesOutIsNotInDispute() {
    #expect(disputes([event("D1", "north", net: 100)] + invoice("D1", "north", net: 100)) == [])
  }

  @Test func aDifferenceOfEachRoleIsInTheCellOfItsEvent() {
    #expect(
      disputes([event("D1", "north", net: 100, tax: 19)])
        == ["north USD 202603 receivable: 119", "north USD 202603 revenue: 100", "north USD 202603 tax: 19"])
  }

  /// One of two invoices is not posted: its period and its region are in dispute, not those of the first one.
  @Test func aDifferenceIsWhereTheFactsDiffer() {
    let two = [event("D1", "north", net: 100), event("D2", "south", at: Self.april, net: 100)]
    #expect(
      disputes(two + invoice("D1", "north", net: 100))
        == ["south USD 202604 receivable: 100", "south USD 202604 revenue: 100"])
    #expect(
      disputes(two + invoice("D2", "south", at: Self.april, net: 100))
        == ["north USD 202603 receivable: 100", "north USD 202603 revenue: 100"])
    #expect(
      disputes(two + invoice("D1", "north", net: 100) + invoice("D2", "south", at: Self.april, net: 90))
        == ["south USD 202604 receivable: 10", "south USD 202604 revenue: 10"])
    // The ledger knows of no regions, or posts in another period: where its figure stands.
    #expect(
      disputes([event("D1", "north", net: 100)] + invoice("D1", "", at: Self.april, net: 90))
        == [" USD 202604 receivable: 10", " USD 202604 revenue: 10"])
    // Both are wrong, and together by the whole: each by its own part.
    #expect(
      disputes(two + invoice("D1", "north", net: 99) + invoice("D2", "south", at: Self.april, net: 90))
        == [
          "north USD 202603 receivable: 1", "north USD 202603 revenue: 1", "south USD 202604 receivable: 10",
          "south USD 202604 revenue: 10",
        ])
    // One too high, the other too low: no part of it is the difference, and the first posting that differs is in doubt.
    #expect(
      disputes(two + invoice("D1", "north", net: 103) + invoice("D2", "south", at: Self.april, net: 90))
        == ["north USD 202603 receivable: 7", "north USD 202603 revenue: 7"])
  }

  /// What is missing in several places is in dispute there, and not where something else agrees.
  @Test func aDifferenceOfSeveralPlacesIsInEach() {
    let events = [
      event("D1", "north", net: 100), event("D2", "south", at: Self.april, net: 200),
      event("D3", "south", at: Self.may, net: 300),
    ]
    let missing = [
      "south USD 202604 receivable: 200", "south USD 202604 revenue: 200", "south USD 202605 receivable: 300",
      "south USD 202605 revenue: 300",
    ]
    #expect(disputes(events + invoice("D1", "north", net: 100)) == missing)
    // The one that is posted is so a month later: that is no difference, and takes no part in it.
    #expect(disputes(events + invoice("D1", "north", at: Self.april, net: 100)) == missing)
    // The posting that agrees comes first; of those that differ none is the whole, and they have not one sign.
    let wrong = invoice("D2", "south", at: Self.april, net: 230) + invoice("D3", "south", at: Self.may, net: 250)
    #expect(
      disputes(events + invoice("D1", "north", net: 100) + wrong)
        == ["south USD 202604 receivable: 20", "south USD 202604 revenue: 20"])
  }

  /// The counter-entries with which breaks explain a role are no difference of it: it is off by what it is off by.
  @Test func counterEntriesAreNotInDispute() {
    let sale = r.event("O1", document: "D1", net: 100, tax: 20, gross: 120)
    var shipment = r.event("O1", .shipped, document: "S1")
    shipment.amounts[.cost] = 60
    let posted = [(AccountRole.receivable, Int64(130)), (.revenue, -100), (.tax, -30)].map {
      Input.posting(r.posting("O1", $0.0, $0.1, journal: "J1", document: "D1"))
    }
    #expect(
      disputes([.order(sale), .order(shipment)] + posted) == [
        " USD 202603 cogs: 60", " USD 202603 inventory: 60", " USD 202603 receivable: 10", " USD 202603 tax: 10",
      ])
    // Nor do they stand in the breaks: each of what the shipment makes is the counter-entry of the other.
    var matcher = Self.matcher(Self.policy())
    var outputs = MatchOutputs()
    matcher.take([.order(sale), .order(shipment)] + posted, now_ms: now, into: &outputs)
    matcher.finish(outputs: &outputs)
    #expect(openSizes(matcher, ofBreaks: true)["USD receivable"] == 10)
  }

  @Test func withoutAnOrderItIsInTheCellOfThePosting() {
    var posting = r.posting("O9", .revenue, -70, period: 202_512)
    posting.dimensions[0] = r.view("west")
    #expect(disputes([.posting(posting)]) == ["west USD 202512 revenue: 70"])
  }

  @Test func theBaseViewIsConverted() {
    let rates = ExchangeTests.rates()
    let inputs = [event("D1", "north", net: 100_00)]
    #expect(
      disputes(inputs, Self.policy(rates)) == [
        "(north EUR 202603 receivable: 9250)", "(north EUR 202603 revenue: 9250)", "north USD 202603 receivable: 10000",
        "north USD 202603 revenue: 10000",
      ])
    // No rate: what the figure lacks is counted.
    #expect(
      disputes(inputs, Self.policy(ExchangeTests.rates([(ExchangeTests.own - 50, 9_000)]))) == [
        "(north EUR 202603 without a rate: 2)", "north USD 202603 receivable: 10000", "north USD 202603 revenue: 10000",
      ])
  }

  // MARK: - When it is over

  /// Taken back as it was put there, although rates and calendar are others by then.
  @Test func aBreakThatClearsIsNoLongerInDispute() {
    var matcher = Self.matcher(Self.policy(ExchangeTests.rates()))
    var outputs = MatchOutputs()
    matcher.take([event("D1", "north", net: 100)], now_ms: now, into: &outputs)
    matcher.finish(outputs: &outputs)
    #expect(disputes(matcher).count == 4)
    let calendar = PeriodCalendar { _ in 209_901 }
    matcher.use(Self.policy(ExchangeTests.rates([(ExchangeTests.own, 5_000)])), periods: calendar)
    // Half of it comes: what is left is judged by the calendar and rates of now.
    matcher.take(invoice("D1", "north", net: 50), now_ms: now, into: &outputs)
    matcher.finish(outputs: &outputs)
    #expect(
      disputes(matcher) == [
        "(north EUR 209901 receivable: 25)", "(north EUR 209901 revenue: 25)", "north USD 209901 receivable: 50",
        "north USD 209901 revenue: 50",
      ])
    let rest = r.invoice("O1", net: 50, journal: "J2", at: t0 + 2_000, document: "D1")
    matcher.take(rest.map { .posting($0) }, now_ms: now, into: &outputs)
    matcher.finish(outputs: &outputs)
    #expect(disputes(matcher) == [])
  }

  @Test func whatIsAcceptedIsNotInDispute() {
    var policy = Self.policy()
    for role in AccountRole.allCases {
      policy.tolerances[Int(role.rawValue)] = Tolerance(absolute_u: 1_000_000)
    }
    #expect(disputes([event("D1", "north", net: 500)] + invoice("D1", "north", net: 450), policy) == [])
    #expect(disputes([event("D1", "north", net: 500)] + invoice("D1", "north", net: 350), policy).count == 2)
  }

  @Test(arguments: [BreakAction.Kind.explain, .accept, .forceClose])
  func whatSomebodyHasDecidedIsNotInDispute(kind: BreakAction.Kind) throws {
    var matcher = Self.matcher(Self.policy())
    var outputs = MatchOutputs()
    matcher.takesActions = true
    matcher.take([event("D1", "north", net: 100)], now_ms: now, into: &outputs)
    matcher.finish(outputs: &outputs)
    let made = try #require(outputs.breaks.last)
    #expect(disputes(matcher).count == 2)
    let basis = Break.basis(
      expected: made.expected, posted: made.posted, currency: made.currency, postedCurrency: made.postedCurrency)
    func action(_ id: String, _ kind: BreakAction.Kind, of: String = "") -> BreakAction {
      BreakAction(
        id: id, kind: kind, breakID: made.id, order: "O1", actor: "ann", at_ms: now, basis: basis, needsApproval: false,
        reasonCode: "timing", of: of)!
    }
    #expect(matcher.apply(action("a1", kind), now_ms: now, outputs: &outputs) == .decided)
    #expect(disputes(matcher) == [])
    // Something else than what the decision was about.
    matcher.take(invoice("D1", "north", net: 30), now_ms: now, into: &outputs)
    matcher.finish(outputs: &outputs)
    #expect(disputes(matcher) == ["north USD 202603 receivable: 70", "north USD 202603 revenue: 70"])
  }

  /// Aggregates that begin, or were kept by a version that knew of no disputes, come to what would be there.
  @Test func whatIsOpenIsInDisputeWhereAggregatesBegin() throws {
    let policy = Self.policy(ExchangeTests.rates())
    let facts = [event("D1", "north", net: 100), event("D2", "south", at: Self.april, net: 50)]
    let found = disputes(facts + invoice("D1", "north", net: 100), policy)
    #expect(found.count == 3)
    for tracks in [false, true] {
      var first = Matcher(policy: policy, dimensionCount: 1)
      first.tracksDisputes = tracks
      var outputs = MatchOutputs()
      first.take(facts + invoice("D1", "north", net: 100), now_ms: now, into: &outputs)
      first.finish(outputs: &outputs)
      var shard = ByteWriter()
      first.exportShard(0, bits: 0, into: &shard)
      var second = Self.matcher(policy)
      second.watermarks = first.watermarks
      var reader = ByteReader(shard.bytes)
      try second.importShard(0, bits: 0, from: &reader)
      second.epoch = 8
      second.chargeOpenBreaks()
      #expect(disputes(second) == found && second.isChanged(shard: 0, bits: 0, since: 7))
      // Kept from now on.
      shard.removeAll()
      second.exportShard(0, bits: 0, into: &shard)
      var third = Matcher(policy: policy, dimensionCount: 1)
      third.tracksDisputes = true
      third.watermarks = second.watermarks
      reader = ByteReader(shard.bytes)
      try third.importShard(0, bits: 0, from: &reader)
      var cells = ByteWriter()
      second.exportAggregates(into: &cells)
      third.aggregates = TaskAggregates(dimensionCount: 1)
      var cellReader = ByteReader(cells.bytes)
      #expect(try third.aggregates!.restore(from: &cellReader, settings: AggregateSettings()))
      third.take(invoice("D2", "south", at: Self.april, net: 50), now_ms: now, into: &outputs)
      third.finish(outputs: &outputs)
      #expect(disputes(third) == [])
    }
  }

  // MARK: - Over random histories

  /// What the open breaks of each tie come to, read from the ties; or the sizes of their parts.
  private func openSizes(_ matcher: borrowing Matcher, ofBreaks: Bool = false) -> [String: Int128] {
    var sizes: [String: Int128] = [:]
    for slot in 1..<matcher.usedSlots where matcher.ties[slot].has(Tie.Flag.live) {
      var sums: [String: Int128] = [:]
      var ref = matcher.ties[slot].breaks
      while ref != 0 {
        let record = matcher.store.breakRecord(ref)
        if record.type < BreakRecord.chargeType, record.stateValue.isOpen {
          for part in matcher.store.breakParts(ref) {
            let side = "\(part.currency.code) \(part.role.name)"
            sums[side, default: 0] += ofBreaks ? Int128(part.delta.magnitude) : Int128(part.delta)
          }
        }
        ref = record.next
      }
      for (side, sum) in sums { sizes[side, default: 0] += Int128(sum.magnitude) }
    }
    return sizes.filter { $0.value != 0 }
  }

  private func inputs(_ history: History, _ storage: HistoryStorage) -> [Input] {
    func region(_ order: String, _ document: String) -> ByteView {
      r.view(["", "north", "south"][Int(Fingerprint(r.view(order + document + "?")).low % 3)])
    }
    let events = history.events.map {
      var event = storage.record($0)
      event.dimensions[0] = region($0.order, $0.document)
      event.documentDate_d += Int32($0.document.utf8.last ?? 0) % 3 * 20
      return Input.order(event)
    }
    return events
      + history.postings.map {
        var posting = storage.record($0)
        posting.dimensions[0] = region($0.order, $0.document)
        return .posting(posting)
      }
  }

  private func key(_ input: Input) -> ByteView {
    switch input {
    case .order(let event): event.order
    case .posting(let posting): posting.order
    }
  }

  private struct Told: Equatable {
    var lines: [CellLine]
    var sizes: [String: Int128]
  }

  /// The cells, and the open differences, of histories that are split over tasks, each of which ends and is restored in the
  /// middle: from a shard of an earlier time than the aggregates, with what came in between replayed.
  private func told(
    _ inputs: [Input], tasks: Int, restoring: Bool, _ policy: MatchingPolicy, _ random: inout SeededRandom
  ) throws -> Told {
    var table = CellTable(dimensionCount: 1)
    var sizes: [String: Int128] = [:]
    for task in 0..<tasks {
      let own = inputs.filter { Int(Fingerprint(key($0)).low % UInt64(tasks)) == task }
      let cuts = [random.below(own.count + 1), random.below(own.count + 1)].sorted()
      let times = own.map { _ in t0 + Int64(random.below(60)) * hour }
      var matcher = Self.matcher(policy)
      var outputs = MatchOutputs()
      func run(_ range: Range<Int>, _ matcher: inout Matcher) {
        for at in range {
          matcher.take([own[at]], now_ms: now, into: &outputs)
          matcher.watermarks.force(max(times[at], matcher.watermarks.current_ms))
          matcher.advance(now_ms: now, outputs: &outputs)
        }
      }
      run(0..<cuts[0], &matcher)
      if restoring {
        var shard = ByteWriter()
        var sums = ByteWriter()
        var cells = ByteWriter()
        matcher.exportShard(0, bits: 0, into: &shard)
        var second = Matcher(policy: policy, dimensionCount: 1)
        second.tracksDisputes = true
        second.watermarks = matcher.watermarks
        var reader = ByteReader(shard.bytes)
        try second.importShard(0, bits: 0, from: &reader)
        run(cuts[0]..<cuts[1], &matcher)
        matcher.exportSums(into: &sums)
        matcher.exportAggregates(into: &cells)
        run(cuts[0]..<cuts[1], &second)
        var a = ByteWriter()
        var b = ByteWriter()
        #expect(matcher.exportShard(0, bits: 0, into: &a).digest == second.exportShard(0, bits: 0, into: &b).digest)
        second.aggregates = TaskAggregates(dimensionCount: 1)
        var cellReader = ByteReader(cells.bytes)
        try second.aggregates!.restore(from: &cellReader, settings: AggregateSettings())
        var sumReader = ByteReader(sums.bytes)
        try second.importSums(from: &sumReader)
        matcher = second
      } else {
        run(cuts[0]..<cuts[1], &matcher)
      }
      run(cuts[1]..<own.count, &matcher)
      matcher.finish(outputs: &outputs)
      #expect(matcher.counters.tiesForgotten == 0)
      matcher.mergeAggregates(into: &table)
      sizes.merge(openSizes(matcher)) { $0 + $1 }
    }
    return Told(lines: table.lines, sizes: sizes)
  }

  @Test(arguments: 0..<150 as Range<UInt64>) func theCellsHoldTheOpenDifferences(seed: UInt64) throws {
    var generator = HistoryGenerator(seed: seed, start_ms: t0)
    let history = generator.next()
    let storage = HistoryStorage()
    var random = SeededRandom(seed: seed)
    let all = inputs(history, storage)
    let policy = Self.policy(seed % 2 == 0 ? ExchangeTests.rates() : nil)
    var reference: [CellLine]?
    for round in 0..<4 {
      let told = try told(
        all.shuffled(using: &random), tasks: 1 + round % 3, restoring: round > 1, policy, &random)
      var sums: [String: Int128] = [:]
      for line in told.lines where !line.key.isBase {
        for role in AccountRole.allCases {
          sums["\(line.key.currency.code) \(role.name)", default: 0] += line.values[disputed: role]
        }
      }
      #expect(sums.filter { $0.value != 0 } == told.sizes, "seed \(seed) round \(round)")
      if let reference { #expect(told.lines == reference, "seed \(seed) round \(round)") }
      reference = told.lines
    }
    // By another way: what does not tie out is in dispute, in each role by as much as it is off.
    let oracle = NaiveOracle(history)
    var sizes: [String: Int128] = [:]
    for (side, balance) in oracle.balances where oracle.differences[side] != nil {
      sizes["\(side.currency.code) \(side.role.name)", default: 0] += Int128(balance.delta.magnitude)
    }
    for (side, size) in sizes {
      let found = try #require(reference).filter { !$0.key.isBase }.reduce(Int128(0)) { sum, line in
        sum
          + AccountRole.allCases.filter { "\(line.key.currency.code) \($0.name)" == side }.reduce(0) {
            $0 + line.values[disputed: $1]
          }
      }
      #expect(found == size, "seed \(seed) \(side)")
    }
    withExtendedLifetime(storage) {}
  }
}
