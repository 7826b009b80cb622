import Aggregates
import Configuration
import Domain
import Foundation
import Kafka
import Logging

/// The second stage: adds up what the tasks tell of their own cells. Every partial is cumulative, and the topic is
/// compacted, so that reading it from the beginning is the whole recovery, and nothing is ever added twice.
///
/// What it commits is of no use for reading on. It is there for the group to fence a stage that has been replaced and
/// does not know it yet: its old sums must not be the last ones that are told.
public final class TotalsStage: Stage {
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
  /// When the sums were last told, by the monotonic clock; nil before the first time.
  private var told_ms: Int64?

  /// Milliseconds between two tellings: sums that change with every epoch of every task are told once a second.
  static let interval_ms: Int64 = 1_000

  /// Where the calendar changes while the stage runs.
  private let masterData: MasterData?

  public init(
    configuration: Configuration, stop: StopFlag, log: Logger, environment: any WorkerEnvironment,
    masterData: MasterData? = nil
  ) {
    self.masterData = masterData
    (revenue, times) = TotalsStage.mergers(configuration)
    encoder = FinanceEncoder(dimensionNames: configuration.dimensions)
    super.init("totals", configuration: configuration, stop: stop, log: log, environment: environment)
  }

  private static func mergers(_ configuration: Configuration) -> (RevenueMerger, TaskTimes) {
    let policy = configuration.policy
    let settling_ms = policy.window_ms.addingReportingOverflow(policy.grace_ms).partialValue
    return (
      RevenueMerger(settling_ms: settling_ms, calendar: policy.checks?.calendar), TaskTimes(settling_ms: settling_ms)
    )
  }

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
      _ = try consumer.consume(timeout_ms: 100, { self.take($0) }, finish: {})
      for error in consumer.errors {
        if error.isFatal { throw error }
        log.warning("\(error)")
      }
      for end in consumer.ended { behind.remove(end.place.partition) }
      if let change = consumer.pendingRebalance {
        forget()
        group = nil
        if case .assigned(let places) = change {
          // Before it is answered: afterwards it may be that of another generation.
          group = try consumer.groupMetadata()
          behind = Set(places.map(\.partition))
        }
        try consumer.answerRebalance(start: .beginning)
      } else if told_ms.map({ environment.monotonic_ms() - $0 >= TotalsStage.interval_ms }) ?? true {
        try tellChanges()
      }
    }
    // At a planned end nothing waits for the next owner.
    if consumer.pendingRebalance == nil { try tellChanges() }
  }

  private func tellChanges() throws {
    // Sums of half a history would be wrong ones.
    guard group != nil, behind.isEmpty else { return }
    if let calendar = masterData?.current.configuration.policy.checks?.calendar { revenue.use(calendar) }
    if configuration.aggregates != nil { pending += revenue.take() }
    if configuration.quality != nil {
      pendingQuality += quality.take(times, now_ms: environment.wallClock_ms())
    }
    guard !changed.isEmpty || !pending.isEmpty || !pendingQuality.isEmpty else { return }
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
    let offsets = next.mapValues { CommittedOffset($0) }
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
    } catch {
      if error.isFatal { throw error }
      log.debug("totals not told", metadata: ["error": "\(error)"])
      if environment.defect == .totalsForgotten { (changed, pendingQuality) = ([], []) }
      if isExactlyOnce {
        try retrying { () throws(KafkaError) in try producer.abortTransaction(timeout_ms: 30_000) }
      }
    }
  }

  private func send() throws(KafkaError) {
    for message in pending {
      try produce(configuration.revenueTopic, FinanceEncoder.key(message), encoder.encode(message))
    }
    for message in pendingQuality {
      try produce(configuration.qualityTopic, FinanceEncoder.key(message), encoder.encode(message))
    }
    for cell in changed.sorted() {
      let values = cells[cell] ?? [:]
      let value = TotalEncoder.encode(
        cell: cell, value: values.values.reduce(0) { $0 + $1.value }, tasks: values.count)
      try produce(configuration.totalsTopic, Array(cell.utf8), value)
    }
  }

  private func produce(_ topic: String, _ key: [UInt8], _ value: [UInt8]) throws(KafkaError) {
    var failure: KafkaError?
    key.withUnsafeBufferPointer { key in
      value.withUnsafeBufferPointer { value in
        do throws(KafkaError) {
          try producer.produce(topic: topic, partition: nil, key: key, value: value)
        } catch { failure = error }
      }
    }
    if let failure { throw failure }
  }
}
