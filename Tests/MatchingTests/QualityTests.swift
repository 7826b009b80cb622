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
        found[Int(key.source)][month] = NaiveQuality.Counts(
          records: counts[.records], matched: counts[.matched], duplicates: counts[.duplicates])
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
