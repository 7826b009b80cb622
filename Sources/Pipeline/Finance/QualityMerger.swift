import Aggregates
import Domain

/// Makes the messages of `<prefix>.quality` of what the tasks have counted: a source in a month, how its orders stand, how
/// all do, and the control totals of a period.
///
/// A partial is cumulative and the newest of each task counts, as with revenue (`RevenueMerger`): reading the compacted
/// topic from the beginning is the whole recovery, and the revision is the same after a restart.
struct QualityMerger {
  private struct Name: Hashable, Comparable {
    var source: String
    var period: Int32

    static func < (a: Name, b: Name) -> Bool {
      a.source != b.source ? a.source.utf8.lexicographicallyPrecedes(b.source.utf8) : a.period < b.period
    }
  }

  private struct Part {
    var epoch: UInt64
    var counts: QualityCounts
    var control: QualityControl?
  }

  /// By source and period, then by task.
  private var cells: [Name: [Int32: Part]] = [:]
  private var changed: Set<Name> = []
  /// Told as provisional.
  private var provisional: Set<Name> = []

  mutating func apply(_ partial: QualityPartial) {
    let name = Name(source: partial.source, period: partial.period)
    if let known = cells[name]?[partial.task], known.epoch >= partial.epoch { return }
    cells[name, default: [:]][partial.task] = Part(
      epoch: partial.epoch, counts: partial.counts, control: partial.control)
    changed.insert(name)
  }

  /// The messages that have changed since the last call, by source and period.
  /// - Parameter calendar: What ends the periods of the control totals, where they are not calendar months.
  mutating func take(_ times: TaskTimes, calendar: FiscalCalendar? = nil, now_ms: Int64) -> [QualityMessage] {
    var fiscal = times
    fiscal.calendar = calendar
    func isProvisional(_ name: Name) -> Bool {
      name.source == QualityKey.allSources ? fiscal.isProvisional(name.period) : times.isProvisional(name.period)
    }
    let passed = provisional.filter { !isProvisional($0) }
    let due = changed.union(passed)
    guard !due.isEmpty else { return [] }
    changed = []
    return due.sorted().map { name in
      let isProvisional = isProvisional(name)
      if isProvisional { provisional.insert(name) } else { provisional.remove(name) }
      var counts = QualityCounts()
      var control: QualityControl?
      var revision: UInt64 = 0
      for part in cells[name]!.values {
        counts += part.counts
        if let more = part.control {
          var sum = control ?? QualityControl()
          sum += more
          control = sum
        }
        revision &+= part.epoch
      }
      return QualityMessage(
        source: name.source, period: name.period, counts: counts, control: control,
        freshnessLag_ms: times.latest_ms(name.source).map { now_ms - $0 },
        status: MessageStatus(
          revision: revision &* 2 &+ (isProvisional ? 0 : 1), asOf_ms: times.asOf_ms, watermarks: times.latest,
          isProvisional: isProvisional))
    }
  }
}
