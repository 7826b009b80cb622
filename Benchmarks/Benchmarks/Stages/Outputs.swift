import Benchmark
import Checkpoints
import Domain
import Matching
import Pipeline

/// Breaks to JSON, one behind the other in one buffer, as the outbox of a task has them.
@Sendable func encode(_ benchmark: Benchmark, count: Int) {
  var matcher = Matcher(policy: policy(window: Int64(count) * 2), dimensionCount: 0)
  fill(&matcher, ties: count, amount: 90)
  var outputs = MatchOutputs()
  matcher.watermarks.force(Int64(count) * 4)
  while matcher.advance(now_ms: Int64(count), outputs: &outputs) {}
  let encoder = BreakEncoder(dimensionNames: [])
  var writer = ByteWriter(capacity: count * 2_048)
  for _ in benchmark.scaledIterations {
    writer.removeAll()
    benchmark.measure(records: count) {
      for at in outputs.breaks.indices { encoder.encode(outputs.breaks[at], into: &writer) }
    }
    precondition(writer.count > count * 200)
  }
}

/// A whole checkpoint of a task, a few shards at a time.
@Sendable func checkpoint(_ benchmark: Benchmark, ties: Int) {
  var matcher = Matcher(policy: policy(window: Int64(ties) * 2), dimensionCount: 0)
  matcher.epoch = 1
  fill(&matcher, ties: ties)
  for _ in benchmark.scaledIterations {
    let checkpointer = Checkpointer(task: 0, sources: ["orders", "ledger"])
    var written = 0
    benchmark.measure(records: ties) {
      checkpointer.begin(matcher, epoch: 1, epochsOffset: 0)
      var epoch: UInt64 = 1
      while checkpointer.isWriting {
        let (writes, _) = checkpointer.advance(
          matcher, epoch: epoch, incarnation: 1, next: [0, 0], configuration: 0, most: 4)
        written += writes.reduce(0) { $0 + ($1.value?.count ?? 0) }
        epoch += 1
      }
    }
    precondition(written > ties * 8)
  }
}
