import Aggregates
import Domain
import Forecasting

/// What every message for forecasting says of itself.
public struct MessageStatus: Sendable, Equatable {
  /// Rises with every change of the same key; a consumer upserts by key and keeps the highest.
  public var revision: UInt64
  /// Event time up to which the figures are complete.
  public var asOf_ms: Int64
  /// By source: how far it has come.
  public var watermarks: [(source: String, time_ms: Int64)]
  /// Until the watermark has passed the end of the period, with window and grace. Late data revises a final message too.
  public var isProvisional: Bool

  public init(revision: UInt64, asOf_ms: Int64, watermarks: [(source: String, time_ms: Int64)], isProvisional: Bool) {
    self.revision = revision
    self.asOf_ms = asOf_ms
    self.watermarks = watermarks
    self.isProvisional = isProvisional
  }

  public static func == (a: Self, b: Self) -> Bool {
    a.revision == b.revision && a.asOf_ms == b.asOf_ms && a.isProvisional == b.isProvisional
      && a.watermarks.elementsEqual(b.watermarks) { $0 == $1 }
  }
}

/// What a message is about: the values of the configured dimensions, and a currency.
public struct MessageSeries: Hashable, Sendable {
  public var dimensions: [String]
  public var currency: Currency
  public var isBase: Bool

  public init(dimensions: [String], currency: Currency, isBase: Bool = false) {
    self.dimensions = dimensions
    self.currency = currency
    self.isBase = isBase
  }

  public init(_ key: CellKey) { self.init(dimensions: key.dimensions, currency: key.currency, isBase: key.isBase) }
}

/// What is known to be missing in figures that are made of cells.
public struct CellCompleteness: Sendable, Equatable {
  /// Order events whose amount is not known, in this view.
  public var unvaluedEvents: Int128 = 0
  /// In the base view: postings that no rate converts, and differences in dispute.
  public var unvaluedPostings: Int128 = 0
  public var unvaluedDifferences: Int128 = 0
  /// Whether it is about the values of a dimension beyond its bound.
  public var isOther = false
  /// Of a variance: what stands under `(other)` and may belong to it, minor units.
  public var other: Int128 = 0

  public init() {}

  /// Of a cell.
  public init(_ line: CellLine) {
    add(line.values)
    isOther = line.key.dimensions.contains(CellKey.other)
  }

  /// - Parameters:
  ///   - events: Whether what order events say is in the figure.
  ///   - postings: Whether what is posted is.
  ///   - roles: Those whose differences are in the figure; nil for all.
  mutating func add(
    _ values: CellValues, events: Bool = true, postings: Bool = true, roles: [AccountRole]? = nil
  ) {
    if events { unvaluedEvents += values[.unvalued] }
    if postings { unvaluedPostings += values[.unrated] }
    unvaluedDifferences += roles.map { values.unconverted(of: $0) } ?? values[.unconverted]
  }

  public var isComplete: Bool {
    unvaluedEvents == 0 && unvaluedPostings == 0 && unvaluedDifferences == 0 && other == 0
  }
}

/// `<prefix>.revenue`: one cell of dimensions × currency × period.
public struct RevenueMessage: Sendable, Equatable {
  public var line: CellLine
  /// Balances at the end of the period, with those before it.
  public var deferred: RollForward
  public var backlog: RollForward
  public var rpo: RollForward
  public var receivable: RollForward
  public var status: MessageStatus
  public var completeness: CellCompleteness { CellCompleteness(line) }

  public init(
    line: CellLine, deferred: RollForward, backlog: RollForward, rpo: RollForward, receivable: RollForward,
    status: MessageStatus
  ) {
    self.line = line
    self.deferred = deferred
    self.backlog = backlog
    self.rpo = rpo
    self.receivable = receivable
    self.status = status
  }

  /// The messages of a series, all its lines given in the order of their periods: a change of one period changes the
  /// balances of the later ones.
  public static func of(series lines: [CellLine], status: (CellLine) -> MessageStatus) -> [RevenueMessage] {
    let deferred = RollForward.of(.deferred, lines)
    let backlog = RollForward.of(.backlog, lines)
    let rpo = RollForward.of(.rpo, lines)
    let receivable = RollForward.of(.receivable, lines)
    return lines.indices.map {
      RevenueMessage(
        line: lines[$0], deferred: deferred[$0], backlog: backlog[$0], rpo: rpo[$0],
        receivable: receivable[$0], status: status(lines[$0]))
    }
  }
}

/// What is missing in the figures of a flow, as far as the job knows.
public struct FlowCompleteness: Sendable, Equatable {
  /// Records of the sources that could not be taken in.
  public var unreadable = 0
  /// Partitions of the sources whose oldest records are gone: what they held is not in the figures.
  public var trimmedPartitions = 0
  /// Open items whose due date no source says, so that the configured terms stand in.
  public var assumedDueDates = 0
  /// In the base view: items that no rate converts.
  public var unvaluedItems = 0

  public init() {}

  public var isComplete: Bool { unreadable == 0 && trimmedPartitions == 0 && unvaluedItems == 0 }
}

/// A week that is over: what had been forecast when the 13 weeks began, and what came.
public struct PastWeek: Sendable, Equatable {
  public var from_d: Int32
  public var expected: Int64
  public var byDueDate: Int64
  /// Cash for what was open when the 13 weeks began: what the forecasts were about.
  public var actual: Int64
  /// All cash of the week that was put to receivables: to invoices of whatever day, and on account.
  public var received: Int64

  public init(from_d: Int32, expected: Int64, byDueDate: Int64, actual: Int64, received: Int64) {
    self.from_d = from_d
    self.expected = expected
    self.byDueDate = byDueDate
    self.actual = actual
    self.received = received
  }
}

/// `<prefix>.cashflow`: the next 13 weeks of a series, and those before.
public struct CashflowMessage: Sendable, Equatable {
  public var series: MessageSeries
  public var learned: CashForecast
  public var byDueDate: CashForecast
  /// By week, from 0; nil (as everything that is known of weeks to come) where the week has not passed.
  public var actual: [Int64?]
  /// How the learned forecast and the one by due date did in the past; nil before there is a past.
  public var backtest: (learned: ForecastError, byDueDate: ForecastError)?
  /// The 13 weeks that end with the last day of what is known, oldest first.
  public var past: [PastWeek]
  /// Of what is ordered and not billed; nil where that is not looked at.
  public var backlog: BacklogForecast?
  /// Orders of which nobody knows what is to be billed.
  public var unvaluedOrders = 0
  public var completeness: FlowCompleteness
  public var status: MessageStatus

  public init(
    series: MessageSeries, learned: CashForecast, byDueDate: CashForecast, actual: [Int64?],
    backtest: (learned: ForecastError, byDueDate: ForecastError)?, past: [PastWeek],
    completeness: FlowCompleteness, status: MessageStatus
  ) {
    self.past = past
    self.completeness = completeness
    self.series = series
    self.learned = learned
    self.byDueDate = byDueDate
    self.actual = actual
    self.backtest = backtest
    self.status = status
  }

  public static func == (a: Self, b: Self) -> Bool {
    a.series == b.series && a.learned == b.learned && a.byDueDate == b.byDueDate && a.actual == b.actual
      && a.backtest?.learned == b.backtest?.learned && a.backtest?.byDueDate == b.backtest?.byDueDate
      && a.past == b.past && a.completeness == b.completeness && a.status == b.status
      && a.backlog == b.backlog && a.unvaluedOrders == b.unvaluedOrders
  }
}

/// `<prefix>.receivables`: ageing and ratios of a series at the end of a day.
public struct ReceivablesMessage: Sendable, Equatable {
  public var series: MessageSeries
  public var ageing: Ageing
  public var ratios: CollectionRatios
  public var completeness: FlowCompleteness
  public var status: MessageStatus

  public init(
    series: MessageSeries, ageing: Ageing, ratios: CollectionRatios, completeness: FlowCompleteness,
    status: MessageStatus
  ) {
    self.completeness = completeness
    self.series = series
    self.ageing = ageing
    self.ratios = ratios
    self.status = status
  }
}

/// `<prefix>.variance`: a measure against its budget.
public struct VarianceMessage: Sendable, Equatable {
  public var series: MessageSeries
  public var period: Int32
  public var measure: String
  public var variance: Variance
  public var parts: PriceVolume?
  /// Millionths of the unit; nil where none is counted, or planned.
  public var actualQuantity_u: Int128?
  public var budgetQuantity_u: Int128?
  /// Of the actual, minor units; nil where nothing of the measure is posted.
  public var disputed: Int128?
  public var completeness = CellCompleteness()
  public var isFlagged: Bool
  public var status: MessageStatus

  public init(
    series: MessageSeries, period: Int32, measure: String, variance: Variance, parts: PriceVolume?,
    actualQuantity_u: Int128? = nil, budgetQuantity_u: Int128? = nil, isFlagged: Bool, status: MessageStatus
  ) {
    self.actualQuantity_u = actualQuantity_u
    self.budgetQuantity_u = budgetQuantity_u
    self.series = series
    self.period = period
    self.measure = measure
    self.variance = variance
    self.parts = parts
    self.isFlagged = isFlagged
    self.status = status
  }
}

/// `<prefix>.quality`: how well a source ties out in a period.
public struct QualityMessage: Sendable, Equatable {
  /// Sums of one currency, in minor units.
  public struct Money: Sendable, Equatable {
    public var currency: Currency
    public var total: Int128
    public var matched: Int128
    public var openBreaks: Int128
    /// Σ over the roles of |posted − expected − explained|: zero where the control totals hold and nothing is pending.
    public var controlDifference: Int128
    /// Σ |posted − expected| × age / Σ |posted − expected| of the open breaks; nil without any.
    public var weightedBreakAge_ms: Int64?
    public var roles: [Role] = []

    public init(currency: Currency, total: Int128, matched: Int128, openBreaks: Int128, controlDifference: Int128) {
      self.currency = currency
      self.total = total
      self.matched = matched
      self.openBreaks = openBreaks
      self.controlDifference = controlDifference
    }
  }

  /// The control total of a role in a currency, in minor units: posted − expected = open + accepted + pending.
  public struct Role: Sendable, Equatable {
    public var role: AccountRole
    public var currency: Currency
    public var expected: Int128
    public var posted: Int128
    public var open: Int128
    public var accepted: Int128
    public var pending: Int128 { posted - expected - open - accepted }
  }

  public var source: String
  /// Calendar month of event time, year × 100 + month; an accounting period; or `QualityKey.allPeriods`.
  public var period: Int32
  public var counts: QualityCounts
  /// How the orders stand, of all sources or of one; or the control totals of a period.
  public var control: QualityControl?
  /// How far the source's newest event time was behind the clock when this was told; nil before its first record.
  public var freshnessLag_ms: Int64?
  /// As of one currency, where the open breaks are in one alone.
  public var weightedBreakAge_ms: Int64? {
    let ages = money.compactMap(\.weightedBreakAge_ms)
    return ages.count == 1 ? ages[0] : nil
  }
  public var status: MessageStatus

  public init(
    source: String, period: Int32, counts: QualityCounts, control: QualityControl? = nil, freshnessLag_ms: Int64?,
    status: MessageStatus
  ) {
    self.source = source
    self.period = period
    self.counts = counts
    self.control = control
    self.freshnessLag_ms = freshnessLag_ms
    self.status = status
  }

  /// A count as a message can say it: what was counted before counting began may be taken back.
  func count(_ column: QualityColumn) -> Int { Int(max(0, counts[column])) }
  var unmatched: Int { Int(max(0, counts.unmatched)) }

  /// By currency: of a source's month what its records come to, of all periods what the orders come to.
  var money: [Money] {
    if let control {
      let isOfPeriod = period != QualityKey.allPeriods
      return control.lines.map { line in
        // Breaks have no one period: in a period each of their differences counts in its role.
        let open = isOfPeriod ? line.openDifference.reduce(Int128(0)) { $0 + Int128($1.magnitude) } : line.open
        var money = Money(
          currency: line.currency, total: max(0, line.closed), matched: max(0, line.tiedOut),
          openBreaks: max(0, open), controlDifference: line.controlDifference)
        money.weightedBreakAge_ms = line.weightedAge_ms(at: status.asOf_ms)
        money.roles = AccountRole.allCases.compactMap { role in
          let at = Int(role.rawValue)
          let made = Role(
            role: role, currency: line.currency, expected: line.expected[at], posted: line.posted[at],
            open: line.openDifference[at], accepted: line.acceptedDifference[at])
          return made.expected == 0 && made.posted == 0 && made.open == 0 && made.accepted == 0 ? nil : made
        }
        return money
      }
    }
    return counts.amounts.map {
      Money(
        currency: $0.currency, total: max(0, $0.total), matched: max(0, $0.matched), openBreaks: 0,
        controlDifference: 0)
    }
  }
}
