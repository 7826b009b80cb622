import Configuration
import Domain
import Forecasting

/// The figures of one series: what its two messages say, but for their status.
struct FlowFigures {
  var cashflow: CashflowMessage
  var receivables: ReceivablesMessage

  /// A figure is beyond the range of amounts, and stands at its end.
  var isBeyondRange: Bool {
    cashflow.byDueDate.isBeyondRange || cashflow.backlog?.isBeyondRange == true || receivables.ageing.isBeyondRange
      || receivables.ratios.sales.isAtLimit || cashflow.past.contains { $0.received.isAtLimit || $0.actual.isAtLimit }
  }
}

/// Makes the figures of flows from items: per currency (and once more in the base currency) one model of how customers pay,
/// per series its forecast, ageing,
/// ratios and backtest, by the same functions as `tieout forecast`.
struct FlowReport {
  let settings: FlowSettings
  /// Where there is a base currency, every series comes a second time in it, by the rates of the day of the figures.
  let rates: ExchangeRates?
  /// The configured dimensions whose values an item carries (`FlowLedger.labelDimensions`), by their place in `by`.
  private let labelOf: [Int?]

  /// Series that are told apart; the items of further ones, by the order of their names, stand under `(other)`. Each has
  /// a backtest of its own.
  static let maximumSeries = 10_000
  static let other = "(other)"

  init(settings: FlowSettings, rates: ExchangeRates? = nil) {
    self.settings = settings
    self.rates = rates
    var next = 0
    labelOf = settings.by.map { name in
      guard name != FlowSettings.customer else { return nil }
      next += 1
      return next - 1
    }
  }

  private func series(_ labels: [String], _ customer: String, _ currency: Currency) -> MessageSeries {
    MessageSeries(dimensions: labelOf.map { $0.map { labels[$0] } ?? customer }, currency: currency)
  }

  /// The figures at the end of a day, currency by currency in the order of series.
  /// - Parameters:
  ///   - backlog: What has been ordered, by `FlowLedger.backlog` of the same day.
  ///   - known: Series that have been told before: where nothing is left of one, its figures are nil.
  func figures(
    _ all: [FlowItem], backlog: [FlowBacklog] = [], asOf_d: Int32, completeness: FlowCompleteness,
    known: Set<MessageSeries> = []
  ) -> [FlowFigures] {
    var bySeries: [MessageSeries: [FlowItem]] = [:]
    var ordered: [MessageSeries: [FlowBacklog]] = [:]
    /// Items of series in the base currency that no rate converts.
    var unvalued: [MessageSeries: Int] = [:]
    for item in all where item.item.hasBegun(by: asOf_d) {
      var own = series(item.labels, item.item.customer, item.item.currency)
      bySeries[own, default: []].append(item)
      guard let rates else { continue }
      (own.currency, own.isBase) = (rates.base, true)
      if let converted = BaseItems.converted(item.item, rates, day: asOf_d) {
        var item = item
        item.item = converted
        bySeries[own, default: []].append(item)
      } else {
        bySeries[own, default: []] += []
        unvalued[own, default: 0] += 1
      }
    }
    for order in backlog {
      var own = series(order.labels, order.item.customer, order.item.currency)
      ordered[own, default: []].append(order)
      guard let rates else { continue }
      (own.currency, own.isBase) = (rates.base, true)
      var order = order
      if order.item.amount == 0 {
        // Only its invoices are learned from.
      } else if let amount = rates.convert(order.item.amount, from: order.item.currency, day: asOf_d) {
        order.item.amount = amount
      } else {
        (order.item.amount, order.isUnvalued) = (0, true)
      }
      order.item.currency = rates.base
      ordered[own, default: []].append(order)
    }
    for series in ordered.keys where bySeries[series] == nil { bySeries[series] = [] }
    if bySeries.count > FlowReport.maximumSeries {
      for series in bySeries.keys.sorted().dropFirst(FlowReport.maximumSeries) {
        let other = MessageSeries(
          dimensions: series.dimensions.map { _ in FlowReport.other }, currency: series.currency,
          isBase: series.isBase)
        guard series != other else { continue }
        bySeries[other, default: []] += bySeries.removeValue(forKey: series)!
        if let orders = ordered.removeValue(forKey: series) { ordered[other, default: []] += orders }
        unvalued[other, default: 0] += unvalued.removeValue(forKey: series) ?? 0
      }
    }
    for series in known where bySeries[series] == nil { bySeries[series] = [] }
    var made: [FlowFigures] = []
    let byBook = Dictionary(grouping: bySeries.keys) {
      MessageSeries(dimensions: [], currency: $0.currency, isBase: $0.isBase)
    }
    for book in byBook.keys.sorted() {
      let names = byBook[book]!.sorted()
      var models = Models(
        names.flatMap { bySeries[$0]!.map(\.item) }, asOf_d: asOf_d, backtest_percent: settings.backtest_percent)
      models.billing.learn(lags: names.flatMap { (ordered[$0] ?? []).map(\.item) }, until: asOf_d)
      for name in names {
        var completeness = completeness
        completeness.unvaluedItems = unvalued[name] ?? 0
        var figures = figures(name, bySeries[name]!, asOf_d, models, completeness)
        figures.cashflow.backlog = self.backlog(ordered[name] ?? [], asOf_d, book.currency, models)
        figures.cashflow.unvaluedOrders = (ordered[name] ?? []).count(where: \.isUnvalued)
        made.append(figures)
      }
    }
    return made
  }

  /// What was learned from all items of a currency, or from all in the base currency, by three days.
  private struct Models {
    var now = CollectionModel()
    /// From orders to invoices.
    var billing = CollectionModel()
    /// 13 weeks before.
    var before = CollectionModel()
    var cutoff_d: Int32?
    var atCutoff = CollectionModel()

    init(_ items: [ReceivableItem], asOf_d: Int32, backtest_percent: Int) {
      now.learn(items, until: asOf_d)
      before.learn(items, until: asOf_d - FlowReport.past_d)
      cutoff_d = Backtest.cutoff(items, fraction: Double(backtest_percent) / 100)
      if let cutoff_d { atCutoff.learn(items, until: cutoff_d) }
    }
  }

  /// nil where backlog is not looked at.
  private func backlog(
    _ orders: [FlowBacklog], _ asOf_d: Int32, _ currency: Currency, _ models: Models
  ) -> BacklogForecast? {
    guard let backlog = settings.backlog else { return nil }
    return BacklogForecast(
      orders.lazy.map(\.item), asOf_d: asOf_d, currency: currency, billing: models.billing, payment: models.now,
      assuming: .init(lag_d: backlog.lag_d, terms: settings.terms, days: settings.businessDays))
  }

  static let past_d = 7 * Int32(CashForecast.weeks)

  private func figures(
    _ series: MessageSeries, _ of: [FlowItem], _ asOf_d: Int32, _ models: Models, _ completeness: FlowCompleteness
  ) -> FlowFigures {
    let items = of.map(\.item)
    let currency = series.currency
    func forecast(_ method: CashForecast.Method, _ day: Int32, _ model: CollectionModel) -> CashForecast {
      CashForecast(
        items.lazy.filter { $0.invoiced_d <= day }, asOf_d: day, currency: currency, method: method, model: model,
        days: settings.businessDays)
    }
    var completeness = completeness
    completeness.assumedDueDates = of.reduce(0) {
      $0 + ($1.isDueAssumed && $1.item.open(at: asOf_d) != 0 ? 1 : 0)
    }
    let begin_d = asOf_d - FlowReport.past_d
    let (past, pastByDueDate) = (
      forecast(.learned, begin_d, models.before), forecast(.dueDate, begin_d, models.before)
    )
    let actual = CashForecast.actual(
      items.lazy.filter { $0.invoiced_d <= begin_d }, asOf_d: begin_d, currency: currency)
    let received = FlowReport.received(of, after_d: begin_d)
    var backtest: (learned: ForecastError, byDueDate: ForecastError)?
    if let cutoff_d = models.cutoff_d {
      func test(_ method: CashForecast.Method) -> Backtest {
        Backtest(
          items, currency: currency, cutoff_d: cutoff_d, end_d: asOf_d, method: method, learned: models.atCutoff,
          days: settings.businessDays)
      }
      let learned = test(.learned)
      if !learned.origins.isEmpty { backtest = (learned.all, test(.dueDate).all) }
    }
    let status = MessageStatus(revision: 0, asOf_ms: .min, watermarks: [], isProvisional: true)
    return FlowFigures(
      cashflow: CashflowMessage(
        series: series, learned: forecast(.learned, asOf_d, models.now),
        byDueDate: forecast(.dueDate, asOf_d, models.now), actual: [], backtest: backtest,
        past: (0..<CashForecast.weeks).map {
          PastWeek(
            from_d: past.firstDay(ofWeek: $0), expected: past.expected[$0], byDueDate: pastByDueDate.expected[$0],
            actual: actual[$0], received: received[$0])
        }, completeness: completeness, status: status),
      receivables: ReceivablesMessage(
        series: series, ageing: Ageing.of(items, at: asOf_d).first ?? Ageing(day: asOf_d, currency: currency),
        ratios: CollectionRatios(items, from: asOf_d - settings.days, to: asOf_d), completeness: completeness,
        status: status))
  }

  /// All cash of the 13 weeks after a day, whatever it settled.
  private static func received(_ items: [FlowItem], after_d: Int32) -> [Int64] {
    var weeks = [Int128](repeating: 0, count: CashForecast.weeks)
    func add(_ day: Int32, _ amount: Int64) {
      guard day > after_d else { return }
      let week = CashForecast.week(of: day, asOf_d: after_d)
      if week < CashForecast.weeks { weeks[week] += Int128(amount) }
    }
    for item in items {
      for application in item.item.applications where application.isCash { add(application.day, application.amount) }
      add(item.item.invoiced_d, item.item.received)
    }
    return weeks.map { Int64(clamping: $0) }
  }
}

extension MessageSeries: Comparable {
  public static func < (a: MessageSeries, b: MessageSeries) -> Bool {
    if a.currency != b.currency { return a.currency.code < b.currency.code }
    if a.dimensions != b.dimensions {
      return a.dimensions.lexicographicallyPrecedes(b.dimensions) { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    }
    return !a.isBase && b.isBase
  }
}
