import Checkpoints
import Configuration
import Domain
import Kafka
import Logging
import Matching

/// What a worker commits, and how.
extension Worker {
  /// Idle epochs are put together: this many movements of time may stay uncommitted.
  static let maximumIdleEvents = 600

  func commitEpoch(isForced: Bool) throws {
    try commit(isForced: isForced)
    guard let masterData else { return }
    try takeUp(masterData)
    // What waits is tried again in an epoch under the new version, and after a recovery.
    for (_, task) in inOrder(tasks) where task.engine.held.isRetryDue {
      task.engine.retryHeld(now_ms: environment.wallClock_ms())
    }
  }

  /// Between two epochs a new version of the tables may take the place of the old one; the records of epochs name it.
  private func takeUp(_ masterData: any TableVersionSource) throws {
    let version = masterData.current
    guard version.hash != stage.configurationHash else { return }
    // An epoch that was put off goes on under the version with which it began; one in which only time has moved ends,
    // because what was judged then was judged by the old version.
    if tasks.values.contains(where: { $0.engine.hasEvents }) { try commit(isForced: true) }
    // One that was given back in the middle of such an epoch is recovered when it comes back; the others take the version up
    // then. Of versions that come and go meanwhile no epoch of theirs tells.
    parked = parked.filter { !$0.value.engine.hasEvents }
    let engines = tasks.values.map(\.engine)
    guard engines.allSatisfy({ $0.records == 0 && $0.outbox.isEmpty && !$0.hasEvents }) else { return }
    stage = try DecodeStage(version.configuration, hash: version.hash, earlier: stage.counters)
    for engine in engines { engine.use(stage) }
    log.info("tables taken up", metadata: ["version": "\(TableVersions.name(version.hash))"])
  }

  /// How long the checkpoints at a planned end may take: half of `Daemon.stopTimeout_ms`. It is looked at between their
  /// transactions. One that has begun goes to its end, because only the broker knows whether a commit that was not answered has
  /// taken place, and the client lets nothing else follow it: each call of it waits up to its timeout (10 s for the offsets,
  /// 30 s for the commit, as long for aborting), and is called again for a minute (`retrying`). A broker that answers takes
  /// milliseconds; without one it is `Daemon.stopTimeout_ms` that ends the process, and `max.poll.interval.ms` that lets the
  /// group go on.
  static let closingTime_ms: Int64 = 30_000
  /// As much of the state, uncompressed, goes into one transaction of these: it must be over before the broker aborts it.
  private static let closingBytes = 32 << 20

  /// The tasks are given back: their last epoch is committed, with a checkpoint of the state at its end. Nothing is to be
  /// replayed then by whoever has them next, maybe under other settings.
  /// - Returns: false where the tasks must not be gone on with: not all has been committed, so that whoever comes next takes
  ///   those records in again, or a transaction of the checkpoints failed, behind whose epochs the engines stand already. Where a
  ///   checkpoint cannot be written but the epochs are committed, the tasks are as good as with one.
  func close(within_ms limit_ms: Int64) throws -> Bool {
    do {
      try commitEpoch(isForced: true)
    } catch let rewind as Rewind {
      log.warning("the last epoch was not committed", metadata: ["error": "\(rewind.reason)"])
      status.abortedEpochs += 1
      return false
    }
    guard try writeCheckpoints(within_ms: limit_ms) else { return false }
    try markSent()
    return true
  }

  /// Checkpoints of all tasks whose newest one is of an earlier state. They go out as all others do, with epochs, in which
  /// nothing else happens.
  /// - Returns: false where one of their transactions failed.
  private func writeCheckpoints(within_ms limit_ms: Int64) throws -> Bool {
    func say(_ why: String) -> Bool {
      log.info("no checkpoint to write", metadata: ["partitions": "\(tasks.count)", "because": "\(why)"])
      return true
    }
    guard configuration.checkpoints != .off else { return say("checkpoints are off") }
    guard group != nil else { return say("this worker has no place in the group") }
    guard !tasks.isEmpty else {
      return say(assigned.isEmpty ? "there are no partitions here" : "the state is not back yet")
    }
    let started_ms = environment.monotonic_ms()
    let due = inOrder(tasks).map(\.value).filter { task in
      let number = task.engine.mark.number
      return number > 0 && (task.engine.hasEvents || task.checkpointer.newest?.from != number)
    }
    guard !due.isEmpty else { return say("the newest ones are of the last epochs") }
    let finished = due.map(\.checkpointer.finished)
    for task in due {
      task.checkpointer.interrupt()
      task.isClosing = true
    }
    var failure: KafkaError?
    do {
      while due.contains(where: \.isClosing), environment.monotonic_ms() - started_ms < limit_ms {
        pulse.beat(environment.monotonic_ms())
        try commit(isForced: true)
      }
    } catch let rewind as Rewind {
      failure = rewind.reason
      status.abortedEpochs += 1
      status.checkpointFailures += 1
      publish()
    }
    for task in due {
      task.isClosing = false
      task.checkpointer.resume()
    }
    let missing = zip(due, finished).filter { $0.checkpointer.finished == $1 }.map { "\($0.0.engine.partition)" }
    let took = Logger.MetadataValue.string("\(environment.monotonic_ms() - started_ms)")
    if missing.isEmpty {
      log.info("checkpoints completed", metadata: ["partitions": "\(due.count)", "ms": took])
    } else {
      var metadata: Logger.Metadata = ["partitions": "\(missing.joined(separator: " "))", "ms": took]
      if let failure { metadata["error"] = "\(failure)" }
      log.warning(
        "partitions are given back without a checkpoint of their last epoch: the epochs since the one before will be replayed",
        metadata: metadata)
    }
    return failure == nil
  }

  private func commit(isForced: Bool) throws {
    var isDeferred = false
    let begun_ms = environment.monotonic_ms()
    defer {
      if !isDeferred {
        recordsInEpoch = 0
        epochBegun_us = environment.monotonic_us()
      }
      // Epochs follow each other by the interval, committing included; half of it at least is for taking records.
      epochStarted_ms = max(begun_ms, environment.monotonic_ms() - configuration.epochInterval_ms / 2)
      status.epochs += 1
      publish()
    }
    var active: [(task: Task, record: EpochRecord, writes: [CheckpointWrite])] = []
    for (_, task) in inOrder(tasks) {
      let engine = task.engine
      engine.tellPartials()
      guard
        engine.hasEffects || engine.recordsStart || isForced && engine.hasEvents
          || engine.events.count >= Worker.maximumIdleEvents
          || engine.hasEvents && task.checkpointer.isWriting || task.isClosing
      else { continue }
      task.checkpointer.save()
      var (writes, digests) = try checkpoint(task)
      writes += task.unneededNow.map { CheckpointWrite(key: $0, value: nil) }
      active.append((task, engine.seal(incarnation: incarnation, shards: digests), writes))
    }
    guard !active.isEmpty, let group else { return }
    var isStored = false
    var unwritten: Set<Int32> = []
    defer {
      // What was not committed is not in the checkpoint either, whoever goes on with the task.
      if !isStored {
        for (task, _, _) in active {
          task.checkpointer.rollback()
          task.engine.untellPartials()
        }
      }
    }
    let commit_us = environment.monotonic_us()
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
          isDeferred = true
          return
        }
        throw Rewind(reason: error)
      }
      for (task, _, _) in active { try send(task.engine.outbox) }
      try flush()
      if configuration.checkpoints == .topic {
        // Not before the outputs have arrived: a checkpoint of this epoch says that they have.
        for (task, _, writes) in active {
          do throws(KafkaError) {
            try send(writes, of: task)
          } catch {
            if error.isFatal { throw error }
            unwritten.insert(task.engine.partition)
            giveUpCheckpoint(of: task, "topic", configuration.checkpointsTopic, error)
          }
        }
      }
    }
    isStored = true
    for (task, record, writes) in active {
      if case .directory(let path) = configuration.checkpoints {
        do {
          let place = defect == .directorySharedByTasks ? 0 : record.task
          try CheckpointDirectory(path: path, task: place, files: environment.files).apply(writes)
        } catch let error as KafkaError {
          throw error
        } catch {
          unwritten.insert(record.task)
          giveUpCheckpoint(of: task, "directory", path, error)
        }
      }
      if !unwritten.contains(record.task) { task.forgetUnneeded() }
      if task.checkpointer.isFinishedSinceSave { task.checkpointed_ms = environment.wallClock_ms() }
      task.engine.finishEpoch(record)
    }
    let end_us = environment.monotonic_us()
    status.commits += 1
    status.commitTime_us += end_us - commit_us
    status.epochTime_us += end_us - epochBegun_us
  }

  /// A full disk, or a broker that does not take a piece, stops checkpoints, and nothing else: the epoch is committed. Exactly once,
  /// a piece that a topic does not take is lost with its transaction instead, which does not come here.
  private func giveUpCheckpoint(of task: Task, _ what: String, _ place: String, _ error: any Error) {
    status.checkpointFailures += 1
    log.error(
      "the checkpoint cannot be written: when the epochs since the last one have expired, the state cannot be rebuilt",
      metadata: [
        "partition": "\(task.engine.partition)", "\(what)": "\(place)", "error": "\(error)",
        "last": "\(formatTimestamp(task.checkpointed_ms))",
      ])
    task.checkpointer.abandon()
    task.isClosing = false
  }

  func offsets(
    of task: Task, _ record: EpochRecord, isSent: Bool
  ) -> [TopicPartition: CommittedOffset] {
    let mark = EpochMark(number: record.number, incarnation: record.incarnation, isSent: isSent).text
    var offsets: [TopicPartition: CommittedOffset] = [:]
    for (source, offset) in zip(configuration.sources, record.next) {
      offsets[TopicPartition(source.topic, record.task)] = CommittedOffset(offset, metadata: mark)
    }
    if let offset = record.actionsNext {
      offsets[TopicPartition(configuration.actionsTopic, record.task)] = CommittedOffset(offset, metadata: mark)
    }
    return offsets
  }

  /// At a planned end nothing is left unsent, and the next owner need not repeat anything.
  func markSent() throws {
    guard !isExactlyOnce, !tasks.isEmpty else { return }
    try flush()
    var offsets: [TopicPartition: CommittedOffset] = [:]
    for (partition, task) in tasks where task.engine.mark.number > 0 {
      var mark = task.engine.mark
      mark.isSent = true
      for (topic, offset) in zip(configuration.inputTopics, task.engine.next) {
        offsets[TopicPartition(topic, partition)] = CommittedOffset(offset, metadata: mark.text)
      }
    }
    do throws(KafkaError) {
      try consumer.commit(offsets)
    } catch {
      // Harmless: the outputs of the last epoch are sent once more.
      log.debug("the last epochs could not be marked as sent", metadata: ["error": "\(error)"])
    }
  }

  /// In intervals: where a backlog makes epochs longer, more of a checkpoint goes with each.
  private var lengthOfEpoch: Int {
    let length_ms = (environment.monotonic_us() - epochBegun_us) / 1_000
    let most = configuration.epochBacklogInterval_ms / max(1, configuration.epochInterval_ms)
    return Int(max(1, min(length_ms / max(1, configuration.epochInterval_ms), most)))
  }

  /// The next shards of a task's checkpoint; a new round begins where the last has ended its time.
  func checkpoint(_ task: Task) throws -> ([CheckpointWrite], [ShardDigest]) {
    guard configuration.checkpoints != .off else { return ([], []) }
    let started = environment.monotonic_us()
    let isClosing = task.isClosing
    defer {
      if !isClosing {
        status.longestCheckpointPause_us = max(
          status.longestCheckpointPause_us, Int(environment.monotonic_us() - started))
      }
    }
    let (engine, checkpointer) = (task.engine, task.checkpointer)
    let number = engine.mark.number
    if !checkpointer.isWriting {
      let now_ms = environment.monotonic_ms()
      guard number > 0, now_ms >= task.nextRound_ms || isClosing else { return ([], []) }
      task.nextRound_ms = now_ms + configuration.checkpointInterval_ms
      // The state at the end of the last epoch is gone: the round begins with this one.
      let bounds: (low: Int64, stable: Int64)
      do throws(KafkaError) {
        bounds = try reader.bounds(TopicPartition(configuration.epochsTopic, engine.partition), timeout_ms: 2_000)
      } catch {
        if error.isFatal { throw error }
        // A broker is away: no reason to stop. The next epoch's end will do, when it is back.
        for task in tasks.values { task.isClosing = false }
        status.checkpointsPutOff += 1
        task.nextRound_ms = now_ms + min(configuration.checkpointInterval_ms, 5_000)
        log.warning("the checkpoint is put off", metadata: ["error": "\(error)"])
        return ([], [])
      }
      checkpointer.begin(engine.matcher, epoch: number + 1, epochsOffset: bounds.stable, held: engine.heldPlaces)
      let epochs = max(1, configuration.checkpointInterval_ms / 2 / max(1, configuration.epochInterval_ms))
      task.shardsPerEpoch = max(1, (checkpointer.shardCount + Int(epochs) - 1) / Int(epochs))
    }
    let (writes, digests) = checkpointer.advance(
      engine.matcher, epoch: number + 1, incarnation: incarnation, next: engine.sourceNext,
      actionsNext: configuration.takesActions ? engine.next[engine.actionsInput] : nil,
      configuration: engine.configurationHash,
      most: isClosing ? .max : task.shardsPerEpoch * lengthOfEpoch,
      bytes: isClosing ? Worker.closingBytes / tasks.count : Checkpointer.epochBytes)
    if !checkpointer.isWriting { task.isClosing = false }
    return (writes, digests)
  }

  func send(_ outbox: Outbox) throws(KafkaError) {
    try outbox.forEach { (message, key, value) throws(KafkaError) in
      switch message.topic {
      case .breaks: try send(.breaks, configuration.breaksTopic, message.partition, key, value)
      case .deadLetters: try send(.deadLetters, configuration.deadLettersTopic, message.partition, key, value)
      case .partials:
        try producer.produce(topic: configuration.partialsTopic, partition: message.partition, key: key, value: value)
      }
    }
  }

  private func send(
    _ output: Output, _ topic: String, _ partition: Int32?, _ key: UnsafeBufferPointer<UInt8>?,
    _ value: UnsafeBufferPointer<UInt8>
  ) throws(KafkaError) {
    guard let outputs else {
      try producer.produce(topic: topic, partition: partition, key: key, value: value)
      return
    }
    try outputs.with(output, value) { (value) throws(KafkaError) in
      try producer.produce(topic: topic, partition: partition, key: key, value: value)
    }
  }

  func send(_ record: EpochRecord) throws(KafkaError) {
    try produce(configuration.epochsTopic, record.task, key: Array("\(record.number)".utf8), value: record.bytes)
  }

  func send(_ writes: [CheckpointWrite], of task: Task) throws(KafkaError) {
    for write in writes {
      try produce(configuration.checkpointsTopic, task.engine.partition, key: Array(write.key.utf8), value: write.value)
    }
  }

  func produce(_ topic: String, _ partition: Int32, key: [UInt8], value: [UInt8]?) throws(KafkaError) {
    try producer.produce(topic: topic, partition: partition, key: key, value: value)
  }

  /// Runs a transaction to its end. Errors go the way that Kafka's rules ask for: what can be called again is, what
  /// must be aborted is and leads back to the last committed epoch, and what is fatal ends this life of the worker.
  func transact(_ body: () throws(KafkaError) -> Void) throws {
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

  func flush() throws(KafkaError) {
    try retrying("flushing") { () throws(KafkaError) in try producer.flush(timeout_ms: 60_000) }
  }
}
