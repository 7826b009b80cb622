import Synchronization

/// When a thread of the daemon last came by. A call of the client library may not return, whatever its timeout
/// (confluentinc/librdkafka#5456): such a thread runs, and does nothing any more.
final class Pulse: Sendable {
  /// Longer than whatever a thread does between two beats: calls of a minute, a shard of a checkpoint.
  static let patience_ms: Int64 = 300_000

  private let last_ms = Atomic<Int64>(.max)

  /// - Parameter now_ms: By a clock that only goes forward.
  func beat(_ now_ms: Int64) { last_ms.store(now_ms, ordering: .relaxed) }

  /// False before the first beat.
  func standsStill(_ now_ms: Int64) -> Bool {
    let last_ms = last_ms.load(ordering: .relaxed)
    return last_ms < now_ms && now_ms - last_ms > Pulse.patience_ms
  }
}
