import CShims
import Domain

/// Time: what is due is judged, and what is over is forgotten.
extension Matcher {
  /// Moves the watermark by the clock and judges what has become due, at most `policy.maximumExpiries` ties.
  /// - Returns: whether more is due already, so that the caller comes back without waiting.
  @discardableResult
  public mutating func advance(now_ms: Int64, outputs: inout MatchOutputs) -> Bool {
    if isRevising { revise(atMost: policy.maximumExpiries) }
    watermarks.advance(now_ms: now_ms)
    return expire(.atMost(policy.maximumExpiries), outputs: &outputs) != .none || isRevising
  }

  /// As `advance`, at a pace of the caller's.
  /// - Returns: how far it came; `ExpiryBound.none` where nothing that is due was left.
  public mutating func advance(now_ms: Int64, pace: ExpiryPace, outputs: inout MatchOutputs) -> ExpiryBound {
    watermarks.advance(now_ms: now_ms)
    return expire(pace, outputs: &outputs)
  }

  /// The bounded input is over: everything is due.
  public mutating func finish(outputs: inout MatchOutputs) {
    finish(asOf_ms: .max - 1, outputs: &outputs)
  }

  /// The bounded input is over, and ties are judged as they stand at a time. What is due later is not, but counts no more
  /// than once.
  public mutating func finish(asOf_ms: Int64, outputs: inout MatchOutputs) {
    watermarks.force(asOf_ms)
    isFinishing = true
    if !judgesParts { callOverdue() }
    _ = expire(.upTo(.none), outputs: &outputs)
    for slot in 1..<usedSlots where ties[slot].has(Tie.Flag.live | Tie.Flag.dirty) { sift(slot) }
    settleAggregates()
    isFinishing = false
  }

  /// Has the ties judged that were left for their deadlines: those of which a part is overdue, and those that were judged before
  /// something came for them.
  private mutating func callOverdue() {
    let watermark_ms = watermarks.current_ms
    for slot in 1..<usedSlots
    where ties[slot].has(Tie.Flag.live) && ties[slot].deadline_ms >= watermark_ms
      && (ties[slot].has(Tie.Flag.closed | Tie.Flag.dirty) || isOverdue(slot, watermark_ms))
    {
      schedule(slot, at: watermark_ms - 1)
    }
  }

  private mutating func expire(_ pace: ExpiryPace, outputs: inout MatchOutputs) -> ExpiryBound {
    let watermark_ms = watermarks.current_ms
    var (limit, bound) = (Int.max, ExpiryBound.none)
    switch pace {
    case .atMost(let count): limit = max(1, count)
    case .upTo(let given): bound = given
    }
    guard watermark_ms > .min else { return bound }
    var done = 0
    // The farthest that was popped: a tie may be due again at once, at a time before that of another one.
    var reached = TimerQueue.Entry.first
    var due = TimerQueue.Due(before: watermark_ms, upTo: bound)
    while true {
      let (ties, base) = (ties, store.base)
      guard let entry = timers.pop(due, ties: ties, fingerprint: { Matcher.fingerprint($0, ties, base) }) else { break }
      reached = max(reached, entry.order)
      if timers.hasJustOpened { bringFirst() }
      timers.lookAhead(ties) { slot in
        let tie = ties + slot
        let body = base + Int(tie.pointee.body) &* 8
        // The key, for what is forgotten; the first fact, whose currency is the value's, and the value at the end, for what
        // is counted.
        tieout_prefetch(body)
        tieout_prefetch(body + 32)
        tieout_prefetch(body + (Int(tie.pointee.bodyLength) &- 1))
      }
      prefetchIndex(8)
      prefetchBody(8)
      let slot = Int(entry.slot)
      let tie = self.ties + slot
      guard tie.pointee.has(Tie.Flag.live), tie.pointee.timer_ms == entry.deadline_ms else {
        timers.again(entry, ties) { Matcher.fingerprint($0, ties, base) }
        continue
      }
      tie.pointee.timer_ms = Tie.noTimer_ms
      let isOrdinary =
        tie.pointee.flags & (Tie.Flag.agreed | Tie.Flag.dirty | Tie.Flag.closed) == Tie.Flag.agreed
        && tie.pointee.breaks == 0 && tie.pointee.deadline_ms < watermark_ms && !isAttentive && !isFinishing
      if isOrdinary {
        // It has agreed before its deadline, and nothing has come since.
        stamp(tie.pointee.head)
        count(slot, isTiedOut: true)
        if let forgotten = close(slot, watermark_ms: watermark_ms, due) { reached = max(reached, forgotten) }
      } else {
        fire(slot, at: entry.deadline_ms, watermark_ms: watermark_ms, outputs: &outputs)
      }
      done &+= 1
      if done == limit {
        // What is due no later than the last one goes with it.
        bound = ExpiryBound(reached)
        due = TimerQueue.Due(before: watermark_ms, upTo: bound)
      }
    }
    settleAggregates()
    return bound
  }

  /// What follows when a tie without breaks has been closed: it is looked at when its retention has passed. Where that is
  /// short, and has passed too, it is forgotten now.
  /// - Returns: what would have been popped then.
  @inline(__always)
  private mutating func close(_ slot: Int, watermark_ms: Int64, _ due: TimerQueue.Due) -> Int64? {
    let until = until_ms(slot, watermark_ms)
    if forgetsAtOnce, !hasSchedules, !ties[slot].isKeptLonger {
      let order = TimerQueue.Entry(deadline_ms: until.forgotten, head: ties[slot].head, slot: slot).order
      if due.covers(order) {
        forget(slot)
        return order
      }
    }
    schedule(slot, at: min(until.next, until.forgotten))
    return nil
  }

  /// A bucket has been opened: nobody could look ahead to where the index has its first ties.
  @inline(never)
  private mutating func bringFirst() {
    for ahead in 0..<8 { prefetchIndex(ahead) }
  }

  /// Brings close the place in the index of a tie that will most likely be forgotten, now or right after it has been
  /// closed.
  @inline(__always)
  private mutating func prefetchIndex(_ distance: Int) {
    guard let slot = timers.upcoming(distance), forgetsAtOnce || ties[slot].has(Tie.Flag.closed) else { return }
    if index.near.isExact {
      index.near.prefetch(ties[slot].head)
    } else {
      index.prefetch(Fingerprint(key(slot)))
    }
  }

  /// What lies between the ends of a body, for those that are judged.
  @inline(__always)
  private func prefetchBody(_ distance: Int) {
    guard let slot = timers.upcoming(distance), ties[slot].has(Tie.Flag.dirty) else { return }
    tieout_prefetch(store.base + (Int(ties[slot].body) &* 8 &+ 64))
  }

  @inline(__always)
  private mutating func fire(_ slot: Int, at time_ms: Int64, watermark_ms: Int64, outputs: inout MatchOutputs) {
    if isAttentive, isRevising { reviseNow(slot) }
    let tie = ties[slot]
    stamp(tie.head)
    if tie.isEmpty {
      // Only people have spoken of it, and their actions have waited long enough for a record.
      counters.actions.unknown += decisions[UInt32(slot)]?.entries.reduce(0) { $0 + $1.seen.count } ?? 0
      forget(slot)
      return
    }
    if tie.has(Tie.Flag.closed), !tie.has(Tie.Flag.dirty) {
      // An age is reached once the watermark has passed it, as the time of a timer is: each has a timer of its own.
      let isOlder = hasAges && tie.has(Tie.Flag.open) && nextAge_ms(slot, time_ms) < watermark_ms
      if isOlder || hasSchedules && tie.has(Tie.Flag.scheduled) {
        evaluate(slot, watermark_ms: watermark_ms, isFinal: true, outputs: &outputs)
      }
      let until = until_ms(slot, watermark_ms)
      if until.forgotten < watermark_ms {
        if !isFinishing { forget(slot) }
      } else {
        schedule(slot, at: min(until.next, until.forgotten))
      }
      return
    }
    let isFinal = tie.deadline_ms < watermark_ms
    if !isFinal, !judgesParts, !isFinishing {
      schedule(slot, at: tie.deadline_ms)
      return
    }
    if !isFinal || tie.has(Tie.Flag.closed), tie.quiet_ms >= watermark_ms, !isOverdue(slot, watermark_ms) {
      schedule(slot, at: tie.quiet_ms)
      return
    }
    evaluate(slot, watermark_ms: watermark_ms, isFinal: isFinal, outputs: &outputs)
    scheduleNext(slot, watermark_ms: watermark_ms)
  }

  /// Whether a part of an open tie is past its own deadline for the first time.
  private func isOverdue(_ slot: Int, _ watermark_ms: Int64) -> Bool {
    guard !ties[slot].has(Tie.Flag.closed) else { return false }
    var facts = facts(slot)
    while facts.next() {
      if Tie.clamped(facts.time_ms.addingSaturating(horizon_ms)) < watermark_ms { return true }
    }
    return false
  }

  @inline(__always)
  private mutating func scheduleNext(_ slot: Int, watermark_ms: Int64) {
    let tie = ties[slot]
    if tie.deadline_ms < watermark_ms {
      guard !isFinishing else { return }
      let until = until_ms(slot, watermark_ms)
      schedule(slot, at: min(until.next, until.forgotten))
      return
    }
    if tie.breaks == 0, tie.has(Tie.Flag.agreed), !tie.has(Tie.Flag.dirty) {
      // It agrees as a whole: until something comes, no part of it can be in want.
      schedule(slot, at: tie.deadline_ms)
      return
    }
    var next = tie.deadline_ms
    var facts = facts(slot)
    while facts.next() {
      let own = Tie.clamped(facts.time_ms.addingSaturating(horizon_ms))
      if own >= watermark_ms, own < next { next = own }
    }
    schedule(slot, at: next)
  }

  /// When a closed tie is to be looked at next, if at all, and when it is forgotten. Mutating, since the call of a method
  /// that is not would copy the matcher.
  @inline(__always)
  private mutating func until_ms(_ slot: Int, _ watermark_ms: Int64) -> (next: Int64, forgotten: Int64) {
    let tie = ties[slot]
    let kept = tie.isKeptLonger ? policy.openRetention_ms : policy.retention_ms
    let until = Tie.clamped(tie.deadline_ms.addingSaturating(kept))
    let isLater = hasSchedules || hasAges && tie.has(Tie.Flag.open)
    return isLater ? later_ms(slot, watermark_ms, until, kept) : (until, until)
  }

  @inline(never)
  private mutating func later_ms(
    _ slot: Int, _ watermark_ms: Int64, _ until: Int64, _ kept: Int64
  ) -> (next: Int64, forgotten: Int64) {
    // A time that has passed is no time to be looked at.
    var (next, forgotten) = (until < watermark_ms ? .max : until, until)
    if hasAges, ties[slot].has(Tie.Flag.open) { next = min(next, nextAge_ms(slot, watermark_ms)) }
    if hasSchedules {
      let releases = releaseTimes_ms(slot, watermark_ms)
      next = min(next, Tie.clamped(releases.next))
      forgotten = max(forgotten, Tie.clamped(releases.last.addingSaturating(kept)))
    }
    return (next, forgotten)
  }

  /// When the breaks of a tie next reach an age that makes them more severe, from a time on. Mutating, as `until_ms`.
  private mutating func nextAge_ms(_ slot: Int, _ watermark_ms: Int64) -> Int64 {
    var first = Int64.max
    var facts = facts(slot)
    while facts.next() {
      if facts.flags & Fact.Flag.delete == 0 { first = min(first, facts.time_ms) }
    }
    let due_ms = first.addingSaturating(horizon_ms)
    for age_ms in policy.checks!.severityAges_ms {
      let at = due_ms.addingSaturating(age_ms)
      if at >= watermark_ms { return at }
    }
    return .max
  }

  /// The time by which age counts: the watermark, or, where that has been set to the end of all times, the latest event.
  func ageClock(_ watermark_ms: Int64) -> Int64 {
    if watermark_ms < Tie.lastTime_ms { return watermark_ms }
    return watermarks.partitions.map(\.largest_ms).max() ?? .min
  }

  private mutating func forget(_ slot: Int) {
    let isEmpty = ties[slot].isEmpty
    var record = ties[slot].breaks
    while record != 0 {
      let kept = store.breakRecord(record)
      store.free(record, granules: Int(kept.granules))
      record = kept.next
    }
    index.remove(Fingerprint(key(slot)), slot: slot)
    let length = bodyLength(slot)
    if ties[slot].bodyLength == Tie.isLong { longBodies[UInt32(slot)] = nil }
    if ties[slot].has(Tie.Flag.decided) { decisions[UInt32(slot)] = nil }
    if !longVoices.isEmpty { longVoices[UInt32(slot)] = nil }
    if !cancelledDocuments.isEmpty { cancelledDocuments[UInt32(slot)] = nil }
    store.free(ties[slot].body, granules: bodyGranules(slot, length))
    ties[slot].flags = 0
    if sourceTotals != nil { sourceTotals!.clear(slot) }
    freeSlots.add(slot)
    if isEmpty {
      // It never was one.
      counters.tiesOpened -= 1
    } else {
      counters.tiesForgotten += 1
    }
  }
}
