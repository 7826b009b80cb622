/// What a client sent does not follow the protocol.
struct WireError: Error, CustomStringConvertible {
  var description: String
}

/// Takes Kafka's primitive types from a request. Big-endian; lengths are checked.
struct WireReader {
  private let bytes: [UInt8]
  private var at: Int
  /// Compact lengths and tagged fields (KIP-482).
  var isFlexible = false

  init(_ bytes: [UInt8], at: Int = 0) {
    self.bytes = bytes
    self.at = at
  }

  private mutating func take(_ count: Int) throws -> ArraySlice<UInt8> {
    guard count >= 0, count <= bytes.count - at else { throw WireError(description: "a request ends too early") }
    defer { at += count }
    return bytes[at..<(at + count)]
  }

  private mutating func integer<T: FixedWidthInteger>(_: T.Type) throws -> T {
    try take(MemoryLayout<T>.size).reduce(0) { $0 << 8 | T(truncatingIfNeeded: $1) }
  }

  mutating func int8() throws -> Int8 { Int8(bitPattern: try integer(UInt8.self)) }
  mutating func int16() throws -> Int16 { Int16(bitPattern: try integer(UInt16.self)) }
  mutating func int32() throws -> Int32 { Int32(bitPattern: try integer(UInt32.self)) }
  mutating func int64() throws -> Int64 { Int64(bitPattern: try integer(UInt64.self)) }
  mutating func bool() throws -> Bool { try int8() != 0 }

  mutating func unsignedVarint() throws -> Int {
    var value: UInt64 = 0
    for shift in stride(from: 0, to: 35, by: 7) {
      let byte = try integer(UInt8.self)
      value |= UInt64(byte & 0x7F) << UInt64(shift)
      if byte < 0x80 { return Int(value) }
    }
    throw WireError(description: "a number of variable length does not end")
  }

  /// A length, nil for null.
  private mutating func length(short: Bool) throws -> Int? {
    let count = isFlexible ? try unsignedVarint() - 1 : short ? Int(try int16()) : Int(try int32())
    return count < 0 ? nil : count
  }

  mutating func nullableString() throws -> String? {
    guard let count = try length(short: true) else { return nil }
    return String(decoding: try take(count), as: UTF8.self)
  }

  mutating func string() throws -> String {
    guard let text = try nullableString() else { throw WireError(description: "a text is null") }
    return text
  }

  mutating func nullableBytes() throws -> [UInt8]? {
    guard let count = try length(short: false) else { return nil }
    return Array(try take(count))
  }

  /// The elements of an array, each with its tagged fields where `isStructure`; nil for null.
  mutating func nullableArray<T>(
    isStructure: Bool = true, _ element: (inout WireReader) throws -> T
  ) throws -> [T]? {
    guard let count = try length(short: false) else { return nil }
    var elements: [T] = []
    for _ in 0..<count {
      elements.append(try element(&self))
      if isStructure { try skipTags() }
    }
    return elements
  }

  mutating func array<T>(isStructure: Bool = true, _ element: (inout WireReader) throws -> T) throws -> [T] {
    try nullableArray(isStructure: isStructure, element) ?? []
  }

  /// Every partition of every topic: most requests have this form.
  mutating func places<T>(_ partition: (inout WireReader, TopicPartitionName) throws -> T) throws -> [T] {
    try array { reader in
      let topic = try reader.string()
      return try reader.array { reader in
        let index = try reader.int32()
        return try partition(&reader, TopicPartitionName(topic: topic, partition: index))
      }
    }.flatMap { $0 }
  }

  mutating func skipTags() throws {
    guard isFlexible else { return }
    for _ in 0..<(try unsignedVarint()) {
      _ = try unsignedVarint()
      _ = try take(try unsignedVarint())
    }
  }
}

struct TopicPartitionName: Hashable {
  var topic: String
  var partition: Int32
}

/// Writes Kafka's primitive types. Big-endian.
struct WireWriter {
  private(set) var bytes: [UInt8] = []
  var isFlexible = false

  mutating func integer<T: FixedWidthInteger>(_ value: T) {
    withUnsafeBytes(of: value.bigEndian) { bytes.append(contentsOf: $0) }
  }
  mutating func int8(_ value: Int8) { integer(value) }
  mutating func int16(_ value: Int16) { integer(value) }
  mutating func int32(_ value: Int32) { integer(value) }
  mutating func int64(_ value: Int64) { integer(value) }
  mutating func bool(_ value: Bool) { integer(Int8(value ? 1 : 0)) }
  mutating func code(_ code: ErrorCode) { integer(code.rawValue) }

  mutating func unsignedVarint(_ value: Int) {
    var rest = UInt64(value)
    while rest >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    bytes.append(UInt8(rest))
  }

  private mutating func length(_ count: Int?, short: Bool) {
    if isFlexible {
      unsignedVarint((count ?? -1) + 1)
    } else if short {
      int16(Int16(count ?? -1))
    } else {
      int32(Int32(count ?? -1))
    }
  }

  mutating func string(_ text: String?) {
    length(text?.utf8.count, short: true)
    if let text { bytes.append(contentsOf: text.utf8) }
  }

  mutating func data(_ data: [UInt8]?) {
    length(data?.count, short: false)
    if let data { bytes.append(contentsOf: data) }
  }

  mutating func raw(_ data: some Collection<UInt8>) { bytes.append(contentsOf: data) }

  mutating func array<T>(
    _ elements: [T]?, isStructure: Bool = true, _ element: (inout WireWriter, T) -> Void
  ) {
    length(elements?.count, short: false)
    for each in elements ?? [] {
      element(&self, each)
      if isStructure { tags() }
    }
  }

  /// Answers for partitions, grouped by topic in the order in which the topics come first.
  mutating func places<T>(_ answers: [(TopicPartitionName, T)], _ partition: (inout WireWriter, T) -> Void) {
    var topics: [(name: String, answers: [(Int32, T)])] = []
    for (place, answer) in answers {
      if let at = topics.firstIndex(where: { $0.name == place.topic }) {
        topics[at].answers.append((place.partition, answer))
      } else {
        topics.append((place.topic, [(place.partition, answer)]))
      }
    }
    array(topics) { writer, topic in
      writer.string(topic.name)
      writer.array(topic.answers) { writer, answer in
        writer.int32(answer.0)
        partition(&writer, answer.1)
      }
    }
  }

  /// No tagged fields.
  mutating func tags() { if isFlexible { bytes.append(0) } }
}

/// Kafka's error codes, as far as this broker answers them.
enum ErrorCode: Int16, Error {
  case none = 0
  case offsetOutOfRange = 1
  case topicAuthorizationFailed = 29
  case operationNotAttempted = 55
  case unknownTopicOrPartition = 3
  case illegalGeneration = 22
  case inconsistentGroupProtocol = 23
  case unknownMember = 25
  case rebalanceInProgress = 27
  case unsupportedVersion = 35
  case topicAlreadyExists = 36
  case invalidPartitions = 37
  case invalidReplicationFactor = 38
  case invalidRequest = 42
  case outOfOrderSequence = 45
  case invalidProducerEpoch = 47
  case invalidTransactionState = 48
  case invalidProducerIDMapping = 49
  case concurrentTransactions = 51
  case memberIDRequired = 79
  case fencedInstance = 82
  case unstableOffsetCommit = 88
  case producerFenced = 90
  case corruptMessage = 2
}
