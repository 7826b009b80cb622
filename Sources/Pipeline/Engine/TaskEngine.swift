import Aggregates
import Checkpoints
import Configuration
import Decoding
import Domain
import Kafka
import Matching

/// Decoders of all sources of a configuration; shared by the tasks of one worker, for one thread.
final class DecodeStage {
  let configuration: Configuration
  let lanes: [Lane]
  /// To be asked before records of a source are taken in; nil where none is Avro.
  let schemas: SchemaLookup?
  let configurationHash: UInt64
  /// By source: what reads the values that must be unique; nil where no source has such a rule.
  let unique: [UniqueReader?]?
  /// Actions that were read, and those that could not be.
  var actionFaults = DecodeCounters()
  /// What was counted with earlier versions of the tables.
  private let earlier: DecodeCounters

  /// - Parameter hash: The configuration's `matchingHash`, where it is known: it takes longer than all the rest.
  /// - Parameter earlier: What the stage that it takes the place of has counted.
  init(_ configuration: Configuration, hash: UInt64? = nil, earlier: DecodeCounters = DecodeCounters()) throws {
    self.earlier = earlier
    self.configuration = configuration
    configurationHash = hash ?? configuration.matchingHash
    let lookup = SchemaLookup(configuration)
    schemas = lookup
    let dimensions = configuration.dimensions.count
    let unique = configuration.sources.map { UniqueReader($0, dimensionCount: dimensions) }
    self.unique = unique.contains { $0 != nil } ? unique : nil
    lanes = try configuration.sources.map {
      Lane(try MappingPlan($0.mapping), rules: $0.rules, schemas: lookup?.registry)
    }
    if configuration.hold != nil { for lane in lanes { lane.setHolds(true) } }
  }

  var counters: DecodeCounters {
    var sum = earlier
    for lane in lanes { sum.add(lane.counters) }
    sum.add(actionFaults)
    return sum
  }
}

/// One task: partition *i* of every source, with its matcher, and the epoch that is running.
///
/// It does no I/O and reads no clock. What the outside decided comes in as arguments and is written down as the events
/// of the epoch; a replay makes the same calls again and gets the same state and the same outputs.
final class TaskEngine {
  let partition: Int32
  private(set) var stage: DecodeStage
  var matcher: Matcher
  /// The last epoch that is committed; number 0 before the first.
  var mark = EpochMark(number: 0, incarnation: 0)
  /// By input: the next record to read; the sources, and behind them people's actions, whether they are read or not.
  var next: [Int64]
  /// By input that is read: whether the partition has been read to its end.
  var isAtEnd: [Bool]
  /// By input: whether the worker holds it back for the others to catch up. Actions are never held back.
  var isHeld: [Bool]

  // The running epoch.
  private(set) var events: [EpochEvent] = []
  let outbox = Outbox()
  private(set) var records = 0
  private(set) var deadLetterCount = 0
  /// What measures the stages; nil outside of measurements.
  var laps: StageLaps?
  /// Called for each dead letter, with the place in words; not in a replay.
  var onDeadLetter: ((DeadLetter) -> Void)?
  /// Called for each action that came to nothing because its order is not known any more, or had too many.
  var onLostAction: ((BreakAction, ActionOutcome) -> Void)?

  // The running run of one partition.
  private(set) var runSource = -1
  private(set) var runNow_ms: Int64 = 0
  /// Records that wait for their master data.
  var held = HeldRecords()
  /// Messages handed over one by one.
  private var runMessages = RecordBuffer<ConsumedMessage>(capacity: 1_024)
  /// A run without what it repeats.
  private var repeated = RecordBuffer<ConsumedMessage>(capacity: 1)
  private var faults: [StretchFault] = []
  var outputs = MatchOutputs()
  private let encoder: BreakEncoder
  private var deadLetterEncoder = DeadLetterEncoder()
  /// Open and accepted breaks by type as last told to the second stage.
  var toldOpen = [Int](repeating: 0, count: BreakType.allCases.count)
  /// What was told last, as long as its epoch is not committed.
  /// How far the task had come when its last epoch was sealed.
  var sealedWatermark_ms = Int64.min
  var untold: (mark: Outbox.Mark, open: [Int])?
  /// The last value told in the running stretch.
  var lastValue: UniqueKey?
  var configurationHash: UInt64 { stage.configurationHash }
  /// By source.
  private let isRoutedSource: [Bool]

  /// - Parameter next: Where each input is to be read; a replay says so itself.
  init(_ stage: DecodeStage, partition: Int32, next: [Int64]? = nil) {
    self.stage = stage
    self.partition = partition
    let configuration = stage.configuration
    let inputs = configuration.sources.count + 1
    let known = next ?? []
    self.next = known + Array(repeating: 0, count: inputs - known.count)
    matcher = Matcher(policy: configuration.policy, dimensionCount: configuration.dimensions.count)
    isAtEnd = Array(repeating: false, count: configuration.inputTopics.count)
    isHeld = Array(repeating: false, count: inputs)
    encoder = BreakEncoder(dimensionNames: configuration.dimensions, task: configuration.takesActions ? partition : nil)
    isRoutedSource = configuration.sources.map(\.isRouted) + [false]
    matcher.takesActions = configuration.takesActions
    matcher.epoch = 1
    beginAggregates()
  }

  var configuration: Configuration { stage.configuration }

  var inheritedDimensions: UInt8 {
    configuration.aggregates?.inheritedDimensions(of: configuration.dimensions.count) ?? 0
  }

  func beginAggregates(countsQuantities: Bool = true) {
    matcher.periods = configuration.periods ?? .months
    matcher.tracksDisputes = configuration.aggregates != nil
    matcher.tracksPeriods = configuration.quality != nil
    matcher.inheritedDimensions = inheritedDimensions
    if var settings = configuration.aggregates {
      settings.countsQuantities = settings.countsQuantities && countsQuantities
      matcher.aggregates = TaskAggregates(
        dimensionCount: configuration.dimensions.count, settings: settings, calendar: configuration.periods ?? .months)
    }
    if let settings = configuration.quality {
      matcher.quality = TaskQuality(sourceCount: configuration.sources.count, settings: settings)
      matcher.tellSources(configuration.sources.count)
    }
  }

  /// Goes on with another version of the tables: all else of the configuration is the same. In the running epoch nothing
  /// must have happened yet, because its record names one version.
  /// - Parameter isKnown: False in a replay that has not found the version of its epoch.
  func use(_ other: DecodeStage, isKnown: Bool = true) {
    precondition(records == 0 && outbox.isEmpty, "the tables change in the middle of an epoch")
    if other !== stage { held.isRetryDue = true }
    stage = other
    // The same stage too: a state that has been brought back may be by other posting policies.
    matcher.use(
      configuration.policy, periods: configuration.periods ?? .months, adopts: mark.number == 0, isKnown: isKnown)
  }

  /// Nothing of an epoch that is not committed is in it.
  var isUntouched: Bool { records == 0 && outbox.isEmpty }

  /// As `use`, where the stage is another one than before.
  func takeUp(_ other: DecodeStage) { if other !== stage { use(other) } }

  /// A revision of the posting policies has come so far, and goes on as far as it went then.
  func revise(upTo cursor: Int64) { matcher.revise(upTo: UInt32(clamping: cursor)) }

  // MARK: - What happens

  /// The task comes to be: its sources hold the watermark until they have spoken or are idle.
  func begin(now_ms: Int64) {
    events.append(.begin(now_ms: now_ms))
    for source in configuration.sources.indices {
      matcher.watermarks.register(
        source: UInt16(source), partition: partition, isRouted: isRoutedSource[source], now_ms: now_ms)
    }
  }

  /// Records of one partition of a source follow.
  func beginRun(source: Int, now_ms: Int64) {
    runSource = source
    runNow_ms = now_ms
    runMessages.removeAll()
  }

  /// Takes a record in; its bytes stay valid until `endRun` has returned.
  func take(_ message: ConsumedMessage) { runMessages.append(message) }

  /// Takes in what was handed over since `beginRun`.
  func endRun() {
    take(runMessages.buffer)
    runMessages.removeAll()
    runSource = -1
  }

  /// Takes in a run of one partition of a source.
  func takeRun(source: Int, now_ms: Int64, _ messages: UnsafeBufferPointer<ConsumedMessage>) {
    runSource = source
    runNow_ms = now_ms
    take(messages)
    runSource = -1
  }

  /// Records decoded before they are handed to the matcher: their decoded form (some 350 bytes each) stays in the
  /// nearest caches, and the matcher looks far enough ahead. The same for every run, so that a replay gives the
  /// same outputs in the same order.
  static let stretch = 256

  // The stages are functions of their own, so that profiles and instruction counts tell them apart.
  @inline(never)
  private func take(_ all: UnsafeBufferPointer<ConsumedMessage>) {
    let messages = fresh(all)
    guard let first = messages.first?.offset, let last = messages.last?.offset else { return }
    next[runSource] = last + 1
    records += messages.count
    if runSource < isAtEnd.count { isAtEnd[runSource] = false }
    let source = runSource == actionsInput ? EpochEvent.actions : UInt16(runSource)
    events.append(
      .run(source: source, first: first, last: last, count: messages.count, now_ms: runNow_ms))
    let isRouted = isRoutedSource[runSource]
    var start = 0
    while start < messages.count {
      var count = min(TaskEngine.stretch, messages.count - start)
      if isRouted {
        if takeProgress(messages[start]) {
          start += 1
          continue
        }
        let rest = messages[start + 1..<start + count]
        count = (rest.firstIndex { RoutedProgress.isOne($0.value) } ?? rest.endIndex) - start
      }
      take(stretch: UnsafeBufferPointer(rebasing: messages[start..<start + count]), isRouted: isRouted)
      start += count
    }
  }

  /// Takes in what a router tells of itself between the records.
  /// - Returns: false where the message is a record.
  private func takeProgress(_ message: ConsumedMessage) -> Bool {
    guard let progress = RoutedProgress(message.value) else { return false }
    matcher.watermarks.observe(
      source: UInt16(runSource), partition: partition, origins: progress.reports, count: progress.count,
      now_ms: runNow_ms)
    return true
  }

  /// The messages that are not in yet. The client library may hand some out again after a rebalance.
  private func fresh(_ all: UnsafeBufferPointer<ConsumedMessage>) -> UnsafeBufferPointer<ConsumedMessage> {
    var expected = next[runSource]
    var known = 0
    while known < all.count, all[known].offset < expected { known += 1 }
    let rest = UnsafeBufferPointer(rebasing: all[known...])
    for message in rest {
      guard message.offset >= expected else { return sorted(rest) }
      expected = message.offset + 1
    }
    return rest
  }

  /// The same where some come twice in the middle.
  private func sorted(_ messages: UnsafeBufferPointer<ConsumedMessage>) -> UnsafeBufferPointer<ConsumedMessage> {
    var kept = RecordBuffer<ConsumedMessage>(capacity: messages.count)
    var expected = next[runSource]
    for message in messages where message.offset >= expected {
      expected = message.offset + 1
      kept.append(message)
    }
    swap(&kept, &repeated)
    return repeated.buffer
  }

  private func take(stretch: UnsafeBufferPointer<ConsumedMessage>, isRouted: Bool) {
    if runSource == actionsInput {
      takeActions(stretch)
      return
    }
    lastValue = nil
    switch stage.lanes[runSource] {
    case .orders(let lane):
      lane.decode(stretch, source: UInt16(runSource), isRouted: isRouted, faults: &faults)
      if !faults.isEmpty { reportFaults(stretch) }
      laps?.end(.decode)
      matcher.apply(orders: lane.records.buffer, now_ms: runNow_ms, outputs: &outputs)
      if let unique = stage.unique { tellValues(lane.records.buffer, unique[runSource]) }
      for at in lane.flagged { countFlagged(lane.records[at].time_ms) }
      laps?.end(.match)
      if !outputs.quarantined.isEmpty {
        quarantine(outputs.quarantined.map { lane.records[$0].position }, stretch, isRouted: isRouted)
      }
      lane.reset()
    case .ledger(let lane):
      lane.decode(stretch, source: UInt16(runSource), isRouted: isRouted, faults: &faults)
      if !faults.isEmpty { reportFaults(stretch) }
      laps?.end(.decode)
      matcher.apply(postings: lane.records.buffer, now_ms: runNow_ms, outputs: &outputs)
      if let unique = stage.unique { tellValues(lane.records.buffer, unique[runSource]) }
      for at in lane.flagged { countFlagged(lane.records[at].time_ms) }
      laps?.end(.match)
      if !outputs.quarantined.isEmpty {
        quarantine(outputs.quarantined.map { lane.records[$0].position }, stretch, isRouted: isRouted)
      }
      lane.reset()
    }
    if !outputs.breaks.isEmpty { encodeBreaks() }
  }

  /// A record that has waited is taken in, or refused, as if it came now.
  func takeHeld(_ record: HeldRecord, now_ms: Int64) {
    guard record.source < stage.lanes.count else { return }
    runSource = record.source
    runNow_ms = now_ms
    record.withMessage { take(stretch: $0, isRouted: isRoutedSource[record.source]) }
    runSource = -1
  }

  /// The waiting records are tried again: an event of the running epoch.
  func noteRetry(count: Int, now_ms: Int64) {
    events.append(.run(source: EpochEvent.held, first: 0, last: 0, count: count, now_ms: now_ms))
    records += count
  }

  /// The input behind the sources.
  var actionsInput: Int { configuration.sources.count }

  private func takeActions(_ stretch: UnsafeBufferPointer<ConsumedMessage>) {
    for message in stretch {
      do throws(DataFault) {
        guard let action = try BreakAction(message: message) else { continue }
        let outcome = matcher.apply(action, now_ms: runNow_ms, outputs: &outputs)
        if outcome == .unknown || outcome == .refused { onLostAction?(action, outcome) }
      } catch {
        stage.actionFaults.count(error)
        deadLetter(message, error)
      }
    }
    stage.actionFaults.records += stretch.count
    encodeBreaks()
  }

  private func countFlagged(_ time_ms: Int64) {
    if matcher.quality != nil { matcher.quality!.add(.flagged, source: UInt16(runSource), time_ms: time_ms) }
  }

  private func reportFaults(_ stretch: UnsafeBufferPointer<ConsumedMessage>) {
    for fault in faults {
      if fault.fault.reason == .masterDataMissing, holdOrGoOn(fault, stretch[fault.at]) { continue }
      if isRoutedSource[runSource], stretch[fault.at].isOfOrderLeft {
        stage.lanes[runSource].uncount(fault)
        continue
      }
      deadLetter(stretch[fault.at], fault.fault)
    }
    faults.removeAll(keepingCapacity: true)
  }

  /// Records of a stretch that lie too far ahead go to dead letters.
  private func quarantine(
    _ future: [RecordPosition], _ stretch: UnsafeBufferPointer<ConsumedMessage>, isRouted: Bool
  ) {
    outputs.quarantined.removeAll(keepingCapacity: true)
    for position in future {
      let found = stretch.first { $0.content(isRouted: isRouted)?.offset == position.offset }
      guard let message = found else { continue }
      deadLetter(
        message,
        DataFault(
          .futureDated, field: "event_time", detail: "the event time lies further ahead of the clock than allowed"))
    }
  }

  /// Moves time, and judges what has become due at the pace given.
  /// - Parameters:
  ///   - waiting: Sources that are not idle; nil takes those that have not been read to their end, and `unheard`.
  ///   - unheard: Sources that have been, and of which nobody knows whether they have more.
  /// - Returns: whether more may be due.
  @discardableResult
  @inline(never)
  func moveTime(now_ms: Int64, waiting: UInt64? = nil, unheard: UInt64 = 0, pace: ExpiryPace) -> Bool {
    var mask = waiting ?? unheard
    if waiting == nil {
      for source in configuration.sources.indices where !isAtEnd[source] || isHeld[source] {
        mask |= 1 << UInt64(source)
      }
    }
    for source in configuration.sources.indices where mask & 1 << UInt64(source) != 0 {
      // Records are waiting in Kafka: the partition is slow, not idle.
      matcher.watermarks.keepAlive(source: UInt16(source), partition: partition, now_ms: now_ms)
    }
    expireHeld(now_ms: now_ms)
    laps?.end(.other)
    if matcher.isRevising, case .atMost(let count) = pace {
      let cursor = matcher.revise(atMost: count)
      events.append(.run(source: EpochEvent.policies, first: 0, last: Int64(cursor), count: 0, now_ms: now_ms))
    }
    let bound = matcher.advance(now_ms: now_ms, pace: pace, outputs: &outputs)
    laps?.end(.judge)
    events.append(.time(now_ms: now_ms, waiting: mask, bound: bound))
    encodeBreaks()
    return bound != .none || matcher.isRevising
  }

  /// How long a source has said nothing.
  func silence_ms(source: Int, now_ms: Int64) -> Int64 {
    matcher.watermarks.silence_ms(source: UInt16(source), partition: partition, now_ms: now_ms)
  }

  @inline(never)
  private func encodeBreaks() {
    for at in outputs.breaks.indices { outbox.add(outputs.breaks[at], encoder) }
    outputs.breaks.removeAll(keepingCapacity: true)
    laps?.end(.encode)
  }

  private func deadLetter(_ message: ConsumedMessage, _ found: DataFault) {
    let fault = found.named(configuration.dimensions)
    let source = runSource == actionsInput ? nil : configuration.sources[runSource]
    var letter = DeadLetter(
      source: source?.name ?? "actions", origin: source?.topic ?? configuration.actionsTopic, isFile: false,
      partition: message.partition, offset: message.offset,
      key: message.key.map { Array($0) }, payload: message.value.map { Array($0) }, fault: fault,
      payloadBytes: message.value?.count ?? 0, receivedAt_ms: runNow_ms)
    if let source, source.isRouted, let routed = RoutedRecord(message.value) {
      letter.origin = source.originalTopic
      letter.partition = routed.partition
      letter.offset = routed.offset
      letter.key = routed.hasKey ? Array(routed.key.buffer) : nil
      letter.payload = routed.hasPayload ? Array(routed.payload.buffer) : nil
      letter.payloadBytes = routed.payload.count
    }
    letter.payload = letter.payload.map { Array($0.prefix(DeadLetterEncoder.maximumPayloadBytes)) }
    if let source, !configuration.writesRaw(of: source) { (letter.key, letter.payload) = (nil, nil) }
    deadLetterCount += 1
    if matcher.quality != nil, runSource != actionsInput {
      // Of its event time nobody knows: the time at which it was written decides the period.
      let time_ms = message.timestamp_ms > 0 ? message.timestamp_ms : .min
      matcher.quality!.add(fault.reason, source: UInt16(runSource), time_ms: time_ms)
    }
    onDeadLetter?(letter)
    outbox.add(
      .deadLetters, key: letter.key.map { Array($0.prefix(64 << 10)) },
      value: deadLetterEncoder.encode(letter))
  }

  // MARK: - Epochs

  /// Whether the running epoch has done anything that must be committed.
  var hasEffects: Bool { records > 0 || !outbox.isEmpty }
  /// The first epoch is to be committed although nothing has come: it says where the task began to read.
  var recordsStart = false
  /// Whether the running epoch has seen anything at all.
  var hasEvents: Bool { !events.isEmpty }

  /// The record of the running epoch, with the state as it is now.
  func seal(incarnation: UInt64, shards: [ShardDigest]) -> EpochRecord {
    var record = EpochRecord(
      task: partition, number: mark.number + 1, incarnation: incarnation, previousIncarnation: mark.incarnation,
      configuration: configurationHash, next: sourceNext)
    if configuration.takesActions { record.actionsNext = next[actionsInput] }
    record.events = events
    record.outputCount = outbox.count
    record.outputDigest = outbox.digest
    record.timeDigest = timeDigest
    record.sumsDigest = sumsDigest
    record.shards = shards
    return record
  }

  var timeDigest: UInt64 {
    var writer = ByteWriter(capacity: 256)
    matcher.watermarks.export(into: &writer)
    return Checksum.of(writer.bytes)
  }

  var sumsDigest: UInt64 {
    var writer = ByteWriter(capacity: 2_048)
    matcher.exportSums(into: &writer)
    if configuration.aggregates != nil { writer.write(matcher.aggregatesDigest) }
    writeHeld(into: &writer)
    return Checksum.of(writer.bytes)
  }

  func digest(shard: Int, bits: Int) -> UInt64 {
    var writer = ByteWriter()
    return matcher.exportShard(shard, bits: bits, into: &writer).digest
  }

  /// The running epoch is committed (or has been replayed), and the next one begins.
  func finishEpoch(_ record: EpochRecord) {
    recordsStart = false
    mark = EpochMark(number: record.number, incarnation: record.incarnation)
    events.removeAll(keepingCapacity: true)
    outbox.removeAll()
    records = 0
    matcher.epoch = UInt32(truncatingIfNeeded: record.number + 1)
    sealedWatermark_ms = matcher.watermarks.current_ms
  }

  /// The task was given back and has been given again: what waits in Kafka is not known.
  func resume() {
    for input in isAtEnd.indices { isAtEnd[input] = false }
    for input in isHeld.indices { isHeld[input] = false }
  }

  /// By source: the next record to read.
  var sourceNext: [Int64] { Array(next.prefix(actionsInput)) }

  func setNext(_ offsets: [Int64]) { next = offsets }

  /// A replay says itself where it reads.
  func rewind(source: Int, to offset: Int64) { next[source] = offset }
}
