import Domain
import Foundation

extension ZoneClock {
  /// Zones of the IANA time zone database, in the form of area and place.
  static var names: [String] { TimeZone.knownTimeZoneIdentifiers.filter { $0.contains("/") } }

  /// How far ahead changes of a zone are known: the beginning of the year 2200. Before 1970 a zone has the offset of
  /// 1970-01-01.
  private static let end_s: Int64 = 7_258_118_400

  /// `Z`, `UTC`, an offset such as `+02:00`, or the name of a zone (`Europe/Berlin`); nil for anything else. Abbreviations
  /// (`CET`, `EST`) are no names: they mean one offset to some and a zone to others.
  init?(named text: String) {
    if let minutes = ZoneClock.offset_min(text) {
      self.init(minutes: minutes)
      return
    }
    guard text.contains("/"), let zone = TimeZone(identifier: text) else { return nil }
    var date = Date(timeIntervalSince1970: 0)
    let first_s = zone.secondsFromGMT(for: date)
    var changes: [(from_s: Int64, offset_s: Int)] = []
    while let next = zone.nextDaylightSavingTimeTransition(after: date), next > date {
      date = next
      let from_s = Int64(next.timeIntervalSince1970.rounded())
      guard from_s < ZoneClock.end_s else { break }
      let offset_s = zone.secondsFromGMT(for: next)
      // Some changes are of the abbreviation alone.
      if offset_s != changes.last?.offset_s ?? first_s { changes.append((from_s, offset_s)) }
    }
    self.init(name: text, first_s: first_s, changes: changes)
  }

  private static func offset_min(_ text: String) -> Int? {
    if text == "Z" || text == "UTC" { return 0 }
    guard text.utf8.count == 6, let sign = text.first, sign == "+" || sign == "-",
      text.utf8.enumerated().allSatisfy({ at, byte in
        at == 0 || (at == 3 ? byte == UInt8(ascii: ":") : byte &- 0x30 <= 9)
      }), let hours = Int(text.dropFirst().prefix(2)), let minutes = Int(text.suffix(2)), hours <= 18, minutes < 60
    else { return nil }
    return (sign == "-" ? -1 : 1) * (hours * 60 + minutes)
  }
}
