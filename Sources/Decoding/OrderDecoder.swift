import CShims
import Domain

/// Decodes the records of one orders source; one per worker and source.
public struct OrderDecoder: ~Copyable {
  private var extractor: Extractor
  /// What a record holds before it is filled.
  private let blank: UnsafeMutablePointer<OrderEvent>
  private let kinds = TextMemo()
  private let times = TextMemo()
  private let dates = TextMemo()
  /// Where the document date is mapped as the event time is, it is not read twice.
  private let hasOwnDate: Bool
  private let hasService: Bool
  /// Whether a service or a line is mapped.
  private let hasRest: Bool
  private let serviceDates = TextMemo()

  /// - Parameter schemas: For the Avro formats, which cannot be read without.
  public init(plan: MappingPlan, schemas: (any AvroSchemas)? = nil) {
    self.init(plan: plan, isQuick: true, schemas: schemas)
  }

  /// `isQuick`: see `Extractor`.
  init(plan: MappingPlan, isQuick: Bool, walker: tieout_walk = tieout_best_walk(), schemas: (any AvroSchemas)? = nil) {
    blank = .allocate(capacity: 1)
    blank.initialize(to: OrderEvent())
    precondition(plan.specification.kind == .orders)
    let fields = plan.specification.fields
    let tellsService =
      fields[OrderField.serviceEnd.rawValue] != nil || fields[OrderField.servicePeriods.rawValue] != nil
    hasService = tellsService
    hasRest = tellsService || fields[OrderField.line.rawValue] != nil
    hasOwnDate = fields[OrderField.documentDate.rawValue] != fields[OrderField.eventTime.rawValue]
    extractor = Extractor(
      plan: plan, memoised: [Index.event, Index.time, Index.documentDate],
      amounts: Index.firstAmount..<Index.firstAmount + AmountComponent.count, isQuick: isQuick, walker: walker,
      schemas: schemas)
  }

  deinit { blank.deallocate() }

  /// Which of the mapping's paths led to something.
  public var pathCounts: PathCounts { extractor.pathCounts }

  /// Frees the texts of all events decoded since the last call.
  public mutating func reset() { extractor.reset() }

  /// Records that took the whole scanner though layouts had been learned.
  var misses: Int { extractor.misses }

  /// Files: tells the line of the next record, by which it is chosen for `pathCounts` or not.
  @inline(__always)
  public mutating func choose(line: Int64) { extractor.choose(line: line) }

  /// CSV files: takes the line that names the columns.
  public mutating func readHeader(_ line: ByteView) throws(DataFault) { try extractor.readHeader(line) }

  /// Decodes one record. The texts of what is appended borrow from `key`, `payload` and this decoder until `reset`.
  public mutating func decode(
    key: ByteView, payload: ByteView, position: RecordPosition, into events: inout RecordBuffer<OrderEvent>
  ) throws(DataFault) -> DecodeOutcome {
    switch try extractor.take(key: key, payload: payload) {
    case .skipped: return .skipped
    case .tombstone: return .tombstone
    case .leaving: return try takeOut(position, &events)
    case .unfiltered: return try takeOutUnfiltered(position, &events)
    case .record: break
    }
    let event = events.reserve()
    let isTaken: Bool
    do throws(DataFault) { isTaken = try fill(event, position) } catch {
      // One that waits for its master data stays behind what it takes out.
      guard extractor.isDelete, error.reason != .masterDataMissing else { throw error }
      return try takeOutByIdentity(position, &events, error)
    }
    guard isTaken else { return extractor.isUpdate ? try takeOut(position, &events) : .skipped }
    event.pointee.isDelete = extractor.isDelete
    event.pointee.isUpsert = extractor.isUpsert
    if extractor.isUpsert, extractor.hasBefore { return try appendBoth(event.pointee, &events) }
    events.commit()
    return .appended(1)
  }

  /// An update that carries the row before the change. Where it moved to another order it is taken back from the old
  /// one first. One that goes by another id now, as where a row that goes through several states makes an event of each, stays.
  private mutating func appendBoth(
    _ after: OrderEvent, _ events: inout RecordBuffer<OrderEvent>
  ) throws(DataFault) -> DecodeOutcome {
    extractor.readBefore()
    let before = events.reserve()
    let hasMoved = try fillBefore(before, after.position) && !before.pointee.order.elementsEqual(after.order)
    if hasMoved {
      before.pointee.isDelete = true
      events.commit()
    }
    events.append(after)
    return .appended(hasMoved ? 2 : 1)
  }

  /// An update after which the row is no longer one of this reconciliation: where it was one before it is taken back. A
  /// feed that does not say what was before leaves the order and the id of now, which is enough.
  @inline(never)
  private mutating func takeOut(
    _ position: RecordPosition, _ events: inout RecordBuffer<OrderEvent>
  ) throws(DataFault) -> DecodeOutcome {
    let event = events.reserve()
    if extractor.hasBefore {
      extractor.readBefore()
      guard try fillBefore(event, position) else { return .skipped }
    } else {
      guard fillIdentity(event, position) else { return .skipped }
    }
    event.pointee.isDelete = true
    events.commit()
    return .appended(1)
  }

  /// The image before a change, where it passed the filters. Where it does not tell all that a record needs, or tells what
  /// was refused, which row it is.
  private mutating func fillBefore(
    _ event: UnsafeMutablePointer<OrderEvent>, _ position: RecordPosition
  ) throws(DataFault) -> Bool {
    let hasPassed = try extractor.passesFilters()
    if !hasPassed, !(try extractor.mayHavePassed()) { return false }
    do throws(DataFault) {
      // A whole image lacks only what was not there.
      return try fill(event, position) && hasPassed
    } catch { return fillIdentity(event, position) }
  }

  /// A deletion whose image of the row does not tell all that a record needs, often nothing but its key: which row it takes out is
  /// enough.
  @inline(never)
  private mutating func takeOutByIdentity(
    _ position: RecordPosition, _ events: inout RecordBuffer<OrderEvent>, _ why: DataFault
  ) throws(DataFault) -> DecodeOutcome {
    let event = events.reserve()
    guard fillIdentity(event, position) else {
      throw extractor.lacking(order: Index.order, id: Index.id, time: Index.time, why)
    }
    event.pointee.isDelete = true
    events.commit()
    return .appended(1)
  }

  /// A deletion whose image of the row does not have what the filters ask for: where it tells all that a record needs, what it
  /// does not have was not there, and the row was none of this reconciliation.
  @inline(never)
  private mutating func takeOutUnfiltered(
    _ position: RecordPosition, _ events: inout RecordBuffer<OrderEvent>
  ) throws(DataFault) -> DecodeOutcome {
    do throws(DataFault) { _ = try fill(events.reserve(), position) } catch {
      return try takeOutByIdentity(position, &events, error)
    }
    return .skipped
  }

  /// Returns false where the record does not even tell which row it is: then it never was one of this reconciliation.
  private mutating func fillIdentity(_ event: UnsafeMutablePointer<OrderEvent>, _ position: RecordPosition) -> Bool {
    guard let known = extractor.identity(order: Index.order, id: Index.id, time: Index.time, times) else {
      return false
    }
    event.update(from: blank, count: 1)
    event.pointee.position = position
    (event.pointee.order, event.pointee.id, event.pointee.time_ms) = known
    return true
  }

  /// The event time of a record, whatever else is wrong with it; nil where it does not tell one.
  public mutating func eventTime_ms(key: ByteView, payload: ByteView) -> Int64? {
    do throws(DataFault) {
      switch try extractor.take(key: key, payload: payload) {
      case .record, .leaving, .unfiltered: break
      case .skipped, .tombstone: return nil
      }
      var isSkipped = false
      return try extractor.time(Index.time, times, isSkipped: &isSkipped)?.ms
    } catch { return nil }
  }

  private enum Index {
    static let order = 0, id = 1, event = 2, time = 3, documentDate = 4, document = 5, customer = 6, currency = 7
    static let lineCount = 8, quantity = 9, firstAmount = 10
    static let serviceStart = 19, serviceEnd = 20, servicePeriods = 21, line = 22
  }

  /// Returns false where a table says to skip the record.
  private mutating func fill(
    _ event: UnsafeMutablePointer<OrderEvent>, _ position: RecordPosition
  ) throws(DataFault) -> Bool {
    var isSkipped = false
    event.update(from: blank, count: 1)
    event.pointee.position = position
    guard let kind = try eventKind() else { return false }
    event.pointee.kind = kind
    event.pointee.order = try extractor.orderKey(Index.order, isSkipped: &isSkipped)
    if extractor.isMapped(Index.id) { event.pointee.id = try extractor.plain(Index.id, isSkipped: &isSkipped) }
    if extractor.isMapped(Index.document) {
      event.pointee.document = try extractor.plain(Index.document, isSkipped: &isSkipped)
    }
    if extractor.isMapped(Index.customer) {
      event.pointee.customer = try extractor.plain(Index.customer, isSkipped: &isSkipped)
    }
    let time = try extractor.time(Index.time, times, isSkipped: &isSkipped)
    guard let time else {
      if isSkipped { return false }
      throw DataFault(.schemaInvalid, field: "event_time", detail: "is missing")
    }
    event.pointee.time_ms = time.ms
    event.pointee.documentDate_d = time.day
    if hasOwnDate, extractor.isMapped(Index.documentDate),
      let date = try extractor.time(Index.documentDate, dates, isSkipped: &isSkipped)
    {
      event.pointee.documentDate_d = date.day
    }
    let currency = try extractor.currency(Index.currency, isSkipped: &isSkipped)
    event.pointee.currency = currency
    if extractor.isMapped(Index.lineCount) {
      event.pointee.lineCount = Int32(clamping: try extractor.integer(Index.lineCount, isSkipped: &isSkipped) ?? 0)
    }
    if extractor.isMapped(Index.quantity),
      let quantity = try extractor.quantity(Index.quantity, isSkipped: &isSkipped)
    {
      event.pointee.quantity_u = quantity
      event.pointee.quantityPresent = true
    }
    // Bit by component: only those that are mapped.
    let mapped = extractor.fields.mapped >> UInt32(Index.firstAmount) & (1 << UInt32(AmountComponent.count) - 1)
    let quick = extractor.hundredths(from: Index.firstAmount, mapped, currency, into: extractor.amounts)
    var components = mapped
    while components != 0 {
      let number = components.trailingZeroBitCount
      components &= components - 1
      let component = AmountComponent(rawValue: UInt8(truncatingIfNeeded: number)).unsafelyUnwrapped
      if quick &>> UInt32(number) & 1 != 0 {
        event.pointee.amounts[component] = extractor.amounts[number]
        continue
      }
      let index = Index.firstAmount + number
      if let amount = try extractor.amount(index, extractor.plan.fields + index, currency, isSkipped: &isSkipped) {
        event.pointee.amounts[component] = amount
      }
    }
    if hasRest { try readRest(event, isSkipped: &isSkipped) }
    try extractor.dimensions(&event.pointee.dimensions, isSkipped: &isSkipped)
    return !isSkipped
  }

  /// What few sources tell: the service that is billed, and the line of the document.
  @inline(never)
  private mutating func readRest(
    _ event: UnsafeMutablePointer<OrderEvent>, isSkipped: inout Bool
  ) throws(DataFault) {
    if extractor.isMapped(Index.line) { event.pointee.line = try extractor.plain(Index.line, isSkipped: &isSkipped) }
    if hasService { try readService(event, isSkipped: &isSkipped) }
  }

  /// The service that is billed. It begins on the day of the document where the record does not say when, and ends on the
  /// day that it names, or after so many periods.
  private mutating func readService(
    _ event: UnsafeMutablePointer<OrderEvent>, isSkipped: inout Bool
  ) throws(DataFault) {
    let end =
      extractor.isMapped(Index.serviceEnd)
      ? try extractor.time(Index.serviceEnd, serviceDates, isSkipped: &isSkipped)?.day : nil
    var count: Int64?
    if end == nil, extractor.isMapped(Index.servicePeriods) {
      count = try extractor.integer(Index.servicePeriods, isSkipped: &isSkipped)
    }
    guard end != nil || count != nil else { return }
    var start = event.pointee.documentDate_d
    if extractor.isMapped(Index.serviceStart),
      let own = try extractor.time(Index.serviceStart, serviceDates, isSkipped: &isSkipped)
    {
      start = own.day
    }
    if let count {
      guard (1...OrderDecoder.maximumServicePeriods).contains(count) else {
        throw DataFault(
          .schemaInvalid, field: "service_periods",
          detail: "\(count) is no number of periods from 1 to \(OrderDecoder.maximumServicePeriods)")
      }
    }
    let last = end ?? extractor.plan.specification.serviceTerm.last_d(from: start, count: Int(count ?? 1))
    guard start <= last else {
      throw DataFault(
        .schemaInvalid, field: "service_end",
        detail: "\(formatDate(last)) is before the service begins, on \(formatDate(start))")
    }
    guard Int(last) - Int(start) < maximumServiceDays else {
      throw DataFault(
        .schemaInvalid, field: end == nil ? "service_periods" : "service_end",
        detail: "a service from \(formatDate(start)) is longer than a century")
    }
    event.pointee.serviceStart_d = start
    event.pointee.serviceEnd_d = last
  }

  /// A century of months.
  private static let maximumServicePeriods: Int64 = 1_200

  /// nil where the table says to skip the record.
  @inline(__always)
  private mutating func eventKind() throws(DataFault) -> OrderEventKind? {
    let place = extractor.place(Index.event, kinds)
    if let value = place.value { return value < 0 ? nil : OrderEventKind(rawValue: UInt8(value)) }
    let kind = try extractor.eventKind(Index.event)
    place.remember(kind.map { Int64($0.rawValue) } ?? -1)
    return kind
  }
}
