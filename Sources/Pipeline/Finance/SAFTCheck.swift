import Domain
import Foundation

/// What the documents of a SAF-T file say about sales: that each balances, that receivable = revenue + tax on each
/// invoice, and what was received.
public struct SAFTCheck: Sendable {
  /// Which accounts play which role: an account belongs to the longest prefix that it begins with.
  public struct Accounts: Sendable, Equatable {
    public var prefixes: [(prefix: String, role: AccountRole)]

    /// The Norwegian standard chart (NS 4102): 15 receivables, 19 cash and bank, 27 value-added tax, 3 sales.
    public static let norwegian = Accounts([
      ("15", .receivable), ("19", .cash), ("27", .tax), ("3", .revenue),
    ])

    public init(_ prefixes: [(String, AccountRole)]) {
      self.prefixes = prefixes.map { ($0.0, $0.1) }.sorted { $0.prefix.count > $1.prefix.count }
    }

    public func role(_ account: String) -> AccountRole? { prefixes.first { account.hasPrefix($0.prefix) }?.role }

    public static func == (a: Accounts, b: Accounts) -> Bool {
      a.prefixes.count == b.prefixes.count && zip(a.prefixes, b.prefixes).allSatisfy { $0 == $1 }
    }
  }

  public enum Kind: Sendable { case invoice, creditNote, receipt, other }

  public let accounts: Accounts
  public private(set) var documents = 0
  public internal(set) var unbalanced: [String] = []
  public private(set) var invoices = 0
  public private(set) var creditNotes = 0
  public private(set) var receipts = 0
  public private(set) var invoiced: Int128 = 0
  public private(set) var received: Int128 = 0
  /// Invoices and credit notes on which receivable is not revenue + tax.
  public internal(set) var differing: [String] = []
  /// As many problems are kept as a person reads; all are counted.
  public static let maximumListed = 20
  public private(set) var problems = 0

  public init(accounts: Accounts) { self.accounts = accounts }

  /// Sales documents have receivable and revenue lines, receipts have cash and receivable lines and nothing else.
  public func kind(_ document: SAFTDocument) -> Kind {
    var roles = Set<AccountRole?>()
    for line in document.lines { roles.insert(accounts.role(line.account)) }
    if roles.contains(.receivable), roles.contains(.revenue) {
      return sum(document, .receivable) >= 0 ? .invoice : .creditNote
    }
    return roles == [.cash, .receivable] ? .receipt : .other
  }

  private func sum(_ document: SAFTDocument, _ role: AccountRole) -> Int128 {
    document.lines.reduce(0) { accounts.role($1.account) == role ? $0 + Int128($1.amount) : $0 }
  }

  public mutating func add(_ document: SAFTDocument) {
    documents += 1
    if document.balance != 0 { note(document, \.unbalanced) }
    let kind = kind(document)
    switch kind {
    case .invoice, .creditNote:
      if kind == .invoice { invoices += 1 } else { creditNotes += 1 }
      invoiced += sum(document, .receivable)
      if sum(document, .receivable) != -sum(document, .revenue) - sum(document, .tax) { note(document, \.differing) }
    case .receipt:
      receipts += 1
      received += sum(document, .cash)
    case .other: break
    }
  }

  private mutating func note(_ document: SAFTDocument, _ list: WritableKeyPath<SAFTCheck, [String]>) {
    problems += 1
    if self[keyPath: list].count < SAFTCheck.maximumListed {
      self[keyPath: list].append("\(document.id) (line \(document.fileLine))")
    }
  }
}

/// Writes the lines of SAF-T documents as JSON, one posting a line, for `tieout reconcile` (format `json`).
///
/// Each line has an id of its own: by the journal, the document and the number of the line, as the file has them, and where it
/// does not tell documents or lines apart by those, by how many there were before.
public struct SAFTPostingWriter: Sendable {
  private var writer = JSONWriter()
  private var documents = Set<Fingerprint>()
  /// By the name that documents have of their own: the number of the last one.
  private var lastNumbers: [String: Int] = [:]
  /// Documents with the journal and the number of another.
  public private(set) var repeated = 0
  /// Documents of whose lines some have no number, or one that another has.
  public private(set) var renumbered = 0

  public init() {}

  public mutating func encode(_ document: SAFTDocument) -> [UInt8] {
    var lines: [UInt8] = []
    let name = name(document)
    let isNumbered = Set(document.lines.map(\.record)).count == document.lines.count
    let isTold = isNumbered && document.lines.allSatisfy { !$0.record.isEmpty }
    if !isTold { renumbered += 1 }
    for (number, line) in document.lines.enumerated() {
      let record = isTold ? line.record : String(number + 1)
      writer.removeAll()
      writer.beginObject()
      func write(_ key: String, _ value: String) {
        writer.key(key)
        writer.string(value)
      }
      write("journal", document.journal.isEmpty ? document.id : "\(document.journal)-\(document.id)")
      write("line_id", "\(name)-\(record)")
      write("line", record)
      write("account", line.account)
      writer.key("amount")
      writer.amount(line.amount, document.currency)
      write("currency", document.currency.code)
      write("document", line.sourceDocument)
      write("reference", line.reference)
      write("customer", line.customer)
      write("supplier", line.supplier)
      write("description", line.description)
      for (key, day) in [("event_time", document.date_d), ("posting_date", document.postingDate_d)] {
        writer.key(key)
        if day == absentDate { writer.null() } else { writer.string(formatDate(day)) }
      }
      writer.key("period")
      if document.period == 0 { writer.null() } else { writer.string(String(document.period)) }
      if !line.foreignAmount.isEmpty, !line.foreignCurrency.isEmpty {
        write("foreign_amount", line.foreignAmount)
        write("foreign_currency", line.foreignCurrency)
      }
      writer.endObject()
      lines += writer.bytes
      lines.append(0x0a)
    }
    return lines
  }

  /// What no other document of the file is called.
  private mutating func name(_ document: SAFTDocument) -> String {
    let own = "\(document.journal)-\(document.id)"
    var (name, count) = (own, lastNumbers[own, default: 1])
    if count > 1 { name = "\(own)#\(count)" }
    while !insert(name) {
      count += 1
      name = "\(own)#\(count)"
    }
    if count > 1 { repeated += 1 }
    lastNumbers[own] = count
    return name
  }

  private mutating func insert(_ name: String) -> Bool {
    var name = name
    return name.withUTF8 { documents.insert(Fingerprint(ByteView($0))).inserted }
  }
}
