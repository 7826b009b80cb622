import Domain

/// What of a task's aggregates a configuration decides.
public struct AggregateSettings: Sendable, Equatable {
  public var limits = CellTable.Limits()
  /// How long changes are gathered before the second stage is told of them, by the clock readings of the task.
  public var interval_ms: Int64 = 1_000
  /// Whether quantities are added up too.
  public var countsQuantities = false
  /// Dimensions that a posting without a value of its own has from its order, a bit each; bits beyond the configured
  /// ones mean nothing.
  public var inheritedDimensions: UInt8 = .max

  public init() {}

  /// Those of them that are configured.
  public func inheritedDimensions(of dimensionCount: Int) -> UInt8 {
    inheritedDimensions & UInt8(truncatingIfNeeded: 1 << dimensionCount - 1)
  }
}

/// The aggregates of one task with what it has told of them: the table, the calendar, and the cadence.
///
/// Like the matcher it reads no clock: the time is an argument, so that a replay tells the same cells in the same epochs.
public struct TaskAggregates: ~Copyable {
  public private(set) var table: CellTable
  /// Where it changes, facts are taken back by the new one.
  public var calendar: PeriodCalendar
  private let countsQuantities: Bool
  private let interval_ms: Int64
  private var toldAt_ms = Int64.min
  /// How far event time had come, as last told: the task's watermark, then the latest time of each source.
  private var toldTimes: [Int64] = []
  private var before: (at_ms: Int64, times: [Int64]) = (.min, [])

  /// What the second stage is to be told.
  public struct Told: Sendable, Equatable {
    /// Cells that have changed, by key.
    public var lines: [CellLine] = []
    /// How far event time has come, where that is to be told.
    public var times: [Int64]?
  }

  public init(
    dimensionCount: Int, settings: AggregateSettings = AggregateSettings(), calendar: PeriodCalendar = .months
  ) {
    table = CellTable(dimensionCount: dimensionCount, limits: settings.limits)
    self.calendar = calendar
    interval_ms = settings.interval_ms
    countsQuantities = settings.countsQuantities
  }

  /// Takes a fact in; `settle` adds up what has been taken in, and must be called before anything else is asked.
  @inline(__always)
  public mutating func add(_ fact: borrowing AggregateInput, sign: Int) { table.addLater(fact, sign: sign) }

  /// Takes releases of deferred revenue in, which a schedule makes of a fact, in minor units of the fact's currency.
  public mutating func add(
    releases: [(period: Int32, amount: Int64)], of fact: borrowing AggregateInput, sign: Int
  ) {
    table.addLater(releases: releases, of: fact, sign: sign)
  }

  /// As of `CellTable`.
  public mutating func add(disputed amount: Int64?, _ role: AccountRole, of fact: borrowing AggregateInput, sign: Int) {
    table.add(disputed: amount, role, of: fact, sign: sign)
  }

  @inline(__always)
  public mutating func settle() { table.settle() }

  /// As `add`, with periods by the calendar: of the day of the event or document, and of the posting date, or as the
  /// ledger states it (0: it does not).
  @inline(__always)
  public mutating func add(
    _ fact: inout AggregateInput, eventDay: Int32, postingDay: Int32, statedPeriod: Int32, sign: Int
  ) {
    if !countsQuantities { fact.quantity_u = 0 }
    fact.eventPeriod = calendar.period(ofDay: eventDay)
    fact.postingPeriod =
      statedPeriod != 0
      ? calendar.period(entered: statedPeriod)
      : postingDay == eventDay ? fact.eventPeriod : calendar.period(ofDay: postingDay)
    table.addLater(fact, sign: sign)
  }

  /// Whether there is something to tell, and the interval is over.
  public func isDue(now_ms: Int64) -> Bool {
    table.hasChanges && (toldAt_ms == .min || now_ms - toldAt_ms >= interval_ms)
  }

  /// What to tell now; nothing where it is not due.
  ///
  /// Times go along with cells, and by themselves once a day of event time, so that a period without late data still
  /// becomes final.
  /// - Parameter times: The task's watermark, then the latest event time of each source; `Int64.min` for none yet.
  public mutating func tell(now_ms: Int64, times: [Int64] = []) -> Told {
    before = (toldAt_ms, toldTimes)
    var told = Told()
    if isDue(now_ms: now_ms) {
      toldAt_ms = now_ms
      told.lines = table.takeChanged()
    } else {
      table.forgetTaken()
    }
    let watermark_ms = times.first ?? .min
    let isNewDay =
      watermark_ms > .min
      && toldTimes.first.map { day(ofMilliseconds: $0) != day(ofMilliseconds: watermark_ms) } ?? true
    if times != toldTimes, isNewDay && !times.isEmpty && watermark_ms > .min || !told.lines.isEmpty {
      toldTimes = times
      told.times = times
    }
    return told
  }

  /// What `tell` just returned was not sent after all: it is told again.
  public mutating func untell() {
    table.untakeChanged()
    (toldAt_ms, toldTimes) = before
  }

  /// `count` and `overflow` of the table, for a value behind an optional.
  public func counts() -> (cells: Int, overflow: CellTable.Overflow) { (table.count, table.overflow) }

  /// Of everything that decides what is told next.
  public var digest: UInt64 { makeDigest() }

  /// `digest`, for a value behind an optional, whose properties cannot be read without taking it.
  public func makeDigest() -> UInt64 {
    var digest = table.digest &+ UInt64(bitPattern: toldAt_ms) &* 0x9e37_79b9_7f4a_7c15
    for time in toldTimes { digest = (digest ^ UInt64(bitPattern: time)) &* 0xd1b5_4a32_d192_ed03 &+ 1 }
    return digest
  }

  /// Adds the cells to another table.
  public func merge(into other: inout CellTable) { other.merge(table) }

  public func export(into writer: inout ByteWriter) {
    writer.write(toldAt_ms)
    writer.writeVarint(UInt64(toldTimes.count))
    for time in toldTimes { writer.write(time) }
    table.export(into: &writer)
  }

  /// The state that `export` wrote, under the settings of now.
  /// - Returns: whether it knows of what was in dispute; one that an earlier version wrote does not.
  @discardableResult
  public mutating func restore(
    from reader: inout ByteReader, settings: AggregateSettings
  ) throws(ByteCodingError) -> Bool {
    let told: Int64 = try reader.read()
    var times: [Int64] = []
    for _ in 0..<(try reader.readCount(atMost: 1 << 16)) { times.append(try reader.read()) }
    let restored = try CellTable.restored(from: &reader, limits: settings.limits)
    guard restored.dimensionCount == table.dimensionCount else {
      throw ByteCodingError(
        "aggregates of \(restored.dimensionCount) dimensions, and \(table.dimensionCount) are configured")
    }
    table = restored
    (toldAt_ms, toldTimes) = (told, times)
    before = (told, times)
    return !table.lacksDisputes
  }
}
