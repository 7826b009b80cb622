import CShims
import Domain

/// Deadlines in event time, popped in the order (deadline, fingerprint), exact to the millisecond. The fingerprint and
/// not the slot decides among equals, so that the order is the same in a state that was restored, where ties stand in
/// other slots.
///
/// A calendar queue of slots: a tie goes into the bucket of its timer, four bytes in a chunk of the bucket's list, and
/// only the bucket that the watermark enters is read and sorted; its ties say themselves when they are due. Deadlines
/// that fall into the opened bucket later go to a small heap beside it. Entries are never taken out early: a tie
/// remembers its earliest live timer. A timer that comes nearer has an entry of its own; one that moves back has none:
/// the entry that stands before it moves on to it when its bucket is read (or when it is popped, see `again`).
///
/// How much time a bucket stands for follows the ties: in buckets of one tie each every one would be a cache miss or
/// two, on the way in and on the way out, and there would be nothing to look ahead to; too many would have to be sorted.
/// What is popped, and in which order, does not depend on it.
struct TimerQueue: ~Copyable {
  struct Entry {
    /// Deadline (48 bits), then the head of the fingerprint.
    var order: Int64
    var slot: UInt32

    @inline(__always)
    init(deadline_ms: Int64, head: UInt16, slot: Int) {
      order = deadline_ms << 16 | Int64(head)
      self.slot = UInt32(slot)
    }

    /// Before every other order.
    static let first = Int64.min

    var deadline_ms: Int64 { order >> 16 }
    var head: UInt16 { UInt16(truncatingIfNeeded: order) }
  }

  /// Buckets ahead of the opened one; deadlines beyond wait in `far` until the calendar has turned that far.
  static let ringSize = 1 << 16
  /// The most quanta of window and grace: a tie's first deadline lies a sixteenth of the ring ahead at the most, and some
  /// hundreds of ties share a bucket where a million are open.
  static let quantaPerHorizon: Int64 = 1 << 12
  /// A quantum grows to this many times the smallest.
  private static let coarsestBits = 8
  /// Entries of a bucket, on average: below the first quanta grow, above the last they shrink, to about `wanted`.
  private static let fewest = 16
  private static let wanted = 48
  private static let most = 256
  /// After so many buckets, or so many entries, the average is looked at.
  private static let adaptEvery = (buckets: 512, entries: 1 << 14)
  /// Slots of one chunk; with the link to the next, a cache line.
  private static let chunkSlots = 15

  /// A quantum is two to the power of this many milliseconds.
  private(set) var quantumBits: Int
  private let finestBits: Int
  private let adapts: Bool
  /// Buckets passed, and entries that were read from them, since the average was looked at.
  private var passedBuckets = 0
  private var readEntries = 0
  /// By bucket: the number of its first chunk (28 bits) and how many slots are in that (4 bits); 0 is empty.
  private var ring: UnsafeMutablePointer<UInt32>
  private var region: Region
  private let chunks: UnsafeMutablePointer<UInt32>
  private var usedChunks = 1
  private var freeChunk: UInt32 = 0
  private var far: [Entry] = []
  /// Number (deadline / quantum) of the opened bucket: everything at or below it is in `run` or `heap`.
  private var opened = Int64.min
  private var run: UnsafeMutablePointer<Entry>
  /// As large as `run`: what that is sorted into.
  private var spare: UnsafeMutablePointer<Entry>
  private var runCapacity = 1_024
  private var runCount = 0
  private var cursor = 0
  private var heap: [Entry] = []
  /// What of the next bucket is to be brought close: chunk and place of the slot that is next, 0 where there is none, and
  /// the last slots that were asked for, whose ties are looked at when they have come.
  private var nextChunk = 0
  private var nextPlace = 0
  private var askedCount = 0
  private let asked: UnsafeMutablePointer<UInt32>
  private static let askedMask = 7
  /// Buckets that are looked at for one that is not empty.
  private static let lookedAt = 4
  /// See `spreadRun`; runs of so many entries are.
  private let shares: UnsafeMutablePointer<UInt32>
  private static let shareBits = 6
  private static let (spreadFrom, spreadTo) = (12, 1_024)
  /// By bucket: the last chunk of its list that has been asked for; see `prefetchNext`.
  private let walked: UnsafeMutablePointer<UInt32>
  private static let walkedCount = 16
  /// Entries, also those that do not count any more.
  private(set) var count = 0

  /// - Parameters:
  ///   - quantum_ms: The smallest that is wanted.
  ///   - adapts: False keeps that one.
  init(quantum_ms: Int64, adapts: Bool = true) {
    self.adapts = adapts
    finestBits = max(1, quantum_ms) > 1 ? Int64.bitWidth - (quantum_ms - 1).leadingZeroBitCount : 0
    quantumBits = finestBits
    ring = .allocate(capacity: TimerQueue.ringSize)
    ring.initialize(repeating: 0, count: TimerQueue.ringSize)
    run = .allocate(capacity: runCapacity)
    spare = .allocate(capacity: runCapacity)
    shares = .allocate(capacity: 1 << TimerQueue.shareBits)
    walked = .allocate(capacity: TimerQueue.walkedCount)
    walked.initialize(repeating: 0, count: TimerQueue.walkedCount)
    asked = .allocate(capacity: TimerQueue.askedMask + 1)
    asked.initialize(repeating: 0, count: TimerQueue.askedMask + 1)
    // A tie has a few timers in here, of four bytes: address space for a billion of them.
    region = Region(reserving: 1 << 32)
    chunks = region.base.assumingMemoryBound(to: UInt32.self)
  }

  deinit {
    ring.deallocate()
    run.deallocate()
    spare.deallocate()
    shares.deallocate()
    walked.deallocate()
    asked.deallocate()
  }

  var footprintBytes: Int {
    TimerQueue.ringSize * 4 + usedChunks * 64 + (far.count + 2 * runCapacity + heap.count) * MemoryLayout<Entry>.stride
  }

  @inline(__always)
  private func bucketNumber(_ deadline_ms: Int64) -> Int64 { deadline_ms >> Int64(truncatingIfNeeded: quantumBits) }

  /// Whether `a` is due before `b`; the fingerprint is asked for where deadline and head say nothing.
  @inline(__always)
  private static func precedes(_ a: Entry, _ b: Entry, _ fingerprint: (Int) -> Fingerprint) -> Bool {
    if a.order != b.order { return a.order < b.order }
    if a.slot == b.slot { return false }
    let (x, y) = (fingerprint(Int(a.slot)), fingerprint(Int(b.slot)))
    return x.high != y.high ? x.high < y.high : x.low < y.low
  }

  /// - Parameters:
  ///   - head: The first 16 bits of the key's fingerprint, the whole of which `fingerprint` finds by the slot.
  @inline(__always)
  mutating func push(deadline_ms: Int64, slot: Int, head: UInt16, fingerprint: (Int) -> Fingerprint) {
    let number = bucketNumber(deadline_ms)
    // Ahead of the opened bucket, and within a turn of the calendar: nearly all are. While none is opened, none is.
    if UInt64(bitPattern: number &- opened &- 1) < UInt64(TimerQueue.ringSize - 1) {
      count &+= 1
      append(slot, to: number)
    } else {
      pushFar(number, deadline_ms: deadline_ms, slot: slot, head: head, fingerprint: fingerprint)
    }
  }

  @inline(never)
  private mutating func pushFar(
    _ number: Int64, deadline_ms: Int64, slot: Int, head: UInt16, fingerprint: (Int) -> Fingerprint
  ) {
    count += 1
    if opened == .min { opened = number - 1 }
    put(number, deadline_ms: deadline_ms, slot: slot, head: head, fingerprint: fingerprint)
  }

  @inline(__always)
  private mutating func put(
    _ number: Int64, deadline_ms: Int64, slot: Int, head: UInt16, fingerprint: (Int) -> Fingerprint
  ) {
    if number <= opened {
      heapPush(Entry(deadline_ms: deadline_ms, head: head, slot: slot), fingerprint)
    } else if number - opened < Int64(TimerQueue.ringSize) {
      append(slot, to: number)
    } else {
      far.append(Entry(deadline_ms: deadline_ms, head: head, slot: slot))
    }
  }

  @inline(__always)
  private mutating func append(_ slot: Int, to number: Int64) {
    let bucket = ring + Int(number & Int64(TimerQueue.ringSize - 1))
    let first = bucket.pointee
    let used = Int(first & 15)
    if first == 0 || used == TimerQueue.chunkSlots {
      bucket.pointee = beginChunk(first >> 4, slot)
    } else {
      chunks[Int(first >> 4) &* 16 &+ 1 &+ used] = UInt32(truncatingIfNeeded: slot)
      bucket.pointee = first &+ 1
    }
  }

  /// A chunk in front of another one, with its first slot, as `ring` has it.
  @inline(never)
  private mutating func beginChunk(_ next: UInt32, _ slot: Int) -> UInt32 {
    let chunk = takeChunk()
    chunks[Int(chunk) * 16] = next
    chunks[Int(chunk) * 16 + 1] = UInt32(slot)
    return chunk << 4 | 1
  }

  @inline(__always)
  private mutating func takeChunk() -> UInt32 {
    if freeChunk != 0 {
      let chunk = freeChunk
      freeChunk = chunks[Int(chunk) * 16]
      tieout_prefetch(chunks + Int(freeChunk) * 16)
      return chunk
    }
    precondition((usedChunks + 1) * 64 <= region.reservedBytes, "a task's timers have outgrown their address space")
    region.grow(to: (usedChunks + 1) * 64)
    usedChunks += 1
    return UInt32(usedChunks - 1)
  }

  /// What is due: everything before a watermark that is not beyond a bound.
  struct Due {
    /// As `Entry.order`: the first that is not, and the last that is.
    private let end: Int64
    private let last: Int64
    let watermark_ms: Int64

    init(before watermark_ms: Int64, upTo bound: ExpiryBound) {
      self.watermark_ms = watermark_ms
      end = max(Tie.firstTime_ms, min(Tie.noTimer_ms, watermark_ms)) << 16
      last =
        bound.deadline_ms < Tie.firstTime_ms
        ? .min : min(Tie.noTimer_ms, bound.deadline_ms) << 16 | Int64(min(bound.tag, 0xffff))
    }

    @inline(__always)
    func covers(_ order: Int64) -> Bool { order < end && order <= last }
  }

  /// The next entry that is due, or nil.
  /// - Parameters:
  ///   - ties: What the slots stand for.
  @inline(__always)
  mutating func pop(
    _ due: Due, ties: UnsafePointer<Tie>, fingerprint: (Int) -> Fingerprint
  ) -> Entry? {
    if cursor < runCount, heap.isEmpty {
      let next = run[cursor]
      guard due.covers(next.order) else { return nil }
      cursor &+= 1
      count &-= 1
      return next
    }
    return popBeyond(due, ties: ties, fingerprint: fingerprint)
  }

  @inline(never)
  private mutating func popBeyond(
    _ due: Due, ties: UnsafePointer<Tie>, fingerprint: (Int) -> Fingerprint
  ) -> Entry? {
    while true {
      if cursor < runCount {
        let next = run[cursor]
        if heap.isEmpty || !TimerQueue.precedes(heap[0], next, fingerprint) {
          guard due.covers(next.order) else { return nil }
          cursor += 1
          count -= 1
          return next
        }
      }
      if let next = heap.first {
        guard due.covers(next.order) else { return nil }
        heapPop(fingerprint)
        count -= 1
        return next
      }
      guard openNextBucket(before: due.watermark_ms, ties: ties, fingerprint: fingerprint) else {
        return nil
      }
    }
  }

  /// What was popped is not due yet: its tie's timer has moved back, and the entry moves on to it. Nothing, where the tie
  /// has no timer behind the entry's.
  @inline(never)
  mutating func again(_ entry: Entry, _ ties: UnsafePointer<Tie>, fingerprint: (Int) -> Fingerprint) {
    let tie = ties + Int(entry.slot)
    let timer_ms = tie.pointee.timer_ms
    guard tie.pointee.has(Tie.Flag.live), timer_ms > entry.deadline_ms, timer_ms != Tie.noTimer_ms else { return }
    push(deadline_ms: timer_ms, slot: Int(entry.slot), head: tie.pointee.head, fingerprint: fingerprint)
  }

  /// Whether what was popped last was the first of a bucket: nobody could look ahead to those behind it.
  var hasJustOpened: Bool { cursor == 1 }

  /// A slot that will be popped soon, so that the caller can bring its tie close; nil if none is known.
  @inline(__always)
  func upcoming(_ distance: Int) -> Int? {
    let index = cursor + distance
    return index < runCount ? Int(run[index].slot) : nil
  }

  /// Opens the next bucket that holds anything and may hold something due; false if there is none.
  private mutating func openNextBucket(
    before watermark_ms: Int64, ties: UnsafePointer<Tie>, fingerprint: (Int) -> Fingerprint
  ) -> Bool {
    guard count > 0 else { return false }
    var last = bucketNumber(min(watermark_ms, Tie.noTimer_ms))
    var steps = 0
    while opened < last {
      if passedBuckets >= TimerQueue.adaptEvery.buckets || readEntries >= TimerQueue.adaptEvery.entries,
        adapt(ties, fingerprint)
      {
        if !heap.isEmpty { return true }
        last = bucketNumber(min(watermark_ms, Tie.noTimer_ms))
        steps = 0
        continue
      }
      if steps > TimerQueue.ringSize {
        // A whole turn held nothing, and nothing came nearer: jump to where the far ones begin.
        guard let nearest = far.min(by: { $0.order < $1.order }) else {
          opened = last
          return false
        }
        opened = max(opened, min(last, bucketNumber(nearest.deadline_ms)) - 1)
        refillFromFar(ties, fingerprint)
        steps = 0
        if bucketNumber(nearest.deadline_ms) > last { return false }
        if !heap.isEmpty { return true }
      }
      opened += 1
      steps += 1
      passedBuckets += 1
      let index = Int(opened & Int64(TimerQueue.ringSize - 1))
      // What comes near now may lie up to a whole turn ahead; what belongs to this very bucket is in the heap then, beside
      // what the bucket holds already.
      if index == 0, refillFromFar(ties, fingerprint) { steps = 0 }
      if ring[index] != 0 {
        if open(index, ties, fingerprint) { return true }
        // What it held may have moved on into the turn ahead.
        steps = 0
      }
      if !heap.isEmpty { return true }
    }
    return false
  }

  /// Reads a bucket into `run`; false if nothing in it counts any more.
  private mutating func open(
    _ index: Int, _ ties: UnsafePointer<Tie>, _ fingerprint: (Int) -> Fingerprint
  ) -> Bool {
    prefetchNext(index)
    let (first, quantum_ms) = (opened << Int64(quantumBits), Int64(1) << Int64(quantumBits))
    let newest = ring[index] >> 4
    let usedOfNewest = Int(ring[index] & 15)
    ring[index] = 0
    // The newest chunk stands first: the list is turned round, since what was scheduled first is mostly due first.
    var chunk: UInt32 = 0
    var ahead = newest
    while ahead != 0 {
      let link = chunks + Int(ahead) &* 16
      (link.pointee, chunk, ahead) = (chunk, ahead, link.pointee)
    }
    runCount = 0
    cursor = 0
    var isSorted = true
    var latest = Int64.min
    while chunk != 0 {
      let base = chunks + Int(chunk) &* 16
      if runCount &+ TimerQueue.chunkSlots > runCapacity { growRun() }
      let used = chunk == newest ? usedOfNewest : TimerQueue.chunkSlots
      readEntries &+= used
      for place in 1...used {
        let slot = Int(base[place])
        let tie = ties + slot
        let timer_ms = tie.pointee.timer_ms
        // It has had its time, is forgotten, or is another tie's by now.
        guard timer_ms >= first, timer_ms != Tie.noTimer_ms, tie.pointee.has(Tie.Flag.live) else {
          count &-= 1
          continue
        }
        guard timer_ms &- first < quantum_ms else {
          put(
            bucketNumber(timer_ms), deadline_ms: timer_ms, slot: slot, head: tie.pointee.head, fingerprint: fingerprint)
          continue
        }
        let entry = Entry(deadline_ms: timer_ms, head: tie.pointee.head, slot: slot)
        isSorted = isSorted && entry.order > latest
        latest = entry.order
        (run + runCount).initialize(to: entry)
        runCount &+= 1
      }
      let next = base[0]
      base[0] = freeChunk
      freeChunk = chunk
      chunk = next
    }
    if !isSorted { sortRun(fingerprint) }
    return runCount > 0
  }

  /// Looks at how many entries the last buckets held, and makes quanta larger or smaller where that is called for.
  /// - Returns: whether it did.
  @inline(never)
  private mutating func adapt(_ ties: UnsafePointer<Tie>, _ fingerprint: (Int) -> Fingerprint) -> Bool {
    defer { (passedBuckets, readEntries) = (0, 0) }
    var bits = quantumBits
    if readEntries < TimerQueue.fewest * passedBuckets {
      var expected = max(1, readEntries)
      while bits < finestBits + TimerQueue.coarsestBits, expected < TimerQueue.wanted * passedBuckets {
        expected *= 2
        bits += 1
      }
    } else if readEntries > TimerQueue.most * passedBuckets {
      var expected = readEntries
      while bits > finestBits, expected > TimerQueue.wanted * passedBuckets * 3 / 2 {
        expected /= 2
        bits -= 1
      }
    }
    guard adapts, bits != quantumBits else { return false }
    setQuantum(bits, ties, fingerprint)
    return true
  }

  /// Deals the entries of all buckets out anew.
  private mutating func setQuantum(_ bits: Int, _ ties: UnsafePointer<Tie>, _ fingerprint: (Int) -> Fingerprint) {
    let old = ring
    let (oldBits, oldOpened) = (quantumBits, opened)
    ring = .allocate(capacity: TimerQueue.ringSize)
    ring.initialize(repeating: 0, count: TimerQueue.ringSize)
    // Everything before the end of the opened bucket has been read. Where that is no end of a larger one, the rest of
    // that belongs into the heap.
    opened = ((oldOpened + 1) << Int64(oldBits) - 1) >> Int64(bits)
    quantumBits = bits
    for distance in 1..<Int64(TimerQueue.ringSize) {
      let number = oldOpened + distance
      let first = old[Int(number & Int64(TimerQueue.ringSize - 1))]
      var chunk = first >> 4
      var used = Int(first & 15)
      while chunk != 0 {
        let base = chunks + Int(chunk) * 16
        let next = base[0]
        tieout_prefetch(chunks + Int(next) * 16)
        for place in 1...used { tieout_prefetch(ties + Int(base[place])) }
        for place in 1...used {
          let slot = Int(base[place])
          let tie = ties + slot
          let timer_ms = tie.pointee.timer_ms
          guard tie.pointee.has(Tie.Flag.live), timer_ms >> Int64(oldBits) >= number, timer_ms != Tie.noTimer_ms else {
            count -= 1
            continue
          }
          put(
            bucketNumber(timer_ms), deadline_ms: timer_ms, slot: slot, head: tie.pointee.head, fingerprint: fingerprint)
        }
        base[0] = freeChunk
        freeChunk = chunk
        chunk = next
        used = TimerQueue.chunkSlots
      }
    }
    old.deallocate()
    nextChunk = 0
    refillFromFar(ties, fingerprint)
  }

  @inline(never)
  private mutating func growRun() {
    let larger = UnsafeMutablePointer<Entry>.allocate(capacity: runCapacity * 2)
    larger.update(from: run, count: runCount)
    run.deallocate()
    run = larger
    runCapacity *= 2
    spare.deallocate()
    spare = .allocate(capacity: runCapacity)
  }

  private mutating func sortRun(_ fingerprint: (Int) -> Fingerprint) {
    if runCount <= TimerQueue.spreadTo {
      if runCount >= TimerQueue.spreadFrom { spreadRun() }
      // Entries come, or have been spread, in about the order in which they are due.
      for at in 1..<runCount {
        let entry = run[at]
        var place = at
        while place > 0, entry.order < run[place &- 1].order {
          run[place] = run[place &- 1]
          place &-= 1
        }
        run[place] = entry
      }
    } else {
      var all = UnsafeMutableBufferPointer(start: run, count: runCount)
      all.sort { $0.order < $1.order }
    }
    var start = 0
    while start < runCount {
      var end = start + 1
      while end < runCount, run[end].order == run[start].order { end += 1 }
      if end - start > 1 {
        var equals = UnsafeMutableBufferPointer(start: run + start, count: end - start)
        equals.sort { TimerQueue.precedes($0, $1, fingerprint) }
      }
      start = end
    }
  }

  /// Puts the entries of the opened bucket into the order of the 64 parts of its time.
  private mutating func spreadRun() {
    let first = (opened << Int64(quantumBits)) << 16
    let shift = Int64(16 + max(0, quantumBits - TimerQueue.shareBits))
    shares.initialize(repeating: 0, count: 1 << TimerQueue.shareBits)
    for at in 0..<runCount { shares[Int((run[at].order &- first) &>> shift)] &+= 1 }
    var place: UInt32 = 0
    for share in 0..<1 << TimerQueue.shareBits {
      let count = shares[share]
      shares[share] = place
      place &+= count
    }
    for at in 0..<runCount {
      let entry = run[at]
      let share = Int((entry.order &- first) &>> shift)
      (spare + Int(shares[share])).initialize(to: entry)
      shares[share] &+= 1
    }
    swap(&run, &spare)
  }

  /// Brings close the lists of the third to the tenth bucket from here, one chunk further in each with every bucket, since a
  /// chunk says where the next one is. The ties of the next bucket follow with those of this one, by `lookAhead`: all of
  /// them at once would be more than memory can be asked for at a time.
  @inline(__always)
  private mutating func prefetchNext(_ index: Int) {
    let mask = TimerQueue.ringSize - 1
    var distance = 10
    var chunk = ring[(index &+ distance) & mask] >> 4
    while true {
      walked[(index &+ distance) & (TimerQueue.walkedCount - 1)] = chunk
      if chunk != 0 { tieout_prefetch(chunks + Int(chunk) &* 16) }
      distance &-= 1
      if distance < 3 { break }
      let before = walked[(index &+ distance) & (TimerQueue.walkedCount - 1)]
      chunk = before == 0 ? 0 : chunks[Int(before) &* 16]
    }
    nextChunk = 0
    for distance in 1...TimerQueue.lookedAt {
      let first = ring[(index &+ distance) & mask]
      guard first != 0 else { continue }
      (nextChunk, nextPlace) = (Int(first >> 4), Int(first & 15))
      break
    }
  }

  /// Brings two ties of the next bucket a step closer; called for each that is popped.
  /// - Parameter bring: Brings close what belongs to a slot that will be popped soon, or may be.
  @inline(__always)
  mutating func lookAhead(_ ties: UnsafePointer<Tie>, bring: (Int) -> Void) {
    for _ in 0..<2 {
      guard nextChunk != 0 else { return }
      let slot = chunks[nextChunk &* 16 &+ nextPlace]
      tieout_prefetch(ties + Int(slot))
      nextPlace &-= 1
      if nextPlace == 0 { (nextChunk, nextPlace) = (Int(chunks[nextChunk &* 16]), TimerQueue.chunkSlots) }
      let earlier = asked[askedCount & TimerQueue.askedMask]
      asked[askedCount & TimerQueue.askedMask] = slot
      askedCount &+= 1
      bring(Int(earlier))
    }
  }

  /// Moves the far entries that a turn of the calendar reaches; whether there were any.
  @discardableResult
  private mutating func refillFromFar(_ ties: UnsafePointer<Tie>, _ fingerprint: (Int) -> Fingerprint) -> Bool {
    guard !far.isEmpty else { return false }
    let before = far.count
    var kept: [Entry] = []
    for entry in far {
      let slot = Int(entry.slot)
      let timer_ms = ties[slot].timer_ms
      guard ties[slot].has(Tie.Flag.live), timer_ms >= entry.deadline_ms, timer_ms != Tie.noTimer_ms else {
        count -= 1
        continue
      }
      let entry = Entry(deadline_ms: timer_ms, head: ties[slot].head, slot: slot)
      let number = bucketNumber(timer_ms)
      if number <= opened {
        heapPush(entry, fingerprint)
      } else if number - opened < Int64(TimerQueue.ringSize) {
        append(slot, to: number)
      } else {
        kept.append(entry)
      }
    }
    far = kept
    return far.count < before
  }

  private mutating func heapPush(_ entry: Entry, _ fingerprint: (Int) -> Fingerprint) {
    heap.append(entry)
    var child = heap.count - 1
    while child > 0 {
      let parent = (child - 1) / 2
      guard TimerQueue.precedes(heap[child], heap[parent], fingerprint) else { return }
      heap.swapAt(child, parent)
      child = parent
    }
  }

  private mutating func heapPop(_ fingerprint: (Int) -> Fingerprint) {
    let last = heap.removeLast()
    guard !heap.isEmpty else { return }
    heap[0] = last
    var parent = 0
    while true {
      var least = parent
      for child in (2 * parent + 1)...(2 * parent + 2)
      where child < heap.count && TimerQueue.precedes(heap[child], heap[least], fingerprint) {
        least = child
      }
      guard least != parent else { return }
      heap.swapAt(parent, least)
      parent = least
    }
  }
}

/// How far a paced expiry came: everything due at or before this deadline, and with this deadline up to this tag (the
/// first 16 bits of the fingerprint), has been judged. A property of the ties, not of how they are stored, so that a
/// replay stops at the same place.
public struct ExpiryBound: Sendable, Equatable {
  public var deadline_ms: Int64
  public var tag: UInt32

  public init(deadline_ms: Int64, tag: UInt32) {
    self.deadline_ms = deadline_ms
    self.tag = tag
  }

  /// Everything that is due.
  public static let none = ExpiryBound(deadline_ms: .max, tag: .max)

  /// Everything up to what was popped, as `TimerQueue.Entry.order`.
  init(_ order: Int64) { self.init(deadline_ms: order >> 16, tag: UInt32(order & 0xffff)) }
}
