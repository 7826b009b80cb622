import CRdKafka
import Dispatch
import Synchronization

/// Keeps a client fetching that has what it wanted in its queue and is drained quickly.
///
/// librdkafka before 2.2 looks again at a queue that was full only after a second, or when its broker thread has something
/// else to do (confluentinc/librdkafka#2879): whoever takes records faster than a queue a second waits for the rest of it.
/// From 2.2 on `fetch.queue.backoff.ms` says how long that is. For older ones, this asks the brokers for an offset, which
/// is little work and makes their threads look, once for every half of a queue that has been taken.
///
/// The counting belongs to one thread; the question goes out on another, since its answer may stand behind that of a fetch.
final class FetchWaker: Sendable {
  /// Whether the client's library has the property, and needs no waking.
  static let isBuiltIn = rd_kafka_version() >= 0x0202_0000
  /// How long such a library waits with a full queue.
  static let builtIn = KafkaProperty("fetch.queue.backoff.ms", "5")

  private static let timeout_ms = 1_000

  private nonisolated(unsafe) let client: OpaquePointer
  private let isAsking = Atomic(false)
  private let line = DispatchQueue(label: "fetch-waker")

  init(_ client: OpaquePointer) { self.client = client }

  /// Has the threads of the brokers that lead these partitions look at their queues. Does not wait for that.
  func wake(_ places: [TopicPartition]) {
    guard isAsking.compareExchange(expected: false, desired: true, ordering: .acquiringAndReleasing).exchanged else {
      return
    }
    line.async { [self] in
      // Nothing hangs on the answer.
      _ = try? endOffsets(client, places, timeout_ms: FetchWaker.timeout_ms)
      isAsking.store(false, ordering: .releasing)
    }
  }

  /// Returns when no question is under way any more; no `wake` may follow.
  func close() { line.sync {} }
}

/// Counts what is taken out of a client's queue, to tell when half of it is gone.
struct FetchMeter {
  private let messages: Int
  private let bytes: Int
  private var taken = 0
  private var takenBytes = 0

  /// - Parameter properties: Of the client, later ones winning.
  init(_ properties: [KafkaProperty]) {
    func number(_ name: String, _ standard: Int) -> Int {
      properties.last { $0.name == name }.flatMap { Int($0.value) } ?? standard
    }
    messages = max(1, number("queued.min.messages", 100_000) / 2)
    bytes = max(1, number("queued.max.messages.kbytes", 65_536) << 9)
  }

  /// - Returns: whether half of a queue has been taken since this last said so.
  mutating func take(messages count: Int, bytes size: Int) -> Bool {
    taken += count
    takenBytes += size
    guard taken >= messages || takenBytes >= bytes else { return false }
    (taken, takenBytes) = (0, 0)
    return true
  }
}
