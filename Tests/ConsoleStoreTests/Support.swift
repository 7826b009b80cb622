import ConsoleStore
import Foundation
import Pipeline
import StoreTesting
import Testing

/// The databases that there are here.
enum StoreKind: String, Sendable, CustomTestStringConvertible {
  case sqlite, postgres

  static let here: [StoreKind] = PostgresCluster.shared == nil ? [.sqlite] : [.sqlite, .postgres]

  var testDescription: String { rawValue }
}

/// A store of its own for a test: in a folder that goes with it, or in a schema.
final class TemporaryStore {
  let directory: String
  let schema: String
  let kind: StoreKind
  let store: any ConsoleStore

  init(_ kind: StoreKind, dimensions: [String] = ["country", "channel"]) throws {
    self.kind = kind
    directory = FileManager.default.temporaryDirectory.appendingPathComponent("tieout-store-\(UUID().uuidString)").path
    schema = PostgresCluster.shared?.unique() ?? ""
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    store = try TemporaryStore.open(kind, directory, schema, dimensions)
  }

  static func open(
    _ kind: StoreKind, _ directory: String, _ schema: String, _ dimensions: [String]
  ) throws -> any ConsoleStore {
    switch kind {
    case .sqlite: try SQLiteStore(path: directory + "/store.db", dimensions: dimensions)
    case .postgres: try PostgresStore(PostgresCluster.shared!.settings(schema: schema), dimensions: dimensions)
    }
  }

  deinit { try? FileManager.default.removeItem(atPath: directory) }
}

/// A break as the reconciler tells it.
struct TestBreak {
  var order = "SO-1"
  var type = "AMOUNT_MISMATCH"
  var role = "receivable"
  var currency = "EUR"
  var expected: String? = "100.00"
  var posted: String? = "90.00"
  var delta: String? = "-10.00"
  /// As the difference, where nothing else is said.
  var affected: String?
  var state = "open"
  var revision = 1
  var severity = "low"
  var customer = "C1"
  var country = "NO"
  var channel = "web"
  var opened = "2025-03-01T10:00:00.000Z"
  var journals = ["JE-77"]

  var id: String { "\(order):\(type):\(role)" }

  var json: String {
    func quote(_ text: String?) -> String { text.map { "\"\($0)\"" } ?? "null" }
    return """
      {"id":"\(id)","order":"\(order)","type":"\(type)","role":"\(role)","currency":"\(currency)",\
      "expected":\(quote(expected)),"posted":\(quote(posted)),"delta":\(quote(delta)),\
      \((affected ?? delta).map { "\"affected\":\"\($0)\"," } ?? "")"state":"\(state)",\
      "provisional":false,"revision":\(revision),"hints":[],"severity":"\(severity)","customer":"\(customer)",\
      "dimensions":{"country":"\(country)","channel":"\(channel)"},"first_event_time":"\(opened)",\
      "deadline":"2025-03-09T10:00:00.000Z","as_of":"2025-03-09T10:00:00.000Z","reason":"differs",\
      "evidence":{"roles":[{"role":"\(role)","currency":"\(currency)","expected":"100.00","posted":"90.00",\
      "delta":"-10.00"}],"events":["E-\(order)"],"journals":[\(journals.map { "\"\($0)\"" }.joined(separator: ","))]}}
      """
  }

  func record(_ offset: Int64, partition: Int32 = 0, at_ms: Int64 = 1_750_000_000_000) -> StoreRecord {
    StoreRecord(
      kind: .breaks, place: StorePlace("t.breaks", partition), offset: offset, timestamp_ms: at_ms,
      key: Array(id.utf8), value: Array(json.utf8))
  }
}

func record(_ action: Action, _ offset: Int64) throws -> StoreRecord {
  StoreRecord(
    kind: .actions, place: StorePlace("t.actions", 0), offset: offset, timestamp_ms: 1_750_000_000_000 + offset,
    key: Array(action.order.utf8), value: try action.encoded())
}

func action(_ id: String, _ kind: ActionKind, on made: TestBreak, by actor: String = "ann", waits: Bool = false)
  -> Action
{
  Action(
    id: id, kind: kind, breakID: made.id, order: made.order, actor: actor, at: "2025-03-10T10:00:00.000Z",
    revision: made.revision, basis: "\(made.expected ?? "")|\(made.posted ?? "")|\(made.currency)",
    needsApproval: waits)
}

/// A small generator of numbers that are the same for the same seed.
struct Seeded: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    var x = state
    x ^= x >> 33
    x = x &* 0xff51_afd7_ed55_8ccd
    return x ^ x >> 33
  }
}

/// A field of a row as text.
func field(_ row: String, _ name: String) -> String? {
  let object = try? JSONSerialization.jsonObject(with: Data(row.utf8)) as? [String: Any]
  return object?[name].flatMap { $0 is NSNull ? nil : "\($0)" }
}
