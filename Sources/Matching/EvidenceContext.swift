import Domain

/// What the messages about one tie have in common, gathered once when something is to be said about it.
struct EvidenceContext {
  let order: String
  let customer: String
  let dimensions: [String]
  let firstEventTime_ms: Int64
  let roles: [Break.RoleEvidence]
  let events: [String]
  let journals: [String]
  let quantities: [Int64]?
  let mainCurrency: Currency
  var deadline_ms: Int64 = 0
  var watermark_ms: Int64 = 0
  /// How many of `FinanceChecks.severityAges_ms` have passed.
  private(set) var ageLevel = 0

  init(_ judge: borrowing Judge, order: String, dimensionCount: Int) {
    self.order = order
    mainCurrency = judge.mainCurrency
    quantities = judge.quantities
    customer =
      (judge.events.first { !$0.customer.isEmpty } ?? judge.postings.first { !$0.customer.isEmpty })?
      .customer.string ?? ""
    dimensions =
      dimensionCount == 0
      ? []
      : (judge.events.first { !$0.dimensionBytes.isEmpty }
        ?? judge.postings.first { !$0.dimensionBytes.isEmpty })?.dimensions ?? []
    var first = Int64.max
    for event in judge.events { first = min(first, event.time_ms) }
    for posting in judge.postings { first = min(first, posting.time_ms) }
    for event in judge.rejected { first = min(first, event.time_ms) }
    firstEventTime_ms = first == .max ? 0 : first
    var roles: [Break.RoleEvidence] = []
    for (at, currency) in judge.currencies.enumerated() {
      for role in AccountRole.allCases {
        let index = at * AccountRole.count + Int(role.rawValue)
        let expected = Int64(clamping: judge.expected[index])
        let posted = Int64(clamping: judge.posted[index])
        if expected != 0 || posted != 0 {
          roles.append(.init(role: role, currency: currency, expected: expected, posted: posted))
        }
      }
    }
    self.roles = roles
    events = EvidenceContext.distinct(
      (judge.events + judge.rejected).map { $0.id.isEmpty ? "@\($0.source):\($0.offset)" : $0.id.string })
    journals = EvidenceContext.distinct(
      judge.postings.map {
        !$0.journal.isEmpty
          ? $0.journal.string : $0.id.isEmpty ? "@\($0.source):\($0.offset)" : $0.id.string
      })
  }

  private static func distinct(_ ids: [String]) -> [String] {
    ids.count < 2 ? ids : Array(Set(ids).sorted().prefix(maximumEvidenceIDs))
  }

  /// How old the breaks are at a time: age counts from the end of window and grace of the first event. What is told at an
  /// age is told as of the time at which that was reached, however far the watermark has leapt.
  mutating func setAge(at time_ms: Int64, horizon_ms: Int64, ages_ms: [Int64]) {
    let due_ms = firstEventTime_ms.addingSaturating(horizon_ms)
    ageLevel = ages_ms.count { due_ms.addingSaturating($0) < time_ms }
    if ageLevel > 0 { watermark_ms = max(watermark_ms, due_ms.addingSaturating(ages_ms[ageLevel - 1])) }
  }

  func severity(_ finding: Finding, _ policy: MatchingPolicy) -> Severity {
    var size: Int128 = 0
    for part in finding.parts { size = max(size, Int128(part.delta.magnitude)) }
    if finding.type == .fxDifference, let expected = finding.expected, let posted = finding.posted {
      size = Int128((Int128(posted) - Int128(expected)).magnitude)
    }
    if let lines = finding.lines { size = max(size, lines.size) }
    if let own = finding.size { size = max(size, own) }
    if size == 0 { size = Int128((finding.expected ?? 0).magnitude) }
    var currency = finding.currency
    if let rates = policy.checks?.exchange?.rates,
      let base = rates.convert(
        Int64(clamping: size), from: currency, day: day(ofMilliseconds: firstEventTime_ms))
    {
      (size, currency) = (Int128(base), rates.base)
    }
    var scaled = size * 1_000_000
    for _ in 0..<currency.exponent { scaled /= 10 }
    let byAmount = policy.severityAmounts_u.lastIndex { scaled >= Int128($0) }.map { $0 + 1 } ?? 0
    return Severity.allCases[finding.isAccepted ? 0 : min(3, max(byAmount, ageLevel))]
  }

  func cleared(_ type: BreakType, _ role: AccountRole, _ currency: Currency) -> Finding {
    let evidence = roles.first { $0.role == role && $0.currency == currency }
    return Finding(
      type, role, currency, expected: evidence?.expected, posted: evidence?.posted, reason: "no longer found")
  }

  func make(
    _ finding: Finding, state: BreakState, isProvisional: Bool, revision: Int, severity: Severity, idCurrency: Currency
  ) -> Break {
    var made = Break(
      id: Break.id(order: order, type: finding.type, role: finding.role, otherCurrency: idCurrency), order: order,
      type: finding.type, role: finding.role, currency: finding.currency, expected: finding.expected,
      posted: finding.posted, state: state, isProvisional: isProvisional, revision: revision,
      firstEventTime_ms: firstEventTime_ms, deadline_ms: deadline_ms, asOf_ms: watermark_ms)
    made.postedCurrency = finding.postedCurrency
    made.affected = finding.affectedAmount
    made.hints = finding.hints
    made.severity = severity
    made.customer = customer
    made.dimensions = dimensions
    made.roles = roles
    made.events = events
    made.journals = journals
    switch finding.type {
    case .unbilledShipment, .billedNotShipped, .quantityMismatch: made.quantities = quantities
    default: break
    }
    if let lines = finding.lines { (made.lines, made.lineCount) = (lines.lines, lines.count) }
    made.reason = finding.reason
    return made
  }
}
