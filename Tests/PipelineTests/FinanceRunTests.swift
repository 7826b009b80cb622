import Aggregates
import Configuration
import Domain
import Foundation
import Testing

@testable import Pipeline

/// Fiscal periods, base amounts, quantities and cash application from files of a configuration to the breaks and figures.
@Suite struct FinanceRunTests {
  static let yaml = """
    name: finance
    dimensions: [company]
    aggregates: {enabled: true}
    calendar: {file: periods.csv}
    fx: {base: EUR, rates: rates.csv}
    sources:
      orders:
        kind: orders
        fields: {order: o, event: e, event_time: t, event_id: i, document: d, currency: c, net: n, gross: n, applied: p,
          quantity: q}
        dimensions: {company: co}
      ledger:
        kind: ledger
        fields: {order: o, role: r, currency: c, event_time: t, posting_date: pd, journal: j, document: d, quantity: q,
          base_amount: {path: b, decimal: {separator: ","}}, line_id: {concat: [j, {constant: "-"}, r]}}
        amount: a
        dimensions: {company: co}
    matching: {entity: company, cash_application: true, late_after_days: 60, early_before_days: 60}
    """

  func order(_ key: String, _ kind: String, _ more: String, on day: String = "2026-03-10") -> String {
    #"{"o":"\#(key)","e":"\#(kind)","i":"\#(key)-\#(kind)","t":"\#(day)T08:00:00Z","d":"\#(key)-\#(kind)","c":"USD","#
      + #""co":"DE01",\#(more)}"#
  }

  func lines(
    _ key: String, _ document: String, _ amounts: [(role: String, amount: String, more: String)],
    on day: String = "2026-03-10", company: String = "DE01"
  ) -> [String] {
    amounts.map {
      #"{"o":"\#(key)","r":"\#($0.role)","c":"USD","t":"\#(day)T09:00:00Z","pd":"\#(day)","j":"J\#(key)\#(document)","#
        + #""d":"\#(key)-\#(document)","co":"\#(company)","a":\#($0.amount)\#($0.more)}"#
    }
  }

  func run(_ orders: [String], _ ledger: [String], threads: Int) throws -> (types: [String], revenue: [String: Any]) {
    let directory = NSTemporaryDirectory() + "tieout-finance-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: directory) }
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    for (name, text) in [
      "periods.csv":
        "period,start,end,state,closed_at\n2026-01,2026-02-02,2026-03-01,closed,2026-03-03\n2026-02,2026-03-02,2026-03-29,,\n",
      "rates.csv": "date,from,to,rate\n2026-03-09,USD,EUR,0.925\n2026-02-24,USD,EUR,0.9\n",
      "o.jsonl": orders.joined(separator: "\n"), "l.jsonl": ledger.joined(separator: "\n"),
    ] { try text.write(toFile: directory + "/" + name, atomically: true, encoding: .utf8) }
    let configuration = try Configuration.parse(yaml: Self.yaml, file: "f.yaml", directory: directory)
    let summary = try FileReconciler(
      configuration: configuration,
      options: FileRunOptions(
        orders: [directory + "/o.jsonl"], ledger: [directory + "/l.jsonl"], directory: directory + "/out",
        threads: threads, now_ms: 1_790_000_000_000, asOf_ms: nil)
    ).run()
    #expect(summary.deadLetters == [:])
    for line in summary.totals.lines { #expect(line.pending == 0, "\(line)") }
    var validator = try SchemaValidator(TopicSchemas.breaks)
    var types: [String] = []
    for line in try String(contentsOfFile: directory + "/out/breaks.jsonl", encoding: .utf8).split(separator: "\n") {
      #expect(try validator.problems(Array(line.utf8)).isEmpty)
      types.append(try JSONDecoder().decode(BreakMessage.self, from: Data(line.utf8)).id)
    }
    var revenue: [String: Any] = [:]
    for line in try String(contentsOfFile: directory + "/out/revenue.jsonl", encoding: .utf8).split(separator: "\n") {
      let message = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
      // Complete up to the latest event of all sources.
      let latest = (message["watermarks"] as? [String: String])?.values.max()
      #expect(latest != nil && message["as_of"] as? String == latest)
      guard (message["dimensions"] as? [String: String])?["company"] == "DE01" else { continue }
      let key = ["view", "currency", "period"].map { message[$0] as? String ?? "" }.joined(separator: " ")
      revenue[key] = (message["orders"] as? [String: String])?["billed_gross"]
    }
    return (types.sorted(), revenue)
  }

  @Test(arguments: [1, 3]) func everythingIsReadAndJudged(threads: Int) throws {
    let right: [(role: String, amount: String, more: String)] = [
      ("receivable", "100.00", #","b":"92,50""#), ("revenue", "-100.00", #","b":"92,50","q":10"#),
    ]
    let sale = #""n":100.00,"q":10"#
    var orders = ["TIED", "PRICE", "FX", "ENTITY"].map { order($0, "invoiced", sale) }
    orders.append(order("CLOSED", "invoiced", sale, on: "2026-03-01"))
    orders += [order("PAID", "invoiced", sale), order("PAID", "paid", #""p":100.00"#)]
    orders += [order("NONE", "paid", #""p":5.00"#)]
    var ledger = lines("TIED", "invoiced", right) + lines("ENTITY", "invoiced", right, company: "FR01")
    ledger += lines(
      "PRICE", "invoiced", [("receivable", "110.00", ""), ("revenue", "-110.00", #","q":10"#)])
    ledger += lines("FX", "invoiced", [("receivable", "100.00", #","b":"93,50""#), right[1]])
    // Entered on 2026-03-04 into the period that was closed the day before.
    ledger += lines("CLOSED", "invoiced", [("receivable", "100.00", ""), ("revenue", "-100.00", "")], on: "2026-03-01")
      .map { $0.replacing("2026-03-01T09", with: "2026-03-04T09") }
    ledger += lines("PAID", "invoiced", right)
    ledger += lines("PAID", "paid", [("cash", "90.00", ""), ("receivable", "-90.00", "")])
    ledger += lines("NONE", "paid", [("cash", "5.00", ""), ("receivable", "-5.00", "")])
    ledger += lines("STRAY", "paid", [("cash", "7.00", ""), ("clearing", "-7.00", "")])
    let (types, revenue) = try run(orders, ledger, threads: threads)
    #expect(
      types == [
        "CLOSED:CLOSED_PERIOD:revenue", "ENTITY:WRONG_ENTITY:receivable", "FX:FX_DIFFERENCE:receivable:EUR",
        "NONE:PAID_NOT_BILLED:cash", "PAID:SHORT_PAY:cash", "PRICE:PRICE_MISMATCH:revenue",
        "STRAY:UNKNOWN_REFERENCE:cash",
      ])
    // By fiscal period, in the transaction currency and in the base currency: five invoices, and one at another rate.
    #expect(revenue["transaction USD 202602"] as? String == "500.00")
    #expect(revenue["base EUR 202602"] as? String == "462.50")
    #expect(revenue["transaction USD 202601"] as? String == "100.00")
    #expect(revenue["base EUR 202601"] as? String == "90.00")
  }
}
