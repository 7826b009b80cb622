import Configuration
import Domain
import Foundation
import Kafka
import KafkaTesting
import Logging
import Pipeline
import Testing

extension EndToEndTests {
  /// People act on breaks that a daemon has reported; the next daemon goes on from there, and a replay proves all of it.
  @Test func decisionsAreInTheBreaksTopic() throws {
    let cluster = try TestCluster()
    let partitions = 3
    var configuration = try prepare("flat.yaml", cluster, partitions: partitions, workers: 2)
    configuration.takesActions = true
    configuration.actionsTopic = cluster.unique("actions")
    configuration.checkpointInterval_ms = 300
    // The load is of another year: where nothing comes any more, the clock's time is that of the ties.
    configuration.policy.openRetention_ms = 40_000 * 86_400_000
    configuration.policy.retention_ms = 40_000 * 86_400_000
    let wanted = configuration.ownTopics.last!
    #expect(wanted.name == configuration.actionsTopic && wanted.config["retention.ms"] == "-1")
    // One partition short: the daemon says so, and does not start.
    let short = cluster.unique("short")
    try cluster.createTopic(short, partitions: partitions - 1)
    var narrow = configuration
    narrow.actionsTopic = short
    let refusal = #expect(throws: TopicCheckError.self) { try Daemon(configuration: narrow, log: silent).start() }
    #expect(refusal?.description.contains("has 2 partitions; there are 3 tasks") == true)
    try cluster.createTopic(configuration.actionsTopic, partitions: partitions, config: wanted.config)

    let (sent, truth) = try load(configuration, cluster, orders: 300)
    var breaks = try reconcile(configuration, records: sent)
    #expect(breaks.count == truth.count && truth.count > 8)
    let open = breaks.values.filter(\.isOpen).sorted { $0.id < $1.id }
    #expect(open.allSatisfy { $0.task != nil && $0.decision == nil })
    let (explained, forced, stale, untouched) = (open[0], open[1], open[2], open[3])
    func action(_ id: String, _ kind: ActionKind, _ made: BreakMessage, by actor: String = "ann") -> Action {
      var action = Action(
        id: id, kind: kind, breakID: made.id, order: made.order, actor: actor, at: formatTimestamp(wallClock_ms()),
        revision: made.revision, basis: made.basis)
      action.reasonCode = "timing"
      return action
    }
    func send(_ actions: [Action]) throws {
      for action in actions {
        let task = breaks[action.breakID]?.task
        try cluster.produce(
          configuration.actionsTopic,
          [(action.order, String(decoding: try action.encoded(), as: UTF8.self), task)])
      }
    }
    var asked = action("w1", .forceClose, forced)
    asked.needsApproval = true
    var approval = action("w2", .approve, forced, by: "bob")
    approval.of = "w1"
    var old = action("s1", .accept, stale)
    old.basis = "0.01|0.02|USD"
    let first = action("e1", .explain, explained)
    try send([first, first, asked, old])
    try cluster.produce(configuration.actionsTopic, [("x", "no action", 1)])
    breaks = try reconcile(configuration, records: 0)
    #expect(breaks[explained.id]?.state == "explained" && breaks[explained.id]?.revision == explained.revision + 1)
    #expect(
      breaks[explained.id]?.decision
        == BreakMessage.Decision(action: "e1", actor: "ann", reasonCode: "timing", approver: nil))
    #expect(breaks[forced.id] == forced, "it waits for a second person")
    #expect(breaks[stale.id] == stale && breaks[untouched.id] == untouched)
    // The wait is part of the state: the daemon that hears the approval is another one.
    try send([approval, action("r1", .reopen, explained, by: "eve")])
    breaks = try reconcile(configuration, records: 0)
    #expect(breaks[forced.id]?.state == "force_closed")
    #expect(breaks[forced.id]?.decision?.approver == "bob" && breaks[forced.id]?.decision?.action == "w1")
    #expect(breaks[explained.id]?.state == "reopened" && breaks[explained.id]?.decision?.actor == "eve")

    let dead = try cluster.readAll(configuration.deadLettersTopic, partitions: partitions).compactMap(\.value)
      .filter { $0.contains(configuration.actionsTopic) }
    #expect(dead.count == 1 && dead.first?.contains("\"partition\":1") == true)
    #expect(dead.first?.contains("\"source\":\"actions\"") == true)
    // An auditor derives every message again, the decisions with them.
    guard cluster.knowsTransactions else { return }
    let reader = try PartitionReader(
      properties: cluster.properties + [KafkaProperty("group.id", configuration.kafka.group)])
    defer { reader.close() }
    var audited = configuration
    audited.partialsPartitions = partitions
    var derived: [String] = []
    for partition in Int32(0)..<Int32(partitions) {
      let places = configuration.inputTopics.map { TopicPartition($0, partition) }
      let committed = try reader.committed(places)
      #expect(committed[places.last!]?.offset != nil, "actions are committed with everything else")
      _ = try Auditor(audited, environment: KafkaEnvironment(), reader: reader).audit(
        partition: partition, committed: places.map { committed[$0] }
      ) { output in
        if output.topic == .breaks { derived.append(String(decoding: output.value, as: UTF8.self)) }
      }
    }
    let told = try cluster.readAll(configuration.breaksTopic, partitions: partitions).compactMap(\.value)
    #expect(derived.sorted() == told.sorted())
    #expect(told.filter { $0.contains("\"decision\"") }.count == 3)
  }
}
