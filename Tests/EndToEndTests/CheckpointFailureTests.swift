import Configuration
import Foundation
import KafkaTesting
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
