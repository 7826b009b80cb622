import Configuration
import ConsoleStore
import Domain
import Foundation
import HTTPTypes
import Hummingbird
import NIOCore
import Pipeline

extension Console {
  static let maximumPage = 500
  static let standardPage = 50
  /// Rows that an export reads at a time.
  static let exportPage = 1_000

  /// The filters of lists of breaks.
  static func filterParameters(_ configuration: Configuration) -> [Endpoint.Parameter] {
    func words(_ name: String, _ values: [String], _ help: String) -> Endpoint.Parameter {
      .init(name: name, schema: Schemas.list(of: Schemas.words(values)), help: help)
    }
    func texts(_ name: String, _ help: String) -> Endpoint.Parameter {
      .init(name: name, schema: Schemas.list(of: Schemas.text), help: help)
    }
    func amount(_ name: String, _ help: String) -> Endpoint.Parameter {
      .init(name: name, schema: ["type": "string", "pattern": "^[0-9]{1,12}(\\.[0-9]{1,6})?$"], help: help)
    }
    return [
      words("type", Schemas.types, "Break types."), words("state", Schemas.states, "States."),
      words("severity", Schemas.severities, "Severities."), words("role", Schemas.roles, "Account roles."),
      texts("currency", "ISO 4217 codes."), texts("customer", "Customers."), texts("assignee", "Assignees."),
      texts("order", "Order keys."),
      amount("min_amount", "|difference| in major units, at least."),
      amount("max_amount", "|difference| in major units, at most."),
      .init(name: "age", schema: Schemas.words(AgeBucket.names), help: "Age bucket in days."),
      .init(
        name: "q", schema: ["type": "string", "minLength": 1, "maxLength": 200],
        help: "Beginnings of words of the order key, break id, customer or documents."),
      .init(name: "pending_approval", schema: Schemas.flag, help: "Whether an action waits for a second person."),
    ] + configuration.dimensions.map { texts("dimension.\($0)", "Values of the dimension \($0).") }
  }

  static func breakEndpoints(_ configuration: Configuration) -> [Endpoint] {
    let filters = filterParameters(configuration)
    let sort = Endpoint.Parameter(
      name: "sort", schema: Schemas.words(BreakSort.allCases.map(\.rawValue)), help: "Order, `-amount` by default.")
    return [
      Endpoint(
        method: .get, path: "/v1/breaks", operation: "listBreaks", tag: "breaks", help: "Breaks, a page at a time.",
        access: .needs(.read),
        parameters: filters + [
          sort,
          .init(
            name: "limit", schema: ["type": "integer", "minimum": 1, "maximum": .int(maximumPage)],
            help: "Rows of a page, \(standardPage) by default."),
          .init(name: "cursor", schema: Schemas.text, help: "`next` of the page before."),
        ],
        answers: [
          .init(
            status: 200, help: "A page.", schema: Schemas.reference("BreakPage"),
            links: [
              ("getBreak", "id", "/items/0/id"), ("actOnBreak", "id", "/items/0/id"),
              ("explainOrder", "order", "/items/0/order"),
            ])
        ],
        handle: { try await $0.listBreaks($1, $2, filters) }),
      Endpoint(
        method: .get, path: "/v1/export/breaks", operation: "exportBreaks", tag: "breaks",
        help: "All breaks of a filter, as CSV or JSON lines, streamed.", access: .needs(.read),
        parameters: filters + [
          sort, .init(name: "format", schema: Schemas.words(["csv", "jsonl"]), help: "`csv` by default."),
        ],
        answers: [
          .init(status: 200, help: "The rows.", type: "text/csv"),
          .init(status: 200, help: "The rows.", type: "application/x-ndjson"),
        ], isStream: true, handle: { try await $0.exportBreaks($1, $2, filters) }),
      Endpoint(
        method: .get, path: "/v1/breaks/{id}", operation: "getBreak", tag: "breaks",
        help: "One break with its evidence, its history and what people did.", access: .needs(.read),
        answers: [
          .init(status: 200, help: "The break.", schema: Schemas.reference("BreakDetail")),
          .init(status: 404, help: "There is none, or it is not shown to you."),
        ],
        handle: { console, request, context in
          let detail = try await console.detail(try context.path("id"), context)
          return .json(Console.json(detail))
        }),
      Endpoint(
        method: .get, path: "/v1/summary", operation: "getSummary", tag: "breaks",
        help: "Count and value of open breaks by type, state, severity, currency and age.", access: .needs(.read),
        answers: [.init(status: 200, help: "The sums.", schema: Schemas.reference("Summary"))],
        handle: { console, request, context in
          _ = try Query(request, [])
          return try await console.summary(context.principal!.scope)
        }),
    ]
  }

  /// The filter of a query.
  func filter(_ query: Query) throws -> BreakFilter {
    var filter = BreakFilter()
    filter.types = try query.list("type", of: Schemas.types)
    filter.states = try query.list("state", of: Schemas.states)
    filter.severities = try query.list("severity", of: Schemas.severities)
    filter.roles = try query.list("role", of: Schemas.roles)
    filter.currencies = try query.list("currency")
    filter.customers = try query.list("customer")
    filter.assignees = try query.list("assignee")
    filter.orders = try query.list("order")
    for name in configuration.dimensions {
      let values = try query.list("dimension.\(name)")
      if !values.isEmpty { filter.dimensions[name] = values }
    }
    filter.minimum_u = try Console.micros("min_amount", query)
    filter.maximum_u = try Console.micros("max_amount", query)
    if let age = try query.list("age", of: AgeBucket.names).first {
      let range = AgeBucket.range(AgeBucket.names.firstIndex(of: age)!, now_ms: wallClock_ms())
      filter.openedFrom_ms = range.from_ms
      filter.openedBefore_ms = range.before_ms
    }
    if let text = try query.text("q") {
      guard !text.isEmpty, text.count <= 200 else { throw Problem.badRequest("'q': 1 to 200 characters are expected") }
      filter.text = text
    }
    filter.pendingApproval = try query.bool("pending_approval")
    return filter
  }

  private static func micros(_ name: String, _ query: Query) throws -> Int64? {
    guard var text = try query.text(name) else { return nil }
    let value: Int64? = text.withUTF8 { (try? DecimalText($0)).flatMap { try? $0.units(decimals: 6) } }
    guard let value, value >= 0, text.utf8.allSatisfy({ $0 == 0x2e || (0x30...0x39).contains($0) }) else {
      throw Problem.badRequest("'\(name)': a decimal of at most six places is expected")
    }
    return value
  }

  private func sort(_ query: Query) throws -> BreakSort {
    guard let text = try query.text("sort") else { return .amount }
    guard let sort = BreakSort(rawValue: text) else {
      throw Problem.badRequest("'sort' is one of \(BreakSort.allCases.map(\.rawValue).joined(separator: ", "))")
    }
    return sort
  }

  /// A place in a list as the client gets it: nothing to rely on.
  static func encode(_ cursor: PageCursor, _ sort: BreakSort) -> String {
    let text = "1|\(sort.rawValue)|\(cursor.value)|\(cursor.number)"
    return Data(text.utf8).base64EncodedString().replacing("+", with: "-").replacing("/", with: "_").replacing(
      "=", with: "")
  }

  static func decode(_ text: String, _ sort: BreakSort) throws -> PageCursor {
    let parts = base64URL(text).map { String(decoding: $0, as: UTF8.self).split(separator: "|") } ?? []
    guard parts.count == 4, parts[0] == "1", let value = Int64(parts[2]), let number = Int64(parts[3]) else {
      throw Problem.badRequest("'cursor' is none that this server gave")
    }
    guard parts[1] == sort.rawValue else { throw Problem.badRequest("'cursor' belongs to another order of the list") }
    return PageCursor(value: value, number: number)
  }

  private func listBreaks(
    _ request: Request, _ context: ConsoleContext, _ parameters: [Endpoint.Parameter]
  ) async throws -> Response {
    let own = ["sort", "limit", "cursor"].map { Endpoint.Parameter(name: $0, schema: nil, help: "") }
    let version = followed().version
    let key = PageCache.Key(
      query: request.uri.query ?? "", scope: context.principal!.scope, day: wallClock_ms() / 86_400_000)
    // A store that others change too may be ahead of what is known here.
    let known = store.isOwn ? pages.page(key, version: version) : nil
    if let known { return Console.listed(known) }
    let query = try Query(request, parameters + own)
    let filter = try filter(query)
    let sort = try sort(query)
    let limit = try query.integer("limit", Console.standardPage, 1...Console.maximumPage)
    let after = try query.text("cursor").map { try Console.decode($0, sort) }
    let (store, scope) = (store, context.principal!.scope)
    var quick = try store.quickBreaks(filter, scope: scope, sort: sort, after: after, limit: limit)
    if quick == nil {
      quick = try await limited(context) {
        try await store.breaks(filter, scope: scope, sort: sort, after: after, limit: limit)
      }
    }
    let page = quick!
    var buffer = ByteBuffer()
    buffer.reserveCapacity(page.bytes.count + 256)
    buffer.writeString("{\"items\":[")
    buffer.writeBytes(page.bytes)
    buffer.writeString("],\"next\":")
    buffer.writeBytes(JSON.optional(page.next.map { Console.encode($0, sort) }).bytes)
    buffer.writeString("}")
    if store.isOwn { pages.keep(buffer, key, version: version) }
    return Console.listed(buffer)
  }

  private static func listed(_ page: ByteBuffer) -> Response {
    Response(status: .ok, headers: [.contentType: "application/json"], body: ResponseBody(byteBuffer: page))
  }

  // MARK: - Export

  static let exportColumns = [
    "id", "order", "type", "role", "currency", "expected", "posted", "delta", "posted_currency", "state", "provisional",
    "revision", "severity", "customer", "first_event_time", "deadline", "as_of", "reason", "assignee", "reason_code",
    "updated_at",
  ]

  /// A field of CSV (RFC 4180). What a spreadsheet would take for a formula gets an apostrophe before it; an amount
  /// stays one.
  static func csvField(_ text: String) -> String {
    var text = text
    let isNumber = !text.isEmpty && text.utf8.allSatisfy { (0x30...0x39).contains($0) || $0 == 0x2d || $0 == 0x2e }
    if let first = text.first, "=+-@\t\r".contains(first), !isNumber { text = "'" + text }
    guard text.contains(where: { ",\"\n\r".contains($0) }) else { return text }
    return "\"" + text.replacing("\"", with: "\"\"") + "\""
  }

  private func exportBreaks(
    _ request: Request, _ context: ConsoleContext, _ parameters: [Endpoint.Parameter]
  ) async throws -> Response {
    let own = ["sort", "format"].map { Endpoint.Parameter(name: $0, schema: nil, help: "") }
    let query = try Query(request, parameters + own)
    let filter = try filter(query)
    let sort = try sort(query)
    let isCSV = try query.list("format", of: ["csv", "jsonl"]).first != "jsonl"
    let (store, scope, dimensions) = (store, context.principal!.scope, configuration.dimensions)
    let body = ResponseBody { writer in
      if isCSV {
        let head = (Console.exportColumns + dimensions).map(Console.csvField).joined(separator: ",")
        try await writer.write(ByteBuffer(string: head + "\r\n"))
      }
      var after: PageCursor?
      repeat {
        let page = try await store.breaks(filter, scope: scope, sort: sort, after: after, limit: Console.exportPage)
        var buffer = ByteBuffer()
        for row in page.rows {
          if isCSV {
            buffer.writeString(try Console.csvRow(row, dimensions))
          } else {
            buffer.writeString(row)
            buffer.writeString("\n")
          }
        }
        // Waits for the client to take it: an export holds one page in memory.
        try await writer.write(buffer)
        after = page.next
      } while after != nil
      try await writer.finish(nil)
    }
    return Response(
      status: .ok,
      headers: [
        .contentType: isCSV ? "text/csv; charset=utf-8" : "application/x-ndjson",
        .contentDisposition: "attachment; filename=\"breaks.\(isCSV ? "csv" : "jsonl")\"",
      ], body: body)
  }

  private static func csvRow(_ row: String, _ dimensions: [String]) throws -> String {
    let object = try JSONDecoder().decode(JSON.self, from: Data(row.utf8))
    func text(_ value: JSON?) -> String {
      switch value {
      case .string(let text): text
      case .int(let number): String(number)
      case .bool(let flag): flag ? "true" : "false"
      default: ""
      }
    }
    let fields = exportColumns.map { text(object[$0]) } + dimensions.map { text(object["dimensions"]?[$0]) }
    return fields.map(csvField).joined(separator: ",") + "\r\n"
  }

  // MARK: - One break

  func detail(_ id: String, _ context: ConsoleContext) async throws -> BreakDetail {
    guard let detail = try await store.detail(id: id, scope: context.principal!.scope) else {
      throw Problem.notFound("there is no such break")
    }
    return detail
  }

  static func json(_ detail: BreakDetail) -> JSON {
    [
      "break": .raw(detail.summary), "message": .raw(detail.message),
      "history": .array(
        detail.revisions.map { revision in
          [
            "revision": .int(revision.revision), "state": .string(revision.state),
            "provisional": .bool(revision.isProvisional), "severity": .string(revision.severity),
            "expected": .optional(revision.expected), "posted": .optional(revision.posted),
            "delta": .optional(revision.delta), "reason": .string(revision.reason),
            "as_of": .optional(revision.asOf_ms.map(formatTimestamp)), "at": .string(formatTimestamp(revision.at_ms)),
          ]
        }),
      "actions": .array(detail.actions.compactMap { try? .raw(String(decoding: $0.encoded(), as: UTF8.self)) }),
      "pending": .array(detail.workflow.pending.map { .string($0) }),
    ]
  }

  private func summary(_ scope: RowScope) async throws -> Response {
    let store = store
    let body = try await summaries.get(scope, sequence: followed().sequence) {
      try await Console.summaryBody(store, scope)
    }
    return .json(.raw(body))
  }

  /// Millionths as text with as many decimals as the currency has, or with all where there are more.
  static func decimal(_ amount_u: Int128, _ currency: String) -> String {
    var (units, decimals) = (amount_u, 6)
    let exponent = Currency(currency)?.exponent ?? 0
    while decimals > exponent, units % 10 == 0 {
      units /= 10
      decimals -= 1
    }
    return formatDecimal(units, decimals: decimals)
  }

  static func summaryBody(_ store: any ConsoleStore, _ scope: RowScope) async throws -> String {
    let now = wallClock_ms()
    let tallies = try await store.tallies(scope: scope, now_ms: now)
    let rows = tallies.map { tally -> JSON in
      [
        "type": .string(tally.type), "state": .string(tally.state), "severity": .string(tally.severity),
        "currency": .string(tally.currency), "age": .string(AgeBucket.names[tally.ageBucket]),
        "count": .int(tally.count), "amount": .string(decimal(tally.amount_u, tally.currency)),
      ]
    }
    return JSON.object([
      ("at", .string(formatTimestamp(now))), ("open", .int(tallies.reduce(0) { $0 + $1.count })),
      ("rows", .array(rows)),
    ]).text
  }
}

/// Sums that took long to make are not made anew for every reader.
actor SummaryCache {
  /// A sum is as old as this at most, or as ten times what it took to make.
  static let freshness_ms: Int64 = 500
  static let maximumScopes = 256

  private struct Entry {
    var body: String
    var sequence: Int64
    var at_ms: Int64
    var cost_ms: Int64
  }
  private var entries: [RowScope: Entry] = [:]
  private var running: [RowScope: Task<String, any Error>] = [:]

  func get(_ scope: RowScope, sequence: Int64, make: @escaping @Sendable () async throws -> String) async throws
    -> String
  {
    let now = wallClock_ms()
    if let entry = entries[scope] {
      let age = now - entry.at_ms
      // Ages move even where no break does.
      if age < max(SummaryCache.freshness_ms, entry.cost_ms * 10) || (entry.sequence == sequence && age < 60_000) {
        return entry.body
      }
    }
    if let task = running[scope] { return try await task.value }
    let task = Task { try await make() }
    running[scope] = task
    defer { running[scope] = nil }
    let body = try await task.value
    if entries.count >= SummaryCache.maximumScopes { entries.removeAll() }
    let end = wallClock_ms()
    entries[scope] = Entry(body: body, sequence: sequence, at_ms: end, cost_ms: end - now)
    return body
  }
}
