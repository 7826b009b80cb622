import CShims
import Domain

/// Finds the slot of a tie by the fingerprint of its key: open addressing with linear probing over 8-byte entries,
/// eight to a cache line.
///
/// An entry is 36 tag bits above 28 slot bits; 0 is empty (slot 0 is never used). The home position of an entry is the
/// top bits of its tag, so deletion by backward shift and growth never touch the ties themselves.
struct TieIndex: ~Copyable {
  static let slotBits: UInt64 = 28
  static let slotMask: UInt64 = (1 << 28) - 1
  /// 268 million ties in one task: above what 32 GiB of state can hold.
  static let maximumSlots = 1 << 28

  private var entries: UnsafeMutablePointer<UInt64>
  private var bits: UInt64
  private(set) var count = 0

  init(bits: UInt64 = 10) {
    self.bits = bits
    entries = .allocate(capacity: 1 << Int(bits))
    entries.initialize(repeating: 0, count: 1 << Int(bits))
  }

  deinit { entries.deallocate() }

  var capacity: Int { 1 << Int(bits) }
  var footprintBytes: Int { capacity * 8 }

  @inline(__always)
  private func home(_ entry: UInt64) -> Int { Int(entry >> (64 - bits)) }

  @inline(__always)
  func prefetch(_ fingerprint: Fingerprint) { tieout_prefetch(entries + home(fingerprint.high)) }

  /// The first slot whose tag agrees; the caller compares fingerprint and key, and goes on with `next` on a mismatch.
  @inline(__always)
  func find(_ fingerprint: Fingerprint, where matches: (Int) -> Bool) -> Int? {
    let tag = fingerprint.high >> TieIndex.slotBits
    let mask = capacity - 1
    var position = home(fingerprint.high)
    while true {
      let entry = entries[position]
      if entry == 0 { return nil }
      if entry >> TieIndex.slotBits == tag {
        let slot = Int(entry & TieIndex.slotMask)
        if matches(slot) { return slot }
      }
      position = (position + 1) & mask
    }
  }

  /// Adds a slot whose key is not in the index yet.
  mutating func insert(_ fingerprint: Fingerprint, slot: Int) {
    if (count + 1) * 10 > capacity * 7 { grow() }
    place(fingerprint.high & ~TieIndex.slotMask | UInt64(slot))
    count += 1
  }

  private func place(_ entry: UInt64) {
    let mask = capacity - 1
    var position = home(entry)
    while entries[position] != 0 { position = (position + 1) & mask }
    entries[position] = entry
  }

  mutating func remove(_ fingerprint: Fingerprint, slot: Int) {
    let mask = capacity - 1
    let entry = fingerprint.high & ~TieIndex.slotMask | UInt64(slot)
    var position = home(entry)
    while entries[position] != entry {
      precondition(entries[position] != 0, "removing a tie that the index does not hold")
      position = (position + 1) & mask
    }
    // Backward shift: every entry behind the hole moves up unless it would pass its home.
    var hole = position
    var probe = (hole + 1) & mask
    while entries[probe] != 0 {
      let distance = (probe - home(entries[probe])) & mask
      if distance >= (probe - hole) & mask {
        entries[hole] = entries[probe]
        hole = probe
      }
      probe = (probe + 1) & mask
    }
    entries[hole] = 0
    count -= 1
  }

  /// Calls `body` with every entry whose first `bits` bits are `head`.
  func forEachEntry(headOf head: Int, bits wanted: Int, _ body: (UInt64) -> Void) {
    func belongs(_ entry: UInt64) -> Bool { entry != 0 && (wanted == 0 || entry >> UInt64(64 - wanted) == head) }
    guard wanted <= Int(bits) else {
      for position in 0..<capacity where belongs(entries[position]) { body(entries[position]) }
      return
    }
    let width = capacity >> wanted
    var position = head * width
    for _ in 0..<width {
      if belongs(entries[position]) { body(entries[position]) }
      position += 1
    }
    // What did not find room goes on behind, up to the first gap; it may be pushed round the end.
    for _ in 0..<capacity - width {
      let entry = entries[position & (capacity - 1)]
      if entry == 0 { break }
      if belongs(entry) { body(entry) }
      position += 1
    }
  }

  /// Makes room for as many entries. Without it, taking many in by the order of their fingerprints would pile them up
  /// in one corner of a small table, again after every growth.
  mutating func reserve(_ entries: Int) {
    while entries * 10 > capacity * 7 { grow() }
  }

  private mutating func grow() {
    let old = entries
    let oldCapacity = capacity
    bits += 1
    entries = .allocate(capacity: capacity)
    entries.initialize(repeating: 0, count: capacity)
    tieout_advise_huge(entries, UInt64(footprintBytes))
    for position in 0..<oldCapacity where old[position] != 0 { place(old[position]) }
    old.deallocate()
  }
}
