import ArgumentParser
import Domain
import Forecasting
import Foundation
import Pipeline

extension DateStyle: ExpressibleByArgument {}
extension RoundingRule: ExpressibleByArgument {}

/// What both commands over tables need to read one.
struct TableOptions: ParsableArguments {
  @Option(help: "Between columns: one character, or 'tab'.") var delimiter = ","
  @Option(help: "Before the decimals of amounts: '.' or ','; with ',' points may stand between thousands.")
  var decimal = "."
  @Option(help: "How dates are written: yyyy-MM-dd, yyyyMMdd, M/d/yyyy, d/M/yyyy, d.M.yyyy (default: found out).")
  var dateFormat: DateStyle?
  @Option(help: "What more decimals than the currency has become: refuse, half_even, half_up, down.")
  var rounding = RoundingRule.refuse

  func style(columns: [String]?) throws -> TableStyle {
    guard let byte = delimiter == "tab" ? 0x09 : delimiter.utf8.first, delimiter == "tab" || delimiter.utf8.count == 1
    else { throw ValidationError("--delimiter must be one character, or 'tab'.") }
    guard decimal == "." || decimal == "," else { throw ValidationError("--decimal is '.' or ','.") }
    return TableStyle(delimiter: byte, columns: columns, hasDecimalComma: decimal == ",")
  }
}

func readCurrency(_ code: String) throws -> Currency {
  guard let currency = Currency(code) else { throw ValidationError("'\(code)' is no ISO 4217 currency.") }
  return currency
}

struct Forecast: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Forecasts cash from receivables: 13 weeks, ageing, DSO, and a backtest.",
    discussion: """
      Reads a CSV file (plain, .gz or .zst) with one row an invoice: invoice, customer, segment, currency, invoice date, \
      due date or terms (NET30, 2/10NET30, EOM+15), amount, settled date, disputed. Usual names of columns are found; \
      others are told by --column. Expected cash is learned from when customers paid before (what is settled by --as-of), \
      by customer, segment and all together; without a history it follows the due date. Disputed items are held out.

      EXAMPLES
        tieout forecast --receivables ar.csv --currency USD
        tieout forecast --receivables ar.csv --currency USD --as-of 2013-08-31 --backtest 70
        tieout forecast --receivables open.csv --column invoiced=BLDAT --column amount=DMBTR --terms NET30
      """)

  @Option(help: "CSV file of receivables.") var receivables: String
  @Option(
    parsing: .singleValue,
    help:
      "WHAT=NAME: the name of a column (id, customer, segment, currency, invoiced, due, terms, amount, settled, disputed)."
  )
  var column: [String] = []
  @Option(help: "Currency, where no column says it.") var currency: String?
  @Option(help: "Payment terms of rows without a due date.") var terms: String?
  @Option(help: "The last day of what is known (default: the last day in the file).") var asOf: String?
  @Option(help: "Days over which DSO and collection effectiveness are taken.") var days: Int32 = 90
  @Option(help: "Percent of the time to learn from; the rest is forecast and compared.") var backtest: Double?
  @OptionGroup var table: TableOptions

  func validate() throws {
    if let asOf, DateStyle.iso.day(asOf) == nil { throw ValidationError("--as-of '\(asOf)' is no date (2013-08-31).") }
    if let terms, PaymentTerms(terms) == nil {
      throw ValidationError("--terms '\(terms)' are no payment terms (NET30, 2/10NET30, EOM+15, COD).")
    }
    if let backtest, !(backtest > 0 && backtest < 100) {
      throw ValidationError("--backtest must be between 0 and 100.")
    }
    if days < 1 || days > 3_650 { throw ValidationError("--days must be from 1 to 3650.") }
    for pair in column where !pair.contains("=") { throw ValidationError("--column '\(pair)' is not WHAT=NAME.") }
    if let currency { _ = try readCurrency(currency) }
    _ = try table.style(columns: nil)
  }

  func run() throws {
    do {
      var options = ReceivablesTable.Options()
      for pair in column {
        let at = pair.firstIndex(of: "=")!
        options.columns[String(pair[..<at])] = String(pair[pair.index(after: at)...])
      }
      options.dates = table.dateFormat
      options.currency = try currency.map(readCurrency)
      options.terms = terms.flatMap { PaymentTerms($0) }
      options.rounding = table.rounding
      options.style = try table.style(columns: nil)
      let loaded = try ReceivablesTable(path: receivables, options: options)
      guard let last = loaded.lastDay else {
        throw TableError(file: receivables, line: 0, message: "there are no rows")
      }
      let day = asOf.flatMap { DateStyle.iso.day($0) } ?? last
      for currency in loaded.currencies {
        let report = ReceivablesReport(loaded.items, currency: currency, asOf_d: day, knownUntil_d: last, days: days)
        print(report.text)
        if report.isBeyondRange {
          let warning = "tieout: \(currency.code): sums beyond the range of amounts stand at its end, and do not add up"
          FileHandle.standardError.write(Data("\(warning)\n".utf8))
        }
        if let backtest { print(report.backtest(fraction: backtest / 100)) }
      }
    } catch { fail(error) }
  }
}

struct VarianceCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "variance",
    abstract: "Compares actual with budget.",
    discussion: """
      Reads a CSV file (plain, .gz or .zst) with one row a fact: date, scenario (actual or budget), account, amount, and \
      whatever the lines are to be by. Prints actual, budget, variance, percent of |budget|, and whether it is \
      favourable by the account's nature; lines over both thresholds are marked. Control totals come last.

      EXAMPLES
        tieout variance --facts plan.csv --by account,month --currency EUR
        tieout variance --facts FactFinance.csv --delimiter '|' \\
          --columns key,date,organisation,department,scenario,account,amount --actual 1 --budget 2 \\
          --accounts DimAccount.csv --account-columns account,parent,code,parent_code,name,type \\
          --by account,organisation,month --currency USD --rounding half_even --threshold 10000 --threshold-percent 10
      """)

  @Option(help: "CSV file of facts.") var facts: String
  @Option(help: "Names of the columns, where the file has no header.") var columns: String?
  @Option(help: "What the lines are by: columns, and 'month' (default: the column of the account, and 'month').")
  var by: String?
  @Option(help: "Column of the date.") var date = "date"
  @Option(help: "Column of the scenario.") var scenario = "scenario"
  @Option(help: "Column of the account.") var account = "account"
  @Option(help: "Column of the amount.") var amount = "amount"
  @Option(help: "The scenario that is actual.") var actual = "actual"
  @Option(help: "The scenario that is budget.") var budget = "budget"
  @Option(help: "Currency of the amounts.") var currency: String
  @Option(help: "CSV file of accounts, with what kind each is.") var accounts: String?
  @Option(help: "Names of its columns, where it has no header.") var accountColumns: String?
  @Option(help: "Its column of the kind (revenue, expense, other).") var accountType = "type"
  @Option(help: "Absolute threshold, in major units.") var threshold = "0"
  @Option(help: "Percent threshold, of |budget|.") var thresholdPercent = "0"
  @Flag(help: "Only months for which there is a budget.") var budgeted = false
  @Flag(help: "Only lines over both thresholds.") var flagged = false
  @OptionGroup var table: TableOptions

  func validate() throws {
    let currency = try readCurrency(currency)
    _ = try table.style(columns: nil)
    if (try? Money(threshold, currency)) == nil { throw ValidationError("--threshold '\(threshold)' is no amount.") }
    if percent_u == nil { throw ValidationError("--threshold-percent '\(thresholdPercent)' is no number.") }
  }

  private var percent_u: Int64? {
    var text = thresholdPercent
    return text.withUTF8 { bytes in
      guard let number = try? DecimalText(bytes) else { return nil }
      return try? number.units(decimals: 4)
    }
  }

  func run() throws {
    do {
      let currency = try readCurrency(currency)
      func names(_ text: String?) -> [String]? {
        text?.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }
      }
      var options = BudgetTable.Options()
      options.style = try table.style(columns: names(columns))
      options.dates = table.dateFormat
      (options.dateColumn, options.scenarioColumn, options.amountColumn) = (date, scenario, amount)
      (options.accountColumn, options.actual, options.budget) = (account, actual, budget)
      options.by = names(by) ?? [account, "month"]
      options.currency = currency
      options.rounding = table.rounding
      if let accounts {
        options.natures = try BudgetTable.natures(
          path: accounts, style: try table.style(columns: names(accountColumns)), account: account, type: accountType)
      }
      let loaded = try BudgetTable(path: facts, options: options)
      let limit = VarianceThreshold(
        absolute: try Money(threshold, currency).minorUnits, percent_u: percent_u ?? 0)
      print(VarianceReport(loaded, options: options, threshold: limit).text(budgeted: budgeted, flagged: flagged))
    } catch { fail(error) }
  }
}
