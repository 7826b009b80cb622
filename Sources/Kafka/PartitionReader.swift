import CRdKafka

/// Reads stretches of partitions outside of any group. All functions belong to one thread.
public final class PartitionReader: LogReader {
  /// Replays read straight on: large fetches, no group, no waiting for more.
  public static let defaults: [KafkaProperty] = [
    .init("enable.auto.commit", "false"), .init("enable.auto.offset.store", "false"),
    .init("enable.partition.eof", "true"), .init("auto.offset.reset", "error"), .init("fetch.wait.max.ms", "10"),
    .init("fetch.error.backoff.ms", "50"), .init("queued.max.messages.kbytes", "32768"),
    .init("isolation.level", "read_committed"), .init("group.id", "tieout-reader"),
  ]
  /// Longest wait for the next record of a stretch that is there.
  public static let patience_ms = 60_000

  private let client: OpaquePointer
  private let context: ClientContext
  private var isClosed = false

  /// A partition that is being read: fetching goes on while the caller works.
  private final class Stream {
    let queue: OpaquePointer
    var buffer: [UnsafeMutablePointer<rd_kafka_message_t>] = []
    var at = 0
    /// The next offset that a caller would ask for where it reads straight on.
    var position: Int64

    init(queue: OpaquePointer, position: Int64) {
      self.queue = queue
      self.position = position
    }

    func drop() {
      for index in at..<buffer.count { rd_kafka_message_destroy(buffer[index]) }
      buffer.removeAll()
      at = 0
    }
  }
  private var streams: [TopicPartition: Stream] = [:]
  private var slots: [UnsafeMutablePointer<rd_kafka_message_t>?] = Array(repeating: nil, count: 2_000)

  public init(properties: [KafkaProperty], log: @escaping KafkaLogHandler = { _, _, _ in }) throws(KafkaError) {
    context = ClientContext(log: log)
    client = try makeClient(RD_KAFKA_CONSUMER, properties: PartitionReader.defaults + properties, context: context)
    rd_kafka_poll_set_consumer(client)
  }

  deinit { close() }

  public func close() {
    guard !isClosed else { return }
    isClosed = true
    for stream in streams.values {
      stream.drop()
      rd_kafka_queue_destroy(stream.queue)
    }
    streams = [:]
    rd_kafka_assign(client, nil)
    rd_kafka_consumer_close(client)
    rd_kafka_destroy(client)
  }

  public func bounds(_ place: TopicPartition, timeout_ms: Int) throws(KafkaError) -> (low: Int64, stable: Int64) {
    var low: Int64 = -1
    var high: Int64 = -1
    // A read_committed client is told the last stable offset.
    try KafkaError.check(
      rd_kafka_query_watermark_offsets(client, place.topic, place.partition, &low, &high, Int32(timeout_ms)),
      "asking for the offsets of \(place)")
    return (low, high)
  }

  /// What the group that the properties name has committed; the reader is no member of it.
  public func committed(
    _ places: [TopicPartition], timeout_ms: Int = 10_000
  ) throws(KafkaError) -> [TopicPartition: CommittedOffset] {
    try committedOffsets(client, places, timeout_ms)
  }

  /// The stream of a partition, at an offset.
  private func open(_ place: TopicPartition, at offset: Int64) throws(KafkaError) -> Stream {
    if let known = streams[place] {
      // A little ahead is read over; far ahead, or back, is fetched anew.
      if offset >= known.position, offset - known.position < 50_000 {
        known.position = offset
        return known
      }
      known.drop()
      rd_kafka_queue_destroy(known.queue)
      streams[place] = nil
      try assign()
    }
    guard let queue = rd_kafka_queue_get_partition(client, place.topic, place.partition) else {
      throw KafkaError("no queue", context: "reading \(place)")
    }
    rd_kafka_queue_forward(queue, nil)
    let stream = Stream(queue: queue, position: offset)
    streams[place] = stream
    try assign()
    return stream
  }

  /// Everything that is open, each where it stands: an assignment always begins anew.
  private func assign() throws(KafkaError) {
    let list = rd_kafka_topic_partition_list_new(Int32(streams.count))!
    defer { rd_kafka_topic_partition_list_destroy(list) }
    for (place, stream) in streams {
      stream.drop()
      rd_kafka_topic_partition_list_add(list, place.topic, place.partition).pointee.offset = stream.position
    }
    try KafkaError.check(rd_kafka_assign(client, list), "opening partitions to read")
  }

  public func read(
    _ place: TopicPartition, from: Int64, end: Int64, _ body: (ConsumedMessage) -> Bool
  ) throws(KafkaError) {
    guard from < end else { return }
    let stream = try open(place, at: from)
    var waited_ms = 0
    while stream.position < end {
      if stream.at == stream.buffer.count {
        stream.drop()
        let count = rd_kafka_consume_batch_queue(stream.queue, 10, &slots, slots.count)
        guard count >= 0 else { throw KafkaError(rd_kafka_last_error(), "reading \(place)") }
        for index in 0..<count { stream.buffer.append(slots[index]!) }
        // The main queue brings errors of the client, and keeps it alive.
        if let event = rd_kafka_consumer_poll(client, 0) { rd_kafka_message_destroy(event) }
        if count == 0 {
          waited_ms += 10
          guard waited_ms < PartitionReader.patience_ms else {
            throw KafkaError(
              RD_KAFKA_RESP_ERR__TIMED_OUT, "reading \(place) from offset \(stream.position) to \(end)")
          }
          continue
        }
        waited_ms = 0
      }
      let message = stream.buffer[stream.at]
      let raw = message.pointee
      // Not asked for yet: it stays for whoever reads on.
      if raw.err == RD_KAFKA_RESP_ERR_NO_ERROR, raw.offset >= end { return }
      stream.at += 1
      defer { rd_kafka_message_destroy(message) }
      if raw.err == RD_KAFKA_RESP_ERR__PARTITION_EOF {
        // Its offset is the end: what lies between is no record.
        stream.position = max(stream.position, raw.offset)
        if raw.offset < end {
          waited_ms += 10
          guard waited_ms < PartitionReader.patience_ms else {
            throw KafkaError(
              RD_KAFKA_RESP_ERR__TIMED_OUT, "reading \(place): it ends at offset \(raw.offset), not \(end)")
          }
        }
        continue
      }
      guard raw.err == RD_KAFKA_RESP_ERR_NO_ERROR else {
        throw KafkaError(
          raw.err, "reading \(place) from offset \(stream.position)",
          message: rd_kafka_message_errstr(message).map { String(cString: $0) })
      }
      guard raw.offset >= stream.position else { continue }
      stream.position = raw.offset + 1
      var kind = RD_KAFKA_TIMESTAMP_NOT_AVAILABLE
      let goesOn = body(
        ConsumedMessage(
          topic: 0, partition: raw.partition, offset: raw.offset,
          timestamp_ms: rd_kafka_message_timestamp(message, &kind), key: Consumer.bytes(raw.key, raw.key_len),
          value: Consumer.bytes(raw.payload, raw.len)))
      if !goesOn { return }
    }
  }
}
