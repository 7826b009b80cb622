import ConsoleStore
import Foundation
import GRDB
import Testing

@testable import ConsoleStore

/// Lists must walk an index in its order: a sort of a million rows is what makes a page slow.
@Suite struct PlanTests {
  @Test func commonListsSortNothing() async throws {
    let temporary = try TemporaryStore(.sqlite)
    let store = try #require(temporary.store as? SQLiteStore)
    func plan(_ sort: BreakSort, _ change: (inout BreakFilter) -> Void = { _ in }, scope: RowScope = RowScope())
      async throws
      -> String
    {
      var filter = BreakFilter()
      change(&filter)
      let (sql, values) = store.listing(filter, scope: scope, sort: sort, after: nil, limit: 51)
      let arguments = StatementArguments(values)
      return try await store.pool.read { db in
        try Row.fetchAll(db, sql: "EXPLAIN QUERY PLAN " + sql, arguments: arguments).map { $0["detail"] as String }
          .joined(separator: "; ")
      }
    }
    let open: (inout BreakFilter) -> Void = { $0.states = ["open", "reopened"] }
    let plans = [
      try await plan(.amount, open), try await plan(.age, open), try await plan(.updated),
      try await plan(.updated, open),
      try await plan(
        .amount,
        {
          open(&$0)
          $0.types = ["CUTOFF"]
        }),
      try await plan(
        .amount,
        {
          open(&$0)
          $0.severities = ["high"]
          $0.currencies = ["EUR"]
        }),
      try await plan(.amountUp, open, scope: RowScope(["country": ["NO"]])),
      try await plan(.updatedUp, { $0.after = 5 }),
    ]
    for plan in plans {
      #expect(!plan.contains("TEMP B-TREE"), "\(plan)")
      #expect(plan.contains("USING INDEX breaks_"), "\(plan)")
    }
    // Everything, open or not: two ordered heads, of which only the few rows of the pages are merged.
    for plan in [try await plan(.amount), try await plan(.age), try await plan(.ageUp, { $0.roles = ["tax"] })] {
      #expect(plan.components(separatedBy: "USING INDEX breaks_").count == 3, "\(plan)")
      #expect(!plan.contains("(is_open=?); USE TEMP B-TREE"), "\(plan)")
    }
    for (plan, index) in [
      (try await plan(.updated, { $0.customers = ["C1"] }), "breaks_customer"),
      (try await plan(.updated, { $0.orders = ["S"] }), "breaks_ord"),
      (try await plan(.amount, { $0.assignees = ["a"] }), "breaks_assignee"),
      (try await plan(.amount, { $0.pendingApproval = true }), "breaks_pending"),
    ] { #expect(plan.contains(index), "\(plan)") }
  }
}
