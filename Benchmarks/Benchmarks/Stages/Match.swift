import Benchmark
import Domain
import Matching

/// Orders, and a posting for each half of the open ties later, through the matcher alone, with `open` ties held: each is
/// judged and closed. Only the second half is measured, when as many ties leave as come.
@Sendable func match(_ benchmark: Benchmark, open: Int) {
  let total = open * 2
  var orders = RecordBuffer<OrderEvent>(capacity: 256)
  var postings = RecordBuffer<Posting>(capacity: 256)
  for _ in benchmark.scaledIterations {
    var matcher = Matcher(policy: policy(window: Int64(open)), dimensionCount: 0)
    var outputs = MatchOutputs()
    func take(_ range: Range<Int>) {
      for start in stride(from: range.lowerBound, to: range.upperBound, by: 256) {
        orders.removeAll()
        postings.removeAll()
        for number in start..<min(start + 256, range.upperBound) {
          orders.append(order(number))
          if number >= open / 2 { postings.append(posting(number - open / 2, time_ms: Int64(number - open / 2))) }
        }
        matcher.apply(orders: orders.buffer, now_ms: Int64(total), outputs: &outputs)
        matcher.apply(postings: postings.buffer, now_ms: Int64(total), outputs: &outputs)
        matcher.advance(now_ms: Int64(total), outputs: &outputs)
      }
    }
    take(0..<open)
    benchmark.measure(records: open * 2) { take(open..<total) }
    precondition(matcher.counters.postings == total - open / 2 && outputs.breaks.isEmpty)
  }
}

/// Ties that are due at once, all of which agree (`amount` 100) or none.
@Sendable func judge(_ benchmark: Benchmark, ties: Int, amount: Int64) {
  for _ in benchmark.scaledIterations {
    var matcher = Matcher(policy: policy(window: Int64(ties) * 2), dimensionCount: 0)
    fill(&matcher, ties: ties, amount: amount)
    var outputs = MatchOutputs()
    outputs.breaks.reserveCapacity(ties)
    matcher.watermarks.force(Int64(ties) * 4)
    benchmark.measure(records: ties) { while matcher.advance(now_ms: Int64(ties), outputs: &outputs) {} }
    precondition(outputs.breaks.count == (amount == 100 ? 0 : ties))
  }
}
