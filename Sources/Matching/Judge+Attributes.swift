import Domain

/// What can be wrong where the amounts are right: customer, dates, lateness.
extension Judge {
  mutating func judgeCustomers() {
    guard policy.checksCustomers else { return }
    guard dueEvents.contains(where: { !$0.customer.isEmpty }) else { return }
    let stranger = duePostings.first { posting in
      !posting.customer.isEmpty && !dueEvents.contains { $0.customer.elementsEqual(posting.customer) }
    }
    guard let stranger, let currency = currencies.firstIndex(of: stranger.currency) else { return }
    let role = primaryRole(posted, currency)
    findings.append(
      Finding(
        .wrongCustomer, role, currencies[currency], expected: value(expected, currency, role),
        posted: value(posted, currency, role), reason: "posted to customer \(stranger.customer.string)"))
  }

  /// The right amount at the wrong time: another period is a cut-off, the same period too late or too early. The amount is
  /// right where the document's is, or that of the order's role.
  mutating func judgeDates() {
    var offenders: [(place: Int, currency: Int, type: BreakType)] = []
    for (place, posting) in duePostings.enumerated() where !posting.isReversal {
      guard schedules == nil || !isRelease(posting), let currency = currencies.firstIndex(of: posting.currency),
        let type = typeByDate(posting, currency)
      else { continue }
      offenders.append((place, currency, type))
    }
    func rank(_ offender: (place: Int, currency: Int, type: BreakType)) -> (Int, Int) {
      (offender.type == .cutoff ? 0 : 1, Judge.rank(duePostings[offender.place].role))
    }
    guard let first = offenders.min(by: { rank($0) < rank($1) }) else { return }
    let posting = duePostings[first.place]
    let places = offenders.filter { $0.type == first.type && $0.currency == first.currency }.map(\.place)
    let when = posting.date_d == absentDate ? "" : " on \(formatDate(posting.date_d))"
    append(
      first.type, places, posting.role, first.currency, "posted in \(posting.period(policy.checks?.calendar))\(when)")
  }

  /// What is wrong with the time of a posting; nil where nothing is, or its amount is none that should be there.
  private func typeByDate(_ posting: Fact, _ currency: Int) -> BreakType? {
    let calendar = policy.checks?.calendar
    let period = posting.period(calendar)
    if period == 0 { return nil }
    var isNamed = false
    for event in dueEvents where isOf(event, posting) { isNamed = true }
    let index = currency * roleCount + Int(posting.code)
    guard expected[index] != 0,
      isAccepted0(posted[index] - expected[index], index) || isNamed && isDocumentRight(posting, currency)
    else { return nil }
    var verdict: BreakType?
    for event in dueEvents where event.date_d != absentDate && hasEntry(event, posting) {
      if isNamed, !event.document.elementsEqual(posting.document) { continue }
      if event.period(calendar) != period {
        verdict = verdict ?? .cutoff
        continue
      }
      if posting.date_d == absentDate { return nil }
      let days = posting.date_d - event.date_d
      if days > policy.lateAfter_d {
        verdict = .latePosting
      } else if days < -policy.earlyBefore_d {
        verdict = .earlyPosting
      } else {
        return nil
      }
    }
    return verdict
  }

  /// Whether an event is of the document that a posting names, and puts something into its role.
  private func isOf(_ event: Fact, _ posting: Fact) -> Bool {
    !event.document.isEmpty && event.document.elementsEqual(posting.document) && hasEntry(event, posting)
  }

  /// Whether the ledger holds of the role of a posting what the events of its document say, within tolerance.
  private func isDocumentRight(_ posting: Fact, _ currency: Int) -> Bool {
    var (wants, has) = (Int128(0), Int128(0))
    for (place, event) in dueEvents.enumerated()
    where !isVoid[place] && event.currency == posting.currency && isOf(event, posting) {
      for entry in policy.entries(of: event) where entry.role == posting.role {
        wants += Int128(event.amount(entry.component)) * Int128(entry.sign)
      }
    }
    guard wants != 0 else { return false }
    for other in duePostings
    where other.code == posting.code && other.currency == posting.currency
      && other.document.elementsEqual(posting.document)
    { has += Int128(other.amount) }
    return policy.tolerances[Int(posting.code)].accepts(
      expected: wants, delta: has - wants, exponent: currencies[currency].exponent)
  }

  func isAccepted0(_ delta: Int128, _ index: Int) -> Bool {
    delta == 0
      || policy.tolerances[index % roleCount].accepts(
        expected: expected[index], delta: delta, exponent: currencies[index / roleCount].exponent)
  }

  func hasEntry(_ event: Fact, _ posting: Fact) -> Bool {
    policy.entries(of: event).contains {
      $0.role == posting.role && event.amount($0.component) != 0
    }
  }

  /// Records that broke validation rules: one break for all of them, whatever the amounts say, and another for references
  /// that no table knows.
  mutating func judgeDataQuality() {
    if policy.missingFlags.isEmpty {
      judgeFlags(.dataQuality) { $0.brokenRules }
      return
    }
    let missing = policy.missingFlags
    func mask(_ fact: Fact) -> UInt16 { Int(fact.source) < missing.count ? missing[Int(fact.source)] : 0 }
    judgeFlags(.dataQuality) { $0.brokenRules & ~mask($0) }
    judgeFlags(.masterDataMissing) { $0.brokenRules & mask($0) }
  }

  private mutating func judgeFlags(_ type: BreakType, _ flags: (Fact) -> UInt16) {
    guard let first = (dueEvents.first { flags($0) != 0 } ?? duePostings.first { flags($0) != 0 }) else { return }
    var names: [String] = []
    var count = 0
    for fact in dueEvents + duePostings where flags(fact) != 0 {
      count += 1
      let source = Int(fact.source)
      let known = source < policy.flagNames.count ? policy.flagNames[source] : []
      for bit in 0..<UInt16.bitWidth where flags(fact) & 1 << UInt16(bit) != 0 {
        let name = bit < known.count ? known[bit] : "rule \(bit + 1) of source \(source + 1)"
        if !names.contains(name) { names.append(name) }
      }
    }
    let at = currencies.firstIndex(of: first.currency)
    let role = at.map { primaryRole(expected, $0) } ?? .receivable
    findings.append(
      Finding(
        type, role, first.currency, expected: at.map { value(expected, $0, role) },
        posted: at.map { value(posted, $0, role) },
        reason: "\(count) record(s) broke \(names.sorted().joined(separator: ", "))"))
  }

  /// The tie agrees, but only since a record came after window + grace: recorded, not open.
  mutating func judgeLateness() {
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
