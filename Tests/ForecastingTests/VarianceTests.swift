import Domain
import Testing

@testable import Forecasting

@Suite struct VarianceTests {
  @Test func signsAndPercent() {
    let income = Variance(actual: 900, budget: 1_000, nature: .income)
    #expect(income.amount == -100 && income.isFavourable == false && income.percent_u == -100_000)
    let expense = Variance(actual: 900, budget: 1_000, nature: .expense)
    #expect(expense.isFavourable == true)
    #expect(Variance(actual: 5, budget: 5, nature: .income).isFavourable == nil)
    #expect(Variance(actual: 6, budget: 5, nature: .neutral).isFavourable == nil)
    let none = Variance(actual: 70, budget: 0, nature: .expense)
    #expect(none.percent_u == nil && none.isFavourable == false)
    // Of |budget|: a loss that grows is −50 %, not +50 %.
    #expect(Variance(actual: -150, budget: -100, nature: .income).percent_u == -500_000)
    #expect(AccountNature(.revenue) == .income && AccountNature(.cogs) == .expense && AccountNature(.cash) == .neutral)
  }

  @Test func bothThresholdsMustBeReached() {
    let threshold = VarianceThreshold(absolute: 100, percent_u: 50_000)
    func flagged(_ actual: Int128, _ budget: Int128) -> Bool {
      Variance(actual: actual, budget: budget, nature: .income).isFlagged(threshold)
    }
    #expect(!flagged(2_100, 2_000) && !flagged(1_900, 2_000))  // exactly 100 and 5 %
    #expect(flagged(2_101, 2_000) && flagged(1_899, 2_000))  // one more
    #expect(!flagged(2_102, 2_002) && !flagged(4_200, 4_000))  // over one of them alone
    #expect(!flagged(60, 10))  // 500 %, but little money
    #expect(flagged(101, 0) && !flagged(100, 0) && !flagged(0, 0))
  }

  @Test(arguments: Array(1...20) as [UInt64]) func priceAndVolumeAddUp(_ seed: UInt64) {
    var generator = SeededGenerator(seed)
    for _ in 0..<500 {
      let money = { Int64.random(in: -9_000_000_000...9_000_000_000, using: &generator) }
      let (actual, budget) = (money(), money())
      let quantity = Int64.random(in: -5_000_000_000...5_000_000_000, using: &generator)
      var planned = Int64.random(in: 1...5_000_000_000, using: &generator)
      if Bool.random(using: &generator) { planned = -planned }
      let parts = PriceVolume(
        actual: actual, actualQuantity_u: quantity, budget: budget, budgetQuantity_u: planned)!
      #expect(parts.total == Int128(actual) - Int128(budget))
      let volume = (Double(quantity) - Double(planned)) * (Double(budget) / Double(planned))
      #expect(abs(Double(parts.volume) - volume) <= 0.5 + abs(volume) * 1e-9)
    }
    // 110 units at 9.50 instead of 100 at 10.00.
    let parts = PriceVolume(
      actual: 104_500, actualQuantity_u: 110_000_000, budget: 100_000, budgetQuantity_u: 100_000_000)!
    #expect(parts.volume == 10_000 && parts.price == -5_500)
    #expect(PriceVolume(actual: 1, actualQuantity_u: 1, budget: 0, budgetQuantity_u: 0) == nil)
  }

  @Test func tablesAreBoundedAndKeepControlTotals() {
    var table = VarianceTable<String>()
    table.maximumKeys = 2
    let taken = [
      table.add("b", actual: 5, nature: .income), table.add("a", budget: 7, nature: .income),
      table.add("b", budget: 1, nature: .income), table.add("c", actual: 100, nature: .income),
    ]
    #expect(taken == [true, true, true, false])
    #expect(table.lines.map(\.key) == ["a", "b"] && table.rows == 3 && table.actual == 5 && table.budget == 8)
    #expect(table.lines[1].variance == Variance(actual: 5, budget: 1, nature: .income))
  }
}
