import Decoding
import Foundation
import Testing

@testable import Configuration

@Suite struct MasterDataTests {
  let yaml = """
    name: m
    dimensions: [region]
    master_data: {enabled: true}
    tables:
      accounts: {file: accounts.csv, entries: {"9": fees}}
      fixed: {entries: {a: b}}
    sources:
      orders:
        kind: orders
        fields: {order: o, event: {constant: invoiced}, event_time: t, customer: {path: c, table: fixed}, net: n, currency: k}
        rules: [{field: customer, table: accounts}]
      ledger:
        kind: ledger
        fields: {order: o, role: {path: a, table: accounts, unlisted: skip}, currency: c, event_time: t}
        dimensions: {region: {path: r, table: accounts, unlisted: keep}}
        amount: {debit: {path: x}, credit: {path: y, table: accounts, unlisted: keep}}
    """

  func load(_ lines: [String], _ change: (String) -> String = { $0 }) throws -> Configuration {
    let directory = NSTemporaryDirectory() + "tieout-tables-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: directory) }
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    try (["account,role"] + lines).joined(separator: "\n").write(
      toFile: directory + "/accounts.csv", atomically: true, encoding: .utf8)
    return try Configuration.parse(yaml: change(yaml), file: "m.yaml", directory: directory)
  }

  @Test func anotherVersionIsThatConfigurationAsIfItHadBeenReadSo() throws {
    let old = try load(["1,receivable"])
    let new = try load(["1,revenue", "2,cash"])
    #expect(old.matchingHash != new.matchingHash)
    #expect(old.tableEntries == ["accounts": ["1": "receivable", "9": "fees"]])
    let replaced = try old.replacingTables(new.tableEntries)
    #expect(replaced.matchingHash == new.matchingHash)
    #expect(replaced.sources == new.sources)
    let ledger = replaced.sources[1].mapping
    #expect(ledger.fields["role"]?.table?.entries == ["1": "revenue", "2": "cash", "9": "fees"])
    #expect(ledger.fields["role"]?.table?.unlisted == .skip && ledger.dimensions[0]?.table?.unlisted == .keep)
    #expect(replaced.sources[0].mapping.fields["customer"]?.table?.entries == ["a": "b"])
    #expect(try old.replacingTables(old.tableEntries).matchingHash == old.matchingHash)
    #expect(throws: TableError.self) { try old.replacingTables(["accounts": ["1": "recievable"]]) }
    #expect(throws: TableError.self) { try old.rereadTables() }
  }

  @Test func whatMakesNoSenseIsRefused() throws {
    #expect(throws: ConfigurationError.self) {
      try load(["1,cash"]) { $0.replacing("accounts: {file: accounts.csv, entries", with: "accounts: {entries") }
    }
    let routed = #expect(throws: ConfigurationError.self) {
      try load(["1,cash"]) {
        $0.replacing("kind: orders", with: "kind: orders\n    routed: true").replacing(
          "{order: o, event:", with: "{order: {path: o, table: accounts}, event:")
      }
    }
    #expect(routed?.description.contains("to two partitions") == true)
  }

  @Test func aRouterFindsTheOrderWhateverTheTablesHold() throws {
    let source = try load(["1,cash"]).sources[1]
    let mapping = source.routingMapping(["accounts"])
    #expect(mapping.fields["role"]?.table?.unlisted == .replace("receivable"))
    #expect(source.routingMapping([]) == source.mapping)
    #expect(throws: Never.self) { try MappingPlan(mapping) }
  }
}
