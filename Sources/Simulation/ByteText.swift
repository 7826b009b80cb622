import Domain

/// Text written straight into a reusable byte buffer: a generated record costs no `String`.
extension [UInt8] {
  mutating func text(_ literal: StaticString) {
    append(contentsOf: UnsafeBufferPointer(start: literal.utf8Start, count: literal.utf8CodeUnitCount))
  }

  /// A decimal number, with zeros in front up to `width` digits.
  mutating func number(_ value: Int, width: Int = 0) {
    if value < 0 { append(UInt8(ascii: "-")) }
    var rest = value.magnitude
    // Twenty digits are enough for 64 bits.
    var digits: InlineArray<20, UInt8> = .init(repeating: 0x30)
    var at = 20
    repeat {
      at -= 1
      digits[at] = UInt8(truncatingIfNeeded: rest % 10) + 0x30
      rest /= 10
    } while rest > 0
    at = Swift.min(at, 20 - Swift.min(width, 20))
    while at < 20 {
      append(digits[at])
      at += 1
    }
  }

  /// An amount in minor units as decimal text: −12345 is `-123.45` with two decimals.
  mutating func amount(_ minorUnits: Int64, decimals: Int) {
    if minorUnits < 0 { append(UInt8(ascii: "-")) }
    var power: UInt64 = 1
    for _ in 0..<decimals { power *= 10 }
    number(Int(minorUnits.magnitude / power))
    guard decimals > 0 else { return }
    append(UInt8(ascii: "."))
    number(Int(minorUnits.magnitude % power), width: decimals)
  }

  /// ISO 8601 calendar date of a number of days since 1970-01-01, `1996-07-10`.
  mutating func date(_ days: Int32) {
    month(days)
    append(UInt8(ascii: "-"))
    number(civilFromDays(Int(days)).day, width: 2)
  }

  /// The calendar month of a date, `1996-07`.
  mutating func month(_ days: Int32) {
    let (year, month, _) = civilFromDays(Int(days))
    number(year, width: 4)
    append(UInt8(ascii: "-"))
    number(month, width: 2)
  }

  /// RFC 3339 in UTC with milliseconds.
  mutating func timestamp(_ ms: Int64) {
    let days = day(ofMilliseconds: ms)
    let inDay = Int(ms - Int64(days) * millisecondsPerDay)
    date(days)
    append(UInt8(ascii: "T"))
    number(inDay / 3_600_000, width: 2)
    append(UInt8(ascii: ":"))
    number(inDay / 60_000 % 60, width: 2)
    append(UInt8(ascii: ":"))
    number(inDay / 1_000 % 60, width: 2)
    append(UInt8(ascii: "."))
    number(inDay % 1_000, width: 3)
    append(UInt8(ascii: "Z"))
  }

  /// The three letters of a currency.
  mutating func code(_ currency: Currency) {
    append(UInt8(truncatingIfNeeded: currency.rawValue >> 10 & 31) + 0x40)
    append(UInt8(truncatingIfNeeded: currency.rawValue >> 5 & 31) + 0x40)
    append(UInt8(truncatingIfNeeded: currency.rawValue & 31) + 0x40)
  }
}
