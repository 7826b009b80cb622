import Domain

/// What a cell adds up of the order events in it, each a plain sum of signed facts in minor units. Every published
/// measure is a linear combination of these and of the postings by role, so that facts may come and be taken back in
/// any order, and parts of a stream may be added up in any way.
public enum OrderFlow: Int, CaseIterable, Sendable {
  case bookedNew = 0, bookedChanged, bookedCancelled
  case billedNet, billedFreight, billedTax, billedDiscount, billedGross
  case creditedNet, creditedFreight, creditedTax, creditedGross
  case shippedNet, shippedCost
  case paid, discountTaken, depositReceived, depositApplied, refunded, writtenOff
  case settledNet, settledFee, settledGross
  /// Releases of deferred revenue that the billing side says are due: in the period of an event that says so, or in those
  /// of the schedule of a billing event.
  case released
  /// How many order events, and how many of them could not be valued (no amount where the kind needs one).
  case events, unvalued

  @inlinable
  public static var count: Int { 26 }

  /// Those to which some order event, one of these, adds an amount.
  public static func flows(
    of component: AmountComponent, in kinds: [OrderEventKind] = OrderEventKind.allCases
  ) -> [OrderFlow] {
    var found: Set<UInt8> = []
    for kind in kinds {
      for effect in FlowEffect.effects(of: kind) where effect.component == component.rawValue {
        found.insert(effect.flow)
      }
    }
    return allCases.filter { found.contains(UInt8($0.rawValue)) }
  }

  /// As a person says it: billedNet → "billed net".
  public var words: String {
    "\(self)".reduce(into: "") { words, letter in
      if letter.isUppercase { words += " " }
      words += letter.lowercased()
    }
  }
}

/// By which date a posting falls into a period.
public enum DateBasis: Int, CaseIterable, Sendable {
  /// The date of the event or document behind it.
  case event = 0
  /// The posting date, or the accounting period that the ledger states.
  case posting

  public var name: String { "\(self)" }
}

/// Sums of quantities, in millionths of the unit. They stand behind the amounts, so that a cell that has none is written
/// as it was before there were any.
public enum QuantityFlow: Int, CaseIterable, Sendable {
  /// By the order events: invoiced − cancelled − credited.
  case billed = 0
  /// By the ledger, by posting date: of the lines of revenue and returns, sold +, taken back −.
  case posted

  @inlinable
  public static var count: Int { 2 }
}

/// Counts of postings. They stand behind all else, so that a cell that has none is written as it was before there were
/// any.
public enum PostingCount: Int, CaseIterable, Sendable {
  /// In the base view, by posting date: those whose amount no rate converts, so that the sums lack it.
  case unrated = 0

  @inlinable
  public static var count: Int { 1 }
}

/// Counts of what is in dispute. Behind all else with the disputed amounts.
public enum DisputeCount: Int, CaseIterable, Sendable {
  /// In the base view: differences of open breaks that no rate converts, so that the disputed amounts lack them. Behind it
  /// stands the same by role.
  case unconverted = 0

  @inlinable
  public static var count: Int { 1 }
}

/// The sums of one cell: the order flows, then the postings by role, each by event date and by posting date, then the
/// quantities, then the counts of postings; behind these, what is in dispute: an amount for each role, counts, and of each
/// role how many differences no rate converts.
///
/// Exact: sums of 64-bit amounts in 128 bits cannot overflow before 2^64 facts.
public struct CellValues: Hashable, Sendable {
  /// Sums that a table holds for every cell.
  static let denseCount = OrderFlow.count + 2 * AccountRole.count + QuantityFlow.count + PostingCount.count
  /// Those of what is in dispute: few cells have any.
  static let disputeCount = 2 * AccountRole.count + DisputeCount.count
  public static let count = denseCount + disputeCount
  /// Without what has been added behind the first ones: a state may have been written with so many or more.
  static let firstCount = OrderFlow.count + 2 * AccountRole.count
  public internal(set) var sums: [Int128]

  public init() { sums = Array(repeating: 0, count: CellValues.count) }

  public subscript(flow: OrderFlow) -> Int128 {
    get { sums[flow.rawValue] }
    set { sums[flow.rawValue] = newValue }
  }

  /// Σ debit − credit of the postings of a role.
  public subscript(role: AccountRole, basis: DateBasis) -> Int128 {
    get { sums[CellValues.index(role, basis)] }
    set { sums[CellValues.index(role, basis)] = newValue }
  }

  @inlinable
  static func index(_ role: AccountRole, _ basis: DateBasis) -> Int {
    OrderFlow.count + 2 * Int(role.rawValue) + basis.rawValue
  }

  public subscript(quantity: QuantityFlow) -> Int128 {
    get { sums[CellValues.index(quantity)] }
    set { sums[CellValues.index(quantity)] = newValue }
  }

  @inlinable
  static func index(_ quantity: QuantityFlow) -> Int {
    OrderFlow.count + 2 * AccountRole.count + quantity.rawValue
  }

  public subscript(postings: PostingCount) -> Int128 {
    get { sums[CellValues.index(postings)] }
    set { sums[CellValues.index(postings)] = newValue }
  }

  @inlinable
  static func index(_ postings: PostingCount) -> Int {
    OrderFlow.count + 2 * AccountRole.count + QuantityFlow.count + postings.rawValue
  }

  /// Σ |posted − expected| of the differences of a role in open breaks.
  public subscript(disputed role: AccountRole) -> Int128 {
    get { sums[CellValues.index(disputed: role)] }
    set { sums[CellValues.index(disputed: role)] = newValue }
  }

  static func index(disputed role: AccountRole) -> Int { denseCount + Int(role.rawValue) }

  public subscript(disputes: DisputeCount) -> Int128 {
    get { sums[CellValues.index(disputes)] }
    set { sums[CellValues.index(disputes)] = newValue }
  }

  static func index(_ disputes: DisputeCount) -> Int { denseCount + AccountRole.count + disputes.rawValue }

  /// Of `DisputeCount.unconverted`, those of a role.
  public subscript(unconverted role: AccountRole) -> Int128 {
    get { sums[CellValues.index(unconverted: role)] }
    set { sums[CellValues.index(unconverted: role)] = newValue }
  }

  static func index(unconverted role: AccountRole) -> Int {
    denseCount + AccountRole.count + DisputeCount.count + Int(role.rawValue)
  }

  /// Differences of these roles that no rate converts. What a version counted that did not tell the roles apart may be of
  /// any; where it is taken back, a role is not below zero for it.
  public func unconverted(of roles: [AccountRole]) -> Int128 {
    guard !roles.isEmpty else { return 0 }
    let known = AccountRole.allCases.reduce(Int128(0)) { $0 + max(0, self[unconverted: $1]) }
    return roles.reduce(max(0, self[.unconverted] - known)) { $0 + max(0, self[unconverted: $1]) }
  }

  public var isZero: Bool { sums.allSatisfy { $0 == 0 } }

  public static func += (a: inout CellValues, b: CellValues) {
    for index in a.sums.indices { a.sums[index] += b.sums[index] }
  }

  public static func -= (a: inout CellValues, b: CellValues) {
    for index in a.sums.indices { a.sums[index] -= b.sums[index] }
  }
}

/// One term of what an order event adds: `sign × amounts[component]` to a flow.
struct FlowEffect {
  var flow: UInt8
  var component: UInt8
  var sign: Int8

  static func effects(of kind: OrderEventKind) -> [FlowEffect] {
    func make(_ flow: OrderFlow, _ component: AmountComponent, _ sign: Int8 = 1) -> FlowEffect {
      FlowEffect(flow: UInt8(flow.rawValue), component: component.rawValue, sign: sign)
    }
    let billing: [(OrderFlow, AmountComponent)] = [
      (.billedNet, .net), (.billedFreight, .freight), (.billedTax, .tax), (.billedDiscount, .discount),
      (.billedGross, .gross),
    ]
    switch kind {
    case .booked: return [make(.bookedNew, .net)]
    case .changed: return [make(.bookedChanged, .net)]
    case .cancelled: return [make(.bookedCancelled, .net)]
    case .held, .released, .delivered, .completed: return []
    case .shipped: return [make(.shippedNet, .net), make(.shippedCost, .cost)]
    case .invoiced: return billing.map { make($0, $1) }
    case .invoiceCancelled: return billing.map { make($0, $1, -1) }
    case .credited:
      return [
        make(.creditedNet, .net), make(.creditedFreight, .freight), make(.creditedTax, .tax),
        make(.creditedGross, .gross),
      ]
    case .returned: return [make(.shippedCost, .cost, -1)]
    case .depositReceived: return [make(.depositReceived, .deposit)]
    case .depositApplied: return [make(.depositApplied, .deposit)]
    case .paid: return [make(.paid, .applied)]
    case .discountTaken: return [make(.discountTaken, .discount)]
    case .settled: return [make(.settledNet, .net), make(.settledFee, .fee), make(.settledGross, .gross)]
    case .refunded, .chargeback: return [make(.refunded, .applied)]
    case .recognised: return [make(.released, .net)]
    case .writtenOff: return [make(.writtenOff, .applied)]
    }
  }

  /// The most effects that an order event has.
  static let maximum = 5
}
