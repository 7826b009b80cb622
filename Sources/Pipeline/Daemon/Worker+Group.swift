import Checkpoints
import Configuration
import Domain
import Kafka
import Logging
import Matching

/// What a worker does when the group decides, and at the bound of its memory.
extension Worker {
  func rebalance(_ change: Rebalance) throws {
    status.rebalances += 1
    defer { if group == nil { publishNotReady() } }
    switch change {
    case .assigned(let places):
      log.info(
        "partitions assigned", metadata: ["partitions": "\(places.map(\.description).sorted().joined(separator: " "))"])
      try checkCoPartitioning(places)
      assigned = places
      do throws(KafkaError) {
        group = try consumer.groupMetadata()
      } catch {
        if error.isFatal { throw error }
        // It has decided anew already, and says so next: until then nothing may be committed in its name.
        log.warning("assigned, and no member any more", metadata: ["error": "\(error)"])
        group = nil
        assigned = []
        return try consumer.assign([:])
      }
      isRecoveryDue = true
      publishNotReady()
      try recover()
    case .revoked(let places):
      log.info(
        "partitions revoked", metadata: ["partitions": "\(places.map(\.description).sorted().joined(separator: " "))"])
      // The other members wait for this one.
      parked = try close(within_ms: Worker.closingTime_ms / 6) ? tasks : [:]
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

  static let foreignAdvice =
    "what was told of their orders stays in the topics even where the state has something else now. Before a change start "
    + "once with the old settings and stop with SIGTERM, which writes a checkpoint; to have both agree, begin anew with "
    + "another kafka.group and prefix"

  func checkCoPartitioning(_ places: [TopicPartition]) throws {
    let topics = Set(configuration.inputTopics)
    if let added = places.filter({ Int($0.partition) >= configuration.taskCount }).min(by: {
      $0.partition < $1.partition
    }) {
      throw RecoveryError(
        "\(added) was added: the sources had \(configuration.taskCount) partitions when this process started. With another "
          + "number their producers send the records of an order elsewhere than before, to a task that does not know it; "
          + "see \"More partitions\" in docs/operations.md")
    }
    for (partition, group) in Dictionary(grouping: places, by: \.partition).sorted(by: { $0.key < $1.key })
    where Set(group.map(\.topic)) != topics {
      let missing = topics.subtracting(group.map(\.topic)).sorted().joined(separator: ", ")
      throw RecoveryError(
        "partition \(partition) was assigned without \(missing): the topics have different partition counts, or a "
          + "member of the group \(configuration.kafka.group) reads other topics")
    }
  }

  /// Gives every assigned partition its task, and reads on where its last committed epoch ended. May take longer than
  /// `max.poll.interval.ms`: the group is served all the while, and a new decision of it ends the attempt.
  func recover() throws {
    // Nothing is read before the state is there; and the group has its answer, so that it can decide anew.
    try consumer.assign([:])
    do {
      try bringBack()
    } catch is Interrupted {
      log.notice("recovery interrupted")
      dropTasks()
      isRecoveryDue = true
    }
    reader.rest()
  }

  /// Tells the group that the worker is alive, while it is not reading.
  func keepAlive() throws {
    let now_ms = environment.monotonic_ms()
    pulse.beat(now_ms)
    guard now_ms - lastPoll_ms >= environment.keepAlive_ms else { return }
    lastPoll_ms = now_ms
    _ = try consumer.consume(timeout_ms: 0, { _ in }, finish: {})
    for error in consumer.errors where error.isFatal { throw error }
    if consumer.pendingRebalance != nil || stop.isStopped { throw Interrupted() }
  }

  private func bringBack() throws {
    // Another one than of any attempt before: an epoch that was written and never committed must not be taken for its
    // successor of the same number.
    incarnation = environment.identity()
    // What was sent and has not arrived yet is part of what is about to be read.
    if !isExactlyOnce, producer.queued > 0 { try flush() }
    beginnings = [:]
    lastPoll_ms = environment.monotonic_ms()
    let recovery = TaskRecovery(configuration, environment: environment, reader: reader, stage: stage) {
      [unowned self] in try self.keepAlive()
    }
    let partitions = Set(assigned.map(\.partition)).sorted()
    tasks = [:]
    recordsInEpoch = 0
    let committed =
      assigned.isEmpty
      ? [:]
      : try retrying("reading committed offsets") { () throws(KafkaError) in
        try consumer.committed(assigned, timeout_ms: 30_000)
      }
    for partition in partitions {
      let offsets = configuration.inputTopics.map { committed[TopicPartition($0, partition)] }
      let mark = offsets.compactMap { $0.flatMap { EpochMark($0.metadata) } }.max { $0.number < $1.number }
      if let task = parked[partition], !task.engine.hasEvents, task.engine.isUntouched,
        environment.defect == .parkedStateNotChecked
          || mark.map({
            task.engine.mark.number == $0.number && task.engine.mark.incarnation == $0.incarnation
          }) ?? false
      {
        task.engine.resume()
        // The tables may have changed while it was parked.
        task.engine.takeUp(stage)
        tasks[partition] = task
        continue
      }
      let started_ms = environment.monotonic_ms()
      // What is replayed has been counted by whoever took it in first.
      let before = stage?.counters ?? DecodeCounters()
      defer {
        replayedDecode.add(stage?.counters ?? DecodeCounters())
        replayedDecode.subtract(before)
      }
      // Reading ahead goes on for what has been read to its end, too, and takes memory for each of its partitions.
      reader.rest()
      let recovered = try recovery.recover(partition: partition, committed: offsets)
      recovered.engine.onDeadLetter = { [unowned self] in self.report($0) }
      recovered.engine.onLostAction = { [unowned self] in self.report($0, $1) }
      status.recoveryProblems += recovered.report.problems.count
      for problem in recovered.report.problems {
        log.error("recovery", metadata: ["partition": "\(partition)", "problem": "\(problem)"])
      }
      if let unsent = recovered.unsent, !unsent.isEmpty {
        // Only as a member of the generation that has the partition now: the same offsets once more say so.
        let same = offsets.enumerated().compactMap { at, offset in
          offset.map { (TopicPartition(configuration.inputTopics[at], partition), $0) }
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
        task: partition, sources: configuration.sources.map(\.name), dimensions: configuration.dimensions,
        kept: recovered.kept,
        tiesPerShard: configuration.shardTies)
      if environment.defect == .shardOneEpochLate { checkpointer.plantedShift = 1 }
      let task = Task(
        recovered.engine, checkpointer, unneeded: recovered.unneeded, now_ms: environment.wallClock_ms())
      tasks[partition] = task
      if recovered.report.foreignEpochs > 0 {
        status.foreignEpochs += recovered.report.foreignEpochs
        log.warning(
          "epochs that were recorded under other settings or tables were replayed under those of now, and nothing was compared: \(Worker.foreignAdvice)",
          metadata: ["partition": "\(partition)", "epochs": "\(recovered.report.foreignEpochs)"])
      }
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

  /// Reads every assigned partition that is not held back, where its task stands.
  func assign() throws(KafkaError) {
    var starts: [TopicPartition: StartOffset] = [:]
    for (partition, task) in tasks {
      for (index, topic) in configuration.inputTopics.enumerated() where !task.engine.isHeld[index] {
        let place = TopicPartition(topic, partition)
        starts[place] = .at(max(task.engine.next[index], beginnings[place] ?? 0))
      }
    }
    try consumer.assign(starts)
    sourcesWaiting = []
  }

  /// Has sources that are ahead wait for one that is behind. A hundred times a second at the most.
  func holdAhead() {
    guard configuration.sources.count > 1 else { return }
    let now_ms = environment.monotonic_ms()
    guard now_ms >= waitingDue_ms else { return }
    waitingDue_ms = now_ms + 10
    let lead_ms = configuration.policy.window_ms / 8
    var places: [[SourcePlace]] = []
    var isAnyApart = false
    for (_, task) in tasks {
      var own: [SourcePlace] = []
      for source in configuration.sources.indices {
        task.advances[source].observe(
          next: task.engine.next[source], isAtEnd: task.engine.isAtEnd[source], waits: sourcesWaiting.contains(source),
          now_ms: now_ms)
        own.append(
          SourcePlace(
            typical_ms: task.engine.matcher.watermarks.typical_ms(source: UInt16(source)),
            isSilent: task.advances[source].isSilent))
      }
      let (least, most) = own.reduce((Int64.max, Int64.min)) { least, place in
        (min(least.0, place.typical_ms ?? .min), max(least.1, place.typical_ms ?? .min))
      }
      isAnyApart = isAnyApart || least == .min || SourcePlace.isAhead(most, of: least, by: lead_ms / 2)
      places.append(own)
    }
    // The client is asked where that can change something: it takes locks that its other threads want.
    if !isAnyApart, sourcesWaiting.isEmpty { return }
    for (at, (partition, task)) in tasks.enumerated() {
      for source in configuration.sources.indices where !task.engine.isAtEnd[source] && !task.engine.isHeld[source] {
        guard !task.advances[source].standsStill(now_ms) || sourcesWaiting.contains(source),
          let high = consumer.cachedOffsets(TopicPartition(configuration.inputTopics[source], partition))?.high
        else { continue }
        places[at][source].backlog = Int(max(0, high - task.engine.next[source]))
      }
    }
    let ahead = sourcesAhead(
      places, waiting: sourcesWaiting, lead_ms: lead_ms, leastBacklog: environment.leastBacklog)
    guard ahead != sourcesWaiting else { return }
    log.debug(
      "sources wait for one that is behind",
      metadata: ["sources": "\(ahead.sorted().map { configuration.sources[$0].name }.joined(separator: ", "))"])
    consumer.hold(ahead)
    sourcesWaiting = ahead
  }

  /// Kafka does not have the next records of these partitions any more. What retention has taken cannot be had again: it
  /// is said loudly, and the reading goes on with what is there. A partition that ends before what was read of it is
  /// another one than it was, and nothing that comes from it now can be trusted.
  func skipTrimmed(_ places: [TopicPartition]) throws {
    for place in places {
      guard let source = configuration.inputTopics.firstIndex(of: place.topic),
        let engine = tasks[place.partition]?.engine
      else { continue }
      let next = max(engine.next[source], beginnings[place] ?? 0)
      let bounds = try retrying("asking for offsets") { () throws(KafkaError) in
        try reader.bounds(place, timeout_ms: 10_000)
      }
      if bounds.low > next {
        log.error(
          "records were deleted before they were read: their orders will show breaks (control records of transactions count too)",
          metadata: ["place": "\(place)", "from_offset": "\(next)", "to_offset": "\(bounds.low - 1)"])
        status.trimmedRecords += bounds.low - next
        beginnings[place] = bounds.low
      } else if bounds.stable < next {
        throw RecoveryError(
          "\(place) ends at offset \(bounds.stable), and was read up to \(next): it was truncated or created anew")
      }
    }
    try assign()
  }

  // MARK: - Memory

  /// At the memory bound the sources that are ahead wait until the one that is behind has caught up or ties have left;
  /// where that cannot help, the intake slows down. Nothing is dropped.
  func throttle(isBehind: Bool) throws {
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
      let held = heldBack(
        times_ms: configuration.sources.indices.map { watermarks.reached_ms(source: UInt16($0)) ?? .min },
        isAtEnd: engine.isAtEnd, isHeld: engine.isHeld, isOver: isOver, isNear: status.stateBytes > bound / 10 * 9)
      for (source, holds) in held.enumerated() {
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
}

/// Which sources of a task wait at the memory bound: those that are ahead in event time, as long as the one that is behind
/// has something to read. A source that waits goes on when it is overtaken or the state has shrunk by a tenth.
/// - Parameters:
///   - times_ms: By source: the latest event time up to which nothing is left behind.
///   - isOver: The state is above the bound; `isNear`: above nine tenths of it.
func heldBack(times_ms: [Int64], isAtEnd: [Bool], isHeld: [Bool], isOver: Bool, isNear: Bool) -> [Bool] {
  let slowest = times_ms.min() ?? .min
  let canCatchUp = times_ms.indices.contains { times_ms[$0] == slowest && !isAtEnd[$0] }
  return times_ms.indices.map { source in
    canCatchUp && times_ms[source] > slowest && (isHeld[source] ? isNear : isOver)
  }
}

/// Whether a source comes along in a task.
struct SourceAdvance {
  /// So long without a record, and there is none, or its partition cannot be read.
  static let patience_ms: Int64 = 5_000

  private var next: Int64 = .min
  private var since_ms: Int64 = 0
  /// It was read to its end, and nothing has come for a while: it is no measure for anything.
  private(set) var isSilent = false

  /// - Parameters:
  ///   - next: The next record to be read.
  ///   - waits: It is held: then it does not come along, and that says nothing.
  mutating func observe(next: Int64, isAtEnd: Bool, waits: Bool, now_ms: Int64) {
    if next != self.next || waits { since_ms = now_ms }
    self.next = next
    if !waits { isSilent = isAtEnd && standsStill(now_ms) }
  }

  func standsStill(_ now_ms: Int64) -> Bool { now_ms - since_ms >= SourceAdvance.patience_ms }
}

/// How far a source has come in a task, and how much it has to read there.
struct SourcePlace {
  /// The event time around which it is being read; nil where nothing was read.
  var typical_ms: Int64?
  /// Records that are known to wait in Kafka.
  var backlog = 0
  var isSilent = false

  /// Whichever times records name: their difference may be more than a time can say.
  static func isAhead(_ time_ms: Int64, of other_ms: Int64, by lead_ms: Int64) -> Bool {
    guard time_ms > other_ms else { return false }
    let (ahead_ms, isFar) = time_ms.subtractingReportingOverflow(other_ms)
    return isFar || ahead_ms > lead_ms
  }
}

/// Which sources of a worker wait until those that are behind have come nearer. Where a backlog is worked off, the source
/// whose records take the fewest bytes comes along fastest, and each tie that it opens would be kept until the others have
/// got there: state would grow with the backlog, and not with the window.
///
/// A source begins to wait where it is ahead in every task: in each, of another one that has a backlog there. A task in
/// which nobody is behind is not kept waiting, and neither is a source that has no backlog itself.
/// - Parameters:
///   - tasks: By task and source.
///   - waiting: Those that wait now: they go on where half of the lead is left in a task.
///   - lead_ms: How far ahead in event time a source may be.
///   - leastBacklog: Fewer records than these in a partition are no backlog.
func sourcesAhead(_ tasks: [[SourcePlace]], waiting: Set<Int>, lead_ms: Int64, leastBacklog: Int) -> Set<Int> {
  guard let count = tasks.first?.count else { return [] }
  return Set(
    (0..<count).filter { source in
      let lead_ms = waiting.contains(source) ? lead_ms / 2 : lead_ms
      let counted = tasks.lazy.filter { !$0[source].isSilent }
      guard waiting.contains(source) || counted.contains(where: { $0[source].backlog >= leastBacklog }) else {
        return false
      }
      return !counted.isEmpty && counted.allSatisfy { $0.isAhead(source, by: lead_ms, leastBacklog) }
    })
}

extension [SourcePlace] {
  /// Whether a source is farther ahead than that of another one of its task that has a backlog. One that was not read yet is
  /// behind all others.
  fileprivate func isAhead(_ source: Int, by lead_ms: Int64, _ leastBacklog: Int) -> Bool {
    guard let own_ms = self[source].typical_ms else { return false }
    return indices.contains { other in
      guard other != source, self[other].backlog >= leastBacklog else { return false }
      guard let its_ms = self[other].typical_ms else { return true }
      return SourcePlace.isAhead(own_ms, of: its_ms, by: lead_ms)
    }
  }
}
