import Configuration
import Domain
import Foundation
import Matching

/// What the daemon tells of itself, in Prometheus' text format. Counters begin anew with the process, and with a worker
/// that had to start anew; what belongs to tasks goes with them where partitions go.
public struct DaemonMetrics {
  public var status: WorkerStatus
  public var now_ms: Int64
  public var startedAt_ms: Int64
  public var memoryLimit: Int
  public var residentBytes: Int
  var unique: UniqueValues.Counts?
  /// Of the aggregates; nil where there are none.
  var dimensions: [String]?
  /// Those that are followed.
  var tables: [(source: TableSource, isTroubled: Bool)] = []

  public init(status: WorkerStatus, now_ms: Int64, startedAt_ms: Int64, memoryLimit: Int, residentBytes: Int) {
    self.status = status
    self.now_ms = now_ms
    self.startedAt_ms = startedAt_ms
    self.memoryLimit = memoryLimit
    self.residentBytes = residentBytes
  }

  private enum Kind: String { case counter, gauge, summary }

  public var page: String {
    var lines: [String] = []
    func number(_ value: Double) -> String {
      value == value.rounded() && abs(value) < 1e15 ? String(Int64(value)) : "\(value)"
    }
    func tell(_ name: String, _ kind: Kind, _ help: String, _ samples: [(suffix: String, value: Double)]) {
      lines.append("# HELP tieout_daemon_\(name) \(help)")
      lines.append("# TYPE tieout_daemon_\(name) \(kind.rawValue)")
      for sample in samples { lines.append("tieout_daemon_\(name)\(sample.suffix) \(number(sample.value))") }
    }
    func tell(_ name: String, _ kind: Kind, _ help: String, _ value: Int) {
      tell(name, kind, help, [("", Double(value))])
    }
    func summary(_ name: String, _ help: String, _ sum_us: Int64) {
      tell(name, .summary, help, [("_sum", Double(sum_us) / 1e6), ("_count", Double(status.commits))])
    }
    func byType(_ counts: [Int]) -> [(suffix: String, value: Double)] {
      zip(BreakType.allCases, counts).map { ("{type=\"\($0.rawValue)\"}", Double($1)) }
    }
    let match = status.match
    tell("records_total", .counter, "Records decoded.", status.decode.records)
    tell("lag_records", .gauge, "Records of the sources that are not taken in yet.", Int(status.lag))
    tell("partitions", .gauge, "Partitions that run here.", status.partitions)
    tell("partitions_at_end", .gauge, "Of these, read to the end of every source.", status.partitionsAtEnd)
    tell("ready", .gauge, "1 where every worker has its partitions and their state.", status.isReady ? 1 : 0)
    if let watermark = status.watermark_ms {
      tell(
        "watermark_timestamp_seconds", .gauge, "Event time that the slowest task has reached.",
        [("", Double(watermark) / 1_000)])
      tell(
        "watermark_delay_seconds", .gauge, "How far that is behind the clock.",
        [("", Double(now_ms - watermark) / 1_000)])
    }
    summary("epoch_seconds", "Time of epochs that had something to commit, committing included.", status.epochTime_us)
    summary("commit_seconds", "Time for committing them.", status.commitTime_us)
    tell("aborted_epochs_total", .counter, "Epochs that were aborted and done again.", status.abortedEpochs)
    tell(
      "mapping_doubts", .gauge,
      "Paths of mappings that no record has, and sources whose keys are not their orders: the log names them.",
      status.decode.doubts.count)
    tell("open_ties", .gauge, "Ties in memory.", status.ties)
    tell("ties_closed", .gauge, "Ties of the tasks here whose deadline has passed.", match.tiesClosed)
    tell("ties_tied_out", .gauge, "Of these, without an open break.", match.tiesTiedOut)
    tell("duplicates", .gauge, "Records that the tasks here had taken in before, and dropped.", match.duplicates)
    tell("late", .gauge, "Records of the tasks here that came after window and grace.", match.late)
    tell("open_breaks", .gauge, "Open breaks of the tasks here, by type.", byType(match.open))
    tell(
      "accepted_breaks", .gauge, "Accepted, explained and force-closed breaks of the tasks here, by type.",
      byType(match.accepted))
    tell("held_records", .gauge, "Records of the tasks here that wait for their master data.", status.waiting)
    tell("held", .gauge, "Records of the tasks here that began to wait.", status.hold.held)
    tell("held_released", .gauge, "Of these, those that went on when the tables had changed.", status.hold.released)
    tell(
      "held_rejected", .gauge,
      "Of these, those that became dead letters for another reason when the tables had changed.",
      status.hold.rejected)
    tell(
      "held_expired", .gauge, "Of these, those whose time was over: dead letters, or taken in where the rule flags.",
      status.hold.expired)
    tell(
      "held_refused", .gauge, "Records that found no room to wait: dead letters, or taken in where the rule flags.",
      status.hold.refused)
    if let dimensions {
      tell("cells", .gauge, "Cells of sums of the tasks here.", status.cells)
      tell("cell_overflow", .gauge, "Facts without a cell of their own (aggregates.cells).", Int(status.overflow.cells))
      tell(
        "other_facts", .gauge, "Facts whose value is counted as (other), by dimension (aggregates.values).",
        zip(dimensions, status.overflow.byDimension).map { ("{dimension=\"\($0)\"}", Double($1)) })
    }
    tell(
      "period_overflow", .gauge,
      "Amounts of the control totals whose period is counted as (other): \(PeriodTotals.maximum) periods and currencies a task are kept apart.",
      status.periodOverflow)
    tell(
      "tombstones_total", .counter, "Records without a value, which say nothing outside of change feeds.",
      status.decode.tombstones)
    tell("dead_letters_total", .counter, "Records that could not be taken in.", status.deadLetters)
    tell(
      "trimmed_records_total", .counter, "Records deleted before they were read, at most.", Int(status.trimmedRecords))
    tell("state_bytes", .gauge, "Bytes of matching state.", status.stateBytes)
    tell("memory_limit_bytes", .gauge, "limits.memory.", memoryLimit)
    tell("resident_bytes", .gauge, "Memory of the process.", residentBytes)
    tell(
      "sources_waiting", .gauge,
      "Sources that are ahead of another one with a backlog and wait for it, once for each worker.",
      status.sourcesWaiting)
    tell("throttled", .gauge, "1 where intake is slowed down at the bound of memory.", status.isThrottled ? 1 : 0)
    tell("checkpoints", .gauge, "Checkpoints that the tasks here have completed.", status.checkpoints)
    tell(
      "checkpoint_failures_total", .counter, "Checkpoints that could not be written: the log says why.",
      status.checkpointFailures)
    tell(
      "checkpoints_put_off_total", .counter,
      "Times that a checkpoint was put off by some seconds, because a broker did not answer: the log says why.",
      status.checkpointsPutOff)
    if let time_ms = status.checkpointed_ms {
      tell(
        "checkpoint_timestamp_seconds", .gauge,
        "When the newest checkpoint was complete, or the task brought back, of the task for which that is longest ago.",
        [("", Double(time_ms) / 1_000)])
    }
    tell("checkpoint_bytes", .gauge, "Bytes that the tasks here have written to checkpoints.", status.checkpointBytes)
    tell(
      "checkpoint_pause_seconds", .gauge, "Longest pause that checkpointing has put between two batches.",
      [("", Double(status.longestCheckpointPause_us) / 1e6)])
    tell("rebalances_total", .counter, "Times that partitions were given or taken.", status.rebalances)
    tell("recoveries_total", .counter, "Tasks brought back from checkpoint and epochs.", status.recoveries)
    tell("recovery_problems_total", .counter, "Checkpoints that could not be used.", status.recoveryProblems)
    tell("replayed_records_total", .counter, "Records replayed to bring tasks back.", status.replayedRecords)
    tell(
      "foreign_epochs_total", .counter,
      "Epochs recorded under other settings and replayed under those of now: the breaks told may be others than the state has.",
      status.foreignEpochs)
    tell("worker_restarts_total", .counter, "Workers that failed and started anew.", status.restarts)
    tell("start_time_seconds", .gauge, "When the process started.", [("", Double(startedAt_ms) / 1_000)])
    tell(
      "table_problem", .gauge,
      "1 where a table stays as it was, since it cannot be taken up as it is: the log says why.",
      tables.map { table in
        let place = table.source.topic.map { "topic=\"\($0)\"" } ?? "file=\"\(table.source.path)\""
        return ("{table=\"\(table.source.name)\",\(place)}", table.isTroubled ? 1 : 0)
      })
    if let unique {
      tell("unique_values", .gauge, "Records held here for rules of uniqueness.", unique.records)
      tell(
        "unique_duplicates_total", .counter, "Records whose value another one had before, found here.",
        unique.duplicates)
      tell(
        "unique_dropped_total", .counter,
        "Records that could not be held, or not as long as they should (limits.unique_values).", unique.dropped)
    }
    return lines.joined(separator: "\n") + "\n"
  }
}

extension Daemon {
  /// The page of `/metrics`, as things are now.
  public func metricsPage() -> String {
    let text = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8)) ?? ""
    let pages = text.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
    var metrics = DaemonMetrics(
      status: status, now_ms: wallClock_ms(), startedAt_ms: startedAt_ms, memoryLimit: configuration.memoryLimit,
      residentBytes: pages * Int(sysconf(Int32(_SC_PAGESIZE))))
    metrics.unique = uniqueCounts
    metrics.tables = tables
    if configuration.aggregates != nil { metrics.dimensions = configuration.dimensions }
    return metrics.page
  }
}
