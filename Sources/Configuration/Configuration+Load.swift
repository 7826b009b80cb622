import Decoding
import Domain
import Foundation
import Matching
import Yams

extension Configuration {
  /// Reads and checks a file. Throws `ConfigurationError` with every problem found.
  public static func load(
    path: String, environment: [String: String] = ProcessInfo.processInfo.environment
  ) throws -> Configuration {
    let text: String
    do {
      text = try String(contentsOfFile: path, encoding: .utf8)
    } catch {
      throw ConfigurationError(
        problems: [.init(file: path, line: 0, column: 0, message: "cannot be read: \(error.localizedDescription)")])
    }
    return try parse(
      yaml: text, file: path,
      directory: (path as NSString).deletingLastPathComponent.isEmpty
        ? "." : (path as NSString).deletingLastPathComponent, environment: environment)
  }

  /// As `load`, from text. Paths in it are relative to `directory`.
  public static func parse(
    yaml: String, file: String, directory: String,
    environment: [String: String] = ProcessInfo.processInfo.environment
  ) throws -> Configuration {
    let reader = ConfigurationReader(file: file, directory: directory, environment: environment)
    let root: Node?
    do {
      root = try Yams.compose(yaml: yaml)
    } catch let error as YamlError {
      throw ConfigurationError(problems: [.init(file: file, line: 0, column: 0, message: "not valid YAML: \(error)")])
    }
    var configuration = Configuration()
    configuration.read(root, reader)
    if reader.problems.isEmpty { configuration.check(reader) }
    guard reader.problems.isEmpty else { throw ConfigurationError(problems: reader.problems) }
    configuration.effective = reader.effective
    return configuration
  }

  private mutating func read(_ root: Node?, _ reader: ConfigurationReader) {
    guard let root, root.mapping != nil else {
      reader.problem(root, "the file must hold a map")
      return
    }
    var nodes: [String: Node] = [:]
    for (key, value, _) in reader.mapping(root, []) { nodes[key] = value }
    let version = reader.integer(nodes["version"], ["version"], 1, 1...1_000)
    if version != 1 { reader.problem(nodes["version"], "version \(version) is not known; this program reads 1") }
    name = reader.text(nodes["name"], ["name"], name)
    prefix = reader.text(nodes["prefix"], ["prefix"], name)
    workers = reader.integer(nodes["workers"], ["workers"], 1, 1...256)
    dimensions = reader.texts(nodes["dimensions"], ["dimensions"])
    if dimensions.count > maximumDimensions {
      reader.problem(nodes["dimensions"], "at most \(maximumDimensions) dimensions")
    }
    if Set(dimensions).count < dimensions.count { reader.problem(nodes["dimensions"], "a dimension is named twice") }
    readKafka(nodes["kafka"], reader)
    var topics: [String: Node] = [:]
    for (key, value, _) in reader.mapping(nodes["topics"], ["topics"]) { topics[key] = value }
    breaksTopic = reader.text(topics["breaks"], ["topics", "breaks"], prefix + ".breaks")
    deadLettersTopic = reader.text(topics["dead_letters"], ["topics", "dead_letters"], prefix + ".dead-letters")
    var limits: [String: Node] = [:]
    for (key, value, _) in reader.mapping(nodes["limits"], ["limits"]) { limits[key] = value }
    memoryLimit = reader.size(limits["memory"], ["limits", "memory"], memoryLimit)
    let recordBytes = reader.size(limits["record_bytes"], ["limits", "record_bytes"], 4 << 20)
    let depth = reader.integer(limits["depth"], ["limits", "depth"], 64, 1...512)
    let tables = readTables(nodes["tables"], reader)
    for (key, value, keyNode) in reader.mapping(nodes["sources"], ["sources"]) {
      if let source = readSource(key, value, keyNode, tables, reader, recordBytes: recordBytes, depth: depth) {
        sources.append(source)
      }
    }
    if nodes["sources"] == nil { reader.problem(root, "'sources' is missing") }
    readMatching(nodes["matching"], reader)
    readPolicy(nodes["policy"], reader)
    var epoch: [String: Node] = [:]
    for (key, value, _) in reader.mapping(nodes["epoch"], ["epoch"]) { epoch[key] = value }
    epochRecords = reader.integer(epoch["records"], ["epoch", "records"], epochRecords, 1...10_000_000)
    epochInterval_ms = reader.duration_ms(epoch["interval"], ["epoch", "interval"], epochInterval_ms)
    var logging: [String: Node] = [:]
    for (key, value, _) in reader.mapping(nodes["logging"], ["logging"]) { logging[key] = value }
    logLevel = reader.text(logging["level"], ["logging", "level"], "info")
    if !["trace", "debug", "info", "notice", "warning", "error"].contains(logLevel) {
      reader.problem(logging["level"], "logging.level: '\(logLevel)' is no level")
    }
    logFormat = reader.choice(logging["format"], ["logging", "format"], .text)
  }

  private mutating func readKafka(_ node: Node?, _ reader: ConfigurationReader) {
    var nodes: [String: Node] = [:]
    for (key, value, _) in reader.mapping(node, ["kafka"]) { nodes[key] = value }
    kafka.bootstrap = reader.text(nodes["bootstrap"], ["kafka", "bootstrap"], kafka.bootstrap)
    kafka.group = reader.text(nodes["group"], ["kafka", "group"], "tieout-" + name)
    kafka.start = reader.choice(nodes["start"], ["kafka", "start"], .rebuild)
    kafka.properties = reader.properties(nodes["properties"], ["kafka", "properties"])
    kafka.consumer = reader.properties(nodes["consumer"], ["kafka", "consumer"])
    kafka.producer = reader.properties(nodes["producer"], ["kafka", "producer"])
  }

  private func readTables(_ node: Node?, _ reader: ConfigurationReader) -> [String: ValueTable] {
    var tables: [String: ValueTable] = [:]
    for (name, value, keyNode) in reader.mapping(node, ["tables"]) {
      let path = ["tables", name]
      var parts: [String: Node] = [:]
      for (key, value, _) in reader.mapping(value, path) { parts[key] = value }
      var entries: [String: String] = [:]
      for (key, value, _) in reader.mapping(parts["entries"], path + ["entries"]) {
        entries[key] = reader.text(value, path + ["entries", key], "")
      }
      if let fileNode = parts["file"] {
        let file = reader.text(fileNode, path + ["file"], "")
        let keyColumn = parts["key"].map { reader.text($0, path + ["key"], "") }
        let valueColumn = parts["value"].map { reader.text($0, path + ["value"], "") }
        do {
          entries.merge(
            try tableEntries(file: reader.resolve(file), key: keyColumn, value: valueColumn)
          ) { inline, _ in inline }
        } catch {
          reader.problem(fileNode, "\(path.joined(separator: ".")).file: \(error)")
        }
      }
      if entries.isEmpty { reader.problem(keyNode, "the table '\(name)' has no entries") }
      tables[name] = ValueTable(
        name: name, entries: entries, unlisted: readUnlisted(parts["unlisted"], path + ["unlisted"], reader, .reject))
    }
    return tables
  }

  private struct TableFault: Error, CustomStringConvertible { var description: String }

  private func tableEntries(file: String, key: String?, value: String?) throws -> [String: String] {
    guard let text = try? String(contentsOfFile: file, encoding: .utf8) else {
      throw TableFault(description: "cannot read \(file)")
    }
    let rows = text.split(whereSeparator: \.isNewline).map { row in
      row.split(separator: ",", omittingEmptySubsequences: false).map {
        $0.trimmingCharacters(in: CharacterSet(charactersIn: " \"\u{feff}"))
      }
    }
    guard let header = rows.first, header.count >= 2 else {
      throw TableFault(description: "\(file) has no header of two columns")
    }
    func column(_ name: String?, _ standard: Int) throws -> Int {
      guard let name else { return standard }
      guard let at = header.firstIndex(of: name) else {
        let hint = nearestName(name, in: header).map { "; did you mean '\($0)'?" } ?? ""
        throw TableFault(description: "\(file) has no column '\(name)'\(hint)")
      }
      return at
    }
    let (from, to) = (try column(key, 0), try column(value, 1))
    var entries: [String: String] = [:]
    for (line, row) in rows.enumerated().dropFirst() {
      guard row.count > max(from, to) else { throw TableFault(description: "\(file):\(line + 1): too few columns") }
      if let known = entries[row[from]], known != row[to] {
        throw TableFault(description: "\(file):\(line + 1): '\(row[from])' comes twice with different values")
      }
      entries[row[from]] = row[to]
    }
    return entries
  }

  private func readUnlisted(
    _ node: Node?, _ path: [String], _ reader: ConfigurationReader, _ standard: ValueTable.Unlisted
  ) -> ValueTable.Unlisted {
    guard let node else { return standard }
    if let map = node.mapping, map.count == 1, let first = map.first, first.key.string == "replace" {
      return .replace(reader.text(first.value, path + ["replace"], ""))
    }
    switch reader.text(node, path, "reject") {
    case "reject": return .reject
    case "skip": return .skip
    case "keep": return .keep
    default:
      reader.problem(node, "\(path.joined(separator: ".")): reject, skip, keep or {replace: text} is expected")
      return .reject
    }
  }

  // MARK: - Sources

  private func readSource(
    _ name: String, _ node: Node, _ keyNode: Node, _ tables: [String: ValueTable], _ reader: ConfigurationReader,
    recordBytes: Int, depth: Int
  ) -> SourceSettings? {
    let path = ["sources", name]
    var nodes: [String: Node] = [:]
    for (key, value, _) in reader.mapping(node, path) { nodes[key] = value }
    guard let kindNode = nodes["kind"] else {
      reader.problem(keyNode, "\(path.joined(separator: ".")): 'kind' is missing (orders or ledger)")
      return nil
    }
    let kind: SourceKind = reader.choice(kindNode, path + ["kind"], .orders)
    let format: RecordFormat = reader.choice(nodes["format"], path + ["format"], .json)
    var mapping = MappingSpecification(sourceName: name, sourceIndex: sources.count, kind: kind, format: format)
    mapping.maximumDepth = depth
    mapping.maximumRecordBytes = recordBytes
    let topic = reader.text(nodes["topic"], path + ["topic"], "\(prefix).\(name)")
    if let csv = nodes["csv"] { mapping.csv = readCSV(csv, path + ["csv"], reader) }
    if let conditions = nodes["where"] { mapping.filters = readFilters(conditions, path + ["where"], reader) }
    for (key, value, keyNode) in reader.mapping(nodes["fields"], path + ["fields"]) {
      let known = kind == .orders ? OrderField.allCases.map(\.rawValue) : PostingField.allCases.map(\.rawValue)
      if !known.contains(key) {
        let hint = nearestName(key, in: known).map { "; did you mean '\($0)'?" } ?? ""
        reader.problem(keyNode, "unknown field '\(key)' in \((path + ["fields"]).joined(separator: "."))\(hint)")
        continue
      }
      mapping.fields[key] = readField(value, path + ["fields", key], tables, reader)
    }
    if let amount = nodes["amount"] { mapping.amount = readAmount(amount, path + ["amount"], tables, reader) }
    mapping.dimensions = Array(repeating: nil, count: dimensions.count)
    for (key, value, keyNode) in reader.mapping(nodes["dimensions"], path + ["dimensions"]) {
      guard let index = dimensions.firstIndex(of: key) else {
        let hint = nearestName(key, in: dimensions).map { "; did you mean '\($0)'?" } ?? ""
        reader.problem(keyNode, "unknown dimension '\(key)'\(hint)")
        continue
      }
      mapping.dimensions[index] = readField(value, path + ["dimensions", key], tables, reader)
    }
    if reader.problems.isEmpty {
      do {
        _ = try MappingPlan(mapping)
      } catch {
        reader.problem(keyNode, "\(error)")
      }
    }
    return SourceSettings(name: name, topic: topic, mapping: mapping)
  }

  private func readCSV(_ node: Node, _ path: [String], _ reader: ConfigurationReader) -> CSVDialect {
    var dialect = CSVDialect()
    var nodes: [String: Node] = [:]
    for (key, value, _) in reader.mapping(node, path) { nodes[key] = value }
    func character(_ key: String, _ standard: UInt8, none: Bool) -> UInt8? {
      guard let node = nodes[key] else { return standard }
      let text = reader.text(node, path + [key], "")
      if text == "tab" || text == "\t" { return 9 }
      if none, text == "none" || text.isEmpty { return nil }
      guard text.utf8.count == 1 else {
        reader.problem(node, "\((path + [key]).joined(separator: ".")): one ASCII character is expected")
        return standard
      }
      return text.utf8.first!
    }
    dialect.delimiter = character("delimiter", dialect.delimiter, none: false)!
    dialect.quote = character("quote", UInt8(ascii: "\""), none: true)
    dialect.encoding = reader.choice(nodes["encoding"], path + ["encoding"], .utf8)
    dialect.hasHeader = reader.bool(nodes["header"], path + ["header"], true)
    dialect.columns = reader.texts(nodes["columns"], path + ["columns"])
    return dialect
  }

  private func readFilters(_ node: Node, _ path: [String], _ reader: ConfigurationReader) -> [RecordFilter] {
    guard let list = node.sequence else {
      reader.problem(node, "\(path.joined(separator: ".")): a list of conditions is expected")
      return []
    }
    return list.enumerated().compactMap { number, item in
      let path = path + ["#\(number + 1)"]
      var value: ValueExpression?
      var texts: [String] = []
      var isNegated = false
      guard let map = item.mapping else {
        reader.problem(item, "\(path.joined(separator: ".")): {path: …, in: […]} is expected")
        return nil
      }
      for (keyNode, node) in map {
        switch keyNode.string ?? "" {
        case "path": value = .path(reader.text(node, path + ["path"], ""))
        case "in": texts = reader.texts(node, path + ["in"])
        case "not_in":
          texts = reader.texts(node, path + ["not_in"])
          isNegated = true
        case let other:
          let hint = nearestName(other, in: ["path", "in", "not_in"]).map { "; did you mean '\($0)'?" } ?? ""
          reader.problem(keyNode, "unknown key '\(other)' in \(path.joined(separator: "."))\(hint)")
        }
      }
      guard let value, !texts.isEmpty else {
        reader.problem(item, "\(path.joined(separator: ".")): a condition needs 'path' and 'in' or 'not_in'")
        return nil
      }
      return RecordFilter(value: value, oneOf: texts, negated: isNegated)
    }
  }

  private static let fieldKeys = [
    "path", "constant", "concat", "first", "values", "unlisted", "table", "format", "time_zone", "decimal", "default",
    "strip_leading_zeros",
  ]

  private func readExpression(_ node: Node, _ path: [String], _ reader: ConfigurationReader) -> ValueExpression {
    if node.scalar != nil { return .path(reader.text(node, path, "")) }
    guard let map = node.mapping, map.count == 1, let (key, value) = map.first.map({ ($0.key, $0.value) }) else {
      reader.problem(
        node, "\(path.joined(separator: ".")): a path, or one of path, constant, concat, first is expected")
      return .constant("")
    }
    switch key.string ?? "" {
    case "path": return .path(reader.text(value, path + ["path"], ""))
    case "constant": return .constant(reader.text(value, path + ["constant"], ""))
    case "concat", "first":
      guard let list = value.sequence else {
        reader.problem(value, "\(path.joined(separator: ".")): a list is expected")
        return .constant("")
      }
      let parts = list.enumerated().map { readExpression($1, path + [key.string!, "#\($0 + 1)"], reader) }
      return key.string == "concat" ? .concatenation(parts) : .firstPresent(parts)
    case let other:
      let hint =
        nearestName(other, in: ["path", "constant", "concat", "first"]).map { "; did you mean '\($0)'?" } ?? ""
      reader.problem(key, "unknown key '\(other)' in \(path.joined(separator: "."))\(hint)")
      return .constant("")
    }
  }

  private func readField(
    _ node: Node, _ path: [String], _ tables: [String: ValueTable], _ reader: ConfigurationReader
  ) -> FieldMapping {
    let dotted = path.joined(separator: ".")
    guard let map = node.mapping else { return FieldMapping(readExpression(node, path, reader)) }
    var value: ValueExpression?
    var nodes: [String: Node] = [:]
    for (keyNode, node) in map {
      let key = keyNode.string ?? ""
      guard Self.fieldKeys.contains(key) else {
        let hint = nearestName(key, in: Self.fieldKeys).map { "; did you mean '\($0)'?" } ?? ""
        reader.problem(keyNode, "unknown key '\(key)' in \(dotted)\(hint)")
        continue
      }
      if ["path", "constant", "concat", "first"].contains(key) {
        if value != nil { reader.problem(keyNode, "\(dotted): only one of path, constant, concat, first") }
        value = readExpression(Node.mapping(.init([(keyNode, node)], .implicit, .any, keyNode.mark)), path, reader)
      } else {
        nodes[key] = node
      }
    }
    if value == nil { reader.problem(node, "\(dotted): one of path, constant, concat, first is needed") }
    var mapping = FieldMapping(value ?? .constant(""))
    if let tableNode = nodes["table"] {
      let name = reader.text(tableNode, path + ["table"], "")
      if let table = tables[name] {
        mapping.table = table
      } else {
        let hint = nearestName(name, in: tables.keys).map { "; did you mean '\($0)'?" } ?? ""
        reader.problem(tableNode, "\(dotted): no table '\(name)'\(hint)")
      }
    }
    if let valuesNode = nodes["values"] {
      if nodes["table"] != nil { reader.problem(valuesNode, "\(dotted): either 'values' or 'table'") }
      var entries: [String: String] = [:]
      for (key, value) in valuesNode.mapping ?? [:] {
        guard let from = key.string else { continue }
        entries[from] = reader.text(value, path + ["values", from], "")
      }
      if entries.isEmpty { reader.problem(valuesNode, "\(dotted).values: a map of texts is expected") }
      mapping.table = ValueTable(name: dotted, entries: entries)
    }
    if let unlisted = nodes["unlisted"] {
      if mapping.table == nil { reader.problem(unlisted, "\(dotted): 'unlisted' without 'values' or 'table'") }
      mapping.table?.unlisted = readUnlisted(unlisted, path + ["unlisted"], reader, .reject)
    }
    if let format = nodes["format"] {
      let text = reader.text(format, path + ["format"], "auto")
      let named: [String: TimeFormat] = [
        "rfc3339": .rfc3339, "epoch_s": .epochSeconds, "epoch_ms": .epochMilliseconds, "epoch_us": .epochMicroseconds,
        "epoch_days": .epochDays, "yyyymmdd": .compact, "auto": .automatic,
      ]
      mapping.timeFormat = named[text] ?? .pattern(text)
    }
    if let zone = nodes["time_zone"] {
      let text = reader.text(zone, path + ["time_zone"], "Z")
      if let minutes = Self.offset_min(text) {
        mapping.timeZoneOffset_min = minutes
      } else {
        reader.problem(zone, "\(dotted): an offset such as Z or +02:00 is expected, not '\(text)'")
      }
    }
    if let decimal = nodes["decimal"] { mapping.decimal = readDecimal(decimal, path + ["decimal"], reader) }
    if let standard = nodes["default"] { mapping.defaultText = reader.text(standard, path + ["default"], "") }
    if let strip = nodes["strip_leading_zeros"] {
      mapping.stripsLeadingZeros = reader.bool(strip, path + ["strip_leading_zeros"], false)
    }
    return mapping
  }

  static func offset_min(_ text: String) -> Int? {
    if text == "Z" || text == "UTC" { return 0 }
    guard text.count == 6, let sign = text.first, sign == "+" || sign == "-",
      let hours = Int(text.dropFirst().prefix(2)), let minutes = Int(text.suffix(2)), hours <= 18, minutes < 60
    else { return nil }
    return (sign == "-" ? -1 : 1) * (hours * 60 + minutes)
  }

  private func readDecimal(_ node: Node, _ path: [String], _ reader: ConfigurationReader) -> DecimalStyle {
    var style = DecimalStyle()
    let known = [
      "separator", "grouping", "trailing_minus", "parentheses", "implied_decimals", "base64_scale", "rounding",
      "negate",
    ]
    for (keyNode, value) in node.mapping ?? [:] {
      let key = keyNode.string ?? ""
      let at = path + [key]
      func character() -> UInt8? {
        let text = reader.text(value, at, "")
        if text == "space" { return 0x20 }
        guard text.utf8.count == 1 else {
          reader.problem(value, "\(at.joined(separator: ".")): one ASCII character is expected")
          return nil
        }
        return text.utf8.first
      }
      switch key {
      case "separator": style.decimalSeparator = character() ?? style.decimalSeparator
      case "grouping": style.groupingSeparator = character()
      case "trailing_minus": style.allowsTrailingMinus = reader.bool(value, at, false)
      case "parentheses": style.allowsParentheses = reader.bool(value, at, false)
      case "implied_decimals": style.impliedDecimals = reader.integer(value, at, 0, 0...18)
      case "base64_scale": style.base64Scale = reader.integer(value, at, 0, 0...18)
      case "rounding": style.rounding = reader.choice(value, at, .refuse)
      case "negate": style.negate = reader.bool(value, at, false)
      default:
        let hint = nearestName(key, in: known).map { "; did you mean '\($0)'?" } ?? ""
        reader.problem(keyNode, "unknown key '\(key)' in \(path.joined(separator: "."))\(hint)")
      }
    }
    if node.mapping == nil { reader.problem(node, "\(path.joined(separator: ".")): a map is expected") }
    return style
  }

  private func readAmount(
    _ node: Node, _ path: [String], _ tables: [String: ValueTable], _ reader: ConfigurationReader
  ) -> PostingAmount {
    if let map = node.mapping {
      if let debit = map["debit"], let credit = map["credit"], map.count == 2 {
        return .debitCredit(
          debit: readField(debit, path + ["debit"], tables, reader),
          credit: readField(credit, path + ["credit"], tables, reader))
      }
      if let amount = map["amount"], let side = map["side"], map.count == 2 {
        return .indicated(
          amount: readField(amount, path + ["amount"], tables, reader),
          side: readField(side, path + ["side"], tables, reader))
      }
      if map["debit"] != nil || map["credit"] != nil || map["side"] != nil {
        reader.problem(node, "\(path.joined(separator: ".")): {debit, credit} or {amount, side} is expected")
      }
    }
    return .signed(readField(node, path, tables, reader))
  }

  // MARK: - Matching

  private mutating func readMatching(_ node: Node?, _ reader: ConfigurationReader) {
    let base = ["matching"]
    var nodes: [String: Node] = [:]
    for (key, value, _) in reader.mapping(node, base) { nodes[key] = value }
    func duration(_ key: String, _ standard: Int64) -> Int64 { reader.duration_ms(nodes[key], base + [key], standard) }
    policy.window_ms = duration("window", policy.window_ms)
    policy.grace_ms = duration("grace", policy.grace_ms)
    policy.settle_ms = duration("settle", policy.settle_ms)
    policy.retention_ms = duration("retention", policy.retention_ms)
    policy.openRetention_ms = duration("open_retention", policy.openRetention_ms)
    policy.outOfOrderness_ms = duration("out_of_orderness", policy.outOfOrderness_ms)
    policy.idleTimeout_ms = duration("idle_timeout", policy.idleTimeout_ms)
    policy.maximumFuture_ms = duration("maximum_future", policy.maximumFuture_ms)
    policy.reportsProvisional = reader.bool(nodes["provisional"], base + ["provisional"], true)
    policy.lateAfter_d = Int32(reader.integer(nodes["late_after_days"], base + ["late_after_days"], 5, 0...3_650))
    policy.earlyBefore_d = Int32(reader.integer(nodes["early_before_days"], base + ["early_before_days"], 1, 0...3_650))
    policy.checksPostingDates = reader.bool(nodes["posting_dates"], base + ["posting_dates"], true)
    policy.checksCustomers = reader.bool(nodes["customers"], base + ["customers"], true)
    policy.maximumExpiries = reader.integer(
      nodes["maximum_expiries"], base + ["maximum_expiries"], policy.maximumExpiries, 1...100_000_000)
    var quantities: [String: Node] = [:]
    for (key, value, _) in reader.mapping(nodes["quantities"], base + ["quantities"]) { quantities[key] = value }
    policy.quantities.isEnabled = reader.bool(quantities["compare"], base + ["quantities", "compare"], false)
    policy.quantities.basis = reader.choice(quantities["basis"], base + ["quantities", "basis"], .delivered)
    policy.quantities.tolerance_u = reader.micros(quantities["tolerance"], base + ["quantities", "tolerance"], 0)
    if let severity = nodes["severity"] {
      if let list = severity.sequence, list.count == 3 {
        policy.severityAmounts_u = list.enumerated().map {
          reader.micros($1, base + ["severity", "#\($0 + 1)"], 0)
        }
        if policy.severityAmounts_u != policy.severityAmounts_u.sorted() {
          reader.problem(severity, "matching.severity: the amounts must rise")
        }
      } else {
        reader.problem(severity, "matching.severity: three amounts are expected")
      }
    }
    readTolerances(nodes["tolerances"], base + ["tolerances"], reader)
  }

  private mutating func readTolerances(_ node: Node?, _ path: [String], _ reader: ConfigurationReader) {
    let entries = reader.mapping(node, path)
    func tolerance(_ node: Node, _ path: [String]) -> Tolerance {
      var nodes: [String: Node] = [:]
      for (key, value, _) in reader.mapping(node, path) { nodes[key] = value }
      let absolute = reader.micros(nodes["absolute"], path + ["absolute"], 0)
      var tolerance = Tolerance(absolute_u: absolute)
      if let under = nodes["under"] { tolerance.under_u = reader.micros(under, path + ["under"], absolute) }
      if let over = nodes["over"] { tolerance.over_u = reader.micros(over, path + ["over"], absolute) }
      tolerance.percent_u = reader.micros(nodes["percent"], path + ["percent"], 0)
      tolerance.combination = reader.choice(nodes["combine"], path + ["combine"], .max)
      return tolerance
    }
    if let standard = entries.first(where: { $0.key == "default" }) {
      let value = tolerance(standard.value, path + ["default"])
      policy.tolerances = Array(repeating: value, count: AccountRole.count)
    }
    for (key, value, keyNode) in entries where key != "default" {
      guard let role = AccountRole(name: key) else {
        let hint = nearestName(key, in: AccountRole.allCases.map(\.name)).map { "; did you mean '\($0)'?" } ?? ""
        reader.problem(keyNode, "'\(key)' is no account role\(hint)")
        continue
      }
      policy.tolerances[Int(role.rawValue)] = tolerance(value, path + [key])
    }
  }

  private mutating func readPolicy(_ node: Node?, _ reader: ConfigurationReader) {
    for (key, value, keyNode) in reader.mapping(node, ["policy"]) where key == "replace_defaults" {
      if reader.bool(value, ["policy", key], false) {
        policy.entries = Array(repeating: [], count: OrderEventKind.allCases.count)
      }
      _ = keyNode
    }
    for (key, value, keyNode) in reader.mapping(node, ["policy"]) where key != "replace_defaults" {
      guard let kind = OrderEventKind(name: key) else {
        let hint = nearestName(key, in: OrderEventKind.allCases.map(\.name)).map { "; did you mean '\($0)'?" } ?? ""
        reader.problem(keyNode, "'\(key)' is no order event\(hint)")
        continue
      }
      var entries: [PolicyEntry] = []
      for (roleName, termNode, roleNode) in reader.mapping(value, ["policy", key]) {
        guard let role = AccountRole(name: roleName) else {
          let hint = nearestName(roleName, in: AccountRole.allCases.map(\.name)).map { "; did you mean '\($0)'?" } ?? ""
          reader.problem(roleNode, "'\(roleName)' is no account role\(hint)")
          continue
        }
        let terms = termNode.sequence.map { Array($0) } ?? [termNode]
        for (number, term) in terms.enumerated() {
          let place = ["policy", key, roleName] + (terms.count > 1 ? ["#\(number + 1)"] : [])
          let text = reader.text(term, place, "")
          guard let sign = text.first, sign == "+" || sign == "-",
            let component = AmountComponent.allCases.first(where: { $0.name == text.dropFirst() })
          else {
            let names = AmountComponent.allCases.map(\.name).joined(separator: ", ")
            reader.problem(term, "policy.\(key).\(roleName): '+' or '-' and one of \(names) is expected, not '\(text)'")
            continue
          }
          entries.append(PolicyEntry(role, sign == "-" ? -1 : 1, component))
        }
      }
      if entries.isEmpty { reader.note(["policy", key], "{}") }
      policy.entries[Int(kind.rawValue)] = entries
    }
  }

  private func check(_ reader: ConfigurationReader) {
    if !sources.contains(where: { $0.mapping.kind == .orders }) {
      reader.problem(nil, "no source of kind orders")
    }
    if !sources.contains(where: { $0.mapping.kind == .ledger }), !policy.quantities.isEnabled {
      reader.problem(
        nil, "no source of kind ledger (only with matching.quantities.compare can orders be compared alone)")
    }
    if Set(sources.map(\.topic)).count < sources.count { reader.problem(nil, "two sources name the same topic") }
  }
}
