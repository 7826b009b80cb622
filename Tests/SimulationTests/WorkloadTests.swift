import Domain
import Foundation
import Testing

@testable import Simulation

@Suite struct WorkloadTests {
  func all(_ options: WorkloadOptions) -> (records: [GeneratedRecord], truth: [TruthRow]) {
    var load = Workload(options)
    var records: [GeneratedRecord] = []
    while let record = load.next() { records.append(record) }
    return (records, load.truth)
  }

  @Test(arguments: WorkloadShape.allCases) func sameSeedSameBytes(shape: WorkloadShape) {
    var options = WorkloadOptions()
    options.shape = shape
    options.orders = 500
    options.shuffle = 50
    let (a, b) = (all(options), all(options))
    #expect(a.records.map(\.value) == b.records.map(\.value))
    #expect(a.truth == b.truth)
    options.seed = 2
    #expect(all(options).records.map(\.value) != a.records.map(\.value))
  }

  @Test(arguments: WorkloadShape.allCases) func everyRecordIsJSONAndEveryFaultIsLabelled(shape: WorkloadShape) throws {
    var options = WorkloadOptions()
    options.shape = shape
    options.orders = 2_000
    options.faultsPer10000 = 2_000
    let (records, truth) = all(options)
    for record in records { _ = try JSONSerialization.jsonObject(with: Data(record.value)) }
    #expect(Set(truth.map(\.order)).count == truth.count, "one fault an order")
    let kinds = Set(truth.map(\.cause))
    #expect(kinds.isSuperset(of: shape == .flat ? Workload.faults : Workload.ledgerFaults))
    if shape == .flat {
      let sizes = records.map(\.value.count)
      #expect(sizes.allSatisfy { (280...380).contains($0) }, "\(sizes.min()!)…\(sizes.max()!)")
    }
  }

  @Test func postingsTrailByTheShuffleAtMost() {
    var options = WorkloadOptions()
    options.orders = 300
    options.shuffle = 20
    options.faultsPer10000 = 0
    var orders = 0
    var seen: [[UInt8]: Int] = [:]
    for record in all(options).records {
      if record.isOrder {
        orders += 1
        seen[record.key] = orders
      } else {
        #expect(orders - seen[record.key]! <= 20)
      }
    }
    #expect(orders == 300)
  }

  @Test func noFaultsMeansNoTruth() {
    var options = WorkloadOptions()
    options.faultsPer10000 = 0
    options.orders = 100
    options.redeliveriesPer10000 = 1_000
    let (records, truth) = all(options)
    #expect(truth.isEmpty)
    #expect(records.count > 200)
  }

  @Test func swapsTwoDigits() {
    #expect(Workload.swapped(718_08) == 178_08)
    #expect(Workload.swapped(1_111) == nil)
    #expect(Workload.swapped(1_00) == nil)
  }

  @Test func comparisonSeesEveryDifference() {
    let row = TruthRow(order: "A", cause: "CUTOFF", role: .revenue, expected: -1_00, posted: -1_00, isAccepted: false)
    let good = TruthComparison.Found(
      order: "A", type: "CUTOFF", hints: [], role: "revenue", expected: "-1.00", posted: "-1.00", isAccepted: false)
    #expect(TruthComparison(truth: [row], breaks: [good]).isPerfect)
    #expect(TruthComparison(truth: [row], breaks: []).missed == ["A: CUTOFF"])
    #expect(TruthComparison(truth: [row], breaks: [good, good]).wrong.count == 1)
    var other = good
    other.posted = "-1.01"
    #expect(TruthComparison(truth: [row], breaks: [other]).wrong.count == 1)
  }
}
