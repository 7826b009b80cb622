/// Exchange rates to one base currency, by day.
///
/// Conversion is exact decimal arithmetic: amount × rate (or amount / rate, where only the opposite rate is quoted),
/// rounded once, to the minor unit of the base currency. A rate stands until the next one, at most `maximumAge_d` days.
///
/// Where there is no rate between a currency and the base for a day, one by way of the pivot currency counts, if a pivot is
/// given: the rate to the pivot times the pivot's to the base, each as it stands on that day. Nothing is rounded in between
/// as long as the two have at most 15 significant digits each and 18 together; beyond that they count with so many.
public struct ExchangeRates: Sendable, Equatable, CustomStringConvertible {
  /// One unit of `from` is `rate` units of `to`; one of the two is the base currency, or the pivot.
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

  /// A rate by way of the pivot: `numerator / divisor × 10^−scale`, from a day on and as long as both of its parts stand.
  private struct Cross: Sendable, Equatable {
    var day: Int32
    var last_d: Int32
    var scale: Int32
    var numerator: Int64
    var divisor: Int64
  }

  public let base: Currency
  /// Through which rates are put together; nil where they are not.
  public let pivot: Currency?
  public let rounding: RoundingRule
  public let maximumAge_d: Int32
  /// By currency, and by day for each of them.
  private let currencies: [Currency]
  private let quotes: [[Quote]]
  /// The same of rates by way of the pivot.
  private let crossCurrencies: [Currency]
  private let crosses: [[Cross]]

  /// Decimals of the minor unit that has the most.
  private static let maximumExponent = 4
  /// Decimals that a rate may have.
  public static let maximumScale = 18

  /// - Parameters:
  ///   - rounding: Half to even, or half away from zero (`halfUp`).
  ///   - maximumAge_d: For how many days a rate stands where no newer one is there.
  ///   - pivot: Another currency, by way of which rates are put together.
  /// Throws where a rate is not positive, has too many decimals, is about neither the base currency nor the pivot, or is
  /// there twice with different values. Where both directions are quoted for a day, the one to the base currency (or the
  /// pivot) counts.
  public init(
    base: Currency, _ rates: [Rate], pivot: Currency? = nil, rounding: RoundingRule = .halfEven, maximumAge_d: Int32 = 7
  ) throws(Fault) {
    precondition(rounding == .halfEven || rounding == .halfUp)
    precondition(pivot != base)
    self.base = base
    self.pivot = pivot
    self.rounding = rounding
    self.maximumAge_d = maximumAge_d
    var series: [Currency: [Int32: Quote]] = [:]
    var toPivot: [Currency: [Int32: Quote]] = [:]
    for (index, rate) in rates.enumerated() {
      func fault(_ message: String) -> Fault { Fault(index: index, message: message) }
      let isOfBase = rate.from == base || rate.to == base
      let anchor = isOfBase ? base : pivot ?? base
      guard (rate.from == anchor) != (rate.to == anchor) else {
        throw fault(
          "\(rate.from.code) to \(rate.to.code) is no rate of the base currency \(base.code)"
            + (pivot.map { " or of the pivot \($0.code)" } ?? ""))
      }
      var (mantissa, scale) = (rate.rate.mantissa, rate.rate.scale)
      guard mantissa > 0 else { throw fault("a rate must be above zero") }
      while scale > 0, mantissa % 10 == 0 { (mantissa, scale) = (mantissa / 10, scale - 1) }
      guard scale <= ExchangeRates.maximumScale else {
        throw fault("a rate has at most \(ExchangeRates.maximumScale) decimals")
      }
      let isInverse = rate.from == anchor
      let quote = Quote(day: rate.day, scale: Int32(scale), mantissa: mantissa, isInverse: isInverse)
      let foreign = isInverse ? rate.to : rate.from
      if let known = (isOfBase ? series : toPivot)[foreign]?[rate.day] {
        guard known == quote || known.isInverse != isInverse else {
          throw fault(
            "\(rate.from.code) to \(rate.to.code) on \(formatDate(rate.day)) is there twice with different rates")
        }
        if isInverse { continue }
      }
      if isOfBase {
        series[foreign, default: [:]][rate.day] = quote
      } else {
        toPivot[foreign, default: [:]][rate.day] = quote
      }
    }
    let order = series.keys.sorted()
    currencies = order
    quotes = order.map { series[$0]!.values.sorted { $0.day < $1.day } }
    let second = (pivot.flatMap { series[$0] } ?? [:]).values.sorted { $0.day < $1.day }
    crossCurrencies = second.isEmpty ? [] : toPivot.keys.sorted()
    crosses = crossCurrencies.map { currency in
      let first = toPivot[currency]!.values.sorted { $0.day < $1.day }
      return ExchangeRates.crosses(first, second, maximumAge_d: maximumAge_d)
    }
  }

  /// The products of two series, from each day on on which one of them changes.
  private static func crosses(_ first: [Quote], _ second: [Quote], maximumAge_d: Int32) -> [Cross] {
    // How many of each stand on the day or before.
    var (ofFirst, ofSecond) = (0, 0)
    return Set(first.map(\.day) + second.map(\.day)).sorted().compactMap { day in
      while ofFirst < first.count, first[ofFirst].day <= day { ofFirst += 1 }
      while ofSecond < second.count, second[ofSecond].day <= day { ofSecond += 1 }
      guard ofFirst > 0, ofSecond > 0 else { return nil }
      let (a, b) = (first[ofFirst - 1], second[ofSecond - 1])
      let (last, overflow) = min(a.day, b.day).addingReportingOverflow(maximumAge_d)
      let last_d = overflow ? Int32.max : last
      guard last_d >= day else { return nil }
      var cross = Cross(day: day, last_d: last_d, scale: 0, numerator: 1, divisor: 1)
      for quote in [a, b] {
        var (mantissa, scale) = (quote.mantissa, quote.scale)
        reduce(&mantissa, &scale, below: 1_000_000_000_000_000)
        let (high, low) = (quote.isInverse ? cross.divisor : cross.numerator).multipliedFullWidth(by: mantissa)
        var product = Int128(high) << 64 | Int128(low)
        while product > 1_000_000_000_000_000_000 {
          product = dividedHalfEven(product, 10)
          scale -= 1
        }
        if quote.isInverse { cross.divisor = Int64(product) } else { cross.numerator = Int64(product) }
        cross.scale += quote.isInverse ? -scale : scale
      }
      // Conversion multiplies in 128 bits. What does not fit is a rate of nothing that is traded.
      func digits(_ value: Int64) -> Int { String(value).utf8.count }
      let room = 38 - Int(maximumExponent)
      guard digits(cross.numerator) - Int(min(0, cross.scale)) <= room,
        digits(cross.divisor) + Int(max(0, cross.scale)) <= room
      else { return nil }
      return cross
    }
  }

  private static func reduce(_ mantissa: inout Int64, _ scale: inout Int32, below limit: Int64) {
    while mantissa >= limit {
      mantissa = Int64(dividedHalfEven(Int128(mantissa), 10))
      scale -= 1
    }
  }

  /// Other rates to the same base currency, by the same rules.
  public func replacing(_ rates: [Rate]) throws(Fault) -> ExchangeRates {
    try ExchangeRates(base: base, rates, pivot: pivot, rounding: rounding, maximumAge_d: maximumAge_d)
  }

  /// Rates in use.
  public var count: Int { quotes.reduce(0) { $0 + $1.count } + crosses.reduce(0) { $0 + $1.count } }

  /// By currency: the last day for which there is a rate. The base currency is not among them.
  public var lastDays: [(currency: Currency, last_d: Int32)] {
    var days: [Currency: Int32] = [:]
    for (currency, list) in zip(currencies, quotes) {
      let (last, overflow) = (list.last?.day ?? .min).addingReportingOverflow(maximumAge_d)
      days[currency] = overflow ? .max : last
    }
    for (currency, list) in zip(crossCurrencies, crosses) {
      guard let last = list.map(\.last_d).max() else { continue }
      days[currency] = max(days[currency] ?? .min, last)
    }
    return days.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
  }

  /// Stands for all that is in it: two that differ in a rate differ in this.
  public var description: String {
    var hash = Fingerprint(high: 0, low: 0)
    for (currency, list) in zip(currencies, quotes) {
      for quote in list {
        let text = "\(hash)|\(currency.code)|\(quote.day)|\(quote.mantissa)|\(quote.scale)|\(quote.isInverse)"
        hash = Array(text.utf8).withUnsafeBufferPointer { Fingerprint(ByteView($0)) }
      }
    }
    for (currency, list) in zip(crossCurrencies, crosses) {
      for cross in list {
        let text =
          "\(hash)|\(currency.code)|\(cross.day)|\(cross.last_d)|\(cross.numerator)|\(cross.divisor)|\(cross.scale)"
        hash = Array(text.utf8).withUnsafeBufferPointer { Fingerprint(ByteView($0)) }
      }
    }
    return "rates to \(base.code), \(rounding.rawValue), \(maximumAge_d) days, \(count), \(hash.high), \(hash.low)"
  }

  /// An amount in minor units of the base currency, by the rate of a day; nil where there is none. What is beyond the
  /// range of 64 bits becomes the largest number that there is.
  public func convert(_ amount: Int64, from currency: Currency, day: Int32) -> Int64? {
    if currency == base { return amount }
    let (numerator, denominator, scale): (Int64, Int64, Int)
    if let quote = quote(currency, day) {
      numerator = quote.isInverse ? 1 : quote.mantissa
      denominator = quote.isInverse ? quote.mantissa : 1
      scale = quote.isInverse ? -Int(quote.scale) : Int(quote.scale)
    } else if let cross = cross(currency, day) {
      (numerator, denominator, scale) = (cross.numerator, cross.divisor, Int(cross.scale))
    } else {
      return nil
    }
    // Minor units of the one by the ten to this are minor units of the other, at a rate of one.
    let shift = base.exponent - currency.exponent - scale
    var multiplier = UInt128(numerator)
    var divisor = UInt128(denominator)
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
    currency == base || quote(currency, day) != nil || cross(currency, day) != nil
  }

  private func cross(_ currency: Currency, _ day: Int32) -> Cross? {
    guard let at = crossCurrencies.firstIndex(of: currency) else { return nil }
    return crosses[at].withUnsafeBufferPointer { list in
      var (low, high) = (0, list.count)
      while low < high {
        let middle = (low + high) / 2
        if list[middle].day <= day { low = middle + 1 } else { high = middle }
      }
      guard low > 0, day <= list[low - 1].last_d else { return nil }
      return list[low - 1]
    }
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
