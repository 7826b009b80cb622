import Testing

@testable import Domain

@Suite struct ExchangeRateTests {
  let eur = Currency("EUR")!
  let usd = Currency("USD")!

  func rate(_ day: Int32, _ from: String, _ to: String, _ text: String) -> ExchangeRates.Rate {
    var text = text
    let decimal = text.withUTF8 { try! DecimalText($0) }
    return .init(day: day, from: Currency(from)!, to: Currency(to)!, rate: decimal)
  }

  func rates(_ list: [ExchangeRates.Rate], _ rounding: RoundingRule = .halfEven) throws -> ExchangeRates {
    try ExchangeRates(base: eur, list, rounding: rounding, maximumAge_d: 3)
  }

  @Test func conversionIsExactAndRoundedOnce() throws {
    let list = [rate(10, "USD", "EUR", "0.9250"), rate(10, "JPY", "EUR", "0.0061"), rate(10, "KWD", "EUR", "3")]
    let even = try rates(list)
    #expect(even.convert(100_00, from: usd, day: 10) == 92_50)
    // 0.925 and 2.775: half a minor unit goes to the even one.
    #expect(even.convert(1_00, from: usd, day: 10) == 92)
    #expect(even.convert(3_00, from: usd, day: 10) == 2_78)
    #expect(even.convert(-1_00, from: usd, day: 10) == -92)
    let up = try rates(list, .halfUp)
    #expect(up.convert(1_00, from: usd, day: 10) == 93)
    #expect(up.convert(-1_00, from: usd, day: 10) == -93)
    // 1,000 yen have no decimals, a dinar has three.
    #expect(even.convert(1_000, from: Currency("JPY")!, day: 10) == 6_10)
    #expect(even.convert(1_005, from: Currency("KWD")!, day: 10) == 3_02)
    #expect(up.convert(1_005, from: Currency("KWD")!, day: 10) == 3_02)
    #expect(even.convert(123, from: eur, day: 10) == 123)
    #expect(even.convert(0, from: usd, day: 10) == 0)
  }

  @Test func theOppositeRateIsDividedBy() throws {
    let both = try rates([rate(10, "EUR", "USD", "1.08")])
    #expect(both.convert(108_00, from: usd, day: 10) == 100_00)
    #expect(both.convert(100_00, from: usd, day: 10) == 92_59)
    // The direct one counts where both are there, in either order.
    for list in [
      [rate(10, "EUR", "USD", "1.08"), rate(10, "USD", "EUR", "0.9")],
      [rate(10, "USD", "EUR", "0.9"), rate(10, "EUR", "USD", "1.08")],
    ] { #expect(try rates(list).convert(100_00, from: usd, day: 10) == 90_00) }
  }

  @Test func aRateStandsUntilTheNextOneAndNotForEver() throws {
    let two = try rates([rate(10, "USD", "EUR", "0.9"), rate(12, "USD", "EUR", "0.8")])
    #expect((9...16).map { two.convert(100, from: usd, day: $0) } == [nil, 90, 90, 80, 80, 80, 80, nil])
    #expect(two.covers(usd, day: 15) && !two.covers(usd, day: 16) && two.covers(eur, day: 99))
    #expect(!two.covers(Currency("GBP")!, day: 10))
  }

  @Test func largeAmounts() throws {
    let large = try rates([rate(1, "USD", "EUR", "0.123456789012345678"), rate(1, "EUR", "JPY", "160.5")])
    // Both by arithmetic with 60 decimal digits.
    #expect(large.convert(.max, from: usd, day: 1) == 1_138_687_895_536_349_062)
    #expect(large.convert(.max, from: Currency("JPY")!, day: 1) == 5_746_649_244_146_277_761)
    let over = try rates([rate(1, "USD", "EUR", "2")])
    #expect(over.convert(.max, from: usd, day: 1) == .max && over.convert(-.max, from: usd, day: 1) == -.max)
  }

  /// Against schoolbook arithmetic in 128 bits, where that reaches.
  @Test(arguments: 0..<200 as Range<UInt64>) func agreesWithPlainArithmetic(seed: UInt64) throws {
    var state = seed &* 0x9e37_79b9_7f4a_7c15
    func random(_ bound: Int64) -> Int64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int64(state >> 33) % bound
    }
    let mantissa = 1 + random(1 << 30)
    let scale = Int(random(10))
    let amount = random(1 << 31) - (1 << 30)
    for isInverse in [false, true] {
      let quote = ExchangeRates.Rate(
        day: 0, from: isInverse ? eur : usd, to: isInverse ? usd : eur,
        rate: DecimalText(mantissa: mantissa, scale: scale))
      var power: Int128 = 1
      for _ in 0..<scale { power *= 10 }
      let (numerator, denominator) =
        isInverse ? (Int128(amount) * power, Int128(mantissa)) : (Int128(amount) * Int128(mantissa), power)
      #expect(
        try rates([quote]).convert(amount, from: usd, day: 0) == Int64(dividedHalfEven(numerator, denominator)),
        "seed \(seed) \(quote) \(amount)")
    }
  }

  @Test func faults() {
    func fault(_ list: [ExchangeRates.Rate]) -> String? {
      do throws(ExchangeRates.Fault) {
        _ = try ExchangeRates(base: eur, list)
        return nil
      } catch { return "\(error.index): \(error.message)" }
    }
    #expect(fault([rate(1, "USD", "EUR", "1"), rate(1, "USD", "EUR", "1.0")]) == nil)
    #expect(
      fault([rate(1, "USD", "EUR", "1"), rate(1, "USD", "EUR", "2")])
        == "1: USD to EUR on 1970-01-02 is there twice with different rates")
    #expect(fault([rate(1, "USD", "JPY", "1")]) == "0: USD to JPY is no rate of the base currency EUR")
    #expect(fault([rate(1, "EUR", "EUR", "1")]) == "0: EUR to EUR is no rate of the base currency EUR")
    #expect(fault([rate(1, "USD", "EUR", "0")]) == "0: a rate must be above zero")
    #expect(fault([rate(1, "USD", "EUR", "0.0000000000000000001")]) == "0: a rate has at most 18 decimals")
  }

  /// What it says of itself tells two sets of rates apart: the hash of a configuration is made of it.
  @Test func theDescriptionStandsForTheRates() throws {
    let one = try rates([rate(10, "USD", "EUR", "0.9"), rate(11, "GBP", "EUR", "1.1")])
    #expect(
      try rates([rate(11, "GBP", "EUR", "1.10"), rate(10, "USD", "EUR", "0.9")]).description == one.description)
    for other in [
      [rate(10, "USD", "EUR", "0.9"), rate(11, "GBP", "EUR", "1.2")],
      [rate(10, "USD", "EUR", "0.9"), rate(12, "GBP", "EUR", "1.1")],
      [rate(10, "USD", "EUR", "0.9"), rate(11, "CHF", "EUR", "1.1")], [rate(10, "USD", "EUR", "0.9")],
    ] { #expect(try rates(other).description != one.description) }
  }
}
