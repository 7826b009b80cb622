import Aggregates
import Domain

/// Judges one tie: from the set of its facts to the findings that say why it does not agree.
///
/// A pure function of the facts that count, whether the tie is final, and the policy. The scratch arrays are kept
/// between ties so that a judgement allocates nothing in steady state unless it finds something.
struct Judge {
  var policy: MatchingPolicy
  let roleCount = AccountRole.count
  let appliesCash: Bool
  let mirrorsIntercompany: Bool
  let schedules: RevenueSchedules?

  /// Order events that count, sorted by time; all of them, due or not.
  var events: [Fact] = []
  /// Postings that count, sorted by time.
  var postings: [Fact] = []
  /// Order events with the id of an earlier one and other content.
  var rejected: [Fact] = []

  var currencies: [Currency] = []
  /// By currency index × role: what must be and what is in the ledger.
  var expected: [Int128] = []
  var posted: [Int128] = []
  var findings: [Finding] = []
  /// What cancellations take back from the plain sum of the events' expectations (for the control totals).
  var voided: [Finding.Part] = []
  /// The same for the tie as a whole, whatever part of it the findings are about.
  var allVoided: [Finding.Part] = []
  /// Whether the findings are about something past its deadline; otherwise they are provisional.
  var isDecided = false
  /// The tie as a whole agrees, and will at its deadline if nothing more comes: not merely that nothing is overdue.
  var isWhollyAgreed = false
  var hasExpectation = false
  var mainCurrency = Currency.none

  var residual: [Int128] = []
  var isVoid: [Bool] = []
  /// What schedules add to the plain sum of the events' expectations.
  var scheduled: [Finding.Part] = []
  /// By index of the currency, where there are any.
  var releases: [(currency: Int, steps: [ScheduledRelease])] = []
  /// A schedule has releases that are not due yet.
  var hasPendingRelease = false
  /// Where control totals are kept by period: what the days belong to.
  var periods: PeriodCalendar?
  /// The time by which releases are due.
  var clock_ms = Int64.min
  /// Where postings stand of which some dimensions are those of their order, by what they carry themselves.
  var postingPlaces: [(own: ByteView, ofOrder: ByteView)] = []
  var dueEvents: [Fact] = []
  var duePostings: [Fact] = []

  init(policy: MatchingPolicy) {
    self.policy = policy
    schedules = policy.checks?.schedules
    appliesCash = policy.checks?.appliesCash == true
    mirrorsIntercompany = policy.checks?.mirrorsIntercompany == true
  }

  mutating func reset() {
    events.removeAll(keepingCapacity: true)
    postings.removeAll(keepingCapacity: true)
    rejected.removeAll(keepingCapacity: true)
  }

  /// Roles in the order in which one is named for a difference that all of them share.
  static let primaryOrder: [AccountRole] = [
    .receivable, .cash, .revenue, .deferred, .unbilled, .deposit, .clearing, .cogs, .intercompany, .returns, .tax,
    .freight, .discount, .fees, .inventory, .writeOff, .fx, .rounding,
  ]

  // MARK: - The judgement

  /// Fills `findings`.
  ///
  /// Nothing is missing before window + grace, and a tie may hold events of which some are past their deadline and
  /// some are not. So the tie is compared as a whole first. If it does not agree and a part of it is overdue, the
  /// overdue events (and those that a posting already answers by naming their document) are compared with all
  /// postings, then with the postings that are not ahead of their order; the first comparison that agrees stands.
  /// Where none does, the overdue part's findings are reported.
  mutating func judge(watermark_ms: Int64, isFinal: Bool) {
    let horizon = policy.window_ms + policy.grace_ms
    func isDue(_ fact: Fact) -> Bool { fact.time_ms.addingSaturating(horizon) < watermark_ms }
    let isAnyDue = isFinal || events.contains(where: isDue) || postings.contains(where: isDue)
    isDecided = isAnyDue
    hasPendingRelease = false

    dueEvents.removeAll(keepingCapacity: true)
    duePostings.removeAll(keepingCapacity: true)
    dueEvents.append(contentsOf: events)
    duePostings.append(contentsOf: postings)
    compare()
    allVoided.removeAll(keepingCapacity: true)
    allVoided.append(contentsOf: voided)
    allVoided.append(contentsOf: scheduled)
    isWhollyAgreed =
      findings.isEmpty && (isDecided || expected == posted && !policy.quantities.isEnabled && !isPaidNotBilled)
      && !hasPendingRelease
    if isFinal || !isAnyDue || !hasOpenFindings { return }

    dueEvents.removeAll(keepingCapacity: true)
    for event in events
    where isDue(event)
      || !event.document.isEmpty && postings.contains(where: { $0.document.elementsEqual(event.document) })
    { dueEvents.append(event) }
    compare()
    if !hasOpenFindings { return }
    let reported = findings

    let all = duePostings
    duePostings.removeAll(keepingCapacity: true)
    for posting in postings
    where isDue(posting)
      || !posting.document.isEmpty
        && dueEvents.contains(where: { $0.document.elementsEqual(posting.document) })
    { duePostings.append(posting) }
    if duePostings.count == all.count { return }
    compare()
    if hasOpenFindings {
      duePostings = all
      sum()
      findings = reported
    }
  }

  var hasOpenFindings: Bool { findings.contains { !$0.isAccepted } }

  mutating func compare() {
    findings.removeAll(keepingCapacity: true)
    find()
    if findings.count > 1 { uniteFindings() }
  }

  /// Causes of one type in one role of a currency share a break's id: they are one break, which explains what all of them
  /// do.
  private mutating func uniteFindings() {
    var at = 1
    while at < findings.count {
      let other = findings[at]
      let known = findings[..<at].firstIndex {
        $0.type == other.type && $0.role == other.role && $0.currency == other.currency
      }
      guard let known else {
        at += 1
        continue
      }
      findings[known].parts.append(contentsOf: other.parts)
      for hint in other.hints where !findings[known].hints.contains(hint) { findings[known].hints.append(hint) }
      findings[known].isAccepted = findings[known].isAccepted && other.isAccepted
      findings[known].reason += "; " + other.reason
      findings[known].add(other.lines)
      findings.remove(at: at)
    }
  }

  private mutating func find() {
    applyCancellations()
    sum()
    judgeDuplicateEvents()
    judgeDataQuality()
    if dueEvents.isEmpty, duePostings.isEmpty { return }
    if policy.quantities.isEnabled { judgeQuantities() }
    if appliesCash { judgePaidNotBilled() }
    if dueEvents.isEmpty {
      judgeWithoutOrder()
      return
    }
    if duePostings.isEmpty {
      judgeWithoutPostings()
      return
    }
    if judgeStatus() { return }
    judgeAmounts()
    if policy.quantities.comparesLines { judgeLines() }
    judgeCustomers()
    if policy.checksPostingDates { judgeDates() }
    if let checks = policy.checks { judgeFinance(checks) }
    judgeLateness()
  }

  // MARK: - Expected and posted

  static func isBilling(_ kind: OrderEventKind) -> Bool {
    switch kind {
    case .invoiced, .invoiceCancelled, .credited, .recognised: true
    default: false
    }
  }

  /// Marks the events whose expectation a cancellation takes back: a cancelled billing document, or all billing of an
  /// order that was cancelled and neither booked nor billed again.
  mutating func applyCancellations() {
    isVoid.removeAll(keepingCapacity: true)
    isVoid.append(contentsOf: repeatElement(false, count: dueEvents.count))
    orderIsCancelled = false
    orderIsHeld = false
    heldSince_ms = .max
    var lastCancel = -1
    for (index, event) in dueEvents.enumerated() {
      switch event.kind {
      case .cancelled: lastCancel = index
      case .booked, .invoiced: lastCancel = -1
      case .held:
        orderIsHeld = true
        heldSince_ms = event.time_ms
      case .released: orderIsHeld = false
      case .invoiceCancelled where !event.document.isEmpty:
        for other in 0..<dueEvents.count
        where dueEvents[other].kind == .invoiced && dueEvents[other].document.elementsEqual(event.document) {
          isVoid[other] = true
        }
      default: break
      }
    }
    if lastCancel >= 0 {
      orderIsCancelled = true
      for (index, event) in dueEvents.enumerated() where Judge.isBilling(event.kind!) { isVoid[index] = true }
    }
  }

  var orderIsCancelled = false
  var orderIsHeld = false
  var heldSince_ms = Int64.max

  mutating func currencyIndex(_ currency: Currency) -> Int {
    if let found = currencies.firstIndex(of: currency) { return found }
    currencies.append(currency)
    expected.append(contentsOf: repeatElement(0, count: roleCount))
    posted.append(contentsOf: repeatElement(0, count: roleCount))
    return currencies.count - 1
  }

  mutating func sum() {
    currencies.removeAll(keepingCapacity: true)
    expected.removeAll(keepingCapacity: true)
    posted.removeAll(keepingCapacity: true)
    voided.removeAll(keepingCapacity: true)
    hasExpectation = false
    for (index, event) in dueEvents.enumerated() {
      let entries = policy.entries(of: event)
      if entries.isEmpty { continue }
      let at = currencyIndex(event.currency) * roleCount
      for entry in entries {
        let amount = event.amount(entry.component)
        if amount == 0 { continue }
        hasExpectation = true
        let signed = entry.sign < 0 ? -Int128(amount) : Int128(amount)
        if isVoid[index] {
          voided.append(
            .init(
              currency: event.currency, role: entry.role, delta: Int64(clamping: -signed),
              period: periods.map { $0.period(ofDay: event.rateDay) } ?? 0))
        } else {
          expected[at + Int(entry.role.rawValue)] += signed
        }
      }
    }
    for posting in duePostings {
      let at = currencyIndex(posting.currency) * roleCount
      posted[at + Int(posting.code)] += Int128(posting.amount)
    }
    scheduled.removeAll(keepingCapacity: true)
    if let schedules { addReleases(schedules) }
    mainCurrency = currencies.first ?? dueEvents.first?.currency ?? .none
    residual.removeAll(keepingCapacity: true)
    for index in 0..<expected.count { residual.append(posted[index] - expected[index]) }
  }

  /// The role by which a shared difference is named: the first in the fixed order that has an amount on that side.
  func primaryRole(_ values: [Int128], _ currency: Int) -> AccountRole {
    for role in Judge.primaryOrder where values[currency * roleCount + Int(role.rawValue)] != 0 { return role }
    return .receivable
  }

  func value(_ values: [Int128], _ currency: Int, _ role: AccountRole) -> Int64 {
    Int64(clamping: values[currency * roleCount + Int(role.rawValue)])
  }

  /// All that is still unexplained, as parts of a finding; and takes it out of the residual.
  mutating func takeParts(_ currency: Int? = nil, roles: [AccountRole]? = nil) -> [Finding.Part] {
    var parts: [Finding.Part] = []
    for index in 0..<residual.count where residual[index] != 0 {
      if let currency, index / roleCount != currency { continue }
      let role = AccountRole(rawValue: UInt8(index % roleCount))!
      if let roles, !roles.contains(role) { continue }
      parts.append(.init(currency: currencies[index / roleCount], role: role, delta: Int64(clamping: residual[index])))
      residual[index] = 0
    }
    return parts
  }

  // MARK: - One side only

  mutating func judgeWithoutOrder() {
    guard isDecided, residual.contains(where: { $0 != 0 }) || !duePostings.contains(where: \.isReversal) else { return }
    let orphan = duePostings.first { !hasOriginal($0) }
    for currency in currencies.indices {
      let stray = appliesCash && orphan == nil ? typeOfStrayCash(currency) : nil
      let role = stray == nil ? primaryRole(posted, currency) : .cash
      let type: BreakType = orphan == nil ? stray ?? .missingOrder : .orphanReversal
      var finding = Finding(
        type, role, currencies[currency], expected: nil, posted: value(posted, currency, role),
        reason: orphan == nil
          ? "\(duePostings.count) posting(s) and no order event"
          : "reversal of \(orphan!.reverses.string), which is not known")
      finding.parts = takeParts(currency)
      findings.append(finding)
    }
  }

  mutating func judgeWithoutPostings() {
    for currency in currencies.indices {
      let range = currency * roleCount..<(currency + 1) * roleCount
      guard expected[range].contains(where: { $0 != 0 }) else { continue }
      let unposted =
        appliesCash
        ? typeOfUnposted(kindsWithEntries(currency)) : nil
      let role = unposted == nil ? primaryRole(expected, currency) : .cash
      if acceptsAll(currency) {
        appendAccepted(currency)
        continue
      }
      // Before its deadline an unanswered expectation is merely expected: nothing is missing yet.
      guard isDecided else { continue }
      var finding = Finding(
        unposted ?? .missingInLedger, role, currencies[currency], expected: value(expected, currency, role),
        posted: nil,
        reason: "nothing is posted")
      finding.parts = takeParts(currency)
      findings.append(finding)
    }
  }

  /// Kinds of the events in a currency of which something is expected.
  private func kindsWithEntries(_ currency: Int) -> [OrderEventKind] {
    dueEvents.indices.filter {
      dueEvents[$0].currency == currencies[currency] && !isVoid[$0] && !policy.entries(of: dueEvents[$0]).isEmpty
    }.map { dueEvents[$0].kind! }
  }

  // MARK: - Order events

  mutating func judgeDuplicateEvents() {
    guard let first = rejected.first else { return }
    let currency = first.currency
    let at = currencies.firstIndex(of: currency)
    let role = at.map { primaryRole(expected, $0) } ?? .receivable
    findings.append(
      Finding(
        .duplicateOrderEvent, role, currency, expected: at.map { value(expected, $0, role) },
        posted: at.map { value(posted, $0, role) },
        reason: "\(rejected.count) event(s) re-use the id \(first.id.string) with other content; the first one counts"))
  }

  mutating func judgeQuantities() {
    var delivered: Int64 = 0
    var shipped: Int64 = 0
    var billed: Int64 = 0
    var (isDeliveredKnown, isShippedKnown) = (policy.quantities.basis == .delivered, false)
    var returned: Int64 = 0
    for event in dueEvents {
      guard let quantity = event.quantity_u else { continue }
      switch event.kind {
      case .delivered:
        delivered &+= quantity
        isDeliveredKnown = true
      case .shipped:
        shipped &+= quantity
        isShippedKnown = true
      case .returned: returned &+= quantity
      case .invoiced: billed &+= quantity
      // A credit for the price alone has no quantity.
      case .invoiceCancelled, .credited: billed &-= quantity
      default: break
      }
    }
    shipped &-= returned
    if isDeliveredKnown { delivered &-= returned }
    quantities = [delivered, shipped, billed]
    let tolerance = policy.quantities.tolerance_u
    func differs(_ a: Int64, _ b: Int64) -> Bool { (a &- b).magnitude > tolerance.magnitude }
    let supplied = policy.quantities.basis == .delivered ? delivered : shipped
    func add(_ type: BreakType, _ role: AccountRole, _ reason: String) {
      findings.append(Finding(type, role, mainCurrency, expected: nil, posted: nil, reason: reason))
    }
    if supplied > tolerance, !differs(billed, 0) {
      guard isDecided else { return }
      add(.unbilledShipment, .unbilled, "delivered and not billed")
    } else if billed > tolerance, !differs(supplied, 0) {
      guard isDecided else { return }
      add(.billedNotShipped, .revenue, "billed and not delivered")
    } else if differs(billed, supplied) {
      add(.quantityMismatch, .revenue, "delivered and billed quantities differ")
    } else if policy.quantities.basis == .delivered, isShippedKnown || isDecided, differs(shipped, delivered) {
      add(.quantityMismatch, .inventory, "delivered and issued quantities differ")
    } else if policy.quantities.comparesOrdered, let ordered = orderedQuantity_u {
      // Less may still follow; more was never asked for.
      for (quantity, what, role) in [
        (billed, "billed", AccountRole.revenue), (delivered, "delivered", .inventory), (shipped, "shipped", .inventory),
      ] where quantity > 0 && quantity &- ordered > tolerance {
        add(.quantityMismatch, role, "\(what) \(quantityText(quantity)), ordered \(quantityText(ordered))")
        return
      }
    }
  }

  /// What was ordered by all that is known, due or not; nil where no booking tells a quantity.
  private var orderedQuantity_u: Int64? {
    var (ordered, isKnown) = (Int64(0), false)
    for event in events {
      guard let quantity = event.quantity_u else { continue }
      switch event.kind {
      case .booked:
        ordered &+= quantity
        isKnown = true
      case .changed: ordered &+= quantity
      case .cancelled: ordered &-= quantity
      default: break
      }
    }
    return isKnown ? ordered : nil
  }

  /// Delivered, shipped and billed quantities of the last judgement, where quantities are compared.
  var quantities: [Int64]?

  /// Cancelled and held orders; true if nothing more is to be said about the tie.
  mutating func judgeStatus() -> Bool {
    if orderIsCancelled {
      guard residual.contains(where: { $0 != 0 }) else { return false }
      let wasBilled = !voided.isEmpty
      for currency in currencies.indices {
        guard residual[currency * roleCount..<(currency + 1) * roleCount].contains(where: { $0 != 0 }) else { continue }
        let role = primaryRole(residual, currency)
        var finding = Finding(
          wasBilled ? .unreversedCancel : .statusConflict, role, currencies[currency],
          expected: value(expected, currency, role), posted: value(posted, currency, role),
          reason: wasBilled ? "cancelled after billing and not reversed" : "posted for a cancelled order")
        finding.parts = takeParts(currency)
        findings.append(finding)
      }
      return true
    }
    if orderIsHeld, duePostings.contains(where: { $0.time_ms >= heldSince_ms }) {
      let role = primaryRole(posted, 0)
      var finding = Finding(
        .statusConflict, role, currencies[0], expected: value(expected, 0, role), posted: value(posted, 0, role),
        reason: "posted while the order is on hold")
      finding.parts = takeParts()
      findings.append(finding)
      return true
    }
    // A billing document that was cancelled while the order goes on.
    if !voided.isEmpty, residual.contains(where: { $0 != 0 }) {
      let explains = voided.allSatisfy { part in
        guard let at = currencies.firstIndex(of: part.currency) else { return false }
        return residual[at * roleCount + Int(part.role.rawValue)] == -Int128(part.delta)
      }
      if explains {
        let at = currencies.firstIndex(of: voided[0].currency)!
        let role = primaryRole(residual, at)
        var finding = Finding(
          .unreversedCancel, role, currencies[at], expected: value(expected, at, role), posted: value(posted, at, role),
          reason: "a billing document was cancelled and is not reversed")
        finding.parts = takeParts()
        findings.append(finding)
      }
    }
    return false
  }
}

extension Int64 {
  @inline(__always)
  func addingSaturating(_ other: Int64) -> Int64 {
    let (sum, overflow) = addingReportingOverflow(other)
    return overflow ? (other < 0 ? .min : .max) : sum
  }
}
