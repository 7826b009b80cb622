import CRdKafka

/// librdkafka's own mock cluster as a broker inside this process, on 127.0.0.1; other processes can connect.
///
/// It keeps at most 5 MiB and 100,000 batches of a partition and silently drops the oldest beyond; it knows neither
/// transactions nor isolation, no topic creation over the wire, no look-up of offsets by time. Good for demos and
/// tests, no proof of exactly-once.
public final class EmbeddedBroker: @unchecked Sendable {
  private let client: OpaquePointer
  private let cluster: OpaquePointer
  private let context: ClientContext
  /// `host:port` to connect to.
  public let bootstrap: String

  public init(brokers: Int = 1) throws(KafkaError) {
    context = ClientContext(log: { _, _, _ in })
    client = try makeClient(RD_KAFKA_PRODUCER, properties: [], context: context)
    guard let cluster = rd_kafka_mock_cluster_new(client, Int32(brokers)) else {
      rd_kafka_destroy(client)
      throw KafkaError("the embedded broker could not start", context: "embedded broker")
    }
    self.cluster = cluster
    bootstrap = String(cString: rd_kafka_mock_cluster_bootstraps(cluster))
  }

  deinit {
    rd_kafka_mock_cluster_destroy(cluster)
    rd_kafka_destroy(client)
  }

  public func createTopic(_ name: String, partitions: Int) throws(KafkaError) {
    try KafkaError.check(rd_kafka_mock_topic_create(cluster, name, Int32(partitions), 1), "creating topic \(name)")
  }

  /// The next requests of a kind (Kafka's API key) fail with these codes.
  public func failNext(apiKey: Int16, codes: [Int]) {
    let errors = codes.map { rd_kafka_resp_err_t(rawValue: Int32($0)) }
    rd_kafka_mock_push_request_errors_array(cluster, apiKey, errors.count, errors)
  }

  public func setDown(_ isDown: Bool) {
    if isDown { rd_kafka_mock_broker_set_down(cluster, 1) } else { rd_kafka_mock_broker_set_up(cluster, 1) }
  }
}
