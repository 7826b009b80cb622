import Domain
import Foundation
import Testing

@testable import Configuration

/// What a wrong file is told, with its exact place. The lines of `base` are 1 to 9, so what a test adds begins in 10.
@Suite struct ProblemTests {
  let tests = ConfigurationTests()

  func after(_ lines: String, _ environment: [String: String] = [:]) -> [String] {
    tests.problems(tests.base + "\n" + lines, environment)
  }

  /// The base with a line of the source of orders, which becomes line 5.
  func orders(_ line: String) -> [String] {
    tests.problems(tests.base.replacingOccurrences(of: "kind: orders", with: "kind: orders\n    " + line))
  }

  func replacing(_ text: String, _ other: String) -> [String] {
    #expect(tests.base.contains(text), "the base has no '\(text)'")
    return tests.problems(tests.base.replacingOccurrences(of: text, with: other))
  }

  @Test func theBaseItselfIsRight() { #expect(tests.problems(tests.base) == []) }

  @Test func aKeyThatStandsTwice() {
    #expect(after("name: again") == ["t.yaml:10:1: the key 'name' stands here again; first in line 1"])
    #expect(
      after("matching:\n  window: 3d\n  tolerances:\n    window: {}\n  # window: 5d\n  'window' : 4d")
        == ["t.yaml:15:3: the key 'window' stands here again; first in line 11"])
    #expect(after("epoch: {records: 1, records: 2}") == ["t.yaml:10:9: the key 'records' stands twice in this map"])
  }

  @Test func errorsOfSyntaxDoNotQuoteTheFile() {
    let kafka = "kafka:\n  properties:\n    sasl.password: hunter2\n"
    for broken in ["    sasl.password: hunter3", "   x: [", "\tx", "    y: \"", "    y: *none", "---\na: b"] {
      let found = after(kafka + broken)
      #expect(found.count == 1, "\(broken): \(found)")
      #expect(found.allSatisfy { $0.wholeMatch(of: /t\.yaml:\d+:\d+: .+/) != nil }, "\(found)")
      #expect(!found.joined().contains("hunter"), "\(found)")
    }
    #expect(
      after(kafka + "   x: [")
        == ["t.yaml:13:4: not valid YAML: while parsing a block mapping in line 11: did not find expected key"])
  }

  @Test func emptyValues() {
    #expect(orders("topic:") == ["t.yaml:5:11: sources.orders.topic: a text is expected, not an empty value"])
    #expect(
      after("kafka: {bootstrap: \"\"}")
        == ["t.yaml:10:20: kafka.bootstrap: a text is expected, not an empty value"])
    #expect(
      replacing("gross: gross", "gross: ''")
        == ["t.yaml:5:111: sources.orders.fields.gross: a text is expected, not an empty value"])
  }

  @Test func propertiesThatDeliveryDependsOn() {
    #expect(
      after("kafka: {properties: {group.id: x}, consumer: {enable.auto.commit: true}}") == [
        "t.yaml:10:22: kafka.properties.group.id: this property cannot be set; use kafka.group",
        "t.yaml:10:47: kafka.consumer.enable.auto.commit: this property cannot be set; offsets are committed after "
          + "their effect, by tieout",
      ])
    #expect(
      after("kafka: {consumer: {isolation.level: read_uncommitted}}") == [
        "t.yaml:10:20: kafka.consumer.isolation.level: this property cannot be set; tieout reads what is committed; it "
          + "relies on it"
      ])
  }

  @Test func secrets() {
    #expect(
      after("kafka: {properties: {sasl.password: {evn: A}}}") == [
        "t.yaml:10:38: unknown key 'evn' in kafka.properties.sasl.password, which takes env or file; did you mean "
          + "'env'?"
      ])
    #expect(
      after("kafka: {properties: {sasl.password: {env: A, file: b}}}", ["A": "x"])
        == ["t.yaml:10:37: kafka.properties.sasl.password: a text, {env: NAME} or {file: path} is expected"])
    #expect(
      after("kafka: {properties: {sasl.password: {file: gone}}}")
        == ["t.yaml:10:44: kafka.properties.sasl.password: cannot read /nonexistent/gone"])
  }

  @Test func topicsMustDiffer() {
    #expect(
      orders("topic: t.ledger")
        == ["t.yaml:7:3: sources.ledger.topic: the topic 't.ledger' is that of sources.orders.topic already"])
    // A source that reads what tieout writes would feed on itself.
    #expect(
      orders("topic: t.breaks")
        == ["t.yaml:5:12: sources.orders.topic: the topic 't.breaks' is that of topics.breaks already"])
    #expect(
      after("topics: {breaks: x, dead_letters: x}")
        == ["t.yaml:10:35: topics.dead_letters: the topic 'x' is that of topics.breaks already"])
    for bad in ["a b", "a/b", "..", "ä", String(repeating: "x", count: 250)] {
      let found = after("topics: {breaks: '\(bad)'}")
      #expect(found.count == 1 && found[0].hasPrefix("t.yaml:10:18: topics.breaks: a topic's name"), "\(found)")
    }
    #expect(after("topics: {breaks: '\(String(repeating: "x", count: 249))'}") == [])
  }

  @Test func bothSidesAreNeeded() {
    let ordersOnly = String(tests.base.prefix(upTo: tests.base.range(of: "  ledger:")!.lowerBound))
    #expect(
      tests.problems(ordersOnly) == [
        "t.yaml:3:3: sources: there is none of kind ledger (orders can only be compared alone with "
          + "matching.quantities.compare)"
      ])
    #expect(tests.problems(ordersOnly + "matching: {quantities: {compare: true}}") == [])
    #expect(
      replacing("kind: orders", "kind: order") == [
        "t.yaml:4:11: sources.orders.kind: 'order' is not one of orders, ledger; did you mean 'orders'?"
      ])
  }

  @Test func everyMissingFieldOfEverySource() {
    let without = tests.base.replacingOccurrences(of: "order: id, ", with: "")
      .replacingOccurrences(of: "event_time: time", with: "period: p").replacingOccurrences(
        of: ", period: p}", with: "}"
      )
      .replacingOccurrences(of: "period: p, ", with: "")
    #expect(
      tests.problems(without + "\nworkers: x") == [
        "t.yaml:5:13: sources.orders.fields: 'order' is required and not mapped",
        "t.yaml:5:13: sources.orders.fields: 'event_time' is required and not mapped",
        "t.yaml:8:13: sources.ledger.fields: 'order' is required and not mapped",
        "t.yaml:8:13: sources.ledger.fields: 'event_time' is required and not mapped",
        "t.yaml:10:10: workers: a whole number from 1 to 256 is expected, not 'x'",
      ])
    #expect(
      replacing("    amount: amt", "    dimensions: {}") == ["t.yaml:6:3: sources.ledger: 'amount' is missing"])
  }

  @Test func everyWrongPathOfASource() {
    let found = tests.problems(
      tests.base.replacingOccurrences(of: "gross: gross", with: "gross: 'a[x].b', net: 'a..b'")
        .replacingOccurrences(of: "amount: amt", with: "amount: {debit: 'd.', credit: c}"))
    #expect(
      found == [
        "t.yaml:5:111: source 'orders', field 'gross': 'a[x].b': an array index in brackets is expected",
        "t.yaml:5:126: source 'orders', field 'net': 'a..b': a name is missing",
        "t.yaml:9:21: source 'ledger', field 'amount.debit': 'd.' ends with a dot",
      ])
  }

  /// A word that is none is shown where it is written, once, whoever uses the table.
  @Test func wordsOfTablesHaveTheirOwnPlace() {
    let roles = AccountRole.allCases.map(\.name).joined(separator: ", ")
    let twice = tests.base.replacingOccurrences(of: "{constant: receivable}", with: "{path: a, table: accounts}")
      .replacingOccurrences(
        of: "amount: amt",
        with: "amount: amt\n  gl2:\n    kind: ledger\n    fields: {order: id, role: {path: a, table: accounts}, "
          + "currency: cur, event_time: time}\n    amount: amt")
    #expect(
      tests.problems(twice + "\ntables:\n  accounts:\n    entries:\n      '1': revenue\n      '2': fee\n")
        == ["t.yaml:18:12: source 'ledger', field 'role': 'fee' is not one of \(roles); did you mean 'fees'?"])
    let found = replacing("values: {inv: invoiced}", "values: {a: booked, inv: invoised}")
    #expect(
      found.count == 1 && found[0].hasPrefix("t.yaml:5:70: source 'orders', field 'event': 'invoised' is not one of"),
      "\(found)")
    let part = replacing("{path: type, values: {inv: invoiced}}", "{first: [{path: type, values: {inv: invoised}}]}")
    #expect(part.count == 1 && part[0].hasPrefix("t.yaml:5:68: source 'orders', field 'event': 'invoised'"), "\(part)")
    let side = replacing("amount: amt", "amount: {amount: a, side: {path: s, values: {S: debt}}}")
    #expect(
      side.count == 1 && side[0].hasPrefix("t.yaml:9:53: source 'ledger', field 'amount.side': 'debt'"), "\(side)")
  }

  @Test func keysThatAFieldDoesNotTake() {
    #expect(
      replacing("gross: gross", "gross: {path: g, format: rfc3339}")
        == ["t.yaml:5:129: sources.orders.fields.gross.format: this field is no date and no time"])
    #expect(
      replacing("order: id, event:", "order: {path: g, decimal: {negate: true}}, event:")
        == ["t.yaml:5:40: sources.orders.fields.order.decimal: this field is no amount and no quantity"])
    #expect(
      replacing("event_time: time, currency: cur, gross", "event_time: {path: t, format: rfc339}, gross") == [
        "t.yaml:5:101: sources.orders.fields.event_time.format: 'rfc339' is not one of auto, epoch_days, epoch_ms, "
          + "epoch_ns, epoch_s, epoch_us, rfc3339, yyyymmdd, and no pattern with a year such as dd.MM.yyyy; did you mean "
          + "'rfc3339'?"
      ])
    #expect(
      replacing("gross: gross", "gross: {path: g, decimal: {separater: ','}}") == [
        "t.yaml:5:131: unknown key 'separater' in sources.orders.fields.gross.decimal; did you mean 'separator'?"
      ])
    #expect(
      replacing("gross: gross", "gross: {path: g, decimal: {separator: ',', grouping: ','}}") == [
        "t.yaml:5:157: sources.orders.fields.gross.decimal.grouping: it must differ from the decimal separator"
      ])
    #expect(replacing("gross: gross", "gross: {path: g, decimal: {separator: '5'}}").count == 1)
    #expect(replacing("gross: gross", "gross: {paht: g}").count == 1, "one slip is one problem")
    #expect(replacing("values: {inv: invoiced}", "values: {[a]: invoiced, inv: invoiced}").count == 1)
  }

  @Test func stylesThatExcludeEachOther() {
    #expect(
      replacing("gross: gross", "gross: {path: g, decimal: {implied_decimals: 2, base64_scale: 2}}") == [
        "t.yaml:5:149: sources.orders.fields.gross.decimal: implied_decimals and base64_scale exclude each other: binary "
          + "decimals have their scale"
      ])
  }

  @Test func minorUnits() throws {
    let configuration = try tests.parse(
      tests.base.replacingOccurrences(
        of: "gross: gross", with: "gross: {path: g, decimal: {implied_decimals: currency}}"))
    #expect(configuration.sources[0].mapping.fields["gross"]?.decimal.isInMinorUnits == true)
    let again = try tests.parse(configuration.effectiveYAML())
    #expect(again == configuration)
    #expect(
      replacing("gross: gross", "gross: {path: g, decimal: {implied_decimals: currency, base64_scale: 2}}").first?
        .contains("exclude each other") == true)
    #expect(
      replacing("gross: gross", "gross: g, quantity: {path: q, decimal: {implied_decimals: currency}}").first?
        .contains("a quantity has no currency") == true)
    #expect(
      replacing("gross: gross", "gross: {path: g, decimal: {implied_decimals: money}}").first?
        .contains("a whole number from 0 to 18 is expected, not 'money'") == true)
  }

  @Test func aSignThatIsMissing() {
    let known = "net, tax, freight, discount, gross, cost, deposit, fee, applied"
    for (text, hint) in [
      ("gross", ": the sign is missing, or there is more than one"),
      ("+-gross", ": the sign is missing, or there is more than one"),
      ("+gros", "; did you mean 'gross'?"),
    ] {
      #expect(
        after("policy: {invoiced: {receivable: '\(text)'}}") == [
          "t.yaml:10:33: policy.invoiced.receivable: '+' or '-' and one of \(known) is expected, not '\(text)'\(hint)"
        ])
    }
  }

  @Test func csvAndConditions() {
    #expect(orders("csv: {delimiter: ';'}") == ["t.yaml:5:10: sources.orders.csv: only for format csv, this is json"])
    #expect(
      orders("format: csv\n    csv: {delimiter: ';', quote: ';'}")
        == ["t.yaml:6:34: sources.orders.csv: the quote and the delimiter must differ"])
    #expect(
      orders("where: [{path: a, in: [x], not_in: [y]}]")
        == ["t.yaml:5:13: sources.orders.where.#1: a condition needs 'path' and one of 'in' and 'not_in', not empty"])
    #expect(
      orders("where: [{paht: a, in: [x]}]")
        == ["t.yaml:5:14: unknown key 'paht' in sources.orders.where.#1; did you mean 'path'?"])
  }

  @Test func dimensions() {
    #expect(
      after("dimensions: [a, a, '', b, c, d, e, f, g, h]") == [
        "t.yaml:10:17: dimensions: 'a' is named twice",
        "t.yaml:10:20: dimensions: a name is expected, not an empty value",
        "t.yaml:10:39: dimensions: at most 8 are possible",
      ])
    #expect(
      after("    dimensions: {regoin: x}\ndimensions: [region]")
        == ["t.yaml:10:18: unknown dimension 'regoin' in sources.ledger.dimensions; did you mean 'region'?"])
  }

  @Test func limitsAndTimes() {
    #expect(
      after("epoch: {interval: 0ms}\nmatching: {idle_timeout: 0s, retention: -1d}") == [
        "t.yaml:10:19: epoch.interval: at least 1ms is expected, not '0ms'",
        "t.yaml:11:26: matching.idle_timeout: at least 1ms is expected, not '0s'",
        "t.yaml:11:41: matching.retention: a duration such as 500ms, 5s, 10m, 4h, 7d or 2w is expected, not '-1d'",
      ])
    #expect(
      after("limits: {memory: 1MiB}")
        == ["t.yaml:10:18: limits.record_bytes: one record would not fit in limits.memory"])
    #expect(
      after("logging: {level: wraning}") == [
        "t.yaml:10:18: logging.level: 'wraning' is not one of trace, debug, info, notice, warning, error; did you "
          + "mean 'warning'?"
      ])
  }

  @Test func policiesAndTolerances() {
    #expect(
      after("policy: {invoiced: {revenu: -net}, replace_default: true}") == [
        "t.yaml:10:21: policy.invoiced: 'revenu' is no account role; did you mean 'revenue'?",
        "t.yaml:10:36: policy: 'replace_default' is no order event; did you mean 'replace_defaults'?",
      ])
    #expect(
      after("policy: {invoiced: {revenue: -nett}}") == [
        "t.yaml:10:30: policy.invoiced.revenue: '+' or '-' and one of net, tax, freight, discount, gross, cost, "
          + "deposit, fee, applied is expected, not '-nett'; did you mean 'net'?"
      ])
    #expect(
      after("matching: {tolerances: {defualt: {absolute: 1}, tax: 0.01}}") == [
        "t.yaml:10:25: matching.tolerances: 'defualt' is no account role; did you mean 'default'?",
        "t.yaml:10:54: matching.tolerances.tax: a map is expected",
      ])
  }

  @Test func interpolation() {
    for bad in ["${A:-${B}}", "${A", "${}", "${:-x}", "${A}"] {
      #expect(after("prefix: '\(bad)'").count == 1, "\(bad)")
    }
    #expect(after("prefix: '${A:-}x${B:-y}'") == [])
  }
}
