import CShims
import Domain

/// Eight bytes as digits: little-endian tricks on one register instead of a loop.
enum Digits {
  static let zeros: UInt64 = 0x3030_3030_3030_3030
  private static let highs: UInt64 = 0x8080_8080_8080_8080

  /// Whether each byte is the text of a digit.
  @inline(__always)
  static func areAll(_ word: UInt64) -> Bool {
    ((word &+ 0x4646_4646_4646_4646) | (word &- zeros)) & highs == 0
  }

  /// The number that eight digits make, the first of them in the lowest byte.
  @inline(__always)
  static func number(_ word: UInt64) -> UInt64 {
    let digits = word &- zeros
    let pairs = digits &* 10 &+ digits &>> 8
    let low = (pairs & 0x0000_00ff_0000_00ff) &* 0x000f_4240_0000_0064
    let high = (pairs &>> 16 & 0x0000_00ff_0000_00ff) &* 0x0000_2710_0000_0001
    return (low &+ high) &>> 32
  }

  static let powers: InlineArray<7, Int64> = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000]
}

/// The last sixteen bytes of a text of one to sixteen bytes, what is before it taken away.
struct ShortText: BitwiseCopyable {
  /// Bytes in front of a text that may be looked at (and are masked away), so that short texts need no branch on their
  /// length. Whoever makes one has checked that they are there.
  static let underread = 8

  /// The last eight bytes, and the eight before them where the text is longer.
  var last: UInt64 = 0
  var first: UInt64 = 0

  init() {}

  /// `fill`: what stands in place of the bytes before the text, in all eight bytes.
  @inline(__always)
  init(_ base: UnsafePointer<UInt8>, _ count: Int, fill: UInt64) {
    let raw = UnsafeRawPointer(base) + count
    let word = UInt64(littleEndian: (raw - 8).loadUnaligned(as: UInt64.self))
    if count <= 8 {
      last = ShortText.masked(word, 8 &- count, fill)
      first = fill
    } else {
      last = word
      let before = UInt64(littleEndian: (raw - 16).loadUnaligned(as: UInt64.self))
      first = ShortText.masked(before, 16 &- count, fill)
    }
  }

  /// `unwanted` low bytes are replaced; 0 to 7 of them.
  @inline(__always)
  private static func masked(_ word: UInt64, _ unwanted: Int, _ fill: UInt64) -> UInt64 {
    let mask = UInt64.max &<< UInt64(truncatingIfNeeded: unwanted &* 8)
    return word & mask | fill & ~mask
  }
}

/// What texts of one field meant before: event types, roles, dates, periods repeat. Direct-mapped, exact: a text is only
/// taken for another where all its bytes agree.
struct TextMemo: ~Copyable {
  struct Entry: BitwiseCopyable {
    var last: UInt64 = 0
    var first: UInt64 = 0
    var value: Int64 = 0
    var day: Int32 = 0
    /// Bytes of the text; 0: nothing remembered.
    var count: UInt32 = 0
  }

  /// A power of two: two months of dates, every event type and role.
  static let entryCount = 64
  static let maximumBytes = 16

  private let entries: UnsafeMutablePointer<Entry>

  init() {
    entries = .allocate(capacity: TextMemo.entryCount)
    entries.initialize(repeating: Entry(), count: TextMemo.entryCount)
  }

  deinit { entries.deallocate() }

  /// The entry where a text is or belongs.
  @inline(__always)
  func entry(_ text: ShortText) -> UnsafeMutablePointer<Entry> {
    let hash = (text.last ^ text.first &>> 29 ^ text.first &<< 17) &* 0x9e37_79b9_7f4a_7c15
    return entries + Int(truncatingIfNeeded: hash &>> 58)
  }

  @inline(__always)
  static func holds(_ entry: UnsafeMutablePointer<Entry>, _ text: ShortText, _ count: Int) -> Bool {
    entry.pointee.last == text.last && entry.pointee.first == text.first && entry.pointee.count == UInt32(count)
  }

  @inline(__always)
  static func remember(
    _ entry: UnsafeMutablePointer<Entry>, _ text: ShortText, _ count: Int, _ value: Int64, day: Int32 = 0
  ) {
    entry.pointee = Entry(last: text.last, first: text.first, value: value, day: day, count: UInt32(count))
  }
}

/// How the time of a field is read without the general parser.
enum QuickTime: UInt8 {
  case none
  /// `1996-07-10T09:00:00.000Z` and its relatives.
  case timestamp
  /// The same where days are those of the field's zone.
  case zonedTimestamp
  case milliseconds
  case zonedMilliseconds
}

/// Which slot a field is read from without a detour: by index of the field, then the dimensions, then the amounts.
/// Fields that are composed, translated or have a default lead to a slot that is always absent, as do those of a source
/// that is read in the general way only.
struct QuickFields: ~Copyable {
  let slots: UnsafeMutablePointer<UInt32>
  /// The same for the image before the change.
  let slotsBefore: UnsafeMutablePointer<UInt32>
  let times: UnsafeMutablePointer<QuickTime>
  /// Of times that are read in a zone.
  let zones: UnsafeMutablePointer<ZoneClock>
  private let total: Int
  /// Bit by index: the field is mapped.
  private(set) var mapped: UInt32 = 0

  /// - Parameters:
  ///   - memoised: Fields whose meaning is remembered by their text, whatever table translates it.
  ///   - amounts: Fields that are amounts: only those that are written in the ordinary way are read without a detour.
  init(plan: MappingPlan, memoised: [Int], amounts: Range<Int>, isUsed: Bool) {
    total = plan.fieldCount + maximumDimensions + 2
    slots = .allocate(capacity: total)
    slotsBefore = .allocate(capacity: total)
    times = .allocate(capacity: total)
    zones = .allocate(capacity: total)
    zones.initialize(repeating: ZoneClock(minutes: 0), count: total)
    slots.initialize(repeating: UInt32(plan.slotCount + 1), count: total)
    slotsBefore.initialize(repeating: UInt32(plan.slotCount + 1), count: total)
    times.initialize(repeating: .none, count: total)
    for index in 0..<plan.fieldCount {
      let isOrdinary = !amounts.contains(index) || plan.fields[index].decimal.isQuick
      add(index, plan.fields[index], memoised: memoised, isUsed: isUsed && isOrdinary)
    }
    for index in 0..<plan.dimensionCount {
      add(plan.fieldCount + index, plan.dimensions[index], memoised: memoised, isUsed: isUsed)
    }
    if plan.amountKind != .none {
      if plan.amount.pointee.decimal.isQuick {
        add(plan.fieldCount + maximumDimensions, plan.amount.pointee, memoised: memoised, isUsed: isUsed)
      }
      if plan.amountKind == .debitCredit, plan.otherAmount.pointee.decimal.isQuick {
        add(plan.fieldCount + maximumDimensions + 1, plan.otherAmount.pointee, memoised: memoised, isUsed: isUsed)
      }
    }
  }

  private mutating func add(_ index: Int, _ field: CompiledField, memoised: [Int], isUsed: Bool) {
    guard field.isMapped else { return }
    mapped |= 1 << UInt32(index)
    guard isUsed, field.value.kind == .slot else { return }
    let isPlain = field.table == nil && !field.stripsLeadingZeros && field.mask == .none
    guard isPlain || memoised.contains(index) else { return }
    slots[index] = UInt32(field.value.slot)
    slotsBefore[index] = UInt32(field.value.slotBefore)
    guard isPlain else { return }
    let zone = field.time?.zone
    if let zone { zones[index] = zone }
    switch field.time?.format {
    case .rfc3339, .automatic: times[index] = zone == nil ? .timestamp : .zonedTimestamp
    case .epochMilliseconds: times[index] = zone == nil ? .milliseconds : .zonedMilliseconds
    default: break
    }
  }

  deinit {
    slots.deallocate()
    slotsBefore.deallocate()
    times.deallocate()
    zones.deinitialize(count: total)
    zones.deallocate()
  }
}

extension DecimalStyle {
  /// Written as JSON and most databases write it.
  var isQuick: Bool {
    decimalSeparator == UInt8(ascii: ".") && groupingSeparator == nil && !allowsTrailingMinus && !allowsParentheses
      && impliedDecimals == nil && !isInMinorUnits && base64Scale == nil && !negate
  }
}

extension Extractor {
  /// The text of a field where it stands in the record as it is wanted; empty: the general way decides.
  @inline(__always)
  func quickText(_ index: Int) -> ByteView {
    let value = values[Int(slots[index])]
    let textual: UInt32 = 1 << ValueKind.string.rawValue | 1 << ValueKind.number.rawValue | 1 << ValueKind.bool.rawValue
    guard textual &>> value.form & 1 != 0, value.count > 0 else { return .empty }
    // Only an absent value has no place.
    let base = value.base.unsafelyUnwrapped
    let count = Int(value.count)
    guard base.pointee > 0x20, base[count - 1] > 0x20 else { return .empty }
    return ByteView(base: base, count: count)
  }

  /// Whether the bytes in front of a text may be looked at: they belong to the record, or to the arena, which leaves as
  /// many free.
  @inline(__always)
  func hasUnderread(_ base: UnsafePointer<UInt8>) -> Bool { base - recordStart >= ShortText.underread }

  /// A decimal of up to fourteen bytes in units of `10^−decimals`; nil: the general way decides.
  @inline(__always)
  func quickUnits(_ text: ByteView, decimals: Int) -> Int64? {
    guard var base = text.base, text.count > 0, hasUnderread(base) else { return nil }
    var count = text.count
    let isNegative = base.pointee == UInt8(ascii: "-")
    if isNegative {
      base += 1
      count -= 1
    }
    guard count > 0, count <= 14 else { return nil }
    let short = ShortText(base, count, fill: Digits.zeros)
    let points = short.last ^ 0x2e2e_2e2e_2e2e_2e2e
    let point = (points &- 0x0101_0101_0101_0101) & ~points & 0x8080_8080_8080_8080
    var digits = short.last
    var scale = 0
    var upper: UInt64 = 100_000_000
    if point != 0 {
      guard count > 1 else { return nil }
      // The bytes before the point move up by one, over it.
      let bits = UInt64(truncatingIfNeeded: point.trailingZeroBitCount & ~7)
      scale = 7 &- Int(truncatingIfNeeded: bits &>> 3)
      let before = digits & ((1 &<< bits) &- 1)
      let behind = (((digits &>> 8) &>> bits) &<< bits) &<< 8
      digits = before &<< 8 | 0x30 | behind
      upper = 10_000_000
    }
    guard Digits.areAll(digits), scale <= decimals else { return nil }
    var magnitude = Digits.number(digits)
    if count > 8 {
      guard Digits.areAll(short.first) else { return nil }
      magnitude &+= Digits.number(short.first) &* upper
    }
    var value = Int64(truncatingIfNeeded: magnitude)
    if scale < decimals {
      let (wide, over) = value.multipliedReportingOverflow(by: Digits.powers[decimals - scale])
      guard !over, wide < 1 << 62 else { return nil }
      value = wide
    }
    return isNegative ? 0 - value : value
  }

  /// Digits only, up to sixteen; nil: the general way decides.
  @inline(__always)
  func quickInteger(_ text: ByteView) -> Int64? {
    guard let base = text.base, text.count > 0, text.count <= 16, hasUnderread(base) else { return nil }
    let short = ShortText(base, text.count, fill: Digits.zeros)
    guard Digits.areAll(short.last), Digits.areAll(short.first) else { return nil }
    return Int64(truncatingIfNeeded: Digits.number(short.first) &* 100_000_000 &+ Digits.number(short.last))
  }

  /// `1996-07-10T09:00:00` with or without a fraction and a `Z`, in UTC, its date remembered; nil: the general way decides.
  @inline(__always)
  mutating func quickTimestamp(_ text: ByteView) -> ParsedTime? {
    guard let base = text.base, text.count >= 19 else { return nil }
    let raw = UnsafeRawPointer(base)
    let separator = base[10]
    guard separator == UInt8(ascii: "T") || separator == UInt8(ascii: " ") else { return nil }
    // The colons become zeros; then all eight must be digits.
    let clock =
      UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: 11, as: UInt64.self)) ^ 0x0000_0a00_000a_0000
    guard Digits.areAll(clock), clock & 0x0000_ff00_00ff_0000 == 0x0000_3000_0030_0000 else { return nil }
    let pairs = (clock &- Digits.zeros) &* 10 &+ (clock &- Digits.zeros) &>> 8
    let hour = Int(truncatingIfNeeded: pairs & 0xff)
    let minute = Int(truncatingIfNeeded: pairs &>> 24 & 0xff)
    let second = Int(truncatingIfNeeded: pairs &>> 48 & 0xff)
    guard hour <= 23, minute <= 59, second <= 59 else { return nil }
    var milli = 0
    var at = 19
    if at < text.count, base[at] == UInt8(ascii: ".") {
      guard text.count >= 23 else { return nil }
      let a = base[20] &- 0x30
      let b = base[21] &- 0x30
      let c = base[22] &- 0x30
      guard a <= 9, b <= 9, c <= 9 else { return nil }
      milli = Int(a) * 100 + Int(b) * 10 + Int(c)
      at = 23
      while at < text.count, base[at] &- 0x30 <= 9 { at += 1 }
    }
    if at < text.count {
      guard at + 1 == text.count, base[at] == UInt8(ascii: "Z") else { return nil }
    }
    let date = ShortText(dateOf: raw)
    let entry = days.entry(date)
    if !TextMemo.holds(entry, date, 10) {
      guard let day = TimeParser.day(ofDate: base) else { return nil }
      TextMemo.remember(entry, date, 10, 0, day: day)
    }
    let day = entry.pointee.day
    let seconds = (hour &* 60 &+ minute) &* 60 &+ second
    return ParsedTime(
      ms: Int64(day) &* millisecondsPerDay &+ Int64(seconds &* 1_000 &+ milli), day: day)
  }
}

extension Extractor {
  /// As `quickTimestamp`, in the zone of a field.
  @inline(never)
  mutating func zonedTimestamp(_ text: ByteView, _ index: Int) -> ParsedTime? {
    guard let time = quickTimestamp(text), let base = text.base else { return nil }
    if base[text.count - 1] == UInt8(ascii: "Z") {
      return ParsedTime(ms: time.ms, day: fields.zones[index].day(ofMilliseconds: time.ms))
    }
    let offset_s = fields.zones[index].offset_s(shown: seconds(ofMilliseconds: time.ms))
    return ParsedTime(ms: time.ms - Int64(offset_s) * 1_000, day: time.day)
  }
}

extension ShortText {
  /// The ten bytes of a date at the start of a longer text.
  @inline(__always)
  fileprivate init(dateOf raw: UnsafeRawPointer) {
    last = UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: 2, as: UInt64.self))
    first = UInt64(UInt16(littleEndian: raw.loadUnaligned(as: UInt16.self)))
  }
}
