import Aggregates
import Configuration
import Domain
import Foundation
import Kafka
import Logging
import Synchronization

/// The second stage: adds up what the tasks tell of their own cells. Every partial is cumulative, and the topic is
/// compacted, so that reading it from the beginning is the whole recovery, and nothing is ever added twice.
///
/// What it commits is of no use for reading on. It is there for the group to fence a stage that has been replaced and
/// does not know it yet: its old sums must not be the last ones that are told.
public final class TotalsStage: Stage, @unchecked Sendable {
  private var consumer: (any GroupConsumer)!
  private var producer: (any RecordProducer)!
  private var group: GroupMetadata?
  /// By cell, then by task.
  private var cells: [String: [Int32: Partial]] = [:]
  private var changed: Set<String> = []
  /// Partitions that have not been read to their end yet.
  private var behind: Set<Int32> = []
  private var next: [TopicPartition: Int64] = [:]
  private var revenue: RevenueMerger
  private var quality = QualityMerger()
  private var times: TaskTimes
  /// Messages that have not been told yet.
  private var pending: [RevenueMessage] = []
  private var pendingQuality: [QualityMessage] = []
  private var encoder: FinanceEncoder
  private let breakEncoder: BreakEncoder
  /// Values that must be unique; nil where no rule says so.
  private var unique: UniqueValues?
  private var pendingUnique: [UniqueValues.Output] = []
  /// By partition: what the owner before had told of them when it last committed. Its messages may be seen a moment later
  /// than its offsets.
  private var toldBefore: [Int32: Int64] = [:]
  private var waitsUntil_ms: Int64 = 0
  private let uniqueCounts = Mutex<UniqueValues.Counts?>(nil)
  /// The formats of the outputs; nil where all are JSON.
  private let outputs: OutputEncoding?
  /// When the sums were last told, by the monotonic clock; nil before the first time.
  private var told_ms: Int64?

  /// Milliseconds between two tellings: sums that change with every epoch of every task are told once a second.
  static let interval_ms: Int64 = 1_000

  /// Where the calendar changes while the stage runs.
  private let masterData: (any TableVersionSource)?

  public init(
    configuration: Configuration, stop: StopFlag, log: Logger, environment: any WorkerEnvironment,
    outputs: OutputEncoding? = nil, masterData: (any TableVersionSource)? = nil
  ) {
    self.outputs = outputs
    self.masterData = masterData
    (revenue, times) = TotalsStage.mergers(configuration)
    encoder = FinanceEncoder(dimensionNames: configuration.dimensions)
    breakEncoder = BreakEncoder(dimensionNames: configuration.dimensions)
    unique = TotalsStage.values(configuration)
    super.init("totals", configuration: configuration, stop: stop, log: log, environment: environment)
  }

  private static func mergers(_ configuration: Configuration) -> (RevenueMerger, TaskTimes) {
    let policy = configuration.policy
    let settling_ms = policy.window_ms.addingReportingOverflow(policy.grace_ms).partialValue
    return (
      RevenueMerger(
        settling_ms: settling_ms, taskCount: configuration.taskCount, calendar: policy.checks?.calendar),
      TaskTimes(settling_ms: settling_ms, taskCount: configuration.taskCount)
    )
  }

  private static func values(_ configuration: Configuration) -> UniqueValues? {
    configuration.sources.contains { !$0.uniqueRules.isEmpty }
      ? UniqueValues(maximum: configuration.maximumUnique) : nil
  }

  /// Of the values that must be unique, as far as they are held here; nil where no rule says so. From any thread.
  var currentUniqueCounts: UniqueValues.Counts? { uniqueCounts.withLock { $0 } }

  override func runOnce() throws {
    let instance = configuration.kafka.instance
    let member = instance.isEmpty ? "" : "\(instance)-totals"
    let name = configuration.kafka.group + "-totals"
    let id = "\(name)-" + (member.isEmpty ? String(environment.identity(), radix: 36) : member)
    producer = try environment.makeProducer(configuration, transactionalID: isExactlyOnce ? id : nil)
    if isExactlyOnce {
      try retrying { () throws(KafkaError) in try producer.initTransactions(timeout_ms: 30_000) }
    }
    consumer = try environment.makeConsumer(
      configuration, group: name, topics: [configuration.partialsTopic], member: member)
    forget()
    group = nil
    defer {
      consumer.close()
      consumer = nil
      producer = nil
    }
    while !stop.isStopped {
      beat()
      _ = try consumer.consume(timeout_ms: 100, { self.take($0) }, finish: {})
      for error in consumer.errors {
        // Where partials are gone, or others than they were, all of them are read again.
        if error.isFatal || error.isOutOfRange { throw error }
        log.warning("\(error)")
      }
      for end in consumer.ended { behind.remove(end.place.partition) }
      if let change = consumer.pendingRebalance {
        forget()
        group = nil
        if case .assigned(let places) = change {
          do throws(KafkaError) {
            // Before it is answered: afterwards it may be that of another generation.
            group = try consumer.groupMetadata()
          } catch {
            if error.isFatal { throw error }
            // The group has decided anew already, and says so next.
            log.warning("assigned, and no member any more", metadata: ["error": "\(error)"])
            try consumer.unassign()
            continue
          }
          behind = Set(places.map(\.partition))
          try learnTold(places)
        }
        try consumer.answerRebalance(start: .beginning)
      } else if told_ms.map({ environment.monotonic_ms() - $0 >= TotalsStage.interval_ms }) ?? true {
        try tellChanges()
      }
    }
    // At a planned end nothing waits for the next owner.
    if consumer.pendingRebalance == nil { try tellChanges() }
  }

  /// How much the owners before have told, none of it in an open transaction any more. Without transactions what comes
  /// twice comes twice.
  private func learnTold(_ places: [TopicPartition]) throws {
    guard unique != nil, isExactlyOnce, !places.isEmpty else { return }
    var committed: [TopicPartition: CommittedOffset] = [:]
    try retrying { () throws(KafkaError) in committed = try consumer.committed(places, timeout_ms: 30_000) }
    toldBefore = Dictionary(
      uniqueKeysWithValues: places.map { ($0.partition, Int64(committed[$0]?.metadata ?? "") ?? 0) })
    waitsUntil_ms = environment.monotonic_ms() + 30_000
  }

  /// Whether everything that was told before has been read.
  private var knowsWhatWasTold: Bool {
    guard let unique else { return true }
    if toldBefore.allSatisfy({ unique.tellings[$0.key] ?? 0 >= $0.value }) { return true }
    guard environment.monotonic_ms() >= waitsUntil_ms else { return false }
    log.warning("not all is there that was told of duplicate values: some of it may be told again")
    toldBefore = [:]
    return true
  }

  private func tellChanges() throws {
    // Sums of half a history would be wrong ones.
    guard group != nil, behind.isEmpty, knowsWhatWasTold else { return }
    let known = masterData?.current.configuration.policy.checks?.calendar
    if let known { revenue.use(known) }
    if configuration.aggregates != nil { pending += revenue.take() }
    if configuration.quality != nil {
      pendingQuality += quality.take(
        times, calendar: known ?? configuration.policy.checks?.calendar, now_ms: environment.wallClock_ms())
    }
    if unique != nil {
      if told_ms == nil, !isExactlyOnce {
        // Whoever was here before may have ended before it said so.
        for (place, count) in unique!.opened.sorted(by: { $0.key < $1.key }) {
          pendingUnique.append(.opened(count, partition: place))
        }
      }
      pendingUnique += unique!.take(asOf_ms: times.asOf_ms)
      let counts = unique!.counts
      uniqueCounts.withLock { $0 = counts }
    }
    guard !changed.isEmpty || !pending.isEmpty || !pendingQuality.isEmpty || !pendingUnique.isEmpty else { return }
    told_ms = environment.monotonic_ms()
    try tell()
  }

  private func forget() {
    told_ms = nil
    cells = [:]
    changed = []
    behind = []
    next = [:]
    (revenue, times) = TotalsStage.mergers(configuration)
    quality = QualityMerger()
    pending = []
    pendingQuality = []
    unique = TotalsStage.values(configuration)
    pendingUnique = []
    toldBefore = [:]
  }

  private func take(_ message: ConsumedMessage) {
    next[TopicPartition(configuration.partialsTopic, message.partition)] = message.offset + 1
    if let key = message.key, CellPartial.isKey(UnsafeRawBufferPointer(key)) {
      guard let value = message.value else { return }
      do throws(ByteCodingError) {
        revenue.apply(try CellPartial(key: UnsafeRawBufferPointer(key), value: UnsafeRawBufferPointer(value)))
      } catch {
        log.warning("a partial cell cannot be read", metadata: ["offset": "\(message.offset)", "error": "\(error)"])
      }
      return
    }
    if let key = message.key, QualityPartial.isKey(UnsafeRawBufferPointer(key)) {
      guard let value = message.value else { return }
      do throws(ByteCodingError) {
        quality.apply(try QualityPartial(key: UnsafeRawBufferPointer(key), value: UnsafeRawBufferPointer(value)))
      } catch {
        log.warning(
          "counts of quality cannot be read", metadata: ["offset": "\(message.offset)", "error": "\(error)"])
      }
      return
    }
    if let key = message.key, UniqueMessage.isKey(key) {
      do throws(ByteCodingError) {
        unique?.apply(
          try UniqueMessage(key: key, value: message.value), partition: message.partition, asOf_ms: times.asOf_ms)
      } catch {
        log.warning(
          "a value that must be unique cannot be read",
          metadata: ["offset": "\(message.offset)", "error": "\(error)"])
      }
      return
    }
    guard let partial = Partial(key: message.key, value: message.value) else { return }
    if partial.cell.hasPrefix(Partial.timePrefix) {
      let source = String(partial.cell.dropFirst(Partial.timePrefix.count))
      if source.isEmpty {
        revenue.setWatermark(task: partial.task, partial.value)
        times.setWatermark(task: partial.task, partial.value)
      } else {
        revenue.setLatest(source: source, task: partial.task, partial.value)
        times.setLatest(source: source, task: partial.task, partial.value)
      }
      return
    }
    let known = cells[partial.cell]?[partial.task]
    guard known.map({ $0.epoch < partial.epoch }) ?? true else { return }
    cells[partial.cell, default: [:]][partial.task] = partial
    if known?.value != partial.value { changed.insert(partial.cell) }
  }

  /// Sends the sums that have changed, as a member of the generation that has the partitions. What cannot be sent now is
  /// sent with the next change, or by whoever has the partitions then.
  private func tell() throws {
    guard let group else { return }
    let offsets = Dictionary(
      uniqueKeysWithValues: next.map { place, offset in
        let told = unique.map { String($0.tellings[place.partition] ?? 0) } ?? ""
        return (place, CommittedOffset(offset, metadata: told))
      })
    do throws(KafkaError) {
      if isExactlyOnce {
        try producer.beginTransaction()
        try send()
        try retrying { () throws(KafkaError) in
          try producer.sendOffsets(offsets, group: group, timeout_ms: 10_000)
        }
        try retrying { () throws(KafkaError) in try producer.commitTransaction(timeout_ms: 30_000) }
      } else {
        try retrying { () throws(KafkaError) in try consumer.commit(offsets) }
        try send()
        try retrying { () throws(KafkaError) in try producer.flush(timeout_ms: 60_000) }
      }
      changed = []
      pending = []
      pendingQuality = []
      pendingUnique = []
    } catch {
      if error.isFatal { throw error }
      // Sums may be told a second time; a break's revision may not, and whether it has been only the topic says.
      if isExactlyOnce, !pendingUnique.isEmpty { throw error }
      log.debug("totals not told", metadata: ["error": "\(error)"])
      if environment.defect == .totalsForgotten { (changed, pendingQuality) = ([], []) }
      if isExactlyOnce {
        try retrying { () throws(KafkaError) in try producer.abortTransaction(timeout_ms: 30_000) }
      }
    }
  }

  private func send() throws(KafkaError) {
    for message in pending {
      try produce(.revenue, FinanceEncoder.key(message), encoder.encode(message))
    }
    for message in pendingQuality {
      try produce(.quality, FinanceEncoder.key(message), encoder.encode(message))
    }
    try sendUnique()
    for cell in changed.sorted() {
      let values = cells[cell] ?? [:]
      // As that of the other figures: of the epochs of the newest partials, which only rise.
      let value = TotalEncoder.encode(
        cell: cell, value: values.values.reduce(0) { $0 + $1.value }, tasks: values.count,
        revision: values.values.reduce(0) { $0 &+ $1.epoch }, asOf_ms: times.asOf_ms)
      try produce(.totals, Array(cell.utf8), value)
    }
  }

  /// Breaks first, then that they have been told, then what is deleted: without transactions a process that ends in between
  /// tells some of it once more, the same again.
  private func sendUnique() throws(KafkaError) {
    guard !pendingUnique.isEmpty else { return }
    func flush() throws(KafkaError) {
      if !isExactlyOnce { try retrying { () throws(KafkaError) in try producer.flush(timeout_ms: 60_000) } }
    }
    for output in pendingUnique {
      if case .aBreak(let made) = output { try produce(.breaks, Array(made.id.utf8), breakEncoder.encode(made)) }
    }
    try flush()
    for output in pendingUnique {
      if case .opened(let count, let partition) = output { try tellOpened(count, partition) }
      guard case .message(let message, let partition) = output else { continue }
      if case .forgotten = message { continue }
      for (key, value) in message.messages { try producePartial(partition, key, value) }
    }
    try flush()
    for output in pendingUnique {
      guard case .message(.forgotten(let key), let partition) = output else { continue }
      for (key, value) in UniqueMessage.forgotten(key).messages { try producePartial(partition, key, value) }
    }
  }

  /// A partition's part of the number of open breaks, as that of a task behind all others. It only rises, so that it is its
  /// own epoch.
  private func tellOpened(_ count: Int64, _ partition: Int32) throws(KafkaError) {
    let cell = Partial(
      cell: "open_breaks:" + BreakType.dataQuality.rawValue, task: -1 - partition, value: count,
      epoch: UInt64(max(0, count)))
    try producePartial(cell.partition(of: configuration.partialsPartitions), cell.key, cell.valueBytes)
  }

  private func producePartial(_ partition: Int32, _ key: [UInt8], _ value: [UInt8]?) throws(KafkaError) {
    try producer.produce(topic: configuration.partialsTopic, partition: partition, key: key, value: value)
  }

  private func produce(_ output: Output, _ key: [UInt8], _ json: [UInt8]) throws(KafkaError) {
    try producer.produce(topic: configuration.topic(output), key: key, value: outputs?.bytes(output, json) ?? json)
  }
}
