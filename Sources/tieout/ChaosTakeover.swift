import Configuration
import Foundation
import Kafka
import Pipeline
import Simulation

/// How long partitions stand still when a process goes.
extension ChaosRun {
  /// Two processes under a steady load. One is restarted in good order (a static member: on a cluster that knows them
  /// nothing moves), then killed, so that the other one takes over; as often as asked for.
  func measureTakeovers(_ count: Int) throws -> Bool {
    print(
      "\(broker == nil ? "cluster, exactly once" : "embedded broker, at least once"), session timeout 6 s; "
        + "logs in \(directory)")
    var load = WorkloadOptions()
    load.shape = .northwind
    load.orders = 40_000
    load.seed = options.seed
    load.shuffle = 200
    load.interval_us = 60_000_000
    let stop = StopFlag()
    defer { stop.stop() }
    for slot in 0..<2 { try start(slot) }
    let sender = LoadSender(configuration: configuration, options: load, rate: 400, stop: stop)
    sender.start()
    var (restarts, moves, kills): ([Int64], Int, [Int64]) = ([], 0, [])
    guard try flows(since: [:], monotonic_ms()) != nil else { return false }
    usleep(8_000_000)
    for _ in 0..<count {
      let before = assignments("p1")
      var began_ms = monotonic_ms()
      let leaving = slots[0]!.process
      endInOrder([leaving])
      try start(0)
      guard let restarted = try flows(since: try committed(), began_ms) else { return false }
      restarts.append(restarted)
      usleep(8_000_000)
      if assignments("p1") > before { moves += 1 }
      kill(slots[0]!.process.processIdentifier, SIGKILL)
      began_ms = monotonic_ms()
      slots[0]!.process.waitUntilExit()
      slots[0] = nil
      guard let killed = try flows(since: try committed(), began_ms) else { return false }
      kills.append(killed)
      try start(0)
      usleep(12_000_000)
    }
    if let failure = sender.failure { throw failure }
    func line(_ what: String, _ times: [Int64]) {
      let sorted = times.sorted()
      print(
        "\(what): median \(sorted[sorted.count / 2]) ms, shortest \(sorted[0]) ms, longest \(sorted.last!) ms "
          + "(\(sorted.count) times)")
    }
    line("SIGTERM and start again, until every partition flows", restarts)
    print("of \(count) restarts, \(moves) moved partitions of the other process")
    line("SIGKILL, until the other process has every partition flowing", kills)
    return true
  }

  /// Milliseconds since a moment until every partition has gone beyond what was committed; nil where that does not come.
  private func flows(since old: [TopicPartition: Int64], _ began_ms: Int64) throws -> Int64? {
    while monotonic_ms() - began_ms < 120_000 {
      let now = try committed()
      if places.allSatisfy({ now[$0] ?? 0 > old[$0] ?? 0 }) { return monotonic_ms() - began_ms }
      usleep(20_000)
    }
    print("FAILED: the partitions do not all flow within two minutes")
    return nil
  }

  /// How often a process has been given partitions.
  private func assignments(_ instance: String) -> Int {
    let log = (try? String(contentsOfFile: "\(directory)/\(instance).log", encoding: .utf8)) ?? ""
    return log.components(separatedBy: "partitions assigned").count - 1
  }
}
