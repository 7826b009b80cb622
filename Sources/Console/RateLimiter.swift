import Synchronization

/// A token bucket for each principal or address.
final class RateLimiter: Sendable {
  /// Buckets kept; the fullest are forgotten beyond it, which only gives those their burst again.
  static let maximumBuckets = 10_000

  private struct Bucket {
    var tokens_milli: Int64
    var at_ms: Int64
  }
  private let rate: Int64
  private let burst_milli: Int64
  private let buckets = Mutex<[String: Bucket]>([:])

  init(rate: Int, burst: Int) {
    self.rate = Int64(rate)
    burst_milli = Int64(max(burst, 1)) * 1_000
  }

  /// nil where the request may go on, else the seconds to wait.
  func take(_ key: String, now_ms: Int64) -> Int? {
    buckets.withLock { buckets in
      var bucket = buckets[key] ?? Bucket(tokens_milli: burst_milli, at_ms: now_ms)
      // A second's rate is `rate` thousandths a millisecond.
      bucket.tokens_milli = min(burst_milli, bucket.tokens_milli + max(0, now_ms - bucket.at_ms) * rate)
      bucket.at_ms = max(bucket.at_ms, now_ms)
      defer { buckets[key] = bucket }
      if buckets.count >= RateLimiter.maximumBuckets, buckets[key] == nil {
        let full = buckets.filter { $0.value.tokens_milli + (now_ms - $0.value.at_ms) * rate >= burst_milli }
        for key in full.keys { buckets[key] = nil }
        if buckets.count >= RateLimiter.maximumBuckets { buckets.removeAll() }
      }
      guard bucket.tokens_milli >= 1_000 else {
        return max(1, Int((1_000 - bucket.tokens_milli) / (rate * 1_000)))
      }
      bucket.tokens_milli -= 1_000
      return nil
    }
  }
}
