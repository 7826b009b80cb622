import Foundation
import HTTPTypes

extension Console {
  /// The OpenAPI description, made from the table that the router is made from.
  var description: JSON { Console.describe(endpoints, version: version) }

  static func describe(_ endpoints: [Endpoint], version: String) -> JSON {
    var paths: [(String, [(String, JSON)])] = []
    for endpoint in endpoints {
      let operation = (endpoint.method.rawValue.lowercased(), describe(endpoint))
      if let at = paths.firstIndex(where: { $0.0 == endpoint.path }) {
        paths[at].1.append(operation)
      } else {
        paths.append((endpoint.path, [operation]))
      }
    }
    return [
      "openapi": "3.1.0",
      "info": [
        "title": "tieout", "version": .string(version),
        "description": "Breaks of orders against the ledger: lists, explanations, actions and intake.",
      ],
      "paths": .object(paths.map { ($0.0, .object($0.1)) }),
      "components": [
        "schemas": .object(Schemas.all),
        "securitySchemes": [
          "bearer": [
            "type": "http", "scheme": "bearer", "description": "A static token, or a signed one (RS256, ES256, EdDSA).",
          ],
          "session": [
            "type": "apiKey", "in": "cookie", "name": .string(Sessions.cookie),
            "description": "Changes also need the header X-CSRF-Token.",
          ],
        ],
      ],
      "security": [["bearer": []], ["session": []]],
    ]
  }

  private static func describe(_ endpoint: Endpoint) -> JSON {
    var operation: [(String, JSON)] = [
      ("operationId", .string(endpoint.operation)), ("tags", [.string(endpoint.tag)]),
      ("summary", .string(endpoint.help)),
    ]
    var roles: [String] = []
    switch endpoint.access {
    case .open: operation.append(("security", []))
    case .needs(let permission), .needsEverything(let permission): roles = permission.roles.map(\.rawValue).sorted()
    }
    if !roles.isEmpty { operation.append(("x-roles", .array(roles.map { .string($0) }))) }
    let inPath = endpoint.path.split(separator: "/").filter { $0.hasPrefix("{") }.map {
      String($0.dropFirst().dropLast())
    }
    let parameters =
      inPath.map { name -> JSON in
        ["name": .string(name), "in": "path", "required": true, "schema": ["type": "string", "minLength": 1]]
      }
      + endpoint.parameters.map { parameter -> JSON in
        var entries: [(String, JSON)] = [
          ("name", .string(parameter.name)), ("in", parameter.isHeader ? "header" : "query"),
          ("description", .string(parameter.help)), ("required", .bool(parameter.isRequired)),
          ("schema", parameter.schema),
        ]
        if parameter.schema["type"] == "array" {
          entries += [("style", "form"), ("explode", false)]
        }
        return .object(entries)
      }
    if !parameters.isEmpty { operation.append(("parameters", .array(parameters))) }
    if let body = endpoint.body {
      operation.append(
        (
          "requestBody",
          [
            "required": true, "description": .string(body.help),
            "content": .object(
              body.types.map { type in
                (type, ["schema": type == "application/json" ? body.schema : ["type": "string"]])
              }),
          ]
        ))
    }
    operation.append(("responses", .object(answers(endpoint))))
    return .object(operation)
  }

  /// What the endpoint says itself, and what every endpoint can answer.
  private static func answers(_ endpoint: Endpoint) -> [(String, JSON)] {
    var known: [(Int, String, [(String, JSON)])] = []
    func add(_ status: Int, _ help: String, _ content: [(String, JSON)]) {
      if let at = known.firstIndex(where: { $0.0 == status }) {
        known[at].2 += content.filter { entry in !known[at].2.contains { $0.0 == entry.0 } }
      } else {
        known.append((status, help, content))
      }
    }
    let problem: [(String, JSON)] = [("application/problem+json", ["schema": Schemas.reference("Problem")])]
    for answer in endpoint.answers {
      if answer.status >= 400, answer.schema == nil {
        add(answer.status, answer.help, problem)
      } else if answer.status == 204 {
        add(204, answer.help, [])
      } else {
        add(
          answer.status, answer.help, [(answer.type, answer.schema.map { ["schema": $0] } ?? ["schema": Schemas.text])])
      }
    }
    add(400, "The request cannot be understood.", problem)
    if endpoint.access != .open {
      add(401, "Nobody known sends it.", problem)
      add(403, "You may not.", problem)
      add(429, "Too many requests.", problem)
    }
    if endpoint.body != nil {
      add(413, "The body is too large.", problem)
      add(415, "Another content type.", problem)
    }
    add(503, "Too busy, or Kafka or the store is not there; try again.", problem)
    return known.sorted { $0.0 < $1.0 }.map { status, help, content in
      var entries: [(String, JSON)] = [("description", .string(help))]
      if !content.isEmpty { entries.append(("content", .object(content))) }
      let links = endpoint.answers.filter { $0.status == status }.flatMap(\.links)
      if !links.isEmpty {
        entries.append(
          (
            "links",
            .object(
              links.map { link in
                (
                  link.operation,
                  [
                    "operationId": .string(link.operation),
                    "parameters": .object([(link.parameter, .string("$response.body#\(link.at)"))]),
                  ]
                )
              })
          ))
      }
      return ("\(status)", .object(entries))
    }
  }
}
