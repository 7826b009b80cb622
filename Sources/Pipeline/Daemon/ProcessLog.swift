import Configuration
import Logging
import Synchronization

/// The least severe level that is logged; it can be changed while the process runs.
public final class LogLevelSwitch: Sendable {
  private let current: Mutex<Logger.Level>

  public init(_ level: Logger.Level) { current = Mutex(level) }

  public var level: Logger.Level {
    get { current.withLock { $0 } }
    set { current.withLock { $0 = newValue } }
  }
}

/// Logs at the level of a switch, whatever copies of the logger there are.
public struct SwitchedLogHandler: LogHandler {
  private var base: any LogHandler
  private let levelSwitch: LogLevelSwitch

  public init(_ base: any LogHandler, _ levelSwitch: LogLevelSwitch) {
    self.base = base
    self.levelSwitch = levelSwitch
  }

  public var logLevel: Logger.Level {
    get { levelSwitch.level }
    set { levelSwitch.level = newValue }
  }
  public var metadata: Logger.Metadata {
    get { base.metadata }
    set { base.metadata = newValue }
  }
  public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { base[metadataKey: key] }
    set { base[metadataKey: key] = newValue }
  }
  public func log(event: LogEvent) { base.log(event: event) }
}

/// The log of a process, on standard error.
public struct ProcessLog: Sendable {
  public let log: Logger
  public let level: LogLevelSwitch

  /// Starts logging as configured; once in a process.
  public init(_ configuration: Configuration, label: String) {
    let level = LogLevelSwitch(Logger.Level(rawValue: configuration.logLevel) ?? .info)
    let isJSON = configuration.logFormat == .json
    LoggingSystem.bootstrap { label in
      SwitchedLogHandler(
        isJSON ? JSONLogHandler(label: label) : StreamLogHandler.standardError(label: label), level)
    }
    log = Logger(label: label)
    self.level = level
  }
}
