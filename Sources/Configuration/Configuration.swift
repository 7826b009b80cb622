import Decoding
import Domain
import Matching

/// A secret from a file or the environment. It is never printed.
public struct Secret: Sendable, Equatable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
  /// The secret itself, for the client library alone.
  public let reveal: String

  public init(_ text: String) { reveal = text }

  public var description: String { "***" }
  public var debugDescription: String { "***" }
  public var customMirror: Mirror { Mirror(self, children: []) }
}

public enum PropertyValue: Sendable, Equatable {
  case plain(String)
  case secret(Secret)

  /// The value as the client library gets it.
  public var reveal: String {
    switch self {
    case .plain(let text): text
    case .secret(let secret): secret.reveal
    }
  }
}

/// Where a worker starts to read a partition.
public enum StartPosition: String, Sendable, CaseIterable {
  /// From the oldest record that Kafka has, so that every tie is known again (default).
  case rebuild
  /// From the offsets that the group has committed, else the oldest: ties of before are not known.
  case committed
  /// From the end: only what comes from now on.
  case latest
}

public struct KafkaSettings: Sendable, Equatable {
  public var bootstrap = "127.0.0.1:9092"
  public var group = "tieout"
  public var start = StartPosition.rebuild
  /// librdkafka properties for all clients, for consumers, and for producers, in the order of the file.
  public var properties: [(String, PropertyValue)] = []
  public var consumer: [(String, PropertyValue)] = []
  public var producer: [(String, PropertyValue)] = []

  public static func == (a: KafkaSettings, b: KafkaSettings) -> Bool {
    func same(_ x: [(String, PropertyValue)], _ y: [(String, PropertyValue)]) -> Bool {
      x.count == y.count && zip(x, y).allSatisfy { $0.0 == $1.0 && $0.1 == $1.1 }
    }
    return a.bootstrap == b.bootstrap && a.group == b.group && a.start == b.start && same(a.properties, b.properties)
      && same(a.consumer, b.consumer) && same(a.producer, b.producer)
  }
}

public struct SourceSettings: Sendable, Equatable {
  public var name: String
  public var topic: String
  public var mapping: MappingSpecification
}

public enum LogFormat: String, Sendable, CaseIterable { case text, json }

/// The configuration of one reconciliation, checked and complete.
public struct Configuration: Sendable, Equatable {
  public var name = "tieout"
  public var prefix = "tieout"
  public var kafka = KafkaSettings()
  public var workers = 1
  public var dimensions: [String] = []
  public var sources: [SourceSettings] = []
  public var policy = MatchingPolicy()
  /// Records and milliseconds after which an epoch ends, whichever comes first.
  public var epochRecords = 50_000
  public var epochInterval_ms: Int64 = 100
  /// Bytes of matching state of the whole process at which intake slows down.
  public var memoryLimit = 4 << 30
  public var logLevel = "info"
  public var logFormat = LogFormat.text
  public var breaksTopic = ""
  public var deadLettersTopic = ""
  /// Path → value of everything read or defaulted, in the order of the reference, secrets as `***`.
  public var effective: [(path: [String], text: String)] = []

  public init() {}

  public static func == (a: Configuration, b: Configuration) -> Bool {
    a.name == b.name && a.prefix == b.prefix && a.kafka == b.kafka && a.workers == b.workers
      && a.dimensions == b.dimensions && a.sources == b.sources && a.policy == b.policy
      && a.epochRecords == b.epochRecords && a.epochInterval_ms == b.epochInterval_ms
      && a.memoryLimit == b.memoryLimit && a.logLevel == b.logLevel && a.logFormat == b.logFormat
      && a.breaksTopic == b.breaksTopic && a.deadLettersTopic == b.deadLettersTopic
  }

  /// The effective configuration as YAML, defaults filled in, secrets as `***`.
  public func effectiveYAML() -> String {
    var root = EffectiveNode()
    for (path, text) in effective { root.insert(path[...], text) }
    var lines: [String] = []
    root.write(indent: 0, into: &lines)
    return lines.joined(separator: "\n") + "\n"
  }
}

/// A tree of the effective values. A path component `#3` is the third item of a list.
private struct EffectiveNode {
  var text: String?
  var children: [(key: String, node: EffectiveNode)] = []

  mutating func insert(_ path: ArraySlice<String>, _ text: String) {
    guard let key = path.first else {
      self.text = text
      return
    }
    if let at = children.firstIndex(where: { $0.key == key }) {
      children[at].node.insert(path.dropFirst(), text)
    } else {
      var node = EffectiveNode()
      node.insert(path.dropFirst(), text)
      children.append((key, node))
    }
  }

  func write(indent: Int, into lines: inout [String]) {
    let space = String(repeating: "  ", count: indent)
    for (key, node) in children {
      let head = key.hasPrefix("#") ? "-" : quoteKey(key) + ":"
      if let text = node.text {
        lines.append(space + head + " " + text)
      } else {
        lines.append(space + head)
        node.write(indent: indent + 1, into: &lines)
      }
    }
  }

  private func quoteKey(_ key: String) -> String {
    let isPlain = key.allSatisfy { $0.isASCII && ($0.isLetter || $0 == "_" || $0 == "." || $0 == "-") }
    return isPlain && key.first?.isLetter == true
      ? key : doubleQuoted(key)
  }
}

/// Everything that is wrong with a configuration, all of it at once.
public struct ConfigurationError: Error, CustomStringConvertible, Equatable {
  public struct Problem: Sendable, Equatable {
    public var file: String
    public var line: Int
    public var column: Int
    public var message: String
  }
  public var problems: [Problem]

  public var description: String {
    problems.map { problem in
      problem.line > 0
        ? "\(problem.file):\(problem.line):\(problem.column): \(problem.message)"
        : "\(problem.file): \(problem.message)"
    }.joined(separator: "\n")
  }
}
