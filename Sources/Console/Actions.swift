import ConsoleStore
import Crypto
import Domain
import Foundation
import HTTPTypes
import Hummingbird
import Pipeline
import Synchronization

/// What a person asks for.
struct ActionRequest: Decodable, Sendable {
  var kind: ActionKind
  var assignee: String?
  var comment: String?
  var reasonCode: String?
  var of: String?
  var revision: Int?

  enum CodingKeys: String, CodingKey, CaseIterable {
    case kind, assignee, comment, of, revision
    case reasonCode = "reason_code"
  }
}

struct BulkActionRequest: Decodable, Sendable {
  var breaks: [String]
  var kind: ActionKind
  var assignee: String?
  var comment: String?
  var reasonCode: String?

  enum CodingKeys: String, CodingKey, CaseIterable {
    case breaks, kind, assignee, comment
    case reasonCode = "reason_code"
  }
}

extension Console {
  static let maximumBulk = 1_000
  static let maximumComment = 4_000
  static let maximumName = 256
  /// How long an answer waits for this server's own store to show the action.
  static let applyWait_ms = 1_500

  static func actionEndpoints() -> [Endpoint] {
    let key = Endpoint.Parameter(
      name: "Idempotency-Key", schema: ["type": "string", "minLength": 1, "maxLength": 200],
      help: "The same key and the same request take effect once, however often they are sent.", isHeader: true)
    let result = Endpoint.Answer(
      status: 200, help: "Kafka has the actions.", schema: Schemas.reference("ActionResult"))
    return [
      Endpoint(
        method: .post, path: "/v1/breaks/{id}/actions", operation: "actOnBreak", tag: "actions",
        help: "Assigns, comments, explains, accepts, proposes a write-off, force-closes, reopens, approves or rejects.",
        access: .needs(.act), parameters: [key],
        body: .init(types: ["application/json"], schema: Schemas.reference("ActionRequest"), help: "The action."),
        answers: [
          result, .init(status: 404, help: "There is no such break, or it is not shown to you."),
          .init(
            status: 409,
            help:
              "The break has changed, is in no state for this, or is written off already, or others hold its balance."),
          .init(status: 422, help: "Something that the action needs is missing or wrong."),
        ],
        handle: { console, request, context in
          let action = try await request.decoded(
            ActionRequest.self, keys: ActionRequest.CodingKeys.allCases.map(\.rawValue),
            limit: console.settings.bodyLimit, timeout_ms: console.settings.requestTimeout_ms,
            context)
          return try await console.act(action, on: [try context.path("id")], request, context, isBulk: false)
        }),
      Endpoint(
        method: .post, path: "/v1/actions", operation: "actOnBreaks", tag: "actions",
        help: "The same action on many breaks; those that refuse it are told one by one.", access: .needs(.act),
        parameters: [key],
        body: .init(types: ["application/json"], schema: Schemas.reference("BulkActionRequest"), help: "The action."),
        answers: [result, .init(status: 422, help: "Something that the action needs is missing or wrong.")],
        handle: { console, request, context in
          let bulk = try await request.decoded(
            BulkActionRequest.self, keys: BulkActionRequest.CodingKeys.allCases.map(\.rawValue),
            limit: console.settings.bodyLimit, timeout_ms: console.settings.requestTimeout_ms,
            context)
          guard !bulk.breaks.isEmpty, bulk.breaks.count <= Console.maximumBulk else {
            throw Problem.unprocessable("'breaks': 1 to \(Console.maximumBulk) ids are expected")
          }
          guard bulk.kind != .approve, bulk.kind != .reject else {
            throw Problem.unprocessable("approvals are given one by one")
          }
          let action = ActionRequest(
            kind: bulk.kind, assignee: bulk.assignee, comment: bulk.comment, reasonCode: bulk.reasonCode)
          var seen: Set<String> = []
          return try await console.act(
            action, on: bulk.breaks.filter { seen.insert($0).inserted }, request, context, isBulk: true)
        }),
    ]
  }

  private func check(_ request: ActionRequest) throws {
    for (name, text, most) in [
      ("assignee", request.assignee, Console.maximumName), ("comment", request.comment, Console.maximumComment),
      ("reason_code", request.reasonCode, Console.maximumName), ("of", request.of, Console.maximumName),
    ] {
      if let text, text.count > most || text.utf8.contains(0) {
        throw Problem.unprocessable("'\(name)' has more than \(most) characters, or a null character")
      }
    }
    if let code = request.reasonCode, !settings.reasonCodes.contains(code) {
      throw Problem.unprocessable(
        "'reason_code' is one of \(settings.reasonCodes.joined(separator: ", "))"
          + (nearestName(code, in: settings.reasonCodes).map { "; did you mean '\($0)'?" } ?? ""))
    }
    let hasWords = request.comment?.isEmpty == false
    switch request.kind {
    case .comment where !hasWords: throw Problem.unprocessable("'comment' is missing")
    case .explain where request.reasonCode == nil: throw Problem.unprocessable("'reason_code' is missing")
    case .accept, .writeOff, .forceClose:
      if request.reasonCode == nil, !hasWords {
        throw Problem.unprocessable("a 'reason_code' or a 'comment' must say why")
      }
    case .approve, .reject:
      if request.of == nil { throw Problem.unprocessable("'of' must name the action") }
    default: break
    }
  }

  private func act(
    _ asked: ActionRequest, on ids: [String], _ request: Request, _ context: ConsoleContext, isBulk: Bool
  ) async throws -> Response {
    let principal = context.principal!
    guard principal.may(asked.kind.permission) else {
      throw Problem.forbidden("this needs the permission '\(asked.kind.permission.rawValue)'")
    }
    try check(asked)
    let key = try Console.idempotencyKey(request)
    let at = formatTimestamp(wallClock_ms())
    let bulkID = isBulk ? Console.actionID(principal.name, key, "bulk") : nil
    var made: [(action: Action, detail: BreakDetail, original: Action?)] = []
    var done: [Action] = []
    var errors: [JSON] = []
    // Between the look at the breaks of an order and the store's showing what was sent, nobody else writes one off.
    var claimed: [String] = []
    defer { writeOffs.release(claimed) }
    for id in ids {
      var isClaimedElsewhere = false
      var isFirstOfOrder = false
      do {
        var detail = try await self.detail(id, context)
        let order = detail.document.order
        if [.writeOff, .approve].contains(asked.kind), !claimed.contains(order) {
          isFirstOfOrder = writeOffs.claim(order, now_ms: wallClock_ms())
          isClaimedElsewhere = !isFirstOfOrder
          if isFirstOfOrder {
            claimed.append(order)
            detail = try await self.detail(id, context)
          }
        }
        var action = Action(
          id: Console.actionID(principal.name, key, id), kind: asked.kind, breakID: detail.document.id,
          order: detail.document.order, actor: principal.name, at: at, revision: detail.document.revision,
          basis: detail.document.basis)
        action.assignee = asked.assignee
        action.comment = asked.comment
        action.reasonCode = asked.reasonCode
        action.of = asked.of
        action.bulk = bulkID
        if let earlier = detail.actions.first(where: { $0.id == action.id }) {
          guard earlier.isSameRequest(as: action) else {
            throw Problem.unprocessable("the Idempotency-Key was used for another request")
          }
          done.append(earlier)
          continue
        }
        guard !isClaimedElsewhere else {
          throw Problem(.conflict, "in_progress", "another request about this order is being worked on")
        }
        let original = try permit(action, asked, detail, principal)
        if action.kind == .writeOff {
          let breaks = try await store.order(order, scope: RowScope())
          let open = OpenBalances(
            breaks, for: detail.document, beside: made.map(\.action), countsWaiting: true)
          action.currency = detail.document.currency
          action.lines = try WriteOff.journal(detail.document, open)
        } else if action.kind == .approve, let original, original.kind == .writeOff {
          let breaks = try await store.order(order, scope: RowScope())
          try checkJournal(original, detail.document, OpenBalances(breaks, for: detail.document, countsWaiting: false))
        }
        made.append((action, detail, original))
      } catch let problem as Problem where isBulk {
        if isFirstOfOrder { writeOffs.release([claimed.removeLast()]) }
        errors.append(
          ["break": .string(id), "code": .string(problem.code), "detail": .string(problem.detail)])
      }
    }
    let limit = settings.approvalLimit_u
    if [.writeOff, .forceClose].contains(asked.kind) {
      // What is split into many small ones is as large as their sum.
      var sums: [String: Int128] = [:]
      for entry in made { sums[entry.detail.document.currency, default: 0] += Int128(entry.detail.document.amount_u) }
      for index in made.indices where sums[made[index].detail.document.currency]! > Int128(limit) {
        made[index].action.needsApproval = true
      }
    }
    // From here on the action may have been sent, whatever comes of the request: until the store shows it, or for a minute.
    let held = made.isEmpty ? [] : claimed
    if !made.isEmpty {
      claimed = []
      try await deliver(&made, principal, context)
    }
    let all = done + made.map(\.action)
    var applied = true
    // Of several partitions each has its own pace.
    for entry in held.isEmpty ? made.suffix(1) : made[...] where applied {
      applied = try await isApplied(entry.action.id)
    }
    if applied { writeOffs.release(held) }
    let actions = all.map { action -> JSON in
      [
        "id": .string(action.id), "break": .string(action.breakID), "kind": .string(action.kind.rawValue),
        "status": action.needsApproval ? "pending_approval" : "done",
      ]
    }
    return .json(["actions": .array(actions), "errors": .array(errors), "applied": .bool(applied)])
  }

  /// Whether the break is in a state for it. Returns the action that is approved or rejected.
  private func permit(
    _ action: Action, _ asked: ActionRequest, _ detail: BreakDetail, _ principal: Principal
  ) throws -> Action? {
    if let revision = asked.revision, revision != detail.document.revision {
      throw Problem(.conflict, "changed", "the break has changed: its revision is \(detail.document.revision)")
    }
    let isTied = ["auto_cleared", "closed"].contains(detail.document.state)
    switch action.kind {
    case .assign, .comment: return nil
    case .explain, .accept, .forceClose, .writeOff:
      if isTied { throw Problem(.conflict, "not_open", "the break is \(detail.state) already") }
      if action.kind == .writeOff {
        try refuseSecond(detail)
        if let other = detail.pendingWriteOffs.first {
          throw Problem(.conflict, "pending_write_off", "the write-off \(other) of this difference waits for approval")
        }
      }
      return nil
    case .reopen:
      guard ["explained", "accepted", "force_closed"].contains(detail.state) else {
        throw Problem(.conflict, "not_decided", "the break is \(detail.state): there is no decision to take back")
      }
      return nil
    case .approve, .reject:
      guard let of = action.of, detail.workflow.pending.contains(of),
        let original = detail.actions.first(where: { $0.id == of })
      else { throw Problem(.conflict, "not_pending", "no such action of this break waits for approval") }
      if action.kind == .approve {
        guard original.actor != principal.name else {
          throw Problem.forbidden("whoever asked for it cannot approve it")
        }
        guard original.basis == detail.document.basis else {
          throw Problem(.conflict, "changed", "the difference is another than the one that was asked about")
        }
        if original.kind == .writeOff { try refuseSecond(detail) }
      }
      return original
    }
  }

  /// What is approved is the journal that was asked for, and it must be the one that would be asked for now.
  private func checkJournal(_ original: Action, _ document: BreakDocument, _ open: OpenBalances) throws(Problem) {
    var why = "what the break explains, or the balance in which it is open, is another"
    do throws(Problem) {
      let lines = try WriteOff.journal(document, open)
      if original.lines == nil || original.lines == lines { return }
    } catch {
      why = error.detail
    }
    throw Problem(
      .conflict, "changed",
      "the journal that was asked for is not the one of now: \(why). Reject it, and ask for a new one")
  }

  /// A difference is written off once.
  private func refuseSecond(_ detail: BreakDetail) throws {
    guard let other = detail.standingWriteOff else { return }
    throw Problem(.conflict, "written_off", "this difference has been written off already, by the action \(other)")
  }

  /// Into the audit log, then into Kafka.
  private func deliver(
    _ made: inout [(action: Action, detail: BreakDetail, original: Action?)], _ principal: Principal,
    _ context: ConsoleContext
  ) async throws {
    let kind = made[0].action.kind
    let head = try audit.write(
      AuditLog.Entry(
        actor: principal.name, event: "action \(kind.rawValue)", outcome: .done, address: context.address,
        detail: [("actions", .array(made.map { [.string($0.action.id), .string($0.action.breakID)] }))]))
    var messages: [Gateway.Message] = []
    for index in made.indices {
      made[index].action.audit = head.text
      let action = made[index].action
      // The journal first: where only it arrives, the same request sent again replaces it.
      if let proposal = try Console.proposal(action, made[index].original, made[index].detail) {
        messages.append(
          .init(
            topic: configuration.proposalsTopic, key: Array(proposal.id.utf8), value: proposal.body.bytes))
      }
      messages.append(
        .init(
          topic: configuration.actionsTopic, partition: made[index].detail.document.task,
          key: Array(action.order.utf8), value: try action.encoded()))
    }
    do {
      try await gateway.send(messages)
    } catch {
      try audit.write(
        AuditLog.Entry(
          actor: principal.name, event: "action \(kind.rawValue)", outcome: .failed, address: context.address,
          detail: [("actions", .array(made.map { .string($0.action.id) })), ("why", .string("\(error)"))]))
      throw error
    }
    metrics.add("tieout_serve_actions_total{kind=\"\(kind.rawValue)\"}", made.count)
  }

  /// The journal of a write-off that has taken effect.
  static func proposal(
    _ action: Action, _ original: Action?, _ detail: BreakDetail
  ) throws(Problem) -> (id: String, body: JSON)? {
    let write: Action
    if action.kind == .writeOff, !action.needsApproval {
      write = action
    } else if action.kind == .approve, let original, original.kind == .writeOff {
      write = original
    } else {
      return nil
    }
    // One that waited since before actions named their journal.
    let lines = if let asked = write.lines { asked } else { try WriteOff.journal(detail.document) }
    let body: JSON = [
      "id": .string(write.id), "order": .string(write.order), "break": .string(write.breakID),
      "currency": .string(detail.document.currency), "proposed_by": .string(write.actor),
      "proposed_at": .string(write.at), "approved_by": action.kind == .approve ? .string(action.actor) : .null,
      "reason_code": .optional(write.reasonCode), "comment": .optional(write.comment),
      "lines": .array(lines.map { ["role": .string($0.role), "amount": .string($0.amount)] }),
    ]
    return (write.id, body)
  }

  private func isApplied(_ id: String) async throws -> Bool {
    for _ in 0..<(Console.applyWait_ms / 25) {
      if try await store.action(id: id) != nil { return true }
      try await Task.sleep(for: .milliseconds(25))
    }
    return false
  }

  static func idempotencyKey(_ request: Request) throws -> String? {
    guard let key = request.headers[idempotencyHeader] else { return nil }
    guard !key.isEmpty, key.count <= 200 else {
      throw Problem.badRequest("Idempotency-Key: 1 to 200 characters are expected")
    }
    return key
  }

  /// The same for the same principal, key and break, on whichever server.
  static func actionID(_ principal: String, _ key: String?, _ subject: String) -> String {
    guard let key else { return UUID().uuidString.lowercased() }
    let parts = [principal, key, subject].map { "\($0.utf8.count):\($0)" }.joined()
    return String(hexadecimal(SHA256.hash(data: Data(parts.utf8))).prefix(32))
  }
}

/// Orders of which a write-off is on its way to the store.
final class WriteOffClaims: Sendable {
  /// A store that takes longer than this is far behind.
  static let lifetime_ms: Int64 = 60_000
  private let until = Mutex<[String: Int64]>([:])

  func claim(_ order: String, now_ms: Int64) -> Bool {
    until.withLock { claims in
      if claims.count > Console.maximumBulk { claims = claims.filter { $0.value > now_ms } }
      if let end = claims[order], end > now_ms { return false }
      claims[order] = now_ms + WriteOffClaims.lifetime_ms
      return true
    }
  }

  func release(_ orders: [String]) { until.withLock { claims in for order in orders { claims[order] = nil } } }
}

extension Action {
  /// Whether the same was asked for, whenever that was.
  func isSameRequest(as other: Action) -> Bool {
    kind == other.kind && breakID == other.breakID && assignee == other.assignee && comment == other.comment
      && reasonCode == other.reasonCode && of == other.of
  }
}

extension Problem {
  static func unprocessable(_ detail: String) -> Problem { Problem(.unprocessableContent, "unprocessable", detail) }
}

let idempotencyHeader = HTTPField.Name("Idempotency-Key")!
