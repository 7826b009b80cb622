/// The tables of the store, for both databases.
enum StoreSchema {
  /// Rises with every change of the tables below, or of what stands in them.
  static let version = 4

  static let tables = [
    "meta", "offsets", "breaks", "bodies", "revisions", "actions", "workflows", "dead", "cells", "points", "keys",
    "tallies", "records",
  ]

  /// What a store must have been made with to be gone on with.
  static func layout(dimensions: [String]) -> String { "\(version)|\(dimensions.joined(separator: "|"))" }

  /// Statements that make the tables, without the full text of SQLite.
  static func statements(_ dialect: SQLDialect, dimensions: [String]) -> String {
    let isPostgres = dialect == .postgres
    // Texts are compared byte by byte in both.
    let text = isPostgres ? "TEXT COLLATE \"C\"" : "TEXT"
    let integer = isPostgres ? "BIGINT" : "INTEGER"
    // A table that is its primary key's index.
    let clustered = isPostgres ? "" : " WITHOUT ROWID"
    let columns = dimensions.indices.map { ", d\($0) \(text) NOT NULL DEFAULT ''" }.joined()
    var statements = """
      CREATE TABLE meta (key \(text) PRIMARY KEY, value \(text) NOT NULL)\(clustered);
      CREATE TABLE offsets (
        topic \(text) NOT NULL, part \(integer) NOT NULL, next \(integer) NOT NULL, PRIMARY KEY (topic, part))\(clustered);
      CREATE TABLE breaks (
        n \(integer) PRIMARY KEY, id \(text) NOT NULL UNIQUE, ord \(text) NOT NULL, type \(text) NOT NULL,
        role \(text) NOT NULL, currency \(text) NOT NULL, state \(text) NOT NULL, reconciler \(text) NOT NULL,
        is_open \(integer) NOT NULL, severity \(integer) NOT NULL, customer \(text) NOT NULL,
        amount_u \(integer) NOT NULL, basis \(text) NOT NULL, opened_ms \(integer) NOT NULL, revision \(integer) NOT NULL,
        seq \(integer) NOT NULL, assignee \(text), pending \(integer) NOT NULL, summary \(text) NOT NULL\(columns));
      CREATE TABLE bodies (n \(integer) PRIMARY KEY, body \(text) NOT NULL);
      CREATE TABLE revisions (
        n \(integer) NOT NULL, revision \(integer) NOT NULL, state \(text) NOT NULL, provisional \(integer) NOT NULL,
        severity \(text) NOT NULL, expected \(text), posted \(text), delta \(text), reason \(text) NOT NULL,
        as_of_ms \(integer), at_ms \(integer) NOT NULL, PRIMARY KEY (n, revision))\(clustered);
      CREATE TABLE actions (
        id \(text) PRIMARY KEY, break \(text) NOT NULL, part \(integer) NOT NULL, offs \(integer) NOT NULL,
        body \(text) NOT NULL)\(clustered);
      CREATE INDEX actions_break ON actions (break, part, offs);
      CREATE TABLE dead (
        n \(isPostgres ? "BIGINT GENERATED ALWAYS AS IDENTITY" : "INTEGER") PRIMARY KEY, topic \(text) NOT NULL,
        part \(integer) NOT NULL, offs \(integer) NOT NULL, source \(text) NOT NULL, reason \(text) NOT NULL,
        body \(text) NOT NULL, UNIQUE (topic, part, offs));
      CREATE INDEX dead_source ON dead (source, reason, n);
      CREATE TABLE cells (
        topic \(text) NOT NULL, cell \(text) NOT NULL, at_ms \(integer) NOT NULL, body \(text) NOT NULL,
        PRIMARY KEY (topic, cell))\(clustered);
      CREATE TABLE points (
        topic \(text) NOT NULL, cell \(text) NOT NULL, at_ms \(integer) NOT NULL, body \(text) NOT NULL,
        PRIMARY KEY (topic, cell, at_ms))\(clustered);
      CREATE TABLE records (
        topic \(text) NOT NULL, part \(integer) NOT NULL, offs \(integer) NOT NULL, ord \(text) NOT NULL,
        at_ms \(integer) NOT NULL, body \(text) NOT NULL, PRIMARY KEY (topic, part, offs))\(clustered);
      CREATE INDEX records_ord ON records (ord, at_ms);
      CREATE INDEX records_at ON records (at_ms);
      CREATE INDEX breaks_amount ON breaks (is_open, amount_u, n);
      CREATE INDEX breaks_opened ON breaks (is_open, opened_ms, n);
      CREATE INDEX breaks_seq ON breaks (seq, n);
      CREATE INDEX breaks_ord ON breaks (ord);
      CREATE INDEX breaks_type ON breaks (type, is_open, amount_u, n);
      CREATE INDEX breaks_customer ON breaks (customer);
      CREATE INDEX breaks_assignee ON breaks (assignee) WHERE assignee IS NOT NULL;
      CREATE INDEX breaks_pending ON breaks (n) WHERE pending = 1;
      CREATE TABLE tallies (
        dimension \(integer) NOT NULL, value \(text) NOT NULL, type \(text) NOT NULL, state \(text) NOT NULL,
        severity \(integer) NOT NULL, currency \(text) NOT NULL, day \(integer) NOT NULL, breaks \(integer) NOT NULL,
        units \(integer) NOT NULL, micros \(integer) NOT NULL,
        PRIMARY KEY (dimension, value, type, state, severity, currency, day))\(clustered);

      """
    for index in dimensions.indices {
      statements += "CREATE INDEX breaks_d\(index) ON breaks (d\(index), is_open, amount_u, n);\n"
    }
    if isPostgres {
      statements += """
        CREATE TABLE keys (n BIGINT PRIMARY KEY, words TSVECTOR NOT NULL);
        CREATE INDEX keys_words ON keys USING GIN (words);

        """
    }
    return statements
  }
}
