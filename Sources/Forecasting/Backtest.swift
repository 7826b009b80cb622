import Domain

/// How good a forecast was, over pairs of a forecast and an actual amount.
public struct ForecastError: Hashable, Sendable {
  /// Pairs with an actual amount: the percentage is not defined at zero.
  public private(set) var pairs = 0
  /// Pairs without one.
  public private(set) var withoutActual = 0
  private var percentages = 0.0
  public private(set) var forecast: Int128 = 0
  public private(set) var actual: Int128 = 0
  public private(set) var absolute: Int128 = 0

  public init() {}

  public mutating func add(forecast: Int64, actual: Int64) {
    let error = (Int128(forecast) - Int128(actual)).magnitude
    self.forecast += Int128(forecast)
    self.actual += Int128(actual)
    absolute += Int128(error)
    guard actual != 0 else {
      if forecast != 0 { withoutActual += 1 }
      return
    }
    pairs += 1
    percentages += Double(error) / Double(actual.magnitude)
  }

  /// Mean absolute percentage error, 0.25 for 25 %; nil without a pair.
  public var mape: Double? { pairs == 0 ? nil : percentages / Double(pairs) }
  /// Σ |forecast − actual| / Σ |actual|: weeks weigh by their money, and those without an actual amount count.
  public var weighted: Double? { actual == 0 ? nil : Double(absolute) / Double(actual.magnitude) }
  /// (Σ forecast − Σ actual) / Σ actual: positive where too much was promised.
  public var bias: Double? { actual == 0 ? nil : Double(forecast - actual) / Double(actual) }
}

/// What a forecast would have said in the past, against what then came.
public struct Backtest: Hashable, Sendable {
  public var method: CashForecast.Method
  /// The end of the time that was learned from.
  public var cutoff_d: Int32
  /// Days on which a forecast was made.
  public var origins: [Int32] = []
  /// Over weeks and origins.
  public var all = ForecastError()
  /// By week ahead, from 0.
  public var byWeek: [ForecastError]

  /// Learns from what was settled by `cutoff_d` (only `.learned` does), then forecasts every `step_d` days from the
  /// cutoff on, as long as `horizon` weeks of actual cash follow, each time from what was open on that day.
  /// - Parameter learned: What was learned by the cutoff already, from more than these items; nil learns from them.
  public init(
    _ items: [ReceivableItem], currency: Currency, cutoff_d: Int32, end_d: Int32, method: CashForecast.Method,
    horizon: Int = CashForecast.weeks, step_d: Int32 = 7, prior: Double? = nil, learned: CollectionModel? = nil,
    days: BusinessDays = BusinessDays()
  ) {
    self.method = method
    self.cutoff_d = cutoff_d
    byWeek = Array(repeating: ForecastError(), count: horizon)
    var model = learned ?? CollectionModel()
    if let prior { model.prior = prior }
    if learned == nil { model.learn(items, until: cutoff_d) }
    var origin = cutoff_d
    while origin + 7 * Int32(horizon) <= end_d {
      origins.append(origin)
      // What is not invoiced yet is not known yet.
      let known = items.filter { $0.invoiced_d <= origin }
      let forecast = CashForecast(known, asOf_d: origin, currency: currency, method: method, model: model, days: days)
      let actual = CashForecast.actual(known, asOf_d: origin, currency: currency)
      for week in 0..<horizon {
        all.add(forecast: forecast.expected[week], actual: actual[week])
        byWeek[week].add(forecast: forecast.expected[week], actual: actual[week])
      }
      origin += max(1, step_d)
    }
  }

  /// The day that parts a history by time: `fraction` of the days between the first and the last invoice lie before it.
  public static func cutoff(_ items: [ReceivableItem], fraction: Double) -> Int32? {
    let days = items.map(\.invoiced_d)
    guard let first = days.min(), let last = days.max() else { return nil }
    return first + Int32((Double(last - first) * fraction).rounded(.down))
  }
}
