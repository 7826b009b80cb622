import Configuration
import Domain
import Forecasting
import Simulation
import Testing

@testable import Pipeline

/// What corrects, replaces, repeats or moves what a ledger had before.
extension FlowLedgerTests {
  @Test func repetitionsUpdatesAndDeletes() throws {
    var made = ledger()
    var posting = line("o", 100, day: 1, document: "A", id: "1")
    posting.time_ms = 10
    try made.add(posting, due: absentDate, terms: nil)
    #expect(words(made.items(asOf_d: 9)) == ["EUR 100@1 due 31? [] "])
    try made.add(posting, due: absentDate, terms: nil)
    #expect(!made.isChanged, "the same again")
    // Of two with one id the last counts, whichever came first.
    for (amount, time_ms, counts) in [(Int64(90), Int64(11), "90"), (80, 9, "90"), (95, 12, "95")] {
      (posting.amount, posting.time_ms) = (amount, time_ms)
      try made.add(posting, due: absentDate, terms: nil)
      #expect(words(made.items(asOf_d: 9)) == ["EUR \(counts)@1 due 31? [] "])
    }
    (posting.isUpsert, posting.amount, posting.time_ms) = (true, 70, 13)
    try made.add(posting, due: absentDate, terms: nil)
    #expect(made.isChanged && words(made.items(asOf_d: 9)) == ["EUR 70@1 due 31? [] "])
    // An older image that comes later, and the creation once more.
    for (isUpsert, time_ms) in [(true, Int64(12)), (false, 10)] {
      (posting.isUpsert, posting.amount, posting.time_ms) = (isUpsert, 60, time_ms)
      try made.add(posting, due: absentDate, terms: nil)
      #expect(words(made.items(asOf_d: 9)) == ["EUR 70@1 due 31? [] "])
    }
    (posting.isUpsert, posting.isDelete, posting.time_ms) = (false, true, 14)
    try made.add(posting, due: absentDate, terms: nil)
    #expect(made.items(asOf_d: 9).isEmpty)
    // What was deleted stays so, whatever comes again; a row of the same id that is created after that is another.
    posting.isDelete = false
    for (time_ms, count) in [(Int64(10), 0), (13, 0), (15, 1)] {
      posting.time_ms = time_ms
      try made.add(posting, due: absentDate, terms: nil)
      #expect(made.items(asOf_d: 9).count == count)
    }
    // An update turns it into a line of another account.
    (posting.isUpsert, posting.role, posting.time_ms) = (true, .revenue, 16)
    try made.add(posting, due: absentDate, terms: nil)
    #expect(made.items(asOf_d: 9).isEmpty)
    (posting.role, posting.time_ms) = (.receivable, 15)
    try made.add(posting, due: absentDate, terms: nil)
    #expect(made.items(asOf_d: 9).isEmpty)
    // Without an id the place tells two lines apart.
    for offset in [1, 2, 2] as [Int64] {
      var line = line("p", 10, day: 1, document: "A", id: "")
      line.position = RecordPosition(source: 1, partition: 0, offset: offset)
      try made.add(line, due: absentDate, terms: nil)
    }
    #expect(words(made.items(asOf_d: 9)) == ["EUR 20@1 due 31? [] "])
  }

  /// A line that stood on cash by mistake takes its cash with it.
  @Test func aCorrectedLegIsNoCash() throws {
    var leg = line("o", 30, day: 5, .cash, journal: "P", id: "leg")
    leg.isUpsert = true
    let others = [
      line("o", 100, day: 1, document: "A", journal: "J"), line("o", -100, day: 1, .revenue, journal: "J"),
      line("o", -30, day: 5, document: "A", journal: "P"),
    ]
    #expect(try items(others + [leg]) == [#"EUR 100@1 due 11? [""] 30@5"#])
    var corrected = leg
    (corrected.role, corrected.time_ms) = (.returns, 1)
    for order in [[leg, corrected], [corrected, leg]] {
      #expect(try items(others + order) == [#"EUR 100@1 due 11? [""] 30@5!"#])
      #expect(try items(order + others) == [#"EUR 100@1 due 11? [""] 30@5!"#])
    }
    var gone = corrected
    (gone.isDelete, gone.time_ms) = (true, 2)
    #expect(try items(others + [leg, gone, corrected]) == [#"EUR 100@1 due 11? [""] 30@5"#])
  }

  /// Where event times are columns of the rows, the image that came last is the newest.
  @Test func imagesOfRowsWithTheirOwnTimes() throws {
    var made = FlowLedger(settings: FlowSettings(), dimensions: [], positioned: [true])
    var posting = line("o", 100, day: 1, document: "A", id: "1")
    for (isUpsert, isDelete, amount, time_ms, counts) in [
      (false, false, Int64(100), Int64(10), "100"), (true, false, 90, 9, "90"), (false, false, 100, 10, "90"),
      (false, true, 90, 9, ""), (false, false, 80, 8, "80"),
    ] {
      (posting.isUpsert, posting.isDelete, posting.amount, posting.time_ms) = (isUpsert, isDelete, amount, time_ms)
      try made.add(posting, due: absentDate, terms: nil)
      #expect(words(made.items(asOf_d: 9)) == (counts.isEmpty ? [] : ["EUR \(counts)@1 due 31? [] "]))
    }
  }

  /// Of two order events with one id the first by event time counts, whichever came first.
  @Test func theFirstInvoiceOfAnIdCounts() throws {
    var (first, again) = (invoice("o", day: 3, document: "A"), invoice("o", day: 7, document: "A"))
    again.id = first.id
    (first.time_ms, again.time_ms) = (10, 20)
    for events in [[first, again], [again, first]] {
      #expect(try items([line("o", 100, day: 3, document: "A")], events) == [#"EUR 100@3 due 23 [""] "#])
    }
  }

  /// A journal with receivables alone that come to nothing moves what is owed: that is no payment, and no sale.
  @Test func whatIsMovedIsNeitherPaidNorSold() throws {
    let moved = [
      line("a", 100, day: 10, document: "A", journal: "J"), line("a", -100, day: 10, .revenue, journal: "J"),
      line("a", -100, day: 20, document: "A", journal: "M"), line("b", 100, day: 20, document: "A", journal: "M"),
    ]
    #expect(try items(moved) == [#"EUR 100@10 due 20? [""] 100@20!"#, #"EUR 100@20 due 30? [""] "#])
    let told = try ratios(moved)
    #expect(told.ratios.sales == 100 && told.ratios.closing == 100)
    // The other side of the journal is not known: a payment.
    #expect(
      try items(Array(moved.prefix(3))) == [#"EUR 100@10 due 20? [""] 100@20"#])
    // On account, too.
    #expect(
      try ratios(
        [moved[0], moved[1]] + [
          line("c", -30, day: 20, journal: "M"), line("d", 30, day: 20, journal: "M"),
        ]
      ).ratios.sales == 100)
  }

  /// A journal of the bank whose own lines name no order: what one customer pays and another gets back is money, though the
  /// receivables come to nothing.
  @Test func linesOfNoOrderAreLinesOfTheJournal() throws {
    let sold = [
      line("a", 100, day: 10, document: "A", journal: "J"), line("a", -100, day: 10, .revenue, journal: "J"),
    ]
    let bank = [
      line("a", -100, day: 20, document: "A", journal: "M"), line("b", 100, day: 20, document: "B", journal: "M"),
    ]
    #expect(try items(sold + bank).first == [#"EUR 100@10 due 20? [""] 100@20!"#].first, "moved")
    for cash in [[100, -100], [200, -150, -50]] as [[Int64]] {
      let legs = cash.enumerated().map { line("none", $1, day: 20, .cash, journal: "M", id: "c\($0)") }
      #expect(try items(sold + bank + legs).first == #"EUR 100@10 due 20? [""] 100@20"#)
      #expect(try items(legs + bank + sold).first == #"EUR 100@10 due 20? [""] 100@20"#)
    }
    // What is posted of a third order in the same journal balances there: it is no matter of the two.
    let third = [
      line("c", 70, day: 20, document: "C", journal: "M"), line("c", -70, day: 20, .revenue, journal: "M"),
    ]
    #expect(try items(sold + bank + third).contains(#"EUR 100@10 due 20? [""] 100@20!"#))
  }

  /// The number of a journal that is used again: each day's is one of its own.
  @Test func aNumberOfAnotherDayIsAnotherJournal() throws {
    let sold = [
      line("a", 100, day: 10, document: "A", journal: "J"), line("a", -100, day: 10, .revenue, journal: "J"),
    ]
    // Two payments and a refund, which come to nothing over the days.
    let days = [
      line("a", -100, day: 20, document: "A", journal: "7"), line("b", 100, day: 400, document: "B", journal: "7"),
    ]
    #expect(try items(sold + days).contains(#"EUR 100@10 due 20? [""] 100@20"#))
    // A move stays one where its number comes again with cash.
    let moved = [
      line("a", -100, day: 20, document: "A", journal: "7"), line("b", 100, day: 20, document: "B", journal: "7"),
    ]
    let again = [
      line("a", 30, day: 400, document: "A2", journal: "K"), line("a", -30, day: 400, .revenue, journal: "K"),
      line("a", -30, day: 410, document: "A2", journal: "7"), line("a", 30, day: 410, .cash, journal: "7"),
    ]
    #expect(try items(sold + moved + again).contains(#"EUR 100@10 due 20? [""] 100@20!"#))
    #expect(try items(sold + moved + again).contains(#"EUR 30@400 due 410? [""] 30@410"#))
  }

  /// A move of which one side is deleted is none any more; one of which a side could be forgotten stays as long as the other.
  @Test func bothSidesOfAMoveStayOrGo() throws {
    var made = ledger { $0.history_d = 100 }
    let moved = [
      line("a", 100, day: 10, document: "A", journal: "J"), line("a", -100, day: 10, .revenue, journal: "J"),
      line("a", -100, day: 20, document: "A", journal: "M"), line("b", 100, day: 20, document: "B", journal: "M"),
    ]
    for posting in moved { try made.add(posting, due: absentDate, terms: nil) }
    #expect(words(made.items(asOf_d: 30)).first == #"EUR 100@10 due 40? [] 100@20!"#)
    var gone = moved[3]
    (gone.isDelete, gone.time_ms) = (true, 1)
    try made.add(gone, due: absentDate, terms: nil)
    #expect(words(made.items(asOf_d: 30)) == [#"EUR 100@10 due 40? [] 100@20"#], "a payment again")
    (gone.isDelete, gone.isUpsert, gone.time_ms) = (false, true, 2)
    try made.add(gone, due: absentDate, terms: nil)
    #expect(words(made.items(asOf_d: 30)).first == #"EUR 100@10 due 40? [] 100@20!"#)
    // The order that it was moved from is long settled; that it went to is not, and is no sale for that.
    func credited(_ items: [FlowItem]) -> [Int64] { items.map(\.item.credited) }
    let before = credited(made.items(asOf_d: 30).filter { $0.item.invoiced_d == 20 })
    for day in [1_000, 1_001, 1_002] as [Int32] {
      let left = made.items(asOf_d: day)
      #expect(left.count == 1 && credited(left) == before && before != [0])
    }
    #expect(made.factCount == 4)
    // With both settled, and nothing else, both go.
    for posting in [
      line("b", -100, day: 1_010, document: "B", journal: "P"), line("b", 100, day: 1_010, .cash, journal: "P"),
    ] { try made.add(posting, due: absentDate, terms: nil) }
    _ = made.items(asOf_d: 3_000)
    #expect(made.factCount == 0)
  }

  /// Sums beyond the range of amounts end there, and are told to.
  @Test func sumsBeyondTheRange() throws {
    var made = ledger { $0.backlog = FlowSettings.Backlog() }
    for number in 0..<10 {
      for order in ["o\(number)", "p"] {
        try made.add(
          line(order, .max - 5, day: 1, document: "A\(number)", journal: "J\(number)"), due: absentDate, terms: nil)
        try made.add(line(order, .min, day: 2, .revenue, journal: "J\(number)"), due: absentDate, terms: nil)
      }
      try made.add(line("p", .min, day: 5, journal: "P\(number)"), due: absentDate, terms: nil)
      try made.add(event(.booked, "o\(number)", .max, day: 10), due: absentDate, terms: nil)
      try made.add(event(.cancelled, "q\(number)", .min, day: 10), due: absentDate, terms: nil)
    }
    let told = FlowReport(settings: FlowSettings()).figures(
      made.items(asOf_d: 90), backlog: made.backlog(asOf_d: 90), asOf_d: 90, completeness: FlowCompleteness())
    #expect(told.count == 1 && told[0].isBeyondRange)
  }
}
