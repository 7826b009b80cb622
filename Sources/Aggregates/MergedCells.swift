import Domain

/// The cells of all tasks together: the second stage.
///
/// A task tells the sums of a cell whenever they have changed, cumulatively, with its epoch. Here the newest of each
/// task counts, so that a repetition or an old message changes nothing, and reading the compacted topic from the
/// beginning is the whole recovery. As many cells are held as the tasks hold, who are bounded.
public struct MergedCells: Sendable {
  public struct Line: Hashable, Sendable {
    public var key: CellKey
    public var values: CellValues
    /// Rises with every change of the cell. The sum over the tasks of the epoch of their newest partial: the same
    /// after a restart, whatever was read in between.
    public var revision: UInt64
    /// Tasks that hold a part of it.
    public var tasks: Int
  }

  private struct Part: Sendable {
    var task: Int32
    var epoch: UInt64
    var values: CellValues
  }

  private struct Cell: Sendable {
    var sum = CellValues()
    var parts: [Part] = []
    var line: (values: CellValues, revision: UInt64, tasks: Int) {
      (sum, parts.reduce(0) { $0 &+ $1.epoch }, parts.count)
    }
  }

  private var cells: [CellKey: Cell] = [:]
  /// By series: its periods.
  private var periods: [CellKey: Set<Int32>] = [:]
  private var changed: Set<CellKey> = []

  public init() {}

  public var count: Int { cells.count }

  /// Takes a task's partial in.
  /// - Returns: whether it was newer than what was known of that task.
  @discardableResult
  public mutating func apply(task: Int32, epoch: UInt64, key: CellKey, values: CellValues) -> Bool {
    var cell = cells[key] ?? Cell()
    cells[key] = nil
    defer { cells[key] = cell }
    if let at = cell.parts.firstIndex(where: { $0.task == task }) {
      guard cell.parts[at].epoch < epoch else { return false }
      cell.sum -= cell.parts[at].values
      cell.parts[at] = Part(task: task, epoch: epoch, values: values)
    } else {
      if cell.parts.isEmpty { periods[key.series, default: []].insert(key.period) }
      cell.parts.append(Part(task: task, epoch: epoch, values: values))
    }
    cell.sum += values
    changed.insert(key)
    return true
  }

  /// The cells that have changed since the last call, by key.
  public mutating func takeChanged() -> [Line] {
    defer { changed.removeAll(keepingCapacity: true) }
    return changed.sorted().map { line($0) }
  }

  public var hasChanges: Bool { !changed.isEmpty }

  /// All cells, by key.
  public var lines: [Line] { cells.keys.sorted().map { line($0) } }

  private func line(_ key: CellKey) -> Line {
    let made = cells[key]!.line
    return Line(key: key, values: made.values, revision: made.revision, tasks: made.tasks)
  }

  /// The lines of a series by period: the balances of each depend on those before it.
  public func series(of key: CellKey) -> [Line] {
    (periods[key.series] ?? []).sorted().map { period in
      var own = key
      own.period = period
      return line(own)
    }
  }
}

/// One task's sums of a cell on their way to the second stage.
public struct CellPartial: Hashable, Sendable {
  public var task: Int32
  public var epoch: UInt64
  public var line: CellLine

  public init(task: Int32, epoch: UInt64, line: CellLine) {
    self.task = task
    self.epoch = epoch
    self.line = line
  }

  static let marker: UInt8 = 0xc1

  /// Key of the message: marker, task, cell. The topic is compacted by it.
  public func writeKey(into writer: inout ByteWriter) {
    writer.write(CellPartial.marker)
    writer.write(task)
    line.key.write(into: &writer)
  }

  public func writeValue(into writer: inout ByteWriter) {
    writer.write(CellTable.stateVersion)
    writer.write(epoch)
    line.values.write(into: &writer)
  }

  /// Whether a message's key is that of a partial cell.
  public static func isKey(_ bytes: UnsafeRawBufferPointer) -> Bool { bytes.first == marker }

  public init(key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer) throws(ByteCodingError) {
    var reader = ByteReader(key)
    guard try reader.read(UInt8.self) == CellPartial.marker else { throw ByteCodingError("no partial cell") }
    task = try reader.read()
    let cell = try CellKey(from: &reader)
    var values = ByteReader(value)
    guard try values.read(UInt8.self) == CellTable.stateVersion else {
      throw ByteCodingError("a partial cell of another version")
    }
    epoch = try values.read()
    line = CellLine(key: cell, values: try CellValues(from: &values))
    guard reader.isAtEnd, values.isAtEnd else { throw ByteCodingError("a partial cell with more behind it") }
  }

  /// All parts of a series meet in one partition: balances go over its periods.
  public func partition(of count: Int) -> Int32 {
    var writer = ByteWriter(capacity: 128)
    line.key.series.write(into: &writer)
    return Int32(Fingerprint(writer.view).high % UInt64(max(1, count)))
  }
}
