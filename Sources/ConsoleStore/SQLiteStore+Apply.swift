import Foundation
import GRDB
import GRDBSQLite
import Pipeline

extension SQLValue: DatabaseValueConvertible {
  public var databaseValue: DatabaseValue {
    switch self {
    case .null: .null
    case .integer(let value): value.databaseValue
    case .text(let text): text.databaseValue
    }
  }

  public static func fromDatabaseValue(_ value: DatabaseValue) -> SQLValue? {
    switch value.storage {
    case .null: .null
    case .int64(let number): .integer(number)
    case .string(let text): .text(text)
    case .double, .blob: nil
    }
  }
}

/// The row that a statement stands on, read as SQLite has it.
struct SQLiteRow: SQLRow {
  fileprivate let statement: OpaquePointer

  private func isNull(_ column: Int) -> Bool { sqlite3_column_type(statement, Int32(column)) == SQLITE_NULL }

  func integer(_ column: Int) -> Int64 { sqlite3_column_int64(statement, Int32(column)) }
  func optionalInteger(_ column: Int) -> Int64? { isNull(column) ? nil : integer(column) }
  func optionalText(_ column: Int) -> String? { isNull(column) ? nil : text(column) }

  private func bytes(_ column: Int) -> UnsafeRawBufferPointer {
    // The text first: it decides the form in which the length is counted.
    let start = sqlite3_column_text(statement, Int32(column))
    return UnsafeRawBufferPointer(start: start, count: Int(sqlite3_column_bytes(statement, Int32(column))))
  }

  func text(_ column: Int) -> String { String(decoding: bytes(column), as: UTF8.self) }
  func append(_ column: Int, to target: inout [UInt8]) { target.append(contentsOf: bytes(column)) }
}

struct SQLiteReader: SQLReader {
  let db: Database

  func rows<T>(_ sql: String, _ values: [SQLValue], _ map: (SQLiteRow) throws -> T) throws -> [T] {
    let statement = try db.cachedStatement(sql: sql)
    let cursor = try GRDB.Row.fetchCursor(statement, arguments: StatementArguments(values))
    var found: [T] = []
    let row = SQLiteRow(statement: statement.sqliteStatement)
    while try cursor.next() != nil { found.append(try map(row)) }
    return found
  }
}

extension SQLiteStore {
  public func apply(_ records: [StoreRecord], now_ms: Int64) throws -> StoreChange {
    try writer.withLock { state in
      let change = try pool.writeWithoutTransaction { [dimensionNames, hasFullText] db in
        var change: StoreChange?
        try db.inTransaction(.immediate) {
          let transaction = SQLiteTransaction(db, dimensions: dimensionNames.count, hasFullText: hasFullText)
          var batch = try StoreBatch(transaction, sequence: state.sequence, now_ms: now_ms, dimensions: dimensionNames)
          try batch.take(records)
          change = batch.change
          return .commit
        }
        return change!
      }
      state.sequence = change.sequence
      return change
    }
  }
}

/// A transaction of the embedded store: every question is asked when it comes up.
private final class SQLiteTransaction: StoreTransaction {
  private let db: Database
  let filesWords: Bool
  private var number: Int64?

  private let dimensions: Int
  private let finding: String

  init(_ db: Database, dimensions: Int, hasFullText: Bool) {
    self.db = db
    self.dimensions = dimensions
    finding = "SELECT \(KnownBreak.columns(dimensions: dimensions)) FROM breaks WHERE id = ?"
    filesWords = hasFullText
  }

  func prepare(breaks: Set<String>, actions: Set<String>) {}

  func find(_ id: String) throws -> KnownBreak? {
    let count = dimensions
    return try SQLiteReader(db: db).rows(finding, [.text(id)]) { KnownBreak($0, dimensions: count) }.first
  }

  func meta(_ key: String) throws -> String? {
    try SQLiteReader(db: db).rows("SELECT value FROM meta WHERE key = ?", [.text(key)]) { $0.text(0) }.first
  }

  func body(_ id: String, number: Int64) throws -> String {
    let statement = try db.cachedStatement(sql: "SELECT body FROM bodies WHERE n = ?")
    guard let body = try String.fetchOne(statement, arguments: [number]) else {
      throw StoreError(description: "the store has break \(id) without its message: make it anew with --rebuild")
    }
    return body
  }

  func actions(of id: String) throws -> [String] {
    let statement = try db.cachedStatement(sql: "SELECT body FROM actions WHERE break = ? ORDER BY part, offs")
    return try String.fetchAll(statement, arguments: [id])
  }

  func keep(_ action: Action, partition: Int32, offset: Int64, body: String) throws -> Bool {
    try run(
      "INSERT INTO actions VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
      [.text(action.id), .text(action.breakID), .integer(Int(partition)), .integer(offset), .text(body)])
    return db.changesCount > 0
  }

  func nextNumber() throws -> Int64 {
    let last = try number ?? Int64.fetchOne(db, sql: "SELECT max(n) FROM breaks") ?? 0
    number = last + 1
    return last + 1
  }

  func wrote(_ id: String, _ version: (known: KnownBreak, body: String)?) {}

  func file(_ number: Int64, words: String?, before: String?) throws {
    // The table keeps no texts: what is to be taken out must be told.
    if let before {
      try run("INSERT INTO keys (keys, rowid, text) VALUES ('delete', ?, ?)", [.integer(number), .text(before)])
    }
    if let words { try run("INSERT INTO keys (rowid, text) VALUES (?, ?)", [.integer(number), .text(words)]) }
  }

  func run(_ sql: String, _ values: [SQLValue]) throws {
    try db.cachedStatement(sql: sql).execute(arguments: StatementArguments(values))
  }
}
