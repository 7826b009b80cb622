import Domain
import Testing

@testable import Matching

/// What is said of whole documents that one side has and the other does not, beside what else is wrong with an order.
@Suite struct DocumentTests {
  let r = Records()

  func invoiced(_ document: String, _ net: Int64, tax: Int64 = 0) -> OrderEvent {
    // By the number, so that they are in order.
    r.event("O1", at: t0 + Int64(document.utf8.last!), document: document, net: net, tax: tax, gross: net + tax)
  }

  func shipped(_ document: String, cost: Int64) -> OrderEvent {
    var event = r.event("O1", .shipped, document: document)
    event.amounts[.cost] = cost
    return event
  }

  func lines(_ document: String, _ amounts: [(AccountRole, Int64)]) -> [Posting] {
    amounts.enumerated().map {
      r.posting("O1", $1.0, $1.1, journal: "J-\(document)", line: $0 + 1, document: document)
    }
  }

  func invoice(_ document: String, _ net: Int64, tax: Int64 = 0) -> [Posting] {
    lines(document, [(.receivable, net + tax), (.revenue, -net), (.tax, -tax)].filter { $0.1 != 0 })
  }

  func goodsIssue(_ document: String, cost: Int64) -> [Posting] {
    lines(document, [(.cogs, cost), (.inventory, -cost)])
  }

  /// `TYPE:role expected posted affected` of the breaks that are open when all is closed.
  func told(_ events: [OrderEvent], _ postings: [Posting], _ policy: MatchingPolicy = testPolicy()) -> [String] {
    open(events, postings, policy).map {
      "\($0.type.rawValue):\($0.role.name) \($0.expected ?? 0) \($0.posted ?? 0) \($0.affected ?? 0)"
    }
  }

  func open(_ events: [OrderEvent], _ postings: [Posting], _ policy: MatchingPolicy = testPolicy()) -> [Break] {
    finalBreaks(events.map { .order($0) } + postings.map { .posting($0) }, policy: policy).values
      .filter(\.state.isOpen).sorted { $0.id < $1.id }
  }

  // MARK: - Missing in the ledger

  @Test func whatIsMissingGivesTheRoleAndTheSize() {
    let sale = invoiced("I1", 100_000_00, tax: 19_000_00)
    let posted = invoice("I1", 100_000_00, tax: 19_000_00)
    #expect(told([sale, shipped("D1", cost: 60_000_00)], posted) == ["MISSING_IN_LEDGER:cogs 6000000 0 -6000000"])
    let credit = r.event("O1", .credited, document: "G1", net: 100_00, tax: 19_00, gross: 119_00)
    #expect(told([sale, credit], posted) == ["MISSING_IN_LEDGER:receivable 11888100 11900000 11900"])
    // The receivable is settled but for what is written off.
    let paid = r.event("O1", .paid, document: "P1", applied: 118_000_00)
    let writtenOff = r.event("O1", .writtenOff, document: "W1", applied: 1_000_00)
    let payment = lines("P1", [(.cash, 118_000_00), (.receivable, -118_000_00)])
    let breaks = open([sale, paid, writtenOff], posted + payment)
    #expect(breaks.map(\.id) == ["O1:MISSING_IN_LEDGER:receivable"])
    #expect(breaks.first?.delta == 1_000_00 && breaks.first?.affected == 1_000_00)
    #expect(breaks.first?.severity == .medium && breaks.first?.reason == "nothing is posted for W1")
  }

  /// The goods issue has a number of its own in the ledger.
  @Test func anotherNumberIsNoMissingDocument() {
    let issue = goodsIssue("LS-1315", cost: 60_00)
    let events = [invoiced("I1", 100_00), shipped("LS-1314", cost: 60_00)]
    #expect(told(events, invoice("I1", 100_00) + issue) == [])
    #expect(told(events, issue) == ["MISSING_IN_LEDGER:receivable 10000 0 -10000"])
    // Posted under another number, and wrong: that is no missing document, nor an unknown one.
    #expect(told([invoiced("I1", 100_00)], invoice("I-1", 90_00)) == ["AMOUNT_MISMATCH:revenue -10000 -9000 1000"])
    // One of two alike has another number: it may be either that is missing.
    let breaks = open([invoiced("I1", 100_00), invoiced("I2", 100_00)], invoice("X", 100_00))
    #expect(breaks.map(\.reason) == ["nothing is posted for I2 or I1"])
  }

  @Test func aMissingDocumentBesideAWrongOne() {
    let events = [invoiced("I1", 100_00, tax: 19_00), invoiced("I2", 300_00, tax: 57_00)]
    let wrong = lines("I1", [(.receivable, 129_00), (.revenue, -110_00), (.tax, -19_00)])
    // Each tells its own part; together they are the order's.
    #expect(
      told(events, wrong) == [
        "AMOUNT_MISMATCH:revenue -10000 -11000 -1000", "MISSING_IN_LEDGER:receivable 35700 0 -35700",
      ])
    // A posting without a number may be what the second one is: nothing is missing then.
    let other = lines("", [(.receivable, 200_00), (.revenue, -150_00), (.tax, -50_00)])
    #expect(!told(events, wrong + other).contains { $0.hasPrefix("MISSING_IN_LEDGER") })
    // In the other roles nothing is touched.
    let shipment = shipped("D1", cost: 60_00)
    #expect(
      told([events[0], events[1], shipment], wrong + goodsIssue("D1", cost: 50_00)) == [
        "AMOUNT_MISMATCH:cogs 6000 5000 -1000", "AMOUNT_MISMATCH:revenue -10000 -11000 -1000",
        "MISSING_IN_LEDGER:receivable 35700 0 -35700",
      ])
  }

  /// Documents with a role in common are one break, others two.
  @Test func severalMissingDocuments() {
    let paid = r.event("O1", .depositReceived, document: "Z1")
    var deposit = paid
    deposit.amounts[.deposit] = 20_00
    let there = lines("Z1", [(.cash, 20_00), (.deposit, -20_00)])
    let events = [deposit, invoiced("I1", 100_00), invoiced("I2", 50_00), shipped("D1", cost: 60_00)]
    let breaks = open(events, there)
    #expect(breaks.map(\.id) == ["O1:MISSING_IN_LEDGER:cogs", "O1:MISSING_IN_LEDGER:receivable"])
    #expect(breaks.map(\.delta) == [-60_00, -150_00])
    #expect(breaks.map(\.reason) == ["nothing is posted for D1", "nothing is posted for I1, I2"])
    // An invoice and its payment move the receivable to and fro: the cash tells the size.
    let payment = r.event("O1", .paid, document: "P1", applied: 100_00)
    #expect(told([deposit, invoiced("I1", 100_00), payment], there) == ["MISSING_IN_LEDGER:cash 12000 2000 -10000"])
  }

  // MARK: - Unknown to the order

  @Test func aForeignDocumentIsNamed() {
    let own = invoiced("I5", 250_00, tax: 47_50)
    let foreign = invoice("I4", 100_00, tax: 19_00)
    let breaks = open([own], invoice("I5", 250_00, tax: 47_50) + foreign)
    #expect(breaks.map(\.id) == ["O1:UNKNOWN_REFERENCE:receivable"])
    #expect(breaks.first?.delta == 119_00 && breaks.first?.affected == 119_00)
    #expect(breaks.first?.reason == "I4 (J-I4): posted, and no order event names it")
    // Beside an own one that is wrong.
    let wrong = lines("I5", [(.receivable, 307_50), (.revenue, -260_00), (.tax, -47_50)])
    #expect(
      told([own], wrong + foreign) == [
        "AMOUNT_MISMATCH:revenue -25000 -36000 -1000", "UNKNOWN_REFERENCE:receivable 0 11900 11900",
      ])
    // Cash application has its own name for a payment.
    let policy = testPolicy {
      var checks = FinanceChecks()
      checks.appliesCash = true
      $0.checks = checks
    }
    let payment = lines("P9", [(.cash, 50_00), (.receivable, -50_00)])
    #expect(
      told([invoiced("I1", 100_00)], invoice("I1", 100_00) + payment) == [
        "UNKNOWN_REFERENCE:receivable 10000 5000 -5000"
      ])
    #expect(
      told([invoiced("I1", 100_00)], invoice("I1", 100_00) + payment, policy) == ["UNKNOWN_REFERENCE:cash 0 5000 5000"])
    // Twice the same under two numbers is a duplicate still.
    #expect(told([own], invoice("I5", 250_00, tax: 47_50) + invoice("I5-X", 250_00, tax: 47_50)).count == 1)
    #expect(
      told([own], invoice("I5", 250_00, tax: 47_50) + invoice("I5-X", 250_00, tax: 47_50))[0].hasPrefix(
        "DUPLICATE_POSTING"))
  }

  // MARK: - One in the place of another

  func credited(_ document: String, _ net: Int64) -> OrderEvent {
    r.event(
      "O1", .credited, at: t0 + Int64(document.utf8.last!), document: document, net: net, tax: net / 10,
      gross: net + net / 10)
  }

  func credit(_ document: String, _ net: Int64, journal: String) -> [Posting] {
    [(AccountRole.receivable, -net - net / 10), (.returns, net), (.tax, net / 10)].map {
      r.posting("O1", $0.0, $0.1, journal: journal, document: document)
    }
  }

  /// One credit note is posted twice, and another of the same amounts never: the sums agree, and the ledger is wrong.
  @Test func aDocumentThatIsPostedInPlaceOfAnother() {
    let events = [invoiced("I1", 500_00, tax: 50_00), credited("C1", 20_00), credited("C2", 20_00)]
    let sale = invoice("I1", 500_00, tax: 50_00)
    let twice = credit("C1", 20_00, journal: "J1") + credit("C1", 20_00, journal: "J2")
    let expected = ["DUPLICATE_POSTING:receivable -2200 -4400 -2200", "MISSING_IN_LEDGER:receivable -2200 0 2200"]
    #expect(told(events, sale + twice) == expected)
    #expect(
      open(events, sale + twice).map(\.reason) == ["C1 posted by J1 and again by J2", "nothing is posted for C2"])
    // However they come, and beside a difference within tolerance.
    let mixed = [Input.posting(twice[0]), .order(events[2])] + (sale + twice.dropFirst()).map { .posting($0) }
    #expect(
      finalBreaks(mixed + [.order(events[1]), .order(events[0])]).keys.sorted() == [
        "O1:DUPLICATE_POSTING:receivable", "O1:MISSING_IN_LEDGER:receivable",
      ])
    let tolerant = testPolicy { for at in $0.tolerances.indices { $0.tolerances[at] = Tolerance(absolute_u: 10_000) } }
    let almost = lines("I1", [(.receivable, 550_01), (.revenue, -500_01), (.tax, -50_00)])
    #expect(told(events, almost + twice, tolerant) == expected)
    // A copy too much beside that is a copy, and what is small enough is no matter.
    #expect(
      told(events, sale + twice + credit("C1", 20_00, journal: "J3")).map { String($0.prefix(17)) } == [
        "DUPLICATE_POSTING"
      ])
    let generous = testPolicy {
      for at in $0.tolerances.indices { $0.tolerances[at] = Tolerance(absolute_u: 30_000_000) }
    }
    #expect(told(events, sale + twice, generous) == [])
    // Each is posted, under whatever number; in one journal for both; and one of them in two parts.
    for right in [
      credit("C1", 20_00, journal: "J1") + credit("C2", 20_00, journal: "J2"),
      credit("C1", 20_00, journal: "J1") + credit("X", 20_00, journal: "J2"),
      credit("X", 20_00, journal: "J1") + credit("X", 20_00, journal: "J2"),
      credit("I1", 20_00, journal: "J1") + credit("I1", 20_00, journal: "J2"),
      credit("", 20_00, journal: "J1") + credit("C1", 20_00, journal: "J2"),
      credit("C1", 40_00, journal: "J1"), credit("C1", 10_00, journal: "J1") + credit("C1", 30_00, journal: "J2"),
    ] { #expect(told(events, sale + right) == []) }
  }

  /// Each of them is named where there are two such pairs.
  @Test func twoDocumentsThatArePostedInPlaceOfOthers() {
    let events = [credited("C1", 20_00), credited("C2", 20_00), credited("C3", 30_00), credited("C4", 30_00)]
    let postings =
      credit("C1", 20_00, journal: "J1") + credit("C1", 20_00, journal: "J2") + credit("C3", 30_00, journal: "J3")
      + credit("C3", 30_00, journal: "J4")
    #expect(
      told(events, postings) == [
        "DUPLICATE_POSTING:receivable -5500 -11000 -5500", "MISSING_IN_LEDGER:receivable -5500 0 5500",
      ])
    #expect(
      open(events, postings).map(\.reason) == [
        "C1 posted by J1 and again by J2; C3 posted by J3 and again by J4",
        "nothing is posted for C2; nothing is posted for C4",
      ])
  }

  /// What is not due yet is not missing, and what is put right is right.
  @Test func aDocumentInPlaceOfAnotherIsToldWhenItIsDue() {
    var matcher = Matcher(policy: testPolicy(), dimensionCount: 0)
    var outputs = MatchOutputs()
    func open() -> [String] {
      var last: [String: Break] = [:]
      for made in outputs.breaks { last[made.id] = made }
      return last.values.filter(\.state.isOpen).map { "\($0.id)\($0.isProvisional ? " for now" : "")" }.sorted()
    }
    let events = [credited("C1", 20_00), credited("C2", 20_00)]
    let twice = credit("C1", 20_00, journal: "J1") + credit("C1", 20_00, journal: "J2")
    matcher.take(events.map { .order($0) } + twice.map { .posting($0) }, into: &outputs)
    for (hours, expected) in [
      (2, []), (30, ["O1:DUPLICATE_POSTING:receivable", "O1:MISSING_IN_LEDGER:receivable"]),
    ] as [(Int64, [String])] {
      matcher.watermarks.force(t0 + hours * hour)
      matcher.advance(now_ms: t0 + 1_000 * hour, outputs: &outputs)
      #expect(open() == expected, "\(hours)")
    }
    let put = twice.suffix(3).map { posting in
      var posting = posting
      posting.amount = -posting.amount
      (posting.journal, posting.reverses) = (r.view("J3"), r.view("J2"))
      posting.id = r.view("J3-\(posting.role.name)")
      return posting
    }
    matcher.take((put + credit("C2", 20_00, journal: "J4")).map { .posting($0) }, into: &outputs)
    matcher.finish(outputs: &outputs)
    #expect(open() == [])
  }

  // MARK: - In another currency

  /// A document that is posted in another currency than billed is one break, whatever else the order is about.
  @Test func aDocumentInAnotherCurrencyIsOneBreak() {
    func told(_ events: [OrderEvent], _ postings: [Posting]) -> [String] {
      open(events, postings).map {
        "\($0.id) \($0.expected ?? 0) \($0.currency.code) \($0.posted ?? 0) \($0.postedCurrency.code)"
      }
    }
    func in_(_ currency: String, _ event: OrderEvent) -> OrderEvent {
      var event = event
      event.currency = Currency(currency)!
      return event
    }
    func in_(_ currency: String, _ postings: [Posting]) -> [Posting] {
      postings.map {
        var posting = $0
        posting.currency = Currency(currency)!
        return posting
      }
    }
    let dollars = invoiced("I1", 100_00, tax: 19_00)
    let euros = in_("EUR", invoiced("I2", 300_00, tax: 57_00))
    let mismatch = "O1:CURRENCY_MISMATCH:receivable:EUR 35700 EUR 35700 USD"
    let posted = invoice("I1", 100_00, tax: 19_00)
    // The other document is right.
    let breaks = open([dollars, euros], posted + invoice("I2", 300_00, tax: 57_00))
    #expect(told([dollars, euros], posted + invoice("I2", 300_00, tax: 57_00)) == [mismatch])
    #expect(breaks.first?.reason == "I2 (J-I2): expected in EUR, posted in USD")
    // Or wrong, missing, in the wrong currency too, or posted twice, as is this one.
    let wrong = lines("I1", [(.receivable, 129_00), (.revenue, -110_00), (.tax, -19_00)])
    #expect(
      told([dollars, euros], wrong + invoice("I2", 300_00, tax: 57_00)) == [
        "O1:AMOUNT_MISMATCH:revenue -10000 USD -41000 ", mismatch,
      ])
    #expect(
      told([dollars, euros], invoice("I2", 300_00, tax: 57_00)) == [
        mismatch, "O1:MISSING_IN_LEDGER:receivable 11900 USD 0 ",
      ])
    #expect(
      told([dollars, euros], in_("EUR", posted) + invoice("I2", 300_00, tax: 57_00)) == [
        "O1:CURRENCY_MISMATCH:receivable 11900 USD 11900 EUR", mismatch,
      ])
    let again = [(AccountRole.receivable, Int64(357_00)), (.revenue, -300_00), (.tax, -57_00)].map {
      r.posting("O1", $0.0, $0.1, journal: "J-again", document: "I2")
    }
    #expect(
      told([dollars, euros], posted + invoice("I2", 300_00, tax: 57_00) + again).map { $0.prefix(27) } == [
        "O1:CURRENCY_MISMATCH:receiv", "O1:DUPLICATE_POSTING:receiv",
      ])
    // Billed in one currency: the break is about the document and not about the order.
    let second = invoiced("I2", 300_00, tax: 57_00)
    #expect(
      told([dollars, second], posted + in_("EUR", invoice("I2", 300_00, tax: 57_00))) == [
        "O1:CURRENCY_MISMATCH:receivable 35700 USD 35700 EUR"
      ])
    // An invoice and its payment, both of them.
    let payment = r.event("O1", .paid, document: "P1", applied: 119_00)
    let paid = in_("EUR", posted + lines("P1", [(.cash, 119_00), (.receivable, -119_00)]))
    #expect(told([dollars, payment], paid) == ["O1:CURRENCY_MISMATCH:cash 11900 USD 11900 EUR"])
  }

  // MARK: - Dates

  func dated(_ postings: [Posting], _ day: Int32) -> [Posting] {
    postings.map {
      var posting = $0
      posting.postingDate_d = day
      return posting
    }
  }

  @Test func aCutoffIsAsLargeAsItsDocument() {
    let next = Int32(daysFromCivil(year: 2026, month: 4, day: 1))
    let events = [invoiced("I1", 200_000_00), invoiced("I2", 10_00)]
    let breaks = open(events, invoice("I1", 200_000_00) + dated(invoice("I2", 10_00), next))
    #expect(breaks.map(\.id) == ["O1:CUTOFF:revenue"])
    #expect(breaks.first?.affected == -10_00 && breaks.first?.severity == .low)
    #expect(breaks.first?.posted == -200_010_00 && breaks.first?.delta == 0)
    #expect(breaks.first?.reason == "I2 (J-I2): posted in 202604 on 2026-04-01")
    // Its severity is that of the role of which most stands in the other period.
    let mixed = open(
      events + [shipped("D1", cost: 50_000_00)],
      invoice("I1", 200_000_00) + dated(invoice("I2", 10_00) + goodsIssue("D1", cost: 50_000_00), next))
    #expect(mixed.map(\.affected) == [-10_00] && mixed.first?.severity == .high)
    // Another document that is missing hides it no longer.
    #expect(
      told([invoiced("I1", 100_00), invoiced("I2", 50_00)], dated(invoice("I1", 100_00), next)) == [
        "CUTOFF:revenue -15000 -10000 -10000", "MISSING_IN_LEDGER:receivable 15000 10000 -5000",
      ])
    // A payment that settles the receivable is one of cash.
    let payment = lines("P1", [(.cash, 100_00), (.receivable, -100_00)])
    #expect(
      told(
        [invoiced("I1", 100_00), r.event("O1", .paid, document: "P1", applied: 100_00)],
        invoice("I1", 100_00) + dated(payment, next)) == ["CUTOFF:cash 10000 10000 10000"])
    // One whose amount is wrong is none.
    #expect(
      told([invoiced("I1", 100_00), invoiced("I2", 50_00)], dated(invoice("I1", 90_00), next) + invoice("I2", 50_00))
        == [
          "AMOUNT_MISMATCH:revenue -15000 -14000 1000"
        ])
    let late = open(events, invoice("I1", 200_000_00) + dated(invoice("I2", 10_00), next - 2))
    #expect(late.map(\.id) == ["O1:LATE_POSTING:revenue"])
    #expect(late.first?.affected == -10_00 && late.first?.severity == .low)
  }

  @Test func aClosedPeriodTakesWhatWasEnteredIntoIt() throws {
    let march = Int32(daysFromCivil(year: 2026, month: 3, day: 1))
    let calendar = try FiscalCalendar([
      .init(name: 202_603, first_d: march, last_d: march + 30, closedAt_ms: t0 + hour),
      .init(name: 202_604, first_d: march + 31, last_d: march + 60),
    ])
    let policy = testPolicy {
      $0.checks = FinanceChecks()
      $0.checks!.calendar = calendar
    }
    var late = invoice("I2", 10_00)
    for at in late.indices { late[at].time_ms = t0 + 2 * hour }
    let breaks = open([invoiced("I1", 200_000_00), invoiced("I2", 10_00)], invoice("I1", 200_000_00) + late, policy)
    #expect(breaks.map(\.id) == ["O1:CLOSED_PERIOD:revenue"])
    #expect(breaks.first?.affected == -10_00 && breaks.first?.severity == .low)
    #expect(breaks.first?.reason.hasPrefix("I2 (J-I2): entered on ") == true)
  }

  // MARK: - Intercompany

  /// The partner's entry would have moved the cost: both are one break.
  @Test func theCounterEntryOfAMissingMirrorGoesWithIt() {
    let policy = testPolicy {
      $0.checks = FinanceChecks()
      $0.checks!.mirrorsIntercompany = true
    }
    let events = [invoiced("I1", 100_00), shipped("D1", cost: 30_00), shipped("D2", cost: 5_00)]
    let postings =
      invoice("I1", 100_00) + goodsIssue("D1", cost: 30_00)
      + lines("D2", [(.intercompany, 5_00), (.inventory, -5_00)])
    #expect(told(events, postings, policy) == ["INTERCOMPANY_UNMATCHED:intercompany 0 500 500"])
    let mirror = [(AccountRole.cogs, Int64(5_00)), (.intercompany, -5_00)].map {
      r.posting("O1", $0.0, $0.1, journal: "J-M", document: "D2")
    }
    #expect(told(events, postings + mirror, policy) == [])
    // Another amount of the same role is another matter.
    let wrong =
      invoice("I1", 100_00) + goodsIssue("D1", cost: 28_00)
      + lines("D2", [(.intercompany, 5_00), (.inventory, -5_00)])
    #expect(open(events, wrong, policy).contains { $0.type != .intercompanyUnmatched })
  }
}
