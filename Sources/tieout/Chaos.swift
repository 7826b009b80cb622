import ArgumentParser
import Configuration
import Domain
import Foundation
import Kafka
import MemoryBroker
import Pipeline
import Simulation

struct Chaos: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Kills, stops and restarts daemons under load, and checks that nothing was lost or doubled.",
    discussion: """
      Several processes of this program run the daemon over a broker in memory, or the cluster that --bootstrap or \
      TIEOUT_TEST_BOOTSTRAP names (exactly once), or over the embedded broker (--at-least-once), while a load of known truth is sent. Processes are \
      killed with SIGKILL, stopped beyond their session, asked to end, started again, and become more and fewer; the \
      broker in memory cuts connections before or after what was asked for has been done, and goes away for seconds. \
      Afterwards the topics are held against the truth, against a replay of the recorded epochs (every message, byte \
      for byte), and against an undisturbed run over the same records. Exit code 0 if nothing is lost, wrong or doubled.

      --takeovers measures instead how long partitions stand still: after a graceful restart of one of two processes, \
      and after SIGKILL of one of them.

      EXAMPLES
        tieout chaos --seconds 60 --processes 3
        tieout chaos --takeovers 5
      """)

  @Option(help: "Number of orders.") var orders = 4_000
  @Option(help: "Seconds over which the load is sent and the faults come.") var seconds = 40
  @Option(help: "Most processes at a time.") var processes = 3
  @Option(help: "Partitions of each topic.") var partitions = 6
  @Option(help: "Seed of the load and of the faults.") var seed: UInt64 = 1
  @Option(help: "A real cluster.") var bootstrap: String?
  @Flag(help: "On the embedded broker, which knows no transactions.") var atLeastOnce = false
  @Option(help: "Directory for configuration and logs; a temporary one if not given.") var directory: String?
  @Option(help: "How many restarts and kills to measure, instead of chaos.") var takeovers = 0
  @Flag(help: "No faults: what an undisturbed run gives.") var calm = false

  func validate() throws {
    if atLeastOnce, bootstrap != nil { throw ValidationError("--at-least-once is without --bootstrap.") }
    guard (1...40_000).contains(orders), seconds >= 5, processes >= 1, partitions >= 1, takeovers >= 0 else {
      throw ValidationError(
        "--orders must be from 1 to 40000, --seconds at least 5, the others at least 1 (--takeovers 0).")
    }
  }

  func run() throws {
    do {
      let named =
        bootstrap ?? ProcessInfo.processInfo.environment["TIEOUT_TEST_BOOTSTRAP"].flatMap { $0.isEmpty ? nil : $0 }
      let memory = named == nil && !atLeastOnce ? try MemoryBroker() : nil
      defer { memory?.stop() }
      let run = try ChaosRun(self, address: atLeastOnce ? nil : named ?? memory?.bootstrap, memory: memory)
      defer { run.endAll() }
      let isGood = takeovers > 0 ? try run.measureTakeovers(takeovers) : try run.run()
      run.keepsTopics = !isGood && memory == nil
      if !isGood { throw ExitCode(1) }
    } catch let code as ExitCode {
      throw code
    } catch { fail(error) }
  }
}

final class ChaosRun {
  let options: Chaos
  let broker: EmbeddedBroker?
  /// Where it is in this process: its connections are cut, and it goes away.
  let memory: MemoryBroker?
  let configuration: Configuration
  /// Of the run that nobody disturbs.
  let undisturbed: Configuration
  let path: String
  let calmPath: String
  let directory: String
  var random: SeededRandom
  let places: [TopicPartition]
  let reader: PartitionReader

  struct Slot {
    var process: Process
    var stoppedUntil_ms: Int64?
  }
  var slots: [Int: Slot] = [:]
  var starts = 0
  /// After a failure the topics stay on a real cluster.
  var keepsTopics = false
  var counts: [String: Int] = [:]
  /// What was done when, beside the logs of the processes.
  let timeline: FileHandle
  /// The broker stays for a while after it was away, so that the load's silence never lasts as long as makes it idle.
  var nextOutage_ms: Int64 = 0
  static let betweenOutages_ms: Int64 = 3_000

  /// A disturbance, and what the group had committed then: over when every partition has moved on.
  struct Takeover {
    var what: String
    var at_ms: Int64
    var committed: [TopicPartition: Int64]
  }
  var takeover: Takeover?
  var durations: [String: [Int64]] = [:]

  init(_ options: Chaos, address: String?, memory: MemoryBroker?) throws {
    self.options = options
    self.memory = memory
    random = SeededRandom(seed: options.seed, stream: 0x6368_616f_73)
    directory = options.directory ?? NSTemporaryDirectory() + "tieout-chaos-\(getpid())"
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    path = directory + "/chaos.yaml"
    _ = FileManager.default.createFile(atPath: directory + "/timeline.log", contents: nil)
    guard let timeline = FileHandle(forWritingAtPath: directory + "/timeline.log") else {
      throw RecoveryError("\(directory) cannot be written to")
    }
    self.timeline = timeline
    broker = address == nil ? try EmbeddedBroker() : nil
    let name = "chaos-" + String(UInt64.random(in: 0 ... .max), radix: 36)
    let yaml = Demo.yaml.replacingOccurrences(of: "name: demo", with: "name: \(name)")
      .replacingOccurrences(of: "level: error", with: "level: info")
      .replacingOccurrences(
        of: "kafka: {",
        with: "checkpoints: {interval: 2s}\nkafka: {bootstrap: \"\(address ?? broker!.bootstrap)\", "
          + "properties: {reconnect.backoff.max.ms: \"500\"}, "
      )
      // Longer than the broker is away and everybody needs to come back: the load's own time runs a hundred times as fast.
      .replacingOccurrences(of: "idle_timeout: 2s", with: "idle_timeout: 8s")
    try yaml.write(toFile: path, atomically: true, encoding: .utf8)
    configuration = try Configuration.load(path: path)
    // The same records, under another name, which is also that of the group and of the topics.
    var calm = yaml.replacingOccurrences(of: "name: \(name)", with: "name: \(name)-calm")
    for source in configuration.sources {
      calm = calm.replacingOccurrences(
        of: "\n  \(source.name):\n", with: "\n  \(source.name):\n    topic: \(source.topic)\n")
    }
    calmPath = directory + "/calm.yaml"
    try calm.write(toFile: calmPath, atomically: true, encoding: .utf8)
    undisturbed = try Configuration.load(path: calmPath)
    let admin = try Admin(properties: configuration.clientProperties(.admin))
    let sources = configuration.sources.map { (name: $0.topic, config: [String: String]()) }
    let wanted = sources + configuration.ownTopics + undisturbed.ownTopics
    for topic in wanted {
      if let broker {
        try broker.createTopic(topic.name, partitions: options.partitions)
      } else {
        _ = try admin.createTopic(topic.name, partitions: options.partitions, config: topic.config)
      }
    }
    let unseen = try admin.await(Set(wanted.map(\.name)))
    guard unseen.isEmpty else {
      throw RecoveryError("no leader has been seen of \(unseen.sorted().joined(separator: ", "))")
    }
    places = configuration.sources.flatMap { source in
      (0..<options.partitions).map { TopicPartition(source.topic, Int32($0)) }
    }
    reader = try PartitionReader(
      properties: configuration.clientProperties(.admin) + [KafkaProperty("group.id", configuration.kafka.group)])
  }

  // MARK: - Processes

  func start(_ slot: Int) throws {
    slots[slot] = Slot(process: try launch("p\(slot)", path))
    starts += 1
  }

  func launch(_ instance: String, _ path: String) throws -> Process {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
    process.arguments = ["run", "--config", path, "--instance", instance, "--workers", "1"]
    let log = directory + "/\(instance).log"
    if !FileManager.default.fileExists(atPath: log) { _ = FileManager.default.createFile(atPath: log, contents: nil) }
    let handle = FileHandle(forWritingAtPath: log)!
    handle.seekToEndOfFile()
    process.standardError = handle
    process.standardOutput = handle
    try process.run()
    return process
  }

  func endAll() {
    for slot in slots.values {
      kill(slot.process.processIdentifier, SIGCONT)
      kill(slot.process.processIdentifier, SIGKILL)
      slot.process.waitUntilExit()
    }
    slots = [:]
    reader.close()
    guard !keepsTopics else {
      if broker == nil { print("the topics \(configuration.name).* are left for a closer look") }
      return
    }
    guard broker == nil, let admin = try? Admin(properties: configuration.clientProperties(.admin)) else { return }
    for topic in configuration.sources.map(\.topic) + (configuration.ownTopics + undisturbed.ownTopics).map(\.name) {
      try? admin.deleteTopic(topic)
    }
  }

  func endInOrder(_ processes: [Process]) {
    for process in processes { kill(process.processIdentifier, SIGTERM) }
    for process in processes {
      let limit = monotonic_ms() + 30_000
      while process.isRunning, monotonic_ms() < limit { usleep(20_000) }
    }
  }

  func note(_ what: String, _ detail: String = "") {
    counts[what, default: 0] += 1
    let line = "\(Date().formatted(.iso8601.time(includingFractionalSeconds: true))) \(what) \(detail)\n"
    timeline.write(Data(line.utf8))
  }

  func disturb() throws {
    let now = monotonic_ms()
    for (number, slot) in slots {
      if let until = slot.stoppedUntil_ms, now >= until {
        kill(slot.process.processIdentifier, SIGCONT)
        slots[number]!.stoppedUntil_ms = nil
      } else if !slot.process.isRunning {
        print("process p\(number) ended by itself: see \(directory)/p\(number).log")
        note("ends by themselves", "p\(number)")
        slots[number] = nil
      }
    }
    try measure()
    if let memory, now >= nextOutage_ms, random.below(90) == 0 {
      let away_ms = Int64(300 + random.below(4_000))
      memory.goAway(for_ms: away_ms)
      nextOutage_ms = now + away_ms + ChaosRun.betweenOutages_ms
      note("broker outages", "for \(away_ms) ms")
    }
    let missing = (0..<options.processes).filter { slots[$0] == nil }
    if slots.isEmpty || (!missing.isEmpty && random.below(20) == 0) {
      let number = missing[random.below(missing.count)]
      try start(number)
      note("starts", "p\(number)")
    }
    guard random.below(40) == 0, let number = slots.keys.sorted().randomElement(using: &random),
      slots[number]!.stoppedUntil_ms == nil
    else { return }
    let process = slots[number]!.process
    switch random.below(4) {
    case 0, 1:
      kill(process.processIdentifier, SIGKILL)
      process.waitUntilExit()
      slots[number] = nil
      note("SIGKILL", "p\(number)")
      try beginTakeover("SIGKILL")
    case 2:
      kill(process.processIdentifier, SIGSTOP)
      let stopped_ms = Int64(2_000 + random.below(9_000))
      slots[number]!.stoppedUntil_ms = now + stopped_ms
      note("SIGSTOP", "p\(number) for \(stopped_ms) ms")
    default:
      kill(process.processIdentifier, SIGTERM)
      let until = monotonic_ms() + 20_000
      while process.isRunning, monotonic_ms() < until { usleep(10_000) }
      if process.isRunning { kill(process.processIdentifier, SIGKILL) }
      try start(number)
      note("restarts", "p\(number)")
      try beginTakeover("restart")
    }
  }

  /// Waits for the transactions of stopped processes, which the broker ends after their timeout, and for the broker.
  func committed(_ reader: PartitionReader? = nil) throws -> [TopicPartition: Int64] {
    try patiently { () throws(KafkaError) in
      try (reader ?? self.reader).committed(places, timeout_ms: 20_000).mapValues(\.offset)
    }
  }

  func bounds(_ place: TopicPartition) throws -> (low: Int64, stable: Int64) {
    try patiently { () throws(KafkaError) in try reader.bounds(place, timeout_ms: 10_000) }
  }

  /// Asks again while the broker does not answer, for a minute at the most.
  private func patiently<Value>(_ body: () throws(KafkaError) -> Value) throws -> Value {
    let until = monotonic_ms() + 60_000
    while true {
      do throws(KafkaError) {
        return try body()
      } catch {
        guard error.isRetriable, monotonic_ms() < until else { throw error }
        usleep(50_000)
      }
    }
  }

  func beginTakeover(_ what: String) throws {
    takeover = Takeover(what: what, at_ms: monotonic_ms(), committed: try committed())
  }

  func measure() throws {
    guard let running = takeover else { return }
    let now = try committed()
    // The load flows on all partitions; one that has nothing to read cannot move.
    for place in places where now[place] ?? 0 <= running.committed[place] ?? 0 {
      if try bounds(place).stable > now[place] ?? 0 { return }
    }
    durations[running.what, default: []].append(monotonic_ms() - running.at_ms)
    takeover = nil
  }

  // MARK: - The run

  func run() throws -> Bool {
    print(
      "\(broker == nil ? "cluster" : "embedded broker") at \(configuration.kafka.bootstrap), delivery "
        + "\(broker == nil ? "exactly once" : "at least once"); logs in \(directory)")
    var load = WorkloadOptions()
    load.shape = .northwind
    load.orders = options.orders
    load.seed = options.seed
    load.shuffle = 200
    load.interval_us = 60_000_000
    load.redeliveriesPer10000 = 50
    for slot in 0..<options.processes { try start(slot) }
    let stop = StopFlag()
    let sender = LoadSender(
      configuration: configuration, options: load, rate: max(1, options.orders * 9 / 2 / options.seconds), stop: stop)
    sender.start()
    if !options.calm { memory?.cut(per10000: 20) }
    defer { memory?.cut(per10000: 0) }
    let until = monotonic_ms() + Int64(options.seconds) * 1_000
    while !sender.isDone || monotonic_ms() < until {
      if let failure = sender.failure { throw failure }
      if options.calm { try measure() } else { try disturb() }
      usleep(50_000)
    }
    memory?.cut(per10000: 0)
    for number in 0..<options.processes {
      if let slot = slots[number], slot.process.isRunning {
        kill(slot.process.processIdentifier, SIGCONT)
        slots[number]!.stoppedUntil_ms = nil
      } else {
        try start(number)
      }
    }
    guard try settle(configuration, reader) else { return false }
    endInOrder(slots.values.map(\.process))
    let isGood = try check(sender)
    let isProven = try checkReplay()
    let isSame = try checkAgainstUndisturbed()
    print(isGood && isProven && isSame ? "good" : "FAILED")
    return isGood && isProven && isSame
  }

  /// Waits until everything is read and no break has changed for a while.
  /// - Parameter reader: Of the group that is asked how far it has come.
  func settle(_ configuration: Configuration, _ reader: PartitionReader) throws -> Bool {
    let limit = monotonic_ms() + 180_000
    var last: Int64 = -1
    var since = monotonic_ms()
    while monotonic_ms() < limit {
      var size: Int64 = 0
      for partition in 0..<options.partitions {
        size += try bounds(TopicPartition(configuration.breaksTopic, Int32(partition))).stable
      }
      let now = try committed(reader)
      var isRead = true
      for place in places {
        let bounds = try self.bounds(place)
        if now[place] ?? bounds.low < bounds.stable { isRead = false }
      }
      if size != last || !isRead {
        last = size
        since = monotonic_ms()
      } else if monotonic_ms() - since > 12_000 {
        return true
      }
      usleep(200_000)
    }
    print("FAILED: the records were not all read within three minutes")
    return false
  }

  func check(_ sender: LoadSender) throws -> Bool {
    var newest: [String: BreakMessage] = [:]
    var seen: [String: [[UInt8]]] = [:]
    var (repeated, conflicting, gaps, messages) = (0, 0, 0, 0)
    for partition in 0..<options.partitions {
      let place = TopicPartition(configuration.breaksTopic, Int32(partition))
      let bounds = try self.bounds(place)
      var failure: (any Error)?
      try reader.read(place, from: bounds.low, end: bounds.stable) { message in
        guard let bytes = message.value else { return true }
        let value = Array(bytes)
        do {
          let made = try JSONDecoder().decode(BreakMessage.self, from: Data(value))
          messages += 1
          let known = seen[made.id]?.count ?? 0
          if made.revision == known + 1 {
            seen[made.id, default: []].append(value)
            newest[made.id] = made
          } else if made.revision <= known {
            if seen[made.id]![made.revision - 1] == value { repeated += 1 } else { conflicting += 1 }
          } else {
            gaps += 1
          }
        } catch { failure = error }
        return true
      }
      if let failure { throw failure }
    }
    let found = newest.values.filter(\.isReported).map {
      TruthComparison.Found(
        order: $0.order, type: $0.type, hints: $0.hints, role: $0.role, expected: $0.expected, posted: $0.posted,
        isAccepted: $0.state == "accepted")
    }
    let comparison = TruthComparison(truth: sender.truth, breaks: found)
    let faults = counts.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }.joined(separator: ", ")
    print("\(sender.sent) records, \(starts) processes started; \(faults.isEmpty ? "no faults" : faults)")
    print(
      "faults in the data: \(sender.truth.count); found: \(comparison.found); lost: \(comparison.missed.count); wrong: "
        + "\(comparison.wrong.count)")
    print(
      "\(messages) messages, \(newest.count) breaks; revisions with two contents: \(conflicting), missing revisions: "
        + "\(gaps), repeated byte for byte: \(repeated)")
    for (what, times) in durations.sorted(by: { $0.key < $1.key }) {
      let sorted = times.sorted()
      print(
        "\(what) to all partitions flowing: median \(sorted[sorted.count / 2]) ms, longest \(sorted.last!) ms (\(sorted.count))"
      )
    }
    for line in (comparison.missed + comparison.wrong).prefix(10) { print("  \(line)") }
    // At least once, the last epoch before a crash may be said again, in the same bytes.
    return counts["ends by themselves"] == nil && comparison.isPerfect && conflicting == 0 && gaps == 0
      && (broker != nil || repeated == 0)
  }
}
