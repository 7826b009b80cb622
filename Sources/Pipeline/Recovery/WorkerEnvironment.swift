import Configuration
import Foundation
import Kafka

/// Everything that a worker has of the world: its clients, the clocks, a source of identities. The simulator gives it
/// another one.
public protocol WorkerEnvironment: AnyObject {
  /// A member of the group that reads these topics.
  func makeConsumer(_ configuration: Configuration, group: String, topics: [String], member: String) throws
    -> any GroupConsumer
  /// - Parameter transactionalID: nil for a producer without transactions.
  func makeProducer(_ configuration: Configuration, transactionalID: String?) throws -> any RecordProducer
  func makeReader(_ configuration: Configuration) throws -> any LogReader
  func wallClock_ms() -> Int64
  func monotonic_ms() -> Int64
  func monotonic_us() -> Int64
  func sleep(ms: Int64)
  /// A number that nobody else draws.
  func identity() -> UInt64
}

/// librdkafka, the system's clocks, and its random numbers.
public final class KafkaEnvironment: WorkerEnvironment {
  private let log: KafkaLogHandler

  public init(log: @escaping KafkaLogHandler = { _, _, _ in }) { self.log = log }

  public func makeConsumer(
    _ configuration: Configuration, group: String, topics: [String], member: String
  ) throws -> any GroupConsumer {
    try Consumer(
      properties: configuration.clientProperties(.consumer(group: group, member: member)), topics: topics, log: log)
  }

  public func makeProducer(_ configuration: Configuration, transactionalID: String?) throws -> any RecordProducer {
    var properties = configuration.clientProperties(.producer)
    if let transactionalID {
      // Short, so that whoever takes over from a killed process soon sees what it left undone resolved.
      properties.insert(KafkaProperty("transaction.timeout.ms", "10000"), at: 0)
      properties.append(KafkaProperty("transactional.id", transactionalID))
    }
    return try Producer(properties: properties, log: log)
  }

  public func makeReader(_ configuration: Configuration) throws -> any LogReader {
    try PartitionReader(properties: configuration.clientProperties(.admin), log: log)
  }

  public func wallClock_ms() -> Int64 { Pipeline.wallClock_ms() }
  public func monotonic_ms() -> Int64 { Pipeline.monotonic_ms() }
  public func monotonic_us() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1_000
  }
  public func sleep(ms: Int64) { usleep(UInt32(clamping: ms * 1_000)) }
  public func identity() -> UInt64 { .random(in: 1 ... .max) }
}
