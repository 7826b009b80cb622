import CRdKafka
import Glibc

/// What became of a topic that was asked for.
public enum TopicCreation: Sendable, Equatable { case created, exists }

/// Looks at and changes the cluster.
public final class Admin {
  let client: OpaquePointer
  private let context: ClientContext
  private let properties: [KafkaProperty]

  /// What is being done while the cluster is asked what it has.
  var describing: String {
    let address = properties.last { $0.name == "bootstrap.servers" }?.value
    return "reading the metadata of the cluster" + (address.map { " at \($0)" } ?? "")
  }

  public init(properties: [KafkaProperty], log: @escaping KafkaLogHandler = { _, _, _ in }) throws(KafkaError) {
    context = ClientContext(log: log)
    self.properties = properties
    // To look at a topic is not to make it.
    client = try makeClient(
      RD_KAFKA_PRODUCER, properties: [KafkaProperty("allow.auto.create.topics", "false")] + properties, context: context
    )
  }

  deinit { rd_kafka_destroy(client) }

  /// Partition counts by topic, of all topics.
  public func topics(timeout_ms: Int = 10_000) throws(KafkaError) -> [String: Int] {
    try describe(timeout_ms: timeout_ms).topics.mapValues(\.partitions.count)
  }

  /// Waits until these topics can be used: every broker knows them and a leader of each of their partitions, and each
  /// leader answers for it. A creation is answered before all brokers have heard of it, and a broker knows of a partition
  /// before it has one (KAFKA-15780).
  /// - Returns: those of which that was not seen in time.
  public func await(_ names: Set<String>, timeout_ms: Int = 30_000) throws(KafkaError) -> Set<String> {
    let until_ms = monotonic_us() / 1_000 + Int64(timeout_ms)
    let brokers = try describe().brokers.values.sorted()
    var others: [Admin] = []
    // The last of what is said twice counts.
    if brokers.count > 1 {
      for broker in brokers {
        others.append(
          try Admin(properties: properties + [KafkaProperty("bootstrap.servers", broker)], log: context.log))
      }
    }
    for (at, admin) in (others.isEmpty ? [self] : others).enumerated() {
      let missing = try admin.awaitLeaders(names, until_ms: until_ms) { () throws(KafkaError) in
        // A broker that has gone is in the metadata for a while.
        others.isEmpty ? true : try describe().brokers.values.contains(brokers[at])
      }
      if !missing.isEmpty { return missing }
    }
    return try awaitAnswers(names, until_ms: until_ms)
  }

  /// Waits for a leader of every partition, as far as the broker that is asked knows.
  /// - Parameter isThere: whether the broker, which does not answer, still is one of the cluster; one that is not knows all.
  private func awaitLeaders(
    _ names: Set<String>, until_ms: Int64, isThere: () throws(KafkaError) -> Bool
  ) throws(KafkaError) -> Set<String> {
    while true {
      var missing = names
      var metadata: UnsafePointer<rd_kafka_metadata>?
      do throws(KafkaError) {
        try KafkaError.check(rd_kafka_metadata(client, 1, nil, &metadata, 5_000), describing)
      } catch {
        guard error.isRetriable, monotonic_us() / 1_000 < until_ms else { throw error }
        if !(try isThere()) { return [] }
        usleep(100_000)
        continue
      }
      for index in 0..<Int(metadata!.pointee.topic_cnt) {
        let topic = metadata!.pointee.topics[index]
        guard topic.err == RD_KAFKA_RESP_ERR_NO_ERROR, topic.partition_cnt > 0 else { continue }
        let isLed = (0..<Int(topic.partition_cnt)).allSatisfy {
          topic.partitions[$0].err == RD_KAFKA_RESP_ERR_NO_ERROR && topic.partitions[$0].leader >= 0
        }
        if isLed { missing.remove(String(cString: topic.topic)) }
      }
      rd_kafka_metadata_destroy(metadata)
      guard !missing.isEmpty, monotonic_us() / 1_000 < until_ms else { return missing }
      usleep(100_000)
    }
  }

  /// Waits until the leader of every partition says where it ends.
  private func awaitAnswers(_ names: Set<String>, until_ms: Int64) throws(KafkaError) -> Set<String> {
    let known = try topics()
    var places = names.sorted().flatMap { name in (0..<Int32(known[name] ?? 0)).map { TopicPartition(name, $0) } }
    while true {
      do throws(KafkaError) {
        let ends = try endOffsets(client, places, timeout_ms: 5_000)
        places.removeAll { ends[$0] != nil }
      } catch { guard error.isRetriable else { throw error } }
      guard !places.isEmpty, monotonic_us() / 1_000 < until_ms else { return Set(places.map(\.topic)) }
      usleep(100_000)
    }
  }

  /// The cluster's id, where it has one.
  public func clusterID(timeout_ms: Int = 10_000) -> String? {
    guard let id = rd_kafka_clusterid(client, Int32(timeout_ms)) else { return nil }
    defer { rd_kafka_mem_free(client, id) }
    return String(cString: id)
  }

  /// Creates a topic. The embedded broker does not do this: it times out.
  /// - Parameters:
  ///   - replication: Replicas; nil: the broker's default.
  ///   - onlyAsks: The broker says what would become of it, and creates nothing.
  public func createTopic(
    _ name: String, partitions: Int, replication: Int? = nil, config: [String: String] = [:],
    timeout_ms: Int = 15_000, onlyAsks: Bool = false
  ) throws(KafkaError) -> TopicCreation {
    var space = [CChar](repeating: 0, count: 512)
    var topic = rd_kafka_NewTopic_new(name, Int32(partitions), Int32(replication ?? -1), &space, space.count)
    guard topic != nil else { throw KafkaError(text(space), context: "topic \(name)") }
    defer { rd_kafka_NewTopic_destroy(topic) }
    for (key, value) in config.sorted(by: { $0.key < $1.key }) { rd_kafka_NewTopic_set_config(topic, key, value) }
    let queue = rd_kafka_queue_new(client)
    defer { rd_kafka_queue_destroy(queue) }
    let options = rd_kafka_AdminOptions_new(client, RD_KAFKA_ADMIN_OP_CREATETOPICS)
    defer { rd_kafka_AdminOptions_destroy(options) }
    rd_kafka_AdminOptions_set_request_timeout(options, Int32(timeout_ms), &space, space.count)
    if onlyAsks { rd_kafka_AdminOptions_set_validate_only(options, 1, &space, space.count) }
    // Wait until the controller knows the topic.
    rd_kafka_AdminOptions_set_operation_timeout(options, Int32(timeout_ms), &space, space.count)
    rd_kafka_CreateTopics(client, &topic, 1, options, queue)
    guard let event = rd_kafka_queue_poll(queue, Int32(timeout_ms) + 1_000) else {
      throw KafkaError(RD_KAFKA_RESP_ERR__TIMED_OUT, "creating topic \(name)")
    }
    defer { rd_kafka_event_destroy(event) }
    let code = rd_kafka_event_error(event)
    try KafkaError.check(code, "creating topic \(name)")
    var count = 0
    let results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count)
    guard count == 1, let result = results?[0] else { return .created }
    switch rd_kafka_topic_result_error(result) {
    case RD_KAFKA_RESP_ERR_NO_ERROR: return .created
    case RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS: return .exists
    case let code:
      throw KafkaError(
        code, "creating topic \(name)", message: rd_kafka_topic_result_error_string(result).map { String(cString: $0) })
    }
  }

  public func deleteTopic(_ name: String, timeout_ms: Int = 15_000) throws(KafkaError) {
    var topic = rd_kafka_DeleteTopic_new(name)
    defer { rd_kafka_DeleteTopic_destroy(topic) }
    let queue = rd_kafka_queue_new(client)
    defer { rd_kafka_queue_destroy(queue) }
    rd_kafka_DeleteTopics(client, &topic, 1, nil, queue)
    guard let event = rd_kafka_queue_poll(queue, Int32(timeout_ms)) else {
      throw KafkaError(RD_KAFKA_RESP_ERR__TIMED_OUT, "deleting topic \(name)")
    }
    defer { rd_kafka_event_destroy(event) }
    try KafkaError.check(rd_kafka_event_error(event), "deleting topic \(name)")
    var count = 0
    guard let results = rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(event), &count),
      count == 1, let result = results[0]
    else { return }
    let code = rd_kafka_topic_result_error(result)
    guard code != RD_KAFKA_RESP_ERR_NO_ERROR else { return }
    throw KafkaError(
      code, "deleting topic \(name)", message: rd_kafka_topic_result_error_string(result).map { String(cString: $0) })
  }
}
