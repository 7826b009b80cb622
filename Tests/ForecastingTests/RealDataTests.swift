import Domain
import Foundation
import Testing

@testable import Forecasting
@testable import Pipeline

/// Data that nobody here wrote, against direct computations that share no code with the readers or the formulas.
@Suite struct RealDataTests {
  /// Rows of the receivables sample, taken apart by hand.
  struct Raw {
    var customer: String
    var invoiced: Date
    var due: Date
    var settled: Date
    var cents: Int
    var disputed: Bool
  }

  func rawReceivables(_ folder: String) throws -> [Raw] {
    let format = DateFormatter()
    format.dateFormat = "M/d/yyyy"
    format.timeZone = TimeZone(identifier: "UTC")
    format.locale = Locale(identifier: "en_US_POSIX")
    return try String(contentsOfFile: folder + "/ar.csv", encoding: .utf8).split(whereSeparator: \.isNewline)
      .dropFirst()
      .map { line in
        let cells = line.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        return Raw(
          customer: cells[1], invoiced: format.date(from: cells[4])!, due: format.date(from: cells[5])!,
          settled: format.date(from: cells[8])!, cents: Int((Double(cells[6])! * 100).rounded()),
          disputed: cells[7] == "Yes")
      }
  }

  func receivables(_ folder: String) throws -> ReceivablesTable {
    var options = ReceivablesTable.Options()
    options.currency = usd
    return try ReceivablesTable(path: folder + "/ar.csv", options: options)
  }

  @Test func ageingAtAnyDateEqualsADirectComputation() throws {
    guard let folder = sharedData("receivables") else { return }
    let raw = try rawReceivables(folder)
    let items = try receivables(folder).items
    #expect(items.count == 2_466 && Set(items.map(\.customer)).count == 100)
    #expect(items.allSatisfy { $0.due_d == $0.invoiced_d + 30 })
    #expect(items.filter { $0.settled_d! > $0.due_d }.count == 877)
    #expect(items.filter(\.isDisputed).count == 561)
    #expect(items.allSatisfy { PaymentTerms("NET30")!.dueDay(from: $0.invoiced_d) == $0.due_d })
    for day in stride(from: date("2012-01-03"), through: date("2014-02-01"), by: 7) {
      let now = Date(timeIntervalSince1970: Double(day) * 86_400)
      var buckets = [Int](repeating: 0, count: 5)
      var disputed = 0
      for row in raw where row.invoiced <= now && row.settled > now {
        let late = Int(((now.timeIntervalSince1970 - row.due.timeIntervalSince1970) / 86_400).rounded())
        let bucket = late <= 0 ? 0 : late <= 30 ? 1 : late <= 60 ? 2 : late <= 90 ? 3 : 4
        buckets[bucket] += row.cents
        if row.disputed { disputed += row.cents }
      }
      let ageing = Ageing.of(items, at: day).first ?? Ageing(day: day, currency: usd)
      #expect(ageing.amounts.map { Int($0) } == buckets, "\(formatDate(day))")
      #expect(Int(ageing.disputed) == disputed && Int(ageing.total) == buckets.reduce(0, +))
      let forecast = ReceivablesReport(items, currency: usd, asOf_d: day, knownUntil_d: day, days: 90).forecast(
        .learned)
      #expect(forecast.expected.reduce(forecast.beyond + forecast.disputed, +) == ageing.total)
    }
  }

  /// Learned from the first 70 % of the time, tested on the rest. The figures stand in docs/forecasting.md.
  @Test func expectedCashBeatsThePlainDueDate() throws {
    guard let folder = sharedData("receivables") else { return }
    let table = try receivables(folder)
    let cutoff = try #require(Backtest.cutoff(table.items, fraction: 0.7))
    let last = try #require(table.lastDay)
    #expect(formatDate(cutoff) == "2013-05-06" && formatDate(last) == "2014-01-09")
    func test(_ method: CashForecast.Method) -> Backtest {
      Backtest(table.items, currency: usd, cutoff_d: cutoff, end_d: last, method: method)
    }
    let (learned, plain) = (test(.learned), test(.dueDate))
    #expect(learned.origins.count == 23 && learned.all.pairs == plain.all.pairs && learned.all.pairs == 136)
    #expect(learned.all.actual == plain.all.actual)
    let (mape, plainMape) = (try #require(learned.all.mape), try #require(plain.all.mape))
    #expect(mape < plainMape)
    #expect((mape * 1_000).rounded() == 372 && (plainMape * 1_000).rounded() == 772)
    #expect(try #require(learned.all.weighted) < #require(plain.all.weighted))
    // Nothing of the time after the cutoff was used to learn: with it cut off, the model is the same.
    var (whole, cut) = (CollectionModel(), CollectionModel())
    whole.learn(table.items, until: cutoff)
    cut.learn(table.items.filter { $0.settled_d! <= cutoff }, until: cutoff)
    #expect(whole.learned == cut.learned && whole.learned < Int64(table.items.count))
  }

  @Test func varianceEqualsADirectComputation() throws {
    guard let folder = sharedData("budget") else { return }
    var options = BudgetTable.Options()
    options.style = TableStyle(
      delimiter: UInt8(ascii: "|"),
      columns: ["key", "date", "organisation", "department", "scenario", "account", "amount"])
    options.by = ["account", "organisation", "month"]
    (options.actual, options.budget) = ("1", "2")
    options.currency = usd
    options.rounding = .halfEven
    options.natures = try BudgetTable.natures(
      path: folder + "/DimAccount.csv",
      style: TableStyle(
        delimiter: UInt8(ascii: "|"), columns: ["account", "parent", "code", "parent_code", "name", "type"]),
      account: "account", type: "type")
    let loaded = try BudgetTable(path: folder + "/FactFinance.csv", options: options)
    // By hand: cents from the text, per scenario.
    var sums: [String: (actual: Int, budget: Int)] = [:]
    var rows = [0, 0]
    var totals = [0, 0]
    for line in try String(contentsOfFile: folder + "/FactFinance.csv", encoding: .utf8).split(separator: "\n") {
      let cells = line.split(separator: "|").map(String.init)
      let cents = Int((Double(cells[6])! * 100).rounded(.toNearestOrEven))
      let month = cells[1].prefix(4) + "-" + cells[1].dropFirst(4).prefix(2)
      let scenario = Int(cells[4])! - 1
      rows[scenario] += 1
      totals[scenario] += cents
      let key = "\(cells[5])|\(cells[2])|\(month)"
      if scenario == 0 {
        sums[key, default: (0, 0)].actual += cents
      } else {
        sums[key, default: (0, 0)].budget += cents
      }
    }
    #expect(rows == [34_563, 4_846] && loaded.table.rows == 39_409 && loaded.otherRows == 0)
    #expect(Int(loaded.table.actual) == totals[0] && Int(loaded.table.budget) == totals[1])
    let lines = loaded.table.lines
    #expect(lines.count == sums.count)
    for line in lines {
      let direct = try #require(sums[line.key.parts.joined(separator: "|")])
      #expect(Int(line.variance.actual) == direct.actual && Int(line.variance.budget) == direct.budget)
      #expect(Int(line.variance.amount) == direct.actual - direct.budget)
    }
    #expect(lines.reduce(0) { $0 + $1.variance.amount } == loaded.table.actual - loaded.table.budget)
    // Salaries are an expense, trade sales income, cash neither.
    #expect(options.natures["60"] == .expense && options.natures["101"] == .income && options.natures["4"] == .neutral)
    let text = VarianceReport(loaded, options: options, threshold: .init()).text(budgeted: true, flagged: false)
    #expect(text.contains("39409 rows"))
  }
}
