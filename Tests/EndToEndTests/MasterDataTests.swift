import Configuration
import Domain
import Foundation
import Kafka
import KafkaTesting
import Pipeline
import Testing

/// Tables that change while the daemon runs: what was decoded with one version stays so, over restarts and replays.
@Suite(.serialized) struct MasterDataTests {

  final class World {
    let cluster: TestCluster
    let directory: String
    let prefix: String
    private var sent = 0

    init(_ kind: TestCluster.Kind? = nil) throws {
      cluster = try TestCluster(kind)
      directory = NSTemporaryDirectory() + "tieout-tables-\(UUID().uuidString)"
      prefix = cluster.unique("md")
      try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    }
    deinit { try? FileManager.default.removeItem(atPath: directory) }

    func write(_ lines: [String]) throws {
      try (["number,group"] + lines).joined(separator: "\n").write(
        toFile: directory + "/customers.csv", atomically: true, encoding: .utf8)
    }

    func configuration(_ change: (String) -> String = { $0 }) throws -> Configuration {
      let yaml = """
        name: md
        prefix: \(prefix)
        kafka: {bootstrap: "\(cluster.bootstrap)", group: \(prefix), consumer: {session.timeout.ms: 6000}}
        master_data: {enabled: true, interval: 1h}
        checkpoints: {store: off}
        epoch: {interval: 20ms}
        matching: {window: 1d, grace: 1h, idle_timeout: 3s}
        tables: {customers: {file: customers.csv}}
        sources:
          orders:
            kind: orders
            fields: {order: o, event: {constant: invoiced}, event_time: t, event_id: o,
              customer: {path: c, table: customers}, currency: {constant: EUR}, gross: g}
            rules: [{field: customer, one_of: [C1, C2, C9], severity: flag}]
          ledger:
            kind: ledger
            fields: {order: o, role: {constant: receivable}, currency: {constant: EUR}, event_time: t}
            amount: a
        policy: {replace_defaults: true, invoiced: {receivable: +gross}}
        """
      return try Configuration.parse(yaml: change(yaml), file: "md.yaml", directory: directory)
    }

    /// Makes the topics of the sources and the program's own.
    func createTopics(_ configuration: Configuration, partitions: Int = 1) throws {
      for source in configuration.sources { try cluster.createTopic(source.topic, partitions: partitions) }
      for topic in configuration.ownTopics {
        try cluster.createTopic(topic.name, partitions: partitions, config: topic.config)
      }
    }

    /// By order of which nothing is posted: its customer, as the newest break has it.
    func customers(_ configuration: Configuration) throws -> [String: String] {
      var found: [String: String] = [:]
      for record in try cluster.readAll(configuration.breaksTopic, partitions: 1) {
        let message = try JSONSerialization.jsonObject(with: Data(record.value!.utf8)) as! [String: Any]
        guard message["type"] as? String == "MISSING_IN_LEDGER" else { continue }
        found[message["order"] as! String] = message["customer"] as? String
      }
      return found
    }

    func send(_ orders: [(key: String, customer: String)], _ configuration: Configuration) throws {
      try cluster.produce(
        configuration.sources[0].topic,
        orders.map { ($0.key, #"{"o":"\#($0.key)","t":"2024-01-01T00:00:00Z","c":"\#($0.customer)","g":10}"#, 0) })
    }
  }

  func wait(_ what: String, _ isDone: () throws -> Bool) rethrows {
    let until = Date().addingTimeInterval(60)
    while Date() < until {
      if try isDone() { return }
      Thread.sleep(forTimeInterval: 0.05)
    }
    Issue.record("\(what): not within a minute")
  }

  @Test func everyRecordIsDecodedAsItWasFirst() throws {
    let world = try World()
    try world.write(["OLD,C1"])
    let first = try world.configuration()
    try world.createTopics(first)
    #expect(first.ownTopics.contains { $0.name == world.prefix + ".tables" })
    let daemon = Daemon(configuration: first, log: silent)
    try daemon.start()
    try world.send([("A", "OLD"), ("B", "NEW")], first)
    wait("the first records") { daemon.status.decode.records >= 2 }
    #expect(daemon.status.deadLetters == 1)
    // A file that makes no sense changes nothing, nor does one that is the same.
    try world.write(["OLD,C1,", "OLD,C2"])
    daemon.refreshTables(isForced: true)
    try world.write(["OLD,C2", "NEW,C9"])
    daemon.refreshTables()
    #expect(try world.cluster.readAll(world.prefix + ".tables", partitions: 1).count == 1, "it was not yet time")
    daemon.refreshTables(isForced: true)
    daemon.refreshTables(isForced: true)
    #expect(try world.cluster.readAll(world.prefix + ".tables", partitions: 1).count == 2)
    wait("the tables in use") { daemon.usesNewestTables }
    try world.send([("C", "OLD"), ("D", "NEW")], first)
    wait("the records after the change") { daemon.status.decode.records >= 4 }
    #expect(daemon.status.deadLetters == 1 && daemon.status.restarts == 0)
    daemon.stop.stop()
    #expect(daemon.waitUntilStopped())

    // The next process has a third version, and rebuilds the state of both others: nothing is in a checkpoint.
    try world.write(["OLD,C1", "NEW,C1"])
    let third = try world.configuration()
    #expect(third.matchingHash != first.matchingHash)
    let next = Daemon(configuration: third, log: silent)
    try next.start()
    wait("the recovery") { next.status.recoveries >= 1 }
    #expect(next.status.recoveryProblems == 0)
    try world.send([("E", "NEW")], third)
    func customers() throws -> [String: String] { try world.customers(third) }
    try wait("the breaks") { try customers().count == 4 }
    next.stop.stop()
    #expect(next.waitUntilStopped() && next.status.restarts == 0)
    #expect(try customers() == ["A": "C1", "C": "C2", "D": "C9", "E": "C1"])

    // An auditor that has the newest version alone derives the same bytes.
    guard world.cluster.knowsTransactions else { return }
    let reader = try PartitionReader(properties: world.cluster.properties + [KafkaProperty("group.id", world.prefix)])
    defer { reader.close() }
    let places = third.inputTopics.map { TopicPartition($0, 0) }
    func derived(_ configuration: Configuration) throws -> [String] {
      var all: [String] = []
      let committed = try reader.committed(places)
      _ = try Auditor(configuration, environment: KafkaEnvironment(), reader: reader).audit(
        partition: 0, committed: places.map { committed[$0] }
      ) { if $0.topic == .breaks { all.append(String(decoding: $0.value, as: UTF8.self)) } }
      return all.sorted()
    }
    let told = try world.cluster.readAll(third.breaksTopic, partitions: 1).compactMap(\.value).sorted()
    #expect(try derived(third) == told && told.count >= 4)
    // Without the versions it cannot: what makes the difference is that they are kept.
    let plain = try world.configuration { $0.replacing("master_data: {enabled: true, interval: 1h}", with: "") }
    #expect(throws: RecoveryError.self) { try derived(plain) }
  }

  /// Posting policies of a topic: breaks open and clear as they change, a row that is none changes nothing, and a restart
  /// goes on with what is in force.
  @Test func policiesOfATopicAreFollowed() throws {
    let world = try World()
    try world.write(["OLD,C1"])
    let topic = world.prefix + ".policies"
    // The orders are old by the clock, and are to be held all the same.
    let configuration = try world.configuration {
      $0.replacing("window: 1d,", with: "window: 1d, settle: 100ms, retention: 9000d, open_retention: 9000d,")
        + "\nposting_policies: {topic: \(topic)}"
    }
    for source in configuration.sources { try world.cluster.createTopic(source.topic, partitions: 1) }
    try world.cluster.createTopic(topic, partitions: 1)
    for own in configuration.ownTopics { try world.cluster.createTopic(own.name, partitions: 1, config: own.config) }
    func row(_ sign: String, _ from: String = "null") -> String {
      #"{"event":"invoiced","role":"receivable","component":"gross","sign":"\#(sign)","valid_from":\#(from)}"#
    }
    func states() throws -> [String] {
      try world.cluster.readAll(configuration.breaksTopic, partitions: 1).map {
        let message = try JSONSerialization.jsonObject(with: Data($0.value!.utf8)) as! [String: Any]
        return "\(message["order"]!) \(message["state"]!)"
      }
    }
    let daemon = Daemon(configuration: configuration, log: silent)
    try daemon.start()
    try world.send([("A", "OLD")], configuration)
    try wait("the break") { try states() == ["A open"] }
    // Nothing is expected any more of documents from 2024 on.
    try world.cluster.produce(topic, [("k", row("none", #""2024-01-01""#), 0)])
    daemon.refreshTables(isForced: true)
    try wait("the break's end") { try states() == ["A open", "A auto_cleared"] }
    // A record that is no row takes nothing away.
    try world.cluster.produce(topic, [("k", row("upwards"), 0)])
    daemon.refreshTables(isForced: true)
    try world.send([("B", "OLD")], configuration)
    wait("the second record") { daemon.status.decode.records >= 2 }
    let letters = try world.cluster.readAll(configuration.deadLettersTopic, partitions: 1).compactMap(\.value)
    #expect(letters.count == 1 && letters[0].contains("(posting policies)") && letters[0].contains("'sign'"))
    #expect(daemon.status.restarts == 0)
    daemon.stop.stop()
    #expect(daemon.waitUntilStopped())
    // The next process goes on with the row, though the newest record under its key is none, and compaction may have
    // removed the one before: it is read from the versions.
    let next = Daemon(configuration: configuration, log: silent)
    try next.start()
    wait("the recovery") { next.status.recoveries >= 1 }
    #expect(next.status.recoveryProblems == 0)
    try world.cluster.produce(topic, [("k", row("debit"), 0)])
    next.refreshTables(isForced: true)
    try wait("the breaks") { try Set(states()).isSuperset(of: ["A reopened", "B open"]) }
    next.stop.stop()
    #expect(next.waitUntilStopped() && next.status.restarts == 0)
  }

  /// Periods that are closed and rates that come while the daemon runs: what was judged by one version is judged so again.
  @Test func calendarAndRatesAreVersionsToo() throws {
    let world = try World()
    func write(closed: String, rates: [String]) throws {
      try "period,start,end,closed_at\n2024-01,2024-01-01,2024-01-31,\(closed)\n2024-02,2024-02-01,2024-02-29,\n".write(
        toFile: world.directory + "/periods.csv", atomically: true, encoding: .utf8)
      try (["date,from,to,rate"] + rates).joined(separator: "\n").write(
        toFile: world.directory + "/rates.csv", atomically: true, encoding: .utf8)
    }
    func configuration() throws -> Configuration {
      try world.configuration {
        $0.replacing(
          "tables: {customers: {file: customers.csv}}",
          with: "calendar: {file: periods.csv}\n"
            + "fx: {base: EUR, rates: rates.csv, maximum_age: 60d}\naggregates: {enabled: true, interval: 50ms}"
        )
        .replacing("customer: {path: c, table: customers}, ", with: "")
        .replacing("rules: [{field: customer, one_of: [C1, C2, C9], severity: flag}]", with: "")
        .replacing("{constant: EUR}", with: "c")
        .replacing("event_time: t}", with: "event_time: t, posting_date: d, line_id: o}")
        .replacing(
          "matching: {", with: "matching: {posting_dates: false, settle: 0s, retention: 5000d, open_retention: 5000d, ")
      }
    }
    try write(closed: "", rates: ["2023-12-31,USD,EUR,0.9"])
    let first = try configuration()
    try world.createTopics(first)
    func send(_ key: String, _ currency: String) throws {
      let common = #""o":"\#(key)","t":"2024-01-20T00:00:00Z","c":"\#(currency)""#
      try world.cluster.produce(first.sources[0].topic, [(key, #"{\#(common),"g":10}"#, 0)])
      try world.cluster.produce(first.sources[1].topic, [(key, #"{\#(common),"d":"2024-01-20","a":10}"#, 0)])
    }
    func types() throws -> [String] {
      var found: Set<String> = []
      for record in try world.cluster.readAll(first.breaksTopic, partitions: 1) {
        let message = try JSONSerialization.jsonObject(with: Data(record.value!.utf8)) as! [String: Any]
        // All these records are late by the clock, which has moved on while nothing came.
        guard let type = message["type"] as? String, ["FX_RATE_MISSING", "CLOSED_PERIOD"].contains(type) else {
          continue
        }
        found.insert("\(message["order"]!) \(type)")
      }
      return found.sorted()
    }
    func base() throws -> String? {
      var newest: (revision: Int, amount: String?) = (0, nil)
      for record in try world.cluster.readAll(first.revenueTopic, partitions: 1) {
        let message = try JSONSerialization.jsonObject(with: Data(record.value!.utf8)) as! [String: Any]
        guard message["view"] as? String == "base", let revision = message["revision"] as? Int else { continue }
        if revision >= newest.revision {
          newest = (revision, (message["orders"] as? [String: String])?["billed_gross"])
        }
      }
      return newest.amount
    }
    let daemon = Daemon(configuration: first, log: silent)
    try daemon.start()
    try send("A", "USD")
    try send("B", "CHF")
    let noRate = ["B FX_RATE_MISSING"]
    try wait("no rate") { try types() == noRate }
    // A period that is moved while there are sums of it changes nothing; one that is closed does.
    try write(closed: "", rates: ["2023-12-31,USD,EUR,0.9", "2023-12-31,CHF,EUR,-1"])
    daemon.refreshTables(isForced: true)
    try write(closed: "2024-01-10", rates: ["2023-12-31,USD,EUR,0.9", "2023-12-31,CHF,EUR,1.1"])
    daemon.refreshTables(isForced: true)
    wait("the tables in use") { daemon.usesNewestTables }
    try send("C", "CHF")
    let all = noRate + ["C CLOSED_PERIOD"]
    try wait("the closed period") { try types() == all }
    try wait("the base currency") { try base() == "20.00" }
    #expect(try world.cluster.readAll(world.prefix + ".tables", partitions: 1).count == 2)
    daemon.stop.stop()
    #expect(daemon.waitUntilStopped() && daemon.status.restarts == 0)

    // The next process finds it open again and other rates, and rebuilds the state as it was.
    try write(closed: "", rates: ["2023-12-31,USD,EUR,0.5", "2023-12-31,CHF,EUR,2"])
    let next = Daemon(configuration: try configuration(), log: silent)
    try next.start()
    wait("the recovery") { next.status.recoveries >= 1 }
    #expect(next.status.recoveryProblems == 0)
    try send("D", "CHF")
    try wait("the newest rates") { try base() == "40.00" }
    next.stop.stop()
    #expect(next.waitUntilStopped() && next.status.restarts == 0)
    #expect(try types() == all)
  }

  /// Sums are known by the name of their period: one that was moved between two runs is refused at the start, with its days
  /// then and now, and so are other periods than the months by which there are sums.
  @Test(arguments: [true, false]) func movedPeriodsAreRefusedAtTheStart(isFollowed: Bool) throws {
    let world = try World()
    try world.write(["OLD,C1"])
    func configuration(_ periods: [String]?) throws -> Configuration {
      if let periods {
        try (["period,start,end"] + periods).joined(separator: "\n").write(
          toFile: world.directory + "/periods.csv", atomically: true, encoding: .utf8)
      }
      return try world.configuration {
        $0.replacing(
          "tables: {customers",
          with: (periods == nil ? "" : "calendar: {file: periods.csv}\n")
            + (isFollowed ? "aggregates: {enabled: true, interval: 50ms}" : "quality: {enabled: true}")
            + "\ntables: {customers"
        )
        .replacing("enabled: true, interval: 1h", with: isFollowed ? "enabled: true, interval: 1h" : "enabled: false")
        .replacing(
          "{order: o, role: {constant: receivable}", with: "{line_id: o, order: o, role: {constant: receivable}")
      }
    }
    func start(_ periods: [String]?) throws {
      let daemon = Daemon(configuration: try configuration(periods), log: silent)
      try daemon.start()
      daemon.stop.stop()
      #expect(daemon.waitUntilStopped() && daemon.status.restarts == 0)
    }
    let first = try configuration(nil)
    try world.createTopics(first, partitions: 2)
    let january = "2024-01,2024-01-01,2024-01-31"
    if isFollowed {
      // Months, then periods that are months, then none any more.
      try start(nil)
      let error = #expect(throws: TopicCheckError.self) { try start(["2024-01,2024-01-01,2024-01-28"]) }
      #expect(error?.description.contains("2024-01 is 2024-01-01 to 2024-01-28; it was a calendar month") == true)
      try start([january])
      try start(nil)
      return
    }
    let second = ["2024-02,2024-02-01,2024-02-25", "2024-03,2024-02-26,2024-03-31"]
    try start([january, second[0]])
    let moved = #expect(throws: TopicCheckError.self) { try start([january, "2024-02,2024-02-01,2024-02-29"]) }
    #expect(
      moved?.description.contains(
        "period 2024-02 is 2024-02-01 to 2024-02-29; it was 2024-02-01 to 2024-02-25 when sums were made of it (topic "
          + "'\(world.prefix).known-periods')") == true)
    // The doctor says it before the start, as of the cluster.
    func doctor(_ periods: [String]) throws -> [DoctorFinding] {
      let made = try configuration(periods)
      return Doctor(configuration: made, probe: try KafkaProbe(made)).run().filter {
        $0.area == "data" && ($0.status == .failed && $0.found.contains("when sums were made of it"))
      }
    }
    #expect(try doctor([january, second[0]]).isEmpty)
    let told = try doctor([january, "2024-02,2024-02-01,2024-02-29"])
    #expect(told.map(\.subject) == ["calendar"] && moved?.description.contains(told[0].found) == true)
    let gone = #expect(throws: TopicCheckError.self) { try start([january]) }
    #expect(gone?.description.contains("period 2024-02 is gone") == true)
    let months = #expect(throws: TopicCheckError.self) { try start(nil) }
    #expect(months?.description.contains("period 2024-02 is 2024-02-01 to 2024-02-29") == true)
    // Periods may be added, and the old ones still stand.
    try start([january] + second)
    #expect(throws: TopicCheckError.self) { try start([january, second[0]]) }
  }

  /// A table that is a compacted topic: read before the first record, followed, with rows that go and rows that are none.
  @Test(arguments: TestCluster.kinds) func aTopicIsATable(kind: TestCluster.Kind) throws {
    let world = try World(kind)
    let (customers, rates) = (world.prefix + ".customers", world.prefix + ".rates")
    func configuration() throws -> Configuration {
      try world.configuration {
        $0.replacing(
          "{customers: {file: customers.csv}}",
          with: "{customers: {topic: \(customers), value: group}}\nfx: {base: EUR, topic: \(rates), maximum_age: 60d}")
      }
    }
    let first = try configuration()
    try world.createTopics(first)
    #expect(throws: TopicCheckError.self) { try Daemon(configuration: first, log: silent).start() }
    let compact = ["cleanup.policy": "compact"]
    try world.cluster.createTopic(customers, partitions: 2, config: compact)
    try world.cluster.createTopic(rates, partitions: 1, config: compact)
    func row(_ key: String, _ group: String?) throws {
      let partition: Int32 = key == "OLD" ? 0 : 1
      try world.cluster.produce(customers, [(key, group.map { #"{"group":"\#($0)"}"# }, partition)])
    }
    try row("OLD", "C9")
    try row("OLD", "C1")
    try world.cluster.produce(customers, [("BAD", "no JSON", 1)])
    try world.cluster.produce(
      rates, [("r", #"{"date":"2023-12-31","from":"USD","to":"EUR","rate":"0.9"}"#, 0)])
    // Before the daemon starts: the first record is decoded by what the topic holds then.
    try world.send([("A", "OLD"), ("B", "NEW")], first)
    let daemon = Daemon(configuration: first, log: silent)
    try daemon.start()
    wait("the first records") { daemon.status.decode.records >= 2 }
    #expect(daemon.status.deadLetters == 1)
    try row("OLD", nil)
    try row("NEW", "C2")
    daemon.refreshTables()
    daemon.refreshTables(isForced: true)
    wait("the tables in use") { daemon.usesNewestTables }
    try world.send([("C", "OLD"), ("D", "NEW")], first)
    wait("the records after the change") { daemon.status.decode.records >= 4 }
    #expect(daemon.status.deadLetters == 2)
    daemon.stop.stop()
    #expect(daemon.waitUntilStopped() && daemon.status.restarts == 0)
    // The next process reads another state of the topic, and does the old epochs again with theirs.
    try row("NEW", "C9")
    let next = Daemon(configuration: try configuration(), log: silent)
    try next.start()
    wait("the recovery") { next.status.recoveries >= 1 }
    #expect(next.status.recoveryProblems == 0)
    try world.send([("E", "NEW")], first)
    func told() throws -> [String: String] {
      var found: [String: String] = [:]
      for record in try world.cluster.readAll(first.breaksTopic, partitions: 1) {
        let message = try JSONSerialization.jsonObject(with: Data(record.value!.utf8)) as! [String: Any]
        found[message["order"] as! String] = message["customer"] as? String
      }
      return found
    }
    try wait("the breaks") { try told().count == 3 }
    next.stop.stop()
    #expect(next.waitUntilStopped() && next.status.restarts == 0)
    #expect(try told() == ["A": "C1", "D": "C2", "E": "C9"])
    // A row that is none is a dead letter, with its place, and once.
    let letters = try world.cluster.readAll(first.deadLettersTopic, partitions: 1).map {
      try JSONSerialization.jsonObject(with: Data($0.value!.utf8)) as! [String: Any]
    }
    let rows = letters.filter { $0["source"] as? String == "customers" }
    #expect(rows.count == 1 && letters.count == 3)
    #expect(rows.first?["topic"] as? String == customers && rows.first?["partition"] as? Int == 1)
    #expect(rows.first?["offset"] as? Int == 0 && rows.first?["payload"] as? String == "no JSON")
    #expect(rows.first?["reason"] as? String == "SCHEMA_INVALID")
  }

  /// A row of a topic with which a mapping makes no sense is named with its place; its table stays as it is, and the others
  /// change.
  @Test func aRowThatMakesNoSenseIsNamed() throws {
    let world = try World()
    try world.write(["OLD,C1"])
    let roles = world.prefix + ".roles"
    let configuration = try world.configuration {
      $0.replacing("customers.csv}", with: "customers.csv}, roles: {topic: \(roles), value: role}")
        .replacing("{constant: receivable}", with: "{path: r, table: roles, default: X}")
    }
    try world.createTopics(configuration)
    try world.cluster.createTopic(roles, partitions: 2, config: ["cleanup.policy": "compact"])
    func row(_ key: String, _ role: String) throws {
      try world.cluster.produce(roles, [(key, #"{"role":"\#(role)"}"#, 1)])
    }
    try row("X", "receivable")
    try row("Y", "recievable")
    let error = #expect(throws: (any Error).self) { try Daemon(configuration: configuration, log: silent).start() }
    let words = error.map { "\($0)" } ?? ""
    #expect(words.hasPrefix("the table 'roles': source 'ledger', field 'role': 'recievable' is not one of"), "\(words)")
    #expect(words.hasSuffix("; the row 'Y' of topic '\(roles)', partition 1, offset 1, key 'Y'"), "\(words)")
    try row("Y", "revenue")
    let daemon = Daemon(configuration: configuration, log: silent)
    try daemon.start()
    try row("Y", "recievable")
    try world.write(["OLD,C1", "NEW,C9"])
    daemon.refreshTables(isForced: true)
    wait("the tables in use") { daemon.usesNewestTables }
    try world.send([("A", "NEW")], configuration)
    wait("the record") { daemon.status.decode.records >= 1 }
    #expect(daemon.status.deadLetters == 0 && daemon.status.restarts == 0)
    daemon.stop.stop()
    #expect(daemon.waitUntilStopped())
  }

  /// A topic that is deleted keeps its table as it was and does not hold up the others; one that comes under its name is read
  /// from the beginning.
  @Test func aTopicThatIsGoneHoldsUpNoOther() throws {
    let world = try World()
    let (customers, roles) = (world.prefix + ".customers", world.prefix + ".roles")
    let configuration = try world.configuration {
      $0.replacing(
        "{customers: {file: customers.csv}}",
        with: "{roles: {topic: \(roles), value: role}, customers: {topic: \(customers), value: group}}"
      ).replacing("{constant: receivable}", with: "{path: r, table: roles, default: X}")
    }
    try world.createTopics(configuration)
    for topic in [customers, roles] {
      try world.cluster.createTopic(topic, partitions: 1, config: ["cleanup.policy": "compact"])
    }
    try world.cluster.produce(roles, [("X", #"{"role":"receivable"}"#, 0), ("Y", #"{"role":"revenue"}"#, 0)])
    try world.cluster.produce(customers, [("OLD", #"{"group":"C1"}"#, 0)])
    let daemon = Daemon(configuration: configuration, log: silent)
    try daemon.start()
    func isTroubled(_ table: String) -> Bool? {
      daemon.metricsPage().split(separator: "\n").first {
        $0.hasPrefix(#"tieout_daemon_table_problem{table="\#(table)",topic="\#(world.prefix).\#(table)"}"#)
      }.map { $0.hasSuffix(" 1") }
    }
    #expect(isTroubled("roles") == false && isTroubled("customers") == false)
    let admin = try Admin(properties: [KafkaProperty("bootstrap.servers", world.cluster.bootstrap)])
    try admin.deleteTopic(roles)
    try world.cluster.produce(customers, [("NEW", #"{"group":"C2"}"#, 0)])
    try wait("the topic to be gone") { try admin.topics()[roles] == nil }
    daemon.refreshTables(isForced: true)
    wait("the tables in use") { daemon.usesNewestTables }
    #expect(isTroubled("roles") == true && isTroubled("customers") == false)
    try world.send([("A", "NEW")], configuration)
    wait("the record") { daemon.status.decode.records >= 1 }
    #expect(daemon.status.deadLetters == 0 && daemon.status.restarts == 0)
    // Another topic of the name, with fewer records.
    try world.cluster.createTopic(roles, partitions: 1, config: ["cleanup.policy": "compact"])
    try world.cluster.produce(roles, [("X", #"{"role":"cash"}"#, 0)])
    daemon.refreshTables(isForced: true)
    wait("the tables in use") { daemon.usesNewestTables }
    #expect(isTroubled("roles") == false)
    try world.cluster.produce(
      configuration.sources[1].topic, [("A", #"{"o":"A","t":"2024-01-01T00:00:00Z","a":10}"#, 0)])
    wait("the posting") { daemon.status.decode.records >= 2 }
    wait("its order") { daemon.status.match.open.reduce(0, +) > 0 }
    #expect(daemon.status.deadLetters == 0)
    daemon.stop.stop()
    #expect(daemon.waitUntilStopped() && daemon.status.restarts == 0)
  }

  /// Partitions that are added to a table's topic are read like the others, without a restart.
  @Test func partitionsMayBeAddedToATable() throws {
    let world = try World()
    let customers = world.prefix + ".customers"
    let configuration = try world.configuration {
      $0.replacing("{customers: {file: customers.csv}}", with: "{customers: {topic: \(customers), value: group}}")
    }
    try world.createTopics(configuration)
    try world.cluster.createTopic(customers, partitions: 1, config: ["cleanup.policy": "compact"])
    try world.cluster.produce(customers, [("OLD", #"{"group":"C1"}"#, 0)])
    let daemon = Daemon(configuration: configuration, log: silent)
    try daemon.start()
    try world.send([("A", "OLD"), ("B", "NEW")], configuration)
    wait("the first records") { daemon.status.decode.records >= 2 }
    #expect(daemon.status.deadLetters == 1)
    try world.cluster.addPartitions(customers, upTo: 3)
    try world.cluster.produce(customers, [("NEW", #"{"group":"C2"}"#, 2)])
    daemon.refreshTables(isForced: true)
    wait("the tables in use") { daemon.usesNewestTables }
    try world.send([("C", "NEW")], configuration)
    wait("the record after it") { daemon.status.decode.records >= 3 }
    #expect(daemon.status.deadLetters == 1)
    daemon.stop.stop()
    #expect(daemon.waitUntilStopped() && daemon.status.restarts == 0)
  }

  /// Without a period there is no calendar: it can neither come while the daemon runs, nor go.
  @Test func aCalendarOfATopicNeedsAPeriod() throws {
    let world = try World()
    try world.write(["OLD,C1"])
    let periods = world.prefix + ".periods"
    let configuration = try world.configuration {
      $0.replacing("tables: {customers", with: "calendar: {topic: \(periods)}\ntables: {customers")
    }
    try world.createTopics(configuration)
    try world.cluster.createTopic(periods, partitions: 1, config: ["cleanup.policy": "compact"])
    let error = #expect(throws: (any Error).self) {
      try Daemon(configuration: configuration, log: silent).start()
    }
    #expect(error.map { "\($0)" } == "the calendar: there is no period in the topic '\(periods)'")
    try world.cluster.produce(
      periods, [("1", #"{"period":"2024-01","start":"2024-01-01","end":"2024-01-31"}"#, 0)])
    let daemon = Daemon(configuration: configuration, log: silent)
    try daemon.start()
    try world.cluster.produce(periods, [("1", nil, 0)])
    daemon.refreshTables(isForced: true)
    try world.cluster.produce(
      periods,
      [
        ("1", #"{"period":"2024-01","start":"2024-01-01","end":"2024-01-31"}"#, 0),
        ("2", #"{"period":"2024-02","start":"2024-02-01","end":"2024-02-29"}"#, 0),
      ])
    daemon.refreshTables(isForced: true)
    #expect(
      try world.cluster.readAll(world.prefix + ".tables", partitions: 1).filter { $0.key?.hasSuffix("/1") == true }
        .count == 2)
    try world.send([("A", "OLD")], configuration)
    wait("the record") { daemon.status.decode.records >= 1 }
    daemon.stop.stop()
    #expect(daemon.waitUntilStopped() && daemon.status.restarts == 0)
  }
}
