import Configuration
import Domain
import Foundation
import Kafka
import KafkaTesting
import Pipeline
import Testing

/// Values that no two records may have, over partitions and restarts.
@Suite(.serialized) struct UniqueTests {
  private func newest(
    _ topic: String, _ cluster: TestCluster
  ) throws -> (messages: Int, byKey: [String: [String: Any]]) {
    var found: [String: [String: Any]] = [:]
    let records = try cluster.readAll(topic, partitions: 2)
    for record in records {
      found[record.key!] = try JSONSerialization.jsonObject(with: Data(record.value!.utf8)) as? [String: Any]
    }
    return (records.count, found)
  }

  /// Payments against cash, by such sources.
  private func configuration(
    _ name: String, _ cluster: TestCluster, idle: String, _ sources: String
  ) throws -> Configuration {
    let prefix = cluster.unique(name)
    let settings = """
      name: \(name)
      prefix: \(prefix)
      kafka: {bootstrap: "\(cluster.bootstrap)", group: \(prefix)}
      epoch: {interval: 20ms}
      checkpoints: {store: off}
      matching: {window: 1d, grace: 1h, out_of_orderness: 0s, idle_timeout: \(idle)}
      policy: {replace_defaults: true, paid: {cash: +applied}}
      """
    return try Configuration.parse(
      yaml: settings + "\n" + sources, file: "u.yaml", directory: ".", environment: [:])
  }

  /// Payments whose document may come once in three days, with their topics of two partitions.
  private func plainPayments(_ name: String, _ cluster: TestCluster, idle: String) throws -> Configuration {
    let configuration = try configuration(
      name, cluster, idle: idle,
      """
      sources:
        orders:
          kind: orders
          fields: {order: o, event: {constant: paid}, event_time: t, event_id: o, document: d,
            currency: {constant: EUR}, applied: a}
          rules: [{field: document, unique: 3d, severity: flag, name: payment}]
        ledger:
          kind: ledger
          fields: {order: o, role: {constant: cash}, currency: {constant: EUR}, event_time: t, line_id: o}
          amount: a
      """)
    for source in configuration.sources { try cluster.createTopic(source.topic, partitions: 2) }
    for topic in configuration.ownTopics { try cluster.createTopic(topic.name, partitions: 2, config: topic.config) }
    return configuration
  }

  @Test func duplicatesAreFoundAcrossPartitionsAndRestarts() throws {
    let cluster = try TestCluster()
    var configuration = try configuration(
      "unique", cluster, idle: "2s",
      """
      dimensions: [region]
      sources:
        orders:
          kind: orders
          fields: {order: o, event: {constant: paid}, event_time: t, event_id: i, document: d,
            currency: {constant: EUR}, applied: a}
          dimensions: {region: r}
          rules: [{field: document, unique: 30d, severity: flag, name: payment}]
        ledger:
          kind: ledger
          routed: true
          fields: {order: o, role: {constant: cash}, currency: {constant: EUR}, event_time: t, journal: j, document: d}
          amount: a
          rules: [{field: document, unique: 30d, severity: count, name: reference}]
      """)
    for source in configuration.sources { try cluster.createTopic(source.originalTopic, partitions: 2) }
    for topic in configuration.ownTopics { try cluster.createTopic(topic.name, partitions: 2, config: topic.config) }
    try cluster.createTopic(configuration.sources[1].topic, partitions: 2)
    configuration.partialsPartitions = 2
    // Idle sources follow the clock: what must still matter lies within its days.
    let today = day(ofMilliseconds: wallClock_ms())
    func time(_ day: Int32) -> String { formatTimestamp(Int64(today - 20 + day) * millisecondsPerDay) }
    func pay(_ order: String, _ id: String, _ document: String, day: Int32, partition: Int32) throws {
      let time = time(day)
      try cluster.produce(
        configuration.sources[0].topic,
        [(order, #"{"o":"\#(order)","t":"\#(time)","i":"\#(id)","d":"\#(document)","a":5,"r":"north"}"#, partition)])
    }
    func post(_ order: String, _ journal: String, _ document: String, day: Int32, partition: Int32) throws {
      let time = time(day)
      try cluster.produce(
        configuration.sources[1].originalTopic,
        [("x", #"{"o":"\#(order)","t":"\#(time)","j":"\#(journal)","d":"\#(document)","a":5}"#, partition)])
    }
    func unique() throws -> (messages: Int, breaks: [String: [String: Any]]) {
      let (_, byKey) = try newest(configuration.breaksTopic, cluster)
      let mine = byKey.filter { $0.key.contains(":DATA_QUALITY:receivable:=") }
      let all = try cluster.readAll(configuration.breaksTopic, partitions: 2).filter {
        $0.key!.contains(":DATA_QUALITY:receivable:=")
      }
      return (all.count, mine)
    }
    let wait = MasterDataTests()
    let first = Daemon(configuration: configuration, log: silent)
    try first.start()
    // On two partitions; the second came first.
    try pay("A", "e1", "P1", day: 3, partition: 0)
    try pay("B", "e2", "P1", day: 2, partition: 1)
    try pay("A", "e1", "P1", day: 3, partition: 0)
    try pay("C", "e3", "P2", day: 2, partition: 1)
    try post("A", "J1", "R1", day: 3, partition: 0)
    try post("B", "J2", "R1", day: 2, partition: 1)
    try wait.wait("the duplicate") { try unique().breaks.count == 1 }
    let made = try #require(try unique().breaks.values.first)
    #expect(made["order"] as? String == "A" && made["state"] as? String == "open" && made["revision"] as? Int == 1)
    #expect(made["dimensions"] as? [String: String] == ["region": "north"])
    let topic = configuration.sources[0].topic
    let reason = try #require(made["reason"] as? String)
    #expect(reason.hasPrefix("rule 'payment': document of topic \(topic), partition 0, offset "))
    #expect(reason.hasSuffix(" is that of topic \(topic), partition 1, offset 0 already, of order B"))
    let cell = "open_breaks:DATA_QUALITY"
    try wait.wait("its number") { try newest(configuration.totalsTopic, cluster).byKey[cell]?["value"] as? Int == 1 }
    // That of the ledger is only counted.
    wait.wait("both are counted") { first.metricsPage().contains("tieout_daemon_unique_duplicates_total 2\n") }
    #expect(first.metricsPage().contains("tieout_daemon_unique_values 5\n"))
    first.stop.stop()
    #expect(first.waitUntilStopped())

    // Another process goes on: what was told is not told again, and an earlier record makes both others duplicates.
    let second = Daemon(configuration: configuration, log: silent)
    try second.start()
    wait.wait("the values are read") { second.metricsPage().contains("tieout_daemon_unique_values 5\n") }
    #expect(try unique().messages == 1 && second.metricsPage().contains("tieout_daemon_unique_duplicates_total 0\n"))
    try pay("D", "e4", "P1", day: 1, partition: 1)
    try wait.wait("the second duplicate") { try unique().messages == 3 }
    let breaks = try unique().breaks
    let revisions = Dictionary(
      uniqueKeysWithValues: breaks.values.map { ($0["order"] as? String ?? "", $0["revision"] as? Int ?? 0) })
    #expect(revisions == ["A": 2, "B": 1])
    #expect(breaks.values.allSatisfy { ($0["reason"] as? String)?.hasSuffix("already, of order D") == true })
    try wait.wait("their number") { try newest(configuration.totalsTopic, cluster).byKey[cell]?["value"] as? Int == 2 }
    #expect(second.status.recoveryProblems == 0)
    // What has become older than its time is forgotten, with the clock where nothing else comes.
    try pay("E", "e5", "P3", day: -11, partition: 0)
    try pay("F", "e6", "P4", day: -12, partition: 0)
    wait.wait("the old ones are gone") { second.metricsPage().contains("tieout_daemon_unique_values 6\n") }
    second.stop.stop()
    #expect(second.waitUntilStopped())

    // An auditor makes all other breaks again, and knows these.
    let reader = try PartitionReader(
      properties: configuration.clientProperties(.admin) + [KafkaProperty("group.id", configuration.kafka.group)])
    defer { reader.close() }
    var derived: Set<[UInt8]> = []
    for partition: Int32 in [0, 1] {
      let places = configuration.sources.map { TopicPartition($0.topic, partition) }
      let committed = try reader.committed(places)
      _ = try Auditor(configuration, environment: KafkaEnvironment(), reader: reader).audit(
        partition: partition, committed: places.map { committed[$0] }, epochs: 0 ... .max, times_ms: .min ... .max
      ) { output in if output.topic == .breaks { derived.insert(output.value) } }
    }
    let all = try cluster.readAll(configuration.breaksTopic, partitions: 2).map { Array($0.value!.utf8) }
    let others = all.filter { !derived.contains($0) }
    #expect(others.count == 3 && others.allSatisfy { Auditor.isOfSecondStage($0) })
    #expect(derived.allSatisfy { !Auditor.isOfSecondStage($0) })
  }

  /// A task whose partition never holds a record says how far it is by the clock, so that old values are forgotten.
  @Test func aTaskWithoutRecordsHoldsNothingUp() throws {
    let cluster = try TestCluster()
    let configuration = try plainPayments("empty", cluster, idle: "1s")
    let wait = MasterDataTests()
    let daemon = Daemon(configuration: configuration, log: silent)
    try daemon.start()
    try cluster.produce(
      configuration.sources[0].topic, [("A", #"{"o":"A","t":"2024-01-02T00:00:00Z","d":"P1","a":5}"#, 0)])
    wait.wait("the record") { daemon.status.decode.records >= 1 }
    // Its own task goes on with the clock once it is idle; the other one has none to go by but the clock.
    wait.wait("its value is gone") { daemon.metricsPage().contains("tieout_daemon_unique_values 0\n") }
    daemon.stop.stop()
    #expect(daemon.waitUntilStopped() && daemon.status.restarts == 0)
  }

  /// A partition that is months behind another one finds its duplicates all the same: nothing is too old before every task
  /// has said how far it is.
  @Test func aTaskThatIsBehindFindsItsDuplicates() throws {
    let cluster = try TestCluster()
    let configuration = try plainPayments("behind", cluster, idle: "10h")
    func send(_ source: Int, _ order: String, _ document: String, _ date: String, partition: Int32) throws {
      try cluster.produce(
        configuration.sources[source].topic,
        [(order, #"{"o":"\#(order)","t":"\#(date)T00:00:00Z","d":"\#(document)","a":5}"#, partition)])
    }
    func found() throws -> Int {
      try newest(configuration.breaksTopic, cluster).byKey.keys.count { $0.contains(":DATA_QUALITY:receivable:=") }
    }
    let wait = MasterDataTests()
    let daemon = Daemon(configuration: configuration, log: silent)
    try daemon.start()
    try send(1, "Z", "", "2024-06-01", partition: 1)
    wait.wait("the posting") { daemon.status.decode.records >= 1 }
    try send(0, "Z", "P9", "2024-06-01", partition: 1)
    wait.wait("its value") { daemon.metricsPage().contains("tieout_daemon_unique_values 1\n") }
    try send(0, "A", "P1", "2024-01-02", partition: 0)
    try send(0, "B", "P1", "2024-01-03", partition: 0)
    try wait.wait("the duplicate") { try found() == 1 }
    #expect(daemon.metricsPage().contains("tieout_daemon_unique_values 3\n"))
    // Both tasks are in June now.
    try send(1, "Y", "", "2024-06-01", partition: 0)
    try send(0, "Y", "P8", "2024-06-01", partition: 0)
    wait.wait("the old ones are gone") { daemon.metricsPage().contains("tieout_daemon_unique_values 2\n") }
    daemon.stop.stop()
    #expect(daemon.waitUntilStopped() && daemon.status.restarts == 0)
    #expect(try found() == 1)
  }
}
