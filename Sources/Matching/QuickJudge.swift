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
  /// By role; zero between two judgements.
  let expected: UnsafeMutablePointer<Int64>
  let posted: UnsafeMutablePointer<Int64>

  /// The day that was asked for last, and its period: records of one day come together.
  private var lastDay: Int32 = absentDate
  private var lastPeriod: Int32 = 0
  private let calendar: FiscalCalendar?

  @inline(__always)
  mutating func period(ofDay day: Int32) -> Int32 {
    if day != lastDay {
      lastPeriod = calendar?.period(ofDay: day) ?? calendarPeriod(ofDay: day)
      lastDay = day
    }
    return lastPeriod
  }

  /// - Parameter calendar: Fiscal periods, where they are not calendar months.
  init(calendar: FiscalCalendar? = nil) {
    self.calendar = calendar
    events = .allocate(capacity: QuickJudge.maximumEvents)
    postings = .allocate(capacity: QuickJudge.maximumPostings)
    expected = .allocate(capacity: 2 * AccountRole.count)
    expected.initialize(repeating: 0, count: 2 * AccountRole.count)
    posted = expected + AccountRole.count
  }

  deinit {
    events.deallocate()
    postings.deallocate()
    expected.deallocate()
  }

  /// Event kinds whose meaning depends on the others: cancellations and holds.
  @inline(__always)
  static var involvedKinds: UInt32 {
    1 << UInt32(OrderEventKind.cancelled.rawValue) | 1 << UInt32(OrderEventKind.held.rawValue)
      | 1 << UInt32(OrderEventKind.released.rawValue) | 1 << UInt32(OrderEventKind.invoiceCancelled.rawValue)
  }
  @inline(__always)
  static var involvedFlags: UInt16 { Fact.Flag.late | Fact.Flag.delete | Fact.Flag.rejected | Fact.Flag.flagged }

  /// Whether two facts of one side could be one record delivered twice. True also where that is not worth finding out.
  @inline(__always)
  static func mayRepeat(_ a: UnsafePointer<Line>, _ b: UnsafePointer<Line>) -> Bool {
    let (aCount, bCount) = (
      a.pointee.idBase.count + a.pointee.idTail.count, b.pointee.idBase.count + b.pointee.idTail.count
    )
    if aCount != bCount { return false }
    if aCount == 0 { return a.pointee.identity == b.pointee.identity }
    if a.pointee.idBase.count == b.pointee.idBase.count {
      if !a.pointee.idTail.elementsEqual(b.pointee.idTail) { return false }
      return a.pointee.idBase.elementsEqual(b.pointee.idBase)
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
  @inline(never)
  mutating func agreedValue(_ slot: Int) -> TieValue? {
    guard ties[slot].has(Tie.Flag.hasOrder | Tie.Flag.hasPosting), !policy.quantities.isEnabled else { return nil }
    let (events, postings) = (quick.events, quick.postings)
    let (expected, posted) = (quick.expected, quick.posted)
    var eventCount = 0
    var postingCount = 0
    var currency = Currency.none
    var isCurrencyKnown = false
    var isUnusual = false
    var hasCustomer = false
    // The roles that have a sum, one bit each.
    var touched: UInt32 = 0
    var facts = facts(slot)
    while facts.next() {
      var takesPart = facts.isPosting
      isUnusual = isUnusual || facts.flags & QuickJudge.involvedFlags != 0
      let line: UnsafeMutablePointer<QuickJudge.Line>
      if facts.isPosting {
        guard postingCount < QuickJudge.maximumPostings else {
          isUnusual = true
          break
        }
        let role = Int(facts.code)
        let (sum, overflow) = posted[role].addingReportingOverflow(facts.amount(at: 0))
        posted[role] = sum
        touched |= 1 &<< UInt32(role)
        isUnusual = isUnusual || overflow
        line = postings + postingCount
        line.pointee.period = facts.period
      } else {
        guard eventCount < QuickJudge.maximumEvents, QuickJudge.involvedKinds & 1 &<< UInt32(facts.code) == 0 else {
          isUnusual = true
          break
        }
        var roles: UInt32 = 0
        for entry in expectations[facts.code] {
          takesPart = true
          let amount = facts.amount(entry.component)
          if amount == 0 { continue }
          let role = Int(entry.role.rawValue)
          roles |= 1 &<< UInt32(role)
          let (sum, overflow) = expected[role].addingReportingOverflow(entry.sign < 0 ? 0 &- amount : amount)
          expected[role] = sum
          isUnusual = isUnusual || overflow
        }
        touched |= roles
        line = events + eventCount
        line.pointee.roles = roles
        line.pointee.period =
          policy.checksPostingDates && facts.date_d != absentDate ? quick.period(ofDay: facts.date_d) : 0
        hasCustomer = hasCustomer || !facts.customer.isEmpty
      }
      if takesPart {
        isUnusual = isUnusual || isCurrencyKnown && facts.currency != currency
        currency = facts.currency
        isCurrencyKnown = true
      }
      line.pointee.code = facts.code
      line.pointee.flags = facts.flags
      line.pointee.date_d = facts.date_d
      line.pointee.document = facts.document
      line.pointee.customer = facts.customer
      line.pointee.idBase = facts.idBase
      line.pointee.idTail = facts.hasId ? facts.idTail : .empty
      line.pointee.identity = facts.identity
      if facts.isPosting {
        for at in 0..<postingCount where QuickJudge.mayRepeat(postings + at, line) { isUnusual = true }
        postingCount &+= 1
      } else {
        for at in 0..<eventCount where QuickJudge.mayRepeat(events + at, line) { isUnusual = true }
        eventCount &+= 1
      }
      if isUnusual { break }
    }
    var value: Int64 = 0
    for place in 0..<Matcher.valueRoleCount where value == 0 {
      value = posted[Int(Matcher.valueRole(place).rawValue)]
    }
    while touched != 0 {
      let role = touched.trailingZeroBitCount
      touched &= touched &- 1
      isUnusual = isUnusual || expected[role] != posted[role]
      expected[role] = 0
      posted[role] = 0
    }
    guard !isUnusual, eventCount > 0, postingCount > 0 else { return nil }
    if policy.checksCustomers, hasCustomer {
      for at in 0..<postingCount where !postings[at].customer.isEmpty {
        var isKnown = false
        for event in 0..<eventCount where events[event].customer.elementsEqual(postings[at].customer) { isKnown = true }
        if !isKnown { return nil }
      }
    }
    if policy.checksPostingDates {
      for at in 0..<postingCount where !isInTime(postings + at, events, eventCount) { return nil }
    }
    if hasChecks, !isSoundOtherwise(slot) { return nil }
    return TieValue(amount: Int64(clamping: value.magnitude), currency: currency)
  }

  /// Whether the dates of a posting need no second look (`Judge.judgeDates`).
  @inline(__always)
  private mutating func isInTime(
    _ posting: UnsafePointer<QuickJudge.Line>, _ events: UnsafePointer<QuickJudge.Line>, _ count: Int
  ) -> Bool {
    if posting.pointee.flags & Fact.Flag.reversal != 0 { return true }
    var period = posting.pointee.period
    if period == 0 {
      if posting.pointee.date_d == absentDate { return true }
      period = quick.period(ofDay: posting.pointee.date_d)
    }
    let role = UInt32(1) << UInt32(posting.pointee.code)
    var isNamed = false
    for at in 0..<count
    where events[at].roles & role != 0 && !events[at].document.isEmpty
      && events[at].document.elementsEqual(posting.pointee.document)
    { isNamed = true }
    var isAsked = false
    for at in 0..<count where events[at].roles & role != 0 && events[at].date_d != absentDate {
      if isNamed, !events[at].document.elementsEqual(posting.pointee.document) { continue }
      isAsked = true
      guard events[at].period == period else { continue }
      if posting.pointee.date_d == absentDate { return true }
      let days = posting.pointee.date_d &- events[at].date_d
      if days <= policy.lateAfter_d, days >= -policy.earlyBefore_d { return true }
    }
    return !isAsked
  }
}
