import Configuration
import Foundation
import Kafka
import Pipeline
import Simulation

/// Where generated records go.
protocol RecordSink {
  mutating func send(_ record: GeneratedRecord) throws
  mutating func finish() throws
}

/// Sends a load, at a rate or as fast as it goes; returns the number of records.
func pump(_ load: inout Workload, into sink: inout any RecordSink, rate: Int, stop: StopFlag? = nil) throws -> Int {
  var count = 0
  let started = monotonic_ms()
  while let record = load.next(), stop?.isStopped != true {
    try sink.send(record)
    count += 1
    if rate > 0 {
      let due = started + Int64(count) * 1_000 / Int64(rate)
      let ahead = due - monotonic_ms()
      if ahead > 2 { usleep(UInt32(min(ahead, 1_000)) * 1_000) }
    }
  }
  try sink.finish()
  return count
}

struct FileSink: RecordSink {
  private let orders: FileHandle
  private let ledger: FileHandle
  private var orderBytes: [UInt8] = []
  private var ledgerBytes: [UInt8] = []

  init(directory: String) throws {
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    func make(_ name: String) throws -> FileHandle {
      let path = directory + "/" + name
      guard FileManager.default.createFile(atPath: path, contents: nil), let handle = FileHandle(forWritingAtPath: path)
      else { throw InputError(file: path, byteOffset: 0, message: "cannot be written") }
      return handle
    }
    orders = try make("orders.jsonl")
    ledger = try make("ledger.jsonl")
  }

  mutating func send(_ record: GeneratedRecord) throws {
    if record.isOrder { append(record, &orderBytes) } else { append(record, &ledgerBytes) }
    if orderBytes.count > 1 << 20 { try flush(orders, &orderBytes) }
    if ledgerBytes.count > 1 << 20 { try flush(ledger, &ledgerBytes) }
  }

  private func append(_ record: GeneratedRecord, _ bytes: inout [UInt8]) {
    bytes.append(contentsOf: record.key)
    bytes.append(0x09)
    bytes.append(contentsOf: record.value)
    bytes.append(0x0a)
  }

  private func flush(_ handle: FileHandle, _ bytes: inout [UInt8]) throws {
    try handle.write(contentsOf: Data(bytes))
    bytes.removeAll(keepingCapacity: true)
  }

  mutating func finish() throws {
    try flush(orders, &orderBytes)
    try flush(ledger, &ledgerBytes)
    try orders.close()
    try ledger.close()
  }
}

struct TopicSink: RecordSink {
  private let producer: Producer
  private let orders: String
  private let ledger: String

  init(_ configuration: Configuration) throws {
    guard let orders = configuration.sources.first(where: { $0.mapping.kind == .orders }),
      let ledger = configuration.sources.first(where: { $0.mapping.kind == .ledger })
    else { throw InputError(file: configuration.name, byteOffset: 0, message: "needs a source of each kind") }
    self.orders = orders.originalTopic
    self.ledger = ledger.originalTopic
    producer = try Producer(properties: configuration.clientProperties(.producer))
  }

  mutating func send(_ record: GeneratedRecord) throws {
    try producer.produce(topic: record.isOrder ? orders : ledger, key: record.key, value: record.value)
    producer.poll()
  }

  mutating func finish() throws { try producer.flush(timeout_ms: 60_000) }
}
