import Testing

@testable import Domain

@Suite struct DomainTests {
  @Test(arguments: [
    ("0", "USD", Int64(0)), ("1863.40", "USD", 1863_40), ("-0.01", "EUR", -1), ("+5", "EUR", 500), ("12", "JPY", 12),
    ("1.234", "KWD", 1_234), ("1.500", "USD", 1_50), ("12.00", "JPY", 12), ("1e3", "USD", 1_000_00),
    ("1.5E-1", "USD", 15), ("0.00000000000000000000000", "USD", 0), ("92233720368547758.07", "USD", .max),
    ("007", "USD", 7_00), (".5", "USD", 50), ("5.", "USD", 500),
  ]) func amounts(text: String, currency: String, units: Int64) throws {
    #expect(try Money(text, Currency(currency)!).minorUnits == units)
  }

  @Test(arguments: [
    ("", DecimalFault.notDecimal), ("-", .notDecimal), (".", .notDecimal), ("1.2.3", .notDecimal), ("1,5", .notDecimal),
    ("NaN", .notDecimal), ("Infinity", .notDecimal), ("0x10", .notDecimal), (" 1", .notDecimal), ("1e", .notDecimal),
    ("1.005", .tooManyDecimals), ("0.001", .tooManyDecimals), ("1e-3", .tooManyDecimals),
    ("92233720368547758.08", .overflow), ("1e400", .overflow), ("99999999999999999999999", .overflow),
  ]) func refusedAmounts(text: String, fault: DecimalFault) {
    #expect(throws: fault) { try Money(text, Currency("USD")!) }
  }

  @Test func roundingRules() throws {
    func cents(_ text: String, _ rule: RoundingRule) throws -> Int64 {
      try Money(text, Currency("USD")!, rounding: rule).minorUnits
    }
    #expect(try cents("1.005", .halfEven) == 100)
    #expect(try cents("1.015", .halfEven) == 102)
    #expect(try cents("1.0050001", .halfEven) == 101)
    #expect(try cents("1.005", .halfUp) == 101)
    #expect(try cents("-1.005", .halfUp) == -101)
    #expect(try cents("1.009", .down) == 100)
    #expect(try cents("-1.009", .down) == -100)
    #expect(try cents("24168654.339999996", .halfUp) == 24168654_34)
    #expect(try cents("1e-40", .halfUp) == 0)
  }

  @Test func currencies() {
    #expect(Currency("usd")?.code == "USD")
    #expect(Currency("JPY")?.exponent == 0)
    #expect(Currency("EUR")?.exponent == 2)
    #expect(Currency("KWD")?.exponent == 3)
    #expect(Currency("CLF")?.exponent == 4)
    for bad in ["", "US", "USDD", "QQQ", "U$D", "12A"] { #expect(Currency(bad) == nil, "\(bad)") }
    #expect(Currency.none.code == "")
  }

  @Test func decimalStrings() {
    #expect(formatDecimal(0, decimals: 2) == "0.00")
    #expect(formatDecimal(-5, decimals: 2) == "-0.05")
    #expect(formatDecimal(123_456, decimals: 3) == "123.456")
    #expect(formatDecimal(7, decimals: 0) == "7")
    #expect(formatDecimal(Int128(Int64.max) * 100, decimals: 2) == "9223372036854775807.00")
    #expect(Money(minorUnits: -1_234_50, currency: Currency("EUR")!).description == "-1234.50 EUR")
  }

  @Test func calendar() {
    for (year, month, day, days) in [(1970, 1, 1, 0), (2000, 2, 29, 11_016), (1969, 12, 31, -1), (1996, 7, 10, 9_687)] {
      #expect(daysFromCivil(year: year, month: month, day: day) == days)
      #expect(civilFromDays(days) == (year, month, day))
    }
    for days in stride(from: -200_000, to: 200_000, by: 37) {
      let (year, month, day) = civilFromDays(days)
      #expect(daysFromCivil(year: year, month: month, day: day) == days)
      #expect(day <= daysInMonth(year: year, month: month))
    }
    #expect(formatTimestamp(837_012_960_000) == "1996-07-10T15:36:00.000Z")
    #expect(formatTimestamp(-1) == "1969-12-31T23:59:59.999Z")
    #expect(formatDate(9_687) == "1996-07-10")
    for day: Int32 in [-719_528, -719_529, -1, 0, 59, 11_016, 2_932_896, 2_932_897, -2_000_000] {
      #expect(formatDate(day) == String(formatTimestamp(Int64(day) * millisecondsPerDay).prefix(10)))
    }
    #expect(calendarPeriod(ofDay: 9_687) == 199607)
    // Also where it is found in a shorter way, and at the ends of that.
    for day in -1_000...90_000 as ClosedRange<Int32> {
      let (year, month, _) = civilFromDays(Int(day))
      #expect(calendarPeriod(ofDay: day) == Int32(year * 100 + month))
    }
  }

  /// File partitioning and break order depend on these values: they may never change.
  @Test func fingerprintsAreStable() {
    func fingerprint(_ text: String) -> Fingerprint {
      var text = text
      return text.withUTF8 { Fingerprint(ByteView($0)) }
    }
    var seen: Set<Fingerprint> = []
    var lows: [UInt64: Int] = [:]
    for number in 0..<20_000 {
      let key = fingerprint("SO-\(number)")
      seen.insert(key)
      lows[key.low >> 32 & 15, default: 0] += 1
    }
    #expect(seen.count == 20_000)
    #expect(lows.count == 16 && lows.values.allSatisfy { $0 > 1_000 && $0 < 1_500 }, "spread over tasks: \(lows)")
    for length in 0...40 {
      let text = String(repeating: "a", count: length)
      #expect(fingerprint(text) == fingerprint(text))
      #expect(fingerprint(text) != fingerprint(text + "a"))
    }
    #expect(fingerprint("NW-10250") == fingerprint("NW-10250"))
  }

  @Test func words() {
    for role in AccountRole.allCases { #expect(AccountRole(name: role.name) == role) }
    for kind in OrderEventKind.allCases { #expect(OrderEventKind(name: kind.name) == kind) }
    #expect(AccountRole.writeOff.name == "write_off")
    #expect(AccountRole.count == AccountRole.allCases.count)
    #expect(AmountComponent.count == AmountComponent.allCases.count)
    #expect(nearestName("windw", in: ["window", "grace"]) == "window")
    #expect(nearestName("xyzzy", in: ["window", "grace"]) == nil)
    #expect(Break.id(order: "A:B", type: .cutoff, role: .revenue) == "A:B:CUTOFF:revenue")
  }

  @Test func recordBufferGrowsAndEmpties() {
    var buffer = RecordBuffer<Int64>(capacity: 1)
    for value in 0..<1_000 { buffer.append(Int64(value)) }
    #expect(buffer.count == 1_000)
    #expect(Array(buffer.buffer) == (0..<1_000).map(Int64.init))
    buffer.removeAll()
    #expect(buffer.count == 0)
  }

  @Test func textsArePutTogetherFromTheirParts() {
    let (name, number) = ("größer als fünfzehn Bytes", 17)
    Array("J-1".utf8).withUnsafeBufferPointer { bytes in
      let journal = ByteView(bytes)
      let one: TextBytes = "× \(name), \(journal) and \(number)"
      #expect(one.string == "× \(name), J-1 and 17")
      var two: TextBytes = "a literal"
      #expect(two.string == "a literal")
      two += "; \(one)"
      two += "."
      #expect(two.string == "a literal; × \(name), J-1 and 17.")
      let three: TextBytes = "\(two)\(ByteView.empty)\("")"
      #expect(three.string == two.string)
    }
    let (broken, nothing): ([UInt8], TextBytes) = ([0x61, 0xff], "\("")")
    broken.withUnsafeBufferPointer { #expect(("\(ByteView($0))" as TextBytes).string == "a\u{fffd}") }
    #expect(nothing.string.isEmpty)
  }

  @Test func idsNameOrderTypeAndRole() {
    let usd = Currency("USD")!
    for order in ["", "O", "größer:als fünfzehn Bytes"] {
      for type in BreakType.allCases {
        for role in AccountRole.allCases {
          #expect(Break.id(order: order, type: type, role: role) == "\(order):\(type.rawValue):\(role.name)")
        }
      }
    }
    #expect(Break.id(order: "O", type: .cutoff, role: .tax, otherCurrency: usd) == "O:CUTOFF:tax:USD")
    #expect(usd.code == "USD" && Currency.none.code.isEmpty)
  }
}
