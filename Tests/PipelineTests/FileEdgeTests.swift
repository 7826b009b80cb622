import Configuration
import Domain
import Foundation
import Testing

@testable import Pipeline

/// Runs over files, at their edges: keys, headers, days, bounds.
@Suite struct FileEdgeTests {
  static let fields = "order: o, event: {constant: invoiced}, event_time: t, currency: {constant: EUR}, gross: g"

  func run(
    _ yaml: String, orders: [String], ledger: [String], threads: Int = 2, asOf: String? = nil,
    extension name: String = "jsonl"
  ) throws -> (summary: RunSummary, out: (String) throws -> String) {
    let scratch = Scratch()
    let directory = scratch.path
    let configuration = try Configuration.parse(yaml: yaml, file: "t.yaml", directory: directory)
    for (file, lines) in [("o", orders), ("l", ledger)] {
      try lines.joined(separator: "\n").write(
        toFile: "\(directory)/\(file).\(name)", atomically: true, encoding: .utf8)
    }
    let summary = try FileReconciler(
      configuration: configuration,
      options: FileRunOptions(
        orders: ["\(directory)/o.\(name)"], ledger: ["\(directory)/l.\(name)"], directory: directory + "/out",
        threads: threads, now_ms: 1_790_000_000_000, asOf_ms: asOf.flatMap(FileRunOptions.asOf_ms))
    ).run()
    return (
      summary,
      { name in
        defer { withExtendedLifetime(scratch) {} }
        return try String(contentsOfFile: directory + "/out/" + name, encoding: .utf8)
      }
    )
  }

  /// A record of a topic has no header before it.
  @Test func aTopicNeedsItsColumns() throws {
    func configuration(_ csv: String) throws -> Configuration {
      try Configuration.parse(
        yaml: """
          sources:
            crm: {kind: orders, topic: crm.rows, format: csv\(csv), fields: {\(Self.fields)}}
            gl: {kind: ledger, fields: {order: o, role: {constant: receivable}, currency: {constant: EUR}, event_time: t}, amount: m}
          """, file: "t.yaml", directory: "/")
    }
    let known = ["crm.rows": 2, "tieout.gl": 2]
    for csv in ["", ", csv: {header: true}"] {
      let plan = TopicPlan(try configuration(csv), known: known)
      #expect(plan.problems.map(\.topic) == ["crm.rows"])
      #expect(
        plan.problems.first?.text.hasPrefix("source 'crm': its CSV takes the names of the columns from a header")
          == true)
      #expect(plan.problems.first?.advice?.contains("csv: {columns: […]}") == true)
    }
    #expect(TopicPlan(try configuration(", csv: {columns: [o, t, g]}"), known: known).problems == [])
    for file in ["flat", "northwind", "finance", "sap-document-flow"] {
      let example = try Configuration.load(path: FinanceExampleTests.examples + "/\(file).yaml")
      #expect(example.headerSources.isEmpty, "\(file)")
    }
  }
}
