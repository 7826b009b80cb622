import Aggregates
import Domain

/// The right counts of quality, found the slow and plain way from a history as it was delivered: one side, one month.
public struct NaiveQuality: Sendable {
  public struct Counts: Equatable, Sendable {
    public var records: Int64 = 0
    public var matched: Int64 = 0
    public var duplicates: Int64 = 0
    /// Debits made or to be made, and those of the matched records, minor units by currency; what is zero is left out.
    public var total: [String: Int128] = [:]
    public var matchedTotal: [String: Int128] = [:]

    public init() {}

    /// What was counted, in the same form.
    public init(_ counts: QualityCounts) {
      (records, matched, duplicates) = (counts[.records], counts[.matched], counts[.duplicates])
      for amount in counts.amounts {
        if amount.total != 0 { total[amount.currency.code] = amount.total }
        if amount.matched != 0 { matchedTotal[amount.currency.code] = amount.matched }
      }
    }
  }

  /// By month of event time, as a timestamp begins (`2026-01`).
  public private(set) var orders: [String: Counts] = [:]
  public private(set) var ledger: [String: Counts] = [:]
  /// Size of the main role of each order, minor units of the currency in which the history's orders are.
  public private(set) var values: [String: Int128] = [:]

  public static let currency = Currency("USD")!

  public init(_ history: History) {
    let ordered = Set(history.events.map(\.order))
    let posted = Set(history.postings.map(\.order))
    var seen: Set<[String]> = []
    for event in history.events {
      let isNew = seen.insert(["event", event.order, event.id]).inserted
      NaiveQuality.count(
        &orders[NaiveQuality.month(event.time_ms), default: Counts()], isNew, posted.contains(event.order),
        NaiveOracle.expectation(event).map(\.1), event.currency)
    }
    for posting in history.postings {
      let isNew = seen.insert(["posting", posting.order, posting.journal, "\(posting.line)"]).inserted
      NaiveQuality.count(
        &ledger[NaiveQuality.month(posting.time_ms), default: Counts()], isNew, ordered.contains(posting.order),
        [posting.amount], posting.currency)
    }
    let oracle = NaiveOracle(history)
    for order in oracle.orders {
      for role in [AccountRole.receivable, .revenue, .cash, .deferred, .cogs] {
        let side = oracle.balances[.init(order: order, role: role, currency: NaiveQuality.currency)] ?? .init()
        let size = side.expected != 0 ? side.expected : side.posted
        guard size != 0 else { continue }
        values[order] = Int128(size.magnitude)
        break
      }
    }
  }

  static func month(_ time_ms: Int64) -> String { String(formatTimestamp(time_ms).prefix(7)) }

  /// The month of a period, for comparison; `unknown` where it is none.
  static func month(ofPeriod period: Int32) -> String {
    guard period > 100_000, period < 1_000_000 else { return "unknown" }
    return "\(period / 100)-" + (period % 100 < 10 ? "0" : "") + "\(period % 100)"
  }

  private static func count(
    _ counts: inout Counts, _ isNew: Bool, _ isMatched: Bool, _ amounts: [Int64], _ currency: Currency
  ) {
    counts.records += 1
    guard isNew else {
      counts.duplicates += 1
      return
    }
    if isMatched { counts.matched += 1 }
    let debits = amounts.filter { $0 > 0 }.reduce(Int128(0)) { $0 + Int128($1) }
    guard debits > 0 else { return }
    counts.total[currency.code, default: 0] += debits
    if isMatched { counts.matchedTotal[currency.code, default: 0] += debits }
  }
}
