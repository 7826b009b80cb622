import Decoding
import Domain

/// Why a message is no record of the schema that it names.
public struct AvroMessageError: Error, Sendable, Equatable, CustomStringConvertible {
  public var description: String
}

/// Turns an Avro message back into its JSON form, by the schema that its writer named: byte for byte what the message was
/// made of. A null whose field has a default is left out.
struct AvroMessageReader {
  private let bytes: UnsafeBufferPointer<UInt8>
  private var at = 0
  private var writer = JSONWriter()
  /// Deeper than any contract.
  private static let maximumDepth = 32

  /// - Parameter bytes: without the framing.
  static func json(_ bytes: UnsafeBufferPointer<UInt8>, _ schema: AvroSchema) throws(AvroMessageError) -> [UInt8] {
    var reader = AvroMessageReader(bytes)
    try reader.value(schema, depth: 0)
    guard reader.at == bytes.count else { throw reader.error("\(bytes.count - reader.at) bytes too many") }
    return reader.writer.bytes
  }

  private init(_ bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

  private func error(_ what: String) -> AvroMessageError {
    AvroMessageError(description: "no Avro record of its schema at byte \(at): \(what)")
  }

  private mutating func byte() throws(AvroMessageError) -> UInt8 {
    guard at < bytes.count else { throw error("it ends too early") }
    defer { at += 1 }
    return bytes[at]
  }

  private mutating func long() throws(AvroMessageError) -> Int64 {
    var value: UInt64 = 0
    var shift: UInt64 = 0
    while true {
      let next = try byte()
      guard shift < 63 || next <= 1 else { throw error("a number is too long") }
      value |= UInt64(next & 0x7f) << shift
      if next < 0x80 { return Int64(bitPattern: value >> 1) ^ -Int64(bitPattern: value & 1) }
      shift += 7
      guard shift < 64 else { throw error("a number is too long") }
    }
  }

  private mutating func string() throws(AvroMessageError) -> String {
    let count = try long()
    guard count >= 0, count <= Int64(bytes.count - at) else { throw error("a text of \(count) bytes") }
    let raw = UnsafeBufferPointer(rebasing: bytes[at..<at + Int(count)])
    guard let text = String(validating: raw, as: UTF8.self) else { throw error("a text that is no UTF-8") }
    at += Int(count)
    return text
  }

  private mutating func value(_ schema: AvroSchema, depth: Int) throws(AvroMessageError) {
    guard depth < AvroMessageReader.maximumDepth else { throw error("it is nested too deeply") }
    switch schema.kind {
    case .null: writer.null()
    case .boolean:
      let value = try byte()
      guard value < 2 else { throw error("a truth value \(value)") }
      writer.bool(value == 1)
    case .int, .long:
      let value = try long()
      switch schema.logical {
      case .timestampMillis: writer.timestamp(value)
      case .date:
        guard abs(value) < 4_000_000 else { throw error("a date of day \(value)") }
        writer.string(formatDate(Int32(value)))
      default: writer.integer(Int(value))
      }
    case .string: writer.string(try string())
    case .enumeration:
      let index = try long()
      guard index >= 0, index < schema.symbols.count else { throw error("a symbol \(index)") }
      writer.string(schema.symbols[Int(index)])
    case .union: try value(try branch(schema), depth: depth + 1)
    case .record:
      writer.beginObject()
      for field in schema.fields {
        var inner = field.type
        if inner.kind == .union {
          inner = try branch(inner)
          if inner.kind == .null, field.hasDefault { continue }
        }
        writer.key(field.name)
        try value(inner, depth: depth + 1)
      }
      writer.endObject()
    case .array, .map:
      let isMap = schema.kind == .map
      if isMap { writer.beginObject() } else { writer.beginArray() }
      var count = try block()
      while count > 0 {
        for _ in 0..<count {
          if isMap { writer.key(try string()) }
          try value(schema.branches[0], depth: depth + 1)
        }
        count = try block()
      }
      if isMap { writer.endObject() } else { writer.endArray() }
    case .float, .double, .bytes, .fixed:
      throw error("its schema has a type that no output has (\(schema.kind))")
    }
  }

  private mutating func branch(_ union: AvroSchema) throws(AvroMessageError) -> AvroSchema {
    let index = try long()
    guard index >= 0, index < union.branches.count else { throw error("a branch \(index) of a union") }
    return union.branches[Int(index)]
  }

  /// Items of the next block of a list or map.
  private mutating func block() throws(AvroMessageError) -> Int64 {
    let count = try long()
    guard count < 0 else {
      guard count <= Int64(bytes.count) else { throw error("a block of \(count) items") }
      return count
    }
    // With its size in bytes, for those who skip it.
    _ = try long()
    guard count >= -Int64(bytes.count) else { throw error("a block of \(count.magnitude) items") }
    return -count
  }
}
