import Configuration
import Decoding
import Domain
import Foundation
import Testing

@testable import Pipeline

/// Sources that are change feeds, whose rows come and go with the filters of the mapping.
@Suite struct ChangeFeedTests {
  let yaml = """
    name: feed
    sources:
      crm:
        kind: orders
        format: debezium
        where: [{path: st, in: [sent]}]
        fields: {order: o, event_id: id, event: {constant: invoiced}, event_time: {path: $.ts_ms, format: epoch_ms},
          currency: {constant: EUR}, gross: g}
      gl:
        kind: ledger
        format: debezium
        where: [{path: st, not_in: [parked]}, {path: co, in: ["1000"]}]
        fields: {order: o, line_id: id, journal: j, role: r, currency: {constant: EUR},
          event_time: {path: $.ts_ms, format: epoch_ms}}
        amount: m
    policy: {replace_defaults: true, invoiced: {receivable: +gross}}
    """

  func event(_ order: String, _ state: String, id: String = "e1", gross: Int = 10) -> String {
    #"{"o":"\#(order)","id":"\#(id)","g":\#(gross),"st":"\#(state)"}"#
  }

  func line(_ order: String, _ id: String, _ amount: Int, _ state: String = "ok", company: String = "1000") -> String {
    #"{"o":"\#(order)","id":"\#(id)","j":"J\#(id)","r":"receivable","m":\#(amount),"st":"\#(state)","co":"\#(company)"}"#
  }

  func change(_ op: String, _ second: Int, _ before: String?, _ after: String?) -> String {
    let time_ms = 1_704_067_200_000 + second * 1_000
    return #"{"op":"\#(op)","ts_ms":\#(time_ms),"before":\#(before ?? "null"),"after":\#(after ?? "null")}"#
  }

  @Test(arguments: [1, 3]) func rowsThatLeaveTheFiltersCountNoMore(_ threads: Int) throws {
    let scratch = Scratch()
    defer { withExtendedLifetime(scratch) {} }
    let directory = scratch.path
    let configuration = try Configuration.parse(yaml: yaml, file: "f.yaml", directory: directory)
    let orders = [
      change("c", 0, nil, event("A", "sent")),
      change("c", 0, nil, event("B", "draft", id: "e2")),
      change("u", 5, event("B", "draft", id: "e2"), event("B", "sent", id: "e2")),
      // C was sent by mistake, and is a draft again; nothing is in the ledger for it.
      change("c", 0, nil, event("C", "sent", id: "e3")),
      change("u", 9, event("C", "sent", id: "e3"), event("C", "draft", id: "e3")),
    ]
    let ledger = [
      change("c", 1, nil, line("A", "1", 10)), change("c", 1, nil, line("A", "2", 10)),
      // Parked, then with what was before left out, and one that comes back.
      change("u", 3, line("A", "2", 10), line("A", "2", 10, "parked")),
      change("c", 1, nil, line("B", "3", 10)), change("c", 1, nil, line("B", "4", 10)),
      change("u", 3, nil, line("B", "4", 10, company: "2000")),
      change("u", 4, line("B", "3", 10), line("B", "3", 10, "parked")),
      change("u", 5, line("B", "3", 10, "parked"), line("B", "3", 10)),
      // Rows that never were in: no order is known by them.
      change("c", 1, nil, line("X", "5", 10, "parked")), change("r", 1, nil, line("X", "6", 10, "parked")),
      change("u", 2, line("X", "5", 10, "parked"), line("X", "5", 11, "parked")),
      change("d", 3, line("X", "5", 11, "parked"), nil),
    ]
    try orders.joined(separator: "\n").write(toFile: directory + "/o.jsonl", atomically: true, encoding: .utf8)
    try ledger.joined(separator: "\n").write(toFile: directory + "/l.jsonl", atomically: true, encoding: .utf8)
    let summary = try FileReconciler(
      configuration: configuration,
      options: FileRunOptions(
        orders: [directory + "/o.jsonl"], ledger: [directory + "/l.jsonl"], directory: directory + "/out",
        threads: threads, now_ms: 1_790_000_000_000, asOf_ms: nil)
    ).run()
    let breaks = try String(contentsOfFile: directory + "/out/breaks.jsonl", encoding: .utf8)
    #expect(summary.openBreaks == 0 && breaks.isEmpty, "\(breaks)")
    #expect(summary.deadLetters == [:])
    #expect(summary.match.tiesOpened == 3)
    // B's draft, and the four records about X.
    #expect(summary.decode.skipped == 5)
  }

  /// Open breaks of a run over files: an order of 10, and these changes of the one line of its ledger.
  private func open(_ changes: [String], time: String = "{path: $.ts_ms, format: epoch_ms}") throws -> Int {
    try open([changes], orders: ["A"], time: time)
  }

  private func open(_ files: [[String]], orders: [String], time: String) throws -> Int {
    let scratch = Scratch()
    defer { withExtendedLifetime(scratch) {} }
    let directory = scratch.path
    let own = "{path: $.ts_ms, format: epoch_ms}}\n    amount"
    let configuration = try Configuration.parse(
      yaml: yaml.replacing(own, with: "\(time)}\n    amount"), file: "f.yaml", directory: directory)
    try orders.map { change("c", 0, nil, event($0, "sent", id: "e\($0)")) }.joined(separator: "\n").write(
      toFile: directory + "/o.jsonl", atomically: true, encoding: .utf8)
    for (at, changes) in files.enumerated() {
      try changes.joined(separator: "\n").write(
        toFile: "\(directory)/l\(at).jsonl", atomically: true, encoding: .utf8)
    }
    let summary = try FileReconciler(
      configuration: configuration,
      options: FileRunOptions(
        orders: [directory + "/o.jsonl"], ledger: files.indices.map { "\(directory)/l\($0).jsonl" },
        directory: directory + "/out", threads: 2, now_ms: 1_790_000_000_000, asOf_ms: nil)
    ).run()
    #expect(summary.deadLetters == [:])
    return summary.openBreaks
  }

  /// Deleted and written again in one transaction: the last of them counts, whatever there was of the row before.
  @Test func aRowThatIsWrittenAgainAtTheSameTimeCounts() throws {
    let (wrong, right) = (line("A", "1", 9), line("A", "1", 10))
    #expect(try open([change("c", 1, nil, wrong), change("d", 2, wrong, nil), change("c", 2, nil, right)]) == 0)
    #expect(try open([change("d", 2, wrong, nil), change("c", 2, nil, right)]) == 0)
    #expect(try open([change("c", 2, nil, right), change("d", 2, right, nil)]) == 1)
    #expect(
      try open([
        change("c", 2, nil, right), change("u", 2, right, wrong), change("d", 2, wrong, nil),
        change("c", 2, nil, wrong),
        change("u", 2, wrong, right),
      ]) == 0)
    for amount in 1...30 where amount != 10 {
      let first = line("A", "1", amount)
      #expect(try open([change("c", 2, nil, first), change("d", 2, first, nil), change("c", 2, nil, right)]) == 0)
    }
  }

  /// One that was created before an update is not created again without a deletion.
  @Test func aCreationThatComesAgainChangesNothing() throws {
    let (wrong, right) = (line("A", "1", 9), line("A", "1", 10))
    for again in [wrong, right] {
      let changes = [change("c", 2, nil, again), change("u", 2, again, right), change("c", 2, nil, again)]
      #expect(try open(changes) == 0)
    }
    #expect(try open([change("u", 2, wrong, right), change("c", 2, nil, wrong)]) == 0)
  }

  /// An image before the change that has the key columns alone, or what was refused, says which row it is.
  @Test func imagesBeforeNeedNoMoreThanTheKey() throws {
    let key = #"{"o":"B","id":"1","j":null,"r":null,"m":null,"st":null,"co":null}"#
    let wrong = line("B", "1", 10)
    // Moved to another order: B has nothing then, and is not told of.
    #expect(try open([change("c", 1, nil, wrong), change("u", 2, key, line("A", "1", 10))]) == 0)
    // Out of the filters, and never in.
    #expect(
      try open([
        change("c", 1, nil, line("A", "2", 10)), change("c", 1, nil, wrong),
        change("u", 2, key, line("B", "1", 10, "parked")),
      ]) == 0)
    let unknown = line("B", "1", 10, "ok").replacing("receivable", with: "nonsense")
    #expect(try open([change("u", 2, unknown, line("A", "1", 10))]) == 0)
  }

  /// Where the event time is a column of the row it may go back: the feed tells which image is the newest.
  @Test(arguments: ["{path: at, format: rfc3339}", "{path: $.after.at, format: rfc3339}"])
  func theFeedTellsWhichImageIsTheNewest(time: String) throws {
    func row(_ amount: Int, _ hour: String, order: String = "A") -> String {
      line(order, "\(order)1", amount).replacing("}", with: #","at":"2024-01-01T\#(hour):00:00Z"}"#)
    }
    let (first, corrected) = (row(9, "10"), row(10, "09"))
    #expect(try open([change("c", 1, nil, first), change("u", 60, first, corrected)], time: time) == 0)
    #expect(
      try open(
        [change("c", 1, nil, first), change("d", 2, first, first), change("c", 3, nil, corrected)], time: time) == 0)
    if !time.contains("after") {
      #expect(
        try open(
          [change("c", 1, nil, corrected), change("u", 2, corrected, first), change("d", 3, row(9, "08"), nil)],
          time: time) == 1)
    }
    // A feed in two files, the second of which is short.
    let orders = (0..<20_000).map { "O\($0)" }
    let created = orders.map { change("c", 1, nil, row(9, "08", order: $0)) }
    let updated = orders.map { change("u", 1, row(9, "08", order: $0), row(10, "08", order: $0)) }
    #expect(
      try open([created + updated[..<19_000], Array(updated[19_000...])], orders: orders, time: time) == 0)
    // The second file begins to count its lines anew.
    let some = orders[..<2_000].map { ($0, row(9, "08", order: $0), row(8, "08", order: $0), row(10, "08", order: $0)) }
    #expect(
      try open(
        [
          some.map { change("c", 1, nil, $0.1) } + some.map { change("u", 1, $0.1, $0.2) },
          some.map { change("u", 1, $0.2, $0.3) },
        ], orders: orders[..<2_000].map { $0 }, time: time) == 0)
  }

  /// A change feed that tells a deletion by the key of the row alone, and a table that was emptied.
  @Test func aDeletionByItsKeyTakesTheRowOut() throws {
    let scratch = Scratch()
    defer { withExtendedLifetime(scratch) {} }
    let directory = scratch.path
    let configuration = try Configuration.parse(yaml: yaml, file: "f.yaml", directory: directory)
    let orders = [change("c", 0, nil, event("A", "sent"))]
    let ledger = [
      change("c", 1, nil, line("A", "1", 10)), change("c", 1, nil, line("A", "2", 7)),
      change("d", 2, #"{"o":"A","id":"2"}"#, nil), change("d", 3, #"{"id":"2"}"#, nil), change("t", 4, nil, nil), "  ",
    ]
    try orders.joined(separator: "\n").write(toFile: directory + "/o.jsonl", atomically: true, encoding: .utf8)
    try ledger.joined(separator: "\n").write(toFile: directory + "/l.jsonl", atomically: true, encoding: .utf8)
    let summary = try FileReconciler(
      configuration: configuration,
      options: FileRunOptions(
        orders: [directory + "/o.jsonl"], ledger: [directory + "/l.jsonl"], directory: directory + "/out",
        threads: 1, now_ms: 1_790_000_000_000, asOf_ms: nil)
    ).run()
    let breaks = try String(contentsOfFile: directory + "/out/breaks.jsonl", encoding: .utf8)
    #expect(breaks.isEmpty, "\(breaks)")
    #expect(summary.deadLetters.values.reduce(0, +) == 2, "\(summary.deadLetters)")
  }

  /// The router reads a record as the task does: what leaves goes to the order that it leaves.
  @Test func whatLeavesIsRoutedToTheOrderThatItLeaves() throws {
    let configuration = try Configuration.parse(yaml: yaml, file: "f.yaml", directory: "/")
    let lane = Lane(try MappingPlan(configuration.sources[1].routingMapping([])))
    func order(_ text: String) -> String? {
      var text = text
      return text.withUTF8 { bytes in
        lane.reset()
        let fault = lane.decode(
          key: .empty, payload: ByteView(bytes), position: RecordPosition(source: 0, partition: 0, offset: 1))
        #expect(fault == nil)
        #expect(lane.orders.left == nil)
        return lane.orders.own?.string
      }
    }
    #expect(order(change("u", 1, line("A", "1", 10), line("B", "1", 10, "parked"))) == "A")
    #expect(order(change("u", 1, line("A", "1", 10, "parked"), line("B", "1", 10))) == "B")
    #expect(order(change("u", 1, line("A", "1", 10, "parked"), line("B", "1", 10, "parked"))) == nil)
    lane.reset()
  }
}
