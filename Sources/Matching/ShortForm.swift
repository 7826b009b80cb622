import CShims
import Domain

/// What of a fact is not written out because it follows from the rest, and what takes fewer bytes than it might
/// (`FactCursor`).
enum ShortForm {
  /// What the first time of a body is told from, 2034-01-01: times from 2016 to 2051 take five bytes.
  static let time_ms: Int64 = 2_019_686_400_000

  /// `FactCursor.Bit.isShort` where the fact is one.
  @inline(__always)
  static func bit(source: UInt16, date_d: Int32) -> UInt32 {
    let isShort =
      source <= UInt16(UInt8.max) && (UInt32(bitPattern: date_d) <= UInt32(UInt16.max) || date_d == absentDate)
    return isShort ? FactCursor.Bit.isShort : 0
  }

  @inline(__always)
  static func sourceSize(_ heads: UInt32) -> Int { heads & FactCursor.Bit.isShort != 0 ? 1 : 2 }

  @inline(__always)
  static func dateSize(_ heads: UInt32) -> Int { heads & FactCursor.Bit.isShort != 0 ? 2 : 4 }

  @inline(__always)
  static func source(_ place: inout UnsafePointer<UInt8>, _ heads: UInt32) -> UInt16 {
    // Both are read: it is no branch then.
    let word = UInt16(littleEndian: UnsafeRawPointer(place).loadUnaligned(as: UInt16.self))
    place += sourceSize(heads)
    return heads & FactCursor.Bit.isShort != 0 ? word & 0xff : word
  }

  @inline(__always)
  static func date_d(_ place: inout UnsafePointer<UInt8>, _ heads: UInt32) -> Int32 {
    heads & FactCursor.Bit.isShort != 0
      ? Int32(FactCursor.load(&place, UInt16.self)) : FactCursor.load(&place, Int32.self)
  }

  // MARK: - Periods

  /// The calendar month of a day, as far as a period may follow from it; else 0, which is no period.
  @inline(__always)
  static func period(ofDay date_d: Int32) -> Int32 {
    UInt32(bitPattern: date_d) <= UInt32(UInt16.max) ? calendarPeriod(ofDay: date_d) : 0
  }

  /// A period that is written out, or follows from the date.
  @inline(__always)
  static func period(_ place: inout UnsafePointer<UInt8>, _ heads: UInt32, date_d: Int32) -> Int32 {
    heads >> 18 & 3 == FactCursor.Period.literal ? FactCursor.load(&place, Int32.self) : period(ofDay: date_d)
  }

  // MARK: - Amounts of order events

  /// Where in the mask of an order event the bits stand of those of its first four amounts that follow from others.
  /// The net amount is what remains of the gross one without the others; tax, freight and discount are nothing at all.
  static let derivedShift: UInt16 = 12
  @inline(__always) static var net: UInt16 { bit(.net) }

  @inline(__always)
  static func bit(_ component: AmountComponent) -> UInt16 { 1 << UInt16(component.rawValue) }

  @inline(__always)
  static func net(of amounts: WrittenAmounts) -> Int64 {
    amounts[bit(.gross)] &- amounts[bit(.tax)] &- amounts[bit(.freight)] &+ amounts[bit(.discount)]
  }

  /// Those that follow from others.
  /// - Parameter amount: 0 where there is none.
  @inline(__always)
  static func derived(_ mask: UInt16, _ amount: (AmountComponent) -> Int64) -> UInt16 {
    let (tax, freight, discount) = (amount(.tax), amount(.freight), amount(.discount))
    var derived: UInt16 = 0
    if tax == 0 { derived |= bit(.tax) }
    if freight == 0 { derived |= bit(.freight) }
    if discount == 0 { derived |= bit(.discount) }
    if mask & bit(.gross) != 0, amount(.gross) &- tax &- freight &+ discount == amount(.net) { derived |= net }
    return derived & mask
  }

  // MARK: - Amounts of postings

  /// In place of the width of a posting's amount: it is `counterpart` of the order event before.
  static let counterpart = 15

  /// What an invoice puts into a role by the standard policy, nil where it has no such amount.
  /// - Parameter mask: The amounts that it has.
  @inline(__always)
  static func counterpart(_ role: UInt8, mask: UInt16, _ amounts: WrittenAmounts) -> Int64? {
    let component: AmountComponent
    switch role {
    case AccountRole.receivable.rawValue: component = .gross
    case AccountRole.revenue.rawValue: component = .net
    case AccountRole.tax.rawValue: component = .tax
    case AccountRole.freight.rawValue: component = .freight
    default: return nil
    }
    let bit = bit(component)
    guard mask & bit != 0 else { return nil }
    if component == .gross { return amounts[bit] }
    return 0 &- (amounts.stored & bit == 0 && bit == net ? net(of: amounts) : amounts[bit])
  }
}

/// Those amounts of an order event that a body has.
struct WrittenAmounts {
  private let at: UnsafePointer<UInt8>
  /// The bits of their mask.
  let stored: UInt16
  private let width: Int

  @inline(__always)
  init(at: UnsafePointer<UInt8>, stored: UInt16, width: Int) {
    (self.at, self.stored, self.width) = (at, stored, width)
  }

  /// The one that a bit stands for, 0 where it is not among them.
  @inline(__always)
  subscript(bit: UInt16) -> Int64 {
    guard stored & bit != 0 else { return 0 }
    return FactCursor.number(at + Int(tieout_bit_count(stored & (bit &- 1))) &* width, width: width)
  }
}
