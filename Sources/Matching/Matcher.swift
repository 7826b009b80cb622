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
  public let policy: MatchingPolicy
  public let dimensionCount: Int
  public var watermarks: Watermarks
  public var counters = MatchCounters()
  public var totals = ControlTotals()
  /// Sums by dimensions, currency and period, where they are wanted.
  public var aggregates: TaskAggregates?

  var index = TieIndex()
  var store = RecordStore()
  var timers: TimerQueue
  var judge: Judge
  var ties: UnsafeMutablePointer<Tie>
  var tieCapacity: Int
  var usedSlots = 1
  var freeSlots: [UInt32] = []
  /// Lengths of the bodies that are too long for their slots.
  var longBodies: [UInt32: Int] = [:]
  let expectations: Expectations
  /// Window and grace.
  let horizon_ms: Int64

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
  let fingerprints: UnsafeMutablePointer<Fingerprint>
  let slots: UnsafeMutablePointer<Int>
  let dimensionSpace: UnsafeMutablePointer<UInt8>
  var gathered: [GatheredFact] = []
  var read: [Fact] = []
  var texts = TextArena()
  var quick = QuickJudge()
  /// False makes every judgement a full one: tests hold the two against each other.
  var judgesQuickly = true
  /// While a bounded input is being closed, nothing is forgotten: the tie counts and totals are about to be read.
  var isFinishing = false

  /// Records looked up together, so that the cache misses of one overlap with those of the others.
  static let microBatch = 32

  /// `dimensionCount`: how many of a record's dimensions are configured.
  public init(policy: MatchingPolicy, dimensionCount: Int) {
    self.policy = policy
    self.dimensionCount = min(dimensionCount, maximumDimensions)
    watermarks = Watermarks(outOfOrderness_ms: policy.outOfOrderness_ms, idleTimeout_ms: policy.idleTimeout_ms)
    horizon_ms = policy.window_ms.addingSaturating(policy.grace_ms)
    timers = TimerQueue(quantum_ms: horizon_ms / TimerQueue.quantaPerHorizon)
    judge = Judge(policy: policy)
    expectations = Expectations(policy)
    stamps = .allocate(capacity: 1 << Matcher.stampBits)
    stamps.initialize(repeating: 0, count: 1 << Matcher.stampBits)
    fingerprints = .allocate(capacity: Matcher.microBatch)
    slots = .allocate(capacity: Matcher.microBatch)
    dimensionSpace = .allocate(capacity: maximumDimensions * (maximumDimensionBytes + 1))
    tieCapacity = 1 << 10
    ties = tieout_realloc(nil, UInt64(tieCapacity * MemoryLayout<Tie>.stride))!.assumingMemoryBound(to: Tie.self)
  }

  deinit {
    tieout_free(ties)
    stamps.deallocate()
    fingerprints.deallocate()
    slots.deallocate()
    dimensionSpace.deallocate()
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
    let (count, space) = (dimensionCount, dimensionSpace)
    take(
      orders, side: Tie.Flag.hasOrder, now_ms: now_ms, outputs: &outputs, key: { $0.pointee.order },
      time: { $0.pointee.time_ms }, position: { $0.pointee.position },
      fact: { Fact($0.pointee, dimensionCount: count, scratch: space) })
    counters.orderEvents += orders.count
  }

  /// Takes a batch of postings in, in the order given.
  public mutating func apply(
    postings: UnsafeBufferPointer<Posting>, now_ms: Int64, outputs: inout MatchOutputs
  ) {
    let (count, space) = (dimensionCount, dimensionSpace)
    take(
      postings, side: Tie.Flag.hasPosting, now_ms: now_ms, outputs: &outputs, key: { $0.pointee.order },
      time: { $0.pointee.time_ms }, position: { $0.pointee.position },
      fact: { Fact($0.pointee, dimensionCount: count, scratch: space) })
    counters.postings += postings.count
  }

  /// Takes records in by micro-batches: first the index, then the slots, then the bodies of all of them are brought
  /// close, so that each record's cache misses pass while the others are looked up.
  @inline(__always)
  private mutating func take<Record>(
    _ records: UnsafeBufferPointer<Record>, side: UInt16, now_ms: Int64, outputs: inout MatchOutputs,
    key: (UnsafePointer<Record>) -> ByteView, time: (UnsafePointer<Record>) -> Int64,
    position: (UnsafePointer<Record>) -> RecordPosition, fact: (UnsafePointer<Record>) -> Fact
  ) {
    guard let base = records.baseAddress, !records.isEmpty else { return }
    let latest = now_ms.addingSaturating(policy.maximumFuture_ms)
    var start = 0
    var run = position(base)
    var largest = Int64.min
    while start < records.count {
      let count = min(Matcher.microBatch, records.count - start)
      let batch = base + start
      for at in 0..<count {
        fingerprints[at] = Fingerprint(key(batch + at))
        index.prefetch(fingerprints[at])
      }
      for at in 0..<count {
        // By the tag alone; the key is compared when its body has come.
        slots[at] = index.find(fingerprints[at]) { _ in true }
        tieout_prefetch(ties + slots[at])
      }
      for at in 0..<count where slots[at] != 0 {
        let body = bodyStart(slots[at])
        tieout_prefetch(body)
        tieout_prefetch(body + 64)
        tieout_prefetch(body + 128)
      }
      for at in 0..<count {
        let record = batch + at
        let time_ms = time(record)
        let place = position(record)
        if place.partition != run.partition || place.source != run.source {
          // Each run of one partition tells the watermarks its largest time; a quarantined record tells nothing.
          watermarks.observe(source: run.source, partition: run.partition, largest_ms: largest, now_ms: now_ms)
          run = place
          largest = .min
        }
        if isRestoring, skips(fingerprints[at]) {
          if time_ms <= latest, time_ms > largest { largest = time_ms }
          continue
        }
        guard time_ms <= latest else {
          counters.quarantined += 1
          outputs.quarantined.append(start + at)
          continue
        }
        if time_ms > largest { largest = time_ms }
        let order = key(record)
        var slot = slots[at]
        if slot == 0 || !self.key(slot).elementsEqual(order) {
          // New, or made by an earlier record of this micro-batch, or another key with the same tag.
          slot = lookUp(fingerprints[at], order)
          if slot == 0 {
            counters.tiesOpened += 1
            slot = insert(fingerprints[at], order)
          }
        }
        take(fact(record), into: slot, time_ms: time_ms, side: side)
      }
      start += count
    }
    watermarks.observe(source: run.source, partition: run.partition, largest_ms: largest, now_ms: now_ms)
  }

  private func lookUp(_ fingerprint: Fingerprint, _ key: ByteView) -> Int {
    index.find(fingerprint) { self.key($0).elementsEqual(key) }
  }

  /// A new tie of a key that is not known.
  @inline(__always)
  mutating func insert(_ fingerprint: Fingerprint, _ key: ByteView) -> Int {
    let slot = takeSlot()
    let body = makeBody(key)
    (ties + slot).initialize(
      to: Tie(body: body.ref, bodyLength: UInt16(body.length), head: fingerprint.head16))
    index.insert(fingerprint, slot: slot)
    return slot
  }

  @inline(__always)
  mutating func takeSlot() -> Int {
    if let free = freeSlots.popLast() { return Int(free) }
    if usedSlots == tieCapacity { growTies() }
    usedSlots += 1
    return usedSlots - 1
  }

  private mutating func growTies() {
    precondition(tieCapacity < TieIndex.maximumSlots, "a task holds 201 million ties; add partitions")
    tieCapacity = min(tieCapacity * 2, TieIndex.maximumSlots)
    let bytes = UInt64(tieCapacity * MemoryLayout<Tie>.stride)
    ties = tieout_realloc(ties, bytes)!.assumingMemoryBound(to: Tie.self)
    if bytes > 1 << 25 { tieout_advise_huge(ties, bytes) }
  }

  /// Late: window and grace have passed for this record, or for the tie that it belongs to.
  @inline(__always)
  private func isLate(_ slot: Int, _ own: Int64) -> Bool {
    max(own, ties[slot].deadline_ms) < watermarks.current_ms
  }

  @inline(__always)
  private mutating func take(_ record: consuming Fact, into slot: Int, time_ms: Int64, side: UInt16) {
    var fact = record
    let own = Tie.clamped(time_ms.addingSaturating(horizon_ms))
    if isLate(slot, own) {
      fact.flags |= Fact.Flag.late
      counters.late += 1
    }
    account(fact, sign: 1)
    let hasGrown = append(fact, to: slot)
    let tie = ties + slot
    tie.pointee.flags |= side | Tie.Flag.dirty
    stamp(tie.pointee.head)
    if own > tie.pointee.deadline_ms { tie.pointee.deadline_ms = own }
    let quiet = Tie.clamped(max(time_ms, watermarks.current_ms).addingSaturating(policy.settle_ms))
    if quiet > tie.pointee.quiet_ms { tie.pointee.quiet_ms = quiet }
    let isBoth = tie.pointee.has(Tie.Flag.hasOrder | Tie.Flag.hasPosting)
    let wantsSettling =
      own < watermarks.current_ms || tie.pointee.has(Tie.Flag.closed) || tie.pointee.breaks != 0
      || isBoth && policy.reportsProvisional
    schedule(slot, at: wantsSettling ? min(own, tie.pointee.quiet_ms) : own)
    // A storm of re-deliveries stays bounded: before a large body doubles again, they are taken out.
    if hasGrown { gather(slot) }
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

  /// Adds what a fact says to Σ expected or Σ posted, or takes it back.
  @inline(__always)
  mutating func account(_ fact: Fact, sign: Int) {
    guard fact.flags & Fact.Flag.delete == 0 else { return }
    if aggregates != nil { aggregate(fact, sign: sign) }
    if fact.isPosting {
      totals.add(Int128(sign) * Int128(fact.amount), .posted, fact.currency, fact.role)
    } else {
      for entry in expectations[fact.code] {
        let amount = fact.amount(entry.component)
        if amount != 0 {
          totals.add(Int128(sign * entry.sign) * Int128(amount), .expected, fact.currency, entry.role)
        }
      }
    }
  }
}

/// The posting policy as one table, so that reading it counts no references.
final class Expectations: @unchecked Sendable {
  private let entries: UnsafeMutableBufferPointer<PolicyEntry>
  private let starts: UnsafeMutableBufferPointer<Int>

  init(_ policy: MatchingPolicy) {
    let all = policy.entries.flatMap { $0 }
    entries = .allocate(capacity: max(all.count, 1))
    _ = entries.initialize(from: all)
    // Codes are five bits: what no event kind has, expects nothing.
    starts = .allocate(capacity: 33)
    var start = 0
    for code in 0..<33 {
      starts[code] = start
      if code < policy.entries.count { start += policy.entries[code].count }
    }
  }

  deinit {
    entries.deallocate()
    starts.deallocate()
  }

  /// What an event of this kind must put into the ledger.
  @inline(__always)
  subscript(code: UInt8) -> UnsafeBufferPointer<PolicyEntry> {
    let start = starts[Int(code)]
    return UnsafeBufferPointer(start: entries.baseAddress! + start, count: starts[Int(code) + 1] - start)
  }
}
