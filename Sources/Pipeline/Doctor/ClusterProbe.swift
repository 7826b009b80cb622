import Configuration
import Kafka

/// What the doctor asks of a cluster. `KafkaProbe` answers it over librdkafka; tests give answers of their own.
/// Every question ends within its timeout, about, whatever the broker does.
public protocol ClusterProbe: AnyObject {
  /// What the clients have complained of so far.
  var complaints: [String] { get }
  func describe(timeout_ms: Int) throws(KafkaError) -> ClusterDescription
  func settings(
    of topics: [String], timeout_ms: Int
  ) throws(KafkaError) -> [String: Result<[String: String], KafkaError>]
  /// Throws where the broker would not create the topic; nothing is created.
  func couldCreate(
    _ topic: String, partitions: Int, config: [String: String], timeout_ms: Int
  ) throws(KafkaError)
  /// Reads the end of a partition as the daemon's clients do.
  func newest(_ place: TopicPartition, timeout_ms: Int) throws(KafkaError) -> RecordStamp?
  /// The records of a partition that have a key and a value, in their order.
  /// - Parameter from: An offset; a negative one counts from the end.
  func records(
    _ place: TopicPartition, from: Int64, timeout_ms: Int
  ) throws(KafkaError) -> [(key: [UInt8], value: [UInt8])]
  func committed(
    group: String, _ places: [TopicPartition], timeout_ms: Int
  ) throws(KafkaError) -> [TopicPartition: CommittedOffset]
  /// Transactions that write and commit, and are aborted.
  func tryAccess(
    topics: [String], commits: [(group: String, place: TopicPartition, offset: Int64)], timeout_ms: Int
  ) throws(KafkaError) -> TransactionTrial
  /// Whether a TCP connection to `host:port` can be made; what went wrong, else nil.
  func reach(_ address: String, timeout_ms: Int) -> String?
}

/// The cluster of a configuration.
public final class KafkaProbe: ClusterProbe {
  private let configuration: Configuration
  private let heard = ClientComplaints()
  private let admin: Admin
  private var reader: PartitionReader?

  public init(_ configuration: Configuration) throws(KafkaError) {
    self.configuration = configuration
    admin = try Admin(properties: configuration.clientProperties(.admin), log: heard.handler)
  }

  public var complaints: [String] { heard.all }

  public func describe(timeout_ms: Int) throws(KafkaError) -> ClusterDescription {
    try admin.describe(timeout_ms: timeout_ms)
  }

  public func settings(
    of topics: [String], timeout_ms: Int
  ) throws(KafkaError) -> [String: Result<[String: String], KafkaError>] {
    try admin.settings(of: topics, timeout_ms: timeout_ms)
  }

  public func couldCreate(
    _ topic: String, partitions: Int, config: [String: String], timeout_ms: Int
  ) throws(KafkaError) {
    _ = try admin.createTopic(
      topic, partitions: partitions, replication: configuration.kafka.replication, config: config,
      timeout_ms: timeout_ms, onlyAsks: true)
  }

  private func makeReader(group: String) throws(KafkaError) -> PartitionReader {
    try PartitionReader(
      properties: configuration.clientProperties(.admin) + [KafkaProperty("group.id", group)], log: heard.handler)
  }

  public func newest(_ place: TopicPartition, timeout_ms: Int) throws(KafkaError) -> RecordStamp? {
    if reader == nil { reader = try makeReader(group: configuration.kafka.group) }
    return try reader!.newest(place, timeout_ms: timeout_ms)
  }

  public func records(
    _ place: TopicPartition, from: Int64, timeout_ms: Int
  ) throws(KafkaError) -> [(key: [UInt8], value: [UInt8])] {
    let reader = try makeReader(group: configuration.kafka.group)
    defer { reader.close() }
    let (low, stable) = try reader.bounds(place, timeout_ms: timeout_ms)
    var records: [(key: [UInt8], value: [UInt8])] = []
    let first = max(low, from < 0 ? stable + from : from)
    try reader.read(place, from: first, end: stable, patience_ms: timeout_ms) { message in
      if let key = message.key, let value = message.value { records.append((Array(key), Array(value))) }
      return true
    }
    return records
  }

  public func committed(
    group: String, _ places: [TopicPartition], timeout_ms: Int
  ) throws(KafkaError) -> [TopicPartition: CommittedOffset] {
    let reader = try makeReader(group: group)
    defer { reader.close() }
    return try reader.committed(places, timeout_ms: timeout_ms)
  }

  public func tryAccess(
    topics: [String], commits: [(group: String, place: TopicPartition, offset: Int64)], timeout_ms: Int
  ) throws(KafkaError) -> TransactionTrial {
    // A name that no worker has: nobody is fenced.
    try TransactionTrial.run(topics: topics, commits: commits, timeout_ms: timeout_ms) { () throws(KafkaError) in
      try Producer(
        properties: [KafkaProperty("transaction.timeout.ms", "10000")] + configuration.clientProperties(.producer) + [
          KafkaProperty("transactional.id", "\(configuration.kafka.group)-doctor")
        ], log: heard.handler)
    }
  }

  public func reach(_ address: String, timeout_ms: Int) -> String? {
    TCPAttempt.failure(address, timeout_ms: timeout_ms)
  }
}
