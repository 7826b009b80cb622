import ConsoleStore
import Foundation
import Pipeline
import Testing

@Suite struct WorkflowTests {
  @Test(arguments: StoreKind.here) func aDecisionHoldsWhileTheDifferenceIsTheSame(kind: StoreKind) async throws {
    let temporary = try TemporaryStore(kind)
    let store = temporary.store
    var made = TestBreak()
    _ = try store.apply([made.record(0), try record(action("a1", .accept, on: made), 0)], now_ms: 1)
    #expect(try await store.detail(id: made.id, scope: RowScope())?.state == "accepted")
    made.revision = 2
    made.severity = "high"
    _ = try store.apply([made.record(1)], now_ms: 1)
    #expect(try await store.detail(id: made.id, scope: RowScope())?.state == "accepted", "the amounts are the same")
    made.revision = 3
    made.posted = "80.00"
    made.delta = "-20.00"
    _ = try store.apply([made.record(2)], now_ms: 1)
    #expect(try await store.detail(id: made.id, scope: RowScope())?.state == "open", "it is another difference")
    made.revision = 4
    made.state = "auto_cleared"
    made.posted = "100.00"
    _ = try store.apply([made.record(3), try record(action("a2", .forceClose, on: made), 1)], now_ms: 1)
    #expect(
      try await store.detail(id: made.id, scope: RowScope())?.state == "auto_cleared", "what ties out needs nobody")
  }

  @Test(arguments: StoreKind.here) func theSameActionTwiceIsOne(kind: StoreKind) async throws {
    let temporary = try TemporaryStore(kind)
    let made = TestBreak()
    var comment = action("c1", .comment, on: made)
    comment.comment = "seen"
    let change = try temporary.store.apply(
      [made.record(0), try record(comment, 0), try record(comment, 1)], now_ms: 1)
    #expect(change.actions == 1)
    #expect(try await temporary.store.detail(id: made.id, scope: RowScope())?.workflow.comments == 1)
  }

  @Test func aSecondPersonApproves() {
    let made = TestBreak()
    let asked = action("w1", .forceClose, on: made, by: "ann", waits: true)
    var own = action("w2", .approve, on: made, by: "ann")
    own.of = "w1"
    var other = action("w3", .approve, on: made, by: "bob")
    other.of = "w1"
    var declined = action("w4", .reject, on: made, by: "bob")
    declined.of = "w1"
    #expect(Workflow([asked]).decidedState == nil)
    #expect(Workflow([asked]).pending == ["w1"])
    #expect(Workflow([asked, own]).decidedState == nil, "nobody approves what they asked for")
    #expect(Workflow([asked, own, other]).decidedState == "force_closed")
    #expect(Workflow([asked, declined, other]).decidedState == nil, "what is declined is gone")
    #expect(Workflow([asked, declined]).pending.isEmpty)
    #expect(Workflow([other, asked]).decidedState == nil, "an approval before its request is none")
  }

  @Test func reopeningTakesADecisionBack() {
    let made = TestBreak()
    let basis = "100.00|90.00|EUR"
    let workflow = Workflow([action("1", .explain, on: made), action("2", .reopen, on: made)])
    #expect(workflow.state(reconciler: "open", basis: basis) == "reopened")
    #expect(workflow.state(reconciler: "accepted", basis: basis) == "reopened")
    #expect(workflow.state(reconciler: "open", basis: "other") == "open")
    #expect(workflow.state(reconciler: "closed", basis: basis) == "closed")
  }

  /// However the two topics interleave, and however they are cut into batches, the store shows the same.
  @Test(arguments: StoreKind.here, 1...12) func theOrderOfTheTopicsDoesNotMatter(kind: StoreKind, seed: Int)
    async throws
  {
    var random = Seeded(state: UInt64(seed))
    var breaks: [StoreRecord] = []
    var actions: [StoreRecord] = []
    for number in 0..<8 {
      var made = TestBreak()
      made.order = "SO-\(number)"
      for revision in 1...Int.random(in: 1...3, using: &random) {
        made.revision = revision
        made.posted = "\(Int.random(in: 88...90, using: &random)).00"
        made.state = ["open", "open", "accepted", "auto_cleared"].randomElement(using: &random)!
        breaks.append(made.record(Int64(breaks.count)))
        for kind in [ActionKind.accept, .assign, .reopen, .explain].shuffled(using: &random).prefix(2) {
          var made = action("\(seed)-\(actions.count)", kind, on: made)
          made.assignee = kind == .assign ? "bob" : nil
          actions.append(try record(made, Int64(actions.count)))
        }
      }
    }
    func fill(_ random: inout Seeded) async throws -> [String] {
      let temporary = try TemporaryStore(kind)
      var (left, right) = (breaks[...], actions[...])
      var batch: [StoreRecord] = []
      while !left.isEmpty || !right.isEmpty {
        let takesBreak = right.isEmpty || (!left.isEmpty && Bool.random(using: &random))
        batch.append(takesBreak ? left.removeFirst() : right.removeFirst())
        if Int.random(in: 0..<3, using: &random) == 0 {
          _ = try temporary.store.apply(batch, now_ms: 1)
          batch = []
        }
      }
      _ = try temporary.store.apply(batch, now_ms: 1)
      let page = try await temporary.store.breaks(
        BreakFilter(), scope: RowScope(), sort: .amount, after: nil, limit: 100)
      return page.rows.map { row in
        ["id", "state", "reconciler_state", "assignee", "revision", "comments"].map { field(row, $0) ?? "-" }
          .joined(separator: " ")
      }.sorted()
    }
    let first = try await fill(&random)
    #expect(first.count == 8)
    for _ in 0..<4 { #expect(try await fill(&random) == first, "seed \(seed)") }
  }
}
