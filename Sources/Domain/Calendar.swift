/// Days since 1970-01-01 of a proleptic Gregorian date.
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", days_from_civil.
@inlinable
public func daysFromCivil(year: Int, month: Int, day: Int) -> Int {
  let y = month <= 2 ? year - 1 : year
  let era = (y >= 0 ? y : y - 399) / 400
  let yearOfEra = y - era * 400
  let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
  let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
  return era * 146_097 + dayOfEra - 719_468
}

/// The Gregorian date of a number of days since 1970-01-01; the inverse of `daysFromCivil`.
@inlinable
public func civilFromDays(_ days: Int) -> (year: Int, month: Int, day: Int) {
  let z = days + 719_468
  let era = (z >= 0 ? z : z - 146_096) / 146_097
  let dayOfEra = z - era * 146_097
  let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
  let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
  let mp = (5 * dayOfYear + 2) / 153
  let day = dayOfYear - (153 * mp + 2) / 5 + 1
  let month = mp < 10 ? mp + 3 : mp - 9
  return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, day)
}

/// Days in a month of the Gregorian calendar.
@inlinable
public func daysInMonth(year: Int, month: Int) -> Int {
  switch month {
  case 4, 6, 9, 11: 30
  case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
  default: 31
  }
}

/// The calendar-month accounting period of a date: year × 100 + month, 199607.
@inlinable
public func calendarPeriod(ofDay days: Int32) -> Int32 {
  if UInt32(bitPattern: days) < 47_482 {
    // From 1970 to 2099 every fourth year is a leap year. Counted from 1968-03-01, so that the day in question ends a year.
    // Source: Neri and Schneider, "Euclidean affine functions and their application to calendar algorithms".
    let quarters = 4 &* (UInt32(bitPattern: days) &+ 671) &+ 3
    let (years, rest) = (quarters / 1_461, quarters % 1_461)
    let dayOfYear = rest >> 2
    let month = (2_141 &* dayOfYear &+ 197_913) >> 16
    let isNext: UInt32 = dayOfYear >= 306 ? 1 : 0
    return Int32(bitPattern: (1_968 &+ years &+ isNext) &* 100 &+ month &- 12 &* isNext)
  }
  let (year, month, _) = civilFromDays(Int(days))
  return Int32(year * 100 + month)
}

public let millisecondsPerDay: Int64 = 86_400_000

/// Days since 1970-01-01 (UTC) that a time falls on.
@inlinable
public func day(ofMilliseconds ms: Int64) -> Int32 {
  // Without an intermediate beyond the range: `Int64.min` is a time too.
  let (days, rest) = ms.quotientAndRemainder(dividingBy: millisecondsPerDay)
  return Int32(truncatingIfNeeded: rest < 0 ? days - 1 : days)
}

/// Whole seconds, fractions cut off towards the past.
public func seconds(ofMilliseconds ms: Int64) -> Int64 {
  let (seconds, rest) = ms.quotientAndRemainder(dividingBy: 1_000)
  return rest < 0 ? seconds - 1 : seconds
}

/// RFC 3339 in UTC with milliseconds, `1996-07-10T09:00:00.000Z`.
public func formatTimestamp(_ ms: Int64) -> String {
  let days = day(ofMilliseconds: ms)
  let (year, month, dayOfMonth) = civilFromDays(Int(days))
  let inDay = Int(ms - Int64(days) * millisecondsPerDay)
  func pad(_ value: Int, _ width: Int) -> String {
    let digits = String(value)
    return String(repeating: "0", count: max(0, width - digits.count)) + digits
  }
  return "\(pad(year, 4))-\(pad(month, 2))-\(pad(dayOfMonth, 2))T\(pad(inDay / 3_600_000, 2)):"
    + "\(pad(inDay / 60_000 % 60, 2)):\(pad(inDay / 1_000 % 60, 2)).\(pad(inDay % 1_000, 3))Z"
}

/// ISO 8601 calendar date, `1996-07-10`.
public func formatDate(_ days: Int32) -> String {
  let (year, month, dayOfMonth) = civilFromDays(Int(days))
  guard 0...9_999 ~= year else { return String(formatTimestamp(Int64(days) * millisecondsPerDay).prefix(10)) }
  return String(unsafeUninitializedCapacity: 10) { text in
    func write(_ value: Int, _ place: Int) {
      text[place] = 0x30 + UInt8(value / 10)
      text[place + 1] = 0x30 + UInt8(value % 10)
    }
    write(year / 100, 0)
    write(year % 100, 2)
    text[4] = UInt8(ascii: "-")
    write(month, 5)
    text[7] = UInt8(ascii: "-")
    write(dayOfMonth, 8)
    return 10
  }
}
