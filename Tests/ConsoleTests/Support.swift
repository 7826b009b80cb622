import Configuration
import ConsoleStore
import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import Kafka
import KafkaTesting
import Logging
import NIOCore
import Pipeline

@testable import Console

/// A console over a cluster for tests, with a principal for every role.
final class TestConsole: @unchecked Sendable {
  let cluster: TestCluster
  let directory: String
  var configuration: Configuration
  let store: SQLiteStore
  let projector: Projector
  let gateway: Gateway
  let audit: AuditLog
  let console: Console

  /// `token-<role>` for every role; `token-norway` sees the rows of one country, `token-second` is another controller.
  static let names = ServeRole.allCases.map(\.rawValue) + ["norway", "second"]

  static func yaml(_ serve: String) -> String {
    let tokens: String = names.map { name -> String in
      let role = name == "norway" ? "controller" : name == "second" ? "controller" : name
      let scope = name == "norway" ? ", scope: {country: [NO]}" : ""
      return "      \(name): {sha256: \(hexadecimal(Sessions.hash("token-\(name)"))), roles: [\(role)]\(scope)}"
    }.joined(separator: "\n")
    return """
      version: 1
      name: shop
      dimensions: [country, channel]
      sources:
        orders:
          kind: orders
          topic: shop.orders
          fields:
            order: id
            event_id: event
            event: {constant: invoiced}
            event_time: {path: at, format: rfc3339}
            customer: customer
            currency: currency
            gross: gross
          dimensions: {country: country}
        ledger:
          kind: ledger
          topic: shop.ledger
          fields:
            order: order
            role: role
            currency: currency
            event_time: {path: at, format: rfc3339}
          amount: amount
      serve:
        listen: 127.0.0.1:0
        limits: {rate: 100000, burst: 100000}
        tokens:

      """ + tokens + "\n" + serve
  }

  static func parsed() throws -> Configuration {
    try Configuration.parse(yaml: yaml(""), file: "test.yaml", directory: "/tmp", environment: [:])
  }

  /// - Parameter kind: What it runs on where no real cluster is named; if not given, the broker with transactions.
  init(
    serve: String = "", on kind: TestCluster.Kind? = nil,
    log: Logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
    adjust: (inout Configuration) -> Void = { _ in }
  ) throws {
    directory =
      FileManager.default.temporaryDirectory.appendingPathComponent("tieout-console-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    cluster = try TestCluster(TestCluster.kinds == [.real] ? .real : kind)
    var configuration = try Configuration.parse(
      yaml: TestConsole.yaml(serve), file: "test.yaml", directory: directory, environment: [:])
    configuration.kafka.bootstrap = cluster.bootstrap
    configuration.breaksTopic = cluster.unique("breaks")
    configuration.deadLettersTopic = cluster.unique("dead")
    configuration.totalsTopic = cluster.unique("totals")
    configuration.actionsTopic = cluster.unique("actions")
    configuration.proposalsTopic = cluster.unique("proposals")
    for index in configuration.sources.indices {
      configuration.sources[index].topic = cluster.unique(configuration.sources[index].name)
      try cluster.createTopic(configuration.sources[index].topic, partitions: 3)
    }
    configuration.serve.aggregates = ["revenue": cluster.unique("revenue")]
    adjust(&configuration)
    for topic in [
      configuration.breaksTopic, configuration.deadLettersTopic, configuration.totalsTopic, configuration.actionsTopic,
      configuration.proposalsTopic,
    ] { try cluster.createTopic(topic, partitions: 2) }
    self.configuration = configuration
    store = try SQLiteStore(path: directory + "/store.db", dimensions: configuration.dimensions)
    gateway = Gateway(properties: configuration.clientProperties(.producer), log: { _, _, _ in })
    audit = try AuditLog(path: directory + "/audit.log")
    let hub = Box<EventHub?>(nil)
    let projector = Projector(
      store: store, topics: ConsoleServer.topics(configuration), consumerProperties: cluster.properties,
      adminProperties: cluster.properties, log: { _, _ in }, onChange: { _ in hub.value?.notify() })
    self.projector = projector
    console = try Console(
      configuration: configuration, store: store, gateway: gateway, audit: audit,
      state: try StateStore(path: directory + "/state.db"), version: "test", log: log,
      followed: { projector.status })
    hub.value = console.events
    gateway.start()
    projector.start()
  }

  deinit {
    projector.stop()
    gateway.stop()
    try? FileManager.default.removeItem(atPath: directory)
  }

  /// Runs requests against the server on a port of its own.
  func run<T: Sendable>(
    assets: [ConsoleAsset] = [ConsoleAsset(path: "/", contentType: "text/html", bytes: Array("<p>console</p>".utf8))],
    _ body: @escaping @Sendable (Client) async throws -> T
  ) async throws -> T {
    let application = try console.application(assets: assets)
    return try await application.test(.live) { client in try await body(Client(client: client)) }
  }

  struct Client: Sendable {
    let client: any TestClientProtocol
    var port: Int { client.port ?? 0 }

    func send(
      _ method: HTTPRequest.Method, _ uri: String, as name: String? = nil, body: String? = nil,
      type: String = "application/json", headers: [(String, String)] = []
    ) async throws -> Answer {
      var fields = HTTPFields()
      if let name { fields[.authorization] = "Bearer token-\(name)" }
      if body != nil { fields[.contentType] = type }
      for (key, value) in headers { fields[HTTPField.Name(key)!] = value }
      return try await client.execute(
        uri: uri, method: method, headers: fields, body: body.map { ByteBuffer(string: $0) }
      ) { response in
        Answer(
          status: response.status.code, headers: response.headers, body: String(buffer: response.body))
      }
    }

    func get(_ uri: String, as name: String? = "viewer") async throws -> Answer { try await send(.get, uri, as: name) }
  }

  struct Answer: Sendable {
    var status: Int
    var headers: HTTPFields
    var body: String
    var json: JSON { (try? JSONDecoder().decode(JSON.self, from: Data(body.utf8))) ?? .null }
    var items: [JSON] { json["items"]?.arrayValue ?? [] }
    var code: String? { json["code"]?.stringValue }
  }

  /// Puts breaks on their topic and waits until the store has them.
  /// Actions that came another way, and are in the store.
  func wait(for actions: [Action]) async throws {
    let before = projector.status.records
    try cluster.produce(
      configuration.actionsTopic,
      actions.map { (key: $0.order, value: String(decoding: try $0.encoded(), as: UTF8.self), partition: Int32(0)) })
    let until = Date().addingTimeInterval(30)
    while projector.status.records < before + actions.count, Date() < until {
      try await Task.sleep(for: .milliseconds(20))
    }
  }

  func add(_ breaks: [TestBreak]) throws {
    let before = projector.status.records
    try cluster.produce(
      configuration.breaksTopic, breaks.map { (key: $0.id, value: $0.json, partition: Int32($0.order.utf8.count % 2)) })
    let until = Date().addingTimeInterval(30)
    while projector.status.records < before + breaks.count || !projector.status.isCaughtUp, Date() < until {
      Thread.sleep(forTimeInterval: 0.02)
    }
  }
}

final class Box<T>: @unchecked Sendable {
  var value: T
  init(_ value: T) { self.value = value }
}

/// A break as the reconciler tells it.
struct TestBreak {
  var order = "SO-1"
  var type = "AMOUNT_MISMATCH"
  var role = "receivable"
  var posted = "90.00"
  var delta: String? = "-10.00"
  /// As the difference, where nothing else is said.
  var affected: String?
  /// Differences of roles in the evidence, instead of those of the receivable, revenue and tax.
  var deltas: [String: String]?
  /// What it explains of them, where that is not all.
  var parts: [String: String] = [:]
  /// What the orders ask of them; nothing where nothing is said.
  var wanted: [String: String] = [:]
  var state = "open"
  var revision = 1
  var severity = "low"
  var country = "NO"
  var opened = "2025-03-01T10:00:00.000Z"
  var customer = "C1"
  var task: Int?

  var id: String { "\(order):\(type):\(role)" }

  private var roles: String {
    if let deltas {
      return deltas.sorted { $0.key < $1.key }.map { role, delta in
        let own = parts[role].map { #","affected":"\#($0)""# } ?? ""
        let expected = wanted[role] ?? "0.00"
        return
          #"{"role":"\#(role)","currency":"EUR","expected":"\#(expected)","posted":"\#(delta)","delta":"\#(delta)"\#(own)}"#
      }.joined(separator: ",")
    }
    return """
      {"role":"receivable","currency":"EUR","expected":"100.00","posted":"\(posted)","delta":"\(delta ?? "0.00")"},\
      {"role":"revenue","currency":"EUR","expected":"-80.00","posted":"0.00","delta":"80.00"},\
      {"role":"tax","currency":"EUR","expected":"-20.00","posted":"-20.00","delta":"0.00"}
      """
  }

  var json: String {
    """
    {"id":"\(id)","order":"\(order)","type":"\(type)","role":"\(role)","currency":"EUR","expected":"100.00",\
    "posted":"\(posted)","delta":\(delta.map { "\"\($0)\"" } ?? "null"),\
    \((affected ?? delta).map { "\"affected\":\"\($0)\"," } ?? "")"state":"\(state)","provisional":false,\
    "revision":\(revision),"hints":["SIGN_FLIP"],"severity":"\(severity)","customer":\(JSON.string(customer).text),\
    "dimensions":{"country":"\(country)","channel":"web"},"first_event_time":"\(opened)",\
    "deadline":"2025-03-09T10:00:00.000Z","as_of":"2025-03-09T10:00:00.000Z","reason":"differs",\
    \(task.map { "\"task\":\($0)," } ?? "")\
    "evidence":{"roles":[\(roles)],"events":["E1"],\
    "journals":["JE-7"]}}
    """
  }
}
