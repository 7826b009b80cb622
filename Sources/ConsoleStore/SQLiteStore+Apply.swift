import Domain
import Foundation
import GRDB

extension SQLiteStore {
  /// Dead letters kept; the topic has all of them.
  static let maximumDeadLetters: Int64 = 100_000
  /// A series has one point a minute: the newest of the minute.
  static let pointInterval_ms: Int64 = 60_000
  /// Older points are dropped.
  static let pointRetention_ms: Int64 = 90 * 86_400_000
  /// Faults told by a batch; all are counted.
  static let maximumFaults = 8

  public func apply(_ records: [StoreRecord], now_ms: Int64) throws -> StoreChange {
    try writer.withLock { state in
      var batch = try pool.writeWithoutTransaction { [dimensionNames, hasFullText] db in
        var batch = Batch(
          change: StoreChange(sequence: state.sequence), now_ms: now_ms, dimensions: dimensionNames,
          hasFullText: hasFullText)
        try db.inTransaction(.immediate) {
          for record in records { try batch.take(record, db) }
          try batch.finish(db)
          return .commit
        }
        return batch
      }
      state.sequence = batch.change.sequence
      batch.change.faults = Array(batch.change.faults.prefix(SQLiteStore.maximumFaults))
      return batch.change
    }
  }

  /// The work of one transaction.
  struct Batch {
    var change: StoreChange
    let now_ms: Int64
    let dimensions: [String]
    let hasFullText: Bool
    private let decoder = JSONDecoder()
    private var next: [StorePlace: Int64] = [:]

    init(change: StoreChange, now_ms: Int64, dimensions: [String], hasFullText: Bool) {
      self.change = change
      self.now_ms = now_ms
      self.dimensions = dimensions
      self.hasFullText = hasFullText
    }

    mutating func take(_ record: StoreRecord, _ db: Database) throws {
      next[record.place] = record.offset + 1
      do {
        switch record.kind {
        case .breaks: try takeBreak(record, db)
        case .actions: try takeAction(record, db)
        case .deadLetters: try takeDeadLetter(record, db)
        case .cells: try takeCell(record, db)
        }
      } catch let error as DecodingError {
        // A record of somebody else's: it must not stop the others.
        change.faultCount += 1
        if change.faults.count < SQLiteStore.maximumFaults {
          change.faults.append(
            "topic \(record.place.topic), partition \(record.place.partition), offset \(record.offset): \(told(error))")
        }
      }
    }

    private func told(_ error: DecodingError) -> String {
      switch error {
      case .keyNotFound(let key, _): "'\(key.stringValue)' is missing"
      case .typeMismatch(_, let context), .valueNotFound(_, let context):
        "\(context.codingPath.map(\.stringValue).joined(separator: ".")): \(context.debugDescription)"
      case .dataCorrupted(let context): context.debugDescription
      @unknown default: "cannot be read"
      }
    }

    mutating func finish(_ db: Database) throws {
      let statement = try db.cachedStatement(
        sql: """
          INSERT INTO offsets VALUES (?, ?, ?) ON CONFLICT (topic, part) DO UPDATE SET next = excluded.next
          """)
      for (place, offset) in next { try statement.execute(arguments: [place.topic, place.partition, offset]) }
      if change.deadLetters > 0 {
        try db.execute(
          sql: "DELETE FROM dead WHERE n <= (SELECT max(n) FROM dead) - ?", arguments: [SQLiteStore.maximumDeadLetters])
      }
    }

    // MARK: - Breaks

    private mutating func takeBreak(_ record: StoreRecord, _ db: Database) throws {
      guard let value = record.value else {
        if let key = record.key { try remove(id: String(decoding: key, as: UTF8.self), db) }
        return
      }
      let document = try decoder.decode(BreakDocument.self, from: Data(value))
      let find = try db.cachedStatement(sql: "SELECT n, revision FROM breaks WHERE id = ?")
      let known = try Row.fetchOne(find, arguments: [document.id])
      // The same revision again, or an older one: at least once, or a topic that is read a second time.
      if let known, known[1] as Int >= document.revision { return }
      let workflow = try self.workflow(of: document.id, db)
      let state = workflow.state(reconciler: document.state, basis: document.basis)
      change.sequence += 1
      change.breaks += 1
      let at_ms = record.timestamp_ms > 0 ? record.timestamp_ms : now_ms
      let number = try write(document, state, workflow, at_ms: at_ms, known: known?[0], db)
      let revision = try db.cachedStatement(
        sql: "INSERT OR REPLACE INTO revisions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
      try revision.execute(arguments: [
        number, document.revision, document.state, document.isProvisional, document.severity, document.expected,
        document.posted, document.delta, document.reason, document.asOf.flatMap(parseTimestamp_ms), at_ms,
      ])
      let text = String(decoding: value, as: UTF8.self)
      if known != nil {
        if hasFullText { try refile(number, document, db) }
        try db.cachedStatement(sql: "UPDATE bodies SET body = ? WHERE n = ?").execute(arguments: [text, number])
      } else {
        if hasFullText {
          try db.cachedStatement(sql: "INSERT INTO keys (rowid, text) VALUES (?, ?)").execute(
            arguments: [number, document.keys])
        }
        try db.cachedStatement(sql: "INSERT INTO bodies VALUES (?, ?)").execute(arguments: [number, text])
      }
    }

    /// The words of a break change where documents come to it.
    private func refile(_ number: Int64, _ document: BreakDocument, _ db: Database) throws {
      let body = try db.cachedStatement(sql: "SELECT body FROM bodies WHERE n = ?")
      guard let old = try String.fetchOne(body, arguments: [number]) else { return }
      let before = try decoder.decode(BreakDocument.self, from: Data(old.utf8)).keys
      guard before != document.keys else { return }
      try db.cachedStatement(sql: "INSERT INTO keys (keys, rowid, text) VALUES ('delete', ?, ?)").execute(
        arguments: [number, before])
      try db.cachedStatement(sql: "INSERT INTO keys (rowid, text) VALUES (?, ?)").execute(
        arguments: [number, document.keys])
    }

    private func write(
      _ document: BreakDocument, _ state: String, _ workflow: Workflow, at_ms: Int64, known: Int64?, _ db: Database
    ) throws -> Int64 {
      let names =
        [
          "id", "ord", "type", "role", "currency", "state", "reconciler", "is_open", "severity", "customer", "amount_u",
          "basis", "opened_ms", "revision", "seq", "assignee", "pending", "summary",
        ] + dimensions.indices.map { "d\($0)" }
      var values: [(any DatabaseValueConvertible)?] = [
        document.id, document.order, document.type, document.role, document.currency, state, document.state,
        SQLiteStore.isOpen(state), document.severityRank, document.customer, document.amount_u, document.basis,
        document.opened_ms ?? at_ms, document.revision, change.sequence, workflow.assignee, !workflow.pending.isEmpty,
        document.summary(workflow, state: state, updated_ms: at_ms),
      ]
      for name in dimensions { values.append(document.dimensions[name] ?? "") }
      if let known {
        values.append(known)
        let set = names.map { $0 + " = ?" }.joined(separator: ", ")
        try db.cachedStatement(sql: "UPDATE breaks SET \(set) WHERE n = ?").execute(
          arguments: StatementArguments(values))
        return known
      }
      let marks = Array(repeating: "?", count: names.count).joined(separator: ", ")
      try db.cachedStatement(sql: "INSERT INTO breaks (\(names.joined(separator: ", "))) VALUES (\(marks))").execute(
        arguments: StatementArguments(values))
      return db.lastInsertedRowID
    }

    private mutating func remove(id: String, _ db: Database) throws {
      guard let number = try Int64.fetchOne(db, sql: "SELECT n FROM breaks WHERE id = ?", arguments: [id]) else {
        return
      }
      if hasFullText,
        let body = try String.fetchOne(db, sql: "SELECT body FROM bodies WHERE n = ?", arguments: [number])
      {
        let keys = try decoder.decode(BreakDocument.self, from: Data(body.utf8)).keys
        try db.execute(
          sql: "INSERT INTO keys (keys, rowid, text) VALUES ('delete', ?, ?)", arguments: [number, keys])
      }
      for table in ["breaks", "bodies", "revisions"] {
        try db.execute(sql: "DELETE FROM \(table) WHERE n = ?", arguments: [number])
      }
      change.sequence += 1
      change.breaks += 1
    }

    // MARK: - Actions

    private func workflow(of id: String, _ db: Database) throws -> Workflow {
      let statement = try db.cachedStatement(sql: "SELECT body FROM actions WHERE break = ? ORDER BY part, offs")
      let bodies = try String.fetchAll(statement, arguments: [id])
      if bodies.isEmpty { return Workflow() }
      return Workflow(try bodies.map { try decoder.decode(Action.self, from: Data($0.utf8)) })
    }

    private mutating func takeAction(_ record: StoreRecord, _ db: Database) throws {
      guard let value = record.value else { return }
      let action = try decoder.decode(Action.self, from: Data(value))
      let insert = try db.cachedStatement(sql: "INSERT OR IGNORE INTO actions VALUES (?, ?, ?, ?, ?)")
      try insert.execute(arguments: [
        action.id, action.breakID, record.place.partition, record.offset, String(decoding: value, as: UTF8.self),
      ])
      // The same request once more.
      guard db.changesCount > 0 else { return }
      change.actions += 1
      let find = try db.cachedStatement(
        sql: "SELECT n, body FROM breaks JOIN bodies USING (n) WHERE id = ?")
      guard let row = try Row.fetchOne(find, arguments: [action.breakID]) else { return }
      let document = try decoder.decode(BreakDocument.self, from: Data((row[1] as String).utf8))
      let workflow = try self.workflow(of: action.breakID, db)
      change.sequence += 1
      let at_ms = record.timestamp_ms > 0 ? record.timestamp_ms : now_ms
      _ = try write(
        document, workflow.state(reconciler: document.state, basis: document.basis), workflow, at_ms: at_ms,
        known: row[0], db)
    }

    // MARK: - The rest

    private struct DeadLetterHead: Decodable {
      var source: String
      var reason: String
    }

    private mutating func takeDeadLetter(_ record: StoreRecord, _ db: Database) throws {
      guard let value = record.value else { return }
      let head = try decoder.decode(DeadLetterHead.self, from: Data(value))
      let insert = try db.cachedStatement(
        sql: "INSERT OR IGNORE INTO dead (topic, part, offs, source, reason, body) VALUES (?, ?, ?, ?, ?, ?)")
      try insert.execute(arguments: [
        record.place.topic, record.place.partition, record.offset, head.source, head.reason,
        String(decoding: value, as: UTF8.self),
      ])
      change.deadLetters += db.changesCount
    }

    private struct AnyObject: Decodable {
      init(from decoder: any Decoder) throws { _ = try decoder.container(keyedBy: AnyKey.self) }
      private struct AnyKey: CodingKey {
        var stringValue: String
        var intValue: Int? { nil }
        init?(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
      }
    }

    private mutating func takeCell(_ record: StoreRecord, _ db: Database) throws {
      guard let key = record.key else { return }
      let cell = String(decoding: key, as: UTF8.self)
      guard let value = record.value else {
        try db.execute(
          sql: "DELETE FROM cells WHERE topic = ? AND cell = ?", arguments: [record.place.topic, cell])
        return
      }
      _ = try decoder.decode(AnyObject.self, from: Data(value))
      let body = String(decoding: value, as: UTF8.self)
      let at_ms = record.timestamp_ms > 0 ? record.timestamp_ms : now_ms
      try db.cachedStatement(
        sql: """
          INSERT INTO cells VALUES (?, ?, ?, ?)
          ON CONFLICT (topic, cell) DO UPDATE SET at_ms = excluded.at_ms, body = excluded.body
          """
      ).execute(arguments: [record.place.topic, cell, at_ms, body])
      let minute = at_ms - at_ms % SQLiteStore.pointInterval_ms
      try db.cachedStatement(sql: "INSERT OR REPLACE INTO points VALUES (?, ?, ?, ?)").execute(
        arguments: [record.place.topic, cell, minute, body])
      try db.cachedStatement(sql: "DELETE FROM points WHERE topic = ? AND cell = ? AND at_ms < ?").execute(
        arguments: [record.place.topic, cell, at_ms - SQLiteStore.pointRetention_ms])
      change.cells += 1
    }
  }

  /// Whether a break in this state keeps its order from tying out.
  static func isOpen(_ state: String) -> Bool { BreakState(rawValue: state)?.isOpen ?? false }
}
