import Domain

/// A fact on its way through deduplication.
struct GatheredFact {
  var idHash: UInt64
  var time_ms: Int64
  var offset: Int64
  /// `Fact.contentHash`, where another fact has the same id; else 0.
  var payloadHash: UInt64 = 0
  /// Its place in `read`.
  var place: Int
  var isPosting: Bool
  var isChange: Bool
  var isRejected: Bool
  var source: UInt16
  var isDropped = false
}

/// The breaks that a tie goes on with, the last of them in front, and behind them all what they put into the aggregates.
private struct KeptBreaks {
  private(set) var first: StoreRef = 0
  private var last: StoreRef = 0
  private(set) var isOpen = false
  /// Parts of those that are open, where the aggregates want them.
  private(set) var openParts: [Finding.Part] = []
  let isListed: Bool

  init(isListed: Bool) { self.isListed = isListed }

  mutating func add(
    _ record: BreakRecord, _ parts: [Finding.Part], isOpen: Bool = false, _ store: inout RecordStore
  ) {
    if isOpen {
      self.isOpen = true
      if isListed { openParts += parts }
    }
    var record = record
    record.next = first
    first = store.appendBreak(record, parts: parts)
    if last == 0 { last = first }
  }

  mutating func add(_ charges: [ChargeList], _ store: inout RecordStore) {
    var ref: StoreRef = 0
    for list in charges { ref = store.appendCharges(list, next: ref) }
    if last == 0 {
      first = ref
    } else {
      store.pointer(last).assumingMemoryBound(to: BreakRecord.self).pointee.next = ref
    }
  }
}

extension Matcher {
  /// Reads the facts of a tie, and fills the judge with what counts.
  mutating func gather(_ slot: Int) {
    sift(slot)
    fillJudge()
    placePostings()
  }

  /// Reads the facts of a tie, drops what was delivered twice or replaced by a newer image, and marks conflicting re-uses
  /// of an event id.
  @inline(never)
  mutating func sift(_ slot: Int) {
    texts.reset()
    gathered.clear()
    read.clear()
    // Read from a copy: breaks are written to the store while the judge's views are in use.
    let length = bodyLength(slot)
    let copy = texts.take(length + RecordStore.slackBytes)
    copy.update(from: bodyStart(slot), count: length + RecordStore.slackBytes)
    var facts = Matcher.facts(copy, length: length, isValued: ties[slot].has(Tie.Flag.valued))
    while facts.next() {
      let place = read.count
      read.append(Matcher.blankFact)
      read[place].fill(facts, number: Int32(place), texts: &texts)
      gathered.append(
        GatheredFact(
          idHash: read[place].idHash, time_ms: read[place].time_ms, offset: read[place].offset, place: place,
          isPosting: read[place].isPosting, isChange: read[place].isChange,
          isRejected: read[place].flags & Fact.Flag.rejected != 0, source: read[place].source))
    }
    if gathered.count > 1 {
      gathered.sort { $0.idHash < $1.idHash }
      let isRepeated = (1..<gathered.count).contains { gathered[$0].idHash == gathered[$0 - 1].idHash }
      if isRepeated { sortRepeated() }
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
  }

  private static let blankFact = Fact()

  /// Facts with one id are told apart by what is in them.
  @inline(never)
  private mutating func sortRepeated() {
    for at in gathered.indices { gathered[at].payloadHash = read[gathered[at].place].contentHash }
    gathered.sort {
      if $0.idHash != $1.idHash { return $0.idHash < $1.idHash }
      if $0.time_ms != $1.time_ms { return $0.time_ms < $1.time_ms }
      if $0.offset != $1.offset { return $0.offset < $1.offset }
      if $0.payloadHash != $1.payloadHash { return $0.payloadHash < $1.payloadHash }
      return $0.source < $1.source
    }
  }

  /// Decides which of the facts with one id counts. Returns whether the body must be written anew.
  private mutating func resolve(_ group: Range<Int>, _ slot: Int) -> Bool {
    var hasChanged = false
    let isChangeFeed = group.contains { gathered[$0].isChange }
    if isChangeFeed || gathered[group.lowerBound].isPosting {
      let (winner, isRepeat) = newest(group, isChangeFeed: isChangeFeed)
      // An event that another one had made evidence, and that counts now.
      _ = reject(winner, slot, false)
      for at in group where at != winner { drop(at, slot, isRepeat: isRepeat[at - group.lowerBound]) }
      return true
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

  /// Which fact of a group counts, and which of the others said the same as the one beside which they were dropped, as if
  /// each had been looked at when it came: what is counted must not depend on when the tie is.
  ///
  /// Bodies hold facts as they came. Events without a change beside them are the same again or evidence, as `resolve` has it.
  private func newest(_ group: Range<Int>, isChangeFeed: Bool) -> (winner: Int, isRepeat: [Bool]) {
    let source = Int(gathered[group.lowerBound].source)
    let isPositioned = source < policy.positioned.count && policy.positioned[source]
    func isNewer(_ at: Int, than other: Int) -> Bool {
      let (a, b) = (gathered[at], gathered[other])
      if isChangeFeed { return isNewerImage(a, than: b, isPositioned: isPositioned) }
      // The last counts. Where the time says nothing, a fixed order by content settles the rest.
      if a.time_ms != b.time_ms { return a.time_ms > b.time_ms }
      return a.payloadHash != b.payloadHash ? a.payloadHash > b.payloadHash : isLess(a.place, b.place)
    }
    func isSame(_ at: Int, _ other: Int) -> Bool { gathered[at].payloadHash == gathered[other].payloadHash }
    var isRepeat = [Bool](repeating: false, count: group.count)
    let arrived = group.sorted { gathered[$0].place < gathered[$1].place }
    let gathers = !gathered[arrived[0]].isPosting
    var standing = [arrived[0]]
    for at in arrived.dropFirst() {
      if gathers, !gathered[at].isChange, !standing.contains(where: { gathered[$0].isChange }) {
        if standing.contains(where: { isSame($0, at) }) {
          isRepeat[at - group.lowerBound] = true
        } else {
          standing.append(at)
        }
        continue
      }
      standing.append(at)
      var winner = standing[0]
      for other in standing.dropFirst() where isNewer(other, than: winner) { winner = other }
      for other in standing where other != winner { isRepeat[other - group.lowerBound] = isSame(other, winner) }
      standing = [winner]
    }
    var winner = arrived[0]
    for at in arrived.dropFirst() where isNewer(at, than: winner) { winner = at }
    return (winner, isRepeat)
  }

  /// The newest image of a row: of the latest time, where that is when the row changed, and of the same time the last of
  /// the feed. Changes know their place in the feed besides that in the body, since some come again. A creation is newer
  /// only where the row had been deleted: otherwise it comes again.
  /// - Parameters:
  ///   - image: Came after the other.
  ///   - isPositioned: The time is none of the row's changes.
  private func isNewerImage(_ image: GatheredFact, than last: GatheredFact, isPositioned: Bool) -> Bool {
    if !isPositioned, image.time_ms != last.time_ms { return image.time_ms > last.time_ms }
    return switch (image.isChange, last.isChange) {
    case (true, true): image.offset >= last.offset
    case (true, false): true
    case (false, true): read[last.place].flags & Fact.Flag.delete != 0
    case (false, false): image.payloadHash > last.payloadHash
    }
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
    if !cancelledDocuments.isEmpty, !isCancelledOut,
      withUnsafePointer(to: read[place], { isCancellation($0) || isOfCancelled($0, slot) })
    {
      // The body is still as it was.
      aggregateCancelled(slot, sign: -1)
      isCancelledOut = true
    }
    withUnsafePointer(to: read[place]) { _ = account($0, sign: sign) }
  }

  private mutating func fillJudge() {
    judge.reset()
    for entry in gathered where !entry.isDropped {
      let flags = read[entry.place].flags
      if flags & Fact.Flag.rejected != 0 {
        judge.rejected.append(read[entry.place])
      } else if flags & Fact.Flag.delete != 0 {
        continue
      } else if entry.isPosting {
        judge.postings.append(read[entry.place])
      } else {
        judge.events.append(read[entry.place])
      }
    }
    // By time, then by content: the order must not depend on the order of arrival.
    func precedes(_ a: Fact, _ b: Fact) -> Bool {
      if a.time_ms != b.time_ms { return a.time_ms < b.time_ms }
      if !a.journal.elementsEqual(b.journal) { return a.journal.buffer.lexicographicallyPrecedes(b.journal.buffer) }
      if a.code != b.code { return a.code < b.code }
      let (content, other) = (a.contentHash, b.contentHash)
      return content != other ? content < other : a.idHash < b.idHash
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
    judge.writeOffs = ties[slot].has(Tie.Flag.decided) ? decisions[UInt32(slot)]?.writeOffs ?? [] : []
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
    replaceValue(slot, judge.orderValue)
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
    let isAgreed = !judge.hasOpenFindings
    if !isReporting, !isAgreed { return }
    var context = EvidenceContext(
      firstEventTime_ms: judge.firstTime_ms, deadline_ms: ties[slot].deadline_ms,
      watermark_ms: min(watermark_ms, max(ties[slot].deadline_ms, ties[slot].quiet_ms)))
    // Not from how far time has leapt, which the age of severity counts.
    let opened_s = UInt32(clamping: max(1_000, context.watermark_ms) / 1_000)
    if hasAges, isDecided {
      // Where time goes on, it is the watermark; the call copies the matcher.
      let clock_ms = watermark_ms < Tie.lastTime_ms ? watermark_ms : ageClock(watermark_ms)
      context.setAge(at: clock_ms, horizon_ms: horizon_ms, ages_ms: policy.severityAges_ms)
    }
    if ties[slot].breaks != 0, isTold(slot, context) { return }
    var known: [(record: BreakRecord, parts: [Finding.Part])] = []
    var voids: BreakRecord?
    var voidParts: [Finding.Part] = []
    var charged: [ChargeList] = []
    var ref = ties[slot].breaks
    while ref != 0 {
      let record = store.breakRecord(ref)
      switch record.type {
      case BreakRecord.chargeType: charged.append(store.charges(ref))
      case BreakRecord.voidType: (voids, voidParts) = (record, store.breakParts(ref))
      default: known.append((record, store.breakParts(ref)))
      }
      store.free(ref, granules: Int(record.granules))
      ref = record.next
    }
    if known.count > 1 {
      known.sort {
        ($0.record.type, $0.record.role, $0.record.idCurrency)
          < ($1.record.type, $1.record.role, $1.record.idCurrency)
      }
    }
    var evidence: Evidence?
    let chargesDisputes = chargesDisputes
    var kept = KeptBreaks(isListed: chargesDisputes)
    var decided = ties[slot].has(Tie.Flag.decided) ? decisions[UInt32(slot)]! : TieDecisions()
    for place in judge.findings.indices {
      let finding = judge.findings[place]
      let type = UInt8(finding.type.index)
      let role = finding.role.rawValue
      let idCurrency = finding.currency == judge.mainCurrency ? Currency.none : finding.currency
      var old: BreakRecord?
      let at = known.firstIndex {
        $0.record.type == type && $0.record.role == role && $0.record.idCurrency == idCurrency.rawValue
      }
      if let at {
        let found = known.remove(at: at)
        withdraw(found.record, found.parts, slot)
        old = found.record
      }
      let entry = decided.firstIndex(type, role, idCurrency.rawValue)
      let before = entry.flatMap { decided.entries[$0].own } ?? old?.stateValue
      let own = BreakState.found(before, isAccepted: finding.isAccepted)
      var state = own
      if let entry {
        decided.entries[entry].own = own
        state = decided.entries[entry].state(of: finding, own: own).0
      }
      let severity = context.severity(finding, policy.severityAmounts_u, policy.rates)
      var content = finding.contentHash(state, isDecided: isDecided, judge.quantities)
      if let entry, let decision = decided.entries[entry].state(of: finding, own: own).1 {
        content = mixed(content, TieDecisions.hash(decision.action)) | 1
      }
      if hasAges, state.isOpen { content = mixed(content, UInt64(severity.index)) | 1 }
      var record = BreakRecord(
        next: 0, granules: 0, type: type, role: role, currency: finding.currency.rawValue,
        idCurrency: idCurrency.rawValue,
        state: UInt8(state.index), isProvisional: !isDecided, partCount: 0, revision: old?.revision ?? 0,
        content: content)
      if quality != nil || sourceTotals != nil, state.isOpen {
        let known_s = old.map { $0.stateValue.isOpen ? $0.opened_s : 0 } ?? 0
        record.opened_s = known_s != 0 ? known_s : opened_s
      }
      if old == nil || old!.content != content {
        record.revision += 1
        if evidence == nil {
          let order = key(slot)
          evidence = Evidence(judge, order: order, dimensionCount: dimensionCount)
        }
        outputs.breaks.append(
          context.make(
            finding, evidence!, state: state, isProvisional: !isDecided, revision: Int(record.revision),
            severity: severity, idCurrency: idCurrency))
        if let entry {
          outputs.breaks[outputs.breaks.count - 1].decision =
            decided.entries[entry].state(of: finding, own: own).1
        }
        counters.revisions[Int(type)] += 1
      }
      let parts = Finding.bounded(tracksPeriods ? located(finding.parts) : finding.parts)
      deposit(record, parts, slot)
      kept.add(record, parts, isOpen: state.isOpen, &store)
    }
    for old in known {
      withdraw(old.record, old.parts, slot)
      let entry = decided.firstIndex(old.record.type, old.record.role, old.record.idCurrency)
      let before = entry.flatMap { decided.entries[$0].own } ?? old.record.stateValue
      var record = old.record
      if before.isOpen || before == .accepted {
        let state: BreakState = before.isOpen && isAgreed ? .autoCleared : .closed
        if let entry { decided.entries[entry].own = state }
        let type = BreakType.allCases[Int(record.type)]
        record.state = UInt8(state.index)
        record.isProvisional = !isDecided
        record.revision += 1
        record.opened_s = 0
        record.content = 0
        if evidence == nil {
          let order = key(slot)
          evidence = Evidence(judge, order: order, dimensionCount: dimensionCount)
        }
        outputs.breaks.append(
          context.make(
            evidence!.cleared(type, AccountRole(rawValue: record.role)!, Currency(rawValue: record.currency)),
            evidence!, state: state, isProvisional: !isDecided, revision: Int(record.revision), severity: .low,
            idCurrency: Currency(rawValue: record.idCurrency)))
        counters.revisions[Int(record.type)] += 1
      }
      kept.add(record, [], &store)
    }
    if !decided.entries.isEmpty { decisions[UInt32(slot)] = decided }
    ties[slot].set(Tie.Flag.open, kept.isOpen)
    if chargesDisputes {
      let charges = kept.isOpen ? judge.charges(of: kept.openParts, periods) : []
      charged.sort { $0.dimensions.lexicographicallyPrecedes($1.dimensions) }
      charge(charges, insteadOf: charged)
      kept.add(charges, &store)
    }
    if let voids { kept.add(voids, voidParts, &store) }
    ties[slot].breaks = kept.first
  }

  /// Whether the findings are those that have been told, and nothing of them has changed: so it is when breaks reach an
  /// age that makes none of them more severe. Where people have decided, or more is kept of the breaks, that is not asked.
  private mutating func isTold(_ slot: Int, _ context: EvidenceContext) -> Bool {
    guard !ties[slot].has(Tie.Flag.decided), aggregates == nil, !tracksDisputes, !tracksPeriods else { return false }
    // The last one stands in front.
    var (place, ref) = (judge.findings.count, ties[slot].breaks)
    while ref != 0 {
      let record = store.breakRecord(ref)
      place -= 1
      guard place >= 0 else { return false }
      let finding = judge.findings[place]
      let idCurrency = finding.currency == judge.mainCurrency ? Currency.none : finding.currency
      guard record.type == UInt8(finding.type.index), record.role == finding.role.rawValue,
        record.currency == finding.currency.rawValue, record.idCurrency == idCurrency.rawValue
      else { return false }
      let state = BreakState.found(record.stateValue, isAccepted: finding.isAccepted)
      var content = finding.contentHash(state, isDecided: judge.isDecided, judge.quantities)
      if state.isOpen {
        if quality != nil || sourceTotals != nil, record.opened_s == 0 { return false }
        if hasAges {
          let severity = context.severity(finding, policy.severityAmounts_u, policy.rates)
          content = mixed(content, UInt64(severity.index)) | 1
        }
      }
      guard record.content == content else { return false }
      ref = record.next
    }
    return place == 0
  }

  private mutating func deposit(_ record: BreakRecord, _ parts: [Finding.Part], _ slot: Int) {
    tally(record, parts, slot, sign: 1)
  }
  private mutating func withdraw(_ record: BreakRecord, _ parts: [Finding.Part], _ slot: Int) {
    tally(record, parts, slot, sign: -1)
  }

  /// Counts a break and the difference that it explains under its state, or takes both back.
  private mutating func tally(_ record: BreakRecord, _ parts: [Finding.Part], _ slot: Int, sign: Int) {
    let state = record.stateValue
    guard state.isOpen || state.isSettled else { return }
    if state.isOpen {
      counters.open[Int(record.type)] += sign
      countOpen(record, parts, slot, sign: sign)
    } else {
      counters.accepted[Int(record.type)] += sign
    }
    for part in parts {
      add(Int128(sign) * Int128(part.delta), state.isOpen ? .open : .accepted, part, slot)
    }
  }

  /// Adds an amount of the currency, role and period of a part of a tie to the totals.
  private mutating func add(_ amount: Int128, _ column: ControlTotals.Column, _ part: Finding.Part, _ slot: Int) {
    settledTotals.add(amount, column, part.currency, part.role)
    if sourceTotals != nil { sourceTotals!.add(amount, column, part.currency, part.role, slot) }
    if tracksPeriods { periodTotals.add(amount, column, part.currency, part.period, part.role.rawValue) }
  }
}
