extension MemoryBroker {
  /// A transactional id, and the transaction that its owner has open.
  final class Transactional {
    enum State: Equatable { case empty, ongoing, ending(isCommit: Bool), ended(isCommit: Bool) }
    let producer: Int64
    var epoch: Int16 = 0
    /// Before the last time that the broker itself raised it.
    var epochBefore: Int16 = -1
    var state = State.empty
    var timeout_ms: Int64
    var started_ms: Int64 = 0
    var markersDue_ms: Int64 = 0
    var places: Set<TopicPartitionName> = []
    var groups: Set<String> = []

    init(producer: Int64, timeout_ms: Int64) {
      self.producer = producer
      self.timeout_ms = timeout_ms
    }

    func isOpen(_ place: TopicPartitionName, _ epoch: Int16) -> ErrorCode {
      if epoch < self.epoch { return .invalidProducerEpoch }
      return state == .ongoing && places.contains(place) ? .none : .invalidTransactionState
    }
  }

  private func end(_ transactional: Transactional, isCommit: Bool, _ now_ms: Int64) {
    transactional.state = .ending(isCommit: isCommit)
    transactional.markersDue_ms = now_ms + Int64.random(in: 0...options.markerDelay_ms)
  }

  /// Writes the markers that are due, and aborts what has been open for too long. True where anything changed.
  func moveTransactions(_ now_ms: Int64) -> Bool {
    var moved = false
    for transactional in transactionals.values {
      if transactional.state == .ongoing, now_ms - transactional.started_ms > transactional.timeout_ms {
        transactional.epochBefore = transactional.epoch
        transactional.epoch += 1
        end(transactional, isCommit: false, now_ms)
      }
      guard case .ending(let isCommit) = transactional.state, now_ms >= transactional.markersDue_ms else { continue }
      for place in transactional.places {
        partition(place)?.mark(
          producer: transactional.producer, epoch: transactional.epoch, isCommit: isCommit, now_ms: now_ms)
      }
      for name in transactional.groups {
        guard let offsets = groups[name]?.pending.removeValue(forKey: transactional.producer), isCommit else {
          continue
        }
        groups[name]?.offsets.merge(offsets) { $1 }
      }
      transactional.places = []
      transactional.groups = []
      transactional.state = .ended(isCommit: isCommit)
      moved = true
    }
    return moved
  }

  func initProducerID(
    _ id: String?, timeout_ms: Int64, producer: Int64, epoch: Int16
  ) throws(ErrorCode) -> (producer: Int64, epoch: Int16) {
    guard let id else {
      // An idempotent producer's identity is used up when its epoch is.
      if producer >= 0, epoch >= 0, epoch < Int16.max - 1 { return (producer, epoch + 1) }
      nextProducer += 1
      return (nextProducer, 0)
    }
    guard let known = transactionals[id] else {
      nextProducer += 1
      transactionals[id] = Transactional(producer: nextProducer, timeout_ms: timeout_ms)
      return (nextProducer, 0)
    }
    if producer >= 0 {
      guard producer == known.producer, epoch == known.epoch || epoch == known.epochBefore else {
        throw .producerFenced
      }
    }
    switch known.state {
    case .ending: throw .concurrentTransactions
    case .ongoing:
      // The former owner is fenced at once; the new one comes again when its transaction has been aborted.
      known.epochBefore = -1
      known.epoch += 1
      end(known, isCommit: false, MemoryBroker.now_ms())
      throw .concurrentTransactions
    case .empty, .ended:
      known.epochBefore = producer >= 0 ? known.epoch : -1
      known.epoch += 1
      known.timeout_ms = timeout_ms
      known.state = .empty
      return (known.producer, known.epoch)
    }
  }

  /// The transactional id, if this producer may use it.
  private func owned(_ id: String, _ producer: Int64, _ epoch: Int16) throws(ErrorCode) -> Transactional {
    guard let known = transactionals[id], known.producer == producer else { throw .invalidProducerIDMapping }
    guard known.epoch == epoch else { throw .invalidProducerEpoch }
    return known
  }

  /// The same, with a transaction open; it is begun where none is.
  private func joined(_ id: String, _ producer: Int64, _ epoch: Int16) throws(ErrorCode) -> Transactional {
    let known = try owned(id, producer, epoch)
    if case .ending = known.state { throw .concurrentTransactions }
    if known.state != .ongoing {
      known.state = .ongoing
      known.started_ms = MemoryBroker.now_ms()
    }
    return known
  }

  func addPartitions(
    _ id: String, _ producer: Int64, _ epoch: Int16, _ places: [TopicPartitionName]
  ) throws(ErrorCode) {
    guard places.allSatisfy({ partition($0) != nil }) else { throw .unknownTopicOrPartition }
    try joined(id, producer, epoch).places.formUnion(places)
  }

  func addGroup(_ id: String, _ producer: Int64, _ epoch: Int16, _ group: String) throws(ErrorCode) {
    try joined(id, producer, epoch).groups.insert(group)
  }

  func endTransaction(_ id: String, _ producer: Int64, _ epoch: Int16, isCommit: Bool) throws(ErrorCode) {
    let known = try owned(id, producer, epoch)
    switch known.state {
    case .ongoing: end(known, isCommit: isCommit, MemoryBroker.now_ms())
    case .ending(let was): throw was == isCommit ? .concurrentTransactions : .invalidTransactionState
    case .ended(let was) where was == isCommit: return
    case .ended, .empty: throw .invalidTransactionState
    }
  }

  /// Offsets that count when the transaction is committed.
  func commitOffsets(
    _ id: String, _ producer: Int64, _ epoch: Int16, group name: String, generation: Int32, member: String,
    instance: String?, _ offsets: [TopicPartitionName: Group.Offset]
  ) throws(ErrorCode) {
    let known = try owned(id, producer, epoch)
    guard known.state == .ongoing, known.groups.contains(name) else { throw .invalidTransactionState }
    let group = group(name)
    if generation >= 0 || !member.isEmpty || instance != nil {
      try group.check(member: member, instance: instance, generation: generation)
    }
    group.pending[producer, default: [:]].merge(offsets) { $1 }
  }
}
