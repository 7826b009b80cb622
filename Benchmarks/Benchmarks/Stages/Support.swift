import Benchmark
import Configuration
import Domain
import Foundation
import MallocCount
import Matching
import Pipeline
import Simulation

/// Allocations of the measuring thread per thousand records; whole numbers, so that a threshold can be zero.
let mallocs = BenchmarkMetric.custom("mallocs per 1000 records", polarity: .prefersSmaller, useScalingFactor: false)

extension Benchmark {
  /// Puts `body` on the clock, and counts the allocations of this thread in it.
  func measure(records: Int, _ body: () -> Void) {
    startMeasurement()
    let before = tieout_thread_allocations()
    body()
    let after = tieout_thread_allocations()
    stopMeasurement()
    measurement(mallocs, Int(after - before) * 1_000 / records)
  }
}

/// A generated load in memory, orders and postings apart, with the configuration that maps it.
final class Load {
  let configuration: Configuration
  let orders: PackedRecords
  let ledger: PackedRecords
  let ledgerValues: [[UInt8]]

  init(_ shape: WorkloadShape, orders count: Int) {
    var options = WorkloadOptions()
    options.shape = shape
    options.orders = count
    options.shuffle = count / 4
    configuration = try! LoadConfiguration.configuration(shape, name: "bench", options: options, openTies: count / 2)
    var load = Workload(options)
    var record = GeneratedRecord()
    var orders = PackedRecords()
    var ledger = PackedRecords()
    var values: [[UInt8]] = []
    while load.next(into: &record) {
      if record.isOrder {
        orders.append(key: record.key, value: record.value)
      } else {
        ledger.append(key: record.key, value: record.value)
        values.append(record.value)
      }
    }
    self.orders = orders
    self.ledger = ledger
    ledgerValues = values
  }
}

let usd = Currency("USD")!

/// Keys of 16 bytes that live as long as the program.
struct Keys: @unchecked Sendable {
  private let bytes: UnsafeMutablePointer<UInt8>
  let count: Int

  init(_ count: Int) {
    self.count = count
    bytes = .allocate(capacity: 16 * count)
    for number in 0..<count {
      let text = Array("SO-\(1_000_000_000_000 + number)".utf8)
      for at in 0..<16 { bytes[number * 16 + at] = text[at] }
    }
  }

  subscript(number: Int) -> ByteView { ByteView(base: bytes + number * 16, count: 16) }

  static let all = Keys(1_000_000)
}

/// One role, and horizons in milliseconds, one of which passes with every order.
func policy(window: Int64) -> MatchingPolicy {
  var policy = MatchingPolicy()
  policy.entries = Array(repeating: [], count: OrderEventKind.allCases.count)
  policy.entries[Int(OrderEventKind.invoiced.rawValue)] = [.init(.receivable, 1, .gross)]
  policy.window_ms = window
  policy.grace_ms = 0
  policy.settle_ms = window
  policy.retention_ms = 0
  policy.openRetention_ms = 0
  policy.outOfOrderness_ms = 0
  policy.reportsProvisional = false
  policy.maximumExpiries = .max
  return policy
}

func order(_ number: Int) -> OrderEvent {
  var order = OrderEvent()
  order.order = Keys.all[number]
  order.id = Keys.all[number]
  order.kind = .invoiced
  order.currency = usd
  order.time_ms = Int64(number)
  order.amounts[.gross] = 100
  order.position = RecordPosition(source: 0, partition: 0, offset: Int64(number))
  return order
}

func posting(_ number: Int, amount: Int64 = 100, time_ms: Int64? = nil) -> Posting {
  var posting = Posting()
  posting.order = Keys.all[number]
  posting.id = Keys.all[number]
  posting.currency = usd
  posting.amount = amount
  posting.time_ms = time_ms ?? Int64(number)
  posting.position = RecordPosition(source: 1, partition: 0, offset: Int64(number))
  return posting
}

/// Fills a matcher with ties of an order and a posting each.
func fill(_ matcher: inout Matcher, ties: Int, amount: Int64 = 100) {
  var outputs = MatchOutputs()
  var orders = RecordBuffer<OrderEvent>(capacity: 256)
  var postings = RecordBuffer<Posting>(capacity: 256)
  for start in stride(from: 0, to: ties, by: 256) {
    orders.removeAll()
    postings.removeAll()
    for number in start..<min(start + 256, ties) {
      orders.append(order(number))
      postings.append(posting(number, amount: amount))
    }
    matcher.apply(orders: orders.buffer, now_ms: Int64(ties), outputs: &outputs)
    matcher.apply(postings: postings.buffer, now_ms: Int64(ties), outputs: &outputs)
  }
}
