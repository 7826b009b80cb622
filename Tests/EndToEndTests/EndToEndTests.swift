import Aggregates
import Configuration
import Foundation
import Kafka
import KafkaTesting
import Logging
import Pipeline
import Simulation
import Testing

/// Where the data that nobody here wrote lies, if it is there.
let sharedData: String? = {
  let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()
  let path = root.deletingLastPathComponent().appendingPathComponent("shared/data").path
  return FileManager.default.fileExists(atPath: path) ? path : nil
}()

let exampleConfigurations = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .deletingLastPathComponent().appendingPathComponent("config/examples").path

@Suite(.serialized) struct EndToEndTests {
  /// An example configuration on a test cluster, with topics of its own.
  func prepare(
    _ example: String, _ cluster: TestCluster, partitions: Int, workers: Int, aggregates: AggregateSettings? = nil,
    quality: QualitySettings? = nil, flows: FlowSettings? = nil
  ) throws -> Configuration {
    var configuration = try Configuration.load(path: exampleConfigurations + "/" + example)
    configuration.kafka.bootstrap = cluster.bootstrap
    configuration.kafka.group = cluster.unique("group")
    configuration.kafka.consumer.append(("session.timeout.ms", .plain("6000")))
    configuration.workers = workers
    configuration.policy.idleTimeout_ms = 3_000
    for index in configuration.sources.indices {
      configuration.sources[index].topic = cluster.unique(configuration.sources[index].name)
      try cluster.createTopic(configuration.sources[index].topic, partitions: partitions)
    }
    configuration.breaksTopic = cluster.unique("breaks")
    configuration.deadLettersTopic = cluster.unique("dead")
    configuration.epochsTopic = cluster.unique("epochs")
    configuration.checkpointsTopic = cluster.unique("checkpoints")
    configuration.partialsTopic = cluster.unique("partials")
    configuration.totalsTopic = cluster.unique("totals")
    configuration.revenueTopic = cluster.unique("revenue")
    configuration.qualityTopic = cluster.unique("quality")
    configuration.cashflowTopic = cluster.unique("cashflow")
    configuration.receivablesTopic = cluster.unique("receivables")
    configuration.varianceTopic = cluster.unique("variance")
    configuration.periodsTopic = cluster.unique("periods")
    configuration.tablesTopic = cluster.unique("tables")
    configuration.redrivenTopic = cluster.unique("redriven")
    configuration.actionsTopic = cluster.unique("actions")
    configuration.proposalsTopic = cluster.unique("proposals")
    configuration.aggregates = aggregates
    configuration.quality = quality
    configuration.flows = configuration.flows ?? flows
    for topic in configuration.ownTopics {
      try cluster.createTopic(topic.name, partitions: partitions, config: topic.config)
    }
    return configuration
  }

  /// Runs daemons until as many records are taken in and every tie is closed, then stops them; the newest breaks.
  func reconcile(
    _ configuration: Configuration, records: Int, processes: Int = 1, timeout_s: Int = 120
  ) throws -> [String: BreakMessage] {
    let log = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    let daemons = (0..<processes).map { _ in Daemon(configuration: configuration, log: log) }
    for daemon in daemons { try daemon.start() }
    let until = Date().addingTimeInterval(TimeInterval(timeout_s))
    let partitions = try Admin(properties: [KafkaProperty("bootstrap.servers", configuration.kafka.bootstrap)])
      .topics()[configuration.breaksTopic]!
    // Every partition has an owner that has read it to its end and closed its ties, for a while without a change: on a
    // real cluster the second stage has transactions to wait for.
    let quiet_s: TimeInterval = ProcessInfo.processInfo.environment["TIEOUT_TEST_BOOTSTRAP"] == nil ? 1.5 : 4
    var since: Date?
    var isDone = false
    while !isDone, Date() < until {
      Thread.sleep(forTimeInterval: 0.05)
      let statuses = daemons.map(\.status)
      func sum(_ value: (WorkerStatus) -> Int) -> Int { statuses.reduce(0) { $0 + value($1) } }
      let isQuiet =
        sum(\.decode.records) >= records && sum(\.partitionsAtEnd) == partitions && sum(\.match.tiesOpened) > 0
        && sum(\.match.tiesOpened) == sum(\.match.tiesClosed)
      since = isQuiet ? since ?? Date() : nil
      isDone = since.map { Date().timeIntervalSince($0) > quiet_s } ?? false
    }
    #expect(isDone, "the records were not all taken in and closed within \(timeout_s) s")
    for daemon in daemons { daemon.stop.stop() }
    for daemon in daemons { #expect(daemon.waitUntilStopped()) }
    for daemon in daemons {
      #expect(daemon.status.restarts == 0)
      for line in daemon.status.totals.lines { #expect(line.pending == 0, "control totals: \(line)") }
    }
    let reader = try BreakReader(
      properties: [KafkaProperty("bootstrap.servers", configuration.kafka.bootstrap)], topic: configuration.breaksTopic)
    let end = Date().addingTimeInterval(60)
    while !reader.isAtEnd, Date() < end { try reader.poll(timeout_ms: 50) }
    #expect(reader.isAtEnd, "the breaks were not read to their end")
    reader.close()
    return reader.breaks.filter(\.value.isReported)
  }

  struct FileBreaks { var byID: [String: BreakMessage] }

  /// The same inputs through the files' runner.
  func fromFiles(_ example: String, orders: String, ledger: String) throws -> [String: BreakMessage] {
    let out = FileManager.default.temporaryDirectory.appendingPathComponent("tieout-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: out) }
    let configuration = try Configuration.load(path: exampleConfigurations + "/" + example)
    _ = try FileReconciler(
      configuration: configuration,
      options: FileRunOptions(
        orders: [orders], ledger: [ledger], directory: out, threads: 2, now_ms: wallClock_ms())
    ).run()
    var breaks: [String: BreakMessage] = [:]
    for line in try String(contentsOfFile: out + "/breaks.jsonl", encoding: .utf8).split(separator: "\n") {
      let made = try JSONDecoder().decode(BreakMessage.self, from: Data(line.utf8))
      breaks[made.id] = made
    }
    return breaks
  }

  /// Retention takes records before they are read: that is said, and what is left is read.
  @Test(arguments: TestCluster.kinds) func recordsThatAreGoneAreSaid(kind: TestCluster.Kind) throws {
    let cluster = try TestCluster(kind)
    var configuration = try prepare("flat.yaml", cluster, partitions: 1, workers: 1)
    let directory = FileManager.default.temporaryDirectory.appendingPathComponent("tieout-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: directory) }
    configuration.checkpoints = .directory(directory)
    configuration.checkpointInterval_ms = 200
    let (sent, truth) = try load(configuration, cluster, orders: 200)
    #expect(try reconcile(configuration, records: sent).count == truth.count)
    let place = TopicPartition(configuration.sources[0].topic, 0)
    let reader = try PartitionReader(
      properties: cluster.properties + [KafkaProperty("group.id", configuration.kafka.group)])
    defer { reader.close() }
    let next = try reader.committed([place])[place]!.offset
    if cluster.knowsTransactions {
      try cluster.produce(place.topic, (0..<15).map { ("none\($0)", "no order", 0) })
      try Admin(properties: cluster.properties).deleteRecords(place, before: next + 7)
    } else {
      // More than the broker keeps, also when it is compressed.
      var random = SeededRandom(seed: 1)
      let large = String((0..<60_000).flatMap { _ in String(random.next(), radix: 36) })
      try cluster.produce(place.topic, (0..<15).map { ("large\($0)", large, 0) })
    }
    let bounds = try reader.bounds(place, timeout_ms: 10_000)
    #expect(bounds.low > next)

    let daemon = Daemon(configuration: configuration, log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    try daemon.start()
    let until = Date().addingTimeInterval(60)
    let left = Int(bounds.stable - bounds.low)
    while daemon.status.deadLetters < left || daemon.status.partitionsAtEnd < 1, Date() < until {
      Thread.sleep(forTimeInterval: 0.05)
    }
    daemon.stop.stop()
    #expect(daemon.waitUntilStopped())
    #expect(daemon.status.trimmedRecords == bounds.low - next)
    #expect(daemon.status.deadLetters == left)
    #expect(daemon.status.restarts == 0)
    #expect(try reader.committed([place])[place]!.offset == bounds.stable)
  }

  /// Records of an order would come to a task that does not know it: nothing goes on, and the log says why.
  @Test func partitionsAreNotAddedToSources() throws {
    let cluster = try TestCluster()
    var configuration = try prepare("flat.yaml", cluster, partitions: 1, workers: 1)
    configuration.kafka.consumer.append(("topic.metadata.refresh.interval.ms", .plain("500")))
    let (sent, _) = try load(configuration, cluster, orders: 20)
    let lines = LogLines()
    let daemon = Daemon(configuration: configuration, log: Logger(label: "test") { _ in lines })
    try daemon.start()
    MasterDataTests().wait("the records") { daemon.status.decode.records >= sent }
    for source in configuration.sources { try cluster.addPartitions(source.topic, upTo: 2) }
    MasterDataTests().wait("the refusal") { daemon.status.restarts > 0 }
    daemon.stop.stop()
    #expect(daemon.waitUntilStopped())
    #expect(
      lines.all.contains {
        $0.contains("[1] was added: the sources had 1 partitions when this process started")
          && $0.contains("operations.md")
      }, "\(lines.all)")
    // Nor does it start.
    #expect(throws: TopicCheckError.self) { try Daemon(configuration: configuration, log: silent).start() }
  }

  func same(_ a: [String: BreakMessage], _ b: [String: BreakMessage]) -> Bool {
    func plain(_ breaks: [String: BreakMessage]) -> [String: BreakMessage] {
      breaks.mapValues {
        var copy = $0
        copy.revision = 0
        // By age: a daemon's clock goes on when nothing comes, a file's ends with its latest event.
        copy.severity = ""
        return copy
      }
    }
    return plain(a) == plain(b)
  }

  @Test(arguments: [(1, 1), (2, 2), (4, 4)])
  func realOrdersGiveTheSameBreaksAsFiles(partitions: Int, workers: Int) throws {
    guard let data = sharedData else {
      print("skipped: there is no ../shared/data")
      return
    }
    let (orders, ledger) = (data + "/northwind/orders.jsonl", data + "/northwind/ledger.jsonl")
    let cluster = try TestCluster()
    let configuration = try prepare("northwind.yaml", cluster, partitions: partitions, workers: workers)
    let sent = try FilePlayer(configuration).play(orders: [orders], ledger: [ledger])
    let lines = try [orders, ledger].map {
      try String(contentsOfFile: $0, encoding: .utf8).split(separator: "\n").count
    }
    #expect(sent == lines.reduce(0, +))
    let breaks = try reconcile(configuration, records: sent)
    let expected = try fromFiles("northwind.yaml", orders: orders, ledger: ledger)
    let truth = try String(contentsOfFile: data + "/northwind/truth.csv", encoding: .utf8).split(separator: "\n")
      .dropFirst()
    #expect(breaks.count == truth.count)
    #expect(same(breaks, expected))
  }

  /// The revenue topic holds, cell by cell, what a run over the same files writes, over any partitioning and a restart.
  @Test(arguments: [1, 3]) func revenueIsThatOfFiles(partitions: Int) throws {
    guard let data = sharedData else {
      print("skipped: there is no ../shared/data")
      return
    }
    let (orders, ledger) = (data + "/northwind/orders.jsonl", data + "/northwind/ledger.jsonl")
    let cluster = try TestCluster()
    var settings = AggregateSettings()
    settings.interval_ms = 100
    let configuration = try prepare(
      "northwind.yaml", cluster, partitions: partitions, workers: 2, aggregates: settings)
    let sent = try FilePlayer(configuration).play(orders: [orders], ledger: [ledger])

    let out = FileManager.default.temporaryDirectory.appendingPathComponent("tieout-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: out) }
    var files = try Configuration.load(path: exampleConfigurations + "/northwind.yaml")
    files.aggregates = settings
    _ = try FileReconciler(
      configuration: files,
      options: FileRunOptions(orders: [orders], ledger: [ledger], directory: out, threads: 2, now_ms: wallClock_ms())
    ).run()
    /// The figures of a message, without what it says of itself; and the cell that it is about.
    func figures(_ text: some StringProtocol) throws -> (cell: String, figures: String, revision: Int, isZero: Bool) {
      var message = try JSONSerialization.jsonObject(with: Data(text.utf8)) as! [String: Any]
      let dimensions = (message["dimensions"] as! [String: String]).sorted { $0.key < $1.key }.map(\.value)
      let cell = "\(dimensions) \(message["currency"]!) \(message["period"]!)"
      let revision = message["revision"] as! Int
      for key in ["status", "revision", "as_of", "watermarks"] { message[key] = nil }
      let data = try JSONSerialization.data(withJSONObject: message, options: .sortedKeys)
      for key in ["dimensions", "currency", "period"] { message[key] = nil }
      return (cell, String(decoding: data, as: UTF8.self), revision, isZero(message))
    }
    // Balances that are carried from one period to the next are no figures of its own.
    func isZero(_ value: Any) -> Bool {
      switch value {
      case let values as [String: Any]:
        values.allSatisfy { ["opening", "closing", "complete"].contains($0.key) || isZero($0.value) }
      case let number as NSNumber: number.doubleValue == 0
      case let text as String: (Double(text) ?? 0) == 0
      default: true
      }
    }
    var expected: [String: String] = [:]
    for line in try String(contentsOfFile: out + "/revenue.jsonl", encoding: .utf8).split(separator: "\n") {
      let (cell, figures, _, _) = try figures(line)
      expected[cell] = figures
    }
    #expect(expected.count > 500)
    var found: [String: String] = [:]
    // From where postings have been moved when their order came: cells that are told once more, with nothing in them, of which
    // a run over files says nothing.
    var emptied: Set<String> = []
    // What the stage had not told before the daemon stopped, it tells after the next start.
    for attempt in 0..<4 where found.filter({ !emptied.contains($0.key) }) != expected {
      _ = try reconcile(configuration, records: attempt == 0 ? sent : 0)
      (found, emptied) = ([:], [])
      var revisions: [String: Int] = [:]
      for record in try cluster.readAll(configuration.revenueTopic, partitions: partitions) {
        let (cell, figures, revision, isZero) = try figures(record.value!)
        guard revision >= revisions[cell] ?? 0 else { continue }
        revisions[cell] = revision
        found[cell] = figures
        if isZero, expected[cell] == nil { emptied.insert(cell) } else { emptied.remove(cell) }
      }
    }
    for (cell, figures) in found where expected[cell] == nil && !emptied.contains(cell) {
      Issue.record("\(cell), of which files know nothing: \(figures)")
    }
    #expect(Set(expected.keys).isSubset(of: found.keys))
    for (cell, figures) in expected where found[cell] != figures { Issue.record("\(cell): \(figures)") }
  }

  @Test(arguments: TestCluster.kinds) func generatedLoadIsFoundExactly(kind: TestCluster.Kind) throws {
    let cluster = try TestCluster(kind)
    let configuration = try prepare("northwind.yaml", cluster, partitions: 3, workers: 2)
    var options = WorkloadOptions()
    options.shape = .northwind
    options.orders = 1_500
    options.faultsPer10000 = 600
    options.shuffle = 300
    options.redeliveriesPer10000 = 200
    var load = Workload(options)
    let producer = try Producer(properties: cluster.properties)
    var sent = 0
    while let record = load.next() {
      try producer.produce(
        topic: configuration.sources[record.isOrder ? 0 : 1].topic, key: record.key, value: record.value)
      sent += 1
    }
    try producer.flush(timeout_ms: 30_000)
    let breaks = try reconcile(configuration, records: sent)
    let found = breaks.values.map {
      TruthComparison.Found(
        order: $0.order, type: $0.type, hints: $0.hints, role: $0.role, expected: $0.expected, posted: $0.posted,
        isAccepted: $0.state == "accepted")
    }
    let comparison = TruthComparison(truth: load.truth, breaks: found)
    #expect(load.truth.count > 50)
    #expect(comparison.missed == [])
    #expect(comparison.wrong == [])
  }

  /// A restarted daemon goes on where it was, and reports nothing twice.
  @Test(arguments: TestCluster.kinds) func restartGivesTheSameBreaks(kind: TestCluster.Kind) throws {
    let cluster = try TestCluster(kind)
    let configuration = try prepare("flat.yaml", cluster, partitions: 2, workers: 2)
    var options = WorkloadOptions()
    options.orders = 600
    options.faultsPer10000 = 500
    options.shuffle = 100
    var load = Workload(options)
    let producer = try Producer(properties: cluster.properties)
    var sent = 0
    while let record = load.next() {
      try producer.produce(
        topic: configuration.sources[record.isOrder ? 0 : 1].topic, key: record.key, value: record.value)
      sent += 1
    }
    try producer.flush(timeout_ms: 30_000)
    let first = try reconcile(configuration, records: sent)
    let messages = try cluster.readAll(configuration.breaksTopic, partitions: 2)
    let second = try reconcile(configuration, records: 0)
    #expect(first.count == load.truth.count)
    #expect(same(first, second))
    // The state came back from the epochs: nothing was said again.
    let after = try cluster.readAll(configuration.breaksTopic, partitions: 2)
    if cluster.knowsTransactions {
      #expect(after == messages)
    } else {
      // At least once, the last epoch may be sent again: the same bytes.
      #expect(Set(after.map { "\($0.key!) \($0.value!)" }) == Set(messages.map { "\($0.key!) \($0.value!)" }))
    }
  }

  /// Two processes share the partitions; what they find together is what one finds.
  @Test(arguments: TestCluster.kinds) func twoProcessesShareTheWork(kind: TestCluster.Kind) throws {
    let cluster = try TestCluster(kind)
    let configuration = try prepare("flat.yaml", cluster, partitions: 4, workers: 1)
    var options = WorkloadOptions()
    options.orders = 1_000
    options.faultsPer10000 = 500
    options.shuffle = 100
    var load = Workload(options)
    let producer = try Producer(properties: cluster.properties)
    while let record = load.next() {
      try producer.produce(
        topic: configuration.sources[record.isOrder ? 0 : 1].topic, key: record.key, value: record.value)
    }
    try producer.flush(timeout_ms: 30_000)
    let breaks = try reconcile(configuration, records: 0, processes: 2)
    let comparison = TruthComparison(
      truth: load.truth,
      breaks: breaks.values.map {
        TruthComparison.Found(
          order: $0.order, type: $0.type, hints: $0.hints, role: $0.role, expected: $0.expected, posted: $0.posted,
          isAccepted: $0.state == "accepted")
      })
    #expect(comparison.isPerfect, "\(comparison.missed) \(comparison.wrong)")
  }

  @Test func garbageGoesToDeadLettersWithItsPlace() throws {
    let cluster = try TestCluster()
    let configuration = try prepare("flat.yaml", cluster, partitions: 1, workers: 1)
    let topic = configuration.sources[0].topic
    func order(_ key: String, time: String = "2026-01-01T00:00:00Z") -> String {
      #"{"order_id":"\#(key)","event_id":"e-\#(key)","event_type":"invoiced","event_time":"\#(time)","currency":"USD","gross":"1.00"}"#
    }
    try cluster.produce(
      topic,
      [
        ("a", order("A"), 0), ("bad", "{\"order_id\":", 0),
        ("nan", order("N").replacingOccurrences(of: "\"1.00\"", with: "NaN"), 0),
        ("empty", order(""), 0), ("tomb", nil, 0), ("future", order("F", time: "2999-01-01T00:00:00Z"), 0),
        ("b", order("B"), 0),
      ])
    let breaks = try reconcile(configuration, records: 7)
    #expect(breaks.keys.sorted() == ["A:MISSING_IN_LEDGER:receivable", "B:MISSING_IN_LEDGER:receivable"])
    let letters = try cluster.readAll(configuration.deadLettersTopic, partitions: 1)
    let parsed = try letters.map { try JSONSerialization.jsonObject(with: Data($0.value!.utf8)) as! [String: Any] }
    #expect(parsed.compactMap { $0["offset"] as? Int }.sorted() == [1, 2, 3, 5])
    #expect(Set(letters.map(\.key)) == ["bad", "nan", "empty", "future"])
    for letter in parsed {
      #expect(letter["topic"] as? String == topic)
      #expect(letter["partition"] as? Int == 0)
      #expect((letter["detail"] as? String)?.isEmpty == false)
    }
    #expect(parsed.first { $0["offset"] as? Int == 5 }?["reason"] as? String == "FUTURE_DATED")
  }

  @Test func topicsThatDoNotFitAreRefused() throws {
    let cluster = try TestCluster()
    var configuration = try prepare("flat.yaml", cluster, partitions: 2, workers: 1)
    let log = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    #expect(try TopicCheck(configuration).run(log: log).values.contains(2))
    let other = cluster.unique("other")
    try cluster.createTopic(other, partitions: 3)
    configuration.sources[1].topic = other
    let error = #expect(throws: TopicCheckError.self) { try TopicCheck(configuration).run(log: log) }
    #expect(error?.description.contains("co-partitioned") == true)
    configuration.sources[1].topic = cluster.unique("absent")
    #expect(throws: TopicCheckError.self) { try TopicCheck(configuration).run(log: log) }
  }

  func load(_ configuration: Configuration, _ cluster: TestCluster, orders: Int) throws -> (
    sent: Int, truth: [TruthRow]
  ) {
    var options = WorkloadOptions()
    options.orders = orders
    options.faultsPer10000 = 500
    options.shuffle = 100
    var load = Workload(options)
    let producer = try Producer(properties: cluster.properties)
    var sent = 0
    while let record = load.next() {
      let source = configuration.sources[record.isOrder ? 0 : 1]
      // What is to be routed comes under another key, over any number of partitions.
      try producer.produce(
        topic: source.originalTopic, key: source.isRouted ? Array("\(sent % 97)".utf8) : record.key,
        value: record.value)
      sent += 1
    }
    try producer.flush(timeout_ms: 30_000)
    return (sent, load.truth)
  }

  private func found(_ breaks: [String: BreakMessage]) -> [TruthComparison.Found] {
    breaks.values.map {
      TruthComparison.Found(
        order: $0.order, type: $0.type, hints: $0.hints, role: $0.role, expected: $0.expected, posted: $0.posted,
        isAccepted: $0.state == "accepted")
    }
  }

  /// A ledger keyed by something else, with another number of partitions, meets its orders all the same.
  @Test func sourcesAreRoutedByOrder() throws {
    let cluster = try TestCluster()
    var configuration = try prepare("flat.yaml", cluster, partitions: 3, workers: 2)
    let (raw, route) = (cluster.unique("raw"), cluster.unique("route"))
    try cluster.createTopic(raw, partitions: 2)
    try cluster.createTopic(route, partitions: 3)
    configuration.sources[1].routedFrom = raw
    configuration.sources[1].topic = route
    let (sent, truth) = try load(configuration, cluster, orders: 800)
    // A record that nobody can read is reported with the place where it was found.
    try cluster.produce(raw, [("bad", "{\"entry_id\":", 1)])
    // One that no longer fits into a message with its envelope is reported too, and does not stop the routing.
    try cluster.produce(raw, [("large", String(repeating: "x", count: 999_000), 1)])
    let breaks = try reconcile(configuration, records: sent + 2)
    let comparison = TruthComparison(truth: truth, breaks: found(breaks))
    #expect(comparison.isPerfect, "\(comparison.missed) \(comparison.wrong)")
    let letters = try cluster.readAll(configuration.deadLettersTopic, partitions: 3)
    #expect(Set(letters.map(\.key)) == ["bad", "large"])
    for letter in letters {
      let parsed = try JSONSerialization.jsonObject(with: Data((letter.value ?? "{}").utf8)) as? [String: Any]
      #expect(parsed?["topic"] as? String == raw)
      #expect(parsed?["partition"] as? Int == 1)
      #expect((parsed?["detail"] as? String)?.contains("message.max.bytes") == (letter.key == "large"))
    }
  }

  /// What every task says of its own breaks adds up to all breaks; and the log proves every message.
  @Test func totalsAddUpAndReplaysProveThem() throws {
    let cluster = try TestCluster()
    let configuration = try prepare("flat.yaml", cluster, partitions: 3, workers: 2)
    let (sent, truth) = try load(configuration, cluster, orders: 800)
    let breaks = try reconcile(configuration, records: sent)
    #expect(breaks.count == truth.count)
    var open: [String: Int] = [:]
    for made in breaks.values where made.state != "accepted" { open["open_breaks:" + made.type, default: 0] += 1 }
    var totals: [String: Int] = [:]
    for record in try cluster.readAll(configuration.totalsTopic, partitions: 3) {
      let total = try JSONSerialization.jsonObject(with: Data(record.value!.utf8)) as! [String: Any]
      totals[total["cell"] as! String] = total["value"] as? Int
    }
    #expect(totals.filter { $0.value != 0 } == open)

    var settings = configuration
    settings.partialsPartitions = 3
    let reader = try PartitionReader(
      properties: configuration.clientProperties(.admin) + [KafkaProperty("group.id", configuration.kafka.group)])
    defer { reader.close() }
    var derived: [String] = []
    var records = 0
    for partition in Int32(0)..<3 {
      let places = configuration.sources.map { TopicPartition($0.topic, partition) }
      let committed = try reader.committed(places)
      let summary = try Auditor(settings, environment: KafkaEnvironment(), reader: reader).audit(
        partition: partition, committed: places.map { committed[$0] }
      ) { if $0.topic == .breaks { derived.append(String(decoding: $0.value, as: UTF8.self)) } }
      records += summary.records
    }
    #expect(records == sent)
    let emitted = try cluster.readAll(configuration.breaksTopic, partitions: 3).map { $0.value! }
    #expect(Set(emitted) == Set(derived))
    #expect(emitted.count == derived.count)
  }

  /// Where checkpoints lie in a directory and the epochs begin after them, the state still comes back; and where they are
  /// damaged, that is said and nothing is skipped.
  @Test func stateComesBackFromADirectory() throws {
    let cluster = try TestCluster()
    var configuration = try prepare("flat.yaml", cluster, partitions: 2, workers: 2)
    let directory = FileManager.default.temporaryDirectory.appendingPathComponent("tieout-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: directory) }
    configuration.checkpoints = .directory(directory)
    // Nothing is forgotten, so that there is a state to keep.
    configuration.policy.retention_ms = 20 * 365 * 86_400_000
    configuration.policy.openRetention_ms = 20 * 365 * 86_400_000
    configuration.checkpointInterval_ms = 200
    let (sent, truth) = try load(configuration, cluster, orders: 600)
    let first = try reconcile(configuration, records: sent)
    #expect(first.count == truth.count)
    let files = try FileManager.default.subpathsOfDirectory(atPath: directory)
    #expect(files.contains { $0.contains("m.") } && files.contains { $0.contains("s.") })
    #expect(same(first, try reconcile(configuration, records: 0)))
    // Every checkpoint is damaged: the epochs are still there from the first.
    for file in try FileManager.default.subpathsOfDirectory(atPath: directory) where file.contains("m.") {
      try Data("damaged".utf8).write(to: URL(fileURLWithPath: directory + "/" + file))
    }
    #expect(same(first, try reconcile(configuration, records: 0)))
  }
}
