import Aggregates
import Domain

/// The right counts of quality, found the slow and plain way from a history as it was delivered: one side, one month.
public struct NaiveQuality: Sendable {
  public struct Counts: Equatable, Sendable {
    public var records: Int64 = 0
    public var matched: Int64 = 0
    public var duplicates: Int64 = 0

    public init(records: Int64 = 0, matched: Int64 = 0, duplicates: Int64 = 0) {
      self.records = records
      self.matched = matched
      self.duplicates = duplicates
    }
  }

  /// By month of event time, as a timestamp begins (`2026-01`).
  public private(set) var orders: [String: Counts] = [:]
  public private(set) var ledger: [String: Counts] = [:]

  public init(_ history: History) {
    let ordered = Set(history.events.map(\.order))
    let posted = Set(history.postings.map(\.order))
    var seen: Set<[String]> = []
    for event in history.events {
      let isNew = seen.insert(["event", event.order, event.id]).inserted
      NaiveQuality.count(
        &orders[NaiveQuality.month(event.time_ms), default: Counts()], isNew, posted.contains(event.order))
    }
    for posting in history.postings {
      let isNew = seen.insert(["posting", posting.order, posting.journal, "\(posting.line)"]).inserted
      NaiveQuality.count(
        &ledger[NaiveQuality.month(posting.time_ms), default: Counts()], isNew, ordered.contains(posting.order))
    }
  }

  static func month(_ time_ms: Int64) -> String { String(formatTimestamp(time_ms).prefix(7)) }

  /// The month of a period, for comparison; `unknown` where it is none.
  static func month(ofPeriod period: Int32) -> String {
    guard period > 100_000, period < 1_000_000 else { return "unknown" }
    return "\(period / 100)-" + (period % 100 < 10 ? "0" : "") + "\(period % 100)"
  }

  private static func count(_ counts: inout Counts, _ isNew: Bool, _ isMatched: Bool) {
    counts.records += 1
    if !isNew { counts.duplicates += 1 } else if isMatched { counts.matched += 1 }
  }
}
