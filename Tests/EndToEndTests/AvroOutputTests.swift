import Configuration
import Domain
import Foundation
import Kafka
import KafkaTesting
import Pipeline
import Testing

/// Outputs in Avro: written by the daemon and by flows, read again by everything that reads them.
@Suite(.serialized) struct AvroOutputTests {
  private func raw(_ topic: String, _ configuration: Configuration) throws -> [[UInt8]] {
    let reader = try PartitionReader(
      properties: configuration.clientProperties(.admin) + [KafkaProperty("group.id", configuration.kafka.group)])
    defer { reader.close() }
    let place = TopicPartition(topic, 0)
    let bounds = try reader.bounds(place, timeout_ms: 30_000)
    var values: [[UInt8]] = []
    try reader.read(place, from: bounds.low, end: bounds.stable) { message in
      if let value = message.value { values.append(Array(value)) }
      return true
    }
    return values
  }

  private func breaks(_ configuration: Configuration) throws -> [String: BreakMessage] {
    let outputs = OutputReader(configuration)
    var newest: [String: BreakMessage] = [:]
    for message in try raw(configuration.breaksTopic, configuration) {
      let json = try message.withUnsafeBufferPointer { try outputs.json($0) }
      let made = try JSONDecoder().decode(BreakMessage.self, from: Data(json))
      newest[made.id] = made
    }
    return newest
  }

  @Test func theDaemonWritesFramedRecords() throws {
    let registry = try TinyRegistry()
    defer { registry.stop() }
    let world = try MasterDataTests.World()
    try world.write(["OLD,C1"])
    func configuration(_ outputs: String) throws -> Configuration {
      try world.configuration {
        $0 + "\nschema_registry: {url: \"\(registry.url)\"}\nquality: {enabled: true, interval: 50ms}\n"
          + "aggregates: {enabled: true, interval: 50ms}\n" + outputs
      }
    }
    let json = try configuration("")
    for source in json.sources { try world.cluster.createTopic(source.topic, partitions: 1) }
    for topic in json.ownTopics {
      try world.cluster.createTopic(topic.name, partitions: 1, config: topic.config)
    }
    try world.cluster.createTopic(json.redrivenTopic, partitions: 1)
    // The topic holds JSON at first, and goes on in Avro.
    let first = Daemon(configuration: json, log: silent)
    try first.start()
    try world.send([("A", "OLD"), ("B", "NEW")], json)
    let tables = MasterDataTests()
    tables.wait("the first records") { first.status.decode.records >= 2 && first.status.deadLetters == 1 }
    try tables.wait("the first break") { try breaks(json).count == 1 }
    first.stop.stop()
    #expect(first.waitUntilStopped())

    let avro = try configuration("outputs: {format: avro, formats: {totals: json}}")
    // Without the schemas, and without leave to register them, nothing starts.
    let bare = try configuration("outputs: {format: avro, auto_register: false}")
    let refused = #expect(throws: OutputFormatError.self) { try Daemon(configuration: bare, log: silent).start() }
    #expect(refused?.description.contains("under the subject '\(avro.breaksTopic)-value'") == true)
    let daemon = Daemon(configuration: avro, log: silent)
    try daemon.start()
    #expect(registry.schemas(of: avro.breaksTopic + "-value").count == 1)
    try world.send([("C", "OLD"), ("D", "LOST")], avro)
    try tables.wait("the second dead letter") { try raw(avro.deadLettersTopic, avro).count == 2 }
    #expect(daemon.status.recoveryProblems == 0)
    try tables.wait("the breaks") {
      let known = try breaks(avro)
      return known["A:MISSING_IN_LEDGER:receivable"] != nil && known["C:MISSING_IN_LEDGER:receivable"] != nil
    }
    try tables.wait("aggregates and quality") {
      try raw(avro.revenueTopic, avro).contains { $0.first == 0 }
        && raw(avro.qualityTopic, avro).contains { $0.first == 0 }
    }
    daemon.stop.stop()
    #expect(daemon.waitUntilStopped())
    let follower = try BreakReader(
      properties: avro.clientProperties(.admin), topic: avro.breaksTopic, outputs: OutputReader(avro))
    defer { follower.close() }
    try tables.wait("a reader of breaks") {
      try follower.poll(timeout_ms: 100)
      return follower.breaks.keys.contains { $0.hasPrefix("A:") }
        && follower.breaks.keys.contains { $0.hasPrefix("C:") }
    }
    let messages = try raw(avro.breaksTopic, avro)
    #expect(messages.contains { $0.first == 0 } && messages.contains { $0.first == UInt8(ascii: "{") })
    let letters = try raw(avro.deadLettersTopic, avro)
    #expect(letters.map(\.first) == [UInt8(ascii: "{"), 0])
    #expect(try raw(avro.totalsTopic, avro).allSatisfy { $0.first == UInt8(ascii: "{") })
    // Written out for a look with other readers.
    if let directory = ProcessInfo.processInfo.environment["TIEOUT_AVRO_SAMPLES"] {
      for topic in [avro.breaksTopic, avro.deadLettersTopic, avro.revenueTopic, avro.qualityTopic] {
        for (at, message) in try raw(topic, avro).enumerated() where message.first == 0 {
          let name = topic.split(separator: ".").last.map(String.init) ?? topic
          try Data(message).write(to: URL(fileURLWithPath: "\(directory)/\(name)-\(at).bin"))
        }
      }
    }

    // A replay makes the JSON form again; it is what the topic holds.
    let reader = try PartitionReader(
      properties: avro.clientProperties(.admin) + [KafkaProperty("group.id", avro.kafka.group)])
    defer { reader.close() }
    let outputs = OutputReader(avro)
    let held = try Set(messages.map { message in try message.withUnsafeBufferPointer { try outputs.json($0) } })
    let places = avro.sources.map { TopicPartition($0.topic, 0) }
    let committed = try reader.committed(places)
    var made: Set<[UInt8]> = []
    _ = try Auditor(avro, environment: KafkaEnvironment(), reader: reader).audit(
      partition: 0, committed: places.map { committed[$0] }, epochs: 0 ... .max, times_ms: .min ... .max
    ) { output in if output.topic == .breaks { made.insert(output.value) } }
    #expect(made == held && !made.isEmpty)

    // Dead letters in both formats are sent again.
    var selection = Redrive.Selection()
    selection.isTrial = true
    let report = try Redrive(avro).run(selection)
    #expect(report.selected == 2 && report.sent == 2 && report.foreign == 0)
  }

  @Test func flowsReadAndWriteThem() throws {
    let registry = try TinyRegistry()
    defer { registry.stop() }
    let cluster = try TestCluster()
    let json = try FlowTests().prepare("receivables.yaml", cluster, partitions: 1)
    var avro = json
    avro.outputs.formats = [.cashflow: .avro, .receivables: .avro]
    avro.schemaRegistry = SchemaRegistrySettings()
    avro.schemaRegistry!.url = registry.url
    var records = InvoiceRecords()
    for number in 0..<20 {
      let day = 19_000 + Int32(number)
      records.invoice("N\(number)", customer: "C", country: "DE", amount: "100.00", day: day, due: nil)
      if number < 10 { records.payment("N\(number)", customer: "C", amount: "100.00", day: day + 20) }
    }
    try records.send(json, cluster)
    let told = try runFlows(json)
    #expect(told.messages == 2)
    // The figures are those that the topics hold already: nothing is told again, in whatever format.
    #expect(try runFlows(avro).messages == 0)
    var more = InvoiceRecords()
    more.invoice("N99", customer: "C", country: "DE", amount: "50.00", day: 19_025, due: nil)
    try more.send(avro, cluster)
    #expect(try runFlows(avro).messages == 2)
    // The marker of a commit may come a moment later.
    var cash: [[UInt8]] = []
    try MasterDataTests().wait("the second message") {
      cash = try raw(avro.cashflowTopic, avro)
      return cash.count == 2
    }
    #expect(cash.map(\.first) == [UInt8(ascii: "{"), 0])
    let last = try #require(cash.last)
    let message = try last.withUnsafeBufferPointer { try OutputReader(avro).json($0) }
    let parsed = try #require(try JSONSerialization.jsonObject(with: Data(message)) as? [String: Any])
    #expect(parsed["revision"] as? Int == 2 && parsed["open"] as? String == "1050.00")
    #expect(try runFlows(avro).messages == 0)
  }

  @Test func variancesAreWrittenAndReadToo() throws {
    let registry = try TinyRegistry()
    defer { registry.stop() }
    let world = try VarianceTests.World(partitions: 1)
    try world.budget(["2026-01,EUR,north,,1000,100"])
    let json = try world.configuration()
    try world.createTopics(json)
    try world.sell("north", 900, quantity: 80, on: "2026-01-15", json)
    let daemon = Daemon(configuration: json, log: silent)
    try daemon.start()
    defer {
      daemon.stop.stop()
      _ = daemon.waitUntilStopped()
    }
    try MasterDataTests().wait("the first variance") {
      _ = try world.runOnce(json)
      return try world.newest(json).values.contains { $0["actual"] as? String == "900.00" }
    }
    let before = try raw(json.varianceTopic, json).count
    var avro = json
    avro.outputs.formats = [.variance: .avro]
    avro.schemaRegistry = SchemaRegistrySettings()
    avro.schemaRegistry!.url = registry.url
    #expect(try world.runOnce(avro).messages == 0)
    try world.budget(["2026-01,EUR,north,,800,100"])
    #expect(try world.runOnce(avro).messages == 1)
    var all: [[UInt8]] = []
    try MasterDataTests().wait("the revision") {
      all = try raw(avro.varianceTopic, avro)
      return all.count == before + 1
    }
    let last = try #require(all.last)
    #expect(last.first == 0)
    let message = try last.withUnsafeBufferPointer { try OutputReader(avro).json($0) }
    let parsed = try #require(try JSONSerialization.jsonObject(with: Data(message)) as? [String: Any])
    #expect(parsed["budget"] as? String == "800.00" && parsed["variance"] as? String == "100.00")
    #expect(try world.runOnce(avro).messages == 0)
  }
}
