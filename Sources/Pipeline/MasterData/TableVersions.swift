import Checkpoints
import Configuration
import Domain
import Kafka

/// Versions of the tables as bytes, and the topic that keeps them (`<prefix>.tables`, partition 0).
///
/// A version is named by the hash that the records of epochs carry: of the settings that decide matching, and of what the
/// tables hold. Its messages have the keys `<name>/<number>/<count>`. Writing one again changes nothing.
struct TableVersions {
  private let live: DecodeStage
  private let reader: any LogReader
  private let environment: any WorkerEnvironment
  private final class Known {
    var stages: [UInt64: DecodeStage?] = [:]
    var contents: [String: [Int: (count: Int, bytes: [UInt8])]] = [:]
    var position: Int64?
  }
  private let known = Known()

  init(_ live: DecodeStage, _ reader: any LogReader, _ environment: any WorkerEnvironment) {
    self.live = live
    self.reader = reader
    self.environment = environment
    known.stages[live.configurationHash] = live
  }

  static func name(_ hash: UInt64) -> String {
    let digits = String(hash, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }

  /// The stage that decodes as the version did; nil where the topic does not have it, or other settings than the tables
  /// have changed since.
  func stage(_ hash: UInt64) throws -> DecodeStage? {
    if let made = known.stages[hash] { return made }
    try load()
    var stage: DecodeStage?
    if let entries = try entries(TableVersions.name(hash)) {
      let configuration = try live.configuration.replacingTables(entries)
      // A calendar that had no periods then, or has none now, is another setting.
      let hasChecks = configuration.policy.checks != nil
      if configuration.matchingHash == hash, hasChecks == (live.configuration.policy.checks != nil) {
        stage = try DecodeStage(configuration, hash: hash)
      }
    }
    known.stages[hash] = .some(stage)
    return stage
  }

  private func entries(_ name: String) throws -> TableEntries? {
    guard let parts = known.contents[name], let count = parts[0]?.count, (0..<count).allSatisfy({ parts[$0] != nil })
    else { return nil }
    do throws(ByteCodingError) {
      return try TableVersions.decode(try PackedBytes.unpack((0..<count).map { parts[$0]!.bytes }))
    } catch { throw RecoveryError("version \(name) of the tables in \(live.configuration.tablesTopic): \(error)") }
  }

  private func load() throws(KafkaError) {
    let place = TopicPartition(live.configuration.tablesTopic, 0)
    let (low, stable) = try environment.retrying("asking for offsets", log: nil) { () throws(KafkaError) in
      try reader.bounds(place, timeout_ms: 30_000)
    }
    try reader.read(place, from: max(low, known.position ?? low), end: stable) { message in
      guard let key = message.key, let value = message.value else { return true }
      let parts = String(decoding: key, as: UTF8.self).split(separator: "/")
      if parts.count == 3, let number = Int(parts[1]), let count = Int(parts[2]) {
        known.contents[String(parts[0]), default: [:]][number] = (count, Array(value))
      }
      return true
    }
    known.position = stable
  }

  // MARK: - Bytes

  private static let format: UInt8 = 1

  /// In the order of names and keys: the same entries, the same bytes.
  static func encode(_ entries: TableEntries) -> [UInt8] {
    var writer = ByteWriter(capacity: 1 << 12)
    func put(_ text: String) {
      writer.writeVarint(UInt64(text.utf8.count))
      writer.write(bytes: Array(text.utf8))
    }
    writer.write(format)
    writer.writeVarint(UInt64(entries.count))
    for (name, table) in entries.sorted(by: { $0.key < $1.key }) {
      put(name)
      writer.writeVarint(UInt64(table.count))
      for (key, value) in table.sorted(by: { $0.key < $1.key }) {
        put(key)
        put(value)
      }
    }
    return writer.array
  }

  static func decode(_ bytes: [UInt8]) throws(ByteCodingError) -> TableEntries {
    var entries: TableEntries = [:]
    var failure: ByteCodingError?
    bytes.withUnsafeBytes { raw in
      var reader = ByteReader(raw)
      func text() throws(ByteCodingError) -> String {
        let count = try reader.readCount(atMost: raw.count)
        return String(decoding: try reader.readRaw(count), as: UTF8.self)
      }
      do throws(ByteCodingError) {
        guard try reader.read(UInt8.self) == format else { throw ByteCodingError("another format than \(format)") }
        for _ in 0..<(try reader.readCount(atMost: raw.count)) {
          let name = try text()
          var table: [String: String] = [:]
          for _ in 0..<(try reader.readCount(atMost: raw.count)) {
            let key = try text()
            table[key] = try text()
          }
          entries[name] = table
        }
      } catch { failure = error }
    }
    if let failure { throw failure }
    return entries
  }
}
