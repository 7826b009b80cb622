import Aggregates
import Domain
import Testing

@testable import Matching

/// What comes again, replaces an image of a row or deletes it changes the sums when it comes, not only when its tie is due.
@Suite struct RepetitionTests {
  let r = Records()

  static func matcher(_ policy: MatchingPolicy = testPolicy(), plainly: Bool) -> Matcher {
    var matcher = Matcher(policy: policy, dimensionCount: 0)
    matcher.aggregates = TaskAggregates(dimensionCount: 0)
    matcher.tracksPeriods = true
    // With quality nothing is plain.
    if !plainly { matcher.quality = TaskQuality(sourceCount: 2) }
    return matcher
  }

  /// "receivable 100 60", expected and posted, and what is billed and recognised.
  static func sums(_ matcher: borrowing Matcher) -> [String] {
    let byPeriod = matcher.periodTotals.lines.map { "\($0.line.role.name) \($0.line.expected) \($0.line.posted)" }
    #expect(byPeriod == matcher.totals.lines.map { "\($0.role.name) \($0.expected) \($0.posted)" })
    var texts = byPeriod
    var table = CellTable(dimensionCount: 0)
    matcher.mergeAggregates(into: &table)
    for values in table.lines.map(\.values) {
      let (billed, revenue) = (values.value(.billings), values.value(.recognisedRevenue))
      texts.append("billed \(billed) events \(values[.events]) revenue \(revenue)")
    }
    return texts
  }

  func change(_ posting: Posting, to amount: Int64?, at time_ms: Int64) -> Posting {
    var changed = posting
    changed.time_ms = time_ms
    changed.isUpsert = amount != nil
    changed.isDelete = amount == nil
    if let amount { changed.amount = amount }
    changed.position.offset += 1_000
    return changed
  }

  @Test(arguments: [true, false], [true, false]) func whatComesAgainCountsOnce(plainly: Bool, agrees: Bool) {
    let sale = r.event("O1", net: 100, gross: 100)
    let booked = r.event("O1", .booked, net: 100, gross: 100)
    let lines = r.invoice("O1", net: agrees ? 100 : 90)
    let once = [Input.order(sale), .order(booked)] + lines.map { Input.posting($0) }
    for again in once {
      for place in 1...once.count {
        var matcher = Self.matcher(plainly: plainly)
        var outputs = MatchOutputs()
        matcher.take(once, into: &outputs)
        let expected = Self.sums(matcher)
        var other = Self.matcher(plainly: plainly)
        var inputs = once
        inputs.insert(again, at: place)
        other.take(inputs, into: &outputs)
        #expect(Self.sums(other) == expected)
        #expect(other.counters.duplicates == 1 && outputs.breaks.isEmpty)
      }
    }
  }

  @Test(arguments: [true, false]) func theImageOfARowCountsThatIsTheNewest(plainly: Bool) {
    let lines = r.invoice("O1", net: 1_000)
    var inputs = [Input.order(r.event("O1", net: 100, gross: 100))] + lines.map { Input.posting($0) }
    for line in lines {
      inputs.append(.posting(change(line, to: line.amount / 2, at: t0 + 2_000)))
      inputs.append(.posting(change(line, to: line.amount / 10, at: t0 + 3_000)))
    }
    var matcher = Self.matcher(plainly: plainly)
    var outputs = MatchOutputs()
    matcher.take(inputs, into: &outputs)
    #expect(
      Self.sums(matcher) == ["receivable 100 100", "revenue -100 -100", "billed 100 events 1 revenue 100"])
    matcher.take([.posting(change(lines[0], to: nil, at: t0 + 4_000))], into: &outputs)
    #expect(Self.sums(matcher).first == "receivable 100 0")
    #expect(matcher.counters.superseded == 5)
  }

  /// In a large tie what comes again is looked for when it has grown; a run that ends leaves none.
  @Test(arguments: [true, false]) func anEndLeavesNothingTwice(plainly: Bool) {
    var inputs = [Input.order(r.event("O1", net: 100, gross: 100))]
    for journal in 0..<200 {
      inputs += r.invoice("O1", net: 1, journal: "JE\(journal)").map { .posting($0) }
    }
    inputs += inputs[250...]
    var matcher = Self.matcher(plainly: plainly)
    var outputs = MatchOutputs()
    matcher.take(inputs, into: &outputs)
    matcher.finish(asOf_ms: t0 + 2_000, outputs: &outputs)
    #expect(
      Self.sums(matcher) == ["receivable 100 200", "revenue -100 -200", "billed 100 events 1 revenue 200"])
    #expect(outputs.breaks.isEmpty)
  }

  /// A stretch of a feed that comes again: the row stands as its newest image has it, whatever stood meanwhile.
  @Test(arguments: [true, false]) func aStretchThatComesAgainChangesNothing(plainly: Bool) {
    let r = Records()
    var matcher = Self.matcher(plainly: plainly)
    var outputs = MatchOutputs()
    let created = r.event("A", id: "E", at: t0, net: 100, gross: 100)
    var deleted = r.event("A", id: "E", at: t0 + 1, net: 100, gross: 100)
    deleted.isDelete = true
    let again = r.event("A", id: "E", at: t0 + 2, net: 200, gross: 200)
    for event in [created, deleted, again] { matcher.take([.order(event)], into: &outputs) }
    let before = Self.sums(matcher)
    #expect(!before.isEmpty)
    for event in [created, deleted] { matcher.take([.order(event)], into: &outputs) }
    #expect(Self.sums(matcher) == before)
  }

  /// The shards of a checkpoint are written one after the other, its sums last. What came again in between was in the sums of
  /// an earlier version until its tie was judged: it leaves them once, and not those of a version that had taken it out.
  @Test(arguments: [true, false], [true, false]) func whatCameAgainWhileACheckpointWasWritten(
    isEarlier: Bool, isJudged: Bool
  ) throws {
    let sale = Input.order(r.event("O1", net: 100, gross: 100))
    let lines = r.invoice("O1", net: 90).map { Input.posting($0) }
    var first = Self.matcher(plainly: false)
    first.aggregates = nil
    first.keepsRepetitions = isEarlier
    var outputs = MatchOutputs()
    first.take([sale] + lines, into: &outputs)
    let before = WrittenState(first)
    let again = [sale, lines[0]]
    first.take(again, into: &outputs)
    if isJudged {
      first.watermarks.force(t0 + 30 * hour)
      first.advance(now_ms: t0 + 30 * hour, outputs: &outputs)
    }
    #expect(first.totals.lines[0].expected == (isEarlier && !isJudged ? 200 : 100))
    let after = WrittenState(first)
    var second = Self.matcher(plainly: false)
    second.aggregates = nil
    second.beginRestore(bits: 0, ties: 1, version: isEarlier ? 5 : Matcher.stateVersion)
    try second.read(shard: before.shard)
    second.take(again, into: &outputs)
    if isJudged {
      second.watermarks.force(t0 + 30 * hour)
      second.advance(now_ms: t0 + 30 * hour, outputs: &outputs)
    }
    second.endRestore()
    try second.read(sums: after.sums)
    second.take([lines[0]], into: &outputs)
    second.finish(outputs: &outputs)
    let sums = second.totals.lines.map { "\($0.role.name) \($0.expected) \($0.posted)" }
    #expect(sums == ["receivable 100 90", "revenue -100 -90"])
    #expect(second.counters.duplicates == 3)
    expectControlTotals(second.totals)
  }

  /// What came again, and what a newer image has replaced, is counted alike whether its tie is looked at with every record
  /// or once for all of them.
  @Test(arguments: 0..<150 as Range<UInt64>) func countsDoNotDependOnWhenATieIsLookedAt(seed: UInt64) {
    var generator = SeededGenerator(state: seed)
    let r = Records()
    let (first, kind) = (r.invoice("O1", net: 5)[1], Int.random(in: 0..<3, using: &generator))
    let sale = r.event("O1", net: 5, gross: 5)
    var inputs: [Input] = []
    for number in 0..<Int.random(in: 2...7, using: &generator) {
      let content = Int64.random(in: 1...3, using: &generator)
      let time_ms = t0 + Int64.random(in: 0...2, using: &generator) * (seed % 2 == 0 ? 1_000 : 0)
      if kind == 2 {
        var event = sale
        (event.time_ms, event.amounts[.net], event.amounts[.gross]) = (time_ms, content, content)
        event.isUpsert = Bool.random(using: &generator)
        event.position.offset += Int64(number)
        inputs.append(.order(event))
      } else {
        var posting = first
        (posting.time_ms, posting.amount) = (time_ms, -content)
        posting.isUpsert = kind == 1 && Bool.random(using: &generator)
        posting.position.offset += Int64(number)
        inputs.append(.posting(posting))
      }
    }
    // An event that is no change, after one that is, is a repetition of what stands or evidence beside it.
    if kind == 2 { inputs.sort { !isChange($0) && isChange($1) } }
    func counts(together: Bool) -> [Int] {
      var matcher = Self.matcher(plainly: false)
      var outputs = MatchOutputs()
      matcher.keepsRepetitions = together
      matcher.take(inputs, into: &outputs)
      matcher.keepsRepetitions = false
      matcher.finish(outputs: &outputs)
      return [matcher.counters.duplicates, matcher.counters.superseded]
    }
    #expect(counts(together: true) == counts(together: false), "seed \(seed)")
  }

  private func isChange(_ input: Input) -> Bool {
    switch input {
    case .order(let event): event.isUpsert
    case .posting(let posting): posting.isUpsert
    }
  }
}
