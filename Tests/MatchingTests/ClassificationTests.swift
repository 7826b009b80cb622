import Domain
import Testing

@testable import Matching

func expectControlTotals(_ totals: ControlTotals, sourceLocation: SourceLocation = #_sourceLocation) {
  for line in totals.lines {
    #expect(
      line.pending == 0, "\(line.currency) \(line.role): \(line)", sourceLocation: sourceLocation)
  }
}

extension Records {
  func sale(_ document: String = "INV1") -> OrderEvent {
    event("O1", document: document, net: 100_00, tax: 19_00, freight: 5_00, gross: 124_00, lines: 2)
  }
}

/// The break taxonomy: one cause, one break, of the most specific type.
@Suite struct ClassificationTests {
  let r = Records()

  func sale(_ document: String = "INV1") -> OrderEvent { r.sale(document) }

  @Test func tiesOut() {
    #expect(verdicts([sale()], r.invoice("O1", net: 100_00, tax: 19_00, freight: 5_00, document: "INV1")) == [])
  }

  @Test func missingInLedger() {
    let breaks = finalBreaks([.order(sale())])
    let only = breaks["O1:MISSING_IN_LEDGER:receivable"]
    #expect(breaks.count == 1)
    #expect(only?.expected == 124_00)
    #expect(only?.posted == nil)
    #expect(only?.state == .open)
    #expect(only?.isProvisional == false)
    #expect(only?.events == ["ev-O1-invoiced-INV1-\(t0)"])
    #expect(only?.customer == "C1")
  }

  @Test func missingOrder() {
    let breaks = finalBreaks(r.invoice("O1", net: 100_00).map { .posting($0) })
    #expect(breaks.keys.sorted() == ["O1:MISSING_ORDER:receivable"])
    #expect(breaks.values.first?.expected == nil)
    #expect(breaks.values.first?.posted == 100_00)
  }

  @Test func wrongNetIsRevenues() {
    #expect(
      verdicts([sale()], r.invoice("O1", net: 90_00, tax: 19_00, freight: 5_00)) == ["AMOUNT_MISMATCH:revenue"])
  }

  @Test func componentTypes() {
    #expect(verdicts([sale()], r.invoice("O1", net: 100_00, tax: 17_00, freight: 5_00)) == ["TAX_MISMATCH:tax"])
    #expect(verdicts([sale()], r.invoice("O1", net: 100_00, tax: 19_00)) == ["FREIGHT_MISMATCH:freight"])
  }

  @Test func discountMismatch() {
    var event = sale()
    event.amounts[.discount] = 10_00
    event.amounts[.gross] = 114_00
    #expect(
      verdicts([event], r.invoice("O1", net: 100_00, tax: 19_00, freight: 5_00)) == ["DISCOUNT_MISMATCH:discount"])
  }

  @Test func patterns() {
    #expect(
      verdicts([sale()], r.invoice("O1", net: -100_00, tax: -19_00, freight: -5_00))
        == ["AMOUNT_MISMATCH:receivable+SIGN_FLIP"])
    #expect(
      verdicts([sale()], r.invoice("O1", net: 10_000_00, tax: 1_900_00, freight: 500_00))
        == ["AMOUNT_MISMATCH:receivable+SCALE_ERROR"])
    #expect(
      verdicts([sale()], r.invoice("O1", net: 1_00, tax: 19, freight: 5)) == ["AMOUNT_MISMATCH:receivable+SCALE_ERROR"])
    let sale = r.event("O1", net: 718_08, tax: 19_00, gross: 737_08)
    #expect(verdicts([sale], r.invoice("O1", net: 178_08, tax: 19_00)) == ["AMOUNT_MISMATCH:revenue+TRANSPOSITION"])
  }

  @Test func grossPostedAsNet() {
    let sale = r.event("O1", net: 100_00, tax: 19_00, gross: 119_00)
    let lines = [
      r.posting("O1", .receivable, 138_00), r.posting("O1", .revenue, -119_00), r.posting("O1", .tax, -19_00),
    ]
    #expect(verdicts([sale], lines) == ["AMOUNT_MISMATCH:revenue+GROSS_NET_CONFUSION"])
  }

  @Test func rounding() {
    let lines =
      r.invoice("O1", net: 100_00, tax: 19_00, freight: 5_00).map { posting in
        var posting = posting
        if posting.role == .receivable { posting.amount += 1 }
        return posting
      } + [r.posting("O1", .rounding, -1)]
    #expect(verdicts([sale()], lines) == ["(ROUNDING:receivable)"])
    // One line allows half a minor unit, which is none; a tolerance of one minor unit does.
    var single = sale()
    single.lineCount = 1
    #expect(verdicts([single], lines) == ["AMOUNT_MISMATCH:rounding"])
    let tolerant = testPolicy { $0.tolerances = Array(repeating: Tolerance(absolute_u: 10_000), count: 18) }
    #expect(verdicts([single], lines, policy: tolerant) == ["(ROUNDING:receivable)"])
  }

  @Test func toleranceIsInclusiveAndPerRole() {
    let policy = testPolicy {
      $0.tolerances[Int(AccountRole.tax.rawValue)] = Tolerance(absolute_u: 2_000_000)
      $0.tolerances[Int(AccountRole.receivable.rawValue)] = Tolerance(absolute_u: 2_000_000)
    }
    #expect(
      verdicts([sale()], r.invoice("O1", net: 100_00, tax: 21_00, freight: 5_00), policy: policy)
        == ["(AMOUNT_MISMATCH:receivable)"])
    #expect(
      verdicts([sale()], r.invoice("O1", net: 100_00, tax: 21_01, freight: 5_00), policy: policy)
        == ["TAX_MISMATCH:tax"])
  }

  @Test func toleranceArithmetic() {
    var tolerance = Tolerance()
    tolerance.under_u = 1_000_000
    tolerance.over_u = 3_000_000
    #expect(tolerance.accepts(expected: 100_00, delta: 3_00, exponent: 2))
    #expect(!tolerance.accepts(expected: 100_00, delta: 3_01, exponent: 2))
    #expect(tolerance.accepts(expected: 100_00, delta: -1_00, exponent: 2))
    #expect(!tolerance.accepts(expected: 100_00, delta: -1_01, exponent: 2))
    // For a credit role, over means more credit.
    #expect(tolerance.accepts(expected: -100_00, delta: -3_00, exponent: 2))
    #expect(!tolerance.accepts(expected: -100_00, delta: 3_00, exponent: 2))
    tolerance.percent_u = 5_000_000
    #expect(tolerance.accepts(expected: 100_00, delta: 5_00, exponent: 2))
    tolerance.combination = .min
    #expect(!tolerance.accepts(expected: 100_00, delta: 5_00, exponent: 2))
    #expect(tolerance.accepts(expected: 3, delta: 3, exponent: 0) == false)
    #expect(Tolerance(absolute_u: 3_000_000).accepts(expected: 3, delta: 3, exponent: 0))
  }

  @Test func duplicatePosting() {
    let once = r.invoice("O1", net: 100_00, tax: 19_00, freight: 5_00, journal: "JE1", document: "INV1")
    let again = r.invoice("O1", net: 100_00, tax: 19_00, freight: 5_00, journal: "JE2", document: "INV1")
    let breaks = finalBreaks([.order(sale())] + (once + again).map { .posting($0) })
    #expect(breaks.keys.sorted() == ["O1:DUPLICATE_POSTING:receivable"])
    #expect(breaks.values.first?.expected == 124_00)
    #expect(breaks.values.first?.posted == 248_00)
    #expect(breaks.values.first?.journals == ["JE1", "JE2"])
    // The same line delivered again is no second posting.
    #expect(verdicts([sale()], once + once) == [])
    // A copy that is reversed leaves nothing to say.
    let reversal = again.map { posting in
      var posting = posting
      posting.id = r.view("JE3-\(posting.role.rawValue)")
      posting.journal = r.view("JE3")
      posting.amount = -posting.amount
      posting.reverses = r.view("JE2")
      return posting
    }
    #expect(verdicts([sale()], once + again + reversal) == [])
  }

  @Test func duplicateAndAnotherFault() {
    let once = r.invoice("O1", net: 90_00, tax: 19_00, freight: 5_00, journal: "JE1", document: "INV1")
    let again = r.invoice("O1", net: 90_00, tax: 19_00, freight: 5_00, journal: "JE2", document: "INV1")
    #expect(verdicts([sale()], once + again) == ["AMOUNT_MISMATCH:revenue", "DUPLICATE_POSTING:receivable"])
  }

  @Test func currencyMismatch() {
    let breaks = finalBreaks(
      [.order(sale())]
        + r.invoice("O1", net: 100_00, tax: 19_00, freight: 5_00, currency: "EUR").map { .posting($0) })
    #expect(breaks.keys.sorted() == ["O1:CURRENCY_MISMATCH:receivable"])
    #expect(breaks.values.first?.expected == 124_00)
    #expect(breaks.values.first?.posted == 124_00)
    #expect(breaks.values.first?.currency == Currency("USD"))
    #expect(breaks.values.first?.postedCurrency == Currency("EUR"))
  }

  @Test func wrongRole() {
    let lines = [
      r.posting("O1", .receivable, 124_00), r.posting("O1", .revenue, -119_00), r.posting("O1", .freight, -5_00),
    ]
    let breaks = finalBreaks([.order(sale())] + lines.map { .posting($0) })
    #expect(breaks.keys.sorted() == ["O1:WRONG_ACCOUNT_ROLE:tax"])
    #expect(breaks.values.first?.expected == -19_00)
    #expect(breaks.values.first?.posted == 0)
  }

  /// On whatever role it stands, on the other side of the books too: one cause, one break.
  @Test func anAmountOnAnyOtherRoleIsOneBreak() {
    let lines = r.invoice("O1", net: 100_00, tax: 19_00, freight: 5_00)
    for (at, line) in lines.enumerated() {
      for role in AccountRole.allCases where role != line.role {
        var moved = lines
        moved[at] = r.posting("O1", role, line.amount, line: 9)
        let found = verdicts([sale()], moved)
        // What stands on the receivable is the counter-entry of what is missing.
        if role == .receivable {
          #expect(found.count == 1 && found[0].contains("MISMATCH:\(line.role.name)"))
        } else {
          #expect(
            found.map { String($0.prefix { $0 != "+" }) } == ["WRONG_ACCOUNT_ROLE:\(line.role.name)"],
            "\(line.role.name) on \(role.name): \(found)")
        }
      }
    }
  }

  @Test func aCreditNoteThatIsPostedToRevenue() {
    let credit = r.event("O1", .credited, at: t0 + hour, document: "C1", net: 40_00, gross: 40_00)
    func lines(_ role: AccountRole, _ amounts: [Int64]) -> [Posting] {
      [r.posting("O1", .receivable, -40_00, journal: "JE2", at: t0 + 2 * hour, document: "C1")]
        + amounts.enumerated().map {
          r.posting("O1", role, $1, journal: "JE2", line: 50 + $0, at: t0 + 2 * hour, document: "C1")
        }
    }
    let invoice = r.invoice("O1", net: 100_00, tax: 19_00, freight: 5_00, document: "INV1")
    #expect(verdicts([sale(), credit], invoice + lines(.returns, [40_00])) == [])
    #expect(verdicts([sale(), credit], invoice + lines(.revenue, [40_00])) == ["WRONG_ACCOUNT_ROLE:returns"])
    #expect(verdicts([sale(), credit], invoice + lines(.revenue, [30_00, 10_00])) == ["WRONG_ACCOUNT_ROLE:returns"])
  }

  @Test func unbalancedDocument() {
    var lines = r.invoice("O1", net: 100_00, tax: 19_00, freight: 5_00)
    lines[0].amount += 10_00
    #expect(verdicts([sale()], lines) == ["UNBALANCED_DOCUMENT:receivable"])
  }

  @Test func aDocumentWhoseOtherLinesAreMissing() throws {
    let lines = r.invoice("O1", net: 100_00, tax: 19_00, freight: 5_00)
    func found(_ roles: [AccountRole]) -> [String: Break] {
      finalBreaks([.order(sale())] + lines.filter { roles.contains($0.role) }.map { .posting($0) })
    }
    let alone = found([.receivable])
    #expect(alone.keys.sorted() == ["O1:UNBALANCED_DOCUMENT:revenue"])
    let made = try #require(alone.values.first)
    #expect(made.expected == -100_00 && made.posted == 0 && made.affected == 100_00)
    #expect(made.reason == "the lines of JE1 sum to 124.00")
    #expect(found([.receivable, .tax]).keys.sorted() == ["O1:UNBALANCED_DOCUMENT:revenue"])
    #expect(found([.receivable, .revenue]).keys.sorted() == ["O1:UNBALANCED_DOCUMENT:tax"])
  }

  /// Whatever is wrong with the lines of one document: an amount that is right has no break.
  @Test func noBreakIsAboutNothing() {
    let lines = r.invoice("O1", net: 100_00, tax: 19_00, freight: 5_00)
    let changes: [(Int64) -> Int64] = [{ $0 }, { _ in 0 }, { $0 + 7_00 }, { -$0 }, { 2 * $0 }]
    var count = 0
    for number in 0..<625 {
      var rest = number
      var postings: [Posting] = []
      for var line in lines {
        line.amount = changes[rest % 5](line.amount)
        rest /= 5
        if line.amount != 0 { postings.append(line) }
      }
      for made in finalBreaks([.order(sale())] + postings.map { .posting($0) }).values {
        #expect(made.expected != made.posted, "\(number): \(made.id), \(made.reason)")
        count += 1
      }
    }
    #expect(count > 600)
  }

  @Test func wrongCustomer() {
    #expect(
      verdicts([sale()], r.invoice("O1", net: 100_00, tax: 19_00, freight: 5_00, customer: "ZZ"))
        == ["WRONG_CUSTOMER:receivable"])
  }

  /// Of an order that goes on, whatever its cancelled documents are told in, and whichever of them are reversed.
  @Test func cancelledDocumentsThatStandAreOneBreak() {
    func sale(_ document: String, _ net: Int64, at hours: Int64 = 0) -> OrderEvent {
      r.event("O1", at: t0 + hours * hour, document: document, net: net, tax: net / 5, gross: net + net / 5)
    }
    func cancelled(_ document: String) -> OrderEvent {
      r.event("O1", .invoiceCancelled, at: t0 + 5 * hour, document: document)
    }
    func billed(_ document: String, _ net: Int64, _ journal: String) -> [Posting] {
      r.invoice("O1", net: net, tax: net / 5, journal: journal, document: document)
    }
    func found(_ events: [OrderEvent], _ lines: [Posting], _ policy: MatchingPolicy = testPolicy()) -> [String] {
      finalBreaks(events.map { .order($0) } + lines.map { .posting($0) }, policy: policy).values.map {
        "\($0.type.rawValue):\($0.role.name) \($0.expected ?? 0) \($0.posted ?? 0)"
      }.sorted()
    }
    let two = [sale("D1", 100_00), sale("D2", 50_00, at: 1), cancelled("D1"), cancelled("D2")]
    let both = billed("D1", 100_00, "J1") + billed("D2", 50_00, "J2")
    #expect(found(two, both) == ["UNREVERSED_CANCEL:receivable 0 18000"])
    // Beside one that stands.
    let third = [sale("D3", 70_00, at: 6)]
    #expect(found(two + third, both + billed("D3", 70_00, "J3")) == ["UNREVERSED_CANCEL:receivable 8400 26400"])
    // One of two is reversed.
    #expect(found(two, both + billed("D1", -100_00, "J4")) == ["UNREVERSED_CANCEL:receivable 0 6000"])
    #expect(found(two, both + billed("D1", -100_00, "J4") + billed("D2", -50_00, "J5")) == [])
    // One document in two records.
    let lines = [sale("D1", 100_00), sale("D1", 100_00, at: 1), cancelled("D1")]
    #expect(found(lines, billed("D1", 200_00, "J1")) == ["UNREVERSED_CANCEL:receivable 0 24000"])
    // A role of two components.
    let policy = testPolicy {
      $0.entries[Int(OrderEventKind.invoiced.rawValue)] = [
        .init(.receivable, 1, .gross), .init(.revenue, -1, .gross), .init(.revenue, 1, .tax), .init(.tax, -1, .tax),
      ]
    }
    #expect(
      found([sale("D1", 100_00), cancelled("D1")], billed("D1", 100_00, "J1"), policy)
        == ["UNREVERSED_CANCEL:receivable 0 12000"])
  }

  /// Once it is paid the receivable has come to zero, and is the counter-entry all the same.
  @Test(arguments: [AccountRole.cash, .clearing]) func aMoveOfAPaidOrderIsAMove(_ role: AccountRole) {
    let policy = testPolicy {
      $0.entries[Int(OrderEventKind.paid.rawValue)] = [.init(role, 1, .applied), .init(.receivable, -1, .applied)]
    }
    var paid = r.event("O1", .paid, at: t0 + hour, document: "D1")
    paid.amounts[.applied] = 119_00
    let sale = r.event("O1", document: "D1", net: 100_00, tax: 19_00, gross: 119_00)
    let payment = [
      r.posting("O1", role, 119_00, journal: "J2", document: "D1"),
      r.posting("O1", .receivable, -119_00, journal: "J2", document: "D1"),
    ]
    let wrong = [
      r.posting("O1", .receivable, 119_00, journal: "J1", document: "D1"),
      r.posting("O1", .revenue, -119_00, journal: "J1", document: "D1"),
    ]
    #expect(verdicts([sale, paid], wrong + payment, policy: policy) == ["WRONG_ACCOUNT_ROLE:tax+GROSS_NET_CONFUSION"])
    #expect(
      verdicts([sale, paid], r.invoice("O1", net: 100_00, tax: 19_00, document: "D1") + payment, policy: policy) == [])
    // The invoice is not there, and its payment names it.
    #expect(
      verdicts([sale, paid], payment, policy: policy).map { $0.split(separator: ":")[0] } == ["MISSING_IN_LEDGER"])
  }

  @Test func lifecycle() {
    let booked = r.event("O1", .booked, at: t0 - hour, net: 100_00)
    let cancelled = r.event("O1", .cancelled, at: t0 + 2 * hour)
    let lines = r.invoice("O1", net: 100_00, tax: 19_00, freight: 5_00, document: "INV1")
    #expect(verdicts([booked], []) == [])
    #expect(verdicts([booked, cancelled], []) == [])
    #expect(verdicts([booked, cancelled], lines) == ["STATUS_CONFLICT:receivable"])
    #expect(verdicts([booked, sale(), cancelled], lines) == ["UNREVERSED_CANCEL:receivable"])
    #expect(verdicts([booked, sale(), cancelled], []) == [])
    let held = r.event("O1", .held, at: t0)
    #expect(verdicts([booked, held], lines) == ["STATUS_CONFLICT:receivable"])
    let reversal = lines.map { posting in
      var posting = posting
      posting.id = r.view("R1-\(posting.role.rawValue)")
      posting.journal = r.view("R1")
      posting.reverses = r.view("JE1")
      posting.amount = -posting.amount
      return posting
    }
    #expect(verdicts([booked, sale(), cancelled], lines + reversal) == [])
    #expect(verdicts([sale()], lines + reversal) == ["MISSING_IN_LEDGER:receivable"])
  }

  private func reversed(_ lines: [Posting], by journal: String) -> [Posting] {
    lines.map { posting in
      var posting = posting
      posting.id = r.view("\(journal)-\(posting.role.rawValue)")
      posting.reverses = posting.journal
      posting.journal = r.view(journal)
      posting.amount = -posting.amount
      return posting
    }
  }

  private func payment(_ amount: Int64, _ document: String, journal: String, at time_ms: Int64) -> [Posting] {
    [(AccountRole.cash, amount), (.receivable, -amount)].map {
      r.posting("O1", $0.0, $0.1, journal: journal, at: time_ms, document: document)
    }
  }

  /// A payment, a credit note or a write-off may name the invoice that it settles: it is in time where its own event is.
  @Test func whatNamesTheInvoiceThatItSettles() {
    let later = t0 + 30 * 24 * hour
    let billed = r.invoice("O1", net: 100_00, tax: 19_00, freight: 5_00, document: "INV1")
    func found(_ event: OrderEvent, _ lines: [Posting]) -> [String] { verdicts([sale(), event], billed + lines) }
    let paid = r.event("O1", .paid, at: later, document: "P1", applied: 60_00)
    #expect(found(paid, payment(60_00, "INV1", journal: "P", at: later)) == [])
    #expect(found(paid, payment(60_00, "", journal: "P", at: later)) == [])
    // In another period than its event.
    let early = payment(60_00, "P1", journal: "P", at: t0 + hour)
    #expect(found(paid, early) == ["CUTOFF:receivable"])
    let credit = r.event("O1", .credited, at: later, document: "C1", net: 10_00, gross: 10_00)
    let credited = [(AccountRole.returns, Int64(10_00)), (.receivable, -10_00)].map {
      r.posting("O1", $0.0, $0.1, journal: "C", at: later, document: "INV1")
    }
    #expect(found(credit, credited) == [])
  }

  /// An order that was cancelled: what of its billing still stands is not reversed, and what else is wrong is that.
  @Test func cancelledAndSomethingElse() {
    let event = r.event("O1", document: "INV1", net: 100_00, tax: 19_00, gross: 119_00)
    let lines = r.invoice("O1", net: 100_00, tax: 19_00, document: "INV1")
    let paid = r.event("O1", .paid, at: t0 + hour, document: "P1", applied: 119_00)
    let cancelled = r.event("O1", .cancelled, at: t0 + 2 * hour)
    let refunded = r.event("O1", .refunded, at: t0 + 3 * hour, document: "R1", applied: 119_00)
    let reversal = reversed(lines, by: "RJ")
    func paying(_ amount: Int64) -> [Posting] { payment(amount, "P1", journal: "PJ", at: t0 + hour) }
    func found(_ events: [OrderEvent], _ postings: [Posting]) -> [String] { verdicts([event] + events, postings) }
    #expect(found([cancelled], lines + reversal) == [])
    #expect(found([cancelled], lines) == ["UNREVERSED_CANCEL:receivable"])
    #expect(found([paid, cancelled], lines + paying(119_00)) == ["UNREVERSED_CANCEL:receivable"])
    #expect(found([paid, cancelled, refunded], lines + paying(119_00) + reversal) == ["MISSING_IN_LEDGER:receivable"])
    #expect(found([paid, cancelled], lines + paying(50_00) + reversal) == ["AMOUNT_MISMATCH:cash"])
    #expect(found([cancelled], lines + reversal + reversed(lines, by: "RK")) == ["DUPLICATE_POSTING:receivable"])
    let stray = r.invoice("O1", net: 12_34, journal: "SJ", document: "INV9")
    #expect(found([cancelled], lines + reversal + stray) == ["UNKNOWN_REFERENCE:receivable"])
    #expect(
      found([cancelled], lines + stray) == ["UNKNOWN_REFERENCE:receivable", "UNREVERSED_CANCEL:receivable"])
    // Half of it is reversed.
    let half = reversed(r.invoice("O1", net: 50_00, tax: 9_50, document: "INV1"), by: "RJ")
    #expect(found([cancelled], lines + half) == ["UNREVERSED_CANCEL:receivable"])
    // Posted in another currency.
    let foreign = r.invoice("O1", net: 100_00, tax: 19_00, currency: "EUR", document: "INV1")
    #expect(found([cancelled], foreign) == ["UNREVERSED_CANCEL:receivable"])
    // In a ledger that names no documents.
    let nameless = r.invoice("O1", net: 100_00, tax: 19_00)
    #expect(found([cancelled], nameless) == ["UNREVERSED_CANCEL:receivable"])
    #expect(found([paid, cancelled], nameless + paying(119_00)) == ["UNREVERSED_CANCEL:receivable"])
  }

  /// Credit notes that have taken back all that was billed leave nothing for a cancellation to take back.
  @Test func cancelledByACreditNote() {
    let event = r.event("O1", document: "INV1", net: 100_00, tax: 19_00, gross: 119_00)
    let lines = r.invoice("O1", net: 100_00, tax: 19_00, document: "INV1")
    func credit(_ net: Int64, _ tax: Int64, at time_ms: Int64) -> OrderEvent {
      r.event("O1", .credited, at: time_ms, document: "C1", net: net, tax: tax, gross: net + tax)
    }
    func noted(_ net: Int64, _ tax: Int64) -> [Posting] {
      [(AccountRole.returns, net), (.tax, tax), (.receivable, -net - tax)].map {
        r.posting("O1", $0.0, $0.1, journal: "CJ", at: t0 + hour, document: "C1")
      }
    }
    for cancelled in [t0 + hour, t0 + 3 * hour] {
      let events = [event, credit(100_00, 19_00, at: t0 + 2 * hour), r.event("O1", .cancelled, at: cancelled)]
      #expect(verdicts(events, lines + noted(100_00, 19_00)) == [])
      #expect(verdicts(events, lines) == ["MISSING_IN_LEDGER:receivable"])
      // Or the ledger takes the invoice back itself, or never had it.
      #expect(verdicts(events, lines + reversed(lines, by: "RJ")) == [])
      #expect(verdicts(events, []) == [])
    }
    // The rest of the invoice stands.
    let part = [event, credit(40_00, 7_60, at: t0 + hour), r.event("O1", .cancelled, at: t0 + 2 * hour)]
    #expect(verdicts(part, lines + noted(40_00, 7_60)) == ["UNREVERSED_CANCEL:receivable"])
  }

  /// The number of an invoice that was cancelled may be used again.
  @Test func aNumberThatIsUsedAgain() {
    func invoiced(_ net: Int64, at time_ms: Int64) -> OrderEvent {
      r.event("O1", at: time_ms, document: "INV1", net: net, gross: net)
    }
    let cancelled = r.event("O1", .invoiceCancelled, at: t0 + hour, document: "INV1")
    let first = r.invoice("O1", net: 100_00, journal: "J1", document: "INV1")
    let second = r.invoice("O1", net: 90_00, journal: "J2", document: "INV1")
    let all = first + reversed(first, by: "R1") + second
    #expect(verdicts([invoiced(100_00, at: t0), cancelled, invoiced(90_00, at: t0 + 2 * hour)], all) == [])
    // A source whose clock is behind: there is no other that it could be about.
    #expect(verdicts([invoiced(100_00, at: t0 + 2 * hour), cancelled], first + reversed(first, by: "R1")) == [])
  }

  /// Posted, reversed, and not posted again: it is missing, whatever the reversal's lines look like.
  @Test func reversedAndNotPostedAgain() {
    let event = r.event("O1", document: "INV1", net: 100_00, gross: 100_00)
    let lines = r.invoice("O1", net: 100_00, journal: "J1", document: "INV1")
    let nothing = lines + reversed(lines, by: "R1")
    let breaks = finalBreaks([.order(event)] + nothing.map { .posting($0) })
    #expect(breaks.keys.sorted() == ["O1:MISSING_IN_LEDGER:receivable"])
    #expect(breaks.values.first?.reason == "what was posted for INV1 is reversed")
    let second = r.event("O1", at: t0 + hour, document: "INV2", net: 40_00, tax: 7_60, gross: 47_60)
    let other = r.invoice("O1", net: 40_00, tax: 7_60, journal: "J2", document: "INV2")
    #expect(verdicts([event, second], nothing + other) == ["MISSING_IN_LEDGER:receivable"])
    let nameless = r.invoice("O1", net: 100_00, journal: "J1")
    #expect(verdicts([event], nameless + reversed(nameless, by: "R1")) == ["MISSING_IN_LEDGER:receivable"])
  }

  /// A copy under another number: the break names both.
  @Test func aCopyUnderAnotherNumber() {
    let event = r.event("O1", document: "INV1", net: 100_00, gross: 100_00)
    let lines =
      r.invoice("O1", net: 100_00, journal: "J1", document: "INV1")
      + r.invoice("O1", net: 100_00, journal: "J2", document: "INV1-COPY")
    let breaks = finalBreaks([.order(event)] + lines.map { .posting($0) })
    #expect(breaks.values.map(\.reason) == ["INV1 posted by J1 and again, as INV1-COPY, by J2"])
  }

  @Test func orphanReversal() {
    let lines = r.invoice("O1", net: 100_00, tax: 19_00, freight: 5_00)
    let orphan = r.invoice("O1", net: -50_00, journal: "R9").map { posting in
      var posting = posting
      posting.reverses = r.view("JE404")
      return posting
    }
    #expect(verdicts([sale()], lines + orphan) == ["ORPHAN_REVERSAL:receivable"])
    #expect(verdicts([], orphan) == ["ORPHAN_REVERSAL:receivable"])
  }

  @Test func duplicateOrderEvent() {
    var other = sale()
    other.amounts[.net] = 200_00
    other.time_ms += 1
    let lines = r.invoice("O1", net: 100_00, tax: 19_00, freight: 5_00)
    #expect(verdicts([sale(), other], lines) == ["DUPLICATE_ORDER_EVENT:receivable"])
    #expect(verdicts([other, sale()], lines) == ["DUPLICATE_ORDER_EVENT:receivable"])
    #expect(verdicts([sale(), sale()], lines) == [])
  }

  @Test func severalDocuments() {
    let first = r.event("O1", document: "INV1", net: 100_00, gross: 100_00)
    let second = r.event("O1", at: t0 + hour, document: "INV2", net: 50_00, gross: 50_00)
    let one = r.invoice("O1", net: 100_00, journal: "J1", document: "INV1")
    let two = r.invoice("O1", net: 50_00, journal: "J2", document: "INV2")
    #expect(verdicts([first, second], one + two) == [])
    #expect(verdicts([first, second], one) == ["MISSING_IN_LEDGER:receivable"])
    // Split in two journals that add up.
    let half = r.invoice("O1", net: 50_00, journal: "J3", document: "INV1")
    let otherHalf = r.invoice("O1", net: 50_00, journal: "J4", document: "INV1")
    #expect(verdicts([first], half + otherHalf) == [])
  }

  @Test func payment() {
    let paid = r.event("O1", .paid, at: t0 + hour, applied: 124_00)
    let lines =
      r.invoice("O1", net: 100_00, tax: 19_00, freight: 5_00)
      + [r.posting("O1", .cash, 124_00, journal: "P1"), r.posting("O1", .receivable, -124_00, journal: "P1")]
    #expect(verdicts([sale(), paid], lines) == [])
    let wrong =
      lines.dropLast(2) + [
        r.posting("O1", .cash, 120_00, journal: "P1"), r.posting("O1", .receivable, -120_00, journal: "P1"),
      ]
    #expect(verdicts([sale(), paid], Array(wrong)) == ["AMOUNT_MISMATCH:cash"])
  }
}
