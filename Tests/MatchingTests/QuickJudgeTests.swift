import Domain
import Simulation
import Testing

@testable import Matching

/// The quick look at ties that agree comes to the same end as the judge, in every step of any history.
@Suite struct QuickJudgeTests {
  /// What the outside can tell of a matcher. Only when and how often it judged is left out: a tie that agrees may be
  /// seen to do so earlier.
  func told(_ matcher: borrowing Matcher, _ outputs: MatchOutputs) -> (breaks: [Break], sums: [UInt8], lines: String) {
    var counters = matcher.counters
    counters.judgements = 0
    // A repeated record is counted when somebody looks.
    counters.duplicates = 0
    counters.superseded = 0
    var writer = ByteWriter()
    counters.export(into: &writer)
    // A tie that was seen to agree earlier may have its turn at another time of a long leap; each break has its course.
    let breaks = outputs.breaks.enumerated().sorted { ($0.element.id, $0.offset) < ($1.element.id, $1.offset) }
    return (breaks.map(\.element), writer.array, "\(matcher.totals.lines)")
  }

  func compare(_ inputs: [Input], _ policy: MatchingPolicy, _ generator: inout SeededGenerator, _ place: String) -> Int
  {
    var quick = Matcher(policy: policy, dimensionCount: 0)
    var full = Matcher(policy: policy, dimensionCount: 0)
    full.judgesQuickly = false
    var (a, b) = (MatchOutputs(), MatchOutputs())
    for input in inputs {
      quick.take([input], into: &a)
      full.take([input], into: &b)
      if Int.random(in: 0..<3, using: &generator) == 0 {
        let watermark = t0 + Int64.random(in: 0...40, using: &generator) * hour
        quick.watermarks.force(watermark)
        full.watermarks.force(watermark)
        quick.advance(now_ms: t0 + 1_000 * hour, outputs: &a)
        full.advance(now_ms: t0 + 1_000 * hour, outputs: &b)
      }
      let (one, other) = (told(quick, a), told(full, b))
      #expect(one.breaks == other.breaks, "\(place)")
      #expect(one.sums == other.sums, "\(place)")
      #expect(one.lines == other.lines, "\(place)")
    }
    quick.finish(outputs: &a)
    full.finish(outputs: &b)
    let (one, other) = (told(quick, a), told(full, b))
    for (x, y) in zip(one.breaks, other.breaks) where x != y {
      Issue.record("\(place) at the end: \(x) against \(y)")
      break
    }
    #expect(one.breaks.count == other.breaks.count, "\(place) at the end")
    #expect(one.sums == other.sums, "\(place) at the end")
    #expect(one.lines == other.lines, "\(place) at the end")
    return quick.counters.tiesTiedOut
  }

  @Test func randomHistoriesAreJudgedAlike() {
    var tiedOut = 0
    for seed in 0..<600 as Range<UInt64> {
      var generator = SeededGenerator(state: seed)
      var source = HistoryGenerator(seed: seed, start_ms: t0)
      let history = source.next()
      let storage = HistoryStorage()
      let inputs =
        history.events.map { Input.order(storage.record($0)) }
        + history.postings.map { .posting(storage.record($0)) }
      let policy = testPolicy {
        $0.lateAfter_d = [5, 0].randomElement(using: &generator)!
        $0.checksPostingDates = seed % 3 != 0
        $0.reportsProvisional = seed % 4 != 0
        $0.outOfOrderness_ms = 48 * hour
      }
      tiedOut += compare(inputs.shuffled(using: &generator), policy, &generator, "seed \(seed)")
      withExtendedLifetime(storage) {}
    }
    #expect(tiedOut > 300, "the histories must hold ties that agree")
  }

  /// Periods of three days each, every other one closed early in the history; and rates for some of its days.
  static let checks: FinanceChecks = {
    var checks = FinanceChecks()
    let first = day(ofMilliseconds: t0) - 60
    checks.calendar = try! FiscalCalendar(
      (0..<50).map {
        FiscalCalendar.Period(
          name: 202_601 + $0, first_d: first + 3 * $0, last_d: first + 3 * $0 + 2,
          closedAt_ms: $0 % 2 == 0 ? t0 + Int64($0) * 6 * hour : nil)
      })
    let rates = [0, 4, 60].map {
      ExchangeRates.Rate(
        day: day(ofMilliseconds: t0) + $0, from: Currency("USD")!, to: Currency("EUR")!,
        rate: DecimalText(mantissa: 9_137, scale: 4))
    }
    checks.exchange = try! ExchangeChecks(rates: ExchangeRates(base: Currency("EUR")!, rates, maximumAge_d: 30))
    checks.appliesCash = true
    checks.severityAges_ms = [hour, 3 * hour, 9 * hour]
    return checks
  }()

  /// Two lines a document, whose amounts change places now and then, with the setting that compares them and without.
  @Test func linesAreJudgedAlike() {
    for seed in 0..<300 as Range<UInt64> {
      var generator = SeededGenerator(state: seed &* 17 &+ 3)
      let r = Records()
      var inputs: [Input] = []
      for order in 0..<3 {
        let key = "L\(order)"
        let swap: Int64 = [0, 0, 10].randomElement(using: &generator)!
        let hasLines = Int.random(in: 0..<4, using: &generator) != 0
        for line in 1...2 {
          let net = Int64(line) * 100
          var event = r.event(key, id: "E\(line)", document: "D", net: net, gross: net, quantity: 5)
          event.line = r.view("\(line)")
          inputs.append(.order(event))
          for var posting in r.invoice(key, net: net + (line == 1 ? swap : -swap), journal: "J\(line)", document: "D") {
            posting.quantity_u = 5_000_000
            posting.extras |= Posting.Extra.quantity
            if hasLines { posting.line = r.view("\(line)") }
            inputs.append(.posting(posting))
          }
        }
      }
      let policy = testPolicy {
        $0.outOfOrderness_ms = 48 * hour
        $0.quantities.comparesLines = seed % 3 != 0
        if seed % 4 == 0 { $0.checks = Self.checks }
      }
      _ = compare(inputs.shuffled(using: &generator), policy, &generator, "seed \(seed)")
    }
  }

  /// Orders that agree in their amounts, with something odd in dates, customers, ids or documents.
  @Test func oddDetailsAreJudgedAlike() {
    for seed in 0..<600 as Range<UInt64> {
      var generator = SeededGenerator(state: seed &* 31 &+ 7)
      let r = Records()
      var inputs: [Input] = []
      for order in 0..<3 {
        let key = "Q\(order)"
        for document in 0..<Int.random(in: 1...3, using: &generator) {
          let at = t0 + Int64.random(in: 0...30, using: &generator) * 24 * hour / 10
          let net = Int64.random(in: 1...5, using: &generator) * 100
          let name = "D\(document)"
          var event = r.event(
            key, id: ["E\(document)", "E", name].randomElement(using: &generator)!, at: at,
            customer: ["C1", "C2", ""].randomElement(using: &generator)!, document: name, net: net, tax: 20,
            gross: net + 20)
          if Bool.random(using: &generator) { event.documentDate_d = absentDate }
          inputs.append(.order(event))
          for var posting in r.invoice(
            key, net: net, tax: 20, journal: "J\(document)", at: at + hour,
            customer: ["C1", "C1", "C1", ""].randomElement(using: &generator)!,
            document: [name, name, name, "D0", ""].randomElement(using: &generator)!)
          {
            switch Int.random(in: 0..<12, using: &generator) {
            case 0: posting.postingDate_d += Int32.random(in: -40...40, using: &generator)
            case 1: posting.period = 202_604
            case 2: posting.postingDate_d = absentDate
            case 3: posting.isReversal = true
            case 4: posting.id = .empty
            case 5: posting.id = r.view("J\(document)-1")
            default: break
            }
            inputs.append(.posting(posting))
          }
        }
      }
      let policy = testPolicy {
        $0.outOfOrderness_ms = 90 * 24 * hour
        $0.window_ms = 60 * 24 * hour
        $0.checksCustomers = seed % 3 != 0
        if seed % 4 == 0 { $0.checks = Self.checks }
      }
      _ = compare(inputs.shuffled(using: &generator), policy, &generator, "seed \(seed)")
    }
  }
}
