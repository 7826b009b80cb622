import Configuration
import Domain
import Forecasting
import Simulation
import Testing

@testable import Pipeline

/// What is put together from postings and invoices.
@Suite struct FlowLedgerTests {
  let euro = Currency("EUR")!
  /// Bytes of the texts in records; each is written once.
  final class Texts {
    private var kept: [UnsafeMutableBufferPointer<UInt8>] = []
    deinit { for text in kept { text.deallocate() } }
    func view(_ text: String) -> ByteView {
      guard !text.isEmpty else { return .empty }
      let bytes = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: text.utf8.count)
      _ = bytes.initialize(from: text.utf8)
      kept.append(bytes)
      return ByteView(UnsafeBufferPointer(bytes))
    }
  }
  let texts = Texts()

  func ledger(_ change: (inout FlowSettings) -> Void = { _ in }) -> FlowLedger {
    var settings = FlowSettings()
    change(&settings)
    return FlowLedger(settings: settings, dimensions: ["region", "channel"])
  }

  func line(
    _ order: String, _ amount: Int64, day: Int32, _ role: AccountRole = .receivable, document: String = "",
    journal: String = "", id: String? = nil, customer: String = "", region: String = "", reverses: String = "",
    currency: Currency? = nil
  ) -> Posting {
    var made = Posting()
    made.order = texts.view(order)
    made.id = texts.view(id ?? "\(order)/\(journal)/\(role.name)/\(amount)/\(day)")
    made.document = texts.view(document)
    made.journal = texts.view(journal)
    made.reverses = texts.view(reverses)
    made.customer = texts.view(customer)
    (made.amount, made.postingDate_d, made.role, made.currency) = (amount, day, role, currency ?? euro)
    made.dimensions[0] = texts.view(region)
    return made
  }

  func invoice(_ order: String, day: Int32, document: String = "", customer: String = "", region: String = "")
    -> OrderEvent
  {
    var made = OrderEvent()
    made.order = texts.view(order)
    made.id = texts.view("\(order)/\(document)/\(day)/\(customer)")
    made.document = texts.view(document)
    made.customer = texts.view(customer)
    (made.kind, made.documentDate_d, made.currency) = (.invoiced, day, euro)
    made.dimensions[0] = texts.view(region)
    return made
  }

  func words(_ items: [FlowItem]) -> [String] {
    items.map { of in
      let item = of.item
      let applied = item.applications.sorted { ($0.day, $0.amount) < ($1.day, $1.amount) }.map {
        "\($0.amount)@\($0.day)\($0.isCash ? "" : "!")"
      }
      return "\(item.currency.code) \(item.amount)@\(item.invoiced_d) due \(item.due_d)\(of.isDueAssumed ? "?" : "")"
        + " \(item.customer)\(of.labels) \(applied.joined(separator: " "))\(item.isDisputed ? " disputed" : "")"
        + (item.received == 0 ? "" : " received \(item.received)")
    }.sorted()
  }

  func items(_ postings: [Posting], _ events: [OrderEvent] = [], asOf_d: Int32 = 1_000) throws -> [String] {
    var made = ledger { ($0.by, $0.terms) = (["region"], PaymentTerms(net_d: 10)) }
    for posting in postings { try made.add(posting, due: absentDate, terms: nil) }
    for event in events { try made.add(event, due: absentDate, terms: PaymentTerms("NET20")) }
    return words(made.items(asOf_d: asOf_d))
  }

  /// What is posted of an invoice on another day is owed from that day on; what names the document settles the oldest of it
  /// first, and opens the youngest again.
  @Test func anInvoiceThatIsPostedInPartsIsOwedInParts() throws {
    func owed(_ postings: [Posting], _ days: [Int32]) throws -> [Int64] {
      var made = ledger()
      for posting in postings { try made.add(posting, due: absentDate, terms: PaymentTerms(net_d: 10)) }
      return days.map { day in
        Ageing.of(made.items(asOf_d: day).map(\.item), at: day).reduce(0) { $0 + $1.total }
      }
    }
    let postings = [
      line("a", 100, day: 101, document: "D", journal: "J1"), line("a", 50, day: 105, document: "D", journal: "J2"),
      line("a", -120, day: 110, document: "D", journal: "P1"), line("a", -30, day: 120, document: "D", journal: "P2"),
      line("a", 40, day: 125, .receivable, document: "D", journal: "B"), line("a", -40, day: 125, .cash, journal: "B"),
    ]
    for shuffled in [postings, postings.reversed()] {
      #expect(try owed(shuffled, [100, 101, 104, 105, 110, 120, 125]) == [0, 100, 100, 150, 30, 0, 40])
      #expect(
        try items(shuffled) == [
          "EUR 100@101 due 111? [\"\"] 100@110", "EUR 50@105 due 115? [\"\"] 20@110 30@120 -40@125",
        ])
    }
  }

  /// Days that terms give go to a business day, those that a record names stay; other holidays move them again, and the same
  /// ones give the same.
  @Test func dueDatesOfTermsAreBusinessDays() throws {
    // 1970-01-11 is a Sunday, day 10; the Monday behind it is a holiday in one version.
    func due(_ days: BusinessDays) throws -> [String] {
      var made = ledger { ($0.terms, $0.businessDays) = (PaymentTerms(net_d: 9), days) }
      try made.add(line("a", 100, day: 1), due: absentDate, terms: nil)
      try made.add(line("b", 100, day: 1), due: 10, terms: nil)
      try made.add(line("c", 100, day: 0), due: absentDate, terms: PaymentTerms("NET10"))
      try made.add(line("d", 100, day: 1, document: "D"), due: absentDate, terms: nil)
      try made.add(invoice("d", day: 3, document: "D"), due: absentDate, terms: PaymentTerms("NET7"))
      return words(made.items(asOf_d: 5)).map { $0.split(separator: " ")[3] + "" }
    }
    let sundays = BusinessDays(roll: .following, restDays: 0b100_0000)
    #expect(try due(BusinessDays(restDays: 0b100_0000)).sorted() == ["10", "10", "10", "10?"])
    #expect(try due(sundays).sorted() == ["10", "11", "11", "11?"])
    #expect(
      try due(BusinessDays(roll: .following, restDays: 0b100_0000, holidays: [11])).sorted() == [
        "10", "12", "12", "12?",
      ])
    // The same where the calendar changes behind the records.
    var changed = ledger { ($0.terms, $0.businessDays) = (PaymentTerms(net_d: 9), sundays) }
    try changed.add(line("a", 100, day: 1), due: absentDate, terms: nil)
    for (days, day) in [(BusinessDays(roll: .following, restDays: 0b100_0000, holidays: [11]), 12), (sundays, 11)] {
      changed.use(days)
      #expect(changed.items(asOf_d: 5).map(\.item.due_d) == [Int32(day)])
    }
    #expect(try due(BusinessDays(roll: .preceding, restDays: 0b100_0000)).sorted() == ["10", "9", "9", "9?"])
    #expect(try due(sundays).sorted() == ["10", "11", "11", "11?"])
  }

  func event(
    _ kind: OrderEventKind, _ order: String, _ gross: Int64?, day: Int32, id: String? = nil, customer: String = "c",
    isDelete: Bool = false
  ) -> OrderEvent {
    var made = OrderEvent()
    made.order = texts.view(order)
    made.id = texts.view(id ?? "\(order)/\(kind.name)/\(day)")
    made.customer = texts.view(customer)
    (made.kind, made.documentDate_d, made.currency, made.isDelete) = (kind, day, euro, isDelete)
    if let gross { made.amounts[.gross] = gross }
    return made
  }

  /// What is ordered and not billed, whatever the order of arrival, with repetitions and rows that go.
  @Test(arguments: 0..<8) func backlogIsWhatIsNotBilled(seed: UInt64) throws {
    var events = [
      event(.booked, "plain", 100, day: 10),
      event(.booked, "part", 100, day: 10), event(.invoiced, "part", 40, day: 15), event(.changed, "part", 30, day: 20),
      event(.booked, "over", 100, day: 10), event(.invoiced, "over", 140, day: 15),
      event(.booked, "back", 100, day: 10), event(.invoiced, "back", 100, day: 15),
      event(.invoiceCancelled, "back", 100, day: 16),
      event(.booked, "less", 100, day: 10), event(.cancelled, "less", 60, day: 12),
      event(.booked, "gone", 100, day: 10), event(.cancelled, "gone", nil, day: 12),
      event(.booked, "done", 100, day: 10), event(.invoiced, "done", 90, day: 12),
      event(.completed, "done", nil, day: 14),
      event(.booked, "blind", nil, day: 10),
      event(.invoiced, "never ordered", 50, day: 10),
      event(.booked, "later", 100, day: 901),
      event(.booked, "credited", 100, day: 10), event(.invoiced, "credited", 100, day: 12),
      event(.credited, "credited", 100, day: 13),
    ]
    // An ending of the same day, which does not say in which currency.
    for number in 0..<6 {
      events.append(event(.booked, "same\(number)", 100, day: 10))
      events.append(event(.cancelled, "same\(number)", nil, day: 10))
      events[events.count - 1].currency = .none
    }
    events.append(events[0])
    var random = SeededRandom(seed: seed)
    if seed > 0 { events.shuffle(using: &random) }
    var made = ledger { ($0.by, $0.backlog) = (["region"], FlowSettings.Backlog()) }
    for event in events {
      let terms = event.kind == .booked ? PaymentTerms("NET20") : nil
      try made.add(event, due: absentDate, terms: terms)
    }
    func words() -> [String] {
      made.backlog(asOf_d: 900).map {
        "\($0.item.amount)@\($0.item.booked_d) \($0.item.invoiced)\($0.isUnvalued ? "?" : "") \($0.item.customer)"
          + " \($0.item.terms?.net_d ?? -1)"
      }.sorted()
    }
    let all = [
      "0@10 [12] c 20", "0@10 [12] c 20", "0@10 [15] c 20", "0@10 []? c 20", "100@10 [15] c 20", "100@10 [] c 20",
      "40@10 [] c 20", "90@10 [15] c 20",
    ]
    #expect(words() == all)
    // Looking at receivables long after forgets what has been billed, and nothing of what has not.
    _ = made.items(asOf_d: 9_000)
    let open = all.filter { !$0.hasPrefix("0@") || $0.contains("?") }
    #expect(words() == open)
    try made.add(event(.booked, "plain", 100, day: 10, isDelete: true), due: absentDate, terms: nil)
    #expect(words() == open.filter { $0 != "100@10 [] c 20" })
    // Where it is not looked at, there is none, and nothing is kept for it.
    var without = ledger { _ in }
    for event in events { try without.add(event, due: absentDate, terms: nil) }
    #expect(without.backlog(asOf_d: 900).isEmpty && without.factCount == 6)
  }

  @Test func creditsSettleWhatTheyName() throws {
    #expect(
      try items([
        line("o", 100, day: 1, document: "A"), line("o", 50, day: 2, document: "B"),
        line("o", -50, day: 9, document: "B"), line("o", -30, day: 10, document: "A"),
      ]) == [#"EUR 100@1 due 11? [""] 30@10"#, #"EUR 50@2 due 12? [""] 50@9"#])
    // Without a name the oldest first, and what is left stands by itself.
    #expect(
      try items([
        line("o", 100, day: 1, document: "A"), line("o", 50, day: 2, document: "B"), line("o", -120, day: 9),
        line("o", -45, day: 10, document: "P"),
      ]) == [
        #"EUR -15@10 due 10 [""]  received 15"#, #"EUR 100@1 due 11? [""] 100@9"#,
        #"EUR 50@2 due 12? [""] 20@9 30@10"#,
      ])
    // Currencies do not mix.
    #expect(
      try items([
        line("o", 100, day: 1, document: "A"),
        line("o", -100, day: 2, document: "A", currency: Currency("USD")!),
      ]) == [#"EUR 100@1 due 11? [""] "#, #"USD -100@2 due 2 [""]  received 100"#])
  }

  @Test func whatIsCashIsTold() throws {
    let sale = line("o", 100, day: 1, document: "A", journal: "J1")
    let revenue = line("o", -100, day: 1, .revenue, document: "A", journal: "J1")
    func settled(_ credit: [Posting]) throws -> [String] { try items([sale, revenue] + credit) }
    let cash = #"EUR 100@1 due 11? [""] 40@5"#
    // A payment, and one whose other line is not known here.
    #expect(
      try settled([
        line("o", -40, day: 5, document: "A", journal: "P"), line("o", 40, day: 5, .cash, document: "A", journal: "P"),
      ]) == [cash])
    #expect(try settled([line("o", -40, day: 5, document: "A", journal: "P")]) == [cash])
    // What a processor, a discount or a write-off keeps back is no cash: each line has its share.
    for (bank, role) in [(AccountRole.clearing, AccountRole.fees), (.cash, .discount), (.cash, .writeOff)] {
      let kept = [line("o", 38, day: 5, bank, journal: "P"), line("o", 2, day: 5, role, journal: "P")]
      #expect(
        try settled(kept + [line("o", -40, day: 5, document: "A", journal: "P")])
          == [#"EUR 100@1 due 11? [""] 2@5! 38@5"#])
      #expect(
        try settled(
          kept + [
            line("o", -20, day: 5, document: "A", journal: "P", id: "1"),
            line("o", -20, day: 5, document: "A", journal: "P", id: "2"),
          ]) == [#"EUR 100@1 due 11? [""] 1@5! 1@5! 19@5 19@5"#])
    }
    // Beyond it, an exchange gain, or the cash of other orders.
    #expect(
      try settled([
        line("o", 41, day: 5, .cash, journal: "P"), line("o", -1, day: 5, .fx, journal: "P"),
        line("o", -40, day: 5, document: "A", journal: "P"),
      ]) == [cash])
    #expect(
      try settled([
        line("o", 90, day: 5, .cash, journal: "P"), line("o", 2, day: 5, .discount, journal: "P"),
        line("o", -40, day: 5, document: "A", journal: "P"),
      ]) == [#"EUR 100@1 due 11? [""] 2@5! 38@5"#])
    // Paid on the spot, in one journal.
    #expect(
      try items([
        line("o", 100, day: 1, document: "A", journal: "S", id: "1"), line("o", -100, day: 1, .revenue, journal: "S"),
        line("o", -100, day: 1, document: "A", journal: "S", id: "2"), line("o", 100, day: 1, .cash, journal: "S"),
      ]) == [#"EUR 100@1 due 11? [""] 100@1"#])
    // A credit note, a write-off, a reversal.
    for role in [AccountRole.returns, .writeOff, .deposit] {
      #expect(
        try settled([
          line("o", -40, day: 5, document: "A", journal: "C"), line("o", 40, day: 5, role, journal: "C"),
        ]) == [cash + "!"])
    }
    #expect(try settled([line("o", -40, day: 5, document: "A", journal: "R", reverses: "J1")]) == [cash + "!"])
    // Cash that goes back: the item is open again, and no new one.
    #expect(
      try settled([
        line("o", -100, day: 5, document: "A", journal: "P"), line("o", 100, day: 5, .cash, journal: "P"),
        line("o", 100, day: 7, document: "A", journal: "Q"), line("o", -100, day: 7, .cash, journal: "Q"),
      ]) == [#"EUR 100@1 due 11? [""] 100@5 -100@7"#])
  }

  /// Two ledgers that both count from 1 are not one: neither is what one of them paid money that the other received, nor
  /// an invoice of the one that of the other. A document is the same, whoever names it.
  @Test func aJournalIsItsLedgersOwn() throws {
    func of(_ source: UInt16, _ posting: Posting) -> Posting {
      var made = posting
      made.position.source = source
      return made
    }
    let credits = [
      of(0, line("o", 100, day: 1, document: "A", journal: "1")),
      of(0, line("o", -40, day: 5, document: "A", journal: "7")), of(0, line("o", 40, day: 5, .returns, journal: "7")),
      of(1, line("o", -30, day: 6, document: "A", journal: "7")), of(1, line("o", 30, day: 6, .cash, journal: "7")),
    ]
    for shuffled in [credits, credits.reversed()] {
      #expect(try items(shuffled) == [#"EUR 100@1 due 11? [""] 40@5! 30@6"#])
    }
    let unnamed = [of(0, line("o", 100, day: 1, journal: "1")), of(1, line("o", 50, day: 1, journal: "1"))]
    for (source, left) in [(UInt16(0), ["100@3!", ""]), (1, ["", "50@3!"])] {
      let amount: Int64 = source == 0 ? -100 : -50
      let taken = of(source, line("o", amount, day: 3, journal: "2", reverses: "1"))
      #expect(
        try items([taken] + unnamed) == [
          #"EUR 100@1 due 11? [""] "# + left[0], #"EUR 50@1 due 11? [""] "# + left[1],
        ])
    }
    // Where the ledger has no other number, that of the journal is what the order side and the bank may name.
    #expect(
      try items(
        [of(0, line("o", 100, day: 1, journal: "A")), of(1, line("o", -100, day: 9, document: "A", journal: "1"))],
        [invoice("o", day: 2, document: "A"), invoice("o", day: 3, document: "B")]
      ) == [#"EUR 100@1 due 22 [""] 100@9"#])
  }

  @Test func theOrderSideGivesWhatTheLedgerLacks() throws {
    #expect(
      try items(
        [line("o", 100, day: 3, document: "A"), line("x", 1, day: 3, customer: "own", region: "here")],
        [
          invoice("o", day: 1, document: "A", customer: "c", region: "north"),
          invoice("x", day: 2, document: "other", customer: "c", region: "north"),
        ]) == [#"EUR 100@3 due 21 c["north"] "#, #"EUR 1@3 due 22 own["here"] "#])
    // The ledger's own due date goes first; terms count from its day.
    var made = ledger()
    try made.add(line("o", 100, day: 3, document: "A"), due: absentDate, terms: PaymentTerms("NET5"))
    try made.add(invoice("o", day: 1, document: "A"), due: 77, terms: nil)
    #expect(words(made.items(asOf_d: 10)) == ["EUR 100@3 due 8 [] "])
    // An order without anything in the ledger is no receivable.
    #expect(try items([], [invoice("o", day: 1)]).isEmpty)
    // Two invoices, and a line that names neither: nobody knows.
    #expect(
      try items(
        [line("o", 100, day: 3, document: "C")],
        [invoice("o", day: 1, document: "A", region: "a"), invoice("o", day: 2, document: "B", region: "b")])
        == [#"EUR 100@3 due 13? [""] "#])
  }

  @Test func disputesComeAndGo() throws {
    var made = ledger()
    try made.add(line("o", 100, day: 1), due: absentDate, terms: nil)
    made.setDispute(id: "b1", order: "o", isOpen: true)
    made.setDispute(id: "b1", order: "o", isOpen: true)
    made.setDispute(id: "b2", order: "o", isOpen: true)
    #expect(made.items(asOf_d: 9)[0].item.isDisputed)
    made.setDispute(id: "b1", order: "o", isOpen: false)
    #expect(made.items(asOf_d: 9)[0].item.isDisputed)
    made.setDispute(id: "b2", order: "o", isOpen: false)
    made.setDispute(id: "never", order: "o", isOpen: false)
    #expect(!made.items(asOf_d: 9)[0].item.isDisputed)
  }

  @Test func whatWasSettledLongAgoIsForgotten() throws {
    var made = ledger { $0.history_d = 100 }
    for number in 0..<100 {
      try made.add(line("o\(number)", 100, day: 1), due: absentDate, terms: nil)
      if number > 0 { try made.add(line("o\(number)", -100, day: Int32(number)), due: absentDate, terms: nil) }
    }
    #expect(made.items(asOf_d: 100).count == 100 && made.factCount == 199)
    #expect(made.items(asOf_d: 150).count == 51)
    #expect(made.factCount < 199)
    // What is open stays, however old.
    #expect(words(made.items(asOf_d: 1_000)) == ["EUR 100@1 due 31? [] "] && made.factCount == 1)
    try made.add(line("o0", -100, day: 900), due: absentDate, terms: nil)
    #expect(words(made.items(asOf_d: 1_000)) == ["EUR 100@1 due 31? [] 100@900"])
    #expect(made.items(asOf_d: 1_001).isEmpty)
  }

  /// A payment that bounced has settled nothing: the invoice is open, however long ago that was, and nothing is learned.
  @Test func whatBouncedIsStillOpen() throws {
    var made = ledger { $0.history_d = 30 }
    for posting in [
      line("o", 1_000_00, day: 0, document: "A"), line("o", -1_000_00, day: 5, document: "A", journal: "P"),
      line("o", 1_000_00, day: 5, .cash, journal: "P"), line("o", 1_000_00, day: 7, document: "A", journal: "Q"),
      line("o", -1_000_00, day: 7, .cash, journal: "Q"), line("p", 500_00, day: 200, document: "B"),
    ] { try made.add(posting, due: absentDate, terms: nil) }
    let items = made.items(asOf_d: 220).map(\.item)
    #expect(items.reduce(0) { $0 + $1.open(at: 220) } == 1_500_00)
    #expect(items.allSatisfy { $0.settled_d == nil })
    var model = CollectionModel()
    model.learn(items, until: 220)
    #expect(model.learned == 0)
    // Paid again, for good.
    try made.add(line("o", -1_000_00, day: 210, document: "A"), due: absentDate, terms: nil)
    #expect(made.items(asOf_d: 220).compactMap(\.item.settled_d) == [210])
  }

  /// What is open, what came in and what was sold do not depend on how much history is kept.
  @Test(arguments: Array(1...40) as [UInt64]) func historyDoesNotChangeWhatIsOpen(_ seed: UInt64) throws {
    var random = SeededRandom(seed: seed)
    var postings: [Posting] = []
    for number in 0..<120 {
      let order = "o\(number / 4)"
      let (from, journal) = (Int32(number / 4) * 20, "J\(number)")
      let amount = random.pick([100, 100, 100, 40, 60, 150] as [Int64])
      let isDebit = number % 4 == 0 || random.below(4) == 0
      let day = from + Int32(random.below(30))
      postings.append(
        line(
          order, isDebit ? amount : -amount, day: day, document: random.pick(["A", "A", "A", "B", ""]),
          journal: journal))
      if number % 4 != 0 { postings.append(line(order, isDebit ? -amount : amount, day: day, .cash, journal: journal)) }
    }
    func figures(_ history_d: Int32, asOf_d: Int32) throws -> (
      open: Int64, sales: Int64, dso: Int128?, received: [Int64]
    ) {
      var settings = FlowSettings()
      settings.history_d = history_d
      var made = FlowLedger(settings: settings, dimensions: [])
      for posting in postings { try made.add(posting, due: absentDate, terms: nil) }
      let told = FlowReport(settings: settings).figures(
        made.items(asOf_d: asOf_d), asOf_d: asOf_d, completeness: FlowCompleteness())[0]
      return (
        told.receivables.ageing.total, told.receivables.ratios.sales, told.receivables.ratios.dso_u,
        told.cashflow.past.map(\.received)
      )
    }
    for asOf_d in [300, 500, 640] as [Int32] {
      let all = try figures(100_000, asOf_d: asOf_d)
      for history_d in [1, 30, 100, 365] as [Int32] {
        #expect(try figures(history_d, asOf_d: asOf_d) == all, "\(history_d) days at \(asOf_d)")
      }
      // Behind the last posting what is open is what the ledger holds.
      let balance = postings.reduce(0) { $1.role == .receivable ? $0 + $1.amount : $0 }
      #expect(asOf_d < 640 || all.open == balance)
    }
  }

  func ratios(_ postings: [Posting], asOf_d: Int32 = 90) throws -> (told: ReceivablesMessage, ratios: CollectionRatios)
  {
    let settings = FlowSettings()
    var made = ledger()
    for posting in postings { try made.add(posting, due: absentDate, terms: nil) }
    let told = FlowReport(settings: settings).figures(
      made.items(asOf_d: asOf_d), asOf_d: asOf_d, completeness: FlowCompleteness())[0].receivables
    return (told, told.ratios)
  }

  /// Money on account is no sale and has no age; it lowers the receivable, what is overdue first.
  @Test func moneyOnAccount() throws {
    let onAccount = [
      line("p", -600_00, day: 50, journal: "P"), line("p", 600_00, day: 50, .cash, journal: "P"),
    ]
    let current = try ratios([line("o", 1_000_00, day: 80, document: "A")] + onAccount)
    #expect(current.ratios.sales == 1_000_00 && current.ratios.closing == 400_00)
    #expect(current.ratios.dso_u == 36_000_000 && current.ratios.bestPossibleDSO_u == 36_000_000)
    #expect(current.ratios.add_u == 0 && current.ratios.cei_u == 1_000_000)
    #expect(current.told.ageing.amounts == [1_000_00, 0, 0, 0, 0] && current.told.ageing.onAccount == -600_00)
    #expect(current.told.ageing.total == 400_00 && current.told.ageing.count == 2)
    // The same with the invoice overdue: what may be delinquent is what the money does not cover.
    let overdue = try ratios([line("o", 1_000_00, day: 30, document: "A")] + onAccount)
    #expect(overdue.ratios.dso_u == 36_000_000 && overdue.ratios.bestPossibleDSO_u == 0)
    #expect(overdue.ratios.add_u == 36_000_000 && overdue.ratios.cei_u == 600_000)
    #expect(overdue.told.ageing[.days1to30] == 1_000_00 && overdue.told.ageing.total == 400_00)
    // Money that goes back is no sale either, a credit without an invoice lowers what was sold.
    let back = try ratios(
      [line("o", 1_000_00, day: 80, document: "A")] + onAccount + [
        line("q", 50_00, day: 60, journal: "R"), line("q", -50_00, day: 60, .cash, journal: "R"),
        line("s", -30_00, day: 60, journal: "C"), line("s", 30_00, day: 60, .returns, journal: "C"),
      ])
    #expect(back.ratios.sales == 970_00 && back.ratios.closing == 420_00 && back.told.ageing.onAccount == -580_00)
  }

  /// What came in on receivables, with an invoice or without; a credit note for what was paid is no money.
  @Test func allCashOfAWeekIsReceived() throws {
    let postings = [
      line("o", 100_00, day: 30, document: "A"), line("o", -100_00, day: 50, document: "A", journal: "P"),
      line("o", 100_00, day: 50, .cash, journal: "P"),
      line("o", -20_00, day: 60, document: "A", journal: "C"), line("o", 20_00, day: 60, .returns, journal: "C"),
      // On account, and in part paid back.
      line("p", -60_00, day: 61, journal: "Q"), line("p", 60_00, day: 61, .cash, journal: "Q"),
      line("p", 15_00, day: 80, journal: "R"), line("p", -15_00, day: 80, .cash, journal: "R"),
      // On clearing until it is put to the invoice, and a deposit.
      line("q", 40_00, day: 40, document: "B"), line("q", 40_00, day: 62, .cash, journal: "S"),
      line("q", -40_00, day: 62, .clearing, journal: "S"), line("q", 40_00, day: 70, .clearing, journal: "T"),
      line("q", -40_00, day: 70, document: "B", journal: "T"),
      line("s", 25_00, day: 63, .cash, journal: "U"), line("s", -25_00, day: 63, .deposit, journal: "U"),
    ]
    for shuffled in [postings, postings.reversed()] {
      var made = ledger()
      for posting in shuffled { try made.add(posting, due: absentDate, terms: nil) }
      let told = FlowReport(settings: FlowSettings()).figures(
        made.items(asOf_d: 90), asOf_d: 90, completeness: FlowCompleteness())[0]
      #expect(told.cashflow.past.map(\.received) == [0, 0, 0, 0, 0, 0, 0, 100_00, 60_00, 0, 40_00, -15_00, 0])
      #expect(told.receivables.ratios.sales == 140_00)
    }
  }

  /// An invoice that was reversed was no sale, on the day on which it was.
  @Test func reversedInvoicesAreNoSales() throws {
    func reversal(_ order: String, _ amount: Int64, day: Int32, of journal: String, journal own: String) -> [Posting] {
      [
        line(order, amount, day: day, document: "K", journal: own, reverses: journal),
        line(order, -amount, day: day, .revenue, journal: own, reverses: journal),
      ]
    }
    let sold = [
      line("o", 500_00, day: 80, document: "K", journal: "J1"), line("o", -500_00, day: 80, .revenue, journal: "J1"),
    ]
    let again = [
      line("o", 500_00, day: 82, document: "K2", journal: "J3"), line("o", -500_00, day: 82, .revenue, journal: "J3"),
    ]
    let taken = reversal("o", -500_00, day: 81, of: "J1", journal: "J2")
    let reissued = try ratios(sold + taken + again)
    #expect(
      reissued.ratios == CollectionRatios(opening: 0, sales: 500_00, closing: 500_00, closingCurrent: 500_00, days: 90))
    #expect(reissued.ratios.dso_u == 90_000_000)
    // Reversed in a later window: there it takes away what the new invoice brings, and nothing was collected.
    let across = try ratios(
      [
        line("o", 500_00, day: -10, document: "K", journal: "J1"),
        line("o", -500_00, day: -10, .revenue, journal: "J1"),
      ]
        + taken + again)
    #expect(across.ratios.opening == 500_00 && across.ratios.sales == 0 && across.ratios.cei_u == nil)
    // The reversal itself is reversed: the invoice stands. A payment that is taken back makes no sale.
    #expect(
      try ratios(sold + taken + reversal("o", 500_00, day: 81, of: "J2", journal: "J4")).ratios.sales == 500_00)
    #expect(
      try ratios(
        sold + [
          line("o", -500_00, day: 83, document: "K", journal: "P"),
          line("o", 500_00, day: 85, document: "K", journal: "Q", reverses: "P"),
        ]
      ).ratios.sales == 500_00)
    // A credit note settles.
    let note = [
      line("o", -100_00, day: 83, document: "K", journal: "C"), line("o", 100_00, day: 83, .returns, journal: "C"),
    ]
    #expect(try ratios(sold + note).ratios.sales == 500_00)
  }

  @Test func thereIsALimit() throws {
    var made = ledger { $0.maximumFacts = 2 }
    try made.add(line("o", 1, day: 1), due: absentDate, terms: nil)
    try made.add(line("o", 1, day: 1), due: absentDate, terms: nil)
    try made.add(line("p", 1, day: 1), due: absentDate, terms: nil)
    do throws(FlowLedger.Full) {
      try made.add(line("q", 1, day: 1), due: absentDate, terms: nil)
      Issue.record("a third fact was taken")
    } catch {
      #expect("\(error)".contains("more than 2 facts") && "\(error)".contains("raise flows.facts"))
      #expect("\(error)".contains("flows.history has a job that runs forget more"))
    }
  }

  /// Whatever the order in which the records come, and however often: the same items. And they add up to the ledger.
  @Test(arguments: Array(1...60) as [UInt64]) func theOrderOfArrivalDoesNotMatter(_ seed: UInt64) throws {
    var random = SeededRandom(seed: seed)
    var postings: [Posting] = []
    var events: [OrderEvent] = []
    var open: Int64 = 0
    // Also an order with so many invoices that they are looked up another way.
    let count = random.below(seed % 5 == 0 ? 120 : 12) + 1
    for number in 0..<count {
      let order = seed % 5 == 0 ? "o" : random.pick(["o", "p"])
      let document = random.pick(["A", "B", "C\(number)", ""])
      let amount = Int64(random.below(900) + 1) * (random.below(3) == 0 ? 1 : -1)
      let journal = random.pick(["J\(number)", "J1", ""])
      let day = Int32(random.below(40))
      postings.append(line(order, amount, day: day, document: document, journal: journal, id: "\(number)"))
      open += amount
      let other = random.pick([AccountRole.cash, .returns, .revenue])
      if random.below(2) == 0 {
        postings.append(line(order, -amount, day: day, other, journal: journal, id: "x\(number)"))
      }
      if random.below(3) == 0 {
        events.append(invoice(order, day: day, document: document, customer: "c\(number)", region: "r\(number % 2)"))
      }
    }
    let first = try items(postings, events)
    for _ in 0..<4 {
      let again = try items(
        (postings + postings.prefix(3)).shuffled(using: &random), (events + events.prefix(2)).shuffled(using: &random))
      #expect(again == first)
    }
    var made = ledger()
    for posting in postings { try made.add(posting, due: absentDate, terms: nil) }
    #expect(made.items(asOf_d: 50).reduce(0) { $0 + $1.item.open(at: 50) } == open)
  }
}
