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

  /// The right amount at the wrong time: another period is a cut-off, the same period too late or too early.
  mutating func judgeDates() {
    var offender: (role: AccountRole, currency: Int, type: BreakType, posting: Fact)?
    let calendar = policy.checks?.calendar
    for posting in duePostings where !posting.isReversal && (schedules == nil || !isRelease(posting)) {
      let period = posting.period(calendar)
      if period == 0 { continue }
      guard let currency = currencies.firstIndex(of: posting.currency) else { continue }
      let index = currency * roleCount + Int(posting.code)
      guard expected[index] != 0, isAccepted0(posted[index] - expected[index], index) else { continue }
      var isNamed = false
      for event in dueEvents
      where !event.document.isEmpty && event.document.elementsEqual(posting.document)
        && hasEntry(event, posting)
      { isNamed = true }
      var verdict: BreakType?
      var isCleared = false
      for event in dueEvents where hasEntry(event, posting) && event.date_d != absentDate {
        if isNamed, !event.document.elementsEqual(posting.document) { continue }
        if event.period(calendar) != period {
          verdict = verdict ?? .cutoff
        } else if posting.date_d == absentDate {
          isCleared = true
        } else {
          let days = posting.date_d - event.date_d
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
        || (verdict == .cutoff) == (offender!.type == .cutoff) && Judge.rank(role) < Judge.rank(offender!.role)
      {
        offender = (role, currency, verdict, posting)
      }
    }
    guard let offender else { return }
    let when = offender.posting.date_d == absentDate ? "" : " on \(formatDate(offender.posting.date_d))"
    findings.append(
      Finding(
        offender.type, offender.role, currencies[offender.currency],
        expected: value(expected, offender.currency, offender.role),
        posted: value(posted, offender.currency, offender.role),
        reason: "posted in \(offender.posting.period(calendar))\(when)"))
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
