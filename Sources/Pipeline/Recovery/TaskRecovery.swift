import Checkpoints
import Configuration
import Domain
import Foundation
import Kafka
import Matching

/// The state of a task cannot be had again from what Kafka and the checkpoints still hold.
public struct RecoveryError: Error, CustomStringConvertible {
  public var description: String
  public init(_ description: String) { self.description = description }
}

/// What a recovery did, for logs and tests.
public struct RecoveryReport: Sendable, Equatable {
  /// Epoch of the checkpoint that was used; nil for a replay from the first epoch.
  public var checkpoint: UInt64?
  public var epochs = 0
  public var records = 0
  public var ties = 0
  /// Of the epochs, those recorded under other settings than those they were replayed under.
  public var foreignEpochs = 0
  /// What was found unusable on the way.
  public var problems: [String] = []
}

/// Brings tasks back: checkpoint, then the epochs after it in exactly their recorded order, then live.
final class TaskRecovery {
  private let configuration: Configuration
  private let environment: any WorkerEnvironment
  private let reader: any LogReader
  private let stage: DecodeStage
  /// Called often in the course of a recovery, which may take long; what it throws ends the recovery.
  private let keepAlive: () throws -> Void
  private let versions: TableVersions?
  /// How long to wait for what other transactions are still bringing to an end.
  static let patience_ms: Int64 = 60_000

  init(
    _ configuration: Configuration, environment: any WorkerEnvironment, reader: any LogReader, stage: DecodeStage,
    keepAlive: @escaping () throws -> Void = {}
  ) {
    self.configuration = configuration
    self.environment = environment
    self.reader = reader
    self.stage = stage
    self.keepAlive = keepAlive
    versions = configuration.followsTables ? TableVersions(stage, reader, environment) : nil
  }

  struct Recovered {
    var engine: TaskEngine
    var kept: [CheckpointManifest]
    /// Keys in the store that nothing needs any more, and those that nothing will need after the next checkpoint.
    var unneeded: (now: [String], later: [String])
    var report: RecoveryReport
    /// Outputs of the last epoch that may not have been sent before the crash (at least once), else nil.
    var unsent: Outbox?
  }

  /// - Parameter committed: By input topic; nil where the group has committed nothing.
  func recover(partition: Int32, committed: [CommittedOffset?]) throws -> Recovered {
    let known = committed.compactMap { $0 }
    guard !known.isEmpty else {
      if let trace = try trace(partition) {
        throw RecoveryError(
          "the group \(configuration.kafka.group) has committed nothing for partition \(partition), and \(trace): its "
            + "offsets have expired (offsets.retention.minutes of the broker), or it is another group. Without them it cannot "
            + "be known which state is the last one: start anew with another kafka.group and prefix")
      }
      return try fresh(partition, committed)
    }
    let marks = known.compactMap { EpochMark($0.metadata) }
    guard let mark = marks.max(by: { $0.number < $1.number }) else {
      // Offsets that an operator has set, or another program: there is no state that belongs to them.
      var made = try fresh(partition, committed)
      made.report.problems.append("the committed offsets name no epoch: the task starts there without state")
      return made
    }
    let contents = try loadCheckpoints(partition)
    var (manifests, problems) = contents.manifests(upTo: mark.number)
    for other in manifests where other.task != partition {
      problems.append("checkpoint of epoch \(other.epoch): it is of task \(other.task)")
    }
    manifests.removeAll { $0.task != partition }
    let log = EpochLog(reader, TopicPartition(configuration.epochsTopic, partition), environment, keepAlive)
    for manifest in manifests.map(Optional.some) + [nil] {
      do {
        let chain = try log.chain(
          to: mark, after: manifest?.from ?? 0, offset: manifest?.epochsOffset, manifest: manifest)
        if let manifest { try manifest.check(configuration) } else { try chain.last?.check(configuration, committed) }
        return try replay(partition, mark, manifest, chain, contents, committed, manifests, problems)
      } catch let error as KafkaError where error.isFatal || error.isRetriable {
        throw error
      } catch let error as Worker.Interrupted {
        throw error
      } catch let error as StateMisfit {
        // Whatever else there is, is of the same task.
        throw RecoveryError("partition \(partition): \(error)")
      } catch {
        problems.append(manifest.map { "checkpoint of epoch \($0.epoch): \(error)" } ?? "\(error)")
      }
    }
    if manifests.isEmpty, let place = checkpointsPlace(partition) {
      problems.insert("there is no checkpoint of it in \(place)", at: 0)
    }
    throw RecoveryError(
      "the state of partition \(partition) at epoch \(mark.number) cannot be rebuilt: "
        + problems.joined(separator: "; ") + ". Nothing was skipped; start anew with another kafka.group and prefix, "
        + "or bring the missing data back")
  }

  // MARK: - Without a history

  private func fresh(_ partition: Int32, _ committed: [CommittedOffset?]) throws -> Recovered {
    var next: [Int64] = []
    for (index, topic) in configuration.inputTopics.enumerated() {
      if let offset = committed[index]?.offset {
        next.append(offset)
        continue
      }
      next.append(try start(topic, partition))
    }
    let engine = TaskEngine(stage, partition: partition, next: next)
    engine.matcher.movesPostings = environment.defect != .postingsNotMoved
    engine.begin(now_ms: environment.wallClock_ms())
    // Where it began to read is lost with the process otherwise, and what came meanwhile with it.
    engine.recordsStart = configuration.kafka.start == .latest
    return Recovered(engine: engine, kept: [], unneeded: ([], []), report: RecoveryReport(), unsent: nil)
  }

  private func start(_ topic: String, _ partition: Int32) throws -> Int64 {
    let bounds = try bounds(TopicPartition(topic, partition))
    // What people have decided holds, whenever that was.
    if topic == configuration.actionsTopic { return bounds.low }
    return configuration.kafka.start == .earliest ? bounds.low : bounds.stable
  }

  private func bounds(_ place: TopicPartition) throws(KafkaError) -> (low: Int64, stable: Int64) {
    try environment.retrying("asking for offsets", log: nil) { () throws(KafkaError) in
      try reader.bounds(place, timeout_ms: 30_000)
    }
  }

  /// What shows that a task has been at work before, nil where nothing does. A checkpoint does; an epoch exactly once only:
  /// elsewhere one that was recorded need not have been committed.
  private func trace(_ partition: Int32) throws -> String? {
    if configuration.kafka.delivery == .exactlyOnce {
      let place = TopicPartition(configuration.epochsTopic, partition)
      let bounds = try bounds(place)
      var isAny = false
      try keepAlive()
      try reader.read(place, from: bounds.low, end: bounds.stable) { message in
        isAny = message.value != nil
        return !isAny
      }
      if isAny { return "\(configuration.epochsTopic) has epochs of it" }
    }
    // A directory may be that of another group and prefix.
    guard configuration.checkpoints == .topic else { return nil }
    let manifests = try loadCheckpoints(partition).manifests(upTo: .max).usable.filter { $0.task == partition }
    return manifests.last.map { "there is a checkpoint of its epoch \($0.epoch)" }
  }

  // MARK: - With one

  private func replay(
    _ partition: Int32, _ mark: EpochMark, _ manifest: CheckpointManifest?, _ chain: [EpochRecord],
    _ contents: CheckpointContents, _ committed: [CommittedOffset?], _ manifests: [CheckpointManifest],
    _ problems: [String]
  ) throws -> Recovered {
    var report = RecoveryReport(checkpoint: manifest?.epoch, problems: problems)
    let engine = TaskEngine(stage, partition: partition)
    engine.matcher.movesPostings = environment.defect != .postingsNotMoved
    let replayer = EpochReplayer(engine, configuration, reader, environment, versions: versions, keepAlive)
    var unsent: Outbox?
    try replayer.replay(chain, after: manifest, contents) { record, isRestoring in
      report.epochs += 1
      report.records += record.records
      if record.number == mark.number, !mark.isSent, !isRestoring { unsent = replayer.takeOutputs() }
    }
    guard engine.mark.number == mark.number else {
      throw RecoveryError("the epochs end at \(engine.mark.number), and \(mark.number) is committed")
    }
    // What the group has committed and what the epochs lead to must be the same.
    for (index, topic) in configuration.inputTopics.enumerated() {
      let isRecorded =
        index == engine.actionsInput
        ? (chain.last.map { $0.actionsNext } ?? manifest?.actionsNext) != nil
        : index < (chain.last?.next.count ?? manifest!.next.count)
      if let committed = committed[index] {
        if index == engine.actionsInput, !isRecorded {
          // Read at an earlier time, then not, and now again.
          var next = engine.next
          next[index] = committed.offset
          engine.setNext(next)
        }
        guard !isRecorded || committed.offset == engine.next[index] else {
          throw RecoveryError(
            "\(topic)[\(partition)]: offset \(committed.offset) is committed, and epoch \(mark.number) ends at "
              + "\(engine.next[index])")
        }
      } else if isRecorded {
        // The broker forgets the offsets of a topic with the topic.
        throw RecoveryError(
          "\(topic)[\(partition)] was read up to offset \(engine.next[index]), and the group has no offset of it: the topic was "
            + "deleted and created anew, or the source reads another one than it did")
      } else {
        // A source that the configuration did not have before.
        var next = engine.next
        next[index] = try start(topic, partition)
        engine.setNext(next)
        engine.recordsStart = configuration.kafka.start == .latest
      }
    }
    engine.held.isRetryDue = true
    engine.held.counts = HoldCounts()
    report.ties = engine.matcher.tieCount
    report.foreignEpochs = replayer.foreignEpochs
    let kept = manifests.filter { $0.epoch <= (manifest?.epoch ?? 0) }
    return Recovered(
      engine: engine, kept: Array(kept.prefix(2)), unneeded: contents.unneeded(by: Array(kept.prefix(2))),
      report: report, unsent: unsent)
  }

  /// Where the checkpoints of a task lie; nil where there are none.
  private func checkpointsPlace(_ partition: Int32) -> String? {
    switch configuration.checkpoints {
    case .off: nil
    case .directory(let path): "\(path)/\(partition)"
    case .topic: "\(TopicPartition(configuration.checkpointsTopic, partition))"
    }
  }

  func loadCheckpoints(_ partition: Int32) throws -> CheckpointContents {
    switch configuration.checkpoints {
    case .off: return CheckpointContents()
    case .directory(let path):
      let place = environment.defect == .directorySharedByTasks ? 0 : partition
      return try CheckpointDirectory(path: path, task: place, files: environment.files).load()
    case .topic:
      var contents = CheckpointContents()
      let place = TopicPartition(configuration.checkpointsTopic, partition)
      let bounds = try bounds(place)
      try reading(reader, place, bounds.low, bounds.stable, keepAlive) { message in
        if let key = message.key {
          contents.put(String(decoding: key, as: UTF8.self), message.value.map { Array($0) })
        }
      }
      return contents
    }
  }
}

/// Reads a stretch of a partition, and stays alive while it does.
func reading(
  _ reader: any LogReader, _ place: TopicPartition, _ from: Int64, _ end: Int64, _ keepAlive: () throws -> Void,
  _ body: (ConsumedMessage) -> Void
) throws {
  var failure: (any Error)?
  try reader.read(place, from: from, end: end) { message in
    do {
      try keepAlive()
      body(message)
      return true
    } catch {
      failure = error
      return false
    }
  }
  if let failure { throw failure }
}
