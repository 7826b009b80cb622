import Domain
import Foundation
import Testing
import Validation

@testable import Configuration

/// Validation rules in the configuration: what they become, and what is said of those that are wrong.
@Suite struct RuleTests {
  static let yaml = """
    name: r
    dimensions: [region]
    tables: {customers: {entries: {C1: north, C2: south}}}
    sources:
      orders:
        kind: orders
        fields: {order: o, event: e, event_time: t, customer: c, document_date: d, net: n, tax: x, gross: g, quantity: q}
        dimensions: {region: r}
        rules:
    RULES
      ledger:
        kind: ledger
        fields: {order: o, role: r, currency: c, event_time: t, journal: j}
        amount: a
        rules: [{field: journal, required: true, when: [receivable, revenue], severity: count}]
    """

  func parse(_ rules: String) throws -> Configuration {
    let indented = rules.split(separator: "\n").map { "      " + $0 }.joined(separator: "\n")
    return try Configuration.parse(
      yaml: Self.yaml.replacing("RULES", with: indented), file: "r.yaml", directory: ".")
  }

  @Test func sumsOverLinesAreCompiled() throws {
    let configuration = try parse("- {check: 'sum(lines[].net) + tax = gross', tolerance: 0.02, severity: flag}")
    let rule = try #require(configuration.sources[0].rules.first)
    #expect(rule.condition.lines == [LinePath(array: ["lines"], field: ["net"])])
    #expect(rule.severity == .flag && rule.name == "sum(lines[].net) + tax = gross")
    for (check, column, problem) in [
      ("sum(lines.net) = gross", 30, "an array ('[]') is expected, as in sum(lines[].net)"),
      ("sum(lines[].a[].b) = gross", 30, "one array alone is expected, as in sum(lines[].net)"),
      ("sum(lines[].net = gross", 20, "a bracket is not closed"),
      ("gross = sum()", 29, "an array ('[]') is expected, as in sum(lines[].net)"),
      ("sum(lines[].) = gross", 29, "the name of a field is expected, as in sum(lines[].net)"),
      ("sum(lines[]net) = gross", 28, "'.' or '[]' is expected, as in sum(lines[].net)"),
      ("sums(lines[].net) = gross", 17, "'sums' is no amount of this source"),
    ] {
      let error = #expect(throws: ConfigurationError.self) { try parse("- check: '\(check)'") }
      let made = error?.problems.first
      #expect(made?.message.hasSuffix(problem) == true, "\(check): \(made?.message ?? "")")
      #expect(made?.column == column && made?.line == 10, "\(check): \(made?.line ?? 0):\(made?.column ?? 0)")
    }
    let csv = Self.yaml.replacing("kind: orders\n", with: "kind: orders\n    format: csv\n").replacing(
      "RULES", with: "    - check: sum(lines[].net) = net")
    let error = #expect(throws: ConfigurationError.self) {
      try Configuration.parse(yaml: csv, file: "r.yaml", directory: ".")
    }
    #expect(error?.problems.first?.message.contains("sums over lines are for json and debezium") == true)
  }

  @Test func rulesOfUniquenessStandBesideTheOthers() throws {
    let configuration = try parse(
      """
      - {field: order, unique: 400d, when: [invoiced], severity: flag}
      - {field: customer, with: [region], unique: 36h, severity: count, name: one for each region}
      - {field: net, minimum: 0}
      """)
    let source = configuration.sources[0]
    #expect(source.rules.count == 1 && source.rules.flagNames.isEmpty && configuration.policy.flagNames.isEmpty)
    #expect(
      source.uniqueRules == [
        UniqueRule(
          name: "order", subject: "order", fields: [RuleField(.order)], severity: .flag,
          applies: 1 << UInt32(OrderEventKind.invoiced.rawValue), within_ms: 400 * 86_400_000),
        UniqueRule(
          name: "one for each region", subject: "customer, region",
          fields: [RuleField(.customer), RuleField(.dimension, index: 0)], severity: .count,
          within_ms: 36 * 3_600_000),
      ])
    #expect(configuration.maximumUnique == 1_000_000)
    let again = try Configuration.parse(yaml: configuration.effectiveYAML(), file: "e", directory: ".")
    #expect(again == configuration && again.matchingHash == configuration.matchingHash)
    #expect(try parse("- {field: net, minimum: 0}").matchingHash != configuration.matchingHash)
    for (rule, problem) in [
      (
        "{field: order, unique: 1d}",
        "severity: 'flag' or 'count' is needed: whether another record has the value is found out where it is too late to "
          + "reject one"
      ),
      (
        "{field: order, unique: 1d, severity: flag, pattern: x}",
        "pattern: 'unique' is a rule of its own; write another one"
      ),
      ("{field: net, unique: 1d, severity: flag}", "unique: 'net' is no text"),
      ("{field: order, unique: 0s, severity: flag}", "unique: at least 1ms is expected, not '0s'"),
      (
        "{field: order, unique: 1d, severity: flag, with: [custmer]}",
        "with: 'custmer' is no field that rules can check and this source maps; did you mean 'customer'?"
      ),
      ("{field: order, with: [customer], pattern: x}", "with: only beside 'unique'"),
      ("{check: net + tax = gross, unique: 1d}", "unique: only for a field"),
    ] {
      let error = #expect(throws: ConfigurationError.self) { try parse("- " + rule) }
      #expect(
        error?.description.contains(": sources.orders.rules.#1." + problem) == true, "\(error?.description ?? "")")
    }
  }

  @Test func rulesAreCompiled() throws {
    let configuration = try parse(
      """
      - {field: order, pattern: 'SO-\\d{6}'}
      - {field: customer, required: true, table: customers, name: known customer}
      - {field: region, one_of: [north, south], severity: count, when: [invoiced, credited]}
      - {field: net, minimum: -0.5, maximum: 1000000}
      - {field: document_date, not_before: 2000-01-01, not_after: 2099-12-31, within: 400d}
      - {check: net + tax = gross, tolerance: 0.01, when: [invoiced], name: gross adds up}
      - {field: quantity, minimum: 0.001}
      """)
    let rules = configuration.sources[0].rules
    #expect(rules.count == 8)
    let pattern = try BytePattern("SO-\\d{6}")
    #expect(rules[0].condition == .pattern(RuleField(.order), pattern) && rules[0].name == "order")
    #expect(rules[1].condition == .required(RuleField(.customer)) && rules[1].name == "known customer")
    #expect(rules[2].condition == .inTable(RuleField(.customer), table: "customers", keys: ["C1", "C2"]))
    #expect(rules[3].condition == .oneOf(RuleField(.dimension, index: 0), ["north", "south"]))
    #expect(rules[3].severity == .count)
    #expect(
      rules[3].applies == 1 << UInt32(OrderEventKind.invoiced.rawValue) | 1 << UInt32(OrderEventKind.credited.rawValue))
    #expect(rules[4].condition == .range(RuleField(.component, index: 0), least: -500_000, most: 1_000_000_000_000))
    #expect(
      rules[5].condition
        == .dates(RuleField(.date), first_d: 10_957, last_d: 47_481, fromEvent_d: 400))
    guard case .sum(let sum) = rules[6].condition else {
      Issue.record("no sum")
      return
    }
    #expect(sum.terms.count == 3 && sum.tolerance_u == 10_000 && rules[6].subject == "net + tax = gross")
    #expect(rules[7].condition == .range(RuleField(.quantity), least: 1_000, most: nil))
    #expect(configuration.sources[1].rules.count == 1)
    // The printed configuration gives the same rules, and other rules are another configuration to a replay.
    let again = try Configuration.parse(yaml: configuration.effectiveYAML(), file: "e", directory: ".")
    #expect(again == configuration && again.matchingHash == configuration.matchingHash)
    #expect(try parse("- {field: net, minimum: 0}").matchingHash != parse("- {field: net, minimum: 1}").matchingHash)
  }

  @Test(arguments: [
    ("- {field: custmer, required: true}", 1, "did you mean 'customer'?"),
    ("- {field: fee, required: true}", 1, "this source maps"),
    ("- {field: customer}", 1, "there is no condition"), ("- {required: true}", 1, "either 'field' or 'check'"),
    ("- {field: net, check: net = gross}", 1, "either 'field' or 'check'"),
    ("- {field: net, pattern: x}", 1, "only for texts"), ("- {field: order, minimum: 1}", 1, "only for amounts"),
    ("- {field: order, not_before: 2000-01-01}", 1, "only for dates"),
    ("- {field: event_time, within: 3d}", 1, "only for dates"),
    ("- {field: document_date, within: 3h}", 1, "whole days"),
    ("- {field: document_date, not_before: 2000-02-30}", 1, "a date such as"),
    ("- {field: document_date, not_before: 2001-01-01, not_after: 2000-01-01}", 1, "no date"),
    ("- {field: net, minimum: 2, maximum: 1}", 1, "below the minimum"), ("- {field: net, minimum: x}", 1, "a number"),
    ("- {field: customer, table: customer}", 1, "did you mean 'customers'?"),
    ("- {field: customer, one_of: []}", 1, "empty"),
    ("- {field: customer, requird: true}", 1, "did you mean 'required'?"),
    ("- {field: customer, required: true, when: [invoicd]}", 2, "did you mean 'invoiced'?"),
    ("- {field: customer, required: true, severity: rejects}", 1, "did you mean 'reject'?"),
    ("- {field: customer, required: true, tolerance: 1}", 1, "only for a check"),
    ("- {check: net = gross, minimum: 1}", 1, "only for a field"), ("- x", 1, "is expected"),
  ]) func whatIsWrongIsSaid(_ rule: String, _ count: Int, _ part: String) {
    do {
      _ = try parse(rule)
      Issue.record("\(rule) is taken")
    } catch let error as ConfigurationError {
      #expect(error.problems.count == count && error.description.contains(part), "\(rule): \(error)")
      #expect(error.problems.allSatisfy { $0.line == 10 && $0.column > 6 }, "\(rule): \(error)")
    } catch { Issue.record("\(error)") }
  }

  /// Line and column are those of the slip inside the text.
  @Test(arguments: [
    ("- {check: net + taxx = gross}", 23), ("- {check: \"net + taxx = gross\"}", 24),
    ("- {field: order, pattern: 'ab{'}", 36), ("- {field: order, pattern: ab(c)}", 35),
  ]) func placesInsideATextAreExact(_ rule: String, _ column: Int) {
    do {
      _ = try parse(rule)
      Issue.record("\(rule) is taken")
    } catch let error as ConfigurationError {
      #expect(error.problems.map(\.column) == [column] && error.problems[0].line == 10, "\(error)")
    } catch { Issue.record("\(error)") }
  }

  @Test func rulesThatFlagAreNamedInThePolicyAndBounded() throws {
    let one = try parse("- {field: net, minimum: 0, severity: flag, name: sign}")
    #expect(one.policy.flagNames == [["sign"], []])
    #expect(try parse("- {field: net, minimum: 0, severity: count}").policy.flagNames == [])
    let many = (1...17).map { "- {field: net, maximum: \($0), severity: flag, name: r\($0)}" }.joined(separator: "\n")
    #expect(throws: ConfigurationError.self) { try parse(many) }
    #expect(try parse(many.split(separator: "\n").dropLast().joined(separator: "\n")).policy.flagNames[0].count == 16)
  }
}
