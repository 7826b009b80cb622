import Decoding
import Foundation

/// Why a text is no Avro schema.
public struct AvroSchemaError: Error, Sendable, Equatable, CustomStringConvertible {
  public var description: String
}

/// Reads schemas as the registry hands them out: JSON, with types named before in the same text or in others that it
/// refers to.
public struct AvroSchemaParser {
  private var named: [String: AvroSchema] = [:]
  private static let primitives: [String: AvroSchema.Kind] = [
    "null": .null, "boolean": .boolean, "int": .int, "long": .long, "float": .float, "double": .double,
    "bytes": .bytes, "string": .string,
  ]
  /// Deeper than this no mapping reaches, and no stack either.
  private static let maximumDepth = 200

  public init() {}

  /// - Returns: the type of the text; types that it names are known to the next call.
  public mutating func parse(_ text: String) throws -> AvroSchema {
    let json: Any
    do {
      json = try JSONSerialization.jsonObject(with: Data(text.utf8), options: .fragmentsAllowed)
    } catch { throw AvroSchemaError(description: "the schema is no JSON") }
    return try type(json, namespace: "", depth: 0)
  }

  private mutating func type(_ json: Any, namespace: String, depth: Int) throws -> AvroSchema {
    guard depth < AvroSchemaParser.maximumDepth else {
      throw AvroSchemaError(description: "the schema is nested too deeply")
    }
    if let name = json as? String {
      if let kind = AvroSchemaParser.primitives[name] { return AvroSchema(kind) }
      if let known = named[AvroSchemaParser.fullName(name, namespace)] ?? named[name] { return known }
      throw AvroSchemaError(description: "the schema names the type '\(name)', which it does not have")
    }
    if let list = json as? [Any] {
      let union = AvroSchema(.union)
      union.branches = try list.map { try type($0, namespace: namespace, depth: depth + 1) }
      guard !list.isEmpty else { throw AvroSchemaError(description: "a union has no types") }
      return union
    }
    guard let map = json as? [String: Any] else { throw AvroSchemaError(description: "a type is no text, list or map") }
    guard let word = map["type"] as? String else {
      guard let inner = map["type"] else { throw AvroSchemaError(description: "a type has no 'type'") }
      return try type(inner, namespace: namespace, depth: depth + 1)
    }
    switch word {
    case "record", "error":
      let (record, space) = try name(map, .record, namespace)
      guard let fields = map["fields"] as? [[String: Any]] else {
        throw AvroSchemaError(description: "the record '\(record.name)' has no fields")
      }
      for field in fields {
        guard let name = field["name"] as? String, let inner = field["type"] else {
          throw AvroSchemaError(description: "a field of '\(record.name)' has no name or no type")
        }
        let made = try type(inner, namespace: space, depth: depth + 1)
        record.fields.append((name, made, field["default"] != nil))
      }
      return record
    case "enum":
      let (made, _) = try name(map, .enumeration, namespace)
      guard let symbols = map["symbols"] as? [String], !symbols.isEmpty else {
        throw AvroSchemaError(description: "the enumeration '\(made.name)' has no symbols")
      }
      made.symbols = symbols
      return made
    case "fixed":
      let (made, _) = try name(map, .fixed, namespace)
      guard let size = map["size"] as? Int, (0...1 << 20).contains(size) else {
        throw AvroSchemaError(description: "the fixed '\(made.name)' has no size")
      }
      made.size = size
      made.logical = AvroSchemaParser.logical(map, .fixed)
      return made
    case "array", "map":
      let made = AvroSchema(word == "array" ? .array : .map)
      guard let items = map[word == "array" ? "items" : "values"] else {
        throw AvroSchemaError(description: "\(word) without the type of its items")
      }
      made.branches = [try type(items, namespace: namespace, depth: depth + 1)]
      return made
    default:
      guard let kind = AvroSchemaParser.primitives[word] else {
        return try type(word, namespace: namespace, depth: depth + 1)
      }
      let made = AvroSchema(kind)
      made.logical = AvroSchemaParser.logical(map, kind)
      return made
    }
  }

  /// A named type, which may refer to itself from here on; and the namespace inside it.
  private mutating func name(
    _ map: [String: Any], _ kind: AvroSchema.Kind, _ namespace: String
  ) throws -> (AvroSchema, String) {
    guard let name = map["name"] as? String, !name.isEmpty else {
      throw AvroSchemaError(description: "a record, enumeration or fixed has no name")
    }
    let made = AvroSchema(kind)
    made.name = AvroSchemaParser.fullName(name, map["namespace"] as? String ?? namespace)
    guard named.updateValue(made, forKey: made.name) == nil else {
      throw AvroSchemaError(description: "the type '\(made.name)' is there twice")
    }
    return (made, made.name.lastIndex(of: ".").map { String(made.name[..<$0]) } ?? "")
  }

  private static func fullName(_ name: String, _ namespace: String) -> String {
    name.contains(".") || namespace.isEmpty ? name : namespace + "." + name
  }

  /// A logical type that does not fit what it stands on is none, as the specification wants it.
  private static func logical(_ map: [String: Any], _ kind: AvroSchema.Kind) -> AvroSchema.Logical {
    switch (map["logicalType"] as? String, kind) {
    case ("decimal", .bytes), ("decimal", .fixed):
      let scale = map["scale"] as? Int ?? 0
      return (0...38).contains(scale) ? .decimal(scale: scale) : .none
    case ("date", .int): return .date
    case ("timestamp-millis", .long): return .timestampMillis
    case ("timestamp-micros", .long): return .timestampMicros
    case ("local-timestamp-millis", .long): return .localTimestampMillis
    case ("local-timestamp-micros", .long): return .localTimestampMicros
    default: return .none
    }
  }
}
