import Aggregates
import Decoding
import Domain
import Foundation
import Matching
import Validation
import Yams

/// What is read again when it changes: a value table, the fiscal calendar, rates, or posting policies, of a file or of a
/// compacted topic.
public struct TableSource: Sendable, Equatable {
  public enum Kind: Sendable, Equatable {
    case values
    /// By the name of the period: first and last day, state, and when it was closed.
    case calendar
    /// By date and both currencies.
    case rates
    /// By event, role, component and first day.
    case policies
  }

  public var kind = Kind.values
  /// Of the table; of the calendar, the rates and the posting policies a name that no table has.
  public var name: String
  /// The file as it is opened; empty where it is a topic.
  public var path = ""
  /// nil where it is a file.
  public var topic: String?
  /// Names of the columns or fields; nil for the first and the second column, and for the record's key.
  public var key: String?
  public var value: String?
  /// Entries in the configuration itself, which win over those of the file.
  public var inline: [String: String] = [:]

  static let calendarName = "(calendar)"
  static let ratesName = "(rates)"
  static let policiesName = "(posting policies)"
  /// Between the parts of a key or a value that has several.
  public static let separator: Character = "\u{1f}"

  /// What the file holds (of a topic nothing but what the configuration adds), in the form in which versions are kept.
  func entries() throws(TableFile.Fault) -> [String: String] {
    if topic != nil { return inline }
    switch kind {
    case .values:
      return try TableFile(path: path).entries(key: key, value: value).merging(inline) { _, inline in inline }
    case .calendar, .rates, .policies:
      return try TableSource.entries(
        kind,
        try TableFile(path: path).rows(of: TableSource.columns(kind), optional: TableSource.optionalColumns(kind)).map {
          ("\(path):\($0.line)", $0.cells)
        })
    }
  }

  static func columns(_ kind: Kind) -> [String] {
    switch kind {
    case .values: []
    case .calendar: ["period", "start", "end"]
    case .rates: ["date", "from", "to", "rate"]
    case .policies: ["event", "role", "component", "sign"]
    }
  }

  static func optionalColumns(_ kind: Kind) -> [String] {
    switch kind {
    case .values, .rates: []
    case .calendar: ["state", "closed_at"]
    case .policies: ["valid_from"]
    }
  }

  /// All columns, those first that make the key.
  static func names(_ kind: Kind) -> [String] {
    kind == .policies
      ? ["event", "role", "component", "valid_from", "sign"] : columns(kind) + optionalColumns(kind)
  }

  /// In place of the name of a period: these days are no business days.
  static let holiday = "holiday"

  /// How many of the columns, from the first, make the key: of holidays the first day as well.
  private static func keyCount(_ kind: Kind, _ texts: [String]) -> Int {
    kind == .policies ? 4 : kind == .rates ? 3 : texts.first == holiday ? 2 : 1
  }

  /// Rows as entries; what comes twice must be the same.
  static func entries(
    _ kind: Kind, _ rows: [(place: String, cells: [String: String])]
  ) throws(TableFile.Fault) -> [String: String] {
    let names = names(kind)
    var entries: [String: String] = [:]
    for row in rows {
      let texts = names.map { row.cells[$0] ?? "" }
      let count = keyCount(kind, texts)
      let key = texts.prefix(count).joined(separator: String(separator))
      let value = texts.dropFirst(count).joined(separator: String(separator))
      if let known = entries[key], known != value {
        throw TableFile.Fault(message: "\(row.place): the same as an earlier row, with another value")
      }
      entries[key] = value
    }
    return entries
  }

  /// The entry of a record: a JSON object of plain values under the record's key.
  /// - Throws: where it is none, a field is missing, or a period or a rate makes no sense by itself.
  public func entry(key: [UInt8]?, value: [UInt8]) throws(MasterDataError) -> (key: String, value: String) {
    let fields = try TableSource.fields(value)
    func text(_ name: String) throws(MasterDataError) -> String {
      guard let text = fields[name] else { throw MasterDataError(description: "it has no field '\(name)'") }
      return text
    }
    switch kind {
    case .values:
      let own: String
      if let name = self.key, name != TableSource.recordKey {
        own = try text(name)
      } else {
        guard let key, let made = String(validating: key, as: UTF8.self) else {
          throw MasterDataError(description: "it has no key, or one that is no UTF-8")
        }
        own = made
      }
      return (own, try self.value.map { (name) throws(MasterDataError) in try text(name) } ?? own)
    case .calendar, .rates, .policies:
      var cells: [String: String] = [:]
      for name in TableSource.columns(kind) { cells[name] = try text(name) }
      for name in TableSource.optionalColumns(kind) { cells[name] = fields[name] ?? "" }
      if let problem = Configuration.problem(kind, cells) { throw MasterDataError(description: problem) }
      do throws(TableFile.Fault) {
        let made = try TableSource.entries(kind, [("", cells)]).first!
        return (made.key, made.value)
      } catch { throw MasterDataError(description: error.message) }
    }
  }

  /// The fields of a JSON object of plain values, as texts; those that are null are left out.
  static func fields(_ value: [UInt8]) throws(MasterDataError) -> [String: String] {
    do {
      return try JSONDecoder().decode([String: CellText].self, from: Data(value)).compactMapValues(\.text)
    } catch {
      throw MasterDataError(description: "it is no JSON object whose fields are texts, numbers, true, false or null")
    }
  }

  /// In place of a field: the key of the record.
  static let recordKey = "$key"

  /// A plain value of JSON as text; numbers exactly as many digits as a decimal has, nil for null.
  private struct CellText: Decodable {
    var text: String?

    init(from decoder: any Decoder) throws {
      let value = try decoder.singleValueContainer()
      if value.decodeNil() {
        text = nil
      } else if let known = try? value.decode(String.self) {
        text = known
      } else if let known = try? value.decode(Bool.self) {
        text = known ? "true" : "false"
      } else {
        text = try value.decode(Decimal.self).description
      }
    }
  }

  /// Entries as rows, in the order of their keys.
  static func rows(_ kind: Kind, _ entries: [String: String]) -> [[String: String]] {
    let names = names(kind)
    return entries.sorted { $0.key < $1.key }.map { key, value in
      let texts =
        (key.split(separator: separator, omittingEmptySubsequences: false)
        + value.split(separator: separator, omittingEmptySubsequences: false)).map(String.init)
      return Dictionary(zip(names, texts)) { first, _ in first }
    }
  }
}

/// How long records wait whose reference no table knows, and how many at the most, for each task.
public struct HoldSettings: Sendable, Equatable {
  public var time_ms: Int64 = 600_000
  public var records = 10_000
  public var bytes = 16 << 20

  public init() {}
}

/// Why tables could not be read again.
public struct MasterDataError: Error, Sendable, Equatable, CustomStringConvertible {
  public var description: String

  public init(description: String) { self.description = description }
}

/// By table, by key.
public typealias TableEntries = [String: [String: String]]

/// Master data that changes while the tasks run: value tables of files, the fiscal calendar, rates. Every version is kept,
/// so that each record is decoded and judged again as it was first.
extension Configuration {
  mutating func readMasterData(_ node: Node?, _ reader: ConfigurationReader) {
    let path = ["master_data"]
    guard let nodes = reader.enabledNodes(node, path, "changes of master data") else { return }
    masterDataInterval_ms = reader.duration_ms(nodes["interval"], path + ["interval"], 30_000, atLeast: 100)
    guard nodes["hold"] != nil else { return }
    let parts = reader.nodes(nodes["hold"], path + ["hold"])
    var settings = HoldSettings()
    settings.time_ms = reader.duration_ms(parts["time"], path + ["hold", "time"], settings.time_ms, atLeast: 1)
    settings.records = reader.integer(parts["records"], path + ["hold", "records"], settings.records, 1...20_000)
    settings.bytes = reader.size(parts["bytes"], path + ["hold", "bytes"], settings.bytes)
    hold = settings
  }

  /// After matching: what waits must come in time.
  func checkHold(_ node: Node?, _ reader: ConfigurationReader) {
    guard let hold else { return }
    let horizon_ms = policy.window_ms.addingReportingOverflow(policy.grace_ms).partialValue
    if hold.time_ms > horizon_ms {
      reader.problem(
        node?.mapping?["hold"]?.mapping?["time"] ?? node,
        "master_data.hold.time: a record would come after window and grace, "
          + "\(ConfigurationReader.durationText(horizon_ms)), by waiting")
    }
  }

  /// After the sources: a router must find the order without the tables.
  func checkMasterData(_ node: Node?, _ reader: ConfigurationReader) {
    guard followsTables else { return }
    if tableSources.isEmpty {
      reader.problem(
        node,
        "master_data: neither a table nor the calendar, rates or posting policies come from a file or a topic, so nothing "
          + "can change")
    }
    let names = Set(tableSources.map(\.name))
    for source in sources where source.isRouted {
      for table in source.mapping.fields["order"]?.tables ?? [] where names.contains(table.name) {
        reader.problem(
          node,
          "master_data: the order of the routed source '\(source.name)' goes through the table '\(table.name)'; a change "
            + "would send the records of an order to two partitions")
      }
    }
  }

  /// Tables of topics: they have to be read before the first record is decoded.
  public var topicTables: [TableSource] { tableSources.filter { $0.topic != nil } }

  /// The topic of a table, of the calendar or of rates, which is followed and so needs `master_data`.
  mutating func readTableTopic(_ node: Node, _ path: [String], _ reader: ConfigurationReader) -> String {
    let topic = reader.topic(node, path, "", place: node)
    if !followsTables {
      reader.problem(node, "\(reader.dotted(path)): topics are followed: set master_data.enabled")
    }
    return topic
  }

  public var followsTables: Bool { masterDataInterval_ms != nil }

  /// What the tables of files hold, as this configuration has them.
  public var tableEntries: TableEntries {
    Dictionary(uniqueKeysWithValues: tableSources.map { ($0.name, tableContents[$0.name] ?? [:]) })
  }

  /// Reads the files again.
  /// - Parameter topics: What the topics hold.
  /// - Throws: where a file cannot be read, or a topic has no fiscal period: sums by calendar months would have to become
  ///   those of other periods later.
  public func rereadTables(topics: TableEntries = [:]) throws(MasterDataError) -> TableEntries {
    var all: TableEntries = [:]
    for source in tableSources { all[source.name] = try rereadTable(source, topics: topics) }
    return all
  }

  /// The same of one table.
  public func rereadTable(
    _ source: TableSource, topics: TableEntries
  ) throws(MasterDataError) -> [String: String] {
    if source.topic != nil {
      // Entries in the configuration itself win, as over those of a file.
      let entries = (topics[source.name] ?? [:]).merging(source.inline) { _, inline in inline }
      guard source.kind != .calendar || entries.keys.contains(where: { !$0.hasPrefix(TableSource.holiday) }) else {
        throw MasterDataError(description: "\(source.words): there is no period in the topic '\(source.topic!)'")
      }
      return entries
    }
    do throws(TableFile.Fault) {
      return try source.entries()
    } catch { throw MasterDataError(description: "\(source.words): \(error.message)") }
  }

  /// This configuration with other entries in what is read from files, everywhere it is used.
  /// - Throws: where a mapping makes no sense with them (a role that is none), or periods or rates do not.
  public func replacingTables(_ entries: TableEntries) throws(MasterDataError) -> Configuration {
    var next = self
    for (name, table) in entries where tableContents[name] != nil { next.tableContents[name] = table }
    for source in tableSources where source.kind != .values {
      guard let entries = entries[source.name], entries != tableContents[source.name] else { continue }
      try next.replace(source, entries)
    }
    let contents = next.tableContents
    func replace(_ field: inout FieldMapping) {
      func renew(_ table: inout ValueTable) {
        if let known = contents[table.name] { table.entries = known }
      }
      if field.table != nil { renew(&field.table!) }
      if !field.value.tables.isEmpty { field.value = field.value.replacingTables(renew) }
    }
    for at in next.sources.indices {
      next.sources[at].mapping.replaceFields(replace)
      for rule in next.sources[at].rules.indices {
        if case .inTable(let field, let name, _) = next.sources[at].rules[rule].condition, let known = contents[name] {
          next.sources[at].rules[rule].condition = .inTable(field, table: name, keys: known.keys.sorted())
        }
      }
      do throws(MappingError) {
        _ = try MappingPlan(next.sources[at].mapping)
      } catch { throw MasterDataError(description: "\(error)") }
    }
    if var flows = next.flows {
      for name in flows.sources.keys {
        if flows.sources[name]!.dueDate != nil { replace(&flows.sources[name]!.dueDate!) }
        if flows.sources[name]!.terms != nil { replace(&flows.sources[name]!.terms!) }
      }
      next.flows = flows
    }
    return next
  }

  /// Takes other periods, rates, or posting policies.
  private mutating func replace(_ source: TableSource, _ entries: [String: String]) throws(MasterDataError) {
    let rows = TableSource.rows(source.kind, entries)
    let reader = ConfigurationReader(file: source.words, directory: "", environment: [:])
    var checks = policy.checks ?? FinanceChecks()
    switch source.kind {
    case .values: return
    case .calendar:
      let hadPeriods = checks.calendar != nil
      checks.calendar = takeCalendar(rows, reader)
      if hadPeriods, checks.calendar == nil, reader.problems.isEmpty {
        throw MasterDataError(description: "\(source.words): there is no period any more")
      }
      if let calendar = checks.calendar { periods = PeriodCalendar(calendar) }
    case .rates:
      guard let old = checks.exchange else { return }
      checks.exchange = Configuration.exchange(rows, old, reader)
    case .policies: takePolicies(rows, reader)
    }
    if let problem = reader.problems.first { throw MasterDataError(description: "\(source.words): \(problem.message)") }
    policy.checks = checks.isEmpty ? nil : checks
  }

  /// Whether aggregates, or the control totals of quality, are kept by the periods of the calendar.
  public var sumsByPeriod: Bool { aggregates != nil || quality != nil }

  /// Whether another version may follow this one. Sums by period are told by the period's name: one that is moved would
  /// take back from another cell than it had added to.
  public func checkSuccessor(_ next: Configuration) throws(MasterDataError) {
    guard let new = next.policy.checks?.calendar else { return }
    guard let old = policy.checks?.calendar else {
      throw MasterDataError(
        description:
          "the calendar: it had holidays alone, and periods by the months of the calendar; a restart is needed")
    }
    guard sumsByPeriod else { return }
    for period in old.periods {
      guard let other = new.period(named: period.name) else {
        throw MasterDataError(
          description: "the calendar: period \(period.text) is gone, and there are sums of it")
      }
      guard other.first_d == period.first_d, other.last_d == period.last_d else {
        throw MasterDataError(
          description: "the calendar: period \(period.text) has other days, and there are sums of it")
      }
    }
  }

  /// A hash of what the tables of files hold, in any order of tables and entries. Periods, rates and posting policies are
  /// part of the policy.
  var tablesDigest: String {
    var parts: [String] = []
    let values = Set(tableSources.lazy.filter { $0.kind == .values }.map(\.name))
    for (name, entries) in tableEntries where values.contains(name) {
      var sum: UInt64 = 0
      for (key, value) in entries {
        let bytes = Array("\(key.utf8.count):\(key)\(value)".utf8)
        sum &+= bytes.withUnsafeBufferPointer { Fingerprint(ByteView($0)).low }
      }
      parts.append("\(name)=\(entries.count):\(String(sum, radix: 16))")
    }
    return parts.sorted().joined(separator: ",")
  }
}

extension TableSource {
  public var words: String {
    switch kind {
    case .values: "the table '\(name)'"
    case .calendar: "the calendar"
    case .rates: "the rates"
    case .policies: "the posting policies"
    }
  }

  /// Where the configuration names it.
  public var settingName: String {
    switch kind {
    case .values: "tables.\(name)"
    case .calendar: "calendar"
    case .rates: "fx"
    case .policies: "posting_policies"
    }
  }
}

extension MappingSpecification {
  fileprivate mutating func replaceFields(_ replace: (inout FieldMapping) -> Void) {
    for name in fields.keys { replace(&fields[name]!) }
    for at in dimensions.indices where dimensions[at] != nil { replace(&dimensions[at]!) }
    switch amount {
    case nil: break
    case .signed(var field):
      replace(&field)
      amount = .signed(field)
    case .debitCredit(var debit, var credit):
      replace(&debit)
      replace(&credit)
      amount = .debitCredit(debit: debit, credit: credit)
    case .indicated(var value, var side):
      replace(&value)
      replace(&side)
      amount = .indicated(amount: value, side: side)
    }
  }
}

extension SourceSettings {
  /// The mapping by which a router finds the order: whatever the followed tables hold, they hide no order key.
  public func routingMapping(_ followed: Set<String>) -> MappingSpecification {
    var mapping = mapping
    // A table that says to skip is asked by the task: a router that skips loses nothing, one that takes loses nothing.
    func open(_ field: inout FieldMapping, _ word: String?) {
      if field.value.tables.contains(where: { followed.contains($0.name) }) {
        // What the parts become is not known, and neither is whether the field's own table has it.
        guard word == nil else {
          field = FieldMapping(.constant(word!))
          return
        }
        field.value = field.value.replacingTables { if followed.contains($0.name) { $0.unlisted = .keep } }
        field.table?.unlisted = .keep
      }
      guard let table = field.table, followed.contains(table.name) else { return }
      field.table!.unlisted = word.map { .replace($0) } ?? .keep
    }
    for name in mapping.fields.keys {
      let word: String? =
        switch name {
        case "event": OrderEventKind.booked.name
        case "role": AccountRole.receivable.name
        default: nil
        }
      open(&mapping.fields[name]!, word)
    }
    for at in mapping.dimensions.indices where mapping.dimensions[at] != nil { open(&mapping.dimensions[at]!, nil) }
    if case .indicated(let value, var side) = mapping.amount {
      open(&side, "debit")
      mapping.amount = .indicated(amount: value, side: side)
    }
    return mapping
  }

  /// The rules that somebody can hold against a record who does not know what these tables have.
  public func rules(without tables: Set<String>) -> [RuleSpecification] {
    guard !tables.isEmpty else { return rules }
    func isOpen(_ field: FieldMapping?) -> Bool { field?.tables.contains { tables.contains($0.name) } ?? false }
    // Which rules are for a record follows from its event or role, and what an amount is may follow from its side.
    let isKindOpen = isOpen(mapping.fields["event"] ?? mapping.fields["role"])
    var isSideOpen = false
    if case .indicated(_, let side) = mapping.amount { isSideOpen = isOpen(side) }
    return rules.filter { rule in
      if isKindOpen, rule.applies != .max { return false }
      switch rule.condition {
      case .inTable(_, let table, _) where tables.contains(table): return false
      case .required(let field), .pattern(let field, _), .oneOf(let field, _), .inTable(let field, _, _),
        .range(let field, _, _), .dates(let field, _, _, _):
        if field.name == .amount, isSideOpen { return false }
        return !isOpen(field.name == .dimension ? mapping.dimensions[Int(field.index)] : mapping.fields[rule.subject])
      case .sum: return !isSideOpen
      }
    }
  }
}
