import Domain
import Foundation
import Matching
import Testing

@testable import Configuration

/// Calendars, exchange rates and what else `FinanceChecks` are made of.
@Suite struct FinanceConfigurationTests {
  let tests = ConfigurationTests()

  /// A directory with files, for as long as `body` runs.
  func withFiles<Result>(_ files: [String: String], _ body: (String) throws -> Result) throws -> Result {
    let directory = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString).path
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: directory) }
    for (name, text) in files { try Data(text.utf8).write(to: URL(fileURLWithPath: directory + "/" + name)) }
    return try body(directory)
  }

  func parse(_ more: String, _ directory: String = "/nonexistent", base: String? = nil) throws -> Configuration {
    try Configuration.parse(
      yaml: (base ?? tests.base) + "\n" + more, file: "t.yaml", directory: directory, environment: [:])
  }

  func problems(_ more: String, _ files: [String: String] = [:], base: String? = nil) throws -> [String] {
    try withFiles(files) { directory in
      do {
        _ = try parse(more, directory, base: base)
        return []
      } catch let error as ConfigurationError {
        return error.problems.map { $0.message.replacing(directory + "/", with: "") }
      }
    }
  }

  func day(_ year: Int, _ month: Int, _ day: Int) -> Int32 {
    Int32(daysFromCivil(year: year, month: month, day: day))
  }

  @Test func nothingIsCheckedUnlessAskedFor() throws {
    let plain = try parse("")
    var ages = FinanceChecks()
    ages.severityAges_ms = Configuration.standardSeverityAges_ms
    #expect(plain.policy.checks == ages)
    let off = try parse("matching: {cash_application: false}")
    #expect(off.policy.checks == ages)
  }

  /// What later versions have added changes the hash of no configuration that does not use it.
  @Test func onlyWhatIsUsedIsInTheHash() throws {
    let plain = try parse("")
    func hash(_ more: String) throws -> UInt64 { try parse(more).matchingHash }
    // Written out, the standard entry of a later kind of event is still the standard one.
    #expect(try hash("policy: {chargeback: {receivable: +applied, cash: -applied}}") == plain.matchingHash)
    let replaced = "policy: {replace_defaults: true, invoiced: {receivable: +gross}"
    #expect(try hash(replaced + "}") == hash(replaced + ", chargeback: {}}"))
    #expect(try hash(replaced + "}") != hash(replaced + ", chargeback: {cash: -applied}}"))
    for more in [
      "matching: {cash_application: true}", "policy: {chargeback: {}}",
      "calendar: {periods: [{period: 2026-01, start: 2026-01-01, end: 2026-12-31}]}",
    ] {
      let made = try parse(more)
      #expect(made.matchingHash != plain.matchingHash, "\(more)")
      #expect(try parse(made.effectiveYAML(), base: "") == made, "\(more)")
    }
  }

  @Test func calendars() throws {
    let file = """
      period,start,end,state,closed_at
      2026-02,2026-01-26,2026-02-22,open,
      2026-01,2025-12-29,2026-01-25,closed,2026-02-03T18:00:00Z
      """
    let fromFile = try withFiles(["p.csv": file]) { try parse("calendar: {file: p.csv}", $0) }
    let written = try parse(
      """
      calendar:
        periods:
          - {period: 2026-01, start: 2025-12-29, end: 2026-01-25, closed_at: 2026-02-03T18:00:00Z}
          - {period: 202602, start: 2026-01-26, end: 2026-02-22}
      """)
    let calendar = try #require(written.policy.checks?.calendar)
    #expect(calendar == fromFile.policy.checks?.calendar)
    #expect(
      calendar.periods == [
        .init(
          name: 202_601, first_d: day(2025, 12, 29), last_d: day(2026, 1, 25), closedAt_ms: 1_770_141_600_000),
        .init(name: 202_602, first_d: day(2026, 1, 26), last_d: day(2026, 2, 22)),
      ])
    #expect(written.periods?.period(ofDay: day(2025, 12, 30)) == 202_601)
    #expect(written.periods?.period(ofDay: day(2026, 2, 23)) == 0)
    #expect(try parse(written.effectiveYAML(), base: "") == written)
  }

  @Test func wrongCalendars() throws {
    #expect(try problems("calendar: {}") == ["calendar: one of 'file', 'periods' and 'topic' is needed"])
    #expect(try problems("calendar: {file: p.csv}") == ["calendar.file: cannot read p.csv"])
    #expect(
      try problems("calendar: {file: p.csv}", ["p.csv": "period,start,ende\n"])
        == [
          "calendar.file: p.csv has a column 'ende', which is none of period, start, end, state, closed_at; did you mean 'end'?"
        ])
    #expect(
      try problems("calendar: {file: p.csv}", ["p.csv": "period,start\n"]) == [
        "calendar.file: p.csv has no column 'end'"
      ])
    #expect(
      try problems(
        "calendar: {file: p.csv}",
        ["p.csv": "period,start,end,state,closed_at\n2026,2026-01-01,x,shut,\n2026-02,2026-01-01,2026-01-31,closed,\n"])
        == [
          "p.csv:2: 'period' must be a year and a number such as 2026-01, not '2026'",
          "p.csv:2: 'end' must be a date such as 2026-01-31, not 'x'",
          "p.csv:2: 'state' is open or closed, not 'shut'",
          "p.csv:3: the period is closed, and 'closed_at' does not say since when",
        ])
    #expect(
      try problems(
        "calendar: {file: p.csv}",
        ["p.csv": "period,start,end\n2026-01,2026-01-01,2026-01-31\n2026-02,2026-02-02,2026-02-28\n"])
        == ["p.csv:3: no period holds 2026-02-01, between 2026-01 and 2026-02"])
    #expect(
      try problems("calendar: {periods: [{period: 2026-01, start: 2026-01-01, end: 2026-01-31, closed: x}]}").contains {
        $0.contains("unknown key 'closed'")
      })
    #expect(
      try problems(
        "calendar: {periods: [{period: 2026-01, start: 2026-01-01, end: 2026-01-31, state: open, closed_at: 2026-02-01}]}"
      )
        == ["calendar.periods.#1: the period is open, and has a 'closed_at'"])
  }

  static let ledgerBase = """
    name: t
    dimensions: [region, company, segment]
    sources:
      orders:
        kind: orders
        fields: {order: id, event: {path: type, values: {inv: invoiced}}, event_time: time, currency: cur, gross: gross}
      ledger:
        kind: ledger
        fields: {order: id, role: {constant: receivable}, currency: cur, event_time: time, quantity: q, base_amount: b}
        amount: amt
    """

  @Test func exchangeRates() throws {
    let files = ["r.csv": "date,from,to,rate\n2026-03-02,USD,EUR,0.9250\n2026-03-02,EUR,GBP,0.86\n"]
    let made = try withFiles(files) { directory in
      let made = try parse(
        "fx: {base: EUR, rates: r.csv, tolerance: 0.05, rounding: half_up, maximum_age: 3d}", directory,
        base: Self.ledgerBase)
      let again = try Configuration.parse(
        yaml: made.effectiveYAML(), file: "t.yaml", directory: directory, environment: [:])
      #expect(again == made && again.matchingHash == made.matchingHash)
      return made
    }
    let exchange = try #require(made.policy.checks?.exchange)
    #expect(exchange.tolerance_u == 50_000 && exchange.rates.rounding == .halfUp && exchange.rates.maximumAge_d == 3)
    #expect(exchange.rates.convert(1_00, from: Currency("USD")!, day: day(2026, 3, 4)) == 93)
    #expect(exchange.rates.convert(86_00, from: Currency("GBP")!, day: day(2026, 3, 2)) == 100_00)
    #expect(made.sources[1].mapping.baseCurrency == Currency("EUR"))
    // Another rate is another configuration.
    let other = try withFiles(["r.csv": files["r.csv"]!.replacing("0.9250", with: "0.9251")]) {
      try parse(
        "fx: {base: EUR, rates: r.csv, tolerance: 0.05, rounding: half_up, maximum_age: 3d}", $0, base: Self.ledgerBase)
    }
    #expect(other.matchingHash != made.matchingHash)
  }

  /// A rate that is none is one problem: there is a base currency all the same.
  @Test func aBadRateIsOneProblem() throws {
    let found = try problems(
      "fx: {base: EUR, rates: r.csv}", ["r.csv": "date,from,to,rate\n2026-03-02,USD,EUR,x\n"], base: Self.ledgerBase)
    #expect(found.count == 1 && found[0].contains("r.csv:2"), "\(found)")
    #expect(try problems("", base: Self.ledgerBase).contains { $0.contains("there is no base currency") })
  }

  /// What stands between the names of the columns separates all columns of the file.
  @Test func columnsMayBeSeparatedOtherwise() throws {
    func hash(_ rates: String, _ table: String) throws -> UInt64 {
      try withFiles(["r.csv": rates, "t.csv": table]) {
        try parse(
          "fx: {base: EUR, rates: r.csv}\ntables: {t: {file: t.csv, key: k, value: v}}", $0, base: Self.ledgerBase)
      }.matchingHash
    }
    let rates = "date,from,to,rate\n2026-03-02,USD,EUR,0.9250\n"
    let plain = try hash(rates, "k,v\n1,\"a;b, c\"\n2,d;e\n")
    for other in [";", "\t"] {
      #expect(
        try hash(rates.replacing(",", with: other), "k\(other)v\n1\(other)\"a;b, c\"\n2\(other)\"d;e\"\n") == plain)
    }
    // In a header with both the comma separates.
    #expect(
      try problems("tables: {t: {file: t.csv, key: 'k;k', value: v}}", ["t.csv": "\"k;k\",v\n1;2,3\n"]) == [])
    #expect(
      try problems("tables: {t: {file: t.csv, key: k}}", ["t.csv": "k;v\n1,2\n"]) == [
        "tables.t.file: t.csv:2: too few columns"
      ])
  }

  @Test func aPivotStandsInTheConfiguration() throws {
    let files = ["r.csv": "date,from,to,rate\n2026-03-02,EUR,USD,1.08\n2026-03-02,EUR,GBP,0.86\n"]
    let made = try withFiles(files) { directory in
      let made = try parse("fx: {base: USD, pivot: EUR, rates: r.csv}", directory, base: Self.ledgerBase)
      let again = try Configuration.parse(
        yaml: made.effectiveYAML(), file: "t.yaml", directory: directory, environment: [:])
      #expect(again == made && again.matchingHash == made.matchingHash)
      return made
    }
    let rates = try #require(made.policy.checks?.exchange?.rates)
    #expect(rates.pivot == Currency("EUR"))
    #expect(rates.convert(86_00, from: Currency("GBP")!, day: day(2026, 3, 2)) == 108_00)
    #expect(
      try problems("fx: {base: USD, rates: r.csv}", files)
        == ["r.csv:3: EUR to GBP is no rate of the base currency USD"])
    #expect(
      try problems("fx: {base: USD, pivot: USD, rates: r.csv}", ["r.csv": "date,from,to,rate\n"])
        == ["fx.pivot: USD is the base currency; a pivot is another one"])
    #expect(
      try problems("fx: {base: USD, pivot: CHF, rates: r.csv}", ["r.csv": "date,from,to,rate\n2026-03-02,EUR,USD,1\n"])
        == ["fx.pivot: r.csv has no rate between CHF and the base currency USD"])
  }

  @Test func wrongExchangeRates() throws {
    let fields = try problems("", base: Self.ledgerBase)
    #expect(fields == ["sources.ledger.fields.base_amount: there is no base currency (fx.base)"])
    #expect(try problems("fx: {base: EUR}") == ["fx: 'base' and either 'rates' or 'topic' are needed"])
    #expect(
      try problems("fx: {base: EUX, rates: r.csv}", ["r.csv": "date,from,to,rate\n"])
        == ["fx.base: 'EUX' is no currency of ISO 4217"])
    #expect(
      try problems(
        "fx: {base: EUR, rates: r.csv}",
        ["r.csv": "date,from,to,rate\n2.3.2026,USD,EUR,1\n2026-03-02,USX,EUR,1,5\n"])
        == ["fx.rates: r.csv:3: 5 columns, and the header has 4"])
    #expect(
      try problems(
        "fx: {base: EUR, rates: r.csv}",
        ["r.csv": "date,from,to,rate\n2.3.2026,USD,EUR,1\n2026-03-02,USX,EUR,\"1,5\"\n"])
        == [
          "r.csv:2: '2.3.2026' is no date such as 2026-01-31", "r.csv:3: 'USX' is no currency of ISO 4217",
          "r.csv:3: '1,5' is no decimal number",
        ])
    #expect(
      try problems(
        "fx: {base: EUR, rates: r.csv}", ["r.csv": "date,from,to,rate\n2026-03-02,USD,JPY,150\n"])
        == ["r.csv:2: USD to JPY is no rate of the base currency EUR"])
    #expect(
      try problems("fx: {base: EUR, rates: r.csv, maximum_age: 5h}", ["r.csv": "date,from,to,rate\n"])
        == ["fx.maximum_age: whole days are expected"])
  }

  @Test func entityAndSegmentAreDimensions() throws {
    let base = Self.ledgerBase.replacing(", base_amount: b", with: "")
    let made = try parse("matching: {entity: company, segment: segment, cash_application: true}", base: base)
    let checks = try #require(made.policy.checks)
    #expect(checks.entity == 1 && checks.segment == 2 && checks.appliesCash && checks.calendar == nil)
    #expect(try parse(made.effectiveYAML(), base: "") == made)
    #expect(
      try problems("matching: {entity: compny}", base: base)
        == ["matching.entity: unknown dimension 'compny'; did you mean 'company'?"])
  }

  @Test func revenueSchedules() throws {
    let base = tests.base.replacing("gross: gross", with: "gross: gross, service_start: from, service_end: {path: to}")
    let made = try parse("matching: {revenue_schedules: {basis: period, grace: 10d}}", base: base)
    #expect(made.policy.checks?.schedules?.basis == .period && made.policy.checks?.schedules?.grace_d == 10)
    #expect(made.sources[0].mapping.fields["service_end"]?.value == .path("to"))
    #expect(try parse(made.effectiveYAML(), base: "") == made)
    let standard = try parse("matching: {revenue_schedules: {}}", base: base)
    #expect(standard.policy.checks?.schedules == RevenueSchedules())
    #expect(try parse(standard.effectiveYAML(), base: "") == standard)
    // So many periods: by the calendar of the schedule. What is new counts where it is used.
    let counted = base.replacing("service_end: {path: to}", with: "service_periods: {constant: \"12\"}")
    let months = try parse("matching: {revenue_schedules: {remainder: last}}", base: counted)
    #expect(months.policy.checks?.schedules?.remainder == .last && months.sources[0].mapping.serviceTerm == .months)
    #expect(try parse(months.effectiveYAML(), base: "") == months)
    let spread = try parse("matching: {revenue_schedules: {remainder: spread}}", base: counted)
    #expect(spread.matchingHash != months.matchingHash)
    #expect(try parse("matching: {revenue_schedules: {}}", base: counted).matchingHash == spread.matchingHash)
    #expect("\(spread.policy.checks!)".contains(", remainder: Matching.RevenueSchedules.Remainder.spread"))
    let periods = try parse("matching: {revenue_schedules: {basis: period}}", base: counted)
    #expect(periods.sources[0].mapping.serviceTerm == .periods(nil))
    #expect(
      try problems("matching: {revenue_schedules: {grace: 5h}}")
        == ["matching.revenue_schedules.grace: whole days are expected"])
    #expect(
      try problems("matching: {revenue_schedules: {basis: month}}")
        == ["matching.revenue_schedules.basis: 'month' is not one of day, period"])
  }

  @Test func severityIsByAmountAndByAge() throws {
    let list = try parse("matching: {severity: [1, 2, 3]}")
    #expect(list.policy.severityAmounts_u == [1_000_000, 2_000_000, 3_000_000])
    #expect(try parse(list.effectiveYAML(), base: "") == list)
    let both = try parse("matching: {severity: {amounts: [1, 2, 3], age: [24h, 72h, 5d]}, intercompany: true}")
    #expect(both.policy.severityAmounts_u == list.policy.severityAmounts_u)
    let hour: Int64 = 3_600_000
    #expect(both.policy.checks?.severityAges_ms == [24 * hour, 72 * hour, 120 * hour])
    #expect(both.policy.checks?.mirrorsIntercompany == true)
    // Without a word of it age counts all the same.
    let plain = try parse("")
    for ages in [list.policy.checks?.severityAges_ms, plain.policy.checks?.severityAges_ms] {
      #expect(ages == both.policy.checks?.severityAges_ms)
    }
    #expect(try parse(plain.effectiveYAML(), base: "") == plain)
    for none in ["none", "[]"] {
      let without = try parse("matching: {severity: {amounts: [1, 2, 3], age: \(none)}}")
      #expect(without.policy.checks == nil && without.policy.severityAmounts_u == list.policy.severityAmounts_u)
      #expect(try parse(without.effectiveYAML(), base: "") == without && without.matchingHash != list.matchingHash)
    }
    #expect(try parse(both.effectiveYAML(), base: "") == both)
    let age = try parse("matching: {severity: {age: [1h, 2h, 3h]}}")
    #expect(age.policy.severityAmounts_u == Configuration().policy.severityAmounts_u)
    #expect(try parse(age.effectiveYAML(), base: "") == age)
    #expect(
      try problems("matching: {severity: {age: [3h, 2h, 1h]}}") == ["matching.severity.age: the durations must rise"])
    #expect(
      try problems("matching: {severity: {age: 3h}}") == [
        "matching.severity.age: three durations, or none, are expected"
      ])
    #expect(try problems("matching: {severity: [1, 2]}") == ["matching.severity: three amounts are expected"])
    #expect(try problems("matching: {severity: [3, 2, 1]}") == ["matching.severity: the amounts must rise"])
    #expect(
      try problems("matching: {severity: {ages: [1h, 2h, 3h]}}")
        == ["unknown key 'ages' in matching.severity; did you mean 'age'?"])
  }
}
