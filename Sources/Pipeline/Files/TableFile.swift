import Decoding
import Domain
import Foundation

/// A table file that cannot be used; names file and line.
public struct TableError: Error, CustomStringConvertible, Equatable {
  public var file: String
  /// From 1; 0 where the file as a whole is meant.
  public var line: Int64
  public var message: String

  public init(file: String, line: Int64, message: String) {
    self.file = file
    self.line = line
    self.message = message
  }

  public var description: String { line > 0 ? "\(file), line \(line): \(message)" : "\(file): \(message)" }
}

/// How a table of master or planning data is written. Such files are read whole, by people's commands, not per record
/// of a stream.
public struct TableStyle: Sendable, Equatable {
  public var delimiter: UInt8 = UInt8(ascii: ",")
  /// Names of the columns where the file has no header line.
  public var columns: [String]?
  /// Amounts are written `1.234,56`: a comma before the decimals, and maybe points between thousands.
  public var hasDecimalComma: Bool

  public init(delimiter: UInt8 = UInt8(ascii: ","), columns: [String]? = nil, hasDecimalComma: Bool = false) {
    self.delimiter = delimiter
    self.columns = columns
    self.hasDecimalComma = hasDecimalComma
  }
}

/// A CSV file, plain or compressed, with named columns.
public struct TableFile: Sendable {
  public struct Row: Sendable {
    public var line: Int64
    public var cells: [String]
  }

  public let path: String
  public let style: TableStyle
  public private(set) var columns: [String] = []
  public private(set) var rows: [Row] = []

  /// Longest row; a row of master data with a megabyte in it is no row.
  public static let maximumRowBytes = 1 << 20
  /// Five million rows: as many as fit into memory with room to spare; larger files belong into topics.
  public static let maximumRows = 5_000_000

  /// - Parameter limit: The most rows; more are an error, not a cut.
  public init(path: String, style: TableStyle, limit: Int = TableFile.maximumRows) throws {
    self.path = path
    self.style = style
    let quote = UInt8(ascii: "\"")
    let file = try InputFile(
      path: path, style: .csv(quote: quote, delimiter: style.delimiter), maximumLineBytes: TableFile.maximumRowBytes)
    if let names = style.columns { columns = names }
    var needsHeader = style.columns == nil
    var block = LineBlock()
    while try file.next(into: &block, records: 4_096) {
      for line in block.lines {
        guard line.length == line.fullLength else {
          throw TableError(file: path, line: line.number, message: "the row has \(line.fullLength) bytes")
        }
        let bytes = block.bytes[line.start..<line.start + line.length]
        let cells: [String]
        do throws(DataFault) { cells = try TableFile.split(bytes, delimiter: style.delimiter) } catch {
          throw TableError(file: path, line: line.number, message: error.detail)
        }
        if needsHeader {
          columns = cells.map { $0.trimmingCharacters(in: .whitespaces) }
          if columns.first?.hasPrefix("\u{feff}") == true { columns[0].removeFirst() }
          needsHeader = false
          continue
        }
        guard cells.count >= columns.count else {
          throw TableError(
            file: path, line: line.number, message: "\(cells.count) columns where \(columns.count) are named")
        }
        guard rows.count < limit else {
          throw TableError(file: path, line: line.number, message: "more than \(limit) rows")
        }
        rows.append(Row(line: line.number, cells: cells))
      }
      block.removeAll()
    }
    guard !needsHeader else { throw TableError(file: path, line: 0, message: "there is no header line") }
  }

  /// RFC 4180; a quote inside an unquoted column is text.
  static func split(_ row: ArraySlice<UInt8>, delimiter: UInt8) throws(DataFault) -> [String] {
    var row = row
    while let last = row.last, last == 0x0a || last == 0x0d { row.removeLast() }
    var cells: [String] = []
    var cell: [UInt8] = []
    var at = row.startIndex
    func finish() throws(DataFault) {
      guard let text = String(validating: cell, as: UTF8.self) else {
        throw DataFault(.schemaInvalid, detail: "column \(cells.count + 1) is not UTF-8")
      }
      cells.append(text)
      cell.removeAll(keepingCapacity: true)
    }
    while true {
      if at < row.endIndex, row[at] == UInt8(ascii: "\"") {
        at += 1
        while true {
          guard at < row.endIndex else { throw DataFault(.schemaInvalid, detail: "a quoted column does not end") }
          if row[at] != UInt8(ascii: "\"") {
            cell.append(row[at])
          } else if at + 1 < row.endIndex, row[at + 1] == UInt8(ascii: "\"") {
            cell.append(row[at])
            at += 1
          } else {
            break
          }
          at += 1
        }
        at += 1
        guard at == row.endIndex || row[at] == delimiter else {
          throw DataFault(.schemaInvalid, detail: "text follows a quoted column")
        }
      } else {
        while at < row.endIndex, row[at] != delimiter {
          cell.append(row[at])
          at += 1
        }
      }
      try finish()
      guard at < row.endIndex else { return cells }
      at += 1
    }
  }

  /// The number of the column with one of these names (case, blanks and underscores do not matter).
  public func column(_ names: [String]) -> Int? {
    func plain(_ text: String) -> String { text.lowercased().filter { $0 != "_" && $0 != " " && $0 != "-" } }
    for name in names {
      if let at = columns.firstIndex(where: { plain($0) == plain(name) }) { return at }
    }
    return nil
  }

  /// As `column(_:)`, for one that must be there.
  public func requiredColumn(_ what: String, _ names: [String]) throws(TableError) -> Int {
    if let at = column(names) { return at }
    let hint = nearestName(names[0], in: columns).map { " (did you mean '\($0)'?)" } ?? ""
    throw TableError(
      file: path, line: 1,
      message: "there is no column for \(what); the columns are \(columns.joined(separator: ", "))\(hint)")
  }

  /// An amount in minor units.
  public func amount(_ row: Row, _ column: Int, _ currency: Currency, rounding: RoundingRule) throws(TableError)
    -> Int64
  {
    let text = TableFile.signed(row.cells[column].trimmingCharacters(in: .whitespaces))
    do throws(DecimalFault) {
      return try Money(style.hasDecimalComma ? TableFile.plain(text) : text, currency, rounding: rounding).minorUnits
    } catch {
      let other = try? Money(TableFile.plain(text), currency)
      let isMeant = !style.hasDecimalComma && other != nil
      let why =
        error == .tooManyDecimals
        ? "has more decimals than \(currency.code) ("
          + (isMeant ? "--decimal ',' where a comma stands before the decimals, else " : "") + "give a rounding rule)"
        : error == .overflow
          ? "is too large" : "is no amount" + (isMeant ? " (--decimal ',' reads a comma before the decimals)" : "")
      throw TableError(
        file: path, line: row.line,
        message: "\(columns[column]): '\(row.cells[column].prefix(DataFault.maximumQuotedBytes))' \(why)")
    }
  }

  /// `108.61-`, as mainframes print it, as `-108.61`; a second sign leaves it what no amount is.
  private static func signed(_ text: String) -> String {
    guard text.count > 1, text.hasSuffix("-"), text.first?.isNumber == true else { return text }
    return "-" + text.dropLast()
  }

  /// `1.234,56` as `1234.56`; what is not written so becomes what no amount is.
  private static func plain(_ text: String) -> String {
    let parts = text.split(separator: ",", omittingEmptySubsequences: false)
    let groups = parts[0].split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count <= 2, parts.count == 1 || !parts[1].contains("."),
      groups.count == 1
        || (groups.dropFirst().allSatisfy { $0.utf8.count == 3 }
          && (1...3).contains(groups[0].filter(\.isNumber).count))
    else { return "," }
    return groups.joined() + (parts.count == 2 ? "." + parts[1] : "")
  }

  /// Days of a column's dates by row; nil where the cell is empty. See `DateStyle.read`.
  public func days(_ column: Int, style: DateStyle?) throws(TableError) -> [Int32?] {
    try DateStyle.read(self, column, style: style)
  }
}

/// How dates are written in a table.
public enum DateStyle: String, CaseIterable, Sendable {
  case iso = "yyyy-MM-dd"
  case compact = "yyyyMMdd"
  case american = "M/d/yyyy"
  case british = "d/M/yyyy"
  case german = "d.M.yyyy"

  /// Days since 1970-01-01; nil where the text is no date of this style.
  public func day(_ text: String) -> Int32? {
    let text = text.trimmingCharacters(in: .whitespaces)
    let parts: [Substring]
    switch self {
    case .iso: parts = text.prefix(10).split(separator: "-", omittingEmptySubsequences: false)
    case .compact:
      guard text.count == 8 else { return nil }
      let (year, rest) = (text.prefix(4), text.dropFirst(4))
      parts = [year, rest.prefix(2), rest.dropFirst(2)]
    case .american, .british: parts = text.split(separator: "/", omittingEmptySubsequences: false)
    case .german: parts = text.split(separator: ".", omittingEmptySubsequences: false)
    }
    guard parts.count == 3, parts.allSatisfy({ !$0.isEmpty && $0.utf8.allSatisfy { (0x30...0x39).contains($0) } })
    else { return nil }
    let numbers = parts.compactMap { Int($0) }
    guard numbers.count == 3 else { return nil }
    let (year, month, day): (Int, Int, Int)
    switch self {
    case .iso, .compact: (year, month, day) = (numbers[0], numbers[1], numbers[2])
    case .american: (year, month, day) = (numbers[2], numbers[0], numbers[1])
    case .british, .german: (year, month, day) = (numbers[2], numbers[1], numbers[0])
    }
    guard (1_900...2_199).contains(year), (1...12).contains(month), day >= 1,
      day <= daysInMonth(year: year, month: month)
    else { return nil }
    return Int32(daysFromCivil(year: year, month: month, day: day))
  }

  /// The dates of a column. Without a style, the one style that fits every cell is taken; where several do (3/4/2024),
  /// it has to be said.
  static func read(_ table: TableFile, _ column: Int, style: DateStyle?) throws(TableError) -> [Int32?] {
    var candidates = style.map { [$0] } ?? allCases
    for row in table.rows where !isAbsent(row.cells[column]) {
      let fitting = candidates.filter { $0.day(row.cells[column]) != nil }
      guard !fitting.isEmpty else {
        throw TableError(
          file: table.path, line: row.line,
          message: "\(table.columns[column]): '\(row.cells[column].prefix(DataFault.maximumQuotedBytes))' is no date"
            + " (\(candidates.map(\.rawValue).joined(separator: " or ")))")
      }
      candidates = fitting
    }
    if candidates.count > 1, table.rows.contains(where: { !isAbsent($0.cells[column]) }) {
      throw TableError(
        file: table.path, line: 0,
        message: "\(table.columns[column]): the dates can be \(candidates.map(\.rawValue).joined(separator: " or "));"
          + " say which")
    }
    let chosen = candidates[0]
    return table.rows.map { isAbsent($0.cells[column]) ? nil : chosen.day($0.cells[column]) }
  }

  private static func isAbsent(_ text: String) -> Bool { text.allSatisfy(\.isWhitespace) }
}
