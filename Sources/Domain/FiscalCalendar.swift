/// Accounting periods as a company cuts and closes them, where they are not the months of the calendar.
///
/// The periods follow each other without gap or overlap, and their names rise with them, so that sums by period add up
/// and sort as time does.
public struct FiscalCalendar: Sendable, Equatable {
  /// One period, from its first to its last day.
  public struct Period: Sendable, Equatable {
    /// Year × 100 + number of the period, 202601; the number is from 1 to 99.
    public var name: Int32
    /// Days since 1970-01-01, both inclusive.
    public var first_d: Int32
    public var last_d: Int32
    /// From when on nothing may be entered into it; nil while it is open.
    public var closedAt_ms: Int64?

    public init(name: Int32, first_d: Int32, last_d: Int32, closedAt_ms: Int64? = nil) {
      self.name = name
      self.first_d = first_d
      self.last_d = last_d
      self.closedAt_ms = closedAt_ms
    }

    /// The name as a person writes it, `2026-01`.
    public var text: String {
      let (year, number) = (name / 100, name % 100)
      return "\(year)-\(number < 10 ? "0" : "")\(number)"
    }
  }

  /// Why periods make no calendar.
  public struct Fault: Error, Equatable, Sendable {
    /// Place of the period at fault among those given.
    public var index: Int
    public var message: String
  }

  /// In the order of time; at least one.
  public let periods: [Period]

  /// Throws where a period ends before it begins, two overlap, a day between two belongs to none, or the names do not
  /// rise with time.
  public init(_ periods: [Period]) throws(Fault) {
    guard !periods.isEmpty else { throw Fault(index: 0, message: "there is no period") }
    let order = periods.indices.sorted { periods[$0].first_d < periods[$1].first_d }
    for (place, index) in order.enumerated() {
      let period = periods[index]
      guard period.first_d <= period.last_d else {
        throw Fault(
          index: index,
          message: "period \(period.text) ends on \(formatDate(period.last_d)), before it begins on "
            + formatDate(period.first_d))
      }
      guard place > 0 else { continue }
      let before = periods[order[place - 1]]
      guard period.first_d > before.last_d else {
        throw Fault(index: index, message: "periods \(before.text) and \(period.text) overlap")
      }
      guard period.first_d == before.last_d + 1 else {
        throw Fault(
          index: index,
          message: "no period holds \(formatDate(before.last_d + 1)), between \(before.text) and \(period.text)")
      }
      guard period.name > before.name else {
        throw Fault(index: index, message: "period \(period.text) comes after \(before.text), and its name does not")
      }
    }
    self.periods = order.map { periods[$0] }
  }

  /// The period that holds a day; 0 for a day before the first or after the last of them.
  public func period(ofDay day: Int32) -> Int32 {
    // The first period that begins after the day.
    var (low, high) = (0, periods.count)
    while low < high {
      let middle = (low + high) / 2
      if periods[middle].first_d <= day { low = middle + 1 } else { high = middle }
    }
    guard low > 0, day <= periods[low - 1].last_d else { return 0 }
    return periods[low - 1].name
  }

  /// A period by its name; nil where there is none.
  public func period(named name: Int32) -> Period? {
    var (low, high) = (0, periods.count)
    while low < high {
      let middle = (low + high) / 2
      if periods[middle].name < name { low = middle + 1 } else { high = middle }
    }
    return low < periods.count && periods[low].name == name ? periods[low] : nil
  }

  /// Whether a period was closed at a time. One that the calendar does not have never was.
  public func isClosed(_ name: Int32, at time_ms: Int64) -> Bool {
    guard let closedAt_ms = period(named: name)?.closedAt_ms else { return false }
    return closedAt_ms <= time_ms
  }
}

/// The period in which something counts that was entered into one: that one, or, of a period from 13 to 16 that the calendar
/// does not have, the last of the same year. Ledgers have such ones for what is entered at the end of a year.
public func countedPeriod(_ entered: Int32, _ calendar: FiscalCalendar?) -> Int32 {
  guard (13...16).contains(entered % 100) else { return entered }
  guard let calendar else { return entered - entered % 100 + 12 }
  return calendar.periods.last { $0.name <= entered && $0.name / 100 == entered / 100 }?.name ?? entered
}

/// The accounting period that holds a day, and its last day; by calendar month where the fiscal calendar has none.
public func accountingPeriod(ofDay day: Int32, _ calendar: FiscalCalendar?) -> (name: Int32, last_d: Int32) {
  if let calendar, let period = calendar.period(named: calendar.period(ofDay: day)) {
    return (period.name, period.last_d)
  }
  let (year, month, _) = civilFromDays(Int(day))
  let last = daysFromCivil(year: year, month: month, day: daysInMonth(year: year, month: month))
  return (Int32(year * 100 + month), Int32(last))
}

/// How a service of so many periods ends.
public enum ServiceTerm: Sendable, Equatable {
  /// Months to the day: twelve from 2026-01-15 on end on 2027-01-14. From the last days of a month on, with the day before
  /// the last of a shorter one.
  case months
  /// Accounting periods: that of the first day counts as the first, and the service ends with the last.
  case periods(FiscalCalendar?)

  /// The last day of a service of `count` periods, one at least, that begins on a day.
  public func last_d(from first: Int32, count: Int) -> Int32 {
    switch self {
    case .months:
      let (year, month, day) = civilFromDays(Int(first))
      let months = year * 12 + month - 1 + count
      let (endYear, endMonth) = (months / 12, months % 12 + 1)
      let end = daysFromCivil(
        year: endYear, month: endMonth, day: min(day, daysInMonth(year: endYear, month: endMonth)))
      return Int32(end) - 1
    case .periods(let calendar):
      var last = accountingPeriod(ofDay: first, calendar).last_d
      for _ in 1..<max(1, count) { last = accountingPeriod(ofDay: last + 1, calendar).last_d }
      return last
    }
  }
}
