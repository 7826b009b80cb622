import Aggregates
import Configuration
import Decoding
import Domain
import Foundation
import Kafka
import Logging

/// Follows the cells that the daemon's tasks add up, compares them with the budget, and tells the variances: a job of its
/// own, beside the daemon.
///
/// The cells are cumulative and the newest of each task counts, so that reading their compacted topic from the beginning
/// is the whole recovery. What was told before is compared with what would be told now, so that a restart tells only
/// what has changed, another budget revises what it changes, and revisions go on. A file of the budget is read again
/// when it changes; one that cannot be read changes nothing. A topic of it is read to its end before anything is told, and
/// then followed.
public final class VarianceJob: TellingStage, @unchecked Sendable {
  public struct Status: Sendable, Equatable {
    /// Messages of the topics that have been read.
    public var records = 0
    public var cells = 0
    public var lines = 0
    public var messages = 0
    /// How often another budget was taken up, after the first.
    public var budgets = 0
    public var isAtEnd = false
  }

  private let settings: VarianceSettings
  private let figures: VarianceFigures
  private let endsAtEnd: Bool
  private let topics: [String]
  private let state = NSLock()
  private var told = Status()
  private var budget: Budget
  /// Of the file as it was last read: when it was changed, and its size.
  private var stamp: FileStamp?
  private var follower: TableFollower?
  private var lastProblem = ""
  /// Of a topic.
  private var rows = BudgetRows()
  /// Records of the topic that make no line, which nobody has reported yet.
  private var badRows: [Message] = []
  /// How far the topic has been read and reported, as `<prefix>.tables` says.
  private var reported: [String: Int64] = [:]
  private var nextReport_ms: Int64 = 0
  private var letterEncoder = DeadLetterEncoder()
  /// In the place of a table's name, which it is not.
  static let budgetName = "(budget)"
  private var cells = MergedCells()
  private var times: TaskTimes
  private var published = PublishedFigures()
  private var known: Set<BudgetKey> = []
  private var next: [TopicPartition: Int64] = [:]
  private var behind: Set<TopicPartition> = []
  private var isAssigned = false
  /// Something has come that may change figures.
  private var isChanged = true
  /// Figures have been told since the process began.
  private var hasTold = false
  /// Periods that were last told as provisional.
  private var provisional: Set<Int32> = []
  private var encoder: FinanceEncoder

  private struct FileStamp: Equatable {
    var changedAt: Date?
    var bytes: Int?

    init(_ path: String) {
      let attributes = try? FileManager.default.attributesOfItem(atPath: path)
      changedAt = attributes?[.modificationDate] as? Date
      bytes = attributes?[.size] as? Int
    }
  }

  /// - Parameter endsAtEnd: Whether it ends when the topics have been read to their end and the figures told.
  /// - Throws: where the configuration enables no variance, or the registry does not take the schema of its topic.
  public init(
    configuration: Configuration, endsAtEnd: Bool = false, stop: StopFlag, log: Logger,
    environment: any WorkerEnvironment = KafkaEnvironment()
  ) throws {
    guard let settings = configuration.variance else {
      throw FileRunError("nothing is compared with a budget: set variance.enabled in the configuration")
    }
    self.settings = settings
    self.endsAtEnd = endsAtEnd
    budget = settings.budget
    figures = VarianceFigures(settings: settings, dimensions: configuration.dimensions)
    topics = [configuration.partialsTopic, configuration.varianceTopic] + [settings.budgetTopic].compactMap { $0 }
    times = VarianceJob.times(configuration)
    encoder = FinanceEncoder(dimensionNames: settings.by)
    try super.init(
      "variance", outputs: settings.budgetTopic == nil ? [.variance] : [.variance, .deadLetters],
      configuration: configuration, stop: stop, log: log, environment: environment)
  }

  private static func times(_ configuration: Configuration) -> TaskTimes {
    let policy = configuration.policy
    return TaskTimes(
      settling_ms: policy.window_ms.addingReportingOverflow(policy.grace_ms).partialValue,
      taskCount: configuration.taskCount,
      calendar: policy.checks?.calendar)
  }

  public var status: Status { state.withLock { told } }

  private func note(_ change: (inout Status) -> Void) { state.withLock { change(&told) } }

  // MARK: - The way of the records

  override func runOnce() throws {
    try open(role: "variance", topics: topics)
    defer { close() }
    if follower == nil { follower = try TableFollower(configuration, log: log, environment: environment) }
    forget()
    if settings.budgetTopic != nil {
      let reader = try environment.makeReader(configuration)
      defer { reader.close() }
      reported = try TopicTables.positions(configuration, reader, environment)
    }
    schemaProblem = nil
    var nextTelling_ms = environment.monotonic_ms()
    while !stop.isStopped {
      let count = try consumer.consume(timeout_ms: 100, { self.take($0) }, finish: {})
      if let schemaProblem { throw schemaProblem }
      for error in consumer.errors {
        if error.isFatal || error.isOutOfRange { throw error }
        log.warning("\(error)")
      }
      for end in consumer.ended { behind.remove(end.place) }
      if let places = try consumer.answerRebalance(start: .beginning) {
        forget()
        behind = Set(places)
        isAssigned = !places.isEmpty
        continue
      }
      let isAtEnd = isAssigned && behind.isEmpty
      note {
        $0.records += count
        $0.cells = cells.count
        $0.isAtEnd = isAtEnd
      }
      // Sums of half a history would be wrong ones.
      guard isAtEnd, environment.monotonic_ms() >= nextTelling_ms else { continue }
      let started_ms = environment.monotonic_ms()
      refreshCalendar()
      if settings.budgetTopic == nil {
        refreshBudget()
      } else {
        takeUpRows()
        guard try reportRows() else { continue }
      }
      guard try tell() else { continue }
      let taken_ms = environment.monotonic_ms() - started_ms
      nextTelling_ms = environment.monotonic_ms() + max(settings.interval_ms, VarianceJob.restFactor * taken_ms)
      if endsAtEnd {
        end(nil)
        return
      }
    }
  }

  private func forget() {
    cells = MergedCells()
    times = VarianceJob.times(follower?.configuration ?? configuration)
    published = PublishedFigures()
    rows = BudgetRows()
    badRows = []
    (known, next, behind, provisional) = ([], [:], [], [])
    (isAssigned, isChanged) = (false, true)
  }

  private func take(_ message: ConsumedMessage) {
    guard message.topic >= 0 else { return }
    let place = TopicPartition(topics[message.topic], message.partition)
    // The library may hand some out again after a rebalance.
    guard message.offset >= next[place] ?? 0 else { return }
    next[place] = message.offset + 1
    if message.topic == 2 {
      takeRow(message)
    } else if message.topic == 1 {
      takePublished(message)
    } else if let key = message.key, CellPartial.isKey(UnsafeRawBufferPointer(key)) {
      guard let value = message.value else { return }
      do throws(ByteCodingError) {
        let partial = try CellPartial(key: UnsafeRawBufferPointer(key), value: UnsafeRawBufferPointer(value))
        if cells.apply(
          task: partial.task, epoch: partial.epoch, key: partial.line.key, values: partial.line.values)
        {
          isChanged = true
        }
      } catch {
        log.warning(
          "a partial cell cannot be read",
          metadata: [
            "topic": "\(place.topic)", "partition": "\(place.partition)", "offset": "\(message.offset)",
            "error": "\(error)",
          ])
      }
    } else if let partial = Partial(key: message.key, value: message.value),
      partial.cell.hasPrefix(Partial.timePrefix)
    {
      let source = String(partial.cell.dropFirst(Partial.timePrefix.count))
      if source.isEmpty {
        times.setWatermark(task: partial.task, partial.value)
      } else {
        times.setLatest(source: source, task: partial.task, partial.value)
      }
    }
  }

  private func takePublished(_ message: ConsumedMessage) {
    guard let key = message.key, let value = message.value, let made = try? json(value),
      made.withUnsafeBufferPointer({ published.take(key: key, value: $0) }) != nil
    else { return }
    if let made = budgetKey(PublishedFigures.parts(key)) { known.insert(made) }
  }

  /// The key of a message, where it is one of this configuration: dimensions, currency, view, period, measure.
  private func budgetKey(_ parts: [String]) -> BudgetKey? {
    let count = settings.by.count
    guard parts.count == count + 4, let currency = Currency(parts[count]),
      parts[count + 1] == (settings.isBase ? "base" : "transaction"), let period = Int32(parts[count + 2]),
      let measure = Measure(rawValue: parts[count + 3])
    else { return nil }
    return BudgetKey(dimensions: Array(parts[..<count]), currency: currency, period: period, measure: measure)
  }

  private func takeRow(_ message: ConsumedMessage) {
    do {
      try rows.take(message, settings)
    } catch {
      let place = TopicPartition(topics[2], message.partition)
      guard message.offset >= reported[TopicTables.position(VarianceJob.budgetName, place)] ?? 0 else { return }
      log.error(
        "a line of the budget cannot be taken in",
        metadata: [
          "topic": "\(place.topic)", "partition": "\(message.partition)", "offset": "\(message.offset)",
          "key": "\(message.key.map { String(decoding: $0, as: UTF8.self) } ?? "")", "error": "\(error)",
        ])
      let key = message.key.map { Array($0) }
      let value = message.value.map { Array($0) }
      let letter = DeadLetter(
        source: VarianceJob.budgetName, origin: place.topic, isFile: false, partition: message.partition,
        offset: message.offset, key: key, payload: value, fault: DataFault(.schemaInvalid, detail: "\(error)"),
        payloadBytes: value?.count ?? 0, receivedAt_ms: message.timestamp_ms > 0 ? message.timestamp_ms : nil)
      badRows.append(Message(output: .deadLetters, key: key ?? [], value: letterEncoder.encode(letter)))
    }
  }

  /// Sends what made no line to dead letters, and how far the topic has been read, so that a restart does not repeat it; the
  /// latter again before retention takes it.
  /// - Returns: whether that is done.
  private func reportRows() throws -> Bool {
    let now_ms = environment.monotonic_ms()
    guard !badRows.isEmpty || now_ms >= nextReport_ms else { return true }
    var positions: [String: Int64] = [:]
    for (place, offset) in next where place.topic == topics[2] {
      positions[TopicTables.position(VarianceJob.budgetName, place)] = offset
    }
    let messages = positions.sorted { $0.key < $1.key }.map {
      Message(topic: configuration.tablesTopic, key: Array($0.key.utf8), value: Array("\($0.value)".utf8))
    }
    guard try send(badRows + messages) else { return false }
    badRows = []
    reported.merge(positions) { max($0, $1) }
    nextReport_ms = now_ms + max(configuration.epochRetention_ms, 3_600_000) / 2
    return true
  }

  // MARK: - Telling

  /// Goes on with the budget as its topic says it now.
  private func takeUpRows() {
    guard rows.isChanged else { return }
    rows.isChanged = false
    guard let read = rows.budget else {
      log.error(
        "the budget stays as it is",
        metadata: ["topic": "\(topics[2])", "error": "it has more than \(Budget.maximumLines) lines"])
      return
    }
    guard read != budget else { return }
    budget = read
    isChanged = true
    if hasTold { note { $0.budgets += 1 } }
    log.notice("budget read", metadata: ["topic": "\(topics[2])", "lines": "\(read.lines.count)"])
  }

  /// Reads the budget again where its file has changed.
  private func refreshBudget() {
    let now = FileStamp(settings.budgetPath)
    guard now != stamp else { return }
    do {
      let read = try settings.readBudget()
      stamp = now
      lastProblem = ""
      guard read != budget else { return }
      budget = read
      isChanged = true
      note { $0.budgets += 1 }
      log.notice(
        "budget read again", metadata: ["file": "\(settings.budgetPath)", "lines": "\(read.lines.count)"])
    } catch {
      // Said once, not at every look; and looked at again, since it may just be being written.
      if "\(error)" != lastProblem { log.error("the budget stays as it is", metadata: ["error": "\(error)"]) }
      lastProblem = "\(error)"
    }
  }

  /// Where the daemon follows the calendar, so does the job: it says when a period is over.
  private func refreshCalendar() {
    guard let follower, follower.refresh()?.contains(where: { $0.kind == .calendar }) == true else { return }
    times.calendar = follower.configuration.policy.checks?.calendar
    isChanged = true
  }

  /// Makes the figures and sends what has changed.
  private func tell() throws -> Bool {
    guard isChanged || published.isChanged || provisional.contains(where: { !times.isProvisional($0) }) else {
      return true
    }
    let (asOf_ms, latest) = (times.asOf_ms, times.latest)
    let messages = figures.messages(
      cells.lines.map { CellLine(key: $0.key, values: $0.values) }, budget: budget, known: known
    ) {
      MessageStatus(
        revision: 0, asOf_ms: asOf_ms, watermarks: latest, isProvisional: times.isProvisional($0.period))
    }
    var changed: [(message: Message, key: BudgetKey, revision: UInt64)] = []
    for var message in messages {
      let key = FinanceEncoder.key(message)
      message.status.revision = published.revision(key) + 1
      let value = encoder.encode(message)
      guard published.isNew(key: key, value: value) else { continue }
      changed.append(
        (
          Message(output: .variance, key: key, value: value),
          BudgetKey(
            dimensions: message.series.dimensions, currency: message.series.currency, period: message.period,
            measure: Measure(rawValue: message.measure)!), message.status.revision
        ))
    }
    guard try send(changed.map(\.message)) else { return false }
    for made in changed {
      published.keep(key: made.message.key, value: made.message.value, revision: made.revision)
      known.insert(made.key)
    }
    published.isChanged = false
    (isChanged, hasTold) = (false, true)
    provisional = Set(messages.filter(\.status.isProvisional).map(\.period))
    note {
      $0.lines = messages.count
      $0.messages += changed.count
    }
    if !changed.isEmpty { log.info("told", metadata: ["messages": "\(changed.count)"]) }
    return true
  }
}

extension VarianceJob {
  /// The job against a real cluster, with its topics there; or against the embedded broker, at least once.
  public static func prepared(
    _ configuration: Configuration, endsAtEnd: Bool = false, stop: StopFlag, log: Logger
  ) throws -> VarianceJob {
    let configuration = try configuration.readingTopicTables(log: log)
    // What is wrong with the configuration is said before the cluster is asked.
    let job = try VarianceJob(configuration: configuration, endsAtEnd: endsAtEnd, stop: stop, log: log)
    let settled = try settled(configuration, log: log)
    if settled.kafka.delivery == configuration.kafka.delivery, settled.taskCount == configuration.taskCount {
      return job
    }
    return try VarianceJob(configuration: settled, endsAtEnd: endsAtEnd, stop: stop, log: log)
  }
}
