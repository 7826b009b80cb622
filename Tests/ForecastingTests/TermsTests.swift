import Domain
import Testing

@testable import Forecasting

@Suite struct TermsTests {
  @Test(arguments: [
    ("NET30", PaymentTerms(net_d: 30)), ("net 45", PaymentTerms(net_d: 45)), ("n/30", PaymentTerms(net_d: 30)),
    ("N14", PaymentTerms(net_d: 14)), ("COD", PaymentTerms(net_d: 0)), ("Due on receipt", PaymentTerms(net_d: 0)),
    ("2/10NET30", PaymentTerms(net_d: 30, discount_u: 20_000, discount_d: 10)),
    ("2/10, n/30", PaymentTerms(net_d: 30, discount_u: 20_000, discount_d: 10)),
    ("1.5% / 8 NET 60", PaymentTerms(net_d: 60, discount_u: 15_000, discount_d: 8)),
    ("EOM+15", PaymentTerms(net_d: 15, fromEndOfMonth: true)), ("eom", PaymentTerms(net_d: 0, fromEndOfMonth: true)),
    ("NET30EOM", PaymentTerms(net_d: 30, fromEndOfMonth: true)),
    ("3/10EOM+20", PaymentTerms(net_d: 20, fromEndOfMonth: true, discount_u: 30_000, discount_d: 10)),
  ]) func areRead(_ text: String, _ expected: PaymentTerms) { #expect(PaymentTerms(text) == expected) }

  @Test(arguments: [
    "", "NET", "30", "NETX", "NET-3", "NET30X", "2/10", "2/40NET30", "0/10NET30", "120/10NET30", "/10NET30", "EOM15",
    "EOM+", "NET99999", "2/NET30", "net30net30", "NET٣٠",
  ]) func othersAreRefused(_ text: String) { #expect(PaymentTerms(text) == nil, "\(text)") }

  @Test func dueDays() {
    let invoiced = date("2024-01-31")
    #expect(PaymentTerms("NET30")!.dueDay(from: invoiced) == date("2024-03-01"))
    #expect(PaymentTerms("EOM+15")!.dueDay(from: invoiced) == date("2024-02-15"))
    #expect(PaymentTerms("EOM+15")!.dueDay(from: date("2024-02-01")) == date("2024-03-15"))
    #expect(PaymentTerms("EOM")!.dueDay(from: date("2023-02-03")) == date("2023-02-28"))
    let terms = PaymentTerms("2/10NET30")!
    #expect(terms.discountDay(from: invoiced) == date("2024-02-10") && terms.discount(on: 12_345) == 247)
    #expect(PaymentTerms("NET30")!.discountDay(from: invoiced) == nil)
  }
}
