import Domain
import Forecasting
import Foundation

/// Receivables read from a CSV file: one row an invoice, with its settlement where there is one.
public struct ReceivablesTable: Sendable {
  public struct Options: Sendable {
    /// Names of columns by what they are (`customer`, `due`…), where the usual names do not fit.
    public var columns: [String: String] = [:]
    public var dates: DateStyle?
    /// Where no column says it.
    public var currency: Currency?
    /// Where neither a due date nor terms stand in a row.
    public var terms: PaymentTerms?
    public var rounding = RoundingRule.refuse
    public var style = TableStyle()

    public init() {}
  }

  /// What a column can be, and how it is usually called.
  public static let usualNames: [(what: String, names: [String])] = [
    ("id", ["invoice", "invoice_number", "invoice_no", "document", "id"]),
    ("customer", ["customer", "customer_id", "customer_no", "account"]),
    ("segment", ["segment", "country_code", "country", "region"]),
    ("currency", ["currency", "currency_code"]),
    ("invoiced", ["invoice_date", "invoiced", "document_date", "date"]),
    ("due", ["due_date", "due"]),
    ("terms", ["terms", "payment_terms"]),
    ("amount", ["amount", "invoice_amount", "gross"]),
    ("settled", ["settled_date", "settled", "paid_date", "payment_date"]),
    ("disputed", ["disputed", "dispute"]),
  ]

  public private(set) var items: [ReceivableItem] = []

  public init(path: String, options: Options) throws {
    let table = try TableFile(path: path, style: options.style)
    for name in options.columns.keys.sorted() where !Self.usualNames.contains(where: { $0.what == name }) {
      throw TableError(
        file: path, line: 0,
        message: "there is no column kind '\(name)'; there are "
          + Self.usualNames.map(\.what).joined(separator: ", "))
    }
    func names(_ what: String) -> [String] {
      options.columns[what].map { [$0] } ?? Self.usualNames.first { $0.what == what }!.names
    }
    func column(_ what: String) throws(TableError) -> Int? {
      // What was named must be there.
      options.columns[what] == nil ? table.column(names(what)) : try table.requiredColumn(what, names(what))
    }
    let (id, segment, currencies) = (try column("id"), try column("segment"), try column("currency"))
    let customer = try table.requiredColumn("the customer", names("customer"))
    let amount = try table.requiredColumn("the amount", names("amount"))
    let invoiced = try table.days(
      try table.requiredColumn("the invoice date", names("invoiced")), style: options.dates)
    let due = try column("due").map { (at) throws(TableError) in try table.days(at, style: options.dates) }
    let settled = try column("settled").map { (at) throws(TableError) in try table.days(at, style: options.dates) }
    let (terms, disputed) = (try column("terms"), try column("disputed"))
    guard due != nil || terms != nil || options.terms != nil else {
      _ = try table.requiredColumn("the due date or the terms", names("due"))
      return
    }
    items.reserveCapacity(table.rows.count)
    for (at, row) in table.rows.enumerated() {
      func fault(_ message: String) -> TableError { TableError(file: path, line: row.line, message: message) }
      guard let invoiced_d = invoiced[at] else { throw fault("there is no invoice date") }
      var currency = options.currency
      if let currencies {
        currency = Currency(row.cells[currencies].trimmingCharacters(in: .whitespaces))
        if currency == nil { throw fault("'\(row.cells[currencies])' is no ISO 4217 currency") }
      }
      guard let currency else { throw fault("there is no column for the currency; give one for the file") }
      var due_d = due?[at]
      if due_d == nil {
        var own = options.terms
        if let terms, !row.cells[terms].isEmpty {
          own = PaymentTerms(row.cells[terms])
          if own == nil { throw fault("'\(row.cells[terms])' are no payment terms (NET30, 2/10NET30, EOM+15, COD)") }
        }
        due_d = own?.dueDay(from: invoiced_d)
      }
      guard let due_d else { throw fault("there is neither a due date nor terms") }
      let minorUnits = try table.amount(row, amount, currency, rounding: options.rounding)
      var item = ReceivableItem(
        id: id.map { row.cells[$0] } ?? "\(row.line)", customer: row.cells[customer],
        segment: segment.map { row.cells[$0] } ?? "", currency: currency, invoiced_d: invoiced_d, due_d: due_d,
        amount: minorUnits)
      if let disputed {
        guard let value = Self.yesOrNo(row.cells[disputed]) else {
          throw fault("'\(row.cells[disputed])' is neither yes nor no")
        }
        item.isDisputed = value
      }
      if let day = settled?[at] {
        guard day >= invoiced_d else { throw fault("settled before it was invoiced") }
        item.applications = [.init(day: day, amount: minorUnits)]
      }
      items.append(item)
    }
  }

  private static func yesOrNo(_ text: String) -> Bool? {
    switch text.trimmingCharacters(in: .whitespaces).lowercased() {
    case "yes", "y", "true", "1", "x": true
    case "no", "n", "false", "0", "": false
    default: nil
    }
  }

  /// Currencies of the items, by code.
  public var currencies: [Currency] { Set(items.map(\.currency)).sorted { $0.code < $1.code } }

  /// The last day of which the file knows anything.
  public var lastDay: Int32? {
    items.lazy.map { max($0.invoiced_d, $0.applications.map(\.day).max() ?? .min) }.max()
  }
}
