import Aggregates
import Domain

/// Makes the messages of `<prefix>.revenue` of what the tasks tell: their cells, and how far they have come.
///
/// A message carries balances, so a change of one period is a change of all later ones of its series. Its revision is
/// made of the epochs in which the cells of the series up to its period were told, so that it rises with each change and
/// is the same after a restart. When the watermark passes the end of a period with window and grace, what was
/// provisional comes once more as final.
struct RevenueMerger {
  private var cells = MergedCells()
  private var times: TaskTimes
  /// Told as provisional.
  private var provisional: Set<CellKey> = []

  /// - Parameters: As of `TaskTimes`.
  init(settling_ms: Int64, taskCount: Int, calendar: FiscalCalendar? = nil) {
    times = TaskTimes(settling_ms: settling_ms, taskCount: taskCount, calendar: calendar)
  }

  /// Periods may end on other days from now on.
  mutating func use(_ calendar: FiscalCalendar?) { times.calendar = calendar }

  mutating func apply(_ partial: CellPartial) {
    cells.apply(task: partial.task, epoch: partial.epoch, key: partial.line.key, values: partial.line.values)
  }

  /// A task has come so far. It never goes back.
  mutating func setWatermark(task: Int32, _ time_ms: Int64) { times.setWatermark(task: task, time_ms) }

  mutating func setLatest(source: String, task: Int32, _ time_ms: Int64) {
    times.setLatest(source: source, task: task, time_ms)
  }

  /// Event time up to which all tasks are complete; the least possible before each has spoken.
  var asOf_ms: Int64 { times.asOf_ms }

  /// The messages that have changed since the last call, by key.
  mutating func take() -> [RevenueMessage] {
    var first: [CellKey: Int32] = [:]
    for line in cells.takeChanged() {
      let series = line.key.series
      first[series] = min(first[series] ?? .max, line.key.period)
    }
    var messages: [RevenueMessage] = []
    let latest = times.latest
    let passed = provisional.filter { !times.isProvisional($0.period) }
    let affected = Set(first.keys).union(passed.map(\.series))
    for series in affected.sorted() {
      let lines = cells.series(of: series)
      var revision: UInt64 = 0
      var revisions: [Int32: UInt64] = [:]
      for line in lines {
        revision &+= line.revision
        revisions[line.key.period] = revision
      }
      let made = RevenueMessage.of(series: lines.map { CellLine(key: $0.key, values: $0.values) }) { line in
        let isProvisional = times.isProvisional(line.key.period)
        return MessageStatus(
          revision: (revisions[line.key.period] ?? 0) &* 2 &+ (isProvisional ? 0 : 1), asOf_ms: asOf_ms,
          watermarks: latest, isProvisional: isProvisional)
      }
      for message in made {
        let key = message.line.key
        guard key.period >= first[series] ?? .max || passed.contains(key) else { continue }
        if message.status.isProvisional { provisional.insert(key) } else { provisional.remove(key) }
        messages.append(message)
      }
    }
    return messages
  }
}
