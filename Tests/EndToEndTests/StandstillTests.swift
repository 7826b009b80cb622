import Configuration
import Foundation
import Kafka
import KafkaTesting
import Logging
import Pipeline
import Synchronization
import Testing

/// The daemon's surroundings, but for a wall clock that is put forward: what a process sees that stood still (a stopped
/// machine, a long wait for a broker).
private final class ShiftedEnvironment: WorkerEnvironment {
  private let real = KafkaEnvironment()
  let shift_ms = Mutex<Int64>(0)

  func makeConsumer(
    _ configuration: Configuration, group: String, topics: [String], member: String
  ) throws -> any GroupConsumer {
    try real.makeConsumer(configuration, group: group, topics: topics, member: member)
  }
  func makeProducer(_ configuration: Configuration, transactionalID: String?) throws -> any RecordProducer {
    try real.makeProducer(configuration, transactionalID: transactionalID)
  }
  func makeReader(_ configuration: Configuration) throws -> any LogReader { try real.makeReader(configuration) }
  var files: any CheckpointFiles { real.files }
  func wallClock_ms() -> Int64 { real.wallClock_ms() + shift_ms.withLock { $0 } }
  func monotonic_ms() -> Int64 { real.monotonic_ms() }
  func monotonic_us() -> Int64 { real.monotonic_us() }
  func sleep(ms: Int64) { real.sleep(ms: ms) }
  func identity() -> UInt64 { real.identity() }
}

extension EndToEndTests {
  /// While a process stands still it hears nothing, and must not take its sources for idle on that account.
  @Test func standingStillIsNotIdleness() throws {
    let cluster = try TestCluster()
    var configuration = try prepare("flat.yaml", cluster, partitions: 1, workers: 1)
    configuration.policy.idleTimeout_ms = 8_000
    let formatter = ISO8601DateFormatter()
    func order(_ key: String, _ time: Date) -> String {
      #"{"order_id":"\#(key)","event_id":"e-\#(key)","event_type":"invoiced","event_time":"\#(formatter.string(from: time))","currency":"USD","gross":"1.00"}"#
    }
    let (configured, environment, stop) = (configuration, ShiftedEnvironment(), StopFlag())
    let worker = Worker(
      configuration: configured, number: 0, stop: stop, log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
      environment: environment)
    let isDone = Mutex(false)
    let thread = Thread {
      worker.run()
      isDone.withLock { $0 = true }
    }
    thread.start()
    func wait(_ what: Comment, _ condition: () throws -> Bool) rethrows {
      let until = Date().addingTimeInterval(60)
      while try !condition(), Date() < until { Thread.sleep(forTimeInterval: 0.02) }
      #expect(try condition(), what)
    }

    let now = Date()
    try cluster.produce(configuration.sources[0].topic, [("A", order("A", now), 0)])
    wait("the order is read, and both sources to their end") {
      worker.currentStatus.match.tiesOpened == 1 && worker.currentStatus.partitionsAtEnd == 1
    }
    // The whole window passes while nobody listens.
    let policy = configuration.policy
    environment.shift_ms.withLock { $0 = 2 * (policy.window_ms + policy.grace_ms + policy.outOfOrderness_ms) }
    Thread.sleep(forTimeInterval: 1)
    #expect(worker.currentStatus.match.tiesClosed == 0)
    #expect(try cluster.readAll(configuration.breaksTopic, partitions: 1) == [])
    // Real silence, for as long as is agreed, is another thing.
    wait("the order is missing in the ledger once the sources have been silent") {
      worker.currentStatus.match.tiesClosed == 1
    }
    stop.stop()
    wait("the worker has ended") { isDone.withLock { $0 } }
    #expect(worker.currentStatus.restarts == 0)
    #expect(
      try cluster.readAll(configuration.breaksTopic, partitions: 1).map(\.key) == ["A:MISSING_IN_LEDGER:receivable"])
  }
}
