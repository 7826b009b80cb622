import Domain

/// Judges one tie: from the set of its facts to the findings that say why it does not agree.
///
/// A pure function of the facts that count, whether the tie is final, and the policy. The scratch arrays are kept
/// between ties so that a judgement allocates nothing in steady state unless it finds something.
struct Judge {
  let policy: MatchingPolicy
  let roleCount = AccountRole.count

  /// Order events that count, sorted by time; all of them, due or not.
  var events: [FactView] = []
  /// Postings that count, sorted by time.
  var postings: [FactView] = []
  /// Order events with the id of an earlier one and other content.
  var rejected: [FactView] = []

  private(set) var currencies: [Currency] = []
  /// By currency index × role: what must be and what is in the ledger.
  private(set) var expected: [Int128] = []
  private(set) var posted: [Int128] = []
  private(set) var findings: [Finding] = []
  /// What cancellations take back from the plain sum of the events' expectations (for the control totals).
  private(set) var voided: [Finding.Part] = []
  /// The same for the tie as a whole, whatever part of it the findings are about.
  private(set) var allVoided: [Finding.Part] = []
  /// Whether the findings are about something past its deadline; otherwise they are provisional.
  private(set) var isDecided = false
  private(set) var hasExpectation = false
  private(set) var mainCurrency = Currency.none

  private var residual: [Int128] = []
  private var isVoid: [Bool] = []
  private var dueEvents: [FactView] = []
  private var duePostings: [FactView] = []

  init(policy: MatchingPolicy) { self.policy = policy }

  mutating func reset() {
    events.removeAll(keepingCapacity: true)
    postings.removeAll(keepingCapacity: true)
    rejected.removeAll(keepingCapacity: true)
  }

  /// Roles in the order in which one is named for a difference that all of them share.
  private static let primaryOrder: [AccountRole] = [
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
    func isDue(_ fact: FactView) -> Bool { fact.header.time_ms.addingSaturating(horizon) < watermark_ms }
    let isAnyDue = isFinal || events.contains(where: isDue) || postings.contains(where: isDue)
    isDecided = isAnyDue

    dueEvents.removeAll(keepingCapacity: true)
    duePostings.removeAll(keepingCapacity: true)
    dueEvents.append(contentsOf: events)
    duePostings.append(contentsOf: postings)
    compare()
    allVoided.removeAll(keepingCapacity: true)
    allVoided.append(contentsOf: voided)
    if isFinal || !isAnyDue || !hasOpenFindings { return }

    dueEvents.removeAll(keepingCapacity: true)
    for event in events
    where isDue(event)
      || event.header.documentLength > 0 && postings.contains(where: { $0.document.elementsEqual(event.document) })
    { dueEvents.append(event) }
    compare()
    if !hasOpenFindings { return }
    let reported = findings

    let all = duePostings
    duePostings.removeAll(keepingCapacity: true)
    for posting in postings
    where isDue(posting)
      || posting.header.documentLength > 0
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

  private var hasOpenFindings: Bool { findings.contains { !$0.isAccepted } }

  private mutating func compare() {
    findings.removeAll(keepingCapacity: true)
    applyCancellations()
    sum()
    judgeDuplicateEvents()
    if dueEvents.isEmpty, duePostings.isEmpty { return }
    if policy.quantities.isEnabled { judgeQuantities() }
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
    judgeCustomers()
    if policy.checksPostingDates { judgeDates() }
    judgeLateness()
  }

  // MARK: - Expected and posted

  private static func isBilling(_ kind: OrderEventKind) -> Bool {
    switch kind {
    case .invoiced, .invoiceCancelled, .credited, .recognised: true
    default: false
    }
  }

  /// Marks the events whose expectation a cancellation takes back: a cancelled billing document, or all billing of an
  /// order that was cancelled and neither booked nor billed again.
  private mutating func applyCancellations() {
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
        heldSince_ms = event.header.time_ms
      case .released: orderIsHeld = false
      case .invoiceCancelled where event.header.documentLength > 0:
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

  private var orderIsCancelled = false
  private var orderIsHeld = false
  private var heldSince_ms = Int64.max

  private mutating func currencyIndex(_ currency: Currency) -> Int {
    if let found = currencies.firstIndex(of: currency) { return found }
    currencies.append(currency)
    expected.append(contentsOf: repeatElement(0, count: roleCount))
    posted.append(contentsOf: repeatElement(0, count: roleCount))
    return currencies.count - 1
  }

  private mutating func sum() {
    currencies.removeAll(keepingCapacity: true)
    expected.removeAll(keepingCapacity: true)
    posted.removeAll(keepingCapacity: true)
    voided.removeAll(keepingCapacity: true)
    hasExpectation = false
    for (index, event) in dueEvents.enumerated() {
      let entries = policy.entries[Int(event.header.kind)]
      if entries.isEmpty { continue }
      let at = currencyIndex(event.currency) * roleCount
      for entry in entries {
        let amount = event.amount(entry.component)
        if amount == 0 { continue }
        hasExpectation = true
        let signed = entry.sign < 0 ? -Int128(amount) : Int128(amount)
        if isVoid[index] {
          voided.append(
            .init(currency: event.currency, role: entry.role, delta: Int64(clamping: -signed)))
        } else {
          expected[at + Int(entry.role.rawValue)] += signed
        }
      }
    }
    for posting in duePostings {
      let at = currencyIndex(posting.currency) * roleCount
      posted[at + Int(posting.header.role)] += Int128(posting.amount)
    }
    mainCurrency = currencies.first ?? dueEvents.first?.currency ?? .none
    residual.removeAll(keepingCapacity: true)
    for index in 0..<expected.count { residual.append(posted[index] - expected[index]) }
  }

  /// The role by which a shared difference is named: the first in the fixed order that has an amount on that side.
  private func primaryRole(_ values: [Int128], _ currency: Int) -> AccountRole {
    for role in Judge.primaryOrder where values[currency * roleCount + Int(role.rawValue)] != 0 { return role }
    return .receivable
  }

  private func value(_ values: [Int128], _ currency: Int, _ role: AccountRole) -> Int64 {
    Int64(clamping: values[currency * roleCount + Int(role.rawValue)])
  }

  /// All that is still unexplained, as parts of a finding; and takes it out of the residual.
  private mutating func takeParts(_ currency: Int? = nil, roles: [AccountRole]? = nil) -> [Finding.Part] {
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

  private mutating func judgeWithoutOrder() {
    guard isDecided, residual.contains(where: { $0 != 0 }) || !duePostings.contains(where: \.isReversal) else { return }
    let orphan = duePostings.first { !hasOriginal($0) }
    for currency in currencies.indices {
      let role = primaryRole(posted, currency)
      let type: BreakType = orphan == nil ? .missingOrder : .orphanReversal
      var finding = Finding(
        type, role, currencies[currency], expected: nil, posted: value(posted, currency, role),
        reason: orphan == nil
          ? "\(duePostings.count) posting(s) and no order event"
          : "reversal of \(orphan!.reverses.string), which is not known")
      finding.parts = takeParts(currency)
      findings.append(finding)
    }
  }

  private mutating func judgeWithoutPostings() {
    for currency in currencies.indices {
      let range = currency * roleCount..<(currency + 1) * roleCount
      guard expected[range].contains(where: { $0 != 0 }) else { continue }
      let role = primaryRole(expected, currency)
      if acceptsAll(currency) {
        appendAccepted(currency)
        continue
      }
      // Before its deadline an unanswered expectation is merely expected: nothing is missing yet.
      guard isDecided else { continue }
      var finding = Finding(
        .missingInLedger, role, currencies[currency], expected: value(expected, currency, role), posted: nil,
        reason: "nothing is posted")
      finding.parts = takeParts(currency)
      findings.append(finding)
    }
  }

  // MARK: - Order events

  private mutating func judgeDuplicateEvents() {
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

  private mutating func judgeQuantities() {
    var delivered: Int64 = 0
    var shipped: Int64 = 0
    var billed: Int64 = 0
    var isShippedKnown = false
    for event in dueEvents {
      guard let quantity = event.quantity_u else { continue }
      switch event.kind {
      case .delivered: delivered &+= quantity
      case .shipped:
        shipped &+= quantity
        isShippedKnown = true
      case .returned: shipped &-= quantity
      case .invoiced: billed &+= quantity
      case .invoiceCancelled: billed &-= quantity
      default: break
      }
    }
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
    }
  }

  /// Delivered, shipped and billed quantities of the last judgement, where quantities are compared.
  private(set) var quantities: [Int64]?

  /// Cancelled and held orders; true if nothing more is to be said about the tie.
  private mutating func judgeStatus() -> Bool {
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
    if orderIsHeld, duePostings.contains(where: { $0.header.time_ms >= heldSince_ms }) {
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

  // MARK: - Amounts

  private func isAccepted(_ index: Int) -> Bool {
    residual[index] == 0
      || policy.tolerances[index % roleCount].accepts(
        expected: expected[index], delta: residual[index], exponent: currencies[index / roleCount].exponent)
  }

  /// Half a minor unit a line, and one minor unit where the tolerance allows that much.
  private func roundingLimit() -> Int128 {
    var lines = 0
    for event in dueEvents { lines += Int(event.header.lineCount) }
    return Int128(lines / 2)
  }

  private func isRounding(_ index: Int) -> Bool {
    let magnitude = residual[index] < 0 ? -residual[index] : residual[index]
    return magnitude <= roundingLimit() || magnitude <= 1 && isAccepted(index)
  }

  private func magnitude(_ value: Int128) -> Int128 { value < 0 ? -value : value }

  /// Whether every difference in a currency is within tolerance, or as small as rounding makes it.
  private func acceptsAll(_ currency: Int) -> Bool {
    let range = currency * roleCount..<(currency + 1) * roleCount
    return range.allSatisfy { isAccepted($0) } || range.allSatisfy { isRounding($0) }
  }

  private mutating func appendAccepted(_ currency: Int) {
    let range = currency * roleCount..<(currency + 1) * roleCount
    guard range.contains(where: { residual[$0] != 0 }) else { return }
    let isRoundingOnly = range.allSatisfy { isRounding($0) }
    let role = primaryRole(residual, currency)
    var finding = Finding(
      isRoundingOnly ? .rounding : type(of: role), role, currencies[currency],
      expected: value(expected, currency, role), posted: value(posted, currency, role),
      reason: isRoundingOnly ? "a rounding difference" : "within tolerance")
    finding.isAccepted = true
    finding.parts = takeParts(currency)
    findings.append(finding)
  }

  /// The amount type that a role has of its own.
  private func type(of role: AccountRole) -> BreakType {
    switch role {
    case .tax: .taxMismatch
    case .freight: .freightMismatch
    case .discount: .discountMismatch
    default: .amountMismatch
    }
  }

  private mutating func judgeAmounts() {
    guard residual.contains(where: { $0 != 0 }) else { return }
    judgeOrphanReversals()
    if residual.indices.allSatisfy({ isAccepted($0) || isRounding($0) }) {
      for currency in currencies.indices { appendAccepted(currency) }
      return
    }
    judgeDuplicatePostings()
    judgeCurrency()
    for currency in currencies.indices { judgeAmounts(in: currency) }
  }

  private func hasOriginal(_ posting: FactView) -> Bool {
    guard posting.isReversal else { return true }
    if posting.header.reversesLength > 0 {
      return postings.contains { $0.journal.elementsEqual(posting.reverses) }
    }
    return postings.contains {
      $0.ref != posting.ref && $0.header.role == posting.header.role && $0.header.currency == posting.header.currency
        && $0.amount == 0 &- posting.amount
    }
  }

  private mutating func judgeOrphanReversals() {
    let orphans = duePostings.filter { !hasOriginal($0) }
    guard let first = orphans.first, let currency = currencies.firstIndex(of: first.currency) else { return }
    var sums = [Int128](repeating: 0, count: residual.count)
    for posting in orphans {
      guard let at = currencies.firstIndex(of: posting.currency) else { continue }
      sums[at * roleCount + Int(posting.header.role)] += Int128(posting.amount)
    }
    // A reversal that itself corrects what is too much is no orphan's difference.
    guard sums.indices.allSatisfy({ sums[$0] == 0 || (sums[$0] < 0) == (residual[$0] < 0) && residual[$0] != 0 }) else {
      return
    }
    let role = primaryRole(sums, currency)
    var finding = Finding(
      .orphanReversal, role, first.currency, expected: value(expected, currency, role),
      posted: value(posted, currency, role),
      reason: "reversal of \(first.header.reversesLength > 0 ? first.reverses.string : "an unknown posting")")
    for index in sums.indices where sums[index] != 0 {
      finding.parts.append(
        .init(
          currency: currencies[index / roleCount], role: AccountRole(rawValue: UInt8(index % roleCount))!,
          delta: Int64(clamping: sums[index])))
      residual[index] -= sums[index]
    }
    findings.append(finding)
  }

  /// The same document posted twice: two journals with the same lines for the same (or for an unknown) document, whose
  /// surplus is what the ledger has too much.
  private mutating func judgeDuplicatePostings() {
    guard duePostings.count > 1 else { return }
    var groups: [(key: FactView, lines: [Int128], isKnown: Bool)] = []
    for posting in duePostings {
      guard let currency = currencies.firstIndex(of: posting.currency) else { continue }
      let found = groups.firstIndex {
        posting.header.journalLength > 0 && $0.key.journal.elementsEqual(posting.journal)
          && $0.key.document.elementsEqual(posting.document)
      }
      let at: Int
      if let found {
        at = found
      } else {
        at = groups.count
        let isKnown = dueEvents.contains { $0.document.elementsEqual(posting.document) }
        groups.append((posting, [Int128](repeating: 0, count: residual.count), isKnown))
      }
      groups[at].lines[currency * roleCount + Int(posting.header.role)] += Int128(posting.amount)
    }
    var removed = [Bool](repeating: false, count: groups.count)
    for first in groups.indices where !removed[first] {
      for second in groups.indices where second > first && !removed[second] {
        guard groups[first].lines == groups[second].lines else { continue }
        let sameDocument = groups[first].key.document.elementsEqual(groups[second].key.document)
        guard sameDocument || !groups[second].isKnown || !groups[first].isKnown else { continue }
        // The copy must be surplus: without it the ledger is nearer to what it must hold. A copy under a document that
        // no order event knows must be surplus line by line.
        let lines = groups[second].lines
        var distance: Int128 = 0
        for index in lines.indices {
          distance += magnitude(residual[index] - lines[index]) - magnitude(residual[index])
        }
        let isSurplus =
          distance < 0
          && (sameDocument
            || lines.indices.allSatisfy { lines[$0] == 0 || magnitude(residual[$0] - lines[$0]) <= roundingLimit() + 1 })
        guard isSurplus, let index = lines.firstIndex(where: { $0 != 0 }) else { continue }
        removed[second] = true
        let currency = index / roleCount
        let role = primaryRole(lines, currency)
        var parts: [Finding.Part] = []
        for index in lines.indices where lines[index] != 0 {
          residual[index] -= lines[index]
          parts.append(
            .init(
              currency: currencies[index / roleCount], role: AccountRole(rawValue: UInt8(index % roleCount))!,
              delta: Int64(clamping: lines[index])))
        }
        if let known = findings.firstIndex(where: {
          $0.type == .duplicatePosting && $0.role == role && $0.currency == currencies[currency]
        }) {
          findings[known].parts.append(contentsOf: parts)
        } else {
          var finding = Finding(
            .duplicatePosting, role, currencies[currency], expected: value(expected, currency, role),
            posted: value(posted, currency, role),
            reason:
              "\(groups[second].key.document.string.isEmpty ? "the same lines" : groups[second].key.document.string)"
              + " posted by \(groups[first].key.journal.string) and again by \(groups[second].key.journal.string)")
          finding.parts = parts
          findings.append(finding)
        }
      }
    }
  }

  /// Expected in one currency, posted in another.
  private mutating func judgeCurrency() {
    guard currencies.count > 1 else { return }
    func isEmpty(_ values: [Int128], _ currency: Int) -> Bool {
      values[currency * roleCount..<(currency + 1) * roleCount].allSatisfy { $0 == 0 }
    }
    guard
      let own = currencies.indices.first(where: { !isEmpty(expected, $0) && !isEmpty(residual, $0) }),
      let foreign = currencies.indices.first(where: { isEmpty(expected, $0) && !isEmpty(residual, $0) })
    else { return }
    var role = primaryRole(residual, foreign)
    for candidate in Judge.primaryOrder
    where value(residual, foreign, candidate) != 0 && value(expected, own, candidate) != 0 {
      role = candidate
      break
    }
    var finding = Finding(
      .currencyMismatch, role, currencies[own], expected: value(expected, own, role),
      posted: value(posted, foreign, role),
      reason: "expected in \(currencies[own].code), posted in \(currencies[foreign].code)")
    finding.postedCurrency = currencies[foreign]
    finding.parts = takeParts(own) + takeParts(foreign)
    findings.append(finding)
  }

  private mutating func judgeAmounts(in currency: Int) {
    let base = currency * roleCount
    func roles(_ values: [Int128]) -> [AccountRole] {
      Judge.primaryOrder.filter { values[base + Int($0.rawValue)] != 0 }
    }
    guard !roles(residual).isEmpty else { return }
    if acceptsAll(currency) {
      appendAccepted(currency)
      return
    }
    let code = currencies[currency]
    // What earlier findings explained is taken out of what the patterns below look at.
    var ledger = [Int128](repeating: 0, count: roleCount)
    for index in 0..<roleCount { ledger[index] = expected[base + index] + residual[base + index] }
    func at(_ role: AccountRole) -> Int { Int(role.rawValue) }
    func wants(_ role: AccountRole) -> Int128 { expected[base + at(role)] }
    let primary = primaryRole(expected, currency)
    func finding(_ type: BreakType, _ role: AccountRole, _ reason: String) -> Finding {
      Finding(
        type, role, code, expected: value(expected, currency, role), posted: value(posted, currency, role),
        reason: reason)
    }
    // The role that carries the counter-entries, also where it is expected to have come to zero.
    let balancing = Judge.primaryOrder.first { wants($0) != 0 || ledger[at($0)] != 0 } ?? primary
    let involved = Judge.primaryOrder.filter { wants($0) != 0 || ledger[at($0)] != 0 }

    // The whole posting turned over, or off by powers of ten.
    if involved.allSatisfy({ ledger[at($0)] == -wants($0) }) {
      var whole = finding(.amountMismatch, primary, "debit and credit are swapped")
      whole.hints = [.signFlip]
      whole.parts = takeParts(currency)
      findings.append(whole)
      return
    }
    if let power = DifferencePattern.scalePower(expected: wants(primary), posted: ledger[at(primary)]),
      involved.allSatisfy({
        DifferencePattern.scalePower(expected: wants($0), posted: ledger[at($0)]) == power
          || power < 0 && ledger[at($0)] == 0 && wants($0).magnitude < 1_000
      })
    {
      var whole = finding(.amountMismatch, primary, "posted is expected × 10^\(power)")
      whole.hints = [.scaleError]
      whole.parts = takeParts(currency)
      findings.append(whole)
      return
    }
    // Whole billing documents that nothing posted names.
    if judgeMissingDocuments(currency, primary) { return }
    // A role's amount stands on another role of the same side.
    for wrong in Judge.primaryOrder where residual[base + at(wrong)] != 0 && wants(wrong) != 0 && ledger[at(wrong)] == 0
    {
      // What the balancing role has too much is the counter-entry of what is missing, and no move.
      for host in Judge.primaryOrder
      where host != wrong && host != balancing && host.normallyDebit == wrong.normallyDebit {
        guard residual[base + at(host)] == wants(wrong), (ledger[at(host)] < 0) == (wants(wrong) < 0) else { continue }
        var moved = finding(.wrongAccountRole, wrong, "the amount stands on \(host.name)")
        if wrong == .tax, host == .revenue { moved.hints = [.grossNetConfusion] }
        moved.parts = takeParts(currency, roles: [wrong, host])
        findings.append(moved)
        break
      }
    }
    guard !roles(residual).isEmpty else { return }
    // Less than expected everywhere, while more may come.
    if !isDecided, isPartial(currency) {
      var partial = finding(.partial, primary, "less than expected is posted so far")
      partial.parts = takeParts(currency)
      findings.append(partial)
      return
    }
    // A ledger document that does not balance, where the order's own amounts do.
    let imbalance = residual[base..<base + roleCount].reduce(0, +)
    if expected[base..<base + roleCount].reduce(0, +) == 0, imbalance != 0, let journal = unbalancedJournal(currency) {
      let open = roles(residual)
      let role = open.count == 1 ? open[0] : primary
      if open.count == 1 || residual[base + at(primary)] != 0 {
        var unbalanced = finding(
          .unbalancedDocument, role,
          "the lines of \(journal) sum to \(formatDecimal(imbalance, decimals: code.exponent))")
        unbalanced.hints = hints(role, wants(role), ledger[at(role)], currency)
        unbalanced.parts = [.init(currency: code, role: role, delta: Int64(clamping: imbalance))]
        residual[base + at(role)] -= imbalance
        findings.append(unbalanced)
      }
    }
    judgeComponents(currency, balancing, ledger)
  }

  /// What is left: one role explains it (the balancing role follows by the same sum), or several do.
  private mutating func judgeComponents(_ currency: Int, _ primary: AccountRole, _ ledger: [Int128]) {
    let base = currency * roleCount
    let code = currencies[currency]
    func at(_ role: AccountRole) -> Int { base + Int(role.rawValue) }
    var others = Judge.primaryOrder.filter { $0 != primary && residual[at($0)] != 0 }
    // A small difference beside a large one is part of it.
    let beyond = others.filter { !isAccepted(at($0)) && !isRounding(at($0)) }
    if beyond.count < others.count, !beyond.isEmpty { others = beyond }
    if others.count >= 2, let common = proportionalRole(currency, primary, others) {
      var finding = Finding(
        .amountMismatch, common, code, expected: value(expected, currency, common),
        posted: value(posted, currency, common), reason: "all amounts are off by the same proportion")
      finding.hints = hints(common, expected[at(common)], ledger[Int(common.rawValue)], currency)
      finding.parts = takeParts(currency)
      findings.append(finding)
      return
    }
    for role in others {
      let delta = residual[at(role)]
      var finding = Finding(
        type(of: role), role, code, expected: value(expected, currency, role), posted: value(posted, currency, role),
        reason: "posted differs from expected in \(role.name)")
      finding.hints = hints(role, expected[at(role)], ledger[Int(role.rawValue)], currency)
      finding.parts = [.init(currency: code, role: role, delta: Int64(clamping: delta))]
      residual[at(role)] = 0
      // The balancing role carries the counter-entry of this difference, as far as it has one.
      if residual[at(primary)] != 0 {
        finding.parts.append(.init(currency: code, role: primary, delta: Int64(clamping: -delta)))
        residual[at(primary)] += delta
      }
      findings.append(finding)
    }
    guard (base..<base + roleCount).contains(where: { residual[$0] != 0 }) else { return }
    if !others.isEmpty, acceptsAll(currency) {
      findings[findings.count - 1].parts.append(contentsOf: takeParts(currency))
      return
    }
    var rest = Finding(
      type(of: primary), primary, code, expected: value(expected, currency, primary),
      posted: value(posted, currency, primary), reason: "posted differs from expected in \(primary.name)")
    rest.hints = hints(primary, expected[at(primary)], ledger[Int(primary.rawValue)], currency)
    rest.parts = takeParts(currency)
    findings.append(rest)
  }

  /// The role to name where the differing roles are off by one proportion: all of them the primary, net and its tax
  /// revenue.
  private func proportionalRole(_ currency: Int, _ primary: AccountRole, _ others: [AccountRole]) -> AccountRole? {
    let base = currency * roleCount
    func wants(_ role: AccountRole) -> Int128 { expected[base + Int(role.rawValue)] }
    func has(_ role: AccountRole) -> Int128 { wants(role) + residual[base + Int(role.rawValue)] }
    guard let first = others.first, wants(first) != 0 else { return nil }
    let isProportional = others.allSatisfy { role in
      // has(role) / wants(role) = has(first) / wants(first), to a minor unit of rounding on either.
      let cross = has(role) * wants(first) - has(first) * wants(role)
      let slack = Swift.max(wants(first).magnitude, wants(role).magnitude)
      return cross.magnitude <= slack
    }
    guard isProportional else { return nil }
    let all = AccountRole.allCases.filter { $0 != primary && wants($0) != 0 }
    return all.count == others.count ? primary : others.contains(.revenue) ? .revenue : first
  }

  private func hints(_ role: AccountRole, _ wants: Int128, _ has: Int128, _ currency: Int) -> [BreakHint] {
    var hints: [BreakHint] = []
    if wants != 0, has == -wants { hints.append(.signFlip) }
    if DifferencePattern.scalePower(expected: wants, posted: has) != nil { hints.append(.scaleError) }
    if DifferencePattern.isTransposition(expected: wants, posted: has) { hints.append(.transposition) }
    let base = currency * roleCount
    let gross = expected[base + Int(AccountRole.receivable.rawValue)]
    let net = expected[base + Int(AccountRole.revenue.rawValue)]
    if gross != 0, net != 0, gross != -net, role == .revenue && has == -gross || role == .receivable && has == -net {
      hints.append(.grossNetConfusion)
    }
    return hints
  }

  private func isPartial(_ currency: Int) -> Bool {
    let base = currency * roleCount
    return (base..<base + roleCount).allSatisfy { index in
      let wants = expected[index]
      let has = wants + residual[index]
      if wants == 0 { return has == 0 }
      return has == 0 || (has < 0) == (wants < 0) && has.magnitude <= wants.magnitude
    }
  }

  /// Events with a document of their own that no posting names, whose expectations are exactly what is missing.
  private mutating func judgeMissingDocuments(_ currency: Int, _ primary: AccountRole) -> Bool {
    var sums = [Int128](repeating: 0, count: residual.count)
    var names: [String] = []
    var answered = 0
    for (index, event) in dueEvents.enumerated() {
      let entries = policy.entries[Int(event.header.kind)]
      guard !entries.isEmpty, !isVoid[index], event.currency == currencies[currency] else { continue }
      guard event.header.documentLength > 0,
        !duePostings.contains(where: { $0.document.elementsEqual(event.document) })
      else {
        answered += 1
        continue
      }
      names.append(event.document.string)
      for entry in entries {
        sums[currency * roleCount + Int(entry.role.rawValue)] +=
          Int128(event.amount(entry.component)) * Int128(entry.sign)
      }
    }
    let range = currency * roleCount..<(currency + 1) * roleCount
    guard answered > 0, !names.isEmpty, range.allSatisfy({ residual[$0] == -sums[$0] }) else { return false }
    // Something missing is due only after window + grace.
    let type: BreakType = isDecided ? .missingInLedger : .partial
    var finding = Finding(
      type, primary, currencies[currency], expected: value(expected, currency, primary),
      posted: value(posted, currency, primary), reason: "nothing is posted for \(names.joined(separator: ", "))")
    finding.parts = takeParts(currency)
    findings.append(finding)
    return true
  }

  /// The first ledger document (by time) whose lines do not sum to zero.
  private func unbalancedJournal(_ currency: Int) -> String? {
    var sums: [(journal: FactView, sum: Int128)] = []
    for posting in duePostings where posting.currency == currencies[currency] {
      if let at = sums.firstIndex(where: { $0.journal.journal.elementsEqual(posting.journal) }) {
        sums[at].sum += Int128(posting.amount)
      } else {
        sums.append((posting, Int128(posting.amount)))
      }
    }
    return sums.first { $0.sum != 0 }.map { $0.journal.journal.isEmpty ? "the postings" : $0.journal.journal.string }
  }

  // MARK: - Everything but amounts

  private mutating func judgeCustomers() {
    guard policy.checksCustomers else { return }
    guard dueEvents.contains(where: { $0.header.customerLength > 0 }) else { return }
    let stranger = duePostings.first { posting in
      posting.header.customerLength > 0 && !dueEvents.contains { $0.customer.elementsEqual(posting.customer) }
    }
    guard let stranger, let currency = currencies.firstIndex(of: stranger.currency) else { return }
    let role = primaryRole(posted, currency)
    findings.append(
      Finding(
        .wrongCustomer, role, currencies[currency], expected: value(expected, currency, role),
        posted: value(posted, currency, role), reason: "posted to customer \(stranger.customer.string)"))
  }

  /// The right amount at the wrong time: another period is a cut-off, the same period too late or too early.
  private mutating func judgeDates() {
    var offender: (role: AccountRole, currency: Int, type: BreakType, posting: FactView)?
    func rank(_ role: AccountRole) -> Int {
      role == .revenue ? -1 : Judge.primaryOrder.firstIndex(of: role)!
    }
    for posting in duePostings where !posting.isReversal && posting.period != 0 {
      guard let currency = currencies.firstIndex(of: posting.currency) else { continue }
      let index = currency * roleCount + Int(posting.header.role)
      guard expected[index] != 0, isAccepted0(posted[index] - expected[index], index) else { continue }
      var isNamed = false
      for event in dueEvents
      where event.header.documentLength > 0 && event.document.elementsEqual(posting.document)
        && hasEntry(event, posting)
      { isNamed = true }
      var verdict: BreakType?
      var isCleared = false
      for event in dueEvents where hasEntry(event, posting) && event.header.date_d != absentDate {
        if isNamed, !event.document.elementsEqual(posting.document) { continue }
        if event.period != posting.period {
          verdict = verdict ?? .cutoff
        } else if posting.header.date_d == absentDate {
          isCleared = true
        } else {
          let days = posting.header.date_d - event.header.date_d
          if days > policy.lateAfter_d {
            verdict = .latePosting
          } else if days < -policy.earlyBefore_d {
            verdict = .earlyPosting
          } else {
            isCleared = true
          }
        }
      }
      guard let verdict, !isCleared else { continue }
      let role = posting.role
      if offender == nil || verdict == .cutoff && offender!.type != .cutoff
        || (verdict == .cutoff) == (offender!.type == .cutoff) && rank(role) < rank(offender!.role)
      {
        offender = (role, currency, verdict, posting)
      }
    }
    guard let offender else { return }
    let when = offender.posting.header.date_d == absentDate ? "" : " on \(formatDate(offender.posting.header.date_d))"
    findings.append(
      Finding(
        offender.type, offender.role, currencies[offender.currency],
        expected: value(expected, offender.currency, offender.role),
        posted: value(posted, offender.currency, offender.role),
        reason: "posted in \(offender.posting.period)\(when)"))
  }

  private func isAccepted0(_ delta: Int128, _ index: Int) -> Bool {
    delta == 0
      || policy.tolerances[index % roleCount].accepts(
        expected: expected[index], delta: delta, exponent: currencies[index / roleCount].exponent)
  }

  private func hasEntry(_ event: FactView, _ posting: FactView) -> Bool {
    policy.entries[Int(event.header.kind)].contains {
      $0.role == posting.role && event.amount($0.component) != 0
    }
  }

  /// The tie agrees, but only since a record came after window + grace: recorded, not open.
  private mutating func judgeLateness() {
    guard findings.allSatisfy(\.isAccepted), !currencies.isEmpty else { return }
    guard events.contains(where: \.isLate) || postings.contains(where: \.isLate) else { return }
    let role = primaryRole(posted, 0)
    var finding = Finding(
      .lateArrival, role, currencies[0], expected: value(expected, 0, role), posted: value(posted, 0, role),
      reason: "a record arrived after window and grace")
    finding.isAccepted = true
    findings.append(finding)
  }
}

extension Int64 {
  @inline(__always)
  func addingSaturating(_ other: Int64) -> Int64 {
    let (sum, overflow) = addingReportingOverflow(other)
    return overflow ? (other < 0 ? .min : .max) : sum
  }
}
