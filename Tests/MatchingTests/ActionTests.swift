import Domain
import Testing

@testable import Matching

/// What people decide about breaks, as the matcher sees it.
@Suite struct ActionTests {
  let r = Records()
  let horizon = 25 * hour
  let now = t0 + 10_000 * hour
  let id = "O1:MISSING_IN_LEDGER:receivable"
  let basis = "100.00||USD"

  func tick(_ matcher: inout Matcher, to time_ms: Int64, _ outputs: inout MatchOutputs) {
    matcher.take([.order(r.event("TICK", .booked, id: "tick-\(time_ms)", at: time_ms))], now_ms: now, into: &outputs)
    matcher.watermarks.observe(source: 1, partition: 0, largest_ms: time_ms, now_ms: now)
    matcher.advance(now_ms: now, outputs: &outputs)
  }

  func action(
    _ name: String, _ kind: BreakAction.Kind, by actor: String = "ann", basis: String? = nil, waits: Bool = false,
    of: String = "", order: String = "O1", at_ms: Int64? = nil
  ) -> BreakAction {
    BreakAction(
      id: name, kind: kind, breakID: "\(order):MISSING_IN_LEDGER:receivable", order: order, actor: actor,
      at_ms: at_ms ?? now, basis: basis ?? self.basis, needsApproval: waits, reasonCode: "timing", of: of)!
  }

  /// A matcher with one open break, found once the deadline had passed.
  func broken(_ matcher: inout Matcher, _ outputs: inout MatchOutputs) {
    matcher.takesActions = true
    matcher.take([.order(r.event("O1", at: t0, net: 100_00, gross: 100_00))], now_ms: now, into: &outputs)
    tick(&matcher, to: t0 + horizon + 1, &outputs)
    #expect(outputs.breaks.map(\.id) == [id] && outputs.breaks.map(\.state) == [.open])
    #expect(outputs.breaks.map(self.basis(of:)) == [basis])
    outputs.removeAll()
  }

  func basis(of made: Break) -> String {
    Break.basis(
      expected: made.expected, posted: made.posted, currency: made.currency, postedCurrency: made.postedCurrency)
  }

  func open(_ matcher: borrowing Matcher) -> Int { matcher.counters.open.reduce(0, +) }

  @Test(arguments: [
    (BreakAction.Kind.explain, BreakState.explained), (.accept, .accepted), (.forceClose, .forceClosed),
  ]) func aDecisionIsARevision(kind: BreakAction.Kind, state: BreakState) {
    var matcher = Matcher(policy: testPolicy(), dimensionCount: 0)
    var outputs = MatchOutputs()
    broken(&matcher, &outputs)
    #expect(matcher.apply(action("a1", kind), now_ms: now, outputs: &outputs) == .decided)
    #expect(outputs.breaks.map(\.state) == [state] && outputs.breaks.map(\.revision) == [2])
    #expect(outputs.breaks.first?.decision == BreakDecision(action: "a1", actor: "ann", reasonCode: "timing"))
    #expect(outputs.breaks.first?.events.isEmpty == false, "with its evidence")
    // What somebody has decided on stands, and is not open: the totals still explain every minor unit.
    #expect(open(matcher) == 0)
    #expect(matcher.counters.tiesTiedOut == 1 || matcher.counters.tiesTiedOut == matcher.counters.tiesClosed)
    for line in matcher.totals.lines where line.role == .receivable {
      #expect(line.accepted == -100_00 && line.open == 0 && line.pending == 0)
    }
    // Again, and then taken back.
    #expect(matcher.apply(action("a1", kind), now_ms: now, outputs: &outputs) == .repeated)
    #expect(outputs.breaks.count == 1)
    #expect(matcher.apply(action("a2", .reopen, by: "bob"), now_ms: now, outputs: &outputs) == .decided)
    #expect(outputs.breaks.last?.state == .reopened && outputs.breaks.last?.decision?.actor == "bob")
    #expect(open(matcher) == 1)
    for line in matcher.totals.lines where line.role == .receivable { #expect(line.open == -100_00) }
    #expect(matcher.counters.actions.taken == 3 && matcher.counters.actions.decided == 2)
  }

  @Test func aDecisionIsAboutOneDifference() {
    var matcher = Matcher(policy: testPolicy(), dimensionCount: 0)
    var outputs = MatchOutputs()
    broken(&matcher, &outputs)
    _ = matcher.apply(action("a0", .accept, basis: "99.00||USD"), now_ms: now, outputs: &outputs)
    #expect(outputs.breaks.isEmpty, "it is about another difference")
    _ = matcher.apply(action("a1", .accept), now_ms: now, outputs: &outputs)
    #expect(outputs.breaks.last?.state == .accepted)
    // One more invoice, and nothing of it in the ledger either.
    outputs.removeAll()
    matcher.take(
      [.order(r.event("O1", id: "second", at: t0 + 1, document: "D2", net: 50_00, gross: 50_00))], now_ms: now,
      into: &outputs)
    tick(&matcher, to: t0 + 2 * horizon, &outputs)
    #expect(outputs.breaks.last?.state == .open && outputs.breaks.last?.expected == 150_00)
    #expect(outputs.breaks.last?.decision == nil)
    // What ties out needs nobody's decision.
    _ = matcher.apply(action("a2", .explain, basis: "150.00||USD"), now_ms: now, outputs: &outputs)
    #expect(outputs.breaks.last?.state == .explained)
    outputs.removeAll()
    matcher.take(
      (r.invoice("O1", net: 100_00, at: t0) + r.invoice("O1", net: 50_00, journal: "JE2", at: t0 + 1, document: "D2"))
        .map { .posting($0) }, now_ms: now, into: &outputs)
    tick(&matcher, to: t0 + 4 * horizon, &outputs)
    let last = outputs.breaks.last { $0.id == id }
    #expect(last?.state == .autoCleared && last?.decision == nil)
    expectControlTotals(matcher.totals)
  }

  @Test func aSecondPersonApproves() {
    var matcher = Matcher(policy: testPolicy(), dimensionCount: 0)
    var outputs = MatchOutputs()
    broken(&matcher, &outputs)
    #expect(matcher.apply(action("w1", .forceClose, waits: true), now_ms: now, outputs: &outputs) == .noted)
    #expect(matcher.apply(action("w2", .approve, of: "w1"), now_ms: now, outputs: &outputs) == .noted)
    #expect(outputs.breaks.isEmpty, "nobody approves what they asked for")
    #expect(matcher.apply(action("w3", .approve, by: "bob", of: "w1"), now_ms: now, outputs: &outputs) == .decided)
    #expect(outputs.breaks.last?.state == .forceClosed)
    #expect(
      outputs.breaks.last?.decision
        == BreakDecision(action: "w1", actor: "ann", reasonCode: "timing", approver: "bob"))
    #expect(matcher.apply(action("w4", .reopen), now_ms: now, outputs: &outputs) == .decided)
    _ = matcher.apply(action("w5", .accept, waits: true), now_ms: now, outputs: &outputs)
    _ = matcher.apply(action("w6", .reject, of: "w5"), now_ms: now, outputs: &outputs)
    #expect(matcher.apply(action("w7", .approve, by: "bob", of: "w5"), now_ms: now, outputs: &outputs) == .noted)
    #expect(outputs.breaks.last?.state == .reopened, "what is declined is gone")
  }

  /// The action overtakes the records: it waits in an empty tie, and nobody counts that as one.
  @Test func anActionWaitsForItsOrder() {
    var matcher = Matcher(policy: testPolicy(), dimensionCount: 0)
    var outputs = MatchOutputs()
    matcher.takesActions = true
    #expect(matcher.apply(action("a1", .accept), now_ms: now, outputs: &outputs) == .decided)
    #expect(matcher.apply(action("n1", .accept, order: "NONE", at_ms: t0), now_ms: now, outputs: &outputs) == .decided)
    matcher.take([.order(r.event("O1", at: t0, net: 100_00, gross: 100_00))], now_ms: now, into: &outputs)
    tick(&matcher, to: t0 + horizon + 1, &outputs)
    #expect(outputs.breaks.map(\.state) == [.accepted])
    #expect(outputs.breaks.first?.revision == 1 && outputs.breaks.first?.decision?.action == "a1")
    #expect(matcher.tieCount == 3)
    // As long as an open break would be remembered, from when it was taken.
    tick(&matcher, to: t0 + 90 * 24 * hour, &outputs)
    #expect(matcher.counters.actions.unknown == 0)
    tick(&matcher, to: t0 + 90 * 24 * hour + horizon, &outputs)
    #expect(matcher.counters.actions.unknown == 1)
    #expect(
      matcher.apply(action("n2", .accept, order: "NONE", at_ms: t0), now_ms: now, outputs: &outputs) == .unknown)
    matcher.finish(outputs: &outputs)
    #expect(matcher.counters.tiesOpened == matcher.counters.tiesClosed)
    #expect(outputs.breaks.count == 1)
  }

  /// While records are on their way together, a decision does not bring the judgement forward.
  @Test func aDecisionDoesNotJudgeHalfADocument() {
    var matcher = Matcher(policy: testPolicy(), dimensionCount: 0)
    var outputs = MatchOutputs()
    broken(&matcher, &outputs)
    let postings = r.invoice("O1", net: 100_00, at: t0 + horizon + 1)
    matcher.take([.posting(postings[0])], now_ms: now, into: &outputs)
    #expect(matcher.apply(action("a1", .accept), now_ms: now, outputs: &outputs) == .decided)
    #expect(outputs.breaks.isEmpty)
    matcher.take([.posting(postings[1])], now_ms: now, into: &outputs)
    tick(&matcher, to: t0 + 4 * horizon, &outputs)
    #expect(outputs.breaks.last { $0.id == id }?.state == .autoCleared)
    #expect(!outputs.breaks.contains { $0.type == .amountMismatch || $0.type == .wrongAccountRole })
  }

  /// Through the bytes of a checkpoint: the same state, the same digest, and the same answers from there on.
  @Test func decisionsAreInCheckpoints() throws {
    var matcher = Matcher(policy: testPolicy(), dimensionCount: 0)
    var outputs = MatchOutputs()
    broken(&matcher, &outputs)
    _ = matcher.apply(action("a1", .explain), now_ms: now, outputs: &outputs)
    _ = matcher.apply(action("w1", .forceClose, waits: true), now_ms: now, outputs: &outputs)
    _ = matcher.apply(action("n1", .accept, order: "NONE"), now_ms: now, outputs: &outputs)
    func bytes(_ matcher: borrowing Matcher) -> (shard: [UInt8], sums: [UInt8], digest: UInt64) {
      var shard = ByteWriter()
      var sums = ByteWriter()
      let digest = matcher.exportShard(0, bits: 0, into: &shard).digest
      matcher.exportSums(into: &sums)
      return (shard.array, sums.array, digest)
    }
    let saved = bytes(matcher)
    var time = ByteWriter()
    matcher.watermarks.export(into: &time)
    func read(_ bytes: [UInt8], _ body: (inout ByteReader) throws -> Void) throws {
      try bytes.withUnsafeBytes {
        var reader = ByteReader($0)
        try body(&reader)
      }
    }
    var restored = Matcher(policy: testPolicy(), dimensionCount: 0)
    restored.takesActions = true
    try read(time.array) { try restored.watermarks.restore(from: &$0) }
    try read(saved.shard) { _ = try restored.importShard(0, bits: 0, from: &$0) }
    try read(saved.sums) { try restored.importSums(from: &$0) }
    let again = bytes(restored)
    #expect(again.digest == saved.digest && again.sums == saved.sums)
    #expect(restored.counters.actions == matcher.counters.actions)
    var (first, second) = (MatchOutputs(), MatchOutputs())
    for next in [action("a1", .explain), action("w2", .approve, by: "bob", of: "w1"), action("a3", .reopen)] {
      let one = matcher.apply(next, now_ms: now, outputs: &first)
      #expect(restored.apply(next, now_ms: now, outputs: &second) == one)
    }
    #expect(first.breaks.map(\.state) == [.forceClosed, .reopened])
    #expect(first.breaks == second.breaks)
    #expect(bytes(restored).digest == bytes(matcher).digest)
    // Cut off anywhere, they are refused, and nothing is read beyond.
    for length in saved.shard.indices where length > 0 {
      var other = Matcher(policy: testPolicy(), dimensionCount: 0)
      let cut = Array(saved.shard.prefix(length))
      let taken = try? cut.withUnsafeBytes { bytes in
        var reader = ByteReader(bytes)
        return try other.importShard(0, bits: 0, from: &reader).digest
      }
      #expect(taken != saved.digest)
    }
  }

  /// What one break and one order keep is bounded.
  @Test func whatIsKeptIsBounded() {
    var matcher = Matcher(policy: testPolicy(), dimensionCount: 0)
    var outputs = MatchOutputs()
    broken(&matcher, &outputs)
    for number in 0..<TieDecisions.Entry.maximumWaiting {
      #expect(matcher.apply(action("w\(number)", .accept, waits: true), now_ms: now, outputs: &outputs) == .noted)
    }
    #expect(matcher.apply(action("more", .accept, waits: true), now_ms: now, outputs: &outputs) == .refused)
    for number in 0..<2 * TieDecisions.Entry.maximumSeen {
      _ = matcher.apply(action("r\(number)", .reopen), now_ms: now, outputs: &outputs)
    }
    let slot = matcher.decisions.keys.first!
    #expect(matcher.decisions[slot]!.entries[0].seen.count == TieDecisions.Entry.maximumSeen)
    var refused = 0
    for type in BreakType.allCases {
      for role in AccountRole.allCases {
        let made = BreakAction(
          id: "b", kind: .accept, breakID: Break.id(order: "O1", type: type, role: role), order: "O1", actor: "ann",
          at_ms: now, basis: basis)!
        if matcher.apply(made, now_ms: now, outputs: &outputs) == .refused { refused += 1 }
      }
    }
    #expect(matcher.decisions[slot]!.entries.count == TieDecisions.maximumEntries)
    #expect(refused > 0 && matcher.counters.actions.refused == refused + 1)
  }

  @Test func idsAreTakenApartFromTheRight() {
    func parse(_ id: String, _ order: String) -> BreakAction? {
      BreakAction(id: "a", kind: .accept, breakID: id, order: order, actor: "ann", at_ms: 0, basis: "")
    }
    let made = parse("A:B:AMOUNT_MISMATCH:write_off:EUR", "A:B")
    #expect(made?.type == .amountMismatch && made?.role == .writeOff && made?.otherCurrency == Currency("EUR"))
    #expect(parse("O1:AMOUNT_MISMATCH:revenue", "O1")?.otherCurrency == Currency.none)
    for (id, order) in [
      ("O1:AMOUNT_MISMATCH:revenue", "O2"), ("O1:NOTHING:revenue", "O1"), ("O1:AMOUNT_MISMATCH:none", "O1"),
      ("O1:AMOUNT_MISMATCH", "O1"), ("O1:AMOUNT_MISMATCH:revenue:EURO", "O1"), ("O1", "O1"), ("", ""),
      ("O1:AMOUNT_MISMATCH:revenue:EUR:x", "O1"),
    ] { #expect(parse(id, order) == nil, "\(id)") }
  }
}
