import Domain

/// One record of a tie, as the judgement reads it. Its texts are views of memory that somebody else owns: the decoded
/// message while it is being taken in, a copy of the tie's body while the tie is judged.
///
/// A tie is the set of its facts. Sums, findings and breaks are derived from the set when the tie is judged, never
/// accumulated on the way, so that no order of arrival can lead to another answer.
struct Fact {
  var isPosting = false
  /// `OrderEventKind.rawValue` of an order event, `AccountRole.rawValue` of a posting.
  var code: UInt8 = 0
  var flags: UInt16 = 0
  var currency = Currency.none
  var source: UInt16 = 0
  /// Clamped to 65,535.
  var lineCount: UInt16 = 0
  /// Order events: which amounts there are (`Amounts.present`), and `quantityBit`. Postings: 1.
  var mask: UInt16 = 0
  /// Place among the facts of the tie, in the order of arrival.
  var number: Int32 = 0
  var time_ms: Int64 = 0
  var date_d: Int32 = absentDate
  /// Postings: accounting period as stated, 0 if it is not.
  var statedPeriod: Int32 = 0
  /// Kept only where it can matter: records without an id, and those of change feeds.
  var offset: Int64 = 0
  /// Identity for dedupe: a hash of the record's id, or of its position where it has none.
  var idHash: UInt64 = 0
  /// Of everything that counts in the record, so that a re-delivery can be told from a conflict. 0 until it is needed.
  var payloadHash: UInt64 = 0
  /// The amounts that `mask` names, in the order of its bits.
  var amounts: InlineArray<10, Int64> = .init(repeating: 0)
  var document: ByteView = .empty
  var customer: ByteView = .empty
  /// Each configured dimension: one length byte, then its bytes (cut at 255). Empty where none is there.
  var dimensionBytes: ByteView = .empty
  var journal: ByteView = .empty
  var id: ByteView = .empty
  var reverses: ByteView = .empty

  static let quantityBit: UInt16 = 1 << 9

  enum Flag {
    static let late: UInt16 = 1
    static let delete: UInt16 = 2
    static let upsert: UInt16 = 4
    static let reversal: UInt16 = 8
    /// Same event id as an earlier fact and other content: kept as evidence, counts for nothing.
    static let rejected: UInt16 = 16
  }

  init() {}

  var amountCount: Int { mask.nonzeroBitCount }
  var kind: OrderEventKind? { isPosting ? nil : OrderEventKind(rawValue: code) }
  var role: AccountRole { AccountRole(rawValue: code)! }
  var isReversal: Bool { flags & Flag.reversal != 0 }
  var isLate: Bool { flags & Flag.late != 0 }
  var isChange: Bool { flags & (Flag.upsert | Flag.delete) != 0 }

  /// The signed amount of a posting.
  var amount: Int64 { amounts[0] }

  /// The amount of a component of an order event, 0 where it has none.
  @inline(__always)
  func amount(_ component: AmountComponent) -> Int64 {
    let bit = UInt16(1) << UInt16(component.rawValue)
    guard mask & bit != 0 else { return 0 }
    return amounts[(mask & (bit - 1)).nonzeroBitCount]
  }

  var quantity_u: Int64? {
    guard !isPosting, mask & Fact.quantityBit != 0 else { return nil }
    return amounts[amountCount - 1]
  }

  /// The accounting period of a posting, or of the document date of an order event; 0 if unknown.
  var period: Int32 {
    if statedPeriod != 0 { return statedPeriod }
    return date_d == absentDate ? 0 : calendarPeriod(ofDay: date_d)
  }

  var dimensions: [String] {
    var values: [String] = []
    var offset = 0
    while offset < dimensionBytes.count {
      let count = Int(dimensionBytes.base![offset])
      values.append(ByteView(base: dimensionBytes.base! + offset + 1, count: count).string)
      offset += 1 + count
    }
    return values
  }
}

/// Texts longer than this are cut in what a tie keeps; no order, document or journal number of a real system is longer.
let maximumTextBytes = 1_024
/// Dimension values are cut at this many bytes: what one length byte can say.
let maximumDimensionBytes = 255

/// A hash for identities inside a tie; stable over machines and runs.
@inline(__always)
func mixed(_ a: UInt64, _ b: UInt64) -> UInt64 {
  let product = (a ^ 0x9e37_79b9_7f4a_7c15).multipliedFullWidth(by: b ^ 0xbf58_476d_1ce4_e5b9)
  return product.high ^ product.low
}

@inline(__always)
private func side(_ isPosting: Bool) -> UInt64 { isPosting ? 0x706f_7374 : 0x6f72_6465 }

func identityHash(of id: ByteView, isPosting: Bool) -> UInt64 { mixed(Fingerprint(id).high, side(isPosting)) }

func identityHash(of position: RecordPosition, isPosting: Bool) -> UInt64 {
  mixed(
    UInt64(truncatingIfNeeded: position.offset) ^ side(isPosting) << 32,
    UInt64(UInt32(bitPattern: position.partition)) << 16 | UInt64(position.source))
}

extension ByteView {
  @inline(__always)
  func prefix(_ count: Int) -> ByteView { ByteView(base: base, count: Swift.min(self.count, count)) }
}

extension Fact {
  /// - Parameter scratch: Room for `maximumDimensions × (maximumDimensionBytes + 1)` bytes.
  @inline(__always)
  init(_ event: OrderEvent, dimensionCount: Int, scratch: UnsafeMutablePointer<UInt8>) {
    code = event.kind.rawValue
    mask = event.amounts.present
    var at = 0
    for component in AmountComponent.allCases where event.amounts.contains(component) {
      amounts[at] = event.amounts[component]
      at += 1
    }
    if event.quantityPresent {
      mask |= Fact.quantityBit
      amounts[at] = event.quantity_u
    }
    currency = event.currency
    source = event.position.source
    lineCount = UInt16(clamping: event.lineCount)
    time_ms = event.time_ms
    date_d = event.documentDate_d
    if event.isDelete { flags |= Flag.delete }
    if event.isUpsert { flags |= Flag.upsert }
    document = event.document.prefix(maximumTextBytes)
    customer = event.customer.prefix(maximumTextBytes)
    id = event.id.prefix(maximumTextBytes)
    setIdentity(event.position)
    if dimensionCount > 0 { setDimensions(event.dimensions, dimensionCount, scratch) }
  }

  /// - Parameter scratch: As for an order event.
  @inline(__always)
  init(_ posting: Posting, dimensionCount: Int, scratch: UnsafeMutablePointer<UInt8>) {
    isPosting = true
    code = posting.role.rawValue
    mask = 1
    amounts[0] = posting.amount
    currency = posting.currency
    source = posting.position.source
    time_ms = posting.time_ms
    date_d = posting.postingDate_d
    statedPeriod = posting.period
    if posting.isDelete { flags |= Flag.delete }
    if posting.isUpsert { flags |= Flag.upsert }
    if posting.isReversal || !posting.reverses.isEmpty { flags |= Flag.reversal }
    document = posting.document.prefix(maximumTextBytes)
    customer = posting.customer.prefix(maximumTextBytes)
    journal = posting.journal.prefix(maximumTextBytes)
    reverses = posting.reverses.prefix(maximumTextBytes)
    id = posting.id.prefix(maximumTextBytes)
    setIdentity(posting.position)
    if dimensionCount > 0 { setDimensions(posting.dimensions, dimensionCount, scratch) }
  }

  @inline(__always)
  private mutating func setIdentity(_ position: RecordPosition) {
    if id.isEmpty || isChange { offset = position.offset }
    if id.isEmpty { idHash = identityHash(of: position, isPosting: isPosting) }
  }

  @inline(__always)
  private mutating func setDimensions(
    _ dimensions: InlineArray<8, ByteView>, _ count: Int, _ scratch: UnsafeMutablePointer<UInt8>
  ) {
    var target = scratch
    var isAnyPresent = false
    for index in 0..<count {
      let text = dimensions[index].prefix(maximumDimensionBytes)
      target.pointee = UInt8(text.count)
      target += 1
      if text.count > 0 {
        isAnyPresent = true
        target.update(from: text.base!, count: text.count)
        target += text.count
      }
    }
    if isAnyPresent { dimensionBytes = ByteView(base: scratch, count: target - scratch) }
  }

  /// Fills `payloadHash` (and `idHash` of a record with an id).
  mutating func hash() {
    if !id.isEmpty { idHash = identityHash(of: id, isPosting: isPosting) }
    var hash = mixed(
      UInt64(code) | UInt64(currency.rawValue) << 8 | UInt64(mask) << 24 | (isPosting ? 1 << 48 : 0),
      UInt64(UInt32(bitPattern: date_d)) << 32 | UInt64(UInt32(bitPattern: statedPeriod)))
    // The time of a posting is when it came to be known; what it says is in its dates.
    hash = mixed(hash, isPosting ? UInt64(flags & Flag.reversal) : UInt64(bitPattern: time_ms))
    for at in 0..<amountCount { hash = mixed(hash, UInt64(bitPattern: amounts[at])) }
    hash = mixed(hash, Fingerprint(document).high ^ Fingerprint(customer).low)
    if isPosting { hash = mixed(hash, Fingerprint(journal).high ^ Fingerprint(reverses).low) }
    payloadHash = hash
  }
}
