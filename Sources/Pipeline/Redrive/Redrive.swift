import Configuration
import Decoding
import Domain
import Foundation
import Kafka
import SchemaRegistry

/// Sends records that became dead letters to their source once more, after what was wrong has been put right: a table has
/// the entry now, a rule was mistaken.
///
/// The bytes come from the source topic, at the place that the dead letter names, else from the dead letter where it has all
/// of them; they go to the same partition, under the same key. Each place is sent once: what has been sent is written to
/// `<prefix>.redriven`, in the same transaction as the record. A record that is refused again is a dead letter with
/// another place.
public final class Redrive {
  public struct Selection: Sendable {
    /// Empty for all.
    public var sources: Set<String> = []
    public var reasons: Set<DataFaultReason> = []
    public var fields: Set<String> = []
    /// When the record was refused.
    public var times_ms: ClosedRange<Int64> = .min ... .max
    /// Says what would be sent, and sends nothing.
    public var isTrial = false

    public init() {}
  }

  public struct Report: Sendable, Equatable {
    /// Dead letters that were selected, each place once.
    public var selected = 0
    public var sent = 0
    /// Sent by an earlier run.
    public var known = 0
    /// Neither in the source topic any more, nor whole in the dead letter.
    public var gone: [String] = []
    /// Dead letters that are none, or of sources that the configuration does not have.
    public var foreign = 0
  }

  private struct Letter: Decodable {
    var source: String
    var topic: String?
    var partition: Int32?
    var offset: Int64?
    var reason: String
    var field: String
    var received_at: String?
    var key: String?
    var key_base64: Data?
    var payload: String?
    var payload_base64: Data?
    var payload_bytes: Int
  }

  private struct Place: Hashable {
    var topic: String
    var partition: Int32
    var offset: Int64
    var name: String { "\(topic)/\(partition)/\(offset)" }
  }

  private let configuration: Configuration
  private let environment: any WorkerEnvironment
  private let reader: any LogReader
  private let producer: any RecordProducer
  private let isExactlyOnce: Bool
  /// Records of a transaction.
  private static let batch = 500

  /// - Throws: where the broker is not reached, or the topic of what has been sent is not there and cannot be made.
  public init(_ configuration: Configuration, environment: any WorkerEnvironment = KafkaEnvironment()) throws {
    self.configuration = configuration
    self.environment = environment
    let admin = try Admin(properties: configuration.clientProperties(.admin))
    if try admin.topics()[configuration.redrivenTopic] == nil {
      _ = try admin.createTopic(
        configuration.redrivenTopic, partitions: 1, replication: configuration.kafka.replication,
        config: ["cleanup.policy": "compact"])
      guard try admin.await([configuration.redrivenTopic]).isEmpty else {
        throw TopicCheckError(description: "no leader has been seen of \(configuration.redrivenTopic)")
      }
    }
    isExactlyOnce = configuration.kafka.delivery == .exactlyOnce && admin.clusterID()?.hasPrefix("mock") != true
    reader = try environment.makeReader(configuration)
    // A run that is still going on is fenced: what it has committed is seen below, what it has not never was.
    producer = try environment.makeProducer(
      configuration, transactionalID: isExactlyOnce ? "\(configuration.kafka.group)-redrive" : nil)
    if isExactlyOnce {
      try environment.retrying("taking over the transactional id", log: nil) { [producer] () throws(KafkaError) in
        try producer.initTransactions(timeout_ms: 30_000)
      }
    }
  }

  deinit { reader.close() }

  public func run(_ selection: Selection) throws -> Report {
    var report = Report()
    let admin = try Admin(properties: configuration.clientProperties(.admin))
    let topics = try admin.topics()
    guard let partitions = topics[configuration.deadLettersTopic] else {
      throw TopicCheckError(description: "there is no topic '\(configuration.deadLettersTopic)'")
    }
    let sent = try markers(partitions: topics[configuration.redrivenTopic] ?? 1)
    var chosen: [Place: Letter] = [:]
    let outputs = OutputReader(configuration)
    var problem: SchemaRegistryError?
    for partition in 0..<Int32(partitions) {
      try readAll(TopicPartition(configuration.deadLettersTopic, partition)) { message in
        guard problem == nil, let value = message.value else { return }
        var json: [UInt8]?
        do {
          json = try outputs.json(value)
        } catch let error as SchemaRegistryError {
          problem = error
          return
        } catch {}
        guard let json, let letter = try? JSONDecoder().decode(Letter.self, from: Data(json)),
          let topic = letter.topic, let partition = letter.partition, let offset = letter.offset,
          let source = self.configuration.sources.first(where: { $0.name == letter.source }),
          source.originalTopic == topic
        else {
          report.foreign += 1
          return
        }
        guard selection.takes(letter.source, letter.reason, letter.field, letter.received_at) else { return }
        chosen[Place(topic: topic, partition: partition, offset: offset)] = letter
      }
    }
    if let problem { throw problem }
    report.selected = chosen.count
    let due = chosen.keys.filter { !sent.contains($0.name) }.sorted {
      ($0.topic, $0.partition, $0.offset) < ($1.topic, $1.partition, $1.offset)
    }
    report.known = chosen.count - due.count
    var start = 0
    while start < due.count {
      let end = min(due.count, start + Redrive.batch)
      try send(due[start..<end].map { ($0, chosen[$0]!) }, selection.isTrial, &report)
      start = end
    }
    return report
  }

  private func send(_ letters: [(place: Place, letter: Letter)], _ isTrial: Bool, _ report: inout Report) throws {
    var records: [(place: Place, key: [UInt8]?, value: [UInt8])] = []
    for (place, letter) in letters {
      if let record = try bytes(place, letter) {
        records.append((place, record.key, record.value))
      } else {
        report.gone.append("topic \(place.topic), partition \(place.partition), offset \(place.offset)")
      }
    }
    report.sent += records.count
    guard !isTrial, !records.isEmpty else { return }
    let mark = Array("{\"redriven_at\":\"\(formatTimestamp(environment.wallClock_ms()))\"}".utf8)
    do throws(KafkaError) {
      if isExactlyOnce { try producer.beginTransaction() }
      for record in records {
        try produce(record.place.topic, record.place.partition, record.key, record.value)
        if isExactlyOnce { try produce(configuration.redrivenTopic, nil, Array(record.place.name.utf8), mark) }
      }
      if isExactlyOnce {
        try environment.retrying("committing the transaction", log: nil) { () throws(KafkaError) in
          try producer.commitTransaction(timeout_ms: 30_000)
        }
      } else {
        // Without transactions a run that ends here sends them once more, and the ids of the records tell.
        try producer.flush(timeout_ms: 60_000)
        for record in records { try produce(configuration.redrivenTopic, nil, Array(record.place.name.utf8), mark) }
        try producer.flush(timeout_ms: 60_000)
      }
    } catch {
      if isExactlyOnce, !error.isFatal { try? producer.abortTransaction(timeout_ms: 30_000) }
      throw error
    }
  }

  /// Key and value of the record; nil where nobody has them any more.
  private func bytes(_ place: Place, _ letter: Letter) throws -> (key: [UInt8]?, value: [UInt8])? {
    let at = TopicPartition(place.topic, place.partition)
    var found: (key: [UInt8]?, value: [UInt8])?
    let (low, stable) = try reader.bounds(at, timeout_ms: 30_000)
    if low <= place.offset, place.offset < stable {
      try reader.read(at, from: place.offset, end: place.offset + 1) { message in
        if message.offset == place.offset, let value = message.value {
          found = (message.key.map { Array($0) }, Array(value))
        }
        return true
      }
    }
    if let found { return found }
    guard let payload = letter.payload.map({ Array($0.utf8) }) ?? letter.payload_base64.map({ Array($0) }),
      payload.count == letter.payload_bytes
    else { return nil }
    return (letter.key.map { Array($0.utf8) } ?? letter.key_base64.map { Array($0) }, payload)
  }

  private func markers(partitions: Int) throws -> Set<String> {
    var names: Set<String> = []
    for partition in 0..<Int32(partitions) {
      try readAll(TopicPartition(configuration.redrivenTopic, partition)) { message in
        if let key = message.key { names.insert(String(decoding: key, as: UTF8.self)) }
      }
    }
    return names
  }

  private func readAll(_ place: TopicPartition, _ body: (ConsumedMessage) -> Void) throws {
    let (low, stable) = try reader.bounds(place, timeout_ms: 30_000)
    try reader.read(place, from: low, end: stable) { message in
      body(message)
      return true
    }
  }

  private func produce(_ topic: String, _ partition: Int32?, _ key: [UInt8]?, _ value: [UInt8]) throws(KafkaError) {
    var failure: KafkaError?
    value.withUnsafeBufferPointer { value in
      func send(_ key: UnsafeBufferPointer<UInt8>?) {
        do throws(KafkaError) {
          try producer.produce(topic: topic, partition: partition, key: key, value: value)
        } catch { failure = error }
      }
      if let key { key.withUnsafeBufferPointer { send($0) } } else { send(nil) }
    }
    if let failure { throw failure }
  }
}

extension Redrive.Selection {
  func takes(_ source: String, _ reason: String, _ field: String, _ received: String?) -> Bool {
    guard sources.isEmpty || sources.contains(source), fields.isEmpty || fields.contains(field),
      reasons.isEmpty || reasons.contains(where: { $0.rawValue == reason })
    else { return false }
    if times_ms == .min ... .max { return true }
    return received.flatMap { Timestamps.parse($0) }.map(times_ms.contains) ?? false
  }
}
