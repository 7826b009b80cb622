import ArgumentParser
import Configuration
import Domain
import Foundation
import Kafka
import Logging
import Pipeline
import Simulation

struct Demo: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Shows the whole way on this machine: broker, load, daemon, breaks.",
    discussion: """
      Starts the embedded broker, generates orders and ledger postings with known faults, reconciles them, shows the \
      breaks as they open and clear, and holds the result against the generator's own truth. Exit code 0 if every \
      fault was found and nothing else.

      EXAMPLES
        tieout demo
        tieout demo --orders 20000 --rate 4000 --seed 7
      """)

  @Option(help: "Number of orders.") var orders = 4_000
  @Option(help: "Seed of the load.") var seed: UInt64 = 1
  @Option(help: "Records a second.") var rate = 1_500
  @Option(help: "Partitions of each topic.") var partitions = 4
  @Option(help: "Workers.") var workers = 2
  @Option(help: "Seconds after which the demo gives up.") var timeout = 180

  static let yaml = """
    version: 1
    name: demo
    kafka: {consumer: {session.timeout.ms: "6000"}}
    dimensions: [country, channel]
    tables:
      chart_of_accounts:
        entries: {"1200": receivable, "1900": cash, "2400": tax, "4000": revenue, "4100": freight, "6900": rounding}
    sources:
      orders:
        kind: orders
        fields:
          order: id
          event_id: event.id
          event: {path: event.type, values: {order.invoiced: invoiced}}
          event_time: event.time
          document: invoice
          customer: account.id
          currency: amounts.currency
          line_count: line_count
          net: amounts.net
          freight: amounts.freight
          tax: amounts.tax
          gross: amounts.gross
        dimensions: {country: account.country, channel: channel}
      ledger:
        kind: ledger
        format: debezium
        fields:
          order: sales_order
          line_id: {concat: [journal_id, {constant: "-"}, line_no]}
          journal: journal_id
          document: document_no
          customer: customer_no
          role: {path: account, table: chart_of_accounts}
          currency: currency
          event_time: {path: $.ts_ms, format: epoch_ms}
          posting_date: posting_date
          period: period
        amount: {debit: debit, credit: credit}
    matching:
      window: 8h
      grace: 1h
      settle: 10m
      retention: 30d
      out_of_orderness: 4h
      idle_timeout: 2s
      tolerances: {default: {absolute: 0.01}}
    logging: {level: error}
    """

  func validate() throws {
    if orders < 1 || orders > 40_000 {
      throw ValidationError("--orders must be from 1 to 40000: the embedded broker keeps 5 MiB of a partition.")
    }
    if rate < 1 || partitions < 1 || workers < 1 {
      throw ValidationError("--rate, --partitions and --workers must be at least 1.")
    }
  }

  func run() throws {
    do {
      var configuration = try Configuration.parse(yaml: Demo.yaml, file: "demo", directory: ".")
      let broker = try EmbeddedBroker()
      configuration.kafka.bootstrap = broker.bootstrap
      configuration.workers = workers
      for topic in configuration.sources.map(\.topic) + configuration.ownTopics.map(\.name) {
        try broker.createTopic(topic, partitions: partitions)
      }
      let daemon = Daemon(configuration: configuration, log: ProcessLog(configuration, label: "tieout").log)
      let signals = onTermination { daemon.stop.stop() }
      try daemon.start()
      print("embedded broker on \(broker.bootstrap), \(partitions) partitions, \(workers) workers")

      var options = WorkloadOptions()
      options.shape = .northwind
      options.orders = orders
      options.seed = seed
      options.shuffle = 200
      options.interval_us = 60_000_000
      options.redeliveriesPer10000 = 50
      let sender = LoadSender(configuration: configuration, options: options, rate: rate, stop: daemon.stop)
      sender.start()

      let reader = try BreakReader(
        properties: [KafkaProperty("bootstrap.servers", broker.bootstrap)], topic: configuration.breaksTopic)
      var display = DemoDisplay()
      reader.onMessage = { display.take($0) }
      let until = monotonic_ms() + Int64(timeout) * 1_000
      var settled: Int64?
      while monotonic_ms() < until, !daemon.stop.isStopped {
        try reader.poll(timeout_ms: 100)
        let status = daemon.status
        display.draw(status: status, sent: sender.sent)
        if let failure = sender.failure { throw failure }
        // Everything was sent and read, every tie is closed, and no break has changed for a second.
        let isQuiet =
          sender.isDone && status.decode.records >= sender.sent && status.partitionsAtEnd == partitions
          && status.match.tiesClosed == status.match.tiesOpened
        if !isQuiet || display.lastChange_ms > monotonic_ms() - 1_000 {
          settled = nil
        } else {
          settled = settled ?? monotonic_ms()
        }
        if let settled, monotonic_ms() - settled > 1_000 { break }
      }
      daemon.stop.stop()
      _ = daemon.waitUntilStopped()
      withExtendedLifetime((signals, broker)) {}
      reader.close()
      display.end()
      let found = reader.breaks.values.filter(\.isReported).map {
        TruthComparison.Found(
          order: $0.order, type: $0.type, hints: $0.hints, role: $0.role, expected: $0.expected, posted: $0.posted,
          isAccepted: $0.state == "accepted")
      }
      let comparison = TruthComparison(truth: sender.truth, breaks: found)
      print(display.table)
      let status = daemon.status
      let again = max(0, status.decode.records - sender.sent)
      print(
        "\n\(sender.sent) records sent, \(status.decode.records - again) taken in"
          + (again > 0 ? " (\(again) of them read once more)" : "") + ", \(status.match.duplicates) delivered twice, "
          + "\(status.match.tiesTiedOut) of \(status.match.tiesClosed) orders tie out")
      print(
        "faults made: \(sender.truth.count); found: \(comparison.found); missed: \(comparison.missed.count); "
          + "false or wrong: \(comparison.wrong.count)")
      for line in (comparison.missed + comparison.wrong).prefix(10) { print("  \(line)") }
      if !comparison.isPerfect { throw ExitCode(1) }
    } catch let code as ExitCode {
      throw code
    } catch { fail(error) }
  }
}

/// Sends the load on a thread of its own.
final class LoadSender: @unchecked Sendable {
  private let configuration: Configuration
  private let options: WorkloadOptions
  private let rate: Int
  private let stop: StopFlag
  private let lock = NSLock()
  private var count = 0
  private var rows: [TruthRow] = []
  private var done = false
  private var error: (any Error)?

  init(configuration: Configuration, options: WorkloadOptions, rate: Int, stop: StopFlag) {
    self.configuration = configuration
    self.options = options
    self.rate = rate
    self.stop = stop
  }

  var sent: Int { lock.withLock { count } }
  var isDone: Bool { lock.withLock { done } }
  var truth: [TruthRow] { lock.withLock { rows } }
  var failure: (any Error)? { lock.withLock { error } }

  private struct Counting: RecordSink {
    var inner: TopicSink
    let onSent: () -> Void
    mutating func send(_ record: GeneratedRecord) throws {
      try inner.send(record)
      onSent()
    }
    mutating func finish() throws { try inner.finish() }
  }

  func start() {
    Thread { [self] in
      do {
        var load = Workload(options)
        var sink: any RecordSink = Counting(inner: try TopicSink(configuration)) { [self] in
          lock.withLock { count += 1 }
        }
        _ = try pump(&load, into: &sink, rate: rate, stop: stop)
        lock.withLock { rows = load.truth }
      } catch {
        lock.withLock { self.error = error }
      }
      lock.withLock { done = true }
    }.start()
  }
}

/// The live view: what is open now, by type, and what has just happened.
struct DemoDisplay {
  private struct Tally {
    var opened = 0
    var open = 0
    var provisional = 0
    var accepted = 0
    var cleared = 0
  }
  private var last: [String: BreakMessage] = [:]
  private var drawn_ms: Int64 = 0
  private var linesDrawn = 0
  private(set) var lastChange_ms: Int64 = 0
  private let isTerminal = isatty(1) != 0
  private var linesPrinted = 0

  mutating func take(_ message: BreakMessage) {
    lastChange_ms = monotonic_ms()
    last[message.id] = message
    // Without a terminal the first changes are listed one by one.
    if !isTerminal, linesPrinted < 12 {
      linesPrinted += 1
      print(
        "\(message.state)\(message.provisional ? " (provisional)" : ""): \(message.id) expected \(message.expected ?? "–") "
          + "posted \(message.posted ?? "–") \(message.hints.joined(separator: " "))")
      if linesPrinted == 12 { print("…") }
    }
  }

  var table: String {
    var tallies: [String: Tally] = [:]
    for message in last.values {
      var tally = tallies[message.type] ?? Tally()
      tally.opened += 1
      switch message.state {
      case "open", "reopened": if message.provisional { tally.provisional += 1 } else { tally.open += 1 }
      case "accepted": tally.accepted += 1
      default: tally.cleared += 1
      }
      tallies[message.type] = tally
    }
    var table = TextTable(["break", "open", "provisional", "accepted", "cleared"], numeric: [1, 2, 3, 4])
    for (type, tally) in tallies.sorted(by: { $0.key < $1.key }) {
      table.add(type, "\(tally.open)", "\(tally.provisional)", "\(tally.accepted)", "\(tally.cleared)")
    }
    return table.text
  }

  mutating func draw(status: WorkerStatus, sent: Int) {
    guard isTerminal, monotonic_ms() - drawn_ms >= 200 else { return }
    drawn_ms = monotonic_ms()
    clear()
    let head =
      "\(sent) sent, \(status.decode.records) taken in, \(status.ties) ties held, "
      + "event time \(status.watermark_ms.map { formatTimestamp($0) } ?? "–")"
    let text = head + "\n" + table + "\n"
    print(text, terminator: "")
    fflush(nil)
    linesDrawn = text.filter { $0 == "\n" }.count
  }

  private mutating func clear() {
    if linesDrawn > 0 { print("\u{1b}[\(linesDrawn)A\u{1b}[J", terminator: "") }
    linesDrawn = 0
  }

  mutating func end() {
    clear()
    fflush(nil)
  }
}
