import Aggregates
import Decoding
import Domain
import Foundation
import Matching
import Validation
import Yams

extension Configuration {
  /// Reads and checks a file. Throws `ConfigurationError` with every problem found.
  public static func load(
    path: String, environment: [String: String] = ProcessInfo.processInfo.environment
  ) throws -> Configuration {
    func unreadable(_ why: String) -> ConfigurationError {
      ConfigurationError(problems: [.init(file: path, line: 0, column: 0, message: "cannot be read: \(why)")])
    }
    var isDirectory: ObjCBool = false
    if FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory), isDirectory.boolValue {
      throw unreadable("it is a directory")
    }
    let text: String
    do {
      text = try String(contentsOfFile: path, encoding: .utf8)
    } catch {
      throw unreadable(error.localizedDescription)
    }
    return try parse(
      yaml: text, file: path,
      directory: (path as NSString).deletingLastPathComponent.isEmpty
        ? "." : (path as NSString).deletingLastPathComponent, environment: environment)
  }

  /// As `load`, from text. Paths in it are relative to `directory`.
  public static func parse(
    yaml: String, file: String, directory: String,
    environment: [String: String] = ProcessInfo.processInfo.environment
  ) throws -> Configuration {
    let reader = ConfigurationReader(file: file, directory: directory, environment: environment)
    let root: Node?
    do {
      root = try Yams.compose(yaml: yaml)
    } catch let error as YamlError {
      reader.syntaxProblem(error, yaml)
      throw ConfigurationError(problems: reader.problems)
    }
    var configuration = Configuration()
    configuration.read(root, reader)
    guard reader.problems.isEmpty else {
      throw ConfigurationError(problems: reader.problems.sorted { ($0.line, $0.column) < ($1.line, $1.column) })
    }
    configuration.effective = reader.effective
    return configuration
  }

  private mutating func read(_ root: Node?, _ reader: ConfigurationReader) {
    guard let root, root.mapping != nil else {
      reader.problem(root, "the file must hold a map")
      return
    }
    let nodes = reader.nodes(root, [])
    let version = reader.integer(nodes["version"], ["version"], 1, 1...1_000)
    if version != 1 { reader.problem(nodes["version"], "version \(version) is not known; this program reads 1") }
    name = reader.name(nodes["name"], ["name"], name)
    prefix = reader.name(nodes["prefix"], ["prefix"], name)
    workers = reader.integer(nodes["workers"], ["workers"], 1, 1...256)
    dimensions = reader.names(nodes["dimensions"], ["dimensions"], most: maximumDimensions)
    // Those beyond are reported once, not by every source again.
    dimensions = Array(dimensions.prefix(maximumDimensions))
    readKafka(nodes["kafka"], reader)
    let topics = reader.nodes(nodes["topics"], ["topics"])
    breaksTopic = reader.topic(
      topics["breaks"], ["topics", "breaks"], prefix + ".breaks", place: nodes["prefix"] ?? nodes["name"])
    deadLettersTopic = reader.topic(
      topics["dead_letters"], ["topics", "dead_letters"], prefix + ".dead-letters",
      place: nodes["prefix"] ?? nodes["name"])
    epochsTopic = reader.topic(
      topics["epochs"], ["topics", "epochs"], prefix + ".epochs", place: nodes["prefix"] ?? nodes["name"])
    checkpointsTopic = reader.topic(
      topics["checkpoints"], ["topics", "checkpoints"], prefix + ".checkpoints",
      place: nodes["prefix"] ?? nodes["name"])
    partialsTopic = reader.topic(
      topics["partials"], ["topics", "partials"], prefix + ".partials", place: nodes["prefix"] ?? nodes["name"])
    totalsTopic = reader.topic(
      topics["totals"], ["topics", "totals"], prefix + ".totals", place: nodes["prefix"] ?? nodes["name"])
    revenueTopic = reader.topic(
      topics["revenue"], ["topics", "revenue"], prefix + ".revenue", place: nodes["prefix"] ?? nodes["name"])
    cashflowTopic = reader.topic(
      topics["cashflow"], ["topics", "cashflow"], prefix + ".cashflow", place: nodes["prefix"] ?? nodes["name"])
    receivablesTopic = reader.topic(
      topics["receivables"], ["topics", "receivables"], prefix + ".receivables",
      place: nodes["prefix"] ?? nodes["name"])
    varianceTopic = reader.topic(
      topics["variance"], ["topics", "variance"], prefix + ".variance", place: nodes["prefix"] ?? nodes["name"])
    qualityTopic = reader.topic(
      topics["quality"], ["topics", "quality"], prefix + ".quality", place: nodes["prefix"] ?? nodes["name"])
    readAggregates(nodes["aggregates"], reader)
    readQuality(nodes["quality"], reader)
    actionsTopic = reader.topic(
      topics["actions"], ["topics", "actions"], prefix + ".actions", place: nodes["prefix"] ?? nodes["name"])
    let actions = reader.nodes(nodes["actions"], ["actions"])
    takesActions = reader.bool(actions["enabled"], ["actions", "enabled"], false)
    proposalsTopic = reader.topic(
      topics["proposals"], ["topics", "proposals"], prefix + ".proposals", place: nodes["prefix"] ?? nodes["name"])
    let checkpointNodes = reader.nodes(nodes["checkpoints"], ["checkpoints"])
    enum Store: String, CaseIterable { case topic, directory, off }
    switch reader.choice(checkpointNodes["store"], ["checkpoints", "store"], Store.topic) {
    case .topic: checkpoints = .topic
    case .off: checkpoints = .off
    case .directory:
      if let node = checkpointNodes["directory"] {
        checkpoints = .directory(reader.resolve(reader.name(node, ["checkpoints", "directory"], "")))
      } else {
        reader.problem(nodes["checkpoints"], "checkpoints: 'directory' is missing")
      }
    }
    checkpointInterval_ms = reader.duration_ms(
      checkpointNodes["interval"], ["checkpoints", "interval"], checkpointInterval_ms, atLeast: 1)
    let limits = reader.nodes(nodes["limits"], ["limits"])
    memoryLimit = reader.size(limits["memory"], ["limits", "memory"], memoryLimit)
    let recordBytes = reader.size(limits["record_bytes"], ["limits", "record_bytes"], 4 << 20)
    if recordBytes > memoryLimit {
      reader.problem(
        limits["record_bytes"] ?? limits["memory"], "limits.record_bytes: one record would not fit in limits.memory")
    }
    maximumUnique = reader.integer(
      limits["unique_values"], ["limits", "unique_values"], maximumUnique, 1...1_000_000_000)
    periodsTopic = reader.topic(
      topics["known_periods"], ["topics", "known_periods"], prefix + ".known-periods",
      place: nodes["prefix"] ?? nodes["name"])
    let depth = reader.integer(limits["depth"], ["limits", "depth"], 64, 1...512)
    readMasking(nodes["masking"], reader)
    readMasterData(nodes["master_data"], reader)
    tablesTopic = reader.topic(
      topics["tables"], ["topics", "tables"], prefix + ".tables", place: nodes["prefix"] ?? nodes["name"])
    let deadLetterNodes = reader.nodes(nodes["dead_letters"], ["dead_letters"])
    rawDeadLetters = reader.choice(deadLetterNodes["raw"], ["dead_letters", "raw"], .unmasked)
    let tables = readTables(nodes["tables"], reader)
    var checks = FinanceChecks()
    checks.calendar = readCalendar(nodes["calendar"], reader)
    checks.exchange = readExchange(nodes["fx"], reader)
    followFinance(nodes, reader)
    let policyRows = readPolicySource(nodes["posting_policies"], reader)
    if let calendar = checks.calendar { periods = PeriodCalendar(calendar) }
    if let base = checks.exchange?.rates.base { baseCurrency = base }
    for (key, value, keyNode) in reader.mapping(nodes["sources"], ["sources"]) {
      if let source = readSource(key, value, keyNode, tables, reader, recordBytes: recordBytes, depth: depth) {
        sources.append(source)
      }
    }
    redrivenTopic = reader.topic(
      topics["redriven"], ["topics", "redriven"], prefix + ".redriven", place: nodes["prefix"] ?? nodes["name"])
    readOutputs(nodes["outputs"], reader)
    readSchemaRegistry(nodes["schema_registry"], root, outputs: nodes["outputs"], reader)
    checkMasks(nodes["sources"], reader)
    checkMasterData(nodes["master_data"], reader)
    readMatching(nodes["matching"], reader, &checks)
    policy.checks = checks.isEmpty ? nil : checks
    if sources.contains(where: { !$0.rules.flagNames.isEmpty }) { policy.flagNames = sources.map(\.rules.flagNames) }
    if sources.contains(where: { $0.rules.missingFlags != 0 }) {
      policy.missingFlags = sources.map(\.rules.missingFlags)
    }
    if sources.contains(where: \.mapping.tellsRowTimes) { policy.positioned = sources.map(\.mapping.tellsRowTimes) }
    checkHold(nodes["master_data"], reader)
    readPolicy(nodes["policy"], reader)
    takePolicies(policyRows, nodes["posting_policies"], reader)
    readFlows(nodes["flows"], tables, reader)
    readVariance(nodes["variance"], reader)
    governance = readGovernance(nodes["governance"], reader)
    let epoch = reader.nodes(nodes["epoch"], ["epoch"])
    epochRecords = reader.integer(epoch["records"], ["epoch", "records"], epochRecords, 1...10_000_000)
    epochInterval_ms = reader.duration_ms(epoch["interval"], ["epoch", "interval"], epochInterval_ms, atLeast: 1)
    epochBacklogInterval_ms = reader.duration_ms(
      epoch["interval_during_backlog"], ["epoch", "interval_during_backlog"],
      max(epochBacklogInterval_ms, epochInterval_ms), atLeast: epochInterval_ms)
    epochRetention_ms = reader.duration_ms(
      epoch["retention"], ["epoch", "retention"], epochRetention_ms, atLeast: 60_000)
    let logging = reader.nodes(nodes["logging"], ["logging"])
    logLevel = reader.choice(logging["level"], ["logging", "level"], LogLevel.info).rawValue
    logFormat = reader.choice(logging["format"], ["logging", "format"], .text)
    readServe(nodes["serve"], reader, prefix: prefix)
    readMonitoring(nodes["monitoring"], reader)
    checkKinds(nodes["sources"], root, reader)
  }

  private enum LogLevel: String, CaseIterable { case trace, debug, info, notice, warning, error }

  /// Both sides must be there. A source whose kind cannot be read is a problem of its own, and hides this one.
  private func checkKinds(_ node: Node?, _ root: Node, _ reader: ConfigurationReader) {
    guard let node else {
      reader.problem(root, "'sources' is missing")
      return
    }
    guard let map = node.mapping, sources.count == map.count else { return }
    if !sources.contains(where: { $0.mapping.kind == .orders }) {
      reader.problem(node, "sources: there is none of kind orders")
    }
    if !sources.contains(where: { $0.mapping.kind == .ledger }), !policy.quantities.isEnabled {
      reader.problem(
        node,
        "sources: there is none of kind ledger (orders can only be compared alone with matching.quantities.compare)")
    }
  }

  private mutating func readAggregates(_ node: Node?, _ reader: ConfigurationReader) {
    let path = ["aggregates"]
    guard let nodes = reader.enabledNodes(node, path, "aggregates") else { return }
    var settings = AggregateSettings()
    settings.interval_ms = reader.duration_ms(nodes["interval"], path + ["interval"], settings.interval_ms, atLeast: 1)
    if nodes["values"]?.mapping != nil {
      settings.limits.valuesByDimension = Array(repeating: 0, count: dimensions.count)
      for (name, value, keyNode) in reader.mapping(nodes["values"], path + ["values"]) {
        guard let at = dimensions.firstIndex(of: name) else {
          reader.problem(keyNode, "aggregates.values: unknown dimension '\(name)'\(reader.hint(name, dimensions))")
          continue
        }
        settings.limits.valuesByDimension[at] = reader.integer(
          value, path + ["values", name], settings.limits.valuesPerDimension, 1...65_533)
      }
    } else {
      settings.limits.valuesPerDimension = reader.integer(
        nodes["values"], path + ["values"], settings.limits.valuesPerDimension, 1...65_533)
    }
    settings.limits.cells = reader.integer(nodes["cells"], path + ["cells"], settings.limits.cells, 1...1_000_000)
    settings.countsQuantities = reader.bool(nodes["quantities"], path + ["quantities"], false)
    settings.inheritedDimensions = readInherited(nodes["inherit"], path + ["inherit"], reader)
    aggregates = settings
  }

  private enum Inheritance: String, CaseIterable { case all, none }

  /// Dimensions, a bit each.
  private func readInherited(_ node: Node?, _ path: [String], _ reader: ConfigurationReader) -> UInt8 {
    guard let items = node?.sequence else {
      return reader.choice(node, path, Inheritance.all) == .all
        ? UInt8(truncatingIfNeeded: 1 << dimensions.count - 1) : 0
    }
    var inherited: UInt8 = 0
    for (item, name) in zip(items, reader.names(node, path)) {
      if let at = dimensions.firstIndex(of: name) {
        inherited |= 1 << UInt8(at)
      } else {
        reader.problem(item, "aggregates.inherit: unknown dimension '\(name)'\(reader.hint(name, dimensions))")
      }
    }
    return inherited
  }

  private mutating func readQuality(_ node: Node?, _ reader: ConfigurationReader) {
    let path = ["quality"]
    guard let nodes = reader.enabledNodes(node, path, "counts of quality") else { return }
    var settings = QualitySettings()
    settings.interval_ms = reader.duration_ms(nodes["interval"], path + ["interval"], settings.interval_ms, atLeast: 1)
    settings.maximumPeriods = reader.integer(nodes["periods"], path + ["periods"], settings.maximumPeriods, 1...10_000)
    quality = settings
  }

  private mutating func readKafka(_ node: Node?, _ reader: ConfigurationReader) {
    let nodes = reader.nodes(node, ["kafka"])
    kafka.bootstrap = reader.name(nodes["bootstrap"], ["kafka", "bootstrap"], kafka.bootstrap)
    kafka.group = reader.name(nodes["group"], ["kafka", "group"], "tieout-" + name)
    kafka.start = reader.choice(nodes["start"], ["kafka", "start"], .earliest)
    kafka.delivery = reader.choice(nodes["delivery"], ["kafka", "delivery"], .exactlyOnce)
    kafka.instance = reader.text(nodes["instance"], ["kafka", "instance"], "")
    if let node = nodes["replication"] {
      kafka.replication = reader.integer(node, ["kafka", "replication"], 1, 1...1_000)
    }
    kafka.properties = reader.properties(nodes["properties"], ["kafka", "properties"])
    kafka.consumer = reader.properties(nodes["consumer"], ["kafka", "consumer"])
    kafka.producer = reader.properties(nodes["producer"], ["kafka", "producer"])
  }
}
