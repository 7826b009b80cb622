import Domain

/// Exchange rates to a base currency, looked up the plain way.
public struct NaiveRates: Sendable {
  public struct Entry: Sendable {
    public var day_d: Int32
    public var currency: Currency
    /// Units of the base currency for one, in millionths.
    public var rate_u: Int128

    public init(day_d: Int32, currency: Currency, rate_u: Int128) {
      self.day_d = day_d
      self.currency = currency
      self.rate_u = rate_u
    }
  }

  public var base: Currency
  public var entries: [Entry]
  /// For how many days a rate stands.
  public var maximumAge_d: Int32

  public init(base: Currency, _ entries: [Entry], maximumAge_d: Int32) {
    self.base = base
    self.entries = entries
    self.maximumAge_d = maximumAge_d
  }

  /// Minor units of the base currency, half to even; nil without a rate.
  public func convert(_ amount: Int64, _ currency: Currency, _ day_d: Int32) -> Int128? {
    if currency == base { return Int128(amount) }
    let rate = entries.filter { $0.currency == currency && $0.day_d <= day_d && day_d - $0.day_d <= maximumAge_d }
      .max { $0.day_d < $1.day_d }
    guard let rate else { return nil }
    func power(_ exponent: Int) -> Int128 { (0..<exponent).reduce(1) { power, _ in power * 10 } }
    let numerator = Int128(amount) * rate.rate_u * power(base.exponent)
    let denominator = 1_000_000 * power(currency.exponent)
    let size = Int128(numerator.magnitude)
    var whole = size / denominator
    let rest = size % denominator
    if 2 * rest > denominator || 2 * rest == denominator && whole % 2 == 1 { whole += 1 }
    return numerator < 0 ? -whole : whole
  }
}

/// The figures of forecasting, found the slow and plain way from a history: every figure of every cell added up by itself,
/// as accountants define it, with exact dictionaries. It shares no code with the aggregates.
public struct NaiveBooks: Sendable {
  public struct Cell: Hashable, Sendable {
    public var dimensions: [String]
    public var currency: Currency
    public var isBase: Bool
    public var period: Int32

    public init(dimensions: [String], currency: Currency, isBase: Bool, period: Int32) {
      self.dimensions = dimensions
      self.currency = currency
      self.isBase = isBase
      self.period = period
    }
  }

  /// By name of the figure, as the topic has it; those of the ledger with `@event` and `@posting` behind. Beside the
  /// measures: `events`, `unvalued`, `unrated`, and the quantities `billed` and `posted`.
  public typealias Figures = [String: Int128]

  /// What is not zero.
  public private(set) var cells: [Cell: Figures] = [:]

  private let rates: NaiveRates?
  private let policy: BillingPolicy
  private let countsQuantities: Bool
  private let period: @Sendable (Int32) -> Int32
  private let dimensions: @Sendable ([String]) -> [String]
  private let inherited: Set<Int>
  /// By order: its events, the earliest first; of those of one time the one whose dimensions come first.
  private let eventsByOrder: [String: [HistoryEvent]]

  /// - Parameters:
  ///   - inherited: Dimensions that a posting without a value of its own has from the first event of its order that has one.
  ///   - period: The accounting period of a day.
  ///   - dimensions: What is left of a record's dimensions.
  public init(
    _ history: History, rates: NaiveRates? = nil, policy: BillingPolicy = .pointInTime, countsQuantities: Bool = true,
    inherited: Set<Int> = Set(0..<8), period: @escaping @Sendable (Int32) -> Int32,
    dimensions: @escaping @Sendable ([String]) -> [String] = { $0 }
  ) {
    self.rates = rates
    self.policy = policy
    self.countsQuantities = countsQuantities
    self.period = period
    self.dimensions = dimensions
    self.inherited = inherited
    let counted = history.counted
    eventsByOrder = Dictionary(grouping: counted.events, by: \.order).mapValues { events in
      events.sorted { a, b in
        if a.time_ms != b.time_ms { return a.time_ms < b.time_ms }
        for (x, y) in zip(a.dimensions, b.dimensions) where x != y {
          return x.utf8.lexicographicallyPrecedes(y.utf8)
        }
        return false
      }
    }
    for events in eventsByOrder.values {
      for event in events {
        // One that takes invoices back is told by these.
        add(event, events.contains { event.cancels($0) } ? .event : .whole)
        let days = events.filter { other in
          let isAnyBefore = events.contains { other.cancels($0) && $0.time_ms <= other.time_ms }
          return other.cancels(event) && (event.time_ms <= other.time_ms || !isAnyBefore)
        }.map(\.day_d)
        guard let first = days.min() else { continue }
        var back = event
        (back.kind, back.documentDate_d) = (.invoiceCancelled, max(first, event.day_d))
        // What is taken back comes to what it came to.
        add(back, .amounts, rateDay_d: event.day_d)
      }
    }
    for posting in counted.postings { add(posting) }
    for (cell, figures) in cells {
      let kept = figures.filter { $0.value != 0 }
      cells[cell] = kept.isEmpty ? nil : kept
    }
  }

  public func figure(_ name: String, _ cell: Cell) -> Int128 { cells[cell]?[name] ?? 0 }

  private mutating func add(_ amount: Int128, to name: String, _ cell: Cell) {
    cells[cell, default: [:]][name, default: 0] += amount
  }

  // MARK: - Orders

  /// What of an event is added: of one that takes back what others have, that it is one; of these, what they have.
  private enum Extent { case whole, event, amounts }

  private mutating func add(_ event: HistoryEvent, _ extent: Extent, rateDay_d: Int32? = nil) {
    var cell = Cell(
      dimensions: dimensions(event.dimensions), currency: event.currency, isBase: false, period: period(event.day_d))
    if extent == .event {
      add(1, to: "events", cell)
    } else {
      add(event, event.amounts.mapValues { Int128($0) }, cell, extent)
    }
    guard let rates else { return }
    (cell.currency, cell.isBase) = (rates.base, true)
    if extent == .event { return add(1, to: "events", cell) }
    var converted: [AmountComponent: Int128] = [:]
    for (component, amount) in event.amounts {
      converted[component] = rates.convert(amount, event.currency, rateDay_d ?? event.day_d)
    }
    add(event, converted, cell, extent)
  }

  private mutating func add(
    _ event: HistoryEvent, _ amounts: [AmountComponent: Int128], _ cell: Cell, _ extent: Extent
  ) {
    func amount(_ component: AmountComponent) -> Int128 { amounts[component] ?? 0 }
    var needed: [AmountComponent] = []
    var figures: Figures = [:]
    switch event.kind {
    case .booked, .changed:
      needed = [.net]
      figures["bookings"] = amount(.net)
    case .cancelled:
      needed = [.net]
      figures["bookings"] = -amount(.net)
    case .held, .released, .delivered, .completed: break
    case .shipped:
      needed = [.net, .cost]
      figures["shipped_cost"] = amount(.cost)
    case .returned:
      needed = [.cost]
      figures["shipped_cost"] = -amount(.cost)
    case .invoiced, .invoiceCancelled:
      needed = [.net, .freight, .tax, .discount, .gross]
      figures["billings"] = amount(.net)
      figures["billed_revenue"] = amount(.net) + amount(.freight) - amount(.discount)
      figures["billed_tax"] = amount(.tax)
      figures["billed_gross"] = amount(.gross)
      figures["receivable_expected"] = amount(.gross)
      if let quantity_u = event.quantity_u { figures["billed"] = Int128(quantity_u) }
      if event.kind == .invoiceCancelled { figures = figures.mapValues { -$0 } }
    case .credited:
      needed = [.net, .freight, .tax, .gross]
      figures["billings"] = -amount(.net)
      figures["billed_revenue"] = -amount(.net) - amount(.freight)
      figures["billed_tax"] = -amount(.tax)
      figures["credited_gross"] = amount(.gross)
      figures["receivable_expected"] = -amount(.gross)
      if let quantity_u = event.quantity_u { figures["billed"] = Int128(-quantity_u) }
    case .depositReceived:
      needed = [.deposit]
      figures["cash_expected"] = amount(.deposit)
    case .depositApplied:
      needed = [.deposit]
      figures["receivable_expected"] = -amount(.deposit)
    case .paid:
      needed = [.applied]
      figures["cash_expected"] = amount(.applied)
      figures["receivable_expected"] = -amount(.applied)
    case .discountTaken:
      // It makes the price less, as a discount on the invoice does.
      needed = [.discount]
      figures["billed_revenue"] = -amount(.discount)
      figures["receivable_expected"] = -amount(.discount)
    case .settled:
      needed = [.net, .fee, .gross]
      figures["cash_expected"] = amount(.net)
    case .refunded, .chargeback:
      needed = [.applied]
      figures["cash_expected"] = -amount(.applied)
      figures["receivable_expected"] = amount(.applied)
    case .recognised:
      needed = [.net]
      figures["releases_due"] = amount(.net)
    case .writtenOff:
      needed = [.applied]
      figures["receivable_expected"] = -amount(.applied)
    }
    if extent == .whole { figures["events"] = 1 }
    if extent == .whole, !needed.isEmpty, !needed.contains(where: { amounts[$0] != nil }) { figures["unvalued"] = 1 }
    if !countsQuantities { figures["billed"] = nil }
    figures["backlog_movement"] = (figures["bookings"] ?? 0) - (figures["billings"] ?? 0)
    for basis in ["@event", "@posting"] {
      figures["rpo_movement" + basis] = figures["backlog_movement"]
      figures["deferred_difference" + basis] = figures["billed_revenue"] ?? 0
    }
    for (name, amount) in figures { add(amount, to: name, cell) }
    guard policy == .scheduled, let service = event.service, [.invoiced, .invoiceCancelled].contains(event.kind) else {
      return
    }
    for (period, released) in NaiveBooks.releases(of: amount(.net), over: service, period) {
      var own = cell
      // What was released before a cancellation is taken back in its period.
      own.period = extent == .amounts && period != 0 ? max(period, cell.period) : period
      add(event.kind == .invoiced ? released : -released, to: "releases_due", own)
    }
  }

  /// What is released in each period, day by day of a service the same; what has been released up to the end of each
  /// period is rounded half to even.
  static func releases(
    of whole: Int128, over service: ClosedRange<Int32>, _ period: (Int32) -> Int32
  ) -> [(period: Int32, amount: Int128)] {
    let days = Int128(service.count)
    var releases: [(period: Int32, amount: Int128)] = []
    var done: Int128 = 0
    for day in service {
      let own = period(day)
      let numerator = whole * (Int128(day - service.lowerBound) + 1)
      var until = Int128(numerator.magnitude) / days
      let twice = 2 * (Int128(numerator.magnitude) % days)
      if twice > days || twice == days && until % 2 == 1 { until += 1 }
      if numerator < 0 { until = -until }
      if releases.last?.period != own { releases.append((own, 0)) }
      releases[releases.count - 1].amount += until - done
      done = until
    }
    return releases
  }

  // MARK: - Ledger

  /// Those of a posting, as it tells them or else its order does.
  private func dimensions(of posting: HistoryPosting) -> [String] {
    let events = eventsByOrder[posting.order] ?? []
    let count = max(posting.dimensions.count, events.map(\.dimensions.count).max() ?? 0)
    return (0..<count).map { at in
      func value(_ told: [String]) -> String { at < told.count ? told[at] : "" }
      let own = value(posting.dimensions)
      guard own.isEmpty, inherited.contains(at) else { return own }
      return events.lazy.map { value($0.dimensions) }.first { !$0.isEmpty } ?? ""
    }
  }

  private mutating func add(_ posting: HistoryPosting) {
    let own = dimensions(dimensions(of: posting))
    let stated = posting.period != 0 ? posting.period : period(posting.day_d)
    let byEvent = period(day(ofMilliseconds: posting.time_ms))
    func cell(_ period: Int32, isBase: Bool) -> Cell {
      Cell(
        dimensions: own, currency: isBase ? rates!.base : posting.currency, isBase: isBase, period: period)
    }
    add(posting, Int128(posting.amount), cell(byEvent, isBase: false), cell(stated, isBase: false))
    guard let rates else { return }
    let base = posting.baseAmount.map { Int128($0) } ?? rates.convert(posting.amount, posting.currency, posting.day_d)
    guard let base else {
      add(1, to: "unrated", cell(stated, isBase: true))
      return
    }
    add(posting, base, cell(byEvent, isBase: true), cell(stated, isBase: true))
  }

  private mutating func add(_ posting: HistoryPosting, _ amount: Int128, _ byEvent: Cell, _ byPosting: Cell) {
    for (basis, cell) in [("@event", byEvent), ("@posting", byPosting)] {
      for (name, sign) in NaiveBooks.figures(of: posting.role) { add(sign * amount, to: name + basis, cell) }
    }
    guard countsQuantities, let quantity_u = posting.quantity_u, [.revenue, .returns].contains(posting.role) else {
      return
    }
    // A debit takes back. The side is that of the transaction currency.
    let size = Int128(quantity_u.magnitude)
    add(posting.amount > 0 ? -size : size, to: "posted", byPosting)
  }

  /// In which figures debits of a role count, and how.
  private static func figures(of role: AccountRole) -> [(String, Int128)] {
    switch role {
    case .revenue:
      [("gross_revenue", -1), ("recognised_revenue", -1), ("gross_margin", -1), ("deferred_difference", 1)]
    case .freight: [("freight", -1), ("recognised_revenue", -1), ("gross_margin", -1), ("deferred_difference", 1)]
    case .discount: [("discounts", 1), ("recognised_revenue", -1), ("gross_margin", -1), ("deferred_difference", 1)]
    case .returns: [("returns", 1), ("recognised_revenue", -1), ("gross_margin", -1), ("deferred_difference", 1)]
    case .deferred: [("deferred_movement", -1), ("rpo_movement", -1), ("deferred_difference", 1)]
    case .unbilled: [("unbilled_movement", 1), ("deferred_difference", 1)]
    case .cogs: [("cogs", 1), ("gross_margin", -1)]
    case .receivable: [("receivable_movement", 1)]
    case .cash: [("cash_in", 1)]
    case .deposit: [("deposit_movement", -1)]
    case .writeOff: [("write_offs", 1)]
    case .tax: [("tax_posted", -1)]
    case .clearing, .fees, .inventory, .fx, .rounding, .intercompany: []
    }
  }
}

extension HistoryEvent {
  /// Whether it takes back an invoice.
  fileprivate func cancels(_ invoice: HistoryEvent) -> Bool {
    kind == .invoiceCancelled && invoice.kind == .invoiced && !document.isEmpty && document == invoice.document
      && order == invoice.order
  }
}
