/// On which days money is moved, and where a date goes that is none of them.
public struct BusinessDays: Sendable, Equatable {
  /// What becomes of a date that is no business day.
  public enum Roll: String, CaseIterable, Sendable {
    /// It stays.
    case none
    /// The next business day.
    case following
    /// The next one, or, where that lies in another month of the calendar, the one before.
    case modifiedFollowing = "modified_following"
    /// The one before.
    case preceding
  }

  public static let weekdays = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]

  public var roll = Roll.none
  /// Days of the week that are never business days: a bit each, Monday is the lowest.
  public var restDays: UInt8 = 0
  /// Other days that are none, since 1970-01-01, rising, each once.
  public private(set) var holidays: [Int32] = []

  /// As many days as are looked at for a business day; where all of them are none, the date stays.
  private static let furthest: Int32 = 366

  public init(roll: Roll = .none, restDays: UInt8 = 0, holidays: [Int32] = []) {
    self.roll = roll
    self.restDays = restDays
    setHolidays(holidays)
  }

  public mutating func setHolidays(_ days: [Int32]) {
    holidays = days.sorted()
    holidays.indices.dropFirst().reversed().forEach { if holidays[$0] == holidays[$0 - 1] { holidays.remove(at: $0) } }
  }

  /// 0 for Monday.
  public static func weekday(of day: Int32) -> Int {
    // 1970-01-01 was a Thursday.
    let number = (Int(day) + 3) % 7
    return number < 0 ? number + 7 : number
  }

  public func isBusinessDay(_ day: Int32) -> Bool {
    if restDays >> UInt8(BusinessDays.weekday(of: day)) & 1 != 0 { return false }
    var (low, high) = (0, holidays.count)
    while low < high {
      let middle = (low + high) / 2
      if holidays[middle] < day { low = middle + 1 } else { high = middle }
    }
    return low == holidays.count || holidays[low] != day
  }

  /// The day to which a date goes.
  public func rolled(_ day: Int32) -> Int32 {
    guard roll != .none, !isBusinessDay(day) else { return day }
    switch roll {
    case .none: return day
    case .following: return next(day, 1)
    case .preceding: return next(day, -1)
    case .modifiedFollowing:
      let after = next(day, 1)
      return calendarPeriod(ofDay: after) == calendarPeriod(ofDay: day) ? after : next(day, -1)
    }
  }

  private func next(_ day: Int32, _ step: Int32) -> Int32 {
    for distance in 1...BusinessDays.furthest {
      let (other, isOver) = day.addingReportingOverflow(step * distance)
      if isOver { return day }
      if isBusinessDay(other) { return other }
    }
    return day
  }
}
