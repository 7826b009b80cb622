/// Where the amounts of a record's nested lines stand: `lines[].amounts.net`.
public struct LinePath: Hashable, Sendable {
  /// Keys from the record to the array.
  public var array: [String]
  /// Keys from an element to the amount; empty where the elements are amounts themselves.
  public var field: [String]

  public init(array: [String], field: [String]) {
    self.array = array
    self.field = field
  }

  /// As it is written in a configuration.
  public var text: String {
    func name(_ key: String) -> String { key.contains { ".[]() ".contains($0) } ? "'\(key)'" : key }
    return array.map(name).joined(separator: ".") + "[]" + field.map { "." + name($0) }.joined()
  }
}

/// What the lines of one record add up to.
public struct LineSum: Sendable, Equatable {
  /// Millionths of the major unit.
  public var value_u: Int128 = 0
  /// Whether there are lines, be it none of them: an empty list adds up to zero.
  public var isPresent = false
  /// Whether one of them has an amount.
  public var isFound = false
  /// By which rule the amounts of the record beside them are rounded to the currency.
  public var rounding = RoundingRule.refuse
  /// Whether something in them is no amount.
  public var isBroken = false

  public init() {}

  /// The sum as the amounts of the record are that it is compared with: those are rounded to the currency, or were refused.
  public func rounded_u(_ currency: Currency) -> Int128 {
    guard rounding != .refuse, currency.exponent < 6 else { return value_u }
    var unit: Int128 = 1
    for _ in currency.exponent..<6 { unit *= 10 }
    let (whole, rest) = value_u.quotientAndRemainder(dividingBy: unit)
    let twice = rest.magnitude * 2
    let isUp =
      switch rounding {
      case .refuse, .down: false
      case .halfUp: twice >= unit.magnitude
      case .halfEven: twice > unit.magnitude || twice == unit.magnitude && whole & 1 == 1
      }
    return (whole + (isUp ? rest.signum() : 0)) * unit
  }
}
