import Domain

/// Takes the difference of amounts apart, from the most specific explanation to the most general.
extension Judge {
  func isAccepted(_ index: Int) -> Bool {
    residual[index] == 0
      || policy.tolerances[index % roleCount].accepts(
        expected: expected[index], delta: residual[index], exponent: currencies[index / roleCount].exponent)
  }

  /// Half a minor unit a line, and one minor unit where the tolerance allows that much.
  func roundingLimit() -> Int128 {
    var lines = 0
    for event in dueEvents { lines += Int(event.lineCount) }
    return Int128(lines / 2)
  }

  func isRounding(_ index: Int) -> Bool {
    let magnitude = residual[index] < 0 ? -residual[index] : residual[index]
    return magnitude <= roundingLimit() || magnitude <= 1 && isAccepted(index)
  }

  func magnitude(_ value: Int128) -> Int128 { value < 0 ? -value : value }

  /// Whether every difference in a currency is within tolerance, or as small as rounding makes it.
  func acceptsAll(_ currency: Int) -> Bool {
    let range = currency * roleCount..<(currency + 1) * roleCount
    return range.allSatisfy { isAccepted($0) } || range.allSatisfy { isRounding($0) }
  }

  mutating func appendAccepted(_ currency: Int) {
    let range = currency * roleCount..<(currency + 1) * roleCount
    guard range.contains(where: { residual[$0] != 0 }) else { return }
    let isRoundingOnly = range.allSatisfy { isRounding($0) }
    let role = primaryRole(residual, currency)
    findings.append(
      Finding(
        isRoundingOnly ? .rounding : type(of: role), role, currencies[currency],
        expected: value(expected, currency, role), posted: value(posted, currency, role),
        reason: isRoundingOnly ? "a rounding difference" : "within tolerance", parts: takeParts(currency),
        isAccepted: true))
  }

  /// The amount type that a role has of its own.
  func type(of role: AccountRole) -> BreakType {
    switch role {
    case .tax: .taxMismatch
    case .freight: .freightMismatch
    case .discount: .discountMismatch
    default: .amountMismatch
    }
  }

  mutating func judgeAmounts() {
    guard residual.contains(where: { $0 != 0 }) else {
      judgeReplacedDocuments()
      return
    }
    if !writeOffs.isEmpty { judgeWriteOffs() }
    judgeOrphanReversals()
    if residual.indices.allSatisfy({ isAccepted($0) || isRounding($0) }) {
      judgeReplacedDocuments()
      for currency in currencies.indices { appendAccepted(currency) }
      return
    }
    judgeDuplicatePostings()
    judgeCurrency()
    for currency in currencies.indices { judgeAmounts(in: currency) }
  }

  func hasOriginal(_ posting: Fact) -> Bool {
    guard posting.isReversal else { return true }
    if !posting.reverses.isEmpty {
      return postings.contains { $0.journal.elementsEqual(posting.reverses) }
    }
    return postings.contains {
      $0.number != posting.number && $0.code == posting.code && $0.currency == posting.currency
        && $0.amount == 0 &- posting.amount
    }
  }

  mutating func judgeOrphanReversals() {
    guard duePostings.indices.contains(where: { duePostings[$0].isReversal }) else { return }
    let orphans = duePostings.filter { !hasOriginal($0) }
    guard let first = orphans.first, let currency = currencies.firstIndex(of: first.currency) else { return }
    var sums = [Int128](repeating: 0, count: residual.count)
    for posting in orphans {
      guard let at = currencies.firstIndex(of: posting.currency) else { continue }
      sums[at * roleCount + Int(posting.code)] += Int128(posting.amount)
    }
    // A reversal that itself corrects what is too much is no orphan's difference.
    guard sums.indices.allSatisfy({ sums[$0] == 0 || (sums[$0] < 0) == (residual[$0] < 0) && residual[$0] != 0 }) else {
      return
    }
    let role = primaryRole(sums, currency)
    var finding = Finding(
      .orphanReversal, role, first.currency, expected: value(expected, currency, role),
      posted: value(posted, currency, role),
      reason: "reversal of \(!first.reverses.isEmpty ? first.reverses.string : "an unknown posting")")
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
  mutating func judgeDuplicatePostings() {
    surplus.clear()
    guard duePostings.count > 1 else { return }
    // By place, the first posting of each document in each journal; and what that puts into the roles, one behind the
    // other.
    journals.clear()
    journalLines.clear()
    let size = residual.count
    for place in duePostings.indices {
      guard let currency = currencies.firstIndex(of: duePostings[place].currency) else { continue }
      let found = journals.firstIndex {
        duePostings[$0].isOfJournal(of: duePostings[place])
          && duePostings[$0].document.elementsEqual(duePostings[place].document)
      }
      let at = found ?? journals.count
      if found == nil {
        journals.append(place)
        for _ in currencies { journalLines.append(contentsOf: Judge.noAmounts) }
      }
      journalLines[at * size + currency * roleCount + Int(duePostings[place].code)] += Int128(duePostings[place].amount)
    }
    guard journals.count > 1 else { return }
    for first in journals.indices where journals[first] >= 0 {
      for second in journals.indices where second > first && journals[second] >= 0 {
        let (own, other) = (first * size, second * size)
        guard (0..<size).allSatisfy({ journalLines[own + $0] == journalLines[other + $0] }) else { continue }
        let (one, again) = (duePostings[journals[first]], duePostings[journals[second]])
        let stranger = one.source != again.source ? " of another source" : ""
        let lines = Array(journalLines[other..<other + size])
        // The releases of one service are alike, and each belongs to a period of its own.
        if isRelease(lines), releasedPeriod(one) != releasedPeriod(again) { continue }
        let sameDocument = one.document.elementsEqual(again.document)
        guard sameDocument || !isOfEvent(one.document) || !isOfEvent(again.document) else { continue }
        // The copy must be surplus: without it the ledger is nearer to what it must hold. A copy under a document that
        // no order event knows must be surplus line by line.
        var distance: Int128 = 0
        for index in lines.indices where lines[index] != 0 {
          distance += magnitude(residual[index] - lines[index]) - magnitude(residual[index])
        }
        let isSurplus =
          distance < 0
          && (sameDocument
            || lines.indices.allSatisfy { lines[$0] == 0 || magnitude(residual[$0] - lines[$0]) <= roundingLimit() + 1 })
        guard isSurplus, let index = lines.firstIndex(where: { $0 != 0 }) else { continue }
        surplus.append(journals[second])
        journals[second] = -1
        let currency = index / roleCount
        let role = primaryRole(lines, currency)
        var parts: [Finding.Part] = []
        parts.reserveCapacity(4)
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
          findings.append(
            Finding(
              .duplicatePosting, role, currencies[currency], expected: value(expected, currency, role),
              posted: value(posted, currency, role),
              reason: again.document.isEmpty
                ? "the same lines posted by \(one.journal) and again by \(again.journal)\(stranger)"
                : sameDocument
                  ? "\(again.document) posted by \(one.journal) and again by \(again.journal)\(stranger)"
                  : "\(one.document) posted by \(one.journal) and again, as \(again.document), by \(again.journal)\(stranger)",
              parts: parts))
        }
      }
    }
  }

  /// Whether an order event names a document.
  private func isOfEvent(_ document: ByteView) -> Bool {
    dueEvents.indices.contains { dueEvents[$0].document.elementsEqual(document) }
  }

  /// Whether the order is about more than one document.
  private var namesSeveralDocuments: Bool {
    guard let first = dueEvents.first(where: { !policy.entries(of: $0).isEmpty }) else { return false }
    return dueEvents.contains {
      !policy.entries(of: $0).isEmpty && !$0.document.elementsEqual(first.document)
    }
  }

  /// Expected in one currency, posted in another.
  mutating func judgeCurrency() {
    guard currencies.count > 1 else { return }
    if namesSeveralDocuments { judgeDocumentCurrencies() }
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
    finding.parts = takeParts(own)
    finding.parts.append(contentsOf: takeParts(foreign))
    findings.append(finding)
  }

  mutating func judgeAmounts(in currency: Int) {
    let range = currency * roleCount..<(currency + 1) * roleCount
    guard residual[range].contains(where: { $0 != 0 }) else { return }
    if acceptsAll(currency) {
      appendAccepted(currency)
      return
    }
    // Whole documents that nothing posted is about; the others without them.
    let missing = judgeMissingDocuments(currency)
    if residual[range].contains(where: { $0 != 0 }) {
      if missing != nil, acceptsAll(currency) { appendAccepted(currency) } else { judgeRest(in: currency) }
    }
    if let missing { restore(missing) }
  }

  /// What no missing document explains.
  private mutating func judgeRest(in currency: Int) {
    let base = currency * roleCount
    let range = base..<base + roleCount
    func isExplained() -> Bool { range.allSatisfy { residual[$0] == 0 } }
    let code = currencies[currency]
    // What earlier findings explained is taken out of what the patterns below look at.
    fillLedger(currency)
    func at(_ role: AccountRole) -> Int { Int(role.rawValue) }
    func wants(_ role: AccountRole) -> Int128 { expected[base + at(role)] }
    let primary = primaryRole(expected, currency)
    func finding(
      _ type: BreakType, _ role: AccountRole, _ reason: TextBytes, _ hints: [BreakHint], _ parts: [Finding.Part]
    )
      -> Finding
    {
      Finding(
        type, role, code, expected: value(expected, currency, role), posted: value(posted, currency, role),
        reason: reason, hints: hints, parts: parts)
    }
    // The role that carries the counter-entries, also where it is expected to have come to zero.
    let balancing = Judge.primaryOrder.first { wants($0) != 0 || ledger[at($0)] != 0 } ?? primary

    // The whole posting turned over, or off by powers of ten.
    if range.allSatisfy({ ledger[$0 - base] == -expected[$0] }) {
      findings.append(
        finding(.amountMismatch, primary, "debit and credit are swapped", [.signFlip], takeParts(currency)))
      return
    }
    if let power = DifferencePattern.scalePower(expected: wants(primary), posted: ledger[at(primary)]),
      range.allSatisfy({
        let (wants, has) = (expected[$0], ledger[$0 - base])
        return wants == 0 && has == 0 || DifferencePattern.scalePower(expected: wants, posted: has) == power
          || power < 0 && has == 0 && wants.magnitude < 1_000
      })
    {
      findings.append(
        finding(
          .amountMismatch, primary, "posted is expected × 10^\(power)", [.scaleError], takeParts(currency)))
      return
    }
    if appliesCash || mirrorsIntercompany || schedules != nil {
      if schedules != nil { judgeReleases(currency) }
      if mirrorsIntercompany { judgeIntercompany(currency) }
      if appliesCash { judgeCash(currency) }
      fillLedger(currency)
      if isExplained() { return }
      if acceptsAll(currency) {
        appendAccepted(currency)
        return
      }
    }
    if isDecided, range.allSatisfy({ ledger[$0 - base] == 0 }), isAnyReversed {
      findings.append(
        finding(.missingInLedger, primary, "what was posted is reversed", [], takeParts(currency)))
      return
    }
    // Also where all of it has come to zero, as a receivable that was paid.
    let countering =
      Judge.primaryOrder.first { role in
        wants(role) != 0 || duePostings.contains { $0.role == role && $0.currency == code && $0.amount != 0 }
      } ?? balancing
    // A role's amount stands on another role: of the same side, or by lines of just that amount.
    for wrong in Judge.primaryOrder where residual[base + at(wrong)] != 0 && wants(wrong) != 0 && ledger[at(wrong)] == 0
    {
      // What the balancing role has too much is the counter-entry of what is missing, and no move.
      for host in Judge.primaryOrder
      where host != wrong && host != countering && residual[base + at(host)] == wants(wrong) {
        let isOfSide =
          host.normallyDebit == wrong.normallyDebit && ledger[at(host)] != 0
          && (ledger[at(host)] < 0) == (wants(wrong) < 0)
        guard isOfSide || isPosted(wants(wrong), on: host, code) else { continue }
        findings.append(
          finding(
            .wrongAccountRole, wrong, "the amount stands on \(host.name)",
            wrong == .tax && host == .revenue ? [.grossNetConfusion] : [],
            takeParts(currency, roles: [wrong, host])))
        break
      }
    }
    if isExplained() { return }
    // Less than expected everywhere, while more may come.
    if !isDecided, isPartial(currency) {
      let role = primaryRole(residual, currency)
      findings.append(finding(.partial, role, "less than expected is posted so far", [], takeParts(currency)))
      return
    }
    // Whole documents that no order event is about.
    if judgeUnknownDocuments(currency) {
      fillLedger(currency)
      if isExplained() { return }
      if acceptsAll(currency) {
        appendAccepted(currency)
        return
      }
    }
    // A ledger document that does not balance, where the order's own amounts do.
    let imbalance = range.reduce(0) { $0 + residual[$1] }
    if imbalance != 0, range.reduce(0, { $0 + expected[$1] }) == 0, let journal = unbalancedJournal(currency) {
      let open = Judge.primaryOrder.filter { residual[base + at($0)] != 0 }
      var parts: [Finding.Part] = []
      if open.count == 1 || residual[base + at(primary)] != 0 {
        let role = open.count == 1 ? open[0] : primary
        parts = [.init(currency: code, role: role, delta: Int64(clamping: imbalance))]
        residual[base + at(role)] -= imbalance
      } else {
        // Lines that are not there: where they are all that it lacks, what they leave open is its imbalance.
        let lacking = open.filter { (residual[base + at($0)] < 0) == (imbalance < 0) }
        if lacking.reduce(0, { $0 + residual[base + at($1)] }) == imbalance {
          parts = takeParts(currency, roles: lacking).sorted { left, right in
            lacking.firstIndex(of: left.role)! < lacking.firstIndex(of: right.role)!
          }
        }
      }
      if let role = parts.first?.role {
        let amount = formatDecimal(imbalance, decimals: code.exponent)
        findings.append(
          finding(
            .unbalancedDocument, role, "the lines of \(journal) sum to \(amount)",
            Judge.hints(role, wants(role), ledger[at(role)], gross: wants(.receivable), net: wants(.revenue)), parts))
      }
    }
    judgeComponents(currency, balancing)
  }

  /// Whether something that is expected was reversed, as far as reversals name documents.
  private var isAnyReversed: Bool {
    duePostings.contains { posting in
      posting.isReversal
        && (posting.document.isEmpty
          || dueEvents.indices.contains {
            !isVoid[$0] && dueEvents[$0].document.elementsEqual(posting.document)
              && !policy.entries(of: dueEvents[$0]).isEmpty
          })
    }
  }

  /// Whether a line of a role, or the lines that a journal has on it, are of just that amount. A reversal takes its own
  /// role's amount back.
  private func isPosted(_ amount: Int128, on role: AccountRole, _ currency: Currency) -> Bool {
    let lines = duePostings.indices.filter {
      duePostings[$0].role == role && duePostings[$0].currency == currency && !duePostings[$0].isReversal
    }
    return lines.contains { line in
      if Int128(duePostings[line].amount) == amount { return true }
      var sum: Int128 = 0
      for other in lines where duePostings[other].isOfJournal(of: duePostings[line]) {
        sum += Int128(duePostings[other].amount)
      }
      return sum == amount
    }
  }

  /// What is left: one role explains it (the balancing role follows by the same sum), or several do.
  mutating func judgeComponents(_ currency: Int, _ primary: AccountRole) {
    let base = currency * roleCount
    let code = currencies[currency]
    func at(_ role: AccountRole) -> Int { base + Int(role.rawValue) }
    let (gross, net) = (expected[at(.receivable)], expected[at(.revenue)])
    var others = Judge.primaryOrder.filter { $0 != primary && residual[at($0)] != 0 }
    // A small difference beside a large one is part of it.
    var beyond: [AccountRole] = []
    for role in others where !isAccepted(at(role)) && !isRounding(at(role)) { beyond.append(role) }
    if beyond.count < others.count, !beyond.isEmpty { others = beyond }
    if others.count >= 2, let common = proportionalRole(currency, primary, others) {
      let byQuantity = causeByQuantity(currency)
      let common = byQuantity == nil ? common : .revenue
      // What has come to nothing in all of them is not off: payments may stand on the balancing role all the same.
      let isMissing =
        byQuantity == nil && isDecided && others.allSatisfy { expected[at($0)] + residual[at($0)] == 0 }
      var finding = Finding(
        isMissing ? .missingInLedger : byQuantity?.type ?? .amountMismatch, common, code,
        expected: value(expected, currency, common), posted: value(posted, currency, common),
        reason: isMissing
          ? "nothing is posted of it" : byQuantity?.reason ?? "all amounts are off by the same proportion")
      finding.lines = byQuantity?.lines
      finding.hints = Judge.hints(
        common, expected[at(common)], ledger[Int(common.rawValue)], gross: gross, net: net)
      finding.parts = takeParts(currency)
      append(finding)
      return
    }
    let byQuantity = others == [.revenue] ? causeByQuantity(currency) : nil
    // Roles that offset each other (clearing and fees of a payout without its fee) have their counter-entries there.
    var pairs: [(first: AccountRole, second: AccountRole)] = []
    func isPaired(_ role: AccountRole) -> Bool { pairs.contains { $0.first == role || $0.second == role } }
    for role in others where !isPaired(role) {
      let other = others.first {
        $0 != role && !isPaired($0) && residual[at($0)] == -residual[at(role)] && movesTogether(role, $0, code)
      }
      if let other { pairs.append((role, other)) }
    }
    for role in others {
      if let pair = pairs.first(where: { $0.first == role || $0.second == role }) {
        if pair.first == role { judgePair(pair.first, pair.second, currency, gross: gross, net: net) }
        continue
      }
      let delta = residual[at(role)]
      let own = Finding.Part(currency: code, role: role, delta: Int64(clamping: delta))
      // The balancing role carries the counter-entry of this difference, as far as it has one.
      let isBalanced = residual[at(primary)] != 0
      let counter = Finding.Part(currency: code, role: primary, delta: Int64(clamping: -delta))
      var finding = Finding(
        byQuantity?.type ?? type(of: role), role, code, expected: value(expected, currency, role),
        posted: value(posted, currency, role),
        reason: byQuantity?.reason ?? "posted differs from expected in \(role.name)",
        hints: Judge.hints(role, expected[at(role)], ledger[Int(role.rawValue)], gross: gross, net: net),
        parts: isBalanced ? [own, counter] : [own])
      finding.lines = byQuantity?.lines
      residual[at(role)] = 0
      if isBalanced { residual[at(primary)] += delta }
      append(finding)
    }
    guard (base..<base + roleCount).contains(where: { residual[$0] != 0 }) else { return }
    if !others.isEmpty, acceptsAll(currency) {
      findings[findings.count - 1].parts.append(contentsOf: takeParts(currency))
      return
    }
    let restByQuantity = others.isEmpty && primary == .revenue ? causeByQuantity(currency) : nil
    var rest = Finding(
      restByQuantity?.type ?? type(of: primary), primary, code, expected: value(expected, currency, primary),
      posted: value(posted, currency, primary),
      reason: restByQuantity?.reason ?? "posted differs from expected in \(primary.name)")
    rest.lines = restByQuantity?.lines
    rest.hints = Judge.hints(primary, expected[at(primary)], ledger[Int(primary.rawValue)], gross: gross, net: net)
    rest.parts = takeParts(currency)
    append(rest)
  }

  /// Whether an order event is expected in both roles, or a journal has lines on both: what is off in the two by chance is of
  /// other documents.
  private func movesTogether(_ first: AccountRole, _ second: AccountRole, _ currency: Currency) -> Bool {
    func moves(_ place: Int, _ role: AccountRole) -> Bool {
      policy.entries(of: dueEvents[place]).contains { $0.role == role && dueEvents[place].amount($0.component) != 0 }
    }
    let isExpected = dueEvents.indices.contains {
      dueEvents[$0].currency == currency && !isVoid[$0] && moves($0, first) && moves($0, second)
    }
    func lines(_ role: AccountRole) -> [Int] {
      duePostings.indices.filter { duePostings[$0].role == role && duePostings[$0].currency == currency }
    }
    if isExpected { return true }
    let others = lines(second)
    return lines(first).contains { line in others.contains { duePostings[$0].isOfJournal(of: duePostings[line]) } }
  }

  /// Two roles that are off by the same amount in opposite directions: one cause, and one break of the role of which less is
  /// expected, since more of it is off.
  private mutating func judgePair(
    _ first: AccountRole, _ second: AccountRole, _ currency: Int, gross: Int128, net: Int128
  ) {
    let base = currency * roleCount
    func at(_ role: AccountRole) -> Int { base + Int(role.rawValue) }
    let isSecond = magnitude(expected[at(second)]) < magnitude(expected[at(first)])
    let (role, other) = isSecond ? (second, first) : (first, second)
    var finding = Finding(
      type(of: role), role, currencies[currency], expected: value(expected, currency, role),
      posted: value(posted, currency, role),
      reason: "posted differs from expected in \(role.name), against \(other.name)")
    finding.hints = Judge.hints(role, expected[at(role)], ledger[Int(role.rawValue)], gross: gross, net: net)
    finding.parts = [role, other].map {
      .init(currency: currencies[currency], role: $0, delta: Int64(clamping: residual[at($0)]))
    }
    residual[at(role)] = 0
    residual[at(other)] = 0
    append(finding)
  }

  /// Adds a finding; the amounts of a type and role that has been found already (quantities that differ) go to that one.
  mutating func append(_ finding: consuming Finding) {
    guard let known = place(like: finding) else {
      findings.append(finding)
      return
    }
    findings[known].expected = finding.expected
    findings[known].posted = finding.posted
    findings[known].hints = finding.hints
    findings[known].parts += finding.parts
    guard finding.lines != nil else { return }
    findings[known].reason += "; \(finding.reason)"
    findings[known].add(finding.lines)
  }

  /// Where a finding of the same type, role and currency stands. What is written off of a break is accepted, what is left
  /// of it is not: the two are one break only at the end.
  @inline(__always)
  func place(like finding: borrowing Finding) -> Int? {
    let (type, role, currency) = (finding.type, finding.role, finding.currency)
    return findings.firstIndex {
      $0.type == type && $0.role == role && $0.currency == currency && !$0.isWrittenOff
    }
  }

  /// The role to name where the differing roles are off by one proportion: all of them the primary, if that is, net and its
  /// tax revenue.
  func proportionalRole(_ currency: Int, _ primary: AccountRole, _ others: [AccountRole]) -> AccountRole? {
    let base = currency * roleCount
    let (expected, residual) = (expected, residual)
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
    let isWhole = all.count == others.count && has(primary) != wants(primary)
    return isWhole ? primary : others.contains(.revenue) ? .revenue : first
  }

  /// - Parameters:
  ///   - gross, net: What is expected of the receivable and of the revenue.
  static func hints(
    _ role: AccountRole, _ wants: Int128, _ has: Int128, gross: Int128, net: Int128
  ) -> [BreakHint] {
    var hints: [BreakHint] = []
    if wants != 0, has == -wants { hints.append(.signFlip) }
    if DifferencePattern.scalePower(expected: wants, posted: has) != nil { hints.append(.scaleError) }
    if DifferencePattern.isTransposition(expected: wants, posted: has) { hints.append(.transposition) }
    if gross != 0, net != 0, gross != -net, role == .revenue && has == -gross || role == .receivable && has == -net {
      hints.append(.grossNetConfusion)
    }
    return hints
  }

  func isPartial(_ currency: Int) -> Bool {
    let base = currency * roleCount
    return (base..<base + roleCount).allSatisfy { index in
      let wants = expected[index]
      let has = wants + residual[index]
      if wants == 0 { return has == 0 }
      return has == 0 || (has < 0) == (wants < 0) && has.magnitude <= wants.magnitude
    }
  }

  /// The first ledger document (by time) whose lines do not sum to zero.
  func unbalancedJournal(_ currency: Int) -> String? {
    var sums: [(journal: Fact, sum: Int128)] = []
    for posting in duePostings where posting.currency == currencies[currency] {
      if let at = sums.firstIndex(where: { $0.journal.journal.elementsEqual(posting.journal) }) {
        sums[at].sum += Int128(posting.amount)
      } else {
        sums.append((posting, Int128(posting.amount)))
      }
    }
    return sums.first { $0.sum != 0 }.map { $0.journal.journal.isEmpty ? "the postings" : $0.journal.journal.string }
  }
}
