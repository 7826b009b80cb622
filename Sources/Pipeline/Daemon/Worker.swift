import Configuration
import Decoding
import Domain
import Foundation
import Kafka
import Logging
import Matching
import Synchronization

/// Asks all workers to finish their epoch and leave.
public final class StopFlag: Sendable {
  private let flag = Atomic<Bool>(false)
  public init() {}
  public func stop() { flag.store(true, ordering: .releasing) }
  public var isStopped: Bool { flag.load(ordering: .acquiring) }
}

/// What a worker tells the rest of the process, once an epoch.
public struct WorkerStatus: Sendable {
  public var decode = DecodeCounters()
  public var match = MatchCounters()
  public var totals = ControlTotals()
  public var partitions = 0
  /// Of these, how many have been read to the end of every source.
  public var partitionsAtEnd = 0
  public var ties = 0
  public var stateBytes = 0
  public var lag: Int64 = 0
  public var epochs = 0
  public var deadLetters = 0
  /// Event time that the slowest task has reached; nil before the first watermark.
  public var watermark_ms: Int64?
  public var isThrottled = false
  public var restarts = 0

  public init() {}
}

/// One thread with one consumer and one producer: a member of the consumer group that runs the tasks of the partitions
/// it is given. It shares nothing with other workers but its status.
public final class Worker: @unchecked Sendable {
  private let configuration: Configuration
  private let number: Int
  private let stop: StopFlag
  private let log: Logger
  private let state = Mutex(WorkerStatus())

  private final class Task {
    var matcher: Matcher
    var outputs = MatchOutputs()
    /// By source: whether the partition has been read to its end.
    var isAtEnd: [Bool]
    /// By source: the offset after the last record taken in.
    var next: [Int64?]

    init(_ configuration: Configuration, partition: Int32, now_ms: Int64) {
      matcher = Matcher(policy: configuration.policy, dimensionCount: configuration.dimensions.count)
      isAtEnd = Array(repeating: false, count: configuration.sources.count)
      next = Array(repeating: nil, count: configuration.sources.count)
      for source in configuration.sources.indices {
        matcher.watermarks.register(source: UInt16(source), partition: partition, now_ms: now_ms)
      }
    }
  }

  // Everything below belongs to the worker's thread.
  private var tasks: [Int32: Task] = [:]
  private var lanes: [Lane] = []
  private var producer: Producer!
  private var consumer: Consumer!
  private var encoder: BreakEncoder
  private var deadLetterEncoder = DeadLetterEncoder()
  private var runTopic = -1
  private var runPartition: Int32 = -1
  private var runMessages: [ConsumedMessage] = []
  private var failure: (any Error)?
  private var recordsInEpoch = 0
  private var epochStarted_ms: Int64 = 0
  private var status = WorkerStatus()
  private var sampledFaults = 0
  private var isLeaving = false

  public init(configuration: Configuration, number: Int, stop: StopFlag, log: Logger) {
    self.configuration = configuration
    self.number = number
    self.stop = stop
    var log = log
    log[metadataKey: "worker"] = "\(number)"
    self.log = log
    encoder = BreakEncoder(dimensionNames: configuration.dimensions)
  }

  /// The last published status; from any thread.
  public var currentStatus: WorkerStatus { state.withLock { $0 } }

  /// Runs until the stop flag is set. An operating error restarts the worker with a clean state, after a pause that
  /// doubles up to half a minute.
  public func run() {
    var pause_ms: Int64 = 500
    while !stop.isStopped {
      let started = monotonic_ms()
      do {
        try runOnce()
      } catch {
        log.error("worker failed and starts anew", metadata: ["error": "\(error)", "pause_ms": "\(pause_ms)"])
        status.restarts += 1
        publish()
        let until = monotonic_ms() + pause_ms
        while monotonic_ms() < until, !stop.isStopped { usleep(20_000) }
        pause_ms = monotonic_ms() - started > 60_000 ? 500 : min(pause_ms * 2, 30_000)
      }
    }
  }

  private func runOnce() throws {
    let restarts = status.restarts
    status = WorkerStatus()
    status.restarts = restarts
    tasks = [:]
    failure = nil
    lanes = try configuration.sources.map { Lane(try MappingPlan($0.mapping)) }
    let log = self.log
    let forward: KafkaLogHandler = { level, facility, message in
      log.log(
        level: level <= 3 ? .error : level <= 4 ? .warning : .debug, "\(message)", metadata: ["kafka": "\(facility)"])
    }
    producer = try Producer(properties: configuration.clientProperties(.producer), log: forward)
    consumer = try Consumer(
      properties: configuration.clientProperties(.consumer(group: configuration.kafka.group, member: number)),
      topics: configuration.sources.map(\.topic), log: forward)
    consumer.onRebalance = { [unowned self] in self.rebalanced($0) }
    defer {
      consumer = nil
      producer = nil
    }
    epochStarted_ms = monotonic_ms()
    // Shorter than the epoch, so that time moves on also where nothing comes.
    let timeout_ms = Int(max(1, min(configuration.epochInterval_ms / 2, 50)))
    while !stop.isStopped {
      _ = try consumer.consume(timeout_ms: timeout_ms, { self.take($0) }, finish: { self.finishRun() })
      if let failure { throw failure }
      for place in consumer.ended {
        if let source = configuration.sources.firstIndex(where: { $0.topic == place.topic }) {
          tasks[place.partition]?.isAtEnd[source] = true
        }
      }
      for error in consumer.errors {
        if error.isFatal { throw error }
        log.warning("\(error)")
      }
      let isBehind = moveTime()
      if failure == nil { send() }
      if let failure { throw failure }
      producer.poll()
      if recordsInEpoch >= configuration.epochRecords
        || monotonic_ms() - epochStarted_ms >= configuration.epochInterval_ms
      {
        try endEpoch(isAsync: true)
      }
      throttle(isBehind: isBehind)
    }
    try endEpoch(isAsync: false)
    // From here on the partitions are given back, and with them what the status speaks of.
    isLeaving = true
    consumer.close()
    log.info("worker left the group", metadata: ["records": "\(status.decode.records)"])
  }

  // MARK: - Records

  private func take(_ message: ConsumedMessage) {
    guard message.topic >= 0, failure == nil else { return }
    if message.topic != runTopic || message.partition != runPartition {
      finishRun()
      runTopic = message.topic
      runPartition = message.partition
    }
    // Messages that were fetched before the partition was taken away: its new owner reads them.
    guard let task = tasks[message.partition] else { return }
    // A record that comes again (the client library may repeat some around a rebalance) is taken in again: the matcher
    // knows it by its id or position. Dropping by offset could lose records where a stale one came first.
    task.next[message.topic] = max(task.next[message.topic] ?? 0, message.offset + 1)
    task.isAtEnd[message.topic] = false
    let position = RecordPosition(source: UInt16(message.topic), partition: message.partition, offset: message.offset)
    runMessages.append(message)
    let fault = lanes[message.topic].decode(
      key: message.key.map { ByteView($0) } ?? .empty, payload: message.value.map { ByteView($0) } ?? .empty,
      position: position)
    if let fault { deadLetter(message, fault) }
    recordsInEpoch += 1
  }

  /// Hands the decoded records of one partition to its task.
  private func finishRun() {
    defer {
      runMessages.removeAll(keepingCapacity: true)
      if runTopic >= 0 { lanes[runTopic].reset() }
    }
    guard runTopic >= 0, let task = tasks[runPartition] else { return }
    let now_ms = wallClock_ms()
    var late: [Int64] = []
    switch lanes[runTopic] {
    case .orders(let lane):
      guard lane.records.count > 0 else { return }
      task.matcher.apply(orders: lane.records.buffer, now_ms: now_ms, outputs: &task.outputs)
      late = task.outputs.quarantined.map { lane.records[$0].position.offset }
    case .ledger(let lane):
      guard lane.records.count > 0 else { return }
      task.matcher.apply(postings: lane.records.buffer, now_ms: now_ms, outputs: &task.outputs)
      late = task.outputs.quarantined.map { lane.records[$0].position.offset }
    }
    task.outputs.quarantined.removeAll(keepingCapacity: true)
    for offset in late {
      guard let message = runMessages.first(where: { $0.offset == offset }) else { continue }
      deadLetter(
        message,
        DataFault(
          .futureDated, field: "event_time", detail: "the event time lies further ahead of the clock than allowed"))
    }
  }

  private func deadLetter(_ message: ConsumedMessage, _ fault: DataFault) {
    let source = configuration.sources[message.topic]
    var letter = DeadLetter(
      source: source.name, origin: source.topic, isFile: false, partition: message.partition, offset: message.offset,
      key: message.key.map { Array($0) },
      payload: message.value.map { Array($0.prefix(DeadLetterEncoder.maximumPayloadBytes)) }, fault: fault,
      payloadBytes: message.value?.count ?? 0, receivedAt_ms: wallClock_ms())
    status.deadLetters += 1
    // The first few are named one by one, then every thousandth: a broken sender must not fill the disk with logs.
    sampledFaults += 1
    if sampledFaults <= 20 || sampledFaults % 1_000 == 0 {
      log.warning(
        "dead letter",
        metadata: [
          "place": "\(letter.place)", "reason": "\(fault.reason.rawValue)", "field": "\(fault.field)",
          "detail": "\(fault.detail)", "count": "\(sampledFaults)",
        ])
    }
    for limit in [DeadLetterEncoder.maximumPayloadBytes, 64 << 10, 1 << 10] {
      letter.payload = letter.payload.map { Array($0.prefix(limit)) }
      do throws(KafkaError) {
        try producer.produce(
          topic: configuration.deadLettersTopic, key: letter.key, value: deadLetterEncoder.encode(letter))
        return
      } catch  where error.name == "MSG_SIZE_TOO_LARGE" {
        continue
      } catch {
        failure = failure ?? error
        return
      }
    }
    failure = failure ?? KafkaError("even a shortened dead letter is too large", context: letter.place)
  }

  // MARK: - Time and outputs

  /// Moves every task's time; returns whether one has more expiries due than one turn may close.
  private func moveTime() -> Bool {
    let now_ms = wallClock_ms()
    var isBehind = false
    for (partition, task) in tasks.sorted(by: { $0.key < $1.key }) {
      for source in task.isAtEnd.indices where !task.isAtEnd[source] {
        // Records are waiting in Kafka: the partition is slow, not idle.
        task.matcher.watermarks.keepAlive(source: UInt16(source), partition: partition, now_ms: now_ms)
      }
      if task.matcher.advance(now_ms: now_ms, outputs: &task.outputs) { isBehind = true }
    }
    return isBehind
  }

  private func send() {
    for (_, task) in tasks.sorted(by: { $0.key < $1.key }) where !task.outputs.breaks.isEmpty {
      for made in task.outputs.breaks {
        do throws(KafkaError) {
          try producer.produce(topic: configuration.breaksTopic, key: Array(made.id.utf8), value: encoder.encode(made))
        } catch {
          failure = failure ?? error
          return
        }
      }
      task.outputs.removeAll()
    }
  }

  /// Makes the effects of the epoch durable, then stores the offsets that led to them.
  private func endEpoch(isAsync: Bool) throws {
    if producer.queued > 0 || recordsInEpoch > 0 {
      send()
      if let failure { throw failure }
      try producer.flush(timeout_ms: 60_000)
    }
    if recordsInEpoch > 0 {
      var offsets: [TopicPartition: Int64] = [:]
      for (partition, task) in tasks {
        for source in task.next.indices {
          if let next = task.next[source] {
            offsets[TopicPartition(configuration.sources[source].topic, partition)] = next
          }
        }
      }
      do throws(KafkaError) {
        try consumer.commit(offsets, isAsync: isAsync)
      } catch {
        // The group moved on; the records will be read again, and break ids make that harmless.
        log.warning("offsets were not stored", metadata: ["error": "\(error)"])
      }
    }
    recordsInEpoch = 0
    epochStarted_ms = monotonic_ms()
    status.epochs += 1
    publish()
  }

  /// At the memory bound the worker slows its intake and says so; it drops nothing. Ties that become due free memory.
  private func throttle(isBehind: Bool) {
    let bound = configuration.memoryLimit / configuration.workers
    let isOver = status.stateBytes > bound
    if isOver, !status.isThrottled {
      log.warning(
        "intake slowed: the matching state is at its bound",
        metadata: ["state_bytes": "\(status.stateBytes)", "bound_bytes": "\(bound)"])
    }
    if !isOver, status.isThrottled { log.notice("intake at full speed again") }
    status.isThrottled = isOver
    if isOver, !isBehind { usleep(100_000) }
  }

  private func publish() {
    guard !isLeaving else { return }
    var decode = DecodeCounters()
    for lane in lanes { decode.add(lane.counters) }
    status.decode = decode
    status.match = MatchCounters()
    status.totals = ControlTotals()
    status.partitions = tasks.count
    status.partitionsAtEnd = tasks.values.filter { $0.isAtEnd.allSatisfy { $0 } }.count
    status.ties = 0
    status.stateBytes = 0
    status.lag = 0
    status.watermark_ms = nil
    for (partition, task) in tasks {
      status.match.add(task.matcher.counters)
      status.totals.merge(task.matcher.totals)
      status.ties += task.matcher.tieCount
      status.stateBytes += task.matcher.liveBytes
      let watermark = task.matcher.watermarks.current_ms
      if watermark > .min { status.watermark_ms = min(status.watermark_ms ?? .max, watermark) }
      for source in task.next.indices {
        if let next = task.next[source], let consumer,
          let (_, high) = consumer.cachedOffsets(TopicPartition(configuration.sources[source].topic, partition))
        {
          status.lag += max(0, high - next)
        }
      }
    }
    state.withLock { $0 = status }
  }

  // MARK: - The group

  private func rebalanced(_ event: Rebalance) -> [TopicPartition: StartOffset] {
    switch event {
    case .assigned(let places):
      let now_ms = wallClock_ms()
      for partition in Set(places.map(\.partition)) where tasks[partition] == nil {
        tasks[partition] = Task(configuration, partition: partition, now_ms: now_ms)
      }
      log.info(
        "partitions assigned", metadata: ["partitions": "\(places.map(\.description).sorted().joined(separator: " "))"])
      let start: StartOffset =
        switch configuration.kafka.start {
        case .rebuild: .beginning
        case .committed: .committed
        case .latest: .end
        }
      return Dictionary(uniqueKeysWithValues: places.map { ($0, start) })
    case .revoked(let places):
      log.info(
        "partitions revoked", metadata: ["partitions": "\(places.map(\.description).sorted().joined(separator: " "))"])
      do {
        try endEpoch(isAsync: false)
      } catch {
        failure = failure ?? error
      }
      tasks = [:]
    case .lost(let places):
      log.warning(
        "partitions lost", metadata: ["partitions": "\(places.map(\.description).sorted().joined(separator: " "))"])
      tasks = [:]
      recordsInEpoch = 0
    }
    return [:]
  }
}

/// Which client the properties are for.
public enum ClientRole: Sendable {
  case consumer(group: String, member: Int)
  case producer
  case admin
}

extension Configuration {
  /// The librdkafka properties of a client, in the order in which later ones win.
  public func clientProperties(_ role: ClientRole) -> [KafkaProperty] {
    func convert(_ properties: [(String, PropertyValue)]) -> [KafkaProperty] {
      properties.map { name, value in
        if case .secret = value { return KafkaProperty(name, value.reveal, isSecret: true) }
        return KafkaProperty(name, value.reveal)
      }
    }
    var all = [KafkaProperty("bootstrap.servers", kafka.bootstrap), KafkaProperty("client.id", "tieout-\(name)")]
    switch role {
    case .consumer(let group, let member):
      all.append(KafkaProperty("group.id", group))
      all.append(KafkaProperty("isolation.level", "read_committed"))
      // A static member's id must be its own: each worker is one.
      all += (convert(kafka.properties) + convert(kafka.consumer)).map { property in
        property.name == "group.instance.id" ? KafkaProperty(property.name, "\(property.value)-\(member)") : property
      }
    case .producer: all += convert(kafka.properties) + convert(kafka.producer)
    case .admin: all += convert(kafka.properties)
    }
    return all
  }
}
