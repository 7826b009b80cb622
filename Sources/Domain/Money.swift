/// An amount of money: integer minor units of one currency. Never a floating-point number.
@frozen
public struct Money: Hashable, Sendable, CustomStringConvertible {
  /// Signed minor units: 12.34 EUR is 1234, 12 JPY is 12.
  public var minorUnits: Int64
  public var currency: Currency

  @inlinable
  public init(minorUnits: Int64, currency: Currency) {
    self.minorUnits = minorUnits
    self.currency = currency
  }

  /// Parses a decimal text exactly; see `DecimalText` for the grammar.
  public init(_ text: String, _ currency: Currency, rounding: RoundingRule = .refuse) throws(DecimalFault) {
    var text = text
    let parsed = text.withUTF8 { bytes in Result { () throws(DecimalFault) in try DecimalText(bytes) } }
    self.minorUnits = try parsed.get().units(decimals: currency.exponent, rounding: rounding)
    self.currency = currency
  }

  /// The amount with as many decimals as its currency has, `-1234.50`.
  public var decimalString: String { formatDecimal(Int128(minorUnits), decimals: currency.exponent) }

  public var description: String { currency == .none ? decimalString : "\(decimalString) \(currency.code)" }
}

/// `units × 10^−decimals` with exactly that many decimals.
public func formatDecimal(_ units: Int128, decimals: Int) -> String {
  var digits = String(units.magnitude)
  if decimals > 0 {
    if digits.count <= decimals { digits = String(repeating: "0", count: decimals - digits.count + 1) + digits }
    digits.insert(".", at: digits.index(digits.endIndex, offsetBy: -decimals))
  }
  return units < 0 ? "-" + digits : digits
}

/// The same without zeros at the end that say nothing, but with `leastDecimals` of them at least.
public func formatDecimal(_ units: Int128, decimals: Int, leastDecimals: Int) -> String {
  var (units, decimals) = (units, decimals)
  while decimals > leastDecimals, units % 10 == 0 {
    units /= 10
    decimals -= 1
  }
  return formatDecimal(units, decimals: decimals)
}
