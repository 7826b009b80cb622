import Configuration
import Domain
import Foundation
import Kafka
import KafkaTesting
import Pipeline
import Testing

/// `tieout flows` follows tables and the calendar while it runs, as the daemon does.
@Suite(.serialized) final class FlowTableTests {
  let cluster: TestCluster
  let directory: String
  let prefix: String

  init() throws {
    cluster = try TestCluster()
    directory = NSTemporaryDirectory() + "tieout-flow-tables-\(UUID().uuidString)"
    prefix = cluster.unique("ft")
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: directory) }

  func configuration(tables: String, more: String) throws -> Configuration {
    let yaml = """
      name: ft
      prefix: \(prefix)
      kafka: {bootstrap: "\(cluster.bootstrap)", group: \(prefix), consumer: {session.timeout.ms: 6000}}
      master_data: {enabled: true, interval: 100ms}
      epoch: {interval: 20ms}
      dimensions: [region]
      matching: {window: 1d, grace: 1h, idle_timeout: 1s, out_of_orderness: 0s}
      \(tables)
      \(more)
      sources:
        orders:
          kind: orders
          fields: {order: o, event: {constant: invoiced}, event_time: t, event_id: o, document: o, customer: \(customer),
            currency: {constant: EUR}, net: a, gross: a}
          dimensions: {region: r}
        ledger:
          kind: ledger
          fields: {order: o, role: role, document: o, currency: {constant: EUR}, event_time: t, posting_date: d, line_id: l,
            customer: \(customer)}
          amount: a
          dimensions: {region: r}
      """
    return try Configuration.parse(yaml: yaml, file: "ft.yaml", directory: directory)
  }
  var customer: String { "{path: c, table: customers}" }

  func write(_ file: String, _ lines: [String]) throws {
    try lines.joined(separator: "\n").write(toFile: directory + "/" + file, atomically: true, encoding: .utf8)
  }

  func createTopics(_ configuration: Configuration) throws {
    for source in configuration.sources { try cluster.createTopic(source.topic, partitions: 1) }
    for topic in configuration.ownTopics { try cluster.createTopic(topic.name, partitions: 1, config: topic.config) }
  }

  func sell(_ key: String, customer: String, _ amount: Int, _ configuration: Configuration) throws {
    let common = #""o":"\#(key)","t":"2026-01-15T10:00:00Z","d":"2026-01-15","r":"north","c":"\#(customer)""#
    try cluster.produce(configuration.sources[0].topic, [(key, #"{\#(common),"a":\#(amount)}"#, 0)])
    try cluster.produce(
      configuration.sources[1].topic,
      [("receivable", amount), ("revenue", -amount)].map {
        (key, #"{\#(common),"l":"\#(key)-\#($0.0)","role":"\#($0.0)","a":\#($0.1)}"#, 0)
      })
  }

  /// The newest messages of a topic, by key.
  func newest(_ topic: String) throws -> [String: [String: Any]] {
    var found: [String: [String: Any]] = [:]
    for record in try cluster.readAll(topic, partitions: 1) {
      let message = try JSONSerialization.jsonObject(with: Data(record.value!.utf8)) as! [String: Any]
      #expect(message["revision"] as! Int > found[record.key!]?["revision"] as? Int ?? 0, "\(record.key!)")
      found[record.key!] = message
    }
    return found
  }

  func wait(_ what: String, _ isDone: () throws -> Bool) rethrows {
    let until = Date().addingTimeInterval(60)
    while Date() < until {
      if try isDone() { return }
      Thread.sleep(forTimeInterval: 0.05)
    }
    Issue.record("\(what): not within a minute")
  }

  func run(_ stage: TellingStage, _ body: () throws -> Void) throws {
    let ended = DispatchSemaphore(value: 0)
    Thread.detachNewThread {
      stage.run()
      ended.signal()
    }
    defer { stage.stop.stop() }
    try body()
    stage.stop.stop()
    #expect(ended.wait(timeout: .now() + 30) == .success && stage.failure == nil)
  }

  @Test(arguments: [true, false]) func flowsFollowTables(isTopic: Bool) throws {
    let topic = prefix + ".customers"
    func say(_ group: String) throws {
      if isTopic {
        try cluster.produce(topic, [("A1", #"{"group":"\#(group)"}"#, 0)])
      } else {
        try write("customers.csv", ["number,group", "A1,\(group)"])
      }
    }
    if isTopic { try cluster.createTopic(topic, partitions: 1, config: ["cleanup.policy": "compact"]) }
    try say("G1")
    let configuration = try configuration(
      tables: isTopic
        ? "tables: {customers: {topic: \(topic), value: group}}" : "tables: {customers: {file: customers.csv}}",
      more: "flows: {enabled: true, by: [customer], interval: 50ms, terms: NET30}")
    try createTopics(configuration)
    try sell("S1", customer: "A1", 100, configuration)
    func open() throws -> [String: String] {
      var found: [String: String] = [:]
      for message in try newest(configuration.receivablesTopic).values {
        let customer = (message["dimensions"] as? [String: String])?["customer"] ?? ""
        if !customer.isEmpty { found[customer] = message["open"] as? String }
      }
      return found
    }
    let job = try FlowsJob.prepared(configuration, options: .init(), stop: StopFlag(), log: silent)
    try run(job) {
      try wait("the first figures") { try open() == ["G1": "100.00"] }
      try say("G2")
      // What was told of the one before is told as nothing, and new records come by the new table.
      try wait("the other customer") { try open() == ["G1": "0.00", "G2": "100.00"] }
      try sell("S2", customer: "A1", 50, configuration)
      try wait("the next sale") { try open() == ["G1": "0.00", "G2": "150.00"] }
      // A table that makes no sense changes nothing.
      if !isTopic {
        try write("customers.csv", ["number"])
        Thread.sleep(forTimeInterval: 0.5)
        #expect(try open() == ["G1": "0.00", "G2": "150.00"])
        try say("G2")
      }
    }
  }

  /// A holiday that is entered while the job runs moves the due date, and with it the age.
  @Test func flowsFollowHolidays() throws {
    try write("customers.csv", ["number,group", "A1,G1"])
    try write("calendar.csv", ["period,start,end", "holiday,2026-02-01,2026-02-01"])
    let configuration = try configuration(
      tables: "tables: {customers: {file: customers.csv}}",
      more: """
        flows: {enabled: true, by: [], interval: 50ms, terms: NET30}
        calendar: {file: calendar.csv, roll: following}
        """)
    try createTopics(configuration)
    try sell("S1", customer: "A1", 100, configuration)
    func ageing() throws -> [String: String] {
      let message = try newest(configuration.receivablesTopic)["EUR|transaction"]
      return (message?["ageing"] as? [String: String] ?? [:]).filter { $0.value != "0.00" }
    }
    let job = try FlowsJob.prepared(configuration, options: .init(), stop: StopFlag(), log: silent)
    try run(job) {
      // Due on the 14th of February 2026.
      try wait("the first figures") { try ageing().values.contains("100.00") }
      let old = try ageing()
      let today = day(ofMilliseconds: wallClock_ms())
      try write("calendar.csv", ["period,start,end", "holiday,2026-02-10,\(formatDate(today - 11))"])
      try wait("the age by the next business day") { try ageing() == ["days_1_30": "100.00"] }
      #expect(old != ["days_1_30": "100.00"])
    }
  }

  /// A period that gets its end while the job runs becomes final.
  @Test func varianceFollowsACalendarOfATopic() throws {
    let topic = prefix + ".calendar"
    try cluster.createTopic(topic, partitions: 1, config: ["cleanup.policy": "compact"])
    func period(_ name: String, _ first: String, _ last: String) throws {
      try cluster.produce(topic, [(name, #"{"period":"\#(name)","start":"\#(first)","end":"\#(last)"}"#, 0)])
    }
    try period("2026-01", "2026-01-01", "2026-01-10")
    try write("customers.csv", ["number,group", "A1,G1"])
    try write("budget.csv", ["period,currency,measure,amount", "2026-02,EUR,recognised_revenue,10"])
    let configuration = try configuration(
      tables: "tables: {customers: {file: customers.csv}}\ncalendar: {topic: \(topic)}",
      more: "aggregates: {enabled: true, interval: 50ms}\n"
        + "variance: {enabled: true, budget: budget.csv, interval: 50ms}")
    try createTopics(configuration)
    let daemon = Daemon(configuration: configuration, log: silent)
    try daemon.start()
    try sell("S1", customer: "A1", 100, configuration)
    func status() throws -> String? {
      try newest(configuration.varianceTopic)["EUR|transaction|202602|recognised_revenue"]?["status"] as? String
    }
    let job = try VarianceJob.prepared(configuration, stop: StopFlag(), log: silent)
    try run(job) {
      try wait("the figures") { try status() == "provisional" }
      try period("2026-02", "2026-01-11", "2026-02-20")
      try wait("the end of the period") { try status() == "final" }
    }
    daemon.stop.stop()
    #expect(daemon.waitUntilStopped() && daemon.status.restarts == 0)
  }
}
