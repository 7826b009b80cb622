import Configuration
import Decoding
import Domain
import Forecasting
import Kafka

/// Decodes one source for flows, by its own mapping and rules, with due date and terms beside.
final class FlowLane {
  private let lane: Lane
  private let dueReader: DateReader?
  /// Places of the texts among the decoded dimensions.
  private let (dueAt, termsAt): (Int?, Int?)
  /// Terms by their text, nil where it is none: there are few.
  private var known: [String: PaymentTerms?] = [:]
  private static let maximumKnown = 10_000
  private var base: Int

  init(
    _ source: SourceSettings, _ settings: FlowSettings, _ dimensionCount: Int, schemas: (any AvroSchemas)? = nil
  ) throws {
    let flow = settings.sources[source.name] ?? FlowSettings.Source()
    lane = Lane(
      try MappingPlan(source.flowMapping(flow, dimensionCount: dimensionCount)), rules: source.rules,
      schemas: schemas)
    dueReader = flow.dueDate.flatMap { DateReader($0) }
    dueAt = flow.dueDate == nil ? nil : dimensionCount
    termsAt = flow.terms == nil ? nil : dimensionCount + (flow.dueDate == nil ? 0 : 1)
    base = 0
  }

  /// Records that could not be taken in since `forget`.
  var unreadable: Int { lane.counters.deadLetters - base }

  func forget() { base = lane.counters.deadLetters }

  /// - Returns: the event time of the record; nil where it is none.
  func take(
    _ message: ConsumedMessage, source: UInt16, into ledger: inout FlowLedger
  ) throws(FlowLedger.Full) -> Int64? {
    defer { lane.reset() }
    let fault = lane.decode(
      key: message.key.map { ByteView($0) } ?? .empty, payload: message.value.map { ByteView($0) } ?? .empty,
      position: RecordPosition(source: source, partition: message.partition, offset: message.offset))
    guard fault == nil else { return nil }
    var latest_ms: Int64?
    switch lane {
    case .orders(let lane):
      for at in 0..<lane.records.count {
        let event = lane.records[at]
        try ledger.add(event, due: due(event.dimensions), terms: terms(event.dimensions))
        latest_ms = max(latest_ms ?? .min, event.time_ms)
      }
    case .ledger(let lane):
      for at in 0..<lane.records.count {
        let posting = lane.records[at]
        try ledger.add(posting, due: due(posting.dimensions), terms: terms(posting.dimensions))
        latest_ms = max(latest_ms ?? .min, posting.time_ms)
      }
    }
    return latest_ms
  }

  private func due(_ texts: InlineArray<8, ByteView>) -> Int32 {
    guard let dueAt, let dueReader, !texts[dueAt].isEmpty else { return absentDate }
    return dueReader.day(texts[dueAt]) ?? absentDate
  }

  private func terms(_ texts: InlineArray<8, ByteView>) -> PaymentTerms? {
    guard let termsAt, !texts[termsAt].isEmpty else { return nil }
    let text = texts[termsAt].string
    if let known = known[text] { return known }
    let made = PaymentTerms(text)
    if known.count < FlowLane.maximumKnown { known[text] = .some(made) }
    return made
  }
}
