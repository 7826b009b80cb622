import Domain

/// What of the counts of quality a configuration decides.
public struct QualitySettings: Sendable, Equatable {
  /// How long changes are gathered before the second stage is told of them, by the clock readings of the task.
  public var interval_ms: Int64 = 10_000
  /// Periods of a source that are kept apart; what comes later in other ones is `(other)`. Twenty years of months.
  public var maximumPeriods = 240

  public init() {}
}

/// How well the sources of one task tie out: counts by source and calendar month of event time, and what has been told of
/// them.
///
/// Part of the task's state like the aggregates: it reads no clock, a replay counts and tells the same, and its bytes
/// are a pure function of what was counted. A count costs an addition: records of one source mostly follow each other
/// within a month, and the cell of the last one is looked at first.
public struct TaskQuality: ~Copyable {
  private struct Last {
    var start_ms: Int64 = .max
    var end_ms: Int64 = .min
    var cell = 0
    /// Place of the sums of the cell and currency that were added to last, −1 for none.
    var amount: Int32 = -1
  }

  /// Sums of one currency of a cell; those of a cell are linked.
  private struct Amount {
    var currency: Currency
    var cell: Int32
    var next: Int32
    var total: Int128 = 0
    var matched: Int128 = 0
  }

  private let settings: QualitySettings
  private let sourceCount: Int
  private let lasts: UnsafeMutablePointer<Last>
  /// `QualityCounts.width` numbers a cell.
  private var sums: UnsafeMutablePointer<Int64>
  private var isChanged: UnsafeMutablePointer<Bool>
  private var capacity: Int
  /// By cell: the first of its sums, −1 for none.
  private var firstAmounts: [Int32] = []
  private var amounts: UnsafeMutablePointer<Amount>
  private var amountCount = 0
  private var amountCapacity: Int
  /// What is in open breaks, by currency, without zeros.
  private var openAmounts: [OpenAmount] = []
  private var toldControl = QualityControl()
  private var keys: [QualityKey] = []
  private var places: [QualityKey: Int] = [:]
  private var periods: [Int]
  private var toldAt_ms = Int64.min
  /// How far event time had come, as last told: the task's watermark, then the latest time of each source.
  private var toldTimes: [Int64] = []
  private var before: (at_ms: Int64, times: [Int64], taken: [Int], control: QualityControl)

  /// What the second stage is to be told.
  public struct Told: Sendable, Equatable {
    /// What has changed, by key.
    public var lines: [(key: QualityKey, counts: QualityCounts)] = []
    /// How the task stands over all sources, where that has changed.
    public var control: QualityControl?
    /// The control totals of the periods of which something has changed.
    public var periods: [(period: Int32, control: QualityControl)] = []
    /// How the orders of the sources stand of which something has changed.
    public var sources: [(source: UInt16, control: QualityControl)] = []
    /// How far event time has come, where that is to be told.
    public var times: [Int64]?

    public static func == (a: Told, b: Told) -> Bool {
      a.times == b.times && a.control == b.control && a.lines.elementsEqual(b.lines) { $0 == $1 }
        && a.periods.elementsEqual(b.periods) { $0 == $1 } && a.sources.elementsEqual(b.sources) { $0 == $1 }
    }
  }

  public init(sourceCount: Int, settings: QualitySettings = QualitySettings()) {
    self.settings = settings
    self.sourceCount = sourceCount
    lasts = .allocate(capacity: max(1, sourceCount))
    lasts.initialize(repeating: Last(), count: max(1, sourceCount))
    capacity = 8
    sums = .allocate(capacity: capacity * QualityCounts.width)
    isChanged = .allocate(capacity: capacity)
    amountCapacity = 8
    amounts = .allocate(capacity: amountCapacity)
    before = (.min, [], [], QualityControl())
    periods = Array(repeating: 0, count: sourceCount)
  }

  deinit {
    lasts.deallocate()
    sums.deallocate()
    isChanged.deallocate()
    amounts.deallocate()
  }

  // MARK: - Counting

  @inline(__always)
  public mutating func add(_ column: QualityColumn, _ amount: Int64 = 1, source: UInt16, time_ms: Int64) {
    add(amount, at: column.rawValue, source, time_ms)
  }

  /// A record of a source that went to dead letters; its event time is not known.
  /// - Parameter time_ms: When it was written into the source, `.min` where nobody knows.
  public mutating func add(_ reason: DataFaultReason, source: UInt16, time_ms: Int64) {
    add(1, at: QualityCounts.place(of: reason), source, time_ms)
  }

  /// A record is taken in.
  @inline(__always)
  public mutating func take(source: UInt16, time_ms: Int64, isMatched: Bool, isLate: Bool) {
    let sums = touched(source, time_ms)
    sums[QualityColumn.records.rawValue] &+= 1
    sums[QualityColumn.matched.rawValue] &+= isMatched ? 1 : 0
    if isLate { sums[QualityColumn.late.rawValue] &+= 1 }
  }

  /// A record that was there finds its counterpart, at an event time.
  @inline(__always)
  public mutating func meet(source: UInt16, time_ms: Int64, at meeting_ms: Int64) {
    let sums = touched(source, time_ms)
    sums[QualityColumn.matched.rawValue] &+= 1
    let wait_ms = Int64(clamping: (meeting_ms &- time_ms).magnitude)
    sums[QualityCounts.firstWait &+ QualityCounts.bucket(wait_ms)] &+= 1
  }

  /// Adds to the value taken in of a source at a time, and to the part of it that is matched; or takes back.
  @inline(__always)
  public mutating func add(
    total: Int128, matched: Int128, _ currency: Currency, source: UInt16, time_ms: Int64
  ) {
    let cell = touchedCell(source, time_ms)
    let last = lasts + Int(source)
    var place = Int(last.pointee.amount)
    if place < 0 || amounts[place].currency != currency || amounts[place].cell != Int32(truncatingIfNeeded: cell) {
      place = amountPlace(cell, currency)
      last.pointee.amount = Int32(truncatingIfNeeded: place)
    }
    amounts[place].total += total
    amounts[place].matched += matched
  }

  /// The sums of a cell and currency: a few at the most, one behind the other.
  @inline(never)
  private mutating func amountPlace(_ cell: Int, _ currency: Currency) -> Int {
    var place = firstAmounts[cell]
    while place >= 0 {
      if amounts[Int(place)].currency == currency { return Int(place) }
      place = amounts[Int(place)].next
    }
    if amountCount == amountCapacity {
      let more = UnsafeMutablePointer<Amount>.allocate(capacity: 2 * amountCapacity)
      more.moveInitialize(from: amounts, count: amountCount)
      amounts.deallocate()
      (amounts, amountCapacity) = (more, 2 * amountCapacity)
    }
    (amounts + amountCount).initialize(to: Amount(currency: currency, cell: Int32(cell), next: firstAmounts[cell]))
    firstAmounts[cell] = Int32(amountCount)
    amountCount += 1
    return amountCount - 1
  }

  /// Adds to the value in open breaks, or takes back.
  /// - Parameter opened_s: Since when the break has been open, in seconds since 1970; 0 where that is not known.
  public mutating func addOpen(_ amount: Int128, _ currency: Currency, opened_s: UInt32) {
    openAmounts.add(
      OpenAmount(
        currency: currency, total: amount, aged: opened_s == 0 ? 0 : amount, openedAt_s: amount * Int128(opened_s)))
  }

  @inline(__always)
  private mutating func add(_ amount: Int64, at column: Int, _ source: UInt16, _ time_ms: Int64) {
    touched(source, time_ms)[column] &+= amount
  }

  /// The numbers of a source at a time, which are about to change.
  @inline(__always)
  private mutating func touched(_ source: UInt16, _ time_ms: Int64) -> UnsafeMutablePointer<Int64> {
    let cell = touchedCell(source, time_ms)
    return sums + cell &* QualityCounts.width
  }

  @inline(__always)
  private mutating func touchedCell(_ source: UInt16, _ time_ms: Int64) -> Int {
    let last = lasts + Int(source)
    let cell =
      time_ms >= last.pointee.start_ms && time_ms < last.pointee.end_ms
      ? last.pointee.cell : self.cell(source, time_ms)
    isChanged[cell] = true
    return cell
  }

  /// Years 0001 to 9999; what lies outside has no period.
  private static let knownTimes = -62_135_596_800_000..<Int64(253_402_300_800_000)

  @inline(never)
  private mutating func cell(_ source: UInt16, _ time_ms: Int64) -> Int {
    precondition(Int(source) < sourceCount)
    guard TaskQuality.knownTimes.contains(time_ms) else {
      return cell(QualityKey(source: source, period: CellTable.unknownPeriod))
    }
    let (year, month, _) = civilFromDays(Int(day(ofMilliseconds: time_ms)))
    let first = daysFromCivil(year: year, month: month, day: 1)
    let found = cell(QualityKey(source: source, period: Int32(year * 100 + month)))
    lasts[Int(source)] = Last(
      start_ms: Int64(first) * millisecondsPerDay,
      end_ms: Int64(first + daysInMonth(year: year, month: month)) * millisecondsPerDay, cell: found)
    return found
  }

  private mutating func cell(_ key: QualityKey) -> Int {
    if let known = places[key] { return known }
    if key.period > 0, key.period != CellTable.unknownPeriod, key.period != CellTable.overflowPeriod {
      guard periods[Int(key.source)] < settings.maximumPeriods else {
        return cell(QualityKey(source: key.source, period: CellTable.overflowPeriod))
      }
      periods[Int(key.source)] += 1
    }
    if keys.count == capacity { grow() }
    places[key] = keys.count
    keys.append(key)
    (sums + (keys.count - 1) * QualityCounts.width).initialize(repeating: 0, count: QualityCounts.width)
    (isChanged + (keys.count - 1)).initialize(to: false)
    firstAmounts.append(-1)
    return keys.count - 1
  }

  private mutating func grow() {
    let (moreSums, moreChanged) = (
      UnsafeMutablePointer<Int64>.allocate(capacity: 2 * capacity * QualityCounts.width),
      UnsafeMutablePointer<Bool>.allocate(capacity: 2 * capacity)
    )
    moreSums.update(from: sums, count: capacity * QualityCounts.width)
    moreChanged.update(from: isChanged, count: capacity)
    sums.deallocate()
    isChanged.deallocate()
    (sums, isChanged, capacity) = (moreSums, moreChanged, 2 * capacity)
  }

  private func counts(_ cell: Int) -> QualityCounts {
    QualityCounts(sums + cell * QualityCounts.width, amounts: amounts(cell))
  }

  /// By currency, without those that are zero.
  private func amounts(_ cell: Int) -> [QualityAmount] {
    var found: [QualityAmount] = []
    var place = firstAmounts[cell]
    while place >= 0 {
      let amount = amounts[Int(place)]
      found.add(QualityAmount(currency: amount.currency, total: amount.total, matched: amount.matched))
      place = amount.next
    }
    return found
  }

  private func isZero(_ cell: Int) -> Bool {
    for at in 0..<QualityCounts.width where sums[cell * QualityCounts.width + at] != 0 { return false }
    return amounts(cell).isEmpty
  }

  /// Puts what is in open breaks into the lines of its currencies.
  public func tellOpen(_ control: inout QualityControl) {
    for amount in openAmounts {
      control.update(amount.currency) {
        ($0.open, $0.aged, $0.openedAt_s) = (amount.total, amount.aged, amount.openedAt_s)
      }
    }
  }

  /// Everything that was counted, by key.
  public var lines: [(key: QualityKey, counts: QualityCounts)] { makeLines() }

  /// `lines`, for a value behind an optional, whose properties cannot be read without taking it.
  public func makeLines() -> [(key: QualityKey, counts: QualityCounts)] {
    keys.indices.filter { !isZero($0) }.map { (keys[$0], counts($0)) }.sorted { $0.key < $1.key }
  }

  // MARK: - Telling

  private var hasChanges: Bool {
    for cell in keys.indices where isChanged[cell] { return true }
    return false
  }

  /// Whether the interval is over: what is told of all sources is wanted then.
  public func isDue(now_ms: Int64) -> Bool { toldAt_ms == .min || now_ms - toldAt_ms >= settings.interval_ms }

  /// What to tell now; nothing where it is not due. Times go along with counts, and by themselves once a day of event
  /// time, so that a period without late data still becomes final.
  /// - Parameters:
  ///   - times: The task's watermark, then the latest event time of each source; `Int64.min` for none yet.
  ///   - control: How the task stands over all sources; nil where that is not to be told, or not due.
  ///   - hasMore: Whether the caller tells something with it, although nothing else may have changed.
  public mutating func tell(
    now_ms: Int64, times: [Int64], control: QualityControl? = nil, hasMore: Bool = false
  ) -> Told {
    before = (toldAt_ms, toldTimes, [], toldControl)
    var told = Told()
    let changed = control.flatMap { $0 == toldControl ? nil : $0 }
    if changed != nil || hasChanges || hasMore, isDue(now_ms: now_ms) {
      toldAt_ms = now_ms
      if let changed { (toldControl, told.control) = (changed, changed) }
      for cell in keys.indices.sorted(by: { keys[$0] < keys[$1] }) where isChanged[cell] {
        isChanged[cell] = false
        before.taken.append(cell)
        told.lines.append((keys[cell], counts(cell)))
      }
    }
    let watermark_ms = times.first ?? .min
    let isNewDay =
      watermark_ms > .min
      && toldTimes.first.map { day(ofMilliseconds: $0) != day(ofMilliseconds: watermark_ms) } ?? true
    if times != toldTimes, isNewDay || !told.lines.isEmpty || told.control != nil || hasMore {
      toldTimes = times
      told.times = times
    }
    return told
  }

  /// What `tell` just returned was not sent after all: it is told again.
  public mutating func untell() {
    for cell in before.taken { isChanged[cell] = true }
    (toldAt_ms, toldTimes, toldControl) = (before.at_ms, before.times, before.control)
    before.taken = []
  }

  // MARK: - State

  /// 1 counted records alone; 2 had neither control totals by role nor the age of breaks, 3 not their number.
  static let stateVersion = QualityPartial.version

  /// The same counts give the same bytes, whichever way they came to be: a cell that is zero and not to be told is none.
  public func export(into writer: inout ByteWriter) {
    writer.write(TaskQuality.stateVersion)
    writer.write(toldAt_ms)
    writer.writeVarint(UInt64(toldTimes.count))
    for time in toldTimes { writer.write(time) }
    let kept = keys.indices.filter { isChanged[$0] || !isZero($0) }.sorted { keys[$0] < keys[$1] }
    writer.writeVarint(UInt64(kept.count))
    for cell in kept {
      writer.write(keys[cell].source)
      writer.write(keys[cell].period)
      writer.write(UInt8(isChanged[cell] ? 1 : 0))
      QualityCounts.write(sums + cell * QualityCounts.width, into: &writer)
      amounts(cell).write(into: &writer)
    }
    openAmounts.write(into: &writer)
    toldControl.write(into: &writer)
  }

  /// Takes the place of everything counted. Sources that the configuration no longer has are left out.
  public mutating func restore(from reader: inout ByteReader) throws(ByteCodingError) {
    let version: UInt8 = try reader.read()
    guard (1...TaskQuality.stateVersion).contains(version) else {
      throw ByteCodingError("counts of quality of another version")
    }
    clear()
    toldAt_ms = try reader.read()
    for _ in 0..<(try reader.readCount(atMost: 1 << 16)) { toldTimes.append(try reader.read()) }
    for _ in 0..<(try reader.readCount(atMost: 1 << 24)) {
      let key = QualityKey(source: try reader.read(), period: try reader.read())
      let isToTell = try reader.read(UInt8.self) != 0
      let counts = try QualityCounts(from: &reader, hasAmounts: version > 1)
      guard Int(key.source) < sourceCount else { continue }
      let cell = cell(key)
      for at in 0..<QualityCounts.width { sums[cell * QualityCounts.width + at] += counts.sums[at] }
      for amount in counts.amounts {
        let place = amountPlace(cell, amount.currency)
        amounts[place].total += amount.total
        amounts[place].matched += amount.matched
      }
      if isToTell { isChanged[cell] = true }
    }
    if version > 1 {
      if version > 2 {
        openAmounts = try [OpenAmount](from: &reader)
      } else {
        for old in try [QualityAmount](from: &reader) {
          openAmounts.add(OpenAmount(currency: old.currency, total: old.total))
        }
      }
      toldControl = try QualityControl(from: &reader, version: version)
    }
    before = (toldAt_ms, toldTimes, [], toldControl)
  }

  private mutating func clear() {
    keys = []
    places = [:]
    periods = Array(repeating: 0, count: sourceCount)
    lasts.update(repeating: Last(), count: max(1, sourceCount))
    toldAt_ms = .min
    toldTimes = []
    firstAmounts = []
    amountCount = 0
    openAmounts = []
    toldControl = QualityControl()
    before = (.min, [], [], toldControl)
  }
}
