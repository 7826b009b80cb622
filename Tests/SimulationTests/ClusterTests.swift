import Configuration
import Pipeline
import Simulation
import Testing

/// The workers over the simulated cluster. `tools/simulate` runs many more seeds.
@Suite struct ClusterTests {
  private func run(_ seeds: Range<UInt64>, _ options: SimulationOptions = .init()) throws -> [ClusterSimulation.Outcome]
  {
    try seeds.map { try ClusterSimulation(seed: $0, options: options).run() }
  }

  @Test(arguments: 0..<8 as Range<UInt64>) func nothingIsLostOrDoubled(part: UInt64) throws {
    for outcome in try run(part * 25 + 500_000..<part * 25 + 500_025) {
      #expect(outcome.failures == [], "tieout simulate --first \(outcome.seed) --seeds 1 --trace")
    }
  }

  @Test func aSeedIsRepeatable() throws {
    var options = SimulationOptions()
    options.isTracing = true
    for seed in [3, 4711] as [UInt64] {
      let (first, second) = (try run(seed..<seed + 1, options), try run(seed..<seed + 1, options))
      #expect(first[0].trace == second[0].trace)
      #expect(first[0].trace.count > 10)
    }
  }

  /// The simulator must be able to fail: each planted defect is found.
  @Test(arguments: [
    Defect.offsetsBeforeOutputs, .epochOutsideTransaction, .replayOutOfOrder, .shardOneEpochLate, .zombieNotFenced,
    .replayByTheClock, .abortWithoutRewind, .unstableOffsets,
  ]) func plantedDefectsAreFound(defect: Defect) throws {
    var options = SimulationOptions()
    options.delivery = .exactlyOnce
    options.defect = defect
    let isFound = try (1..<600 as Range<UInt64>).contains {
      try !ClusterSimulation(seed: $0, options: options).run().failures.isEmpty
    }
    #expect(isFound)
  }
}
