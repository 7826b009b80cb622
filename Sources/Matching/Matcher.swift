import Aggregates
import CShims
import Domain

/// What a step of the matcher hands out.
public struct MatchOutputs: Sendable {
  /// Break revisions in the order in which they came to be.
  public var breaks: [Break] = []
  /// Indexes, within the applied batch, of records dated too far in the future. The caller sends them to dead letters
  /// before it applies the next batch.
  public var quarantined: [Int] = []

  public init() {}

  public mutating func removeAll() {
    breaks.removeAll(keepingCapacity: true)
    quarantined.removeAll(keepingCapacity: true)
  }
}

/// How many of the ties that are due one `advance` may judge.
public enum ExpiryPace: Sendable, Equatable {
  /// About so many, and those due at the same time as the last.
  case atMost(Int)
  /// As many as an earlier, paced `advance` did.
  case upTo(ExpiryBound)
}

extension Fingerprint {
  /// What a tie's slot keeps of it.
  @inline(__always)
  var head16: UInt16 { UInt16(truncatingIfNeeded: high >> 48) }
}

/// The pure core: takes order events and postings of one task, joins them by order key, and says what does not agree.
///
/// A deterministic state machine: what it does depends on nothing but the records given to it, their grouping into
/// batches, and the clock readings given as arguments. It does no I/O, reads no clock and draws no random number.
/// One thread at a time.
public struct Matcher: ~Copyable {
  public internal(set) var policy: MatchingPolicy
  public let dimensionCount: Int
  public var watermarks: Watermarks
  public var counters = MatchCounters()
  /// Σ expected, Σ posted and the differences, as they stand now.
  public var totals: ControlTotals {
    var totals = settledTotals
    running.add(to: &totals)
    return totals
  }
  var settledTotals = ControlTotals()
  var running = RunningTotals()
  /// Sums by dimensions, currency and period, where they are wanted.
  public var aggregates: TaskAggregates?
  /// Whether the aggregates are wanted, although they may not be there yet.
  public var tracksDisputes = false
  /// Dimensions in which the figures of a posting that has no value of its own stand where its order does, a bit each.
  public var inheritedDimensions: UInt8 = 0
  /// False where an event that comes after postings does not move them: only the simulator plants this defect.
  public var movesPostings = true
  /// By which a difference has a period: those of the aggregates.
  public var periods = PeriodCalendar.months
  /// The control totals by period, where they are wanted.
  public var tracksPeriods = false
  public internal(set) var periodTotals = PeriodTotals()
  /// Counts by source and period, where they are wanted.
  public var quality: TaskQuality?
  /// How the orders of each source stand, where that is wanted.
  var sourceTotals: SourceTotals?

  var index = TieIndex()
  var store = RecordStore()
  var timers: TimerQueue
  var judge: Judge
  var slotRegion: Region
  let ties: UnsafeMutablePointer<Tie>
  var usedSlots = 1
  var freeSlots = FreeSlots()
  var expectedSize = ExpectedSize()
  /// Lengths of the bodies that are too long for their slots.
  var longBodies: [UInt32: Int] = [:]
  /// What people have decided, of the ties with the flag `decided`.
  var decisions: [UInt32: TieDecisions] = [:]
  /// Whether actions are taken in: then their counts belong to the state.
  public var takesActions = false
  /// What order events must put into the ledger; of a revision that is running, that which it leads to.
  var expectations: Expectations
  /// Posting policies that change: those by which sums have been made, and how far that is.
  var revision: PolicyRevision
  /// Window and grace.
  let horizon_ms: Int64
  /// Retention is a second, or so small a part of the horizon: a tie is forgotten moments after it has been closed.
  let forgetsAtOnce: Bool
  private static let momentsPerHorizon: Int64 = 1 << 14

  /// While a checkpoint is being restored: the shards that are in already; the others' records were taken in before
  /// the shard was written.
  var isRestoring = false
  var restoredShards: [Bool] = []
  var restoreBits = 0
  /// The state that is being restored is of a version in which what came again, or replaced a row, stayed in the sums until
  /// its tie was judged: so its sums have it, and it stays with its tie until these are there.
  var keepsRepetitions = false
  /// A restore or a revision of the posting policies is running: records are looked at more closely.
  var isAttentive = false

  /// Number of the running epoch, and by the head of the fingerprint the epoch of the last change: a checkpoint leaves
  /// out what has not changed.
  public var epoch: UInt32 = 0
  var stamps: UnsafeMutablePointer<UInt32>
  static let stampBits = 14

  // Scratch of `apply` and of the judgement, kept so that steady state allocates nothing.
  let fingerprints: UnsafeMutablePointer<Fingerprint>
  let slots: UnsafeMutablePointer<Int>
  let places: UnsafeMutablePointer<TieIndex.Place>
  let dimensionSpace: UnsafeMutablePointer<UInt8>
  let fact: UnsafeMutablePointer<Fact>
  var gathered: [GatheredFact] = []
  var read: [Fact] = []
  var texts = TextArena()
  /// What the order of the fact that is being added up says of its dimensions, and another state of that.
  let orderDimensions: UnsafeMutablePointer<OrderDimensions>
  let otherDimensions: UnsafeMutablePointer<OrderDimensions>
  /// By slot, of bodies beyond `absoluteFrom`: which events speak for the order, as far as that has been found out.
  var longVoices: [UInt32: [LongVoice]] = [:]
  /// By slot, hashes of the documents that an event of the tie has cancelled, counted or not.
  var cancelledDocuments: [UInt32: Set<UInt64>] = [:]
  /// How the aggregates have what `aggregateCancelled` makes of these.
  var cancelledSums = CancelledSums.asBilled
  /// Others than now only while sums of an earlier version are taken up.
  var earlier = EarlierRules()
  /// The running `gather` has taken out what the cancelled invoices of its tie take back.
  var isCancelledOut = false
  var quick: QuickJudge
  /// Whether `policy.checks` are asked for other than by age, or lines compared: what `isSoundOtherwise` looks at.
  let hasChecks: Bool
  let hasExchange: Bool
  /// Whether open breaks grow more severe with age.
  let hasAges: Bool
  /// Whether deferred revenue is released by schedules.
  let hasSchedules: Bool
  /// False makes every judgement a full one: tests hold the two against each other.
  var judgesQuickly = true
  /// Whether what is overdue of a tie is judged before its deadline. Where only the end counts, as of files, it need not be,
  /// and then it makes no difference at which times the watermark has stood.
  public var judgesParts = true
  /// False makes every record go by way of `Fact`: tests hold the two against each other.
  var takesPlain = true
  /// While a bounded input is being closed, nothing is forgotten: the tie counts and totals are about to be read.
  var isFinishing = false

  /// So many records lie between two steps of `take`.
  private static let stepRecords = 8
  /// What is known of as many records is kept, in a ring.
  private static let recordsAhead = 4 * stepRecords
  private static let aheadMask = recordsAhead - 1

  /// `dimensionCount`: how many of a record's dimensions are configured.
  public init(policy: MatchingPolicy, dimensionCount: Int) {
    self.policy = policy
    self.dimensionCount = min(dimensionCount, maximumDimensions)
    watermarks = Watermarks(outOfOrderness_ms: policy.outOfOrderness_ms, idleTimeout_ms: policy.idleTimeout_ms)
    horizon_ms = policy.window_ms.addingSaturating(policy.grace_ms)
    forgetsAtOnce = policy.retention_ms <= max(1_000, horizon_ms / Matcher.momentsPerHorizon)
    timers = TimerQueue(quantum_ms: horizon_ms / TimerQueue.quantaPerHorizon)
    judge = Judge(policy: policy)
    hasChecks = policy.checks?.concernsAgreed == true || policy.quantities.comparesLines
    hasSchedules = policy.checks?.schedules != nil
    hasAges = policy.checks?.severityAges_ms.isEmpty == false
    hasExchange = policy.checks?.exchange != nil
    quick = QuickJudge(calendar: policy.checks?.calendar)
    revision = PolicyRevision(policy.effectivePolicies)
    expectations = Expectations(revision.policies)
    stamps = .allocate(capacity: 1 << Matcher.stampBits)
    stamps.initialize(repeating: 0, count: 1 << Matcher.stampBits)
    fingerprints = .allocate(capacity: Matcher.recordsAhead)
    slots = .allocate(capacity: Matcher.recordsAhead)
    places = .allocate(capacity: Matcher.recordsAhead)
    places.initialize(repeating: index.nowhere, count: Matcher.recordsAhead)
    dimensionSpace = .allocate(capacity: maximumDimensions * (maximumDimensionBytes + 1))
    fact = .allocate(capacity: 1)
    fact.initialize(to: Fact())
    orderDimensions = .allocate(capacity: 2)
    orderDimensions.initialize(repeating: OrderDimensions(), count: 2)
    otherDimensions = orderDimensions + 1
    slotRegion = Region(reserving: TieIndex.maximumSlots * MemoryLayout<Tie>.stride)
    ties = slotRegion.base.assumingMemoryBound(to: Tie.self)
  }

  deinit {
    stamps.deallocate()
    fingerprints.deallocate()
    slots.deallocate()
    places.deallocate()
    dimensionSpace.deallocate()
    fact.deallocate()
    orderDimensions.deallocate()
    freeSlots.deallocate()
    expectations.deallocate()
    revision.old.deallocate()
  }

  /// Ties held now, open and remembered.
  public var tieCount: Int { index.count }

  /// Bytes of memory that the state has touched.
  public var footprintBytes: Int {
    index.footprintBytes + store.footprintBytes + usedSlots * MemoryLayout<Tie>.stride + timers.footprintBytes
      + (sourceTotals != nil ? sourceTotals!.setBytes(usedSlots) : 0)
  }

  /// Bytes that live records take; what a memory bound is held against.
  public var liveBytes: Int {
    let parts = liveParts
    return parts.index + parts.slots + parts.bodies + parts.calendar
      + decisions.count * TieDecisions.typicalBytes
      + (sourceTotals != nil ? sourceTotals!.setBytes(index.count) : 0)
  }

  /// Bytes that ties take: what finds them, what is known of each, keys and facts and breaks, and their timers.
  public var liveParts: (index: Int, slots: Int, bodies: Int, calendar: Int) {
    (index.footprintBytes, index.count * MemoryLayout<Tie>.stride, store.liveBytes, timers.footprintBytes)
  }

  // MARK: - Taking records in

  /// Takes a batch of order events in, in the order given.
  public mutating func apply(
    orders: UnsafeBufferPointer<OrderEvent>, now_ms: Int64, outputs: inout MatchOutputs
  ) {
    let (fact, count, space) = (fact, dimensionCount, dimensionSpace)
    take(
      orders, side: Tie.Flag.hasOrder, now_ms: now_ms, outputs: &outputs, key: { $0.pointee.order },
      time: { $0.pointee.time_ms }, position: { $0.pointee.position }, plain: { PlainEvent($0) },
      fill: { fact.fill($0, dimensionCount: count, scratch: space) })
    counters.orderEvents += orders.count
  }

  /// Takes a batch of postings in, in the order given.
  public mutating func apply(
    postings: UnsafeBufferPointer<Posting>, now_ms: Int64, outputs: inout MatchOutputs
  ) {
    let (fact, count, space) = (fact, dimensionCount, dimensionSpace)
    take(
      postings, side: Tie.Flag.hasPosting, now_ms: now_ms, outputs: &outputs, key: { $0.pointee.order },
      time: { $0.pointee.time_ms }, position: { $0.pointee.position }, plain: { PlainPosting($0) },
      fill: { fact.fill($0, dimensionCount: count, scratch: space) })
    counters.postings += postings.count
  }

  /// Takes records in, each in four steps some records apart: its places in the index are brought close, then its slot,
  /// then its body, and then it is taken in. So its cache misses pass while others are worked on. The steps of four records
  /// take turns: what is asked of memory in one go beyond some twenty lines is not brought at all.
  @inline(__always)
  private mutating func take<Record, Plain: PlainRecord>(
    _ records: UnsafeBufferPointer<Record>, side: UInt16, now_ms: Int64, outputs: inout MatchOutputs,
    key: (UnsafePointer<Record>) -> ByteView, time: (UnsafePointer<Record>) -> Int64,
    position: (UnsafePointer<Record>) -> RecordPosition, plain: (UnsafePointer<Record>) -> Plain,
    fill: (UnsafePointer<Record>) -> Void
  ) {
    guard let base = records.baseAddress, !records.isEmpty else { return }
    let latest = now_ms.addingSaturating(policy.maximumFuture_ms)
    var run = position(base)
    var largest = Int64.min
    let takesPlainly = takesPlainly
    let watermark_ms = watermarks.current_ms
    let step = Matcher.stepRecords
    for number in 0..<min(3 &* step, records.count) { bringPlace(number, key(base + number)) }
    _ = makeRoom(for: min(3 &* step, records.count))
    for number in 0..<min(2 &* step, records.count) { bringSlot(number) }
    for number in 0..<min(step, records.count) { bringBody(number) }
    var start = 0
    while start < records.count {
      let end = min(start &+ step, records.count)
      // Where it grows, every place is another one.
      if makeRoom(for: min(start &+ 3 &* step, records.count) &- start) {
        for number in start..<min(start &+ 2 &* step, records.count) { bringSlot(number) }
      }
      while start < end {
        let record = base + start
        let at = start & Matcher.aheadMask
        let number = start
        if number &+ 3 &* step < records.count { bringPlace(number &+ 3 &* step, key(record + 3 &* step)) }
        if number &+ 2 &* step < records.count { bringSlot(number &+ 2 &* step) }
        if number &+ step < records.count { bringBody(number &+ step) }
        start &+= 1
        let time_ms = time(record)
        let place = position(record)
        if place.partition != run.partition || place.source != run.source {
          // Each run of one partition tells the watermarks its largest time; a quarantined record tells nothing.
          watermarks.observe(source: run.source, partition: run.partition, largest_ms: largest, now_ms: now_ms)
          run = place
          largest = .min
        }
        if isAttentive {
          if isRestoring, skips(fingerprints[at]) {
            if time_ms <= latest, time_ms > largest { largest = time_ms }
            continue
          }
          if isRevising, time_ms <= latest { slots[at] = revise(fingerprints[at], key(record)) }
        }
        guard time_ms <= latest else {
          counters.quarantined += 1
          outputs.quarantined.append(number)
          continue
        }
        if time_ms > largest { largest = time_ms }
        let order = key(record)
        var slot = slots[at]
        if slot == 0 ? !index.isFree(places[at]) : !self.key(slot).elementsEqual(order) {
          // Made by a record that was still to be taken in when this was looked up, or its place was taken by another
          // one, or another key with the same tag.
          slot = index.find(fingerprints[at], place: &places[at]) { self.key($0).elementsEqual(order) }
        }
        let own = plain(record)
        if takesPlainly, own.isPlain, order.count < 255, time_ms &+ horizon_ms >= watermark_ms,
          slot == 0 || isPlain(slot), let dimensionSize = own.dimensionSize(dimensionCount),
          !movesCancelled(slot, own.code, side: side)
        {
          if aggregates != nil || tracksPeriods {
            fill(record)
            if aggregates != nil {
              if inheritedDimensions != 0 { heed(slot, isPosting: side == Tie.Flag.hasPosting) }
              aggregate(fact, sign: 1)
            }
            if tracksPeriods { accountByPeriod(fact, sign: 1) }
          }
          takePlain(
            own, dimensionSize: dimensionSize, into: slot, at: places[at], fingerprints[at], order,
            watermark_ms: watermark_ms)
          continue
        }
        fill(record)
        takeFact(into: slot, fingerprints[at], order, time_ms: time_ms, side: side)
      }
    }
    watermarks.observe(source: run.source, partition: run.partition, largest_ms: largest, now_ms: now_ms)
    let last_ms = time(base + records.count - 1)
    if last_ms <= latest {
      watermarks.sample(source: run.source, partition: run.partition, time_ms: last_ms, now_ms: now_ms)
    }
    settleAggregates()
  }

  /// Whether the index has grown, so that so many ties more have room.
  @inline(__always)
  mutating func makeRoom(for more: Int) -> Bool {
    let (ties, base) = (ties, store.base)
    return index.makeRoom(
      for: more, fingerprint: { Matcher.fingerprint($0, ties, base) }, bring: { tieout_prefetch_read(ties + $0) },
      bringKey: { tieout_prefetch_read(base + Int(ties[$0].body) &* 8) })
  }

  /// The first step of a record: its fingerprint, whose place in the index is brought close.
  @inline(__always)
  private func bringPlace(_ number: Int, _ key: ByteView) {
    let at = number & Matcher.aheadMask
    fingerprints[at] = Fingerprint(key)
    index.prefetch(fingerprints[at])
  }

  /// The second step: its tie, by the tag alone; the key is compared when the body has come.
  @inline(__always)
  private func bringSlot(_ number: Int) {
    let at = number & Matcher.aheadMask
    slots[at] = index.find(fingerprints[at], place: &places[at]) { _ in true }
    tieout_prefetch(ties + slots[at])
  }

  @inline(__always)
  private func bringBody(_ number: Int) {
    let slot = slots[number & Matcher.aheadMask]
    guard slot != 0 else { return }
    let body = bodyStart(slot)
    tieout_prefetch(body)
    tieout_prefetch(body + 64)
    tieout_prefetch(body + 128)
  }

  /// Inlined: a call would copy the matcher.
  @inline(__always)
  func lookUp(_ fingerprint: Fingerprint, _ key: ByteView) -> Int {
    index.find(fingerprint) { self.key($0).elementsEqual(key) }
  }

  /// A new tie of a key that is not known.
  @inline(__always)
  mutating func insert(_ fingerprint: Fingerprint, _ key: ByteView) -> Int {
    _ = makeRoom(for: 1)
    let slot = takeSlot()
    let body = makeBody(key)
    (ties + slot).initialize(
      to: Tie(body: body.ref, bodyLength: UInt16(truncatingIfNeeded: body.length), head: fingerprint.head16))
    index.insert(fingerprint, slot: slot)
    return slot
  }

  @inline(__always)
  mutating func takeSlot() -> Int {
    if let slot = freeSlots.take() {
      // Those to be taken next have long left the caches.
      tieout_prefetch(ties + freeSlots.upcoming)
      return slot
    }
    let bytes = (usedSlots + 1) * MemoryLayout<Tie>.stride
    precondition(bytes <= slotRegion.reservedBytes, "a task holds 167 million ties; add partitions")
    slotRegion.grow(to: bytes)
    usedSlots += 1
    return usedSlots - 1
  }

  /// Takes `fact` into a tie; slot 0 stands for one that is not known yet.
  @inline(__always)
  private mutating func takeFact(
    into known: Int, _ fingerprint: Fingerprint, _ key: ByteView, time_ms: Int64, side: UInt16
  ) {
    let watermark_ms = watermarks.current_ms
    let own = Tie.clamped(time_ms.addingSaturating(horizon_ms))
    // Late: window and grace have passed for this record, and for the tie that it belongs to.
    if own < watermark_ms, known == 0 || ties[known].deadline_ms < watermark_ms {
      fact.pointee.flags |= Fact.Flag.late
      counters.late += 1
    }
    let isCancellation = isCancellation(fact)
    let isCancelling = isCancellation || isOfCancelled(fact, known)
    if isCancelling, known != 0 {
      texts.reset()
      aggregateCancelled(known, of: fact.pointee.document, sign: -1)
    }
    if inheritedDimensions != 0, aggregates != nil { heed(known, isPosting: side == Tie.Flag.hasPosting) }
    let change = account(fact, sign: 1)
    var isMeeting = false
    if quality != nil {
      let sides = known == 0 ? 0 : ties[known].flags & (Tie.Flag.hasOrder | Tie.Flag.hasPosting)
      isMeeting = sides != 0 && sides & side == 0
      quality!.take(
        source: fact.pointee.source, time_ms: time_ms, isMatched: sides & ~side != 0,
        isLate: fact.pointee.flags & Fact.Flag.late != 0)
      countValue(fact, isMatched: sides & ~side != 0)
    }
    var slot = known
    if known == 0 {
      counters.tiesOpened += 1
      slot = takeSlot()
      let body = makeBody(key, with: fact, balance: change)
      (ties + slot).initialize(to: Tie(body: body.ref, bodyLength: 0, head: fingerprint.head16))
      setBodyLength(slot, body.length)
      index.insert(fingerprint, slot: slot)
    }
    if isCancellation { noteCancelled(slot, fact.pointee.document) }
    if sourceTotals != nil { countSource(fact, slot, isNew: known == 0) }
    let tie = ties + slot
    tie.pointee.flags |= side | Tie.Flag.dirty
    stamp(tie.pointee.head)
    if own > tie.pointee.deadline_ms { tie.pointee.deadline_ms = own }
    let quiet = Tie.clamped(max(time_ms, watermark_ms).addingSaturating(policy.settle_ms))
    if quiet > tie.pointee.quiet_ms { tie.pointee.quiet_ms = quiet }
    let isBoth = tie.pointee.has(Tie.Flag.hasOrder | Tie.Flag.hasPosting)
    var wantsSifting = false
    if known != 0 {
      let mayAgree =
        judgesQuickly && !policy.quantities.isEnabled && isBoth && tie.pointee.breaks == 0
        && !tie.pointee.has(Tie.Flag.closed) && tie.pointee.deadline_ms >= watermark_ms
        && balance(slot) &+ change == 0
      var isAgreed = false
      if mayAgree, !hasChecks, !isMeeting, bodyLength(slot) <= Matcher.absoluteFrom {
        (isAgreed, wantsSifting) = appendSettling(fact, to: slot, balance: change)
      } else {
        wantsSifting = append(fact, to: slot, balance: change, isMeeting: isMeeting)
        if mayAgree, !wantsSifting, let value = agreedValue(slot) {
          replaceValue(slot, value)
          isAgreed = true
        }
      }
      if isAgreed {
        if isCancelling { aggregateCancelled(slot, of: fact.pointee.document, sign: 1) }
        settle(slot)
        return
      }
    }
    if isCancelling { aggregateCancelled(slot, of: fact.pointee.document, sign: 1) }
    let wantsSettling =
      own < watermark_ms || tie.pointee.has(Tie.Flag.closed) || tie.pointee.breaks != 0
      || isBoth && policy.reportsProvisional
    schedule(slot, at: wantsSettling ? min(own, tie.pointee.quiet_ms) : own)
    // A storm of re-deliveries stays bounded: before a large body doubles again, they are taken out.
    if wantsSifting, !keepsRepetitions { sift(slot) }
  }

  @inline(__always)
  func isCancellation(_ fact: UnsafePointer<Fact>) -> Bool {
    !fact.pointee.isPosting && fact.pointee.code == OrderEventKind.invoiceCancelled.rawValue
  }

  /// Whether an event decides about what cancelled invoices of its tie take back (`aggregateCancelled`), as one of these does.
  @inline(__always)
  func isOfCancelled(_ fact: UnsafePointer<Fact>, _ slot: Int) -> Bool {
    !cancelledDocuments.isEmpty && !fact.pointee.isPosting && fact.pointee.code == OrderEventKind.invoiced.rawValue
      && cancelledDocuments[UInt32(slot)]?.contains(textHash(fact.pointee.document)) == true
  }

  /// A tie agrees. Then it is as good as judged, and nothing need be asked of it before its deadline, unless more comes.
  @inline(__always)
  private mutating func settle(_ slot: Int) {
    counters.judgements += 1
    ties[slot].flags = ties[slot].flags & ~Tie.Flag.dirty | Tie.Flag.agreed
    let deadline_ms = ties[slot].deadline_ms
    // Where the timer moves back, what stands in the calendar for it moves on by itself.
    if deadline_ms < ties[slot].timer_ms { schedule(slot, at: deadline_ms) } else { ties[slot].timer_ms = deadline_ms }
  }

  @inline(__always)
  mutating func schedule(_ slot: Int, at time_ms: Int64) {
    let time_ms = Tie.clamped(time_ms)
    guard time_ms < ties[slot].timer_ms else { return }
    ties[slot].timer_ms = time_ms
    let (ties, base) = (ties, store.base)
    timers.push(deadline_ms: time_ms, slot: slot, head: ties[slot].head) { Matcher.fingerprint($0, ties, base) }
  }

  @inline(__always)
  static func fingerprint(_ slot: Int, _ ties: UnsafePointer<Tie>, _ base: UnsafeRawPointer) -> Fingerprint {
    Fingerprint(key((base + Int(ties[slot].body) * 8).assumingMemoryBound(to: UInt8.self)))
  }

  @inline(__always)
  func expectations(of fact: UnsafePointer<Fact>) -> UnsafeBufferPointer<PolicyEntry> {
    expectations.of(
      fact.pointee.code, date_d: fact.pointee.date_d, time_ms: fact.pointee.time_ms, source: fact.pointee.source)
  }

  /// Adds what a fact says to Σ expected or Σ posted, or takes it back.
  /// - Returns: what it changes in the balance of its tie.
  @inline(__always)
  @discardableResult
  mutating func account(_ fact: UnsafePointer<Fact>, sign: Int64) -> UInt16 {
    guard fact.pointee.flags & Fact.Flag.delete == 0 else { return 0 }
    if aggregates != nil { aggregate(fact, sign: Int(sign)) }
    if tracksPeriods { accountByPeriod(fact, sign: sign) }
    let currency = fact.pointee.currency
    if fact.pointee.isPosting {
      let amount = sign &* fact.pointee.amounts[0]
      running.add(amount, .posted, currency, fact.pointee.code, &settledTotals)
      return Matcher.balance(amount, fact.pointee.code, currency)
    }
    var balance: UInt16 = 0
    for entry in expectations(of: fact) {
      let amount = sign &* Int64(entry.sign) &* fact.amount(entry.component)
      if amount != 0 {
        running.add(amount, .expected, currency, entry.role.rawValue, &settledTotals)
        balance &-= Matcher.balance(amount, entry.role.rawValue, currency)
      }
    }
    return balance
  }

  /// A share of the balance: posted − expected over all roles and currencies, each with a factor of its own, modulo
  /// 2¹⁶. Where a tie agrees it is zero. It says when a look is worth while, and nothing more.
  @inline(__always)
  static func balance(_ amount: Int64, _ role: UInt8, _ currency: Currency) -> UInt16 {
    let factor = (UInt32(role) &+ 1) &* 0x9e37 &+ UInt32(currency.rawValue) &* 0x85eb
    return UInt16(truncatingIfNeeded: amount) &* UInt16(truncatingIfNeeded: factor | 1)
  }
}
