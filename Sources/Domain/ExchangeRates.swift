/// Exchange rates to one base currency, by day.
///
/// Conversion is exact decimal arithmetic: amount × rate (or amount / rate, where only the opposite rate is quoted),
/// rounded once, to the minor unit of the base currency. A rate stands until the next one, at most `maximumAge_d` days.
public struct ExchangeRates: Sendable, Equatable, CustomStringConvertible {
  /// One unit of `from` is `rate` units of `to`; one of the two is the base currency.
  public struct Rate: Sendable, Equatable {
    /// Days since 1970-01-01.
    public var day: Int32
    public var from: Currency
    public var to: Currency
    public var rate: DecimalText

    public init(day: Int32, from: Currency, to: Currency, rate: DecimalText) {
      self.day = day
      self.from = from
      self.to = to
      self.rate = rate
    }
  }

  /// Why rates cannot be used.
  public struct Fault: Error, Equatable, Sendable {
    /// Place of the rate at fault among those given.
    public var index: Int
    public var message: String
  }

  private struct Quote: Sendable, Equatable {
    var day: Int32
    var scale: Int32
    var mantissa: Int64
    var isInverse: Bool
  }

  public let base: Currency
  public let rounding: RoundingRule
  public let maximumAge_d: Int32
  /// By currency, and by day for each of them.
  private let currencies: [Currency]
  private let quotes: [[Quote]]

  /// Decimals that a rate may have.
  public static let maximumScale = 18

  /// - Parameters:
  ///   - rounding: Half to even, or half away from zero (`halfUp`).
  ///   - maximumAge_d: For how many days a rate stands where no newer one is there.
  /// Throws where a rate is not positive, has too many decimals, is not about the base currency, or is there twice with
  /// different values. Where both directions are quoted for a day, the one to the base currency counts.
  public init(
    base: Currency, _ rates: [Rate], rounding: RoundingRule = .halfEven, maximumAge_d: Int32 = 7
  ) throws(Fault) {
    precondition(rounding == .halfEven || rounding == .halfUp)
    self.base = base
    self.rounding = rounding
    self.maximumAge_d = maximumAge_d
    var series: [Currency: [Int32: Quote]] = [:]
    for (index, rate) in rates.enumerated() {
      func fault(_ message: String) -> Fault { Fault(index: index, message: message) }
      guard (rate.from == base) != (rate.to == base) else {
        throw fault("\(rate.from.code) to \(rate.to.code) is no rate of the base currency \(base.code)")
      }
      var (mantissa, scale) = (rate.rate.mantissa, rate.rate.scale)
      guard mantissa > 0 else { throw fault("a rate must be above zero") }
      while scale > 0, mantissa % 10 == 0 { (mantissa, scale) = (mantissa / 10, scale - 1) }
      guard scale <= ExchangeRates.maximumScale else {
        throw fault("a rate has at most \(ExchangeRates.maximumScale) decimals")
      }
      let isInverse = rate.from == base
      let quote = Quote(day: rate.day, scale: Int32(scale), mantissa: mantissa, isInverse: isInverse)
      let foreign = isInverse ? rate.to : rate.from
      if let known = series[foreign]?[rate.day] {
        guard known == quote || known.isInverse != isInverse else {
          throw fault(
            "\(rate.from.code) to \(rate.to.code) on \(formatDate(rate.day)) is there twice with different rates")
        }
        if isInverse { continue }
      }
      series[foreign, default: [:]][rate.day] = quote
    }
    let order = series.keys.sorted()
    currencies = order
    quotes = order.map { series[$0]!.values.sorted { $0.day < $1.day } }
  }

  /// Other rates to the same base currency, by the same rules.
  public func replacing(_ rates: [Rate]) throws(Fault) -> ExchangeRates {
    try ExchangeRates(base: base, rates, rounding: rounding, maximumAge_d: maximumAge_d)
  }

  /// Rates in use.
  public var count: Int { quotes.reduce(0) { $0 + $1.count } }

  /// Stands for all that is in it: two that differ in a rate differ in this.
  public var description: String {
    var hash = Fingerprint(high: 0, low: 0)
    for (currency, list) in zip(currencies, quotes) {
      for quote in list {
        let text = "\(hash)|\(currency.code)|\(quote.day)|\(quote.mantissa)|\(quote.scale)|\(quote.isInverse)"
        hash = Array(text.utf8).withUnsafeBufferPointer { Fingerprint(ByteView($0)) }
      }
    }
    return "rates to \(base.code), \(rounding.rawValue), \(maximumAge_d) days, \(count), \(hash.high), \(hash.low)"
  }

  /// An amount in minor units of the base currency, by the rate of a day; nil where there is none. What is beyond the
  /// range of 64 bits becomes the largest number that there is.
  public func convert(_ amount: Int64, from currency: Currency, day: Int32) -> Int64? {
    if currency == base { return amount }
    guard let quote = quote(currency, day) else { return nil }
    // Minor units of the one by the ten to this are minor units of the other, at a rate of one.
    let shift = base.exponent - currency.exponent - (quote.isInverse ? -Int(quote.scale) : Int(quote.scale))
    let factor = UInt128(quote.mantissa)
    var multiplier: UInt128 = quote.isInverse ? 1 : factor
    var divisor: UInt128 = quote.isInverse ? factor : 1
    if shift >= 0 { multiplier *= ExchangeRates.power(shift) } else { divisor *= ExchangeRates.power(-shift) }
    let (high, low) = UInt128(amount.magnitude).multipliedFullWidth(by: multiplier)
    guard high < divisor else { return amount < 0 ? -.max : .max }
    let (floor, rest) = divisor.dividingFullWidth((high, low))
    var quotient = floor
    let (twice, isWide) = rest.addingReportingOverflow(rest)
    if isWide || twice > divisor || twice == divisor && (rounding == .halfUp || quotient & 1 == 1) {
      quotient += 1
    }
    guard quotient <= UInt128(Int64.max) else { return amount < 0 ? -.max : .max }
    return amount < 0 ? -Int64(quotient) : Int64(quotient)
  }

  /// Whether there is a rate for a currency on a day.
  public func covers(_ currency: Currency, day: Int32) -> Bool {
    currency == base || quote(currency, day) != nil
  }

  private func quote(_ currency: Currency, _ day: Int32) -> Quote? {
    guard let at = currencies.firstIndex(of: currency) else { return nil }
    return quotes[at].withUnsafeBufferPointer { list in
      // The first that is of a later day.
      var (low, high) = (0, list.count)
      while low < high {
        let middle = (low + high) / 2
        if list[middle].day <= day { low = middle + 1 } else { high = middle }
      }
      guard low > 0, Int64(day) - Int64(list[low - 1].day) <= Int64(maximumAge_d) else { return nil }
      return list[low - 1]
    }
  }

  private static func power(_ exponent: Int) -> UInt128 {
    var value: UInt128 = 1
    for _ in 0..<exponent { value *= 10 }
    return value
  }
}
