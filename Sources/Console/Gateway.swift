import Foundation
import Kafka
import Synchronization

/// The way into Kafka: one thread with one idempotent producer. Whoever sends waits until Kafka has all of it; what
/// comes while a flush runs goes out with the next one.
final class Gateway: @unchecked Sendable {
  struct Message: Sendable {
    var topic: String
    /// nil leaves it to the partitioner, by key.
    var partition: Int32?
    var key: [UInt8]?
    var value: [UInt8]
  }

  /// Bytes that wait to be sent; beyond it senders are told to come again.
  static let maximumWaiting = 64 << 20
  static let flushTimeout_ms = 30_000

  private struct Job {
    var messages: [Message]
    var bytes: Int
    var done: CheckedContinuation<Void, any Error>
  }

  private struct State {
    var jobs: [Job] = []
    var bytes = 0
    var isStopped = false
    var sent = 0
    var failed = 0
  }

  private let state = Mutex(State())
  private let wake = DispatchSemaphore(value: 0)
  private let finished = DispatchSemaphore(value: 0)
  private let properties: [KafkaProperty]
  private let log: KafkaLogHandler

  init(properties: [KafkaProperty], log: @escaping KafkaLogHandler) {
    self.properties = properties
    self.log = log
  }

  var counts: (sent: Int, failed: Int, waiting: Int) { state.withLock { ($0.sent, $0.failed, $0.jobs.count) } }

  func start() {
    let thread = Thread { [self] in
      run()
      finished.signal()
    }
    thread.name = "gateway"
    thread.stackSize = 4 << 20
    thread.start()
  }

  func stop() {
    state.withLock { $0.isStopped = true }
    wake.signal()
    finished.wait()
    finished.signal()
  }

  /// Returns when Kafka has acknowledged every message; throws where it has not, and then some may be there all the same.
  func send(_ messages: [Message]) async throws {
    guard !messages.isEmpty else { return }
    let bytes = messages.reduce(0) { $0 + $1.value.count + ($1.key?.count ?? 0) + 64 }
    try await withCheckedThrowingContinuation { (done: CheckedContinuation<Void, any Error>) in
      let refusal: Problem? = state.withLock { state in
        if state.isStopped { return .busy("the server is stopping") }
        if state.bytes > 0, state.bytes + bytes > Gateway.maximumWaiting {
          return .busy("Kafka does not keep up; send again later")
        }
        state.jobs.append(Job(messages: messages, bytes: bytes, done: done))
        state.bytes += bytes
        return nil
      }
      if let refusal { done.resume(throwing: refusal) } else { wake.signal() }
    }
  }

  private func open() throws(KafkaError) -> Producer {
    // All in-sync replicas: acknowledged means kept.
    try Producer(
      properties: properties + [
        KafkaProperty("acks", "all"), KafkaProperty("linger.ms", "1"),
        KafkaProperty("delivery.timeout.ms", "\(Gateway.flushTimeout_ms - 5_000)"),
      ], log: log)
  }

  private func run() {
    // Before anybody waits for it: it takes a while to be let into a cluster. What is wrong is told to who sends.
    var producer = try? open()
    while true {
      wake.wait()
      let (jobs, isStopped) = state.withLock { state in
        let jobs = state.jobs
        state.jobs = []
        return (jobs, state.isStopped)
      }
      if !jobs.isEmpty { deliver(jobs, &producer) }
      if isStopped, jobs.isEmpty { return }
      if isStopped { wake.signal() }
    }
  }

  private func deliver(_ jobs: [Job], _ producer: inout Producer?) {
    var refused: [Int: KafkaError] = [:]
    var failure: KafkaError?
    do throws(KafkaError) {
      if producer == nil { producer = try open() }
      let open = producer!
      for (index, job) in jobs.enumerated() {
        do throws(KafkaError) {
          for message in job.messages {
            try open.produce(
              topic: message.topic, partition: message.partition, key: message.key, value: message.value)
          }
        } catch { refused[index] = error }
        open.poll()
      }
      try open.flush(timeout_ms: Gateway.flushTimeout_ms)
    } catch { failure = error }
    if failure != nil || refused.values.contains(where: \.isFatal) {
      // What a failed flush leaves in the queue must not go out later behind the back of those who were told so.
      producer = nil
    }
    state.withLock { state in
      for (index, job) in jobs.enumerated() {
        state.bytes -= job.bytes
        if (refused[index] ?? failure) == nil { state.sent += job.messages.count } else { state.failed += 1 }
      }
    }
    for (index, job) in jobs.enumerated() {
      if let error = refused[index] ?? failure { job.done.resume(throwing: error) } else { job.done.resume() }
    }
  }
}
