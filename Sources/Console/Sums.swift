import Configuration
import ConsoleStore
import Domain
import Foundation
import HTTPTypes
import Hummingbird
import Pipeline

extension Console {
  static let maximumCells = 1_000
  static let maximumPoints = 5_000

  static func sumEndpoints(_ configuration: Configuration) -> [Endpoint] {
    let prefix = Endpoint.Parameter(
      name: "prefix", schema: Schemas.text, help: "Cells whose key begins with it.")
    let page = [
      prefix,
      Endpoint.Parameter(
        name: "limit", schema: ["type": "integer", "minimum": 1, "maximum": .int(maximumCells)],
        help: "Cells of a page."),
      Endpoint.Parameter(name: "after", schema: Schemas.text, help: "`next` of the page before."),
    ]
    let series = [
      Endpoint.Parameter(name: "cell", schema: Schemas.text, help: "Key of the cell.", isRequired: true),
      Endpoint.Parameter(
        name: "minutes", schema: ["type": "integer", "minimum": 1, "maximum": 129600],
        help: "How far back; a day by default. One point a minute at most."),
    ]
    let cells = Endpoint.Answer(status: 200, help: "Cells.", schema: Schemas.reference("CellPage"))
    let points = Endpoint.Answer(status: 200, help: "Points.", schema: Schemas.reference("Series"))
    let absent = Endpoint.Answer(status: 404, help: "No such aggregate is configured.")
    return [
      Endpoint(
        method: .get, path: "/v1/totals", operation: "listTotals", tag: "sums",
        help: "Totals over all tasks, by cell, as the reconciler tells them.", access: .needsEverything(.read),
        parameters: page, answers: [cells],
        handle: { console, request, _ in try await console.cells(console.configuration.totalsTopic, request, page) }),
      Endpoint(
        method: .get, path: "/v1/totals/series", operation: "seriesOfTotal", tag: "sums",
        help: "How a total went over time.", access: .needsEverything(.read), parameters: series, answers: [points],
        handle: { console, request, _ in try await console.series(console.configuration.totalsTopic, request, series) }),
      Endpoint(
        method: .get, path: "/v1/aggregates", operation: "listAggregates", tag: "sums",
        help: "The aggregates that are configured, and whether their topics exist.", access: .needsEverything(.read),
        answers: [.init(status: 200, help: "Aggregates.", schema: Schemas.reference("Aggregates"))],
        handle: { console, request, _ in
          _ = try Query(request, [])
          let missing = console.followed().missingTopics
          return .json([
            "items": .array(
              console.settings.aggregates.sorted { $0.key < $1.key }.map { name, topic in
                ["name": .string(name), "topic": .string(topic), "is_present": .bool(!missing.contains(topic))]
              })
          ])
        }),
      Endpoint(
        method: .get, path: "/v1/aggregates/{name}", operation: "listCells", tag: "sums",
        help: "The cells of an aggregate.", access: .needsEverything(.read), parameters: page,
        answers: [cells, absent],
        handle: { try await $0.cells(try $0.aggregate($2), $1, page) }),
      Endpoint(
        method: .get, path: "/v1/aggregates/{name}/series", operation: "seriesOfCell", tag: "sums",
        help: "How a cell went over time.", access: .needsEverything(.read), parameters: series,
        answers: [points, absent],
        handle: { try await $0.series(try $0.aggregate($2), $1, series) }),
    ]
  }

  private func aggregate(_ context: ConsoleContext) throws -> String {
    guard let topic = settings.aggregates[try context.path("name")] else {
      throw Problem.notFound("no such aggregate is configured")
    }
    return topic
  }

  private static func json(_ cell: Cell) -> JSON {
    ["cell": .string(cell.key), "at": .string(formatTimestamp(cell.at_ms)), "value": .raw(cell.body)]
  }

  private func cells(
    _ topic: String, _ request: Request, _ parameters: [Endpoint.Parameter]
  ) async throws -> Response {
    let query = try Query(request, parameters)
    let limit = try query.integer("limit", 100, 1...Console.maximumCells)
    let found = try await store.cells(
      topic: topic, prefix: try query.text("prefix") ?? "", after: try query.text("after"), limit: limit + 1)
    let items = found.prefix(limit)
    return .json([
      "topic": .string(topic), "items": .array(items.map(Console.json)),
      "next": found.count > limit ? .optional(items.last?.key) : .null,
    ])
  }

  private func series(
    _ topic: String, _ request: Request, _ parameters: [Endpoint.Parameter]
  ) async throws -> Response {
    let query = try Query(request, parameters)
    guard let cell = try query.text("cell") else { throw Problem.badRequest("'cell' is missing") }
    let minutes = try query.integer("minutes", 1_440, 1...129_600)
    let points = try await store.series(
      topic: topic, key: cell, from_ms: wallClock_ms() - Int64(minutes) * 60_000, limit: Console.maximumPoints)
    return .json([
      "topic": .string(topic), "cell": .string(cell), "points": .array(points.map(Console.json)),
    ])
  }
}
