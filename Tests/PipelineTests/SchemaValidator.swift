import Foundation

/// Holds a JSON value against a schema of the topics (draft 2020-12, the part of it that they use). Strict: a property
/// that the schema does not list is a problem here, although consumers must bear with it.
struct SchemaValidator {
  let schema: [String: Any]
  /// Paths of the properties that were seen, to find those that no message ever has.
  private(set) var seen: Set<String> = []

  init(_ text: String) throws {
    schema = try JSONSerialization.jsonObject(with: Data(text.utf8)) as! [String: Any]
  }

  mutating func problems(_ bytes: [UInt8]) throws -> [String] {
    let value = try JSONSerialization.jsonObject(with: Data(bytes), options: .fragmentsAllowed)
    return check(value, schema, "$")
  }

  /// Paths of all properties that the schema lists.
  var listed: Set<String> {
    var paths: Set<String> = []
    func walk(_ schema: [String: Any], _ path: String) {
      for (name, field) in schema["properties"] as? [String: [String: Any]] ?? [:] {
        paths.insert("\(path).\(name)")
        walk(field, "\(path).\(name)")
      }
      for key in ["items", "additionalProperties"] {
        if let inner = schema[key] as? [String: Any] { walk(inner, path + "[]") }
      }
    }
    walk(schema, "$")
    return paths
  }

  private mutating func check(_ value: Any, _ schema: [String: Any], _ path: String) -> [String] {
    for key in schema.keys
    where ![
      "$schema", "title", "description", "type", "required", "properties", "additionalProperties", "items", "enum",
      "pattern", "format", "minimum",
    ].contains(key) {
      return ["\(path): the schema uses '\(key)', which is not checked"]
    }
    if let words = schema["enum"] as? [String] {
      guard let text = value as? String, words.contains(text) else { return ["\(path): \(value) is none of \(words)"] }
      return []
    }
    let types = (schema["type"] as? [String]) ?? [(schema["type"] as? String) ?? "?"]
    let actual = SchemaValidator.type(of: value)
    guard types.contains(actual) || actual == "integer" && types.contains("number") else {
      return ["\(path): is \(actual), not \(types.joined(separator: " or "))"]
    }
    var problems: [String] = []
    switch value {
    case let text as String:
      if let pattern = schema["pattern"] as? String, text.range(of: pattern, options: .regularExpression) == nil {
        problems.append("\(path): '\(text)' does not match \(pattern)")
      }
      let formats = [
        "date-time": #"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"#, "date": #"^\d{4}-\d\d-\d\d$"#,
      ]
      if let format = schema["format"] as? String {
        guard let pattern = formats[format] else { return ["\(path): format \(format) is not checked"] }
        if text.range(of: pattern, options: .regularExpression) == nil {
          problems.append("\(path): '\(text)' is no \(format)")
        }
      }
    case let object as [String: Any]:
      let properties = schema["properties"] as? [String: [String: Any]] ?? [:]
      for name in schema["required"] as? [String] ?? [] where object[name] == nil {
        problems.append("\(path).\(name): is missing")
      }
      for (name, inner) in object {
        if let field = properties[name] {
          seen.insert("\(path).\(name)")
          problems += check(inner, field, "\(path).\(name)")
        } else if let any = schema["additionalProperties"] as? [String: Any] {
          problems += check(inner, any, "\(path)[]")
        } else {
          problems.append("\(path).\(name): is not in the schema")
        }
      }
    case let list as [Any]:
      guard let items = schema["items"] as? [String: Any] else { return ["\(path): the schema says nothing of items"] }
      for item in list { problems += check(item, items, path + "[]") }
    case let number as NSNumber:
      if let least = schema["minimum"] as? Int, number.intValue < least {
        problems.append("\(path): is below \(least)")
      }
    default: break
    }
    return problems
  }

  private static func type(of value: Any) -> String {
    switch value {
    case is NSNull: return "null"
    case is String: return "string"
    case is [String: Any]: return "object"
    case is [Any]: return "array"
    case let number as NSNumber:
      switch String(cString: number.objCType) {
      case "c", "B": return "boolean"
      case "d", "f": return "number"
      default: return "integer"
      }
    default: return "?"
    }
  }
}
