import Aggregates
import Domain
import Forecasting

/// Encodes what forecasting consumes. Each message is written by the same list of fields of which its schema is made.
public struct FinanceEncoder: Sendable {
  public let dimensionNames: [String]
  private var writer = JSONWriter()

  public init(dimensionNames: [String]) { self.dimensionNames = dimensionNames }

  /// A message with the names of its dimensions, as the fields read it.
  struct Named<Message: Sendable>: Sendable {
    var message: Message
    var names: [String]
  }

  private mutating func encode<Message>(_ message: Message, _ fields: [MessageField<Named<Message>>]) -> [UInt8] {
    writer.removeAll()
    fields.write(Named(message: message, names: dimensionNames), into: &writer)
    return writer.bytes
  }

  public mutating func encode(_ message: RevenueMessage) -> [UInt8] { encode(message, FinanceFields.revenue) }
  public mutating func encode(_ message: CashflowMessage) -> [UInt8] { encode(message, FinanceFields.cashflow) }
  public mutating func encode(_ message: ReceivablesMessage) -> [UInt8] { encode(message, FinanceFields.receivables) }
  public mutating func encode(_ message: VarianceMessage) -> [UInt8] { encode(message, FinanceFields.variance) }
  public mutating func encode(_ message: QualityMessage) -> [UInt8] { encode(message, FinanceFields.quality) }

  // MARK: - Keys

  /// Key of a message: its parts joined by `|`, so that equal keys are equal texts. A bar or a backslash inside a part
  /// is escaped.
  public static func key(_ parts: [String]) -> [UInt8] { Array(keyText(parts).utf8) }

  static func keyText(_ parts: [String]) -> String {
    parts.map { $0.replacing("\\", with: "\\\\").replacing("|", with: "\\|") }.joined(separator: "|")
  }

  static func parts(_ series: MessageSeries) -> [String] {
    series.dimensions + [series.currency.code, series.isBase ? "base" : "transaction"]
  }

  public static func key(_ message: RevenueMessage) -> [UInt8] {
    key(parts(MessageSeries(message.line.key)) + [period(message.line.key.period)])
  }
  public static func key(_ message: CashflowMessage) -> [UInt8] { key(parts(message.series)) }
  public static func key(_ message: ReceivablesMessage) -> [UInt8] { key(parts(message.series)) }
  public static func key(_ message: VarianceMessage) -> [UInt8] {
    key(parts(message.series) + [period(message.period), message.measure])
  }
  public static func key(_ message: QualityMessage) -> [UInt8] { key([message.source, period(message.period)]) }

  /// A period as text: year and period of the year, or the word for what is none.
  public static func period(_ period: Int32) -> String {
    switch period {
    case CellTable.unknownPeriod: "unknown"
    case CellTable.overflowPeriod: "(other)"
    case QualityKey.allPeriods: QualityKey.allSources
    default: String(period)
    }
  }
}

/// The fields of the messages, in the order in which they are written.
enum FinanceFields {
  typealias Named = FinanceEncoder.Named

  private static func series<Message>(_ series: @escaping @Sendable (Message) -> MessageSeries) -> [MessageField<
    Named<Message>
  >] {
    [
      .texts("dimensions", "Configured dimension to value; empty where unknown, (other) beyond the bound.") {
        Array(zip($0.names, series($0.message).dimensions))
      },
      .currency("currency", "ISO 4217, of all amounts of the message.") { series($0.message).currency },
      .word("view", ["transaction", "base"], "Whether amounts are as they were, or converted to the base currency.") {
        series($0.message).isBase ? "base" : "transaction"
      },
    ]
  }

  private static func status<Message>(_ status: @escaping @Sendable (Message) -> MessageStatus) -> [MessageField<
    Named<Message>
  >] {
    [
      .word("status", ["provisional", "final"], "Provisional until the watermark has passed; late data revises.") {
        status($0.message).isProvisional ? "provisional" : "final"
      },
      .integer("revision", "Rises with each change under the same key.") {
        Int(clamping: status($0.message).revision)
      },
      .time("as_of", "Event time up to which the figures are complete.") { status($0.message).asOf_ms },
      .times("watermarks", "How far each source has come.") {
        status($0.message).watermarks.map { ($0.source, $0.time_ms) }
      },
    ]
  }

  private static func measures(_ measures: [Measure], _ basis: DateBasis) -> [MessageField<Named<RevenueMessage>>] {
    measures.map { measure in
      .amount(measure.rawValue, measure.definition) {
        ($0.message.line.values.value(measure, basis), $0.message.line.key.currency)
      }
    }
  }

  private static func balance(
    _ name: String, _ meaning: String, _ roll: @escaping @Sendable (RevenueMessage) -> RollForward
  ) -> MessageField<Named<RevenueMessage>> {
    .object(
      name, meaning,
      [
        .amount("opening", "At the beginning of the period.") {
          (roll($0.message).opening, $0.message.line.key.currency)
        },
        .amount("additions", "In the period.") { (roll($0.message).additions, $0.message.line.key.currency) },
        .amount("reductions", "In the period.") { (roll($0.message).reductions, $0.message.line.key.currency) },
        .amount("closing", "Opening + additions − reductions.") {
          (roll($0.message).closing, $0.message.line.key.currency)
        },
      ])
  }

  static let revenue: [MessageField<Named<RevenueMessage>>] =
    series { MessageSeries($0.line.key) } + [
      .text("period", "Accounting period, year and number; unknown, or (other).") {
        FinanceEncoder.period($0.message.line.key.period)
      },
      .object("orders", "What the order events say.", measures(Measure.allCases.filter { !$0.isPosted }, .event)),
      .object(
        "by_posting_date", "What the ledger holds, by posting date.",
        measures(Measure.allCases.filter(\.isPosted), .posting)),
      .object(
        "by_event_date", "What the ledger holds, by the date of the event behind it.",
        measures(Measure.allCases.filter(\.isPosted), .event)),
      balance("deferred", "Billed revenue comes in, recognised revenue goes out, by posting date.") { $0.deferred },
      balance("backlog", "Bookings come in, billings go out.") { $0.backlog },
      balance(
        "rpo",
        "Remaining performance obligations, deferred + backlog, by posting date: bookings come in; what is billed and not deferred, and what is released, goes out."
      ) { $0.rpo },
      balance("receivable", "The ledger's receivables, by posting date.") { $0.receivable },
      .ratio("book_to_bill", "Bookings / billings; null without billings.") { $0.message.line.values.bookToBill_u },
      .ratio("margin_rate", "Gross margin / recognised revenue, by posting date; null without revenue.") {
        $0.message.line.values.marginRate_u()
      },
      .integer("events", "Order events in the cell.", minimum: nil) {
        Int(clamping: $0.message.line.values[.events])
      },
      .integer("unvalued_events", "Of these, those without an amount that their kind needs.", minimum: nil) {
        Int(clamping: $0.message.line.values[.unvalued])
      },
      .integer(
        "unvalued_postings",
        "In the base view: postings by posting date that no rate converts, so that their amounts are missing.",
        minimum: nil
      ) { Int(clamping: $0.message.line.values[.unrated]) },
      .object(
        "disputed",
        "Σ |posted − expected| of the open breaks, each difference by its account role, in the one cell to which it belongs.",
        disputed
      ).added,
      .ratio(
        "tied_out",
        "Part of recognised revenue that is not in dispute: 1 − disputed revenue / (|gross revenue| + |freight| + |discounts| + |returns|) by posting date, at least 0; null where there is neither."
      ) { $0.message.line.values.revenueTiedOut_u }.added,
      .object(
        "completeness", "What is known to be missing in the cell.",
        completeness { $0.message.completeness } + [
          .bool("other", "The cell stands for all values of a dimension beyond its bound.") {
            $0.message.completeness.isOther
          }
        ]
      ).added,
    ] + status { $0.status }

  /// By what the roles are for; all of them together are `total`.
  private static let disputedRoles: [(name: String, meaning: String, roles: [AccountRole])] = [
    ("revenue", "Of revenue, freight, discount and returns.", Measure.recognisedRevenue.roles),
    ("deferred", "Of deferred revenue.", [.deferred]),
    ("unbilled", "Of unbilled receivables.", [.unbilled]),
    ("receivable", "Of receivables.", [.receivable]),
    ("cash", "Of cash.", [.cash]),
    ("tax", "Of tax.", [.tax]),
    ("cogs", "Of cost of goods sold.", [.cogs]),
    ("total", "Of all roles, those not named here too.", AccountRole.allCases),
  ]

  private static let disputed: [MessageField<Named<RevenueMessage>>] = disputedRoles.map { entry in
    .amount(entry.name, entry.meaning) { named in
      let values = named.message.line.values
      return (entry.roles.reduce(0) { $0 + values[disputed: $1] }, named.message.line.key.currency)
    }
  }

  private static func completeness<Message>(
    _ of: @escaping @Sendable (Message) -> CellCompleteness
  ) -> [MessageField<Message>] {
    [
      .bool("complete", "Nothing is known to be missing. What is not due yet, `status` says.") { of($0).isComplete },
      .integer(
        "unvalued_events", "Order events without an amount that their kind needs, or that no rate converts.",
        minimum: nil
      ) { Int(clamping: of($0).unvaluedEvents) },
      .integer("unvalued_postings", "In the base view: postings that no rate converts.", minimum: nil) {
        Int(clamping: of($0).unvaluedPostings)
      },
      .integer(
        "unvalued_differences",
        "In the base view: differences of open breaks that no rate converts, of a variance in the roles behind its measure; `disputed` lacks them.",
        minimum: nil
      ) { Int(clamping: of($0).unvaluedDifferences) },
    ]
  }

  private struct Week: Sendable {
    var number: Int
    var forecast: CashForecast
    var byDueDate: Int64
    var backlog: Int64?
    var actual: Int64?
  }

  private static let week: [MessageField<Week>] = [
    .integer("week", "From 1.", minimum: 1) { $0.number },
    .date("from", "First day.") { $0.forecast.firstDay(ofWeek: $0.number - 1) },
    .date("to", "Last day.") { $0.forecast.firstDay(ofWeek: $0.number - 1) + 6 },
    .amount("expected", "By what customers did before.") {
      (Int128($0.forecast.expected[$0.number - 1]), $0.forecast.currency)
    },
    .amount("by_due_date", "If everything is paid when it is due.") { (Int128($0.byDueDate), $0.forecast.currency) },
    .optionalAmount("actual", "Null: the week is not over. What came in stands in `past_weeks`.") {
      ($0.actual.map { Int128($0) }, $0.forecast.currency)
    },
    .optionalAmount(
      "backlog", "Expected beside it, of what is ordered and not billed yet; null where `flows.backlog` is not enabled."
    ) { ($0.backlog.map { Int128($0) }, $0.forecast.currency) },
  ]

  private static let error: [MessageField<ForecastError?>] = [
    .ratio("mape", "Mean absolute percentage error over the weeks with actual cash, as a fraction; null without one.") {
      $0?.mape.map(millionths)
    },
    .ratio("weighted", "Σ |error| / Σ actual.") { $0?.weighted.map(millionths) },
    .ratio("bias", "(Σ forecast − Σ actual) / Σ actual.") { $0?.bias.map(millionths) },
    .integer("weeks", "Weeks with actual cash.") { $0?.pairs ?? 0 },
  ]

  /// A statistic, not money: rounded to millionths, half to even.
  private static func millionths(_ value: Double) -> Int128 {
    Int128((min(max(value, -1e12), 1e12) * 1_000_000).rounded(.toNearestOrEven))
  }

  private struct PastWeekOf: Sendable {
    var number: Int
    var week: PastWeek
    var currency: Currency
  }

  private static let pastWeek: [MessageField<PastWeekOf>] = [
    .integer("week", "From 1, the oldest.", minimum: 1) { $0.number },
    .date("from", "First day.") { $0.week.from_d },
    .date("to", "Last day.") { $0.week.from_d + 6 },
    .amount("expected", "What would have been expected when the 13 weeks began, by what customers did before.") {
      (Int128($0.week.expected), $0.currency)
    },
    .amount("by_due_date", "The same by due date.") { (Int128($0.week.byDueDate), $0.currency) },
    .amount("actual", "Cash for what was open then: what the two forecasts were about.") {
      (Int128($0.week.actual), $0.currency)
    },
    .amount(
      "received", "All cash of the week that was put to receivables: to invoices of whatever day, and on account."
    ) { (Int128($0.week.received), $0.currency) },
  ]

  private static let completeness: [MessageField<FlowCompleteness>] = [
    .bool("complete", "Nothing is known to be missing.") { $0.isComplete },
    .integer("unreadable_records", "Records of the sources that could not be taken in.") { $0.unreadable },
    .integer("trimmed_partitions", "Partitions of the sources whose oldest records are gone.") {
      $0.trimmedPartitions
    },
    .integer("assumed_due_dates", "Open items for which no source says when they are due: `flows.terms` stand in.") {
      $0.assumedDueDates
    },
    .integer(
      "unvalued_items",
      "In the base view: items that no rate of `as_of_date` converts; they are in none of its figures."
    ) { $0.unvaluedItems },
  ]

  static let cashflow: [MessageField<Named<CashflowMessage>>] =
    series { $0.series } + [
      .date("as_of_date", "Last day of what is known; week 1 begins the day after.") { $0.message.learned.asOf_d },
      .list("weeks", "The next 13 weeks.", week) { named in
        (0..<CashForecast.weeks).map { at in
          Week(
            number: at + 1, forecast: named.message.learned, byDueDate: named.message.byDueDate.expected[at],
            backlog: named.message.backlog?.expected[at],
            actual: at < named.message.actual.count ? named.message.actual[at] : nil)
        }
      },
      .amount("later", "Expected after the last week.") {
        (Int128($0.message.learned.beyond), $0.message.series.currency)
      },
      .amount("disputed", "Open and in dispute; in none of the weeks.") {
        (Int128($0.message.learned.disputed), $0.message.series.currency)
      },
      .amount("open", "All that is open: the weeks, later and disputed add up to it.") {
        (Int128($0.message.learned.open), $0.message.series.currency)
      },
      .object(
        "backtest", "How the forecasts did in the past.",
        [
          .object("expected", "By what customers did before.", error) { $0.message.backtest?.learned },
          .object("by_due_date", "If everything had been paid when it was due.", error) {
            $0.message.backtest?.byDueDate
          },
        ]),
      .list("past_weeks", "The 13 weeks up to `as_of_date`: expected before they began, and actual.", pastWeek) {
        named in
        named.message.past.enumerated().map {
          PastWeekOf(number: $0.offset + 1, week: $0.element, currency: named.message.series.currency)
        }
      },
      .ratio("tied_out", "Part of what is open that is not in dispute; null where nothing is open.") {
        ratio_u(
          Int128($0.message.learned.open) - Int128($0.message.learned.disputed), Int128($0.message.learned.open))
      },
      .object("completeness", "What is missing in the figures.", completeness) { $0.message.completeness },
      .object(
        "backlog",
        "What is ordered and not billed yet: outside of `open` and `expected`; its amounts are null where `flows.backlog` is not enabled.",
        [
          .optionalAmount("open", "All that is to be billed: `backlog` of the weeks and later add up to it.") {
            ($0.message.backlog.map { Int128($0.open) }, $0.message.series.currency)
          },
          .optionalAmount("later", "Expected after the last week.") {
            ($0.message.backlog.map { Int128($0.beyond) }, $0.message.series.currency)
          },
          .integer("orders", "Orders of which something is to be billed.") { $0.message.backlog?.orders ?? 0 },
          .integer("unvalued_orders", "Orders with an event without an amount: what is to be billed is not known.") {
            $0.message.unvaluedOrders
          },
        ]),
    ] + status { $0.status }

  static let receivables: [MessageField<Named<ReceivablesMessage>>] =
    series { $0.series } + [
      .date("as_of_date", "The end of this day.") { $0.message.ageing.day },
      .object(
        "ageing", "Open amounts by days past the due date.",
        Ageing.Bucket.allCases.map { bucket in
          .amount(
            bucket == .over90
              ? "over_90" : bucket == .current ? "current" : "days_\(bucket.name.replacing("-", with: "_"))", ""
          ) {
            (Int128($0.message.ageing[bucket]), $0.message.series.currency)
          }
        }),
      .amount(
        "on_account",
        "What is put to no invoice, in no bucket: negative where money or credit of the customer stands there."
      ) { (Int128($0.message.ageing.onAccount), $0.message.series.currency) },
      .amount("open", "Of all buckets and on account.") {
        (Int128($0.message.ageing.total), $0.message.series.currency)
      },
      .amount("disputed", "Of these, in dispute.") { (Int128($0.message.ageing.disputed), $0.message.series.currency) },
      .integer("items", "Open items.") { $0.message.ageing.count },
      .integer("days", "Days over which sales and the ratios are taken.") { Int($0.message.ratios.days) },
      .amount("sales", "Credit sales of these days: invoices less those reversed; money on account is none.") {
        (Int128($0.message.ratios.sales), $0.message.series.currency)
      },
      .ratio("dso", "Days sales outstanding: open / sales × days.") { $0.message.ratios.dso_u },
      .ratio(
        "best_possible_dso",
        "The same of what is not overdue, less what stands on account beyond what is overdue."
      ) { $0.message.ratios.bestPossibleDSO_u },
      .ratio("average_days_delinquent", "DSO − best possible DSO.") { $0.message.ratios.add_u },
      .ratio("collection_effectiveness", "(opening + sales − closing) / (opening + sales − closing current).") {
        $0.message.ratios.cei_u
      },
      .ratio("tied_out", "Part of what is open that is not in dispute; null where nothing is open.") {
        ratio_u(
          Int128($0.message.ageing.total) - Int128($0.message.ageing.disputed), Int128($0.message.ageing.total))
      },
      .object("completeness", "What is missing in the figures.", completeness) { $0.message.completeness },
    ] + status { $0.status }

  static let variance: [MessageField<Named<VarianceMessage>>] =
    series { $0.series } + [
      .text("period", "Accounting period, year and number.") { FinanceEncoder.period($0.message.period) },
      .text("measure", "What is compared.") { $0.message.measure },
      .amount("actual", "") { ($0.message.variance.actual, $0.message.series.currency) },
      .amount("budget", "") { ($0.message.variance.budget, $0.message.series.currency) },
      .amount("variance", "Actual − budget.") { ($0.message.variance.amount, $0.message.series.currency) },
      .ratio("percent", "Variance / |budget| as a fraction; null at a budget of zero.") {
        $0.message.variance.percent_u
      },
      .optionalBool("favourable", "By the account's nature; null where there is no difference or no good side.") {
        $0.message.variance.isFavourable
      },
      .bool("flagged", "Over the absolute and the percent threshold; without a budget over the absolute one.") {
        $0.message.isFlagged
      },
      .optionalAmount("volume", "Δquantity × budget price; null without quantities.") {
        ($0.message.parts?.volume, $0.message.series.currency)
      },
      .optionalAmount("price", "Δprice × actual quantity: with volume it adds up to the variance.") {
        ($0.message.parts?.price, $0.message.series.currency)
      },
      .ratio("actual_quantity", "In units; null where none is counted.") { $0.message.actualQuantity_u },
      .ratio("budget_quantity", "In units; null where none is planned.") { $0.message.budgetQuantity_u },
      .ratio("quantity_variance", "Actual − budget quantity; null without either.") {
        guard let actual = $0.message.actualQuantity_u, let budget = $0.message.budgetQuantity_u else { return nil }
        return actual - budget
      },
      .optionalAmount(
        "disputed",
        "The part of the actual that is in dispute: Σ |posted − expected| of the open breaks in the roles behind the measure; null where nothing of it is posted."
      ) { ($0.message.disputed, $0.message.series.currency) }.added,
      .ratio("tied_out", "1 − disputed / |actual|, at least 0; null where there is neither, or `disputed` is null.") {
        named in
        named.message.disputed.flatMap {
          CellValues.tiedOut_u($0, of: Int128(named.message.variance.actual.magnitude))
        }
      }.added,
      .object(
        "completeness", "What is known to be missing in the actual.",
        completeness { $0.message.completeness } + [
          .amount(
            "other",
            "Σ |actual| of the same measure, currency and period under `(other)`, the values beyond a dimension's bound: some of it may belong here."
          ) { ($0.message.completeness.other, $0.message.series.currency) }
        ]
      ).added,
    ] + status { $0.status }

  private static let money: [MessageField<QualityMessage.Money>] = [
    .currency("currency", "ISO 4217.") { $0.currency },
    .amount(
      "total",
      "Value taken in: the debits of postings, and those that order events must make by the posting policy; repetitions, replaced and deleted records left out. In the period `(all)`: value of the orders whose window and grace have passed (the size of the receivable, else revenue, cash, deferred, cogs); 0 in an accounting period, as orders belong to none."
    ) { ($0.total, $0.currency) },
    .amount(
      "matched",
      "Of that, the records whose order is known to the other side too. In the period `(all)`: of the orders that tie out; 0 in an accounting period."
    ) {
      ($0.matched, $0.currency)
    },
    .ratio("match_rate", "Matched / total, in the period `(all)` the tied-out rate by value; null without a total.") {
      ratio_u($0.matched, $0.total)
    },
    .amount(
      "open_breaks",
      "In the period `(all)`: Σ |posted − expected| of the open breaks, each in its own role; in an accounting period Σ over the roles of |open| of its `control_totals`. 0 in a source's months: a break belongs to no month."
    ) { ($0.openBreaks, $0.currency) },
    .amount(
      "control_difference",
      "In the period `(all)`: Σ over the roles of |posted − expected − what breaks explain|; zero where every order is due and the control totals hold. In an accounting period also what the ledger has in another one than the orders, so that a CUTOFF leaves it other than zero. 0 in a source's months."
    ) { ($0.controlDifference, $0.currency) },
    .optionalInteger(
      "weighted_break_age_ms",
      "In the period `(all)`: Σ |posted − expected| × age / Σ |posted − expected| of the open breaks, at `as_of`; null without any, and elsewhere. A break's age counts in event time from when it was first told as open."
    ) { $0.weightedBreakAge_ms.map { Int($0) } },
    .list(
      "control_totals",
      "In the period `(all)`: by account role; posted − expected = open + accepted + pending. In an accounting period: expected by document date, posted by posting date.",
      controlTotals
    ) { $0.roles },
  ]

  private static let controlTotals: [MessageField<QualityMessage.Role>] = [
    .text("role", "Account role.") { $0.role.name },
    .amount("expected", "What the order events say, debit − credit.") { ($0.expected, $0.currency) },
    .amount("posted", "What the ledger holds.") { ($0.posted, $0.currency) },
    .amount("open", "Posted − expected of the open breaks.") { ($0.open, $0.currency) },
    .amount("accepted", "Of those that stand: accepted, explained, force-closed.") { ($0.accepted, $0.currency) },
    .amount(
      "pending",
      "Of what is not due yet; zero once every order is. In an accounting period also what the ledger has in another one than the orders: it adds up to that of `(all)`."
    ) { ($0.pending, $0.currency) },
  ]

  static let quality: [MessageField<Named<QualityMessage>>] =
    [
      .text(
        "source",
        "Name of the source; `(all)` for how the orders stand over all sources, and for the control totals of a period."
      ) {
        $0.message.source
      },
      .text(
        "period",
        "Calendar month of event time, year and number; unknown, or (other). `(all)` for how the orders stand, beside a source those in which it has a record: an order counts for each of its sources. Beside the source `(all)` also an accounting period. Where there is `(all)` in either, counts of records are 0."
      ) {
        FinanceEncoder.period($0.message.period)
      },
      .integer("records", "Taken in.") { $0.message.count(.records) },
      .integer("matched", "Of these, those whose order is known to the other side too; repetitions left out.") {
        $0.message.count(.matched)
      },
      .integer("unmatched", "Records − duplicates − superseded − matched.") { $0.message.unmatched },
      .ratio("match_rate", "Matched / records; null without records.") {
        ratio_u(Int128($0.message.count(.matched)), Int128($0.message.count(.records)))
      },
      .integer("late", "Came after window and grace.") { $0.message.count(.late) },
      .integer("duplicates", "Came again and were dropped.") { $0.message.count(.duplicates) },
      .integer("superseded", "Older images of a row that a newer one has replaced.") { $0.message.count(.superseded) },
      .integer("flagged", "Broke a validation rule that does not reject.") { $0.message.count(.flagged) },
      .integer("dead_letters", "Could not be taken in; counted by when they were written.") {
        Int($0.message.counts.deadLetters)
      },
      .object(
        "dead_letters_by_reason", "The same, by why.",
        DataFaultReason.allCases.map { reason in
          .integer(reason.rawValue.lowercased(), reason.rawValue + ".") { Int($0.message.counts[reason]) }
        }),
      .ratio("completeness", "Records / (records + dead letters): what could be taken in; null without any.") {
        ratio_u(
          Int128($0.message.count(.records)),
          Int128($0.message.count(.records)) + Int128($0.message.counts.deadLetters))
      },
      .ratio("late_rate", "Late / records.") {
        ratio_u(Int128($0.message.count(.late)), Int128($0.message.count(.records)))
      },
      .ratio("duplicate_rate", "Duplicates / records.") {
        ratio_u(Int128($0.message.count(.duplicates)), Int128($0.message.count(.records)))
      },
      .ratio("dead_letter_rate", "Dead letters / (records + dead letters).") {
        ratio_u(
          Int128($0.message.counts.deadLetters),
          Int128($0.message.count(.records)) + Int128($0.message.counts.deadLetters))
      },
      .object(
        "time_to_match_ms",
        "Event time between a record and the first of the other side, in milliseconds; null before there is one.",
        [
          .optionalInteger("p50", "Median; each up to a fourth too long.") {
            $0.message.counts.wait_ms(percent: 50).map { Int($0) }
          },
          .optionalInteger("p95", "") { $0.message.counts.wait_ms(percent: 95).map { Int($0) } },
          .optionalInteger("p99", "") { $0.message.counts.wait_ms(percent: 99).map { Int($0) } },
        ]),
      .optionalInteger(
        "freshness_lag_ms", "How far the newest event time of the source was behind the clock when this was told."
      ) {
        $0.message.freshnessLag_ms.map { Int($0) }
      },
      .list("amounts", "By currency.", money) { $0.message.money },
      .optionalInteger(
        "weighted_break_age_ms",
        "In the period `(all)`, where open breaks are in one currency alone: that of its `amounts`; else null."
      ) {
        $0.message.weightedBreakAge_ms.map { Int($0) }
      },
      .integer(
        "orders_closed",
        "In the period `(all)`: orders whose window and grace have passed; 0 in an accounting period, and in a source's months."
      ) {
        Int($0.message.control?.closedOrders ?? 0)
      },
      .integer("orders_tied_out", "Of these, those without an open break.") {
        Int($0.message.control?.tiedOutOrders ?? 0)
      },
      .ratio("tied_out_rate", "Orders tied out / closed; null without any.") {
        ratio_u(Int128($0.message.control?.tiedOutOrders ?? 0), Int128($0.message.control?.closedOrders ?? 0))
      },
      .integer(
        "open_break_count",
        "In the period `(all)`: breaks that are open; beside a source those of orders in which it has a record. 0 in an accounting period, and in a source's months."
      ) {
        Int(max(0, $0.message.control?.openBreaks ?? 0))
      }.added,
    ] + status { $0.status }
}
