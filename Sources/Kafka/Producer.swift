import CRdKafka

/// An idempotent producer, transactional where the properties give it a `transactional.id`. All functions belong to one
/// thread.
public final class Producer: RecordProducer {
  /// Idempotence keeps order and drops retried duplicates; a short linger fills batches; lz4 is the cheapest to read.
  public static let defaults: [KafkaProperty] = [
    .init("enable.idempotence", "true"), .init("linger.ms", "5"), .init("compression.codec", "lz4"),
    .init("queue.buffering.max.messages", "500000"),
    // A topic that is missing is an error, not a topic with the settings of the broker.
    .init("allow.auto.create.topics", "false"),
  ]

  /// A message that did not arrive.
  public struct Failure: Sendable, CustomStringConvertible {
    public var topic: String
    public var error: KafkaError
    public var description: String { "\(topic): \(error)" }
  }

  let client: OpaquePointer
  private let context: ClientContext
  private var topics: [String: OpaquePointer] = [:]
  /// Topics whose messages are compressed already.
  private let incompressible: Set<String>
  /// Failures since they were last taken, at most `maximumFailures`; all are counted.
  private var failures: [Failure] = []
  public private(set) var failureCount = 0
  public private(set) var deliveredCount = 0
  static let maximumFailures = 16

  /// - Parameter incompressible: Topics whose messages are compressed already: they are sent as they are.
  public init(
    properties: [KafkaProperty], incompressible: Set<String> = [], log: @escaping KafkaLogHandler = { _, _, _ in }
  ) throws(KafkaError) {
    self.incompressible = incompressible
    context = ClientContext(log: log)
    client = try makeClient(RD_KAFKA_PRODUCER, properties: Producer.defaults + properties, context: context)
    context.onDelivery = { [unowned self] message in
      if message.pointee.err == RD_KAFKA_RESP_ERR_NO_ERROR {
        deliveredCount += 1
        return
      }
      failureCount += 1
      if failures.count < Producer.maximumFailures {
        let topic = message.pointee.rkt.map { String(cString: rd_kafka_topic_name($0)) } ?? ""
        failures.append(Failure(topic: topic, error: KafkaError(message.pointee.err, "delivering")))
      }
    }
  }

  deinit {
    for (_, topic) in topics { rd_kafka_topic_destroy(topic) }
    rd_kafka_destroy(client)
  }

  private func handle(_ topic: String) throws(KafkaError) -> OpaquePointer {
    if let known = topics[topic] { return known }
    var settings: OpaquePointer?
    if incompressible.contains(topic) {
      settings = rd_kafka_default_topic_conf_dup(client)
      rd_kafka_topic_conf_set(settings, "compression.codec", "none", nil, 0)
    }
    guard let made = rd_kafka_topic_new(client, topic, settings) else {
      if let settings { rd_kafka_topic_conf_destroy(settings) }
      throw KafkaError(rd_kafka_last_error(), "topic \(topic)")
    }
    topics[topic] = made
    return made
  }

  /// Hands a message over; its bytes are copied. Where the queue is full, waits until there is room.
  /// - Parameter partition: nil leaves it to the partitioner (by key).
  public func produce(
    topic: String, partition: Int32? = nil, key: UnsafeBufferPointer<UInt8>?, value: UnsafeBufferPointer<UInt8>?
  ) throws(KafkaError) {
    let handle = try handle(topic)
    var waited_ms = 0
    while true {
      let result = rd_kafka_produce(
        handle, partition ?? Int32(RD_KAFKA_PARTITION_UA), Int32(RD_KAFKA_MSG_F_COPY),
        value.map { UnsafeMutableRawPointer(mutating: $0.baseAddress ?? Producer.empty) }, value?.count ?? 0,
        key.map { $0.baseAddress ?? Producer.empty }, key?.count ?? 0, nil)
      if result == 0 { return }
      let code = rd_kafka_last_error()
      guard code == RD_KAFKA_RESP_ERR__QUEUE_FULL, waited_ms < 120_000 else {
        throw KafkaError(code, "producing to \(topic)")
      }
      rd_kafka_poll(client, 10)
      waited_ms += 10
    }
  }

  public func produce(topic: String, partition: Int32? = nil, key: [UInt8]?, value: [UInt8]?) throws(KafkaError) {
    var failure: KafkaError?
    func send(_ key: UnsafeBufferPointer<UInt8>?, _ value: UnsafeBufferPointer<UInt8>?) {
      do throws(KafkaError) {
        try produce(topic: topic, partition: partition, key: key, value: value)
      } catch { failure = error }
    }
    func withOptional(_ bytes: [UInt8]?, _ body: (UnsafeBufferPointer<UInt8>?) -> Void) {
      if let bytes { bytes.withUnsafeBufferPointer { body($0) } } else { body(nil) }
    }
    withOptional(key) { key in withOptional(value) { value in send(key, value) } }
    if let failure { throw failure }
  }

  /// Where an empty key or value points: empty is not null.
  nonisolated(unsafe) private static let empty: UnsafePointer<UInt8> = {
    let byte = UnsafeMutablePointer<UInt8>.allocate(capacity: 1)
    byte.initialize(to: 0)
    return UnsafePointer(byte)
  }()

  /// Serves delivery reports without waiting.
  public func poll() { rd_kafka_poll(client, 0) }

  /// Messages handed over and not yet delivered.
  public var queued: Int { Int(rd_kafka_outq_len(client)) }

  /// Waits until everything handed over has arrived; throws the first failure since the last flush.
  public func flush(timeout_ms: Int) throws(KafkaError) {
    let code = rd_kafka_flush(client, Int32(timeout_ms))
    if let first = failures.first {
      failures.removeAll()
      var error = KafkaError(
        rd_kafka_resp_err_t(rawValue: Int32(first.error.code)), "delivering to \(first.topic)",
        message: first.error.message)
      // The message is gone, whatever the reason: to flush again would find nothing left to complain about.
      error.isRetriable = false
      throw error
    }
    try KafkaError.check(code, "flushing")
  }

  // MARK: - Transactions

  public func initTransactions(timeout_ms: Int) throws(KafkaError) {
    try KafkaError.check(rd_kafka_init_transactions(client, Int32(timeout_ms)), "taking over the transactional id")
  }

  public func beginTransaction() throws(KafkaError) {
    try KafkaError.check(rd_kafka_begin_transaction(client), "beginning a transaction")
  }

  public func sendOffsets(
    _ offsets: [TopicPartition: CommittedOffset], group: GroupMetadata, timeout_ms: Int
  ) throws(KafkaError) {
    var metadata: OpaquePointer?
    let error = group.bytes.withUnsafeBytes {
      rd_kafka_consumer_group_metadata_read(&metadata, $0.baseAddress, $0.count)
    }
    try KafkaError.check(error, "group metadata")
    defer { rd_kafka_consumer_group_metadata_destroy(metadata) }
    let list = makeList(offsets)
    defer { rd_kafka_topic_partition_list_destroy(list) }
    try KafkaError.check(
      rd_kafka_send_offsets_to_transaction(client, list, metadata, Int32(timeout_ms)),
      "adding offsets to the transaction")
  }

  public func commitTransaction(timeout_ms: Int) throws(KafkaError) {
    try KafkaError.check(rd_kafka_commit_transaction(client, Int32(timeout_ms)), "committing the transaction")
    // Delivery failures have made the transaction fail; what is left are those of an aborted one.
    failures.removeAll()
  }

  public func abortTransaction(timeout_ms: Int) throws(KafkaError) {
    try KafkaError.check(rd_kafka_abort_transaction(client, Int32(timeout_ms)), "aborting the transaction")
    failures.removeAll()
  }
}
