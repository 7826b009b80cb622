import Aggregates
import Domain

/// The base currency of a configuration.
public struct ExchangeChecks: Sendable, Equatable {
  public var rates: ExchangeRates
  /// How far the base amounts of a role may be from the rate's, for an order: millionths of the base currency's major
  /// unit, inclusive.
  public var tolerance_u: Int64

  public init(rates: ExchangeRates, tolerance_u: Int64 = 10_000) {
    self.rates = rates
    self.tolerance_u = tolerance_u
  }
}

extension Fact {
  /// The day whose rate counts: of the posting or document date, or of the event time where there is none.
  var rateDay: Int32 { date_d == absentDate ? day(ofMilliseconds: time_ms) : date_d }
}

/// Base amounts, once the transaction currency has been judged.
extension Judge {
  mutating func judgeExchange(_ exchange: ExchangeChecks) {
    for currency in currencies.indices where currencies[currency] != exchange.rates.base {
      judgeMissingRate(currency, exchange.rates)
    }
    for currency in currencies.indices { judgeBaseAmounts(currency, exchange) }
  }

  private mutating func judgeMissingRate(_ currency: Int, _ rates: ExchangeRates) {
    let code = currencies[currency]
    let gap =
      duePostings.first { $0.currency == code && !rates.covers(code, day: $0.rateDay) }
      ?? dueEvents.first {
        $0.currency == code && !policy.entries(of: $0).isEmpty && !rates.covers(code, day: $0.rateDay)
      }
    guard let gap else { return }
    let role = primaryRole(posted, currency)
    findings.append(
      Finding(
        .fxRateMissing, role, code, expected: value(expected, currency, role), posted: value(posted, currency, role),
        reason: "no rate from \(code.code) to \(rates.base.code) for \(formatDate(gap.rateDay))"))
  }

  /// By role, what the ledger holds in the base currency against amount × rate. The rate is that of the posting date, or
  /// of one of the order's events that put something into the role: a payment clears a receivable at the rate at which
  /// it was billed. Revenue may come out of deferred revenue, at the rate at which that was billed. Differences that the
  /// ledger has posted as such (`fx`, `rounding`) are none.
  private mutating func judgeBaseAmounts(_ currency: Int, _ exchange: ExchangeChecks) {
    let (code, rates) = (currencies[currency], exchange.rates)
    var wants = [Int128](repeating: 0, count: roleCount)
    var has = wants
    var example: [Fact?] = Array(repeating: nil, count: roleCount)
    for posting in duePostings where posting.currency == code && posting.role != .fx && posting.role != .rounding {
      guard let base = posting.baseAmount else { continue }
      var nearest: Int64?
      func consider(_ day: Int32) {
        guard let converted = rates.convert(posting.amount, from: code, day: day) else { return }
        if let known = nearest, distance(known, base) <= distance(converted, base) { return }
        nearest = converted
      }
      consider(posting.rateDay)
      for event in dueEvents where event.currency == code {
        if hasEntry(event, posting) || posting.role == .revenue && hasEntry(event, in: .deferred) {
          consider(event.rateDay)
        }
      }
      guard let nearest else { continue }
      let role = Int(posting.code)
      wants[role] += Int128(nearest)
      has[role] += Int128(base)
      if nearest != base, example[role] == nil { example[role] = posting }
    }
    let tolerance = Tolerance.minorUnits(micros: exchange.tolerance_u, exponent: rates.base.exponent)
    for role in Judge.primaryOrder {
      let index = Int(role.rawValue)
      guard magnitude(has[index] - wants[index]) > tolerance, let line = example[index] else { continue }
      guard !findings.contains(where: { $0.type == .fxDifference && $0.role == role }) else { return }
      findings.append(
        Finding(
          .fxDifference, role, rates.base, expected: Int64(clamping: wants[index]), posted: Int64(clamping: has[index]),
          reason: """
            the base amount of \(Money(minorUnits: line.amount, currency: code).description) is \
            \(Money(minorUnits: line.baseAmount!, currency: rates.base).description), \
            which no rate of the order's dates gives
            """))
      return
    }
  }

  private func distance(_ a: Int64, _ b: Int64) -> UInt64 {
    let difference = Int128(a) - Int128(b)
    return UInt64(difference.magnitude)
  }
}

extension Matcher {
  /// The same fact in the base currency, for the second view of the aggregates. Where there is no rate it counts as one
  /// without a value.
  /// - Parameter day: Whose rate counts: its own, also of what is taken back later.
  @inline(never)
  mutating func aggregateInBase(
    _ fact: UnsafePointer<Fact>, _ input: AggregateInput, day: Int32, sign: Int, cancelDay: Int32?
  ) {
    let rates = policy.checks!.exchange!.rates
    var input = input
    input.isBase = true
    input.currency = rates.base
    let currency = fact.pointee.currency
    if fact.pointee.isPosting {
      let base = fact.pointee.baseAmount ?? rates.convert(input.amount, from: currency, day: day)
      input.amount = base ?? 0
      input.isUnrated = base == nil
    } else {
      let amounts = input.amounts
      input.amounts = Amounts()
      for component in AmountComponent.allCases where amounts.present & 1 << UInt16(component.rawValue) != 0 {
        guard let base = rates.convert(amounts[component], from: currency, day: day) else { break }
        input.amounts[component] = base
      }
    }
    aggregates!.add(input, sign: sign)
    if hasSchedules, !fact.pointee.isPosting { aggregateReleases(fact, input, sign: sign, cancelDay: cancelDay) }
  }
}
