/// What the pipeline asks of a Kafka client. `Consumer`, `Producer` and `PartitionReader` answer it over librdkafka; a
/// simulated cluster answers it in tests. Every function belongs to the thread of the one worker that owns the client.

/// An offset that a group has committed, with the text that was committed beside it.
public struct CommittedOffset: Sendable, Equatable {
  /// The next record to read.
  public var offset: Int64
  public var metadata: String

  public init(_ offset: Int64, metadata: String = "") {
    self.offset = offset
    self.metadata = metadata
  }
}

/// Which member of which generation of a group somebody is: what a broker fences zombies by.
public struct GroupMetadata: Sendable, Equatable {
  public var bytes: [UInt8]
  public init(bytes: [UInt8]) { self.bytes = bytes }
}

/// A member of a consumer group that reads the partitions it is given.
public protocol GroupConsumer: AnyObject {
  /// Takes what is there, waiting at most `timeout_ms` for something to come. The bytes stay valid until `finish` has
  /// returned.
  /// - Returns: how many messages were handed out.
  func consume(
    timeout_ms: Int, _ body: (ConsumedMessage) -> Void, finish: () -> Void
  ) throws(KafkaError) -> Int

  /// The same, a stretch of one partition at a time.
  func consumeRuns(timeout_ms: Int, _ body: (MessageRun) -> Void, finish: () -> Void) throws(KafkaError) -> Int

  /// Partitions that the last `consume` read to their end.
  var ended: [PartitionEnd] { get }
  /// Errors of the last `consume`.
  var errors: [KafkaError] { get }

  /// A change of assignment that waits to be answered by `assign` or `unassign`; until then the member keeps what it
  /// has, and belongs to its old generation.
  var pendingRebalance: Rebalance? { get }
  /// Reads these partitions from these offsets on. Also takes up anew what is assigned already: what had been fetched
  /// is dropped. Partitions of the assignment that are left out are held back.
  func assign(_ starts: [TopicPartition: StartOffset]) throws(KafkaError)
  /// Gives everything back.
  func unassign() throws(KafkaError)
  /// Takes nothing more of these topics of the subscription until another call leaves them out. What the client has handed
  /// on already may still come; what has been fetched besides waits, in its order, and little more is fetched. Where
  /// partitions stand is not changed. `assign` and `unassign` hold none.
  func hold(_ topics: Set<Int>)

  /// The member of the generation that is answered for now. To be asked for once after an assignment, and kept: an
  /// answer later may already speak of another generation.
  func groupMetadata() throws(KafkaError) -> GroupMetadata
  /// Commits offsets as a member of the generation; throws where the group has moved on.
  func commit(_ offsets: [TopicPartition: CommittedOffset]) throws(KafkaError)
  /// What the group has committed, none of it still in an open transaction; absent where there is nothing.
  func committed(_ places: [TopicPartition], timeout_ms: Int) throws(KafkaError) -> [TopicPartition: CommittedOffset]
  /// Oldest offset and the offset after the newest, as the client last heard.
  func cachedOffsets(_ place: TopicPartition) -> (low: Int64, high: Int64)?
  /// Ends the client. A dynamic member leaves its group, a static one (`group.instance.id`) keeps its place until its
  /// session times out.
  func close()
}

/// Sends records, in transactions where it has a `transactional.id`.
///
/// Errors of the transaction calls say what Kafka's rules ask for: `isRetriable` (call again), `requiresAbort` (abort,
/// go back to the last committed state), `isFatal` (somebody else has taken over, or the producer is broken: a new one).
public protocol RecordProducer: AnyObject {
  /// Hands a message over; its bytes are copied. nil for the partition leaves it to the partitioner (by key).
  func produce(
    topic: String, partition: Int32?, key: UnsafeBufferPointer<UInt8>?, value: UnsafeBufferPointer<UInt8>?
  ) throws(KafkaError)
  /// Waits until everything handed over has arrived; throws the first failure since the last flush.
  func flush(timeout_ms: Int) throws(KafkaError)
  /// Serves delivery reports without waiting.
  func poll()
  /// Messages handed over and not yet delivered.
  var queued: Int { get }

  /// Fences every earlier producer with this transactional id and ends its open transaction.
  func initTransactions(timeout_ms: Int) throws(KafkaError)
  func beginTransaction() throws(KafkaError)
  /// Makes committed offsets part of the transaction; fenced by the member's generation.
  func sendOffsets(
    _ offsets: [TopicPartition: CommittedOffset], group: GroupMetadata, timeout_ms: Int
  ) throws(KafkaError)
  func commitTransaction(timeout_ms: Int) throws(KafkaError)
  func abortTransaction(timeout_ms: Int) throws(KafkaError)
}

/// Reads given stretches of partitions outside of any group, committed records only.
public protocol LogReader: AnyObject {
  /// Offset of the oldest record, and the offset up to which a `read_committed` reader can read now (the last stable
  /// offset).
  func bounds(_ place: TopicPartition, timeout_ms: Int) throws(KafkaError) -> (low: Int64, stable: Int64)
  /// Last stable offsets now; partitions of which nothing could be learnt are absent.
  func ends(_ places: [TopicPartition], timeout_ms: Int) throws(KafkaError) -> [TopicPartition: Int64]
  /// Hands out the records of a partition from an offset on, in order, until `body` returns false or the record before
  /// `end` has been read. Offsets of aborted, compacted and control records are passed over. The bytes are valid inside
  /// `body`.
  /// - Throws: where the partition does not begin at or before `from` (`_AUTO_OFFSET_RESET`), or nothing comes.
  func read(
    _ place: TopicPartition, from: Int64, end: Int64, _ body: (ConsumedMessage) -> Bool
  ) throws(KafkaError)
  /// Nothing is read for a while: what was being read ahead is dropped.
  func rest()
  func close()
}

extension LogReader {
  public func ends(_ places: [TopicPartition], timeout_ms: Int) throws(KafkaError) -> [TopicPartition: Int64] {
    var ends: [TopicPartition: Int64] = [:]
    for place in places { ends[place] = try bounds(place, timeout_ms: timeout_ms).stable }
    return ends
  }
}

/// Where a partition ended when it was read to its end.
public struct PartitionEnd: Sendable, Equatable {
  public var place: TopicPartition
  /// The offset that comes next. What lies between it and the last record is none (markers of transactions, records that
  /// are gone).
  public var offset: Int64

  public init(_ place: TopicPartition, _ offset: Int64) {
    self.place = place
    self.offset = offset
  }
}

/// Messages of one partition, one behind the other, as they came.
public struct MessageRun {
  /// Index of the topic in the subscription; −1 where it is none of them.
  public var topic: Int
  public var partition: Int32
  public var messages: UnsafeBufferPointer<ConsumedMessage>

  public init(topic: Int, partition: Int32, messages: UnsafeBufferPointer<ConsumedMessage>) {
    self.topic = topic
    self.partition = partition
    self.messages = messages
  }
}

extension GroupConsumer {
  /// Puts the runs together from single messages.
  public func consumeRuns(
    timeout_ms: Int, _ body: (MessageRun) -> Void, finish: () -> Void
  ) throws(KafkaError) -> Int {
    var run: [ConsumedMessage] = []
    func hand() {
      guard let first = run.first else { return }
      run.withUnsafeBufferPointer { body(MessageRun(topic: first.topic, partition: first.partition, messages: $0)) }
      run.removeAll(keepingCapacity: true)
    }
    return try consume(
      timeout_ms: timeout_ms,
      { message in
        if let first = run.first, first.topic != message.topic || first.partition != message.partition { hand() }
        run.append(message)
      },
      finish: {
        hand()
        finish()
      })
  }

  public func consume(timeout_ms: Int, _ body: (ConsumedMessage) -> Void) throws(KafkaError) -> Int {
    try consume(timeout_ms: timeout_ms, body, finish: {})
  }

  /// Answers a change of assignment as a plain reader does.
  /// - Returns: the partitions that are assigned now; nil where nothing has changed.
  @discardableResult
  public func answerRebalance(start: StartOffset) throws(KafkaError) -> [TopicPartition]? {
    switch pendingRebalance {
    case nil: return nil
    case .assigned(let places):
      try assign(Dictionary(uniqueKeysWithValues: places.map { ($0, start) }))
      return places
    case .revoked, .lost:
      try unassign()
      return []
    }
  }
}

extension RecordProducer {
  /// Hands a message over, nil for a tombstone; its bytes are copied.
  public func produce(topic: String, partition: Int32? = nil, key: [UInt8], value: [UInt8]?) throws(KafkaError) {
    var failure: KafkaError?
    key.withUnsafeBufferPointer { key in
      func send(_ value: UnsafeBufferPointer<UInt8>?) {
        do throws(KafkaError) {
          try produce(topic: topic, partition: partition, key: key, value: value)
        } catch { failure = error }
      }
      if let value { value.withUnsafeBufferPointer { send($0) } } else { send(nil) }
    }
    if let failure { throw failure }
  }
}
