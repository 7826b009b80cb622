import Domain
import Foundation
import Pipeline

/// A condition with its values.
private struct Clause {
  let dialect: SQLDialect
  var text: [String] = []
  var values: [SQLValue] = []

  init(_ dialect: SQLDialect) { self.dialect = dialect }

  mutating func add(_ sql: String, _ values: [SQLValue] = []) {
    text.append(sql)
    self.values += values
  }

  /// Nothing passes.
  mutating func addNothing() { add("1 = 0") }

  /// `isLead`: an index begins with the column.
  mutating func any(_ column: String, of values: [SQLValue], isLead: Bool = false) {
    guard !values.isEmpty else { return }
    let name = isLead ? column : dialect.hidden(column)
    if values.count == 1 {
      add("\(name) = ?", values)
    } else {
      add("\(name) IN (\(Array(repeating: "?", count: values.count).joined(separator: ", ")))", values)
    }
  }

  mutating func any(_ column: String, of values: [String], isLead: Bool = false) {
    any(column, of: values.map { .text($0) }, isLead: isLead)
  }
}

extension SQLStore {
  private func dimensionColumn(_ name: String) -> String? { dimensionNames.firstIndex(of: name).map { "d\($0)" } }

  /// The rows of a scope; a scope over a dimension that is not configured has none.
  private func restrict(_ scope: RowScope, _ clause: inout Clause, leading: String? = nil) {
    for (name, values) in scope.dimensions.sorted(by: { $0.key < $1.key }) {
      guard let column = dimensionColumn(name) else {
        clause.addNothing()
        continue
      }
      clause.any(
        column, of: values.isEmpty ? [SQLValue.null] : values.sorted().map { .text($0) }, isLead: column == leading)
    }
  }

  /// A scope as a condition of its own, with its values.
  func scopeCondition(_ scope: RowScope) -> (sql: String, values: [SQLValue]) {
    var clause = Clause(dialect)
    restrict(scope, &clause)
    return (clause.text.isEmpty ? "1 = 1" : clause.text.joined(separator: " AND "), clause.values)
  }

  public func breaks(
    _ filter: BreakFilter, scope: RowScope, sort: BreakSort, after: PageCursor?, limit: Int
  ) async throws -> BreakPage {
    let (sql, values) = listing(filter, scope: scope, sort: sort, after: after, limit: limit + 1)
    return try await read(isSnapshot: false) { try page($0, sql, values, limit: limit) }
  }

  /// - Parameters:
  ///   - sql: of `listing`, for one row more than the page has.
  func page(_ reader: some SQLReader, _ sql: String, _ values: [SQLValue], limit: Int) throws -> BreakPage {
    var page = BreakPage()
    var last: PageCursor?
    _ = try reader.rows(sql, values) { row in
      if page.count == limit {
        page.next = last
      } else {
        page.append { row.append(0, to: &$0) }
        last = PageCursor(value: row.integer(1), number: row.integer(2))
        page.sequence = max(page.sequence, row.integer(3))
      }
    }
    return page
  }

  /// The statement of a list. Which index leads is decided here, by the filters that are there.
  func listing(
    _ filter: BreakFilter, scope: RowScope, sort: BreakSort, after: PageCursor?, limit: Int
  ) -> (sql: String, values: [SQLValue]) {
    var clause = Clause(dialect)
    let openStates = Set(["open", "reopened"])
    let states = Set(filter.states)
    let isOpen: Bool? =
      states.isEmpty ? nil : states.isSubset(of: openStates) ? true : states.isDisjoint(with: openStates) ? false : nil
    let isAmount = sort == .amount || sort == .amountUp
    let narrow = filter.dimensions.filter { $0.value.count == 1 }.map(\.key)
    let narrowScope = scope.dimensions.filter { $0.value.count == 1 }.map(\.key)
    let narrowDimension = (narrow + narrowScope).sorted().compactMap(dimensionColumn).first
    // Few rows have one of these; anything is quick among them.
    let lead: String
    if !filter.ids.isEmpty {
      lead = "id"
    } else if !filter.orders.isEmpty {
      lead = "ord"
    } else if filter.text != nil {
      lead = "text"
    } else if !filter.assignees.isEmpty {
      lead = "assignee"
    } else if filter.pendingApproval == true {
      lead = "pending"
    } else if !filter.customers.isEmpty {
      lead = "customer"
    } else if filter.after != nil {
      lead = "seq"
    } else if isAmount, isOpen != nil, filter.types.count == 1 {
      lead = "type"
    } else if isAmount, isOpen != nil, let narrowDimension {
      lead = narrowDimension
    } else {
      lead = "sort"
    }
    clause.any("id", of: filter.ids, isLead: lead == "id")
    clause.any("ord", of: filter.orders, isLead: lead == "ord")
    clause.any("assignee", of: filter.assignees, isLead: lead == "assignee")
    clause.any("customer", of: filter.customers, isLead: lead == "customer")
    clause.any("type", of: filter.types, isLead: lead == "type")
    let isIndexedByOpen = (lead == "sort" && sort.column != "seq") || lead == "type" || lead.hasPrefix("d")
    if let isOpen { clause.add(isIndexedByOpen ? "is_open = ?" : "\(dialect.hidden("is_open")) = ?", [.flag(isOpen)]) }
    clause.any("state", of: filter.states)
    let severities = filter.severities.compactMap { BreakDocument.severities.firstIndex(of: $0) }
    if !filter.severities.isEmpty {
      clause.any("severity", of: (severities.isEmpty ? [-1] : severities).map { SQLValue.integer($0) })
    }
    clause.any("role", of: filter.roles)
    clause.any("currency", of: filter.currencies)
    for (name, values) in filter.dimensions.sorted(by: { $0.key < $1.key }) {
      if let column = dimensionColumn(name) {
        clause.any(column, of: values, isLead: lead == column)
      } else {
        clause.addNothing()
      }
    }
    restrict(scope, &clause, leading: lead)
    let isOrderedByLead = ["sort", "type"].contains(lead) || lead.hasPrefix("d")
    func range(_ column: String, _ isSort: Bool, _ from: Int64?, _ operation: String) {
      guard let from else { return }
      clause.add("\(isSort && isOrderedByLead ? column : dialect.hidden(column)) \(operation) ?", [.integer(from)])
    }
    range("amount_u", isAmount, filter.minimum_u, ">=")
    range("amount_u", isAmount, filter.maximum_u, "<=")
    range("opened_ms", sort.column == "opened_ms", filter.openedFrom_ms, ">=")
    range("opened_ms", sort.column == "opened_ms", filter.openedBefore_ms, "<")
    if let after = filter.after {
      clause.add("\(lead == "seq" ? "seq" : dialect.hidden("seq")) > ?", [.integer(after)])
    }
    switch filter.pendingApproval {
    case true?: clause.add(lead == "pending" ? "pending = 1" : "\(dialect.hidden("pending")) = 1")
    case false?: clause.add("\(dialect.hidden("pending")) = 0")
    case nil: break
    }
    if let text = filter.text { search(text, &clause) }
    if let after {
      let sign = sort.isDescending ? "<" : ">"
      let column = isOrderedByLead || lead == "seq" ? sort.column : dialect.hidden(sort.column)
      clause.add("(\(column), n) \(sign) (?, ?)", [.integer(after.value), .integer(after.number)])
    }
    let direction = sort.isDescending ? "DESC" : "ASC"
    let order = "ORDER BY \(sort.column) \(direction), n \(direction) LIMIT ?"
    func select(_ conditions: [String]) -> String {
      "SELECT summary, \(sort.column), n, seq FROM breaks "
        + (conditions.isEmpty ? "" : "WHERE " + conditions.joined(separator: " AND ")) + " " + order
    }
    guard isOpen == nil, isIndexedByOpen else { return (select(clause.text), clause.values + [.integer(limit)]) }
    // The index is in order within the open and within the others: the head of each, merged.
    let halves = ["is_open = 1", "is_open = 0"].map { "SELECT * FROM (\(select([$0] + clause.text))) AS half" }
    let values = clause.values + [.integer(limit)]
    let sql = "SELECT * FROM (\(halves.joined(separator: " UNION ALL "))) AS halves \(order)"
    return (sql, values + values + [.integer(limit)])
  }

  /// Every word must begin one of the break's words.
  private func search(_ text: String, _ clause: inout Clause) {
    let words = text.split { !($0.isLetter || $0.isNumber) }.prefix(8)
    guard !words.isEmpty else { return clause.addNothing() }
    switch dialect {
    case .sqlite(hasFullText: false):
      let escaped = text.replacing("\\", with: "\\\\").replacing("%", with: "\\%").replacing("_", with: "\\_")
      clause.add(
        "(ord LIKE ? ESCAPE '\\' OR customer LIKE ? ESCAPE '\\' OR id LIKE ? ESCAPE '\\')",
        Array(repeating: .text(escaped + "%"), count: 3))
    case .sqlite(hasFullText: true):
      let match = words.map { "\"\($0)\"*" }.joined(separator: " ")
      clause.add(
        "n IN (SELECT rowid FROM keys WHERE keys MATCH ? ORDER BY rowid DESC LIMIT \(BreakFilter.searchDepth))",
        [.text(match)])
    case .postgres:
      // Letters and digits alone: there is nothing to escape.
      let match = words.compactMap { SearchWords.of(String($0)).first }.map { "'\($0)':*" }.joined(separator: " & ")
      clause.add(
        "n IN (SELECT n FROM keys WHERE words @@ CAST(? AS tsquery) ORDER BY n DESC LIMIT \(BreakFilter.searchDepth))",
        [.text(match)])
    }
  }

  // MARK: - One break, one order

  public func detail(id: String, scope: RowScope) async throws -> BreakDetail? {
    var clause = Clause(dialect)
    clause.add("id = ?", [.text(id)])
    restrict(scope, &clause)
    return try await details(clause).first
  }

  public func order(_ key: String, scope: RowScope) async throws -> [BreakDetail] {
    var clause = Clause(dialect)
    clause.add("ord = ?", [.text(key)])
    restrict(scope, &clause)
    return try await details(clause)
  }

  private func details(_ clause: Clause) async throws -> [BreakDetail] {
    // Breaks of one order that are answered at once: types × roles are fewer.
    let sql = """
      SELECT n, summary, body, state FROM breaks JOIN bodies USING (n) WHERE \(clause.text.joined(separator: " AND "))
      ORDER BY id LIMIT 512
      """
    let values = clause.values
    return try await read(isSnapshot: true) { reader in
      let decoder = JSONDecoder()
      let found = try reader.rows(sql, values) { row in
        (number: row.integer(0), summary: row.text(1), body: row.text(2), state: row.text(3))
      }
      return try found.map { row in
        let document = try decoder.decode(BreakDocument.self, from: Data(row.body.utf8))
        let revisions = try reader.rows(
          """
          SELECT revision, state, provisional, severity, expected, posted, delta, reason, as_of_ms, at_ms
          FROM revisions WHERE n = ? ORDER BY revision
          """, [.integer(row.number)]
        ) { row in
          BreakDetail.Revision(
            revision: Int(row.integer(0)), state: row.text(1), isProvisional: row.integer(2) != 0,
            severity: row.text(3), expected: row.optionalText(4), posted: row.optionalText(5),
            delta: row.optionalText(6), reason: row.text(7), asOf_ms: row.optionalInteger(8), at_ms: row.integer(9))
        }
        let actions = try reader.rows(
          "SELECT body FROM actions WHERE break = ? ORDER BY part, offs", [.text(document.id)]
        ) { try decoder.decode(Action.self, from: Data($0.text(0).utf8)) }
        return BreakDetail(
          number: row.number, summary: row.summary, message: row.body, document: document, state: row.state,
          workflow: Workflow(actions), revisions: revisions, actions: actions)
      }
    }
  }

  // MARK: - Sums

  public func records(order key: String, limit: Int) async throws -> [SourceRecord] {
    try await rows(
      "SELECT topic, part, offs, at_ms, body FROM records WHERE ord = ? ORDER BY at_ms, topic, part, offs LIMIT ?",
      [.text(key), .integer(limit)]
    ) {
      SourceRecord(
        topic: $0.text(0), partition: Int32($0.integer(1)), offset: $0.integer(2), at_ms: $0.integer(3),
        body: $0.text(4))
    }
  }

  public func cells(topic: String, prefix: String, after: String?, limit: Int) async throws -> [Cell] {
    try await rows(
      """
      SELECT cell, at_ms, body FROM cells WHERE topic = ? AND cell > ? AND substr(cell, 1, ?) = ? ORDER BY cell LIMIT ?
      """,
      [.text(topic), .text(after ?? ""), .integer(prefix.unicodeScalars.count), .text(prefix), .integer(limit)]
    ) { Cell(topic: topic, key: $0.text(0), at_ms: $0.integer(1), body: $0.text(2)) }
  }

  public func series(topic: String, key: String, from_ms: Int64, limit: Int) async throws -> [Cell] {
    try await rows(
      "SELECT at_ms, body FROM points WHERE topic = ? AND cell = ? AND at_ms >= ? ORDER BY at_ms DESC LIMIT ?",
      [.text(topic), .text(key), .integer(from_ms), .integer(limit)]
    ) { Cell(topic: topic, key: key, at_ms: $0.integer(0), body: $0.text(1)) }.reversed()
  }

  public func deadLetters(
    source: String?, reason: String?, before: Int64?, limit: Int
  ) async throws -> [StoredDeadLetter] {
    var clause = Clause(dialect)
    if let source { clause.any("source", of: [source], isLead: true) }
    if let reason { clause.any("reason", of: [reason], isLead: source != nil) }
    clause.add("n < ?", [.integer(before ?? .max)])
    let sql = "SELECT n, body FROM dead WHERE \(clause.text.joined(separator: " AND ")) ORDER BY n DESC LIMIT ?"
    return try await rows(sql, clause.values + [.integer(limit)]) {
      StoredDeadLetter(number: $0.integer(0), body: $0.text(1))
    }
  }

  public func action(id: String) async throws -> Action? {
    try await rows("SELECT body FROM actions WHERE id = ?", [.text(id)]) {
      try JSONDecoder().decode(Action.self, from: Data($0.text(0).utf8))
    }.first
  }

  public func sequence() async throws -> Int64 {
    try await rows("SELECT coalesce(max(seq), 0) FROM breaks") { $0.integer(0) }.first ?? 0
  }
}
