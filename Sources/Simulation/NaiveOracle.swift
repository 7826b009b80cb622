import Domain

/// Where billing goes.
public enum BillingPolicy: String, Sendable, CaseIterable {
  /// Into revenue: the standard posting policy.
  case pointInTime
  /// Into deferred revenue, from which events `recognised` release it.
  case inAdvance
  /// Into deferred revenue, from which it is released by the days of the service that is billed.
  case scheduled

  /// The role in which the net amount stands first.
  var billed: AccountRole { self == .pointInTime ? .revenue : .deferred }
}

/// The right answer, found the slow and plain way: everything at once, exact dictionaries, no window and no tolerance.
///
/// It shares no code with the matcher, so the standard posting policy stands here a second time.
public struct NaiveOracle: Sendable {
  /// One role of one order in one currency.
  public struct Side: Hashable, Sendable {
    public var order: String
    public var role: AccountRole
    public var currency: Currency

    public init(order: String, role: AccountRole, currency: Currency) {
      self.order = order
      self.role = role
      self.currency = currency
    }
  }

  /// A role of a currency.
  public struct Role: Hashable, Sendable {
    public var role: AccountRole
    public var currency: Currency

    public init(role: AccountRole, currency: Currency) {
      self.role = role
      self.currency = currency
    }
  }

  /// Signed debit − credit, minor units.
  public struct Balance: Equatable, Sendable {
    public var expected: Int64 = 0
    public var posted: Int64 = 0
    public var delta: Int64 { posted - expected }

    public init(expected: Int64 = 0, posted: Int64 = 0) {
      self.expected = expected
      self.posted = posted
    }
  }

  /// Every side on which something is expected or posted, after records delivered twice have been dropped.
  public private(set) var balances: [Side: Balance] = [:]
  /// Every order of which there is an event or a posting.
  public private(set) var orders: Set<String> = []
  /// The postings that count: each once.
  public private(set) var postings: [HistoryPosting] = []

  /// The balances of all orders together.
  public var sums: [Role: Balance] {
    var sums: [Role: Balance] = [:]
    for (side, balance) in balances {
      sums[Role(role: side.role, currency: side.currency), default: Balance()].expected += balance.expected
      sums[Role(role: side.role, currency: side.currency), default: Balance()].posted += balance.posted
    }
    return sums
  }

  public init(_ history: History, policy: BillingPolicy = .pointInTime) {
    let counted = history.counted
    for (order, events) in Dictionary(grouping: counted.events, by: \.order) {
      orders.insert(order)
      // A cancellation takes all billing back, unless the order is booked or billed again after it.
      let last = events.filter { [.booked, .invoiced, .cancelled].contains($0.kind) }.max { $0.time_ms < $1.time_ms }
      let isCancelled = last?.kind == .cancelled
      // A cancelled document takes back what it billed.
      let gone = Set(events.filter { $0.kind == .invoiceCancelled }.map(\.document))
      for event in events where !(isCancelled && [.invoiced, .credited, .recognised].contains(event.kind)) {
        if event.kind == .invoiced, gone.contains(event.document) { continue }
        for (role, amount) in NaiveOracle.expectation(event, policy) {
          balances[Side(order: order, role: role, currency: event.currency), default: Balance()].expected += amount
        }
        // In the end all of it has been released.
        if policy == .scheduled, event.kind == .invoiced, event.service != nil {
          let net = event.amounts[.net] ?? 0
          balances[Side(order: order, role: .deferred, currency: event.currency), default: .init()].expected += net
          balances[Side(order: order, role: .revenue, currency: event.currency), default: .init()].expected -= net
        }
      }
    }
    postings = counted.postings
    for posting in postings {
      orders.insert(posting.order)
      let side = Side(order: posting.order, role: posting.role, currency: posting.currency)
      balances[side, default: Balance()].posted += posting.amount
    }
  }

  /// Breaks about something else than amounts: an order may tie out all the same.
  public static let noDifferences: Set<BreakType> = [
    .lateArrival, .latePosting, .earlyPosting, .cutoff, .closedPeriod, .paidNotBilled, .dataQuality,
    .masterDataMissing, .duplicateOrderEvent, .fxDifference, .fxRateMissing, .unbilledShipment, .billedNotShipped,
  ]
  /// Breaks that may be about amounts, or about something else alone.
  public static let perhapsDifferences: Set<BreakType> = [
    .statusConflict, .unreversedCancel, .quantityMismatch, .priceMismatch,
  ]

  /// The sides that do not agree.
  public var differences: [Side: Balance] { balances.filter { $0.value.delta != 0 } }

  /// The orders that tie out.
  public var tiedOut: Set<String> { orders.subtracting(differences.keys.map(\.order)) }

  /// What an event must put into the ledger. Source: DOMAIN, "What an order event must put into the ledger".
  static func expectation(_ event: HistoryEvent, _ policy: BillingPolicy = .pointInTime) -> [(AccountRole, Int64)] {
    func amount(_ component: AmountComponent) -> Int64 { event.amounts[component] ?? 0 }
    let all: [(AccountRole, Int64)]
    switch event.kind {
    case .booked, .changed, .cancelled, .held, .released, .delivered, .invoiceCancelled, .completed: all = []
    case .depositReceived: all = [(.cash, amount(.deposit)), (.deposit, -amount(.deposit))]
    case .depositApplied: all = [(.deposit, amount(.deposit)), (.receivable, -amount(.deposit))]
    case .shipped: all = [(.cogs, amount(.cost)), (.inventory, -amount(.cost))]
    case .invoiced:
      all = [
        (.receivable, amount(.gross)), (policy.billed, -amount(.net)),
        (.tax, -amount(.tax)), (.freight, -amount(.freight)), (.discount, amount(.discount)),
      ]
    case .credited:
      all = [
        (.receivable, -amount(.gross)), (.returns, amount(.net)), (.tax, amount(.tax)), (.freight, amount(.freight)),
      ]
    case .returned: all = [(.inventory, amount(.cost)), (.cogs, -amount(.cost))]
    case .recognised: all = [(.deferred, amount(.net)), (.revenue, -amount(.net))]
    case .paid: all = [(.cash, amount(.applied)), (.receivable, -amount(.applied))]
    case .discountTaken: all = [(.discount, amount(.discount)), (.receivable, -amount(.discount))]
    case .settled: all = [(.cash, amount(.net)), (.fees, amount(.fee)), (.clearing, -amount(.gross))]
    case .refunded, .chargeback: all = [(.receivable, amount(.applied)), (.cash, -amount(.applied))]
    case .writtenOff: all = [(.writeOff, amount(.applied)), (.receivable, -amount(.applied))]
    }
    return all.filter { $0.1 != 0 }
  }
}
