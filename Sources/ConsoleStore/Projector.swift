import Foundation
import Kafka
import Pipeline
import SchemaRegistry
import Synchronization

/// Follows the topics and fills the store: one thread, one consumer in a group of its own, that begins where the store
/// says. Any number of processes can do so side by side, each with its own store, or with one that they share.
public final class Projector: @unchecked Sendable {
  /// Which topics carry what.
  public struct Topics: Sendable {
    public var kinds: [String: StoreTopicKind]
    /// Without these it waits: there is nothing to show.
    public var required: Set<String>

    public init(kinds: [String: StoreTopicKind], required: Set<String>) {
      self.kinds = kinds
      self.required = required
    }
  }

  public struct Status: Sendable {
    /// Every partition has been read to its end at least once since the start.
    public var isCaughtUp = false
    /// Records not yet in the store.
    public var lag: Int64 = 0
    public var records = 0
    public var batches = 0
    public var faults = 0
    public var partitions = 0
    public var sequence: Int64 = 0
    /// Rises whenever breaks may look otherwise than before.
    public var version: UInt64 = 0
    /// When the last batch was stored, and how long it took.
    public var applied_ms: Int64 = 0
    public var lastBatch_us: Int64 = 0
    /// What keeps it from reading, if something does.
    public var trouble: String?
    public var missingTopics: [String] = []
  }

  /// Records of one transaction: enough that its cost is spread, few enough that a reader sees them within a second.
  public static let maximumBatch = 10_000
  /// How long a batch waits for more records.
  static let batchWait_ms = 50
  /// Between two looks for topics that are not there yet, and between two tries after an error.
  static let lookInterval_ms: Int64 = 5_000
  static let retry_ms: UInt32 = 1_000

  public typealias Log = @Sendable (_ isProblem: Bool, _ message: String) -> Void

  private let store: any ConsoleStore
  private let topics: Topics
  private let consumerProperties: [KafkaProperty]
  private let adminProperties: [KafkaProperty]
  private let outputs: OutputReader
  private let log: Log
  private let onChange: @Sendable (StoreChange) -> Void
  private let onRestart: @Sendable () -> Void
  private let state = Mutex(Status())
  private let isStopped = Mutex(false)
  private let finished = DispatchSemaphore(value: 0)

  /// - Parameters:
  ///   - consumerProperties: must not name a group; each projector is alone in its own.
  ///   - outputs: reads messages of output topics that are not JSON.
  ///   - onRestart: told where another process has made a shared store anew.
  public init(
    store: any ConsoleStore, topics: Topics, consumerProperties: [KafkaProperty], adminProperties: [KafkaProperty],
    outputs: OutputReader = OutputReader(), log: @escaping Log, onChange: @escaping @Sendable (StoreChange) -> Void,
    onRestart: @escaping @Sendable () -> Void = {}
  ) {
    self.store = store
    self.topics = topics
    self.consumerProperties = consumerProperties
    self.adminProperties = adminProperties
    self.outputs = outputs
    self.log = log
    self.onChange = onChange
    self.onRestart = onRestart
  }

  public var status: Status { state.withLock { $0 } }

  public func start() {
    let thread = Thread { [self] in
      run()
      finished.signal()
    }
    thread.stackSize = 4 << 20
    thread.name = "projector"
    thread.start()
  }

  /// Ends after the running batch.
  public func stop() {
    isStopped.withLock { $0 = true }
    finished.wait()
    finished.signal()
  }

  private var isRunning: Bool { !isStopped.withLock { $0 } }

  private func run() {
    while isRunning {
      do {
        try follow()
      } catch is StoreMadeAnew {
        log(false, "another process has made the store anew: it is followed from where it stands")
        state.withLock { $0.version += 1 }
        onRestart()
      } catch {
        state.withLock { $0.trouble = "\(error)" }
        log(true, "the topics cannot be followed: \(error)")
        pause(ms: Projector.retry_ms)
      }
    }
  }

  private func pause(ms: UInt32) {
    for _ in 0..<max(1, ms / 50) where isRunning { usleep(50_000) }
  }

  /// The topics that are there.
  private func existing() throws -> (names: [String], isEmbedded: Bool) {
    let cluster = try Admin(properties: adminProperties).describe()
    let known = cluster.topics
    let found = topics.kinds.keys.filter { known[$0] != nil }.sorted()
    let missing = topics.kinds.keys.filter { known[$0] == nil }.sorted()
    state.withLock { $0.missingTopics = missing }
    let lacking = topics.required.filter { known[$0] == nil }.sorted()
    guard lacking.isEmpty else {
      throw KafkaError(
        name: "UNKNOWN_TOPIC_OR_PART", "there is no topic \(lacking.joined(separator: ", "))", context: "following")
    }
    return (found, cluster.isEmbedded)
  }

  private func follow() throws {
    let (names, isEmbedded) = try existing()
    let (log, store) = (log, store)
    // What is configured wins.
    let consumer = try Consumer(
      properties: (isEmbedded ? [] : [Consumer.fetchWait]) + consumerProperties + [
        KafkaProperty("group.id", "tieout-console-\(UUID().uuidString)"),
        KafkaProperty("isolation.level", "read_committed"), KafkaProperty("auto.offset.reset", "error"),
      ], topics: names, batch: Projector.maximumBatch,
      log: { level, facility, message in if level <= 4 { log(level <= 3, "\(facility): \(message)") } })
    defer { consumer.close() }
    let kinds = names.map { topics.kinds[$0]! }
    var assigned: Set<TopicPartition> = []
    var ended: Set<TopicPartition> = []
    var positions = try store.positions()
    var looked_ms = wallClock_ms()
    var records: [StoreRecord] = []
    while isRunning {
      records.removeAll(keepingCapacity: true)
      _ = try consumer.consume(timeout_ms: Projector.batchWait_ms) { message in
        guard message.topic >= 0 else { return }
        let place = StorePlace(names[message.topic], message.partition)
        // The library may hand some out again after a rebalance: they are in already.
        if let next = positions[place], message.offset < next { return }
        positions[place] = message.offset + 1
        ended.remove(TopicPartition(place.topic, place.partition))
        records.append(
          StoreRecord(
            kind: kinds[message.topic], place: place, offset: message.offset, timestamp_ms: message.timestamp_ms,
            key: message.key.map { Array($0) }, value: message.value.map { Array($0) }))
      }
      if let fatal = consumer.errors.first(where: \.isFatal) { throw fatal }
      for error in consumer.errors where !error.isOutOfRange { log(true, "\(error)") }
      let gone = consumer.errors.filter(\.isOutOfRange).compactMap(\.place)
      if !records.isEmpty {
        // Records of sources are what they are.
        for at in records.indices where records[at].kind != .records { try translate(&records[at]) }
        try apply(records)
      }
      for end in consumer.ended { ended.insert(end.place) }
      if !gone.isEmpty, consumer.pendingRebalance == nil {
        try skipTrimmed(gone, &positions)
        try assign(consumer, assigned, positions)
      }
      if let places = try takeUp(consumer, &positions) {
        assigned = Set(places)
        ended = []
      }
      let lag = assigned.reduce(into: Int64(0)) { sum, place in
        guard let high = consumer.cachedOffsets(place)?.high else { return }
        sum += max(0, high - (positions[StorePlace(place.topic, place.partition)] ?? 0))
      }
      let isAtEnd = !assigned.isEmpty && assigned.isSubset(of: ended)
      let missing = state.withLock { status in
        status.partitions = assigned.count
        // Control records of transactions at the end of a partition are no lag.
        status.lag = isAtEnd ? 0 : lag
        status.isCaughtUp = status.isCaughtUp || isAtEnd
        status.trouble = nil
        return status.missingTopics
      }
      if wallClock_ms() - looked_ms > Projector.lookInterval_ms {
        looked_ms = wallClock_ms()
        try store.refresh()
        if !missing.isEmpty, try existing().names != names { return }
      }
    }
  }

  /// Brings a message into its JSON form. What cannot be read stays, and is a fault of the store's.
  /// - Throws: where the schema registry does not answer.
  private func translate(_ record: inout StoreRecord) throws {
    guard let value = record.value, value.first == 0 else { return }
    do {
      record.value = try value.withUnsafeBufferPointer { try outputs.json($0) }
    } catch let error as SchemaRegistryError {
      throw error
    } catch {
      log(true, "\(record.place.topic), partition \(record.place.partition), offset \(record.offset): \(error)")
    }
  }

  /// Answers a change of assignment: everything is read on from where the store stands.
  private func takeUp(_ consumer: Consumer, _ positions: inout [StorePlace: Int64]) throws -> [TopicPartition]? {
    guard let change = consumer.pendingRebalance else { return nil }
    guard case .assigned(let places) = change else {
      try consumer.unassign()
      return []
    }
    positions = try store.positions()
    try assign(consumer, Set(places), positions)
    return places
  }

  private func assign(
    _ consumer: Consumer, _ places: Set<TopicPartition>, _ positions: [StorePlace: Int64]
  ) throws(KafkaError) {
    var starts: [TopicPartition: StartOffset] = [:]
    for place in places {
      let known = positions[StorePlace(place.topic, place.partition)]
      starts[place] = known.map { .at($0) } ?? .beginning
    }
    try consumer.assign(starts)
  }

  /// Kafka does not have the next messages of these partitions. What retention or a compaction has taken is passed over,
  /// and said; a partition that ends before what the store has of it is another one than it was.
  private func skipTrimmed(_ places: [TopicPartition], _ positions: inout [StorePlace: Int64]) throws {
    let reader = try PartitionReader(properties: adminProperties)
    defer { reader.close() }
    for place in places {
      let known = StorePlace(place.topic, place.partition)
      let next = positions[known] ?? 0
      let (low, stable) = try reader.bounds(place, timeout_ms: 30_000)
      if stable < next {
        throw KafkaError(
          name: "_AUTO_OFFSET_RESET",
          "\(place) ends at offset \(stable), and the store has it up to \(next): it was truncated or created anew; with "
            + "`tieout serve --rebuild` the store is made again from what is there", context: "following")
      }
      if low > next {
        log(true, "\(place): the messages from offset \(next) to \(low - 1) were deleted before they were stored")
        positions[known] = low
      }
    }
  }

  private func apply(_ records: [StoreRecord]) throws {
    let started = DispatchTime.now().uptimeNanoseconds
    let change = try store.apply(records, now_ms: wallClock_ms())
    let taken_us = Int64((DispatchTime.now().uptimeNanoseconds - started) / 1_000)
    state.withLock { status in
      status.records += records.count
      status.batches += 1
      status.faults += change.faultCount
      status.sequence = change.sequence
      if change.breaks + change.actions + change.known > 0 { status.version += 1 }
      status.applied_ms = wallClock_ms()
      status.lastBatch_us = taken_us
    }
    for fault in change.faults { log(true, "a record that cannot be stored: \(fault)") }
    if change.breaks + change.actions + change.deadLetters + change.cells + change.known > 0 { onChange(change) }
  }
}
