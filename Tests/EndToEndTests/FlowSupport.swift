import Configuration
import Domain
import Foundation
import Kafka
import KafkaTesting
import Logging
import Pipeline
import Synchronization

/// Records of `config/examples/receivables.yaml`.
struct InvoiceRecords {
  var orders: [(key: String?, value: String?, partition: Int32?)] = []
  var ledger: [(key: String?, value: String?, partition: Int32?)] = []

  private mutating func add(_ value: [String: Any], _ key: String, isOrder: Bool) {
    let data = try! JSONSerialization.data(withJSONObject: value, options: .sortedKeys)
    if isOrder {
      orders.append((key, String(decoding: data, as: UTF8.self), nil))
    } else {
      ledger.append((key, String(decoding: data, as: UTF8.self), nil))
    }
  }

  /// A journal of two lines: one on the receivable account, one on another.
  mutating func journal(
    _ name: String, invoice: String, customer: String, account: String, receivable: String, day: Int32
  ) {
    let other = receivable.hasPrefix("-") ? String(receivable.dropFirst()) : "-" + receivable
    for (line, account, amount) in [(1, "1200", receivable), (2, account, other)] {
      add(
        [
          "invoice": invoice, "journal": name, "line": line, "account": account, "amount": amount, "currency": "USD",
          "customer": customer, "date": formatDate(day), "time": formatDate(day) + "T12:00:00Z",
        ], invoice, isOrder: false)
    }
  }

  /// An invoice on both sides. `due`: as the file has it (M/d/yyyy); nil leaves it to the terms.
  mutating func invoice(_ name: String, customer: String, country: String, amount: String, day: Int32, due: String?) {
    var event: [String: Any] = [
      "invoice": name, "event": "invoiced", "time": formatDate(day) + "T09:00:00Z", "date": formatDate(day),
      "customer": customer, "country": country, "currency": "USD", "amount": amount,
    ]
    event["due"] = due
    add(event, name, isOrder: true)
    journal("I\(name)", invoice: name, customer: customer, account: "4000", receivable: amount, day: day)
  }

  /// An order that is not billed yet.
  mutating func booking(_ name: String, customer: String, country: String, amount: String, day: Int32) {
    add(
      [
        "invoice": name, "event": "booked", "time": formatDate(day) + "T08:00:00Z", "date": formatDate(day),
        "customer": customer, "country": country, "currency": "USD", "amount": amount,
      ], name, isOrder: true)
  }

  mutating func payment(_ name: String, customer: String, amount: String, day: Int32) {
    let event: [String: Any] = [
      "invoice": name, "event": "paid", "time": formatDate(day) + "T09:00:00Z", "date": formatDate(day),
      "customer": customer, "currency": "USD", "amount": amount,
    ]
    add(event, name, isOrder: true)
    journal("P\(name)", invoice: name, customer: customer, account: "1900", receivable: "-" + amount, day: day)
  }

  func send(_ configuration: Configuration, _ cluster: TestCluster) throws {
    try cluster.produce(configuration.sources[0].topic, orders)
    try cluster.produce(configuration.sources[1].topic, ledger)
  }
}

/// A break of an order's receivable, as the daemon writes it.
func receivableBreak(_ order: String, state: BreakState, revision: Int = 1) -> String {
  let role = AccountRole.receivable
  let made = Break(
    id: Break.id(order: order, type: .amountMismatch, role: role), order: order, type: .amountMismatch, role: role,
    currency: Currency("USD")!, expected: 100, posted: 90, state: state, isProvisional: false, revision: revision,
    firstEventTime_ms: 0, deadline_ms: 1, asOf_ms: 2)
  var encoder = BreakEncoder(dimensionNames: ["country"])
  return String(decoding: encoder.encode(made), as: UTF8.self)
}

let silent = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// Reads the topics to their end, tells the figures, and ends.
func runFlows(_ configuration: Configuration, asOf_d: Int32? = nil) throws -> FlowsJob.Status {
  var options = FlowsJob.Options()
  options.endsAtEnd = true
  options.asOf_d = asOf_d
  let job = try FlowsJob.prepared(configuration, options: options, stop: StopFlag(), log: silent)
  job.run()
  if let failure = job.failure { throw failure }
  return job.status
}

/// What a program under test logs: message and metadata, a line each.
final class LogLines: LogHandler, @unchecked Sendable {
  private let lines = Mutex<[String]>([])
  var all: [String] { lines.withLock { $0 } }
  var logLevel = Logger.Level.info
  var metadata: Logger.Metadata = [:]

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    let line = ([event.message.description] + (event.metadata ?? [:]).map { "\($0)=\($1)" }.sorted())
      .joined(separator: " ")
    lines.withLock { $0.append(line) }
  }
}
