import Domain

/// What the messages about one tie tell alike of its facts, gathered when the first of them is made.
struct Evidence {
  let order: String
  let customer: String
  let dimensions: [String]
  let roles: [Break.RoleEvidence]
  let events: [String]
  let journals: [String]
  let quantities: [Int64]?

  init(_ judge: borrowing Judge, order: ByteView, dimensionCount: Int) {
    self.order = order.string
    quantities = judge.quantities
    var customer = ByteView.empty
    for at in judge.events.indices where customer.isEmpty { customer = judge.events[at].customer }
    for at in judge.postings.indices where customer.isEmpty { customer = judge.postings[at].customer }
    self.customer = customer.string
    var values = ByteView.empty
    if dimensionCount > 0 {
      for at in judge.events.indices where values.isEmpty { values = judge.events[at].dimensionBytes }
      for at in judge.postings.indices where values.isEmpty { values = judge.postings[at].dimensionBytes }
    }
    dimensions = Fact.dimensionValues(values)
    var roles: [Break.RoleEvidence] = []
    // As many as an invoice has, as a rule.
    roles.reserveCapacity(6)
    for index in judge.expected.indices where judge.expected[index] | judge.posted[index] != 0 {
      roles.append(
        .init(
          role: AccountRole(rawValue: UInt8(index % AccountRole.count))!,
          currency: judge.currencies[index / AccountRole.count], expected: Int64(clamping: judge.expected[index]),
          posted: Int64(clamping: judge.posted[index])))
    }
    self.roles = roles
    events = Evidence.names(judge.events, judge.rejected)
    journals = Evidence.names(judge.postings)
  }

  /// Names of records: each once, sorted, at most `maximumEvidenceIDs`.
  private static func names(_ facts: [Fact], _ others: [Fact] = []) -> [String] {
    if facts.count == 1, others.isEmpty { return [name(facts[0])] }
    var all: [String] = []
    for at in facts.indices where at == 0 || !isSame(facts[at], facts[at - 1]) { all.append(name(facts[at])) }
    for other in others { all.append(name(other)) }
    if all.count < 2 { return all }
    all.sort()
    var names: [String] = []
    for name in all where names.count < maximumEvidenceIDs && name != names.last { names.append(name) }
    return names
  }

  /// The document of a posting, or the id of an event; the position of what has neither.
  @inline(__always)
  private static func name(_ fact: Fact) -> String {
    let name = fact.journal.isEmpty ? fact.id : fact.journal
    return name.isEmpty ? "@\(fact.source):\(fact.offset)" : name.string
  }

  /// Whether both are lines of one document, as most lines are that stand behind each other.
  @inline(__always)
  private static func isSame(_ fact: Fact, _ other: Fact) -> Bool {
    !fact.journal.isEmpty && fact.journal.elementsEqual(other.journal)
  }

  /// The roles, with what a finding explains of each where that is not all of its difference.
  func roles(of finding: borrowing Finding) -> [Break.RoleEvidence] {
    var told = roles
    if finding.parts.isEmpty { return told }
    for at in told.indices {
      let (role, currency) = (roles[at].role, roles[at].currency)
      var sum: Int128 = 0
      for part in finding.parts where part.role == role && part.currency == currency { sum += Int128(part.delta) }
      if sum != Int128(roles[at].delta) { told[at].affected = Int64(clamping: sum) }
    }
    return told
  }

  func cleared(_ type: BreakType, _ role: AccountRole, _ currency: Currency) -> Finding {
    let evidence = roles.first { $0.role == role && $0.currency == currency }
    return Finding(
      type, role, currency, expected: evidence?.expected, posted: evidence?.posted, reason: "no longer found")
  }
}

/// When the messages about one tie are made, and how old its breaks are.
struct EvidenceContext {
  let firstEventTime_ms: Int64
  let deadline_ms: Int64
  private(set) var watermark_ms: Int64
  /// How many of `FinanceChecks.severityAges_ms` have passed.
  private var ageLevel = 0

  init(firstEventTime_ms: Int64, deadline_ms: Int64, watermark_ms: Int64) {
    self.firstEventTime_ms = firstEventTime_ms
    self.deadline_ms = deadline_ms
    self.watermark_ms = watermark_ms
  }

  /// How old the breaks are at a time: age counts from the end of window and grace of the first event. What is told at an
  /// age is told as of the time at which that was reached, however far the watermark has leapt.
  mutating func setAge(at time_ms: Int64, horizon_ms: Int64, ages_ms: [Int64]) {
    let due_ms = firstEventTime_ms.addingSaturating(horizon_ms)
    ageLevel = ages_ms.count { due_ms.addingSaturating($0) < time_ms }
    if ageLevel > 0 { watermark_ms = max(watermark_ms, due_ms.addingSaturating(ages_ms[ageLevel - 1])) }
  }

  @inline(__always)
  func severity(_ finding: Finding, _ amounts_u: [Int64], _ rates: ExchangeRates?) -> Severity {
    var size: Int128 = 0
    for part in finding.parts { size = max(size, Int128(part.delta.magnitude)) }
    if finding.type == .fxDifference, let expected = finding.expected, let posted = finding.posted {
      size = Int128((Int128(posted) - Int128(expected)).magnitude)
    }
    if let lines = finding.lines { size = max(size, lines.size) }
    if let own = finding.size { size = max(size, own) }
    if size == 0 { size = Int128((finding.expected ?? 0).magnitude) }
    var currency = finding.currency
    if let rates,
      let base = rates.convert(
        Int64(clamping: size), from: currency, day: day(ofMilliseconds: firstEventTime_ms))
    {
      (size, currency) = (Int128(base), rates.base)
    }
    var unit: Int128 = 1
    for _ in 0..<currency.exponent { unit *= 10 }
    let scaled = size * 1_000_000 / unit
    let byAmount = amounts_u.lastIndex { scaled >= Int128($0) }.map { $0 + 1 } ?? 0
    return Severity.allCases[finding.isAccepted ? 0 : min(3, max(byAmount, ageLevel))]
  }

  @inline(__always)
  func make(
    _ finding: Finding, _ evidence: Evidence, state: BreakState, isProvisional: Bool, revision: Int,
    severity: Severity, idCurrency: Currency
  ) -> Break {
    let hasQuantities =
      switch finding.type {
      case .unbilledShipment, .billedNotShipped, .quantityMismatch: true
      default: false
      }
    return Break(
      id: Break.id(order: evidence.order, type: finding.type, role: finding.role, otherCurrency: idCurrency),
      order: evidence.order, type: finding.type, role: finding.role, currency: finding.currency,
      expected: finding.expected, posted: finding.posted, postedCurrency: finding.postedCurrency,
      affected: finding.affectedAmount, state: state, isProvisional: isProvisional, revision: revision,
      hints: finding.hints, severity: severity, customer: evidence.customer, dimensions: evidence.dimensions,
      firstEventTime_ms: firstEventTime_ms, deadline_ms: deadline_ms, asOf_ms: watermark_ms,
      roles: evidence.roles(of: finding),
      events: evidence.events, journals: evidence.journals, quantities: hasQuantities ? evidence.quantities : nil,
      lines: finding.lines?.lines ?? [], lineCount: finding.lines?.count ?? 0, reason: finding.reason.string)
  }
}
