import Domain
import Testing

@testable import Aggregates

/// The formulas, on a small order-to-cash history with known answers, and as identities over random ones.
@Suite struct MeasureTests {
  static func posting(_ role: AccountRole, _ amount: Int64, _ period: Int32) -> Fact {
    var fact = Fact()
    (fact.role, fact.amount, fact.eventPeriod, fact.postingPeriod) = (role, amount, period, period)
    return fact
  }

  static func event(_ kind: OrderEventKind, _ amounts: [AmountComponent: Int64], _ period: Int32) -> Fact {
    var fact = Fact()
    (fact.kind, fact.amounts, fact.eventPeriod, fact.postingPeriod) = (kind, amounts, period, period)
    return fact
  }

  /// A year's subscription of 1,200 net billed in advance in January, a third released by April, half paid; a point
  /// sale of 500 with freight 20 and a discount of 50, of which 100 is credited, and 30 less are paid for paying early.
  static let history: [Fact] = {
    let p1: Int32 = 202_401
    var facts = [
      event(.booked, [.net: 1_200], p1), event(.booked, [.net: 600], p1), event(.changed, [.net: -60], p1),
      event(.cancelled, [.net: 40], 202_402),
      event(.invoiced, [.net: 1_200, .tax: 240, .gross: 1_440], p1),
      posting(.receivable, 1_440, p1), posting(.deferred, -1_200, p1), posting(.tax, -240, p1),
      event(.invoiced, [.net: 500, .freight: 20, .discount: 50, .tax: 94, .gross: 564], 202_402),
      posting(.receivable, 564, 202_402), posting(.revenue, -500, 202_402), posting(.freight, -20, 202_402),
      posting(.discount, 50, 202_402), posting(.tax, -94, 202_402),
      event(.credited, [.net: 100, .tax: 20, .gross: 120], 202_403),
      posting(.returns, 100, 202_403), posting(.tax, 20, 202_403), posting(.receivable, -120, 202_403),
      event(.paid, [.applied: 720], 202_402), posting(.cash, 720, 202_402), posting(.receivable, -720, 202_402),
      event(.discountTaken, [.discount: 30], 202_403), posting(.discount, 30, 202_403),
      posting(.receivable, -30, 202_403),
      event(.shipped, [.cost: 310], 202_402), posting(.cogs, 310, 202_402), posting(.inventory, -310, 202_402),
    ]
    for month: Int32 in 1...4 {
      facts.append(event(.recognised, [.net: 100], 202_400 + month))
      facts += [posting(.deferred, 100, 202_400 + month), posting(.revenue, -100, 202_400 + month)]
    }
    return facts
  }()

  @Test func aKnownHistory() {
    var table = CellTable(dimensionCount: 0)
    for fact in MeasureTests.history { table.add(fact) }
    let lines = table.lines
    #expect(lines.map(\.key.period) == [202_401, 202_402, 202_403, 202_404])
    func series(_ measure: Measure) -> [Int128] { lines.map { $0.values.value(measure) } }
    #expect(series(.bookings) == [1_740, -40, 0, 0])
    #expect(series(.billings) == [1_200, 500, -100, 0])
    #expect(series(.backlogMovement) == [540, -540, 100, 0])
    #expect(series(.billedRevenue) == [1_200, 470, -130, 0])
    #expect(series(.recognisedRevenue) == [100, 570, -30, 100])
    #expect(series(.grossRevenue) == [100, 600, 100, 100])
    #expect(series(.deferredMovement) == [1_100, -100, -100, -100])
    #expect(series(.deferredDifference) == [0, 0, 0, 0])
    #expect(series(.releasesDue) == [100, 100, 100, 100])
    #expect(series(.receivableMovement) == [1_440, -156, -150, 0])
    #expect(series(.receivableExpected) == series(.receivableMovement))
    #expect(series(.cashIn) == [0, 720, 0, 0] && series(.cashExpected) == [0, 720, 0, 0])
    #expect(series(.cogs) == [0, 310, 0, 0] && series(.shippedCost) == [0, 310, 0, 0])
    #expect(series(.grossMargin) == [100, 260, -30, 100])
    #expect(series(.billedTax) == [240, 94, -20, 0] && series(.taxPosted) == [240, 94, -20, 0])
    #expect(series(.rpoMovement) == [1_640, -640, 0, -100])
    #expect(lines[0].values.bookToBill_u == 1_450_000 && lines[3].values.bookToBill_u == nil)
    #expect(lines[1].values.marginRate_u() == 456_140)
    let deferred = RollForward.of(.deferred, lines)
    #expect(deferred.map(\.opening) == [0, 1_100, 1_000, 900])
    #expect(deferred.map(\.closing) == [1_100, 1_000, 900, 800])
    #expect(RollForward.of(.backlog, lines).map(\.closing) == [540, 0, 100, 100])
    let rpo = RollForward.of(.rpo, lines)
    #expect(rpo.map(\.closing) == [1_640, 1_000, 1_000, 900])
    #expect(rpo.map(\.additions) == [1_740, -40, 0, 0] && rpo.map(\.reductions) == [100, 600, 0, 100])
    #expect(RollForward.of(.receivable, lines).map(\.closing) == [1_440, 1_284, 1_134, 1_134])
  }

  /// Histories in which every event is posted as it should be: revenue and receivables tie out in every cell, and the
  /// balances roll.
  @Test(arguments: Array(1...20) as [UInt64]) func rollForwardsHold(_ seed: UInt64) {
    var generator = SeededGenerator(seed)
    var table = CellTable(dimensionCount: 1)
    var direct: (billed: Int128, recognised: Int128, deferred: Int128, unbilled: Int128) = (0, 0, 0, 0)
    for _ in 0..<200 {
      let period = 202_400 + Int32.random(in: 1...12, using: &generator)
      let (net, tax) = (Int64.random(in: 1...90_000, using: &generator), Int64.random(in: 0...9_000, using: &generator))
      var facts: [Fact]
      switch Int.random(in: 0..<4, using: &generator) {
      case 0:
        facts = [
          MeasureTests.event(.invoiced, [.net: net, .tax: tax, .gross: net + tax], period),
          MeasureTests.posting(.receivable, net + tax, period), MeasureTests.posting(.revenue, -net, period),
          MeasureTests.posting(.tax, -tax, period),
        ]
        direct.billed += Int128(net)
        direct.recognised += Int128(net)
      case 1:
        facts = [
          MeasureTests.event(.invoiced, [.net: net, .tax: tax, .gross: net + tax], period),
          MeasureTests.posting(.receivable, net + tax, period), MeasureTests.posting(.deferred, -net, period),
          MeasureTests.posting(.tax, -tax, period),
        ]
        direct.billed += Int128(net)
        direct.deferred += Int128(net)
      case 2:
        facts = [MeasureTests.posting(.deferred, net, period), MeasureTests.posting(.revenue, -net, period)]
        direct.recognised += Int128(net)
        direct.deferred -= Int128(net)
      default:
        facts = [MeasureTests.posting(.unbilled, net, period), MeasureTests.posting(.revenue, -net, period)]
        direct.recognised += Int128(net)
        direct.unbilled += Int128(net)
      }
      let segment = ["a", "b", "c"].randomElement(using: &generator)!
      for var fact in facts {
        fact.dimensions = [segment]
        table.add(fact)
      }
    }
    let lines = table.lines
    for line in lines {
      #expect(line.values.value(.deferredDifference) == 0)
      #expect(line.values.value(.receivableExpected) == line.values.value(.receivableMovement))
    }
    var closing: Int128 = 0
    var previous: RollForward?
    for roll in RollForward.of(.deferred, lines) {
      if let previous, previous.key.series == roll.key.series {
        #expect(roll.opening == previous.closing)
      } else {
        #expect(roll.opening == 0)
        closing += previous?.closing ?? 0
      }
      previous = roll
    }
    closing += previous?.closing ?? 0
    // Deferred end = opening + billings − recognised; what was recognised before billing stands in unbilled.
    #expect(closing == direct.billed - direct.recognised)
    #expect(closing == direct.deferred - direct.unbilled)
  }

  /// Measures are linear: those of summed cells are the sums of the measures.
  @Test(arguments: Array(1...10) as [UInt64]) func measuresAddUp(_ seed: UInt64) {
    var generator = SeededGenerator(seed)
    var table = CellTable(dimensionCount: 2)
    for fact in randomFacts(300, dimensions: 2, &generator) where !fact.isBase { table.add(fact) }
    var total = CellValues()
    for line in table.lines { total += line.values }
    for measure in Measure.allCases {
      for basis in DateBasis.allCases {
        let sum = table.lines.reduce(Int128(0)) { $0 + $1.values.value(measure, basis) }
        #expect(total.value(measure, basis) == sum)
        if !measure.isPosted {
          #expect(table.lines.allSatisfy { $0.values.value(measure, .event) == $0.values.value(measure, .posting) })
        }
      }
    }
    // By event date and by posting date, the same postings: only the periods differ.
    for role in AccountRole.allCases { #expect(total[role, .event] == total[role, .posting]) }
  }

  @Test func divisionRoundsHalfToEven() {
    #expect(dividedHalfEven(5, 2) == 2 && dividedHalfEven(7, 2) == 4 && dividedHalfEven(-5, 2) == -2)
    #expect(dividedHalfEven(-7, 2) == -4 && dividedHalfEven(7, -3) == -2 && dividedHalfEven(8, -3) == -3)
    #expect(dividedHalfEven(1, 2) == 0 && dividedHalfEven(-1, 2) == 0 && dividedHalfEven(3, -2) == -2)
  }

  @Test func partialsSurviveTheWay() throws {
    var values = CellValues()
    values[.billedNet] = .max
    values[.cash, .posting] = -3
    values[.intercompany, .posting] = Int128(Int64.min)
    let line = CellLine(
      key: CellKey(dimensions: ["EMEA", "(other)", ""], currency: Currency("JPY")!, isBase: true, period: 202_413),
      values: values)
    let partial = CellPartial(task: 7, epoch: 1 << 40, line: line)
    var key = ByteWriter()
    var value = ByteWriter()
    partial.writeKey(into: &key)
    partial.writeValue(into: &value)
    #expect(try CellPartial(key: key.bytes, value: value.bytes) == partial)
    #expect(CellPartial.isKey(key.bytes))
    #expect((0..<8).contains(partial.partition(of: 8)))
    for length in 0..<value.count {
      let cut = UnsafeRawBufferPointer(rebasing: value.bytes[..<length])
      #expect(throws: ByteCodingError.self) { try CellPartial(key: key.bytes, value: cut) }
    }
  }
}
