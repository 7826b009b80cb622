import Domain

/// What of a task's aggregates a configuration decides.
public struct AggregateSettings: Sendable, Equatable {
  public var limits = CellTable.Limits()
  /// How long changes are gathered before the second stage is told of them, by the clock readings of the task.
  public var interval_ms: Int64 = 1_000

  public init() {}
}

/// The aggregates of one task with what it has told of them: the table, the calendar, and the cadence.
///
/// Like the matcher it reads no clock: the time is an argument, so that a replay tells the same cells in the same epochs.
public struct TaskAggregates: ~Copyable {
  public private(set) var table: CellTable
  public let calendar: PeriodCalendar
  private let interval_ms: Int64
  private var toldAt_ms = Int64.min
  private var toldBefore_ms = Int64.min

  public init(
    dimensionCount: Int, settings: AggregateSettings = AggregateSettings(), calendar: PeriodCalendar = .months
  ) {
    table = CellTable(dimensionCount: dimensionCount, limits: settings.limits)
    self.calendar = calendar
    interval_ms = settings.interval_ms
  }

  @inline(__always)
  public mutating func add(_ fact: borrowing AggregateInput, sign: Int) { table.add(fact, sign: sign) }

  /// Whether there is something to tell, and the interval is over.
  public func isDue(now_ms: Int64) -> Bool {
    table.hasChanges && (toldAt_ms == .min || now_ms - toldAt_ms >= interval_ms)
  }

  /// The cells to tell now, by key; none where it is not due.
  public mutating func tell(now_ms: Int64) -> [CellLine] {
    toldBefore_ms = toldAt_ms
    guard isDue(now_ms: now_ms) else {
      table.forgetTaken()
      return []
    }
    toldAt_ms = now_ms
    return table.takeChanged()
  }

  /// What `tell` just returned was not sent after all: it is told again.
  public mutating func untell() {
    table.untakeChanged()
    toldAt_ms = toldBefore_ms
  }

  /// Of everything that decides what is told next.
  public var digest: UInt64 { table.digest &+ UInt64(bitPattern: toldAt_ms) &* 0x9e37_79b9_7f4a_7c15 }

  public func export(into writer: inout ByteWriter) {
    writer.write(toldAt_ms)
    table.export(into: &writer)
  }

  /// The state that `export` wrote, under the settings of now.
  public mutating func restore(
    from reader: inout ByteReader, settings: AggregateSettings
  ) throws(ByteCodingError) {
    let told: Int64 = try reader.read()
    let restored = try CellTable.restored(from: &reader, limits: settings.limits)
    guard restored.dimensionCount == table.dimensionCount else {
      throw ByteCodingError("aggregates of other dimensions")
    }
    table = restored
    toldAt_ms = told
    toldBefore_ms = told
  }
}
