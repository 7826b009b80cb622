import Configuration
import Domain
import Kafka
import Logging

/// All tables of a configuration that are topics. Belongs to one thread.
final class TopicTables {
  private let configuration: Configuration
  private let environment: any WorkerEnvironment
  private let log: Logger
  private var reader: any LogReader
  /// By topic: partitions that the reader knows of.
  private var known: [String: Int] = [:]
  private let tables: [TopicTable]
  private let admin: Admin
  private var encoder = DeadLetterEncoder()
  /// By table: why it could not be read to its end the last time; the others were.
  private(set) var problems: [String: String] = [:]

  /// Records before these have been dead letters where they had to be: by table and partition, as `<prefix>.tables` says.
  private var reported: [String: Int64] = [:]
  static let positionPrefix = "read"

  /// - Returns: nil where none is a topic.
  init?(_ configuration: Configuration, log: Logger, environment: any WorkerEnvironment = KafkaEnvironment()) throws {
    let sources = configuration.topicTables
    guard !sources.isEmpty else { return nil }
    self.configuration = configuration
    self.environment = environment
    self.log = log
    tables = sources.map { TopicTable($0) }
    admin = try Admin(properties: configuration.clientProperties(.admin))
    reader = try environment.makeReader(configuration)
  }

  deinit { reader.close() }

  /// Reads on to the ends of all partitions that there are now, table by table: why one could not be read is in `problems`.
  /// - Parameter letter: Called with each dead letter that no process has reported yet.
  /// - Returns: what the topics hold that could be read.
  func read(_ letter: (_ key: [UInt8]?, _ value: [UInt8]) throws -> Void = { _, _ in }) throws -> TableEntries {
    var all: TableEntries = [:]
    defer { reader.rest() }
    // Partitions may have been added.
    let partitions = try environment.retrying("asking for partitions", log: log) { () throws(KafkaError) in
      try admin.topics()
    }
    if !known.isEmpty, tables.contains(where: { (partitions[$0.topic] ?? 0) > (known[$0.topic] ?? 0) }) {
      // A client learns of new partitions, and of a topic that comes back, in its own time.
      reader.close()
      reader = try environment.makeReader(configuration)
    }
    known = partitions
    // One that could not be read the last time does not let the others wait.
    let troubled = problems
    problems = [:]
    for table in tables.filter({ troubled[$0.source.name] == nil }) + tables.filter({ troubled[$0.source.name] != nil })
    {
      do {
        try read(table, partitions[table.topic], isTroubled: troubled[table.source.name] != nil)
      } catch let error as TableError {
        problems[table.source.name] = "\(error)"
        continue
      } catch let error as KafkaError where !error.isFatal {
        problems[table.source.name] = "\(table.source.words): the topic '\(table.topic)' cannot be read: \(error)"
        continue
      } catch let error as TopicCheckError {
        problems[table.source.name] = error.description
        continue
      }
      try report(table, letter)
      all[table.source.name] = table.entries
    }
    return all
  }

  private func read(_ table: TopicTable, _ partitions: Int?, isTroubled: Bool) throws {
    guard let partitions else {
      table.forget()
      forgetReported(table)
      throw TopicCheckError(
        description: "\(table.source.words): there is no topic '\(table.topic)' at \(configuration.kafka.bootstrap)")
    }
    let isAnother = try table.read(reader, partitions: partitions) { body in
      try isTroubled ? body() : environment.retrying("asking for offsets", log: log, body)
    }
    guard isAnother else { return }
    forgetReported(table)
    log.warning(
      "a topic of a table ends before what has been read of it, and is read from its beginning",
      metadata: ["table": "\(table.source.name)", "topic": "\(table.topic)"])
  }

  private func forgetReported(_ table: TopicTable) {
    reported = reported.filter { !$0.key.hasPrefix("\(TopicTables.positionPrefix)/\(table.source.name)/") }
  }

  /// What makes no row is a dead letter, where no process has said so before.
  private func report(_ table: TopicTable, _ letter: (_ key: [UInt8]?, _ value: [UInt8]) throws -> Void) throws {
    for row in table.bad where row.offset >= reported[position(table, row.partition)] ?? 0 {
      log.warning(
        "a row of a table cannot be taken in",
        metadata: [
          "table": "\(table.source.name)", "topic": "\(table.topic)", "partition": "\(row.partition)",
          "offset": "\(row.offset)", "key": "\(TopicTables.shown(row.key ?? []))", "error": "\(row.message)",
        ])
      try letter(
        row.key,
        encoder.encode(
          DeadLetter(
            source: table.source.name, origin: table.topic, isFile: false, partition: row.partition,
            offset: row.offset, key: row.key, payload: row.value,
            fault: DataFault(.schemaInvalid, detail: row.message), payloadBytes: row.value?.count ?? 0,
            receivedAt_ms: row.timestamp_ms > 0 ? row.timestamp_ms : nil)))
    }
    table.settle()
  }

  private static func shown(_ key: [UInt8]) -> String {
    String(decoding: key.prefix(DataFault.maximumQuotedBytes), as: UTF8.self)
  }

  /// Where the row of a key stands in its topic.
  func place(_ table: String, _ entry: String) -> (partition: Int32, offset: Int64, key: String)? {
    tables.first { $0.source.name == table }?.place(entry).map { ($0.partition, $0.offset, TopicTables.shown($0.key)) }
  }

  private func position(_ table: TopicTable, _ partition: Int32) -> String {
    TopicTables.position(table.source.name, TopicPartition(table.topic, partition))
  }

  /// How far the topics have been read, as messages for `<prefix>.tables`.
  var positions: [(key: String, offset: Int64)] {
    tables.flatMap { table in table.settled.sorted { $0.key < $1.key }.map { (position(table, $0.key), $0.value) } }
  }

  /// Takes from `<prefix>.tables` how far somebody has read and reported before, and rows that stayed in force.
  func readPositions() throws {
    reported = try TopicTables.positions(configuration, reader, environment) { key, value in
      guard let (name, identity, row) = TopicTables.keptRow(key, value) else { return }
      tables.first { $0.source.name == name }?.kept[identity] = row
    }
  }

  // MARK: - Rows that stay in force

  private static let keptPrefix = "kept"

  /// Rows that stay in force after bad records, as messages for `<prefix>.tables`.
  var keptRows: [(key: [UInt8], value: [UInt8])] {
    tables.flatMap { table in
      table.kept.sorted { ($0.key.partition, $0.value.offset) < ($1.key.partition, $1.value.offset) }.map {
        identity, row in
        let name = "\(TopicTables.keptPrefix)/\(table.source.name)/\(identity.partition)/\(row.offset)/"
        var value = ByteWriter(capacity: 64)
        for text in [row.key, row.value] {
          value.writeVarint(UInt64(text.utf8.count))
          value.write(bytes: Array(text.utf8))
        }
        return (Array(name.utf8) + identity.key, value.array)
      }
    }
  }

  private static func keptRow(
    _ key: [UInt8], _ value: [UInt8]
  ) -> (name: String, TopicTable.Identity, TopicTable.KeptRow)? {
    let parts = key.split(separator: UInt8(ascii: "/"), maxSplits: 4, omittingEmptySubsequences: false)
    guard parts.count == 5, parts[0].elementsEqual(keptPrefix.utf8),
      let partition = Int32(String(decoding: parts[2], as: UTF8.self)),
      let offset = Int64(String(decoding: parts[3], as: UTF8.self))
    else { return nil }
    let texts: [String]? = value.withUnsafeBytes { raw in
      var reader = ByteReader(raw)
      return try? (0..<2).map { _ throws(ByteCodingError) in
        String(decoding: try reader.readRaw(try reader.readCount(atMost: raw.count)), as: UTF8.self)
      }
    }
    guard let texts else { return nil }
    return (
      String(decoding: parts[1], as: UTF8.self), .init(partition: partition, key: Array(parts[4])),
      .init(offset: offset, key: texts[0], value: texts[1])
    )
  }

  /// How far topics of rows have been read and reported, by `<prefix>.tables`.
  static func positions(
    _ configuration: Configuration, _ reader: any LogReader, _ environment: any WorkerEnvironment,
    _ other: (_ key: [UInt8], _ value: [UInt8]) -> Void = { _, _ in }
  ) throws -> [String: Int64] {
    var reported: [String: Int64] = [:]
    let place = TopicPartition(configuration.tablesTopic, 0)
    let (low, stable) = try environment.retrying("asking for offsets", log: nil) { () throws(KafkaError) in
      try reader.bounds(place, timeout_ms: 30_000)
    }
    try reader.read(place, from: low, end: stable) { message in
      guard let bytes = message.key.map({ Array($0) }), let value = message.value else { return true }
      let key = String(decoding: bytes, as: UTF8.self)
      guard key.hasPrefix(positionPrefix + "/"), let offset = Int64(String(decoding: value, as: UTF8.self)) else {
        other(bytes, Array(value))
        return true
      }
      reported[key] = max(reported[key] ?? 0, offset)
      return true
    }
    return reported
  }

  static func position(_ name: String, _ place: TopicPartition) -> String {
    "\(positionPrefix)/\(name)/\(place.topic)/\(place.partition)"
  }
}

extension Configuration {
  /// This configuration with what the topics of its tables hold now; the same where there are none.
  public func readingTopicTables(log: Logger) throws -> Configuration {
    guard let topics = try TopicTables(self, log: log) else { return self }
    // Before the daemon has run for the first time there is nothing to know.
    try? topics.readPositions()
    let (configuration, problems) = TableTrial().take(self, try topics.read(), topics, isStart: true)
    guard problems.isEmpty else { throw MasterDataError(description: problems.map(\.text).joined(separator: "; ")) }
    return configuration
  }
}
