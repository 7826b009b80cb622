import Benchmark
import Configuration
import Decoding
import Foundation
import Pipeline
import Simulation

/// The records of one source of a generated load.
@Sendable func decode(_ benchmark: Benchmark, _ shape: WorkloadShape, _ kind: SourceKind) {
  let load = Load(shape, orders: 20_000)
  let harness = try! DecodeHarness(load.configuration.sources.first { $0.mapping.kind == kind }!)
  let count = kind == .orders ? load.orders.count : load.ledger.count
  for _ in benchmark.scaledIterations {
    benchmark.measure(records: count) {
      if kind == .orders { harness.decode(load.orders) } else { harness.decode(load.ledger) }
    }
  }
  precondition(harness.decoded >= count)
}

/// The flat postings as rows of CSV, as a file export or a topic without a header has them.
@Sendable func decodeCSV(_ benchmark: Benchmark) {
  let columns = [
    "entry_id", "journal_id", "order_id", "invoice_no", "account", "amount", "currency", "posted_at", "posting_date",
    "period", "customer_id",
  ]
  let yaml = """
    version: 1
    tables:
      accounts:
        entries: {"1200": receivable}
    sources:
      orders:
        kind: orders
        fields: {order: a, event: b, event_time: c}
      ledger:
        kind: ledger
        format: csv
        csv: {header: false, columns: [\(columns.joined(separator: ", "))]}
        fields:
          order: order_id
          line_id: entry_id
          journal: journal_id
          document: invoice_no
          customer: customer_id
          role: {path: account, table: accounts}
          currency: currency
          event_time: {path: posted_at, format: rfc3339}
          posting_date: posting_date
          period: period
        amount: amount
    """
  let configuration = try! Configuration.parse(yaml: yaml, file: "csv", directory: ".")
  let load = Load(.flat, orders: 20_000)
  var rows = PackedRecords()
  for value in load.ledgerValues {
    let record = try! JSONSerialization.jsonObject(with: Data(value)) as! [String: Any]
    rows.append(key: [], value: Array(columns.map { record[$0] as! String }.joined(separator: ",").utf8))
  }
  let harness = try! DecodeHarness(configuration.sources.first { $0.mapping.kind == .ledger }!)
  for _ in benchmark.scaledIterations {
    benchmark.measure(records: rows.count) { harness.decode(rows) }
  }
  precondition(harness.decoded >= rows.count)
}
