import CShims
import Domain

/// Taking plain records in (`PlainRecord`): the way of nearly all. It comes to the same end as `takeFact`, to the byte.
extension Matcher {
  /// Whether plain records may go their own way now, as far as that is the same for all records of a batch.
  @inline(__always)
  var takesPlainly: Bool {
    !isAttentive && quality == nil && sourceTotals == nil && takesPlain
      && UInt64(bitPattern: horizon_ms) < UInt64(PlainBounds.time_ms)
      && UInt64(bitPattern: policy.settle_ms) < UInt64(PlainBounds.time_ms)
      && watermarks.current_ms < PlainBounds.time_ms
  }

  /// Whether a tie that is known is open and as plain as what is to come: no breaks, no value, nothing decided.
  @inline(__always)
  func isPlain(_ slot: Int) -> Bool {
    let sides = Tie.Flag.hasOrder | Tie.Flag.hasPosting
    let flags = ties[slot].flags
    return flags & ~(Tie.Flag.live | sides | Tie.Flag.dirty) == 0 && flags & sides != 0 && ties[slot].breaks == 0
      && Int(ties[slot].bodyLength) <= PlainBounds.bodyBytes
  }

  /// Whether what is taken back of a cancelled invoice changes in the aggregates with an event of a known tie.
  @inline(__always)
  func movesCancelled(_ slot: Int, _ code: UInt8, side: UInt16) -> Bool {
    aggregates != nil && !cancelledDocuments.isEmpty && side == Tie.Flag.hasOrder
      && code == OrderEventKind.invoiced.rawValue && cancelledDocuments.index(forKey: UInt32(slot)) != nil
  }

  /// Takes a plain record, which is in time, into a plain tie.
  /// - Parameters:
  ///   - known: Slot of the tie; 0 stands for one that is not known yet.
  ///   - place: Where the index puts that.
  @inline(__always)
  mutating func takePlain<Record: PlainRecord>(
    _ record: Record, dimensionSize: Int, into known: Int, at place: TieIndex.Place,
    _ fingerprint: Fingerprint, _ key: ByteView,
    watermark_ms: Int64
  ) {
    let side = Record.isPosting ? Tie.Flag.hasPosting : Tie.Flag.hasOrder
    let own = record.time_ms &+ horizon_ms
    var quiet = max(record.time_ms, watermark_ms) &+ policy.settle_ms
    let change = account(record)
    if known == 0 {
      let plan = PlainPlan(record, dimensionCount: dimensionCount, dimensionSize: dimensionSize, key: key)
      let keyBytes = Matcher.keySize(key.count)
      let length = keyBytes &+ plan.size
      let least = PlainBounds.granules(length)
      let wanted = expectedSize.wanted(least, guess: Record.isPosting ? ExpectedSize.event : ExpectedSize.posting)
      let (ref, granules) = store.allocate(
        wanted: wanted, least: max(least, wanted &- ExpectedSize.lack), most: least &+ Tie.mostRoom)
      let body = store.pointer(ref).assumingMemoryBound(to: UInt8.self)
      Matcher.write(key, balance: change, at: body)
      plan.write(record, at: body + keyBytes)
      let slot = takeSlot()
      (ties + slot).initialize(
        to: Tie(
          body: ref, bodyLength: UInt16(truncatingIfNeeded: length), room: granules &- least, head: fingerprint.head16,
          flags: Tie.Flag.live | Tie.Flag.dirty | side, deadline_ms: own, timer_ms: own, quiet_ms: quiet))
      index.insert(fingerprint, slot: slot, at: place)
      counters.tiesOpened &+= 1
      stamp(fingerprint.head16)
      push(slot, at: own, head: fingerprint.head16)
      return
    }
    let tie = ties + known
    let flags = tie.pointee.flags | side | Tie.Flag.dirty
    quiet = max(quiet, tie.pointee.quiet_ms)
    let deadline = max(own, tie.pointee.deadline_ms)
    let timer = tie.pointee.timer_ms
    stamp(fingerprint.head16)
    let sides = Tie.Flag.hasOrder | Tie.Flag.hasPosting
    let isBoth = flags & sides == sides
    let mayAgree = isBoth && balance(known) &+ change == 0 && judgesQuickly && !policy.quantities.isEnabled
    let body =
      mayAgree && !hasChecks
      ? appendSettling(record, dimensionSize, to: known, balance: change)
      : append(record, dimensionSize, to: known, balance: change)
    // Each word of the slot is written once, as a whole: a load that is wider than the store before it would wait.
    if body.isAgreed {
      // As `settle`: a timer that moves back takes its entry in the calendar along.
      counters.judgements &+= 1
      tie.pointee.set(
        flags: flags & ~Tie.Flag.dirty | Tie.Flag.agreed | Tie.Flag.valued, room: body.room, deadline_ms: deadline,
        quiet_ms: quiet)
      tie.pointee.set(timer_ms: deadline, bodyLength: body.length)
      if deadline < timer { push(known, at: deadline, head: fingerprint.head16) }
      return
    }
    var next = own
    if isBoth, policy.reportsProvisional { next = min(next, quiet) }
    tie.pointee.set(flags: flags, room: body.room, deadline_ms: deadline, quiet_ms: quiet)
    tie.pointee.set(timer_ms: min(next, timer), bodyLength: body.length)
    if mayAgree, hasChecks, let value = agreedValue(known) {
      replaceValue(known, value)
      counters.judgements &+= 1
      tie.pointee.flags = tie.pointee.flags & ~Tie.Flag.dirty | Tie.Flag.agreed
      tie.pointee.timer_ms = deadline
      if deadline < timer { push(known, at: deadline, head: fingerprint.head16) }
      return
    }
    if next < timer { push(known, at: next, head: fingerprint.head16) }
    if body.isRepeated { sift(known) }
  }

  @inline(__always)
  private mutating func push(_ slot: Int, at time_ms: Int64, head: UInt16) {
    let (ties, base) = (ties, store.base)
    timers.push(deadline_ms: time_ms, slot: slot, head: head) { Matcher.fingerprint($0, ties, base) }
  }

  /// As `account(_:sign:)`, without sums by dimensions and periods.
  @inline(__always)
  private mutating func account<Record: PlainRecord>(_ record: Record) -> UInt16 {
    let currency = record.currency
    if Record.isPosting {
      running.add(record.amount, .posted, currency, record.code, &settledTotals)
      return Matcher.balance(record.amount, record.code, currency)
    }
    var balance: UInt16 = 0
    let entries = expectations.of(record.code, date_d: record.date_d, time_ms: record.time_ms, source: record.source)
    var at = 0
    while at < entries.count {
      let entry = entries.baseAddress.unsafelyUnwrapped + at
      at &+= 1
      var amount = record.amount(entry.pointee.component)
      if amount == 0 { continue }
      amount = Int64(entry.pointee.sign) &* amount
      running.add(amount, .expected, currency, entry.pointee.role.rawValue, &settledTotals)
      balance &-= Matcher.balance(amount, entry.pointee.role.rawValue, currency)
    }
    return balance
  }

  /// A body to which something has been added. Its slot is still to be told of length and room.
  private struct LongerBody {
    var length: Int
    var room: Int
    /// The tie agrees, and the body ends with its value.
    var isAgreed = false
    /// There was a fact with the id of the record.
    var isRepeated = false
  }

  /// As `append`.
  @inline(never)
  private mutating func append<Record: PlainRecord>(
    _ record: Record, _ dimensionSize: Int, to slot: Int, balance: UInt16
  ) -> LongerBody {
    let start = bodyStart(slot)
    let length = Int(ties[slot].bodyLength)
    var cursor = Matcher.plainFacts(start, length)
    var watch = IdWatch(record.id, source: record.source, isPosting: Record.isPosting)
    while cursor.next() { watch.look(at: &cursor) }
    let plan = PlainPlan(record, after: &cursor, dimensionCount: dimensionCount, dimensionSize: dimensionSize)
    let (body, room) = grow(slot, from: length, to: length &+ plan.size)
    plan.write(record, at: body + length)
    Matcher.rebalance(body, by: balance)
    return LongerBody(length: length &+ plan.size, room: room, isRepeated: watch.isFound)
  }

  /// As `appendSettling`.
  @inline(never)
  private mutating func appendSettling<Record: PlainRecord>(
    _ record: Record, _ dimensionSize: Int, to slot: Int, balance: UInt16
  ) -> LongerBody {
    let start = bodyStart(slot)
    let length = Int(ties[slot].bodyLength)
    let key = Matcher.key(start)
    let first = start + Matcher.keySize(key.count)
    if var posting = record as? PlainPosting {
      if var event = LoneEvent(first, end: start + length, key: key), let value = valueOfTwo(&event, &posting) {
        return appendSecond(record, dimensionSize, after: &event, value, to: slot, length, balance)
      }
    } else if var event = record as? PlainEvent {
      if var posting = LonePosting(first, end: start + length, key: key), let value = valueOfTwo(&event, &posting) {
        return appendSecond(record, dimensionSize, after: &posting, value, to: slot, length, balance)
      }
    }
    return appendTallying(record, dimensionSize, to: slot, balance: balance)
  }

  /// Writes the second record of a tie, and the value of the two.
  @inline(__always)
  private mutating func appendSecond<Record: PlainRecord, First: FactsBefore>(
    _ record: Record, _ dimensionSize: Int, after first: inout First, _ value: TieValue, to slot: Int, _ length: Int,
    _ balance: UInt16
  ) -> LongerBody {
    let plan = PlainPlan(record, after: &first, dimensionCount: dimensionCount, dimensionSize: dimensionSize)
    let end = length &+ plan.size
    // The two are of one currency, which the first is written with.
    let size = value.size(first: value.currency)
    let (body, room) = settleBody(slot, from: length, to: end &+ size)
    plan.write(record, at: body + length)
    value.write(at: body + end, first: value.currency)
    Matcher.rebalance(body, by: balance)
    return LongerBody(length: end &+ size, room: room, isAgreed: true)
  }

  @inline(never)
  private mutating func appendTallying<Record: PlainRecord>(
    _ record: Record, _ dimensionSize: Int, to slot: Int, balance: UInt16
  ) -> LongerBody {
    let start = bodyStart(slot)
    let length = Int(ties[slot].bodyLength)
    var cursor = Matcher.plainFacts(start, length)
    var tally = QuickTally()
    var watch = IdWatch(record.id, source: record.source, isPosting: Record.isPosting)
    while cursor.next() {
      watch.look(at: &cursor)
      if !tally.isUnusual { add(&cursor, to: &tally) }
    }
    let plan = PlainPlan(record, after: &cursor, dimensionCount: dimensionCount, dimensionSize: dimensionSize)
    var incoming = IncomingRecord(record, plan, key: cursor.key)
    if !tally.isUnusual { add(&incoming, to: &tally) }
    let end = length &+ plan.size
    guard let value = conclude(tally) else {
      let (body, room) = grow(slot, from: length, to: end)
      plan.write(record, at: body + length)
      Matcher.rebalance(body, by: balance)
      return LongerBody(length: end, room: room, isRepeated: watch.isFound)
    }
    let first = Matcher.firstCurrency(start, factsEnd: length)
    let size = value.size(first: first)
    let (body, room) = settleBody(slot, from: length, to: end &+ size)
    plan.write(record, at: body + length)
    value.write(at: body + end, first: first)
    Matcher.rebalance(body, by: balance)
    return LongerBody(length: end &+ size, room: room, isAgreed: true)
  }

  /// The facts of a plain tie.
  @inline(__always)
  private static func plainFacts(_ body: UnsafePointer<UInt8>, _ length: Int) -> FactCursor {
    let key = key(body)
    return FactCursor(body + keySize(key.count), end: body + length, key: key)
  }

  /// Makes a body longer, of which all is below `RecordStore.exactClasses`.
  /// - Returns: where it begins now, and its room.
  @inline(__always)
  private mutating func grow(
    _ slot: Int, from length: Int, to wanted: Int
  ) -> (start: UnsafeMutablePointer<UInt8>, room: Int) {
    let least = PlainBounds.granules(wanted)
    let room = PlainBounds.granules(length) &+ ties[slot].room &- least
    if room < 0 { return move(slot, least: least, wanted: expectedSize.wanted(least), length: length, room: room) }
    return (store.pointer(ties[slot].body).assumingMemoryBound(to: UInt8.self), room)
  }

  /// As `grow`, of a tie that agrees, so that most likely nothing more comes: its size is learned from, and room that it
  /// does not need is given back.
  @inline(__always)
  private mutating func settleBody(
    _ slot: Int, from length: Int, to wanted: Int
  ) -> (start: UnsafeMutablePointer<UInt8>, room: Int) {
    let least = PlainBounds.granules(wanted)
    expectedSize.learn(least)
    let room = PlainBounds.granules(length) &+ ties[slot].room &- least
    if UInt(bitPattern: room) > UInt(ExpectedSize.leftRoom) {
      return move(slot, least: least, wanted: least, length: length, room: room)
    }
    return (store.pointer(ties[slot].body).assumingMemoryBound(to: UInt8.self), room)
  }

  /// - Parameters:
  ///   - least: Granules that the body takes.
  ///   - length: How much of it is there.
  ///   - room: What its space has beyond `least`, below zero or above.
  @inline(never)
  private mutating func move(
    _ slot: Int, least: Int, wanted: Int, length: Int, room: Int
  ) -> (start: UnsafeMutablePointer<UInt8>, room: Int) {
    let body = ties[slot].body
    let (ref, granules) = store.allocate(wanted: wanted, least: least, most: least &+ Tie.mostRoom)
    let target = store.pointer(ref)
    target.copyMemory(from: store.pointer(body), byteCount: length)
    store.free(body, exact: least &+ room)
    ties[slot].body = ref
    return (target.assumingMemoryBound(to: UInt8.self), granules &- least)
  }

  /// The value of a tie of one order event and one posting, where that is all that is to be posted; nil where more has
  /// to be looked at. What `conclude` asks, of the two alone. Both stay as they are: by value they would be copied.
  @inline(__always)
  private mutating func valueOfTwo<Event: OneEvent, Posting: OnePosting>(
    _ event: inout Event, _ posting: inout Posting
  ) -> TieValue? {
    guard QuickJudge.involvedKinds & 1 &<< UInt32(event.code) == 0, event.currency == posting.currency else {
      return nil
    }
    var expected: Int64 = 0
    let entries = expectations.of(event.code, date_d: event.date_d, time_ms: event.time_ms, source: event.source)
    var at = 0
    while at < entries.count {
      let entry = entries.baseAddress.unsafelyUnwrapped + at
      at &+= 1
      let amount = event.amount(entry.pointee.component)
      if amount == 0 { continue }
      let (sum, overflow) = expected.addingReportingOverflow(entry.pointee.sign < 0 ? 0 &- amount : amount)
      guard entry.pointee.role.rawValue == posting.code, !overflow else { return nil }
      expected = sum
    }
    guard expected != 0, expected == posting.amount else { return nil }
    if policy.checksCustomers, !event.customer.isEmpty, !posting.customer.isEmpty,
      !event.customer.elementsEqual(posting.customer)
    {
      return nil
    }
    if policy.checksPostingDates, event.date_d != absentDate {
      var period = posting.statedPeriod
      if period == 0, posting.date_d != absentDate { period = quick.period(ofDay: posting.date_d) }
      if period != 0 || posting.date_d != absentDate {
        guard period == quick.period(ofDay: event.date_d) else { return nil }
      }
      if posting.date_d != absentDate {
        let days = posting.date_d &- event.date_d
        guard days <= policy.lateAfter_d, days >= -policy.earlyBefore_d else { return nil }
      }
    }
    let isOfValue = Matcher.valueRoles & 1 &<< UInt32(posting.code) != 0
    return TieValue(amount: isOfValue ? Int64(clamping: expected.magnitude) : 0, currency: posting.currency)
  }
}

/// How large the body of a plain tie is in the end, in granules: three of four are no larger. A new one gets as much, so
/// that what comes later is written where the tie is: bodies then lie in the order in which ties came, which is about
/// the order in which they are due.
struct ExpectedSize {
  /// Room that a tie that agrees may keep.
  static let leftRoom = 3
  /// Room that one may lack where only a smaller space is free. A space that is too small for what comes would be left
  /// for another one, be taken again by the next tie, and be left again.
  static let lack = 2
  /// What may come to a record until sizes are known: an order event, a posting and the value of the two. So many ties
  /// get it at the most, since none may ever agree.
  static let (event, posting) = (9, 5)
  private static let mostGuesses = 1 << 16
  private static let fraction = 6
  private static let (up, down) = (3, 1)
  private var sum = 0
  private var guesses = 0

  @inline(__always)
  mutating func learn(_ size: Int) {
    if sum == 0 { sum = size &<< ExpectedSize.fraction }
    sum &+= size &<< ExpectedSize.fraction > sum ? ExpectedSize.up : 0 &- ExpectedSize.down
  }

  /// Granules to ask for a new tie that needs so many at least.
  @inline(__always)
  mutating func wanted(_ least: Int, guess: Int) -> Int {
    guard sum == 0, guesses < ExpectedSize.mostGuesses else { return wanted(least) }
    guesses &+= 1
    return least &+ guess
  }

  /// Granules to ask for where so many are needed at least.
  @inline(__always)
  func wanted(_ least: Int) -> Int {
    min(max(least, (sum &+ (1 &<< ExpectedSize.fraction &- 1)) &>> ExpectedSize.fraction), least &+ Tie.mostRoom)
  }
}

extension PlainBounds {
  @inline(__always)
  static func granules(_ bytes: Int) -> Int { (bytes &+ 7) &>> 3 }
}
