import Checkpoints
import Configuration
import Kafka

/// What goes wrong in a run.
extension ClusterSimulation {
  func disturb(_ crashRate: Int) {
    let at = random.below(machines.count)
    switch random.below(12) {
    case 0...3: if crashRate > 0 { kill(at) }
    case 4, 5:
      guard let process = machines[at].process else { return }
      let ms = Int64(random.below(16_000))
      trace("process \(process.number) is stopped for \(ms) ms")
      for each in machines[at].all { each.pausedUntil_ms = cluster.now_ms + ms }
      outcome.pauses += 1
    case 6:
      let ms = Int64(random.below(3_000))
      trace("the broker is down for \(ms) ms")
      cluster.downUntil_ms = cluster.now_ms + ms
    case 7:
      let ms = Int64(random.below(7_200_000)) - 1_800_000
      trace("clocks jump by \(ms) ms")
      scheduler.skew_ms = max(0, scheduler.skew_ms + ms)
    case 8: compact()
    case 9: if isTrimming { trimEpochs() } else { damageCheckpoint() }
    default:
      // Leaves in good order, and comes back.
      guard let process = machines[at].process, process.isResponsive else { return }
      trace("process \(process.number) is asked to end")
      machines[at].stop.stop()
      let all = machines[at].all
      for _ in 0..<500 where scheduler.isRunning(all) {
        guard step(10) else { return }
      }
      if scheduler.isRunning(all) { return kill(at) }
      machines[at].process = nil
      machines[at].stages = []
      machines[at].restart_ms = cluster.now_ms + Int64(random.below(4_000))
    }
  }

  func compact() {
    // At least once, a process that has been replaced may send an old partial last, and compaction would keep that one.
    let partials = configuration.kafka.delivery == .exactlyOnce ? [configuration.partialsTopic] : []
    let checkpoints = isInDirectory ? [] : [configuration.checkpointsTopic]
    for topic in checkpoints + partials {
      for partition in 0..<partitions { cluster.log(TopicPartition(topic, Int32(partition))).compact() }
    }
  }

  /// Retention takes the epochs that neither of the two newest checkpoints needs.
  func trimEpochs() {
    for partition in 0..<partitions {
      var contents = CheckpointContents()
      if isInDirectory {
        let prefix = "checkpoints/\(partition)/"
        for (path, bytes) in shared?.files ?? [:] where path.hasPrefix(prefix) {
          contents.put(String(path.dropFirst(prefix.count)), bytes)
        }
      } else {
        for (_, key, value) in cluster.readCommitted(TopicPartition(configuration.checkpointsTopic, Int32(partition))) {
          contents.put(String(decoding: key!, as: UTF8.self), value)
        }
      }
      let manifests = contents.manifests(upTo: .max).usable
      guard manifests.count >= 2 else { continue }
      let log = cluster.log(TopicPartition(configuration.epochsTopic, Int32(partition)))
      log.low = max(log.low, min(log.stable, manifests.map(\.epochsOffset).min()!))
      trace("epochs of partition \(partition) begin at \(log.low)")
    }
  }

  func damageCheckpoint() {
    if isInDirectory { return damageFile() }
    let log = cluster.log(TopicPartition(configuration.checkpointsTopic, Int32(random.below(partitions))))
    guard log.end > 0 else { return }
    let at = random.below(Int(log.end))
    guard var value = log.entries[at].value, !value.isEmpty else { return }
    damage(&value)
    trace("the checkpoint message at \(at) is damaged")
    log.entries[at].value = value
  }

  func damage(_ value: inout [UInt8]) {
    if random.below(2) == 0 {
      value[random.below(value.count)] ^= 1 << UInt8(random.below(8))
    } else {
      value.removeLast(1 + random.below(value.count))
    }
  }

  func damageFile() {
    let disk = machines[random.below(machines.count)].disk
    guard !disk.files.isEmpty else { return }
    let path = disk.files.keys.sorted()[random.below(disk.files.count)]
    guard disk.files[path]?.isEmpty == false else { return }
    damage(&disk.files[path]!)
    trace("the file \(path) is damaged")
  }
}
