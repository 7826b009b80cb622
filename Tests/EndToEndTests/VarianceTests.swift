import Configuration
import Foundation
import Kafka
import KafkaTesting
import Pipeline
import Testing

/// Actual against budget over the wire: the daemon adds up, `tieout flows` compares.
@Suite(.serialized) struct VarianceTests {
  final class World {
    let cluster: TestCluster
    let directory: String
    let prefix: String
    let partitions: Int
    private var number = 0

    init(_ kind: TestCluster.Kind? = nil, partitions: Int) throws {
      cluster = try TestCluster(kind)
      self.partitions = partitions
      directory = NSTemporaryDirectory() + "tieout-variance-\(UUID().uuidString)"
      prefix = cluster.unique("va")
      try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    }
    deinit { try? FileManager.default.removeItem(atPath: directory) }

    func budget(_ lines: [String]) throws {
      try (["period,currency,region,measure,amount,quantity"] + lines).joined(separator: "\n").write(
        toFile: directory + "/budget.csv", atomically: true, encoding: .utf8)
    }

    func configuration(budget: String = "budget: budget.csv", idle: String = "10m") throws -> Configuration {
      let yaml = """
        name: va
        prefix: \(prefix)
        workers: 2
        kafka: {bootstrap: "\(cluster.bootstrap)", group: \(prefix), consumer: {session.timeout.ms: 6000}}
        epoch: {interval: 20ms}
        dimensions: [region, channel]
        aggregates: {enabled: true, interval: 50ms, quantities: true}
        quality: {enabled: true, interval: 50ms}
        variance: {enabled: true, \(budget), by: [region], interval: 50ms, threshold: {absolute: 49, percent: 5}}
        matching: {window: 1d, grace: 1h, idle_timeout: \(idle), out_of_orderness: 0s}
        sources:
          orders:
            kind: orders
            fields: {order: o, event: {constant: invoiced}, event_time: t, event_id: o, currency: {constant: EUR}, net: a,
              gross: a, quantity: q}
            dimensions: {region: r, channel: c}
          ledger:
            kind: ledger
            fields: {order: o, role: role, currency: {constant: EUR}, event_time: t, line_id: l, quantity: q}
            amount: a
            dimensions: {region: r, channel: c}
        """
      return try Configuration.parse(yaml: yaml, file: "va.yaml", directory: directory)
    }

    func createTopics(_ configuration: Configuration) throws {
      for source in configuration.sources { try cluster.createTopic(source.topic, partitions: partitions) }
      for topic in configuration.ownTopics {
        try cluster.createTopic(topic.name, partitions: partitions, config: topic.config)
      }
    }

    /// A sale of so many units on both sides.
    func sell(
      _ region: String, _ amount: Int, quantity: Int, on day: String, _ configuration: Configuration,
      partition: Int32? = nil
    ) throws {
      number += 1
      let key = "S\(number)"
      let common = #""o":"\#(key)","t":"\#(day)T10:00:00Z","r":"\#(region)","c":"c\#(number % 2)""#
      try cluster.produce(
        configuration.sources[0].topic, [(key, #"{\#(common),"a":\#(amount),"q":\#(quantity)}"#, partition)])
      try cluster.produce(
        configuration.sources[1].topic,
        [
          (key, #"{\#(common),"l":"\#(key)-1","role":"receivable","a":\#(amount),"q":\#(quantity)}"#, partition),
          (key, #"{\#(common),"l":"\#(key)-2","role":"revenue","a":-\#(amount),"q":\#(quantity)}"#, partition),
        ])
    }

    func newest(_ configuration: Configuration) throws -> [String: [String: Any]] {
      var found: [String: [String: Any]] = [:]
      for record in try cluster.readAll(configuration.varianceTopic, partitions: partitions) {
        let message = try JSONSerialization.jsonObject(with: Data(record.value!.utf8)) as! [String: Any]
        let revision = message["revision"] as! Int
        #expect(revision > found[record.key!]?["revision"] as? Int ?? 0, "\(record.key!)")
        found[record.key!] = message
      }
      return found
    }

    /// Reads the topics to their end, tells the variances, and ends.
    func runOnce(_ configuration: Configuration) throws -> VarianceJob.Status {
      let job = try VarianceJob.prepared(configuration, endsAtEnd: true, stop: StopFlag(), log: silent)
      job.run()
      if let failure = job.failure { throw failure }
      return job.status
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

  func brief(_ message: [String: Any]?) -> String {
    func text(_ name: String) -> String { message?[name].map { $0 is NSNull ? "null" : "\($0)" } ?? "none" }
    return ["actual", "budget", "variance", "percent", "volume", "price", "actual_quantity", "quantity_variance"]
      .map(text).joined(separator: " ") + ((message?["favourable"] as? Bool).map { $0 ? " good" : " bad" } ?? "")
      + (message?["flagged"] as? Bool == true ? " flagged" : "")
  }

  @Test(arguments: TestCluster.kinds) func theDaemonAddsUpAndTheBudgetIsFollowed(kind: TestCluster.Kind) throws {
    let world = try World(kind, partitions: 3)
    try world.budget(["2026-01,EUR,north,,1000,100", "2026-01,EUR,south,billings,300,", "2026-02,EUR,north,,10,1"])
    let configuration = try world.configuration()
    try world.createTopics(configuration)
    for (region, amount, quantity) in [("north", 500, 60), ("north", 545, 50), ("south", 250, 5), ("west", 7, 1)] {
      try world.sell(region, amount, quantity: quantity, on: "2026-01-15", configuration)
    }
    func run(records: Int, _ body: (Daemon) throws -> Void) throws {
      let daemon = Daemon(configuration: configuration, log: silent)
      try daemon.start()
      wait("the records") { daemon.status.decode.records >= records }
      try body(daemon)
      daemon.stop.stop()
      #expect(daemon.waitUntilStopped() && daemon.status.restarts == 0)
    }
    let job = try VarianceJob.prepared(configuration, stop: StopFlag(), log: silent)
    let ended = DispatchSemaphore(value: 0)
    Thread.detachNewThread {
      job.run()
      ended.signal()
    }
    let (north, south, west) = (
      "north|EUR|transaction|202601|recognised_revenue", "south|EUR|transaction|202601|billings",
      "west|EUR|transaction|202601|recognised_revenue"
    )
    let first = "1045.00 1000.00 45.00 0.045000 100.00 -55.00 110.000000 10.000000 good"
    try run(records: 12) { _ in
      try wait("the variances") { try brief(world.newest(configuration)[north]) == first }
      let found = try world.newest(configuration)
      // 110 units at 9.50 instead of 100 at 10.00: 45 more, below the absolute threshold. Nothing of 2026-02 yet.
      #expect(brief(found[south]) == "250.00 300.00 -50.00 -0.166667 null null 5.000000 null bad flagged")
      #expect(brief(found[west]) == "7.00 0.00 7.00 null null null 1.000000 null good")
      #expect(
        brief(found["north|EUR|transaction|202602|recognised_revenue"])
          == "0.00 10.00 -10.00 -1.000000 -10.00 0.00 0.000000 -1.000000 bad")
      #expect(found[north]?["status"] as? String == "provisional")
      #expect((found[north]?["dimensions"] as? [String: String]) == ["region": "north"])
      // Another budget: what it changes is revised, what it drops is compared with nothing.
      try world.budget(["2026-01,EUR,north,,900,100", "2026-02,EUR,north,,10,1"])
      try wait("the other budget") {
        try (world.newest(configuration)[north]?["budget"] as? String) == "900.00"
      }
      let revised = try world.newest(configuration)
      #expect(brief(revised[north]) == "1045.00 900.00 145.00 0.161111 90.00 55.00 110.000000 10.000000 good flagged")
      #expect(brief(revised[south]) == "250.00 0.00 250.00 null null null 5.000000 null good flagged")
      #expect(revised[west]?["revision"] as? Int == found[west]?["revision"] as? Int)
      // One that makes no sense changes nothing.
      try world.budget(["2026-01,EUR,north,,900.001,100"])
      Thread.sleep(forTimeInterval: 0.5)
      #expect(job.status.budgets == 1)
      try world.budget(["2026-01,EUR,north,,900,100", "2026-02,EUR,north,,10,1"])
    }
    job.stop.stop()
    #expect(ended.wait(timeout: .now() + 30) == .success && job.failure == nil)
    // A restart tells nothing.
    let again = try world.runOnce(configuration)
    #expect(again.messages == 0 && again.lines == 7)

    // Late data revises a period; records of a later one in every partition make it final.
    for partition in 0..<3 as Range<Int32> {
      try world.sell("west", 100, quantity: 10, on: "2026-03-20", configuration, partition: partition)
    }
    try world.sell("north", 100, quantity: 10, on: "2026-01-31", configuration)
    try run(records: 12) { _ in
      try wait("the late sale") {
        _ = try world.runOnce(configuration)
        let found = try world.newest(configuration)[north]
        return found?["actual"] as? String == "1145.00" && found?["status"] as? String == "final"
      }
    }
    let last = try world.newest(configuration)
    #expect(brief(last[north]) == "1145.00 900.00 245.00 0.272222 180.00 65.00 120.000000 20.000000 good flagged")
    // Files of the same records give the same figures.
    try compareWithFiles(world, configuration, last)
  }

  /// A budget in a compacted topic: read before anything is told, followed, with lines that go and lines that are none.
  @Test(arguments: TestCluster.kinds) func aBudgetMayBeATopic(kind: TestCluster.Kind) throws {
    let world = try World(kind, partitions: 2)
    let topic = world.prefix + ".budget"
    let configuration = try world.configuration(budget: "topic: \(topic)")
    try world.createTopics(configuration)
    #expect(throws: TopicCheckError.self) {
      try VarianceJob.prepared(configuration, stop: StopFlag(), log: silent)
    }
    try world.cluster.createTopic(topic, partitions: 2, config: ["cleanup.policy": "compact"])
    func plan(_ key: String, _ region: String?, _ amount: String = "", partition: Int32 = 0) throws {
      let json = region.map {
        #"{"period":"2026-01","currency":"EUR","region":"\#($0)","amount":\#(amount),"quantity":100}"#
      }
      try world.cluster.produce(topic, [(key, json, partition)])
    }
    try plan("a", "north", "1")
    try plan("a", "north", "1000")
    try plan("b", "south", "30", partition: 1)
    try plan("c", "west", "1.001", partition: 1)
    try world.sell("north", 545, quantity: 50, on: "2026-01-15", configuration)
    let daemon = Daemon(configuration: configuration, log: silent)
    try daemon.start()
    wait("the records") { daemon.status.decode.records >= 3 }
    let job = try VarianceJob.prepared(configuration, stop: StopFlag(), log: silent)
    let ended = DispatchSemaphore(value: 0)
    Thread.detachNewThread {
      job.run()
      ended.signal()
    }
    func key(_ region: String) -> String { "\(region)|EUR|transaction|202601|recognised_revenue" }
    func told(_ region: String) throws -> String { brief(try world.newest(configuration)[key(region)]) }
    let south = "0.00 30.00 -30.00 -1.000000 -30.00 0.00 0.000000 -100.000000 bad"
    try wait("the variances") {
      try told("north") == "545.00 1000.00 -455.00 -0.455000 -500.00 45.00 50.000000 -50.000000 bad flagged"
        && told("south") == south
    }
    // A line that makes no sense is none.
    #expect(try world.newest(configuration).count == 2 && job.status.budgets == 0)
    // Of two keys that say the same line the last counts; one whose record goes is compared with nothing.
    try plan("z", "north", "500", partition: 1)
    try plan("b", nil, partition: 1)
    try wait("the other budget") {
      try told("north") == "545.00 500.00 45.00 0.090000 -250.00 295.00 50.000000 -50.000000 good"
        && told("south") == "0.00 0.00 0.00 null null null 0.000000 null"
    }
    #expect((1...2).contains(job.status.budgets))
    job.stop.stop()
    #expect(ended.wait(timeout: .now() + 30) == .success && job.failure == nil)
    // A restart tells nothing; what changed in between is told.
    #expect(try world.runOnce(configuration).messages == 0)
    try plan("z", nil, partition: 1)
    #expect(try world.runOnce(configuration).messages == 1)
    #expect(try told("north") == "545.00 1000.00 -455.00 -0.455000 -500.00 45.00 50.000000 -50.000000 bad flagged")
    daemon.stop.stop()
    #expect(daemon.waitUntilStopped() && daemon.status.restarts == 0)
    // What makes no line is a dead letter with its place, and once, over all these starts; so is one that came between them.
    try plan("d", "east", "\"much\"", partition: 0)
    for _ in 0..<2 { _ = try world.runOnce(configuration) }
    let letters = try world.cluster.readAll(configuration.deadLettersTopic, partitions: 2).map {
      try JSONSerialization.jsonObject(with: Data($0.value!.utf8)) as! [String: Any]
    }
    let places = letters.map {
      "\($0["source"]!) \($0["topic"]!) \($0["partition"]!) \($0["offset"]!) \($0["reason"]!) \($0["key"]!)"
    }
    let offsets = try world.cluster.readAll(topic, partitions: 2).filter { $0.key == "c" || $0.key == "d" }
    #expect(
      places.sorted()
        == offsets.map { "(budget) \(topic) \($0.partition) \($0.offset) SCHEMA_INVALID \($0.key!)" }.sorted())
    #expect(letters.count == 2)
    #expect(throws: FileRunError.self) {
      try FileReconciler(
        configuration: configuration,
        options: FileRunOptions(
          orders: [], ledger: [], directory: world.directory + "/out", threads: 1, now_ms: wallClock_ms()))
    }
  }

  /// A figure is final when every task has passed its period: one whose sources hold nothing yet may get records of it, until
  /// they are idle.
  @Test func nothingIsFinalBeforeEveryTaskHasSpoken() throws {
    func run(idle: String, _ body: (World, Configuration) throws -> Void) throws {
      let world = try World(partitions: 3)
      try world.budget(["2026-01,EUR,north,,1000,100"])
      let configuration = try world.configuration(idle: idle)
      try world.createTopics(configuration)
      let daemon = Daemon(configuration: configuration, log: silent)
      try daemon.start()
      for day in ["2026-01-15", "2026-03-20"] {
        try world.sell("north", 500, quantity: 1, on: day, configuration, partition: 1)
      }
      try body(world, configuration)
      daemon.stop.stop()
      #expect(daemon.waitUntilStopped() && daemon.status.restarts == 0)
    }
    func states(_ world: World, _ configuration: Configuration) throws -> Set<String> {
      _ = try world.runOnce(configuration)
      let variance = try world.newest(configuration)["north|EUR|transaction|202601|recognised_revenue"]
      guard var found = (variance?["status"] as? String).map({ ["variance \($0)"] }) else { return [] }
      for (name, topic) in [("revenue", configuration.revenueTopic), ("quality", configuration.qualityTopic)] {
        var newest: [String: (revision: Int, status: String)] = [:]
        for record in try world.cluster.readAll(topic, partitions: 3) {
          let message = try JSONSerialization.jsonObject(with: Data(record.value!.utf8)) as! [String: Any]
          guard message["period"] as? String == "202601" else { continue }
          let revision = message["revision"] as! Int
          if revision >= newest[record.key!]?.revision ?? 0 {
            newest[record.key!] = (revision, message["status"] as! String)
          }
        }
        guard !newest.isEmpty else { return [] }
        found += newest.values.map { "\(name) \($0.status)" }
      }
      return Set(found)
    }
    try run(idle: "10m") { world, configuration in
      let provisional: Set = ["variance provisional", "revenue provisional", "quality provisional"]
      try wait("the figures") { try states(world, configuration) == provisional }
      // The task that has records has passed the month by far; what it has told since must change nothing.
      Thread.sleep(forTimeInterval: 1.5)
      #expect(try states(world, configuration) == provisional)
    }
    // Partitions that stay empty block nothing for ever.
    try run(idle: "1s") { world, configuration in
      let final: Set = ["variance final", "revenue final", "quality final"]
      try wait("the end of the month") { try states(world, configuration) == final }
    }
  }

  func compareWithFiles(_ world: World, _ configuration: Configuration, _ last: [String: [String: Any]]) throws {
    for source in configuration.sources {
      let lines = try world.cluster.readAll(source.topic, partitions: world.partitions).map { $0.value! }
      try lines.joined(separator: "\n").write(
        toFile: world.directory + "/\(source.name).jsonl", atomically: true, encoding: .utf8)
    }
    let out = world.directory + "/out"
    _ = try FileReconciler(
      configuration: world.configuration(),
      options: FileRunOptions(
        orders: [world.directory + "/orders.jsonl"], ledger: [world.directory + "/ledger.jsonl"], directory: out,
        threads: 2, now_ms: wallClock_ms())
    ).run()
    var compared = 0
    for line in try String(contentsOfFile: out + "/variance.jsonl", encoding: .utf8).split(separator: "\n") {
      let message = try JSONSerialization.jsonObject(with: Data(line.utf8)) as! [String: Any]
      let key =
        "\((message["dimensions"] as! [String: String])["region"]!)|EUR|transaction|\(message["period"]!)|\(message["measure"]!)"
      #expect(brief(message) == brief(last[key]), "\(key)")
      compared += 1
    }
    #expect(compared >= 4)
  }
}
