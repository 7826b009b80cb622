import Aggregates
import Configuration
import Domain
import Matching

/// A file that is not in the order of event time.
public struct FileDisorder: Sendable, Equatable {
  public var file: String
  /// Those that lie further behind one before them than out_of_orderness, window and grace together.
  public var records: Int
  /// How far the last of them lies behind.
  public var mostBehind_ms: Int64
  /// Everything has been held until its time has surely passed: they are not late.
  public var isWaitedFor: Bool

  var text: String {
    let few = records == 1 ? "1 record lies" : "\(records) records lie"
    let most = (mostBehind_ms + 3_599_999) / 3_600_000
    let far = most < 48 ? "\(most) h" : "\((most + 23) / 24) d"
    return "\(file): \(few) up to \(far) behind what came before in event time: "
      + (isWaitedFor
        ? "the file is not in that order, and nothing has been judged before its end was near"
        : "taken for late, as from a topic; if the file is just not in that order, sort it or raise "
          + "matching.out_of_orderness")
  }
}

/// What a run did and found.
public struct RunSummary: Sendable {
  public var decode = DecodeCounters()
  public var match = MatchCounters()
  public var totals = ControlTotals()
  /// The same period by period.
  public var periods = PeriodTotals()
  /// How the orders of each source stand, in the order of the configuration: an order counts for each of its sources.
  public var sources: [QualityControl] = []
  /// Event time that the ages of breaks are counted to; `.min` without any record.
  public var asOf_ms = Int64.min
  /// Records of event times behind the one as of which is judged, which were left out; nil where there is no such time.
  public var later: Int?
  /// Files with records far behind those before them.
  public var disorder: [FileDisorder] = []
  public var quarantined = 0
  public var oversized = 0
  public var tiesHeld = 0
  /// By reason.
  public var deadLetters: [String: Int] = [:]
  public var peakStateBytes = 0
  /// Breaks of records whose value another one had before.
  public var duplicateValues = 0
  /// Records that could not be held for rules of uniqueness.
  public var droppedValues = 0

  public init() {}

  public var deadLetterCount: Int { deadLetters.values.reduce(0, +) }
  public var openBreaks: Int { match.open.reduce(0, +) }
  public var acceptedBreaks: Int { match.accepted.reduce(0, +) }
  /// No open break and nothing that could not be read.
  public var tiesOut: Bool { openBreaks == 0 && deadLetterCount == 0 }

  /// `part` of `whole` in percent with two decimals, rounded down: 100.00 means all of it. "n/a" of nothing.
  public static func percent(_ part: Int128, of whole: Int128) -> String {
    whole == 0 ? "n/a" : formatDecimal(part * 10_000 / whole, decimals: 2)
  }

  public var currencies: [Currency] { match.closedValue.keys.sorted { $0.code < $1.code } }

  /// The summary as JSON; nothing in it depends on speed, threads or the clock.
  public func json(_ configuration: Configuration) -> String {
    var writer = JSONWriter()
    func integer(_ key: String, _ value: Int) {
      writer.key(key)
      writer.integer(value)
    }
    func text(_ key: String, _ value: String) {
      writer.key(key)
      writer.string(value)
    }
    func rate(_ key: String, _ part: Int128, _ whole: Int128) {
      writer.key(key)
      if whole == 0 { writer.null() } else { writer.string(RunSummary.percent(part, of: whole)) }
    }
    writer.beginObject()
    text("name", configuration.name)
    writer.key("ties_out")
    writer.bool(tiesOut)
    writer.key("records")
    writer.beginObject()
    integer("read", decode.records)
    integer("order_events", match.orderEvents)
    integer("postings", match.postings)
    integer("skipped", decode.skipped)
    integer("tombstones", decode.tombstones)
    integer("duplicates", match.duplicates)
    integer("superseded", match.superseded)
    integer("late", match.late)
    if let later { integer("later_than_as_of", later) }
    integer("dead_letters", deadLetterCount)
    writer.endObject()
    writer.key("dead_letters")
    writer.beginObject()
    for (reason, count) in deadLetters.sorted(by: { $0.key < $1.key }) { integer(reason, count) }
    writer.endObject()
    if !disorder.isEmpty {
      writer.key("not_in_order")
      writer.beginArray()
      for found in disorder {
        writer.beginObject()
        text("file", found.file)
        integer("records", found.records)
        integer("behind_seconds", Int((found.mostBehind_ms + 999) / 1_000))
        writer.key("waited_for")
        writer.bool(found.isWaitedFor)
        writer.endObject()
      }
      writer.endArray()
    }
    if droppedValues > 0 { integer("unique_values_dropped", droppedValues) }
    if !decode.violations.isEmpty {
      writer.key("rules")
      writer.beginObject()
      for (rule, count) in decode.violations.sorted(by: { $0.key < $1.key }) { integer(rule, count) }
      writer.endObject()
    }
    let absent = decode.paths.sorted { $0.key < $1.key }.filter { !$0.value.missing.isEmpty }
    if !absent.isEmpty {
      writer.key("paths_never_there")
      writer.beginArray()
      for (source, counts) in absent {
        for path in counts.missing {
          writer.beginObject()
          text("source", source)
          text("field", path.field)
          text("path", path.path)
          integer("records", counts.looked)
          writer.endObject()
        }
      }
      writer.endArray()
    }
    writer.key("ties")
    writer.beginObject()
    integer("opened", match.tiesOpened)
    integer("due", match.tiesClosed)
    integer("tied_out", match.tiesTiedOut)
    rate("match_rate_percent", Int128(match.tiesTiedOut), Int128(match.tiesClosed))
    writer.endObject()
    writer.key("value")
    writer.beginArray()
    for currency in currencies {
      writer.beginObject()
      text("currency", currency.code)
      writer.key("due")
      writer.amount(match.closedValue[currency]!, currency)
      writer.key("tied_out")
      writer.amount(match.tiedOutValue[currency] ?? 0, currency)
      rate("match_rate_percent", match.tiedOutValue[currency] ?? 0, match.closedValue[currency]!)
      writer.endObject()
    }
    writer.endArray()
    writer.key("breaks")
    writer.beginObject()
    integer("open", openBreaks)
    integer("accepted", acceptedBreaks)
    writer.key("by_type")
    writer.beginObject()
    for type in BreakType.allCases where match.open[type.index] + match.accepted[type.index] > 0 {
      writer.key(type.rawValue)
      writer.beginObject()
      integer("open", match.open[type.index])
      integer("accepted", match.accepted[type.index])
      writer.endObject()
    }
    writer.endObject()
    writer.endObject()
    func control(_ line: ControlTotals.Line, _ period: Int32? = nil) {
      writer.beginObject()
      if let period { text("period", FinanceEncoder.period(period)) }
      text("currency", line.currency.code)
      text("role", line.role.name)
      writer.key("expected")
      writer.amount(line.expected, line.currency)
      writer.key("posted")
      writer.amount(line.posted, line.currency)
      writer.key("difference")
      writer.amount(line.posted - line.expected, line.currency)
      writer.key("open")
      writer.amount(line.open, line.currency)
      writer.key("accepted")
      writer.amount(line.accepted, line.currency)
      writer.key(period == nil ? "not_due" : "not_due_or_in_another_period")
      writer.amount(line.pending, line.currency)
      writer.endObject()
    }
    writer.key("control_totals")
    writer.beginArray()
    for line in totals.lines { control(line) }
    writer.endArray()
    writer.key("control_totals_by_period")
    writer.beginArray()
    for (period, line) in periods.lines { control(line, period) }
    writer.endArray()
    writer.key("sources")
    writer.beginArray()
    for (source, stand) in zip(configuration.sources, sources) {
      writer.beginObject()
      text("source", source.name)
      integer("due", Int(stand.closedOrders))
      integer("tied_out", Int(stand.tiedOutOrders))
      rate("match_rate_percent", Int128(stand.tiedOutOrders), Int128(stand.closedOrders))
      integer("open_breaks", Int(stand.openBreaks))
      writer.key("value")
      writer.beginArray()
      for line in stand.lines.sorted(by: { $0.currency.code < $1.currency.code }) {
        writer.beginObject()
        text("currency", line.currency.code)
        for (name, amount) in [
          ("due", line.closed), ("tied_out", line.tiedOut), ("open_breaks", line.open),
          ("control_difference", line.controlDifference),
        ] {
          writer.key(name)
          writer.amount(amount, line.currency)
        }
        rate("match_rate_percent", line.tiedOut, line.closed)
        writer.key("weighted_break_age_ms")
        if let age_ms = line.weightedAge_ms(at: asOf_ms) { writer.integer(Int(age_ms)) } else { writer.null() }
        writer.endObject()
      }
      writer.endArray()
      writer.key("control_totals")
      writer.beginArray()
      for line in ControlTotals(stand).lines { control(line) }
      writer.endArray()
      writer.endObject()
    }
    writer.endArray()
    writer.endObject()
    return writer.text + "\n"
  }
}
