import Aggregates
import Domain

/// How far the tasks have come, as they tell it to the second stage. It never goes back.
struct TaskTimes {
  /// By task: event times below are complete.
  private var watermarks: [Int32: Int64] = [:]
  /// By source, then task: the latest event time seen.
  private var sources: [String: [Int32: Int64]] = [:]
  private let settling_ms: Int64
  /// How many tasks there are: one that has said nothing yet may be behind all others.
  private let expected: Int
  /// What ends periods, where they are not calendar months.
  var calendar: FiscalCalendar?

  /// - Parameters:
  ///   - settling_ms: How long after the end of a period its figures are provisional: window + grace.
  ///   - taskCount: Tasks that there are, whether they have said something or not.
  ///   - calendar: What ends periods, where they are not calendar months.
  init(settling_ms: Int64, taskCount: Int, calendar: FiscalCalendar? = nil) {
    expected = taskCount
    self.settling_ms = settling_ms
    self.calendar = calendar
  }

  mutating func setWatermark(task: Int32, _ time_ms: Int64) {
    watermarks[task] = max(watermarks[task] ?? .min, time_ms)
  }

  mutating func setLatest(source: String, task: Int32, _ time_ms: Int64) {
    sources[source, default: [:]][task] = max(sources[source]?[task] ?? .min, time_ms)
  }

  /// Event time up to which all tasks are complete; the least possible before each has spoken. A task without records
  /// speaks when its sources are idle.
  var asOf_ms: Int64 { watermarks.count >= expected ? watermarks.values.min() ?? .min : .min }

  /// The latest event time of each source, by its name.
  var latest: [(source: String, time_ms: Int64)] {
    sources.map { (source: $0.key, time_ms: $0.value.values.max() ?? .min) }.sorted { $0.source < $1.source }
  }

  func latest_ms(_ source: String) -> Int64? { sources[source]?.values.max() }

  /// The last day of a calendar month's period; nil for other periods.
  static func lastDay(ofPeriod period: Int32) -> Int32? {
    let (year, month) = (Int(period / 100), Int(period % 100))
    guard (1_900...9_999).contains(year), (1...12).contains(month) else { return nil }
    return Int32(daysFromCivil(year: year, month: month, day: daysInMonth(year: year, month: month)))
  }

  /// Until the watermark of every task has passed the end of the period, with window and grace.
  func isProvisional(_ period: Int32) -> Bool {
    let last = calendar.map { $0.period(named: period)?.last_d } ?? TaskTimes.lastDay(ofPeriod: period)
    guard let last else { return true }
    let end_ms = (Int64(last) + 1) * millisecondsPerDay
    return asOf_ms < end_ms.addingReportingOverflow(settling_ms).partialValue
  }
}
