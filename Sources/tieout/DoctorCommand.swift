import ArgumentParser
import Configuration
import Foundation
import Pipeline

struct DoctorCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor",
    abstract: "Looks at cluster, topics, rights, schemas, tables, clock, disk and machine, and says what to do.",
    discussion: """
      Everything that a reconciliation needs is looked at, and nothing is changed. What can only be found out by trying \
      (whether the client may write and commit) is tried in transactions that are aborted, under a transactional id that \
      no worker has; --read-only leaves that out. Where the console is configured, tieout-serve looks at its part.

      EXIT CODES
        0  all is well
        1  there are warnings
        2  something would not work

      EXAMPLES
        tieout doctor --config shop.yaml
        tieout doctor --config shop.yaml --json --timeout 30
      """)

  @Option(help: "Configuration file.") var config: String
  @Option(help: "Bootstrap servers instead of the configured ones.") var bootstrap: String?
  @Option(help: "Seconds that are waited for one answer of the cluster.") var timeout = 10
  @Flag(help: "Print JSON.") var json = false
  @Flag(help: "Try no transactions.") var readOnly = false

  func validate() throws {
    guard (1...600).contains(timeout) else { throw ValidationError("--timeout must be from 1 to 600 seconds.") }
  }

  func run() throws {
    do {
      var (report, configuration) = Doctor.examine(
        path: config, bootstrap: bootstrap, timeout_ms: timeout * 1_000, triesTransactions: !readOnly)
      if let configuration, Doctor.servesConsole(configuration) {
        report.add(ServeProgram.findings(config: config))
      }
      print(json ? try report.json() : report.text)
      if report.exitCode != 0 { throw ExitCode(report.exitCode) }
    } catch let code as ExitCode {
      throw code
    } catch { fail(error) }
  }
}
