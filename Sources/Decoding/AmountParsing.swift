import Domain

/// Reads an amount in a configured style into a plain decimal.
/// - Parameters:
///   - isNumber: Whether it stands in the record as a number, whose point and sign are those of the format.
///   - minorDecimals: Decimals of its currency, for amounts in minor units.
func parseAmount(
  _ text: ByteView, _ style: DecimalStyle, isNumber: Bool = false, minorDecimals: Int = 0
) throws(DecimalFault) -> DecimalText {
  if isNumber, style.readsTextOnly { return try parseAmount(text, style.ofNumbers, minorDecimals: minorDecimals) }
  if let scale = style.base64Scale { return try parseBase64Amount(text, scale: scale, negate: style.negate) }
  let isPlain =
    style.decimalSeparator == UInt8(ascii: ".") && style.groupingSeparator == nil && !style.allowsTrailingMinus
    && !style.allowsParentheses
  var number = isPlain ? try DecimalText(text.buffer) : try parseStyled(text, style)
  if let implied = style.isInMinorUnits ? minorDecimals : style.impliedDecimals {
    // A text with a separator says itself where its decimals begin, also where there are none but zeros.
    guard number.scale == 0, !text.buffer.contains(style.decimalSeparator) else { throw .notDecimal }
    number.scale = implied
  }
  if style.negate { number.mantissa = 0 - number.mantissa }
  return number
}

extension DecimalStyle {
  /// Whether some of it is about texts, and says nothing of numbers.
  public var readsTextOnly: Bool {
    decimalSeparator != UInt8(ascii: ".") || groupingSeparator != nil || allowsTrailingMinus || allowsParentheses
      || base64Scale != nil
  }

  /// How the amounts of lines are written that are added up.
  var ofLines: DecimalStyle {
    var style = self
    (style.impliedDecimals, style.isInMinorUnits, style.negate) = (nil, false, false)
    return style
  }

  /// What is left of it where the amount is a number, or the sum of lines.
  fileprivate var ofNumbers: DecimalStyle {
    var style = DecimalStyle()
    (style.impliedDecimals, style.isInMinorUnits) = (impliedDecimals, isInMinorUnits)
    (style.rounding, style.negate) = (rounding, negate)
    return style
  }
}

private func parseStyled(_ text: ByteView, _ style: DecimalStyle) throws(DecimalFault) -> DecimalText {
  guard let base = text.base, text.count > 0, text.count <= 64 else { throw .notDecimal }
  var first = 0
  var last = text.count
  var isNegative = false
  if style.allowsParentheses, last - first >= 3, base[first] == UInt8(ascii: "("), base[last - 1] == UInt8(ascii: ")") {
    isNegative = true
    first += 1
    last -= 1
    // Two signs, and nobody knows which is meant.
    guard base[first] != UInt8(ascii: "-"), base[first] != UInt8(ascii: "+") else { throw .notDecimal }
  }
  if style.allowsTrailingMinus, last - first >= 2,
    base[last - 1] == UInt8(ascii: "-") || base[last - 1] == UInt8(ascii: "+")
  {
    guard base[first] != UInt8(ascii: "-"), !isNegative else { throw .notDecimal }
    isNegative = base[last - 1] == UInt8(ascii: "-")
    last -= 1
  }
  var plain: [64 of UInt8] = .init(repeating: 0)
  var count = 0
  var sincePoint = -1
  var sinceGroup = -1
  var at = first
  while at < last {
    var byte = base[at]
    at += 1
    if byte >= 0x80, style.groupingSeparator == UInt8(ascii: " "), let width = spaceWidth(base + at - 1, last - at + 1)
    {
      at += width - 1
      byte = UInt8(ascii: " ")
    }
    if byte == style.decimalSeparator {
      guard sincePoint < 0, sinceGroup < 0 || sinceGroup == 3 else { throw .notDecimal }
      sincePoint = 0
      plain[count] = UInt8(ascii: ".")
    } else if let group = style.groupingSeparator, byte == group {
      // Groups of three digits before the point, so that 1.23 in a comma style is no 123.
      guard sincePoint < 0, sinceGroup < 0 && count > 0 || sinceGroup == 3 else { throw .notDecimal }
      sinceGroup = 0
      continue
    } else {
      if byte == UInt8(ascii: ".") || byte == UInt8(ascii: ",") { throw .notDecimal }
      if sinceGroup >= 0, sincePoint < 0 { sinceGroup += 1 }
      plain[count] = byte
    }
    count += 1
  }
  guard count > 0, sincePoint >= 0 || sinceGroup < 0 || sinceGroup == 3 else { throw .notDecimal }
  var parsed = Result<DecimalText, DecimalFault>.failure(.notDecimal)
  withUnsafeBytes(of: &plain) { raw in
    let bytes = UnsafeBufferPointer(start: raw.baseAddress!.assumingMemoryBound(to: UInt8.self), count: count)
    parsed = Result { () throws(DecimalFault) in try DecimalText(bytes) }
  }
  var number = try parsed.get()
  if isNegative { number.mantissa = 0 - number.mantissa }
  return number
}

/// Bytes of a space that does not break, U+00A0 or the narrow U+202F, as office programs print it between thousands.
private func spaceWidth(_ base: UnsafePointer<UInt8>, _ count: Int) -> Int? {
  if count >= 2, base[0] == 0xc2, base[1] == 0xa0 { return 2 }
  return count >= 3 && base[0] == 0xe2 && base[1] == 0x80 && base[2] == 0xaf ? 3 : nil
}

/// Kafka Connect's `Decimal`: base64 of a big-endian two's complement integer; the scale is the schema's.
private func parseBase64Amount(_ text: ByteView, scale: Int, negate: Bool) throws(DecimalFault) -> DecimalText {
  guard let base = text.base, text.count > 0, text.count % 4 == 0 else { throw .notDecimal }
  var value: UInt64 = 0
  var bytes = 0
  var bits: UInt32 = 0
  var bitCount = 0
  var padding = 0
  var isNegative = false
  for at in 0..<text.count {
    let byte = base[at]
    let six: UInt32
    switch byte {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"): six = UInt32(byte - UInt8(ascii: "A"))
    case UInt8(ascii: "a")...UInt8(ascii: "z"): six = UInt32(byte - UInt8(ascii: "a")) + 26
    case UInt8(ascii: "0")...UInt8(ascii: "9"): six = UInt32(byte - UInt8(ascii: "0")) + 52
    case UInt8(ascii: "+"), UInt8(ascii: "-"): six = 62
    case UInt8(ascii: "/"), UInt8(ascii: "_"): six = 63
    case UInt8(ascii: "="):
      padding += 1
      continue
    default: throw .notDecimal
    }
    guard padding == 0 else { throw .notDecimal }
    bits = bits << 6 | six
    bitCount += 6
    if bitCount >= 8 {
      bitCount -= 8
      let octet = UInt8(truncatingIfNeeded: bits >> UInt32(bitCount))
      if bytes == 0 {
        isNegative = octet & 0x80 != 0
        value = isNegative ? .max : 0
      }
      // More than eight bytes are fine as long as they only repeat the sign.
      if bytes >= 8, value >> 56 != (isNegative ? 0xff : 0) { throw .overflow }
      value = value << 8 | UInt64(octet)
      bytes += 1
    }
  }
  guard bytes > 0, padding <= 2 else { throw .notDecimal }
  let signed = Int64(bitPattern: value)
  guard (signed < 0) == isNegative, signed != .min else { throw .overflow }
  return DecimalText(mantissa: negate ? -signed : signed, scale: scale)
}
