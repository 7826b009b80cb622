import CShims
import Domain

/// Reads the facts of a tie's body one after the other.
///
/// A body is a hint (`Matcher.balance`), the order key, and the facts in the order of arrival. A fact is written in
/// terms of those before it: what is the same as last time (currency, source, date, document, customer, dimensions,
/// journal) costs a bit, an id that continues the journal's, the document's or the order's number costs its tail, times
/// are differences and amounts take the bytes that they need. Four postings of one journal so take some ten bytes each.
///
///     heads    UInt32: code(5) isPosting(1) sameCurrency(1) hasMore(1)
///                      document(2) customer(2) dimensions(2) id(2) date(2) period(2) sameSource(1) isShort(1)
///                      journal(2) (order events: –(1) shortLines(1))
///                      width of the time's difference(4), of each amount(4), in bytes (postings: 15 where the amount is
///                      the one of the order event before that is posted to such an account, `ShortForm.counterpart`)
///     more     UInt16, where hasMore: flags(5) hasReverses(1) hasLines(1) isAbsolute(1) hasOffset(1) hasIdentity(1)
///              hasMask(1) flagged(1) hasLine(1) –(3)
///     mask     UInt16, order events: the amounts that there are(12), and which of them follow from the others(4)
///     lines    UInt8, where shortLines
///     currency UInt16, source UInt16 (isShort: UInt8), lines UInt16, offset Int64, identity UInt64, mask UInt16 (of a posting
///              with more than its amount), broken rules UInt16: each where it is wanted
///     time, date Int32 (isShort: UInt16), period Int32, amounts
///     texts    document, customer, dimensions, journal, id, reverses, line: UInt8 length (255: UInt16 follows), bytes
///
/// An absolute fact refers to nothing before it: what a large body ends with, so that appending never reads it all.
///
/// The first time is what it is from `ShortForm.time_ms` on. Earlier versions told it from 1970 on, and wrote neither short
/// facts nor periods that follow from dates, amounts that follow from others or are posted, or short lines. What they have written is
/// written anew when it comes from a checkpoint (`Matcher.importShard`), so that the bytes of a body are a function of its
/// facts.
struct FactCursor {
  private(set) var at: UnsafePointer<UInt8>
  private(set) var end: UnsafePointer<UInt8>
  let key: ByteView

  // The fact that was read last.
  private(set) var heads: UInt32 = 0
  private var more: UInt16 = 0
  private(set) var mask: UInt16 = 1
  /// The amounts of `mask` that are written out.
  private var stored: UInt16 = 1
  private(set) var lineCount: UInt16 = 0
  private var amountsAt: UnsafePointer<UInt8>
  private(set) var identity: UInt64 = 0
  private(set) var offset: Int64 = 0
  private(set) var brokenRules: UInt16 = 0
  private(set) var idTail: ByteView
  private(set) var reverses: ByteView = .empty
  private(set) var line: ByteView = .empty

  // What the next one may refer to. Currency and source stand apart: side by side they are compared in one load, which
  // waits for the stores of both.
  private(set) var currency = Currency.none
  private(set) var time_ms: Int64
  private(set) var source: UInt16 = FactCursor.noSource
  private(set) var date_d: Int32 = absentDate
  private(set) var lastPeriod: Int32 = 0
  private(set) var lastDocument: ByteView = .empty
  private(set) var lastCustomer: ByteView = .empty
  private(set) var lastDimensions: ByteView = .empty
  private(set) var lastJournal: ByteView = .empty
  /// The order event that was read last: its amounts, which of them there are and are written out, their width.
  private var eventAmountsAt: UnsafePointer<UInt8>
  private var eventMask: UInt16 = 0
  private var eventStored: UInt16 = 0
  private var eventWidth = 0

  /// No configuration has as many sources.
  static let noSource: UInt16 = 0xffff

  /// What the first time is told from.
  private let firstTime_ms: Int64

  /// - Parameters:
  ///   - start: The first fact; 64 bytes behind `end` may be read, whatever they hold.
  ///   - firstTime_ms: 0 where an earlier version has written them.
  @inline(__always)
  init(
    _ start: UnsafePointer<UInt8>, end: UnsafePointer<UInt8>, key: ByteView, firstTime_ms: Int64 = ShortForm.time_ms
  ) {
    at = start
    amountsAt = start
    eventAmountsAt = start
    idTail = ByteView(base: start, count: 0)
    time_ms = firstTime_ms
    self.firstTime_ms = firstTime_ms
    self.end = end
    self.key = key
  }

  enum Bit {
    static let isPosting: UInt32 = 1 << 5
    static let sameCurrency: UInt32 = 1 << 6
    static let hasMore: UInt32 = 1 << 7
    static let sameSource: UInt32 = 1 << 20
    static let isShort: UInt32 = 1 << 21
    /// Order events, which have no journal: a byte says how many lines there are.
    static let shortLines: UInt32 = 1 << 23
    /// Where any of the four texts is written out.
    static let literals: UInt32 = 1 << 8 | 1 << 10 | 1 << 12 | 1 << 22
  }

  enum More {
    /// The flags of a fact; of the last two, `Fact.Flag.flagged` has a number behind it, `Fact.Flag.hasLine` a text.
    static let flags: UInt16 = 31 | Fact.Flag.flagged | Fact.Flag.hasLine
    /// Each has a text behind all others.
    static let texts: UInt16 = hasReverses | Fact.Flag.hasLine
    /// Nothing more stands behind these alone.
    static let bare: UInt16 = 31
    static let hasReverses: UInt16 = 1 << 5
    static let hasLines: UInt16 = 1 << 6
    static let isAbsolute: UInt16 = 1 << 7
    static let hasOffset: UInt16 = 1 << 8
    static let hasIdentity: UInt16 = 1 << 9
    static let hasMask: UInt16 = 1 << 10
  }

  /// How a text stands in a fact. The low bit says that it is written out.
  enum Text {
    static let none: UInt32 = 0
    static let literal: UInt32 = 1
    static let same: UInt32 = 2
    /// Ids only: the journal or document, and a tail; the order key, and a tail.
    static let continues: UInt32 = 2
    static let continuesKey: UInt32 = 3
  }

  enum Date {
    static let same: UInt32 = 0
    static let ofTime: UInt32 = 1
    static let literal: UInt32 = 2
    static let absent: UInt32 = 3
  }

  enum Period {
    static let none: UInt32 = 0
    static let same: UInt32 = 1
    static let literal: UInt32 = 2
    /// The calendar month of the date.
    static let ofDate: UInt32 = 3
  }

  @inline(__always) var code: UInt8 { UInt8(truncatingIfNeeded: heads & 31) }
  @inline(__always) var isPosting: Bool { heads & Bit.isPosting != 0 }
  @inline(__always) var flags: UInt16 { more & More.flags }
  @inline(__always) var document: ByteView { heads >> 8 & 3 == Text.none ? .empty : lastDocument }
  @inline(__always) var customer: ByteView { heads >> 10 & 3 == Text.none ? .empty : lastCustomer }
  @inline(__always) var dimensions: ByteView { heads >> 12 & 3 == Text.none ? .empty : lastDimensions }
  @inline(__always) var journal: ByteView { isPosting && heads >> 22 & 3 != Text.none ? lastJournal : .empty }
  @inline(__always) var hasId: Bool { heads >> 14 & 3 != Text.none }
  @inline(__always) var period: Int32 { heads >> 18 & 3 == Period.none ? 0 : lastPeriod }
  @inline(__always) var amountWidth: Int { Int(heads >> 28) }
  /// Whether the fact can be taken for one: numbers have a width, what belongs together is there, and dimensions end where
  /// they say.
  var isSound: Bool {
    guard heads >> 24 & 15 <= 8, areDimensionsSound else { return false }
    if isPosting {
      guard mask & 1 != 0, mask & ~(1 | Fact.baseBit | Fact.quantityBit) == 0 else { return false }
      return amountWidth == ShortForm.counterpart ? mask == 1 && counterpart(code) != nil : amountWidth <= 8
    }
    let service = mask & Fact.serviceBits
    return amountWidth <= 8 && mask <= Fact.knownBits && (service == 0 || service == Fact.serviceBits)
  }

  private var areDimensionsSound: Bool {
    let bytes = dimensions
    var offset = 0
    while offset < bytes.count { offset += 1 + Int(bytes.base.unsafelyUnwrapped[offset]) }
    return offset == bytes.count
  }

  /// More than a fact can take, whatever its bytes say: seven texts of 65,538 bytes, and all else.
  static let mostBytes = 1 << 19

  /// What stands before the id's tail.
  @inline(__always)
  var idBase: ByteView {
    switch heads >> 14 & 3 {
    case Text.continues: isPosting ? journal : document
    case Text.continuesKey: key
    default: .empty
    }
  }

  /// The last byte of the id's tail; 0 where that is empty, and any where there is no id.
  @inline(__always)
  var idEnd: UInt8 { idTail.base.unsafelyUnwrapped[idTail.count &- 1] }

  @inline(__always)
  static func load<Value: FixedWidthInteger & BitwiseCopyable>(
    _ place: inout UnsafePointer<UInt8>, _ type: Value.Type
  ) -> Value {
    let value = UnsafeRawPointer(place).loadUnaligned(as: Value.self)
    place += MemoryLayout<Value>.size
    return Value(littleEndian: value)
  }

  @inline(__always)
  static func number(_ place: UnsafePointer<UInt8>, width: Int) -> Int64 {
    let raw = UInt64(littleEndian: UnsafeRawPointer(place).loadUnaligned(as: UInt64.self))
    let unwanted = UInt64(truncatingIfNeeded: 64 &- 8 &* width)
    let wanted = width == 0 ? 0 : (raw &<< unwanted) &>> unwanted
    return Int64(bitPattern: wanted &>> 1) ^ -Int64(bitPattern: wanted & 1)
  }

  @inline(__always)
  static func literal(_ place: inout UnsafePointer<UInt8>) -> ByteView {
    var count = Int(place.pointee)
    place += 1
    if count == 255 { count = Int(load(&place, UInt16.self)) }
    let text = ByteView(base: place, count: count)
    place += count
    return text
  }

  /// The amount of a posting.
  @inline(__always)
  var amount: Int64 {
    amountWidth == ShortForm.counterpart ? counterpart(code).unsafelyUnwrapped : amount(at: 0)
  }

  /// What the order event before a posting has for its role.
  @inline(__always)
  func counterpart(_ role: UInt8) -> Int64? {
    ShortForm.counterpart(
      role, mask: eventMask, WrittenAmounts(at: eventAmountsAt, stored: eventStored, width: eventWidth))
  }

  /// One of the amounts, by its place among those that are written out: of a posting, all that there are.
  @inline(__always)
  func amount(at place: Int) -> Int64 { FactCursor.number(amountsAt + place &* amountWidth, width: amountWidth) }

  /// The amount of a component of an order event, 0 where it has none.
  @inline(__always)
  func amount(_ component: AmountComponent) -> Int64 { amount(ofBit: UInt16(1) &<< UInt16(component.rawValue)) }

  /// The amount that a bit of the mask stands for, 0 where there is none.
  @inline(__always)
  func amount(ofBit bit: UInt16) -> Int64 {
    if stored & bit != 0 { return amount(at: Int(tieout_bit_count(stored & (bit &- 1)))) }
    guard mask & ~stored & ShortForm.net & bit != 0 else { return 0 }
    return ShortForm.net(of: WrittenAmounts(at: amountsAt, stored: stored, width: amountWidth))
  }

  /// First and last day of the service that an order event bills.
  var service: (first_d: Int32, last_d: Int32)? {
    guard !isPosting, mask & Fact.serviceBits != 0 else { return nil }
    let count = stored.nonzeroBitCount
    return (Int32(clamping: amount(at: count - 2)), Int32(clamping: amount(at: count - 1)))
  }

  /// Reads the next fact. False at the end, and where the bytes are no facts.
  @inline(__always)
  mutating func next() -> Bool {
    guard at < end else { return false }
    var place = at
    let heads = FactCursor.load(&place, UInt32.self)
    self.heads = heads
    more = 0
    if heads & Bit.hasMore != 0 {
      more = FactCursor.load(&place, UInt16.self)
      if more & More.isAbsolute != 0 { forget() }
    }
    mask = 1
    stored = 1
    if heads & Bit.isPosting == 0 {
      let word = FactCursor.load(&place, UInt16.self)
      mask = word & Fact.knownBits
      stored = mask & ~(word &>> ShortForm.derivedShift)
      if heads & Bit.shortLines != 0 { lineCount = UInt16(FactCursor.load(&place, UInt8.self)) }
    }
    if heads & Bit.sameCurrency == 0 { currency = Currency(rawValue: FactCursor.load(&place, UInt16.self) & 0x7fff) }
    if heads & Bit.sameSource == 0 { source = ShortForm.source(&place, heads) }
    if more & ~More.bare != 0 {
      if more & More.hasLines != 0 { lineCount = FactCursor.load(&place, UInt16.self) }
      if more & More.hasOffset != 0 { offset = FactCursor.load(&place, Int64.self) }
      if more & More.hasIdentity != 0 { identity = FactCursor.load(&place, UInt64.self) }
      if more & More.hasMask != 0 {
        mask = FactCursor.load(&place, UInt16.self)
        stored = mask
      }
      if more & Fact.Flag.flagged != 0 { brokenRules = FactCursor.load(&place, UInt16.self) }
    }
    let timeWidth = Int(heads >> 24 & 15)
    time_ms = time_ms &+ FactCursor.number(place, width: timeWidth)
    place += timeWidth
    switch heads >> 16 & 3 {
    case Date.same: break
    case Date.ofTime: date_d = day(ofMilliseconds: time_ms)
    case Date.literal: date_d = ShortForm.date_d(&place, heads)
    default: date_d = absentDate
    }
    if heads >> 18 & 2 != 0 { lastPeriod = ShortForm.period(&place, heads, date_d: date_d) }
    amountsAt = place
    let width = amountWidth
    if heads & Bit.isPosting == 0 {
      (eventAmountsAt, eventMask, eventStored, eventWidth) = (place, mask, stored, width)
    }
    if width != ShortForm.counterpart { place += width &* Int(tieout_bit_count(stored)) }
    if heads & Bit.literals != 0 {
      if heads & 1 << 8 != 0 { lastDocument = FactCursor.literal(&place) }
      if heads & 1 << 10 != 0 { lastCustomer = FactCursor.literal(&place) }
      if heads & 1 << 12 != 0 { lastDimensions = FactCursor.literal(&place) }
      if heads & 1 << 22 != 0 { lastJournal = FactCursor.literal(&place) }
    }
    if heads >> 14 & 3 != Text.none { idTail = FactCursor.literal(&place) }
    if more & More.texts != 0 {
      if more & More.hasReverses != 0 { reverses = FactCursor.literal(&place) }
      if more & Fact.Flag.hasLine != 0 { line = FactCursor.literal(&place) }
    }
    at = place
    return place <= end
  }

  /// More has been written.
  mutating func extend(to end: UnsafePointer<UInt8>) { self.end = end }

  /// As before the first fact.
  @inline(never)
  private mutating func forget() {
    currency = .none
    source = FactCursor.noSource
    time_ms = firstTime_ms
    date_d = absentDate
    lastPeriod = 0
    lastDocument = .empty
    lastCustomer = .empty
    lastDimensions = .empty
    lastJournal = .empty
    (eventMask, eventStored) = (0, 0)
  }
}

extension Fact {
  /// The fact that a cursor has read. Its texts are views of the body, but for an id that is in two parts, which is
  /// put together in `texts`.
  init(_ cursor: FactCursor, number: Int32, texts: inout TextArena) {
    self.init()
    fill(cursor, number: number, texts: &texts)
  }

  /// As `init`, where it stands: a fact is copied more slowly than read.
  /// - Precondition: nothing has been filled in before.
  @inline(__always)
  mutating func fill(_ cursor: FactCursor, number: Int32, texts: inout TextArena) {
    isPosting = cursor.isPosting
    code = cursor.code
    flags = cursor.flags
    currency = cursor.currency
    source = cursor.source
    mask = cursor.mask
    self.number = number
    time_ms = cursor.time_ms
    date_d = cursor.date_d
    statedPeriod = cursor.period
    var (rest, place) = (mask, 0)
    while rest != 0 {
      if isPosting {
        amounts[place] = place == 0 ? cursor.amount : cursor.amount(at: place)
      } else {
        amounts[place] = cursor.amount(ofBit: rest & (0 &- rest))
      }
      place += 1
      rest &= rest &- 1
    }
    document = cursor.document
    customer = cursor.customer
    dimensionBytes = cursor.dimensions
    journal = cursor.journal
    if cursor.hasId {
      let base = cursor.idBase
      id = base.isEmpty ? cursor.idTail : texts.joined(base, cursor.idTail)
    }
    if cursor.hasMore(Fact.Flag.flagged) { brokenRules = cursor.brokenRules }
    if cursor.hasLines { lineCount = cursor.lineCount }
    if cursor.hasMore(FactCursor.More.hasOffset) { offset = cursor.offset }
    if cursor.hasMore(FactCursor.More.hasIdentity) { idHash = cursor.identity }
    if cursor.hasMore(FactCursor.More.hasReverses) { reverses = cursor.reverses }
    if cursor.hasMore(Fact.Flag.hasLine) { lineText = cursor.line }
    hashIdentity()
  }
}

extension FactCursor {
  func hasMore(_ bit: UInt16) -> Bool { more & bit != 0 }

  var hasLines: Bool { hasMore(More.hasLines) || !isPosting && heads & Bit.shortLines != 0 }
}
