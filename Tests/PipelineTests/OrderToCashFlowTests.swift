import Configuration
import Domain
import Forecasting
import Simulation
import Testing

@testable import Pipeline

/// Receivables of random histories: at every day what the ledger holds, whatever settles what.
@Suite struct OrderToCashFlowTests {
  func receivable(_ history: History, _ currency: Currency, by day: Int32) -> Int64 {
    history.counted.postings.filter { $0.role == .receivable && $0.currency == currency && $0.day_d <= day }
      .reduce(0) { $0 + $1.amount }
  }

  @Test(arguments: OrderToCashTests.seeds) func receivablesAreTheLedgers(seed: UInt64) throws {
    let setting = try OrderToCashSetting(seed: seed)
    var generator = OrderToCashGenerator(seed: seed, options: setting.options)
    let history = generator.next()
    let storage = HistoryStorage()
    var random = SeededRandom(seed: seed)
    var settings = FlowSettings()
    (settings.by, settings.days) = (["region"], 30)
    func items(_ inputs: [OrderToCashInput], asOf_d: Int32) throws -> [FlowItem] {
      var ledger = FlowLedger(settings: settings, dimensions: ["region", "channel"])
      for input in inputs {
        switch input {
        case .order(let event): try ledger.add(event, due: absentDate, terms: PaymentTerms(net_d: 14))
        case .posting(let posting): try ledger.add(posting, due: absentDate, terms: nil)
        }
      }
      return ledger.items(asOf_d: asOf_d)
    }
    let inputs = history.inputs(storage)
    for _ in 0..<4 {
      let asOf_d = OrderToCashSetting.start_d + Int32(random.below(160))
      func place() -> Comment { "seed \(seed), \(formatDate(asOf_d))\n\(history)" }
      let all = try items(inputs.shuffled(using: &random), asOf_d: asOf_d)
      let again = try items(inputs.shuffled(using: &random), asOf_d: asOf_d)
      let ageings = Ageing.of(all.map(\.item), at: asOf_d)
      #expect(ageings == Ageing.of(again.map(\.item), at: asOf_d), place())
      let figures = FlowReport(settings: settings).figures(all, asOf_d: asOf_d, completeness: .init())
      for currency in setting.options.currencies {
        let right = receivable(history, currency, by: asOf_d)
        #expect(ageings.first { $0.currency == currency }?.total ?? 0 == right, place())
        let own = figures.map(\.receivables).filter { $0.series.currency == currency }
        #expect(own.reduce(0) { $0 + $1.ageing.total } == right, place())
        #expect(own.reduce(0) { $0 + $1.ratios.closing } == right, place())
        let before = receivable(history, currency, by: asOf_d - 30)
        #expect(own.reduce(0) { $0 + $1.ratios.opening } == before, place())
        for figures in own where !figures.ageing.amounts.contains(where: { $0 < 0 }) {
          #expect(figures.ratios.closingCurrent <= figures.ratios.closing, place())
        }
      }
    }
    withExtendedLifetime(storage) {}
  }
}
