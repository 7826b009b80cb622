import CShims

/// A reference into a `RecordStore`: the number of its first 8-byte granule. 0 is no reference.
@usableFromInline
typealias StoreRef = UInt32

/// Variable-size plain records in one growing allocation, addressed by granule number, freed into lists by size.
///
/// The matcher keeps everything that has no fixed size here: the bodies of ties (key and facts) and break records. Thirty-two bits of 8-byte
/// granules reach 32 GiB, which is above what one task may use. Growth goes through `realloc`, so a pointer into the
/// store is only good until the next `allocate`; references stay good until `free`.
@usableFromInline
struct RecordStore: ~Copyable {
  /// Sizes up to this many granules (2 KiB) have a free list each; larger ones share a list by power of two.
  @usableFromInline static let exactClasses = 256
  static let powerClasses = 24
  /// Readable behind the last record, so that a fact's head and numbers are loaded without asking how long they are.
  static let slackBytes = 128

  @usableFromInline var base: UnsafeMutableRawPointer
  private var capacity: Int
  private var used: Int
  private var freeLists: [StoreRef]
  /// Bytes handed out and not yet freed.
  private(set) var liveBytes = 0

  init(initialBytes: Int = 1 << 16) {
    capacity = max(initialBytes, 1 << 12)
    base = tieout_realloc(nil, UInt64(capacity))!
    used = 8
    freeLists = Array(repeating: 0, count: RecordStore.exactClasses + RecordStore.powerClasses)
  }

  deinit { tieout_free(base) }

  /// Bytes of memory that the store has touched.
  var footprintBytes: Int { used }

  @inline(__always)
  @usableFromInline
  func pointer(_ ref: StoreRef) -> UnsafeMutableRawPointer {
    assert(ref != 0 && Int(ref) * 8 < used)
    return base + Int(ref) * 8
  }

  /// How many granules an allocation of `bytes` takes; the caller remembers it for `free`.
  static func granules(_ bytes: Int) -> Int {
    let granules = (bytes + 7) / 8
    guard granules > exactClasses else { return max(granules, 1) }
    return 1 << (Int.bitWidth - (granules - 1).leadingZeroBitCount)
  }

  private static func classIndex(_ granules: Int) -> Int {
    granules <= exactClasses ? granules - 1 : exactClasses + (granules.trailingZeroBitCount - 9)
  }

  /// Uninitialised space for `bytes`; 8-byte aligned.
  mutating func allocate(_ bytes: Int) -> StoreRef {
    let granules = RecordStore.granules(bytes)
    let list = RecordStore.classIndex(granules)
    liveBytes += granules * 8
    let head = freeLists[list]
    if head != 0 {
      freeLists[list] = pointer(head).load(as: StoreRef.self)
      return head
    }
    let needed = used + granules * 8
    if needed + RecordStore.slackBytes > capacity { grow(to: needed + RecordStore.slackBytes) }
    let ref = StoreRef(used / 8)
    used = needed
    return ref
  }

  mutating func free(_ ref: StoreRef, granules: Int) {
    let list = RecordStore.classIndex(granules)
    pointer(ref).storeBytes(of: freeLists[list], as: StoreRef.self)
    freeLists[list] = ref
    liveBytes -= granules * 8
  }

  private mutating func grow(to needed: Int) {
    precondition(needed < 1 << 35, "a task's state reached 32 GiB; lower limits.memory or add partitions")
    capacity = max(needed, capacity + capacity / 2)
    base = tieout_realloc(base, UInt64(capacity))!
    if capacity > 1 << 25 { tieout_advise_huge(base, UInt64(capacity)) }
  }
}
