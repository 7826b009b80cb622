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
    var times = TaskTimes(settling_ms: 1_000, taskCount: 3)
    // Of three tasks one says nothing before the end, and its records may still be of January.
    merger.apply(partial(task: 0, epoch: 1, records: 3))
    merger.apply(partial(task: 1, epoch: 5, records: 4))
    merger.apply(partial(task: 1, epoch: 5, records: 1, period: CellTable.unknownPeriod))
    times.setWatermark(task: 0, day(2024, 1, 20))
    times.setWatermark(task: 1, day(2024, 2, 20))
    times.setLatest(source: "orders", task: 1, day(2024, 2, 21))
    let first = merger.take(times, now_ms: day(2024, 2, 22))
    #expect(first.map(\.period) == [CellTable.unknownPeriod, 202_401])
    #expect(first[1].counts[.records] == 7 && first[1].status.isProvisional && first[1].status.revision == 12)
    #expect(first[1].freshnessLag_ms == millisecondsPerDay && first[1].status.asOf_ms == .min)
    #expect(merger.take(times, now_ms: 0).isEmpty)
    // An old or repeated partial changes nothing.
    merger.apply(partial(task: 1, epoch: 5, records: 99))
    merger.apply(partial(task: 1, epoch: 4, records: 99))
    #expect(merger.take(times, now_ms: 0).isEmpty)
    // The end of January with window and grace, to the millisecond.
    times.setWatermark(task: 0, day(2024, 2, 1) + 999)
    #expect(merger.take(times, now_ms: 0).isEmpty)
    times.setWatermark(task: 0, day(2024, 2, 1) + 1_000)
    #expect(merger.take(times, now_ms: 0).isEmpty)
    times.setWatermark(task: 2, day(2024, 2, 10))
    let passed = merger.take(times, now_ms: 0)
    #expect(passed.map(\.period) == [202_401] && !passed[0].status.isProvisional && passed[0].status.revision == 13)
    // Late data revises what was final.
    merger.apply(partial(task: 0, epoch: 2, records: 5))
    let late = merger.take(times, now_ms: 0)
    #expect(late.map { $0.counts[.records] } == [9] && late[0].status.revision == 15)
  }

  @Test func amountsAndControlsAddUp() throws {
    var merger = QualityMerger()
    let (euro, dollar) = (Currency("EUR")!, Currency("USD")!)
    for (task, total) in [(0, 1_000), (1, 250)] as [(Int32, Int128)] {
      var made = partial(task: task, epoch: 3, records: 1)
      made.counts.add(QualityAmount(currency: euro, total: total, matched: total / 2))
      if task == 1 { made.counts.add(QualityAmount(currency: dollar, total: 9, matched: -4)) }
      merger.apply(made)
      var control = QualityControl()
      (control.closedOrders, control.tiedOutOrders) = (4, 3)
      control.update(euro) {
        ($0.closed, $0.tiedOut, $0.open) = (total, total / 5, 7)
        ($0.posted[0], $0.posted[1]) = (task == 0 ? 16 : 4, 2)
        ($0.expected[0], $0.openDifference[0]) = (5, task == 0 ? 7 : 3)
        ($0.acceptedDifference[0], $0.aged, $0.openedAt_s) = (task == 0 ? -2 : 2, 7, 7 * (task == 0 ? 1_000 : 3_000))
      }
      merger.apply(QualityPartial(task: task, epoch: 4, control: control))
    }
    let messages = merger.take(TaskTimes(settling_ms: 0, taskCount: 1), now_ms: 0)
    #expect(messages.map(\.source) == ["(all)", "orders"])
    let (all, orders) = (messages[0], messages[1])
    #expect(
      orders.money == [
        .init(currency: euro, total: 1_250, matched: 625, openBreaks: 0, controlDifference: 0),
        // What was counted before counting began may be taken back: no message says less than nothing.
        .init(currency: dollar, total: 9, matched: 0, openBreaks: 0, controlDifference: 0),
      ])
    var money = QualityMessage.Money(
      currency: euro, total: 1_250, matched: 250, openBreaks: 14, controlDifference: 4)
    // Receivable: 20 − 10 = 10 of breaks. As of nowhere: no age.
    money.roles = [
      .init(role: .receivable, currency: euro, expected: 10, posted: 20, open: 10, accepted: 0),
      .init(role: .revenue, currency: euro, expected: 0, posted: 4, open: 0, accepted: 0),
    ]
    #expect(all.money == [money] && all.weightedBreakAge_ms == nil)
    let line = try #require(all.control?.lines.first)
    #expect(line.weightedAge_ms(at: 5_000_000) == 3_000_000)
    #expect(all.counts == QualityCounts() && all.status.isProvisional && all.status.revision == 16)
    var encoder = FinanceEncoder(dimensionNames: [])
    let text = String(decoding: encoder.encode(all), as: UTF8.self)
    for part in [
      #""source":"(all)","period":"(all)","records":0"#,
      #""orders_closed":8,"orders_tied_out":6,"tied_out_rate":"0.750000""#,
      #"{"currency":"EUR","total":"12.50","matched":"2.50","match_rate":"0.200000","open_breaks":"0.14","control_difference":"0.04","weighted_break_age_ms":null,"control_totals":[{"role":"receivable","expected":"0.10","posted":"0.20","open":"0.10","accepted":"0.00","pending":"0.00"},{"role":"revenue","expected":"0.00","posted":"0.04","open":"0.00","accepted":"0.00","pending":"0.04"}]}"#,
    ] { #expect(text.contains(part), "\(part) in \(text)") }
    #expect(String(decoding: FinanceEncoder.key(all), as: UTF8.self) == "(all)|(all)")
    // A task stands otherwise, the other as before.
    var control = QualityControl()
    control.closedOrders = 9
    merger.apply(QualityPartial(task: 1, epoch: 5, control: control))
    let next = merger.take(TaskTimes(settling_ms: 0, taskCount: 1), now_ms: 0)
    #expect(next.map { $0.control?.closedOrders } == [13] && next[0].money.map(\.total) == [1_000])
  }

  /// How the orders of a source stand is a message of its own, beside those of its months.
  @Test func aSourceSaysHowItsOrdersStand() throws {
    var merger = QualityMerger()
    let euro = Currency("EUR")!
    merger.apply(partial(task: 0, epoch: 1, records: 3))
    for task in [0, 1] as [Int32] {
      var control = QualityControl()
      (control.closedOrders, control.tiedOutOrders, control.openBreaks) = (5, 3, 2)
      control.update(euro) { ($0.closed, $0.tiedOut, $0.open, $0.aged, $0.openedAt_s) = (100, 60, 40, 40, 40_000) }
      let made = QualityPartial(task: task, epoch: 2, source: "orders", control: control)
      // As it comes over the topic.
      var key = ByteWriter()
      var value = ByteWriter()
      made.writeKey(into: &key)
      made.writeValue(into: &value)
      #expect(try QualityPartial(key: key.bytes, value: value.bytes) == made)
      merger.apply(made)
    }
    var times = TaskTimes(settling_ms: 0, taskCount: 1)
    times.setWatermark(task: 0, 2_000_000)
    times.setLatest(source: "orders", task: 0, 2_000_500)
    let messages = merger.take(times, now_ms: 2_001_000)
    #expect(messages.map { FinanceEncoder.period($0.period) } == ["(all)", "202401"])
    let own = messages[0]
    #expect(own.source == "orders" && own.status.isProvisional && own.freshnessLag_ms == 500)
    #expect(own.money.map(\.openBreaks) == [80] && own.weightedBreakAge_ms == 1_000_000)
    var encoder = FinanceEncoder(dimensionNames: [])
    let text = String(decoding: encoder.encode(own), as: UTF8.self)
    for part in [
      #""source":"orders","period":"(all)","records":0"#,
      #""orders_closed":10,"orders_tied_out":6,"tied_out_rate":"0.600000","open_break_count":4"#,
      #"{"currency":"EUR","total":"2.00","matched":"1.20","match_rate":"0.600000","open_breaks":"0.80""#,
    ] { #expect(text.contains(part), "\(part) in \(text)") }
    #expect(String(decoding: FinanceEncoder.key(own), as: UTF8.self) == "orders|(all)")
    #expect(messages[1].counts[.records] == 3 && messages[1].control == nil)
  }

  /// The control totals of a period say what is open in it, although no break belongs to one period.
  @Test func aPeriodSaysWhatIsOpenInIt() throws {
    var merger = QualityMerger()
    let euro = Currency("EUR")!
    var control = QualityControl()
    control.update(euro) {
      ($0.expected[0], $0.expected[1]) = (50_00, -50_00)
      ($0.openDifference[0], $0.openDifference[1]) = (-30_00, 50_00)
    }
    merger.apply(QualityPartial(task: 0, epoch: 1, period: 202_403, control: control))
    let message = try #require(merger.take(TaskTimes(settling_ms: 0, taskCount: 1), now_ms: 0).first)
    #expect(message.money.map(\.openBreaks) == [80_00] && message.money.map(\.controlDifference) == [20_00])
  }

  /// The last messages are those of a stage that reads the compacted topic anew, and revisions rise.
  @Test(arguments: Array(1...20) as [UInt64]) func theLastMessagesAreThoseOfARestart(_ seed: UInt64) {
    var random = SeededRandom(seed: seed)
    var times = TaskTimes(settling_ms: 0, taskCount: 1)
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
