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

  func crossing(_ list: [ExchangeRates.Rate], _ rounding: RoundingRule = .halfEven) throws -> ExchangeRates {
    try ExchangeRates(base: usd, list, pivot: eur, rounding: rounding, maximumAge_d: 3)
  }

  @Test func ratesAreMultipliedByWayOfThePivot() throws {
    let gbp = Currency("GBP")!
    let jpy = Currency("JPY")!
    // 1 GBP = 1.17 EUR = 1.17 × 1.08 USD; 1 EUR = 160 JPY.
    let made = try crossing([
      rate(10, "GBP", "EUR", "1.17"), rate(10, "EUR", "JPY", "160"), rate(10, "EUR", "USD", "1.08"),
    ])
    #expect(made.convert(100_00, from: gbp, day: 10) == 126_36)
    #expect(made.convert(16_000, from: jpy, day: 10) == 108_00)
    #expect(made.convert(100_00, from: eur, day: 10) == 108_00 && made.convert(7, from: usd, day: 99) == 7)
    #expect(made.covers(gbp, day: 13) && !made.covers(gbp, day: 14) && !made.covers(Currency("CHF")!, day: 10))
    // The amount is rounded once: 0.5 × 1.01 = 0.505, and not 0.51 by way of 0.50 or so.
    let halves = [rate(10, "GBP", "EUR", "0.5"), rate(10, "EUR", "USD", "1.01")]
    #expect(try crossing(halves).convert(1_00, from: gbp, day: 10) == 50)
    #expect(try crossing(halves, .halfUp).convert(1_00, from: gbp, day: 10) == 51)
    #expect(try crossing(halves).convert(-3_00, from: gbp, day: 10) == -1_52)
    // Both, or one of them, the other way round.
    let inverse = try crossing([rate(10, "EUR", "GBP", "0.8"), rate(10, "USD", "EUR", "0.5")])
    #expect(inverse.convert(100_00, from: gbp, day: 10) == 250_00)
    let opposite = try crossing([rate(10, "EUR", "GBP", "0.8"), rate(10, "EUR", "USD", "0.5")])
    #expect(opposite.convert(100_00, from: gbp, day: 10) == 62_50)
    let both = try crossing([rate(10, "EUR", "GBP", "0.8"), rate(10, "USD", "EUR", "0.4")])
    #expect(both.convert(100_00, from: gbp, day: 10) == 312_50)
    // Without the pivot's own rate there is no way.
    #expect(try crossing([rate(10, "GBP", "EUR", "1.17")]).convert(1, from: gbp, day: 10) == nil)
  }

  /// Each part counts as it stands on the day; a rate to the base currency itself goes before, as long as it stands.
  @Test func aCrossRateStandsAsLongAsBothOfItsParts() throws {
    let gbp = Currency("GBP")!
    let made = try crossing([
      rate(10, "GBP", "EUR", "2"), rate(12, "EUR", "USD", "3"), rate(13, "GBP", "EUR", "5"),
      rate(20, "GBP", "EUR", "7"),
      rate(22, "EUR", "USD", "1"),
    ])
    let by = (9...26).map { made.convert(1_00, from: gbp, day: $0) }
    #expect(
      by == [
        nil, nil, nil, 6_00, 15_00, 15_00, 15_00, nil, nil, nil, nil, nil, nil, 7_00, 7_00, nil, nil, nil,
      ])
    let direct = try crossing([
      rate(10, "GBP", "EUR", "2"), rate(14, "GBP", "EUR", "2"), rate(10, "EUR", "USD", "3"),
      rate(14, "EUR", "USD", "3"),
      rate(11, "GBP", "USD", "4"),
    ])
    #expect(
      (10...17).map { direct.convert(1_00, from: gbp, day: $0) } == [6_00, 4_00, 4_00, 4_00, 4_00, 6_00, 6_00, 6_00])
    // Other rates are put together by way of it too.
    let other = try direct.replacing([rate(11, "EUR", "USD", "2"), rate(11, "GBP", "EUR", "3")])
    #expect(other.convert(1_00, from: gbp, day: 11) == 6_00)
    // Nothing of a pivot that is not used.
    let plain = try rates([rate(10, "USD", "EUR", "0.9")])
    let pivoted = try ExchangeRates(base: eur, [rate(10, "USD", "EUR", "0.9")], pivot: gbp, maximumAge_d: 3)
    #expect(plain.description == pivoted.description)
    #expect(made.description != direct.description && made.count == 2 + 3)
  }

  /// Against arithmetic with fractions; and numbers at the ends of their range, which must not stop anything.
  @Test(arguments: 0..<200 as Range<UInt64>) func crossRatesAgreeWithPlainArithmetic(seed: UInt64) throws {
    var state = (seed &+ 77) &* 0x9e37_79b9_7f4a_7c15
    func random(_ bound: Int64) -> Int64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int64(state >> 33) % bound
    }
    let gbp = Currency("GBP")!
    let amount = random(1 << 24) - (1 << 23)
    let (a, b) = (1 + random(100_000), 1 + random(100_000))
    let (scaleA, scaleB) = (Int(random(5)), Int(random(5)))
    func power(_ scale: Int) -> Int128 { (0..<scale).reduce(1) { power, _ in power * 10 } }
    for (isInverseA, isInverseB) in [(false, false), (false, true), (true, false), (true, true)] {
      let list = [
        ExchangeRates.Rate(
          day: 0, from: isInverseA ? eur : gbp, to: isInverseA ? gbp : eur,
          rate: DecimalText(mantissa: a, scale: scaleA)),
        ExchangeRates.Rate(
          day: 0, from: isInverseB ? usd : eur, to: isInverseB ? eur : usd,
          rate: DecimalText(mantissa: b, scale: scaleB)),
      ]
      var (numerator, denominator) = (Int128(amount), Int128(1))
      for (isInverse, mantissa, scale) in [(isInverseA, a, scaleA), (isInverseB, b, scaleB)] {
        numerator *= isInverse ? power(scale) : Int128(mantissa)
        denominator *= isInverse ? Int128(mantissa) : power(scale)
      }
      #expect(
        try crossing(list).convert(amount, from: gbp, day: 0) == Int64(dividedHalfEven(numerator, denominator)),
        "seed \(seed) \(list) \(amount)")
    }
    for (text, other) in [
      ("0.000000000000000001", "0.000000000000000001"), ("9223372036854775807", "9223372036854775807"),
      ("0.123456789012345678", "0.987654321098765432"), ("9223372036854775807", "0.000000000000000001"),
    ] {
      for list in [
        [rate(0, "CLF", "EUR", text), rate(0, "EUR", "USD", other)],
        [rate(0, "EUR", "CLF", text), rate(0, "USD", "EUR", other)],
        [rate(0, "CLF", "EUR", text), rate(0, "USD", "EUR", other)],
      ] {
        let made = try crossing(list)
        for amount in [0, 1, -1, Int64.max, -.max, random(.max)] {
          _ = made.convert(amount, from: Currency("CLF")!, day: 0)
        }
      }
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
    #expect(
      throws: ExchangeRates.Fault(
        index: 0, message: "GBP to CHF is no rate of the base currency USD or of the pivot EUR")
    ) {
      try crossing([rate(1, "GBP", "CHF", "1")])
    }
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
