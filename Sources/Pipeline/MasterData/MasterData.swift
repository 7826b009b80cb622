import Checkpoints
import Configuration
import Domain
import Kafka
import Logging
import Synchronization

/// The tables as they are now, for all workers of a process.
///
/// A version is first written to the topic of versions, and only then shown to the workers, which take it up between two
/// epochs: no record of an epoch names a version that a recovery could not find.
public final class MasterData: @unchecked Sendable {
  struct Version {
    var configuration: Configuration
    var hash: UInt64
  }

  private let version: Mutex<Version>
  private let log: Logger
  private let producer: Producer

  // Of the thread that calls `refresh`.
  private var nextLook_ms: Int64
  private var nextWrite_ms: Int64 = 0
  private var lastProblem = ""
  private let interval_ms: Int64
  private let rewrite_ms: Int64

  /// Writes down the version of the configuration.
  init(_ configuration: Configuration, log: Logger) throws {
    self.log = log
    version = Mutex(Version(configuration: configuration, hash: configuration.matchingHash))
    producer = try Producer(properties: configuration.clientProperties(.producer))
    interval_ms = configuration.masterDataInterval_ms ?? 30_000
    rewrite_ms = max(configuration.epochRetention_ms, 3_600_000) / 2
    nextLook_ms = monotonic_ms() + interval_ms
    try write(version.withLock { $0 })
  }

  var current: Version { version.withLock { $0 } }

  /// Reads the files again where it is time, or where it is asked for. Tables that cannot be read, or with which a mapping
  /// makes no sense, change nothing.
  func refresh(isForced: Bool) {
    let now_ms = monotonic_ms()
    guard isForced || now_ms >= nextLook_ms else { return }
    nextLook_ms = now_ms + interval_ms
    do {
      let old = current
      let entries = try old.configuration.rereadTables()
      guard entries != old.configuration.tableEntries else {
        if now_ms >= nextWrite_ms { try write(old) }
        lastProblem = ""
        return
      }
      let configuration = try old.configuration.replacingTables(entries)
      try old.configuration.checkSuccessor(configuration)
      let next = Version(configuration: configuration, hash: configuration.matchingHash)
      try write(next)
      version.withLock { $0 = next }
      lastProblem = ""
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
    }
  }

  private func write(_ version: Version) throws(KafkaError) {
    let messages = PackedBytes.pack(TableVersions.encode(version.configuration.tableEntries))
    for (number, message) in messages.enumerated() {
      let key = Array("\(TableVersions.name(version.hash))/\(number)/\(messages.count)".utf8)
      var failure: KafkaError?
      key.withUnsafeBufferPointer { key in
        message.withUnsafeBufferPointer { value in
          do throws(KafkaError) {
            try producer.produce(topic: version.configuration.tablesTopic, partition: 0, key: key, value: value)
          } catch { failure = error }
        }
      }
      if let failure { throw failure }
    }
    try producer.flush(timeout_ms: 60_000)
    nextWrite_ms = monotonic_ms() + rewrite_ms
  }
}
