import Configuration
import Decoding
import Domain
import Kafka
import Logging
import SchemaRegistry

/// Brings the records of sources that are not keyed by order, or have another number of partitions, under their order
/// key: through an internal topic with as many partitions as the other sources have.
///
/// A record that cannot be read goes on as it is, under its own key, so that the task that gets it reports it. A change that
/// moves a row to another order goes on twice, to the tasks of both (`RoutedRecord.Part`).
///
/// Behind the records it tells every task how far it has come in each partition (`RoutedProgress`), since what comes next
/// in the internal topic may be far older than what came last: tasks take the time of a routed source from that alone.
/// Every member of the group tells of its own partitions; what is known of a partition is with the tasks, so that it may go
/// from one member to another.
public final class Router: Stage, @unchecked Sendable {
  private var lanes: [Lane] = []
  private var producer: (any RecordProducer)!
  private var consumer: (any GroupConsumer)!
  private var group: GroupMetadata?
  private var assigned: [TopicPartition] = []
  private var next: [TopicPartition: Int64] = [:]
  private var reader: (any LogReader)!
  private var progress: [RouterProgress] = []
  private var writer = ByteWriter()
  private var failure: KafkaError?
  private var schemas: SchemaLookup?
  private var schemaProblem: SchemaRegistryError?
  private var isOpen = false
  /// Where the partitions of this member are read from, after the last assignment.
  private var starts: [TopicPartition: StartOffset] = [:]
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
    reader = try environment.makeReader(configuration)
    isOpen = false
    next = [:]
    progress = []
    defer {
      consumer.close()
      reader.close()
      consumer = nil
      reader = nil
      producer = nil
    }
    trimmed = []
    while !stop.isStopped {
      beat()
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
        try refuseTruncated(place)
        log.error(
          "records were deleted before they were routed: their orders will show breaks; going on with the oldest",
          metadata: ["place": "\(place)", "error": "\(error)"])
      } else {
        log.warning("\(error)")
      }
    }
    for end in consumer.ended {
      if let at = sources.firstIndex(where: { $0.originalTopic == end.place.topic }), progress.indices.contains(at) {
        progress[at].ended(end.place.partition, at: end.offset)
      }
    }
    if consumer.pendingRebalance == nil { findIdle() }
    let isTold = failure == nil && tellProgress()
    if failure == nil, count > 0 || isTold { commit() }
    if failure == nil, isTrimmed, consumer.pendingRebalance == nil { try start() }
    if failure == nil, consumer.pendingRebalance == nil { try holdBack() }
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
      // Nothing is told of them any more, and none is held back or let go: that would take them up again.
      progress = []
      try consumer.unassign()
    }
  }

  /// A partition that ends before what was read of it is another one than it was.
  private func refuseTruncated(_ place: TopicPartition) throws {
    var known: Int64?
    if let offset = next[place] {
      known = offset
    } else if case .at(let offset) = starts[place] {
      known = offset
    }
    guard let known else { return }
    var stable = Int64.max
    try retrying { () throws(KafkaError) in stable = try reader.bounds(place, timeout_ms: 10_000).stable }
    guard stable < known else { return }
    throw RecoveryError(
      "\(place) ends at offset \(stable), and was read up to \(known): it was truncated or created anew")
  }

  /// With `kafka.start: latest`, how many partitions a topic had when the group began to read it at its end. It is committed
  /// with the offsets.
  private var firstCounts: [String: Int] = [:]

  /// Where partitions of which nothing is committed are read from. With `kafka.start: latest` that is their end, which is
  /// committed at once, since what comes after it is to be read whatever happens; but a partition that its topic did not
  /// have when the group began has nothing that came before.
  private func beginnings(
    _ committed: [TopicPartition: CommittedOffset]
  ) throws(KafkaError) -> [TopicPartition: StartOffset] {
    let open = assigned.filter { committed[$0] == nil }
    if configuration.kafka.start == .earliest { return Dictionary(uniqueKeysWithValues: open.map { ($0, .beginning) }) }
    for source in sources {
      let topic = source.originalTopic
      let places = (0..<max(1, configuration.originPartitions[topic] ?? 1)).map { TopicPartition(topic, Int32($0)) }
      var others: [TopicPartition: CommittedOffset] = [:]
      try retrying { () throws(KafkaError) in others = try consumer.committed(places, timeout_ms: 30_000) }
      let known = others.values.compactMap { Int($0.metadata) }.min()
      firstCounts[topic] = known ?? (others.isEmpty ? configuration.originPartitions[topic] : nil)
    }
    var starts: [TopicPartition: StartOffset] = [:]
    for place in open {
      let isNew = firstCounts[place.topic].map { Int(place.partition) >= $0 } ?? false
      var bounds: (low: Int64, stable: Int64) = (0, 0)
      try retrying { () throws(KafkaError) in bounds = try reader.bounds(place, timeout_ms: 30_000) }
      starts[place] = .at(isNew ? bounds.low : bounds.stable)
    }
    return starts
  }

  private func start() throws(KafkaError) {
    var committed: [TopicPartition: CommittedOffset] = [:]
    if !assigned.isEmpty {
      try retrying { () throws(KafkaError) in committed = try consumer.committed(assigned, timeout_ms: 30_000) }
    }
    let beginnings = try beginnings(committed)
    next = [:]
    for (place, start) in beginnings {
      if case .at(let offset) = start { next[place] = offset }
    }
    if !next.isEmpty, group != nil {
      failure = nil
      try begin()
      commit()
      if let failure { throw failure }
    }
    // What was told of records that are routed again is told again.
    let now_ms = environment.monotonic_ms()
    progress = sources.map { source in
      RouterProgress(
        count: configuration.originPartitions[source.originalTopic] ?? 0,
        places: assigned.filter { $0.topic == source.originalTopic }.map {
          (partition: $0.partition, next: committed[$0]?.offset)
        }, now_ms: now_ms)
    }
    var starts = beginnings
    for place in assigned { if let offset = committed[place]?.offset { starts[place] = .at(offset) } }
    for place in trimmed where starts[place] != nil { starts[place] = .beginning }
    trimmed = []
    self.starts = starts
    try consumer.assign(starts)
  }

  // MARK: - How far it has come

  /// A partition that has been read to its end is idle when the broker says that nothing has come since, for as long as
  /// makes a source idle.
  private func findIdle() {
    let now_ms = environment.monotonic_ms()
    for at in progress.indices {
      let asked = progress[at].maybeIdle(after_ms: configuration.policy.idleTimeout_ms, now_ms: now_ms)
      guard !asked.isEmpty else { continue }
      let topic = sources[at].originalTopic
      do throws(KafkaError) {
        let ends = try reader.ends(
          asked.map { TopicPartition(topic, $0) }, timeout_ms: Worker.endsTimeout_ms)
        for partition in asked {
          let place = TopicPartition(topic, partition)
          // What stands behind the last stable offset may still come.
          guard let end = ends[place] else { continue }
          progress[at].answered(partition, end: max(end, consumer.cachedOffsets(place)?.high ?? 0))
        }
      } catch {
        log.debug("the broker does not say whether there is more", metadata: ["error": "\(error)"])
      }
    }
  }

  /// Tells the tasks how far the partitions of this member have been routed.
  /// - Returns: whether there was something to tell.
  private func tellProgress() -> Bool {
    guard group != nil else { return false }
    let now_ms = environment.monotonic_ms()
    let retell_ms = max(Router.retell_ms, 4 * configuration.policy.idleTimeout_ms)
    var isTold = false
    for at in progress.indices {
      guard var told = progress[at].told(now_ms: now_ms, retell_ms: retell_ms) else { continue }
      if environment.defect == .originsTakenTogether {
        let largest_ms = told.reports.map(\.largest_ms).max() ?? .min
        told.reports = (0..<told.count).map {
          .init(partition: Int32($0), next: 0, largest_ms: largest_ms, isIdle: largest_ms == .min)
        }
      }
      for report in told.reports {
        let place = TopicPartition(sources[at].originalTopic, report.partition)
        next[place] = max(next[place] ?? 0, report.next)
      }
      told.encode(into: &writer)
      let value = writer.bytes.assumingMemoryBound(to: UInt8.self)
      do throws(KafkaError) {
        try begin()
        for partition in 0..<configuration.taskCount {
          try producer.produce(topic: sources[at].topic, partition: Int32(partition), key: nil, value: value)
        }
      } catch {
        failure = error
        return false
      }
      isTold = true
    }
    return isTold
  }

  /// So often at the least, for tasks that came later.
  static let retell_ms: Int64 = 60_000

  /// Partitions that are ahead of one with more to read wait for it: nothing of them could be judged, and all of it would
  /// have to be held.
  private func holdBack() throws(KafkaError) {
    var isChanged = false
    for at in progress.indices where progress[at].holdBack(lead_ms: configuration.policy.window_ms) {
      isChanged = true
    }
    guard isChanged else { return }
    var reading = starts
    for (at, source) in sources.enumerated() {
      for place in starts.keys where place.topic == source.originalTopic {
        if let offset = next[place] { reading[place] = .at(offset) }
        if progress[at].isHeld(place.partition) { reading[place] = nil }
      }
    }
    try consumer.assign(reading)
  }

  private func begin() throws(KafkaError) {
    guard isExactlyOnce, !isOpen else { return }
    try producer.beginTransaction()
    isOpen = true
  }

  private func route(_ message: ConsumedMessage) {
    guard failure == nil, schemaProblem == nil, progress.indices.contains(message.topic) else { return }
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
    let (sum, isTooLarge) = environment.wallClock_ms().addingReportingOverflow(configuration.policy.maximumFuture_ms)
    let latest_ms = isTooLarge ? .max : sum
    progress[message.topic].routed(
      message.partition, offset: message.offset, time_ms: lane.time_ms(until: latest_ms),
      latest_ms: latest_ms,
      now_ms: environment.monotonic_ms())
    var orders = lane.orders
    if environment.defect == .movesRoutedOnce, orders.left != nil { orders = (nil, orders.left) }
    if let left = orders.left { send(message, source.topic, part: .left, key: left.buffer) }
    let key = orders.own?.buffer ?? message.key.map { UnsafeBufferPointer(rebasing: $0.prefix(messageLimit / 4)) }
    send(message, source.topic, part: orders.left == nil ? .whole : .joined, key: key)
    lane.reset()
  }

  private func send(
    _ message: ConsumedMessage, _ topic: String, part: RoutedRecord.Part, key: UnsafeBufferPointer<UInt8>?
  ) {
    guard failure == nil else { return }
    RoutedRecord.encode(message, part: part, limit: messageLimit - (key?.count ?? 0), into: &writer)
    do throws(KafkaError) {
      try begin()
      try producer.produce(
        topic: topic, partition: nil, key: key, value: writer.bytes.assumingMemoryBound(to: UInt8.self))
    } catch { failure = error }
  }

  private func commit() {
    guard let group, !next.isEmpty else { return }
    let offsets = Dictionary(
      uniqueKeysWithValues: next.map { place, offset in
        (place, CommittedOffset(offset, metadata: firstCounts[place.topic].map(String.init) ?? ""))
      })
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
  /// Order keys of the record that was decoded last: the one that it is in, nil where it cannot be read, and the one that it
  /// was in before, where a change moves it.
  var orders: (left: ByteView?, own: ByteView?) {
    switch self {
    case .orders(let lane):
      (lane.records.count > 1 ? lane.records[0].order : nil, lane.records.buffer.last?.order)
    case .ledger(let lane):
      (lane.records.count > 1 ? lane.records[0].order : nil, lane.records.buffer.last?.order)
    }
  }

  /// Its event time; of two images the later one that is not too far ahead.
  fileprivate func time_ms(until latest_ms: Int64) -> Int64? {
    switch self {
    case .orders(let lane): lane.records.buffer.lazy.map(\.time_ms).filter { $0 <= latest_ms }.max()
    case .ledger(let lane): lane.records.buffer.lazy.map(\.time_ms).filter { $0 <= latest_ms }.max()
    }
  }
}
