import Aggregates
import Domain
import Matching

/// What a reader of the partials makes of the cells, against the books that follow from the history by themselves, and
/// against the control totals, which are kept up in another place and must hold the same postings.
enum CellCheck {
  static func problems(
    _ messages: [(key: [UInt8]?, value: [UInt8]?)], totals: ControlTotals, books: NaiveBooks
  ) -> [String] {
    var merged = MergedCells()
    for (key, value) in messages {
      guard let key, let value, key.withUnsafeBytes({ CellPartial.isKey($0) }) else { continue }
      var problem: String?
      key.withUnsafeBytes { key in
        value.withUnsafeBytes { value in
          do throws(ByteCodingError) {
            let partial = try CellPartial(key: key, value: value)
            merged.apply(
              task: partial.task, epoch: partial.epoch, key: partial.line.key, values: partial.line.values)
          } catch { problem = "\(error)" }
        }
      }
      if let problem { return ["a partial cell cannot be read: \(problem)"] }
    }
    let lines = merged.lines.map { CellLine(key: $0.key, values: $0.values) }
    var problems = books.differences(lines)
    var sums: [Currency: CellValues] = [:]
    for line in lines where !line.key.isBase { sums[line.key.currency, default: CellValues()] += line.values }
    for line in totals.lines {
      for basis in DateBasis.allCases {
        let cells = sums[line.currency]?[line.role, basis] ?? 0
        if cells != line.posted {
          problems.append(
            "\(line.role.name) \(line.currency.code) by \(basis.name) date: the cells say \(cells), the totals "
              + "\(line.posted)")
        }
      }
    }
    return problems
  }
}

extension NaiveBooks {
  /// What cells say and the books do not, or the other way round.
  public func differences(_ lines: [CellLine]) -> [String] {
    var found: [String] = []
    var seen: Set<Cell> = []
    for line in lines {
      let cell = Cell(
        dimensions: line.key.dimensions, currency: line.key.currency, isBase: line.key.isBase, period: line.key.period)
      if !seen.insert(cell).inserted { found.append("\(cell) is told twice") }
      func compare(_ name: String, _ value: Int128) {
        let right = figure(name, cell)
        guard value != right else { return }
        found.append(
          "\(name) of \(cell.dimensions) \(cell.currency.code)\(cell.isBase ? " (base)" : "") in \(cell.period): "
            + "\(value), right is \(right)")
      }
      for measure in Measure.allCases {
        if measure.isPosted {
          for basis in DateBasis.allCases {
            compare("\(measure.rawValue)@\(basis.name)", line.values.value(measure, basis))
          }
        } else {
          compare(measure.rawValue, line.values.value(measure))
        }
      }
      compare("events", line.values[.events])
      compare("unvalued", line.values[.unvalued])
      compare("unrated", line.values[.unrated])
      compare("billed", line.values[.billed])
      compare("posted", line.values[.posted])
    }
    for (cell, figures) in cells where !seen.contains(cell) { found.append("\(cell) is missing: \(figures)") }
    return found
  }
}
