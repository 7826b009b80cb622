import Configuration
import Domain
import Forecasting
import Foundation
import Simulation
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

  func report(
    by: [String], _ items: [FlowItem], known: Set<MessageSeries> = [], rates: ExchangeRates? = nil
  ) -> [FlowFigures] {
    var settings = FlowSettings()
    (settings.by, settings.segment) = (by, "segment")
    return FlowReport(settings: settings, rates: rates).figures(items, asOf_d: 500, completeness: .init(), known: known)
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
    // Once more in the base currency, all of them in one series a region; what no rate converts is counted.
    let day = ExchangeRates.Rate(day: 500, from: Currency("JPY")!, to: euro, rate: DecimalText(mantissa: 1, scale: 2))
    for rates in [[day], []] {
      let base = FlowReport(settings: settings, rates: try ExchangeRates(base: euro, rates, maximumAge_d: 7)).figures(
        [], backlog: orders, asOf_d: 500, completeness: .init()
      ).filter(\.cashflow.series.isBase).map(\.cashflow)
      let yen = orders.filter { $0.item.currency != euro }
      let other = orders.filter { $0.item.currency == euro }.reduce(0) { $0 + $1.item.amount }
      let expected = other + (rates.isEmpty ? 0 : yen.reduce(0) { $0 + $1.item.amount })
      #expect(base.count == 3 && base.reduce(0) { $0 + $1.backlog!.open } == expected)
      #expect(base.reduce(0) { $0 + $1.unvaluedOrders } == 1 + (rates.isEmpty ? yen.count : 0))
    }
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

  static func rates(_ list: [(Int32, String, Int64)]) -> ExchangeRates {
    let euro = Currency("EUR")!
    return try! ExchangeRates(
      base: euro,
      list.map {
        .init(day: $0.0, from: Currency($0.1)!, to: euro, rate: DecimalText(mantissa: $0.2, scale: 6))
      }, maximumAge_d: 30)
  }

  /// With a base currency every series comes a second time, all currencies added up by the rates of the day.
  @Test(arguments: Array(1...20) as [UInt64]) func theBaseCurrencyAddsUpTheOthers(_ seed: UInt64) throws {
    var random = SeededRandom(seed: seed)
    let rates = Self.rates([(470, "JPY", 6_100), (495, "JPY", 6_217), (480, "USD", 923_456), (200, "GBP", 1_170_000)])
    let currencies = ["EUR", "JPY", "USD", "GBP"].map { Currency($0)! }
    var items: [FlowItem] = []
    for number in 0..<400 {
      let amount = Int64(random.below(90_000) + 1) * (random.below(12) == 0 ? -1 : 1)
      let day = Int32(random.below(500))
      var made = item(
        "c\(number % 7)", amount, day: day, labels: ["r\(number % 2)", "s"], currency: random.pick(currencies),
        disputed: random.below(9) == 0)
      var rest = amount
      for _ in 0..<random.below(4) where rest != 0 {
        let part = random.below(2) == 0 ? rest : rest / 3
        made.item.applications.append(.init(day: day + Int32(random.below(90)), amount: part))
        rest -= part
      }
      if random.below(10) == 0 { (made.item.isOnAccount, made.item.received) = (true, -amount) }
      items.append(made)
    }
    let figures = report(by: ["region"], items, rates: rates)
    #expect(
      names(figures) == [
        "r0|EUR|transaction", "r1|EUR|transaction", "r0|EUR|base", "r1|EUR|base", "r0|GBP|transaction",
        "r1|GBP|transaction", "r0|JPY|transaction", "r1|JPY|transaction", "r0|USD|transaction", "r1|USD|transaction",
      ])
    for region in ["r0", "r1"] {
      let own = items.filter { $0.labels[0] == region && $0.item.invoiced_d <= 500 }
      func sum(_ value: (ReceivableItem) -> Int64) -> Int64 {
        own.reduce(0) { $0 + (rates.convert(value($1.item), from: $1.item.currency, day: 500) ?? 0) }
      }
      let told = try #require(figures.first { $0.cashflow.series.isBase && $0.cashflow.series.dimensions == [region] })
      let (cash, ageing) = (told.cashflow, told.receivables.ageing)
      #expect(ageing.total == sum { $0.open(at: 500) } && cash.learned.open == ageing.total)
      #expect(ageing.disputed == sum { $0.isDisputed ? $0.open(at: 500) : 0 })
      #expect(ageing.onAccount == sum { $0.isOnAccount ? $0.open(at: 500) : 0 })
      #expect(ageing[.over90] == sum { !$0.isOnAccount && 500 - $0.due_d > 90 ? $0.open(at: 500) : 0 })
      #expect(cash.learned.expected.reduce(cash.learned.beyond + cash.learned.disputed, +) == cash.learned.open)
      #expect(told.receivables.ratios.sales == sum { $0.invoiced_d > 410 && !$0.isOnAccount ? $0.amount : 0 })
      // What is settled is so to the minor unit: nothing of it is open by rounding.
      #expect(
        ageing.count
          == own.filter { $0.item.currency.code != "GBP" && $0.item.open(at: 500) != 0 && sumOf($0, rates) != 0 }.count)
      let lost = own.filter { $0.item.currency.code == "GBP" }.count
      #expect(cash.completeness.unvaluedItems == lost && cash.completeness.isComplete == (lost == 0))
    }
    // The other series are what they are without one.
    let plain = report(by: ["region"], items)
    #expect(figures.filter { !$0.cashflow.series.isBase }.map(\.cashflow) == plain.map(\.cashflow))
  }

  func sumOf(_ item: FlowItem, _ rates: ExchangeRates) -> Int64 {
    rates.convert(item.item.open(at: 500), from: item.item.currency, day: 500) ?? 0
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
    // Those in the base currency stay by themselves.
    let both = report(
      by: ["customer"], (0..<count).map { item("c\(100_000 + $0)", 1, day: 490) }, rates: Self.rates([]))
    for isBase in [false, true] {
      let own = both.filter { $0.cashflow.series.isBase == isBase }
      #expect(own.reduce(0) { $0 + $1.receivables.ageing.total } == Int64(count))
      #expect(own.contains { $0.cashflow.series.dimensions == [FlowReport.other] })
    }
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
