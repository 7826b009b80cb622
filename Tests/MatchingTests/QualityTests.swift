import Aggregates
import Domain
import Simulation
import Testing

@testable import Matching

/// What the matcher counts of its sources.
@Suite struct QualityTests {
  func matcher(_ change: (inout MatchingPolicy) -> Void = { _ in }) -> Matcher {
    var matcher = Matcher(policy: testPolicy(change), dimensionCount: 0)
    matcher.quality = TaskQuality(sourceCount: 2)
    matcher.tellSources(2)
    return matcher
  }

  /// Over all periods: orders, ledger.
  func counts(_ matcher: borrowing Matcher) -> [QualityCounts] {
    var sums = [QualityCounts(), QualityCounts()]
    for (key, counts) in matcher.qualityLines { sums[Int(key.source)] += counts }
    return sums
  }

  func words(_ counts: QualityCounts) -> String {
    QualityColumn.allCases.filter { counts[$0] != 0 }.map { "\($0) \(counts[$0])" }.joined(separator: ", ")
  }

  @Test func aRecordIsMatchedWhenTheOtherSideHasSpoken() {
    let r = Records()
    var matcher = matcher()
    var outputs = MatchOutputs()
    matcher.take([.order(r.event("A", net: 100, gross: 100)), .order(r.event("B", net: 1, gross: 1))], into: &outputs)
    #expect(counts(matcher).map(words) == ["records 2", ""])
    matcher.take(r.invoice("A", net: 100, at: t0 + 500).map { .posting($0) }, into: &outputs)
    #expect(counts(matcher).map(words) == ["records 2, matched 1", "records 2, matched 2"])
    // The order waited half a second; the second line of the journal did not wait for anybody.
    #expect(counts(matcher)[0].waits == 1 && counts(matcher)[1].waits == 0)
    #expect(counts(matcher)[0].wait_ms(percent: 50).map { $0 >= 500 && $0 < 625 } == true)
    // A second event of the order is matched as it comes.
    matcher.take([.order(r.event("A", .paid, applied: 5))], into: &outputs)
    #expect(counts(matcher).map(words) == ["records 3, matched 2", "records 2, matched 2"])
    matcher.finish(outputs: &outputs)
    #expect(counts(matcher)[0].unmatched == 1 && counts(matcher)[1].unmatched == 0)
  }

  @Test func repetitionsAreTakenBack() {
    let r = Records()
    var matcher = matcher()
    var outputs = MatchOutputs()
    let event = r.event("A", net: 100, gross: 100)
    let postings = r.invoice("A", net: 100)
    matcher.take(
      [.order(event), .order(event)] + postings.map { .posting($0) } + [.posting(postings[0])], into: &outputs)
    // An older image of a row, of an order whose other side never speaks.
    var row = r.posting("B", .receivable, 5)
    row.isUpsert = true
    var newer = row
    (newer.amount, newer.time_ms) = (6, row.time_ms + 1)
    matcher.take([.posting(newer), .posting(row)], into: &outputs)
    matcher.finish(outputs: &outputs)
    let counts = counts(matcher)
    #expect(
      counts.map(words) == ["records 2, matched 1, duplicates 1", "records 5, matched 2, duplicates 1, superseded 1"])
    #expect(counts[1].unmatched == 1)
  }

  @Test func lateRecordsAreCounted() {
    let r = Records()
    var matcher = matcher()
    var outputs = MatchOutputs()
    matcher.take([.order(r.event("A", at: t0, net: 1, gross: 1))], into: &outputs)
    matcher.watermarks.force(t0 + 30 * hour)
    matcher.take(r.invoice("A", net: 1, at: t0 + 1_000).map { .posting($0) }, into: &outputs)
    matcher.take([.order(r.event("C", at: t0 + 40 * hour, net: 1, gross: 1))], into: &outputs)
    #expect(counts(matcher).map { $0[.late] } == [0, 2])
    #expect(matcher.counters.late == 2)
  }

  /// `USD total/matched` of each source, over all periods.
  func amounts(_ matcher: borrowing Matcher) -> [String] {
    counts(matcher).map { counts in
      counts.amounts.map { "\($0.currency) \($0.total)/\($0.matched)" }.joined(separator: ", ")
    }
  }

  /// `closed, tied out, open, difference` by currency, and the orders.
  func control(_ matcher: borrowing Matcher) -> String {
    let control = matcher.qualityControl!
    return "\(control.tiedOutOrders)/\(control.closedOrders)"
      + control.lines.map { "; \($0.currency) \($0.closed) \($0.tiedOut) \($0.open) \($0.controlDifference)" }.joined()
  }

  @Test func theValueOfARecordIsItsDebits() {
    let r = Records()
    var matcher = matcher()
    var outputs = MatchOutputs()
    // Booking puts nothing into the ledger; billing 120 in dollars, 50 in euros of another order; a payment of 30.
    matcher.take(
      [
        .order(r.event("A", .booked, net: 100, gross: 120)), .order(r.event("A", net: 100, tax: 20, gross: 120)),
        .order(r.event("A", .paid, applied: 30)),
        .order(r.event("B", currency: "EUR", net: 50, gross: 50)),
      ], into: &outputs)
    #expect(amounts(matcher) == ["EUR 50/0, USD 150/0", ""])
    matcher.take(r.invoice("A", net: 100, tax: 20).map { .posting($0) }, into: &outputs)
    #expect(amounts(matcher) == ["EUR 50/0, USD 150/150", "USD 120/120"])
    // A ledger line without an order, and a reversal of it: both are debits that were made.
    matcher.take(r.invoice("C", net: 7).map { .posting($0) }, into: &outputs)
    let reversal = r.invoice("C", net: -7, journal: "JE2", at: t0 + 2_000)
    matcher.take(reversal.map { .posting($0) }, into: &outputs)
    #expect(amounts(matcher) == ["EUR 50/0, USD 150/150", "USD 134/120"])
    // What is not due yet is no break: it stands in the control difference until then. Cash and receivable of 30, and
    // receivable and revenue of 50.
    #expect(control(matcher) == "0/0; EUR 0 0 0 100; USD 0 0 0 60")
    matcher.finish(outputs: &outputs)
    #expect(amounts(matcher) == ["EUR 50/0, USD 150/150", "USD 134/120"])
    let all = matcher.qualityControl!
    #expect(all.closedOrders == 3 && all.lines.allSatisfy { $0.controlDifference == 0 })
    #expect(all.lines.map { "\($0.currency) \($0.open)" } == ["EUR 50", "USD 30"])
    // The control totals are the matcher's own, role by role.
    for line in matcher.totals.lines {
      let told = all.lines.first { $0.currency == line.currency }!
      let role = Int(line.role.rawValue)
      #expect(told.expected[role] == line.expected && told.posted[role] == line.posted)
      #expect(told.openDifference[role] == line.open && told.acceptedDifference[role] == line.accepted)
    }
  }

  /// A break ages from when it was first told as open, over revisions and restarts; one that opens again begins anew.
  @Test func breaksAge() throws {
    let r = Records()
    var matcher = matcher()
    var outputs = MatchOutputs()
    func opened(_ matcher: borrowing Matcher) -> [Int64] {
      matcher.qualityControl!.lines.map { Int64($0.aged == 0 ? 0 : $0.openedAt_s / $0.aged) }
    }
    matcher.take([.order(r.event("A", net: 100, gross: 100))], into: &outputs)
    matcher.take(r.invoice("A", net: 40).map { .posting($0) }, into: &outputs)
    // Event time goes on with another order, which ties out.
    func move(to time_ms: Int64, _ key: String, _ matcher: inout Matcher) {
      matcher.take([.order(r.event(key, at: time_ms, net: 1, gross: 1))], into: &outputs)
      matcher.take(r.invoice(key, net: 1, at: time_ms).map { .posting($0) }, into: &outputs)
      matcher.advance(now_ms: t0 + 1_000 * hour, outputs: &outputs)
    }
    let first_ms = t0 + 10 * millisecondsPerDay
    move(to: first_ms, "M1", &matcher)
    let told = try #require(outputs.breaks.first { $0.order == "A" })
    #expect(told.state == .open && opened(matcher) == [told.asOf_ms / 1_000])
    // Another amount: a new revision, no new age.
    outputs.removeAll()
    matcher.take(r.invoice("A", net: 20, journal: "JE8", at: t0 + 1).map { .posting($0) }, into: &outputs)
    move(to: first_ms + millisecondsPerDay, "M2", &matcher)
    #expect(outputs.breaks.contains { $0.id == told.id && $0.revision > told.revision && $0.state.isOpen })
    #expect(opened(matcher) == [told.asOf_ms / 1_000])
    // The rest comes: nothing is open, and nothing of it stays.
    matcher.take(r.invoice("A", net: 40, journal: "JE9", at: t0 + 2).map { .posting($0) }, into: &outputs)
    move(to: first_ms + 2 * millisecondsPerDay, "M3", &matcher)
    #expect(outputs.breaks.last { $0.order == "A" }?.state == .autoCleared)
    #expect(matcher.qualityControl!.lines.allSatisfy { $0.open == 0 && $0.aged == 0 && $0.openedAt_s == 0 })
    // One that is taken back opens it again.
    matcher.take(
      r.invoice("A", net: -40, journal: "JE10", at: t0 + 3).map { .posting($0) }, into: &outputs)
    move(to: first_ms + 3 * millisecondsPerDay, "M4", &matcher)
    let again = try #require(outputs.breaks.last { $0.order == "A" && $0.state.isOpen })
    #expect(again.asOf_ms > told.asOf_ms && opened(matcher) == [again.asOf_ms / 1_000])
  }

  @Test func valuesOfRepetitionsAreTakenBack() {
    let r = Records()
    // The other side speaks before, between and after.
    for order in 0..<3 {
      var matcher = matcher()
      var outputs = MatchOutputs()
      let event = r.event("A", id: "e", net: 100, gross: 100)
      // The same id with other content counts for nothing: the earlier one stays.
      let conflict = r.event("A", id: "e", at: t0 + 5, net: 900, gross: 900)
      let postings = r.invoice("A", net: 100)
      var parts: [[Input]] = [
        [.order(conflict), .order(event), .order(event), .order(conflict)],
        (postings + [postings[0], postings[1]]).map { .posting($0) },
      ]
      if order == 1 { parts.reverse() }
      if order == 2 { parts = [Array(parts[0][..<1]), parts[1], Array(parts[0][1...])] }
      for part in parts {
        matcher.take(part, into: &outputs)
        // They are found when the tie is judged, wherever that falls.
        _ = matcher.advance(now_ms: t0 + 1_000 * hour, pace: .atMost(100), outputs: &outputs)
      }
      matcher.finish(outputs: &outputs)
      #expect(amounts(matcher) == ["USD 100/100", "USD 100/100"], "order \(order)")
    }
    // A newer image of a row takes the place of the older one, and a deleted row is worth nothing.
    var matcher = matcher()
    var outputs = MatchOutputs()
    var row = r.posting("B", .receivable, 5)
    row.isUpsert = true
    var newer = row
    (newer.amount, newer.time_ms) = (6, row.time_ms + 1)
    var other = r.posting("B", .cash, 40, line: 9)
    other.isUpsert = true
    var gone = other
    (gone.isDelete, gone.time_ms) = (true, other.time_ms + 1)
    matcher.take([.posting(newer), .posting(row), .posting(other), .posting(gone)], into: &outputs)
    matcher.finish(outputs: &outputs)
    #expect(amounts(matcher) == ["", "USD 6/0"])
  }

  @Test func lateRecordsRevise() {
    let r = Records()
    var matcher = matcher()
    var outputs = MatchOutputs()
    matcher.take([.order(r.event("A", net: 100, gross: 100))], into: &outputs)
    matcher.watermarks.force(t0 + 30 * hour)
    _ = matcher.advance(now_ms: t0 + 1_000 * hour, pace: .atMost(100), outputs: &outputs)
    #expect(control(matcher) == "0/1; USD 100 0 100 0" && amounts(matcher) == ["USD 100/0", ""])
    // Late, and all that was missing: the break is cleared, the order ties out.
    matcher.take(r.invoice("A", net: 100).map { .posting($0) }, into: &outputs)
    matcher.finish(outputs: &outputs)
    #expect(amounts(matcher) == ["USD 100/100", "USD 100/100"])
    let line = matcher.qualityControl!.lines[0]
    #expect(line.closed == 100 && line.open == 0 && line.controlDifference == 0)
    #expect(outputs.breaks.contains { $0.type == .missingInLedger && $0.state == .autoCleared })
  }

  /// Counts and state of random histories are the naive ones, in any order of arrival, with a restart anywhere.
  @Test(arguments: 0..<200 as Range<UInt64>) func countsAreTheNaiveOnes(seed: UInt64) throws {
    // At the end of a month, so that histories lie in two.
    let start_ms = Int64(daysFromCivil(year: 2026, month: 1, day: 31)) * millisecondsPerDay + 22 * hour
    var generator = HistoryGenerator(seed: seed, start_ms: start_ms)
    let history = generator.next()
    let naive = NaiveQuality(history)
    let storage = HistoryStorage()
    var random = SeededRandom(seed: seed)
    let inputs =
      history.events.map { Input.order(storage.record($0)) } + history.postings.map { .posting(storage.record($0)) }
    for _ in 0..<3 {
      let shuffled = inputs.shuffled(using: &random)
      let cut = random.below(shuffled.count + 1)
      var first = matcher()
      var outputs = MatchOutputs()
      first.take(Array(shuffled[..<cut]), into: &outputs)
      // The rest goes to a matcher that was restored.
      var shard = ByteWriter()
      var sums = ByteWriter()
      first.exportShard(0, bits: 0, into: &shard)
      first.exportSums(into: &sums)
      var second = matcher()
      second.watermarks = first.watermarks
      var shardReader = ByteReader(shard.bytes)
      try second.importShard(0, bits: 0, from: &shardReader)
      var sumsReader = ByteReader(sums.bytes)
      try second.importSums(from: &sumsReader)
      second.take(Array(shuffled[cut...]), into: &outputs)
      second.finish(outputs: &outputs)
      var found: [[String: NaiveQuality.Counts]] = [[:], [:]]
      for (key, counts) in second.qualityLines {
        let month = "\(key.period / 100)-0\(key.period % 100)"
        found[Int(key.source)][month] = NaiveQuality.Counts(counts)
      }
      #expect(found == [naive.orders, naive.ledger], "seed \(seed)")
      // An undisturbed matcher comes to the same bytes.
      var straight = matcher()
      straight.take(shuffled, into: &outputs)
      straight.finish(outputs: &outputs)
      var a = ByteWriter()
      var b = ByteWriter()
      straight.exportSums(into: &a)
      second.exportSums(into: &b)
      #expect(a.array == b.array, "seed \(seed)")
    }
    withExtendedLifetime(storage) {}
  }
}
