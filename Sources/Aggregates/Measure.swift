import Domain

/// What forecasting reads from a cell. Each is a linear combination of the cell's sums, so that measures of cells add
/// up over dimensions, periods and tasks like the sums do. Amounts in minor units of the cell's currency, positive in
/// the sense of the name (revenue is positive although it stands on the credit side).
///
/// The formulas are those of order-to-cash accounting: bookings = new + change − cancel; billings = invoiced −
/// credited; backlog = booked − billed; recognised = −Σ(revenue, freight, discount, returns), where discount and returns
/// are debits; deferred end = opening + billings − recognised.
public enum Measure: String, CaseIterable, Sendable {
  // What the order events say.
  case bookings
  case billings
  /// Change of what is booked and not billed.
  case backlogMovement = "backlog_movement"
  /// What billing puts into revenue or deferred: billings with freight, after discounts, those for early payment too.
  case billedRevenue = "billed_revenue"
  case billedTax = "billed_tax"
  case billedGross = "billed_gross"
  case creditedGross = "credited_gross"
  /// Cost of what was shipped, less what came back.
  case shippedCost = "shipped_cost"
  /// Releases of deferred revenue that are due by the billing side.
  case releasesDue = "releases_due"
  case receivableExpected = "receivable_expected"
  case cashExpected = "cash_expected"
  // What the ledger holds.
  case grossRevenue = "gross_revenue"
  case freight
  case discounts
  case returns
  case recognisedRevenue = "recognised_revenue"
  case deferredMovement = "deferred_movement"
  case unbilledMovement = "unbilled_movement"
  case cogs
  case grossMargin = "gross_margin"
  case receivableMovement = "receivable_movement"
  case cashIn = "cash_in"
  case depositMovement = "deposit_movement"
  case writeOffs = "write_offs"
  case taxPosted = "tax_posted"
  // Both.
  /// Change of remaining performance obligations: deferred, and what is contracted and not billed.
  case rpoMovement = "rpo_movement"
  /// By how much the ledger's deferred and unbilled differ from billings − recognised: zero where revenue ties out.
  case deferredDifference = "deferred_difference"

  /// Whether it is money of the ledger, so that event date and posting date may give different periods.
  public var isPosted: Bool {
    switch self {
    case .bookings, .billings, .backlogMovement, .billedRevenue, .billedTax, .billedGross, .creditedGross,
      .shippedCost, .releasesDue, .receivableExpected, .cashExpected:
      false
    default: true
    }
  }

  /// Whether it says something of order events, alone or beside the ledger.
  public var isOfEvents: Bool { !isPosted || self == .rpoMovement || self == .deferredDifference }

  /// The roles whose differences are those of the measure: of what is posted, the roles of which it is made; of what the
  /// order events say, those into which it is to be posted. None where nothing posts.
  public var roles: [AccountRole] {
    switch self {
    case .bookings, .backlogMovement: []
    case .billings, .billedRevenue, .deferredDifference:
      Measure.recognisedRevenue.roles + [.deferred, .unbilled]
    case .billedTax, .taxPosted: [.tax]
    case .billedGross, .creditedGross, .receivableExpected, .receivableMovement: [.receivable]
    case .shippedCost, .cogs: [.cogs]
    case .releasesDue, .deferredMovement, .rpoMovement: [.deferred]
    case .cashExpected, .cashIn: [.cash]
    case .grossRevenue: [.revenue]
    case .freight: [.freight]
    case .discounts: [.discount]
    case .returns: [.returns]
    case .recognisedRevenue: [.revenue, .freight, .discount, .returns]
    case .unbilledMovement: [.unbilled]
    case .grossMargin: Measure.recognisedRevenue.roles + [.cogs]
    case .depositMovement: [.deposit]
    case .writeOffs: [.writeOff]
    }
  }

  public var definition: String {
    switch self {
    case .bookings: "Net of orders booked, plus changes, minus cancellations."
    case .billings: "Net invoiced minus net credited."
    case .backlogMovement: "Bookings − billings: by how much the backlog grows in the period."
    case .billedRevenue:
      "Net and freight invoiced, less discounts (early-payment discounts too), less net and freight credited."
    case .billedTax: "Tax invoiced minus tax credited."
    case .billedGross: "Gross invoiced."
    case .creditedGross: "Gross credited."
    case .shippedCost: "Cost of goods shipped minus cost of goods returned."
    case .releasesDue:
      "Releases of deferred revenue that the billing side says are due in the period, by `recognised` events or schedules."
    case .receivableExpected:
      "Gross invoiced + refunds and chargebacks − gross credited − payments − discounts taken − deposits applied − write-offs."
    case .cashExpected: "Payments and deposits received and settled net amounts, minus refunds and chargebacks."
    case .grossRevenue: "Postings to revenue."
    case .freight: "Postings to freight."
    case .discounts: "Postings to discount (a reduction of revenue)."
    case .returns: "Postings to returns (a reduction of revenue)."
    case .recognisedRevenue: "Gross revenue + freight − discounts − returns."
    case .deferredMovement: "By how much deferred revenue grows in the ledger."
    case .unbilledMovement: "By how much unbilled receivables grow in the ledger."
    case .cogs: "Postings to cost of goods sold."
    case .grossMargin: "Recognised revenue − cogs."
    case .receivableMovement: "By how much receivables grow in the ledger."
    case .cashIn: "By how much cash grows in the ledger."
    case .depositMovement: "By how much customer deposits grow in the ledger."
    case .writeOffs: "Postings to write-offs."
    case .taxPosted: "Postings to tax."
    case .rpoMovement: "Deferred movement + backlog movement: change of remaining performance obligations."
    case .deferredDifference: "Billed revenue − recognised revenue − (deferred movement − unbilled movement)."
    }
  }
}

extension CellValues {
  /// A measure of this cell. `basis` matters to what is posted.
  public func value(_ measure: Measure, _ basis: DateBasis = .posting) -> Int128 {
    switch measure {
    case .bookings: self[.bookedNew] + self[.bookedChanged] - self[.bookedCancelled]
    case .billings: self[.billedNet] - self[.creditedNet]
    case .backlogMovement: value(.bookings) - value(.billings)
    case .billedRevenue:
      self[.billedNet] + self[.billedFreight] - self[.billedDiscount] - self[.creditedNet] - self[.creditedFreight]
        - self[.discountTaken]
    case .billedTax: self[.billedTax] - self[.creditedTax]
    case .billedGross: self[.billedGross]
    case .creditedGross: self[.creditedGross]
    case .shippedCost: self[.shippedCost]
    case .releasesDue: self[.released]
    case .receivableExpected:
      self[.billedGross] + self[.refunded] - self[.creditedGross] - self[.paid] - self[.discountTaken]
        - self[.depositApplied] - self[.writtenOff]
    case .cashExpected: self[.paid] + self[.depositReceived] + self[.settledNet] - self[.refunded]
    case .grossRevenue: -self[.revenue, basis]
    case .freight: -self[.freight, basis]
    case .discounts: self[.discount, basis]
    case .returns: self[.returns, basis]
    case .recognisedRevenue:
      -self[.revenue, basis] - self[.freight, basis] - self[.discount, basis] - self[.returns, basis]
    case .deferredMovement: -self[.deferred, basis]
    case .unbilledMovement: self[.unbilled, basis]
    case .cogs: self[.cogs, basis]
    case .grossMargin: value(.recognisedRevenue, basis) - value(.cogs, basis)
    case .receivableMovement: self[.receivable, basis]
    case .cashIn: self[.cash, basis]
    case .depositMovement: -self[.deposit, basis]
    case .writeOffs: self[.writeOff, basis]
    case .taxPosted: -self[.tax, basis]
    case .rpoMovement: value(.deferredMovement, basis) + value(.backlogMovement)
    case .deferredDifference:
      value(.billedRevenue) - value(.recognisedRevenue, basis)
        - (value(.deferredMovement, basis) - value(.unbilledMovement, basis))
    }
  }

  /// The part of a measure that is in dispute: Σ |posted − expected| of its roles in open breaks. nil where nothing posts.
  public func disputed(_ measure: Measure) -> Int128? {
    measure.roles.isEmpty ? nil : measure.roles.reduce(0) { $0 + self[disputed: $1] }
  }

  /// The part of a size that is not in dispute, in millionths: 1 − disputed / size, at least 0; nil where there is
  /// neither.
  public static func tiedOut_u(_ disputed: Int128, of size: Int128) -> Int128? {
    size == 0 ? disputed == 0 ? nil : 0 : ratio_u(max(0, size - disputed), size)
  }

  /// The part of recognised revenue that ties out: of the sizes of its roles by posting date.
  public var revenueTiedOut_u: Int128? {
    let size = Measure.recognisedRevenue.roles.reduce(Int128(0)) { $0 + Int128(self[$1, .posting].magnitude) }
    return CellValues.tiedOut_u(disputed(.recognisedRevenue) ?? 0, of: size)
  }

  /// Bookings / billings in millionths, rounded half to even; nil where nothing is billed.
  public var bookToBill_u: Int128? { ratio_u(value(.bookings), value(.billings)) }

  /// Gross margin / recognised revenue in millionths; nil without revenue.
  public func marginRate_u(_ basis: DateBasis = .posting) -> Int128? {
    ratio_u(value(.grossMargin, basis), value(.recognisedRevenue, basis))
  }
}

/// A balance over the periods of a series: opening + movements = closing, and closing is the next one's opening.
public struct RollForward: Hashable, Sendable {
  public var key: CellKey
  public var opening: Int128
  public var additions: Int128
  public var reductions: Int128
  public var closing: Int128 { opening + additions - reductions }

  /// What rolls.
  public enum Balance: String, CaseIterable, Sendable {
    /// Billed revenue comes in, recognised revenue goes out.
    case deferred
    /// Bookings come in, billings go out.
    case backlog
    /// Remaining performance obligations: bookings come in; what is billed and not deferred, and what is released of the
    /// deferred, goes out.
    case rpo
    /// The ledger's receivables: debits come in, credits go out (here as one movement).
    case receivable
  }

  /// The roll-forwards of a balance, for lines in the order of their keys. Each series begins at zero.
  public static func of(_ balance: Balance, _ lines: [CellLine], basis: DateBasis = .posting) -> [RollForward] {
    var result: [RollForward] = []
    var series: CellKey?
    var carried: Int128 = 0
    for line in lines {
      if series != line.key.series {
        series = line.key.series
        carried = 0
      }
      let (plus, minus): (Int128, Int128)
      switch balance {
      case .deferred: (plus, minus) = (line.values.value(.billedRevenue), line.values.value(.recognisedRevenue, basis))
      case .backlog: (plus, minus) = (line.values.value(.bookings), line.values.value(.billings))
      case .rpo:
        plus = line.values.value(.bookings)
        minus = plus - line.values.value(.rpoMovement, basis)
      case .receivable: (plus, minus) = (line.values.value(.receivableMovement, basis), 0)
      }
      let made = RollForward(key: line.key, opening: carried, additions: plus, reductions: minus)
      carried = made.closing
      result.append(made)
    }
    return result
  }
}
