import Aggregates
import Domain
import Simulation
import Testing

@testable import Matching

/// What cancelled invoices take back in the aggregates: what was billed under their number, as in the tie.
@Suite struct CancellationTests {
  let r = Records()
  static let april = t0 + 30 * 24 * hour

  func matcher(plainly: Bool) -> Matcher {
    var matcher = Matcher(policy: testPolicy(), dimensionCount: 0)
    matcher.aggregates = TaskAggregates(dimensionCount: 0)
    if !plainly { matcher.quality = TaskQuality(sourceCount: 2) }
    return matcher
  }

  /// "202603 100 119 1": billings, gross billed, events, and how many have no value where there are such.
  func texts(_ matcher: borrowing Matcher) -> [String] {
    var table = CellTable(dimensionCount: 0)
    matcher.mergeAggregates(into: &table)
    return table.lines.filter { !$0.values.isZero }.map {
      let unvalued = $0.values[.unvalued]
      return "\($0.key.period) \($0.values.value(.billings)) \($0.values.value(.billedGross)) \($0.values[.events])"
        + (unvalued == 0 ? "" : " \(unvalued)")
    }
  }

  func cancelled(
    _ id: String, at time_ms: Int64 = april, document: String = "D1", net: Int64? = nil, gross: Int64? = nil
  ) -> Input {
    .order(r.event("O1", .invoiceCancelled, id: id, at: time_ms, document: document, net: net, gross: gross))
  }

  @Test(arguments: [true, false]) func itIsWhatWasBilledAndOnce(plainly: Bool) {
    let sale = Input.order(r.event("O1", document: "D1", net: 100, gross: 119))
    let again = Input.order(r.event("O1", at: Self.april + hour, document: "D1", net: 90, gross: 107))
    let other = Input.order(r.event("O1", document: "D2", net: 5, gross: 6))
    var withdrawn = r.event("O1", .invoiceCancelled, id: "c1", at: Self.april, document: "D1", net: 100, gross: 119)
    withdrawn.isDelete = true
    withdrawn.position.offset += 1_000
    let back = ["202603 100 119 1", "202604 -100 -119 1"]
    let cases: [([Input], [String])] = [
      ([sale, cancelled("c1", net: 100, gross: 119)], back),
      ([sale, cancelled("c1", net: -100, gross: -119)], back),
      ([sale, cancelled("c1", net: 100)], back),
      ([sale, cancelled("c1")], back),
      (
        [sale, cancelled("c1", net: 100, gross: 119), cancelled("c2", net: 100, gross: 119)],
        [back[0], "202604 -100 -119 2"]
      ),
      ([sale, cancelled("c1", net: 100, gross: 119), again], [back[0], "202604 -10 -12 2"]),
      ([sale, other, cancelled("c1", net: 100, gross: 119)], ["202603 105 125 2", back[1]]),
      ([sale, cancelled("c1", at: t0 - hour, net: 100, gross: 119)], ["202603 0 0 2"]),
      // Of what is not known it is what it says.
      ([cancelled("c1", net: 100, gross: 119)], [back[1]]),
      ([sale, cancelled("c1", document: "D3", net: 7, gross: 8)], [back[0], "202604 -7 -8 1"]),
      ([sale, cancelled("c1", document: "", net: 7, gross: 8)], [back[0], "202604 -7 -8 1"]),
      ([sale, cancelled("c1", document: "D3")], [back[0], "202604 0 0 1 1"]),
      ([sale, cancelled("c1", net: 100, gross: 119), .order(withdrawn)], [back[0]]),
    ]
    var generator = SeededGenerator(state: 7)
    for (inputs, wanted) in cases {
      for _ in 0..<8 {
        var all = inputs
        for _ in 0..<Int.random(in: 0...2, using: &generator) { all.append(inputs[0]) }
        if inputs.count > 2, case .order(let last) = inputs[inputs.count - 1], last.isDelete {
        } else {
          all.shuffle(using: &generator)
        }
        var matcher = matcher(plainly: plainly)
        var outputs = MatchOutputs()
        matcher.take(all, into: &outputs)
        #expect(texts(matcher) == wanted)
        matcher.finish(outputs: &outputs)
        #expect(texts(matcher) == wanted)
      }
    }
  }

  /// A state of before has taken cancellations by what they say.
  @Test func anEarlierStateIsTakenUp() throws {
    let inputs = [
      Input.order(r.event("O1", document: "D1", net: 100, gross: 119)), cancelled("c1", net: 100),
    ]
    var first = matcher(plainly: true)
    var outputs = MatchOutputs()
    first.take(inputs, into: &outputs)
    let wanted = texts(first)
    first.aggregateCancelled(1, sign: -1)
    first.settleAggregates()
    #expect(texts(first) == ["202603 100 119 1", "202604 -100 0 1"])
    let state = WrittenState(first)
    first.aggregates = nil
    let sums = WrittenState(first)
    var second = matcher(plainly: true)
    second.watermarks = first.watermarks
    try second.read(shard: state.shard)
    try second.read(sums: sums.sums)
    try second.read(cells: state.cells)
    second.takeBackCancelled()
    #expect(texts(second) == wanted)
    // It goes on as one that has always known.
    second.take([.order(r.event("O1", at: Self.april + hour, document: "D1", net: 90, gross: 107))], into: &outputs)
    #expect(texts(second) == ["202603 100 119 1", "202604 -10 -12 2"])
  }
}
