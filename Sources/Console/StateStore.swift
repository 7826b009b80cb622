import Configuration
import ConsoleStore
import Domain
import Foundation
import Pipeline

/// What servers know that no topic does: answers to requests with a key, and webhooks on their way. It outlives a rebuild
/// of the store. Of one server alone it is a file; servers that share a store share this as well: a request that is
/// repeated gets the same answer from each of them, and a webhook is sent by one of them.
///
/// Whoever works on an answer or on a delivery says until when (a lease); what a server left unfinished that is gone is
/// free for the others then.
final class StateStore: Sendable {
  /// Answers are kept this long.
  static let answerRetention_ms: Int64 = 86_400_000
  /// How long a request holds its key; it is renewed while the request is worked on.
  static let answerLease_ms: Int64 = 30_000
  /// Deliveries that were given up are kept as many.
  static let maximumDead = 10_000
  /// Deliveries that a server takes at a time.
  static let claim = 16
  /// For as many tries as a claim has deliveries, and their last answer.
  static let claimLease_ms = Int64(claim) * WebhookService.timeout_s * 1_000 + 30_000

  private let database: any StateDatabase
  /// Names this process among those that share the database.
  private let owner = UUID().uuidString

  private static func statements(isShared: Bool) -> String {
    let number = isShared ? "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY" : "INTEGER PRIMARY KEY AUTOINCREMENT"
    return """
      CREATE TABLE IF NOT EXISTS answers (
        key TEXT PRIMARY KEY, at_ms BIGINT NOT NULL, owner TEXT NOT NULL DEFAULT '', until_ms BIGINT NOT NULL DEFAULT 0,
        digest TEXT, body TEXT);
      CREATE TABLE IF NOT EXISTS cursors (webhook TEXT PRIMARY KEY, generation TEXT NOT NULL, seq BIGINT NOT NULL);
      CREATE TABLE IF NOT EXISTS deliveries (
        id \(number), webhook TEXT NOT NULL, break TEXT NOT NULL, revision BIGINT NOT NULL,
        body TEXT NOT NULL, attempts BIGINT NOT NULL DEFAULT 0, next_ms BIGINT NOT NULL,
        dead BIGINT NOT NULL DEFAULT 0, error TEXT);
      CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (webhook, dead, next_ms);
      """
  }

  /// A file of this server alone. What it was at work on when it ended is free again.
  init(path: String) throws {
    try DatabaseFile.bringUp(path)
    database = try SQLiteState(
      path: path,
      statements: StateStore.statements(isShared: false) + """

        DELETE FROM answers WHERE digest IS NULL;
        UPDATE deliveries SET next_ms = min(next_ms, CAST(strftime('%s', 'now') AS INTEGER) * 1000) WHERE attempts = 0;
        """)
  }

  /// Tables beside a shared store.
  init(_ settings: PostgresSettings) throws {
    database = try PostgresState(settings, statements: StateStore.statements(isShared: true))
  }

  /// Where it is kept by the configuration: beside the store that is shared, or in `serve.directory`.
  static func open(_ configuration: Configuration) throws -> StateStore {
    if let shared = configuration.serve.store { return try StateStore(PostgresSettings(shared)) }
    return try StateStore(path: configuration.serve.directory + "/state.db")
  }

  // MARK: - Answers

  enum Beginning: Equatable {
    case new, running
    case done(digest: String, body: String)
  }

  func begin(_ key: String, now_ms: Int64) async throws -> Beginning {
    try await database.transaction { [owner] session in
      try session.run("DELETE FROM answers WHERE at_ms < ?", [.integer(now_ms - StateStore.answerRetention_ms)])
      let taken = try session.run(
        """
        INSERT INTO answers (key, at_ms, owner, until_ms) VALUES (?, ?, ?, ?)
        ON CONFLICT (key) DO UPDATE SET at_ms = excluded.at_ms, owner = excluded.owner, until_ms = excluded.until_ms
          WHERE answers.digest IS NULL AND answers.until_ms < ?
        RETURNING 1
        """,
        [
          .text(key), .integer(now_ms), .text(owner), .integer(now_ms + StateStore.answerLease_ms), .integer(now_ms),
        ]
      ) { _ in }
      if !taken.isEmpty { return .new }
      let known = try session.run("SELECT digest, body FROM answers WHERE key = ?", [.text(key)]) {
        ($0.optionalText(0), $0.optionalText(1))
      }.first
      guard let known, let digest = known.0, let body = known.1 else { return .running }
      return .done(digest: digest, body: body)
    }
  }

  /// Holds the key for longer.
  func renew(_ key: String, now_ms: Int64) async throws {
    try await database.transaction { [owner] session in
      try session.run(
        "UPDATE answers SET until_ms = ? WHERE key = ? AND owner = ? AND digest IS NULL",
        [.integer(now_ms + StateStore.answerLease_ms), .text(key), .text(owner)])
    }
  }

  func finish(_ key: String, digest: String, body: String) async throws {
    try await database.transaction { [owner] session in
      try session.run(
        "UPDATE answers SET digest = ?, body = ? WHERE key = ? AND owner = ? AND digest IS NULL",
        [.text(digest), .text(body), .text(key), .text(owner)])
    }
  }

  func forget(_ key: String) async throws {
    try await database.transaction { [owner] session in
      try session.run(
        "DELETE FROM answers WHERE key = ? AND owner = ? AND digest IS NULL", [.text(key), .text(owner)])
    }
  }

  /// Runs `body` while the key is held.
  func holding<T: Sendable>(_ key: String, _ body: () async throws -> T) async throws -> T {
    let renewal = Task {
      while true {
        try await Task.sleep(for: .milliseconds(StateStore.answerLease_ms / 3))
        // A database that is away for a moment is asked again.
        try? await renew(key, now_ms: wallClock_ms())
      }
    }
    defer { renewal.cancel() }
    return try await body()
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

  /// Up to which change a receiver has been looked after, in which filling of the store.
  struct Cursor: Sendable, Equatable {
    var generation: String
    var sequence: Int64
  }

  struct Change: Sendable {
    var breakID: String
    var revision: Int
    var body: String
  }

  func cursor(_ webhook: String) async throws -> Cursor? {
    try await database.transaction { session in
      try session.run("SELECT generation, seq FROM cursors WHERE webhook = ?", [.text(webhook)]) {
        Cursor(generation: $0.text(0), sequence: $0.integer(1))
      }.first
    }
  }

  /// What is to be sent and how far that was looked for, together: nothing is left out and nothing comes twice.
  /// - Parameter known: Where the cursor stood when the changes were looked for. false where another server has moved it
  ///   since, and nothing is done.
  func enqueue(
    _ webhook: String, _ changes: [Change], from known: Cursor?, to cursor: Cursor, now_ms: Int64
  ) async throws -> Bool {
    try await database.transaction { session in
      let moved: [Void]
      if let known {
        moved = try session.run(
          "UPDATE cursors SET generation = ?, seq = ? WHERE webhook = ? AND generation = ? AND seq = ? RETURNING 1",
          [
            .text(cursor.generation), .integer(cursor.sequence), .text(webhook), .text(known.generation),
            .integer(known.sequence),
          ]
        ) { _ in }
      } else {
        moved = try session.run(
          "INSERT INTO cursors VALUES (?, ?, ?) ON CONFLICT DO NOTHING RETURNING 1",
          [.text(webhook), .text(cursor.generation), .integer(cursor.sequence)]
        ) { _ in }
      }
      guard !moved.isEmpty else { return false }
      for change in changes {
        try session.run(
          "INSERT INTO deliveries (webhook, break, revision, body, next_ms) VALUES (?, ?, ?, ?, ?)",
          [
            .text(webhook), .text(change.breakID), .integer(Int64(change.revision)), .text(change.body),
            .integer(now_ms),
          ])
      }
      return true
    }
  }

  private static let columns = "id, webhook, break, revision, body, attempts, next_ms, dead, error"

  private static func delivery(_ row: any StateRow) -> Delivery {
    Delivery(
      id: row.integer(0), webhook: row.text(1), breakID: row.text(2), revision: Int(row.integer(3)), body: row.text(4),
      attempts: Int(row.integer(5)), next_ms: row.integer(6), isDead: row.integer(7) != 0, error: row.optionalText(8))
  }

  /// Takes deliveries that are due, for `claimLease_ms`: until then no other server has them.
  func claim(_ webhook: String, now_ms: Int64) async throws -> [Delivery] {
    let lock = database.isShared ? "FOR UPDATE SKIP LOCKED" : ""
    let found = try await database.transaction { session in
      try session.run(
        """
        UPDATE deliveries SET next_ms = ? WHERE id IN (
          SELECT id FROM deliveries WHERE webhook = ? AND dead = 0 AND next_ms <= ? ORDER BY id LIMIT ? \(lock))
        RETURNING \(StateStore.columns)
        """,
        [
          .integer(now_ms + StateStore.claimLease_ms), .text(webhook), .integer(now_ms),
          .integer(Int64(StateStore.claim)),
        ], StateStore.delivery)
    }
    return found.sorted { $0.id < $1.id }
  }

  /// Gives back what was claimed and not tried.
  func release(_ deliveries: [Delivery], now_ms: Int64) async throws {
    try await database.transaction { session in
      for delivery in deliveries {
        try session.run(
          "UPDATE deliveries SET next_ms = ? WHERE id = ?", [.integer(now_ms), .integer(delivery.id)])
      }
    }
  }

  /// What waits for a receiver, whether it is due or not.
  func waiting(_ webhook: String, limit: Int) async throws -> [Delivery] {
    try await database.transaction { session in
      try session.run(
        "SELECT \(StateStore.columns) FROM deliveries WHERE webhook = ? AND dead = 0 ORDER BY id LIMIT ?",
        [.text(webhook), .integer(Int64(limit))], StateStore.delivery)
    }
  }

  func waiting(_ webhook: String) async throws -> Int {
    try await database.transaction { session in
      try session.run("SELECT count(*) FROM deliveries WHERE webhook = ? AND dead = 0", [.text(webhook)]) {
        Int($0.integer(0))
      }.first ?? 0
    }
  }

  func delivered(_ id: Int64) async throws {
    try await database.transaction { session in
      try session.run("DELETE FROM deliveries WHERE id = ?", [.integer(id)])
    }
  }

  func failed(_ delivery: Delivery, error: String, next_ms: Int64, isDead: Bool) async throws {
    try await database.transaction { session in
      try session.run(
        "UPDATE deliveries SET attempts = attempts + 1, error = ?, next_ms = ?, dead = ? WHERE id = ?",
        [.text(error), .integer(next_ms), .integer(isDead ? 1 : 0), .integer(delivery.id)])
      if isDead {
        try session.run(
          """
          DELETE FROM deliveries WHERE dead = 1 AND id <= (
            SELECT id FROM deliveries WHERE dead = 1 ORDER BY id DESC LIMIT 1 OFFSET ?)
          """, [.integer(Int64(StateStore.maximumDead))])
      }
    }
  }

  func deliveries(isDead: Bool?, limit: Int) async throws -> [Delivery] {
    try await database.transaction { session in
      let condition = isDead.map { $0 ? "WHERE dead = 1" : "WHERE dead = 0" } ?? ""
      return try session.run(
        "SELECT \(StateStore.columns) FROM deliveries \(condition) ORDER BY id DESC LIMIT ?",
        [.integer(Int64(limit))], StateStore.delivery)
    }
  }

  /// Sends a delivery that was given up once more; false where there is none.
  func revive(_ id: Int64, now_ms: Int64) async throws -> Bool {
    try await database.transaction { session in
      try !session.run(
        "UPDATE deliveries SET dead = 0, attempts = 0, next_ms = ? WHERE id = ? AND dead = 1 RETURNING 1",
        [.integer(now_ms), .integer(id)]
      ) { _ in }.isEmpty
    }
  }
}
