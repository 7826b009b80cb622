import Domain
import Forecasting
import Testing

@testable import Pipeline

/// What goes beyond an invoice stands on account, and what goes back to the customer is taken from there first.
@Suite struct SettlementTests {
  let base = FlowLedgerTests()

  /// Total by bucket and on account, after each of the days.
  func ageing(_ postings: [Posting], _ days: [Int32], net_d: Int32 = 10) throws -> [[Int64]] {
    var made: [[[Int64]]] = []
    for shuffled in [postings, postings.reversed()] {
      var ledger = base.ledger { $0.terms = PaymentTerms(net_d: net_d) }
      for posting in shuffled { try ledger.add(posting, due: absentDate, terms: nil) }
      made.append(
        days.map { day in
          let all = Ageing.of(ledger.items(asOf_d: day).map(\.item), at: day)
          #expect(all.count <= 1)
          return all.first.map { [$0.amounts.reduce(0, +), $0.onAccount] } ?? [0, 0]
        })
    }
    #expect(made[0] == made[1])
    return made[0]
  }

  func cash(_ amount: Int64, day: Int32, document: String, journal: String) -> [Posting] {
    [
      base.line("o", -amount, day: day, document: document, journal: journal),
      base.line("o", amount, day: day, .cash, document: document, journal: journal),
    ]
  }

  func credit(_ amount: Int64, day: Int32, document: String, journal: String) -> [Posting] {
    [
      base.line("o", -amount, day: day, document: document, journal: journal),
      base.line("o", amount, day: day, .returns, document: document, journal: journal),
    ]
  }

  /// Paid, then credited, then the credit paid out: nothing is left, whatever the refund names.
  @Test(arguments: ["G", "R", ""]) func aRefundTakesTheCreditOffTheAccount(document: String) throws {
    let postings =
      [base.line("o", 100, day: 1, document: "R", journal: "S")] + cash(100, day: 10, document: "R", journal: "P")
      + credit(20, day: 15, document: "G", journal: "C") + cash(-20, day: 17, document: document, journal: "F")
    #expect(try ageing(postings, [1, 10, 60]) == [[100, 0], [0, 0], [0, 0]])
  }

  /// More is paid than is owed, comes back in two parts, and once more than was there opens the invoice again.
  @Test func anOverpaymentStandsOnAccount() throws {
    var postings =
      [base.line("o", 100, day: 1, document: "R", journal: "S")] + cash(125, day: 10, document: "R", journal: "P")
    #expect(try ageing(postings, [1, 10, 60]) == [[100, 0], [0, -25], [0, -25]])
    postings += cash(-10, day: 20, document: "R", journal: "F1") + cash(-15, day: 21, document: "R", journal: "F2")
    #expect(try ageing(postings, [20, 21]) == [[0, -15], [0, 0]])
    postings += cash(-40, day: 30, document: "R", journal: "F3")
    #expect(try ageing(postings, [29, 30]) == [[0, 0], [40, 0]])
    postings += cash(50, day: 31, document: "R", journal: "P2")
    #expect(try ageing(postings, [31]) == [[0, -10]])
  }

  /// A payment that bounced takes off what it had brought on account, then opens the invoice.
  @Test func aBouncedOverpaymentOpensTheInvoice() throws {
    let postings =
      [base.line("o", 100, day: 1, document: "R", journal: "S")] + cash(125, day: 10, document: "R", journal: "P")
      + cash(-125, day: 12, document: "R", journal: "B")
    #expect(try ageing(postings, [10, 12]) == [[0, -25], [100, 0]])
    #expect(try ageing(postings + cash(100, day: 14, document: "R", journal: "P2"), [14]) == [[0, 0]])
  }

  /// A refund takes off what stands on account of any document of the order, a reversal what stands there of its own.
  @Test func aReversalTakesOffNothingOfOthers() throws {
    let postings =
      [
        base.line("o", 100, day: 1, document: "R", journal: "S"),
        base.line("o", 50, day: 1, document: "Q", journal: "T"),
      ] + cash(70, day: 9, document: "Q", journal: "P1") + cash(100, day: 10, document: "R", journal: "P2")
    let reversal = [base.line("o", 100, day: 17, document: "R", journal: "B", reverses: "P2")]
    #expect(try ageing(postings + reversal, [10, 17]) == [[0, -20], [100, -20]])
    #expect(try ageing(postings + cash(-20, day: 17, document: "R", journal: "F"), [17]) == [[0, 0]])
  }

  /// A credit that comes after a refund without one settles what that has opened.
  @Test func aCreditComesAfterItsRefund() throws {
    let postings =
      [base.line("o", 100, day: 1, document: "R", journal: "S")] + cash(100, day: 10, document: "R", journal: "P")
      + cash(-20, day: 12, document: "", journal: "F") + credit(20, day: 15, document: "G", journal: "C")
    #expect(try ageing(postings, [10, 12, 15]) == [[0, 0], [20, 0], [0, 0]])
  }

  /// Money that is too much is no sale, nor is a credit note that names an invoice; what is taken back is none any more.
  @Test func salesAreThoseOfInvoices() throws {
    let sold = [
      base.line("o", 100_00, day: 80, document: "R", journal: "S"),
      base.line("o", -100_00, day: 80, .revenue, document: "R", journal: "S"),
    ]
    func sales(_ postings: [Posting]) throws -> Int64 { try base.ratios(sold + postings).ratios.sales }
    let paid = cash(125_00, day: 82, document: "R", journal: "P")
    #expect(try sales(paid) == 100_00)
    #expect(try sales(paid + credit(30_00, day: 83, document: "R", journal: "C")) == 100_00)
    let taken = [
      base.line("o", -100_00, day: 84, document: "R", journal: "X", reverses: "S"),
      base.line("o", 100_00, day: 84, .revenue, journal: "X", reverses: "S"),
    ]
    let again = [
      base.line("o", 100_00, day: 85, document: "R", journal: "Y", reverses: "X"),
      base.line("o", -100_00, day: 85, .revenue, journal: "Y", reverses: "X"),
    ]
    #expect(try sales(paid + taken) == 0)
    #expect(try sales(paid + taken + again) == 100_00)
  }
}
