import ConsoleStore
import Foundation
import HTTPTypes
import NIOCore
import Pipeline
import Testing

@testable import Console

@Suite(.serialized) struct BreakTests {
  private func some() -> [TestBreak] {
    (0..<30).map { number in
      TestBreak(
        order: "SO-\(number)", type: number % 3 == 0 ? "MISSING_ORDER" : "AMOUNT_MISMATCH",
        delta: "-\(number).50", state: number % 5 == 0 ? "closed" : "open",
        severity: number % 2 == 0 ? "high" : "low", country: number % 2 == 0 ? "NO" : "DE",
        customer: number == 7 ? "=cmd|'/C calc'!A0" : "C, \"\(number)\"")
    }
  }

  @Test func listsFiltersAndPages() async throws {
    let test = try TestConsole()
    try test.add(some())
    try await test.run { client in
      func orders(_ query: String) async throws -> [String] {
        let answer = try await client.get("/v1/breaks?\(query)")
        #expect(answer.status == 200, "\(query): \(answer.body)")
        return answer.items.compactMap { $0["order"]?.stringValue }
      }
      #expect(try await orders("limit=2") == ["SO-29", "SO-28"], "largest first")
      #expect(
        try await orders("state=open&type=MISSING_ORDER&min_amount=20&sort=amount") == ["SO-21", "SO-24", "SO-27"])
      #expect(
        try await orders("severity=high&dimension.country=NO,DE&max_amount=4.50&sort=amount") == [
          "SO-0", "SO-2", "SO-4",
        ])
      #expect(try await orders("q=so+17") == ["SO-17"])
      #expect(try await orders("customer=C%2C%20%223%22").isEmpty, "a comma separates")
      #expect(try await orders("age=30%2B&limit=500").count == 30)
      #expect(try await orders("age=0-1").isEmpty)
      var pages: [String] = []
      var cursor = ""
      repeat {
        let answer = try await client.get(
          "/v1/breaks?limit=7&sort=-updated" + (cursor.isEmpty ? "" : "&cursor=\(cursor)"))
        pages += answer.items.compactMap { $0["id"]?.stringValue }
        cursor = answer.json["next"]?.stringValue ?? ""
      } while !cursor.isEmpty && pages.count < 100
      #expect(pages.count == 30)
      #expect(Set(pages).count == 30)
    }
  }

  @Test(arguments: [
    "limit=0", "limit=501", "limit=x", "limit=1&limit=2", "sort=name", "sort=1;DROP TABLE breaks", "state=gone",
    "type=X'%20OR%201=1%20--", "cursor=nonsense", "cursor=MXwtYW1vdW50fDF8MQ&sort=age", "colour=red",
    "min_amount=1e9", "min_amount=-1", "min_amount=1%27", "q=", "q=%00", "q=%ff", "dimension.planet=x", "age=old",
    "pending_approval=maybe", "type=" + String(repeating: "PARTIAL,", count: 101) + "PARTIAL",
  ])
  func whatIsNotUnderstoodIsRefused(query: String) async throws {
    try await Self.shared.run { client in
      let answer = try await client.get("/v1/breaks?" + query.replacing(" ", with: "%20"))
      #expect(answer.status == 400, "\(query): \(answer.status)")
      #expect(answer.headers[.contentType] == "application/problem+json")
    }
  }

  static let shared = try! TestConsole()

  @Test func hostileTextsAreOnlyTexts() async throws {
    let test = try TestConsole()
    try test.add([TestBreak()])
    try await test.run { client in
      for text in [
        "' OR '1'='1", "\"; DROP TABLE breaks; --", "SO* NEAR(", "a\" OR b", "${jndi:ldap://x}", "%25", "\u{202e}x",
      ] {
        let encoded = text.addingPercentEncoding(withAllowedCharacters: .alphanumerics)!
        for name in ["q", "customer", "order", "assignee", "currency", "dimension.country"] {
          let answer = try await client.get("/v1/breaks?\(name)=\(encoded)")
          #expect(answer.status == 200 && answer.items.isEmpty, "\(name)=\(text): \(answer.status)")
        }
        #expect(try await client.get("/v1/breaks/\(encoded)").status == 404)
        #expect(try await client.get("/v1/orders/\(encoded)").status == 404)
      }
      #expect(try await client.get("/v1/breaks").items.count == 1)
    }
  }

  @Test func exportsAreWholeAndHarmless() async throws {
    let test = try TestConsole()
    try test.add(some())
    try await test.run { client in
      let csv = try await client.get("/v1/export/breaks?format=csv&state=open")
      #expect(csv.headers[.contentType] == "text/csv; charset=utf-8")
      let lines = csv.body.split(separator: "\r\n")
      #expect(lines.count == 25)
      #expect(lines[0].hasPrefix("id,order,type,role,currency,expected,posted,delta,"))
      #expect(lines[0].hasSuffix(",country,channel"))
      #expect(csv.body.contains(",\"C, \"\"29\"\"\","), "quoted")
      #expect(csv.body.contains(",'=cmd|"), "no formula reaches a spreadsheet")
      #expect(csv.body.contains(",-29.50,"), "an amount stays one")
      let rows = try await client.get("/v1/export/breaks?format=jsonl")
      #expect(rows.body.split(separator: "\n").count == 30)
    }
  }

  @Test func oneBreakAndOneOrder() async throws {
    let test = try TestConsole()
    var made = TestBreak(order: "SO/7 ü", delta: "-10.00")
    try test.add([made])
    made.revision = 2
    made.state = "accepted"
    try test.add([made])
    let id = made.id.addingPercentEncoding(withAllowedCharacters: .alphanumerics)!
    try await test.run { client in
      let detail = try await client.get("/v1/breaks/\(id)")
      #expect(detail.status == 200)
      #expect(detail.json["history"]?.arrayValue?.map { $0["state"]?.stringValue } == ["open", "accepted"])
      #expect(detail.json["message"]?["evidence"]?["journals"]?.arrayValue?.first?.stringValue == "JE-7")
      let order = try await client.get("/v1/orders/SO%2F7%20%C3%BC")
      #expect(order.status == 200)
      #expect(
        order.json["roles"]?.arrayValue?.map { "\($0["role"]!.stringValue!) \($0["status"]!.stringValue!)" }
          == ["receivable differs", "revenue not_posted", "tax ties"])
      #expect(order.json["missing"]?.arrayValue?.count == 2)
      #expect(
        order.json["missing"]?.arrayValue?.last?.stringValue
          == "revenue: -80.00 EUR is expected and nothing is posted")
      #expect(order.json["is_tied_out"]?.boolValue == true, "its only break is accepted")
    }
  }

  @Test func anOrderIsExplainedWithItsRecords() async throws {
    let test = try TestConsole(serve: "  records: true\n")
    let (orders, ledger) = (test.configuration.sources[0].topic, test.configuration.sources[1].topic)
    try test.cluster.produce(
      orders,
      [(key: "SO-1", value: #"{"id":"SO-1"}"#, partition: 0), (key: "SO-9", value: #"{"id":"SO-9"}"#, partition: 1)])
    try test.cluster.produce(ledger, [(key: "SO-1", value: #"{"order":"SO-1","hurt":"</script>"}"#, partition: 0)])
    let until = Date().addingTimeInterval(30)
    while test.projector.status.records < 3, Date() < until { try await Task.sleep(for: .milliseconds(20)) }
    try test.add([TestBreak(order: "SO-1"), TestBreak(order: "SO-2", country: "DE")])
    try await test.run { client in
      let one = try await client.get("/v1/orders/SO-1")
      #expect(one.json["is_tied_out"]?.boolValue == false)
      let records = one.json["records"]?.arrayValue ?? []
      #expect(Set(records.map { $0["source"]?.stringValue }) == ["orders", "ledger"])
      #expect(Set(records.map { $0["kind"]?.stringValue }) == ["orders", "ledger"])
      #expect(records.contains { $0["text"]?.stringValue == #"{"order":"SO-1","hurt":"</script>"}"# })
      // No break, and yet known.
      let quiet = try await client.get("/v1/orders/SO-9")
      #expect(quiet.json["is_tied_out"]?.boolValue == true)
      #expect(quiet.json["records"]?.arrayValue?.count == 1 && quiet.json["breaks"]?.arrayValue?.isEmpty == true)
      #expect(try await client.get("/v1/orders/SO-2").json["records"]?.arrayValue?.isEmpty == true)
      #expect(try await client.get("/v1/orders/SO-3").status == 404)
      // Whoever sees some rows only sees records where a break is shown.
      #expect(try await client.get("/v1/orders/SO-1", as: "norway").json["records"]?.arrayValue?.count == 2)
      #expect(try await client.get("/v1/orders/SO-9", as: "norway").status == 404)
      #expect(try await client.get("/v1/orders/SO-2", as: "norway").status == 404)
    }
  }

  @Test func aPageIsKeptUntilABreakChanges() async throws {
    let test = try TestConsole()
    try test.add([TestBreak(order: "SO-1"), TestBreak(order: "SO-2", country: "DE")])
    try await test.run { client in
      func orders(_ name: String) async throws -> [String?] {
        try await client.get("/v1/breaks?sort=updated", as: name).items.map { $0["order"]?.stringValue }
      }
      let version = test.projector.status.version
      func isKept(_ scope: RowScope) -> Bool {
        test.console.pages.page(
          .init(query: "sort=updated", scope: scope, day: wallClock_ms() / 86_400_000), version: version) != nil
      }
      #expect(!isKept(RowScope()))
      for _ in 0..<2 { #expect(Set(try await orders("viewer")) == ["SO-1", "SO-2"]) }
      #expect(isKept(RowScope()))
      #expect(!isKept(RowScope(["country": ["NO"]])), "what others may see is no page of theirs")
      for _ in 0..<2 { #expect(try await orders("norway") == ["SO-1"]) }
      #expect(isKept(RowScope(["country": ["NO"]])))
      try test.add([TestBreak(order: "SO-3")])
      #expect(test.projector.status.version > version)
      #expect(Set(try await orders("viewer")) == ["SO-1", "SO-2", "SO-3"])
    }
  }

  @Test func pagesThatAreKeptAreBounded() {
    let cache = PageCache()
    let page = ByteBuffer(bytes: [UInt8](repeating: 0, count: 1 << 20))
    func key(_ number: Int) -> PageCache.Key { .init(query: "\(number)", scope: RowScope(), day: 0) }
    for number in 0..<32 { cache.keep(page, key(number), version: 3) }
    #expect((0..<32).allSatisfy { cache.page(key($0), version: 3) != nil })
    cache.keep(page, key(32), version: 3)
    #expect(cache.page(key(0), version: 3) == nil && cache.page(key(32), version: 3) != nil)
    // One that was read before a change comes too late.
    cache.keep(page, key(40), version: 4)
    cache.keep(page, key(41), version: 3)
    #expect(cache.page(key(41), version: 3) == nil && cache.page(key(40), version: 4) != nil)
    #expect(cache.page(key(40), version: 5) == nil)
  }

  @Test func sumsAreCachedAndRight() async throws {
    let test = try TestConsole()
    try test.add(some())
    try await test.run { client in
      let summary = try await client.get("/v1/summary")
      #expect(summary.json["open"]?.numberValue == 24)
      let rows = summary.json["rows"]?.arrayValue ?? []
      #expect(rows.reduce(0) { $0 + ($1["count"]?.numberValue ?? 0) } == 24)
      let metrics = try await client.get("/metrics")
      #expect(metrics.body.contains("tieout_open_breaks{type=\"AMOUNT_MISMATCH\"} 16"))
      #expect(metrics.body.contains("tieout_open_breaks{type=\"MISSING_ORDER\"} 8"))
    }
  }

  @Test func catalogueAndSources() async throws {
    let test = try TestConsole()
    try await test.run { client in
      let catalogue = try await client.get("/v1/catalogue")
      let fields = catalogue.json["sources"]?.arrayValue?.first?["fields"]?.arrayValue ?? []
      #expect(fields.contains { $0["canonical"]?.stringValue == "event_time" && $0["from"]?.stringValue == "at" })
      #expect(fields.contains { $0["canonical"]?.stringValue == "event" && $0["from"]?.stringValue == "'invoiced'" })
      let sources = try await client.get("/v1/sources")
      #expect(sources.items.map { $0["name"]?.stringValue } == ["orders", "ledger"])
      let aggregates = try await client.get("/v1/aggregates")
      #expect(aggregates.items.first?["is_present"]?.boolValue == false)
      #expect(try await client.get("/v1/aggregates/nothing").status == 404)
      #expect(try await client.get("/v1/totals/series").status == 400)
    }
  }

  @Test func totalsAsSeries() async throws {
    let test = try TestConsole()
    try test.cluster.produce(
      test.configuration.totalsTopic,
      [(key: "open_breaks:PARTIAL", value: #"{"cell":"open_breaks:PARTIAL","value":3,"tasks":1}"#, partition: 0)])
    try test.add([TestBreak()])
    try await test.run { client in
      let totals = try await client.get("/v1/totals?prefix=open_")
      #expect(totals.items.first?["value"]?["value"]?.numberValue == 3)
      let series = try await client.get("/v1/totals/series?cell=open_breaks:PARTIAL&minutes=60")
      #expect(series.json["points"]?.arrayValue?.count == 1)
    }
  }
}
