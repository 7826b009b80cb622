import Foundation
import GRDB
import Synchronization

/// The embedded store: one SQLite file in WAL mode, one writer, several readers that never wait for it.
public final class SQLiteStore: ConsoleStore {
  public let dimensionNames: [String]
  let pool: DatabasePool
  /// Whether this SQLite has FTS5; without it, searches match the beginning of the order key or customer.
  public let hasFullText: Bool
  let writer: Mutex<WriterState>

  /// What only the thread that applies batches needs.
  struct WriterState: Sendable {
    var sequence: Int64
  }

  /// Readers beside the writer. More than the cores only queue in the kernel instead of here, and each maps the file.
  static let maximumReaders = 4

  public struct StoreError: Error, CustomStringConvertible {
    public var description: String
  }

  /// Opens or makes the store. One that was filled under other dimensions, or by another version of the program, is
  /// emptied: the topics fill it again.
  public init(path: String, dimensions: [String]) throws {
    var configuration = GRDB.Configuration()
    configuration.maximumReaderCount = SQLiteStore.maximumReaders
    configuration.busyMode = .timeout(10)
    configuration.prepareDatabase { db in
      // The topics are the truth: after a power failure a few batches may be read again, so a sync at every
      // checkpoint of the log is enough. Checkpoints come every 128 MiB: a batch touches tens of thousands of pages of
      // the indexes, and many of them again in the next one.
      try db.execute(
        sql: """
          PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -131072;
          PRAGMA mmap_size = 4294967296; PRAGMA journal_size_limit = 268435456; PRAGMA wal_autocheckpoint = 32768;
          """)
    }
    pool = try DatabasePool(path: path, configuration: configuration)
    dimensionNames = dimensions
    hasFullText = try pool.write { db in
      try Bool.fetchOne(db, sql: "SELECT sqlite_compileoption_used('ENABLE_FTS5')") ?? false
    }
    let wanted = SQLiteStore.layout(dimensions: dimensions)
    let found = try pool.read { db in
      try db.tableExists("meta") ? String.fetchOne(db, sql: "SELECT value FROM meta WHERE key = 'layout'") : nil
    }
    if found != wanted {
      try pool.write { [hasFullText] db in
        try SQLiteStore.makeSchema(db, dimensions: dimensions, fullText: hasFullText, layout: wanted)
      }
    }
    let sequence = try pool.read { db in try Int64.fetchOne(db, sql: "SELECT max(seq) FROM breaks") ?? 0 }
    writer = Mutex(WriterState(sequence: sequence))
  }

  public func clear() throws {
    let layout = SQLiteStore.layout(dimensions: dimensionNames)
    try writer.withLock { state in
      try pool.write { [dimensionNames, hasFullText] db in
        try SQLiteStore.makeSchema(db, dimensions: dimensionNames, fullText: hasFullText, layout: layout)
      }
      state.sequence = 0
    }
  }

  public var generation: String {
    get throws {
      try pool.read { db in try String.fetchOne(db, sql: "SELECT value FROM meta WHERE key = 'generation'") ?? "" }
    }
  }

  public func positions() throws -> [StorePlace: Int64] {
    try pool.read { db in
      var found: [StorePlace: Int64] = [:]
      for row in try Row.fetchAll(db, sql: "SELECT topic, part, next FROM offsets") {
        found[StorePlace(row[0], row[1])] = row[2]
      }
      return found
    }
  }

  // MARK: - Layout

  /// Rises with every change of the tables below.
  static let schemaVersion = 1

  /// What a store must have been made with to be gone on with.
  public static func layout(dimensions: [String]) -> String {
    "\(schemaVersion)|\(dimensions.joined(separator: "|"))"
  }

  static func makeSchema(_ db: Database, dimensions: [String], fullText: Bool, layout: String) throws {
    for table in [
      "meta", "offsets", "breaks", "bodies", "revisions", "actions", "workflows", "dead", "cells", "points",
    ] {
      try db.execute(sql: "DROP TABLE IF EXISTS \(table)")
    }
    try db.execute(sql: "DROP TABLE IF EXISTS keys")
    let columns = dimensions.indices.map { ", d\($0) TEXT NOT NULL DEFAULT ''" }.joined()
    try db.execute(
      sql: """
        CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
        CREATE TABLE offsets (
          topic TEXT NOT NULL, part INTEGER NOT NULL, next INTEGER NOT NULL, PRIMARY KEY (topic, part)) WITHOUT ROWID;
        CREATE TABLE breaks (
          n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, ord TEXT NOT NULL, type TEXT NOT NULL, role TEXT NOT NULL,
          currency TEXT NOT NULL, state TEXT NOT NULL, reconciler TEXT NOT NULL, is_open INTEGER NOT NULL,
          severity INTEGER NOT NULL, customer TEXT NOT NULL, amount_u INTEGER NOT NULL, basis TEXT NOT NULL,
          opened_ms INTEGER NOT NULL, revision INTEGER NOT NULL, seq INTEGER NOT NULL, assignee TEXT,
          pending INTEGER NOT NULL, summary TEXT NOT NULL\(columns));
        CREATE TABLE bodies (n INTEGER PRIMARY KEY, body TEXT NOT NULL);
        CREATE TABLE revisions (
          n INTEGER NOT NULL, revision INTEGER NOT NULL, state TEXT NOT NULL, provisional INTEGER NOT NULL,
          severity TEXT NOT NULL, expected TEXT, posted TEXT, delta TEXT, reason TEXT NOT NULL, as_of_ms INTEGER,
          at_ms INTEGER NOT NULL, PRIMARY KEY (n, revision)) WITHOUT ROWID;
        CREATE TABLE actions (
          id TEXT PRIMARY KEY, break TEXT NOT NULL, part INTEGER NOT NULL, offs INTEGER NOT NULL, body TEXT NOT NULL
          ) WITHOUT ROWID;
        CREATE INDEX actions_break ON actions (break, part, offs);
        CREATE TABLE dead (
          n INTEGER PRIMARY KEY, topic TEXT NOT NULL, part INTEGER NOT NULL, offs INTEGER NOT NULL,
          source TEXT NOT NULL, reason TEXT NOT NULL, body TEXT NOT NULL, UNIQUE (topic, part, offs));
        CREATE INDEX dead_source ON dead (source, reason, n);
        CREATE TABLE cells (
          topic TEXT NOT NULL, cell TEXT NOT NULL, at_ms INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (topic, cell)
          ) WITHOUT ROWID;
        CREATE TABLE points (
          topic TEXT NOT NULL, cell TEXT NOT NULL, at_ms INTEGER NOT NULL, body TEXT NOT NULL,
          PRIMARY KEY (topic, cell, at_ms)) WITHOUT ROWID;
        CREATE INDEX breaks_amount ON breaks (is_open, amount_u, n);
        CREATE INDEX breaks_opened ON breaks (is_open, opened_ms, n);
        CREATE INDEX breaks_seq ON breaks (seq, n);
        CREATE INDEX breaks_ord ON breaks (ord);
        CREATE INDEX breaks_type ON breaks (type, is_open, amount_u, n);
        CREATE INDEX breaks_customer ON breaks (customer);
        CREATE INDEX breaks_assignee ON breaks (assignee) WHERE assignee IS NOT NULL;
        CREATE INDEX breaks_pending ON breaks (n) WHERE pending = 1;
        CREATE INDEX breaks_tally ON breaks (
          type, state, severity, currency, opened_ms, amount_u\(dimensions.indices.map { ", d\($0)" }.joined())
          ) WHERE is_open = 1;
        """)
    for index in dimensions.indices {
      try db.execute(sql: "CREATE INDEX breaks_d\(index) ON breaks (d\(index), is_open, amount_u, n)")
    }
    if fullText { try db.execute(sql: "CREATE VIRTUAL TABLE keys USING fts5(text, content='', prefix='3')") }
    try db.execute(sql: "INSERT INTO meta VALUES ('layout', ?)", arguments: [layout])
    try db.execute(sql: "INSERT INTO meta VALUES ('generation', ?)", arguments: [UUID().uuidString])
  }
}
