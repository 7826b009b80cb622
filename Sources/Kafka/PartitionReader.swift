import CRdKafka
import Glibc

/// Reads stretches of partitions outside of any group. All functions belong to one thread.
public final class PartitionReader: LogReader {
  /// Replays read straight on: large fetches, no group, no waiting for more. What is read ahead counts for each partition.
  public static let defaults: [KafkaProperty] = [
    .init("enable.auto.commit", "false"), .init("enable.auto.offset.store", "false"),
    .init("enable.partition.eof", "true"), .init("auto.offset.reset", "error"), .init("fetch.wait.max.ms", "10"),
    .init("fetch.error.backoff.ms", "50"), .init("queued.max.messages.kbytes", "8192"),
    .init("isolation.level", "read_committed"), .init("group.id", "tieout-reader"),
  ]
  /// Longest wait for the next record of a stretch that is there.
  public static let patience_ms = 60_000

  let client: OpaquePointer
  private let context: ClientContext
  private let waker: FetchWaker?
  private let meter: FetchMeter
  private var isClosed = false

  /// A partition that is being read: fetching goes on while the caller works. Each is started and stopped by itself:
  /// an assignment of several would have to be replaced whenever one is added, which librdkafka 2.0.2 does not survive
  /// when it happens quickly.
  private final class Stream {
    let topic: OpaquePointer
    let partition: Int32
    var buffer: [UnsafeMutablePointer<rd_kafka_message_t>] = []
    var at = 0
    /// The next offset that a caller would ask for where it reads straight on.
    var position: Int64
    var meter: FetchMeter

    init(topic: OpaquePointer, partition: Int32, position: Int64, meter: FetchMeter) {
      self.meter = meter
      self.topic = topic
      self.partition = partition
      self.position = position
    }

    func drop() {
      for index in at..<buffer.count { rd_kafka_message_destroy(buffer[index]) }
      buffer.removeAll()
      at = 0
    }

    func close() {
      drop()
      rd_kafka_consume_stop(topic, partition)
      rd_kafka_topic_destroy(topic)
    }
  }
  private var streams: [TopicPartition: Stream] = [:]
  private var slots: [UnsafeMutablePointer<rd_kafka_message_t>?] = Array(repeating: nil, count: 2_000)

  public init(properties: [KafkaProperty], log: @escaping KafkaLogHandler = { _, _, _ in }) throws(KafkaError) {
    context = ClientContext(log: log)
    client = try makeClient(RD_KAFKA_CONSUMER, properties: PartitionReader.defaults + properties, context: context)
    waker = FetchWaker.isBuiltIn ? nil : FetchWaker(client)
    meter = FetchMeter(PartitionReader.defaults + properties)
  }

  deinit { close() }

  public func close() {
    guard !isClosed else { return }
    isClosed = true
    waker?.close()
    rest()
    rd_kafka_destroy(client)
  }

  public func rest() {
    for stream in streams.values { stream.close() }
    streams = [:]
  }

  /// Nothing more comes from a stream after an error.
  private func drop(_ place: TopicPartition) {
    streams[place]?.close()
    streams[place] = nil
  }

  /// Longest wait for a partition of which brokers say that they do not know it: one that was just created, or is none.
  static let unknownPatience_ms = 3_000

  public func bounds(_ place: TopicPartition, timeout_ms: Int) throws(KafkaError) -> (low: Int64, stable: Int64) {
    let begun_ms = monotonic_us() / 1_000
    while true {
      var low: Int64 = -1
      var high: Int64 = -1
      let passed_ms = Int(monotonic_us() / 1_000 - begun_ms)
      // A read_committed client is told the last stable offset.
      let code = rd_kafka_query_watermark_offsets(
        client, place.topic, place.partition, &low, &high, Int32(max(timeout_ms - passed_ms, 1_000)))
      if code == RD_KAFKA_RESP_ERR_NO_ERROR { return (low, high) }
      let error = KafkaError(code, "asking for the offsets of \(place)")
      // A leader that changes is looked for anew by the library, which answers this call with the error all the same.
      let patience_ms =
        switch error.name {
        case "UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_PARTITION", "_UNKNOWN_TOPIC": min(Self.unknownPatience_ms, timeout_ms)
        case "_TIMED_OUT": 0
        default: error.isRetriable ? timeout_ms : 0
        }
      guard monotonic_us() / 1_000 - begun_ms < Int64(patience_ms) else { throw error }
      usleep(50_000)
    }
  }

  public func ends(_ places: [TopicPartition], timeout_ms: Int) throws(KafkaError) -> [TopicPartition: Int64] {
    try endOffsets(client, places, timeout_ms: timeout_ms)
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
      streams[place] = nil
      known.close()
    }
    guard let topic = rd_kafka_topic_new(client, place.topic, nil) else {
      throw KafkaError(rd_kafka_last_error(), "reading \(place)")
    }
    guard rd_kafka_consume_start(topic, place.partition, offset) == 0 else {
      defer { rd_kafka_topic_destroy(topic) }
      throw KafkaError(rd_kafka_last_error(), "reading \(place) from offset \(offset)")
    }
    let stream = Stream(topic: topic, partition: place.partition, position: offset, meter: meter)
    streams[place] = stream
    return stream
  }

  public func read(
    _ place: TopicPartition, from: Int64, end: Int64, _ body: (ConsumedMessage) -> Bool
  ) throws(KafkaError) {
    try read(place, from: from, end: end, patience_ms: PartitionReader.patience_ms, body)
  }

  /// - Parameter patience_ms: Longest wait for the next record.
  public func read(
    _ place: TopicPartition, from: Int64, end: Int64, patience_ms: Int, _ body: (ConsumedMessage) -> Bool
  ) throws(KafkaError) {
    guard from < end else { return }
    let stream = try open(place, at: from)
    var waited_ms = 0
    while stream.position < end {
      if stream.at == stream.buffer.count {
        stream.drop()
        let count = rd_kafka_consume_batch(stream.topic, stream.partition, 10, &slots, slots.count)
        guard count >= 0 else { throw KafkaError(rd_kafka_last_error(), "reading \(place)") }
        var bytes = 0
        for index in 0..<count {
          let message = slots[index]!
          bytes &+= message.pointee.len
          stream.buffer.append(message)
        }
        if let waker, stream.meter.take(messages: count, bytes: bytes) { waker.wake([place]) }
        rd_kafka_poll(client, 0)
        if count == 0 {
          waited_ms += 10
          guard waited_ms < patience_ms else {
            drop(place)
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
          guard waited_ms < patience_ms else {
            drop(place)
            throw KafkaError(
              RD_KAFKA_RESP_ERR__TIMED_OUT, "reading \(place): it ends at offset \(raw.offset), not \(end)")
          }
        }
        continue
      }
      guard raw.err == RD_KAFKA_RESP_ERR_NO_ERROR else {
        let error = KafkaError(
          raw.err, "reading \(place) from offset \(stream.position)",
          message: rd_kafka_message_errstr(message).map { String(cString: $0) }, place: place)
        drop(place)
        throw error
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
