import Foundation

/// What an open break counts under.
struct CountedBreak: Sendable, Equatable {
  var type: String
  var state: String
  var severity: Int
  var currency: String
  var opened_ms: Int64
  var amount_u: Int64
  /// Values, in the order of the configuration's dimensions.
  var dimensions: [String]
}

/// A break that is in the store already.
struct KnownBreak: Sendable, Equatable {
  var number: Int64
  var revision: Int
  /// What it counts under; nil: it is not open.
  var counted: CountedBreak?

  /// What `init(_:dimensions:)` reads, in its order.
  static func columns(dimensions: Int) -> String {
    "n, revision, is_open, type, state, severity, currency, opened_ms, amount_u"
      + (0..<dimensions).map { ", d\($0)" }.joined()
  }

  init(number: Int64, revision: Int, counted: CountedBreak?) {
    self.number = number
    self.revision = revision
    self.counted = counted
  }

  /// - Parameter first: The column that `n` stands in.
  init(_ row: some SQLRow, first: Int = 0, dimensions: Int) {
    number = row.integer(first)
    revision = Int(row.integer(first + 1))
    guard row.integer(first + 2) != 0 else { return }
    counted = CountedBreak(
      type: row.text(first + 3), state: row.text(first + 4), severity: Int(row.integer(first + 5)),
      currency: row.text(first + 6), opened_ms: row.integer(first + 7), amount_u: row.integer(first + 8),
      dimensions: (0..<dimensions).map { row.text(first + 9 + $0) })
  }
}

/// What a batch changes in the table `tallies`: counts and sums of open breaks by type, state, severity, currency and the
/// day on which they opened, once over everything (`dimension` -1) and once for each value of each dimension. So the sums
/// that an overview shows are read from some hundred rows, however many breaks there are.
///
/// Days that are in the last age bucket for good are one: all days up to `floor` count under `floor`, which moves with the
/// clock. So the table stays as small as the kinds of breaks are few.
struct TallyChanges {
  /// Ages are whole calendar days: this many back is in the last bucket.
  static let oldestDay = AgeBucket.firstDays.last!
  static let floorKey = "tallies_floor"

  private struct Cell: Hashable {
    var dimension: Int
    var value: String
    var type: String
    var state: String
    var severity: Int
    var currency: String
    var day: Int64
  }
  private struct Sum {
    var count: Int64 = 0
    var units: Int64 = 0
    var micros: Int64 = 0
    var isNothing: Bool { count == 0 && units == 0 && micros == 0 }
  }
  private var cells: [Cell: Sum] = [:]
  private let floor: Int64

  /// Moves the floor to where it is by the clock, and begins.
  init(_ transaction: some StoreTransaction, now_ms: Int64) throws {
    let wanted = AgeBucket.day(now_ms) - TallyChanges.oldestDay
    let known = try transaction.meta(TallyChanges.floorKey).flatMap { Int64($0) }
    guard wanted > known ?? .min else {
      floor = known!
      return
    }
    floor = wanted
    try transaction.run(
      """
      INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value
      """, [.text(TallyChanges.floorKey), .text("\(wanted)")])
    guard known != nil else { return }
    try transaction.run(
      """
      INSERT INTO tallies
      SELECT dimension, value, type, state, severity, currency, CAST(? AS BIGINT), CAST(sum(breaks) AS BIGINT),
        CAST(sum(units) AS BIGINT), CAST(sum(micros) AS BIGINT)
      FROM tallies WHERE day < ? GROUP BY dimension, value, type, state, severity, currency
      ON CONFLICT (dimension, value, type, state, severity, currency, day) DO UPDATE SET
        breaks = tallies.breaks + excluded.breaks, units = tallies.units + excluded.units,
        micros = tallies.micros + excluded.micros
      """, [.integer(wanted), .integer(wanted)])
    try transaction.run("DELETE FROM tallies WHERE day < ?", [.integer(wanted)])
  }

  /// A break that counted under one thing counts under another.
  mutating func move(from before: CountedBreak?, to after: CountedBreak?) {
    guard before != after else { return }
    if let before { add(before, -1) }
    if let after { add(after, 1) }
  }

  private mutating func add(_ counted: CountedBreak, _ sign: Int64) {
    var cell = Cell(
      dimension: -1, value: "", type: counted.type, state: counted.state, severity: counted.severity,
      currency: counted.currency, day: max(floor, AgeBucket.day(counted.opened_ms)))
    func add(_ cell: Cell, _ cells: inout [Cell: Sum]) {
      cells[cell, default: Sum()].count += sign
      // Sums of millionths may pass 64 bits: whole units and the rest are summed apart.
      cells[cell]!.units += sign * (counted.amount_u / 1_000_000)
      cells[cell]!.micros += sign * (counted.amount_u % 1_000_000)
    }
    add(cell, &cells)
    for (dimension, value) in counted.dimensions.enumerated() {
      cell.dimension = dimension
      cell.value = value
      add(cell, &cells)
    }
  }

  func write(_ transaction: some StoreTransaction) throws {
    var isLess = false
    for (cell, sum) in cells where !sum.isNothing {
      isLess = isLess || sum.count < 0
      try transaction.run(
        """
        INSERT INTO tallies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (dimension, value, type, state, severity, currency, day) DO UPDATE SET
          breaks = tallies.breaks + excluded.breaks, units = tallies.units + excluded.units,
          micros = tallies.micros + excluded.micros
        """,
        [
          .integer(cell.dimension), .text(cell.value), .text(cell.type), .text(cell.state), .integer(cell.severity),
          .text(cell.currency), .integer(cell.day), .integer(sum.count), .integer(sum.units), .integer(sum.micros),
        ])
    }
    if isLess { try transaction.run("DELETE FROM tallies WHERE breaks = 0", []) }
  }
}

extension SQLStore {
  public func tallies(scope: RowScope, now_ms: Int64) async throws -> [Tally] {
    let today = AgeBucket.day(now_ms)
    func age(_ column: String, _ bound: (Int64) -> Int64) -> String {
      let cases = AgeBucket.firstDays.enumerated().dropFirst().reversed().map {
        "WHEN \(column) < \(bound(today - $0.element + 1)) THEN \($0.offset)"
      }
      return "CASE \(cases.joined(separator: " ")) ELSE 0 END"
    }
    let columns = "type, state, severity, currency"
    let sql: String
    let values: [SQLValue]
    let single = scope.dimensions.count == 1 ? scope.dimensions.first! : nil
    let dimension = single.map { dimensionNames.firstIndex(of: $0.key) } ?? -1
    if let dimension, scope.isEverything || single != nil {
      let wanted = single.map { $0.value.sorted() } ?? [""]
      let marks = Array(repeating: "?", count: wanted.count).joined(separator: ", ")
      sql = """
        SELECT \(columns), \(age("day", { $0 })) AS age, CAST(sum(breaks) AS BIGINT), CAST(sum(units) AS BIGINT),
          CAST(sum(micros) AS BIGINT)
        FROM tallies WHERE dimension = ? AND \(wanted.isEmpty ? "1 = 0" : "value IN (\(marks))")
        GROUP BY \(columns), age ORDER BY \(columns), age
        """
      values = [.integer(dimension)] + wanted.map { .text($0) }
    } else {
      // Rows of several dimensions at once are counted by none of the sums that are kept.
      let (condition, scoped) = scopeCondition(scope)
      sql = """
        SELECT \(columns), \(age("opened_ms", { $0 * AgeBucket.day_ms })) AS age, count(*),
          CAST(sum(amount_u / 1000000) AS BIGINT), CAST(sum(amount_u % 1000000) AS BIGINT)
        FROM breaks WHERE is_open = 1 AND \(condition) GROUP BY \(columns), age ORDER BY \(columns), age
        """
      values = scoped
    }
    return try await rows(sql, values) { row in
      Tally(
        type: row.text(0), state: row.text(1), severity: BreakDocument.severities[Int(row.integer(2))],
        currency: row.text(3), ageBucket: Int(row.integer(4)), count: Int(row.integer(5)),
        amount_u: Int128(row.integer(6)) * 1_000_000 + Int128(row.integer(7)))
    }
  }
}
