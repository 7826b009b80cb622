import Domain
import Foundation
import Testing

@testable import Configuration

/// `variance`, and the budget that it names.
@Suite struct VarianceConfigurationTests {
  let files = FinanceConfigurationTests()
  let head = "dimensions: [region, channel]\naggregates: {enabled: true, quantities: true}\n"

  @Test func everythingIsRead() throws {
    let budget = """
      period,currency,region,measure,amount,quantity
      2026-01,EUR,north,,1000.50,10
      202601,EUR,north,billings,-7,
      2026/2,JPY,"a, b",cogs,500,
      """
    let more =
      head + """
        topics: {variance: v}
        variance: {enabled: true, budget: b.csv, by: [region], measure: gross_revenue, interval: 2s,
          threshold: {absolute: 1000.005, percent: 2.5}}
        """
    try files.withFiles(["b.csv": budget]) { directory in
      let made = try files.parse(more, directory)
      let settings = try #require(made.variance)
      #expect(settings.by == ["region"] && settings.measure == .grossRevenue && !settings.isBase)
      #expect(settings.interval_ms == 2_000 && made.varianceTopic == "v" && settings.countsQuantities)
      // Rounded up to the minor unit: what is below 1,000.005 is not over it.
      let euro = settings.threshold(Currency("EUR")!)
      #expect(euro.absolute == 100_001 && euro.percent_u == 25_000)
      #expect(settings.threshold(Currency("JPY")!).absolute == 1_001)
      func key(_ region: String, _ currency: String, _ period: Int32, _ measure: String) -> BudgetKey {
        BudgetKey(
          dimensions: [region], currency: Currency(currency)!, period: period, measure: .init(rawValue: measure)!)
      }
      #expect(
        settings.budget.lines == [
          key("north", "EUR", 202_601, "gross_revenue"): .init(amount: 100_050, quantity_u: 10_000_000),
          key("north", "EUR", 202_601, "billings"): .init(amount: -700),
          key("a, b", "JPY", 202_602, "cogs"): .init(amount: 500),
        ])
      #expect(try settings.readBudget() == settings.budget)
      let plain = try files.parse("dimensions: [region, channel]\naggregates: {enabled: true, quantities: true}")
      #expect(plain.variance == nil && plain.varianceTopic == "t.variance")
      // It decides nothing of what is matched.
      #expect(made.matchingHash == plain.matchingHash)
    }
  }

  @Test func aBudgetMayBeATopic() throws {
    let made = try files.parse(head + "variance: {enabled: true, topic: plan.budget, by: [region]}")
    let settings = try #require(made.variance)
    #expect(settings.budgetTopic == "plan.budget" && settings.budgetPath.isEmpty && settings.budget.lines.isEmpty)
    #expect(try files.parse(made.effectiveYAML(), base: "") == made)
    func line(_ json: String) -> String {
      do {
        let (key, line) = try settings.budgetLine(Array(json.utf8))
        return "\(key.dimensions) \(key.currency.code) \(key.period) \(key.measure.rawValue) \(line.amount) "
          + (line.quantity_u.map(String.init) ?? "nil")
      } catch { return "\(error)" }
    }
    let start = #"{"period":"2026-01","currency":"EUR","region":"north","#
    #expect(
      line(start + #""amount":1000.5,"quantity":10}"#) == #"["north"] EUR 202601 recognised_revenue 100050 10000000"#)
    #expect(line(start + #""amount":"-7","measure":"cogs","quantity":null}"#) == #"["north"] EUR 202601 cogs -700 nil"#)
    #expect(line(start + #""quantity":10}"#) == "it has no field 'amount'")
    #expect(
      line(start + #""amount":[]}"#) == "it is no JSON object whose fields are texts, numbers, true, false or null")
    #expect(
      line(start + #""amount":1,"measure":"billing"}"#) == "there is no measure 'billing'; did you mean 'billings'?")
    #expect(
      try files.problems(head + "variance: {enabled: true, topic: b, budget: b.csv}", ["b.csv": ""])
        == ["variance: either 'budget' or 'topic', not both"])
    #expect(
      try files.problems(head + "variance: {enabled: true, topic: t.breaks}")
        == ["variance.topic: the topic 't.breaks' is that of topics.breaks already"])
  }

  @Test func whatIsWrongIsSaid() throws {
    let good = "period,currency,amount\n2026-01,EUR,1\n"
    func problems(_ variance: String, _ budget: String = good, head: String? = nil) throws -> [String] {
      try files.problems((head ?? self.head) + "variance: {enabled: true, \(variance)}", ["b.csv": budget])
    }
    #expect(try problems("budget: b.csv") == [])
    #expect(try problems("by: [region]") == ["variance: 'budget' or 'topic' is missing"])
    #expect(
      try problems("budget: b.csv", head: "")
        == ["variance: actuals are what aggregates add up, and aggregates are not enabled"])
    #expect(
      try problems("budget: b.csv, by: [regoin]")
        .contains("variance.by: unknown dimension 'regoin'; did you mean 'region'?"))
    #expect(
      try problems("budget: b.csv, view: base").contains("variance.view: there is no base currency: set fx"))
    #expect(try problems("budget: c.csv") == ["variance.budget: cannot read c.csv"])
    #expect(
      try problems("budget: b.csv, by: [region]") == ["variance.budget: b.csv has no column 'region'"])
    for (row, message) in [
      ("2026,EUR,1,,", "'period' must be a year and a number such as 2026-01, not '2026'"),
      ("2026-01,EURO,1,,", "'EURO' is no currency of ISO 4217"),
      ("2026-01,EUR,1.001,,", "'1.001' is no amount of EUR with at most 2 decimals"),
      ("2026-01,EUR,1,billing,", "there is no measure 'billing'; did you mean 'billings'?"),
      ("2026-01,EUR,1,cogs,3", "the measure cogs has no quantity to compare with"),
      ("2026-01,EUR,1,,x", "'x' is no quantity with at most six decimals"),
    ] {
      #expect(
        try problems("budget: b.csv", "period,currency,amount,measure,quantity\n\n\(row)\n")
          == ["variance.budget: b.csv:3: \(message)"])
    }
    let counted = "aggregates: {enabled: true}\n"
    #expect(
      try problems("budget: b.csv", "period,currency,amount,quantity\n2026-01,EUR,1,2", head: counted)
        == [
          "variance.budget: b.csv:2: a quantity is planned, and actual ones are not counted: set aggregates.quantities"
        ])
    #expect(
      try problems("budget: b.csv", good + "2026-02,EUR,1\n202601,EUR,2\n")
        == ["variance.budget: b.csv:4: the same as line 2, which says it already"])
    let base = head + "fx: {base: USD, rates: r.csv}\n"
    #expect(
      try files.problems(
        base + "variance: {enabled: true, budget: b.csv, view: base}",
        ["b.csv": good, "r.csv": "date,from,to,rate\n2026-01-01,EUR,USD,1.1\n"])
        == ["variance.budget: b.csv:2: the budget is compared in USD, and this row is in EUR"])
  }
}
