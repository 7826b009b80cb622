import Aggregates
import Domain

/// Counts of quality: what came, what found its counterpart and how long that took, what came again.
///
/// A record is matched once its order is known to both sides. When the first record of the second side comes, those that
/// were there are counted with it; from then on each as it comes. What is dropped as a repetition is taken back. So at
/// any time `matched` is the number of facts of the ties that have both sides, and of those forgotten since.
extension Matcher {
  /// Counts the fact that was just taken into a tie.
  @inline(never)
  mutating func countQuality(_ slot: Int, wasBoth: Bool) {
    let source = fact.pointee.source
    let time_ms = fact.pointee.time_ms
    quality!.add(.records, source: source, time_ms: time_ms)
    if fact.pointee.flags & Fact.Flag.late != 0 { quality!.add(.late, source: source, time_ms: time_ms) }
    guard ties[slot].has(Tie.Flag.hasOrder | Tie.Flag.hasPosting) else { return }
    guard !wasBoth else {
      quality!.add(.matched, source: source, time_ms: time_ms)
      return
    }
    let isPosting = fact.pointee.isPosting
    var facts = facts(slot)
    while facts.next() {
      quality!.add(.matched, source: facts.source, time_ms: facts.time_ms)
      guard facts.isPosting != isPosting else { continue }
      let wait_ms = Int64(clamping: (time_ms &- facts.time_ms).magnitude)
      quality!.addWait(wait_ms, source: facts.source, time_ms: facts.time_ms)
    }
  }

  /// A fact is dropped: the same came again, or a newer image of its row.
  mutating func countDropped(_ fact: Fact, _ slot: Int, isRepeat: Bool) {
    guard quality != nil else { return }
    quality!.add(isRepeat ? .duplicates : .superseded, source: fact.source, time_ms: fact.time_ms)
    guard ties[slot].has(Tie.Flag.hasOrder | Tie.Flag.hasPosting) else { return }
    quality!.add(.matched, -1, source: fact.source, time_ms: fact.time_ms)
  }

  /// What was counted, by source and period.
  public var qualityLines: [(key: QualityKey, counts: QualityCounts)] {
    guard quality != nil else { return [] }
    return quality!.makeLines()
  }

  public var hasQuality: Bool { quality != nil }
}
