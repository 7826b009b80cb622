import Configuration
import Foundation
import Kafka
import KafkaTesting
import Pipeline
import Testing

/// Tables that change while the daemon runs: what was decoded with one version stays so, over restarts and replays.
@Suite(.serialized) struct MasterDataTests {

  final class World {
    let cluster: TestCluster
    let directory: String
    let prefix: String
    private var sent = 0

    init(_ kind: TestCluster.Kind? = nil) throws {
      cluster = try TestCluster(kind)
      directory = NSTemporaryDirectory() + "tieout-tables-\(UUID().uuidString)"
      prefix = cluster.unique("md")
      try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    }
    deinit { try? FileManager.default.removeItem(atPath: directory) }

    func write(_ lines: [String]) throws {
      try (["number,group"] + lines).joined(separator: "\n").write(
        toFile: directory + "/customers.csv", atomically: true, encoding: .utf8)
    }

    func configuration(_ change: (String) -> String = { $0 }) throws -> Configuration {
      let yaml = """
        name: md
        prefix: \(prefix)
        kafka: {bootstrap: "\(cluster.bootstrap)", group: \(prefix)}
        master_data: {enabled: true, interval: 1h}
        checkpoints: {store: off}
        epoch: {interval: 20ms}
        matching: {window: 1d, grace: 1h, idle_timeout: 3s}
        tables: {customers: {file: customers.csv}}
        sources:
          orders:
            kind: orders
            fields: {order: o, event: {constant: invoiced}, event_time: t, event_id: o,
              customer: {path: c, table: customers}, currency: {constant: EUR}, gross: g}
            rules: [{field: customer, one_of: [C1, C2, C9], severity: flag}]
          ledger:
            kind: ledger
            fields: {order: o, role: {constant: receivable}, currency: {constant: EUR}, event_time: t}
            amount: a
        policy: {replace_defaults: true, invoiced: {receivable: +gross}}
        """
      return try Configuration.parse(yaml: change(yaml), file: "md.yaml", directory: directory)
    }

    func send(_ orders: [(key: String, customer: String)], _ configuration: Configuration) throws {
      try cluster.produce(
        configuration.sources[0].topic,
        orders.map { ($0.key, #"{"o":"\#($0.key)","t":"2024-01-01T00:00:00Z","c":"\#($0.customer)","g":10}"#, 0) })
    }
  }

  func wait(_ what: String, _ isDone: () throws -> Bool) rethrows {
    let until = Date().addingTimeInterval(60)
    while Date() < until {
      if try isDone() { return }
      Thread.sleep(forTimeInterval: 0.05)
    }
    Issue.record("\(what): not within a minute")
  }

  @Test func everyRecordIsDecodedAsItWasFirst() throws {
    let world = try World()
    try world.write(["OLD,C1"])
    let first = try world.configuration()
    for source in first.sources { try world.cluster.createTopic(source.topic, partitions: 1) }
    for topic in first.ownTopics { try world.cluster.createTopic(topic.name, partitions: 1, config: topic.config) }
    #expect(first.ownTopics.contains { $0.name == world.prefix + ".tables" })
    let daemon = Daemon(configuration: first, log: silent)
    try daemon.start()
    try world.send([("A", "OLD"), ("B", "NEW")], first)
    wait("the first records") { daemon.status.decode.records == 2 }
    #expect(daemon.status.deadLetters == 1)
    // A file that makes no sense changes nothing, nor does one that is the same.
    try world.write(["OLD,C1,", "OLD,C2"])
    daemon.refreshTables(isForced: true)
    try world.write(["OLD,C2", "NEW,C9"])
    daemon.refreshTables()
    #expect(try world.cluster.readAll(world.prefix + ".tables", partitions: 1).count == 1, "it was not yet time")
    daemon.refreshTables(isForced: true)
    daemon.refreshTables(isForced: true)
    #expect(try world.cluster.readAll(world.prefix + ".tables", partitions: 1).count == 2)
    Thread.sleep(forTimeInterval: 0.5)
    try world.send([("C", "OLD"), ("D", "NEW")], first)
    wait("the records after the change") { daemon.status.decode.records == 4 }
    #expect(daemon.status.deadLetters == 1 && daemon.status.restarts == 0)
    daemon.stop.stop()
    #expect(daemon.waitUntilStopped())

    // The next process has a third version, and rebuilds the state of both others: nothing is in a checkpoint.
    try world.write(["OLD,C1", "NEW,C1"])
    let third = try world.configuration()
    #expect(third.matchingHash != first.matchingHash)
    let next = Daemon(configuration: third, log: silent)
    try next.start()
    wait("the recovery") { next.status.recoveries == 1 }
    #expect(next.status.recoveryProblems == 0)
    try world.send([("E", "NEW")], third)
    func customers() throws -> [String: String] {
      var found: [String: String] = [:]
      for record in try world.cluster.readAll(third.breaksTopic, partitions: 1) {
        let message = try JSONSerialization.jsonObject(with: Data(record.value!.utf8)) as! [String: Any]
        guard message["type"] as? String == "MISSING_IN_LEDGER" else { continue }
        found[message["order"] as! String] = message["customer"] as? String
      }
      return found
    }
    try wait("the breaks") { try customers().count == 4 }
    next.stop.stop()
    #expect(next.waitUntilStopped() && next.status.restarts == 0)
    #expect(try customers() == ["A": "C1", "C": "C2", "D": "C9", "E": "C1"])

    // An auditor that has the newest version alone derives the same bytes.
    guard world.cluster.knowsTransactions else { return }
    let reader = try PartitionReader(properties: world.cluster.properties + [KafkaProperty("group.id", world.prefix)])
    defer { reader.close() }
    let places = third.inputTopics.map { TopicPartition($0, 0) }
    func derived(_ configuration: Configuration) throws -> [String] {
      var all: [String] = []
      let committed = try reader.committed(places)
      _ = try Auditor(configuration, environment: KafkaEnvironment(), reader: reader).audit(
        partition: 0, committed: places.map { committed[$0] }
      ) { if $0.topic == .breaks { all.append(String(decoding: $0.value, as: UTF8.self)) } }
      return all.sorted()
    }
    let told = try world.cluster.readAll(third.breaksTopic, partitions: 1).compactMap(\.value).sorted()
    #expect(try derived(third) == told && told.count >= 4)
    // Without the versions it cannot: what makes the difference is that they are kept.
    let plain = try world.configuration { $0.replacing("master_data: {enabled: true, interval: 1h}", with: "") }
    #expect(throws: RecoveryError.self) { try derived(plain) }
  }
}
