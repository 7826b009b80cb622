import Configuration
import Domain
import Foundation
import Kafka
import Logging
import Synchronization

/// The continuous reconciler: the workers of this process and their common life.
public final class Daemon: @unchecked Sendable {
  public private(set) var configuration: Configuration
  public let stop = StopFlag()
  private var workers: [Worker] = []
  private let log: Logger
  private var threads: [Thread] = []
  private let running = Mutex(0)
  private var masterData: MasterData?
  private var totals: TotalsStage?
  private var router: Router?
  /// Of the values that must be unique, as far as this process holds them; nil where no rule says so.
  var uniqueCounts: UniqueValues.Counts? { totals?.currentUniqueCounts }
  /// The most that is waited for the workers to finish their epochs.
  public static let stopTimeout_ms: Int64 = 60_000
  let startedAt_ms = wallClock_ms()

  public init(configuration: Configuration, log: Logger) {
    self.configuration = configuration
    self.log = log
  }

  /// Checks the topics and starts the workers.
  public func start() throws {
    keepFetchMemory()
    try configuration.checkClients()
    let check = TopicCheck(configuration)
    let counts = try check.run(log: log)
    configuration.partialsPartitions = counts[configuration.partialsTopic] ?? 1
    configuration.setTaskCount(counts)
    let isEmbedded = try check.isEmbeddedBroker()
    if !isEmbedded { configuration.letFetchesWait() }
    if configuration.kafka.delivery == .exactlyOnce, isEmbedded {
      log.warning("the embedded broker knows no transactions: delivery is at least once")
      configuration.kafka.delivery = .atLeastOnce
    }
    let (configuration, stop, log) = (configuration, stop, log)
    let ofFlows: [Output] = [.cashflow, .receivables, .variance]
    let outputs = try OutputEncoding(configuration, configuration.writtenOutputs.filter { !ofFlows.contains($0) })
    if configuration.followsTables {
      masterData = try MasterData(configuration, log: log)
    } else if configuration.sumsByPeriod {
      try KnownPeriods.settle(
        configuration, producer: try Producer(properties: configuration.clientProperties(.producer)))
    }
    let masterData = masterData
    workers = (0..<configuration.workers).map {
      Worker(configuration: configuration, number: $0, stop: stop, log: log, masterData: masterData, outputs: outputs)
    }
    for worker in workers { start { worker.run() } }
    if configuration.sources.contains(where: \.isRouted) {
      let router = Router(configuration: configuration, stop: stop, log: log, environment: KafkaEnvironment())
      self.router = router
      start { router.run() }
    }
    let totals = TotalsStage(
      configuration: configuration, stop: stop, log: log, environment: KafkaEnvironment(), outputs: outputs,
      masterData: masterData)
    self.totals = totals
    start { totals.run() }
    log.info("started", metadata: ["workers": "\(workers.count)", "group": "\(configuration.kafka.group)"])
  }

  /// Looks for changes of the tables, where they are followed; now, or when it is time.
  public func refreshTables(isForced: Bool = false) { masterData?.refresh(isForced: isForced) }

  /// The tables that are followed, and whether one stays as it was.
  var tables: [(source: TableSource, isTroubled: Bool)] { masterData?.tables ?? [] }

  /// Whether every worker decodes with the tables as they were last read.
  public var usesNewestTables: Bool {
    guard let masterData else { return true }
    let hash = masterData.current.hash
    return workers.allSatisfy { $0.currentStatus.tables == hash }
  }

  private func start(_ body: @escaping @Sendable () -> Void) {
    let thread = Thread { [self] in
      body()
      running.withLock { $0 -= 1 }
    }
    thread.stackSize = 8 << 20
    running.withLock { $0 += 1 }
    threads.append(thread)
    thread.start()
  }

  public var isRunning: Bool { running.withLock { $0 > 0 } }

  /// Threads of which nothing has been heard for minutes: they wait in a call of the client library that does not return.
  public var standingStill: [String] {
    let now_ms = monotonic_ms()
    var names = workers.filter { $0.pulse.standsStill(now_ms) }.map { "worker \($0.number)" }
    if let router, router.pulse.standsStill(now_ms) { names.append("router") }
    if let totals, totals.pulse.standsStill(now_ms) { names.append("totals") }
    return names
  }

  /// Waits until the workers have left after `stop`. Returns false if they did not in time.
  public func waitUntilStopped() -> Bool {
    let until = monotonic_ms() + Daemon.stopTimeout_ms
    while isRunning, monotonic_ms() < until { usleep(5_000) }
    return !isRunning
  }

  /// The sum over the workers.
  public var status: WorkerStatus {
    var sum = WorkerStatus()
    sum.isReady = !workers.isEmpty
    for worker in workers {
      let one = worker.currentStatus
      sum.decode.add(one.decode)
      sum.match.add(one.match)
      sum.totals.merge(one.totals)
      sum.partitions += one.partitions
      sum.partitionsAtEnd += one.partitionsAtEnd
      sum.ties += one.ties
      sum.uncommittedTasks += one.uncommittedTasks
      sum.waiting += one.waiting
      sum.cells += one.cells
      sum.overflow.add(one.overflow)
      sum.periodOverflow += one.periodOverflow
      sum.hold.add(one.hold)
      sum.stateBytes += one.stateBytes
      sum.lag += one.lag
      sum.epochs += one.epochs
      sum.deadLetters += one.deadLetters
      sum.restarts += one.restarts
      sum.recoveries += one.recoveries
      sum.replayedRecords += one.replayedRecords
      sum.foreignEpochs += one.foreignEpochs
      sum.recoveryProblems += one.recoveryProblems
      sum.trimmedRecords += one.trimmedRecords
      sum.checkpoints += one.checkpoints
      sum.checkpointFailures += one.checkpointFailures
      sum.checkpointsPutOff += one.checkpointsPutOff
      if let time = one.checkpointed_ms { sum.checkpointed_ms = min(sum.checkpointed_ms ?? .max, time) }
      sum.checkpointBytes += one.checkpointBytes
      sum.abortedEpochs += one.abortedEpochs
      sum.commits += one.commits
      sum.commitTime_us += one.commitTime_us
      sum.epochTime_us += one.epochTime_us
      sum.rebalances += one.rebalances
      sum.longestCheckpointPause_us = max(sum.longestCheckpointPause_us, one.longestCheckpointPause_us)
      if let first = one.firstRecord_us { sum.firstRecord_us = min(sum.firstRecord_us ?? .max, first) }
      sum.sourcesWaiting += one.sourcesWaiting
      sum.isThrottled = sum.isThrottled || one.isThrottled
      sum.isReady = sum.isReady && one.isReady
      if let watermark = one.watermark_ms { sum.watermark_ms = min(sum.watermark_ms ?? .max, watermark) }
    }
    return sum
  }

  /// What has been said of mappings and keys: each once.
  private var doubted: Set<String> = []

  /// One line of the state of affairs, and what looks like a mistake in a mapping; from one thread.
  public func logStatus() {
    let status = self.status
    for name in standingStill {
      log.error(
        "a thread stands still in a call of the client library: end this process, so that another one takes over",
        metadata: ["thread": "\(name)", "seconds": "\(Pulse.patience_ms / 1_000)"])
    }
    for doubt in status.decode.doubts where doubted.insert(doubt.about).inserted { log.warning("\(doubt.text)") }
    log.info(
      "status",
      metadata: [
        "records": "\(status.decode.records)", "lag": "\(status.lag)", "partitions": "\(status.partitions)",
        "ties": "\(status.ties)", "state_mib": "\(status.stateBytes >> 20)",
        "checkpoints": "\(status.checkpoints)", "aborted_epochs": "\(status.abortedEpochs)",
        "open_breaks": "\(status.match.open.reduce(0, +))", "dead_letters": "\(status.deadLetters)",
        "watermark": "\(status.watermark_ms.map(formatTimestamp) ?? "none")",
      ])
  }
}
