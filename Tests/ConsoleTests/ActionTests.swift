import ConsoleStore
import Foundation
import HTTPTypes
import Pipeline
import Testing

@testable import Console

@Suite(.serialized) struct ActionTests {
  private static func body(_ entries: [String: Any]) -> String {
    String(decoding: try! JSONSerialization.data(withJSONObject: entries), as: UTF8.self)
  }

  @Test func aDecisionIsAnEventThatTakesEffectOnce() async throws {
    let test = try TestConsole()
    try test.add([TestBreak()])
    try await test.run { client in
      let path = "/v1/breaks/\(TestBreak().id)/actions"
      let body = Self.body(["kind": "explain", "reason_code": "timing", "comment": "next month", "revision": 1])
      let first = try await client.send(.post, path, as: "analyst", body: body, headers: [("Idempotency-Key", "k1")])
      #expect(first.status == 200, "\(first.body)")
      #expect(first.json["applied"]?.boolValue == true)
      let again = try await client.send(.post, path, as: "analyst", body: body, headers: [("Idempotency-Key", "k1")])
      #expect(again.json["actions"] == first.json["actions"])
      let other = try await client.send(
        .post, path, as: "analyst", body: Self.body(["kind": "comment", "comment": "x"]),
        headers: [("Idempotency-Key", "k1")])
      #expect(other.status == 422, "the key was used for another request")
      let detail = try await client.get("/v1/breaks/\(TestBreak().id)")
      #expect(detail.json["break"]?["state"]?.stringValue == "explained")
      #expect(detail.json["break"]?["reconciler_state"]?.stringValue == "open")
      #expect(detail.json["break"]?["reason_code"]?.stringValue == "timing")
      let actions = detail.json["actions"]?.arrayValue ?? []
      #expect(actions.count == 1)
      #expect(actions.first?["actor"]?.stringValue == "token:analyst")
      // The action names an entry that the audit log must hold.
      let head = actions.first?["audit"]?.stringValue ?? ""
      #expect(try AuditLog.verify(path: test.directory + "/audit.log", expected: head).problem == nil)
      let reopened = try await client.send(.post, path, as: "analyst", body: Self.body(["kind": "reopen"]))
      #expect(reopened.status == 200)
      #expect(
        try await client.get("/v1/breaks/\(TestBreak().id)").json["break"]?["state"]?.stringValue == "reopened")
    }
    let records = try test.cluster.readAll(test.configuration.actionsTopic, partitions: 2)
    #expect(records.count == 2)
    #expect(records.allSatisfy { $0.key == "SO-1" }, "keyed by the order")
  }

  /// The task that has the break is told by its message; the key decides where it is not.
  @Test func anActionGoesToTheTaskThatHasTheBreak() async throws {
    let test = try TestConsole()
    let breaks = (0..<8).map { TestBreak(order: "SO-\($0)", task: $0 % 2) }
    try test.add(breaks)
    try await test.run { client in
      for made in breaks {
        let answer = try await client.send(
          .post, "/v1/breaks/\(made.id)/actions", as: "admin",
          body: Self.body(["kind": "accept", "comment": "so be it"]))
        #expect(answer.status == 200, "\(answer.body)")
      }
    }
    let records = try test.cluster.readAll(test.configuration.actionsTopic, partitions: 2)
    #expect(records.count == 8)
    for record in records { #expect(breaks.first { $0.order == record.key }?.task == Int(record.partition)) }
  }

  @Test(arguments: [
    (#"{"kind":"explain"}"#, 422), (#"{"kind":"explain","reason_code":"timming"}"#, 422),
    (#"{"kind":"comment"}"#, 422), (#"{"kind":"accept"}"#, 422), (#"{"kind":"approve"}"#, 422),
    (#"{"kind":"approve","of":"nothing"}"#, 409), (#"{"kind":"reopen"}"#, 409),
    (#"{"kind":"comment","comment":"x","revision":9}"#, 409), (#"{"kind":"explode"}"#, 400), ("{", 400), ("[]", 400),
    (#"{"kind":1}"#, 400), (#"{"kind":"comment","comment":"\#(String(repeating: "x", count: 4_001))"}"#, 422),
  ])
  func whatIsIncompleteIsRefused(body: String, status: Int) async throws {
    let test = Self.shared
    try await test.run { client in
      let answer = try await client.send(.post, "/v1/breaks/\(TestBreak().id)/actions", as: "admin", body: body)
      #expect(answer.status == status, "\(body): \(answer.body)")
      if body.contains("timming") { #expect(answer.body.contains("did you mean 'timing'")) }
    }
  }

  /// The ledger has 10.00 too much: what can be written off.
  static let surplus = TestBreak(posted: "110.00", delta: "10.00")

  static let shared: TestConsole = {
    let test = try! TestConsole()
    try! test.add([TestBreak()])
    return test
  }()

  @Test func aboveTheLimitASecondPersonDecides() async throws {
    let test = try TestConsole()
    let large = TestBreak(order: "SO-9", posted: "-19900.00", delta: "-20000.00")
    try test.add([large, TestBreak()])
    let path = "/v1/breaks/\(large.id)/actions"
    try await test.run { client in
      let asked = try await client.send(
        .post, path, as: "controller", body: Self.body(["kind": "force_close", "comment": "gone"]))
      #expect(asked.status == 200)
      let action = asked.json["actions"]!.arrayValue!.first!
      #expect(action["status"]?.stringValue == "pending_approval")
      let id = action["id"]!.stringValue!
      func state() async throws -> String? {
        try await client.get("/v1/breaks/\(large.id)").json["break"]?["state"]?.stringValue
      }
      #expect(try await state() == "open")
      #expect(try await client.get("/v1/breaks?pending_approval=true").items.count == 1)
      let approve = Self.body(["kind": "approve", "of": id])
      #expect(
        try await client.send(.post, path, as: "controller", body: approve).status == 403, "not by the same person")
      #expect(try await client.send(.post, path, as: "analyst", body: approve).status == 403)
      let elsewhere = try await client.send(
        .post, "/v1/breaks/\(TestBreak().id)/actions", as: "second", body: approve)
      #expect(elsewhere.status == 409, "the action is on another break")
      #expect(try await client.send(.post, path, as: "second", body: approve).status == 200)
      #expect(try await state() == "force_closed")
      #expect(try await client.send(.post, path, as: "second", body: approve).status == 409, "approved already")
      #expect(try await client.get("/v1/breaks?pending_approval=true").items.isEmpty)
    }
  }

  @Test func manySmallOnesAreAsLargeAsTheirSum() async throws {
    let test = try TestConsole()
    let breaks = (0..<4).map { TestBreak(order: "SO-\($0)", posted: "-2900.00", delta: "-3000.00") }
    try test.add(breaks)
    try await test.run { client in
      let answer = try await client.send(
        .post, "/v1/actions", as: "controller",
        body: Self.body(["breaks": breaks.map(\.id) + ["nothing"], "kind": "force_close", "reason_code": "other"]))
      let statuses = answer.json["actions"]?.arrayValue?.map { $0["status"]?.stringValue }
      #expect(statuses == Array(repeating: "pending_approval", count: 4))
      #expect(answer.json["errors"]?.arrayValue?.count == 1)
      let one = try await client.send(
        .post, "/v1/actions", as: "controller",
        body: Self.body(["breaks": [breaks[0].id, breaks[0].id], "kind": "accept", "reason_code": "other"]))
      #expect(one.json["actions"]?.arrayValue?.count == 1, "named twice is one")
      #expect(
        one.json["actions"]?.arrayValue?.first?["status"]?.stringValue == "done",
        "only write-offs and force-closes wait")
    }
  }

  @Test func aWriteOffIsABalancedJournal() async throws {
    let test = try TestConsole()
    let large = TestBreak(order: "SO-9", posted: "20100.00", delta: "20000.00")
    try test.add([Self.surplus, large])
    try await test.run { client in
      let small = try await client.send(
        .post, "/v1/breaks/\(TestBreak().id)/actions", as: "analyst",
        body: Self.body(["kind": "write_off", "reason_code": "rounding"]))
      #expect(small.json["actions"]?.arrayValue?.first?["status"]?.stringValue == "done")
      let asked = try await client.send(
        .post, "/v1/breaks/\(large.id)/actions", as: "analyst",
        body: Self.body(["kind": "write_off", "reason_code": "other"]))
      let id = asked.json["actions"]!.arrayValue!.first!["id"]!.stringValue!
      let approved = try await client.send(
        .post, "/v1/breaks/\(large.id)/actions", as: "controller", body: Self.body(["kind": "approve", "of": id]))
      #expect(approved.status == 200)
      let row = try await client.get("/v1/breaks/\(large.id)")
      #expect(row.json["break"]?["proposed_write_off"]?.stringValue == id)
      #expect(row.json["break"]?["state"]?.stringValue == "open", "the posting closes it, not the proposal")
    }
    let journals = try test.cluster.readAll(test.configuration.proposalsTopic, partitions: 2).map {
      try JSONDecoder().decode(JSON.self, from: Data($0.value!.utf8))
    }
    #expect(journals.count == 2, "what waits for approval is no journal yet")
    for journal in journals {
      // As the topic's contract says.
      let fields = Set(journal.objectValue?.map(\.0) ?? [])
      #expect(fields == Set(TopicSchemas.proposal.fields.map(\.name)))
      let lines = journal["lines"]?.arrayValue ?? []
      let amounts = lines.compactMap { $0["amount"]?.stringValue }.compactMap { Decimal(string: $0) }
      #expect(amounts.count == 2 && amounts[0] + amounts[1] == 0)
    }
    let one = journals.first { $0["order"]?.stringValue == "SO-1" }!
    #expect(
      one["lines"]?.arrayValue?.map { "\($0["role"]!.stringValue!) \($0["amount"]!.stringValue!)" } == [
        "receivable -10.00", "write_off 10.00",
      ])
    let other = journals.first { $0["order"]?.stringValue == "SO-9" }!
    #expect(other["approved_by"]?.stringValue == "token:controller")
    #expect(other["proposed_by"]?.stringValue == "token:analyst")
  }

  /// What is given up leaves the balance in which it is open: a short payment the receivable, not the bank.
  @Test(arguments: [
    ("SHORT_PAY", "cash", "-2.00", ["cash": "-2.00", "receivable": "2.00"], ["receivable -2.00", "write_off 2.00"]),
    ("OVER_PAY", "cash", "2.00", ["cash": "2.00", "receivable": "-2.00"], ["receivable 2.00", "write_off -2.00"]),
    ("SHORT_PAY", "cash", "-2.00", ["cash": "-2.00", "clearing": "2.00"], ["clearing -2.00", "write_off 2.00"]),
    // What is open by more than this one break.
    ("SHORT_PAY", "cash", "-2.00", ["cash": "-2.00", "receivable": "5.00"], ["receivable -2.00", "write_off 2.00"]),
    (
      "PRICE_MISMATCH", "revenue", "-2.00", ["revenue": "-2.00", "receivable": "2.00"],
      ["receivable -2.00", "write_off 2.00"]
    ),
    ("AMOUNT_MISMATCH", "receivable", "2.00", ["receivable": "5.00"], ["receivable -2.00", "write_off 2.00"]),
    // A part of it has been written off; all of it has.
    (
      "SHORT_PAY", "cash", "-5.00", ["cash": "-5.00", "receivable": "3.00", "write_off": "2.00"],
      ["receivable -3.00", "write_off 3.00"]
    ),
    ("SHORT_PAY", "cash", "-5.00", ["cash": "-5.00", "write_off": "5.00"], []),
    // What was paid less stands as a fee already.
    ("SHORT_PAY", "cash", "-2.00", ["cash": "-2.00", "fees": "2.00"], []),
    ("AMOUNT_MISMATCH", "write_off", "2.00", ["write_off": "2.00", "receivable": "-2.00"], []),
    ("TAX_MISMATCH", "tax", "-2.00", ["tax": "-2.00", "receivable": "2.00"], []),
    ("MISSING_IN_LEDGER", "receivable", "-2.00", ["receivable": "-2.00"], []),
    ("DUPLICATE_POSTING", "receivable", "2.00", ["receivable": "2.00"], []),
    // A credit balance of which the orders know nothing.
    ("AMOUNT_MISMATCH", "receivable", "-2.00", ["receivable": "-2.00"], ["receivable 2.00", "write_off -2.00"]),
  ])
  func aWriteOffCreditsWhatIsOpen(
    type: String, role: String, affected: String, deltas: [String: String], lines: [String]
  ) async throws {
    let made = TestBreak(type: type, role: role, delta: deltas[role], affected: affected, deltas: deltas)
    let document = try JSONDecoder().decode(BreakDocument.self, from: Data(made.json.utf8))
    do {
      let journal = try WriteOff.journal(document)
      #expect(journal.map { "\($0.role) \($0.amount)" } == lines)
    } catch {
      #expect(lines.isEmpty && error.status == .unprocessableContent, "\(error)")
    }
  }

  /// The counter-entry is the break's own, whatever the other breaks of the order add to its balance or take from it.
  @Test(arguments: [
    // Another break hides the receivable that this one has open.
    ("SHORT_PAY", "cash", "-2.00", ["cash": "-2.00", "receivable": "0.00"], ["receivable": "2.00"], -2, "receivable"),
    // The receivable is another's; of this one the clearing account is off.
    (
      "SHORT_PAY", "cash", "-2.00", ["cash": "-2.00", "receivable": "2.00", "clearing": "2.00"],
      ["receivable": "0.00"], -2, "clearing"
    ),
    // A fee that stands against the bank: what is open in the receivable is another break's.
    (
      "FEE_VARIANCE", "fees", "2.00", ["fees": "2.00", "cash": "-2.00", "receivable": "-2.00"],
      ["receivable": "0.00"], 0, ""
    ),
  ])
  func aWriteOffTakesTheBreaksOwnPart(
    type: String, role: String, affected: String, deltas: [String: String], parts: [String: String], amount: Int,
    host: String
  ) throws {
    let made = TestBreak(
      type: type, role: role, delta: deltas[role], affected: affected, deltas: deltas, parts: parts)
    let document = try JSONDecoder().decode(BreakDocument.self, from: Data(made.json.utf8))
    do {
      let journal = try WriteOff.journal(document)
      #expect(journal.first.map { "\($0.role) \($0.amount)" } == "\(host) \(amount).00")
    } catch {
      #expect(host.isEmpty && error.status == .unprocessableContent, "\(error)")
    }
  }

  /// Less than the orders ask for is posted, and not written off.
  @Test(arguments: [
    TestBreak(), TestBreak(type: "QUANTITY_MISMATCH"),
    TestBreak(
      type: "PRICE_MISMATCH", role: "revenue", delta: "10.00", affected: "10.00",
      deltas: ["revenue": "10.00", "receivable": "-10.00"], wanted: ["revenue": "-100.00", "receivable": "100.00"]),
    TestBreak(role: "deposit", delta: "10.00", deltas: ["deposit": "10.00"], wanted: ["deposit": "-100.00"]),
  ])
  func whatTheLedgerLacksIsNotWrittenOff(made: TestBreak) async throws {
    let test = try TestConsole()
    try test.add([made])
    try await test.run { client in
      let answer = try await client.send(
        .post, "/v1/breaks/\(made.id)/actions", as: "analyst",
        body: Self.body(["kind": "write_off", "reason_code": "other"]))
      #expect(answer.status == 422 && answer.body.contains("the ledger has less in"), "\(answer.body)")
    }
    #expect(try test.cluster.readAll(test.configuration.proposalsTopic, partitions: 2).isEmpty)
  }

  /// Two breaks that name one open balance: what the first asks for is not there for the second, until it is posted.
  @Test(arguments: [false, true]) func whatIsHeldIsNotWrittenOffAgain(isWaiting: Bool) async throws {
    let test = try TestConsole()
    let amount = isWaiting ? "20000.00" : "2.00"
    let deltas = ["cash": "-" + amount, "revenue": "-" + amount, "receivable": amount]
    let short = TestBreak(
      order: "SO-7", type: "SHORT_PAY", role: "cash", delta: "-" + amount, affected: "-" + amount, deltas: deltas)
    let price = TestBreak(
      order: "SO-7", type: "PRICE_MISMATCH", role: "revenue", delta: "-" + amount, affected: "-" + amount,
      deltas: deltas)
    try test.add([short, price])
    @Sendable func path(_ made: TestBreak) -> String { "/v1/breaks/\(made.id)/actions" }
    let ask = Self.body(["kind": "write_off", "reason_code": "other"])
    try await test.run { client in
      let bulk = try await client.send(
        .post, "/v1/actions", as: "analyst",
        body: Self.body(["breaks": [short.id, price.id], "kind": "write_off", "reason_code": "other"]))
      #expect(bulk.json["actions"]?.arrayValue?.count == 1, "\(bulk.body)")
      #expect(bulk.json["errors"]?.arrayValue?.first?["code"]?.stringValue == "balance_held")
      let first = bulk.json["actions"]!.arrayValue!.first!["id"]!.stringValue!
      let second = try await client.send(.post, path(price), as: "analyst", body: ask)
      #expect(second.status == 409 && second.code == "balance_held" && second.body.contains(first), "\(second.body)")
      guard isWaiting else {
        // The break is found under another name now: what it asked for is on its way all the same.
        var (after, later) = (short, price)
        (after.revision, after.state) = (2, "closed")
        try test.add([after])
        #expect(try await client.send(.post, path(price), as: "analyst", body: ask).code == "balance_held")
        // It is posted, and the same balance is off by as much once more.
        after.deltas!["write_off"] = amount
        (after.revision, after.state) = (3, "accepted")
        later.revision = 2
        (later.deltas, later.parts) = (after.deltas, ["write_off": "0.00"])
        try test.add([after, later])
        let third = try await client.send(.post, path(price), as: "analyst", body: ask)
        #expect(third.status == 200, "\(third.body)")
        return
      }
      let reject = Self.body(["kind": "reject", "of": first])
      #expect(try await client.send(.post, path(short), as: "controller", body: reject).status == 200)
      #expect(try await client.send(.post, path(price), as: "analyst", body: ask).status == 200)
    }
  }

  /// Where two breaks wait that name one balance, sent to different servers say, the first approval has it.
  @Test func ofTwoThatWaitForOneBalanceOneIsApproved() async throws {
    let test = try TestConsole()
    let deltas = ["cash": "-20000.00", "revenue": "-20000.00", "receivable": "20000.00"]
    let breaks = [("SHORT_PAY", "cash"), ("PRICE_MISMATCH", "revenue")].map { type, role in
      TestBreak(
        order: "SO-7", type: type, role: role, delta: "-20000.00", affected: "-20000.00", deltas: deltas)
    }
    try test.add(breaks)
    try await test.wait(
      for: breaks.map { made in
        var action = Action(
          id: made.role, kind: .writeOff, breakID: made.id, order: made.order, actor: "token:analyst",
          at: "2025-03-09T10:00:00.000Z", revision: 1, basis: "100.00|90.00|EUR")
        action.needsApproval = true
        action.currency = "EUR"
        action.lines = [
          .init(role: .receivable, amount: "-20000.00"), .init(role: .writeOff, amount: "20000.00"),
        ]
        return action
      })
    try await test.run { client in
      func approve(_ made: TestBreak) async throws -> TestConsole.Answer {
        try await client.send(
          .post, "/v1/breaks/\(made.id)/actions", as: "controller",
          body: Self.body(["kind": "approve", "of": made.role]))
      }
      #expect(try await approve(breaks[0]).status == 200)
      let second = try await approve(breaks[1])
      #expect(second.status == 409 && second.code == "changed", "\(second.body)")
      let row = try await client.get("/v1/breaks/\(breaks[1].id)")
      #expect(row.json["pending"]?.arrayValue?.count == 1, "it waits as it did")
    }
    #expect(try test.cluster.readAll(test.configuration.proposalsTopic, partitions: 2).count == 1)
  }

  /// The item has left the balance in which it was open: the journal that was asked for credits another one.
  @Test func anOutdatedJournalIsNotApproved() async throws {
    let test = try TestConsole()
    let made = TestBreak(
      order: "SO-7", type: "SHORT_PAY", role: "cash", delta: "-20000.00", affected: "-20000.00",
      deltas: ["cash": "-20000.00", "receivable": "20000.00"])
    try test.add([made])
    let path = "/v1/breaks/\(made.id)/actions"
    let ask = Self.body(["kind": "write_off", "reason_code": "other"])
    try await test.run { client in
      func asked() async throws -> String {
        let answer = try await client.send(.post, path, as: "analyst", body: ask)
        return try #require(answer.json["actions"]?.arrayValue?.first?["id"]?.stringValue, "\(answer.body)")
      }
      func send(_ kind: String, _ id: String) async throws -> TestConsole.Answer {
        try await client.send(.post, path, as: "controller", body: Self.body(["kind": kind, "of": id]))
      }
      let first = try await asked()
      // What was paid and what came are what they were: it is the same difference.
      var moved = made
      moved.deltas = ["cash": "-20000.00", "clearing": "20000.00"]
      moved.revision = 2
      try test.add([moved])
      let refused = try await send("approve", first)
      #expect(refused.status == 409 && refused.code == "changed", "\(refused.body)")
      let row = try await client.get("/v1/breaks/\(made.id)")
      #expect(row.json["pending"]?.arrayValue?.map(\.stringValue) == [first], "it waits as it did")
      #expect(try await send("reject", first).status == 200)
      let second = try await asked()
      #expect(try await send("approve", second).status == 200)
    }
    let journals = try test.cluster.readAll(test.configuration.proposalsTopic, partitions: 2)
    #expect(journals.count == 1 && journals[0].value?.contains(#""role":"clearing""#) == true)
  }

  /// Two breaks of an order are written off with what is theirs, and add up to what is open in it.
  @Test func eachBreakIsWrittenOffOnce() async throws {
    let test = try TestConsole()
    let breaks = [
      TestBreak(posted: "130.00", delta: "30.00", affected: "10.00"),
      TestBreak(type: "ROUNDING", posted: "130.00", delta: "30.00", affected: "20.00"),
    ]
    try test.add(breaks)
    try await test.run { client in
      let summary = try await client.get("/v1/summary").json["rows"]?.arrayValue ?? []
      #expect(Set(summary.compactMap { $0["amount"]?.stringValue }) == ["10.00", "20.00"])
      let answer = try await client.send(
        .post, "/v1/actions", as: "analyst",
        body: Self.body(["breaks": breaks.map(\.id), "kind": "write_off", "reason_code": "other"]))
      #expect(answer.json["actions"]?.arrayValue?.count == 2, "\(answer.body)")
      let refused = try await client.send(
        .post, "/v1/actions", as: "analyst",
        body: Self.body(["breaks": ["nothing"], "kind": "write_off", "comment": "x"]))
      #expect(refused.json["errors"]?.arrayValue?.count == 1)
    }
    let written = try test.cluster.readAll(test.configuration.proposalsTopic, partitions: 2).compactMap {
      try JSONDecoder().decode(JSON.self, from: Data($0.value!.utf8))["lines"]?.arrayValue?.last?["amount"]?.stringValue
    }
    #expect(Set(written) == ["10.00", "20.00"])
    let actions = try test.cluster.readAll(test.configuration.actionsTopic, partitions: 2).map {
      try JSONDecoder().decode(Action.self, from: Data($0.value!.utf8))
    }
    #expect(actions.allSatisfy { $0.currency == "EUR" && $0.lines?.count == 2 }, "the action says what was asked for")
  }

  /// One that was asked for, by whomever and in whichever way, refuses the next as long as the difference is that one.
  @Test func aDifferenceIsWrittenOffOnce() async throws {
    let test = try TestConsole()
    try test.add([Self.surplus])
    let path = "/v1/breaks/\(TestBreak().id)/actions"
    let ask = Self.body(["kind": "write_off", "reason_code": "rounding"])
    try await test.run { client in
      #expect(try await client.send(.post, path, as: "analyst", body: ask).status == 200)
      let again = try await client.send(.post, path, as: "controller", body: ask)
      #expect(again.status == 409 && again.code == "written_off", "\(again.body)")
      let bulk = try await client.send(
        .post, "/v1/actions", as: "controller",
        body: Self.body(["breaks": [TestBreak().id], "kind": "write_off", "reason_code": "other"]))
      #expect(bulk.json["actions"]?.arrayValue?.isEmpty == true)
      #expect(bulk.json["errors"]?.arrayValue?.first?["code"]?.stringValue == "written_off")
      // Another difference is another matter, and so is the old one when it comes back after that.
      try test.add([TestBreak(posted: "105.00", delta: "5.00", revision: 2)])
      try test.add([TestBreak(posted: "110.00", delta: "10.00", revision: 3)])
      #expect(try await client.send(.post, path, as: "analyst", body: ask).status == 200)
      #expect(try await client.send(.post, path, as: "analyst", body: ask).status == 409)
      try test.add([TestBreak(posted: "105.00", delta: "5.00", revision: 4)])
      #expect(try await client.send(.post, path, as: "analyst", body: ask).status == 200)
    }
    #expect(try test.cluster.readAll(test.configuration.proposalsTopic, partitions: 2).count == 3)
  }

  @Test func aWriteOffThatWaitsRefusesTheNext() async throws {
    let test = try TestConsole()
    let large = TestBreak(order: "SO-9", posted: "20100.00", delta: "20000.00")
    try test.add([large])
    let path = "/v1/breaks/\(large.id)/actions"
    let ask = Self.body(["kind": "write_off", "reason_code": "other"])
    try await test.run { client in
      let first = try await client.send(.post, path, as: "analyst", body: ask)
      let id = first.json["actions"]!.arrayValue!.first!["id"]!.stringValue!
      let second = try await client.send(.post, path, as: "controller", body: ask)
      #expect(second.status == 409 && second.code == "pending_write_off", "\(second.body)")
      let reject = Self.body(["kind": "reject", "of": id])
      #expect(try await client.send(.post, path, as: "controller", body: reject).status == 200)
      #expect(try await client.send(.post, path, as: "analyst", body: ask).status == 200, "what is rejected is over")
    }
    #expect(try test.cluster.readAll(test.configuration.proposalsTopic, partitions: 2).isEmpty)
  }

  /// Where two wait, sent to different servers at the same moment say, one of them can be approved.
  @Test func ofTwoWriteOffsThatWaitOneIsApproved() async throws {
    let test = try TestConsole()
    let large = TestBreak(order: "SO-9", posted: "20100.00", delta: "20000.00")
    try test.add([large])
    try await test.wait(
      for: ["one", "two"].map { id in
        var action = Action(
          id: id, kind: .writeOff, breakID: large.id, order: large.order, actor: "token:analyst",
          at: "2025-03-09T10:00:00.000Z", revision: 1, basis: "100.00|20100.00|EUR")
        action.needsApproval = true
        return action
      })
    let path = "/v1/breaks/\(large.id)/actions"
    try await test.run { client in
      func send(_ kind: String, _ id: String) async throws -> TestConsole.Answer {
        try await client.send(.post, path, as: "controller", body: Self.body(["kind": kind, "of": id]))
      }
      #expect(try await send("approve", "one").status == 200)
      let second = try await send("approve", "two")
      #expect(second.status == 409 && second.code == "written_off", "\(second.body)")
      #expect(try await send("reject", "two").status == 200)
    }
    #expect(try test.cluster.readAll(test.configuration.proposalsTopic, partitions: 2).count == 1)
  }

  @Test func ofWriteOffsAtTheSameMomentOneIsTaken() async throws {
    let test = try TestConsole()
    try test.add([Self.surplus])
    let path = "/v1/breaks/\(TestBreak().id)/actions"
    try await test.run { client in
      let statuses = try await withThrowingTaskGroup(of: Int.self) { group in
        for _ in 0..<8 {
          group.addTask {
            let ask = Self.body(["kind": "write_off", "reason_code": "rounding"])
            return try await client.send(.post, path, as: "analyst", body: ask).status
          }
        }
        return try await group.reduce(into: []) { $0.append($1) }
      }
      #expect(statuses.sorted() == [200] + Array(repeating: 409, count: 7))
    }
    #expect(try test.cluster.readAll(test.configuration.proposalsTopic, partitions: 2).count == 1)
  }

  /// What people did is in the topics alone: a store that is made anew shows the same.
  @Test func actionsSurviveARebuild() async throws {
    let test = try TestConsole()
    try test.add([TestBreak()])
    try await test.run { client in
      for (who, body) in [
        ("analyst", Self.body(["kind": "assign", "assignee": "bob"])),
        ("controller", Self.body(["kind": "accept", "reason_code": "fx"])),
      ] {
        let answer = try await client.send(.post, "/v1/breaks/\(TestBreak().id)/actions", as: who, body: body)
        #expect(answer.status == 200)
      }
    }
    func shown(_ store: SQLiteStore) async throws -> String {
      let page = try await store.breaks(BreakFilter(), scope: RowScope(), sort: .amount, after: nil, limit: 10)
      return page.rows.joined()
    }
    let before = try await shown(test.store)
    #expect(before.contains(#""state":"accepted""#) && before.contains(#""assignee":"bob""#))
    let anew = try SQLiteStore(path: test.directory + "/anew.db", dimensions: test.configuration.dimensions)
    let projector = Projector(
      store: anew, topics: ConsoleServer.topics(test.configuration), consumerProperties: test.cluster.properties,
      adminProperties: test.cluster.properties, log: { _, _ in }, onChange: { _ in })
    projector.start()
    let until = Date().addingTimeInterval(30)
    while !(projector.status.isCaughtUp && projector.status.records >= 3), Date() < until {
      try await Task.sleep(for: .milliseconds(20))
    }
    projector.stop()
    func stable(_ row: String) -> String { row.replacing(#/"updated_at":"[^"]*"/#, with: "") }
    #expect(stable(try await shown(anew)) == stable(before))
  }

  @Test func nothingIsSaidToBeDoneThatKafkaDoesNotHave() async throws {
    let test = try TestConsole(on: .embedded)
    try test.add([TestBreak()])
    guard let embedded = test.cluster.embedded else {
      print("skipped: only the embedded broker refuses what a test names")
      return
    }
    // Produce requests are answered with TOPIC_AUTHORIZATION_FAILED.
    embedded.failNext(apiKey: 0, codes: Array(repeating: 29, count: 20))
    try await test.run { client in
      let answer = try await client.send(
        .post, "/v1/breaks/\(TestBreak().id)/actions", as: "analyst",
        body: Self.body(["kind": "comment", "comment": "x"]))
      #expect(answer.status == 503, "\(answer.body)")
      #expect(answer.headers[.retryAfter] != nil)
    }
    let log = try String(contentsOfFile: test.directory + "/audit.log", encoding: .utf8)
    #expect(log.contains(#""event":"action comment","outcome":"failed""#))
  }
}
