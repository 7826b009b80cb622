import CShims
import Domain

/// What the fact that is written next may refer to.
protocol FactsBefore {
  var key: ByteView { get }
  var currency: Currency { get }
  var source: UInt16 { get }
  var time_ms: Int64 { get }
  var date_d: Int32 { get }
  var lastPeriod: Int32 { get }
  var lastDocument: ByteView { get }
  var lastCustomer: ByteView { get }
  var lastDimensions: ByteView { get }
  var lastJournal: ByteView { get }
  /// What the order event that was read last has for a role; nil where there is none, or it says nothing of that.
  func counterpart(_ role: UInt8) -> Int64?
}

extension FactCursor: FactsBefore {}

/// What the one order event of a tie says of what is to be posted.
protocol OneEvent {
  var code: UInt8 { get }
  var source: UInt16 { get }
  var currency: Currency { get }
  var time_ms: Int64 { get }
  var date_d: Int32 { get }
  var customer: ByteView { get }
  func amount(_ component: AmountComponent) -> Int64
}

/// The one posting of a tie.
protocol OnePosting {
  var code: UInt8 { get }
  var currency: Currency { get }
  var date_d: Int32 { get }
  var statedPeriod: Int32 { get }
  var customer: ByteView { get }
  var amount: Int64 { get }
}

extension PlainEvent: OneEvent {}
extension PlainPosting: OnePosting {}

/// An order event that is all that its tie knows, read in one go: where a posting comes, that is the usual case.
struct LoneEvent: FactsBefore, OneEvent {
  let key: ByteView
  let code: UInt8
  private let mask: UInt16
  private let stored: UInt16
  let currency: Currency
  let source: UInt16
  let time_ms: Int64
  let date_d: Int32
  private let amountsAt: UnsafePointer<UInt8>
  private let amountWidth: Int
  let lastDocument: ByteView
  let lastCustomer: ByteView
  let lastDimensions: ByteView
  @inline(__always) var lastPeriod: Int32 { 0 }
  @inline(__always) var lastJournal: ByteView { .empty }
  @inline(__always) var customer: ByteView { lastCustomer }

  /// nil where the facts are others, or more. Bounds as those of `FactCursor`.
  @inline(__always)
  init?(_ start: UnsafePointer<UInt8>, end: UnsafePointer<UInt8>, key: ByteView) {
    var at = start
    let heads = FactCursor.load(&at, UInt32.self)
    // Orders with lines are posted by several postings, as a rule.
    let odd =
      FactCursor.Bit.isPosting | FactCursor.Bit.hasMore | FactCursor.Bit.sameCurrency | FactCursor.Bit.sameSource
      | FactCursor.Bit.shortLines
    guard heads & odd == 0 else { return nil }
    self.key = key
    code = UInt8(truncatingIfNeeded: heads & 31)
    let word = FactCursor.load(&at, UInt16.self)
    mask = word & Fact.knownBits
    stored = word & Fact.knownBits & ~(word &>> ShortForm.derivedShift)
    currency = Currency(rawValue: FactCursor.load(&at, UInt16.self) & 0x7fff)
    source = ShortForm.source(&at, heads)
    let timeWidth = Int(heads >> 24 & 15)
    time_ms = ShortForm.time_ms &+ FactCursor.number(at, width: timeWidth)
    at += timeWidth
    switch heads >> 16 & 3 {
    case FactCursor.Date.ofTime: date_d = day(ofMilliseconds: time_ms)
    case FactCursor.Date.literal: date_d = ShortForm.date_d(&at, heads)
    default: date_d = absentDate
    }
    amountsAt = at
    amountWidth = Int(heads >> 28)
    at += amountWidth &* Int(tieout_bit_count(stored))
    lastDocument = heads & 1 << 8 != 0 ? FactCursor.literal(&at) : .empty
    lastCustomer = heads & 1 << 10 != 0 ? FactCursor.literal(&at) : .empty
    lastDimensions = heads & 1 << 12 != 0 ? FactCursor.literal(&at) : .empty
    if heads >> 14 & 3 != FactCursor.Text.none { _ = FactCursor.literal(&at) }
    guard at == end else { return nil }
  }

  /// The amount of a component, 0 where it has none.
  @inline(__always)
  func amount(_ component: AmountComponent) -> Int64 {
    let bit = UInt16(1) &<< UInt16(component.rawValue)
    let amounts = WrittenAmounts(at: amountsAt, stored: stored, width: amountWidth)
    if stored & bit != 0 { return amounts[bit] }
    return mask & ~stored & ShortForm.net & bit != 0 ? ShortForm.net(of: amounts) : 0
  }

  @inline(__always)
  func counterpart(_ role: UInt8) -> Int64? {
    ShortForm.counterpart(role, mask: mask, WrittenAmounts(at: amountsAt, stored: stored, width: amountWidth))
  }
}

/// A posting that is all that its tie knows, as `LoneEvent`: where the ledger is ahead of the orders.
struct LonePosting: FactsBefore, OnePosting {
  let key: ByteView
  let code: UInt8
  let currency: Currency
  let source: UInt16
  let time_ms: Int64
  let date_d: Int32
  let lastPeriod: Int32
  let amount: Int64
  let lastDocument: ByteView
  let lastCustomer: ByteView
  let lastDimensions: ByteView
  let lastJournal: ByteView
  @inline(__always) var customer: ByteView { lastCustomer }
  @inline(__always) var statedPeriod: Int32 { lastPeriod }
  @inline(__always) func counterpart(_ role: UInt8) -> Int64? { nil }

  /// nil where the facts are others, or more. Bounds as those of `FactCursor`.
  @inline(__always)
  init?(_ start: UnsafePointer<UInt8>, end: UnsafePointer<UInt8>, key: ByteView) {
    var at = start
    let heads = FactCursor.load(&at, UInt32.self)
    let odd = FactCursor.Bit.hasMore | FactCursor.Bit.sameCurrency | FactCursor.Bit.sameSource
    guard heads & (odd | FactCursor.Bit.isPosting) == FactCursor.Bit.isPosting else { return nil }
    self.key = key
    code = UInt8(truncatingIfNeeded: heads & 31)
    currency = Currency(rawValue: FactCursor.load(&at, UInt16.self) & 0x7fff)
    source = ShortForm.source(&at, heads)
    let timeWidth = Int(heads >> 24 & 15)
    time_ms = ShortForm.time_ms &+ FactCursor.number(at, width: timeWidth)
    at += timeWidth
    switch heads >> 16 & 3 {
    case FactCursor.Date.ofTime: date_d = day(ofMilliseconds: time_ms)
    case FactCursor.Date.literal: date_d = ShortForm.date_d(&at, heads)
    default: date_d = absentDate
    }
    lastPeriod = heads >> 18 & 2 != 0 ? ShortForm.period(&at, heads, date_d: date_d) : 0
    let amountWidth = Int(heads >> 28)
    amount = FactCursor.number(at, width: amountWidth)
    at += amountWidth
    lastDocument = heads & 1 << 8 != 0 ? FactCursor.literal(&at) : .empty
    lastCustomer = heads & 1 << 10 != 0 ? FactCursor.literal(&at) : .empty
    lastDimensions = heads & 1 << 12 != 0 ? FactCursor.literal(&at) : .empty
    lastJournal = heads & 1 << 22 != 0 ? FactCursor.literal(&at) : .empty
    if heads >> 14 & 3 != FactCursor.Text.none { _ = FactCursor.literal(&at) }
    guard at == end else { return nil }
  }
}
