import CShims
import Domain

/// Finds the slot of a tie by the fingerprint of its key: open addressing with linear probing over 8-byte entries,
/// eight to a cache line.
///
/// An entry is 36 tag bits above 28 slot bits; 0 is empty (slot 0 is never used). The home position of an entry grows
/// with its tag, whatever the capacity is, so deletion by backward shift and growth never touch the ties themselves,
/// and a stretch of fingerprints is a stretch of the index. It is five eighths full at the most: beyond that the runs
/// without a gap grow long, and every search for a new key and every removal reads one to its end.
struct TieIndex: ~Copyable {
  static let slotBits: UInt64 = 28
  static let slotMask: UInt64 = (1 << 28) - 1
  /// 167 million ties in one task, five eighths of the largest table: above what 32 GiB of state can hold.
  static let maximumSlots = 5 << 25
  private static let tagBits: UInt64 = 36

  private var region: Region
  private var entries: UnsafeMutablePointer<UInt64>
  private(set) var capacity: Int
  private(set) var count = 0

  init(capacity: Int = 1_024) {
    self.capacity = max(capacity, 16)
    region = Region(reserving: self.capacity * 8)
    region.fill(self.capacity * 8)
    entries = region.base.assumingMemoryBound(to: UInt64.self)
  }

  var footprintBytes: Int { capacity * 8 }

  /// The tag's share of the whole range, of the capacity: 36 + 28 bits at the most.
  @inline(__always)
  private func home(_ entry: UInt64) -> Int {
    Int(((entry >> TieIndex.slotBits) &* UInt64(capacity)) >> TieIndex.tagBits)
  }

  @inline(__always)
  private func next(_ position: Int) -> Int { position + 1 == capacity ? 0 : position + 1 }

  /// Brings the home of a fingerprint close, and what a search that goes on from there reads next.
  @inline(__always)
  func prefetch(_ fingerprint: Fingerprint) {
    let place = entries + home(fingerprint.high)
    tieout_prefetch(place)
    tieout_prefetch(place + 4)
  }

  /// Where entries stand, for those who know no more of a fingerprint than its first bits.
  struct Near {
    fileprivate let entries: UnsafeMutablePointer<UInt64>
    fileprivate let capacity: Int

    /// In a table of more than half a million entries the first bits of a fingerprint do not say exactly enough where its
    /// place is.
    @inline(__always) var isExact: Bool { capacity <= 1 << 19 }

    /// Brings the place of a fingerprint close, where that is known.
    @inline(__always)
    func prefetch(_ head: UInt16) {
      guard isExact else { return }
      let place = entries + (Int(head) &* capacity) >> 16
      tieout_prefetch(place)
      tieout_prefetch(place + 8)
    }
  }

  var near: Near { Near(entries: entries, capacity: capacity) }

  /// The first slot whose tag agrees and that the caller takes for the one meant; 0 if there is none.
  @inline(__always)
  func find(_ fingerprint: Fingerprint, where matches: (Int) -> Bool) -> Int {
    let tag = fingerprint.high >> TieIndex.slotBits
    var position = home(fingerprint.high)
    while true {
      let entry = entries[position]
      if entry == 0 { return 0 }
      if entry >> TieIndex.slotBits == tag {
        let slot = Int(entry & TieIndex.slotMask)
        if matches(slot) { return slot }
      }
      position = next(position)
    }
  }

  /// As `find`, and where there is none the place at which `insert(_:slot:at:)` puts one, until the index next changes.
  @inline(__always)
  func find(_ fingerprint: Fingerprint, place: inout Int, where matches: (Int) -> Bool) -> Int {
    let tag = fingerprint.high >> TieIndex.slotBits
    var position = home(fingerprint.high)
    while true {
      let entry = entries[position]
      if entry == 0 {
        place = position
        return 0
      }
      if entry >> TieIndex.slotBits == tag {
        let slot = Int(entry & TieIndex.slotMask)
        if matches(slot) { return slot }
      }
      position = next(position)
    }
  }

  /// Whether a place that `find` has told is still free: then nothing has been added that this search would find. After
  /// `makeRoom`, and while nothing is removed.
  @inline(__always)
  func isFree(_ place: Int) -> Bool { entries[place] == 0 }

  /// Adds a slot at the place that `find` has told, after `makeRoom`.
  @inline(__always)
  mutating func insert(_ fingerprint: Fingerprint, slot: Int, at place: Int) {
    entries[place] = fingerprint.high & ~TieIndex.slotMask | UInt64(slot)
    count &+= 1
  }

  /// As many can be added now without growing.
  /// - Returns: whether it has grown: then places that have been told are others.
  @inline(__always)
  mutating func makeRoom(for more: Int) -> Bool {
    guard (count &+ more) &* 8 > capacity &* 5 else { return false }
    grow(to: capacity + capacity / 2)
    return true
  }

  /// Adds a slot whose key is not in the index yet.
  mutating func insert(_ fingerprint: Fingerprint, slot: Int) {
    if (count + 1) * 8 > capacity * 5 { grow(to: capacity + capacity / 2) }
    place(fingerprint.high & ~TieIndex.slotMask | UInt64(slot))
    count += 1
  }

  @inline(__always)
  private func place(_ entry: UInt64) {
    var position = home(entry)
    while entries[position] != 0 { position = next(position) }
    entries[position] = entry
  }

  mutating func remove(_ fingerprint: Fingerprint, slot: Int) {
    let entry = fingerprint.high & ~TieIndex.slotMask | UInt64(slot)
    var position = home(entry)
    while entries[position] != entry {
      precondition(entries[position] != 0, "removing a tie that the index does not hold")
      position = next(position)
    }
    // Backward shift: every entry behind the hole moves up unless it would pass its home.
    func distance(_ from: Int, _ to: Int) -> Int { to >= from ? to - from : to - from + capacity }
    var hole = position
    var probe = next(hole)
    while entries[probe] != 0 {
      if distance(home(entries[probe]), probe) >= distance(hole, probe) {
        entries[hole] = entries[probe]
        hole = probe
      }
      probe = next(probe)
    }
    entries[hole] = 0
    count -= 1
  }

  /// Calls `body` with every entry whose first `bits` bits are `head`.
  func forEachEntry(headOf head: Int, bits wanted: Int, _ body: (UInt64) -> Void) {
    func belongs(_ entry: UInt64) -> Bool { entry != 0 && (wanted == 0 || entry >> UInt64(64 - wanted) == head) }
    guard wanted > 0 else {
      for position in 0..<capacity where belongs(entries[position]) { body(entries[position]) }
      return
    }
    let last = UInt64(head) << UInt64(64 - wanted) | ((1 << UInt64(64 - wanted)) - 1)
    var position = home(UInt64(head) << UInt64(64 - wanted))
    var left = home(last) - position + 1
    // What did not find room goes on behind, up to the first gap; it may be pushed round the end.
    for _ in 0..<capacity {
      let entry = entries[position]
      if left <= 0, entry == 0 { break }
      if belongs(entry) { body(entry) }
      position = next(position)
      left -= 1
    }
  }

  /// The most entries that stand together without a gap; reads the whole table.
  var longestRun: Int {
    var longest = 0
    var run = 0
    for position in 0..<capacity {
      run = entries[position] == 0 ? 0 : run + 1
      longest = max(longest, run)
    }
    return longest
  }

  /// Makes room for as many entries. Without it, taking many in by the order of their fingerprints would pile them up
  /// in one corner of a small table, again after every growth.
  mutating func reserve(_ entries: Int) {
    if entries * 8 > capacity * 5 { grow(to: entries * 7 / 4) }
  }

  @inline(never)
  private mutating func grow(to larger: Int) {
    let oldCapacity = capacity
    capacity = larger
    var old = Region(reserving: larger * 8)
    precondition(old.reservedBytes >= larger * 8, "no address space for an index of \(larger) entries")
    old.fill(larger * 8)
    swap(&old, &region)
    let before = old.base.assumingMemoryBound(to: UInt64.self)
    entries = region.base.assumingMemoryBound(to: UInt64.self)
    for position in 0..<oldCapacity where before[position] != 0 { place(before[position]) }
  }
}
