import CRdKafka
import CShims
import Glibc

/// Keeps the memory of fetches in the process: for programs that read as fast as they can. Once in a process.
public func keepFetchMemory() { tieout_keep_memory() }

/// A place in a topic.
public struct TopicPartition: Hashable, Sendable, CustomStringConvertible {
  public var topic: String
  public var partition: Int32

  public init(_ topic: String, _ partition: Int32) {
    self.topic = topic
    self.partition = partition
  }

  public var description: String { "\(topic)[\(partition)]" }
}

/// Where to start to read.
public enum StartOffset: Sendable, Equatable {
  case beginning, end
  /// What the group has committed, else the beginning.
  case committed
  case at(Int64)

  var raw: Int64 {
    switch self {
    case .beginning: Int64(RD_KAFKA_OFFSET_BEGINNING)
    case .end: Int64(RD_KAFKA_OFFSET_END)
    case .committed: Int64(RD_KAFKA_OFFSET_STORED)
    case .at(let offset): offset
    }
  }
}

/// What the group protocol decided. Handled on the thread that consumes, inside `consume`.
public enum Rebalance: Sendable {
  case assigned([TopicPartition])
  case revoked([TopicPartition])
  /// Another member has the partitions already: nothing may be committed for them.
  case lost([TopicPartition])
}

/// One message of a batch; its bytes are valid inside the call that hands it out.
public struct ConsumedMessage: BitwiseCopyable {
  /// Index of the topic in the subscription.
  public var topic: Int
  public var partition: Int32
  public var offset: Int64
  public var timestamp_ms: Int64
  /// nil: a null key, a null value.
  public var key: UnsafeBufferPointer<UInt8>?
  public var value: UnsafeBufferPointer<UInt8>?

  public init(
    topic: Int, partition: Int32, offset: Int64, timestamp_ms: Int64, key: UnsafeBufferPointer<UInt8>?,
    value: UnsafeBufferPointer<UInt8>?
  ) {
    self.topic = topic
    self.partition = partition
    self.offset = offset
    self.timestamp_ms = timestamp_ms
    self.key = key
    self.value = value
  }
}

/// A member of a consumer group. All functions belong to one thread (@locality: worker thread).
///
/// What the group decides is answered between two batches (`pendingRebalance`, `assign`, `unassign`), never inside one:
/// so all messages of a batch belong to the assignment that was in force when it was asked for.
public final class Consumer: GroupConsumer {
  /// What a drain costs least with, measured against batches of 300-byte records: a queue that stays within the
  /// processor's cache instead of the library's 100 000 messages and 64 MB a partition, and short waits for fetches.
  public static let defaults: [KafkaProperty] = [
    .init("enable.auto.commit", "false"), .init("enable.auto.offset.store", "false"),
    .init("partition.assignment.strategy", "range"), .init("enable.partition.eof", "true"),
    .init("auto.offset.reset", "earliest"), .init("queued.min.messages", "50000"),
    .init("queued.max.messages.kbytes", "32768"), .init("fetch.wait.max.ms", "10"),
    .init("fetch.error.backoff.ms", "50"),
  ]

  /// The bounds of a queue where so many topics may be held, and have a queue of their own then: each gets its share.
  static func bounds(of topics: Int) -> [KafkaProperty] {
    topics < 2
      ? []
      : [
        .init("queued.min.messages", "\(max(10_000, 50_000 / topics))"),
        .init("queued.max.messages.kbytes", "\(max(8_192, 32_768 / topics))"),
      ]
  }

  /// How long a fetch may wait where the broker answers as soon as something comes: every one but the embedded one.
  public static let fetchWait = KafkaProperty("fetch.wait.max.ms", "100")

  let client: OpaquePointer
  private let context: ClientContext
  private let queue: OpaquePointer
  private let topics: [String]
  private var slots: UnsafeMutablePointer<UnsafeMutablePointer<rd_kafka_message_t>?>
  /// The messages of the last batch, taken over from the library's.
  private var batch: UnsafeMutablePointer<ConsumedMessage>
  private let capacity: Int
  private var known: [(handle: OpaquePointer, topic: Int)] = []
  private var isClosed = false
  private let waker: FetchWaker?
  private var meter: FetchMeter
  /// What is being read.
  private var places: [TopicPartition] = []
  /// By topic, where some may be held: what was fetched of it goes through here into the client's own queue, and stays here
  /// while the topic is held. Messages count for the bounds of the queue in which they end up.
  private var passages: [OpaquePointer?]
  /// When partitions are next led into their passages.
  private var leadDue_us: Int64 = 0
  private var held: Set<Int> = []
  private let mayHold: Bool
  public private(set) var pendingRebalance: Rebalance?
  /// The last partition errors and end-of-partition events of a batch.
  public private(set) var ended: [PartitionEnd] = []
  public private(set) var errors: [KafkaError] = []

  /// - Parameters:
  ///   - properties: override the defaults, in order.
  ///   - held: How many of the topics `hold` may be asked to hold; without them it does nothing.
  public init(
    properties: [KafkaProperty], topics: [String], batch: Int = 10_000, held: Int = 0,
    log: @escaping KafkaLogHandler = { _, _, _ in }
  ) throws(KafkaError) {
    context = ClientContext(log: log)
    let properties = Consumer.defaults + Consumer.bounds(of: held) + properties
    client = try makeClient(RD_KAFKA_CONSUMER, properties: properties, context: context)
    waker = FetchWaker.isBuiltIn ? nil : FetchWaker(client)
    meter = FetchMeter(properties)
    self.topics = topics
    mayHold = held > 1
    passages = Array(repeating: nil, count: topics.count)
    capacity = batch
    slots = .allocate(capacity: batch)
    slots.initialize(repeating: nil, count: batch)
    self.batch = .allocate(capacity: batch)
    rd_kafka_poll_set_consumer(client)
    queue = rd_kafka_queue_get_consumer(client)
    context.onRebalance = { [unowned self] code, partitions in self.rebalanced(code, partitions) }
    let list = rd_kafka_topic_partition_list_new(Int32(topics.count))!
    for topic in topics { rd_kafka_topic_partition_list_add(list, topic, -1) }
    let code = rd_kafka_subscribe(client, list)
    rd_kafka_topic_partition_list_destroy(list)
    if code != RD_KAFKA_RESP_ERR_NO_ERROR { throw KafkaError(code, "subscribing to \(topics.joined(separator: ", "))") }
  }

  deinit {
    close()
    slots.deallocate()
    batch.deallocate()
  }

  private func rebalanced(
    _ code: rd_kafka_resp_err_t, _ list: UnsafeMutablePointer<rd_kafka_topic_partition_list_t>?
  ) {
    guard let list else { return }
    let partitions = (0..<Int(list.pointee.cnt)).map { index in
      let element = list.pointee.elems[index]
      return TopicPartition(String(cString: element.topic), element.partition)
    }
    if code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
      pendingRebalance = .assigned(partitions)
    } else {
      pendingRebalance = rd_kafka_assignment_lost(client) != 0 ? .lost(partitions) : .revoked(partitions)
    }
    // Nobody answers any more once the client closes.
    if isClosed { rd_kafka_assign(client, nil) }
  }

  /// When partitions were last taken up, and whether any are.
  private var lastAssignment_us: Int64?

  public func assign(_ starts: [TopicPartition: StartOffset]) throws(KafkaError) {
    pendingRebalance = nil
    // librdkafka 2.0.2 stops the process (an assertion in rdkafka_assignment.c) where an assignment is replaced while
    // its partitions are still being started or stopped: each step gets its time.
    if let last = lastAssignment_us {
      let early_us = last + 1_000_000 - monotonic_us()
      if early_us > 0 { usleep(UInt32(early_us)) }
      try KafkaError.check(rd_kafka_assign(client, nil), "giving an assignment up")
      usleep(300_000)
    }
    hold([])
    // Where nothing is taken up, nothing is being started.
    lastAssignment_us = starts.isEmpty ? nil : monotonic_us()
    let list = rd_kafka_topic_partition_list_new(Int32(starts.count))!
    defer { rd_kafka_topic_partition_list_destroy(list) }
    for (place, start) in starts {
      rd_kafka_topic_partition_list_add(list, place.topic, place.partition).pointee.offset = start.raw
    }
    try KafkaError.check(rd_kafka_assign(client, list), "taking an assignment")
    places = Array(starts.keys)
    leadDue_us = 0
    lead()
  }

  public func unassign() throws(KafkaError) {
    pendingRebalance = nil
    lastAssignment_us = nil
    places = []
    hold([])
    try KafkaError.check(rd_kafka_assign(client, nil), "giving an assignment up")
  }

  /// Has the messages of every partition go through the passage of its topic: again and again, since the library stops a
  /// partition at some time after an assignment is given up, and then leads it nowhere, not even into its own queue, where it
  /// was led somewhere by the application (`rd_kafka_toppar_fetch_stop`). What has come meanwhile moves on.
  private func lead() {
    guard mayHold, let assigned_us = lastAssignment_us else { return }
    let now_us = monotonic_us()
    guard now_us >= leadDue_us else { return }
    leadDue_us = now_us + (now_us - assigned_us < 5_000_000 ? 20_000 : 250_000)
    for place in places {
      guard let topic = topics.firstIndex(of: place.topic),
        let own = rd_kafka_queue_get_partition(client, place.topic, place.partition)
      else { continue }
      if passages[topic] == nil {
        passages[topic] = rd_kafka_queue_new(client)
        rd_kafka_queue_forward(passages[topic], queue)
      }
      rd_kafka_queue_forward(own, passages[topic])
      rd_kafka_queue_destroy(own)
    }
  }

  public func hold(_ topics: Set<Int>) {
    for topic in topics.symmetricDifference(held) {
      guard let passage = passages[topic] else { continue }
      // What waits there moves on with it, behind what the client's queue has.
      rd_kafka_queue_forward(passage, topics.contains(topic) ? nil : queue)
    }
    held = topics
  }

  public func groupMetadata() throws(KafkaError) -> GroupMetadata {
    guard let metadata = rd_kafka_consumer_group_metadata(client) else {
      throw KafkaError("the consumer has no group", context: "group metadata")
    }
    defer { rd_kafka_consumer_group_metadata_destroy(metadata) }
    var buffer: UnsafeMutableRawPointer?
    var size = 0
    try KafkaError.check(rd_kafka_consumer_group_metadata_write(metadata, &buffer, &size), "group metadata")
    defer { rd_kafka_mem_free(nil, buffer) }
    let bytes = Array(UnsafeRawBufferPointer(start: buffer, count: size))
    guard Consumer.namesMember(bytes) else {
      throw KafkaError(
        name: "UNKNOWN_MEMBER_ID", "the member has lost its place in the group", context: "group metadata")
    }
    return GroupMetadata(bytes: bytes)
  }

  /// Whether the library's form of the metadata (`CGMDv2:`, int32 generation, group, 0, member, 0, …) names a member of a
  /// generation. A client that has lost its place names none (generation −1, no member), and brokers let offsets of a
  /// producer that names none through unchecked, for the sake of clients older than KIP-447: such metadata fences nobody.
  static func namesMember(_ bytes: [UInt8]) -> Bool {
    let head = Array("CGMDv2:".utf8)
    guard bytes.count > head.count + 4, bytes.starts(with: head) else { return false }
    let generation = bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: head.count, as: Int32.self) }
    guard let end = bytes[(head.count + 4)...].firstIndex(of: 0), end + 1 < bytes.count else { return false }
    return generation >= 0 && bytes[end + 1] != 0
  }

  private func topicIndex(_ handle: OpaquePointer) -> Int {
    for entry in known where entry.handle == handle { return entry.topic }
    let name = String(cString: rd_kafka_topic_name(handle))
    let index = topics.firstIndex(of: name) ?? -1
    known.append((handle, index))
    return index
  }

  /// Takes what is there, waiting at most `timeout_ms` for the batch to fill, and hands it out message by message. The
  /// bytes of all messages stay valid until `finish` has returned.
  /// - Returns: how many messages were handed out.
  public func consume(
    timeout_ms: Int, _ body: (ConsumedMessage) -> Void, finish: () -> Void
  ) throws(KafkaError) -> Int {
    try consumeRuns(timeout_ms: timeout_ms, { run in for message in run.messages { body(message) } }, finish: finish)
  }

  /// Messages ahead whose heads are brought close while one is taken over: the library's threads wrote them.
  private static let prefetchDistance = 8

  public func consumeRuns(
    timeout_ms: Int, _ body: (MessageRun) -> Void, finish: () -> Void
  ) throws(KafkaError) -> Int {
    ended.removeAll(keepingCapacity: true)
    errors.removeAll(keepingCapacity: true)
    lead()
    let count = rd_kafka_consume_batch_queue(queue, Int32(timeout_ms), slots, capacity)
    guard count >= 0 else { throw KafkaError(rd_kafka_last_error(), "consuming") }
    var (handed, bytes) = (0, 0)
    // The run that is being put together: its topic's handle, and where it begins among the messages taken over.
    var handle: OpaquePointer?
    var (topic, partition, first) = (-1, Int32(-1), 0)
    for index in 0..<count {
      if index + Consumer.prefetchDistance < count {
        let ahead = UnsafeRawPointer(slots[index + Consumer.prefetchDistance]!)
        tieout_prefetch_read(ahead)
        // Its offset, and what the client keeps behind the part that it shows: the timestamp, 96 bytes on.
        tieout_prefetch_read(ahead + 64)
        tieout_prefetch_read(ahead + 96)
      }
      let message = slots[index]!
      guard message.pointee.err == RD_KAFKA_RESP_ERR_NO_ERROR else {
        note(message)
        continue
      }
      if message.pointee.rkt != handle || message.pointee.partition != partition {
        hand(topic, partition, first..<handed, body)
        handle = message.pointee.rkt
        partition = message.pointee.partition
        topic = topicIndex(handle!)
        first = handed
      }
      var kind = RD_KAFKA_TIMESTAMP_NOT_AVAILABLE
      (batch + handed).initialize(
        to: ConsumedMessage(
          topic: topic, partition: partition, offset: message.pointee.offset,
          timestamp_ms: rd_kafka_message_timestamp(message, &kind),
          key: Consumer.bytes(message.pointee.key, message.pointee.key_len),
          value: Consumer.bytes(message.pointee.payload, message.pointee.len)))
      bytes &+= message.pointee.len
      handed += 1
    }
    if let waker, meter.take(messages: handed, bytes: bytes) { waker.wake(places) }
    hand(topic, partition, first..<handed, body)
    finish()
    for index in 0..<count {
      // The client's own record of a message, of which the message is a part, has left the caches while the batch was worked on.
      if index + Consumer.prefetchDistance < count {
        tieout_prefetch_read(slots[index + Consumer.prefetchDistance]!.pointee._private)
      }
      if index + 2 * Consumer.prefetchDistance < count {
        tieout_prefetch_read(UnsafeRawPointer(slots[index + 2 * Consumer.prefetchDistance]!) + 64)
      }
      rd_kafka_message_destroy(slots[index])
    }
    return handed
  }

  private func hand(_ topic: Int, _ partition: Int32, _ range: Range<Int>, _ body: (MessageRun) -> Void) {
    guard !range.isEmpty else { return }
    body(
      MessageRun(
        topic: topic, partition: partition,
        messages: UnsafeBufferPointer(start: batch + range.lowerBound, count: range.count)))
  }

  /// Takes note of what is no message: the end of a partition, or an error.
  private func note(_ message: UnsafeMutablePointer<rd_kafka_message_t>) {
    let raw = message.pointee
    if raw.err == RD_KAFKA_RESP_ERR__PARTITION_EOF {
      ended.append(
        PartitionEnd(TopicPartition(String(cString: rd_kafka_topic_name(raw.rkt)), raw.partition), raw.offset))
    } else {
      let place = raw.rkt.map { TopicPartition(String(cString: rd_kafka_topic_name($0)), raw.partition) }
      errors.append(
        KafkaError(
          raw.err, "consuming \(place?.description ?? "the group")",
          message: rd_kafka_message_errstr(message).map { String(cString: $0) }, place: place))
    }
  }

  static func bytes(_ base: UnsafeMutableRawPointer?, _ count: Int) -> UnsafeBufferPointer<UInt8>? {
    guard let base else { return nil }
    return UnsafeBufferPointer(start: UnsafePointer(base.assumingMemoryBound(to: UInt8.self)), count: count)
  }

  public func commit(_ offsets: [TopicPartition: CommittedOffset]) throws(KafkaError) {
    guard !offsets.isEmpty else { return }
    let list = makeList(offsets)
    defer { rd_kafka_topic_partition_list_destroy(list) }
    try KafkaError.check(rd_kafka_commit(client, list, 0), "committing offsets")
    for index in 0..<Int(list.pointee.cnt) {
      try KafkaError.check(list.pointee.elems[index].err, "committing offsets")
    }
  }

  public func committed(
    _ places: [TopicPartition], timeout_ms: Int = 10_000
  ) throws(KafkaError) -> [TopicPartition: CommittedOffset] {
    try committedOffsets(client, places, timeout_ms)
  }

  /// Oldest offset and the offset after the newest, as the client last heard.
  public func cachedOffsets(_ place: TopicPartition) -> (low: Int64, high: Int64)? {
    var low: Int64 = -1
    var high: Int64 = -1
    guard
      rd_kafka_get_watermark_offsets(client, place.topic, place.partition, &low, &high) == RD_KAFKA_RESP_ERR_NO_ERROR,
      high >= 0
    else { return nil }
    return (low, high)
  }

  public func close() {
    guard !isClosed else { return }
    isClosed = true
    waker?.close()
    if pendingRebalance != nil { rd_kafka_assign(client, nil) }
    rd_kafka_queue_destroy(queue)
    rd_kafka_consumer_close(client)
    // Not before, and led nowhere: to destroy a queue of the application's empties the one that it leads into, and with it
    // what the group has to say at the end.
    for passage in passages {
      guard let passage else { continue }
      rd_kafka_queue_forward(passage, nil)
      rd_kafka_queue_destroy(passage)
    }
    rd_kafka_destroy(client)
  }
}

func monotonic_us() -> Int64 {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1_000
}

/// Where partitions end, as far as their leaders say: partitions of which one does not are left out. One request to each
/// broker, whatever the number of partitions.
func endOffsets(
  _ client: OpaquePointer, _ places: [TopicPartition], timeout_ms: Int
) throws(KafkaError) -> [TopicPartition: Int64] {
  guard !places.isEmpty else { return [:] }
  // As a time, this offset asks for the end.
  let list = makeList(
    Dictionary(places.map { ($0, CommittedOffset(Int64(RD_KAFKA_OFFSET_END))) }, uniquingKeysWith: { $1 }))
  defer { rd_kafka_topic_partition_list_destroy(list) }
  try KafkaError.check(rd_kafka_offsets_for_times(client, list, Int32(timeout_ms)), "asking for the ends")
  var ends: [TopicPartition: Int64] = [:]
  for index in 0..<Int(list.pointee.cnt) {
    let element = list.pointee.elems[index]
    guard element.err == RD_KAFKA_RESP_ERR_NO_ERROR, element.offset >= 0 else { continue }
    ends[TopicPartition(String(cString: element.topic), element.partition)] = element.offset
  }
  return ends
}

/// A list of offsets for the library; the caller destroys it.
func makeList(_ offsets: [TopicPartition: CommittedOffset]) -> UnsafeMutablePointer<rd_kafka_topic_partition_list_t> {
  let list = rd_kafka_topic_partition_list_new(Int32(offsets.count))!
  for (place, committed) in offsets {
    let element = rd_kafka_topic_partition_list_add(list, place.topic, place.partition)!
    element.pointee.offset = committed.offset
    guard !committed.metadata.isEmpty else { continue }
    // The list frees it.
    element.pointee.metadata = UnsafeMutableRawPointer(strdup(committed.metadata))
    element.pointee.metadata_size = committed.metadata.utf8.count
  }
  return list
}

/// What the group of a client has committed.
func committedOffsets(
  _ client: OpaquePointer, _ places: [TopicPartition], _ timeout_ms: Int
) throws(KafkaError) -> [TopicPartition: CommittedOffset] {
  let list = rd_kafka_topic_partition_list_new(Int32(places.count))!
  defer { rd_kafka_topic_partition_list_destroy(list) }
  for place in places { rd_kafka_topic_partition_list_add(list, place.topic, place.partition) }
  try KafkaError.check(rd_kafka_committed(client, list, Int32(timeout_ms)), "reading committed offsets")
  var found: [TopicPartition: CommittedOffset] = [:]
  for index in 0..<Int(list.pointee.cnt) {
    let element = list.pointee.elems[index]
    try KafkaError.check(element.err, "reading committed offsets")
    guard element.offset >= 0 else { continue }
    let text = UnsafeRawBufferPointer(start: element.metadata, count: element.metadata_size)
    found[TopicPartition(String(cString: element.topic), element.partition)] = CommittedOffset(
      element.offset, metadata: String(decoding: text.prefix { $0 != 0 }, as: UTF8.self))
  }
  return found
}
