import Domain

/// What can be wrong where the amounts are right: customer, dates, lateness.
extension Judge {
  mutating func judgeCustomers() {
    guard policy.checksCustomers else { return }
    guard dueEvents.indices.contains(where: { !dueEvents[$0].customer.isEmpty }) else { return }
    let place = duePostings.indices.first { place in
      let customer = duePostings[place].customer
      return !customer.isEmpty && !dueEvents.indices.contains { dueEvents[$0].customer.elementsEqual(customer) }
        && !isIntercompany(duePostings[place])
    }
    guard let stranger = place.map({ duePostings[$0] }), let currency = currencies.firstIndex(of: stranger.currency)
    else { return }
    let role = primaryRole(posted, currency)
    findings.append(
      Finding(
        .wrongCustomer, role, currencies[currency], expected: value(expected, currency, role),
        posted: value(posted, currency, role), reason: "posted to customer \(stranger.customer)"))
  }

  /// The right amount at the wrong time: another period is a cut-off, the same period too late or too early. The amount is
  /// right where the document's is, or that of the order's role.
  mutating func judgeDates() {
    var offenders: [(place: Int, currency: Int, type: BreakType)] = []
    for place in duePostings.indices where !duePostings[place].isReversal {
      guard schedules == nil || !isRelease(duePostings[place]),
        let currency = currencies.firstIndex(of: duePostings[place].currency),
        let type = typeByDate(place, currency)
      else { continue }
      offenders.append((place, currency, type))
    }
    if offenders.isEmpty { return }
    func rank(_ offender: (place: Int, currency: Int, type: BreakType)) -> (Int, Int) {
      (offender.type == .cutoff ? 0 : 1, Judge.rank(duePostings[offender.place].role))
    }
    guard let first = offenders.min(by: { rank($0) < rank($1) }) else { return }
    let posting = duePostings[first.place]
    let places = offenders.filter { $0.type == first.type && $0.currency == first.currency }.map(\.place)
    let period = Int(posting.enteredPeriod(policy.calendar))
    append(
      first.type, places, posting.role, first.currency,
      posting.date_d == absentDate
        ? "posted in \(period)" : "posted in \(period) on \(formatDate(posting.date_d))")
  }

  /// What is wrong with the time of a posting; nil where nothing is, or its amount is none that should be there.
  private func typeByDate(_ place: Int, _ currency: Int) -> BreakType? {
    let index = currency * roleCount + Int(duePostings[place].code)
    guard expected[index] != 0 else { return nil }
    let calendar = policy.calendar
    let period = duePostings[place].period(calendar)
    if period == 0 || reversesVoid(place) { return nil }
    let isNamed = dueEvents.indices.contains { isOf($0, place) && isOfSide($0, place) }
    var verdict: BreakType?
    for event in dueEvents.indices
    where dueEvents[event].date_d != absentDate && hasEntry(dueEvents[event], duePostings[place]) {
      if isNamed, !dueEvents[event].document.elementsEqual(duePostings[place].document) { continue }
      if dueEvents[event].period(calendar) != period {
        verdict = verdict ?? .cutoff
        continue
      }
      if duePostings[place].date_d == absentDate { return nil }
      let days = duePostings[place].date_d - dueEvents[event].date_d
      if days > policy.lateAfter_d {
        verdict = .latePosting
      } else if days < -policy.earlyBefore_d {
        verdict = .earlyPosting
      } else {
        return nil
      }
    }
    // Last of all: nearly every posting is in time.
    guard verdict != nil,
      isAccepted0(posted[index] - expected[index], index) || isNamed && isDocumentRight(duePostings[place], currency)
    else { return nil }
    if verdict == .cutoff, isPeriodRight(place, period, ofDocument: isNamed) { return nil }
    return verdict
  }

  /// Whether a posting takes back what was cancelled, though the ledger does not call it a reversal: it names the document,
  /// or names none and its journal has just what that put into the role, or all that was cancelled did.
  private func reversesVoid(_ place: Int) -> Bool {
    let posting = duePostings[place]
    func takesBack(_ event: Int) -> Bool {
      isVoid[event] && !isOfSide(event, place) && hasEntry(dueEvents[event], posting)
    }
    guard posting.document.isEmpty else {
      return isVoid.indices.contains { takesBack($0) && dueEvents[$0].document.elementsEqual(posting.document) }
    }
    let others = isVoid.indices.filter { takesBack($0) && dueEvents[$0].currency == posting.currency }
    guard !others.isEmpty else { return false }
    var own: Int128 = 0
    for (at, other) in duePostings.enumerated()
    where at == place
      || other.isOfJournal(of: posting) && other.code == posting.code && other.currency == posting.currency
        && other.document.isEmpty
    { own += Int128(other.amount) }
    let amounts = others.map { amount(ofEvent: $0, in: posting.role) }
    return amounts.contains(-own) || amounts.reduce(0, +) == -own
  }

  /// What an event puts into a role.
  private func amount(ofEvent place: Int, in role: AccountRole) -> Int128 {
    var amount: Int128 = 0
    for entry in policy.entries(of: dueEvents[place]) where entry.role == role {
      amount += Int128(dueEvents[place].amount(entry.component)) * Int128(entry.sign)
    }
    return amount
  }

  /// Whether the ledger holds of the role of a posting what is expected in that posting's period: what was reversed there
  /// and posted anew says nothing about it.
  /// - Parameter ofDocument: Of the document that the posting names; else of the order.
  private func isPeriodRight(_ place: Int, _ period: Int32, ofDocument: Bool) -> Bool {
    let (posting, calendar) = (duePostings[place], policy.calendar)
    func isMeant(_ fact: Fact) -> Bool {
      fact.currency == posting.currency && (!ofDocument || fact.document.elementsEqual(posting.document))
    }
    var open: Int128 = 0
    for other in duePostings where other.code == posting.code && isMeant(other) && other.period(calendar) == period {
      open += Int128(other.amount)
    }
    var released: Int128 = 0
    for (at, event) in dueEvents.enumerated() where isMeant(event) {
      let amount = amount(ofEvent: at, in: posting.role)
      if event.period(calendar) == period { open -= amount }
      if isVoid[at], accountingPeriod(ofDay: cancelDay(at), calendar).name == period { open += amount }
      released += self.released(at, in: period)
    }
    if posting.role == .revenue { released = -released }
    // Of a period that is not due yet all may be released, or nothing; and a release need not name the document.
    return open == 0 || open == released && (posting.role == .deferred || posting.role == .revenue)
  }

  /// Whether an event is of the document that a posting names, and puts something into its role. Both by place.
  @inline(__always)
  private func isOf(_ event: Int, _ posting: Int) -> Bool {
    !dueEvents[event].document.isEmpty && dueEvents[event].document.elementsEqual(duePostings[posting].document)
      && hasEntry(dueEvents[event], duePostings[posting])
  }

  /// Whether an event puts an amount of the sign of a posting into its role. Where none of the document that it names does,
  /// the posting settles that document, as a payment does that names its invoice, and is about another event. Both by place.
  private func isOfSide(_ event: Int, _ posting: Int) -> Bool {
    let sum = amount(ofEvent: event, in: duePostings[posting].role)
    return sum == 0 || (sum < 0) == (duePostings[posting].amount < 0)
  }

  /// Whether the ledger holds of the role of a posting what the events of its document say, within tolerance.
  private func isDocumentRight(_ posting: Fact, _ currency: Int) -> Bool {
    var (wants, has) = (Int128(0), Int128(0))
    for (place, event) in dueEvents.enumerated()
    where !isVoid[place] && event.currency == posting.currency && !event.document.isEmpty
      && event.document.elementsEqual(posting.document) && hasEntry(event, posting)
    {
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

  @inline(__always)
  func hasEntry(_ event: Fact, _ posting: Fact) -> Bool { hasEntry(event, in: posting.role) }

  @inline(__always)
  func hasEntry(_ event: Fact, in role: AccountRole) -> Bool {
    for entry in policy.entries(of: event)
    where entry.role == role && event.amount(entry.component) != 0 { return true }
    return false
  }

  /// Whether a posting belongs to an entry between companies, where these are mirrored: of a journal with lines on
  /// `intercompany`. Its entity and its customer are those of the company that entered it.
  @inline(never)
  func isIntercompany(_ posting: Fact) -> Bool {
    guard mirrorsIntercompany else { return false }
    return posting.role == .intercompany
      || duePostings.contains { $0.role == .intercompany && $0.isOfJournal(of: posting) }
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
