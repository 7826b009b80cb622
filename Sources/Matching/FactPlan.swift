import CShims
import Domain

/// How a fact is written behind those that a cursor has read, and the writing of it.
struct FactPlan {
  private var heads: UInt32 = 0
  private var more: UInt16 = 0
  /// Order events: `Fact.mask`, and which of the amounts follow from others.
  private var maskWord: UInt16 = 0
  private var timeDelta: UInt64 = 0
  private var idTail: ByteView = .empty
  /// Bytes that it takes.
  private(set) var size = 4

  @inline(__always)
  private static func zigzag(_ value: Int64) -> UInt64 { UInt64(bitPattern: value << 1 ^ value >> 63) }

  @inline(__always)
  private static func width(_ value: UInt64) -> Int { (71 &- value.leadingZeroBitCount) >> 3 }

  @inline(__always)
  private static func literalSize(_ text: ByteView) -> Int { text.count &+ (text.count < 255 ? 1 : 3) }

  @inline(__always)
  private mutating func put(_ text: ByteView, _ last: ByteView, _ shift: UInt32) {
    if text.isEmpty { return }
    if text.elementsEqual(last) {
      heads |= FactCursor.Text.same &<< shift
    } else {
      heads |= FactCursor.Text.literal &<< shift
      size &+= FactPlan.literalSize(text)
    }
  }

  /// - Parameters:
  ///   - cursor: Has read to the end, or nothing at all where the fact is to be absolute. It stays as it is: by value it
  ///     would be copied.
  @inline(__always)
  init(_ fact: UnsafePointer<Fact>, after cursor: inout FactCursor, isAbsolute: Bool) {
    let isPosting = fact.pointee.isPosting
    heads = UInt32(fact.pointee.code & 31)
    if isPosting { heads |= FactCursor.Bit.isPosting } else { size &+= 2 }
    let short = ShortForm.bit(source: fact.pointee.source, date_d: fact.pointee.date_d)
    heads |= short
    if fact.pointee.currency == cursor.currency { heads |= FactCursor.Bit.sameCurrency } else { size &+= 2 }
    if fact.pointee.source == cursor.source {
      heads |= FactCursor.Bit.sameSource
    } else {
      size &+= ShortForm.sourceSize(short)
    }
    put(fact.pointee.document, cursor.lastDocument, 8)
    put(fact.pointee.customer, cursor.lastCustomer, 10)
    put(fact.pointee.dimensionBytes, cursor.lastDimensions, 12)
    if isPosting { put(fact.pointee.journal, cursor.lastJournal, 22) }
    more = fact.pointee.flags
    if isAbsolute { more |= FactCursor.More.isAbsolute }
    if fact.pointee.flags & (Fact.Flag.flagged | Fact.Flag.hasLine) != 0 {
      if fact.pointee.flags & Fact.Flag.flagged != 0 { size &+= 2 }
      if fact.pointee.flags & Fact.Flag.hasLine != 0 { size &+= FactPlan.literalSize(fact.pointee.lineText) }
    }
    if !fact.pointee.reverses.isEmpty {
      more |= FactCursor.More.hasReverses
      size &+= FactPlan.literalSize(fact.pointee.reverses)
    }
    if fact.pointee.lineCount > UInt16(UInt8.max) {
      more |= FactCursor.More.hasLines
      size &+= 2
    } else if fact.pointee.lineCount != 0 {
      heads |= FactCursor.Bit.shortLines
      size &+= 1
    }
    if isPosting, fact.pointee.mask != 1 {
      more |= FactCursor.More.hasMask
      size &+= 2
    }
    let id = fact.pointee.id
    if id.isEmpty {
      more |= FactCursor.More.hasOffset | FactCursor.More.hasIdentity
      size &+= 16
    } else {
      let base = isPosting ? fact.pointee.journal : fact.pointee.document
      if !base.isEmpty, id.starts(with: base) {
        heads |= FactCursor.Text.continues << 14
        idTail = id.dropped(base.count)
      } else if id.starts(with: cursor.key) {
        heads |= FactCursor.Text.continuesKey << 14
        idTail = id.dropped(cursor.key.count)
      } else {
        heads |= FactCursor.Text.literal << 14
        idTail = id
      }
      size &+= FactPlan.literalSize(idTail)
      if fact.pointee.isChange {
        more |= FactCursor.More.hasOffset
        size &+= 8
      }
    }
    if more != 0 {
      heads |= FactCursor.Bit.hasMore
      size &+= 2
    }
    timeDelta = FactPlan.zigzag(fact.pointee.time_ms &- cursor.time_ms)
    let timeWidth = FactPlan.width(timeDelta)
    heads |= UInt32(timeWidth) << 24
    size &+= timeWidth
    let date_d = fact.pointee.date_d
    if date_d == absentDate {
      heads |= FactCursor.Date.absent << 16
    } else if date_d != cursor.date_d {
      if date_d == day(ofMilliseconds: fact.pointee.time_ms) {
        heads |= FactCursor.Date.ofTime << 16
      } else {
        heads |= FactCursor.Date.literal << 16
        size &+= ShortForm.dateSize(short)
      }
    }
    if fact.pointee.statedPeriod != 0 {
      if fact.pointee.statedPeriod == cursor.lastPeriod {
        heads |= FactCursor.Period.same << 18
      } else if fact.pointee.statedPeriod == ShortForm.period(ofDay: date_d) {
        heads |= FactCursor.Period.ofDate << 18
      } else {
        heads |= FactCursor.Period.literal << 18
        size &+= 4
      }
    }
    maskWord = fact.pointee.mask
    if !isPosting {
      maskWord |= ShortForm.derived(fact.pointee.mask) { fact.amount($0) } &<< ShortForm.derivedShift
    }
    // One by one, as they have just been written: a loop over places is made to load them in pairs, which waits for the
    // stores.
    var all: UInt64 = 0
    let (derived, count) = (derived, amountCount(fact))
    var rest = fact.pointee.mask
    var place = 0
    while rest != 0 {
      if rest & (0 &- rest) & derived == 0 { all |= FactPlan.zigzag(fact.pointee.amounts[unchecked: place]) }
      place &+= 1
      rest &= rest &- 1
    }
    if isPosting, fact.pointee.mask == 1, cursor.counterpart(fact.pointee.code) == fact.pointee.amount {
      heads |= UInt32(truncatingIfNeeded: ShortForm.counterpart) << 28
      return
    }
    let amountWidth = FactPlan.width(all)
    heads |= UInt32(amountWidth) << 28
    size &+= amountWidth &* count
  }

  /// The amounts that are not written out.
  @inline(__always)
  private var derived: UInt16 { heads & FactCursor.Bit.isPosting != 0 ? 0 : maskWord &>> ShortForm.derivedShift }

  @inline(__always)
  private func amountCount(_ fact: UnsafePointer<Fact>) -> Int { Int(tieout_bit_count(fact.pointee.mask & ~derived)) }

  /// What stands before the id's tail.
  @inline(__always)
  func idBase(_ fact: UnsafePointer<Fact>, key: ByteView) -> ByteView {
    switch heads >> 14 & 3 {
    case FactCursor.Text.continues: fact.pointee.isPosting ? fact.pointee.journal : fact.pointee.document
    case FactCursor.Text.continuesKey: key
    default: .empty
    }
  }

  /// Writes a fact as planned, and nothing behind it.
  @inline(__always)
  func write(_ fact: UnsafePointer<Fact>, at start: UnsafeMutablePointer<UInt8>) {
    var bytes = FactWriter(start, size)
    bytes.put(heads)
    if more != 0 { bytes.put(more) }
    if heads & FactCursor.Bit.isPosting == 0 {
      bytes.put(maskWord)
      if heads & FactCursor.Bit.shortLines != 0 { bytes.put(UInt8(truncatingIfNeeded: fact.pointee.lineCount)) }
    }
    if heads & FactCursor.Bit.sameCurrency == 0 { bytes.put(fact.pointee.currency.rawValue) }
    if heads & FactCursor.Bit.sameSource == 0 { bytes.put(source: fact.pointee.source, heads) }
    if more & ~FactCursor.More.bare != 0 {
      if more & FactCursor.More.hasLines != 0 { bytes.put(fact.pointee.lineCount) }
      if more & FactCursor.More.hasOffset != 0 { bytes.put(fact.pointee.offset) }
      if more & FactCursor.More.hasIdentity != 0 { bytes.put(fact.pointee.idHash) }
      if more & FactCursor.More.hasMask != 0 { bytes.put(fact.pointee.mask) }
      if more & Fact.Flag.flagged != 0 { bytes.put(fact.pointee.brokenRules) }
    }
    bytes.put(timeDelta, width: Int(heads >> 24 & 15))
    if heads >> 16 & 3 == FactCursor.Date.literal { bytes.put(date_d: fact.pointee.date_d, heads) }
    if heads >> 18 & 3 == FactCursor.Period.literal { bytes.put(fact.pointee.statedPeriod) }
    let amountWidth = Int(heads >> 28)
    let derived = derived
    var rest = amountWidth == ShortForm.counterpart ? 0 : fact.pointee.mask
    var place = 0
    while rest != 0 {
      if rest & (0 &- rest) & derived == 0 {
        bytes.put(FactPlan.zigzag(fact.pointee.amounts[unchecked: place]), width: amountWidth)
      }
      place &+= 1
      rest &= rest &- 1
    }
    if heads & FactCursor.Bit.literals != 0 {
      if heads & 1 << 8 != 0 { bytes.put(fact.pointee.document) }
      if heads & 1 << 10 != 0 { bytes.put(fact.pointee.customer) }
      if heads & 1 << 12 != 0 { bytes.put(fact.pointee.dimensionBytes) }
      if heads & 1 << 22 != 0 { bytes.put(fact.pointee.journal) }
    }
    if heads >> 14 & 3 != FactCursor.Text.none { bytes.put(idTail) }
    if more & FactCursor.More.texts != 0 {
      if more & FactCursor.More.hasReverses != 0 { bytes.put(fact.pointee.reverses) }
      if more & Fact.Flag.hasLine != 0 { bytes.put(fact.pointee.lineText) }
    }
    assert(bytes.isFull)
  }
}

/// Writes a fact part by part, into as many bytes as were planned for it.
struct FactWriter {
  private var at: UnsafeMutablePointer<UInt8>
  private let end: UnsafeMutablePointer<UInt8>

  @inline(__always)
  init(_ start: UnsafeMutablePointer<UInt8>, _ size: Int) { (at, end) = (start, start + size) }

  @inline(__always) var isFull: Bool { at == end }

  @inline(__always)
  mutating func put<Value: FixedWidthInteger & BitwiseCopyable>(_ value: Value) {
    UnsafeMutableRawPointer(at).storeBytes(of: value.littleEndian, as: Value.self)
    at += MemoryLayout<Value>.size
  }

  /// As the heads of the fact say.
  @inline(__always)
  mutating func put(source: UInt16, _ heads: UInt32) {
    if heads & FactCursor.Bit.isShort != 0 { put(UInt8(truncatingIfNeeded: source)) } else { put(source) }
  }

  /// As the heads of the fact say.
  @inline(__always)
  mutating func put(date_d: Int32, _ heads: UInt32) {
    if heads & FactCursor.Bit.isShort != 0 { put(UInt16(truncatingIfNeeded: date_d)) } else { put(date_d) }
  }

  /// The bytes of a number that count, so many.
  @inline(__always)
  mutating func put(_ value: UInt64, width: Int) {
    if end - at >= 8 {
      // What it writes too much is written over by what follows.
      UnsafeMutableRawPointer(at).storeBytes(of: value.littleEndian, as: UInt64.self)
    } else {
      storeShort(value, width: width, at: at)
    }
    at += width
  }

  @inline(__always)
  mutating func putCount(_ count: Int) {
    if count < 255 {
      put(UInt8(truncatingIfNeeded: count))
    } else {
      put(UInt8(255))
      put(UInt16(truncatingIfNeeded: count))
    }
  }

  @inline(__always)
  mutating func put(_ text: ByteView) {
    putCount(text.count)
    putBytes(text)
  }

  /// A text of less than 255 bytes.
  @inline(__always)
  mutating func putShort(_ text: ByteView) {
    put(UInt8(truncatingIfNeeded: text.count))
    putBytes(text)
  }

  @inline(__always)
  private mutating func putBytes(_ text: ByteView) {
    copyShort(from: text, to: at)
    at += text.count
  }
}

/// Copies a text. Those of a ledger are short: two loads that overlap do for most, without a call.
@inline(__always)
func copyShort(from text: ByteView, to target: UnsafeMutablePointer<UInt8>) {
  guard let base = text.base else { return }
  let (count, source, to) = (text.count, UnsafeRawPointer(base), UnsafeMutableRawPointer(target))
  if count > 16 {
    to.copyMemory(from: source, byteCount: count)
  } else if count >= 8 {
    let first = source.loadUnaligned(as: UInt64.self)
    let last = source.loadUnaligned(fromByteOffset: count &- 8, as: UInt64.self)
    to.storeBytes(of: first, as: UInt64.self)
    to.storeBytes(of: last, toByteOffset: count &- 8, as: UInt64.self)
  } else if count >= 4 {
    let first = source.loadUnaligned(as: UInt32.self)
    let last = source.loadUnaligned(fromByteOffset: count &- 4, as: UInt32.self)
    to.storeBytes(of: first, as: UInt32.self)
    to.storeBytes(of: last, toByteOffset: count &- 4, as: UInt32.self)
  } else if count >= 2 {
    let first = source.loadUnaligned(as: UInt16.self)
    let last = source.loadUnaligned(fromByteOffset: count &- 2, as: UInt16.self)
    to.storeBytes(of: first, as: UInt16.self)
    to.storeBytes(of: last, toByteOffset: count &- 2, as: UInt16.self)
  } else if count == 1 {
    target[0] = base[0]
  }
}

/// Writes the low bytes of a number, and nothing behind them.
@inline(__always)
func storeShort(_ value: UInt64, width: Int, at target: UnsafeMutablePointer<UInt8>) {
  let to = UnsafeMutableRawPointer(target)
  if width >= 4 {
    to.storeBytes(of: UInt32(truncatingIfNeeded: value).littleEndian, as: UInt32.self)
    to.storeBytes(
      of: UInt32(truncatingIfNeeded: value &>> UInt64(8 &* (width &- 4))).littleEndian, toByteOffset: width &- 4,
      as: UInt32.self)
  } else if width >= 2 {
    to.storeBytes(of: UInt16(truncatingIfNeeded: value).littleEndian, as: UInt16.self)
    to.storeBytes(
      of: UInt16(truncatingIfNeeded: value &>> UInt64(8 &* (width &- 2))).littleEndian, toByteOffset: width &- 2,
      as: UInt16.self)
  } else if width == 1 {
    target[0] = UInt8(truncatingIfNeeded: value)
  }
}

extension ByteView {
  @inline(__always)
  func starts(with other: ByteView) -> Bool { count >= other.count && prefix(other.count).elementsEqual(other) }

  @inline(__always)
  func dropped(_ count: Int) -> ByteView { ByteView(base: base.map { $0 + count }, count: self.count &- count) }
}
