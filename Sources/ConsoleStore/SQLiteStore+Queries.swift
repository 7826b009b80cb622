import Domain
import Foundation
import GRDB

extension SQLiteStore {
  /// A condition with its arguments.
  private struct Clause {
    var text: [String] = []
    var arguments: [(any DatabaseValueConvertible)?] = []

    mutating func add(_ sql: String, _ values: [(any DatabaseValueConvertible)?] = []) {
      text.append(sql)
      arguments += values
    }

    /// `isLead`: an index begins with the column. All other columns are hidden from the planner by a unary plus, so
    /// that it takes the index that gives the order, and never sorts a million rows.
    mutating func any(_ column: String, of values: [any DatabaseValueConvertible], isLead: Bool = false) {
      guard !values.isEmpty else { return }
      let name = isLead ? column : "+" + column
      if values.count == 1 {
        add("\(name) = ?", values)
      } else {
        add("\(name) IN (\(Array(repeating: "?", count: values.count).joined(separator: ", ")))", values)
      }
    }
  }

  private func dimensionColumn(_ name: String) -> String? { dimensionNames.firstIndex(of: name).map { "d\($0)" } }

  /// The rows of a scope; a scope over a dimension that is not configured has none.
  private func restrict(_ scope: RowScope, _ clause: inout Clause, leading: String? = nil) {
    for (name, values) in scope.dimensions.sorted(by: { $0.key < $1.key }) {
      guard let column = dimensionColumn(name) else {
        clause.add("0")
        continue
      }
      clause.any(column, of: values.isEmpty ? [String?.none.databaseValue] : values.sorted(), isLead: column == leading)
    }
  }

  public func breaks(
    _ filter: BreakFilter, scope: RowScope, sort: BreakSort, after: PageCursor?, limit: Int
  ) async throws -> BreakPage {
    let (sql, values) = listing(filter, scope: scope, sort: sort, after: after, limit: limit + 1)
    let arguments = StatementArguments(values)
    // One statement sees one state of the file by itself: no transaction is needed around it.
    return try await pool.unsafeRead { db in
      var page = BreakPage(rows: [])
      page.rows.reserveCapacity(limit)
      let statement = try db.cachedStatement(sql: sql)
      let rows = try Row.fetchCursor(statement, arguments: arguments)
      var last: PageCursor?
      while let row = try rows.next() {
        if page.rows.count == limit {
          page.next = last
          break
        }
        page.rows.append(row[0])
        last = PageCursor(value: row[1], number: row[2])
        page.sequence = max(page.sequence, row[3])
      }
      return page
    }
  }

  /// The statement of a list. Which index leads is decided here, by the filters that are there.
  func listing(
    _ filter: BreakFilter, scope: RowScope, sort: BreakSort, after: PageCursor?, limit: Int
  ) -> (sql: String, arguments: [(any DatabaseValueConvertible)?]) {
    var clause = Clause()
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
    if let isOpen { clause.add(isIndexedByOpen ? "is_open = ?" : "+is_open = ?", [isOpen]) }
    clause.any("state", of: filter.states)
    let severities = filter.severities.compactMap { BreakDocument.severities.firstIndex(of: $0) }
    if !filter.severities.isEmpty { clause.any("severity", of: severities.isEmpty ? [-1] : severities) }
    clause.any("role", of: filter.roles)
    clause.any("currency", of: filter.currencies)
    for (name, values) in filter.dimensions.sorted(by: { $0.key < $1.key }) {
      if let column = dimensionColumn(name) {
        clause.any(column, of: values, isLead: lead == column)
      } else {
        clause.add("0")
      }
    }
    restrict(scope, &clause, leading: lead)
    let isOrderedByLead = ["sort", "type"].contains(lead) || lead.hasPrefix("d")
    func range(_ column: String, _ isSort: Bool, _ from: Int64?, _ operation: String) {
      guard let from else { return }
      clause.add("\(isSort && isOrderedByLead ? "" : "+")\(column) \(operation) ?", [from])
    }
    range("amount_u", isAmount, filter.minimum_u, ">=")
    range("amount_u", isAmount, filter.maximum_u, "<=")
    range("opened_ms", sort.column == "opened_ms", filter.openedFrom_ms, ">=")
    range("opened_ms", sort.column == "opened_ms", filter.openedBefore_ms, "<")
    if let after = filter.after { clause.add("\(lead == "seq" ? "" : "+")seq > ?", [after]) }
    switch filter.pendingApproval {
    case true?: clause.add(lead == "pending" ? "pending = 1" : "+pending = 1")
    case false?: clause.add("+pending = 0")
    case nil: break
    }
    if let text = filter.text { search(text, &clause) }
    if let after {
      let sign = sort.isDescending ? "<" : ">"
      let column = isOrderedByLead || lead == "seq" ? sort.column : "+" + sort.column
      clause.add("(\(column), n) \(sign) (?, ?)", [after.value, after.number])
    }
    let direction = sort.isDescending ? "DESC" : "ASC"
    let order = "ORDER BY \(sort.column) \(direction), n \(direction) LIMIT ?"
    func select(_ conditions: [String]) -> String {
      "SELECT summary, \(sort.column), n, seq FROM breaks "
        + (conditions.isEmpty ? "" : "WHERE " + conditions.joined(separator: " AND ")) + " " + order
    }
    guard isOpen == nil, isIndexedByOpen else { return (select(clause.text), clause.arguments + [limit]) }
    // The index is in order within the open and within the others: the head of each, merged.
    let halves = ["is_open = 1", "is_open = 0"].map { "SELECT * FROM (\(select([$0] + clause.text)))" }
    let arguments = clause.arguments + [limit]
    let sql = "SELECT * FROM (\(halves.joined(separator: " UNION ALL "))) \(order)"
    return (sql, arguments + arguments + [limit])
  }

  /// Every word must begin one of the break's words.
  private func search(_ text: String, _ clause: inout Clause) {
    let words = text.split { !($0.isLetter || $0.isNumber) }.prefix(8)
    guard !words.isEmpty else {
      clause.add("0")
      return
    }
    guard hasFullText else {
      let escaped = text.replacing("\\", with: "\\\\").replacing("%", with: "\\%").replacing("_", with: "\\_")
      clause.add(
        "(ord LIKE ? ESCAPE '\\' OR customer LIKE ? ESCAPE '\\' OR id LIKE ? ESCAPE '\\')",
        Array(repeating: escaped + "%", count: 3))
      return
    }
    let match = words.map { "\"\($0)\"*" }.joined(separator: " ")
    clause.add(
      "n IN (SELECT rowid FROM keys WHERE keys MATCH ? ORDER BY rowid DESC LIMIT \(BreakFilter.searchDepth))", [match])
  }

  // MARK: - One break, one order

  public func detail(id: String, scope: RowScope) async throws -> BreakDetail? {
    var clause = Clause()
    clause.add("id = ?", [id])
    restrict(scope, &clause)
    return try await details(clause).first
  }

  public func order(_ key: String, scope: RowScope) async throws -> [BreakDetail] {
    var clause = Clause()
    clause.add("ord = ?", [key])
    restrict(scope, &clause)
    return try await details(clause)
  }

  /// Breaks of one order that are answered at once: types × roles are fewer.
  private static let maximumDetails = 512

  private func details(_ clause: Clause) async throws -> [BreakDetail] {
    let sql = """
      SELECT n, summary, body, state FROM breaks JOIN bodies USING (n) WHERE \(clause.text.joined(separator: " AND "))
      ORDER BY id LIMIT \(SQLiteStore.maximumDetails)
      """
    let arguments = StatementArguments(clause.arguments)
    return try await pool.read { db in
      let decoder = JSONDecoder()
      return try Row.fetchAll(db, sql: sql, arguments: arguments).map { row in
        let number: Int64 = row[0]
        let body: String = row[2]
        let document = try decoder.decode(BreakDocument.self, from: Data(body.utf8))
        let revisions = try Row.fetchAll(
          db,
          sql: """
            SELECT revision, state, provisional, severity, expected, posted, delta, reason, as_of_ms, at_ms
            FROM revisions WHERE n = ? ORDER BY revision
            """, arguments: [number]
        ).map { row in
          BreakDetail.Revision(
            revision: row[0], state: row[1], isProvisional: row[2], severity: row[3], expected: row[4], posted: row[5],
            delta: row[6], reason: row[7], asOf_ms: row[8], at_ms: row[9])
        }
        let actions = try String.fetchAll(
          db, sql: "SELECT body FROM actions WHERE break = ? ORDER BY part, offs", arguments: [document.id]
        ).map { try decoder.decode(Action.self, from: Data($0.utf8)) }
        return BreakDetail(
          number: number, summary: row[1], message: body, document: document, state: row[3],
          workflow: Workflow(actions), revisions: revisions, actions: actions)
      }
    }
  }

  // MARK: - Sums

  public func tallies(scope: RowScope, now_ms: Int64) async throws -> [Tally] {
    var clause = Clause()
    clause.add("is_open = 1")
    restrict(scope, &clause)
    let day: Int64 = 86_400_000
    let bounds = AgeBucket.firstDays.dropFirst().reversed().map { now_ms - $0 * day }
    let cases = bounds.enumerated().map { "WHEN opened_ms <= \($1) THEN \(AgeBucket.names.count - 1 - $0)" }
    // Sums of millionths may pass 64 bits: whole units and the rest are summed apart.
    let sql = """
      SELECT type, state, severity, currency, CASE \(cases.joined(separator: " ")) ELSE 0 END AS age, count(*),
        sum(amount_u / 1000000), sum(amount_u % 1000000)
      FROM breaks WHERE \(clause.text.joined(separator: " AND "))
      GROUP BY type, state, severity, currency, age ORDER BY type, state, severity, currency, age
      """
    let arguments = StatementArguments(clause.arguments)
    return try await pool.read { db in
      try Row.fetchAll(db, sql: sql, arguments: arguments).map { row in
        Tally(
          type: row[0], state: row[1], severity: BreakDocument.severities[row[2]], currency: row[3], ageBucket: row[4],
          count: row[5], amount_u: Int128(row[6] as Int64) * 1_000_000 + Int128(row[7] as Int64))
      }
    }
  }

  public func cells(topic: String, prefix: String, after: String?, limit: Int) async throws -> [Cell] {
    try await pool.read { db in
      try Row.fetchAll(
        db,
        sql: """
          SELECT cell, at_ms, body FROM cells
          WHERE topic = ? AND cell > ? AND substr(cell, 1, ?) = ? ORDER BY cell LIMIT ?
          """, arguments: [topic, after ?? "", prefix.count, prefix, limit]
      ).map { Cell(topic: topic, key: $0[0], at_ms: $0[1], body: $0[2]) }
    }
  }

  public func series(topic: String, key: String, from_ms: Int64, limit: Int) async throws -> [Cell] {
    try await pool.read { db in
      try Row.fetchAll(
        db,
        sql: "SELECT at_ms, body FROM points WHERE topic = ? AND cell = ? AND at_ms >= ? ORDER BY at_ms DESC LIMIT ?",
        arguments: [topic, key, from_ms, limit]
      ).reversed().map { Cell(topic: topic, key: key, at_ms: $0[0], body: $0[1]) }
    }
  }

  public func deadLetters(
    source: String?, reason: String?, before: Int64?, limit: Int
  ) async throws -> [StoredDeadLetter] {
    var clause = Clause()
    if let source { clause.any("source", of: [source], isLead: true) }
    if let reason { clause.any("reason", of: [reason], isLead: source != nil) }
    clause.add("n < ?", [before ?? .max])
    let sql = "SELECT n, body FROM dead WHERE \(clause.text.joined(separator: " AND ")) ORDER BY n DESC LIMIT ?"
    let arguments = StatementArguments(clause.arguments + [limit])
    return try await pool.read { db in
      try Row.fetchAll(db, sql: sql, arguments: arguments).map { StoredDeadLetter(number: $0[0], body: $0[1]) }
    }
  }

  public func action(id: String) async throws -> Action? {
    try await pool.read { db in
      guard let body = try String.fetchOne(db, sql: "SELECT body FROM actions WHERE id = ?", arguments: [id]) else {
        return nil
      }
      return try JSONDecoder().decode(Action.self, from: Data(body.utf8))
    }
  }

  public func sequence() async throws -> Int64 {
    try await pool.read { db in try Int64.fetchOne(db, sql: "SELECT max(seq) FROM breaks") ?? 0 }
  }
}
