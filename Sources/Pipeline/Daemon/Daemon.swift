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
  private let trustsEmbeddedTransactions: Bool
  private var threads: [Thread] = []
  private let running = Mutex(0)
  /// The most that is waited for the workers to finish their epochs.
  public static let stopTimeout_ms: Int64 = 60_000

  /// - Parameter trustsEmbeddedTransactions: For measurements of the client's part alone: the configured delivery is
  ///   kept on the embedded broker, whose transactions commit nothing.
  public init(configuration: Configuration, log: Logger, trustsEmbeddedTransactions: Bool = false) {
    self.configuration = configuration
    self.log = log
    self.trustsEmbeddedTransactions = trustsEmbeddedTransactions
  }

  /// Checks the topics and starts the workers.
  public func start() throws {
    keepFetchMemory()
    let check = TopicCheck(configuration)
    let counts = try check.run(log: log)
    configuration.partialsPartitions = counts[configuration.partialsTopic] ?? 1
    let isEmbedded = try check.isEmbeddedBroker()
    let wait = "fetch.wait.max.ms"
    if !isEmbedded, !(configuration.kafka.properties + configuration.kafka.consumer).contains(where: { $0.0 == wait }) {
      // A real broker answers as soon as something comes: a fetch may wait. The embedded one waits out the time.
      configuration.kafka.consumer.append((wait, .plain("100")))
    }
    if configuration.kafka.delivery == .exactlyOnce, !trustsEmbeddedTransactions, isEmbedded {
      log.warning("the embedded broker knows no transactions: delivery is at least once")
      configuration.kafka.delivery = .atLeastOnce
    }
    let (configuration, stop, log) = (configuration, stop, log)
    workers = (0..<configuration.workers).map { Worker(configuration: configuration, number: $0, stop: stop, log: log) }
    for worker in workers { start { worker.run() } }
    if configuration.sources.contains(where: \.isRouted) {
      start {
        Router(configuration: configuration, stop: stop, log: log, environment: KafkaEnvironment()).run()
      }
    }
    start { TotalsStage(configuration: configuration, stop: stop, log: log, environment: KafkaEnvironment()).run() }
    log.info("started", metadata: ["workers": "\(workers.count)", "group": "\(configuration.kafka.group)"])
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

  /// Waits until the workers have left after `stop`. Returns false if they did not in time.
  public func waitUntilStopped() -> Bool {
    let until = monotonic_ms() + Daemon.stopTimeout_ms
    while isRunning, monotonic_ms() < until { usleep(5_000) }
    return !isRunning
  }

  /// The sum over the workers.
  public var status: WorkerStatus {
    var sum = WorkerStatus()
    for worker in workers {
      let one = worker.currentStatus
      sum.decode.add(one.decode)
      sum.match.add(one.match)
      sum.totals.merge(one.totals)
      sum.partitions += one.partitions
      sum.partitionsAtEnd += one.partitionsAtEnd
      sum.ties += one.ties
      sum.stateBytes += one.stateBytes
      sum.lag += one.lag
      sum.epochs += one.epochs
      sum.deadLetters += one.deadLetters
      sum.restarts += one.restarts
      sum.recoveries += one.recoveries
      sum.replayedRecords += one.replayedRecords
      sum.recoveryProblems += one.recoveryProblems
      sum.trimmedRecords += one.trimmedRecords
      sum.checkpoints += one.checkpoints
      sum.checkpointBytes += one.checkpointBytes
      sum.abortedEpochs += one.abortedEpochs
      sum.longestCheckpointPause_us = max(sum.longestCheckpointPause_us, one.longestCheckpointPause_us)
      if let first = one.firstRecord_us { sum.firstRecord_us = min(sum.firstRecord_us ?? .max, first) }
      sum.isThrottled = sum.isThrottled || one.isThrottled
      if let watermark = one.watermark_ms { sum.watermark_ms = min(sum.watermark_ms ?? .max, watermark) }
    }
    return sum
  }

  /// One line of the state of affairs.
  public func logStatus() {
    let status = self.status
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

public struct TopicCheckError: Error, CustomStringConvertible { public var description: String }

/// Whether the topics of a configuration are there and fit together.
public struct TopicCheck {
  public let configuration: Configuration

  public init(_ configuration: Configuration) { self.configuration = configuration }

  /// Whether the cluster is librdkafka's mock, as `tieout broker` runs it.
  public func isEmbeddedBroker() throws -> Bool {
    try Admin(properties: configuration.clientProperties(.admin)).clusterID()?.hasPrefix("mock") == true
  }

  /// Creates output topics that are missing, where the broker does that; throws where sources are missing or are not
  /// co-partitioned. Returns partition counts by topic.
  @discardableResult
  public func run(log: Logger, createsOutputs: Bool = true) throws -> [String: Int] {
    let admin = try Admin(properties: configuration.clientProperties(.admin))
    // All topics at once: asking for one by name would make a broker with automatic creation create it.
    let known = try admin.topics()
    var counts: [String: Int] = [:]
    for source in configuration.sources {
      guard let count = known[source.originalTopic] else {
        throw TopicCheckError(
          description:
            "source '\(source.name)': there is no topic '\(source.originalTopic)' at \(configuration.kafka.bootstrap)")
      }
      counts[source.originalTopic] = count
    }
    let direct = configuration.sources.filter { !$0.isRouted }
    // Where everything is routed, the widest source decides.
    let tasks = direct.first.map { counts[$0.topic]! } ?? configuration.sources.map { counts[$0.originalTopic]! }.max()!
    for source in configuration.sources where source.isRouted {
      counts[source.topic] = known[source.topic] ?? tasks
    }
    let sizes = Set(configuration.sources.map { counts[$0.topic]! })
    guard sizes.count == 1 else {
      let list = configuration.sources.map { "\($0.topic): \(counts[$0.topic]!)" }.joined(separator: ", ")
      throw TopicCheckError(
        description:
          "the source topics must be co-partitioned by order key, and have different partition counts (\(list))")
    }
    guard createsOutputs else { return counts }
    let wanted = configuration.ownTopics
    let isEmbedded = admin.clusterID()?.hasPrefix("mock") == true
    for topic in wanted where isEmbedded && known[topic.name] == nil {
      throw TopicCheckError(
        description: "there is no topic '\(topic.name)', and the embedded broker creates none over the wire: start it "
          + "with `tieout broker --config`")
    }
    let missing = wanted.filter { known[$0.name] == nil }
    for (topic, config) in missing {
      do throws(KafkaError) {
        let result = try admin.createTopic(topic, partitions: tasks, config: config)
        if result == .created { log.info("topic created", metadata: ["topic": "\(topic)"]) }
      } catch {
        // A broker that creates it by itself when the first message comes would do it with other settings.
        let settings = config.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: ", ")
        throw TopicCheckError(
          description: "there is no topic '\(topic)', and it could not be created (\(error)): create it with \(tasks) "
            + "partitions" + (settings.isEmpty ? "" : " and \(settings)"))
      }
    }
    if !missing.isEmpty {
      let unseen = try admin.await(Set(missing.map(\.name)))
      guard unseen.isEmpty else {
        throw TopicCheckError(
          description: "no leader has been seen of \(unseen.sorted().joined(separator: ", ")), which were just created")
      }
    }
    // Another process may have created some with other numbers.
    let now = missing.isEmpty ? known : try admin.topics()
    for topic in wanted { counts[topic.name] = now[topic.name] }
    // A task writes to its own partition of these.
    let own = configuration.sources.filter(\.isRouted).map(\.topic)
    for topic in [configuration.epochsTopic, configuration.checkpointsTopic] + own {
      if let count = counts[topic], count < tasks {
        throw TopicCheckError(
          description: "the topic '\(topic)' has \(count) partitions; there are \(tasks) tasks, and each needs its own")
      }
    }
    return counts
  }
}

extension Configuration {
  /// The topics that tieout itself writes, with what they are to be configured with.
  public var ownTopics: [(name: String, config: [String: String])] {
    let compact = ["cleanup.policy": "compact"]
    let retained = ["cleanup.policy": "delete", "retention.ms": "\(epochRetention_ms)", "retention.bytes": "-1"]
    // A restore reads the whole topic: what is replaced must go soon, and only closed segments are compacted.
    let checkpointed = compact.merging(
      [
        "segment.bytes": "\(64 << 20)", "min.cleanable.dirty.ratio": "0.1", "delete.retention.ms": "\(3_600_000)",
      ]) { $1 }
    var topics: [(name: String, config: [String: String])] = [
      (breaksTopic, compact), (deadLettersTopic, [:]), (epochsTopic, retained), (partialsTopic, compact),
      (totalsTopic, compact),
    ]
    if aggregates != nil { topics.append((revenueTopic, compact)) }
    if quality != nil { topics.append((qualityTopic, compact)) }
    if flows != nil { topics += [(cashflowTopic, compact), (receivablesTopic, compact)] }
    if checkpoints == .topic { topics.append((checkpointsTopic, checkpointed)) }
    for source in sources where source.isRouted { topics.append((source.topic, retained)) }
    return topics
  }

  /// The topics that the console writes. Actions stay for ever: the console is made anew from them.
  public var consoleTopics: [(name: String, config: [String: String])] {
    [
      (actionsTopic, ["cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"]),
      (proposalsTopic, ["cleanup.policy": "compact"]),
    ]
  }
}
