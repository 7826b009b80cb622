import Configuration
import Kafka

/// A budget as a compacted topic holds it: the newest record under each key, those without a value left out.
struct BudgetRows {
  private struct Identity: Hashable {
    var partition: Int32
    var key: [UInt8]
  }

  private var rows: [Identity: (offset: Int64, key: BudgetKey, line: Budget.Line)] = [:]
  /// Something has come since the budget was last taken up.
  var isChanged = false

  /// Takes a record of the topic.
  /// - Throws: where it makes no line; what stood under its key is gone.
  mutating func take(_ message: ConsumedMessage, _ settings: VarianceSettings) throws {
    let identity = Identity(partition: message.partition, key: message.key.map { Array($0) } ?? [])
    if rows.removeValue(forKey: identity) != nil { isChanged = true }
    guard let value = message.value else { return }
    let (key, line) = try settings.budgetLine(hasKey: message.key != nil, Array(value))
    rows[identity] = (message.offset, key, line)
    isChanged = true
  }

  /// Where records under different keys say the same line, the one that comes last in the order of partitions and offsets
  /// counts.
  /// nil where there are more than a budget may have.
  var budget: Budget? {
    guard rows.count <= Budget.maximumLines else { return nil }
    var lines: [BudgetKey: Budget.Line] = [:]
    lines.reserveCapacity(rows.count)
    for (_, row) in rows.sorted(by: { ($0.key.partition, $0.value.offset) < ($1.key.partition, $1.value.offset) }) {
      lines[row.key] = row.line
    }
    return Budget(lines)
  }
}
