import Aggregates
import Decoding
import Domain
import Matching
import Validation
import Yams

/// What is read again when it changes: a value table whose entries stand in a file, the fiscal calendar, or rates.
public struct TableSource: Sendable, Equatable {
  public enum Kind: Sendable, Equatable {
    case values
    /// By the name of the period: first and last day, state, and when it was closed.
    case calendar
    /// By date and both currencies.
    case rates
  }

  public var kind = Kind.values
  /// Of the table; of the calendar and the rates a name that no table has.
  public var name: String
  /// As it is opened.
  public var path: String
  /// Names of the columns; nil for the first and the second.
  public var key: String?
  public var value: String?
  /// Entries in the configuration itself, which win over those of the file.
  public var inline: [String: String] = [:]

  static let calendarName = "(calendar)"
  static let ratesName = "(rates)"
  /// Between the parts of a key or a value that has several.
  static let separator: Character = "\u{1f}"

  /// What the file holds, in the form in which versions are kept.
  func entries() throws(TableFile.Fault) -> [String: String] {
    switch kind {
    case .values:
      return try TableFile(path: path).entries(key: key, value: value).merging(inline) { _, inline in inline }
    case .calendar, .rates:
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
    }
  }

  static func optionalColumns(_ kind: Kind) -> [String] { kind == .calendar ? ["state", "closed_at"] : [] }

  /// How many of the columns, from the first, make the key.
  private static func keyCount(_ kind: Kind) -> Int { kind == .rates ? 3 : 1 }

  /// Rows as entries; what comes twice must be the same.
  static func entries(
    _ kind: Kind, _ rows: [(place: String, cells: [String: String])]
  ) throws(TableFile.Fault) -> [String: String] {
    let names = columns(kind) + optionalColumns(kind)
    var entries: [String: String] = [:]
    for row in rows {
      let texts = names.map { row.cells[$0] ?? "" }
      let key = texts.prefix(keyCount(kind)).joined(separator: String(separator))
      let value = texts.dropFirst(keyCount(kind)).joined(separator: String(separator))
      if let known = entries[key], known != value {
        throw TableFile.Fault(message: "\(row.place): the same as an earlier row, with another value")
      }
      entries[key] = value
    }
    return entries
  }

  /// Entries as rows, in the order of their keys.
  static func rows(_ kind: Kind, _ entries: [String: String]) -> [[String: String]] {
    let names = columns(kind) + optionalColumns(kind)
    return entries.sorted { $0.key < $1.key }.map { key, value in
      let texts =
        (key.split(separator: separator, omittingEmptySubsequences: false)
        + value.split(separator: separator, omittingEmptySubsequences: false)).map(String.init)
      return Dictionary(zip(names, texts)) { first, _ in first }
    }
  }
}

/// Why tables could not be read again.
public struct TableError: Error, Sendable, Equatable, CustomStringConvertible {
  public var description: String
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
  }

  /// After the sources: a router must find the order without the tables.
  func checkMasterData(_ node: Node?, _ reader: ConfigurationReader) {
    guard followsTables else { return }
    if tableSources.isEmpty {
      reader.problem(
        node, "master_data: neither a table nor the calendar nor rates come from a file, so nothing can change")
    }
    let names = Set(tableSources.map(\.name))
    for source in sources where source.isRouted {
      if let table = source.mapping.fields["order"]?.table, names.contains(table.name) {
        reader.problem(
          node,
          "master_data: the order of the routed source '\(source.name)' goes through the table '\(table.name)'; a change "
            + "would send the records of an order to two partitions")
      }
    }
  }

  public var followsTables: Bool { masterDataInterval_ms != nil }

  /// What the tables of files hold, as this configuration has them.
  public var tableEntries: TableEntries {
    Dictionary(uniqueKeysWithValues: tableSources.map { ($0.name, tableContents[$0.name] ?? [:]) })
  }

  /// Reads the files again.
  public func rereadTables() throws(TableError) -> TableEntries {
    var all: TableEntries = [:]
    for source in tableSources {
      do throws(TableFile.Fault) {
        all[source.name] = try source.entries()
      } catch { throw TableError(description: "\(source.words): \(error.message)") }
    }
    return all
  }

  /// The file of the fiscal calendar, where it is followed.
  public var followedCalendarPath: String? { tableSources.first { $0.kind == .calendar }?.path }

  /// Reads the file of the fiscal calendar again.
  public func rereadCalendar() throws(TableError) -> FiscalCalendar? {
    guard let source = tableSources.first(where: { $0.kind == .calendar }) else { return nil }
    var next = self
    do throws(TableFile.Fault) {
      let entries = try source.entries()
      do throws(TableError) { try next.replace(source, entries) } catch { throw TableFile.Fault(message: "\(error)") }
    } catch { throw TableError(description: "the calendar: \(error.message)") }
    return next.policy.checks?.calendar
  }

  /// This configuration with other entries in what is read from files, everywhere it is used.
  /// - Throws: where a mapping makes no sense with them (a role that is none), or periods or rates do not.
  public func replacingTables(_ entries: TableEntries) throws(TableError) -> Configuration {
    var next = self
    for (name, table) in entries where tableContents[name] != nil { next.tableContents[name] = table }
    for source in tableSources where source.kind != .values {
      guard let entries = entries[source.name], entries != tableContents[source.name] else { continue }
      try next.replace(source, entries)
    }
    let contents = next.tableContents
    func replace(_ field: inout FieldMapping) {
      if let name = field.table?.name, let known = contents[name] { field.table!.entries = known }
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
      } catch { throw TableError(description: "\(error)") }
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

  /// Takes other periods, or other rates.
  private mutating func replace(_ source: TableSource, _ entries: [String: String]) throws(TableError) {
    let rows = TableSource.rows(source.kind, entries)
    let reader = ConfigurationReader(file: source.words, directory: "", environment: [:])
    var checks = policy.checks ?? FinanceChecks()
    switch source.kind {
    case .values: return
    case .calendar:
      checks.calendar = Configuration.calendar(rows, reader)
      if let calendar = checks.calendar { periods = PeriodCalendar { calendar.period(ofDay: $0) } }
    case .rates:
      guard let old = checks.exchange else { return }
      checks.exchange = Configuration.exchange(rows, old, reader)
    }
    if let problem = reader.problems.first { throw TableError(description: "\(source.words): \(problem.message)") }
    policy.checks = checks
  }

  /// Whether another version may follow this one. Sums by period are told by the period's name: one that is moved would
  /// take back from another cell than it had added to.
  public func checkSuccessor(_ next: Configuration) throws(TableError) {
    guard aggregates != nil, let old = policy.checks?.calendar, let new = next.policy.checks?.calendar else { return }
    for period in old.periods {
      guard let other = new.period(named: period.name) else {
        throw TableError(
          description: "the calendar: period \(period.text) is gone, and aggregates have sums of it")
      }
      guard other.first_d == period.first_d, other.last_d == period.last_d else {
        throw TableError(
          description: "the calendar: period \(period.text) has other days, and aggregates have sums of it")
      }
    }
  }

  /// A hash of what the tables of files hold, in any order of tables and entries. Periods and rates are part of the policy.
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
  var words: String {
    switch kind {
    case .values: "the table '\(name)'"
    case .calendar: "the calendar"
    case .rates: "the rates"
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
    for name in mapping.fields.keys {
      guard let table = mapping.fields[name]!.table, followed.contains(table.name) else { continue }
      let word: String? =
        switch name {
        case "event": OrderEventKind.booked.name
        case "role": AccountRole.receivable.name
        default: nil
        }
      // A table that says to skip is asked by the task: a router that skips loses nothing, one that takes loses nothing.
      mapping.fields[name]!.table!.unlisted = word.map { .replace($0) } ?? .keep
    }
    for at in mapping.dimensions.indices {
      if let table = mapping.dimensions[at]?.table, followed.contains(table.name) {
        mapping.dimensions[at]!.table!.unlisted = .keep
      }
    }
    if case .indicated(let value, var side) = mapping.amount, let table = side.table, followed.contains(table.name) {
      side.table!.unlisted = .replace("debit")
      mapping.amount = .indicated(amount: value, side: side)
    }
    return mapping
  }
}
