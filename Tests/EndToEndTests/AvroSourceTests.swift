import Configuration
import Domain
import Foundation
import Kafka
import KafkaTesting
import Pipeline
import Testing

/// A source of Avro records, their schemas from a registry over HTTP.
@Suite(.serialized) struct AvroSourceTests {
  static let schema = """
    {"type":"record","name":"Order","fields":[
      {"name":"number","type":"string"},{"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
      {"name":"gross","type":["null",{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}]}]}
    """
  /// A later version: another order of fields, one more.
  static let newer = """
    {"type":"record","name":"Order","fields":[
      {"name":"channel","type":{"type":"enum","name":"Channel","symbols":["web","shop"]}},
      {"name":"gross","type":{"type":"bytes","logicalType":"decimal","precision":12,"scale":3}},
      {"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}},{"name":"number","type":"string"}]}
    """

  func record(id: UInt8, _ body: [UInt8]) -> [UInt8] { [0, 0, 0, 0, id] + body }

  func long(_ value: Int64) -> [UInt8] {
    var rest = UInt64(bitPattern: value << 1 ^ value >> 63)
    var bytes: [UInt8] = []
    while rest >= 0x80 {
      bytes.append(UInt8(rest & 0x7f) | 0x80)
      rest >>= 7
    }
    return bytes + [UInt8(rest)]
  }

  func text(_ text: String) -> [UInt8] { long(Int64(text.utf8.count)) + Array(text.utf8) }

  @Test(arguments: [false, true]) func aRegistryThatIsAwayHoldsRecordsBack(isRouted: Bool) throws {
    let registry = try TinyRegistry(authorization: "Bearer token")
    defer { registry.stop() }
    let cluster = try TestCluster()
    let prefix = cluster.unique("avro")
    let configuration = try Configuration.parse(
      yaml: """
        name: avro
        prefix: \(prefix)
        kafka: {bootstrap: "\(cluster.bootstrap)", group: \(prefix)}
        schema_registry: {url: "\(registry.url)", bearer: {env: TOKEN}}
        epoch: {interval: 20ms}
        checkpoints: {store: off}
        matching: {window: 1s, grace: 0s, out_of_orderness: 0s, idle_timeout: 3s}
        sources:
          orders:
            kind: orders
            format: avro
            routed: \(isRouted)
            fields: {order: number, event: {constant: invoiced}, event_time: at, event_id: number,
              currency: {constant: EUR}, gross: gross}
          ledger:
            kind: ledger
            fields: {order: o, role: {constant: receivable}, currency: {constant: EUR}, event_time: t}
            amount: a
        policy: {replace_defaults: true, invoiced: {receivable: +gross}}
        """, file: "a.yaml", directory: ".", environment: ["TOKEN": "token"])
    for source in configuration.sources { try cluster.createTopic(source.originalTopic, partitions: 1) }
    for topic in configuration.ownTopics { try cluster.createTopic(topic.name, partitions: 1, config: topic.config) }
    let topic = configuration.sources[0].originalTopic
    let producer = try Producer(properties: cluster.properties)
    func send(_ key: String, _ value: [UInt8]) throws {
      try producer.produce(topic: topic, partition: 0, key: Array(key.utf8), value: value)
      try producer.flush(timeout_ms: 30_000)
    }
    let tables = MasterDataTests()
    let at_ms = wallClock_ms()
    registry.put("/schemas/ids/5", status: 503, "{}")
    try send("A", record(id: 5, text("A") + long(at_ms) + long(1) + long(2) + [0x03, 0xe8]))
    let daemon = Daemon(configuration: configuration, log: silent)
    try daemon.start()
    tables.wait("the registry is asked") { registry.requests.count >= 6 }
    #expect(daemon.status.decode.records == 0 && daemon.status.deadLetters == 0)
    try registry.put(5, Self.schema)
    tables.wait("the record") { daemon.status.decode.records >= 1 }
    try registry.put(6, Self.newer)
    try send("B", record(id: 6, [2] + long(2) + [0x4e, 0x20] + long(at_ms * 1_000 + 5) + text("B")))
    // An id that nobody has given, and bytes that are no record of their schema.
    try send("C", record(id: 99, text("C")))
    try send("D", record(id: 5, text("D")))
    try cluster.produce(
      configuration.sources[1].topic, [("A", #"{"o":"A","t":"\#(formatTimestamp(at_ms))","a":10}"#, 0)])
    tables.wait("all records") { daemon.status.decode.records >= 5 }
    func breaks() throws -> [String: String] {
      var found: [String: String] = [:]
      for record in try cluster.readAll(configuration.breaksTopic, partitions: 1) {
        let message = try JSONSerialization.jsonObject(with: Data(record.value!.utf8)) as! [String: Any]
        // What came too late for the registry's sake has been cleared.
        let state = message["state"] as! String
        let order = message["order"] as! String
        found[order] = state == "open" ? "\(message["type"]!) \(message["expected"]!)" : nil
      }
      return found
    }
    try tables.wait("the break") { try breaks() == ["B": "MISSING_IN_LEDGER 20.00"] }
    daemon.stop.stop()
    #expect(daemon.waitUntilStopped())
    let letters = try cluster.readAll(configuration.deadLettersTopic, partitions: 1).compactMap(\.value)
    #expect(letters.count == 2 && letters.contains { $0.contains("the schema registry has no schema 99") })
    #expect(letters.contains { $0.contains("no Avro record of its schema at byte 7") })
    #expect(letters.allSatisfy { $0.contains("payload_base64") || $0.contains(#""payload":"#) })
    // Whoever comes after, and an auditor, decode the same again.
    let next = Daemon(configuration: configuration, log: silent)
    try next.start()
    tables.wait("the recovery") { next.status.recoveries >= 1 }
    #expect(next.status.recoveryProblems == 0)
    next.stop.stop()
    #expect(next.waitUntilStopped())
  }

  /// Records of Avro wait for their master data like others; a process that has not seen their schema asks for it.
  @Test(arguments: [false, true]) func avroRecordsWaitForTheirMasterData(isRouted: Bool) throws {
    let registry = try TinyRegistry(authorization: "Bearer token")
    defer { registry.stop() }
    let world = try MasterDataTests.World()
    try world.write(["OLD,C1"])
    func configuration(_ url: String) throws -> Configuration {
      try world.configuration {
        $0.replacing("interval: 1h}", with: "interval: 1h, hold: {time: 20h}}")
          .replacing("{store: off}", with: "{store: topic, interval: 100ms}")
          .replacing("tables: {cust", with: "schema_registry: {url: \"\(url)\", bearer: {file: token}}\ntables: {cust")
          .replacing("kind: orders", with: "kind: orders\n    format: avro\n    routed: \(isRouted)")
      }
    }
    try "token".write(toFile: world.directory + "/token", atomically: true, encoding: .utf8)
    let first = try configuration(registry.url)
    for source in first.sources { try world.cluster.createTopic(source.originalTopic, partitions: 1) }
    for topic in first.ownTopics { try world.cluster.createTopic(topic.name, partitions: 1, config: topic.config) }
    let schema = """
      {"type":"record","name":"Order","fields":[
        {"name":"o","type":"string"},{"name":"t","type":{"type":"long","logicalType":"timestamp-millis"}},
        {"name":"c","type":"string"},{"name":"g","type":"long"}]}
      """
    try registry.put(7, schema)
    let producer = try Producer(properties: world.cluster.properties)
    for (key, customer) in [("A", "OLD"), ("B", "NEW"), ("C", "NEVER")] {
      let value = record(id: 7, text(key) + long(1_704_067_200_000) + text(customer) + long(10))
      try producer.produce(topic: first.sources[0].originalTopic, partition: 0, key: Array(key.utf8), value: value)
    }
    try producer.flush(timeout_ms: 30_000)
    let tables = MasterDataTests()
    let daemon = Daemon(configuration: first, log: silent)
    try daemon.start()
    tables.wait("who waits") { daemon.status.waiting == 2 }
    let done = daemon.status.checkpoints
    tables.wait("a checkpoint that names them") { daemon.status.checkpoints >= done + 2 }
    daemon.stop.stop()
    #expect(daemon.waitUntilStopped() && daemon.status.restarts == 0)
    // Another address is another registry to this process: nothing is known of it yet.
    let other = try TinyRegistry(authorization: "Bearer token")
    defer { other.stop() }
    try other.put(7, schema)
    let next = Daemon(configuration: try configuration(other.url), log: silent)
    try next.start()
    tables.wait("the recovery") { next.status.recoveries >= 1 && next.status.waiting == 2 }
    #expect(other.requests.count == 1)
    try world.write(["OLD,C1", "NEW,C9"])
    next.refreshTables(isForced: true)
    tables.wait("what was waiting") { next.status.hold.released == 1 && next.status.waiting == 1 }
    func customers() throws -> [String: String] {
      var found: [String: String] = [:]
      for record in try world.cluster.readAll(first.breaksTopic, partitions: 1) {
        let message = try JSONSerialization.jsonObject(with: Data(record.value!.utf8)) as! [String: Any]
        found[message["order"] as! String] = message["customer"] as? String
      }
      return found
    }
    try tables.wait("the breaks") { try customers() == ["A": "C1", "B": "C9"] }
    next.stop.stop()
    #expect(next.waitUntilStopped() && next.status.restarts == 0 && next.status.deadLetters == 0)
  }
}
