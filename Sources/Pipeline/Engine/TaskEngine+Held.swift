import Checkpoints
import Configuration
import Decoding
import Domain
import Kafka

/// A record whose reference no table knows yet. Its bytes are copies.
struct HeldRecord {
  var source: Int
  var partition: Int32
  var offset: Int64
  var timestamp_ms: Int64
  var key: [UInt8]?
  var value: [UInt8]?
  /// The clock reading with which it was taken in first.
  var since_ms: Int64

  var bytes: Int { (key?.count ?? 0) + (value?.count ?? 0) }

  init(_ message: ConsumedMessage, source: Int, since_ms: Int64) {
    self.source = source
    partition = message.partition
    offset = message.offset
    timestamp_ms = message.timestamp_ms
    key = message.key.map { Array($0) }
    value = message.value.map { Array($0) }
    self.since_ms = since_ms
  }

  /// Calls `body` with the message as it was.
  func withMessage(_ body: (UnsafeBufferPointer<ConsumedMessage>) -> Void) {
    func withBytes(_ bytes: [UInt8]?, _ body: (UnsafeBufferPointer<UInt8>?) -> Void) {
      if let bytes { bytes.withUnsafeBufferPointer { body($0) } } else { body(nil) }
    }
    withBytes(key) { key in
      withBytes(value) { value in
        let message = ConsumedMessage(
          topic: 0, partition: partition, offset: offset, timestamp_ms: timestamp_ms, key: key, value: value)
        withUnsafePointer(to: message) { body(UnsafeBufferPointer(start: $0, count: 1)) }
      }
    }
  }
}

/// Records that wait for their master data: which ones, in the order in which they came, and what became of others.
struct HeldRecords {
  private(set) var records: [HeldRecord] = []
  private(set) var bytes = 0
  /// Since when the first of them has been waiting.
  private(set) var oldest_ms = Int64.max
  /// A version came that may know what some wait for, or the state has just been brought back.
  var isRetryDue = false
  /// While a record is tried again: since when it has been waiting.
  var since_ms: Int64?
  /// While one is given up: it is not to be held once more.
  var isExpiring = false
  /// Since the task came to this process.
  var counts = HoldCounts()

  mutating func append(_ record: HeldRecord) {
    records.append(record)
    bytes += record.bytes
    oldest_ms = min(oldest_ms, record.since_ms)
  }

  /// Takes out those that a condition is true of.
  /// - Returns: them, in the order in which they came.
  mutating func take(where isWanted: (HeldRecord) -> Bool = { _ in true }) -> [HeldRecord] {
    let all = records
    (records, bytes, oldest_ms) = ([], 0, .max)
    for record in all where !isWanted(record) { append(record) }
    return all.filter(isWanted)
  }
}

/// Waiting for master data: a record is decoded again when the tables change. When its time is over it is what it would have
/// been without waiting: a dead letter, or, where the rule flags, a record of its order like any other.
///
/// All of it is a function of what the records of epochs say: the readings of the clock, the versions, and an event for each
/// time that the waiting ones were tried again. A checkpoint names them, and their bytes are read again from the topics.
extension TaskEngine {
  /// Keeps a record of the running stretch that names what no table knows, or takes it in where the rule only flags.
  /// - Returns: false where it is a dead letter.
  func holdOrGoOn(_ fault: StretchFault, _ message: ConsumedMessage) -> Bool {
    let isHeld = hold(message)
    guard isHeld || fault.mayGoOn else { return false }
    // It has been counted as one that could not be taken in, and is counted again when it is tried again.
    stage.lanes[runSource].uncount(fault)
    if !isHeld {
      stage.lanes[runSource].goOn(
        message, source: UInt16(runSource), isRouted: stage.configuration.sources[runSource].isRouted)
    }
    return true
  }

  /// Keeps a record that names what no table knows.
  /// - Returns: false where nothing is held, or there is no room.
  private func hold(_ message: ConsumedMessage) -> Bool {
    guard let settings = stage.configuration.hold, !held.isExpiring else { return false }
    let record = HeldRecord(message, source: runSource, since_ms: held.since_ms ?? runNow_ms)
    guard held.records.count < settings.records, held.bytes + record.bytes <= settings.bytes else {
      held.counts.refused += 1
      return false
    }
    held.append(record)
    if held.since_ms == nil { held.counts.held += 1 }
    return true
  }

  /// Decodes the waiting records again, in the order in which they came. Those that are still unknown go on waiting.
  func retryHeld(now_ms: Int64) {
    held.isRetryDue = false
    guard !held.records.isEmpty else { return }
    noteRetry(count: held.records.count, now_ms: now_ms)
    for record in held.take() {
      let (waiting, refused, letters) = (held.records.count, held.counts.refused, deadLetterCount)
      held.since_ms = record.since_ms
      takeHeld(record, now_ms: now_ms)
      guard held.records.count == waiting, held.counts.refused == refused else { continue }
      if deadLetterCount == letters { held.counts.released += 1 } else { held.counts.rejected += 1 }
    }
    held.since_ms = nil
  }

  /// Gives up the records whose time is over.
  func expireHeld(now_ms: Int64) {
    // Where nothing is held any more, what was held is given up at once.
    let limit_ms = stage.configuration.hold?.time_ms ?? 0
    guard !held.records.isEmpty, now_ms - held.oldest_ms >= limit_ms else { return }
    held.isExpiring = true
    for lane in stage.lanes { lane.setHolds(false) }
    for record in held.take(where: { now_ms - $0.since_ms >= limit_ms }) {
      takeHeld(record, now_ms: now_ms)
      held.counts.expired += 1
    }
    held.isExpiring = false
    for lane in stage.lanes { lane.setHolds(stage.configuration.hold != nil) }
  }

  /// By what a checkpoint finds the waiting records again.
  var heldPlaces: [HeldPlace] {
    held.records.map { HeldPlace(source: UInt16($0.source), offset: $0.offset, since_ms: $0.since_ms) }
  }

  /// A record that a checkpoint names waits again.
  func restoreHeld(_ record: HeldRecord) { held.append(record) }

  func writeHeld(into writer: inout ByteWriter) {
    for record in held.records {
      writer.write(UInt16(record.source))
      writer.write(record.offset)
      writer.write(record.since_ms)
    }
  }
}
