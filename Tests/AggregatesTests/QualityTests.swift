import Domain
import Testing

@testable import Aggregates

/// Counts by source and month.
@Suite struct QualityTests {
  func day(_ year: Int, _ month: Int, _ day: Int) -> Int64 {
    Int64(daysFromCivil(year: year, month: month, day: day)) * millisecondsPerDay
  }

  func bytes(_ quality: borrowing TaskQuality) -> [UInt8] {
    var writer = ByteWriter()
    quality.export(into: &writer)
    return writer.array
  }

  func restored(_ bytes: [UInt8], _ quality: inout TaskQuality) throws {
    try bytes.withUnsafeBytes { raw in
      var reader = ByteReader(raw)
      try quality.restore(from: &reader)
      #expect(reader.isAtEnd)
    }
  }

  @Test func monthsAreThoseOfTheCalendar() {
    var quality = TaskQuality(sourceCount: 2)
    let times: [(Int64, Int32)] = [
      (day(2024, 2, 1), 202_402), (day(2024, 3, 1) - 1, 202_402), (day(2024, 3, 1), 202_403),
      (day(2024, 1, 31), 202_401), (day(1969, 12, 31), 196_912), (day(2024, 2, 29), 202_402), (.min, 0), (.max, 0),
    ]
    for (time_ms, _) in times { quality.add(.records, source: 1, time_ms: time_ms) }
    quality.add(.schemaInvalid, source: 0, time_ms: day(2024, 2, 5))
    var expected: [Int32: Int64] = [:]
    for (_, period) in times { expected[period, default: 0] += 1 }
    let lines = quality.lines
    #expect(lines.first.map { $0.key == QualityKey(source: 0, period: 202_402) && $0.counts.deadLetters == 1 } == true)
    let own = Dictionary(
      uniqueKeysWithValues: lines.filter { $0.key.source == 1 }.map { ($0.key.period, $0.counts[.records]) })
    #expect(own == expected)
  }

  @Test func whatIsBeyondTheBoundIsOther() {
    var settings = QualitySettings()
    settings.maximumPeriods = 2
    var quality = TaskQuality(sourceCount: 2, settings: settings)
    for month in 1...5 {
      quality.add(.records, source: 0, time_ms: day(2024, month, 1))
      quality.add(.records, source: 0, time_ms: day(2024, month, 2))
    }
    quality.add(.records, source: 1, time_ms: day(2024, 5, 1))
    quality.add(.records, source: 0, time_ms: day(2024, 1, 3))
    #expect(
      quality.lines.map(\.key.period) == [202_401, 202_402, CellTable.overflowPeriod, 202_405])
    #expect(quality.lines.map { $0.counts[.records] } == [3, 2, 6, 1])
  }

  @Test func waitsFallIntoTheirBuckets() {
    // Every bucket in turn, none left out.
    var last = 0
    for wait in 0..<5_000 as Range<Int64> {
      let bucket = QualityCounts.bucket(wait)
      if bucket != last, bucket != last + 1 { Issue.record("\(wait) ms: bucket \(bucket) after \(last)") }
      last = bucket
    }
    // The longest of a bucket is never too short, and at the most a fourth too long.
    for wait in Array(0..<300) + (2..<38).flatMap({ [(1 << $0) - 1, 1 << $0, 5 << ($0 - 2)] }) as [Int64] {
      let bucket = QualityCounts.bucket(wait)
      let longest = QualityCounts.longest(bucket)
      #expect(longest >= wait && Double(longest) < Double(wait) * 1.25 + 1, "\(wait)")
      #expect(bucket == 0 || QualityCounts.longest(bucket - 1) < wait, "\(wait)")
    }
    #expect(QualityCounts.bucket(-7) == 0 && QualityCounts.bucket(.max) == QualityCounts.waitBuckets - 1)
    var counts = QualityCounts()
    #expect(counts.wait_ms(percent: 50) == nil)
    for _ in 0..<99 { counts.addWait(3) }
    counts.addWait(1_000_000)
    #expect(counts.waits == 100)
    #expect(counts.wait_ms(percent: 50) == 3 && counts.wait_ms(percent: 99) == 3)
    #expect(counts.wait_ms(percent: 100)! >= 1_000_000)
  }

  @Test func changesAreToldOnceAnInterval() {
    var settings = QualitySettings()
    settings.interval_ms = 100
    var quality = TaskQuality(sourceCount: 1, settings: settings)
    #expect(quality.tell(now_ms: 0, times: [.min, .min]) == TaskQuality.Told())
    quality.add(.records, source: 0, time_ms: day(2024, 1, 1))
    let first = quality.tell(now_ms: 10, times: [5, 6])
    #expect(first.lines.map { $0.counts[.records] } == [1] && first.times == [5, 6])
    quality.add(.records, source: 0, time_ms: day(2024, 1, 1))
    #expect(quality.tell(now_ms: 109, times: [5, 7]) == TaskQuality.Told())
    let second = quality.tell(now_ms: 110, times: [5, 7])
    #expect(second.lines.map { $0.counts[.records] } == [2] && second.times == [5, 7])
    // It was not sent after all: the same again, with what came since.
    quality.untell()
    quality.add(.matched, source: 0, time_ms: day(2024, 1, 1))
    let again = quality.tell(now_ms: 111, times: [5, 7])
    #expect(again.lines.map { $0.counts[.records] } == [2] && again.lines[0].counts[.matched] == 1)
    #expect(again.times == [5, 7])
    // Nothing has changed; a new day of event time is told by itself.
    #expect(quality.tell(now_ms: 900, times: [5, 8]) == TaskQuality.Told())
    #expect(quality.tell(now_ms: 901, times: [millisecondsPerDay, 8]).times == [millisecondsPerDay, 8])
  }

  /// However the counts came to be, and wherever a restart fell: the same bytes, and the same told next.
  @Test(arguments: Array(1...30) as [UInt64]) func theStateIsAFunctionOfTheCounts(_ seed: UInt64) throws {
    var generator = SeededGenerator(seed)
    struct Step {
      var column: QualityColumn
      var amount: Int64
      var source: UInt16
      var time_ms: Int64
      var currency: Currency
      var value: Int128
    }
    let currencies = ["EUR", "USD", "JPY"].map { Currency($0)! }
    let steps = (0..<200).map { _ in
      Step(
        column: QualityColumn.allCases.randomElement(using: &generator)!,
        amount: Bool.random(using: &generator) ? 1 : -1,
        source: UInt16.random(in: 0..<3, using: &generator),
        time_ms: day(2023, 11, 1) + Int64.random(in: 0..<300, using: &generator) * millisecondsPerDay,
        currency: currencies.randomElement(using: &generator)!,
        value: Int128.random(in: -5...5, using: &generator) << 70)
    }
    func count(_ quality: inout TaskQuality, _ steps: some Sequence<Step>) {
      for step in steps {
        quality.add(step.column, step.amount, source: step.source, time_ms: step.time_ms)
        quality.add(
          total: step.value, matched: step.value / 2, step.currency, source: step.source, time_ms: step.time_ms)
        quality.addOpen(step.value, step.currency, opened_s: 9)
      }
    }
    var straight = TaskQuality(sourceCount: 3)
    count(&straight, steps)
    var shuffled = TaskQuality(sourceCount: 3)
    count(&shuffled, steps.shuffled(using: &generator))
    #expect(bytes(straight) == bytes(shuffled))
    // A restart between two tellings.
    var whole = TaskQuality(sourceCount: 3)
    count(&whole, steps[..<100])
    _ = whole.tell(now_ms: 0, times: [1, 2, 3, 4])
    count(&whole, steps[100..<150])
    var other = TaskQuality(sourceCount: 3)
    other.add(.records, source: 0, time_ms: 0)
    try restored(bytes(whole), &other)
    #expect(bytes(other) == bytes(whole))
    count(&whole, steps[150...])
    count(&other, steps[150...])
    #expect(bytes(other) == bytes(whole))
    // The sums are those of the steps.
    var right: [String: Int128] = [:]
    for step in steps { right["\(step.source) \(step.currency)", default: 0] += step.value }
    var found: [String: Int128] = [:]
    for (key, counts) in whole.lines {
      for amount in counts.amounts { found["\(key.source) \(amount.currency)", default: 0] += amount.total }
    }
    #expect(found.filter { $0.value != 0 } == right.filter { $0.value != 0 })
    let (a, b) = (whole.tell(now_ms: 20_000, times: [1, 2, 3, 4]), other.tell(now_ms: 20_000, times: [1, 2, 3, 4]))
    #expect(a == b && !a.lines.isEmpty)
  }

  @Test func amountsAreKeptByCurrency() {
    var quality = TaskQuality(sourceCount: 2)
    let (euro, dollar) = (Currency("EUR")!, Currency("USD")!)
    let (january, february) = (day(2024, 1, 9), day(2024, 2, 9))
    // Currencies and months in turn, so that no place is the one of last time.
    for _ in 0..<20 {
      quality.add(total: 100, matched: 0, euro, source: 0, time_ms: january)
      quality.add(total: 7, matched: 7, dollar, source: 0, time_ms: january)
      quality.add(total: 1_000, matched: 0, euro, source: 0, time_ms: february)
      quality.add(total: 5, matched: 5, euro, source: 1, time_ms: january)
      quality.add(total: 1, matched: 1, euro, source: 0, time_ms: .min)
    }
    // Found later, taken back, and gone.
    quality.add(total: 0, matched: 300, euro, source: 0, time_ms: january)
    quality.add(total: -140, matched: -140, dollar, source: 0, time_ms: january)
    let found = quality.lines.map { line in
      "\(line.key.source) \(line.key.period):"
        + line.counts.amounts.map { " \($0.currency) \($0.total) \($0.matched)" }.joined()
    }
    #expect(
      found == ["0 0: EUR 20 20", "0 202401: EUR 2000 300", "0 202402: EUR 20000 0", "1 202401: EUR 100 100"])
    // Many currencies in many months: every sum has a place of its own.
    var wide = TaskQuality(sourceCount: 1)
    let codes = ["EUR", "USD", "JPY", "NOK", "SEK", "DKK", "CHF", "GBP", "PLN"].map { Currency($0)! }
    for month in 1...12 {
      for (at, currency) in codes.enumerated() {
        wide.add(total: Int128(month * 100 + at), matched: 1, currency, source: 0, time_ms: day(2024, month, 3))
      }
    }
    for (key, counts) in wide.lines {
      let right = codes.enumerated().map { ($1, Int128(Int(key.period % 100) * 100 + $0)) }.sorted { $0.0 < $1.0 }
      #expect(counts.amounts.map(\.currency) == right.map(\.0) && counts.amounts.map(\.total) == right.map(\.1))
    }
    #expect(wide.lines.count == 12)
  }

  @Test func howTheTaskStandsIsToldWhenItChanges() {
    var settings = QualitySettings()
    settings.interval_ms = 100
    var quality = TaskQuality(sourceCount: 1, settings: settings)
    var control = QualityControl()
    #expect(quality.isDue(now_ms: 0) && quality.tell(now_ms: 0, times: [1], control: control).control == nil)
    control.closedOrders = 3
    control.update(Currency("EUR")!) { $0.closed = 50 }
    let first = quality.tell(now_ms: 10, times: [1], control: control)
    #expect(first.control == control && first.lines.isEmpty)
    #expect(!quality.isDue(now_ms: 109) && quality.isDue(now_ms: 110))
    #expect(quality.tell(now_ms: 110, times: [1], control: control).control == nil)
    control.update(Currency("EUR")!) { $0.posted[3] = -4 }
    #expect(quality.tell(now_ms: 120, times: [1], control: control).control == control)
    // It was not sent after all.
    quality.untell()
    #expect(quality.tell(now_ms: 130, times: [1], control: control).control == control)
    #expect(quality.tell(now_ms: 900, times: [1], control: control).control == nil)
  }

  @Test func controlsAddUpByRole() {
    let (euro, dollar) = (Currency("EUR")!, Currency("USD")!)
    var (a, b) = (QualityControl(), QualityControl())
    (a.closedOrders, a.tiedOutOrders, b.closedOrders) = (3, 2, 4)
    a.update(dollar) { ($0.closed, $0.tiedOut, $0.posted[0], $0.expected[1]) = (10, 5, 7, 7) }
    b.update(dollar) { ($0.closed, $0.open, $0.posted[0], $0.posted[2]) = (1, 9, -7, 2) }
    a.update(dollar) { ($0.expected[3], $0.posted[3], $0.openDifference[3]) = (100, 90, -10) }
    b.update(dollar) { ($0.posted[3], $0.acceptedDifference[3]) = (4, 4) }
    b.update(euro) { $0.open = 6 }
    a += b
    #expect(a.closedOrders == 7 && a.tiedOutOrders == 2 && a.lines.map(\.currency) == [euro, dollar])
    let line = a.lines[1]
    // What two tasks lack in one role and have too much of in it is no difference.
    #expect(line.closed == 11 && line.tiedOut == 5 && line.open == 9 && line.controlDifference == 9)
    #expect(line.expected[3] == 100 && line.posted[3] == 94 && line.pending(3) == 0)
    a.update(euro) { $0.open = 0 }
    #expect(a.lines.map(\.currency) == [dollar])
  }

  /// What has gone back to zero is not in the state, where it need not be told.
  @Test func zeroIsNotExported() {
    let never = TaskQuality(sourceCount: 1)
    var gone = TaskQuality(sourceCount: 1)
    gone.add(.records, source: 0, time_ms: 5)
    gone.add(.records, -1, source: 0, time_ms: 5)
    #expect(bytes(gone) != bytes(never))  // it is still to be told
    _ = gone.tell(now_ms: .min + 1, times: [])
    #expect(gone.lines.isEmpty)
    var told = TaskQuality(sourceCount: 1)
    told.add(.records, source: 0, time_ms: 90 * millisecondsPerDay)
    told.add(.records, -1, source: 0, time_ms: 90 * millisecondsPerDay)
    _ = told.tell(now_ms: .min + 1, times: [])
    #expect(bytes(gone) == bytes(told))
  }

  /// Nor an amount that has, nor what was in open breaks.
  @Test func amountsThatAreGoneAreNotExported() {
    func make(_ value: Int128) -> [UInt8] {
      var quality = TaskQuality(sourceCount: 1)
      quality.add(.records, source: 0, time_ms: 5)
      for sign in [1, -1] as [Int128] where value != 0 {
        quality.add(total: sign * value, matched: sign * value, Currency("EUR")!, source: 0, time_ms: 5)
        quality.addOpen(sign * value, Currency("EUR")!, opened_s: 70)
        if sign > 0 {
          #expect(
            quality.lines[0].counts.amounts.count == 1 && open(quality) == ["EUR \(value) \(value) \(70 * value)"])
        }
      }
      #expect(quality.lines[0].counts.amounts.isEmpty && open(quality).isEmpty)
      return bytes(quality)
    }
    #expect(make(9) == make(0))
    // A cell with nothing but an amount stands there, and not without it.
    var alone = TaskQuality(sourceCount: 1)
    alone.add(total: 9, matched: 0, Currency("EUR")!, source: 0, time_ms: 5)
    _ = alone.tell(now_ms: 0, times: [])
    #expect(alone.lines.count == 1)
    alone.add(total: -9, matched: 0, Currency("EUR")!, source: 0, time_ms: 5)
    _ = alone.tell(now_ms: 10_000, times: [])
    var never = TaskQuality(sourceCount: 1)
    never.add(.records, 0, source: 0, time_ms: 90 * millisecondsPerDay)
    _ = never.tell(now_ms: 10_000, times: [])
    #expect(alone.lines.isEmpty && bytes(alone) == bytes(never))
  }

  func open(_ quality: borrowing TaskQuality) -> [String] {
    var control = QualityControl()
    quality.tellOpen(&control)
    return control.lines.map { "\($0.currency) \($0.open) \($0.aged) \($0.openedAt_s)" }
  }

  /// The age of what is open is weighted by amount; what was open before ages were kept has none.
  @Test func ageIsWeightedByAmount() throws {
    let (euro, dollar) = (Currency("EUR")!, Currency("USD")!)
    func age(_ quality: borrowing TaskQuality, _ currency: Currency) -> Int64? {
      var control = QualityControl()
      quality.tellOpen(&control)
      return control.lines.first { $0.currency == currency }?.weightedAge_ms(at: 1_000_000)
    }
    var quality = TaskQuality(sourceCount: 1)
    #expect(age(quality, euro) == nil)
    quality.addOpen(300, euro, opened_s: 900)
    #expect(age(quality, euro) == 100_000)
    quality.addOpen(100, euro, opened_s: 500)
    #expect(age(quality, euro) == 200_000 && age(quality, dollar) == nil)
    quality.addOpen(7, euro, opened_s: 0)
    #expect(age(quality, euro) == 200_000)
    // One task's watermark may be ahead of the others'.
    quality.addOpen(1, dollar, opened_s: 2_000)
    #expect(age(quality, dollar) == 0)
    var again = TaskQuality(sourceCount: 1)
    try restored(bytes(quality), &again)
    #expect(open(again) == open(quality) && open(quality) == ["EUR 407 400 320000", "USD 1 1 2000"])
    quality.addOpen(-300, euro, opened_s: 900)
    #expect(age(quality, euro) == 500_000)
  }

  /// The state of a version that counted records alone: the amounts begin with what comes from then on.
  @Test func anEarlierStateIsRead() throws {
    var writer = ByteWriter()
    writer.write(UInt8(1))
    writer.write(Int64.min)
    writer.write(bytes: [0, 1])
    writer.write(UInt16(0))
    writer.write(Int32(202_401))
    // To be told; one count, of records: 4.
    writer.write(bytes: [1, 1, 0, 8])
    var quality = TaskQuality(sourceCount: 1)
    quality.addOpen(3, Currency("EUR")!, opened_s: 1)
    try restored(writer.array, &quality)
    quality.add(total: 9, matched: 0, Currency("EUR")!, source: 0, time_ms: day(2024, 1, 5))
    #expect(quality.lines.map { "\($0.key.period) \($0.counts[.records])" } == ["202401 4"])
    #expect(quality.lines[0].counts.amounts == [QualityAmount(currency: Currency("EUR")!, total: 9)])
    #expect(open(quality).isEmpty)
  }

  @Test func damagedBytesAreRefused() throws {
    var quality = TaskQuality(sourceCount: 1)
    quality.add(.records, source: 0, time_ms: 5)
    quality.add(total: 9, matched: 4, Currency("EUR")!, source: 0, time_ms: 5)
    quality.addOpen(3, Currency("EUR")!, opened_s: 1)
    let good = bytes(quality)
    for length in 0..<good.count {
      var other = TaskQuality(sourceCount: 1)
      #expect(throws: ByteCodingError.self) { try restored(Array(good[..<length]), &other) }
    }
    var wrong = good
    wrong[0] = 99
    var other = TaskQuality(sourceCount: 1)
    #expect(throws: ByteCodingError.self) { try restored(wrong, &other) }
  }

  @Test func partialsSurviveTheWay() throws {
    var counts = QualityCounts()
    (counts[.records], counts[.matched], counts[.futureDated]) = (1 << 40, -3, 7)
    counts.addWait(99)
    counts.add(QualityAmount(currency: Currency("JPY")!, total: 1 << 90, matched: -5))
    let partial = QualityPartial(task: 3, epoch: 9, source: "or|ders", period: 202_401, counts: counts)
    var key = ByteWriter()
    var value = ByteWriter()
    partial.writeKey(into: &key)
    partial.writeValue(into: &value)
    #expect(QualityPartial.isKey(key.bytes) && !CellPartial.isKey(key.bytes))
    #expect(try QualityPartial(key: key.bytes, value: value.bytes) == partial)
    // A partial of a version that counted records alone.
    var earlier = partial
    earlier.counts = QualityCounts()
    earlier.counts[.records] = 4
    var old = ByteWriter()
    old.write(UInt8(1))
    old.write(earlier.epoch)
    old.write(bytes: [1, 0, 8])
    #expect(try QualityPartial(key: key.bytes, value: old.bytes) == earlier)
    // How a task stands.
    var control = QualityControl()
    (control.closedOrders, control.tiedOutOrders) = (9, 8)
    control.update(Currency("EUR")!) {
      ($0.closed, $0.tiedOut, $0.open, $0.posted[17]) = (1 << 80, 5, 4, -3)
      ($0.expected[17], $0.aged, $0.openedAt_s) = (2, 4, 4_000)
    }
    let all = QualityPartial(task: 1, epoch: 2, control: control)
    var allKey = ByteWriter()
    var allValue = ByteWriter()
    all.writeKey(into: &allKey)
    all.writeValue(into: &allValue)
    #expect(try QualityPartial(key: allKey.bytes, value: allValue.bytes) == all)
    #expect(all.source == "(all)" && all.period == QualityKey.allPeriods)
    var other = partial
    (other.task, other.epoch) = (5, 1)
    #expect(other.partition(of: 7) == partial.partition(of: 7))
  }
}
