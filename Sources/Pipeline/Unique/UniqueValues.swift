import Decoding
import Domain

/// The values of rules of uniqueness that are within their time, with the records that have them: finds those that are not
/// the first. A function of the set of records, in whatever order they come.
///
/// Its state is what it has read of the topic of partials, where the tasks write records and the stage what it has told
/// and what it has forgotten: reading the compacted topic from the beginning is the whole recovery.
struct UniqueValues {
  /// What is to be written.
  enum Output {
    case aBreak(Break)
    case message(UniqueMessage, partition: Int32)
    /// So many breaks have been opened in the partition, and that is more than before.
    case opened(Int64, partition: Int32)
  }

  struct Counts: Sendable, Equatable {
    /// Records that are held.
    var records = 0
    /// Records whose value another one had before, told since the process has run here.
    var duplicates = 0
    /// Records that had to go before their time, or could not be held.
    var dropped = 0
  }

  private struct Entry {
    var record: UniqueRecord
    var partition: Int32
  }

  /// The records of one value in order of precedence: a value that everybody has is found in steps of its logarithm.
  private final class Group {
    private(set) var entries: [Entry] = []
    /// By identity: what finds the record in the order.
    private var keys: [ValueDigest: (time_ms: Int64, order: String)] = [:]
    /// Event times of the first and the last record that came or went since the value was last judged.
    var changed: ClosedRange<Int64>?

    func holds(_ identity: ValueDigest) -> Bool { keys[identity] != nil }

    func record(_ identity: ValueDigest) -> UniqueRecord? { place(of: identity).map { entries[$0].record } }

    /// The first place for which a condition that holds from some place on is true.
    private func first(_ isReached: (UniqueRecord) -> Bool) -> Int {
      var (low, high) = (0, entries.count)
      while low < high {
        let middle = (low + high) / 2
        if isReached(entries[middle].record) { high = middle } else { low = middle + 1 }
      }
      return low
    }

    func first(from time_ms: Int64) -> Int { first { $0.time_ms >= time_ms } }

    private func place(of identity: ValueDigest) -> Int? {
      guard let (time_ms, order) = keys[identity] else { return nil }
      return first { !$0.precedes(time_ms, order, identity) }
    }

    private func note(_ time_ms: Int64) {
      changed = min(changed?.lowerBound ?? time_ms, time_ms)...max(changed?.upperBound ?? time_ms, time_ms)
    }

    func insert(_ entry: Entry) {
      let record = entry.record
      entries.insert(entry, at: first { !$0.precedes(record) })
      keys[record.identity] = (record.time_ms, record.order)
      note(record.time_ms)
    }

    func replace(_ record: UniqueRecord) { entries[place(of: record.identity)!].record = record }

    func remove(_ identity: ValueDigest) -> Entry? {
      guard let at = place(of: identity) else { return nil }
      keys[identity] = nil
      return entries.remove(at: at)
    }

    /// A record is not where it was: those behind it may be duplicates of another one.
    func move(_ record: UniqueRecord, _ partition: Int32) {
      guard let old = remove(record.identity) else { return }
      note(old.record.time_ms)
      insert(Entry(record: record, partition: partition))
    }

    /// The earliest record before one that is near enough, of those that are no part of the same document.
    func original(of at: Int) -> UniqueRecord? {
      let record = entries[at].record
      let (from_ms, overflow) = record.time_ms.subtractingReportingOverflow(record.within_ms)
      let from = first(from: overflow ? .min : from_ms)
      guard from < at else { return nil }
      return entries[from..<at].first { $0.record.document != record.document }?.record
    }
  }

  private struct Told {
    var revision: Int64
    var original: ValueDigest
    var opened: Int64
  }

  /// Records that are held.
  let maximum: Int
  /// By value.
  private var groups: [ValueDigest: Group] = [:]
  private var told: [UniqueKey: Told] = [:]
  /// By the day of event time after which they do not matter any more.
  private var due: [Int32: [UniqueKey]] = [:]
  /// Where records of values had to go: their values' partitions.
  private var evicted: [(key: UniqueKey, partition: Int32)] = []
  private var changed: Set<ValueDigest> = []
  /// By partition: breaks opened so far.
  private(set) var opened: [Int32: Int64] = [:]
  /// By partition: how often something was told. Whoever takes over must have read as many.
  private(set) var tellings: [Int32: Int64] = [:]
  private(set) var counts = Counts()
  /// Duplicates by rule, as counts of rules are named: `orders: document`.
  private(set) var duplicatesByRule: [String: Int] = [:]

  init(maximum: Int) { self.maximum = max(1, maximum) }

  /// - Parameter asOf_ms: Event time that is complete by what has been read: what is too old by then is not taken in any
  ///   more, be it sent a second time or late.
  mutating func apply(_ message: UniqueMessage, partition: Int32, asOf_ms: Int64 = .min) {
    switch message {
    case .record(let key, let record):
      if asOf_ms > .min, UniqueValues.lastDay(record) < day(ofMilliseconds: asOf_ms) {
        evicted.append((key, partition))
      } else {
        insert(key, record, partition)
      }
    case .told(let key, let revision, let original, let number):
      if told[key].map({ $0.revision <= revision }) ?? true {
        told[key] = Told(revision: revision, original: original, opened: number)
      }
      if number > 0 { opened[partition] = max(opened[partition] ?? 0, number) }
    case .opened(let count, let telling):
      opened[partition] = max(opened[partition] ?? 0, count)
      tellings[partition] = max(tellings[partition] ?? 0, telling)
    case .forgotten(let key):
      // Deleting a record deletes what was told of it.
      _ = remove(key)
      told[key] = nil
    }
  }

  private mutating func insert(_ key: UniqueKey, _ record: UniqueRecord, _ partition: Int32) {
    let group = groups[key.value] ?? Group()
    groups[key.value] = group
    changed.insert(key.value)
    if let known = group.record(key.identity) {
      // The same record again; where it stands may have changed, and nothing else should have.
      if known.time_ms == record.time_ms, known.order == record.order {
        group.replace(record)
        return
      }
      group.move(record, partition)
    } else {
      group.insert(Entry(record: record, partition: partition))
      counts.records += 1
    }
    due[UniqueValues.lastDay(record), default: []].append(key)
    if counts.records > maximum { evict() }
  }

  private static func lastDay(_ record: UniqueRecord) -> Int32 {
    let (last_ms, overflow) = record.time_ms.addingReportingOverflow(record.within_ms)
    return day(ofMilliseconds: overflow ? .max : last_ms)
  }

  /// Lets the record go that matters for the shortest time.
  private mutating func evict() {
    while let first = due.keys.min() {
      let key = due[first]!.removeLast()
      if due[first]!.isEmpty { due[first] = nil }
      // What has moved stands there under another day, too.
      guard let record = groups[key.value]?.record(key.identity), UniqueValues.lastDay(record) == first,
        let entry = remove(key)
      else { continue }
      evicted.append((key, entry.partition))
      told[key] = nil
      counts.dropped += 1
      return
    }
  }

  private mutating func remove(_ key: UniqueKey) -> Entry? {
    guard let group = groups[key.value], let entry = group.remove(key.identity) else { return nil }
    if group.entries.isEmpty { groups[key.value] = nil }
    counts.records -= 1
    return entry
  }

  /// What has become known since the last call, which counts as told; and what does not matter any more, now that event
  /// time is complete up to `asOf_ms`.
  mutating func take(asOf_ms: Int64) -> [Output] {
    var outputs: [Output] = []
    var opening: Set<Int32> = []
    let before = opened
    for value in changed.sorted() { judge(value, &outputs, &opening) }
    changed = []
    for (partition, count) in opened.sorted(by: { $0.key < $1.key }) where count > before[partition] ?? 0 {
      outputs.append(.opened(count, partition: partition))
    }
    for partition in opening.sorted() {
      tellings[partition, default: 0] += 1
      outputs.append(
        .message(.opened(opened[partition] ?? 0, telling: tellings[partition]!), partition: partition))
    }
    for (key, partition) in evicted { outputs.append(.message(.forgotten(key), partition: partition)) }
    evicted = []
    if asOf_ms > .min { forget(before_d: day(ofMilliseconds: asOf_ms), &outputs) }
    return outputs
  }

  /// Judges those that what has come or gone may have made duplicates, or duplicates of another one.
  private mutating func judge(_ value: ValueDigest, _ outputs: inout [Output], _ opening: inout Set<Int32>) {
    guard let group = groups[value], let changed = group.changed else { return }
    group.changed = nil
    for at in group.first(from: changed.lowerBound)..<group.entries.count {
      let (record, partition) = (group.entries[at].record, group.entries[at].partition)
      let (distance_ms, overflow) = record.time_ms.subtractingReportingOverflow(changed.upperBound)
      guard !overflow, distance_ms <= record.within_ms else { break }
      guard let original = group.original(of: at) else { continue }
      let key = UniqueKey(value: value, identity: record.identity)
      let known = told[key]
      // One that has been forgotten since stays the original.
      if let known, known.original == original.identity || !group.holds(known.original) { continue }
      let revision = (known?.revision ?? 0) + 1
      var number = known?.opened ?? 0
      if known == nil {
        counts.duplicates += 1
        duplicatesByRule["\(record.source): \(record.rule)", default: 0] += 1
        if record.flags {
          opened[partition, default: 0] += 1
          number = opened[partition]!
        }
      }
      opening.insert(partition)
      told[key] = Told(revision: revision, original: original.identity, opened: number)
      if record.flags { outputs.append(.aBreak(UniqueValues.made(key, record, original, revision))) }
      outputs.append(
        .message(.told(key, revision: revision, original: original.identity, opened: number), partition: partition))
    }
  }

  private mutating func forget(before_d: Int32, _ outputs: inout [Output]) {
    for last in due.keys.filter({ $0 < before_d }).sorted() {
      for key in due.removeValue(forKey: last)!.sorted() {
        guard let record = groups[key.value]?.record(key.identity),
          UniqueValues.lastDay(record) == last, let entry = remove(key)
        else { continue }
        told[key] = nil
        outputs.append(.message(.forgotten(key), partition: entry.partition))
      }
    }
  }

  // MARK: - Breaks

  /// What stands behind the role in the id of such a break, before the digits that tell them apart.
  private static let mark = ":="

  private static func id(_ key: UniqueKey, _ order: String) -> String {
    let number = String(key.value.high ^ key.identity.high, radix: 16)
    return Break.id(order: order, type: .dataQuality, role: .receivable) + mark
      + String(repeating: "0", count: 16 - number.utf8.count) + number
  }

  /// Whether a break was told by the second stage, and is in no task's epochs.
  static func isUnique(id: String, order: String) -> Bool {
    id.hasPrefix(Break.id(order: order, type: .dataQuality, role: .receivable) + mark)
  }

  private static func made(
    _ key: UniqueKey, _ record: UniqueRecord, _ original: UniqueRecord, _ revision: Int64
  ) -> Break {
    var made = Break(
      id: id(key, record.order), order: record.order, type: .dataQuality, role: .receivable, currency: record.currency,
      expected: nil, posted: nil, state: .open, isProvisional: false, revision: Int(revision),
      firstEventTime_ms: record.time_ms, deadline_ms: record.time_ms, asOf_ms: record.time_ms)
    made.customer = record.customer
    made.dimensions = record.dimensions
    if !record.id.isEmpty {
      if record.isOrder { made.events = [record.id] } else { made.journals = [record.id] }
    }
    made.reason =
      "rule '\(record.rule)': \(record.subject) of \(record.place) is that of \(original.place) already, of order "
      + original.order
    return made
  }
}
