import ArgumentParser
import Configuration
import Foundation
import Kafka
import MemoryBroker
import Logging
import Pipeline
import Synchronization

/// One process of `tieout load`: so that what is measured is one process's time and nothing else's.
struct LoadPart: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "load-part", abstract: "One process of `tieout load`.", shouldDisplay: false)

  enum Role: String, ExpressibleByArgument { case broker, drop, daemon }

  @Argument var role: Role
  @Option var config = ""
  @Option var partitions = 1
  @Option var workers = 1
  @Flag var transactions = false

  /// What the parent says, line by line; its end is the end of this process.
  private final class Orders: Sendable {
    private let state = Mutex((expected: Int?.none, isOver: false))
    var expected: Int? { state.withLock { $0.expected } }
    var isOver: Bool { state.withLock { $0.isOver } }

    func start() {
      Thread { [self] in
        while let line = readLine() {
          let words = line.split(separator: " ")
          if words.first == "expect", let count = words.dropFirst().first.flatMap({ Int($0) }) {
            state.withLock { $0.expected = count }
          }
        }
        state.withLock { $0.isOver = true }
      }.start()
    }
  }

  func run() throws {
    // The parent decides when this ends: an interrupt at the terminal reaches both.
    signal(SIGINT, SIG_IGN)
    signal(SIGPIPE, SIG_IGN)
    let orders = Orders()
    orders.start()
    do {
      switch role {
      case .broker: try runBroker(orders)
      case .drop: try runDrop()
      case .daemon: try runDaemon(orders)
      }
    } catch {
      var report = PartReport("failed")
      report.text = "\(error)"
      report.send()
      throw ExitCode(2)
    }
  }

  private func runBroker(_ orders: Orders) throws {
    let configuration = try Configuration.load(path: config)
    let topics = Set(configuration.sources.map(\.topic) + configuration.ownTopics.map(\.name)).sorted()
    func serve(_ bootstrap: String) {
      var report = PartReport("ready")
      report.text = bootstrap
      report.send()
      while !orders.isOver { usleep(50_000) }
    }
    if transactions {
      let broker = try MemoryBroker()
      for name in topics { broker.createTopic(name, partitions: partitions) }
      serve(broker.bootstrap)
      broker.stop()
    } else {
      let broker = try EmbeddedBroker()
      for name in topics { try broker.createTopic(name, partitions: partitions) }
      serve(broker.bootstrap)
      withExtendedLifetime(broker) {}
    }
  }

  private func runDrop() throws {
    // As the daemon does.
    keepFetchMemory()
    let configuration = try Configuration.load(path: config)
    let readers = try (0..<workers).map { worker in
      try DropReader(
        properties: configuration.clientProperties(.consumer(group: "tieout-drop", member: "")),
        places: configuration.sources.flatMap { source in
          stride(from: worker, to: partitions, by: workers).map { TopicPartition(source.topic, Int32($0)) }
        })
    }
    let failure = Mutex<String?>(nil)
    let begun = ProcessUsage.now
    let done = DispatchSemaphore(value: 0)
    for reader in readers {
      nonisolated(unsafe) let reader = reader
      Thread {
        do { try reader.run() } catch { failure.withLock { $0 = "\(error)" } }
        done.signal()
      }.start()
    }
    for _ in readers { done.wait() }
    if let failure = failure.withLock({ $0 }) { throw LoadError(failure) }
    var report = PartReport("done")
    report.cpu_us -= begun.cpu_us
    report.at_us -= begun.at_us
    report.records = readers.reduce(0) { $0 + $1.records }
    report.bytes = readers.reduce(0) { $0 + $1.bytes }
    report.peakBytes = ProcessUsage.memory("VmHWM")
    report.send()
  }

  private func runDaemon(_ orders: Orders) throws {
    let configuration = try Configuration.load(path: config)
    let daemon = Daemon(configuration: configuration, log: ProcessLog(configuration, label: "tieout").log)
    try daemon.start()
    PartReport("started").send()
    var isAssigned = false
    var isCaughtUp = false
    var isSettled = false
    var quietSince_ms: Int64?
    while !orders.isOver {
      // Asking takes time of the process that is measured.
      usleep(20_000)
      let status = daemon.status
      func send(_ event: String) {
        var report = PartReport(event)
        report.records = status.decode.records
        report.firstRecord_us = status.firstRecord_us ?? 0
        report.ties = status.ties
        report.epochs = status.epochs
        report.checkpoints = status.checkpoints
        report.deadLetters = status.deadLetters
        report.restarts = status.restarts
        report.longestPause_us = status.longestCheckpointPause_us
        report.peakBytes = ProcessUsage.memory("VmHWM")
        report.send()
      }
      // The first: whoever has partitions begins to read.
      if !isAssigned, status.partitions > 0 {
        isAssigned = true
        send("assigned")
      }
      guard let expected = orders.expected else { continue }
      if !isCaughtUp, status.decode.records >= expected {
        isCaughtUp = true
        send("caught-up")
      }
      // Every tie has been judged, and the epoch in which it was is committed.
      let isQuiet =
        isCaughtUp && status.uncommittedTasks == 0 && status.match.tiesOpened > 0
        && status.match.tiesClosed == status.match.tiesOpened
      quietSince_ms = isQuiet ? quietSince_ms ?? monotonic_ms() : nil
      if !isSettled, let quietSince_ms, monotonic_ms() - quietSince_ms > 200 {
        isSettled = true
        send("settled")
      }
    }
    daemon.stop.stop()
    guard daemon.waitUntilStopped() else { throw LoadError("the workers have not left") }
    PartReport("stopped").send()
  }
}
