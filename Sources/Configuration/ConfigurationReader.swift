import Decoding
import Domain
import Foundation
import Matching
import Yams

/// Reads the YAML tree, collecting every problem with its line and column.
final class ConfigurationReader {
  let file: String
  let directory: String
  let environment: [String: String]
  private(set) var problems: [ConfigurationError.Problem] = []
  var effective: [(path: [String], text: String)] = []

  init(file: String, directory: String, environment: [String: String]) {
    self.file = file
    self.directory = directory
    self.environment = environment
  }

  func problem(_ node: Node?, _ message: String) {
    problems.append(.init(file: file, line: node?.mark?.line ?? 0, column: node?.mark?.column ?? 0, message: message))
  }

  func dotted(_ path: [String]) -> String { path.isEmpty ? "the file" : path.joined(separator: ".") }

  /// The entries of a mapping; unknown keys are reported with the nearest known one.
  func mapping(_ node: Node?, _ path: [String]) -> [(key: String, value: Node, keyNode: Node)] {
    guard let node else { return [] }
    if node.null != nil || node.string == "" { return [] }
    guard let mapping = node.mapping else {
      problem(node, "\(dotted(path)): a map is expected")
      return []
    }
    let (names, isOpen) = KeyReference.children(of: path)
    var entries: [(key: String, value: Node, keyNode: Node)] = []
    for (keyNode, value) in mapping {
      guard let key = keyNode.string else {
        problem(keyNode, "\(dotted(path)): a key must be a text")
        continue
      }
      if !isOpen, !names.contains(key) {
        let hint = nearestName(key, in: names).map { "; did you mean '\($0)'?" } ?? ""
        problem(keyNode, "unknown key '\(key)' in \(dotted(path))\(hint)")
        continue
      }
      entries.append((key, value, keyNode))
    }
    return entries
  }

  /// A scalar's text with `${NAME}` replaced; nil and a problem where it is none.
  func scalar(_ node: Node, _ path: [String]) -> String? {
    guard let text = node.scalar?.string else {
      problem(node, "\(dotted(path)): a single value is expected")
      return nil
    }
    guard text.contains("${") else { return text }
    var result = ""
    var rest = Substring(text)
    while let open = rest.range(of: "${") {
      result += rest[..<open.lowerBound]
      let body = rest[open.upperBound...]
      guard let close = body.firstIndex(of: "}") else {
        problem(node, "\(dotted(path)): '${' without '}'")
        return nil
      }
      let inside = body[..<close]
      let parts = inside.split(separator: ":-", maxSplits: 1, omittingEmptySubsequences: false)
      let name = String(parts[0])
      if let value = environment[name] {
        result += value
      } else if parts.count == 2 || inside.hasSuffix(":-") {
        result += parts.count == 2 ? parts[1] : ""
      } else {
        problem(node, "\(dotted(path)): the environment has no \(name)")
        return nil
      }
      rest = body[body.index(after: close)...]
    }
    return result + rest
  }

  func note(_ path: [String], _ text: String) { effective.append((path, text)) }

  func quote(_ text: String) -> String {
    let isPlain =
      text.first.map { $0.isLetter || $0 == "/" } == true
      && text.unicodeScalars.allSatisfy {
        $0.properties.isAlphabetic || ($0.value >= 48 && $0.value < 58) || "_.-/".unicodeScalars.contains($0)
      }
      && !["true", "false", "null", "yes", "no", "on", "off", "~"].contains(text.lowercased()) && Double(text) == nil
    if isPlain { return text }
    return "\"" + text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing("\n", with: "\\n") + "\""
  }

  func text(_ node: Node?, _ path: [String], _ standard: String) -> String {
    let value = node.flatMap { scalar($0, path) } ?? standard
    note(path, quote(value))
    return value
  }

  func integer(_ node: Node?, _ path: [String], _ standard: Int, _ range: ClosedRange<Int>) -> Int {
    var value = standard
    if let node, let text = scalar(node, path) {
      if let parsed = Int(text.replacing("_", with: "")), range.contains(parsed) {
        value = parsed
      } else {
        problem(
          node,
          "\(dotted(path)): a whole number from \(range.lowerBound) to \(range.upperBound) is expected, not '\(text)'")
      }
    }
    note(path, String(value))
    return value
  }

  func bool(_ node: Node?, _ path: [String], _ standard: Bool) -> Bool {
    var value = standard
    if let node, let text = scalar(node, path) {
      switch text {
      case "true": value = true
      case "false": value = false
      default: problem(node, "\(dotted(path)): true or false is expected, not '\(text)'")
      }
    }
    note(path, String(value))
    return value
  }

  func choice<C: RawRepresentable & CaseIterable>(_ node: Node?, _ path: [String], _ standard: C) -> C
  where C.RawValue == String {
    var value = standard
    if let node, let text = scalar(node, path) {
      if let known = C(rawValue: text) {
        value = known
      } else {
        let names = C.allCases.map(\.rawValue)
        let hint = nearestName(text, in: names).map { "; did you mean '\($0)'?" } ?? ""
        problem(node, "\(dotted(path)): '\(text)' is not one of \(names.joined(separator: ", "))\(hint)")
      }
    }
    note(path, value.rawValue)
    return value
  }

  func duration_ms(_ node: Node?, _ path: [String], _ standard: Int64) -> Int64 {
    var value = standard
    if let node, let text = scalar(node, path) {
      if let parsed = Self.duration_ms(text) {
        value = parsed
      } else {
        problem(node, "\(dotted(path)): a duration such as 500ms, 5s, 10m, 4h, 7d or 2w is expected, not '\(text)'")
      }
    }
    note(path, Self.durationText(value))
    return value
  }

  static let durationUnits: [(String, Int64)] = [
    ("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000),
  ]

  static func duration_ms(_ text: String) -> Int64? {
    let digits = text.prefix { $0.isASCII && $0.isNumber }
    guard let count = Int64(digits), let unit = durationUnits.first(where: { $0.0 == text.dropFirst(digits.count) })
    else {
      return nil
    }
    let (value, overflow) = count.multipliedReportingOverflow(by: unit.1)
    // A thousand years: sums of a few such never overflow a time.
    return overflow || value > 31_557_600_000_000 ? nil : value
  }

  static func durationText(_ ms: Int64) -> String {
    for (unit, size) in durationUnits.reversed() where unit != "w" && ms % size == 0 && (ms > 0 || unit == "s") {
      return "\(ms / size)\(unit)"
    }
    return "\(ms)ms"
  }

  func size(_ node: Node?, _ path: [String], _ standard: Int) -> Int {
    var value = standard
    if let node, let text = scalar(node, path) {
      if let parsed = Self.size(text), parsed > 0 {
        value = parsed
      } else {
        problem(node, "\(dotted(path)): a size such as 64KiB, 4MiB or 2GiB is expected, not '\(text)'")
      }
    }
    note(path, value % (1 << 20) == 0 ? "\(value >> 20)MiB" : "\(value)B")
    return value
  }

  static func size(_ text: String) -> Int? {
    let units: [(String, Int)] = [
      ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("kB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000),
      ("B", 1), ("", 1),
    ]
    let digits = text.prefix { $0.isASCII && $0.isNumber }
    guard let count = Int(digits), let unit = units.first(where: { $0.0 == text.dropFirst(digits.count) }) else {
      return nil
    }
    let (value, overflow) = count.multipliedReportingOverflow(by: unit.1)
    return overflow ? nil : value
  }

  /// A decimal in millionths, exactly; never by way of a floating-point number.
  func micros(_ node: Node?, _ path: [String], _ standard: Int64) -> Int64 {
    var value = standard
    if let node, var text = scalar(node, path) {
      let parsed: Int64? = text.withUTF8 { bytes in (try? DecimalText(bytes)).flatMap { try? $0.units(decimals: 6) } }
      if let parsed, parsed >= 0 {
        value = parsed
      } else {
        problem(node, "\(dotted(path)): a decimal of at most six places is expected, not '\(text)'")
      }
    }
    note(path, "\"" + formatDecimal(Int128(value), decimals: 6) + "\"")
    return value
  }

  func texts(_ node: Node?, _ path: [String]) -> [String] {
    guard let node, node.null == nil else { return [] }
    guard let sequence = node.sequence else {
      problem(node, "\(dotted(path)): a list is expected")
      return []
    }
    let list = sequence.compactMap { scalar($0, path) }
    note(path, "[" + list.map(quote).joined(separator: ", ") + "]")
    return list
  }

  /// librdkafka properties: a text, or `{env: NAME}`, or `{file: path}`.
  func properties(_ node: Node?, _ path: [String]) -> [(String, PropertyValue)] {
    mapping(node, path).compactMap { key, value, _ in
      if let map = value.mapping {
        for (kind, source) in map {
          guard let name = source.scalar?.string else { break }
          switch kind.string {
          case "env":
            note(path + [key], "\"***\"")
            guard let text = environment[name] else {
              problem(source, "\(dotted(path + [key])): the environment has no \(name)")
              return nil
            }
            return (key, .secret(Secret(text)))
          case "file":
            note(path + [key], "\"***\"")
            guard let text = try? String(contentsOfFile: resolve(name), encoding: .utf8) else {
              problem(source, "\(dotted(path + [key])): cannot read \(resolve(name))")
              return nil
            }
            return (key, .secret(Secret(text.trimmingCharacters(in: .newlines))))
          default: break
          }
        }
        problem(value, "\(dotted(path + [key])): a text, {env: NAME} or {file: path} is expected")
        return nil
      }
      guard let text = scalar(value, path + [key]) else { return nil }
      let isSecret = ["password", "secret", "token", "pem", "key.pem", "credentials", "jaas"].contains {
        key.contains($0)
      }
      note(path + [key], isSecret ? "\"***\"" : quote(text))
      return (key, isSecret ? .secret(Secret(text)) : .plain(text))
    }
  }

  func resolve(_ path: String) -> String { path.hasPrefix("/") ? path : directory + "/" + path }
}
