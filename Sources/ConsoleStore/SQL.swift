import Foundation

/// A value that goes into a statement.
public enum SQLValue: Sendable, Equatable {
  case null
  case integer(Int64)
  case text(String)

  static func integer(_ value: Int) -> SQLValue { .integer(Int64(value)) }
  static func flag(_ value: Bool) -> SQLValue { .integer(value ? 1 : 0) }
  static func optional(_ value: Int64?) -> SQLValue { value.map { .integer($0) } ?? .null }
  static func optional(_ value: String?) -> SQLValue { value.map { .text($0) } ?? .null }
}

/// What the two databases say differently. Everything else is the same text for both, with `?` for values.
enum SQLDialect: Sendable, Equatable {
  /// `hasFullText`: whether this SQLite has FTS5.
  case sqlite(hasFullText: Bool)
  case postgres

  /// A column that no index is to be looked up by. SQLite's planner is told by a unary plus, so that it takes the index
  /// that gives the order, and never sorts a million rows; PostgreSQL's knows the data.
  func hidden(_ column: String) -> String { self == .postgres ? column : "+" + column }
}

/// A row of an answer, valid inside the call that hands it out.
protocol SQLRow {
  func integer(_ column: Int) -> Int64
  func text(_ column: Int) -> String
  func optionalInteger(_ column: Int) -> Int64?
  func optionalText(_ column: Int) -> String?
  /// A text's bytes, without a `String` on the way.
  func append(_ column: Int, to bytes: inout [UInt8])
}

/// Answers statements, one after the other.
protocol SQLReader {
  associatedtype Row: SQLRow
  func rows<T>(_ sql: String, _ values: [SQLValue], _ map: (Row) throws -> T) throws -> [T]
}

/// A store in a database: what is asked of it is asked in the same words of both (`StoreQueries.swift`).
protocol SQLStore: ConsoleStore {
  associatedtype Reader: SQLReader
  var dialect: SQLDialect { get }
  /// Reads, and is interrupted where its task is cancelled.
  /// - Parameter isSnapshot: Whether all statements must see one state. A single one does by itself.
  func read<T: Sendable>(
    isSnapshot: Bool, _ body: @escaping @Sendable (Reader) throws -> T
  ) async throws -> T
}

extension SQLStore {
  func rows<T: Sendable>(
    _ sql: String, _ values: [SQLValue] = [], _ map: @escaping @Sendable (Reader.Row) throws -> T
  ) async throws -> [T] {
    try await read(isSnapshot: false) { try $0.rows(sql, values, map) }
  }
}

/// The store's database does not answer. The topics have everything: nothing is lost by it.
public struct StoreUnavailable: Error, CustomStringConvertible {
  public var description: String
}

/// The store was emptied, by another process that shares it: it has to be followed from where it stands now.
public struct StoreMadeAnew: Error, CustomStringConvertible {
  public var description: String { "another process has made the store anew" }
}

public struct StoreError: Error, CustomStringConvertible {
  public var description: String
}
