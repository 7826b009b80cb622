import Aggregates
import Checkpoints
import Configuration
import Domain
import Foundation
import Kafka
import Logging
import Matching
import Pipeline
import Validation

/// What a simulation varies. Everything else comes from the seed.
public struct SimulationOptions: Sendable {
  public var delivery: Delivery?
  public var defect: Defect?
  /// Keeps what happened, for the report of a failure.
  public var isTracing = false
  /// Whether histories are those of whole orders, with all kinds of events, or of few kinds; nil: by the seed.
  public var tellsWholeOrders: Bool?

  public init() {}
}

/// One run of the real workers over a simulated cluster, from one seed: they crash between any two calls, are stopped
/// beyond their session, lose requests and answers, their broker restarts, their clocks jump, their checkpoints are
/// damaged. Afterwards everything a reader of the topics sees is held against an oracle that has seen the same records.
public final class ClusterSimulation {
  public struct Outcome: Sendable {
    public var seed: UInt64
    /// What is wrong; empty for a good run.
    public var failures: [String] = []
    public var trace: [String] = []
    public var records = 0
    public var epochs = 0
    public var crashes = 0
    public var pauses = 0
    public var rebalances = 0
    /// How often records were there that had to wait for a source that was behind.
    public var withheld = 0
    public var recoveries = 0
    public var steps = 0
    /// Duplicate values that were found.
    public var duplicates = 0
    /// Records that came before their master data.
    public var early = 0
  }

  let seed: UInt64
  let options: SimulationOptions
  var random: SeededRandom
  let cluster: SimulatedCluster
  let scheduler: SimulationScheduler
  var configuration: Configuration
  let history: History
  /// The history is one of whole orders.
  let tellsWholeOrders: Bool
  let partitions: Int
  var outcome: Outcome
  var inputs: [Input] = []
  var corrupted = 0
  /// Where they went.
  var corruptedTopics: [String] = []
  var machines: [Machine] = []
  var totals = ControlTotals()
  /// Late records, by the counters of the processes.
  var lateCount = 0
  let isTrimming: Bool
  /// The ledger comes under other keys, over this many partitions, and is routed; 0 for not routed.
  let rawPartitions: Int
  /// Everything is there before the first process starts, and in each partition in the order of its times; those of one
  /// partition of the routed source are days behind those of another, and what is over is soon forgotten. Nothing is late.
  let hasBacklog: Bool
  /// Of a backlog: by order the partition of the routed source that has its postings.
  let origins: [String: Int]
  /// The routed source is a change feed, and its rows move from one order to another.
  let movesRows: Bool
  let hasTotals: Bool
  let isInDirectory: Bool
  /// The disk that all machines have together; nil where each has its own.
  let shared: SimulatedDisk?
  var hash: UInt64 = 0
  let base_ms: Int64
  /// People act on breaks, and the tasks read that. The draws are of a stream of their own.
  let hasActions: Bool
  var people: SeededRandom
  /// Actions as they stand in their topic, by break, in its order.
  var acted: [String: [Action]] = [:]
  /// What was sent, to be sent again.
  var sentActions: [(place: TopicPartition, key: [UInt8], value: [UInt8])] = []

  /// What changes of the tables are seen, where they are followed; nil elsewhere.
  var tables: TableRun?

  struct Input {
    var topic: String
    var key: [UInt8]
    var value: [UInt8]?
    /// Among the events of the history, and behind them its postings; nil for what cannot be read.
    var record: Int?
    /// Its master data.
    var party = ""
  }

  /// A place where a process runs, and is started again.
  struct Machine {
    var process: SimulatedProcess?
    /// Its other threads: the router, the stage of totals. They live and die with it.
    var stages: [SimulatedProcess] = []
    var disk: SimulatedDisk
    var stop = StopFlag()
    var restart_ms: Int64 = 0
    var instance: String
    var starts = 0
    var status: () -> WorkerStatus = { WorkerStatus() }
    var all: [SimulatedProcess] { (process.map { [$0] } ?? []) + stages }
  }

  public init(seed: UInt64, options: SimulationOptions = SimulationOptions()) throws {
    self.seed = seed
    self.options = options
    outcome = Outcome(seed: seed)
    random = SeededRandom(seed: seed, stream: 0x7369_6d)
    people = SeededRandom(seed: seed, stream: 0x6163_74)
    hasActions = people.below(4) == 0
    cluster = SimulatedCluster(random: SeededRandom(seed: seed, stream: 0x636c_75))
    scheduler = SimulationScheduler(cluster: cluster)
    // 2026-01-12, in the middle of a month and of a period.
    base_ms = 1_768_204_800_000
    var kinds = SeededRandom(seed: seed, stream: 0x6b69_6e64)
    let bySeed = kinds.below(3) == 0
    tellsWholeOrders = options.tellsWholeOrders ?? bySeed
    var lines = SeededRandom(seed: seed, stream: 0x6c69_6e65)
    let comparesLines = tellsWholeOrders && lines.below(2) == 0
    var history = ClusterSimulation.history(
      seed: seed, ofWholeOrders: tellsWholeOrders, hasLines: comparesLines, before_ms: base_ms)
    partitions = 1 + random.below(3)
    rawPartitions = random.below(3) == 0 ? 1 + random.below(3) : 0
    hasBacklog = rawPartitions > 1 && !hasActions && seed % 5 != 3
    movesRows = rawPartitions > 0 && !hasBacklog && seed % 3 == 0 && seed % 5 != 3
    if hasBacklog {
      origins = ClusterSimulation.origins(history, rawPartitions)
      ClusterSimulation.setApart(&history, origins)
    } else {
      origins = [:]
    }
    self.history = history
    hasTotals = random.below(3) == 0
    // A defect of directories shows in no other run.
    isInDirectory = random.below(4) == 0 || options.defect == .directorySharedByTasks
    shared = random.below(2) == 0 ? SimulatedDisk() : nil
    // A machine that does not have the checkpoints needs all epochs.
    isTrimming = isInDirectory && shared == nil ? false : random.below(2) == 0
    tables = seed % 5 == 3 ? TableRun(seed: seed) : nil
    configuration = try (tables?.template ?? ClusterSimulation.template).get()
    configuration.kafka.delivery = options.delivery ?? (random.below(4) == 0 ? .atLeastOnce : .exactlyOnce)
    configuration.epochRecords = 1 + random.below(40)
    configuration.epochInterval_ms = Int64(20 + random.below(400))
    configuration.epochBacklogInterval_ms = configuration.epochInterval_ms * (seed % 2 == 0 ? 1 : 5)
    configuration.checkpointInterval_ms = Int64(50 + random.below(3_000))
    configuration.policy.maximumExpiries = 1 + random.below(4)
    configuration.policy.idleTimeout_ms = Int64(1_000 + random.below(8_000))
    if hasBacklog { configuration.policy.retention_ms = 3_600_000 }
    configuration.partialsPartitions = partitions
    configuration.taskCount = partitions
    if seed % 2 == 1 {
      var settings = AggregateSettings()
      settings.interval_ms = seed % 4 == 1 ? 1 : 300
      settings.countsQuantities = tellsWholeOrders
      if seed % 16 == 7 { settings.inheritedDimensions = 0 }
      configuration.aggregates = settings
    }
    if seed % 3 != 0 {
      var settings = QualitySettings()
      settings.interval_ms = seed % 5 < 3 ? 1 : 300
      configuration.quality = settings
    }
    // With the second stage, which finds them, and against which they are checked.
    if hasTotals, seed % 2 == 0, tables == nil {
      // Longer than a run takes; or so short that records are forgotten, and late ones find nothing any more.
      configuration.sources[0].uniqueRules = [
        UniqueRule(
          name: "one a kind", subject: "note", fields: [RuleField(.customer)], severity: .flag,
          within_ms: (seed % 4 == 0 ? 3 : 400 * 24) * 3_600_000)
      ]
    }
    if seed % 8 >= 6 { configuration.policy.checks = ClusterSimulation.checks }
    configuration.policy.quantities.isEnabled = tellsWholeOrders && kinds.below(2) == 0
    configuration.policy.quantities.comparesLines = comparesLines
    // So few that a checkpoint is spread over several epochs.
    configuration.shardTies = 1 + random.below(2)
    if rawPartitions > 0 {
      configuration.sources[1].routedFrom = configuration.sources[1].topic
      configuration.sources[1].topic = "sim.route.ledger"
      if movesRows { configuration.sources[1].mapping.format = .debezium }
    }
    if isInDirectory { configuration.checkpoints = .directory("checkpoints") }
    configuration.takesActions = hasActions
    for topic in configuration.sources.map(\.topic) + configuration.ownTopics.map(\.name) {
      cluster.createTopic(topic, partitions: partitions)
    }
    if let raw = configuration.sources[1].routedFrom {
      cluster.createTopic(raw, partitions: rawPartitions)
      configuration.originPartitions[raw] = rawPartitions
    }
    hash = configuration.matchingHash
    makeInputs()
    try beginTables()
    let isStatic = random.below(2) == 0
    for number in 0..<1 + random.below(3) {
      machines.append(Machine(disk: shared ?? SimulatedDisk(), instance: isStatic ? "m\(number)" : ""))
    }
  }

  /// What happened in the hours before.
  private static func history(seed: UInt64, ofWholeOrders: Bool, hasLines: Bool, before_ms: Int64) -> History {
    let start_ms = before_ms - 8 * 3_600_000
    guard ofWholeOrders else {
      var generator = HistoryGenerator(seed: seed, start_ms: start_ms)
      var history = generator.next()
      var random = SeededRandom(seed: seed, stream: 0x6469_6d73)
      for at in history.events.indices { history.events[at].dimensions = [random.pick(["north", "south"])] }
      history.varyDimensions([["north", "south"]], &random)
      return history
    }
    var options = OrderToCashOptions()
    options.orders = 2
    options.currencies = [NaiveQuality.currency]
    options.dimensions = [["north", "south", ""]]
    options.start_ms = start_ms
    options.step_ms = 600_000
    options.faultsPer100 = 15
    options.periods = [202_602]
    options.hasLines = hasLines
    var generator = OrderToCashGenerator(seed: seed, options: options)
    return generator.next()
  }

  static let baseCurrency = Currency("EUR")!
  /// Euros for a dollar: one rate for all days of a history.
  static let rates = NaiveRates(
    base: baseCurrency, [.init(day_d: 20_440, currency: NaiveQuality.currency, rate_u: 913_700)], maximumAge_d: 60)

  /// Cash application, ages and a base currency: what leaves the orders that tie out as they are.
  static let checks: FinanceChecks = {
    var checks = FinanceChecks()
    checks.appliesCash = true
    checks.mirrorsIntercompany = true
    checks.severityAges_ms = [1_000, 20_000, 3_600_000]
    let rate = ExchangeRates.Rate(
      day: 20_440, from: Currency("USD")!, to: baseCurrency, rate: DecimalText(mantissa: 9_137, scale: 4))
    // 20,440 is 2025-12-18; one rate for all days of a history.
    checks.exchange = try! ExchangeChecks(
      rates: ExchangeRates(base: baseCurrency, [rate], maximumAge_d: 60), tolerance_u: 0)
    return checks
  }()

  /// Few texts for many events.
  static func note(_ event: HistoryEvent) -> String { "\(event.time_ms % 3)" }

  // MARK: - Inputs

  func makeInputs() {
    let orders = configuration.sources[0].originalTopic
    let ledger = configuration.sources[1].originalTopic
    for (at, event) in history.events.enumerated() {
      var text =
        #"{"order":"\#(event.order)","id":"\#(event.id)","kind":"\#(event.kind.name)","time":\#(event.time_ms),"#
        + #""document":"\#(event.document)","currency":"\#(event.currency.code)""#
      text += #","date":"\#(formatDate(event.day_d))","region":"\#(event.dimensions.first ?? "")""#
      if let quantity_u = event.quantity_u {
        text += #","quantity":"\#(formatDecimal(Int128(quantity_u), decimals: 6))""#
      }
      if !event.documentLine.isEmpty { text += #","line":"\#(event.documentLine)""# }
      if !configuration.sources[0].uniqueRules.isEmpty { text += #","note":"\#(ClusterSimulation.note(event))""# }
      for component in AmountComponent.allCases {
        if let amount = event.amounts[component] {
          text += #","\#(component)":"\#(formatDecimal(Int128(amount), decimals: 2))""#
        }
      }
      let party = tables?.party("\(event.order) \(event.id)") ?? ""
      if tables != nil { text += #","party":"\#(party)""# }
      inputs.append(
        Input(topic: orders, key: Array(event.order.utf8), value: Array((text + "}").utf8), record: at, party: party))
    }
    var moves = SeededRandom(seed: seed, stream: 0x6d_6f76)
    // Of a change feed each row comes once: of images of one time that differ in their dimensions the last would count.
    for (at, posting) in (movesRows ? history.counted.postings : history.postings).enumerated() {
      let party = tables?.party("\(posting.journal) \(posting.line)") ?? ""
      let text = ClusterSimulation.text(posting, party: tables == nil ? nil : party)
      // Routed records come under another key.
      let key = originKey(posting) ?? (rawPartitions > 0 ? "\(posting.journal)" : posting.order)
      for text in movesRows ? images(posting, &moves) : [text] {
        inputs.append(
          Input(
            topic: ledger, key: Array(key.utf8), value: Array(text.utf8), record: history.events.count + at,
            party: party))
      }
    }
    corrupted = random.below(3)
    for _ in 0..<corrupted {
      corruptedTopics.append(random.below(2) == 0 ? orders : ledger)
      inputs.append(Input(topic: corruptedTopics.last!, key: [0x78], value: Array("{\"order\":".utf8)))
    }
    inputs.shuffle(using: &random)
    if movesRows { sortImages() }
    if hasBacklog {
      // The last is delivered first.
      let times = history.events.map(\.time_ms) + history.postings.map(\.time_ms)
      inputs.sort { ($0.record.map { times[$0] } ?? .min) > ($1.record.map { times[$0] } ?? .min) }
    }
    outcome.records = inputs.count
  }

  /// Orders take turns with the partitions.
  private static func origins(_ history: History, _ partitions: Int) -> [String: Int] {
    let orders = Set(history.events.map(\.order) + history.postings.map(\.order)).sorted()
    return Dictionary(uniqueKeysWithValues: orders.enumerated().map { ($1, $0 % partitions) })
  }

  /// Each partition is a day behind the one before it: longer than window, grace and retention.
  private static func setApart(_ history: inout History, _ origins: [String: Int]) {
    for at in history.events.indices {
      let days = Int32(origins[history.events[at].order]!)
      history.events[at].time_ms -= Int64(days) * 86_400_000
      history.events[at].documentDate_d = history.events[at].documentDate_d.map { $0 - days }
      history.events[at].service = history.events[at].service.map { $0.lowerBound - days...$0.upperBound - days }
    }
    for at in history.postings.indices {
      let days = Int32(origins[history.postings[at].order]!)
      history.postings[at].time_ms -= Int64(days) * 86_400_000
      history.postings[at].postingDate_d = history.postings[at].postingDate_d.map { $0 - days }
    }
  }

  /// Of a backlog: a key that leads a posting to the partition of its order.
  private func originKey(_ posting: HistoryPosting) -> String? {
    guard let origin = origins[posting.order] else { return nil }
    return (0...).lazy.map { "\(posting.journal) \($0)" }.first {
      cluster.partition(of: configuration.sources[1].originalTopic, Array($0.utf8)) == origin
    }
  }

  func place(_ topic: String, _ key: [UInt8]) -> TopicPartition {
    TopicPartition(topic, cluster.partition(of: topic, key))
  }

  /// The next record arrives; some stand among those of a transaction that is aborted.
  func deliver() {
    guard let input = inputs.popLast() else { return }
    let place = place(input.topic, input.key)
    let log = cluster.log(place)
    if random.below(10) == 0 {
      let stranger = 1_000_000 + inputs.count
      log.append(.init(producer: stranger, key: input.key, value: Array("aborted".utf8)))
      log.mark(stranger, .abort)
    }
    tables?.noteArrival(input, place, log.end)
    log.append(.init(key: input.key, value: input.value))
  }

  // MARK: - Processes

  func trace(_ text: @autoclosure () -> String) {
    if options.isTracing { outcome.trace.append("\(cluster.now_ms) ms: \(text())") }
  }

  func start(_ at: Int) {
    let stop = StopFlag()
    let number = at * 100 + machines[at].starts
    machines[at].stop = stop
    machines[at].starts += 1
    machines[at].stages = []
    var own = configuration
    own.kafka.instance = machines[at].instance
    let settings = own
    func made(_ name: String) -> (SimulatedProcess, SimulatedEnvironment, Logger) {
      let process = SimulatedProcess(number: number, scheduler: scheduler)
      let environment = SimulatedEnvironment(
        process, base_ms: base_ms, files: SimulatedFiles(process, machines[at].disk), defect: options.defect)
      guard options.isTracing else {
        return (process, environment, Logger(label: "simulation") { _ in SwiftLogNoOpLogHandler() })
      }
      let log = Logger(label: "simulation") { [unowned self] _ in
        TraceLogHandler { self.trace("process \(number)\(name): \($0)") }
      }
      return (process, environment, log)
    }
    trace("process \(number) starts")
    let (process, environment, log) = made("")
    machines[at].process = process
    let seen = tables?.seen(byMachine: at)
    let worker = Worker(
      configuration: settings, number: 0, stop: stop, log: log, environment: environment, hash: hash, masterData: seen)
    machines[at].status = { worker.currentStatus }
    scheduler.start(process) { worker.run() }
    if rawPartitions > 0 {
      let (process, environment, log) = made(", router")
      machines[at].stages.append(process)
      let router = Router(configuration: settings, stop: stop, log: log, environment: environment)
      scheduler.start(process) { router.run() }
    }
    if hasTotals {
      let (process, environment, log) = made(", totals")
      machines[at].stages.append(process)
      let totals = TotalsStage(
        configuration: settings, stop: stop, log: log, environment: environment, masterData: seen)
      scheduler.start(process) { totals.run() }
    }
  }

  func kill(_ at: Int) {
    guard let process = machines[at].process else { return }
    trace("process \(process.number) is killed")
    machines[at].stop.stop()
    scheduler.kill(machines[at].all)
    machines[at].process = nil
    machines[at].stages = []
    machines[at].restart_ms = cluster.now_ms + Int64(random.below(12_000))
    outcome.crashes += 1
  }

  // MARK: - The run

  public func run() -> Outcome {
    if hasBacklog { while !inputs.isEmpty { deliver() } }
    for at in machines.indices { start(at) }
    cluster.lateMarkers = [0, 30, 90][random.below(3)]
    scheduler.lossRate = [0, 50, 300][random.below(3)]
    scheduler.switchRate = [10, 50, 90][random.below(3)]
    let crashRate = [0, 20, 60][random.below(3)]
    // Until every record has come, and a while after.
    var left = 80 + random.below(260)
    while left > 0 {
      let count = 1 + random.below(11)
      guard step(count) else { break }
      deliver()
      if hasActions, people.below(100) < 15 { act() }
      changeTables()
      if inputs.isEmpty { left -= count }
      if random.below(10_000) < count * (420 + crashRate * 6) { disturb(crashRate) }
    }
    settle()
    check()
    return outcome
  }

  /// Lets the processes make some steps; fewer where a time comes or a process is to be started.
  /// - Returns: false where the run has taken far too many.
  func step(_ count: Int, until limit_ms: Int64 = .max) -> Bool {
    for at in machines.indices where machines[at].process == nil && cluster.now_ms >= machines[at].restart_ms {
      start(at)
    }
    let next_ms = machines.filter { $0.process == nil }.map(\.restart_ms).min() ?? .max
    if !scheduler.run(steps: count, until: min(limit_ms, next_ms)) { cluster.now_ms += 100 }
    outcome.steps = scheduler.steps
    return outcome.steps < 200_000
  }

  /// No more faults but those of the network: everything arrives, every tie closes, the processes end.
  func settle() {
    // The network may stay as it is until everything has been taken in: what comes last must survive it too.
    if random.below(2) == 0 { scheduler.lossRate = 0 }
    cluster.lateMarkers = 0
    cluster.downUntil_ms = 0
    for process in machines.flatMap(\.all) { process.pausedUntil_ms = 0 }
    while !inputs.isEmpty { deliver() }
    completeTables()
    trace("calm")
    scheduler.idle_ms = 700
    scheduler.skew_ms += 40 * 3_600_000
    var grown_ms = cluster.now_ms
    var size: Int64 = -1
    let limit_ms = cluster.now_ms + 400_000
    var quiet = 0
    let watched = (configuration.inputTopics + [configuration.breaksTopic, configuration.totalsTopic]).flatMap {
      topic in (0..<partitions).map { cluster.log(TopicPartition(topic, Int32($0))) }
    }
    while cluster.now_ms < limit_ms, quiet < 3 {
      guard step(1_000, until: cluster.now_ms + 1_000) else { break }
      if cluster.now_ms - grown_ms > 22_000 {
        // What came last has to settle too.
        quiet += 1
        if hasActions, quiet < 3 { for _ in 0..<8 { act() } }
        scheduler.lossRate = 0
        // The third time nothing is moved any more: a tie that came due by the second must have been judged and
        // counted before the totals are read.
        if quiet < 3 { scheduler.skew_ms += 3 * 3_600_000 }
        grown_ms = cluster.now_ms
      }
      let now = watched.reduce(0) { $0 + $1.end } + (0..<partitions).reduce(0) { $0 + committedSum(Int32($1)) }
      if now != size {
        size = now
        grown_ms = cluster.now_ms
      }
    }
    for machine in machines where machine.process != nil {
      let status = machine.status()
      trace(
        "process \(machine.process!.number): \(status.partitions) partitions, \(status.epochs) epochs, watermark "
          + (status.watermark_ms.map(formatTimestamp) ?? "none")
          + ", \(status.match.tiesClosed) of \(status.match.tiesOpened) ties closed")
      outcome.recoveries += status.recoveries
      // At least once, a checkpoint's last message may come from a process that has been replaced.
      // In a directory, a manifest of a process that has been replaced may come after its shards were cleared away.
      if isTrimming, !isInDirectory, configuration.kafka.delivery == .exactlyOnce, status.recoveryProblems > 0 {
        fail("\(status.recoveryProblems) checkpoints could not be used, and none was damaged")
      }
      totals.merge(status.totals)
      lateCount += status.match.late
      tables?.waiting += status.waiting
      machine.stop.stop()
    }
    _ = scheduler.run(steps: 100_000)
    if !scheduler.running.isEmpty {
      outcome.failures.append("the processes do not end")
      scheduler.kill(scheduler.running)
    }
    outcome.rebalances = cluster.group(configuration.kafka.group).generation
    outcome.withheld = cluster.withheld
  }

  func committedSum(_ partition: Int32) -> Int64 {
    let offsets = cluster.group(configuration.kafka.group).offsets
    return configuration.inputTopics.reduce(0) { $0 + (offsets[TopicPartition($1, partition)]?.offset ?? 0) }
  }

  static let template = Result {
    try Configuration.parse(yaml: yaml, file: "simulation", directory: ".", environment: [:])
  }

  static let yaml = """
    version: 1
    name: sim
    dimensions: [region]
    sources:
      orders:
        kind: orders
        fields:
          order: order
          event_id: id
          event: kind
          event_time: {path: time, format: epoch_ms}
          document_date: date
          document: document
          customer: note
          currency: currency
          net: net
          tax: tax
          freight: freight
          gross: gross
          applied: applied
          cost: cost
          discount: discount
          deposit: deposit
          fee: fee
          quantity: quantity
          line: line
        dimensions: {region: region}
      ledger:
        kind: ledger
        fields:
          order: order
          line_id: {concat: [journal, {constant: "-"}, line]}
          journal: journal
          document: document
          role: role
          currency: currency
          event_time: {path: time, format: epoch_ms}
          posting_date: date
          period: period
          quantity: quantity
          line: item
          reverses: reverses
        amount: amount
        dimensions: {region: region}
    matching:
      window: 2h
      grace: 10m
      settle: 1m
      retention: 90d
      out_of_orderness: 1h
    """
}

/// What the worker logs, in the trace.
private struct TraceLogHandler: LogHandler {
  var metadata: Logger.Metadata = [:]
  var logLevel = Logger.Level.debug
  let write: @Sendable (String) -> Void

  init(_ write: @escaping (String) -> Void) {
    nonisolated(unsafe) let write = write
    self.write = { write($0) }
  }

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    let details = (event.metadata ?? [:]).sorted { $0.key < $1.key }.map { " \($0.key)=\($0.value)" }.joined()
    write("\(event.message)\(details)")
  }
}
