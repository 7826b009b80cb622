import Configuration
import Foundation
import Kafka
import Pipeline

/// What a disturbed run is held against, besides the truth.
extension ChaosRun {
  /// What a topic of breaks says of each break, in its order; the same revision in the same bytes once (at least once
  /// it may come again).
  func sequences(_ topic: String) throws -> [[UInt8]: [[UInt8]]] {
    var sequences: [[UInt8]: [[UInt8]]] = [:]
    for partition in 0..<options.partitions {
      let place = TopicPartition(topic, Int32(partition))
      let bounds = try self.bounds(place)
      try reader.read(place, from: bounds.low, end: bounds.stable) { message in
        guard let key = message.key.map({ Array($0) }), let value = message.value.map({ Array($0) }) else {
          return true
        }
        if broker == nil || sequences[key]?.contains(value) != true { sequences[key, default: []].append(value) }
        return true
      }
    }
    return sequences
  }

  /// An undisturbed run over the same records in the same order with the same clock readings: the recorded epochs, once
  /// more, from the first. It must say of every break the same, in the same order, byte for byte, and nothing else.
  func checkReplay() throws -> Bool {
    var settings = configuration
    settings.partialsPartitions = options.partitions
    let committed = try reader.committed(places)
    var derived: [[UInt8]: [[UInt8]]] = [:]
    var (epochs, records) = (0, 0)
    for partition in Int32(0)..<Int32(options.partitions) {
      let summary = try Auditor(settings, environment: KafkaEnvironment(), reader: reader).audit(
        partition: partition,
        committed: configuration.sources.map { committed[TopicPartition($0.topic, partition)] }
      ) { output in
        if output.topic == .breaks { derived[output.key!, default: []].append(output.value) }
      }
      epochs += summary.epochs
      records += summary.records
    }
    let sent = try sequences(configuration.breaksTopic)
    let different = Set(sent.keys).union(derived.keys).filter { sent[$0] != derived[$0] }
    print(
      "replay of \(epochs) epochs with \(records) records: \(derived.count - different.count) of \(sent.count) breaks have "
        + "the same revisions in the same order, byte for byte; \(different.count) have not")
    for key in different.prefix(10) { print("  \(String(decoding: key, as: UTF8.self))") }
    return different.isEmpty
  }

  /// Fields that say when, in the course of the reading, something was found. The sources are read side by side, and in
  /// which order their records meet is another thing in every run; so is the number of revisions on the way.
  static let courseFields: Set<String> = ["revision", "as_of"]

  /// One process reads the same records from the beginning, and nobody disturbs it: every break that is reported in the
  /// end is the same.
  func checkAgainstUndisturbed() throws -> Bool {
    let process = try launch("calm", calmPath)
    defer {
      if process.isRunning { kill(process.processIdentifier, SIGKILL) }
      process.waitUntilExit()
    }
    let reader = try PartitionReader(
      properties: undisturbed.clientProperties(.admin) + [KafkaProperty("group.id", undisturbed.kafka.group)])
    defer { reader.close() }
    guard try settle(undisturbed, reader) else { return false }
    endInOrder([process])
    let (disturbed, calm) = (try sequences(configuration.breaksTopic), try sequences(undisturbed.breaksTopic))
    var (same, exact, sequence) = (0, 0, 0)
    var wrong: [String] = []
    for key in Set(disturbed.keys).union(calm.keys) {
      let (a, b) = (disturbed[key]?.last, calm[key]?.last)
      let (left, right) = (try plain(a), try plain(b))
      // What is not reported in the end may have been said on the way, or not.
      if left == nil, right == nil { continue }
      guard left == right else {
        wrong.append(String(decoding: key, as: UTF8.self))
        continue
      }
      same += 1
      if a == b { exact += 1 }
      if disturbed[key] == calm[key] { sequence += 1 }
    }
    print(
      "undisturbed run: \(same) breaks are reported in the end by both, with the same contents "
        + "(but for \(ChaosRun.courseFields.sorted().joined(separator: ", "))); \(exact) of them with the same last bytes, "
        + "\(sequence) with the same revisions throughout; \(wrong.count) differ")
    for key in wrong.sorted().prefix(10) { print("  \(key)") }
    return wrong.isEmpty
  }

  /// A message without the fields of the course; nil for a break that is not reported.
  private func plain(_ value: [UInt8]?) throws -> NSDictionary? {
    guard let value, let made = try JSONSerialization.jsonObject(with: Data(value)) as? [String: Any],
      let state = made["state"] as? String, ["open", "reopened", "accepted"].contains(state)
    else { return nil }
    var rest = made.filter { !ChaosRun.courseFields.contains($0.key) }
    // A break that was closed for a while on the way is open again.
    if state == "reopened" { rest["state"] = "open" }
    return rest as NSDictionary
  }
}
