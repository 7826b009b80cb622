import CRdKafka

/// Reads partitions from their beginning to their end and drops what comes: the least that any consumer of this client
/// library can do, what a measurement is held against. It has the daemon's client settings and looks at no record.
/// For one thread.
public final class DropReader {
  private let client: OpaquePointer
  private let context: ClientContext
  private let places: [TopicPartition]
  public private(set) var records = 0
  /// Bytes of keys and values.
  public private(set) var bytes = 0
  /// Longest wait for the end of the partitions.
  public static let patience_s = 600

  /// - Parameter properties: They name a group, which the reader does not join.
  public init(properties: [KafkaProperty], places: [TopicPartition]) throws(KafkaError) {
    context = ClientContext(log: { _, _, _ in })
    client = try makeClient(
      RD_KAFKA_CONSUMER, properties: Consumer.defaults + properties, context: context)
    self.places = places
    rd_kafka_poll_set_consumer(client)
  }

  deinit { rd_kafka_destroy(client) }

  /// Reads every partition to its end.
  public func run() throws(KafkaError) {
    let list = rd_kafka_topic_partition_list_new(Int32(places.count))!
    for place in places {
      rd_kafka_topic_partition_list_add(list, place.topic, place.partition).pointee.offset =
        Int64(RD_KAFKA_OFFSET_BEGINNING)
    }
    let code = rd_kafka_assign(client, list)
    rd_kafka_topic_partition_list_destroy(list)
    try KafkaError.check(code, "taking partitions")
    guard let queue = rd_kafka_queue_get_consumer(client) else { throw KafkaError(code, "the consumer's queue") }
    defer {
      rd_kafka_queue_destroy(queue)
      rd_kafka_consumer_close(client)
    }
    let capacity = 10_000
    let slots = UnsafeMutablePointer<UnsafeMutablePointer<rd_kafka_message_t>?>.allocate(capacity: capacity)
    defer { slots.deallocate() }
    var ended: Set<TopicPartition> = []
    var rounds = 0
    while ended.count < places.count, rounds < DropReader.patience_s * 100 {
      let count = rd_kafka_consume_batch_queue(queue, 10, slots, capacity)
      guard count >= 0 else { throw KafkaError(rd_kafka_last_error(), "consuming") }
      for index in 0..<count {
        let message = slots[index]!
        if message.pointee.err == RD_KAFKA_RESP_ERR_NO_ERROR {
          records += 1
          bytes += message.pointee.len + message.pointee.key_len
        } else if message.pointee.err == RD_KAFKA_RESP_ERR__PARTITION_EOF {
          ended.insert(
            TopicPartition(String(cString: rd_kafka_topic_name(message.pointee.rkt)), message.pointee.partition))
        }
        rd_kafka_message_destroy(message)
      }
      if count == 0 { rounds += 1 }
    }
    guard ended.count == places.count else {
      throw KafkaError(RD_KAFKA_RESP_ERR__TIMED_OUT, "reading the topics to their end")
    }
  }
}
