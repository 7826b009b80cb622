import Domain

/// How the records of a generated load look.
public enum WorkloadShape: String, Sendable, CaseIterable {
  /// Flat JSON of `recordBytes` bytes, one or more receivable postings an order: `config/examples/flat.yaml`.
  case flat
  /// Nested orders and Debezium journal lines, two to five an order: `config/examples/northwind.yaml`.
  case northwind
}

/// What can be wrong with a generated order. The raw value is the break type, or the hint that tells the fault.
public enum FaultKind: String, Sendable, CaseIterable {
  case missingInLedger = "MISSING_IN_LEDGER"
  case missingOrder = "MISSING_ORDER"
  case amountMismatch = "AMOUNT_MISMATCH"
  /// Posted a hundredfold, as by an implied decimal point.
  case scaleError = "SCALE_ERROR"
  case signFlip = "SIGN_FLIP"
  /// Two neighbouring digits of the net amount (of gross in the flat shape) are swapped.
  case transposition = "TRANSPOSITION"
  case currencyMismatch = "CURRENCY_MISMATCH"
  case wrongCustomer = "WRONG_CUSTOMER"
  /// Posted on the second day of the following month.
  case cutoff = "CUTOFF"
  case duplicatePosting = "DUPLICATE_POSTING"
  /// No freight line, and the receivable is less by it.
  case freightMismatch = "FREIGHT_MISMATCH"
  /// The tax stands in revenue's line.
  case wrongAccountRole = "WRONG_ACCOUNT_ROLE"
  /// The receivable is ten too much and nothing balances it.
  case unbalancedDocument = "UNBALANCED_DOCUMENT"
  /// One minor unit too much in the receivable, with a line on the rounding account: accepted.
  case rounding = "ROUNDING"

  /// Whether a load of that shape can show the fault: the flat shape has one role only.
  public func exists(in shape: WorkloadShape) -> Bool {
    switch self {
    case .freightMismatch, .wrongAccountRole, .unbalancedDocument, .rounding: shape == .northwind
    default: true
    }
  }

  public static func all(in shape: WorkloadShape) -> [FaultKind] { allCases.filter { $0.exists(in: shape) } }
}

/// What a generated load is made of. The same options make the same bytes on every machine.
public struct WorkloadOptions: Sendable {
  public var seed: UInt64 = 1
  public var orders = 10_000
  public var shape = WorkloadShape.flat
  /// Faulty orders in ten thousand.
  public var faultsPer10000 = 200
  /// The faults to choose from; those that the shape cannot show are left out.
  public var faults = FaultKind.allCases
  /// A posting trails its order by up to this many orders.
  public var shuffle = 5_000
  /// False: a posting's event time is a minute after its order's, so that it arrives out of order by up to the
  /// shuffle. True: it is the time at which it arrives (at most 71 h after its order), as a CDC connector writes it.
  public var postsAtArrival = false
  /// Event time from an order to its postings, beside what they trail by.
  public var postingLag_ms: Int64 = 60_000
  /// Receivable postings of one order in the flat shape, adding up to gross.
  public var postingsPerOrder = 1
  /// Orders in ten thousand whose receivable is split in two postings that add up: no fault.
  public var splitsPer10000 = 0
  /// Records in ten thousand that are delivered a second time, byte for byte, up to `shuffle` orders later: no fault.
  public var redeliveriesPer10000 = 0
  /// Orders in ten thousand that come after their postings: no fault.
  public var ledgerFirstPer10000 = 0
  /// Keys in ten thousand that carry `invoicesPerHotKey` invoices instead of one, the skew of the load; no faults.
  public var hotKeysPer10000 = 0
  public var invoicesPerHotKey = 64
  public var customers = 500
  public var start_ms: Int64 = 1_735_689_600_000
  /// Event time between two orders, microseconds.
  public var interval_us: Int64 = 1_000_000
  /// Size of a flat record, bytes; what its fields leave is filled up in the remark. Fields are never cut, so that a
  /// record is longer where this is less than they need (about 310).
  public var recordBytes = 330
  /// Currencies of the orders, with the share of each.
  public var currencies: [(currency: Currency, weight: Int)] = [(Currency("USD")!, 1)]

  public init() {}
}

/// What must come out for one faulty order.
public struct TruthRow: Sendable, Equatable {
  public var order: String
  /// The break type, or the hint where that tells the fault.
  public var cause: String
  public var role: AccountRole
  /// Signed debit − credit in minor units of `currency`; nil where that side knows nothing of the order.
  public var expected: Int64?
  /// In minor units of `postedCurrency`, or of `currency` where that is none.
  public var posted: Int64?
  public var isAccepted: Bool
  public var currency: Currency
  /// The currency of `posted` where it is another one than the order's.
  public var postedCurrency: Currency

  public init(
    order: String, cause: String, role: AccountRole, expected: Int64?, posted: Int64?, isAccepted: Bool,
    currency: Currency = Currency("USD")!, postedCurrency: Currency = .none
  ) {
    self.order = order
    self.cause = cause
    self.role = role
    self.expected = expected
    self.posted = posted
    self.isAccepted = isAccepted
    self.currency = currency
    self.postedCurrency = postedCurrency
  }

  /// The break type; an amount break where a hint tells the fault.
  public var type: BreakType { BreakType(rawValue: cause) ?? .amountMismatch }

  /// The hint that must stand on the break, if any.
  public var hints: [BreakHint] { BreakHint(rawValue: cause).map { [$0] } ?? [] }

  /// `expected` as a break message writes it.
  public var expectedText: String? { expected.map { formatDecimal(Int128($0), decimals: currency.exponent) } }

  /// `posted` as a break message writes it.
  public var postedText: String? {
    let exponent = (postedCurrency == .none ? currency : postedCurrency).exponent
    return posted.map { formatDecimal(Int128($0), decimals: exponent) }
  }

  /// As a line of CSV: order, type, role, expected, posted.
  public var csv: String { "\(order),\(cause),\(role.name),\(expectedText ?? ""),\(postedText ?? "")" }
}
