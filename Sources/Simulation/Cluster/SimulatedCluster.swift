import Kafka

/// A Kafka cluster in memory, with virtual time and seeded faults. It keeps to the broker's rules where they decide
/// whether something is lost or doubled: transactions with control records and the last stable offset, fencing of
/// producers by epoch and of members by generation, offsets that are part of a transaction, compaction, retention.
///
/// One thread at a time: the scheduler hands the turn from one process to the next. Source of the rules: Kafka's
/// protocol documentation, KIP-98, KIP-345, KIP-447.
final class SimulatedCluster: @unchecked Sendable {
  struct Entry {
    enum Kind { case record, commit, abort }
    var kind = Kind.record
    /// Whose transaction it is part of; −1 for none.
    var producer = -1
    var isAborted = false
    /// Compacted away: the offset stays, the record is gone.
    var isGone = false
    var key: [UInt8]?
    var value: [UInt8]?
  }

  final class Log {
    var entries: [Entry] = []
    /// Offset of the oldest entry that is kept.
    var low: Int64 = 0
    /// First offsets of the open transactions, by producer.
    var open: [(producer: Int, first: Int64)] = []

    var end: Int64 { Int64(entries.count) }
    /// Up to here a `read_committed` reader may read.
    var stable: Int64 { open.map(\.first).min() ?? end }

    func append(_ entry: Entry) {
      if entry.producer >= 0, entry.kind == .record, !open.contains(where: { $0.producer == entry.producer }) {
        open.append((entry.producer, end))
      }
      entries.append(entry)
    }

    func mark(_ producer: Int, _ kind: Entry.Kind) {
      guard let at = open.firstIndex(where: { $0.producer == producer }) else { return }
      if kind == .abort {
        for index in Int(open[at].first)..<entries.count
        where entries[index].producer == producer && entries[index].kind == .record {
          entries[index].isAborted = true
        }
      }
      open.remove(at: at)
      entries.append(Entry(kind: kind, producer: producer))
    }

    /// Keeps the newest of each key below the last stable offset, and the last record.
    func compact() {
      var seen: Set<[UInt8]> = []
      for index in stride(from: Int(stable) - 1, through: Int(low), by: -1) {
        guard entries[index].kind == .record, !entries[index].isAborted, !entries[index].isGone,
          let key = entries[index].key
        else { continue }
        if !seen.insert(key).inserted { entries[index].isGone = true }
      }
    }

    func isReadable(_ offset: Int64) -> Bool {
      let entry = entries[Int(offset)]
      return entry.kind == .record && !entry.isAborted && !entry.isGone
    }
  }

  final class Transactional {
    enum State { case empty, ongoing, committing, aborting }
    let number: Int
    var epoch = 0
    var state = State.empty
    var places: [TopicPartition] = []
    var offsets: [(group: String, place: TopicPartition, offset: CommittedOffset)] = []
    var started_ms: Int64 = 0
    /// Partitions (and, as nil, the group's offsets) that still wait for their marker.
    var markers: [TopicPartition?] = []
    /// The last transaction of this epoch was committed: a repeated request is answered the same.
    var lastWasCommit = false

    init(number: Int) { self.number = number }
  }

  struct Member {
    var id: Int
    var instance: String
    var process: SimulatedProcess
    var lastHeard_ms: Int64
    var hasJoined = false
    var assignment: [TopicPartition] = []
    var topics: [String]
  }

  final class Group {
    var generation = 0
    var members: [Member] = []
    var isPreparing = false
    var deadline_ms: Int64 = 0
    var offsets: [TopicPartition: CommittedOffset] = [:]
    /// Members that may rejoin are waited for so long at the most.
    static let rebalanceTimeout_ms: Int64 = 20_000
  }

  static let sessionTimeout_ms: Int64 = 6_000
  static let transactionTimeout_ms: Int64 = 10_000

  var random: SeededRandom
  var now_ms: Int64 = 0
  private var logs: [TopicPartition: Log] = [:]
  private var counts: [String: Int] = [:]
  private var transactionals: [(id: String, state: Transactional)] = []
  private var groups: [(name: String, group: Group)] = []
  private var nextMember = 1
  /// Until then no request is answered.
  /// How often records of a held topic were there and not taken.
  var withheld = 0
  var downUntil_ms: Int64 = 0
  /// Markers are written late in this many of a hundred transactions.
  var lateMarkers = 30

  init(random: SeededRandom) { self.random = random }

  // MARK: - Topics

  func createTopic(_ name: String, partitions: Int) {
    counts[name] = partitions
    for partition in 0..<partitions { logs[TopicPartition(name, Int32(partition))] = Log() }
  }

  func partitions(of topic: String) -> Int { counts[topic] ?? 0 }
  func log(_ place: TopicPartition) -> Log { logs[place]! }

  /// Where every producer sends a key.
  func partition(of topic: String, _ key: [UInt8]) -> Int32 {
    var hash: UInt64 = 1_469_598_103_934_665_603
    for byte in key { hash = (hash ^ UInt64(byte)) &* 1_099_511_628_211 }
    return Int32((hash >> 8) % UInt64(partitions(of: topic)))
  }

  /// What a `read_committed` reader sees now.
  func readCommitted(_ place: TopicPartition) -> [(offset: Int64, key: [UInt8]?, value: [UInt8]?)] {
    let log = log(place)
    return (log.low..<max(log.low, log.stable)).filter { log.isReadable($0) }.map {
      ($0, log.entries[Int($0)].key, log.entries[Int($0)].value)
    }
  }

  // MARK: - Transactions

  func transactional(_ id: String) -> Transactional {
    if let known = transactionals.first(where: { $0.id == id }) { return known.state }
    let made = Transactional(number: transactionals.count)
    transactionals.append((id, made))
    return made
  }

  /// The coordinator takes a new owner: what is decided is finished, what is open is aborted.
  func initialise(_ transaction: Transactional) -> Int {
    finishMarkers(transaction)
    if transaction.state == .ongoing { decide(transaction, isCommit: false) }
    finishMarkers(transaction)
    transaction.epoch += 1
    transaction.lastWasCommit = false
    return transaction.epoch
  }

  /// From here on the outcome is fixed; the markers follow, each in its own time.
  func decide(_ transaction: Transactional, isCommit: Bool) {
    transaction.state = isCommit ? .committing : .aborting
    transaction.lastWasCommit = isCommit
    transaction.markers = transaction.places.map(Optional.some) + (transaction.offsets.isEmpty ? [] : [nil])
    // In any order.
    for at in transaction.markers.indices.dropFirst().reversed() {
      transaction.markers.swapAt(at, random.below(at + 1))
    }
    if random.below(100) >= lateMarkers { finishMarkers(transaction) }
  }

  func finishMarkers(_ transaction: Transactional) {
    while !transaction.markers.isEmpty { writeMarker(transaction) }
  }

  private func writeMarker(_ transaction: Transactional) {
    let isCommit = transaction.state == .committing
    if let place = transaction.markers.removeLast() {
      log(place).mark(transaction.number, isCommit ? .commit : .abort)
    } else {
      if isCommit { for (name, place, offset) in transaction.offsets { group(name).offsets[place] = offset } }
      transaction.offsets = []
    }
    if transaction.markers.isEmpty {
      transaction.state = .empty
      transaction.places = []
      transaction.offsets = []
    }
  }

  /// Whether a group's offset of a place may still change by a transaction that is under way.
  func isUnstable(_ group: String, _ place: TopicPartition) -> Bool {
    transactionals.contains { $0.state.offsets.contains { $0.group == group && $0.place == place } }
  }

  // MARK: - Groups

  func group(_ name: String) -> Group {
    if let known = groups.first(where: { $0.name == name }) { return known.group }
    let made = Group()
    groups.append((name, made))
    return made
  }

  /// A member joins; a static one takes the place of its predecessor.
  func join(_ group: Group, _ process: SimulatedProcess, instance: String, topics: [String]) -> Int {
    let id = nextMember
    nextMember += 1
    if !instance.isEmpty, let at = group.members.firstIndex(where: { $0.instance == instance }) {
      group.members[at].id = id
      group.members[at].process = process
      group.members[at].lastHeard_ms = now_ms
      group.members[at].hasJoined = true
      return id
    }
    var member = Member(id: id, instance: instance, process: process, lastHeard_ms: now_ms, topics: topics)
    member.hasJoined = true
    group.members.append(member)
    prepare(group)
    return id
  }

  func prepare(_ group: Group) {
    if !group.isPreparing {
      group.isPreparing = true
      group.deadline_ms = now_ms + Group.rebalanceTimeout_ms
      for at in group.members.indices where !group.members[at].assignment.isEmpty {
        group.members[at].hasJoined = false
      }
    }
  }

  func leave(_ group: Group, _ id: Int) {
    guard let at = group.members.firstIndex(where: { $0.id == id }) else { return }
    group.members.remove(at: at)
    prepare(group)
  }

  private func complete(_ group: Group) {
    group.isPreparing = false
    group.generation += 1
    group.members.sort { ($0.instance, $0.id) < ($1.instance, $1.id) }
    guard let topics = group.members.first?.topics else { return }
    for at in group.members.indices { group.members[at].assignment = [] }
    for topic in topics {
      // The range assignor: runs of partitions, the first members get one more.
      let count = partitions(of: topic)
      let (share, rest) = (count / group.members.count, count % group.members.count)
      var partition = 0
      for at in group.members.indices {
        for _ in 0..<share + (at < rest ? 1 : 0) {
          group.members[at].assignment.append(TopicPartition(topic, Int32(partition)))
          partition += 1
        }
      }
    }
  }

  // MARK: - Time

  /// What happens by itself as time goes on.
  func tick() {
    for (_, group) in groups {
      for at in group.members.indices where group.members[at].process.isResponsive {
        group.members[at].lastHeard_ms = now_ms
      }
      let before = group.members.count
      group.members.removeAll { now_ms - $0.lastHeard_ms > SimulatedCluster.sessionTimeout_ms }
      if group.members.count != before { prepare(group) }
      if group.isPreparing {
        if now_ms >= group.deadline_ms { group.members.removeAll { !$0.hasJoined } }
        if group.members.allSatisfy(\.hasJoined) { complete(group) }
      }
    }
    for (_, transaction) in transactionals {
      if !transaction.markers.isEmpty, random.below(3) == 0 { writeMarker(transaction) }
      if transaction.state == .ongoing, now_ms - transaction.started_ms > SimulatedCluster.transactionTimeout_ms {
        // The owner is fenced with it.
        transaction.epoch += 1
        decide(transaction, isCommit: false)
      }
    }
  }
}
