import CRdKafka
import Glibc

/// A topic as the cluster describes it.
public struct TopicDescription: Sendable, Equatable {
  public struct Partition: Sendable, Equatable {
    /// Broker that leads it; negative where none does.
    public var leader: Int32
    public var replicas: Int
    /// Replicas that have everything.
    public var inSync: Int

    public init(leader: Int32, replicas: Int, inSync: Int) {
      self.leader = leader
      self.replicas = replicas
      self.inSync = inSync
    }
  }
  public var partitions: [Partition]

  public init(partitions: [Partition]) { self.partitions = partitions }
}

/// A cluster as one of its brokers describes it: what the client may not describe is left out.
public struct ClusterDescription: Sendable, Equatable {
  public var id: String
  /// `host:port` by the broker's number.
  public var brokers: [Int32: String]
  public var topics: [String: TopicDescription]

  public init(id: String, brokers: [Int32: String], topics: [String: TopicDescription]) {
    self.id = id
    self.brokers = brokers
    self.topics = topics
  }

  /// Whether it is librdkafka's mock, as `tieout broker` runs it.
  public var isEmbedded: Bool { id.hasPrefix("mock") }
}

extension Admin {
  /// Everything that the metadata of the cluster says; waits at most `timeout_ms` twice.
  public func describe(timeout_ms: Int = 10_000) throws(KafkaError) -> ClusterDescription {
    var metadata: UnsafePointer<rd_kafka_metadata>?
    try KafkaError.check(
      rd_kafka_metadata(client, 1, nil, &metadata, Int32(timeout_ms)), describing)
    defer { rd_kafka_metadata_destroy(metadata) }
    let raw = metadata!.pointee
    var cluster = ClusterDescription(id: "", brokers: [:], topics: [:])
    for index in 0..<Int(raw.broker_cnt) {
      let broker = raw.brokers[index]
      cluster.brokers[broker.id] = "\(String(cString: broker.host)):\(broker.port)"
    }
    for index in 0..<Int(raw.topic_cnt) {
      let topic = raw.topics[index]
      guard topic.err == RD_KAFKA_RESP_ERR_NO_ERROR else { continue }
      let partitions = (0..<Int(topic.partition_cnt)).map { topic.partitions[$0] }.sorted { $0.id < $1.id }
      cluster.topics[String(cString: topic.topic)] = TopicDescription(
        partitions: partitions.map { .init(leader: $0.leader, replicas: Int($0.replica_cnt), inSync: Int($0.isr_cnt)) })
    }
    cluster.id = clusterID(timeout_ms: timeout_ms) ?? ""
    return cluster
  }

  /// The settings of topics, key to value, defaults of the broker included; what the broker keeps to itself is left
  /// out. A topic that it will not speak of has its error. The embedded broker never answers: `_TIMED_OUT`.
  public func settings(
    of topics: [String], timeout_ms: Int = 10_000
  ) throws(KafkaError) -> [String: Result<[String: String], KafkaError>] {
    guard !topics.isEmpty else { return [:] }
    let context = "asking for the settings of topics"
    var resources = topics.map { rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, $0) }
    defer { rd_kafka_ConfigResource_destroy_array(&resources, resources.count) }
    let queue = rd_kafka_queue_new(client)
    defer { rd_kafka_queue_destroy(queue) }
    let options = rd_kafka_AdminOptions_new(client, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS)
    defer { rd_kafka_AdminOptions_destroy(options) }
    var space = [CChar](repeating: 0, count: 512)
    rd_kafka_AdminOptions_set_request_timeout(options, Int32(timeout_ms), &space, space.count)
    rd_kafka_DescribeConfigs(client, &resources, resources.count, options, queue)
    guard let event = rd_kafka_queue_poll(queue, Int32(timeout_ms) + 1_000) else {
      throw KafkaError(RD_KAFKA_RESP_ERR__TIMED_OUT, context)
    }
    defer { rd_kafka_event_destroy(event) }
    let code = rd_kafka_event_error(event)
    guard code == RD_KAFKA_RESP_ERR_NO_ERROR else {
      throw KafkaError(code, context, message: rd_kafka_event_error_string(event).map { String(cString: $0) })
    }
    var found: [String: Result<[String: String], KafkaError>] = [:]
    var count = 0
    let results = rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(event), &count)
    for index in 0..<count {
      guard let resource = results?[index] else { continue }
      let name = String(cString: rd_kafka_ConfigResource_name(resource))
      let code = rd_kafka_ConfigResource_error(resource)
      guard code == RD_KAFKA_RESP_ERR_NO_ERROR else {
        found[name] = .failure(
          KafkaError(
            code, "asking for the settings of topic \(name)",
            message: rd_kafka_ConfigResource_error_string(resource).map { String(cString: $0) }))
        continue
      }
      var entries: [String: String] = [:]
      var entryCount = 0
      let configs = rd_kafka_ConfigResource_configs(resource, &entryCount)
      for at in 0..<entryCount {
        guard let entry = configs?[at], let value = rd_kafka_ConfigEntry_value(entry) else { continue }
        entries[String(cString: rd_kafka_ConfigEntry_name(entry))] = String(cString: value)
      }
      found[name] = .success(entries)
    }
    return found
  }
}
