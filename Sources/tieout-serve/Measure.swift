import ArgumentParser
import Configuration
import Console
import ConsoleStore
import Domain
import Foundation
import Pipeline

struct Measure: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Fills a store with made-up breaks and says how fast that went.",
    discussion: """
      The breaks go into the store in batches as the projector makes them, without Kafka between. `tieout-serve serve \
      --directory` of the same folder then serves them, for measuring lists.

      EXAMPLE
        tieout-serve measure --config config/examples/flat.yaml --directory /tmp/million --breaks 1000000
      """)

  @Option(help: "Configuration file.") var config: String
  @Option(help: "Folder of the store.") var directory: String
  @Option(help: "Breaks.") var breaks = 1_000_000
  @Option(help: "Breaks of a batch.") var batch = 10_000

  func run() throws {
    do {
      var configuration = try Configuration.load(path: config)
      configuration.serve.directory = directory
      try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
      let store = try ConsoleServer.openStore(configuration)
      try store.clear()
      var made = MadeBreaks(dimensions: configuration.dimensions)
      var spent_ns: UInt64 = 0
      var slowest_ns: UInt64 = 0
      let cpu = cpu_us()
      var count = 0
      while count < breaks {
        let records = (0..<min(batch, breaks - count)).map { made.next(count + $0) }
        count += records.count
        let started = DispatchTime.now().uptimeNanoseconds
        _ = try store.apply(records, now_ms: wallClock_ms())
        let taken = DispatchTime.now().uptimeNanoseconds - started
        spent_ns += taken
        slowest_ns = max(slowest_ns, taken)
      }
      let used_us = cpu_us() - cpu
      print(
        """
        \(count) breaks in \(spent_ns / 1_000_000) ms: \(UInt64(count) * 1_000_000_000 / max(spent_ns, 1)) a second; \
        slowest batch \(slowest_ns / 1_000_000) ms; \(used_us / Int64(max(count, 1))) µs of CPU each, making them included
        """)
    } catch { fail(error) }
  }

  private func cpu_us() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
    return Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1_000
  }
}

/// Breaks of every kind in a mix that is the same every time.
private struct MadeBreaks {
  private var encoder: BreakEncoder
  private let dimensions: [String]
  private var state: UInt64 = 1
  private let types = BreakType.allCases
  private let currencies = ["EUR", "USD", "NOK", "JPY"].map { Currency($0)! }

  init(dimensions: [String]) {
    self.dimensions = dimensions
    encoder = BreakEncoder(dimensionNames: dimensions)
  }

  private mutating func random(_ bound: Int) -> Int {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return Int((state >> 33) % UInt64(bound))
  }

  mutating func next(_ number: Int) -> StoreRecord {
    let order = "SO-\(1_000_000 + number)"
    let type = types[random(types.count)]
    let expected = Int64(random(10_000_000))
    let posted = expected + Int64(random(2_000_000)) - 1_000_000
    let opened_ms = 1_700_000_000_000 + Int64(random(30_000_000)) * 1_000
    let isOpen = random(10) > 0
    let currency = currencies[random(currencies.count)]
    var made = Break(
      id: Break.id(order: order, type: type, role: .receivable), order: order, type: type, role: .receivable,
      currency: currency, expected: expected, posted: posted, state: isOpen ? .open : .autoCleared,
      isProvisional: false, revision: 1, firstEventTime_ms: opened_ms, deadline_ms: opened_ms + 700_000_000,
      asOf_ms: opened_ms + 700_000_000)
    made.severity = Severity.allCases[random(4)]
    made.customer = "C\(random(20_000))"
    made.dimensions = dimensions.map { "\($0)-\(random(12))" }
    made.reason = "posted differs from expected by \(posted - expected)"
    made.events = ["E-\(number)-1", "E-\(number)-2"]
    made.journals = ["JE\(number)"]
    made.roles = [AccountRole.receivable, .revenue, .tax].map {
      Break.RoleEvidence(role: $0, currency: currency, expected: expected, posted: posted)
    }
    return StoreRecord(
      kind: .breaks, place: StorePlace("measured", 0), offset: Int64(number), timestamp_ms: opened_ms,
      key: Array(made.id.utf8), value: encoder.encode(made))
  }
}
