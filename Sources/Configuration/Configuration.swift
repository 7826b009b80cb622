import Aggregates
import Decoding
import Domain
import Matching
import Validation

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

/// Where a task starts that nobody has run before.
public enum StartPosition: String, Sendable, CaseIterable {
  /// From the oldest record that Kafka has (default).
  case earliest
  /// From the end: only what comes from now on.
  case latest
}

/// What a reader of the output topics may rely on.
public enum Delivery: String, Sendable, CaseIterable {
  /// Outputs, offsets and the epoch's record in one transaction: a `read_committed` reader sees each revision once.
  case exactlyOnce = "exactly_once"
  /// For brokers without transactions: after a crash the outputs of the last epoch may come a second time, the same
  /// bytes again.
  case atLeastOnce = "at_least_once"
}

/// Where checkpoints of the matching state are kept.
public enum CheckpointStorage: Sendable, Equatable {
  case topic
  case directory(String)
  case off
}

public struct KafkaSettings: Sendable, Equatable {
  public var bootstrap = "127.0.0.1:9092"
  public var group = "tieout"
  public var start = StartPosition.earliest
  public var delivery = Delivery.exactlyOnce
  /// Name of this process among those of the group, the same after a restart; empty for a dynamic member.
  public var instance = ""
  /// Replicas of the topics that are created; nil leaves it to the brokers (`default.replication.factor`).
  public var replication: Int?
  /// librdkafka properties for all clients, for consumers, and for producers, in the order of the file.
  public var properties: [(String, PropertyValue)] = []
  public var consumer: [(String, PropertyValue)] = []
  public var producer: [(String, PropertyValue)] = []

  public static func == (a: KafkaSettings, b: KafkaSettings) -> Bool {
    func same(_ x: [(String, PropertyValue)], _ y: [(String, PropertyValue)]) -> Bool {
      x.count == y.count && zip(x, y).allSatisfy { $0.0 == $1.0 && $0.1 == $1.1 }
    }
    return a.bootstrap == b.bootstrap && a.group == b.group && a.start == b.start
      && a.delivery == b.delivery && a.instance == b.instance && a.replication == b.replication
      && same(a.properties, b.properties)
      && same(a.consumer, b.consumer) && same(a.producer, b.producer)
  }
}

public struct SourceSettings: Sendable, Equatable {
  public var name: String
  /// What the tasks read: the source's own topic, or the internal one through which it is routed.
  public var topic: String
  /// Where the records come from, if they are routed.
  public var routedFrom: String?
  public var mapping: MappingSpecification
  /// What its records are held against before they are taken in.
  public var rules: [RuleSpecification] = []
  /// Values that no two of its records may have.
  public var uniqueRules: [UniqueRule] = []
  /// What its events must put into the ledger, by kind, in place of what the policy of all says of the kind.
  public var policy: [OrderEventKind: [PolicyEntry]] = [:]

  public init(name: String, topic: String, mapping: MappingSpecification) {
    self.name = name
    self.topic = topic
    self.mapping = mapping
  }

  public var isRouted: Bool { routedFrom != nil }
  /// Where the records come from.
  public var originalTopic: String { routedFrom ?? topic }
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
  /// For fields that are hashed; nil where none are.
  public var maskKey: MaskKey?
  public var rawDeadLetters = RawDeadLetters.unmasked
  /// The value tables that stand in files, in the order of their names, and what those hold.
  public var tableSources: [TableSource] = []
  var tableContents: TableEntries = [:]
  /// How often the files are looked at while the tasks run; nil where they are read at the start alone.
  public var masterDataInterval_ms: Int64?
  /// nil where records with an unknown reference are dead letters at once.
  public var hold: HoldSettings?
  public var policy = MatchingPolicy()
  public var governance = Governance()
  /// When money is moved; it decides nothing of what is judged.
  public var businessDays = BusinessDays()
  /// nil where no aggregates are kept.
  public var aggregates: AggregateSettings?
  /// The period of a day by the fiscal calendar; nil where periods are calendar months.
  public var periods: PeriodCalendar?
  /// Whether the tasks read people's actions on breaks, and breaks show what has been decided.
  public var takesActions = false
  /// nil where no counts of quality are kept.
  public var quality: QualitySettings?
  /// nil where `tieout flows` has nothing to do.
  public var flows: FlowSettings?
  /// nil where nothing is compared with a budget.
  public var variance: VarianceSettings?
  /// Records and milliseconds after which an epoch ends, whichever comes first.
  /// Of `base_amount`; none where there are no rates.
  var baseCurrency = Currency.none
  public var epochRecords = 50_000
  public var epochInterval_ms: Int64 = 100
  /// The same while records wait that are there already; not below `epochInterval_ms`.
  public var epochBacklogInterval_ms: Int64 = 500
  /// Bytes of matching state of the whole process at which intake slows down.
  public var memoryLimit = 4 << 30
  /// Records that are held for rules of uniqueness by the process that owns their values.
  public var maximumUnique = 1_000_000
  public var logLevel = "info"
  public var logFormat = LogFormat.text
  public var breaksTopic = ""
  public var deadLettersTopic = ""
  public var epochsTopic = ""
  public var checkpointsTopic = ""
  public var partialsTopic = ""
  public var totalsTopic = ""
  public var revenueTopic = ""
  public var cashflowTopic = ""
  public var qualityTopic = ""
  public var receivablesTopic = ""
  public var varianceTopic = ""
  public var outputs = OutputSettings()
  /// nil where neither a source nor an output needs it.
  public var schemaRegistry: SchemaRegistrySettings?
  public var tablesTopic = ""
  /// The periods by which there are sums.
  public var periodsTopic = ""
  public var redrivenTopic = ""
  public var actionsTopic = ""
  public var proposalsTopic = ""
  public var serve = ServeSettings()
  /// nil where the daemon answers nobody.
  public var monitoring: MonitoringSettings?
  public var partialsPartitions = 1
  /// As many tasks as the sources have partitions.
  public var taskCount = 1
  /// By topic that is routed from: its partitions, as far as they are known.
  public var originPartitions: [String: Int] = [:]
  /// Epochs are kept as long, for replays by an auditor.
  public var epochRetention_ms: Int64 = 7 * 86_400_000
  public var checkpoints = CheckpointStorage.topic
  /// Ties in a shard of a checkpoint, about: one is exported and compressed in well under 10 ms.
  public var shardTies = 1_024
  /// Within which a whole checkpoint is written.
  public var checkpointInterval_ms: Int64 = 60_000
  /// Path → value of everything read or defaulted, in the order of the reference, secrets as `***`.
  public var effective: [(path: [String], text: String)] = []

  public init() {}

  public static func == (a: Configuration, b: Configuration) -> Bool {
    a.name == b.name && a.prefix == b.prefix && a.kafka == b.kafka && a.workers == b.workers
      && a.dimensions == b.dimensions && a.sources == b.sources && a.policy == b.policy
      && a.businessDays == b.businessDays && a.tableSources == b.tableSources && a.tableContents == b.tableContents
      && a.masterDataInterval_ms == b.masterDataInterval_ms && a.hold == b.hold && a.tablesTopic == b.tablesTopic
      && a.periodsTopic == b.periodsTopic
      && a.schemaRegistry == b.schemaRegistry && a.outputs == b.outputs
      && a.redrivenTopic == b.redrivenTopic
      && a.maskKey == b.maskKey && a.rawDeadLetters == b.rawDeadLetters
      && a.governance == b.governance && a.aggregates == b.aggregates && a.revenueTopic == b.revenueTopic
      && a.variance == b.variance && a.varianceTopic == b.varianceTopic && a.flows == b.flows && a.quality == b.quality
      && a.qualityTopic == b.qualityTopic
      && a.cashflowTopic == b.cashflowTopic && a.receivablesTopic == b.receivablesTopic
      && a.epochRecords == b.epochRecords && a.epochInterval_ms == b.epochInterval_ms
      && a.epochBacklogInterval_ms == b.epochBacklogInterval_ms
      && a.memoryLimit == b.memoryLimit && a.maximumUnique == b.maximumUnique && a.logLevel == b.logLevel
      && a.logFormat == b.logFormat
      && a.breaksTopic == b.breaksTopic && a.deadLettersTopic == b.deadLettersTopic
      && a.epochsTopic == b.epochsTopic && a.checkpointsTopic == b.checkpointsTopic
      && a.partialsTopic == b.partialsTopic && a.totalsTopic == b.totalsTopic
      && a.partialsPartitions == b.partialsPartitions && a.epochRetention_ms == b.epochRetention_ms
      && a.takesActions == b.takesActions && a.actionsTopic == b.actionsTopic && a.proposalsTopic == b.proposalsTopic
      && a.serve == b.serve && a.monitoring == b.monitoring
      && a.checkpoints == b.checkpoints && a.checkpointInterval_ms == b.checkpointInterval_ms
  }

  /// A hash of every setting that decides what a task makes of its records. A replay under another hash is none.
  public var matchingHash: UInt64 {
    // What a later version has added counts where it is used: without it, the hash is that of before.
    var plain = policy
    plain.checks = nil
    plain.postingPolicies = nil
    let standard = MatchingPolicy.standardEntries[MatchingPolicy.firstKinds...]
    let isReplaced = plain.entries[Int(OrderEventKind.refunded.rawValue)].isEmpty
    if plain.entries[MatchingPolicy.firstKinds...] == (isReplaced ? [[]] : standard) {
      plain.entries.removeLast(standard.count)
    }
    var text = "\(plain)".replacing(", boxedChecks: nil, boxedPolicies: nil)", with: ")")
    for later in [", comparesOrdered: false", ", comparesLines: false", ", missingFlags: []", ", positioned: []"] {
      text = text.replacing(later, with: "")
    }
    text += "|\(dimensions)" + readings
    let isLater = plain.entries.count == MatchingPolicy.firstKinds
    for (path, value) in effective where ["sources", "tables", "matching", "policy"].contains(path.first) {
      if path == ["matching", "revenue_schedules", "remainder"], value == "spread" { continue }
      if [["matching", "quantities", "ordered"], ["matching", "quantities", "lines"]].contains(path), value == "false" {
        continue
      }
      if isLater, path.starts(with: ["policy", OrderEventKind.chargeback.name]) { continue }
      // As where age did not count unless it was given: what judges the same has the same hash.
      if path.starts(with: ["matching", "severity"]), path.last == "age" { continue }
      if path.starts(with: ["matching", "severity", "amounts"]) {
        if policy.checks?.severityAges_ms.isEmpty != false {
          text += "|matching.severity." + path.last! + "=" + value
          continue
        }
        if policy.severityAmounts_u == MatchingPolicy().severityAmounts_u { continue }
      }
      text += "|" + path.joined(separator: ".") + "=" + value
    }
    for source in sources { text += "|" + source.name }
    // Before, what came again left the sums when its tie was judged, and cancellations took back what they carried.
    text += "|arrivals"
    // Before, what came again was counted by when its tie was looked at, more was taken for what takes a cancelled document
    // back, periods 13 to 16 were others than the last one, and breaks did not say what they explain of each role.
    text += "|takenBack"
    // Before, two roles that are off by one amount in opposite directions were two breaks.
    text += "|pairs"
    // Before, what is paid out by itself was taken for paid and not billed, and what is paid by way of clearing was not.
    if policy.checks?.appliesCash == true { text += "|payouts" }
    // Before, time followed the latest record of a routed source.
    if sources.contains(where: \.isRouted) { text += "|origins" }
    if let checks = policy.checks {
      text += "|" + "\(checks)".replacing(", remainder: Matching.RevenueSchedules.Remainder.spread", with: "")
    }
    if let aggregates {
      var settings = aggregates
      settings.inheritedDimensions = 0
      text += "|\(settings)".replacing(", inheritedDimensions: 0)", with: ")")
        .replacing(", countsQuantities: false)", with: ")").replacing(", valuesByDimension: []", with: "")
      let inherited = aggregates.inheritedDimensions(of: dimensions.count)
      if inherited != 0 { text += "|inherited=\(inherited)" }
    }
    // What a later version adds up, or judges, in another way.
    if aggregates != nil, policy.checks?.schedules != nil { text += "|releases" }
    if aggregates != nil, policy.checks?.exchange != nil { text += "|unrated|unconverted" }
    // How ids are told apart.
    text += "|ids"
    // What is left of cancelled and of reversed documents, and when what settles a document is in time.
    text += "|settled"
    // Which image of a row is the newest.
    if sources.contains(where: \.mapping.format.isEnvelope) { text += "|images" }
    if aggregates != nil { text += "|disputes" }
    if policy.quantities.isEnabled { text += "|returns" }
    if aggregates == nil, quality == nil, sources.contains(where: { !$0.uniqueRules.isEmpty }) { text += "|days" }
    if takesActions { text += "|actions" }
    if let hold { text += "|\(hold)" }
    if let policies = policy.postingPolicies {
      let digest = policies.bytes.withUnsafeBufferPointer { Fingerprint(ByteView($0)).low }
      text += "|policies=" + String(digest, radix: 16)
      // An invoice that is cancelled takes back releases by the policy of its own day.
      if aggregates != nil, policy.checks?.schedules != nil { text += "|voided" }
    }
    // Since when breaks have been open, and the sums by source, are part of the state where quality is counted.
    if let quality { text += "|\(quality)|ages|periods|sources" }
    // Of a table in a file the settings have the path alone.
    if tableSources.contains(where: { $0.kind == .values }) { text += "|tables=" + tablesDigest }
    // What is said of a record under another key is something else; and what dead letters hold is an output.
    if let maskKey, sources.contains(where: { $0.mapping.isMasked }) { text += "|mask=" + maskKey.fingerprint }
    if rawDeadLetters != .unmasked { text += "|raw=" + rawDeadLetters.rawValue }
    return Array(text.utf8).withUnsafeBufferPointer { Fingerprint(ByteView($0)).low }
  }

  /// The topics that a task reads, in the order of its inputs: those of the sources, and that of actions.
  public var inputTopics: [String] { sources.map(\.topic) + (takesActions ? [actionsTopic] : []) }

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
