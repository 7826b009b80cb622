import Domain

/// One cell as it is published: key and sums.
public struct CellLine: Hashable, Sendable {
  public var key: CellKey
  public var values: CellValues

  public init(key: CellKey, values: CellValues) {
    self.key = key
    self.values = values
  }
}

/// The aggregates of one task: sums by dimensions × currency × period, kept up fact by fact.
///
/// A fact is added with sign +1 when it comes and taken back with −1 when it is dropped. Adding is commutative and
/// exact, so neither arrival order nor partitioning nor a restart changes a sum. Nothing is allocated per fact: texts
/// are looked up by fingerprint, cells are blocks of plain 64-bit sums behind an open-addressed index (what goes beyond
/// 64 bits is kept beside them). Facts are taken in at once and added up in batches (`settle`).
///
/// Bounded: a dimension has at most `limits.values(of:)` values and the table `limits.cells` cells. What goes
/// beyond is summed under `CellKey.other`, so that totals stay right, and is counted. Which values are among the first
/// depends on arrival order; sums over a dimension do not.
public struct CellTable: ~Copyable {
  /// The period of facts without a date.
  public static let unknownPeriod: Int32 = 0
  /// The period of facts for which neither a cell nor one under `other` was left.
  public static let overflowPeriod: Int32 = .max

  public struct Limits: Sendable, Equatable {
    /// A thousand values: more than a report is read by; customers beyond it are `other`.
    public var valuesPerDimension: Int
    /// By dimension, where one has a bound of its own; 0 for those that have none.
    public var valuesByDimension: [Int] = []
    /// 65,536 cells are 38 MB.
    public var cells: Int

    public init(valuesPerDimension: Int = 1_000, cells: Int = 65_536) {
      self.valuesPerDimension = valuesPerDimension
      self.cells = cells
    }

    /// The bounds of what so many tasks hold together.
    public func of(tasks: Int) -> Limits {
      var all = self
      all.valuesPerDimension *= tasks
      all.valuesByDimension = valuesByDimension.map { $0 * tasks }
      all.cells *= tasks
      return all
    }

    public func values(of dimension: Int) -> Int {
      let own = dimension < valuesByDimension.count ? valuesByDimension[dimension] : 0
      return min(max(1, own > 0 ? own : valuesPerDimension), DimensionTable.maximumValues)
    }
  }

  /// What did not fit. Net of facts taken back.
  public struct Overflow: Sendable, Equatable {
    /// By dimension: facts whose value is counted under `other`.
    public var byDimension: [Int64] = []
    /// Facts without a cell of their own.
    public var cells: Int64 = 0

    public init() {}

    init(byDimension: [Int64], cells: Int64) {
      self.byDimension = byDimension
      self.cells = cells
    }

    public var isAny: Bool { cells != 0 || byDimension.contains { $0 != 0 } }

    public mutating func add(_ other: Overflow) {
      if byDimension.count < other.byDimension.count {
        byDimension += Array(repeating: 0, count: other.byDimension.count - byDimension.count)
      }
      for at in other.byDimension.indices { byDimension[at] += other.byDimension[at] }
      cells += other.cells
    }
  }

  struct Header {
    /// Four 16-bit numbers of dimension values each.
    var low: UInt64
    var high: UInt64
    /// Hash of the key's content, the same whatever the numbers are; seeds the digest.
    var content: UInt64
    var period: Int32
    var currency: UInt16
    var isBase: UInt8
    var isChanged: UInt8
  }

  /// Header, then the first 64 sums; a multiple of 64 so that a cell begins on a cache line. The sums beyond stand at the
  /// end of the header's line.
  static let headerBytes = 64
  static let strideBytes = headerBytes + CellValues.wordCount * MemoryLayout<Int64>.stride
  static let cellsPerChunk = 256
  /// Cells for facts that find no other place: by currency and period, then by currency alone (there are less than
  /// 512 currencies, in two views).
  static let sparePeriodCells = 2_048
  static let spareCurrencyCells = 1_024

  public internal(set) var limits: Limits
  public let dimensionCount: Int
  var dimensions: DimensionTable
  private var chunks: UnsafeMutablePointer<UnsafeMutableRawPointer>
  private var chunkCount = 0
  private let chunkCapacity: Int
  var cellCount = 0
  /// Upper half: tag; lower half: cell number + 1.
  var index: UnsafeMutablePointer<UInt64>
  var indexMask: Int
  let effects: UnsafeMutablePointer<FlowEffect>
  let effectCounts: UnsafeMutablePointer<UInt8>
  /// Facts whose cells are being brought close.
  let pending: UnsafeMutablePointer<Addition>
  var pendingCount = 0
  /// What of a sum does not fit into 64 bits, in units of 2⁶⁴, by cell × 128 + sum: next to never anything.
  var carries: [Int: Int64] = [:]
  var changed = RecordBuffer<UInt32>(capacity: 1_024)
  /// What `takeChanged` returned last.
  var taken = RecordBuffer<UInt32>(capacity: 1_024)
  var overflowFacts: Int64 = 0
  /// What is in dispute, by cell: the sums behind the others. Most cells have none, and then no room is taken.
  var disputes: [UInt32: [Int128]] = [:]
  /// The state that was read is from before there were any: what was in dispute then is not among the sums.
  public internal(set) var lacksDisputes = false
  /// Of all sums, in any order, from any parts: equal for equal contents. Kept up with every fact, so that an epoch
  /// costs nothing to check.
  public var digest: UInt64 {
    assert(pendingCount == 0)
    return sumsDigest
  }
  private var sumsDigest: UInt64 = 0

  public init(dimensionCount: Int, limits: Limits = Limits()) {
    self.limits = limits
    self.dimensionCount = dimensionCount
    dimensions = DimensionTable(dimensionCount: dimensionCount, limits: (0..<dimensionCount).map(limits.values))
    let most = max(1, limits.cells) + CellTable.sparePeriodCells + CellTable.spareCurrencyCells
    precondition(most < Int(UInt32.max))
    precondition(
      MemoryLayout<Header>.size - CellTable.place(CellValues.denseCount - 1) * MemoryLayout<Int64>.stride
        <= CellTable.headerBytes)
    chunkCapacity = (most + CellTable.cellsPerChunk - 1) / CellTable.cellsPerChunk
    chunks = .allocate(capacity: chunkCapacity)
    indexMask = 1_023
    index = .allocate(capacity: indexMask + 1)
    index.initialize(repeating: 0, count: indexMask + 1)
    effects = .allocate(capacity: OrderEventKind.allCases.count * FlowEffect.maximum)
    effectCounts = .allocate(capacity: 256)
    effectCounts.initialize(repeating: 0, count: 256)
    precondition(Addition.maximumTerms <= Addition().sums.count)
    pending = .allocate(capacity: Addition.batch)
    pending.initialize(repeating: Addition(), count: Addition.batch)
    for kind in OrderEventKind.allCases {
      let list = FlowEffect.effects(of: kind)
      precondition(list.count <= FlowEffect.maximum)
      effectCounts[Int(kind.rawValue)] = UInt8(list.count)
      for (at, effect) in list.enumerated() { effects[Int(kind.rawValue) * FlowEffect.maximum + at] = effect }
    }
  }

  deinit {
    for chunk in 0..<chunkCount { chunks[chunk].deallocate() }
    chunks.deallocate()
    index.deallocate()
    effects.deallocate()
    effectCounts.deallocate()
    pending.deallocate()
  }

  /// Cells that exist, those whose sums are all zero included.
  public var count: Int { cellCount }

  public var footprintBytes: Int {
    chunkCount * CellTable.cellsPerChunk * CellTable.strideBytes + (indexMask + 1) * 8 + dimensions.footprintBytes
  }

  public var overflow: Overflow {
    Overflow(byDimension: (0..<dimensionCount).map { dimensions.otherFacts[$0] }, cells: overflowFacts)
  }

  // MARK: - Sums

  /// Adds any number to a sum.
  mutating func add(_ delta: Int128, to cell: Int, _ sum: Int) {
    if sum >= CellValues.denseCount {
      addDisputed(delta, to: cell, sum)
      return
    }
    let low = Int64(truncatingIfNeeded: delta)
    add(low, isNegative: false, to: cell, sum, seed: header(cell).pointee.content)
    let rest = (delta - Int128(low)) >> 64
    if rest != 0 { carry(Int64(rest), cell, sum) }
  }

  /// Adds ±`amount` to a sum.
  @inline(__always)
  mutating func add(_ amount: Int64, isNegative: Bool, to cell: Int, _ sum: Int, seed: UInt64) {
    let place = sums(pointer(cell)) + CellTable.place(sum)
    let old = place.pointee
    let (new, overflow) =
      isNegative ? old.subtractingReportingOverflow(amount) : old.addingReportingOverflow(amount)
    place.pointee = new
    if overflow { carry(old < 0 ? -1 : 1, cell, sum) }
    let delta = UInt64(bitPattern: isNegative ? 0 &- amount : amount)
    sumsDigest &+= delta &* CellTable.weight(seed, sum)
  }

  @inline(never)
  private mutating func addDisputed(_ delta: Int128, to cell: Int, _ sum: Int) {
    guard delta != 0 else { return }
    var own = disputes[UInt32(cell)] ?? Array(repeating: 0, count: CellValues.disputeCount)
    own[sum - CellValues.denseCount] += delta
    disputes[UInt32(cell)] = own.allSatisfy { $0 == 0 } ? nil : own
    sumsDigest &+= UInt64(truncatingIfNeeded: delta) &* CellTable.weight(header(cell).pointee.content, sum)
  }

  @inline(never)
  private mutating func carry(_ count: Int64, _ cell: Int, _ sum: Int) {
    let place = cell * CellTable.carryStride + sum
    let new = (carries[place] ?? 0) + count
    carries[place] = new == 0 ? nil : new
  }

  static let carryStride = 128

  /// Where a sum stands, counted from behind the header.
  @inline(__always)
  static func place(_ sum: Int) -> Int { sum < CellValues.wordCount ? sum : CellValues.wordCount - 1 - sum }

  /// A sum of those that every cell has, whole.
  func value(_ cell: Int, _ sum: Int) -> Int128 {
    let low = Int128(sums(pointer(cell))[CellTable.place(sum)])
    guard !carries.isEmpty, let carry = carries[cell * CellTable.carryStride + sum] else { return low }
    return low + Int128(carry) << 64
  }

  /// By how much one unit in a sum of a cell moves the digest.
  @inline(__always)
  static func weight(_ content: UInt64, _ sum: Int) -> UInt64 {
    let product = (content ^ 0xa076_1d64_78bd_642f).multipliedFullWidth(
      by: (UInt64(truncatingIfNeeded: sum) &+ 1) &* 0x9e37_79b9_7f4a_7c15)
    return (product.high ^ product.low) | 1
  }

  // MARK: - Cells

  @inline(__always)
  func pointer(_ cell: Int) -> UnsafeMutableRawPointer {
    chunks[cell / CellTable.cellsPerChunk] + cell % CellTable.cellsPerChunk * CellTable.strideBytes
  }

  @inline(__always)
  func header(_ cell: Int) -> UnsafeMutablePointer<Header> { pointer(cell).assumingMemoryBound(to: Header.self) }

  @inline(__always)
  func sums(_ base: UnsafeMutableRawPointer) -> UnsafeMutablePointer<Int64> {
    (base + CellTable.headerBytes).assumingMemoryBound(to: Int64.self)
  }

  @inline(__always)
  mutating func markChanged(_ cell: Int) {
    let header = header(cell)
    guard header.pointee.isChanged == 0 else { return }
    header.pointee.isChanged = 1
    changed.append(UInt32(cell))
  }

  @inline(__always)
  static func hash(_ low: UInt64, _ high: UInt64, _ currency: UInt16, _ isBase: UInt8, _ period: Int32)
    -> UInt64
  {
    let rest = UInt64(UInt32(bitPattern: period)) << 32 | UInt64(currency) << 8 | UInt64(isBase)
    let first = (low ^ 0x8ebc_6af0_9c88_c6e3).multipliedFullWidth(by: rest ^ 0x5899_65cc_7537_4cc3)
    let second = (first.high ^ first.low ^ high).multipliedFullWidth(by: 0x1d8e_4e27_c47d_124f)
    return second.high ^ second.low
  }

  /// The cell of a key: found, made, or the one for what does not fit.
  @inline(__always)
  mutating func cell(
    _ low: UInt64, _ high: UInt64, _ currency: UInt16, _ isBase: UInt8, _ period: Int32, hash: UInt64, sign: Int64
  ) -> Int {
    let found = find(low, high, currency, isBase, period, hash: hash)
    if found >= 0 { return found }
    return make(low, high, currency, isBase, period, sign: sign)
  }

  func find(_ low: UInt64, _ high: UInt64, _ currency: UInt16, _ isBase: UInt8, _ period: Int32) -> Int {
    find(low, high, currency, isBase, period, hash: CellTable.hash(low, high, currency, isBase, period))
  }

  @inline(__always)
  private func find(
    _ low: UInt64, _ high: UInt64, _ currency: UInt16, _ isBase: UInt8, _ period: Int32, hash: UInt64
  ) -> Int {
    let tag = hash >> 32
    var at = Int(truncatingIfNeeded: hash) & indexMask
    while true {
      let entry = index[at]
      if entry == 0 { return -1 }
      if entry >> 32 == tag {
        let cell = Int(entry & 0xffff_ffff) - 1
        let header = header(cell)
        if header.pointee.low == low, header.pointee.high == high, header.pointee.period == period,
          header.pointee.currency == currency, header.pointee.isBase == isBase
        {
          return cell
        }
      }
      at = (at + 1) & indexMask
    }
  }

  @inline(never)
  private mutating func make(
    _ low: UInt64, _ high: UInt64, _ currency: UInt16, _ isBase: UInt8, _ period: Int32, sign: Int64
  ) -> Int {
    if cellCount < limits.cells { return append(low, high, currency, isBase, period) }
    var (otherLow, otherHigh): (UInt64, UInt64) = (0, 0)
    for at in 0..<dimensionCount {
      if at < 4 { otherLow |= 1 << UInt64(16 * at) } else { otherHigh |= 1 << UInt64(16 * (at - 4)) }
    }
    // A fact whose values are all beyond the bound belongs under `other` anyway.
    if low != otherLow || high != otherHigh { overflowFacts += sign }
    let byPeriod = find(otherLow, otherHigh, currency, isBase, period)
    if byPeriod >= 0 { return byPeriod }
    if cellCount < limits.cells + CellTable.sparePeriodCells {
      return append(otherLow, otherHigh, currency, isBase, period)
    }
    if low == otherLow, high == otherHigh { overflowFacts += sign }
    let byCurrency = find(otherLow, otherHigh, currency, isBase, CellTable.overflowPeriod)
    if byCurrency >= 0 { return byCurrency }
    return append(otherLow, otherHigh, currency, isBase, CellTable.overflowPeriod)
  }

  /// A new cell, all zero.
  mutating func append(_ low: UInt64, _ high: UInt64, _ currency: UInt16, _ isBase: UInt8, _ period: Int32) -> Int {
    let cell = cellCount
    precondition(cell < chunkCapacity * CellTable.cellsPerChunk)
    if cell == chunkCount * CellTable.cellsPerChunk {
      let bytes = CellTable.cellsPerChunk * CellTable.strideBytes
      chunks[chunkCount] = .allocate(byteCount: bytes, alignment: 64)
      chunks[chunkCount].initializeMemory(as: UInt8.self, repeating: 0, count: bytes)
      chunkCount += 1
    }
    cellCount += 1
    var content = UInt64(UInt32(bitPattern: period)) << 32 | UInt64(currency) << 8 | UInt64(isBase)
    for at in 0..<dimensionCount {
      let number = UInt16(truncatingIfNeeded: (at < 4 ? low : high) >> UInt64(16 * (at & 3)))
      let product = (content ^ 0xe703_7ed1_a0b4_28db).multipliedFullWidth(
        by: dimensions.contentHash(at, number) &+ 0x589_965cc)
      content = product.high ^ product.low &+ UInt64(truncatingIfNeeded: at)
    }
    header(cell).initialize(
      to: Header(
        low: low, high: high, content: content, period: period, currency: currency, isBase: isBase, isChanged: 0))
    if (cellCount + 1) * 2 > indexMask { growIndex() }
    place(cell)
    return cell
  }

  private mutating func place(_ cell: Int) {
    let header = header(cell).pointee
    let hash = CellTable.hash(header.low, header.high, header.currency, header.isBase, header.period)
    var at = Int(truncatingIfNeeded: hash) & indexMask
    while index[at] != 0 { at = (at + 1) & indexMask }
    index[at] = (hash & ~0xffff_ffff) | UInt64(cell + 1)
  }

  private mutating func growIndex() {
    index.deallocate()
    indexMask = indexMask * 2 + 1
    index = .allocate(capacity: indexMask + 1)
    index.initialize(repeating: 0, count: indexMask + 1)
    // The newest one is placed by the caller.
    for cell in 0..<cellCount - 1 { place(cell) }
  }

  /// Adds sums to a cell of given numbers: a merge, or a restore.
  mutating func add(_ values: CellValues, to cell: Int) {
    markChanged(cell)
    for sum in 0..<CellValues.count where values.sums[sum] != 0 { add(values.sums[sum], to: cell, sum) }
  }

  /// The cell of a key given as texts; made if it is not there.
  mutating func cell(of key: CellKey) -> Int {
    var (low, high): (UInt64, UInt64) = (0, 0)
    for at in 0..<dimensionCount {
      var text = key.dimensions[at]
      let number = UInt64(text.withUTF8 { dimensions.number(at, ByteView($0), sign: 1) })
      if at < 4 { low |= number << UInt64(16 * at) } else { high |= number << UInt64(16 * (at - 4)) }
    }
    let (currency, isBase, period) = (key.currency.rawValue, UInt8(key.isBase ? 1 : 0), key.period)
    let hash = CellTable.hash(low, high, currency, isBase, period)
    return cell(low, high, currency, isBase, period, hash: hash, sign: 1)
  }
}
