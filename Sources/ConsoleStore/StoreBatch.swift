import Domain
import Foundation
import Pipeline

/// What a batch asks of a database, inside one transaction.
protocol StoreTransaction: AnyObject {
  /// Told before anything else which breaks and actions the batch is about, for a database that is far away.
  func prepare(breaks: Set<String>, actions: Set<String>) throws
  func find(_ id: String) throws -> KnownBreak?
  /// What stands beside the tables under a name.
  func meta(_ key: String) throws -> String?
  /// The newest message of a break that is there.
  func body(_ id: String, number: Int64) throws -> String
  /// The messages of the actions on a break, in the order of their topic.
  func actions(of id: String) throws -> [String]
  /// Keeps an action that is not there yet; whether it was not.
  func keep(_ action: Action, partition: Int32, offset: Int64, body: String) throws -> Bool
  /// The number of a break that is about to be written for the first time.
  func nextNumber() throws -> Int64
  /// A break has been written, or removed (nil).
  func wrote(_ id: String, _ version: (known: KnownBreak, body: String)?)
  /// Files the words that a break is searched by, in place of those it had; either may be none.
  func file(_ number: Int64, words: String?, before: String?) throws
  /// Whether words are filed at all.
  var filesWords: Bool { get }
  func run(_ sql: String, _ values: [SQLValue]) throws
}

/// Bounds of what the store keeps.
enum StoreLimits {
  /// Dead letters kept; the topic has all of them.
  static let maximumDeadLetters: Int64 = 100_000
  /// A series has one point a minute: the newest of the minute.
  static let pointInterval_ms: Int64 = 60_000
  /// Older points are dropped.
  static let pointRetention_ms: Int64 = 90 * 86_400_000
  /// Records of the sources are kept as long, by the time of their message.
  static let recordRetention_ms: Int64 = 90 * 86_400_000
  /// Faults told by a batch; all are counted.
  static let maximumFaults = 8
}

/// The work of one transaction, the same for every database.
struct StoreBatch<Transaction: StoreTransaction> {
  private(set) var change: StoreChange
  private let now_ms: Int64
  private let dimensions: [String]
  private let transaction: Transaction
  private let decoder = JSONDecoder()
  private var next: [StorePlace: Int64] = [:]
  private var tallies: TallyChanges
  private var hasRecords = false

  init(_ transaction: Transaction, sequence: Int64, now_ms: Int64, dimensions: [String]) throws {
    change = StoreChange(sequence: sequence)
    self.transaction = transaction
    self.now_ms = now_ms
    self.dimensions = dimensions
    tallies = try TallyChanges(transaction, now_ms: now_ms)
  }

  /// A record that could be read.
  private enum Content {
    case nothing
    case aBreak(BreakDocument)
    case removal(String)
    case action(Action)
    case deadLetter(DeadLetterHead)
    case cell(String, String?)
    case record(String)
  }

  mutating func take(_ records: [StoreRecord]) throws {
    var contents: [Content] = []
    contents.reserveCapacity(records.count)
    var (breaks, actions): (Set<String>, Set<String>) = ([], [])
    for record in records {
      next[record.place] = record.offset + 1
      let content = read(record)
      switch content {
      case .aBreak(let document): breaks.insert(document.id)
      case .removal(let id): breaks.insert(id)
      case .action(let action):
        breaks.insert(action.breakID)
        actions.insert(action.id)
      default: break
      }
      contents.append(content)
    }
    try transaction.prepare(breaks: breaks, actions: actions)
    for (record, content) in zip(records, contents) {
      let at_ms = record.timestamp_ms > 0 ? record.timestamp_ms : now_ms
      let text = { String(decoding: record.value ?? [], as: UTF8.self) }
      switch content {
      case .nothing: continue
      case .aBreak(let document): try take(document, text(), at_ms: at_ms)
      case .removal(let id): try remove(id: id)
      case .action(let action): try take(action, record, text(), at_ms: at_ms)
      case .deadLetter(let head): try take(head, record, text())
      case .cell(let key, let body): try takeCell(key, body, record, at_ms: at_ms)
      case .record(let order): try keep(record, of: order, at_ms: at_ms)
      }
    }
    try finish()
  }

  private mutating func read(_ record: StoreRecord) -> Content {
    do {
      let key = record.key.map { String(decoding: $0, as: UTF8.self) }
      guard let value = record.value else {
        switch record.kind {
        case .breaks: return key.map { .removal($0) } ?? .nothing
        case .cells: return key.map { .cell($0, nil) } ?? .nothing
        case .actions, .deadLetters, .records: return .nothing
        }
      }
      switch record.kind {
      case .breaks: return .aBreak(try decoder.decode(BreakDocument.self, from: Data(value)))
      case .actions: return .action(try decoder.decode(Action.self, from: Data(value)))
      case .deadLetters: return .deadLetter(try decoder.decode(DeadLetterHead.self, from: Data(value)))
      case .records: return key.map { .record($0) } ?? .nothing
      case .cells:
        guard let key else { return .nothing }
        _ = try decoder.decode(AnyObject.self, from: Data(value))
        return .cell(key, String(decoding: value, as: UTF8.self))
      }
    } catch {
      // A record of somebody else's: it must not stop the others.
      change.faultCount += 1
      if change.faults.count < StoreLimits.maximumFaults {
        change.faults.append(
          "topic \(record.place.topic), partition \(record.place.partition), offset \(record.offset): \(told(error))")
      }
      return .nothing
    }
  }

  private func told(_ error: any Error) -> String {
    switch error as? DecodingError {
    case .keyNotFound(let key, _)?: "'\(key.stringValue)' is missing"
    case .typeMismatch(_, let context)?, .valueNotFound(_, let context)?:
      "\(context.codingPath.map(\.stringValue).joined(separator: ".")): \(context.debugDescription)"
    case .dataCorrupted(let context)?: context.debugDescription
    default: "cannot be read"
    }
  }

  private func finish() throws {
    try tallies.write(transaction)
    for (place, offset) in next {
      try transaction.run(
        "INSERT INTO offsets VALUES (?, ?, ?) ON CONFLICT (topic, part) DO UPDATE SET next = excluded.next",
        [.text(place.topic), .integer(Int(place.partition)), .integer(offset)])
    }
    if hasRecords {
      try transaction.run(
        "DELETE FROM records WHERE at_ms < ?", [.integer(now_ms - StoreLimits.recordRetention_ms)])
    }
    if change.deadLetters > 0 {
      try transaction.run(
        "DELETE FROM dead WHERE n <= (SELECT max(n) FROM dead) - ?", [.integer(StoreLimits.maximumDeadLetters)])
    }
  }

  // MARK: - Breaks

  private mutating func take(_ document: BreakDocument, _ text: String, at_ms: Int64) throws {
    let known = try transaction.find(document.id)
    // The same revision again, or an older one: at least once, or a topic that is read a second time.
    if let known, known.revision >= document.revision { return }
    let workflow = try self.workflow(of: document.id)
    let state = workflow.state(reconciler: document.state, basis: document.basis)
    change.sequence += 1
    change.breaks += 1
    let number = try known?.number ?? transaction.nextNumber()
    let written = try write(document, state, workflow, at_ms: at_ms, number: number, before: known)
    try transaction.run(
      """
      INSERT INTO revisions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (n, revision) DO UPDATE SET
        state = excluded.state, provisional = excluded.provisional, severity = excluded.severity,
        expected = excluded.expected, posted = excluded.posted, delta = excluded.delta, reason = excluded.reason,
        as_of_ms = excluded.as_of_ms, at_ms = excluded.at_ms
      """,
      [
        .integer(number), .integer(document.revision), .text(document.state), .flag(document.isProvisional),
        .text(document.severity), .optional(document.expected), .optional(document.posted), .optional(document.delta),
        .text(document.reason), .optional(document.asOf.flatMap(parseTimestamp_ms)), .integer(at_ms),
      ])
    if known != nil {
      // The words of a break change where documents come to it.
      if transaction.filesWords {
        let before = try keys(document.id, number)
        if before != document.keys { try transaction.file(number, words: document.keys, before: before) }
      }
      try transaction.run("UPDATE bodies SET body = ? WHERE n = ?", [.text(text), .integer(number)])
    } else {
      if transaction.filesWords { try transaction.file(number, words: document.keys, before: nil) }
      try transaction.run("INSERT INTO bodies VALUES (?, ?)", [.integer(number), .text(text)])
    }
    transaction.wrote(document.id, (written, text))
  }

  private func keys(_ id: String, _ number: Int64) throws -> String {
    try decoder.decode(BreakDocument.self, from: Data(try transaction.body(id, number: number).utf8)).keys
  }

  private mutating func write(
    _ document: BreakDocument, _ state: String, _ workflow: Workflow, at_ms: Int64, number: Int64, before: KnownBreak?
  ) throws -> KnownBreak {
    let isOpen = BreakState(rawValue: state)?.isOpen ?? false
    let opened_ms = document.opened_ms ?? at_ms
    let known = KnownBreak(
      number: number, revision: document.revision,
      counted: isOpen
        ? CountedBreak(
          type: document.type, state: state, severity: document.severityRank, currency: document.currency,
          opened_ms: opened_ms, amount_u: document.amount_u,
          dimensions: dimensions.map { document.dimensions[$0] ?? "" }) : nil)
    tallies.move(from: before?.counted, to: known.counted)
    let names =
      [
        "id", "ord", "type", "role", "currency", "state", "reconciler", "is_open", "severity", "customer", "amount_u",
        "basis", "opened_ms", "revision", "seq", "assignee", "pending", "summary",
      ] + dimensions.indices.map { "d\($0)" } + ["n"]
    var values: [SQLValue] = [
      .text(document.id), .text(document.order), .text(document.type), .text(document.role), .text(document.currency),
      .text(state), .text(document.state), .flag(isOpen),
      .integer(document.severityRank), .text(document.customer), .integer(document.amount_u), .text(document.basis),
      .integer(opened_ms), .integer(document.revision), .integer(change.sequence),
      .optional(workflow.assignee), .flag(!workflow.pending.isEmpty),
      .text(document.summary(workflow, state: state, updated_ms: at_ms)),
    ]
    for name in dimensions { values.append(.text(document.dimensions[name] ?? "")) }
    values.append(.integer(number))
    if before == nil {
      let marks = Array(repeating: "?", count: names.count).joined(separator: ", ")
      try transaction.run("INSERT INTO breaks (\(names.joined(separator: ", "))) VALUES (\(marks))", values)
    } else {
      let set = names.dropLast().map { $0 + " = ?" }.joined(separator: ", ")
      try transaction.run("UPDATE breaks SET \(set) WHERE n = ?", values)
    }
    return known
  }

  private mutating func remove(id: String) throws {
    guard let known = try transaction.find(id) else { return }
    if transaction.filesWords { try transaction.file(known.number, words: nil, before: try keys(id, known.number)) }
    for table in ["breaks", "bodies", "revisions"] {
      try transaction.run("DELETE FROM \(table) WHERE n = ?", [.integer(known.number)])
    }
    tallies.move(from: known.counted, to: nil)
    transaction.wrote(id, nil)
    change.sequence += 1
    change.breaks += 1
  }

  // MARK: - Actions

  private func workflow(of id: String) throws -> Workflow {
    let bodies = try transaction.actions(of: id)
    if bodies.isEmpty { return Workflow() }
    return Workflow(try bodies.map { try decoder.decode(Action.self, from: Data($0.utf8)) })
  }

  private mutating func take(_ action: Action, _ record: StoreRecord, _ text: String, at_ms: Int64) throws {
    // The same request once more takes no effect.
    guard try transaction.keep(action, partition: record.place.partition, offset: record.offset, body: text) else {
      return
    }
    change.actions += 1
    guard let known = try transaction.find(action.breakID) else { return }
    let body = try transaction.body(action.breakID, number: known.number)
    let document = try decoder.decode(BreakDocument.self, from: Data(body.utf8))
    let workflow = try self.workflow(of: action.breakID)
    change.sequence += 1
    let written = try write(
      document, workflow.state(reconciler: document.state, basis: document.basis), workflow, at_ms: at_ms,
      number: known.number, before: known)
    transaction.wrote(action.breakID, (written, body))
  }

  // MARK: - The rest

  private mutating func keep(_ record: StoreRecord, of order: String, at_ms: Int64) throws {
    guard at_ms >= now_ms - StoreLimits.recordRetention_ms else { return }
    hasRecords = true
    try transaction.run(
      "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
      [
        .text(record.place.topic), .integer(Int(record.place.partition)), .integer(record.offset), .text(order),
        .integer(at_ms), .text(String(decoding: (record.value ?? []).prefix(SourceRecord.maximumBytes), as: UTF8.self)),
      ])
  }

  private struct DeadLetterHead: Decodable {
    var source: String
    var reason: String
  }

  private mutating func take(_ head: DeadLetterHead, _ record: StoreRecord, _ text: String) throws {
    try transaction.run(
      """
      INSERT INTO dead (topic, part, offs, source, reason, body) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
      """,
      [
        .text(record.place.topic), .integer(Int(record.place.partition)), .integer(record.offset), .text(head.source),
        .text(head.reason), .text(text),
      ])
    change.deadLetters += 1
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

  private mutating func takeCell(_ cell: String, _ body: String?, _ record: StoreRecord, at_ms: Int64) throws {
    let topic = SQLValue.text(record.place.topic)
    guard let body else {
      try transaction.run("DELETE FROM cells WHERE topic = ? AND cell = ?", [topic, .text(cell)])
      return
    }
    try transaction.run(
      """
      INSERT INTO cells VALUES (?, ?, ?, ?)
      ON CONFLICT (topic, cell) DO UPDATE SET at_ms = excluded.at_ms, body = excluded.body
      """, [topic, .text(cell), .integer(at_ms), .text(body)])
    let minute = at_ms - at_ms % StoreLimits.pointInterval_ms
    try transaction.run(
      "INSERT INTO points VALUES (?, ?, ?, ?) ON CONFLICT (topic, cell, at_ms) DO UPDATE SET body = excluded.body",
      [topic, .text(cell), .integer(minute), .text(body)])
    try transaction.run(
      "DELETE FROM points WHERE topic = ? AND cell = ? AND at_ms < ?",
      [topic, .text(cell), .integer(at_ms - StoreLimits.pointRetention_ms)])
    change.cells += 1
  }
}
