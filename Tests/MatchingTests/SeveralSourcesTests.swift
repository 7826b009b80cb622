import Domain
import Testing

@testable import Matching

/// Ids tell re-deliveries within a source. Two sources may count from 1, each by itself.
@Suite struct SeveralSourcesTests {
  let records = Records()

  func invoice(id: String = "1", source: UInt16 = 0) -> OrderEvent {
    var event = records.event("A", id: id, document: "I1", net: 100_00, gross: 100_00)
    event.position.source = source
    return event
  }

  func payment(id: String, source: UInt16) -> OrderEvent {
    var event = records.event("A", .paid, id: id, at: t0 + hour, document: "P1", applied: 100_00)
    event.position.source = source
    return event
  }

  func lines(
    _ lines: [(AccountRole, Int64)], journal: String, document: String, source: UInt16, ids: String? = nil,
    at time_ms: Int64 = t0 + 1_000
  ) -> [Posting] {
    lines.enumerated().map { at, line in
      var posting = records.posting("A", line.0, line.1, journal: journal, at: time_ms, document: document)
      posting.id = records.view("\(ids ?? journal)-\(at + 1)")
      posting.position.source = source
      return posting
    }
  }

  /// Breaks, and the counts of what was dropped, in whatever order it comes; the quick judgement must not differ.
  func judged(_ events: [OrderEvent], _ postings: [Posting]) -> (found: [String], duplicates: Int, superseded: Int) {
    let inputs = events.map { Input.order($0) } + postings.map { Input.posting($0) }
    var answers: [(found: [String], duplicates: Int, superseded: Int)] = []
    for (isReversed, isQuick) in [(false, true), (true, true), (false, false)] {
      var matcher = Matcher(policy: testPolicy(), dimensionCount: 0)
      matcher.judgesQuickly = isQuick
      var outputs = MatchOutputs()
      matcher.take(isReversed ? inputs.reversed() : inputs, into: &outputs)
      matcher.finish(outputs: &outputs)
      expectControlTotals(matcher.totals)
      var last: [String: Break] = [:]
      for made in outputs.breaks { last[made.id] = made }
      answers.append(
        (
          last.filter { $0.value.state.isOpen }.keys.sorted(), matcher.counters.duplicates,
          matcher.counters.superseded
        ))
    }
    for answer in answers.dropFirst() { #expect(answer == answers[0]) }
    return answers[0]
  }

  @Test func linesOfTwoLedgersMayHaveOneId() {
    let sale = lines([(.receivable, 100_00), (.revenue, -100_00)], journal: "1", document: "I1", source: 2)
    let cash = lines(
      [(.cash, 100_00), (.receivable, -100_00)], journal: "1", document: "P1", source: 3, at: t0 + hour)
    #expect(judged([invoice(), payment(id: "p1", source: 1)], sale + cash) == ([], 0, 0))
    // The same from one ledger: the later image replaces the earlier.
    let replaced = cash.map {
      var posting = $0
      posting.position.source = 2
      return posting
    }
    #expect(judged([invoice(), payment(id: "p1", source: 1)], sale + replaced).superseded == 2)
  }

  @Test func eventsOfTwoSourcesMayHaveOneId() {
    let sale = lines([(.receivable, 100_00), (.revenue, -100_00)], journal: "1", document: "I1", source: 2)
    let cash = lines(
      [(.cash, 100_00), (.receivable, -100_00)], journal: "b1", document: "P1", source: 2, at: t0 + hour)
    #expect(judged([invoice(), payment(id: "1", source: 1)], sale + cash) == ([], 0, 0))
    // Of one source it is a conflict: the first counts.
    #expect(
      judged([invoice(), payment(id: "1", source: 0)], sale + cash).found.contains("A:DUPLICATE_ORDER_EVENT:receivable")
    )
  }

  @Test func oneEventThatTwoSourcesTellIsTwo() {
    let sale = lines([(.receivable, 100_00), (.revenue, -100_00)], journal: "1", document: "I1", source: 2)
    let answer = judged([invoice(), invoice(source: 1)], sale)
    #expect(answer.duplicates == 0 && !answer.found.isEmpty)
    #expect(judged([invoice(), invoice()], sale) == ([], 1, 0))
  }

  @Test(arguments: ["1", "b1"]) func aDocumentThatTwoLedgersPostIsADuplicate(ids: String) {
    let sale = [(AccountRole.receivable, Int64(100_00)), (.revenue, -100_00)]
    let first = lines(sale, journal: "1", document: "I1", source: 2)
    // With the number that it has in the first ledger, and whatever the lines are called.
    let second = lines(sale, journal: "1", document: "I1", source: 3, ids: ids)
    #expect(judged([invoice()], first + second) == (["A:DUPLICATE_POSTING:receivable"], 0, 0))
  }

  @Test func aRowIsDeletedInItsOwnSourceAlone() {
    let sale = [(AccountRole.receivable, Int64(100_00)), (.revenue, -100_00)]
    let kept = lines(sale, journal: "1", document: "I1", source: 2)
    let gone = lines(sale, journal: "1", document: "I1", source: 3)
    let deletes = gone.map {
      var posting = $0
      posting.isDelete = true
      posting.time_ms += hour
      posting.position.offset += 100
      return posting
    }
    let answer = judged([invoice()], kept + gone + deletes)
    #expect(answer.found == [] && answer.duplicates + answer.superseded == 2)
  }
}
