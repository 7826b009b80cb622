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
  func journal(_ amount: Int64, _ number: String = "WO") -> [Input] {
    [(AccountRole.writeOff, amount), (.receivable, -amount)].map {
      .posting(r.posting("O1", $0.0, $0.1, journal: number, at: t0 + 3 * horizon, document: "INV1"))
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

  /// Two parts of one break are written off one after the other: what is posted of both is what was asked for.
  @Test(arguments: policies) func partsOfOneBreakStandBesideEachOther(policy: MatchingPolicy) throws {
    var matcher = Matcher(policy: policy, dimensionCount: 0)
    let broken = shortPaid(&matcher)
    let made = try #require(broken)
    var outputs = MatchOutputs()
    #expect(matcher.apply(written(1_25, of: made), now_ms: now, outputs: &outputs) == .decided)
    matcher.take(journal(1_25), now_ms: now, into: &outputs)
    tick(&matcher, to: t0 + 6 * horizon, &outputs)
    #expect(matcher.counters.open.reduce(0, +) == 1, "0.75 are still open")
    let told = outputs.breaks.last { $0.id == made.id }
    #expect(told?.affected == -2_00 && told?.decision == nil)
    #expect(told?.roles.first { $0.role == .writeOff }?.delta == 1_25)
    #expect(matcher.apply(written(75, of: made, id: "w2"), now_ms: now, outputs: &outputs) == .decided)
    #expect(matcher.counters.open.reduce(0, +) == 1, "what is posted is the first one's")
    matcher.take(journal(75, "WO2"), now_ms: now, into: &outputs)
    tick(&matcher, to: t0 + 9 * horizon, &outputs)
    #expect(states(outputs)[made.id] == .accepted, "\(outputs.breaks)")
    #expect(outputs.breaks.last { $0.id == made.id }?.decision?.action == "w2")
    #expect(matcher.counters.open.allSatisfy { $0 == 0 })
    expectControlTotals(matcher.totals)
    // And it is so for whoever goes on with the state.
    let state = WrittenState(matcher)
    var other = Matcher(policy: policy, dimensionCount: 0)
    try other.read(shard: state.shard)
    let known = other.decisions.values.flatMap(\.entries).flatMap(\.writeOffs).map(\.writtenOff?.amount)
    #expect(known == [1_25, 75])
  }

  /// What is written off of a receivable in part leaves the rest open, there and where it came from.
  @Test func theRestOfABalanceStaysOpen() {
    var matcher = Matcher(policy: testPolicy(), dimensionCount: 0)
    matcher.takesActions = true
    var outputs = MatchOutputs()
    matcher.take(
      [.order(r.event("O1", document: "INV1", net: 100_00, tax: 20_00, gross: 120_00))]
        + r.invoice("O1", net: 102_00, tax: 20_40, journal: "J0", document: "INV1").map { .posting($0) }, now_ms: now,
      into: &outputs)
    tick(&matcher, to: t0 + 2 * horizon, &outputs)
    #expect(outputs.breaks.count == 1)
    let made = outputs.breaks[0]
    #expect(matcher.apply(written(1_25, of: made), now_ms: now, outputs: &outputs) == .decided)
    matcher.take(journal(1_25), now_ms: now, into: &outputs)
    tick(&matcher, to: t0 + 6 * horizon, &outputs)
    #expect(matcher.counters.open.reduce(0, +) > 0, "\(outputs.breaks.map(\.reason))")
    for line in matcher.totals.lines {
      switch line.role {
      case .receivable: #expect(line.open == 1_15 && line.accepted == 0)
      case .writeOff: #expect(line.open == 0 && line.accepted == 1_25)
      case .revenue, .tax: #expect(line.open <= 0 && line.accepted <= 0)
      default: break
      }
    }
    expectControlTotals(matcher.totals)
    #expect(matcher.apply(written(1_15, of: made, id: "w2"), now_ms: now, outputs: &outputs) == .decided)
    matcher.take(journal(1_15, "WO2"), now_ms: now, into: &outputs)
    tick(&matcher, to: t0 + 9 * horizon, &outputs)
    #expect(matcher.counters.open.allSatisfy { $0 == 0 }, "\(states(outputs))")
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

  /// Of a balance that several breaks share each says which part is its own; where it has all of it, nothing.
  @Test func aBreakSaysWhatItExplainsOfEachRole() throws {
    let paid = r.event("O1", .paid, at: t0 + 100, document: "PAY1", applied: 100_00)
    let cash = [(AccountRole.cash, Int64(98_00)), (.receivable, -98_00)]
    let breaks = finalBreaks(
      [.order(r.event("O1", document: "INV1", net: 100_00, gross: 100_00)), .order(paid)]
        + (r.invoice("O1", net: 103_00, journal: "J0", document: "INV1")
        + cash.map { r.posting("O1", $0.0, $0.1, journal: "J1", document: "PAY1") }).map { .posting($0) },
      policy: CashTests.policy)
    func parts(_ made: Break) -> [String] {
      made.roles.filter { $0.delta != 0 }.map { "\($0.role.name) \($0.delta) \($0.affected.map { "\($0)" } ?? "all")" }
    }
    let short = try #require(breaks["O1:SHORT_PAY:cash"])
    #expect(parts(short) == ["receivable 500 200", "revenue -300 0", "cash -200 all"])
    let other = try #require(breaks.values.first { $0.id != short.id })
    #expect(breaks.count == 2 && parts(other) == ["receivable 500 300", "revenue -300 all", "cash -200 0"])
    // One that is alone has all of it.
    let alone = finalBreaks(
      [.order(r.event("O2", net: 100_00, gross: 100_00))]
        + r.invoice("O2", net: 103_00, journal: "J0").map { .posting($0) })
    #expect(alone.count == 1 && alone.values.allSatisfy { $0.roles.allSatisfy { $0.affected == nil } })
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
    #expect(entry.writeOffs.map(\.writtenOff?.amount) == [-7] && entry.decision == nil && entry.waiting.count == 1)
    decided.entries = [entry]
    #expect(try TieDecisions(bytes: decided.bytes) == decided)
    #expect(decided.writeOffs == [.init(type: .shortPay, role: .cash, currency: Currency("USD")!, credit: -7)])
    for (number, amount) in [Int64(-3), 5, 4].enumerated() {
      #expect(entry.take(written(amount, of: made, id: "x\(number)")) == .decided)
    }
    decided.entries = [entry]
    #expect(try TieDecisions(bytes: decided.bytes) == decided)
    #expect(
      decided.writeOffs == [.init(type: .shortPay, role: .cash, currency: Currency("USD")!, debit: 9, credit: -10)])
    #expect(entry.writeOff(posted: -7, Currency("USD")!)?.told.action == "w1")
    #expect(entry.writeOff(posted: -8, Currency("USD")!)?.told.action == "x0")
    #expect(entry.writeOff(posted: 9, Currency("USD")!)?.told.action == "x2")
    // More than are told apart lose nothing of their sum.
    for number in 0..<40 { #expect(entry.take(written(-1, of: made, id: "y\(number)")) == .decided) }
    decided.entries = [entry]
    #expect(entry.writeOffs.count == TieDecisions.Entry.maximumWriteOffs)
    #expect(decided.writeOffs.map(\.credit) == [-50] && decided.writeOffs.map(\.debit) == [9])
    #expect(try TieDecisions(bytes: decided.bytes) == decided)
  }

  /// Of one break a decision, one write-off and nothing that waits, as versions wrote it that kept the newest write-off.
  private func earlier(_ parts: UInt8 = 3, first: UInt8 = 0x80) -> [UInt8] {
    var writer = ByteWriter()
    writer.writeVarint(1)
    writer.write(UInt8(BreakType.shortPay.index))
    writer.write(AccountRole.cash.rawValue)
    writer.write(UInt16(0))
    writer.write(UInt8.max)
    writer.write(parts)
    for (state, action) in [(UInt8(2), "a1"), (first, "w1")] {
      writer.write(state)
      writer.write(UInt64(17))
      for text in [action, "ann", "other", "bob"] { writer.write(text: text) }
    }
    writer.write(Currency("USD")!.rawValue)
    writer.write(UInt64(bitPattern: -2_00))
    writer.writeVarint(0)
    writer.writeVarint(1)
    writer.write(UInt64(4711))
    return writer.array
  }

  @Test func whatEarlierVersionsWroteIsRead() throws {
    let read = try TieDecisions(bytes: earlier())
    let entry = try #require(read.entries.first)
    #expect(entry.decision?.told.action == "a1" && entry.writeOffs.map(\.told.action) == ["w1"])
    #expect(entry.writeOffs.first?.writtenOff == .init(currency: Currency("USD")!, amount: -2_00))
    #expect(entry.seen == [4711] && read.bytes == earlier(), "and one write-off is written as it was")
  }

  /// Bits that have no meaning yet: a later version's, which is said instead of something else being read.
  @Test(arguments: [(UInt8(7), UInt8(0x80)), (0x83, 0x80), (3, 0x88), (3, 0xa0)])
  func aLaterVersionsDecisionIsRefusedByName(parts: UInt8, first: UInt8) {
    let fault = #expect(throws: ByteCodingError.self) { _ = try TieDecisions(bytes: earlier(parts, first: first)) }
    #expect("\(fault as Any)".contains("later version of tieout"))
  }
}

extension TieDecisions {
  fileprivate var bytes: [UInt8] {
    var writer = ByteWriter()
    export(into: &writer)
    return writer.array
  }

  fileprivate init(bytes: [UInt8]) throws {
    self = try bytes.withUnsafeBytes { bytes in
      var reader = ByteReader(bytes)
      return try TieDecisions(from: &reader)
    }
  }
}
