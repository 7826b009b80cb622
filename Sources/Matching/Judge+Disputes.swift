import Aggregates
import Domain

/// What the open breaks of a tie put into one cell of the aggregates: the size of a difference of a role.
///
/// It is kept with the breaks as it was put there, and taken back as such: neither a fact that came since, nor another
/// calendar or rate, can make the two differ.
struct Charge: Hashable {
  /// |posted − expected| in minor units of the cell's currency; nil where no rate converts it.
  var amount: Int64?
  var period: Int32
  var currency: Currency
  var role: AccountRole
  var isBase = false

  /// Any fixed order: the bytes of a tie must not depend on that in which its breaks were found.
  fileprivate var order: (Int32, UInt16, UInt8, UInt8, Int64) {
    (period, currency.rawValue, role.rawValue, isBase ? 1 : 0, amount ?? -1)
  }
}

/// The charges to cells of the same dimensions.
struct ChargeList: Equatable {
  /// As in `Fact.dimensionBytes`.
  var dimensions: [UInt8]
  var charges: [Charge] = []

  /// The most that a tie keeps.
  static let maximumCharges = 8_192
  /// As many as the granules of a record can be counted for: those of a state that another version has written, too.
  static let mostCharges =
    (32_768 * 8 - 64 - maximumDimensions * (maximumDimensionBytes + 1)) / MemoryLayout<Charge>.stride

  /// Where there are more, those of one currency and role are one, of no period of their own.
  mutating func bound() {
    guard charges.count > ChargeList.maximumCharges else { return }
    var merged: [Charge] = []
    var places: [UInt32: Int] = [:]
    for charge in charges {
      let kind: UInt32 = (charge.isBase ? 1 : 0) | (charge.amount == nil ? 2 : 0)
      let key = UInt32(charge.currency.rawValue) << 16 | UInt32(charge.role.rawValue) << 8 | kind
      if let known = places[key] {
        if let amount = charge.amount {
          merged[known].amount = Int64(clamping: Int128(merged[known].amount!) + Int128(amount))
        }
        continue
      }
      places[key] = merged.count
      merged.append(charge)
      merged[merged.count - 1].period = CellTable.overflowPeriod
    }
    charges = Array(merged.prefix(ChargeList.maximumCharges))
  }
}

extension Judge {
  /// Where a difference lies: facts of a role with the same dimensions and period.
  struct Place {
    var dimensions: ByteView
    var period: Int32
    /// The day whose rate converts it: of its first fact.
    var rateDay: Int32
    /// posted − expected of these facts.
    var delta: Int128 = 0

    init(_ fact: Fact, _ dimensions: ByteView, _ period: Int32) {
      self.dimensions = dimensions
      self.period = period
      rateDay = fact.rateDay
    }
  }

  /// What open breaks put into the aggregates, of the parts of their differences.
  ///
  /// The parts are added up by role and currency first: what a break explains as the counter-entry of another is no
  /// difference. What is left goes into cells of its currency, and of the base view where there is one, of the places
  /// where it lies.
  func charges(
    of parts: [Finding.Part], _ periods: borrowing PeriodCalendar
  ) -> [ChargeList] {
    var differences: [(currency: Currency, role: AccountRole, delta: Int128)] = []
    for part in parts {
      if let at = differences.firstIndex(where: { $0.currency == part.currency && $0.role == part.role }) {
        differences[at].delta += Int128(part.delta)
      } else {
        differences.append((part.currency, part.role, Int128(part.delta)))
      }
    }
    var lists: [ChargeList] = []
    for (currency, role, delta) in differences where delta != 0 {
      for (place, delta) in places(of: delta, currency, role, periods) {
        let bytes = place.map { Array($0.dimensions.buffer) } ?? []
        if !lists.contains(where: { $0.dimensions == bytes }) { lists.append(ChargeList(dimensions: bytes)) }
        let at = lists.firstIndex { $0.dimensions == bytes }!
        let size = Int64(clamping: delta.magnitude)
        let period = place?.period ?? CellTable.unknownPeriod
        lists[at].charges.append(Charge(amount: size, period: period, currency: currency, role: role))
        if let rates = policy.checks?.exchange?.rates {
          let converted = place.map { rates.convert(size, from: currency, day: $0.rateDay) } ?? nil
          lists[at].charges.append(
            Charge(amount: converted, period: period, currency: rates.base, role: role, isBase: true))
        }
      }
    }
    for at in lists.indices {
      lists[at].bound()
      lists[at].charges.sort { $0.order < $1.order }
    }
    return lists.sorted { $0.dimensions.lexicographicallyPrecedes($1.dimensions) }
  }

  /// Where a difference of a role lies, and how much of it: parts of one sign that add up to it. Without a place where
  /// there is no fact at all.
  ///
  /// That follows from the facts that were judged, and from nothing else: events count in the period of their document and,
  /// where they were cancelled, are taken out in that of the cancellation, releases in that of the schedule, postings in that in which they are posted. If the facts of one place, and of no
  /// other, differ by just this much, or are the only ones that differ at all, the difference belongs there: of two
  /// invoices the one that was not posted. If several differ, those that offset each other are set aside (the right amount
  /// in another period); where the others add up to the difference, each has its own part: two invoices that were not
  /// posted. Else it belongs to the first posting where the facts differ, since it is that figure of the ledger that is in
  /// doubt; where nothing is posted to the first event that puts something into it.
  func places(
    of delta: Int128, _ currency: Currency, _ role: AccountRole, _ periods: borrowing PeriodCalendar
  ) -> [(place: Place?, delta: Int128)] {
    var places: [Place] = []
    // By posting, places of those that differ and of those that do not.
    var posted: [Int] = []
    func add(_ delta: Int128, _ fact: Fact, _ period: Int32) {
      let dimensions = dimensions(of: fact)
      var at = places.firstIndex { $0.period == period && $0.dimensions.elementsEqual(dimensions) }
      if at == nil {
        at = places.count
        places.append(Place(fact, dimensions, period))
      }
      places[at!].delta += delta
      if fact.isPosting { posted.append(at!) }
    }
    for (at, event) in dueEvents.enumerated() where event.currency == currency {
      for entry in policy.entries(of: event) where entry.role == role {
        let amount = Int128(event.amount(entry.component)) * Int128(entry.sign)
        if amount == 0 { continue }
        add(-amount, event, event.period(periods))
        if isVoid[at] { add(amount, event, periods.period(ofDay: cancelDay(at))) }
      }
    }
    addDueReleases(currency, role, periods) { add($0, $1, $2) }
    for posting in duePostings where posting.currency == currency && posting.role == role {
      add(Int128(posting.amount), posting, posting.period(periods))
    }
    let exact = places.filter { $0.delta == delta }
    if exact.count == 1 { return [(exact[0], delta)] }
    let differing = places.filter { $0.delta != 0 }
    if differing.count == 1 { return [(differing[0], delta)] }
    let left = withoutOffsets(differing)
    if !left.isEmpty, left.allSatisfy({ ($0.delta < 0) == (delta < 0) }),
      left.reduce(Int128(0), { $0 + $1.delta }) == delta
    {
      return left.map { ($0, $0.delta) }
    }
    if let at = posted.first(where: { places[$0].delta != 0 }) { return [(places[at], delta)] }
    if let first = differing.first { return [(first, delta)] }
    if !places.isEmpty { return [(places[posted.first ?? 0], delta)] }
    let any = dueEvents.first ?? events.first ?? duePostings.first ?? postings.first
    return [(any.map { Place($0, dimensions(of: $0), $0.period(periods)) }, delta)]
  }

  /// Under which dimensions a fact stands in the aggregates: a posting also under those of its order.
  private func dimensions(of fact: Fact) -> ByteView {
    guard fact.isPosting, !postingPlaces.isEmpty else { return fact.dimensionBytes }
    return postingPlaces.first { $0.own.elementsEqual(fact.dimensionBytes) }?.ofOrder ?? fact.dimensionBytes
  }

  /// Without pairs that differ by opposite amounts: first those of the same dimensions, then those of the same period, then
  /// any, the earlier periods first.
  private func withoutOffsets(_ places: [Place]) -> [Place] {
    var left = places.sorted {
      $0.period != $1.period
        ? $0.period < $1.period
        : $0.dimensions.buffer.lexicographicallyPrecedes($1.dimensions.buffer)
    }
    let kinds: [(Place, Place) -> Bool] = [
      { $0.dimensions.elementsEqual($1.dimensions) }, { $0.period == $1.period }, { _, _ in true },
    ]
    for isPair in kinds {
      var at = 0
      while at < left.count {
        if let other = left.indices.dropFirst(at + 1).first(where: {
          left[$0].delta == -left[at].delta && isPair(left[at], left[$0])
        }) {
          left.remove(at: other)
          left.remove(at: at)
        } else {
          at += 1
        }
      }
    }
    return left
  }

  /// The releases that schedules make due, as facts of the event that they are of, or of the first where there are several.
  private func addDueReleases(
    _ currency: Currency, _ role: AccountRole, _ periods: borrowing PeriodCalendar,
    _ add: (Int128, Fact, Int32) -> Void
  ) {
    guard role == .deferred || role == .revenue else { return }
    for place in dueEvents.indices where isVoid[place] && dueEvents[place].currency == currency {
      for (period, amount) in releasesBeforeCancellation(place, periods) {
        add(role == .revenue ? amount : -amount, dueEvents[place], period)
      }
    }
    guard
      let steps = releases.first(where: { currencies[$0.currency] == currency })?.steps
    else { return }
    let event = dueEvents.indices.first {
      dueEvents[$0].currency == currency && !isVoid[$0] && dueEvents[$0].service != nil
    }
    guard let event else { return }
    for step in steps where step.due_ms < clock_ms {
      add(
        role == .revenue ? step.amount : -step.amount, dueEvents[event],
        periods.period(ofDay: day(ofMilliseconds: step.begin_ms)))
    }
  }
}

extension Matcher {
  /// Whether the ties keep what their open breaks put into the aggregates: where there are any, and during a restore
  /// before they are there.
  var chargesDisputes: Bool { tracksDisputes || aggregates != nil }

  /// Puts what is in dispute in a tie where it was otherwise before.
  mutating func charge(_ new: [ChargeList], insteadOf old: [ChargeList]) {
    guard aggregates != nil, new != old else { return }
    for list in old { charge(list, sign: -1) }
    for list in new { charge(list, sign: 1) }
  }

  /// Puts what is in dispute into aggregates that do not know of it: the breaks that are open now, whatever the ties say
  /// that they had put there.
  public mutating func chargeOpenBreaks() {
    guard aggregates != nil else { return }
    for slot in 1..<usedSlots where ties[slot].has(Tie.Flag.live) && ties[slot].breaks != 0 { recharge(slot) }
    settleAggregates()
  }

  private mutating func recharge(_ slot: Int) {
    var parts: [Finding.Part] = []
    var (previous, ref) = (StoreRef(0), ties[slot].breaks)
    while ref != 0 {
      let record = store.breakRecord(ref)
      if record.type == BreakRecord.chargeType {
        unlink(ref, record, after: previous, slot)
      } else {
        if record.type != BreakRecord.voidType, record.stateValue.isOpen { parts += store.breakParts(ref) }
        previous = ref
      }
      ref = record.next
    }
    // The shard is written anew, whatever has come of the tie.
    stamp(ties[slot].head)
    guard !parts.isEmpty else { return }
    let watermark_ms = watermarks.current_ms
    gather(slot)
    if hasSchedules { judge.clock_ms = ageClock(watermark_ms) }
    judge.periods = tracksPeriods ? periods : nil
    judge.judge(watermark_ms: watermark_ms, isFinal: ties[slot].deadline_ms < watermark_ms)
    let charges = judge.charges(of: parts, periods)
    charge(charges, insteadOf: [])
    for list in charges { ties[slot].breaks = store.appendCharges(list, next: ties[slot].breaks) }
  }

  /// Takes out of the sums what the ties says that its open breaks have put there, and out of the tie.
  mutating func withdrawCharges(_ slot: Int) {
    var (previous, ref) = (StoreRef(0), ties[slot].breaks)
    while ref != 0 {
      let record = store.breakRecord(ref)
      if record.type == BreakRecord.chargeType {
        charge(store.charges(ref), sign: -1)
        unlink(ref, record, after: previous, slot)
      } else {
        previous = ref
      }
      ref = record.next
    }
  }

  private mutating func charge(_ list: ChargeList, sign: Int) {
    list.dimensions.withUnsafeBufferPointer { bytes in
      var views = InlineArray<8, ByteView>(repeating: .empty)
      var (offset, dimension) = (0, 0)
      while offset < bytes.count, dimension < dimensionCount {
        let count = Int(bytes[offset])
        if count > 0 { views[dimension] = ByteView(base: bytes.baseAddress! + offset + 1, count: count) }
        offset += 1 + count
        dimension += 1
      }
      for charge in list.charges {
        var cell = AggregateInput(
          kind: AggregateInput.postingKind, role: charge.role, currency: charge.currency, eventPeriod: charge.period,
          postingPeriod: charge.period, dimensions: views)
        cell.isBase = charge.isBase
        aggregates!.add(disputed: charge.amount, charge.role, of: cell, sign: sign)
      }
    }
  }
}

extension RecordStore {
  /// Keeps charges as an entry among the breaks of a tie.
  mutating func appendCharges(_ list: ChargeList, next: StoreRef) -> StoreRef {
    let head = MemoryLayout<BreakRecord>.size.roundedUpTo8
    let bytes = head + list.charges.count * MemoryLayout<Charge>.stride + list.dimensions.count
    let ref = allocate(bytes)
    let base = pointer(ref)
    base.assumingMemoryBound(to: BreakRecord.self).initialize(
      to: BreakRecord(
        next: next, granules: UInt16(RecordStore.granules(bytes)), type: BreakRecord.chargeType, role: 0, currency: 0,
        idCurrency: 0, state: 0, isProvisional: false, partCount: UInt16(list.charges.count), revision: 0,
        content: UInt64(list.dimensions.count)))
    var slot = base + head
    for charge in list.charges {
      slot.assumingMemoryBound(to: Charge.self).initialize(to: charge)
      slot += MemoryLayout<Charge>.stride
    }
    for byte in list.dimensions {
      slot.storeBytes(of: byte, as: UInt8.self)
      slot += 1
    }
    return ref
  }

  func charges(_ ref: StoreRef) -> ChargeList {
    let record = breakRecord(ref)
    var slot = pointer(ref) + MemoryLayout<BreakRecord>.size.roundedUpTo8
    var list = ChargeList(dimensions: [])
    for _ in 0..<record.partCount {
      list.charges.append(slot.load(as: Charge.self))
      slot += MemoryLayout<Charge>.stride
    }
    list.dimensions = Array(UnsafeRawBufferPointer(start: slot, count: Int(record.content)))
    return list
  }
}

// MARK: - State

extension ChargeList {
  func export(into writer: inout ByteWriter) {
    writer.writeVarint(UInt64(charges.count))
    for charge in charges {
      // Bit 1: an amount follows.
      writer.write(UInt8((charge.isBase ? 1 : 0) | (charge.amount != nil ? 2 : 0)))
      writer.write(charge.role.rawValue)
      writer.write(charge.currency.rawValue)
      writer.write(charge.period)
      if let amount = charge.amount { writer.write(amount) }
    }
    writer.writeVarint(UInt64(dimensions.count))
    for byte in dimensions { writer.write(byte) }
  }

  init(from reader: inout ByteReader) throws(ByteCodingError) {
    dimensions = []
    for _ in 0..<(try reader.readCount(atMost: ChargeList.mostCharges)) {
      let bits: UInt8 = try reader.read()
      guard let role = AccountRole(rawValue: try reader.read()), bits < 4 else {
        throw ByteCodingError("what is in dispute has no role, at \(reader.offset)")
      }
      let currency = Currency(rawValue: try reader.read())
      let period: Int32 = try reader.read()
      let amount: Int64? = bits & 2 != 0 ? try reader.read() : nil
      charges.append(Charge(amount: amount, period: period, currency: currency, role: role, isBase: bits & 1 != 0))
    }
    let count = try reader.readCount(atMost: maximumDimensions * (maximumDimensionBytes + 1))
    dimensions = Array(try reader.readRaw(count))
  }
}
