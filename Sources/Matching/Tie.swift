import Domain

/// Everything known of one order key: the head of its facts and breaks, and its clock.
struct Tie {
  var fingerprint: Fingerprint
  /// Newest fact first; order does not matter, the judgement sorts.
  var facts: StoreRef
  var breaks: StoreRef
  /// Two bytes of length, then the key.
  var key: StoreRef
  var flags: UInt16
  /// The latest event time of its facts plus window and grace.
  var deadline_ms: Int64
  /// The earliest timer that stands for this tie; `Int64.max` if none.
  var timer_ms: Int64
  /// Until when facts may still be on their way together (event time).
  var quiet_ms: Int64
  /// Size of the main role when the tie was closed, minor units of `valueCurrency`.
  var value: Int64
  var factCount: UInt32
  var valueCurrency: UInt16

  enum Flag {
    static let live: UInt16 = 1
    static let hasOrder: UInt16 = 2
    static let hasPosting: UInt16 = 4
    /// Facts came since the last judgement.
    static let dirty: UInt16 = 8
    /// Its deadline has passed and it has been counted as closed.
    static let closed: UInt16 = 16
    /// Counted as tied out.
    static let tiedOut: UInt16 = 32
    /// The last judgement found nothing at all.
    static let agreed: UInt16 = 64
    /// Has a break in an open state.
    static let open: UInt16 = 128
  }

  func has(_ flag: UInt16) -> Bool { flags & flag == flag }
  mutating func set(_ flag: UInt16, _ on: Bool = true) { flags = on ? flags | flag : flags & ~flag }
}

/// What a tie remembers of a break that it has reported, followed in the store by the parts of the difference.
struct BreakRecord {
  var next: StoreRef
  var granules: UInt16
  /// Index in `BreakType.allCases`, or `voidType`.
  var type: UInt8
  var role: UInt8
  var currency: UInt16
  /// Not `none` where the break's id carries its currency.
  var idCurrency: UInt16
  /// Index in `BreakState.allCases`.
  var state: UInt8
  var isProvisional: Bool
  var partCount: UInt16
  var revision: UInt32
  /// Of everything that makes a new revision worth sending.
  var content: UInt64

  /// No break: what cancellations took back from Σ expected.
  static let voidType: UInt8 = 0xff

  struct Part {
    var delta: Int64
    var currency: UInt16
    var role: UInt8
  }

  static let partStride = 16
}

extension RecordStore {
  mutating func appendBreak(_ record: BreakRecord, parts: [Finding.Part]) -> StoreRef {
    let bytes = MemoryLayout<BreakRecord>.size.roundedUpTo8 + parts.count * BreakRecord.partStride
    let ref = allocate(bytes)
    var record = record
    record.granules = UInt16(RecordStore.granules(bytes))
    record.partCount = UInt16(parts.count)
    let base = pointer(ref)
    base.assumingMemoryBound(to: BreakRecord.self).initialize(to: record)
    var slot = base + MemoryLayout<BreakRecord>.size.roundedUpTo8
    for part in parts {
      slot.assumingMemoryBound(to: BreakRecord.Part.self).initialize(
        to: .init(delta: part.delta, currency: part.currency.rawValue, role: part.role.rawValue))
      slot += BreakRecord.partStride
    }
    return ref
  }

  func breakRecord(_ ref: StoreRef) -> BreakRecord { pointer(ref).load(as: BreakRecord.self) }

  func breakParts(_ ref: StoreRef) -> [Finding.Part] {
    let record = breakRecord(ref)
    let base = pointer(ref) + MemoryLayout<BreakRecord>.size.roundedUpTo8
    return (0..<Int(record.partCount)).map { index in
      let part = (base + index * BreakRecord.partStride).load(as: BreakRecord.Part.self)
      return Finding.Part(
        currency: Currency(rawValue: part.currency), role: AccountRole(rawValue: part.role)!, delta: part.delta)
    }
  }
}

extension Int {
  var roundedUpTo8: Int { (self + 7) & ~7 }
}
