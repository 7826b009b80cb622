import Aggregates
import Domain

/// Where the figures of postings stand that do not carry every dimension themselves: where their order does
/// (`OrderDimensions`).
///
/// At any time the sums hold every posting that counts under its own values and, of `inheritedDimensions`, under those of
/// its order, as the facts say that the tie holds then. So nothing of it is state: when a posting comes or goes the events
/// of its tie are asked, and when an event comes or goes that changes what they say, the postings of the tie are taken back
/// and added anew. A tie that is forgotten leaves its figures where they are.
extension Matcher {
  /// Called for a fact that is about to be taken into a tie (0: a new one), before it is added up. A posting learns what
  /// its order says; an event moves the postings that are there already.
  @inline(never)
  mutating func heed(_ slot: Int, isPosting: Bool) {
    orderDimensions.pointee.clear()
    let bytes = fact.pointee.dimensionBytes
    guard slot != 0, fact.pointee.flags & Fact.Flag.delete == 0 else { return }
    if isPosting {
      guard ties[slot].has(Tie.Flag.hasOrder), inheritedDimensions & ~Fact.presentDimensions(bytes) != 0 else { return }
      listen(slot)
      return
    }
    guard ties[slot].has(Tie.Flag.hasPosting), !bytes.isEmpty, movesPostings else { return }
    listen(slot)
    guard !orderDimensions.pointee.isSilent(fact.pointee.time_ms, wanted: inheritedDimensions) else { return }
    otherDimensions.pointee = orderDimensions.pointee
    let heard = orderDimensions.pointee.hear(fact.pointee.time_ms, bytes, wanted: inheritedDimensions)
    if heard.spoken != 0, !longVoices.isEmpty { longVoices[UInt32(slot)] = nil }
    guard heard.changed != 0 else { return }
    texts.reset()
    var facts = facts(slot)
    while facts.next() {
      guard isInheriting(facts, heard.changed) else { continue }
      var posting = Fact(facts, number: 0, texts: &texts)
      move(&posting)
    }
  }

  /// Whether a fact is a posting that counts, without a value of its own of one of these dimensions.
  private func isInheriting(_ fact: FactCursor, _ dimensions: UInt8) -> Bool {
    fact.isPosting && fact.flags & Fact.Flag.delete == 0
      && dimensions & ~Fact.presentDimensions(fact.dimensions) != 0
  }

  /// Moves the figures of a posting from where `otherDimensions` say to where `orderDimensions` do.
  private mutating func move(_ posting: inout Fact) {
    let other = UnsafePointer(otherDimensions)
    withUnsafePointer(to: &posting) {
      aggregate($0, sign: -1, under: other)
      aggregate($0, sign: 1)
    }
  }

  /// Fills `orderDimensions` from the events of a tie, whose body they are views of.
  private mutating func listen(_ slot: Int) {
    let length = bodyLength(slot)
    let isLong = length > Matcher.absoluteFrom
    if isLong, let voices = longVoices[UInt32(slot)] {
      let start = bodyStart(slot)
      for voice in voices {
        orderDimensions.pointee.hear(
          voice.time_ms, ByteView(base: start + voice.offset, count: voice.count), wanted: inheritedDimensions)
      }
      return
    }
    let (wanted, order) = (inheritedDimensions, orderDimensions)
    var facts = facts(slot)
    while facts.next() {
      guard !facts.isPosting, facts.flags & (Fact.Flag.delete | Fact.Flag.rejected) == 0 else { continue }
      order.pointee.hear(facts.time_ms, facts.dimensions, wanted: wanted)
    }
    if isLong { keepVoices(slot) }
  }

  /// Keeps which events of a long body speak, so that taking a posting in never reads all of it.
  @inline(never)
  private mutating func keepVoices(_ slot: Int) {
    let start = UnsafePointer(bodyStart(slot))
    var voices: [LongVoice] = []
    orderDimensions.pointee.forEachVoice { time_ms, bytes in
      voices.append(LongVoice(time_ms: time_ms, offset: bytes.base! - start, count: bytes.count))
    }
    longVoices[UInt32(slot)] = voices
  }

  // MARK: - While a tie is judged

  /// Fills `orderDimensions` from the facts that have been read and were not dropped.
  mutating func listenToRead(isDropped: (Int) -> Bool) {
    orderDimensions.pointee.clear()
    for (place, fact) in read.enumerated()
    where !fact.isPosting && fact.flags & (Fact.Flag.delete | Fact.Flag.rejected) == 0 && !isDropped(place) {
      orderDimensions.pointee.hear(fact.time_ms, fact.dimensionBytes, wanted: inheritedDimensions)
    }
  }

  /// Some of the facts that have been read were dropped, or no longer count: what is left of the postings goes where the
  /// order says now.
  mutating func moveRead(isDropped: (Int) -> Bool) {
    otherDimensions.pointee = orderDimensions.pointee
    listenToRead(isDropped: isDropped)
    let changed = orderDimensions.pointee.differences(otherDimensions.pointee)
    guard changed != 0, aggregates != nil else { return }
    for place in read.indices
    where read[place].isPosting && read[place].flags & Fact.Flag.delete == 0 && !isDropped(place)
      && changed & ~Fact.presentDimensions(read[place].dimensionBytes) != 0
    {
      var posting = read[place]
      move(&posting)
    }
  }

  /// Tells the judge where the postings stand that it is about to judge.
  mutating func placePostings() {
    judge.postingPlaces.clear()
    let known = orderDimensions.pointee.known
    guard known != 0 else { return }
    for posting in judge.postings where known & ~Fact.presentDimensions(posting.dimensionBytes) != 0 {
      let own = posting.dimensionBytes
      guard !judge.postingPlaces.contains(where: { $0.own.elementsEqual(own) }) else { continue }
      let space = texts.take(maximumDimensions * (maximumDimensionBytes + 1))
      var end = space
      for dimension in 0..<dimensionCount {
        var value = Fact.dimension(dimension, of: own)
        if value.isEmpty, known & 1 << UInt8(dimension) != 0 { value = orderDimensions.pointee.value(dimension) }
        end.pointee = UInt8(truncatingIfNeeded: value.count)
        copyShort(from: value, to: end + 1)
        end += 1 + value.count
      }
      judge.postingPlaces.append((own, ByteView(base: space, count: end - space)))
    }
  }

  // MARK: - Sums that were made in another way

  /// The sums, and what is in dispute, have been made with other inherited dimensions: moves those of the ties that are
  /// held. Those of ties that have been forgotten stay where they are.
  /// - Parameter movesDisputes: False where the sums know of no disputes.
  public mutating func inherit(_ dimensions: UInt8, movesDisputes: Bool) {
    let old = inheritedDimensions
    guard dimensions != old else { return }
    longVoices = [:]
    for slot in 1..<usedSlots where ties[slot].has(Tie.Flag.live) {
      if movesDisputes, ties[slot].breaks != 0 {
        inheritedDimensions = old
        withdrawCharges(slot)
      }
      guard ties[slot].has(Tie.Flag.hasOrder | Tie.Flag.hasPosting) else { continue }
      for (inherited, sign) in [(old, -1), (dimensions, 1)] {
        inheritedDimensions = inherited
        addInheriting(slot, old ^ dimensions, sign: sign)
      }
    }
    inheritedDimensions = dimensions
    orderDimensions.pointee.clear()
    if movesDisputes { chargeOpenBreaks() }
    settleAggregates()
  }

  private mutating func addInheriting(_ slot: Int, _ dimensions: UInt8, sign: Int) {
    texts.reset()
    orderDimensions.pointee.clear()
    listen(slot)
    longVoices = [:]
    var facts = facts(slot)
    while facts.next() {
      guard isInheriting(facts, dimensions) else { continue }
      var posting = Fact(facts, number: 0, texts: &texts)
      withUnsafePointer(to: &posting) { aggregate($0, sign: sign) }
    }
  }

  /// Adds everything that is held to aggregates that begin now, so that each fact of a tie is in the sums as long as the
  /// tie is held: what is found to be a repetition, or has to be moved, can be taken back.
  public mutating func addHeldFacts() {
    guard aggregates != nil else { return }
    // Ties that a running revision has not come to are taken back by the policies before it.
    let current = expectations
    for slot in 1..<usedSlots where ties[slot].has(Tie.Flag.live) {
      orderDimensions.pointee.clear()
      if inheritedDimensions != 0, ties[slot].has(Tie.Flag.hasOrder | Tie.Flag.hasPosting) { listen(slot) }
      texts.reset()
      if isRevising, !isRevised(slot) { expectations = revision.old }
      var facts = facts(slot)
      while facts.next() {
        guard facts.flags & (Fact.Flag.delete | Fact.Flag.rejected) == 0 else { continue }
        var fact = Fact(facts, number: 0, texts: &texts)
        withUnsafePointer(to: &fact) { aggregate($0, sign: 1) }
      }
      aggregateCancelled(slot, sign: 1)
      expectations = current
    }
    cancelledSums = .asBilled
    settleAggregates()
  }
}

/// An event of a long body that speaks for its order.
struct LongVoice {
  var time_ms: Int64
  /// From the beginning of the body, which only grows behind until it is written anew.
  var offset: Int
  var count: Int
}
