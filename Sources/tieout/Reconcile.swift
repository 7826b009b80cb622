import ArgumentParser
import Configuration
import Decoding
import Domain
import Foundation
import Logging
import Pipeline

struct Reconcile: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Reconciles files: scheduled sync, backfill, month-end.",
    discussion: """
      Reads .jsonl (one JSON value a line, or key<TAB>value), .csv, each plain or .gz or .zst, or standard input (-). \
      Writes breaks.jsonl, dead-letters.jsonl and summary.json to the output directory, and removes those of an earlier \
      run first: one that fails (exit code 2) leaves none. The same input gives the same bytes, whatever the number of \
      threads.

      EXAMPLES
        tieout reconcile --config shop.yaml --orders orders.jsonl --ledger ledger.jsonl.gz --out out/shop
        zcat ledger.gz | tieout reconcile --config shop.yaml --orders orders.csv --ledger - --out out
        tieout reconcile --config two.yaml --orders web=web.jsonl --orders store=store.csv --ledger gl.csv --out out
      """)

  @Option(help: "Configuration file.") var config: String
  @Option(parsing: .upToNextOption, help: "Order files, or SOURCE=FILE.") var orders: [String] = []
  @Option(parsing: .upToNextOption, help: "Ledger files, or SOURCE=FILE.") var ledger: [String] = []
  @Option(help: "Directory for the results; made if it does not exist.") var out: String
  @Option(help: "Threads (default: all processors).") var threads: Int = ProcessInfo.processInfo.activeProcessorCount
  @Option(
    help:
      "Judge ties as they stood at this time (RFC 3339), or at the end of this day (2026-01-31, UTC): records of later event times are left out and counted, what is due later is left alone."
  )
  var asOf: String?
  @Flag(help: "Print nothing but errors.") var quiet = false

  func validate() throws {
    if orders.isEmpty, ledger.isEmpty { throw ValidationError("Give --orders and --ledger files.") }
    if threads < 1 || threads > 256 { throw ValidationError("--threads must be from 1 to 256.") }
    if let asOf, FileRunOptions.asOf_ms(asOf) == nil {
      throw ValidationError("--as-of '\(asOf)' is no date (2026-01-31) and no RFC 3339 time.")
    }
  }

  func run() throws {
    do {
      try FileReconciler.removeResults(in: out)
      let configuration = try Configuration.load(path: config)
      let reconciler = try FileReconciler(
        configuration: configuration,
        options: FileRunOptions(
          orders: orders, ledger: ledger, directory: out, threads: threads, now_ms: wallClock_ms(),
          asOf_ms: asOf.flatMap(FileRunOptions.asOf_ms)))
      let without = reconciler.sourcesWithoutFiles
      if !quiet, !without.isEmpty {
        let words = without.count == 1 ? "the source \(without[0])" : "the sources \(without.joined(separator: ", "))"
        FileHandle.standardError.write(Data("note: no file for \(words)\n".utf8))
      }
      let progress = Pipeline.Progress()
      if !quiet { reconciler.onProgress = { progress.update(records: $0, fraction: $1) } }
      let started = monotonic_ms()
      let summary = try reconciler.run()
      progress.end()
      if !quiet {
        print(summary.table(configuration))
        let elapsed = monotonic_ms() - started
        print(
          "\n\(summary.decode.records) records in \(formatDecimal(Int128(elapsed), decimals: 3)) s; results in \(out)")
      }
      throw ExitCode(summary.tiesOut ? 0 : 1)
    } catch let code as ExitCode {
      throw code
    } catch {
      fail(error)
    }
  }
}

struct Check: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Checks a configuration and prints what is in effect.",
    discussion: """
      Every problem is shown at once, with file, line and column. Secrets are printed as ***. With --topics the \
      cluster is asked too: whether it can be reached, whether the source topics exist and are co-partitioned.

      EXAMPLES
        tieout check --config shop.yaml
        tieout check --config shop.yaml --topics
      """)

  @Option(help: "Configuration file.") var config: String
  @Flag(help: "Check the topics on the cluster too.") var topics = false
  @Option(help: "Bootstrap servers instead of the configured ones.") var bootstrap: String?

  func run() throws {
    do {
      var configuration = try Configuration.load(path: config)
      if let bootstrap { configuration.kafka.bootstrap = bootstrap }
      print(configuration.effectiveYAML(), terminator: "")
      for words in configuration.unmappedPolicies + configuration.headerSources.map(Configuration.headerProblem)
        + configuration.mappingWarnings
      {
        FileHandle.standardError.write(Data("warning: \(words)\n".utf8))
      }
      try configuration.checkClients()
      if topics {
        let counts = try TopicCheck(configuration).run(log: Logger(label: "tieout"), createsOutputs: false)
        var table = TextTable(["topic", "partitions"], numeric: [1])
        for (topic, count) in counts.sorted(by: { $0.key < $1.key }) { table.add(topic, String(count)) }
        print("\n" + table.text)
        for topic in configuration.ownTopics.map(\.name) where counts[topic] == nil {
          print("'\(topic)' does not exist yet; the daemon creates it where the broker lets it")
        }
      }
    } catch { fail(error) }
  }
}

/// Milliseconds of an RFC 3339 time.
func parseTimestamp(_ text: String) -> Int64? { Timestamps.parse(text) }
