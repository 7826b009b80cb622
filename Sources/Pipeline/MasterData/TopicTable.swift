import Configuration
import Domain
import Kafka

/// A table, the calendar or rates as a compacted topic holds them: the newest record under each key, those without a value
/// left out. What it holds does not depend on how often it was read, nor on what compaction has removed.
///
/// A record that makes no row leaves nothing under its key; of posting policies, it leaves what stood there in force.
final class TopicTable {
  /// A record that makes no row: it is a dead letter, and what stood under its key is gone.
  struct BadRow {
    var partition: Int32
    var offset: Int64
    var timestamp_ms: Int64
    var key: [UInt8]?
    var value: [UInt8]?
    var message: String
  }

  struct Identity: Hashable {
    var partition: Int32
    var key: [UInt8]
  }

  /// A row that stays in force although the newest record under its key, at this offset, is none.
  struct KeptRow: Equatable {
    var offset: Int64
    var key: String
    var value: String
  }

  let source: TableSource
  var topic: String { source.topic! }
  private var rows: [Identity: (offset: Int64, key: String, value: String)] = [:]
  /// `entries`, until something comes: a large table is seldom another one when it is looked at.
  private var made: [String: String]?
  /// Where a bad record has come after a row of posting policies. Given before the first reading, they stand for the rows
  /// that compaction has removed since.
  var kept: [Identity: KeptRow] = [:]
  /// By partition: the next record to read.
  private(set) var next: [Int32: Int64] = [:]
  /// What made no row and has not been reported.
  private(set) var bad: [BadRow] = []
  /// The most rows that a table may have, at some 200 bytes each.
  static let maximumRows = 1_000_000

  init(_ source: TableSource) { self.source = source }

  /// The topic is gone: one of its name that comes is another one, and is read from its beginning.
  func forget() {
    (rows, next, made, bad, kept) = ([:], [:], nil, [], [:])
  }

  /// What made no row has been reported.
  func settle() { bad = [] }

  /// By partition: where the records begin that have not been read, or not been reported.
  var settled: [Int32: Int64] {
    bad.reduce(into: next) { $0[$1.partition] = min($0[$1.partition] ?? $1.offset, $1.offset) }
  }

  /// Reads on to the end of every partition; what makes no row comes to `bad`.
  /// - Returns: whether it is another topic of the same name: it ends before what has been read. Then all of it is read.
  func read(
    _ reader: any LogReader, partitions: Int,
    _ retrying: (() throws(KafkaError) -> (low: Int64, stable: Int64)) throws
      -> (low: Int64, stable: Int64)
  ) throws -> Bool {
    var bounds: [(low: Int64, stable: Int64)] = []
    for partition in 0..<Int32(partitions) {
      let place = TopicPartition(topic, partition)
      bounds.append(try retrying { () throws(KafkaError) in try reader.bounds(place, timeout_ms: 30_000) })
    }
    let isAnother = bounds.indices.contains { bounds[$0].stable < next[Int32($0)] ?? 0 }
    if isAnother { forget() }
    for partition in 0..<Int32(partitions) {
      let place = TopicPartition(topic, partition)
      let (low, stable) = bounds[Int(partition)]
      let from = max(low, next[partition] ?? low)
      // From a reading that broke off.
      bad.removeAll { $0.partition == partition && $0.offset >= from }
      try reader.read(place, from: from, end: stable) { message in
        take(message, partition)
        return true
      }
      next[partition] = max(stable, from)
    }
    guard rows.count <= TopicTable.maximumRows else {
      throw TableError(
        file: topic, line: 0, message: "\(source.words) has more than \(TopicTable.maximumRows) rows")
    }
    return isAnother
  }

  private func take(_ message: ConsumedMessage, _ partition: Int32) {
    let key = message.key.map { Array($0) }
    let identity = Identity(partition: partition, key: key ?? [])
    let before = rows.removeValue(forKey: identity)
    made = nil
    guard let value = message.value.map({ Array($0) }) else { return }
    func refuse(_ text: String) {
      if source.kind == .policies {
        let known = kept[identity].flatMap { $0.offset == message.offset ? $0 : nil }
        if let row = before.map({ KeptRow(offset: message.offset, key: $0.key, value: $0.value) }) ?? known {
          rows[identity] = (row.offset, row.key, row.value)
          kept[identity] = row
        }
      }
      bad.append(
        BadRow(
          partition: partition, offset: message.offset, timestamp_ms: message.timestamp_ms, key: key, value: value,
          message: text))
    }
    guard key != nil else { return refuse("it has no key, and a compacted topic's records have one") }
    do {
      let entry = try source.entry(key: key, value: value)
      rows[identity] = (message.offset, entry.key, entry.value)
    } catch { refuse("\(error)") }
  }

  /// Where the row of a key of `entries` stands; nil where the configuration itself has it.
  func place(_ entry: String) -> (partition: Int32, offset: Int64, key: [UInt8])? {
    let found = rows.filter { $0.value.key == entry }
      .max { ($0.key.partition, $0.value.offset) < ($1.key.partition, $1.value.offset) }
    return found.map { ($0.key.partition, $0.value.offset, $0.key.key) }
  }

  /// The rows by their own key. Where records under different keys say the same row, the one that comes last in the order
  /// of partitions and offsets counts.
  var entries: [String: String] {
    if let made { return made }
    var entries: [String: String] = [:]
    entries.reserveCapacity(rows.count)
    for (_, row) in rows.sorted(by: { ($0.key.partition, $0.value.offset) < ($1.key.partition, $1.value.offset) }) {
      entries[row.key] = row.value
    }
    made = entries
    return entries
  }
}
