import Benchmark
import Decoding
import Foundation
import MallocCount
import Simulation

func tieout_allocations() -> UInt { tieout_thread_allocations() }

/// One suite a stage. `tools/bench --check` holds what does not depend on the machine against thresholds: allocations
/// counted here, and instructions, which this library counts only where the kernel lets it. Times are never judged.
let benchmarks: @Sendable () -> Void = {
  // Where thresholds are written or checked, nothing else is looked at.
  let isGate = ProcessInfo.processInfo.environment["TIEOUT_BENCH_GATE"] != nil
  let metrics: [BenchmarkMetric] = isGate ? [mallocs] : [.cpuTotal, .throughput, .instructions, mallocs]
  Benchmark.defaultConfiguration = .init(
    metrics: metrics, warmupIterations: 1, maxDuration: .seconds(3),
    maxIterations: 10)
  for shape in WorkloadShape.allCases {
    for kind in [SourceKind.orders, .ledger] {
      Benchmark("decode, \(shape.rawValue) \(kind.rawValue), 20 000 orders") { decode($0, shape, kind) }
    }
  }
  Benchmark("decode, CSV ledger, 20 000 orders") { decodeCSV($0) }
  Benchmark("match, 50 000 open, 100 000 records, each judged") { match($0, open: 50_000) }
  Benchmark("match, 500 000 open, 1 000 000 records, each judged") { match($0, open: 500_000) }
  Benchmark("expiry, 200 000 ties that agree") { judge($0, ties: 200_000, amount: 100) }
  Benchmark("classify, 50 000 ties that do not") { judge($0, ties: 50_000, amount: 90) }
  Benchmark("encode, 50 000 breaks") { encode($0, count: 50_000) }
  Benchmark("checkpoint, 200 000 ties") { checkpoint($0, ties: 200_000) }
  Benchmark("Kafka drain, 200 000 records") { drain($0, records: 200_000) }
  let once = Benchmark.Configuration(
    metrics: metrics, warmupIterations: 0, maxDuration: .seconds(3),
    maxIterations: 3)
  for shape in WorkloadShape.allCases {
    Benchmark("engine, \(shape.rawValue), 100 000 open, 400 000 records", configuration: once) {
      engine($0, shape, ties: 100_000, records: 400_000)
    }
    guard ProcessInfo.processInfo.environment["TIEOUT_BENCH_LARGE"] != nil else { continue }
    for ties in [1_000_000, 10_000_000] {
      Benchmark("engine, \(shape.rawValue), \(ties) open, 2 000 000 records", configuration: once) {
        engine($0, shape, ties: ties, records: 2_000_000)
      }
    }
  }
}
