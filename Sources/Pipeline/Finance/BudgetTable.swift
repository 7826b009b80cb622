import Domain
import Forecasting
import Foundation

/// Actual and budget read from CSV files: one row a fact, told apart by a scenario column.
public struct BudgetTable: Sendable {
  public struct Options: Sendable {
    public var style = TableStyle()
    public var dates: DateStyle?
    public var dateColumn = "date"
    public var scenarioColumn = "scenario"
    public var amountColumn = "amount"
    public var accountColumn = "account"
    /// What the lines are by: columns, and `month` for the month of the date.
    public var by = ["account", "month"]
    public var actual = "actual"
    public var budget = "budget"
    public var currency = Currency.none
    public var rounding = RoundingRule.refuse
    /// By account, what more of it means; those not named are neutral.
    public var natures: [String: AccountNature] = [:]

    public init() {}
  }

  /// Values of the columns that the lines are by. Numbers sort as numbers.
  public struct Key: Hashable, Comparable, Sendable {
    public var parts: [String]

    public static func < (a: Key, b: Key) -> Bool {
      for (x, y) in zip(a.parts, b.parts) where x != y {
        if let left = Int(x), let right = Int(y), left != right { return left < right }
        return x < y
      }
      return a.parts.count < b.parts.count
    }
  }

  public private(set) var table = VarianceTable<Key>()
  /// Rows of other scenarios.
  public private(set) var otherRows = 0
  /// Months in which there is at least one row of the budget.
  public private(set) var budgetedMonths: Set<String> = []

  public init(path: String, options: Options) throws {
    let file = try TableFile(path: path, style: options.style)
    let scenario = try file.requiredColumn("the scenario", [options.scenarioColumn])
    let amount = try file.requiredColumn("the amount", [options.amountColumn])
    let account = try file.requiredColumn("the account", [options.accountColumn])
    let days = try file.days(try file.requiredColumn("the date", [options.dateColumn]), style: options.dates)
    var parts: [Int?] = []
    for name in options.by {
      parts.append(
        name == "month"
          ? nil : try file.requiredColumn("\(name), which the lines are to be by (--by)", [name]))
    }
    for (at, row) in file.rows.enumerated() {
      guard let day = days[at] else { throw TableError(file: path, line: row.line, message: "there is no date") }
      let value = try file.amount(row, amount, options.currency, rounding: options.rounding)
      let isActual = row.cells[scenario].lowercased() == options.actual.lowercased()
      guard isActual || row.cells[scenario].lowercased() == options.budget.lowercased() else {
        otherRows += 1
        continue
      }
      let month = String(formatDate(day).prefix(7))
      if !isActual { budgetedMonths.insert(month) }
      let key = Key(parts: parts.map { $0.map { row.cells[$0] } ?? month })
      let nature = options.natures[row.cells[account]] ?? .neutral
      guard table.add(key, actual: isActual ? value : 0, budget: isActual ? 0 : value, nature: nature) else {
        throw TableError(file: path, line: row.line, message: "more than \(table.maximumKeys) lines of variance")
      }
    }
  }

  /// Account → nature from a table of accounts with a column that says what kind each is.
  public static func natures(path: String, style: TableStyle, account: String, type: String) throws -> [String:
    AccountNature]
  {
    let file = try TableFile(path: path, style: style)
    let (key, kind) = (try file.requiredColumn("the account", [account]), try file.requiredColumn("the type", [type]))
    var natures: [String: AccountNature] = [:]
    for row in file.rows {
      switch row.cells[kind].lowercased() {
      case "revenue", "revenues", "income", "sales": natures[row.cells[key]] = .income
      case "expense", "expenses", "expenditure", "expenditures", "cost", "costs": natures[row.cells[key]] = .expense
      default: natures[row.cells[key]] = .neutral
      }
    }
    return natures
  }
}
