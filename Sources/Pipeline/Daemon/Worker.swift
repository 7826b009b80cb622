import Aggregates
import Checkpoints
import Configuration
import Decoding
import Domain
import Foundation
import Kafka
import Logging
import Matching
import SchemaRegistry
import Synchronization

/// One thread with one consumer and one producer: a member of the consumer group that runs the tasks of the partitions
/// it is given. It shares nothing with other workers but its status.
///
/// Its turn is the epoch: take records, match, send, commit. With exactly-once delivery, outputs, the epochs' records,
/// pieces of checkpoints and offsets go out in one transaction. At least once, the epoch's record is written first, then
/// the offsets are committed with the epoch's number beside them, then the outputs are sent: whoever takes over repeats
/// the outputs of the last epoch, byte for byte, and no others. In both, what the group has committed is what counts,
/// and Kafka's group generation fences whoever has been replaced.
public final class Worker: @unchecked Sendable {
  let configuration: Configuration
  let configurationHash: UInt64
  let number: Int
  let stop: StopFlag
  let log: Logger
  let environment: any WorkerEnvironment
  /// Where tables change while the worker runs.
  let masterData: (any TableVersionSource)?
  /// The formats of the outputs; nil where all are JSON.
  let outputs: OutputEncoding?
  let state = Mutex(WorkerStatus())
  let pulse = Pulse()

  final class Task {
    let engine: TaskEngine
    let checkpointer: Checkpointer
    var shardsPerEpoch = 1
    var nextRound_ms = Int64.min
    /// It is given back, and its checkpoint is written to the end.
    var isClosing = false
    /// By the wall clock: when its newest checkpoint was complete, or when it was brought back.
    var checkpointed_ms: Int64
    /// Keys to be deleted with the next epoch, and with the next checkpoint, until that has been done.
    private var unneeded: (now: [String], later: [String])
    /// By source: where it ended when it was last read to its end, and the last time (wall clock) for which the broker
    /// has said that nothing came behind it.
    var ends: [Int64]
    var silentUntil_ms: [Int64?]
    /// By source.
    var advances: [SourceAdvance]

    init(
      _ engine: TaskEngine, _ checkpointer: Checkpointer, unneeded: (now: [String], later: [String]), now_ms: Int64
    ) {
      self.engine = engine
      checkpointed_ms = now_ms
      self.checkpointer = checkpointer
      self.unneeded = unneeded
      ends = Array(repeating: 0, count: engine.isAtEnd.count)
      silentUntil_ms = Array(repeating: nil, count: engine.isAtEnd.count)
      advances = Array(repeating: SourceAdvance(), count: engine.isAtEnd.count)
    }

    /// Keys to be deleted with the running epoch.
    var unneededNow: [String] { unneeded.now + (checkpointer.isFinishedSinceSave ? unneeded.later : []) }

    /// They have been deleted, with an epoch that is committed.
    func forgetUnneeded() {
      unneeded.now = []
      if checkpointer.isFinishedSinceSave { unneeded.later = [] }
    }
  }

  /// The transaction is lost, or the group has moved on: what is not committed is done again from the last committed
  /// state.
  struct Rewind: Error { var reason: KafkaError }
  /// The group has decided anew, or the process is to end, while tasks were being brought back.
  struct Interrupted: Error {}

  // Everything below belongs to the worker's thread.
  var tasks: [Int32: Task] = [:]
  /// Tasks as committed when they were given back; most often the same worker gets them again.
  var parked: [Int32: Task] = [:]
  var assigned: [TopicPartition] = []
  var isRecoveryDue = false
  /// Where a partition begins whose next records Kafka no longer has.
  var beginnings: [TopicPartition: Int64] = [:]
  var lastPoll_ms: Int64 = 0
  private var backlog = 0
  private var backlogDue_ms: Int64 = 0
  /// What was decoded in recoveries, and does not count as taken in.
  var replayedDecode = DecodeCounters()
  var stage: DecodeStage!
  var producer: (any RecordProducer)!
  var consumer: (any GroupConsumer)!
  var reader: (any LogReader)!
  var group: GroupMetadata?
  var incarnation: UInt64 = 0
  var recordsInEpoch = 0
  var epochStarted_ms: Int64 = 0
  var epochBegun_us: Int64 = 0
  var status = WorkerStatus()
  var sampledFaults = 0
  var lostActions = 0
  var isLeaving = false
  /// Sources that are ahead, and wait (`holdAhead`).
  var sourcesWaiting: Set<Int> = []
  var waitingDue_ms: Int64 = 0
  var heldSince_ms: Int64?
  /// Why records could not be taken in.
  private var schemaProblem: SchemaRegistryError?

  public convenience init(
    configuration: Configuration, number: Int, stop: StopFlag, log: Logger,
    masterData: (any TableVersionSource)? = nil,
    outputs: OutputEncoding? = nil
  ) {
    let forward: KafkaLogHandler = { level, facility, message in
      log.log(
        level: level <= 3 ? .error : level <= 4 ? .warning : .debug, "\(message)", metadata: ["kafka": "\(facility)"])
    }
    self.init(
      configuration: configuration, number: number, stop: stop, log: log,
      environment: KafkaEnvironment(log: forward), masterData: masterData, outputs: outputs)
  }

  /// - Parameter hash: The configuration's `matchingHash`, where it is known.
  public init(
    configuration: Configuration, number: Int, stop: StopFlag, log: Logger, environment: any WorkerEnvironment,
    hash: UInt64? = nil, masterData: (any TableVersionSource)? = nil, outputs: OutputEncoding? = nil
  ) {
    self.masterData = masterData
    self.outputs = outputs
    self.configuration = configuration
    configurationHash = hash ?? configuration.matchingHash
    self.number = number
    self.stop = stop
    self.environment = environment
    var log = log
    log[metadataKey: "worker"] = "\(number)"
    self.log = log
  }

  /// The last published status; from any thread.
  public var currentStatus: WorkerStatus { state.withLock { $0 } }

  var isExactlyOnce: Bool { configuration.kafka.delivery == .exactlyOnce }

  /// Runs until the stop flag is set. An operating error restarts the worker with a clean state, after a pause that
  /// doubles up to half a minute.
  public func run() {
    var pause_ms: Int64 = 500
    while !stop.isStopped {
      let started = environment.monotonic_ms()
      do {
        try runOnce()
      } catch {
        log.error("worker failed and starts anew", metadata: ["error": "\(error)", "pause_ms": "\(pause_ms)"])
        status.restarts += 1
        tasks = [:]
        publish()
        let until = environment.monotonic_ms() + pause_ms
        while environment.monotonic_ms() < until, !stop.isStopped {
          environment.sleep(ms: 20)
          pulse.beat(environment.monotonic_ms())
        }
        pause_ms = environment.monotonic_ms() - started > 60_000 ? 500 : min(pause_ms * 2, 30_000)
      }
    }
  }

  /// One life of the worker, from new clients to the end or an error.
  public func runOnce() throws {
    let before = status
    status = WorkerStatus()
    status.restarts = before.restarts
    status.abortedEpochs = before.abortedEpochs
    status.rebalances = before.rebalances
    status.checkpointFailures = before.checkpointFailures
    status.checkpointsPutOff = before.checkpointsPutOff
    replayedDecode = DecodeCounters()
    tasks = [:]
    parked = [:]
    assigned = []
    isRecoveryDue = false
    beginnings = [:]
    group = nil
    heldSince_ms = nil
    schemaProblem = nil
    recordsInEpoch = 0
    incarnation = environment.identity()
    if let version = masterData?.current {
      stage = try DecodeStage(version.configuration, hash: version.hash)
    } else {
      stage = try DecodeStage(configuration, hash: configurationHash)
    }
    let instance = configuration.kafka.instance
    let member = instance.isEmpty ? "" : "\(instance)-\(number)"
    let transactionalID =
      "\(configuration.kafka.group)-" + (member.isEmpty ? String(incarnation, radix: 36) : member)
    producer = try environment.makeProducer(configuration, transactionalID: isExactlyOnce ? transactionalID : nil)
    if isExactlyOnce {
      try retrying("taking over the transactional id") { () throws(KafkaError) in
        try producer.initTransactions(timeout_ms: 30_000)
      }
    }
    reader = try environment.makeReader(configuration)
    consumer = try environment.makeConsumer(
      configuration, group: configuration.kafka.group, topics: configuration.inputTopics, member: member)
    defer {
      consumer.close()
      reader.close()
      consumer = nil
      producer = nil
      reader = nil
    }
    epochStarted_ms = environment.monotonic_ms()
    epochBegun_us = environment.monotonic_us()
    // A tenth of the epoch: a call waits out its whole time unless the batch fills, and what has come meanwhile waits
    // with it. Time also moves on where nothing comes.
    let timeout_ms = Int(max(1, min(configuration.epochInterval_ms / 10, 50)))
    while !stop.isStopped {
      do {
        try turn(timeout_ms)
      } catch let rewind as Rewind {
        log.warning("epoch aborted; going back to the last committed one", metadata: ["error": "\(rewind.reason)"])
        status.abortedEpochs += 1
        dropTasks()
        isRecoveryDue = true
      }
    }
    _ = try close(within_ms: Worker.closingTime_ms)
    // From here on the partitions are given back, and with them what the status speaks of.
    isLeaving = true
    log.info("worker left the group", metadata: ["records": "\(status.decode.records)"])
  }

  func turn(_ timeout_ms: Int) throws {
    pulse.beat(environment.monotonic_ms())
    _ = try consumer.consumeRuns(timeout_ms: timeout_ms, { self.take($0) }, finish: {})
    // What was not taken in is read again in the worker's next life, from what is committed.
    if let schemaProblem { throw schemaProblem }
    lastPoll_ms = environment.monotonic_ms()
    var outOfRange: [TopicPartition] = []
    for error in consumer.errors {
      if error.isFatal { throw error }
      if error.isOutOfRange, let place = error.place { outOfRange.append(place) } else { log.warning("\(error)") }
    }
    for end in consumer.ended {
      if let input = configuration.inputTopics.firstIndex(of: end.place.topic),
        let task = tasks[end.place.partition]
      {
        task.engine.isAtEnd[input] = true
        task.ends[input] = end.offset
      }
    }
    if let change = consumer.pendingRebalance {
      try rebalance(change)
      return
    }
    if isRecoveryDue {
      try recover()
    } else if !outOfRange.isEmpty {
      try skipTrimmed(outOfRange)
    }
    let isDue = isEpochOver()
    // Where nothing comes, time moves once an epoch.
    guard recordsInEpoch > 0 || isDue else { return }
    if recordsInEpoch > 0, status.firstRecord_us == nil { status.firstRecord_us = environment.monotonic_us() }
    let isBehind = moveTime()
    holdAhead()
    producer.poll()
    if isDue {
      try commitEpoch(isForced: false)
      try throttle(isBehind: isBehind)
    }
  }

  private func isEpochOver() -> Bool {
    let now_ms = environment.monotonic_ms()
    return configuration.endsEpoch(
      after_ms: now_ms - epochStarted_ms, records: recordsInEpoch,
      inputs: tasks.count * configuration.inputTopics.count, backlog: backlog(now_ms))
  }

  /// Records that wait at the broker, as far as the client has heard of them; counted anew five times an interval at the
  /// most, since it takes a lock of the client for each partition.
  private func backlog(_ now_ms: Int64) -> Int {
    if now_ms < backlogDue_ms { return backlog }
    backlogDue_ms = now_ms + configuration.epochInterval_ms / 5
    var count = 0
    for (partition, task) in tasks {
      for (source, topic) in configuration.inputTopics.enumerated()
      where !task.engine.isHeld[source] && !task.engine.isAtEnd[source] {
        guard let high = consumer.cachedOffsets(TopicPartition(topic, partition))?.high else { continue }
        count += Int(max(0, high - task.engine.next[source]))
      }
    }
    backlog = count
    return count
  }

  func dropTasks() {
    tasks = [:]
    sourcesWaiting = []
    parked = [:]
    recordsInEpoch = 0
  }

  // MARK: - Records

  /// Hands a run to its task.
  func take(_ run: MessageRun) {
    // Without a task there is none any more, or not yet: the records are read again by whoever has it.
    guard run.topic >= 0, schemaProblem == nil, let task = tasks[run.partition] else { return }
    if let schemas = stage.schemas {
      do throws(SchemaRegistryError) {
        try schemas.prepare(source: run.topic, run.messages)
      } catch {
        schemaProblem = error
        return
      }
    }
    task.engine.takeRun(source: run.topic, now_ms: environment.wallClock_ms(), run.messages)
    recordsInEpoch += run.messages.count
  }

  func report(_ letter: DeadLetter) {
    status.deadLetters += 1
    // The first few are named one by one, then every thousandth: a broken sender must not fill the disk with logs.
    sampledFaults += 1
    guard sampledFaults <= 20 || sampledFaults % 1_000 == 0 else { return }
    log.warning(
      "dead letter",
      metadata: [
        "place": "\(letter.place)", "reason": "\(letter.fault.reason.rawValue)", "field": "\(letter.fault.field)",
        "detail": "\(letter.fault.detail)", "count": "\(sampledFaults)",
      ])
  }

  /// An action that changes nothing: no error, and nothing that anybody should have to guess.
  func report(_ action: BreakAction, _ outcome: ActionOutcome) {
    lostActions += 1
    guard lostActions <= 20 || lostActions % 1_000 == 0 else { return }
    log.notice(
      outcome == .unknown
        ? "an action came to nothing: its order is not known any more"
        : "an action came to nothing: there are too many on its order or break",
      metadata: [
        "action": "\(action.id)", "order": "\(action.order)", "type": "\(action.type.rawValue)",
        "role": "\(action.role.name)", "count": "\(lostActions)",
      ])
  }

  /// Moves every task's time; returns whether one has more expiries due than one turn may close.
  func moveTime() -> Bool {
    let now_ms = environment.wallClock_ms()
    let unheard = unheardSources(now_ms)
    var isBehind = false
    for (partition, task) in inOrder(tasks)
    where task.engine.moveTime(
      now_ms: now_ms, unheard: unheard[partition] ?? 0, pace: .atMost(configuration.policy.maximumExpiries))
    {
      isBehind = true
    }
    return isBehind
  }

  /// Sources that would pass for idle, although it is only this process that has heard nothing: it stood still, or the
  /// broker is away. A source is silent as far as the broker says that nothing has come since it was read to its end; that
  /// is asked for again after as long as makes a source idle.
  /// - Returns: by partition, a bit for each of them.
  private func unheardSources(_ now_ms: Int64) -> [Int32: UInt64] {
    let idle_ms = configuration.policy.idleTimeout_ms
    var asked: [(task: Task, source: Int, place: TopicPartition, isDue: Bool)] = []
    for (partition, task) in inOrder(tasks) {
      for source in configuration.sources.indices where task.engine.isAtEnd[source] && !task.engine.isHeld[source] {
        let silence_ms = task.engine.silence_ms(source: source, now_ms: now_ms)
        let age_ms = task.silentUntil_ms[source].map { now_ms - $0 } ?? .max
        // Those that will be due soon are asked about with the others.
        guard silence_ms >= idle_ms, age_ms >= idle_ms / 2 else { continue }
        asked.append((task, source, TopicPartition(configuration.sources[source].topic, partition), age_ms >= idle_ms))
      }
    }
    guard asked.contains(where: \.isDue) else { return [:] }
    var ends: [TopicPartition: Int64] = [:]
    do throws(KafkaError) {
      ends = try reader.ends(asked.map(\.place), timeout_ms: Worker.endsTimeout_ms)
    } catch {
      log.debug("the broker does not say whether there is more", metadata: ["error": "\(error)"])
    }
    var unheard: [Int32: UInt64] = [:]
    for (task, source, place, isDue) in asked {
      // What stands behind the last stable offset belongs to a transaction that is not over yet: it may still come.
      let high = consumer?.cachedOffsets(place)?.high ?? 0
      if let end = ends[place], max(end, high) <= task.ends[source] {
        task.silentUntil_ms[source] = now_ms
      } else if isDue || ends[place] != nil {
        unheard[place.partition, default: 0] |= 1 << UInt64(source)
      }
    }
    return unheard
  }

  static let endsTimeout_ms = 1_000

  func inOrder(_ tasks: [Int32: Task]) -> [(key: Int32, value: Task)] { tasks.sorted { $0.key < $1.key } }

  /// Calls again what may be called again, for a minute at the most.
  func retrying<Value>(_ what: String, _ body: () throws(KafkaError) -> Value) throws(KafkaError) -> Value {
    try environment.retrying(what, log: log) { () throws(KafkaError) in
      pulse.beat(environment.monotonic_ms())
      return try body()
    }
  }

  // MARK: - Status

  /// Tasks are not there yet, or not any more: at once, and not with the next epoch.
  func publishNotReady() { state.withLock { $0.isReady = false } }

  func publish() {
    guard !isLeaving else { return }
    status.decode = stage?.counters ?? DecodeCounters()
    status.decode.subtract(replayedDecode)
    status.tables = stage?.configurationHash
    status.match = MatchCounters()
    status.totals = ControlTotals()
    status.isReady = group != nil && !isRecoveryDue
    status.partitions = tasks.count
    status.partitionsAtEnd = tasks.values.filter { $0.engine.isAtEnd.allSatisfy { $0 } }.count
    status.ties = 0
    status.stateBytes = 0
    status.lag = 0
    status.checkpoints = 0
    status.checkpointBytes = 0
    status.checkpointed_ms = nil
    status.watermark_ms = nil
    status.waiting = 0
    status.sourcesWaiting = sourcesWaiting.count
    status.uncommittedTasks = 0
    status.cells = 0
    let overflow = status.overflow
    status.overflow = CellTable.Overflow()
    let periodOverflow = status.periodOverflow
    status.periodOverflow = 0
    status.hold = HoldCounts()
    for (partition, task) in tasks {
      let engine = task.engine
      status.match.add(engine.matcher.counters)
      status.totals.merge(engine.matcher.totals)
      status.ties += engine.matcher.tieCount
      if engine.hasEffects { status.uncommittedTasks += 1 }
      status.waiting += engine.held.records.count
      status.hold.add(engine.held.counts)
      if let counts = engine.matcher.aggregateCounts {
        status.cells += counts.cells
        status.overflow.add(counts.overflow)
      }
      status.periodOverflow += engine.matcher.periodTotals.overflow
      status.stateBytes += engine.matcher.liveBytes
      status.checkpoints += task.checkpointer.finished
      status.checkpointBytes += task.checkpointer.writtenBytes
      if configuration.checkpoints != .off {
        status.checkpointed_ms = min(status.checkpointed_ms ?? .max, task.checkpointed_ms)
      }
      let watermark = engine.matcher.watermarks.current_ms
      if watermark > .min { status.watermark_ms = min(status.watermark_ms ?? .max, watermark) }
      for (index, (topic, next)) in zip(configuration.inputTopics, engine.next).enumerated() {
        // What lies between the last record and the end that was read may be control records of transactions: no records to
        // wait for. What lies behind that end waits for a transaction of somebody who has not ended it.
        if let (_, high) = consumer?.cachedOffsets(TopicPartition(topic, partition)) {
          status.lag += max(0, high - (engine.isAtEnd[index] ? max(next, task.ends[index]) : next))
        }
      }
    }
    if !overflow.isAny, status.overflow.isAny {
      log.warning(
        "sums go under (other): more values or cells than are kept apart",
        metadata: [
          "facts":
            "\(zip(configuration.dimensions, status.overflow.byDimension).map { "\($0): \($1)" }.joined(separator: ", "))",
          "without_cell": "\(status.overflow.cells)", "bounds": "aggregates.values, aggregates.cells",
        ])
    }
    if periodOverflow == 0, status.periodOverflow > 0 {
      log.warning(
        "control totals go under the period (other): more periods than are kept apart, see the ledger's 'period'",
        metadata: ["amounts": "\(status.periodOverflow)", "bound": "\(PeriodTotals.maximum) a task"])
    }
    state.withLock { $0 = status }
  }
}
