import Checkpoints
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
  public var recoveries = 0
  public var replayedRecords = 0
  /// Checkpoints that could not be used.
  public var recoveryProblems = 0
  public var checkpoints = 0
  public var checkpointBytes = 0
  public var abortedEpochs = 0
  /// Wall time of the longest pause that checkpointing has put between two batches, microseconds.
  public var longestCheckpointPause_us = 0

  public init() {}
}

/// One thread with one consumer and one producer: a member of the consumer group that runs the tasks of the partitions
/// it is given. It shares nothing with other workers but its status.
///
/// Its turn is the epoch: take records, match, send, commit. With exactly-once delivery, outputs, the epochs' records,
/// pieces of checkpoints and offsets go out in one transaction. At least once, the epoch's record is written first, then
/// the offsets are committed with the epoch's number beside them, then the outputs are sent: whoever takes over repeats
/// the outputs of the last epoch, byte for byte, and no others. In both, what the group has committed is what counts,
/// and Kafka's group generation fences whoever has been replaced.
public final class Worker: @unchecked Sendable {
  private let configuration: Configuration
  private let number: Int
  private let stop: StopFlag
  private let log: Logger
  private let environment: any WorkerEnvironment
  private let state = Mutex(WorkerStatus())

  private final class Task {
    let engine: TaskEngine
    let checkpointer: Checkpointer
    var shardsPerEpoch = 1
    var nextRound_ms = Int64.min
    var unneeded: [String]

    init(_ engine: TaskEngine, _ checkpointer: Checkpointer, unneeded: [String]) {
      self.engine = engine
      self.checkpointer = checkpointer
      self.unneeded = unneeded
    }
  }

  /// The transaction is lost, or the group has moved on: what is not committed is done again from the last committed
  /// state.
  private struct Rewind: Error { var reason: KafkaError }

  // Everything below belongs to the worker's thread.
  private var tasks: [Int32: Task] = [:]
  /// Tasks as committed when they were given back; most often the same worker gets them again.
  private var parked: [Int32: Task] = [:]
  private var assigned: [TopicPartition] = []
  private var isRecoveryDue = false
  private var stage: DecodeStage!
  private var producer: (any RecordProducer)!
  private var consumer: (any GroupConsumer)!
  private var reader: (any LogReader)!
  private var group: GroupMetadata?
  private var incarnation: UInt64 = 0
  private var runTask: Task?
  private var runTopic = -1
  private var runPartition: Int32 = -1
  private var recordsInEpoch = 0
  private var epochStarted_ms: Int64 = 0
  private var status = WorkerStatus()
  private var sampledFaults = 0
  private var isLeaving = false
  private var heldSince_ms: Int64?

  public convenience init(configuration: Configuration, number: Int, stop: StopFlag, log: Logger) {
    let forward: KafkaLogHandler = { level, facility, message in
      log.log(
        level: level <= 3 ? .error : level <= 4 ? .warning : .debug, "\(message)", metadata: ["kafka": "\(facility)"])
    }
    self.init(
      configuration: configuration, number: number, stop: stop, log: log,
      environment: KafkaEnvironment(log: forward))
  }

  public init(
    configuration: Configuration, number: Int, stop: StopFlag, log: Logger, environment: any WorkerEnvironment
  ) {
    self.configuration = configuration
    self.number = number
    self.stop = stop
    self.environment = environment
    var log = log
    log[metadataKey: "worker"] = "\(number)"
    self.log = log
  }

  /// The last published status; from any thread.
  public var currentStatus: WorkerStatus { state.withLock { $0 } }

  private var isExactlyOnce: Bool { configuration.kafka.delivery == .exactlyOnce }

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
        while environment.monotonic_ms() < until, !stop.isStopped { environment.sleep(ms: 20) }
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
    tasks = [:]
    parked = [:]
    assigned = []
    isRecoveryDue = false
    group = nil
    heldSince_ms = nil
    recordsInEpoch = 0
    runTask = nil
    runTopic = -1
    incarnation = environment.identity()
    stage = try DecodeStage(configuration)
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
      configuration, group: configuration.kafka.group, topics: configuration.sources.map(\.topic), member: member)
    defer {
      runTask = nil
      consumer.close()
      reader.close()
      consumer = nil
      producer = nil
      reader = nil
    }
    epochStarted_ms = environment.monotonic_ms()
    // Shorter than the epoch, so that time moves on also where nothing comes.
    let timeout_ms = Int(max(1, min(configuration.epochInterval_ms / 2, 50)))
    while !stop.isStopped {
      do {
        try turn(timeout_ms)
      } catch let rewind as Rewind {
        log.warning("epoch aborted; going back to the last committed one", metadata: ["error": "\(rewind.reason)"])
        status.abortedEpochs += 1
        dropTasks()
        isRecoveryDue = true
        // The group waits for an answer before it says anything else.
        if consumer.pendingRebalance != nil { try consumer.assign([:]) }
      }
    }
    do {
      try commitEpoch(isForced: true)
      try markSent()
    } catch let rewind as Rewind {
      // Whoever comes next takes those records in again.
      log.notice("the last epoch was not committed", metadata: ["error": "\(rewind.reason)"])
      status.abortedEpochs += 1
    }
    // From here on the partitions are given back, and with them what the status speaks of.
    isLeaving = true
    log.info("worker left the group", metadata: ["records": "\(status.decode.records)"])
  }

  private func turn(_ timeout_ms: Int) throws {
    _ = try consumer.consume(timeout_ms: timeout_ms, { self.take($0) }, finish: { self.finishRun() })
    for error in consumer.errors {
      if error.isFatal { throw error }
      log.warning("\(error)")
    }
    for place in consumer.ended {
      if let source = configuration.sources.firstIndex(where: { $0.topic == place.topic }) {
        tasks[place.partition]?.engine.isAtEnd[source] = true
      }
    }
    if let change = consumer.pendingRebalance {
      try rebalance(change)
      return
    }
    if isRecoveryDue { try recover() }
    let isDue =
      recordsInEpoch >= configuration.epochRecords
      || environment.monotonic_ms() - epochStarted_ms >= configuration.epochInterval_ms
    // Where nothing comes, time moves once an epoch.
    guard recordsInEpoch > 0 || isDue else { return }
    let isBehind = moveTime()
    producer.poll()
    if isDue {
      try commitEpoch(isForced: false)
      try throttle(isBehind: isBehind)
    }
  }

  private func dropTasks() {
    runTask = nil
    runTopic = -1
    tasks = [:]
    parked = [:]
    recordsInEpoch = 0
  }

  // MARK: - Records

  private func take(_ message: ConsumedMessage) {
    guard message.topic >= 0 else { return }
    if message.topic != runTopic || message.partition != runPartition {
      finishRun()
      runTopic = message.topic
      runPartition = message.partition
      // Without a task there is none any more, or not yet: the record is read again by whoever has it.
      runTask = tasks[message.partition]
      runTask?.engine.beginRun(source: message.topic, now_ms: environment.wallClock_ms())
    }
    guard let runTask else { return }
    runTask.engine.take(message)
    recordsInEpoch += 1
  }

  /// Hands the decoded records of one partition to its task.
  private func finishRun() {
    runTask?.engine.endRun()
    runTask = nil
    runTopic = -1
  }

  private func report(_ letter: DeadLetter) {
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

  /// Moves every task's time; returns whether one has more expiries due than one turn may close.
  private func moveTime() -> Bool {
    let now_ms = environment.wallClock_ms()
    var isBehind = false
    for (_, task) in inOrder(tasks)
    where task.engine.moveTime(now_ms: now_ms, pace: .atMost(configuration.policy.maximumExpiries)) {
      isBehind = true
    }
    return isBehind
  }

  private func inOrder(_ tasks: [Int32: Task]) -> [(key: Int32, value: Task)] { tasks.sorted { $0.key < $1.key } }

  // MARK: - Epochs

  /// Idle epochs are put together: this many movements of time may stay uncommitted.
  private static let maximumIdleEvents = 600

  private func commitEpoch(isForced: Bool) throws {
    var isDeferred = false
    defer {
      if !isDeferred { recordsInEpoch = 0 }
      epochStarted_ms = environment.monotonic_ms()
      status.epochs += 1
      publish()
    }
    var active: [(task: Task, record: EpochRecord, writes: [CheckpointWrite])] = []
    for (_, task) in inOrder(tasks) {
      let engine = task.engine
      engine.tellPartials()
      guard
        engine.hasEffects || isForced && engine.hasEvents || engine.events.count >= Worker.maximumIdleEvents
          || engine.hasEvents && task.checkpointer.isWriting
      else { continue }
      task.checkpointer.save()
      var (writes, digests) = try checkpoint(task)
      if !task.unneeded.isEmpty {
        writes += task.unneeded.map { CheckpointWrite(key: $0, value: nil) }
        task.unneeded = []
      }
      active.append((task, engine.seal(incarnation: incarnation, shards: digests), writes))
    }
    guard !active.isEmpty, let group else { return }
    var offsets: [TopicPartition: CommittedOffset] = [:]
    for (task, record, _) in active {
      for (place, offset) in self.offsets(of: task, record, isSent: isExactlyOnce) { offsets[place] = offset }
    }
    let defect = environment.defect
    if isExactlyOnce {
      if defect == .offsetsBeforeOutputs { try consumer.commit(offsets) }
      try transact { () throws(KafkaError) in
        for (task, record, writes) in active {
          try send(task.engine.outbox)
          if defect != .epochOutsideTransaction { try send(record) }
          if configuration.checkpoints == .topic { try send(writes, of: task) }
        }
        if defect == .offsetsBeforeOutputs { return }
        try retrying("adding offsets to the transaction") { () throws(KafkaError) in
          try producer.sendOffsets(offsets, group: group, timeout_ms: 10_000)
        }
      }
      if defect == .epochOutsideTransaction {
        try transact { () throws(KafkaError) in for (_, record, _) in active { try send(record) } }
      }
    } else {
      for (_, record, _) in active { try send(record) }
      try flush()
      do throws(KafkaError) {
        try retrying("committing offsets") { () throws(KafkaError) in try consumer.commit(offsets) }
      } catch {
        // The record that was written is on no chain now: the epoch never was.
        if error.isFatal { throw error }
        if error.name == "REBALANCE_IN_PROGRESS", !isForced {
          // Not now: the epoch stays open until the group has decided. Its next record must not be taken for this one.
          incarnation = environment.identity()
          for (task, _, _) in active {
            task.checkpointer.rollback()
            task.engine.untellPartials()
          }
          isDeferred = true
          return
        }
        throw Rewind(reason: error)
      }
      for (task, _, _) in active { try send(task.engine.outbox) }
      try flush()
      if configuration.checkpoints == .topic {
        // Not before the outputs have arrived: a checkpoint of this epoch says that they have.
        for (task, _, writes) in active { try send(writes, of: task) }
      }
    }
    for (task, record, writes) in active {
      if case .directory(let path) = configuration.checkpoints {
        try CheckpointDirectory(path: path, task: record.task).apply(writes)
      }
      task.engine.finishEpoch(record)
    }
  }

  private func offsets(
    of task: Task, _ record: EpochRecord, isSent: Bool
  ) -> [TopicPartition: CommittedOffset] {
    let mark = EpochMark(number: record.number, incarnation: record.incarnation, isSent: isSent).text
    var offsets: [TopicPartition: CommittedOffset] = [:]
    for (source, offset) in zip(configuration.sources, record.next) {
      offsets[TopicPartition(source.topic, record.task)] = CommittedOffset(offset, metadata: mark)
    }
    return offsets
  }

  /// At a planned end nothing is left unsent, and the next owner need not repeat anything.
  private func markSent() throws {
    guard !isExactlyOnce, !tasks.isEmpty else { return }
    try flush()
    var offsets: [TopicPartition: CommittedOffset] = [:]
    for (partition, task) in tasks where task.engine.mark.number > 0 {
      var mark = task.engine.mark
      mark.isSent = true
      for (source, offset) in zip(configuration.sources, task.engine.next) {
        offsets[TopicPartition(source.topic, partition)] = CommittedOffset(offset, metadata: mark.text)
      }
    }
    do throws(KafkaError) {
      try consumer.commit(offsets)
    } catch {
      // Harmless: the outputs of the last epoch are sent once more.
      log.debug("the last epochs could not be marked as sent", metadata: ["error": "\(error)"])
    }
  }

  /// The next shards of a task's checkpoint; a new round begins where the last has ended its time.
  private func checkpoint(_ task: Task) throws -> ([CheckpointWrite], [ShardDigest]) {
    guard configuration.checkpoints != .off else { return ([], []) }
    let started = environment.monotonic_us()
    defer {
      status.longestCheckpointPause_us = max(
        status.longestCheckpointPause_us, Int(environment.monotonic_us() - started))
    }
    let (engine, checkpointer) = (task.engine, task.checkpointer)
    let number = engine.mark.number
    if !checkpointer.isWriting {
      let now_ms = environment.monotonic_ms()
      guard number > 0, now_ms >= task.nextRound_ms else { return ([], []) }
      task.nextRound_ms = now_ms + configuration.checkpointInterval_ms
      // The state at the end of the last epoch is gone: the round begins with this one.
      let bounds = try reader.bounds(
        TopicPartition(configuration.epochsTopic, engine.partition), timeout_ms: 10_000)
      checkpointer.begin(engine.matcher, epoch: number + 1, epochsOffset: bounds.stable)
      let epochs = max(1, configuration.checkpointInterval_ms / 2 / max(1, configuration.epochInterval_ms))
      task.shardsPerEpoch = max(1, (checkpointer.shardCount + Int(epochs) - 1) / Int(epochs))
    }
    let (writes, digests) = checkpointer.advance(
      engine.matcher, epoch: number + 1, incarnation: incarnation, next: engine.next,
      configuration: engine.configurationHash,
      most: task.shardsPerEpoch)
    return (writes, digests)
  }

  private func send(_ outbox: Outbox) throws(KafkaError) {
    try outbox.forEach { (message, key, value) throws(KafkaError) in
      let topic =
        switch message.topic {
        case .breaks: configuration.breaksTopic
        case .deadLetters: configuration.deadLettersTopic
        case .partials: configuration.partialsTopic
        }
      try producer.produce(topic: topic, partition: message.partition, key: key, value: value)
    }
  }

  private func send(_ record: EpochRecord) throws(KafkaError) {
    try produce(configuration.epochsTopic, record.task, key: Array("\(record.number)".utf8), value: record.bytes)
  }

  private func send(_ writes: [CheckpointWrite], of task: Task) throws(KafkaError) {
    for write in writes {
      try produce(configuration.checkpointsTopic, task.engine.partition, key: Array(write.key.utf8), value: write.value)
    }
  }

  private func produce(_ topic: String, _ partition: Int32, key: [UInt8], value: [UInt8]?) throws(KafkaError) {
    var failure: KafkaError?
    key.withUnsafeBufferPointer { key in
      func send(_ value: UnsafeBufferPointer<UInt8>?) {
        do throws(KafkaError) {
          try producer.produce(topic: topic, partition: partition, key: key, value: value)
        } catch { failure = error }
      }
      if let value { value.withUnsafeBufferPointer { send($0) } } else { send(nil) }
    }
    if let failure { throw failure }
  }

  /// Runs a transaction to its end. Errors go the way that Kafka's rules ask for: what can be called again is, what
  /// must be aborted is and leads back to the last committed epoch, and what is fatal ends this life of the worker.
  private func transact(_ body: () throws(KafkaError) -> Void) throws {
    do throws(KafkaError) {
      try producer.beginTransaction()
      try body()
      try retrying("committing the transaction") { () throws(KafkaError) in
        try producer.commitTransaction(timeout_ms: 30_000)
      }
    } catch {
      if error.isFatal { throw error }
      try retrying("aborting the transaction") { () throws(KafkaError) in
        try producer.abortTransaction(timeout_ms: 30_000)
      }
      if environment.defect == .abortWithoutRewind { return }
      throw Rewind(reason: error)
    }
  }

  private func flush() throws(KafkaError) {
    try retrying("flushing") { () throws(KafkaError) in try producer.flush(timeout_ms: 60_000) }
  }

  /// Calls again what may be called again, for a minute at the most.
  private func retrying(_ what: String, _ body: () throws(KafkaError) -> Void) throws(KafkaError) {
    let until = environment.monotonic_ms() + 60_000
    while true {
      do throws(KafkaError) {
        return try body()
      } catch {
        guard error.isRetriable, !error.isFatal, !error.requiresAbort, environment.monotonic_ms() < until else {
          throw error
        }
        log.debug("\(what) again", metadata: ["error": "\(error)"])
        environment.sleep(ms: 20)
      }
    }
  }

  // MARK: - The group

  private func rebalance(_ change: Rebalance) throws {
    switch change {
    case .assigned(let places):
      log.info(
        "partitions assigned", metadata: ["partitions": "\(places.map(\.description).sorted().joined(separator: " "))"])
      try checkCoPartitioning(places)
      group = try consumer.groupMetadata()
      assigned = places
      // Nothing is read before the state is there.
      isRecoveryDue = true
      try recover()
    case .revoked(let places):
      log.info(
        "partitions revoked", metadata: ["partitions": "\(places.map(\.description).sorted().joined(separator: " "))"])
      do {
        try commitEpoch(isForced: true)
        try markSent()
        parked = tasks
      } catch let rewind as Rewind {
        log.warning("the last epoch was not committed", metadata: ["error": "\(rewind.reason)"])
        status.abortedEpochs += 1
        parked = [:]
      }
      tasks = [:]
      assigned = []
      group = nil
      isRecoveryDue = false
      try consumer.unassign()
    case .lost(let places):
      log.warning(
        "partitions lost", metadata: ["partitions": "\(places.map(\.description).sorted().joined(separator: " "))"])
      dropTasks()
      assigned = []
      group = nil
      isRecoveryDue = false
      try consumer.unassign()
    }
  }

  private func checkCoPartitioning(_ places: [TopicPartition]) throws {
    let topics = Set(configuration.sources.map(\.topic))
    for (partition, group) in Dictionary(grouping: places, by: \.partition).sorted(by: { $0.key < $1.key })
    where Set(group.map(\.topic)) != topics {
      let missing = topics.subtracting(group.map(\.topic)).sorted().joined(separator: ", ")
      throw RecoveryError(
        "partition \(partition) was assigned without \(missing): the topics have different partition counts, or a "
          + "member of the group \(configuration.kafka.group) reads other topics")
    }
  }

  /// Gives every assigned partition its task, and reads on where its last committed epoch ended.
  private func recover() throws {
    // Another one than of any attempt before: an epoch that was written and never committed must not be taken for its
    // successor of the same number.
    incarnation = environment.identity()
    // What was sent and has not arrived yet is part of what is about to be read.
    if !isExactlyOnce, producer.queued > 0 { try flush() }
    let recovery = TaskRecovery(configuration, environment: environment, reader: reader, stage: stage)
    let partitions = Set(assigned.map(\.partition)).sorted()
    tasks = [:]
    recordsInEpoch = 0
    let committed =
      assigned.isEmpty
      ? [:]
      : try retryingValue("reading committed offsets") { () throws(KafkaError) in
        try consumer.committed(assigned, timeout_ms: 30_000)
      }
    for partition in partitions {
      let offsets = configuration.sources.map { committed[TopicPartition($0.topic, partition)] }
      let mark = offsets.compactMap { $0.flatMap { EpochMark($0.metadata) } }.max { $0.number < $1.number }
      if let task = parked[partition], !task.engine.hasEvents,
        environment.defect == .parkedStateNotChecked
          || mark.map({
            task.engine.mark.number == $0.number && task.engine.mark.incarnation == $0.incarnation
          }) ?? false
      {
        task.engine.resume()
        tasks[partition] = task
        continue
      }
      let started_ms = environment.monotonic_ms()
      let recovered = try recovery.recover(partition: partition, committed: offsets)
      recovered.engine.onDeadLetter = { [unowned self] in self.report($0) }
      status.recoveryProblems += recovered.report.problems.count
      for problem in recovered.report.problems {
        log.error("recovery", metadata: ["partition": "\(partition)", "problem": "\(problem)"])
      }
      if let unsent = recovered.unsent, !unsent.isEmpty {
        // Only as a member of the generation that has the partition now: the same offsets once more say so.
        let same = offsets.enumerated().compactMap { at, offset in
          offset.map { (TopicPartition(configuration.sources[at].topic, partition), $0) }
        }
        do throws(KafkaError) {
          try retrying("committing offsets") { () throws(KafkaError) in
            try consumer.commit(Dictionary(uniqueKeysWithValues: same))
          }
        } catch {
          if error.isFatal { throw error }
          throw Rewind(reason: error)
        }
        if isExactlyOnce {
          // Left by a run that delivered at least once.
          try transact { () throws(KafkaError) in try send(unsent) }
        } else {
          try send(unsent)
          try flush()
        }
      }
      let checkpointer = Checkpointer(
        task: partition, sources: configuration.sources.map(\.name), kept: recovered.kept,
        tiesPerShard: configuration.shardTies)
      if environment.defect == .shardOneEpochLate { checkpointer.plantedShift = 1 }
      let task = Task(recovered.engine, checkpointer, unneeded: recovered.unneeded)
      tasks[partition] = task
      if recovered.report.epochs > 0 || recovered.report.checkpoint != nil {
        status.recoveries += 1
        status.replayedRecords += recovered.report.records
        log.info(
          "task recovered",
          metadata: [
            "partition": "\(partition)", "epoch": "\(recovered.engine.mark.number)",
            "checkpoint": "\(recovered.report.checkpoint.map { "\($0)" } ?? "none")",
            "replayed_epochs": "\(recovered.report.epochs)", "replayed_records": "\(recovered.report.records)",
            "ties": "\(recovered.report.ties)", "ms": "\(environment.monotonic_ms() - started_ms)",
          ])
      }
    }
    parked = [:]
    isRecoveryDue = false
    heldSince_ms = nil
    epochStarted_ms = environment.monotonic_ms()
    try assign()
    publish()
  }

  private func retryingValue<Value>(
    _ what: String, _ body: () throws(KafkaError) -> Value
  ) throws(KafkaError) -> Value {
    var value: Value?
    try retrying(what) { () throws(KafkaError) in value = try body() }
    return value!
  }

  /// Reads every assigned partition that is not held back, where its task stands.
  private func assign() throws(KafkaError) {
    var starts: [TopicPartition: StartOffset] = [:]
    for (partition, task) in tasks {
      for (index, source) in configuration.sources.enumerated() where !task.engine.isHeld[index] {
        starts[TopicPartition(source.topic, partition)] = .at(task.engine.next[index])
      }
    }
    try consumer.assign(starts)
  }

  // MARK: - Memory

  /// At the memory bound the sources that are ahead wait until the one that is behind has caught up or ties have left;
  /// where that cannot help, the intake slows down. Nothing is dropped.
  private func throttle(isBehind: Bool) throws {
    let bound = configuration.memoryLimit / configuration.workers
    let isOver = status.stateBytes > bound
    if isOver, !status.isThrottled {
      log.warning(
        "intake slowed: the matching state is at its bound",
        metadata: ["state_bytes": "\(status.stateBytes)", "bound_bytes": "\(bound)"])
    }
    status.isThrottled = isOver
    var isChanged = false
    for (_, task) in inOrder(tasks) {
      let engine = task.engine
      let watermarks = engine.matcher.watermarks
      let times = configuration.sources.indices.map { watermarks.largest_ms(source: UInt16($0)) ?? .min }
      let slowest = times.min() ?? .min
      // The slowest has something to say, so that waiting for it makes sense.
      let canCatchUp = configuration.sources.indices.contains { times[$0] == slowest && !engine.isAtEnd[$0] }
      for source in configuration.sources.indices {
        let holds: Bool
        if engine.isHeld[source] {
          holds = canCatchUp && times[source] > slowest && status.stateBytes > bound / 10 * 9
        } else {
          holds = isOver && canCatchUp && times[source] > max(slowest, .min + 1_000_000)
        }
        if holds != engine.isHeld[source] {
          engine.isHeld[source] = holds
          isChanged = true
          log.info(
            holds ? "source held back: it is ahead of the others" : "source flows again",
            metadata: ["source": "\(configuration.sources[source].name)", "partition": "\(engine.partition)"])
        }
      }
    }
    if isChanged { try assign() }
    let isAnyHeld = tasks.values.contains { $0.engine.isHeld.contains(true) }
    if isOver, !isBehind, !isAnyHeld { environment.sleep(ms: 100) }
  }

  // MARK: - Status

  private func publish() {
    guard !isLeaving else { return }
    status.decode = stage?.counters ?? DecodeCounters()
    status.match = MatchCounters()
    status.totals = ControlTotals()
    status.partitions = tasks.count
    status.partitionsAtEnd = tasks.values.filter { $0.engine.isAtEnd.allSatisfy { $0 } }.count
    status.ties = 0
    status.stateBytes = 0
    status.lag = 0
    status.checkpoints = 0
    status.checkpointBytes = 0
    status.watermark_ms = nil
    for (partition, task) in tasks {
      let engine = task.engine
      status.match.add(engine.matcher.counters)
      status.totals.merge(engine.matcher.totals)
      status.ties += engine.matcher.tieCount
      status.stateBytes += engine.matcher.liveBytes
      status.checkpoints += task.checkpointer.finished
      status.checkpointBytes += task.checkpointer.writtenBytes
      let watermark = engine.matcher.watermarks.current_ms
      if watermark > .min { status.watermark_ms = min(status.watermark_ms ?? .max, watermark) }
      for (source, next) in zip(configuration.sources, engine.next) {
        if let consumer, let (_, high) = consumer.cachedOffsets(TopicPartition(source.topic, partition)) {
          status.lag += max(0, high - next)
        }
      }
    }
    state.withLock { $0 = status }
  }
}

/// Which client the properties are for.
public enum ClientRole: Sendable {
  /// `member`: the static member's name, empty for a dynamic one.
  case consumer(group: String, member: String)
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
      all += convert(kafka.properties) + convert(kafka.consumer)
      if !member.isEmpty { all.append(KafkaProperty("group.instance.id", member)) }
    case .producer: all += convert(kafka.properties) + convert(kafka.producer)
    case .admin: all += convert(kafka.properties)
    }
    return all
  }
}
