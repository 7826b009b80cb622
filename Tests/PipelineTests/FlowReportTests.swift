import Configuration
import Domain
import Forecasting
import Foundation
import Testing

@testable import Pipeline

/// Figures by series, and what is known of what was told.
@Suite struct FlowReportTests {
  let euro = Currency("EUR")!

  func item(
    _ customer: String, _ amount: Int64, day: Int32, paid: Int32? = nil, labels: [String] = ["north", "s"],
    currency: Currency? = nil, disputed: Bool = false
  ) -> FlowItem {
    FlowItem(
      item: ReceivableItem(
        id: "", customer: customer, segment: labels.last!, currency: currency ?? euro, invoiced_d: day, due_d: day + 30,
        amount: amount, isDisputed: disputed, applications: paid.map { [.init(day: $0, amount: amount)] } ?? []),
      labels: labels)
  }

  func report(by: [String], _ items: [FlowItem], known: Set<MessageSeries> = []) -> [FlowFigures] {
    var settings = FlowSettings()
    (settings.by, settings.segment) = (by, "segment")
    return FlowReport(settings: settings).figures(items, asOf_d: 500, completeness: .init(), known: known)
  }

  func names(_ figures: [FlowFigures]) -> [String] {
    figures.map { String(decoding: FinanceEncoder.key($0.cashflow), as: UTF8.self) }
  }

  /// Breaks about dates or about the base currency leave the receivable itself undisputed.
  @Test func whatDisputesAReceivable() throws {
    let encoder = BreakEncoder(dimensionNames: [])
    func disputes(_ type: BreakType, _ role: AccountRole = .receivable, _ state: BreakState = .open) throws -> Bool {
      let made = Break(
        id: "O:\(type.rawValue):\(role.name)", order: "O", type: type, role: role, currency: euro, expected: 1,
        posted: 2,
        state: state, isProvisional: false, revision: 1, firstEventTime_ms: 0, deadline_ms: 0, asOf_ms: 0)
      return try JSONDecoder().decode(BreakMessage.self, from: Data(encoder.encode(made))).disputesReceivable
    }
    #expect(try disputes(.amountMismatch) && disputes(.unapplied) && disputes(.wrongEntity))
    for type in [BreakType.cutoff, .lateArrival, .closedPeriod, .fxDifference, .fxRateMissing] {
      #expect(try !disputes(type), "\(type)")
    }
    #expect(try !disputes(.amountMismatch, .revenue) && !disputes(.amountMismatch, .receivable, .accepted))
  }

  /// What is expected on a day when nobody pays comes on another one, which may be in another week; nothing is lost.
  @Test func expectedCashComesOnBusinessDays() {
    // The first week behind day 500 has the days 501 to 507; what is due on its last day is.
    func weeks(_ days: BusinessDays) -> [Int64] {
      var settings = FlowSettings()
      settings.businessDays = days
      let made = FlowReport(settings: settings).figures([item("a", 700, day: 477)], asOf_d: 500, completeness: .init())
      #expect(made[0].cashflow.byDueDate.expected.reduce(0, +) == 700)
      #expect(made[0].cashflow.learned.expected.reduce(0, +) == 700)
      #expect(made[0].cashflow.learned.expected == made[0].cashflow.byDueDate.expected)
      return made[0].cashflow.byDueDate.expected
    }
    let (first, second) = ([700] + [Int64](repeating: 0, count: 12), [0, 700] + [Int64](repeating: 0, count: 11))
    #expect(weeks(BusinessDays(holidays: [507])) == first)
    #expect(weeks(BusinessDays(roll: .following, holidays: [507])) == second)
    #expect(weeks(BusinessDays(roll: .preceding, holidays: [507])) == first)
    #expect(weeks(BusinessDays(roll: .following, holidays: [506])) == first)
  }

  /// What is ordered and not billed stands beside what is billed, in the series of its order, and adds up over them.
  @Test func backlogStandsBesideWhatIsBilled() throws {
    var orders: [FlowBacklog] = []
    for number in 0..<60 {
      let item = BacklogItem(
        customer: "c\(number % 7)", segment: "s", currency: number % 5 == 0 ? Currency("JPY")! : euro,
        booked_d: 400 + Int32(number), amount: Int64(1_000 + number), invoiced: number % 2 == 0 ? [430] : [])
      orders.append(FlowBacklog(item: item, labels: ["r\(number % 3)", "s"], isUnvalued: number == 7))
    }
    var settings = FlowSettings()
    (settings.by, settings.segment, settings.backlog) = (["region"], "segment", FlowSettings.Backlog())
    func made(_ orders: [FlowBacklog]) -> [FlowFigures] {
      FlowReport(settings: settings).figures(
        [item("c1", 700, day: 477, labels: ["r1", "s"])], backlog: orders, asOf_d: 500, completeness: .init())
    }
    let figures = made(orders)
    #expect(figures.map(\.cashflow) == made(orders.reversed()).map(\.cashflow))
    #expect(figures.count == 6)
    var (sum, unvalued) = (Int64(0), 0)
    for one in figures {
      let backlog = try #require(one.cashflow.backlog)
      #expect(backlog.expected.reduce(backlog.beyond, +) == backlog.open)
      sum += backlog.open
      unvalued += one.cashflow.unvaluedOrders
    }
    #expect(sum == orders.reduce(0) { $0 + $1.item.amount } && unvalued == 1)
    #expect(figures.reduce(0) { $0 + $1.cashflow.learned.open } == 700)
    settings.backlog = nil
    #expect(made([]).allSatisfy { $0.cashflow.backlog == nil })
  }

  @Test func seriesAreKeptApartAndAddUp() {
    var items: [FlowItem] = []
    for number in 0..<300 {
      let paid: Int32? = number % 3 == 0 ? nil : Int32(number + 40)
      let currency = number % 5 == 0 ? Currency("JPY")! : euro
      items.append(
        item(
          "c\(number % 7)", Int64(100 + number), day: Int32(number), paid: paid,
          labels: ["r\(number % 3)", "s\(number % 2)"], currency: currency, disputed: number % 11 == 0))
    }
    let whole = report(by: [], items)
    #expect(names(whole) == ["EUR|transaction", "JPY|transaction"])
    let byRegion = report(by: ["region"], items)
    #expect(names(byRegion).count == 6 && names(byRegion)[0] == "r0|EUR|transaction")
    let byBoth = report(by: ["customer", "region"], items)
    #expect(names(byBoth)[0] == "c0|r0|EUR|transaction")
    for parts in [byRegion, byBoth] {
      for sum in whole {
        let own = parts.filter { $0.cashflow.series.currency == sum.cashflow.series.currency }
        func addsUp(_ value: (FlowFigures) -> Int64, _ place: SourceLocation = #_sourceLocation) {
          var total: Int64 = 0
          for figures in own { total += value(figures) }
          #expect(total == value(sum), sourceLocation: place)
        }
        addsUp { $0.receivables.ageing.total }
        addsUp { $0.receivables.ratios.sales }
        addsUp { $0.cashflow.learned.disputed }
        for week in 0..<CashForecast.weeks {
          // Every series is forecast by what was learned of all.
          addsUp { $0.cashflow.learned.expected[week] }
          addsUp { $0.cashflow.byDueDate.expected[week] }
          addsUp { $0.cashflow.past[week].received }
          addsUp { $0.cashflow.past[week].actual }
        }
        addsUp { Int64($0.cashflow.backtest?.learned.forecast ?? 0) }
      }
    }
    #expect(whole[0].cashflow.backtest!.learned.pairs > 0)
  }

  @Test func aSeriesOfWhichNothingIsLeftIsNil() {
    let gone = MessageSeries(dimensions: ["gone"], currency: euro)
    let figures = report(by: ["region"], [item("c", 5, day: 490)], known: [gone])
    #expect(names(figures) == ["gone|EUR|transaction", "north|EUR|transaction"])
    #expect(figures[0].cashflow.learned.open == 0 && figures[0].receivables.ageing.total == 0)
    #expect(figures[1].cashflow.learned.open == 5)
  }

  @Test func whatIsBeyondTheBoundIsOther() {
    let count = FlowReport.maximumSeries + 7
    let figures = report(by: ["customer"], (0..<count).map { item("c\(100_000 + $0)", 1, day: 490) })
    #expect(figures.count == FlowReport.maximumSeries + 1)
    let other = figures.first { $0.cashflow.series.dimensions == [FlowReport.other] }
    #expect(other?.receivables.ageing.total == 7)
    #expect(figures.reduce(0) { $0 + $1.receivables.ageing.total } == Int64(count))
  }

  @Test func whatCameAfterTheDayIsNotKnown() {
    let figures = report(by: [], [item("c", 5, day: 501), item("c", 7, day: 480, paid: 502)])
    #expect(figures[0].receivables.ageing.total == 7 && figures[0].receivables.ageing.counts.reduce(0, +) == 1)
  }

  @Test func whatWasToldIsCompared() throws {
    var published = PublishedFlows()
    var encoder = FinanceEncoder(dimensionNames: ["region"])
    var receivables = report(by: ["region"], [item("c", 5, day: 490, labels: [#"a|b\,"revision":9"#, "s"])])[0]
      .receivables
    func message(_ revision: UInt64, asOf_ms: Int64) -> PublishedFlows.Message {
      receivables.status = MessageStatus(
        revision: revision, asOf_ms: asOf_ms, watermarks: [("a", asOf_ms)], isProvisional: true)
      return PublishedFlows.Message(
        isCash: false, series: receivables.series, key: FinanceEncoder.key(receivables),
        value: encoder.encode(receivables), revision: revision)
    }
    func take(_ message: PublishedFlows.Message) {
      message.key.withUnsafeBufferPointer { key in
        message.value.withUnsafeBufferPointer { published.take(isCash: message.isCash, key: key, value: $0) }
      }
    }
    let first = message(4, asOf_ms: 1)
    #expect(published.isNew(first) && published.revision(isCash: false, first.key) == 0)
    take(first)
    #expect(published.isChanged && published.series == [receivables.series] && published.asOf_d == 500)
    // Another time and revision of the same figures is nothing new; the other topic is another thing.
    #expect(!published.isNew(message(5, asOf_ms: 2)) && published.revision(isCash: false, first.key) == 4)
    var other = first
    other.isCash = true
    #expect(published.isNew(other))
    receivables.ratios.sales += 1
    let second = message(5, asOf_ms: 1)
    #expect(published.isNew(second))
    published.keep(second)
    #expect(!published.isNew(second) && published.revision(isCash: false, first.key) == 5)
    // An older one that comes again, and its own that comes back.
    published.isChanged = false
    take(first)
    take(second)
    #expect(!published.isChanged && !published.isNew(second))
  }
}
