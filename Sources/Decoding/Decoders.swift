import Domain

/// Decodes the records of one orders source; one per worker and source.
public struct OrderDecoder: ~Copyable {
  private var extractor: Extractor
  private let isMapped: [Bool]

  public init(plan: MappingPlan) {
    precondition(plan.specification.kind == .orders)
    isMapped = (0..<plan.fieldCount).map { plan.fields[$0].isMapped }
    extractor = Extractor(plan: plan)
  }

  /// Frees the texts of all events decoded since the last call.
  public mutating func reset() { extractor.reset() }

  /// CSV files: takes the line that names the columns.
  public mutating func readHeader(_ line: ByteView) throws(DataFault) { try extractor.readHeader(line) }

  /// Decodes one record. The texts of what is appended borrow from `key`, `payload` and this decoder until `reset`.
  public mutating func decode(
    key: ByteView, payload: ByteView, position: RecordPosition, into events: inout RecordBuffer<OrderEvent>
  ) throws(DataFault) -> DecodeOutcome {
    switch try extractor.take(key: key, payload: payload) {
    case .skipped: return .skipped
    case .tombstone: return .tombstone
    case .record: break
    }
    var appended = 0
    var after = OrderEvent()
    after.position = position
    guard try fill(&after) else { return .skipped }
    if extractor.isUpsert, extractor.hasBefore {
      // The row moved to another order: it is taken back from the old one.
      extractor.readsBefore = true
      var before = OrderEvent()
      before.position = position
      if try fill(&before), !before.order.elementsEqual(after.order) {
        before.isDelete = true
        events.append(before)
        appended += 1
      }
    }
    after.isDelete = extractor.isDelete
    after.isUpsert = extractor.isUpsert
    events.append(after)
    return .appended(appended + 1)
  }

  private enum Index {
    static let order = 0, id = 1, event = 2, time = 3, documentDate = 4, document = 5, customer = 6, currency = 7
    static let lineCount = 8, quantity = 9, firstAmount = 10
  }

  /// Returns false where a table says to skip the record.
  private mutating func fill(_ event: inout OrderEvent) throws(DataFault) -> Bool {
    var isSkipped = false
    let kind = try extractor.fieldText(Index.event, isSkipped: &isSkipped)
    if isSkipped { return false }
    guard let parsed = orderEventKind(kind) else {
      throw DataFault(.schemaInvalid, field: "event", detail: "'\(quoted(kind))' is no order event")
    }
    event.kind = parsed
    event.order = try extractor.fieldText(Index.order, isSkipped: &isSkipped)
    guard !event.order.isEmpty else {
      throw DataFault(.schemaInvalid, field: "order", detail: "the order key is empty")
    }
    guard event.order.count <= maximumKeyBytes else {
      throw DataFault(.schemaInvalid, field: "order", detail: "the order key has \(event.order.count) bytes")
    }
    if isMapped[Index.id] { event.id = try extractor.fieldText(Index.id, isSkipped: &isSkipped) }
    if isMapped[Index.document] { event.document = try extractor.fieldText(Index.document, isSkipped: &isSkipped) }
    if isMapped[Index.customer] { event.customer = try extractor.fieldText(Index.customer, isSkipped: &isSkipped) }
    let time = try extractor.time(Index.time, isSkipped: &isSkipped)
    guard let time else { throw DataFault(.schemaInvalid, field: "event_time", detail: "is missing") }
    event.time_ms = time.ms
    event.documentDate_d = time.day
    if isMapped[Index.documentDate], let date = try extractor.time(Index.documentDate, isSkipped: &isSkipped) {
      event.documentDate_d = date.day
    }
    event.currency = try extractor.currency(Index.currency, isSkipped: &isSkipped)
    if isMapped[Index.lineCount] {
      event.lineCount = Int32(clamping: try extractor.integer(Index.lineCount, isSkipped: &isSkipped) ?? 0)
    }
    if isMapped[Index.quantity], let quantity = try extractor.quantity(Index.quantity, isSkipped: &isSkipped) {
      event.quantity_u = quantity
      event.quantityPresent = true
    }
    for component in AmountComponent.allCases {
      let index = Index.firstAmount + Int(component.rawValue)
      guard isMapped[index], let amount = try extractor.amount(index, event.currency, isSkipped: &isSkipped) else {
        continue
      }
      event.amounts[component] = amount
    }
    try extractor.dimensions(&event.dimensions, isSkipped: &isSkipped)
    return !isSkipped
  }
}

/// Decodes the records of one ledger source; one per worker and source.
public struct PostingDecoder: ~Copyable {
  private var extractor: Extractor
  private let isMapped: [Bool]

  public init(plan: MappingPlan) {
    precondition(plan.specification.kind == .ledger)
    isMapped = (0..<plan.fieldCount).map { plan.fields[$0].isMapped }
    extractor = Extractor(plan: plan)
  }

  /// Frees the texts of all postings decoded since the last call.
  public mutating func reset() { extractor.reset() }

  /// CSV files: takes the line that names the columns.
  public mutating func readHeader(_ line: ByteView) throws(DataFault) { try extractor.readHeader(line) }

  /// Decodes one record. The texts of what is appended borrow from `key`, `payload` and this decoder until `reset`.
  public mutating func decode(
    key: ByteView, payload: ByteView, position: RecordPosition, into postings: inout RecordBuffer<Posting>
  ) throws(DataFault) -> DecodeOutcome {
    switch try extractor.take(key: key, payload: payload) {
    case .skipped: return .skipped
    case .tombstone: return .tombstone
    case .record: break
    }
    var appended = 0
    var after = Posting()
    after.position = position
    guard try fill(&after) else { return .skipped }
    if extractor.isUpsert, extractor.hasBefore {
      // The line moved to another order: it is taken back from the old one.
      extractor.readsBefore = true
      var before = Posting()
      before.position = position
      if try fill(&before), !before.order.elementsEqual(after.order) {
        before.isDelete = true
        postings.append(before)
        appended += 1
      }
    }
    after.isDelete = extractor.isDelete
    after.isUpsert = extractor.isUpsert
    postings.append(after)
    return .appended(appended + 1)
  }

  private enum Index {
    static let order = 0, id = 1, journal = 2, document = 3, reverses = 4, reversal = 5, customer = 6, account = 7
    static let role = 8, currency = 9, time = 10, postingDate = 11, period = 12
  }

  private mutating func fill(_ posting: inout Posting) throws(DataFault) -> Bool {
    var isSkipped = false
    let role = try extractor.fieldText(Index.role, isSkipped: &isSkipped)
    if isSkipped { return false }
    guard let parsed = accountRole(role) else {
      throw DataFault(
        .schemaInvalid, field: "role", detail: role.isEmpty ? "is missing" : "'\(quoted(role))' is no account role")
    }
    posting.role = parsed
    posting.order = try extractor.fieldText(Index.order, isSkipped: &isSkipped)
    guard !posting.order.isEmpty else {
      throw DataFault(.schemaInvalid, field: "order", detail: "the order key is empty")
    }
    guard posting.order.count <= maximumKeyBytes else {
      throw DataFault(.schemaInvalid, field: "order", detail: "the order key has \(posting.order.count) bytes")
    }
    if isMapped[Index.id] { posting.id = try extractor.fieldText(Index.id, isSkipped: &isSkipped) }
    if isMapped[Index.journal] { posting.journal = try extractor.fieldText(Index.journal, isSkipped: &isSkipped) }
    if isMapped[Index.document] { posting.document = try extractor.fieldText(Index.document, isSkipped: &isSkipped) }
    if isMapped[Index.reverses] { posting.reverses = try extractor.fieldText(Index.reverses, isSkipped: &isSkipped) }
    if isMapped[Index.reversal] {
      let text = try extractor.fieldText(Index.reversal, isSkipped: &isSkipped)
      switch text.string.lowercased() {
      case "true", "1", "x", "y", "yes": posting.isReversal = true
      case "", "false", "0", "n", "no": break
      default: throw DataFault(.schemaInvalid, field: "reversal", detail: "'\(quoted(text))' is neither true nor false")
      }
    }
    if isMapped[Index.customer] { posting.customer = try extractor.fieldText(Index.customer, isSkipped: &isSkipped) }
    if isMapped[Index.account] { posting.account = try extractor.fieldText(Index.account, isSkipped: &isSkipped) }
    guard let time = try extractor.time(Index.time, isSkipped: &isSkipped) else {
      throw DataFault(.schemaInvalid, field: "event_time", detail: "is missing")
    }
    posting.time_ms = time.ms
    if isMapped[Index.postingDate], let date = try extractor.time(Index.postingDate, isSkipped: &isSkipped) {
      posting.postingDate_d = date.day
    }
    if isMapped[Index.period] {
      let text = try extractor.fieldText(Index.period, isSkipped: &isSkipped)
      if !text.isEmpty {
        guard let period = parsePeriod(text) else {
          throw DataFault(.schemaInvalid, field: "period", detail: "'\(quoted(text))' is no accounting period")
        }
        posting.period = period
      }
    }
    posting.currency = try extractor.currency(Index.currency, isSkipped: &isSkipped)
    guard posting.currency != .none else { throw DataFault(.schemaInvalid, field: "currency", detail: "is missing") }
    posting.amount = try extractor.postingAmount(posting.currency, isSkipped: &isSkipped)
    try extractor.dimensions(&posting.dimensions, isSkipped: &isSkipped)
    return !isSkipped
  }
}

/// Order keys longer than this are a fault of the sender; a break id must fit into a Kafka key with room to spare.
public let maximumKeyBytes = 1_024

private func orderEventKind(_ text: ByteView) -> OrderEventKind? {
  for (kind, name) in orderEventNames where name.count == text.count && text.buffer.elementsEqual(name) { return kind }
  return nil
}

private func accountRole(_ text: ByteView) -> AccountRole? {
  for (role, name) in roleNames where name.count == text.count && text.buffer.elementsEqual(name) { return role }
  return nil
}

private let orderEventNames = OrderEventKind.allCases.map { ($0, Array($0.name.utf8)) }
private let roleNames = AccountRole.allCases.map { ($0, Array($0.name.utf8)) }

extension Extractor {
  mutating func time(_ index: Int, isSkipped: inout Bool) throws(DataFault) -> ParsedTime? {
    let text = try fieldText(index, isSkipped: &isSkipped)
    if text.isEmpty { return nil }
    guard let time = plan.fields[index].time?.parse(text) else {
      throw DataFault(
        .schemaInvalid, field: plan.fields[index].name, detail: "'\(quoted(text))' is no such date or time")
    }
    return time
  }

  mutating func currency(_ index: Int, isSkipped: inout Bool) throws(DataFault) -> Currency {
    let text = try fieldText(index, isSkipped: &isSkipped)
    if text.isEmpty { return .none }
    guard let currency = Currency(ascii: text.buffer) else {
      throw DataFault(.schemaInvalid, field: "currency", detail: "'\(quoted(text))' is no ISO 4217 currency")
    }
    return currency
  }

  mutating func integer(_ index: Int, isSkipped: inout Bool) throws(DataFault) -> Int64? {
    let text = try fieldText(index, isSkipped: &isSkipped)
    if text.isEmpty { return nil }
    guard let number = try? DecimalText(text.buffer), let value = try? number.units(decimals: 0) else {
      throw DataFault(.schemaInvalid, field: plan.fields[index].name, detail: "'\(quoted(text))' is no whole number")
    }
    return value
  }

  mutating func quantity(_ index: Int, isSkipped: inout Bool) throws(DataFault) -> Int64? {
    let text = try fieldText(index, isSkipped: &isSkipped)
    if text.isEmpty { return nil }
    do throws(DecimalFault) {
      return try parseAmount(text, plan.fields[index].decimal).units(decimals: 6, rounding: .halfEven)
    } catch {
      throw DataFault(
        .nonDecimalAmount, field: plan.fields[index].name, detail: "'\(quoted(text))' is no quantity (\(error))")
    }
  }

  mutating func amount(_ index: Int, _ currency: Currency, isSkipped: inout Bool) throws(DataFault) -> Int64? {
    try amount(plan.fields + index, currency, isSkipped: &isSkipped)
  }

  private mutating func amount(
    _ field: UnsafePointer<CompiledField>, _ currency: Currency, isSkipped: inout Bool
  ) throws(DataFault) -> Int64? {
    let text = try finish(field, isSkipped: &isSkipped)
    if text.isEmpty { return nil }
    guard currency != .none else {
      throw DataFault(.schemaInvalid, field: "currency", detail: "is missing, and there is an amount")
    }
    do throws(DecimalFault) {
      let value = try parseAmount(text, field.pointee.decimal).units(
        decimals: currency.exponent, rounding: field.pointee.decimal.rounding)
      // One bit of head room, so that signs can be turned and sides subtracted.
      guard value.magnitude < 1 << 62 else { throw DecimalFault.overflow }
      return value
    } catch {
      let why =
        switch error {
        case .notDecimal: "is no decimal amount"
        case .tooManyDecimals: "has more decimals than \(currency.code)"
        case .overflow: "is too large"
        }
      throw DataFault(.nonDecimalAmount, field: field.pointee.name, detail: "'\(quoted(text))' \(why)")
    }
  }

  mutating func postingAmount(_ currency: Currency, isSkipped: inout Bool) throws(DataFault) -> Int64 {
    switch plan.amountKind {
    case .none: return 0
    case .signed:
      guard let value = try amount(plan.amount, currency, isSkipped: &isSkipped) else {
        throw DataFault(.nonDecimalAmount, field: "amount", detail: "is missing")
      }
      return value
    case .debitCredit:
      let debit = try amount(plan.amount, currency, isSkipped: &isSkipped)
      let credit = try amount(plan.otherAmount, currency, isSkipped: &isSkipped)
      guard debit != nil || credit != nil else {
        throw DataFault(.nonDecimalAmount, field: "amount", detail: "neither debit nor credit is there")
      }
      return (debit ?? 0) - (credit ?? 0)
    case .indicated:
      guard let value = try amount(plan.amount, currency, isSkipped: &isSkipped) else {
        throw DataFault(.nonDecimalAmount, field: "amount", detail: "is missing")
      }
      let side = try finish(plan.otherAmount, isSkipped: &isSkipped)
      switch side.string {
      case "debit": return value
      case "credit": return -value
      default:
        throw DataFault(.schemaInvalid, field: "amount.side", detail: "'\(quoted(side))' is neither debit nor credit")
      }
    }
  }

  mutating func dimensions(
    _ target: inout InlineArray<8, ByteView>, isSkipped: inout Bool
  ) throws(DataFault) {
    for index in 0..<plan.dimensionCount where plan.dimensions[index].isMapped {
      target[index] = try finish(plan.dimensions + index, isSkipped: &isSkipped)
    }
  }
}
