import Decoding
import Yams

/// How freely something may be passed on.
public enum DataClassification: String, Sendable, CaseIterable {
  case `public`, `internal`, confidential
  /// About a person.
  case personal
}

/// Who answers for something, what it is, and how freely it may be passed on.
public struct GovernanceEntry: Sendable, Equatable {
  /// A team or a person; empty where nobody is named.
  public var owner = ""
  public var definition = ""
  public var classification: DataClassification?

  public init(owner: String = "", definition: String = "", classification: DataClassification? = nil) {
    self.owner = owner
    self.definition = definition
    self.classification = classification
  }
}

/// Who answers for the sources, their fields, the master data and the outputs. It changes nothing of what is matched.
public struct Governance: Sendable, Equatable {
  public struct Source: Sendable, Equatable {
    public var entry = GovernanceEntry()
    /// By canonical field or dimension.
    public var fields: [String: GovernanceEntry] = [:]

    public init() {}
  }

  /// Whether a configuration in which something has no owner, definition or classification is refused.
  public var isRequired = false
  public var sources: [String: Source] = [:]
  /// By table; and `calendar`, `fx`, `posting_policies`, `budget`.
  public var masterData: [String: GovernanceEntry] = [:]
  public var outputs: [String: GovernanceEntry] = [:]

  public init() {}

  /// What is written for people and systems to read, by the last part of its topic's name.
  public static let outputNames = [
    "breaks", "dead_letters", "totals", "revenue", "cashflow", "receivables", "variance", "quality", "actions",
    "proposals",
  ]

  /// A field's own entry; what it leaves open is that of its source.
  public func field(_ name: String, of source: String) -> GovernanceEntry {
    let whole = sources[source]?.entry ?? GovernanceEntry()
    var entry = sources[source]?.fields[name] ?? GovernanceEntry()
    if entry.owner.isEmpty { entry.owner = whole.owner }
    if entry.classification == nil { entry.classification = whole.classification }
    return entry
  }
}

extension Configuration {
  /// After the sources: it must name them.
  func readGovernance(_ node: Node?, _ reader: ConfigurationReader) -> Governance {
    var governance = Governance()
    guard let node else { return governance }
    let path = ["governance"]
    let nodes = reader.nodes(node, path)
    governance.isRequired = reader.bool(nodes["required"], path + ["required"], false)
    let sourceNames = sources.map(\.name)
    for (name, value, keyNode) in reader.mapping(nodes["sources"], path + ["sources"]) {
      guard let source = sources.first(where: { $0.name == name }) else {
        reader.problem(keyNode, "governance.sources: there is no source '\(name)'\(reader.hint(name, sourceNames))")
        continue
      }
      let path = path + ["sources", name]
      let parts = reader.nodes(value, path)
      var made = Governance.Source()
      made.entry = readEntry(parts, path, reader)
      let known = fieldNames(of: source)
      for (field, value, keyNode) in reader.mapping(parts["fields"], path + ["fields"]) {
        guard known.contains(field) else {
          reader.problem(
            keyNode, "\(reader.dotted(path)).fields: '\(field)' is not mapped there\(reader.hint(field, known))")
          continue
        }
        let path = path + ["fields", field]
        made.fields[field] = readEntry(reader.nodes(value, path), path, reader)
      }
      governance.sources[name] = made
    }
    let masterDataNames = masterDataNames
    for (name, value, keyNode) in reader.mapping(nodes["master_data"], path + ["master_data"]) {
      guard masterDataNames.contains(name) else {
        reader.problem(
          keyNode,
          "governance.master_data: '\(name)' is no table of a file or topic, nor calendar, fx, "
            + "posting_policies or budget as they are configured\(reader.hint(name, masterDataNames))")
        continue
      }
      let path = path + ["master_data", name]
      governance.masterData[name] = readEntry(reader.nodes(value, path), path, reader)
    }
    for (name, value, keyNode) in reader.mapping(nodes["outputs"], path + ["outputs"]) {
      guard Governance.outputNames.contains(name) else {
        reader.problem(
          keyNode, "governance.outputs: there is no output '\(name)'\(reader.hint(name, Governance.outputNames))")
        continue
      }
      let path = path + ["outputs", name]
      governance.outputs[name] = readEntry(reader.nodes(value, path), path, reader)
    }
    // A slip in the section is a problem of its own.
    if governance.isRequired, reader.problems.isEmpty {
      for gap in gaps(of: governance) { reader.problem(node, "governance.required: \(gap)") }
    }
    return governance
  }

  /// What stands in files and topics of its own: tables by name, and `calendar`, `fx`, `posting_policies`, `budget`.
  public var masterDataNames: [String] {
    var names = tableSources.filter { $0.kind == .values }.map(\.name)
    if policy.checks?.calendar != nil { names.append("calendar") }
    if policy.checks?.exchange != nil { names.append("fx") }
    if tableSources.contains(where: { $0.kind == .policies }) { names.append("posting_policies") }
    if variance != nil { names.append("budget") }
    return names
  }

  /// Outputs that are written under these settings.
  public var governedOutputs: [String] {
    let isWritten = [
      "revenue": aggregates != nil, "cashflow": flows != nil, "receivables": flows != nil, "variance": variance != nil,
      "quality": quality != nil, "actions": takesActions, "proposals": takesActions,
    ]
    return Governance.outputNames.filter { isWritten[$0] ?? true }
  }

  /// What has no owner, no classification, or no definition, a sentence each. Fields and outputs have a definition of
  /// their own where none is given.
  public var governanceGaps: [String] { gaps(of: governance) }

  private func gaps(of governance: Governance) -> [String] {
    var gaps: [String] = []
    func look(_ what: String, _ entry: GovernanceEntry, isDefined: Bool) {
      if entry.owner.isEmpty { gaps.append("\(what) has no owner") }
      if entry.classification == nil { gaps.append("\(what) has no classification") }
      if entry.definition.isEmpty, !isDefined { gaps.append("\(what) has no definition") }
    }
    for source in sources {
      let whole = governance.sources[source.name]?.entry ?? GovernanceEntry()
      look("source \(source.name)", whole, isDefined: false)
      for field in fieldNames(of: source) {
        look("field \(field) of source \(source.name)", governance.field(field, of: source.name), isDefined: true)
      }
    }
    for name in masterDataNames {
      look("master data \(name)", governance.masterData[name] ?? GovernanceEntry(), isDefined: false)
    }
    for name in governedOutputs {
      look("output \(name)", governance.outputs[name] ?? GovernanceEntry(), isDefined: true)
    }
    return gaps
  }

  /// Canonical fields and dimensions that a source maps, in the order of the reference; behind them what `flows` reads.
  public func fieldNames(of source: SourceSettings) -> [String] {
    let canonical =
      source.mapping.kind == .orders ? OrderField.allCases.map(\.rawValue) : PostingField.allCases.map(\.rawValue)
    var names = canonical.filter { source.mapping.fields[$0] != nil }
    if source.mapping.amount != nil { names.append("amount") }
    for (at, name) in dimensions.enumerated()
    where at < source.mapping.dimensions.count && source.mapping.dimensions[at] != nil {
      names.append(name)
    }
    if let flow = flows?.sources[source.name] {
      if flow.dueDate != nil { names.append("due_date") }
      if flow.terms != nil { names.append("terms") }
    }
    return names
  }

  private func readEntry(_ nodes: [String: Node], _ path: [String], _ reader: ConfigurationReader) -> GovernanceEntry {
    var entry = GovernanceEntry()
    if let node = nodes["owner"] { entry.owner = reader.name(node, path + ["owner"], "") }
    if let node = nodes["definition"] { entry.definition = reader.name(node, path + ["definition"], "") }
    if let node = nodes["classification"] {
      entry.classification = reader.choice(node, path + ["classification"], DataClassification.internal)
    }
    return entry
  }
}
