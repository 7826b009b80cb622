import Aggregates
import Domain
import Simulation
import Testing

@testable import Pipeline

/// The second stage of the counts of quality.
@Suite struct QualityMergerTests {
  func partial(
    task: Int32, epoch: UInt64, records: Int64, source: String = "orders", period: Int32 = 202_401
  ) -> QualityPartial {
    var counts = QualityCounts()
    counts[.records] = records
    return QualityPartial(task: task, epoch: epoch, source: source, period: period, counts: counts)
  }

  func day(_ year: Int, _ month: Int, _ day: Int) -> Int64 {
    Int64(daysFromCivil(year: year, month: month, day: day)) * millisecondsPerDay
  }

  @Test func tasksAddUpAndPeriodsBecomeFinal() {
    var merger = QualityMerger()
    var times = TaskTimes(settling_ms: 1_000)
    merger.apply(partial(task: 0, epoch: 1, records: 3))
    merger.apply(partial(task: 1, epoch: 5, records: 4))
    merger.apply(partial(task: 1, epoch: 5, records: 1, period: CellTable.unknownPeriod))
    times.setWatermark(task: 0, day(2024, 1, 20))
    times.setWatermark(task: 1, day(2024, 2, 20))
    times.setLatest(source: "orders", task: 1, day(2024, 2, 21))
    let first = merger.take(times, now_ms: day(2024, 2, 22))
    #expect(first.map(\.period) == [CellTable.unknownPeriod, 202_401])
    #expect(first[1].counts[.records] == 7 && first[1].status.isProvisional && first[1].status.revision == 12)
    #expect(first[1].freshnessLag_ms == millisecondsPerDay && first[1].status.asOf_ms == day(2024, 1, 20))
    #expect(merger.take(times, now_ms: 0).isEmpty)
    // An old or repeated partial changes nothing.
    merger.apply(partial(task: 1, epoch: 5, records: 99))
    merger.apply(partial(task: 1, epoch: 4, records: 99))
    #expect(merger.take(times, now_ms: 0).isEmpty)
    // The end of January with window and grace, to the millisecond.
    times.setWatermark(task: 0, day(2024, 2, 1) + 999)
    #expect(merger.take(times, now_ms: 0).isEmpty)
    times.setWatermark(task: 0, day(2024, 2, 1) + 1_000)
    let passed = merger.take(times, now_ms: 0)
    #expect(passed.map(\.period) == [202_401] && !passed[0].status.isProvisional && passed[0].status.revision == 13)
    // Late data revises what was final.
    merger.apply(partial(task: 0, epoch: 2, records: 5))
    let late = merger.take(times, now_ms: 0)
    #expect(late.map { $0.counts[.records] } == [9] && late[0].status.revision == 15)
  }

  /// The last messages are those of a stage that reads the compacted topic anew, and revisions rise.
  @Test(arguments: Array(1...20) as [UInt64]) func theLastMessagesAreThoseOfARestart(_ seed: UInt64) {
    var random = SeededRandom(seed: seed)
    var times = TaskTimes(settling_ms: 0)
    times.setWatermark(task: 0, day(2024, 2, 10))
    var merger = QualityMerger()
    var newest: [String: QualityPartial] = [:]
    var last: [String: QualityMessage] = [:]
    func take() {
      for message in merger.take(times, now_ms: 0) {
        let key = "\(message.source) \(message.period)"
        #expect(message.status.revision > last[key]?.status.revision ?? 0)
        last[key] = message
      }
    }
    for epoch in 1...UInt64(random.below(30) + 2) {
      let made = partial(
        task: Int32(random.below(3)), epoch: epoch, records: Int64(random.below(100)),
        source: random.pick(["orders", "ledger"]), period: 202_401 + Int32(random.below(3)))
      merger.apply(made)
      newest["\(made.source) \(made.period) \(made.task)"] = made
      if random.below(3) == 0 { take() }
    }
    take()
    var restarted = QualityMerger()
    for made in newest.values.shuffled(using: &random) { restarted.apply(made) }
    let again = restarted.take(times, now_ms: 0)
    #expect(again.count == last.count)
    for message in again { #expect(last["\(message.source) \(message.period)"] == message) }
  }
}
