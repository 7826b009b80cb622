import Domain

/// A fact on its way through deduplication.
struct GatheredFact {
  var idHash: UInt64
  var time_ms: Int64
  var offset: Int64
  var payloadHash: UInt64
  /// Its place in `read`.
  var place: Int
  var isPosting: Bool
  var isChange: Bool
  var isRejected: Bool
  var source: UInt16
  var isDropped = false
}

extension Matcher {
  /// Reads the facts of a tie, drops what was delivered twice or replaced by a newer image, marks conflicting
  /// re-uses of an event id, and fills the judge with what counts.
  mutating func gather(_ slot: Int) {
    texts.reset()
    gathered.removeAll(keepingCapacity: true)
    read.removeAll(keepingCapacity: true)
    // Read from a copy: breaks are written to the store while the judge's views are in use.
    let length = bodyLength(slot)
    let copy = texts.take(length + RecordStore.slackBytes)
    copy.update(from: bodyStart(slot), count: length + RecordStore.slackBytes)
    var facts = Matcher.facts(copy, length: length, isValued: ties[slot].has(Tie.Flag.valued))
    while facts.next() {
      let fact = Fact(facts, number: Int32(read.count), texts: &texts)
      gathered.append(
        GatheredFact(
          idHash: fact.idHash, time_ms: fact.time_ms, offset: fact.offset, payloadHash: fact.payloadHash,
          place: read.count, isPosting: fact.isPosting, isChange: fact.isChange,
          isRejected: fact.flags & Fact.Flag.rejected != 0, source: fact.source))
      read.append(fact)
    }
    if gathered.count > 1 {
      gathered.sort {
        if $0.idHash != $1.idHash { return $0.idHash < $1.idHash }
        if $0.time_ms != $1.time_ms { return $0.time_ms < $1.time_ms }
        if $0.offset != $1.offset { return $0.offset < $1.offset }
        if $0.payloadHash != $1.payloadHash { return $0.payloadHash < $1.payloadHash }
        return $0.source < $1.source
      }
    }
    // Views of the copy, as all that is read.
    if inheritedDimensions != 0 { listenToRead { _ in false } }
    var hasChanged = false
    var start = 0
    while start < gathered.count {
      var end = start + 1
      while end < gathered.count, gathered[end].idHash == gathered[start].idHash { end += 1 }
      if end - start > 1 { hasChanged = resolve(start..<end, slot) || hasChanged }
      start = end
    }
    if hasChanged {
      var isDropped = [Bool](repeating: false, count: read.count)
      for fact in gathered where fact.isDropped { isDropped[fact.place] = true }
      if inheritedDimensions != 0 { moveRead { isDropped[$0] } }
      let value = value(slot)
      let isValued = ties[slot].has(Tie.Flag.valued)
      rewriteBody(slot, read) { !isDropped[$0] }
      if isValued { setValue(slot, value) }
      if sourceTotals != nil { leaveSources(slot) }
    }
    if isCancelledOut {
      aggregateCancelled(slot, sign: 1)
      isCancelledOut = false
    }
    fillJudge()
    placePostings()
  }

  /// Decides which of the facts with one id counts. Returns whether the body must be written anew.
  private mutating func resolve(_ group: Range<Int>, _ slot: Int) -> Bool {
    var hasChanged = false
    let isChangeFeed = group.contains { gathered[$0].isChange }
    if isChangeFeed || gathered[group.lowerBound].isPosting {
      // The newest image of a row counts. Where the time says nothing, a fixed order by content settles the rest.
      var winner = group.lowerBound
      for at in group where at != winner {
        let (a, b) = (gathered[at], gathered[winner])
        let isNewer =
          a.time_ms != b.time_ms
          ? a.time_ms > b.time_ms
          : isChangeFeed && a.offset != b.offset
            ? a.offset > b.offset
            : a.payloadHash != b.payloadHash ? a.payloadHash > b.payloadHash : isLess(a.place, b.place)
        if isNewer { winner = at }
      }
      for at in group where at != winner {
        drop(at, slot, isRepeat: gathered[at].payloadHash == gathered[winner].payloadHash)
        hasChanged = true
      }
      return hasChanged
    }
    // Order events: the first counts, the same again is dropped, other content under the same id is evidence.
    var winner = group.lowerBound
    for at in group {
      let (a, b) = (gathered[at], gathered[winner])
      let isFirst =
        a.time_ms != b.time_ms
        ? a.time_ms < b.time_ms
        : a.payloadHash != b.payloadHash ? a.payloadHash < b.payloadHash : isLess(a.place, b.place)
      if isFirst { winner = at }
    }
    hasChanged = reject(winner, slot, false) || hasChanged
    for at in group where at != winner {
      let isRepeat =
        gathered[at].payloadHash == gathered[winner].payloadHash
        || group.contains {
          $0 < at && $0 != winner && !gathered[$0].isDropped && gathered[$0].payloadHash == gathered[at].payloadHash
        }
      if isRepeat {
        drop(at, slot, isRepeat: true)
        hasChanged = true
      } else {
        hasChanged = reject(at, slot, true) || hasChanged
      }
    }
    return hasChanged
  }

  /// Of two facts that say the same: what else the records tell, dimensions above all, and last which source they are of,
  /// settles which one counts, so that the order of arrival does not.
  private func isLess(_ place: Int, _ other: Int) -> Bool {
    let (a, b) = (read[place], read[other])
    if a.lineCount != b.lineCount { return a.lineCount < b.lineCount }
    if !a.dimensionBytes.elementsEqual(b.dimensionBytes) {
      return a.dimensionBytes.buffer.lexicographicallyPrecedes(b.dimensionBytes.buffer)
    }
    return a.source < b.source
  }

  /// - Parameter isRepeat: The same came again; false for an older image of a row.
  private mutating func drop(_ at: Int, _ slot: Int, isRepeat: Bool) {
    if isRepeat { counters.duplicates += 1 } else { counters.superseded += 1 }
    if quality != nil { countDropped(gathered[at].place, slot, isRepeat: isRepeat) }
    if !gathered[at].isRejected { recount(gathered[at].place, slot, sign: -1) }
    gathered[at].isDropped = true
  }

  private mutating func reject(_ at: Int, _ slot: Int, _ isRejected: Bool) -> Bool {
    guard gathered[at].isRejected != isRejected else { return false }
    let place = gathered[at].place
    recount(place, slot, sign: isRejected ? -1 : 1)
    gathered[at].isRejected = isRejected
    read[place].flags ^= Fact.Flag.rejected
    return true
  }

  private mutating func recount(_ place: Int, _ slot: Int, sign: Int64) {
    if quality != nil { recountValue(place, slot, sign: sign) }
    if sourceTotals != nil { recountSource(place, slot, sign: sign) }
    if tracksCancelled, !isCancelledOut, withUnsafePointer(to: read[place], { isOfInvoices($0) }) {
      // The body is still as it was.
      aggregateCancelled(slot, sign: -1)
      isCancelledOut = true
    }
    withUnsafePointer(to: read[place]) { _ = account($0, sign: sign) }
  }

  private mutating func fillJudge() {
    judge.reset()
    for entry in gathered where !entry.isDropped {
      let fact = read[entry.place]
      if fact.flags & Fact.Flag.rejected != 0 {
        judge.rejected.append(fact)
      } else if fact.flags & Fact.Flag.delete != 0 {
        continue
      } else if fact.isPosting {
        judge.postings.append(fact)
      } else {
        judge.events.append(fact)
      }
    }
    // By time, then by content: the order must not depend on the order of arrival.
    func precedes(_ a: Fact, _ b: Fact) -> Bool {
      if a.time_ms != b.time_ms { return a.time_ms < b.time_ms }
      if !a.journal.elementsEqual(b.journal) { return a.journal.buffer.lexicographicallyPrecedes(b.journal.buffer) }
      if a.code != b.code { return a.code < b.code }
      if a.payloadHash != b.payloadHash { return a.payloadHash < b.payloadHash }
      return a.idHash < b.idHash
    }
    if judge.events.count > 1 { judge.events.sort(by: precedes) }
    if judge.postings.count > 1 { judge.postings.sort(by: precedes) }
  }

  /// Judges a tie and sends the revisions of what has changed.
  @inline(__always)
  mutating func evaluate(_ slot: Int, watermark_ms: Int64, isFinal: Bool, outputs: inout MatchOutputs) {
    let tie = ties[slot]
    // Agreed before its deadline, and nothing came since: it only has to be counted.
    if tie.breaks == 0, tie.has(Tie.Flag.agreed), !tie.has(Tie.Flag.dirty) {
      if isFinal { count(slot, isTiedOut: true) }
      return
    }
    counters.judgements += 1
    if tie.breaks == 0, judgesQuickly, let value = agreedValue(slot) {
      ties[slot].set(Tie.Flag.dirty, !isFinal && tie.has(Tie.Flag.closed))
      ties[slot].set(Tie.Flag.agreed)
      replaceValue(slot, value)
      if isFinal { count(slot, isTiedOut: true) }
      return
    }
    judgeInFull(slot, watermark_ms: watermark_ms, isFinal: isFinal, outputs: &outputs)
  }

  @inline(never)
  private mutating func judgeInFull(
    _ slot: Int, watermark_ms: Int64, isFinal: Bool, outputs: inout MatchOutputs
  ) {
    gather(slot)
    if hasSchedules { judge.clock_ms = ageClock(watermark_ms) }
    judge.periods = tracksPeriods ? periods : nil
    judge.judge(watermark_ms: watermark_ms, isFinal: isFinal)
    // A closed tie whose deadline has moved on with a late record is judged once more when that has passed.
    ties[slot].set(Tie.Flag.dirty, !isFinal && ties[slot].has(Tie.Flag.closed))
    ties[slot].set(Tie.Flag.agreed, judge.isWhollyAgreed)
    if hasSchedules { ties[slot].set(Tie.Flag.scheduled, judge.hasPendingRelease) }
    if !judge.allVoided.isEmpty || ties[slot].breaks != 0 { updateVoids(slot) }
    if !judge.findings.isEmpty || ties[slot].breaks != 0 {
      reconcileBreaks(slot, watermark_ms: watermark_ms, outputs: &outputs)
    }
    replaceValue(slot, judgedValue)
    if isFinal {
      count(slot, isTiedOut: !ties[slot].has(Tie.Flag.open))
    }
  }

  // MARK: - Closed ties

  /// Roles whose size is that of a tie, in the order in which they are asked.
  @inline(__always)
  static func valueRole(_ place: Int) -> AccountRole {
    switch place {
    case 0: .receivable
    case 1: .revenue
    case 2: .cash
    case 3: .deferred
    default: .cogs
    }
  }
  static let valueRoleCount = 5
  /// The same, a bit each.
  @inline(__always)
  static var valueRoles: UInt32 {
    var roles: UInt32 = 0
    for place in 0..<valueRoleCount { roles |= 1 &<< UInt32(valueRole(place).rawValue) }
    return roles
  }

  private var judgedValue: TieValue {
    var size: Int128 = 0
    for place in 0..<Matcher.valueRoleCount where size == 0 {
      let role = Matcher.valueRole(place)
      for (at, currency) in judge.currencies.enumerated() where currency == judge.mainCurrency {
        let index = at * AccountRole.count + Int(role.rawValue)
        size = judge.expected[index] != 0 ? judge.expected[index] : judge.posted[index]
      }
    }
    return TieValue(amount: Int64(clamping: size.magnitude), currency: judge.mainCurrency)
  }

  @inline(__always)
  mutating func replaceValue(_ slot: Int, _ value: TieValue) {
    let old = self.value(slot)
    guard old != value else { return }
    let isCounted = ties[slot].has(Tie.Flag.closed)
    let wasTied = ties[slot].has(Tie.Flag.tiedOut)
    if isCounted { countValue(slot, old, sign: -1, isTiedOut: wasTied) }
    setValue(slot, value)
    if isCounted { countValue(slot, value, sign: 1, isTiedOut: wasTied) }
  }

  @inline(__always)
  private mutating func countValue(_ slot: Int, _ value: TieValue, sign: Int64, isTiedOut: Bool) {
    guard value.amount != 0 else { return }
    counters.closedValue.add(sign &* value.amount, value.currency)
    if isTiedOut { counters.tiedOutValue.add(sign &* value.amount, value.currency) }
    if sourceTotals != nil {
      sourceTotals!.addValue(sign &* value.amount, value.currency, isTiedOut: isTiedOut, slot)
    }
  }

  @inline(__always)
  mutating func count(_ slot: Int, isTiedOut: Bool) {
    if !ties[slot].has(Tie.Flag.closed) {
      ties[slot].set(Tie.Flag.closed)
      ties[slot].set(Tie.Flag.tiedOut, isTiedOut)
      counters.tiesClosed += 1
      if isTiedOut { counters.tiesTiedOut += 1 }
      if sourceTotals != nil { sourceTotals!.addOrders(closed: 1, tiedOut: isTiedOut ? 1 : 0, slot) }
      countValue(slot, value(slot), sign: 1, isTiedOut: isTiedOut)
    } else if ties[slot].has(Tie.Flag.tiedOut) != isTiedOut {
      let value = value(slot)
      countValue(slot, value, sign: -1, isTiedOut: !isTiedOut)
      ties[slot].set(Tie.Flag.tiedOut, isTiedOut)
      counters.tiesTiedOut += isTiedOut ? 1 : -1
      if sourceTotals != nil { sourceTotals!.addOrders(closed: 0, tiedOut: isTiedOut ? 1 : -1, slot) }
      countValue(slot, value, sign: 1, isTiedOut: isTiedOut)
    }
  }

  // MARK: - Breaks

  /// Keeps Σ expected in step with what cancellations take back.
  private mutating func updateVoids(_ slot: Int) {
    var previous: StoreRef = 0
    var ref = ties[slot].breaks
    while ref != 0 {
      let record = store.breakRecord(ref)
      if record.type == BreakRecord.voidType { break }
      previous = ref
      ref = record.next
    }
    if ref != 0 {
      let record = store.breakRecord(ref)
      for part in store.breakParts(ref) { add(-Int128(part.delta), .expected, part, slot) }
      unlink(ref, record, after: previous, slot)
    }
    guard !judge.allVoided.isEmpty else { return }
    for part in judge.allVoided { add(Int128(part.delta), .expected, part, slot) }
    let made = store.appendBreak(
      BreakRecord(
        next: ties[slot].breaks, granules: 0, type: BreakRecord.voidType, role: 0, currency: 0, idCurrency: 0, state: 0,
        isProvisional: false, partCount: 0, revision: 0, content: 0), parts: judge.allVoided)
    ties[slot].breaks = made
  }

  mutating func unlink(_ ref: StoreRef, _ record: BreakRecord, after previous: StoreRef, _ slot: Int) {
    if previous == 0 {
      ties[slot].breaks = record.next
    } else {
      store.pointer(previous).assumingMemoryBound(to: BreakRecord.self).pointee.next = record.next
    }
    store.free(ref, granules: Int(record.granules))
  }

  /// Compares the findings with what the tie has reported before, and sends a revision for every difference.
  private mutating func reconcileBreaks(_ slot: Int, watermark_ms: Int64, outputs: inout MatchOutputs) {
    let isDecided = judge.isDecided
    let isReporting = isDecided || policy.reportsProvisional
    let isAgreed = !judge.findings.contains { !$0.isAccepted }
    if !isReporting, !isAgreed { return }
    var known: [(record: BreakRecord, parts: [Finding.Part])] = []
    var voids: (record: BreakRecord, parts: [Finding.Part])?
    var charged: [ChargeList] = []
    var ref = ties[slot].breaks
    while ref != 0 {
      let record = store.breakRecord(ref)
      switch record.type {
      case BreakRecord.chargeType: charged.append(store.charges(ref))
      case BreakRecord.voidType: voids = (record, store.breakParts(ref))
      default: known.append((record, store.breakParts(ref)))
      }
      store.free(ref, granules: Int(record.granules))
      ref = record.next
    }
    known.sort {
      ($0.record.type, $0.record.role, $0.record.idCurrency) < ($1.record.type, $1.record.role, $1.record.idCurrency)
    }
    let order = key(slot).string
    var context = EvidenceContext(judge, order: order, dimensionCount: dimensionCount)
    context.deadline_ms = ties[slot].deadline_ms
    context.watermark_ms = min(watermark_ms, max(ties[slot].deadline_ms, ties[slot].quiet_ms))
    // Not from how far time has leapt, which the age of severity counts.
    let opened_s = UInt32(clamping: max(1_000, context.watermark_ms) / 1_000)
    if hasAges, isDecided {
      context.setAge(
        at: ageClock(watermark_ms), horizon_ms: horizon_ms, ages_ms: policy.checks!.severityAges_ms)
    }
    var kept: [(record: BreakRecord, parts: [Finding.Part])] = []
    var isOpen = false
    var decided = ties[slot].has(Tie.Flag.decided) ? decisions[UInt32(slot)]! : TieDecisions()
    for finding in judge.findings {
      let type = UInt8(finding.type.index)
      let role = finding.role.rawValue
      let idCurrency = finding.currency == judge.mainCurrency ? Currency.none : finding.currency
      let at = known.firstIndex {
        $0.record.type == type && $0.record.role == role && $0.record.idCurrency == idCurrency.rawValue
      }
      let old = at.map { known.remove(at: $0) }
      if let old { withdraw(old, slot) }
      let entry = decided.firstIndex(type, role, idCurrency.rawValue)
      let before = entry.flatMap { decided.entries[$0].own } ?? old?.record.stateValue
      let own: BreakState =
        finding.isAccepted
        ? .accepted : before.map { $0 == .autoCleared || $0 == .closed || $0 == .reopened ? .reopened : .open } ?? .open
      var (state, decision) = (own, BreakDecision?.none)
      if let entry {
        decided.entries[entry].own = own
        (state, decision) = decided.entries[entry].state(of: finding, own: own)
      }
      let severity = context.severity(finding, policy)
      var content = contentHash(finding, state, isDecided)
      if let decision { content = mixed(content, TieDecisions.hash(decision.action)) | 1 }
      if hasAges, state.isOpen { content = mixed(content, UInt64(Severity.allCases.firstIndex(of: severity)!)) | 1 }
      var record = BreakRecord(
        next: 0, granules: 0, type: type, role: role, currency: finding.currency.rawValue,
        idCurrency: idCurrency.rawValue, state: UInt8(BreakState.allCases.firstIndex(of: state)!),
        isProvisional: !isDecided, partCount: 0, revision: old?.record.revision ?? 0, content: content)
      if quality != nil || sourceTotals != nil, state.isOpen {
        let known_s = old.map { $0.record.stateValue.isOpen ? $0.record.opened_s : 0 } ?? 0
        record.opened_s = known_s != 0 ? known_s : opened_s
      }
      if old == nil || old!.record.content != content {
        record.revision += 1
        var made = context.make(
          finding, state: state, isProvisional: !isDecided, revision: Int(record.revision), severity: severity,
          idCurrency: idCurrency)
        made.decision = decision
        outputs.breaks.append(made)
        counters.revisions[Int(type)] += 1
      }
      if state.isOpen { isOpen = true }
      let parts = located(finding.parts)
      deposit((record, parts), slot)
      kept.append((record, parts))
    }
    for old in known {
      withdraw(old, slot)
      let entry = decided.firstIndex(old.record.type, old.record.role, old.record.idCurrency)
      let before = entry.flatMap { decided.entries[$0].own } ?? old.record.stateValue
      var record = old.record
      if before.isOpen || before == .accepted {
        let state: BreakState = before.isOpen && isAgreed ? .autoCleared : .closed
        if let entry { decided.entries[entry].own = state }
        let type = BreakType.allCases[Int(record.type)]
        record.state = UInt8(BreakState.allCases.firstIndex(of: state)!)
        record.isProvisional = !isDecided
        record.revision += 1
        record.opened_s = 0
        record.content = 0
        outputs.breaks.append(
          context.make(
            context.cleared(type, AccountRole(rawValue: record.role)!, Currency(rawValue: record.currency)),
            state: state,
            isProvisional: !isDecided, revision: Int(record.revision), severity: .low,
            idCurrency: Currency(rawValue: record.idCurrency)))
        counters.revisions[Int(record.type)] += 1
      }
      kept.append((record, []))
    }
    if !decided.entries.isEmpty { decisions[UInt32(slot)] = decided }
    ties[slot].set(Tie.Flag.open, isOpen)
    var charges: [ChargeList] = []
    if isOpen, chargesDisputes {
      charges = judge.charges(of: kept.flatMap { $0.record.stateValue.isOpen ? $0.parts : [] }, periods)
    }
    charged.sort { $0.dimensions.lexicographicallyPrecedes($1.dimensions) }
    charge(charges, insteadOf: charged)
    var head: StoreRef = 0
    for list in charges { head = store.appendCharges(list, next: head) }
    if let voids { kept.append(voids) }
    for (record, parts) in kept {
      var linked = record
      linked.next = head
      head = store.appendBreak(linked, parts: parts)
    }
    ties[slot].breaks = head
  }

  private mutating func deposit(_ entry: (record: BreakRecord, parts: [Finding.Part]), _ slot: Int) {
    tally(entry, slot, sign: 1)
  }
  private mutating func withdraw(_ entry: (record: BreakRecord, parts: [Finding.Part]), _ slot: Int) {
    tally(entry, slot, sign: -1)
  }

  /// Counts a break and the difference that it explains under its state, or takes both back.
  private mutating func tally(_ entry: (record: BreakRecord, parts: [Finding.Part]), _ slot: Int, sign: Int) {
    let state = entry.record.stateValue
    guard state.isOpen || state.isSettled else { return }
    if state.isOpen {
      counters.open[Int(entry.record.type)] += sign
      countOpen(entry.record, entry.parts, slot, sign: sign)
    } else {
      counters.accepted[Int(entry.record.type)] += sign
    }
    for part in entry.parts {
      add(Int128(sign) * Int128(part.delta), state.isOpen ? .open : .accepted, part, slot)
    }
  }

  /// Adds an amount of the currency, role and period of a part of a tie to the totals.
  private mutating func add(_ amount: Int128, _ column: ControlTotals.Column, _ part: Finding.Part, _ slot: Int) {
    settledTotals.add(amount, column, part.currency, part.role)
    if sourceTotals != nil { sourceTotals!.add(amount, column, part.currency, part.role, slot) }
    if tracksPeriods { periodTotals.add(amount, column, part.currency, part.period, part.role.rawValue) }
  }

  private func contentHash(_ finding: Finding, _ state: BreakState, _ isDecided: Bool) -> UInt64 {
    var hash = mixed(UInt64(BreakState.allCases.firstIndex(of: state)!), isDecided ? 1 : 2)
    hash = mixed(hash ^ UInt64(bitPattern: finding.expected ?? .min), UInt64(bitPattern: finding.posted ?? .min))
    hash = mixed(hash ^ UInt64(finding.postedCurrency.rawValue), UInt64(finding.currency.rawValue))
    for hint in finding.hints { hash = mixed(hash, UInt64(BreakHint.allCases.firstIndex(of: hint)!)) }
    for part in finding.parts {
      hash = mixed(
        hash ^ UInt64(part.currency.rawValue) << 8 ^ UInt64(part.role.rawValue), UInt64(bitPattern: part.delta))
    }
    for quantity in judge.quantities ?? [] where finding.role == .unbilled || finding.type == .quantityMismatch {
      hash = mixed(hash, UInt64(bitPattern: quantity))
    }
    if let lines = finding.lines { hash = mixed(hash, lines.hash) }
    if let affected = finding.affected {
      hash = mixed(hash ^ UInt64(bitPattern: affected), UInt64(truncatingIfNeeded: finding.size ?? 0))
    }
    return hash | 1
  }
}
