import ConsoleStore
import Decoding
import Domain
import Foundation
import HTTPTypes
import Hummingbird

extension Console {
  static func catalogueEndpoints() -> [Endpoint] {
    let dead = [
      Endpoint.Parameter(name: "source", schema: Schemas.text, help: "Of this source."),
      Endpoint.Parameter(
        name: "reason", schema: Schemas.words(DataFaultReason.allCases.map(\.rawValue)), help: "With this reason."),
      Endpoint.Parameter(
        name: "limit", schema: ["type": "integer", "minimum": 1, "maximum": .int(maximumPage)], help: "Rows of a page."),
      Endpoint.Parameter(name: "cursor", schema: Schemas.text, help: "`next` of the page before."),
    ]
    return [
      Endpoint(
        method: .get, path: "/v1/sources", operation: "listSources", tag: "catalogue",
        help: "The sources, and how many of their newest records could not be taken in.", access: .needs(.read),
        answers: [.init(status: 200, help: "Sources.", schema: Schemas.reference("Sources"))],
        handle: { console, request, context in
          _ = try Query(request, [])
          let seesAll = context.principal!.scope.isEverything
          var items: [JSON] = []
          for source in console.configuration.sources {
            let letters = try await console.store.deadLetters(
              source: source.name, reason: nil, before: nil, limit: Console.maximumPage)
            items.append([
              "name": .string(source.name), "kind": .string(source.mapping.kind.rawValue),
              "topic": .string(source.originalTopic), "format": .string(source.mapping.format.rawValue),
              "routed": .bool(source.isRouted),
              "accepts_intake": .bool(source.mapping.format != .csv && source.mapping.format.isText),
              "dead_letters": seesAll ? .int(letters.count) : .null,
            ])
          }
          return .json(["items": .array(items)])
        }),
      Endpoint(
        method: .get, path: "/v1/catalogue", operation: "getCatalogue", tag: "catalogue",
        help: "Which source field fills which canonical field, and what the words mean.", access: .needs(.read),
        answers: [.init(status: 200, help: "The catalogue.", schema: Schemas.reference("Catalogue"))],
        handle: { console, request, _ in
          _ = try Query(request, [])
          return .json(console.catalogue())
        }),
      Endpoint(
        method: .get, path: "/v1/dead-letters", operation: "listDeadLetters", tag: "catalogue",
        help: "Records that could not be taken in, newest first.", access: .needsEverything(.read), parameters: dead,
        answers: [.init(status: 200, help: "A page.", schema: Schemas.reference("DeadLetterPage"))],
        handle: { console, request, _ in
          let query = try Query(request, dead)
          let limit = try query.integer("limit", Console.standardPage, 1...Console.maximumPage)
          let before = try query.text("cursor").map { text in
            guard let number = Int64(text), number >= 0 else {
              throw Problem.badRequest("'cursor' is none that this server gave")
            }
            return number
          }
          let reason = try query.list("reason", of: DataFaultReason.allCases.map(\.rawValue)).first
          let found = try await console.store.deadLetters(
            source: try query.text("source"), reason: reason, before: before, limit: limit)
          return .json([
            "items": .array(found.map { .raw($0.body) }),
            "next": found.count == limit ? .optional(found.last.map { "\($0.number)" }) : .null,
          ])
        }),
    ]
  }

  private func catalogue() -> JSON {
    func describe(_ value: ValueExpression) -> String {
      switch value {
      case .path(let path): path
      case .constant(let text): "'\(text)'"
      case .concatenation(let parts): parts.map(describe).joined(separator: " + ")
      case .firstPresent(let parts): parts.map(describe).joined(separator: ", else ")
      case .sum(let path): "sum of \(path.text)"
      case .changed(let part, let change): describe(part) + (change.table.map { " by \($0.name)" } ?? "")
      }
    }
    func field(_ name: String, _ mapping: FieldMapping) -> JSON {
      [
        "canonical": .string(name), "from": .string(describe(mapping.value)), "table": .optional(mapping.table?.name),
        "default": .optional(mapping.defaultText),
      ]
    }
    let sources = configuration.sources.map { source -> JSON in
      let mapping = source.mapping
      var fields = mapping.fields.sorted { $0.key < $1.key }.map { field($0.key, $0.value) }
      switch mapping.amount {
      case .signed(let amount): fields.append(field("amount", amount))
      case .debitCredit(let debit, let credit):
        fields.append(field("amount.debit", debit))
        fields.append(field("amount.credit", credit))
      case .indicated(let amount, let side):
        fields.append(field("amount", amount))
        fields.append(field("amount.side", side))
      case nil: break
      }
      for (name, dimension) in zip(configuration.dimensions, mapping.dimensions) {
        if let dimension { fields.append(field("dimension.\(name)", dimension)) }
      }
      return [
        "source": .string(source.name), "kind": .string(mapping.kind.rawValue), "fields": .array(fields),
      ]
    }
    return [
      "dimensions": .array(configuration.dimensions.map { .string($0) }),
      "reason_codes": .array(settings.reasonCodes.map { .string($0) }),
      "break_types": .array(
        BreakType.allCases.map { ["type": .string($0.rawValue), "raised_when": .string($0.definition)] }),
      "sources": .array(sources),
    ]
  }
}
