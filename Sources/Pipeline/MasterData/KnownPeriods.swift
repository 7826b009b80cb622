import Configuration
import Domain
import Foundation
import Kafka
import Logging

/// The periods by which there are sums, as `<prefix>.known-periods` keeps them.
///
/// A cell is known by the name of its period alone. Were a period to have other days after a restart, what is taken back of
/// it would be taken back from another cell than it had been added to; so its days are written down before anything is
/// summed by it, and compared at every start. While the daemon runs, `Configuration.checkSuccessor` refuses the same.
struct KnownPeriods {
  private struct Entry: Codable {
    var period: String
    var first: String
    var last: String
  }

  /// Stands for all calendar months.
  private static let months = "months"

  /// Days by the name of the period.
  private var periods: [Int32: FiscalCalendar.Period] = [:]
  /// There are sums by calendar months.
  private var hasMonths = false
  private let topic: String

  /// Compares, and writes down what is new.
  /// - Throws: where a period has other days than when sums of it were made.
  static func settle(
    _ configuration: Configuration, producer: Producer, environment: any WorkerEnvironment = KafkaEnvironment()
  ) throws {
    guard configuration.sumsByPeriod else { return }
    let reader = try environment.makeReader(configuration)
    defer { reader.close() }
    let place = TopicPartition(configuration.periodsTopic, 0)
    let (low, stable) = try environment.retrying("asking for offsets", log: nil) { () throws(KafkaError) in
      try reader.bounds(place, timeout_ms: 30_000)
    }
    var records: [(key: [UInt8], value: [UInt8])] = []
    try reader.read(place, from: low, end: stable) { message in
      if let key = message.key, let value = message.value { records.append((Array(key), Array(value))) }
      return true
    }
    let known = try KnownPeriods(configuration.periodsTopic, records)
    if let moved = known.moved(configuration.policy.checks?.calendar) {
      throw TopicCheckError(description: "the calendar: \(moved.found). \(KnownPeriods.advice)")
    }
    try write(configuration, producer)
  }

  static let advice =
    "Give it its days back; to sum everything anew by other periods, start with another prefix and kafka.group"

  /// Writes the periods down; none that was changed.
  static func write(_ configuration: Configuration, _ producer: Producer) throws(KafkaError) {
    guard configuration.sumsByPeriod else { return }
    let topic = configuration.periodsTopic
    if let calendar = configuration.policy.checks?.calendar {
      for period in calendar.periods {
        try producer.produce(
          topic: topic, partition: 0, key: Array(period.text.utf8),
          value: Array(
            #"{"period":"\#(period.text)","first":"\#(formatDate(period.first_d))","last":"\#(formatDate(period.last_d))"}"#
              .utf8))
      }
    } else {
      try producer.produce(
        topic: topic, partition: 0, key: Array(months.utf8), value: Array(#"{"period":"calendar months"}"#.utf8))
    }
    try producer.flush(timeout_ms: 60_000)
  }

  /// - Parameter records: All of the topic, in their order.
  init(_ topic: String, _ records: [(key: [UInt8], value: [UInt8])]) throws(TopicCheckError) {
    self.topic = topic
    var entries: [String: Entry?] = [:]
    for (key, value) in records {
      entries[String(decoding: key, as: UTF8.self)] = .some(try? JSONDecoder().decode(Entry.self, from: Data(value)))
    }
    hasMonths = entries.removeValue(forKey: KnownPeriods.months) != nil
    for (key, entry) in entries {
      guard let entry, let name = Int32(key.filter { $0 != "-" }), let first_d = day(ofText: entry.first),
        let last_d = day(ofText: entry.last)
      else {
        throw TopicCheckError(description: "topic '\(topic)', partition 0: the record of '\(key)' is no period")
      }
      periods[name] = FiscalCalendar.Period(name: name, first_d: first_d, last_d: last_d)
    }
  }

  /// How many periods there are sums of, by their names; nil where they are calendar months, or there are none yet.
  var count: Int? { periods.isEmpty ? nil : periods.count }

  /// There are no sums yet.
  var isEmpty: Bool { periods.isEmpty && !hasMonths }

  /// The first period that has other days than when sums of it were made; nil where none has.
  func moved(_ calendar: FiscalCalendar?) -> (period: String, found: String)? {
    for known in periods.values.sorted(by: { $0.name < $1.name }) {
      let now = calendar.map { $0.period(named: known.name) } ?? FiscalCalendar.Period.month(known.name)
      if let now, (now.first_d, now.last_d) == (known.first_d, known.last_d) { continue }
      return problem(known.text, KnownPeriods.days(known), now.map { KnownPeriods.days($0) })
    }
    guard hasMonths, let calendar else { return nil }
    for period in calendar.periods {
      guard let month = FiscalCalendar.Period.month(period.name),
        (month.first_d, month.last_d) == (period.first_d, period.last_d)
      else { return problem(period.text, "a calendar month", KnownPeriods.days(period)) }
    }
    return nil
  }

  private static func days(_ period: FiscalCalendar.Period) -> String {
    "\(formatDate(period.first_d)) to \(formatDate(period.last_d))"
  }

  private func problem(_ period: String, _ then: String, _ now: String?) -> (period: String, found: String) {
    (
      period,
      "period \(period) is \(now ?? "gone"); it was \(then) when sums were made of it (topic "
        + "'\(topic)'), and they would be taken back from other cells than they had been added to"
    )
  }
}

extension FiscalCalendar.Period {
  /// The calendar month of that name; nil where it is none.
  fileprivate static func month(_ name: Int32) -> Self? {
    guard let last_d = TaskTimes.lastDay(ofPeriod: name) else { return nil }
    let first_d = Int32(daysFromCivil(year: Int(name / 100), month: Int(name % 100), day: 1))
    return Self(name: name, first_d: first_d, last_d: last_d)
  }
}

/// Days since 1970-01-01 of `2026-01-31`.
private func day(ofText text: String) -> Int32? {
  let parts = text.split(separator: "-").map { Int($0) }
  guard parts.count == 3, let year = parts[0], let month = parts[1], let day = parts[2], (1...12).contains(month),
    (1...daysInMonth(year: year, month: month)).contains(day)
  else { return nil }
  return Int32(daysFromCivil(year: year, month: month, day: day))
}
