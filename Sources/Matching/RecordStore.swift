import CShims

/// A reference into a `RecordStore`: the number of its first 8-byte granule. 0 is no reference.
typealias StoreRef = UInt32

/// Variable-size plain records in one growing region, addressed by granule number, freed into lists by size.
///
/// The matcher keeps everything that has no fixed size here: the bodies of ties (key and facts) and break records.
/// Thirty-two bits of 8-byte granules reach 32 GiB, which is above what one task may use.
///
/// What is free stands in stacks of its own and not in the freed records, which have long left the caches: taking one
/// costs no miss, and those to be taken next are brought close meanwhile.
struct RecordStore: ~Copyable {
  /// Sizes up to this many granules (2 KiB) have a free list each; larger ones share a list by power of two.
  static let exactClasses = 256
  static let powerClasses = 24
  /// So many allocations ahead: one alone takes less time than memory to answer.
  static let ahead = 3
  /// Readable behind the last record, so that a fact's head and numbers are loaded without asking how long they are.
  static let slackBytes = 128

  private struct FreeStack {
    var refs: UnsafeMutablePointer<StoreRef>?
    var count = 0
    var capacity = 0
  }

  private var region: Region
  let base: UnsafeMutableRawPointer
  private var used: Int
  private let free: UnsafeMutablePointer<FreeStack>
  /// A bit for each list that is not empty.
  private let freeSizes: UnsafeMutablePointer<UInt64>
  private static let freeWords = (stackCount + 63) / 64 + 1
  private static let stackCount = exactClasses + powerClasses
  /// Bytes handed out and not yet freed.
  private(set) var liveBytes = 0

  init() {
    region = Region(reserving: 1 << 35)
    base = region.base
    used = 8
    free = .allocate(capacity: RecordStore.stackCount)
    free.initialize(repeating: FreeStack(), count: RecordStore.stackCount)
    freeSizes = .allocate(capacity: RecordStore.freeWords)
    freeSizes.initialize(repeating: 0, count: RecordStore.freeWords)
  }

  deinit {
    for list in 0..<RecordStore.stackCount { tieout_free(free[list].refs) }
    free.deallocate()
    freeSizes.deallocate()
  }

  /// Bytes of memory that the store has touched.
  var footprintBytes: Int { used + (0..<RecordStore.stackCount).reduce(0) { $0 + free[$1].capacity * 4 } }

  @inline(__always)
  func pointer(_ ref: StoreRef) -> UnsafeMutableRawPointer {
    assert(ref != 0 && Int(ref) * 8 < used)
    return base + Int(ref) * 8
  }

  /// How many granules an allocation of `bytes` takes; the caller remembers it for `free`.
  @inline(__always)
  static func granules(_ bytes: Int) -> Int {
    let granules = (bytes + 7) / 8
    guard granules > exactClasses else { return max(granules, 1) }
    return 1 << (Int.bitWidth - (granules - 1).leadingZeroBitCount)
  }

  @inline(__always)
  private static func classIndex(_ granules: Int) -> Int {
    granules <= exactClasses ? granules - 1 : exactClasses + (granules.trailingZeroBitCount - 9)
  }

  /// Uninitialised space for `bytes`; 8-byte aligned.
  @inline(__always)
  mutating func allocate(_ bytes: Int) -> StoreRef {
    let granules = RecordStore.granules(bytes)
    return allocate(granules: granules, class: RecordStore.classIndex(granules))
  }

  /// As `allocate`, for `granules` up to `exactClasses`, and one at least.
  @inline(__always)
  mutating func allocate(exact granules: Int) -> StoreRef { allocate(granules: granules, class: granules &- 1) }

  /// Space of `wanted` granules, or, where none of that size is free, of another size from `least` to `most`.
  /// - Parameters:
  ///   - least, most: Around `wanted`, up to `exactClasses`.
  @inline(__always)
  mutating func allocate(wanted: Int, least: Int, most: Int) -> (ref: StoreRef, granules: Int) {
    let granules = free[wanted &- 1].count > 0 ? wanted : freeSize(wanted, least, most)
    return (allocate(exact: granules), granules)
  }

  /// A size of which something is free, larger ones first; `wanted` where there is none.
  @inline(never)
  private func freeSize(_ wanted: Int, _ least: Int, _ most: Int) -> Int {
    let (word, bit) = ((least &- 1) &>> 6, UInt64((least &- 1) & 63))
    // A bit for each size from `least` on: those of two words, since there are fewer than 64.
    var sizes = freeSizes[word] &>> bit
    if bit != 0 { sizes |= freeSizes[word &+ 1] &<< (64 &- bit) }
    sizes &= 1 &<< UInt64(most &- least &+ 1) &- 1
    let above = sizes &>> UInt64(wanted &- least)
    if above != 0 { return wanted &+ above.trailingZeroBitCount }
    return sizes != 0 ? least &+ 63 &- sizes.leadingZeroBitCount : wanted
  }

  @inline(__always)
  private mutating func allocate(granules: Int, class index: Int) -> StoreRef {
    let list = free + index
    liveBytes &+= granules &* 8
    let left = list.pointee.count &- 1
    guard left >= 0 else { return extend(granules) }
    list.pointee.count = left
    if left == 0 { freeSizes[index &>> 6] &= ~(1 &<< UInt64(index & 63)) }
    let refs = list.pointee.refs.unsafelyUnwrapped
    // The stack itself has left the caches too, where much is free.
    tieout_prefetch_read(refs + max(0, left &- 32))
    if left >= RecordStore.ahead { tieout_prefetch(base + Int(refs[left &- RecordStore.ahead]) &* 8) }
    return refs[left]
  }

  @inline(never)
  private mutating func extend(_ granules: Int) -> StoreRef {
    let needed = used + granules * 8
    precondition(
      needed + RecordStore.slackBytes <= region.reservedBytes,
      "a task's state has outgrown its address space; lower limits.memory or add partitions")
    region.grow(to: needed)
    let ref = StoreRef(used / 8)
    used = needed
    return ref
  }

  @inline(__always)
  mutating func free(_ ref: StoreRef, granules: Int) {
    free(ref, granules: granules, class: RecordStore.classIndex(granules))
  }

  /// As `free`, for `granules` up to `exactClasses`.
  @inline(__always)
  mutating func free(_ ref: StoreRef, exact granules: Int) { free(ref, granules: granules, class: granules &- 1) }

  @inline(__always)
  private mutating func free(_ ref: StoreRef, granules: Int, class index: Int) {
    let list = free + index
    let count = list.pointee.count
    if count == list.pointee.capacity { RecordStore.grow(list) }
    list.pointee.refs.unsafelyUnwrapped[count] = ref
    if count == 0 { freeSizes[index &>> 6] |= 1 &<< UInt64(index & 63) }
    list.pointee.count = count &+ 1
    liveBytes &-= granules &* 8
  }

  @inline(never)
  private static func grow(_ list: UnsafeMutablePointer<FreeStack>) {
    list.pointee.capacity = max(16, list.pointee.capacity * 2)
    list.pointee.refs = tieout_realloc(list.pointee.refs, UInt64(list.pointee.capacity * 4))!
      .assumingMemoryBound(to: StoreRef.self)
  }
}
