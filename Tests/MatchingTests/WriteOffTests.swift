import Domain
import Testing

@testable import Matching

/// Write-offs that somebody asked for: the posting of their journal settles the break.
@Suite struct WriteOffTests {
  let r = Records()
  let horizon = 25 * hour
  let now = t0 + 10_000 * hour
  static let policies = [testPolicy(), CashTests.policy]

  func tick(_ matcher: inout Matcher, to time_ms: Int64, _ outputs: inout MatchOutputs) {
    matcher.take([.order(r.event("TICK", .booked, id: "tick-\(time_ms)", at: time_ms))], now_ms: now, into: &outputs)
    matcher.watermarks.observe(source: 1, partition: 0, largest_ms: time_ms, now_ms: now)
    matcher.advance(now_ms: now, outputs: &outputs)
  }

  /// An invoice of 100.00 that was paid, of which 98.00 came in. Returns the break that is open.
  func shortPaid(_ matcher: inout Matcher) -> Break? {
    var outputs = MatchOutputs()
    matcher.takesActions = true
    let paid = r.event("O1", .paid, at: t0 + 100, document: "PAY1", applied: 100_00)
    let cash = [(AccountRole.cash, Int64(98_00)), (.receivable, -98_00)]
    matcher.take(
      [.order(r.event("O1", document: "INV1", net: 100_00, gross: 100_00)), .order(paid)]
        + (r.invoice("O1", net: 100_00, journal: "J0", document: "INV1")
        + cash.map { r.posting("O1", $0.0, $0.1, journal: "J1", document: "PAY1") }).map { .posting($0) },
      now_ms: now, into: &outputs)
    tick(&matcher, to: t0 + 2 * horizon, &outputs)
    #expect(outputs.breaks.count == 1 && outputs.breaks[0].state == .open && outputs.breaks[0].affected == -2_00)
    return outputs.breaks.first
  }

  func written(_ amount: Int64, of made: Break, id: String = "w1", waits: Bool = false) -> BreakAction {
    var action = BreakAction(
      id: id, kind: .writeOff, breakID: made.id, order: "O1", actor: "ann", at_ms: now, basis: "100.00|98.00|USD",
      needsApproval: waits, reasonCode: "other")!
    action.writtenOff = .init(currency: Currency("USD")!, amount: amount)
    return action
  }

  /// The journal that the ledger posts.
  func journal(_ amount: Int64) -> [Input] {
    [(AccountRole.writeOff, amount), (.receivable, -amount)].map {
      .posting(r.posting("O1", $0.0, $0.1, journal: "WO", at: t0 + 3 * horizon, document: "INV1"))
    }
  }

  /// The newest state of each break.
  func states(_ outputs: MatchOutputs) -> [String: BreakState] {
    Dictionary(outputs.breaks.map { ($0.id, $0.state) }) { $1 }
  }

  @Test(arguments: policies) func itsPostingSettlesTheBreak(policy: MatchingPolicy) throws {
    var matcher = Matcher(policy: policy, dimensionCount: 0)
    let broken = shortPaid(&matcher)
    let made = try #require(broken)
    var outputs = MatchOutputs()
    #expect(matcher.apply(written(2_00, of: made), now_ms: now, outputs: &outputs) == .decided)
    #expect(outputs.breaks.isEmpty, "the posting settles it, not the proposal")
    matcher.take(journal(2_00), now_ms: now, into: &outputs)
    tick(&matcher, to: t0 + 6 * horizon, &outputs)
    #expect(states(outputs) == [made.id: .accepted], "\(outputs.breaks)")
    #expect(outputs.breaks.last?.decision == BreakDecision(action: "w1", actor: "ann", reasonCode: "other"))
    #expect(matcher.counters.open.allSatisfy { $0 == 0 })
    for line in matcher.totals.lines where line.role == .cash { #expect(line.accepted == -2_00 && line.open == 0) }
    expectControlTotals(matcher.totals)
  }

  @Test(arguments: policies) func whatNobodyAskedForDoesNot(policy: MatchingPolicy) throws {
    var matcher = Matcher(policy: policy, dimensionCount: 0)
    let broken = shortPaid(&matcher)
    let made = try #require(broken)
    var outputs = MatchOutputs()
    // What waits for a second person, and what is posted beyond what was asked for, is nobody's decision.
    #expect(matcher.apply(written(2_00, of: made, waits: true), now_ms: now, outputs: &outputs) == .noted)
    matcher.take(journal(2_00), now_ms: now, into: &outputs)
    tick(&matcher, to: t0 + 6 * horizon, &outputs)
    #expect(matcher.counters.open.reduce(0, +) == 1)
    var approval = written(0, of: made, id: "w2")
    (approval.kind, approval.actor, approval.of, approval.writtenOff) = (.approve, "bob", "w1", nil)
    outputs.removeAll()
    #expect(matcher.apply(approval, now_ms: now, outputs: &outputs) == .decided)
    #expect(outputs.breaks.last { $0.id == made.id }?.decision?.approver == "bob")
    #expect(matcher.counters.open.allSatisfy { $0 == 0 })
    matcher.take(
      [(AccountRole.writeOff, Int64(3_00)), (.receivable, -3_00)].map {
        .posting(r.posting("O1", $0.0, $0.1, journal: "WO2", at: t0 + 7 * horizon, document: "INV1"))
      }, now_ms: now, into: &outputs)
    tick(&matcher, to: t0 + 10 * horizon, &outputs)
    #expect(matcher.counters.open.reduce(0, +) > 0, "three more were posted than anybody asked for")
    expectControlTotals(matcher.totals)
  }

  /// What stands too much on the receivable, and as revenue: the receivable is right again, the revenue stays.
  @Test func whatIsBilledTooMuch() {
    var matcher = Matcher(policy: testPolicy(), dimensionCount: 0)
    matcher.takesActions = true
    var outputs = MatchOutputs()
    matcher.take(
      [.order(r.event("O1", document: "INV1", net: 100_00, gross: 100_00))]
        + r.invoice("O1", net: 102_00, journal: "J0", document: "INV1").map { .posting($0) }, now_ms: now,
      into: &outputs)
    tick(&matcher, to: t0 + 2 * horizon, &outputs)
    #expect(outputs.breaks.count == 1)
    #expect(matcher.apply(written(2_00, of: outputs.breaks[0]), now_ms: now, outputs: &outputs) == .decided)
    matcher.take(journal(2_00), now_ms: now, into: &outputs)
    tick(&matcher, to: t0 + 6 * horizon, &outputs)
    #expect(states(outputs).values.allSatisfy { $0 == .accepted }, "\(outputs.breaks)")
    expectControlTotals(matcher.totals)
  }

  @Test func itIsPartOfTheState() throws {
    var decided = TieDecisions()
    var entry = TieDecisions.Entry(
      type: UInt8(BreakType.shortPay.index), role: AccountRole.cash.rawValue, idCurrency: 0)
    let made = Break(
      id: "O1:SHORT_PAY:cash", order: "O1", type: .shortPay, role: .cash, currency: Currency("USD")!, expected: 1,
      posted: 0, state: .open, isProvisional: false, revision: 1, firstEventTime_ms: 0, deadline_ms: 0, asOf_ms: 0)
    #expect(entry.take(written(-7, of: made)) == .decided)
    #expect(entry.take(written(9, of: made, id: "w2", waits: true)) == .noted)
    #expect(entry.writeOff?.writtenOff?.amount == -7 && entry.decision == nil && entry.waiting.count == 1)
    decided.entries = [entry]
    var writer = ByteWriter()
    decided.export(into: &writer)
    var reader = ByteReader(writer.bytes)
    #expect(try TieDecisions(from: &reader) == decided)
    #expect(decided.writeOffs.map(\.written.amount) == [-7])
  }
}
