import Domain

/// A parsed time or date.
struct ParsedTime: Equatable {
  /// Milliseconds since 1970-01-01T00:00:00Z.
  var ms: Int64
  /// The calendar date as written (in its own offset), or that of the zone of the field, days since 1970-01-01.
  var day: Int32
}

/// Reads digits without signs; nil where one of them is none.
@inline(__always)
private func digits(_ base: UnsafePointer<UInt8>, _ from: Int, _ count: Int) -> Int? {
  var value = 0
  for at in from..<from + count {
    let digit = base[at] &- 0x30
    guard digit <= 9 else { return nil }
    value = value * 10 + Int(digit)
  }
  return value
}

/// A compiled time format.
struct TimeParser: Sendable {
  var format: TimeFormat
  /// For times without an offset of their own, and then also of the days of all others; nil: UTC, and days as they are
  /// written.
  let zone: ZoneClock?
  private var items: [PatternItem] = []

  enum PatternItem: Sendable, Equatable {
    case year4, year2, month, monthName, day, hour, hour12, minute, second, millisecond, halfDay
    case literal(UInt8)
  }

  /// nil where the pattern makes no sense.
  init?(_ format: TimeFormat, zone: ZoneClock? = nil) {
    self.format = format
    self.zone = zone
    if case .pattern(let pattern) = format {
      guard let items = TimeParser.compile(pattern) else { return nil }
      self.items = items
    }
  }

  private static func compile(_ pattern: String) -> [PatternItem]? {
    var items: [PatternItem] = []
    let bytes = Array(pattern.utf8)
    var at = 0
    while at < bytes.count {
      let byte = bytes[at]
      if byte == UInt8(ascii: "'") {
        at += 1
        while at < bytes.count, bytes[at] != byte {
          items.append(.literal(bytes[at]))
          at += 1
        }
        guard at < bytes.count else { return nil }
        at += 1
        continue
      }
      var run = 1
      while at + run < bytes.count, bytes[at + run] == byte { run += 1 }
      at += run
      switch (byte, run) {
      case (UInt8(ascii: "y"), 4): items.append(.year4)
      case (UInt8(ascii: "y"), 2): items.append(.year2)
      case (UInt8(ascii: "M"), 1...2): items.append(.month)
      case (UInt8(ascii: "M"), 3): items.append(.monthName)
      case (UInt8(ascii: "d"), 1...2): items.append(.day)
      case (UInt8(ascii: "H"), 1...2): items.append(.hour)
      case (UInt8(ascii: "h"), 1...2): items.append(.hour12)
      case (UInt8(ascii: "m"), 1...2): items.append(.minute)
      case (UInt8(ascii: "s"), 1...2): items.append(.second)
      case (UInt8(ascii: "S"), 1...3): items.append(.millisecond)
      case (UInt8(ascii: "a"), 1): items.append(.halfDay)
      default:
        let isLetter = byte | 0x20 >= UInt8(ascii: "a") && byte | 0x20 <= UInt8(ascii: "z")
        guard !isLetter else { return nil }
        for _ in 0..<run { items.append(.literal(byte)) }
      }
    }
    return items.isEmpty ? nil : items
  }

  /// nil where the text is no such time, or names a day that does not exist.
  func parse(_ text: ByteView) -> ParsedTime? {
    guard let base = text.base, text.count > 0 else { return nil }
    switch format {
    case .rfc3339: return rfc3339(base, text.count)
    case .epochSeconds: return epoch(text, decimals: 3, perUnit: 1)
    case .epochMilliseconds: return epoch(text, decimals: 0, perUnit: 1)
    case .epochMicroseconds: return epoch(text, decimals: 0, perUnit: 1_000)
    case .epochNanoseconds: return epoch(text, decimals: 0, perUnit: 1_000_000)
    case .epochDays:
      guard let days = integer(text), days.magnitude < 10_000_000 else { return nil }
      return shown(day: Int32(days), second: 0, milli: 0)
    case .compact: return compact(base, text.count)
    case .pattern: return pattern(base, text.count)
    case .automatic:
      let isCompact = text.count == 8 || text.count == 14
      if isCompact, digits(base, 0, text.count) != nil { return compact(base, text.count) }
      return rfc3339(base, text.count)
    }
  }

  private func integer(_ text: ByteView) -> Int64? {
    guard let number = try? DecimalText(text.buffer), number.scale == 0 else { return nil }
    return number.mantissa
  }

  /// Years 0000 to 9999: what a timestamp can be written as.
  static let start_ms: Int64 = -62_167_219_200_000
  static let end_ms: Int64 = 253_402_300_800_000

  /// Fractions of a millisecond are cut off.
  private func epoch(_ text: ByteView, decimals: Int, perUnit: Int64) -> ParsedTime? {
    guard let number = try? DecimalText(text.buffer),
      let scaled = try? number.units(decimals: decimals, rounding: .down)
    else { return nil }
    let ms = perUnit == 1 ? scaled : (scaled >= 0 ? scaled : scaled - perUnit + 1) / perUnit
    guard ms >= TimeParser.start_ms, ms < TimeParser.end_ms else { return nil }
    return ParsedTime(ms: ms, day: dayInZone(ms))
  }

  /// - Parameter offset_min: Minutes east of UTC as they are written; nil where none are.
  private func make(
    _ year: Int, _ month: Int, _ day: Int, _ hour: Int, _ minute: Int, _ second: Int, _ milli: Int, offset_min: Int?
  ) -> ParsedTime? {
    guard month >= 1, month <= 12, day >= 1, day <= daysInMonth(year: year, month: month), hour <= 23, minute <= 59,
      second <= 60
    else { return nil }
    let days = Int32(daysFromCivil(year: year, month: month, day: day))
    // A leap second counts as the second before it, as POSIX time has none.
    let second = (hour * 60 + minute) * 60 + min(second, 59)
    guard let offset_min else { return shown(day: days, second: second, milli: milli) }
    let ms = Int64(days) * millisecondsPerDay + Int64(second - offset_min * 60) * 1_000 + Int64(milli)
    return ParsedTime(ms: ms, day: zone?.day(ofMilliseconds: ms) ?? days)
  }

  /// What the clocks of the zone show.
  private func shown(day: Int32, second: Int, milli: Int) -> ParsedTime {
    let shown_s = Int64(day) * 86_400 + Int64(second)
    return ParsedTime(ms: (shown_s - Int64(zone?.offset_s(shown: shown_s) ?? 0)) * 1_000 + Int64(milli), day: day)
  }

  private func dayInZone(_ ms: Int64) -> Int32 { zone?.day(ofMilliseconds: ms) ?? Domain.day(ofMilliseconds: ms) }

  /// RFC 3339 with a `T` or a space, with or without offset (a space may stand before it); a date alone is its midnight.
  private func rfc3339(_ base: UnsafePointer<UInt8>, _ count: Int) -> ParsedTime? {
    guard count >= 10, base[4] == UInt8(ascii: "-"), base[7] == UInt8(ascii: "-"), let year = digits(base, 0, 4),
      let month = digits(base, 5, 2), let day = digits(base, 8, 2)
    else { return nil }
    if count == 10 { return make(year, month, day, 0, 0, 0, 0, offset_min: nil) }
    guard count >= 16, base[10] | 0x20 == UInt8(ascii: "t") || base[10] == UInt8(ascii: " "),
      base[13] == UInt8(ascii: ":"), let hour = digits(base, 11, 2), let minute = digits(base, 14, 2)
    else { return nil }
    var at = 16
    var second = 0
    var milli = 0
    if at < count, base[at] == UInt8(ascii: ":") {
      guard count >= 19, let value = digits(base, 17, 2) else { return nil }
      second = value
      at = 19
      if at < count, base[at] == UInt8(ascii: ".") || base[at] == UInt8(ascii: ",") {
        at += 1
        let first = at
        var weight = 100
        while at < count, base[at] &- 0x30 <= 9 {
          milli += Int(base[at] &- 0x30) * weight
          weight /= 10
          at += 1
        }
        guard at > first else { return nil }
      }
    }
    if at == count { return make(year, month, day, hour, minute, second, milli, offset_min: nil) }
    if base[at] == UInt8(ascii: " "), at + 1 < count { at += 1 }
    if base[at] | 0x20 == UInt8(ascii: "z") {
      guard at + 1 == count else { return nil }
      return make(year, month, day, hour, minute, second, milli, offset_min: 0)
    }
    guard base[at] == UInt8(ascii: "+") || base[at] == UInt8(ascii: "-") else { return nil }
    let sign = base[at] == UInt8(ascii: "-") ? -1 : 1
    let hasColon = count - at == 6 && base[at + 3] == UInt8(ascii: ":")
    guard hasColon || count - at == 5 || count - at == 3, let hours = digits(base, at + 1, 2) else { return nil }
    var minutes = 0
    if count - at > 3 {
      guard let value = digits(base, hasColon ? at + 4 : at + 3, 2) else { return nil }
      minutes = value
    }
    guard hours <= 23, minutes <= 59 else { return nil }
    return make(year, month, day, hour, minute, second, milli, offset_min: sign * (hours * 60 + minutes))
  }

  /// The day of the ten bytes of an ISO date; nil where it does not exist.
  static func day(ofDate base: UnsafePointer<UInt8>) -> Int32? {
    guard base[4] == UInt8(ascii: "-"), base[7] == UInt8(ascii: "-"), let year = digits(base, 0, 4),
      let month = digits(base, 5, 2), let day = digits(base, 8, 2), month >= 1, month <= 12, day >= 1,
      day <= daysInMonth(year: year, month: month)
    else { return nil }
    return Int32(daysFromCivil(year: year, month: month, day: day))
  }

  private func compact(_ base: UnsafePointer<UInt8>, _ count: Int) -> ParsedTime? {
    guard count == 8 || count == 12 || count == 14, let year = digits(base, 0, 4), let month = digits(base, 4, 2),
      let day = digits(base, 6, 2)
    else { return nil }
    var hour = 0
    var minute = 0
    var second = 0
    if count >= 12 {
      guard let h = digits(base, 8, 2), let m = digits(base, 10, 2) else { return nil }
      hour = h
      minute = m
    }
    if count == 14 {
      guard let s = digits(base, 12, 2) else { return nil }
      second = s
    }
    return make(year, month, day, hour, minute, second, 0, offset_min: nil)
  }

  private static let months = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"].map {
    Array($0.utf8)
  }

  private func pattern(_ base: UnsafePointer<UInt8>, _ count: Int) -> ParsedTime? {
    var at = 0
    var year = 1970
    var month = 1
    var day = 1
    var hour = 0
    var minute = 0
    var second = 0
    var milli = 0
    var isAfternoon: Bool?
    var isHalf = false
    /// One or more digits, as many as the field can have.
    func number(_ most: Int) -> Int? {
      var value = 0
      let first = at
      while at < count, at - first < most, base[at] &- 0x30 <= 9 {
        value = value * 10 + Int(base[at] &- 0x30)
        at += 1
      }
      return at > first ? value : nil
    }
    for item in items {
      switch item {
      case .year4:
        guard at + 4 <= count, let value = digits(base, at, 4) else { return nil }
        year = value
        at += 4
      case .year2:
        guard at + 2 <= count, let value = digits(base, at, 2) else { return nil }
        // POSIX: 69–99 are 1969–1999, 00–68 are 2000–2068.
        year = value >= 69 ? 1900 + value : 2000 + value
        at += 2
      case .month:
        guard let value = number(2) else { return nil }
        month = value
      case .monthName:
        guard at + 3 <= count,
          let found = TimeParser.months.firstIndex(where: {
            $0[0] == base[at] | 0x20 && $0[1] == base[at + 1] | 0x20 && $0[2] == base[at + 2] | 0x20
          })
        else { return nil }
        month = found + 1
        at += 3
      case .day:
        guard let value = number(2) else { return nil }
        day = value
      case .hour, .hour12:
        guard let value = number(2) else { return nil }
        hour = value
        if item == .hour12 { isHalf = true }
      case .minute:
        guard let value = number(2) else { return nil }
        minute = value
      case .second:
        guard let value = number(2) else { return nil }
        second = value
      case .millisecond:
        let first = at
        guard let value = number(3) else { return nil }
        milli = at - first == 3 ? value : at - first == 2 ? value * 10 : value * 100
      case .halfDay:
        guard at + 2 <= count, base[at + 1] | 0x20 == UInt8(ascii: "m") else { return nil }
        switch base[at] | 0x20 {
        case UInt8(ascii: "a"): isAfternoon = false
        case UInt8(ascii: "p"): isAfternoon = true
        default: return nil
        }
        at += 2
      case .literal(let byte):
        guard at < count, base[at] == byte else { return nil }
        at += 1
      }
    }
    guard at == count else { return nil }
    if isHalf {
      guard hour >= 1, hour <= 12 else { return nil }
      hour = hour % 12 + (isAfternoon == true ? 12 : 0)
    }
    return make(year, month, day, hour, minute, second, milli, offset_min: nil)
  }
}

/// `1996-07`, `199607`, `1996/07`, `07/1996`, `1996-7` as 199607; nil where the text is no period.
func parsePeriod(_ text: ByteView) -> Int32? {
  guard let base = text.base else { return nil }
  var numbers: [2 of (value: Int, digits: Int)] = [(0, 0), (0, 0)]
  var part = 0
  for at in 0..<text.count {
    let digit = base[at] &- 0x30
    if digit <= 9 {
      guard numbers[part].digits < 8 else { return nil }
      numbers[part].value = numbers[part].value * 10 + Int(digit)
      numbers[part].digits += 1
    } else {
      guard part == 0, base[at] == UInt8(ascii: "-") || base[at] == UInt8(ascii: "/") || base[at] == UInt8(ascii: ".")
      else { return nil }
      part = 1
    }
  }
  let (year, period): (Int, Int)
  if part == 0 {
    guard numbers[0].digits == 6 else { return nil }
    (year, period) = (numbers[0].value / 100, numbers[0].value % 100)
  } else if numbers[0].digits == 4, (1...2).contains(numbers[1].digits) {
    (year, period) = (numbers[0].value, numbers[1].value)
  } else if numbers[1].digits == 4, (1...2).contains(numbers[0].digits) {
    (year, period) = (numbers[1].value, numbers[0].value)
  } else {
    return nil
  }
  // Sixteen: the twelve months and SAP's four special periods.
  guard year > 0, (1...16).contains(period) else { return nil }
  return Int32(year * 100 + period)
}
