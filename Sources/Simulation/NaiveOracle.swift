import Domain

/// The right answer, found the slow and plain way: everything at once, exact dictionaries, no window and no tolerance.
///
/// It shares no code with the matcher, so the standard posting policy stands here a second time, for the kinds of
/// events that `HistoryGenerator` makes.
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

  public init(_ history: History) {
    var seen: Set<[String]> = []
    var counted: [HistoryEvent] = []
    for event in history.events where seen.insert(["event", event.order, event.id]).inserted { counted.append(event) }
    for (order, events) in Dictionary(grouping: counted, by: \.order) {
      orders.insert(order)
      // A cancellation takes all billing back, unless the order is booked or billed again after it.
      let last = events.filter { [.booked, .invoiced, .cancelled].contains($0.kind) }.max { $0.time_ms < $1.time_ms }
      let isCancelled = last?.kind == .cancelled
      for event in events where !(isCancelled && [.invoiced, .credited].contains(event.kind)) {
        for (role, amount) in NaiveOracle.expectation(event) {
          balances[Side(order: order, role: role, currency: event.currency), default: Balance()].expected += amount
        }
      }
    }
    for posting in history.postings
    where seen.insert(["posting", posting.order, posting.journal, "\(posting.line)"]).inserted {
      orders.insert(posting.order)
      postings.append(posting)
      let side = Side(order: posting.order, role: posting.role, currency: posting.currency)
      balances[side, default: Balance()].posted += posting.amount
    }
  }

  /// The sides that do not agree.
  public var differences: [Side: Balance] { balances.filter { $0.value.delta != 0 } }

  /// The orders that tie out.
  public var tiedOut: Set<String> { orders.subtracting(differences.keys.map(\.order)) }

  /// What an event must put into the ledger. Source: DOMAIN, "What an order event must put into the ledger".
  static func expectation(_ event: HistoryEvent) -> [(AccountRole, Int64)] {
    func amount(_ component: AmountComponent) -> Int64 { event.amounts[component] ?? 0 }
    switch event.kind {
    case .invoiced:
      return [
        (.receivable, amount(.gross)), (.revenue, -amount(.net)), (.tax, -amount(.tax)), (.freight, -amount(.freight)),
      ]
    case .credited:
      return [
        (.receivable, -amount(.gross)), (.returns, amount(.net)), (.tax, amount(.tax)), (.freight, amount(.freight)),
      ]
    case .paid: return [(.cash, amount(.applied)), (.receivable, -amount(.applied))]
    case .shipped: return [(.cogs, amount(.cost)), (.inventory, -amount(.cost))]
    case .booked, .cancelled: return []
    default: preconditionFailure("the oracle does not know what \(event.kind.name) posts")
    }
  }
}
