import Configuration
import Domain
import Foundation
import Testing

@testable import Decoding
@testable import Pipeline

/// Parts of `concat` and `first` that are changed before they are put together.
@Suite struct MappingPartTests {
  /// A ledger with the field, from YAML.
  private func ledger(_ field: String, _ more: String = "", format: String = "json") throws -> Configuration {
    try Configuration.parse(
      yaml: """
        version: 1
        dimensions: [region]
        sources:
          crm: {kind: orders, fields: {order: o, event: e, event_time: t}}
          gl:
            kind: ledger
            format: \(format)
            fields:
              order: o
              role: {constant: revenue}
              currency: {constant: EUR}
              event_time: t
              \(field)
            amount: m
        \(more)
        """, file: "t.yaml", directory: "/nonexistent")
  }

  private struct Read: Equatable {
    var outcome = ""
    var period: Int32 = 0
    var document = ""
    var customer = ""
  }

  /// What a record with these columns, JSON members but for those of every record, is read as.
  private func read(_ configuration: Configuration, _ members: String) throws -> Read {
    let text = #"{"o": "1", "t": "2026-01-05T10:00:00Z", "m": 1, \#(members)}"#
    let plan = try MappingPlan(configuration.sources[1].mapping)
    let reads = [true, false].map { isQuick in
      var decoder = PostingDecoder(plan: plan, isQuick: isQuick)
      var postings = RecordBuffer<Posting>()
      var copy = text
      return copy.withUTF8 { bytes -> Read in
        do throws(DataFault) {
          let outcome = try decoder.decode(
            key: .empty, payload: ByteView(bytes), position: RecordPosition(source: 1, partition: 0, offset: 1),
            into: &postings)
          guard case .appended(1) = outcome else { return Read(outcome: "\(outcome)") }
          let posting = postings[0]
          return Read(
            outcome: "read", period: posting.period, document: posting.document.string,
            customer: posting.customer.string)
        } catch { return Read(outcome: "\(error.reason.rawValue) \(error.field): \(error.detail)") }
      }
    }
    #expect(reads[0] == reads[1])
    return reads[0]
  }

  private func problems(_ field: String, _ more: String = "") -> [String] {
    do {
      _ = try ledger(field, more)
      return []
    } catch { return "\(error)".split(separator: "\n").map(String.init) }
  }

  /// What is the same for every record says nothing alone, changed or not.
  @Test func changedConstantsSayNothingAlone() throws {
    let company = try ledger("document: {concat: [{constant: '7', pad: 4}, {constant: x, values: {x: '-'}}, d]}")
    #expect(try read(company, #""d": "9""#).document == "0007-9")
    #expect(try read(company, #""x": 1"#) == Read(outcome: "read"))
  }

  /// A year and a month of columns of their own are a period.
  @Test func aYearAndAMonthAreAPeriod() throws {
    let padded = try ledger("period: {concat: [y, {path: m2, pad: 2}]}")
    for (month, period) in [("1", 202_601), ("01", 202_601), ("12", 202_612), ("013", 0)] as [(String, Int32)] {
      let found = try read(padded, #""y": "2026", "m2": "\#(month)""#)
      #expect(found.period == period && (period == 0) == found.outcome.contains("is no accounting period"), "\(found)")
    }
    #expect(try read(padded, #""y": 2026, "m2": 7"#).period == 202_607)
    // What is not there is not padded.
    #expect(try read(padded, #""y": "2026", "m2": """#).outcome.contains("'2026' is no accounting period"))
    #expect(try read(padded, #""x": 1"#) == Read(outcome: "read"))
    let stripped = try ledger("period: {concat: [y, {path: m2, strip_leading_zeros: true, pad: 2}]}")
    #expect(try read(stripped, #""y": "2026", "m2": "013""#).period == 202_613)
    // Zeros come last, behind the table.
    let named = try ledger("period: {concat: [y, {path: m2, values: {Jan: '1', Dez: '12'}, pad: 2}]}")
    #expect(try read(named, #""y": "2026", "m2": "Jan""#).period == 202_601)
    #expect(try read(named, #""y": "2026", "m2": "Dez""#).period == 202_612)
    #expect(
      try read(named, #""y": "2026", "m2": "Mai""#).outcome
        == "MASTER_DATA_MISSING period: 'Mai' is not in the table 'sources.gl.fields.period.concat.#2'")
  }

  /// Tables of parts, and what they say of texts that they do not have.
  @Test func partsHaveTables() throws {
    let tables = "tables: {companies: {entries: {'1000': DE, '2000': FR}, unlisted: keep}}"
    func document(_ field: String, _ members: String) throws -> Read { try read(ledger(field, tables), members) }
    let joined =
      "document: {concat: [{path: b, table: companies}, {constant: '-'}, {path: d, strip_leading_zeros: true}]}"
    #expect(try document(joined, #""b": "1000", "d": "0000080015""#).document == "DE-80015")
    #expect(try document(joined, #""b": "3000", "d": "0""#).document == "3000-0")
    func unlisted(_ word: String) -> String {
      "document: {concat: [{path: b, table: companies, unlisted: \(word)}, {constant: '-'}, d]}"
    }
    #expect(try document(unlisted("skip"), #""b": "3000", "d": "1""#).outcome == "skipped")
    #expect(try document(unlisted("skip"), #""b": "2000", "d": "1""#).document == "FR-1")
    #expect(try document(unlisted("{replace: XX}"), #""b": "3000", "d": "1""#).document == "XX-1")
    #expect(
      try document(unlisted("reject"), #""b": "3000", "d": "1""#).outcome
        == "MASTER_DATA_MISSING document: '3000' is not in the table 'companies'")
    // The first that is there, in the words of one system or the other.
    let first =
      "document: {first: [{path: a, values: {x: one}}, {path: b, values: {x: two}, unlisted: keep}, {constant: none}]}"
    #expect(try document(first, #""a": "x", "b": "x""#).document == "one")
    #expect(try document(first, #""a": null, "b": "x""#).document == "two")
    #expect(try document(first, #""b": "y""#).document == "y" && document(first, #""z": 1"#).document == "none")
    // Parts of parts; what is put together is changed too.
    let nested = "document: {concat: [{concat: [a, b], values: {xy: both}}, {constant: '/'}, {first: [c, d], pad: 4}]}"
    #expect(try document(nested, #""a": "x", "b": "y", "d": "12""#).document == "both/0012")
    // With an escape in it, and beyond ASCII, where a sign is not a byte.
    let wide = "document: {concat: [{path: a, pad: 4}]}"
    #expect(try document(wide, #""a": "\u00e4ö""#).document == "00äö")
    // The field's own table sees what the parts have become.
    let both = "document: {concat: [{path: a, values: {x: y}}], values: {y: z}}"
    #expect(try document(both, #""a": "x""#).document == "z")
  }

  /// A masked field shows nothing of what its parts' tables do not have.
  @Test func maskedPartsAreNotShown() throws {
    var configuration = try ledger("customer: {concat: [{path: a, values: {x: y}}]}")
    configuration.sources[1].mapping.fields["customer"]!.mask = .redact
    #expect(
      try read(configuration, #""a": "secret""#).outcome
        == "MASTER_DATA_MISSING customer: the value (masked) is not in the table 'sources.gl.fields.customer.concat.#1'"
    )
    #expect(try read(configuration, #""a": "x""#).customer == "(redacted)")
  }

  /// Such a posting reverses nothing where a part is missing, changed or not.
  @Test func partsOfIdsAreParts() throws {
    let configuration = try ledger("reverses: {concat: [b, {constant: '-'}, {path: s, strip_leading_zeros: true}]}")
    let mapping = configuration.sources[1].mapping
    #expect(mapping.fields["reverses"]?.value.paths == ["b", "s"])
    var decoder = PostingDecoder(plan: try MappingPlan(mapping))
    for (s, reverses) in [("", ""), ("007", "1000-7")] {
      var postings = RecordBuffer<Posting>()
      var text = #"{"o": "1", "t": "2026-01-05T10:00:00Z", "m": 1, "b": "1000", "s": "\#(s)"}"#
      try text.withUTF8 {
        _ = try decoder.decode(
          key: .empty, payload: ByteView($0), position: RecordPosition(source: 1, partition: 0, offset: 1),
          into: &postings)
      }
      #expect(postings[0].reverses.string == reverses)
    }
  }

  /// What is wrong is said where it stands, and what a part can have is named.
  @Test func slipsInPartsAreFound() throws {
    let keys = "path, constant, concat, first, sum, values, table, unlisted, strip_leading_zeros, pad"
    for (field, message) in [
      (
        "document: {concat: [{path: a, default: x}]}",
        "t.yaml:13:37: unknown key 'default' in sources.gl.fields.document.concat.#1: a part of concat or first can have "
          + keys
      ),
      (
        "document: {concat: [{path: a, valeus: {x: y}}]}",
        "t.yaml:13:37: unknown key 'valeus' in sources.gl.fields.document.concat.#1; did you mean 'values'?"
      ),
      (
        "document: {concat: [{path: a, table: companis}]}",
        "t.yaml:13:44: sources.gl.fields.document.concat.#1: no table 'companis'; did you mean 'companies'?"
      ),
      (
        "document: {concat: [{table: companies}]}",
        "t.yaml:13:27: sources.gl.fields.document.concat.#1: one of path, constant, concat, first, sum is needed"
      ),
      (
        "document: {concat: [{path: a, first: [b]}]}",
        "t.yaml:13:37: sources.gl.fields.document.concat.#1: only one of path, constant, concat, first, sum"
      ),
      (
        "document: {concat: [{path: a, pad: 0}]}",
        "t.yaml:13:42: sources.gl.fields.document.concat.#1.pad: a whole number from 1 to 64 is expected, not '0'"
      ),
      (
        "document: {concat: [{path: a, unlisted: keep}]}",
        "t.yaml:13:47: sources.gl.fields.document.concat.#1: 'unlisted' without 'values' or 'table'"
      ),
      (
        "document: {path: a, pad: 2}",
        "t.yaml:13:27: unknown key 'pad' in sources.gl.fields.document: a part of concat or first can have it"
      ),
    ] {
      #expect(problems(field, "tables: {companies: {entries: {a: b}}}") == [message], "\(field)")
    }
  }

  /// A role of a part's table that is none.
  @Test func wordsOfTheDomainAreCheckedInParts() {
    let yaml = """
      version: 1
      sources:
        crm: {kind: orders, fields: {order: o, event: {first: [{path: e, values: {a: invoised}}, {constant: paid}]}, event_time: t}}
        gl: {kind: ledger, fields: {order: o, role: r, currency: c, event_time: t}, amount: m}
      """
    #expect(throws: ConfigurationError.self) {
      _ = try Configuration.parse(yaml: yaml, file: "t.yaml", directory: ".")
    }
    #expect(throws: Never.self) {
      _ = try Configuration.parse(yaml: yaml.replacing("invoised", with: "invoiced"), file: "t.yaml", directory: ".")
    }
  }

  /// The settings of parts decide what is read; they come back from the effective configuration.
  @Test func partsAreInEffectAndInTheHash() throws {
    let field = "document: {concat: [{path: a, table: companies, unlisted: keep}, {path: b, values: {x: y}, pad: 3}]}"
    let more = "tables: {companies: {entries: {a: b}}}"
    let configuration = try ledger(field, more)
    #expect(
      try Configuration.parse(yaml: configuration.effectiveYAML(), file: "t.yaml", directory: "/nonexistent")
        == configuration)
    let hashes = try [
      field, field.replacing("pad: 3", with: "pad: 4"), field.replacing("x: y", with: "x: z"),
      field.replacing(", unlisted: keep", with: ""), "document: {concat: [a, b]}",
      field.replacing("pad: 3", with: "strip_leading_zeros: true"),
    ].map { try ledger($0, more).matchingHash }
    #expect(Set(hashes).count == hashes.count)
    // A part without settings of its own is what it was.
    #expect(
      try ledger("document: {concat: [a, {path: b}]}").sources
        == ledger("document: {concat: [{path: a}, b]}").sources)
  }

  /// Tables that change are replaced in parts too, and a router finds the order without them.
  @Test func tablesOfPartsAreFollowed() throws {
    let directory = NSTemporaryDirectory() + "tieout-part-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: directory) }
    try "from,to\n1000,DE\n".write(toFile: directory + "/c.csv", atomically: true, encoding: .utf8)
    try "from,to\nT,tax\n".write(toFile: directory + "/r.csv", atomically: true, encoding: .utf8)
    func parse(_ order: String) throws -> Configuration {
      try Configuration.parse(
        yaml: """
          version: 1
          tables: {companies: {file: c.csv}, roles: {file: r.csv}}
          master_data: {enabled: true}
          sources:
            crm: {kind: orders, fields: {order: o, event: e, event_time: t}}
            gl:
              kind: ledger
              routed: true
              fields:
                order: \(order)
                role: {first: [{path: r, table: roles}, {constant: revenue}]}
                currency: {constant: EUR}
                event_time: t
                document: {concat: [{path: b, table: companies}, d]}
              amount: m
          """, file: "t.yaml", directory: directory)
    }
    let old = try parse("o")
    let role = #""r": """#
    #expect(try read(old, #""b": "1000", "d": "1", \#(role)"#).document == "DE1")
    #expect(try read(old, #""b": "2000", "d": "1", \#(role)"#).outcome.hasPrefix("MASTER_DATA_MISSING document"))
    let next = try old.replacingTables(["companies": ["1000": "DE", "2000": "FR"]])
    #expect(try read(next, #""b": "2000", "d": "1", \#(role)"#).document == "FR1")
    #expect(next.matchingHash != old.matchingHash)
    var routing = old
    routing.sources[1].mapping = old.sources[1].routingMapping(["companies", "roles"])
    #expect(try read(routing, #""b": "2000", "d": "1", "r": "new""#).outcome == "read")
    do {
      _ = try parse("{concat: [{path: b, table: companies}, o]}")
      Issue.record("an order that goes through a table")
    } catch { #expect("\(error)".contains("the order of the routed source 'gl' goes through the table 'companies'")) }
    #expect(
      CatalogWords.uses("companies", old) == ["document of gl"] && CatalogWords.uses("roles", old) == ["role of gl"])
    // A role that is none is refused in a part too.
    #expect(throws: MasterDataError.self) { try old.replacingTables(["roles": ["T": "taxes"]]) }
  }

  /// A part's tables are in the catalog.
  @Test func partsAreInTheCatalog() throws {
    let configuration = try ledger(
      "document: {concat: [{path: b, values: {x: y}}, {constant: '-'}, {path: d, strip_leading_zeros: true, pad: 4}]}")
    #expect(
      Catalog(configuration).sources[1].fields.first { $0.name == "document" }?.rule
        == "b (x → y, others to dead letters) & the text '-' & d without leading zeros, with zeros to 4 characters")
  }
}
