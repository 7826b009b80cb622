import Configuration
import Foundation
import Histogram
import Kafka
import Logging
import Pipeline
import Simulation

/// One run of `tieout load`: the topics, the processes, and what they say.
final class LoadRun {
  let options: Load
  var workload: WorkloadOptions
  let directory: String
  let path: String
  let name: String
  let isReal: Bool
  let partitions: Int
  let stop = StopFlag()
  private(set) var configuration: Configuration
  private var children: [ChildProcess] = []
  private var signals: [any DispatchSourceSignal] = []
  private var createdTopics: [String] = []
  private let log: FileHandle
  private let keepsDirectory: Bool

  /// Longest wait for a process to be there, and for the daemon to have read everything.
  static let start_s = 60.0
  static let patience_s = 1_800.0
  /// Of the embedded broker's 5 MiB a partition, what is filled: keys are not spread evenly.
  static let usableBytes = 4 << 20

  init(_ options: Load) throws {
    self.options = options
    workload = options.workload
    let address =
      options.bootstrap
      ?? ProcessInfo.processInfo.environment["TIEOUT_TEST_BOOTSTRAP"].flatMap { $0.isEmpty ? nil : $0 }
    isReal = address != nil
    name = "tieout-load-" + String(UInt64.random(in: 0 ... .max), radix: 36)
    // A part that has ended is told so by the error of the next word to it.
    signal(SIGPIPE, SIG_IGN)
    keepsDirectory = options.directory != nil
    directory = options.directory ?? NSTemporaryDirectory() + name
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    path = directory + "/load.yaml"
    _ = FileManager.default.createFile(atPath: directory + "/log", contents: nil)
    guard let log = FileHandle(forWritingAtPath: directory + "/log") else {
      throw LoadError("\(directory)/log cannot be written")
    }
    self.log = log
    if let given = options.partitions {
      partitions = given
    } else if isReal || options.transactions || options.steadyRate > 0 {
      partitions = 8
    } else {
      // Per topic: key, value and the record's own head, as compressed.
      let orderBytes = options.shape == .flat ? options.recordBytes : 400
      let perOrder = options.shape == .flat ? options.postings : 4
      let largest =
        workload.orders * max(orderBytes + 30, perOrder * ((options.shape == .flat ? options.recordBytes : 410) + 30))
      let bytes = largest / 100 * options.codec.sizeInHundredths
      partitions = max(4, (bytes + LoadRun.usableBytes - 1) / LoadRun.usableBytes)
    }
    configuration = Configuration()
    signals = onTermination { [stop] in stop.stop() }
    do {
      try write(bootstrap: address ?? "127.0.0.1:9")
      if !isReal {
        let kind = options.transactions ? ["--transactions"] : []
        let broker = try start("broker", ["broker", "--config", path, "--partitions", "\(partitions)"] + kind)
        let ready = try broker.wait(for: "ready", timeout_s: LoadRun.start_s, isStopped: { self.stop.isStopped })
        try write(bootstrap: ready.text)
      } else {
        try createTopics()
      }
    } catch {
      endAll()
      throw error
    }
  }

  func start(_ name: String, _ arguments: [String]) throws -> ChildProcess {
    let child = try ChildProcess(name, arguments, log: log)
    children.append(child)
    return child
  }

  private func write(bootstrap: String) throws {
    var policy = LoadConfiguration.policySettings(workload, openTies: openTies)
    if options.steadyRate > 0 { policy = LoadConfiguration.steadySettings(window_ms: 2_000) }
    let delivery = options.delivery ?? (isReal || options.transactions ? .exactlyOnce : .atLeastOnce)
    let yaml = LoadConfiguration.yaml(
      options.shape, name: name,
      settings: """
        workers: \(options.workers)
        kafka:
          bootstrap: "\(bootstrap)"
          delivery: \(delivery.rawValue)
          consumer: {session.timeout.ms: "6000"\(options.consumer.map { ", \($0.name): \"\($0.value)\"" }.joined())}
        epoch: {interval: \(options.epoch)ms, records: \(options.epochRecords)}
        checkpoints: {store: \(options.noCheckpoints ? "off" : "topic"), interval: \(options.checkpointInterval)s}
        logging: {level: info}

        """, matching: policy)
    try yaml.write(toFile: path, atomically: true, encoding: .utf8)
    configuration = try Configuration.load(path: path)
  }

  private var openTies: Int { options.ties ?? max(1_000, workload.orders / 4) }

  private func createTopics() throws {
    let admin = try Admin(properties: configuration.clientProperties(.admin))
    for (topic, config) in configuration.sources.map({ ($0.topic, [:]) })
      + configuration.ownTopics.map({ ($0.name, $0.config) })
    {
      createdTopics.append(topic)
      _ = try admin.createTopic(topic, partitions: partitions, config: config)
    }
    let missing = try admin.await(Set(createdTopics))
    guard missing.isEmpty else {
      throw KafkaError(
        name: "_TIMED_OUT", "no leader for every partition",
        context: "creating \(missing.sorted().joined(separator: ", "))")
    }
  }

  /// Ends every process that was started, and deletes what was created.
  func endAll() {
    for child in children.reversed() { child.end() }
    children = []
    if !createdTopics.isEmpty, let admin = try? Admin(properties: configuration.clientProperties(.admin)) {
      for topic in createdTopics { try? admin.deleteTopic(topic) }
      createdTopics = []
    }
    if !keepsDirectory { try? FileManager.default.removeItem(atPath: directory) }
  }

  /// An error with what the processes have logged last.
  func explained(_ error: any Error) -> LoadError {
    let lines = (try? String(contentsOfFile: directory + "/log", encoding: .utf8))?.split(separator: "\n") ?? []
    return LoadError("\(error)" + lines.suffix(8).map { "\n  \($0)" }.joined())
  }

  func run() throws -> LoadReport {
    try options.steadyRate > 0 ? runSteady() : runBulk()
  }

  // MARK: - Bulk

  private func runBulk() throws -> LoadReport {
    var report = LoadReport(self)
    note("filling \(partitions) partitions a topic")
    let (sent, truth) = try fill()
    report.records = sent
    try checkHeld(sent)
    let before = try drop(expected: sent)
    note("running the daemon")
    let daemon = try startDaemon()
    daemon.tell("expect \(sent)")
    let assigned = try daemon.wait(for: "assigned", timeout_s: LoadRun.start_s, isStopped: { self.stop.isStopped })
    report.take(
      started: try daemon.wait(for: "started", timeout_s: 1), assigned: assigned, launched_us: daemon.launched_us)
    let caughtUp = try daemon.wait(
      for: "caught-up", timeout_s: LoadRun.patience_s, isStopped: { self.stop.isStopped })
    let settled = try daemon.wait(for: "settled", timeout_s: LoadRun.patience_s, isStopped: { self.stop.isStopped })
    report.take(caughtUp: caughtUp, settled: settled, assigned: assigned)
    daemon.end(timeout_s: 60)
    let after = try drop(expected: sent)
    report.drop = (before.cpu_us + after.cpu_us, before.at_us + after.at_us, before.records + after.records)
    report.bytes = before.bytes
    note("reading the breaks")
    report.comparison = TruthComparison(truth: truth, breaks: try readBreaks())
    return report
  }

  func note(_ text: String) {
    guard !options.json else { return }
    FileHandle.standardError.write(Data("\(text)\n".utf8))
  }

  func startDaemon() throws -> ChildProcess {
    try start("the daemon", ["daemon", "--config", path, "--partitions", "\(partitions)"])
  }

  private func producer() throws -> Producer {
    try Producer(
      properties: configuration.clientProperties(.producer) + [
        // Large batches, as busy topics have them.
        KafkaProperty("linger.ms", options.steadyRate > 0 ? "5" : "100"),
        KafkaProperty("compression.codec", options.codec.rawValue),
        KafkaProperty("queue.buffering.max.kbytes", "262144"),
      ])
  }

  private func fill() throws -> (sent: Int, truth: [TruthRow]) {
    let producer = try producer()
    var load = Workload(workload)
    var record = GeneratedRecord()
    let topics = (orders: configuration.sources[0].topic, ledger: configuration.sources[1].topic)
    var sent = 0
    while load.next(into: &record) {
      try producer.produce(topic: record.isOrder ? topics.orders : topics.ledger, key: record.key, value: record.value)
      sent += 1
      if sent % 1_000 == 0 {
        producer.poll()
        if stop.isStopped { throw LoadError("stopped") }
      }
    }
    try producer.flush(timeout_ms: 120_000)
    return (sent, load.truth)
  }

  /// The embedded broker drops silently what a partition cannot hold.
  private func checkHeld(_ sent: Int) throws {
    let reader = try PartitionReader(properties: configuration.clientProperties(.admin))
    defer { reader.close() }
    var held: Int64 = 0
    for source in configuration.sources {
      for partition in 0..<partitions {
        let place = TopicPartition(source.topic, Int32(partition))
        let bounds = try reader.bounds(place, timeout_ms: 10_000)
        held += bounds.stable - bounds.low
      }
    }
    guard held >= Int64(sent) else {
      throw LoadError(
        "the broker holds \(held) of \(sent) records: give more than \(partitions) --partitions, or fewer --records")
    }
  }

  private func drop(expected: Int) throws -> PartReport {
    note("reading and dropping")
    let child = try start(
      "the dropping reader",
      ["drop", "--config", path, "--partitions", "\(partitions)", "--workers", "\(options.workers)"])
    let done = try child.wait(for: "done", timeout_s: LoadRun.patience_s, isStopped: { self.stop.isStopped })
    child.end()
    guard done.records == expected else { throw LoadError("\(done.records) of \(expected) records were read") }
    return done
  }

  private func readBreaks() throws -> [TruthComparison.Found] {
    let reader = try BreakReader(
      properties: configuration.clientProperties(.admin), topic: configuration.breaksTopic,
      outputs: OutputReader(configuration))
    defer { reader.close() }
    let until = Date().addingTimeInterval(120)
    while !reader.isAtEnd {
      try reader.poll(timeout_ms: 50)
      guard Date() < until, !stop.isStopped else { throw LoadError("the breaks could not be read to their end") }
    }
    return reader.breaks.values.filter(\.isReported).map(TruthComparison.Found.init)
  }

  // MARK: - Steady rate

  private func runSteady() throws -> LoadReport {
    var report = LoadReport(self)
    let daemon = try startDaemon()
    let assigned = try daemon.wait(for: "assigned", timeout_s: LoadRun.start_s, isStopped: { self.stop.isStopped })
    let watch = try BreakWatch(configuration)
    while !watch.isReady {
      try watch.poll()
      if stop.isStopped { throw LoadError("stopped") }
    }
    note("sending \(options.steadyRate) records a second for \(options.steadySeconds) s")
    workload.start_ms = wallClock_ms()
    let sender = SteadySender(
      workload, rate: options.steadyRate, producer: try producer(), orders: configuration.sources[0].topic,
      ledger: configuration.sources[1].topic, stop: stop)
    sender.start()
    var memory = MemorySeries()
    var isTold = false
    var isSettled = false
    var settledAt_ms: Int64 = 0
    while !isSettled || monotonic_ms() - settledAt_ms < 1_000 {
      try watch.poll()
      memory.sample(daemon.pid)
      if let failure = sender.failure { throw failure }
      if stop.isStopped { throw LoadError("stopped") }
      if sender.isDone, !isTold {
        isTold = true
        memory.end()
        daemon.tell("expect \(sender.sent)")
      }
      if !isSettled, isTold, (try? daemon.wait(for: "settled", timeout_s: 0)) != nil {
        isSettled = true
        settledAt_ms = monotonic_ms()
      }
      guard !isTold || monotonic_ms() - sender.ended_ms < 120_000 else {
        throw LoadError("the daemon has not settled within two minutes after the last record")
      }
    }
    report.records = sender.sent
    report.take(
      started: try daemon.wait(for: "started", timeout_s: 1), assigned: assigned, launched_us: daemon.launched_us)
    report.take(
      caughtUp: try daemon.wait(for: "caught-up", timeout_s: 10),
      settled: try daemon.wait(for: "settled", timeout_s: 10), assigned: assigned)
    daemon.end(timeout_s: 60)
    report.memory = memory
    report.latency = watch.latency(sender)
    report.sentRate = sender.achievedRate
    report.comparison = TruthComparison(
      truth: sender.truth, breaks: watch.breaks.values.filter(\.isReported).map(TruthComparison.Found.init))
    watch.close()
    return report
  }
}
