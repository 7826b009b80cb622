import ConsoleStore
import Domain
import Foundation
@testable import Kafka
import Matching
@testable import Pipeline
import Testing

/// The matcher and the store's workflow say the same of the same actions.
@Suite struct DecisionTests {
  /// A matcher with one break, found by the clock of its records.
  private struct Case: ~Copyable {
    var matcher: Matcher
    var outputs = MatchOutputs()
    var newest: Break?

    /// - Parameter cents: What the ledger lacks; one is within the tolerance.
    init(cents: Int64) {
      var policy = MatchingPolicy()
      policy.settle_ms = 0
      policy.window_ms = 3_600_000
      policy.grace_ms = 0
      policy.tolerances = policy.tolerances.map { _ in
        var tolerance = Tolerance()
        tolerance.over_u = 20_000
        tolerance.under_u = 20_000
        return tolerance
      }
      matcher = Matcher(policy: policy, dimensionCount: 0)
      matcher.takesActions = true
      let key = Array("SO-1".utf8)
      key.withUnsafeBufferPointer { key in
        var event = OrderEvent()
        event.order = ByteView(key)
        event.id = ByteView(key)
        event.kind = .invoiced
        event.currency = Currency("EUR")!
        event.time_ms = 1_000_000
        event.amounts[.gross] = 100_00
        event.amounts[.net] = 100_00
        event.position = RecordPosition(source: 0, partition: 0, offset: 0)
        matcher.apply(
          orders: UnsafeBufferPointer(start: withUnsafeMutablePointer(to: &event) { UnsafePointer($0) }, count: 1),
          now_ms: 2_000_000, outputs: &outputs)
        for (number, role, amount) in [(1, AccountRole.receivable, 100_00 - cents), (2, .revenue, -100_00)] {
          var posting = Posting()
          posting.order = ByteView(key)
          posting.journal = ByteView(key)
          posting.id = ByteView(base: key.baseAddress, count: number)
          posting.role = role
          posting.currency = Currency("EUR")!
          posting.amount = amount
          posting.time_ms = 1_000_000
          posting.postingDate_d = 0
          posting.position = RecordPosition(source: 1, partition: 0, offset: Int64(number))
          matcher.apply(
            postings: UnsafeBufferPointer(
              start: withUnsafeMutablePointer(to: &posting) { UnsafePointer($0) }, count: 1),
            now_ms: 2_000_000, outputs: &outputs)
        }
      }
    }
  }

  private func basis(_ made: Break) -> String {
    Break.basis(
      expected: made.expected, posted: made.posted, currency: made.currency, postedCurrency: made.postedCurrency)
  }

  private func matched(_ action: Action) throws -> BreakAction? {
    let value = try action.encoded()
    return try value.withUnsafeBufferPointer {
      try BreakAction(
        message: ConsumedMessage(topic: 0, partition: 0, offset: 0, timestamp_ms: 0, key: nil, value: $0))
    }
  }

  /// Random actions on a break that the reconciler calls open, and on one that it accepts.
  @Test(arguments: 1...60) func theWorkflowAndTheMatcherAgree(seed: Int) throws {
    var random = Seeded(state: UInt64(seed))
    var one = Case(cents: seed % 3 == 0 ? 1 : 10_00)
    var now_ms: Int64 = 1_000_000 + 2 * 3_600_000
    one.matcher.watermarks.force(now_ms)
    _ = one.matcher.advance(now_ms: now_ms, outputs: &one.outputs)
    let own = try #require(one.outputs.breaks.first { $0.state.isOpen || $0.state == .accepted })
    var newest = own
    var actions: [Action] = []
    var sent: [Action] = []
    for number in 0..<40 {
      now_ms += 1
      var action = Action(
        id: "a\(number)",
        kind: ActionKind.allCases.randomElement(using: &random)!, breakID: own.id, order: own.order,
        actor: ["ann", "bob"].randomElement(using: &random)!, at: formatTimestamp(now_ms), revision: 1,
        basis: Int.random(in: 0..<5, using: &random) == 0 ? "1.00|2.00|EUR" : basis(own),
        needsApproval: Int.random(in: 0..<3, using: &random) == 0)
      action.reasonCode = Bool.random(using: &random) ? "timing" : nil
      if action.kind == .writeOff {
        (action.currency, action.lines) = ("EUR", [.init(role: .writeOff, amount: "2.50")])
      }
      if action.kind == .approve || action.kind == .reject {
        action.needsApproval = false
        action.of = sent.filter(\.needsApproval).randomElement(using: &random)?.id ?? "nothing"
      }
      if Int.random(in: 0..<6, using: &random) == 0, let again = sent.randomElement(using: &random) { action = again }
      if !actions.contains(where: { $0.id == action.id }) { actions.append(action) }
      sent.append(action)
      if let taken = try matched(action) {
        _ = one.matcher.apply(taken, now_ms: now_ms, outputs: &one.outputs)
        if let last = one.outputs.breaks.last(where: { $0.id == own.id }) { newest = last }
      }
      let workflow = Workflow(actions)
      let wanted = workflow.state(reconciler: own.state.rawValue, basis: basis(own))
      #expect(newest.state.rawValue == wanted, "seed \(seed), after \(number + 1) actions")
      // And the console that sees the reconciler's own answer shows the same.
      #expect(workflow.state(reconciler: newest.state.rawValue, basis: basis(own)) == wanted)
      if newest.decision != nil { #expect(newest.state.rawValue == workflow.decidedState) }
    }
  }

  @Test func statesThatPeopleDecide() {
    for own in BreakState.allCases {
      for decision in [BreakState.explained, .accepted, .forceClosed, .reopened] {
        let once = own.decided(decision)
        #expect(once.decided(decision) == once, "telling it twice changes nothing: \(own), \(decision)")
        if own == .autoCleared || own == .closed {
          #expect(once == own)
        } else {
          #expect(once == decision || own == .accepted)
        }
      }
    }
    #expect(BreakState.accepted.decided(.reopened) == .reopened)
    #expect(BreakState.accepted.decided(.explained) == .accepted)
  }

  @Test(arguments: [
    ("{", "no JSON object"), (#"{"id":"a","kind":"accept"}"#, "is missing"), (#"{"kind":1}"#, "missing"),
  ]) func whatCannotBeReadIsSaid(text: String, part: String) {
    let bytes = Array(text.utf8)
    bytes.withUnsafeBufferPointer { bytes in
      let message = ConsumedMessage(topic: 0, partition: 0, offset: 0, timestamp_ms: 0, key: nil, value: bytes)
      let fault = #expect(throws: DataFault.self) { _ = try BreakAction(message: message) }
      #expect(fault?.reason == .schemaInvalid)
      #expect(fault.map { "'\($0.field)' \($0.detail)" }?.contains(part) == true, "\(String(describing: fault))")
    }
  }

  @Test func aWriteOffSaysItsAmount() throws {
    var asked = action("w1", .writeOff, on: TestBreak())
    #expect(try matched(asked) == nil, "one of before actions named their journal")
    asked.lines = [.init(role: .receivable, amount: "-2.50"), .init(role: .writeOff, amount: "2.50")]
    asked.currency = "EUR"
    #expect(try matched(asked)?.writtenOff == .init(currency: Currency("EUR")!, amount: 250))
    for (currency, amount) in [("EURO", "2.50"), ("EUR", "2.505"), ("EUR", "")] {
      asked.currency = currency
      asked.lines![1].amount = amount
      let fault = #expect(throws: DataFault.self) { _ = try matched(asked) }
      #expect(fault?.field == "lines")
    }
  }

  @Test func whatDoesNotFitIsSaid() throws {
    let good = action("a1", .accept, on: TestBreak())
    #expect(try matched(good) != nil)
    #expect(try matched(action("a2", .comment, on: TestBreak())) == nil)
    for (field, change) in [
      ("id", { $0.id = "" }), ("id", { $0.id = String(repeating: "x", count: 1_025) }), ("at", { $0.at = "yesterday" }),
      ("break", { $0.breakID = "SO-2:AMOUNT_MISMATCH:receivable" }), ("break", { $0.breakID = "SO-1:NONE:receivable" }),
      ("of", { $0.kind = .approve }), ("actor", { $0.actor = "" }),
    ] as [(String, (inout Action) -> Void)] {
      var wrong = good
      change(&wrong)
      let fault = #expect(throws: DataFault.self) { _ = try matched(wrong) }
      #expect(fault?.field == field)
    }
  }
}
