import Domain
import Foundation
import Testing

@testable import Configuration

struct ZoneTests {
  let tests = ConfigurationTests()

  private func configured(_ zone: String) throws -> ZoneClock? {
    let yaml = tests.base.replacingOccurrences(
      of: "gross: gross", with: "gross: gross, document_date: {path: d, time_zone: '\(zone)'}")
    let configuration = try tests.parse(yaml)
    #expect(try tests.parse(configuration.effectiveYAML()) == configuration)
    return configuration.sources.lazy.compactMap { $0.mapping.fields["document_date"]?.timeZone }.first
  }

  @Test func offsets() throws {
    for (text, minutes) in [
      ("Z", 0), ("UTC", 0), ("+02:00", 120), ("-05:30", -330), ("+00:00", 0), ("-18:00", -1_080),
    ] {
      #expect(try configured(text) == ZoneClock(minutes: minutes))
    }
    #expect(ZoneClock(minutes: -330).name == "-05:30")
    for text in ["CET", "+2:00", "+02-00", "+19:00", "+0a:00", "Europe/Nowhere", "europe/berlin", "", "Etc", "02:00Z"] {
      #expect(ZoneClock(named: text) == nil, "\(text)")
    }
    #expect { try configured("Europe/Berlim") } throws: {
      "\($0)".contains(
        "or a name such as Europe/Berlin is expected, not 'Europe/Berlim'; did you mean 'Europe/Berlin'?")
    }
  }

  /// Moments spread over 1970 to 2100, and the seconds around each change, as the calendar of the platform has them.
  @Test(arguments: [
    "Europe/Berlin", "Europe/London", "America/New_York", "America/Sao_Paulo", "Asia/Kolkata", "Asia/Kathmandu",
    "Australia/Lord_Howe", "Europe/Moscow", "Pacific/Apia", "Africa/Casablanca", "America/Caracas",
    "Pacific/Kiritimati",
  ])
  func agreesWithThePlatform(_ name: String) throws {
    let clock = try #require(try configured(name))
    #expect(clock.name == name)
    var calendar = Calendar(identifier: .gregorian)
    calendar.timeZone = try #require(TimeZone(identifier: name))
    var moments = clock.steps.filter { $0.from_s < 4_102_444_800 }.flatMap {
      [$0.from_s - 3_601, $0.from_s - 1, $0.from_s, $0.from_s + 3_600]
    }
    moments += stride(from: 0, to: 4_102_444_800, by: 40_000_003).map { Int64($0) }
    for moment in moments {
      let date = Date(timeIntervalSince1970: Double(moment))
      let offset = calendar.timeZone.secondsFromGMT(for: date)
      #expect(clock.offset_s(at: moment) == offset, "\(name) \(moment)")
      let shown = calendar.dateComponents([.year, .month, .day], from: date)
      #expect(
        Int(clock.day(ofMilliseconds: moment * 1_000))
          == daysFromCivil(year: shown.year!, month: shown.month!, day: shown.day!), "\(name) \(moment)")
      // What the clocks show comes back to its moment, or, where they show it twice, to the first of the two.
      let back = moment + Int64(offset) - Int64(clock.offset_s(shown: moment + Int64(offset)))
      if back != moment {
        #expect(back < moment && moment - back <= 86_400, "\(name) \(moment)")
        #expect(back + Int64(clock.offset_s(at: back)) == moment + Int64(offset), "\(name) \(moment)")
      }
    }
  }

  @Test func beforeTheEpoch() throws {
    let clock = try #require(ZoneClock(named: "Europe/Berlin"))
    #expect(clock.offset_s(at: -1) == 3_600)
    #expect(clock.day(ofMilliseconds: -1) == 0)
    #expect(clock.day(ofMilliseconds: -3_600_001) == -1)
    #expect(seconds(ofMilliseconds: -1) == -1)
    #expect(seconds(ofMilliseconds: -1_000) == -1)
    #expect(seconds(ofMilliseconds: 1_999) == 1)
  }
}
