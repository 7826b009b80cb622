import ConsoleStore
import Foundation
import Pipeline
import Testing

@Suite struct StoreTests {
  @Test(arguments: StoreKind.here) func theHighestRevisionStays(kind: StoreKind) async throws {
    let temporary = try TemporaryStore(kind)
    let store = temporary.store
    var made = TestBreak()
    _ = try store.apply([made.record(0)], now_ms: 1)
    made.revision = 3
    made.state = "auto_cleared"
    _ = try store.apply([made.record(1)], now_ms: 2)
    var old = made
    old.revision = 2
    old.state = "open"
    let change = try store.apply([old.record(2), made.record(3)], now_ms: 3)
    #expect(change.breaks == 0, "an older revision and a repetition change nothing")
    let detail = try #require(try await store.detail(id: made.id, scope: RowScope()))
    #expect(detail.state == "auto_cleared")
    #expect(detail.revisions.map(\.revision) == [1, 3])
    #expect(detail.revisions.map(\.state) == ["open", "auto_cleared"])
    #expect(try store.positions() == [StorePlace("t.breaks", 0): 4])
  }

  @Test(arguments: StoreKind.here) func aRecordThatIsNoneIsToldAndStopsNothing(kind: StoreKind) async throws {
    let temporary = try TemporaryStore(kind)
    let store = temporary.store
    var bad = TestBreak().record(0)
    bad.value = Array(#"{"id":"x"}"#.utf8)
    var worse = TestBreak().record(1)
    worse.value = [0xff, 0x00, 0x7b]
    let change = try store.apply([bad, worse, TestBreak().record(2)], now_ms: 1)
    #expect(change.breaks == 1)
    #expect(change.faultCount == 2)
    #expect(change.faults.first?.contains("topic t.breaks, partition 0, offset 0: 'order' is missing") == true)
    #expect(try store.positions()[StorePlace("t.breaks", 0)] == 3)
  }

  @Test(arguments: StoreKind.here) func aTombstoneRemovesABreak(kind: StoreKind) async throws {
    let temporary = try TemporaryStore(kind)
    let store = temporary.store
    var gone = TestBreak().record(1)
    gone.value = nil
    _ = try store.apply([TestBreak().record(0), gone], now_ms: 1)
    #expect(try await store.detail(id: TestBreak().id, scope: RowScope()) == nil)
    #expect(try await store.breaks(search("JE"), scope: RowScope(), sort: .amount, after: nil, limit: 5).rows.isEmpty)
  }

  private func search(_ text: String) -> BreakFilter {
    var filter = BreakFilter()
    filter.text = text
    return filter
  }

  @Test(
    arguments: StoreKind.here,
    [
      "SO-77", "so-77", "so", "E-SO-77", "cust", "JE-9", "77:AMOUNT", "web' OR 1=1 --", "\"", "*", "' \"",
    ]) func textsAreFoundByTheBeginningsOfTheirWords(kind: StoreKind, text: String) async throws
  {
    let temporary = try TemporaryStore(kind)
    var made = TestBreak()
    made.order = "SO-77"
    made.customer = "customer5"
    made.journals = ["JE-9001"]
    var other = TestBreak()
    other.order = "XX-1"
    other.journals = []
    _ = try temporary.store.apply([made.record(0), other.record(1)], now_ms: 1)
    let page = try await temporary.store.breaks(
      search(text), scope: RowScope(), sort: .updated, after: nil, limit: 10)
    let isHostile = text.contains("'") || text == "\"" || text == "*"
    #expect(page.rows.count == (isHostile ? 0 : 1), "\(text)")
  }

  @Test(arguments: StoreKind.here) func documentsThatComeLaterAreFound(kind: StoreKind) async throws {
    let temporary = try TemporaryStore(kind)
    var made = TestBreak()
    made.journals = []
    _ = try temporary.store.apply([made.record(0)], now_ms: 1)
    made.revision = 2
    made.journals = ["LATE-1"]
    _ = try temporary.store.apply([made.record(1)], now_ms: 1)
    let page = try await temporary.store.breaks(
      search("late-1"), scope: RowScope(), sort: .updated, after: nil, limit: 10)
    #expect(page.rows.count == 1)
  }

  @Test(arguments: StoreKind.here) func anotherLayoutOfDimensionsEmptiesTheStore(kind: StoreKind) async throws {
    var temporary: TemporaryStore? = try TemporaryStore(kind)
    let (directory, schema) = (temporary!.directory, temporary!.schema)
    defer { try? FileManager.default.removeItem(atPath: directory) }
    func open(_ dimensions: [String]) throws -> any ConsoleStore {
      try TemporaryStore.open(kind, directory, schema, dimensions)
    }
    _ = try temporary!.store.apply([TestBreak().record(0)], now_ms: 1)
    let generation = try temporary!.store.generation
    var same: (any ConsoleStore)? = try open(["country", "channel"])
    #expect(try same!.generation == generation)
    #expect(try same!.positions().count == 1)
    if kind == .postgres {
      #expect(throws: StoreError.self, "somebody is at work with it") { try open(["country"]) }
      #expect(try same!.positions().count == 1)
    }
    // A file goes with its owner; a schema must be left by all.
    if kind == .postgres { (same, temporary) = (nil, nil) }
    let changed = try open(["country"])
    #expect(try changed.generation != generation)
    #expect(try changed.positions().isEmpty)
    #expect(try await changed.sequence() == 0)
    withExtendedLifetime(temporary) {}
  }

  @Test(arguments: StoreKind.here) func recordsOfTheSourcesAreKeptByOrder(kind: StoreKind) async throws {
    let temporary = try TemporaryStore(kind)
    let day: Int64 = 86_400_000
    let now = 1_000 * day
    func make(_ topic: String, _ offset: Int64, _ order: String?, _ value: String?, at_ms: Int64) -> StoreRecord {
      StoreRecord(
        kind: .records, place: StorePlace(topic, 1), offset: offset, timestamp_ms: at_ms,
        key: order.map { Array($0.utf8) },
        value: value.map { Array($0.utf8) })
    }
    let long = String(repeating: "x", count: SourceRecord.maximumBytes + 100)
    let records = [
      make("t.ledger", 0, "SO-1", "posting", at_ms: now - 2), make("t.orders", 0, "SO-1", "event", at_ms: now - 3),
      make("t.orders", 1, "SO-2", long, at_ms: now - 3), make("t.orders", 2, nil, "no key", at_ms: now),
      make("t.orders", 3, "SO-1", nil, at_ms: now), make("t.orders", 4, "SO-3", "old", at_ms: now - 91 * day),
      make("t.orders", 5, "SO-4", "soon old", at_ms: now - 89 * day),
    ]
    for _ in 0..<2 { #expect(try temporary.store.apply(records, now_ms: now).faultCount == 0) }
    let found = try await temporary.store.records(order: "SO-1", limit: 10)
    #expect(found.map(\.body) == ["event", "posting"])
    #expect(found.map(\.topic) == ["t.orders", "t.ledger"] && found.map(\.partition) == [1, 1])
    #expect(try await temporary.store.records(order: "SO-1", limit: 1).count == 1)
    #expect(
      try await temporary.store.records(order: "SO-2", limit: 9).map(\.body.utf8.count) == [SourceRecord.maximumBytes])
    #expect(try await temporary.store.records(order: "SO-3", limit: 9).isEmpty)
    #expect(try await temporary.store.records(order: "SO-4", limit: 9).count == 1)
    // They go when their time has come, with the next that is kept.
    let later = now + 2 * day
    _ = try temporary.store.apply([make("t.orders", 6, "SO-5", "new", at_ms: later)], now_ms: later)
    #expect(try await temporary.store.records(order: "SO-4", limit: 9).isEmpty)
    #expect(try await temporary.store.records(order: "SO-5", limit: 9).count == 1)
    #expect(try temporary.store.positions()[StorePlace("t.orders", 1)] == 7)
  }

  @Test(arguments: StoreKind.here) func deadLettersAndCells(kind: StoreKind) async throws {
    let temporary = try TemporaryStore(kind)
    let store = temporary.store
    func make(_ kind: StoreTopicKind, _ topic: String, _ offset: Int64, _ key: String, _ value: String) -> StoreRecord {
      StoreRecord(
        kind: kind, place: StorePlace(topic, 0), offset: offset, timestamp_ms: 60_000 * offset + 5,
        key: Array(key.utf8), value: Array(value.utf8))
    }
    let letters = (0..<5).map {
      make(.deadLetters, "t.dead", $0, "k", #"{"source":"s\#($0 % 2)","reason":"SCHEMA_INVALID","n":\#($0)}"#)
    }
    _ = try store.apply(letters + letters, now_ms: 1)
    let found = try await store.deadLetters(source: "s0", reason: nil, before: nil, limit: 2)
    #expect(found.map { field($0.body, "n") } == ["4", "2"])
    let rest = try await store.deadLetters(source: "s0", reason: nil, before: found.last?.number, limit: 2)
    #expect(rest.map { field($0.body, "n") } == ["0"])
    _ = try store.apply(
      (0..<3).map { make(.cells, "t.totals", $0, "open_breaks:PARTIAL", #"{"value":\#($0)}"#) }, now_ms: 1)
    let cells = try await store.cells(topic: "t.totals", prefix: "open_", after: nil, limit: 10)
    #expect(cells.map(\.body) == [#"{"value":2}"#])
    let series = try await store.series(topic: "t.totals", key: "open_breaks:PARTIAL", from_ms: 60_000, limit: 10)
    #expect(series.map(\.body) == [#"{"value":1}"#, #"{"value":2}"#])
    #expect(series.map(\.at_ms) == [60_000, 120_000])
  }
}

@Suite struct AmountTests {
  @Test(arguments: [
    ("-10.00", 10_000_000), ("0.001", 1_000), ("12345678901.99", 12_345_678_901_990_000),
    ("999999999999999", Int64.max),
    ("7", 7_000_000),
  ])
  func inMillionths(text: String, micros: Int64) throws {
    var made = TestBreak()
    made.delta = text
    #expect(try JSONDecoder().decode(BreakDocument.self, from: Data(made.json.utf8)).amount_u == micros)
  }

  /// Breaks of an order each count with the part of the difference that they explain.
  @Test(arguments: [
    ("AMOUNT_MISMATCH", "-4.00" as String?, "-10.00" as String?, Int64(4_000_000)),
    ("CUTOFF", "100.00", "-10.00", 0),
    ("WRONG_CUSTOMER", nil, "-10.00", 0), ("FX_DIFFERENCE", nil, "-10.00", 10_000_000),
    ("CURRENCY_MISMATCH", "-100.00", nil, 100_000_000),
  ])
  func whatTheBreakExplains(type: String, affected: String?, delta: String?, micros: Int64) throws {
    var json = #"{"id":"A:\#(type):receivable","order":"A","type":"\#(type)","role":"receivable","currency":"EUR","#
    if let affected { json += #""affected":"\#(affected)","# }
    json += delta.map { #""delta":"\#($0)","# } ?? #""delta":null,"#
    json += #""expected":"100.00","posted":"90.00","state":"open","provisional":false,"revision":1,"hints":[],"#
    json += #""severity":"low","customer":"","dimensions":{},"reason":"","evidence":{}}"#
    #expect(try JSONDecoder().decode(BreakDocument.self, from: Data(json.utf8)).amount_u == micros)
  }

  @Test func ofTwoCurrenciesTheLargerSide() throws {
    var made = TestBreak()
    made.delta = nil
    made.expected = "50.00"
    made.posted = "-70.50"
    #expect(try JSONDecoder().decode(BreakDocument.self, from: Data(made.json.utf8)).amount_u == 70_500_000)
  }

  @Test(arguments: [
    ("2025-01-01T00:01:29.000Z", 1_735_689_689_000 as Int64?), ("1970-01-01T00:00:00.000Z", 0),
    ("2025-01-01T00:01:29Z", 1_735_689_689_000), ("2025-13-01T00:00:00.000Z", nil), ("yesterday", nil),
  ])
  func times(text: String, ms: Int64?) { #expect(parseTimestamp_ms(text) == ms) }

  @Test func ageBucketsMeetWithoutAGap() {
    let now: Int64 = 1_750_000_000_123
    for age: Int64 in [0, 1, 86_400_000, 172_799_999, 172_800_000, 345_600_000, 691_200_000, 1_296_000_000, 9e9].map({
      Int64($0)
    }) {
      let index = AgeBucket.index(opened_ms: now - age, now_ms: now)
      for bucket in AgeBucket.names.indices {
        let (from, before) = AgeBucket.range(bucket, now_ms: now)
        let isIn = (from.map { now - age >= $0 } ?? true) && (before.map { now - age < $0 } ?? true)
        #expect(isIn == (bucket == index), "age \(age) bucket \(bucket)")
      }
    }
  }

  @Test func agesAreCalendarDays() {
    func index(_ opened: String, _ now: String) -> Int {
      AgeBucket.index(opened_ms: parseTimestamp_ms(opened)!, now_ms: parseTimestamp_ms(now)!)
    }
    #expect(index("2025-03-01T23:59:59.999Z", "2025-03-02T00:00:00.000Z") == 0)
    #expect(index("2025-03-01T23:59:59.999Z", "2025-03-02T23:59:59.999Z") == 0)
    #expect(index("2025-03-01T23:59:59.999Z", "2025-03-03T00:00:00.000Z") == 1)
    #expect(index("2025-03-01T00:00:00.000Z", "2025-03-31T23:59:59.999Z") == 4)
    #expect(index("2025-03-01T23:59:59.999Z", "2025-04-01T00:00:00.000Z") == 5)
    #expect(index("2025-03-02T00:00:00.000Z", "2025-03-01T00:00:00.000Z") == 0, "a clock that is behind")
  }
}
