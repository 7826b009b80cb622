import Aggregates
import Domain

extension Matcher {
  /// Adds a fact to the aggregates, or takes it back.
  /// - Parameters:
  ///   - order: What the order of a posting says of its dimensions; nil for `orderDimensions`.
  ///   - cancelDay: When the amounts of an event are taken back, where that is what is done.
  mutating func aggregate(
    _ fact: UnsafePointer<Fact>, sign: Int, under order: UnsafePointer<OrderDimensions>? = nil,
    _ extent: AggregateInput.Extent = .whole, cancelDay: Int32? = nil
  ) {
    var input = AggregateInput(
      kind: fact.pointee.isPosting ? AggregateInput.postingKind : fact.pointee.code, currency: fact.pointee.currency,
      eventPeriod: 0,
      postingPeriod: 0)
    input.extent = extent
    let timeDay = day(ofMilliseconds: fact.pointee.time_ms)
    let rateDay = fact.pointee.date_d == absentDate ? timeDay : fact.pointee.date_d
    let datedDay = cancelDay ?? rateDay
    if fact.pointee.isPosting {
      input.role = fact.pointee.role
      input.amount = fact.pointee.amount
    } else {
      var place = 0
      for component in AmountComponent.allCases where fact.pointee.mask & 1 << UInt16(component.rawValue) != 0 {
        input.amounts[component] = fact.pointee.amounts[place]
        place += 1
      }
    }
    if let quantity_u = fact.pointee.quantity_u {
      // The sign of a posted quantity says nothing; the side of the amount does.
      input.quantity_u = !fact.pointee.isPosting ? quantity_u : signed(quantity_u, against: fact.pointee.amount)
    }
    var offset = 0
    var dimension = 0
    while offset < fact.pointee.dimensionBytes.count, dimension < dimensionCount {
      let count = Int(fact.pointee.dimensionBytes.base![offset])
      if count > 0 {
        input.dimensions[dimension] = ByteView(base: fact.pointee.dimensionBytes.base! + offset + 1, count: count)
      }
      offset += 1 + count
      dimension += 1
    }
    if fact.pointee.isPosting {
      let order = order ?? UnsafePointer(orderDimensions)
      var inherited = order.pointee.known & inheritedDimensions
      while inherited != 0 {
        let dimension = inherited.trailingZeroBitCount
        if input.dimensions[dimension].count == 0 { input.dimensions[dimension] = order.pointee.value(dimension) }
        inherited &= inherited &- 1
      }
    }
    // An order event counts in the period of its document; a posting by event time, and by posting date.
    aggregates!.add(
      &input, eventDay: fact.pointee.isPosting ? timeDay : datedDay, postingDay: datedDay,
      statedPeriod: fact.pointee.isPosting ? fact.pointee.statedPeriod : 0, sign: sign)
    if hasSchedules, !fact.pointee.isPosting { aggregateReleases(fact, input, sign: sign, cancelDay: cancelDay) }
    if hasExchange {
      let day = earlier.isRateOfCancellation ? datedDay : rateDay
      aggregateInBase(fact, input, day: day, sign: sign, cancelDay: cancelDay)
    }
  }

  /// Adds what the schedule of a billing event releases to the cells of the periods in which it does, or takes it back: as
  /// all else in the aggregates it follows from the fact, the policy and the calendar alone. A cancelled invoice whose
  /// invoice is not known takes back the releases of its own service.
  @inline(__always)
  mutating func aggregateReleases(
    _ fact: UnsafePointer<Fact>, _ input: borrowing AggregateInput, sign: Int, cancelDay: Int32?
  ) {
    guard let service = fact.pointee.service, input.extent != .event else { return }
    aggregateReleases(fact, input, from: service.first_d, to: service.last_d, sign: sign, cancelDay: cancelDay)
  }

  @inline(never)
  private mutating func aggregateReleases(
    _ fact: UnsafePointer<Fact>, _ input: borrowing AggregateInput, from first: Int32, to last: Int32, sign: Int,
    cancelDay: Int32?
  ) {
    func whole(_ code: UInt8, _ date_d: Int32) -> Int128 {
      expectations.of(code, date_d: date_d, time_ms: fact.pointee.time_ms, source: fact.pointee.source).reduce(0) {
        $1.role == .deferred ? $0 - Int128(input.amounts[$1.component]) * Int128($1.sign) : $0
      }
    }
    var amount = whole(fact.pointee.code, fact.pointee.date_d)
    if amount == 0, fact.pointee.code == OrderEventKind.invoiceCancelled.rawValue {
      amount = -whole(OrderEventKind.invoiced.rawValue, earlier.releaseDay ?? fact.pointee.date_d)
    }
    guard amount != 0, let checks = policy.checks, let schedules = checks.schedules else { return }
    var steps: [(period: Int32, amount: Int64)] = []
    let isWhole = earlier.isRemainderWhole
    schedules.forEachRelease(of: amount, from: first, to: last, checks.calendar, isRemainderWhole: isWhole) {
      period, first, _, amount in
      // What was released before a cancellation is taken back in its period.
      let day = max(first, cancelDay ?? first)
      // Behind the end of the calendar periods have no names: a month's could be that of another fiscal period.
      steps.append(
        (checks.calendar.map { $0.period(ofDay: day) } ?? calendarPeriod(ofDay: day), Int64(clamping: amount)))
    }
    aggregates!.add(releases: steps, of: input, sign: sign)
  }

  /// A cancelled invoice takes back what was billed under its number, once and whole, in the period of the cancellation, as
  /// in the tie (`Judge.cancelDocument`). The sums have what its record says by itself: this makes the difference, or takes
  /// it out again. Called before and after the billing events of a tie change.
  /// - Parameter document: Whose difference it is; nil for all.
  @inline(never)
  mutating func aggregateCancelled(_ slot: Int, of document: ByteView? = nil, sign: Int) {
    guard aggregates != nil, !cancelledDocuments.isEmpty, let documents = cancelledDocuments[UInt32(slot)],
      document.map({ documents.contains(textHash($0)) }) ?? true
    else { return }
    var cancellations: [(fact: Fact, document: UInt64)] = []
    var invoices: [(fact: Fact, day: Int32?)] = []
    var places: [UInt64: [Int]] = [:]
    var facts = facts(slot)
    while facts.next() {
      let isCancellation = facts.code == OrderEventKind.invoiceCancelled.rawValue
      guard !facts.isPosting, isCancellation || facts.code == OrderEventKind.invoiced.rawValue,
        facts.flags & (Fact.Flag.delete | Fact.Flag.rejected) == 0, !facts.document.isEmpty,
        document.map({ $0.elementsEqual(facts.document) }) ?? true
      else { continue }
      let name = textHash(facts.document)
      guard documents.contains(name) else { continue }
      if isCancellation {
        cancellations.append((Fact(facts, number: 0, texts: &texts), name))
      } else {
        places[name, default: []].append(invoices.count)
        invoices.append((Fact(facts, number: 0, texts: &texts), nil))
      }
    }
    for (cancellation, document) in cancellations {
      guard let own = places[document] else { continue }
      let before = own.filter { invoices[$0].fact.time_ms <= cancellation.time_ms }
      for at in before.isEmpty ? own : before {
        invoices[at].day = min(invoices[at].day ?? .max, cancellation.rateDay)
      }
      withUnsafePointer(to: cancellation) {
        aggregate($0, sign: -sign)
        aggregate($0, sign: sign, .event)
      }
    }
    for (invoice, day) in invoices {
      guard let day else { continue }
      withUnsafePointer(to: invoice) { aggregate($0, sign: -sign, .amounts, cancelDay: max(day, invoice.rateDay)) }
    }
  }

  /// Keeps which documents the events of a tie cancel.
  mutating func noteCancelled(_ slot: Int) {
    var facts = facts(slot)
    while facts.next() {
      if !facts.isPosting, facts.code == OrderEventKind.invoiceCancelled.rawValue {
        noteCancelled(slot, facts.document)
      }
    }
  }

  /// A document is cancelled.
  mutating func noteCancelled(_ slot: Int, _ document: ByteView) {
    if !document.isEmpty { cancelledDocuments[UInt32(slot), default: []].insert(textHash(document)) }
  }

  // MARK: - Sums of earlier versions

  /// How the sums have what cancelled invoices take back.
  enum CancelledSums {
    /// By what the cancellations say: so did a version that released what a schedule leaves to the last period as it came,
    /// too.
    case asSaid
    /// As their invoices, but converted at the rate of the cancellation.
    case atLaterRate
    case asBilled

    /// What stands before the other sums where the aggregates have them so.
    var tag: UInt64? {
      switch self {
      case .asSaid: nil
      case .atLaterRate: 0x6465_6c6c_6563_6e43  // "Cncelled"
      case .asBilled: 0x6465_6c6c_6563_6e44  // "Dncelled"
      }
    }
  }

  /// By which rules a fact is taken out of sums that an earlier version has made.
  struct EarlierRules {
    /// The day by whose policy a cancellation took releases back, where policies are dated.
    var releaseDay: Int32?
    var isRateOfCancellation = false
    /// What a schedule leaves to the last period may have the other sign.
    var isRemainderWhole = false
  }

  /// The sums are of a version that took cancellations in another way: makes the difference for the ties that are held. Those
  /// that a running revision has not come to have been summed by the policies before it.
  public mutating func takeBackCancelled() {
    guard aggregates != nil, cancelledSums != .asBilled else { return }
    let before = cancelledSums
    cancelledSums = .asBilled
    let current = expectations
    for slot in 1..<usedSlots where ties[slot].has(Tie.Flag.live | Tie.Flag.hasOrder) {
      texts.reset()
      if isRevising, !isRevised(slot) { expectations = revision.old }
      if before == .asSaid {
        if hasSchedules { renewReleases(slot) }
        aggregateCancelled(slot, sign: 1)
      } else if hasExchange {
        earlier.isRateOfCancellation = true
        aggregateCancelled(slot, sign: -1)
        earlier.isRateOfCancellation = false
        aggregateCancelled(slot, sign: 1)
      }
      expectations = current
    }
    settleAggregates()
  }

  /// Makes the releases of a tie's events anew that an earlier version has summed in another way: by the policy of the day of
  /// the first invoice of a cancelled document, and with all of the remainder in the last period.
  private mutating func renewReleases(_ slot: Int) {
    let isRemainderLast = policy.checks!.schedules!.remainder == .last
    var days: [UInt64: Int32] = [:]
    if expectations.isDated, cancelledDocuments[UInt32(slot)] != nil {
      var invoices = facts(slot)
      while invoices.next() {
        guard !invoices.isPosting, invoices.code == OrderEventKind.invoiced.rawValue,
          invoices.flags & (Fact.Flag.delete | Fact.Flag.rejected) == 0
        else { continue }
        let own = invoices.date_d == absentDate ? day(ofMilliseconds: invoices.time_ms) : invoices.date_d
        let name = textHash(invoices.document)
        days[name] = min(days[name] ?? own, own)
      }
    }
    var facts = facts(slot)
    while facts.next() {
      guard facts.service != nil, facts.flags & (Fact.Flag.delete | Fact.Flag.rejected) == 0 else { continue }
      let isCancellation = facts.code == OrderEventKind.invoiceCancelled.rawValue
      let day = isCancellation && !facts.document.isEmpty ? days[textHash(facts.document)] : nil
      guard isRemainderLast || day != nil else { continue }
      var fact = Fact(facts, number: 0, texts: &texts)
      withUnsafePointer(to: &fact) {
        earlier = EarlierRules(releaseDay: day, isRemainderWhole: true)
        aggregate($0, sign: -1)
        earlier = EarlierRules()
        aggregate($0, sign: 1)
      }
    }
  }

  /// At the end of every step that takes facts in or takes them back.
  @inline(__always)
  mutating func settleAggregates() {
    if aggregates != nil { aggregates!.settle() }
  }

  private func signed(_ quantity_u: Int64, against amount: Int64) -> Int64 {
    let size = Int64(clamping: quantity_u.magnitude)
    return amount > 0 ? -size : size
  }

  /// Of the aggregates and of what has been told of them; 0 where there are none.
  public var aggregatesDigest: UInt64 {
    guard aggregates != nil else { return 0 }
    return aggregates!.makeDigest()
  }

  public var hasAggregates: Bool { aggregates != nil }

  /// Cells that are held, and what found none; nil where there are no aggregates.
  public var aggregateCounts: (cells: Int, overflow: CellTable.Overflow)? {
    guard aggregates != nil else { return nil }
    return aggregates!.counts()
  }

  /// Writes the aggregates as a checkpoint keeps them, where there are any.
  public func exportAggregates(into writer: inout ByteWriter) {
    if aggregates != nil { aggregates!.export(into: &writer) }
  }

  /// Adds the cells to a table, where there are any.
  public func mergeAggregates(into table: inout CellTable) {
    if aggregates != nil { aggregates!.merge(into: &table) }
  }
}
