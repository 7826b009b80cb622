import Domain
import Foundation
import Pipeline
import Testing

@testable import ConsoleStore

/// Lists against a plain search through everything: every filter, every order, page by page.
@Suite struct ListingTests {
  struct Row {
    var made: TestBreak
    var sequence: Int64
    var number: Int64
    var amount_u: Int64
    var opened_ms: Int64
    var assignee: String?
  }

  static func fill(_ store: any ConsoleStore, count: Int, random: inout Seeded) throws -> [Row] {
    var rows: [Row] = []
    var records: [StoreRecord] = []
    for number in 0..<count {
      var made = TestBreak()
      made.order = "SO-\(number / 2)"
      made.role = number % 2 == 0 ? "receivable" : "revenue"
      made.type = ["AMOUNT_MISMATCH", "MISSING_ORDER", "SHORT_PAY"].randomElement(using: &random)!
      made.state = ["open", "open", "reopened", "accepted", "closed"].randomElement(using: &random)!
      made.severity = ["low", "medium", "high", "critical"].randomElement(using: &random)!
      made.currency = ["EUR", "NOK"].randomElement(using: &random)!
      made.country = ["NO", "DE", "FR"].randomElement(using: &random)!
      made.channel = ["web", "shop"].randomElement(using: &random)!
      made.customer = "C\(Int.random(in: 0..<9, using: &random))"
      let cents = Int.random(in: 0..<400, using: &random)
      made.delta = "\(cents / 100).\(cents % 100 < 10 ? "0" : "")\(cents % 100)"
      let day = Int.random(in: 10...28, using: &random)
      made.opened = "2025-03-\(day)T10:00:00.000Z"
      records.append(made.record(Int64(number)))
      rows.append(
        Row(
          made: made, sequence: Int64(number + 1), number: Int64(number + 1), amount_u: Int64(cents) * 10_000,
          opened_ms: parseTimestamp_ms(made.opened)!, assignee: nil))
    }
    _ = try store.apply(records, now_ms: 1)
    var sequence = Int64(count)
    var actions: [StoreRecord] = []
    for index in stride(from: 0, to: count, by: 7) {
      var assign = action("a\(index)", .assign, on: rows[index].made)
      assign.assignee = index % 2 == 0 ? "ann" : "bob"
      sequence += 1
      rows[index].assignee = assign.assignee
      rows[index].sequence = sequence
      actions.append(try record(assign, Int64(actions.count)))
    }
    _ = try store.apply(actions, now_ms: 1)
    return rows
  }

  static func randomFilter(_ random: inout Seeded) -> (BreakFilter, RowScope) {
    var filter = BreakFilter()
    func maybe(_ odds: Int, _ body: () -> Void) { if Int.random(in: 0..<odds, using: &random) == 0 { body() } }
    func some(_ values: [String]) -> [String] {
      Array(values.shuffled(using: &random).prefix(Int.random(in: 1...2, using: &random)))
    }
    maybe(3) { filter.types = some(["AMOUNT_MISMATCH", "MISSING_ORDER", "SHORT_PAY", "NONE"]) }
    maybe(2) { filter.states = some(["open", "reopened", "accepted", "closed"]) }
    maybe(4) { filter.severities = some(["low", "medium", "high", "nonsense"]) }
    maybe(4) { filter.currencies = some(["EUR", "NOK"]) }
    maybe(5) { filter.roles = some(["receivable", "revenue", "tax"]) }
    maybe(5) { filter.customers = some(["C1", "C2", "C3"]) }
    maybe(6) { filter.assignees = some(["ann", "bob"]) }
    maybe(4) { filter.dimensions = ["country": some(["NO", "DE"])] }
    maybe(12) { filter.dimensions["unknown"] = ["x"] }
    maybe(4) { filter.minimum_u = Int64.random(in: 0..<3_000_000, using: &random) }
    maybe(4) { filter.maximum_u = Int64.random(in: 1_000_000..<4_000_000, using: &random) }
    maybe(5) { filter.openedFrom_ms = parseTimestamp_ms("2025-03-15T10:00:00.000Z") }
    maybe(5) { filter.openedBefore_ms = parseTimestamp_ms("2025-03-20T10:00:00.000Z") }
    maybe(6) { filter.after = Int64.random(in: 0..<300, using: &random) }
    maybe(8) { filter.orders = ["SO-3", "SO-4"] }
    var scope: [String: Set<String>] = [:]
    maybe(4) { scope["channel"] = ["web"] }
    maybe(6) { scope["country"] = ["NO", "FR"] }
    maybe(20) { scope["nowhere"] = ["x"] }
    return (filter, RowScope(scope))
  }

  static func matches(_ row: Row, _ filter: BreakFilter, _ scope: RowScope) -> Bool {
    func listed(_ values: [String], _ value: String?) -> Bool { values.isEmpty || value.map(values.contains) == true }
    func dimension(_ name: String) -> String? {
      name == "country" ? row.made.country : name == "channel" ? row.made.channel : nil
    }
    return listed(filter.types, row.made.type) && listed(filter.states, row.made.state)
      && listed(filter.severities, row.made.severity) && listed(filter.currencies, row.made.currency)
      && listed(filter.roles, row.made.role) && listed(filter.customers, row.made.customer)
      && listed(filter.assignees, row.assignee) && listed(filter.orders, row.made.order)
      && filter.dimensions.allSatisfy { listed($0.value, dimension($0.key)) }
      && scope.dimensions.allSatisfy { entry in dimension(entry.key).map(entry.value.contains) == true }
      && row.amount_u >= filter.minimum_u ?? 0 && row.amount_u <= filter.maximum_u ?? .max
      && row.opened_ms >= filter.openedFrom_ms ?? 0 && row.opened_ms < filter.openedBefore_ms ?? .max
      && row.sequence > filter.after ?? 0
  }

  @Test(arguments: StoreKind.here, 1...4) func listsAreWhatAPlainSearchFinds(kind: StoreKind, seed: Int) async throws {
    var random = Seeded(state: UInt64(seed))
    let temporary = try TemporaryStore(kind)
    let rows = try Self.fill(temporary.store, count: 300, random: &random)
    var found = 0
    var answeredAtOnce = 0
    for _ in 0..<120 {
      let (filter, scope) = Self.randomFilter(&random)
      let sort = BreakSort.allCases.randomElement(using: &random)!
      func value(_ row: Row) -> Int64 {
        switch sort {
        case .amount, .amountUp: row.amount_u
        case .age, .ageUp: row.opened_ms
        case .updated, .updatedUp: row.sequence
        }
      }
      let isDescending = [BreakSort.amount, .ageUp, .updated].contains(sort)
      let wanted = rows.filter { Self.matches($0, filter, scope) }.sorted { a, b in
        let isBefore = (value(a), a.number) < (value(b), b.number)
        return isDescending ? !isBefore : isBefore
      }.map(\.made.id)
      var listed: [String] = []
      var cursor: PageCursor?
      let limit = Int.random(in: 1...40, using: &random)
      repeat {
        let page = try await temporary.store.breaks(filter, scope: scope, sort: sort, after: cursor, limit: limit)
        #expect(page.rows.count <= limit)
        if let quick = try temporary.store.quickBreaks(filter, scope: scope, sort: sort, after: cursor, limit: limit) {
          #expect(quick.rows == page.rows && quick.next == page.next && quick.sequence == page.sequence)
          answeredAtOnce += 1
        }
        listed += page.rows.map { field($0, "id")! }
        cursor = page.next
      } while cursor != nil && listed.count <= rows.count
      #expect(listed == wanted, "seed \(seed): \(filter) \(scope) \(sort)")
      found += listed.count
    }
    #expect(found > 500, "the filters must find something")
    #expect((answeredAtOnce > 100) == (kind == .sqlite))
  }

  @Test(arguments: StoreKind.here) func talliesAreTheSums(kind: StoreKind) async throws {
    var random = Seeded(state: 9)
    let temporary = try TemporaryStore(kind)
    let rows = try Self.fill(temporary.store, count: 300, random: &random)
    let now = parseTimestamp_ms("2025-03-29T10:00:00.000Z")!
    for scope in [RowScope(), RowScope(["country": ["NO"]])] {
      let tallies = try await temporary.store.tallies(scope: scope, now_ms: now)
      let open = rows.filter {
        ["open", "reopened"].contains($0.made.state) && Self.matches($0, BreakFilter(), scope)
      }
      #expect(tallies.reduce(0) { $0 + $1.count } == open.count)
      for tally in tallies {
        let same = open.filter {
          $0.made.type == tally.type && $0.made.state == tally.state && $0.made.severity == tally.severity
            && $0.made.currency == tally.currency
            && AgeBucket.index(opened_ms: $0.opened_ms, now_ms: now) == tally.ageBucket
        }
        #expect(same.count == tally.count, "\(tally)")
        #expect(same.reduce(Int128(0)) { $0 + Int128($1.amount_u) } == tally.amount_u)
      }
    }
  }

  /// The sums that are kept, against a count of the rows, while breaks change, go and come and days pass.
  @Test(arguments: StoreKind.here, 1...3) func talliesFollowEveryChange(kind: StoreKind, seed: Int) async throws {
    var random = Seeded(state: UInt64(seed))
    let temporary = try TemporaryStore(kind)
    var breaks: [String: TestBreak] = [:]
    var now = parseTimestamp_ms("2025-03-29T10:00:00.000Z")!
    var offset: Int64 = 0
    var compared = 0
    for _ in 0..<25 {
      var records: [StoreRecord] = []
      for _ in 0..<Int.random(in: 1...40, using: &random) {
        var made = TestBreak()
        made.order = "SO-\(Int.random(in: 0..<60, using: &random))"
        made.revision = (breaks[made.id]?.revision ?? 0) + 1
        if Int.random(in: 0..<12, using: &random) == 0, breaks[made.id] != nil {
          breaks[made.id] = nil
          records.append(
            StoreRecord(
              kind: .breaks, place: StorePlace("t.breaks", 0), offset: offset, timestamp_ms: now,
              key: Array(made.id.utf8), value: nil))
        } else {
          made.state = ["open", "open", "reopened", "accepted", "auto_cleared"].randomElement(using: &random)!
          made.severity = ["low", "high"].randomElement(using: &random)!
          made.country = ["NO", "DE", "FR"].randomElement(using: &random)!
          made.channel = ["web", "shop"].randomElement(using: &random)!
          made.delta = "\(Int.random(in: 0..<400, using: &random)).07"
          made.opened = formatTimestamp(now - Int64.random(in: 0..<40, using: &random) * 86_400_000)
          breaks[made.id] = made
          records.append(made.record(offset))
        }
        offset += 1
      }
      _ = try temporary.store.apply(records, now_ms: now)
      now += [0, 3_600_000, 2 * 86_400_000].randomElement(using: &random)!
      for scope in [
        RowScope(), RowScope(["country": ["NO", "DE"]]), RowScope(["country": ["DE"], "channel": ["web"]]),
        RowScope(["channel": []]), RowScope(["nowhere": ["x"]]),
      ] {
        let open = breaks.values.filter { made in
          ["open", "reopened"].contains(made.state)
            && scope.dimensions.allSatisfy { name, values in
              values.contains(name == "country" ? made.country : name == "channel" ? made.channel : "")
                && name != "nowhere"
            }
        }
        let wanted = Dictionary(
          grouping: open,
          by: { made in
            let age = AgeBucket.index(opened_ms: parseTimestamp_ms(made.opened)!, now_ms: now)
            return "\(made.type)|\(made.state)|\(made.severity)|\(made.currency)|\(age)"
          }
        ).mapValues { same in
          "\(same.count)|\(same.reduce(0) { $0 + Int($1.delta!.dropLast(3))! * 1_000_000 + 70_000 })"
        }
        let found = try await temporary.store.tallies(scope: scope, now_ms: now)
        let told = Dictionary(
          uniqueKeysWithValues: found.map {
            ("\($0.type)|\($0.state)|\($0.severity)|\($0.currency)|\($0.ageBucket)", "\($0.count)|\($0.amount_u)")
          })
        #expect(told == wanted, "seed \(seed), \(scope)")
        compared += wanted.count
      }
    }
    #expect(compared > 200)
  }

  @Test func whatTakesLongerThanItsBudgetIsGivenUp() throws {
    let temporary = try TemporaryStore(.sqlite)
    let store = try #require(temporary.store as? SQLiteStore)
    func count(_ bound: Int, _ reader: SQLiteReader) throws -> Int64? {
      try reader.rows(
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < ?) SELECT count(*) FROM c",
        [.integer(bound)]
      ) { $0.integer(0) }.first
    }
    for _ in 0..<(2 * QuickReaders.size) {
      #expect(try store.quick.read { try count(100_000_000, $0) } == nil)
      #expect(try store.quick.read { try count(10, $0) } == 10)
    }
    // All are busy: whoever comes then is sent the other way, and waits for nobody.
    func nested(_ depth: Int) throws -> Int {
      try store.quick.read { _ in try nested(depth + 1) } ?? depth
    }
    #expect(try nested(0) == QuickReaders.size)
    #expect(try nested(0) == QuickReaders.size)
  }
}
