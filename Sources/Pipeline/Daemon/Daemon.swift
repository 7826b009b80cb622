import Configuration
import Domain
import Foundation
import Kafka
import Logging
import Synchronization

/// The continuous reconciler: the workers of this process and their common life.
public final class Daemon: @unchecked Sendable {
  public let configuration: Configuration
  public let stop = StopFlag()
  private let workers: [Worker]
  private let log: Logger
  private var threads: [Thread] = []
  private let running = Mutex(0)
  /// The most that is waited for the workers to finish their epochs.
  public static let stopTimeout_ms: Int64 = 60_000

  public init(configuration: Configuration, log: Logger) {
    self.configuration = configuration
    self.log = log
    let stop = self.stop
    workers = (0..<configuration.workers).map { Worker(configuration: configuration, number: $0, stop: stop, log: log) }
  }

  /// Checks the topics and starts the workers.
  public func start() throws {
    try TopicCheck(configuration).run(log: log)
    for worker in workers {
      let thread = Thread { [self] in
        worker.run()
        running.withLock { $0 -= 1 }
      }
      thread.stackSize = 8 << 20
      running.withLock { $0 += 1 }
      threads.append(thread)
      thread.start()
    }
    log.info("started", metadata: ["workers": "\(workers.count)", "group": "\(configuration.kafka.group)"])
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

  /// Creates output topics that are missing, where the broker does that; throws where sources are missing or are not
  /// co-partitioned. Returns partition counts by topic.
  @discardableResult
  public func run(log: Logger, createsOutputs: Bool = true) throws -> [String: Int] {
    let admin = try Admin(properties: configuration.clientProperties(.admin))
    // All topics at once: asking for one by name would make a broker with automatic creation create it.
    let known = try admin.topics()
    var counts: [String: Int] = [:]
    for source in configuration.sources {
      guard let count = known[source.topic] else {
        throw TopicCheckError(
          description:
            "source '\(source.name)': there is no topic '\(source.topic)' at \(configuration.kafka.bootstrap)")
      }
      counts[source.topic] = count
    }
    let sizes = Set(configuration.sources.map { counts[$0.topic]! })
    guard sizes.count == 1 else {
      let list = configuration.sources.map { "\($0.topic): \(counts[$0.topic]!)" }.joined(separator: ", ")
      throw TopicCheckError(
        description:
          "the source topics must be co-partitioned by order key, and have different partition counts (\(list))")
    }
    for (topic, config) in [
      (configuration.breaksTopic, ["cleanup.policy": "compact"]), (configuration.deadLettersTopic, [:]),
    ] {
      if let count = known[topic] {
        counts[topic] = count
      } else if createsOutputs {
        do throws(KafkaError) {
          let result = try admin.createTopic(topic, partitions: sizes.first!, config: config, timeout_ms: 5_000)
          if result == .created { log.info("topic created", metadata: ["topic": "\(topic)"]) }
        } catch {
          // The broker may still create it when the first message comes.
          log.warning("topic not created", metadata: ["topic": "\(topic)", "error": "\(error)"])
        }
      }
    }
    return counts
  }
}
