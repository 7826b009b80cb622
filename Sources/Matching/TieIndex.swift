import CShims
import Domain

/// Finds the slot of a tie by the fingerprint of its key: lines of eight 8-byte entries, a cache line each.
///
/// An entry is 36 tag bits above 28 slot bits; 0 is free (slot 0 is never used). The home line of an entry grows with its
/// tag, whatever the capacity is, so removal and growth never touch the ties themselves, and a stretch of fingerprints is a
/// stretch of the index. The entries of a line stand together at its beginning. An entry whose home is full stands in the
/// first line behind it that has room: all lines between the two are full. So a search reads one line as a rule, all eight
/// entries at once, without a branch that depends on where in the line they stand. It is five eighths full at the most:
/// then one line in eight is full.
struct TieIndex: ~Copyable {
  static let slotBits: UInt64 = 28
  static let slotMask: UInt64 = (1 << 28) - 1
  /// 167 million ties in one task, five eighths of the largest table: above what 32 GiB of state can hold.
  static let maximumSlots = 5 << 25
  private static let tagBits: UInt64 = 36
  private static let lineEntries = 8

  private var region: Region
  private var entries: UnsafeMutablePointer<UInt64>
  private var lineCount: Int
  private(set) var count = 0

  init(capacity: Int = 1_024) {
    lineCount = max(capacity / TieIndex.lineEntries, 2)
    region = Region(reserving: lineCount * TieIndex.lineEntries * 8)
    region.fill(lineCount * TieIndex.lineEntries * 8)
    entries = region.base.assumingMemoryBound(to: UInt64.self)
  }

  /// So many entries have a place.
  private var capacity: Int { lineCount &* TieIndex.lineEntries }

  var footprintBytes: Int { capacity * 8 }

  /// The tag's share of the whole range, of the lines: 36 + 25 bits at the most.
  @inline(__always)
  private func home(_ entry: UInt64) -> Int {
    Int(((entry >> TieIndex.slotBits) &* UInt64(lineCount)) >> TieIndex.tagBits)
  }

  @inline(__always)
  private func next(_ line: Int) -> Int { line + 1 == lineCount ? 0 : line + 1 }

  @inline(__always)
  private func first(of line: Int) -> UnsafeMutablePointer<UInt64> { entries + line &* TieIndex.lineEntries }

  /// The entries of a line whose tags begin as this entry's does, and those that are free, a bit each.
  @inline(__always)
  private func look(_ line: Int, for entry: UInt64) -> (alike: UInt32, free: UInt32) {
    let found = tieout_index_line(first(of: line), UInt32(truncatingIfNeeded: entry >> 32))
    return (found & 0xff, found >> 8)
  }

  /// How many entries a line has: its free places are behind them.
  @inline(__always)
  private func filled(_ line: Int) -> Int {
    let free = tieout_index_line(first(of: line), 0) >> 8
    return free == 0 ? TieIndex.lineEntries : free.trailingZeroBitCount
  }

  /// Brings the home of a fingerprint close.
  @inline(__always)
  func prefetch(_ fingerprint: Fingerprint) { tieout_prefetch(first(of: home(fingerprint.high))) }

  /// Where entries stand, for those who know no more of a fingerprint than its first bits.
  struct Near {
    fileprivate let entries: UnsafeMutablePointer<UInt64>
    fileprivate let lineCount: Int

    /// In a table of more than half a million entries the first bits of a fingerprint do not say exactly enough where its
    /// place is.
    @inline(__always) var isExact: Bool { lineCount <= 1 << 16 }

    /// Brings the place of a fingerprint close, where that is known.
    @inline(__always)
    func prefetch(_ head: UInt16) {
      guard isExact else { return }
      let place = entries + ((Int(head) &* lineCount) >> 16) &* TieIndex.lineEntries
      tieout_prefetch(place)
      tieout_prefetch(place + TieIndex.lineEntries)
    }
  }

  var near: Near { Near(entries: entries, lineCount: lineCount) }

  /// The first slot whose tag agrees and that the caller takes for the one meant; 0 if there is none.
  @inline(__always)
  func find(_ fingerprint: Fingerprint, where matches: (Int) -> Bool) -> Int {
    var place = 0
    return find(fingerprint, place: &place, where: matches)
  }

  /// As `find`, and where there is none the place at which `insert(_:slot:at:)` puts one, until the index next changes.
  @inline(__always)
  func find(_ fingerprint: Fingerprint, place: inout Int, where matches: (Int) -> Bool) -> Int {
    var line = home(fingerprint.high)
    while true {
      var (alike, free) = look(line, for: fingerprint.high)
      while alike != 0 {
        let entry = first(of: line)[alike.trailingZeroBitCount]
        if entry >> TieIndex.slotBits == fingerprint.high >> TieIndex.slotBits {
          let slot = Int(entry & TieIndex.slotMask)
          if matches(slot) { return slot }
        }
        alike &= alike &- 1
      }
      if free != 0 {
        place = line &* TieIndex.lineEntries &+ free.trailingZeroBitCount
        return 0
      }
      line = next(line)
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
    grow(to: lineCount + lineCount / 2)
    return true
  }

  /// Adds a slot whose key is not in the index yet.
  mutating func insert(_ fingerprint: Fingerprint, slot: Int) {
    if (count + 1) * 8 > capacity * 5 { grow(to: lineCount + lineCount / 2) }
    place(fingerprint.high & ~TieIndex.slotMask | UInt64(slot))
    count += 1
  }

  @inline(__always)
  private func place(_ entry: UInt64) {
    var line = home(entry)
    var filled = filled(line)
    while filled == TieIndex.lineEntries {
      line = next(line)
      filled = self.filled(line)
    }
    first(of: line)[filled] = entry
  }

  mutating func remove(_ fingerprint: Fingerprint, slot: Int) {
    let entry = fingerprint.high & ~TieIndex.slotMask | UInt64(slot)
    var line = home(entry)
    var hole = -1
    var filled = TieIndex.lineEntries
    while true {
      let (alike, free) = look(line, for: entry)
      var rest = alike
      while rest != 0 {
        if first(of: line)[rest.trailingZeroBitCount] == entry { hole = rest.trailingZeroBitCount }
        rest &= rest &- 1
      }
      if free != 0 { filled = free.trailingZeroBitCount }
      if hole >= 0 { break }
      precondition(free == 0, "removing a tie that the index does not hold")
      line = next(line)
    }
    // The last of the line takes the place of what leaves.
    let all = first(of: line)
    all[hole] = all[filled &- 1]
    all[filled &- 1] = 0
    count &-= 1
    if filled == TieIndex.lineEntries { pullBack(into: line) }
  }

  /// A line that was full has room for one now: what has passed over it for want of that comes back.
  @inline(never)
  private func pullBack(into start: Int) {
    func distance(_ from: Int, _ to: Int) -> Int { to >= from ? to - from : to - from + lineCount }
    var line = start
    var other = next(line)
    while other != line {
      let filled = filled(other)
      for at in 0..<filled {
        let entry = first(of: other)[at]
        guard distance(home(entry), other) >= distance(line, other) else { continue }
        first(of: line)[TieIndex.lineEntries - 1] = entry
        first(of: other)[at] = first(of: other)[filled - 1]
        first(of: other)[filled - 1] = 0
        line = other
        break
      }
      // Over a line that has room nothing passes, nor over one that had room for this.
      if filled < TieIndex.lineEntries { return }
      other = next(other)
    }
  }

  /// Calls `body` with every entry whose first `bits` bits are `head`.
  func forEachEntry(headOf head: Int, bits wanted: Int, _ body: (UInt64) -> Void) {
    func belongs(_ entry: UInt64) -> Bool { entry != 0 && (wanted == 0 || entry >> UInt64(64 - wanted) == head) }
    guard wanted > 0 else {
      for position in 0..<capacity where belongs(entries[position]) { body(entries[position]) }
      return
    }
    let last = UInt64(head) << UInt64(64 - wanted) | ((1 << UInt64(64 - wanted)) - 1)
    var line = home(UInt64(head) << UInt64(64 - wanted))
    var left = home(last) - line
    // What did not find room goes on behind, up to the first line with room; it may be pushed round the end.
    for _ in 0..<lineCount {
      let filled = filled(line)
      for at in 0..<filled where belongs(first(of: line)[at]) { body(first(of: line)[at]) }
      if left <= 0, filled < TieIndex.lineEntries { break }
      line = next(line)
      left -= 1
    }
  }

  /// The most lines that stand together without room; reads the whole table.
  var longestRun: Int {
    var longest = 0
    var run = 0
    for line in 0..<lineCount {
      run = filled(line) < TieIndex.lineEntries ? 0 : run + 1
      longest = max(longest, run)
    }
    return longest
  }

  /// Makes room for as many entries. Without it, taking many in by the order of their fingerprints would pile them up
  /// in one corner of a small table, again after every growth.
  mutating func reserve(_ entries: Int) {
    if entries * 8 > capacity * 5 { grow(to: (entries * 7 / 4 + TieIndex.lineEntries - 1) / TieIndex.lineEntries) }
  }

  @inline(never)
  private mutating func grow(to larger: Int) {
    let oldCapacity = capacity
    lineCount = larger
    var old = Region(reserving: capacity * 8)
    precondition(old.reservedBytes >= capacity * 8, "no address space for an index of \(capacity) entries")
    old.fill(capacity * 8)
    swap(&old, &region)
    let before = old.base.assumingMemoryBound(to: UInt64.self)
    entries = region.base.assumingMemoryBound(to: UInt64.self)
    for position in 0..<oldCapacity where before[position] != 0 { place(before[position]) }
  }
}
