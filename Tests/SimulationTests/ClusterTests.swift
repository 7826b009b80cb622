import Configuration
import Foundation
import Pipeline
import Testing

@testable import Simulation

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

  @Test func seedsThatFoundFaultsStayGood() throws {
    let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent().path + "/Regressions/seeds.txt"
    var count = 0
    for line in try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n") where !line.hasPrefix("#") {
      let words = line.split(separator: " ")
      let seed = try #require(UInt64(words[0]))
      var options = SimulationOptions()
      options.delivery = Delivery(rawValue: String(words[1]))
      options.tellsWholeOrders = words[2] == "all"
      let outcome = try run(seed..<seed + 1, options)[0]
      #expect(outcome.failures == [], "tieout simulate --first \(seed) --seeds 1 --trace")
      count += 1
    }
    #expect(count > 0)
  }

  /// Every part is there in some run: routing, the second stage, directories, retention.
  @Test func runsCoverEveryPart() throws {
    let runs = try (1..<250 as Range<UInt64>).map { try ClusterSimulation(seed: $0) }
    #expect(runs.contains { $0.rawPartitions > 0 } && runs.contains { $0.hasTotals })
    #expect(runs.contains { $0.isInDirectory && $0.isTrimming } && runs.contains { $0.isInDirectory && !$0.isTrimming })
    #expect(runs.contains { $0.rawPartitions > 0 && $0.hasTotals && $0.isInDirectory })
    #expect(runs.contains { $0.hasBacklog && $0.rawPartitions == 2 } && runs.contains { $0.hasBacklog && $0.hasTotals })
    #expect(runs.contains { $0.tables?.isMasked == true && $0.configuration.hold!.time_ms < 3 * 3_600_000 })
    #expect(runs.contains { $0.tables?.isMasked == false && $0.configuration.hold!.records < 4 })
    #expect(runs.contains { $0.tables?.hasPolicies == true } && runs.contains { $0.tables?.hasPolicies == false })
  }

  /// Sources wait for one that is behind, and it costs no record.
  @Test func sourcesWaitForEachOther() throws {
    let outcomes = try run(1..<40)
    #expect(outcomes.map(\.withheld).reduce(0, +) > 10)
    #expect(outcomes.flatMap(\.failures) == [])
  }

  /// What shows only where whole orders are told, few kinds of events do not find.
  @Test func wholeOrdersFindMore() throws {
    var options = SimulationOptions()
    options.delivery = .exactlyOnce
    options.defect = .quantitiesNotCounted
    options.tellsWholeOrders = true
    let found = try run(1..<100, options).filter { !$0.failures.isEmpty }
    #expect(!found.isEmpty)
    options.tellsWholeOrders = false
    for outcome in try run(1..<100, options) { #expect(outcome.failures == [], "seed \(outcome.seed)") }
  }

  /// The simulator must be able to fail: each planted defect is found.
  @Test(arguments: [
    Defect.offsetsBeforeOutputs, .epochOutsideTransaction, .replayOutOfOrder, .shardOneEpochLate, .zombieNotFenced,
    .replayByTheClock, .abortWithoutRewind, .unstableOffsets, .routedBeforeOffsets, .totalsForgotten,
    .directorySharedByTasks, .heldNotRestored, .quantitiesNotCounted, .policiesNotRestored, .sourcesNotRestored,
    .postingsNotMoved, .originsTakenTogether, .movesRoutedOnce,
  ]) func plantedDefectsAreFound(defect: Defect) throws {
    var options = SimulationOptions()
    options.delivery = .exactlyOnce
    options.defect = defect
    let isFound = try (1..<2_000 as Range<UInt64>).contains {
      try !ClusterSimulation(seed: $0, options: options).run().failures.isEmpty
    }
    #expect(isFound)
  }
}
