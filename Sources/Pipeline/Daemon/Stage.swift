import Configuration
import Foundation
import Kafka
import Logging

/// A thread of the daemon beside the workers: runs, and starts anew with a clean state after an error.
public class Stage: @unchecked Sendable {
  let configuration: Configuration
  public let stop: StopFlag
  let log: Logger
  let environment: any WorkerEnvironment
  let pulse = Pulse()
  var isExactlyOnce: Bool { configuration.kafka.delivery == .exactlyOnce }

  init(
    _ name: String, configuration: Configuration, stop: StopFlag, log: Logger, environment: any WorkerEnvironment
  ) {
    self.configuration = configuration
    self.stop = stop
    self.environment = environment
    var log = log
    log[metadataKey: "stage"] = "\(name)"
    self.log = log
  }

  func runOnce() throws { preconditionFailure("a stage without work") }

  public func run() {
    var pause_ms: Int64 = 500
    while !stop.isStopped {
      let started_ms = environment.monotonic_ms()
      do {
        try runOnce()
      } catch {
        log.error("stage failed and starts anew", metadata: ["error": "\(error)", "pause_ms": "\(pause_ms)"])
        let until = environment.monotonic_ms() + pause_ms
        while environment.monotonic_ms() < until, !stop.isStopped {
          environment.sleep(ms: 20)
          beat()
        }
        pause_ms = environment.monotonic_ms() - started_ms > 60_000 ? 500 : min(pause_ms * 2, 30_000)
      }
    }
  }

  func beat() { pulse.beat(environment.monotonic_ms()) }

  func retrying(_ body: () throws(KafkaError) -> Void) throws(KafkaError) {
    try environment.retrying("a call", log: log) { () throws(KafkaError) in
      beat()
      try body()
    }
  }
}
