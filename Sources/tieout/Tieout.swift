import ArgumentParser
import Configuration
import Foundation
import Pipeline

@main
struct Tieout: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tieout",
    abstract: "Ties sales orders out against the general ledger, continuously.",
    discussion: """
      tieout joins order events and ledger postings by order key, compares what the orders say must be in the ledger \
      with what it holds, role by role, and reports every break.

      EXIT CODES
        0  everything ties out
        1  there are breaks, or records that could not be read
        2  the run failed
      """,
    version: version,
    subcommands: [
      Reconcile.self, Run.self, Check.self, DoctorCommand.self, Demo.self, Broker.self, Generate.self, Play.self,
      Simulate.self, Chaos.self, Replay.self, Forecast.self, Flows.self, VarianceCommand.self, SAFT.self,
      CatalogCommand.self, MaskCommand.self, RedriveCommand.self, Load.self, LoadPart.self,
      Measure.self, Docs.self, Serve.self, Audit.self,
    ])
}

/// The version of this program.
let version = "0.1.0"

/// Ends the program the way all commands fail: a message on standard error, exit code 2.
func fail(_ error: Any) -> Never {
  FileHandle.standardError.write(Data("tieout: \(error)\n".utf8))
  Foundation.exit(2)
}
