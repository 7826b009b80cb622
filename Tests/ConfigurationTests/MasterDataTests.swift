import Decoding
import Domain
import Foundation
import Testing

@testable import Configuration

@Suite struct MasterDataTests {
  let yaml = """
    name: m
    dimensions: [region]
    master_data: {enabled: true}
    tables:
      accounts: {file: accounts.csv, entries: {"9": fees}}
      fixed: {entries: {a: b}}
    sources:
      orders:
        kind: orders
        fields: {order: o, event: {constant: invoiced}, event_time: t, customer: {path: c, table: fixed}, net: n, currency: k}
        rules: [{field: customer, table: accounts}]
      ledger:
        kind: ledger
        fields: {order: o, role: {path: a, table: accounts, unlisted: skip}, currency: c, event_time: t}
        dimensions: {region: {path: r, table: accounts, unlisted: keep}}
        amount: {debit: {path: x}, credit: {path: y, table: accounts, unlisted: keep}}
    """

  func load(_ lines: [String], _ change: (String) -> String = { $0 }) throws -> Configuration {
    let directory = NSTemporaryDirectory() + "tieout-tables-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: directory) }
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    try (["account,role"] + lines).joined(separator: "\n").write(
      toFile: directory + "/accounts.csv", atomically: true, encoding: .utf8)
    return try Configuration.parse(yaml: change(yaml), file: "m.yaml", directory: directory)
  }

  @Test func anotherVersionIsThatConfigurationAsIfItHadBeenReadSo() throws {
    let old = try load(["1,receivable"])
    let new = try load(["1,revenue", "2,cash"])
    #expect(old.matchingHash != new.matchingHash)
    #expect(old.tableEntries == ["accounts": ["1": "receivable", "9": "fees"]])
    let replaced = try old.replacingTables(new.tableEntries)
    #expect(replaced.matchingHash == new.matchingHash)
    #expect(replaced.sources == new.sources)
    let ledger = replaced.sources[1].mapping
    #expect(ledger.fields["role"]?.table?.entries == ["1": "revenue", "2": "cash", "9": "fees"])
    #expect(ledger.fields["role"]?.table?.unlisted == .skip && ledger.dimensions[0]?.table?.unlisted == .keep)
    #expect(replaced.sources[0].mapping.fields["customer"]?.table?.entries == ["a": "b"])
    #expect(try old.replacingTables(old.tableEntries).matchingHash == old.matchingHash)
    #expect(throws: MasterDataError.self) { try old.replacingTables(["accounts": ["1": "recievable"]]) }
    #expect(throws: MasterDataError.self) { try old.rereadTables() }
  }

  @Test func whatMakesNoSenseIsRefused() throws {
    #expect(throws: ConfigurationError.self) {
      try load(["1,cash"]) { $0.replacing("accounts: {file: accounts.csv, entries", with: "accounts: {entries") }
    }
    let routed = #expect(throws: ConfigurationError.self) {
      try load(["1,cash"]) {
        $0.replacing("kind: orders", with: "kind: orders\n    routed: true").replacing(
          "{order: o, event:", with: "{order: {path: o, table: accounts}, event:")
      }
    }
    #expect(routed?.description.contains("to two partitions") == true)
  }

  @Test func aRouterFindsTheOrderWhateverTheTablesHold() throws {
    let source = try load(["1,cash"]).sources[1]
    let mapping = source.routingMapping(["accounts"])
    #expect(mapping.fields["role"]?.table?.unlisted == .replace("receivable"))
    #expect(source.routingMapping([]) == source.mapping)
    #expect(throws: Never.self) { try MappingPlan(mapping) }
  }

  /// Periods and rates of files are versions as tables are.
  @Test func calendarAndRatesAreFollowed() throws {
    let finance = FinanceConfigurationTests()
    let more = """
      dimensions: [region]
      aggregates: {enabled: true}
      master_data: {enabled: true}
      calendar: {file: p.csv}
      fx: {base: EUR, rates: r.csv, rounding: half_up, maximum_age: 3d, tolerance: 0.5}
      """
    func load(_ periods: [String], _ rates: [String]) throws -> Configuration {
      try finance.withFiles([
        "p.csv": (["period,start,end,state,closed_at"] + periods).joined(separator: "\n"),
        "r.csv": (["date,from,to,rate"] + rates).joined(separator: "\n"),
      ]) { try finance.parse(more, $0) }
    }
    let january = "2026-01,2026-01-01,2026-01-31"
    let old = try load([january + ",,"], ["2026-01-02,USD,EUR,0.9"])
    let new = try load(
      [january + ",closed,2026-02-03T18:00:00Z", "2026-02,2026-02-01,2026-02-28,open,"],
      ["2026-01-02,USD,EUR,0.9", "2026-01-03,USD,EUR,0.91", "2026-01-03,EUR,USD,1.1"])
    let replaced = try old.replacingTables(new.tableEntries)
    #expect(replaced.matchingHash == new.matchingHash && old.matchingHash != new.matchingHash)
    #expect(replaced.policy == new.policy && replaced.tableEntries == new.tableEntries)
    let day = Int32(daysFromCivil(year: 2026, month: 2, day: 3))
    #expect(replaced.periods?.period(ofDay: day) == 202_602 && old.periods?.period(ofDay: day) == 0)
    #expect(replaced.policy.checks?.exchange?.tolerance_u == 500_000)
    #expect(throws: Never.self) { try old.checkSuccessor(new) }
    // A period that has sums stays where it is.
    for (periods, what) in [
      (["2026-01,2026-01-01,2026-01-30,,", "2026-02,2026-01-31,2026-02-28,,"], "has other days"),
      (["2026-02,2026-02-01,2026-02-28,,"], "is gone"),
    ] {
      let other = try old.replacingTables(load(periods, ["2026-01-02,USD,EUR,0.9"]).tableEntries)
      let error = #expect(throws: MasterDataError.self) { try old.checkSuccessor(other) }
      #expect(error?.description.contains("period 2026-01 \(what)") == true)
    }
    var entries = old.tableEntries
    entries["(rates)"] = ["2026-01-02\u{1f}USD\u{1f}EUR": "-1"]
    let rates = #expect(throws: MasterDataError.self) { try old.replacingTables(entries) }
    #expect(rates?.description == "the rates: 2026-01-02 USD EUR: a rate must be above zero")
    entries = old.tableEntries
    entries["(calendar)"]?["2026-02"] = "2026-02-02\u{1f}2026-02-28\u{1f}\u{1f}"
    let gap = #expect(throws: MasterDataError.self) { try old.replacingTables(entries) }
    #expect(gap?.description.hasPrefix("the calendar: period '2026-02': no period holds 2026-02-01") == true)
    // Without following, the hash is what it was.
    let plain = more.replacing("master_data: {enabled: true}\n", with: "")
    let files = ["p.csv": "period,start,end\n" + january, "r.csv": "date,from,to,rate\n2026-01-02,USD,EUR,0.9"]
    let unfollowed = try finance.withFiles(files) { try finance.parse(plain, $0) }
    #expect(unfollowed.tableEntries.isEmpty && unfollowed.matchingHash == old.matchingHash)
  }

  /// The control totals of quality are by period too.
  @Test(arguments: ["aggregates", "quality", ""]) func periodsOfSumsKeepTheirDays(kept: String) throws {
    let finance = FinanceConfigurationTests()
    func load(_ days: String) throws -> Configuration {
      try finance.withFiles(["p.csv": "period,start,end\n2026-01,2026-01-01,\(days)"]) {
        try finance.parse(
          "master_data: {enabled: true}\ncalendar: {file: p.csv}\n" + (kept == "" ? "" : "\(kept): {enabled: true}\n"),
          $0)
      }
    }
    let old = try load("2026-01-31")
    let new = try old.replacingTables(load("2026-01-05").tableEntries)
    if kept == "" {
      #expect(throws: Never.self) { try old.checkSuccessor(new) }
    } else {
      let error = #expect(throws: MasterDataError.self) { try old.checkSuccessor(new) }
      #expect(error?.description == "the calendar: period 2026-01 has other days, and there are sums of it")
    }
  }

  /// What no orders source tells the amount of changes nothing: `check` warns.
  @Test func policiesOfAmountsThatNobodyMapsAreNamed() throws {
    let finance = FinanceConfigurationTests()
    func load(_ row: String) throws -> [String] {
      try finance.withFiles(["p.csv": "event,role,component,sign\n" + row]) {
        try finance.parse("master_data: {enabled: true}\nposting_policies: {file: p.csv}\n", $0).unmappedPolicies
      }
    }
    #expect(
      try load("refunded,fees,fee,debit") == [
        "the posting policy of 'refunded' puts 'fee' into 'fees', and no orders source maps 'fee': the entry changes nothing"
      ])
    #expect(try load("invoiced,deferred,gross,credit") == [])
    #expect(try load("refunded,fees,fee,none") == [])
  }

  /// A source may say of its own events what they must put into the ledger; rows leave that alone, also when they change.
  @Test func sourcesHavePoliciesOfTheirOwn() throws {
    let finance = FinanceConfigurationTests()
    func base(_ own: String, ledger: String = "") -> String {
      finance.tests.base.replacing(
        "gross: gross}",
        with: "gross: gross, tax: tax}\n    policy: {\(own)}\n  billing:\n    kind: orders\n"
          + "    fields: {order: id, event: {constant: invoiced}, event_time: time, currency: cur, net: net}"
      ).replacing("amount: amt", with: "amount: amt\(ledger)")
    }
    let own = "invoiced: {receivable: +gross, revenue: [-gross, +tax], tax: -tax}, paid: {}"
    let plain = try finance.parse("", base: finance.tests.base)
    #expect(plain.policy.postingPolicies == nil)
    let configuration = try finance.parse("", base: base(own))
    let policies = try #require(configuration.policy.postingPolicies)
    #expect(
      policies.ofSources.map { "\($0.source) \($0.event.name) \($0.entries.count)" } == ["0 invoiced 4", "0 paid 0"])
    func roles(_ kind: OrderEventKind, _ source: Int?) -> [String] {
      configuration.policy.entries(of: kind, source: source).map { "\($0.entry.sign) \($0.entry.role.name)" }
    }
    #expect(roles(.invoiced, 0) == ["1 receivable", "-1 revenue", "1 revenue", "-1 tax"] && roles(.paid, 0) == [])
    #expect(roles(.invoiced, 1) == roles(.invoiced, nil) && roles(.invoiced, 1).count == 5)
    // What is in effect says it, and can be read again.
    let effective = configuration.effectiveYAML()
    #expect(effective.contains("revenue: [\"-gross\", \"+tax\"]") && effective.contains("paid: {}"), "\(effective)")
    #expect(
      try Configuration.parse(yaml: effective, file: "e.yaml", directory: "/nonexistent", environment: [:]).policy
        == configuration.policy)
    // Other policies, another hash.
    let hashes = try ["", own, "invoiced: {}", "paid: {}"].map { try finance.parse("", base: base($0)).matchingHash }
    #expect(Set(hashes).count == 4)
    #expect(configuration.masterDataNames == [])
    // What the source does not map, though another one does.
    #expect(
      try finance.parse("", base: base("invoiced: {receivable: +gross, revenue: -net}")).unmappedPolicies == [
        "the posting policy of 'invoiced' of the source 'orders' puts 'net' into 'revenue', and the source does not map "
          + "'net': the entry changes nothing"
      ])
    #expect(
      try finance.problems("", base: base("invoced: {receivable: +gross}, invoiced: {revenu: -net, tax: tax}")) == [
        "sources.orders.policy: 'invoced' is no order event; did you mean 'invoiced'?",
        "sources.orders.policy.invoiced: 'revenu' is no account role; did you mean 'revenue'?",
        "sources.orders.policy.invoiced.tax: '+' or '-' and one of "
          + "\(AmountComponent.allCases.map(\.name).joined(separator: ", ")) is expected, not 'tax': the sign is missing, "
          + "or there is more than one",
      ])
    #expect(
      try finance.problems("", base: base(own, ledger: "\n    policy: {invoiced: {}}")) == [
        "sources.ledger.policy: only for sources of kind orders"
      ])
    // Rows that change leave it as it is.
    let more = "master_data: {enabled: true}\nposting_policies: {file: p.csv}\n"
    func load(_ row: String) throws -> Configuration {
      try finance.withFiles(["p.csv": "event,role,component,sign\n" + row]) {
        try finance.parse(more, $0, base: base(own))
      }
    }
    let first = try load("invoiced,revenue,net,none")
    let second = try first.replacingTables(load("paid,fees,fee,debit").tableEntries)
    for loaded in [first, second] {
      #expect(loaded.policy.postingPolicies?.ofSources == policies.ofSources)
      #expect(loaded.masterDataNames == ["posting_policies"])
    }
    #expect(second.policy.postingPolicies?.entries.first?[Int(OrderEventKind.paid.rawValue)].count == 3)
  }

  /// Holidays stand among the periods, and change with them; what is judged does not depend on them.
  @Test func holidaysAreFollowedWithThePeriods() throws {
    let finance = FinanceConfigurationTests()
    let more = """
      dimensions: [region]
      aggregates: {enabled: true}
      flows: {enabled: true}
      master_data: {enabled: true}
      calendar: {file: p.csv, rest_days: [saturday, sunday], roll: modified_following}
      """
    func load(_ rows: [String], _ more: String = more) throws -> Configuration {
      try finance.withFiles(["p.csv": (["period,start,end"] + rows).joined(separator: "\n")]) {
        try finance.parse(more, $0)
      }
    }
    let (first, christmas) = (finance.day(2026, 1, 1), finance.day(2026, 12, 24))
    let year = "2026-01,2026-01-01,2026-12-31"
    let old = try load([year, "holiday,2026-01-01,2026-01-01"])
    #expect(old.businessDays == BusinessDays(roll: .modifiedFollowing, restDays: 0b110_0000, holidays: [first]))
    #expect(old.flows?.businessDays == old.businessDays)
    let new = try load(["holiday,2026-12-24,2026-12-26", "holiday,2026-01-01,2026-01-01", year])
    #expect(new.businessDays.holidays == [first, christmas, christmas + 1, christmas + 2])
    let replaced = try old.replacingTables(new.tableEntries)
    #expect(replaced.businessDays == new.businessDays && replaced.flows == new.flows)
    #expect(replaced.tableEntries == new.tableEntries && replaced.matchingHash == old.matchingHash)
    // The version of before is what it was.
    #expect(try replaced.replacingTables(old.tableEntries).flows == old.flows)
    // Holidays alone leave the periods alone; periods can neither come nor go where there are sums by them.
    let alone = try load(["holiday,2026-01-01,2026-01-01"])
    #expect(alone.policy.checks?.calendar == nil && alone.periods == nil && alone.businessDays == old.businessDays)
    #expect(throws: MasterDataError.self) { try alone.checkSuccessor(alone.replacingTables(old.tableEntries)) }
    #expect(throws: MasterDataError.self) { try old.replacingTables(alone.tableEntries) }
    #expect(try alone.replacingTables(alone.tableEntries).matchingHash == alone.matchingHash)
    // A record of a topic is a row.
    let row = try old.tableSources[0].entry(
      key: nil, value: Array(#"{"period":"holiday","start":"2026-05-01","end":"2026-05-01"}"#.utf8))
    var entries = old.tableEntries
    entries["(calendar)"]?[row.key] = row.value
    #expect(try old.replacingTables(entries).businessDays.holidays == [first, finance.day(2026, 5, 1)])
    // Rest days need no file; without a convention nothing moves.
    #expect(try finance.parse("calendar: {rest_days: [friday]}").businessDays == BusinessDays(restDays: 0b1_0000))
    for (rows, problem) in [
      (["holiday,2026-12-26,2026-12-24"], "a holiday from 2026-12-26 to 2026-12-24 is not between one day and a year"),
      (["holiday,2026-12-24,soon"], "'end' must be a date such as 2026-12-25, not 'soon'"),
    ] {
      let error = #expect(throws: ConfigurationError.self) { try load([year] + rows) }
      #expect(error?.description.contains(problem) == true, "\(error?.description ?? "")")
    }
    let week = #expect(throws: ConfigurationError.self) { try finance.parse("calendar: {rest_days: [sunday, mondy]}") }
    #expect(week?.description.contains("'mondy' is no day of the week; did you mean 'monday'?") == true)
  }

  /// Posting policies are rows on top of `policy`, of a file or of a topic.
  @Test func policiesAreVersionsToo() throws {
    let directory = NSTemporaryDirectory() + "tieout-policies-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: directory) }
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    let head = """
      name: p
      sources:
        orders: {kind: orders, fields: {order: o, event: {constant: invoiced}, event_time: t, net: n, currency: k}}
        ledger: {kind: ledger, fields: {order: o, role: {constant: revenue}, currency: c, event_time: t}, amount: a}
      policy: {invoiced: {receivable: +gross, revenue: -net}}

      """
    func load(_ rows: [String], master: String = "master_data: {enabled: true}\n") throws -> Configuration {
      try (["event,role,component,sign,valid_from"] + rows).joined(separator: "\n").write(
        toFile: directory + "/p.csv", atomically: true, encoding: .utf8)
      return try Configuration.parse(
        yaml: head + master + "posting_policies: {file: p.csv}", file: "p.yaml", directory: directory)
    }
    func problems(_ rows: [String]) throws -> [String] {
      let error = #expect(throws: ConfigurationError.self) { try load(rows) }
      return error?.problems.map { $0.message.replacing(directory + "/", with: "") } ?? []
    }
    func texts(_ configuration: Configuration) -> [String] {
      configuration.policy.entries(of: .invoiced).map {
        "\($0.entry.sign) \($0.entry.role.name) \($0.entry.component.name)\($0.from_d.map { " \(formatDate($0))" } ?? "")"
      }
    }
    let (old, new) = (
      try load([]), try load(["invoiced,revenue,net,none,2026-01-01", "invoiced,deferred,net,-,2026-01-01"])
    )
    #expect(texts(old) == ["1 receivable gross", "-1 revenue net"])
    #expect(texts(new) == ["1 receivable gross", "-1 revenue net", "-1 deferred net 2026-01-01"])
    #expect(old.matchingHash != new.matchingHash && new.tableSources.map(\.settingName) == ["posting_policies"])
    let replaced = try old.replacingTables(new.tableEntries)
    #expect(replaced.policy == new.policy && replaced.matchingHash == new.matchingHash)
    #expect(try new.replacingTables(old.tableEntries).matchingHash == old.matchingHash)
    #expect(new.masterDataNames == ["posting_policies"])
    // Not followed, it is read all the same.
    #expect(try load(["invoiced,deferred,net,credit,"], master: "").policy.postingPolicies != nil)
    // The policy of before: no row, no other hash than without the setting is claimed, but the same judgement.
    let plain = try Configuration.parse(yaml: head, file: "p.yaml", directory: directory)
    #expect(plain.policy.entries == old.policy.entries && plain.matchingHash != old.matchingHash)

    #expect(
      try problems(["invoised,revenu,nett,x,2026-02-30"]) == [
        "p.csv:2: 'event': 'invoised' is no order event; did you mean 'invoiced'?",
        "p.csv:2: 'role': 'revenu' is no account role; did you mean 'revenue'?",
        "p.csv:2: 'component': 'nett' is no amount of an order event; did you mean 'net'?",
        "p.csv:2: 'sign': debit (+), credit (-) or none (0) is expected, not 'x'",
        "p.csv:2: 'valid_from': '2026-02-30' is no date such as 2026-01-01",
      ])
    #expect(
      try problems(["paid,fees,fee,+,", "paid,fees,fee,-,"])
        == ["posting_policies.file: p.csv:3: the same as an earlier row, with another value"])
    let days = (0..<201).map { "paid,fees,fee,\($0 % 2 == 0 ? "+" : "-"),\(formatDate(20_000 + Int32($0)))" }
    #expect(
      try problems(days) == ["posting_policies: there are more than 200 days on which something changes"])
    // A version that makes no sense is refused, and names what is wrong.
    let source = new.tableSources[0]
    let wrong = #expect(throws: MasterDataError.self) {
      try new.replacingTables([source.name: ["paid\u{1f}fee\u{1f}fee\u{1f}": "+"]])
    }
    #expect(
      wrong?.description
        == "the posting policies: paid fee fee +: 'role': 'fee' is no account role; did you mean 'fees'?")
    let topic = try Configuration.parse(
      yaml: head + "master_data: {enabled: true}\nposting_policies: {topic: erp.policies}", file: "p.yaml",
      directory: "")
    let row = try topic.topicTables[0].entry(
      key: nil, value: Array(#"{"event":"paid","role":"fees","component":"fee","sign":"debit","valid_from":null}"#.utf8)
    )
    #expect(try texts(topic.replacingTables([topic.topicTables[0].name: [row.key: row.value]])) == texts(topic))
    let bad = #expect(throws: MasterDataError.self) {
      try topic.topicTables[0].entry(
        key: nil, value: Array(#"{"event":"paid","role":"fees","component":"fee","sign":"up"}"#.utf8))
    }
    #expect(bad?.description.contains("'sign': debit (+), credit (-) or none (0) is expected, not 'up'") == true)
    let both = #expect(throws: ConfigurationError.self) {
      try Configuration.parse(
        yaml: head + "posting_policies: {topic: a, file: b}", file: "p.yaml", directory: "")
    }
    #expect(both?.problems.map(\.message) == ["posting_policies: either 'file' or 'topic' is needed"])
  }

  /// Tables, periods and rates of topics.
  @Test func topicsAreTablesToo() throws {
    let finance = FinanceConfigurationTests()
    let more = """
      master_data: {enabled: true}
      tables:
        customers: {topic: crm.customers, value: group, entries: {X: Y}}
        accounts: {topic: erp.accounts, key: id}
      calendar: {topic: erp.periods}
      fx: {base: EUR, topic: erp.rates}
      """
    let made = try finance.parse(more)
    #expect(made.topicTables.map(\.topic) == ["erp.periods", "erp.rates", "erp.accounts", "crm.customers"])
    #expect(made.policy.checks?.calendar == nil && made.policy.checks?.exchange?.rates.count == 0)
    #expect(try finance.parse(made.effectiveYAML(), base: "") == made)
    let (periods, rates) = (made.topicTables[0], made.topicTables[1])
    let (accounts, customers) = (made.topicTables[2], made.topicTables[3])
    func entry(_ table: TableSource, _ json: String, key: String? = "K") throws -> [String] {
      let made = try table.entry(key: key.map { Array($0.utf8) }, value: Array(json.utf8))
      return [made.key, made.value]
    }
    #expect(try entry(customers, #"{"group":"C1","more":[]}"#.replacing(#","more":[]"#, with: "")) == ["K", "C1"])
    #expect(try entry(accounts, #"{"id":4000,"name":null}"#, key: nil) == ["4000", "4000"])
    let rate = try entry(rates, #"{"date":"2026-01-02","from":"USD","to":"EUR","rate":0.912345678901234567}"#)
    let period = try entry(periods, #"{"period":"2026-01","start":"2026-01-01","end":"2026-01-31"}"#)
    let loaded = try made.replacingTables(
      made.rereadTables(topics: [
        "customers": ["K": "C1", "X": "Z"], "(rates)": [rate[0]: rate[1]], "(calendar)": [period[0]: period[1]],
      ]))
    #expect(loaded.tableEntries["customers"] == ["K": "C1", "X": "Y"])
    // Periods cannot come later, nor all of them go: sums have been added up by them.
    let none = #expect(throws: MasterDataError.self) { try made.rereadTables(topics: ["(rates)": [rate[0]: rate[1]]]) }
    #expect(none?.description == "the calendar: there is no period in the topic 'erp.periods'")
    let day = Int32(daysFromCivil(year: 2026, month: 1, day: 3))
    #expect(loaded.policy.checks?.calendar?.period(ofDay: day) == 202_601)
    // Exact: a floating-point number would lose digits.
    let usd = Currency("USD")!
    #expect(
      loaded.policy.checks?.exchange?.rates.convert(1_000_000_000_000_000, from: usd, day: day) == 912_345_678_901_235)
    func problem(_ table: TableSource, _ json: String, key: String? = "K") -> String {
      do { return try entry(table, json, key: key).joined() } catch { return "\(error)" }
    }
    let notPlain = "it is no JSON object whose fields are texts, numbers, true, false or null"
    #expect(problem(customers, "[1]") == notPlain && problem(customers, #"{"group":{}}"#) == notPlain)
    #expect(problem(customers, #"{"grp":"a"}"#) == "it has no field 'group'")
    #expect(problem(customers, #"{"group":"a"}"#, key: nil) == "it has no key, or one that is no UTF-8")
    #expect(
      problem(rates, #"{"date":"2026-01-02","from":"USD","to":"EURO","rate":1}"#)
        == "a rate: 'EURO' is no currency of ISO 4217")
    #expect(
      problem(periods, #"{"period":"2026","start":"2026-01-01","end":"2026-01-31"}"#)
        == "a period: 'period' must be a year and a number such as 2026-01, not '2026'")
  }

  @Test func topicsNeedToBeFollowed() throws {
    let finance = FinanceConfigurationTests()
    let needs = "topics are followed: set master_data.enabled"
    #expect(try finance.problems("tables: {a: {topic: x}}") == ["tables.a.topic: \(needs)"])
    #expect(try finance.problems("calendar: {topic: x}") == ["calendar.topic: \(needs)"])
    #expect(try finance.problems("fx: {base: EUR, topic: x}") == ["fx.topic: \(needs)"])
    let on = "master_data: {enabled: true}\n"
    #expect(
      try finance.problems(on + "calendar: {topic: x, file: y}").contains(
        "calendar: one of 'file', 'periods' and 'topic' is needed"))
    #expect(
      try finance.problems(on + "tables: {a: {topic: x, file: y}}") == ["tables.a: either 'file' or 'topic', not both"])
    #expect(
      try finance.problems(on + "tables: {a: {topic: t.breaks}}").contains {
        $0.contains("the topic 't.breaks' is that of topics.breaks already")
      })
  }

  /// That nothing else is followed is no second problem.
  @Test func aTableThatCannotBeReadIsOneProblem() throws {
    #expect(
      try FinanceConfigurationTests().problems("master_data: {enabled: true}\ntables: {x: {file: gone.csv}}") == [
        "tables.x.file: cannot read gone.csv"
      ])
  }

  @Test func recordsMayWait() throws {
    let finance = FinanceConfigurationTests()
    func parse(_ hold: String) throws -> Configuration {
      try finance.withFiles(["a.csv": "a,b\n1,2"]) {
        try finance.parse("master_data: {enabled: true\(hold)}\ntables: {x: {file: a.csv}}", $0)
      }
    }
    let plain = try parse("")
    let standard = try parse(", hold: {}")
    let made = try parse(", hold: {time: 2h, records: 5, bytes: 1MiB}")
    #expect(plain.hold == nil && standard.hold == HoldSettings())
    #expect(made.hold?.time_ms == 7_200_000 && made.hold?.records == 5 && made.hold?.bytes == 1 << 20)
    // What waits decides what becomes of a record.
    #expect(Set([plain, standard, made].map(\.matchingHash)).count == 3)
    let problem = try finance.problems(
      "master_data: {enabled: true, hold: {time: 74h}}\ntables: {x: {file: a.csv}}", ["a.csv": "a,b\n1,2"])
    #expect(problem == ["master_data.hold.time: a record would come after window and grace, 73h, by waiting"])
  }
}
