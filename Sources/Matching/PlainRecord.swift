import CShims
import Domain

/// A record without anything out of the ordinary, as a fact.
///
/// Nearly all records are plain: they have an id, no flags, short texts, nothing that few records carry. What is done
/// for these is compiled once for order events and once for postings, straight from the decoded record, without a `Fact`
/// in between: a side, and with it most of what a fact might have, is a constant. Bodies hold the same bytes as by way
/// of `Fact` and `FactPlan` (`PlainRecordTests`).
protocol PlainRecord {
  static var isPosting: Bool { get }
  /// Whether all that is said above holds. All but the dimensions.
  var isPlain: Bool { get }
  var id: ByteView { get }
  /// As `Fact.code`.
  var code: UInt8 { get }
  var source: UInt16 { get }
  var currency: Currency { get }
  var time_ms: Int64 { get }
  var date_d: Int32 { get }
  var document: ByteView { get }
  var customer: ByteView { get }
  func dimension(_ place: Int) -> ByteView
  // Of order events alone.
  var lineCount: UInt16 { get }
  var amountMask: UInt16 { get }
  func amount(at bit: Int) -> Int64
  // Of postings alone.
  var journal: ByteView { get }
  var statedPeriod: Int32 { get }
  var amount: Int64 { get }
}

enum PlainBounds {
  /// Texts are shorter than two to the power of this: one byte says how long they are.
  static let textBits = 7
  /// Times from 1970 on, and durations, are below this: sums of some of them are times that a slot can hold.
  static let time_ms: Int64 = 1 << 44
  /// A body of no more bytes has room for a plain fact and a value below `RecordStore.exactClasses`.
  static let bodyBytes = 512
}

struct PlainEvent: PlainRecord {
  let event: UnsafePointer<OrderEvent>

  @inline(__always)
  init(_ event: UnsafePointer<OrderEvent>) { self.event = event }

  @inline(__always) static var isPosting: Bool { false }
  @inline(__always) var isPlain: Bool {
    let rare =
      event.pointee.extras | (event.pointee.isDelete ? 1 : 0) | (event.pointee.isUpsert ? 1 : 0)
      | (event.pointee.kind == .invoiceCancelled ? 1 : 0)
    let long = (id.count | document.count | customer.count) >> PlainBounds.textBits
    return rare == 0 && event.pointee.brokenRules == 0 && event.pointee.serviceEnd_d == absentDate && !id.isEmpty
      && long == 0 && UInt32(bitPattern: event.pointee.lineCount) <= UInt32(UInt16.max)
      && UInt64(bitPattern: time_ms) < UInt64(PlainBounds.time_ms)
  }
  @inline(__always) var id: ByteView { event.pointee.id }
  @inline(__always) var code: UInt8 { event.pointee.kind.rawValue }
  @inline(__always) var source: UInt16 { event.pointee.position.source }
  @inline(__always) var currency: Currency { event.pointee.currency }
  @inline(__always) var time_ms: Int64 { event.pointee.time_ms }
  @inline(__always) var date_d: Int32 { event.pointee.documentDate_d }
  @inline(__always) var document: ByteView { event.pointee.document }
  @inline(__always) var customer: ByteView { event.pointee.customer }
  @inline(__always) func dimension(_ place: Int) -> ByteView { event.pointee.dimensions[unchecked: place] }
  @inline(__always) var lineCount: UInt16 { UInt16(truncatingIfNeeded: event.pointee.lineCount) }
  @inline(__always) var amountMask: UInt16 { event.pointee.amounts.present }
  @inline(__always) func amount(at bit: Int) -> Int64 { event.pointee.amounts[unchecked: bit] }
  @inline(__always) var journal: ByteView { .empty }
  @inline(__always) var statedPeriod: Int32 { 0 }
  @inline(__always) var amount: Int64 { 0 }
}

struct PlainPosting: PlainRecord {
  let posting: UnsafePointer<Posting>

  @inline(__always)
  init(_ posting: UnsafePointer<Posting>) { self.posting = posting }

  @inline(__always) static var isPosting: Bool { true }
  @inline(__always) var isPlain: Bool {
    let rare =
      posting.pointee.extras | (posting.pointee.isDelete ? 1 : 0) | (posting.pointee.isUpsert ? 1 : 0)
      | (posting.pointee.isReversal ? 1 : 0)
    let long = (id.count | document.count | customer.count | journal.count) >> PlainBounds.textBits
    return rare == 0 && posting.pointee.brokenRules == 0 && posting.pointee.reverses.isEmpty && !id.isEmpty
      && long == 0 && UInt64(bitPattern: time_ms) < UInt64(PlainBounds.time_ms)
  }
  @inline(__always) var id: ByteView { posting.pointee.id }
  @inline(__always) var code: UInt8 { posting.pointee.role.rawValue }
  @inline(__always) var source: UInt16 { posting.pointee.position.source }
  @inline(__always) var currency: Currency { posting.pointee.currency }
  @inline(__always) var time_ms: Int64 { posting.pointee.time_ms }
  @inline(__always) var date_d: Int32 { posting.pointee.postingDate_d }
  @inline(__always) var document: ByteView { posting.pointee.document }
  @inline(__always) var customer: ByteView { posting.pointee.customer }
  @inline(__always) func dimension(_ place: Int) -> ByteView { posting.pointee.dimensions[unchecked: place] }
  @inline(__always) var lineCount: UInt16 { 0 }
  @inline(__always) var amountMask: UInt16 { 1 }
  @inline(__always) func amount(at bit: Int) -> Int64 { amount }
  @inline(__always) var journal: ByteView { posting.pointee.journal }
  @inline(__always) var statedPeriod: Int32 { posting.pointee.period }
  @inline(__always) var amount: Int64 { posting.pointee.amount }
}

extension PlainRecord {
  /// Bytes that the dimensions take, 0 where there are none; nil where one of them is long.
  @inline(__always)
  func dimensionSize(_ count: Int) -> Int? {
    var (any, size, place) = (0, 0, 0)
    while place < count {
      let bytes = dimension(place).count
      any |= bytes
      size &+= bytes
      place &+= 1
    }
    if any >> (PlainBounds.textBits - 1) != 0 { return nil }
    return any == 0 ? 0 : size &+ count
  }

  /// Whether the dimensions are those that `last` holds.
  @inline(__always)
  func hasDimensions(_ count: Int, _ size: Int, as last: ByteView) -> Bool {
    guard last.count == size, var at = last.base else { return false }
    var place = 0
    while place < count {
      let text = dimension(place)
      guard Int(at.pointee) == text.count, ByteView(base: at + 1, count: text.count).elementsEqual(text) else {
        return false
      }
      at += text.count &+ 1
      place &+= 1
    }
    return true
  }
}

/// As `FactPlan`, of a plain record.
struct PlainPlan<Record: PlainRecord> {
  private var heads: UInt32
  /// Order events: the mask, and which of the amounts follow from others.
  private var maskWord: UInt16 = 0
  private var timeDelta: UInt64
  /// Bytes of the id that stand elsewhere already.
  private var idDropped = 0
  private let dimensionCount: Int
  private let dimensionSize: Int
  private var end = 0
  /// Bytes that it takes.
  @inline(__always) var size: Int { end }

  @inline(__always)
  private static func zigzag(_ value: Int64) -> UInt64 { UInt64(bitPattern: value &<< 1 ^ value &>> 63) }

  @inline(__always)
  private static func width(_ value: UInt64) -> Int { (71 &- value.leadingZeroBitCount) &>> 3 }

  @inline(__always)
  private mutating func put(_ text: ByteView, _ last: ByteView, _ shift: UInt32) {
    if text.isEmpty { return }
    if text.elementsEqual(last) {
      heads |= FactCursor.Text.same &<< shift
    } else {
      heads |= FactCursor.Text.literal &<< shift
      end &+= text.count &+ 1
    }
  }

  @inline(__always)
  private mutating func put(_ text: ByteView, _ shift: UInt32) {
    if text.isEmpty { return }
    heads |= FactCursor.Text.literal &<< shift
    end &+= text.count &+ 1
  }

  /// The first fact of its tie.
  @inline(__always)
  init(_ record: Record, dimensionCount: Int, dimensionSize: Int, key: ByteView) {
    (self.dimensionCount, self.dimensionSize) = (dimensionCount, dimensionSize)
    let short = ShortForm.bit(source: record.source, date_d: record.date_d)
    heads = UInt32(record.code) | short
    timeDelta = PlainPlan.zigzag(record.time_ms &- ShortForm.time_ms)
    begin(record)
    // A currency of its own is 0 for none, which is what stands before the first.
    if record.currency == .none { heads |= FactCursor.Bit.sameCurrency } else { end &+= 2 }
    end &+= ShortForm.sourceSize(short)
    put(record.document, 8)
    put(record.customer, 10)
    if dimensionSize != 0 {
      heads |= FactCursor.Text.literal &<< 12
      end &+= dimensionSize &+ (dimensionSize < 255 ? 1 : 3)
    }
    if Record.isPosting { put(record.journal, 22) }
    putNumbers(record, lastDate_d: absentDate, lastPeriod: 0, counterpart: nil, key)
  }

  /// A fact behind others. They stay as they are: by value they would be copied.
  @inline(__always)
  init<Before: FactsBefore>(_ record: Record, after cursor: inout Before, dimensionCount: Int, dimensionSize: Int) {
    (self.dimensionCount, self.dimensionSize) = (dimensionCount, dimensionSize)
    let short = ShortForm.bit(source: record.source, date_d: record.date_d)
    heads = UInt32(record.code) | short
    timeDelta = PlainPlan.zigzag(record.time_ms &- cursor.time_ms)
    begin(record)
    if record.currency == cursor.currency { heads |= FactCursor.Bit.sameCurrency } else { end &+= 2 }
    if record.source == cursor.source {
      heads |= FactCursor.Bit.sameSource
    } else {
      end &+= ShortForm.sourceSize(short)
    }
    put(record.document, cursor.lastDocument, 8)
    put(record.customer, cursor.lastCustomer, 10)
    if dimensionSize != 0 {
      if record.hasDimensions(dimensionCount, dimensionSize, as: cursor.lastDimensions) {
        heads |= FactCursor.Text.same &<< 12
      } else {
        heads |= FactCursor.Text.literal &<< 12
        end &+= dimensionSize &+ (dimensionSize < 255 ? 1 : 3)
      }
    }
    if Record.isPosting { put(record.journal, cursor.lastJournal, 22) }
    putNumbers(
      record, lastDate_d: cursor.date_d, lastPeriod: cursor.lastPeriod,
      counterpart: Record.isPosting ? cursor.counterpart(record.code) : nil, cursor.key)
  }

  /// What has a place in every fact of the side.
  @inline(__always)
  private mutating func begin(_ record: Record) {
    end = Record.isPosting ? 4 : 6
    if Record.isPosting { heads |= FactCursor.Bit.isPosting }
    if !Record.isPosting, record.lineCount != 0 {
      if record.lineCount <= UInt16(UInt8.max) {
        heads |= FactCursor.Bit.shortLines
        end &+= 1
      } else {
        heads |= FactCursor.Bit.hasMore
        end &+= 4
      }
    }
  }

  @inline(__always)
  private mutating func putNumbers(
    _ record: Record, lastDate_d: Int32, lastPeriod: Int32, counterpart: Int64?, _ key: ByteView
  ) {
    let id = record.id
    let base = Record.isPosting ? record.journal : record.document
    if !base.isEmpty, id.starts(with: base) {
      heads |= FactCursor.Text.continues << 14
      idDropped = base.count
    } else if id.starts(with: key) {
      heads |= FactCursor.Text.continuesKey << 14
      idDropped = key.count
    } else {
      heads |= FactCursor.Text.literal << 14
    }
    let timeWidth = PlainPlan.width(timeDelta)
    heads |= UInt32(truncatingIfNeeded: timeWidth) &<< 24
    end &+= timeWidth &+ id.count &- idDropped &+ 1
    let date_d = record.date_d
    if date_d == absentDate {
      heads |= FactCursor.Date.absent << 16
    } else if date_d != lastDate_d {
      if date_d == day(ofMilliseconds: record.time_ms) {
        heads |= FactCursor.Date.ofTime << 16
      } else {
        heads |= FactCursor.Date.literal << 16
        end &+= ShortForm.dateSize(heads)
      }
    }
    if Record.isPosting, record.statedPeriod != 0 {
      if record.statedPeriod == lastPeriod {
        heads |= FactCursor.Period.same << 18
      } else if record.statedPeriod == ShortForm.period(ofDay: date_d) {
        heads |= FactCursor.Period.ofDate << 18
      } else {
        heads |= FactCursor.Period.literal << 18
        end &+= 4
      }
    }
    if Record.isPosting {
      if record.amount == counterpart {
        heads |= UInt32(truncatingIfNeeded: ShortForm.counterpart) &<< 28
      } else {
        let amountWidth = PlainPlan.width(PlainPlan.zigzag(record.amount))
        heads |= UInt32(truncatingIfNeeded: amountWidth) &<< 28
        end &+= amountWidth
      }
    } else {
      let mask = record.amountMask
      let derived = ShortForm.derived(mask) { record.amount($0) }
      maskWord = mask | derived &<< ShortForm.derivedShift
      var (all, count) = (UInt64(0), 0)
      var rest = mask & ~derived
      while rest != 0 {
        all |= PlainPlan.zigzag(record.amount(at: rest.trailingZeroBitCount))
        count &+= 1
        rest &= rest &- 1
      }
      let amountWidth = PlainPlan.width(all)
      heads |= UInt32(truncatingIfNeeded: amountWidth) &<< 28
      end &+= amountWidth &* count
    }
  }

  /// What stands before the id's tail.
  @inline(__always)
  func idBase(_ record: Record, key: ByteView) -> ByteView {
    switch heads >> 14 & 3 {
    case FactCursor.Text.continues: Record.isPosting ? record.journal : record.document
    case FactCursor.Text.continuesKey: key
    default: .empty
    }
  }

  @inline(__always)
  func idTail(_ record: Record) -> ByteView {
    ByteView(base: record.id.base! + idDropped, count: record.id.count &- idDropped)
  }

  /// Writes the fact as planned, and nothing behind it.
  @inline(__always)
  func write(_ record: Record, at start: UnsafeMutablePointer<UInt8>) {
    var bytes = FactWriter(start, size)
    bytes.put(heads)
    if !Record.isPosting {
      if heads & FactCursor.Bit.hasMore != 0 { bytes.put(FactCursor.More.hasLines) }
      bytes.put(maskWord)
      if heads & FactCursor.Bit.shortLines != 0 { bytes.put(UInt8(truncatingIfNeeded: record.lineCount)) }
    }
    if heads & FactCursor.Bit.sameCurrency == 0 { bytes.put(record.currency.rawValue) }
    if heads & FactCursor.Bit.sameSource == 0 { bytes.put(source: record.source, heads) }
    if !Record.isPosting, heads & FactCursor.Bit.hasMore != 0 { bytes.put(record.lineCount) }
    bytes.put(timeDelta, width: Int(heads >> 24 & 15))
    if heads >> 16 & 3 == FactCursor.Date.literal { bytes.put(date_d: record.date_d, heads) }
    if Record.isPosting, heads >> 18 & 3 == FactCursor.Period.literal { bytes.put(record.statedPeriod) }
    let amountWidth = Int(heads >> 28)
    if Record.isPosting {
      if amountWidth != ShortForm.counterpart { bytes.put(PlainPlan.zigzag(record.amount), width: amountWidth) }
    } else {
      var rest = maskWord & Fact.knownBits & ~(maskWord &>> ShortForm.derivedShift)
      while rest != 0 {
        bytes.put(PlainPlan.zigzag(record.amount(at: rest.trailingZeroBitCount)), width: amountWidth)
        rest &= rest &- 1
      }
    }
    if heads & 1 << 8 != 0 { bytes.putShort(record.document) }
    if heads & 1 << 10 != 0 { bytes.putShort(record.customer) }
    if heads & 1 << 12 != 0 {
      bytes.putCount(dimensionSize)
      var place = 0
      while place < dimensionCount {
        bytes.putShort(record.dimension(place))
        place &+= 1
      }
    }
    if Record.isPosting, heads & 1 << 22 != 0 { bytes.putShort(record.journal) }
    bytes.putShort(idTail(record))
    assert(bytes.isFull)
  }
}

/// A plain record that has been planned and not yet written.
struct IncomingRecord<Record: PlainRecord>: FactView {
  let record: Record
  let idBase: ByteView
  let idTail: ByteView

  @inline(__always)
  init(_ record: Record, _ plan: PlainPlan<Record>, key: ByteView) {
    self.record = record
    idBase = plan.idBase(record, key: key)
    idTail = plan.idTail(record)
  }

  @inline(__always) var isPosting: Bool { Record.isPosting }
  @inline(__always) var code: UInt8 { record.code }
  @inline(__always) var flags: UInt16 { 0 }
  @inline(__always) var currency: Currency { record.currency }
  @inline(__always) var date_d: Int32 { record.date_d }
  @inline(__always) var time_ms: Int64 { record.time_ms }
  @inline(__always) var source: UInt16 { record.source }
  @inline(__always) var period: Int32 { record.statedPeriod }
  @inline(__always) var document: ByteView { record.document }
  @inline(__always) var customer: ByteView { record.customer }
  @inline(__always) var hasId: Bool { true }
  @inline(__always) var identity: UInt64 { 0 }
  @inline(__always) var amount: Int64 { record.amount }
  @inline(__always) func amount(_ component: AmountComponent) -> Int64 { record.amount(component) }
}

extension PlainRecord {
  /// The amount of a component of an order event, 0 where it has none.
  @inline(__always)
  func amount(_ component: AmountComponent) -> Int64 {
    amountMask & 1 &<< UInt16(component.rawValue) == 0 ? 0 : amount(at: Int(component.rawValue))
  }
}
