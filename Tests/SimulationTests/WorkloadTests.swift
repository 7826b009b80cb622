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
    #expect(kinds.isSuperset(of: FaultKind.all(in: shape).map(\.rawValue)))
    if shape == .flat {
      #expect(records.allSatisfy { $0.value.count == options.recordBytes })
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

  /// The bytes of a seed are a promise: benchmarks and saved seeds of other versions stay comparable. FNV-1a, 64 bits.
  @Test func bytesOfASeedAreFixed() {
    func hash(_ shape: WorkloadShape) -> UInt64 {
      var options = WorkloadOptions()
      options.shape = shape
      options.orders = 1_000
      options.shuffle = 100
      options.redeliveriesPer10000 = 100
      return all(options).records.reduce(0xcbf2_9ce4_8422_2325) { hash, record in
        (record.key + record.value).reduce(hash) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
      }
    }
    #expect(hash(.flat) == 1_286_243_697_643_275_934)
    #expect(hash(.northwind) == 8_413_910_361_751_167_032)
  }

  @Test func transpositionsSwapTwoNeighbouringDigits() throws {
    var random = SeededRandom(seed: 5)
    for _ in 0..<2_000 {
      let amount = Int64(1_000 + random.below(9_999_999))
      guard let swapped = SimulatedOrder.transposed(amount, isTelling: { _ in true }, &random) else { continue }
      let (a, b) = (Array(String(amount).utf8), Array(String(swapped).utf8))
      try #require(a.count == b.count)
      let different = a.indices.filter { a[$0] != b[$0] }
      #expect(different.count == 2 && different[1] == different[0] + 1)
      #expect(a[different[0]] == b[different[1]] && a[different[1]] == b[different[0]])
    }
    #expect(SimulatedOrder.transposed(1_111, isTelling: { _ in true }, &random) == nil)
    #expect(SimulatedOrder.transposed(100, isTelling: { _ in true }, &random) == nil, "10 and 1 are shorter")
    #expect(SimulatedOrder.transposed(12, isTelling: { $0 != 9 }, &random) == nil, "9 is another break's difference")
  }

  /// Parses what was written and sums it up: what the truth says must be what the records say.
  @Test(arguments: WorkloadShape.allCases) func truthIsWhatTheRecordsSay(shape: WorkloadShape) throws {
    var options = WorkloadOptions()
    options.shape = shape
    options.orders = 3_000
    options.faultsPer10000 = 5_000
    options.splitsPer10000 = 2_000
    options.ledgerFirstPer10000 = 1_000
    options.shuffle = 40
    let accounts: [String: AccountRole] = [
      "1200": .receivable, "2400": .tax, "4000": .revenue, "4100": .freight, "6900": .rounding,
    ]
    func units(_ text: Any?) throws -> Int64 { try Money(#require(text as? String), Currency("USD")!).minorUnits }
    var expected: [String: [AccountRole: Int64]] = [:]
    var posted: [String: [AccountRole: Int64]] = [:]
    let (records, truth) = all(options)
    for record in records {
      let object = try #require(try JSONSerialization.jsonObject(with: Data(record.value)) as? [String: Any])
      let key = String(decoding: record.key, as: UTF8.self)
      if record.isOrder {
        #expect((object["order_id"] ?? object["id"]) as? String == key)
        let amounts = try #require(shape == .flat ? object : object["amounts"] as? [String: Any])
        expected[key] = [
          .receivable: try units(amounts["gross"]), .revenue: -(try units(amounts["net"])),
          .tax: -(try units(amounts["tax"])), .freight: -(try units(amounts["freight"])),
        ]
        #expect(expected[key]!.values.reduce(0, +) == 0, "\(key): net, tax and freight are gross")
      } else {
        let line = try #require(shape == .flat ? object : object["after"] as? [String: Any])
        let role = try #require(accounts[line["account"] as? String ?? ""])
        let amount = try shape == .flat ? units(line["amount"]) : units(line["debit"]) - units(line["credit"])
        posted[key, default: [:]][role, default: 0] += amount
      }
    }
    let faulty = Dictionary(uniqueKeysWithValues: truth.map { ($0.order, $0) })
    #expect(faulty.count > 1_000)
    for row in truth {
      #expect(row.expected == expected[row.order].map { $0[row.role] ?? 0 }, "\(row)")
      #expect(row.posted == posted[row.order].map { $0[row.role] ?? 0 }, "\(row)")
    }
    for (key, right) in expected where faulty[key] == nil {
      let ledger = posted[key] ?? [:]
      let roles: [AccountRole] = shape == .flat ? [.receivable] : [.receivable, .revenue, .tax, .freight]
      for role in roles { #expect(ledger[role] ?? 0 == right[role], "\(key) \(role)") }
    }
  }

  @Test func noiseIsThereAndLabelledAsNone() throws {
    var options = WorkloadOptions()
    options.faultsPer10000 = 0
    options.orders = 2_000
    options.shuffle = 30
    options.ledgerFirstPer10000 = 3_000
    options.splitsPer10000 = 3_000
    options.hotKeysPer10000 = 50
    options.invoicesPerHotKey = 10
    options.redeliveriesPer10000 = 500
    let (records, truth) = all(options)
    #expect(truth.isEmpty)
    var firstOrder: [[UInt8]: Int] = [:]
    var firstPosting: [[UInt8]: Int] = [:]
    var count: [[UInt8]: Int] = [:]
    for (index, record) in records.enumerated() {
      if record.isOrder {
        firstOrder[record.key] = firstOrder[record.key] ?? index
      } else {
        firstPosting[record.key] = firstPosting[record.key] ?? index
      }
      count[record.key, default: 0] += 1
    }
    #expect(firstOrder.count == 2_000 && firstPosting.count == 2_000)
    #expect(firstOrder.filter { $0.value > firstPosting[$0.key]! }.count > 400, "postings before their order")
    #expect(count.values.filter { $0 >= 20 }.count >= 3, "hot keys")
    #expect(Set(records.map(\.value)).count < records.count - 100, "second deliveries, byte for byte")
    #expect(records.filter { String(decoding: $0.value, as: UTF8.self).contains("-2\",\"journal_id") }.count > 400)
  }

  @Test func arrivalTimesRiseInTheLedgerUnlessToldOtherwise() {
    var options = WorkloadOptions()
    options.orders = 1_000
    options.shuffle = 50
    options.faultsPer10000 = 0
    func disorder() -> Int64 {
      var largest = Int64.min
      var worst: Int64 = 0
      for record in all(options).records where !record.isOrder {
        worst = max(worst, largest == .min ? 0 : largest - record.time_ms)
        largest = max(largest, record.time_ms)
      }
      return worst
    }
    #expect(disorder() > 10 * options.interval_us / 1_000)
    options.postsAtArrival = true
    #expect(disorder() == 0)
  }

  @Test func currenciesHaveTheirOwnDecimals() throws {
    var options = WorkloadOptions()
    options.orders = 500
    options.faultsPer10000 = 2_000
    options.currencies = [(Currency("USD")!, 2), (Currency("JPY")!, 1), (Currency("KWD")!, 1)]
    let (records, truth) = all(options)
    var seen: Set<String> = []
    for record in records where record.isOrder {
      let object = try #require(try JSONSerialization.jsonObject(with: Data(record.value)) as? [String: String])
      let decimals = object["gross"]!.split(separator: ".").dropFirst().first?.count ?? 0
      #expect(decimals == Currency(object["currency"]!)!.exponent)
      seen.insert(object["currency"]!)
    }
    #expect(seen == ["USD", "JPY", "KWD"])
    for row in truth where row.cause == "CURRENCY_MISMATCH" {
      #expect(row.postedCurrency != row.currency && row.postedCurrency.exponent == row.currency.exponent)
    }
  }

  @Test func onlyTheFaultsAskedFor() {
    var options = WorkloadOptions()
    options.faults = [.cutoff, .rounding]
    options.faultsPer10000 = 10_000
    options.orders = 200
    options.customers = 1
    #expect(Set(all(options).truth.map(\.type)) == [.cutoff], "rounding does not exist in the flat shape")
    var load = Workload(options)
    while load.next() != nil {}
    #expect(load.takeTruth().count == 200 && load.truth.isEmpty)
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
    let hinted = TruthRow(
      order: "A", cause: "SCALE_ERROR", role: .receivable, expected: 1, posted: 100, isAccepted: false,
      currency: Currency("JPY")!)
    #expect(hinted.type == .amountMismatch && hinted.hints == [.scaleError])
    #expect(hinted.csv == "A,SCALE_ERROR,receivable,1,100")
  }
}
