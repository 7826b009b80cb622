import Configuration
import Decoding
import Domain
import Forecasting
import Foundation
import Kafka
import Logging
import SchemaRegistry
import Matching

/// Follows the sources and the breaks, and tells cash flow and receivables: a job of its own, beside the daemon.
///
/// Its state is what the topics hold: it reads them from the beginning, its own two as well, and tells nothing before it
/// has come to their end. What it told before is compared with what it would tell now, so that a restart tells only what
/// has changed, and revisions go on. A second one takes over from the first, which ends.
public final class FlowsJob: TellingStage, @unchecked Sendable {
  /// How the job runs.
  public struct Options: Sendable {
    /// The last day of what is to be known; nil follows event time: the last day that is over in all sources.
    public var asOf_d: Int32?
    /// Ends when the topics have been read to their end and the figures told. Without `asOf_d` these are of the last
    /// day of which anything is known.
    public var endsAtEnd = false
    /// Gets all figures in place of the topics, as JSON: a look that writes nothing, reads nothing of what was told, and
    /// ends no other job. Goes with `endsAtEnd`.
    public var show: (@Sendable (Output, [UInt8]) -> Void)?

    public init() {}
  }

  public struct Status: Sendable, Equatable {
    /// Messages of all topics that have been read, those of its own two among them.
    public var records = 0
    public var facts = 0
    public var messages = 0
    public var asOf_d: Int32?
    /// How long the figures took the last time.
    public var lastRun_ms: Int64 = 0
    public var isAtEnd = false
  }

  private var settings: FlowSettings
  private let options: Options
  private let state = NSLock()
  private var told = Status()

  private let topics: [String]
  /// Tables as they are now.
  private var current: Configuration
  private var follower: TableFollower?
  private var assigned: [TopicPartition] = []
  /// Rates or a calendar have changed since the last telling.
  private var hasNewTables = false
  private var lanes: [FlowLane] = []
  private var ledger: FlowLedger
  private var watermarks: Watermarks
  private var published = PublishedFlows()
  private var next: [TopicPartition: Int64] = [:]
  private var behind: Set<TopicPartition> = []
  private var trimmed: Set<TopicPartition> = []
  private var broken: FlowLedger.Full?
  private var schemas: SchemaLookup?
  /// How far a place had been read when it was last read to its end.
  private var ends: [TopicPartition: Int64] = [:]
  private var reader: (any LogReader)!
  private var unreadableBreaks = 0
  /// When the batch that is being taken in was asked for.
  private var now_ms: Int64 = 0
  private var encoder: FinanceEncoder
  /// What the last figures were made for.
  private var lastAsOf_d: Int32?
  private var lastIsProvisional: Bool?

  /// - Throws: where the configuration enables no flows, or the registry does not take the schemas of its topics.
  public init(
    configuration: Configuration, options: Options = Options(), stop: StopFlag, log: Logger,
    environment: any WorkerEnvironment = KafkaEnvironment()
  ) throws {
    guard let settings = configuration.flows else {
      throw FileRunError("flows are not enabled: set flows.enabled in the configuration")
    }
    self.settings = settings
    self.options = options
    current = configuration
    topics =
      configuration.sources.map(\.originalTopic)
      + [configuration.breaksTopic]
      + (options.show == nil ? [configuration.cashflowTopic, configuration.receivablesTopic] : [])
    ledger = FlowLedger(
      settings: settings, dimensions: configuration.dimensions, positioned: configuration.policy.positioned)
    watermarks = FlowsJob.watermarks(configuration)
    encoder = FinanceEncoder(dimensionNames: settings.by)
    try super.init(
      "flows", outputs: [.cashflow, .receivables], configuration: configuration, stop: stop, log: log,
      environment: environment, show: options.show)
  }

  private static func watermarks(_ configuration: Configuration) -> Watermarks {
    Watermarks(
      outOfOrderness_ms: configuration.policy.outOfOrderness_ms, idleTimeout_ms: configuration.policy.idleTimeout_ms)
  }

  public var status: Status { state.withLock { told } }

  private func note(_ change: (inout Status) -> Void) { state.withLock { change(&told) } }

  // MARK: - The way of the records

  override func runOnce() throws {
    reader = try environment.makeReader(configuration)
    defer {
      reader.close()
      reader = nil
    }
    try open(role: "flows", topics: topics)
    defer { close() }
    schemaProblem = nil
    if follower == nil { follower = try TableFollower(configuration, log: log, environment: environment) }
    try makeLanes()
    forget()
    var nextTelling_ms = environment.monotonic_ms()
    while !stop.isStopped {
      now_ms = environment.wallClock_ms()
      let count = try consumer.consume(timeout_ms: 100, { self.take($0) }, finish: {})
      if let schemaProblem { throw schemaProblem }
      for error in consumer.errors {
        if error.isFatal || error.isOutOfRange { throw error }
        log.warning("\(error)")
      }
      if let broken {
        end(broken)
        return
      }
      for end in consumer.ended {
        behind.remove(end.place)
        if next[end.place] == nil { noteEmptied(end.place) }
        ends[end.place] = end.offset
      }
      if let places = try consumer.answerRebalance(start: .beginning) {
        begin(places)
        continue
      }
      if let changed = follower?.refresh() {
        try takeUp(changed)
        continue
      }
      let isAtEnd = !watermarks.isEmpty && behind.isEmpty
      note {
        $0.records += count
        $0.isAtEnd = isAtEnd
        $0.facts = ledger.factCount
      }
      // Figures of half a history would be wrong ones.
      guard isAtEnd, environment.monotonic_ms() >= nextTelling_ms else { continue }
      let started_ms = environment.monotonic_ms()
      guard try tell() else { continue }
      let taken_ms = environment.monotonic_ms() - started_ms
      note { $0.lastRun_ms = taken_ms }
      nextTelling_ms = environment.monotonic_ms() + max(settings.interval_ms, FlowsJob.restFactor * taken_ms)
      if options.endsAtEnd {
        end(nil)
        return
      }
    }
  }

  private func makeLanes() throws {
    let lookup = SchemaLookup(current)
    schemas = lookup
    lanes = try current.sources.map {
      try FlowLane($0, current.flows ?? settings, current.dimensions.count, schemas: lookup?.registry)
    }
  }

  /// The places are read from the beginning.
  private func begin(_ places: [TopicPartition]) {
    forget()
    assigned = places
    behind = Set(places)
    for place in places {
      if let source = topics.firstIndex(of: place.topic), source < lanes.count {
        watermarks.register(source: UInt16(source), partition: place.partition, now_ms: environment.wallClock_ms())
      }
    }
  }

  /// Goes on with other tables. The figures are those of all records by the tables as they are now, so that a restart tells
  /// the same: where a table of values or a business day has changed, the topics are read again from the beginning.
  private func takeUp(_ changed: [TableSource]) throws {
    current = follower!.configuration
    hasNewTables = true
    let days = settings.businessDays
    if let flows = current.flows { settings = flows }
    guard changed.contains(where: { $0.kind == .values }) || settings.businessDays != days else { return }
    try makeLanes()
    try consumer.assign(Dictionary(uniqueKeysWithValues: assigned.map { ($0, .beginning) }))
    begin(assigned)
  }

  private func forget() {
    ledger = FlowLedger(
      settings: settings, dimensions: configuration.dimensions, positioned: configuration.policy.positioned)
    watermarks = FlowsJob.watermarks(configuration)
    published = PublishedFlows()
    for lane in lanes { lane.forget() }
    next = [:]
    behind = []
    ends = [:]
    trimmed = []
    unreadableBreaks = 0
    lastAsOf_d = nil
  }

  private func take(_ message: ConsumedMessage) {
    guard broken == nil, schemaProblem == nil, message.topic >= 0 else { return }
    if let problem = schemas?.problem(source: message.topic, message) {
      schemaProblem = problem
      return
    }
    let place = TopicPartition(topics[message.topic], message.partition)
    // The library may hand some out again after a rebalance.
    guard message.offset >= next[place] ?? 0 else { return }
    if message.topic < lanes.count, next[place] == nil, message.offset > 0,
      let low = consumer.cachedOffsets(place)?.low, low > 0
    {
      trimmed.insert(place)
      log.warning(
        "the oldest records are gone: what they held is not in the figures",
        metadata: ["place": "\(place)", "oldest": "\(message.offset)"])
    }
    next[place] = message.offset + 1
    switch message.topic - lanes.count {
    case ..<0: takeRecord(message)
    case 0: takeBreak(message)
    default: takePublished(message)
    }
  }

  /// A source's partition has nothing that can be read, though it once had.
  private func noteEmptied(_ place: TopicPartition) {
    guard topics.firstIndex(of: place.topic) ?? .max < lanes.count, !trimmed.contains(place),
      let low = consumer.cachedOffsets(place)?.low, low > 0
    else { return }
    trimmed.insert(place)
    log.warning(
      "all records are gone: what they held is not in the figures",
      metadata: ["place": "\(place)", "oldest": "\(low)"])
  }

  /// What is no message of ours is passed over: it will be replaced.
  private func takePublished(_ message: ConsumedMessage) {
    guard let value = message.value, let made = try? json(value) else { return }
    made.withUnsafeBufferPointer {
      published.take(isCash: message.topic - lanes.count == 1, key: message.key, value: $0)
    }
  }

  private func takeRecord(_ message: ConsumedMessage) {
    do throws(FlowLedger.Full) {
      let latest_ms = try lanes[message.topic].take(message, source: UInt16(message.topic), into: &ledger)
      // As in the daemon, what lies too far ahead does not move time.
      if let latest_ms, latest_ms <= now_ms + configuration.policy.maximumFuture_ms {
        watermarks.observe(
          source: UInt16(message.topic), partition: message.partition, largest_ms: latest_ms, now_ms: now_ms)
      }
    } catch { broken = error }
  }

  private func takeBreak(_ message: ConsumedMessage) {
    guard let value = message.value else { return }
    do {
      let made = try JSONDecoder().decode(BreakMessage.self, from: Data(json(value)))
      ledger.setDispute(id: made.id, order: made.order, isOpen: made.disputesReceivable)
    } catch {
      unreadableBreaks += 1
      log.warning(
        "a break cannot be read",
        metadata: [
          "topic": "\(configuration.breaksTopic)", "partition": "\(message.partition)",
          "offset": "\(message.offset)", "error": "\(error)",
        ])
    }
  }

  // MARK: - Telling

  /// Sources that would pass for idle, although it is only this process that has heard nothing, because the broker is
  /// away: silent is what the broker says has nothing behind the end that was read.
  private func keepUnheardAlive(_ now_ms: Int64) {
    let silent = assigned.filter { place in
      guard let source = topics.firstIndex(of: place.topic), source < lanes.count else { return false }
      return watermarks.silence_ms(source: UInt16(source), partition: place.partition, now_ms: now_ms)
        >= configuration.policy.idleTimeout_ms
    }
    guard !silent.isEmpty else { return }
    var told: [TopicPartition: Int64] = [:]
    do throws(KafkaError) {
      told = try reader.ends(silent, timeout_ms: Worker.endsTimeout_ms)
    } catch {
      log.debug("the broker does not say whether there is more", metadata: ["error": "\(error)"])
    }
    for place in silent {
      // What stands behind the last stable offset belongs to a transaction that is not over yet: it may still come.
      if let end = told[place], max(end, consumer.cachedOffsets(place)?.high ?? 0) <= ends[place] ?? 0 { continue }
      let source = UInt16(topics.firstIndex(of: place.topic)!)
      watermarks.keepAlive(source: source, partition: place.partition, now_ms: now_ms)
    }
  }

  /// Makes the figures and sends what has changed.
  /// - Returns: false where there is nothing to be made yet.
  private func tell() throws -> Bool {
    let wallClock_ms = environment.wallClock_ms()
    // Bounded input is complete at its end.
    if !options.endsAtEnd { keepUnheardAlive(wallClock_ms) }
    let reached_ms = watermarks.advance(now_ms: wallClock_ms)
    let sources = configuration.sources.enumerated().map { at, source in
      (source: source.name, time_ms: watermarks.largest_ms(source: UInt16(at)) ?? .min)
    }.filter { $0.time_ms > .min }.sorted { $0.source < $1.source }
    let latest = sources.map(\.time_ms).max()
    let asOf_d: Int32
    if let fixed = options.asOf_d {
      asOf_d = fixed
    } else if options.endsAtEnd {
      guard let latest else {
        log.warning("the sources hold no records: there is nothing to tell")
        return true
      }
      asOf_d = day(ofMilliseconds: latest)
    } else {
      let now_d = day(ofMilliseconds: wallClock_ms)
      // After a restart the clock has to wait for idle sources again: what was told must not go back meanwhile.
      let told = published.asOf_d.flatMap { $0 <= now_d ? $0 : nil }
      let over = reached_ms > .min ? day(ofMilliseconds: reached_ms) - 1 : nil
      guard let latest = [told, over].compactMap({ $0 }).max() else { return false }
      asOf_d = latest
    }
    // Bounded input that has been read to its end is complete up to its last record.
    let complete_ms = options.endsAtEnd ? latest ?? .min : reached_ms
    let settled_ms = (Int64(asOf_d) + 1) * millisecondsPerDay + configuration.policy.window_ms
    let isProvisional = complete_ms < settled_ms.addingReportingOverflow(configuration.policy.grace_ms).partialValue
    guard
      hasNewTables || ledger.isChanged || published.isChanged || asOf_d != lastAsOf_d
        || isProvisional != lastIsProvisional
    else {
      return true
    }
    var completeness = FlowCompleteness()
    completeness.unreadable = lanes.reduce(unreadableBreaks) { $0 + $1.unreadable }
    completeness.trimmedPartitions = trimmed.count
    var changed: [PublishedFlows.Message] = []
    ledger.use(current.businessDays)
    var settings = settings
    settings.businessDays = current.businessDays
    let report = FlowReport(settings: settings, rates: current.policy.checks?.exchange?.rates)
    let known = published.series.filter { $0.dimensions.count == settings.by.count }
    for made in report.figures(
      ledger.items(asOf_d: asOf_d), backlog: ledger.backlog(asOf_d: asOf_d), asOf_d: asOf_d, completeness: completeness,
      known: known)
    {
      if made.isBeyondRange {
        log.warning(
          "sums beyond the range of amounts stand at its end, and do not add up",
          metadata: ["currency": "\(made.cashflow.series.currency.code)"])
      }
      var (cashflow, receivables) = (made.cashflow, made.receivables)
      func status(_ isCash: Bool, _ key: [UInt8]) -> MessageStatus {
        MessageStatus(
          revision: published.revision(isCash: isCash, key) + 1, asOf_ms: complete_ms, watermarks: sources,
          isProvisional: isProvisional)
      }
      let key = FinanceEncoder.key(cashflow)
      cashflow.status = status(true, key)
      receivables.status = status(false, key)
      for (isCash, value, revision) in [
        (true, encoder.encode(cashflow), cashflow.status.revision),
        (false, encoder.encode(receivables), receivables.status.revision),
      ] {
        let message = PublishedFlows.Message(
          isCash: isCash, series: cashflow.series, key: key, value: value, revision: revision)
        if published.isNew(message) { changed.append(message) }
      }
    }
    let messages = changed.map {
      Message(output: $0.isCash ? .cashflow : .receivables, key: $0.key, value: $0.value)
    }
    guard try send(messages) else {
      lastAsOf_d = nil
      return false
    }
    for message in changed { published.keep(message) }
    published.isChanged = false
    hasNewTables = false
    (lastAsOf_d, lastIsProvisional) = (asOf_d, isProvisional)
    note {
      $0.asOf_d = asOf_d
      $0.messages += changed.count
    }
    if !changed.isEmpty {
      log.info("told", metadata: ["messages": "\(changed.count)", "as_of": "\(formatDate(asOf_d))"])
    }
    return true
  }
}

extension BreakMessage {
  private static let ofTimeOrBase: Set<String> = Set(
    [BreakType.cutoff, .latePosting, .earlyPosting, .lateArrival, .closedPeriod, .fxDifference, .fxRateMissing]
      .map(\.rawValue))

  /// Whether the receivable of the order is in dispute: the break is open, it is not about time or the base currency
  /// alone, and it is about the receivable or comes with one that does not agree.
  var disputesReceivable: Bool {
    guard BreakState(rawValue: state)?.isOpen == true, !BreakMessage.ofTimeOrBase.contains(type) else { return false }
    let receivable = AccountRole.receivable.name
    return role == receivable || evidence.roles.contains { $0.role == receivable && $0.expected != $0.posted }
  }
}

extension FlowsJob {
  /// The job against a real cluster, with its topics there; or against the embedded broker, at least once.
  public static func prepared(
    _ configuration: Configuration, options: Options, stop: StopFlag, log: Logger
  ) throws -> FlowsJob {
    let configuration = try configuration.readingTopicTables(log: log)
    // What is wrong with the configuration is said before the cluster is asked.
    let job = try FlowsJob(configuration: configuration, options: options, stop: stop, log: log)
    let settled = try settled(configuration, createsOutputs: options.show == nil, log: log)
    if settled.kafka.delivery == configuration.kafka.delivery { return job }
    return try FlowsJob(configuration: settled, options: options, stop: stop, log: log)
  }
}
