import Configuration
import Foundation
import Kafka
import Logging

/// Everything that a worker has of the world: its clients, the clocks, a source of identities. The simulator gives it
/// another one.
public protocol WorkerEnvironment: AnyObject {
  /// A member of the group that reads these topics.
  func makeConsumer(_ configuration: Configuration, group: String, topics: [String], member: String) throws
    -> any GroupConsumer
  /// - Parameter transactionalID: nil for a producer without transactions.
  func makeProducer(_ configuration: Configuration, transactionalID: String?) throws -> any RecordProducer
  func makeReader(_ configuration: Configuration) throws -> any LogReader
  /// Where checkpoints lie that are kept in a directory.
  var files: any CheckpointFiles { get }
  func wallClock_ms() -> Int64
  func monotonic_ms() -> Int64
  func monotonic_us() -> Int64
  func sleep(ms: Int64)
  /// A number that nobody else draws.
  func identity() -> UInt64
  /// How often the group is served while a worker does other things: far below `max.poll.interval.ms`.
  var keepAlive_ms: Int64 { get }
  /// Records that a source must have waiting in a partition for the others to wait for it (`sourcesAhead`): more than a
  /// client's queue holds, since that much waits after any pause.
  var leastBacklog: Int { get }
  /// A defect planted by the simulator; nil everywhere else.
  var defect: Defect? { get }
}

extension WorkerEnvironment {
  public var defect: Defect? { nil }
  public var keepAlive_ms: Int64 { 1_000 }
  public var leastBacklog: Int { 30_000 }

  /// Calls again what Kafka's rules let be called again, for a minute at the most.
  func retrying<Value>(
    _ what: String, log: Logger?, _ body: () throws(KafkaError) -> Value
  ) throws(KafkaError) -> Value {
    let until = monotonic_ms() + 60_000
    while true {
      do throws(KafkaError) {
        return try body()
      } catch {
        guard error.isRetriable, !error.isFatal, !error.requiresAbort, monotonic_ms() < until else { throw error }
        log?.debug("\(what) again", metadata: ["error": "\(error)"])
        sleep(ms: 20)
      }
    }
  }
}

/// Mistakes that would lose or double something. The simulator plants them to show that it finds them.
public enum Defect: String, Sendable, CaseIterable {
  /// Offsets are committed on their own before the outputs are.
  case offsetsBeforeOutputs
  /// The epoch's record follows in a transaction of its own.
  case epochOutsideTransaction
  /// A replay takes the runs of an epoch in another order.
  case replayOutOfOrder
  /// A checkpoint says of a shard that it is an epoch older than it is.
  case shardOneEpochLate
  /// Offsets are sent without the member's generation: a broker lets anybody through.
  case zombieNotFenced
  /// A replay judges by the clock of now instead of the recorded one.
  case replayByTheClock
  /// After an aborted transaction the worker goes on with the state it has.
  case abortWithoutRewind
  /// State that was kept over a rebalance is used without a look at what has been committed since.
  case parkedStateNotChecked
  /// The next owner does not wait for transactions that are still open.
  case unstableOffsets
  /// After an aborted transaction the stage of totals takes its sums for told.
  case totalsForgotten
  /// All tasks keep their checkpoints in one directory, under the same names.
  case directorySharedByTasks
  /// Records that wait for their master data are not brought back with a checkpoint.
  case heldNotRestored
  /// A task that was brought back with a checkpoint adds up no quantities any more.
  case quantitiesNotCounted
  /// A checkpoint is taken for one whose sums were made by the posting policies that hold now.
  case policiesNotRestored
  /// A checkpoint is taken up without which sources the ties in it have.
  case sourcesNotRestored
  /// An order event that comes after postings of its order leaves their figures where they are.
  case postingsNotMoved
  /// Routed records are committed in another transaction than the offsets they came from.
  case routedBeforeOffsets
  /// A router tells of all partitions what is true of the one that is ahead.
  case originsTakenTogether
  /// A change that moves a row to another order goes only to the task of the order that the row has left.
  case movesRoutedOnce
}

/// librdkafka, the system's clocks, and its random numbers.
public final class KafkaEnvironment: WorkerEnvironment {
  private let log: KafkaLogHandler
  public let files: any CheckpointFiles = SystemFiles()

  public init(log: @escaping KafkaLogHandler = { _, _, _ in }) { self.log = log }

  public func makeConsumer(
    _ configuration: Configuration, group: String, topics: [String], member: String
  ) throws -> any GroupConsumer {
    try Consumer(
      properties: configuration.clientProperties(.consumer(group: group, member: member)), topics: topics,
      held: topics == configuration.inputTopics ? configuration.sources.count : 0, log: log)
  }

  public func makeProducer(_ configuration: Configuration, transactionalID: String?) throws -> any RecordProducer {
    try Producer(
      properties: configuration.producerProperties(transactionalID: transactionalID),
      incompressible: [configuration.checkpointsTopic], log: log)
  }

  public func makeReader(_ configuration: Configuration) throws -> any LogReader {
    // No member of the group: its name, because that is what a secured broker lets it speak of.
    try PartitionReader(
      properties: configuration.clientProperties(.admin) + [KafkaProperty("group.id", configuration.kafka.group)],
      log: log)
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
