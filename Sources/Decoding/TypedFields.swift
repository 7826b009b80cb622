import CShims
import Domain

/// The place of a text in a memo.
struct MemoPlace: BitwiseCopyable {
  var text: ShortText
  var count: Int
  /// nil: the text is not one that is remembered.
  var entry: UnsafeMutablePointer<TextMemo.Entry>?

  /// What the text meant before.
  @inline(__always)
  var value: Int64? {
    guard let entry, TextMemo.holds(entry, text, count) else { return nil }
    return entry.pointee.value
  }

  @inline(__always)
  var time: ParsedTime? {
    guard let entry, TextMemo.holds(entry, text, count) else { return nil }
    return ParsedTime(ms: entry.pointee.value, day: entry.pointee.day)
  }

  @inline(__always)
  func remember(_ value: Int64, day: Int32 = 0) {
    guard let entry else { return }
    TextMemo.remember(entry, text, count, value, day: day)
  }
}

/// Typed fields: the ordinary text read at once, all else in the general way.
extension Extractor {
  @inline(__always)
  func isMapped(_ index: Int) -> Bool { fields.mapped &>> UInt32(truncatingIfNeeded: index) & 1 != 0 }

  @inline(__always)
  func place(_ index: Int, _ memo: borrowing TextMemo, atMost maximum: Int = TextMemo.maximumBytes) -> MemoPlace {
    let text = quickText(index)
    guard let base = text.base, text.count <= maximum, hasUnderread(base) else {
      return MemoPlace(text: ShortText(), count: 0, entry: nil)
    }
    let short = ShortText(base, text.count, fill: 0)
    return MemoPlace(text: short, count: text.count, entry: memo.entry(short))
  }

  @inline(__always)
  mutating func plain(_ index: Int, isSkipped: inout Bool) throws(DataFault) -> ByteView {
    let text = quickText(index)
    return text.isEmpty ? try fieldText(index, isSkipped: &isSkipped) : text
  }

  @inline(__always)
  mutating func orderKey(_ index: Int, isSkipped: inout Bool) throws(DataFault) -> ByteView {
    let order = try plain(index, isSkipped: &isSkipped)
    guard order.count > 0, order.count <= maximumKeyBytes else {
      if isSkipped { return order }
      throw DataFault(
        .schemaInvalid, field: "order",
        detail: order.isEmpty
          ? "the order key is empty (`first` or `default` of its mapping can give it one)"
          : "the order key has \(order.count) bytes")
    }
    return order
  }

  /// `memo`: what texts of this field, dates of up to ten bytes, meant.
  @inline(__always)
  mutating func time(
    _ index: Int, _ memo: borrowing TextMemo, isSkipped: inout Bool
  ) throws(DataFault) -> ParsedTime? {
    let text = quickText(index)
    switch fields.times[index] {
    case .timestamp:
      if let time = quickTimestamp(text) { return time }
    case .zonedTimestamp:
      if let time = zonedTimestamp(text, index) { return time }
    case .milliseconds:
      if let ms = quickInteger(text), ms < TimeParser.end_ms {
        return ParsedTime(ms: ms, day: Domain.day(ofMilliseconds: ms))
      }
    case .zonedMilliseconds:
      if let ms = quickInteger(text), ms < TimeParser.end_ms {
        return ParsedTime(ms: ms, day: fields.zones[index].day(ofMilliseconds: ms))
      }
    case .none: break
    }
    let place = place(index, memo, atMost: 10)
    if let time = place.time { return time }
    var isTableSkipping = false
    let time = try generalTime(index, isSkipped: &isTableSkipping)
    if isTableSkipping { isSkipped = true } else if let time { place.remember(time.ms, day: time.day) }
    return time
  }

  /// Which row a record is about and when, by the places of these fields; nil where it does not tell all of it.
  mutating func identity(
    order: Int, id: Int, time: Int, _ times: borrowing TextMemo
  ) -> (order: ByteView, id: ByteView, time_ms: Int64)? {
    guard isMapped(id) else { return nil }
    var isSkipped = false
    do throws(DataFault) {
      let key = try orderKey(order, isSkipped: &isSkipped)
      let own = try plain(id, isSkipped: &isSkipped)
      guard let time = try self.time(time, times, isSkipped: &isSkipped), !isSkipped, !own.isEmpty else { return nil }
      return (key, own, time.ms)
    } catch { return nil }
  }

  /// Why a deletion does not tell which row it takes out.
  mutating func lacking(order: Int, id: Int, time: Int, _ why: DataFault) -> DataFault {
    var isSkipped = false
    var names: [String] = []
    for index in [order, id, time] {
      guard let text = try? fieldText(index, isSkipped: &isSkipped) else { return why }
      if text.isEmpty { names.append(plan.fields[index].name) }
    }
    guard !names.isEmpty else { return why }
    return DataFault(
      .schemaInvalid, field: "before",
      detail:
        "a deletion whose image of the row before it has no \(names.joined(separator: ", ")): does it have the key "
        + "columns alone? (PostgreSQL: REPLICA IDENTITY FULL, MySQL: binlog_row_image=FULL)")
  }

  @inline(__always)
  mutating func currency(_ index: Int, isSkipped: inout Bool) throws(DataFault) -> Currency {
    let text = quickText(index)
    if text.count == 3, let base = text.base {
      let a = UInt16(base[0] & 0xdf) &- 0x40
      let b = UInt16(base[1] & 0xdf) &- 0x40
      let c = UInt16(base[2] & 0xdf) &- 0x40
      if a &- 1 < 26, b &- 1 < 26, c &- 1 < 26 {
        let packed = a &<< 10 | b &<< 5 | c
        if exponents[Int(packed)] >= 0 { return Currency(rawValue: packed) }
      }
    }
    return try generalCurrency(index, isSkipped: &isSkipped)
  }

  @inline(__always)
  mutating func integer(_ index: Int, isSkipped: inout Bool) throws(DataFault) -> Int64? {
    if let value = quickInteger(quickText(index)) { return value }
    return try generalInteger(index, isSkipped: &isSkipped)
  }

  @inline(__always)
  mutating func quantity(_ index: Int, isSkipped: inout Bool) throws(DataFault) -> Int64? {
    if plan.fields[index].decimal.isQuick, let value = quickUnits(quickText(index), decimals: 6) { return value }
    return try generalQuantity(index, isSkipped: &isSkipped)
  }

  /// The amounts from quick field `first` on whose bits are set, into `amounts`, where they have two decimals and are
  /// written with both. Returns the bits of those.
  @inline(__always)
  func hundredths(
    from first: Int, _ wanted: UInt32, _ currency: Currency, into amounts: UnsafeMutablePointer<Int64>
  ) -> UInt32 {
    guard exponents[Int(currency.rawValue & 0x7fff)] == 2 else { return 0 }
    return tieout_all_hundredths(values, slots + first, wanted, recordStart, amounts)
  }

  /// `index`: where the amount stands among the quick fields; `field`: its description.
  @inline(__always)
  mutating func amount(
    _ index: Int, _ field: UnsafePointer<CompiledField>, _ currency: Currency, isSkipped: inout Bool
  ) throws(DataFault) -> Int64? {
    // −1 where there is no currency.
    let decimals = Int(exponents[Int(currency.rawValue & 0x7fff)])
    if let value = quickUnits(quickText(index), decimals: decimals) { return value }
    return try generalAmount(field, currency, isSkipped: &isSkipped)
  }

  @inline(__always)
  mutating func postingAmount(_ currency: Currency, isSkipped: inout Bool) throws(DataFault) -> Int64 {
    let index = plan.fieldCount + maximumDimensions
    let kind = plan.amountKind
    if kind == .signed || kind == .debitCredit {
      let wanted: UInt32 = kind == .signed ? 1 : 3
      if hundredths(from: index, wanted, currency, into: amounts) == wanted {
        return kind == .signed ? amounts[0] : amounts[0] - amounts[1]
      }
    }
    let value = try amount(index, plan.amount, currency, isSkipped: &isSkipped)
    if isSkipped { return 0 }
    switch kind {
    case .none: return 0
    case .signed:
      guard let value else { throw DataFault(.nonDecimalAmount, field: "amount", detail: "is missing") }
      return value
    case .debitCredit:
      let credit = try amount(index + 1, plan.otherAmount, currency, isSkipped: &isSkipped)
      guard value != nil || credit != nil || isSkipped else {
        throw DataFault(.nonDecimalAmount, field: "amount", detail: "neither debit nor credit is there")
      }
      return (value ?? 0) - (credit ?? 0)
    case .indicated:
      guard let value else { throw DataFault(.nonDecimalAmount, field: "amount", detail: "is missing") }
      let side = try finish(plan.otherAmount, isSkipped: &isSkipped)
      if side.equals("debit") { return value }
      if side.equals("credit") { return -value }
      if isSkipped { return 0 }
      throw DataFault(.schemaInvalid, field: "amount.side", detail: "'\(quoted(side))' is neither debit nor credit")
    }
  }

  @inline(__always)
  mutating func dimensions(
    _ target: inout InlineArray<8, ByteView>, isSkipped: inout Bool
  ) throws(DataFault) {
    for index in 0..<plan.dimensionCount where isMapped(plan.fieldCount + index) {
      let text = quickText(plan.fieldCount + index)
      target[index] = text.isEmpty ? try finish(plan.dimensions + index, isSkipped: &isSkipped) : text
    }
  }
}

extension ByteView {
  fileprivate func equals(_ word: StaticString) -> Bool {
    elementsEqual(ByteView(base: word.utf8Start, count: word.utf8CodeUnitCount))
  }
}
