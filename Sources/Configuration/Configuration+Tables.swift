import Decoding
import Domain
import Foundation
import Yams

extension Configuration {
  mutating func readTables(_ node: Node?, _ reader: ConfigurationReader) -> [String: ValueTable] {
    var tables: [String: ValueTable] = [:]
    for (name, value, keyNode) in reader.mapping(node, ["tables"]) {
      let path = ["tables", name]
      let parts = reader.nodes(value, path)
      var entries: [String: String] = [:]
      var isUnread = false
      for (key, value, _) in reader.mapping(parts["entries"], path + ["entries"]) {
        entries[key] = reader.entry(name, key, value, path + ["entries", key])
      }
      if let topicNode = parts["topic"] {
        isUnread = true
        if parts["file"] != nil {
          reader.problem(topicNode, "\(reader.dotted(path)): either 'file' or 'topic', not both")
        }
        let topic = readTableTopic(topicNode, path + ["topic"], reader)
        let key = parts["key"].map { reader.name($0, path + ["key"], "") }
        let value = parts["value"].map { reader.name($0, path + ["value"], "") }
        tableSources.append(TableSource(name: name, topic: topic, key: key, value: value, inline: entries))
        tableContents[name] = entries
      } else if let fileNode = parts["file"] {
        let file = reader.name(fileNode, path + ["file"], "")
        let key = parts["key"].map { (name: reader.name($0, path + ["key"], ""), node: $0) }
        let value = parts["value"].map { (name: reader.name($0, path + ["value"], ""), node: $0) }
        tableSources.append(
          TableSource(name: name, path: reader.resolve(file), key: key?.name, value: value?.name, inline: entries))
        do throws(TableFile.Fault) {
          let table = try TableFile(path: reader.resolve(file))
          // Entries in the configuration itself win over those of the file.
          entries.merge(try table.entries(key: key?.name, value: value?.name)) { inline, _ in inline }
          tableContents[name] = entries
        } catch {
          isUnread = true
          let column: Node? = error.column == nil ? nil : error.column == key?.name ? key?.node : value?.node
          reader.problem(column ?? fileNode, "\(reader.dotted(path)).file: \(error.message)")
        }
      } else {
        for name in ["key", "value"] {
          if let node = parts[name] {
            reader.problem(node, "\(reader.dotted(path)).\(name): there is neither 'file' nor 'topic'")
          }
        }
      }
      if entries.isEmpty, !isUnread { reader.problem(keyNode, "the table '\(name)' has no entries") }
      tables[name] = ValueTable(
        name: name, entries: entries, unlisted: readUnlisted(parts["unlisted"], path + ["unlisted"], reader))
    }
    tableSources.sort { $0.name < $1.name }
    return tables
  }

  func readUnlisted(_ node: Node?, _ path: [String], _ reader: ConfigurationReader) -> ValueTable.Unlisted {
    if let map = node?.mapping {
      if map.count == 1, let first = map.first, first.key.string == "replace" {
        return .replace(reader.text(first.value, path + ["replace"], ""))
      }
      reader.problem(node, "\(reader.dotted(path)): reject, skip, keep or {replace: text} is expected")
      return .reject
    }
    enum Word: String, CaseIterable { case reject, skip, keep }
    return switch reader.choice(node, path, Word.reject) {
    case .reject: .reject
    case .skip: .skip
    case .keep: .keep
    }
  }
}

/// A CSV file (RFC 4180, UTF-8) that holds master data: its first line names the columns, two at the least. Where a semicolon
/// or a tab stands between them and no comma does, that is what separates columns in the whole file.
struct TableFile {
  /// What is wrong with the file; `column` is the configured name that it does not have.
  struct Fault: Error {
    var message: String
    var column: String?
  }

  let path: String
  /// Each row with the line on which it starts.
  private(set) var rows: [(line: Int, cells: [String])] = []

  init(path: String) throws(Fault) {
    self.path = path
    guard let data = FileManager.default.contents(atPath: path) else { throw Fault(message: "cannot read \(path)") }
    guard let text = String(validating: data, as: UTF8.self) else { throw Fault(message: "\(path) is not UTF-8") }
    try parse(text.unicodeScalars.first == "\u{feff}" ? text.unicodeScalars.dropFirst() : text.unicodeScalars[...])
  }

  /// What stands between the names of the columns.
  private static func delimiter(_ text: Substring.UnicodeScalarView) -> Unicode.Scalar {
    var isQuoted = false
    var found: Set<Unicode.Scalar> = []
    for scalar in text {
      if scalar == "\"" { isQuoted.toggle() }
      if scalar == "\n", !isQuoted { break }
      if !isQuoted { found.insert(scalar) }
    }
    return ([",", ";", "\t"] as [Unicode.Scalar]).first { found.contains($0) } ?? ","
  }

  private mutating func parse(_ text: Substring.UnicodeScalarView) throws(Fault) {
    let delimiter = TableFile.delimiter(text)
    var cells: [String] = []
    var cell = String.UnicodeScalarView()
    var (line, start, isQuoted, wasQuoted) = (1, 1, false, false)
    var at = text.startIndex
    func trimmed() -> String {
      wasQuoted ? String(cell) : String(cell).trimmingCharacters(in: .whitespaces)
    }
    while at < text.endIndex {
      let scalar = text[at]
      at = text.index(after: at)
      if scalar == "\n" { line += 1 }
      if isQuoted {
        if scalar != "\"" {
          cell.append(scalar)
        } else if at < text.endIndex, text[at] == "\"" {
          cell.append(scalar)
          at = text.index(after: at)
        } else {
          isQuoted = false
        }
        continue
      }
      switch scalar {
      case "\"" where !wasQuoted && cell.allSatisfy({ $0 == " " }):
        cell = .init()
        isQuoted = true
        wasQuoted = true
      case delimiter, "\n":
        cells.append(trimmed())
        (cell, wasQuoted) = (.init(), false)
        if scalar == "\n" {
          if cells != [""] { rows.append((start, cells)) }
          (cells, start) = ([], line)
        }
      case "\r": break
      default:
        // Only white space may follow a closing quote.
        if !wasQuoted {
          cell.append(scalar)
        } else if scalar != " " {
          throw Fault(message: "\(path):\(line): text after a closing quote")
        }
      }
    }
    guard !isQuoted else { throw Fault(message: "\(path):\(start): a quote is not closed") }
    cells.append(trimmed())
    if cells != [""] { rows.append((start, cells)) }
  }

  /// The entries of two columns, by name; the first and the second where no name is given.
  func entries(key: String?, value: String?) throws(Fault) -> [String: String] {
    guard let header = rows.first?.cells, header.count >= 2 else {
      throw Fault(message: "\(path) has no header of two columns")
    }
    func column(_ name: String?, _ standard: Int) throws(Fault) -> Int {
      guard let name else { return standard }
      guard let at = header.firstIndex(of: name) else {
        let hint = nearestName(name, in: header).map { "; did you mean '\($0)'?" } ?? ""
        throw Fault(message: "\(path) has no column '\(name)'\(hint)", column: name)
      }
      return at
    }
    let (from, to) = (try column(key, 0), try column(value, 1))
    var entries: [String: String] = [:]
    for (line, row) in rows.dropFirst() {
      guard row.count > max(from, to) else { throw Fault(message: "\(path):\(line): too few columns") }
      if let known = entries[row[from]], known != row[to] {
        throw Fault(message: "\(path):\(line): '\(row[from])' comes twice with different values")
      }
      entries[row[from]] = row[to]
    }
    guard !entries.isEmpty else { throw Fault(message: "\(path) has no rows below its header") }
    return entries
  }
}
