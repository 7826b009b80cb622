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
  /// By event that is void, the day on which it was cancelled; nothing where none is.
  private var cancelDays: [Int32] = []
  /// Places of the events that a cancellation of their document takes back, and of these cancellations.
  private var takenBack: [Int] = []
  private var takingBack: [Int] = []
  /// What schedules add to the plain sum of the events' expectations.
  var scheduled: [Finding.Part] = []
  /// By index of the currency, where there are any.
  var releases: [(currency: Int, steps: [ScheduledRelease])] = []
  /// A schedule has releases that are not due yet.
  var hasPendingRelease = false
  /// The sums agree, and nothing is posted of a document yet: see `judgeReplacedDocuments`.
  var awaitsDocument = false
  /// Where control totals are kept by period: what the days belong to.
  var periods: PeriodCalendar?
  /// The time by which releases are due.
  var clock_ms = Int64.min
  /// What people have written off: see `judgeWriteOffs`.
  var writeOffs: [WriteOff] = []
  /// Where postings stand of which some dimensions are those of their order, by what they carry themselves.
  var postingPlaces: [(own: ByteView, ofOrder: ByteView)] = []
  var dueEvents: [Fact] = []
  var duePostings: [Fact] = []
  /// By role, of the currency that is looked at: what is in the ledger, less what earlier findings have explained.
  var ledger: [Int128] = []
  /// See `judgeDuplicatePostings`.
  var journals: [Int] = []
  var journalLines: [Int128] = []
  /// By place, the first posting of each journal that was found to be another's copy.
  var surplus: [Int] = []

  init(policy: MatchingPolicy) {
    self.policy = policy
    schedules = policy.checks?.schedules
    appliesCash = policy.checks?.appliesCash == true
    mirrorsIntercompany = policy.checks?.mirrorsIntercompany == true
  }

  mutating func reset() {
    // As a rule they share the memory of `events` and `postings`, which must not be copied for them.
    dueEvents = []
    duePostings = []
    events.clear()
    postings.clear()
    rejected.clear()
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
    awaitsDocument = false

    dueEvents = events
    duePostings = postings
    compare()
    allVoided.clear()
    for part in voided { allVoided.append(part) }
    for part in scheduled { allVoided.append(part) }
    if allVoided.count > Finding.fewParts { allVoided = Finding.bounded(allVoided) }
    isWhollyAgreed =
      findings.isEmpty && (isDecided || expected == posted && !policy.quantities.isEnabled && !isPaidNotBilled)
      && !hasPendingRelease && !awaitsDocument
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

  /// The earliest time of a fact.
  @inline(__always)
  var firstTime_ms: Int64 {
    var first = Int64.max
    for at in events.indices { first = min(first, events[at].time_ms) }
    for at in postings.indices { first = min(first, postings[at].time_ms) }
    for at in rejected.indices { first = min(first, rejected[at].time_ms) }
    return first == .max ? 0 : first
  }

  @inline(__always)
  var hasOpenFindings: Bool { findings.indices.contains { !findings[$0].isAccepted } }

  mutating func compare() {
    findings.clear()
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
      findings[known].reason += "; \(other.reason)"
      findings[known].add(other.lines)
      findings.remove(at: at)
    }
  }

  private mutating func find() {
    applyCancellations()
    sum()
    if isCreditedInFull, residual.contains(where: { $0 != 0 }) {
      // Neither reversed nor left alone: the invoices and their credit notes are what must be there.
      applyCancellations(keepsCredited: true)
      sum()
    }
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
    if policy.looksFurther { judgeFinance() }
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
  /// - Parameter keepsCredited: An order that was credited in full is not taken for cancelled.
  mutating func applyCancellations(keepsCredited: Bool = false) {
    cancelDays.clear()
    takenBack.clear()
    takingBack.clear()
    isCreditedInFull = false
    isVoid.clear()
    for _ in dueEvents.indices { isVoid.append(false) }
    orderIsCancelled = false
    orderIsHeld = false
    heldSince_ms = .max
    var cancel = -1
    for index in dueEvents.indices {
      switch dueEvents[index].kind {
      case .cancelled: if cancel < 0 { cancel = index }
      case .booked, .invoiced: cancel = -1
      case .held:
        orderIsHeld = true
        heldSince_ms = dueEvents[index].time_ms
      case .released: orderIsHeld = false
      case .invoiceCancelled where !dueEvents[index].document.isEmpty: cancelDocument(by: index)
      default: break
      }
    }
    if cancel >= 0 { isCreditedInFull = isAllCredited }
    if cancel >= 0, !(keepsCredited && isCreditedInFull) {
      orderIsCancelled = true
      for index in dueEvents.indices where Judge.isBilling(dueEvents[index].kind!) { cancelEvent(index, by: cancel) }
    }
  }

  /// Takes back what was billed under a number until its cancellation: the number may be used again after it. Where all of it
  /// was billed later by the clocks of the sources, all of it is meant.
  private mutating func cancelDocument(by cancellation: Int) {
    let (document, time_ms) = (dueEvents[cancellation].document, dueEvents[cancellation].time_ms)
    var isAnyBefore = false
    for index in dueEvents.indices
    where isInvoice(index, of: document) && dueEvents[index].time_ms <= time_ms {
      isAnyBefore = true
      takeBack(index, by: cancellation)
    }
    if isAnyBefore { return }
    for index in dueEvents.indices where isInvoice(index, of: document) { takeBack(index, by: cancellation) }
  }

  private mutating func takeBack(_ index: Int, by cancellation: Int) {
    cancelEvent(index, by: cancellation)
    takenBack.append(index)
    if takingBack.last != cancellation { takingBack.append(cancellation) }
  }

  private func isInvoice(_ index: Int, of document: ByteView) -> Bool {
    dueEvents[index].kind == .invoiced && dueEvents[index].document.elementsEqual(document)
  }

  /// Whether credit notes have taken back all that was billed and not cancelled before. Then a cancellation of the order may
  /// find nothing to take back, and invoices and credit notes stand in the ledger side by side.
  private var isAllCredited: Bool {
    guard dueEvents.indices.contains(where: { dueEvents[$0].kind == .credited }) else { return false }
    var (open, isAny) = ([Currency: Int128](), false)
    for index in dueEvents.indices where !isVoid[index] && Judge.isBilling(dueEvents[index].kind!) {
      for entry in policy.entries(of: dueEvents[index]) where entry.role == .receivable {
        let amount = Int128(dueEvents[index].amount(entry.component)) * Int128(entry.sign)
        isAny = isAny || amount != 0
        open[dueEvents[index].currency, default: 0] += amount
      }
    }
    return isAny && open.values.allSatisfy { $0 == 0 }
  }

  private mutating func cancelEvent(_ index: Int, by cancellation: Int) {
    if cancelDays.isEmpty { for _ in dueEvents.indices { cancelDays.append(.max) } }
    isVoid[index] = true
    cancelDays[index] = min(cancelDays[index], dueEvents[cancellation].rateDay)
  }

  /// The day on which what was expected of an event that is void was taken back: that of the cancellation, but never before
  /// its own.
  func cancelDay(_ index: Int) -> Int32 { max(cancelDays[index], dueEvents[index].rateDay) }

  var orderIsCancelled = false
  /// The order was cancelled, and credit notes have taken back all that was billed.
  private var isCreditedInFull = false
  var orderIsHeld = false
  var heldSince_ms = Int64.max

  mutating func currencyIndex(_ currency: Currency) -> Int {
    if let found = currencies.firstIndex(of: currency) { return found }
    currencies.append(currency)
    // The sums of the first are there.
    if currencies.count > 1 {
      expected.append(contentsOf: Judge.noAmounts)
      posted.append(contentsOf: Judge.noAmounts)
    }
    return currencies.count - 1
  }

  /// One of each role.
  static let noAmounts = [Int128](repeating: 0, count: AccountRole.count)

  mutating func sum() {
    currencies.clear()
    clearSums()
    voided.clear()
    hasExpectation = false
    // By place: a copy of each fact would take longer than what is done with it.
    for index in dueEvents.indices {
      let entries = policy.entries(of: dueEvents[index])
      if entries.isEmpty { continue }
      let at = currencyIndex(dueEvents[index].currency) * roleCount
      for entry in entries {
        let amount = dueEvents[index].amount(entry.component)
        if amount == 0 { continue }
        hasExpectation = true
        let signed = entry.sign < 0 ? -Int128(amount) : Int128(amount)
        if isVoid[index] {
          voided.append(
            .init(
              currency: dueEvents[index].currency, role: entry.role, delta: Int64(clamping: -signed),
              period: periods.map { $0.period(ofDay: cancelDay(index)) } ?? 0))
        } else {
          expected[at + Int(entry.role.rawValue)] += signed
        }
      }
    }
    for index in duePostings.indices {
      let at = currencyIndex(duePostings[index].currency) * roleCount
      posted[at + Int(duePostings[index].code)] += Int128(duePostings[index].amount)
    }
    scheduled.clear()
    if let schedules { addReleases(schedules) }
    mainCurrency = currencies.first ?? dueEvents.first?.currency ?? .none
    if currencies.isEmpty {
      expected.clear()
      posted.clear()
    }
    Judge.fit(&residual, posted.count)
    let (expected, posted) = (expected, posted)
    residual.withUnsafeMutableBufferPointer { residual in
      for index in residual.indices { residual[index] = posted[index] - expected[index] }
    }
  }

  /// Leaves room for one currency: most orders have no other.
  private mutating func clearSums() {
    Judge.fit(&expected, roleCount)
    Judge.fit(&posted, roleCount)
    expected.withUnsafeMutableBufferPointer { $0.update(repeating: 0) }
    posted.withUnsafeMutableBufferPointer { $0.update(repeating: 0) }
  }

  /// Makes sums of as many roles as wanted, whatever they are.
  private static func fit(_ sums: inout [Int128], _ count: Int) {
    if sums.count > count { sums.removeLast(sums.count - count) }
    while sums.count < count { sums.append(contentsOf: noAmounts) }
  }

  /// The size of the order as a whole, of the first role that has one. Inlined, as others that only look: a call from
  /// outside copies the judge.
  @inline(__always)
  var orderValue: TieValue {
    var size: Int128 = 0
    if let main = currencies.firstIndex(of: mainCurrency) {
      for place in 0..<Matcher.valueRoleCount where size == 0 {
        let index = main * roleCount + Int(Matcher.valueRole(place).rawValue)
        size = expected[index] != 0 ? expected[index] : posted[index]
      }
    }
    return TieValue(amount: Int64(clamping: size.magnitude), currency: mainCurrency)
  }

  /// What is in the ledger of a currency, less what has been explained.
  mutating func fillLedger(_ currency: Int) {
    if ledger.isEmpty { ledger = Judge.noAmounts }
    let (expected, residual, base) = (expected, residual, currency * roleCount)
    ledger.withUnsafeMutableBufferPointer { ledger in
      for role in ledger.indices { ledger[role] = expected[base + role] + residual[base + role] }
    }
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
    // As many roles as an invoice has, as a rule.
    parts.reserveCapacity(4)
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
      findings.append(
        Finding(
          type, role, currencies[currency], expected: nil, posted: value(posted, currency, role),
          reason: orphan == nil
            ? "\(duePostings.count) posting(s) and no order event"
            : "reversal of \(orphan!.reverses), which is not known",
          parts: takeParts(currency)))
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
      findings.append(
        Finding(
          unposted ?? .missingInLedger, role, currencies[currency], expected: value(expected, currency, role),
          posted: nil, reason: "nothing is posted", parts: takeParts(currency)))
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
        reason: "\(rejected.count) event(s) re-use the id \(first.id) with other content; the first one counts"))
  }

  mutating func judgeQuantities() {
    var delivered: Int64 = 0
    var shipped: Int64 = 0
    var billed: Int64 = 0
    var (isDeliveredKnown, isShippedKnown) = (policy.quantities.basis == .delivered, false)
    var returned: Int64 = 0
    for (place, event) in dueEvents.enumerated() {
      guard let quantity = event.quantity_u else { continue }
      // A document that is cancelled takes back what was billed under its number, whole and once, as it does its amounts.
      if takenBack.contains(place) || takingBack.contains(place) { continue }
      switch event.kind {
      case .delivered:
        delivered &+= quantity
        isDeliveredKnown = true
      case .shipped:
        shipped &+= quantity
        isShippedKnown = true
      case .returned: returned &+= quantity
      case .invoiced: billed &+= quantity
      // A credit for the price alone has no quantity. A cancellation of what is not known has what it says.
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
    func add(_ type: BreakType, _ role: AccountRole, _ reason: TextBytes) {
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
      // Releases of a service are taken back with it, whatever documents they name.
      if wasBilled, !dueEvents.indices.contains(where: { isVoid[$0] && dueEvents[$0].service != nil }) {
        for currency in currencies.indices { judgeUnreversed(currency) }
        return residual.allSatisfy { $0 == 0 }
      }
      for currency in currencies.indices {
        guard residual[currency * roleCount..<(currency + 1) * roleCount].contains(where: { $0 != 0 }) else { continue }
        let role = primaryRole(residual, currency)
        findings.append(
          Finding(
            wasBilled ? .unreversedCancel : .statusConflict, role, currencies[currency],
            expected: value(expected, currency, role), posted: value(posted, currency, role),
            reason: wasBilled ? "cancelled after billing and not reversed" : "posted for a cancelled order",
            parts: takeParts(currency)))
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
      } else {
        for currency in currencies.indices { judgeStanding(currency) }
      }
    }
    return false
  }
}

extension Array {
  /// Empties it and keeps its memory. One by one where there are few: that is sooner done than asked for.
  @inline(__always)
  mutating func clear() {
    if count > 3 { removeAll(keepingCapacity: true) }
    while !isEmpty { removeLast() }
  }
}
