import Domain

/// What is looked at beyond amounts, customers and dates, where a configuration asks for it.
public struct FinanceChecks: Sendable, Equatable {
  /// Index of the dimension that is the entity, and of that which is the segment.
  public var entity: Int?
  public var segment: Int?
  /// Fiscal periods, in place of the months of the calendar, and when they were closed.
  public var calendar: FiscalCalendar?
  /// The base currency and its rates.
  public var exchange: ExchangeChecks?
  /// Whether differences of cash, clearing, receivables and fees are told apart as cash application does.
  public var appliesCash = false
  /// Whether intercompany postings must have mirror entries, as a difference of its own name.
  public var mirrorsIntercompany = false
  /// How long after window and grace of a tie's first event an open break is medium, high, critical by age; empty where
  /// age does not count.
  public var severityAges_ms: [Int64] = []
  /// How deferred revenue is released, where the service period says it.
  public var schedules: RevenueSchedules?

  public init() {}

  public var isEmpty: Bool { self == FinanceChecks() }

  /// Whether there is something to look at in a tie that agrees: age is one of open breaks alone.
  var concernsAgreed: Bool {
    var others = self
    others.severityAges_ms = []
    return !others.isEmpty
  }
}

extension Fact {
  /// The value of a dimension; empty where there is none.
  @inline(__always)
  static func dimension(_ index: Int, of bytes: ByteView) -> ByteView {
    var (offset, at) = (0, 0)
    while offset < bytes.count {
      let count = Int(bytes.base![offset])
      if at == index { return ByteView(base: bytes.base! + offset + 1, count: count) }
      offset += 1 + count
      at += 1
    }
    return .empty
  }

  func dimension(_ index: Int) -> ByteView { Fact.dimension(index, of: dimensionBytes) }
}

extension Judge {
  /// What `FinanceChecks` ask of a tie with both sides, once its amounts have been judged.
  mutating func judgeFinance() {
    if let entity = policy.checks?.entity { judgeDimension(entity, .wrongEntity) }
    if let segment = policy.checks?.segment { judgeDimension(segment, .wrongSegment) }
    if let calendar = policy.checks?.calendar { judgeClosedPeriods(calendar) }
    if let exchange = policy.checks?.exchange { judgeExchange(exchange) }
  }

  /// As for customers: what a posting names, one of the order's events must name.
  private mutating func judgeDimension(_ index: Int, _ type: BreakType) {
    guard dueEvents.contains(where: { !$0.dimension(index).isEmpty }) else { return }
    let stranger = duePostings.first { posting in
      let value = posting.dimension(index)
      return !value.isEmpty && !dueEvents.contains { $0.dimension(index).elementsEqual(value) }
        && !(type == .wrongEntity && isIntercompany(posting))
    }
    guard let stranger, let currency = currencies.firstIndex(of: stranger.currency) else { return }
    let role = primaryRole(posted, currency)
    let own = dueEvents.first { !$0.dimension(index).isEmpty }!.dimension(index)
    findings.append(
      Finding(
        type, role, currencies[currency], expected: value(expected, currency, role),
        posted: value(posted, currency, role),
        reason: "posted to \(stranger.dimension(index)), the order is \(own)'s"))
  }

  /// Postings that were entered into a period after it was closed: one finding for each currency, of the role that is
  /// named first.
  private mutating func judgeClosedPeriods(_ calendar: FiscalCalendar) {
    for currency in currencies.indices {
      let offenders = duePostings.indices.filter {
        duePostings[$0].currency == currencies[currency]
          && calendar.isClosed(duePostings[$0].enteredPeriod(calendar), at: duePostings[$0].time_ms)
      }
      guard
        let first = offenders.min(by: { Judge.rank(duePostings[$0].role) < Judge.rank(duePostings[$1].role) })
      else { continue }
      let offender = duePostings[first]
      let period = calendar.period(named: offender.enteredPeriod(calendar))!
      append(
        .closedPeriod, offenders, offender.role, currency,
        """
        entered on \(formatTimestamp(offender.time_ms)) into \(period.text), closed since \
        \(formatTimestamp(period.closedAt_ms!))
        """)
    }
  }

  /// A finding about postings that are right but for their time: it names those of the role, and is as large as they are.
  /// Its severity goes by the role of which most is posted so.
  mutating func append(
    _ type: BreakType, _ places: [Int], _ role: AccountRole, _ currency: Int, _ reason: TextBytes
  ) {
    func sum(_ code: UInt8) -> Int128 {
      places.reduce(0) { duePostings[$1].code == code ? $0 + Int128(duePostings[$1].amount) : $0 }
    }
    var finding = Finding(
      type, role, currencies[currency], expected: value(expected, currency, role),
      posted: value(posted, currency, role),
      reason: "\(documentNames(places.filter { duePostings[$0].code == role.rawValue })): \(reason)")
    finding.affected = Int64(clamping: sum(role.rawValue))
    finding.size = places.reduce(0) { max($0, magnitude(sum(duePostings[$1].code))) }
    findings.append(finding)
  }

  /// Revenue first, as a period is about it; then as elsewhere.
  static func rank(_ role: AccountRole) -> Int {
    role == .revenue ? -1 : Judge.primaryOrder.firstIndex(of: role)!
  }
}

extension Matcher {
  /// The part of `agreedValue` that a configuration has to ask for: whether `FinanceChecks` would find nothing in a tie
  /// with both sides, and there are no lines to compare. It reads the facts once more, and only where there is something to check.
  @inline(never)
  func isSoundOtherwise(_ slot: Int) -> Bool {
    if policy.quantities.comparesLines {
      var (isExpected, isPosted) = (false, false)
      var lines = facts(slot)
      while lines.next() {
        guard lines.hasMore(Fact.Flag.hasLine) else { continue }
        if lines.isPosting { isPosted = true } else { isExpected = true }
      }
      if isExpected, isPosted { return false }
    }
    guard let checks = policy.checks else { return true }
    var named = InlineArray<2, Bool>(repeating: false)
    var kinds: UInt32 = 0
    let dimensions = InlineArray<2, Int?> { $0 == 0 ? checks.entity : checks.segment }
    var postings = facts(slot)
    while postings.next() {
      if let rates = checks.exchange?.rates, !isConverted(postings, rates) { return false }
      if postings.isPosting {
        if let calendar = checks.calendar {
          var period = postings.period
          if period == 0, postings.date_d != absentDate { period = calendar.period(ofDay: postings.date_d) }
          if period != 0, calendar.isClosed(period, at: postings.time_ms) { return false }
        }
      } else {
        // What is expected of a schedule depends on the time.
        if checks.schedules != nil, postings.service != nil { return false }
        kinds |= 1 &<< UInt32(postings.code)
        for at in 0..<2 {
          guard let index = dimensions[at], !Fact.dimension(index, of: postings.dimensions).isEmpty else { continue }
          named[at] = true
        }
      }
    }
    if checks.appliesCash, Judge.isPaidNotBilled(kinds) { return false }
    for at in 0..<2 where named[at] {
      let index = dimensions[at]!
      var postings = facts(slot)
      while postings.next() {
        guard postings.isPosting else { continue }
        let value = Fact.dimension(index, of: postings.dimensions)
        if value.isEmpty { continue }
        var isKnown = false
        var events = facts(slot)
        while events.next() {
          if !events.isPosting, Fact.dimension(index, of: events.dimensions).elementsEqual(value) { isKnown = true }
        }
        if !isKnown { return false }
      }
    }
    return true
  }

  /// Whether a fact has a rate, and a base amount that it carries is exactly what the rate of its own date gives.
  private func isConverted(_ fact: FactCursor, _ rates: ExchangeRates) -> Bool {
    if !fact.isPosting,
      expectations.of(fact.code, date_d: fact.date_d, time_ms: fact.time_ms, source: fact.source).isEmpty
    {
      return true
    }
    let date = fact.date_d == absentDate ? day(ofMilliseconds: fact.time_ms) : fact.date_d
    guard fact.isPosting, fact.mask & Fact.baseBit != 0 else { return rates.covers(fact.currency, day: date) }
    return rates.convert(fact.amount(at: 0), from: fact.currency, day: date) == fact.amount(at: 1)
  }
}
