import Checkpoints
import Configuration
import Domain
import Kafka
import Matching
import SchemaRegistry

/// Does epochs again, and checks that the same comes of it.
final class EpochReplayer {
  private let engine: TaskEngine
  private let configuration: Configuration
  private let reader: any LogReader
  private let environment: any WorkerEnvironment
  private let keepAlive: () throws -> Void
  private var arena = ReplayArena()
  private let opener = ShardOpener()
  private var outputs: Outbox?
  private let versions: TableVersions?
  /// Epochs in which something happened under other settings.
  private(set) var foreignEpochs = 0
  /// The last epoch under other settings, whether anything happened in it or not.
  private(set) var lastForeign: UInt64?

  /// - Parameter versions: Where the tables have changed over time.
  init(
    _ engine: TaskEngine, _ configuration: Configuration, _ reader: any LogReader,
    _ environment: any WorkerEnvironment, versions: TableVersions? = nil,
    _ keepAlive: @escaping () throws -> Void = {}
  ) {
    self.engine = engine
    self.versions = versions
    self.keepAlive = keepAlive
    self.environment = environment
    self.configuration = configuration
    self.reader = reader
  }

  /// Restores a checkpoint and does the epochs after it again.
  /// - Parameters:
  ///   - manifest: nil begins with nothing.
  ///   - body: Called after each epoch, with its outputs in the engine's outbox; while shards are still missing
  ///     (`isRestoring`) those are not all of them.
  func replay(
    _ chain: some Sequence<EpochRecord>, after manifest: CheckpointManifest?, _ contents: CheckpointContents,
    _ body: (EpochRecord, _ isRestoring: Bool) throws -> Void
  ) throws {
    func takeIn(asOf epoch: UInt64) throws {
      guard let manifest, epoch <= manifest.epoch else { return }
      try importShards(of: manifest, asOf: epoch, contents)
      guard epoch == manifest.epoch else { return }
      try engine.endRestore(
        manifest, aggregates: try contents.aggregates(of: manifest),
        countsQuantities: environment.defect != .quantitiesNotCounted,
        forgetsSources: environment.defect == .sourcesNotRestored)
    }
    if let manifest {
      try engine.beginRestore(manifest, forgetsPolicies: environment.defect == .policiesNotRestored)
      for place in manifest.held where environment.defect != .heldNotRestored { try restoreHeld(place, manifest.task) }
      try takeIn(asOf: manifest.from)
    }
    let live = engine.stage
    for record in chain {
      let stage = try versions?.stage(record.configuration) ?? live
      engine.use(stage, isKnown: stage.configurationHash == record.configuration)
      let isRestoring = manifest.map { record.number <= $0.epoch } ?? false
      try replay(record, isRestoring: isRestoring)
      try body(record, isRestoring)
      engine.finishEpoch(record)
      try takeIn(asOf: record.number)
      try checkShards(record)
    }
    engine.use(live)
  }

  /// Reads a waiting record again.
  private func restoreHeld(_ held: HeldPlace, _ task: Int32) throws {
    guard Int(held.source) < configuration.sources.count else { return }
    let place = TopicPartition(configuration.sources[Int(held.source)].topic, task)
    var waiting: HeldRecord?
    try reader.read(place, from: held.offset, end: held.offset + 1) { message in
      waiting = HeldRecord(message, source: Int(held.source), since_ms: held.since_ms)
      return true
    }
    guard let waiting else {
      throw RecoveryError("\(place) has no record at offset \(held.offset) any more, which waits for its master data")
    }
    // This process may not have seen its schema.
    var problem: SchemaRegistryError?
    waiting.withMessage { messages in
      do throws(SchemaRegistryError) {
        try engine.stage.schemas?.prepare(source: waiting.source, messages)
      } catch { problem = error }
    }
    if let problem { throw problem }
    engine.restoreHeld(waiting)
  }

  /// - Parameter isRestoring: Not all shards are in yet: outputs and sums cannot be compared.
  private func replay(_ record: EpochRecord, isRestoring: Bool) throws {
    try run(record)
    // Under other settings another result is no error; the facts are taken in all the same.
    guard record.configuration == engine.configurationHash else {
      foreignEpochs += record.events.isEmpty ? 0 : 1
      lastForeign = record.number
      return
    }
    func expect(_ isSame: Bool, _ what: String) throws {
      guard isSame else {
        throw RecoveryError("the replay of epoch \(record.number) of partition \(record.task) gives other \(what)")
      }
    }
    try expect(engine.timeDigest == record.timeDigest, "watermarks")
    if isRestoring { return }
    try expect(Array(engine.sourceNext.prefix(record.next.count)) == record.next, "offsets")
    if let next = record.actionsNext { try expect(engine.next[engine.actionsInput] == next, "offsets") }
    try expect(engine.outbox.count == record.outputCount, "outputs")
    try expect(engine.outbox.digest == record.outputDigest, "outputs")
    try expect(engine.sumsDigest == record.sumsDigest, "sums")
  }

  /// Does what the record says, and leaves the outputs in the engine's outbox.
  private func run(_ record: EpochRecord) throws {
    try keepAlive()
    let events = environment.defect == .replayOutOfOrder ? record.events.reversed() : record.events
    for event in events {
      switch event {
      case .begin(let now_ms): engine.begin(now_ms: now_ms)
      case .time(let now_ms, let waiting, let bound):
        let now_ms = environment.defect == .replayByTheClock ? environment.wallClock_ms() : now_ms
        engine.moveTime(now_ms: now_ms, waiting: waiting, pace: .upTo(bound))
      case .run(EpochEvent.held, _, _, _, let now_ms): engine.retryHeld(now_ms: now_ms)
      case .run(EpochEvent.policies, _, let cursor, _, _): engine.revise(upTo: cursor)
      case .run(let source, let first, let last, let count, let now_ms):
        let index = source == EpochEvent.actions ? engine.actionsInput : Int(source)
        guard source == EpochEvent.actions || index < configuration.sources.count else {
          throw RecoveryError("epoch \(record.number) reads source \(index), which the configuration does not have")
        }
        // Also where actions are not read any more: what they have led to belongs to the state.
        let topic = source == EpochEvent.actions ? configuration.actionsTopic : configuration.sources[index].topic
        let place = TopicPartition(topic, record.task)
        arena.removeAll()
        do throws(KafkaError) {
          try reader.read(place, from: first, end: last + 1) { message in
            arena.append(message)
            return true
          }
        } catch {
          throw error.isFatal || error.isRetriable
            ? error
            : RecoveryError("epoch \(record.number) read \(place) from offset \(first) to \(last): \(error)")
              as any Error
        }
        guard arena.count == count else {
          throw RecoveryError(
            "epoch \(record.number) read \(count) records of \(place) from offset \(first) to \(last), of which Kafka "
              + "still has \(arena.count)")
        }
        try arena.prepare { try engine.stage.schemas?.prepare(source: index, $0) }
        // A restored state stands at the end of its epoch already.
        engine.rewind(source: index, to: first)
        engine.beginRun(source: index, now_ms: now_ms)
        arena.forEach { engine.take($0) }
        engine.endRun()
      }
    }
    engine.tellPartials()
  }

  func takeOutputs() -> Outbox {
    let copy = Outbox()
    engine.outbox.forEach { (message, key, value) in
      copy.add(message.topic, partition: message.partition, key: key.map { Array($0) }, value: Array(value))
    }
    return copy
  }

  private func importShards(of manifest: CheckpointManifest, asOf epoch: UInt64, _ contents: CheckpointContents) throws
  {
    for shard in manifest.shards.indices {
      let asOf = max(manifest.shards[shard].asOf, manifest.from)
      guard asOf == epoch else { continue }
      try keepAlive()
      let digest = try engine.importShard(
        shard, bits: manifest.bits, bytes: try contents.shard(shard, of: manifest, opener))
      guard digest == manifest.shards[shard].digest else {
        throw RecoveryError("shard \(shard) is not what the checkpoint states")
      }
    }
  }

  /// Compares the state of shards with what the epoch's record says of them.
  private func checkShards(_ record: EpochRecord) throws {
    guard record.configuration == engine.configurationHash else { return }
    for entry in record.shards where engine.matcher.isWhole(shard: entry.shard, bits: entry.bits) {
      guard engine.digest(shard: entry.shard, bits: entry.bits) == entry.digest else {
        throw RecoveryError(
          "after the replay of epoch \(record.number) the state of shard \(entry.shard) of partition \(record.task) is "
            + "not what it was")
      }
    }
  }
}

/// Copies of messages, for as long as a run is being replayed.
private struct ReplayArena {
  private var bytes: [UInt8] = []
  private var entries: [(partition: Int32, offset: Int64, time_ms: Int64, key: Int, keyCount: Int, valueCount: Int)] =
    []

  var count: Int { entries.count }

  mutating func removeAll() {
    bytes.removeAll(keepingCapacity: true)
    entries.removeAll(keepingCapacity: true)
  }

  mutating func append(_ message: ConsumedMessage) {
    entries.append(
      (
        message.partition, message.offset, message.timestamp_ms, bytes.count, message.key?.count ?? -1,
        message.value?.count ?? -1
      ))
    if let key = message.key { bytes.append(contentsOf: key) }
    if let value = message.value { bytes.append(contentsOf: value) }
  }

  /// Calls `body` with all of them at once.
  func prepare(_ body: ([ConsumedMessage]) throws -> Void) throws {
    var all: [ConsumedMessage] = []
    forEach { all.append($0) }
    // The bytes stay where they are for as long as nothing is appended.
    try body(all)
  }

  func forEach(_ body: (ConsumedMessage) -> Void) {
    bytes.withUnsafeBufferPointer { all in
      func part(_ start: Int, _ count: Int) -> UnsafeBufferPointer<UInt8>? {
        count < 0 ? nil : UnsafeBufferPointer(rebasing: all[start..<start + count])
      }
      for entry in entries {
        body(
          ConsumedMessage(
            topic: 0, partition: entry.partition, offset: entry.offset, timestamp_ms: entry.time_ms,
            key: part(entry.key, entry.keyCount), value: part(entry.key + max(0, entry.keyCount), entry.valueCount)))
      }
    }
  }
}
