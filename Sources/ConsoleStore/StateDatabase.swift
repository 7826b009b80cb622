import Foundation
import GRDB
import Synchronization

/// Where servers keep what no topic knows: a file of one server alone, or the database that several share.
public protocol StateDatabase: Sendable {
  /// Everything of `body` together or not at all. Runs on a thread of its own, never on one that answers requests.
  func transaction<T: Sendable>(_ body: @escaping @Sendable (any StateSession) throws -> T) async throws -> T
  /// Whether other servers use it too.
  var isShared: Bool { get }
}

/// A transaction of a `StateDatabase`. The statements are the same for both, with `?` for values.
public protocol StateSession {
  @discardableResult
  func run<T>(_ sql: String, _ values: [SQLValue], _ map: (any StateRow) throws -> T) throws -> [T]
}

extension StateSession {
  public func run(_ sql: String, _ values: [SQLValue] = []) throws { _ = try run(sql, values) { _ in } }
}

public protocol StateRow {
  func integer(_ column: Int) -> Int64
  func text(_ column: Int) -> String
  func optionalText(_ column: Int) -> String?
}

extension SQLiteRow: StateRow {}
extension PostgresRow: StateRow {}

private struct SQLiteSession: StateSession {
  let reader: SQLiteReader
  func run<T>(_ sql: String, _ values: [SQLValue], _ map: (any StateRow) throws -> T) throws -> [T] {
    try reader.rows(sql, values) { try map($0) }
  }
}

private struct PostgresSession: StateSession {
  let connection: PostgresConnection
  func run<T>(_ sql: String, _ values: [SQLValue], _ map: (any StateRow) throws -> T) throws -> [T] {
    try connection.rows(sql, values) { try map($0) }
  }
}

/// One SQLite file, of one server alone.
public final class SQLiteState: StateDatabase {
  private let queue: DatabaseQueue
  public let isShared = false

  /// - Parameter statements: make the tables where they are missing.
  public init(path: String, statements: String) throws {
    var configuration = GRDB.Configuration()
    configuration.busyMode = .timeout(10)
    queue = try DatabaseQueue(path: path, configuration: configuration)
    try queue.writeWithoutTransaction { db in try db.execute(sql: "PRAGMA journal_mode = WAL") }
    try queue.write { db in try db.execute(sql: statements) }
  }

  public func transaction<T: Sendable>(
    _ body: @escaping @Sendable (any StateSession) throws -> T
  ) async throws -> T {
    try await queue.write { try body(SQLiteSession(reader: SQLiteReader(db: $0))) }
  }
}

/// Tables in the schema of a shared store, beside those that are made from the topics: they outlive a rebuild.
public final class PostgresState: StateDatabase {
  public let isShared = true
  private let settings: PostgresSettings
  private let queue = DispatchQueue(label: "postgres-state")
  /// Only touched on the queue.
  nonisolated(unsafe) private var connection: PostgresConnection?

  /// - Parameter statements: make the tables where they are missing.
  public init(_ settings: PostgresSettings, statements: String) throws {
    self.settings = settings
    let connection = try settings.connect()
    try connection.transaction {
      // Several servers that start at once would get into each other's way.
      _ = try connection.rows("SELECT pg_advisory_xact_lock(hashtextextended(?, 7403))", [.text(settings.schema)]) {
        _ in
      }
      try connection.run("CREATE SCHEMA IF NOT EXISTS \(connection.quoted(settings.schema))")
      try connection.run(statements)
    }
    self.connection = connection
  }

  public func transaction<T: Sendable>(
    _ body: @escaping @Sendable (any StateSession) throws -> T
  ) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
      queue.async { [self] in
        continuation.resume(with: Result { try work(body) })
      }
    }
  }

  private func work<T>(_ body: (any StateSession) throws -> T) throws -> T {
    // A connection that lay idle may have been closed meanwhile, which shows with the next word.
    if let known = connection, !known.isUsable || (try? known.run("SELECT 1")) == nil { connection = nil }
    let connection = try connection ?? settings.connect()
    self.connection = connection
    return try connection.transaction { try body(PostgresSession(connection: connection)) }
  }
}
