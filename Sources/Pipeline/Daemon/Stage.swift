import Aggregates
import Configuration
import Decoding
import Domain
import Foundation
import Kafka
import Logging

/// A thread of the daemon beside the workers: runs, and starts anew with a clean state after an error.
class Stage {
  let configuration: Configuration
  let stop: StopFlag
  let log: Logger
  let environment: any WorkerEnvironment

  init(
    _ name: String, configuration: Configuration, stop: StopFlag, log: Logger, environment: any WorkerEnvironment
  ) {
    self.configuration = configuration
    self.stop = stop
    self.environment = environment
    var log = log
    log[metadataKey: "stage"] = "\(name)"
    self.log = log
  }

  func runOnce() throws { preconditionFailure("a stage without work") }

  func run() {
    var pause_ms: Int64 = 500
    while !stop.isStopped {
      do {
        try runOnce()
      } catch {
        log.error("stage failed and starts anew", metadata: ["error": "\(error)", "pause_ms": "\(pause_ms)"])
        let until = environment.monotonic_ms() + pause_ms
        while environment.monotonic_ms() < until, !stop.isStopped { environment.sleep(ms: 20) }
        pause_ms = min(pause_ms * 2, 30_000)
      }
    }
  }

  func retrying(_ body: () throws(KafkaError) -> Void) throws(KafkaError) {
    try environment.retrying("a call", log: log, body)
  }
}

/// Brings the records of sources that are not keyed by order, or have another number of partitions, under their order
/// key: through an internal topic with as many partitions as the other sources have.
///
/// A record that cannot be read goes on as it is, under its own key, so that the task that gets it reports it.
final class Router: Stage {
  private var lanes: [Lane] = []
  private var producer: (any RecordProducer)!
  private var consumer: (any GroupConsumer)!
  private var group: GroupMetadata?
  private var assigned: [TopicPartition] = []
  private var next: [TopicPartition: Int64] = [:]
  private var writer = ByteWriter()
  private var failure: KafkaError?
  private var isOpen = false
  private let sources: [SourceSettings]
  private let isExactlyOnce: Bool

  init(configuration: Configuration, stop: StopFlag, log: Logger, environment: any WorkerEnvironment) {
    sources = configuration.sources.filter(\.isRouted)
    isExactlyOnce = configuration.kafka.delivery == .exactlyOnce
    super.init("router", configuration: configuration, stop: stop, log: log, environment: environment)
  }

  override func runOnce() throws {
    let instance = configuration.kafka.instance
    let member = instance.isEmpty ? "" : "\(instance)-router"
    let group = configuration.kafka.group + "-router"
    lanes = try sources.map { Lane(try MappingPlan($0.mapping)) }
    producer = try environment.makeProducer(
      configuration,
      transactionalID: isExactlyOnce
        ? "\(group)-" + (member.isEmpty ? String(environment.identity(), radix: 36) : member) : nil)
    if isExactlyOnce {
      try retrying { () throws(KafkaError) in try producer.initTransactions(timeout_ms: 30_000) }
    }
    consumer = try environment.makeConsumer(
      configuration, group: group, topics: sources.map(\.originalTopic), member: member)
    isOpen = false
    next = [:]
    defer {
      consumer.close()
      consumer = nil
      producer = nil
    }
    while !stop.isStopped {
      try turn()
    }
  }

  private func turn() throws {
    failure = nil
    let count = try consumer.consume(timeout_ms: 50, { self.route($0) }, finish: {})
    for error in consumer.errors {
      if error.isFatal { throw error }
      log.warning("\(error)")
    }
    if failure == nil, count > 0 { commit() }
    if let failure {
      if failure.isFatal { throw failure }
      log.warning("records are routed again from the last committed offset", metadata: ["error": "\(failure)"])
      if isExactlyOnce, isOpen {
        try retrying { () throws(KafkaError) in try producer.abortTransaction(timeout_ms: 30_000) }
        isOpen = false
      }
      // From what is committed, unless the group has moved on.
      if consumer.pendingRebalance == nil { try start() }
    }
    switch consumer.pendingRebalance {
    case nil: break
    case .assigned(let places):
      assigned = places
      group = try consumer.groupMetadata()
      try start()
    case .revoked, .lost:
      assigned = []
      group = nil
      try consumer.unassign()
    }
  }

  private func start() throws(KafkaError) {
    var committed: [TopicPartition: CommittedOffset] = [:]
    if !assigned.isEmpty {
      try retrying { () throws(KafkaError) in committed = try consumer.committed(assigned, timeout_ms: 30_000) }
    }
    next = [:]
    let first: StartOffset = configuration.kafka.start == .earliest ? .beginning : .end
    var starts: [TopicPartition: StartOffset] = [:]
    for place in assigned { starts[place] = committed[place].map { .at($0.offset) } ?? first }
    try consumer.assign(starts)
  }

  private func route(_ message: ConsumedMessage) {
    guard failure == nil, message.topic >= 0 else { return }
    let source = sources[message.topic]
    let place = TopicPartition(source.originalTopic, message.partition)
    if let next = next[place], message.offset < next { return }
    next[place] = message.offset + 1
    let lane = lanes[message.topic]
    _ = lane.decode(
      key: message.key.map { ByteView($0) } ?? .empty, payload: message.value.map { ByteView($0) } ?? .empty,
      position: RecordPosition(source: 0, partition: message.partition, offset: message.offset))
    RoutedRecord.encode(message, into: &writer)
    let value = writer.bytes.assumingMemoryBound(to: UInt8.self)
    do throws(KafkaError) {
      if isExactlyOnce, !isOpen {
        try producer.beginTransaction()
        isOpen = true
      }
      try producer.produce(
        topic: source.topic, partition: nil, key: lane.firstOrder?.buffer ?? message.key, value: value)
    } catch { failure = error }
    lane.reset()
  }

  private func commit() {
    guard let group, !next.isEmpty else { return }
    let offsets = next.mapValues { CommittedOffset($0) }
    do throws(KafkaError) {
      if isExactlyOnce {
        guard isOpen else { return }
        try retrying { () throws(KafkaError) in
          try producer.sendOffsets(offsets, group: group, timeout_ms: 10_000)
        }
        try retrying { () throws(KafkaError) in try producer.commitTransaction(timeout_ms: 30_000) }
        isOpen = false
      } else {
        try retrying { () throws(KafkaError) in try producer.flush(timeout_ms: 60_000) }
        try retrying { () throws(KafkaError) in try consumer.commit(offsets) }
      }
    } catch { failure = error }
  }
}

extension Lane {
  /// Order key of the record that was decoded last; nil where there is none.
  var firstOrder: ByteView? {
    switch self {
    case .orders(let lane): lane.records.count > 0 ? lane.records[0].order : nil
    case .ledger(let lane): lane.records.count > 0 ? lane.records[0].order : nil
    }
  }
}

/// The second stage: adds up what the tasks tell of their own cells. Every partial is cumulative, and the topic is
/// compacted, so that reading it from the beginning is the whole recovery, and nothing is ever added twice.
final class TotalsStage: Stage {
  private var consumer: (any GroupConsumer)!
  private var producer: (any RecordProducer)!
  /// By cell, then by task.
  private var cells: [String: [Int32: Partial]] = [:]
  private var changed: Set<String> = []
  private var behind: Set<Int32> = []
  private var revenue: RevenueMerger
  private var encoder: FinanceEncoder

  init(configuration: Configuration, stop: StopFlag, log: Logger, environment: any WorkerEnvironment) {
    revenue = TotalsStage.merger(configuration)
    encoder = FinanceEncoder(dimensionNames: configuration.dimensions)
    super.init("totals", configuration: configuration, stop: stop, log: log, environment: environment)
  }

  private static func merger(_ configuration: Configuration) -> RevenueMerger {
    let policy = configuration.policy
    return RevenueMerger(settling_ms: policy.window_ms.addingReportingOverflow(policy.grace_ms).partialValue)
  }

  override func runOnce() throws {
    producer = try environment.makeProducer(configuration, transactionalID: nil)
    consumer = try environment.makeConsumer(
      configuration, group: configuration.kafka.group + "-totals", topics: [configuration.partialsTopic], member: "")
    cells = [:]
    changed = []
    revenue = TotalsStage.merger(configuration)
    defer {
      consumer.close()
      consumer = nil
      producer = nil
    }
    while !stop.isStopped {
      _ = try consumer.consume(timeout_ms: 100, { self.take($0) }, finish: {})
      for error in consumer.errors where error.isFatal { throw error }
      for place in consumer.ended { behind.remove(place.partition) }
      if let places = try consumer.answerRebalance(start: .beginning) {
        cells = [:]
        changed = []
        revenue = TotalsStage.merger(configuration)
        behind = Set(places.map(\.partition))
      }
      // Sums of half a history would be wrong ones.
      if behind.isEmpty { try send() }
    }
  }

  private func take(_ message: ConsumedMessage) {
    if let key = message.key, CellPartial.isKey(UnsafeRawBufferPointer(key)) {
      guard let value = message.value else { return }
      do throws(ByteCodingError) {
        revenue.apply(try CellPartial(key: UnsafeRawBufferPointer(key), value: UnsafeRawBufferPointer(value)))
      } catch {
        log.warning(
          "a partial cell cannot be read", metadata: ["offset": "\(message.offset)", "error": "\(error)"])
      }
      return
    }
    guard let partial = Partial(key: message.key, value: message.value) else { return }
    if partial.cell.hasPrefix(Partial.timePrefix) {
      let source = String(partial.cell.dropFirst(Partial.timePrefix.count))
      if source.isEmpty {
        revenue.setWatermark(task: partial.task, partial.value)
      } else {
        revenue.setLatest(source: source, task: partial.task, partial.value)
      }
      return
    }
    let known = cells[partial.cell]?[partial.task]
    guard known.map({ $0.epoch < partial.epoch }) ?? true else { return }
    cells[partial.cell, default: [:]][partial.task] = partial
    if known?.value != partial.value { changed.insert(partial.cell) }
  }

  private func send() throws {
    let messages = configuration.aggregates == nil ? [] : revenue.take()
    guard !changed.isEmpty || !messages.isEmpty else { return }
    for message in messages {
      let value = encoder.encode(message)
      try FinanceEncoder.key(message).withUnsafeBufferPointer { key throws in
        try value.withUnsafeBufferPointer {
          try producer.produce(topic: configuration.revenueTopic, partition: nil, key: key, value: $0)
        }
      }
    }
    for cell in changed.sorted() {
      let values = cells[cell] ?? [:]
      let value = TotalEncoder.encode(
        cell: cell, value: values.values.reduce(0) { $0 + $1.value }, tasks: values.count)
      try Array(cell.utf8).withUnsafeBufferPointer { key throws in
        try value.withUnsafeBufferPointer {
          try producer.produce(topic: configuration.totalsTopic, partition: nil, key: key, value: $0)
        }
      }
    }
    try producer.flush(timeout_ms: 60_000)
    changed = []
  }
}
