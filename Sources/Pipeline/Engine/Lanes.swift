import Decoding
import Domain

/// What decoding saw besides records.
public struct DecodeCounters: Sendable, Equatable {
  public var records = 0
  public var skipped = 0
  public var tombstones = 0
  public var faults = [Int](repeating: 0, count: DataFaultReason.allCases.count)

  public init() {}

  public mutating func add(_ other: DecodeCounters) {
    records += other.records
    skipped += other.skipped
    tombstones += other.tombstones
    for index in faults.indices { faults[index] += other.faults[index] }
  }

  mutating func count(_ fault: DataFault) { faults[DataFaultReason.allCases.firstIndex(of: fault.reason)!] += 1 }

  public var deadLetters: Int { faults.reduce(0, +) }
}

/// A decoder of one source with its output buffer; for one thread.
///
/// The two kinds of lanes differ only in the record type; the noncopyable decoders cannot share a generic class
/// without an existential per record.
final class OrderLane {
  private var decoder: OrderDecoder
  var records = RecordBuffer<OrderEvent>(capacity: 4_096)
  var counters = DecodeCounters()

  init(plan: MappingPlan) { decoder = OrderDecoder(plan: plan) }

  /// Decodes one record; the fault if it is none.
  func decode(key: ByteView, payload: ByteView, position: RecordPosition) -> DataFault? {
    counters.records += 1
    do throws(DataFault) {
      switch try decoder.decode(key: key, payload: payload, position: position, into: &records) {
      case .appended: break
      case .skipped: counters.skipped += 1
      case .tombstone: counters.tombstones += 1
      }
      return nil
    } catch {
      counters.count(error)
      return error
    }
  }

  func readHeader(_ line: ByteView) throws(DataFault) { try decoder.readHeader(line) }

  func reset() {
    records.removeAll()
    decoder.reset()
  }
}

final class LedgerLane {
  private var decoder: PostingDecoder
  var records = RecordBuffer<Posting>(capacity: 4_096)
  var counters = DecodeCounters()

  init(plan: MappingPlan) { decoder = PostingDecoder(plan: plan) }

  /// Decodes one record; the fault if it is none.
  func decode(key: ByteView, payload: ByteView, position: RecordPosition) -> DataFault? {
    counters.records += 1
    do throws(DataFault) {
      switch try decoder.decode(key: key, payload: payload, position: position, into: &records) {
      case .appended: break
      case .skipped: counters.skipped += 1
      case .tombstone: counters.tombstones += 1
      }
      return nil
    } catch {
      counters.count(error)
      return error
    }
  }

  func readHeader(_ line: ByteView) throws(DataFault) { try decoder.readHeader(line) }

  func reset() {
    records.removeAll()
    decoder.reset()
  }
}

enum Lane {
  case orders(OrderLane)
  case ledger(LedgerLane)

  init(_ plan: MappingPlan) {
    switch plan.specification.kind {
    case .orders: self = .orders(OrderLane(plan: plan))
    case .ledger: self = .ledger(LedgerLane(plan: plan))
    }
  }

  func decode(key: ByteView, payload: ByteView, position: RecordPosition) -> DataFault? {
    switch self {
    case .orders(let lane): lane.decode(key: key, payload: payload, position: position)
    case .ledger(let lane): lane.decode(key: key, payload: payload, position: position)
    }
  }

  /// Counts a record that could not even be handed to the decoder.
  func refuse(_ fault: DataFault) {
    switch self {
    case .orders(let lane):
      lane.counters.records += 1
      lane.counters.count(fault)
    case .ledger(let lane):
      lane.counters.records += 1
      lane.counters.count(fault)
    }
  }

  func readHeader(_ line: ByteView) throws(DataFault) {
    switch self {
    case .orders(let lane): try lane.readHeader(line)
    case .ledger(let lane): try lane.readHeader(line)
    }
  }

  func reset() {
    switch self {
    case .orders(let lane): lane.reset()
    case .ledger(let lane): lane.reset()
    }
  }

  var counters: DecodeCounters {
    switch self {
    case .orders(let lane): lane.counters
    case .ledger(let lane): lane.counters
    }
  }
}
