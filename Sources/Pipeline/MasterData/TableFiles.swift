import Configuration
import Domain
import Logging

/// The tables of values in files, for a process that only decodes: looked at as the daemon looks at them. For one thread.
public final class TableFiles {
  /// With what was last read.
  public private(set) var configuration: Configuration
  public let interval_ms: Int64
  private let log: Logger
  private var lastProblem = ""
  private let trial = TableTrial()

  /// - Returns: nil where nothing is followed.
  public init?(_ configuration: Configuration, log: Logger) {
    guard let interval_ms = configuration.masterDataInterval_ms else { return nil }
    self.configuration = configuration
    self.interval_ms = interval_ms
    self.log = log
  }

  /// Reads the files again. A table that cannot be read, or makes no sense, stays as it is.
  /// - Returns: whether a table holds something else.
  public func refresh() -> Bool {
    let (next, problems) = trial.take(configuration, [:], nil) { $0.kind == .values && $0.topic == nil }
    return configuration.take(next, problems, &lastProblem, log) != nil
  }
}
