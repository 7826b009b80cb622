import ArgumentParser
import Configuration
import Decoding
import Domain
import Foundation
import Pipeline

struct RedriveCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "redrive",
    abstract: "Sends records that became dead letters to their source once more.",
    discussion: """
      For when what was wrong has been put right: a table has the entry, a rule was mistaken. Each record goes to the \
      partition of its source topic from which it came, with the bytes that stand there (or in the dead letter), and is \
      sent once, whoever asks again: <prefix>.redriven has what was sent, written in the same transaction. A record that \
      is refused again is another dead letter.

      Exit code 0: all that was selected has been sent, now or before; 1: the bytes of some are gone; 2: it could not run.

      EXAMPLES
        tieout redrive --config shop.yaml --reason MASTER_DATA_MISSING --dry-run
        tieout redrive --config shop.yaml --source ledger --from 2026-11-01T00:00:00Z
      """)

  @Option(help: "Configuration file.") var config: String
  @Option(help: "Bootstrap servers instead of the configured ones.") var bootstrap: String?
  @Option(help: "Only dead letters of this reason; as often as needed.") var reason: [String] = []
  @Option(help: "Only those of this source; as often as needed.") var source: [String] = []
  @Option(help: "Only those of this field; as often as needed.") var field: [String] = []
  @Option(help: "Refused at this time (RFC 3339) or later.") var from: String?
  @Option(help: "Refused at this time (RFC 3339) or earlier.") var to: String?
  @Flag(help: "Say what would be sent.") var dryRun = false

  private func selection(_ configuration: Configuration) throws -> Redrive.Selection {
    var selection = Redrive.Selection()
    for name in reason {
      guard let known = DataFaultReason(rawValue: name) else {
        let all = DataFaultReason.allCases.map(\.rawValue).joined(separator: ", ")
        throw ValidationError("--reason '\(name)' is not one of \(all).")
      }
      selection.reasons.insert(known)
    }
    for name in source {
      guard configuration.sources.contains(where: { $0.name == name }) else {
        let all = configuration.sources.map(\.name).joined(separator: ", ")
        throw ValidationError("--source '\(name)' is not one of \(all).")
      }
      selection.sources.insert(name)
    }
    selection.fields = Set(field)
    func time(_ text: String?, _ name: String, _ standard: Int64) throws -> Int64 {
      guard let text else { return standard }
      guard let ms = Timestamps.parse(text) else {
        throw ValidationError("\(name) '\(text)' is no time such as 2026-11-30T12:00:00Z.")
      }
      return ms
    }
    let (first, last) = (try time(from, "--from", .min), try time(to, "--to", .max))
    guard first <= last else { throw ValidationError("--from lies behind --to.") }
    selection.times_ms = first...last
    selection.isTrial = dryRun
    return selection
  }

  func run() throws {
    do {
      var configuration = try Configuration.load(path: config)
      if let bootstrap { configuration.kafka.bootstrap = bootstrap }
      let selection = try selection(configuration)
      let report = try Redrive(configuration).run(selection)
      print(
        "\(report.selected) selected, \(report.sent) \(dryRun ? "would be sent" : "sent"), \(report.known) sent before, "
          + "\(report.gone.count) gone")
      for place in report.gone.prefix(20) { print("gone: \(place)") }
      if !report.gone.isEmpty { throw ExitCode(1) }
    } catch let code as ExitCode {
      throw code
    } catch let error as ValidationError {
      throw error
    } catch { fail(error) }
  }
}
