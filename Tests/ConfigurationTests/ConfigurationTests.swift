import Domain
import Foundation
import Matching
import Testing

@testable import Configuration

@Suite struct ConfigurationTests {
  static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  let base = """
    name: t
    sources:
      orders:
        kind: orders
        fields: {order: id, event: {path: type, values: {inv: invoiced}}, event_time: time, currency: cur, gross: gross}
      ledger:
        kind: ledger
        fields: {order: id, role: {constant: receivable}, currency: cur, event_time: time}
        amount: amt
    """

  func parse(_ yaml: String, _ environment: [String: String] = [:]) throws -> Configuration {
    try Configuration.parse(yaml: yaml, file: "t.yaml", directory: "/nonexistent", environment: environment)
  }

  func problems(_ yaml: String, _ environment: [String: String] = [:]) -> [String] {
    do {
      _ = try parse(yaml, environment)
      return []
    } catch let error as ConfigurationError {
      return error.description.split(separator: "\n").map(String.init)
    } catch { return ["\(error)"] }
  }

  /// What is allowed and does not do what it seems to: `check` warns.
  @Test func whatCannotBeMeantIsNamed() throws {
    func warnings(_ yaml: String) throws -> [String] { try parse(yaml).mappingWarnings }
    func replacing(_ text: String, _ other: String) throws -> [String] {
      #expect(base.contains(text))
      return try warnings(base.replacingOccurrences(of: text, with: other))
    }
    #expect(try warnings(base) == [])
    for (format, isNamed) in [("json", false), ("avro", false), ("debezium", true), ("debezium_avro", true)] {
      let registry = format.hasSuffix("avro") ? "\nschema_registry: {url: 'http://127.0.0.1:1'}" : ""
      let yaml = base.replacingOccurrences(of: "kind: ledger", with: "kind: ledger\n    format: \(format)") + registry
      #expect(try warnings(yaml).isEmpty != isNamed, "\(format)")
      let keyed = yaml.replacingOccurrences(of: "role: {constant", with: "line_id: l, role: {constant")
      #expect(try warnings(keyed) == [], "\(format)")
    }
    #expect(
      try replacing(
        "{inv: invoiced}", "{'': booked, '007': paid, '0': invoiced, ' x': delivered}, strip_leading_zeros: true")
        == [
          "source 'orders', field 'event': 'values' has '', and a value that is empty is not looked up ('default' gives it a text)",
          "source 'orders', field 'event': 'values' has ' x', and spaces around a value are taken off before it is looked up",
          "source 'orders', field 'event': 'values' has '007', and with 'strip_leading_zeros' no value begins with a zero when it is looked up",
        ])
    #expect(try replacing("{inv: invoiced}", "{'007': paid, '0': invoiced}") == [])
    #expect(
      try replacing("amount: amt", "amount: {amount: amt, side: {path: s, values: {'': debit, H: credit}}}").first?
        .hasPrefix("source 'ledger', field 'amount.side'") == true)
  }

  /// Amounts without a currency are all dead letters.
  @Test func amountsWithoutACurrencyAreNamed() throws {
    let without = base.replacingOccurrences(of: "currency: cur, gross: gross", with: "gross: gross, tax: t")
    #expect(
      try parse(without).mappingWarnings == [
        "source 'orders' maps tax, gross and no 'currency': every record with an amount goes to dead letters "
          + "('currency: {constant: EUR}' gives all of them one)"
      ])
    #expect(try parse(without.replacingOccurrences(of: ", gross: gross, tax: t", with: "")).mappingWarnings == [])
    #expect(
      try parse(without.replacingOccurrences(of: "gross: gross", with: "currency: {constant: EUR}, gross: g"))
        .mappingWarnings == [])
  }

  /// Entries of a table with a name that none of the fields ever finds which use it.
  @Test func entriesThatNobodyFindsAreNamed() throws {
    func warnings(_ role: String, _ more: String = "", entries: String = "'0000140000': receivable, '80': revenue")
      throws -> [String]
    {
      try parse(
        base.replacingOccurrences(of: "role: {constant: receivable}", with: "role: \(role)\(more)")
          + "\ntables: {accounts: {entries: {\(entries)}}}"
      ).mappingWarnings
    }
    let stripped = "{path: a, strip_leading_zeros: true, table: accounts}"
    #expect(
      try warnings(stripped) == [
        "table 'accounts' has '0000140000', and with 'strip_leading_zeros' no value begins with a zero when it is looked up"
      ])
    // Another field finds it.
    #expect(try warnings(stripped, ", customer: {path: a, table: accounts, unlisted: keep}") == [])
    #expect(try warnings("{path: a, table: accounts}") == [])
    #expect(
      try warnings("{path: a, table: accounts}", entries: "' 80': revenue") == [
        "table 'accounts' has ' 80', and spaces around a value are taken off before it is looked up"
      ])
    let many = (1...5).map { "'0\($0)': revenue" }.joined(separator: ", ")
    #expect(
      try warnings(stripped, entries: many) == [
        "table 'accounts' has '01' and 4 more, and with 'strip_leading_zeros' no value begins with a zero when it is looked up"
      ])
    // Parts have tables too, at their place or with a name.
    #expect(
      try warnings("{first: [\(stripped), {constant: revenue}]}", entries: "'07': revenue") == [
        "table 'accounts' has '07', and with 'strip_leading_zeros' no value begins with a zero when it is looked up"
      ])
    #expect(
      try warnings(
        "{first: [{path: a, strip_leading_zeros: true, values: {'07': revenue}}, {constant: revenue}]}",
        ", customer: {path: a, table: accounts}") == [
          "source 'ledger', field 'role': 'values' has '07', and with 'strip_leading_zeros' no value begins with a zero when it is looked up"
        ])
  }

  @Test func nanosecondsAreAFormat() throws {
    let yaml = base.replacingOccurrences(
      of: "event_time: time, currency: cur, g", with: "event_time: {path: t, format: epoch_ns}, currency: cur, g")
    #expect(try parse(yaml).sources[0].mapping.fields["event_time"]?.timeFormat == .epochNanoseconds)
  }

  @Test func examplesLoad() throws {
    let directory = Self.root.appendingPathComponent("config/examples").path
    let files = try FileManager.default.contentsOfDirectory(atPath: directory).filter { $0.hasSuffix(".yaml") }
    #expect(files.count >= 4)
    for file in files {
      let environment = ["KAFKA_USER": "u", "KAFKA_PASSWORD": "p", "KAFKA_BOOTSTRAP": "b:9093"]
      _ = try Configuration.load(path: directory + "/" + file, environment: environment)
    }
  }

  @Test func defaults() throws {
    let configuration = try parse(base)
    #expect(configuration.prefix == "t")
    #expect(configuration.breaksTopic == "t.breaks")
    #expect(configuration.sources.map(\.topic) == ["t.orders", "t.ledger"])
    #expect(configuration.kafka.group == "tieout-t")
    var policy = MatchingPolicy()
    policy.checks = FinanceChecks()
    policy.checks!.severityAges_ms = [24, 72, 120].map { $0 * 3_600_000 }
    #expect(configuration.policy == policy)
  }

  @Test func unknownKeysNameTheNearest() {
    #expect(
      problems(base + "\nmatching:\n  windw: 3d\n") == [
        "t.yaml:11:3: unknown key 'windw' in matching; did you mean 'window'?"
      ])
    #expect(
      problems(base.replacingOccurrences(of: "gross: gross", with: "gros: gross")) == [
        "t.yaml:5:104: unknown field 'gros' in sources.orders.fields; did you mean 'gross'?"
      ])
    #expect(
      problems(base.replacingOccurrences(of: "values:", with: "vlaues:")).first?.contains("did you mean 'values'?")
        == true)
  }

  @Test func allProblemsAreShownAtOnce() {
    let found = problems(
      base + """

        workers: many
        matching:
          window: 3 days
          tolerances:
            recievable: {absolute: 0.01}
            tax: {absolute: 0.0000001}
        policy:
          invoised: {}
          invoiced: {receivable: gross}
        limits: {memory: 4 gigs}
        """)
    #expect(found.count == 7, "\(found)")
    #expect(found.contains { $0.contains("workers: a whole number") })
    #expect(found.contains { $0.contains("'recievable' is no account role; did you mean 'receivable'?") })
    #expect(found.contains { $0.contains("did you mean 'invoiced'?") })
  }

  @Test func wrongShapes() {
    #expect(problems("- a").first?.contains("the file must hold a map") == true)
    #expect(problems("a: [").first?.contains("not valid YAML") == true)
    #expect(problems("name: x").first?.contains("'sources' is missing") == true)
    #expect(problems(base + "\nversion: 2").first?.contains("version 2 is not known") == true)
    #expect(problems(base.replacingOccurrences(of: "amount: amt", with: "topic: t.orders")).isEmpty == false)
  }

  @Test func mappingErrorsNameTheSource() {
    let found = problems(base.replacingOccurrences(of: "order: id, event:", with: "event:"))
    #expect(found == ["t.yaml:5:13: sources.orders.fields: 'order' is required and not mapped"])
    let event = problems(base.replacingOccurrences(of: "inv: invoiced", with: "inv: invoicd"))
    #expect(event.first?.contains("did you mean 'invoiced'?") == true)
  }

  @Test func secretsComeFromOutsideAndAreNeverPrinted() throws {
    let yaml =
      base + """

        kafka:
          properties:
            sasl.username: {env: WHO}
            sasl.password: plain-hunter2
            security.protocol: SASL_SSL
        """
    let configuration = try parse(yaml, ["WHO": "hunter1"])
    #expect(configuration.kafka.properties.map { $0.1.reveal } == ["hunter1", "plain-hunter2", "SASL_SSL"])
    var dumped = ""
    dump(configuration, to: &dumped)
    let printed = configuration.effectiveYAML() + "\(configuration)" + String(reflecting: configuration) + dumped
    #expect(!printed.contains("hunter"))
    #expect(printed.contains("SASL_SSL"))
    #expect(problems(yaml).first?.contains("the environment has no WHO") == true)
  }

  @Test func environmentIsFilledIn() throws {
    let yaml = base.replacingOccurrences(of: "name: t", with: "name: ${NAME}-x\nprefix: ${PREFIX:-fallback}")
    let configuration = try parse(yaml, ["NAME": "shop"])
    #expect(configuration.name == "shop-x")
    #expect(configuration.prefix == "fallback")
    #expect(problems(yaml).first?.contains("no NAME") == true)
  }

  @Test func effectiveYAMLGivesTheSameConfiguration() throws {
    for file in ["northwind.yaml", "flat.yaml", "sap-document-flow.yaml"] {
      let path = Self.root.appendingPathComponent("config/examples/\(file)").path
      let configuration = try Configuration.load(path: path)
      let again = try parse(configuration.effectiveYAML())
      #expect(again == configuration, "\(file)")
    }
  }

  @Test func toleranceAndPolicy() throws {
    let configuration = try parse(
      base + """

        matching:
          tolerances:
            default: {absolute: 0.05}
            tax: {under: 1, over: 3, percent: 0.5, combine: min}
        policy:
          invoiced: {receivable: +gross, revenue: [-net, -freight]}
          paid: {}
        """)
    let tax = configuration.policy.tolerances[Int(AccountRole.tax.rawValue)]
    #expect(tax.under_u == 1_000_000 && tax.over_u == 3_000_000 && tax.percent_u == 500_000 && tax.combination == .min)
    #expect(configuration.policy.tolerances[0] == Tolerance(absolute_u: 50_000))
    #expect(
      configuration.policy.entries[Int(OrderEventKind.invoiced.rawValue)] == [
        PolicyEntry(.receivable, 1, .gross), PolicyEntry(.revenue, -1, .net), PolicyEntry(.revenue, -1, .freight),
      ])
    #expect(configuration.policy.entries[Int(OrderEventKind.paid.rawValue)].isEmpty)
    #expect(!configuration.policy.entries[Int(OrderEventKind.credited.rawValue)].isEmpty)
  }

  /// What is open is remembered at least as long as what is closed, whichever of the two is given.
  @Test(arguments: [
    ("{}", 90), ("{retention: 400d}", 400), ("{retention: 400d, open_retention: 10d}", 400),
    ("{retention: 5d, open_retention: 10d}", 10),
  ]) func openTiesAreNotForgottenFirst(_ matching: String, _ days: Int64) throws {
    let configuration = try parse(base + "\nmatching: \(matching)\n")
    #expect(configuration.policy.openRetention_ms == days * 86_400_000)
    #expect(configuration.effectiveYAML().contains("open_retention: \(days)d"))
  }

  @Test func tablesFromFiles() throws {
    let directory = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString).path
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: directory) }
    try "account,role,name\n1200,receivable,Trade\n4000,revenue,Sales\n".write(
      toFile: directory + "/chart.csv", atomically: true, encoding: .utf8)
    let yaml =
      base.replacingOccurrences(of: "role: {constant: receivable}", with: "role: {path: acct, table: chart}")
      + "\ntables:\n  chart: {file: chart.csv, key: account, value: role}\n"
    let configuration = try Configuration.parse(yaml: yaml, file: "t.yaml", directory: directory, environment: [:])
    #expect(
      configuration.sources[1].mapping.fields["role"]?.table?.entries == ["1200": "receivable", "4000": "revenue"])
    let wrong = yaml.replacingOccurrences(of: "value: role", with: "value: rle")
    #expect(throws: ConfigurationError.self) {
      _ = try Configuration.parse(yaml: wrong, file: "t.yaml", directory: directory, environment: [:])
    }
  }

  @Test func durationsAndSizes() {
    for (text, ms) in [
      ("500ms", Int64(500)), ("5s", 5_000), ("10m", 600_000), ("4h", 14_400_000), ("7d", 604_800_000),
      ("2w", 1_209_600_000),
    ] {
      #expect(ConfigurationReader.duration_ms(text) == ms)
    }
    for bad in ["", "5", "s", "-5s", "1.5h", "5 s", "99999999999999d"] {
      #expect(ConfigurationReader.duration_ms(bad) == nil, "\(bad)")
    }
    #expect(ConfigurationReader.size("64KiB") == 65_536)
    #expect(ConfigurationReader.size("2GB") == 2_000_000_000)
    #expect(ConfigurationReader.size("x") == nil)
  }
}
