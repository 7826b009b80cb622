import CShims
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
  /// Clamped to 65,535.
  var lineCount: UInt16 = 0
  var source: UInt16 = 0
  /// Validation rules that flag and that it broke, a bit each; `Flag.flagged` where there are any.
  var brokenRules: UInt16 = 0
  /// Which amounts there are. Order events: `Amounts.present`, and `quantityBit`. Postings: the amount itself (1), and
  /// `baseBit` and `quantityBit` where the ledger tells these.
  var mask: UInt16 {
    @inline(__always) get { UInt16(truncatingIfNeeded: maskWord) }
    @inline(__always) set { maskWord = UInt32(newValue) }
  }
  /// As wide as it is read: a load that is wider than the store before it waits for that.
  private var maskWord: UInt32 = 0
  /// Place among the facts of the tie, in the order of arrival.
  var number: Int32 = 0
  var time_ms: Int64 = 0
  var date_d: Int32 = absentDate
  /// Postings: accounting period as stated, 0 if it is not.
  var statedPeriod: Int32 = 0
  /// Kept only where it can matter: records without an id, and those of change feeds.
  var offset: Int64 = 0
  /// Identity for dedupe: a hash of the record's id and source, or of its position where it has none.
  var idHash: UInt64 = 0
  /// The amounts that `mask` names, in the order of its bits.
  var amounts: InlineArray<12, Int64> = .init(repeating: 0)
  var document: ByteView = .empty
  var customer: ByteView = .empty
  /// Each configured dimension: one length byte, then its bytes (cut at 255). Empty where none is there.
  var dimensionBytes: ByteView = .empty
  var journal: ByteView = .empty
  var id: ByteView = .empty
  var reverses: ByteView = .empty
  /// Only where `Flag.hasLine` says so: otherwise whatever the fact held before.
  var lineText: ByteView = .empty

  static let quantityBit: UInt16 = 1 << 9
  /// Order events: first and last day of the service; both or neither.
  static let serviceBits: UInt16 = 3 << 10
  /// All that there are.
  static let knownBits: UInt16 = 1 << 12 - 1
  /// Postings: the amount in the base currency.
  static let baseBit: UInt16 = 1 << 1

  enum Flag {
    static let late: UInt16 = 1
    static let delete: UInt16 = 2
    static let upsert: UInt16 = 4
    static let reversal: UInt16 = 8
    /// Same event id as an earlier fact and other content: kept as evidence, counts for nothing.
    static let rejected: UInt16 = 16
    /// It broke a validation rule that flags. The first bit behind those of `FactCursor.More`.
    static let flagged: UInt16 = 1 << 11
    /// It names the line of its document.
    static let hasLine: UInt16 = 1 << 12
  }

  init() {}

  var amountCount: Int { Int(tieout_bit_count(mask)) }
  var kind: OrderEventKind? { isPosting ? nil : OrderEventKind(rawValue: code) }
  var role: AccountRole { AccountRole(rawValue: code)! }
  var isReversal: Bool { flags & Flag.reversal != 0 }
  var isLate: Bool { flags & Flag.late != 0 }
  var isChange: Bool { flags & (Flag.upsert | Flag.delete) != 0 }
  /// The line of its document, empty where it names none.
  var line: ByteView { flags & Flag.hasLine != 0 ? lineText : .empty }

  /// Whether two postings are lines of one journal: its number is its source's own, as an id is. False where there is none.
  func isOfJournal(of other: Fact) -> Bool {
    !journal.isEmpty && source == other.source && journal.elementsEqual(other.journal)
  }

  /// The signed amount of a posting.
  var amount: Int64 { amounts[0] }

  /// The amount of a component of an order event, 0 where it has none.
  @inline(__always)
  func amount(_ component: AmountComponent) -> Int64 {
    let bit = UInt16(1) << UInt16(component.rawValue)
    guard mask & bit != 0 else { return 0 }
    return amounts[Int(tieout_bit_count(mask & (bit &- 1)))]
  }

  var quantity_u: Int64? {
    guard mask & Fact.quantityBit != 0 else { return nil }
    return amounts[(mask & (Fact.quantityBit - 1)).nonzeroBitCount]
  }

  /// First and last day of the service that an order event bills.
  var service: (first_d: Int32, last_d: Int32)? {
    guard !isPosting, mask & Fact.serviceBits != 0 else { return nil }
    return (Int32(clamping: amounts[amountCount - 2]), Int32(clamping: amounts[amountCount - 1]))
  }

  /// The amount of a posting in the base currency, as the ledger has converted it.
  var baseAmount: Int64? {
    guard isPosting, mask & Fact.baseBit != 0 else { return nil }
    return amounts[1]
  }

  /// The accounting period in which a posting counts, or the document date of an order event, by calendar month where there
  /// is no fiscal calendar; 0 if unknown.
  func period(_ calendar: FiscalCalendar?) -> Int32 { countedPeriod(enteredPeriod(calendar), calendar) }

  /// The same, of those at the end of a year the one that a posting names.
  func enteredPeriod(_ calendar: FiscalCalendar?) -> Int32 {
    if statedPeriod != 0 { return statedPeriod }
    if date_d == absentDate { return 0 }
    return calendar?.period(ofDay: date_d) ?? calendarPeriod(ofDay: date_d)
  }

  /// The values of the dimensions, from bytes as in `dimensionBytes`.
  static func dimensionValues(_ bytes: ByteView) -> [String] {
    var values: [String] = []
    if bytes.isEmpty { return values }
    values.reserveCapacity(maximumDimensions)
    var offset = 0
    while offset < bytes.count {
      let count = Int(bytes.base![offset])
      values.append(ByteView(base: bytes.base! + offset + 1, count: count).string)
      offset += 1 + count
    }
    return values
  }
}

extension UnsafePointer<Fact> {
  /// As `Fact.amount`, in place: the method of the value copies all its amounts, and waits for their narrower stores.
  @inline(__always)
  func amount(_ component: AmountComponent) -> Int64 {
    let bit = UInt16(1) &<< UInt16(component.rawValue)
    let mask = pointee.mask
    guard mask & bit != 0 else { return 0 }
    return pointee.amounts[unchecked: Int(tieout_bit_count(mask & (bit &- 1)))]
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

/// Of both halves: each by itself is the same for many a pair of short numbers (`12` and `123`), as it only has to spread
/// keys that are compared in full.
@inline(__always)
func textHash(_ text: ByteView) -> UInt64 {
  let fingerprint = Fingerprint(text)
  return mixed(fingerprint.high, fingerprint.low)
}

/// An id is a source's own: another source may use the same for another record.
func identityHash(of id: ByteView, source: UInt16, isPosting: Bool) -> UInt64 {
  mixed(textHash(id), side(isPosting) | UInt64(source) << 32)
}

func identityHash(of position: RecordPosition, isPosting: Bool) -> UInt64 {
  mixed(
    UInt64(truncatingIfNeeded: position.offset) ^ side(isPosting) << 32,
    UInt64(UInt32(bitPattern: position.partition)) << 16 | UInt64(position.source))
}

extension ByteView {
  @inline(__always)
  func prefix(_ count: Int) -> ByteView { ByteView(base: base, count: Swift.min(self.count, count)) }
}

extension UnsafeMutablePointer<Fact> {
  /// Sets every field from an order event, in place: the hot path fills one fact again and again.
  /// - Parameter scratch: Room for `maximumDimensions × (maximumDimensionBytes + 1)` bytes.
  @inline(__always)
  func fill(_ event: UnsafePointer<OrderEvent>, dimensionCount: Int, scratch: UnsafeMutablePointer<UInt8>) {
    // First: they are read again as a whole, which must not wait for the last of them.
    pointee.dimensionBytes = .empty
    if dimensionCount > 0 {
      setDimensions(dimensionCount, scratch) { event.pointee.dimensions[$0] }
    }
    pointee.isPosting = false
    pointee.code = event.pointee.kind.rawValue
    var mask = event.pointee.amounts.present
    var rest = mask
    var at = 0
    while rest != 0 {
      pointee.amounts[at] = event.pointee.amounts[unchecked: rest.trailingZeroBitCount]
      at &+= 1
      rest &= rest &- 1
    }
    if event.pointee.quantityPresent {
      mask |= Fact.quantityBit
      pointee.amounts[at] = event.pointee.quantity_u
      at &+= 1
    }
    if event.pointee.serviceEnd_d != absentDate {
      mask |= Fact.serviceBits
      pointee.amounts[at] = Int64(event.pointee.serviceStart_d)
      pointee.amounts[at &+ 1] = Int64(event.pointee.serviceEnd_d)
    }
    pointee.mask = mask
    pointee.currency = event.pointee.currency
    pointee.source = event.pointee.position.source
    pointee.lineCount = UInt16(clamping: event.pointee.lineCount)
    pointee.time_ms = event.pointee.time_ms
    pointee.date_d = event.pointee.documentDate_d
    pointee.statedPeriod = 0
    pointee.flags =
      (event.pointee.isDelete ? Fact.Flag.delete : 0) | (event.pointee.isUpsert ? Fact.Flag.upsert : 0)
      | (event.pointee.brokenRules != 0 ? Fact.Flag.flagged : 0)
    if event.pointee.extras & OrderEvent.Extra.line != 0 { setLine(event.pointee.line) }
    pointee.brokenRules = event.pointee.brokenRules
    pointee.document = event.pointee.document.prefix(maximumTextBytes)
    pointee.customer = event.pointee.customer.prefix(maximumTextBytes)
    pointee.journal = .empty
    pointee.reverses = .empty
    setIdentity(event.pointee.id, event.pointee.position)
  }

  /// As for an order event.
  @inline(__always)
  func fill(_ posting: UnsafePointer<Posting>, dimensionCount: Int, scratch: UnsafeMutablePointer<UInt8>) {
    pointee.dimensionBytes = .empty
    if dimensionCount > 0 {
      setDimensions(dimensionCount, scratch) { posting.pointee.dimensions[$0] }
    }
    pointee.isPosting = true
    pointee.code = posting.pointee.role.rawValue
    pointee.mask = 1
    pointee.amounts[0] = posting.pointee.amount
    pointee.currency = posting.pointee.currency
    pointee.source = posting.pointee.position.source
    pointee.lineCount = 0
    pointee.time_ms = posting.pointee.time_ms
    pointee.date_d = posting.pointee.postingDate_d
    pointee.statedPeriod = posting.pointee.period
    pointee.flags =
      (posting.pointee.isDelete ? Fact.Flag.delete : 0) | (posting.pointee.isUpsert ? Fact.Flag.upsert : 0)
      | (posting.pointee.isReversal || !posting.pointee.reverses.isEmpty ? Fact.Flag.reversal : 0)
      | (posting.pointee.brokenRules != 0 ? Fact.Flag.flagged : 0)
    pointee.brokenRules = posting.pointee.brokenRules
    pointee.document = posting.pointee.document.prefix(maximumTextBytes)
    pointee.customer = posting.pointee.customer.prefix(maximumTextBytes)
    pointee.journal = posting.pointee.journal.prefix(maximumTextBytes)
    pointee.reverses = posting.pointee.reverses.prefix(maximumTextBytes)
    if posting.pointee.extras != 0 { fillExtras(posting) }
    setIdentity(posting.pointee.id, posting.pointee.position)
  }

  @inline(never)
  private func fillExtras(_ posting: UnsafePointer<Posting>) {
    var at = 1
    if posting.pointee.extras & Posting.Extra.baseAmount != 0 {
      pointee.mask |= Fact.baseBit
      pointee.amounts[at] = posting.pointee.baseAmount
      at += 1
    }
    if posting.pointee.extras & Posting.Extra.quantity != 0 {
      pointee.mask |= Fact.quantityBit
      pointee.amounts[at] = posting.pointee.quantity_u
    }
    if posting.pointee.extras & Posting.Extra.line != 0 { setLine(posting.pointee.line) }
  }

  /// After the flags.
  @inline(never)
  private func setLine(_ line: ByteView) {
    pointee.flags |= Fact.Flag.hasLine
    pointee.lineText = line.prefix(maximumTextBytes)
  }

  @inline(__always)
  private func setIdentity(_ id: ByteView, _ position: RecordPosition) {
    pointee.id = id.prefix(maximumTextBytes)
    pointee.offset = id.isEmpty || pointee.isChange ? position.offset : 0
    pointee.idHash = id.isEmpty ? identityHash(of: position, isPosting: pointee.isPosting) : 0
  }

  @inline(__always)
  private func setDimensions(
    _ count: Int, _ scratch: UnsafeMutablePointer<UInt8>, _ dimension: (Int) -> ByteView
  ) {
    var target = scratch
    var isAnyPresent = false
    for index in 0..<count {
      let text = dimension(index).prefix(maximumDimensionBytes)
      target.pointee = UInt8(truncatingIfNeeded: text.count)
      target += 1
      if text.count > 0 {
        isAnyPresent = true
        copyShort(from: text, to: target)
        target += text.count
      }
    }
    if isAnyPresent { pointee.dimensionBytes = ByteView(base: scratch, count: target - scratch) }
  }
}

extension Fact {
  /// Fills `idHash` of a record with an id.
  mutating func hashIdentity() {
    if !id.isEmpty { idHash = identityHash(of: id, source: source, isPosting: isPosting) }
  }

  /// Of everything that counts in the record, so that a re-delivery can be told from a conflict.
  var contentHash: UInt64 {
    var hash = mixed(
      UInt64(code) | UInt64(currency.rawValue) << 8 | UInt64(mask) << 24 | (isPosting ? 1 << 48 : 0),
      UInt64(UInt32(bitPattern: date_d)) << 32 | UInt64(UInt32(bitPattern: statedPeriod)))
    // The time of a posting is when it came to be known; what it says is in its dates.
    hash = mixed(hash, isPosting ? UInt64(flags & Flag.reversal) : UInt64(bitPattern: time_ms))
    for at in 0..<amountCount { hash = mixed(hash, UInt64(bitPattern: amounts[at])) }
    hash = mixed(mixed(hash, textHash(document)), textHash(customer))
    if isPosting { hash = mixed(mixed(hash, textHash(journal)), textHash(reverses)) }
    if flags & Flag.hasLine != 0 { hash = mixed(hash, textHash(lineText)) }
    return hash
  }
}
