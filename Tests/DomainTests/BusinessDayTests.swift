import Domain
import Testing

/// Where dates go that are no business days, by known dates.
@Suite struct BusinessDayTests {
  func day(_ year: Int, _ month: Int, _ day: Int) -> Int32 { Int32(daysFromCivil(year: year, month: month, day: day)) }

  /// Weekends, and TARGET's closing days of Easter and Christmas 2024.
  func days(_ roll: BusinessDays.Roll) -> BusinessDays {
    BusinessDays(
      roll: roll, restDays: 0b110_0000,
      holidays: [
        day(2024, 12, 26), day(2024, 3, 29), day(2024, 4, 1), day(2024, 5, 1), day(2024, 12, 25), day(2024, 12, 25),
      ])
  }

  @Test func weekdays() {
    #expect(BusinessDays.weekday(of: 0) == 3 && BusinessDays.weekday(of: -1) == 2 && BusinessDays.weekday(of: -4) == 6)
    #expect(BusinessDays.weekday(of: day(2024, 2, 29)) == 3 && BusinessDays.weekday(of: day(1969, 7, 20)) == 6)
    #expect(days(.none).holidays.count == 5)
  }

  @Test func conventions() {
    // Good Friday 2024 is the last business-day candidate of March: the next business day is Tuesday, 2 April.
    let goodFriday = day(2024, 3, 29)
    #expect(days(.none).rolled(goodFriday) == goodFriday && !days(.none).isBusinessDay(goodFriday))
    #expect(days(.following).rolled(goodFriday) == day(2024, 4, 2))
    #expect(days(.modifiedFollowing).rolled(goodFriday) == day(2024, 3, 28))
    #expect(days(.preceding).rolled(goodFriday) == day(2024, 3, 28))
    #expect(days(.preceding).rolled(day(2024, 4, 1)) == day(2024, 3, 28))
    // Within the month the modified convention is the plain one.
    for roll in [BusinessDays.Roll.following, .modifiedFollowing] {
      #expect(days(roll).rolled(day(2024, 12, 25)) == day(2024, 12, 27))
      #expect(days(roll).rolled(day(2024, 5, 1)) == day(2024, 5, 2))
    }
    #expect(days(.modifiedFollowing).rolled(day(2024, 8, 31)) == day(2024, 8, 30))
    for roll in BusinessDays.Roll.allCases { #expect(days(roll).rolled(day(2024, 12, 27)) == day(2024, 12, 27)) }
  }

  /// Where there is no business day far and wide, and at the ends of time, a date stays.
  @Test func thereIsAnEnd() {
    let never = BusinessDays(roll: .following, restDays: 0x7f)
    #expect(never.rolled(100) == 100)
    #expect(never.rolled(.max) == .max && BusinessDays(roll: .preceding, restDays: 0x7f).rolled(.min) == .min)
  }
}
