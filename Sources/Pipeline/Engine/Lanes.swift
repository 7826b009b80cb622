import CShims
import Decoding
import Domain
import Kafka
import Validation

/// What decoding saw besides records.
public struct DecodeCounters: Sendable, Equatable {
  public var records = 0
  public var skipped = 0
  public var tombstones = 0
  public var faults = [Int](repeating: 0, count: DataFaultReason.allCases.count)
  /// Records that broke a validation rule, by source and rule (`orders: gross adds up`).
  public var violations: [String: Int] = [:]
  /// By source: which of its mapping's paths led to something.
  public var paths: [String: PathCounts] = [:]
  /// By source of a topic: records looked at, and those whose key is not their order.
  public var keys: [String: KeyCounts] = [:]

  public struct KeyCounts: Sendable, Equatable {
    public var looked = 0
    public var other = 0

    public init() {}
  }

  public init() {}

  public mutating func add(_ other: DecodeCounters) {
    records += other.records
    skipped += other.skipped
    tombstones += other.tombstones
    for index in faults.indices { faults[index] += other.faults[index] }
    violations.merge(other.violations, uniquingKeysWith: +)
    for (source, counts) in other.paths { paths[source, default: PathCounts()].add(counts) }
    for (source, counts) in other.keys {
      keys[source, default: KeyCounts()].looked += counts.looked
      keys[source]!.other += counts.other
    }
  }

  mutating func subtract(_ other: DecodeCounters) {
    records -= other.records
    skipped -= other.skipped
    tombstones -= other.tombstones
    for index in faults.indices { faults[index] -= other.faults[index] }
    for (rule, count) in other.violations { violations[rule, default: 0] -= count }
  }

  mutating func count(_ fault: DataFault) { faults[DataFaultReason.allCases.firstIndex(of: fault.reason)!] += 1 }

  /// A record that was counted is not to be: it is taken in another time.
  mutating func uncount(_ fault: DataFault) {
    records -= 1
    faults[DataFaultReason.allCases.firstIndex(of: fault.reason)!] -= 1
  }

  public var deadLetters: Int { faults.reduce(0, +) }
}

/// A record of a stretch that could not be decoded.
struct StretchFault {
  /// Index in the stretch.
  var at: Int
  var fault: DataFault
  /// Places of the rules that the record broke.
  var broken: [Int] = []
  /// Whether the rule only flags: the record is to be taken in, unless it waits.
  var mayGoOn = false
}

extension DataFault {
  /// A rule that flags has found a reference that no table knows.
  fileprivate static let unknownReference = DataFault(.masterDataMissing, detail: "a reference that no table knows")
}

/// Messages ahead whose bytes are brought close while one is decoded: the library's threads wrote them, and a record of a
/// few hundred bytes is half a dozen lines. Of longer ones the processor fetches on by itself.
private let prefetchDistance = 2
private let prefetchBytes = 448
@inline(__always)
private func prefetch(_ messages: UnsafeBufferPointer<ConsumedMessage>, behind at: Int) {
  guard at + prefetchDistance < messages.count, let value = messages[at + prefetchDistance].value,
    let base = value.baseAddress
  else { return }
  var offset = 0
  while offset < min(value.count, prefetchBytes) {
    tieout_prefetch_read(base + offset)
    offset += 64
  }
}

extension ConsumedMessage {
  /// Key, payload and offset as the decoder takes them; from inside of the envelope where the source is routed. nil
  /// where there is none.
  @inline(__always)
  func content(isRouted: Bool) -> (key: ByteView, payload: ByteView, offset: Int64, part: RoutedRecord.Part)? {
    if isRouted {
      guard let routed = RoutedRecord(value), !routed.isCut else { return nil }
      return (routed.key, routed.payload, routed.identity, routed.part)
    }
    return (key.map { ByteView($0) } ?? .empty, value.map { ByteView($0) } ?? .empty, offset, .whole)
  }
}

extension ConsumedMessage {
  /// A copy for the order that a row has left: what is wrong with the record, the task that has the other copy reports.
  var isOfOrderLeft: Bool { RoutedRecord(value)?.part == .left }

  /// Why a record of the routing topic has no content.
  fileprivate var routingFault: DataFault {
    DataFault(
      .schemaInvalid, field: "$",
      detail: RoutedRecord(value) == nil
        ? "a record of the routing topic has no envelope"
        : "the record is larger than a routed one may be (message.max.bytes of the producer): it was cut")
  }
}

/// Of a row that has moved to another order, and of which each task gets its own copy: keeps what is this task's. The copy
/// of the order that it left is not counted.
@inline(never)
private func keep<Record>(
  _ part: RoutedRecord.Part, from start: Int, _ records: inout RecordBuffer<Record>, _ flagged: inout [Int],
  _ counters: inout DecodeCounters, _ rules: borrowing RuleSet
) {
  let isMoved = records.count == start + 2
  let isFlagged = flagged.last.map { $0 >= start } ?? false
  switch part {
  case .whole: break
  case .left:
    records.truncate(to: isMoved ? start + 1 : start)
    counters.records -= 1
    if isFlagged { flagged.removeLast() }
    if !rules.isEmpty { rules.uncount(rules.lastBroken) }
  case .joined:
    guard isMoved else { return }
    records[start] = records[start + 1]
    records.truncate(to: start + 1)
    if isFlagged { flagged[flagged.count - 1] = start }
  }
}

/// A decoder of one source with its output buffer; for one thread.
///
/// The two kinds of lanes differ only in the record type; the noncopyable decoders cannot share a generic class
/// without an existential per record.
final class OrderLane {
  private var decoder: OrderDecoder
  var records = RecordBuffer<OrderEvent>(capacity: 4_096)
  var counters = DecodeCounters()
  /// Places of the records that broke a rule which does not reject.
  private(set) var flagged: [Int] = []
  /// Whether a record that flags an unknown reference is a fault, so that it can wait for its master data.
  var holdsMissing = false
  /// Of the fault found last: the rules that the record broke, and whether it may go on all the same.
  private var broken: [Int] = []
  private var mayGoOn = false
  /// Keys of messages held against their orders.
  private var keys = DecodeCounters.KeyCounts()
  /// Event times of records that are left out, whatever is wrong with them; nil: none.
  var leftOut_ms: ClosedRange<Int64>?
  /// Records that are left out and could not be decoded.
  var leftOutCount = 0
  let rules: RuleSet
  /// For rules about nested lines.
  private let lines: LineReader
  private let hasLines: Bool
  let source: String

  init(plan: MappingPlan, rules: [RuleSpecification], schemas: (any AvroSchemas)?) {
    source = plan.specification.sourceName
    decoder = OrderDecoder(plan: plan, schemas: schemas)
    self.rules = RuleSet(rules)
    lines = LineReader(plan.specification, rules)
    hasLines = !self.rules.linePaths.isEmpty
  }

  /// Decodes one record of a file; the fault if it is none.
  func decode(key: ByteView, payload: ByteView, position: RecordPosition) -> DataFault? {
    counters.records += 1
    decoder.choose(line: position.offset)
    return take(key, payload, position)
  }

  @inline(__always)
  private func take(_ key: ByteView, _ payload: ByteView, _ position: RecordPosition) -> DataFault? {
    let before = records.count
    do throws(DataFault) {
      switch try decoder.decode(key: key, payload: payload, position: position, into: &records) {
      case .appended:
        if !rules.isEmpty, let fault = check(payload) {
          // A row that moved to another order is two of them.
          records.truncate(to: before)
          throw fault
        }
      case .skipped: counters.skipped += 1
      case .tombstone: counters.tombstones += 1
      }
      return nil
    } catch {
      if let leftOut_ms, let time_ms = decoder.eventTime_ms(key: key, payload: payload), leftOut_ms.contains(time_ms) {
        leftOutCount += 1
        return nil
      }
      counters.count(error)
      return error
    }
  }

  /// Holds the record decoded last against the rules.
  @inline(__always)
  private func check(_ payload: ByteView) -> DataFault? {
    let at = records.count - 1
    if let leftOut_ms, leftOut_ms.contains(records[at].time_ms) { return nil }
    if hasLines { lines.read(payload, into: rules.lineSums) }
    let flags = rules.flagCount
    if let fault = rules.check(records[at]) {
      broken = rules.lastBroken
      return fault
    }
    guard rules.flagCount != flags else { return nil }
    if holdsMissing, rules.brokenRules & rules.missingFlags != 0 {
      (broken, mayGoOn) = (rules.lastBroken, true)
      return .unknownReference
    }
    flagged.append(at)
    records[at].brokenRules = rules.brokenRules
    return nil
  }

  /// Decodes one record of a stretch that was not to wait.
  func goOn(_ message: ConsumedMessage, source: UInt16, isRouted: Bool) {
    let holds = holdsMissing
    holdsMissing = false
    var faults: [StretchFault] = []
    withUnsafePointer(to: message) {
      decode(UnsafeBufferPointer(start: $0, count: 1), source: source, isRouted: isRouted, faults: &faults)
    }
    holdsMissing = holds
  }

  /// Decodes a stretch of one partition into `records`. The texts borrow from the messages until `reset`.
  @inline(never)
  func decode(
    _ messages: UnsafeBufferPointer<ConsumedMessage>, source: UInt16, isRouted: Bool, faults: inout [StretchFault]
  ) {
    counters.records += messages.count
    for at in messages.indices {
      prefetch(messages, behind: at)
      guard let content = messages[at].content(isRouted: isRouted) else {
        let fault = messages[at].routingFault
        counters.count(fault)
        faults.append(StretchFault(at: at, fault: fault))
        continue
      }
      let position = RecordPosition(source: source, partition: messages[at].partition, offset: content.offset)
      let before = records.count
      if let fault = take(content.key, content.payload, position) {
        faults.append(StretchFault(at: at, fault: fault, broken: broken, mayGoOn: mayGoOn))
        (broken, mayGoOn) = ([], false)
      } else if content.part != .whole {
        keep(content.part, from: before, &records, &flagged, &counters, rules)
      }
      // One of each stretch is enough.
      if at == 0, !isRouted, records.count > before { keys.count(content.key, records[before].order) }
    }
  }

  var allCounters: DecodeCounters {
    var all = counters.with(rules, source)
    all.paths[source] = decoder.pathCounts
    if keys.looked > 0 { all.keys[source] = keys }
    return all
  }

  func readHeader(_ line: ByteView) throws(DataFault) { try decoder.readHeader(line) }

  func reset() {
    records.removeAll()
    if !flagged.isEmpty { flagged.removeAll(keepingCapacity: true) }
    decoder.reset()
  }
}

final class LedgerLane {
  private var decoder: PostingDecoder
  var records = RecordBuffer<Posting>(capacity: 4_096)
  var counters = DecodeCounters()
  /// Places of the records that broke a rule which does not reject.
  private(set) var flagged: [Int] = []
  /// Whether a record that flags an unknown reference is a fault, so that it can wait for its master data.
  var holdsMissing = false
  /// Of the fault found last: the rules that the record broke, and whether it may go on all the same.
  private var broken: [Int] = []
  private var mayGoOn = false
  /// Keys of messages held against their orders.
  private var keys = DecodeCounters.KeyCounts()
  /// Event times of records that are left out, whatever is wrong with them; nil: none.
  var leftOut_ms: ClosedRange<Int64>?
  /// Records that are left out and could not be decoded.
  var leftOutCount = 0
  let rules: RuleSet
  /// For rules about nested lines.
  private let lines: LineReader
  private let hasLines: Bool
  let source: String

  init(plan: MappingPlan, rules: [RuleSpecification], schemas: (any AvroSchemas)?) {
    source = plan.specification.sourceName
    decoder = PostingDecoder(plan: plan, schemas: schemas)
    self.rules = RuleSet(rules)
    lines = LineReader(plan.specification, rules)
    hasLines = !self.rules.linePaths.isEmpty
  }

  /// Decodes one record of a file; the fault if it is none.
  func decode(key: ByteView, payload: ByteView, position: RecordPosition) -> DataFault? {
    counters.records += 1
    decoder.choose(line: position.offset)
    return take(key, payload, position)
  }

  @inline(__always)
  private func take(_ key: ByteView, _ payload: ByteView, _ position: RecordPosition) -> DataFault? {
    let before = records.count
    do throws(DataFault) {
      switch try decoder.decode(key: key, payload: payload, position: position, into: &records) {
      case .appended:
        if !rules.isEmpty, let fault = check(payload) {
          // A row that moved to another order is two of them.
          records.truncate(to: before)
          throw fault
        }
      case .skipped: counters.skipped += 1
      case .tombstone: counters.tombstones += 1
      }
      return nil
    } catch {
      if let leftOut_ms, let time_ms = decoder.eventTime_ms(key: key, payload: payload), leftOut_ms.contains(time_ms) {
        leftOutCount += 1
        return nil
      }
      counters.count(error)
      return error
    }
  }

  /// Holds the record decoded last against the rules.
  @inline(__always)
  private func check(_ payload: ByteView) -> DataFault? {
    let at = records.count - 1
    if let leftOut_ms, leftOut_ms.contains(records[at].time_ms) { return nil }
    if hasLines { lines.read(payload, into: rules.lineSums) }
    let flags = rules.flagCount
    if let fault = rules.check(records[at]) {
      broken = rules.lastBroken
      return fault
    }
    guard rules.flagCount != flags else { return nil }
    if holdsMissing, rules.brokenRules & rules.missingFlags != 0 {
      (broken, mayGoOn) = (rules.lastBroken, true)
      return .unknownReference
    }
    flagged.append(at)
    records[at].brokenRules = rules.brokenRules
    return nil
  }

  /// Decodes one record of a stretch that was not to wait.
  func goOn(_ message: ConsumedMessage, source: UInt16, isRouted: Bool) {
    let holds = holdsMissing
    holdsMissing = false
    var faults: [StretchFault] = []
    withUnsafePointer(to: message) {
      decode(UnsafeBufferPointer(start: $0, count: 1), source: source, isRouted: isRouted, faults: &faults)
    }
    holdsMissing = holds
  }

  /// Decodes a stretch of one partition into `records`. The texts borrow from the messages until `reset`.
  @inline(never)
  func decode(
    _ messages: UnsafeBufferPointer<ConsumedMessage>, source: UInt16, isRouted: Bool, faults: inout [StretchFault]
  ) {
    counters.records += messages.count
    for at in messages.indices {
      prefetch(messages, behind: at)
      guard let content = messages[at].content(isRouted: isRouted) else {
        let fault = messages[at].routingFault
        counters.count(fault)
        faults.append(StretchFault(at: at, fault: fault))
        continue
      }
      let position = RecordPosition(source: source, partition: messages[at].partition, offset: content.offset)
      let before = records.count
      if let fault = take(content.key, content.payload, position) {
        faults.append(StretchFault(at: at, fault: fault, broken: broken, mayGoOn: mayGoOn))
        (broken, mayGoOn) = ([], false)
      } else if content.part != .whole {
        keep(content.part, from: before, &records, &flagged, &counters, rules)
      }
      // One of each stretch is enough.
      if at == 0, !isRouted, records.count > before { keys.count(content.key, records[before].order) }
    }
  }

  var allCounters: DecodeCounters {
    var all = counters.with(rules, source)
    all.paths[source] = decoder.pathCounts
    if keys.looked > 0 { all.keys[source] = keys }
    return all
  }

  func readHeader(_ line: ByteView) throws(DataFault) { try decoder.readHeader(line) }

  func reset() {
    records.removeAll()
    if !flagged.isEmpty { flagged.removeAll(keepingCapacity: true) }
    decoder.reset()
  }
}

enum Lane {
  case orders(OrderLane)
  case ledger(LedgerLane)

  /// Without rules every record that can be read is taken: a router hands on, the tasks judge.
  init(_ plan: MappingPlan, rules: [RuleSpecification] = [], schemas: (any AvroSchemas)? = nil) {
    switch plan.specification.kind {
    case .orders: self = .orders(OrderLane(plan: plan, rules: rules, schemas: schemas))
    case .ledger: self = .ledger(LedgerLane(plan: plan, rules: rules, schemas: schemas))
    }
  }

  func decode(key: ByteView, payload: ByteView, position: RecordPosition) -> DataFault? {
    switch self {
    case .orders(let lane): lane.decode(key: key, payload: payload, position: position)
    case .ledger(let lane): lane.decode(key: key, payload: payload, position: position)
    }
  }

  /// A record that could not be taken in is not to be counted: it is taken in another time.
  func uncount(_ fault: StretchFault) {
    switch self {
    case .orders(let lane):
      lane.counters.uncount(fault.fault)
      lane.rules.uncount(fault.broken)
    case .ledger(let lane):
      lane.counters.uncount(fault.fault)
      lane.rules.uncount(fault.broken)
    }
  }

  /// Takes in one record of a stretch that may neither wait nor be refused.
  func goOn(_ message: ConsumedMessage, source: UInt16, isRouted: Bool) {
    switch self {
    case .orders(let lane): lane.goOn(message, source: source, isRouted: isRouted)
    case .ledger(let lane): lane.goOn(message, source: source, isRouted: isRouted)
    }
  }

  /// Leaves records of these event times out: they are held against no rule, and what is wrong with them is no fault.
  func leaveOut(_ times_ms: ClosedRange<Int64>?) {
    switch self {
    case .orders(let lane): lane.leftOut_ms = times_ms
    case .ledger(let lane): lane.leftOut_ms = times_ms
    }
  }

  /// How many of them could not be decoded since the last time.
  func takeLeftOut() -> Int {
    switch self {
    case .orders(let lane):
      defer { lane.leftOutCount = 0 }
      return lane.leftOutCount
    case .ledger(let lane):
      defer { lane.leftOutCount = 0 }
      return lane.leftOutCount
    }
  }

  /// Whether records that flag an unknown reference wait.
  func setHolds(_ holds: Bool) {
    switch self {
    case .orders(let lane): lane.holdsMissing = holds
    case .ledger(let lane): lane.holdsMissing = holds
    }
  }

  func readHeader(_ line: ByteView) throws(DataFault) {
    switch self {
    case .orders(let lane): try lane.readHeader(line)
    case .ledger(let lane): try lane.readHeader(line)
    }
  }

  func reset() {
    switch self {
    case .orders(let lane): lane.reset()
    case .ledger(let lane): lane.reset()
    }
  }

  var counters: DecodeCounters {
    switch self {
    case .orders(let lane): lane.allCounters
    case .ledger(let lane): lane.allCounters
    }
  }
}

extension DecodeCounters {
  /// Records that a path was looked for in before it is said that none has it: fewer may all be of another kind.
  static let enoughRecords = 20

  /// What looks like a mistake in the mapping or the keys of a source, a sentence each.
  public var doubts: [(about: String, text: String)] {
    var all: [(about: String, text: String)] = []
    for (source, counts) in paths.sorted(by: { $0.key < $1.key }) where counts.looked >= DecodeCounters.enoughRecords {
      for path in counts.missing {
        all.append(
          (
            "\(source) \(path.field) \(path.path)",
            "source '\(source)': none of \(counts.looked) records has \(path.path), which \(path.field) is read from"
          ))
      }
    }
    for (source, counts) in keys.sorted(by: { $0.key < $1.key })
    where counts.looked >= DecodeCounters.enoughRecords && counts.other * 2 > counts.looked {
      all.append(
        (
          "\(source) key",
          "source '\(source)': \(counts.other) of \(counts.looked) records have a key that is not their order: unless the "
            + "records of an order have one key in all sources, it needs routed: true"
        ))
    }
    return all
  }
}

extension DecodeCounters.KeyCounts {
  fileprivate mutating func count(_ key: ByteView, _ order: ByteView) {
    looked += 1
    if !key.elementsEqual(order) { other += 1 }
  }
}

extension DecodeCounters {
  fileprivate func with(_ rules: borrowing RuleSet, _ source: String) -> DecodeCounters {
    guard !rules.isEmpty else { return self }
    var all = self
    for (rule, count) in zip(rules.specifications, rules.violationCounts) where count > 0 {
      all.violations["\(source): \(rule.name)", default: 0] += count
    }
    return all
  }
}

extension LineReader {
  /// For the sums over lines of the rules. Their amounts are written like those of the record that they are held against.
  public init(_ mapping: MappingSpecification, _ rules: [RuleSpecification]) {
    var paths: [(LinePath, DecimalStyle)] = []
    for rule in rules {
      guard case .sum(let sum) = rule.condition, !sum.lines.isEmpty else { continue }
      let style = sum.terms.lazy.compactMap { mapping.style(of: $0.field) }.first
      paths += sum.lines.map { ($0, style ?? mapping.amountStyle ?? DecimalStyle()) }
    }
    self.init(mapping.format, paths)
  }
}

extension MappingSpecification {
  fileprivate func style(of field: RuleField) -> DecimalStyle? {
    switch field.name {
    case .component: AmountComponent(rawValue: field.index).flatMap { fields[$0.name]?.decimal }
    case .amount: amountStyle
    default: nil
    }
  }

  fileprivate var amountStyle: DecimalStyle? {
    switch amount {
    case nil: nil
    case .signed(let field): field.decimal
    case .debitCredit(let debit, _): debit.decimal
    case .indicated(let value, _): value.decimal
    }
  }
}
