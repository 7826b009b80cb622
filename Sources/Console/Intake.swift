import Configuration
import ConsoleStore
import Decoding
import Domain
import Foundation
import Matching
import Pipeline
import Synchronization
import Validation

/// The sources that records can be sent to over HTTP. Each record is decoded by the same plan as in the reconciler, and held
/// against the same rules: what is refused here would have become a dead letter there.
final class Intake: Sendable {
  struct Source: Sendable {
    var name: String
    var kind: SourceKind
    /// Where the record goes: the source's own topic, as if its sender had written it there.
    var topic: String
    fileprivate var pool: Pool
  }

  /// Decoders that are not in use.
  fileprivate final class Pool: Sendable {
    static let most = 8
    let plan: MappingPlan
    let rules: [RuleSpecification]
    let waiting: (plan: MappingPlan, rules: [RuleSpecification])?
    let dimensions: [String]
    private let idle = Mutex<[RecordChecker]>([])

    init(
      _ plan: MappingPlan, _ rules: [RuleSpecification], waiting: (plan: MappingPlan, rules: [RuleSpecification])?,
      dimensions: [String]
    ) {
      self.plan = plan
      self.rules = rules
      self.waiting = waiting
      self.dimensions = dimensions
    }

    func take() -> RecordChecker {
      idle.withLock { $0.popLast() } ?? RecordChecker(plan, rules, waiting: waiting, dimensions: dimensions)
    }

    func giveBack(_ checker: RecordChecker) {
      idle.withLock { if $0.count < Pool.most { $0.append(checker) } }
    }
  }

  let sources: [Source]
  let maximumFuture_ms: Int64
  let maximumRecordBytes: Int

  init(_ configuration: Configuration) throws {
    // What tables of topics hold is known to the reconciler alone.
    let topics = Set(configuration.topicTables.map(\.name))
    let tables = Set(configuration.tableSources.map(\.name))
    let values = Set(configuration.tableSources.filter { $0.kind == .values }.map(\.name))
    sources = try configuration.sources.filter { $0.mapping.format != .csv && $0.mapping.format.isText }.map { source in
      Source(
        name: source.name, kind: source.mapping.kind, topic: source.originalTopic,
        pool: Pool(
          try MappingPlan((topics.isEmpty ? source.mapping : source.routingMapping(topics)).unmasked),
          source.rules(without: topics),
          waiting: configuration.hold == nil
            ? nil : (try MappingPlan(source.routingMapping(values).unmasked), source.rules(without: tables)),
          dimensions: configuration.dimensions))
    }
    maximumFuture_ms = configuration.policy.maximumFuture_ms
    maximumRecordBytes = configuration.sources.map(\.mapping.maximumRecordBytes).max() ?? 4 << 20
  }

  /// The source that a request names, or the only one of its kind.
  func source(_ kind: SourceKind, named name: String?) throws -> Source {
    let fitting = sources.filter { $0.kind == kind }
    if let name {
      guard let source = fitting.first(where: { $0.name == name }) else {
        throw Problem.unprocessable(
          "'source': there is no source '\(name.prefix(64))' of kind \(kind.rawValue) that takes JSON; there are "
            + fitting.map(\.name).joined(separator: ", "))
      }
      return source
    }
    guard fitting.count == 1 else {
      throw Problem.unprocessable(
        fitting.isEmpty
          ? "there is no source of kind \(kind.rawValue) that takes JSON"
          : "'source' must name one of \(fitting.map(\.name).joined(separator: ", "))")
    }
    return fitting[0]
  }

  /// Checks records one after the other; for one thread at a time.
  func withChecker<T>(_ source: Source, _ body: (RecordChecker) throws -> T) rethrows -> T {
    let checker = source.pool.take()
    defer { source.pool.giveBack(checker) }
    return try body(checker)
  }
}

/// Decodes a record only to see whether it can be, and what its order key is.
final class RecordChecker: @unchecked Sendable {
  enum Outcome {
    /// The key that it is sent under.
    case good([UInt8])
    /// A table does not know something in it yet, and the reconciler waits for that.
    case waiting([UInt8])
    /// A filter or a table of the mapping leaves it out.
    case skipped
    case bad(DataFault)
  }

  private var orders: OrderLane?
  private var ledger: LedgerLane?
  /// Reads records as if the tables knew everything.
  private let waiting: RecordChecker?
  private let dimensions: [String]

  private final class OrderLane {
    var decoder: OrderDecoder
    var records = RecordBuffer<OrderEvent>(capacity: 4)
    init(_ plan: MappingPlan) { decoder = OrderDecoder(plan: plan) }
  }
  private final class LedgerLane {
    var decoder: PostingDecoder
    var records = RecordBuffer<Posting>(capacity: 4)
    init(_ plan: MappingPlan) { decoder = PostingDecoder(plan: plan) }
  }
  private let rules: RuleSet
  /// For rules about nested lines.
  private let lines: LineReader

  /// - Parameter waiting: The mapping and the rules without tables, where records wait for these.
  init(
    _ plan: MappingPlan, _ rules: [RuleSpecification] = [],
    waiting: (plan: MappingPlan, rules: [RuleSpecification])? = nil, dimensions: [String] = []
  ) {
    self.waiting = waiting.map { RecordChecker($0.plan, $0.rules) }
    self.dimensions = dimensions
    self.rules = RuleSet(rules)
    lines = LineReader(plan.specification, rules)
    if plan.specification.kind == .orders { orders = OrderLane(plan) } else { ledger = LedgerLane(plan) }
  }

  /// - Parameter latest_ms: event times beyond it would be quarantined.
  func check(_ payload: UnsafeBufferPointer<UInt8>, key: UnsafeBufferPointer<UInt8>?, latest_ms: Int64) -> Outcome {
    let outcome = decode(payload, key: key, latest_ms: latest_ms)
    guard case .bad(let fault) = outcome else { return outcome }
    guard fault.reason == .masterDataMissing, let waiting else { return .bad(fault.named(dimensions)) }
    switch waiting.decode(payload, key: key, latest_ms: latest_ms) {
    case .good(let key): return .waiting(key)
    // What no table will mend is what its sender should hear of.
    case .bad(let other): return .bad(other.named(dimensions))
    case .waiting, .skipped: return .bad(fault.named(dimensions))
    }
  }

  private func decode(
    _ payload: UnsafeBufferPointer<UInt8>, key: UnsafeBufferPointer<UInt8>?, latest_ms: Int64
  ) -> Outcome {
    let keyView = key.map { ByteView($0) } ?? .empty
    let position = RecordPosition(source: 0, partition: 0, offset: 0)
    do throws(DataFault) {
      let outcome: DecodeOutcome
      let order: ByteView
      let time_ms: Int64
      if let lane = orders {
        defer {
          lane.records.removeAll()
          lane.decoder.reset()
        }
        outcome = try lane.decoder.decode(
          key: keyView, payload: ByteView(payload), position: position, into: &lane.records)
        guard case .appended = outcome, lane.records.count > 0 else { return .skipped }
        order = lane.records[lane.records.count - 1].order
        time_ms = lane.records[lane.records.count - 1].time_ms
        readLines(payload)
        return finish(order, time_ms, key, latest_ms, rules.check(lane.records[lane.records.count - 1]))
      }
      let lane = ledger!
      defer {
        lane.records.removeAll()
        lane.decoder.reset()
      }
      outcome = try lane.decoder.decode(
        key: keyView, payload: ByteView(payload), position: position, into: &lane.records)
      guard case .appended = outcome, lane.records.count > 0 else { return .skipped }
      order = lane.records[lane.records.count - 1].order
      time_ms = lane.records[lane.records.count - 1].time_ms
      readLines(payload)
      return finish(order, time_ms, key, latest_ms, rules.check(lane.records[lane.records.count - 1]))
    } catch {
      return .bad(error)
    }
  }

  private func readLines(_ payload: UnsafeBufferPointer<UInt8>) {
    if !rules.linePaths.isEmpty { lines.read(ByteView(payload), into: rules.lineSums) }
  }

  /// - Parameter fault: What the record, which was decoded, has broken of the rules.
  private func finish(
    _ order: ByteView, _ time_ms: Int64, _ key: UnsafeBufferPointer<UInt8>?, _ latest_ms: Int64, _ fault: DataFault?
  ) -> Outcome {
    if let fault { return .bad(fault) }
    guard time_ms <= latest_ms else {
      return .bad(
        DataFault(
          .futureDated, field: "event_time", detail: "the event time lies further ahead of the clock than allowed"))
    }
    let sent = key.map { Array($0) } ?? Array(order.buffer)
    // A rule that flags what no table knows has the reconciler wait too.
    return waiting != nil && rules.brokenRules & rules.missingFlags != 0 ? .waiting(sent) : .good(sent)
  }
}

/// The elements of a JSON array, as the bytes that were sent: an amount must not pass through a number on its way.
/// Only brackets and strings are understood; each element is checked when it is decoded.
func splitArray(_ bytes: UnsafeBufferPointer<UInt8>) throws -> [Range<Int>] {
  func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 }
  let broken = Problem(.badRequest, "bad_body", "the body is no JSON array of objects")
  var at = 0
  func skip() { while at < bytes.count, isSpace(bytes[at]) { at += 1 } }
  skip()
  guard at < bytes.count, bytes[at] == UInt8(ascii: "[") else { throw broken }
  at += 1
  skip()
  var elements: [Range<Int>] = []
  if at < bytes.count, bytes[at] == UInt8(ascii: "]") {
    at += 1
  } else {
    while true {
      skip()
      let start = at
      var depth = 0
      var isString = false
      scan: while true {
        guard at < bytes.count else { throw broken }
        let byte = bytes[at]
        if isString {
          if byte == UInt8(ascii: "\\") {
            at += 1
          } else if byte == UInt8(ascii: "\"") {
            isString = false
          }
        } else {
          switch byte {
          case UInt8(ascii: "\""): isString = true
          case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
          case UInt8(ascii: "}"): depth -= 1
          case UInt8(ascii: "]"):
            if depth == 0 { break scan }
            depth -= 1
          case UInt8(ascii: ","): if depth == 0 { break scan }
          default: break
          }
          guard depth >= 0 else { throw broken }
        }
        at += 1
      }
      var end = at
      while end > start, isSpace(bytes[end - 1]) { end -= 1 }
      guard end > start else { throw broken }
      elements.append(start..<end)
      at += 1
      if bytes[at - 1] == UInt8(ascii: "]") { break }
    }
  }
  skip()
  guard at == bytes.count else { throw broken }
  return elements
}
