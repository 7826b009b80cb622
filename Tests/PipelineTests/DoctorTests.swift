import Aggregates
import Checkpoints
import Configuration
import Domain
import Foundation
import Kafka
import KafkaTesting
import Matching
import SchemaRegistry
import Testing

@testable import Pipeline

/// A cluster that answers what it is told to.
private final class FakeProbe: ClusterProbe {
  var complaints: [String] = []
  var cluster = ClusterDescription(id: "c1", brokers: [1: "a:9092", 2: "b:9092", 3: "c:9092"], topics: [:])
  var unreachable: KafkaError?
  var topicSettings: [String: [String: String]] = [:]
  var settingsFailure: KafkaError?
  var creation: KafkaError?
  var reading: [String: KafkaError] = [:]
  var stamps: [String: RecordStamp] = [:]
  var groups: [String: KafkaError] = [:]
  var trial = TransactionTrial()
  var tried: (topics: [String], groups: [String])?
  var closedPorts: [String: String] = [:]
  var periods: Result<[(key: String, value: String)], KafkaError> = .success([])

  var marks: [TopicPartition: CommittedOffset] = [:]
  var logs: [String: [(key: [UInt8], value: [UInt8])]] = [:]

  func describe(timeout_ms: Int) throws(KafkaError) -> ClusterDescription {
    if let unreachable { throw unreachable }
    return cluster
  }
  func settings(
    of topics: [String], timeout_ms: Int
  ) throws(KafkaError) -> [String: Result<[String: String], KafkaError>] {
    if let settingsFailure { throw settingsFailure }
    return topicSettings.filter { topics.contains($0.key) }.mapValues { .success($0) }
  }
  func couldCreate(
    _ topic: String, partitions: Int, config: [String: String], timeout_ms: Int
  ) throws(KafkaError) {
    if let creation { throw creation }
  }
  func newest(_ place: TopicPartition, timeout_ms: Int) throws(KafkaError) -> RecordStamp? {
    if let error = reading[place.topic] { throw error }
    return stamps[place.topic]
  }
  func records(
    _ place: TopicPartition, from: Int64, timeout_ms: Int
  ) throws(KafkaError) -> [(key: [UInt8], value: [UInt8])] {
    if let log = logs[place.topic] { return log }
    return try periods.get().map { (Array($0.key.utf8), Array($0.value.utf8)) }
  }
  func committed(
    group: String, _ places: [TopicPartition], timeout_ms: Int
  ) throws(KafkaError) -> [TopicPartition: CommittedOffset] {
    if let error = groups[group] { throw error }
    return marks.filter { places.contains($0.key) }
  }
  func tryAccess(
    topics: [String], commits: [(group: String, place: TopicPartition, offset: Int64)], timeout_ms: Int
  ) throws(KafkaError) -> TransactionTrial {
    tried = (topics, commits.map(\.group))
    return trial
  }
  func reach(_ address: String, timeout_ms: Int) -> String? { closedPorts[address] }
}

@Suite struct DoctorTests {
  private let configuration = try! Configuration.parse(
    yaml: """
      version: 1
      name: shop
      kafka: {bootstrap: "a:9092"}
      sources:
        orders:
          kind: orders
          topic: orders
          fields: {order: o, event_id: e, event: t, event_time: at, currency: c, net: n}
        ledger:
          kind: ledger
          topic: ledger
          fields: {order: o, line_id: l, journal: j, role: r, currency: c, event_time: at, posting_date: d}
          amount: amount
      """, file: "shop.yaml", directory: ".", environment: [:])
  private let good: MachineFacts = {
    var facts = MachineFacts()
    (facts.descriptorLimit, facts.memory_bytes, facts.processors) = (65_536, 64 << 30, 8)
    facts.isClockSynchronised = true
    return facts
  }()

  /// A cluster with everything that the configuration needs.
  private func healthy() -> FakeProbe {
    let probe = FakeProbe()
    let led = TopicDescription(partitions: Array(repeating: .init(leader: 1, replicas: 3, inSync: 3), count: 4))
    for name in ["orders", "ledger"] {
      probe.cluster.topics[name] = led
      probe.topicSettings[name] = ["cleanup.policy": "delete", "retention.ms": "-1", "min.insync.replicas": "2"]
    }
    for topic in configuration.ownTopics {
      probe.cluster.topics[topic.name] = led
      probe.topicSettings[topic.name] = [
        "cleanup.policy": "delete", "min.insync.replicas": "2", "max.message.bytes": "1048588",
      ].merging(topic.config) { $1 }
    }
    return probe
  }

  private func examine(
    _ probe: FakeProbe, machine: MachineFacts? = nil, _ change: (inout Configuration) -> Void = { _ in }
  ) -> DoctorReport {
    var configuration = configuration
    change(&configuration)
    var report = DoctorReport()
    report.add(
      Doctor(configuration: configuration, probe: probe, machine: machine ?? good, timeout_ms: 100).run())
    return report
  }

  private func error(_ name: String) -> KafkaError { KafkaError(name: name, "said no", context: "asking") }

  /// A section `serve` is enough for a look at the console: that nobody can sign in is one of the things that it says.
  @Test func aConsoleIsWhatTheConfigurationHas() throws {
    let sources =
      "sources: {o: {kind: orders, fields: {order: o, event: {constant: booked}, event_time: t}}, "
      + "g: {kind: ledger, fields: {order: o, role: r, currency: c, event_time: t}, amount: a}}"
    for (serve, expected) in [("", false), ("\nserve: {directory: here}", true)] {
      let configuration = try Configuration.parse(yaml: sources + serve, file: "d.yaml", directory: ".")
      #expect(Doctor.servesConsole(configuration) == expected)
    }
  }

  @Test func everythingIsWell() {
    let probe = healthy()
    let report = examine(probe)
    #expect(report.checks.filter { $0.status != .ok } == [])
    #expect(report.exitCode == 0)
    #expect(probe.tried?.topics == configuration.ownTopics.map(\.name), "writing is tried on every topic of its own")
    #expect(probe.tried?.groups == ["tieout-shop", "tieout-shop-totals"])
    for area in ["broker", "topics", "rights", "transactions", "messages", "clock", "machine"] {
      #expect(report.checks.contains { $0.area == area }, "\(area)")
    }
  }

  /// What the state was made with, against what is configured now.
  @Test func stateThatDoesNotFitIsTold() throws {
    func findings(
      sources: [String], dimensions: [String] = [], now: [String]? = nil, isSummed: Bool = false,
      epochHash: UInt64? = nil, hasCheckpoint: Bool = true
    ) -> [String] {
      let probe = healthy()
      var examined = configuration
      if let now { examined.dimensions = now }
      probe.marks[TopicPartition("orders", 0)] = CommittedOffset(
        7, metadata: EpochMark(number: 4, incarnation: 9).text)
      var matcher = Matcher(policy: configuration.policy, dimensionCount: 0)
      if isSummed { matcher.aggregates = TaskAggregates(dimensionCount: 0) }
      let checkpointer = Checkpointer(task: 0, sources: sources, dimensions: dimensions)
      checkpointer.begin(matcher, epoch: 3, epochsOffset: 5)
      let (writes, _) = checkpointer.advance(
        matcher, epoch: 3, incarnation: 9, next: [1], configuration: 1, most: .max)
      probe.logs[configuration.checkpointsTopic] =
        hasCheckpoint ? writes.map { (Array($0.key.utf8), $0.value ?? []) } : []
      probe.logs[configuration.epochsTopic] = (3...5 as ClosedRange<UInt64>).map { number in
        var record = EpochRecord(
          task: 0, number: number, incarnation: 9, previousIncarnation: 9,
          configuration: epochHash ?? examined.matchingHash, next: [1])
        record.events = [.begin(now_ms: 1)]
        return ([], record.bytes)
      }
      return examine(probe) {
        if isSummed { $0.aggregates = AggregateSettings() }
        if let now { $0.dimensions = now }
      }.checks.filter { $0.area == "state" }.map { "\($0.status) \($0.found)" }
    }
    #expect(findings(sources: ["orders", "ledger"]) == ["ok checkpoints of 1 task fit the settings"])
    // The second has been appended since.
    #expect(findings(sources: ["orders"]) == ["ok checkpoints of 1 task fit the settings"])
    for other in [["ledger", "orders"], ["sales", "ledger"], ["orders", "ledger", "cash"]] {
      #expect(
        findings(sources: other) == [
          "failed the state was made with the sources \(other.joined(separator: ", ")), and configured are orders, ledger"
        ])
    }
    // Without aggregates a dimension may come or go.
    #expect(
      findings(sources: ["orders", "ledger"], dimensions: ["region"]) == ["ok checkpoints of 1 task fit the settings"])
    #expect(
      findings(sources: ["orders", "ledger"], dimensions: ["region"], isSummed: true) == [
        "failed the state was made with the dimensions region, and configured are none"
      ])
    // A name that stays keeps its place; another one in the place of one that is gone is its new name.
    for (then, now, moved) in [
      (["region", "channel"], ["channel", "team"], "channel"), (["region", "channel"], ["channel"], "channel"),
      (["region"], ["channel", "region"], "region"), (["region", "channel"], ["channel", "region"], "region"),
      (["region", "channel"], ["region", "team"], nil), (["region", "channel"], ["team", "channel"], nil),
      (["region", "channel"], ["region"], nil), (["region"], ["region", "channel"], nil),
    ] {
      let lists = "\(then.joined(separator: ", ")), and configured are \(now.joined(separator: ", "))"
      #expect(
        findings(sources: ["orders", "ledger"], dimensions: then, now: now) == [
          moved.map { "failed the state was made with the dimensions \(lists): '\($0)' stands in another place" }
            ?? "ok checkpoints of 1 task fit the settings"
        ])
    }
    #expect(
      findings(sources: ["orders", "ledger"], hasCheckpoint: false) == [
        "ok of 1 task no checkpoint is in the last 4000 records of \(configuration.checkpointsTopic): whether the next start "
          + "can take it up was not looked at"
      ])
    // Of the epochs 3 to 5 the third is in the checkpoint, and the fifth is not committed.
    #expect(
      findings(sources: ["orders", "ledger"], epochHash: 1) == [
        "warning since the newest checkpoints 1 epoch of other settings or tables"
      ])
  }

  // MARK: - Schemas, tables, calendar, rates

  @Test func theRegistryIsAsked() throws {
    let server = try TinyRegistry()
    defer { server.stop() }
    func report(_ change: @escaping (inout Configuration) -> Void = { _ in }) -> [String] {
      examine(healthy()) {
        $0.schemaRegistry = SchemaRegistrySettings()
        $0.schemaRegistry!.url = server.url
        $0.sources[0].mapping.format = .avro
        $0.outputs.formats = [.breaks: .avro, .cashflow: .avro]
        change(&$0)
      }.checks.filter { $0.area == "registry" }.map { "\($0.status) \($0.subject): \($0.found)" }
    }
    let reached = "ok \(server.url): reached"
    #expect(
      report() == [
        reached,
        "warning orders-value: there is no such subject, which source orders would have by its topic",
        "ok shop.breaks-value: gets the schema of breaks at the next start",
      ])
    server.put(
      "/subjects/orders-value/versions/latest", #"{"subject":"orders-value","id":7,"version":3,"schema":"{}"}"#)
    let source = "ok orders-value: version 3, schema 7, of source orders"
    #expect(
      report { $0.outputs.registers = false } == [
        reached, source, "failed shop.breaks-value: does not have the schema of breaks",
      ])
    server.put("/compatibility/subjects/shop.breaks-value/versions/latest", #"{"is_compatible":false}"#)
    #expect(
      report() == [
        reached, source, "failed shop.breaks-value: the registry would refuse the schema of breaks as incompatible",
      ])
    // Nothing has been registered by looking.
    #expect(server.schemas(of: "shop.breaks-value").isEmpty)
    let registry = SchemaRegistry(.init(url: server.url))
    _ = try registry.id(subject: "shop.breaks-value", schema: TopicSchemas.breakSchema.avro, registers: true)
    #expect(report() == [reached, source, "ok shop.breaks-value: has the schema of breaks, 101"])
    server.put("/subjects/orders-value/versions/latest", status: 403, #"{"error_code":403,"message":"no"}"#)
    let refused = report()
    #expect(refused.count == 1 && refused[0].hasPrefix("failed \(server.url): the schema registry at"))
    #expect(refused[0].contains("refuses the access (403: no)"))
    #expect(examine(healthy()).checks.allSatisfy { $0.area != "registry" && $0.area != "data" })
  }

  /// What is found of the data of two sources with such tables, calendar and rates; the directory reads `.`.
  private func dataFindings(_ settings: String, directory: String) throws -> [String] {
    let sources = """
      name: shop
      kafka: {bootstrap: "a:9092"}
      sources:
        orders: {kind: orders, topic: orders, fields: {order: o, event: {constant: invoiced}, event_time: at}}
        ledger:
          kind: ledger
          topic: ledger
          fields: {order: o, role: {path: r, table: accounts}, currency: c, event_time: at}
          amount: a
      """
    let made = try Configuration.parse(
      yaml: sources + "\n" + settings, file: "shop.yaml", directory: directory, environment: [:])
    var report = DoctorReport()
    report.add(Doctor(configuration: made, probe: healthy(), machine: good, timeout_ms: 100).run())
    return report.checks.filter { $0.area == "data" }.map {
      "\($0.status) \($0.subject): \($0.found.replacing(directory, with: "."))"
    }
  }

  @Test func tablesCalendarAndRatesAreLookedAt() throws {
    let directory = NSTemporaryDirectory() + "tieout-doctor-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let today = day(ofMilliseconds: wallClock_ms())
    func findings(rates: [(String, Int32)], calendarEnd: Int32, entries: [String]) throws -> [String] {
      func write(_ name: String, _ lines: [String]) throws {
        try lines.joined(separator: "\n").write(toFile: "\(directory)/\(name)", atomically: true, encoding: .utf8)
      }
      try write("t.csv", ["key,value"] + entries)
      try write("r.csv", ["date,from,to,rate"] + rates.map { "\(formatDate($0.1)),\($0.0),EUR,2" })
      try write("c.csv", ["period,start,end", "2020-01,2020-01-01,\(formatDate(calendarEnd))"])
      return try dataFindings(
        """
        tables: {accounts: {file: t.csv, unlisted: keep}}
        fx: {base: EUR, rates: r.csv, maximum_age: 7d}
        calendar: {file: c.csv}
        """, directory: directory)
    }
    func date(_ ahead: Int32) -> String { formatDate(today + ahead) }
    let well = try findings(rates: [("USD", today), ("GBP", today - 3)], calendarEnd: today + 30, entries: ["1,cash"])
    #expect(well.count == 3 && well[0].hasPrefix("ok tables.accounts: 1 entry of ./t.csv, changed "))
    #expect(
      well.dropFirst() == [
        "ok calendar: 1 period, 2020-01 to 2020-01, the last ends on \(date(30))",
        "ok fx.rates: rates of 2 currencies to EUR, standing until \(date(4)) at least",
      ])
    let late = try findings(
      rates: [("USD", today), ("GBP", today - 8)], calendarEnd: today + 3, entries: ["1,cash", "2,tax"])
    #expect(
      late[0].hasPrefix("ok tables.accounts: 2 entries of ./t.csv, changed "))
    #expect(
      late.dropFirst() == [
        "warning calendar: 1 period, 2020-01 to 2020-01, the last ends on \(date(3))",
        "warning fx.rates: no rate to EUR stands today of GBP until \(date(-1))",
      ])
    let over = try findings(rates: [("GBP", today - 8)], calendarEnd: today - 1, entries: ["1,cash"])
    #expect(over[1] == "failed calendar: 1 period, 2020-01 to 2020-01, ended on \(date(-1))")
    #expect(over[2] == "failed fx.rates: no rate to EUR stands today of GBP until \(date(-1))")
    #expect(
      try findings(rates: [], calendarEnd: today + 30, entries: ["1,cash"])[2]
        == "failed fx.rates: no rate to EUR at all")
  }

  /// What topics hold is not read here, and so is no fault.
  @Test func tablesOfTopicsAreNamed() throws {
    let findings = try dataFindings(
      """
      master_data: {enabled: true}
      tables: {accounts: {topic: erp.accounts, value: role}}
      fx: {base: EUR, topic: erp.rates}
      calendar: {topic: erp.periods}
      """, directory: "/nonexistent")
    let read = "which the daemon reads before the first record"
    #expect(
      findings == [
        "ok calendar: rows of the topic erp.periods, \(read)", "ok fx: rows of the topic erp.rates, \(read)",
        "ok tables.accounts: rows of the topic erp.accounts, \(read)",
      ])
  }

  /// What the daemon refuses at its start is told before: periods that have other days than when sums were made of them.
  @Test func movedPeriodsAreTold() throws {
    let today = day(ofMilliseconds: wallClock_ms())
    let until = formatDate(today + 300)
    let february = Int32(daysFromCivil(year: 2026, month: 2, day: 1))
    let kept = (key: "2026-01", value: #"{"period":"2026-01","first":"2026-01-01","last":"2026-01-31"}"#)
    func findings(_ records: [(key: String, value: String)], _ change: (inout Configuration) -> Void = { _ in }) throws
      -> [String]
    {
      var made = configuration
      made.quality = QualitySettings()
      made.policy.checks = FinanceChecks()
      made.policy.checks!.calendar = try FiscalCalendar([
        .init(name: 202_601, first_d: february - 31, last_d: february - 1),
        .init(name: 202_602, first_d: february, last_d: today + 300),
      ])
      change(&made)
      let probe = healthy()
      for topic in made.ownTopics { probe.cluster.topics[topic.name] = probe.cluster.topics["orders"] }
      probe.periods = .success(records)
      let report = examine(probe) { $0 = made }
      for check in report.checks where check.status == .failed && check.area == "data" {
        #expect(check.advice.contains("Give it its days back"))
      }
      return report.checks.filter { $0.area == "data" }.map { "\($0.status) \($0.subject): \($0.found)" }
    }
    let calendar = "ok calendar: 2 periods, 2026-01 to 2026-02, the last ends on \(until)"
    // Nothing has been summed yet.
    #expect(try findings([]) == [calendar])
    let well = "ok shop.known-periods: 1 period of which there are sums have the days that they had then"
    #expect(try findings([kept]) == [well, calendar])
    // The newest record of a key counts.
    let old = (key: "2026-01", value: #"{"period":"2026-01","first":"2026-01-01","last":"2026-01-28"}"#)
    #expect(try findings([old, kept]) == [well, calendar])
    let rest = "(topic 'shop.known-periods'), and they would be taken back from other cells than they had been added to"
    #expect(
      try findings([kept, old]) == [
        "failed calendar: period 2026-01 is 2026-01-01 to 2026-01-31; it was 2026-01-01 to 2026-01-28 when sums were "
          + "made of it " + rest, calendar,
      ])
    let gone = (key: "2025-12", value: #"{"period":"2025-12","first":"2025-12-01","last":"2025-12-31"}"#)
    #expect(try findings([kept, gone])[0].hasPrefix("failed calendar: period 2025-12 is gone; it was 2025-12-01 to"))
    // Sums by calendar months, and a calendar that does not keep to them.
    let months = (key: "months", value: #"{"period":"calendar months"}"#)
    #expect(
      try findings([months])[0].hasPrefix(
        "failed calendar: period 2026-02 is 2026-02-01 to \(until); it was a calendar"))
    #expect(
      try findings([months]) { $0.policy.checks = nil }
        == ["ok shop.known-periods: the calendar months of which there are sums have the days that they had then"])
    // Where nothing is summed, and where rows are of a topic, there is nothing to compare.
    #expect(try findings([old]) { $0.quality = nil } == [calendar])
  }

  /// One thing is wrong: that is told, with what to do, and nothing else is.
  private func expect(
    _ report: DoctorReport, _ status: DoctorFinding.Status, _ area: String, _ subject: String, _ found: String,
    advises: String, sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let bad = report.checks.filter { $0.status != .ok }
    #expect(bad.count == 1, "\(bad)", sourceLocation: sourceLocation)
    #expect(report.status == status, sourceLocation: sourceLocation)
    guard let finding = bad.first else { return }
    #expect(finding.area == area && finding.subject == subject, "\(finding)", sourceLocation: sourceLocation)
    #expect(finding.found.contains(found), "\(finding)", sourceLocation: sourceLocation)
    #expect(finding.advice.contains(advises), "\(finding)", sourceLocation: sourceLocation)
  }

  @Test func topicsThatAreMissingOrDoNotFit() {
    var probe = healthy()
    probe.cluster.topics["ledger"] = nil
    expect(examine(probe), .failed, "topics", "ledger", "source 'ledger'", advises: "Create the topic")
    probe = healthy()
    probe.cluster.topics["ledger"]!.partitions.removeLast()
    expect(examine(probe), .failed, "topics", "orders", "orders: 4, ledger: 3", advises: "routed: true")
    probe = healthy()
    probe.cluster.topics["shop.epochs"]!.partitions.removeLast()
    expect(examine(probe), .failed, "topics", "shop.epochs", "3 partitions", advises: "same number")
    // Where actions are read, each task needs a partition of them; where not, nobody asks.
    probe = healthy()
    probe.cluster.topics["shop.actions"] = TopicDescription(
      partitions: Array(repeating: .init(leader: 1, replicas: 3, inSync: 3), count: 3))
    probe.topicSettings["shop.actions"] = [
      "cleanup.policy": "delete", "retention.ms": "-1", "min.insync.replicas": "2",
    ]
    #expect(examine(probe).exitCode == 0)
    expect(
      examine(probe) { $0.takesActions = true }, .failed, "topics", "shop.actions", "3 partitions; there are 4 tasks",
      advises: "same number")
    probe = healthy()
    probe.cluster.topics["shop.breaks"] = nil
    #expect(examine(probe).exitCode == 0, "it will be created")
    probe.creation = error("CLUSTER_AUTHORIZATION_FAILED")
    expect(
      examine(probe), .failed, "topics", "shop.breaks", "said no", advises: "4 partitions and cleanup.policy=compact")
    probe.creation = error("_TIMED_OUT")
    #expect(examine(probe).exitCode == 1, "no answer is no refusal")
  }

  @Test func replicas() {
    let probe = healthy()
    probe.cluster.topics["orders"]!.partitions[2].leader = -1
    expect(examine(probe), .failed, "topics", "orders", "partitions 2", advises: "Bring the brokers")
    probe.cluster.topics["orders"]!.partitions[2] = .init(leader: 2, replicas: 3, inSync: 1)
    expect(examine(probe), .warning, "topics", "orders", "replicas are missing", advises: "down or behind")
    probe.cluster.topics["orders"]!.partitions[2] = .init(leader: 2, replicas: 3, inSync: 3)
    probe.cluster.topics["shop.dead-letters"]!.partitions = Array(
      repeating: .init(leader: 1, replicas: 1, inSync: 1), count: 4)
    probe.topicSettings["shop.dead-letters"]!["min.insync.replicas"] = "1"
    expect(examine(probe), .warning, "topics", "shop.dead-letters", "one replica alone", advises: "three replicas")
  }

  @Test(arguments: [
    ("shop.checkpoints", "cleanup.policy", "delete", DoctorFinding.Status.failed, "could not be brought back"),
    ("shop.epochs", "cleanup.policy", "compact", .failed, "could not be brought back"),
    ("shop.breaks", "cleanup.policy", "delete", .warning, "cleanup.policy=compact"),
    ("shop.dead-letters", "cleanup.policy", "compact", .failed, "refuses records without a key"),
    ("shop.dead-letters", "cleanup.policy", "compact,delete", .failed, "refuses records without a key"),
    ("orders", "cleanup.policy", "compact", .warning, "throws older events"),
    ("orders", "retention.ms", "600000", .failed, "could not be brought back"),
    ("orders", "retention.ms", "86400000", .warning, "tieout replay"),
    ("shop.epochs", "retention.ms", "1000", .failed, "could not be brought back"),
    ("shop.epochs", "retention.bytes", "1000", .warning, "before their time"),
    ("shop.breaks", "min.insync.replicas", "4", .failed, "Nothing can be written"),
    ("shop.breaks", "min.insync.replicas", "1", .warning, "only one broker"),
    ("shop.breaks", "unclean.leader.election.enable", "true", .warning, "they are lost"),
    ("shop.checkpoints", "max.message.bytes", "500000", .failed, "could not be written"),
    ("shop.breaks", "max.message.bytes", "500000", .warning, "refused"),
  ]) func aSetting(topic: String, key: String, value: String, status: DoctorFinding.Status, advice: String) {
    let probe = healthy()
    probe.topicSettings[topic]![key] = value
    expect(examine(probe), status, "topics", topic, value, advises: advice)
  }

  @Test func settingsThatAreNotToldAreNoFailure() {
    let probe = healthy()
    probe.settingsFailure = error("_TIMED_OUT")
    expect(examine(probe), .warning, "topics", "settings", "_TIMED_OUT", advises: "--timeout")
  }

  @Test func rightsThatAreMissing() {
    var probe = healthy()
    probe.reading["ledger"] = error("TOPIC_AUTHORIZATION_FAILED")
    expect(examine(probe), .failed, "rights", "read ledger[0]", "said no", advises: "Read on the source topics")
    probe = healthy()
    probe.groups["tieout-shop-totals"] = error("GROUP_AUTHORIZATION_FAILED")
    expect(examine(probe), .failed, "rights", "group tieout-shop-totals", "said no", advises: "tieout-shop-router")
    probe = healthy()
    probe.trial.writing["shop.breaks"] = error("TOPIC_AUTHORIZATION_FAILED")
    expect(examine(probe), .failed, "rights", "write shop.breaks", "said no", advises: "Read and Write")
    probe = healthy()
    probe.trial.committing["tieout-shop"] = error("GROUP_AUTHORIZATION_FAILED")
    expect(examine(probe), .failed, "rights", "commit tieout-shop", "said no", advises: "Read on the groups")
    probe = healthy()
    probe.trial.takeover = error("TRANSACTIONAL_ID_AUTHORIZATION_FAILED")
    expect(
      examine(probe), .failed, "transactions", "id tieout-shop-doctor", "said no", advises: "begin with 'tieout-shop-'")
    let relaxed = examine(probe) { $0.kafka.delivery = .atLeastOnce }
    #expect(relaxed.status == .warning, "at_least_once needs no transactional id")
  }

  @Test func mappingsThatDoNotDoWhatTheySay() {
    let report = examine(healthy()) {
      let ledger = $0.sources.firstIndex { $0.mapping.kind == .ledger }!
      $0.sources[ledger].mapping.format = .debezium
      $0.sources[ledger].mapping.fields["line_id"] = nil
    }
    expect(report, .warning, "configuration", "sources", "without 'line_id'", advises: "mapping")
  }

  @Test func clocks() {
    let probe = healthy()
    var machine = good
    machine.isClockSynchronised = false
    expect(
      examine(probe, machine: machine), .warning, "clock", "this machine", "nobody keeps it right", advises: "chrony")
    probe.stamps["orders"] = RecordStamp(offset: 7, timestamp_ms: wallClock_ms() + 60_000, isOfBroker: true)
    expect(examine(probe), .warning, "clock", "orders[0] offset 7", "the broker's clock", advises: "wrong")
    let doctor = Doctor(configuration: configuration, probe: nil, machine: good)
    #expect(doctor.clock(now_ms: 0, drift_ms: 0, newest: []).map(\.status) == [.failed])
    #expect(doctor.clock(now_ms: wallClock_ms(), drift_ms: -3_000, newest: []).map(\.status) == [.warning])
  }

  @Test func theMachine() {
    let probe = healthy()
    var machine = good
    machine.descriptorLimit = 150
    expect(examine(probe, machine: machine), .warning, "machine", "open files", "150", advises: "LimitNOFILE")
    machine = good
    machine.memory_bytes = 2 << 30
    expect(examine(probe, machine: machine), .failed, "machine", "memory", "2.0 GiB", advises: "limits.memory")
    machine = good
    machine.isOvercommitForbidden = true
    expect(examine(probe, machine: machine), .warning, "machine", "address space", "overcommit", advises: "ulimit")
    expect(
      examine(probe) { $0.workers = 6 }, .warning, "machine", "workers", "4 partitions", advises: "2 of them")
  }

  @Test func messagesMustHoldAPieceOfACheckpoint() {
    let small = examine(healthy()) { $0.kafka.producer = [("message.max.bytes", .plain("500000"))] }
    expect(small, .failed, "messages", "message.max.bytes", "piece of a checkpoint", advises: "1000000")
    #expect(configuration.producerMessageLimit >= Checkpointer.largestMessage, "the client's own default is enough")
  }

  @Test func aFolderThatCannotBeWrittenOrIsMissing() throws {
    let root = FileManager.default.temporaryDirectory.appendingPathComponent("doctor-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: root) }
    try FileManager.default.createDirectory(atPath: root, withIntermediateDirectories: true)
    #expect(FolderFacts.read(root + "/a/b").finding("disk", "checkpoints").status == .ok, "it can be made")
    #expect(try FileManager.default.contentsOfDirectory(atPath: root).isEmpty, "nothing is left")
    try "x".write(toFile: root + "/file", atomically: true, encoding: .utf8)
    #expect(FolderFacts.read(root + "/file/a").finding("disk", "checkpoints").status == .failed)
    #expect(FolderFacts.read("/proc/none").finding("disk", "checkpoints").status == .failed)
    let full = FolderFacts(path: "/x", exists: true, free_bytes: 1 << 20, total_bytes: 1 << 40)
    #expect(full.finding("disk", "checkpoints").status == .failed)
    let scarce = FolderFacts(path: "/x", exists: true, free_bytes: 1 << 29, total_bytes: 1 << 40)
    #expect(scarce.finding("disk", "checkpoints").status == .warning)
  }

  /// What librdkafka 2.0.2 logs, and what is made of it.
  @Test(arguments: [
    (
      "a/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT)",
      "Nothing listens"
    ),
    ("a/bootstrap: Failed to resolve 'a:9092': Name or service not known (after 1ms in state CONNECT)", "not known"),
    (
      "ssl://a/bootstrap: SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker listener? (after 0ms in "
        + "state SSL_HANDSHAKE)", "does not speak TLS"
    ),
    (
      "ssl://a/bootstrap: SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker certificate "
        + "could not be verified, verify that ssl.ca.location is correctly configured", "ssl.ca.location"
    ),
    ("ssl://a/bootstrap: error:0A000086:SSL routines::certificate verify failed", "another name"),
    (
      "sasl_plaintext://a/bootstrap: Failed to initialize SASL authentication: SASL Handshake not supported by broker "
        + "(required by mechanism PLAIN)", "asks nobody to sign in"
    ),
    (
      "sasl_ssl://a/bootstrap: SASL authentication error: Authentication failed during authentication due to invalid "
        + "credentials", "user and password"
    ),
    (
      "a/bootstrap: Disconnected while requesting ApiVersion: might be caused by incorrect security.protocol "
        + "configuration", "something else"
    ),
  ]) func whyNoConnectionCameAbout(line: String, advice: String) {
    let probe = healthy()
    let heard = ClientComplaints()
    heard.handler(3, "FAIL", "[thrd:a/bootstrap]: \(line)")
    heard.handler(3, "ERROR", "[thrd:a/bootstrap]: 1/1 brokers are down")
    probe.complaints = heard.all
    probe.unreachable = error("_TRANSPORT")
    let finding = examine(probe).checks.first { $0.area == "broker" }!
    #expect(finding.status == .failed)
    #expect(finding.advice.contains(advice), "\(finding)")
    #expect(!finding.found.contains("thrd"))
  }

  @Test func aBrokerThatIsElsewhereThanItSays() {
    let probe = healthy()
    probe.closedPorts["b:9092"] = "Connection refused"
    expect(examine(probe), .failed, "broker", "broker 2", "b:9092", advises: "advertised.listeners")
  }

  @Test func theReportInBothForms() throws {
    let probe = healthy()
    probe.reading["ledger"] = error("TOPIC_AUTHORIZATION_FAILED")
    let report = examine(probe)
    #expect(report.exitCode == 2)
    let back = try JSONDecoder().decode(DoctorReport.self, from: Data(report.json().utf8))
    #expect(back == report)
    #expect(report.text.contains("failed  rights"))
    #expect(report.text.split(separator: "\n").allSatisfy { $0.count < 160 }, "it fits a terminal")
    #expect(DoctorReport.wrapped("aa bb cc", 5) == ["aa bb", "cc"])
  }

  /// The whole way, over the client library: nothing hangs, and what the broker does not do is no failure.
  @Test func atTheEmbeddedBroker() throws {
    let broker = try EmbeddedBroker()
    var configuration = configuration
    configuration.kafka.bootstrap = broker.bootstrap
    for topic in ["orders", "ledger"] + configuration.ownTopics.map(\.name) {
      try broker.createTopic(topic, partitions: 2)
    }
    let producer = try Producer(properties: [KafkaProperty("bootstrap.servers", broker.bootstrap)])
    try producer.produce(topic: "orders", partition: 0, key: nil, value: Array("x".utf8))
    try producer.flush(timeout_ms: 10_000)
    let probe = try KafkaProbe(configuration)
    func run() -> DoctorReport {
      var report = DoctorReport()
      report.add(Doctor(configuration: configuration, probe: probe, machine: good, timeout_ms: 3_000).run())
      return report
    }
    let report = run()
    #expect(report.checks.filter { $0.status == .failed } == [])
    #expect(report.checks.contains { $0.subject == "read orders" && $0.found.hasSuffix("offset 0") })
    #expect(report.checks.contains { $0.area == "transactions" && $0.status == .warning })
    // OffsetFetch is refused.
    broker.failNext(apiKey: 9, codes: [30])
    #expect(run().checks.contains { $0.subject == "group tieout-shop" && $0.status == .failed })
    configuration.kafka.bootstrap = "127.0.0.1:1"
    let nowhere = Doctor(
      configuration: configuration, probe: try KafkaProbe(configuration), machine: good, timeout_ms: 1_000)
    #expect(nowhere.run().contains { $0.area == "broker" && $0.advice.hasPrefix("Nothing listens") })
  }
}
