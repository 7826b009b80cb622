/// The Avro form of the topics' contracts (specification 1.11), made of the same fields as the JSON Schemas.
///
/// Amounts stay decimal text, because their scale is that of the currency; words stay text, so that one may be added.
/// Times are `timestamp-millis`, dates `date`. What may be absent is a union with null, whose default is null; what is
/// always there has no default, so that a field which a later version adds must be one that may be absent.
extension TopicSchema {
  /// Full name of the message's record.
  public var avroName: String { "tieout.\(AvroContract.pascal(name))" }

  /// The schema, as it stands in `config/schemas/avro/<name>.avsc`.
  public var avro: String {
    let record = AvroContract.record(
      AvroContract.pascal(name), fields, namespace: "tieout", description: description, indent: "")
    return record + "\n"
  }
}

private enum AvroContract {
  /// `dead-letter` → `DeadLetter`, `past_weeks` → `PastWeeks`.
  static func pascal(_ name: String) -> String {
    name.split { $0 == "-" || $0 == "_" }.map { $0.prefix(1).uppercased() + $0.dropFirst() }.joined()
  }

  private static func quoted(_ text: String) -> String {
    var writer = JSONWriter()
    writer.string(text)
    return writer.text
  }

  static func record(
    _ name: String, _ fields: [SchemaField], namespace: String? = nil, description: String = "", indent: String
  ) -> String {
    var head = "{\n\(indent)  \"type\": \"record\",\n\(indent)  \"name\": \(quoted(name)),\n"
    if let namespace { head += "\(indent)  \"namespace\": \(quoted(namespace)),\n" }
    if !description.isEmpty { head += "\(indent)  \"doc\": \(quoted(description)),\n" }
    let lines = fields.map { field in
      var text = "\(indent)    { \"name\": \(quoted(field.name)), \"type\": "
      let inner = type(field.type, name: name + pascal(field.name), indent: indent + "    ")
      // Absent or null: one null says both.
      let isUnion = field.type.isNullable || !field.isRequired
      text += isUnion ? "[\"null\", \(inner)]" : inner
      if !field.isRequired { text += ", \"default\": null" }
      if !field.meaning.isEmpty { text += ", \"doc\": \(quoted(field.meaning))" }
      return text + " }"
    }
    return head + "\(indent)  \"fields\": [\n" + lines.joined(separator: ",\n") + "\n\(indent)  ]\n\(indent)}"
  }

  /// A type without its null.
  private static func type(_ type: SchemaType, name: String, indent: String) -> String {
    func item(_ inner: SchemaType) -> String {
      let text = self.type(inner, name: name, indent: indent)
      return inner.isNullable ? "[\"null\", \(text)]" : text
    }
    switch type {
    case .text(_, "date-time", _): return "{ \"type\": \"long\", \"logicalType\": \"timestamp-millis\" }"
    case .text(_, "date", _): return "{ \"type\": \"int\", \"logicalType\": \"date\" }"
    case .text, .enumeration: return "\"string\""
    case .integer: return "\"long\""
    case .boolean: return "\"boolean\""
    case .object(let fields): return record(name, fields, indent: indent)
    case .map(let inner): return "{ \"type\": \"map\", \"values\": \(item(inner)) }"
    case .list(let inner): return "{ \"type\": \"array\", \"items\": \(item(inner)) }"
    }
  }
}

extension SchemaType {
  var isNullable: Bool {
    switch self {
    case .text(_, _, let nullable), .integer(_, let nullable), .boolean(let nullable): nullable
    case .enumeration, .object, .map, .list: false
    }
  }
}
