import Aggregates
import Matching
import Synchronization

/// Asks all workers to finish their epoch and leave.
public final class StopFlag: Sendable {
  private let flag = Atomic<Bool>(false)
  public init() {}
  public func stop() { flag.store(true, ordering: .releasing) }
  public var isStopped: Bool { flag.load(ordering: .acquiring) }
}

/// What became of records whose reference no table knew, since their task came to this process.
public struct HoldCounts: Sendable, Equatable {
  /// Began to wait.
  public var held = 0
  /// Were taken in after the tables had changed.
  public var released = 0
  /// Became dead letters for another reason when the tables had changed.
  public var rejected = 0
  /// Waited for as long as they may: dead letters, or taken in where the rule flags.
  public var expired = 0
  /// Did not wait, because as many waited as may: dead letters, or taken in where the rule flags.
  public var refused = 0

  public init() {}

  public mutating func add(_ other: HoldCounts) {
    held += other.held
    released += other.released
    rejected += other.rejected
    expired += other.expired
    refused += other.refused
  }
}

/// What a worker tells the rest of the process, once an epoch.
public struct WorkerStatus: Sendable {
  public var decode = DecodeCounters()
  public var match = MatchCounters()
  public var totals = ControlTotals()
  public var partitions = 0
  /// Of these, how many have been read to the end of every source.
  public var partitionsAtEnd = 0
  public var ties = 0
  public var stateBytes = 0
  public var lag: Int64 = 0
  public var epochs = 0
  /// Tasks whose running epoch has taken records or made outputs that are not committed: where the group has no time for
  /// a commit, say, because it is being put together anew.
  public var uncommittedTasks = 0
  /// When the first record was taken in, by the clock that never goes back.
  public var firstRecord_us: Int64?
  public var deadLetters = 0
  /// `matchingHash` with the tables that the worker decodes with.
  public var tables: UInt64?
  /// Event time that the slowest task has reached; nil before the first watermark.
  public var watermark_ms: Int64?
  public var isThrottled = false
  /// Sources that are ahead of another one that has a backlog, and wait for it.
  public var sourcesWaiting = 0
  /// Cells of the aggregates, and facts that found no value or cell of their own.
  public var cells = 0
  public var overflow = CellTable.Overflow()
  /// Amounts of the control totals by period that found no period of their own.
  public var periodOverflow = 0
  /// Records that wait for their master data now, and what became of others.
  public var waiting = 0
  public var hold = HoldCounts()
  public var restarts = 0
  public var recoveries = 0
  public var replayedRecords = 0
  /// Epochs that were recorded under other settings and replayed under those of now.
  public var foreignEpochs = 0
  /// Checkpoints that could not be used.
  public var recoveryProblems = 0
  /// Records that were deleted before they were read (retention); the offsets between, at the most.
  public var trimmedRecords: Int64 = 0
  public var checkpoints = 0
  /// Those that could not be written.
  public var checkpointFailures = 0
  /// Those that were put off, because a broker did not answer.
  public var checkpointsPutOff = 0
  /// By the wall clock: of the task whose newest checkpoint is the oldest, when that was complete, or when the task was
  /// brought back; nil without tasks or checkpoints.
  public var checkpointed_ms: Int64?
  public var checkpointBytes = 0
  public var abortedEpochs = 0
  /// Epochs that had something to commit, the time from their beginning to their end, and of it the time for committing.
  public var commits = 0
  public var epochTime_us: Int64 = 0
  public var commitTime_us: Int64 = 0
  /// Times that the group has given partitions, or taken them.
  public var rebalances = 0
  /// Whether the group has given partitions (there may be none for this one), and all of them have been brought back.
  public var isReady = false
  /// Wall time of the longest pause that checkpointing has put between two batches, microseconds.
  public var longestCheckpointPause_us = 0

  public init() {}
}
