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
  /// Every topic that is read or written, with what for: no two may be the same.
  private var topics: [(topic: String, purpose: String)] = []
  /// Where the entries of value tables stand, and which of them have a problem already.
  private var entries: [MappingError.Entry: Node] = [:]
  private var wrongEntries: Set<MappingError.Entry> = []

  init(file: String, directory: String, environment: [String: String]) {
    self.file = file
    self.directory = directory
    self.environment = environment
  }

  func problem(_ node: Node?, _ message: String) {
    problems.append(.init(file: file, line: node?.mark?.line ?? 0, column: node?.mark?.column ?? 0, message: message))
  }

  func problem(line: Int, column: Int, _ message: String) {
    problems.append(.init(file: file, line: line, column: column, message: message))
  }

  /// The entry of a value table.
  func entry(_ table: String, _ key: String, _ node: Node, _ path: [String]) -> String {
    entries[MappingError.Entry(table: table, key: key)] = node
    return text(node, path, "")
  }

  /// A problem of a mapping. One of an entry in the file stands there, once, whoever uses the table.
  func problem(_ place: Node?, _ error: MappingError) {
    guard let entry = error.entry, let own = entries[entry] else { return problem(place, "\(error)") }
    if wrongEntries.insert(entry).inserted { problem(own, "\(error)") }
  }

  /// `; did you mean 'x'?` where a known name is close, else nothing.
  func hint(_ name: String, _ known: some Sequence<String>) -> String {
    nearestName(name, in: known).map { "; did you mean '\($0)'?" } ?? ""
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
        problem(keyNode, "unknown key '\(key)' in \(dotted(path))\(hint(key, names))")
        continue
      }
      entries.append((key, value, keyNode))
    }
    return entries
  }

  /// As `mapping`, by key (YAML keys are unique: the parser refuses a second one).
  func nodes(_ node: Node?, _ path: [String]) -> [String: Node] {
    var nodes: [String: Node] = [:]
    for (key, value, _) in mapping(node, path) { nodes[key] = value }
    return nodes
  }

  /// The keys of a part that is off unless it says `enabled: true`; nil, and a problem for each of its keys, where it is off.
  func enabledNodes(_ node: Node?, _ path: [String], _ what: String) -> [String: Node]? {
    let nodes = nodes(node, path)
    if bool(nodes["enabled"], path + ["enabled"], false) { return nodes }
    for (key, node) in nodes.sorted(by: { $0.key < $1.key }) where key != "enabled" {
      problem(node, "\(dotted(path + [key])): \(what) are not enabled")
    }
    return nil
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
      guard !name.isEmpty, !inside.contains("${") else {
        problem(node, "\(dotted(path)): ${NAME} or ${NAME:-default} is expected, without another inside")
        return nil
      }
      if let value = environment[name] {
        result += value
      } else if parts.count == 2 {
        result += parts[1]
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
    return doubleQuoted(text)
  }

  func text(_ node: Node?, _ path: [String], _ standard: String) -> String {
    let value = node.flatMap { scalar($0, path) } ?? standard
    note(path, quote(value))
    return value
  }

  /// A text that must not be empty: a name, a path, an address.
  func name(_ node: Node?, _ path: [String], _ standard: String) -> String {
    let value = text(node, path, standard)
    if let node, node.scalar != nil, value.isEmpty {
      problem(node, "\(dotted(path)): a text is expected, not an empty value")
    }
    return value
  }

  /// The name of a topic that Kafka accepts and that serves nothing else. `place` is shown where the file leaves the
  /// name to the default.
  func topic(_ node: Node?, _ path: [String], _ standard: String, place: Node?) -> String {
    let value = name(node, path, standard)
    let isLegal =
      value.utf8.count <= 249 && value != "." && value != ".."
      && value.utf8.allSatisfy { byte in
        switch byte {
        case 0x30...0x39, 0x41...0x5a, 0x61...0x7a, 0x2e, 0x5f, 0x2d: true
        default: false
        }
      }
    if !isLegal {
      problem(
        node ?? place,
        "\(dotted(path)): a topic's name has at most 249 letters, digits, '.', '_' and '-', which '\(value)' has not")
    }
    let purpose = dotted(path)
    if let other = topics.first(where: { $0.topic == value }), !value.isEmpty {
      problem(node ?? place, "\(purpose): the topic '\(value)' is that of \(other.purpose) already")
    }
    topics.append((value, purpose))
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
        problem(node, "\(dotted(path)): '\(text)' is not one of \(names.joined(separator: ", "))\(hint(text, names))")
      }
    }
    note(path, value.rawValue)
    return value
  }

  /// - Parameter lowest: What a shorter duration, the standard included, is raised to without a word.
  func duration_ms(
    _ node: Node?, _ path: [String], _ standard: Int64, atLeast least: Int64 = 0, raisedTo lowest: Int64 = 0
  ) -> Int64 {
    var value = standard
    if let node, let text = scalar(node, path) {
      if let parsed = Self.duration_ms(text) {
        value = parsed
        if parsed < least {
          problem(node, "\(dotted(path)): at least \(Self.durationText(least)) is expected, not '\(text)'")
        }
      } else {
        problem(node, "\(dotted(path)): a duration such as 500ms, 5s, 10m, 4h, 7d or 2w is expected, not '\(text)'")
      }
    }
    value = max(value, lowest)
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
    note(path, Self.microsText(value))
    return value
  }

  static func microsText(_ value: Int64) -> String {
    var text = formatDecimal(Int128(value), decimals: 6)
    while text.hasSuffix("0") { text.removeLast() }
    if text.hasSuffix(".") { text.removeLast() }
    return "\"" + text + "\""
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

  /// A list of names that differ, each with its place.
  func names(_ node: Node?, _ path: [String], most: Int = .max) -> [String] {
    let list = texts(node, path)
    guard let items = node?.sequence, items.count == list.count else { return list }
    for (number, name) in list.enumerated() {
      if name.isEmpty { problem(items[number], "\(dotted(path)): a name is expected, not an empty value") }
      if list[..<number].contains(name) { problem(items[number], "\(dotted(path)): '\(name)' is named twice") }
    }
    if list.count > most { problem(items[most], "\(dotted(path)): at most \(most) are possible") }
    return list
  }

  /// Properties that have a key of their own, or that delivery depends on, with what to do instead.
  private static let reserved: [String: String] = [
    "bootstrap.servers": "use kafka.bootstrap", "group.id": "use kafka.group",
    "enable.auto.commit": "offsets are committed after their effect, by tieout",
    "enable.auto.offset.store": "offsets are stored after their effect, by tieout",
    "enable.partition.eof": "tieout relies on it",
    "isolation.level": "tieout reads what is committed; it relies on it",
    "auto.offset.reset": "tieout says itself where it reads; see kafka.start",
    "group.instance.id": "use kafka.instance",
    "transactional.id": "it is made of kafka.group and kafka.instance",
    "partition.assignment.strategy": "source topics must be assigned by 'range', together",
  ]

  /// librdkafka properties: a text, or `{env: NAME}`, or `{file: path}`.
  func properties(_ node: Node?, _ path: [String]) -> [(String, PropertyValue)] {
    mapping(node, path).compactMap { key, value, keyNode in
      let place = path + [key]
      if key == "isolation.level", value.string == "read_committed" { return nil }
      if let instead = Self.reserved[key] {
        problem(keyNode, "\(dotted(place)): this property cannot be set; \(instead)")
        return nil
      }
      guard value.mapping != nil else {
        guard let text = scalar(value, place) else { return nil }
        note(place, Self.isSecret(key) ? "\"***\"" : quote(text))
        return (key, Self.isSecret(key) ? .secret(Secret(text)) : .plain(text))
      }
      note(place, "\"***\"")
      return secret(value, place).map { (key, .secret($0)) }
    }
  }

  /// Whether a property holds a secret although the file writes it out.
  private static func isSecret(_ key: String) -> Bool {
    ["password", "secret", "token", "pem", "credential", "jaas", "oauthbearer.config"].contains { key.contains($0) }
  }

  /// `{env: NAME}` or `{file: path}`.
  func secret(_ node: Node, _ path: [String]) -> Secret? {
    guard let map = node.mapping, map.count == 1, let entry = map.first else {
      problem(node, "\(dotted(path)): a text, {env: NAME} or {file: path} is expected")
      return nil
    }
    let kind = entry.key.string ?? ""
    guard kind == "env" || kind == "file" else {
      problem(
        entry.key, "unknown key '\(kind)' in \(dotted(path)), which takes env or file\(hint(kind, ["env", "file"]))")
      return nil
    }
    guard let name = entry.value.scalar?.string, !name.isEmpty else {
      problem(entry.value, "\(dotted(path)).\(kind): a text is expected")
      return nil
    }
    if kind == "env" {
      guard let text = environment[name] else {
        problem(entry.value, "\(dotted(path)): the environment has no \(name)")
        return nil
      }
      return Secret(text)
    }
    guard let text = try? String(contentsOfFile: resolve(name), encoding: .utf8) else {
      problem(entry.value, "\(dotted(path)): cannot read \(resolve(name))")
      return nil
    }
    return Secret(text.trimmingCharacters(in: .newlines))
  }

  func resolve(_ path: String) -> String { path.hasPrefix("/") ? path : directory + "/" + path }
}

/// A text as a YAML scalar in double quotes, with every character escaped that YAML would not give back.
func doubleQuoted(_ text: String) -> String {
  var result = "\""
  for scalar in text.unicodeScalars {
    switch scalar {
    case "\\": result += "\\\\"
    case "\"": result += "\\\""
    case "\n": result += "\\n"
    default:
      if scalar.value < 0x20 || (0x7f..<0xa0).contains(scalar.value) || [0x2028, 0x2029, 0xfeff].contains(scalar.value)
      {
        let digits = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      } else {
        result.unicodeScalars.append(scalar)
      }
    }
  }
  return result + "\""
}
