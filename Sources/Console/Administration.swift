import ConsoleStore
import Domain
import Foundation
import HTTPTypes
import Hummingbird
import Pipeline

extension Console {
  static func administrationEndpoints() -> [Endpoint] {
    let limit = Endpoint.Parameter(
      name: "limit", schema: ["type": "integer", "minimum": 1, "maximum": .int(maximumPage)], help: "Rows.")
    let status = Endpoint.Parameter(
      name: "status", schema: Schemas.words(["waiting", "dead"]), help: "Only these deliveries.")
    return [
      Endpoint(
        method: .get, path: "/v1/audit", operation: "listAudit", tag: "administration",
        help: "The head of the audit log and its newest entries, newest first.", access: .needsEverything(.administer),
        parameters: [limit], answers: [.init(status: 200, help: "Entries.", schema: Schemas.reference("Audit"))],
        handle: { console, request, _ in
          let query = try Query(request, [limit])
          let entries = try console.audit.tail(try query.integer("limit", 50, 1...Console.maximumPage))
          let head = console.audit.head
          return .json([
            "number": .int(head.number), "hash": .string(head.hash), "items": .array(entries.map { .raw($0) }),
          ])
        }),
      Endpoint(
        method: .get, path: "/v1/webhooks/deliveries", operation: "listDeliveries", tag: "administration",
        help: "Webhooks that wait for their next try, and those that were given up.",
        access: .needsEverything(.administer), parameters: [status, limit],
        answers: [
          .init(
            status: 200, help: "Deliveries.", schema: Schemas.reference("Deliveries"),
            links: [("retryDelivery", "id", "/items/0/id")])
        ],
        handle: { console, request, _ in
          let query = try Query(request, [status, limit])
          let wanted = try query.list("status", of: ["waiting", "dead"]).first
          let found = try await console.state.deliveries(
            isDead: wanted.map { $0 == "dead" }, limit: try query.integer("limit", 50, 1...Console.maximumPage))
          return .json([
            "items": .array(
              found.map { delivery in
                [
                  "id": .int(Int(delivery.id)), "webhook": .string(delivery.webhook),
                  "break": .string(delivery.breakID),
                  "revision": .int(delivery.revision), "attempts": .int(delivery.attempts),
                  "status": delivery.isDead ? "dead" : "waiting", "last_error": .optional(delivery.error),
                  "next_at": delivery.isDead ? .null : .string(formatTimestamp(delivery.next_ms)),
                ]
              })
          ])
        }),
      Endpoint(
        method: .post, path: "/v1/webhooks/deliveries/{id}/retry", operation: "retryDelivery", tag: "administration",
        help: "Sends a webhook that was given up once more.", access: .needsEverything(.administer),
        answers: [
          .init(status: 204, help: "It is on its way."), .init(status: 404, help: "No such delivery was given up."),
        ],
        handle: { console, request, context in
          guard let id = Int64(try context.path("id")), try await console.state.revive(id, now_ms: wallClock_ms())
          else {
            throw Problem.notFound("no such delivery was given up")
          }
          try console.audit.write(
            AuditLog.Entry(
              actor: context.principal!.name, event: "retry of delivery \(id)", outcome: .done, address: context.address
            ))
          return Response(status: .noContent)
        }),
    ]
  }

  static func sessionEndpoints() -> [Endpoint] {
    [
      Endpoint(
        method: .post, path: "/v1/session", operation: "beginSession", tag: "session",
        help: "Exchanges a token for a session cookie that no script can read. Changes made with the cookie need the "
          + "answer's `csrf` in the header X-CSRF-Token.",
        access: .open,
        body: .init(
          types: ["application/json"], schema: Schemas.object([("token", Schemas.text)], open: true), help: "A token."),
        answers: [
          .init(status: 200, help: "The session.", schema: Schemas.reference("Session")),
          .init(status: 401, help: "The token is not known."),
          .init(status: 415, help: "Another content type."), .init(status: 429, help: "Too many tries."),
        ],
        handle: { try await $0.beginSession($1, $2) }),
      Endpoint(
        method: .get, path: "/v1/session", operation: "getSession", tag: "session",
        help: "Who you are. With a session, also a new `csrf`: the one before it ends.", access: .needs(.any),
        answers: [.init(status: 200, help: "You.", schema: Schemas.reference("Session"))],
        handle: { console, request, context in
          let id = context.principal!.means == .session ? Authenticator.session(of: request) : nil
          return .json(Console.json(context.principal!, csrf: id.flatMap { console.sessions.renew($0) }))
        }),
      Endpoint(
        method: .delete, path: "/v1/session", operation: "endSession", tag: "session", help: "Ends the session.",
        access: .needs(.any), answers: [.init(status: 204, help: "It has ended.")],
        handle: { console, request, _ in
          if let id = Authenticator.session(of: request) { console.sessions.end(id) }
          var response = Response(status: .noContent)
          response.headers[.setCookie] = "\(Sessions.cookie)=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict"
          return response
        }),
    ]
  }

  private static func json(_ principal: Principal, csrf: String?) -> JSON {
    [
      "principal": .string(principal.name),
      "roles": .array(principal.roles.map(\.rawValue).sorted().map { .string($0) }),
      "scope": .object(
        principal.scope.dimensions.sorted { $0.key < $1.key }.map {
          ($0.key, .array($0.value.sorted().map { .string($0) }))
        }), "csrf": .optional(csrf),
    ]
  }

  private struct Login: Decodable { var token: String }

  private func beginSession(_ request: Request, _ context: ConsoleContext) async throws -> Response {
    let now = wallClock_ms()
    // A page of another site cannot send JSON without asking first; and nobody logs somebody else in.
    let login = try await request.decoded(
      Login.self, limit: 32 << 10, timeout_ms: settings.requestTimeout_ms, context)
    let principal: Principal
    do {
      principal = try await authenticator.principal(bearer: login.token, now_ms: now)
    } catch {
      if let wait = addressLimiter.take(context.address, now_ms: now) { throw Console.tooMany(wait) }
      throw error
    }
    try audit.write(
      AuditLog.Entry(actor: principal.name, event: "session begun", outcome: .done, address: context.address))
    let (id, csrf) = sessions.begin(principal, now_ms: now)
    let secure = settings.tls == nil ? "" : "; Secure"
    return .json(
      Console.json(principal, csrf: csrf),
      headers: [
        .setCookie:
          "\(Sessions.cookie)=\(id); Path=/; Max-Age=\(settings.sessionLifetime_ms / 1_000); HttpOnly; SameSite=Strict\(secure)"
      ])
  }
}
