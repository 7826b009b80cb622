import CRdKafka
import Glibc

/// The newest record that a reader could take from a partition.
public struct RecordStamp: Sendable, Equatable {
  public var offset: Int64
  public var timestamp_ms: Int64
  /// The broker's time of arrival; otherwise that of whoever sent it.
  public var isOfBroker: Bool

  public init(offset: Int64, timestamp_ms: Int64, isOfBroker: Bool) {
    self.offset = offset
    self.timestamp_ms = timestamp_ms
    self.isOfBroker = isOfBroker
  }
}

extension PartitionReader {
  /// How far back of the end the newest record is looked for at first, and then: the last offsets may be marks of transactions
  /// and what was written in those that were aborted.
  private static let depths: [Int64] = [64, newestDepth]
  public static let newestDepth: Int64 = 4_096

  /// Reads the end of a partition, to see whether that is allowed; belongs to no group and commits nothing.
  /// - Returns: nil where no record is among the last `newestDepth` offsets.
  /// - Throws: `_TIMED_OUT` where neither a record nor the end came, and whatever the broker refuses.
  public func newest(_ place: TopicPartition, timeout_ms: Int) throws(KafkaError) -> RecordStamp? {
    let (low, stable) = try bounds(place, timeout_ms: timeout_ms)
    for depth in Self.depths {
      if let found = try newest(place, from: max(low, stable - depth), stable: stable, timeout_ms: timeout_ms) {
        return found
      }
      if stable - depth <= low { break }
    }
    return nil
  }

  private func newest(
    _ place: TopicPartition, from start: Int64, stable: Int64, timeout_ms: Int
  ) throws(KafkaError) -> RecordStamp? {
    let context = "reading \(place)"
    guard let topic = rd_kafka_topic_new(client, place.topic, nil) else {
      throw KafkaError(rd_kafka_last_error(), context)
    }
    defer { rd_kafka_topic_destroy(topic) }
    guard rd_kafka_consume_start(topic, place.partition, start) == 0 else {
      throw KafkaError(rd_kafka_last_error(), context)
    }
    defer { rd_kafka_consume_stop(topic, place.partition) }
    var found: RecordStamp?
    var waited_ms = 0
    while waited_ms < timeout_ms {
      guard let message = rd_kafka_consume(topic, place.partition, 50) else {
        rd_kafka_poll(client, 0)
        waited_ms += 50
        continue
      }
      defer { rd_kafka_message_destroy(message) }
      let raw = message.pointee
      switch raw.err {
      case RD_KAFKA_RESP_ERR__PARTITION_EOF: return found
      case RD_KAFKA_RESP_ERR_NO_ERROR:
        var kind = RD_KAFKA_TIMESTAMP_NOT_AVAILABLE
        let timestamp = rd_kafka_message_timestamp(message, &kind)
        found = RecordStamp(
          offset: raw.offset, timestamp_ms: timestamp, isOfBroker: kind == RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME)
        if raw.offset >= stable - 1 { return found }
      default:
        throw KafkaError(
          raw.err, context, message: rd_kafka_message_errstr(message).map { String(cString: $0) }, place: place)
      }
    }
    if let found { return found }
    throw KafkaError(RD_KAFKA_RESP_ERR__TIMED_OUT, context)
  }
}

/// What became of an attempt to write and to commit in transactions that are aborted.
public struct TransactionTrial: Sendable, Equatable {
  /// Why the transactional id could not be used; nothing else was tried then.
  public var takeover: KafkaError?
  /// By topic.
  public var writing: [String: KafkaError] = [:]
  /// By group.
  public var committing: [String: KafkaError] = [:]
  /// Why a transaction could not be begun or aborted.
  public var transaction: KafkaError?

  public init() {}
}

extension TransactionTrial {
  /// Writes one record into each topic and commits an offset for each group, each in a transaction of its own that is
  /// aborted: no reader of committed records sees any of it, and no offset changes. To be used only where the broker
  /// knows transactions: the embedded one keeps what an aborted transaction wrote.
  /// - Parameter connect: A new producer, always of the same transactional id. One that was refused its first topic cannot
  ///   go on: the coordinator has never heard of the transaction that it is then told to abort.
  public static func run(
    topics: [String], commits: [(group: String, place: TopicPartition, offset: Int64)], timeout_ms: Int,
    connect: () throws(KafkaError) -> Producer
  ) throws(KafkaError) -> TransactionTrial {
    var trial = TransactionTrial()
    var producer = try connect()
    do throws(KafkaError) {
      try producer.initTransactions(timeout_ms: timeout_ms)
    } catch {
      trial.takeover = error
      return trial
    }
    /// Why a transaction must be aborted: a message that was not sent only says that it was not. Nothing can be begun in
    /// an open transaction, and the answer says why.
    func reason() -> KafkaError? {
      do throws(KafkaError) { try producer.beginTransaction() } catch {
        return error.requiresAbort || error.isFatal ? error : nil
      }
      return nil
    }
    /// Whether another transaction can follow.
    func attempt(_ body: (Producer) throws(KafkaError) -> Void) -> (failure: KafkaError?, goesOn: Bool) {
      do throws(KafkaError) {
        try producer.beginTransaction()
      } catch {
        trial.transaction = error
        return (nil, false)
      }
      var failure: KafkaError?
      do throws(KafkaError) { try body(producer) } catch { failure = reason() ?? error }
      do throws(KafkaError) {
        do throws(KafkaError) { try producer.abortTransaction(timeout_ms: timeout_ms) } catch {
          guard failure != nil, error.isFatal else { throw error }
          producer = try connect()
          try producer.initTransactions(timeout_ms: timeout_ms)
        }
      } catch {
        trial.transaction = error
        return (failure, false)
      }
      return (failure, true)
    }
    for topic in topics {
      let (failure, goesOn) = attempt { (producer) throws(KafkaError) in
        try producer.produce(topic: topic, partition: 0, key: Array("tieout-doctor".utf8), value: nil)
        try producer.flush(timeout_ms: timeout_ms)
      }
      trial.writing[topic] = failure
      guard goesOn else { return trial }
    }
    for commit in commits {
      let (failure, goesOn) = attempt { (producer) throws(KafkaError) in
        try producer.sendOffsets(
          [commit.place: CommittedOffset(commit.offset)], group: try GroupMetadata(outside: commit.group),
          timeout_ms: timeout_ms)
      }
      trial.committing[commit.group] = failure
      guard goesOn else { return trial }
    }
    return trial
  }
}

extension GroupMetadata {
  /// Of somebody who is no member of the group.
  public init(outside group: String) throws(KafkaError) {
    let metadata = rd_kafka_consumer_group_metadata_new(group)
    defer { rd_kafka_consumer_group_metadata_destroy(metadata) }
    var buffer: UnsafeMutableRawPointer?
    var size = 0
    try KafkaError.check(rd_kafka_consumer_group_metadata_write(metadata, &buffer, &size), "group metadata")
    defer { rd_kafka_mem_free(nil, buffer) }
    self.init(bytes: Array(UnsafeRawBufferPointer(start: buffer, count: size)))
  }
}
