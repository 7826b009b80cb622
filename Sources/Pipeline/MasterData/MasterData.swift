import Checkpoints
import Configuration
import Domain
import Kafka
import Logging
import Synchronization

/// One version of the tables: the configuration with what they hold, and the hash that names it.
public struct TableVersion: Sendable {
  public let configuration: Configuration
  public let hash: UInt64

  public init(_ configuration: Configuration) {
    self.configuration = configuration
    hash = configuration.matchingHash
  }

  /// What is written to partition 0 of `<prefix>.tables`, before any worker takes it up.
  public var messages: [(key: [UInt8], value: [UInt8])] {
    let parts = PackedBytes.pack(TableVersions.encode(configuration.tableEntries))
    return parts.enumerated().map { number, part in
      (Array("\(TableVersions.name(hash))/\(number)/\(parts.count)".utf8), part)
    }
  }
}

/// Where workers find the version that they are to take up.
public protocol TableVersionSource: AnyObject, Sendable {
  var current: TableVersion { get }
}

/// The tables as they are now, for all workers of a process.
///
/// A version is first written to the topic of versions, and only then shown to the workers, which take it up between two
/// epochs: no record of an epoch names a version that a recovery could not find.
public final class MasterData: TableVersionSource, @unchecked Sendable {
  private let version: Mutex<TableVersion>
  private let troubled = Mutex<Set<String>>([])
  private let log: Logger
  private let producer: Producer

  // Of the thread that calls `refresh`.
  private let topics: TopicTables?
  private var nextLook_ms: Int64
  private var nextWrite_ms: Int64 = 0
  private var lastProblem = ""
  private let trial = TableTrial()
  private let interval_ms: Int64
  private let rewrite_ms: Int64

  /// Reads the topics to their ends, and writes down the version that this gives.
  init(_ configuration: Configuration, log: Logger) throws {
    self.log = log
    producer = try Producer(properties: configuration.clientProperties(.producer))
    topics = try TopicTables(configuration, log: log)
    var configuration = configuration
    if let topics {
      try topics.readPositions()
      let held = try MasterData.read(topics, configuration, producer)
      let (taken, problems) = TableTrial().take(configuration, held, topics, isStart: true)
      guard problems.isEmpty else { throw MasterDataError(description: problems.map(\.text).joined(separator: "; ")) }
      configuration = taken
      let entries = configuration.tableEntries
      log.info(
        "tables read",
        metadata: [
          "rows":
            "\(configuration.topicTables.map { "\($0.name) \(entries[$0.name]?.count ?? 0)" }.joined(separator: ", "))"
        ])
    }
    try KnownPeriods.settle(configuration, producer: producer)
    version = Mutex(TableVersion(configuration))
    interval_ms = configuration.masterDataInterval_ms ?? 30_000
    rewrite_ms = max(configuration.epochRetention_ms, 3_600_000) / 2
    nextLook_ms = monotonic_ms() + interval_ms
    try write(version.withLock { $0 })
  }

  public var current: TableVersion { version.withLock { $0 } }

  /// Reads the files again where it is time, or where it is asked for. A table that cannot be read, or with which a mapping
  /// makes no sense, stays as it is.
  func refresh(isForced: Bool) {
    let now_ms = monotonic_ms()
    guard isForced || now_ms >= nextLook_ms else { return }
    nextLook_ms = now_ms + interval_ms
    do {
      let old = current
      let held = try topics.map { try MasterData.read($0, old.configuration, producer) } ?? [:]
      let (configuration, problems) = trial.take(old.configuration, held, topics)
      // Said once, not at every look.
      let all = problems.map(\.text).joined(separator: "; ")
      if all != lastProblem || isForced {
        for problem in problems { log.error("a table stays as it is", metadata: problem.metadata) }
      }
      lastProblem = all
      let names = Set(problems.map(\.source.name))
      troubled.withLock { $0 = names }
      let entries = configuration.tableEntries
      guard entries != old.configuration.tableEntries else {
        if now_ms >= nextWrite_ms { try write(old) }
        return
      }
      try KnownPeriods.write(configuration, producer)
      let next = TableVersion(configuration)
      try write(next)
      version.withLock { $0 = next }
      let changed = entries.filter { old.configuration.tableEntries[$0.key] != $0.value }
      log.notice(
        "tables read again",
        metadata: [
          "version": "\(TableVersions.name(next.hash))",
          "changed": "\(changed.map { "\($0.key) (\($0.value.count) entries)" }.sorted().joined(separator: ", "))",
        ])
    } catch {
      // Said once, not at every look.
      if "\(error)" != lastProblem || isForced {
        log.error("the tables stay as they are", metadata: ["error": "\(error)"])
      }
      lastProblem = "\(error)"
      let names = Set(current.configuration.topicTables.map(\.name))
      troubled.withLock { $0.formUnion(names) }
    }
  }

  /// The tables that are followed, and whether they stay as they are because what is there now cannot be taken up.
  var tables: [(source: TableSource, isTroubled: Bool)] {
    let names = troubled.withLock { $0 }
    return current.configuration.tableSources.map { ($0, names.contains($0.name)) }
  }

  /// What the topics hold now. What makes no row is a dead letter.
  private static func read(
    _ topics: TopicTables, _ configuration: Configuration, _ producer: Producer
  ) throws -> TableEntries {
    var letters = 0
    let entries = try topics.read { key, value in
      letters += 1
      try producer.produce(topic: configuration.deadLettersTopic, key: key ?? [], value: value)
    }
    if letters > 0 {
      try producer.flush(timeout_ms: 60_000)
      try sendPositions(topics, configuration, producer)
      try producer.flush(timeout_ms: 60_000)
    }
    return entries
  }

  private static func sendPositions(
    _ topics: TopicTables, _ configuration: Configuration, _ producer: Producer
  ) throws(KafkaError) {
    for (key, value) in topics.keptRows {
      try producer.produce(topic: configuration.tablesTopic, partition: 0, key: key, value: value)
    }
    for (key, offset) in topics.positions {
      try producer.produce(
        topic: configuration.tablesTopic, partition: 0, key: Array(key.utf8), value: Array("\(offset)".utf8))
    }
  }

  private func write(_ version: TableVersion) throws(KafkaError) {
    for (key, value) in version.messages {
      try producer.produce(topic: version.configuration.tablesTopic, partition: 0, key: key, value: value)
    }
    if let topics { try MasterData.sendPositions(topics, version.configuration, producer) }
    try producer.flush(timeout_ms: 60_000)
    nextWrite_ms = monotonic_ms() + rewrite_ms
  }
}
