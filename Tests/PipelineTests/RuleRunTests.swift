import Configuration
import Domain
import Foundation
import Testing

@testable import Pipeline

/// Rules in a run over files: what they reject is a dead letter, what they count is in the summary.
@Suite struct RuleRunTests {
  @Test(arguments: [1, 3]) func rejectedRecordsAreDeadLettersAndCountedOnesAreTakenIn(_ threads: Int) throws {
    let scratch = Scratch()
    defer { withExtendedLifetime(scratch) {} }
    let directory = scratch.path
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

  /// A row that moved to another order is two facts, and a rule that refuses it refuses both: the order that it was of
  /// keeps it.
  @Test func aMovedRowIsRefusedAsAWhole() throws {
    let scratch = Scratch()
    defer { withExtendedLifetime(scratch) {} }
    let directory = scratch.path
    let configuration = try Configuration.parse(
      yaml: """
        name: moved
        tables: {customers: {entries: {C1: "", C2: ""}}}
        sources:
          orders:
            kind: orders
            format: debezium
            fields: {order: o, event: {constant: invoiced}, event_time: {path: $.ts_ms, format: epoch_ms}, event_id: i, customer: c,
              currency: {constant: EUR}, gross: g}
            rules: [{field: customer, table: customers}]
          ledger:
            kind: ledger
            fields: {order: o, role: {constant: receivable}, currency: {constant: EUR}, event_time: t}
            amount: a
        policy: {replace_defaults: true, invoiced: {receivable: +gross}}
        """, file: "m.yaml", directory: directory)
    func row(_ order: String, _ customer: String) -> String { #"{"o":"\#(order)","i":"I1","c":"\#(customer)","g":11}"# }
    func run(_ customer: String) throws -> (summary: RunSummary, breaks: String) {
      try [
        #"{"op":"c","ts_ms":1704067200000,"before":null,"after":\#(row("A", "C1"))}"#,
        #"{"op":"u","ts_ms":1704067260000,"before":\#(row("A", "C1")),"after":\#(row("B", customer))}"#,
      ].joined(separator: "\n").write(toFile: directory + "/o.jsonl", atomically: true, encoding: .utf8)
      try #"{"o":"A","t":"2024-01-01T00:00:00Z","a":11}"#
        .write(toFile: directory + "/l.jsonl", atomically: true, encoding: .utf8)
      let summary = try FileReconciler(
        configuration: configuration,
        options: FileRunOptions(
          orders: [directory + "/o.jsonl"], ledger: [directory + "/l.jsonl"], directory: directory + "/out",
          threads: 1, now_ms: 1_790_000_000_000, asOf_ms: nil)
      ).run()
      return (summary, try String(contentsOfFile: directory + "/out/breaks.jsonl", encoding: .utf8))
    }
    let refused = try run("C9")
    #expect(refused.summary.match.orderEvents == 1 && refused.summary.openBreaks == 0, "\(refused.breaks)")
    #expect(refused.summary.deadLetters == ["MASTER_DATA_MISSING": 1])
    let moved = try run("C2")
    #expect(moved.summary.match.orderEvents == 3 && moved.summary.deadLetters == [:])
    #expect(moved.breaks.contains(#""order":"B""#) && moved.breaks.contains(#""order":"A""#))
  }

  /// A payment that stands twice under other orders: the later one is a break, whatever file or thread it comes from.
  @Test(arguments: [1, 3], [false, true]) func valuesThatStandTwiceAreBreaks(_ threads: Int, isTurned: Bool) throws {
    let scratch = Scratch()
    defer { withExtendedLifetime(scratch) {} }
    let directory = scratch.path
    let configuration = try Configuration.parse(
      yaml: """
        name: unique
        dimensions: [region]
        sources:
          orders:
            kind: orders
            fields: {order: o, event: {path: k}, event_time: t, event_id: i, document: d, currency: {constant: EUR}, applied: a}
            dimensions: {region: r}
            rules:
              - {field: document, unique: 2d, when: [paid], severity: flag, name: payment}
              - {field: event_id, unique: 1h, severity: count}
          ledger:
            kind: ledger
            fields: {order: o, role: {constant: cash}, currency: {constant: EUR}, event_time: t, journal: j, document: d,
              reverses: v}
            amount: a
            rules: [{field: document, unique: 30d, severity: flag, name: bank reference}]
        policy: {replace_defaults: true, paid: {cash: +applied}}
        """, file: "u.yaml", directory: directory)
    func event(_ order: String, _ id: String, _ document: String, _ day: Int, _ kind: String = "paid") -> String {
      #"{"o":"\#(order)","k":"\#(kind)","i":"\#(id)","d":"\#(document)","r":"north","t":"2024-01-0\#(day)T00:00:00Z","a":5}"#
    }
    func line(_ order: String, _ journal: String, _ document: String, _ day: Int, _ reverses: String = "") -> String {
      #"{"o":"\#(order)","j":"\#(journal)","d":"\#(document)","v":"\#(reverses)","t":"2024-01-0\#(day)T00:00:00Z","a":5}"#
    }
    let orders = [
      event("A", "e1", "P1", 1), event("B", "e2", "P1", 3), event("C", "e3", "P1", 6), event("A", "e1", "P1", 1),
      event("D", "e4", "P1", 2, "booked"), event("E", "e5", "", 1), event("F", "e6", "", 1),
    ]
    let ledger = [
      line("A", "J1", "P1", 1), line("B", "J1", "P1", 1), line("B", "J2", "P1", 3), line("C", "J3", "P1", 6, "J2"),
    ]
    for (name, lines) in [("o", orders), ("l", ledger)] {
      try (isTurned ? lines.reversed() : lines).joined(separator: "\n").write(
        toFile: "\(directory)/\(name).jsonl", atomically: true, encoding: .utf8)
    }
    let summary = try FileReconciler(
      configuration: configuration,
      options: FileRunOptions(
        orders: [directory + "/o.jsonl"], ledger: [directory + "/l.jsonl"], directory: directory + "/out",
        threads: threads, now_ms: 1_790_000_000_000, asOf_ms: nil)
    ).run()
    #expect(summary.decode.violations == ["orders: payment": 1, "ledger: bank reference": 1])
    #expect(summary.duplicateValues == 2 && summary.droppedValues == 0 && !summary.tiesOut)
    let breaks = try String(contentsOfFile: directory + "/out/breaks.jsonl", encoding: .utf8).split(separator: "\n")
      .map { try JSONDecoder().decode(BreakMessage.self, from: Data($0.utf8)) }
    let found = breaks.filter { UniqueValues.isUnique(id: $0.id, order: $0.order) }
    #expect(found.map(\.order) == ["B", "B"] && found.allSatisfy { $0.type == "DATA_QUALITY" && $0.isOpen })
    let text = try String(contentsOfFile: directory + "/out/breaks.jsonl", encoding: .utf8)
    let (first, second) = isTurned ? (7, 6) : (1, 2)
    let repeated = isTurned ? 4 : 4
    #expect(
      text.contains(
        "rule 'payment': document of \(directory)/o.jsonl, line \(second) is that of \(directory)/o.jsonl, line "
          + "\(isTurned ? first : repeated) already, of order A"), "\(text)")
    #expect(
      text.contains("rule 'bank reference': document of \(directory)/l.jsonl, line \(isTurned ? 2 : 3) is that of"))
    #expect(summary.match.open[BreakType.dataQuality.index] == 2)
  }
}
