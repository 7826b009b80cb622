/// A table for a terminal: columns as wide as their widest cell, numbers to the right.
public struct TextTable: Sendable {
  public var header: [String]
  public var rows: [[String]] = []
  /// Columns that are aligned to the right.
  public var numeric: Set<Int>

  public init(_ header: [String], numeric: Set<Int> = []) {
    self.header = header
    self.numeric = numeric
  }

  public mutating func add(_ cells: String...) { rows.append(cells) }

  public var text: String {
    let widths = header.indices.map { column in
      ([header] + rows).map { column < $0.count ? $0[column].count : 0 }.max() ?? 0
    }
    func line(_ cells: [String]) -> String {
      var out = ""
      for (column, cell) in cells.enumerated() {
        let space = String(repeating: " ", count: max(0, widths[column] - cell.count))
        out += column == 0 ? "" : "  "
        out += numeric.contains(column) ? space + cell : cell + space
      }
      while out.hasSuffix(" ") { out.removeLast() }
      return out
    }
    let rule = widths.map { String(repeating: "─", count: $0) }.joined(separator: "  ")
    return ([line(header), rule] + rows.map(line)).joined(separator: "\n")
  }
}
