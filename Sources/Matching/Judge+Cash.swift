import Domain

/// Differences of cash, clearing, receivables and fees as cash application tells them apart. Each is a narrower name for
/// a part of the difference that would be found anyway: what is taken here is taken out of what is left to the others.
extension Judge {
  /// Roles that a payment moves; where nothing but these is posted for an order that is not known, it is one.
  private static let paymentRoles: Set<AccountRole> = [.cash, .clearing, .receivable, .deposit, .fees, .discount]

  /// What a posting without an order is, where it is a payment; nil where it is none.
  func typeOfStrayCash(_ currency: Int) -> BreakType? {
    let cash = value(posted, currency, .cash)
    guard cash != 0 else { return nil }
    var isNamed = false
    for posting in duePostings where posting.currency == currencies[currency] {
      guard Judge.paymentRoles.contains(posting.role) else { return nil }
      isNamed = isNamed || !posting.document.isEmpty
    }
    return cash < 0 ? .refundUnmatched : isNamed ? .unknownReference : .unapplied
  }

  /// What events are that no posting answers: all of them refunds, or all of them chargebacks.
  func typeOfUnposted(_ kinds: some Sequence<OrderEventKind>) -> BreakType? {
    var type: BreakType?
    for kind in kinds {
      guard let own = Judge.unmatchedType(kind), type == nil || type == own else { return nil }
      type = own
    }
    return type
  }

  private static func unmatchedType(_ kind: OrderEventKind) -> BreakType? {
    switch kind {
    case .refunded: .refundUnmatched
    case .chargeback: .chargebackUnmatched
    default: nil
    }
  }

  /// Whether something was paid, and neither billed nor taken as a deposit.
  var isPaidNotBilled: Bool {
    guard appliesCash else { return false }
    var kinds: UInt32 = 0
    for at in dueEvents.indices { kinds |= 1 &<< UInt32(dueEvents[at].code) }
    return Judge.isPaidNotBilled(kinds)
  }

  /// Whether an order with events of these kinds, a bit each, was paid, and neither billed nor taken as a deposit. What a
  /// processor pays out, less what goes back, is no payment of a customer: an order of which nothing else is known is a
  /// payout. Of an order that is known otherwise its settlement says that it was paid.
  @inline(__always)
  static func isPaidNotBilled(_ kinds: UInt32) -> Bool {
    guard kinds & (bit(.paid) | bit(.settled)) != 0, kinds & billingKinds == 0 else { return false }
    return kinds & ~payoutKinds != 0
  }

  @inline(__always)
  private static func bit(_ kind: OrderEventKind) -> UInt32 { 1 &<< UInt32(kind.rawValue) }

  /// Billing, a deposit, or what ends an order.
  @inline(__always)
  private static var billingKinds: UInt32 {
    bit(.invoiced) | bit(.invoiceCancelled) | bit(.credited) | bit(.recognised) | bit(.depositReceived)
      | bit(.depositApplied) | bit(.cancelled)
  }

  /// What a payment processor tells of.
  @inline(__always)
  private static var payoutKinds: UInt32 { bit(.settled) | bit(.refunded) | bit(.chargeback) }

  /// Where cash comes by way of clearing, it is that which the payment moves.
  mutating func judgePaidNotBilled() {
    guard isDecided, isPaidNotBilled else { return }
    for role in [AccountRole.cash, .clearing] {
      guard let currency = currencies.indices.first(where: { value(expected, $0, role) != 0 }) else { continue }
      findings.append(
        Finding(
          .paidNotBilled, role, currencies[currency], expected: value(expected, currency, role),
          posted: value(posted, currency, role), reason: "paid, and nothing is billed"))
      return
    }
  }

  mutating func judgeCash(_ currency: Int) {
    // Less than expected everywhere, while more may come, is no short payment yet.
    if !isDecided, isPartial(currency) { return }
    judgeUnposted(.refunded, currency)
    judgeUnposted(.chargeback, currency)
    judgeUnapplied(currency)
    judgeFees(currency)
    judgeOutgoing(currency)
    judgePayments(currency)
  }

  private func index(_ currency: Int, _ role: AccountRole) -> Int { currency * roleCount + Int(role.rawValue) }

  /// Σ of what events of a kind expect of the roles.
  private func expectation(_ currency: Int, _ isWanted: (OrderEventKind) -> Bool) -> [Int128] {
    var sums = [Int128](repeating: 0, count: roleCount)
    for (place, event) in dueEvents.enumerated()
    where event.currency == currencies[currency] && !isVoid[place] && isWanted(event.kind!) {
      for entry in policy.entries(of: event) {
        sums[Int(entry.role.rawValue)] += Int128(event.amount(entry.component)) * Int128(entry.sign)
      }
    }
    return sums
  }

  private mutating func add(
    _ type: BreakType, _ role: AccountRole, _ currency: Int, _ reason: TextBytes, _ parts: [Finding.Part]
  ) {
    var finding = Finding(
      type, role, currencies[currency], expected: value(expected, currency, role),
      posted: value(posted, currency, role), reason: reason)
    finding.parts = parts
    append(finding)
  }

  private mutating func take(_ delta: Int128, _ role: AccountRole, _ currency: Int) -> Finding.Part {
    residual[index(currency, role)] -= delta
    return .init(currency: currencies[currency], role: role, delta: Int64(clamping: delta))
  }

  /// The whole difference of a role, and its counter-entry: of the first of the others that is off by just as much the
  /// other way, else of the first that is off by more.
  private mutating func takePair(
    _ role: AccountRole, _ others: [AccountRole], _ currency: Int
  ) -> (parts: [Finding.Part], other: AccountRole?) {
    let delta = residual[index(currency, role)]
    func left(_ other: AccountRole) -> Int128 { residual[index(currency, other)] }
    let other =
      others.first { left($0) == -delta }
      ?? others.first { (left($0) < 0) != (delta < 0) && magnitude(left($0)) > magnitude(delta) }
    var parts = [take(delta, role, currency)]
    if let other { parts.append(take(-delta, other, currency)) }
    return (parts, other)
  }

  private func isOff(_ currency: Int, _ role: AccountRole) -> Bool {
    let index = index(currency, role)
    return !isAccepted(index) && !isRounding(index)
  }

  /// Refunds or chargebacks of which the ledger has nothing.
  private mutating func judgeUnposted(_ kind: OrderEventKind, _ currency: Int) {
    guard isDecided, let type = Judge.unmatchedType(kind) else { return }
    let sums = expectation(currency) { $0 == kind }
    guard sums.contains(where: { $0 != 0 }), sums[Int(AccountRole.cash.rawValue)] != 0 else { return }
    for role in sums.indices where sums[role] != 0 {
      let left = residual[currency * roleCount + role]
      guard magnitude(left + sums[role]) < magnitude(left) else { return }
    }
    guard residual[index(currency, .cash)] == -sums[Int(AccountRole.cash.rawValue)] else { return }
    var parts: [Finding.Part] = []
    for role in Judge.primaryOrder where sums[Int(role.rawValue)] != 0 {
      parts.append(take(-sums[Int(role.rawValue)], role, currency))
    }
    add(type, .cash, currency, "no posting answers it", parts)
  }

  /// The cash came, and what it pays is not cleared: the counter-entry stands elsewhere.
  private mutating func judgeUnapplied(_ currency: Int) {
    let open = residual[index(currency, .receivable)]
    guard open > 0, isOff(currency, .receivable), value(posted, currency, .cash) > 0 else { return }
    let paid = expectation(currency) { $0 == .paid || $0 == .depositApplied }
    guard paid[Int(AccountRole.receivable.rawValue)] < 0 else { return }
    let hosts: [AccountRole] = [.clearing, .deposit]
    guard let host = hosts.first(where: { residual[index(currency, $0)] == -open }) else { return }
    let parts = [take(open, .receivable, currency), take(-open, host, currency)]
    add(.unapplied, .receivable, currency, "the payment stands on \(host.name)", parts)
  }

  private mutating func judgeFees(_ currency: Int) {
    guard isOff(currency, .fees) else { return }
    let (parts, other) = takePair(.fees, [.cash, .clearing, .receivable], currency)
    let against = other.map { ", against \($0.name)" } ?? ""
    add(.feeVariance, .fees, currency, "the posted fee differs from the settlement's\(against)", parts)
  }

  /// Cash that went out, of which the order side knows nothing.
  private mutating func judgeOutgoing(_ currency: Int) {
    let open = residual[index(currency, .cash)]
    guard open < 0, isOff(currency, .cash) else { return }
    let known = expectation(currency) { Judge.unmatchedType($0) != nil }
    guard known[Int(AccountRole.cash.rawValue)] == 0 else { return }
    var out: Int128 = 0
    for posting in duePostings
    where posting.currency == currencies[currency] && posting.role == .cash && posting.amount < 0 && !posting.isReversal
    { out += Int128(posting.amount) }
    guard out == open else { return }
    let (parts, _) = takePair(.cash, [.receivable, .deposit, .clearing, .returns], currency)
    add(.refundUnmatched, .cash, currency, "cash went out, and no refund is known", parts)
  }

  private mutating func judgePayments(_ currency: Int) {
    let open = residual[index(currency, .cash)]
    guard open != 0, isOff(currency, .cash) else { return }
    let paid = expectation(currency) { $0 == .paid || $0 == .settled || $0 == .depositReceived }
    let isKnown = paid[Int(AccountRole.cash.rawValue)] != 0
    guard isKnown || open > 0 else { return }
    // Nothing is short before the deadline: the rest may come.
    var type: BreakType = open > 0 ? .overPay : isDecided ? .shortPay : .partial
    var reason: TextBytes = open < 0 ? "less cash is posted than was paid" : "more cash is posted than was paid"
    if !isKnown {
      reason = "cash is posted, and no payment is known"
      let stranger = duePostings.first { posting in
        posting.role == .cash && posting.currency == currencies[currency] && !posting.document.isEmpty
          && !dueEvents.contains { $0.document.elementsEqual(posting.document) }
      }
      if let stranger {
        type = .unknownReference
        reason = "a payment for \(stranger.document), of which no order event is known"
      }
    }
    let (parts, other) = takePair(
      .cash, [.receivable, .clearing, .discount, .fees, .writeOff, .deposit], currency)
    if let other, other != .receivable { reason += ", against \(other.name)" }
    add(type, .cash, currency, reason, parts)
  }
}
