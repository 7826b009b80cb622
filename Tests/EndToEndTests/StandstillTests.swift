import Configuration
import Domain
import Foundation
import Kafka
import KafkaTesting
import Logging
import Pipeline
import Synchronization
import Testing

/// The daemon's surroundings, but for a wall clock that is put forward, and a broker that can be out of reach for
/// questions about the ends of partitions: what a process sees whose network is cut.
private final class CutOffEnvironment: WorkerEnvironment {
  private let real = KafkaEnvironment()
  let shift_ms = Mutex<Int64>(0)
  let isCut = Mutex(false)
  let questions = Mutex(0)

  func makeConsumer(
    _ configuration: Configuration, group: String, topics: [String], member: String
  ) throws -> any GroupConsumer {
    try real.makeConsumer(configuration, group: group, topics: topics, member: member)
  }
  func makeProducer(_ configuration: Configuration, transactionalID: String?) throws -> any RecordProducer {
    try real.makeProducer(configuration, transactionalID: transactionalID)
  }
  func makeReader(_ configuration: Configuration) throws -> any LogReader {
    CutOffReader(self, try real.makeReader(configuration))
  }
  var files: any CheckpointFiles { real.files }
  func wallClock_ms() -> Int64 { real.wallClock_ms() + shift_ms.withLock { $0 } }
  func monotonic_ms() -> Int64 { real.monotonic_ms() }
  func monotonic_us() -> Int64 { real.monotonic_us() }
  func sleep(ms: Int64) { real.sleep(ms: ms) }
  func identity() -> UInt64 { real.identity() }
}

private final class CutOffReader: LogReader {
  private let environment: CutOffEnvironment
  private let real: any LogReader

  init(_ environment: CutOffEnvironment, _ real: any LogReader) {
    self.environment = environment
    self.real = real
  }

  func ends(_ places: [TopicPartition], timeout_ms: Int) throws(KafkaError) -> [TopicPartition: Int64] {
    environment.questions.withLock { $0 += 1 }
    if environment.isCut.withLock({ $0 }) {
      throw KafkaError(name: "_TRANSPORT", "the broker is away", context: "ends", isRetriable: true)
    }
    return try real.ends(places, timeout_ms: timeout_ms)
  }
  func bounds(_ place: TopicPartition, timeout_ms: Int) throws(KafkaError) -> (low: Int64, stable: Int64) {
    try real.bounds(place, timeout_ms: timeout_ms)
  }
  func read(
    _ place: TopicPartition, from: Int64, end: Int64, _ body: (ConsumedMessage) -> Bool
  ) throws(KafkaError) { try real.read(place, from: from, end: end, body) }
  func rest() { real.rest() }
  func close() { real.close() }
}

extension EndToEndTests {
  /// A process that is cut off hears nothing, and must not take its sources for idle on that account.
  @Test(arguments: TestCluster.kinds) func beingCutOffIsNotIdleness(kind: TestCluster.Kind) throws {
    let cluster = try TestCluster(kind)
    var configuration = try prepare("flat.yaml", cluster, partitions: 1, workers: 1)
    configuration.policy.idleTimeout_ms = 500
    if kind == .embedded { configuration.kafka.delivery = .atLeastOnce }
    let formatter = ISO8601DateFormatter()
    func order(_ key: String, _ time: Date) -> String {
      #"{"order_id":"\#(key)","event_id":"e-\#(key)","event_type":"invoiced","event_time":"\#(formatter.string(from: time))","currency":"USD","gross":"1.00"}"#
    }
    let (configured, environment, stop) = (configuration, CutOffEnvironment(), StopFlag())
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
    // The whole window passes while nothing can be heard.
    environment.isCut.withLock { $0 = true }
    let policy = configuration.policy
    environment.shift_ms.withLock { $0 = 2 * (policy.window_ms + policy.grace_ms + policy.outOfOrderness_ms) }
    let asked = environment.questions.withLock { $0 }
    wait("the broker is asked, again and again") { environment.questions.withLock { $0 } > asked + 2 }
    #expect(worker.currentStatus.match.tiesClosed == 0)
    #expect(try cluster.readAll(configuration.breaksTopic, partitions: 1) == [])
    // Silence of which the broker knows is another thing.
    environment.isCut.withLock { $0 = false }
    wait("the order is missing in the ledger once the sources are known to be silent") {
      worker.currentStatus.match.tiesClosed == 1
    }
    stop.stop()
    wait("the worker has ended") { isDone.withLock { $0 } }
    #expect(worker.currentStatus.restarts == 0)
    #expect(
      try cluster.readAll(configuration.breaksTopic, partitions: 1).map(\.key) == ["A:MISSING_IN_LEDGER:receivable"])
  }

  /// As the daemon: the day of the figures does not move on because nothing can be heard.
  @Test(arguments: TestCluster.kinds) func figuresWaitForABrokerThatIsAway(kind: TestCluster.Kind) throws {
    let cluster = try TestCluster(kind)
    var configuration = try prepare("receivables.yaml", cluster, partitions: 1, workers: 1, flows: FlowSettings())
    configuration.policy.idleTimeout_ms = 500
    configuration.policy.outOfOrderness_ms = 0
    configuration.flows!.interval_ms = 50
    if kind == .embedded { configuration.kafka.delivery = .atLeastOnce }
    let today = day(ofMilliseconds: KafkaEnvironment().wallClock_ms())
    var records = InvoiceRecords()
    records.invoice("I1", customer: "C", country: "NO", amount: "10.00", day: today - 2, due: nil)
    try records.send(configuration, cluster)
    let (environment, stop) = (CutOffEnvironment(), StopFlag())
    let job = try FlowsJob(configuration: configuration, stop: stop, log: silent, environment: environment)
    let isDone = Mutex(false)
    Thread {
      job.run()
      isDone.withLock { $0 = true }
    }.start()
    func wait(_ what: Comment, _ condition: () throws -> Bool) rethrows {
      let until = Date().addingTimeInterval(60)
      while try !condition(), Date() < until { Thread.sleep(forTimeInterval: 0.02) }
      #expect(try condition(), what)
    }
    wait("the figures are those of yesterday") { job.status.asOf_d == today - 1 }
    environment.isCut.withLock { $0 = true }
    let asked = environment.questions.withLock { $0 }
    environment.shift_ms.withLock { $0 = 3 * 86_400_000 }
    wait("the broker is asked, again and again") { environment.questions.withLock { $0 } > asked + 2 }
    #expect(job.status.asOf_d == today - 1)
    environment.isCut.withLock { $0 = false }
    wait("the figures are those of three days later") { job.status.asOf_d == today + 2 }
    stop.stop()
    wait("the job has ended") { isDone.withLock { $0 } }
  }
}
