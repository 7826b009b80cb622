import Aggregates
import Domain
import Matching

/// What a reader of the partials makes of the cells, against the control totals: the two are kept up in different places
/// and must hold the same postings.
enum CellCheck {
  /// - Parameter base: What the postings come to in the base currency, by role, where there is one.
  static func problems(
    _ messages: [(key: [UInt8]?, value: [UInt8]?)], totals: ControlTotals, base: [AccountRole: Int128]? = nil
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
    var problems: [String] = []
    var sums: [Currency: CellValues] = [:]
    var inBase = CellValues()
    for line in merged.lines {
      if line.key.isBase {
        inBase += line.values
      } else {
        sums[line.key.currency, default: CellValues()] += line.values
      }
    }
    if let base {
      for role in AccountRole.allCases where inBase[role, .posting] != base[role] ?? 0 {
        problems.append(
          "\(role.name) in the base currency: the cells say \(inBase[role, .posting]), right is \(base[role] ?? 0)")
      }
    } else if !inBase.isZero {
      problems.append("there are cells in a base currency, and there is none")
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
    return problems
  }
}
