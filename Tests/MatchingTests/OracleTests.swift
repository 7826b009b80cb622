import Domain
import Simulation
import Testing

@testable import Matching

/// Random histories with shipments, reversals, split and foreign-currency postings, against an oracle that shares no
/// code with the matcher.
@Suite struct OracleTests {
  func inputs(_ history: History, _ storage: HistoryStorage) -> [Input] {
    history.events.map { .order(storage.record($0)) } + history.postings.map { .posting(storage.record($0)) }
  }

  @Test(arguments: 0..<400 as Range<UInt64>) func finalBreaksAreTheOracles(seed: UInt64) {
    var generator = HistoryGenerator(seed: seed, start_ms: t0)
    let history = generator.next()
    let oracle = NaiveOracle(history)
    let storage = HistoryStorage()
    var random = SeededRandom(seed: seed)
    for round in 0..<3 {
      let breaks = finalBreaks(inputs(history, storage).shuffled(using: &random)).values
      let open = breaks.filter { $0.state.isOpen || $0.state == .accepted }
      let place = "seed \(seed) round \(round)"
      #expect(Set(open.map(\.order)) == Set(oracle.differences.keys.map(\.order)), "\(place)")
      for made in open {
        for evidence in made.roles {
          let side = NaiveOracle.Side(order: made.order, role: evidence.role, currency: evidence.currency)
          let right = oracle.balances[side] ?? .init()
          #expect(evidence.expected == right.expected, "\(place) \(side)")
          #expect(evidence.posted == right.posted, "\(place) \(side)")
        }
        let named = Set(made.roles.map { NaiveOracle.Side(order: made.order, role: $0.role, currency: $0.currency) })
        let wrong = oracle.differences.keys.filter { $0.order == made.order }
        #expect(named.isSuperset(of: wrong), "\(place) \(made.id)")
        // What is missing is something, and the break is as large as that.
        if made.type == .missingInLedger {
          #expect(made.delta != 0 && made.delta == made.affected, "\(place) \(made.id)")
        }
      }
    }
    withExtendedLifetime(storage) {}
  }
}
