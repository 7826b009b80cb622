import Configuration
import Decoding
import Domain
import Foundation
import Testing

@testable import Pipeline

/// What a run over files takes, and what it leaves behind.
@Suite struct FileRunArgumentTests {
  private func yaml(_ sources: [(name: String, kind: String)]) -> String {
    var text = "version: 1\nname: t\ndimensions: [region]\nsources:\n"
    for (name, kind) in sources {
      text += "  \(name):\n    kind: \(kind)\n"
      text +=
        kind == "orders"
        ? "    fields: {order: o, event_id: i, event: e, event_time: t, currency: c, net: n, gross: g}\n"
        : "    fields: {order: o, line_id: i, role: r, currency: c, event_time: t}\n    amount: a\n"
      text += "    dimensions: {region: {path: w, values: {n: north}}}\n"
    }
    return text
  }

  private func configuration(_ sources: [(name: String, kind: String)]) throws -> Configuration {
    try Configuration.parse(yaml: yaml(sources), file: "t.yaml", directory: ".")
  }

  private func folder() throws -> String {
    let path = NSTemporaryDirectory() + "tieout-run-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    return path
  }

  private func fault(_ body: () throws -> Void) -> String {
    do {
      try body()
      return ""
    } catch { return "\(error)" }
  }

  /// One rule for `reconcile` and `play`: the source is named where there are several, and a name that is none is said.
  @Test func aFileBelongsToOneSource() throws {
    let two = try configuration([("crm", "orders"), ("erp", "orders"), ("gl", "ledger")])
    #expect(try two.source(of: "erp=a=b.jsonl", .orders) == (1, "a=b.jsonl"))
    #expect(try two.source(of: "plain.jsonl", .ledger) == (2, "plain.jsonl"))
    #expect(try two.source(of: "gl=x", .ledger) == (2, "x"))
    let several = fault { _ = try two.source(of: "plain.jsonl", .orders) }
    #expect(several.contains("several orders sources (crm, erp)") && several.contains("SOURCE=PATH"))
    #expect(
      fault { _ = try two.source(of: "nix=x.jsonl", .orders) }.contains("no source 'nix' of kind orders (crm, erp)"))
    #expect(fault { _ = try two.source(of: "nix=x.jsonl", .ledger) }.contains("no source 'nix' of kind ledger (gl)"))
    #expect(fault { _ = try two.source(of: "cmr=x.jsonl", .orders) }.contains("did you mean 'crm'?"))
    #expect(fault { _ = try two.source(of: "crm=x.jsonl", .ledger) }.contains("'crm' is of kind orders, not ledger"))
    // A path with the sign in it is a path.
    let folder = try folder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    #expect(try two.source(of: "\(folder)/day=1.jsonl", .ledger).path == "\(folder)/day=1.jsonl")
    let none = try configuration([("crm", "orders"), ("gl", "ledger")])
    #expect(try none.source(of: "x", .orders) == (0, "x"))
  }

  private func line(_ order: String, _ kind: String?, _ time: String, _ amount: String, role: String = "") -> String {
    kind.map {
      #"{"o":"\#(order)","i":"\#($0)\#(time)","e":"\#($0)","t":"\#(time)","c":"EUR","n":"\#(amount)","g":"\#(amount)","w":"n"}"#
    } ?? #"{"o":"\#(order)","i":"\#(role)\#(time)","r":"\#(role)","t":"\#(time)","c":"EUR","a":"\#(amount)","w":"n"}"#
  }

  private func run(
    _ configuration: Configuration, _ folder: String, orders: [String], ledger: [String], asOf_ms: Int64? = nil
  ) throws -> RunSummary {
    try (orders.joined(separator: "\n") + "\n").write(
      toFile: folder + "/o.jsonl", atomically: true, encoding: .utf8)
    try (ledger.joined(separator: "\n") + "\n").write(
      toFile: folder + "/l.jsonl", atomically: true, encoding: .utf8)
    return try FileReconciler(
      configuration: configuration,
      options: FileRunOptions(
        orders: [folder + "/o.jsonl"], ledger: [folder + "/l.jsonl"], directory: folder + "/out", threads: 2,
        now_ms: Timestamps.parse("2026-06-01T00:00:00Z")!, asOf_ms: asOf_ms)
    ).run()
  }

  /// Sources without a file are as good as empty, and that is said.
  @Test func sourcesWithoutFilesAreNamed() throws {
    let configuration = try configuration([
      ("crm", "orders"), ("erp", "orders"), ("gl", "ledger"), ("sub", "ledger"),
    ])
    let folder = try folder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try "".write(toFile: folder + "/o.jsonl", atomically: true, encoding: .utf8)
    func made(_ orders: [String], _ ledger: [String]) throws -> [String] {
      try FileReconciler(
        configuration: configuration,
        options: FileRunOptions(
          orders: orders, ledger: ledger, directory: folder + "/out", threads: 1, now_ms: 0)
      ).sourcesWithoutFiles
    }
    let file = folder + "/o.jsonl"
    #expect(try made(["erp=" + file], []) == ["crm", "gl", "sub"])
    #expect(try made(["erp=" + file, "crm=" + file], ["gl=" + file, "sub=" + file, "sub=" + file]) == [])
  }

  /// What is posted after the day as of which is judged was not there on that day.
  @Test func whatComesLaterIsLeftOut() throws {
    let configuration = try configuration([("crm", "orders"), ("gl", "ledger")])
    let folder = try folder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let orders = [
      line("A", "invoiced", "2026-01-05T10:00:00Z", "100.00"), line("B", "invoiced", "2026-02-05T10:00:00Z", "7.00"),
    ]
    let ledger = [
      line("A", nil, "2026-01-20T00:00:00Z", "100.00", role: "receivable"),
      line("A", nil, "2026-01-20T00:00:00.001Z", "-100.00", role: "revenue"),
    ]
    let asOf_ms = Timestamps.parse("2026-01-20T00:00:00Z")!
    let summary = try run(configuration, folder, orders: orders, ledger: ledger, asOf_ms: asOf_ms)
    // The posting of that very moment counts, the one a millisecond later does not, nor does the other order.
    #expect(summary.later == 2 && summary.match.tiesOpened == 1 && summary.openBreaks > 0)
    #expect(summary.totals.lines.first { $0.role == AccountRole.revenue }?.posted == 0)
    #expect(summary.totals.lines.first { $0.role == AccountRole.receivable }?.posted == 100_00)
    #expect(summary.table(configuration).contains("2 records later than --as-of left out"))
    let written = try String(contentsOfFile: folder + "/out/summary.json", encoding: .utf8)
    #expect(written.contains(#""later_than_as_of":2"#))
    let all = try run(configuration, folder, orders: orders, ledger: ledger)
    #expect(all.later == nil && all.match.tiesOpened == 2)
    #expect(try !String(contentsOfFile: folder + "/out/summary.json", encoding: .utf8).contains("later_than_as_of"))
  }

  /// A run that fails leaves nothing that looks like its result.
  @Test func resultsOfAnEarlierRunGo() throws {
    let configuration = try configuration([("crm", "orders"), ("gl", "ledger")])
    let folder = try folder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let out = folder + "/out"
    _ = try run(configuration, folder, orders: [line("A", "booked", "2026-01-05T10:00:00Z", "1.00")], ledger: [])
    try "mine".write(toFile: out + "/notes.txt", atomically: true, encoding: .utf8)
    func files() throws -> Set<String> { Set(try FileManager.default.contentsOfDirectory(atPath: out)) }
    #expect(try files() == ["breaks.jsonl", "dead-letters.jsonl", "summary.json", "notes.txt"])
    try FileReconciler.removeResults(in: out)
    #expect(try files() == ["notes.txt"])
    try FileReconciler.removeResults(in: out)
    try FileReconciler.removeResults(in: folder + "/nowhere")
  }

  @Test func aDirectoryThatCannotBeMadeIsSaid() throws {
    let configuration = try configuration([("crm", "orders"), ("gl", "ledger")])
    let folder = try folder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try "x".write(toFile: folder + "/file", atomically: true, encoding: .utf8)
    func made(_ directory: String) -> String {
      fault {
        _ = try FileReconciler(
          configuration: configuration,
          options: FileRunOptions(orders: ["/dev/null"], ledger: [], directory: directory, threads: 1, now_ms: 0))
      }
    }
    for directory in ["\(folder)/file", "\(folder)/file/below"] {
      #expect(
        made(directory) == "\(folder)/file: the directory for the results cannot be made: it is no directory")
    }
    #expect(made(folder + "/a/b/") == "" && FileManager.default.fileExists(atPath: folder + "/a/b"))
  }

  /// A dead letter names the dimension.
  @Test func aDimensionHasItsName() throws {
    let configuration = try configuration([("crm", "orders"), ("gl", "ledger")])
    let folder = try folder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let wrong = line("A", "booked", "2026-01-05T10:00:00Z", "1.00").replacing(#""w":"n""#, with: #""w":"x""#)
    _ = try run(configuration, folder, orders: [wrong], ledger: [])
    let letter = try String(contentsOfFile: folder + "/out/dead-letters.jsonl", encoding: .utf8)
    #expect(letter.contains(#""field":"region""#) && !letter.contains("dimension 1"))
    #expect(DataFault(.schemaInvalid, field: "dimension 9", detail: "").named(["a"]).field == "dimension 9")
    #expect(DataFault(.schemaInvalid, field: "net", detail: "").named(["a"]).field == "net")
  }

  /// A header without a column says which one.
  @Test func aMissingColumnIsNamed() throws {
    let text = yaml([("crm", "orders"), ("gl", "ledger")]).replacing(
      "kind: orders\n", with: "kind: orders\n    format: csv\n")
    let configuration = try Configuration.parse(yaml: text, file: "t.yaml", directory: ".")
    let folder = try folder()
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let wrong = fault { _ = try run(configuration, folder, orders: ["o,i,e,t,c,g,w"], ledger: []) }
    #expect(wrong.hasPrefix("\(folder)/o.jsonl, line 1: 'n': the header has no such column"))
  }
}
