import Domain
import Forecasting
import Foundation

/// What `tieout forecast` prints of one currency.
public struct ReceivablesReport: Sendable {
  public let items: [ReceivableItem]
  public let currency: Currency
  public let asOf_d: Int32
  /// The last day of which actual cash is known.
  public let knownUntil_d: Int32
  public let days: Int32

  public init(_ items: [ReceivableItem], currency: Currency, asOf_d: Int32, knownUntil_d: Int32, days: Int32) {
    self.items = items.filter { $0.currency == currency }
    self.currency = currency
    self.asOf_d = asOf_d
    self.knownUntil_d = knownUntil_d
    self.days = days
  }

  /// What a day's forecast may know.
  private var known: [ReceivableItem] { items.filter { $0.invoiced_d <= asOf_d } }

  public func forecast(_ method: CashForecast.Method) -> CashForecast {
    var model = CollectionModel()
    model.learn(known, until: asOf_d)
    return CashForecast(known, asOf_d: asOf_d, currency: currency, method: method, model: model)
  }

  /// A figure is beyond the range of amounts, and stands at its end.
  public var isBeyondRange: Bool {
    forecast(.dueDate).isBeyondRange || Ageing.of(known, at: asOf_d).contains(where: \.isBeyondRange)
  }

  private func money(_ amount: Int64) -> String { Money(minorUnits: amount, currency: currency).decimalString }

  private func decimal(_ value_u: Int128?, decimals: Int) -> String {
    guard let value_u else { return "n/a" }
    var unit: Int128 = 1
    for _ in 0..<(6 - decimals) { unit *= 10 }
    return formatDecimal(dividedHalfEven(value_u, unit), decimals: decimals)
  }

  public var text: String {
    let (learned, byDueDate) = (forecast(.learned), forecast(.dueDate))
    let actual = CashForecast.actual(known, asOf_d: asOf_d, currency: currency)
    var weeks = TextTable(["week", "from", "to", "expected", "by due date", "actual"], numeric: [0, 3, 4, 5])
    for week in 0..<CashForecast.weeks {
      let first = learned.firstDay(ofWeek: week)
      weeks.add(
        String(week + 1), formatDate(first), formatDate(first + 6), money(learned.expected[week]),
        money(byDueDate.expected[week]), first + 6 <= knownUntil_d ? money(actual[week]) : "")
    }
    weeks.add("", "later", "", money(learned.beyond), money(byDueDate.beyond), "")
    weeks.add("", "in dispute", "", money(learned.disputed), money(byDueDate.disputed), "")
    weeks.add("", "open", "", money(learned.open), money(byDueDate.open), "")
    let ageing = Ageing.of(known, at: asOf_d).first ?? Ageing(day: asOf_d, currency: currency)
    var ages = TextTable(["days past due", "open", "items"], numeric: [1, 2])
    for bucket in Ageing.Bucket.allCases {
      ages.add(bucket.name, money(ageing[bucket]), String(ageing.counts[bucket.rawValue]))
    }
    let ratios = CollectionRatios(known, from: asOf_d - days, to: asOf_d)
    return """
      Receivables in \(currency.code) at the end of \(formatDate(asOf_d))

      \(ages.text)

      over \(days) days: DSO \(decimal(ratios.dso_u, decimals: 1)), best possible \
      \(decimal(ratios.bestPossibleDSO_u, decimals: 1)), average days delinquent \(decimal(ratios.add_u, decimals: 1)), \
      collection effectiveness \(decimal(ratios.cei_u.map { $0 * 100 }, decimals: 1)) %

      Cash of the next \(CashForecast.weeks) weeks from what is open

      \(weeks.text)

      """
  }

  /// Learns from the first part of the time, forecasts the rest week by week, and says how far off it was.
  public func backtest(fraction: Double) -> String {
    guard let cutoff_d = Backtest.cutoff(items, fraction: fraction) else { return "" }
    var table = TextTable(
      ["forecast", "MAPE", "Σ|error| / Σ actual", "bias"], numeric: [1, 2, 3])
    var origins = 0
    func percent(_ value: Double?) -> String {
      value.map { "\(formatDecimal(Int128(($0 * 1_000).rounded(.toNearestOrEven)), decimals: 1)) %" } ?? "n/a"
    }
    for method in CashForecast.Method.allCases {
      let test = Backtest(items, currency: currency, cutoff_d: cutoff_d, end_d: knownUntil_d, method: method)
      origins = test.origins.count
      table.add(
        method == .learned ? "learned" : "by due date", percent(test.all.mape), percent(test.all.weighted),
        percent(test.all.bias))
    }
    return """
      Backtest: learned from what was settled by \(formatDate(cutoff_d)), \(origins) forecasts of \
      \(CashForecast.weeks) weeks after it

      \(table.text)

      """
  }
}

/// What `tieout variance` prints.
public struct VarianceReport: Sendable {
  let budget: BudgetTable
  let options: BudgetTable.Options
  let threshold: VarianceThreshold

  public init(_ budget: BudgetTable, options: BudgetTable.Options, threshold: VarianceThreshold) {
    self.budget = budget
    self.options = options
    self.threshold = threshold
  }

  public func text(budgeted: Bool, flagged: Bool) -> String {
    let first = options.by.count
    var table = TextTable(
      options.by + ["actual", "budget", "variance", "%", "", "over"], numeric: [first, first + 1, first + 2, first + 3])
    func money(_ amount: Int128) -> String { formatDecimal(amount, decimals: options.currency.exponent) }
    let month = options.by.firstIndex(of: "month")
    var (actual, plan, lines) = (Int128(0), Int128(0), 0)
    for line in budget.table.lines {
      if budgeted, let month, !budget.budgetedMonths.contains(line.key.parts[month]) { continue }
      let variance = line.variance
      let isOver = variance.isFlagged(threshold)
      (actual, plan, lines) = (actual + variance.actual, plan + variance.budget, lines + 1)
      if flagged, !isOver { continue }
      let percent = variance.percent_u.map { formatDecimal(dividedHalfEven($0, 1_000), decimals: 1) } ?? "n/a"
      table.rows.append(
        line.key.parts + [
          money(variance.actual), money(variance.budget), money(variance.amount), percent,
          variance.isFavourable.map { $0 ? "favourable" : "adverse" } ?? "", isOver ? "*" : "",
        ])
    }
    return """
      \(table.text)

      \(lines) lines, actual \(money(actual)), budget \(money(plan)), variance \(money(actual - plan)) \
      \(options.currency.code)
      control totals of the file: \(budget.table.rows) rows, actual \(money(budget.table.actual)), budget \
      \(money(budget.table.budget)); \(budget.otherRows) rows of other scenarios
      """
  }
}
