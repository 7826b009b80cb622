import Domain
import Simulation
import Testing

@testable import Forecasting

/// Cash of what is ordered and not billed: lag from order to invoice, then the days until it is paid.
@Suite struct BacklogTests {
  let euro = Currency("EUR")!
  let plain = BacklogForecast.Assumptions(lag_d: 10, terms: PaymentTerms(net_d: 7))

  func item(
    _ amount: Int64, booked: Int32, customer: String = "c", segment: String = "s", invoiced: [Int32] = [],
    terms: PaymentTerms? = nil
  ) -> BacklogItem {
    BacklogItem(
      customer: customer, segment: segment, currency: euro, booked_d: booked, amount: amount, invoiced: invoiced,
      terms: terms)
  }

  func weeks(_ amounts: [Int: Int64]) -> [Int64] { (0..<CashForecast.weeks).map { amounts[$0] ?? 0 } }

  func forecast(
    _ items: [BacklogItem], billing: CollectionModel = .init(), payment: CollectionModel = .init(),
    _ assumptions: BacklogForecast.Assumptions? = nil
  ) -> BacklogForecast {
    BacklogForecast(
      items, asOf_d: 100, currency: euro, billing: billing, payment: payment, assuming: assumptions ?? plain)
  }

  @Test func nothingIsKnown() {
    // Booked on day 95, billed 10 days later, due 7 days behind: day 112, in the second week.
    #expect(forecast([item(500, booked: 95)]).expected == weeks([1: 500]))
    // What should have been billed already is billed tomorrow.
    #expect(forecast([item(500, booked: 10)]).expected == weeks([1: 500]))
    #expect(forecast([item(500, booked: 95, terms: PaymentTerms(net_d: 0))]).expected == weeks([0: 500]))
    let far = forecast([item(500, booked: 95, terms: PaymentTerms(net_d: 90))])
    #expect(far.expected == weeks([:]) && far.beyond == 500 && far.open == 500 && far.orders == 1)
    // A day when nobody pays: 112 becomes 115, in the third week.
    var free = plain
    free.days = BusinessDays(roll: .following, holidays: [112, 113, 114])
    #expect(forecast([item(500, booked: 95)], free).expected == weeks([2: 500]))
  }

  @Test func lagsAndPaymentsAreLearned() {
    var (billing, payment) = (CollectionModel(), CollectionModel())
    (billing.prior, payment.prior) = (0, 0)
    // This customer is billed 20 days after the order, and pays 14 days after the due date.
    billing.learn(lags: [item(0, booked: 0, invoiced: [20, 90]), item(0, booked: 5, invoiced: [25])], until: 80)
    #expect(billing.learned == 2)
    payment.learn(customer: "c", segment: "s", daysLate: 14)
    // Booked on 95, billed on 115, due on 122, paid on 136: the sixth week (from day 136).
    #expect(forecast([item(700, booked: 95)], billing: billing, payment: payment).expected == weeks([5: 700]))
    // An order that has waited longer than any before follows the configured lag: billed tomorrow, due 108, paid 122.
    #expect(forecast([item(700, booked: 70)], billing: billing, payment: payment).expected == weeks([3: 700]))
    // Of two lags only the one behind the age counts.
    billing.learn(lags: [item(0, booked: 0, invoiced: [40])], until: 80)
    #expect(forecast([item(700, booked: 75)], billing: billing, payment: payment).expected == weeks([5: 700]))
    #expect(
      forecast([item(900, booked: 95)], billing: billing, payment: payment).expected == weeks([5: 600, 7: 300]))
    // What is billed behind the last week is paid behind it.
    var slow = CollectionModel()
    slow.prior = 0
    slow.learn(lags: [item(0, booked: -200, invoiced: [-180, 0])], until: 80)
    let half = forecast([item(700, booked: 95)], billing: slow)
    #expect(half.expected == weeks([3: 350]) && half.beyond == 350)
    // Nobody pays before the invoice is there.
    var early = CollectionModel()
    early.prior = 0
    early.learn(customer: "c", segment: "s", daysLate: -30)
    #expect(forecast([item(700, booked: 95)], payment: early).expected == weeks([1: 700]))
  }

  /// Weeks and what is beyond add up to what is to be billed, whatever was learned, and in any order.
  @Test(arguments: 1...20) func nothingIsLost(seed: UInt64) {
    var random = SeededRandom(seed: seed)
    func number(_ range: ClosedRange<Int32>) -> Int32 { Int32.random(in: range, using: &random) }
    var items: [BacklogItem] = []
    var receivables: [ReceivableItem] = []
    for _ in 0..<200 {
      let booked = number(-200...100)
      items.append(
        item(
          Int64(number(0...1_000_000)), booked: booked, customer: "c\(number(0...9))", segment: "s\(number(0...2))",
          invoiced: (0..<number(0...3)).map { _ in booked + number(0...120) },
          terms: number(0...1) == 0 ? nil : PaymentTerms(net_d: number(0...60), fromEndOfMonth: number(0...3) == 0)))
      let invoiced = number(-300...100)
      receivables.append(
        ReceivableItem(
          id: "", customer: "c\(number(0...9))", segment: "s\(number(0...2))", currency: euro, invoiced_d: invoiced,
          due_d: invoiced + 30, amount: 100, isDisputed: false,
          applications: [.init(day: invoiced + number(0...90), amount: 100)]))
    }
    func made(_ items: [BacklogItem], _ receivables: [ReceivableItem]) -> BacklogForecast {
      var (billing, payment) = (CollectionModel(), CollectionModel())
      billing.learn(lags: items, until: 100)
      payment.learn(receivables, until: 100)
      return forecast(
        items, billing: billing, payment: payment,
        .init(
          lag_d: 30, terms: PaymentTerms(net_d: 30),
          days: BusinessDays(roll: .modifiedFollowing, restDays: 0b110_0000)))
    }
    let whole = made(items, receivables)
    #expect(whole.open == items.reduce(0) { $0 + $1.amount })
    #expect(whole.expected.reduce(whole.beyond, +) == whole.open)
    #expect(whole.expected.allSatisfy { $0 >= 0 } && whole.beyond >= 0)
    #expect(whole.expected.contains { $0 > 0 })
    #expect(whole == made(items.shuffled(using: &random), receivables.shuffled(using: &random)))
  }
}
