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
    let all = problems.map(\.text).joined(separator: "; ")
    if all != lastProblem {
      for problem in problems { log.error("a table stays as it is", metadata: problem.metadata) }
    }
    lastProblem = all
    let (old, entries) = (configuration.tableEntries, next.tableEntries)
    let changed = configuration.tableSources.filter { entries[$0.name] != old[$0.name] }
    guard !changed.isEmpty else { return false }
    configuration = next
    log.notice("tables read again", metadata: ["changed": "\(changed.map(\.words).joined(separator: ", "))"])
    return true
  }
}
