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
  @inline(__always)
  var timerTag: UInt32 { UInt32(truncatingIfNeeded: high >> 32) }
}

/// The pure core: takes order events and postings of one task, joins them by order key, and says what does not agree.
///
/// A deterministic state machine: what it does depends on nothing but the records given to it, their grouping into
/// batches, and the clock readings given as arguments. It does no I/O, reads no clock and draws no random number.
/// One thread at a time.
public struct Matcher: ~Copyable {
  public let policy: MatchingPolicy
  public let dimensionCount: Int
  public var watermarks: Watermarks
  public var counters = MatchCounters()
  public var totals = ControlTotals()

  var index = TieIndex()
  var store = RecordStore()
  var timers: TimerQueue
  var judge: Judge
  var ties: UnsafeMutablePointer<Tie>
  var tieCapacity: Int
  var usedSlots = 1
  var freeSlots: [UInt32] = []

  /// While a checkpoint is being restored: the shards that are in already; the others' records were taken in before
  /// the shard was written.
  var isRestoring = false
  var restoredShards: [Bool] = []
  var restoreBits = 0

  /// Number of the running epoch, and by the head of the fingerprint the epoch of the last change: a checkpoint leaves
  /// out what has not changed.
  public var epoch: UInt32 = 0
  var stamps: UnsafeMutablePointer<UInt32>
  static let stampBits = 14

  // Scratch of `apply` and of the judgement, kept so that steady state allocates nothing.
  var fingerprints = [Fingerprint](repeating: Fingerprint(high: 0, low: 0), count: Matcher.microBatch)
  var slots = [Int](repeating: 0, count: Matcher.microBatch)
  var gathered: [GatheredFact] = []

  /// Records looked up together, so that the cache misses of one overlap with those of the others.
  static let microBatch = 32
  /// A tie with more facts than this is deduplicated as they come, so that a storm of re-deliveries stays bounded.
  static let compactionThreshold: UInt32 = 256

  /// `dimensionCount`: how many of a record's dimensions are configured.
  public init(policy: MatchingPolicy, dimensionCount: Int) {
    self.policy = policy
    self.dimensionCount = dimensionCount
    watermarks = Watermarks(outOfOrderness_ms: policy.outOfOrderness_ms, idleTimeout_ms: policy.idleTimeout_ms)
    // A thousand buckets over the window: each is sorted when it opens, and holds a thousandth of the open ties.
    timers = TimerQueue(quantum_ms: (policy.window_ms + policy.grace_ms) / 1_024)
    judge = Judge(policy: policy)
    stamps = .allocate(capacity: 1 << Matcher.stampBits)
    stamps.initialize(repeating: 0, count: 1 << Matcher.stampBits)
    tieCapacity = 1 << 10
    ties = tieout_realloc(nil, UInt64(tieCapacity * MemoryLayout<Tie>.stride))!.assumingMemoryBound(to: Tie.self)
  }

  deinit {
    tieout_free(ties)
    stamps.deallocate()
  }

  /// Ties held now, open and remembered.
  public var tieCount: Int { index.count }

  /// Bytes of memory that the state has touched.
  public var footprintBytes: Int {
    index.footprintBytes + store.footprintBytes + usedSlots * MemoryLayout<Tie>.stride + timers.footprintBytes
  }

  /// Bytes that live records take; what a memory bound is held against.
  public var liveBytes: Int {
    index.footprintBytes + store.liveBytes + index.count * MemoryLayout<Tie>.stride + timers.footprintBytes
  }

  // MARK: - Taking records in

  /// Takes a batch of order events in, in the order given.
  public mutating func apply(
    orders: UnsafeBufferPointer<OrderEvent>, now_ms: Int64, outputs: inout MatchOutputs
  ) {
    var start = 0
    let latest = now_ms.addingSaturating(policy.maximumFuture_ms)
    while start < orders.count {
      let count = min(Matcher.microBatch, orders.count - start)
      for offset in 0..<count {
        fingerprints[offset] = Fingerprint(orders[start + offset].order)
        index.prefetch(fingerprints[offset])
      }
      for offset in 0..<count { slots[offset] = lookUp(fingerprints[offset], orders[start + offset].order) }
      for offset in 0..<count {
        let at = start + offset
        if isRestoring, skips(fingerprints[offset]) { continue }
        let time_ms = orders[at].time_ms
        guard time_ms <= latest else {
          counters.quarantined += 1
          outputs.quarantined.append(at)
          continue
        }
        let slot = slotForAppend(offset, orders[at].order, time_ms)
        let late = isLate(slot, time_ms)
        let fact = store.append(orders[at], dimensionCount: dimensionCount, late: late)
        link(fact, to: slot, time_ms: time_ms, late: late, side: Tie.Flag.hasOrder)
      }
      start += count
    }
    counters.orderEvents += orders.count
    observeRuns(orders.count, now_ms: now_ms, latest: latest) { (orders[$0].position, orders[$0].time_ms) }
  }

  /// Takes a batch of postings in, in the order given.
  public mutating func apply(
    postings: UnsafeBufferPointer<Posting>, now_ms: Int64, outputs: inout MatchOutputs
  ) {
    var start = 0
    let latest = now_ms.addingSaturating(policy.maximumFuture_ms)
    while start < postings.count {
      let count = min(Matcher.microBatch, postings.count - start)
      for offset in 0..<count {
        fingerprints[offset] = Fingerprint(postings[start + offset].order)
        index.prefetch(fingerprints[offset])
      }
      for offset in 0..<count { slots[offset] = lookUp(fingerprints[offset], postings[start + offset].order) }
      for offset in 0..<count {
        let at = start + offset
        if isRestoring, skips(fingerprints[offset]) { continue }
        let time_ms = postings[at].time_ms
        guard time_ms <= latest else {
          counters.quarantined += 1
          outputs.quarantined.append(at)
          continue
        }
        let slot = slotForAppend(offset, postings[at].order, time_ms)
        let late = isLate(slot, time_ms)
        let fact = store.append(postings[at], dimensionCount: dimensionCount, late: late)
        link(fact, to: slot, time_ms: time_ms, late: late, side: Tie.Flag.hasPosting)
      }
      start += count
    }
    counters.postings += postings.count
    observeRuns(postings.count, now_ms: now_ms, latest: latest) { (postings[$0].position, postings[$0].time_ms) }
  }

  /// Tells the watermarks the largest time of each run of one partition; a quarantined record tells nothing.
  private mutating func observeRuns(
    _ count: Int, now_ms: Int64, latest: Int64, _ record: (Int) -> (RecordPosition, Int64)
  ) {
    guard count > 0 else { return }
    var (run, _) = record(0)
    var largest = Int64.min
    for at in 0..<count {
      let (position, time_ms) = record(at)
      if position.partition != run.partition || position.source != run.source {
        watermarks.observe(source: run.source, partition: run.partition, largest_ms: largest, now_ms: now_ms)
        run = position
        largest = .min
      }
      if time_ms <= latest, time_ms > largest { largest = time_ms }
    }
    watermarks.observe(source: run.source, partition: run.partition, largest_ms: largest, now_ms: now_ms)
  }

  @inline(__always)
  private func lookUp(_ fingerprint: Fingerprint, _ key: ByteView) -> Int {
    let found = index.find(fingerprint) { slot in
      ties[slot].fingerprint == fingerprint && keyEquals(slot, key)
    }
    guard let found else { return 0 }
    return found
  }

  private func keyEquals(_ slot: Int, _ key: ByteView) -> Bool { self.key(slot).elementsEqual(key) }

  /// The key of a tie; valid until the store next allocates.
  func key(_ slot: Int) -> ByteView {
    let base = store.pointer(ties[slot].key)
    let count = Int(base.load(as: UInt32.self))
    return ByteView(base: (base + 4).assumingMemoryBound(to: UInt8.self), count: count)
  }

  /// The slot found by the look-up, or that of an earlier record of the same micro-batch, or a new tie's.
  @inline(__always)
  private mutating func slotForAppend(_ offset: Int, _ key: ByteView, _ time_ms: Int64) -> Int {
    if slots[offset] != 0 { return slots[offset] }
    let again = lookUp(fingerprints[offset], key)
    return again != 0 ? again : open(fingerprints[offset], key)
  }

  private mutating func open(_ fingerprint: Fingerprint, _ key: ByteView) -> Int {
    counters.tiesOpened += 1
    return insert(fingerprint, key)
  }

  /// A new tie of a key that is not known.
  mutating func insert(_ fingerprint: Fingerprint, _ key: ByteView) -> Int {
    let slot: Int
    if let free = freeSlots.popLast() {
      slot = Int(free)
    } else {
      if usedSlots == tieCapacity { growTies() }
      slot = usedSlots
      usedSlots += 1
    }
    let keyRef = store.allocate(4 + key.count)
    let base = store.pointer(keyRef)
    base.storeBytes(of: UInt32(key.count), as: UInt32.self)
    if key.count > 0 { (base + 4).copyMemory(from: key.base!, byteCount: key.count) }
    (ties + slot).initialize(
      to: Tie(
        fingerprint: fingerprint, facts: 0, breaks: 0, key: keyRef, flags: Tie.Flag.live, deadline_ms: .min,
        timer_ms: .max, quiet_ms: .min, value: 0, factCount: 0, valueCurrency: 0))
    index.insert(fingerprint, slot: slot)
    return slot
  }

  private mutating func growTies() {
    precondition(tieCapacity < TieIndex.maximumSlots, "a task holds 268 million ties; add partitions")
    tieCapacity *= 2
    let bytes = UInt64(tieCapacity * MemoryLayout<Tie>.stride)
    ties = tieout_realloc(ties, bytes)!.assumingMemoryBound(to: Tie.self)
    if bytes > 1 << 25 { tieout_advise_huge(ties, bytes) }
  }

  /// Late: window and grace have passed for this record, or for the tie that it belongs to.
  @inline(__always)
  private func isLate(_ slot: Int, _ time_ms: Int64) -> Bool {
    let own = time_ms.addingSaturating(policy.window_ms + policy.grace_ms)
    return max(own, ties[slot].deadline_ms) < watermarks.current_ms
      || ties[slot].has(Tie.Flag.closed) && ties[slot].deadline_ms < watermarks.current_ms
        && own < watermarks.current_ms
  }

  @inline(__always)
  private mutating func link(_ fact: StoreRef, to slot: Int, time_ms: Int64, late: Bool, side: UInt16) {
    let tie = ties + slot
    let header = store.header(fact)
    header.pointee.next = tie.pointee.facts
    tie.pointee.facts = fact
    tie.pointee.factCount += 1
    tie.pointee.flags |= side | Tie.Flag.dirty
    stamp(tie.pointee.fingerprint)
    if late { counters.late += 1 }
    account(fact, sign: 1)
    let own = time_ms.addingSaturating(policy.window_ms + policy.grace_ms)
    if own > tie.pointee.deadline_ms { tie.pointee.deadline_ms = own }
    let quiet = max(time_ms, watermarks.current_ms).addingSaturating(policy.settle_ms)
    if quiet > tie.pointee.quiet_ms { tie.pointee.quiet_ms = quiet }
    let isBoth = tie.pointee.has(Tie.Flag.hasOrder | Tie.Flag.hasPosting)
    let wantsSettling =
      own < watermarks.current_ms || tie.pointee.has(Tie.Flag.closed) || tie.pointee.breaks != 0
      || isBoth && policy.reportsProvisional
    schedule(slot, at: wantsSettling ? min(own, tie.pointee.quiet_ms) : own)
    if tie.pointee.factCount > Matcher.compactionThreshold,
      tie.pointee.factCount & (tie.pointee.factCount - 1) == 0
    {
      gather(slot)
    }
  }

  @inline(__always)
  mutating func schedule(_ slot: Int, at time_ms: Int64) {
    guard time_ms < ties[slot].timer_ms else { return }
    ties[slot].timer_ms = time_ms
    timers.push(deadline_ms: time_ms, slot: slot, tag: ties[slot].fingerprint.timerTag)
  }

  /// Adds what a fact says to Σ expected or Σ posted, or takes it back.
  mutating func account(_ fact: StoreRef, sign: Int128) {
    let header = store.header(fact).pointee
    guard header.flags & FactHeader.Flag.delete == 0 else { return }
    if header.isPosting {
      let view = FactView(store, fact)
      totals.add(sign * Int128(view.amount), .posted, view.currency, view.role)
    } else {
      let entries = policy.entries[Int(header.kind)]
      guard !entries.isEmpty else { return }
      let view = FactView(store, fact)
      for entry in entries {
        let amount = view.amount(entry.component)
        if amount != 0 {
          totals.add(sign * Int128(entry.sign) * Int128(amount), .expected, view.currency, entry.role)
        }
      }
    }
  }

  // MARK: - Time

  /// Moves the watermark by the clock and judges what has become due, at most `policy.maximumExpiries` ties.
  /// - Returns: whether more is due already, so that the caller comes back without waiting.
  @discardableResult
  public mutating func advance(now_ms: Int64, outputs: inout MatchOutputs) -> Bool {
    watermarks.advance(now_ms: now_ms)
    return expire(.atMost(policy.maximumExpiries), outputs: &outputs) != .none
  }

  /// As `advance`, at a pace of the caller's.
  /// - Returns: how far it came; `ExpiryBound.none` where nothing that is due was left.
  public mutating func advance(now_ms: Int64, pace: ExpiryPace, outputs: inout MatchOutputs) -> ExpiryBound {
    watermarks.advance(now_ms: now_ms)
    return expire(pace, outputs: &outputs)
  }

  /// The bounded input is over: everything is due.
  public mutating func finish(outputs: inout MatchOutputs) {
    finish(asOf_ms: .max - 1, outputs: &outputs)
  }

  /// The bounded input is over, and ties are judged as they stand at a time.
  public mutating func finish(asOf_ms: Int64, outputs: inout MatchOutputs) {
    watermarks.force(asOf_ms)
    isFinishing = true
    _ = expire(.upTo(.none), outputs: &outputs)
    isFinishing = false
  }

  /// While a bounded input is being closed, nothing is forgotten: the tie counts and totals are about to be read.
  var isFinishing = false

  private mutating func expire(_ pace: ExpiryPace, outputs: inout MatchOutputs) -> ExpiryBound {
    let watermark_ms = watermarks.current_ms
    var (limit, bound) = (Int.max, ExpiryBound.none)
    switch pace {
    case .atMost(let count): limit = max(1, count)
    case .upTo(let given): bound = given
    }
    guard watermark_ms > .min else { return bound }
    var done = 0
    // The farthest that was popped: a tie may be due again at once, at a time before that of another one.
    var reached = ExpiryBound(deadline_ms: .min, tag: 0)
    while let entry = timers.pop(before: watermark_ms, upTo: bound) {
      if !reached.covers(entry) { reached = ExpiryBound(deadline_ms: entry.deadline_ms, tag: entry.tag) }
      if let ahead = timers.upcoming(8) { tieout_prefetch(ties + ahead) }
      if let near = timers.upcoming(3), ties[near].facts != 0 { tieout_prefetch(store.pointer(ties[near].facts)) }
      let slot = Int(entry.slot)
      guard ties[slot].has(Tie.Flag.live), ties[slot].timer_ms == entry.deadline_ms,
        ties[slot].fingerprint.timerTag == entry.tag
      else { continue }
      ties[slot].timer_ms = .max
      fire(slot, watermark_ms: watermark_ms, outputs: &outputs)
      done += 1
      // What is due no later than the last one goes with it.
      if done == limit { bound = reached }
    }
    return bound
  }

  private mutating func fire(_ slot: Int, watermark_ms: Int64, outputs: inout MatchOutputs) {
    let tie = ties[slot]
    stamp(tie.fingerprint)
    if tie.has(Tie.Flag.closed), !tie.has(Tie.Flag.dirty) {
      let kept = tie.has(Tie.Flag.open) ? policy.openRetention_ms : policy.retention_ms
      let until = tie.deadline_ms.addingSaturating(kept)
      if until < watermark_ms {
        if !isFinishing { forget(slot) }
      } else {
        schedule(slot, at: until)
      }
      return
    }
    let isFinal = tie.deadline_ms < watermark_ms
    if !isFinal || tie.has(Tie.Flag.closed), tie.quiet_ms >= watermark_ms, !isOverdue(slot, watermark_ms) {
      schedule(slot, at: tie.quiet_ms)
      return
    }
    evaluate(slot, watermark_ms: watermark_ms, isFinal: isFinal, outputs: &outputs)
    scheduleNext(slot, watermark_ms: watermark_ms)
  }

  /// Whether a part of an open tie is past its own deadline for the first time.
  private func isOverdue(_ slot: Int, _ watermark_ms: Int64) -> Bool {
    guard !ties[slot].has(Tie.Flag.closed) else { return false }
    let horizon = policy.window_ms + policy.grace_ms
    var fact = ties[slot].facts
    while fact != 0 {
      let header = store.header(fact).pointee
      if header.time_ms.addingSaturating(horizon) < watermark_ms { return true }
      fact = header.next
    }
    return false
  }

  private mutating func scheduleNext(_ slot: Int, watermark_ms: Int64) {
    let horizon = policy.window_ms + policy.grace_ms
    var next = Int64.max
    var fact = ties[slot].facts
    while fact != 0 {
      let header = store.header(fact).pointee
      let own = header.time_ms.addingSaturating(horizon)
      if own >= watermark_ms, own < next { next = own }
      fact = header.next
    }
    if next == .max {
      let kept = ties[slot].has(Tie.Flag.open) ? policy.openRetention_ms : policy.retention_ms
      next = ties[slot].deadline_ms.addingSaturating(kept)
      if isFinishing { return }
    }
    schedule(slot, at: next)
  }

  private mutating func forget(_ slot: Int) {
    var fact = ties[slot].facts
    while fact != 0 {
      let header = store.header(fact).pointee
      store.free(fact, granules: Int(header.granules))
      fact = header.next
    }
    var record = ties[slot].breaks
    while record != 0 {
      let kept = store.breakRecord(record)
      store.free(record, granules: Int(kept.granules))
      record = kept.next
    }
    let keyBytes = key(slot).count + 4
    store.free(ties[slot].key, granules: RecordStore.granules(keyBytes))
    index.remove(ties[slot].fingerprint, slot: slot)
    ties[slot].flags = 0
    freeSlots.append(UInt32(slot))
    counters.tiesForgotten += 1
  }
}
