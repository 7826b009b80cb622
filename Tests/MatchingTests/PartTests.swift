import Aggregates
import Domain
import Testing

@testable import Matching

/// What a tie keeps of its differences is bounded, however many they are.
@Suite struct PartTests {
  let usd = Currency("USD")!

  private func sums(_ parts: [Finding.Part]) -> [AccountRole: Int128] {
    parts.reduce(into: [:]) { $0[$1.role, default: 0] += Int128($1.delta) }
  }

  @Test func partsOfOnePlaceAreOne() {
    let few = (0..<1_024).map { Finding.Part(currency: usd, role: .revenue, delta: Int64($0), period: 202_601) }
    #expect(Finding.bounded(few) == few)
    var many: [Finding.Part] = []
    for number in 0..<70_000 {
      let role: AccountRole = number % 2 == 0 ? .revenue : .receivable
      let period = 202_601 + Int32(number % 3)
      many.append(Finding.Part(currency: usd, role: role, delta: Int64(number), period: period))
    }
    let bounded = Finding.bounded(many)
    #expect(bounded.count == 6 && sums(bounded) == sums(many))
    // Sums that 64 bits do not hold stay apart.
    let large = (0..<2_000).map { _ in Finding.Part(currency: usd, role: .revenue, delta: .max / 3, period: 0) }
    #expect(Finding.bounded(large).count == 667 && sums(Finding.bounded(large)) == sums(large))
  }

  @Test func placesAreBounded() {
    let parts = (0..<40_000).map { Finding.Part(currency: usd, role: .revenue, delta: 1, period: Int32($0)) }
    #expect(
      Finding.bounded(parts) == [
        Finding.Part(currency: usd, role: .revenue, delta: 40_000, period: CellTable.overflowPeriod)
      ])
    var list = ChargeList(dimensions: [])
    for period in 0..<20_000 {
      list.charges.append(Charge(amount: 2, period: Int32(period), currency: usd, role: .revenue))
      list.charges.append(Charge(amount: nil, period: Int32(period), currency: usd, role: .revenue, isBase: true))
    }
    list.bound()
    #expect(list.charges.count == 2 && list.charges[0].amount == 40_000 && list.charges[1].amount == nil)
    #expect(list.charges.allSatisfy { $0.period == CellTable.overflowPeriod })
  }

  /// The most that are kept find room, and come back from a state.
  @Test func theMostPartsAreKept() throws {
    var store = RecordStore()
    let parts = (0..<Finding.maximumParts).map {
      Finding.Part(currency: usd, role: .revenue, delta: Int64($0), period: Int32($0))
    }
    let record = BreakRecord(
      next: 0, granules: 0, type: 0, role: 0, currency: 0, idCurrency: 0, state: 0, isProvisional: false, partCount: 0,
      revision: 0, content: 0)
    let ref = store.appendBreak(record, parts: parts)
    let kept = store.breakParts(ref)
    #expect(kept == parts)
    let most = (0..<BreakRecord.mostParts).map { _ in parts[0] }
    let other = store.appendBreak(record, parts: most)
    let count = store.breakRecord(other).partCount
    #expect(Int(count) == BreakRecord.mostParts)
    let charges = (0..<ChargeList.mostCharges).map {
      Charge(amount: 1, period: Int32($0), currency: usd, role: .revenue)
    }
    let list = ChargeList(
      dimensions: Array(repeating: 0, count: maximumDimensions * (maximumDimensionBytes + 1)), charges: charges)
    let third = store.appendCharges(list, next: 0)
    let again = store.charges(third)
    #expect(again == list)
  }

  /// An order of very many invoices that is cancelled.
  @Test func anOrderOfManyInvoicesIsCancelled() {
    let r = Records()
    var matcher = Matcher(policy: testPolicy(), dimensionCount: 0)
    matcher.tracksPeriods = true
    var outputs = MatchOutputs()
    let count = 9_000
    let events = (0..<count).map { r.event("O1", id: "E\($0)", net: 100, tax: 19, gross: 119) }
    events.withUnsafeBufferPointer { matcher.apply(orders: $0, now_ms: t0 + 1_000 * hour, outputs: &outputs) }
    matcher.take([.order(r.event("O1", .cancelled, at: t0 + hour))], into: &outputs)
    matcher.finish(outputs: &outputs)
    #expect(matcher.totals.lines.isEmpty && matcher.tieCount == 1)
    let kept = matcher.store.breakParts(matcher.ties[1].breaks)
    #expect(kept.map(\.delta) == [-119 * Int64(count), 100 * Int64(count), 19 * Int64(count)])
  }
}
