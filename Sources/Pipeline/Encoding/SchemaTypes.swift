import Domain

/// What a field of a topic's message can be; the part of JSON Schema (draft 2020-12) that the topics need.
public indirect enum SchemaType: Sendable, Equatable {
  case text(pattern: String? = nil, format: String? = nil, nullable: Bool = false)
  case enumeration([String])
  case integer(minimum: Int? = nil, nullable: Bool = false)
  case boolean(nullable: Bool = false)
  case object([SchemaField])
  /// An object with names that are not fixed.
  case map(SchemaType)
  case list(SchemaType)

  public static let string = SchemaType.text()
  /// An amount, a rate or a quantity: decimal text, never a floating-point number.
  public static let decimal = SchemaType.text(pattern: decimalPattern)
  public static let optionalDecimal = SchemaType.text(pattern: decimalPattern, nullable: true)
  public static let currency = SchemaType.text(pattern: "^([A-Z]{3})?$")
  public static let time = SchemaType.text(format: "date-time", nullable: true)
  public static let date = SchemaType.text(format: "date")
  static let decimalPattern = #"^-?[0-9]+(\.[0-9]+)?$"#

  /// As a reader of the documentation wants it.
  var words: String {
    switch self {
    case .text(let pattern, let format, let nullable):
      let what =
        pattern == SchemaType.decimalPattern
        ? "decimal text"
        : format == "date-time" ? "time" : format == "date" ? "date" : pattern == nil ? "text" : "currency"
      return nullable ? what + " or null" : what
    case .enumeration(let values):
      return values.count > 6 ? "one of \(values.count) words" : values.joined(separator: ", ")
    case .integer(_, let nullable): return nullable ? "integer or null" : "integer"
    case .boolean(let nullable): return nullable ? "true, false or null" : "true, false"
    case .object: return "object"
    case .map(let type): return "map of \(type.words)"
    case .list(let type): return "list of \(type.words)"
    }
  }

  /// Schema text, continued at an indentation.
  func json(indent: String) -> String {
    func quoted(_ text: String) -> String {
      var writer = JSONWriter()
      writer.string(text)
      return writer.text
    }
    func type(_ name: String, _ nullable: Bool) -> String {
      nullable ? "\"type\": [\"\(name)\", \"null\"]" : "\"type\": \"\(name)\""
    }
    switch self {
    case .text(let pattern, let format, let nullable):
      var parts = [type("string", nullable)]
      if let pattern { parts.append("\"pattern\": \(quoted(pattern))") }
      if let format { parts.append("\"format\": \(quoted(format))") }
      return "{ \(parts.joined(separator: ", ")) }"
    case .enumeration(let values): return "{ \"enum\": [\(values.map(quoted).joined(separator: ", "))] }"
    case .integer(let minimum, let nullable):
      return "{ \(type("integer", nullable))\(minimum.map { ", \"minimum\": \($0)" } ?? "") }"
    case .boolean(let nullable): return "{ \(type("boolean", nullable)) }"
    case .map(let type): return "{ \"type\": \"object\", \"additionalProperties\": \(type.json(indent: indent)) }"
    case .list(let type): return "{ \"type\": \"array\", \"items\": \(type.json(indent: indent)) }"
    case .object(let fields):
      return "{\n" + SchemaType.body(fields, indent: indent + "  ") + "\n\(indent)}"
    }
  }

  static func body(_ fields: [SchemaField], indent: String) -> String {
    var lines = ["\(indent)\"type\": \"object\","]
    let required = fields.filter(\.isRequired).map { "\"\($0.name)\"" }
    if !required.isEmpty { lines.append("\(indent)\"required\": [\(required.joined(separator: ", "))],") }
    lines.append("\(indent)\"properties\": {")
    for (at, field) in fields.enumerated() {
      var text = field.type.json(indent: indent + "  ")
      if !field.meaning.isEmpty {
        var writer = JSONWriter()
        writer.string(field.meaning)
        // Every type begins with a brace; the description comes first.
        text =
          text.hasPrefix("{\n")
          ? "{\n\(indent)    \"description\": \(writer.text),\n" + text.dropFirst(2)
          : "{ \"description\": \(writer.text)," + text.dropFirst(1)
      }
      lines.append("\(indent)  \"\(field.name)\": \(text)\(at == fields.count - 1 ? "" : ",")")
    }
    lines.append("\(indent)}")
    return lines.joined(separator: "\n")
  }
}

/// A field of a message.
public struct SchemaField: Sendable, Equatable {
  public var name: String
  public var type: SchemaType
  public var isRequired: Bool
  public var meaning: String

  public init(_ name: String, _ type: SchemaType, _ meaning: String = "", required: Bool = true) {
    self.name = name
    self.type = type
    self.meaning = meaning
    isRequired = required
  }
}

/// A topic's contract: what stands in its key and its value.
public struct TopicSchema: Sendable, Equatable {
  /// Of the file: `config/schemas/<name>.schema.json`.
  public var name: String
  public var title: String
  public var description: String
  public var fields: [SchemaField]

  public var json: String {
    func quoted(_ text: String) -> String {
      var writer = JSONWriter()
      writer.string(text)
      return writer.text
    }
    return """
      {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": \(quoted(title)),
        "description": \(quoted(description)),
      \(SchemaType.body(fields, indent: "  "))
      }

      """
  }
}

/// A field that knows how it is written: the encoder and the schema of a message are made of the same list, so that
/// they cannot differ.
struct MessageField<Message>: Sendable {
  var schema: SchemaField
  var write: @Sendable (Message, inout JSONWriter) -> Void

  private init(
    _ name: String, _ type: SchemaType, _ meaning: String,
    _ write: @escaping @Sendable (Message, inout JSONWriter) -> Void
  ) {
    schema = SchemaField(name, type, meaning)
    self.write = write
  }

  /// The same as one that a later version has added: it is always written, and messages of before are without it.
  var added: Self {
    var field = self
    field.schema.isRequired = false
    return field
  }

  static func text(_ name: String, _ meaning: String, _ value: @escaping @Sendable (Message) -> String) -> Self {
    Self(name, .string, meaning) { $1.string(value($0)) }
  }

  static func currency(_ name: String, _ meaning: String, _ value: @escaping @Sendable (Message) -> Currency) -> Self {
    Self(name, .currency, meaning) { $1.string(value($0).code) }
  }

  static func word(
    _ name: String, _ words: [String], _ meaning: String, _ value: @escaping @Sendable (Message) -> String
  ) -> Self {
    Self(name, .enumeration(words), meaning) { $1.string(value($0)) }
  }

  /// Money in minor units of a currency.
  static func amount(
    _ name: String, _ meaning: String, _ value: @escaping @Sendable (Message) -> (Int128, Currency)
  ) -> Self {
    Self(name, .decimal, meaning) {
      let (amount, currency) = value($0)
      $1.amount(amount, currency)
    }
  }

  static func optionalAmount(
    _ name: String, _ meaning: String, _ value: @escaping @Sendable (Message) -> (Int128?, Currency)
  ) -> Self {
    Self(name, .optionalDecimal, meaning) {
      let (amount, currency) = value($0)
      if let amount { $1.amount(amount, currency) } else { $1.null() }
    }
  }

  /// A ratio in millionths, as decimal text.
  static func ratio(_ name: String, _ meaning: String, _ value_u: @escaping @Sendable (Message) -> Int128?) -> Self {
    Self(name, .optionalDecimal, meaning) {
      if let value = value_u($0) { $1.string(formatDecimal(value, decimals: 6)) } else { $1.null() }
    }
  }

  static func integer(
    _ name: String, _ meaning: String, minimum: Int? = 0, _ value: @escaping @Sendable (Message) -> Int
  )
    -> Self
  {
    Self(name, .integer(minimum: minimum), meaning) { $1.integer(value($0)) }
  }

  static func optionalInteger(_ name: String, _ meaning: String, _ value: @escaping @Sendable (Message) -> Int?) -> Self
  {
    Self(name, .integer(nullable: true), meaning) {
      if let value = value($0) { $1.integer(value) } else { $1.null() }
    }
  }

  static func bool(_ name: String, _ meaning: String, _ value: @escaping @Sendable (Message) -> Bool) -> Self {
    Self(name, .boolean(), meaning) { $1.bool(value($0)) }
  }

  static func optionalBool(_ name: String, _ meaning: String, _ value: @escaping @Sendable (Message) -> Bool?) -> Self {
    Self(name, .boolean(nullable: true), meaning) {
      if let value = value($0) { $1.bool(value) } else { $1.null() }
    }
  }

  static func time(_ name: String, _ meaning: String, _ value_ms: @escaping @Sendable (Message) -> Int64) -> Self {
    Self(name, .time, meaning) { $1.timestamp(value_ms($0)) }
  }

  static func date(_ name: String, _ meaning: String, _ day: @escaping @Sendable (Message) -> Int32) -> Self {
    Self(name, .date, meaning) { $1.string(formatDate(day($0))) }
  }

  static func object(_ name: String, _ meaning: String, _ fields: [MessageField<Message>]) -> Self {
    Self(name, .object(fields.map(\.schema)), meaning) { fields.write($0, into: &$1) }
  }

  /// An object about a part of the message.
  static func object<Part>(
    _ name: String, _ meaning: String, _ fields: [MessageField<Part>], _ part: @escaping @Sendable (Message) -> Part
  ) -> Self {
    Self(name, .object(fields.map(\.schema)), meaning) { fields.write(part($0), into: &$1) }
  }

  static func list<Item>(
    _ name: String, _ meaning: String, _ fields: [MessageField<Item>], _ items: @escaping @Sendable (Message) -> [Item]
  ) -> Self {
    Self(name, .list(.object(fields.map(\.schema))), meaning) {
      $1.beginArray()
      for item in items($0) { fields.write(item, into: &$1) }
      $1.endArray()
    }
  }

  static func texts(
    _ name: String, _ meaning: String, _ pairs: @escaping @Sendable (Message) -> [(String, String)]
  ) -> Self {
    Self(name, .map(.string), meaning) {
      $1.beginObject()
      for (key, value) in pairs($0) {
        $1.key(key)
        $1.string(value)
      }
      $1.endObject()
    }
  }

  static func times(
    _ name: String, _ meaning: String, _ pairs: @escaping @Sendable (Message) -> [(String, Int64)]
  ) -> Self {
    Self(name, .map(.time), meaning) {
      $1.beginObject()
      for (key, value) in pairs($0) {
        $1.key(key)
        $1.timestamp(value)
      }
      $1.endObject()
    }
  }
}

extension Array {
  /// The object of a message's fields.
  func write<Message>(_ message: Message, into writer: inout JSONWriter) where Element == MessageField<Message> {
    writer.beginObject()
    for field in self {
      writer.key(field.schema.name)
      field.write(message, &writer)
    }
    writer.endObject()
  }
}
