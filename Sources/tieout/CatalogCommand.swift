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
      it shows in, its definition, classification and owner (configuration: governance). With --require-owners, or \
      governance.required, exit code 1 where something has no owner.

      EXAMPLES
        tieout catalog --config shop.yaml --out docs/catalog
        tieout catalog --config shop.yaml --out docs/catalog --require-owners
      """)

  @Option(help: "Configuration file.") var config: String
  @Option(help: "Directory for the documents; made if it does not exist.") var out: String
  @Flag(help: "Fail where something has no owner.") var requireOwners = false

  func run() throws {
    do {
      let catalog = Catalog(try Configuration.load(path: config))
      try FileManager.default.createDirectory(atPath: out, withIntermediateDirectories: true)
      try catalog.markdown.write(toFile: out + "/catalog.md", atomically: true, encoding: .utf8)
      try catalog.html.write(toFile: out + "/catalog.html", atomically: true, encoding: .utf8)
      guard requireOwners || catalog.isRequired, !catalog.withoutOwner.isEmpty else { return }
      for missing in catalog.withoutOwner { print("\(missing) has no owner") }
      throw ExitCode(1)
    } catch let code as ExitCode {
      throw code
    } catch { fail(error) }
  }
}
