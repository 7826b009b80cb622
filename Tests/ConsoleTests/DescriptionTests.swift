import ConsoleStore
import Foundation
import HTTPTypes
import Pipeline
import Testing

@testable import Console

/// As much of JSON Schema as the description uses.
struct SchemaCheck {
  let root: JSON
  private(set) var problems: [String] = []

  init(_ root: JSON) { self.root = root }

  mutating func check(_ value: JSON, _ schema: JSON, _ place: String = "$") {
    if let reference = schema["$ref"]?.stringValue {
      var target: JSON? = root
      for part in reference.dropFirst(2).split(separator: "/") { target = target?[String(part)] }
      guard let target else {
        problems.append("\(place): \(reference) is not there")
        return
      }
      return check(value, target, place)
    }
    if let types = schema["type"]?.arrayValue ?? schema["type"].map({ [$0] }) {
      let kind: Set<String> =
        switch value {
        case .null: ["null"]
        case .bool: ["boolean"]
        case .int: ["integer", "number"]
        case .double: ["number"]
        case .string: ["string"]
        case .array: ["array"]
        case .object: ["object"]
        case .raw: []
        }
      if kind.isDisjoint(with: types.compactMap(\.stringValue)) {
        problems.append("\(place): \(value.text.prefix(60)) is no \(types.map(\.text))")
        return
      }
    }
    if let words = schema["enum"]?.arrayValue, !words.contains(value) {
      problems.append("\(place): \(value.text) is not listed")
    }
    if let pattern = schema["pattern"]?.stringValue, let text = value.stringValue,
      text.range(of: pattern, options: .regularExpression) == nil
    {
      problems.append("\(place): '\(text)' does not match \(pattern)")
    }
    if schema["format"] == "date-time", let text = value.stringValue, parseTimestamp_ms(text) == nil {
      problems.append("\(place): '\(text)' is no time")
    }
    if let item = schema["items"], let items = value.arrayValue {
      for (index, entry) in items.enumerated() { check(entry, item, "\(place)[\(index)]") }
    }
    guard let entries = value.objectValue else { return }
    for name in schema["required"]?.arrayValue?.compactMap(\.stringValue) ?? [] where value[name] == nil {
      problems.append("\(place): '\(name)' is missing")
    }
    for (name, entry) in entries {
      if let property = schema["properties"]?[name] {
        check(entry, property, place + "." + name)
      } else if schema["additionalProperties"] == false {
        problems.append("\(place): '\(name)' is not described")
      } else if let additional = schema["additionalProperties"], additional.objectValue != nil {
        check(entry, additional, place + "." + name)
      }
    }
  }
}

@Suite(.serialized) struct DescriptionTests {
  /// Asks for what is described, and holds every answer against its description.
  @Test func everyAnswerIsAsDescribed() async throws {
    let test = try TestConsole()
    var second = TestBreak(order: "SO-2", posted: "-29900.00", delta: "-30000.00")
    second.revision = 2
    try test.add([TestBreak(), TestBreak(order: "SO-3", delta: nil), second])
    try test.cluster.produce(
      test.configuration.deadLettersTopic,
      [
        (
          key: "k", value: #"{"source":"orders","reason":"SCHEMA_INVALID","field":"","detail":"x","payload_bytes":1}"#,
          partition: 0
        )
      ])
    try test.cluster.produce(
      test.configuration.totalsTopic, [(key: "c", value: #"{"cell":"c","value":1,"tasks":1}"#, partition: 0)])
    _ = try await test.console.state.enqueue(
      "desk", [.init(breakID: "b", revision: 1, body: "{}")], from: nil, to: .init(generation: "g", sequence: 1),
      now_ms: 0)
    let id = second.id
    try test.add([TestBreak(order: "SO-4")])
    try await test.run { client in
      let description = try await client.get("/v1/openapi.json", as: "feed")
      #expect(description.status == 200)
      let root = description.json
      #expect(root["openapi"] == "3.1.0")
      // What an answer leads to is there.
      let operations = test.console.endpoints.map(\.operation)
      let links = test.console.endpoints.flatMap { $0.answers.flatMap(\.links) }
      #expect(!links.isEmpty && links.allSatisfy { operations.contains($0.operation) })
      let order = #"{"id":"A","event":"E","at":"2025-03-01T10:00:00Z","currency":"EUR","gross":"1.00"}"#
      /// operation, path, body, content type, who, status
      let calls: [(String, String, String?, String, String?, Int)] = [
        ("getHealth", "/healthz", nil, "", nil, 200), ("getReadiness", "/readyz", nil, "", nil, 200),
        ("getMetrics", "/metrics", nil, "", "viewer", 200), ("getStatus", "/v1/status", nil, "", "viewer", 200),
        ("getDescription", "/v1/openapi.json", nil, "", "viewer", 200),
        ("beginSession", "/v1/session", #"{"token":"token-viewer"}"#, "application/json", nil, 200),
        ("beginSession", "/v1/session", #"{"token":"guess"}"#, "application/json", nil, 401),
        ("beginSession", "/v1/session", "x", "text/plain", nil, 415),
        ("getSession", "/v1/session", nil, "", "norway", 200), ("endSession", "/v1/session", nil, "", "viewer", 204),
        ("listBreaks", "/v1/breaks?limit=2", nil, "", "viewer", 200),
        ("listBreaks", "/v1/breaks?limit=x", nil, "", "viewer", 400),
        ("listBreaks", "/v1/breaks", nil, "", nil, 401), ("listBreaks", "/v1/breaks", nil, "", "feed", 403),
        ("exportBreaks", "/v1/export/breaks", nil, "", "viewer", 200),
        ("exportBreaks", "/v1/export/breaks?format=jsonl", nil, "", "viewer", 200),
        (
          "actOnBreak", "/v1/breaks/\(id)/actions", #"{"kind":"force_close","comment":"x"}"#, "application/json",
          "controller", 200
        ),
        ("actOnBreak", "/v1/breaks/\(id)/actions", #"{"kind":"reopen"}"#, "application/json", "analyst", 409),
        ("actOnBreak", "/v1/breaks/\(id)/actions", #"{"kind":"explain"}"#, "application/json", "analyst", 422),
        ("actOnBreak", "/v1/breaks/none/actions", #"{"kind":"reopen"}"#, "application/json", "analyst", 404),
        (
          "actOnBreaks", "/v1/actions", #"{"breaks":["\#(id)","none"],"kind":"assign","assignee":"ann"}"#,
          "application/json", "analyst", 200
        ),
        ("actOnBreaks", "/v1/actions", #"{"breaks":[],"kind":"assign"}"#, "application/json", "analyst", 422),
        (
          "actOnBreaks", "/v1/actions", #"{"breaks":["\#(id)"],"kind":"reopen","reason":"x"}"#, "application/json",
          "analyst", 400
        ),
        (
          "actOnBreak", "/v1/breaks/\(id)/actions", #"{"kind":"comment","coment":"x"}"#, "application/json", "analyst",
          400
        ),
        ("getBreak", "/v1/breaks/\(id)", nil, "", "viewer", 200),
        ("getBreak", "/v1/breaks/none", nil, "", "viewer", 404),
        ("getSummary", "/v1/summary", nil, "", "viewer", 200),
        ("explainOrder", "/v1/orders/SO-2", nil, "", "viewer", 200),
        ("explainOrder", "/v1/orders/none", nil, "", "viewer", 404),
        ("postOrders", "/v1/orders", order, "application/json", "feed", 200),
        ("postOrders", "/v1/orders", "[\(order),{}]", "application/json", "feed", 200),
        ("postOrders", "/v1/orders", order, "application/x-ndjson", "feed", 200),
        ("postOrders", "/v1/orders", "{}", "application/json", "feed", 422),
        ("postOrders", "/v1/orders", "{}", "text/plain", "feed", 415),
        (
          "postPostings", "/v1/postings",
          #"{"order":"A","role":"tax","currency":"EUR","at":"2025-03-01T10:00:00Z","amount":1}"#, "application/json",
          "feed", 200
        ),
        ("listTotals", "/v1/totals", nil, "", "viewer", 200),
        ("seriesOfTotal", "/v1/totals/series?cell=c", nil, "", "viewer", 200),
        ("listAggregates", "/v1/aggregates", nil, "", "viewer", 200),
        ("listCells", "/v1/aggregates/revenue", nil, "", "viewer", 200),
        ("listCells", "/v1/aggregates/none", nil, "", "viewer", 404),
        ("seriesOfCell", "/v1/aggregates/revenue/series?cell=x", nil, "", "viewer", 200),
        ("listSources", "/v1/sources", nil, "", "viewer", 200),
        ("getCatalogue", "/v1/catalogue", nil, "", "viewer", 200),
        ("listDeadLetters", "/v1/dead-letters", nil, "", "viewer", 200),
        ("listAudit", "/v1/audit", nil, "", "admin", 200),
        ("listDeliveries", "/v1/webhooks/deliveries", nil, "", "admin", 200),
        ("retryDelivery", "/v1/webhooks/deliveries/9/retry", nil, "", "admin", 404),
      ]
      var met: Set<String> = ["streamEvents"]
      for (operation, uri, body, type, who, status) in calls {
        let (method, described) = try #require(Self.find(operation, root), "\(operation) is not described")
        let answer = try await client.send(method, uri, as: who, body: body, type: type)
        #expect(answer.status == status, "\(operation) \(uri): \(answer.status) \(answer.body.prefix(200))")
        met.insert(operation)
        guard let response = described["responses"]?["\(answer.status)"] else {
          Issue.record("\(operation): the status \(answer.status) is not described")
          continue
        }
        let given = String((answer.headers[.contentType] ?? "").prefix { $0 != ";" })
        if answer.status == 204 {
          #expect(answer.body.isEmpty && response["content"] == nil)
          continue
        }
        guard let content = response["content"]?[given] else {
          Issue.record("\(operation) \(answer.status): the type '\(given)' is not described")
          continue
        }
        guard given.hasSuffix("json"), given != "application/x-ndjson" else { continue }
        var check = SchemaCheck(root)
        check.check(answer.json, content["schema"] ?? .null)
        #expect(check.problems.isEmpty, "\(operation) \(answer.status): \(check.problems.joined(separator: "; "))")
      }
      #expect(met == Set(test.console.endpoints.map(\.operation)), "every operation is asked")
    }
  }

  private static func find(_ operation: String, _ root: JSON) -> (HTTPRequest.Method, JSON)? {
    for (_, item) in root["paths"]?.objectValue ?? [] {
      for (method, described) in item.objectValue ?? [] where described["operationId"]?.stringValue == operation {
        return (HTTPRequest.Method(method.uppercased())!, described)
      }
    }
    return nil
  }

  /// Who may do none of the kinds of actions is named by no operation of theirs.
  @Test func rolesOfActionsAreThoseOfTheirKinds() throws {
    let root = Console.describe(Console.makeEndpoints(try TestConsole.parsed()), version: "test")
    let roles = Set(ActionKind.allCases.flatMap(\.permission.roles).map(\.rawValue))
    for operation in ["actOnBreak", "actOnBreaks"] {
      let described = try #require(Self.find(operation, root)).1
      #expect(Set(described["x-roles"]?.arrayValue?.compactMap(\.stringValue) ?? []) == roles)
    }
    #expect(!roles.contains("viewer"))
  }

  @Test func theCheckSeesWhatIsWrong() {
    let schema = Schemas.object([("a", Schemas.integer), ("b", Schemas.amount)], optional: ["b"])
    func problems(_ value: JSON) -> Int {
      var check = SchemaCheck(["x": schema])
      check.check(value, ["$ref": "#/x"])
      return check.problems.count
    }
    #expect(problems(["a": 1]) == 0)
    #expect(problems(["a": 1, "b": "-1.50"]) == 0)
    #expect(problems(["a": "1"]) == 1)
    #expect(problems([:]) == 1)
    #expect(problems(["a": 1, "b": "1e5"]) == 1)
    #expect(problems(["a": 1, "c": 1]) == 1)
  }
}
