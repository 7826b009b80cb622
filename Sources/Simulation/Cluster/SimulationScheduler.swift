import Foundation
import Configuration
import Kafka
import Pipeline

/// Hands the turn from one process to the next, in virtual time, as the seed decides.
///
/// Every process runs on a thread of its own, and exactly one of them runs at a time: the real worker's code goes on
/// until its next call to the cluster, where any other process may come in between, and where it may die. Who gives the
/// turn away chooses who has it next and wakes that thread itself: to wake a thread is what a step costs most.
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
    let thread = Thread { [self] in
      runner.turn.wait()
      body()
      runner.isDone = true
      (next() ?? back).signal()
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
    guard let runner = runners.first(where: { $0.process === process }) else {
      // The check after a run: nobody else moves the time that it waits for.
      cluster.now_ms = max(cluster.now_ms, wake_ms)
      return
    }
    runner.wake_ms = wake_ms
    let next = next() ?? back
    // The turn may stay where it is.
    guard next !== runner.turn else { return }
    next.signal()
    runner.turn.wait()
  }

  func fault() -> CallFault {
    guard lossRate > 0 else { return .none }
    let number = cluster.random.below(10_000)
    return number < lossRate ? .requestLost : number < 2 * lossRate ? .responseLost : .none
  }

  // MARK: - On whose turn it is

  /// Steps that are left until the simulation has the turn again, and the time at which it wants it at the latest.
  private var stepsLeft = 0
  private var limit_ms: Int64 = 0
  /// Steps that have been made altogether.
  private(set) var steps = 0
  private var isFirst = false

  /// Whose turn is next; time goes on where nobody is ready. nil for the simulation's.
  private func next() -> DispatchSemaphore? {
    // What the last one did has taken a moment.
    if !isFirst, cluster.random.below(4) == 0 { cluster.now_ms += Int64(cluster.random.below(5)) }
    isFirst = false
    while stepsLeft > 0, cluster.now_ms < limit_ms {
      stepsLeft -= 1
      steps += 1
      if runners.contains(where: \.isDone) { runners.removeAll(where: \.isDone) }
      guard !runners.isEmpty else { return nil }
      cluster.tick()
      var ready = 0
      var earliest_ms = Int64.max
      for runner in runners {
        if isReady(runner) { ready += 1 }
        earliest_ms = min(earliest_ms, max(runner.wake_ms, runner.process.pausedUntil_ms))
      }
      guard ready == 0 else {
        var number = cluster.random.below(ready)
        for runner in runners where isReady(runner) {
          if number == 0 { return runner.turn }
          number -= 1
        }
        preconditionFailure("one of those that are ready has the turn")
      }
      // Not past what happens by itself.
      cluster.now_ms = min(max(earliest_ms, cluster.now_ms + 1), cluster.now_ms + 500)
    }
    return nil
  }

  private func isReady(_ runner: Runner) -> Bool {
    runner.process.isDead || runner.wake_ms <= cluster.now_ms && runner.process.isResponsive
  }

  // MARK: - On the simulation's thread

  /// Gives the turn away as many times, or until a time comes. False when all have ended.
  func run(steps count: Int, until limit_ms: Int64 = .max) -> Bool {
    stepsLeft = count
    self.limit_ms = limit_ms
    isFirst = true
    if let first = next() {
      first.signal()
      back.wait()
    }
    stepsLeft = 0
    return runners.contains { !$0.isDone }
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
  /// Next to none, so that sources wait for each other again and again.
  var leastBacklog: Int { 4 }
}
