import Aggregates
import Configuration
import Decoding
import Foundation
import Matching
import Testing

@testable import Pipeline

@Suite struct CatalogTests {
  func load(_ name: String, _ change: (String) -> String = { $0 }) throws -> Configuration {
    let path = EncoderTests.root + "/config/examples/" + name
    return try Configuration.parse(
      yaml: change(try String(contentsOfFile: path, encoding: .utf8)), file: name,
      directory: EncoderTests.root + "/config/examples")
  }

  @Test func everythingIsInTheCatalog() throws {
    let configuration = try load("northwind.yaml")
    let catalog = Catalog(configuration)
    #expect(configuration.governance.isRequired && catalog.gaps.isEmpty)
    let orders = try #require(catalog.sources.first { $0.name == "orders" })
    #expect(orders.fields.count == configuration.sources[0].mapping.fields.count + 2)
    func field(_ source: String, _ name: String) throws -> Catalog.Field {
      try #require(catalog.sources.first { $0.name == source }?.fields.first { $0.name == name })
    }
    let customer = try field("orders", "customer")
    #expect(customer.rule == "account.id" && customer.entry.classification == .personal)
    #expect(customer.entry.owner == "Sales Operations" && customer.entry.definition == "Customer account of the CRM.")
    #expect(try field("orders", "net").outputs[0].contains("invoiced → −revenue"))
    #expect(try field("orders", "country").outputs == ["breaks: dimensions.country"])
    #expect(try field("ledger", "amount").rule == "debit − credit")
    #expect(try field("ledger", "line_id").rule == "journal_id & the text '-' & line_no")
    #expect(try field("ledger", "role").rule.contains("by table chart_of_accounts of 7 entries"))
    #expect(try field("ledger", "customer").entry.classification == .confidential)
    for (source, fields) in catalog.sources.map({ ($0.name, $0.fields) }) {
      for field in fields {
        #expect(!field.rule.isEmpty && !field.entry.definition.isEmpty, "\(source).\(field.name)")
      }
    }
    for text in ["Sales Operations", "General Accounting", "northwind.breaks", "Controlling", "account.id"] {
      #expect(catalog.markdown.contains(text) && catalog.html.contains(text))
    }
    // Every row of a table has as many cells as its head.
    for line in catalog.markdown.split(separator: "\n") where line.hasPrefix("| ") {
      let bars = line.replacing("\\|", with: "").filter { $0 == "|" }.count
      #expect(bars == 7 || bars == 6, "\(line)")
    }
  }

  /// How amounts and times are written belongs to the rule.
  @Test func theWayOfWritingIsInTheRule() throws {
    let yaml = """
      version: 1
      sources:
        shop: {kind: orders, fields: {order: o, event: e, event_time: t, currency: c, net: n}}
        gl:
          kind: ledger
          fields:
            order: o
            role: r
            currency: c
            event_time: {path: t, format: "MM/dd/yyyy hh:mm a", time_zone: "-05:30"}
            base_amount: {path: b, decimal: {grouping: ",", parentheses: true}}
          amount: {path: a, decimal: {separator: ",", grouping: ".", trailing_minus: true}}
      fx: {base: EUR, topic: rates}
      master_data: {enabled: true}
      """
    let configuration = try Configuration.parse(yaml: yaml, file: "t.yaml", directory: ".")
    let fields = Catalog(configuration).sources[1].fields
    func rule(_ name: String) -> String? { fields.first { $0.name == name }?.rule }
    #expect(rule("event_time") == "t, written as MM/dd/yyyy hh:mm a, in −05:30")
    #expect(rule("base_amount") == "b, thousands by ',', negative in parentheses")
    #expect(rule("amount") == "a, decimals after ',', thousands by '.', minus behind")
    #expect(rule("order") == "o")
  }

  /// What amounts of a source decide follows from the events that it can tell; what is left out, and how its records are
  /// written, is told too.
  @Test func aMappingCanBeAudited() throws {
    let yaml = """
      version: 1
      tables: {stages: {entries: {a: booked}, unlisted: {replace: delivered}}}
      sources:
        shop:
          kind: orders
          format: csv
          csv: {delimiter: ";", encoding: windows-1252, quote: none}
          where: [{path: Status, in: [paid, refunded]}, {path: Test, not_in: ["1"]}]
          fields: {order: o, event: {constant: invoiced}, event_time: t, currency: c, gross: g, net: n, applied: p}
        billing:
          kind: orders
          fields:
            order: o
            event: {path: e, values: {inv: invoiced, pay: paid}, unlisted: skip}
            event_time: t
            currency: c
            gross: {path: g, decimal: {implied_decimals: currency}}
            net: n
            applied: p
        stock: {kind: orders, fields: {order: o, event: {path: e, table: stages}, event_time: t, currency: c, net: n}}
        open: {kind: orders, fields: {order: o, event: {path: e, values: {x: paid}, unlisted: keep}, event_time: t, currency: c, gross: g}}
        gl:
          kind: ledger
          format: csv
          csv: {header: false}
          fields: {order: "1", role: {path: "2", values: {S: revenue}}, currency: "3", event_time: "4"}
          amount: "5"
      aggregates: {enabled: true}
      """
    let catalog = Catalog(try Configuration.parse(yaml: yaml, file: "t.yaml", directory: "."))
    func uses(_ source: Int, _ field: String) -> [String]? {
      catalog.sources[source].fields.first { $0.name == field }?.outputs
    }
    func rule(_ source: Int, _ field: String) -> String? {
      catalog.sources[source].fields.first { $0.name == field }?.rule
    }
    #expect(uses(0, "gross") == ["breaks: expected of invoiced → +receivable", "revenue: billed gross"])
    #expect(uses(0, "net") == ["breaks: expected of invoiced → −revenue", "revenue: billed net"])
    // A payment is none of its events.
    #expect(uses(0, "applied") == ["breaks: nothing, as no event of this source puts it into a role"])
    #expect(uses(1, "applied")?.first == "breaks: expected of paid → +cash, paid → −receivable")
    #expect(uses(1, "gross") == uses(0, "gross"))
    #expect(uses(2, "net")?.first == "breaks: nothing, as no event of this source puts it into a role")
    #expect(uses(3, "gross")?.first?.contains("settled → −clearing") == true)
    #expect(rule(1, "event") == "e (inv → invoiced, pay → paid, others skipped)")
    #expect(rule(2, "event") == "e (a → booked, others 'delivered')")
    #expect(rule(3, "event") == "e (x → paid, others as they are)")
    #expect(rule(4, "role") == "2 (S → revenue, others to dead letters)")
    #expect(rule(1, "gross") == "g, in minor units of the currency")
    #expect(
      catalog.sources.map(\.format) == [
        "csv, columns between ';', no quotes, windows-1252, the first line names the columns", "json", "json", "json",
        "csv, columns between ',', in quotes '\"', utf-8, columns by number",
      ])
    #expect(
      catalog.sources.map(\.filter) == [
        "where Status is 'paid' or 'refunded', and Test is not '1'; others are skipped", "", "", "", "",
      ])
    #expect(catalog.sources.map(\.events) == [["invoiced"], ["invoiced", "paid"], ["booked", "delivered"], [], []])
    for text in [
      "- Format: csv, columns between ';', no quotes, windows-1252", "- Records: where Status is 'paid' or 'refunded'",
      "- Events: invoiced, paid\n",
    ] {
      #expect(catalog.markdown.contains(text), "\(text)")
    }
    #expect(catalog.html.contains("<dt>Events</dt><dd>booked, delivered</dd>"))
  }

  /// With schedules the service period decides figures of its own.
  @Test func theServicePeriodReachesTheReleases() throws {
    var configuration = try load("northwind.yaml")
    configuration.aggregates = AggregateSettings()
    func uses(_ field: String) -> [String] {
      CatalogWords.outputs(field, .orders, configuration).filter { $0.hasPrefix("revenue") }
    }
    #expect(uses("service_end") == [])
    configuration.policy.checks = FinanceChecks()
    configuration.policy.checks?.schedules = RevenueSchedules()
    for field in ["service_start", "service_end", "service_periods"] {
      #expect(uses(field) == ["revenue: releases due"], "\(field)")
    }
  }

  /// From where a figure has its dimension.
  @Test func dimensionsOfPostingsComeFromTheirOrders() throws {
    var configuration = try load("northwind.yaml")
    configuration.aggregates = AggregateSettings()
    func uses(_ kind: SourceKind) -> [String] {
      CatalogWords.outputs("channel", kind, configuration).filter { $0.hasPrefix("revenue") }
    }
    #expect(uses(.orders) == ["revenue: dimensions.channel, also of postings that carry none"])
    #expect(uses(.ledger) == ["revenue: dimensions.channel, else that of the order"])
    // The country alone.
    configuration.aggregates!.inheritedDimensions = 1
    #expect(uses(.orders) == ["revenue: dimensions.channel"] && uses(.ledger) == ["revenue: dimensions.channel"])
  }

  @Test func whatHasNoOwnerIsNamed() throws {
    func change(_ text: String) -> String {
      text.replacing("      owner: General Accounting\n", with: "")
        .replacing("totals: {owner: Controlling, classification: internal}", with: "totals: {owner: Controlling}")
        .replacing("      definition: Order events of the shop's CRM.\n", with: "")
    }
    let gaps = Catalog(try load("northwind.yaml") { change($0).replacing("required: true", with: "required: false") })
      .gaps
    #expect(gaps.first == "source orders has no definition")
    #expect(gaps.contains("source ledger has no owner") && gaps.contains("field amount of source ledger has no owner"))
    #expect(gaps.last == "output totals has no classification")
    #expect(!gaps.contains { $0.contains("of source orders") })
    // Where it is required, nothing runs under such a configuration.
    var problems = ""
    do { _ = try load("northwind.yaml", change) } catch { problems = "\(error)" }
    for gap in gaps { #expect(problems.contains("governance.required: \(gap)"), "\(gap)") }
    #expect(Catalog(try load("flat.yaml")).gaps.contains("output breaks has no owner"))
  }

  @Test func markupInTextsIsText() throws {
    let catalog = Catalog(
      try load("northwind.yaml") { $0.replacing("owner: Sales Operations", with: "owner: \"<b>R&D</b> | x\"") })
    #expect(catalog.html.contains("&lt;b&gt;R&amp;D&lt;/b&gt; | x") && !catalog.html.contains("<b>"))
    #expect(catalog.markdown.contains("&lt;b>R&D&lt;/b> \\| x"))
  }

  @Test func governanceChangesNothingOfTheMatching() throws {
    let with = try load("northwind.yaml")
    let without = try load("northwind.yaml") { String($0[..<$0.range(of: "\n# Who answers")!.lowerBound]) + "\n" }
    #expect(with.matchingHash == without.matchingHash && with != without)
    #expect(
      try Configuration.parse(yaml: with.effectiveYAML(), file: "e", directory: EncoderTests.root + "/config/examples")
        == with)
  }

  @Test func slipsAreFound() throws {
    for (from, to, part) in [
      ("    orders:\n      owner", "    order:\n      owner", "did you mean 'orders'?"),
      ("        customer: {class", "        custmer: {class", "did you mean 'customer'?"),
      ("classification: personal", "classification: personnel", "did you mean 'personal'?"),
      ("    breaks: {owner", "    break: {owner", "did you mean 'breaks'?"),
      ("owner: Sales Operations", "owner: ''", "not an empty value"),
      ("      owner: Sales", "      ownr: Sales", "did you mean 'owner'?"),
    ] {
      let text = try String(
        contentsOfFile: EncoderTests.root + "/config/examples/northwind.yaml", encoding: .utf8)
      let at = try #require(text.range(of: "governance:"))
      let changed = text[..<at.lowerBound] + text[at.lowerBound...].replacing(from, with: to)
      do {
        _ = try Configuration.parse(
          yaml: String(changed), file: "n.yaml", directory: EncoderTests.root + "/config/examples")
        Issue.record("no problem for \(to)")
      } catch let error as ConfigurationError {
        #expect(error.problems.count == 1 && error.description.contains(part), "\(error)")
        #expect(error.problems[0].line > 77)
      }
    }
  }
}
