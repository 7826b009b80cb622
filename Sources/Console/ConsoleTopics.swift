import Configuration
import Dispatch
import Foundation
import Kafka
import Logging
import Pipeline
import Synchronization

/// Makes the topics that only the console writes where they are missing, and goes on trying until they are there: with as
/// many partitions as there are tasks, each of which reads its own of the actions. That is known when the sources are, or
/// the breaks; until then nothing is made. The embedded broker makes none over the wire.
final class ConsoleTopics: Sendable {
  private let configuration: Configuration
  private let log: Logger
  private let retry_ms: Int
  private let isStopped = Mutex(false)
  private let wake = DispatchSemaphore(value: 0)
  private let finished = DispatchSemaphore(value: 0)

  init(_ configuration: Configuration, log: Logger, retry_ms: Int = 5_000) {
    self.configuration = configuration
    self.retry_ms = retry_ms
    self.log = log
  }

  func start() {
    let thread = Thread { [self] in
      run()
      finished.signal()
    }
    thread.name = "topics"
    thread.start()
  }

  func stop() {
    isStopped.withLock { $0 = true }
    wake.signal()
    finished.wait()
  }

  private func run() {
    var problem = ""
    while !isStopped.withLock({ $0 }) {
      do {
        if try make() { return }
      } catch {
        // Said once, not at every try.
        if "\(error)" != problem {
          log.warning("the console's topics could not be looked at or made", metadata: ["error": "\(error)"])
        }
        problem = "\(error)"
      }
      _ = wake.wait(timeout: .now() + .milliseconds(retry_ms))
    }
  }

  /// - Returns: whether nothing is left to do.
  private func make() throws -> Bool {
    let admin = try Admin(properties: configuration.clientProperties(.admin))
    let cluster = try admin.describe()
    let known = cluster.topics.mapValues(\.partitions.count)
    let missing = configuration.consoleTopics.filter { known[$0.name] == nil }
    guard !missing.isEmpty, !cluster.isEmbedded else { return true }
    guard let partitions = ConsoleTopics.partitions(configuration, known: known) else { return false }
    for topic in missing {
      let made = try admin.createTopic(
        topic.name, partitions: partitions, replication: configuration.kafka.replication, config: topic.config)
      if made == .created {
        log.info("topic created", metadata: ["topic": "\(topic.name)", "partitions": "\(partitions)"])
      }
    }
    return true
  }

  /// One for each task; nil where that is not known yet.
  /// - Parameter known: Partition counts of the topics of the cluster.
  static func partitions(_ configuration: Configuration, known: [String: Int]) -> Int? {
    let plan = TopicPlan(configuration, known: known)
    // Who may not see the sources may see the breaks, which the daemon makes.
    let sources = configuration.sources.map(\.originalTopic)
    return sources.allSatisfy { known[$0] != nil } ? plan.tasks : known[configuration.breaksTopic]
  }
}
