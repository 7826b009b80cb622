import Aggregates
import Checkpoints
import Configuration
import Domain
import Foundation
import Kafka
import Logging
import Matching
import Pipeline

/// What a simulation varies. Everything else comes from the seed.
public struct SimulationOptions: Sendable {
  public var delivery: Delivery?
  public var defect: Defect?
  /// Keeps what happened, for the report of a failure.
  public var isTracing = false

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
    public var recoveries = 0
    public var steps = 0
  }

  private let seed: UInt64
  private let options: SimulationOptions
  private var random: SeededRandom
  private let cluster: SimulatedCluster
  private let scheduler: SimulationScheduler
  private var configuration: Configuration
  private let history: History
  private let partitions: Int
  private var outcome: Outcome
  private var inputs: [(topic: String, key: [UInt8], value: [UInt8]?)] = []
  private var corrupted = 0
  private var machines: [Machine] = []
  private var totals = ControlTotals()
  private let isTrimming: Bool
  private let base_ms: Int64

  /// A place where a process runs, and is started again.
  private struct Machine {
    var process: SimulatedProcess?
    var stop = StopFlag()
    var restart_ms: Int64 = 0
    var instance: String
    var starts = 0
    var status: () -> WorkerStatus = { WorkerStatus() }
  }

  public init(seed: UInt64, options: SimulationOptions = SimulationOptions()) throws {
    self.seed = seed
    self.options = options
    outcome = Outcome(seed: seed)
    random = SeededRandom(seed: seed, stream: 0x7369_6d)
    cluster = SimulatedCluster(random: SeededRandom(seed: seed, stream: 0x636c_75))
    scheduler = SimulationScheduler(cluster: cluster)
    // 2026-01-12, in the middle of a month and of a period.
    base_ms = 1_768_204_800_000
    var generator = HistoryGenerator(seed: seed, start_ms: base_ms - 8 * 3_600_000)
    history = generator.next()
    partitions = 1 + random.below(3)
    isTrimming = random.below(2) == 0
    configuration = try Configuration.parse(
      yaml: ClusterSimulation.yaml, file: "simulation", directory: ".", environment: [:])
    configuration.kafka.delivery = options.delivery ?? (random.below(4) == 0 ? .atLeastOnce : .exactlyOnce)
    configuration.epochRecords = 1 + random.below(40)
    configuration.epochInterval_ms = Int64(20 + random.below(400))
    configuration.checkpointInterval_ms = Int64(50 + random.below(3_000))
    configuration.policy.maximumExpiries = 1 + random.below(4)
    configuration.policy.idleTimeout_ms = Int64(1_000 + random.below(8_000))
    configuration.partialsPartitions = partitions
    if seed % 2 == 1 {
      var settings = AggregateSettings()
      settings.interval_ms = seed % 4 == 1 ? 1 : 300
      configuration.aggregates = settings
    }
    // So few that a checkpoint is spread over several epochs.
    configuration.shardTies = 1 + random.below(2)
    for topic in configuration.sources.map(\.topic) + configuration.ownTopics.map(\.name) {
      cluster.createTopic(topic, partitions: partitions)
    }
    makeInputs()
    let isStatic = random.below(2) == 0
    for number in 0..<1 + random.below(3) {
      machines.append(Machine(instance: isStatic ? "m\(number)" : ""))
    }
  }

  // MARK: - Inputs

  private func makeInputs() {
    let orders = configuration.sources[0].topic
    let ledger = configuration.sources[1].topic
    for event in history.events {
      var text =
        #"{"order":"\#(event.order)","id":"\#(event.id)","kind":"\#(event.kind.name)","time":\#(event.time_ms),"#
        + #""document":"\#(event.document)","currency":"\#(event.currency.code)""#
      for component in AmountComponent.allCases {
        if let amount = event.amounts[component] {
          text += #","\#(component)":"\#(formatDecimal(Int128(amount), decimals: 2))""#
        }
      }
      inputs.append((orders, Array(event.order.utf8), Array((text + "}").utf8)))
    }
    for posting in history.postings {
      let text =
        #"{"order":"\#(posting.order)","journal":"\#(posting.journal)","line":"\#(posting.line)","#
        + #""document":"\#(posting.document)","role":"\#(posting.role.name)","currency":"\#(posting.currency.code)","#
        + #""amount":"\#(formatDecimal(Int128(posting.amount), decimals: 2))","time":\#(posting.time_ms),"#
        + #""date":"\#(formatDate(day(ofMilliseconds: posting.time_ms)))","reverses":"\#(posting.reverses)"}"#
      inputs.append((ledger, Array(posting.order.utf8), Array(text.utf8)))
    }
    corrupted = random.below(3)
    for _ in 0..<corrupted {
      inputs.append((random.below(2) == 0 ? orders : ledger, [0x78], Array("{\"order\":".utf8)))
    }
    inputs.shuffle(using: &random)
    outcome.records = inputs.count
  }

  private func place(_ topic: String, _ key: [UInt8]) -> TopicPartition {
    let hash = key.withUnsafeBufferPointer { Fingerprint(ByteView($0)).high }
    return TopicPartition(topic, Int32(hash % UInt64(partitions)))
  }

  /// The next record arrives; some stand among those of a transaction that is aborted.
  private func deliver() {
    guard let input = inputs.popLast() else { return }
    let log = cluster.log(place(input.topic, input.key))
    if random.below(10) == 0 {
      let stranger = 1_000_000 + inputs.count
      log.append(.init(producer: stranger, key: input.key, value: Array("aborted".utf8)))
      log.mark(stranger, .abort)
    }
    log.append(.init(key: input.key, value: input.value))
  }

  // MARK: - Processes

  private func trace(_ text: @autoclosure () -> String) {
    if options.isTracing { outcome.trace.append("\(cluster.now_ms) ms: \(text())") }
  }

  private func start(_ at: Int) {
    let process = SimulatedProcess(number: at * 100 + machines[at].starts, scheduler: scheduler)
    let stop = StopFlag()
    machines[at].process = process
    machines[at].stop = stop
    machines[at].starts += 1
    var own = configuration
    own.kafka.instance = machines[at].instance
    let environment = SimulatedEnvironment(process, base_ms: base_ms, defect: options.defect)
    let log =
      options.isTracing
      ? Logger(label: "simulation") { [unowned self] _ in
        TraceLogHandler { self.trace("process \(process.number): \($0)") }
      } : Logger(label: "simulation") { _ in SwiftLogNoOpLogHandler() }
    let worker = Worker(configuration: own, number: 0, stop: stop, log: log, environment: environment)
    machines[at].status = { worker.currentStatus }
    trace("process \(process.number) starts")
    scheduler.start(process) { worker.run() }
  }

  private func kill(_ at: Int) {
    guard let process = machines[at].process else { return }
    trace("process \(process.number) is killed")
    machines[at].stop.stop()
    scheduler.kill(process)
    machines[at].process = nil
    machines[at].restart_ms = cluster.now_ms + Int64(random.below(12_000))
    outcome.crashes += 1
  }

  // MARK: - The run

  public func run() -> Outcome {
    for at in machines.indices { start(at) }
    cluster.lateMarkers = [0, 30, 90][random.below(3)]
    scheduler.lossRate = [0, 50, 300][random.below(3)]
    scheduler.switchRate = [10, 50, 90][random.below(3)]
    let crashRate = [0, 20, 60][random.below(3)]
    // Until every record has come, and a while after.
    var left = 60 + random.below(200)
    while left > 0 {
      guard step() else { break }
      if random.below(6) == 0 { deliver() }
      if inputs.isEmpty { left -= 1 }
      disturb(crashRate)
    }
    settle()
    check()
    return outcome
  }

  private func step() -> Bool {
    outcome.steps += 1
    for at in machines.indices where machines[at].process == nil && cluster.now_ms >= machines[at].restart_ms {
      start(at)
    }
    if !scheduler.step() { cluster.now_ms += 100 }
    return outcome.steps < 200_000
  }

  private func disturb(_ crashRate: Int) {
    guard random.below(10_000) < 300 + crashRate * 4 else { return }
    let at = random.below(machines.count)
    switch random.below(12) {
    case 0...3: if crashRate > 0 { kill(at) }
    case 4, 5:
      guard let process = machines[at].process else { return }
      let ms = Int64(random.below(16_000))
      trace("process \(process.number) is stopped for \(ms) ms")
      process.pausedUntil_ms = cluster.now_ms + ms
      outcome.pauses += 1
    case 6:
      let ms = Int64(random.below(3_000))
      trace("the broker is down for \(ms) ms")
      cluster.downUntil_ms = cluster.now_ms + ms
    case 7:
      let ms = Int64(random.below(7_200_000)) - 1_800_000
      trace("clocks jump by \(ms) ms")
      scheduler.skew_ms = max(0, scheduler.skew_ms + ms)
    case 8: compact()
    case 9: if isTrimming { trimEpochs() } else { damageCheckpoint() }
    default:
      // Leaves in good order, and comes back.
      guard let process = machines[at].process, process.isResponsive else { return }
      trace("process \(process.number) is asked to end")
      machines[at].stop.stop()
      for _ in 0..<5_000 where scheduler.running.contains(where: { $0 === process }) {
        guard step() else { return }
      }
      if scheduler.running.contains(where: { $0 === process }) { return kill(at) }
      machines[at].process = nil
      machines[at].restart_ms = cluster.now_ms + Int64(random.below(4_000))
    }
  }

  private func compact() {
    // At least once, a process that has been replaced may send an old partial last, and compaction would keep that one.
    let partials = configuration.kafka.delivery == .exactlyOnce ? [configuration.partialsTopic] : []
    for topic in [configuration.checkpointsTopic] + partials {
      for partition in 0..<partitions { cluster.log(TopicPartition(topic, Int32(partition))).compact() }
    }
  }

  /// Retention takes the epochs that neither of the two newest checkpoints needs.
  private func trimEpochs() {
    for partition in 0..<partitions {
      var contents = CheckpointContents()
      for (_, key, value) in cluster.readCommitted(TopicPartition(configuration.checkpointsTopic, Int32(partition))) {
        contents.put(String(decoding: key!, as: UTF8.self), value)
      }
      let manifests = contents.manifests(upTo: .max).usable
      guard manifests.count >= 2 else { continue }
      let log = cluster.log(TopicPartition(configuration.epochsTopic, Int32(partition)))
      log.low = max(log.low, min(log.stable, manifests.map(\.epochsOffset).min()!))
      trace("epochs of partition \(partition) begin at \(log.low)")
    }
  }

  private func damageCheckpoint() {
    let log = cluster.log(TopicPartition(configuration.checkpointsTopic, Int32(random.below(partitions))))
    guard log.end > 0 else { return }
    let at = random.below(Int(log.end))
    guard var value = log.entries[at].value, !value.isEmpty else { return }
    if random.below(2) == 0 {
      value[random.below(value.count)] ^= 1 << UInt8(random.below(8))
    } else {
      value.removeLast(1 + random.below(value.count))
    }
    trace("the checkpoint message at \(at) is damaged")
    log.entries[at].value = value
  }

  /// No more faults: everything arrives, every tie closes, the processes end.
  private func settle() {
    scheduler.lossRate = 0
    cluster.lateMarkers = 0
    cluster.downUntil_ms = 0
    for machine in machines { machine.process?.pausedUntil_ms = 0 }
    while !inputs.isEmpty { deliver() }
    trace("calm")
    scheduler.idle_ms = 700
    scheduler.skew_ms += 40 * 3_600_000
    var grown_ms = cluster.now_ms
    var size: Int64 = -1
    let limit_ms = cluster.now_ms + 400_000
    var quiet = 0
    while cluster.now_ms < limit_ms, quiet < 2 {
      guard step() else { break }
      if cluster.now_ms - grown_ms > 22_000 {
        // What came last has to settle too.
        quiet += 1
        scheduler.skew_ms += 3 * 3_600_000
        grown_ms = cluster.now_ms
      }
      let now = (0..<partitions).reduce(Int64(0)) {
        $0 + cluster.log(TopicPartition(configuration.breaksTopic, Int32($1))).end
          + cluster.log(TopicPartition(configuration.sources[0].topic, Int32($1))).end + committedSum(Int32($1))
      }
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
      if isTrimming, configuration.kafka.delivery == .exactlyOnce, status.recoveryProblems > 0 {
        fail("\(status.recoveryProblems) checkpoints could not be used, and none was damaged")
      }
      totals.merge(status.totals)
      machine.stop.stop()
    }
    for _ in 0..<100_000 where !scheduler.running.isEmpty { _ = scheduler.step() }
    if !scheduler.running.isEmpty {
      outcome.failures.append("the processes do not end")
      for process in scheduler.running { scheduler.kill(process) }
    }
    outcome.rebalances = cluster.group(configuration.kafka.group).generation
  }

  private func committedSum(_ partition: Int32) -> Int64 {
    let offsets = cluster.group(configuration.kafka.group).offsets
    return configuration.sources.reduce(0) { $0 + (offsets[TopicPartition($1.topic, partition)]?.offset ?? 0) }
  }

  // MARK: - The check

  private func fail(_ text: String) {
    if outcome.failures.count < 20 { outcome.failures.append(text) }
  }

  /// The epochs and the breaks as readers see them, for the trace of a failure.
  private func traceTopics() {
    guard options.isTracing else { return }
    for partition in Int32(0)..<Int32(partitions) {
      for (offset, _, value) in cluster.readCommitted(TopicPartition(configuration.epochsTopic, partition)) {
        let record = value!.withUnsafeBytes { try? EpochRecord(bytes: $0) }
        guard let record else { continue }
        trace(
          "epoch \(record.number) of partition \(partition), offset \(offset), next \(record.next), "
            + "\(record.outputCount) outputs: \(record.events.suffix(40))")
      }
    }
    for partition in Int32(0)..<Int32(partitions) {
      for source in configuration.sources {
        for (offset, key, value) in cluster.readCommitted(TopicPartition(source.topic, partition)) {
          trace(
            "\(source.name)[\(partition)] \(offset) \(String(decoding: key ?? [], as: UTF8.self)): "
              + String(decoding: value ?? [], as: UTF8.self))
        }
      }
      for (offset, key, value) in cluster.readCommitted(TopicPartition(configuration.checkpointsTopic, partition)) {
        trace(
          "checkpoints[\(partition)] \(offset) \(String(decoding: key ?? [], as: UTF8.self)): "
            + (value.map { "\($0.count) bytes" } ?? "deleted"))
      }
      for (_, _, value) in cluster.readCommitted(TopicPartition(configuration.breaksTopic, partition)) {
        trace("break: " + String(decoding: value ?? [], as: UTF8.self))
      }
    }
  }

  private func check() {
    traceTopics()
    let offsets = cluster.group(configuration.kafka.group).offsets
    var isWhole = true
    for source in configuration.sources {
      for partition in 0..<partitions {
        let place = TopicPartition(source.topic, Int32(partition))
        let log = cluster.log(place)
        let rest = (offsets[place]?.offset ?? 0)..<max(offsets[place]?.offset ?? 0, log.stable)
        if rest.contains(where: { log.isReadable($0) }) {
          isWhole = false
          fail("\(place) has not been read to its end")
        }
      }
    }
    let breaks = checkRevisions()
    checkDeadLetters()
    guard isWhole else { return }
    checkAgainstOracle(breaks)
    checkAgainstReplay(offsets)
  }

  /// The newest state of each break; and that the revisions of each are 1, 2, 3, … as a reader sees them.
  private func checkRevisions() -> [String: BreakMessage] {
    var newest: [String: BreakMessage] = [:]
    var seen: [String: [[UInt8]]] = [:]
    for partition in 0..<partitions {
      for (offset, _, value) in cluster.readCommitted(TopicPartition(configuration.breaksTopic, Int32(partition))) {
        guard let value, let made = try? JSONDecoder().decode(BreakMessage.self, from: Data(value)) else {
          fail("a message of the breaks topic cannot be read")
          continue
        }
        let known = seen[made.id]?.count ?? 0
        if made.revision == known + 1 {
          seen[made.id, default: []].append(value)
          newest[made.id] = made
        } else if made.revision <= known, configuration.kafka.delivery == .atLeastOnce {
          // A repetition, and the same bytes again.
          if seen[made.id]![made.revision - 1] != value {
            fail("\(made.id) revision \(made.revision) comes twice with different contents")
          }
        } else {
          fail("\(made.id) has revision \(made.revision) after \(known), at offset \(offset) of partition \(partition)")
        }
      }
    }
    return newest
  }

  private func checkDeadLetters() {
    var places: [String] = []
    for partition in 0..<partitions {
      for (_, _, value) in cluster.readCommitted(TopicPartition(configuration.deadLettersTopic, Int32(partition))) {
        guard let value,
          let letter = try? JSONSerialization.jsonObject(with: Data(value)) as? [String: Any]
        else {
          fail("a dead letter cannot be read")
          continue
        }
        places.append("\(letter["topic"] ?? "")[\(letter["partition"] ?? "")]@\(letter["offset"] ?? "")")
      }
    }
    let distinct = Set(places).count
    if distinct != corrupted { fail("\(distinct) dead letters instead of \(corrupted)") }
    if configuration.kafka.delivery == .exactlyOnce, places.count != distinct { fail("a dead letter comes twice") }
  }

  private func checkAgainstOracle(_ breaks: [String: BreakMessage]) {
    let oracle = NaiveOracle(history)
    // That something came late is worth a note, and no difference.
    let reported = breaks.values.filter { $0.isReported && $0.type != BreakType.lateArrival.rawValue }
    let found = Set(reported.map(\.order))
    let right = Set(oracle.differences.keys.map(\.order))
    for order in right.subtracting(found).sorted() { fail("order \(order) does not tie out, and no break says so") }
    for made in reported.sorted(by: { $0.id < $1.id }) where !right.contains(made.order) {
      fail("order \(made.order) ties out, and has the break \(made.id), \(made.state)")
    }
    // Every amount: Σ expected and Σ posted are the oracle's, and the breaks explain what lies between.
    struct Role: Hashable {
      var role: AccountRole
      var currency: Currency
    }
    var sums: [Role: NaiveOracle.Balance] = [:]
    for (side, balance) in oracle.balances {
      sums[Role(role: side.role, currency: side.currency), default: .init()].expected += balance.expected
      sums[Role(role: side.role, currency: side.currency), default: .init()].posted += balance.posted
    }
    for line in totals.lines {
      let right = sums.removeValue(forKey: Role(role: line.role, currency: line.currency)) ?? .init()
      if line.expected != right.expected || line.posted != right.posted {
        fail(
          "\(line.role.name) \(line.currency.code): the totals say \(line.expected) against \(line.posted), right is "
            + "\(right.expected) against \(right.posted)")
      }
      if line.pending != 0 { fail("\(line.role.name) \(line.currency.code): no break explains \(line.pending)") }
    }
    for (role, right) in sums where right != .init() {
      fail("\(role.role.name) \(role.currency.code) is missing in the totals")
    }
    var open: [String: Int64] = [:]
    for made in reported where made.state != "accepted" { open["open_breaks:" + made.type, default: 0] += 1 }
    var told: [String: Int64] = [:]
    for (cell, tasks) in partials() { told[cell] = tasks.values.reduce(0, +) }
    if told.filter({ $0.value != 0 }) != open { fail("the totals say \(told), and the breaks \(open)") }
    guard configuration.aggregates != nil else { return }
    let messages = (0..<partitions).flatMap {
      cluster.readCommitted(TopicPartition(configuration.partialsTopic, Int32($0))).map { (key: $0.1, value: $0.2) }
    }
    for problem in CellCheck.problems(messages, totals: totals) { fail(problem) }
  }

  private func partials() -> [String: [String: Int64]] {
    var cells: [String: [String: Int64]] = [:]
    var epochs: [String: UInt64] = [:]
    for partition in 0..<partitions {
      for (_, key, value) in cluster.readCommitted(TopicPartition(configuration.partialsTopic, Int32(partition))) {
        let name = String(decoding: key ?? [], as: UTF8.self)
        // Cells have a check of their own; times are no totals.
        if key.map({ $0.withUnsafeBytes { CellPartial.isKey($0) } }) ?? false || name.hasPrefix("time:") { continue }
        let parts = name.split(separator: "|")
        let numbers = String(decoding: value ?? [], as: UTF8.self).split(separator: " ")
        guard parts.count == 2, numbers.count == 2, let number = Int64(numbers[0]), let epoch = UInt64(numbers[1])
        else {
          fail("a partial cannot be read")
          continue
        }
        if configuration.kafka.delivery == .atLeastOnce, epoch < epochs[name] ?? 0 { continue }
        if configuration.kafka.delivery == .exactlyOnce, epoch <= epochs[name] ?? 0 {
          fail("the partial \(name) of epoch \(epoch) comes after that of \(epochs[name]!)")
        }
        epochs[name] = epoch
        cells[String(parts[0]), default: [:]][String(parts[1])] = number
      }
    }
    return cells
  }

  /// An undisturbed replay of the recorded epochs, from the first, gives what readers see: the same messages, no others.
  private func checkAgainstReplay(_ offsets: [TopicPartition: CommittedOffset]) {
    let process = SimulatedProcess(number: -1, scheduler: scheduler)
    let environment = SimulatedEnvironment(process, base_ms: base_ms, defect: nil)
    var derived: [[UInt8]: [[UInt8]]] = [:]
    var isComplete = true
    for partition in Int32(0)..<Int32(partitions) {
      let committed = configuration.sources.map { offsets[TopicPartition($0.topic, partition)] }
      do {
        let auditor = Auditor(configuration, environment: environment, reader: SimulatedReader(process))
        let first: UInt64 = isTrimming ? .max : 0
        // Where retention has taken the first epochs, the newest checkpoint must still lead to the end.
        let summary = try auditor.audit(partition: partition, committed: committed, epochs: first ... .max) { output in
          if output.topic == .breaks { derived[output.key!, default: []].append(output.value) }
        }
        outcome.epochs += summary.epochs
        if isTrimming { isComplete = false }
      } catch {
        fail("replay of partition \(partition): \(error)")
        isComplete = false
      }
    }
    guard isComplete else { return }
    var sent: [[UInt8]: [[UInt8]]] = [:]
    for partition in 0..<partitions {
      for (_, key, value) in cluster.readCommitted(TopicPartition(configuration.breaksTopic, Int32(partition))) {
        if configuration.kafka.delivery == .atLeastOnce, sent[key!]?.contains(value!) == true { continue }
        sent[key!, default: []].append(value!)
      }
    }
    if sent != derived {
      for key in Set(sent.keys).union(derived.keys) where sent[key] != derived[key] {
        fail(
          "\(String(decoding: key, as: UTF8.self)): \(sent[key]?.count ?? 0) messages were sent, a replay gives "
            + "\(derived[key]?.count ?? 0)")
      }
    }
  }

  private static let yaml = """
    version: 1
    name: sim
    sources:
      orders:
        kind: orders
        fields:
          order: order
          event_id: id
          event: kind
          event_time: {path: time, format: epoch_ms}
          document: document
          currency: currency
          net: net
          tax: tax
          freight: freight
          gross: gross
          applied: applied
          cost: cost
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
          reverses: reverses
        amount: amount
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
