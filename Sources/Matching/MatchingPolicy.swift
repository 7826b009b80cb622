import Domain

/// What one order event must put into one role: `sign × amounts[component]`.
public struct PolicyEntry: Sendable, Equatable {
  public var role: AccountRole
  /// +1 debit, −1 credit.
  public var sign: Int
  public var component: AmountComponent

  public init(_ role: AccountRole, _ sign: Int, _ component: AmountComponent) {
    self.role = role
    self.sign = sign
    self.component = component
  }
}

/// Which quantities a goods flow moves, for the quantity checks.
public struct QuantityChecks: Sendable, Equatable {
  /// What billing is compared with. Where deliveries are documents of their own, goods issues are compared with them
  /// too; without, the goods issue is the delivery.
  public enum Basis: String, Sendable, CaseIterable { case delivered, shipped }

  public var basis = Basis.delivered
  /// Compare delivered, shipped and billed quantities at the deadline.
  public var isEnabled = false
  /// Largest difference that counts as equal, in millionths of the unit.
  public var tolerance_u: Int64 = 0
  /// Whether no more may be delivered, shipped or billed than was ordered, where the order events tell quantities.
  public var comparesOrdered = false
  /// Whether documents whose total agrees are compared line by line too, where both sides tell lines and quantities.
  public var comparesLines = false

  public init() {}
}

/// How far posted may be from expected, per role; inclusive. Source: DOMAIN "Tolerance".
public struct Tolerance: Sendable, Equatable {
  public enum Combination: String, Sendable, CaseIterable { case max, min }

  /// Largest |posted| − |expected| below zero (`under`) and above zero (`over`), in decimal text of the currency scaled
  /// to millionths of the major unit, so that one setting serves currencies of any exponent.
  public var under_u: Int64 = 0
  public var over_u: Int64 = 0
  /// Percent of |expected|, in millionths of a percent point (0.5 % is 500 000).
  public var percent_u: Int64 = 0
  public var combination: Combination = .max

  public init() {}

  public init(absolute_u: Int64) {
    under_u = absolute_u
    over_u = absolute_u
  }
}

/// Everything that decides how ties are judged; compiled from configuration, the same for every task.
public struct MatchingPolicy: Sendable, Equatable {
  /// By `OrderEventKind.rawValue`: what the event must put into the ledger.
  public var entries: [[PolicyEntry]]
  /// By `AccountRole.rawValue`.
  public var tolerances: [Tolerance]
  /// How long after an event its counterpart may come.
  public var window_ms: Int64 = 3 * 86_400_000
  /// Added to the window before anything is called missing.
  public var grace_ms: Int64 = 3_600_000
  /// How long both sides must be quiet before a disagreement is reported as provisional.
  public var settle_ms: Int64 = 60_000
  /// How long a closed tie is remembered.
  public var retention_ms: Int64 = 7 * 86_400_000
  /// How long a tie with an open break is remembered.
  public var openRetention_ms: Int64 = 90 * 86_400_000
  /// How far records of one partition may be out of order: the watermark trails the largest event time by this.
  public var outOfOrderness_ms: Int64 = 60_000
  /// A partition without records for this long (wall clock) no longer holds the watermark back.
  public var idleTimeout_ms: Int64 = 30_000
  /// Event times further ahead of the wall clock than this are quarantined.
  public var maximumFuture_ms: Int64 = 86_400_000
  /// Whether provisional breaks are reported.
  public var reportsProvisional = true
  /// A posting date this many days after the document date is still in time (within the same period).
  public var lateAfter_d: Int32 = 5
  /// A posting date this many days before the document date is not early.
  public var earlyBefore_d: Int32 = 1
  /// Posting dates are not compared with document dates where false.
  public var checksPostingDates = true
  /// Customer numbers of the two sides are comparable.
  public var checksCustomers = true
  public var quantities = QuantityChecks()
  /// By source: the names of the validation rules that flag, by their bit in `OrderEvent.brokenRules`.
  public var flagNames: [[String]] = []
  /// By source: those of them by which a table does not know a reference. Empty where none can.
  public var missingFlags: [UInt16] = []
  /// By source: its change feed's records are in the order in which rows changed, and their event times are not when that
  /// was. Empty where there is no such source.
  public var positioned: [Bool] = []
  /// |amount| in millionths of the major unit from which a break is medium, high, critical.
  public var severityAmounts_u: [Int64] = [1_000, 10_000, 100_000].map { $0 * 1_000_000 }
  /// Ties closed at the most in one `advance`, so that a backlog of expiries never stops the intake.
  public var maximumExpiries = 50_000
  /// nil where none is asked for.
  public var checks: FinanceChecks? {
    get { boxedChecks?.value }
    set { boxedChecks = newValue.map(Box.init) }
  }
  /// Whether `checks` ask for more than the judgement of amounts looks at. This and those below are read where they are:
  /// `checks` is a copy of all.
  @inline(__always)
  var looksFurther: Bool {
    guard let boxedChecks else { return false }
    return boxedChecks.value.entity != nil || boxedChecks.value.segment != nil || boxedChecks.value.calendar != nil
      || boxedChecks.value.exchange != nil
  }
  @inline(__always)
  var rates: ExchangeRates? { boxedChecks?.value.exchange?.rates }
  @inline(__always)
  var calendar: FiscalCalendar? { boxedChecks?.value.calendar }
  @inline(__always)
  var severityAges_ms: [Int64] { boxedChecks?.value.severityAges_ms ?? [] }
  /// One word, so that what few ask for makes no state larger. Last of all: see `Configuration.matchingHash`.
  private var boxedChecks: Box<FinanceChecks>?
  /// What changes `entries` from given days on; nil where no master data say so.
  public var postingPolicies: PostingPolicies? {
    get { boxedPolicies?.value }
    set { boxedPolicies = newValue.map(Box.init) }
  }
  private var boxedPolicies: Box<PostingPolicies>?

  private final class Box<Value: Sendable & Equatable>: Sendable, Equatable {
    let value: Value
    init(_ value: Value) { self.value = value }
    static func == (a: Box, b: Box) -> Bool { a === b || a.value == b.value }
  }

  public init() {
    entries = MatchingPolicy.standardEntries
    tolerances = Array(repeating: Tolerance(), count: AccountRole.count)
  }

  /// How many kinds of order events there were when policies were first hashed: up to `completed`.
  public static let firstKinds = 20

  /// "What an order event must put into the ledger" of the domain description.
  public static let standardEntries: [[PolicyEntry]] = OrderEventKind.allCases.map { kind in
    switch kind {
    case .booked, .changed, .cancelled, .held, .released, .completed, .delivered, .invoiceCancelled: []
    case .shipped: [.init(.cogs, 1, .cost), .init(.inventory, -1, .cost)]
    case .invoiced:
      [
        .init(.receivable, 1, .gross), .init(.revenue, -1, .net), .init(.freight, -1, .freight),
        .init(.tax, -1, .tax), .init(.discount, 1, .discount),
      ]
    case .credited:
      [
        .init(.returns, 1, .net), .init(.tax, 1, .tax), .init(.freight, 1, .freight), .init(.receivable, -1, .gross),
      ]
    case .returned: [.init(.inventory, 1, .cost), .init(.cogs, -1, .cost)]
    case .depositReceived: [.init(.cash, 1, .deposit), .init(.deposit, -1, .deposit)]
    case .depositApplied: [.init(.deposit, 1, .deposit), .init(.receivable, -1, .deposit)]
    case .paid: [.init(.cash, 1, .applied), .init(.receivable, -1, .applied)]
    case .discountTaken: [.init(.discount, 1, .discount), .init(.receivable, -1, .discount)]
    case .settled: [.init(.cash, 1, .net), .init(.fees, 1, .fee), .init(.clearing, -1, .gross)]
    case .refunded: [.init(.receivable, 1, .applied), .init(.cash, -1, .applied)]
    case .recognised: [.init(.deferred, 1, .net), .init(.revenue, -1, .net)]
    case .writtenOff: [.init(.writeOff, 1, .applied), .init(.receivable, -1, .applied)]
    case .chargeback: [.init(.receivable, 1, .applied), .init(.cash, -1, .applied)]
    }
  }
}
