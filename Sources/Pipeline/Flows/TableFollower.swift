import Configuration
import Domain
import Logging

/// The tables, the calendar and the rates of a job beside the daemon: looked at as the daemon looks at them. The daemon
/// alone writes versions down and reports rows that are none. Belongs to one thread.
final class TableFollower {
  /// With what was last read.
  private(set) var configuration: Configuration
  private let topics: TopicTables?
  private let environment: any WorkerEnvironment
  private let log: Logger
  private let interval_ms: Int64
  private var nextLook_ms: Int64
  private var lastProblem = ""
  private let trial = TableTrial()

  /// - Returns: nil where nothing is followed.
  init?(_ configuration: Configuration, log: Logger, environment: any WorkerEnvironment) throws {
    guard let interval_ms = configuration.masterDataInterval_ms else { return nil }
    self.configuration = configuration
    self.environment = environment
    self.log = log
    self.interval_ms = interval_ms
    topics = try TopicTables(configuration, log: log, environment: environment)
    try topics?.readPositions()
    nextLook_ms = environment.monotonic_ms() + interval_ms
  }

  /// Reads files and topics again where it is time. A table that cannot be read, or makes no sense, stays as it is.
  /// - Returns: what has changed; nil where nothing has.
  func refresh() -> [TableSource]? {
    let now_ms = environment.monotonic_ms()
    guard now_ms >= nextLook_ms else { return nil }
    nextLook_ms = now_ms + interval_ms
    do {
      let (next, problems) = trial.take(configuration, try topics?.read() ?? [:], topics)
      return configuration.take(next, problems, &lastProblem, log)
    } catch {
      // Said once, not at every look.
      if "\(error)" != lastProblem { log.error("the tables stay as they are", metadata: ["error": "\(error)"]) }
      lastProblem = "\(error)"
      return nil
    }
  }
}
