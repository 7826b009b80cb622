import Domain

/// How far the sums of ties follow posting policies that have changed.
struct PolicyRevision {
  /// Those by which the sums of ties are made, or will be when a revision is over.
  var policies: PostingPolicies
  /// Those that hold for ties which the running revision has not come to; nil where none is running.
  var earlier: PostingPolicies?
  /// The same as a table, as long as `isRunning`.
  var old = Expectations(PostingPolicies(base: [])!)
  var isRunning = false
  /// How many of the stretches of fingerprints are done.
  var cursor: UInt32 = 0

  init(_ policies: PostingPolicies) { self.policies = policies }

  /// A revision goes through the ties in stretches of this many bits of their fingerprints.
  static let bits = 12
  static let end: UInt32 = 1 << UInt32(bits)
  /// What stands before it among the sums of a state.
  static let tag: UInt64 = 0x7365_6963_696c_6f50  // "Policies"

  @inline(never)
  func export(into writer: inout ByteWriter) {
    writer.write(PolicyRevision.tag)
    writer.write(bytes: policies.bytes)
    writer.write(UInt8(isRunning ? 1 : 0))
    guard isRunning, let earlier else { return }
    writer.write(cursor)
    writer.write(bytes: earlier.bytes)
  }
}

/// Posting policies that change while ties are held.
///
/// Σ expected, the debits of quality, releases of deferred revenue and each tie's balance have been made by the policies
/// before. A revision goes through the ties in the order of their fingerprints, some at a time, and makes them again where
/// an event of the tie has another policy now; such a tie is judged again, at the pace of all that is due. A tie that
/// something comes for, or that is due, is taken out of turn, with the mark `revised`. So each tie is at any time wholly by
/// the policies before or by the new ones, and a tie that is judged or forgotten is by the new ones.
extension Matcher {
  /// Whether there are ties whose sums may still be those of earlier posting policies.
  public var isRevising: Bool { revision.isRunning }

  // MARK: - Other policies

  /// Goes on with other posting policies, be they of rows or of the configuration itself. A revision that is still running
  /// is brought to its end first.
  /// - Parameters:
  ///   - adopts: No record has come yet: there is nothing to revise.
  ///   - isKnown: False in a replay under other settings than were then: what came then was summed and judged by the
  ///     policies of the state, and is so again.
  mutating func take(_ policies: PostingPolicies, adopts: Bool, isKnown: Bool) {
    let current = revision.policies
    guard policies != current else { return }
    if adopts {
      setPolicies(policies)
      return
    }
    if !isKnown {
      policy.postingPolicies = current
      judge.policy = policy
      return
    }
    if isRevising { revise(upTo: PolicyRevision.end) }
    revision.policies = policies
    revision.earlier = current
    revision.old.deallocate()
    revision.old = expectations
    revision.isRunning = true
    revision.cursor = 0
    expectations = Expectations(policies)
    isAttentive = true
  }

  private mutating func setPolicies(_ policies: PostingPolicies) {
    revision.policies = policies
    expectations.deallocate()
    expectations = Expectations(policies)
  }

  private mutating func setEarlier(_ policies: PostingPolicies?, cursor: UInt32) {
    revision.earlier = policies
    revision.isRunning = policies != nil
    if let policies {
      revision.old.deallocate()
      revision.old = Expectations(policies)
    }
    revision.cursor = cursor
    isAttentive = isRestoring || isRevising
  }

  // MARK: - Going through the ties

  /// Goes on until it has looked at some ties, or is through.
  /// - Returns: how far it has come, for a replay.
  @discardableResult
  public mutating func revise(atMost count: Int) -> UInt32 {
    var looked = 0
    while isRevising, looked < max(1, count) { looked += reviseStretch() }
    settleAggregates()
    return isRevising ? revision.cursor : PolicyRevision.end
  }

  /// Goes on as far as an earlier call has come.
  public mutating func revise(upTo cursor: UInt32) {
    while isRevising, revision.cursor < cursor { _ = reviseStretch() }
    settleAggregates()
  }

  /// - Returns: how many ties it has looked at.
  private mutating func reviseStretch() -> Int {
    var slots: [Int] = []
    forEachSlot(shard: Int(revision.cursor), bits: PolicyRevision.bits) { slots.append($0) }
    for slot in slots {
      if ties[slot].has(Tie.Flag.revised) {
        ties[slot].set(Tie.Flag.revised, false)
        stamp(ties[slot].head)
      } else {
        remake(slot)
      }
    }
    revision.cursor += 1
    if revision.cursor == PolicyRevision.end { setEarlier(nil, cursor: 0) }
    return slots.count
  }

  /// Takes a tie out of turn.
  @inline(never)
  mutating func reviseNow(_ slot: Int) {
    guard !ties[slot].has(Tie.Flag.revised), isAhead(ties[slot].head) else { return }
    remake(slot)
    ties[slot].set(Tie.Flag.revised)
    stamp(ties[slot].head)
  }

  private func isAhead(_ head: UInt16) -> Bool { UInt32(head) >> UInt32(16 - PolicyRevision.bits) >= revision.cursor }

  /// Whether the sums of a tie are by the new policies, while a revision is running.
  mutating func isRevised(_ slot: Int) -> Bool { ties[slot].has(Tie.Flag.revised) || !isAhead(ties[slot].head) }

  /// A record is about to come: its tie, made where there is none, goes by the new policies.
  @inline(never)
  mutating func revise(_ fingerprint: Fingerprint, _ key: ByteView) -> Int {
    var slot = lookUp(fingerprint, key)
    if slot == 0 {
      slot = insert(fingerprint, key)
      counters.tiesOpened += 1
    }
    reviseNow(slot)
    return slot
  }

  // MARK: - One tie

  /// Makes what stands for the events of a tie again, where another policy holds for one of them.
  private mutating func remake(_ slot: Int) {
    let old = revision.old
    guard isRevising, ties[slot].has(Tie.Flag.hasOrder), isConcerned(slot, old) else { return }
    texts.reset()
    let new = expectations
    expectations = old
    aggregateCancelled(slot, sign: -1)
    expectations = new
    let length = bodyLength(slot)
    let copy = texts.take(length + RecordStore.slackBytes)
    copy.update(from: bodyStart(slot), count: length + RecordStore.slackBytes)
    var facts = Matcher.facts(copy, length: length, isValued: ties[slot].has(Tie.Flag.valued))
    var balance: UInt16 = 0
    let isMatched = ties[slot].has(Tie.Flag.hasOrder | Tie.Flag.hasPosting)
    while facts.next() {
      guard !facts.isPosting, facts.flags & (Fact.Flag.delete | Fact.Flag.rejected) == 0 else { continue }
      var fact = Fact(facts, number: 0, texts: &texts)
      balance &+= remake(&fact, old, slot, isMatched: isMatched)
    }
    aggregateCancelled(slot, sign: 1)
    Matcher.rebalance(bodyStart(slot), by: balance)
    ties[slot].set(Tie.Flag.dirty)
    ties[slot].set(Tie.Flag.agreed, false)
    stamp(ties[slot].head)
    scheduleRevised(slot)
  }

  /// - Returns: what it changes in the balance of its tie.
  private mutating func remake(_ fact: inout Fact, _ old: Expectations, _ slot: Int, isMatched: Bool) -> UInt16 {
    let new = expectations
    let (currency, source, time_ms) = (fact.currency, fact.source, fact.time_ms)
    return withUnsafePointer(to: &fact) { fact in
      var balance: UInt16 = 0
      var debits: Int128 = 0
      for (table, sign) in [(old, Int64(-1)), (new, 1)] {
        expectations = table
        for entry in expectations(of: fact) {
          let amount = sign &* Int64(entry.sign) &* fact.amount(entry.component)
          guard amount != 0 else { continue }
          running.add(amount, .expected, currency, entry.role.rawValue, &settledTotals)
          balance &-= Matcher.balance(amount, entry.role.rawValue, currency)
          // A debit of the old ones counts with their sign.
          if amount > 0, sign > 0 { debits += Int128(amount) }
          if amount < 0, sign < 0 { debits += Int128(amount) }
        }
        if tracksPeriods { accountByPeriod(fact, sign: sign) }
        if sourceTotals != nil { sourceTotals!.add(fact, expectations(of: fact), slot, sign: sign) }
        // Only releases change; all else is taken back and added as it was.
        if aggregates != nil, hasSchedules, fact.pointee.service != nil { aggregate(fact, sign: Int(sign)) }
      }
      expectations = new
      if quality != nil, debits != 0 {
        quality!.add(total: debits, matched: isMatched ? debits : 0, currency, source: source, time_ms: time_ms)
      }
      return balance
    }
  }

  /// Whether another policy holds for one of a tie's events.
  private func isConcerned(_ slot: Int, _ old: Expectations) -> Bool {
    var facts = facts(slot)
    while facts.next() {
      guard !facts.isPosting else { continue }
      if differs(facts.code, facts, old) { return true }
      // A cancelled invoice takes back what an invoice releases.
      if hasSchedules, facts.code == OrderEventKind.invoiceCancelled.rawValue,
        differs(OrderEventKind.invoiced.rawValue, facts, old)
      {
        return true
      }
    }
    return false
  }

  private func differs(_ code: UInt8, _ fact: FactCursor, _ old: Expectations) -> Bool {
    !expectations.of(code, date_d: fact.date_d, time_ms: fact.time_ms, source: fact.source)
      .elementsEqual(old.of(code, date_d: fact.date_d, time_ms: fact.time_ms, source: fact.source))
  }

  /// A tie whose sums have changed is looked at when one that had them from the beginning would be, or at once where that
  /// is over.
  private mutating func scheduleRevised(_ slot: Int) {
    let (tie, watermark_ms) = (ties[slot], watermarks.current_ms)
    var next = tie.deadline_ms
    var facts = facts(slot)
    while facts.next() { next = min(next, Tie.clamped(facts.time_ms.addingSaturating(horizon_ms))) }
    let isReported = policy.reportsProvisional && tie.has(Tie.Flag.hasOrder | Tie.Flag.hasPosting)
    if tie.has(Tie.Flag.closed) || tie.breaks != 0 || isReported || next < watermark_ms {
      next = min(next, tie.quiet_ms)
    }
    schedule(slot, at: next)
  }

  // MARK: - As bytes

  /// By which policies the sums are made, and how far that is: also where they are those of the configuration alone, which
  /// may be others at the next start.
  @inline(never)
  public func exportPolicies(into writer: inout ByteWriter) { revision.export(into: &writer) }

  /// Takes the place of what is known.
  public mutating func importPolicies(from reader: inout ByteReader) throws(ByteCodingError) {
    guard try reader.read(UInt64.self) == PolicyRevision.tag else { throw ByteCodingError("no posting policies") }
    let policies = try PostingPolicies(from: &reader)
    var (earlier, cursor) = (PostingPolicies?.none, UInt32(0))
    if try reader.read(UInt8.self) != 0 {
      cursor = try reader.read()
      guard cursor < PolicyRevision.end else { throw ByteCodingError("a revision of policies beyond its end") }
      earlier = try PostingPolicies(from: &reader)
    }
    setPolicies(policies)
    setEarlier(earlier, cursor: cursor)
  }

  /// A state that does not say by which policies its sums were made, because an earlier version has written it: it is taken
  /// for one by those of the configuration itself.
  public mutating func beginWithoutPolicies() {
    setPolicies(PostingPolicies(base: policy.entries)!)
    setEarlier(nil, cursor: 0)
  }
}
