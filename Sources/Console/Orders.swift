import Configuration
import ConsoleStore
import Domain
import Foundation
import HTTPTypes
import Hummingbird
import Pipeline

extension Console {
  /// Records of an order that an explanation shows.
  static let maximumRecords = 500

  static func orderEndpoints(_ configuration: Configuration) -> [Endpoint] {
    [
      Endpoint(
        method: .get, path: "/v1/orders/{order}", operation: "explainOrder", tag: "orders",
        help:
          "One order explained: expected and posted by role and what is missing, from the evidence of its breaks, and, "
          + "with `serve.records`, every event and posting as it came. `is_tied_out`: no break of it is open.",
        access: .needs(.read),
        answers: [
          .init(status: 200, help: "The order.", schema: Schemas.reference("OrderExplanation")),
          .init(status: 404, help: "Nothing of this order is known: no break, and no record where they are kept."),
        ],
        handle: { console, request, context in
          _ = try Query(request, [])
          return try await console.explain(try context.path("order"), context)
        })
    ] + intakeEndpoints(configuration)
  }

  /// What of a break's message an explanation is made of.
  private struct Message: Decodable {
    var customer: String
    var dimensions: [String: String]
    var asOf: String?
    var evidence: Evidence

    struct Evidence: Decodable {
      var roles: [Role]
      var events: [String]
      var journals: [String]
    }
    struct Role: Decodable {
      var role: String
      var currency: String
      var expected: String
      var posted: String
      var delta: String
    }
    enum CodingKeys: String, CodingKey {
      case customer, dimensions, evidence
      case asOf = "as_of"
    }
  }

  private func explain(_ order: String, _ context: ConsoleContext) async throws -> Response {
    let details = try await store.order(order, scope: context.principal!.scope)
    // What a record says of dimensions is not known here: those who see some rows only see the records of orders of which
    // they see a break.
    let isShown = !details.isEmpty || context.principal!.scope.isEverything
    let records = isShown ? try await store.records(order: order, limit: Console.maximumRecords) : []
    guard !details.isEmpty || !records.isEmpty else {
      throw Problem.notFound("nothing of this order is known")
    }
    let decoder = JSONDecoder()
    // Every message tells of the whole tie: the newest one is right for all.
    let messages = try details.map { try decoder.decode(Message.self, from: Data($0.message.utf8)) }
    let newest =
      messages.max { ($0.asOf ?? "") < ($1.asOf ?? "") }
      ?? Message(
        customer: "", dimensions: [:], asOf: nil, evidence: Message.Evidence(roles: [], events: [], journals: []))
    func isZero(_ text: String) -> Bool { !text.utf8.contains { (0x31...0x39).contains($0) } }
    var missing: [String] = []
    let roles = newest.evidence.roles.map { role -> JSON in
      let status: String
      if isZero(role.delta) {
        status = "ties"
      } else if isZero(role.posted) {
        status = "not_posted"
        missing.append("\(role.role): \(role.expected) \(role.currency) is expected and nothing is posted")
      } else if isZero(role.expected) {
        status = "not_expected"
        missing.append("\(role.role): \(role.posted) \(role.currency) is posted and nothing is expected")
      } else {
        status = "differs"
        missing.append("\(role.role): \(role.delta) \(role.currency) between posted and expected")
      }
      return [
        "role": .string(role.role), "currency": .string(role.currency), "expected": .string(role.expected),
        "posted": .string(role.posted), "delta": .string(role.delta), "status": .string(status),
      ]
    }
    func union(_ values: [[String]]) -> JSON { .array(Set(values.flatMap { $0 }).sorted().map { .string($0) }) }
    return .json([
      "order": .string(order), "customer": .string(newest.customer),
      "dimensions": .object(newest.dimensions.sorted { $0.key < $1.key }.map { ($0.key, .string($0.value)) }),
      "as_of": .optional(newest.asOf),
      "is_tied_out": .bool(!details.contains { ["open", "reopened"].contains($0.state) }), "roles": .array(roles),
      "missing": .array(missing.map { .string($0) }), "events": union(messages.map(\.evidence.events)),
      "journals": union(messages.map(\.evidence.journals)), "breaks": .array(details.map(Console.json)),
      "records": .array(records.compactMap(json)),
    ])
  }

  private func json(_ record: SourceRecord) -> JSON? {
    guard let source = configuration.sources.first(where: { $0.topic == record.topic }) else { return nil }
    return [
      "source": .string(source.name), "kind": .string(source.mapping.kind.rawValue), "topic": .string(record.topic),
      "partition": .int(Int(record.partition)), "offset": .int(Int(record.offset)),
      "at": .string(formatTimestamp(record.at_ms)), "text": .string(record.body),
    ]
  }
}
