import Configuration
import Testing

@testable import Pipeline

struct EpochLengthTests {
  let configuration = {
    var configuration = Configuration()
    configuration.epochInterval_ms = 100
    configuration.epochBacklogInterval_ms = 500
    configuration.epochRecords = 50_000
    return configuration
  }()

  @Test func endsAtItsIntervalWhereNothingWaits() {
    #expect(!configuration.endsEpoch(after_ms: 99, records: 5_000, inputs: 8, backlog: 0))
    #expect(configuration.endsEpoch(after_ms: 100, records: 5_000, inputs: 8, backlog: 0))
    #expect(configuration.endsEpoch(after_ms: 100, records: 0, inputs: 8, backlog: 0))
  }

  @Test func goesOnWhileAsMuchWaitsAsItHasTaken() {
    #expect(!configuration.endsEpoch(after_ms: 100, records: 5_000, inputs: 8, backlog: 5_000))
    #expect(configuration.endsEpoch(after_ms: 100, records: 5_000, inputs: 8, backlog: 4_999))
    #expect(!configuration.endsEpoch(after_ms: 499, records: 5_000, inputs: 8, backlog: 1_000_000))
    #expect(configuration.endsEpoch(after_ms: 500, records: 5_000, inputs: 8, backlog: 1_000_000))
  }

  @Test func aFewThatWaitAreNoBacklog() {
    #expect(configuration.endsEpoch(after_ms: 100, records: 10, inputs: 8, backlog: 999))
    #expect(!configuration.endsEpoch(after_ms: 100, records: 10, inputs: 8, backlog: 1_000))
  }

  /// Behind the last record of a partition stands the marker of its transaction.
  @Test func theMarkersOfTransactionsAreNoBacklog() {
    var small = configuration
    small.epochRecords = 50
    #expect(small.endsEpoch(after_ms: 100, records: 0, inputs: 8, backlog: 9))
    #expect(small.endsEpoch(after_ms: 100, records: 1, inputs: 1, backlog: 1))
    #expect(!small.endsEpoch(after_ms: 100, records: 0, inputs: 8, backlog: 10))
  }

  @Test func isBoundedInRecords() {
    #expect(configuration.endsEpoch(after_ms: 1, records: 50_000, inputs: 8, backlog: 1_000_000))
  }

  /// Before the interval is over nobody is asked: it costs a lock for each partition.
  @Test func theBacklogIsAskedForOnlyWhereItMatters() {
    var asked = 0
    func backlog() -> Int {
      asked += 1
      return 0
    }
    _ = configuration.endsEpoch(after_ms: 50, records: 5_000, inputs: 8, backlog: backlog())
    _ = configuration.endsEpoch(after_ms: 600, records: 5_000, inputs: 8, backlog: backlog())
    #expect(asked == 0)
    _ = configuration.endsEpoch(after_ms: 100, records: 5_000, inputs: 8, backlog: backlog())
    #expect(asked == 1)
  }

  @Test func isNeverShorterInABacklog() throws {
    func parsed(_ epoch: String) throws -> Configuration {
      try Configuration.parse(
        yaml: """
          epoch: \(epoch)
          sources:
            orders: {kind: orders, fields: {order: o, event: {constant: invoiced}, event_time: t, gross: a, currency: {constant: EUR}}}
            ledger: {kind: ledger, fields: {order: o, role: r, currency: {constant: EUR}, event_time: t}, amount: a}
          """, file: "t.yaml", directory: ".")
    }
    #expect(try parsed("{}").epochBacklogInterval_ms == 500)
    #expect(try parsed("{interval: 2s}").epochBacklogInterval_ms == 2_000)
    #expect(try parsed("{interval: 50ms, interval_during_backlog: 50ms}").epochBacklogInterval_ms == 50)
    #expect(throws: ConfigurationError.self) { try parsed("{interval: 2s, interval_during_backlog: 1s}") }
  }
}
