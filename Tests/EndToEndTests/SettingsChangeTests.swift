import Aggregates
import Configuration
import Foundation
import Kafka
import KafkaTesting
import Logging
import Pipeline
import Testing

/// What becomes of a task between two runs, the second under other settings.
extension EndToEndTests {
  /// Runs a daemon until a condition holds, then ends it as SIGTERM does.
  func running(
    _ configuration: Configuration, until condition: (WorkerStatus) -> Bool, _ body: (Daemon) throws -> Void = { _ in }
  ) throws -> WorkerStatus {
    let daemon = Daemon(configuration: configuration, log: silent)
    try daemon.start()
    let until = Date().addingTimeInterval(60)
    while !condition(daemon.status), Date() < until { Thread.sleep(forTimeInterval: 0.02) }
    #expect(condition(daemon.status))
    try body(daemon)
    daemon.stop.stop()
    #expect(daemon.waitUntilStopped())
    return daemon.status
  }

  /// Settings under which no checkpoint falls due and no order is forgotten.
  private func prepared(_ cluster: TestCluster) throws -> Configuration {
    var configuration = try prepare("flat.yaml", cluster, partitions: 2, workers: 1)
    if cluster.kind == .embedded { configuration.kafka.delivery = .atLeastOnce }
    configuration.policy.retention_ms = 20 * 365 * 86_400_000
    configuration.policy.openRetention_ms = 20 * 365 * 86_400_000
    configuration.checkpointInterval_ms = 86_400_000
    return configuration
  }

  private func isBack(_ status: WorkerStatus) -> Bool { status.isReady && status.recoveries == 2 }

  /// A planned end leaves a checkpoint of the last epoch: nothing is replayed under the settings of the next run.
  @Test(arguments: TestCluster.kinds) func nothingIsReplayedAfterAPlannedEnd(kind: TestCluster.Kind) throws {
    let cluster = try TestCluster(kind)
    var configuration = try prepared(cluster)
    configuration.checkpoints = .topic
    // Shards enough for several transactions.
    configuration.shardTies = 2
    let (sent, _) = try load(configuration, cluster, orders: 300)
    let first = try reconcile(configuration, records: sent)
    configuration.policy.grace_ms += 1_000
    let after = try running(configuration, until: isBack)
    #expect(after.replayedRecords == 0 && after.foreignEpochs == 0 && after.recoveryProblems == 0)
    #expect(after.ties > 0 && after.match.open.reduce(0, +) == first.values.count { $0.state == "open" })
    // Nothing has happened since: the next end keeps what is there.
    let again = try running(configuration, until: isBack)
    #expect(again.replayedRecords == 0 && again.ties == after.ties)
  }

  /// Without a checkpoint the epochs are replayed under other settings, which is said.
  @Test func epochsOfOtherSettingsAreCounted() throws {
    let cluster = try TestCluster()
    var configuration = try prepared(cluster)
    configuration.checkpoints = .off
    let (sent, _) = try load(configuration, cluster, orders: 50)
    _ = try reconcile(configuration, records: sent)
    #expect(try running(configuration, until: isBack).foreignEpochs == 0)
    configuration.policy.grace_ms += 1_000
    let after = try running(configuration, until: isBack) { daemon in
      #expect(
        daemon.metricsPage().contains("tieout_daemon_foreign_epochs_total \(daemon.status.foreignEpochs)\n"))
    }
    #expect(after.foreignEpochs > 0 && after.replayedRecords == sent)
  }

  /// Starts a daemon that cannot take the state up, and returns what it says.
  private func refusal(_ configuration: Configuration) throws -> String {
    let lines = LogLines()
    let daemon = Daemon(configuration: configuration, log: Logger(label: "test") { _ in lines })
    try daemon.start()
    let until = Date().addingTimeInterval(30)
    while lines.all.allSatisfy({ !$0.contains("the state was made") && !$0.contains("epochs were recorded") }),
      Date() < until
    { Thread.sleep(forTimeInterval: 0.02) }
    #expect(daemon.status.decode.records == 0)
    daemon.stop.stop()
    #expect(daemon.waitUntilStopped())
    return lines.all.joined(separator: "\n")
  }

  /// The state knows its sources and dimensions: others are named, whether its epochs are still there or not, and with those of
  /// before it goes on.
  @Test func otherSourcesAndDimensionsAreNamed() throws {
    let cluster = try TestCluster()
    var configuration = try prepared(cluster)
    configuration.aggregates = AggregateSettings()
    configuration.dimensions = ["region"]
    let (sent, _) = try load(configuration, cluster, orders: 50)
    // One topic is read further than the other.
    try cluster.produce(configuration.sources[0].topic, [("K", "no order", 0), ("K", "no order", 1)])
    let first = try reconcile(configuration, records: sent + 2)
    let names = configuration.sources.map(\.name)
    let advice = "put them back as they were, or begin anew with another kafka.group and prefix"

    var changed = configuration
    changed.sources.reverse()
    let reversed = names.reversed().joined(separator: ", ")
    let reordered = try refusal(changed)
    #expect(
      reordered.contains(
        "the state was made with the sources \(names.joined(separator: ", ")), and configured are \(reversed)"))
    #expect(reordered.contains(advice))
    // Without a checkpoint their offsets tell.
    changed.checkpoints = .off
    let unnamed = try refusal(changed)
    #expect(
      unnamed.contains("the epochs were recorded with the sources in another order than \(reversed)"), "\(unnamed)")

    changed = configuration
    changed.sources[0].name = "other"
    #expect(try refusal(changed).contains("and configured are other, \(names[1])"))

    changed = configuration
    changed.dimensions = ["region", "channel"]
    let widened = try refusal(changed)
    #expect(widened.contains("the state was made with the dimensions region, and configured are region, channel"))
    #expect(widened.contains(advice))
    // A name that stays, in another place.
    changed.dimensions = ["channel", "region"]
    changed.aggregates = nil
    #expect(try refusal(changed).contains("configured are channel, region: 'region' stands in another place"))
    let after = try running(configuration, until: isBack)
    #expect(after.match.open.reduce(0, +) == first.values.count { $0.state == "open" })
  }
}
