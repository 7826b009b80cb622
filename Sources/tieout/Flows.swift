import ArgumentParser
import Configuration
import Domain
import Foundation
import Logging
import Pipeline

struct Flows: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Tells cash flow, receivables and variance from the topics: 13 weeks, ageing, DSO, budget.",
    discussion: """
      Follows the source topics and the breaks by the same configuration as the daemon, beside it, and writes \
      <prefix>.cashflow and <prefix>.receivables: what `tieout forecast` makes of a file. It needs flows.enabled or variance.enabled. \
      Receivables are what the ledger holds; due dates and dimensions come from the orders where the ledger has none; \
      items of orders with an open break on the receivable are in dispute. With variance.enabled it compares the cells \
      that the daemon adds up with the budget, too, and writes <prefix>.variance. Ends on SIGTERM or SIGINT.

      The state is read from the topics at each start; what has not changed is not told again. A second one of the same \
      group takes over: the first ends with exit code 3.

      --print looks: it writes cash flow and receivables to standard output, a JSON object a line, and nothing to a topic, \
      beside whatever runs. --once --as-of tells the figures of another day in the topics, in the place of those that stand \
      there.

      EXAMPLES
        tieout flows --config shop.yaml
        tieout flows --config shop.yaml --print --as-of 2013-08-31
        tieout flows --config shop.yaml --once
      """)

  @Option(help: "Configuration file.") var config: String
  @Option(help: "Bootstrap servers instead of the configured ones.") var bootstrap: String?
  @Option(
    help: ArgumentHelp(
      "The last day of what is known (default: the last day that is over in all sources; with --once or --print the day of "
        + "the latest event)."))
  var asOf: String?
  @Flag(help: "End after the topics have been read to their end and the figures told.") var once = false
  @Flag(
    name: .customLong("print"),
    help: ArgumentHelp(
      "Print the figures of cash flow and receivables and end; nothing is written to a topic, and no other one is ended."
    ))
  var prints = false

  func validate() throws {
    if let asOf, DateStyle.iso.day(asOf) == nil { throw ValidationError("--as-of '\(asOf)' is no date (2013-08-31).") }
  }

  func run() throws {
    do {
      var configuration = try Configuration.load(path: config)
      if let bootstrap { configuration.kafka.bootstrap = bootstrap }
      let log = ProcessLog(configuration, label: "tieout").log
      guard configuration.flows != nil || configuration.variance != nil else {
        throw FileRunError("there is nothing to tell: set flows.enabled or variance.enabled in the configuration")
      }
      var options = FlowsJob.Options()
      options.asOf_d = asOf.flatMap { DateStyle.iso.day($0) }
      options.endsAtEnd = once || prints
      if prints {
        guard configuration.flows != nil else {
          throw FileRunError("--print shows cash flow and receivables: set flows.enabled in the configuration")
        }
        options.show = { output, message in
          let line = Array("{\"output\":\"\(output.rawValue)\",\"message\":".utf8) + message + Array("}\n".utf8)
          FileHandle.standardOutput.write(Data(line))
        }
      }
      // Each ends by itself with --once; a failure of one ends both.
      let flows =
        configuration.flows == nil
        ? nil : try FlowsJob.prepared(configuration, options: options, stop: StopFlag(), log: log)
      let variance =
        configuration.variance == nil || prints
        ? nil : try VarianceJob.prepared(configuration, endsAtEnd: once, stop: StopFlag(), log: log)
      let jobs: [TellingStage] = [flows, variance].compactMap { $0 }
      let signals = onTermination {
        log.info("stopping")
        for job in jobs { job.stop.stop() }
      }
      let running = DispatchGroup()
      for job in jobs {
        running.enter()
        Thread.detachNewThread {
          job.run()
          if job.failure != nil { for other in jobs { other.stop.stop() } }
          running.leave()
        }
      }
      running.wait()
      withExtendedLifetime(signals) {}
      let failures = jobs.compactMap(\.failure)
      if failures.contains(where: { $0 is TellingStage.TakenOver }) {
        log.error("another tieout flows of the same group has taken over")
        throw ExitCode(3)
      }
      if let failure = failures.first { throw failure }
      if let status = flows?.status, !prints {
        print(
          "\(status.records) records read, \(status.facts) lines kept, \(status.messages) messages told"
            + (status.asOf_d.map { ", as of \(formatDate($0))" } ?? ""))
      }
      if let status = variance?.status {
        print("\(status.cells) cells, \(status.lines) lines of variance, \(status.messages) messages told")
      }
    } catch let code as ExitCode {
      throw code
    } catch { fail(error) }
  }
}
