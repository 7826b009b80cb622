import Domain
import Foundation
import Testing

@testable import Forecasting
@testable import Pipeline

/// Tables of people's spreadsheets: what is wrong is said with file and line.
@Suite struct TableFileTests {
  func problem(_ text: String, _ options: ReceivablesTable.Options = .init()) throws -> TableError {
    let path = try temporaryFile(text)
    do {
      _ = try ReceivablesTable(path: path, options: options)
    } catch let error as TableError {
      #expect(error.file == path)
      return error
    }
    Issue.record("no error")
    return TableError(file: "", line: 0, message: "")
  }

  let head = "invoice,customer,currency,invoice date,due date,amount,settled,disputed\n"

  @Test func rowsAreRead() throws {
    let path = try temporaryFile(
      "\u{feff}" + head + "1,\"Smith, \"\"J\"\"\",EUR,2024-01-31,2024-03-01,12.5,,no\r\n"
        + "2,B,JPY,2024-02-01,2024-03-02,700,2024-02-20,Yes\n")
    let table = try ReceivablesTable(path: path, options: .init())
    #expect(table.items.map(\.customer) == ["Smith, \"J\"", "B"] && table.items.map(\.amount) == [1_250, 700])
    #expect(table.items[0].applications.isEmpty && table.items[0].settled_d == nil && !table.items[0].isDisputed)
    #expect(table.items[1].settled_d == date("2024-02-20") && table.items[1].isDisputed)
    #expect(table.currencies.map(\.code) == ["EUR", "JPY"] && table.lastDay == date("2024-02-20"))
  }

  /// Amounts with a comma before the decimals, where that is said; where not, the way to say it is named.
  @Test func decimalCommas() throws {
    func text(_ amount: String) -> String { "customer;date;due;amount\nA;31.01.2024;1.3.2024;\(amount)\n" }
    var options = ReceivablesTable.Options()
    options.currency = usd
    options.style = TableStyle(delimiter: UInt8(ascii: ";"), hasDecimalComma: true)
    func amount(_ text: String) throws -> Int64? {
      try ReceivablesTable(path: try temporaryFile(text), options: options).items.first?.amount
    }
    for (written, cents) in [
      ("1.234", 1_234_00), ("1.234,5", 1_234_50), ("-1.234.567,89", -1_234_567_89), ("0,07", 7), ("12", 12_00),
      ("1234,5", 1_234_50),
    ] as [(String, Int64)] {
      #expect(try amount(text(written)) == cents, "\(written)")
    }
    for written in ["1,234.5", "1.23", "1.2345", "1,2,3", ".234", "12,345", "x"] {
      #expect(try problem(text(written), options).message.contains("amount"), "\(written)")
    }
    options.style.hasDecimalComma = false
    for written in ["1.234", "1.234,5", "12,5"] {
      #expect(try problem(text(written), options).message.contains("--decimal ','"), "\(written)")
    }
    #expect(try !problem(text("1.2345"), options).message.contains("--decimal"))
  }

  /// `108,61-`, as mainframes print it.
  @Test func aMinusMayStandBehind() throws {
    for (isComma, written, cents) in [
      (true, "108,61-", -108_61), (true, "1.108,61-", -1_108_61), (true, "5-", -5_00), (false, "108.61-", -108_61),
      (false, " 7 - ", nil), (true, "-5-", nil), (false, "+5-", nil), (false, "-", nil), (true, "5--", nil),
    ] as [(Bool, String, Int64?)] {
      var options = ReceivablesTable.Options()
      options.currency = usd
      options.style = TableStyle(delimiter: UInt8(ascii: ";"), hasDecimalComma: isComma)
      let text = "customer;date;due;amount\nA;31.01.2024;1.3.2024;\(written)\n"
      if let cents {
        let table = try? ReceivablesTable(path: try temporaryFile(text), options: options)
        #expect(table?.items.map(\.amount) == [cents], "\(written)")
      } else {
        #expect(try problem(text, options).message.contains("is no amount"), "\(written)")
      }
    }
  }

  /// What the lines are by is told apart from the columns of a fact.
  @Test func whatTheLinesAreByIsNamed() throws {
    let path = try temporaryFile("Konto;date;scenario;amount\n4711;2024-01-31;actual;108,61-\n")
    var options = BudgetTable.Options()
    options.style = TableStyle(delimiter: UInt8(ascii: ";"), hasDecimalComma: true)
    options.currency = usd
    options.accountColumn = "Konto"
    do {
      _ = try BudgetTable(path: path, options: options)
      Issue.record("no error")
    } catch let error as TableError {
      let message = "there is no column for account, which the lines are to be by (--by); the columns are Konto, date"
      #expect(error.message.hasPrefix(message), "\(error)")
    }
    options.by = ["Konto", "month"]
    #expect(try BudgetTable(path: path, options: options).table.actual == -108_61)
  }

  @Test func termsStandInForDueDates() throws {
    let path = try temporaryFile(
      "customer,date,amount,terms\nA,31.01.2024,5,EOM+15\nA,31.01.2024,5,\n")
    var options = ReceivablesTable.Options()
    (options.currency, options.terms) = (usd, PaymentTerms("NET10"))
    let table = try ReceivablesTable(path: path, options: options)
    #expect(table.items.map(\.due_d) == [date("2024-02-15"), date("2024-02-10")])
    options.terms = nil
    #expect(try problem("customer,date,amount\nA,2024-01-31,5\n", options).message.contains("due date"))
    #expect(try problem("customer,date,amount,terms\nA,2024-01-31,5,soon\n", options).line == 2)
  }

  @Test func whatIsWrongIsSaidWithItsLine() throws {
    let good = "1,A,EUR,2024-01-31,2024-03-01,1,,no\n"
    for (row, part) in [
      ("1,A,EUR,2024-13-31,2024-03-01,1,,no\n", "is no date"), ("1,A,EUR,,2024-03-01,1,,no\n", "no invoice date"),
      ("1,A,EUR,2024-01-31,2024-03-01,x,,no\n", "is no amount"),
      ("1,A,EUR,2024-01-31,2024-03-01,1.005,,no\n", "more decimals"),
      ("1,A,EU,2024-01-31,2024-03-01,1,,no\n", "no ISO 4217 currency"),
      ("1,A,EUR,2024-01-31,2024-03-01,1,,perhaps\n", "neither yes nor no"),
      ("1,A,EUR,2024-01-31,2024-03-01,1,2023-01-01,no\n", "settled before"),
      ("1,A\n", "2 columns where 8"), ("1,\"A\n", "does not end"), ("1,\"A\"x,EUR\n", "follows a quoted"),
      ("1,A,EUR,2024-01-31,2024-03-01,99999999999999999999,,no\n", "too large"),
    ] {
      let error = try problem(head + good + row)
      #expect(error.message.contains(part) && error.line == 3, "\(row): \(error)")
    }
    #expect(try problem("").message.contains("no header"))
    #expect(try problem("invoice,costumer,amount\n").message.contains("did you mean 'costumer'"))
    var options = ReceivablesTable.Options()
    options.columns = ["custmer": "x"]
    #expect(try problem(head + good, options).message.contains("there is no column kind 'custmer'"))
  }

  @Test func datesThatCanBeReadTwoWaysAreRefused() throws {
    var options = ReceivablesTable.Options()
    options.currency = usd
    let text = "customer,date,due,amount\nA,3/4/2024,3/5/2024,1\n"
    #expect(try problem(text, options).message.contains("M/d/yyyy or d/M/yyyy"))
    options.dates = .british
    #expect(try ReceivablesTable(path: temporaryFile(text), options: options).items[0].invoiced_d == date("2024-04-03"))
    options.dates = nil
    let clear = "customer,date,due,amount\nA,3/4/2024,3/25/2024,1\nA,3/14/2024,3/25/2024,1\n"
    #expect(
      try ReceivablesTable(path: temporaryFile(clear), options: options).items[0].invoiced_d == date("2024-03-04"))
  }

  @Test func theReportSaysWhatItKnows() throws {
    let path = try temporaryFile(
      head + "1,A,EUR,2024-01-01,2024-01-31,100.00,2024-02-05,no\n2,A,EUR,2024-02-01,2024-03-02,50.00,,no\n"
        + "3,A,EUR,2024-02-02,2024-03-03,7.00,,yes\n")
    let table = try ReceivablesTable(path: path, options: .init())
    let day = date("2024-02-10")
    let report = ReceivablesReport(table.items, currency: Currency("EUR")!, asOf_d: day, knownUntil_d: day, days: 90)
    let forecast = report.forecast(.learned)
    #expect(forecast.open == 5_700 && forecast.disputed == 700)
    #expect(report.text.contains("in dispute") && report.text.contains("57.00"))
    #expect(report.backtest(fraction: 0.5).contains("by due date"))
  }
}
