import Checkpoints
import Configuration
import Domain
import Foundation
import Kafka
import Matching

/// One message that an epoch led to.
public struct DerivedOutput: Sendable, Equatable {
  public var epoch: UInt64
  public var topic: OutputTopic
  public var key: [UInt8]?
  public var value: [UInt8]
}

/// What came of replaying a task's epochs.
public struct AuditSummary: Sendable, Equatable {
  public var partition: Int32
  public var firstEpoch: UInt64 = 0
  public var lastEpoch: UInt64 = 0
  public var epochs = 0
  public var records = 0
  public var outputs = 0
  /// What it means that epochs of other settings were replayed; nil where there were none.
  public var settings: String?
}

/// Derives the outputs of recorded epochs again from the log, with every check that a recovery makes: the auditor's
/// proof that what was reported follows from what was received.
public final class Auditor {
  private let configuration: Configuration
  private let environment: any WorkerEnvironment
  private let reader: any LogReader

  private let hash: UInt64

  /// - Parameter hash: The configuration's `matchingHash`, where it is known.
  public init(
    _ configuration: Configuration, environment: any WorkerEnvironment, reader: any LogReader, hash: UInt64? = nil
  ) {
    self.configuration = configuration
    self.hash = hash ?? configuration.matchingHash
    self.environment = environment
    self.reader = reader
  }

  /// Replays a task up to its committed epoch.
  /// - Parameters:
  ///   - committed: What the group has committed for each source of the partition.
  ///   - epochs: Only their outputs are handed out, and of these only those that ended within the times.
  /// - Throws: `RecoveryError` where the replay differs from what was recorded, or something needed is gone.
  public func audit(
    partition: Int32, committed: [CommittedOffset?], epochs: ClosedRange<UInt64> = 0 ... .max,
    times_ms: ClosedRange<Int64> = .min ... .max,
    output: (DerivedOutput) throws -> Void
  ) throws -> AuditSummary {
    var summary = AuditSummary(partition: partition)
    let marks = committed.compactMap { $0.flatMap { EpochMark($0.metadata) } }
    guard let mark = marks.max(by: { $0.number < $1.number }) else { return summary }
    defer { reader.rest() }
    let log = EpochLog(reader, TopicPartition(configuration.epochsTopic, partition), environment)
    let stage = try DecodeStage(configuration, hash: hash)
    let contents = try TaskRecovery(configuration, environment: environment, reader: reader, stage: stage)
      .loadCheckpoints(partition)
    let versions = configuration.followsTables ? TableVersions(stage, reader, environment) : nil
    // From the first epoch where Kafka still has everything, else from the oldest checkpoint before the stretch.
    let manifests = contents.manifests(upTo: mark.number).usable.filter { $0.epoch < max(1, epochs.lowerBound) }
    var problems: [String] = []
    for manifest in [CheckpointManifest?.none] + manifests.reversed().map(Optional.some) {
      var replayer: EpochReplayer?
      do {
        let chain = try log.chain(
          to: mark, after: manifest?.from ?? 0, offset: manifest?.epochsOffset, manifest: manifest)
        if let manifest { try manifest.check(configuration) } else { try chain.last?.check(configuration, committed) }
        let engine = TaskEngine(stage, partition: partition)
        let made = EpochReplayer(engine, configuration, reader, environment, versions: versions)
        replayer = made
        let wanted = chain.prefix { $0.number <= epochs.upperBound }
        try made.replay(wanted, after: manifest, contents) { record, isRestoring in
          guard !isRestoring, epochs.contains(record.number), times_ms.contains(record.clock_ms) else { return }
          if summary.epochs == 0 { summary.firstEpoch = record.number }
          summary.lastEpoch = record.number
          summary.epochs += 1
          summary.records += record.records
          summary.outputs += engine.outbox.count
          try engine.outbox.forEach { (message, key, value) throws in
            try output(
              DerivedOutput(
                epoch: record.number, topic: message.topic, key: key.map { Array($0) }, value: Array(value)))
          }
        }
        summary.settings = Auditor.words(made)
        return summary
      } catch let error as KafkaError {
        throw error
      } catch {
        let problem = "\(error)" + (replayer.flatMap(Auditor.words).map { " (\($0))" } ?? "")
        guard summary.epochs == 0 else { throw RecoveryError(problem) }
        problems.append((manifest.map { "checkpoint of epoch \($0.epoch): " } ?? "") + problem)
      }
    }
    throw RecoveryError(problems.joined(separator: "; "))
  }
}

extension Auditor {
  private static func words(_ replayer: EpochReplayer) -> String? {
    guard let last = replayer.lastForeign, replayer.foreignEpochs > 0 else { return nil }
    return
      "\(replayer.foreignEpochs) epochs up to \(last) were recorded under other settings or tables, and what was told in them does "
      + "not follow from those of now: replay them with the configuration of then and --to \(last), later ones with "
      + "--from \(last + 1)"
  }

  /// Whether a message of the breaks topic is that of a duplicate value, which the second stage tells: it is in no task's
  /// epochs.
  public static func isOfSecondStage(_ json: [UInt8]) -> Bool {
    guard let made = try? JSONDecoder().decode(BreakMessage.self, from: Data(json)) else { return false }
    return isOfSecondStage(id: made.id, order: made.order)
  }

  public static func isOfSecondStage(id: String, order: String) -> Bool { UniqueValues.isUnique(id: id, order: order) }
}
