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

  /// Whether a document may be posted twice, and one that moves the same roles not at all
  /// (`Judge.judgeReplacedDocuments`).
  func mayBeReplaced(_ eventCount: Int, _ postingCount: Int) -> Bool {
    for at in 0..<eventCount where events[at].roles != 0 && !events[at].document.isEmpty {
      // As a rule there is no other like it, or it is posted.
      var isOne = true
      for other in 0..<eventCount where other != at && events[other].roles == events[at].roles { isOne = false }
      if isOne || isPosted(events[at].document, atLeast: 1, postingCount) { continue }
      for other in 0..<eventCount where other != at && events[other].roles == events[at].roles {
        if isPosted(events[other].document, atLeast: 2, postingCount) { return true }
      }
    }
    return false
  }

  /// Whether postings that name a document put so many lines into one role.
  @inline(never)
  private func isPosted(_ document: ByteView, atLeast least: Int, _ postingCount: Int) -> Bool {
    for at in 0..<postingCount where postings[at].document.elementsEqual(document) {
      var lines = 1
      for other in 0..<at
      where postings[other].code == postings[at].code && postings[other].document.elementsEqual(document) {
        lines &+= 1
      }
      if lines >= least { return true }
    }
    return false
  }

  /// Whether two facts of one side could be one record delivered twice. True also where that is not worth finding out:
  /// where two sources use one id, above all.
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

/// What a quick judgement needs of a fact: one that a body holds, or one that is on its way into it.
protocol FactView {
  var isPosting: Bool { get }
  var code: UInt8 { get }
  var flags: UInt16 { get }
  var currency: Currency { get }
  var date_d: Int32 { get }
  var time_ms: Int64 { get }
  var source: UInt16 { get }
  /// Postings: as stated, 0 if it is not.
  var period: Int32 { get }
  var document: ByteView { get }
  var customer: ByteView { get }
  var hasId: Bool { get }
  var idBase: ByteView { get }
  var idTail: ByteView { get }
  /// Of a record without an id.
  var identity: UInt64 { get }
  /// The signed amount of a posting.
  var amount: Int64 { get }
  func amount(_ component: AmountComponent) -> Int64
}

extension FactCursor: FactView {}

/// A fact that has been planned and not yet written.
struct IncomingFact: FactView {
  let fact: UnsafePointer<Fact>
  let hasId: Bool
  let idBase: ByteView
  let idTail: ByteView

  @inline(__always)
  init(_ fact: UnsafePointer<Fact>, _ plan: FactPlan, key: ByteView) {
    self.fact = fact
    hasId = !fact.pointee.id.isEmpty
    idBase = plan.idBase(fact, key: key)
    idTail = fact.pointee.id.dropped(idBase.count)
  }

  @inline(__always) var isPosting: Bool { fact.pointee.isPosting }
  @inline(__always) var code: UInt8 { fact.pointee.code }
  @inline(__always) var flags: UInt16 { fact.pointee.flags }
  @inline(__always) var currency: Currency { fact.pointee.currency }
  @inline(__always) var date_d: Int32 { fact.pointee.date_d }
  @inline(__always) var time_ms: Int64 { fact.pointee.time_ms }
  @inline(__always) var source: UInt16 { fact.pointee.source }
  @inline(__always) var period: Int32 { fact.pointee.statedPeriod }
  @inline(__always) var document: ByteView { fact.pointee.document }
  @inline(__always) var customer: ByteView { fact.pointee.customer }
  @inline(__always) var identity: UInt64 { fact.pointee.idHash }
  @inline(__always) var amount: Int64 { fact.pointee.amounts[0] }
  @inline(__always) func amount(_ component: AmountComponent) -> Int64 { fact.amount(component) }
}

/// What the facts of a tie come to, as far as they have been read.
struct QuickTally {
  var eventCount = 0
  var postingCount = 0
  var currency = Currency.none
  var isCurrencyKnown = false
  /// The full judgement has to look at it.
  var isUnusual = false
  var hasCustomer = false
  /// The roles that have a sum, one bit each.
  var touched: UInt32 = 0
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
    var tally = QuickTally()
    var facts = facts(slot)
    while !tally.isUnusual, facts.next() { add(&facts, to: &tally) }
    guard let value = conclude(tally), !hasChecks || isSoundOtherwise(slot) else { return nil }
    return value
  }

  /// As `append`, for a fact with which its tie may agree as a whole: it is judged with the others before it is written,
  /// so that they are read once, and the body grows once, by the fact and the value. Not with `hasChecks`, which read
  /// the body as it will be.
  /// - Returns: whether the tie agrees; and as `append`.
  @inline(never)
  mutating func appendSettling(
    _ fact: UnsafePointer<Fact>, to slot: Int, balance: UInt16
  ) -> (isAgreed: Bool, wantsSifting: Bool) {
    let length = bodyLength(slot)
    let start = bodyStart(slot)
    let trailer = ties[slot].has(Tie.Flag.valued) ? TieValue.size(endingAt: start + length) : 0
    let key = Matcher.key(start)
    var cursor = FactCursor(start + Matcher.keySize(key.count), end: start + (length - trailer), key: key)
    var tally = QuickTally()
    var watch = IdWatch(fact)
    while cursor.next() {
      watch.look(at: &cursor)
      if !tally.isUnusual { add(&cursor, to: &tally) }
    }
    let plan = FactPlan(fact, after: &cursor, isAbsolute: false)
    var incoming = IncomingFact(fact, plan, key: key)
    if !tally.isUnusual { add(&incoming, to: &tally) }
    let value = conclude(tally)
    let isLarge = RecordStore.granules(length &+ plan.size &+ TieValue.mostBytes) > RecordStore.exactClasses
    guard let value, !isLarge else {
      let hasGrown = write(fact, plan, to: slot, balance: balance, length: length, trailer: trailer)
      return (false, hasGrown || watch.isFound)
    }
    let end = length &- trailer
    let first = Matcher.firstCurrency(start, factsEnd: end)
    resizeBody(slot, from: length, to: end &+ plan.size &+ value.size(first: first))
    let body = bodyStart(slot)
    plan.write(fact, at: body + end)
    value.write(at: body + (end &+ plan.size), first: first)
    ties[slot].set(Tie.Flag.valued)
    Matcher.rebalance(body, by: balance)
    return (true, false)
  }

  /// Takes a fact into the tally. It is not changed: by value it would be copied.
  @inline(__always)
  mutating func add<View: FactView>(_ fact: inout View, to tally: inout QuickTally) {
    var takesPart = fact.isPosting
    tally.isUnusual = tally.isUnusual || fact.flags & QuickJudge.involvedFlags != 0
    let line: UnsafeMutablePointer<QuickJudge.Line>
    if fact.isPosting {
      guard tally.postingCount < QuickJudge.maximumPostings else {
        tally.isUnusual = true
        return
      }
      let role = Int(fact.code)
      let (sum, overflow) = quick.posted[role].addingReportingOverflow(fact.amount)
      quick.posted[role] = sum
      tally.touched |= 1 &<< UInt32(role)
      tally.isUnusual = tally.isUnusual || overflow
      line = quick.postings + tally.postingCount
      line.pointee.period = fact.period
    } else {
      guard tally.eventCount < QuickJudge.maximumEvents, QuickJudge.involvedKinds & 1 &<< UInt32(fact.code) == 0 else {
        tally.isUnusual = true
        return
      }
      var roles: UInt32 = 0
      for entry in expectations.of(fact.code, date_d: fact.date_d, time_ms: fact.time_ms, source: fact.source) {
        takesPart = true
        let amount = fact.amount(entry.component)
        if amount == 0 { continue }
        let role = Int(entry.role.rawValue)
        roles |= 1 &<< UInt32(role)
        let (sum, overflow) = quick.expected[role].addingReportingOverflow(entry.sign < 0 ? 0 &- amount : amount)
        quick.expected[role] = sum
        tally.isUnusual = tally.isUnusual || overflow
      }
      tally.touched |= roles
      line = quick.events + tally.eventCount
      line.pointee.roles = roles
      line.pointee.period =
        policy.checksPostingDates && fact.date_d != absentDate ? quick.period(ofDay: fact.date_d) : 0
      tally.hasCustomer = tally.hasCustomer || !fact.customer.isEmpty
    }
    if takesPart {
      tally.isUnusual = tally.isUnusual || tally.isCurrencyKnown && fact.currency != tally.currency
      tally.currency = fact.currency
      tally.isCurrencyKnown = true
    }
    line.pointee.code = fact.code
    line.pointee.flags = fact.flags
    line.pointee.date_d = fact.date_d
    line.pointee.document = fact.document
    line.pointee.customer = fact.customer
    line.pointee.idBase = fact.idBase
    line.pointee.idTail = fact.hasId ? fact.idTail : .empty
    line.pointee.identity = fact.identity
    if fact.isPosting {
      for at in 0..<tally.postingCount where QuickJudge.mayRepeat(quick.postings + at, line) { tally.isUnusual = true }
      tally.postingCount &+= 1
    } else {
      for at in 0..<tally.eventCount where QuickJudge.mayRepeat(quick.events + at, line) { tally.isUnusual = true }
      tally.eventCount &+= 1
    }
  }

  /// The value of a tie whose facts the tally holds, where it agrees. Clears the sums.
  @inline(__always)
  mutating func conclude(_ tally: QuickTally) -> TieValue? {
    let (expected, posted) = (quick.expected, quick.posted)
    let (events, postings) = (quick.events, quick.postings)
    var isUnusual = tally.isUnusual
    var touched = tally.touched
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
    guard !isUnusual, tally.eventCount > 0, tally.postingCount > 0 else { return nil }
    if tally.eventCount > 1, tally.postingCount > 1, quick.mayBeReplaced(tally.eventCount, tally.postingCount) {
      return nil
    }
    if policy.checksCustomers, tally.hasCustomer {
      for at in 0..<tally.postingCount where !postings[at].customer.isEmpty {
        var isKnown = false
        for event in 0..<tally.eventCount where events[event].customer.elementsEqual(postings[at].customer) {
          isKnown = true
        }
        if !isKnown { return nil }
      }
    }
    if policy.checksPostingDates {
      for at in 0..<tally.postingCount where !isInTime(postings + at, events, tally.eventCount) { return nil }
    }
    return TieValue(amount: Int64(clamping: value.magnitude), currency: tally.currency)
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
    var (isAsked, isOther) = (false, false)
    for at in 0..<count where events[at].roles & role != 0 && events[at].date_d != absentDate {
      if isNamed, !events[at].document.elementsEqual(posting.pointee.document) {
        // A posting may settle the document that it names, and be about this one.
        isOther = true
        continue
      }
      isAsked = true
      guard events[at].period == period else { continue }
      if posting.pointee.date_d == absentDate { return true }
      let days = posting.pointee.date_d &- events[at].date_d
      if days <= policy.lateAfter_d, days >= -policy.earlyBefore_d { return true }
    }
    return !isAsked && !isOther
  }
}
