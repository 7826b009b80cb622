import Benchmark
import Configuration
import Decoding
import Domain
import Foundation
import Matching
import Simulation

/// Generated records of one shape, in arrival order, in memory.
struct Load {
  var configuration: Configuration
  var records: [GeneratedRecord]

  init(_ shape: WorkloadShape, orders: Int) {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().deletingLastPathComponent()
    configuration = try! Configuration.load(path: root.path + "/config/examples/\(shape.rawValue).yaml")
    var options = WorkloadOptions()
    options.shape = shape
    options.orders = orders
    options.shuffle = 50_000
    var load = Workload(options)
    records = []
    while let record = load.next() { records.append(record) }
  }

  func plan(_ kind: SourceKind) -> MappingPlan {
    try! MappingPlan(configuration.sources.first { $0.mapping.kind == kind }!.mapping)
  }
}

@Sendable func decode(_ benchmark: Benchmark, _ shape: WorkloadShape, _ kind: SourceKind) {
  let load = Load(shape, orders: 20_000)
  let plan = load.plan(kind)
  let values = load.records.filter { $0.isOrder == (kind == .orders) }.map(\.value)
  var orders = OrderDecoderBox(kind == .orders ? plan : nil)
  var ledger = LedgerDecoderBox(kind == .ledger ? plan : nil)
  benchmark.startMeasurement()
  for _ in benchmark.scaledIterations {
    for value in values {
      value.withUnsafeBufferPointer { bytes in
        if kind == .orders { orders.decode(ByteView(bytes)) } else { ledger.decode(ByteView(bytes)) }
      }
    }
  }
  benchmark.stopMeasurement()
  precondition(orders.count + ledger.count >= values.count)
}

struct OrderDecoderBox: ~Copyable {
  var decoder: OrderDecoder?
  var buffer = RecordBuffer<OrderEvent>()
  var count = 0

  init(_ plan: MappingPlan?) { decoder = plan.map { OrderDecoder(plan: $0) } }

  mutating func decode(_ bytes: ByteView) {
    _ = try! decoder!.decode(
      key: .empty, payload: bytes, position: RecordPosition(source: 0, partition: 0, offset: Int64(count)),
      into: &buffer)
    count += 1
    if buffer.count == 256 {
      buffer.removeAll()
      decoder!.reset()
    }
  }
}

struct LedgerDecoderBox: ~Copyable {
  var decoder: PostingDecoder?
  var buffer = RecordBuffer<Posting>()
  var count = 0

  init(_ plan: MappingPlan?) { decoder = plan.map { PostingDecoder(plan: $0) } }

  mutating func decode(_ bytes: ByteView) {
    _ = try! decoder!.decode(
      key: .empty, payload: bytes, position: RecordPosition(source: 1, partition: 0, offset: Int64(count)),
      into: &buffer)
    count += 1
    if buffer.count == 256 {
      buffer.removeAll()
      decoder!.reset()
    }
  }
}

/// Orders and one posting each through the matcher alone, with `open` ties held; closing and judging included.
@Sendable func match(_ benchmark: Benchmark, open: Int) {
  let total = 400_000
  var policy = MatchingPolicy()
  policy.entries = Array(repeating: [], count: OrderEventKind.allCases.count)
  policy.entries[Int(OrderEventKind.invoiced.rawValue)] = [.init(.receivable, 1, .gross)]
  policy.window_ms = Int64(open)
  policy.grace_ms = 0
  policy.retention_ms = 0
  policy.outOfOrderness_ms = 0
  policy.reportsProvisional = false
  let currency = Currency("USD")!
  let keys = UnsafeMutablePointer<UInt8>.allocate(capacity: 16 * total)
  for number in 0..<total {
    let text = Array("SO-\(1_000_000_000_000 + number)".utf8)
    for at in 0..<16 { keys[number * 16 + at] = text[at] }
  }
  let batch = 1_024
  var orders = RecordBuffer<OrderEvent>(capacity: batch)
  var postings = RecordBuffer<Posting>(capacity: batch)
  for _ in benchmark.scaledIterations {
    var matcher = Matcher(policy: policy, dimensionCount: 0)
    var outputs = MatchOutputs()
    benchmark.startMeasurement()
    for start in stride(from: 0, to: total, by: batch) {
      orders.removeAll()
      postings.removeAll()
      for number in start..<min(start + batch, total) {
        var order = OrderEvent()
        order.order = ByteView(base: keys + number * 16, count: 16)
        order.kind = .invoiced
        order.currency = currency
        order.time_ms = Int64(number)
        order.amounts[.gross] = 100
        order.position = RecordPosition(source: 0, partition: 0, offset: Int64(number))
        orders.append(order)
        // Every order is answered by one posting, half of the open ties later.
        guard number >= open / 2 else { continue }
        var posting = Posting()
        posting.order = ByteView(base: keys + (number - open / 2) * 16, count: 16)
        posting.currency = currency
        posting.amount = 100
        posting.time_ms = Int64(number)
        posting.position = RecordPosition(source: 1, partition: 0, offset: Int64(number))
        postings.append(posting)
      }
      matcher.apply(orders: orders.buffer, now_ms: Int64(total), outputs: &outputs)
      matcher.apply(postings: postings.buffer, now_ms: Int64(total), outputs: &outputs)
      while matcher.advance(now_ms: Int64(total), outputs: &outputs) {}
      outputs.removeAll()
    }
    benchmark.stopMeasurement()
    precondition(matcher.counters.postings == total - open / 2)
  }
  keys.deallocate()
}

let benchmarks: @Sendable () -> Void = {
  Benchmark.defaultConfiguration = .init(
    metrics: [.cpuTotal, .wallClock, .throughput], warmupIterations: 1, maxDuration: .seconds(4), maxIterations: 20)
  for shape in WorkloadShape.allCases {
    for kind in [SourceKind.orders, .ledger] {
      Benchmark("decode \(shape.rawValue) \(kind.rawValue), 20 000 orders") { decode($0, shape, kind) }
    }
  }
  Benchmark("match 775 000 records, 50 000 open, each judged") { match($0, open: 50_000) }
  Benchmark("match 600 000 records, 400 000 open, none due") { match($0, open: 400_000) }
}
