import Aggregates
import Configuration
import Domain
import Forecasting
import Foundation
import Matching
import Simulation
import Testing

@testable import Pipeline

/// Random histories from the order to the cash, through matchers, aggregates and the second stage, against figures that are
/// added up from the histories by themselves.
@Suite struct OrderToCashTests {
  /// `TIEOUT_PROPERTY_SEEDS=first..<last` asks for others, and for more.
  static let seeds: [UInt64] = {
    let asked = ProcessInfo.processInfo.environment["TIEOUT_PROPERTY_SEEDS"]?.split(separator: "..<").map { UInt64($0) }
    guard let asked, asked.count == 2, let first = asked[0], let last = asked[1], first < last else {
      return Array(0..<48)
    }
    return Array(first..<last)
  }()

  func history(_ setting: OrderToCashSetting, seed: UInt64) -> History {
    var generator = OrderToCashGenerator(seed: seed, options: setting.options)
    return generator.next()
  }

  func lines(_ result: OrderToCashResult) -> [CellLine] { result.messages.values.map(\.line) }

  /// The cells, the totals and the breaks are those of the oracles, however the records come.
  @Test(arguments: seeds) func figuresAreTheBooks(seed: UInt64) throws {
    var setting = try OrderToCashSetting(seed: seed)
    setting.options.reusesIDs = seed % 4 == 3
    let history = history(setting, seed: seed)
    let books = setting.books(history)
    let oracle = NaiveOracle(history, policy: setting.options.policy)
    let storage = HistoryStorage()
    let inputs = history.inputs(storage)
    var random = SeededRandom(seed: seed)
    let courses: [OrderToCashCourse] = [
      .init(), .init(tasks: 3, movesTime: true), .init(tasks: 7, rereads: true),
      .init(tasks: 2, movesTime: true, restarts: true, rereads: true), .init(restarts: true),
    ]
    var reference: OrderToCashResult?
    for (number, course) in courses.enumerated() {
      let result = OrderToCashRun(setting, course, seed: seed).run(inputs.shuffled(using: &random))
      func place() -> Comment { "seed \(seed), course \(number)\n\(history)" }
      #expect(result.problems == [], place())
      #expect(books.differences(lines(result)) == [], place())
      // In the end all that has a period that ends is final.
      for (key, message) in result.messages {
        let isPeriod = setting.calendar.map { $0.period(named: key.period) != nil } ?? (key.period > 0)
        #expect(message.status.isProvisional != isPeriod, "\(key.period), \(place())")
      }
      expectTotals(result, oracle, place)
      if let reference {
        #expect(result.plainContents == reference.plainContents, place())
        if !course.movesTime { #expect(changes(reference.plainBreaks, result.plainBreaks) == [], place()) }
      } else {
        reference = result
      }
    }
    withExtendedLifetime(storage) {}
  }

  /// What two answers say differently.
  func changes(_ a: [String: Break], _ b: [String: Break]) -> [String] {
    Set(a.keys).union(b.keys).sorted().filter { a[$0] != b[$0] }.map {
      guard let one = a[$0], let other = b[$0] else {
        return "\($0) is in \(a[$0] == nil ? "the second" : "the first")"
      }
      return zip(Mirror(reflecting: one).children, Mirror(reflecting: other).children).compactMap { one, other in
        let (a, b) = ("\(one.value)", "\(other.value)")
        return a == b ? nil : "\(one.label ?? ""): \(a), \(b)"
      }.joined(separator: "; ")
    }
  }

  func expectTotals(_ result: OrderToCashResult, _ oracle: NaiveOracle, _ place: () -> Comment) {
    var sums = oracle.sums
    for line in result.totals.lines {
      let right = sums.removeValue(forKey: .init(role: line.role, currency: line.currency)) ?? .init()
      #expect(
        line.expected == right.expected && line.posted == right.posted && line.pending == 0,
        "\(line), right is \(right), \(place())")
    }
    #expect(sums.values.allSatisfy { $0 == .init() }, "roles without totals: \(sums), \(place())")
    let wrong = Set(oracle.differences.keys.map(\.order))
    let telling = result.openBreaks.values.filter { !NaiveOracle.noDifferences.contains($0.type) }
    let silent = wrong.subtracting(telling.map(\.order))
    #expect(silent.isEmpty, "orders without a break: \(silent), \(place())")
    for made in telling where !NaiveOracle.perhapsDifferences.contains(made.type) {
      #expect(wrong.contains(made.order), "\(made.id) \(made.state), and the order ties out, \(place())")
    }
  }

  /// The cells of any choice of dimensions add up to the books without the others.
  @Test(arguments: seeds.prefix(30)) func cellsAddUpOverEveryChoiceOfDimensions(seed: UInt64) throws {
    let setting = try OrderToCashSetting(seed: seed)
    let history = history(setting, seed: seed)
    let storage = HistoryStorage()
    let result = OrderToCashRun(setting, .init(tasks: 3), seed: seed).run(history.inputs(storage))
    for kept in 0..<4 {
      @Sendable func chosen(_ dimensions: [String]) -> [String] {
        dimensions.enumerated().map { kept & 1 << $0.offset != 0 ? $0.element : "*" }
      }
      var sums: [CellKey: CellValues] = [:]
      for line in lines(result) {
        var key = line.key
        key.dimensions = chosen(key.dimensions)
        sums[key, default: CellValues()] += line.values
      }
      let books = setting.books(history) { chosen($0) }
      #expect(
        books.differences(sums.map { CellLine(key: $0.key, values: $0.value) }) == [],
        "seed \(seed), dimensions \(kept)\n\(history)")
    }
    withExtendedLifetime(storage) {}
  }

  /// Opening + what comes in − what goes out = closing, and closing is the next one's opening.
  @Test(arguments: seeds.prefix(30)) func balancesRollForward(seed: UInt64) throws {
    let setting = try OrderToCashSetting(seed: seed)
    let history = history(setting, seed: seed)
    let books = setting.books(history)
    let storage = HistoryStorage()
    let result = OrderToCashRun(setting, .init(tasks: 2, movesTime: true), seed: seed).run(history.inputs(storage))
    let series = Dictionary(grouping: result.messages.values) { $0.line.key.series }
    for messages in series.values {
      var before: RevenueMessage?
      var sums: [Int128] = [0, 0, 0, 0]
      for message in messages.sorted(by: { $0.line.key.period < $1.line.key.period }) {
        let key = message.line.key
        let cell = NaiveBooks.Cell(
          dimensions: key.dimensions, currency: key.currency, isBase: key.isBase, period: key.period)
        func figure(_ name: String) -> Int128 { books.figure(name, cell) }
        let moved = [
          figure("billed_revenue") - figure("recognised_revenue@posting"), figure("bookings") - figure("billings"),
          figure("deferred_movement@posting") + figure("bookings") - figure("billings"),
          figure("receivable_movement@posting"),
        ]
        for at in sums.indices { sums[at] += moved[at] }
        let rolls = [message.deferred, message.backlog, message.rpo, message.receivable]
        for (at, roll) in rolls.enumerated() {
          func place() -> Comment { "seed \(seed), balance \(at) of \(key)\n\(history)" }
          #expect(roll.closing == sums[at] && roll.opening + roll.additions - roll.reductions == roll.closing, place())
          #expect(roll.opening == sums[at] - moved[at], place())
        }
        if let before {
          #expect(
            message.deferred.opening == before.deferred.closing && message.rpo.opening == before.rpo.closing
              && message.backlog.opening == before.backlog.closing
              && message.receivable.opening == before.receivable.closing)
        }
        before = message
      }
    }
    withExtendedLifetime(storage) {}
  }

  /// Where all is posted right no break is open, and what the ledger holds follows from the orders.
  @Test(arguments: seeds) func identitiesHoldWhereAllTiesOut(seed: UInt64) throws {
    var setting = try OrderToCashSetting(seed: seed, faultsPer100: 0)
    setting.options.stopsBilledOrders = false
    let history = history(setting, seed: seed)
    let storage = HistoryStorage()
    let result = OrderToCashRun(setting, .init(tasks: 3), seed: seed).run(history.inputs(storage))
    func place() -> Comment { "seed \(seed)\n\(history)" }
    // Not every record tells a quantity, and not every day has a rate.
    let others: Set<BreakType> = [
      .paidNotBilled, .fxRateMissing, .quantityMismatch, .unbilledShipment, .billedNotShipped,
    ]
    let open = result.openBreaks.values.filter { !others.contains($0.type) }
    #expect(open.map { "\($0.id) \($0.state)" } == [], place())
    var sums: [Currency: CellValues] = [:]
    for line in lines(result) where !line.key.isBase { sums[line.key.currency, default: CellValues()] += line.values }
    for values in sums.values {
      // receivable = billed − applied − credited − discounts − write-offs
      #expect(values.value(.receivableMovement) == values.value(.receivableExpected), place())
      // revenue to date = net billed − deferred + unbilled
      #expect(
        values.value(.recognisedRevenue)
          == values.value(.billedRevenue) - values.value(.deferredMovement) + values.value(.unbilledMovement), place())
      #expect(values.value(.deferredDifference) == 0, place())
      // −tax = tax billed − tax credited
      #expect(values.value(.taxPosted) == values.value(.billedTax), place())
      #expect(values.value(.cashIn) == values.value(.cashExpected), place())
      #expect(values.value(.cogs) == values.value(.shippedCost), place())
      #expect(
        values.value(.recognisedRevenue)
          == values.value(.grossRevenue) + values.value(.freight) - values.value(.discounts) - values.value(.returns),
        place())
    }
    // Each ledger document sums to zero.
    let journals = Dictionary(grouping: history.counted.postings) { "\($0.order) \($0.journal)" }
    for lines in journals.values { #expect(lines.reduce(0) { $0 + $1.amount } == 0, place()) }
    withExtendedLifetime(storage) {}
  }

  /// The parts of a variance add up to it, each as its definition says, and the actuals to the control totals.
  @Test(arguments: seeds) func priceAndVolumeAddUp(seed: UInt64) throws {
    let setting = try OrderToCashSetting(seed: seed)
    let history = history(setting, seed: seed)
    let storage = HistoryStorage()
    let result = OrderToCashRun(setting, .init(tasks: 2), seed: seed).run(history.inputs(storage))
    withExtendedLifetime(storage) {}
    var random = SeededRandom(seed: seed, stream: 7)
    var variance = VarianceSettings()
    variance.by = [["region"], ["channel", "region"], []][random.below(3)]
    variance.countsQuantities = true
    let measures = Measure.allCases.filter { _ in random.below(2) == 0 } + [.billings, .recognisedRevenue]
    var budget = Budget()
    for key in result.messages.keys.sorted() where !key.isBase && random.below(2) == 0 {
      for measure in measures where random.below(3) != 0 {
        let dimensions = variance.by.map { key.dimensions[$0 == "region" ? 0 : 1] }
        let quantities: [Int64?] = [nil, 0, 1, -3_000_000, 7_000_000, Int64(random.below(90_000_000))]
        budget.lines[
          BudgetKey(dimensions: dimensions, currency: key.currency, period: key.period, measure: measure)] =
          .init(
            amount: [0, 1, -5_000, Int64(random.below(9_999_999))][random.below(4)],
            quantity_u: measure.quantity == nil ? nil : random.pick(quantities))
      }
    }
    let figures = VarianceFigures(settings: variance, dimensions: ["region", "channel"])
    let messages = figures.messages(lines(result), budget: budget) { _ in
      MessageStatus(revision: 1, asOf_ms: 0, watermarks: [], isProvisional: false)
    }
    let chosen = variance.by.map { $0 == "region" ? 0 : 1 }
    let books = setting.books(history) { dimensions in chosen.map { dimensions[$0] } }
    func place() -> Comment { "seed \(seed)\n\(history)" }
    var told: Set<BudgetKey> = []
    for message in messages {
      let measure = Measure(rawValue: message.measure)!
      let cell = NaiveBooks.Cell(
        dimensions: message.series.dimensions, currency: message.series.currency, isBase: false, period: message.period)
      let key = BudgetKey(
        dimensions: cell.dimensions, currency: cell.currency, period: cell.period, measure: measure)
      #expect(told.insert(key).inserted)
      let actual = books.figure(measure.isPosted ? "\(measure.rawValue)@posting" : measure.rawValue, cell)
      let plan = budget.lines[key]
      #expect(message.variance.actual == actual && message.variance.budget == Int128(plan?.amount ?? 0), place())
      #expect(message.variance.amount == actual - Int128(plan?.amount ?? 0), place())
      guard let quantity_u = plan?.quantity_u, quantity_u != 0 else {
        #expect(message.parts == nil, place())
        continue
      }
      let parts = try #require(message.parts, place())
      let sold_u = books.figure(measure.quantity == .billed ? "billed" : "posted", cell)
      #expect(parts.volume + parts.price == message.variance.amount, place())
      // volume = Δq × budget price, price = Δprice × actual quantity; both to the minor unit.
      let volume = (sold_u - Int128(quantity_u)) * Int128(plan!.amount)
      let price = actual * Int128(quantity_u) - Int128(plan!.amount) * sold_u
      #expect(2 * (parts.volume * Int128(quantity_u) - volume).magnitude <= quantity_u.magnitude, place())
      #expect(2 * (parts.price * Int128(quantity_u) - price).magnitude <= quantity_u.magnitude, place())
    }
    // What is compared is all that happened in the periods that are planned.
    for measure in Set(measures) {
      let periods = Set(budget.lines.keys.filter { $0.measure == measure }.map(\.period))
      let name = measure.isPosted ? "\(measure.rawValue)@posting" : measure.rawValue
      let right = books.cells.filter { !$0.key.isBase && periods.contains($0.key.period) }
        .reduce(Int128(0)) { $0 + ($1.value[name] ?? 0) }
      let sum = messages.filter { $0.measure == measure.rawValue }.reduce(Int128(0)) { $0 + $1.variance.actual }
      #expect(sum == right, "\(name), \(place())")
    }
  }

  /// Every kind of event, of fault and of record is in some history; the same seed makes the same one.
  @Test func historiesShowEverything() throws {
    var kinds: Set<OrderEventKind> = []
    var (events, postings) = ([] as [HistoryEvent], [] as [HistoryPosting])
    var (unrated, final) = (0, 0)
    for seed in Self.seeds {
      let setting = try OrderToCashSetting(seed: seed)
      let made = history(setting, seed: seed)
      #expect(made == history(setting, seed: seed))
      kinds.formUnion(made.events.map(\.kind))
      events += made.events
      postings += made.postings
      unrated += setting.books(made).cells.values.filter { $0["unrated"] ?? 0 != 0 }.count
      final += setting.calendar == nil ? 0 : 1
    }
    #expect(kinds == Set(OrderEventKind.allCases))
    #expect(Set(events.map(\.currency.exponent)) == [0, 2, 3])
    #expect(Set(postings.map(\.role)).isSuperset(of: [.returns, .deposit, .fees, .clearing, .writeOff, .deferred]))
    #expect(events.contains { $0.kind == .returned && $0.quantity_u == nil })
    #expect(events.contains { $0.kind == .returned && $0.quantity_u != nil })
    #expect(events.contains { $0.kind == .invoiced && $0.service != nil })
    #expect(events.contains { $0.documentLine == "20" } && postings.contains { $0.documentLine == "20" })
    #expect(events.contains { $0.kind == .invoiceCancelled } && events.contains { $0.kind == .cancelled })
    #expect(postings.contains { $0.period != 0 } && postings.contains { $0.baseAmount != nil })
    #expect(postings.contains { !$0.reverses.isEmpty } && postings.contains { $0.quantity_u != nil })
    #expect(unrated > 0 && final > 0)
  }
}
