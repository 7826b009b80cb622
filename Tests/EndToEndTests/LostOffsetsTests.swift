import Configuration
import Domain
import Foundation
import Kafka
import KafkaTesting
import Logging
import Pipeline
import Testing

extension EndToEndTests {
  private func started(_ configuration: Configuration) throws -> Daemon {
    let daemon = Daemon(configuration: configuration, log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    try daemon.start()
    return daemon
  }

  private func wait(_ what: Comment, _ condition: () throws -> Bool) rethrows {
    let until = Date().addingTimeInterval(60)
    while try !condition(), Date() < until { Thread.sleep(forTimeInterval: 0.05) }
    #expect(try condition(), what)
  }

  /// The broker forgets the offsets of a group that was away for long. Without them it is not known which state is the last
  /// one: nothing is told again, and nothing is skipped.
  @Test(arguments: TestCluster.kinds) func aGroupWithoutOffsetsIsNotNew(kind: TestCluster.Kind) throws {
    let cluster = try TestCluster(kind)
    var configuration = try prepare("flat.yaml", cluster, partitions: 1, workers: 1)
    if kind == .embedded { configuration.kafka.delivery = .atLeastOnce }
    configuration.checkpoints = .topic
    configuration.checkpointInterval_ms = 200
    let (sent, truth) = try load(configuration, cluster, orders: 200)
    #expect(try reconcile(configuration, records: sent).count == truth.count)
    let told = try cluster.readAll(configuration.breaksTopic, partitions: 1).count
    let group = configuration.kafka.group
    configuration.kafka.group = group + "-forgotten"
    let daemon = try started(configuration)
    wait("it refuses") { daemon.status.restarts > 0 }
    #expect(daemon.status.decode.records == 0)
    daemon.stop.stop()
    #expect(daemon.waitUntilStopped())
    #expect(try cluster.readAll(configuration.breaksTopic, partitions: 1).count == told)
    // With the offsets it goes on.
    configuration.kafka.group = group
    let next = try started(configuration)
    wait("it comes back") { next.status.recoveries > 0 }
    next.stop.stop()
    #expect(next.waitUntilStopped())
    #expect(next.status.restarts == 0)
    #expect(try cluster.readAll(configuration.breaksTopic, partitions: 1).count == told)
  }

  /// Where reading began at the end of topics, that is committed before anything comes: what comes after it is read even if
  /// the process dies before.
  @Test(arguments: TestCluster.kinds) func whereItBeganIsCommitted(kind: TestCluster.Kind) throws {
    let cluster = try TestCluster(kind)
    var configuration = try prepare("flat.yaml", cluster, partitions: 2, workers: 1)
    if kind == .embedded { configuration.kafka.delivery = .atLeastOnce }
    configuration.kafka.start = .latest
    let topic = configuration.sources[0].topic
    try cluster.produce(topic, [("old", "no order", 0), ("old", "no order", 1)])
    let daemon = try started(configuration)
    let reader = try PartitionReader(
      properties: cluster.properties + [KafkaProperty("group.id", configuration.kafka.group)])
    defer { reader.close() }
    let places = [TopicPartition(topic, 0), TopicPartition(topic, 1)]
    try wait("both ends are committed") { try reader.committed(places).count == 2 }
    for place in places {
      #expect(try reader.committed([place])[place]?.offset == reader.bounds(place, timeout_ms: 10_000).stable)
    }
    daemon.stop.stop()
    #expect(daemon.waitUntilStopped())
    #expect(daemon.status.decode.records == 0)
  }

  /// And of a source that the configuration did not have before.
  @Test(arguments: TestCluster.kinds) func whereAnAddedSourceBeganIsCommitted(kind: TestCluster.Kind) throws {
    let cluster = try TestCluster(kind)
    var configuration = try prepare("flat.yaml", cluster, partitions: 1, workers: 1)
    if kind == .embedded { configuration.kafka.delivery = .atLeastOnce }
    configuration.kafka.start = .latest
    let added = configuration.sources.removeLast()
    let reader = try PartitionReader(
      properties: cluster.properties + [KafkaProperty("group.id", configuration.kafka.group)])
    defer { reader.close() }
    let (old, new) = (TopicPartition(configuration.sources[0].topic, 0), TopicPartition(added.topic, 0))
    let first = try started(configuration)
    try wait("the first end is committed") { try reader.committed([old]).count == 1 }
    first.stop.stop()
    #expect(first.waitUntilStopped())
    configuration.sources.append(added)
    let second = try started(configuration)
    // Long before so much time has moved that it would be committed for that.
    let until = Date().addingTimeInterval(30)
    while try reader.committed([new]).isEmpty, Date() < until { Thread.sleep(forTimeInterval: 0.05) }
    #expect(try reader.committed([new])[new]?.offset == reader.bounds(new, timeout_ms: 10_000).stable)
    second.stop.stop()
    #expect(second.waitUntilStopped())
    #expect(first.status.restarts == 0 && second.status.restarts == 0 && second.status.recoveryProblems == 0)
  }

  /// The same of a topic whose records are routed; and a partition that it is given later is read from its beginning.
  @Test(arguments: TestCluster.kinds) func whereTheRouterBeganIsCommitted(kind: TestCluster.Kind) throws {
    let cluster = try TestCluster(kind)
    var configuration = try prepare("flat.yaml", cluster, partitions: 1, workers: 1)
    if kind == .embedded { configuration.kafka.delivery = .atLeastOnce }
    configuration.kafka.start = .latest
    let raw = cluster.unique("raw")
    try cluster.createTopic(raw, partitions: 3)
    configuration.sources[0].routedFrom = raw
    let reader = try PartitionReader(
      properties: cluster.properties + [KafkaProperty("group.id", configuration.kafka.group + "-router")])
    defer { reader.close() }
    let places = (0..<3).map { TopicPartition(raw, Int32($0)) }
    let order =
      #"{"order_id":"A","event_id":"e","event_type":"invoiced","event_time":"2026-03-04T10:00:00Z","currency":"USD","gross":"1.00"}"#
    try cluster.produce(raw, [("old", order, 0)])
    let first = try started(configuration)
    try wait("all ends are committed") { try reader.committed(places).count == 3 }
    first.stop.stop()
    #expect(first.waitUntilStopped())
    let told = try reader.committed(places)
    #expect(places.map { told[$0]?.offset } == (try places.map { try reader.bounds($0, timeout_ms: 10_000).stable }))
    #expect(told.values.allSatisfy { $0.metadata == "3" })
    // What comes while nobody is there is read.
    try cluster.produce(raw, [("new", order, 1)])
    let second = try started(configuration)
    try wait("it is routed") { try reader.committed(places)[places[1]]?.offset ?? 0 > told[places[1]]!.offset }
    second.stop.stop()
    #expect(second.waitUntilStopped())
    #expect(try reader.committed(places).values.allSatisfy { $0.metadata == "3" })
    #expect(first.status.restarts == 0 && second.status.restarts == 0)
  }
}
