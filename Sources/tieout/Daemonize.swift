import ArgumentParser
import Configuration
import Domain
import Foundation
import Kafka
import Logging
import MemoryBroker
import Monitoring
import Pipeline
import Simulation
import Synchronization

/// Calls `body` on SIGTERM and SIGINT instead of ending the process.
func onTermination(_ body: @escaping @Sendable () -> Void) -> [any DispatchSourceSignal] {
  [SIGTERM, SIGINT].map { number in
    signal(number, SIG_IGN)
    let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
    source.setEventHandler(handler: body)
    source.resume()
    return source
  }
}

/// Signals of one kind, counted until somebody asks.
final class Signals: @unchecked Sendable {
  private let count = Mutex(0)
  private let source: any DispatchSourceSignal

  init(_ number: Int32) {
    signal(number, SIG_IGN)
    source = DispatchSource.makeSignalSource(signal: number, queue: .global())
    source.setEventHandler { [weak self] in self?.count.withLock { $0 += 1 } }
    source.resume()
  }

  deinit { source.cancel() }

  /// Whether any has come since the last time.
  func take() -> Bool {
    count.withLock { count in
      defer { count = 0 }
      return count > 0
    }
  }
}

/// Reads the configuration of the daemon again. The log's level changes; everything else belongs to what the tasks have
/// made of their records so far, and waits for the next start.
struct DaemonReload {
  private var active: Configuration
  private let level: LogLevelSwitch
  private let log: Logger

  init(_ configuration: Configuration, level: LogLevelSwitch, log: Logger) {
    (active, self.level, self.log) = (configuration, level, log)
  }

  /// A file that cannot be read changes nothing.
  /// - Parameter isServed: The console's part is looked after by its own process.
  mutating func reload(path: String, isServed: Bool) {
    do {
      let next = try Configuration.load(path: path)
      for key in next.changedKeys(since: active) where key != "logging.level" && !(isServed && key.hasPrefix("serve."))
      {
        log.warning("a change waits for the next start", metadata: ["key": "\(key)"])
      }
      let isChanged = next.logLevel != active.logLevel
      level.level = Logger.Level(rawValue: next.logLevel) ?? .info
      active.logLevel = next.logLevel
      active.noteEffective(of: next) { $0 == "logging.level" }
      log.notice(
        "configuration reloaded", metadata: ["applied": "\(isChanged ? "logging.level" : "nothing has changed")"])
    } catch { log.error("the configuration cannot be read; nothing has changed", metadata: ["error": "\(error)"]) }
  }
}

struct Run: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Runs the reconciler as a daemon between Kafka topics.",
    discussion: """
      Consumes the source topics as a member of the consumer group, reports breaks and dead letters on topics, and \
      ends on SIGTERM or SIGINT after finishing the running epoch. A task is brought back after a restart or a \
      rebalance from its newest checkpoint and the epochs after it. SIGHUP reads the log's level and, where they are \
      followed, the tables of files again, and names what else has changed and waits for the next start.

      EXAMPLE
        tieout run --config shop.yaml
      """)

  @Option(help: "Configuration file.") var config: String
  @Option(help: "Bootstrap servers instead of the configured ones.") var bootstrap: String?
  @Option(help: "Workers instead of the configured number.") var workers: Int?
  @Option(help: "Name of this process instead of the configured kafka.instance.") var instance: String?
  @Option(help: "Seconds between status lines in the log.") var statusInterval: Int = 10
  @Flag(help: "Serve the HTTP API too, as a process of its own (tieout-serve).") var serve = false

  func run() throws {
    do {
      var configuration = try Configuration.load(path: config)
      if let bootstrap { configuration.kafka.bootstrap = bootstrap }
      if let workers { configuration.workers = max(1, workers) }
      if let instance { configuration.kafka.instance = instance }
      let process = ProcessLog(configuration, label: "tieout")
      let log = process.log
      let hangUps = Signals(SIGHUP)
      var reload = DaemonReload(configuration, level: process.level, log: log)
      let daemon = Daemon(configuration: configuration, log: log)
      let signals = onTermination {
        log.info("stopping")
        daemon.stop.stop()
      }
      if serve { _ = try ServeProgram.path() }
      try daemon.start()
      let monitoring = try configuration.monitoring.map { settings in
        let server = try MonitoringServer(
          settings,
          .init(
            metrics: { daemon.metricsPage() }, isHealthy: { daemon.isRunning && daemon.standingStill.isEmpty },
            isReady: { daemon.status.isReady }))
        log.info("metrics are told", metadata: ["host": "\(settings.host)", "port": "\(server.port)"])
        return server
      }
      defer { monitoring?.stop() }
      let console = serve ? try ServeProgram.start(config: config, bootstrap: bootstrap) : nil
      defer { if let console { ServeProgram.end(console) } }
      var nextStatus = monotonic_ms() + Int64(statusInterval) * 1_000
      var hasConsole = console != nil
      while daemon.isRunning, !daemon.stop.isStopped {
        usleep(50_000)
        if hasConsole, console?.isRunning == false {
          // The reconciler owes nothing to whoever looks at it.
          log.error("tieout-serve has ended", metadata: ["status": "\(console!.terminationStatus)"])
          hasConsole = false
        }
        let isHungUp = hangUps.take()
        daemon.refreshTables(isForced: isHungUp)
        if isHungUp {
          reload.reload(path: config, isServed: hasConsole)
          if hasConsole, let console { kill(console.processIdentifier, SIGHUP) }
        }
        if monotonic_ms() >= nextStatus {
          daemon.logStatus()
          nextStatus += Int64(statusInterval) * 1_000
        }
      }
      let isClean = daemon.waitUntilStopped()
      withExtendedLifetime(signals) {}
      daemon.logStatus()
      log.info(isClean ? "stopped" : "stopped before all workers had left")
      if !isClean { throw ExitCode(2) }
    } catch let code as ExitCode {
      throw code
    } catch let error as KafkaError {
      fail("\(error). 'tieout doctor --config \(config)' looks for the cause")
    } catch { fail(error) }
  }
}

struct Broker: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Runs a broker on this machine, for trying things out.",
    discussion: """
      Listens on a free port of 127.0.0.1 and prints the address. Nothing is kept on disk. The embedded broker keeps at \
      most 5 MiB of a partition and knows no transactions. With --transactions it is another one, in memory too, that \
      does: topics that are created over the wire, read_committed, fencing, static members; it keeps everything.

      EXAMPLES
        tieout broker --config config/examples/flat.yaml --partitions 4 --bootstrap-file /tmp/bootstrap
        tieout broker --transactions --port 19092
      """)

  @Option(name: .customLong("topic"), help: "NAME:PARTITIONS, as often as needed.") var topics: [String] = []
  @Option(help: "Create every topic of this configuration, those of its tables included.") var config: String?
  @Option(help: "Partitions of the topics of --config.") var partitions = 4
  @Option(help: "Write the address into this file.") var bootstrapFile: String?
  @Flag(help: "A broker that keeps to the rules of transactions and static members.") var transactions = false
  @Option(help: "Port, with --transactions; 0 takes a free one.") var port: UInt16 = 0
  @Option(help: "Milliseconds from a transaction's end to its markers at the most, with --transactions.")
  var markerDelay = 5
  @Option(help: "Milliseconds that an empty group waits for members, with --transactions.") var rebalanceDelay = 100
  @Option(help: "Requests in ten thousand whose connection is cut, with --transactions.") var cuts = 0

  func validate() throws {
    if port != 0 || cuts != 0, !transactions { throw ValidationError("--port and --cuts are for --transactions.") }
    guard markerDelay >= 0, rebalanceDelay >= 0, (0...5_000).contains(cuts) else {
      throw ValidationError("--marker-delay and --rebalance-delay must not be negative; --cuts is from 0 to 5000.")
    }
  }

  func run() throws {
    do {
      var wanted: [(name: String, partitions: Int, config: [String: String])] = []
      if let config {
        let configuration = try Configuration.load(path: config)
        wanted = configuration.allTopics.map { ($0.name, max(1, partitions), $0.config) }
      }
      for topic in topics {
        let parts = topic.split(separator: ":")
        guard let name = parts.first, parts.count <= 2, let count = parts.count == 2 ? Int(parts[1]) : 1, count > 0
        else {
          throw ValidationError("--topic '\(topic)' is not NAME:PARTITIONS.")
        }
        wanted.append((String(name), count, [:]))
      }
      if transactions {
        var options = MemoryBroker.Options()
        options.port = port
        options.markerDelay_ms = Int64(markerDelay)
        options.initialRebalanceDelay_ms = Int64(rebalanceDelay)
        options.cutsPer10000 = cuts
        let broker = try MemoryBroker(options: options)
        for topic in wanted {
          broker.createTopic(topic.name, partitions: topic.partitions, config: topic.config)
        }
        try serve(broker.bootstrap)
        broker.stop()
      } else {
        let broker = try EmbeddedBroker()
        for topic in wanted { try broker.createTopic(topic.name, partitions: topic.partitions) }
        try serve(broker.bootstrap)
        withExtendedLifetime(broker) {}
      }
    } catch let error as ValidationError {
      throw error
    } catch { fail(error) }
  }

  /// Tells the address, and waits to be ended.
  private func serve(_ bootstrap: String) throws {
    print("listening on \(bootstrap)")
    fflush(nil)
    if let bootstrapFile { try bootstrap.write(toFile: bootstrapFile, atomically: true, encoding: .utf8) }
    let stop = StopFlag()
    let signals = onTermination { stop.stop() }
    while !stop.isStopped { usleep(50_000) }
    withExtendedLifetime(signals) {}
  }
}

struct WorkloadArguments: ParsableArguments {
  @Option(help: "Shape of the records: flat or northwind.") var shape: WorkloadShape = .flat
  @Option(help: "Number of orders.") var orders = 10_000
  @Option(help: "Seed: the same seed makes the same bytes.") var seed: UInt64 = 1
  @Option(help: "Faulty orders in ten thousand.") var faults = 200
  @Option(help: "Postings trail their orders by up to this many orders.") var shuffle = 5_000
  @Option(help: "Records in ten thousand that are delivered twice.") var redeliveries = 0
  @Option(help: "Event time between two orders, in milliseconds.") var interval = 1_000

  func options() throws -> WorkloadOptions {
    guard orders >= 0, shuffle >= 0, (0...10_000).contains(faults), (0...9_000).contains(redeliveries), interval >= 0
    else {
      throw ValidationError("--orders, --shuffle, --faults, --redeliveries and --interval must not be negative.")
    }
    var options = WorkloadOptions()
    options.shape = shape
    options.orders = orders
    options.seed = seed
    options.faultsPer10000 = faults
    options.shuffle = shuffle
    options.redeliveriesPer10000 = redeliveries
    options.interval_us = Int64(interval) * 1_000
    return options
  }
}

extension WorkloadShape: ExpressibleByArgument {}

struct Generate: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Makes a seeded load of orders and postings with labelled faults.",
    discussion: """
      Into files (orders.jsonl, ledger.jsonl as key<TAB>value, truth.csv) or into the topics of a configuration.

      EXAMPLES
        tieout generate --shape northwind --orders 100000 --out /tmp/load
        tieout generate --orders 50000 --config config/examples/flat.yaml --bootstrap 127.0.0.1:9092 --rate 5000
      """)

  @OptionGroup var workload: WorkloadArguments
  @Option(help: "Directory for files.") var out: String?
  @Option(help: "Configuration whose first orders and ledger topics are filled.") var config: String?
  @Option(help: "Bootstrap servers instead of the configured ones.") var bootstrap: String?
  @Option(help: "Records a second, 0: as fast as possible.") var rate = 0
  @Option(help: "File for the truth; with --out its default is truth.csv there.") var truth: String?

  func validate() throws {
    if (out == nil) == (config == nil) { throw ValidationError("Give either --out or --config.") }
  }

  func run() throws {
    do {
      var load = Workload(try workload.options())
      var sink: any RecordSink
      if let out {
        sink = try FileSink(directory: out)
      } else {
        var configuration = try Configuration.load(path: config!)
        if let bootstrap { configuration.kafka.bootstrap = bootstrap }
        sink = try TopicSink(configuration)
      }
      let count = try pump(&load, into: &sink, rate: rate)
      if let path = truth ?? out.map({ $0 + "/truth.csv" }) {
        let text = "order,type,role,expected,posted\n" + load.truth.map { $0.csv + "\n" }.joined()
        try text.write(toFile: path, atomically: true, encoding: .utf8)
      }
      print("\(count) records, \(load.truth.count) faults")
    } catch let error as ValidationError {
      throw error
    } catch { fail(error) }
  }
}

struct Play: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Plays files of records into the topics of a configuration.",
    discussion: """
      Reads key<TAB>value lines (or values alone, sent without a key; a key may be JSON) and sends each as it is, of CSV each \
      row, also one of several lines, to the topic of its \
      source: SOURCE=FILE says of which, where the configuration has several of the kind. The header of a CSV file is not sent; \
      it must name the columns of the topic (csv.columns). Lines without a key are refused where the topic has several \
      partitions and the source is not routed, because the records of an order would not come together.

      EXAMPLES
        tieout play --config shop.yaml --orders orders.jsonl --ledger ledger.jsonl
        tieout play --config two.yaml --orders web=web.jsonl --orders store=store.jsonl --ledger gl.jsonl
      """)

  @Option(help: "Configuration file.") var config: String
  @Option(help: "Order files, or SOURCE=FILE.") var orders: [String] = []
  @Option(help: "Ledger files, or SOURCE=FILE.") var ledger: [String] = []
  @Option(help: "Bootstrap servers instead of the configured ones.") var bootstrap: String?

  func run() throws {
    do {
      var configuration = try Configuration.load(path: config)
      if let bootstrap { configuration.kafka.bootstrap = bootstrap }
      let player = try FilePlayer(configuration)
      let count = try player.play(orders: orders, ledger: ledger)
      print("\(count) records")
    } catch { fail(error) }
  }
}
