import Configuration
import Domain
import Foundation
import Simulation
import Testing

@testable import Pipeline

/// Damaged records of every kind between good ones, in both sources: each lands in dead letters with its line, nothing
/// else does, and the faults of the good ones are found as if nothing had happened.
@Suite struct CorruptionTests {
  @Test(arguments: WorkloadShape.allCases) func everyDamagedRecordIsADeadLetter(shape: WorkloadShape) throws {
    let scratch = Scratch()
    var options = WorkloadOptions()
    options.shape = shape
    options.orders = 1_500
    options.faultsPer10000 = 1_000
    options.shuffle = 200
    options.splitsPer10000 = 500
    options.ledgerFirstPer10000 = 500
    options.hotKeysPer10000 = 20
    options.invoicesPerHotKey = 20
    options.redeliveriesPer10000 = 200
    var load = Workload(options)
    var record = GeneratedRecord()
    var random = SeededRandom(seed: 11)
    let isFlat = shape == .flat
    var orderCorrupter = ByteCorrupter(seed: 1, keyField: isFlat ? "order_id" : "id", amountField: "gross")
    var ledgerCorrupter = ByteCorrupter(
      seed: 2, keyField: isFlat ? "order_id" : "sales_order", amountField: isFlat ? "amount" : "debit")
    var files: [[UInt8]] = [[], []]
    var lines = [0, 0]
    var damaged: [[Int: Corruption]] = [[:], [:]]
    var enormous = 0
    while load.next(into: &record) {
      let file = record.isOrder ? 0 : 1
      if random.chance(per10000: 600) {
        var kind = random.pick(Corruption.allCases)
        // Two in each file are proof enough, and ten megabytes each.
        if kind == .enormous {
          enormous += 1
          if enormous > 4 { kind = .truncated }
        }
        let bytes =
          record.isOrder
          ? orderCorrupter.corrupt(record.value, kind) : ledgerCorrupter.corrupt(record.value, kind)
        files[file] += bytes + [10]
        lines[file] += 1
        damaged[file][lines[file]] = kind
      }
      files[file] += record.value + [10]
      lines[file] += 1
    }
    let paths = [scratch.write("orders.jsonl", files[0]), scratch.write("ledger.jsonl", files[1])]
    let out = scratch.path + "/out"
    let configuration = try Configuration.load(
      path: EncoderTests.root + "/config/examples/" + (isFlat ? "flat.yaml" : "northwind.yaml"))
    let summary = try FileReconciler(
      configuration: configuration,
      options: FileRunOptions(
        orders: [paths[0]], ledger: [paths[1]], directory: out, threads: 2, now_ms: 1_790_000_000_000)
    ).run()
    var found: [Set<Int>] = [[], []]
    for line in try String(contentsOfFile: out + "/dead-letters.jsonl", encoding: .utf8).split(separator: "\n") {
      let letter = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
      let file = try #require(paths.firstIndex(of: letter["file"] as? String ?? ""))
      let number = try #require(letter["line"] as? Int)
      #expect(found[file].insert(number).inserted, "line \(number) is there once")
      #expect((letter["detail"] as? String)?.isEmpty == false)
      #expect(letter["payload"] != nil || letter["payload_base64"] != nil)
    }
    for file in 0..<2 {
      #expect(Set(damaged[file].values).count == Corruption.allCases.count, "every kind occurs")
      for (line, kind) in damaged[file] where !found[file].contains(line) {
        Issue.record("\(kind) in line \(line) of \(paths[file]) was not refused")
      }
      let innocent = found[file].subtracting(damaged[file].keys)
      #expect(innocent.isEmpty, "good records in \(paths[file])")
    }
    #expect(summary.deadLetterCount == damaged[0].count + damaged[1].count)
    let breaks = try String(contentsOfFile: out + "/breaks.jsonl", encoding: .utf8).split(separator: "\n").map {
      try JSONDecoder().decode(BreakMessage.self, from: Data($0.utf8))
    }
    let comparison = TruthComparison(
      truth: load.truth,
      breaks: breaks.map {
        .init(
          order: $0.order, type: $0.type, hints: $0.hints, role: $0.role, expected: $0.expected, posted: $0.posted,
          isAccepted: $0.state == "accepted")
      })
    #expect(load.truth.count > 80)
    #expect(comparison.missed == [])
    #expect(comparison.wrong == [])
  }
}
