import CPostgres
import Foundation
import Synchronization

/// Where a shared store lies.
public struct PostgresSettings: Sendable, CustomStringConvertible {
  /// `postgresql://user@host/database?sslmode=verify-full`, or `key=value` pairs, as libpq takes them.
  private let url: String
  private let password: String?
  /// The schema of the store's tables; one for each reconciliation.
  public let schema: String
  /// `host:port/database`, without user and password.
  public let description: String
  /// Whether the way to the server is this machine's own, or one whose certificate and name are checked.
  public let isSafe: Bool

  /// - Throws: `StoreError` where libpq does not understand the address. The address is not told: it may hold a password.
  public init(url: String, password: String?, schema: String) throws {
    var message: UnsafeMutablePointer<CChar>?
    guard let options = PQconninfoParse(url, &message) else {
      PQfreemem(message)
      throw StoreError(
        description: "serve.store.url is no address of a PostgreSQL database, postgresql://user@host/name")
    }
    defer { PQconninfoFree(options) }
    var values: [String: String] = [:]
    var at = options
    while let keyword = at.pointee.keyword {
      if let value = at.pointee.val { values[String(cString: keyword)] = String(cString: value) }
      at += 1
    }
    let host = values["host"] ?? values["hostaddr"] ?? "localhost"
    description = "\(host):\(values["port"] ?? "5432")/\(values["dbname"] ?? "")"
    let isLocal = host.hasPrefix("/") || ["localhost", "127.0.0.1", "::1"].contains(host)
    isSafe = isLocal || values["sslmode"] == "verify-full"
    self.url = url
    self.password = password
    self.schema = schema
  }

  /// A new connection, in the store's schema.
  func connect() throws -> PostgresConnection {
    // What stands before the address it may set otherwise, what stands behind is meant.
    var parameters = [
      ("application_name", "tieout-serve"), ("connect_timeout", "5"), ("keepalives_idle", "30"),
      ("tcp_user_timeout", "15000"), ("dbname", url), ("client_encoding", "UTF8"),
    ]
    if let password { parameters.append(("password", password)) }
    let keys = parameters.map { strdup($0.0) } + [nil]
    let values = parameters.map { strdup($0.1) } + [nil]
    defer { for text in keys + values { free(text) } }
    guard
      let handle = keys.map({ UnsafePointer($0) }).withUnsafeBufferPointer({ keys in
        values.map({ UnsafePointer($0) }).withUnsafeBufferPointer { values in
          PQconnectdbParams(keys.baseAddress, values.baseAddress, 1)
        }
      })
    else { throw StoreUnavailable(description: "no memory for a connection to \(description)") }
    guard PQstatus(handle) == CONNECTION_OK else {
      let why = String(cString: PQerrorMessage(handle)).trimmingCharacters(in: .whitespacesAndNewlines)
      PQfinish(handle)
      throw StoreUnavailable(description: "PostgreSQL at \(description) cannot be reached: \(why)")
    }
    let connection = PostgresConnection(handle, place: description)
    try connection.run("SET search_path TO \(connection.quoted(schema))")
    return connection
  }
}

/// What PostgreSQL says where it does not do as asked.
struct PostgresError: Error, CustomStringConvertible {
  /// SQLSTATE, `57014`.
  var code: String
  var message: String
  var place: String
  var description: String { "PostgreSQL at \(place): \(message)" + (code.isEmpty ? "" : " (\(code))") }

  /// The values are at fault, not the statement: a text that no index takes, a number that is too large.
  var isOfData: Bool { ["22", "54"].contains(String(code.prefix(2))) }

  /// The statement was interrupted.
  var isCancelled: Bool { code == "57014" }
}

/// A row of an answer of PostgreSQL.
struct PostgresRow: SQLRow {
  fileprivate let result: OpaquePointer
  fileprivate let row: Int32

  func optionalText(_ column: Int) -> String? {
    let column = Int32(column)
    guard PQgetisnull(result, row, column) == 0, let value = PQgetvalue(result, row, column) else { return nil }
    let count = Int(PQgetlength(result, row, column))
    return String(decoding: UnsafeRawBufferPointer(start: value, count: count), as: UTF8.self)
  }

  func optionalInteger(_ column: Int) -> Int64? {
    let column = Int32(column)
    guard PQgetisnull(result, row, column) == 0, let value = PQgetvalue(result, row, column) else { return nil }
    return Int64(strtoll(value, nil, 10))
  }

  func append(_ column: Int, to bytes: inout [UInt8]) {
    guard let value = PQgetvalue(result, row, Int32(column)) else { return }
    bytes.append(
      contentsOf: UnsafeRawBufferPointer(start: value, count: Int(PQgetlength(result, row, Int32(column)))))
  }

  func text(_ column: Int) -> String { optionalText(column) ?? "" }
  func integer(_ column: Int) -> Int64 { optionalInteger(column) ?? 0 }
}

/// A connection of libpq. All functions but `interrupt` belong to one thread at a time.
final class PostgresConnection: SQLReader, @unchecked Sendable {
  private let handle: OpaquePointer
  private let place: String
  /// Names of prepared statements by their text. Only `send` prepares: its texts are few.
  private var prepared: [String: String] = [:]
  /// Answers that are still to come of what was sent.
  private var awaited = 0
  /// As many are sent before their answers are taken in: those must fit into what the system keeps of a connection, so
  /// that the server never waits for this side while this side waits for it.
  private static let pipelineDepth = 1_024

  fileprivate init(_ handle: OpaquePointer, place: String) {
    self.handle = handle
    self.place = place
    // Notices are for a person at a terminal.
    PQsetNoticeProcessor(handle, { _, _ in }, nil)
  }

  deinit { PQfinish(handle) }

  var isUsable: Bool { PQstatus(handle) == CONNECTION_OK }

  func quoted(_ name: String) -> String {
    guard let text = PQescapeIdentifier(handle, name, name.utf8.count) else { return "\"\"" }
    defer { PQfreemem(text) }
    return String(cString: text)
  }

  /// Asks the server to end the statement that runs. From any thread; nothing happens where none runs.
  func interrupt() {
    guard let cancel = PQgetCancel(handle) else { return }
    defer { PQfreeCancel(cancel) }
    var space = [CChar](repeating: 0, count: 256)
    PQcancel(cancel, &space, Int32(space.count))
  }

  // MARK: - Statements

  /// `?` as PostgreSQL has it; no statement here has one inside a text.
  static func numbered(_ sql: String) -> String {
    var text = ""
    var number = 0
    for character in sql {
      if character == "?" {
        number += 1
        text += "$\(number)"
      } else {
        text.append(character)
      }
    }
    return text
  }

  private func failure(_ result: OpaquePointer?) -> any Error {
    let code = result.flatMap { PQresultErrorField($0, Int32(UInt8(ascii: "C"))) }.map { String(cString: $0) } ?? ""
    let said = result.flatMap { PQresultErrorField($0, Int32(UInt8(ascii: "M"))) }.map { String(cString: $0) }
    let message = said ?? String(cString: PQerrorMessage(handle)).trimmingCharacters(in: .whitespacesAndNewlines)
    let error = PostgresError(code: code, message: message, place: place)
    // Gone, shutting down, starting up, out of connections: none of it is about the statement.
    let isAway = !isUsable || code.hasPrefix("08") || code.hasPrefix("57P") || code.hasPrefix("53")
    return isAway ? StoreUnavailable(description: error.description) : error
  }

  private func check(_ result: OpaquePointer?) throws {
    guard let result, [PGRES_COMMAND_OK, PGRES_TUPLES_OK, PGRES_EMPTY_QUERY].contains(PQresultStatus(result)) else {
      throw failure(result)
    }
  }

  /// Several statements without values.
  func run(_ sql: String) throws {
    let result = PQexec(handle, sql)
    defer { PQclear(result) }
    try check(result)
  }

  /// One statement, planned for its values.
  func rows<T>(_ sql: String, _ values: [SQLValue], _ map: (PostgresRow) throws -> T) throws -> [T] {
    let text = PostgresConnection.numbered(sql)
    let result = withParameters(values) { PQexecParams(handle, text, Int32(values.count), nil, $0, nil, nil, 0) }
    defer { PQclear(result) }
    try check(result)
    return try (0..<PQntuples(result!)).map { try map(PostgresRow(result: result!, row: $0)) }
  }

  /// A text as PostgreSQL keeps it, which has no zero inside one: U+FFFD takes its place.
  static func stored(_ text: String) -> String {
    text.utf8.contains(0) ? text.replacing("\0", with: "\u{fffd}") : text
  }

  /// The values as texts that end with a zero.
  private func withParameters<T>(
    _ values: [SQLValue], _ body: (UnsafePointer<UnsafePointer<CChar>?>?) -> T
  ) -> T {
    var bytes: [CChar] = []
    var starts: [Int?] = []
    for value in values {
      switch value {
      case .null:
        starts.append(nil)
        continue
      case .integer(let number):
        starts.append(bytes.count)
        for byte in String(number).utf8 { bytes.append(CChar(bitPattern: byte)) }
      case .text(let text):
        starts.append(bytes.count)
        var text = PostgresConnection.stored(text)
        text.withUTF8 { utf8 in utf8.withMemoryRebound(to: CChar.self) { bytes.append(contentsOf: $0) } }
      }
      bytes.append(0)
    }
    return bytes.withUnsafeBufferPointer { bytes in
      starts.map { start in start.map { bytes.baseAddress! + $0 } }.withUnsafeBufferPointer { body($0.baseAddress) }
    }
  }

  // MARK: - Pipelining

  /// Sends a statement without waiting for its answer; a failure shows with a later one, or with `finish`.
  func send(_ sql: String, _ values: [SQLValue]) throws {
    if PQpipelineStatus(handle) == PQ_PIPELINE_OFF { PQenterPipelineMode(handle) }
    let name: String
    if let known = prepared[sql] {
      name = known
    } else {
      name = "s\(prepared.count)"
      guard PQsendPrepare(handle, name, PostgresConnection.numbered(sql), 0, nil) == 1 else { throw failure(nil) }
      prepared[sql] = name
      awaited += 1
    }
    let isSent = withParameters(values) {
      PQsendQueryPrepared(handle, name, Int32(values.count), $0, nil, nil, 0) == 1
    }
    guard isSent else { throw failure(nil) }
    awaited += 1
    if awaited >= PostgresConnection.pipelineDepth { try drain() }
  }

  /// Takes in every answer of what was sent.
  private func drain() throws {
    guard PQpipelineSync(handle) == 1 else { throw failure(nil) }
    var first: (any Error)?
    awaited = 0
    while true {
      guard let result = PQgetResult(handle) else {
        // The end of one statement's answer.
        guard isUsable else { throw failure(nil) }
        continue
      }
      defer { PQclear(result) }
      switch PQresultStatus(result) {
      case PGRES_PIPELINE_SYNC:
        if let first { throw first }
        return
      case PGRES_COMMAND_OK, PGRES_TUPLES_OK, PGRES_PIPELINE_ABORTED: continue
      default: first = first ?? failure(result)
      }
    }
  }

  /// Waits until everything that was sent has been done.
  func finish() throws {
    guard PQpipelineStatus(handle) != PQ_PIPELINE_OFF else { return }
    try drain()
    guard PQexitPipelineMode(handle) == 1 else { throw failure(nil) }
  }

  /// Everything of `body` together or not at all.
  func transaction<T>(_ kind: String = "", _ body: () throws -> T) throws -> T {
    try run("BEGIN \(kind)")
    do {
      let value = try body()
      try finish()
      try run("COMMIT")
      return value
    } catch {
      // The error that counts is the first one. Where this fails too, the connection is given up.
      if isUsable, (try? finish()) == nil { try? finish() }
      try? run("ROLLBACK; DEALLOCATE ALL")
      // Some may have been told after what failed, and never been made.
      prepared = [:]
      throw error
    }
  }
}
