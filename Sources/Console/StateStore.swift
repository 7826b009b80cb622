import ConsoleStore
import Foundation
import GRDB

/// What this server knows that no topic does: answers to requests with a key, and webhooks on their way. One SQLite
/// file; it outlives a rebuild of the store.
final class StateStore: Sendable {
  /// Answers are kept this long.
  static let answerRetention_ms: Int64 = 86_400_000
  /// Deliveries that were given up are kept as many.
  static let maximumDead = 10_000

  private let queue: DatabaseQueue

  init(path: String) throws {
    var configuration = GRDB.Configuration()
    configuration.busyMode = .timeout(10)
    queue = try DatabaseQueue(path: path, configuration: configuration)
    try queue.writeWithoutTransaction { db in try db.execute(sql: "PRAGMA journal_mode = WAL") }
    try queue.write { db in
      try db.execute(
        sql: """
          CREATE TABLE IF NOT EXISTS answers (
            key TEXT PRIMARY KEY, at_ms INTEGER NOT NULL, digest TEXT, body TEXT) WITHOUT ROWID;
          CREATE TABLE IF NOT EXISTS cursors (
            webhook TEXT PRIMARY KEY, generation TEXT NOT NULL, seq INTEGER NOT NULL) WITHOUT ROWID;
          CREATE TABLE IF NOT EXISTS deliveries (
            id INTEGER PRIMARY KEY AUTOINCREMENT, webhook TEXT NOT NULL, break TEXT NOT NULL, revision INTEGER NOT NULL,
            body TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, next_ms INTEGER NOT NULL,
            dead INTEGER NOT NULL DEFAULT 0, error TEXT);
          CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (webhook, dead, next_ms);
          """)
      // Whoever worked on them is gone.
      try db.execute(sql: "DELETE FROM answers WHERE digest IS NULL")
    }
  }

  // MARK: - Answers

  enum Beginning: Equatable {
    case new, running
    case done(digest: String, body: String)
  }

  func begin(_ key: String, now_ms: Int64) throws -> Beginning {
    try queue.write { db in
      try db.execute(
        sql: "DELETE FROM answers WHERE at_ms < ?", arguments: [now_ms - StateStore.answerRetention_ms])
      if let row = try Row.fetchOne(db, sql: "SELECT digest, body FROM answers WHERE key = ?", arguments: [key]) {
        guard let digest: String = row[0] else { return .running }
        return .done(digest: digest, body: row[1])
      }
      try db.execute(sql: "INSERT INTO answers (key, at_ms) VALUES (?, ?)", arguments: [key, now_ms])
      return .new
    }
  }

  func finish(_ key: String, digest: String, body: String) throws {
    try queue.write { db in
      try db.execute(sql: "UPDATE answers SET digest = ?, body = ? WHERE key = ?", arguments: [digest, body, key])
    }
  }

  func forget(_ key: String) throws {
    try queue.write { db in try db.execute(sql: "DELETE FROM answers WHERE key = ?", arguments: [key]) }
  }

  // MARK: - Webhooks

  struct Delivery: Sendable, Equatable {
    var id: Int64
    var webhook: String
    var breakID: String
    var revision: Int
    var body: String
    var attempts: Int
    var next_ms: Int64
    var isDead: Bool
    var error: String?
  }

  func cursor(_ webhook: String) throws -> (generation: String, sequence: Int64)? {
    try queue.read { db in
      try Row.fetchOne(db, sql: "SELECT generation, seq FROM cursors WHERE webhook = ?", arguments: [webhook]).map {
        ($0[0], $0[1])
      }
    }
  }

  /// What is to be sent and how far that was looked for, together: nothing is left out and nothing comes twice.
  func enqueue(
    _ webhook: String, _ changes: [(breakID: String, revision: Int, body: String)], generation: String,
    sequence: Int64, now_ms: Int64
  ) throws {
    try queue.write { db in
      for change in changes {
        try db.execute(
          sql: "INSERT INTO deliveries (webhook, break, revision, body, next_ms) VALUES (?, ?, ?, ?, ?)",
          arguments: [webhook, change.breakID, change.revision, change.body, now_ms])
      }
      try db.execute(
        sql: "INSERT OR REPLACE INTO cursors VALUES (?, ?, ?)", arguments: [webhook, generation, sequence])
    }
  }

  private static func delivery(_ row: Row) -> Delivery {
    Delivery(
      id: row["id"], webhook: row["webhook"], breakID: row["break"], revision: row["revision"], body: row["body"],
      attempts: row["attempts"], next_ms: row["next_ms"], isDead: row["dead"], error: row["error"])
  }

  func due(_ webhook: String, now_ms: Int64, limit: Int) throws -> [Delivery] {
    try queue.read { db in
      try Row.fetchAll(
        db, sql: "SELECT * FROM deliveries WHERE webhook = ? AND dead = 0 AND next_ms <= ? ORDER BY id LIMIT ?",
        arguments: [webhook, now_ms, limit]
      ).map(StateStore.delivery)
    }
  }

  func waiting(_ webhook: String) throws -> Int {
    try queue.read { db in
      try Int.fetchOne(
        db, sql: "SELECT count(*) FROM deliveries WHERE webhook = ? AND dead = 0", arguments: [webhook]) ?? 0
    }
  }

  func delivered(_ id: Int64) throws {
    try queue.write { db in try db.execute(sql: "DELETE FROM deliveries WHERE id = ?", arguments: [id]) }
  }

  func failed(_ delivery: Delivery, error: String, next_ms: Int64, isDead: Bool) throws {
    try queue.write { db in
      try db.execute(
        sql: "UPDATE deliveries SET attempts = attempts + 1, error = ?, next_ms = ?, dead = ? WHERE id = ?",
        arguments: [error, next_ms, isDead, delivery.id])
      if isDead {
        try db.execute(
          sql: """
            DELETE FROM deliveries WHERE dead = 1 AND id <= (
              SELECT id FROM deliveries WHERE dead = 1 ORDER BY id DESC LIMIT 1 OFFSET ?)
            """, arguments: [StateStore.maximumDead])
      }
    }
  }

  func postpone(_ id: Int64, to_ms: Int64) throws {
    try queue.write { db in
      try db.execute(sql: "UPDATE deliveries SET next_ms = ? WHERE id = ?", arguments: [to_ms, id])
    }
  }

  func deliveries(isDead: Bool?, limit: Int) throws -> [Delivery] {
    try queue.read { db in
      let condition = isDead.map { $0 ? "WHERE dead = 1" : "WHERE dead = 0" } ?? ""
      return try Row.fetchAll(
        db, sql: "SELECT * FROM deliveries \(condition) ORDER BY id DESC LIMIT ?", arguments: [limit]
      ).map(StateStore.delivery)
    }
  }

  /// Sends a delivery that was given up once more; false where there is none.
  func revive(_ id: Int64, now_ms: Int64) throws -> Bool {
    try queue.write { db in
      try db.execute(
        sql: "UPDATE deliveries SET dead = 0, attempts = 0, next_ms = ? WHERE id = ? AND dead = 1",
        arguments: [now_ms, id])
      return db.changesCount > 0
    }
  }
}

/// A look into an SQLite file that somebody else may be writing.
enum DatabaseFile {
  /// The first column of the first row, as text.
  static func value(_ path: String, _ sql: String) throws -> String? {
    var configuration = GRDB.Configuration()
    configuration.readonly = true
    configuration.busyMode = .timeout(5)
    return try DatabaseQueue(path: path, configuration: configuration).read { try String.fetchOne($0, sql: sql) }
  }
}
