import Aggregates
import Domain
import Forecasting
import Yams

/// What `tieout flows` compares with a budget, and how.
public struct VarianceSettings: Sendable, Equatable {
  /// Configured dimensions that the budget is by; actuals are summed over all others.
  public var by: [String] = []
  /// Of rows that name none.
  public var measure = Measure.recognisedRevenue
  /// Whether actuals are those of the base currency.
  public var isBase = false
  /// Major units of the currency of the amounts, in millionths.
  public var absolute_u: Int64 = 0
  /// Of |budget|, in millionths: 5 % is 50,000.
  public var percent_u: Int64 = 0
  /// How long changes are gathered before they are told, and how often the file of the budget is looked at.
  public var interval_ms: Int64 = 10_000
  /// The file of the budget; empty where it is a topic.
  public var budgetPath = ""
  /// The compacted topic of the budget; nil where it is a file.
  public var budgetTopic: String?
  /// Currency of every amount, where actuals are in the base currency.
  var baseCurrency = Currency.none
  /// Whether quantities of the actuals are counted.
  public var countsQuantities = false
  /// As it was read at the start; of a topic nothing.
  public var budget = Budget()

  public init() {}

  /// The threshold in minor units of a currency, rounded up.
  public func threshold(_ currency: Currency) -> VarianceThreshold {
    var scale = Int128(1)
    for _ in 0..<currency.exponent { scale *= 10 }
    let minor = (Int128(absolute_u) * scale + 999_999) / 1_000_000
    return VarianceThreshold(absolute: Int64(clamping: minor), percent_u: percent_u)
  }

  /// The line of a record of the budget's topic: a JSON object of plain values.
  /// - Throws: where it is none or has no key, a field is missing, or the line makes no sense.
  public func budgetLine(
    hasKey: Bool = true, _ value: [UInt8]
  ) throws(MasterDataError) -> (key: BudgetKey, line: Budget.Line) {
    guard hasKey else {
      throw MasterDataError(description: "it has no key, and a compacted topic's records have one")
    }
    let fields = try TableSource.fields(value)
    for name in ["period", "currency", "amount"] + by where fields[name] == nil {
      throw MasterDataError(description: "it has no field '\(name)'")
    }
    do throws(Budget.RowFault) { return try Budget.line(fields, self) } catch {
      throw MasterDataError(description: error.message)
    }
  }

  /// Reads the file of the budget again.
  public func readBudget() throws(MasterDataError) -> Budget {
    let (budget, problems) = Budget.read(self)
    if let first = problems.first { throw MasterDataError(description: first) }
    return budget
  }
}

/// What a line of a budget, and of its comparison with what happened, is about.
public struct BudgetKey: Hashable, Sendable, Comparable {
  /// Values of `VarianceSettings.by`.
  public var dimensions: [String]
  public var currency: Currency
  /// Accounting period, year × 100 + number.
  public var period: Int32
  public var measure: Measure

  public init(dimensions: [String], currency: Currency, period: Int32, measure: Measure) {
    self.dimensions = dimensions
    self.currency = currency
    self.period = period
    self.measure = measure
  }

  public static func < (a: BudgetKey, b: BudgetKey) -> Bool {
    if a.dimensions != b.dimensions {
      return a.dimensions.lexicographicallyPrecedes(b.dimensions) { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    }
    if a.currency != b.currency { return a.currency.code < b.currency.code }
    if a.period != b.period { return a.period < b.period }
    return a.measure.rawValue < b.measure.rawValue
  }
}

/// Amounts, and quantities where they are planned, by key.
public struct Budget: Sendable, Equatable {
  public struct Line: Sendable, Equatable {
    /// Minor units.
    public var amount: Int64
    /// Millionths of the unit; nil where none is planned.
    public var quantity_u: Int64?

    public init(amount: Int64, quantity_u: Int64? = nil) {
      self.amount = amount
      self.quantity_u = quantity_u
    }
  }

  public var lines: [BudgetKey: Line] = [:]
  /// A million lines are some 200 MB.
  public static let maximumLines = 1_000_000

  public init(_ lines: [BudgetKey: Line] = [:]) { self.lines = lines }

  /// As many problems of a file are said.
  private static let maximumProblems = 10

  /// Reads a CSV file with the columns `period`, `currency`, `amount`, those of `by`, and, where wanted, `measure` and
  /// `quantity`.
  /// - Returns: what could be read, and what is wrong, each with file and line.
  static func read(_ settings: VarianceSettings) -> (budget: Budget, problems: [String]) {
    let path = settings.budgetPath
    var budget = Budget()
    var problems: [String] = []
    do throws(TableFile.Fault) {
      let rows = try TableFile(path: path).rows(
        of: ["period", "currency", "amount"] + settings.by, optional: ["measure", "quantity"])
      var places: [BudgetKey: Int] = [:]
      for row in rows {
        do throws(RowFault) {
          let (key, line) = try self.line(row.cells, settings)
          if let other = places[key] { throw RowFault("the same as line \(other), which says it already") }
          guard places.count < maximumLines else { throw RowFault("more than \(maximumLines) lines of a budget") }
          places[key] = row.line
          budget.lines[key] = line
        } catch {
          problems.append("\(path):\(row.line): \(error.message)")
          if problems.count >= maximumProblems { break }
        }
      }
    } catch { problems.append(error.message) }
    return (budget, problems)
  }

  fileprivate struct RowFault: Error {
    var message: String
    init(_ message: String) { self.message = message }
  }

  fileprivate static func line(_ cells: [String: String], _ settings: VarianceSettings) throws(RowFault) -> (
    key: BudgetKey, line: Line
  ) {
    func text(_ name: String) -> String { cells[name] ?? "" }
    guard let period = Configuration.period(text("period")) else {
      throw RowFault("'period' must be a year and a number such as 2026-01, not '\(text("period"))'")
    }
    guard let currency = Currency(text("currency")) else {
      throw RowFault("'\(text("currency"))' is no currency of ISO 4217")
    }
    if settings.isBase, currency != settings.baseCurrency {
      throw RowFault("the budget is compared in \(settings.baseCurrency.code), and this row is in \(currency.code)")
    }
    var measure = settings.measure
    if !text("measure").isEmpty {
      guard let named = Measure(rawValue: text("measure")) else {
        let names = Measure.allCases.map(\.rawValue)
        let hint = nearestName(text("measure"), in: names).map { "; did you mean '\($0)'?" } ?? ""
        throw RowFault("there is no measure '\(text("measure"))'\(hint)")
      }
      measure = named
    }
    guard let amount = try? Money(text("amount"), currency) else {
      throw RowFault(
        "'\(text("amount"))' is no amount of \(currency.code) with at most \(currency.exponent) decimals")
    }
    var line = Line(amount: amount.minorUnits)
    var quantity = text("quantity")
    if !quantity.isEmpty {
      guard measure.quantity != nil else {
        throw RowFault("the measure \(measure.rawValue) has no quantity to compare with")
      }
      guard settings.countsQuantities else {
        throw RowFault("a quantity is planned, and actual ones are not counted: set aggregates.quantities")
      }
      let made: Int64? = quantity.withUTF8 { bytes in
        (try? DecimalText(bytes)).flatMap { try? $0.units(decimals: 6) }
      }
      guard let made else { throw RowFault("'\(text("quantity"))' is no quantity with at most six decimals") }
      line.quantity_u = made
    }
    return (
      BudgetKey(dimensions: settings.by.map { text($0) }, currency: currency, period: period, measure: measure), line
    )
  }
}

extension Measure {
  /// Which quantity goes with it: nil where there is none.
  public var quantity: QuantityFlow? {
    switch self {
    case .billings, .billedRevenue, .billedGross: .billed
    case .grossRevenue, .recognisedRevenue: .posted
    default: nil
    }
  }

  /// Whether more of it is good for the result.
  public var nature: AccountNature {
    switch self {
    case .bookings, .billings, .billedRevenue, .billedGross, .releasesDue, .cashExpected, .grossRevenue, .freight,
      .recognisedRevenue, .grossMargin, .cashIn:
      .income
    case .creditedGross, .shippedCost, .discounts, .returns, .cogs, .writeOffs: .expense
    default: .neutral
    }
  }
}

extension Configuration {
  /// After dimensions, aggregates and rates.
  mutating func readVariance(_ node: Node?, _ reader: ConfigurationReader) {
    let path = ["variance"]
    guard let nodes = reader.enabledNodes(node, path, "comparisons with a budget") else { return }
    var settings = VarianceSettings()
    settings.by = reader.names(nodes["by"], path + ["by"])
    for (at, name) in settings.by.enumerated() where !dimensions.contains(name) {
      reader.problem(
        nodes["by"]?.sequence?[at], "variance.by: unknown dimension '\(name)'\(reader.hint(name, dimensions))")
    }
    for name in settings.by where ["period", "currency", "amount", "measure", "quantity"].contains(name) {
      reader.problem(nodes["by"], "variance.by: '\(name)' is the name of another column of a budget")
    }
    settings.measure = reader.choice(nodes["measure"], path + ["measure"], settings.measure)
    enum View: String, CaseIterable { case transaction, base }
    settings.isBase = reader.choice(nodes["view"], path + ["view"], View.transaction) == .base
    settings.baseCurrency = baseCurrency
    if settings.isBase, baseCurrency == .none {
      reader.problem(nodes["view"], "variance.view: there is no base currency: set fx")
    }
    let threshold = reader.nodes(nodes["threshold"], path + ["threshold"])
    settings.absolute_u = reader.micros(threshold["absolute"], path + ["threshold", "absolute"], 0)
    let percent = reader.micros(threshold["percent"], path + ["threshold", "percent"], 0)
    if percent % 100 != 0 {
      reader.problem(threshold["percent"], "variance.threshold.percent: at most four decimals are expected")
    }
    settings.percent_u = percent / 100
    settings.interval_ms = reader.duration_ms(nodes["interval"], path + ["interval"], settings.interval_ms, atLeast: 1)
    guard let aggregates else {
      reader.problem(node, "variance: actuals are what aggregates add up, and aggregates are not enabled")
      return
    }
    settings.countsQuantities = aggregates.countsQuantities
    if let topicNode = nodes["topic"] {
      if nodes["budget"] != nil { reader.problem(topicNode, "variance: either 'budget' or 'topic', not both") }
      settings.budgetTopic = reader.topic(topicNode, path + ["topic"], "", place: topicNode)
      variance = settings
      return
    }
    guard let budgetNode = nodes["budget"] else {
      reader.problem(node, "variance: 'budget' or 'topic' is missing")
      return
    }
    settings.budgetPath = reader.resolve(reader.name(budgetNode, path + ["budget"], ""))
    let (budget, problems) = Budget.read(settings)
    for problem in problems { reader.problem(budgetNode, "variance.budget: \(problem)") }
    settings.budget = budget
    variance = settings
  }
}
