import Foundation
import Kafka
import MemoryBroker

/// A cluster for tests: one of the two brokers that live in this process, or the real one that `TIEOUT_TEST_BOOTSTRAP`
/// names. Topics get unique names and are deleted afterwards.
public final class TestCluster: @unchecked Sendable {
  public enum Kind: String, Sendable, CaseIterable {
    /// librdkafka's mock: faults can be injected, transactions commit nothing.
    case embedded
    /// The broker in memory that keeps to the rules of transactions.
    case transactional
    /// The cluster that `TIEOUT_TEST_BOOTSTRAP` names.
    case real
  }

  private static let address: String? = ProcessInfo.processInfo.environment["TIEOUT_TEST_BOOTSTRAP"]
    .flatMap { $0.isEmpty ? nil : $0 }

  /// What a test runs on: both brokers of this process, or the real cluster alone where one is named.
  public static let kinds: [Kind] = address == nil ? [.embedded, .transactional] : [.real]

  public let kind: Kind
  public let bootstrap: String
  private let broker: EmbeddedBroker?
  private let memory: MemoryBroker?
  private let lock = NSLock()
  private var created: [String] = []
  private let suffix = String(UInt64.random(in: 0 ... .max), radix: 36)

  /// - Parameter kind: If not given, the real cluster where one is named, otherwise the one with transactions.
  public init(_ kind: Kind? = nil) throws {
    let kind = kind ?? (TestCluster.address == nil ? .transactional : .real)
    self.kind = kind
    // A peer that goes away is an error of the call, not the end of the process.
    signal(SIGPIPE, SIG_IGN)
    if kind == .real, let failure = TestCluster.warmUp { throw failure }
    switch kind {
    case .embedded:
      let broker = try EmbeddedBroker()
      (self.broker, memory) = (broker, nil)
      bootstrap = broker.bootstrap
    case .transactional:
      let memory = try MemoryBroker()
      (broker, self.memory) = (nil, memory)
      bootstrap = memory.bootstrap
    case .real:
      (broker, memory) = (nil, nil)
      bootstrap = TestCluster.address ?? ""
    }
  }

  /// The first transaction on a fresh cluster waits for the internal topics, and no test should. Once for all.
  /// - Returns: what is wrong with the cluster.
  private static let warmUp: KafkaError? = {
    let properties = [KafkaProperty("bootstrap.servers", address ?? "")]
    let name = "tieout-test-warm-up-\(UInt64.random(in: 0 ... .max))"
    let until = Date().addingTimeInterval(120)
    func failure(_ error: KafkaError) -> KafkaError {
      KafkaError(
        name: error.name,
        "\(error); with few brokers transaction.state.log.replication.factor, transaction.state.log.min.isr and "
          + "offsets.topic.replication.factor must not ask for more than there are, nor min.insync.replicas for more than "
          + "default.replication.factor",
        context: "the first transaction on \(address ?? "")")
    }
    do throws(KafkaError) {
      let admin = try Admin(properties: properties)
      defer { try? admin.deleteTopic(name) }
      while true {
        do throws(KafkaError) {
          // A cluster that is just coming up has brokers that lead nothing yet.
          _ = try admin.createTopic(name, partitions: 1)
          guard try admin.await([name]).isEmpty else {
            throw KafkaError(name: "_TIMED_OUT", "no leader for its partition", context: "creating topic \(name)")
          }
          let producer = try Producer(properties: properties + [KafkaProperty("transactional.id", name)])
          try producer.initTransactions(timeout_ms: 30_000)
          try producer.beginTransaction()
          try producer.produce(topic: name, partition: 0, key: nil, value: [0])
          try producer.flush(timeout_ms: 30_000)
          try producer.sendOffsets(
            [TopicPartition(name, 0): CommittedOffset(0)], group: try GroupMetadata(outside: name), timeout_ms: 30_000)
          try producer.commitTransaction(timeout_ms: 30_000)
          return nil
        } catch { if Date() > until { return failure(error) } }
        Thread.sleep(forTimeInterval: 0.5)
      }
    } catch { return error }
  }()

  deinit {
    memory?.stop()
    guard kind == .real, let admin = try? Admin(properties: properties) else { return }
    for topic in created { try? admin.deleteTopic(topic) }
  }

  /// Whether exactly-once can be had.
  public var knowsTransactions: Bool { kind != .embedded }

  public var properties: [KafkaProperty] { [KafkaProperty("bootstrap.servers", bootstrap)] }

  /// The embedded broker, for fault injection; nil on the others.
  public var embedded: EmbeddedBroker? { broker }

  /// The broker in memory; nil on the others.
  public var transactional: MemoryBroker? { memory }

  /// A name that no other test uses.
  public func unique(_ name: String) -> String { "tieout-test-\(suffix)-\(name)" }

  /// Creates a topic and remembers to delete it.
  public func createTopic(_ name: String, partitions: Int, config: [String: String] = [:]) throws {
    if let broker {
      try broker.createTopic(name, partitions: partitions)
    } else {
      let admin = try Admin(properties: properties)
      // What is there already is somebody else's.
      if try admin.createTopic(name, partitions: partitions, config: config) == .created { adopt(name) }
      guard try admin.await([name]).isEmpty else {
        throw KafkaError(name: "_TIMED_OUT", "no leader for every partition", context: "creating topic \(name)")
      }
    }
  }

  /// Adds partitions to a topic, up to so many; the embedded broker cannot.
  public func addPartitions(_ name: String, upTo count: Int) throws {
    if let memory { return memory.addPartitions(name, upTo: count) }
    let admin = try Admin(properties: properties)
    try admin.addPartitions(name, upTo: count)
    let until = Date().addingTimeInterval(30)
    while try admin.topics()[name] != count, Date() < until { Thread.sleep(forTimeInterval: 0.1) }
    guard try admin.await([name]).isEmpty else {
      throw KafkaError(name: "_TIMED_OUT", "no leader for every partition", context: "adding partitions to \(name)")
    }
  }

  /// Has a topic deleted that the program under test created.
  public func adopt(_ name: String) { lock.withLock { created.append(name) } }

  public func produce(_ topic: String, _ records: [(key: String?, value: String?, partition: Int32?)]) throws {
    let producer = try Producer(properties: properties)
    for record in records {
      try producer.produce(
        topic: topic, partition: record.partition, key: record.key.map { Array($0.utf8) },
        value: record.value.map { Array($0.utf8) })
    }
    try producer.flush(timeout_ms: 30_000)
  }

  public struct Record: Sendable, Equatable {
    public var partition: Int32
    public var offset: Int64
    public var key: String?
    public var value: String?
  }

  /// Everything in a topic, up to the end of every partition, in the order of partitions and offsets: what is committed
  /// when it is called. A transaction that has been answered is waited for until its partition has heard of it.
  public func readAll(_ topic: String, partitions: Int, timeout_s: Int = 60) throws -> [Record] {
    let reader = try PartitionReader(properties: properties)
    defer { reader.close() }
    let whole = try PartitionReader(properties: properties + [KafkaProperty("isolation.level", "read_uncommitted")])
    defer { whole.close() }
    var records: [Record] = []
    for partition in 0..<Int32(partitions) {
      let place = TopicPartition(topic, partition)
      // A broker ends a transaction that was left open after its time only, and looks for such ones every ten seconds.
      let until = Date().addingTimeInterval(kind == .real ? 30 : 3)
      var (low, end) = try reader.bounds(place, timeout_ms: timeout_s * 1_000)
      let last = try whole.bounds(place, timeout_ms: timeout_s * 1_000).stable
      while end < last, Date() < until {
        Thread.sleep(forTimeInterval: 0.01)
        (low, end) = try reader.bounds(place, timeout_ms: timeout_s * 1_000)
      }
      try reader.read(place, from: low, end: end) { message in
        func text(_ bytes: UnsafeBufferPointer<UInt8>?) -> String? { bytes.map { String(decoding: $0, as: UTF8.self) } }
        records.append(
          Record(
            partition: message.partition, offset: message.offset, key: text(message.key), value: text(message.value)))
        return true
      }
    }
    return records.sorted { ($0.partition, $0.offset) < ($1.partition, $1.offset) }
  }
}
