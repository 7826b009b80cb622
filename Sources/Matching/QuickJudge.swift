import Domain

/// Room for the usual case of a judgement: a few events and postings in one currency that agree to the minor unit.
struct QuickJudge: ~Copyable {
  /// What is worth keeping of a fact while the others are read.
  struct Line {
    var code: UInt8
    var flags: UInt16
    var date_d: Int32
    /// Postings: as stated. Order events: of the document date. 0 if unknown.
    var period: Int32
    var document: ByteView
    var customer: ByteView
    var idBase: ByteView
    var idTail: ByteView
    var identity: UInt64
    /// Order events: the roles, one bit each, in which something is expected of it.
    var roles: UInt32
  }

  /// A tie with more facts of a side than this is judged in full.
  static let maximumEvents = 8
  static let maximumPostings = 24

  let events: UnsafeMutablePointer<Line>
  let postings: UnsafeMutablePointer<Line>
  /// By role.
  let expected: UnsafeMutablePointer<Int64>
  let posted: UnsafeMutablePointer<Int64>

  init() {
    events = .allocate(capacity: QuickJudge.maximumEvents)
    postings = .allocate(capacity: QuickJudge.maximumPostings)
    expected = .allocate(capacity: 2 * AccountRole.count)
    posted = expected + AccountRole.count
  }

  deinit {
    events.deallocate()
    postings.deallocate()
    expected.deallocate()
  }

  /// Event kinds whose meaning depends on the others: cancellations and holds.
  static let involvedKinds: UInt32 = [OrderEventKind.cancelled, .held, .released, .invoiceCancelled].reduce(0) {
    $0 | 1 << UInt32($1.rawValue)
  }
  static let involvedFlags = Fact.Flag.late | Fact.Flag.delete | Fact.Flag.rejected

  /// Whether two facts of one side could be one record delivered twice. True also where that is not worth finding out.
  @inline(__always)
  static func mayRepeat(_ a: Line, _ b: Line) -> Bool {
    let (aCount, bCount) = (a.idBase.count + a.idTail.count, b.idBase.count + b.idTail.count)
    if aCount != bCount { return false }
    if aCount == 0 { return a.identity == b.identity }
    if a.idBase.count == b.idBase.count {
      if !a.idTail.elementsEqual(b.idTail) { return false }
      return a.idBase.elementsEqual(b.idBase)
    }
    return true
  }
}

extension Matcher {
  /// The value of a tie that agrees, for all that the full judgement would look at; nil where that has to say it.
  ///
  /// Most ties agree. For them this reads the facts once, in place, and comes to the same end as the judge: nothing
  /// found, nothing voided. Whatever is out of the ordinary (more than one currency, a cancellation, a hold, a late
  /// record, a date or a customer in question, an id that may have come twice, quantities to compare) is left to it.
  /// `QuickJudgeTests` hold the two against each other.
  @inline(__always)
  mutating func agreedValue(_ slot: Int) -> TieValue? {
    guard ties[slot].has(Tie.Flag.hasOrder | Tie.Flag.hasPosting), !policy.quantities.isEnabled else { return nil }
    let (events, postings) = (quick.events, quick.postings)
    let (expected, posted) = (quick.expected, quick.posted)
    expected.update(repeating: 0, count: 2 * AccountRole.count)
    var eventCount = 0
    var postingCount = 0
    var currency = Currency.none
    var isCurrencyKnown = false
    var overflows = false
    var hasCustomer = false
    var facts = facts(slot)
    while facts.next() {
      if facts.flags & QuickJudge.involvedFlags != 0 { return nil }
      var roles: UInt32 = 0
      var takesPart = facts.isPosting
      if facts.isPosting {
        guard postingCount < QuickJudge.maximumPostings else { return nil }
        let (sum, overflow) = posted[Int(facts.code)].addingReportingOverflow(facts.amount(at: 0))
        posted[Int(facts.code)] = sum
        overflows = overflows || overflow
      } else {
        guard eventCount < QuickJudge.maximumEvents, QuickJudge.involvedKinds & 1 << UInt32(facts.code) == 0 else {
          return nil
        }
        for entry in expectations[facts.code] {
          takesPart = true
          let amount = facts.amount(entry.component)
          if amount == 0 { continue }
          roles |= 1 << UInt32(entry.role.rawValue)
          let signed = entry.sign < 0 ? 0 &- amount : amount
          let (sum, overflow) = expected[Int(entry.role.rawValue)].addingReportingOverflow(signed)
          expected[Int(entry.role.rawValue)] = sum
          overflows = overflows || overflow
        }
      }
      if takesPart {
        if isCurrencyKnown, facts.currency != currency { return nil }
        currency = facts.currency
        isCurrencyKnown = true
      }
      var period = facts.period
      if !facts.isPosting, policy.checksPostingDates, facts.date_d != absentDate {
        period = calendarPeriod(ofDay: facts.date_d)
      }
      let line = QuickJudge.Line(
        code: facts.code, flags: facts.flags, date_d: facts.date_d, period: period, document: facts.document,
        customer: facts.customer, idBase: facts.idBase, idTail: facts.idTail, identity: facts.identity, roles: roles)
      if facts.isPosting {
        for at in 0..<postingCount where QuickJudge.mayRepeat(postings[at], line) { return nil }
        (postings + postingCount).initialize(to: line)
        postingCount += 1
      } else {
        for at in 0..<eventCount where QuickJudge.mayRepeat(events[at], line) { return nil }
        (events + eventCount).initialize(to: line)
        eventCount += 1
        hasCustomer = hasCustomer || !facts.customer.isEmpty
      }
    }
    guard !overflows, eventCount > 0, postingCount > 0 else { return nil }
    for role in 0..<AccountRole.count where expected[role] != posted[role] { return nil }
    if policy.checksCustomers, hasCustomer {
      for at in 0..<postingCount where !postings[at].customer.isEmpty {
        guard
          (0..<eventCount).contains(where: { events[$0].customer.elementsEqual(postings[at].customer) })
        else { return nil }
      }
    }
    if policy.checksPostingDates {
      for at in 0..<postingCount where !isInTime(postings[at], events, eventCount) { return nil }
    }
    for role in Matcher.valueRoles where posted[Int(role.rawValue)] != 0 {
      return TieValue(amount: Int64(clamping: posted[Int(role.rawValue)].magnitude), currency: currency)
    }
    return TieValue(amount: 0, currency: currency)
  }

  /// Whether the dates of a posting need no second look (`Judge.judgeDates`).
  @inline(__always)
  private func isInTime(
    _ posting: QuickJudge.Line, _ events: UnsafePointer<QuickJudge.Line>, _ count: Int
  ) -> Bool {
    if posting.flags & Fact.Flag.reversal != 0 { return true }
    var period = posting.period
    if period == 0 {
      if posting.date_d == absentDate { return true }
      period = calendarPeriod(ofDay: posting.date_d)
    }
    let role = UInt32(1) << UInt32(posting.code)
    var isNamed = false
    for at in 0..<count
    where events[at].roles & role != 0 && !events[at].document.isEmpty
      && events[at].document.elementsEqual(posting.document)
    { isNamed = true }
    var isAsked = false
    for at in 0..<count where events[at].roles & role != 0 && events[at].date_d != absentDate {
      if isNamed, !events[at].document.elementsEqual(posting.document) { continue }
      isAsked = true
      guard events[at].period == period else { continue }
      if posting.date_d == absentDate { return true }
      let days = posting.date_d &- events[at].date_d
      if days <= policy.lateAfter_d, days >= -policy.earlyBefore_d { return true }
    }
    return !isAsked
  }
}
