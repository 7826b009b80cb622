import Domain

/// `2025-01-31T12:00:00.000Z` as milliseconds since 1970; nil for anything else. Only what tieout itself writes.
public func parseTimestamp_ms(_ text: String) -> Int64? {
  var text = text
  return text.withUTF8 { bytes in
    guard bytes.count >= 20, bytes.last == UInt8(ascii: "Z") else { return nil }
    func number(_ at: Int, _ count: Int) -> Int? {
      guard at + count <= bytes.count else { return nil }
      var value = 0
      for byte in bytes[at..<at + count] {
        guard byte >= 0x30, byte <= 0x39 else { return nil }
        value = value * 10 + Int(byte - 0x30)
      }
      return value
    }
    guard let year = number(0, 4), let month = number(5, 2), let day = number(8, 2), let hour = number(11, 2),
      let minute = number(14, 2), let second = number(17, 2), (1...12).contains(month), (1...31).contains(day)
    else { return nil }
    let fraction = bytes.count >= 24 ? number(20, 3) ?? 0 : 0
    let seconds = daysFromCivil(year: year, month: month, day: day) * 86_400 + hour * 3_600 + minute * 60 + second
    return Int64(seconds) * 1_000 + Int64(fraction)
  }
}
