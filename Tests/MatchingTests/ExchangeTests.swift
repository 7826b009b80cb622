import Aggregates
import Domain
import Testing

@testable import Matching

/// Base amounts, missing rates, severity and aggregates in the base currency.
@Suite struct ExchangeTests {
  let r = Records()
  static let eur = Currency("EUR")!
  static let usd = Currency("USD")!
  /// 2026-03-10.
  static let own = day(ofMilliseconds: t0)

  static func rates(_ list: [(Int32, Int64)] = [(own - 20, 9_000), (own, 9_250), (own + 10, 9_500)]) -> ExchangeRates {
    try! ExchangeRates(
      base: eur, list.map { .init(day: $0.0, from: usd, to: eur, rate: DecimalText(mantissa: $0.1, scale: 4)) },
      maximumAge_d: 9)
  }

  static func policy(_ rates: ExchangeRates = rates(), tolerance_u: Int64 = 10_000) -> MatchingPolicy {
    testPolicy {
      var checks = FinanceChecks()
      checks.exchange = ExchangeChecks(rates: rates, tolerance_u: tolerance_u)
      $0.checks = checks
      $0.lateAfter_d = 60
      $0.earlyBefore_d = 60
    }
  }

  func lines(_ amounts: [(AccountRole, Int64, Int64?)], date: Int32 = own, journal: String = "JE1") -> [Posting] {
    amounts.map { role, amount, base in
      var posting = r.posting("O1", role, amount, journal: journal, date: date)
      if let base {
        posting.baseAmount = base
        posting.extras |= Posting.Extra.baseAmount
      }
      return posting
    }
  }

  func sale(_ currency: String = "USD") -> OrderEvent {
    r.event("O1", currency: currency, net: 100_00, tax: 19_00, gross: 119_00)
  }

  func judged(_ events: [OrderEvent], _ postings: [Posting], _ policy: MatchingPolicy = policy()) -> [String: Break] {
    let inputs = events.map { Input.order($0) } + postings.map { Input.posting($0) }
    var found: [[String: Break]] = []
    for quickly in [true, false] {
      var matcher = Matcher(policy: policy, dimensionCount: 0)
      matcher.judgesQuickly = quickly
      var outputs = MatchOutputs()
      matcher.take(inputs, into: &outputs)
      matcher.finish(outputs: &outputs)
      expectControlTotals(matcher.totals)
      found.append(Dictionary(outputs.breaks.map { ($0.id, $0) }) { $1 })
    }
    #expect(found[0] == found[1])
    return found[0]
  }

  @Test func baseAmountsAreHeldAgainstTheRate() {
    let right: [(AccountRole, Int64, Int64?)] = [
      (.receivable, 119_00, 110_08), (.revenue, -100_00, -92_50), (.tax, -19_00, -17_58),
    ]
    // 119.00 × 0.925 = 110.075 goes to the even one.
    #expect(judged([sale()], lines(right)).isEmpty)
    var wrong = right
    wrong[1].2 = -92_51
    #expect(judged([sale()], lines(wrong)).isEmpty)
    #expect(
      judged([sale()], lines(wrong), Self.policy(tolerance_u: 9_999)).keys.sorted() == ["O1:FX_DIFFERENCE:revenue:EUR"])
    wrong[1].2 = -93_50
    let breaks = judged([sale()], lines(wrong))
    let only = breaks["O1:FX_DIFFERENCE:revenue:EUR"]
    #expect(breaks.count == 1 && only?.currency == Self.eur && only?.expected == -92_50 && only?.posted == -93_50)
    #expect(
      only?.reason == "the base amount of -100.00 USD is -93.50 EUR, which no rate of the order's dates gives")
    // Without base amounts there is nothing to compare.
    #expect(judged([sale()], lines(right.map { ($0.0, $0.1, nil) })).isEmpty)
    // An amount in the base currency is its own base amount.
    let home = right.map { ($0.0, $0.1, Optional($0.1)) }
    func inEuro(_ lines: [Posting]) -> [Posting] {
      lines.map {
        var posting = $0
        posting.currency = Self.eur
        return posting
      }
    }
    #expect(judged([sale("EUR")], inEuro(lines(home))).isEmpty)
    #expect(judged([sale("EUR")], inEuro(lines(right))).keys.sorted() == ["O1:FX_DIFFERENCE:receivable"])
  }

  /// A payment clears the receivable at the rate at which it was billed, and the ledger posts the difference.
  @Test func settlementClearsAtTheRateOfTheInvoice() {
    let payment = r.event("O1", .paid, at: t0 + 10 * 24 * hour, applied: 119_00)
    let billed = lines([(.receivable, 119_00, 110_08), (.revenue, -100_00, -92_50), (.tax, -19_00, -17_58)])
    let paid = lines(
      [(.cash, 119_00, 113_05), (.receivable, -119_00, -110_08), (.fx, 0, -2_97)], date: Self.own + 10, journal: "JE2")
    #expect(judged([sale(), payment], billed + paid).isEmpty)
    // At the rate of neither.
    let off = lines(
      [(.cash, 119_00, 113_05), (.receivable, -119_00, -109_00), (.fx, 0, -4_05)], date: Self.own + 10, journal: "JE2")
    #expect(judged([sale(), payment], billed + off).keys.sorted() == ["O1:FX_DIFFERENCE:receivable:EUR"])
  }

  /// What was deferred is a liability of the day on which it was billed.
  @Test func releasesAreAtTheRateOfTheInvoice() {
    var policy = Self.policy()
    policy.checks!.schedules = RevenueSchedules()
    policy.checks!.schedules!.basis = .period
    policy.entries[Int(OrderEventKind.invoiced.rawValue)] = [.init(.receivable, 1, .gross), .init(.deferred, -1, .net)]
    var invoice = r.event("O1", document: "I1", net: 100_00, gross: 100_00)
    // 2026-03-10 to 2026-04-09.
    (invoice.serviceStart_d, invoice.serviceEnd_d) = (Self.own, Self.own + 30)
    let billed = lines([(.receivable, 100_00, 92_50), (.deferred, -100_00, -92_50)])
    func released(_ march: Int64, _ april: Int64) -> [Posting] {
      lines([(.deferred, 50_00, march), (.revenue, -50_00, -march)], date: Self.own + 19, journal: "R1")
        + lines([(.deferred, 50_00, april), (.revenue, -50_00, -april)], date: Self.own + 28, journal: "R2")
    }
    func found(_ postings: [Posting]) -> [String] {
      let rates = Self.rates([
        (Self.own, 9_250), (Self.own + 10, 9_500), (Self.own + 19, 9_600), (Self.own + 28, 9_700),
      ])
      policy.checks!.exchange!.rates = rates
      return judged([invoice], postings, policy).keys.sorted()
    }
    #expect(found(billed + released(46_25, 46_25)) == [])
    #expect(found(billed + released(46_25, 44_00)) == ["O1:FX_DIFFERENCE:revenue:EUR"])
  }

  @Test func aMissingRateIsABreak() {
    let plain: [(AccountRole, Int64, Int64?)] = [
      (.receivable, 119_00, nil), (.revenue, -100_00, nil), (.tax, -19_00, nil),
    ]
    #expect(judged([sale()], lines(plain), Self.policy(Self.rates([(Self.own - 9, 9_000)]))).isEmpty)
    let breaks = judged([sale()], lines(plain), Self.policy(Self.rates([(Self.own - 10, 9_000)])))
    #expect(breaks.keys.sorted() == ["O1:FX_RATE_MISSING:receivable"])
    #expect(breaks.values.first?.reason == "no rate from USD to EUR for 2026-03-10")
  }

  @Test func severityIsInTheBaseCurrency() {
    // 1,080 dollars are 999 euros: below the first threshold, 1,000.
    func severity(_ policy: MatchingPolicy) -> Severity? {
      finalBreaks([.order(r.event("O1", net: 1_080_00, gross: 1_080_00))], policy: policy).values.first?.severity
    }
    #expect(severity(testPolicy()) == .medium)
    #expect(severity(Self.policy()) == .low)
  }

  // MARK: - Aggregates

  @Test func aggregatesHaveASecondViewInTheBaseCurrency() {
    var matcher = Matcher(policy: Self.policy(), dimensionCount: 0)
    matcher.aggregates = TaskAggregates(dimensionCount: 0)
    var outputs = MatchOutputs()
    let home = r.event("O2", currency: "EUR", net: 10_00, gross: 10_00)
    let unrated = r.event("O3", at: t0 - 50 * 24 * hour, net: 5_00, gross: 5_00)
    matcher.take(
      [.order(sale()), .order(home), .order(unrated)]
        + lines([(.receivable, 119_00, 111_11), (.revenue, -100_00, nil)]).map { .posting($0) }, into: &outputs)
    // The same again is dropped when the tie is judged, out of both views.
    matcher.take([.order(sale())], into: &outputs)
    matcher.finish(outputs: &outputs)
    var table = CellTable(dimensionCount: 0)
    matcher.mergeAggregates(into: &table)
    let lines = table.lines
    func cell(_ currency: Currency, _ isBase: Bool, _ period: Int32) -> CellValues? {
      lines.first { $0.key == CellKey(dimensions: [], currency: currency, isBase: isBase, period: period) }?.values
    }
    let base = cell(Self.eur, true, 202_603)
    #expect(base?[.billedNet] == 102_50)
    #expect(base?[.billedGross] == 120_08)
    // As the ledger converted it, else by the rate.
    #expect(base?[.receivable, .posting] == 111_11 && base?[.revenue, .posting] == -92_50)
    #expect(base?[.events] == 2 && base?[.unvalued] == 0)
    #expect(cell(Self.usd, false, 202_603)?[.billedNet] == 100_00 && cell(Self.usd, true, 202_603) == nil)
    #expect(cell(Self.eur, false, 202_603)?[.billedNet] == 10_00)
    // No rate: counted, and without a value.
    let gap = cell(Self.eur, true, 202_601)
    #expect(gap?[.events] == 1 && gap?[.unvalued] == 1 && gap?[.billedNet] == 0)
  }

  /// A cancelled invoice takes back in the base currency what it came to there, whatever the rate of the cancellation's day.
  @Test(arguments: [true, false]) func whatIsCancelledIsTakenBackAtItsOwnRate(comesFirst: Bool) {
    var matcher = Matcher(policy: Self.policy(), dimensionCount: 0)
    matcher.aggregates = TaskAggregates(dimensionCount: 0)
    var outputs = MatchOutputs()
    let later = t0 + 25 * 24 * hour
    let events = [
      r.event("O1", document: "D1", net: 100_00, tax: 19_00, gross: 119_00),
      r.event("O1", .invoiceCancelled, at: later, document: "D1"),
    ]
    matcher.take((comesFirst ? events : events.reversed()).map { .order($0) }, into: &outputs)
    var table = CellTable(dimensionCount: 0)
    matcher.mergeAggregates(into: &table)
    let base = table.lines.filter(\.key.isBase)
    #expect(base.map(\.key.period) == [202_603, 202_604])
    #expect(base.map { $0.values.value(.billings) } == [92_50, -92_50])
    #expect(base.map { $0.values.value(.billedGross) } == [110_08, -110_08])
  }

  /// A posting that no rate converts is counted in the base view, by posting date, and taken back with it.
  @Test func postingsWithoutARateAreCounted() {
    var matcher = Matcher(policy: Self.policy(), dimensionCount: 0)
    matcher.aggregates = TaskAggregates(dimensionCount: 0)
    var outputs = MatchOutputs()
    let early = t0 - 50 * 24 * hour
    let unrated = r.invoice("O3", net: 5_00, journal: "J3", at: early)
    var told = r.posting("O3", .cogs, 2_00, journal: "J4", at: early)
    (told.baseAmount, told.extras) = (1_90, told.extras | Posting.Extra.baseAmount)
    matcher.take(unrated.map { .posting($0) } + [.posting(told)], into: &outputs)
    // One of them again: it is dropped, out of the count too.
    matcher.take([.posting(unrated[0])], into: &outputs)
    matcher.finish(outputs: &outputs)
    var table = CellTable(dimensionCount: 0)
    matcher.mergeAggregates(into: &table)
    let counts = table.lines.map { ($0.key.isBase, $0.key.period, Int($0.values[.unrated])) }
    #expect(counts.map(\.0) == [true, false] && counts.map(\.1) == [202_601, 202_601])
    #expect(counts.map(\.2) == [unrated.count, 0])
    #expect(table.lines[0].values[.cogs, .posting] == 1_90 && table.lines[0].values[.receivable, .posting] == 0)
  }

  /// Sums in the base currency do not depend on the order of arrival, nor on how orders are split over tasks.
  @Test(arguments: 0..<60 as Range<UInt64>) func baseSumsAreThoseOfAnySplit(seed: UInt64) {
    var generator = SeededGenerator(state: seed)
    var inputs: [Input] = []
    for order in 0..<6 {
      let at = t0 + Int64.random(in: -5...12, using: &generator) * 24 * hour
      let net = Int64.random(in: 1...99_999, using: &generator)
      let currency = ["USD", "EUR"].randomElement(using: &generator)!
      inputs.append(.order(r.event("O\(order)", at: at, currency: currency, net: net, gross: net)))
      inputs += r.invoice("O\(order)", net: net, journal: "J\(order)", at: at + hour, currency: currency).map {
        .posting($0)
      }
    }
    inputs += [inputs.randomElement(using: &generator)!]
    func sums(_ tasks: Int) -> [CellLine] {
      var table = CellTable(dimensionCount: 0)
      for task in 0..<tasks {
        var matcher = Matcher(policy: Self.policy(), dimensionCount: 0)
        matcher.aggregates = TaskAggregates(dimensionCount: 0)
        var outputs = MatchOutputs()
        let own = inputs.shuffled(using: &generator).filter {
          let key: ByteView =
            switch $0 {
            case .order(let event): event.order
            case .posting(let posting): posting.order
            }
          return Int(Fingerprint(key).low % UInt64(tasks)) == task
        }
        matcher.take(own, into: &outputs)
        matcher.finish(outputs: &outputs)
        matcher.mergeAggregates(into: &table)
      }
      return table.lines.filter { !$0.values.isZero }
    }
    let reference = sums(1)
    #expect(reference.contains { $0.key.isBase })
    for tasks in 1...3 { #expect(sums(tasks) == reference, "seed \(seed), \(tasks) tasks") }
  }
}
