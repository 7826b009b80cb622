import Aggregates
import Configuration
import Decoding
import Domain
import Foundation
import Simulation
import Testing

@testable import Pipeline

@Suite struct FileReconcilerTests {
  static let root = EncoderTests.root
  static let shared: String? = {
    let path = (root as NSString).deletingLastPathComponent + "/shared/data"
    return FileManager.default.fileExists(atPath: path) ? path : nil
  }()

  func configuration(_ name: String) throws -> Configuration {
    try Configuration.load(path: Self.root + "/config/examples/" + name)
  }

  func run(
    _ configuration: Configuration, orders: [String], ledger: [String], out: String, threads: Int = 2,
    asOf_ms: Int64? = nil
  ) throws -> RunSummary {
    let summary = try FileReconciler(
      configuration: configuration,
      options: FileRunOptions(
        orders: orders, ledger: ledger, directory: out, threads: threads, now_ms: 1_790_000_000_000, asOf_ms: asOf_ms)
    ).run()
    for line in summary.totals.lines where asOf_ms == nil { #expect(line.pending == 0, "\(line)") }
    return summary
  }

  func breaks(_ out: String) throws -> [BreakMessage] {
    try String(contentsOfFile: out + "/breaks.jsonl", encoding: .utf8).split(separator: "\n").map {
      try JSONDecoder().decode(BreakMessage.self, from: Data($0.utf8))
    }
  }

  func compare(_ truth: [TruthRow], _ breaks: [BreakMessage]) -> TruthComparison {
    TruthComparison(
      truth: truth,
      breaks: breaks.map {
        .init(
          order: $0.order, type: $0.type, hints: $0.hints, role: $0.role, expected: $0.expected, posted: $0.posted,
          isAccepted: $0.state == "accepted")
      })
  }

  /// The cells of a run hold what the control totals hold, whatever the number of threads.
  @Test func revenueIsThatOfTheControlTotals() throws {
    guard let data = Self.shared else {
      print("skipped: there is no ../shared/data")
      return
    }
    var configuration = try configuration("northwind.yaml")
    configuration.aggregates = AggregateSettings()
    var texts: [String] = []
    for threads in [1, 3] {
      let out = NSTemporaryDirectory() + "tieout-revenue-\(UUID().uuidString)"
      defer { try? FileManager.default.removeItem(atPath: out) }
      let summary = try run(
        configuration, orders: [data + "/northwind/orders.jsonl"], ledger: [data + "/northwind/ledger.jsonl"],
        out: out, threads: threads)
      texts.append(try String(contentsOfFile: out + "/revenue.jsonl", encoding: .utf8))
      var validator = try SchemaValidator(TopicSchemas.revenue.json)
      var sums: [String: [String: Int64]] = [:]
      for line in texts.last!.split(separator: "\n") {
        #expect(try validator.problems(Array(line.utf8)).isEmpty)
        let message = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
        let code = try #require(message["currency"] as? String)
        for part in ["by_posting_date", "by_event_date", "orders"] {
          for (measure, text) in try #require(message[part] as? [String: String]) {
            sums[code, default: [:]]["\(part).\(measure)", default: 0] += try Money(text, Currency(code)!).minorUnits
          }
        }
      }
      let totals = summary.totals.lines
      func posted(_ role: AccountRole, _ code: String) -> Int64 {
        Int64(totals.first { $0.role == role && $0.currency.code == code }?.posted ?? 0)
      }
      func expected(_ role: AccountRole, _ code: String) -> Int64 {
        Int64(totals.first { $0.role == role && $0.currency.code == code }?.expected ?? 0)
      }
      #expect(Set(sums.keys) == ["EUR", "USD"])
      for code in ["EUR", "USD"] {
        for basis in ["by_posting_date", "by_event_date"] {
          #expect(sums[code]!["\(basis).receivable_movement"] == posted(.receivable, code))
          #expect(sums[code]!["\(basis).gross_revenue"] == -posted(.revenue, code))
          #expect(sums[code]!["\(basis).freight"] == -posted(.freight, code))
          #expect(sums[code]!["\(basis).tax_posted"] == -posted(.tax, code))
        }
        #expect(sums[code]!["orders.receivable_expected"] == expected(.receivable, code))
        #expect(sums[code]!["orders.billings"] == -expected(.revenue, code))
      }
      #expect(expected(.receivable, "USD") > 100_000_000)
    }
    #expect(texts[0] == texts[1])
  }

  @Test func northwindGivesExactlyTheLabelledBreaks() throws {
    guard let data = Self.shared else {
      print("skipped: there is no ../shared/data")
      return
    }
    let scratch = Scratch()
    let summary = try run(
      try configuration("northwind.yaml"), orders: [data + "/northwind/orders.jsonl"],
      ledger: [data + "/northwind/ledger.jsonl"], out: scratch.path)
    let rows = try String(contentsOfFile: data + "/northwind/truth.csv", encoding: .utf8).split(separator: "\n")
      .dropFirst()
    #expect(rows.count == 69)
    func units(_ text: Substring) throws -> Int64? {
      text.isEmpty ? nil : try Money(String(text), Currency("USD")!).minorUnits
    }
    let truth = try rows.map { line in
      let cells = line.split(separator: ",", omittingEmptySubsequences: false)
      return TruthRow(
        order: String(cells[0]), cause: String(cells[1]), role: AccountRole(name: cells[2])!,
        expected: try units(cells[3]),
        posted: try units(cells[4]), isAccepted: cells[1] == "ROUNDING")
    }
    let comparison = compare(truth, try breaks(scratch.path))
    #expect(comparison.missed == [])
    #expect(comparison.wrong == [])
    #expect(comparison.found == 69)
    #expect(summary.match.tiesClosed == 813)
    #expect(!summary.tiesOut)
  }

  @Test func documentFlowGivesTheKnownCounts() throws {
    guard let data = Self.shared else {
      print("skipped: there is no ../shared/data")
      return
    }
    let scratch = Scratch()
    let summary = try run(
      try configuration("sap-document-flow.yaml"), orders: [data + "/sap-document-flow/VBFA.csv.gz"], ledger: [],
      out: scratch.path)
    // Counted apart from this program: deliveries, issues, and invoices less cancelled and credited ones, by order item.
    #expect(summary.match.tiesClosed == 21_444)
    #expect(summary.match.tiesTiedOut == 16_491)
    #expect(summary.match.open[BreakType.unbilledShipment.index] == 4_839)
    #expect(summary.match.open[BreakType.billedNotShipped.index] == 75)
    let mismatches = try breaks(scratch.path).filter { $0.type == "QUANTITY_MISMATCH" }
    #expect(mismatches.filter { $0.role == "revenue" }.count == 18)
    #expect(mismatches.filter { $0.role == "inventory" }.count == 21)
  }

  func load(_ options: WorkloadOptions, _ scratch: Scratch) -> (orders: String, ledger: String, truth: [TruthRow]) {
    var load = Workload(options)
    var orders: [UInt8] = []
    var ledger: [UInt8] = []
    while let record = load.next() {
      let line = record.key + [9] + record.value + [10]
      if record.isOrder { orders += line } else { ledger += line }
    }
    return (scratch.write("orders.jsonl", orders), scratch.write("ledger.jsonl", ledger), load.truth)
  }

  @Test(arguments: WorkloadShape.allCases) func generatedFaultsAreFoundExactly(shape: WorkloadShape) throws {
    let scratch = Scratch()
    var options = WorkloadOptions()
    options.shape = shape
    options.orders = 3_000
    options.faultsPer10000 = 800
    options.shuffle = 500
    options.redeliveriesPer10000 = 300
    let (orders, ledger, truth) = load(options, scratch)
    let summary = try run(
      try configuration(shape == .flat ? "flat.yaml" : "northwind.yaml"), orders: [orders], ledger: [ledger],
      out: scratch.path + "/out")
    let comparison = compare(truth, try breaks(scratch.path + "/out"))
    #expect(comparison.missed == [])
    #expect(comparison.wrong == [])
    #expect(truth.count > 100)
    #expect(summary.match.duplicates > 50)
  }

  @Test func sameBytesWhateverTheThreads() throws {
    let scratch = Scratch()
    var options = WorkloadOptions()
    options.orders = 20_000
    options.shuffle = 2_000
    let (orders, ledger, _) = load(options, scratch)
    // Not every record is looked through for a path that leads to nothing.
    var configuration = try configuration("flat.yaml")
    configuration.sources[0].mapping.fields["line"] = FieldMapping(.path("nowhere"))
    var results: [[Data]] = []
    for threads in [1, 2, 5] {
      let out = scratch.path + "/out\(threads)"
      let summary = try run(configuration, orders: [orders], ledger: [ledger], out: out, threads: threads)
      #expect(summary.decode.paths.values.contains { $0.missing.contains { $0.path == "nowhere" } })
      results.append(
        try ["breaks.jsonl", "dead-letters.jsonl", "summary.json"].map {
          try Data(contentsOf: URL(fileURLWithPath: out + "/" + $0))
        })
    }
    #expect(results[0] == results[1])
    #expect(results[0] == results[2])
    #expect(results[0][0].count > 10_000)
  }

  /// How the orders of each source stand, by hand from the files: a break counts for both sides of its order.
  @Test func sourcesSayHowTheirOrdersStand() throws {
    let scratch = Scratch()
    defer { withExtendedLifetime(scratch) {} }
    var options = WorkloadOptions()
    options.orders = 400
    options.faultsPer10000 = 3_000
    let (orders, ledger, _) = load(options, scratch)
    let out = scratch.path + "/out"
    let summary = try run(try configuration("flat.yaml"), orders: [orders], ledger: [ledger], out: out)
    func keys(_ file: String, _ field: String) throws -> Set<String> {
      Set(
        try String(contentsOfFile: file, encoding: .utf8).split(separator: "\n").compactMap { line in
          let json = line.drop { $0 != "{" }
          let record = try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any]
          return record?[field] as? String
        })
    }
    let sides = [try keys(orders, "order_id"), try keys(ledger, "order_id")]
    let found = try breaks(out)
    for (side, control) in zip(sides, summary.sources) {
      let open = found.filter { $0.isOpen && side.contains($0.order) }
      #expect(control.closedOrders == Int64(side.count) && control.openBreaks == Int64(open.count) && open.count > 10)
      #expect(control.tiedOutOrders == Int64(side.subtracting(open.map(\.order)).count))
      #expect(control.lines.allSatisfy { $0.controlDifference == 0 } && !control.lines.isEmpty)
    }
    #expect(sides[0] != sides[1] && summary.sources.count == 2)
    let json = try JSONSerialization.jsonObject(with: Data(contentsOf: URL(fileURLWithPath: out + "/summary.json")))
    let told = try #require((json as? [String: Any])?["sources"] as? [[String: Any]])
    #expect(told.map { $0["due"] as? Int } == summary.sources.map { Int($0.closedOrders) })
    #expect(told.map { $0["open_breaks"] as? Int } == summary.sources.map { Int($0.openBreaks) })
    for entry in told {
      let values = try #require(entry["value"] as? [[String: Any]])
      #expect(values.allSatisfy { $0["control_difference"] as? String == "0.00" })
      #expect(values.contains { ($0["weighted_break_age_ms"] as? Int ?? -1) >= 0 })
    }
  }

  /// A small load of every fault, byte for byte as committed: a change of any message shows in review.
  /// `TIEOUT_UPDATE_DOCS=1` writes it anew.
  @Test func goldenRun() throws {
    let scratch = Scratch()
    var options = WorkloadOptions()
    options.shape = .northwind
    options.orders = 120
    options.faultsPer10000 = 4_000
    options.shuffle = 20
    options.redeliveriesPer10000 = 500
    let (orders, ledger, truth) = load(options, scratch)
    let out = scratch.path + "/out"
    _ = try run(try configuration("northwind.yaml"), orders: [orders], ledger: [ledger], out: out)
    #expect(compare(truth, try breaks(out)).isPerfect)
    for name in ["breaks.jsonl", "summary.json"] {
      let golden = Self.root + "/Tests/Golden/northwind-120." + name
      let text = try String(contentsOfFile: out + "/" + name, encoding: .utf8)
      if ProcessInfo.processInfo.environment["TIEOUT_UPDATE_DOCS"] != nil {
        try text.write(toFile: golden, atomically: true, encoding: .utf8)
      }
      #expect(try String(contentsOfFile: golden, encoding: .utf8) == text, "\(name) differs from the golden run")
    }
  }

  /// Garbage between good records: each piece lands in dead letters with its line, and the rest is unharmed.
  @Test func garbageInEveryPosition() throws {
    let scratch = Scratch()
    let good = { (number: Int) in
      #"{"order_id":"O\#(number)","event_id":"e\#(number)","event_type":"invoiced","event_time":"2025-01-01T00:00:00Z","currency":"USD","gross":"1.00"}"#
    }
    let template = good(0)
    var garbage: [[UInt8]] = [
      Array("x".utf8), Array("{".utf8), Array("[]".utf8), Array("null".utf8), Array("{}".utf8),
      [0xff, 0xfe, 0x00, 0x01],
      Array(template.replacing("1.00", with: "NaN").utf8), Array(template.replacing("\"1.00\"", with: "1e999").utf8),
      Array(template.replacing("O0", with: "").utf8), Array(template.replacing("O0", with: "O\u{0}").utf8),
      Array(template.replacing("invoiced", with: "exploded").utf8), Array(template.replacing("USD", with: "US").utf8),
      Array(template.replacing("2025-01-01", with: "2025-02-30").utf8),
      Array(template.replacing("2025", with: "9999").utf8),
      Array(template.replacing("\"1.00\"", with: "{\"a\":[1]}").utf8),
      Array("{\"order_id\":\"".utf8) + [0xc3, 0x28] + Array("\"}".utf8),
      Array(String(repeating: "[", count: 5_000).utf8),
      Array("{\"order_id\":\"\(String(repeating: "z", count: 10_000_000))\"}".utf8),
      Array(template.replacing("O0", with: String(repeating: "k", count: 2_000)).utf8),
    ]
    let bytes = Array(template.utf8)
    for cut in stride(from: 1, to: bytes.count, by: 3) { garbage.append(Array(bytes[..<cut])) }
    var random = SeededRandom(seed: 3)
    for _ in 0..<200 {
      garbage.append(
        (0..<random.below(80) + 1).map { _ in UInt8(random.below(255)) }.filter { $0 != 10 && $0 != 13 } + [0x7f])
    }
    var file: [UInt8] = []
    var badLines: [Int] = []
    var line = 0
    for (number, piece) in garbage.enumerated() {
      file += Array(good(number + 1).utf8) + [10] + piece + [10]
      line += 2
      badLines.append(line)
    }
    let orders = scratch.write("orders.jsonl", file)
    let out = scratch.path + "/out"
    let summary = try run(try configuration("flat.yaml"), orders: [orders], ledger: [], out: out)
    #expect(summary.deadLetterCount == garbage.count)
    #expect(summary.match.tiesClosed == garbage.count, "every good record is there")
    #expect(summary.match.open[BreakType.missingInLedger.index] == garbage.count)
    let letters = try String(contentsOfFile: out + "/dead-letters.jsonl", encoding: .utf8).split(separator: "\n").map {
      try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
    }
    #expect(letters.compactMap { $0["line"] as? Int } == badLines)
    #expect(letters.allSatisfy { ($0["detail"] as? String)?.isEmpty == false && $0["file"] as? String == orders })
    #expect(letters.contains { $0["payload_bytes"] as? Int ?? 0 > 10_000_000 })
    #expect(
      Set(letters.compactMap { $0["reason"] as? String }).isSuperset(of: [
        "SCHEMA_INVALID", "NON_DECIMAL_AMOUNT", "FUTURE_DATED",
      ]))
  }

  @Test func asOfLeavesAloneWhatIsNotDue() throws {
    let scratch = Scratch()
    let orders = scratch.write(
      "o.jsonl",
      #"{"order_id":"A","event_type":"invoiced","event_time":"2025-01-01T00:00:00Z","currency":"USD","gross":"1.00"}"#
        + "\n"
        + #"{"order_id":"B","event_type":"invoiced","event_time":"2025-01-04T00:00:00Z","currency":"USD","gross":"1.00"}"#
        + "\n")
    let asOf = milliseconds("2025-01-06T00:00:00Z")
    let summary = try run(
      try configuration("flat.yaml"), orders: [orders], ledger: [], out: scratch.path + "/out", asOf_ms: asOf)
    #expect(try breaks(scratch.path + "/out").map(\.order) == ["A"])
    #expect(summary.totals.lines.first?.pending == -1_00, "B is expected, not missing")
  }

  @Test func memoryBoundIsAnErrorThatSaysWhatToDo() throws {
    let scratch = Scratch()
    var options = WorkloadOptions()
    options.orders = 20_000
    let (orders, ledger, _) = load(options, scratch)
    var configuration = try configuration("flat.yaml")
    configuration.memoryLimit = 1 << 20
    let error = #expect(throws: FileRunError.self) {
      _ = try run(configuration, orders: [orders], ledger: [ledger], out: scratch.path + "/out")
    }
    #expect(error?.description.contains("limits.memory") == true)
    for name in FileReconciler.results {
      #expect(!FileManager.default.fileExists(atPath: scratch.path + "/out/" + name), "a run that fails leaves none")
    }
  }

  @Test func sourcesAreNamedWhereThereAreSeveral() throws {
    let scratch = Scratch()
    let path = scratch.write("o.jsonl", "")
    var configuration = try configuration("flat.yaml")
    configuration.sources.append(configuration.sources[0])
    configuration.sources[2].name = "store"
    configuration.sources[2].mapping.sourceIndex = 2
    #expect(throws: FileRunError.self) {
      _ = try run(configuration, orders: [path], ledger: [], out: scratch.path + "/out")
    }
    _ = try run(configuration, orders: ["store=" + path], ledger: [], out: scratch.path + "/out")
  }
}

private func milliseconds(_ text: String) -> Int64 {
  ISO8601DateFormatter().date(from: text).map { Int64($0.timeIntervalSince1970 * 1_000) }!
}
