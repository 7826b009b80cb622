import Aggregates
import Domain
import Forecasting
import Foundation
import Simulation
import Testing

@testable import Pipeline

/// Every topic's messages against their schemas, and the rule by which schemas may change.
@Suite struct SchemaTests {
  /// Every message passes, and every property of the schema is seen in at least one.
  func check(_ schema: TopicSchema, _ messages: [[UInt8]], _ place: SourceLocation = #_sourceLocation) throws {
    var validator = try SchemaValidator(schema.json)
    for message in messages {
      let problems = try validator.problems(message)
      #expect(problems.isEmpty, "\(String(decoding: message, as: UTF8.self))", sourceLocation: place)
      try AvroOutputTests.checkRoundTrip(schema, message, place)
    }
    #expect(validator.listed.subtracting(validator.seen).isEmpty, sourceLocation: place)
  }

  @Test func breaks() throws {
    let encoder = BreakEncoder(dimensionNames: ["region"], task: 2)
    var messages: [[UInt8]] = []
    for (at, type) in BreakType.allCases.enumerated() {
      let role = AccountRole.allCases[at % AccountRole.count]
      var made = Break(
        id: Break.id(order: "O\(at)", type: type, role: role), order: "O\(at)", type: type, role: role,
        currency: Currency(["EUR", "JPY", "KWD"][at % 3])!, expected: at % 4 == 0 ? nil : Int64(at) * 997 - 5_000,
        posted: at % 5 == 0 ? nil : 17, state: BreakState.allCases[at % BreakState.allCases.count],
        isProvisional: at % 2 == 0, revision: at + 1, firstEventTime_ms: 0, deadline_ms: .max - 1, asOf_ms: 1_000)
      made.hints = Array(BreakHint.allCases.prefix(at % 5))
      made.severity = Severity.allCases[at % 4]
      made.dimensions = ["north"]
      made.roles = [
        .init(role: role, currency: made.currency, expected: 1, posted: -1, affected: at % 2 == 0 ? -3 : nil)
      ]
      made.events = ["e"]
      if at % 3 == 0 { made.postedCurrency = Currency("USD")! }
      if at % 2 == 0 { made.affected = Int64(at) * -7 }
      if at % 3 == 1 { made.quantities = [1, -2, 0] }
      if at % 3 == 2 { made.decision = BreakDecision(action: "a", actor: "ann", reasonCode: "timing", approver: "bob") }
      if at % 6 == 4 { made.decision = BreakDecision(action: "a", actor: "ann", reasonCode: "") }
      if at % 4 == 1 {
        made.lines = [
          .init(
            document: "D", line: "10", currency: made.currency, expectedQuantity: 3_000_000, postedQuantity: 0,
            expected: -100, posted: 0)
        ]
        made.lineCount = 1
      }
      messages.append(encoder.encode(made))
    }
    try check(TopicSchemas.breakSchema, messages)
  }

  @Test func deadLettersAndTotals() throws {
    var encoder = DeadLetterEncoder()
    var messages: [[UInt8]] = []
    for (at, reason) in (DataFaultReason.allCases + DataFaultReason.allCases).enumerated() {
      let bytes: [UInt8]? = [nil, Array("{".utf8), [0xff, 0x00]][at % 3]
      messages.append(
        encoder.encode(
          DeadLetter(
            source: "s", origin: "o", isFile: at % 2 == 0, partition: 1, offset: 5, key: bytes, payload: bytes,
            fault: DataFault(reason, field: "f", detail: "why"), payloadBytes: 3,
            receivedAt_ms: at % 2 == 0 ? nil : 1_000)))
    }
    try check(TopicSchemas.deadLetterSchema, messages)
    try check(
      TopicSchemas.totalSchema,
      [status.asOf_ms, .min].map {
        TotalEncoder.encode(cell: "open_breaks:ROUNDING", value: -3, tasks: 2, revision: 7, asOf_ms: $0)
      })
  }

  @Test func actions() throws {
    var messages: [[UInt8]] = []
    for kind in ActionKind.allCases {
      var action = Action(
        id: "a", kind: kind, breakID: "O:MISSING_POSTING:revenue", order: "O", actor: "ann",
        at: "2026-01-31T12:00:00.000Z", revision: 2, basis: "1|2", needsApproval: kind == .accept)
      messages.append(try action.encoded())
      (action.assignee, action.comment, action.reasonCode) = ("bob", "why", "timing")
      (action.of, action.bulk, action.audit) = ("b", "c", "1:ff")
      (action.currency, action.lines) = ("EUR", [.init(role: .writeOff, amount: "2.00")])
      messages.append(try action.encoded())
    }
    var validator = try SchemaValidator(TopicSchemas.action.json)
    for message in messages {
      let problems = try validator.problems(message)
      #expect(problems.isEmpty, "\(String(decoding: message, as: UTF8.self))")
    }
    #expect(validator.listed.subtracting(validator.seen).isEmpty)
    let strange = String(decoding: messages[0], as: UTF8.self).replacing("\"kind\"", with: "\"knd\"")
    #expect(try !validator.problems(Array(strange.utf8)).isEmpty)
  }

  let status = MessageStatus(
    revision: 7, asOf_ms: 1_700_000_000_000, watermarks: [("orders", 1_700_000_000_000), ("ledger", .max)],
    isProvisional: true)
  let euro = Currency("EUR")!

  /// A table with facts of every kind.
  func lines() -> [CellLine] {
    var random = SeededRandom(seed: 5)
    var table = CellTable(dimensionCount: 2)
    for number in 0..<400 {
      var input = AggregateInput(
        kind: number % 3 == 0 ? UInt8(number % OrderEventKind.allCases.count) : AggregateInput.postingKind,
        role: random.pick(AccountRole.allCases), currency: random.pick([euro, Currency("JPY")!, Currency("KWD")!]),
        eventPeriod: 202_401 + Int32(random.below(3)), postingPeriod: 202_401 + Int32(random.below(3)),
        amount: Int64(random.below(1_000_000)) - 500_000)
      input.isBase = number % 7 == 0
      if number % 11 == 0 { (input.eventPeriod, input.postingPeriod) = (0, 1) }
      for component in AmountComponent.allCases { input.amounts[component] = Int64(random.below(100_000)) }
      table.add(input, sign: 1)
    }
    return table.lines
  }

  @Test func revenue() throws {
    var encoder = FinanceEncoder(dimensionNames: ["region", "segment"])
    let made = lines()
    var messages: [RevenueMessage] = []
    for series in Set(made.map(\.key.series)) {
      messages += RevenueMessage.of(series: made.filter { $0.key.series == series }) { _ in status }
    }
    #expect(messages.count == made.count)
    let encoded = messages.map { encoder.encode($0) }
    try check(TopicSchemas.revenue, encoded)
    #expect(Set(messages.map { FinanceEncoder.key($0) }).count == messages.count)
    // The figures are those of the cell.
    let message = try #require(messages.first { $0.line.key.period == 202_402 && $0.line.key.currency == euro })
    let parsed = try #require(
      try JSONSerialization.jsonObject(with: Data(encoder.encode(message))) as? [String: Any])
    let orders = try #require(parsed["orders"] as? [String: String])
    #expect(orders["bookings"] == formatDecimal(message.line.values.value(.bookings), decimals: 2))
    let posted = try #require(parsed["by_posting_date"] as? [String: String])
    #expect(posted["recognised_revenue"] == formatDecimal(message.line.values.value(.recognisedRevenue), decimals: 2))
    #expect(Set(orders.keys).union(posted.keys) == Set(Measure.allCases.map(\.rawValue)))
    let deferred = try #require(parsed["deferred"] as? [String: String])
    #expect(deferred["closing"] == formatDecimal(message.deferred.closing, decimals: 2))
    #expect(
      parsed["watermarks"] as? [String: AnyHashable] == ["orders": "2023-11-14T22:13:20.000Z", "ledger": NSNull()])
    #expect(parsed["period"] as? String == "202402" && parsed["status"] as? String == "provisional")
  }

  @Test func cashflowAndReceivables() throws {
    var encoder = FinanceEncoder(dimensionNames: ["segment"])
    var items: [ReceivableItem] = []
    for number in 0..<60 {
      let (day, amount) = (Int32(number), Int64(number) * 100 + 1)
      var item = ReceivableItem(
        id: "\(number)", customer: "C\(number % 5)", segment: "s", currency: euro, invoiced_d: day, due_d: day + 30,
        amount: amount, isDisputed: number % 9 == 0)
      if number % 4 != 0 { item.applications = [.init(day: day + 25, amount: amount)] }
      items.append(item)
    }
    var model = CollectionModel()
    model.learn(items, until: 50)
    let series = MessageSeries(dimensions: ["s|\\"], currency: euro)
    func forecast(_ method: CashForecast.Method) -> CashForecast {
      CashForecast(items, asOf_d: 50, currency: euro, method: method, model: model)
    }
    let actual = CashForecast.actual(items, asOf_d: 50, currency: euro)
    var error = ForecastError()
    error.add(forecast: 3, actual: 4)
    let whole = CashflowMessage(
      series: series, learned: forecast(.learned), byDueDate: forecast(.dueDate),
      actual: actual.enumerated().map { $0.offset < 3 ? $0.element : nil }, backtest: (error, ForecastError()),
      past: [PastWeek(from_d: 1, expected: 2, byDueDate: 3, actual: 4, received: 5)], completeness: FlowCompleteness(),
      status: status)
    var bare = whole
    (bare.backtest, bare.actual, bare.past, bare.status.isProvisional) = (nil, [], [], false)
    try check(TopicSchemas.cashflow, [encoder.encode(whole), encoder.encode(bare)])
    #expect(String(decoding: FinanceEncoder.key(whole), as: UTF8.self) == #"s\|\\|EUR|transaction"#)
    let parsed = try #require(try JSONSerialization.jsonObject(with: Data(encoder.encode(whole))) as? [String: Any])
    let weeks = try #require(parsed["weeks"] as? [[String: Any]])
    let sum = try weeks.reduce(Int64(0)) { try $0 + Money(#require($1["expected"] as? String), euro).minorUnits }
    let rest = try ["later", "disputed"].reduce(Int64(0)) {
      try $0 + Money(#require(parsed[$1] as? String), euro).minorUnits
    }
    #expect(weeks.count == 13 && sum + rest == whole.learned.open && whole.learned.open > 0)
    #expect(weeks[0]["from"] as? String == "1970-02-21" && weeks[3]["actual"] is NSNull)

    let ageing = ReceivablesMessage(
      series: series, ageing: Ageing.of(items, at: 50)[0], ratios: CollectionRatios(items, from: 20, to: 50),
      completeness: FlowCompleteness(), status: status)
    var none = ageing
    none.ratios = CollectionRatios(opening: 0, sales: 0, closing: 0, closingCurrent: 0, days: 30)
    try check(TopicSchemas.receivables, [encoder.encode(ageing), encoder.encode(none)])
  }

  @Test func varianceAndQuality() throws {
    var encoder = FinanceEncoder(dimensionNames: [])
    let series = MessageSeries(dimensions: [], currency: euro, isBase: true)
    let variances = [(Int128(100), Int128(90)), (5, 0), (7, 7)].map { actual, budget in
      VarianceMessage(
        series: series, period: 202_401, measure: "bookings",
        variance: Variance(actual: actual, budget: budget, nature: .income),
        parts: PriceVolume(
          actual: Int64(actual), actualQuantity_u: 5, budget: Int64(budget), budgetQuantity_u: budget == 0 ? 0 : 4),
        isFlagged: budget == 0, status: status)
    }
    try check(TopicSchemas.variance, variances.map { encoder.encode($0) })
    #expect(String(decoding: FinanceEncoder.key(variances[0]), as: UTF8.self) == "EUR|base|202401|bookings")
    var counts = QualityCounts()
    (counts[.records], counts[.matched], counts[.late], counts[.duplicates]) = (10, 7, 1, 2)
    (counts[.flagged], counts[.futureDated], counts[.schemaInvalid]) = (3, 4, 1)
    for wait in [1, 2, 3] as [Int64] { counts.addWait(wait) }
    counts.add(QualityAmount(currency: euro, total: 100, matched: 90))
    var control = QualityControl()
    (control.closedOrders, control.tiedOutOrders) = (5, 4)
    control.update(euro) { ($0.closed, $0.tiedOut, $0.open, $0.posted[0]) = (100, 90, 10, -2) }
    control.update(euro) { ($0.aged, $0.openedAt_s) = (10, 10 * 1_699_999_000) }
    var quality = QualityMessage(
      source: "or|ders", period: 202_401, counts: counts, freshnessLag_ms: -5, status: status)
    let full = encoder.encode(quality)
    quality.freshnessLag_ms = nil
    quality.counts = QualityCounts()
    let all = QualityMessage(
      source: QualityKey.allSources, period: QualityKey.allPeriods, counts: QualityCounts(), control: control,
      freshnessLag_ms: nil, status: status)
    try check(TopicSchemas.quality, [full, encoder.encode(quality), encoder.encode(all)])
    #expect(all.weightedBreakAge_ms == 1_000_000)
    #expect(
      String(decoding: encoder.encode(all), as: UTF8.self).contains(
        #""weighted_break_age_ms":1000000,"control_totals":[{"role":"receivable","expected":"0.00","posted":"-0.02","#))
    let text = String(decoding: full, as: UTF8.self)
    for part in [
      #""records":10,"matched":7,"unmatched":1,"match_rate":"0.700000","late":1,"duplicates":2,"superseded":0,"flagged":3,"#,
      #""dead_letters":5,"dead_letters_by_reason":{"schema_invalid":1,"master_data_missing":0,"future_dated":4,"#,
      #""completeness":"0.666667""#, #""time_to_match_ms":{"p50":2,"p95":3,"p99":3}"#, #""period":"202401""#,
      #""amounts":[{"currency":"EUR","total":"1.00","matched":"0.90","match_rate":"0.900000","#,
    ] { #expect(text.contains(part), "\(part)") }
    #expect(String(decoding: FinanceEncoder.key(quality), as: UTF8.self) == #"or\|ders|202401"#)
    // What was counted before counting began may be taken back: no message says less than nothing.
    quality.counts[.matched] = -1
    #expect(String(decoding: encoder.encode(quality), as: UTF8.self).contains(#""matched":0,"unmatched":1,"#))
  }

  @Test func aSchemaThatDoesNotFitIsNoticed() throws {
    var validator = try SchemaValidator(TopicSchemas.totalSchema.json)
    for (message, problem) in [
      (#"{"cell":"a","value":1,"revision":1}"#, "$.tasks: is missing"),
      (#"{"cell":1,"value":1,"tasks":1,"revision":1}"#, "$.cell: is integer, not string"),
      (#"{"cell":"a","value":1.5,"tasks":1,"revision":1}"#, "$.value: is number, not integer"),
      (#"{"cell":"a","value":true,"tasks":1,"revision":1}"#, "$.value: is boolean, not integer"),
      (#"{"cell":"a","value":1,"tasks":-1,"revision":1}"#, "$.tasks: is below 0"),
      (#"{"cell":"a","value":1,"tasks":1,"revision":1,"x":2}"#, "$.x: is not in the schema"),
    ] { #expect(try validator.problems(Array(message.utf8)) == [problem]) }
  }

  // MARK: - Changes

  func problems(_ old: [SchemaField], _ new: [SchemaField]) throws -> [String] {
    func data(_ fields: [SchemaField]) -> Data {
      Data(TopicSchema(name: "t", title: "T", description: "d", fields: fields).json.utf8)
    }
    return try SchemaCompatibility.problems(old: data(old), new: data(new))
  }

  @Test func fieldsMayBeAddedNotRemovedOrRetyped() throws {
    let old = [
      SchemaField("a", .decimal), SchemaField("b", .enumeration(["x", "y"])), SchemaField("c", .integer(minimum: 0)),
      SchemaField("d", .object([SchemaField("e", .string)])), SchemaField("f", .list(.string)),
      SchemaField("g", .map(.time)), SchemaField("h", .text(nullable: true)),
    ]
    func changed(_ at: Int, _ type: SchemaType) -> [SchemaField] {
      var fields = old
      fields[at].type = type
      return fields
    }
    #expect(try problems(old, old).isEmpty)
    #expect(try problems(old, old + [SchemaField("z", .string, "new")]).isEmpty)
    #expect(try problems(old, changed(1, .enumeration(["x", "y", "z"]))).isEmpty)
    #expect(
      try problems(old, changed(3, .object([SchemaField("e", .string), SchemaField("e2", .string)]))).isEmpty)
    #expect(try problems(old, changed(7 - 1, .string)).isEmpty)  // null no longer comes: that bothers nobody
    #expect(try problems(old, Array(old.dropFirst())) == ["$.a: is no longer always there", "$.a: was removed"])
    #expect(try problems(old, changed(0, .optionalDecimal)) == ["$.a: was string, is null or string"])
    #expect(try problems(old, changed(0, .integer())).contains("$.a: was string, is integer"))
    #expect(try problems(old, changed(0, .string)) == [#"$.a: pattern was ^-?[0-9]+(\.[0-9]+)?$, is any"#])
    #expect(try problems(old, changed(1, .enumeration(["x"]))) == ["$.b: no longer one of y"])
    #expect(try problems(old, changed(1, .string)) == ["$.b: no longer one of x, y"])
    #expect(try problems(old, changed(2, .integer(minimum: 1))) == ["$.c: the minimum was 0, is 1"])
    #expect(try problems(old, changed(3, .object([]))).count == 2)
    #expect(try problems(old, changed(4, .list(.integer()))) == ["$.f[]: was string, is integer"])
    #expect(try problems(old, changed(5, .map(.date))) == ["$.g.*: format was date-time, is date"])
    var optional = old
    optional[0].isRequired = false
    #expect(try problems(old, optional) == ["$.a: is no longer always there"])
    #expect(throws: SchemaCompatibility.SchemaError.self) {
      _ = try SchemaCompatibility.problems(old: Data("[]".utf8), new: Data("{}".utf8))
    }
  }

  @Test func foldersAreCompared() throws {
    let base = NSTemporaryDirectory() + "tieout-schemas-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: base) }
    for (folder, schemas) in [
      ("old", [TopicSchemas.totalSchema, TopicSchemas.quality]), ("new", [TopicSchemas.quality]),
    ] {
      try FileManager.default.createDirectory(atPath: "\(base)/\(folder)", withIntermediateDirectories: true)
      for schema in schemas {
        try schema.json.write(
          toFile: "\(base)/\(folder)/\(schema.name).schema.json", atomically: true, encoding: .utf8)
      }
    }
    #expect(
      try SchemaCompatibility.problems(oldDirectory: base + "/old", newDirectory: base + "/new")
        == ["total.schema.json: was removed"])
    // The committed schemas are compatible with themselves, and one is there for every topic.
    let committed = EncoderTests.root + "/config/schemas"
    #expect(try SchemaCompatibility.problems(oldDirectory: committed, newDirectory: committed).isEmpty)
    for (folder, ending, count) in [
      ("", ".schema.json", TopicSchemas.all.count + TopicSchemas.decided.count),
      ("/avro", ".avsc", TopicSchemas.all.count),
    ] {
      let files = try FileManager.default.contentsOfDirectory(atPath: committed + folder)
      #expect(files.count { $0.hasSuffix(ending) } == count)
    }
  }
}
