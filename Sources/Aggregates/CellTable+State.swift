import Domain

/// What is published, and the state as bytes.
extension CellTable {
  func key(_ cell: Int) -> CellKey {
    let header = header(cell).pointee
    return CellKey(
      dimensions: (0..<dimensionCount).map { at in
        dimensions.text(at, UInt16(truncatingIfNeeded: (at < 4 ? header.low : header.high) >> UInt64(16 * (at & 3))))
      },
      currency: Currency(rawValue: header.currency), isBase: header.isBase != 0, period: header.period)
  }

  func values(_ cell: Int) -> CellValues {
    assert(pendingCount == 0)
    var values = CellValues()
    for at in 0..<CellValues.denseCount { values.sums[at] = value(cell, at) }
    if let disputed = disputed(cell) {
      values.sums.replaceSubrange(CellValues.denseCount..., with: disputed)
    }
    return values
  }

  /// What of a cell is in dispute; nil for nothing.
  @inline(__always)
  private func disputed(_ cell: Int) -> [Int128]? { disputes.isEmpty ? nil : disputes[UInt32(cell)] }

  private func isZero(_ cell: Int) -> Bool {
    let base = sums(pointer(cell))
    guard (0..<CellValues.denseCount).allSatisfy({ base[CellTable.place($0)] == 0 }), disputed(cell) == nil else {
      return false
    }
    return carries.isEmpty
      || (0..<CellValues.denseCount).allSatisfy { carries[cell * CellTable.carryStride + $0] == nil }
  }

  /// Every cell that holds anything, by key.
  public var lines: [CellLine] {
    var lines: [CellLine] = []
    for cell in 0..<cellCount where !isZero(cell) { lines.append(CellLine(key: key(cell), values: values(cell))) }
    return lines.sorted { $0.key < $1.key }
  }

  public var hasChanges: Bool { changed.count > 0 }

  /// The cells that have changed since the last call, by key; those that have become zero too.
  public mutating func takeChanged() -> [CellLine] {
    assert(pendingCount == 0)
    var lines: [CellLine] = []
    lines.reserveCapacity(changed.count)
    for at in 0..<changed.count {
      let cell = Int(changed[at])
      header(cell).pointee.isChanged = 0
      lines.append(CellLine(key: key(cell), values: values(cell)))
    }
    swap(&changed, &taken)
    changed.removeAll()
    return lines.sorted { $0.key < $1.key }
  }

  /// Marks the cells that `takeChanged` returned last as changed again.
  mutating func untakeChanged() {
    for at in 0..<taken.count { markChanged(Int(taken[at])) }
    taken.removeAll()
  }

  /// There is nothing that `untakeChanged` could take back.
  mutating func forgetTaken() { taken.removeAll() }

  /// As `cell(of:)`, without counting what does not fit again.
  mutating func cell(of key: CellKey, counted: Bool) -> Int {
    let (others, facts) = (dimensions.otherFacts, overflowFacts)
    let cell = cell(of: key)
    if !counted {
      dimensions.otherFacts = others
      overflowFacts = facts
    }
    return cell
  }

  /// Adds another table's cells (another task's, another file's). Overflow is added up too.
  public mutating func merge(_ other: borrowing CellTable) {
    precondition(other.dimensionCount == dimensionCount)
    for cell in 0..<other.cellCount {
      let values = other.values(cell)
      guard !values.isZero else { continue }
      let target = self.cell(of: other.key(cell), counted: false)
      add(values, to: target)
    }
    for at in 0..<dimensionCount { dimensions.otherFacts[at] += other.dimensions.otherFacts[at] }
    overflowFacts += other.overflowFacts
  }

  // MARK: - State

  /// Version of the format.
  public static let stateVersion: UInt8 = 1

  /// Writes the whole state: values in the order of their numbers and cells in the order in which they came to be, so
  /// that it costs little more than copying. Equal contents have an equal `digest`; their bytes may differ.
  public func export(into writer: inout ByteWriter) {
    assert(pendingCount == 0)
    writer.write(CellTable.stateVersion)
    writer.write(UInt8(dimensionCount))
    writer.write(UInt8(CellValues.count))
    writer.write(Int32(0))
    writer.write(overflowFacts)
    for at in 0..<dimensionCount {
      writer.write(dimensions.otherFacts[at])
      writer.writeVarint(UInt64(dimensions.values[at].count))
      for value in dimensions.values[at] { writer.write(text: value.text) }
    }
    writer.writeVarint(UInt64(cellCount))
    // Zero cells too: they hold a place under the bound, which decides where later facts go.
    for cell in 0..<cellCount {
      let header = header(cell).pointee
      for at in 0..<dimensionCount { writer.writeVarint(UInt64(CellTable.number(header, at))) }
      writer.write(header.currency)
      writer.write(header.isBase | header.isChanged << 1)
      writer.write(header.period)
      let disputed = disputed(cell)
      CellValues.write(into: &writer) {
        $0 < CellValues.denseCount ? value(cell, $0) : disputed?[$0 - CellValues.denseCount] ?? 0
      }
    }
    writer.write(digest)
  }

  @inline(__always)
  private static func number(_ header: Header, _ at: Int) -> UInt16 {
    UInt16(truncatingIfNeeded: (at < 4 ? header.low : header.high) >> UInt64(16 * (at & 3)))
  }

  /// The state that `export` wrote. Limits are the caller's; a table that holds more keeps what it holds.
  public static func restored(
    from reader: inout ByteReader, limits: Limits = Limits()
  ) throws(ByteCodingError) -> CellTable {
    let head = try StateHead(from: &reader)
    var wide = limits
    wide.cells = max(limits.cells, head.cells)
    wide.valuesByDimension = head.texts.enumerated().map { max(limits.values(of: $0.offset), $0.element.count) }
    var table = CellTable(dimensionCount: head.texts.count, limits: wide)
    try table.fill(head, from: &reader)
    table.limits = limits
    table.lacksDisputes = !head.hasDisputes
    table.dimensions.limits = head.texts.indices.map(limits.values)
    return table
  }

  private mutating func fill(_ head: StateHead, from reader: inout ByteReader) throws(ByteCodingError) {
    for (at, known) in head.texts.enumerated() {
      for (place, value) in known.enumerated() {
        var text = value
        let number = text.withUTF8 { dimensions.number(at, ByteView($0), sign: 0) }
        guard Int(number) == place + 2 else { throw ByteCodingError("the value '\(value)' of a dimension comes twice") }
      }
      dimensions.otherFacts[at] = head.others[at]
    }
    overflowFacts = head.overflowFacts
    for _ in 0..<head.cells {
      var (low, high): (UInt64, UInt64) = (0, 0)
      for at in 0..<dimensionCount {
        let number = UInt64(try reader.readCount(atMost: dimensions.values[at].count + 1))
        if at < 4 { low |= number << UInt64(16 * at) } else { high |= number << UInt64(16 * (at - 4)) }
      }
      let currency: UInt16 = try reader.read()
      let flags: UInt8 = try reader.read()
      let period: Int32 = try reader.read()
      guard currency < 1 << 15, flags < 4 else { throw ByteCodingError("a cell of no currency") }
      guard find(low, high, currency, flags & 1, period) < 0 else { throw ByteCodingError("a cell comes twice") }
      let cell = append(low, high, currency, flags & 1, period)
      let values = try CellValues(from: &reader)
      for sum in 0..<CellValues.count where values.sums[sum] != 0 { add(values.sums[sum], to: cell, sum) }
      if flags & 2 != 0 { markChanged(cell) }
    }
    let stated: UInt64 = try reader.read()
    guard digest == stated else { throw ByteCodingError("the aggregates are not those that were written") }
  }
}

/// What stands before the cells.
private struct StateHead {
  var overflowFacts: Int64
  var hasDisputes: Bool
  var others: [Int64] = []
  var texts: [[String]] = []
  var cells: Int

  init(from reader: inout ByteReader) throws(ByteCodingError) {
    guard try reader.read(UInt8.self) == CellTable.stateVersion else {
      throw ByteCodingError("aggregates of another version")
    }
    let dimensionCount = Int(try reader.read(UInt8.self))
    guard dimensionCount <= maximumDimensions else { throw ByteCodingError("aggregates of too many dimensions") }
    // Sums that were added later are zero in an older state.
    let count = Int(try reader.read(UInt8.self))
    guard (CellValues.firstCount...CellValues.count).contains(count) else {
      throw ByteCodingError("aggregates of another number of sums")
    }
    hasDisputes = count > CellValues.denseCount
    // The place of a period that no version has set.
    guard try reader.read(Int32.self) == 0 else { throw ByteCodingError("aggregates with folded periods") }
    overflowFacts = try reader.read()
    for _ in 0..<dimensionCount {
      others.append(try reader.read())
      var known: [String] = []
      for _ in 0..<(try reader.readCount(atMost: DimensionTable.maximumValues)) {
        let text = try reader.readText()
        guard !text.isEmpty, text.utf8.count <= DimensionTable.maximumTextBytes, text != CellKey.other else {
          throw ByteCodingError("a value of a dimension that cannot be")
        }
        known.append(text)
      }
      texts.append(known)
    }
    // A cell takes nine bytes at least.
    cells = try reader.readCount(atMost: (reader.count - reader.offset) / 9)
  }
}
