import CShims

/// Address space for a table that grows at its end and never moves. Memory comes with the first touch; beyond the first
/// megabytes in huge pages, without which a look-up in a large table waits longer for the page tables than for the data.
struct Region: ~Copyable {
  let base: UnsafeMutableRawPointer
  /// What may be used, at the most.
  let reservedBytes: Int
  private var isHuge = false

  /// A small task must not hold whole huge pages for every table.
  private static let smallBytes = 2 << 20
  /// Less address space than this is of no use to any table.
  private static let leastBytes = 64 << 20

  /// - Parameter wanted: What the table can ever need. Where the system grants less (a limit on address space), it gets
  ///   half of that, and so on.
  init(reserving wanted: Int) {
    var bytes = wanted
    var address = tieout_reserve(UInt64(bytes))
    while address == nil, bytes / 2 >= Region.leastBytes {
      bytes /= 2
      address = tieout_reserve(UInt64(bytes))
    }
    guard let address else { fatalError("no address space for \(wanted) bytes of state; raise the limit (ulimit -v)") }
    base = address
    reservedBytes = bytes
  }

  deinit { tieout_release(base, UInt64(reservedBytes)) }

  /// The table has come to use so many bytes.
  @inline(__always)
  mutating func grow(to usedBytes: Int) {
    if usedBytes > Region.smallBytes, !isHuge { useHugePages(from: usedBytes) }
  }

  /// As `grow`, of a table that comes to use so many bytes at once.
  mutating func reserve(_ usedBytes: Int) {
    if usedBytes > Region.smallBytes, !isHuge { useHugePages(from: Region.smallBytes) }
  }

  @inline(never)
  private mutating func useHugePages(from usedBytes: Int) {
    isHuge = true
    tieout_advise_huge(base + usedBytes, UInt64(reservedBytes - usedBytes))
  }
}
