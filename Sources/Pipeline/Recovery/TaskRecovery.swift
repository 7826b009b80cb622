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
  /// What was found unusable on the way.
  public var problems: [String] = []
}

/// Brings tasks back: checkpoint, then the epochs after it in exactly their recorded order, then live.
final class TaskRecovery {
  private let configuration: Configuration
  private let environment: any WorkerEnvironment
  private let reader: any LogReader
  private let stage: DecodeStage
  /// How long to wait for what other transactions are still bringing to an end.
  static let patience_ms: Int64 = 60_000

  init(
    _ configuration: Configuration, environment: any WorkerEnvironment, reader: any LogReader, stage: DecodeStage
  ) {
    self.configuration = configuration
    self.environment = environment
    self.reader = reader
    self.stage = stage
  }

  struct Recovered {
    var engine: TaskEngine
    var kept: [CheckpointManifest]
    /// Keys in the store that nothing needs any more.
    var unneeded: [String]
    var report: RecoveryReport
    /// Outputs of the last epoch that may not have been sent before the crash (at least once), else nil.
    var unsent: Outbox?
  }

  /// - Parameter committed: By source; nil where the group has committed nothing.
  func recover(partition: Int32, committed: [CommittedOffset?]) throws -> Recovered {
    let known = committed.compactMap { $0 }
    guard !known.isEmpty else { return try fresh(partition, committed) }
    let marks = known.compactMap { EpochMark($0.metadata) }
    guard let mark = marks.max(by: { $0.number < $1.number }) else {
      // Offsets that an operator has set, or another program: there is no state that belongs to them.
      var made = try fresh(partition, committed)
      made.report.problems.append("the committed offsets name no epoch: the task starts there without state")
      return made
    }
    let contents = try loadCheckpoints(partition)
    var (manifests, problems) = contents.manifests(upTo: mark.number)
    manifests.removeAll { $0.sources != Array(configuration.sources.map(\.name).prefix($0.sources.count)) }
    let log = EpochLog(reader, TopicPartition(configuration.epochsTopic, partition), environment)
    for manifest in manifests.map(Optional.some) + [nil] {
      do {
        let chain = try log.chain(
          to: mark, after: manifest?.from ?? 0, offset: manifest?.epochsOffset, manifest: manifest)
        return try replay(partition, mark, manifest, chain, contents, committed, manifests, problems)
      } catch let error as KafkaError where error.isFatal || error.isRetriable {
        throw error
      } catch {
        problems.append(manifest.map { "checkpoint of epoch \($0.epoch): \(error)" } ?? "\(error)")
      }
    }
    throw RecoveryError(
      "the state of partition \(partition) at epoch \(mark.number) cannot be rebuilt: "
        + problems.joined(separator: "; ") + ". Nothing was skipped; start anew with another kafka.group and prefix, "
        + "or bring the missing data back")
  }

  // MARK: - Without a history

  private func fresh(_ partition: Int32, _ committed: [CommittedOffset?]) throws -> Recovered {
    var next: [Int64] = []
    for (index, source) in configuration.sources.enumerated() {
      if let offset = committed[index]?.offset {
        next.append(offset)
        continue
      }
      next.append(try start(source.topic, partition))
    }
    let engine = TaskEngine(stage, partition: partition, next: next)
    engine.begin(now_ms: environment.wallClock_ms())
    return Recovered(engine: engine, kept: [], unneeded: [], report: RecoveryReport(), unsent: nil)
  }

  private func start(_ topic: String, _ partition: Int32) throws -> Int64 {
    let bounds = try reader.bounds(TopicPartition(topic, partition), timeout_ms: 30_000)
    return configuration.kafka.start == .earliest ? bounds.low : bounds.stable
  }

  // MARK: - With one

  private func replay(
    _ partition: Int32, _ mark: EpochMark, _ manifest: CheckpointManifest?, _ chain: [EpochRecord],
    _ contents: CheckpointContents, _ committed: [CommittedOffset?], _ manifests: [CheckpointManifest],
    _ problems: [String]
  ) throws -> Recovered {
    var report = RecoveryReport(checkpoint: manifest?.epoch, problems: problems)
    let engine = TaskEngine(
      stage, partition: partition, next: Array(repeating: 0, count: configuration.sources.count))
    let replayer = EpochReplayer(engine, configuration, reader, environment)
    if let manifest {
      try engine.beginRestore(manifest)
      try replayer.importShards(of: manifest, asOf: manifest.from, contents)
      if manifest.epoch == manifest.from { try engine.endRestore(manifest) }
    }
    var unsent: Outbox?
    for record in chain {
      let isLast = record.number == mark.number
      try replayer.replay(record, isRestoring: manifest.map { record.number <= $0.epoch } ?? false)
      if isLast, !mark.isSent, manifest.map({ record.number > $0.epoch }) ?? true { unsent = replayer.takeOutputs() }
      engine.finishEpoch(record)
      report.epochs += 1
      report.records += record.records
      if let manifest, record.number <= manifest.epoch {
        try replayer.importShards(of: manifest, asOf: record.number, contents)
        if record.number == manifest.epoch { try engine.endRestore(manifest) }
      }
      try replayer.checkShards(record)
    }
    guard engine.mark.number == mark.number else {
      throw RecoveryError("the epochs end at \(engine.mark.number), and \(mark.number) is committed")
    }
    // What the group has committed and what the epochs lead to must be the same.
    for (index, source) in configuration.sources.enumerated() {
      if let committed = committed[index] {
        guard index >= (chain.last?.next.count ?? manifest!.next.count) || committed.offset == engine.next[index] else {
          throw RecoveryError(
            "\(source.topic)[\(partition)]: offset \(committed.offset) is committed, and epoch \(mark.number) ends at "
              + "\(engine.next[index])")
        }
      } else {
        // A source that the configuration did not have before.
        var next = engine.next
        next[index] = try start(source.topic, partition)
        engine.setNext(next)
      }
    }
    report.ties = engine.matcher.tieCount
    let kept = manifests.filter { $0.epoch <= (manifest?.epoch ?? 0) }
    return Recovered(
      engine: engine, kept: Array(kept.prefix(2)), unneeded: contents.unneeded(by: Array(kept.prefix(2))),
      report: report, unsent: unsent)
  }

  func loadCheckpoints(_ partition: Int32) throws -> CheckpointContents {
    switch configuration.checkpoints {
    case .off: return CheckpointContents()
    case .directory(let path): return try CheckpointDirectory(path: path, task: partition).load()
    case .topic:
      var contents = CheckpointContents()
      let place = TopicPartition(configuration.checkpointsTopic, partition)
      let bounds = try reader.bounds(place, timeout_ms: 30_000)
      try reader.read(place, from: bounds.low, end: bounds.stable) { message in
        if let key = message.key {
          contents.put(String(decoding: key, as: UTF8.self), message.value.map { Array($0) })
        }
        return true
      }
      return contents
    }
  }
}

/// The epochs of one task as the topic has them.
final class EpochLog {
  private let reader: any LogReader
  private let place: TopicPartition
  private let environment: any WorkerEnvironment
  /// By number; several where an attempt was never committed (at least once) and its successor took the number.
  private var records: [UInt64: [EpochRecord]] = [:]
  private var readFrom = Int64.max
  private var position: Int64 = 0
  private var low: Int64 = 0
  /// Messages that could not be read, with their offsets.
  private var damaged: [String] = []

  init(_ reader: any LogReader, _ place: TopicPartition, _ environment: any WorkerEnvironment) {
    self.reader = reader
    self.place = place
    self.environment = environment
  }

  /// Every epoch after `after` up to the mark, in order.
  func chain(
    to mark: EpochMark, after: UInt64, offset: Int64?, manifest: CheckpointManifest?
  ) throws -> [EpochRecord] {
    let until = environment.monotonic_ms() + TaskRecovery.patience_ms
    var wait_ms: Int64 = 10
    while true {
      try load(from: offset ?? 0)
      // The offsets may be committed a moment before the epoch can be read: one transaction, several partitions.
      if mark.number <= after || records[mark.number]?.contains(where: { $0.incarnation == mark.incarnation }) == true {
        break
      }
      guard environment.monotonic_ms() < until else {
        throw RecoveryError("epoch \(mark.number) is committed, and \(place) does not have it" + damage)
      }
      environment.sleep(ms: wait_ms)
      wait_ms = min(2_000, wait_ms * 2)
    }
    var chain: [EpochRecord] = []
    var (number, incarnation) = (mark.number, mark.incarnation)
    while number > after {
      guard let record = records[number]?.first(where: { $0.incarnation == incarnation }) else {
        throw RecoveryError(
          "epoch \(number) is missing in \(place), whose oldest offset is \(low)" + damage)
      }
      if let manifest, manifest.epoch == number, manifest.incarnation != incarnation {
        throw RecoveryError("the checkpoint does not belong to the committed epochs")
      }
      chain.append(record)
      incarnation = record.previousIncarnation
      number -= 1
    }
    if after == 0, let first = chain.last, first.previousIncarnation != 0 {
      throw RecoveryError("the epochs in \(place) do not go back to the first")
    }
    return chain.reversed()
  }

  private var damage: String { damaged.isEmpty ? "" : " (" + damaged.joined(separator: "; ") + ")" }

  /// Every record in the topic from an offset on, as far as it can be read now.
  func load(from offset: Int64) throws {
    let bounds = try reader.bounds(place, timeout_ms: 30_000)
    low = bounds.low
    let from = max(offset, bounds.low)
    if from < readFrom {
      records = [:]
      damaged = []
      readFrom = from
      position = from
    }
    guard position < bounds.stable else { return }
    try reader.read(place, from: position, end: bounds.stable) { message in
      guard let value = message.value else { return true }
      do throws(ByteCodingError) {
        let record = try EpochRecord(bytes: UnsafeRawBufferPointer(value))
        records[record.number, default: []].append(record)
      } catch {
        damaged.append("\(place) offset \(message.offset): \(error)")
      }
      return true
    }
    position = bounds.stable
  }

  /// The newest number of each that is there.
  var numbers: [UInt64] { records.keys.sorted() }
  var oldestOffset: Int64 { low }
}

/// Does epochs again, and checks that the same comes of it.
final class EpochReplayer {
  private let engine: TaskEngine
  private let configuration: Configuration
  private let reader: any LogReader
  private let environment: any WorkerEnvironment
  private var arena = ReplayArena()
  private var outputs: Outbox?

  init(
    _ engine: TaskEngine, _ configuration: Configuration, _ reader: any LogReader,
    _ environment: any WorkerEnvironment
  ) {
    self.engine = engine
    self.environment = environment
    self.configuration = configuration
    self.reader = reader
  }

  /// - Parameter isRestoring: Not all shards are in yet: outputs and sums cannot be compared.
  func replay(_ record: EpochRecord, isRestoring: Bool) throws {
    try run(record)
    // Under other settings another result is no error; the facts are taken in all the same.
    guard record.configuration == engine.configurationHash else { return }
    func expect(_ isSame: Bool, _ what: String) throws {
      guard isSame else {
        throw RecoveryError("the replay of epoch \(record.number) of partition \(record.task) gives other \(what)")
      }
    }
    try expect(engine.timeDigest == record.timeDigest, "watermarks")
    if isRestoring { return }
    try expect(Array(engine.next.prefix(record.next.count)) == record.next, "offsets")
    try expect(engine.outbox.count == record.outputCount, "outputs")
    try expect(engine.outbox.digest == record.outputDigest, "outputs")
    try expect(engine.sumsDigest == record.sumsDigest, "sums")
  }

  /// Does what the record says, and leaves the outputs in the engine's outbox.
  func run(_ record: EpochRecord) throws {
    let events = environment.defect == .replayOutOfOrder ? record.events.reversed() : record.events
    for event in events {
      switch event {
      case .begin(let now_ms): engine.begin(now_ms: now_ms)
      case .time(let now_ms, let waiting, let bound):
        let now_ms = environment.defect == .replayByTheClock ? environment.wallClock_ms() : now_ms
        engine.moveTime(now_ms: now_ms, waiting: waiting, pace: .upTo(bound))
      case .run(let source, let first, let last, let count, let now_ms):
        let index = Int(source)
        guard index < configuration.sources.count else {
          throw RecoveryError("epoch \(record.number) reads source \(index), which the configuration does not have")
        }
        let place = TopicPartition(configuration.sources[index].topic, record.task)
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

  func importShards(of manifest: CheckpointManifest, asOf epoch: UInt64, _ contents: CheckpointContents) throws {
    for shard in manifest.shards.indices {
      let asOf = max(manifest.shards[shard].asOf, manifest.from)
      guard asOf == epoch else { continue }
      let digest = try engine.importShard(
        shard, bits: manifest.bits, bytes: try contents.shard(shard, of: manifest))
      guard digest == manifest.shards[shard].digest else {
        throw RecoveryError("shard \(shard) is not what the checkpoint states")
      }
    }
  }

  /// Compares the state of shards with what the epoch's record says of them.
  func checkShards(_ record: EpochRecord) throws {
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

/// Checkpoints of one task as files: `<directory>/<task>/<key>`.
public struct CheckpointDirectory {
  private let path: String

  public init(path: String, task: Int32) { self.path = "\(path)/\(task)" }

  public func load() throws -> CheckpointContents {
    var contents = CheckpointContents()
    guard let names = try? FileManager.default.contentsOfDirectory(atPath: path) else { return contents }
    for name in names where name.hasPrefix("m.") || name.hasPrefix("s.") {
      guard let data = FileManager.default.contents(atPath: path + "/" + name) else {
        throw RecoveryError("cannot read \(path)/\(name)")
      }
      contents.put(name, Array(data))
    }
    return contents
  }

  /// A file is there whole or not at all.
  public func apply(_ writes: [CheckpointWrite]) throws {
    guard !writes.isEmpty else { return }
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    for write in writes {
      let target = path + "/" + write.key
      guard let value = write.value else {
        try? FileManager.default.removeItem(atPath: target)
        continue
      }
      let temporary = path + "/tmp." + write.key
      let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC, 0o644)
      guard descriptor >= 0 else {
        throw RecoveryError("cannot write \(temporary): \(String(cString: strerror(errno)))")
      }
      var done = 0
      while done < value.count {
        let count = value.withUnsafeBytes { Foundation.write(descriptor, $0.baseAddress! + done, value.count - done) }
        guard count > 0 else {
          close(descriptor)
          throw RecoveryError("cannot write \(temporary): \(String(cString: strerror(errno)))")
        }
        done += count
      }
      fsync(descriptor)
      close(descriptor)
      guard rename(temporary, target) == 0 else {
        throw RecoveryError("cannot write \(target): \(String(cString: strerror(errno)))")
      }
    }
  }
}
