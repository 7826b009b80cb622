import Configuration
import Domain
import Foundation
import KafkaTesting
import Pipeline
import Testing

/// `config/examples/cash_forecast.py` against what `tieout flows` has told.
@Suite(.serialized) struct ConsumerExampleTests {
  static let script = exampleConfigurations + "/cash_forecast.py"

  struct Outcome {
    var code: Int32
    var output: String
    var errors: String
  }

  func run(_ program: String, _ arguments: [String]) throws -> Outcome {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = [program] + arguments
    let (output, errors) = (Pipe(), Pipe())
    (process.standardOutput, process.standardError) = (output, errors)
    try process.run()
    let text = output.fileHandleForReading.readDataToEndOfFile()
    let complaints = errors.fileHandleForReading.readDataToEndOfFile()
    // The client library's own lines (a second address of a host that does not answer) are no complaints of the example.
    let lines = String(decoding: complaints, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
      .filter { !$0.hasPrefix("%") }.joined(separator: "\n")
    process.waitUntilExit()
    return Outcome(
      code: process.terminationStatus, output: String(decoding: text, as: UTF8.self),
      errors: lines)
  }

  /// A Python that has the client library: that of the path, or the system's. nil, with the reason printed, where there
  /// is none.
  func python() -> String? {
    for program in ["python3", "/usr/bin/python3"] {
      if let found = try? run(program, ["-c", "import confluent_kafka"]), found.code == 0 { return program }
    }
    print("skipped: there is no Python 3 with confluent-kafka (Debian: python3-confluent-kafka)")
    return nil
  }

  @Test func theForecastIsPrinted() throws {
    guard let python = python() else { return }
    let cluster = try TestCluster()
    var configuration = try FlowTests().prepare("receivables.yaml", cluster, partitions: 2)
    configuration.flows!.by = ["country"]
    let topic = configuration.cashflowTopic
    let arguments = [Self.script, "--bootstrap", cluster.bootstrap, "--topic", topic]
    // Nothing is there yet.
    let empty = try run(python, arguments)
    #expect(empty.code == 1 && empty.errors.contains("\(topic) holds nothing that fits"))
    let asOf = Int32(daysFromCivil(year: 2024, month: 3, day: 31))
    var records = InvoiceRecords()
    // Customers that pay ten days late, and one in dispute.
    for number in 0..<30 {
      let day = asOf - 300 + Int32(number * 7)
      records.invoice("p\(number)", customer: "c", country: "DE", amount: "100.00", day: day, due: nil)
      records.payment("p\(number)", customer: "c", amount: "100.00", day: day + 40)
    }
    records.invoice("open", customer: "c", country: "DE", amount: "250.00", day: asOf - 25, due: nil)
    records.invoice("dispute", customer: "c", country: "DE", amount: "80.00", day: asOf - 10, due: nil)
    records.invoice("fr", customer: "d", country: "FR", amount: "7.00", day: asOf - 5, due: "5/1/2024")
    try records.send(configuration, cluster)
    try cluster.produce(
      configuration.breaksTopic, [("dispute", receivableBreak("dispute", state: .open), nil)])
    #expect(try runFlows(configuration, asOf_d: asOf - 30).messages == 2)
    #expect(try runFlows(configuration, asOf_d: asOf).messages == 4)
    let told = try FlowTests().newest(topic, cluster, partitions: 2)
    // One series, with the weeks before: every figure of the message stands in the table.
    let german = try run(python, arguments + ["--dimension", "country=DE", "--past"])
    #expect(german.code == 0 && german.errors.isEmpty, "\(german.errors)")
    let lines = german.output.split(separator: "\n").map(String.init)
    #expect(lines[0] == "Cash in USD, country DE")
    #expect(lines[1].hasPrefix("as of the end of 2024-03-31, provisional, revision 2; 75.8 % of what is open ties out"))
    let message = told["DE|USD|transaction"]!
    let rows = lines.map { $0.split(separator: " ").map(String.init) }
    for (name, key) in [("weeks", "by_due_date"), ("past_weeks", "actual")] {
      for week in message[name] as! [[String: Any]] {
        let row = ["\(week["week"]!)", week["from"] as! String, week["to"] as! String, week["expected"] as! String]
        let found = rows.first { $0.starts(with: row) }
        #expect(found?.contains(week[key] as! String) == true, "\(row)")
      }
    }
    #expect(rows.contains(["in", "dispute", "80.00", "330.00"]))
    #expect(rows.contains { $0.first == "later" && $0.last == "250.00" })
    let error = (message["backtest"] as! [String: Any])["expected"] as! [String: Any]
    let mape = try #require(error["mape"] as? String)
    let percent = formatDecimal(dividedHalfEven(Int128((Double(mape)! * 1_000_000).rounded()), 1_000), decimals: 1)
    #expect(german.output.contains("backtest learned: MAPE \(percent) %"))
    // Both; none; a cluster that is not there.
    let all = try run(python, arguments)
    #expect(all.output.contains("country DE") && all.output.contains("country FR") && !all.output.contains("received"))
    #expect(try run(python, arguments + ["--currency", "EUR"]).code == 1)
    // What is ordered and not billed stands beside it, in figures of its own; a restart tells nothing anew.
    let billed = (message["weeks"] as! [[String: Any]]).map { $0["expected"] as! String }
    configuration.flows!.backlog = FlowSettings.Backlog()
    var ordered = InvoiceRecords()
    ordered.booking("new", customer: "c", country: "DE", amount: "400.00", day: asOf - 6)
    ordered.booking("p3", customer: "c", country: "DE", amount: "100.00", day: asOf - 300)
    try ordered.send(configuration, cluster)
    #expect(try runFlows(configuration, asOf_d: asOf).messages == 2)
    #expect(try runFlows(configuration, asOf_d: asOf).messages == 0)
    let newer = try FlowTests().newest(topic, cluster, partitions: 2)["DE|USD|transaction"]!
    let weeks = try #require(newer["weeks"] as? [[String: Any]])
    let backlog = try #require(newer["backlog"] as? [String: Any])
    #expect(weeks.map { $0["expected"] as! String } == billed && newer["open"] as? String == "330.00")
    #expect(backlog["open"] as? String == "400.00" && backlog["orders"] as? Int == 1)
    let parts = try (weeks.map { $0["backlog"] as! String } + [backlog["later"] as! String]).map {
      try Money($0, Currency("USD")!).minorUnits
    }
    #expect(parts.reduce(0, +) == 40_000 && parts.contains { $0 > 0 })
    let again = try run(python, arguments + ["--dimension", "country=DE"])
    let shown = again.output.split(separator: "\n").map(String.init)
    #expect(shown.contains("400.00 in 1 orders is still to be billed"))
    let shownRows = shown.map { $0.split(separator: " ").map(String.init) }
    for week in weeks {
      let row = shownRows.first { $0.first == "\(week["week"]!)" && $0.count == 8 }
      #expect(row?[6] == week["backlog"] as? String && row?[3] == week["expected"] as? String, "\(week)")
    }
    // A port on which nobody listens.
    let unreachable = try run(
      python, [Self.script, "--bootstrap", "127.0.0.1:1", "--topic", topic, "--timeout", "2"])
    #expect(unreachable.code == 2 && unreachable.errors.contains("\(topic) at 127.0.0.1:1"), "\(unreachable.errors)")
  }
}
