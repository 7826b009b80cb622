import Configuration
import Foundation
import Testing

@testable import Pipeline

/// A run over files with masked fields: both sides still compare, and the clear values stand nowhere in what it writes.
@Suite struct MaskRunTests {
  func run(_ raw: String = "") throws -> (
    summary: RunSummary, outputs: [String: String], masked: (String) -> String, catalog: String
  ) {
    let scratch = Scratch()
    defer { withExtendedLifetime(scratch) {} }
    let directory = scratch.path
    let configuration = try Configuration.parse(
      yaml: """
        name: masks
        dimensions: [rep]
        masking: {key: {env: KEY}}
        \(raw)
        sources:
          orders:
            kind: orders
            fields: {order: {path: o, mask: hash}, event: {constant: invoiced}, event_time: t, event_id: {path: e, mask: hash},
              customer: {path: c, mask: hash}, currency: {constant: EUR}, gross: g}
            dimensions: {rep: {path: r, mask: redact}}
          ledger:
            kind: ledger
            fields: {order: {path: o, mask: hash}, role: {constant: receivable}, currency: {constant: EUR}, event_time: t,
              customer: {path: c, mask: hash}}
            amount: a
        policy: {replace_defaults: true, invoiced: {receivable: +gross}}
        """, file: "m.yaml", directory: directory, environment: ["KEY": "sixteen bytes or more"])
    func order(_ key: String, _ customer: String, _ gross: String) -> String {
      #"{"o":"\#(key)","t":"2024-01-01T00:00:00Z","e":"\#(key)","c":"\#(customer)","g":\#(gross),"r":"Rita"}"#
    }
    func posting(_ key: String, _ customer: String, _ amount: Int) -> String {
      #"{"o":"\#(key)","t":"2024-01-01T00:00:00Z","c":"\#(customer)","a":\#(amount)}"#
    }
    try [
      order("secret-1", "Jane", "10"), order("secret-2", "Jane", "20"), order("secret-3", "John", "30"),
      order("secret-4", "John", #""ten""#), #"{"o":"secret-5""#, "Jane\t{\"o\":[]}",
    ].joined(separator: "\n").write(toFile: directory + "/o.jsonl", atomically: true, encoding: .utf8)
    try [posting("secret-1", "Jane", 10), posting("secret-2", "John", 20)]
      .joined(separator: "\n").write(toFile: directory + "/l.jsonl", atomically: true, encoding: .utf8)
    let summary = try FileReconciler(
      configuration: configuration,
      options: FileRunOptions(
        orders: [directory + "/o.jsonl"], ledger: [directory + "/l.jsonl"], directory: directory + "/out",
        threads: 1, now_ms: 1_790_000_000_000, asOf_ms: nil)
    ).run()
    var outputs: [String: String] = [:]
    for name in try FileManager.default.contentsOfDirectory(atPath: directory + "/out") {
      outputs[name] = try String(contentsOfFile: directory + "/out/" + name, encoding: .utf8)
    }
    return (summary, outputs, { configuration.maskKey!.hash($0) }, Catalog(configuration).markdown)
  }

  @Test func bothSidesCompareAndNoClearValueIsWritten() throws {
    let (summary, outputs, masked, catalog) = try run()
    #expect(catalog.contains("| c, hashed (HMAC-SHA-256) |") && catalog.contains("| r, redacted |"))
    let breaks = try #require(outputs["breaks.jsonl"])
    // secret-1 ties out; secret-2 names two customers; secret-3 is not posted.
    #expect(summary.openBreaks == 2)
    #expect(breaks.contains("WRONG_CUSTOMER") && breaks.contains(masked("secret-2")) && breaks.contains(masked("Jane")))
    #expect(breaks.contains("MISSING_IN_LEDGER") && breaks.contains(masked("secret-3")))
    #expect(!breaks.contains(masked("secret-1")) && breaks.contains("(redacted)"))
    #expect(summary.deadLetters == ["SCHEMA_INVALID": 2, "NON_DECIMAL_AMOUNT": 1])
    let letters = try #require(outputs["dead-letters.jsonl"])
    #expect(letters.split(separator: "\n").count == 3 && letters.contains(#""key":null"#))
    #expect(letters.contains(#""payload":null"#) && letters.contains(#""line":4"#))
    for (name, text) in outputs {
      for clear in ["secret", "Jane", "John", "Rita"] { #expect(!text.contains(clear), "\(name) has \(clear)") }
    }
  }

  @Test func deadLettersHoldTheBytesWhereTheyAreAskedTo() throws {
    let letters = try #require(try run("dead_letters: {raw: always}").outputs["dead-letters.jsonl"])
    #expect(letters.contains("secret-4") && letters.contains(#""key":"Jane""#))
  }
}
