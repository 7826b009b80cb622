import Configuration
import Domain
import Kafka
import Logging

/// All tables of a configuration that are topics. Belongs to one thread.
final class TopicTables {
  private let configuration: Configuration
  private let environment: any WorkerEnvironment
  private let log: Logger
  private let reader: any LogReader
  private let tables: [TopicTable]
  private var partitions: [String: Int] = [:]
  private var encoder = DeadLetterEncoder()

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
    partitions = try Admin(properties: configuration.clientProperties(.admin)).topics()
    for source in sources where partitions[source.topic!] == nil {
      throw TopicCheckError(
        description: "\(source.words): there is no topic '\(source.topic!)' at \(configuration.kafka.bootstrap)")
    }
    reader = try environment.makeReader(configuration)
  }

  deinit { reader.close() }

  /// Reads on to the ends.
  /// - Parameter letter: Called with each dead letter that no process has reported yet.
  /// - Returns: what the topics hold.
  func read(_ letter: (_ key: [UInt8]?, _ value: [UInt8]) throws -> Void = { _, _ in }) throws -> TableEntries {
    var all: TableEntries = [:]
    for table in tables {
      let bad = try table.read(reader, partitions: partitions[table.topic] ?? 1) { body in
        try environment.retrying("asking for offsets", log: log, body)
      }
      for row in bad where row.offset >= reported[position(table, row.partition)] ?? 0 {
        log.warning(
          "a row of a table cannot be taken in",
          metadata: [
            "table": "\(table.source.name)", "topic": "\(table.topic)", "partition": "\(row.partition)",
            "offset": "\(row.offset)", "error": "\(row.message)",
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
      all[table.source.name] = table.entries
    }
    return all
  }

  private func position(_ table: TopicTable, _ partition: Int32) -> String {
    "\(TopicTables.positionPrefix)/\(table.source.name)/\(table.topic)/\(partition)"
  }

  /// How far the topics have been read, as messages for `<prefix>.tables`.
  var positions: [(key: String, offset: Int64)] {
    tables.flatMap { table in table.next.sorted { $0.key < $1.key }.map { (position(table, $0.key), $0.value) } }
  }

  /// Takes from `<prefix>.tables` how far somebody has read and reported before.
  func readPositions() throws {
    let place = TopicPartition(configuration.tablesTopic, 0)
    let (low, stable) = try environment.retrying("asking for offsets", log: log) { () throws(KafkaError) in
      try reader.bounds(place, timeout_ms: 30_000)
    }
    try reader.read(place, from: low, end: stable) { message in
      guard let key = message.key.map({ String(decoding: $0, as: UTF8.self) }), let value = message.value,
        key.hasPrefix(TopicTables.positionPrefix + "/"), let offset = Int64(String(decoding: value, as: UTF8.self))
      else { return true }
      reported[key] = max(reported[key] ?? 0, offset)
      return true
    }
  }
}

extension Configuration {
  /// This configuration with what the topics of its tables hold now; the same where there are none.
  public func readingTopicTables(log: Logger) throws -> Configuration {
    guard let topics = try TopicTables(self, log: log) else { return self }
    return try replacingTables(rereadTables(topics: topics.read()))
  }
}
