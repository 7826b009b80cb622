import Aggregates
import Domain
import Simulation
import Testing

@testable import Pipeline

/// The second stage of the aggregates: what it tells does not depend on how the parts came.
@Suite struct RevenueMergerTests {
  let euro = Currency("EUR")!
  func day(_ year: Int, _ month: Int, _ day: Int) -> Int64 {
    Int64(daysFromCivil(year: year, month: month, day: day)) * millisecondsPerDay
  }

  func partial(task: Int32, epoch: UInt64, period: Int32, billed: Int128, segment: String = "s") -> CellPartial {
    var values = CellValues()
    values[.billedNet] = billed
    return CellPartial(
      task: task, epoch: epoch,
      line: CellLine(key: CellKey(dimensions: [segment], currency: euro, period: period), values: values))
  }

  @Test func aChangeTellsItsPeriodAndTheLaterOnes() {
    var merger = RevenueMerger(settling_ms: 86_400_000, taskCount: 1)
    for period: Int32 in [202_401, 202_402, 202_403] {
      merger.apply(partial(task: 0, epoch: 1, period: period, billed: 100))
    }
    let first = merger.take()
    #expect(first.map(\.line.key.period) == [202_401, 202_402, 202_403])
    #expect(first.map(\.deferred.closing) == [100, 200, 300] && first.allSatisfy(\.status.isProvisional))
    #expect(merger.take().isEmpty)
    merger.apply(partial(task: 1, epoch: 4, period: 202_402, billed: -30))
    merger.apply(partial(task: 1, epoch: 4, period: 202_402, billed: -30, segment: "other"))
    let second = merger.take()
    #expect(second.map(\.line.key.dimensions[0]) == ["other", "s", "s"])
    #expect(second.map(\.line.key.period) == [202_402, 202_402, 202_403])
    #expect(second.map(\.deferred.closing) == [-30, 170, 270])
    for message in second.dropFirst() {
      let before = first.first { $0.line.key == message.line.key }!
      #expect(message.status.revision > before.status.revision)
    }
    // An old or repeated partial changes nothing.
    merger.apply(partial(task: 1, epoch: 4, period: 202_402, billed: 999))
    merger.apply(partial(task: 0, epoch: 0, period: 202_401, billed: 999))
    #expect(merger.take().isEmpty)
  }

  /// What is in dispute is added up over the tasks, and taken back when one of them says that it is over.
  @Test func whatIsInDisputeIsThatOfAllTasks() throws {
    func told(task: Int32, epoch: UInt64, segment: String = "s", _ change: (inout CellValues) -> Void) -> CellPartial {
      var made = partial(task: task, epoch: epoch, period: 202_401, billed: 0, segment: segment)
      change(&made.line.values)
      var (key, value) = ([UInt8](), [UInt8]())
      var writer = ByteWriter()
      made.writeKey(into: &writer)
      key = writer.array
      writer.removeAll()
      made.writeValue(into: &writer)
      value = writer.array
      return key.withUnsafeBytes { key in
        value.withUnsafeBytes { try! CellPartial(key: key, value: $0) }
      }
    }
    var merger = RevenueMerger(settling_ms: 0, taskCount: 2)
    var encoder = FinanceEncoder(dimensionNames: ["segment"])
    func message() throws -> String {
      String(decoding: encoder.encode(try #require(merger.take().first)), as: UTF8.self)
    }
    merger.apply(
      told(task: 0, epoch: 1) {
        ($0[.revenue, .posting], $0[.discount, .posting]) = (-1_500, 500)
        ($0[disputed: .revenue], $0[disputed: .returns], $0[disputed: .tax]) = (100, 50, 30)
        $0[disputed: .inventory] = 7
      })
    merger.apply(
      told(task: 1, epoch: 1) {
        ($0[disputed: .revenue], $0[disputed: .receivable], $0[.unvalued]) = (250, 20, 1)
      })
    let first = try message()
    #expect(
      first.contains(
        #""disputed":{"revenue":"4.00","deferred":"0.00","unbilled":"0.00","receivable":"0.20","cash":"0.00","#
          + #""tax":"0.30","cogs":"0.00","total":"4.57"},"tied_out":"0.800000","completeness":{"complete":false,"#
          + #""unvalued_events":1,"unvalued_postings":0,"unvalued_differences":0,"other":false}"#))
    merger.apply(told(task: 0, epoch: 2) { $0[.revenue, .posting] = -1_500 })
    merger.apply(told(task: 1, epoch: 2) { _ in })
    let second = try message()
    #expect(second.contains(#""total":"0.00"},"tied_out":"1.000000","completeness":{"complete":true"#))
    // More in dispute than there is; nothing at all; values beyond the bound.
    merger.apply(told(task: 1, epoch: 3) { $0[disputed: .freight] = 9_999 })
    #expect(try message().contains(#""tied_out":"0.000000""#))
    merger.apply(told(task: 0, epoch: 3, segment: CellKey.other) { _ in })
    #expect(
      try message().contains(
        #""tied_out":null,"completeness":{"complete":true,"unvalued_events":0,"unvalued_postings":0,"unvalued_differences":0,"other":true}"#
      ))
  }

  /// Where a fiscal calendar is given, its periods end when it says.
  @Test func fiscalPeriodsBecomeFinalWhenTheyEnd() throws {
    let calendar = try FiscalCalendar([
      .init(name: 202_401, first_d: 19_700, last_d: 19_727), .init(name: 202_413, first_d: 19_728, last_d: 19_734),
    ])
    var merger = RevenueMerger(settling_ms: 1_000, taskCount: 1, calendar: calendar)
    for period: Int32 in [202_401, 202_402, 202_413] {
      merger.apply(partial(task: 0, epoch: 1, period: period, billed: 100))
    }
    func final(at time_ms: Int64) -> [Int32] {
      merger.setWatermark(task: 0, time_ms)
      return merger.take().filter { !$0.status.isProvisional }.map(\.line.key.period)
    }
    #expect(final(at: 19_728 * millisecondsPerDay + 999) == [])
    #expect(final(at: 19_728 * millisecondsPerDay + 1_000) == [202_401])
    // One that the calendar does not have never ends.
    #expect(final(at: 19_735 * millisecondsPerDay + 1_000) == [202_413])
    #expect(final(at: 29_735 * millisecondsPerDay) == [])
  }

  @Test func whatIsPassedBecomesFinalOnce() {
    var merger = RevenueMerger(settling_ms: 86_400_000, taskCount: 2)
    merger.apply(partial(task: 0, epoch: 1, period: 202_401, billed: 100))
    merger.apply(partial(task: 0, epoch: 1, period: 202_402, billed: 100))
    merger.apply(partial(task: 0, epoch: 1, period: CellTable.unknownPeriod, billed: 1))
    let first = merger.take()
    #expect(first.count == 3)
    merger.setWatermark(task: 0, day(2024, 2, 2))
    // Task 1 has not said anything yet: it may be behind.
    #expect(merger.take().isEmpty && merger.asOf_ms == .min)
    merger.setWatermark(task: 1, day(2024, 2, 2) - 1)
    merger.setLatest(source: "orders", task: 1, 5)
    merger.setLatest(source: "orders", task: 0, 7)
    // Task 1 has not passed the end of January + one day by a millisecond.
    #expect(merger.take().isEmpty && merger.asOf_ms == day(2024, 2, 2) - 1)
    merger.setWatermark(task: 1, day(2024, 2, 2))
    let told = merger.take()
    #expect(told.map(\.line.key.period) == [202_401] && !told[0].status.isProvisional)
    #expect(told[0].status.revision > first.first { $0.line.key.period == 202_401 }!.status.revision)
    #expect(told[0].status.watermarks.map(\.time_ms) == [7] && told[0].status.asOf_ms == day(2024, 2, 2))
    // A watermark does not go back, and late data revises what was final.
    merger.setWatermark(task: 1, 0)
    #expect(merger.asOf_ms == day(2024, 2, 2) && merger.take().isEmpty)
    merger.apply(partial(task: 1, epoch: 2, period: 202_401, billed: 5))
    let late = merger.take()
    #expect(late.map(\.line.key.period) == [202_401, 202_402])
    #expect(late[0].status.revision > told[0].status.revision && !late[0].status.isProvisional)
    #expect(late[0].deferred.closing == 106)  // with the one of the unknown period before it
  }

  /// Whatever the order of the partials and however often some come, the last messages are the same: what a restart
  /// that reads the compacted topic tells.
  @Test(arguments: Array(1...20) as [UInt64]) func theLastMessagesAreThoseOfARestart(_ seed: UInt64) {
    var random = SeededRandom(seed: seed)
    var partials: [CellPartial] = []
    for epoch in 1...UInt64(random.below(20) + 2) {
      for _ in 0..<random.below(5) {
        let made = partial(
          task: Int32(random.below(3)), epoch: epoch, period: 202_401 + Int32(random.below(4)),
          billed: Int128(random.below(1_000)), segment: random.pick(["a", "b"]))
        // A task tells a cell once an epoch.
        if !partials.contains(where: {
          $0.epoch == epoch && $0.task == made.task && $0.line.key == made.line.key
        }) {
          partials.append(made)
        }
      }
    }
    var last: [CellKey: RevenueMessage] = [:]
    var merger = RevenueMerger(settling_ms: 0, taskCount: 1)
    for made in partials {
      merger.apply(made)
      if random.below(3) == 0 {
        for message in merger.take() {
          let before = last.updateValue(message, forKey: message.line.key)
          #expect(before.map { $0.status.revision < message.status.revision } ?? true)
        }
      }
    }
    for message in merger.take() { last[message.line.key] = message }
    var restarted = RevenueMerger(settling_ms: 0, taskCount: 1)
    for made in partials.shuffled(using: &random) + partials.prefix(3) { restarted.apply(made) }
    let again = restarted.take()
    #expect(again.count == last.count)
    for message in again { #expect(last[message.line.key] == message) }
  }
}
