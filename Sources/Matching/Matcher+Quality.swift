import Aggregates
import Domain

/// Counts of quality: what came, what found its counterpart and how long that took, what came again.
///
/// A record is matched once its order is known to both sides. When the first record of the second side comes, those that
/// were there, all of the first, are counted with it (`append` reads them anyway); from then on each as it comes. What is dropped as a repetition is taken back. So at
/// any time `matched` is the number of facts of the ties that have both sides, and of those forgotten since.
extension Matcher {
  /// The facts of a body that is too long to be read for each that comes.
  @inline(never)
  mutating func countMeetings(_ facts: FactCursor, at time_ms: Int64) {
    var facts = facts
    while facts.next() { quality!.meet(source: facts.source, time_ms: facts.time_ms, at: time_ms) }
  }

  /// A fact, by its place among those read, is dropped: the same came again, or a newer image of its row.
  @inline(never)
  mutating func countDropped(_ place: Int, _ slot: Int, isRepeat: Bool) {
    let (source, time_ms) = (read[place].source, read[place].time_ms)
    quality!.add(isRepeat ? .duplicates : .superseded, source: source, time_ms: time_ms)
    guard ties[slot].has(Tie.Flag.hasOrder | Tie.Flag.hasPosting) else { return }
    quality!.add(.matched, -1, source: source, time_ms: time_ms)
  }

  /// What was counted, by source and period.
  public var qualityLines: [(key: QualityKey, counts: QualityCounts)] {
    guard quality != nil else { return [] }
    return quality!.makeLines()
  }

  public var hasQuality: Bool { quality != nil }
}
