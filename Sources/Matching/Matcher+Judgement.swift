import Domain

/// A fact on its way through deduplication.
struct GatheredFact {
  var idHash: UInt64
  var time_ms: Int64
  var offset: Int64
  var payloadHash: UInt64
  var ref: StoreRef
  var flags: UInt16
  var isPosting: Bool
  var isDropped = false
}

extension Matcher {
  /// Reads the facts of a tie, drops what was delivered twice or replaced by a newer image, marks conflicting
  /// re-uses of an event id, and fills the judge with what counts.
  mutating func gather(_ slot: Int) {
    gathered.removeAll(keepingCapacity: true)
    var ref = ties[slot].facts
    while ref != 0 {
      let header = store.header(ref).pointee
      gathered.append(
        GatheredFact(
          idHash: header.idHash, time_ms: header.time_ms, offset: header.offset, payloadHash: header.payloadHash,
          ref: ref, flags: header.flags, isPosting: header.isPosting))
      ref = header.next
    }
    gathered.sort {
      if $0.idHash != $1.idHash { return $0.idHash < $1.idHash }
      if $0.time_ms != $1.time_ms { return $0.time_ms < $1.time_ms }
      if $0.offset != $1.offset { return $0.offset < $1.offset }
      return $0.payloadHash < $1.payloadHash
    }
    var isAnyDropped = false
    var start = 0
    while start < gathered.count {
      var end = start + 1
      while end < gathered.count, gathered[end].idHash == gathered[start].idHash { end += 1 }
      if end - start > 1 { isAnyDropped = resolve(start..<end) || isAnyDropped }
      start = end
    }
    if isAnyDropped { relink(slot) }
    fillJudge()
  }

  /// Decides which of the facts with one id counts. Returns whether any was dropped.
  private mutating func resolve(_ group: Range<Int>) -> Bool {
    var isAnyDropped = false
    let isChangeFeed = group.contains {
      gathered[$0].flags & (FactHeader.Flag.upsert | FactHeader.Flag.delete) != 0
    }
    if isChangeFeed || gathered[group.lowerBound].isPosting {
      // The newest image of a row counts. Where the time says nothing, equal content makes no difference and a fixed
      // order by content settles the rest.
      var winner = group.lowerBound
      for at in group where at != winner {
        let (a, b) = (gathered[at], gathered[winner])
        let isNewer =
          a.time_ms != b.time_ms
          ? a.time_ms > b.time_ms
          : isChangeFeed && a.offset != b.offset ? a.offset > b.offset : a.payloadHash > b.payloadHash
        if isNewer { winner = at }
      }
      for at in group where at != winner {
        if gathered[at].payloadHash == gathered[winner].payloadHash {
          counters.duplicates += 1
        } else {
          counters.superseded += 1
        }
        drop(at)
        isAnyDropped = true
      }
      return isAnyDropped
    }
    // Order events: the first counts, the same again is dropped, other content under the same id is evidence.
    var winner = group.lowerBound
    for at in group {
      let (a, b) = (gathered[at], gathered[winner])
      if a.time_ms < b.time_ms || a.time_ms == b.time_ms && a.payloadHash < b.payloadHash { winner = at }
    }
    reject(winner, false)
    for at in group where at != winner {
      let isRepeat =
        gathered[at].payloadHash == gathered[winner].payloadHash
        || group.contains {
          $0 < at && $0 != winner && !gathered[$0].isDropped && gathered[$0].payloadHash == gathered[at].payloadHash
        }
      if isRepeat {
        counters.duplicates += 1
        drop(at)
        isAnyDropped = true
      } else {
        reject(at, true)
      }
    }
    return isAnyDropped
  }

  private mutating func drop(_ at: Int) {
    if gathered[at].flags & FactHeader.Flag.rejected == 0 { account(gathered[at].ref, sign: -1) }
    gathered[at].isDropped = true
  }

  private mutating func reject(_ at: Int, _ isRejected: Bool) {
    let was = gathered[at].flags & FactHeader.Flag.rejected != 0
    guard was != isRejected else { return }
    account(gathered[at].ref, sign: isRejected ? -1 : 1)
    gathered[at].flags ^= FactHeader.Flag.rejected
    store.header(gathered[at].ref).pointee.flags = gathered[at].flags
  }

  private mutating func relink(_ slot: Int) {
    var head: StoreRef = 0
    var count: UInt32 = 0
    for fact in gathered {
      if fact.isDropped {
        store.free(fact.ref, granules: Int(store.header(fact.ref).pointee.granules))
      } else {
        store.header(fact.ref).pointee.next = head
        head = fact.ref
        count += 1
      }
    }
    ties[slot].facts = head
    ties[slot].factCount = count
  }

  private mutating func fillJudge() {
    judge.reset()
    for fact in gathered where !fact.isDropped {
      let view = FactView(store, fact.ref)
      if fact.flags & FactHeader.Flag.rejected != 0 {
        judge.rejected.append(view)
      } else if fact.flags & FactHeader.Flag.delete != 0 {
        continue
      } else if fact.isPosting {
        judge.postings.append(view)
      } else {
        judge.events.append(view)
      }
    }
    // By time, then by content: the order must not depend on the order of arrival.
    func precedes(_ a: FactView, _ b: FactView) -> Bool {
      if a.header.time_ms != b.header.time_ms { return a.header.time_ms < b.header.time_ms }
      if a.header.kind != b.header.kind { return a.header.kind < b.header.kind }
      if a.header.payloadHash != b.header.payloadHash { return a.header.payloadHash < b.header.payloadHash }
      return a.header.idHash < b.header.idHash
    }
    if judge.events.count > 1 { judge.events.sort(by: precedes) }
    if judge.postings.count > 1 { judge.postings.sort(by: precedes) }
  }

  /// Judges a tie and sends the revisions of what has changed.
  mutating func evaluate(_ slot: Int, watermark_ms: Int64, isFinal: Bool, outputs: inout MatchOutputs) {
    // Agreed before its deadline, and nothing came since: it only has to be counted.
    if isFinal, ties[slot].has(Tie.Flag.agreed), !ties[slot].has(Tie.Flag.dirty), ties[slot].breaks == 0 {
      count(slot, isTiedOut: true)
      return
    }
    counters.judgements += 1
    gather(slot)
    judge.judge(watermark_ms: watermark_ms, isFinal: isFinal)
    // A closed tie whose deadline has moved on with a late record is judged once more when that has passed.
    ties[slot].set(Tie.Flag.dirty, !isFinal && ties[slot].has(Tie.Flag.closed))
    ties[slot].set(Tie.Flag.agreed, judge.isWhollyAgreed)
    if !judge.allVoided.isEmpty || ties[slot].breaks != 0 { updateVoids(slot) }
    if !judge.findings.isEmpty || ties[slot].breaks != 0 {
      reconcileBreaks(slot, watermark_ms: watermark_ms, outputs: &outputs)
    }
    setValue(slot)
    if isFinal {
      count(slot, isTiedOut: !ties[slot].has(Tie.Flag.open))
    }
  }

  // MARK: - Closed ties

  private mutating func setValue(_ slot: Int) {
    var size: Int128 = 0
    for role in [AccountRole.receivable, .revenue, .cash, .deferred, .cogs] where size == 0 {
      for (at, currency) in judge.currencies.enumerated() where currency == judge.mainCurrency {
        let index = at * AccountRole.count + Int(role.rawValue)
        size = judge.expected[index] != 0 ? judge.expected[index] : judge.posted[index]
      }
    }
    let value = Int64(clamping: size.magnitude)
    let currency = judge.mainCurrency
    guard ties[slot].value != value || ties[slot].valueCurrency != currency.rawValue else { return }
    let isCounted = ties[slot].has(Tie.Flag.closed)
    let wasTied = ties[slot].has(Tie.Flag.tiedOut)
    if isCounted { countValue(slot, sign: -1, isTiedOut: wasTied) }
    ties[slot].value = value
    ties[slot].valueCurrency = currency.rawValue
    if isCounted { countValue(slot, sign: 1, isTiedOut: wasTied) }
  }

  private mutating func countValue(_ slot: Int, sign: Int128, isTiedOut: Bool) {
    let currency = Currency(rawValue: ties[slot].valueCurrency)
    let value = sign * Int128(ties[slot].value)
    guard value != 0 else { return }
    counters.closedValue[currency, default: 0] += value
    if isTiedOut { counters.tiedOutValue[currency, default: 0] += value }
  }

  private mutating func count(_ slot: Int, isTiedOut: Bool) {
    if !ties[slot].has(Tie.Flag.closed) {
      ties[slot].set(Tie.Flag.closed)
      ties[slot].set(Tie.Flag.tiedOut, isTiedOut)
      counters.tiesClosed += 1
      if isTiedOut { counters.tiesTiedOut += 1 }
      countValue(slot, sign: 1, isTiedOut: isTiedOut)
    } else if ties[slot].has(Tie.Flag.tiedOut) != isTiedOut {
      countValue(slot, sign: -1, isTiedOut: !isTiedOut)
      ties[slot].set(Tie.Flag.tiedOut, isTiedOut)
      counters.tiesTiedOut += isTiedOut ? 1 : -1
      countValue(slot, sign: 1, isTiedOut: isTiedOut)
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
      for part in store.breakParts(ref) { totals.add(-Int128(part.delta), .expected, part.currency, part.role) }
      unlink(ref, record, after: previous, slot)
    }
    guard !judge.allVoided.isEmpty else { return }
    for part in judge.allVoided { totals.add(Int128(part.delta), .expected, part.currency, part.role) }
    let made = store.appendBreak(
      BreakRecord(
        next: ties[slot].breaks, granules: 0, type: BreakRecord.voidType, role: 0, currency: 0, idCurrency: 0, state: 0,
        isProvisional: false, partCount: 0, revision: 0, content: 0), parts: judge.allVoided)
    ties[slot].breaks = made
    refillViews()
  }

  /// The store may have moved: the judge's views are made again before they are read for evidence.
  private mutating func refillViews() {
    for at in judge.events.indices { judge.events[at] = FactView(store, judge.events[at].ref) }
    for at in judge.postings.indices { judge.postings[at] = FactView(store, judge.postings[at].ref) }
    for at in judge.rejected.indices { judge.rejected[at] = FactView(store, judge.rejected[at].ref) }
  }

  private mutating func unlink(_ ref: StoreRef, _ record: BreakRecord, after previous: StoreRef, _ slot: Int) {
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
    var ref = ties[slot].breaks
    while ref != 0 {
      let record = store.breakRecord(ref)
      let parts = store.breakParts(ref)
      if record.type == BreakRecord.voidType { voids = (record, parts) } else { known.append((record, parts)) }
      store.free(ref, granules: Int(record.granules))
      ref = record.next
    }
    known.sort {
      ($0.record.type, $0.record.role, $0.record.idCurrency) < ($1.record.type, $1.record.role, $1.record.idCurrency)
    }
    var context = EvidenceContext(self.judge, order: key(slot).string, dimensionCount: dimensionCount)
    context.deadline_ms = ties[slot].deadline_ms
    context.watermark_ms = min(watermark_ms, max(ties[slot].deadline_ms, ties[slot].quiet_ms))
    var kept: [(record: BreakRecord, parts: [Finding.Part])] = []
    var isOpen = false
    for finding in judge.findings {
      let type = UInt8(finding.type.index)
      let role = finding.role.rawValue
      let idCurrency = finding.currency == judge.mainCurrency ? Currency.none : finding.currency
      let at = known.firstIndex {
        $0.record.type == type && $0.record.role == role && $0.record.idCurrency == idCurrency.rawValue
      }
      let old = at.map { known.remove(at: $0) }
      if let old { withdraw(old) }
      let before = old.map { BreakState.allCases[Int($0.record.state)] }
      let state: BreakState =
        finding.isAccepted
        ? .accepted : before.map { $0 == .autoCleared || $0 == .closed || $0 == .reopened ? .reopened : .open } ?? .open
      let severity = context.severity(finding, policy)
      let content = contentHash(finding, state, isDecided)
      var record = BreakRecord(
        next: 0, granules: 0, type: type, role: role, currency: finding.currency.rawValue,
        idCurrency: idCurrency.rawValue, state: UInt8(BreakState.allCases.firstIndex(of: state)!),
        isProvisional: !isDecided, partCount: 0, revision: old?.record.revision ?? 0, content: content)
      if old == nil || old!.record.content != content {
        record.revision += 1
        outputs.breaks.append(
          context.make(
            finding, state: state, isProvisional: !isDecided, revision: Int(record.revision), severity: severity,
            idCurrency: idCurrency))
        counters.revisions[Int(type)] += 1
      }
      if state.isOpen { isOpen = true }
      deposit((record, finding.parts))
      kept.append((record, finding.parts))
    }
    for old in known {
      withdraw(old)
      let before = BreakState.allCases[Int(old.record.state)]
      var record = old.record
      if before.isOpen || before == .accepted {
        let state: BreakState = before.isOpen && isAgreed ? .autoCleared : .closed
        let type = BreakType.allCases[Int(record.type)]
        record.state = UInt8(BreakState.allCases.firstIndex(of: state)!)
        record.isProvisional = !isDecided
        record.revision += 1
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
    ties[slot].set(Tie.Flag.open, isOpen)
    var head: StoreRef = 0
    if let voids { kept.append(voids) }
    for (record, parts) in kept {
      var linked = record
      linked.next = head
      head = store.appendBreak(linked, parts: parts)
    }
    ties[slot].breaks = head
  }

  private mutating func deposit(_ entry: (record: BreakRecord, parts: [Finding.Part])) { tally(entry, sign: 1) }
  private mutating func withdraw(_ entry: (record: BreakRecord, parts: [Finding.Part])) { tally(entry, sign: -1) }

  /// Counts a break and the difference that it explains under its state, or takes both back.
  private mutating func tally(_ entry: (record: BreakRecord, parts: [Finding.Part]), sign: Int) {
    let state = BreakState.allCases[Int(entry.record.state)]
    guard state.isOpen || state == .accepted else { return }
    if state.isOpen {
      counters.open[Int(entry.record.type)] += sign
    } else {
      counters.accepted[Int(entry.record.type)] += sign
    }
    for part in entry.parts {
      totals.add(Int128(sign) * Int128(part.delta), state.isOpen ? .open : .accepted, part.currency, part.role)
    }
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
    return hash | 1
  }
}
