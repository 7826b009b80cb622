import Foundation
import GRDB
import Synchronization

/// The embedded store: one SQLite file in WAL mode, one writer, several readers that never wait for it.
public final class SQLiteStore: SQLStore {
  public let dimensionNames: [String]
  let pool: DatabasePool
  /// Whether this SQLite has FTS5; without it, searches match the beginning of the order key or customer.
  public let hasFullText: Bool
  let writer: Mutex<WriterState>
  let quick: QuickReaders
  public let isOwn = true

  /// What only the thread that applies batches needs.
  struct WriterState: Sendable {
    var sequence: Int64
  }

  /// Readers beside the writer. More than the cores only queue in the kernel instead of here, and each maps the file.
  static let maximumReaders = 4

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
    quick = try QuickReaders(path: path, configuration)
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

  /// What a store must have been made with to be gone on with.
  public static func layout(dimensions: [String]) -> String { StoreSchema.layout(dimensions: dimensions) }

  static func makeSchema(_ db: Database, dimensions: [String], fullText: Bool, layout: String) throws {
    for table in StoreSchema.tables { try db.execute(sql: "DROP TABLE IF EXISTS \(table)") }
    try db.execute(sql: StoreSchema.statements(.sqlite(hasFullText: fullText), dimensions: dimensions))
    if fullText { try db.execute(sql: "CREATE VIRTUAL TABLE keys USING fts5(text, content='', prefix='3')") }
    try db.execute(sql: "INSERT INTO meta VALUES ('layout', ?)", arguments: [layout])
    try db.execute(sql: "INSERT INTO meta VALUES ('generation', ?)", arguments: [UUID().uuidString])
  }

  // MARK: - Reading

  var dialect: SQLDialect { .sqlite(hasFullText: hasFullText) }

  func read<T: Sendable>(
    isSnapshot: Bool, _ body: @escaping @Sendable (SQLiteReader) throws -> T
  ) async throws -> T {
    // One statement sees one state of the file by itself: no transaction is needed around it.
    isSnapshot
      ? try await pool.read { try body(SQLiteReader(db: $0)) }
      : try await pool.unsafeRead { try body(SQLiteReader(db: $0)) }
  }
}
