import Foundation
import GRDB

/// A look into an SQLite file that somebody else may be writing.
enum DatabaseFile {
  /// The first column of the first row, as text.
  static func value(_ path: String, _ sql: String) throws -> String? {
    var configuration = GRDB.Configuration()
    configuration.readonly = true
    configuration.busyMode = .timeout(5)
    return try DatabaseQueue(path: path, configuration: configuration).read { try String.fetchOne($0, sql: sql) }
  }

  /// A state file of a version without leases gets their columns.
  static func bringUp(_ path: String) throws {
    guard let columns = try? value(path, "SELECT group_concat(name) FROM pragma_table_info('answers')"),
      !columns.split(separator: ",").contains("owner")
    else { return }
    try DatabaseQueue(path: path).write { db in
      try db.execute(
        sql: """
          ALTER TABLE answers ADD COLUMN owner TEXT NOT NULL DEFAULT '';
          ALTER TABLE answers ADD COLUMN until_ms BIGINT NOT NULL DEFAULT 0;
          """)
    }
  }
}
