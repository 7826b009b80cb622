import Aggregates
import Domain
import Testing

@testable import Matching

/// Severity by age, and mirror entries between companies.
@Suite struct AgeTests {
  let r = Records()
  static let policy = testPolicy {
    var checks = FinanceChecks()
    checks.severityAges_ms = [24 * hour, 72 * hour, 120 * hour]
    $0.checks = checks
  }
  /// Window and grace of `testPolicy`.
  static let horizon = 25 * hour

  func revisions(_ steps: [Int64], _ policy: MatchingPolicy = AgeTests.policy, net: Int64 = 10_00) -> [Break] {
    var matcher = Matcher(policy: policy, dimensionCount: 0)
    var outputs = MatchOutputs()
    matcher.take([.order(r.event("O1", net: net, gross: net))], into: &outputs)
    for step in steps {
      matcher.watermarks.force(step)
      matcher.advance(now_ms: t0 + 1_000 * hour, outputs: &outputs)
    }
    expectControlTotals(matcher.totals)
    return outputs.breaks
  }

  @Test func openBreaksGrowMoreSevere() {
    let due = t0 + Self.horizon
    // To the millisecond, both ways.
    let found = revisions([
      due + 1, due + 24 * hour, due + 24 * hour + 1, due + 72 * hour, due + 72 * hour + 1, due + 120 * hour + 1,
      due + 900 * hour,
    ])
    #expect(found.map(\.severity) == [.low, .medium, .high, .critical])
    #expect(found.map(\.revision) == [1, 2, 3, 4] && found.allSatisfy { $0.state == .open })
    #expect(found.map(\.asOf_ms) == [due, due + 24 * hour, due + 72 * hour, due + 120 * hour])
    // Nothing of it where age does not count.
    #expect(revisions([due + 1, due + 900 * hour], testPolicy()).map(\.severity) == [.low])
    // An amount that is as severe is not told again.
    #expect(revisions([due + 1, due + 25 * hour, due + 73 * hour], net: 10_000_00).map(\.severity) == [.high])
  }

  /// Since when a break has been open does not depend on how time came to where it is.
  @Test func openedIsNotMovedByALeap() {
    let due = t0 + Self.horizon
    func opened(_ steps: [Int64]) -> [Int128] {
      var matcher = Matcher(policy: Self.policy, dimensionCount: 0)
      matcher.quality = TaskQuality(sourceCount: 2)
      var outputs = MatchOutputs()
      matcher.take([.order(r.event("O1", net: 10_00, gross: 10_00))], into: &outputs)
      for step in steps {
        matcher.watermarks.force(step)
        matcher.advance(now_ms: t0 + 1_000 * hour, outputs: &outputs)
      }
      return matcher.qualityControl!.lines.map { $0.openedAt_s / max(1, $0.aged) }
    }
    #expect(opened([due + 80 * hour]) == [Int128(due / 1_000)])
    #expect(opened([due + 1, due + 30 * hour, due + 80 * hour]) == [Int128(due / 1_000)])
  }

  @Test func aLeapOfTimeComesToTheSameEnd() {
    let due = t0 + Self.horizon
    let leap = revisions([due + 80 * hour])
    let steps = revisions([due + 1, due + 30 * hour, due + 80 * hour])
    #expect(leap.map(\.severity) == [.high] && steps.last?.severity == .high)
    #expect(leap.last?.asOf_ms == steps.last?.asOf_ms)
    // The end of a bounded input is no age: the latest event is the clock.
    var matcher = Matcher(policy: Self.policy, dimensionCount: 0)
    var outputs = MatchOutputs()
    matcher.take(
      [.order(r.event("O1", net: 10_00, gross: 10_00)), .order(r.event("O2", .booked, at: t0 + 60 * hour))],
      into: &outputs)
    matcher.finish(outputs: &outputs)
    #expect(outputs.breaks.map(\.severity) == [.medium])
  }

  @Test func whatIsClearedOrAcceptedDoesNotAge() {
    let due = t0 + Self.horizon
    var matcher = Matcher(policy: Self.policy, dimensionCount: 0)
    var outputs = MatchOutputs()
    func advance(_ time_ms: Int64) {
      matcher.watermarks.force(time_ms)
      matcher.advance(now_ms: t0 + 1_000 * hour, outputs: &outputs)
    }
    matcher.take([.order(r.event("O1", net: 10_00, gross: 10_00))], into: &outputs)
    advance(due + 1)
    matcher.take(r.invoice("O1", net: 10_00).map { .posting($0) }, into: &outputs)
    advance(due + hour)
    let cleared = outputs.breaks.count
    advance(due + 130 * hour)
    #expect(outputs.breaks.count == cleared)
    #expect(outputs.breaks.last { $0.type == .missingInLedger }?.state == .autoCleared)
  }

  /// Ages are in the state of a checkpoint: what is restored goes on where it was.
  @Test func aRestoredStateGoesOnAgeing() throws {
    let due = t0 + Self.horizon
    var matcher = Matcher(policy: Self.policy, dimensionCount: 0)
    var outputs = MatchOutputs()
    matcher.take([.order(r.event("O1", net: 10_00, gross: 10_00))], into: &outputs)
    matcher.watermarks.force(due + 1)
    matcher.advance(now_ms: t0, outputs: &outputs)
    var writer = ByteWriter()
    matcher.exportShard(0, bits: 0, into: &writer)
    let bytes = writer.array
    var restored = Matcher(policy: Self.policy, dimensionCount: 0)
    try bytes.withUnsafeBytes { raw in
      var reader = ByteReader(raw)
      try restored.importShard(0, bits: 0, from: &reader)
    }
    outputs.removeAll()
    restored.watermarks.force(due + 25 * hour)
    restored.advance(now_ms: t0, outputs: &outputs)
    #expect(outputs.breaks.map(\.severity) == [.medium] && outputs.breaks.map(\.revision) == [2])
  }

  // MARK: - Intercompany

  @Test func thePartnersEntryIsThePartners() {
    var checks = FinanceChecks()
    (checks.mirrorsIntercompany, checks.entity) = (true, 0)
    func told(_ postings: [Posting], mirrors: Bool = true) -> [String] {
      checks.mirrorsIntercompany = mirrors
      var sale = r.event("O1", document: "INV1", net: 100_00, gross: 100_00)
      sale.dimensions[0] = r.view("DE")
      var matcher = Matcher(policy: testPolicy { $0.checks = checks }, dimensionCount: 1)
      var outputs = MatchOutputs()
      matcher.take([.order(sale)] + postings.map { .posting($0) }, into: &outputs)
      matcher.finish(outputs: &outputs)
      return outputs.breaks.map(\.id).sorted()
    }
    func lines(
      _ journal: String, _ entity: String, _ customer: String, _ amounts: [(AccountRole, Int64)]
    ) -> [Posting] {
      amounts.map {
        var posting = r.posting("O1", $0.0, $0.1, journal: journal, customer: customer, document: journal)
        posting.dimensions[0] = r.view(entity)
        return posting
      }
    }
    let own = lines("INV1", "DE", "C1", [(.receivable, 100_00), (.revenue, -100_00)])
    let theirs = lines("IC1", "US", "DE", [(.intercompany, 80_00), (.cogs, -80_00)])
    let mirror = lines("IC2", "DE", "US", [(.cogs, 80_00), (.intercompany, -80_00)])
    #expect(told(own + theirs + mirror) == [])
    #expect(
      told(own + theirs + mirror, mirrors: false) == ["O1:WRONG_CUSTOMER:receivable", "O1:WRONG_ENTITY:receivable"])
    // A line of another journal is none of theirs.
    let stray = lines("X1", "US", "C1", [(.cash, 5_00), (.clearing, -5_00), (.cash, -5_00), (.clearing, 5_00)])
      .enumerated().map { at, line in
        var line = line
        line.id = r.view("X1-\(at)")
        return line
      }
    #expect(told(own + theirs + mirror + stray) == ["O1:WRONG_ENTITY:receivable"])
  }

  @Test func intercompanyEntriesAreMirrored() {
    let policy = testPolicy {
      var checks = FinanceChecks()
      checks.mirrorsIntercompany = true
      $0.checks = checks
    }
    let sale = r.event("O1", document: "INV1", net: 100_00, gross: 100_00)
    let own = r.invoice("O1", net: 100_00, journal: "J0", document: "INV1")
    func lines(_ journal: String, _ amounts: [(AccountRole, Int64)]) -> [Posting] {
      amounts.map { r.posting("O1", $0.0, $0.1, journal: journal, document: "IC1") }
    }
    let entry = lines("DE-1", [(.intercompany, 119_00), (.revenue, -100_00), (.tax, -19_00)])
    let mirror = lines("FR-1", [(.cogs, 119_00), (.intercompany, -119_00)])
    func told(_ postings: [Posting], _ policy: MatchingPolicy = policy) -> [String] {
      verdicts([sale], own + postings, policy: policy)
    }
    #expect(told(entry) == ["INTERCOMPANY_UNMATCHED:intercompany"])
    // The mirror entry is there, and what both of them have posted elsewhere is no order's.
    #expect(!told(entry + mirror).contains { $0.hasPrefix("INTERCOMPANY") } && !told(entry + mirror).isEmpty)
    // With another amount.
    let small = lines("FR-1", [(.cogs, 110_00), (.intercompany, -110_00)])
    #expect(told(entry + small).contains("INTERCOMPANY_UNMATCHED:intercompany"))
    #expect(!told(entry, testPolicy()).contains { $0.hasPrefix("INTERCOMPANY") })
    let breaks = finalBreaks(
      [.order(sale)] + (own + entry).map { .posting($0) }, policy: policy)
    #expect(breaks.values.first?.reason == "no mirror entry answers DE-1")
    // Before the deadline it may come.
    var matcher = Matcher(policy: policy, dimensionCount: 0)
    var outputs = MatchOutputs()
    matcher.take([.order(sale)] + (own + entry).map { .posting($0) }, into: &outputs)
    matcher.watermarks.force(t0 + 2 * hour)
    matcher.advance(now_ms: t0 + 2 * hour, outputs: &outputs)
    #expect(outputs.breaks.map(\.type) == [.partial])
  }
}
