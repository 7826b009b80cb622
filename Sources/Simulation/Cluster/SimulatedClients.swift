import Kafka
import Pipeline

/// What becomes of one request.
enum CallFault { case none, requestLost, responseLost }

/// A process that runs a worker: its clients die with it.
final class SimulatedProcess: @unchecked Sendable {
  let number: Int
  unowned let scheduler: SimulationScheduler
  var isDead = false
  /// Stopped (SIGSTOP) until then: not even heartbeats go out.
  var pausedUntil_ms: Int64 = 0

  init(number: Int, scheduler: SimulationScheduler) {
    self.number = number
    self.scheduler = scheduler
  }

  var cluster: SimulatedCluster { scheduler.cluster }
  var isResponsive: Bool { !isDead && cluster.now_ms >= pausedUntil_ms }

  /// Every call to the cluster begins here: others get the turn, and the network does what it does.
  func enter(_ call: StaticString) throws(KafkaError) -> CallFault {
    scheduler.yield(self)
    if isDead { throw KafkaError(name: "_DESTROY", "the process is gone", context: "\(call)", isFatal: true) }
    if cluster.now_ms < cluster.downUntil_ms {
      scheduler.sleep(self, ms: 50)
      throw KafkaError(name: "_TRANSPORT", "the broker is down", context: "\(call)", isRetriable: true)
    }
    let fault = scheduler.fault()
    if fault == .requestLost { throw SimulatedProcess.timedOut(call) }
    return fault
  }

  /// And ends here.
  func leave(_ call: StaticString, _ fault: CallFault) throws(KafkaError) {
    if isDead { throw KafkaError(name: "_DESTROY", "the process is gone", context: "\(call)", isFatal: true) }
    if fault == .responseLost { throw SimulatedProcess.timedOut(call) }
  }

  private static func timedOut(_ call: StaticString) -> KafkaError {
    KafkaError(name: "_TIMED_OUT", "no answer", context: "\(call)", isRetriable: true)
  }
}

final class SimulatedConsumer: GroupConsumer {
  private let process: SimulatedProcess
  private let group: SimulatedCluster.Group
  private let groupName: String
  private let topics: [String]
  private let instance: String
  private var member = 0
  private var generation = -1
  private var held: [TopicPartition] = []
  private var heldTopics: Set<Int> = []
  private var stillComing = 0
  private var positions: [(place: TopicPartition, offset: Int64, isEnded: Bool)] = []
  private var isClosed = false
  private(set) var ended: [PartitionEnd] = []
  private(set) var errors: [KafkaError] = []
  private(set) var pendingRebalance: Rebalance?

  private let defect: Defect?

  init(_ process: SimulatedProcess, group: String, topics: [String], instance: String, defect: Defect?) {
    self.process = process
    self.defect = defect
    groupName = group
    self.group = process.cluster.group(group)
    self.topics = topics
    self.instance = instance
  }

  private var cluster: SimulatedCluster { process.cluster }

  func consume(
    timeout_ms: Int, _ body: (ConsumedMessage) -> Void, finish: () -> Void
  ) throws(KafkaError) -> Int {
    ended = []
    errors = []
    process.scheduler.yield(process)
    if process.isDead { throw KafkaError(name: "_DESTROY", "the process is gone", context: "consume", isFatal: true) }
    guard cluster.now_ms >= cluster.downUntil_ms else {
      process.scheduler.sleep(process, ms: Int64(timeout_ms))
      return 0
    }
    try followGroup()
    if case .lost = pendingRebalance { return 0 }
    var handed = 0
    for at in positions.indices where cluster.random.below(4) > 0 {
      let log = cluster.log(positions[at].place)
      var left = 1 + cluster.random.below(8)
      let topic = topics.firstIndex(of: positions[at].place.topic)!
      if heldTopics.contains(topic) {
        // What was on its way to the process.
        left = min(left, stillComing)
        stillComing -= left
        if left == 0, positions[at].offset < log.stable { cluster.withheld += 1 }
      }
      while positions[at].offset < log.stable, left > 0 {
        let offset = positions[at].offset
        positions[at].offset += 1
        guard log.isReadable(offset) else { continue }
        positions[at].isEnded = false
        let entry = log.entries[Int(offset)]
        SimulatedConsumer.hand(
          ConsumedMessage(
            topic: topic, partition: positions[at].place.partition, offset: offset, timestamp_ms: 0, key: nil,
            value: nil), entry, &storage, body)
        handed += 1
        left -= 1
      }
      if positions[at].offset >= log.stable, !positions[at].isEnded {
        positions[at].isEnded = true
        ended.append(PartitionEnd(positions[at].place, positions[at].offset))
      }
    }
    finish()
    storage.removeAll()
    // Longer than asked for: as a slow broker does, and so that idling costs few turns.
    if handed == 0, timeout_ms > 0 {
      process.scheduler.sleep(process, ms: max(Int64(timeout_ms), process.scheduler.idle_ms))
    }
    return handed
  }

  private var storage = MessageStorage()

  static func hand(
    _ head: ConsumedMessage, _ entry: SimulatedCluster.Entry, _ storage: inout MessageStorage,
    _ body: (ConsumedMessage) -> Void
  ) {
    var message = head
    message.key = storage.keep(entry.key)
    message.value = storage.keep(entry.value)
    body(message)
  }

  private func followGroup() throws(KafkaError) {
    guard pendingRebalance == nil else { return }
    if member == 0 {
      member = cluster.join(group, process, instance: instance, topics: topics)
      generation = -1
    }
    guard let at = group.members.firstIndex(where: { $0.id == member }) else {
      if !instance.isEmpty, group.members.contains(where: { $0.instance == instance }) {
        throw KafkaError(name: "FENCED_INSTANCE_ID", "another has taken over", context: "consume", isFatal: true)
      }
      // Thrown out while it was silent.
      member = 0
      generation = -1
      if !held.isEmpty { pendingRebalance = .lost(held) }
      return
    }
    group.members[at].lastHeard_ms = cluster.now_ms
    if group.isPreparing {
      if !group.members[at].hasJoined {
        if held.isEmpty { group.members[at].hasJoined = true } else { pendingRebalance = .revoked(held) }
      }
    } else if generation != group.generation {
      if held.isEmpty {
        generation = group.generation
        held = group.members[at].assignment
        if !held.isEmpty { pendingRebalance = .assigned(held) }
      } else {
        pendingRebalance = .lost(held)
      }
    }
  }

  func assign(_ starts: [TopicPartition: StartOffset]) throws(KafkaError) {
    if process.isDead { throw KafkaError(name: "_DESTROY", "the process is gone", context: "assign", isFatal: true) }
    pendingRebalance = nil
    heldTopics = []
    positions = starts.sorted { ($0.key.topic, $0.key.partition) < ($1.key.topic, $1.key.partition) }.map {
      place, start in
      let log = cluster.log(place)
      let offset: Int64 =
        switch start {
        case .beginning: log.low
        case .end: log.end
        case .committed: group.offsets[place]?.offset ?? log.low
        case .at(let offset): offset
        }
      return (place, max(offset, log.low), false)
    }
  }

  func unassign() throws(KafkaError) {
    pendingRebalance = nil
    positions = []
    held = []
    heldTopics = []
    if let at = group.members.firstIndex(where: { $0.id == member }) { group.members[at].hasJoined = true }
  }

  func hold(_ topics: Set<Int>) {
    if !topics.isSubset(of: heldTopics) { stillComing = cluster.random.below(12) }
    heldTopics = topics
  }

  func groupMetadata() throws(KafkaError) -> GroupMetadata {
    let named = defect == .zombieNotFenced ? -1 : generation
    return GroupMetadata(bytes: Array("\(groupName)\n\(named)\n\(member)".utf8))
  }

  func commit(_ offsets: [TopicPartition: CommittedOffset]) throws(KafkaError) {
    let fault = try process.enter("commit")
    guard let at = group.members.firstIndex(where: { $0.id == member }), generation == group.generation else {
      throw KafkaError(name: "ILLEGAL_GENERATION", "the group has moved on", context: "commit")
    }
    if group.isPreparing, !group.members[at].hasJoined, cluster.random.below(2) == 0 {
      throw KafkaError(name: "REBALANCE_IN_PROGRESS", "the group is deciding", context: "commit")
    }
    for (place, offset) in offsets { group.offsets[place] = offset }
    try process.leave("commit", fault)
  }

  func committed(
    _ places: [TopicPartition], timeout_ms: Int
  ) throws(KafkaError) -> [TopicPartition: CommittedOffset] {
    let fault = try process.enter("committed")
    let until = cluster.now_ms + Int64(timeout_ms)
    while defect != .unstableOffsets, places.contains(where: { cluster.isUnstable(groupName, $0) }) {
      guard cluster.now_ms < until else {
        throw KafkaError(name: "UNSTABLE_OFFSET_COMMIT", "still open", context: "committed", isRetriable: true)
      }
      process.scheduler.sleep(process, ms: 100)
      if process.isDead { break }
    }
    try process.leave("committed", fault)
    return group.offsets.filter { places.contains($0.key) }
  }

  func cachedOffsets(_ place: TopicPartition) -> (low: Int64, high: Int64)? {
    let log = cluster.log(place)
    return (log.low, log.end)
  }

  func close() {
    guard !isClosed else { return }
    isClosed = true
    if !process.isDead, instance.isEmpty, member != 0 { cluster.leave(group, member) }
  }
}

/// Keeps bytes alive that are handed out as borrowed.
struct MessageStorage {
  private var blocks: [UnsafeMutableBufferPointer<UInt8>] = []

  mutating func keep(_ bytes: [UInt8]?) -> UnsafeBufferPointer<UInt8>? {
    guard let bytes else { return nil }
    let block = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: max(1, bytes.count))
    _ = block.initialize(from: bytes)
    blocks.append(block)
    return UnsafeBufferPointer(rebasing: block[0..<bytes.count])
  }

  mutating func removeAll() {
    for block in blocks { block.deallocate() }
    blocks.removeAll(keepingCapacity: true)
  }
}

final class SimulatedProducer: RecordProducer {
  private let process: SimulatedProcess
  private let transaction: SimulatedCluster.Transactional?
  private var epoch = -1
  private var isInTransaction = false
  private var buffer: [(place: TopicPartition, key: [UInt8]?, value: [UInt8]?)] = []
  private var failure: KafkaError?

  init(_ process: SimulatedProcess, transactionalID: String?) {
    self.process = process
    transaction = transactionalID.map { process.cluster.transactional($0) }
  }

  private var cluster: SimulatedCluster { process.cluster }

  private func fenced(_ context: String) -> KafkaError {
    KafkaError(name: "_FENCED", "a newer producer has taken over", context: context, isFatal: true)
  }

  func produce(
    topic: String, partition: Int32?, key: UnsafeBufferPointer<UInt8>?, value: UnsafeBufferPointer<UInt8>?
  ) throws(KafkaError) {
    let key = key.map { Array($0) }
    let place = TopicPartition(topic, partition ?? cluster.partition(of: topic, key ?? []))
    buffer.append((place, key, value.map { Array($0) }))
    // The library sends in the background.
    if cluster.random.below(8) == 0 { send(1 + cluster.random.below(buffer.count)) }
  }

  private func send(_ count: Int) {
    guard !process.isDead else { return }
    for message in buffer.prefix(count) {
      if let transaction {
        guard transaction.epoch == epoch, isInTransaction else {
          failure = failure ?? fenced("delivering")
          break
        }
        while !transaction.markers.isEmpty { cluster.finishMarkers(transaction) }
        if transaction.state != .ongoing {
          transaction.state = .ongoing
          transaction.started_ms = cluster.now_ms
        }
        if !transaction.places.contains(message.place) { transaction.places.append(message.place) }
      }
      cluster.log(message.place).append(
        SimulatedCluster.Entry(producer: transaction?.number ?? -1, key: message.key, value: message.value))
    }
    buffer.removeFirst(count)
  }

  func flush(timeout_ms: Int) throws(KafkaError) {
    let fault = try process.enter("flush")
    send(buffer.count)
    if let failure { throw failure }
    try process.leave("flush", fault)
  }

  func poll() {}
  var queued: Int { buffer.count }

  func initTransactions(timeout_ms: Int) throws(KafkaError) {
    let fault = try process.enter("initTransactions")
    epoch = cluster.initialise(transaction!)
    try process.leave("initTransactions", fault)
  }

  func beginTransaction() throws(KafkaError) {
    isInTransaction = true
    failure = nil
  }

  func sendOffsets(
    _ offsets: [TopicPartition: CommittedOffset], group: GroupMetadata, timeout_ms: Int
  ) throws(KafkaError) {
    let fault = try process.enter("sendOffsets")
    let transaction = transaction!
    guard transaction.epoch == epoch else { throw fenced("sendOffsets") }
    send(buffer.count)
    if let failure { throw failure }
    let parts = String(decoding: group.bytes, as: UTF8.self).split(separator: "\n")
    let known = cluster.group(String(parts[0]))
    let (generation, member) = (Int(parts[1])!, Int(parts[2])!)
    // A producer that names no generation is let through, as brokers do.
    if generation >= 0 {
      guard known.members.contains(where: { $0.id == member }) else {
        throw KafkaError(name: "UNKNOWN_MEMBER_ID", "not a member", context: "sendOffsets", requiresAbort: true)
      }
      guard generation == known.generation else {
        throw KafkaError(name: "ILLEGAL_GENERATION", "the group moved on", context: "sendOffsets", requiresAbort: true)
      }
    }
    cluster.finishMarkers(transaction)
    if transaction.state != .ongoing {
      transaction.state = .ongoing
      transaction.started_ms = cluster.now_ms
    }
    for (place, offset) in offsets.sorted(by: { ($0.key.topic, $0.key.partition) < ($1.key.topic, $1.key.partition) }) {
      transaction.offsets.removeAll { $0.place == place && $0.group == String(parts[0]) }
      transaction.offsets.append((String(parts[0]), place, offset))
    }
    try process.leave("sendOffsets", fault)
  }

  func commitTransaction(timeout_ms: Int) throws(KafkaError) {
    let fault = try process.enter("commit transaction")
    let transaction = transaction!
    guard transaction.epoch == epoch else { throw fenced("commit transaction") }
    send(buffer.count)
    if let failure { throw failure }
    if process.scheduler.lossRate > 0, transaction.state == .ongoing, cluster.random.below(50) == 0 {
      throw KafkaError(
        name: "_MSG_TIMED_OUT", "a message was not delivered", context: "commit transaction", requiresAbort: true)
    }
    if isInTransaction, transaction.state == .ongoing {
      cluster.decide(transaction, isCommit: true)
    } else if transaction.state == .aborting {
      throw fenced("commit transaction")
    }
    // A repeated request finds it committed.
    try process.leave("commit transaction", fault)
    isInTransaction = false
  }

  func abortTransaction(timeout_ms: Int) throws(KafkaError) {
    let fault = try process.enter("abort transaction")
    let transaction = transaction!
    guard transaction.epoch == epoch else { throw fenced("abort transaction") }
    buffer = []
    if transaction.state == .ongoing { cluster.decide(transaction, isCommit: false) }
    try process.leave("abort transaction", fault)
    isInTransaction = false
    failure = nil
  }
}

final class SimulatedReader: LogReader {
  private let process: SimulatedProcess
  private var storage = MessageStorage()

  init(_ process: SimulatedProcess) { self.process = process }

  func bounds(_ place: TopicPartition, timeout_ms: Int) throws(KafkaError) -> (low: Int64, stable: Int64) {
    let fault = try process.enter("bounds")
    try process.leave("bounds", fault)
    let log = process.cluster.log(place)
    return (log.low, log.stable)
  }

  func read(
    _ place: TopicPartition, from: Int64, end: Int64, _ body: (ConsumedMessage) -> Bool
  ) throws(KafkaError) {
    let fault = try process.enter("read")
    try process.leave("read", fault)
    let log = process.cluster.log(place)
    guard from >= log.low || from >= end else {
      throw KafkaError(name: "_AUTO_OFFSET_RESET", "the oldest offset is \(log.low)", context: "reading \(place)")
    }
    guard end <= log.stable else {
      throw KafkaError(name: "_TIMED_OUT", "it ends at \(log.stable)", context: "reading \(place)")
    }
    var offset = from
    while offset < end {
      defer { offset += 1 }
      guard log.isReadable(offset) else { continue }
      var goesOn = true
      SimulatedConsumer.hand(
        ConsumedMessage(
          topic: 0, partition: place.partition, offset: offset, timestamp_ms: 0, key: nil, value: nil),
        log.entries[Int(offset)], &storage
      ) { goesOn = body($0) }
      storage.removeAll()
      if !goesOn { return }
    }
  }

  func rest() {}
  func close() {}
}
