import Aggregates
import Domain
import Matching
import Simulation
import Testing

@testable import Pipeline

/// A record of a history, as a task takes it.
enum OrderToCashInput {
  case order(OrderEvent)
  case posting(Posting)

  var key: ByteView {
    switch self {
    case .order(let event): event.order
    case .posting(let posting): posting.order
    }
  }
}

/// What histories are reconciled under, made anew for each seed: a posting policy, perhaps fiscal periods of which some are
/// closed, perhaps a base currency.
struct OrderToCashSetting {
  var options: OrderToCashOptions
  var policy = MatchingPolicy()
  var calendar: FiscalCalendar?
  let dimensionCount = 2
  /// Dimensions that postings without a value have from their orders.
  let inherited: Set<Int>

  static let day: Int64 = 86_400_000
  /// 2026-01-12.
  static let start_ms: Int64 = 1_768_204_800_000
  static let start_d = Int32(start_ms / day)

  init(seed: UInt64, faultsPer100: Int = 20) throws {
    var random = SeededRandom(seed: seed, stream: 0x7365_7474)
    inherited = [[0, 1], [0, 1], [], [0, 1], [0], [1]][Int(seed % 6)]
    options = OrderToCashOptions()
    options.faultsPer100 = faultsPer100
    options.policy = [.inAdvance, .scheduled, .pointInTime, .pointInTime][random.below(4)]
    options.start_ms = OrderToCashSetting.start_ms
    policy.window_ms = 24 * 3_600_000
    policy.grace_ms = 3_600_000
    policy.outOfOrderness_ms = 0
    policy.retention_ms = 40_000 * OrderToCashSetting.day
    policy.openRetention_ms = 40_000 * OrderToCashSetting.day
    policy.maximumFuture_ms = 40_000 * OrderToCashSetting.day
    if options.policy != .pointInTime {
      let invoiced = Int(OrderEventKind.invoiced.rawValue)
      policy.entries[invoiced] = policy.entries[invoiced].map {
        PolicyEntry($0.role == .revenue ? .deferred : $0.role, $0.sign, $0.component)
      }
    }
    var checks = FinanceChecks()
    if random.below(2) == 0 {
      // Four weeks, four weeks, five weeks; then nothing.
      var periods: [FiscalCalendar.Period] = []
      var first = OrderToCashSetting.start_d - 40
      for number: Int32 in 1...12 {
        let days: Int32 = number % 3 == 0 ? 35 : 28
        var period = FiscalCalendar.Period(name: 202_600 + number, first_d: first, last_d: first + days - 1)
        if faultsPer100 > 0, random.below(4) == 0 {
          period.closedAt_ms = Int64(first + days + 3) * OrderToCashSetting.day
        }
        periods.append(period)
        first += days
      }
      calendar = try FiscalCalendar(periods)
      checks.calendar = calendar
      options.periods = [202_602, 202_603, 202_607]
    } else {
      options.periods = [202_601, 202_604, 202_612]
    }
    if random.below(2) == 0 {
      let base = Currency(random.below(3) == 0 ? "JPY" : "EUR")!
      var entries: [NaiveRates.Entry] = []
      for currency in options.currencies where currency != base {
        for week: Int32 in -2..<30 where random.below(12) != 0 {
          entries.append(
            .init(
              day_d: OrderToCashSetting.start_d + week * 7, currency: currency,
              rate_u: Int128(1_000 + random.below(2_999_999))))
        }
      }
      options.rates = NaiveRates(base: base, entries, maximumAge_d: 10)
      checks.exchange = ExchangeChecks(
        rates: try ExchangeRates(
          base: base,
          entries.map {
            .init(
              day: $0.day_d, from: $0.currency, to: base, rate: DecimalText(mantissa: Int64($0.rate_u), scale: 6))
          }, maximumAge_d: 10))
    }
    checks.appliesCash = random.below(2) == 0
    if options.policy == .scheduled { checks.schedules = RevenueSchedules() }
    if !checks.isEmpty { policy.checks = checks }
    if random.below(3) == 0 {
      policy.quantities.isEnabled = true
      policy.quantities.basis = random.pick(QuantityChecks.Basis.allCases)
      policy.quantities.comparesOrdered = random.below(2) == 0
    }
    options.hasLines = seed % 3 == 0
    policy.quantities.comparesLines = seed % 6 != 0
    if random.below(4) == 0 {
      policy.tolerances = policy.tolerances.map { _ in Tolerance(absolute_u: 3_000_000) }
    }
  }

  func period(_ day: Int32) -> Int32 {
    calendar.map { $0.period(ofDay: day) }
      ?? {
        let (year, month, _) = civilFromDays(Int(day))
        return Int32(year * 100 + month)
      }()
  }

  func books(_ history: History, dimensions: @escaping @Sendable ([String]) -> [String] = { $0 }) -> NaiveBooks {
    let calendar = calendar
    return NaiveBooks(
      history, rates: options.rates, policy: options.policy, inherited: inherited,
      period: { day in
        if let calendar { return calendar.periods.first { $0.first_d <= day && day <= $0.last_d }?.name ?? 0 }
        let (year, month, _) = civilFromDays(Int(day))
        return Int32(year * 100 + month)
      }, dimensions: dimensions)
  }
}

/// How a history is taken in.
struct OrderToCashCourse {
  var tasks = 1
  /// Event time moves on between the records, so that some of them come behind window and grace.
  var movesTime = false
  /// Tasks stop at any moment, and go on from an older checkpoint with what they had taken in since.
  var restarts = false
  /// What the second stage has kept is read anew at any moment.
  var rereads = false
}

/// What comes out.
struct OrderToCashResult {
  var messages: [CellKey: RevenueMessage] = [:]
  var breaks: [String: Break] = [:]
  var totals = ControlTotals()
  var problems: [String] = []

  var openBreaks: [String: Break] { breaks.filter { $0.value.state.isOpen || $0.value.state == .accepted } }

  /// What is left of a break that was told whenever: its evidence is that of the last time at which the break itself
  /// changed.
  var plainContents: [String: String] {
    plainBreaks.mapValues { made in
      "\(made.role.name) \(made.currency.code) \(made.expected ?? .min) \(made.posted ?? .min) "
        + "\(made.postedCurrency.code) \(made.state) \(made.hints)"
    }
  }

  /// Without what depends on when it was told.
  var plainBreaks: [String: Break] {
    openBreaks.filter { $0.value.type != .lateArrival }.mapValues {
      var copy = $0
      copy.revision = 0
      copy.state = copy.state.isOpen ? .open : copy.state
      copy.asOf_ms = 0
      return copy
    }
  }
}

/// The matchers of some tasks with their aggregates, and the second stage behind them: what a daemon does with records,
/// without the brokers.
final class OrderToCashRun {
  private enum Step {
    case take([OrderToCashInput])
    case advance(watermark_ms: Int64)
    case tell
  }

  private struct Checkpoint {
    var ties: [UInt8] = []
    var sums: [UInt8] = []
    var times: [UInt8] = []
    var aggregates: [UInt8] = []
    var now_ms: Int64 = 0
  }

  private final class Task {
    var matcher: Matcher
    var now_ms: Int64 = OrderToCashSetting.start_ms + 30_000 * OrderToCashSetting.day
    var checkpoint: Checkpoint?
    /// Since the checkpoint, or the beginning.
    var steps: [Step] = []
    var outputs = MatchOutputs()

    init(_ setting: OrderToCashSetting) { matcher = Task.makeMatcher(setting) }

    static func makeMatcher(_ setting: OrderToCashSetting) -> Matcher {
      var matcher = Matcher(policy: setting.policy, dimensionCount: setting.dimensionCount)
      var settings = AggregateSettings()
      settings.interval_ms = 1
      settings.countsQuantities = true
      matcher.inheritedDimensions = setting.inherited.reduce(0) { $0 | 1 << UInt8($1) }
      matcher.aggregates = TaskAggregates(
        dimensionCount: setting.dimensionCount, settings: settings,
        calendar: PeriodCalendar(setting.calendar))
      return matcher
    }
  }

  private let setting: OrderToCashSetting
  private let course: OrderToCashCourse
  private let tasks: [Task]
  private var random: SeededRandom
  private var epoch: UInt64 = 0
  private var merger: RevenueMerger
  /// The compacted topic of partials.
  private var topic: [[UInt8]: [UInt8]] = [:]
  private var result = OrderToCashResult()

  init(_ setting: OrderToCashSetting, _ course: OrderToCashCourse, seed: UInt64) {
    self.setting = setting
    self.course = course
    random = SeededRandom(seed: seed, stream: 0x636f_7572)
    tasks = (0..<course.tasks).map { _ in Task(setting) }
    merger = RevenueMerger(settling_ms: 0, taskCount: course.tasks, calendar: setting.calendar)
  }

  /// Takes the records in, in this order, until every tie is closed and everything has been told.
  func run(_ inputs: [OrderToCashInput]) -> OrderToCashResult {
    var rest = inputs[...]
    while !rest.isEmpty {
      let some = rest.prefix(1 + random.below(6))
      rest = rest.dropFirst(some.count)
      for (at, task) in tasks.enumerated() {
        let own = some.filter { Int(Fingerprint($0.key).low % UInt64(tasks.count)) == at }
        if !own.isEmpty { perform(.take(own), task) }
      }
      for (at, task) in tasks.enumerated() {
        if course.movesTime, random.below(4) == 0 {
          perform(.advance(watermark_ms: setting.options.start_ms + Int64(random.below(200)) * 86_400_000), task)
        }
        if random.below(3) == 0 { tell(at) }
        if course.restarts, random.below(5) == 0 { task.checkpoint = checkpoint(task) }
        if course.restarts, random.below(5) == 0 { restart(task) }
      }
      if course.rereads, random.below(4) == 0 { reread() }
      if random.below(2) == 0 { takeMessages() }
    }
    for (at, task) in tasks.enumerated() {
      // At a time by which every release of a service is due.
      task.matcher.finish(
        asOf_ms: setting.options.start_ms + 20_000 * OrderToCashSetting.day, outputs: &task.outputs)
      keepBreaks(task)
      result.totals.merge(task.matcher.totals)
      tell(at)
      merger.setWatermark(task: Int32(at), Int64.max / 4)
    }
    takeMessages()
    // A second stage that begins now reads the same.
    var again = RevenueMerger(settling_ms: 0, taskCount: 1, calendar: setting.calendar)
    again.setWatermark(task: 0, Int64.max / 4)
    fill(&again)
    let read = again.take()
    if read.count != result.messages.count {
      problem("\(read.count) messages are read again of \(result.messages.count)")
    }
    for message in read where result.messages[message.line.key]?.line != message.line {
      problem("read again, \(message.line.key) is another")
    }
    return result
  }

  private func problem(_ text: String) { result.problems.append(text) }

  // MARK: - Tasks

  private func perform(_ step: Step, _ task: Task) {
    apply(step, task)
    task.steps.append(step)
    keepBreaks(task)
  }

  private func apply(_ step: Step, _ task: Task) {
    task.now_ms += 10
    switch step {
    case .take(let inputs):
      for input in inputs {
        switch input {
        case .order(let event):
          withUnsafePointer(to: event) {
            task.matcher.apply(
              orders: UnsafeBufferPointer(start: $0, count: 1), now_ms: task.now_ms, outputs: &task.outputs)
          }
        case .posting(let posting):
          withUnsafePointer(to: posting) {
            task.matcher.apply(
              postings: UnsafeBufferPointer(start: $0, count: 1), now_ms: task.now_ms, outputs: &task.outputs)
          }
        }
      }
    case .advance(let watermark_ms):
      task.matcher.watermarks.force(watermark_ms)
      task.matcher.advance(now_ms: task.now_ms, outputs: &task.outputs)
    case .tell:
      _ = task.matcher.aggregates!.tell(now_ms: task.now_ms)
    }
  }

  private func keepBreaks(_ task: Task) {
    for made in task.outputs.breaks {
      let known = result.breaks[made.id]?.revision ?? 0
      if made.revision != known + 1 { problem("\(made.id) has revision \(made.revision) after \(known)") }
      result.breaks[made.id] = made
    }
    if !task.outputs.quarantined.isEmpty { problem("a record is refused as dated in the future") }
    task.outputs.removeAll()
  }

  private func checkpoint(_ task: Task) -> Checkpoint {
    func bytes(_ body: (inout ByteWriter) -> Void) -> [UInt8] {
      var writer = ByteWriter()
      body(&writer)
      return writer.array
    }
    task.steps = []
    return Checkpoint(
      ties: bytes { task.matcher.exportShard(0, bits: 0, into: &$0) },
      sums: bytes { task.matcher.exportSums(into: &$0) },
      times: bytes { task.matcher.watermarks.export(into: &$0) },
      aggregates: bytes { task.matcher.exportAggregates(into: &$0) }, now_ms: task.now_ms)
  }

  /// Begins anew from the checkpoint, and does what had been done since: what was told, is told again and dropped.
  private func restart(_ task: Task) {
    let before = digests(task)
    task.matcher = Task.makeMatcher(setting)
    if let checkpoint = task.checkpoint {
      func read(_ bytes: [UInt8], _ body: (inout ByteReader) throws -> Void) {
        bytes.withUnsafeBytes {
          var reader = ByteReader($0)
          do {
            try body(&reader)
            if !reader.isAtEnd { problem("a part of a checkpoint is not read to its end") }
          } catch { problem("a checkpoint cannot be read: \(error)") }
        }
      }
      var settings = AggregateSettings()
      settings.interval_ms = 1
      settings.countsQuantities = true
      read(checkpoint.times) { try task.matcher.watermarks.restore(from: &$0) }
      read(checkpoint.ties) { try task.matcher.importShard(0, bits: 0, from: &$0) }
      read(checkpoint.sums) { try task.matcher.importSums(from: &$0) }
      read(checkpoint.aggregates) { try task.matcher.aggregates!.restore(from: &$0, settings: settings) }
      task.now_ms = checkpoint.now_ms
    } else {
      task.now_ms = OrderToCashSetting.start_ms + 30_000 * OrderToCashSetting.day
    }
    for step in task.steps { apply(step, task) }
    task.outputs.removeAll()
    if digests(task) != before { problem("after a restart the state is another") }
  }

  private func digests(_ task: Task) -> [UInt64] {
    var ties = ByteWriter()
    var sums = ByteWriter()
    let digest = task.matcher.exportShard(0, bits: 0, into: &ties).digest
    task.matcher.exportSums(into: &sums)
    return [digest, Fingerprint(sums.view).low, task.matcher.aggregatesDigest]
  }

  // MARK: - Second stage

  private func tell(_ at: Int) {
    let task = tasks[at]
    task.now_ms += 10
    let told = task.matcher.aggregates!.tell(now_ms: task.now_ms)
    task.steps.append(.tell)
    epoch += 1
    for line in told.lines {
      let partial = CellPartial(task: Int32(at), epoch: epoch, line: line)
      var key = ByteWriter()
      var value = ByteWriter()
      partial.writeKey(into: &key)
      partial.writeValue(into: &value)
      topic[key.array] = value.array
      merger.apply(partial)
    }
  }

  private func fill(_ merger: inout RevenueMerger) {
    for (key, value) in topic.shuffled(using: &random) {
      key.withUnsafeBytes { key in
        value.withUnsafeBytes { value in
          do { merger.apply(try CellPartial(key: key, value: value)) } catch { problem("a partial: \(error)") }
        }
      }
    }
  }

  private func reread() {
    takeMessages()
    merger = RevenueMerger(settling_ms: 0, taskCount: course.tasks, calendar: setting.calendar)
    fill(&merger)
    for message in merger.take() where result.messages[message.line.key] != message {
      problem("read anew, \(message.line.key) is told as another")
    }
  }

  private func takeMessages() {
    for message in merger.take() {
      let before = result.messages.updateValue(message, forKey: message.line.key)
      if let before, before.status.revision >= message.status.revision {
        problem("\(message.line.key) has revision \(message.status.revision) after \(before.status.revision)")
      }
    }
  }
}

extension History {
  func inputs(_ storage: HistoryStorage) -> [OrderToCashInput] {
    events.map { .order(storage.record($0)) } + postings.map { .posting(storage.record($0)) }
  }
}
