import Aggregates
import Domain

/// How the orders of each source stand: those in whose tie it has a record. Control totals, orders that are closed and
/// that tie out, their value, and what is in open breaks, each as `QualityControl` has it of all sources.
///
/// A tie counts for every source that has a record in it, so that the sources overlap. Which these are stands beside its
/// slot, a bit a source: what the tie adds to the sums goes to all of them, and a source that comes later takes over what
/// the tie has added up to then. So the sums are a function of the ties as they are, whichever way they came to be.
struct SourceTotals: ~Copyable {
  /// Places of a row: four columns of control totals by role, and what follows here.
  private enum Place {
    static let closed = 4 * AccountRole.count
    static let tiedOut = closed + 1
    static let open = closed + 2
    static let aged = closed + 3
    static let openedAt_s = closed + 4
    static let count = closed + 5
  }

  private struct Orders {
    var closed: Int64 = 0
    var tiedOut: Int64 = 0
    var openBreaks: Int64 = 0

    var isZero: Bool { closed == 0 && tiedOut == 0 && openBreaks == 0 }
  }

  private let count: Int
  /// Bytes of the set of a tie: one up to eight sources.
  private let stride: Int
  private var region: Region
  /// By slot: the sources that have a record there which is no deletion.
  private let sets: UnsafeMutablePointer<UInt8>

  /// `Place.count` sums a source and currency, 1.2 kB.
  private var rows: UnsafeMutablePointer<Int128>
  private var capacity = 8
  private var rowKeys: [(source: Int, currency: Currency)] = []
  /// By source: the row that was added to last, −1 for none, and its currency.
  private let lastRows: UnsafeMutablePointer<(row: Int32, currency: Currency)>
  private var orders: [Orders]
  private let isChanged: UnsafeMutablePointer<Bool>
  /// What `takeChanged` returned last.
  private var taken: [Int] = []

  /// - Parameter count: How many sources there are.
  init(_ count: Int) {
    self.count = count
    stride = max(1, (count + 7) / 8)
    region = Region(reserving: TieIndex.maximumSlots * stride)
    sets = region.base.assumingMemoryBound(to: UInt8.self)
    rows = .allocate(capacity: capacity * Place.count)
    lastRows = .allocate(capacity: max(1, count))
    lastRows.initialize(repeating: (-1, .none), count: max(1, count))
    isChanged = .allocate(capacity: max(1, count))
    isChanged.initialize(repeating: false, count: max(1, count))
    orders = Array(repeating: Orders(), count: count)
  }

  deinit {
    rows.deallocate()
    lastRows.deallocate()
    isChanged.deallocate()
  }

  /// Bytes that the sets of so many ties take.
  func setBytes(_ slots: Int) -> Int { slots * stride }

  // MARK: - Which sources a tie has

  @inline(__always)
  func contains(_ slot: Int, _ source: Int) -> Bool {
    sets[slot &* stride &+ source &>> 3] &>> UInt8(truncatingIfNeeded: source & 7) & 1 != 0
  }

  /// - Returns: whether it is new there.
  @inline(__always)
  mutating func insert(_ slot: Int, _ source: Int) -> Bool {
    guard source < count, !contains(slot, source) else { return false }
    let end = (slot &+ 1) &* stride
    precondition(end <= region.reservedBytes, "no address space for the sources of ties; raise the limit (ulimit -v)")
    region.grow(to: end)
    sets[slot &* stride &+ source &>> 3] |= 1 &<< UInt8(truncatingIfNeeded: source & 7)
    return true
  }

  mutating func remove(_ slot: Int, _ source: Int) { sets[slot * stride + source >> 3] &= ~(1 << UInt8(source & 7)) }

  /// The slot is free for another tie.
  @inline(__always)
  mutating func clear(_ slot: Int) {
    for at in 0..<stride { sets[slot &* stride &+ at] = 0 }
  }

  /// The sources of a tie, in order.
  func sources(_ slot: Int) -> [Int] { (0..<count).filter { contains(slot, $0) } }

  @inline(__always)
  private mutating func forEach(_ slot: Int, _ body: (inout SourceTotals, Int) -> Void) {
    for at in 0..<stride {
      var bits = sets[slot &* stride &+ at]
      while bits != 0 {
        body(&self, at &* 8 &+ bits.trailingZeroBitCount)
        bits &= bits &- 1
      }
    }
  }

  // MARK: - Adding up

  /// The sums of a source and currency, which are about to change.
  @inline(__always)
  private mutating func row(_ source: Int, _ currency: Currency) -> UnsafeMutablePointer<Int128> {
    isChanged[source] = true
    let last = lastRows[source]
    let row = last.row >= 0 && last.currency == currency ? Int(last.row) : place(source, currency)
    return rows + row &* Place.count
  }

  @inline(never)
  private mutating func place(_ source: Int, _ currency: Currency) -> Int {
    var row = rowKeys.firstIndex { $0.source == source && $0.currency == currency } ?? rowKeys.count
    if row == rowKeys.count {
      if row == capacity {
        let more = UnsafeMutablePointer<Int128>.allocate(capacity: 2 * capacity * Place.count)
        more.update(from: rows, count: row * Place.count)
        rows.deallocate()
        (rows, capacity) = (more, 2 * capacity)
      }
      rowKeys.append((source, currency))
      row = rowKeys.count - 1
      (rows + row * Place.count).initialize(repeating: 0, count: Place.count)
    }
    lastRows[source] = (Int32(row), currency)
    return row
  }

  @inline(__always)
  private static func place(_ column: ControlTotals.Column, _ role: UInt8) -> Int {
    column.rawValue &* AccountRole.count &+ Int(role)
  }

  /// Adds what a fact says to the sources of its tie, or takes it back.
  @inline(__always)
  mutating func add(
    _ fact: UnsafePointer<Fact>, _ entries: UnsafeBufferPointer<PolicyEntry>, _ slot: Int, sign: Int64
  ) {
    let currency = fact.pointee.currency
    forEach(slot) { totals, source in
      if fact.pointee.isPosting {
        totals.row(source, currency)[SourceTotals.place(.posted, fact.pointee.code)] +=
          Int128(sign &* fact.pointee.amounts[0])
        return
      }
      guard !entries.isEmpty else { return }
      let row = totals.row(source, currency)
      for entry in entries {
        row[SourceTotals.place(.expected, entry.role.rawValue)] +=
          Int128(sign &* Int64(entry.sign) &* fact.amount(entry.component))
      }
    }
  }

  /// Adds what a fact of a tie says to one source, or takes it back.
  @inline(__always)
  mutating func add(
    _ fact: FactCursor, _ entries: UnsafeBufferPointer<PolicyEntry>, source: Int, sign: Int64
  ) {
    if fact.isPosting {
      row(source, fact.currency)[SourceTotals.place(.posted, fact.code)] += Int128(sign &* fact.amount)
      return
    }
    guard !entries.isEmpty else { return }
    let row = row(source, fact.currency)
    for entry in entries {
      row[SourceTotals.place(.expected, entry.role.rawValue)] +=
        Int128(sign &* Int64(entry.sign) &* fact.amount(entry.component))
    }
  }

  mutating func add(
    _ amount: Int128, _ column: ControlTotals.Column, _ currency: Currency, _ role: AccountRole, _ slot: Int
  ) {
    forEach(slot) { $0.add(amount, column, currency, role, source: $1) }
  }

  mutating func add(
    _ amount: Int128, _ column: ControlTotals.Column, _ currency: Currency, _ role: AccountRole, source: Int
  ) {
    row(source, currency)[SourceTotals.place(column, role.rawValue)] += amount
  }

  /// A break comes to be open, or no longer is.
  mutating func addOpen(_ amount: Int128, _ currency: Currency, opened_s: UInt32, sign: Int, _ slot: Int) {
    forEach(slot) { $0.addOpen(amount, currency, opened_s: opened_s, sign: sign, source: $1) }
  }

  /// - Parameter opened_s: Since when it has been open, in seconds since 1970; 0 where that is not known.
  mutating func addOpen(_ amount: Int128, _ currency: Currency, opened_s: UInt32, sign: Int, source: Int) {
    orders[source].openBreaks += Int64(sign)
    isChanged[source] = true
    guard amount != 0 else { return }
    let row = row(source, currency)
    row[Place.open] += Int128(sign) * amount
    guard opened_s != 0 else { return }
    row[Place.aged] += Int128(sign) * amount
    row[Place.openedAt_s] += Int128(sign) * amount * Int128(opened_s)
  }

  /// Counts a closed order, or takes it back.
  @inline(__always)
  mutating func addOrders(closed: Int64, tiedOut: Int64, _ slot: Int) {
    forEach(slot) { $0.addOrders(closed: closed, tiedOut: tiedOut, source: $1) }
  }

  @inline(__always)
  mutating func addOrders(closed: Int64, tiedOut: Int64, source: Int) {
    orders[source].closed += closed
    orders[source].tiedOut += tiedOut
    isChanged[source] = true
  }

  /// Adds the value of a closed order, or takes it back.
  @inline(__always)
  mutating func addValue(_ amount: Int64, _ currency: Currency, isTiedOut: Bool, _ slot: Int) {
    forEach(slot) { $0.addValue(amount, currency, isTiedOut: isTiedOut, source: $1) }
  }

  @inline(__always)
  mutating func addValue(_ amount: Int64, _ currency: Currency, isTiedOut: Bool, source: Int) {
    let row = row(source, currency)
    row[Place.closed] += Int128(amount)
    if isTiedOut { row[Place.tiedOut] += Int128(amount) }
  }

  // MARK: - Telling

  /// How the orders of each source stand.
  func controls() -> [QualityControl] { (0..<count).map { control($0) } }

  private func control(_ source: Int) -> QualityControl {
    var control = QualityControl()
    control.closedOrders = orders[source].closed
    control.tiedOutOrders = orders[source].tiedOut
    control.openBreaks = orders[source].openBreaks
    for (at, key) in rowKeys.enumerated() where key.source == source {
      let row = rows + at * Place.count
      func column(_ column: ControlTotals.Column) -> [Int128] {
        (0..<AccountRole.count).map { row[SourceTotals.place(column, UInt8($0))] }
      }
      control.update(key.currency) { line in
        (line.closed, line.tiedOut, line.open) = (row[Place.closed], row[Place.tiedOut], row[Place.open])
        (line.aged, line.openedAt_s) = (row[Place.aged], row[Place.openedAt_s])
        (line.expected, line.posted) = (column(.expected), column(.posted))
        (line.openDifference, line.acceptedDifference) = (column(.open), column(.accepted))
      }
    }
    return control
  }

  func hasChanges() -> Bool { (0..<count).contains { isChanged[$0] } }

  /// The sources of which something has changed since the last call, whole, in order.
  mutating func takeChanged() -> [(source: UInt16, control: QualityControl)] {
    taken = (0..<count).filter { isChanged[$0] }
    for source in taken { isChanged[source] = false }
    return taken.map { (UInt16($0), control($0)) }
  }

  /// There is nothing that `untakeChanged` could take back.
  mutating func forgetTaken() { taken = [] }

  /// What `takeChanged` returned last was not sent after all.
  mutating func untakeChanged() {
    for source in taken { isChanged[source] = true }
    taken = []
  }

  // MARK: - State

  /// What stands before them among the sums of a state.
  static let tag: UInt64 = 0x7365_6372_756f_5349  // "ISources"

  /// The sums, without the sets, which the ties tell. By source and currency, without those that are zero: the same sums
  /// give the same bytes, whichever way they came to be.
  func export(into writer: inout ByteWriter) {
    let rowOrder = rowKeys.indices.sorted {
      (rowKeys[$0].source, rowKeys[$0].currency) < (rowKeys[$1].source, rowKeys[$1].currency)
    }
    .filter { at in (0..<Place.count).contains { rows[at * Place.count + $0] != 0 } }
    let kept = (0..<count).filter { source in
      isChanged[source] || !orders[source].isZero || rowOrder.contains { rowKeys[$0].source == source }
    }
    writer.writeVarint(UInt64(kept.count))
    for source in kept {
      writer.write(UInt16(source))
      writer.write(UInt8(isChanged[source] ? 1 : 0))
      for number in [orders[source].closed, orders[source].tiedOut, orders[source].openBreaks] {
        writer.writeSigned(number)
      }
      let own = rowOrder.filter { rowKeys[$0].source == source }
      writer.writeVarint(UInt64(own.count))
      for at in own {
        writer.write(rowKeys[at].currency.rawValue)
        let row = rows + at * Place.count
        writer.writeVarint(UInt64((0..<Place.count).count { row[$0] != 0 }))
        for place in 0..<Place.count where row[place] != 0 {
          writer.write(UInt8(place))
          writer.write(row[place])
        }
      }
    }
  }

  /// Takes the place of all sums. Sources that the configuration no longer has are left out.
  mutating func restore(from reader: inout ByteReader) throws(ByteCodingError) {
    reset()
    for _ in 0..<(try reader.readCount(atMost: 1 << 16)) {
      let source = Int(try reader.read(UInt16.self))
      let isKnown = source < count
      let isToTell = try reader.read(UInt8.self) != 0
      let read = Orders(
        closed: try reader.readSigned(), tiedOut: try reader.readSigned(), openBreaks: try reader.readSigned())
      if isKnown { orders[source] = read }
      for _ in 0..<(try reader.readCount(atMost: 1 << 16)) {
        let currency = Currency(rawValue: try reader.read())
        let at = isKnown ? self.place(source, currency) : 0
        for _ in 0..<(try reader.readCount(atMost: Place.count)) {
          let place = Int(try reader.read(UInt8.self))
          guard place < Place.count else { throw ByteCodingError("sums of a source that are not known") }
          let sum: Int128 = try reader.read()
          if isKnown { rows[at * Place.count + place] = sum }
        }
      }
      if isKnown { isChanged[source] = isToTell }
    }
  }

  /// Forgets all sums; the sets stay.
  mutating func reset() {
    rowKeys = []
    lastRows.update(repeating: (-1, .none), count: max(1, count))
    isChanged.update(repeating: false, count: max(1, count))
    orders = Array(repeating: Orders(), count: count)
    taken = []
  }
}
