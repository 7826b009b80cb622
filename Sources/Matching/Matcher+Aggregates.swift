import Aggregates
import Domain

extension Matcher {
  /// Adds a fact to the aggregates, or takes it back.
  /// - Parameter order: What the order of a posting says of its dimensions; nil for `orderDimensions`.
  mutating func aggregate(
    _ fact: UnsafePointer<Fact>, sign: Int, under order: UnsafePointer<OrderDimensions>? = nil
  ) {
    var input = AggregateInput(
      kind: fact.pointee.isPosting ? AggregateInput.postingKind : fact.pointee.code, currency: fact.pointee.currency,
      eventPeriod: 0,
      postingPeriod: 0)
    let timeDay = day(ofMilliseconds: fact.pointee.time_ms)
    let datedDay = fact.pointee.date_d == absentDate ? timeDay : fact.pointee.date_d
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
    if hasSchedules, !fact.pointee.isPosting { aggregateReleases(fact, input, sign: sign) }
    if hasExchange { aggregateInBase(fact, input, day: datedDay, sign: sign) }
  }

  /// Adds what the schedule of a billing event releases to the cells of the periods in which it does, or takes it back: as
  /// all else in the aggregates it follows from the fact, the policy and the calendar alone. A cancelled invoice takes
  /// back the releases of its own service; by `aggregateCancelled` where policies differ by the day.
  @inline(__always)
  mutating func aggregateReleases(_ fact: UnsafePointer<Fact>, _ input: borrowing AggregateInput, sign: Int) {
    guard let service = fact.pointee.service else { return }
    aggregateReleases(fact, input, from: service.first_d, to: service.last_d, sign: sign)
  }

  @inline(never)
  private mutating func aggregateReleases(
    _ fact: UnsafePointer<Fact>, _ input: borrowing AggregateInput, from first: Int32, to last: Int32, sign: Int
  ) {
    func whole(_ code: UInt8, _ date_d: Int32) -> Int128 {
      expectations.of(code, date_d: date_d, time_ms: fact.pointee.time_ms).reduce(0) {
        $1.role == .deferred ? $0 - Int128(input.amounts[$1.component]) * Int128($1.sign) : $0
      }
    }
    let invoiced = OrderEventKind.invoiced.rawValue
    var amount = whole(fact.pointee.code, fact.pointee.date_d)
    if amount == 0, fact.pointee.code == OrderEventKind.invoiceCancelled.rawValue {
      if !expectations.isDated {
        amount = -whole(invoiced, fact.pointee.date_d)
      } else if let day = cancelledDay {
        amount = -whole(invoiced, day)
      }
    }
    guard amount != 0, let checks = policy.checks, let schedules = checks.schedules else { return }
    var steps: [(period: Int32, amount: Int64)] = []
    schedules.forEachRelease(of: amount, from: first, to: last, checks.calendar) { period, first, _, amount in
      // Behind the end of the calendar periods have no names: a month's could be that of another fiscal period.
      steps.append((checks.calendar.map { $0.period(ofDay: first) } ?? period, Int64(clamping: amount)))
    }
    aggregates!.add(releases: steps, of: input, sign: sign)
  }

  /// Adds what the cancelled invoices of a tie take back of releases, or takes that out again: by the policy on the day of
  /// the invoice, which another fact of the tie tells, else by that on the day of the cancellation. Called before and
  /// after the billing events of the tie change.
  @inline(never)
  mutating func aggregateCancelled(_ slot: Int, sign: Int) {
    var facts = facts(slot)
    while facts.next() {
      guard isCounted(facts, .invoiceCancelled), facts.service != nil else { continue }
      var fact = Fact(facts, number: 0, texts: &texts)
      var invoiceDay: Int32?
      var others = self.facts(slot)
      while !fact.document.isEmpty, others.next() {
        guard isCounted(others, .invoiced), others.document.elementsEqual(fact.document) else { continue }
        let own = others.date_d == absentDate ? day(ofMilliseconds: others.time_ms) : others.date_d
        invoiceDay = min(own, invoiceDay ?? own)
      }
      let day = invoiceDay ?? fact.documentDay
      withUnsafePointer(to: &fact) {
        // All but the releases is there already, and stays.
        aggregate($0, sign: -sign)
        cancelledDay = day
        aggregate($0, sign: sign)
        cancelledDay = nil
      }
    }
  }

  private func isCounted(_ fact: FactCursor, _ kind: OrderEventKind) -> Bool {
    !fact.isPosting && fact.code == kind.rawValue && fact.flags & (Fact.Flag.delete | Fact.Flag.rejected) == 0
  }

  /// Whether `aggregateCancelled` is needed at all.
  @inline(__always)
  var tracksCancelled: Bool { hasSchedules && expectations.isDated && aggregates != nil }

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
