import Checkpoints
import Domain
import Kafka

/// The epochs of one task as the topic has them.
final class EpochLog {
  private let reader: any LogReader
  private let place: TopicPartition
  private let environment: any WorkerEnvironment
  private let keepAlive: () throws -> Void
  /// By number; several where an attempt was never committed (at least once) and its successor took the number.
  private var records: [UInt64: [EpochRecord]] = [:]
  private var readFrom = Int64.max
  private var position: Int64 = 0
  private var low: Int64 = 0
  /// Messages that could not be read, with their offsets.
  private var damaged: [String] = []

  init(
    _ reader: any LogReader, _ place: TopicPartition, _ environment: any WorkerEnvironment,
    _ keepAlive: @escaping () throws -> Void = {}
  ) {
    self.reader = reader
    self.keepAlive = keepAlive
    self.place = place
    self.environment = environment
  }

  /// Every epoch after `after` up to the mark, in order.
  func chain(
    to mark: EpochMark, after: UInt64, offset: Int64?, manifest: CheckpointManifest?
  ) throws -> [EpochRecord] {
    let until = environment.monotonic_ms() + TaskRecovery.patience_ms
    var wait_ms: Int64 = 10
    while true {
      try load(from: offset ?? 0)
      // The offsets may be committed a moment before the epoch can be read: one transaction, several partitions.
      if mark.number <= after || records[mark.number]?.contains(where: { $0.incarnation == mark.incarnation }) == true {
        break
      }
      guard environment.monotonic_ms() < until else {
        throw RecoveryError("epoch \(mark.number) is committed, and \(place) does not have it" + damage)
      }
      environment.sleep(ms: wait_ms)
      try keepAlive()
      wait_ms = min(2_000, wait_ms * 2)
    }
    var chain: [EpochRecord] = []
    var (number, incarnation) = (mark.number, mark.incarnation)
    func checkOwner() throws {
      if let manifest, manifest.epoch == number, manifest.incarnation != incarnation {
        throw RecoveryError("the checkpoint does not belong to the committed epochs")
      }
    }
    try checkOwner()
    while number > after {
      guard let record = records[number]?.first(where: { $0.incarnation == incarnation }) else {
        throw RecoveryError(
          "epoch \(number) is missing in \(place), whose oldest offset is \(low)" + damage)
      }
      chain.append(record)
      incarnation = record.previousIncarnation
      number -= 1
      try checkOwner()
    }
    if after == 0, let first = chain.last, first.previousIncarnation != 0 {
      throw RecoveryError("the epochs in \(place) do not go back to the first")
    }
    return chain.reversed()
  }

  private var damage: String { damaged.isEmpty ? "" : " (" + damaged.joined(separator: "; ") + ")" }

  /// Every record in the topic from an offset on, as far as it can be read now.
  func load(from offset: Int64) throws {
    let bounds = try environment.retrying("asking for offsets", log: nil) { () throws(KafkaError) in
      try reader.bounds(place, timeout_ms: 30_000)
    }
    low = bounds.low
    let from = max(offset, bounds.low)
    if from < readFrom {
      records = [:]
      damaged = []
      readFrom = from
      position = from
    }
    guard position < bounds.stable else { return }
    try reading(reader, place, position, bounds.stable, keepAlive) { message in
      guard let value = message.value else { return }
      do throws(ByteCodingError) {
        let record = try EpochRecord(bytes: UnsafeRawBufferPointer(value))
        records[record.number, default: []].append(record)
      } catch {
        damaged.append("\(place) offset \(message.offset): \(error)")
      }
    }
    position = bounds.stable
  }
}
