import Configuration
import Foundation
import Testing

@testable import Pipeline

/// Rules in a run over files: what they reject is a dead letter, what they count is in the summary.
@Suite struct RuleRunTests {
  @Test(arguments: [1, 3]) func rejectedRecordsAreDeadLettersAndCountedOnesAreTakenIn(_ threads: Int) throws {
    let directory = NSTemporaryDirectory() + "tieout-rules-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: directory) }
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    let configuration = try Configuration.parse(
      yaml: """
        name: rules
        tables: {customers: {entries: {C1: "", C2: ""}}}
        sources:
          orders:
            kind: orders
            fields: {order: o, event: {constant: invoiced}, event_time: t, event_id: o, customer: c,
              currency: {constant: EUR}, net: n, tax: x, gross: g}
            rules:
              - {check: net + tax = gross, name: gross adds up}
              - {field: customer, table: customers}
              - {field: net, maximum: 50, severity: count, name: large}
              - {field: net, maximum: 60, severity: flag, name: huge}
          ledger:
            kind: ledger
            fields: {order: o, role: {constant: receivable}, currency: {constant: EUR}, event_time: t, journal: j}
            amount: a
            rules: [{field: journal, pattern: 'J[0-9]+'}]
        policy: {replace_defaults: true, invoiced: {receivable: +gross}}
        """, file: "r.yaml", directory: directory)
    func order(_ key: String, _ customer: String, _ net: Int, _ gross: Int) -> String {
      #"{"o":"\#(key)","t":"2024-01-01T00:00:00Z","c":"\#(customer)","n":\#(net),"x":1,"g":\#(gross)}"#
    }
    func posting(_ key: String, _ journal: String, _ amount: Int) -> String {
      #"{"o":"\#(key)","t":"2024-01-01T00:00:00Z","j":"\#(journal)","a":\#(amount)}"#
    }
    try [order("A", "C1", 10, 11), order("B", "C1", 10, 12), order("C", "C9", 10, 11), order("D", "C2", 99, 100)]
      .joined(separator: "\n").write(toFile: directory + "/o.jsonl", atomically: true, encoding: .utf8)
    try [posting("A", "J1", 11), posting("D", "J2", 100), posting("A", "X", 5)]
      .joined(separator: "\n").write(toFile: directory + "/l.jsonl", atomically: true, encoding: .utf8)
    let summary = try FileReconciler(
      configuration: configuration,
      options: FileRunOptions(
        orders: [directory + "/o.jsonl"], ledger: [directory + "/l.jsonl"], directory: directory + "/out",
        threads: threads, now_ms: 1_790_000_000_000, asOf_ms: nil)
    ).run()
    #expect(summary.match.orderEvents == 2 && summary.match.postings == 2 && summary.openBreaks == 1)
    #expect(summary.deadLetters == ["MASTER_DATA_MISSING": 1, "SCHEMA_INVALID": 2])
    #expect(
      summary.decode.violations
        == [
          "orders: gross adds up": 1, "orders: customer": 1, "orders: large": 1, "orders: huge": 1,
          "ledger: journal": 1,
        ])
    let breaks = try String(contentsOfFile: directory + "/out/breaks.jsonl", encoding: .utf8)
    #expect(breaks.contains("D:DATA_QUALITY:receivable") && breaks.contains("1 record(s) broke huge"))
    let letters = try String(contentsOfFile: directory + "/out/dead-letters.jsonl", encoding: .utf8)
    #expect(letters.contains("rule 'gross adds up': net + tax = gross does not hold"))
    #expect(letters.contains("rule 'customer': customer is not in the table 'customers'"))
    #expect(letters.contains("rule 'journal': journal does not match J[0-9]+"))
    let json = try String(contentsOfFile: directory + "/out/summary.json", encoding: .utf8)
    #expect(json.contains(#""rules":{"ledger: journal":1,"#) && summary.table(configuration).contains("orders: large"))
  }
}
