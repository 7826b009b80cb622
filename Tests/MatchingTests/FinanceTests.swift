import Domain
import Testing

@testable import Matching

/// Prices and quantities, entities and segments, closed periods.
@Suite struct FinanceTests {
  let r = Records()

  func sold(_ net: Int64, tax: Int64 = 0, quantity: Int64, document: String = "INV1") -> OrderEvent {
    r.event("O1", document: document, net: net, tax: tax, gross: net + tax, quantity: quantity)
  }

  func lines(
    _ net: Int64, tax: Int64 = 0, quantity: Int64?, document: String = "INV1", journal: String = "JE1"
  ) -> [Posting] {
    r.invoice("O1", net: net, tax: tax, journal: journal, document: document).map {
      var posting = $0
      if posting.role == .revenue, let quantity {
        posting.quantity_u = quantity * 1_000_000
        posting.extras |= Posting.Extra.quantity
      }
      return posting
    }
  }

  @Test func priceAndQuantity() {
    // Ten at 5.00 were sold; the ledger has ten at 5.50, eight at 5.00, eight at 5.50.
    #expect(verdicts([sold(50_00, quantity: 10)], lines(55_00, quantity: 10)) == ["PRICE_MISMATCH:revenue"])
    #expect(verdicts([sold(50_00, quantity: 10)], lines(40_00, quantity: 8)) == ["QUANTITY_MISMATCH:revenue"])
    #expect(verdicts([sold(50_00, quantity: 10)], lines(44_00, quantity: 8)) == ["AMOUNT_MISMATCH:revenue"])
    #expect(verdicts([sold(50_00, quantity: 10)], lines(55_00, quantity: nil)) == ["AMOUNT_MISMATCH:revenue"])
    #expect(verdicts([sold(50_00, quantity: 10)], lines(50_00, quantity: 9)) == [])
    // With the tax of each.
    #expect(
      verdicts([sold(50_00, tax: 10_00, quantity: 10)], lines(55_00, tax: 11_00, quantity: 10))
        == ["PRICE_MISMATCH:revenue"])
    // The sign of a posted quantity says nothing: the side of the line does.
    #expect(verdicts([sold(50_00, quantity: 10)], lines(55_00, quantity: -10)) == ["PRICE_MISMATCH:revenue"])
    // A wrong tax is no wrong price.
    #expect(
      verdicts([sold(50_00, tax: 10_00, quantity: 10)], lines(50_00, tax: 9_00, quantity: 10))
        == ["TAX_MISMATCH:tax"])
  }

  @Test func pricesAreHeldAgainstEachOtherByDocument() {
    let events = [sold(50_00, quantity: 10, document: "A"), sold(90_00, quantity: 3, document: "B")]
    func both(_ a: (Int64, Int64), _ b: (Int64, Int64)) -> [String] {
      verdicts(
        events,
        lines(a.0, quantity: a.1, document: "A", journal: "J1")
          + lines(b.0, quantity: b.1, document: "B", journal: "J2"))
    }
    #expect(both((50_00, 10), (93_00, 3)) == ["PRICE_MISMATCH:revenue"])
    #expect(both((45_00, 9), (90_00, 3)) == ["QUANTITY_MISMATCH:revenue"])
    // One of each: neither explains the whole.
    #expect(both((45_00, 9), (93_00, 3)) == ["AMOUNT_MISMATCH:revenue"])
  }

  @Test func aPriceBreakTellsItsAmounts() {
    let breaks = finalBreaks(
      [.order(sold(50_00, quantity: 10))] + lines(55_00, quantity: 10).map { .posting($0) })
    let only = breaks["O1:PRICE_MISMATCH:revenue"]
    #expect(only?.expected == -50_00 && only?.posted == -55_00)
    #expect(only?.reason == "the quantities agree, the unit price differs")
  }

  /// Where delivered and billed quantities differ as well, the amounts go to that break: an id stands for one break.
  @Test func quantitiesOfTheFlowAndOfTheLedgerAreOneBreak() {
    let policy = testPolicy { $0.quantities.isEnabled = true }
    let delivered = r.event("O1", .delivered, quantity: 9)
    let breaks = finalBreaks(
      ([delivered, sold(50_00, quantity: 10)].map { Input.order($0) })
        + lines(45_00, quantity: 9).map { .posting($0) }, policy: policy)
    #expect(breaks.keys.sorted() == ["O1:QUANTITY_MISMATCH:revenue"])
    #expect(breaks.values.first?.posted == -45_00)
  }

  // MARK: - Entity and segment

  func dimensioned(
    _ own: [String], _ theirs: [String], _ policy: MatchingPolicy
  ) -> [String] {
    var event = r.event("O1", net: 100_00, gross: 100_00)
    for (at, text) in own.enumerated() { event.dimensions[at] = r.view(text) }
    var inputs: [Input] = [.order(event)]
    for var posting in r.invoice("O1", net: 100_00) {
      for (at, text) in theirs.enumerated() { posting.dimensions[at] = r.view(text) }
      inputs.append(.posting(posting))
    }
    var found: [Set<String>] = []
    for quickly in [true, false] {
      var matcher = Matcher(policy: policy, dimensionCount: 3)
      matcher.judgesQuickly = quickly
      var outputs = MatchOutputs()
      matcher.take(inputs, into: &outputs)
      matcher.finish(outputs: &outputs)
      expectControlTotals(matcher.totals)
      found.append(Set(outputs.breaks.map(\.id)))
    }
    #expect(found[0] == found[1])
    return found[0].sorted()
  }

  @Test func entityAndSegment() {
    let policy = testPolicy {
      var checks = FinanceChecks()
      checks.entity = 1
      checks.segment = 2
      $0.checks = checks
    }
    #expect(dimensioned(["EMEA", "DE01", "RETAIL"], ["EMEA", "DE01", "RETAIL"], policy) == [])
    #expect(
      dimensioned(["EMEA", "DE01", "RETAIL"], ["APAC", "FR01", "RETAIL"], policy) == ["O1:WRONG_ENTITY:receivable"])
    #expect(
      dimensioned(["EMEA", "DE01", "RETAIL"], ["EMEA", "DE01", "B2B"], policy) == ["O1:WRONG_SEGMENT:receivable"])
    #expect(
      dimensioned(["", "DE01", "RETAIL"], ["", "FR01", "B2B"], policy)
        == ["O1:WRONG_ENTITY:receivable", "O1:WRONG_SEGMENT:receivable"])
    // What one side does not tell is no contradiction.
    #expect(dimensioned(["", "", "RETAIL"], ["", "FR01", ""], policy) == [])
    #expect(dimensioned(["EMEA", "DE01", "RETAIL"], ["APAC", "FR01", "B2B"], testPolicy()) == [])
  }

  // MARK: - Fiscal periods

  /// Periods of four, four and five weeks from 2026-02-02 on; the first was closed on the day after its end.
  static func calendar(closed: Int64? = 1_772_496_000_000) throws -> FiscalCalendar {
    let first = Int32(daysFromCivil(year: 2026, month: 2, day: 2))
    return try FiscalCalendar([
      .init(name: 202_602, first_d: first + 28, last_d: first + 55),
      .init(name: 202_601, first_d: first, last_d: first + 27, closedAt_ms: closed),
      .init(name: 202_603, first_d: first + 56, last_d: first + 90),
    ])
  }

  static func calendarPolicy(closed: Int64? = 1_772_496_000_000) throws -> MatchingPolicy {
    let calendar = try calendar(closed: closed)
    return testPolicy {
      var checks = FinanceChecks()
      checks.calendar = calendar
      $0.checks = checks
      $0.lateAfter_d = 60
      $0.earlyBefore_d = 60
    }
  }

  @Test func fiscalPeriodsDecideTheCutoff() throws {
    // 2026-03-10 lies in the second period, which ends on 2026-03-29.
    let own = day(ofMilliseconds: t0)
    let sale = r.event("O1", net: 100_00, gross: 100_00)
    let policy = try Self.calendarPolicy(closed: nil)
    func dated(_ day: Int32) -> [String] { verdicts([sale], r.invoice("O1", net: 100_00, date: day), policy: policy) }
    #expect(dated(own + 19) == [])
    #expect(dated(own + 20) == ["CUTOFF:revenue"])
    #expect(dated(own - 8) == [])
    #expect(dated(own - 9) == ["CUTOFF:revenue"])
    // By calendar month the other way round.
    let months = testPolicy { ($0.lateAfter_d, $0.earlyBefore_d) = (60, 60) }
    #expect(verdicts([sale], r.invoice("O1", net: 100_00, date: own + 20), policy: months) == [])
    // No period holds the day: nothing can be said of it.
    #expect(dated(own + 300) == [])
  }

  /// Periods 13 to 16 of a ledger are of the last one of the year, unless the calendar has them as periods of their own.
  @Test func specialPeriodsBelongToTheEndOfTheYear() throws {
    let last = Int32(daysFromCivil(year: 2025, month: 12, day: 31))
    let now = Int64(last) * millisecondsPerDay + 9 * hour
    var sale = r.event("O1", at: now, net: 100_00, gross: 100_00)
    sale.documentDate_d = last
    func lines(_ period: Int32) -> [Posting] {
      r.invoice("O1", net: 100_00, at: now, date: last).map {
        var posting = $0
        posting.period = period
        return posting
      }
    }
    func entered(_ period: Int32, _ calendar: FiscalCalendar?) -> [String] {
      let policy = testPolicy {
        var checks = FinanceChecks()
        checks.calendar = calendar
        if calendar != nil { $0.checks = checks }
      }
      return verdicts([sale], lines(period), policy: policy)
    }
    for special in 202_513...202_516 as ClosedRange<Int32> { #expect(entered(special, nil) == []) }
    #expect(entered(202_512, nil) == [])
    #expect(entered(202_511, nil) == ["CUTOFF:revenue"])
    #expect(entered(202_517, nil) == ["CUTOFF:revenue"])
    #expect(entered(202_413, nil) == ["CUTOFF:revenue"])
    // A calendar of twelve, whose last one was closed: what comes then goes into a special one, which was not.
    func calendar(_ count: Int32, closed: Int64? = nil) throws -> FiscalCalendar {
      try FiscalCalendar(
        (1...count).map { number in
          let first = last - 28 * (count - number) - 27
          return .init(
            name: 202_500 + number, first_d: first, last_d: first + 27, closedAt_ms: number == count ? closed : nil)
        })
    }
    #expect(entered(202_513, try calendar(12)) == [])
    #expect(entered(202_513, try calendar(12, closed: now - 1)) == [])
    #expect(entered(202_512, try calendar(12, closed: now - 1)) == ["CLOSED_PERIOD:revenue"])
    // One of thirteen periods, which are no special ones.
    #expect(entered(202_513, try calendar(13)) == [])
    #expect(entered(202_512, try calendar(13)) == ["CUTOFF:revenue"])
    #expect(entered(202_514, try calendar(13)) == [])

    var matcher = PeriodTotalsTests.matcher(DisputeTests.policy())
    var outputs = MatchOutputs()
    matcher.take([.order(sale)] + lines(202_513).map { .posting($0) }, now_ms: now + hour, into: &outputs)
    matcher.finish(outputs: &outputs)
    #expect(
      PeriodTotalsTests().texts(matcher.periodTotals) == [
        "202512 receivable: 10000 10000 0 0 0", "202512 revenue: -10000 -10000 0 0 0",
      ])
  }

  @Test func whatIsEnteredIntoAClosedPeriodIsABreak() throws {
    let policy = try Self.calendarPolicy()
    // The first period was closed on 2026-03-03T00:00Z; both sides are of its last day.
    let last = Int32(daysFromCivil(year: 2026, month: 3, day: 1))
    func entered(_ time_ms: Int64, date: Int32 = absentDate, period: Int32 = 0) -> [String] {
      var sale = r.event("O1", at: t0 - 200 * hour, net: 100_00, gross: 100_00)
      sale.documentDate_d = last
      let lines = r.invoice("O1", net: 100_00, at: time_ms, date: date).map {
        var posting = $0
        posting.period = period
        return posting
      }
      return verdicts([sale], lines, policy: policy)
    }
    let closed: Int64 = 1_772_496_000_000
    #expect(entered(closed - 1, date: last) == [])
    #expect(entered(closed, date: last) == ["CLOSED_PERIOD:revenue"])
    #expect(entered(closed, period: 202_601) == ["CLOSED_PERIOD:revenue"])
    // Into the open one it is a cut-off.
    #expect(entered(closed, date: last + 1) == ["CUTOFF:revenue"])
  }

  @Test func calendarsAreChecked() {
    func fault(_ periods: [(Int32, Int32, Int32)]) -> String? {
      do {
        _ = try FiscalCalendar(periods.map { .init(name: $0.0, first_d: $0.1, last_d: $0.2) })
        return nil
      } catch { return error.message }
    }
    #expect(fault([(202_601, 0, 9), (202_602, 10, 19)]) == nil)
    #expect(fault([]) == "there is no period")
    #expect(fault([(202_601, 5, 4)]) == "period 2026-01 ends on 1970-01-05, before it begins on 1970-01-06")
    #expect(fault([(202_602, 9, 19), (202_601, 0, 9)]) == "periods 2026-01 and 2026-02 overlap")
    #expect(
      fault([(202_601, 0, 9), (202_602, 11, 19)]) == "no period holds 1970-01-11, between 2026-01 and 2026-02")
    #expect(
      fault([(202_602, 0, 9), (202_601, 10, 19)]) == "period 2026-01 comes after 2026-02, and its name does not")
    let calendar = try! FiscalCalendar([
      .init(name: 202_601, first_d: 0, last_d: 9), .init(name: 202_613, first_d: 10, last_d: 10, closedAt_ms: 5),
    ])
    #expect((-1...11).map { calendar.period(ofDay: $0) } == [0] + Array(repeating: 202_601, count: 10) + [202_613, 0])
    #expect(
      calendar.isClosed(202_613, at: 5) && !calendar.isClosed(202_613, at: 4) && !calendar.isClosed(202_601, at: 9))
    #expect(!calendar.isClosed(202_612, at: 9))
  }

  /// Types that were added later take no room in a state in which none of them has come up.
  @Test func countsOfLaterTypesAreWrittenWhereTheyAreWanted() throws {
    func bytes(_ counters: MatchCounters) -> [UInt8] {
      var writer = ByteWriter()
      counters.export(into: &writer)
      return writer.array
    }
    var counters = MatchCounters()
    let plain = bytes(counters)
    counters.open[BreakType.orphanReversal.index] = 1
    #expect(bytes(counters).count == plain.count)
    counters.open[BreakType.closedPeriod.index] = 3
    let written = bytes(counters)
    #expect(written.count > plain.count)
    try written.withUnsafeBytes { raw in
      var reader = ByteReader(raw)
      let restored = try MatchCounters(from: &reader)
      #expect(restored == counters)
    }
  }
}
