import Domain
import Foundation
import Logging

/// Logs one JSON object a line on standard error.
public struct JSONLogHandler: LogHandler {
  public var metadata: Logger.Metadata = [:]
  public var logLevel: Logger.Level = .info
  private let label: String

  public init(label: String) { self.label = label }

  public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  public func log(event: LogEvent) {
    var writer = JSONWriter()
    writer.beginObject()
    writer.key("time")
    writer.timestamp(wallClock_ms())
    writer.key("level")
    writer.string(event.level.rawValue)
    writer.key("logger")
    writer.string(label)
    writer.key("message")
    writer.string(event.message.description)
    for (key, value) in metadata.merging(event.metadata ?? [:], uniquingKeysWith: { $1 }).sorted(by: { $0.key < $1.key }
    ) {
      writer.key(key)
      writer.string(value.description)
    }
    writer.endObject()
    FileHandle.standardError.write(Data(writer.bytes + [0x0a]))
  }
}
