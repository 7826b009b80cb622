import Domain

/// What more of an account means to the result.
public enum AccountNature: String, CaseIterable, Sendable {
  /// More than budget is favourable.
  case income
  /// Less than budget is favourable.
  case expense
  /// Neither: balances and statistics.
  case neutral

  /// Of the amounts by account role, positive in the sense of the role's measure.
  public init(_ role: AccountRole) {
    switch role {
    case .revenue, .freight: self = .income
    case .discount, .returns, .fees, .cogs, .writeOff: self = .expense
    default: self = .neutral
    }
  }
}

/// Beyond what size a variance is worth a look: it must be over both.
public struct VarianceThreshold: Hashable, Sendable {
  /// Minor units.
  public var absolute: Int64
  /// Of |budget|, in millionths (5 % is 50,000).
  public var percent_u: Int64

  public init(absolute: Int64 = 0, percent_u: Int64 = 0) {
    self.absolute = absolute
    self.percent_u = percent_u
  }
}

/// Actual against budget of one line.
public struct Variance: Hashable, Sendable {
  public var actual: Int128
  public var budget: Int128
  public var nature: AccountNature

  public init(actual: Int128, budget: Int128, nature: AccountNature) {
    self.actual = actual
    self.budget = budget
    self.nature = nature
  }

  public var amount: Int128 { actual - budget }

  /// nil where there is no difference, or the account has no good side.
  public var isFavourable: Bool? {
    guard amount != 0 else { return nil }
    switch nature {
    case .income: return amount > 0
    case .expense: return amount < 0
    case .neutral: return nil
    }
  }

  /// Of |budget|, in millionths, half to even; nil (not applicable) at a budget of zero.
  public var percent_u: Int128? { ratio_u(amount, Int128(budget.magnitude)) }

  /// Over the absolute and the percent threshold. Without a budget there is no percentage, and the absolute one
  /// decides.
  public func isFlagged(_ threshold: VarianceThreshold) -> Bool {
    guard amount != 0, amount.magnitude > UInt128(threshold.absolute.magnitude) else { return false }
    guard budget != 0 else { return true }
    return amount.magnitude * 1_000_000 > UInt128(threshold.percent_u.magnitude) * budget.magnitude
  }
}

/// How much of a variance comes from quantity and how much from price.
///
/// volume = Δq × budget price, price = Δprice × actual quantity. The volume part is rounded half to even, the price part
/// is the rest, so that the two add up to the variance to the minor unit.
public struct PriceVolume: Hashable, Sendable {
  public var volume: Int128
  public var price: Int128

  /// Quantities in millionths of the unit. nil where the budget has no quantity: there is no price to compare with.
  public init?(actual: Int64, actualQuantity_u: Int64, budget: Int64, budgetQuantity_u: Int64) {
    guard budgetQuantity_u != 0 else { return nil }
    let total = Int128(actual) - Int128(budget)
    volume = dividedHalfEven(
      (Int128(actualQuantity_u) - Int128(budgetQuantity_u)) * Int128(budget), Int128(budgetQuantity_u))
    price = total - volume
  }

  public var total: Int128 { volume + price }
}

/// Sums of actual and budget by key, from rows in any order; control totals come for free.
public struct VarianceTable<Key: Hashable & Comparable & Sendable>: Sendable {
  public struct Line: Sendable {
    public var key: Key
    public var variance: Variance
  }

  private var sums: [Key: (actual: Int128, budget: Int128)] = [:]
  private var natures: [Key: AccountNature] = [:]
  public private(set) var actual: Int128 = 0
  public private(set) var budget: Int128 = 0
  public private(set) var rows = 0
  /// Keys that are kept; a row of a further one is refused. A million keys are 100 MB.
  public var maximumKeys = 1_000_000

  public init() {}

  /// - Returns: false where the table is full and the row was left out.
  @discardableResult
  public mutating func add(_ key: Key, actual: Int64 = 0, budget: Int64 = 0, nature: AccountNature) -> Bool {
    guard sums[key] != nil || sums.count < maximumKeys else { return false }
    sums[key, default: (0, 0)].actual += Int128(actual)
    sums[key, default: (0, 0)].budget += Int128(budget)
    natures[key] = nature
    self.actual += Int128(actual)
    self.budget += Int128(budget)
    rows += 1
    return true
  }

  /// By key.
  public var lines: [Line] {
    sums.keys.sorted().map { key in
      Line(
        key: key,
        variance: Variance(actual: sums[key]!.actual, budget: sums[key]!.budget, nature: natures[key] ?? .neutral))
    }
  }
}
