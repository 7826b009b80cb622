import Configuration
import Decoding
import Domain
import Foundation

/// The mapping documentation of a configuration: what comes from where, by which rule, into which output, who answers
/// for it, what it means and how freely it may be passed on.
public struct Catalog: Sendable {
  public struct Field: Sendable, Equatable {
    public var name: String
    /// Where the value stands in the source, and what is done to it.
    public var rule: String
    /// Where it goes: outputs, and what it decides.
    public var outputs: [String]
    public var entry: GovernanceEntry
  }

  public struct Source: Sendable, Equatable {
    public var name: String
    public var kind: String
    /// The format, and how it is written.
    public var format: String
    public var topic: String
    /// Which of its records are taken in; empty where all are.
    public var filter: String
    /// The order events that its records can tell; empty where the mapping leaves that to them, and in the ledger.
    public var events: [String]
    public var entry: GovernanceEntry
    public var fields: [Field]
  }

  public struct Output: Sendable, Equatable {
    public var name: String
    public var topic: String
    public var entry: GovernanceEntry
  }

  public struct MasterData: Sendable, Equatable {
    public var name: String
    /// File or topic.
    public var origin: String
    /// Fields that are translated by it, or what it decides.
    public var uses: [String]
    public var entry: GovernanceEntry
  }

  public let name: String
  public let sources: [Source]
  public let masterData: [MasterData]
  public let outputs: [Output]
  /// What has no owner, no classification or no definition, a sentence each.
  public let gaps: [String]

  public init(_ configuration: Configuration) {
    name = configuration.name
    gaps = configuration.governanceGaps
    masterData = configuration.masterDataNames.map { name in
      MasterData(
        name: name, origin: CatalogWords.origin(name, configuration), uses: CatalogWords.uses(name, configuration),
        entry: configuration.governance.masterData[name] ?? GovernanceEntry())
    }
    sources = configuration.sources.enumerated().map { at, source in
      let governance = configuration.governance
      let events = CatalogWords.events(source)
      return Source(
        name: source.name, kind: source.mapping.kind.rawValue, format: CatalogWords.format(source.mapping),
        topic: source.originalTopic, filter: CatalogWords.filter(source.mapping),
        events: events?.map(\.name) ?? [], entry: governance.sources[source.name]?.entry ?? GovernanceEntry(),
        fields: configuration.fieldNames(of: source).map { name in
          var entry = governance.field(name, of: source.name)
          if entry.definition.isEmpty {
            entry.definition = CatalogWords.definition(
              name, source.mapping.kind, isMapped: source.mapping.fields[name] != nil)
          }
          return Field(
            name: name, rule: CatalogWords.rule(name, source, configuration),
            outputs: CatalogWords.outputs(name, source.mapping.kind, configuration, of: at, events: events),
            entry: entry)
        })
    }
    let topics = [
      "breaks": configuration.breaksTopic, "dead_letters": configuration.deadLettersTopic,
      "totals": configuration.totalsTopic, "revenue": configuration.revenueTopic,
      "cashflow": configuration.cashflowTopic, "receivables": configuration.receivablesTopic,
      "variance": configuration.varianceTopic, "quality": configuration.qualityTopic,
      "actions": configuration.actionsTopic, "proposals": configuration.proposalsTopic,
    ]
    outputs = configuration.governedOutputs.map {
      Output(name: $0, topic: topics[$0] ?? "", entry: configuration.governance.outputs[$0] ?? GovernanceEntry())
    }
  }

  // MARK: - Documents

  private static let fieldHeader = ["field", "from", "goes to", "definition", "classification", "owner"]

  private func rows(_ source: Source) -> [[String]] {
    source.fields.map {
      [
        $0.name, $0.rule, $0.outputs.joined(separator: "; "), $0.entry.definition,
        $0.entry.classification?.rawValue ?? "", $0.entry.owner,
      ]
    }
  }

  private var outputRows: [[String]] {
    outputs.map {
      [
        $0.name, $0.topic, $0.entry.definition.isEmpty ? CatalogWords.output($0.name) : $0.entry.definition,
        $0.entry.classification?.rawValue ?? "", $0.entry.owner,
      ]
    }
  }

  private static let masterDataHeader = ["master data", "from", "used by", "definition", "classification", "owner"]

  private var masterDataRows: [[String]] {
    masterData.map {
      [
        $0.name, $0.origin, $0.uses.joined(separator: "; "), $0.entry.definition,
        $0.entry.classification?.rawValue ?? "", $0.entry.owner,
      ]
    }
  }

  private func facts(_ source: Source) -> [(String, String)] {
    [
      ("Kind", source.kind), ("Format", source.format), ("Topic", source.topic),
      ("Records", source.filter), ("Events", source.events.joined(separator: ", ")),
      ("Definition", source.entry.definition),
      ("Classification", source.entry.classification?.rawValue ?? ""), ("Owner", source.entry.owner),
    ].filter { !$0.1.isEmpty }
  }

  public var markdown: String {
    func cell(_ text: String) -> String {
      text.replacing("\\", with: "\\\\").replacing("|", with: "\\|").replacing("\n", with: " ").replacing(
        "<", with: "&lt;")
    }
    func table(_ header: [String], _ rows: [[String]]) -> [String] {
      ["| " + header.joined(separator: " | ") + " |", "|" + header.map { _ in "---|" }.joined()]
        + rows.map { "| " + $0.map(cell).joined(separator: " | ") + " |" }
    }
    var lines = ["# Data catalog: \(cell(name))", "", "Generated by `tieout catalog` from the configuration."]
    for source in sources {
      lines += ["", "## Source \(cell(source.name))", ""]
      lines += facts(source).map { "- \($0.0): \(cell($0.1))" }
      lines += [""] + table(Catalog.fieldHeader, rows(source))
    }
    if !masterData.isEmpty {
      lines += ["", "## Master data", ""] + table(Catalog.masterDataHeader, masterDataRows)
    }
    lines += ["", "## Outputs", ""]
    lines += table(["output", "topic", "definition", "classification", "owner"], outputRows)
    return lines.joined(separator: "\n") + "\n"
  }

  public var html: String {
    func text(_ text: String) -> String {
      text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
        .replacing("\"", with: "&quot;")
    }
    func table(_ header: [String], _ rows: [[String]]) -> String {
      let head = header.map { "<th scope=\"col\">\(text($0))</th>" }.joined()
      let body = rows.map { "<tr>" + $0.map { "<td>\(text($0))</td>" }.joined() + "</tr>" }.joined(separator: "\n")
      return "<table>\n<thead><tr>\(head)</tr></thead>\n<tbody>\n\(body)\n</tbody>\n</table>"
    }
    var parts: [String] = []
    for source in sources {
      let facts = facts(source).map { "<dt>\(text($0.0))</dt><dd>\(text($0.1))</dd>" }.joined()
      parts.append(
        "<h2>Source \(text(source.name))</h2>\n<dl>\(facts)</dl>\n\(table(Catalog.fieldHeader, rows(source)))")
    }
    if !masterData.isEmpty {
      parts.append("<h2>Master data</h2>\n" + table(Catalog.masterDataHeader, masterDataRows))
    }
    parts.append(
      "<h2>Outputs</h2>\n" + table(["output", "topic", "definition", "classification", "owner"], outputRows))
    return """
      <!DOCTYPE html>
      <html lang="en">
      <head>
      <meta charset="utf-8">
      <title>Data catalog: \(text(name))</title>
      <style>
      body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
      table { border-collapse: collapse; width: 100%; }
      th, td { border: 1px solid #bbb; padding: .3rem .5rem; text-align: left; vertical-align: top; }
      th { background: #eee; }
      dl { display: grid; grid-template-columns: max-content auto; gap: 0 1rem; }
      dd { margin: 0; }
      </style>
      </head>
      <body>
      <h1>Data catalog: \(text(name))</h1>
      \(parts.joined(separator: "\n"))
      </body>
      </html>

      """
  }
}
