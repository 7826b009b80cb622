import Domain

/// Encodes breaks as they go to `<prefix>.breaks` and `breaks.jsonl`; the schema is `config/schemas/break.schema.json`.
///
/// A break is written in one go into space that was asked for once: the bound is what its texts take if every byte has
/// to be escaped. Names are laid out beforehand.
public struct BreakEncoder: Sendable {
  public let dimensionNames: [String]
  /// Number of the task, which then stands in every message; nil where nobody asks for it.
  public let task: Int32?
  /// `,"name":` of each dimension, the comma left out for the first.
  private let dimensionKeys: [[UInt8]]
  private let roles = StaticWord.roles
  private let dimensionKeyBytes: Int

  public init(dimensionNames: [String], task: Int32? = nil) {
    self.dimensionNames = dimensionNames
    self.task = task
    dimensionKeys = dimensionNames.enumerated().map { at, name in
      var writer = JSONWriter()
      writer.string(name)
      return (at == 0 ? [] : [UInt8(ascii: ",")]) + writer.bytes + [UInt8(ascii: ":")]
    }
    dimensionKeyBytes = dimensionKeys.reduce(0) { $0 + $1.count }
  }

  /// One JSON object without a line end.
  public func encode(_ made: Break) -> [UInt8] {
    var writer = ByteWriter(capacity: bound(made))
    encode(made, into: &writer)
    return writer.array
  }

  /// Everything that a break takes beside texts and evidence: names, numbers, times, and room to spare.
  private static let fixedBytes = 1_024
  /// One role of the evidence: names and four amounts.
  private static let roleBytes = 256
  /// One line of the evidence, without its texts: names, quantities, prices, amounts.
  private static let lineBytes = 512

  private func bound(_ made: Break) -> Int {
    var texts = made.id.utf8.count + made.order.utf8.count + made.customer.utf8.count + made.reason.utf8.count
    for text in made.dimensions { texts += text.utf8.count + 1 }
    for text in made.events { texts += text.utf8.count + 1 }
    for text in made.journals { texts += text.utf8.count + 1 }
    if let decision = made.decision {
      texts +=
        decision.action.utf8.count + decision.actor.utf8.count + decision.reasonCode.utf8.count
        + decision.approver.utf8.count
    }
    for line in made.lines { texts += line.document.utf8.count + line.line.utf8.count }
    return BreakEncoder.fixedBytes + dimensionKeyBytes + texts * 6 + made.roles.count * BreakEncoder.roleBytes
      + made.lines.count * BreakEncoder.lineBytes
  }

  /// Appends one JSON object without a line end.
  public func encode(_ made: Break, into writer: inout ByteWriter) {
    writer.write(atMost: bound(made)) { space in
      var out = TextCursor(space)
      write(made, &out)
      return out.count(from: space)
    }
  }

  private func write(_ made: Break, _ out: inout TextCursor) {
    out.text("{\"id\":")
    out.string(made.id)
    out.text(",\"order\":")
    out.string(made.order)
    out.text(",\"type\":\"")
    out.raw(made.type.rawValue)
    out.text("\",\"role\":\"")
    out.word(roles[Int(made.role.rawValue)])
    out.text("\",\"currency\":\"")
    out.code(made.currency)
    out.text("\",\"expected\":")
    out.amount(made.expected, made.currency)
    let postedCurrency = made.postedCurrency == .none ? made.currency : made.postedCurrency
    out.text(",\"posted\":")
    out.amount(made.posted, postedCurrency)
    out.text(",\"delta\":")
    // A difference between two currencies is no amount.
    if made.postedCurrency == .none {
      out.amount(made.delta, made.currency)
    } else {
      out.text("null,\"posted_currency\":\"")
      out.code(made.postedCurrency)
      out.text("\"")
    }
    if let affected = made.affected {
      out.text(",\"affected\":")
      out.amount(affected, made.currency)
    }
    out.text(",\"state\":\"")
    out.raw(made.state.rawValue)
    if made.isProvisional { out.text("\",\"provisional\":true") } else { out.text("\",\"provisional\":false") }
    out.text(",\"revision\":")
    out.integer(made.revision)
    out.text(",\"hints\":[")
    for at in made.hints.indices {
      if at > 0 { out.text(",") }
      out.text("\"")
      out.raw(made.hints[at].rawValue)
      out.text("\"")
    }
    out.text("],\"severity\":\"")
    out.raw(made.severity.rawValue)
    out.text("\",\"customer\":")
    out.string(made.customer)
    out.text(",\"dimensions\":{")
    for at in 0..<min(dimensionKeys.count, made.dimensions.count) {
      out.bytes(dimensionKeys[at])
      out.string(made.dimensions[at])
    }
    out.text("},\"first_event_time\":")
    out.timestamp(made.firstEventTime_ms)
    out.text(",\"deadline\":")
    out.timestamp(made.deadline_ms)
    out.text(",\"as_of\":")
    out.timestamp(made.asOf_ms)
    out.text(",\"reason\":")
    out.string(made.reason)
    if let decision = made.decision {
      out.text(",\"decision\":{\"action\":")
      out.string(decision.action)
      out.text(",\"actor\":")
      out.string(decision.actor)
      if !decision.reasonCode.isEmpty {
        out.text(",\"reason_code\":")
        out.string(decision.reasonCode)
      }
      if !decision.approver.isEmpty {
        out.text(",\"approver\":")
        out.string(decision.approver)
      }
      out.text("}")
    }
    if let task {
      out.text(",\"task\":")
      out.integer(Int(task))
    }
    out.text(",\"evidence\":{\"roles\":[")
    for at in made.roles.indices {
      let evidence = made.roles[at]
      if at > 0 { out.text(",") }
      out.text("{\"role\":\"")
      out.word(roles[Int(evidence.role.rawValue)])
      out.text("\",\"currency\":\"")
      out.code(evidence.currency)
      out.text("\",\"expected\":")
      out.amount(evidence.expected, evidence.currency)
      out.text(",\"posted\":")
      out.amount(evidence.posted, evidence.currency)
      out.text(",\"delta\":")
      out.amount(evidence.delta, evidence.currency)
      if let affected = evidence.affected {
        out.text(",\"affected\":")
        out.amount(affected, evidence.currency)
      }
      out.text("}")
    }
    out.text("],\"events\":[")
    out.strings(made.events)
    out.text("],\"journals\":[")
    out.strings(made.journals)
    out.text("]")
    if let quantities = made.quantities, quantities.count == 3 {
      out.text(",\"quantities\":{\"delivered\":\"")
      out.decimal(quantities[0], decimals: 6)
      out.text("\",\"shipped\":\"")
      out.decimal(quantities[1], decimals: 6)
      out.text("\",\"billed\":\"")
      out.decimal(quantities[2], decimals: 6)
      out.text("\"}")
    }
    if !made.lines.isEmpty { write(made.lines, made.lineCount, &out) }
    out.text("}}")
  }

  private func write(_ lines: [Break.LineEvidence], _ count: Int, _ out: inout TextCursor) {
    out.text(",\"lines\":[")
    for at in lines.indices {
      let line = lines[at]
      out.text(at > 0 ? ",{\"document\":" : "{\"document\":")
      out.string(line.document)
      out.text(",\"line\":")
      out.string(line.line)
      out.text(",\"expected_quantity\":\"")
      out.decimal(line.expectedQuantity, decimals: 6)
      out.text("\",\"posted_quantity\":\"")
      out.decimal(line.postedQuantity, decimals: 6)
      out.text("\",\"expected_price\":")
      out.decimalText(line.expectedPrice)
      out.text(",\"posted_price\":")
      out.decimalText(line.postedPrice)
      out.text(",\"expected\":")
      out.amount(line.expected, line.currency)
      out.text(",\"posted\":")
      out.amount(line.posted, line.currency)
      out.text("}")
    }
    out.text("],\"line_count\":")
    out.integer(count)
  }
}

/// Bytes that are never freed.
struct StaticWord: @unchecked Sendable {
  fileprivate let base: UnsafePointer<UInt8>
  fileprivate let count: Int

  init(_ text: String) {
    let bytes = UnsafeMutablePointer<UInt8>.allocate(capacity: max(1, text.utf8.count))
    for (at, byte) in text.utf8.enumerated() { bytes[at] = byte }
    base = UnsafePointer(bytes)
    count = text.utf8.count
  }

  /// By `AccountRole.rawValue`: a role's name is put together whenever it is asked for.
  static let roles = AccountRole.allCases.map { StaticWord($0.name) }
}

/// Writes text into space that is known to be large enough.
private struct TextCursor {
  private var at: UnsafeMutablePointer<UInt8>

  init(_ space: UnsafeMutablePointer<UInt8>) { at = space }

  func count(from start: UnsafeMutablePointer<UInt8>) -> Int { at - start }

  @inline(__always)
  mutating func text(_ text: StaticString) {
    at.update(from: text.utf8Start, count: text.utf8CodeUnitCount)
    at += text.utf8CodeUnitCount
  }

  @inline(__always)
  mutating func word(_ word: StaticWord) {
    at.update(from: word.base, count: word.count)
    at += word.count
  }

  /// A text without quotes in which nothing has to be escaped.
  @inline(__always)
  mutating func raw(_ text: String) {
    let count: Int? = text.utf8.withContiguousStorageIfAvailable {
      if let base = $0.baseAddress { at.update(from: base, count: $0.count) }
      return $0.count
    }
    if let count { at += count } else { for byte in text.utf8 { self.byte(byte) } }
  }

  mutating func bytes(_ bytes: [UInt8]) {
    bytes.withUnsafeBufferPointer { at.update(from: $0.baseAddress!, count: $0.count) }
    at += bytes.count
  }

  @inline(__always)
  private mutating func byte(_ byte: UInt8) {
    at.pointee = byte
    at += 1
  }

  /// The three letters of a currency; nothing for none.
  @inline(__always)
  mutating func code(_ currency: Currency) {
    let packed = currency.rawValue
    guard packed != 0 else { return }
    byte(UInt8(packed >> 10 & 31) + 0x40)
    byte(UInt8(packed >> 5 & 31) + 0x40)
    byte(UInt8(packed & 31) + 0x40)
  }

  /// A JSON string with its quotes.
  mutating func string(_ text: String) {
    byte(UInt8(ascii: "\""))
    let isDone: Void? = text.utf8.withContiguousStorageIfAvailable { escape($0) }
    if isDone == nil { Array(text.utf8).withUnsafeBufferPointer { escape($0) } }
    byte(UInt8(ascii: "\""))
  }

  mutating func strings(_ texts: [String]) {
    for index in texts.indices {
      if index > 0 { byte(UInt8(ascii: ",")) }
      string(texts[index])
    }
  }

  private mutating func escape(_ bytes: UnsafeBufferPointer<UInt8>) {
    guard let base = bytes.baseAddress else { return }
    var from = 0
    // Eight bytes at a time as long as none of them has to be escaped.
    while from + 8 <= bytes.count {
      let word = UnsafeRawPointer(base + from).loadUnaligned(as: UInt64.self)
      guard TextCursor.isPlain(word) else { break }
      UnsafeMutableRawPointer(at).storeBytes(of: word, as: UInt64.self)
      at += 8
      from += 8
    }
    // What is left is written with the end of what has been, where the last eight bytes are plain too.
    if from < bytes.count, from > 0 {
      let word = UnsafeRawPointer(base + bytes.count - 8).loadUnaligned(as: UInt64.self)
      if bytes.count - from < 8, TextCursor.isPlain(word) {
        at += bytes.count - from
        UnsafeMutableRawPointer(at - 8).storeBytes(of: word, as: UInt64.self)
        return
      }
    }
    while from < bytes.count {
      let next = base[from]
      from += 1
      switch next {
      case UInt8(ascii: "\""), UInt8(ascii: "\\"):
        byte(UInt8(ascii: "\\"))
        byte(next)
      case 0x0a: text("\\n")
      case 0x0d: text("\\r")
      case 0x09: text("\\t")
      case 0..<0x20:
        text("\\u00")
        byte(TextCursor.hexDigit(next >> 4))
        byte(TextCursor.hexDigit(next & 15))
      default: byte(next)
      }
    }
  }

  private static func hexDigit(_ value: UInt8) -> UInt8 { value < 10 ? 0x30 + value : 0x57 + value }

  /// Whether none of eight bytes is a quote, a backslash or a control character. May say no where it is so above 0x7f.
  @inline(__always)
  private static func isPlain(_ word: UInt64) -> Bool {
    let ones: UInt64 = 0x0101_0101_0101_0101
    let high: UInt64 = 0x8080_8080_8080_8080
    let quote = word ^ (ones &* 0x22)
    let backslash = word ^ (ones &* 0x5c)
    let control = word &- ones &* 0x20
    return ((quote &- ones) | (backslash &- ones) | control | word) & high == 0
  }

  mutating func integer(_ value: Int) { decimal(Int64(value), decimals: 0) }

  /// `null` for nil.
  mutating func amount(_ minorUnits: Int64?, _ currency: Currency) {
    guard let minorUnits else {
      text("null")
      return
    }
    byte(UInt8(ascii: "\""))
    decimal(minorUnits, decimals: currency.exponent)
    byte(UInt8(ascii: "\""))
  }

  /// A decimal number that is text already; `null` for nil.
  mutating func decimalText(_ decimal: String?) {
    guard let decimal else {
      text("null")
      return
    }
    text("\"")
    raw(decimal)
    text("\"")
  }

  /// `units × 10^−decimals` with exactly that many decimals.
  mutating func decimal(_ units: Int64, decimals: Int) {
    if units < 0 { byte(UInt8(ascii: "-")) }
    var rest = units.magnitude
    // As most currencies are.
    if decimals == 2 {
      whole(rest / 100)
      byte(UInt8(ascii: "."))
      pair(Int(rest % 100))
      return
    }
    // As many digits as there are, one before the point at least.
    var digits = decimals + 1
    var power = TextCursor.powers[digits - 1] &* 10
    while digits < 20, rest >= power {
      digits += 1
      if digits == 20 { break }
      power = power &* 10
    }
    let width = digits + (decimals > 0 ? 1 : 0)
    var place = at + width - 1
    at += width
    for index in 0..<digits {
      if index == decimals, decimals > 0 {
        place.pointee = UInt8(ascii: ".")
        place -= 1
      }
      place.pointee = 0x30 + UInt8(rest % 10)
      rest /= 10
      place -= 1
    }
  }

  /// A number of at most 18 digits.
  private mutating func whole(_ value: UInt64) {
    var (width, power) = (1, UInt64(10))
    while value >= power {
      width += 1
      power &*= 10
    }
    at += width
    var (rest, end) = (value, at)
    while rest >= 10 {
      end -= 2
      TextCursor.write(pair: Int(rest % 100), at: end)
      rest /= 100
    }
    if end > at - width { (end - 1).pointee = 0x30 + UInt8(rest) }
  }

  /// Two digits.
  @inline(__always)
  private mutating func pair(_ value: Int) {
    TextCursor.write(pair: value, at: at)
    at += 2
  }

  @inline(__always)
  private static func write(pair value: Int, at place: UnsafeMutablePointer<UInt8>) {
    // value / 10, below 100.
    let tens = (value &* 103) &>> 10
    place[0] = UInt8(truncatingIfNeeded: 0x30 &+ tens)
    place[1] = UInt8(truncatingIfNeeded: 0x30 &+ value &- tens &* 10)
  }

  private static let powers: InlineArray<8, UInt64> = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000]

  mutating func timestamp(_ ms: Int64) {
    // Beyond the years 0000–9999 nothing can be written: the end of a bounded input.
    guard ms >= -62_167_219_200_000, ms < 253_402_300_800_000 else {
      text("null")
      return
    }
    let days = day(ofMilliseconds: ms)
    let (year, month, dayOfMonth) = civilFromDays(Int(days))
    let inDay = Int(ms - Int64(days) * millisecondsPerDay)
    byte(UInt8(ascii: "\""))
    pair(year / 100)
    pair(year % 100)
    byte(UInt8(ascii: "-"))
    pair(month)
    byte(UInt8(ascii: "-"))
    pair(dayOfMonth)
    byte(UInt8(ascii: "T"))
    pair(inDay / 3_600_000)
    byte(UInt8(ascii: ":"))
    pair(inDay / 60_000 % 60)
    byte(UInt8(ascii: ":"))
    pair(inDay / 1_000 % 60)
    byte(UInt8(ascii: "."))
    byte(0x30 + UInt8(inDay / 100 % 10))
    pair(inDay % 100)
    text("Z\"")
  }
}
