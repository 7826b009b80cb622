import Foundation
import Pipeline
import Synchronization

/// The store in a PostgreSQL database, which any number of processes may share: each follows the topics, and a record
/// takes effect for whoever brings it first.
///
/// Whoever takes a batch in holds the row `generation` of `meta` until the transaction has ended, so that batches follow
/// each other over all processes; records below the offsets that stand beside it are there already. Numbers of changes
/// rise in the order in which they become visible, for this reason.
public final class PostgresStore: SQLStore {
  public let dimensionNames: [String]
  let settings: PostgresSettings
  private let pool: PostgresPool
  private let writer: Mutex<Writer>
  /// The filling that this process knows of.
  private let known: Mutex<String>

  /// What only the thread that applies batches needs.
  private struct Writer: ~Copyable {
    var connection: PostgresConnection?
  }

  /// Opens or makes the store. One of another layout is emptied, unless another process is at work with it.
  /// - Throws: `StoreUnavailable` where the server does not answer, `StoreError` where the store cannot be used.
  public init(_ settings: PostgresSettings, dimensions: [String]) throws {
    self.settings = settings
    dimensionNames = dimensions
    pool = PostgresPool(settings)
    let connection = try settings.connect()
    let generation = try PostgresStore.open(connection, settings, dimensions: dimensions)
    known = Mutex(generation)
    try PostgresStore.prepare(connection, settings)
    writer = Mutex(Writer(connection: connection))
  }

  var dialect: SQLDialect { .postgres }

  func read<T: Sendable>(
    isSnapshot: Bool, _ body: @escaping @Sendable (PostgresConnection) throws -> T
  ) async throws -> T { try await pool.read(isSnapshot: isSnapshot, body) }

  // MARK: - Layout

  /// Looks, a tenth of a second apart, for the end of whoever is at work with tables of another layout.
  private static let leaveTries = 50

  /// Locks by name: making the tables, and being at work with them.
  private static let makingLock = "hashtextextended(?, 7401)"
  private static let usingLock = "hashtextextended(?, 7402)"

  /// Says that this process is at work with the tables, for as long as the connection lasts.
  private static func prepare(_ connection: PostgresConnection, _ settings: PostgresSettings) throws {
    // The topics are the truth: after a crash of the server the last batches may be read again.
    try connection.run("SET synchronous_commit TO off")
    _ = try connection.rows("SELECT pg_advisory_lock_shared(\(usingLock))", [.text(settings.schema)]) { _ in }
  }

  /// Makes the tables where they are not there, or of another layout. The names of the filling.
  private static func open(
    _ connection: PostgresConnection, _ settings: PostgresSettings, dimensions: [String]
  ) throws -> String {
    try connection.transaction {
      _ = try connection.rows("SELECT pg_advisory_xact_lock(\(makingLock))", [.text(settings.schema)]) { _ in }
      try connection.run("CREATE SCHEMA IF NOT EXISTS \(connection.quoted(settings.schema))")
      let layout = StoreSchema.layout(dimensions: dimensions)
      let hasTables = try connection.rows("SELECT 1 WHERE to_regclass('meta') IS NOT NULL", []) { _ in }.count > 0
      if hasTables, try meta("layout", connection) == layout, let generation = try meta("generation", connection) {
        return generation
      }
      // A process that has just ended is let go of by the server a moment later.
      var isFree = false
      for attempt in 0..<PostgresStore.leaveTries where !isFree {
        if attempt > 0 { usleep(100_000) }
        isFree =
          try connection.rows(
            "SELECT CASE WHEN pg_try_advisory_xact_lock(\(usingLock)) THEN 1 ELSE 0 END", [.text(settings.schema)]
          ) { $0.integer(0) == 1 }.first == true
      }
      guard isFree else {
        throw StoreError(
          description:
            "the store in schema \(settings.schema) at \(settings) has other dimensions or is of another version, "
            + "and another process is at work with it: give all of them the same configuration, or another serve.store.schema"
        )
      }
      for table in StoreSchema.tables { try connection.run("DROP TABLE IF EXISTS \(table)") }
      try connection.run(StoreSchema.statements(.postgres, dimensions: dimensions))
      let generation = UUID().uuidString
      for (key, value) in [("layout", layout), ("generation", generation)] {
        _ = try connection.rows("INSERT INTO meta VALUES (?, ?)", [.text(key), .text(value)]) { _ in }
      }
      return generation
    }
  }

  private static func meta(_ key: String, _ connection: PostgresConnection) throws -> String? {
    try connection.rows("SELECT value FROM meta WHERE key = ?", [.text(key)]) { $0.text(0) }.first
  }

  /// The writer's connection, made anew where it is gone.
  private func write<T>(_ body: (PostgresConnection) throws -> sending T) throws -> sending T {
    try writer.withLock { writer in
      if writer.connection?.isUsable != true {
        writer.connection = nil
        let connection = try settings.connect()
        try PostgresStore.prepare(connection, settings)
        writer.connection = connection
      }
      return try body(writer.connection!)
    }
  }

  /// What there is at a place, for whoever looks before a server is started.
  public struct Inspection: Sendable, Equatable {
    public enum State: Sendable { case same, other, missing, forbidden }
    public var version: String
    public var state: State
    public var clock_ms: Int64
  }

  /// Looks, and changes nothing.
  public static func inspect(_ settings: PostgresSettings, dimensions: [String]) throws -> Inspection {
    let connection = try settings.connect()
    try connection.run("SET default_transaction_read_only TO on")
    let (version, clock_ms, mayCreate) = try connection.rows(
      """
      SELECT current_setting('server_version'), CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT),
        CASE WHEN has_database_privilege(current_database(), 'CREATE') THEN 1 ELSE 0 END
      """, []
    ) { ($0.text(0), $0.integer(1), $0.integer(2) == 1) }.first!
    let hasSchema = try connection.rows("SELECT 1 FROM pg_namespace WHERE nspname = ?", [.text(settings.schema)]) { _ in
    }
    let hasTables = try connection.rows("SELECT 1 WHERE to_regclass('meta') IS NOT NULL", []) { _ in }
    let state: Inspection.State
    if hasSchema.isEmpty {
      state = mayCreate ? .missing : .forbidden
    } else if hasTables.isEmpty {
      state = .missing
    } else {
      let layout = try meta("layout", connection)
      state = layout == StoreSchema.layout(dimensions: dimensions) ? .same : .other
    }
    return Inspection(version: version, state: state, clock_ms: clock_ms)
  }

  // MARK: - The whole

  public var generation: String { known.withLock { $0 } }

  public func positions() throws -> [StorePlace: Int64] {
    try write { connection in
      let rows = try connection.rows("SELECT topic, part, next FROM offsets", []) {
        (StorePlace($0.text(0), Int32($0.integer(1))), $0.integer(2))
      }
      return Dictionary(rows) { $1 }
    }
  }

  public func clear() throws {
    let generation = UUID().uuidString
    try write { connection in
      try connection.transaction {
        _ = try PostgresStore.lock(connection)
        let tables = StoreSchema.tables.filter { !["meta", "workflows"].contains($0) }
        try connection.run("TRUNCATE \(tables.joined(separator: ", ")) RESTART IDENTITY")
        _ = try connection.rows("UPDATE meta SET value = ? WHERE key = 'generation'", [.text(generation)]) { _ in }
      }
    }
    known.withLock { $0 = generation }
  }

  public func refresh() throws {
    try check(try write { try PostgresStore.meta("generation", $0) })
  }

  /// - Throws: where the filling is another one than before; from then on it is the one that is known.
  private func check(_ generation: String?) throws {
    guard let generation else {
      throw StoreError(
        description: "the store in schema \(settings.schema) at \(settings) has no tables any more: restart")
    }
    let isAnother = known.withLock { known in
      defer { known = generation }
      return known != generation
    }
    if isAnother { throw StoreMadeAnew() }
  }

  /// Waits until no other process takes a batch in, and keeps them out until the transaction has ended.
  private static func lock(_ connection: PostgresConnection) throws -> String? {
    try connection.rows("SELECT value FROM meta WHERE key = 'generation' FOR UPDATE", []) { $0.text(0) }.first
  }

  // MARK: - Batches

  public func apply(_ records: [StoreRecord], now_ms: Int64) throws -> StoreChange {
    do {
      return try applyTogether(records, now_ms: now_ms)
    } catch let error as PostgresError where error.isOfData {
      // One of them holds what the database does not take: it is told, and stops no other. Each half keeps the order.
      if records.count > 1 {
        let middle = records.count / 2
        var change = try apply(Array(records[..<middle]), now_ms: now_ms)
        change.add(try apply(Array(records[middle...]), now_ms: now_ms))
        return change
      }
      return try pass(records[0], error, now_ms: now_ms)
    }
  }

  /// Leaves a record out, and says so.
  private func pass(_ record: StoreRecord, _ error: PostgresError, now_ms: Int64) throws -> StoreChange {
    var empty = record
    (empty.key, empty.value) = (nil, nil)
    var change = try applyTogether([empty], now_ms: now_ms)
    change.faultCount = 1
    change.faults = [
      "topic \(record.place.topic), partition \(record.place.partition), offset \(record.offset): \(error.message)"
    ]
    return change
  }

  private func applyTogether(_ records: [StoreRecord], now_ms: Int64) throws -> StoreChange {
    try write { connection in
      try connection.transaction {
        try check(try PostgresStore.lock(connection))
        let positions = try connection.rows("SELECT topic, part, next FROM offsets", []) {
          (StorePlace($0.text(0), Int32($0.integer(1))), $0.integer(2))
        }
        let next = Dictionary(positions) { $1 }
        let fresh = records.filter { $0.offset >= next[$0.place] ?? 0 }
        let sequence = try connection.rows("SELECT coalesce(max(seq), 0) FROM breaks", []) { $0.integer(0) }.first ?? 0
        var batch = try StoreBatch(
          PostgresTransaction(connection, dimensions: dimensionNames.count), sequence: sequence, now_ms: now_ms,
          dimensions: dimensionNames)
        try batch.take(fresh)
        var change = batch.change
        change.known = records.count - fresh.count
        return change
      }
    }
  }
}

/// A transaction of the shared store: what the batch is about is read at once, and what it writes is sent without waiting
/// for each answer.
private final class PostgresTransaction: StoreTransaction {
  private let connection: PostgresConnection
  private let dimensions: Int
  private var breaks: [String: (known: KnownBreak, body: String)] = [:]
  private var workflows: [String: [String]] = [:]
  private var actions: Set<String> = []
  private var number: Int64?
  let filesWords = true

  init(_ connection: PostgresConnection, dimensions: Int) {
    self.connection = connection
    self.dimensions = dimensions
  }

  /// A list as PostgreSQL writes it.
  private static func list(_ texts: some Collection<String>) -> SQLValue {
    .text(
      "{"
        + texts.map { "\"" + $0.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"") + "\"" }
        .joined(separator: ",") + "}")
  }

  func prepare(breaks: Set<String>, actions: Set<String>) throws {
    try connection.finish()
    if !breaks.isEmpty {
      for (id, version) in try connection.rows(
        """
        SELECT id, body, \(KnownBreak.columns(dimensions: dimensions)) FROM breaks JOIN bodies USING (n)
        WHERE id = ANY (CAST(? AS TEXT[]))
        """, [Self.list(breaks)],
        { ($0.text(0), (known: KnownBreak($0, first: 2, dimensions: dimensions), body: $0.text(1))) })
      { self.breaks[id] = version }
      for (id, body) in try connection.rows(
        "SELECT break, body FROM actions WHERE break = ANY (CAST(? AS TEXT[])) ORDER BY break, part, offs",
        [Self.list(breaks)], { ($0.text(0), $0.text(1)) })
      { workflows[id, default: []].append(body) }
    }
    if !actions.isEmpty {
      self.actions = Set(
        try connection.rows("SELECT id FROM actions WHERE id = ANY (CAST(? AS TEXT[]))", [Self.list(actions)]) {
          $0.text(0)
        })
    }
  }

  private func stored(_ id: String) -> String { PostgresConnection.stored(id) }

  func find(_ id: String) -> KnownBreak? { breaks[stored(id)]?.known }

  func meta(_ key: String) throws -> String? {
    try connection.finish()
    return try connection.rows("SELECT value FROM meta WHERE key = ?", [.text(key)]) { $0.text(0) }.first
  }

  func body(_ id: String, number: Int64) throws -> String {
    guard let version = breaks[stored(id)] else {
      throw StoreError(description: "the store has break \(id) without its message: make it anew with --rebuild")
    }
    return version.body
  }

  func actions(of id: String) -> [String] { workflows[stored(id)] ?? [] }

  func keep(_ action: Action, partition: Int32, offset: Int64, body: String) throws -> Bool {
    guard actions.insert(stored(action.id)).inserted else { return false }
    // Actions of a break come in the order of their partition.
    workflows[stored(action.breakID), default: []].append(body)
    try run(
      "INSERT INTO actions VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
      [.text(action.id), .text(action.breakID), .integer(Int(partition)), .integer(offset), .text(body)])
    return true
  }

  func nextNumber() throws -> Int64 {
    if number == nil {
      try connection.finish()
      number = try connection.rows("SELECT coalesce(max(n), 0) FROM breaks", []) { $0.integer(0) }.first ?? 0
    }
    number! += 1
    return number!
  }

  func wrote(_ id: String, _ version: (known: KnownBreak, body: String)?) {
    breaks[stored(id)] = version
  }

  func file(_ number: Int64, words: String?, before: String?) throws {
    guard let words else { return try run("DELETE FROM keys WHERE n = ?", [.integer(number)]) }
    try run(
      """
      INSERT INTO keys VALUES (?, array_to_tsvector(CAST(? AS TEXT[])))
      ON CONFLICT (n) DO UPDATE SET words = excluded.words
      """, [.integer(number), Self.list(Set(SearchWords.of(words)).sorted())])
  }

  func run(_ sql: String, _ values: [SQLValue]) throws { try connection.send(sql, values) }
}
