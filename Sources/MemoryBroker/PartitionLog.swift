/// Records of a partition as the clients sent them: batches of format 2, of which only the header is read.
///
/// Kafka's rules for idempotent and transactional producers are kept: sequence numbers by producer, epochs, control
/// batches that end transactions, the last stable offset and the list of aborted transactions.
final class PartitionLog {
  struct Batch {
    var base: Int64
    var last: Int64
    var maximumTimestamp_ms: Int64
    var bytes: [UInt8]
  }

  /// What is known of a producer that wrote here.
  struct ProducerState {
    var epoch: Int16
    var lastSequence: Int32
    /// The last batches, by their first sequence number: a repeated one is answered, not written again.
    var recent: [(first: Int32, last: Int32, base: Int64)] = []
  }

  private(set) var batches: [Batch] = []
  private(set) var end: Int64 = 0
  private(set) var start: Int64 = 0
  private var producers: [Int64: ProducerState] = [:]
  /// First offsets of the transactions that are open here, by producer.
  private var open: [Int64: Int64] = [:]
  private var aborted: [(producer: Int64, first: Int64, last: Int64)] = []

  /// Up to here a `read_committed` reader may read.
  var stable: Int64 { open.values.min() ?? end }

  /// Appends the batches of one request.
  /// - Parameter mayWrite: whether a transactional producer has added this partition to a transaction that is open.
  /// - Returns: the offset of the first record.
  func append(_ records: [UInt8], mayWrite: (_ producer: Int64, _ epoch: Int16) -> ErrorCode) throws(ErrorCode) -> Int64
  {
    var at = 0
    var first: Int64?
    while at < records.count {
      guard let header = BatchHeader(records, at: at), at + header.size <= records.count, header.count > 0 else {
        throw .corruptMessage
      }
      let bytes = Array(records[at..<(at + header.size)])
      at += header.size
      let base = try append(bytes, header, mayWrite)
      first = first ?? base
    }
    guard let first else { throw .corruptMessage }
    return first
  }

  private func append(
    _ bytes: [UInt8], _ header: BatchHeader, _ mayWrite: (Int64, Int16) -> ErrorCode
  ) throws(ErrorCode) -> Int64 {
    if header.producer >= 0 {
      var state = producers[header.producer]
      let lastSequence = BatchHeader.sequence(header.baseSequence, plus: header.count - 1)
      if let known = state {
        guard header.epoch >= known.epoch else { throw .invalidProducerEpoch }
        if header.epoch > known.epoch {
          guard header.baseSequence == 0 else { throw .outOfOrderSequence }
          state = nil
        } else if let repeated = known.recent.first(where: {
          $0.first == header.baseSequence && $0.last == lastSequence
        }) {
          return repeated.base
        } else if known.lastSequence >= 0, header.baseSequence != BatchHeader.sequence(known.lastSequence, plus: 1) {
          throw .outOfOrderSequence
        }
      }
      if header.isTransactional {
        let code = mayWrite(header.producer, header.epoch)
        guard code == .none else { throw code }
        if open[header.producer] == nil { open[header.producer] = end }
      }
      var next = state ?? ProducerState(epoch: header.epoch, lastSequence: lastSequence)
      next.lastSequence = lastSequence
      next.recent.append((header.baseSequence, lastSequence, end))
      if next.recent.count > 5 { next.recent.removeFirst() }
      producers[header.producer] = next
    }
    return write(bytes, count: header.count, maximumTimestamp_ms: header.maximumTimestamp_ms)
  }

  private func write(_ bytes: [UInt8], count: Int32, maximumTimestamp_ms: Int64) -> Int64 {
    let base = end
    var bytes = bytes
    withUnsafeBytes(of: base.bigEndian) { bytes.replaceSubrange(0..<8, with: $0) }
    end += Int64(count)
    batches.append(Batch(base: base, last: end - 1, maximumTimestamp_ms: maximumTimestamp_ms, bytes: bytes))
    return base
  }

  /// Ends the producer's transaction with a control batch. Whoever writes with an older epoch from now on is fenced.
  func mark(producer: Int64, epoch: Int16, isCommit: Bool, now_ms: Int64) {
    let marker = write(
      BatchHeader.marker(producer: producer, epoch: epoch, isCommit: isCommit, now_ms: now_ms), count: 1,
      maximumTimestamp_ms: now_ms)
    if let first = open.removeValue(forKey: producer), !isCommit { aborted.append((producer, first, marker)) }
    if let known = producers[producer], known.epoch >= epoch { return }
    producers[producer] = ProducerState(epoch: epoch, lastSequence: -1)
  }

  private func index(of offset: Int64) -> Int {
    var low = 0
    var high = batches.count
    while low < high {
      let middle = (low + high) / 2
      if batches[middle].last < offset { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// Whole batches from the one that holds `offset`, at least one, up to `limit`.
  func read(from offset: Int64, limit: Int64, maximumBytes: Int) -> (bytes: [UInt8], next: Int64) {
    var bytes: [UInt8] = []
    var at = index(of: offset)
    var next = offset
    while at < batches.count, batches[at].last < limit {
      guard bytes.isEmpty || bytes.count + batches[at].bytes.count <= maximumBytes else { break }
      bytes += batches[at].bytes
      next = batches[at].last + 1
      at += 1
    }
    return (bytes, next)
  }

  /// Whether there is anything to read from `offset`.
  func has(_ offset: Int64, limit: Int64) -> Bool {
    let at = index(of: offset)
    return at < batches.count && batches[at].last < limit
  }

  func abortedTransactions(from offset: Int64, to next: Int64) -> [(producer: Int64, first: Int64)] {
    aborted.filter { $0.last >= offset && $0.first < next }.map { ($0.producer, $0.first) }
  }

  /// The first offset whose batch reaches to the time: batches are not opened to look for the record in them.
  func offset(at timestamp_ms: Int64) -> (offset: Int64, timestamp_ms: Int64)? {
    batches.first { $0.maximumTimestamp_ms >= timestamp_ms }.map { ($0.base, $0.maximumTimestamp_ms) }
  }

  /// Deletes what lies before the offset.
  func delete(before offset: Int64) {
    start = max(start, min(offset, end))
    batches.removeFirst(index(of: start))
  }
}

/// The header of a record batch of format 2.
struct BatchHeader {
  static let length = 61
  var size: Int
  var count: Int32
  var isTransactional: Bool
  var maximumTimestamp_ms: Int64
  var producer: Int64
  var epoch: Int16
  var baseSequence: Int32

  init?(_ bytes: [UInt8], at: Int) {
    guard bytes.count - at >= BatchHeader.length, bytes[at + 16] == 2 else { return nil }
    func integer<T: FixedWidthInteger>(_ offset: Int, _: T.Type) -> T {
      bytes[(at + offset)..<(at + offset + MemoryLayout<T>.size)].reduce(0) { $0 << 8 | T(truncatingIfNeeded: $1) }
    }
    size = 12 + Int(Int32(bitPattern: integer(8, UInt32.self)))
    isTransactional = integer(21, UInt16.self) & 0x10 != 0
    count = Int32(bitPattern: integer(23, UInt32.self)) + 1
    maximumTimestamp_ms = Int64(bitPattern: integer(35, UInt64.self))
    producer = Int64(bitPattern: integer(43, UInt64.self))
    epoch = Int16(bitPattern: integer(51, UInt16.self))
    baseSequence = Int32(bitPattern: integer(53, UInt32.self))
    guard size >= BatchHeader.length else { return nil }
  }

  /// Sequence numbers begin again at 0 beyond the largest.
  static func sequence(_ first: Int32, plus count: Int32) -> Int32 {
    Int32(truncatingIfNeeded: (Int64(first) + Int64(count)) & 0x7FFF_FFFF)
  }

  /// A control batch: one record that says how a transaction ended.
  static func marker(producer: Int64, epoch: Int16, isCommit: Bool, now_ms: Int64) -> [UInt8] {
    var record = WireWriter()
    record.int8(0)  // attributes
    record.unsignedVarint(0)  // timestamp, from the batch's
    record.unsignedVarint(0)  // offset, from the batch's
    record.unsignedVarint(4 << 1)
    record.int16(0)
    record.int16(isCommit ? 1 : 0)
    record.unsignedVarint(6 << 1)
    record.int16(0)
    record.int32(0)  // the coordinator's epoch
    record.unsignedVarint(0)  // headers
    var body = WireWriter()
    body.int16(0x30)  // transactional, control
    body.int32(0)
    body.int64(now_ms)
    body.int64(now_ms)
    body.int64(producer)
    body.int16(epoch)
    body.int32(-1)
    body.int32(1)
    body.unsignedVarint(record.bytes.count << 1)
    body.raw(record.bytes)
    var batch = WireWriter()
    batch.int64(0)
    batch.int32(Int32(9 + body.bytes.count))
    batch.int32(0)  // the leader's epoch
    batch.int8(2)
    batch.integer(crc32c(body.bytes))
    batch.raw(body.bytes)
    return batch.bytes
  }

  private static func crc32c(_ bytes: [UInt8]) -> UInt32 {
    var crc: UInt32 = ~0
    for byte in bytes {
      crc ^= UInt32(byte)
      for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0x82F6_3B78 : crc >> 1 }
    }
    return ~crc
  }
}
