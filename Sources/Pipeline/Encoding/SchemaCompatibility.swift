import Foundation

/// Whether consumers of an older schema can read what a newer one describes.
///
/// A field may be added, and a word to an enumeration. A field may not be removed or get another type, and what was
/// always there may not become optional or null.
public enum SchemaCompatibility {
  /// A schema file that cannot be read.
  public struct SchemaError: Error, CustomStringConvertible {
    public var description: String
  }

  /// What breaks the rule, each with the path of the field.
  public static func problems(old: Data, new: Data) throws -> [String] {
    func parse(_ data: Data, _ which: String) throws -> [String: Any] {
      guard let schema = try? JSONSerialization.jsonObject(with: data) as? [String: Any] else {
        throw SchemaError(description: "the \(which) schema is no JSON object")
      }
      return schema
    }
    return compare(try parse(old, "old"), try parse(new, "new"), at: "$")
  }

  private static func compare(_ old: [String: Any], _ new: [String: Any], at path: String) -> [String] {
    var problems: [String] = []
    let (before, after) = (types(old), types(new))
    if before.isEmpty || after.isEmpty || !after.subtracting(before).isEmpty
      || !before.subtracting(after).subtracting(["null"]).isEmpty
    {
      let names = { (types: Set<String>) in types.isEmpty ? "nothing" : types.sorted().joined(separator: " or ") }
      if before != after { problems.append("\(path): was \(names(before)), is \(names(after))") }
    }
    if let words = old["enum"] as? [String] {
      let known = Set(new["enum"] as? [String] ?? [])
      // An enumeration that becomes any text says less than before.
      let lost = words.filter { !known.contains($0) }
      if !lost.isEmpty { problems.append("\(path): no longer one of \(lost.joined(separator: ", "))") }
    } else if new["enum"] != nil {
      problems.append("\(path): was any text, is one of a few words")
    }
    for key in ["pattern", "format"] where old[key] as? String != new[key] as? String {
      problems.append("\(path): \(key) was \(old[key] ?? "any"), is \(new[key] ?? "any")")
    }
    if let least = new["minimum"] as? Int, (old["minimum"] as? Int).map({ $0 != least }) ?? true {
      problems.append("\(path): the minimum was \(old["minimum"] ?? "none"), is \(least)")
    }
    let required = Set(new["required"] as? [String] ?? [])
    for name in (old["required"] as? [String] ?? []).sorted() where !required.contains(name) {
      problems.append("\(path).\(name): is no longer always there")
    }
    let fields = new["properties"] as? [String: Any] ?? [:]
    for (name, field) in (old["properties"] as? [String: Any] ?? [:]).sorted(by: { $0.key < $1.key }) {
      guard let was = field as? [String: Any], let now = fields[name] as? [String: Any] else {
        problems.append("\(path).\(name): was removed")
        continue
      }
      problems += compare(was, now, at: "\(path).\(name)")
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", ".*")] {
      guard let was = old[key] as? [String: Any] else { continue }
      guard let now = new[key] as? [String: Any] else {
        problems.append("\(path)\(mark): was removed")
        continue
      }
      problems += compare(was, now, at: path + mark)
    }
    return problems
  }

  private static func types(_ schema: [String: Any]) -> Set<String> {
    if schema["enum"] != nil { return ["string"] }
    if let one = schema["type"] as? String { return [one] }
    return Set(schema["type"] as? [String] ?? [])
  }

  /// Compares two folders of `*.schema.json`, with those of `avro/*.avsc` in them: what is wrong, each with its file.
  public static func problems(oldDirectory: String, newDirectory: String) throws -> [String] {
    try problems(oldDirectory, newDirectory, ".schema.json", problems(old:new:))
      + problems(oldDirectory + "/avro", newDirectory + "/avro", ".avsc", AvroCompatibility.problems(old:new:))
  }

  private static func problems(
    _ oldDirectory: String, _ newDirectory: String, _ ending: String, _ compare: (Data, Data) throws -> [String]
  ) throws -> [String] {
    func files(_ directory: String) throws -> [String] {
      // Before there were any, there was nothing to keep to.
      guard FileManager.default.fileExists(atPath: directory) else { return [] }
      return try FileManager.default.contentsOfDirectory(atPath: directory).filter { $0.hasSuffix(ending) }.sorted()
    }
    let known = Set(try files(newDirectory))
    var all: [String] = []
    for file in try files(oldDirectory) {
      guard known.contains(file) else {
        all.append("\(file): was removed")
        continue
      }
      let old = try Data(contentsOf: URL(fileURLWithPath: oldDirectory + "/" + file))
      let new = try Data(contentsOf: URL(fileURLWithPath: newDirectory + "/" + file))
      do {
        all += try compare(old, new).map { "\(file): \($0)" }
      } catch let error as SchemaError { throw SchemaError(description: "\(file): \(error.description)") }
    }
    return all
  }
}
