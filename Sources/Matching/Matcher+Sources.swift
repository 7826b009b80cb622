import Aggregates
import Domain

/// How the orders of each source stand, where that is wanted (`SourceTotals`).
extension Matcher {
  /// From the beginning, or from the state that is read next: sums by source are kept.
  public mutating func tellSources(_ count: Int) {
    if sourceTotals == nil { sourceTotals = SourceTotals(count) }
  }

  /// How the orders of each source stand, by its index; empty where that is not wanted.
  public var sourceControls: [QualityControl] {
    guard sourceTotals != nil else { return [] }
    return sourceTotals!.controls()
  }

  // MARK: - Records

  /// A fact is about to become part of a tie, or is the first of a new one.
  @inline(never)
  mutating func countSource(_ fact: UnsafePointer<Fact>, _ slot: Int, isNew: Bool) {
    guard fact.pointee.flags & Fact.Flag.delete == 0 else { return }
    let source = Int(fact.pointee.source)
    if sourceTotals!.insert(slot, source), !isNew { addTie(slot, to: source, sign: 1) }
    sourceTotals!.add(fact, expectations(of: fact), slot, sign: 1)
  }

  /// A fact, by its place among those read, comes to count or no longer does.
  @inline(never)
  mutating func recountSource(_ place: Int, _ slot: Int, sign: Int64) {
    withUnsafePointer(to: read[place]) {
      guard $0.pointee.flags & Fact.Flag.delete == 0 else { return }
      sourceTotals!.add($0, expectations(of: $0), slot, sign: sign)
    }
  }

  /// Facts of a tie have been dropped: what they were the only ones of no longer has it.
  @inline(never)
  mutating func leaveSources(_ slot: Int) {
    for source in sourceTotals!.sources(slot) {
      let isThere = gathered.contains {
        !$0.isDropped && Int($0.source) == source && read[$0.place].flags & Fact.Flag.delete == 0
      }
      if !isThere {
        addTie(slot, to: source, sign: -1)
        sourceTotals!.remove(slot, source)
      }
    }
  }

  // MARK: - Ties

  /// Adds all that a tie has added to its sources up to now to one more, or takes it back from one.
  @inline(never)
  private mutating func addTie(_ slot: Int, to source: Int, sign: Int64) {
    let isAhead = isRevising && !isRevised(slot)
    let expectations = isAhead ? revision.old : self.expectations
    var facts = facts(slot)
    while facts.next() {
      guard facts.flags & (Fact.Flag.rejected | Fact.Flag.delete) == 0 else { continue }
      sourceTotals!.add(
        facts, expectations.of(facts.code, date_d: facts.date_d, time_ms: facts.time_ms, source: facts.source),
        source: source, sign: sign)
    }
    var ref = ties[slot].breaks
    while ref != 0 {
      addBreak(ref, to: source, sign: sign)
      ref = store.breakRecord(ref).next
    }
    if ties[slot].has(Tie.Flag.closed) {
      let isTiedOut = ties[slot].has(Tie.Flag.tiedOut)
      sourceTotals!.addOrders(closed: sign, tiedOut: isTiedOut ? sign : 0, source: source)
      let value = value(slot)
      if value.amount != 0 {
        sourceTotals!.addValue(sign &* value.amount, value.currency, isTiedOut: isTiedOut, source: source)
      }
    }
  }

  private mutating func addBreak(_ ref: StoreRef, to source: Int, sign: Int64) {
    let record = store.breakRecord(ref)
    guard record.type != BreakRecord.chargeType else { return }
    let parts = store.breakParts(ref)
    let column: ControlTotals.Column
    if record.type == BreakRecord.voidType {
      column = .expected
    } else if record.stateValue.isOpen {
      column = .open
      sourceTotals!.addOpen(
        Matcher.openAmount(record, parts), Currency(rawValue: record.currency), opened_s: record.opened_s,
        sign: Int(sign), source: source)
    } else if record.stateValue.isSettled {
      column = .accepted
    } else {
      return
    }
    for part in parts {
      sourceTotals!.add(Int128(sign) * Int128(part.delta), column, part.currency, part.role, source: source)
    }
  }

  // MARK: - State

  /// The sources of a tie that has been read; its sums are in those of the state.
  mutating func readSources(_ slot: Int) {
    var facts = facts(slot)
    while facts.next() {
      if facts.flags & Fact.Flag.delete == 0 { _ = sourceTotals!.insert(slot, Int(facts.source)) }
    }
  }

  /// Only the simulator plants this defect.
  public mutating func forgetSources() {
    guard sourceTotals != nil else { return }
    for slot in 1..<usedSlots { sourceTotals!.clear(slot) }
  }

  /// Takes the sums of a state in, or passes over them where they are not wanted any more.
  mutating func importSources(from reader: inout ByteReader) throws(ByteCodingError) {
    if sourceTotals != nil {
      try sourceTotals!.restore(from: &reader)
    } else {
      var unwanted = SourceTotals(0)
      try unwanted.restore(from: &reader)
    }
  }

  /// A state that knew of no sums by source: they begin with the orders that it holds.
  mutating func beginSources() {
    sourceTotals!.reset()
    for slot in 1..<usedSlots where ties[slot].has(Tie.Flag.live) {
      for source in sourceTotals!.sources(slot) { addTie(slot, to: source, sign: 1) }
    }
  }
}
