/// What kind of disagreement a break is. The raw value is the word in topics and documents.
public enum BreakType: String, CaseIterable, Sendable, Hashable {
  // Completeness
  case missingInLedger = "MISSING_IN_LEDGER"
  case missingOrder = "MISSING_ORDER"
  case unbilledShipment = "UNBILLED_SHIPMENT"
  case billedNotShipped = "BILLED_NOT_SHIPPED"
  case partial = "PARTIAL"
  case unbalancedDocument = "UNBALANCED_DOCUMENT"
  // Amount
  case amountMismatch = "AMOUNT_MISMATCH"
  case taxMismatch = "TAX_MISMATCH"
  case freightMismatch = "FREIGHT_MISMATCH"
  case discountMismatch = "DISCOUNT_MISMATCH"
  case quantityMismatch = "QUANTITY_MISMATCH"
  case rounding = "ROUNDING"
  // Currency
  case currencyMismatch = "CURRENCY_MISMATCH"
  // Time
  case cutoff = "CUTOFF"
  case latePosting = "LATE_POSTING"
  case earlyPosting = "EARLY_POSTING"
  case lateArrival = "LATE_ARRIVAL"
  // Identity
  case duplicatePosting = "DUPLICATE_POSTING"
  case duplicateOrderEvent = "DUPLICATE_ORDER_EVENT"
  case wrongCustomer = "WRONG_CUSTOMER"
  case wrongAccountRole = "WRONG_ACCOUNT_ROLE"
  // Lifecycle
  case statusConflict = "STATUS_CONFLICT"
  case unreversedCancel = "UNREVERSED_CANCEL"
  case orphanReversal = "ORPHAN_REVERSAL"
  // Behind the others: a checkpoint names a type by its place here.
  case priceMismatch = "PRICE_MISMATCH"
  case wrongEntity = "WRONG_ENTITY"
  case wrongSegment = "WRONG_SEGMENT"
  case closedPeriod = "CLOSED_PERIOD"
  case fxDifference = "FX_DIFFERENCE"
  case fxRateMissing = "FX_RATE_MISSING"
  case shortPay = "SHORT_PAY"
  case overPay = "OVER_PAY"
  case unapplied = "UNAPPLIED"
  case unknownReference = "UNKNOWN_REFERENCE"
  case feeVariance = "FEE_VARIANCE"
  case refundUnmatched = "REFUND_UNMATCHED"
  case chargebackUnmatched = "CHARGEBACK_UNMATCHED"
  case paidNotBilled = "PAID_NOT_BILLED"
  case intercompanyUnmatched = "INTERCOMPANY_UNMATCHED"
  case revenueScheduleGap = "REVENUE_SCHEDULE_GAP"
  // Data
  case dataQuality = "DATA_QUALITY"
  case masterDataMissing = "MASTER_DATA_MISSING"

  /// Whether the amounts are right, and what is wrong is when they were posted.
  public var isAboutTime: Bool {
    switch self {
    case .cutoff, .latePosting, .earlyPosting, .closedPeriod: true
    default: false
    }
  }

  /// One sentence that says when it is raised; the reference documentation is generated from it.
  public var definition: String {
    switch self {
    case .missingInLedger:
      "The order says that something must be in the ledger, and after window + grace nothing is: of the whole order, or of a document of it."
    case .missingOrder:
      "The ledger holds postings for an order key of which no order event is known after window + grace."
    case .unbilledShipment: "Goods were delivered or shipped and nothing was billed."
    case .billedNotShipped: "An order was billed and nothing was delivered or shipped."
    case .partial: "Less than expected is posted and the deadline has not passed."
    case .unbalancedDocument: "The lines of a ledger document do not sum to zero, and that explains the difference."
    case .amountMismatch: "The posted amount of a role differs from the expected one, and no narrower type explains it."
    case .taxMismatch: "The tax explains the whole difference."
    case .freightMismatch: "The freight explains the whole difference."
    case .discountMismatch: "The discount explains the whole difference."
    case .quantityMismatch:
      "Delivered and billed quantities are both there and differ, or delivered and issued ones do, nothing issued included; or the posted quantity explains the whole difference of the revenue, line by line where both sides tell lines; or it differs in lines of a document whose total agrees (`matching.quantities.lines`)."
    case .rounding:
      "A difference of at most half a minor unit a line, or of one minor unit within tolerance: accepted and counted."
    case .currencyMismatch: "Posted in another currency than the order's."
    case .cutoff: "The right amount in another accounting period than the order event's."
    case .latePosting: "The right amount in the right period, posted more days after the document date than allowed."
    case .earlyPosting: "The right amount in the right period, posted more days before the document date than allowed."
    case .lateArrival: "The record that made the order tie out came after window + grace of its own event time."
    case .duplicatePosting: "The same billing document was posted more than once."
    case .duplicateOrderEvent: "Two order events with the same id carry different content; the first one counts."
    case .wrongCustomer: "The posting names another customer than the order."
    case .wrongAccountRole: "The right amount stands on an account of another role."
    case .statusConflict:
      "Something is posted for an order that is cancelled without having been billed, or is on hold."
    case .unreversedCancel: "The order was cancelled after billing, and the ledger still holds the billing."
    case .orphanReversal: "A reversal whose original posting is not known for this order."
    case .priceMismatch:
      "Billed and posted quantities agree, and the unit price explains the whole difference, line by line where both sides tell lines; or it differs in lines of a document whose total agrees (`matching.quantities.lines`)."
    case .wrongEntity: "The posting names another entity than the order."
    case .wrongSegment: "The posting names another segment than the order."
    case .fxDifference:
      "The transaction currency agrees, and the posted base amount is not amount × rate (amounts in the base currency)."
    case .fxRateMissing: "There is no rate to the base currency for the day of a posting or order event."
    case .shortPay: "Less cash is posted than was paid or settled."
    case .overPay: "More cash is posted than was paid or settled."
    case .unapplied:
      "Cash is posted and not applied to the receivable: it stands on clearing or deposits, or names neither order nor document that is known."
    case .unknownReference:
      "A payment that names a document of which no order event is known; or any posted document that the order's events do not name, and that the ledger has too much."
    case .feeVariance: "The posted processor's fee differs from that of the settlement."
    case .refundUnmatched: "A refund on one side that the other does not have."
    case .chargebackUnmatched: "A chargeback on one side that the other does not have."
    case .paidNotBilled:
      "An order was paid and, after window + grace, nothing was billed and no deposit was taken. A payout by itself (`settled`) is no payment."
    case .revenueScheduleGap:
      "Deferred revenue is not released as the service period says: a release is missing, wrong, or too early."
    case .intercompanyUnmatched:
      "A company of the group has entered something against another one, and no mirror entry answers it, with what that would have moved."
    case .closedPeriod: "Posted into an accounting period that was closed when it was entered."
    case .dataQuality: "A record of the order breaks a validation rule that flags (`severity: flag`)."
    case .masterDataMissing:
      "A record of the order names what a table of master data does not know, and the rule flags (`severity: flag`)."
    }
  }
}

/// Where a break stands in its life. Every change is a new revision of the same break id.
public enum BreakState: String, CaseIterable, Sendable, Hashable {
  case expected, open, explained, accepted
  case autoCleared = "auto_cleared"
  case closed
  case forceClosed = "force_closed"
  case reopened

  /// Whether the order does not tie out while a break is in this state.
  public var isOpen: Bool { self == .open || self == .reopened }

  /// Whether the difference is there, and stands: within tolerance, or because somebody has decided so.
  public var isSettled: Bool { self == .accepted || self == .explained || self == .forceClosed }
}

/// What a difference looks like: a pointer to its cause on an amount break.
public enum BreakHint: String, CaseIterable, Sendable, Hashable {
  case signFlip = "SIGN_FLIP"
  case scaleError = "SCALE_ERROR"
  case transposition = "TRANSPOSITION"
  case grossNetConfusion = "GROSS_NET_CONFUSION"
}

public enum Severity: String, CaseIterable, Sendable, Hashable, Comparable {
  case low, medium, high, critical

  public static func < (a: Severity, b: Severity) -> Bool {
    allCases.firstIndex(of: a)! < allCases.firstIndex(of: b)!
  }
}

/// One revision of a break, ready to be encoded. Amounts are signed debit − credit in minor units.
public struct Break: Sendable, Equatable {
  /// Expected and posted of one role in one currency.
  public struct RoleEvidence: Sendable, Equatable {
    public var role: AccountRole
    public var currency: Currency
    public var expected: Int64
    public var posted: Int64
    /// How much of the difference the break explains; nil where that is all of it, or where it is about no amount.
    public var affected: Int64?

    public var delta: Int64 { posted &- expected }

    public init(role: AccountRole, currency: Currency, expected: Int64, posted: Int64, affected: Int64? = nil) {
      self.role = role
      self.currency = currency
      self.expected = expected
      self.posted = posted
      self.affected = affected
    }
  }

  /// One line of a billing document that the two sides bill differently.
  public struct LineEvidence: Sendable, Equatable {
    /// Empty where the order is compared as a whole.
    public var document: String
    public var line: String
    public var currency: Currency
    /// In millionths; of what is credited below zero.
    public var expectedQuantity: Int64
    public var postedQuantity: Int64
    /// Of the revenue, debit − credit in minor units.
    public var expected: Int64
    public var posted: Int64

    /// Amount of one unit, in major units with up to four decimals more than the currency has; nil without a quantity.
    public var expectedPrice: String? { price(expected, expectedQuantity) }
    public var postedPrice: String? { price(posted, postedQuantity) }

    public init(
      document: String, line: String, currency: Currency, expectedQuantity: Int64, postedQuantity: Int64,
      expected: Int64, posted: Int64
    ) {
      self.document = document
      self.line = line
      self.currency = currency
      self.expectedQuantity = expectedQuantity
      self.postedQuantity = postedQuantity
      self.expected = expected
      self.posted = posted
    }

    /// Half a unit of the last decimal is rounded away from zero.
    private func price(_ amount: Int64, _ quantity: Int64) -> String? {
      guard quantity != 0 else { return nil }
      let doubled = -Int128(amount) * 10_000_000_000 * 2
      let divisor = Int128(quantity)
      let half = (doubled < 0) == (divisor < 0) ? divisor : -divisor
      return formatDecimal(
        (doubled + half) / (2 * divisor), decimals: currency.exponent + 4, leastDecimals: currency.exponent)
    }
  }

  /// A pure function of order key, type and role (and currency, where the tie has more than one):
  /// see `Break.id(order:type:role:)`.
  public var id: String
  public var order: String
  public var type: BreakType
  public var role: AccountRole
  public var currency: Currency
  /// nil where that side of the tie knows nothing at all.
  public var expected: Int64?
  public var posted: Int64?
  /// The currency of `posted` where it is not `currency` (CURRENCY_MISMATCH).
  public var postedCurrency: Currency
  /// How much of the role it is about: of the difference, what it explains (posted − expected); of a posting at the wrong
  /// time, what is posted so. nil where it is about no amount, or no longer found.
  public var affected: Int64?
  public var state: BreakState
  /// True until the tie's deadline has passed.
  public var isProvisional: Bool
  public var revision: Int
  public var hints: [BreakHint]
  public var severity: Severity
  public var customer: String
  /// By index of the configured dimension; empty where unknown.
  public var dimensions: [String]
  public var firstEventTime_ms: Int64
  public var deadline_ms: Int64
  /// The event time (watermark) at which this revision was made.
  public var asOf_ms: Int64
  public var roles: [RoleEvidence]
  /// Ids of the order events and of the ledger documents behind this tie, each sorted, at most
  /// `maximumEvidenceIDs` of each.
  public var events: [String]
  public var journals: [String]
  /// Quantities in millionths (ordered, delivered, shipped, billed), for the quantity types; nil otherwise.
  public var quantities: [Int64]?
  /// The lines that differ, where lines are compared: at most `maximumEvidenceLines` of `lineCount`, those that differ
  /// most first.
  public var lines: [LineEvidence]
  public var lineCount: Int
  /// One sentence for a person.
  public var reason: String
  /// The decision that the state rests on; nil where it is the reconciler's own.
  public var decision: BreakDecision?

  /// posted − expected.
  public var delta: Int64 { (posted ?? 0) &- (expected ?? 0) }

  @inlinable @inline(__always)
  public init(
    id: String, order: String, type: BreakType, role: AccountRole, currency: Currency, expected: Int64?, posted: Int64?,
    postedCurrency: Currency = .none, affected: Int64? = nil, state: BreakState, isProvisional: Bool, revision: Int,
    hints: [BreakHint] = [], severity: Severity = .low, customer: String = "", dimensions: [String] = [],
    firstEventTime_ms: Int64, deadline_ms: Int64, asOf_ms: Int64, roles: [RoleEvidence] = [], events: [String] = [],
    journals: [String] = [], quantities: [Int64]? = nil, lines: [LineEvidence] = [], lineCount: Int = 0,
    reason: String = "", decision: BreakDecision? = nil
  ) {
    self.id = id
    self.order = order
    self.type = type
    self.role = role
    self.currency = currency
    self.expected = expected
    self.posted = posted
    self.postedCurrency = postedCurrency
    self.affected = affected
    self.state = state
    self.isProvisional = isProvisional
    self.revision = revision
    self.hints = hints
    self.severity = severity
    self.customer = customer
    self.dimensions = dimensions
    self.firstEventTime_ms = firstEventTime_ms
    self.deadline_ms = deadline_ms
    self.asOf_ms = asOf_ms
    self.roles = roles
    self.events = events
    self.journals = journals
    self.quantities = quantities
    self.lines = lines
    self.lineCount = lineCount
    self.reason = reason
    self.decision = decision
  }

  /// `ORDER:TYPE:role`, with `:CUR` behind it where the tie's main currency is another one. Neither type nor role
  /// contains a colon, so that the id can be taken apart again from the right.
  public static func id(order: String, type: BreakType, role: AccountRole, otherCurrency: Currency = .none) -> String {
    let (kind, name) = (type.rawValue, role.name)
    // In one go: an interpolation of the same takes three times as long.
    let id = String(unsafeUninitializedCapacity: order.utf8.count + kind.utf8.count + name.utf8.count + 2) { space in
      var end = 0
      func write(_ text: String) {
        let isDone: Void? = text.utf8.withContiguousStorageIfAvailable {
          _ = UnsafeMutableBufferPointer(rebasing: space[end...]).update(fromContentsOf: $0)
        }
        if isDone == nil { for (at, byte) in text.utf8.enumerated() { space[end + at] = byte } }
        end += text.utf8.count
      }
      write(order)
      space[end] = UInt8(ascii: ":")
      end += 1
      write(kind)
      space[end] = UInt8(ascii: ":")
      end += 1
      write(name)
      return end
    }
    return otherCurrency == .none ? id : "\(id):\(otherCurrency.code)"
  }
}

/// How many event and journal ids a break message names; the counts are complete all the same.
public let maximumEvidenceIDs = 64

/// How many of the lines that differ a break message names.
public let maximumEvidenceLines = 5
