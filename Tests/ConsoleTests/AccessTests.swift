import Configuration
import ConsoleStore
import Foundation
import HTTPTypes
import Pipeline
import Testing

@testable import Console

/// Who may do what: every route with every role, and with nobody.
@Suite(.serialized) struct AccessTests {
  /// What a role may do, written down once more by hand: route by route, the roles that are let in.
  static let reading: Set<String> = ["viewer", "analyst", "controller", "admin", "norway", "second"]
  static let unscoped: Set<String> = reading.subtracting(["norway"])
  static let acting: Set<String> = reading.subtracting(["viewer"])
  static let everybody: Set<String> = reading.union(["feed"])
  static let expected: [String: Set<String>] = [
    "GET /healthz": everybody.union(["nobody"]), "GET /readyz": everybody.union(["nobody"]),
    "POST /v1/session": everybody.union(["nobody"]),
    "GET /metrics": unscoped, "GET /v1/status": unscoped, "GET /v1/openapi.json": everybody,
    "GET /v1/session": everybody, "DELETE /v1/session": everybody,
    "GET /v1/breaks": reading, "GET /v1/export/breaks": reading, "GET /v1/breaks/{id}": reading,
    "GET /v1/summary": reading, "POST /v1/breaks/{id}/actions": acting, "POST /v1/actions": acting,
    "GET /v1/orders/{order}": reading, "POST /v1/orders": ["feed", "admin"], "POST /v1/postings": ["feed", "admin"],
    "GET /v1/totals": unscoped, "GET /v1/totals/series": unscoped, "GET /v1/aggregates": unscoped,
    "GET /v1/aggregates/{name}": unscoped, "GET /v1/aggregates/{name}/series": unscoped,
    "GET /v1/sources": reading, "GET /v1/catalogue": reading, "GET /v1/dead-letters": unscoped,
    "GET /v1/events": reading, "GET /v1/audit": ["admin"], "GET /v1/webhooks/deliveries": ["admin"],
    "POST /v1/webhooks/deliveries/{id}/retry": ["admin"],
  ]

  @Test func everyRouteWithEveryRole() async throws {
    let test = try TestConsole()
    try await test.run { client in
      #expect(
        Set(test.console.endpoints.map { "\($0.method.rawValue) \($0.path)" }) == Set(Self.expected.keys),
        "a route must be added here by hand, with who may use it")
      for endpoint in test.console.endpoints {
        let name = "\(endpoint.method.rawValue) \(endpoint.path)"
        let allowed = Self.expected[name] ?? []
        let path = endpoint.path.replacing("{id}", with: "1").replacing("{order}", with: "SO-1").replacing(
          "{name}", with: "revenue")
        // A stream has no end: whether it begins is told by who is refused.
        if endpoint.path == "/v1/events" {
          for who in ["feed", nil] {
            let answer = try await client.send(.get, path, as: who)
            #expect(answer.status == (who == nil ? 401 : 403), "\(name) as \(who ?? "nobody")")
          }
          continue
        }
        for who in TestConsole.names + ["nobody"] {
          let answer = try await client.send(
            endpoint.method, path, as: who == "nobody" ? nil : who, body: endpoint.method == .post ? "{}" : nil)
          let isRefused = name == "POST /v1/session" ? false : answer.status == 401 || answer.status == 403
          #expect(isRefused == !allowed.contains(who), "\(name) as \(who): \(answer.status) \(answer.body)")
          if who == "nobody", isRefused {
            #expect(answer.status == 401)
            #expect(answer.headers[.wwwAuthenticate] != nil)
          }
          #expect(answer.status < 500 || endpoint.path == "/readyz", "\(name) as \(who): \(answer.status)")
        }
      }
    }
    let log = try String(contentsOfFile: test.directory + "/audit.log", encoding: .utf8)
    #expect(log.contains(#""actor":"token:viewer","event":"POST /v1/orders","outcome":"refused""#))
    #expect(!log.contains("token-viewer"), "secrets are not written down")
    #expect(try AuditLog.verify(path: test.directory + "/audit.log").problem == nil)
  }

  /// Every kind of action with every role.
  @Test func everyActionWithEveryRole() async throws {
    let test = try TestConsole()
    try test.add([TestBreak()])
    let analyst: Set<String> = ["analyst", "controller", "admin", "norway", "second"]
    let controller: Set<String> = ["controller", "admin", "norway", "second"]
    let expected: [ActionKind: Set<String>] = [
      .assign: analyst, .comment: analyst, .explain: analyst, .reopen: analyst, .writeOff: analyst,
      .accept: controller, .forceClose: controller, .approve: controller, .reject: controller,
    ]
    try await test.run { client in
      for kind in ActionKind.allCases {
        for who in TestConsole.names {
          let body = #"{"kind":"\#(kind.rawValue)","comment":"c","reason_code":"timing","of":"none"}"#
          let answer = try await client.send(.post, "/v1/breaks/\(TestBreak().id)/actions", as: who, body: body)
          let isAllowed = expected[kind]!.contains(who)
          #expect((answer.status == 403) == !isAllowed, "\(kind) as \(who): \(answer.status) \(answer.body)")
        }
      }
    }
  }

  @Test func rowsBeyondTheScopeAreNotThere() async throws {
    let test = try TestConsole()
    let foreign = TestBreak(order: "SO-DE", country: "DE")
    try test.add([TestBreak(), foreign])
    try await test.run { client in
      #expect(try await client.get("/v1/breaks", as: "controller").items.count == 2)
      let list = try await client.get("/v1/breaks", as: "norway")
      #expect(list.items.map { $0["order"]?.stringValue } == ["SO-1"])
      #expect(try await client.get("/v1/breaks?dimension.country=DE", as: "norway").items.isEmpty)
      #expect(try await client.get("/v1/breaks/\(foreign.id)", as: "norway").status == 404)
      #expect(try await client.get("/v1/orders/SO-DE", as: "norway").status == 404)
      #expect(try await client.get("/v1/breaks?q=SO", as: "norway").items.count == 1)
      let export = try await client.get("/v1/export/breaks?format=jsonl", as: "norway")
      #expect(export.body.split(separator: "\n").count == 1)
      #expect(try await client.get("/v1/summary", as: "norway").json["open"]?.numberValue == 1)
      let act = try await client.send(
        .post, "/v1/breaks/\(foreign.id)/actions", as: "norway", body: #"{"kind":"comment","comment":"x"}"#)
      #expect(act.status == 404)
      let bulk = try await client.send(
        .post, "/v1/actions", as: "norway",
        body: #"{"breaks":["\#(foreign.id)","\#(TestBreak().id)"],"kind":"comment","comment":"x"}"#)
      #expect(bulk.json["actions"]?.arrayValue?.count == 1)
      #expect(bulk.json["errors"]?.arrayValue?.first?["code"]?.stringValue == "not_found")
    }
  }

  @Test func whatIsNotThereIsRefusedInOneWay() async throws {
    let test = try TestConsole()
    try await test.run { client in
      for path in [
        "/v1", "/v1/nothing", "/etc/passwd", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/v1/../../etc/passwd",
        "/assets/..%2f..%2fetc%2fpasswd", "/console.js", "//", "/v1/breaks/",
      ] {
        let answer = try await client.send(.get, path, as: "admin")
        #expect(answer.status == 404, "\(path): \(answer.status)")
        #expect(!answer.body.contains("root:"))
      }
      let other = try await client.send(.put, "/v1/breaks", as: "admin", body: "{}")
      #expect(other.status == 405)
      #expect(other.headers[.allow] == "GET")
      let page = try await client.send(.get, "/")
      #expect(page.status == 200)
      #expect(page.headers[HTTPField.Name("Content-Security-Policy")!]?.contains("default-src 'none'") == true)
      #expect(page.headers[HTTPField.Name("X-Content-Type-Options")!] == "nosniff")
      #expect(page.headers[HTTPField.Name("X-Frame-Options")!] == "DENY")
    }
  }

  @Test func tryingTokensIsSlowedDown() async throws {
    let test = try TestConsole()
    try await test.run { client in
      var statuses: Set<Int> = []
      for number in 0..<60 {
        statuses.insert(
          try await client.send(
            .get, "/v1/breaks", headers: [("Authorization", "Bearer guess-\(number)")]
          ).status)
      }
      #expect(statuses == [401, 429])
      #expect(try await client.get("/v1/sources").status == 200, "a good token is let in from the same address")
    }
  }

  @Test func onePrincipalDoesNotTakeItAll() async throws {
    let test = try TestConsole(adjust: {
      $0.serve.requestRate = 1
      $0.serve.requestBurst = 5
    })
    try await test.run { client in
      var statuses: [Int] = []
      for _ in 0..<8 { statuses.append(try await client.get("/v1/sources").status) }
      #expect(statuses.filter { $0 == 200 }.count <= 6)
      #expect(statuses.last == 429)
      #expect(try await client.get("/v1/sources", as: "analyst").status == 200, "others are served")
    }
  }

  /// Beyond what is worked on at once requests are told to come again; probes are answered all the same.
  @Test func whatIsTooMuchIsToldToComeAgain() async throws {
    let test = try TestConsole(adjust: { $0.serve.concurrency = 1 })
    try test.add([TestBreak()])
    try await test.run { client in
      let head =
        "POST /v1/actions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token-admin\r\n"
        + "Content-Type: application/json\r\nContent-Length: 900\r\n\r\n{"
      // Its body comes bit by bit: it is being worked on all the while.
      async let slow = RawConnection.isClosedByServer(port: client.port, start: head, drip: "a", patience_s: 8)
      // It must be the first: were another one being answered when it comes, it would be the one that is refused.
      try await Task.sleep(for: .seconds(1))
      var refused: TestConsole.Answer?
      for _ in 0..<200 where refused == nil {
        let answer = try await client.get("/v1/breaks")
        if answer.status == 503 { refused = answer }
        try await Task.sleep(for: .milliseconds(20))
      }
      #expect(refused?.headers[.retryAfter] != nil)
      #expect(refused?.headers[.contentType] == "application/problem+json")
      #expect(try await client.get("/healthz", as: nil).status == 200)
      #expect(try await client.get("/readyz", as: nil).status == 200)
      #expect(await !slow)
      var isServed = false
      for _ in 0..<200 where !isServed {
        isServed = try await client.get("/v1/breaks").status == 200
        try await Task.sleep(for: .milliseconds(20))
      }
      #expect(isServed, "and served when there is room again")
    }
  }
}
