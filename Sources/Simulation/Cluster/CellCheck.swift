import Aggregates
import Domain
import Matching

/// What a reader of the partials makes of the cells, against the books that follow from the history by themselves, and
/// against the control totals, which are kept up in another place and must hold the same postings.
enum CellCheck {
  /// - Parameters:
  ///   - books: What the cells must come to.
  ///   - disputed: What must be in dispute: the differences of the orders whose breaks are all open.
  ///   - uncertain: Where other orders have a part in it: there it is the least.
  ///   - isAnyOpen: Whether any break is open.
  static func problems(
    _ messages: [(key: [UInt8]?, value: [UInt8]?)], totals: ControlTotals, books: NaiveBooks,
    disputed: [NaiveOracle.Role: Int128], uncertain: Set<NaiveOracle.Role>, isAnyOpen: Bool
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
    var inBase = CellValues()
    for line in lines {
      if line.key.isBase {
        inBase += line.values
      } else {
        sums[line.key.currency, default: CellValues()] += line.values
      }
    }
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
    return problems + disputes(sums, inBase, totals, disputed, uncertain, isAnyOpen)
  }

  /// What is in dispute is |Σ posted − expected| over the open breaks of each order: no less than that over all of them,
  /// which is the totals', and from that it differs by an even number (orders of opposite signs). Where all breaks of the
  /// orders are open, it is what each is off by.
  private static func disputes(
    _ sums: [Currency: CellValues], _ inBase: CellValues, _ totals: ControlTotals, _ sizes: [NaiveOracle.Role: Int128],
    _ uncertain: Set<NaiveOracle.Role>, _ isAnyOpen: Bool
  ) -> [String] {
    var problems: [String] = []
    var rest = sizes
    for line in totals.lines {
      let found = sums[line.currency]?[disputed: line.role] ?? 0
      let side = NaiveOracle.Role(role: line.role, currency: line.currency)
      let own = rest.removeValue(forKey: side) ?? 0
      if found < Int128(line.open.magnitude) || (found - line.open) % 2 != 0
        || (uncertain.contains(side) ? found < own : found != own)
      {
        problems.append(
          "\(line.role.name) \(line.currency.code): the cells say that \(found) is in dispute, the open breaks come to "
            + "\(line.open), and the orders that have no others are off by \(own)")
      }
    }
    for (side, size) in rest where size != 0 {
      problems.append("\(side.role.name) \(side.currency.code): \(size) is in dispute, and in no cell")
    }
    if !isAnyOpen {
      for values in sums.values + [inBase] {
        for role in AccountRole.allCases where values[disputed: role] != 0 {
          problems.append("\(role.name): \(values[disputed: role]) is in dispute, and no break is open")
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
