import Foundation
import Configuration
import Kafka
import Pipeline

/// Hands the turn from one process to the next, in virtual time, as the seed decides.
///
/// Every process runs on a thread of its own, and exactly one of them runs at a time: the real worker's code goes on
/// until its next call to the cluster, where any other process may come in between, and where it may die.
final class SimulationScheduler: @unchecked Sendable {
  private final class Runner: @unchecked Sendable {
    let process: SimulatedProcess
    let turn = DispatchSemaphore(value: 0)
    var wake_ms: Int64 = 0
    var isDone = false
    init(_ process: SimulatedProcess) { self.process = process }
  }

  let cluster: SimulatedCluster
  private var runners: [Runner] = []
  private let back = DispatchSemaphore(value: 0)
  /// Of a hundred calls, how many let others in between.
  var switchRate = 40
  /// Of ten thousand calls, how many are lost on the way, and as many on the way back.
  var lossRate = 0
  /// How long a read that finds nothing takes.
  var idle_ms: Int64 = 60
  /// How far the clocks of all have been moved.
  var skew_ms: Int64 = 0

  init(cluster: SimulatedCluster) { self.cluster = cluster }

  func start(_ process: SimulatedProcess, _ body: @escaping @Sendable () -> Void) {
    let runner = Runner(process)
    runner.wake_ms = cluster.now_ms
    runners.append(runner)
    let back = self.back
    let thread = Thread {
      runner.turn.wait()
      body()
      runner.isDone = true
      back.signal()
    }
    thread.stackSize = 1 << 20
    thread.start()
  }

  /// Processes that still run.
  var running: [SimulatedProcess] { runners.filter { !$0.isDone }.map(\.process) }

  func isRunning(_ processes: [SimulatedProcess]) -> Bool {
    runners.contains { runner in !runner.isDone && processes.contains { $0 === runner.process } }
  }

  // MARK: - On the processes' threads

  func yield(_ process: SimulatedProcess) {
    guard !process.isDead, cluster.random.below(100) < switchRate else { return }
    hand(process, wake_ms: cluster.now_ms)
  }

  func sleep(_ process: SimulatedProcess, ms: Int64) {
    guard !process.isDead else { return }
    hand(process, wake_ms: cluster.now_ms + max(1, ms))
  }

  private func hand(_ process: SimulatedProcess, wake_ms: Int64) {
    guard let runner = runners.first(where: { $0.process === process }) else { return }
    runner.wake_ms = wake_ms
    back.signal()
    runner.turn.wait()
  }

  func fault() -> CallFault {
    guard lossRate > 0 else { return .none }
    let number = cluster.random.below(10_000)
    return number < lossRate ? .requestLost : number < 2 * lossRate ? .responseLost : .none
  }

  // MARK: - On the simulation's thread

  /// Gives one process the turn, or lets time go on. False when all have ended.
  func step() -> Bool {
    runners.removeAll(where: \.isDone)
    guard !runners.isEmpty else { return false }
    cluster.tick()
    let ready = runners.filter { $0.process.isDead || $0.wake_ms <= cluster.now_ms && $0.process.isResponsive }
    guard let runner = ready.isEmpty ? nil : ready[cluster.random.below(ready.count)] else {
      let next = runners.map { max($0.wake_ms, $0.process.pausedUntil_ms) }.min()!
      // Not past what happens by itself.
      cluster.now_ms = min(max(next, cluster.now_ms + 1), cluster.now_ms + 500)
      return true
    }
    runner.turn.signal()
    back.wait()
    if cluster.random.below(4) == 0 { cluster.now_ms += Int64(cluster.random.below(5)) }
    return true
  }

  /// The processes are gone at once: their threads run out without reaching the cluster again.
  func kill(_ processes: [SimulatedProcess]) {
    for process in processes { process.isDead = true }
    for runner in runners where !runner.isDone && processes.contains(where: { $0 === runner.process }) {
      while !runner.isDone {
        runner.turn.signal()
        back.wait()
      }
    }
  }
}

final class SimulatedEnvironment: WorkerEnvironment {
  private let process: SimulatedProcess
  private let base_ms: Int64
  private var identities: SeededRandom
  let defect: Defect?
  let files: any CheckpointFiles
  /// How far this process's clock is off.
  var skew_ms: Int64 = 0

  init(_ process: SimulatedProcess, base_ms: Int64, files: any CheckpointFiles, defect: Defect?) {
    self.process = process
    self.files = files
    self.base_ms = base_ms
    self.defect = defect
    identities = SeededRandom(seed: process.cluster.random.next(), stream: 7)
  }

  func makeConsumer(
    _ configuration: Configuration, group: String, topics: [String], member: String
  ) -> any GroupConsumer {
    SimulatedConsumer(process, group: group, topics: topics, instance: member, defect: defect)
  }
  func makeProducer(_ configuration: Configuration, transactionalID: String?) -> any RecordProducer {
    SimulatedProducer(process, transactionalID: transactionalID)
  }
  func makeReader(_ configuration: Configuration) -> any LogReader { SimulatedReader(process) }
  func wallClock_ms() -> Int64 { base_ms + process.cluster.now_ms + process.scheduler.skew_ms + skew_ms }
  func monotonic_ms() -> Int64 { process.cluster.now_ms }
  func monotonic_us() -> Int64 { process.cluster.now_ms * 1_000 }
  func sleep(ms: Int64) { process.scheduler.sleep(process, ms: ms) }
  func identity() -> UInt64 { identities.next() | 1 }
  /// Often, so that the group is served between any two steps of a recovery.
  var keepAlive_ms: Int64 { 3 }
}
