import Domain
import Foundation

/// A record that could not be taken in, with its place and its bytes.
public struct DeadLetter: Sendable {
  public var source: String
  /// Topic, or path of the file.
  public var origin: String
  public var isFile: Bool
  public var partition: Int32
  /// Kafka offset, or line number of the file, from 1.
  public var offset: Int64
  public var key: [UInt8]?
  public var payload: [UInt8]?
  public var fault: DataFault
  /// Bytes that the payload had, where only its beginning was kept.
  public var payloadBytes: Int
  public var receivedAt_ms: Int64?

  /// Where it stands: `topic orders, partition 3, offset 17, key K`.
  public var place: String {
    let keyText =
      key.map { ", key '\(String(decoding: $0.prefix(DataFault.maximumQuotedBytes), as: UTF8.self))'" } ?? ""
    return isFile
      ? "\(origin), line \(offset)\(keyText)" : "topic \(origin), partition \(partition), offset \(offset)\(keyText)"
  }
}

/// Encodes dead letters; the schema is `config/schemas/dead-letter.schema.json`.
public struct DeadLetterEncoder: Sendable {
  /// A payload longer than this is cut: a message must fit into a topic's limit (1 MB by default) even as base64.
  public static let maximumPayloadBytes = 512 << 10
  /// A message of more bytes is encoded again with less of the record: escapes can make a text six times as long.
  public static let maximumMessageBytes = 900 << 10
  private var writer = JSONWriter()

  public init() {}

  public mutating func encode(_ letter: DeadLetter) -> [UInt8] {
    var letter = letter
    var encoded = encodeWhole(letter)
    var limit = DeadLetterEncoder.maximumPayloadBytes
    while !letter.isFile, encoded.count > DeadLetterEncoder.maximumMessageBytes, limit > 16 {
      limit /= 4
      letter.payload = letter.payload.map { Array($0.prefix(limit)) }
      letter.key = letter.key.map { Array($0.prefix(limit)) }
      encoded = encodeWhole(letter)
    }
    return encoded
  }

  private mutating func encodeWhole(_ letter: DeadLetter) -> [UInt8] {
    writer.removeAll()
    writer.beginObject()
    write("source", letter.source)
    write(letter.isFile ? "file" : "topic", letter.origin)
    if !letter.isFile {
      writer.key("partition")
      writer.integer(Int(letter.partition))
    }
    writer.key(letter.isFile ? "line" : "offset")
    writer.integer(Int(letter.offset))
    bytes("key", letter.key)
    write("reason", letter.fault.reason.rawValue)
    write("field", letter.fault.field)
    write("detail", letter.fault.detail)
    if let received = letter.receivedAt_ms {
      writer.key("received_at")
      writer.timestamp(received)
    }
    let payload = letter.payload.map { Array($0.prefix(DeadLetterEncoder.maximumPayloadBytes)) }
    bytes("payload", payload)
    writer.key("payload_bytes")
    writer.integer(letter.payloadBytes)
    writer.endObject()
    return writer.bytes
  }

  private mutating func write(_ key: String, _ value: String) {
    writer.key(key)
    writer.string(value)
  }

  /// Text as text, anything else as base64 under `<name>_base64`; null where there is none.
  private mutating func bytes(_ name: String, _ bytes: [UInt8]?) {
    guard let bytes else {
      writer.key(name)
      writer.null()
      return
    }
    if let text = String(validating: bytes, as: UTF8.self) {
      write(name, text)
    } else {
      write(name + "_base64", Data(bytes).base64EncodedString())
    }
  }
}

/// Encodes the totals over all tasks; the schema is `config/schemas/total.schema.json`.
enum TotalEncoder {
  /// - Parameter asOf_ms: Event time that all tasks had passed; `Int64.min` where that is not known.
  static func encode(cell: String, value: Int64, tasks: Int, revision: UInt64, asOf_ms: Int64) -> [UInt8] {
    var writer = JSONWriter()
    writer.beginObject()
    writer.key("cell")
    writer.string(cell)
    writer.key("value")
    writer.integer(Int(value))
    writer.key("tasks")
    writer.integer(tasks)
    writer.key("revision")
    writer.integer(Int(clamping: revision))
    if asOf_ms > .min {
      writer.key("as_of")
      writer.timestamp(asOf_ms)
    }
    writer.endObject()
    return writer.bytes
  }
}

extension DataFault {
  /// The same with the name of a dimension in place of its number, which is all that a decoder knows.
  public func named(_ dimensions: [String]) -> DataFault {
    let number = field.hasPrefix("dimension ") ? Int(field.dropFirst("dimension ".count)) : nil
    guard let number, dimensions.indices.contains(number - 1) else { return self }
    var fault = self
    fault.field = dimensions[number - 1]
    return fault
  }
}
