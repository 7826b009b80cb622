import Configuration
import Decoding
import Domain
import Foundation
import Kafka
import Logging
import SchemaRegistry

/// A thread of the daemon beside the workers: runs, and starts anew with a clean state after an error.
public class Stage: @unchecked Sendable {
  let configuration: Configuration
  public let stop: StopFlag
  let log: Logger
  let environment: any WorkerEnvironment
  var isExactlyOnce: Bool { configuration.kafka.delivery == .exactlyOnce }

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

  public func run() {
    var pause_ms: Int64 = 500
    while !stop.isStopped {
      let started_ms = environment.monotonic_ms()
      do {
        try runOnce()
      } catch {
        log.error("stage failed and starts anew", metadata: ["error": "\(error)", "pause_ms": "\(pause_ms)"])
        let until = environment.monotonic_ms() + pause_ms
        while environment.monotonic_ms() < until, !stop.isStopped { environment.sleep(ms: 20) }
        pause_ms = environment.monotonic_ms() - started_ms > 60_000 ? 500 : min(pause_ms * 2, 30_000)
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
public final class Router: Stage, @unchecked Sendable {
  private var lanes: [Lane] = []
  private var producer: (any RecordProducer)!
  private var consumer: (any GroupConsumer)!
  private var group: GroupMetadata?
  private var assigned: [TopicPartition] = []
  private var next: [TopicPartition: Int64] = [:]
  private var writer = ByteWriter()
  private var failure: KafkaError?
  private var schemas: SchemaLookup?
  private var schemaProblem: SchemaRegistryError?
  private var isOpen = false
  /// Partitions that no longer have what is to be read next.
  private var trimmed: Set<TopicPartition> = []
  private let sources: [SourceSettings]
  private let messageLimit: Int

  public init(configuration: Configuration, stop: StopFlag, log: Logger, environment: any WorkerEnvironment) {
    sources = configuration.sources.filter(\.isRouted)
    messageLimit = configuration.producerMessageLimit
    super.init("router", configuration: configuration, stop: stop, log: log, environment: environment)
  }

  override func runOnce() throws {
    let instance = configuration.kafka.instance
    let member = instance.isEmpty ? "" : "\(instance)-router"
    let group = configuration.kafka.group + "-router"
    let followed = Set(configuration.followsTables ? configuration.tableSources.map(\.name) : [])
    var routed = configuration
    routed.sources = sources
    schemas = SchemaLookup(routed)
    schemaProblem = nil
    lanes = try sources.map { [schemas] in
      Lane(try MappingPlan($0.routingMapping(followed)), schemas: schemas?.registry)
    }
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
    trimmed = []
    while !stop.isStopped {
      try turn()
    }
  }

  private func turn() throws {
    failure = nil
    let count = try consumer.consume(timeout_ms: 50, { self.route($0) }, finish: {})
    // What has not been routed is read again in the next life, from what is committed.
    if let schemaProblem {
      if isExactlyOnce, isOpen {
        try retrying { () throws(KafkaError) in try producer.abortTransaction(timeout_ms: 30_000) }
        isOpen = false
      }
      throw schemaProblem
    }
    var isTrimmed = false
    for error in consumer.errors {
      if error.isFatal { throw error }
      if error.isOutOfRange, let place = error.place, trimmed.insert(place).inserted {
        isTrimmed = true
        log.error(
          "records were deleted before they were routed: their orders will show breaks; going on with the oldest",
          metadata: ["place": "\(place)", "error": "\(error)"])
      } else {
        log.warning("\(error)")
      }
    }
    if failure == nil, count > 0 { commit() }
    if failure == nil, isTrimmed, consumer.pendingRebalance == nil { try start() }
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
      do throws(KafkaError) {
        group = try consumer.groupMetadata()
        assigned = places
      } catch {
        if error.isFatal { throw error }
        // The group has decided anew already, and says so next.
        log.warning("assigned, and no member any more", metadata: ["error": "\(error)"])
        group = nil
        assigned = []
      }
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
    for place in trimmed where starts[place] != nil { starts[place] = .beginning }
    trimmed = []
    try consumer.assign(starts)
  }

  private func route(_ message: ConsumedMessage) {
    guard failure == nil, schemaProblem == nil, message.topic >= 0 else { return }
    if let problem = schemas?.problem(source: message.topic, message) {
      schemaProblem = problem
      return
    }
    let source = sources[message.topic]
    let place = TopicPartition(source.originalTopic, message.partition)
    if let next = next[place], message.offset < next { return }
    next[place] = message.offset + 1
    let lane = lanes[message.topic]
    _ = lane.decode(
      key: message.key.map { ByteView($0) } ?? .empty, payload: message.value.map { ByteView($0) } ?? .empty,
      position: RecordPosition(source: 0, partition: message.partition, offset: message.offset))
    let key = lane.firstOrder?.buffer ?? message.key.map { UnsafeBufferPointer(rebasing: $0.prefix(messageLimit / 4)) }
    RoutedRecord.encode(message, limit: messageLimit - (key?.count ?? 0), into: &writer)
    let value = writer.bytes.assumingMemoryBound(to: UInt8.self)
    do throws(KafkaError) {
      if isExactlyOnce, !isOpen {
        try producer.beginTransaction()
        isOpen = true
      }
      try producer.produce(
        topic: source.topic, partition: nil, key: key, value: value)
    } catch { failure = error }
    lane.reset()
  }

  private func commit() {
    guard let group, !next.isEmpty else { return }
    let offsets = next.mapValues { CommittedOffset($0) }
    do throws(KafkaError) {
      if isExactlyOnce {
        guard isOpen else { return }
        if environment.defect == .routedBeforeOffsets {
          try producer.commitTransaction(timeout_ms: 30_000)
          try producer.beginTransaction()
        }
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
