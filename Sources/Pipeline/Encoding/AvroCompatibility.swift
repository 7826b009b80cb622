import Foundation

/// Whether each of two versions of an Avro schema can read what the other has written.
///
/// A field may be added that has a default. None may be removed, get another type, or lose its default; records keep
/// their names.
public enum AvroCompatibility {
  /// What breaks the rule, each with the path of the field.
  public static func problems(old: Data, new: Data) throws -> [String] {
    func parse(_ data: Data, _ which: String) throws -> Any {
      guard let schema = try? JSONSerialization.jsonObject(with: data, options: .fragmentsAllowed) else {
        throw SchemaCompatibility.SchemaError(description: "the \(which) schema is no JSON")
      }
      return schema
    }
    return compare(try parse(old, "old"), try parse(new, "new"), at: "$")
  }

  private static func compare(_ old: Any, _ new: Any, at path: String) -> [String] {
    let (was, now) = (words(old), words(new))
    guard was == now else { return ["\(path): was \(was), is \(now)"] }
    if let (before, after) = (old as? [Any]).flatMap({ a in (new as? [Any]).map { (a, $0) } }) {
      return zip(before, after).flatMap { compare($0, $1, at: path) }
    }
    guard let old = old as? [String: Any], let new = new as? [String: Any] else { return [] }
    for (key, mark) in [("items", "[]"), ("values", ".*")] {
      if let before = old[key], let after = new[key] { return compare(before, after, at: path + mark) }
    }
    guard let before = old["fields"] as? [[String: Any]], let after = new["fields"] as? [[String: Any]] else {
      return []
    }
    var problems: [String] = []
    func name(_ field: [String: Any]) -> String { field["name"] as? String ?? "" }
    for field in before {
      let path = "\(path).\(name(field))"
      guard let now = after.first(where: { name($0) == name(field) }) else {
        problems.append("\(path): was removed")
        continue
      }
      problems += compare(field["type"] ?? "", now["type"] ?? "", at: path)
      if field["default"] != nil, now["default"] == nil { problems.append("\(path): no longer has a default") }
    }
    for field in after where field["default"] == nil && !before.contains(where: { name($0) == name(field) }) {
      problems.append("\(path).\(name(field)): was added without a default; make it one that may be absent")
    }
    return problems
  }

  /// A type without what is inside it.
  private static func words(_ type: Any) -> String {
    if let name = type as? String { return name }
    if let union = type as? [Any] { return union.map(words).joined(separator: " or ") }
    guard let map = type as? [String: Any] else { return "nothing" }
    let kind = map["type"].map(words) ?? "nothing"
    if let name = map["name"] as? String { return "\(kind) \(name)" }
    return (map["logicalType"] as? String).map { "\(kind) (\($0))" } ?? kind
  }
}
