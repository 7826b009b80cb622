import CShims
import Domain

/// Decodes the records of one ledger source; one per worker and source.
public struct PostingDecoder: ~Copyable {
  private var extractor: Extractor
  /// What a record holds before it is filled.
  private let blank: UnsafeMutablePointer<Posting>
  private let roles = TextMemo()
  private let times = TextMemo()
  private let dates = TextMemo()
  private let periods = TextMemo()
  private let flags = TextMemo()
  private let hasQuantity: Bool
  private let hasBaseAmount: Bool
  /// Whether either of them is mapped, or the line.
  private let hasExtras: Bool

  /// - Parameter schemas: For the Avro formats, which cannot be read without.
  public init(plan: MappingPlan, schemas: (any AvroSchemas)? = nil) {
    self.init(plan: plan, isQuick: true, schemas: schemas)
  }

  /// `isQuick`: see `Extractor`.
  init(plan: MappingPlan, isQuick: Bool, walker: tieout_walk = tieout_best_walk(), schemas: (any AvroSchemas)? = nil) {
    blank = .allocate(capacity: 1)
    blank.initialize(to: Posting())
    precondition(plan.specification.kind == .ledger)
    let fields = plan.specification.fields
    let (quantity, baseAmount) = (fields[PostingField.quantity.rawValue], fields[PostingField.baseAmount.rawValue])
    hasQuantity = quantity != nil
    hasBaseAmount = baseAmount != nil
    hasExtras = quantity != nil || baseAmount != nil || fields[PostingField.line.rawValue] != nil
    extractor = Extractor(
      plan: plan, memoised: [Index.role, Index.reversal, Index.time, Index.postingDate, Index.period],
      amounts: Index.baseAmount..<Index.baseAmount + 1, isQuick: isQuick, walker: walker, schemas: schemas)
  }

  deinit { blank.deallocate() }

  /// Which of the mapping's paths led to something.
  public var pathCounts: PathCounts { extractor.pathCounts }

  /// Frees the texts of all postings decoded since the last call.
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
    key: ByteView, payload: ByteView, position: RecordPosition, into postings: inout RecordBuffer<Posting>
  ) throws(DataFault) -> DecodeOutcome {
    switch try extractor.take(key: key, payload: payload) {
    case .skipped: return .skipped
    case .tombstone: return .tombstone
    case .leaving: return try takeOut(position, &postings)
    case .unfiltered: return try takeOutUnfiltered(position, &postings)
    case .record: break
    }
    let posting = postings.reserve()
    let isTaken: Bool
    do throws(DataFault) { isTaken = try fill(posting, position) } catch {
      // One that waits for its master data stays behind what it takes out.
      guard extractor.isDelete, error.reason != .masterDataMissing else { throw error }
      return try takeOutByIdentity(position, &postings, error)
    }
    guard isTaken else { return extractor.isUpdate ? try takeOut(position, &postings) : .skipped }
    if extractor.isUpdate || extractor.isDelete, posting.pointee.id.isEmpty { throw PostingDecoder.changeWithoutID }
    posting.pointee.isDelete = extractor.isDelete
    posting.pointee.isUpsert = extractor.isUpsert
    if extractor.isUpsert, extractor.hasBefore { return try appendBoth(posting.pointee, &postings) }
    postings.commit()
    return .appended(1)
  }

  /// An update that carries the line before the change. Where it moved to another order, or goes by another
  /// id now, it is taken back as what it was first.
  private mutating func appendBoth(
    _ after: Posting, _ postings: inout RecordBuffer<Posting>
  ) throws(DataFault) -> DecodeOutcome {
    extractor.readBefore()
    let before = postings.reserve()
    let hasMoved =
      try fillBefore(before, after.position)
      && !(before.pointee.order.elementsEqual(after.order) && before.pointee.id.elementsEqual(after.id))
    if hasMoved {
      before.pointee.isDelete = true
      postings.commit()
    }
    postings.append(after)
    return .appended(hasMoved ? 2 : 1)
  }

  /// An update after which the line is no longer one of this reconciliation: where it was one before it is taken back. A
  /// feed that does not say what was before leaves the order and the id of now, which is enough.
  @inline(never)
  private mutating func takeOut(
    _ position: RecordPosition, _ postings: inout RecordBuffer<Posting>
  ) throws(DataFault) -> DecodeOutcome {
    let posting = postings.reserve()
    if extractor.hasBefore {
      extractor.readBefore()
      guard try fillBefore(posting, position) else { return .skipped }
      if posting.pointee.id.isEmpty { throw PostingDecoder.changeWithoutID }
    } else {
      guard fillIdentity(posting, position) else { return .skipped }
    }
    posting.pointee.isDelete = true
    postings.commit()
    return .appended(1)
  }

  /// The image before a change, where it passed the filters. Where it does not tell all that a record needs, or tells what
  /// was refused, which row it is.
  private mutating func fillBefore(
    _ posting: UnsafeMutablePointer<Posting>, _ position: RecordPosition
  ) throws(DataFault) -> Bool {
    let hasPassed = try extractor.passesFilters()
    if !hasPassed, !(try extractor.mayHavePassed()) { return false }
    do throws(DataFault) {
      // A whole image lacks only what was not there.
      return try fill(posting, position) && hasPassed
    } catch { return fillIdentity(posting, position) }
  }

  /// A deletion whose image of the row does not tell all that a record needs, often nothing but its key: which row it takes out is
  /// enough.
  @inline(never)
  private mutating func takeOutByIdentity(
    _ position: RecordPosition, _ postings: inout RecordBuffer<Posting>, _ why: DataFault
  ) throws(DataFault) -> DecodeOutcome {
    let posting = postings.reserve()
    guard fillIdentity(posting, position) else {
      throw extractor.lacking(order: Index.order, id: Index.id, time: Index.time, why)
    }
    posting.pointee.isDelete = true
    postings.commit()
    return .appended(1)
  }

  /// A deletion whose image of the row does not have what the filters ask for: where it tells all that a record needs, what it
  /// does not have was not there, and the row was none of this reconciliation.
  @inline(never)
  private mutating func takeOutUnfiltered(
    _ position: RecordPosition, _ postings: inout RecordBuffer<Posting>
  ) throws(DataFault) -> DecodeOutcome {
    do throws(DataFault) { _ = try fill(postings.reserve(), position) } catch {
      return try takeOutByIdentity(position, &postings, error)
    }
    return .skipped
  }

  /// Returns false where the record does not even tell which line it is: then it never was one of this reconciliation.
  private mutating func fillIdentity(_ posting: UnsafeMutablePointer<Posting>, _ position: RecordPosition) -> Bool {
    guard let known = extractor.identity(order: Index.order, id: Index.id, time: Index.time, times) else {
      return false
    }
    posting.update(from: blank, count: 1)
    posting.pointee.position = position
    (posting.pointee.order, posting.pointee.id, posting.pointee.time_ms) = known
    return true
  }

  /// What was there before would stay and count beside it.
  private static let changeWithoutID = DataFault(
    .schemaInvalid, field: "line_id",
    detail: "a change of a row that has no line_id: which line it changes or takes out is not known")

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
    static let order = 0, id = 1, journal = 2, document = 3, reverses = 4, reversal = 5, customer = 6, account = 7
    static let role = 8, currency = 9, time = 10, postingDate = 11, period = 12
    static let quantity = 13, baseAmount = 14, line = 15
  }

  private mutating func fill(
    _ posting: UnsafeMutablePointer<Posting>, _ position: RecordPosition
  ) throws(DataFault) -> Bool {
    var isSkipped = false
    posting.update(from: blank, count: 1)
    posting.pointee.position = position
    guard let role = try accountRole() else { return false }
    posting.pointee.role = role
    posting.pointee.order = try extractor.orderKey(Index.order, isSkipped: &isSkipped)
    if extractor.isMapped(Index.id) { posting.pointee.id = try extractor.plain(Index.id, isSkipped: &isSkipped) }
    if extractor.isMapped(Index.journal) {
      posting.pointee.journal = try extractor.plain(Index.journal, isSkipped: &isSkipped)
    }
    if extractor.isMapped(Index.document) {
      posting.pointee.document = try extractor.plain(Index.document, isSkipped: &isSkipped)
    }
    if extractor.isMapped(Index.reverses) {
      posting.pointee.reverses = try extractor.plain(Index.reverses, isSkipped: &isSkipped)
    }
    if extractor.isMapped(Index.reversal) { posting.pointee.isReversal = try isReversal(isSkipped: &isSkipped) }
    if extractor.isMapped(Index.customer) {
      posting.pointee.customer = try extractor.plain(Index.customer, isSkipped: &isSkipped)
    }
    if extractor.isMapped(Index.account) {
      posting.pointee.account = try extractor.plain(Index.account, isSkipped: &isSkipped)
    }
    guard let time = try extractor.time(Index.time, times, isSkipped: &isSkipped) else {
      if isSkipped { return false }
      throw DataFault(.schemaInvalid, field: "event_time", detail: "is missing")
    }
    posting.pointee.time_ms = time.ms
    if extractor.isMapped(Index.postingDate),
      let date = try extractor.time(Index.postingDate, dates, isSkipped: &isSkipped)
    {
      posting.pointee.postingDate_d = date.day
    }
    if extractor.isMapped(Index.period) { posting.pointee.period = try period(isSkipped: &isSkipped) }
    let currency = try extractor.currency(Index.currency, isSkipped: &isSkipped)
    guard currency != .none else {
      if isSkipped { return false }
      throw DataFault(.schemaInvalid, field: "currency", detail: "is missing")
    }
    posting.pointee.currency = currency
    posting.pointee.amount = try extractor.postingAmount(currency, isSkipped: &isSkipped)
    if hasExtras { try readExtras(posting, isSkipped: &isSkipped) }
    try extractor.dimensions(&posting.pointee.dimensions, isSkipped: &isSkipped)
    return !isSkipped
  }

  /// What few ledgers tell: the line of the document, the quantity, and the amount in the base currency.
  @inline(never)
  private mutating func readExtras(
    _ posting: UnsafeMutablePointer<Posting>, isSkipped: inout Bool
  ) throws(DataFault) {
    if extractor.isMapped(Index.line) { posting.pointee.line = try extractor.plain(Index.line, isSkipped: &isSkipped) }
    if hasQuantity, let quantity = try extractor.quantity(Index.quantity, isSkipped: &isSkipped) {
      posting.pointee.quantity_u = quantity
      posting.pointee.extras |= Posting.Extra.quantity
    }
    guard hasBaseAmount else { return }
    let index = Index.baseAmount
    let base = try extractor.amount(
      index, extractor.plan.fields + index, extractor.plan.specification.baseCurrency, isSkipped: &isSkipped)
    guard let base else { return }
    // The amount says on which side the line stands; many ledgers write the other one without a sign.
    let amount = posting.pointee.amount
    posting.pointee.baseAmount = amount == 0 || base == .min || (base < 0) == (amount < 0) ? base : -base
    posting.pointee.extras |= Posting.Extra.baseAmount
  }

  /// nil where the table says to skip the record.
  @inline(__always)
  private mutating func accountRole() throws(DataFault) -> AccountRole? {
    let place = extractor.place(Index.role, roles)
    if let value = place.value { return value < 0 ? nil : AccountRole(rawValue: UInt8(value)) }
    let role = try extractor.accountRole(Index.role)
    place.remember(role.map { Int64($0.rawValue) } ?? -1)
    return role
  }

  private mutating func isReversal(isSkipped: inout Bool) throws(DataFault) -> Bool {
    let place = extractor.place(Index.reversal, flags)
    if let value = place.value { return value != 0 }
    var isTableSkipping = false
    let flag = try extractor.flag(Index.reversal, isSkipped: &isTableSkipping)
    if isTableSkipping { isSkipped = true } else { place.remember(flag ? 1 : 0) }
    return flag
  }

  @inline(__always)
  private mutating func period(isSkipped: inout Bool) throws(DataFault) -> Int32 {
    let place = extractor.place(Index.period, periods)
    if let value = place.value { return Int32(truncatingIfNeeded: value) }
    var isTableSkipping = false
    let period = try extractor.period(Index.period, isSkipped: &isTableSkipping)
    if isTableSkipping { isSkipped = true } else { place.remember(Int64(period)) }
    return period
  }
}
