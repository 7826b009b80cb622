import Domain

/// An order in one currency: what of it is still to be billed, and when parts of it were.
public struct BacklogItem: Hashable, Sendable {
  public var customer: String
  public var segment: String
  public var currency: Currency
  /// Day on which it was booked.
  public var booked_d: Int32
  /// What is to be billed, at least 0.
  public var amount: Int64
  /// Days of its invoices so far.
  public var invoiced: [Int32]
  /// Of the invoices to come; nil where the order does not say.
  public var terms: PaymentTerms?

  public init(
    customer: String, segment: String, currency: Currency, booked_d: Int32, amount: Int64, invoiced: [Int32] = [],
    terms: PaymentTerms? = nil
  ) {
    self.customer = customer
    self.segment = segment
    self.currency = currency
    self.booked_d = booked_d
    self.amount = amount
    self.invoiced = invoiced
    self.terms = terms
  }
}

extension CollectionModel {
  /// Learns how long it takes from an order to its invoices, from those of the time up to a day: the same sketches, of days
  /// behind the booking. As with payments, which customers have sketches does not follow the order of the items.
  public mutating func learn(lags items: some Collection<BacklogItem>, until day: Int32) {
    learnWhateverTheOrder(items, of: \.customer) { model, item in
      for invoiced in item.invoiced where invoiced <= day {
        model.learn(customer: item.customer, segment: item.segment, daysLate: invoiced - item.booked_d)
      }
    }
  }
}

/// Expected cash of what has been ordered and not been billed, in weekly buckets from a day on, in one currency: first the days
/// until it is billed, then those until the invoice is paid.
public struct BacklogForecast: Hashable, Sendable {
  public var asOf_d: Int32
  public var currency: Currency
  /// By week, from 0.
  public var expected = [Int64](repeating: 0, count: CashForecast.weeks)
  /// Expected after the last week.
  public var beyond: Int64 = 0
  /// All that is to be billed: the weeks and `beyond` add up to it exactly.
  public var open: Int64 = 0
  /// Orders of which something is.
  public var orders = 0

  /// What is assumed where too little is known.
  public struct Assumptions: Sendable {
    /// Days from the booking to the invoice.
    public var lag_d: Int32
    public var terms: PaymentTerms
    public var days: BusinessDays

    public init(lag_d: Int32, terms: PaymentTerms, days: BusinessDays = BusinessDays()) {
      self.lag_d = lag_d
      self.terms = terms
      self.days = days
    }
  }

  /// - Parameters:
  ///   - billing: Learned by `learn(lags:until:)`. An order that has been waiting can only be billed later than today.
  ///   - payment: How customers pay, by the days behind the due date. An invoice can only be paid when it is there.
  public init(
    _ items: some Sequence<BacklogItem>, asOf_d: Int32, currency: Currency, billing: CollectionModel,
    payment: CollectionModel, assuming assumptions: Assumptions
  ) {
    self.asOf_d = asOf_d
    self.currency = currency
    var known: [Invoice: [Double]] = [:]
    var sums = CashForecast.Sums()
    for item in items where item.currency == currency && item.amount > 0 {
      sums.open += Int128(item.amount)
      orders += 1
      var chances = [Double](repeating: 0, count: CashForecast.weeks + 1)
      func add(_ lag: Int32, _ chance: Double) {
        let (day, isOver) = item.booked_d.addingReportingOverflow(lag)
        // What is billed behind the last week is paid behind it, too.
        guard !isOver, CashForecast.week(of: day, asOf_d: asOf_d) < CashForecast.weeks else {
          chances[CashForecast.weeks] += chance
          return
        }
        let invoice = Invoice(
          customer: item.customer, segment: item.segment, day: max(day, asOf_d + 1),
          terms: item.terms ?? assumptions.terms)
        let weeks = known[invoice] ?? invoice.weeks(asOf_d, payment, assumptions.days)
        known[invoice] = weeks
        for week in weeks.indices { chances[week] += chance * weeks[week] }
      }
      let rest = billing.chances(
        customer: item.customer, segment: item.segment, overdue_d: asOf_d - item.booked_d, add)
      add(max(assumptions.lag_d, asOf_d + 1 - item.booked_d), rest)
      sums.add(split(item.amount, by: chances))
    }
    (expected, beyond) = (sums.weeks.dropLast().map { Int64(clamping: $0) }, Int64(clamping: sums.weeks.last!))
    open = Int64(clamping: sums.open)
  }

  /// As `CashForecast.isBeyondRange`.
  public var isBeyondRange: Bool { expected.contains(where: \.isAtLimit) || beyond.isAtLimit || open.isAtLimit }

  /// An invoice that is to come.
  private struct Invoice: Hashable {
    var customer: String
    var segment: String
    var day: Int32
    var terms: PaymentTerms

    /// The chances that it is paid in each week; they add up to 1.
    func weeks(_ asOf_d: Int32, _ payment: CollectionModel, _ days: BusinessDays) -> [Double] {
      var chances = [Double](repeating: 0, count: CashForecast.weeks + 1)
      let due = days.rolled(terms.dueDay(from: day))
      func week(_ day: Int32) -> Int { CashForecast.week(of: days.rolled(day), asOf_d: asOf_d) }
      let rest = payment.chances(customer: customer, segment: segment, overdue_d: day - due - 1) { late, chance in
        let (paid, isOver) = due.addingReportingOverflow(late)
        chances[isOver ? CashForecast.weeks : week(paid)] += chance
      }
      chances[week(due)] += rest
      return chances
    }
  }
}
