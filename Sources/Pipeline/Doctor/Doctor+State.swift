import Checkpoints
import Configuration
import Kafka

extension Doctor {
  /// Records at the end of a partition of checkpoints that are looked at: behind a checkpoint's manifest stand the deletions
  /// of older pieces, and what there is of the next one. With state enough for more than these nothing is found, which is
  /// said; all of the partition may be more than fits into memory.
  static let tail: Int64 = 4_000

  /// Whether the next start can take up what the tasks have committed, under the settings of now.
  func state(_ probe: any ClusterProbe, _ cluster: ClusterDescription) -> [DoctorFinding] {
    let subject = "tasks of \(configuration.kafka.group)"
    guard configuration.checkpoints != .off, let first = configuration.sources.first,
      let count = cluster.topics[first.topic]?.partitions.count
    else { return [] }
    var known = 0
    var unseen = 0
    var foreign = 0
    do {
      for partition in Int32(0)..<Int32(count) {
        let places = configuration.sources.map { TopicPartition($0.topic, partition) }
        let committed = try probe.committed(group: configuration.kafka.group, places, timeout_ms: timeout_ms)
        let marks = committed.values.compactMap { EpochMark($0.metadata) }
        guard let mark = marks.max(by: { $0.number < $1.number }) else { continue }
        guard let newest = try manifest(probe, cluster, partition, mark) else {
          unseen += 1
          continue
        }
        try newest.check(configuration)
        known += 1
        foreign += try foreignEpochs(probe, cluster, after: newest, upTo: mark)
      }
    } catch let error as StateMisfit {
      return [DoctorFinding(.failed, "state", subject, error.found, advice: StateMisfit.advice + ".")]
    } catch {
      return [
        DoctorFinding(
          .warning, "state", subject, "the newest checkpoints could not be read: \(error)",
          advice: "Whether the next start can take them up is not known.")
      ]
    }
    if foreign > 0 {
      return [
        DoctorFinding(
          .warning, "state", subject,
          "since the newest checkpoints \(DoctorText.count(foreign, "epoch")) of other settings or tables",
          advice: "The next start would replay them under those of now, and what was told of their orders would stay "
            + "as it is. Start once with the old settings and files, stop with SIGTERM, and change them then.")
      ]
    }
    guard known + unseen > 0 else { return [] }
    var found: [String] = []
    if known > 0 { found.append("checkpoints of \(DoctorText.count(known, "task")) fit the settings") }
    if unseen > 0 {
      var place = "its directory"
      if configuration.checkpoints == .topic {
        place = "the last \(Doctor.tail) records of \(configuration.checkpointsTopic)"
      }
      found.append(
        "of \(DoctorText.count(unseen, "task")) no checkpoint is in \(place): whether the next start can take it up was not "
          + "looked at")
    }
    return [DoctorFinding(.ok, "state", subject, found.joined(separator: "; "))]
  }

  private func manifest(
    _ probe: any ClusterProbe, _ cluster: ClusterDescription, _ partition: Int32, _ mark: EpochMark
  ) throws -> CheckpointManifest? {
    var contents = CheckpointContents()
    if case .directory(let path) = configuration.checkpoints {
      contents = try CheckpointDirectory(path: path, task: partition, files: SystemFiles()).load(["m."])
    } else if cluster.topics[configuration.checkpointsTopic] != nil {
      let place = TopicPartition(configuration.checkpointsTopic, partition)
      for (key, value) in try probe.records(place, from: -Doctor.tail, timeout_ms: timeout_ms) {
        let key = String(decoding: key, as: UTF8.self)
        if key.hasPrefix("m.") { contents.put(key, value) }
      }
    }
    return contents.manifests(upTo: mark.number).usable.first { $0.task == partition }
  }

  private func foreignEpochs(
    _ probe: any ClusterProbe, _ cluster: ClusterDescription, after manifest: CheckpointManifest, upTo mark: EpochMark
  ) throws -> Int {
    // Tables that are followed have versions of their own, which epochs name.
    guard !configuration.followsTables, cluster.topics[configuration.epochsTopic] != nil else { return 0 }
    let place = TopicPartition(configuration.epochsTopic, manifest.task)
    let hash = configuration.matchingHash
    return try probe.records(place, from: manifest.epochsOffset, timeout_ms: timeout_ms).count {
      let record = $0.value.withUnsafeBytes { try? EpochRecord(bytes: $0) }
      guard let record, record.number > manifest.from, record.number <= mark.number else { return false }
      return record.configuration != hash && !record.events.isEmpty
    }
  }
}
