import Aggregates
import Configuration
import Domain
import Kafka

/// Records of one source one behind the other, as a fetch brings them: keys and values in one buffer.
public struct PackedRecords: ~Copyable {
  private var bytes: UnsafeMutablePointer<UInt8>
  private var capacity: Int
  private var used = 0
  /// Where each record begins, and how long its key is; one more at the end.
  private var starts: [Int] = [0]
  private var keyCounts: [Int32] = []

  public init(capacity: Int = 1 << 20) {
    self.capacity = capacity
    bytes = .allocate(capacity: capacity)
  }

  deinit { bytes.deallocate() }

  public var count: Int { keyCounts.count }
  /// Bytes of keys and values.
  public var byteCount: Int { used }

  public mutating func removeAll() {
    used = 0
    starts.removeLast(starts.count - 1)
    keyCounts.removeAll(keepingCapacity: true)
  }

  public mutating func append(key: [UInt8], value: [UInt8]) {
    let end = used + key.count + value.count
    if end > capacity {
      let larger = UnsafeMutablePointer<UInt8>.allocate(capacity: max(end, capacity * 2))
      larger.update(from: bytes, count: used)
      bytes.deallocate()
      bytes = larger
      capacity = max(end, capacity * 2)
    }
    key.withUnsafeBufferPointer { if let base = $0.baseAddress { (bytes + used).update(from: base, count: $0.count) } }
    value.withUnsafeBufferPointer {
      if let base = $0.baseAddress { (bytes + used + key.count).update(from: base, count: $0.count) }
    }
    used = end
    starts.append(end)
    keyCounts.append(Int32(key.count))
  }

  /// A record's bytes; valid until the next change.
  @inline(__always)
  public func record(_ at: Int) -> (key: UnsafeBufferPointer<UInt8>, value: UnsafeBufferPointer<UInt8>) {
    let (start, key) = (starts[at], Int(keyCounts[at]))
    return (
      UnsafeBufferPointer(start: bytes + start, count: key),
      UnsafeBufferPointer(start: bytes + start + key, count: starts[at + 1] - start - key)
    )
  }
}

/// One task's engine by itself, from bytes in memory to encoded breaks, without Kafka: what measurements drive.
///
/// It goes the daemon's way: runs of one source, `moveTime` after each batch, an epoch's record at the end of each
/// epoch. Only what is done between `laps.start` and the end of a call is on the clock.
public final class EngineHarness {
  private let engine: TaskEngine
  public let laps = StageLaps()
  private let configuration: Configuration
  private var offsets: [Int64]
  private var messages = RecordBuffer<ConsumedMessage>(capacity: 10_000)
  private var sinceEpoch = 0
  public private(set) var breakMessages = 0
  public private(set) var deadLetters = 0
  /// Called with the bytes of every break message, off the clock.
  public var onBreak: ((UnsafeBufferPointer<UInt8>) -> Void)?

  public init(_ configuration: Configuration, now_ms: Int64) throws {
    self.configuration = configuration
    engine = TaskEngine(try DecodeStage(configuration), partition: 0)
    engine.laps = laps
    offsets = Array(repeating: 0, count: configuration.sources.count)
    engine.begin(now_ms: now_ms)
  }

  public var tieCount: Int { engine.matcher.tieCount }
  /// Bytes of memory that the state has touched.
  public var footprintBytes: Int { engine.matcher.footprintBytes }
  public var liveBytes: Int { engine.matcher.liveBytes }
  /// As `Matcher.liveParts`.
  public var liveParts: (index: Int, slots: Int, bodies: Int, calendar: Int) { engine.matcher.liveParts }
  /// Cells of the aggregates.
  public var cellCount: Int {
    var table = CellTable(dimensionCount: configuration.dimensions.count)
    engine.matcher.mergeAggregates(into: &table)
    return table.count
  }

  /// Takes one batch: a stretch of records of each source, in the order of the sources.
  public func take(_ source: Int, _ records: borrowing PackedRecords, _ range: Range<Int>, now_ms: Int64) {
    guard !range.isEmpty else { return }
    laps.start()
    // As the consumer takes them over from the client library.
    messages.removeAll()
    var offset = offsets[source]
    for at in range {
      let (key, value) = records.record(at)
      messages.append(
        ConsumedMessage(topic: source, partition: 0, offset: offset, timestamp_ms: 0, key: key, value: value))
      offset += 1
    }
    offsets[source] = offset
    laps.end(.other)
    engine.takeRun(source: source, now_ms: now_ms, messages.buffer)
    laps.end(.other)
    sinceEpoch += range.count
  }

  /// Ends a batch: time moves, and after `epochRecords` the epoch is sealed.
  public func endBatch(now_ms: Int64) {
    laps.start()
    engine.moveTime(now_ms: now_ms, pace: .atMost(configuration.policy.maximumExpiries))
    laps.end(.other)
    if sinceEpoch >= configuration.epochRecords { endEpoch() }
  }

  public func endEpoch() {
    laps.start()
    engine.tellPartials()
    let record = engine.seal(incarnation: 1, shards: [])
    withExtendedLifetime(record.bytes) {}
    var bytes = 0
    engine.outbox.forEach { _, key, value in bytes += (key?.count ?? 0) + value.count }
    laps.end(.epoch)
    engine.outbox.forEach { message, _, value in
      switch message.topic {
      case .breaks:
        breakMessages += 1
        onBreak?(value)
      case .deadLetters: deadLetters += 1
      case .partials: break
      }
    }
    laps.start()
    engine.finishEpoch(record)
    laps.end(.epoch)
    sinceEpoch = 0
  }

  /// The input has ended: everything falls silent and the clock moves on until every tie is judged.
  public func finish(now_ms: Int64) {
    for source in engine.isAtEnd.indices { engine.isAtEnd[source] = true }
    laps.start()
    var isBehind = true
    while isBehind {
      isBehind = engine.moveTime(now_ms: now_ms, pace: .atMost(configuration.policy.maximumExpiries))
    }
    laps.end(.other)
    endEpoch()
  }
}
