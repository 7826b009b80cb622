import Configuration
import Domain
import Foundation
import Testing

@testable import Decoding
@testable import Pipeline

/// Amounts that are the sum of a field of nested lines.
@Suite struct MappingSumTests {
  private func orders(_ field: String, format: String = "json", rules: String = "[]") throws -> Configuration {
    try Configuration.parse(
      yaml: """
        version: 1
        sources:
          crm:
            kind: orders
            format: \(format)
            fields:
              order: o
              event_id: i
              event: {constant: credited}
              event_time: t
              currency: c
              \(field)
            rules: \(rules)
          gl: {kind: ledger, fields: {order: o, role: r, currency: c, event_time: t}, amount: m}
        """, file: "t.yaml", directory: "/nonexistent")
  }

  private func problem(_ field: String, format: String = "json") -> String {
    do {
      _ = try orders(field, format: format)
      return ""
    } catch { return "\(error)" }
  }

  private func members(_ lines: String, currency: String = "EUR") -> String {
    #"{"o": "1", "i": "7", "t": "2026-01-05T10:00:00Z", "c": "\#(currency)", \#(lines)}"#
  }

  /// The tax in minor units, or what is wrong; `none` where it is absent.
  private func tax(_ field: String, _ lines: String, currency: String = "EUR") throws -> String {
    try read(orders(field), members(lines, currency: currency)) {
      $0.amounts.contains(.tax) ? "\($0.amounts[.tax])" : "none"
    }.joined(separator: ";")
  }

  private func read(
    _ configuration: Configuration, _ text: String, _ words: (OrderEvent) -> String
  ) throws -> [String] {
    let plan = try MappingPlan(configuration.sources[0].mapping)
    let reads = [true, false].map { isQuick in
      var decoder = OrderDecoder(plan: plan, isQuick: isQuick)
      // Twice: the second record takes the way that the first has laid out.
      var found: [String] = []
      for _ in 0..<2 {
        var events = RecordBuffer<OrderEvent>()
        var copy = text
        found = copy.withUTF8 { bytes in
          do throws(DataFault) {
            _ = try decoder.decode(
              key: .empty, payload: ByteView(bytes), position: RecordPosition(source: 0, partition: 0, offset: 1),
              into: &events)
            return (0..<events.count).map { words(events[$0]) }
          } catch { return ["\(error.reason.rawValue) \(error.field): \(error.detail)"] }
        }
      }
      return found
    }
    #expect(reads[0] == reads[1])
    return reads[0]
  }

  @Test func linesAddUp() throws {
    let sum = "tax: {sum: 'lines[].money.tax'}"
    for (lines, found) in [
      (#""lines": [{"money": {"tax": 1.10}}, {"x": 1, "money": {"tax": "2.05"}}]"#, "315"),
      (#""lines": [{"money": {"tax": "-1.10"}}, {"money": {"tax": 0.10}}]"#, "-100"),
      // Binary noise is rounded away, to millionths.
      (#""lines": [{"money": {"tax": 0.1}}, {"money": {"tax": 0.20000000000000001}}]"#, "30"),
      (#""lines": [{"money": {}}, {"money": {"tax": null}}, {"money": {"tax": 3}}]"#, "300"),
      (#""lines": []"#, "0"), (#""lines": null"#, "none"), (#""n": 1"#, "none"),
    ] {
      #expect(try tax(sum, lines) == found, "\(lines)")
    }
    #expect(
      try tax(sum, #""lines": [{"money": {"tax": "x"}}]"#)
        == "NON_DECIMAL_AMOUNT tax: in lines[].money.tax is something that is no amount")
    #expect(
      try tax(sum, #""lines": [{"money": {"tax": 1.005}}, {"money": {"tax": 1.001}}]"#)
        == "NON_DECIMAL_AMOUNT tax: '2.006' has more decimals than EUR")
    #expect(try tax("tax: {sum: 'a.b[]'}", #""a": {"b": [1, 2.5, "3"]}"#) == "650")
  }

  /// How lines are written is that of the field; what is done to the amount is done to the sum.
  @Test func writingHoldsForTheLines() throws {
    let decimal = "tax: {sum: 'l[].t', decimal: {separator: ',', grouping: '.', trailing_minus: true, negate: true}}"
    #expect(try tax(decimal, #""l": [{"t": "1.000,50"}, {"t": "0,25-"}, {"t": 1.5}]"#) == "-100175")
    #expect(
      try tax("tax: {sum: 'l[].t', decimal: {rounding: half_up}}", #""l": [{"t": 1.005}, {"t": 1.002}]"#) == "201")
    #expect(try tax("tax: {sum: 'l[].t', decimal: {implied_decimals: 3}}", #""l": [{"t": 1230}, {"t": 20}]"#) == "125")
    let minor = "tax: {sum: 'l[].t', decimal: {implied_decimals: currency}}"
    #expect(try tax(minor, #""l": [{"t": 685606}, {"t": 4}]"#, currency: "JPY") == "685610")
    #expect(try tax(minor, #""l": [{"t": 685606}, {"t": "4"}]"#) == "685610")
    #expect(try tax(minor, #""l": [{"t": 1.5}]"#).hasPrefix("NON_DECIMAL_AMOUNT tax: '1.5' is no decimal amount"))
  }

  /// An amount of the record, or else what its lines add up to; how it is written holds for both.
  @Test func sumsStandInForAmounts() throws {
    let first =
      "tax: {first: [x, {first: [y, {sum: 'l[].t'}]}], decimal: {separator: ',', grouping: '.'}, default: '7,5'}"
    for (lines, found) in [
      (#""x": "1,25", "l": [{"t": "9"}]"#, "125"), (#""x": "", "l": [{"t": "1.000,25"}, {"t": 0.5}]"#, "100075"),
      // An escape makes a text of its own.
      (#""x": "\u0031,25", "l": [{"t": "9"}]"#, "125"), (#""y": 1.25, "l": [{"t": "9"}]"#, "125"), (#""z": 1"#, "750"),
      (#""x": "1.25", "l": [{"t": "9"}]"#, "NON_DECIMAL_AMOUNT tax: '1.25' is no decimal amount"),
    ] {
      #expect(try tax(first, lines) == found, "\(lines)")
    }
    #expect(
      try tax("tax: {first: [x, {sum: 'l[].t'}]}\n      net: {sum: 'l[].n'}", #""l": [{"t": 1, "n": 5}]"#) == "100")
    // The text of a sum is not taken for that of a later record.
    let configuration = try orders(first)
    var decoder = OrderDecoder(plan: try MappingPlan(configuration.sources[0].mapping))
    var found: [Int64] = []
    for lines in [#""l": [{"t": "3,25"}]"#, #""x": "\u0033,25""#, #""x": "\u0034,25", "l": [{"t": 1}]"#] {
      var events = RecordBuffer<OrderEvent>()
      var text = members(lines)
      try text.withUTF8 {
        _ = try decoder.decode(
          key: .empty, payload: ByteView($0), position: RecordPosition(source: 0, partition: 0, offset: 1),
          into: &events)
      }
      found.append(events[0].amounts[.tax])
    }
    #expect(found == [325, 325, 425])
  }

  @Test func quantitiesAndPostingsAddUpToo() throws {
    let text = members(#""l": [{"q": 1.5}, {"q": "2"}]"#)
    #expect(try read(orders("quantity: {sum: 'l[].q'}"), text) { "\($0.quantity_u)" } == ["3500000"])
    let yaml = """
      version: 1
      sources:
        crm: {kind: orders, fields: {order: o, event: e, event_time: t}}
        gl: {kind: ledger, fields: {order: o, role: {constant: tax}, currency: c, event_time: t}, amount: {sum: 'l[].m'}}
      """
    let configuration = try Configuration.parse(yaml: yaml, file: "t.yaml", directory: ".")
    var decoder = PostingDecoder(plan: try MappingPlan(configuration.sources[1].mapping))
    for (lines, amount) in [("[{\"m\": 1.25}, {\"m\": 2}]", 325), ("null", nil)] as [(String, Int64?)] {
      var postings = RecordBuffer<Posting>()
      var text = members(#""l": \#(lines)"#)
      let found = text.withUTF8 { bytes in
        do throws(DataFault) {
          _ = try decoder.decode(
            key: .empty, payload: ByteView(bytes), position: RecordPosition(source: 1, partition: 0, offset: 1),
            into: &postings)
          return "\(postings[0].amount)"
        } catch { return error.detail }
      }
      #expect(found == amount.map { "\($0)" } ?? "is missing")
    }
  }

  /// Of a change feed the image that is read, in the envelope with its schema or without.
  @Test func changeFeedsHaveLines() throws {
    let configuration = try orders("tax: {sum: 'l[].t'}", format: "debezium")
    let row = members(#""l": [{"t": 1.25}, {"t": 2}]"#)
    let old = members(#""l": [{"t": 9}]"#)
    let change = #"{"op": "u", "before": \#(old), "after": \#(row)}"#
    for text in [change, #"{"schema": {}, "payload": \#(change)}"#] {
      let found = try read(configuration, text) { $0.amounts.contains(.tax) ? "\($0.amounts[.tax])" : "none" }
      #expect(found.contains("325") && !found.contains("none"), "\(found)")
    }
  }

  @Test func whatCannotBeSummedIsSaid() {
    let place = "t.yaml:12:22: sources.crm.fields.tax.sum: "
    for (field, message) in [
      (
        "tax: {sum: lines.tax}",
        "t.yaml:12:20: sources.crm.fields.tax.sum: an array ('[]') is expected, as in sum(lines[].net)"
      ),
      ("tax: {sum: 'lines[].tax[].x'}", place + "one array alone is expected, as in sum(lines[].net)"),
    ] {
      let found = problem(field)
      #expect(
        found.hasPrefix(message.prefix(10)) && found.hasSuffix(message.drop { $0 != " " }.dropFirst()), "\(found)")
    }
    #expect(
      problem("customer: {sum: 'l[].t'}").hasSuffix(
        "sources.crm.fields.customer: a sum of lines is for amounts and quantities"))
    #expect(problem("customer: {first: [c, {sum: 'l[].t'}]}").hasSuffix("is for amounts and quantities"))
    #expect(problem("tax: {sum: 'l[].t'}", format: "csv").contains("sums over lines are for json and debezium"))
    for part in [
      "concat: [x, {sum: 'l[].t'}]", "first: [{sum: 'l[].t', pad: 2}]", "concat: [{first: [{sum: 'l[].t'}]}]",
    ] {
      #expect(problem("tax: {\(part)}").hasSuffix("field 'tax': a sum over lines is an amount, and no part of a text"))
    }
    // A path that would be one of a sum says so.
    #expect(
      problem("tax: 'lines[].tax'").hasSuffix(
        "'lines[].tax': an array index in brackets is expected ({sum: 'lines[].tax'} adds all elements up)"))
  }

  @Test func sumsAreInEffectInTheHashAndInTheCatalog() throws {
    let configuration = try orders("tax: {sum: \"'a.b'.lines[].money.tax\", decimal: {negate: true}}")
    #expect(
      try Configuration.parse(yaml: configuration.effectiveYAML(), file: "t.yaml", directory: "/nonexistent")
        == configuration)
    let hashes = try ["tax: {sum: 'l[].t'}", "tax: {sum: 'l[].u'}", "tax: l"].map { try orders($0).matchingHash }
    #expect(Set(hashes).count == 3)
    let rule = Catalog(configuration).sources[0].fields.first { $0.name == "tax" }?.rule
    #expect(rule == "sum of 'a.b'.lines[].money.tax, negated")
  }

  /// A sum that leads to nothing is told like a path that does.
  @Test func sumsThatLeadToNothingAreTold() throws {
    for (sum, isMissing) in [
      ("l[].t", false), ("l[].x", true), ("m[].t", true), ("x or l[].t", false), ("c or l[].x", false),
      ("x or l[].x", true),
    ] {
      let parts = sum.split(separator: " or ")
      let field = parts.count == 1 ? "tax: {sum: '\(sum)'}" : "tax: {first: [\(parts[0]), {sum: '\(parts[1])'}]}"
      let configuration = try orders(field)
      var decoder = OrderDecoder(plan: try MappingPlan(configuration.sources[0].mapping))
      for _ in 0..<3 {
        var events = RecordBuffer<OrderEvent>()
        var text = members(#""l": [{"t": 1.25}]"#)
        // An amount that is none is a dead letter, and looked at all the same.
        text.withUTF8 {
          _ = try? decoder.decode(
            key: .empty, payload: ByteView($0), position: RecordPosition(source: 0, partition: 0, offset: 1),
            into: &events)
        }
      }
      let missing = decoder.pathCounts.missing
      #expect(missing.contains { $0.field == "tax" && $0.path == sum } == isMissing, "\(missing)")
    }
  }

  /// Rules over lines hold beside it.
  @Test func rulesAndFieldsReadTheSameLines() throws {
    let configuration = try orders(
      "net: n\n      tax: {sum: 'l[].t', decimal: {separator: ','}}",
      rules: #"[{check: "sum(l[].t) = tax"}, {name: net, check: "sum(l[].n) = net"}]"#)
    let folder = NSTemporaryDirectory() + "tieout-sum-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let right = members(#""n": 5, "l": [{"t": "1,25", "n": 2}, {"t": "2,00", "n": 3}]"#)
    let wrong = members(#""n": 6, "l": [{"t": "1,25", "n": 2}, {"t": "2,00", "n": 3}]"#)
    try (right + "\n" + wrong + "\n").write(toFile: folder + "/o.jsonl", atomically: true, encoding: .utf8)
    let summary = try FileReconciler(
      configuration: configuration,
      options: FileRunOptions(
        orders: [folder + "/o.jsonl"], ledger: [], directory: folder + "/out", threads: 1,
        now_ms: Timestamps.parse("2026-06-01T00:00:00Z")!)
    ).run()
    let letters = try String(contentsOfFile: folder + "/out/dead-letters.jsonl", encoding: .utf8)
    #expect(summary.decode.records == 2 && letters.split(separator: "\n").count == 1 && letters.contains("net"))
    #expect(summary.totals.lines.first { $0.role == AccountRole.tax }?.expected == 325)
  }
}
