import ArgumentParser
import Configuration
import Foundation
import Pipeline

struct CatalogCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "catalog",
    abstract: "Writes the data catalog of a configuration: mappings, lineage, owners.",
    discussion: """
      Writes catalog.md and catalog.html: every source field, the rule by which it becomes a canonical field, the outputs \
      it shows in, its definition, classification and owner (configuration: governance), the master data and the \
      outputs. Exit code 1 where something has no owner, classification or definition, unless --allow-gaps is given.

      EXAMPLES
        tieout catalog --config shop.yaml --out docs/catalog
        tieout catalog --config shop.yaml --out docs/catalog --allow-gaps
      """)

  @Option(help: "Configuration file.") var config: String
  @Option(help: "Directory for the documents; made if it does not exist.") var out: String
  @Flag(help: "Say what has no owner, classification or definition, and succeed all the same.") var allowGaps = false

  func run() throws {
    do {
      let catalog = Catalog(try Configuration.load(path: config))
      try FileManager.default.createDirectory(atPath: out, withIntermediateDirectories: true)
      try catalog.markdown.write(toFile: out + "/catalog.md", atomically: true, encoding: .utf8)
      try catalog.html.write(toFile: out + "/catalog.html", atomically: true, encoding: .utf8)
      for gap in catalog.gaps { print(gap) }
      if !catalog.gaps.isEmpty, !allowGaps { throw ExitCode(1) }
    } catch let code as ExitCode {
      throw code
    } catch { fail(error) }
  }
}
