import Configuration
import Decoding
import Domain
import Kafka
import Testing

@testable import Pipeline

/// A change that moves a row to another order comes as two copies: each task takes what is its order's.
@Suite struct MovedRowTests {
  static let yaml = """
    version: 1
    name: t
    dimensions: [region]
    sources:
      orders: {kind: orders, fields: {order: o, event: {constant: invoiced}, event_time: t, net: n}}
      ledger:
        kind: ledger
        format: debezium
        routed: true
        fields: {order: o, line_id: id, journal: j, role: r, customer: k, currency: c, event_time: t}
        amount: m
        rules:
          - {name: known journal, field: journal, one_of: [J1]}
          - {name: known customer, field: customer, one_of: [C1], severity: flag}
    matching: {window: 2d, grace: 1h}
    """

  func row(_ order: String, journal: String = "J1", customer: String = "C1") -> String {
    #"{"o":"\#(order)","id":"1","j":"\#(journal)","r":"revenue","k":"\#(customer)","c":"EUR","t":"2026-03-02T10:00:00Z","m":"-1.00"}"#
  }

  /// What the task of one order makes of its copy.
  func taken(
    _ before: String, _ after: String, part: RoutedRecord.Part
  ) throws -> (orders: [String], deletes: [Bool], flagged: [Int], letters: Int, counters: DecodeCounters) {
    let configuration = try Configuration.parse(yaml: Self.yaml, file: "t.yaml", directory: ".", environment: [:])
    let stage = try DecodeStage(configuration)
    let engine = TaskEngine(stage, partition: 0)
    guard case .ledger(let lane) = stage.lanes[1] else { fatalError("a ledger") }
    let payload = Array(#"{"before":\#(before),"after":\#(after),"op":"u"}"#.utf8)
    return payload.withUnsafeBufferPointer { payload in
      var writer = ByteWriter()
      RoutedRecord.encode(
        ConsumedMessage(topic: 0, partition: 3, offset: 7, timestamp_ms: 0, key: nil, value: payload), part: part,
        limit: 1 << 20, into: &writer)
      let envelope = writer.array
      return envelope.withUnsafeBufferPointer { value in
        let message = ConsumedMessage(topic: 0, partition: 0, offset: 0, timestamp_ms: 0, key: nil, value: value)
        var faults: [StretchFault] = []
        withUnsafePointer(to: message) {
          lane.decode(UnsafeBufferPointer(start: $0, count: 1), source: 1, isRouted: true, faults: &faults)
        }
        let orders = lane.records.buffer.map { $0.order.string }
        let deletes = lane.records.buffer.map(\.isDelete)
        let flagged = lane.flagged
        lane.reset()
        lane.counters = DecodeCounters()
        engine.beginRun(source: 1, now_ms: 1_800_000_000_000)
        engine.take(message)
        engine.endRun()
        return (orders, deletes, flagged, engine.deadLetterCount, lane.allCounters)
      }
    }
  }

  @Test func eachTaskTakesItsOwn() throws {
    let left = try taken(row("X"), row("A"), part: .left)
    #expect(left.orders == ["X"] && left.deletes == [true] && left.counters.records == 0)
    let joined = try taken(row("X"), row("A"), part: .joined)
    #expect(joined.orders == ["A"] && joined.deletes == [false] && joined.counters.records == 1)
    #expect(left.letters + joined.letters == 0)
    // What an earlier version has routed is one message, for both.
    let whole = try taken(row("X"), row("A"), part: .whole)
    #expect(whole.orders == ["X", "A"] && whole.counters.records == 1)
    // A row that has not moved has lost nothing.
    #expect(try taken(row("A"), row("A"), part: .left).orders == [])
  }

  @Test func whatIsWrongIsReportedOnce() throws {
    let (before, after) = (row("X"), row("A", journal: "J9"))
    let left = try taken(before, after, part: .left)
    #expect(left.orders == [] && left.letters == 0 && left.counters.deadLetters == 0 && left.counters.records == 0)
    let joined = try taken(before, after, part: .joined)
    #expect(joined.orders == [] && joined.letters == 1 && joined.counters.deadLetters == 1)
  }

  @Test func whatIsFlaggedIsFlaggedWhereTheRowIs() throws {
    let (before, after) = (row("X"), row("A", customer: "C2"))
    let left = try taken(before, after, part: .left)
    #expect(left.orders == ["X"] && left.flagged == [] && left.counters.violations == [:])
    let joined = try taken(before, after, part: .joined)
    #expect(joined.orders == ["A"] && joined.flagged == [0])
    #expect(joined.counters.violations == ["ledger: known customer": 2])
  }
}
