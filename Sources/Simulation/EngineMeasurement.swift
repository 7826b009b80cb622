import Aggregates
import Configuration
import Domain
import Foundation
import Pipeline

/// The whole engine on one thread: bytes in memory → decode → match → judge → encoded breaks, with a load of known
/// truth, stage by stage.
///
/// Records are generated into memory in chunks while the clock stands still. First as many orders go through as ties
/// are to be open; the measurement begins then, so that as many ties leave as come.
public final class EngineMeasurement {
  public struct Options: Sendable {
    public var workload = WorkloadOptions()
    /// Records measured, after the table has been filled.
    public var records = 2_000_000
    public var openTies = 1_000_000
    /// Records of a batch, as one call to Kafka would bring them.
    public var batch = 10_000
    /// Whether counts of quality are kept.
    public var countsQuality = false
    /// Whether sums by dimensions, currency and period are kept.
    public var addsUp = false
    /// So many customers, which are a third dimension (flat); nil where they are none.
    public var customers: Int?
    public init() {}
  }

  public struct Result {
    public var records = 0
    /// Every record that went through, before and after the measured part too.
    public var allRecords = 0
    public var bytes = 0
    /// Orders and postings of the measured part.
    public var orders = 0
    public var times_ns: [(stage: StageLaps.Stage, ns: Int64)] = []
    public var total_ns: Int64 = 0
    public var ties = 0
    public var footprintBytes = 0
    public var liveBytes = 0
    public var liveParts = (index: 0, slots: 0, bodies: 0, calendar: 0)
    public var breakMessages = 0
    public var breaksInMeasurement = 0
    public var deadLetters = 0
    /// Cells of the sums.
    public var cells = 0
    public var comparison: TruthComparison?

    public func nsPerRecord(_ stage: StageLaps.Stage) -> Double {
      Double(times_ns.first { $0.stage == stage }?.ns ?? 0) / Double(max(1, records))
    }
    public var nsPerRecord: Double { Double(total_ns) / Double(max(1, records)) }
  }

  private let options: Options
  private let configuration: Configuration
  private let engine: EngineHarness
  private let now_ms: Int64
  private var load: Workload
  private var orders = PackedRecords()
  private var ledger = PackedRecords()
  /// How many of a batch's records are orders, batch by batch.
  private var batches: [(orders: Int, ledger: Int)] = []
  private var lastTime_ms: Int64 = 0
  private var generated = 0
  private var breaks: [String: BreakMessage] = [:]
  /// Break messages that have not been looked at, a line each.
  private var pending = ByteWriter(capacity: 1 << 24)

  /// Records generated at a time.
  static let chunk = 500_000

  public init(_ options: Options) throws {
    var options = options
    let perOrder = options.workload.shape == .flat ? Double(1 + options.workload.postingsPerOrder) : 4.75
    // A little more than is measured: the load ends when the shuffle has run empty.
    options.workload.orders = options.openTies + Int(Double(options.records) / perOrder) + options.workload.shuffle
    if let customers = options.customers { options.workload.customers = customers }
    self.options = options
    var configuration = try LoadConfiguration.configuration(
      options.workload.shape, name: "measure", options: options.workload, openTies: options.openTies,
      byCustomer: options.customers != nil)
    if options.addsUp { configuration.aggregates = AggregateSettings() }
    if options.countsQuality { configuration.quality = QualitySettings() }
    self.configuration = configuration
    now_ms =
      options.workload.start_ms + Int64(options.workload.orders) * options.workload.interval_us / 1_000 + 86_400_000
    engine = try EngineHarness(configuration, now_ms: now_ms)
    load = Workload(options.workload)
    engine.onBreak = { [unowned self] value in
      pending.write(raw: value.baseAddress!, count: value.count)
      pending.write(UInt8(ascii: "\n"))
    }
  }

  /// Reads the breaks that have come; off the clock.
  private func readBreaks() {
    for line in pending.bytes.split(separator: UInt8(ascii: "\n")) {
      guard let made = try? JSONDecoder().decode(BreakMessage.self, from: Data(line)) else {
        preconditionFailure("a break that is no JSON")
      }
      breaks[made.id] = made
    }
    pending.removeAll()
  }

  /// - Returns: false at the end of the load.
  private func generate(_ most: Int, orders mostOrders: Int = .max) -> Bool {
    orders.removeAll()
    ledger.removeAll()
    batches.removeAll(keepingCapacity: true)
    var record = GeneratedRecord()
    var batch = (orders: 0, ledger: 0)
    for _ in 0..<most {
      guard orders.count < mostOrders, load.next(into: &record) else { break }
      lastTime_ms = max(lastTime_ms, record.time_ms)
      if record.isOrder {
        orders.append(key: record.key, value: record.value)
        batch.orders += 1
      } else {
        ledger.append(key: record.key, value: record.value)
        batch.ledger += 1
      }
      if batch.orders + batch.ledger == options.batch {
        batches.append(batch)
        batch = (0, 0)
      }
    }
    if batch.orders + batch.ledger > 0 { batches.append(batch) }
    generated += orders.count + ledger.count
    return !batches.isEmpty
  }

  private func feed() {
    var (order, posting) = (0, 0)
    for batch in batches {
      engine.take(0, orders, order..<order + batch.orders, now_ms: now_ms)
      engine.take(1, ledger, posting..<posting + batch.ledger, now_ms: now_ms)
      engine.endBatch(now_ms: now_ms)
      order += batch.orders
      posting += batch.ledger
    }
  }

  /// - Parameter onClock: Called with true when a measured stretch begins, and with false when it ends.
  public func run(progress: (String) -> Void = { _ in }, onClock: (Bool) -> Void = { _ in }) -> Result {
    var result = Result()
    var filled = 0
    while filled < options.openTies, generate(EngineMeasurement.chunk, orders: options.openTies - filled) {
      feed()
      readBreaks()
      filled += orders.count
      progress("filling: \(filled) orders, \(engine.tieCount) ties")
    }
    engine.laps.reset()
    let before = engine.breakMessages
    while result.records < options.records,
      generate(min(EngineMeasurement.chunk, options.records - result.records))
    {
      onClock(true)
      feed()
      onClock(false)
      readBreaks()
      result.records += orders.count + ledger.count
      result.orders += orders.count
      result.bytes += orders.byteCount + ledger.byteCount
      progress("measuring: \(result.records) records, \(engine.tieCount) ties")
    }
    engine.endEpoch()
    result.times_ns = StageLaps.Stage.allCases.map { ($0, engine.laps[$0]) }
    result.total_ns = engine.laps.total_ns
    result.ties = engine.tieCount
    result.footprintBytes = engine.footprintBytes
    result.liveBytes = engine.liveBytes
    result.liveParts = engine.liveParts
    result.cells = engine.cellCount
    result.breaksInMeasurement = engine.breakMessages - before
    // What is left of the load, so that the whole truth can come out.
    while generate(EngineMeasurement.chunk) {
      feed()
      readBreaks()
    }
    let policy = configuration.policy
    engine.finish(
      now_ms: max(now_ms, lastTime_ms) + policy.window_ms + policy.grace_ms + policy.outOfOrderness_ms + 86_400_000)
    readBreaks()
    result.breakMessages = engine.breakMessages
    result.deadLetters = engine.deadLetters
    result.allRecords = generated
    result.comparison = TruthComparison(
      truth: load.truth, breaks: breaks.values.filter(\.isReported).map(TruthComparison.Found.init))
    return result
  }
}

extension TruthComparison.Found {
  public init(_ message: BreakMessage) {
    self.init(
      order: message.order, type: message.type, hints: message.hints, role: message.role, expected: message.expected,
      posted: message.posted, isAccepted: message.state == "accepted")
  }
}
