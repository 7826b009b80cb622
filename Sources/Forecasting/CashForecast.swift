import Domain

/// Expected and actual cash in weekly buckets from a day on, in one currency.
public struct CashForecast: Hashable, Sendable {
  /// A quarter: what treasury plans by.
  public static let weeks = 13

  /// How expected cash is found.
  public enum Method: String, CaseIterable, Sendable {
    /// From what customers did before.
    case learned
    /// Everything is paid on its due date, and what is overdue in the first week.
    case dueDate = "due_date"
  }

  /// The last day of what is known; week 1 begins the day after.
  public var asOf_d: Int32
  public var currency: Currency
  /// By week, from 0.
  public var expected: [Int64]
  /// Expected after the last week, or not known when.
  public var beyond: Int64 = 0
  /// Open items in dispute, held out of the weeks.
  public var disputed: Int64 = 0
  /// What was open, disputed items included; for backlog what is to be billed. The weeks, `beyond` and `disputed` add
  /// up to it exactly.
  public var open: Int64 = 0

  public init(asOf_d: Int32, currency: Currency) {
    self.asOf_d = asOf_d
    self.currency = currency
    expected = Array(repeating: 0, count: CashForecast.weeks)
  }

  /// The week (from 0) into which a day falls; `weeks` for days beyond.
  public static func week(of day: Int32, asOf_d: Int32) -> Int {
    let ahead = Int(day) - Int(asOf_d) - 1
    return ahead < 0 ? 0 : min(ahead / 7, CashForecast.weeks)
  }

  public func firstDay(ofWeek week: Int) -> Int32 { asOf_d + 1 + 7 * Int32(week) }

  /// Expected cash of items of one currency that are open at the end of `asOf_d`, and of backlog (items whose invoice
  /// day lies behind it).
  /// - Parameter days: Where the day goes on which something is expected, if it is no business day.
  public init(
    _ items: some Sequence<ReceivableItem>, asOf_d: Int32, currency: Currency, method: Method, model: CollectionModel,
    days: BusinessDays = BusinessDays()
  ) {
    self.init(asOf_d: asOf_d, currency: currency)
    var sums = Sums()
    for item in items where item.currency == currency {
      let open = item.invoiced_d > asOf_d ? item.amount : item.open(at: asOf_d)
      guard open != 0 else { continue }
      sums.open += Int128(open)
      if item.isDisputed {
        sums.disputed += Int128(open)
      } else {
        sums.add(parts(of: item, open: open, method, model, days))
      }
    }
    (expected, beyond) = (sums.weeks.dropLast().map { Int64(clamping: $0) }, Int64(clamping: sums.weeks.last!))
    (open, disputed) = (Int64(clamping: sums.open), Int64(clamping: sums.disputed))
  }

  /// A figure is beyond the range of amounts, and stands at its end.
  public var isBeyondRange: Bool {
    expected.contains(where: \.isAtLimit) || [beyond, disputed, open].contains(where: \.isAtLimit)
  }

  /// Many large amounts may come to more than the range of one.
  struct Sums {
    /// By week, and what is expected after the last.
    var weeks = [Int128](repeating: 0, count: CashForecast.weeks + 1)
    var open: Int128 = 0
    var disputed: Int128 = 0

    mutating func add(_ parts: [Int64]) {
      for week in weeks.indices { weeks[week] += Int128(parts[week]) }
    }
  }

  /// By week, and what is expected after the last.
  private func parts(
    of item: ReceivableItem, open: Int64, _ method: Method, _ model: CollectionModel, _ days: BusinessDays
  ) -> [Int64] {
    var chances = [Double](repeating: 0, count: CashForecast.weeks + 1)
    let byTerms = CashForecast.week(of: days.rolled(item.due_d), asOf_d: asOf_d)
    switch method {
    case .dueDate: chances[byTerms] = 1
    case .learned:
      // A credit note is used when the next payment is made; its own history would say nothing.
      chances[byTerms] += model.chances(
        customer: item.customer, segment: item.segment, overdue_d: asOf_d - item.due_d
      ) { daysLate, chance in
        let (day, isOver) = item.due_d.addingReportingOverflow(daysLate)
        chances[isOver ? CashForecast.weeks : CashForecast.week(of: days.rolled(day), asOf_d: asOf_d)] += chance
      }
    }
    return split(open, by: chances)
  }

  /// What came in, week by week, for the items that a forecast of that day would be about: open at its end.
  public static func actual(
    _ items: some Sequence<ReceivableItem>, asOf_d: Int32, currency: Currency
  ) -> [Int64] {
    var weeks = [Int128](repeating: 0, count: CashForecast.weeks)
    for item in items where item.currency == currency && !item.isDisputed && item.open(at: asOf_d) != 0 {
      for application in item.applications where application.day > asOf_d && application.isCash {
        let week = CashForecast.week(of: application.day, asOf_d: asOf_d)
        if week < CashForecast.weeks { weeks[week] += Int128(application.amount) }
      }
    }
    return weeks.map { Int64(clamping: $0) }
  }
}

/// Splits an amount by shares (not negative, adding up to about one) into parts that add up to it exactly: each share
/// rounded toward zero, then what is left goes one minor unit each to the largest fractions, the first of equals first.
/// The one place where a probability becomes money.
public func split(_ amount: Int64, by shares: [Double]) -> [Int64] {
  let amount = max(amount, -.max)
  let total = shares.reduce(0, +)
  guard total > 0, let widest = shares.indices.max(by: { shares[$0] < shares[$1] }) else {
    return shares.indices.map { $0 == shares.count - 1 ? amount : 0 }
  }
  var parts: [Int64] = []
  var fractions: [(fraction: Double, index: Int)] = []
  for (index, share) in shares.enumerated() {
    let exact = Double(amount.magnitude) * (share / total)
    let whole = exact.rounded(.down)
    parts.append(Int64(exactly: whole) ?? .max)
    fractions.append((exact - whole, index))
  }
  var left = Int128(amount.magnitude) - parts.reduce(Int128(0)) { $0 + Int128($1) }
  for (_, index) in fractions.sorted(by: { ($0.fraction, $1.index) > ($1.fraction, $0.index) }) where left > 0 {
    guard shares[index] > 0 else { continue }
    parts[index] += 1
    left -= 1
  }
  // Beyond 2^53 minor units a share is not exact to the unit; the widest part takes the difference.
  parts[widest] = Int64(Int128(parts[widest]) + left)
  return amount < 0 ? parts.map { -$0 } : parts
}
