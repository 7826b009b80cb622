import Configuration
import Domain
import Foundation
import Testing

@testable import Pipeline

/// The example of a whole finance setup, with the records that lie beside it.
@Suite struct FinanceExampleTests {
  static let examples = EncoderTests.root + "/config/examples"

  @Test func theSampleShowsWhatTheSetupFinds() throws {
    let configuration = try Configuration.load(path: Self.examples + "/finance.yaml")
    let out = NSTemporaryDirectory() + "tieout-finance-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: out) }
    let summary = try FileReconciler(
      configuration: configuration,
      options: FileRunOptions(
        orders: [Self.examples + "/finance/orders.jsonl"], ledger: [Self.examples + "/finance/ledger.csv"],
        directory: out, threads: 2, now_ms: 1_790_000_000_000, asOf_ms: nil)
    ).run()
    for line in summary.totals.lines { #expect(line.pending == 0, "\(line)") }
    #expect(summary.deadLetters.values.reduce(0, +) == 1)
    func lines(_ name: String) throws -> [[String: Any]] {
      try String(contentsOfFile: out + "/" + name, encoding: .utf8).split(separator: "\n").map {
        try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
      }
    }
    let letters = try lines("dead-letters.jsonl")
    #expect(letters.map { $0["reason"] as? String } == ["MASTER_DATA_MISSING"])
    #expect(letters[0]["line"] as? Int == 8 && (letters[0]["detail"] as? String)?.contains("C-9999") == true)
    let breaks = try lines("breaks.jsonl").map { ($0["id"] as! String).split(separator: ":=")[0] }
    #expect(
      breaks.sorted() == [
        "S-2:FREIGHT_MISMATCH:freight", "S-4:CLOSED_PERIOD:revenue", "S-4:CUTOFF:revenue",
        "S-4:DATA_QUALITY:receivable", "S-5:DATA_QUALITY:receivable", "S-5:MISSING_IN_LEDGER:receivable",
        "S-7:PRICE_MISMATCH:revenue",
      ])
    let price = try #require(try lines("breaks.jsonl").last { ($0["order"] as? String) == "S-7" })
    #expect(price["delta"] as? String == "0.00")
    #expect(
      price["reason"] as? String == "the total agrees, the unit prices of its lines do not, by 20.00 in all: "
        + "INV-7 line HW-7: 10 × 5.00, posted 10 × 4.00; INV-7 line SUB-1: 5 × 8.00, posted 5 × 10.00")
    let evidence = try #require(price["evidence"] as? [String: Any])
    #expect((evidence["lines"] as? [[String: Any]])?.map { $0["posted_price"] as? String } == ["4.00", "10.00"])
    // North: 1000.00 of S-1, and 300 dollars of S-3 at the rate of the day; south: 450.00 and freight of 50.00.
    let variances = try lines("variance.jsonl")
    func variance(_ region: String) -> [String: Any]? {
      variances.first { ($0["dimensions"] as? [String: String])?["region"] == region }
    }
    #expect(
      variance("north")?["actual"] as? String == "1276.00" && variance("north")?["budget"] as? String == "2000.00")
    #expect(variance("south")?["variance"] as? String == "-300.00" && variance("south")?["flagged"] as? Bool == true)
    let revenue = try lines("revenue.jsonl")
    #expect(Set(revenue.compactMap { $0["view"] as? String }) == ["transaction", "base"])
  }

  @Test func everythingIsOwnedAndGoesSomewhere() throws {
    let configuration = try Configuration.load(path: Self.examples + "/finance.yaml")
    // Its posting policies change something.
    #expect(configuration.unmappedPolicies.isEmpty)
    #expect(configuration.policy.entries(of: .invoiced).contains { $0.from_d != nil && $0.entry.role == .deferred })
    let catalog = Catalog(configuration)
    #expect(catalog.gaps.isEmpty)
    #expect(
      catalog.masterData.map(\.name) == [
        "accounts", "lines", "regions", "terms", "calendar", "fx", "posting_policies", "budget",
      ])
    for entry in catalog.masterData { #expect(entry.origin.hasPrefix("file ") && !entry.uses.isEmpty, "\(entry)") }
    #expect(
      catalog.masterData.first { $0.name == "posting_policies" }?.uses == [
        "what order events must put into the ledger: breaks, control totals, quality, revenue: releases_due of the schedules"
      ])
    #expect(catalog.masterData.first { $0.name == "terms" }?.uses == ["terms of orders"])
    func outputs(_ source: String, _ field: String) -> String {
      catalog.sources.first { $0.name == source }?.fields.first { $0.name == field }?.outputs.joined(separator: "; ")
        ?? ""
    }
    #expect(outputs("orders", "cost").contains("revenue: shipped cost"))
    #expect(outputs("orders", "net").contains("booked new") && outputs("orders", "net").contains("variance: actual"))
    #expect(outputs("orders", "region").contains("dimensions.region"))
    #expect(!outputs("orders", "product_line").contains("variance"))
    #expect(outputs("ledger", "line") == "breaks: PRICE_MISMATCH, QUANTITY_MISMATCH, evidence.lines")
    #expect(outputs("ledger", "quantity") == "breaks: PRICE_MISMATCH, QUANTITY_MISMATCH")
    // A dimension of that name is none.
    let text = try String(contentsOfFile: Self.examples + "/finance.yaml", encoding: .utf8)
    let clash = #expect(throws: ConfigurationError.self) {
      try Configuration.parse(
        yaml: text.replacing("product_line", with: "line"), file: "finance.yaml", directory: Self.examples)
    }
    #expect(clash?.description.contains("sources.orders.fields.line: a dimension has this name") == true)
    #expect(
      outputs("ledger", "base_amount").contains("FX_DIFFERENCE") && outputs("ledger", "amount").contains("quality"))
    for source in catalog.sources {
      for field in source.fields where field.name != "account" {
        #expect(!field.outputs.isEmpty, "\(source.name).\(field.name)")
      }
    }
    for text in ["## Master data", "file budget.csv", "Credit Control"] { #expect(catalog.markdown.contains(text)) }
    // A table that is not governed is named.
    let error = #expect(throws: ConfigurationError.self) {
      try Configuration.parse(
        yaml: text.replacing("    regions: {owner: Sales Operations", with: "    lines: {owner: Sales Operations")
          .replacing(
            "    lines: {owner: Product, definition: Product line of an article., classification: internal}\n", with: ""
          ),
        file: "finance.yaml", directory: Self.examples)
    }
    #expect(error?.description.contains("governance.required: master data regions has no owner") == true)
  }
}
