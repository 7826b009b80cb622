import CShims
import Domain

/// The state of a matcher as bytes: the ties in shards by key fingerprint, and what belongs to no tie.
///
/// A shard is a part of the index, so that one can be written between two epochs without touching the rest. The
/// bytes of a tie are a pure function of what is known of it; where it stands in memory does not show in them.
extension Matcher {
  /// Versions of the format of shards and of the rest that can be read. 3 has people's decisions, 4 where differences lie:
  /// what they put into the aggregates, and their periods. 5 has sums by source, or sums in which postings stand under
  /// dimensions of their orders: an earlier version would take them back from where they are not. From 6 on facts are short
  /// (`FactCursor`), and what comes again leaves the sums with the record that shows it.
  public static let stateVersions: ClosedRange<UInt8> = 2...6
  private static let siftingVersion: UInt8 = 6
  /// The version that is written.
  public static var stateVersion: UInt8 { stateVersions.upperBound }

  /// A shard of this many bits of the fingerprint's head: `fingerprint >> (64 − bits) == shard`.
  @inline(__always)
  static func shard(_ fingerprint: Fingerprint, bits: Int) -> Int {
    bits == 0 ? 0 : Int(fingerprint.high >> UInt64(64 - bits))
  }

  /// How many bits make shards of about `tiesPerShard` ties now.
  public func shardBits(tiesPerShard: Int) -> Int {
    var bits = 0
    while index.count >> bits > tiesPerShard, bits < 20 { bits += 1 }
    return bits
  }

  /// What a shard holds.
  public struct ShardSummary: Sendable, Equatable {
    public var ties: Int
    /// Over the ties in any order; equal for equal contents.
    public var digest: UInt64
  }

  /// Writes the ties of a shard behind what the writer holds.
  ///
  /// A shard's ties lie all over memory: their slots and bodies are brought close some ties ahead, so that the waiting
  /// for one overlaps with the writing of others.
  @discardableResult
  public func exportShard(_ shard: Int, bits: Int, into writer: inout ByteWriter) -> ShardSummary {
    var slots: [UInt32] = []
    slots.reserveCapacity(index.count >> bits + index.count >> (bits + 2) + 64)
    forEachSlot(shard: shard, bits: bits) { slots.append(UInt32($0)) }
    var summary = ShardSummary(ties: slots.count, digest: 0)
    slots.withUnsafeBufferPointer { slots in
      for at in 0..<min(Matcher.slotsAhead, slots.count) { tieout_prefetch(ties + Int(slots[at])) }
      for at in 0..<slots.count {
        if at + Matcher.slotsAhead < slots.count { tieout_prefetch(ties + Int(slots[at + Matcher.slotsAhead])) }
        if at + Matcher.bodiesAhead < slots.count {
          let body = bodyStart(Int(slots[at + Matcher.bodiesAhead]))
          tieout_prefetch(body)
          tieout_prefetch(body + 64)
        }
        let start = writer.count
        exportTie(Int(slots[at]), into: &writer)
        let bytes = writer.bytes
        summary.digest &+=
          Fingerprint(
            ByteView(UnsafeRawBufferPointer(rebasing: bytes[start...]).assumingMemoryBound(to: UInt8.self))
          ).low
      }
    }
    return summary
  }

  /// Beside the flags of a tie: its body is as `FactCursor` says. Earlier versions wrote longer ones, without this.
  private static let shortBodies: UInt16 = 1 << 15

  /// Ties of a shard whose slots, and whose bodies, are being brought close while one is written.
  private static let slotsAhead = 32
  private static let bodiesAhead = 16

  private func exportTie(_ slot: Int, into writer: inout ByteWriter) {
    let tie = ties[slot]
    let length = bodyLength(slot)
    // The head in one go: flags, three times, the body's length.
    writer.write(atMost: 36) { head in
      let raw = UnsafeMutableRawPointer(head)
      raw.storeBytes(of: (tie.flags | Matcher.shortBodies).littleEndian, as: UInt16.self)
      raw.storeBytes(of: tie.deadline_ms.littleEndian, toByteOffset: 2, as: Int64.self)
      raw.storeBytes(of: tie.timer_ms.littleEndian, toByteOffset: 10, as: Int64.self)
      raw.storeBytes(of: tie.quiet_ms.littleEndian, toByteOffset: 18, as: Int64.self)
      var (at, rest) = (26, UInt64(length))
      while rest >= 0x80 {
        head[at] = UInt8(truncatingIfNeeded: rest) | 0x80
        rest >>= 7
        at += 1
      }
      head[at] = UInt8(truncatingIfNeeded: rest)
      return at + 1
    }
    writer.write(raw: bodyStart(slot), count: length)
    var breaks: UInt64 = 0
    var ref = tie.breaks
    while ref != 0 {
      breaks += 1
      ref = store.breakRecord(ref).next
    }
    writer.writeVarint(breaks)
    ref = tie.breaks
    while ref != 0 {
      let record = store.breakRecord(ref)
      writer.write(record.type)
      if record.type == BreakRecord.chargeType {
        store.charges(ref).export(into: &writer)
        ref = record.next
        continue
      }
      writer.write(record.role)
      writer.write(record.currency)
      writer.write(record.idCurrency)
      writer.write(record.state)
      let parts = store.breakParts(ref)
      let hasPeriods = parts.contains { $0.period != 0 }
      // Bit 1: a time follows; bit 2: each part has a period.
      writer.write(
        UInt8((record.isProvisional ? 1 : 0) | (record.opened_s != 0 ? 2 : 0) | (hasPeriods ? 4 : 0)))
      writer.write(record.revision)
      writer.write(record.content)
      if record.opened_s != 0 { writer.write(record.opened_s) }
      writer.write(record.partCount)
      for part in parts {
        if hasPeriods { writer.write(part.period) }
        writer.write(part.delta)
        writer.write(part.currency.rawValue)
        writer.write(part.role.rawValue)
      }
      ref = record.next
    }
    if tie.has(Tie.Flag.decided) { decisions[UInt32(slot)]!.export(into: &writer) }
  }

  /// Takes the ties of a shard in. They must not be known yet.
  /// - Returns: what it held, as `exportShard` states it.
  @discardableResult
  public mutating func importShard(
    _ shard: Int, bits: Int, from reader: inout ByteReader
  ) throws(ByteCodingError) -> ShardSummary {
    var summary = ShardSummary(ties: 0, digest: 0)
    while !reader.isAtEnd {
      let start = reader.offset
      try importTie(shard, bits, &reader)
      let bytes = reader.bytes(from: start)
      summary.digest &+= Fingerprint(ByteView(bytes.assumingMemoryBound(to: UInt8.self))).low
      summary.ties += 1
    }
    if isRestoring, bits == restoreBits { restoredShards[shard] = true }
    return summary
  }

  private mutating func importTie(_ shard: Int, _ bits: Int, _ reader: inout ByteReader) throws(ByteCodingError) {
    let head: UInt16 = try reader.read()
    let (flags, isOfThisVersion) = (head & ~Matcher.shortBodies, head & Matcher.shortBodies != 0)
    let deadline_ms: Int64 = try reader.read()
    let timer_ms: Int64 = try reader.read()
    let quiet_ms: Int64 = try reader.read()
    let length = try reader.readCount(atMost: 1 << 30)
    let body = try reader.readRaw(length).assumingMemoryBound(to: UInt8.self)
    guard Matcher.isKeyWhole(body), let base = body.baseAddress, flags & Tie.Flag.live != 0 else {
      throw ByteCodingError("a tie without a key, at \(reader.offset)")
    }
    guard isBodyWhole(base, length: length, isValued: flags & Tie.Flag.valued != 0) else {
      throw ByteCodingError("facts that cannot be read, at \(reader.offset)")
    }
    let key = Matcher.key(base)
    let fingerprint = Fingerprint(key)
    guard Matcher.shard(fingerprint, bits: bits) == shard else {
      throw ByteCodingError("a tie stands in the wrong shard, at \(reader.offset)")
    }
    let slot = insert(fingerprint, key)
    stamp(fingerprint.head16)
    resizeBody(slot, from: Matcher.keySize(key.count), to: length)
    bodyStart(slot).update(from: base, count: length)
    ties[slot].flags = flags
    if !isOfThisVersion { renewBody(slot) }
    noteCancelled(slot)
    if sourceTotals != nil { readSources(slot) }
    let breaks = try reader.readCount(atMost: 1 << 16)
    var lastBreak: StoreRef = 0
    for _ in 0..<breaks {
      let type: UInt8 = try reader.read()
      if type == BreakRecord.chargeType {
        link(store.appendCharges(try ChargeList(from: &reader), next: 0), behind: &lastBreak, slot)
        continue
      }
      var record = BreakRecord(
        next: 0, granules: 0, type: type, role: try reader.read(), currency: try reader.read(),
        idCurrency: try reader.read(), state: try reader.read(), isProvisional: false, partCount: 0, revision: 0,
        content: 0)
      let bits: UInt8 = try reader.read()
      record.isProvisional = bits & 1 != 0
      record.revision = try reader.read()
      record.content = try reader.read()
      if bits & 2 != 0 { record.opened_s = try reader.read() }
      guard record.type == BreakRecord.voidType || Int(record.type) < BreakType.allCases.count,
        Int(record.state) < BreakState.allCases.count, AccountRole(rawValue: record.role) != nil
      else { throw ByteCodingError("a break of an unknown type, at \(reader.offset)") }
      let partCount: UInt16 = try reader.read()
      guard Int(partCount) <= BreakRecord.mostParts else {
        throw ByteCodingError("a break of too many parts, at \(reader.offset)")
      }
      var parts: [Finding.Part] = []
      for _ in 0..<partCount {
        let period: Int32 = bits & 4 != 0 ? try reader.read() : 0
        let delta: Int64 = try reader.read()
        let currency = Currency(rawValue: try reader.read())
        guard let role = AccountRole(rawValue: try reader.read()) else {
          throw ByteCodingError("a role that is not known, at \(reader.offset)")
        }
        parts.append(Finding.Part(currency: currency, role: role, delta: delta, period: period))
      }
      link(store.appendBreak(record, parts: parts), behind: &lastBreak, slot)
    }
    if flags & Tie.Flag.decided != 0 { decisions[UInt32(slot)] = try TieDecisions(from: &reader) }
    ties[slot].deadline_ms = deadline_ms
    ties[slot].quiet_ms = quiet_ms
    if timer_ms != Tie.noTimer_ms { schedule(slot, at: timer_ms) }
  }

  /// Puts an entry behind the last one of a tie's breaks.
  private func link(_ ref: StoreRef, behind last: inout StoreRef, _ slot: Int) {
    if last == 0 {
      ties[slot].breaks = ref
    } else {
      store.pointer(last).assumingMemoryBound(to: BreakRecord.self).pointee.next = ref
    }
    last = ref
  }

  /// Whether bytes that came from outside begin with a key as `write(_:balance:at:)` writes it.
  private static func isKeyWhole(_ body: UnsafeBufferPointer<UInt8>) -> Bool {
    guard body.count >= keySize(0), let base = body.baseAddress else { return false }
    if body[2] == 255, body.count < keySize(255) { return false }
    let count = key(base).count
    return keySize(count) <= body.count && (count < 255) == (body[2] < 255)
  }

  /// Whether a body that came from outside can be read to its end, and names only what there is. It is read where there is
  /// room behind it, so that nothing it says leads out of bounds.
  private mutating func isBodyWhole(_ body: UnsafePointer<UInt8>, length: Int, isValued: Bool) -> Bool {
    texts.reset()
    let start = texts.take(length + FactCursor.mostBytes)
    start.update(from: body, count: length)
    let keyBytes = Matcher.keySize(Matcher.key(start).count)
    if isValued {
      let size = TieValue.size(endingAt: start + length)
      guard keyBytes + size <= length,
        TieValue.isSound(last: start[length - 1], first: Matcher.firstCurrency(start, factsEnd: length - size))
      else { return false }
    }
    var facts = Matcher.facts(start, length: length, isValued: isValued)
    while facts.next() {
      let isKnown =
        facts.isPosting ? AccountRole(rawValue: facts.code) != nil : OrderEventKind(rawValue: facts.code) != nil
      guard isKnown, facts.isSound else { return false }
    }
    return facts.at == facts.end
  }

  /// Writes a body of an earlier version as this one does: the bytes of what is known of an order are the same wherever it
  /// comes from.
  private mutating func renewBody(_ slot: Int) {
    texts.reset()
    let length = bodyLength(slot)
    let copy = texts.take(length + RecordStore.slackBytes)
    copy.update(from: bodyStart(slot), count: length + RecordStore.slackBytes)
    let (balance, value, isValued) = (balance(slot), value(slot), ties[slot].has(Tie.Flag.valued))
    var facts = Matcher.facts(copy, length: length, isValued: isValued, firstTime_ms: 0)
    var all: [Fact] = []
    while facts.next() { all.append(Fact(facts, number: Int32(all.count), texts: &texts)) }
    rewriteBody(slot, all) { _ in true }
    // As the policies had it by which it was kept.
    UnsafeMutableRawPointer(bodyStart(slot)).storeBytes(of: balance, as: UInt16.self)
    if isValued { setValue(slot, value) }
  }

  /// Begins a restore from shards that were written at different epochs: until `endRestore`, records of shards that
  /// are not in yet are passed over, because the shard's bytes know them already.
  /// - Parameters:
  ///   - ties: How many will come, about.
  ///   - version: `stateVersion` of the state.
  public mutating func beginRestore(bits: Int, ties: Int, version: UInt8 = Matcher.stateVersion) {
    keepsRepetitions = version < Matcher.siftingVersion
    index.reserve(ties)
    isRestoring = true
    isAttentive = true
    restoreBits = bits
    restoredShards = Array(repeating: false, count: 1 << bits)
  }

  /// Whether every tie of a shard is known: always, but while a restore has not come to it.
  public func isWhole(shard: Int, bits: Int) -> Bool {
    guard isRestoring else { return true }
    guard bits == restoreBits else { return false }
    return restoredShards[shard]
  }

  public mutating func endRestore() {
    precondition(!restoredShards.contains(false), "a restore ends before every shard is in")
    isRestoring = false
    keepsRepetitions = false
    isAttentive = isRevising
    restoredShards = []
  }

  @inline(__always)
  func skips(_ fingerprint: Fingerprint) -> Bool {
    !restoredShards[Matcher.shard(fingerprint, bits: restoreBits)]
  }

  // MARK: - What has changed

  /// Whether a tie of the shard, or one that was in it, has changed in an epoch after this one.
  public func isChanged(shard: Int, bits: Int, since epoch: UInt32) -> Bool {
    let width = Matcher.stampBits - bits
    guard width >= 0 else { return stamps[shard >> -width] > epoch }
    for at in shard << width..<(shard + 1) << width where stamps[at] > epoch { return true }
    return false
  }

  @inline(__always)
  mutating func stamp(_ head: UInt16) { stamps[Int(head) >> (16 - Matcher.stampBits)] = epoch }

  // MARK: - What belongs to no tie

  /// Sums that the ties have led to.
  public func exportSums(into writer: inout ByteWriter) {
    counters.export(into: &writer)
    totals.export(into: &writer)
    if aggregates != nil { writer.write(CancelledSums.asBilled.tag!) }
    if takesActions {
      writer.write(ActionCounters.tag)
      counters.actions.export(into: &writer)
    }
    if tracksPeriods {
      writer.write(PeriodTotals.tag)
      periodTotals.export(into: &writer)
    }
    if sourceTotals != nil {
      writer.write(SourceTotals.tag)
      sourceTotals!.export(into: &writer)
    }
    if tellsPolicies() { exportPolicies(into: &writer) }
    if quality != nil { quality!.export(into: &writer) }
  }

  /// Those of the configuration alone do not change while it is in use: a checkpoint's beginning has them. Not inlined, as
  /// `exportPolicies`: the optimiser does not get through the two where they are part of `exportSums`.
  @inline(never)
  private func tellsPolicies() -> Bool { policy.postingPolicies != nil || revision.isRunning }

  public mutating func importSums(from reader: inout ByteReader) throws(ByteCodingError) {
    counters = try MatchCounters(from: &reader)
    running.clear()
    settledTotals = try ControlTotals(from: &reader)
    // Each part stands there only where it was kept when the state was written.
    var ahead = reader
    let tag = try? ahead.read(UInt64.self)
    cancelledSums = [.atLaterRate, .asBilled].first { $0.tag == tag } ?? .asSaid
    if cancelledSums != .asSaid { reader = ahead }
    ahead = reader
    if let tag = try? ahead.read(UInt64.self), tag == ActionCounters.tag {
      reader = ahead
      counters.actions = try ActionCounters(from: &reader)
    }
    ahead = reader
    if let tag = try? ahead.read(UInt64.self), tag == PeriodTotals.tag {
      reader = ahead
      periodTotals = try PeriodTotals(from: &reader)
    } else if tracksPeriods {
      periodTotals = PeriodTotals(before: settledTotals)
      movePlacedDifferences()
    }
    ahead = reader
    var knowsSources = false
    if let tag = try? ahead.read(UInt64.self), tag == SourceTotals.tag {
      reader = ahead
      try importSources(from: &reader)
      knowsSources = true
    }
    ahead = reader
    if let tag = try? ahead.read(UInt64.self), tag == PolicyRevision.tag {
      try importPolicies(from: &reader)
    }
    if sourceTotals != nil, !knowsSources { beginSources() }
    // State that was written without them has none: they begin with what comes from now on.
    if quality != nil, !reader.isAtEnd { try quality!.restore(from: &reader) }
  }
}

extension Matcher {
  /// Calls `body` with the slot of every tie of a shard.
  func forEachSlot(shard: Int, bits: Int, _ body: (Int) -> Void) {
    let (ties, base) = (ties, store.base)
    index.forEachSlot(headOf: shard, bits: bits, head: { Matcher.fingerprint($0, ties, base).high }, body)
  }
}

extension Watermarks {
  public func export(into writer: inout ByteWriter) {
    writer.write(current_ms)
    writer.writeVarint(UInt64(partitions.count))
    for partition in partitions {
      writer.write(partition.source)
      writer.write(partition.partition)
      writer.write(partition.largest_ms)
      writer.write(partition.lastHeard_ms)
      writer.write(UInt8((partition.isEnded ? 1 : 0) | (partition.origins == nil ? 0 : 2)))
      guard let origins = partition.origins else { continue }
      writer.writeVarint(UInt64(origins.count))
      for origin in origins {
        writer.write(origin.largest_ms)
        writer.writeSigned(origin.next)
        writer.write(UInt8(origin.isIdle ? 1 : 0))
      }
    }
  }

  /// Takes the place of everything known.
  public mutating func restore(from reader: inout ByteReader) throws(ByteCodingError) {
    let current_ms: Int64 = try reader.read()
    var partitions: [Partition] = []
    for _ in 0..<(try reader.readCount(atMost: 1 << 20)) {
      var partition = Partition(
        source: try reader.read(), partition: try reader.read(), largest_ms: try reader.read(),
        lastHeard_ms: try reader.read())
      let flags: UInt8 = try reader.read()
      partition.isEnded = flags & 1 != 0
      if flags & 2 != 0 {
        var origins: [Origin] = []
        for _ in 0..<(try reader.readCount(atMost: 1 << 20)) {
          origins.append(
            Origin(
              largest_ms: try reader.read(), next: try reader.readSigned(),
              isIdle: try reader.read(UInt8.self) != 0))
        }
        partition.origins = origins
      }
      partitions.append(partition)
    }
    replace(partitions, current_ms: current_ms)
  }
}

extension MatchCounters {
  func export(into writer: inout ByteWriter) {
    for value in [
      orderEvents, postings, duplicates, superseded, late, quarantined, tiesOpened, tiesClosed, tiesTiedOut,
      tiesForgotten, judgements,
    ] { writer.writeSigned(Int64(value)) }
    for list in [revisions, open, accepted] {
      // Types that a later version has added are written as far as one of them has come up: where none has, the bytes
      // are those of that version.
      let count = max(MatchCounters.firstTypes, (list.lastIndex { $0 != 0 } ?? -1) + 1)
      writer.writeVarint(UInt64(count))
      for value in list[..<count] { writer.writeSigned(Int64(value)) }
    }
    for values in [closedValue, tiedOutValue] {
      let listed = values.keys.filter { values[$0] != 0 }.sorted()
      writer.writeVarint(UInt64(listed.count))
      for currency in listed {
        writer.write(currency.rawValue)
        writer.write(values[currency]!)
      }
    }
  }

  init(from reader: inout ByteReader) throws(ByteCodingError) {
    self.init()
    orderEvents = Int(try reader.readSigned())
    postings = Int(try reader.readSigned())
    duplicates = Int(try reader.readSigned())
    superseded = Int(try reader.readSigned())
    late = Int(try reader.readSigned())
    quarantined = Int(try reader.readSigned())
    tiesOpened = Int(try reader.readSigned())
    tiesClosed = Int(try reader.readSigned())
    tiesTiedOut = Int(try reader.readSigned())
    tiesForgotten = Int(try reader.readSigned())
    judgements = Int(try reader.readSigned())
    revisions = try MatchCounters.list(&reader)
    open = try MatchCounters.list(&reader)
    accepted = try MatchCounters.list(&reader)
    closedValue = try MatchCounters.values(&reader)
    tiedOutValue = try MatchCounters.values(&reader)
  }

  /// How many types of breaks there were when they were first counted: up to ORPHAN_REVERSAL.
  static let firstTypes = 24

  /// Types of breaks that a later version has added stand at zero.
  private static func list(_ reader: inout ByteReader) throws(ByteCodingError) -> [Int] {
    var list = [Int](repeating: 0, count: BreakType.allCases.count)
    let count = try reader.readCount(atMost: list.count)
    for at in 0..<count { list[at] = Int(try reader.readSigned()) }
    return list
  }

  private static func values(_ reader: inout ByteReader) throws(ByteCodingError) -> CurrencySums {
    var values = CurrencySums()
    for _ in 0..<(try reader.readCount(atMost: 1 << 16)) {
      let currency = Currency(rawValue: try reader.read())
      values.add(try reader.read(Int128.self), currency)
    }
    return values
  }
}
