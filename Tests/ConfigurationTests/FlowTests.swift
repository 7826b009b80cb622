import Decoding
import Domain
import Forecasting
import Testing

@testable import Configuration

/// `flows`: what `tieout flows` is told.
@Suite struct FlowConfigurationTests {
  let tests = ConfigurationTests()

  @Test func flowsAreOffUnlessEnabled() throws {
    let plain = try tests.parse(tests.base)
    #expect(plain.flows == nil && plain.cashflowTopic == "t.cashflow" && plain.receivablesTopic == "t.receivables")
    let on = try tests.parse(tests.base + "\nflows: {enabled: true}\ntopics: {cashflow: c, receivables: r}")
    #expect(on.flows == FlowSettings() && on.cashflowTopic == "c" && on.receivablesTopic == "r")
    // They change nothing of what is matched.
    #expect(on.matchingHash == plain.matchingHash)
    #expect(
      tests.problems(tests.base + "\nflows: {days: 30}") == ["t.yaml:10:15: flows.days: flows are not enabled"])
  }

  @Test func everythingIsRead() throws {
    let yaml =
      tests.base + """

        dimensions: [region, channel]
        flows:
          enabled: true
          by: [channel, customer]
          segment: region
          terms: EOM+15
          days: 30
          backtest: 60
          history: 400d
          interval: 2s
          facts: 5000
          sources:
            orders: {due_date: {path: due, format: dd.MM.yyyy}, terms: terms}
            ledger: {terms: {path: zterm, values: {Z30: NET30}, unlisted: keep}}
        """
    let on = try tests.parse(yaml)
    let flows = try #require(on.flows)
    #expect(flows.by == ["channel", "customer"] && flows.segment == "region" && flows.terms == PaymentTerms("EOM+15"))
    #expect(flows.days == 30 && flows.backtest_percent == 60 && flows.history_d == 400)
    #expect(flows.interval_ms == 2_000 && flows.maximumFacts == 5_000)
    #expect(flows.sources["orders"]?.dueDate?.timeFormat == .pattern("dd.MM.yyyy"))
    #expect(flows.sources["ledger"]?.dueDate == nil && flows.sources["ledger"]?.terms?.table?.entries.count == 1)
    // The texts stand behind the dimensions, due date first.
    let mapping = on.sources[0].flowMapping(flows.sources["orders"]!, dimensionCount: 2)
    #expect(mapping.dimensions.count == 4 && mapping.dimensions[2]?.value == .path("due"))
    #expect(mapping.dimensions[3]?.value == .path("terms"))
    #expect(try tests.parse(on.effectiveYAML()) == on)
  }

  @Test func whatIsWrongIsSaid() {
    func problem(_ flows: String, dimensions: String = "[a]") -> [String] {
      tests.problems(tests.base + "\ndimensions: \(dimensions)\nflows: {enabled: true, \(flows)}").map {
        String($0.split(separator: " ", maxSplits: 1)[1])
      }
    }
    #expect(problem("by: [b]") == ["flows.by: unknown dimension 'b'; did you mean 'a'?"])
    #expect(problem("by: [custmer]") == ["flows.by: unknown dimension 'custmer'; did you mean 'customer'?"])
    #expect(problem("segment: customer")[0].hasPrefix("flows.segment: unknown dimension 'customer'"))
    #expect(problem("terms: soon")[0].hasPrefix("flows.terms: 'soon' are no payment terms"))
    #expect(problem("sources: {orers: {terms: t}}")[0].contains("did you mean 'orders'?"))
    #expect(problem("sources: {orders: {due: t}}")[0].contains("unknown key 'due'"))
    #expect(problem("sources: {orders: {terms: {path: t, format: rfc3339}}}")[0].contains("is no date"))
    #expect(problem("sources: {orders: {due_date: {path: t, format: yy-QQ}}}")[0].contains("makes no sense"))
    #expect(
      problem("sources: {orders: {due_date: d, terms: t}}", dimensions: "[a, b, c, d, e, f, g]")
        == ["flows.sources.orders: with 7 dimensions there is room for 1 more fields, not 2"])
    #expect(problem("history: 1h")[0].contains("at least 1d"))
  }
}
