import Configuration
import Domain
import Foundation
import Testing

@testable import Pipeline

/// Runs over files, at their edges: keys, headers, days, bounds.
@Suite struct FileEdgeTests {
  static let fields = "order: o, event: {constant: invoiced}, event_time: t, currency: {constant: EUR}, gross: g"

  func run(
    _ yaml: String, orders: [String], ledger: [String], threads: Int = 2, asOf: String? = nil,
    extension name: String = "jsonl"
  ) throws -> (summary: RunSummary, out: (String) throws -> String) {
    let scratch = Scratch()
    let directory = scratch.path
    let configuration = try Configuration.parse(yaml: yaml, file: "t.yaml", directory: directory)
    for (file, lines) in [("o", orders), ("l", ledger)] {
      try lines.joined(separator: "\n").write(
        toFile: "\(directory)/\(file).\(name)", atomically: true, encoding: .utf8)
    }
    let summary = try FileReconciler(
      configuration: configuration,
      options: FileRunOptions(
        orders: ["\(directory)/o.\(name)"], ledger: ["\(directory)/l.\(name)"], directory: directory + "/out",
        threads: threads, now_ms: 1_790_000_000_000, asOf_ms: asOf.flatMap(FileRunOptions.asOf_ms))
    ).run()
    return (
      summary,
      { name in
        defer { withExtendedLifetime(scratch) {} }
        return try String(contentsOfFile: directory + "/out/" + name, encoding: .utf8)
      }
    )
  }

  /// A change feed as a console consumer prints it, with JSON keys: the order is that of the key.
  @Test func keysMayBeJSON() throws {
    let yaml = """
      sources:
        orders: {kind: orders, fields: {\(Self.fields)}}
        ledger:
          kind: ledger
          format: debezium
          fields: {order: $key, role: {constant: receivable}, currency: {constant: EUR}, event_time: t, line_id: i}
          amount: m
      policy: {replace_defaults: true, invoiced: {receivable: +gross}}
      """
    let key = #"{"o":"A"}"#
    let row = #"{"i":"1","t":"2024-01-01T00:00:00Z","m":"10.00"}"#
    let (summary, out) = try run(
      yaml, orders: [#"{"o":"{\"o\":\"A\"}","t":"2024-01-01T00:00:00Z","g":10}"#],
      ledger: ["\(key)\t{\"op\":\"c\",\"after\":\(row)}", "\(key)\t", "{\"b\":1}\t{\"op\":\"z\"}"])
    #expect(summary.openBreaks == 0 && summary.match.postings == 1 && summary.decode.tombstones == 1)
    #expect(summary.deadLetters == ["SCHEMA_INVALID": 1])
    let letters = try out("dead-letters.jsonl")
    #expect(letters.contains(#""key":"{\"b\":1}""#), "\(letters)")
  }

  static let plain = """
    sources:
      orders: {kind: orders, fields: {\(fields)}}
      ledger: {kind: ledger, fields: {order: o, line_id: i, role: {constant: receivable}, currency: {constant: EUR}, event_time: t}, amount: m}
    policy: {replace_defaults: true, invoiced: {receivable: +gross}}
    """

  /// Orders of sixty days, a posting for each at the same time, one of them wrong.
  func sixtyDays(_ count: Int) -> (orders: [String], ledger: [String]) {
    let lines = (0..<count).map { at in
      let seconds = 1_704_067_200 + Int64(at) * 60 * 86_400 / Int64(count)
      let time = Date(timeIntervalSince1970: Double(seconds)).ISO8601Format()
      return (
        #"{"o":"A\#(at)","t":"\#(time)","g":10}"#,
        #"{"o":"A\#(at)","i":"l\#(at)","t":"\#(time)","m":\#(at == 7 ? 11 : 10)}"#
      )
    }
    return (lines.map(\.0), lines.map(\.1))
  }

  /// Many a system exports its ledger by account or document.
  @Test(arguments: [1, 3]) func filesMayBeInAnyOrder(threads: Int) throws {
    let (orders, ledger) = sixtyDays(24_000)
    var generator = SystemRandomNumberGenerator()
    let halves = Array(ledger[12_000...] + ledger[..<12_000])
    let byAccount = stride(from: 0, to: 5, by: 1).flatMap { part in
      stride(from: part, to: ledger.count, by: 5).map { ledger[$0] }
    }
    for lines in [ledger, halves, byAccount, ledger.shuffled(using: &generator), ledger.reversed()] {
      let (summary, out) = try run(Self.plain, orders: orders, ledger: lines, threads: threads)
      #expect(summary.openBreaks == 1 && summary.match.tiesTiedOut == 23_999 && summary.match.late == 0)
      #expect(try out("breaks.jsonl").contains(#""order":"A7""#))
      if lines == ledger {
        #expect(summary.disorder.isEmpty)
      } else {
        let found = try #require(summary.disorder.first)
        #expect(found.file.hasSuffix("/l.jsonl") && found.isWaitedFor && summary.disorder.count == 1)
        #expect(found.mostBehind_ms > 29 * 86_400_000 && found.mostBehind_ms < 60 * 86_400_000)
        #expect(try out("summary.json").contains("not_in_order"))
      }
    }
  }

  /// Where waiting takes more memory than there may be, what can be said without is said.
  @Test func filesInAnyOrderKeepWithinTheMemory() throws {
    let (orders, ledger) = sixtyDays(60_000)
    let halves = Array(ledger[30_000...] + ledger[..<30_000])
    let waited = try run(Self.plain, orders: orders, ledger: halves).summary
    #expect(waited.match.late == 0 && waited.disorder.map(\.isWaitedFor) == [true])
    let limit = waited.peakStateBytes * 19 / 20
    let (summary, _) = try run(Self.plain + "\nlimits: {memory: \(limit)}", orders: orders, ledger: halves)
    #expect(summary.match.late > 0 && summary.peakStateBytes <= limit)
    #expect(summary.disorder.map(\.isWaitedFor) == [false])
  }

  /// A few that come too late are late, as they are from a topic.
  @Test func fewThatComeTooLateAreLate() throws {
    var (orders, ledger) = sixtyDays(24_000)
    ledger.append(ledger.remove(at: 3))
    orders.append(orders.remove(at: 4))
    let (summary, _) = try run(Self.plain, orders: orders, ledger: ledger)
    #expect(summary.match.late == 2)
    #expect(summary.disorder.map(\.records) == [1, 1] && !summary.disorder.contains(where: \.isWaitedFor))
  }

  /// Texts that look alike and have other bytes are other keys.
  @Test func keysThatLookAlikeAreTwo() throws {
    let order = { (key: String, amount: Int) in #"{"o":"\#(key)","t":"2024-01-01T00:00:00Z","g":\#(amount)}"# }
    let (summary, out) = try run(
      Self.plain, orders: [order("M\u{fc}ller", 10), order("Mu\u{308}ller", 11)], ledger: [])
    #expect(summary.openBreaks == 2)
    #expect(try out("breaks.jsonl").split(separator: "\n").count == 2)
  }

  @Test func asOfADayIsAsOfItsEnd() throws {
    #expect(FileRunOptions.asOf_ms("2024-01-31") == 1_706_745_599_999)
    #expect(FileRunOptions.asOf_ms("2024-01-31T00:00:00Z") == 1_706_659_200_000)
    for text in ["2024-02-30", "31.01.2024", ""] { #expect(FileRunOptions.asOf_ms(text) == nil, "\(text)") }
    let yaml = """
      sources:
        orders: {kind: orders, fields: {\(Self.fields)}}
        ledger: {kind: ledger, fields: {order: o, role: {constant: receivable}, currency: {constant: EUR}, event_time: t}, amount: m}
      policy: {replace_defaults: true, invoiced: {receivable: +gross}}
      """
    let orders = ["2024-01-31T23:59:59Z", "2024-02-01T00:00:00Z"].map { #"{"o":"A","t":"\#($0)","g":10}"# }
    #expect(try run(yaml, orders: orders, ledger: [], asOf: "2024-01-31").summary.match.orderEvents == 1)
    #expect(try run(yaml, orders: orders, ledger: [], asOf: "2024-02-01").summary.match.orderEvents == 2)
  }

  /// What is known to be later is left out, whatever is wrong with it: it breaks no rule, and is no dead letter.
  @Test(arguments: [1, 3]) func whatIsLaterIsHeldAgainstNothing(_ threads: Int) throws {
    let yaml = """
      sources:
        orders:
          kind: orders
          fields: {\(Self.fields), customer: c}
          rules:
            - {field: customer, required: true, name: customer}
            - {field: gross, minimum: 1, severity: count, name: positive}
        ledger:
          kind: ledger
          fields: {order: o, role: {constant: receivable}, currency: {constant: EUR}, event_time: t}
          amount: m
      policy: {replace_defaults: true, invoiced: {receivable: +gross}}
      """
    func order(_ key: String, _ day: String, _ rest: String) -> String {
      #"{"o":"\#(key)","t":"2024-\#(day)T12:00:00Z",\#(rest)}"#
    }
    let orders = [
      order("A", "01-01", #""g":10,"c":"x""#), order("B", "02-02", #""g":10"#), order("C", "02-02", #""g":0,"c":"x""#),
      order("D", "02-02", #""g":"no amount","c":"x""#),
    ]
    let ledger = [("A", "01-01", "10.00"), ("E", "02-02", "?")].map { order($0.0, $0.1, #""m":"\#($0.2)""#) }
    let (summary, out) = try run(yaml, orders: orders, ledger: ledger, threads: threads, asOf: "2024-01-31")
    #expect(summary.later == 4 && summary.decode.records == 6 && summary.deadLetters.isEmpty)
    #expect(summary.decode.violations.isEmpty && summary.tiesOut, "\(summary.decode.violations)")
    #expect(try out("dead-letters.jsonl").isEmpty)
    let all = try run(yaml, orders: orders, ledger: ledger, threads: threads).summary
    #expect(all.deadLetters == ["SCHEMA_INVALID": 1, "NON_DECIMAL_AMOUNT": 2], "\(all.deadLetters)")
    #expect(all.decode.violations.values.reduce(0, +) == 2, "\(all.decode.violations)")
    // Nobody knows when this one was.
    let unknown = try run(
      yaml, orders: orders + [#"{"o":"F","g":10,"c":"x"}"#], ledger: ledger, threads: threads, asOf: "2024-01-31")
    #expect(unknown.summary.deadLetters == ["SCHEMA_INVALID": 1])
  }

  /// A tie of which a part is overdue when time leaps is judged at its deadline all the same, however many files there are;
  /// as of a time between the two, with what is overdue then.
  @Test(arguments: [1, 3]) func filesDoNotChangeWhenSomethingIsFound(_ threads: Int) throws {
    let scratch = Scratch()
    let configuration = try Configuration.parse(
      yaml: """
        sources:
          orders: {kind: orders, fields: {\(Self.fields)}}
          ledger: {kind: ledger, fields: {order: o, role: {constant: receivable}, currency: {constant: EUR}, event_time: t}, amount: g}
        policy: {replace_defaults: true, invoiced: {receivable: +gross}}
        matching: {window: 1d, grace: 1h, settle: 1m, out_of_orderness: 0s, severity: {age: none}}
        quality: {enabled: true}
        """, file: "t.yaml", directory: scratch.path)
    func record(_ order: String, _ time: String, _ amount: Int) -> String {
      #"{"o":"\#(order)","t":"2024-01-\#(time):00:00Z","g":\#(amount)}"# + "\n"
    }
    let orders = scratch.write("o.jsonl", record("A", "01T00", 10) + record("B", "10T00", 10))
    let early = record("A", "01T20", 9) + record("C", "02T12", 5)
    let late = record("B", "10T00", 10)
    func run(_ ledger: [String], asOf: String? = nil) throws -> String {
      let out = scratch.path + "/out"
      _ = try FileReconciler(
        configuration: configuration,
        options: FileRunOptions(
          orders: [orders], ledger: ledger, directory: out, threads: threads, now_ms: 1_790_000_000_000,
          asOf_ms: asOf.flatMap(FileRunOptions.asOf_ms))
      ).run()
      return try ["breaks.jsonl", "summary.json"].map { try String(contentsOfFile: "\(out)/\($0)", encoding: .utf8) }
        .joined()
    }
    let (one, first, second) = (
      scratch.write("l.jsonl", early + late), scratch.write("l1.jsonl", early), scratch.write("l2.jsonl", late)
    )
    let whole = try run([one])
    #expect(whole.contains(#""deadline":"2024-01-02T21:00:00.000Z","as_of":"2024-01-02T21:00:00.000Z""#), "\(whole)")
    #expect(try run([first, second]) == whole)
    #expect(try run([second, first]) == whole)
    let then = try run([one], asOf: "2024-01-02T12:00:00Z")
    #expect(then.contains(#""id":"A:AMOUNT_MISMATCH:receivable""#) && !then.contains("C:"), "\(then)")
    #expect(try run([first, second], asOf: "2024-01-02T12:00:00Z") == then)
    #expect(try run([one], asOf: "2024-01-02T01:00:00Z").contains("A:") == false, "nothing is overdue yet")
  }

  /// What comes for an order whose break has been told is judged with what is overdue, also where its new deadline is later, and
  /// however many rounds the files take.
  @Test(arguments: [1, 3]) func whatComesLaterClearsItsBreak(_ threads: Int) throws {
    let yaml = """
      sources:
        orders: {kind: orders, fields: {\(Self.fields)}}
        ledger: {kind: ledger, fields: {order: o, role: {constant: receivable}, currency: {constant: EUR}, event_time: t}, amount: g}
      policy: {replace_defaults: true, invoiced: {receivable: +gross}}
      matching: {window: 1d, grace: 1h, settle: 1m, out_of_orderness: 0s}
      """
    func record(_ order: String, _ day: Int, _ second: Int) -> String {
      let time = formatTimestamp((Int64(19_723 + day) * 86_400 + Int64(second)) * 1_000)
      return #"{"o":"\#(order)","t":"\#(time)","g":10}"#
    }
    let many = FileReconciler.roundRecords
    // A whole round of others moves time past the deadline of A; the next one brings its posting.
    var ledger = (0..<many).map { record("F\($0 % 256)", 1, $0 * 2 * 86_400 / many) }
    ledger += (0..<100).map { record($0 == 0 ? "A" : "F\($0)", 5, $0 * 6 * 36) }
    let orders = [record("A", 1, 0), record("Z", 4, 0)]
    let (_, out) = try run(yaml, orders: orders, ledger: ledger, threads: threads, asOf: "2024-01-06T12:00:00Z")
    let breaks = try out("breaks.jsonl")
    #expect(breaks.contains(#""order":"Z""#) && !breaks.contains(#""order":"A""#), "\(breaks.suffix(2_000))")
  }

  /// Each task has its bounds; what they hold together is not cut a second time.
  @Test(arguments: [1, 3]) func boundsOfDimensionsAreThoseOfTasks(_ threads: Int) throws {
    let yaml = """
      dimensions: [seg]
      sources:
        orders: {kind: orders, fields: {order: o, event: {constant: booked}, event_time: t, currency: {constant: EUR}, net: g}, dimensions: {seg: s}}
        ledger: {kind: ledger, fields: {order: o, role: {constant: receivable}, currency: {constant: EUR}, event_time: t}, amount: m}
      aggregates: {enabled: true, values: {seg: 1}}
      """
    func booked(_ keys: [String]) throws -> [String: String] {
      let orders = keys.map { #"{"o":"\#($0)","t":"2024-01-01T00:00:00Z","g":1,"s":"s\#($0)"}"# }
      let text = try run(yaml, orders: orders, ledger: [], threads: threads).out("revenue.jsonl")
      var found: [String: String] = [:]
      for line in text.split(separator: "\n") {
        let message = try JSONSerialization.jsonObject(with: Data(line.utf8)) as! [String: Any]
        found[(message["dimensions"] as! [String: String])["seg"]!] =
          (message["orders"] as! [String: Any])["bookings"] as? String
      }
      return found
    }
    func task(_ key: String) -> Int {
      var key = key
      return key.withUTF8 { FileReconciler.task(of: ByteView($0)) }
    }
    let first = "A"
    let other = try #require((0..<100).map { "B\($0)" }.first { task($0) != task(first) })
    let same = try #require((0..<1_000).map { "C\($0)" }.first { task($0) == task(first) })
    #expect(try booked([first, other]) == ["sA": "1.00", "s\(other)": "1.00"])
    #expect(try booked([other, first]) == ["sA": "1.00", "s\(other)": "1.00"])
    #expect(try booked([first, same]) == ["sA": "1.00", "(other)": "1.00"])
    #expect(try booked([same, first]) == ["s\(same)": "1.00", "(other)": "1.00"])
  }

  /// The ledger's lines without an order: refused without a word in the mapping, and breaks of their own with one.
  @Test func postingsWithoutAnOrder() throws {
    func yaml(_ order: String) -> String {
      """
      sources:
        orders: {kind: orders, fields: {\(Self.fields)}}
        bank:
          kind: ledger
          fields: {order: \(order), role: r, currency: {constant: EUR}, event_time: t, journal: j, document: d}
          amount: m
      matching: {cash_application: true}
      policy: {replace_defaults: true, invoiced: {receivable: +gross}}
      """
    }
    func line(_ journal: String, _ document: String, _ role: String, _ amount: Int) -> String {
      #"{"o":"","j":"\#(journal)","d":"\#(document)","r":"\#(role)","m":\#(amount),"t":"2024-01-01T00:00:00Z"}"#
    }
    let ledger = [
      line("J1", "", "cash", 5), line("J1", "", "clearing", -5), line("J2", "D2", "cash", 7),
      line("J2", "D2", "clearing", -7),
    ]
    let refused = try run(yaml("o"), orders: [], ledger: ledger)
    #expect(refused.summary.deadLetters == ["SCHEMA_INVALID": 4])
    let letters = try refused.out("dead-letters.jsonl")
    #expect(letters.contains("the order key is empty (`first` or `default` of its mapping can give it one)"))
    let taken = try run(yaml("{first: [o, d, j]}"), orders: [], ledger: ledger)
    let breaks = try taken.out("breaks.jsonl")
    #expect(taken.summary.deadLetters == [:] && taken.summary.openBreaks == 2, "\(breaks)")
    #expect(breaks.contains(#""id":"J1:UNAPPLIED:cash""#) && breaks.contains(#""id":"D2:UNKNOWN_REFERENCE:cash""#))
  }

  @Test func aMappedColumnThatStandsTwiceEndsTheRun() throws {
    let yaml = """
      sources:
        orders: {kind: orders, format: csv, fields: {\(Self.fields)}}
        ledger: {kind: ledger, format: csv, fields: {order: o, role: {constant: receivable}, currency: {constant: EUR}, event_time: t}, amount: g}
      """
    let rows = ["o,t,g,g", "A,2024-01-01T00:00:00Z,1,2"]
    let error = #expect(throws: FileRunError.self) {
      _ = try run(yaml, orders: rows, ledger: ["o,t,g"], extension: "csv")
    }
    #expect(error?.description.contains("o.csv, line 1: 'g': the header names this column more than once") == true)
  }

  // MARK: - Topics

  /// A record of a topic has no header before it.
  @Test func aTopicNeedsItsColumns() throws {
    func configuration(_ csv: String) throws -> Configuration {
      try Configuration.parse(
        yaml: """
          sources:
            crm: {kind: orders, topic: crm.rows, format: csv\(csv), fields: {\(Self.fields)}}
            gl: {kind: ledger, fields: {order: o, role: {constant: receivable}, currency: {constant: EUR}, event_time: t}, amount: m}
          """, file: "t.yaml", directory: "/")
    }
    let known = ["crm.rows": 2, "tieout.gl": 2]
    for csv in ["", ", csv: {header: true}"] {
      let plan = TopicPlan(try configuration(csv), known: known)
      #expect(plan.problems.map(\.topic) == ["crm.rows"])
      #expect(
        plan.problems.first?.text.hasPrefix("source 'crm': its CSV takes the names of the columns from a header")
          == true)
      #expect(plan.problems.first?.advice?.contains("csv: {columns: […]}") == true)
    }
    #expect(TopicPlan(try configuration(", csv: {columns: [o, t, g]}"), known: known).problems == [])
    for file in ["flat", "northwind", "finance", "sap-document-flow"] {
      let example = try Configuration.load(path: FinanceExampleTests.examples + "/\(file).yaml")
      #expect(example.headerSources.isEmpty, "\(file)")
    }
  }

  /// What `tieout broker --config` creates.
  @Test func tablesHaveTopicsToo() throws {
    let configuration = try Configuration.parse(
      yaml: """
        dimensions: [seg]
        sources:
          crm: {kind: orders, fields: {\(Self.fields), customer: {path: c, table: customers}}}
          gl: {kind: ledger, fields: {order: o, role: {constant: receivable}, currency: {constant: EUR}, event_time: t}, amount: m}
        master_data: {enabled: true}
        tables: {customers: {topic: t.customers}}
        calendar: {topic: t.calendar}
        fx: {base: EUR, topic: t.rates}
        posting_policies: {topic: t.policies}
        aggregates: {enabled: true}
        variance: {enabled: true, by: [seg], topic: t.budget}
        """, file: "t.yaml", directory: "/")
    let topics = Dictionary(uniqueKeysWithValues: configuration.allTopics.map { ($0.name, $0.config) })
    for name in ["t.customers", "t.calendar", "t.rates", "t.policies", "t.budget"] {
      #expect(topics[name] == ["cleanup.policy": "compact"], "\(name)")
    }
    #expect(topics["tieout.crm"] == [:] && topics[configuration.breaksTopic] != nil)
    #expect(TopicPlan(configuration, known: topics.mapValues { _ in 1 }).problems == [])
  }

  /// A table that makes no sense stays as it is, says with which row, and does not hold up the others.
  @Test func oneBadTableDoesNotHoldUpTheOthers() throws {
    let scratch = Scratch()
    defer { withExtendedLifetime(scratch) {} }
    let directory = scratch.path
    func write(_ name: String, _ lines: [String]) throws {
      try (["key,value"] + lines).joined(separator: "\n").write(
        toFile: "\(directory)/\(name).csv", atomically: true, encoding: .utf8)
    }
    try write("accounts", ["1200,receivable"])
    try write("customers", ["C1,one"])
    try write("regions", ["C1,north"])
    let old = try Configuration.parse(
      yaml: """
        dimensions: [region]
        master_data: {enabled: true}
        tables: {accounts: {file: accounts.csv, key: key, value: value}, customers: {file: customers.csv, key: key, value: value},
          regions: {file: regions.csv, key: key, value: value}}
        sources:
          crm: {kind: orders, fields: {\(Self.fields), customer: {path: c, table: customers}}, dimensions: {region: {path: c, table: regions}}}
          gl: {kind: ledger, fields: {order: o, role: {path: a, table: accounts}, currency: {constant: EUR}, event_time: t}, amount: m}
        """, file: "t.yaml", directory: directory)
    try write("accounts", ["1200,receivable", "4000,revenue", "4711,recievable", "4712,recievable", "9,cash"])
    try write("customers", ["C1,one", "C2,two"])
    try FileManager.default.removeItem(atPath: directory + "/regions.csv")
    let trial = TableTrial()
    for _ in 0..<2 {
      let (next, problems) = trial.take(old, [:], nil)
      #expect(next.tableEntries["customers"] == ["C1": "one", "C2": "two"])
      #expect(next.tableEntries["accounts"] == old.tableEntries["accounts"])
      #expect(next.tableEntries["regions"] == old.tableEntries["regions"])
      #expect(problems.count == 2 && problems.contains { $0.text.hasPrefix("the table 'regions': ") }, "\(problems)")
      let accounts = try #require(
        problems.first { $0.text.hasPrefix("the table 'accounts': source 'gl', field 'role': ") }?.text)
      #expect(accounts.contains("'recievable' is not one of"))
      #expect(accounts.hasSuffix("; the row '4711' of \(directory)/accounts.csv"), "\(accounts)")
    }
    // What is mended is taken up.
    try write("accounts", ["4711,revenue"])
    let (next, problems) = trial.take(old, [:], nil)
    #expect(next.tableEntries["accounts"] == ["4711": "revenue"] && problems.count == 1)
  }
}
