import Domain
import Testing

@testable import Matching

/// Records that broke validation rules which flag: the order has a break, whatever its amounts say.
@Suite struct DataQualityTests {
  let policy = testPolicy { $0.flagNames = [["known customer", "plausible date"], ["journal"]] }

  func inputs(_ records: Records, order rules: UInt16, posting: UInt16 = 0) -> ([OrderEvent], [Posting]) {
    var event = records.event("O", document: "I1", net: 1_000, gross: 1_000)
    event.brokenRules = rules
    var postings = records.invoice("O", net: 1_000, document: "I1")
    postings[0].brokenRules = posting
    return ([event], postings)
  }

  @Test func anOrderThatAgreesHasOneBreakForAllOfThem() throws {
    let records = Records()
    let (events, postings) = inputs(records, order: 0b10, posting: 1)
    let found = finalBreaks(events.map { .order($0) } + postings.map { .posting($0) }, policy: policy)
    let made = try #require(found["O:DATA_QUALITY:receivable"])
    #expect(found.count == 1 && made.state == .open && made.delta == 0)
    #expect(made.reason == "2 record(s) broke journal, plausible date")
    // Without the flag there is nothing to say.
    let (clean, rest) = inputs(records, order: 0)
    #expect(verdicts(clean, rest, policy: policy) == [])
  }

  @Test func anUnknownReferenceHasABreakOfItsOwn() throws {
    let records = Records()
    let (events, postings) = inputs(records, order: 0b11, posting: 1)
    var known = policy
    known.missingFlags = [0b01, 0]
    let found = finalBreaks(events.map { .order($0) } + postings.map { .posting($0) }, policy: known)
    #expect(found.count == 2)
    let missing = try #require(found["O:MASTER_DATA_MISSING:receivable"])
    #expect(missing.state == .open && missing.reason == "1 record(s) broke known customer")
    #expect(found["O:DATA_QUALITY:receivable"]?.reason == "2 record(s) broke journal, plausible date")
  }

  @Test func theAmountsAreStillJudged() {
    let records = Records()
    let (events, _) = inputs(records, order: 1)
    #expect(verdicts(events, [], policy: policy) == ["DATA_QUALITY:receivable", "MISSING_IN_LEDGER:receivable"])
  }

  @Test func aNewerImageThatKeepsTheRulesClosesIt() {
    let records = Records()
    let (made, postings) = inputs(records, order: 1)
    var events = made
    events[0].isUpsert = true
    var newer = events[0]
    newer.brokenRules = 0
    newer.position.offset += 100
    let all = [Input.order(events[0])] + postings.map { Input.posting($0) }
    var matcher = Matcher(policy: policy, dimensionCount: 0)
    var outputs = MatchOutputs()
    matcher.take(all, into: &outputs)
    matcher.finish(outputs: &outputs)
    #expect(outputs.breaks.last?.type == .dataQuality && outputs.breaks.last?.state == .open)
    #expect(verdicts([events[0], newer], postings, policy: policy) == [])
  }

  /// What was broken is a part of the state: a restored task says the same.
  @Test func brokenRulesAreInTheState() throws {
    let records = Records()
    let (events, postings) = inputs(records, order: 0b11)
    var first = Matcher(policy: policy, dimensionCount: 0)
    var outputs = MatchOutputs()
    first.take(events.map { .order($0) }, into: &outputs)
    var sums = ByteWriter()
    var shard = ByteWriter()
    first.exportSums(into: &sums)
    first.exportShard(0, bits: 0, into: &shard)
    var second = Matcher(policy: policy, dimensionCount: 0)
    try shard.array.withUnsafeBytes { bytes in
      var reader = ByteReader(bytes)
      try second.importShard(0, bits: 0, from: &reader)
    }
    try sums.array.withUnsafeBytes { bytes in
      var reader = ByteReader(bytes)
      try second.importSums(from: &reader)
    }
    var others = MatchOutputs()
    let rest = postings.map { Input.posting($0) }
    first.take(rest, into: &outputs)
    second.take(rest, into: &others)
    first.finish(outputs: &outputs)
    second.finish(outputs: &others)
    #expect(outputs.breaks.map(\.reason) == others.breaks.map(\.reason))
    #expect(others.breaks.contains { $0.reason == "1 record(s) broke known customer, plausible date" })
  }
}
