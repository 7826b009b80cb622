import Aggregates
import Configuration
import Domain
import Forecasting

/// Actuals of the aggregates' cells against a budget: by the dimensions of the budget, currency, period and measure.
///
/// A period is compared where the budget has a line of the measure in it, or where something was told of it before;
/// then everything that happened in it counts, whether it was planned or not. What is planned and did not happen is
/// compared with zero.
struct VarianceFigures {
  let settings: VarianceSettings
  /// Places of `settings.by` among the configured dimensions.
  private let places: [Int]

  private struct Sum {
    var actual: Int128 = 0
    var quantity_u: Int128 = 0
    var disputed: Int128 = 0
    var completeness = CellCompleteness()

    static func += (a: inout Sum, b: Sum) {
      a.actual += b.actual
      a.quantity_u += b.quantity_u
      a.disputed += b.disputed
      a.completeness.unvaluedEvents += b.completeness.unvaluedEvents
      a.completeness.unvaluedPostings += b.completeness.unvaluedPostings
      a.completeness.unvaluedDifferences += b.completeness.unvaluedDifferences
    }

    var isEmpty: Bool { actual == 0 && quantity_u == 0 && disputed == 0 && completeness.isComplete }
  }

  init(settings: VarianceSettings, dimensions: [String]) {
    self.settings = settings
    places = settings.by.compactMap { dimensions.firstIndex(of: $0) }
  }

  private struct Others: Hashable {
    var currency: Currency
    var period: Int32
    var measure: Measure
  }

  /// The messages, by key.
  /// - Parameters:
  ///   - known: Keys that have been told before: they are told again where neither budget nor actuals are left.
  ///   - status: Of a key.
  func messages(
    _ lines: some Sequence<CellLine>, budget: Budget, known: Set<BudgetKey> = [],
    status: (BudgetKey) -> MessageStatus
  ) -> [VarianceMessage] {
    var measures: [Int32: Set<Measure>] = [:]
    for key in budget.lines.keys { measures[key.period, default: []].insert(key.measure) }
    for key in known { measures[key.period, default: []].insert(key.measure) }
    var sums: [BudgetKey: Sum] = [:]
    var others: [Others: Int128] = [:]
    for line in lines where line.key.isBase == settings.isBase {
      guard let wanted = measures[line.key.period] else { continue }
      let dimensions = places.map { line.key.dimensions[$0] }
      for measure in wanted {
        let actual = line.values.value(measure, .posting)
        var own = Sum(actual: actual, quantity_u: measure.quantity.map { line.values[$0] } ?? 0)
        let disputed = line.values.disputed(measure)
        own.disputed = disputed ?? 0
        own.completeness.add(
          line.values, events: measure.isOfEvents, postings: measure.isPosted, roles: measure.roles)
        guard !own.isEmpty else { continue }
        let key = BudgetKey(
          dimensions: dimensions, currency: line.key.currency, period: line.key.period, measure: measure)
        sums[key, default: Sum()] += own
        if dimensions.contains(CellKey.other) {
          others[Others(currency: key.currency, period: key.period, measure: measure), default: 0] += Int128(
            actual.magnitude)
        }
      }
    }
    return Set(sums.keys).union(budget.lines.keys).union(known).sorted().map { key in
      var sum = sums[key] ?? Sum()
      sum.completeness.isOther = key.dimensions.contains(CellKey.other)
      if !sum.completeness.isOther {
        sum.completeness.other = others[Others(currency: key.currency, period: key.period, measure: key.measure)] ?? 0
      }
      return message(key, sum, budget.lines[key], status(key))
    }
  }

  private func message(_ key: BudgetKey, _ sum: Sum, _ line: Budget.Line?, _ status: MessageStatus) -> VarianceMessage {
    let variance = Variance(actual: sum.actual, budget: Int128(line?.amount ?? 0), nature: key.measure.nature)
    let quantity_u = settings.countsQuantities && key.measure.quantity != nil ? sum.quantity_u : nil
    var parts: PriceVolume?
    if let quantity_u, let actual = Int64(exactly: sum.actual), let actualQuantity_u = Int64(exactly: quantity_u),
      let line, let budgetQuantity_u = line.quantity_u
    {
      parts = PriceVolume(
        actual: actual, actualQuantity_u: actualQuantity_u, budget: line.amount, budgetQuantity_u: budgetQuantity_u)
    }
    var message = VarianceMessage(
      series: MessageSeries(dimensions: key.dimensions, currency: key.currency, isBase: settings.isBase),
      period: key.period, measure: key.measure.rawValue, variance: variance, parts: parts, actualQuantity_u: quantity_u,
      budgetQuantity_u: line?.quantity_u.map { Int128($0) },
      isFlagged: variance.isFlagged(settings.threshold(key.currency)), status: status)
    message.disputed = key.measure.roles.isEmpty ? nil : sum.disputed
    message.completeness = sum.completeness
    return message
  }
}
