import Domain
import Forecasting

/// An order in one currency, and the values of the dimensions that flows are about.
struct FlowBacklog {
  var item: BacklogItem
  /// By `FlowLedger.labelDimensions`.
  var labels: [String]
  /// One of its events has no amount: nobody knows what is to be billed.
  var isUnvalued = false
}

/// What was ordered and is still to be billed, from the events of the order side.
extension FlowLedger {
  /// One currency of an order.
  struct Order {
    var currency: Currency
    var first: Fact?
    var booked: Int128 = 0
    var billed: Int128 = 0
    var invoiced: [Int32] = []
    var hasEnded = false
    var isUnvalued = false

    /// Whether something is still to be billed, or nobody knows.
    var isOpen: Bool { open > 0 || isUnvalued && !hasEnded }

    /// What is still to be billed: nothing where more has been billed than was ordered.
    var open: Int64 { hasEnded || isUnvalued ? 0 : Int64(clamping: max(0, booked - billed)) }
  }

  /// The orders among facts that were booked by the end of a day, by currency.
  private static func orders(_ facts: [Fact], asOf_d: Int32) -> [Order] {
    var orders: [Order] = []
    var lastEnding_d = Int32.min
    // By day and identity: what is made of them must not depend on how they came.
    for fact in facts.sorted(by: { ($0.day, $0.identity) < ($1.day, $1.identity) }) where fact.day <= asOf_d {
      guard [.booking, .invoice, .unbilling, .ending].contains(fact.kind) else { continue }
      var at = orders.firstIndex { $0.currency == fact.currency } ?? orders.count
      if at == orders.count {
        // An event that ends the order need not say in which currency it was.
        if fact.kind == .ending, fact.currency == .none {
          lastEnding_d = fact.day
          for at in orders.indices { orders[at].hasEnded = true }
          continue
        }
        orders.append(Order(currency: fact.currency))
        at = orders.count - 1
      }
      switch fact.kind {
      case .booking:
        if orders[at].first == nil { orders[at].first = fact }
        orders[at].booked += Int128(fact.amount)
        if fact.flags & Fact.unvalued != 0 { orders[at].isUnvalued = true }
      case .invoice:
        orders[at].invoiced.append(fact.day)
        orders[at].billed += Int128(fact.amount)
        if fact.flags & Fact.unvalued != 0 { orders[at].isUnvalued = true }
      case .unbilling:
        orders[at].billed -= Int128(fact.amount)
        if fact.flags & Fact.unvalued != 0 { orders[at].isUnvalued = true }
      case .ending: orders[at].hasEnded = true
      case .gone, .receivable, .cashLeg, .otherLeg: break
      }
    }
    // On the day of the booking nothing says which was first.
    for at in orders.indices where orders[at].first.map({ $0.day <= lastEnding_d }) == true {
      orders[at].hasEnded = true
    }
    return orders.filter { $0.first != nil }
  }

  /// What was ordered by the end of a day: how much of it is to be billed, and when it was. In no particular order.
  func backlog(asOf_d: Int32) -> [FlowBacklog] {
    guard settings.backlog != nil else { return [] }
    let oldest = asOf_d - settings.history_d
    var made: [FlowBacklog] = []
    for first in orders.values {
      var own: [Fact] = []
      var at = first
      while at >= 0 {
        own.append(facts[Int(at)])
        at = facts[Int(at)].next
      }
      for order in FlowLedger.orders(own, asOf_d: asOf_d) {
        guard let booking = order.first else { continue }
        // Lags are learned for as long as payments are.
        let invoiced = order.invoiced.filter { $0 >= oldest }
        guard order.isOpen || !invoiced.isEmpty else { continue }
        let item = BacklogItem(
          customer: names[booking.customer], segment: segment(booking.labels), currency: order.currency,
          booked_d: booking.day, amount: order.open, invoiced: invoiced,
          terms: booking.due < 0 ? nil : knownTerms[Int(booking.due)])
        made.append(
          FlowBacklog(
            item: item,
            labels: booking.labels < 0 ? labelDimensions.map { _ in "" } : labelSets[Int(booking.labels)],
            isUnvalued: order.isUnvalued && !order.hasEnded))
      }
    }
    return made
  }

  /// Whether anything of an order is still to be billed.
  func hasBacklog(_ chain: [Int32]) -> Bool {
    settings.backlog != nil && FlowLedger.orders(chain.map { facts[Int($0)] }, asOf_d: .max).contains { $0.isOpen }
  }
}
