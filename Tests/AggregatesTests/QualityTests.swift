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
    }
    let steps = (0..<200).map { _ in
      Step(
        column: QualityColumn.allCases.randomElement(using: &generator)!,
        amount: Bool.random(using: &generator) ? 1 : -1,
        source: UInt16.random(in: 0..<3, using: &generator),
        time_ms: day(2023, 11, 1) + Int64.random(in: 0..<300, using: &generator) * millisecondsPerDay)
    }
    func count(_ quality: inout TaskQuality, _ steps: some Sequence<Step>) {
      for step in steps { quality.add(step.column, step.amount, source: step.source, time_ms: step.time_ms) }
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
    let (a, b) = (whole.tell(now_ms: 20_000, times: [1, 2, 3, 4]), other.tell(now_ms: 20_000, times: [1, 2, 3, 4]))
    #expect(a == b && !a.lines.isEmpty)
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

  @Test func damagedBytesAreRefused() throws {
    var quality = TaskQuality(sourceCount: 1)
    quality.add(.records, source: 0, time_ms: 5)
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
    let partial = QualityPartial(task: 3, epoch: 9, source: "or|ders", period: 202_401, counts: counts)
    var key = ByteWriter()
    var value = ByteWriter()
    partial.writeKey(into: &key)
    partial.writeValue(into: &value)
    #expect(QualityPartial.isKey(key.bytes) && !CellPartial.isKey(key.bytes))
    #expect(try QualityPartial(key: key.bytes, value: value.bytes) == partial)
    var other = partial
    (other.task, other.epoch) = (5, 1)
    #expect(other.partition(of: 7) == partial.partition(of: 7))
  }
}
