import Decoding
import Domain
import Validation
import Yams

extension Configuration {
  /// How the text of a field is interpreted: decides which of a field's keys mean anything.
  private enum FieldType { case text, time, amount }

  func readSource(
    _ name: String, _ node: Node, _ keyNode: Node, _ tables: [String: ValueTable], _ reader: ConfigurationReader,
    recordBytes: Int, depth: Int
  ) -> SourceSettings? {
    let path = ["sources", name]
    let problemsBefore = reader.problems.count
    let nodes = reader.nodes(node, path)
    let topic = reader.topic(nodes["topic"], path + ["topic"], "\(prefix).\(name)", place: keyNode)
    guard let kindNode = nodes["kind"] else {
      if node.mapping != nil { reader.problem(keyNode, "\(reader.dotted(path)): 'kind' is missing (orders or ledger)") }
      return nil
    }
    let problemsBeforeKind = reader.problems.count
    let kind: SourceKind = reader.choice(kindNode, path + ["kind"], .orders)
    // A wrong kind must not bring a wrong field for every right one.
    guard reader.problems.count == problemsBeforeKind else { return nil }
    let format: RecordFormat = reader.choice(nodes["format"], path + ["format"], .json)
    var mapping = MappingSpecification(sourceName: name, sourceIndex: sources.count, kind: kind, format: format)
    mapping.maximumDepth = depth
    mapping.maximumRecordBytes = recordBytes
    mapping.baseCurrency = baseCurrency
    mapping.maskKey = maskKey
    if let csv = nodes["csv"] {
      if format != .csv {
        reader.problem(csv, "\(reader.dotted(path)).csv: only for format csv, this is \(format.rawValue)")
      }
      mapping.csv = readCSV(csv, path + ["csv"], reader)
    }
    if let conditions = nodes["where"] { mapping.filters = readFilters(conditions, path + ["where"], reader) }
    // Where each part of the mapping stands, for what only the compilation of the plan finds.
    var places: [String: Node] = ["where": nodes["where"] ?? keyNode]
    readFields(nodes["fields"], path, tables, reader, keyNode, into: &mapping, &places)
    if let amount = nodes["amount"] {
      mapping.amount = readAmount(amount, path + ["amount"], tables, reader)
      places["amount"] = amount
      places["amount.debit"] = amount.mapping?["debit"]
      places["amount.credit"] = amount.mapping?["credit"]
      places["amount.side"] = amount.mapping?["side"]
    }
    if kind == .ledger, nodes["amount"] == nil {
      reader.problem(keyNode, "\(reader.dotted(path)): 'amount' is missing")
    }
    mapping.dimensions = Array(repeating: nil, count: dimensions.count)
    for (key, value, keyNode) in reader.mapping(nodes["dimensions"], path + ["dimensions"]) {
      guard let index = dimensions.firstIndex(of: key) else {
        reader.problem(
          keyNode, "unknown dimension '\(key)' in \(reader.dotted(path)).dimensions\(reader.hint(key, dimensions))")
        continue
      }
      mapping.dimensions[index] = readField(
        value, path + ["dimensions", key], .text, tables, reader, masks: [.hash, .redact])
      places["dimension \(index + 1)"] = value
    }
    if reader.problems.count == problemsBefore { compile(mapping, places, keyNode, reader) }
    var source = SourceSettings(name: name, topic: topic, mapping: mapping)
    source.policy = readPolicy(nodes["policy"], path + ["policy"], kind, reader)
    (source.rules, source.uniqueRules) = readRules(nodes["rules"], path + ["rules"], source, tables, reader)
    if reader.bool(nodes["routed"], path + ["routed"], false) {
      source.routedFrom = topic
      source.topic = reader.topic(nil, path + ["route"], "\(prefix).route.\(name)", place: keyNode)
    }
    return source
  }

  private func readFields(
    _ node: Node?, _ path: [String], _ tables: [String: ValueTable], _ reader: ConfigurationReader, _ keyNode: Node,
    into mapping: inout MappingSpecification, _ places: inout [String: Node]
  ) {
    let path = path + ["fields"]
    let isOrders = mapping.kind == .orders
    let known = isOrders ? OrderField.allCases.map(\.rawValue) : PostingField.allCases.map(\.rawValue)
    let required =
      isOrders
      ? OrderField.allCases.filter(\.isRequired).map(\.rawValue)
      : PostingField.allCases.filter(\.isRequired).map(\.rawValue)
    let amounts = AmountComponent.allCases.map(\.name) + ["quantity", PostingField.baseAmount.rawValue]
    var isSeen = Set<String>()
    for (key, value, keyNode) in reader.mapping(node, path) {
      guard known.contains(key) else {
        let hint = reader.hint(key, known)
        reader.problem(keyNode, "unknown field '\(key)' in \(reader.dotted(path))\(hint)")
        // A slip of the keyboard in a required field is one problem, not two.
        if let meant = nearestName(key, in: known) { isSeen.insert(meant) }
        continue
      }
      isSeen.insert(key)
      let type: FieldType =
        MappingSpecification.timeFields.contains(key) ? .time : amounts.contains(key) ? .amount : .text
      let masks = isOrders ? OrderField(rawValue: key)?.masks : PostingField(rawValue: key)?.masks
      mapping.fields[key] = readField(value, path + [key], type, tables, reader, masks: masks ?? [])
      places[key] = value
      if key == OrderField.line.rawValue, dimensions.contains(key) {
        reader.problem(
          keyNode, "\(reader.dotted(path)).\(key): a dimension has this name; the line of a document needs another")
      }
      if key == PostingField.baseAmount.rawValue, baseCurrency == .none {
        reader.problem(keyNode, "\(reader.dotted(path)).\(key): there is no base currency (fx.base)")
      }
    }
    if mapping.fields["quantity"]?.decimal.isInMinorUnits == true {
      reader.problem(
        places["quantity"] ?? keyNode,
        "\(reader.dotted(path)).quantity.decimal.implied_decimals: a quantity has no currency; a number is expected")
    }
    for name in required where !isSeen.contains(name) {
      reader.problem(node ?? keyNode, "\(reader.dotted(path)): '\(name)' is required and not mapped")
    }
  }

  /// Compiles the plan to find what is wrong with it. The compiler stops at its first error, so that part is put aside
  /// and the rest compiled again, until nothing more is found.
  private func compile(
    _ mapping: MappingSpecification, _ places: [String: Node], _ keyNode: Node, _ reader: ConfigurationReader
  ) {
    var mapping = mapping
    var isReported = Set<String>()
    while true {
      do throws(MappingError) {
        _ = try MappingPlan(mapping)
        return
      } catch {
        guard isReported.insert(error.field).inserted else { return }
        reader.problem(places[error.field] ?? keyNode, error)
        switch error.field {
        case "where": mapping.filters = []
        case "event": mapping.fields["event"] = FieldMapping(.constant(OrderEventKind.booked.name))
        case "role": mapping.fields["role"] = FieldMapping(.constant(AccountRole.receivable.name))
        case let name where name.hasPrefix("amount"): mapping.amount = .signed(FieldMapping(.constant("0")))
        case let name where name.hasPrefix("dimension "): mapping.dimensions[Int(name.dropFirst(10))! - 1] = nil
        case let name: mapping.fields[name] = FieldMapping(.constant(""))
        }
      }
    }
  }

  private func readCSV(_ node: Node, _ path: [String], _ reader: ConfigurationReader) -> CSVDialect {
    var dialect = CSVDialect()
    let nodes = reader.nodes(node, path)
    func character(_ key: String, _ standard: UInt8, none: Bool) -> UInt8? {
      guard let node = nodes[key] else { return standard }
      let text = reader.text(node, path + [key], "")
      if text == "tab" || text == "\t" { return 9 }
      if none, text == "none" || text.isEmpty { return nil }
      guard text.utf8.count == 1, let byte = text.utf8.first, byte >= 0x20 else {
        reader.problem(node, "\(reader.dotted(path + [key])): one printable ASCII character is expected")
        return standard
      }
      return byte
    }
    dialect.delimiter = character("delimiter", dialect.delimiter, none: false)!
    dialect.quote = character("quote", UInt8(ascii: "\""), none: true)
    dialect.encoding = reader.choice(nodes["encoding"], path + ["encoding"], .utf8)
    dialect.hasHeader = reader.bool(nodes["header"], path + ["header"], true)
    dialect.columns = reader.names(nodes["columns"], path + ["columns"])
    dialect.isRagged = reader.bool(nodes["ragged"], path + ["ragged"], false)
    if dialect.quote == dialect.delimiter {
      reader.problem(
        nodes["quote"] ?? nodes["delimiter"], "\(reader.dotted(path)): the quote and the delimiter must differ")
    }
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
      var lists = 0
      guard let map = item.mapping else {
        reader.problem(item, "\(path.joined(separator: ".")): {path: …, in: […]} is expected")
        return nil
      }
      for (keyNode, node) in map {
        switch keyNode.string ?? "" {
        case "path": value = .path(reader.name(node, path + ["path"], ""))
        case "in":
          lists += 1
          texts = reader.texts(node, path + ["in"])
        case "not_in":
          lists += 1
          texts = reader.texts(node, path + ["not_in"])
          isNegated = true
        case let other:
          let hint = reader.hint(other, ["path", "in", "not_in"])
          reader.problem(keyNode, "unknown key '\(other)' in \(reader.dotted(path))\(hint)")
          return nil
        }
      }
      guard let value, !texts.isEmpty, lists == 1 else {
        reader.problem(item, "\(reader.dotted(path)): a condition needs 'path' and one of 'in' and 'not_in', not empty")
        return nil
      }
      return RecordFilter(value: value, oneOf: texts, negated: isNegated)
    }
  }

  private static let fieldKeys = KeyReference.fieldKeys()
  private static let decimalKeys = KeyReference.fieldKeys(below: "decimal")
  private static let expressionKeys = ["path", "constant", "concat", "first", "sum"]
  private static let partKeys = expressionKeys + ["values", "table", "unlisted", "strip_leading_zeros", "pad"]

  private func readExpression(
    _ key: Node, _ value: Node, _ path: [String], _ tables: [String: ValueTable], _ reader: ConfigurationReader
  ) -> ValueExpression {
    switch key.string ?? "" {
    case "path": return .path(reader.name(value, path + ["path"], ""))
    case "constant": return .constant(reader.text(value, path + ["constant"], ""))
    case "sum":
      let text = reader.name(value, path + ["sum"], "")
      do throws(RuleSumError) { return .sum(try LinePath(text)) } catch {
        reader.problem(value, "\(reader.dotted(path)).sum: \(error.message)")
        return .constant("")
      }
    case let name:
      guard let list = value.sequence else {
        reader.problem(value, "\(path.joined(separator: ".")): a list is expected")
        return .constant("")
      }
      if list.isEmpty { reader.problem(value, "\(reader.dotted(path)).\(name): the list is empty") }
      let parts = list.enumerated().map { readPart($1, path + [name, "#\($0 + 1)"], tables, reader) }
      return name == "concat" ? .concatenation(parts) : .firstPresent(parts)
    }
  }

  /// A part of `concat` or `first`: a path, or an expression with what is done to its text.
  private func readPart(
    _ node: Node, _ path: [String], _ tables: [String: ValueTable], _ reader: ConfigurationReader
  ) -> ValueExpression {
    if node.scalar != nil { return .path(reader.name(node, path, "")) }
    guard let map = node.mapping else {
      reader.problem(
        node,
        "\(path.joined(separator: ".")): a path, or one of \(Self.expressionKeys.joined(separator: ", ")) is expected")
      return .constant("")
    }
    let (value, nodes) = readValue(map, node, Self.partKeys, path, tables, reader)
    var change = PartChange()
    change.table = readTable(nodes, path, tables, reader)
    if let strip = nodes["strip_leading_zeros"] {
      change.stripsLeadingZeros = reader.bool(strip, path + ["strip_leading_zeros"], false)
    }
    if let pad = nodes["pad"] { change.width = reader.integer(pad, path + ["pad"], 1, 1...64) }
    return change == PartChange() ? value : .changed(value, change)
  }

  /// The expression of a field or a part, and the nodes of its other keys.
  private func readValue(
    _ map: Node.Mapping, _ node: Node, _ keys: [String], _ path: [String], _ tables: [String: ValueTable],
    _ reader: ConfigurationReader
  ) -> (ValueExpression, [String: Node]) {
    let dotted = path.joined(separator: ".")
    let words = Self.expressionKeys.joined(separator: ", ")
    var value: ValueExpression?
    var nodes: [String: Node] = [:]
    // Whether an unknown key stands for the missing one: one problem, not two.
    var isSlip = false
    for (keyNode, node) in map {
      let key = keyNode.string ?? ""
      guard keys.contains(key) else {
        let isElsewhere = (Self.fieldKeys + Self.partKeys).contains(key)
        reader.problem(
          keyNode,
          "unknown key '\(key)' in \(dotted)"
            + (!isElsewhere
              ? reader.hint(key, keys)
              : keys == Self.partKeys
                ? ": a part of concat or first can have \(keys.joined(separator: ", "))"
                : ": a part of concat or first can have it"))
        isSlip = isSlip || Self.expressionKeys.contains(nearestName(key, in: keys) ?? "")
        continue
      }
      if Self.expressionKeys.contains(key) {
        if value != nil { reader.problem(keyNode, "\(dotted): only one of \(words)") }
        value = readExpression(keyNode, node, path, tables, reader)
      } else {
        nodes[key] = node
      }
    }
    if value == nil, !isSlip { reader.problem(node, "\(dotted): one of \(words) is needed") }
    return (value ?? .constant(""), nodes)
  }

  /// What `table` or `values`, with `unlisted`, say.
  private func readTable(
    _ nodes: [String: Node], _ path: [String], _ tables: [String: ValueTable], _ reader: ConfigurationReader
  ) -> ValueTable? {
    let dotted = path.joined(separator: ".")
    var found: ValueTable?
    if let tableNode = nodes["table"] {
      let name = reader.text(tableNode, path + ["table"], "")
      found = tables[name]
      if found == nil { reader.problem(tableNode, "\(dotted): no table '\(name)'\(reader.hint(name, tables.keys))") }
    }
    if let valuesNode = nodes["values"] {
      if nodes["table"] != nil { reader.problem(valuesNode, "\(dotted): either 'values' or 'table'") }
      var entries: [String: String] = [:]
      for (key, value) in valuesNode.mapping ?? [:] {
        guard let from = key.string else {
          reader.problem(key, "\(dotted).values: a key must be a text")
          continue
        }
        entries[from] = reader.entry(dotted, from, value, path + ["values", from])
      }
      if entries.isEmpty { reader.problem(valuesNode, "\(dotted).values: a map of texts is expected") }
      found = ValueTable(name: dotted, entries: entries)
      found?.isInline = true
    }
    if let unlisted = nodes["unlisted"] {
      if nodes["values"] == nil, nodes["table"] == nil {
        reader.problem(unlisted, "\(dotted): 'unlisted' without 'values' or 'table'")
      }
      let word = readUnlisted(unlisted, path + ["unlisted"], reader)
      found?.unlisted = word
    }
    return found
  }

  func readDateField(
    _ node: Node, _ path: [String], _ tables: [String: ValueTable], _ reader: ConfigurationReader
  ) -> FieldMapping { readField(node, path, .time, tables, reader) }

  func readTextField(
    _ node: Node, _ path: [String], _ tables: [String: ValueTable], _ reader: ConfigurationReader
  ) -> FieldMapping { readField(node, path, .text, tables, reader) }

  private func readField(
    _ node: Node, _ path: [String], _ type: FieldType, _ tables: [String: ValueTable], _ reader: ConfigurationReader,
    masks: [FieldMask] = []
  ) -> FieldMapping {
    let dotted = path.joined(separator: ".")
    if node.scalar != nil { return FieldMapping(.path(reader.name(node, path, ""))) }
    guard let map = node.mapping else {
      reader.problem(node, "\(dotted): a path, or one of \(Self.expressionKeys.joined(separator: ", ")) is expected")
      return FieldMapping(.constant(""))
    }
    let (value, nodes) = readValue(map, node, Self.fieldKeys, path, tables, reader)
    var mapping = FieldMapping(value)
    if value.hasSums, type != .amount {
      reader.problem(map["sum"] ?? node, "\(dotted): a sum of lines is for amounts and quantities")
    }
    mapping.table = readTable(nodes, path, tables, reader)
    for key in ["format", "time_zone"] where type != .time {
      if let node = nodes[key] { reader.problem(node, "\(dotted).\(key): this field is no date and no time") }
    }
    if type != .amount, let node = nodes["decimal"] {
      reader.problem(node, "\(dotted).decimal: this field is no amount and no quantity")
    }
    if let format = nodes["format"], type == .time {
      let text = reader.text(format, path + ["format"], "auto")
      let named: [String: TimeFormat] = [
        "rfc3339": .rfc3339, "epoch_s": .epochSeconds, "epoch_ms": .epochMilliseconds, "epoch_us": .epochMicroseconds,
        "epoch_ns": .epochNanoseconds, "epoch_days": .epochDays, "yyyymmdd": .compact, "auto": .automatic,
      ]
      mapping.timeFormat = named[text] ?? .pattern(text)
      if named[text] == nil, !text.contains("yy") {
        reader.problem(
          format,
          "\(dotted).format: '\(text)' is not one of \(named.keys.sorted().joined(separator: ", ")), and no pattern "
            + "with a year such as dd.MM.yyyy\(reader.hint(text, named.keys))")
        mapping.timeFormat = nil
      }
    }
    if let zone = nodes["time_zone"] {
      let text = reader.text(zone, path + ["time_zone"], "Z")
      mapping.timeZone = ZoneClock(named: text)
      if mapping.timeZone == nil {
        reader.problem(
          zone,
          "\(dotted): an offset such as Z or +02:00, or a name such as Europe/Berlin is expected, not '\(text)'"
            + reader.hint(text, ZoneClock.names))
      }
    }
    if let decimal = nodes["decimal"] { mapping.decimal = readDecimal(decimal, path + ["decimal"], reader) }
    if let standard = nodes["default"] { mapping.defaultText = reader.text(standard, path + ["default"], "") }
    if let strip = nodes["strip_leading_zeros"] {
      mapping.stripsLeadingZeros = reader.bool(strip, path + ["strip_leading_zeros"], false)
    }
    if let mask = nodes["mask"] { mapping.mask = readMask(mask, path + ["mask"], masks, reader) }
    return mapping
  }

  private func readDecimal(_ node: Node, _ path: [String], _ reader: ConfigurationReader) -> DecimalStyle {
    var style = DecimalStyle()
    for (keyNode, value) in node.mapping ?? [:] {
      let key = keyNode.string ?? ""
      let at = path + [key]
      func character() -> UInt8? {
        let text = reader.text(value, at, "")
        if text == "space" { return 0x20 }
        let signs = "+-()0123456789eE".utf8
        guard text.utf8.count == 1, let byte = text.utf8.first, byte >= 0x20, !signs.contains(byte) else {
          reader.problem(value, "\(reader.dotted(at)): one ASCII character is expected that is no digit and no sign")
          return nil
        }
        return byte
      }
      switch key {
      case "separator": style.decimalSeparator = character() ?? style.decimalSeparator
      case "grouping": style.groupingSeparator = character()
      case "trailing_minus": style.allowsTrailingMinus = reader.bool(value, at, false)
      case "parentheses": style.allowsParentheses = reader.bool(value, at, false)
      case "implied_decimals":
        style.isInMinorUnits = value.string == "currency"
        if style.isInMinorUnits {
          reader.note(at, "currency")
        } else {
          style.impliedDecimals = reader.integer(value, at, 0, 0...18)
        }
      case "base64_scale": style.base64Scale = reader.integer(value, at, 0, 0...18)
      case "rounding": style.rounding = reader.choice(value, at, .refuse)
      case "negate": style.negate = reader.bool(value, at, false)
      default:
        reader.problem(keyNode, "unknown key '\(key)' in \(reader.dotted(path))\(reader.hint(key, Self.decimalKeys))")
      }
    }
    if style.impliedDecimals != nil || style.isInMinorUnits, style.base64Scale != nil {
      reader.problem(
        node.mapping?["implied_decimals"],
        "\(reader.dotted(path)): implied_decimals and base64_scale exclude each other: binary decimals have their scale"
      )
    }
    if style.groupingSeparator == style.decimalSeparator {
      reader.problem(
        node.mapping?["grouping"], "\(reader.dotted(path)).grouping: it must differ from the decimal separator")
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
          debit: readField(debit, path + ["debit"], .amount, tables, reader),
          credit: readField(credit, path + ["credit"], .amount, tables, reader))
      }
      if let amount = map["amount"], let side = map["side"], map.count == 2 {
        return .indicated(
          amount: readField(amount, path + ["amount"], .amount, tables, reader),
          side: readField(side, path + ["side"], .text, tables, reader))
      }
      if map["debit"] != nil || map["credit"] != nil || map["side"] != nil {
        reader.problem(node, "\(path.joined(separator: ".")): {debit, credit} or {amount, side} is expected")
      }
    }
    return .signed(readField(node, path, .amount, tables, reader))
  }
}
