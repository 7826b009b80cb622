import Configuration
import Glibc
import Kafka
import Logging

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
    var known = try admin.topics()
    var plan = TopicPlan(configuration, known: known)
    if !plan.problems.isEmpty {
      // A topic that was just created is not known to every broker at once.
      usleep(500_000)
      known = try admin.topics()
      plan = TopicPlan(configuration, known: known)
    }
    if let problem = plan.problems.first {
      throw TopicCheckError(description: problem.text + (problem.advice.map { ". \($0)" } ?? ""))
    }
    var counts = plan.counts
    let tasks = plan.tasks
    let wanted = configuration.ownTopics
    guard createsOutputs else {
      for topic in wanted { counts[topic.name] = known[topic.name] }
      return counts
    }
    let isEmbedded = admin.clusterID()?.hasPrefix("mock") == true
    for topic in wanted where isEmbedded && known[topic.name] == nil {
      throw TopicCheckError(
        description: "there is no topic '\(topic.name)', and the embedded broker creates none over the wire: start it "
          + "with `tieout broker --config`")
    }
    let missing = wanted.filter { known[$0.name] == nil }
    for (topic, config) in missing {
      do throws(KafkaError) {
        let result = try admin.createTopic(
          topic, partitions: tasks, replication: configuration.kafka.replication, config: config)
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
    if let problem = TopicPlan(configuration, known: now).problems.first {
      throw TopicCheckError(description: problem.text)
    }
    return counts
  }
}

/// How the topics that are there go together with a configuration.
public struct TopicPlan: Sendable {
  public struct Problem: Sendable, Equatable {
    public var topic: String
    public var text: String
    /// What to do about it; nil where that is plain.
    public var advice: String?
  }
  /// Partitions of the topics that the tasks read, those of internal ones that are yet to be made included.
  public private(set) var counts: [String: Int] = [:]
  /// One for each partition of the sources; 0 where no source is there.
  public private(set) var tasks = 0
  /// What keeps the daemon from starting.
  public private(set) var problems: [Problem] = []

  /// - Parameter known: Partition counts of all topics of the cluster.
  public init(_ configuration: Configuration, known: [String: Int]) {
    let sources = configuration.sources
    for source in sources {
      counts[source.originalTopic] = known[source.originalTopic]
      if known[source.originalTopic] == nil {
        problems.append(
          Problem(
            topic: source.originalTopic,
            text: "source '\(source.name)': there is no topic '\(source.originalTopic)' at "
              + configuration.kafka.bootstrap))
      }
    }
    problems += configuration.headerSources.map { source in
      Problem(
        topic: source.originalTopic, text: Configuration.headerProblem(source), advice: Configuration.headerAdvice)
    }
    for table in configuration.topicTables where known[table.topic!] == nil {
      problems.append(
        Problem(
          topic: table.topic!,
          text: "\(table.words): there is no topic '\(table.topic!)' at \(configuration.kafka.bootstrap)"))
    }
    if let topic = configuration.variance?.budgetTopic, known[topic] == nil {
      problems.append(
        Problem(topic: topic, text: "the budget: there is no topic '\(topic)' at \(configuration.kafka.bootstrap)"))
    }
    let direct = sources.filter { !$0.isRouted }.compactMap { known[$0.topic] }
    // Where everything is routed, the widest source decides.
    tasks = direct.first ?? sources.compactMap { known[$0.originalTopic] }.max() ?? 0
    guard problems.isEmpty else { return }
    for source in sources where source.isRouted { counts[source.topic] = known[source.topic] ?? tasks }
    if Set(sources.map { counts[$0.topic]! }).count > 1 {
      let list = sources.map { "\($0.topic): \(counts[$0.topic]!)" }.joined(separator: ", ")
      problems.append(
        Problem(
          topic: sources[0].topic,
          text: "the source topics must be co-partitioned by order key, and have different partition counts (\(list))"))
    }
    // The console sends an action to the partition of the task that has the break.
    if configuration.takesActions {
      counts[configuration.actionsTopic] = known[configuration.actionsTopic] ?? tasks
      if let count = known[configuration.actionsTopic], count != tasks {
        problems.append(
          Problem(
            topic: configuration.actionsTopic,
            text:
              "the topic '\(configuration.actionsTopic)' has \(count) partitions; there are \(tasks) tasks, and with "
              + "actions.enabled each reads one of its own"))
      }
    }
    // A task writes to its own partition of these.
    let checkpoints = configuration.checkpoints == .topic ? [configuration.checkpointsTopic] : []
    for topic in [configuration.epochsTopic] + checkpoints {
      if let count = known[topic], count < tasks {
        problems.append(
          Problem(
            topic: topic,
            text: "the topic '\(topic)' has \(count) partitions; there are \(tasks) tasks, and each needs its own"))
      }
    }
  }
}

extension Configuration {
  /// A task for each partition of the sources.
  mutating func setTaskCount(_ partitions: [String: Int]) {
    taskCount = sources.compactMap { partitions[$0.topic] }.max() ?? 1
    for source in sources where source.isRouted {
      originPartitions[source.originalTopic] = partitions[source.originalTopic]
    }
  }

  /// Sources whose CSV takes its columns from the first line of a file: a record of a topic has none before it.
  public var headerSources: [SourceSettings] {
    sources.filter { $0.mapping.format == .csv && $0.mapping.csv.hasHeader && $0.mapping.csv.columns.isEmpty }
  }

  public static func headerProblem(_ source: SourceSettings) -> String {
    "source '\(source.name)': its CSV takes the names of the columns from a header (csv.header), and records of the topic "
      + "'\(source.originalTopic)' have none: every one of them would be a dead letter"
  }

  public static let headerAdvice =
    "Name the columns of the topic's records (`csv: {columns: […]}`), or map them by number (`csv: {header: false}`)."

  /// Every topic that a cluster has to have for this configuration, with what it is to be configured with: sources, tables,
  /// and what tieout and its console write.
  public var allTopics: [(name: String, config: [String: String])] {
    let compact = ["cleanup.policy": "compact"]
    var settings: [String: [String: String]] = [redrivenTopic: compact]
    for source in sources { settings[source.originalTopic] = [:] }
    for table in topicTables { settings[table.topic!] = compact }
    if let topic = variance?.budgetTopic { settings[topic] = compact }
    for topic in ownTopics + consoleTopics { settings[topic.name] = topic.config }
    return settings.keys.sorted().map { ($0, settings[$0]!) }
  }

  /// The topics that tieout itself writes, with what they are to be configured with.
  public var ownTopics: [(name: String, config: [String: String])] {
    let compact = ["cleanup.policy": "compact"]
    let retained = ["cleanup.policy": "delete", "retention.ms": "\(epochRetention_ms)", "retention.bytes": "-1"]
    // Whoever reads one of these reads the whole topic: what is replaced must go soon, and only closed segments are compacted.
    let gathered = compact.merging(["segment.bytes": "\(64 << 20)", "min.cleanable.dirty.ratio": "0.1"]) { $1 }
    let checkpointed = gathered.merging(["delete.retention.ms": "\(3_600_000)"]) { $1 }
    // A record may have had no key, and a compacted topic takes none without: whatever the broker's standard is.
    let keyless = ["cleanup.policy": "delete"]
    var topics: [(name: String, config: [String: String])] = [
      (breaksTopic, compact), (deadLettersTopic, keyless), (epochsTopic, retained), (partialsTopic, gathered),
      (totalsTopic, compact),
    ]
    if aggregates != nil { topics.append((revenueTopic, compact)) }
    if sumsByPeriod { topics.append((periodsTopic, compact)) }
    if quality != nil { topics.append((qualityTopic, compact)) }
    if flows != nil { topics += [(cashflowTopic, compact), (receivablesTopic, compact)] }
    if variance != nil { topics.append((varianceTopic, compact)) }
    if followsTables || variance?.budgetTopic != nil {
      // The version in use is written again twice in that time.
      let kept = "\(max(epochRetention_ms, 3_600_000) * 2)"
      topics.append((tablesTopic, ["cleanup.policy": "delete", "retention.ms": kept, "retention.bytes": "-1"]))
    }
    if checkpoints == .topic { topics.append((checkpointsTopic, checkpointed)) }
    for source in sources where source.isRouted { topics.append((source.topic, retained)) }
    if takesActions { topics.append(consoleTopics[0]) }
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
