import Aggregates
import Domain
import Simulation
import Testing

@testable import Matching

/// What cancelled invoices take back in the aggregates: what was billed under their number, as in the tie.
@Suite struct CancellationTests {
  let r = Records()
  static let april = t0 + 30 * 24 * hour

  func matcher(plainly: Bool) -> Matcher {
    var matcher = Matcher(policy: testPolicy(), dimensionCount: 0)
    matcher.aggregates = TaskAggregates(dimensionCount: 0)
    if !plainly { matcher.quality = TaskQuality(sourceCount: 2) }
    return matcher
  }

  /// "202603 100 119 1": billings, gross billed, events, and how many have no value where there are such.
  func texts(_ matcher: borrowing Matcher) -> [String] {
    var table = CellTable(dimensionCount: 0)
    matcher.mergeAggregates(into: &table)
    return table.lines.filter { !$0.values.isZero }.map {
      let unvalued = $0.values[.unvalued]
      return "\($0.key.period) \($0.values.value(.billings)) \($0.values.value(.billedGross)) \($0.values[.events])"
        + (unvalued == 0 ? "" : " \(unvalued)")
    }
  }

  func cancelled(
    _ id: String, at time_ms: Int64 = april, document: String = "D1", net: Int64? = nil, gross: Int64? = nil
  ) -> Input {
    .order(r.event("O1", .invoiceCancelled, id: id, at: time_ms, document: document, net: net, gross: gross))
  }

  @Test(arguments: [true, false]) func itIsWhatWasBilledAndOnce(plainly: Bool) {
    let sale = Input.order(r.event("O1", document: "D1", net: 100, gross: 119))
    let again = Input.order(r.event("O1", at: Self.april + hour, document: "D1", net: 90, gross: 107))
    let other = Input.order(r.event("O1", document: "D2", net: 5, gross: 6))
    var withdrawn = r.event("O1", .invoiceCancelled, id: "c1", at: Self.april, document: "D1", net: 100, gross: 119)
    withdrawn.isDelete = true
    withdrawn.position.offset += 1_000
    let back = ["202603 100 119 1", "202604 -100 -119 1"]
    let cases: [([Input], [String])] = [
      ([sale, cancelled("c1", net: 100, gross: 119)], back),
      ([sale, cancelled("c1", net: -100, gross: -119)], back),
      ([sale, cancelled("c1", net: 100)], back),
      ([sale, cancelled("c1")], back),
      (
        [sale, cancelled("c1", net: 100, gross: 119), cancelled("c2", net: 100, gross: 119)],
        [back[0], "202604 -100 -119 2"]
      ),
      ([sale, cancelled("c1", net: 100, gross: 119), again], [back[0], "202604 -10 -12 2"]),
      ([sale, other, cancelled("c1", net: 100, gross: 119)], ["202603 105 125 2", back[1]]),
      ([sale, cancelled("c1", at: t0 - hour, net: 100, gross: 119)], ["202603 0 0 2"]),
      // Of what is not known it is what it says.
      ([cancelled("c1", net: 100, gross: 119)], [back[1]]),
      ([sale, cancelled("c1", document: "D3", net: 7, gross: 8)], [back[0], "202604 -7 -8 1"]),
      ([sale, cancelled("c1", document: "", net: 7, gross: 8)], [back[0], "202604 -7 -8 1"]),
      ([sale, cancelled("c1", document: "D3")], [back[0], "202604 0 0 1 1"]),
      ([sale, cancelled("c1", net: 100, gross: 119), .order(withdrawn)], [back[0]]),
    ]
    var generator = SeededGenerator(state: 7)
    for (inputs, wanted) in cases {
      for _ in 0..<8 {
        var all = inputs
        for _ in 0..<Int.random(in: 0...2, using: &generator) { all.append(inputs[0]) }
        if inputs.count > 2, case .order(let last) = inputs[inputs.count - 1], last.isDelete {
        } else {
          all.shuffle(using: &generator)
        }
        var matcher = matcher(plainly: plainly)
        var outputs = MatchOutputs()
        matcher.take(all, into: &outputs)
        #expect(texts(matcher) == wanted)
        matcher.finish(outputs: &outputs)
        #expect(texts(matcher) == wanted)
      }
    }
  }

  /// A state of before has taken cancellations by what they say.
  @Test func anEarlierStateIsTakenUp() throws {
    let inputs = [
      Input.order(r.event("O1", document: "D1", net: 100, gross: 119)), cancelled("c1", net: 100),
    ]
    var first = matcher(plainly: true)
    var outputs = MatchOutputs()
    first.take(inputs, into: &outputs)
    let wanted = texts(first)
    first.aggregateCancelled(1, sign: -1)
    first.settleAggregates()
    #expect(texts(first) == ["202603 100 119 1", "202604 -100 0 1"])
    let state = WrittenState(first)
    first.aggregates = nil
    let sums = WrittenState(first)
    var second = matcher(plainly: true)
    second.watermarks = first.watermarks
    try second.read(shard: state.shard)
    try second.read(sums: sums.sums)
    try second.read(cells: state.cells)
    second.takeBackCancelled()
    #expect(texts(second) == wanted)
    // It goes on as one that has always known.
    second.take([.order(r.event("O1", at: Self.april + hour, document: "D1", net: 90, gross: 107))], into: &outputs)
    #expect(texts(second) == ["202603 100 119 1", "202604 -10 -12 2"])
  }

  /// Many invoices of an order of which one is cancelled: the others are none of its business.
  @Test func onlyInvoicesOfACancelledDocumentAreLookedInto() {
    var matcher = matcher(plainly: false)
    var outputs = MatchOutputs()
    let sale = Input.order(r.event("O1", document: "D0", net: 100, gross: 119))
    matcher.take([sale, cancelled("c1", document: "D0")], into: &outputs)
    #expect(matcher.cancelledDocuments[1]?.count == 1)
    var fact = Fact()
    fact.code = OrderEventKind.invoiced.rawValue
    fact.document = r.view("D0")
    let isLookedInto = withUnsafePointer(to: fact) { matcher.isOfCancelled($0, 1) }
    #expect(isLookedInto)
    for number in 1...2_000 {
      let event = r.event("O1", at: t0 + Int64(number), document: "D\(number)", net: 1, gross: 1)
      fact.document = event.document
      let isLookedInto = withUnsafePointer(to: fact) { matcher.isOfCancelled($0, 1) }
      #expect(!isLookedInto)
      matcher.take([.order(event)], into: &outputs)
    }
    matcher.take([cancelled("c2", document: "D7"), cancelled("c3", document: "D0")], into: &outputs)
    #expect(texts(matcher) == ["202603 2100 2119 2001", "202604 -101 -120 3"])
    #expect(matcher.cancelledDocuments[1]?.count == 2)
    for time_ms in [Self.april + 100 * hour, t0 + 100_000 * hour] {
      #expect(texts(matcher) == ["202603 2100 2119 2001", "202604 -101 -120 3"])
      matcher.watermarks.force(time_ms)
      while matcher.advance(now_ms: t0 + 1_000 * hour, outputs: &outputs) {}
    }
    #expect(matcher.tieCount == 0 && matcher.cancelledDocuments.isEmpty)
  }

  // MARK: - Releases in sums of earlier versions

  func due(_ matcher: borrowing Matcher) -> [Int32: Int128] {
    var table = CellTable(dimensionCount: 0)
    matcher.mergeAggregates(into: &table)
    var due: [Int32: Int128] = [:]
    for line in table.lines where line.values.value(.releasesDue) != 0 {
      due[line.key.period] = line.values.value(.releasesDue)
    }
    return due
  }

  func service(
    _ kind: OrderEventKind = .invoiced, net: Int64 = 300_00, on day: Int32, to end: Int32 = ScheduleTests.date(4, 30)
  ) -> OrderEvent {
    var event = r.event("S1", kind, document: "D1", net: net, gross: net)
    event.documentDate_d = day
    (event.serviceStart_d, event.serviceEnd_d) = (ScheduleTests.date(2, 1), end)
    return event
  }

  static func policy(_ changes: [PostingPolicies.Change]) -> MatchingPolicy {
    var policy = ScheduleTests.policy()
    policy.postingPolicies = PostingPolicies(base: MatchingPolicy.standardEntries, changes: changes)
    return policy
  }

  /// A matcher that takes up what an earlier version has left.
  func takenUp(_ first: inout Matcher, _ policy: MatchingPolicy) throws -> Matcher {
    let state = WrittenState(first)
    first.aggregates = nil
    let sums = WrittenState(first)
    var second = Matcher(policy: policy, dimensionCount: 0)
    second.aggregates = TaskAggregates(dimensionCount: 0)
    second.watermarks = first.watermarks
    try second.read(policies: state.policies)
    try second.read(shard: state.shard)
    try second.read(sums: sums.sums)
    try second.read(cells: state.cells)
    second.takeBackCancelled()
    return second
  }

  /// What an earlier version took back of releases went by the policy on the day of the invoice.
  @Test func theSumsOfDatedPoliciesAreTakenUp() throws {
    let policy = Self.policy(PolicyTests.deferring(from: ScheduleTests.date(2, 1)))
    var first = Matcher(policy: policy, dimensionCount: 0)
    first.aggregates = TaskAggregates(dimensionCount: 0)
    var outputs = MatchOutputs()
    let day = ScheduleTests.date(1, 15)
    first.take(
      [.order(service(on: day)), .order(service(.invoiceCancelled, on: ScheduleTests.date(2, 15)))], into: &outputs)
    #expect(due(first) == [:])
    first.makeEarlier(1, releaseDay: day)
    #expect(due(first) == [:])
    var second = try takenUp(&first, policy)
    #expect(due(second) == [:])
    var withdrawn = service(.invoiceCancelled, on: ScheduleTests.date(2, 15))
    withdrawn.isDelete = true
    second.take([.order(withdrawn)], into: &outputs)
    #expect(due(second) == [:])
  }

  /// Ties that a revision has not come to are taken up by the policies before it.
  @Test func theSumsOfARevisionAreTakenUp() throws {
    let (before, after) = (Self.policy(PolicyTests.deferring(from: nil)), Self.policy([]))
    var first = Matcher(policy: before, dimensionCount: 0)
    first.aggregates = TaskAggregates(dimensionCount: 0)
    var outputs = MatchOutputs()
    let day = ScheduleTests.date(2, 3)
    first.take(
      [.order(service(on: day)), .order(service(.invoiceCancelled, on: ScheduleTests.date(3, 15)))], into: &outputs)
    #expect(due(first) == [202_602: 100_00, 202_603: -100_00])
    first.use(after, periods: .months)
    first.makeEarlier(1, releaseDay: nil)
    #expect(due(first) == [:])
    var second = try takenUp(&first, after)
    let isRevising = second.isRevising
    #expect(isRevising && due(second) == [202_602: 100_00, 202_603: -100_00])
    second.revise(upTo: PolicyRevision.end)
    #expect(due(second) == [:])
  }

  /// Aggregates that begin while a revision is running begin with what it will take back.
  @Test func aggregatesBeginInARevision() throws {
    let (before, after) = (Self.policy(PolicyTests.deferring(from: nil)), Self.policy([]))
    var matcher = Matcher(policy: before, dimensionCount: 0)
    var outputs = MatchOutputs()
    matcher.take([.order(service(on: ScheduleTests.date(2, 3)))], into: &outputs)
    matcher.use(after, periods: .months)
    matcher.aggregates = TaskAggregates(dimensionCount: 0)
    matcher.addHeldFacts()
    #expect(due(matcher) == [202_602: 100_00, 202_603: 100_00, 202_604: 100_00])
    matcher.revise(upTo: PolicyRevision.end)
    #expect(due(matcher) == [:])
  }

  /// 7 over twelve months: an earlier version released 1 in each of eleven, and took 4 back in the last.
  @Test func theRemainderOfASmallAmountIsTakenUp() throws {
    var policy = ScheduleTests.policy()
    policy.checks!.schedules!.remainder = .last
    var first = Matcher(policy: policy, dimensionCount: 0)
    first.aggregates = TaskAggregates(dimensionCount: 0)
    var outputs = MatchOutputs()
    let event = service(net: 7, on: ScheduleTests.date(2, 1), to: ScheduleTests.date(1, 31, year: 2027))
    first.take([.order(event)], into: &outputs)
    let wanted = due(first)
    #expect(wanted.values.allSatisfy { $0 == 1 } && wanted.count == 7)
    first.makeEarlier(1, releaseDay: nil)
    #expect(due(first).count == 12 && due(first)[202_701] == -4)
    var second = try takenUp(&first, policy)
    #expect(due(second) == wanted)
    var withdrawn = event
    withdrawn.isDelete = true
    second.take([.order(withdrawn)], into: &outputs)
    #expect(due(second) == [:])
  }

  /// Sums in the base currency that took cancelled invoices back at the rate of the cancellation.
  @Test func theSumsOfOtherRatesAreTakenUp() throws {
    var first = Matcher(policy: ExchangeTests.policy(), dimensionCount: 0)
    first.aggregates = TaskAggregates(dimensionCount: 0)
    var outputs = MatchOutputs()
    first.take([.order(r.event("O1", document: "D1", net: 100_00, gross: 100_00)), cancelled("c1")], into: &outputs)
    let wanted = texts(first)
    first.aggregateCancelled(1, sign: -1)
    first.earlier.isRateOfCancellation = true
    first.aggregateCancelled(1, sign: 1)
    first.settleAggregates()
    #expect(texts(first) != wanted)
    var second = Matcher(policy: ExchangeTests.policy(), dimensionCount: 0)
    second.aggregates = TaskAggregates(dimensionCount: 0)
    let state = WrittenState(first)
    try second.read(shard: state.shard)
    try second.read(sums: state.sums)
    try second.read(cells: state.cells)
    second.cancelledSums = .atLaterRate
    second.takeBackCancelled()
    #expect(texts(second) == wanted)
  }
}

extension Matcher {
  /// Makes the sums of a tie as an earlier version had them.
  fileprivate mutating func makeEarlier(_ slot: Int, releaseDay: Int32?) {
    texts.reset()
    let current = expectations
    if isRevising { expectations = revision.old }
    aggregateCancelled(slot, sign: -1)
    var facts = facts(slot)
    while facts.next() {
      var fact = Fact(facts, number: 0, texts: &texts)
      let day = fact.kind == .invoiceCancelled ? releaseDay : nil
      withUnsafePointer(to: &fact) {
        aggregate($0, sign: -1)
        earlier = EarlierRules(releaseDay: day, isRemainderWhole: true)
        aggregate($0, sign: 1)
        earlier = EarlierRules()
      }
    }
    expectations = current
    settleAggregates()
  }
}
