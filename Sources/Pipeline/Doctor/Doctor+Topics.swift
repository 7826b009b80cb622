import Checkpoints
import Configuration
import Kafka

/// A topic of a configuration, with what the doctor holds it against.
struct ExaminedTopic {
  enum Part { case source, own, console }
  var name: String
  var part: Part
  var wanted: [String: String]
}

extension Doctor {
  /// All topics that the configuration names, each once.
  var examinedTopics: [ExaminedTopic] {
    var all: [ExaminedTopic] = []
    func add(_ name: String, _ part: ExaminedTopic.Part, _ wanted: [String: String]) {
      if !all.contains(where: { $0.name == name }) { all.append(ExaminedTopic(name: name, part: part, wanted: wanted)) }
    }
    for source in configuration.sources { add(source.originalTopic, .source, [:]) }
    for topic in configuration.ownTopics { add(topic.name, .own, topic.config) }
    if configuration.isServed { for topic in configuration.consoleTopics { add(topic.name, .console, topic.config) } }
    return all
  }

  func topics(_ probe: any ClusterProbe, _ cluster: ClusterDescription) -> [DoctorFinding] {
    let plan = TopicPlan(configuration, known: cluster.topics.mapValues(\.partitions.count))
    var findings = plan.problems.map { problem in
      DoctorFinding(
        .failed, "topics", problem.topic, problem.text,
        advice: problem.advice != nil
          ? problem.advice!
          : cluster.topics[problem.topic] == nil
            ? "Create the topic, or correct the name; a topic that the client has no right to describe looks missing too."
            : "Give the topics the same number of partitions, or route the sources that differ (`routed: true`).")
    }
    if plan.problems.isEmpty, plan.tasks > 0 {
      findings.append(
        DoctorFinding(.ok, "topics", "sources", "co-partitioned, \(DoctorText.count(plan.tasks, "partition")) each"))
    }
    let examined = examinedTopics
    for topic in examined {
      if let description = cluster.topics[topic.name] {
        findings += health(topic, description, cluster)
      } else if topic.part != .source {
        findings.append(missing(topic, probe, cluster, tasks: plan.tasks))
      }
    }
    guard !cluster.isEmbedded else { return findings }
    let there = examined.filter { cluster.topics[$0.name] != nil }
    do throws(KafkaError) {
      let settings = try probe.settings(of: there.map(\.name), timeout_ms: timeout_ms)
      for topic in there {
        switch settings[topic.name] {
        case nil: continue
        case .failure(let error):
          findings.append(
            DoctorFinding(
              .warning, "topics", topic.name, "its settings are not told: \(error.message) (\(error.name))",
              advice: "Give the client DescribeConfigs on the topic, or look at its settings yourself: "
                + Doctor.told(topic.wanted)))
        case .success(let found):
          findings += judge(topic, found, replicas: cluster.topics[topic.name]!.partitions.map(\.replicas).min() ?? 1)
        }
      }
    } catch {
      findings.append(
        DoctorFinding(
          .warning, "topics", "settings", "not told: \(error.message) (\(error.name))",
          advice: KafkaTrouble.advice(error, configuration)))
    }
    return findings
  }

  private static func told(_ settings: [String: String]) -> String {
    settings.isEmpty
      ? "nothing special is asked of them."
      : settings.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: ", ") + "."
  }

  private func missing(
    _ topic: ExaminedTopic, _ probe: any ClusterProbe, _ cluster: ClusterDescription, tasks: Int
  ) -> DoctorFinding {
    if cluster.isEmbedded {
      return DoctorFinding(
        .failed, "topics", topic.name, "is missing",
        advice: "The embedded broker creates none over the wire: start it with `tieout broker --config`.")
    }
    guard tasks > 0 else {
      return DoctorFinding(
        .warning, "topics", topic.name, "is missing", advice: "Create the sources' topics first; then look again.")
    }
    do throws(KafkaError) {
      try probe.couldCreate(topic.name, partitions: tasks, config: topic.wanted, timeout_ms: timeout_ms)
      return DoctorFinding(.ok, "topics", topic.name, "is missing; it will be created at the start")
    } catch {
      return DoctorFinding(
        error.name.hasPrefix("_") ? .warning : .failed, "topics", topic.name,
        "is missing, and could not be created: \(error.message) (\(error.name))",
        advice: "Create it with \(tasks) partitions and \(Doctor.told(topic.wanted)) "
          + KafkaTrouble.advice(error, configuration))
    }
  }

  /// Leaders and replicas.
  private func health(
    _ topic: ExaminedTopic, _ description: TopicDescription, _ cluster: ClusterDescription
  ) -> [DoctorFinding] {
    let partitions = description.partitions
    func list(_ isMeant: (TopicDescription.Partition) -> Bool) -> String {
      let numbers = partitions.indices.filter { isMeant(partitions[$0]) }
      return numbers.prefix(8).map(String.init).joined(separator: ", ") + (numbers.count > 8 ? ", …" : "")
    }
    if partitions.contains(where: { $0.leader < 0 }) {
      return [
        DoctorFinding(
          .failed, "topics", topic.name, "no leader for the partitions \(list { $0.leader < 0 })",
          advice: "Bring the brokers that hold them back; until then nothing can be read or written there.")
      ]
    }
    if partitions.contains(where: { $0.inSync < $0.replicas }) {
      return [
        DoctorFinding(
          .warning, "topics", topic.name, "replicas are missing of the partitions \(list { $0.inSync < $0.replicas })",
          advice: "A broker is down or behind: another one lost may lose records, or stop writing.")
      ]
    }
    if cluster.brokers.count > 1, partitions.contains(where: { $0.replicas < 2 }) {
      return [
        DoctorFinding(
          .warning, "topics", topic.name, "one replica alone, on \(cluster.brokers.count) brokers",
          advice: "With its broker the topic's records are lost: give it three replicas (kafka-reassign-partitions); "
            + "with kafka.replication: 3 the topics that tieout creates have them from the start.")
      ]
    }
    return [
      DoctorFinding(
        .ok, "topics", topic.name,
        "\(DoctorText.count(partitions.count, "partition")), \(DoctorText.count(partitions.map(\.replicas).min() ?? 0, "replica")), "
          + "all led and in sync")
    ]
  }

  // MARK: - Settings

  /// What the settings of a topic that is there mean for the reconciler.
  func judge(_ topic: ExaminedTopic, _ found: [String: String], replicas: Int) -> [DoctorFinding] {
    var findings: [DoctorFinding] = []
    func add(_ status: DoctorFinding.Status, _ what: String, _ advice: String) {
      findings.append(DoctorFinding(status, "topics", topic.name, what, advice: advice))
    }
    func set(_ key: String, _ value: String) -> String {
      "Set it: `kafka-configs --alter --entity-type topics --entity-name \(topic.name) --add-config \(key)=\(value)`."
    }
    let policies = Set((found["cleanup.policy"] ?? "delete").split(separator: ",").map(String.init))
    let isCheckpoints = topic.name == configuration.checkpointsTopic
    let isEpochs = topic.name == configuration.epochsTopic
    // Dead letters may have no key, nor has the progress of a router.
    let isKeyless =
      topic.name == configuration.deadLettersTopic
      || configuration.sources.contains { $0.isRouted && $0.topic == topic.name }
    if topic.part == .source {
      if policies.contains("compact") {
        add(
          .warning, "cleanup.policy=compact on a source",
          "Kafka throws older events of an order away when a newer one has the same key: what is not read in time is lost "
            + "to the reconciliation and to `tieout replay`. " + set("cleanup.policy", "delete"))
      }
    } else if let wanted = topic.wanted["cleanup.policy"], !policies.contains(wanted) || policies.count > 1 {
      let text = policies.sorted().joined(separator: ",")
      let loss =
        isCheckpoints
        ? "The matching state would be thrown away after a while, and a task that starts then could not be brought back. "
        : isEpochs
          ? "Records of epochs would be thrown away, and a task could not be brought back. "
          : isKeyless && policies.contains("compact")
            ? "Kafka refuses records without a key on such a topic, and the partition that one comes from would stand still. "
            : "What the topic says of long ago is thrown away, or never is. "
      add(
        isCheckpoints || isEpochs || isKeyless && policies.contains("compact") ? .failed : .warning,
        "cleanup.policy=\(text), not \(wanted)",
        loss + set("cleanup.policy", wanted))
    }
    judgeRetention(topic, found, policies, isEpochs: isEpochs, add, set)
    if let text = found["min.insync.replicas"], let least = Int(text) {
      if least > replicas {
        add(
          .failed, "min.insync.replicas=\(least), and \(DoctorText.count(replicas, "replica"))",
          "Nothing can be written. " + set("min.insync.replicas", String(max(1, replicas - 1))))
      } else if topic.part == .own, replicas > 2, least < 2 {
        add(
          .warning, "min.insync.replicas=1, and \(replicas) replicas",
          "A record may be confirmed that only one broker has. " + set("min.insync.replicas", "2"))
      }
    }
    if found["unclean.leader.election.enable"] == "true" {
      add(
        .warning, "unclean.leader.election.enable=true",
        "A broker that has missed records may become the leader: they are lost. "
          + set("unclean.leader.election.enable", "false"))
    }
    if topic.part == .own, let text = found["max.message.bytes"], let limit = Int(text) {
      if isCheckpoints, limit < Checkpointer.largestMessage {
        add(
          .failed, "max.message.bytes=\(limit), below the \(Checkpointer.largestMessage) of a piece of a checkpoint",
          "Checkpoints could not be written. " + set("max.message.bytes", "1048588"))
      } else if limit < configuration.producerMessageLimit {
        add(
          .warning, "max.message.bytes=\(limit), below the \(configuration.producerMessageLimit) of the producer",
          "Long records would be refused and stop the worker: set message.max.bytes in kafka.producer lower. Or "
            + set("max.message.bytes", "1048588"))
      }
    }
    if findings.isEmpty { findings.append(DoctorFinding(.ok, "topics", topic.name, "settings as they should be")) }
    return findings
  }

  private func judgeRetention(
    _ topic: ExaminedTopic, _ found: [String: String], _ policies: Set<String>, isEpochs: Bool,
    _ add: (DoctorFinding.Status, String, String) -> Void, _ set: (String, String) -> String
  ) {
    guard policies.contains("delete"), let text = found["retention.ms"], let kept_ms = Int64(text) else { return }
    let bytes = Int64(found["retention.bytes"] ?? "-1") ?? -1
    if topic.part == .console {
      if kept_ms >= 0 || bytes >= 0 {
        add(
          .warning, "retention.ms=\(kept_ms), retention.bytes=\(bytes)",
          "What people have decided is forgotten with it when the console is made anew. " + set("retention.ms", "-1"))
      }
      return
    }
    guard topic.part == .source || topic.wanted["retention.ms"] != nil else { return }
    // What the epochs since the older of the two newest checkpoints have read, and an hour in which nobody runs.
    let least_ms = 2 * configuration.checkpointInterval_ms + 3_600_000
    if kept_ms >= 0, kept_ms < least_ms {
      add(
        .failed, "retention.ms=\(kept_ms): kept \(DoctorText.duration(kept_ms))",
        "A task that was down for a while could not be brought back: at least \(DoctorText.duration(least_ms)) are needed, "
          + "and the longest downtime. " + set("retention.ms", String(configuration.epochRetention_ms)))
    } else if kept_ms >= 0, kept_ms < configuration.epochRetention_ms {
      add(
        .warning, "retention.ms=\(kept_ms): kept \(DoctorText.duration(kept_ms))",
        "`tieout replay` can prove no more than that, not the \(DoctorText.duration(configuration.epochRetention_ms)) of "
          + "epoch.retention. " + set("retention.ms", String(configuration.epochRetention_ms)))
    } else if bytes >= 0, isEpochs {
      add(
        .warning, "retention.bytes=\(bytes)",
        "Records of epochs may go before their time. " + set("retention.bytes", "-1"))
    }
  }
}

extension Configuration {
  /// Whether there is to be a console.
  var isServed: Bool { serve.presence.isThere || !serve.tokens.isEmpty || serve.jwt != nil }
}
