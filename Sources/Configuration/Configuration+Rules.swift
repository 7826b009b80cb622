import Decoding
import Domain
import Validation
import Yams

/// Validation rules of a source, checked and compiled as far as they can be without a record.
extension Configuration {
  private static let ruleKeys = KeyReference.ofRules.map(\.path)

  func readRules(
    _ node: Node?, _ path: [String], _ source: SourceSettings, _ tables: [String: ValueTable],
    _ reader: ConfigurationReader
  ) -> ([RuleSpecification], [UniqueRule]) {
    guard let node else { return ([], []) }
    guard let list = node.sequence else {
      reader.problem(node, "\(reader.dotted(path)): a list of rules is expected")
      return ([], [])
    }
    var unique: [UniqueRule] = []
    let rules = list.enumerated().flatMap { number, item in
      readRule(item, path + ["#\(number + 1)"], source, tables, reader, &unique)
    }
    if rules.flagNames.count > RuleSpecification.maximumFlags {
      reader.problem(
        node, "\(reader.dotted(path)): at most \(RuleSpecification.maximumFlags) rules of a source can flag, by name")
      return ([], [])
    }
    return (rules, unique)
  }

  private func readRule(
    _ node: Node, _ path: [String], _ source: SourceSettings, _ tables: [String: ValueTable],
    _ reader: ConfigurationReader, _ unique: inout [UniqueRule]
  ) -> [RuleSpecification] {
    guard let map = node.mapping else {
      reader.problem(node, "\(reader.dotted(path)): {field: …} or {check: …} is expected")
      return []
    }
    var nodes: [String: Node] = [:]
    for (keyNode, value) in map {
      let key = keyNode.string ?? ""
      guard Self.ruleKeys.contains(key) else {
        reader.problem(keyNode, "unknown key '\(key)' in \(reader.dotted(path))\(reader.hint(key, Self.ruleKeys))")
        return []
      }
      nodes[key] = value
    }
    guard (nodes["field"] == nil) != (nodes["check"] == nil) else {
      reader.problem(node, "\(reader.dotted(path)): a rule has either 'field' or 'check'")
      return []
    }
    let subject = reader.name(nodes["field"] ?? nodes["check"], path + [nodes["field"] == nil ? "check" : "field"], "")
    let name = nodes["name"].map { reader.name($0, path + ["name"], "") } ?? subject
    let severity =
      nodes["severity"].map { reader.choice($0, path + ["severity"], RuleSeverity.reject) } ?? .reject
    let applies = readApplies(nodes["when"], path + ["when"], source, reader)
    func rule(_ condition: RuleSpecification.Condition) -> RuleSpecification {
      RuleSpecification(name: name, subject: subject, severity: severity, applies: applies, condition: condition)
    }
    let onFields = [
      "required", "pattern", "one_of", "table", "minimum", "maximum", "not_before", "not_after", "within",
    ]
    if let check = nodes["check"] {
      for key in onFields + ["unique", "with"] {
        if let wrong = nodes[key] { reader.problem(wrong, "\(reader.dotted(path)).\(key): only for a field") }
      }
      guard var sum = readSum(check, subject, path + ["check"], source, reader) else { return [] }
      if let tolerance = nodes["tolerance"] { sum.tolerance_u = reader.micros(tolerance, path + ["tolerance"], 0) }
      return [rule(.sum(sum))]
    }
    if let wrong = nodes["tolerance"] { reader.problem(wrong, "\(reader.dotted(path)).tolerance: only for a check") }
    guard let field = ruleField(subject, source) else {
      let known = ruleFieldNames(source)
      reader.problem(
        nodes["field"],
        "\(reader.dotted(path)).field: '\(subject)' is no field that rules can check and this source maps"
          + reader.hint(subject, known))
      return []
    }
    if let node = nodes["unique"] {
      for key in onFields {
        if let wrong = nodes[key] {
          reader.problem(wrong, "\(reader.dotted(path)).\(key): 'unique' is a rule of its own; write another one")
        }
      }
      if let made = readUnique(node, nodes, path, source, field, subject, reader) {
        unique.append(
          UniqueRule(
            name: nodes["name"] == nil ? made.subject : name, subject: made.subject, fields: made.fields,
            severity: severity, applies: applies, within_ms: made.within_ms))
      }
      return []
    }
    if let wrong = nodes["with"] { reader.problem(wrong, "\(reader.dotted(path)).with: only beside 'unique'") }
    let isMasked = (source.mapping.fields[subject] ?? dimensionMapping(subject, source))?.mask ?? .none != .none
    for key in ["pattern", "one_of", "table"] where isMasked {
      if let wrong = nodes[key] {
        reader.problem(wrong, "\(reader.dotted(path)).\(key): '\(subject)' is masked, and rules see what is left of it")
      }
    }
    let conditions = readConditions(field, nodes, path, tables, reader)
    if conditions.isEmpty, !onFields.contains(where: { nodes[$0] != nil }) {
      reader.problem(node, "\(reader.dotted(path)): there is no condition (\(onFields.joined(separator: ", ")))")
    }
    return conditions.map(rule)
  }

  private func readUnique(
    _ node: Node, _ nodes: [String: Node], _ path: [String], _ source: SourceSettings, _ first: RuleField,
    _ subject: String, _ reader: ConfigurationReader
  ) -> (fields: [RuleField], subject: String, within_ms: Int64)? {
    let problems = reader.problems.count
    let within_ms = reader.duration_ms(node, path + ["unique"], 0, atLeast: 1)
    var (fields, subjects) = ([first], [subject])
    for name in nodes["with"].map({ reader.names($0, path + ["with"]) }) ?? [] {
      guard let field = ruleField(name, source) else {
        reader.problem(
          nodes["with"],
          "\(reader.dotted(path)).with: '\(name)' is no field that rules can check and this source maps"
            + reader.hint(name, ruleFieldNames(source)))
        continue
      }
      fields.append(field)
      subjects.append(name)
    }
    for (field, name) in zip(fields, subjects) where field.kind != .text || field.name == .currency {
      reader.problem(node, "\(reader.dotted(path)).unique: '\(name)' is no text")
    }
    if nodes["severity"] == nil || reader.scalar(nodes["severity"]!, path) == RuleSeverity.reject.rawValue {
      reader.problem(
        nodes["severity"] ?? node,
        "\(reader.dotted(path)).severity: 'flag' or 'count' is needed: whether another record has the value is found out "
          + "where it is too late to reject one")
    }
    if source.mapping.format.isEnvelope {
      reader.problem(
        node,
        "\(reader.dotted(path)).unique: not for \(source.mapping.format.rawValue), where a record is an image that "
          + "replaces another")
    }
    guard reader.problems.count == problems else { return nil }
    return (fields, subjects.joined(separator: ", "), within_ms)
  }

  private func readApplies(
    _ node: Node?, _ path: [String], _ source: SourceSettings, _ reader: ConfigurationReader
  ) -> UInt32 {
    guard let node else { return .max }
    let isOrders = source.mapping.kind == .orders
    let words = isOrders ? OrderEventKind.allCases.map(\.name) : AccountRole.allCases.map(\.name)
    var bits: UInt32 = 0
    for name in reader.texts(node, path) {
      let bit = isOrders ? OrderEventKind(name: name)?.rawValue : AccountRole(name: name)?.rawValue
      if let bit {
        bits |= 1 << UInt32(bit)
      } else {
        reader.problem(
          node,
          "\(reader.dotted(path)): '\(name)' is no \(isOrders ? "order event" : "account role")\(reader.hint(name, words))"
        )
      }
    }
    if bits == 0 { reader.problem(node, "\(reader.dotted(path)): the rule would apply to nothing") }
    return bits
  }

  private func readConditions(
    _ field: RuleField, _ nodes: [String: Node], _ path: [String], _ tables: [String: ValueTable],
    _ reader: ConfigurationReader
  ) -> [RuleSpecification.Condition] {
    var conditions: [RuleSpecification.Condition] = []
    func isFor(_ kinds: [RuleField.Kind], _ key: String, _ what: String) -> Node? {
      guard let node = nodes[key] else { return nil }
      if kinds.contains(field.kind) { return node }
      reader.problem(node, "\(reader.dotted(path)).\(key): only for \(what)")
      return nil
    }
    if let node = nodes["required"], reader.bool(node, path + ["required"], false) {
      conditions.append(.required(field))
    }
    if let node = isFor([.text], "pattern", "texts") {
      do throws(PatternError) {
        conditions.append(.pattern(field, try BytePattern(reader.name(node, path + ["pattern"], ""))))
      } catch {
        reader.problem(
          line: node.mark?.line ?? 0, column: (node.mark?.column ?? 0) + error.offset + quoteWidth(node),
          "\(reader.dotted(path)).pattern: \(error.message)")
      }
    }
    if let node = isFor([.text], "one_of", "texts") {
      let texts = reader.texts(node, path + ["one_of"])
      if texts.isEmpty { reader.problem(node, "\(reader.dotted(path)).one_of: the list is empty") }
      conditions.append(.oneOf(field, texts))
    }
    if let node = isFor([.text], "table", "texts") {
      let name = reader.name(node, path + ["table"], "")
      if let table = tables[name] {
        conditions.append(.inTable(field, table: name, keys: table.entries.keys.sorted()))
      } else {
        reader.problem(node, "\(reader.dotted(path)).table: no table '\(name)'\(reader.hint(name, tables.keys))")
      }
    }
    let numbers: [RuleField.Kind] = [.amount, .quantity, .count]
    let least = isFor(numbers, "minimum", "amounts and quantities").flatMap {
      limit($0, path + ["minimum"], field, reader)
    }
    let most = isFor(numbers, "maximum", "amounts and quantities").flatMap {
      limit($0, path + ["maximum"], field, reader)
    }
    if let least, let most, least > most {
      reader.problem(nodes["maximum"], "\(reader.dotted(path)): the maximum is below the minimum")
    }
    if least != nil || most != nil { conditions.append(.range(field, least: least, most: most)) }
    let first = isFor([.date, .time], "not_before", "dates and times").flatMap {
      date($0, path + ["not_before"], reader)
    }
    let last = isFor([.date, .time], "not_after", "dates and times").flatMap { date($0, path + ["not_after"], reader) }
    if let first, let last, first > last {
      reader.problem(nodes["not_after"], "\(reader.dotted(path)): no date is after the one and before the other")
    }
    var within: Int32?
    if let node = isFor([.date], "within", "dates") {
      let ms = reader.duration_ms(node, path + ["within"], 0)
      if ms % millisecondsPerDay != 0 { reader.problem(node, "\(reader.dotted(path)).within: whole days are expected") }
      within = Int32(clamping: ms / millisecondsPerDay)
    }
    if first != nil || last != nil || within != nil {
      conditions.append(.dates(field, first_d: first, last_d: last, fromEvent_d: within))
    }
    return conditions
  }

  /// A signed decimal, in millionths; of a line count a whole number.
  private func limit(_ node: Node, _ path: [String], _ field: RuleField, _ reader: ConfigurationReader) -> Int64? {
    guard var text = reader.scalar(node, path) else { return nil }
    let decimals = field.kind == .count ? 0 : 6
    let value = text.withUTF8 { bytes in (try? DecimalText(bytes)).flatMap { try? $0.units(decimals: decimals) } }
    reader.note(path, reader.quote(text))
    if value == nil {
      reader.problem(
        node, "\(reader.dotted(path)): a number of at most \(decimals) decimals is expected, not '\(text)'")
    }
    return value
  }

  private func date(_ node: Node, _ path: [String], _ reader: ConfigurationReader) -> Int32? {
    let text = reader.name(node, path, "")
    if text.utf8.count == 10, let ms = Timestamps.parse(text + "T00:00:00Z") { return day(ofMilliseconds: ms) }
    reader.problem(node, "\(reader.dotted(path)): a date such as 2024-01-31 is expected, not '\(text)'")
    return nil
  }

  private func readSum(
    _ node: Node, _ text: String, _ path: [String], _ source: SourceSettings, _ reader: ConfigurationReader
  ) -> RuleSum? {
    func amount(_ name: String) -> RuleField? {
      guard let field = ruleField(name, source), field.kind == .amount else { return nil }
      return field
    }
    do throws(RuleSumError) {
      let format = source.mapping.format
      let isInMinorUnits = source.mapping.namedFields.contains { $0.field.decimal.isInMinorUnits }
      let noLines =
        !LineReader.reads(format)
        ? "sums over lines are for json and debezium: a record of \(format.rawValue) is not read that way"
        : isInMinorUnits
          ? "sums over lines are not for amounts in minor units (implied_decimals: currency): a line has no currency"
          : nil
      return try RuleSum(
        text, field: amount, known: ruleFieldNames(source).filter { amount($0) != nil }, noLines: noLines)
    } catch {
      reader.problem(
        line: node.mark?.line ?? 0, column: (node.mark?.column ?? 0) + error.offset + quoteWidth(node),
        "\(reader.dotted(path)): \(error.message)")
      return nil
    }
  }

  /// How far a scalar's text stands behind its mark.
  private func quoteWidth(_ node: Node) -> Int {
    guard let style = node.scalar?.style else { return 0 }
    return style == .singleQuoted || style == .doubleQuoted ? 1 : 0
  }

  // MARK: - Fields

  /// Fields that the source maps and rules can speak of.
  private func ruleFieldNames(_ source: SourceSettings) -> [String] {
    fieldNames(of: source).filter { ruleField($0, source) != nil }
  }

  private func dimensionMapping(_ name: String, _ source: SourceSettings) -> FieldMapping? {
    guard let at = dimensions.firstIndex(of: name), at < source.mapping.dimensions.count else { return nil }
    return source.mapping.dimensions[at]
  }

  private func ruleField(_ name: String, _ source: SourceSettings) -> RuleField? {
    guard fieldNames(of: source).contains(name) else { return nil }
    if let at = dimensions.firstIndex(of: name), source.mapping.fields[name] == nil, name != "amount" {
      return RuleField(.dimension, index: UInt8(at))
    }
    if source.mapping.kind == .orders {
      if let component = AmountComponent.allCases.first(where: { $0.name == name }) {
        return RuleField(.component, index: component.rawValue)
      }
      return switch OrderField(rawValue: name) {
      case .order: RuleField(.order)
      case .eventID: RuleField(.id)
      case .document: RuleField(.document)
      case .customer: RuleField(.customer)
      case .currency: RuleField(.currency)
      case .documentDate: RuleField(.date)
      case .eventTime: RuleField(.time)
      case .lineCount: RuleField(.lineCount)
      case .quantity: RuleField(.quantity)
      case .line: RuleField(.line)
      default: nil
      }
    }
    if name == "amount" { return RuleField(.amount) }
    return switch PostingField(rawValue: name) {
    case .order: RuleField(.order)
    case .lineID: RuleField(.id)
    case .journal: RuleField(.journal)
    case .document: RuleField(.document)
    case .reverses: RuleField(.reverses)
    case .customer: RuleField(.customer)
    case .account: RuleField(.account)
    case .currency: RuleField(.currency)
    case .postingDate: RuleField(.date)
    case .eventTime: RuleField(.time)
    case .line: RuleField(.line)
    default: nil
    }
  }
}
