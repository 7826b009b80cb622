import Domain

/// What a tie keeps of one record: the fixed part, followed in the store by the amounts that are present and then the
/// texts (id, document, customer, journal, reversed journal, dimensions), without padding.
///
/// A tie is the set of its facts. Sums, findings and breaks are derived from the set when the tie is judged, never
/// accumulated on the way, so that no order of arrival can lead to another answer.
struct FactHeader {
  var next: StoreRef
  var granules: UInt16
  /// `OrderEventKind.rawValue`, or `postingKind`.
  var kind: UInt8
  /// `AccountRole.rawValue` of a posting.
  var role: UInt8
  var flags: UInt16
  var currency: UInt16
  var source: UInt16
  /// Clamped to 65,535.
  var lineCount: UInt16
  var time_ms: Int64
  var date_d: Int32
  /// Postings: accounting period. Order events: which amounts follow (`Amounts.present`, bit 15: quantity).
  var periodOrMask: Int32
  /// Identity for dedupe: a hash of the record's id, or of its position where it has none.
  var idHash: UInt64
  /// A hash of everything that counts in the record, so that a re-delivery can be told from a conflict.
  var payloadHash: UInt64
  var offset: Int64
  var idLength: UInt16
  var documentLength: UInt16
  var customerLength: UInt16
  var journalLength: UInt16
  var reversesLength: UInt16
  /// Each configured dimension: one length byte, then its bytes (cut at 255).
  var dimensionsLength: UInt16
  var reserved: UInt32 = 0

  static let postingKind: UInt8 = 0xff
  static let quantityBit: Int32 = 1 << 15

  enum Flag {
    static let late: UInt16 = 1
    static let delete: UInt16 = 2
    static let upsert: UInt16 = 4
    static let reversal: UInt16 = 8
    /// Same event id as an earlier fact and other content: kept as evidence, counts for nothing.
    static let rejected: UInt16 = 16
  }

  var isPosting: Bool { kind == FactHeader.postingKind }
  var counts: Bool { flags & (Flag.rejected | Flag.delete) == 0 }
  var amountCount: Int {
    isPosting ? 1 : (periodOrMask & 0xffff).nonzeroBitCount
  }
  var textOffset: Int { MemoryLayout<FactHeader>.size + amountCount * 8 }
}

/// Texts longer than this are cut in what a tie keeps; no order, document or journal number of a real system is longer.
let maximumTextBytes = 1_024

/// A hash for identities inside a tie; stable over machines and runs.
@inline(__always)
func mixed(_ a: UInt64, _ b: UInt64) -> UInt64 {
  let product = (a ^ 0x9e37_79b9_7f4a_7c15).multipliedFullWidth(by: b ^ 0xbf58_476d_1ce4_e5b9)
  return product.high ^ product.low
}

@inline(__always)
func identityHash(id: ByteView, position: RecordPosition, isPosting: Bool) -> UInt64 {
  let side: UInt64 = isPosting ? 0x706f_7374 : 0x6f72_6465
  if id.isEmpty {
    return mixed(
      UInt64(truncatingIfNeeded: position.offset) ^ side << 32,
      UInt64(UInt32(bitPattern: position.partition)) << 16 | UInt64(position.source))
  }
  return mixed(Fingerprint(id).high, side)
}

extension RecordStore {
  func header(_ ref: StoreRef) -> UnsafeMutablePointer<FactHeader> {
    pointer(ref).assumingMemoryBound(to: FactHeader.self)
  }

  /// Writes a text behind a fact; returns where the next one goes.
  @inline(__always)
  static func write(_ text: ByteView, count: Int, at target: UnsafeMutableRawPointer) -> UnsafeMutableRawPointer {
    if count > 0 { target.copyMemory(from: text.base!, byteCount: count) }
    return target + count
  }

  mutating func append(_ event: borrowing OrderEvent, dimensionCount: Int, late: Bool) -> StoreRef {
    var mask = Int32(event.amounts.present)
    if event.quantityPresent { mask |= FactHeader.quantityBit }
    let amountCount = mask.nonzeroBitCount
    let idCount = min(event.id.count, maximumTextBytes)
    let documentCount = min(event.document.count, maximumTextBytes)
    let customerCount = min(event.customer.count, maximumTextBytes)
    var dimensionBytes = 0
    for index in 0..<dimensionCount { dimensionBytes += 1 + min(event.dimensions[index].count, 255) }
    let fixed = MemoryLayout<FactHeader>.size + amountCount * 8
    let bytes = fixed + idCount + documentCount + customerCount + dimensionBytes
    let ref = allocate(bytes)
    var hash = mixed(
      UInt64(event.kind.rawValue) | UInt64(event.currency.rawValue) << 8, UInt64(UInt32(bitPattern: mask)))
    hash = mixed(hash ^ UInt64(UInt32(bitPattern: event.documentDate_d)), UInt64(bitPattern: event.time_ms))
    let base = pointer(ref)
    var slot = base + MemoryLayout<FactHeader>.size
    for component in AmountComponent.allCases where event.amounts.contains(component) {
      let amount = event.amounts[component]
      hash = mixed(hash, UInt64(bitPattern: amount))
      slot.storeBytes(of: amount, as: Int64.self)
      slot += 8
    }
    if event.quantityPresent {
      hash = mixed(hash, UInt64(bitPattern: event.quantity_u))
      slot.storeBytes(of: event.quantity_u, as: Int64.self)
      slot += 8
    }
    slot = RecordStore.write(event.id, count: idCount, at: slot)
    slot = RecordStore.write(event.document, count: documentCount, at: slot)
    slot = RecordStore.write(event.customer, count: customerCount, at: slot)
    hash = mixed(hash, Fingerprint(event.document).high ^ Fingerprint(event.customer).low)
    for index in 0..<dimensionCount {
      let text = event.dimensions[index]
      let count = min(text.count, 255)
      slot.storeBytes(of: UInt8(count), as: UInt8.self)
      slot = RecordStore.write(text, count: count, at: slot + 1)
    }
    var flags: UInt16 = late ? FactHeader.Flag.late : 0
    if event.isDelete { flags |= FactHeader.Flag.delete }
    if event.isUpsert { flags |= FactHeader.Flag.upsert }
    base.assumingMemoryBound(to: FactHeader.self).initialize(
      to: FactHeader(
        next: 0, granules: UInt16(RecordStore.granules(bytes)), kind: event.kind.rawValue, role: 0, flags: flags,
        currency: event.currency.rawValue, source: event.position.source,
        lineCount: UInt16(clamping: event.lineCount), time_ms: event.time_ms, date_d: event.documentDate_d,
        periodOrMask: mask, idHash: identityHash(id: event.id, position: event.position, isPosting: false),
        payloadHash: hash, offset: event.position.offset, idLength: UInt16(idCount),
        documentLength: UInt16(documentCount), customerLength: UInt16(customerCount), journalLength: 0,
        reversesLength: 0, dimensionsLength: UInt16(dimensionBytes)))
    return ref
  }

  mutating func append(_ posting: borrowing Posting, dimensionCount: Int, late: Bool) -> StoreRef {
    let idCount = min(posting.id.count, maximumTextBytes)
    let documentCount = min(posting.document.count, maximumTextBytes)
    let customerCount = min(posting.customer.count, maximumTextBytes)
    let journalCount = min(posting.journal.count, maximumTextBytes)
    let reversesCount = min(posting.reverses.count, maximumTextBytes)
    var dimensionBytes = 0
    var dimensionsPresent = false
    for index in 0..<dimensionCount {
      let count = posting.dimensions[index].count
      if count > 0 { dimensionsPresent = true }
      dimensionBytes += 1 + min(count, 255)
    }
    if !dimensionsPresent { dimensionBytes = 0 }
    let bytes =
      MemoryLayout<FactHeader>.size + 8 + idCount + documentCount + customerCount + journalCount + reversesCount
      + dimensionBytes
    let ref = allocate(bytes)
    var hash = mixed(
      UInt64(posting.role.rawValue) | UInt64(posting.currency.rawValue) << 8 | UInt64(
        UInt32(bitPattern: posting.period))
        << 24, UInt64(bitPattern: posting.amount))
    hash = mixed(hash ^ UInt64(UInt32(bitPattern: posting.postingDate_d)), posting.isReversal ? 1 : 2)
    hash = mixed(hash, Fingerprint(posting.document).high ^ Fingerprint(posting.customer).low)
    hash = mixed(hash, Fingerprint(posting.journal).high ^ Fingerprint(posting.reverses).low)
    let base = pointer(ref)
    var slot = base + MemoryLayout<FactHeader>.size
    slot.storeBytes(of: posting.amount, as: Int64.self)
    slot += 8
    slot = RecordStore.write(posting.id, count: idCount, at: slot)
    slot = RecordStore.write(posting.document, count: documentCount, at: slot)
    slot = RecordStore.write(posting.customer, count: customerCount, at: slot)
    slot = RecordStore.write(posting.journal, count: journalCount, at: slot)
    slot = RecordStore.write(posting.reverses, count: reversesCount, at: slot)
    if dimensionsPresent {
      for index in 0..<dimensionCount {
        let text = posting.dimensions[index]
        let count = min(text.count, 255)
        slot.storeBytes(of: UInt8(count), as: UInt8.self)
        slot = RecordStore.write(text, count: count, at: slot + 1)
      }
    }
    var flags: UInt16 = late ? FactHeader.Flag.late : 0
    if posting.isDelete { flags |= FactHeader.Flag.delete }
    if posting.isUpsert { flags |= FactHeader.Flag.upsert }
    if posting.isReversal || reversesCount > 0 { flags |= FactHeader.Flag.reversal }
    base.assumingMemoryBound(to: FactHeader.self).initialize(
      to: FactHeader(
        next: 0, granules: UInt16(RecordStore.granules(bytes)), kind: FactHeader.postingKind,
        role: posting.role.rawValue, flags: flags, currency: posting.currency.rawValue, source: posting.position.source,
        lineCount: 0, time_ms: posting.time_ms, date_d: posting.postingDate_d, periodOrMask: posting.period,
        idHash: identityHash(id: posting.id, position: posting.position, isPosting: true), payloadHash: hash,
        offset: posting.position.offset, idLength: UInt16(idCount), documentLength: UInt16(documentCount),
        customerLength: UInt16(customerCount), journalLength: UInt16(journalCount),
        reversesLength: UInt16(reversesCount), dimensionsLength: UInt16(dimensionBytes)))
    return ref
  }
}

/// A fact as the judgement reads it: the header and views of what follows, valid until the store next allocates.
struct FactView {
  var ref: StoreRef
  var header: FactHeader
  private var base: UnsafePointer<UInt8>

  init(_ store: borrowing RecordStore, _ ref: StoreRef) {
    self.ref = ref
    let raw = UnsafeRawPointer(store.pointer(ref))
    header = raw.load(as: FactHeader.self)
    base = raw.assumingMemoryBound(to: UInt8.self)
  }

  private func text(_ offset: Int, _ length: UInt16) -> ByteView {
    length == 0 ? .empty : ByteView(base: base + header.textOffset + offset, count: Int(length))
  }

  var id: ByteView { text(0, header.idLength) }
  var document: ByteView { text(Int(header.idLength), header.documentLength) }
  var customer: ByteView { text(Int(header.idLength) + Int(header.documentLength), header.customerLength) }
  var journal: ByteView {
    text(Int(header.idLength) + Int(header.documentLength) + Int(header.customerLength), header.journalLength)
  }
  var reverses: ByteView {
    text(
      Int(header.idLength) + Int(header.documentLength) + Int(header.customerLength) + Int(header.journalLength),
      header.reversesLength)
  }

  var dimensions: [String] {
    var offset =
      Int(header.idLength) + Int(header.documentLength) + Int(header.customerLength) + Int(header.journalLength)
      + Int(header.reversesLength)
    let end = offset + Int(header.dimensionsLength)
    var values: [String] = []
    while offset < end {
      let count = base[header.textOffset + offset]
      values.append(text(offset + 1, UInt16(count)).string)
      offset += 1 + Int(count)
    }
    return values
  }

  /// The signed amount of a posting.
  var amount: Int64 { UnsafeRawPointer(base).load(fromByteOffset: MemoryLayout<FactHeader>.size, as: Int64.self) }

  /// The amount of a component of an order event, 0 where it has none.
  func amount(_ component: AmountComponent) -> Int64 {
    let bit = Int32(1) << Int32(component.rawValue)
    guard header.periodOrMask & bit != 0 else { return 0 }
    let before = (header.periodOrMask & (bit - 1)).nonzeroBitCount
    return UnsafeRawPointer(base).load(fromByteOffset: MemoryLayout<FactHeader>.size + before * 8, as: Int64.self)
  }

  var quantity_u: Int64? {
    guard !header.isPosting, header.periodOrMask & FactHeader.quantityBit != 0 else { return nil }
    return UnsafeRawPointer(base).load(
      fromByteOffset: MemoryLayout<FactHeader>.size + (header.amountCount - 1) * 8, as: Int64.self)
  }

  var kind: OrderEventKind? { OrderEventKind(rawValue: header.kind) }
  var role: AccountRole { AccountRole(rawValue: header.role)! }
  var currency: Currency { Currency(rawValue: header.currency) }
  var isReversal: Bool { header.flags & FactHeader.Flag.reversal != 0 }
  var isLate: Bool { header.flags & FactHeader.Flag.late != 0 }

  /// The accounting period of a posting, or of the document date of an order event; 0 if unknown.
  var period: Int32 {
    if header.isPosting, header.periodOrMask != 0 { return header.periodOrMask }
    return header.date_d == absentDate ? 0 : calendarPeriod(ofDay: header.date_d)
  }
}
