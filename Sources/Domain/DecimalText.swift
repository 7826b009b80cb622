/// Why a text is not an amount.
public enum DecimalFault: Error, Equatable, Sendable {
  /// Not a decimal number at all (also NaN, Infinity, empty).
  case notDecimal
  /// More decimals than the currency has, and no rounding rule allows dropping them.
  case tooManyDecimals
  /// Beyond ±9,223,372,036,854,775,807 minor units.
  case overflow
}

/// What to do with more decimals than the currency has.
public enum RoundingRule: String, Sendable, CaseIterable {
  /// Refuse the amount (default). Trailing zeros are no decimals: `1.500` is 1.50.
  case refuse
  /// Half to even (IEEE 754 `roundTiesToEven`, commercial "banker's rounding").
  case halfEven = "half_even"
  /// Half away from zero (the usual rule of invoices).
  case halfUp = "half_up"
  /// Toward zero.
  case down
}

/// A parsed decimal: `mantissa × 10^−scale`, exact.
@frozen
public struct DecimalText: Equatable, Sendable {
  public var mantissa: Int64
  public var scale: Int

  @inlinable
  public init(mantissa: Int64, scale: Int) {
    self.mantissa = mantissa
    self.scale = scale
  }

  /// Parses `-?digits[.digits][e±digits]` (a JSON number; a leading `+` and leading zeros are accepted too).
  @inlinable
  public init(_ bytes: UnsafeBufferPointer<UInt8>) throws(DecimalFault) {
    var index = 0
    let count = bytes.count
    var negative = false
    if index < count, bytes[index] == 0x2d || bytes[index] == 0x2b {
      negative = bytes[index] == 0x2d
      index += 1
    }
    var magnitude: UInt64 = 0
    var scale = 0
    var digits = 0
    var seenPoint = false
    // Zeros behind the point are held back until a digit other than zero follows, so that 1.50000000000000000000
    // neither overflows nor counts as twenty decimals.
    var heldZeros = 0
    while index < count {
      let byte = bytes[index]
      if byte == 0x2e {
        guard !seenPoint else { throw .notDecimal }
        seenPoint = true
      } else {
        let digit = byte &- 0x30
        guard digit <= 9 else { break }
        digits += 1
        if seenPoint, digit == 0 {
          heldZeros += 1
        } else {
          while heldZeros > 0 {
            let (wide, over) = magnitude.multipliedReportingOverflow(by: 10)
            guard !over else { throw .overflow }
            magnitude = wide
            scale += 1
            heldZeros -= 1
          }
          let (wide, over) = magnitude.multipliedReportingOverflow(by: 10)
          let (sum, carry) = wide.addingReportingOverflow(UInt64(digit))
          guard !over, !carry else { throw .overflow }
          magnitude = sum
          if seenPoint { scale += 1 }
        }
      }
      index += 1
    }
    guard digits > 0 else { throw .notDecimal }
    if index < count {
      guard bytes[index] | 0x20 == 0x65 else { throw .notDecimal }
      index += 1
      var exponentNegative = false
      if index < count, bytes[index] == 0x2d || bytes[index] == 0x2b {
        exponentNegative = bytes[index] == 0x2d
        index += 1
      }
      guard index < count else { throw .notDecimal }
      var exponent = 0
      while index < count {
        let digit = bytes[index] &- 0x30
        guard digit <= 9 else { throw .notDecimal }
        exponent = min(exponent * 10 + Int(digit), 100_000)
        index += 1
      }
      scale += exponentNegative ? exponent : -exponent
    }
    if magnitude == 0 { scale = 0 }
    while scale < 0 {
      let (wide, over) = magnitude.multipliedReportingOverflow(by: 10)
      guard !over else { throw .overflow }
      magnitude = wide
      scale += 1
    }
    guard magnitude <= UInt64(Int64.max) else { throw .overflow }
    self.mantissa = negative ? -Int64(magnitude) : Int64(magnitude)
    self.scale = scale
  }

  /// This number in units of `10^−decimals`.
  @inlinable
  public func units(decimals: Int, rounding: RoundingRule = .refuse) throws(DecimalFault) -> Int64 {
    if scale == decimals { return mantissa }
    var value = mantissa
    if scale < decimals {
      for _ in 0..<(decimals - scale) {
        let (wide, over) = value.multipliedReportingOverflow(by: 10)
        guard !over else { throw .overflow }
        value = wide
      }
      return value
    }
    return try DecimalText.rounded(mantissa: mantissa, drop: scale - decimals, rounding: rounding)
  }

  @usableFromInline
  static func rounded(mantissa: Int64, drop: Int, rounding: RoundingRule) throws(DecimalFault) -> Int64 {
    guard drop <= 19 else {
      // Less than a tenth of half a unit: rounds to zero, and is exact only if it is zero.
      if mantissa == 0 { return 0 }
      guard rounding != .refuse else { throw .tooManyDecimals }
      return 0
    }
    var power: UInt64 = 1
    for _ in 0..<drop { power &*= 10 }
    let magnitude = mantissa.magnitude
    let quotient = magnitude / power
    let rest = magnitude % power
    var result = quotient
    if rest != 0 {
      let half = power / 2
      switch rounding {
      case .refuse: throw .tooManyDecimals
      case .down: break
      case .halfUp: if rest >= half { result += 1 }
      case .halfEven: if rest > half || (rest == half && quotient & 1 == 1) { result += 1 }
      }
    }
    return mantissa < 0 ? -Int64(result) : Int64(result)
  }
}
