import CShims
import Domain

/// Finds the slot of a tie by the fingerprint of its key: lines of twelve entries, a cache line each.
///
/// An entry is 28 slot bits and 12 tag bits of the fingerprint's low half. Its line is told by the first bytes of the high
/// half, the first byte lowest: so a stretch of fingerprints (`forEachSlot`) is every so-manieth line. The table grows
/// where it stands by one line at a time, as ties come (linear hashing): the line whose turn it is shares its entries with
/// the new one. No pause grows with the state, nothing is copied, and a tie takes the same few bytes whatever their number.
/// What finds no room in its line stands in further lines that are chained to it, so a search reads one line as a rule,
/// the tags of all its entries at once, without a branch that depends on where in the line they stand.
///
///     line     slot and tag: UInt32 × 12 (slot 28, further bits of the tag 4), first bits of the tag: UInt8 × 12,
///              UInt32: number of the line that is chained to it (28), entries (4); these stand at the beginning
struct TieIndex: ~Copyable {
  /// 167 million ties in one task: above what 32 GiB of state can hold.
  static let maximumSlots = 5 << 25
  private static let slotMask: UInt32 = (1 << 28) - 1
  private static let lineEntries = 12
  private static let lineBytes = 64
  private static let tagOffset = 48
  private static let endOffset = 60
  /// Entries a line, in halves, at the most, over all lines. Lines that have not been divided yet hold more, those that
  /// have been less.
  private static let mostHalves = 13
  private static let leastLines = 16

  private typealias Line = UnsafeMutableRawPointer

  private var region: Region
  private let lines: UnsafeMutableRawPointer
  private var lineCount = TieIndex.leastLines
  /// 2ⁿ − 1, the least that is not below `lineCount` − 1.
  private var mask: UInt64 = UInt64(TieIndex.leastLines) - 1
  private(set) var count = 0

  /// Lines that are chained to others, from number 1 on.
  private var further: Region
  private var furtherUsed = 1
  private var furtherFree: UInt32 = 0
  private var furtherCount = 0
  /// What a line holds that is being divided.
  private var moving: UnsafeMutablePointer<Moving>
  private var movingCapacity = 64

  private struct Moving {
    var entry: UInt32
    var tag: UInt8
  }

  init() {
    region = Region(reserving: TieIndex.maximumSlots * 2 / TieIndex.mostHalves * TieIndex.lineBytes)
    lines = region.base
    further = Region(reserving: TieIndex.maximumSlots / TieIndex.lineEntries * TieIndex.lineBytes)
    moving = .allocate(capacity: movingCapacity)
  }

  deinit { moving.deallocate() }

  var footprintBytes: Int { (lineCount + furtherCount) * TieIndex.lineBytes }

  // MARK: - Lines

  /// The first bytes of a fingerprint, the first one lowest.
  @inline(__always)
  private static func address(_ high: UInt64) -> UInt64 { high.byteSwapped }

  /// Number of the line of a fingerprint.
  @inline(__always)
  private static func number(_ address: UInt64, _ mask: UInt64, _ lineCount: Int) -> Int {
    let wide = Int(truncatingIfNeeded: address & mask)
    return wide < lineCount ? wide : wide & Int(truncatingIfNeeded: mask &>> 1)
  }

  @inline(__always)
  private func home(_ fingerprint: Fingerprint) -> Line {
    lines + TieIndex.number(TieIndex.address(fingerprint.high), mask, lineCount) &* TieIndex.lineBytes
  }

  @inline(__always)
  private static func end(_ line: Line) -> UInt32 { line.load(fromByteOffset: endOffset, as: UInt32.self) }

  @inline(__always)
  private static func setEnd(_ line: Line, _ end: UInt32) {
    line.storeBytes(of: end, toByteOffset: endOffset, as: UInt32.self)
  }

  @inline(__always)
  private static func filled(_ end: UInt32) -> Int { Int(end & 15) }

  /// The line that is chained to the one with this end.
  @inline(__always)
  private func next(_ end: UInt32) -> Line? { end >> 4 == 0 ? nil : further.base + Int(end >> 4) &* TieIndex.lineBytes }

  @inline(__always)
  private static func entry(_ line: Line, _ at: Int) -> UInt32 {
    line.load(fromByteOffset: at &* 4, as: UInt32.self)
  }

  @inline(__always)
  private static func tag(_ line: Line, _ at: Int) -> UInt8 {
    line.load(fromByteOffset: tagOffset &+ at, as: UInt8.self)
  }

  @inline(__always)
  private static func write(_ entry: UInt32, _ tag: UInt8, _ line: Line, _ at: Int) {
    line.storeBytes(of: entry, toByteOffset: at &* 4, as: UInt32.self)
    line.storeBytes(of: tag, toByteOffset: tagOffset &+ at, as: UInt8.self)
  }

  @inline(__always)
  private static func tag(_ fingerprint: Fingerprint) -> UInt8 { UInt8(truncatingIfNeeded: fingerprint.low) }

  /// The further bits of a tag, where they stand in an entry.
  @inline(__always)
  private static func rest(_ fingerprint: Fingerprint) -> UInt32 {
    (UInt32(truncatingIfNeeded: fingerprint.low &>> 8) & 15) &<< 28
  }

  /// The entries of a line whose tags begin as this one's does, a bit each.
  @inline(__always)
  private static func alike(_ line: Line, _ end: UInt32, _ tag: UInt8) -> UInt32 {
    tieout_index_tags(line + tagOffset, tag) & ((1 &<< (end & 15)) &- 1)
  }

  // MARK: - Looking up

  /// Brings the line of a fingerprint close.
  @inline(__always)
  func prefetch(_ fingerprint: Fingerprint) { tieout_prefetch(home(fingerprint)) }

  /// Where entries stand, for those who know no more of a fingerprint than its first bits.
  struct Near {
    fileprivate let lines: UnsafeMutableRawPointer
    fileprivate let lineCount: Int
    fileprivate let mask: UInt64

    /// With more than 65,536 lines the first bits of a fingerprint do not say exactly enough which one it is.
    @inline(__always) var isExact: Bool { lineCount <= 1 << 16 }

    /// Brings the line of a fingerprint close, where that is known.
    @inline(__always)
    func prefetch(_ head: UInt16) {
      guard isExact else { return }
      let number = TieIndex.number(UInt64(head.byteSwapped), mask, lineCount)
      tieout_prefetch(lines + number &* TieIndex.lineBytes)
    }
  }

  var near: Near { Near(lines: lines, lineCount: lineCount, mask: mask) }

  /// Where `find` has ended without success: the last line of a chain, and how many entries that has.
  struct Place {
    fileprivate let bits: UInt

    @inline(__always)
    fileprivate init(_ line: UnsafeMutableRawPointer, _ filled: UInt32) { bits = UInt(bitPattern: line) | UInt(filled) }
    @inline(__always)
    fileprivate var line: UnsafeMutableRawPointer {
      UnsafeMutableRawPointer(bitPattern: bits & ~15).unsafelyUnwrapped
    }
    @inline(__always)
    fileprivate var end: UInt32 { UInt32(truncatingIfNeeded: bits & 15) }
  }
  var nowhere: Place { Place(lines, 0) }

  /// The first slot whose tag agrees and that the caller takes for the one meant; 0 if there is none.
  @inline(__always)
  func find(_ fingerprint: Fingerprint, where matches: (Int) -> Bool) -> Int {
    var place = nowhere
    return find(fingerprint, place: &place, where: matches)
  }

  /// As `find`, and where there is none the place at which `insert(_:slot:at:)` puts one, until the index next changes.
  @inline(__always)
  func find(_ fingerprint: Fingerprint, place: inout Place, where matches: (Int) -> Bool) -> Int {
    var line = home(fingerprint)
    let (tag, rest) = (TieIndex.tag(fingerprint), TieIndex.rest(fingerprint))
    while true {
      let end = TieIndex.end(line)
      var alike = TieIndex.alike(line, end, tag)
      while alike != 0 {
        let entry = TieIndex.entry(line, alike.trailingZeroBitCount)
        if entry & ~TieIndex.slotMask == rest {
          let slot = Int(entry & TieIndex.slotMask)
          if matches(slot) { return slot }
        }
        alike &= alike &- 1
      }
      guard let next = next(end) else {
        place = Place(line, end)
        return 0
      }
      line = next
    }
  }

  /// Whether nothing has been added at a place that `find` has told: then nothing has been added that this search would
  /// find. After `makeRoom`, and while nothing is removed.
  @inline(__always)
  func isFree(_ place: Place) -> Bool { TieIndex.end(place.line) == place.end }

  // MARK: - Adding and removing

  /// Adds a slot at the place that `find` has told, after `makeRoom`.
  @inline(__always)
  mutating func insert(_ fingerprint: Fingerprint, slot: Int, at place: Place) {
    count &+= 1
    append(
      TieIndex.rest(fingerprint) | UInt32(truncatingIfNeeded: slot), TieIndex.tag(fingerprint), place.line, place.end)
  }

  /// Adds a slot whose key is not in the index yet.
  mutating func insert(_ fingerprint: Fingerprint, slot: Int) {
    count &+= 1
    add(TieIndex.rest(fingerprint) | UInt32(truncatingIfNeeded: slot), TieIndex.tag(fingerprint), to: home(fingerprint))
  }

  private mutating func add(_ entry: UInt32, _ tag: UInt8, to home: Line) {
    var line = home
    while let next = next(TieIndex.end(line)) { line = next }
    append(entry, tag, line, TieIndex.end(line))
  }

  /// Behind the entries of the last line of a chain.
  @inline(__always)
  private mutating func append(_ entry: UInt32, _ tag: UInt8, _ line: Line, _ end: UInt32) {
    let filled = TieIndex.filled(end)
    guard filled < TieIndex.lineEntries else {
      let more = chain(to: line, end)
      TieIndex.write(entry, tag, more, 0)
      TieIndex.setEnd(more, 1)
      return
    }
    TieIndex.write(entry, tag, line, filled)
    TieIndex.setEnd(line, end &+ 1)
  }

  /// An empty line behind the last one of a chain.
  @inline(never)
  private mutating func chain(to line: Line, _ end: UInt32) -> Line {
    var number = furtherFree
    let more: Line
    if number != 0 {
      more = further.base + Int(number) * TieIndex.lineBytes
      furtherFree = TieIndex.end(more)
    } else {
      number = UInt32(furtherUsed)
      more = further.base + furtherUsed * TieIndex.lineBytes
      furtherUsed += 1
      precondition(furtherUsed * TieIndex.lineBytes <= further.reservedBytes, "no address space for the index of ties")
      further.grow(to: furtherUsed * TieIndex.lineBytes)
    }
    furtherCount += 1
    TieIndex.setEnd(line, end | number << 4)
    return more
  }

  /// Takes the last line off a chain.
  @inline(never)
  private mutating func unchain(from line: Line) {
    let number = TieIndex.end(line) >> 4
    TieIndex.setEnd(further.base + Int(number) * TieIndex.lineBytes, furtherFree)
    furtherFree = number
    furtherCount -= 1
    TieIndex.setEnd(line, TieIndex.end(line) & 15)
  }

  mutating func remove(_ fingerprint: Fingerprint, slot: Int) {
    let tag = TieIndex.tag(fingerprint)
    let wanted = TieIndex.rest(fingerprint) | UInt32(truncatingIfNeeded: slot)
    var line = home(fingerprint)
    while true {
      let end = TieIndex.end(line)
      var alike = TieIndex.alike(line, end, tag)
      while alike != 0 {
        let at = alike.trailingZeroBitCount
        if TieIndex.entry(line, at) == wanted {
          count &-= 1
          // The last of the chain takes the place of what leaves.
          if end >> 4 != 0 { return fill(line, at) }
          let last = TieIndex.filled(end) &- 1
          TieIndex.write(TieIndex.entry(line, last), TieIndex.tag(line, last), line, at)
          TieIndex.setEnd(line, end &- 1)
          // A line that is chained to another one and empty now is taken off.
          if last == 0, UInt(bitPattern: line - lines) >= UInt(lineCount &* TieIndex.lineBytes) { tidy(fingerprint) }
          return
        }
        alike &= alike &- 1
      }
      guard let next = next(end) else { preconditionFailure("removing a tie that the index does not hold") }
      line = next
    }
  }

  /// A place that is free in a line to which others are chained: the last entry of the chain goes there.
  @inline(never)
  private mutating func fill(_ line: Line, _ at: Int) {
    var (before, last) = (line, next(TieIndex.end(line)).unsafelyUnwrapped)
    while let next = next(TieIndex.end(last)) { (before, last) = (last, next) }
    let filled = TieIndex.filled(TieIndex.end(last))
    TieIndex.write(TieIndex.entry(last, filled - 1), TieIndex.tag(last, filled - 1), line, at)
    TieIndex.setEnd(last, UInt32(filled - 1))
    if filled == 1 { unchain(from: before) }
  }

  /// The last line of a chain is empty.
  @inline(never)
  private mutating func tidy(_ fingerprint: Fingerprint) {
    var line = home(fingerprint)
    while let next = next(TieIndex.end(line)) {
      if TieIndex.end(next) == 0 { return unchain(from: line) }
      line = next
    }
  }

  // MARK: - Growing

  /// Grows as far as so many more want to.
  /// - Parameters:
  ///   - fingerprint: Of the key of a slot.
  ///   - bring, bringKey: Bring close a slot, and, where that is close, its key.
  /// - Returns: whether it has grown: then places that have been told are others.
  @inline(__always)
  mutating func makeRoom(
    for more: Int, fingerprint: (Int) -> Fingerprint, bring: (Int) -> Void, bringKey: (Int) -> Void
  ) -> Bool {
    guard wantsLines(for: more) else { return false }
    var hasGrown = false
    while wantsLines(for: more), (lineCount + 1) * TieIndex.lineBytes <= region.reservedBytes {
      divide(fingerprint: fingerprint, bring: bring, bringKey: bringKey)
      hasGrown = true
    }
    return hasGrown
  }

  @inline(__always)
  private func wantsLines(for more: Int) -> Bool { (count &+ more) &* 2 > lineCount &* TieIndex.mostHalves }

  /// Makes room for as many entries, all at once where there are none yet.
  mutating func reserve(_ entries: Int) {
    guard count == 0, furtherCount == 0 else { return }
    let wanted = min(entries * 2 / TieIndex.mostHalves + 1, region.reservedBytes / TieIndex.lineBytes)
    guard wanted > lineCount else { return }
    region.reserve(wanted * TieIndex.lineBytes)
    tieout_touch(lines, UInt64(wanted * TieIndex.lineBytes))
    lineCount = wanted
    while Int(mask) < lineCount - 1 { mask = mask << 1 | 1 }
  }

  /// Divides the entries of the line whose turn it is between that line and a new one. Those of the lines whose turn is
  /// next are brought close meanwhile.
  @inline(never)
  private mutating func divide(
    fingerprint: (Int) -> Fingerprint, bring: (Int) -> Void, bringKey: (Int) -> Void
  ) {
    let number = lineCount
    if UInt64(number) > mask { mask = mask << 1 | 1 }
    let half = (Int(mask) + 1) / 2
    lineCount = number + 1
    region.grow(to: lineCount * TieIndex.lineBytes)
    let old = lines + (number - half) * TieIndex.lineBytes
    let new = lines + number * TieIndex.lineBytes
    if number - half + 2 < half {
      for at in 0..<TieIndex.filled(TieIndex.end(old + TieIndex.lineBytes)) {
        bringKey(Int(TieIndex.entry(old + TieIndex.lineBytes, at) & TieIndex.slotMask))
      }
      for at in 0..<TieIndex.filled(TieIndex.end(old + 2 * TieIndex.lineBytes)) {
        bring(Int(TieIndex.entry(old + 2 * TieIndex.lineBytes, at) & TieIndex.slotMask))
      }
    }
    // Taken out, and put in again where they belong now.
    var held = 0
    var line = old
    while true {
      let end = TieIndex.end(line)
      if held + TieIndex.lineEntries > movingCapacity { growMoving(held) }
      for at in 0..<TieIndex.filled(end) {
        moving[held] = Moving(entry: TieIndex.entry(line, at), tag: TieIndex.tag(line, at))
        held += 1
      }
      guard let next = next(end) else { break }
      line = next
    }
    while TieIndex.end(old) >> 4 != 0 {
      var (before, last) = (old, next(TieIndex.end(old)).unsafelyUnwrapped)
      while let next = next(TieIndex.end(last)) { (before, last) = (last, next) }
      unchain(from: before)
    }
    TieIndex.setEnd(old, 0)
    TieIndex.setEnd(new, 0)
    for at in 0..<held {
      let moved = moving[at]
      let address = TieIndex.address(fingerprint(Int(moved.entry & TieIndex.slotMask)).high)
      add(moved.entry, moved.tag, to: address & UInt64(half) == 0 ? old : new)
    }
  }

  @inline(never)
  private mutating func growMoving(_ held: Int) {
    let larger = UnsafeMutablePointer<Moving>.allocate(capacity: movingCapacity * 2)
    larger.update(from: moving, count: held)
    moving.deallocate()
    (moving, movingCapacity) = (larger, movingCapacity * 2)
  }

  // MARK: - Going through

  /// Calls `body` with the slot of every entry whose fingerprint begins with these bits, up to 32.
  /// - Parameter head: The first 64 bits of the fingerprint of a slot; asked for where the line does not tell enough.
  func forEachSlot(headOf wanted: Int, bits: Int, head: (Int) -> UInt64, _ body: (Int) -> Void) {
    // The bits that are asked for, as they stand in an address.
    let shift = UInt64(64 - bits)
    let asked = bits == 0 ? 0 : TieIndex.address(UInt64.max &<< shift)
    let value = bits == 0 ? 0 : TieIndex.address(UInt64(wanted) &<< shift)
    func visit(_ number: Int, knowing known: UInt64) {
      guard (UInt64(number) ^ value) & asked & known == 0 else { return }
      let isKnown = asked & ~known == 0
      var line = lines + number * TieIndex.lineBytes
      while true {
        let end = TieIndex.end(line)
        for at in 0..<TieIndex.filled(end) {
          let slot = Int(TieIndex.entry(line, at) & TieIndex.slotMask)
          if isKnown || TieIndex.address(head(slot)) & asked == value { body(slot) }
        }
        guard let next = next(end) else { return }
        line = next
      }
    }
    // All numbers below `half` that have the bits asked for, in turn; each with the line that was divided off it.
    let half = (Int(mask) + 1) / 2
    let narrow = mask >> 1
    let first = value & asked & narrow
    let free = narrow & ~asked
    var rest: UInt64 = 0
    while true {
      let number = Int(first | rest)
      let isDivided = number + half < lineCount
      let following = (rest &- free) & free
      tieout_prefetch_read(lines + Int(first | following) * TieIndex.lineBytes)
      visit(number, knowing: isDivided ? mask : narrow)
      if isDivided { visit(number + half, knowing: mask) }
      rest = following
      if rest == 0 { return }
    }
  }

  /// The most lines that stand in one chain; reads the whole table.
  var longestChain: Int {
    var longest = 0
    for number in 0..<lineCount {
      var length = 1
      var line = lines + number * TieIndex.lineBytes
      while let next = next(TieIndex.end(line)) { (line, length) = (next, length + 1) }
      longest = max(longest, length)
    }
    return longest
  }
}
