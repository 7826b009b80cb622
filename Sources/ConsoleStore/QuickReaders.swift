import Foundation
import GRDB
import GRDBSQLite
import Synchronization

/// Connections for questions that are answered at once, on the thread that asks: most lists are, and handing one to another
/// thread and its answer back costs as much as answering it. A question that takes longer than its budget is given up, and
/// has to be asked where it may take its time.
final class QuickReaders: Sendable {
  /// More than the threads that ask at once would lie idle.
  static let size = 4
  /// Instructions of SQLite's virtual machine, about a millisecond of them. A page of 50 rows takes some thousands.
  static let budget: Int32 = 100_000

  private let idle: Mutex<[DatabaseQueue]>

  init(path: String, _ configuration: GRDB.Configuration) throws {
    var configuration = configuration
    configuration.readonly = true
    configuration.label = "quick"
    idle = Mutex(try (0..<QuickReaders.size).map { _ in try DatabaseQueue(path: path, configuration: configuration) })
  }

  /// nil where all connections are busy, or the budget is spent.
  func read<T>(_ body: (SQLiteReader) throws -> T) throws -> T? {
    guard let queue = idle.withLock({ $0.popLast() }) else { return nil }
    defer { idle.withLock { $0.append(queue) } }
    return try queue.unsafeRead { db in
      sqlite3_progress_handler(db.sqliteConnection, QuickReaders.budget, { _ in 1 }, nil)
      defer { sqlite3_progress_handler(db.sqliteConnection, 0, nil, nil) }
      do {
        return try body(SQLiteReader(db: db))
      } catch let error as DatabaseError where error.resultCode == .SQLITE_INTERRUPT {
        return nil
      }
    }
  }
}

extension SQLiteStore {
  public func quickBreaks(
    _ filter: BreakFilter, scope: RowScope, sort: BreakSort, after: PageCursor?, limit: Int
  ) throws -> BreakPage? {
    // A search reads thousands of rows before it gives the first.
    guard filter.text == nil else { return nil }
    let (sql, values) = listing(filter, scope: scope, sort: sort, after: after, limit: limit + 1)
    return try quick.read { try page($0, sql, values, limit: limit) }
  }
}
