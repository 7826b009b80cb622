import Configuration
import Foundation
import KafkaTesting
import Logging
import Testing

@testable import Pipeline

extension EndToEndTests {
  /// Checkpoints that cannot be written are none: they are counted, by themselves, and nothing else stops.
  @Test func checkpointsThatCannotBeWrittenAreCounted() throws {
    let cluster = try TestCluster()
    var configuration = try prepare("flat.yaml", cluster, partitions: 1, workers: 1)
    configuration.checkpoints = .directory("/proc/nope")
    configuration.checkpointInterval_ms = 50
    let (sent, _) = try load(configuration, cluster, orders: 50)
    let status = try running(
      configuration, until: { $0.decode.records >= sent && $0.uncommittedTasks == 0 }
    ) { daemon in
      // Another epoch.
      try cluster.produce(configuration.sources[0].topic, [("K", "no order", 0)])
      MasterDataTests().wait("the failure") { daemon.status.checkpointFailures > 0 }
      let page = daemon.metricsPage()
      #expect(page.contains("tieout_daemon_checkpoints 0\n") && page.contains("tieout_daemon_checkpoint_bytes 0\n"))
      #expect(!page.contains("tieout_daemon_checkpoint_failures_total 0\n"))
      #expect(page.contains("# TYPE tieout_daemon_checkpoint_timestamp_seconds gauge"))
    }
    #expect(status.checkpoints == 0 && status.restarts == 0)
    let error = #expect(throws: RecoveryError.self) { try SystemFiles().write([1], to: "/proc/nope/0/m.1.1") }
    #expect(error?.description.hasPrefix("cannot make /proc/nope: ") == true, "\(error?.description ?? "")")
  }

  /// A broker that does not answer is no failure: the checkpoint begins some seconds later, which is counted.
  @Test func checkpointsThatArePutOffAreCounted() throws {
    let cluster = try TestCluster(.embedded)
    guard let embedded = cluster.embedded else {
      return print("skipped: only the embedded broker refuses what a test names")
    }
    var configuration = try prepare("flat.yaml", cluster, partitions: 1, workers: 1)
    configuration.kafka.delivery = .atLeastOnce
    configuration.checkpoints = .topic
    configuration.checkpointInterval_ms = 50
    let (sent, _) = try load(configuration, cluster, orders: 50)
    let status = try running(
      configuration, until: { $0.decode.records >= sent && $0.uncommittedTasks == 0 }
    ) { daemon in
      #expect(daemon.metricsPage().contains("tieout_daemon_checkpoints_put_off_total 0\n"))
      // Where the epochs end is not told.
      embedded.failNext(apiKey: 2, codes: Array(repeating: 29, count: 20))
      try cluster.produce(configuration.sources[0].topic, [("K", "no order", 0)])
      MasterDataTests().wait("it to be put off") { daemon.status.checkpointsPutOff > 0 }
      #expect(!daemon.metricsPage().contains("tieout_daemon_checkpoints_put_off_total 0\n"))
    }
    #expect(status.restarts == 0 && status.checkpointFailures == 0)
  }

  /// A daemon with a checkpoint of each task, and state since then of which the next one is due at the end and is not taken by
  /// the broker: a piece of it is too large.
  private func withoutNextCheckpoint(
    _ cluster: TestCluster, _ lines: LogLines
  ) throws -> (daemon: Daemon, configuration: Configuration) {
    var configuration = try prepare("flat.yaml", cluster, partitions: 2, workers: 1)
    if cluster.kind == .embedded { configuration.kafka.delivery = .atLeastOnce }
    configuration.policy.retention_ms = 20 * 365 * 86_400_000
    configuration.policy.openRetention_ms = 20 * 365 * 86_400_000
    configuration.checkpointInterval_ms = 86_400_000
    configuration.checkpoints = .topic
    configuration.kafka.producer.append(("message.max.bytes", .plain("6000")))
    let daemon = Daemon(configuration: configuration, log: Logger(label: "test") { _ in lines })
    try daemon.start()
    var sent = 0
    // The second epoch begins the first checkpoint.
    for (number, orders) in [20, 20, 400].enumerated() {
      sent += try load(configuration, cluster, orders: orders).sent
      MasterDataTests().wait("the records") {
        daemon.status.decode.records >= sent && daemon.status.uncommittedTasks == 0
          && (number == 0 || daemon.status.checkpoints == 2)
      }
    }
    #expect(daemon.status.checkpoints == 2, "\(lines.all)")
    return (daemon, configuration)
  }

  /// What is committed stays so where the checkpoint at a planned end fails, and that is what is said.
  @Test(arguments: TestCluster.kinds) func aCheckpointThatFailsAtTheEndIsNoEpochThatFails(
    kind: TestCluster.Kind
  ) throws {
    let cluster = try TestCluster(kind)
    let lines = LogLines()
    let (daemon, configuration) = try withoutNextCheckpoint(cluster, lines)
    daemon.stop.stop()
    #expect(daemon.waitUntilStopped())
    let said = lines.all.joined(separator: "\n")
    #expect(
      daemon.status.checkpointFailures > 0 && daemon.status.checkpoints == 2 && daemon.status.restarts == 0, "\(said)")
    #expect(said.contains("partitions are given back without a checkpoint of their last epoch"), "\(said)")
    #expect(!said.contains("the last epoch was not committed"))
    // Nothing of it is told again, and the next one replays.
    let before = try cluster.readAll(configuration.breaksTopic, partitions: 2).count
    let after = try running(configuration, until: { $0.isReady && $0.recoveries == 2 })
    #expect(after.replayedRecords > 0 && after.ties == daemon.status.ties)
    #expect(try cluster.readAll(configuration.breaksTopic, partitions: 2).count == before)
  }

  /// A transaction that was lost with a checkpoint leaves the engine behind an epoch that nobody has: a worker that gets its
  /// partitions back brings the state back. The embedded broker takes no commit while the group decides.
  @Test(arguments: TestCluster.kinds.filter { $0 != .embedded })
  func aCheckpointThatFailsIsNoLossForWhoComesBack(kind: TestCluster.Kind) throws {
    let cluster = try TestCluster(kind)
    let lines = LogLines()
    let (daemon, configuration) = try withoutNextCheckpoint(cluster, lines)
    let before = (ties: daemon.status.ties, breaks: try cluster.readAll(configuration.breaksTopic, partitions: 2).count)
    // Another member comes: partitions are taken, and one of them comes back.
    let other = Daemon(configuration: configuration, log: silent)
    try other.start()
    MasterDataTests().wait("the other") {
      other.status.isReady && other.status.partitions == 1 && daemon.status.isReady && daemon.status.partitions == 1
    }
    let said = lines.all.joined(separator: "\n")
    #expect(daemon.status.recoveries == 1 && daemon.status.checkpointFailures > 0, "\(said)")
    #expect(!said.contains("the last epoch was not committed"), "\(said)")
    #expect(daemon.status.ties + other.status.ties == before.ties)
    #expect(try cluster.readAll(configuration.breaksTopic, partitions: 2).count == before.breaks)
    for one in [daemon, other] { one.stop.stop() }
    for one in [daemon, other] { #expect(one.waitUntilStopped()) }
  }

  /// What has become of the checkpoints is said at each planned end.
  @Test func eachEndSaysWhatBecameOfTheCheckpoints() throws {
    let cluster = try TestCluster()
    var configuration = try prepare("flat.yaml", cluster, partitions: 1, workers: 2)
    configuration.checkpoints = .topic
    configuration.checkpointInterval_ms = 86_400_000
    let (sent, _) = try load(configuration, cluster, orders: 50)
    func end(_ configuration: Configuration, until condition: (WorkerStatus) -> Bool) throws -> [String] {
      let lines = LogLines()
      let daemon = Daemon(configuration: configuration, log: Logger(label: "test") { _ in lines })
      try daemon.start()
      MasterDataTests().wait("the condition") { condition(daemon.status) }
      daemon.stop.stop()
      #expect(daemon.waitUntilStopped())
      return lines.all.filter { $0.contains("checkpoint") && !$0.contains("task recovered") }
    }
    let first = try end(configuration) { $0.decode.records >= sent && $0.uncommittedTasks == 0 }
    #expect(first.contains { $0.hasPrefix("checkpoints completed") }, "\(first)")
    #expect(first.contains { $0.contains("there are no partitions here") }, "\(first)")
    configuration.checkpoints = .off
    let off = try end(configuration) { $0.isReady && $0.recoveries == 1 }
    #expect(off.contains { $0.contains("no checkpoint to write because=checkpoints are off") }, "\(off)")
  }

  /// A file that cannot be read is told, and does without: older checkpoints and epochs are there.
  @Test func filesThatCannotBeReadAreTold() throws {
    let cluster = try TestCluster()
    var configuration = try prepare("flat.yaml", cluster, partitions: 1, workers: 1)
    let directory = FileManager.default.temporaryDirectory.appendingPathComponent("tieout-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: directory) }
    configuration.checkpoints = .directory(directory + "/deep")
    let (sent, _) = try load(configuration, cluster, orders: 50)
    let first = try reconcile(configuration, records: sent)
    let manifests = try FileManager.default.contentsOfDirectory(atPath: directory + "/deep/0").filter {
      $0.hasPrefix("m.")
    }
    for name in manifests {
      try FileManager.default.removeItem(atPath: directory + "/deep/0/" + name)
      try FileManager.default.createDirectory(atPath: directory + "/deep/0/" + name, withIntermediateDirectories: false)
    }
    let status = try running(configuration, until: { $0.isReady && $0.recoveries == 1 })
    #expect(
      !manifests.isEmpty && status.recoveryProblems == manifests.count && status.replayedRecords == sent
        && status.restarts == 0)
    #expect(try reconcile(configuration, records: 0).count == first.count)
  }
}
