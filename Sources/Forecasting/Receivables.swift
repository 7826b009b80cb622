import Domain

/// One open or settled item of a customer's account.
public struct ReceivableItem: Hashable, Sendable {
  /// What settles the item, or a part of it (negative where it was taken back).
  public struct Application: Hashable, Sendable {
    public var day: Int32
    public var amount: Int64
    /// Money that came in; false for a credit note, a write-off, a reversal: they settle, and nobody pays.
    public var isCash: Bool
    /// The invoice itself is taken back, or a part of it: that much was never sold.
    public var isReversal: Bool

    public init(day: Int32, amount: Int64, isCash: Bool = true, isReversal: Bool = false) {
      self.day = day
      self.amount = amount
      self.isCash = isCash
      self.isReversal = isReversal
    }
  }

  public var id: String
  public var customer: String
  public var segment: String
  public var currency: Currency
  /// Day of the invoice; for backlog, the day on which it is to be billed.
  public var invoiced_d: Int32
  public var due_d: Int32
  /// Minor units; a credit note is negative.
  public var amount: Int64
  public var isDisputed: Bool
  public var applications: [Application]
  /// What is put to no invoice: it has no age, and is no sale as far as it is `received` or `credited`.
  public var isOnAccount = false
  /// Money on account: what came in with the item itself, in minor units; negative where it went out.
  public var received: Int64 = 0
  /// On account without money, and no sale either: a credit note for an invoice that was paid.
  public var credited: Int64 = 0

  public init(
    id: String, customer: String, segment: String = "", currency: Currency, invoiced_d: Int32, due_d: Int32,
    amount: Int64, isDisputed: Bool = false, applications: [Application] = []
  ) {
    self.id = id
    self.customer = customer
    self.segment = segment
    self.currency = currency
    self.invoiced_d = invoiced_d
    self.due_d = due_d
    self.amount = amount
    self.isDisputed = isDisputed
    self.applications = applications
  }

  /// What is open at the end of a day: 0 before the invoice.
  public func open(at day: Int32) -> Int64 {
    guard invoiced_d <= day else { return 0 }
    return left(of: amount, at: day)
  }

  /// What is open at the end of a day is on the other side: more was settled than the item came to. That has no age, and
  /// stands on account like money without an invoice.
  func isOversettled(at day: Int32) -> Bool {
    let open = open(at: day)
    return open != 0 && (open < 0) != (amount < 0)
  }

  /// Whether the item was invoiced by the end of a day, or something came for it before.
  public func hasBegun(by day: Int32) -> Bool { invoiced_d <= day || applications.contains { $0.day <= day } }

  /// What the item makes of the receivable at the end of a day: what is open, and before the invoice what has come for
  /// it already, which stands on account until then.
  public func balance(at day: Int32) -> Int64 {
    left(of: invoiced_d <= day ? amount : 0, at: day)
  }

  private func left(of amount: Int64, at day: Int32) -> Int64 {
    Int64(clamping: applications.reduce(Int128(amount)) { $1.day <= day ? $0 - Int128($1.amount) : $0 })
  }

  /// The application that settled the item, as far as was known at the end of a day: the one from which on nothing was
  /// left to be settled. A payment that was taken back has settled nothing; one that came to more than was open has.
  /// nil while something is open.
  func settlement(by day: Int32 = .max) -> Application? {
    var (rest, found) = (Int128(amount), nil as Application?)
    for application in applications.count > 1 ? applications.sorted(by: { $0.day < $1.day }) : applications {
      guard application.day <= day else { break }
      rest -= Int128(application.amount)
      if rest != 0, (rest < 0) == (amount < 0) {
        found = nil
      } else if found == nil {
        found = application
      }
    }
    return found
  }

  /// The day of the application that settled the item; nil while it is open.
  public var settled_d: Int32? { settlement()?.day }

  /// Whether the item says nothing about the time from a day on: nothing of it is open at the end of `asOf`, and nothing
  /// has happened to it since that day. What was settled with more than it came to is not over, as the rest is owed.
  public func isOver(before day: Int32, asOf: Int32) -> Bool {
    invoiced_d < day && applications.allSatisfy { $0.day < day } && open(at: asOf) == 0
  }
}

/// Receivables at the end of a day, by how long they are past their due date, in one currency.
public struct Ageing: Hashable, Sendable {
  public enum Bucket: Int, CaseIterable, Sendable {
    case current = 0, days1to30, days31to60, days61to90, over90

    public var name: String { ["current", "1-30", "31-60", "61-90", "over_90"][rawValue] }

    /// `overdue_d`: days since the due date; 0 on the due date itself, which is current.
    public init(overdue_d: Int32) {
      switch overdue_d {
      case ...0: self = .current
      case ...30: self = .days1to30
      case ...60: self = .days31to60
      case ...90: self = .days61to90
      default: self = .over90
      }
    }
  }

  public var day: Int32
  public var currency: Currency
  /// By `Bucket.rawValue`.
  public var amounts: [Int64]
  public var counts: [Int]
  /// What is put to no invoice, to one of a later day, or to one beyond what it came to, in no bucket: negative where money or credit stands there.
  public var onAccount: Int64 = 0
  public var onAccountCount = 0
  /// Of the total, what is in dispute.
  public var disputed: Int64 = 0

  /// Of all buckets and on account: what the customers owe.
  public var total: Int64 { Int64(clamping: amounts.reduce(Int128(onAccount)) { $0 + Int128($1) }) }
  /// A figure is beyond the range of amounts, and stands at its end.
  public var isBeyondRange: Bool {
    amounts.contains(where: \.isAtLimit) || [onAccount, disputed, total].contains(where: \.isAtLimit)
  }
  /// Open items.
  public var count: Int { counts.reduce(onAccountCount, +) }
  public subscript(bucket: Bucket) -> Int64 { amounts[bucket.rawValue] }

  public init(day: Int32, currency: Currency) {
    self.day = day
    self.currency = currency
    amounts = Array(repeating: 0, count: Bucket.allCases.count)
    counts = amounts.map { _ in 0 }
  }

  /// Ageing of items at the end of a day, one for each currency, by its code.
  public static func of(_ items: some Sequence<ReceivableItem>, at day: Int32) -> [Ageing] {
    var byCurrency: [Currency: Ageing] = [:]
    for item in items {
      let open = item.balance(at: day)
      guard open != 0 else { continue }
      let hasNoAge = item.isOnAccount || item.invoiced_d > day || item.isOversettled(at: day)
      let bucket = hasNoAge ? nil : Bucket(overdue_d: day - item.due_d)
      byCurrency[item.currency, default: Ageing(day: day, currency: item.currency)].add(open, bucket, item.isDisputed)
    }
    return byCurrency.values.sorted { $0.currency.code < $1.currency.code }
  }

  private mutating func add(_ open: Int64, _ bucket: Bucket?, _ isDisputed: Bool) {
    if let bucket {
      amounts[bucket.rawValue] = amounts[bucket.rawValue].addingSaturating(open)
      counts[bucket.rawValue] += 1
    } else {
      onAccount = onAccount.addingSaturating(open)
      onAccountCount += 1
    }
    if isDisputed { disputed = disputed.addingSaturating(open) }
  }
}

/// How fast receivables turn into cash, over the days `(from, to]`, in one currency. All in millionths, half to even.
///
/// DSO = receivable / credit sales × days; the best possible takes only what is not overdue; the average days
/// delinquent are what lies between. CEI = (opening + sales − closing) / (opening + sales − closing current), 1 where
/// everything that could be collected was.
///
/// Sales are what was invoiced, less the invoices (or parts of them) that were reversed in these days; credit notes
/// settle. Money on account is no sale; it lowers the receivable, first what of it is overdue.
public struct CollectionRatios: Hashable, Sendable {
  public var opening: Int64
  public var sales: Int64
  public var closing: Int64
  /// What of it is not overdue; credits and money on account beyond what is overdue are taken off, so that it is never
  /// more than the whole.
  public var closingCurrent: Int64
  public var days: Int32

  public init(opening: Int64, sales: Int64, closing: Int64, closingCurrent: Int64, days: Int32) {
    self.opening = opening
    self.sales = sales
    self.closing = closing
    self.closingCurrent = closingCurrent
    self.days = days
  }

  /// From items of one currency.
  public init(_ items: some Sequence<ReceivableItem>, from: Int32, to: Int32) {
    var (opening, sales, closing, current) = (Int128(0), Int128(0), Int128(0), Int128(0))
    for item in items {
      opening += Int128(item.balance(at: from))
      closing += Int128(item.balance(at: to))
      if item.due_d >= to, !item.isOnAccount, !item.isOversettled(at: to) { current += Int128(item.open(at: to)) }
      if item.invoiced_d > from, item.invoiced_d <= to {
        sales += Int128(item.amount) + Int128(item.received) + Int128(item.credited)
      }
      for application in item.applications
      where application.isReversal && application.day > from && application.day <= to {
        sales -= Int128(application.amount)
      }
    }
    self.init(
      opening: Int64(clamping: opening), sales: Int64(clamping: sales), closing: Int64(clamping: closing),
      closingCurrent: Int64(clamping: min(current, closing)), days: to - from)
  }

  /// Days sales outstanding, in millionths of a day; nil without sales.
  public var dso_u: Int128? { perSales(closing) }
  public var bestPossibleDSO_u: Int128? { perSales(closingCurrent) }
  /// Average days delinquent.
  public var add_u: Int128? {
    guard let dso = dso_u, let best = bestPossibleDSO_u else { return nil }
    return dso - best
  }
  /// Collection effectiveness, in millionths of one.
  public var cei_u: Int128? {
    let base = Int128(opening) + Int128(sales)
    return ratio_u(base - Int128(closing), base - Int128(closingCurrent))
  }

  private func perSales(_ amount: Int64) -> Int128? {
    ratio_u(Int128(amount) * Int128(days), Int128(sales))
  }
}
