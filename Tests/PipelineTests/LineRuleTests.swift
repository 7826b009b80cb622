import Configuration
import Decoding
import Domain
import Foundation
import Testing

@testable import Pipeline

/// Rules about the nested lines of a record: Σ lines = header, and a journal that balances in one message.
@Suite struct LineRuleTests {
  func configuration(_ check: String, format: String = "json", more: String = "") throws -> Configuration {
    try Configuration.parse(
      yaml: """
        name: l
        sources:
          orders:
            kind: orders
            format: \(format)
            fields: {order: o, event: {constant: invoiced}, event_time: t, event_id: i, currency: c,
              net: {path: n, decimal: {rounding: half_up}}}
            rules: [{check: '\(check)', name: lines\(more)}]
          ledger:
            kind: ledger
            fields: {order: o, role: {constant: receivable}, currency: c, event_time: t}
            amount: {path: a, decimal: {separator: ","}}
            rules: [{check: 'sum(lines[].debit) = sum(lines[].credit)', name: balance}]
        """, file: "l.yaml", directory: ".")
  }

  /// What one record of a source comes to: nothing, or the fault.
  func fault(_ configuration: Configuration, source: Int = 0, _ json: String) throws -> DataFault? {
    let settings = configuration.sources[source]
    let lane = Lane(try MappingPlan(settings.mapping), rules: settings.rules)
    return Array(json.utf8).withUnsafeBufferPointer {
      lane.decode(
        key: .empty, payload: ByteView($0), position: RecordPosition(source: UInt16(source), partition: 0, offset: 0))
    }
  }

  func order(_ net: String, _ lines: String, currency: String = "EUR") -> String {
    #"{"x":{"lines":[{"net":9}]},"o":"A","t":"2024-01-01T00:00:00Z","c":"\#(currency)","n":\#(net)\#(lines)}"#
  }

  @Test func theLinesAreTheHeader() throws {
    let plain = try configuration("sum(lines[].net) = net")
    for (net, lines, holds) in [
      ("30", #","lines":[{"net":10},{"q":"] } \" ,","net":20}]"#, true),
      ("30.01", #","lines":[{"net":10},{"net":20}]"#, false),
      ("29.99", #","lines":[{"net":10},{"net":20}]"#, false),
      // Text, exponents, spaces, names with escapes, other keys, deeper ones of the same name.
      ("30.5", #", "lines" : [ {"z":{"net":4}, "\u006eet" : "10.50" } , { "net" : 2e1, "k":[{"net":1}] } ] "#, true),
      ("-5", #","lines":[{"net":-7.5},{"net":2.5}]"#, true),
      // What is not there adds nothing; without lines there is nothing to compare, an empty list is zero.
      ("10", #","lines":[{"net":10},{"net":null},{"net":""},{},null]"#, true),
      ("10", "", true), ("10", #","lines":null"#, true), ("10", #","lines":[]"#, false), ("0", #","lines":[]"#, true),
      // What is no amount breaks the rule.
      ("10", #","lines":[{"net":10},{"net":"x"}]"#, false), ("10", #","lines":[{"net":10},{"net":{}}]"#, false),
      ("10", #","lines":{"net":10}"#, false), ("10", #","lines":[10]"#, false),
      ("10", #","lines":[{"net":10},{"net":true}]"#, false), ("10", #","lines":[{"net":10,"net":10}]"#, false),
      // Exact: a third of a cent three times is a cent, and noise of a binary number is none.
      ("0.03", #","lines":[{"net":0.01},{"net":0.009999999999},{"net":0.0100000000001}]"#, true),
    ] {
      let fault = try fault(plain, order(net, lines))
      #expect((fault == nil) == holds, "\(net) \(lines): \(fault.map { "\($0)" } ?? "holds")")
      if let fault { #expect(fault.reason == .schemaInvalid && fault.detail.contains("rule 'lines'")) }
    }
    // By the minor unit of the currency.
    #expect(try fault(plain, order("1500", #","lines":[{"net":1000},{"net":500}]"#, currency: "JPY")) == nil)
    #expect(try fault(plain, order("1.234", #","lines":[{"net":1},{"net":0.234}]"#, currency: "KWD")) == nil)
  }

  @Test func toleranceSeverityAndPlace() throws {
    let near = try configuration("sum(head.lines[].a.b) = net", more: ", tolerance: 0.02")
    let lines = #","head":{"lines":[{"a":{"b":10}},{"a":{"b":20}}]}"#
    for (net, holds) in [("30.02", true), ("29.98", true), ("30.03", false), ("29.97", false)] {
      #expect((try fault(near, order(net, lines)) == nil) == holds, "\(net)")
    }
    let flagged = try configuration("2 * sum(v[]) >= net", more: ", severity: flag")
    let settings = flagged.sources[0]
    let lane = OrderLane(plan: try MappingPlan(settings.mapping), rules: settings.rules, schemas: nil)
    for (offset, text) in [order("6", #","v":[1,2]"#), order("7", #","v":[1,2]"#)].enumerated() {
      Array(text.utf8).withUnsafeBufferPointer {
        let position = RecordPosition(source: 0, partition: 0, offset: Int64(offset))
        #expect(lane.decode(key: .empty, payload: ByteView($0), position: position) == nil)
        #expect(lane.records[offset].brokenRules == UInt16(offset))
      }
    }
    #expect(flagged.policy.flagNames.first == ["lines"])
  }

  /// Whatever else stands in the check; an empty array is lines that add up to zero.
  @Test func withoutLinesThereIsNothingToCompare() throws {
    let mixed = try configuration("sum(lines[].net) + 1 * net = 2 * net")
    for (lines, holds) in [
      ("", true), (#","lines":null"#, true), (#","lines":[]"#, false), (#","lines":[{"net":10}]"#, true),
    ] {
      #expect((try fault(mixed, order("10", lines)) == nil) == holds, "\(lines)")
    }
  }

  /// An amount that is rounded is compared with lines that are.
  @Test func aSumIsRoundedLikeTheAmount() throws {
    let plain = try configuration("sum(lines[].net) = net")
    for (net, lines, holds) in [
      ("10.004", "10.004", true), ("10.005", "10.005", true), ("-10.005", "-10.005", true), ("10.01", "10.004", false),
      ("10.005", "5.0025},{\"net\":5.0025", true), ("10.016", "10.02", true),
    ] {
      let fault = try fault(plain, order(net, #","lines":[{"net":\#(lines)}]"#))
      #expect((fault == nil) == holds, "\(net) \(lines): \(fault as Any)")
    }
    #expect(try fault(plain, order("10.5", #","lines":[{"net":10.5}]"#, currency: "JPY")) == nil)
    var sum = LineSum()
    for (rounding, value, rounded) in [
      (RoundingRule.halfEven, 25_000, 20_000), (.halfEven, 35_000, 40_000), (.halfEven, -25_001, -30_000),
      (.halfUp, -25_000, -30_000), (.down, -29_999, -20_000), (.refuse, 25_001, 25_001),
    ] as [(RoundingRule, Int128, Int128)] {
      (sum.rounding, sum.value_u) = (rounding, value)
      #expect(sum.rounded_u(Currency("EUR")!) == rounded, "\(rounding) \(value)")
    }
  }

  /// The mapping's separators are those of texts; a number is written as JSON has it.
  @Test func numbersAmongTheLinesAreNumbers() throws {
    let configuration = try configuration("sum(lines[].net) = net")
    let journal =
      #"{"o":"A","t":"2024-01-01T00:00:00Z","c":"EUR","a":10.5,"lines":[{"debit":10.5},{"debit":"5,50"},{"credit":16}]}"#
    #expect(try fault(configuration, source: 1, journal) == nil)
  }

  @Test func anEnvelopeIsLookedInto() throws {
    let change = try configuration("sum(lines[].net) = net", format: "debezium")
    for (net, holds) in [("30", true), ("31", false)] {
      let image = order(net, #","lines":[{"net":10},{"net":20}]"#)
      let envelope = #"{"lines":[{"net":1}],"before":null,"after":\#(image),"op":"c"}"#
      #expect((try fault(change, envelope) == nil) == holds)
      #expect((try fault(change, #"{"schema":{"after":{}},"payload":\#(envelope)}"#) == nil) == holds)
    }
  }

  /// A journal in one message, whatever line of it the mapping takes; its amounts are written as the source says.
  @Test func aJournalBalances() throws {
    let configuration = try configuration("sum(lines[].net) = net")
    func journal(_ credit: String) -> String {
      #"{"o":"A","t":"2024-01-01T00:00:00Z","c":"EUR","a":"10,00","lines":[{"debit":"10,00"},{"debit":"5,50"},"#
        + #"{"credit":"\#(credit)"}]}"#
    }
    #expect(try fault(configuration, source: 1, journal("15,50")) == nil)
    #expect(try fault(configuration, source: 1, journal("15,51"))?.detail.contains("rule 'balance'") == true)
  }
}
