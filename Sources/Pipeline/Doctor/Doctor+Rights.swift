import Configuration
import Domain
import Kafka

extension Doctor {
  /// The groups that the daemon's members join, and whether it needs each.
  private var groups: [String] {
    let group = configuration.kafka.group
    return [group, group + "-totals"] + (configuration.sources.contains(where: \.isRouted) ? [group + "-router"] : [])
  }

  /// Whether what the daemon does is allowed to it, by doing it.
  /// - Parameter newest: Receives the newest record of every topic that could be read.
  func rights(
    _ probe: any ClusterProbe, _ cluster: ClusterDescription,
    _ newest: inout [(place: TopicPartition, stamp: RecordStamp)]
  ) -> [DoctorFinding] {
    var findings: [DoctorFinding] = []
    let there = examinedTopics.filter { cluster.topics[$0.name]?.partitions.isEmpty == false }
    for topic in there where topic.part != .console {
      // A partition without a leader has been told of.
      guard let partition = cluster.topics[topic.name]!.partitions.firstIndex(where: { $0.leader >= 0 }) else {
        continue
      }
      let place = TopicPartition(topic.name, Int32(partition))
      do throws(KafkaError) {
        let stamp = try probe.newest(place, timeout_ms: timeout_ms)
        if let stamp { newest.append((place, stamp)) }
        findings.append(
          DoctorFinding(
            .ok, "rights", "read \(topic.name)",
            stamp.map { "read to partition \(partition), offset \($0.offset)" }
              ?? "no record is among the last \(PartitionReader.newestDepth) offsets of partition \(partition)"))
      } catch {
        findings.append(failure("read \(place)", error))
      }
    }
    guard let first = there.first(where: { $0.part == .source }) else { return findings }
    let place = TopicPartition(first.name, 0)
    for group in groups {
      do throws(KafkaError) {
        let committed = try probe.committed(group: group, [place], timeout_ms: timeout_ms)[place]
        findings.append(
          DoctorFinding(
            .ok, "rights", "group \(group)",
            committed.map { "may be looked at; \(place) is committed up to offset \($0.offset)" } ?? "may be looked at")
        )
      } catch {
        findings.append(failure("group \(group)", error))
      }
    }
    return findings + transactions(probe, cluster, there, place)
  }

  private func failure(_ subject: String, _ error: KafkaError, area: String = "rights") -> DoctorFinding {
    // What was not answered was not refused.
    let isSilence = error.name.hasPrefix("_") && error.isRetriable
    return DoctorFinding(
      isSilence ? .warning : .failed, area, subject, "\(error.message) (\(error.name))",
      advice: KafkaTrouble.advice(error, configuration))
  }

  private func transactions(
    _ probe: any ClusterProbe, _ cluster: ClusterDescription, _ there: [ExaminedTopic], _ place: TopicPartition
  ) -> [DoctorFinding] {
    let isNeeded = configuration.kafka.delivery == .exactlyOnce
    if cluster.isEmbedded {
      guard isNeeded else { return [] }
      return [
        DoctorFinding(
          .warning, "transactions", "kafka.delivery", "exactly_once, at the embedded broker",
          advice: "It knows no transactions: the daemon will deliver at least once.")
      ]
    }
    guard triesTransactions else {
      return [
        DoctorFinding(
          .warning, "transactions", "writing", "not tried",
          advice: "Without --read-only it is tried in transactions that are aborted.")
      ]
    }
    let written = there.filter { $0.part != .source }.map(\.name)
    let trial: TransactionTrial
    do throws(KafkaError) {
      trial = try probe.tryAccess(
        topics: written, commits: groups.map { ($0, place, 0) }, timeout_ms: timeout_ms)
    } catch {
      return [failure("producer", error, area: "transactions")]
    }
    let id = "\(configuration.kafka.group)-doctor"
    if let error = trial.takeover {
      var finding = failure("id \(id)", error, area: "transactions")
      if !isNeeded {
        finding.status = .warning
        finding.advice = "Writing could not be tried, which is done in aborted transactions; at_least_once needs none."
      }
      return [finding]
    }
    var findings = [
      DoctorFinding(
        .ok, "transactions", "id \(id)", "usable, as will be others that begin with \(configuration.kafka.group)-")
    ]
    if let error = trial.transaction {
      findings = [failure("id \(id)", error, area: "transactions")]
    }
    for topic in written {
      if let error = trial.writing[topic] {
        findings.append(failure("write \(topic)", error))
      } else if trial.transaction == nil {
        findings.append(DoctorFinding(.ok, "rights", "write \(topic)", "a record was written and aborted"))
      }
    }
    for group in groups {
      if let error = trial.committing[group] {
        findings.append(failure("commit \(group)", error))
      } else if trial.transaction == nil {
        findings.append(DoctorFinding(.ok, "rights", "commit \(group)", "an offset was committed and aborted"))
      }
    }
    return findings
  }
}
