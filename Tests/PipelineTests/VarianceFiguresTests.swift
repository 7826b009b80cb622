import Aggregates
import Configuration
import Domain
import Forecasting
import Simulation
import Testing

@testable import Pipeline

/// Actuals of random cells against random budgets.
@Suite struct VarianceFiguresTests {
  let euro = Currency("EUR")!
  let measures: [Measure] = [.recognisedRevenue, .billings, .cogs]

  func settings(_ by: [String], quantities: Bool = true, absolute_u: Int64 = 0, percent_u: Int64 = 0)
    -> VarianceSettings
  {
    var settings = VarianceSettings()
    (settings.by, settings.countsQuantities) = (by, quantities)
    (settings.absolute_u, settings.percent_u) = (absolute_u, percent_u)
    return settings
  }

  func status(_: BudgetKey) -> MessageStatus {
    MessageStatus(revision: 1, asOf_ms: 0, watermarks: [], isProvisional: false)
  }

  /// Cells of two dimensions over three periods, some of them in the base view.
  func cells(_ random: inout SeededRandom) -> [CellLine] {
    var lines: [CellLine] = []
    for _ in 0..<80 {
      var values = CellValues()
      for flow in [OrderFlow.billedNet, .creditedNet] { values[flow] = Int128(random.next() % 1_000_000) }
      for role in [AccountRole.revenue, .cogs, .freight, .discount] {
        for basis in DateBasis.allCases { values[role, basis] = Int128(Int64(random.next() % 2_000_000) - 1_000_000) }
      }
      for quantity in QuantityFlow.allCases { values[quantity] = Int128(random.next() % 50) * 1_000_000 }
      lines.append(
        CellLine(
          key: CellKey(
            dimensions: ["r\(random.next() % 3)", "c\(random.next() % 4)"], currency: euro,
            isBase: random.next() % 4 == 0, period: [202_601, 202_602, 202_603, 0, 1][Int(random.next() % 5)]),
          values: values))
    }
    return lines
  }

  func budget(_ random: inout SeededRandom) -> Budget {
    var budget = Budget()
    for region in 0..<4 {
      for period in [202_601, 202_602] as [Int32] {
        for measure in measures where random.next() % 4 != 0 {
          let hasQuantity = measure.quantity != nil && random.next() % 3 != 0
          budget.lines[BudgetKey(dimensions: ["r\(region)"], currency: euro, period: period, measure: measure)] =
            Budget.Line(
              amount: Int64(random.next() % 3_000_000) - 500_000,
              quantity_u: hasQuantity ? Int64(random.next() % 90) * 1_000_000 : nil)
        }
      }
    }
    return budget
  }

  @Test(arguments: Array(1...30) as [UInt64]) func partsAndCellsAddUp(_ seed: UInt64) {
    var random = SeededRandom(seed: seed)
    let (lines, budget) = (cells(&random), budget(&random))
    let figures = VarianceFigures(settings: settings(["region"]), dimensions: ["region", "channel"])
    let messages = figures.messages(lines, budget: budget, status: status)
    #expect(Set(messages.map { FinanceEncoder.key($0) }).count == messages.count && !messages.isEmpty)
    var withParts = 0
    for message in messages {
      guard let parts = message.parts else { continue }
      withParts += 1
      #expect(parts.volume + parts.price == message.variance.amount)
    }
    #expect(withParts > 0)
    // By period and measure, over all regions: what the cells hold, and what the budget says.
    for period in [202_601, 202_602, 202_603] as [Int32] {
      for measure in measures {
        let isPlanned = budget.lines.keys.contains { $0.period == period && $0.measure == measure }
        let own = messages.filter { $0.period == period && $0.measure == measure.rawValue }
        let actual = lines.filter { $0.key.period == period && !$0.key.isBase }
          .reduce(Int128(0)) { $0 + $1.values.value(measure, .posting) }
        #expect(own.reduce(0) { $0 + $1.variance.actual } == (isPlanned ? actual : 0))
        let planned = budget.lines.filter { $0.key.period == period && $0.key.measure == measure }
          .reduce(Int128(0)) { $0 + Int128($1.value.amount) }
        #expect(own.reduce(0) { $0 + $1.variance.budget } == planned)
        #expect(own.reduce(0) { $0 + $1.variance.amount } == (isPlanned ? actual : 0) - planned)
      }
    }
    // In any order, in any parts: two tasks' halves of the cells are the cells.
    let halves = lines.map { line in
      var (first, second) = (line, line)
      for at in QuantityFlow.allCases { first.values[at] = line.values[at] / 3 }
      for role in AccountRole.allCases {
        for basis in DateBasis.allCases { first.values[role, basis] = line.values[role, basis] / 2 }
      }
      second.values -= first.values
      return [first, second]
    }
    var shuffled = halves.flatMap { $0 }
    for at in shuffled.indices { shuffled.swapAt(at, Int(random.next() % UInt64(shuffled.count))) }
    #expect(figures.messages(shuffled, budget: budget, status: status) == messages)
  }

  /// What is in dispute follows the roles of the measure; what is missing and what may belong here are said.
  @Test func theActualSaysWhatIsInDispute() throws {
    func cell(_ region: String, isBase: Bool = false, period: Int32 = 202_601, _ change: (inout CellValues) -> Void)
      -> CellLine
    {
      var values = CellValues()
      change(&values)
      return CellLine(
        key: CellKey(dimensions: [region], currency: euro, isBase: isBase, period: period), values: values)
    }
    let lines = [
      cell("north") {
        $0[.revenue, .posting] = -900
        ($0[disputed: .revenue], $0[disputed: .discount], $0[disputed: .cogs], $0[disputed: .tax]) = (90, 10, 7, 5)
      },
      cell("south") { $0[disputed: .freight] = 40 },
      cell("west") { $0[.revenue, .posting] = -50 },
      cell(CellKey.other) { $0[.revenue, .posting] = 30 },
      cell("north", isBase: true) { $0[disputed: .revenue] = 1_000 },
      cell("north", period: 202_602) { $0[disputed: .revenue] = 1_000 },
      cell("west") { ($0[.unvalued], $0[.unrated], $0[.unconverted]) = (1, 2, 3) },
    ]
    let budget = Budget(
      Dictionary(
        uniqueKeysWithValues: [Measure.recognisedRevenue, .grossMargin, .bookings].map {
          (BudgetKey(dimensions: ["north"], currency: euro, period: 202_601, measure: $0), .init(amount: 1_000))
        }))
    let figures = VarianceFigures(settings: settings(["region"]), dimensions: ["region"])
    let made = figures.messages(lines, budget: budget, status: status)
    func message(_ region: String, _ measure: Measure) throws -> VarianceMessage {
      try #require(made.first { $0.series.dimensions == [region] && $0.measure == measure.rawValue })
    }
    var encoder = FinanceEncoder(dimensionNames: ["region"])
    func text(_ region: String, _ measure: Measure) throws -> String {
      String(decoding: encoder.encode(try message(region, measure)), as: UTF8.self)
    }
    #expect(
      try text("north", .recognisedRevenue).contains(
        #""disputed":"1.00","tied_out":"0.888889","completeness":{"complete":false,"unvalued_events":0,"#
          + #""unvalued_postings":0,"unvalued_differences":0,"other":"0.30"}"#))
    #expect(try message("north", .grossMargin).disputed == 107)
    #expect(try text("north", .bookings).contains(#""disputed":null,"tied_out":null,"completeness":{"complete":true"#))
    // In dispute, and nothing is there: none of it ties out.
    #expect(try text("south", .recognisedRevenue).contains(#""disputed":"0.40","tied_out":"0.000000""#))
    let west = try message("west", .recognisedRevenue)
    #expect(west.disputed == 0 && west.variance.actual == 50)
    #expect(
      west.completeness.unvaluedEvents == 0 && west.completeness.unvaluedPostings == 2
        && west.completeness.unvaluedDifferences == 3)
    // Of differences whose role is known, those that the measure is made of.
    let tax = figures.messages(
      [
        cell("north") {
          ($0[.unconverted], $0[unconverted: .tax], $0[unconverted: .freight], $0[unconverted: .cogs]) = (6, 2, 1, 3)
        },
        cell("north", period: 202_602) { ($0[.unconverted], $0[unconverted: .tax]) = (5, 5) },
      ], budget: budget, status: status)
    func unconverted(_ measure: Measure) throws -> Int128 {
      try #require(tax.first { $0.measure == measure.rawValue }).completeness.unvaluedDifferences
    }
    #expect(try unconverted(.recognisedRevenue) == 1 && unconverted(.grossMargin) == 4 && unconverted(.bookings) == 0)
    // Nothing of bookings is posted, so no difference is in them.
    let booked = try message("west", .bookings)
    #expect(booked.completeness.unvaluedEvents == 1 && booked.completeness.unvaluedDifferences == 0)
    // What stands under (other) says nothing of itself.
    #expect(try message(CellKey.other, .recognisedRevenue).completeness.isComplete)
    #expect(try text("west", .recognisedRevenue).contains(#""tied_out":"1.000000""#))
  }

  @Test func oneLineByHand() throws {
    var values = CellValues()
    // 110 units at 9.50, and freight that is revenue too; by event date something else.
    values[.revenue, .posting] = -104_500
    values[.revenue, .event] = -1
    values[.posted] = 110_000_000
    let cell = CellLine(
      key: CellKey(dimensions: ["north", "web"], currency: euro, period: 202_601), values: values)
    let key = BudgetKey(dimensions: [], currency: euro, period: 202_601, measure: .recognisedRevenue)
    let budget = Budget([key: .init(amount: 100_000, quantity_u: 100_000_000)])
    func message(_ settings: VarianceSettings, _ lines: [CellLine]) throws -> VarianceMessage {
      let figures = VarianceFigures(settings: settings, dimensions: ["region", "channel"])
      let made = figures.messages(lines, budget: budget, status: status)
      #expect(made.count == 1)
      return try #require(made.first)
    }
    let made = try message(settings([], absolute_u: 44_990_000, percent_u: 44_999), [cell])
    #expect(made.parts?.volume == 10_000 && made.parts?.price == -5_500)
    #expect(made.variance.amount == 4_500 && made.variance.isFavourable == true && made.variance.percent_u == 45_000)
    #expect(made.isFlagged && made.actualQuantity_u == 110_000_000 && made.budgetQuantity_u == 100_000_000)
    #expect(try !message(settings([], absolute_u: 45_000_000, percent_u: 44_999), [cell]).isFlagged)
    #expect(try !message(settings([], absolute_u: 44_990_000, percent_u: 45_000), [cell]).isFlagged)
    // Planned, and nothing happened; and without quantities.
    let none = try message(settings([], quantities: false), [])
    #expect(none.variance.amount == -100_000 && none.variance.isFavourable == false)
    #expect(none.parts == nil && none.actualQuantity_u == nil)
  }

  /// What was told before and is neither planned nor there any more is told as nothing.
  @Test func whatIsGoneIsTold() {
    let key = BudgetKey(dimensions: ["north"], currency: euro, period: 202_601, measure: .cogs)
    let figures = VarianceFigures(settings: settings(["region"]), dimensions: ["region"])
    let made = figures.messages([], budget: Budget(), known: [key], status: status)
    #expect(made.count == 1 && made[0].variance == Variance(actual: 0, budget: 0, nature: .expense))
    #expect(figures.messages([], budget: Budget(), status: status).isEmpty)
  }
}
