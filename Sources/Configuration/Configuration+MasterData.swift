import Decoding
import Domain
import Validation
import Yams

/// A value table whose entries stand in a file: what is read again when the file changes.
public struct TableSource: Sendable, Equatable {
  public var name: String
  /// As it is opened.
  public var path: String
  /// Names of the columns; nil for the first and the second.
  public var key: String?
  public var value: String?
  /// Entries in the configuration itself, which win over those of the file.
  public var inline: [String: String] = [:]
}

/// Why tables could not be read again.
public struct TableError: Error, Sendable, Equatable, CustomStringConvertible {
  public var description: String
}

/// By table, by key.
public typealias TableEntries = [String: [String: String]]

/// Master data that changes while the tasks run: value tables of files, whose every version is kept so that each record is
/// decoded again as it was decoded first.
extension Configuration {
  mutating func readMasterData(_ node: Node?, _ reader: ConfigurationReader) {
    let path = ["master_data"]
    guard let nodes = reader.enabledNodes(node, path, "changes of master data") else { return }
    masterDataInterval_ms = reader.duration_ms(nodes["interval"], path + ["interval"], 30_000, atLeast: 100)
  }

  /// After the sources: a router must find the order without the tables.
  func checkMasterData(_ node: Node?, _ reader: ConfigurationReader) {
    guard followsTables else { return }
    if tableSources.isEmpty { reader.problem(node, "master_data: no table has a file, so nothing can change") }
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
        let entries = try TableFile(path: source.path).entries(key: source.key, value: source.value)
        all[source.name] = entries.merging(source.inline) { _, inline in inline }
      } catch { throw TableError(description: "the table '\(source.name)': \(error.message)") }
    }
    return all
  }

  /// This configuration with other entries in the tables of files, everywhere they are used.
  /// - Throws: where a mapping makes no sense with them (a role that is none).
  public func replacingTables(_ entries: TableEntries) throws(TableError) -> Configuration {
    var next = self
    for (name, table) in entries where tableContents[name] != nil { next.tableContents[name] = table }
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

  /// A hash of what the tables of files hold, in any order of tables and entries.
  var tablesDigest: String {
    var parts: [String] = []
    for (name, entries) in tableEntries {
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
