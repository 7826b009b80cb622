import Kafka
import Testing

@testable import Configuration
@testable import Pipeline

/// A partition in memory, whose reading can break off.
private final class FixedReader: LogReader {
  var records: [(key: String, value: String)] = []
  /// Reading this offset fails.
  var failsAt: Int64?

  func bounds(_ place: TopicPartition, timeout_ms: Int) throws(KafkaError) -> (low: Int64, stable: Int64) {
    (0, Int64(records.count))
  }

  func read(
    _ place: TopicPartition, from: Int64, end: Int64, _ body: (ConsumedMessage) -> Bool
  ) throws(KafkaError) {
    for offset in from..<max(from, end) {
      if offset == failsAt { throw KafkaError(name: "_TIMED_OUT", "nothing came", context: "reading") }
      let record = records[Int(offset)]
      let (key, value) = (Array(record.key.utf8), Array(record.value.utf8))
      let goesOn = key.withUnsafeBufferPointer { key in
        value.withUnsafeBufferPointer { value in
          body(
            ConsumedMessage(
              topic: 0, partition: place.partition, offset: offset, timestamp_ms: 0, key: key, value: value))
        }
      }
      guard goesOn else { return }
    }
  }

  func rest() {}
  func close() {}
}

struct TopicTableTests {
  private let reader = FixedReader()
  private let table = TopicTable(TableSource(name: "regions", topic: "crm.regions", value: "name"))

  private func look() throws -> Bool {
    try table.read(reader, partitions: 1) { body in try body() }
  }

  private func row(_ key: String, _ name: String) -> (key: String, value: String) { (key, #"{"name":"\#(name)"}"#) }

  @Test func aReadingThatBreaksOffRepeatsNoBadRow() throws {
    reader.records = [row("N", "north"), ("S", "south"), row("E", "east")]
    reader.failsAt = 2
    for _ in 0..<3 { #expect(throws: KafkaError.self) { try look() } }
    #expect(table.bad.map(\.offset) == [1])
    reader.failsAt = nil
    #expect(try !look())
    #expect(table.bad.map(\.offset) == [1])
    #expect(table.entries == ["N": "north", "E": "east"])
  }

  @Test func aTopicThatEndsBeforeWhatWasReadIsAnother() throws {
    reader.records = [row("N", "north"), row("S", "south"), ("E", "east")]
    #expect(try !look())
    reader.records = [row("W", "west"), ("N", "north")]
    #expect(try look())
    #expect(table.entries == ["W": "west"])
    #expect(table.bad.map(\.offset) == [1])
    reader.records.append(row("N", "north"))
    #expect(try !look())
    #expect(table.entries == ["W": "west", "N": "north"])
  }
}
