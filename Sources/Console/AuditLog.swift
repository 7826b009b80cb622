import ConsoleStore
import Crypto
import Domain
import Foundation
import Pipeline
import Synchronization

/// What was done or refused, by whom, line by line; each line carries the hash of the one before it, so that none can be
/// changed, taken out or put in without every later one giving it away.
///
/// A line is `<SHA-256 of what follows, in hexadecimal> <JSON object>`; the object's `prev` is the hash of the line
/// before, 64 zeros in the first one.
public final class AuditLog: Sendable {
  public static let firstHash = String(repeating: "0", count: 64)
  /// Entries of refused attempts written a second; more are counted, and told in one entry.
  static let maximumRefusals_s = 100

  public struct Head: Sendable, Equatable {
    public var number: Int
    public var hash: String
    public var text: String { "\(number):\(hash)" }
  }

  struct Entry: Sendable {
    enum Outcome: String, Sendable { case done, refused, failed }
    var actor: String
    var event: String
    var outcome: Outcome
    var address = ""
    var detail: [(String, JSON)] = []
  }

  private struct State {
    var number = 0
    var hash = AuditLog.firstHash
    var second_s: Int64 = 0
    var refusals = 0
    var suppressed = 0
  }

  private let file: Int32
  private let state: Mutex<State>
  public let path: String

  /// Opens the log, checks all of it, and goes on from its last line. A last line that was cut off by a crash is kept
  /// as evidence in a file beside the log.
  public init(path: String) throws {
    self.path = path
    var state = State()
    if FileManager.default.fileExists(atPath: path) {
      let report = try AuditLog.verify(path: path)
      if let problem = report.problem, !report.isCutOff { throw AuditError(description: "\(path): \(problem)") }
      if report.isCutOff {
        let rest = try AuditLog.cut(path, at: report.goodBytes)
        try rest.write(to: URL(fileURLWithPath: path + ".cut-\(wallClock_ms())"))
      }
      state.number = report.head.number
      state.hash = report.head.hash
    }
    file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0o600)
    guard file >= 0 else {
      throw AuditError(description: "\(path): cannot be written: \(String(cString: strerror(errno)))")
    }
    guard flock(file, LOCK_EX | LOCK_NB) == 0 else {
      close(file)
      throw AuditError(description: "\(path): another process writes it")
    }
    self.state = Mutex(state)
  }

  deinit { close(file) }

  public var head: Head { state.withLock { Head(number: $0.number, hash: $0.hash) } }

  /// Writes an entry; what was done is on the disk when this returns.
  @discardableResult
  func write(_ entry: Entry, now_ms: Int64 = wallClock_ms()) throws -> Head {
    try state.withLock { state in
      if entry.outcome == .refused {
        let second = now_ms / 1_000
        if state.second_s != second {
          state.second_s = second
          state.refusals = 0
        }
        state.refusals += 1
        guard state.refusals <= AuditLog.maximumRefusals_s else {
          state.suppressed += 1
          return Head(number: state.number, hash: state.hash)
        }
      }
      if state.suppressed > 0 {
        let count = state.suppressed
        state.suppressed = 0
        try append(
          Entry(
            actor: "", event: "refusals not written one by one", outcome: .refused, detail: [("count", .int(count))]),
          now_ms, &state)
      }
      try append(entry, now_ms, &state)
      if entry.outcome != .refused, fdatasync(file) != 0 {
        throw AuditError(description: "\(path): cannot be synced: \(String(cString: strerror(errno)))")
      }
      return Head(number: state.number, hash: state.hash)
    }
  }

  private func append(_ entry: Entry, _ now_ms: Int64, _ state: inout State) throws {
    let object: JSON = .object(
      [
        ("n", .int(state.number + 1)), ("prev", .string(state.hash)), ("at", .string(formatTimestamp(now_ms))),
        ("actor", .string(entry.actor)), ("event", .string(entry.event)), ("outcome", .string(entry.outcome.rawValue)),
      ] + (entry.address.isEmpty ? [] : [("address", .string(entry.address))]) + entry.detail)
    let bytes = object.bytes
    let hash = hexadecimal(SHA256.hash(data: bytes))
    let line = Array(hash.utf8) + [0x20] + bytes + [0x0a]
    let written = line.withUnsafeBytes { Foundation.write(file, $0.baseAddress, $0.count) }
    guard written == line.count else {
      // Half a line would break the chain for the next one.
      if written > 0 { _ = ftruncate(file, lseek(file, 0, SEEK_END) - off_t(written)) }
      throw AuditError(description: "\(path): cannot be written: \(String(cString: strerror(errno)))")
    }
    state.number += 1
    state.hash = hash
  }

  // MARK: - Checking

  public struct Report: Sendable {
    public var head = Head(number: 0, hash: AuditLog.firstHash)
    /// What is wrong, with the line.
    public var problem: String?
    /// Only the last line is wrong, and it has no end: the process was killed while it wrote.
    public var isCutOff = false
    public var goodBytes: UInt64 = 0
  }

  private struct Line: Decodable {
    var n: Int
    var prev: String
  }

  /// Checks the whole chain.
  /// - Parameter expected: `number:hash` of a head that was seen before, in an action for instance: it must be there.
  public static func verify(path: String, expected: String? = nil) throws -> Report {
    guard let handle = FileHandle(forReadingAtPath: path) else {
      throw AuditError(description: "\(path): cannot be read")
    }
    defer { try? handle.close() }
    var report = Report()
    var rest = Data()
    var hasExpected = expected == nil || expected == Head(number: 0, hash: firstHash).text
    let decoder = JSONDecoder()
    while true {
      let chunk = try handle.read(upToCount: 1 << 20) ?? Data()
      if chunk.isEmpty { break }
      rest.append(chunk)
      var start = rest.startIndex
      while let end = rest[start...].firstIndex(of: 0x0a) {
        let line = rest[start..<end]
        let number = report.head.number + 1
        guard line.count > 65, line[line.startIndex + 64] == 0x20 else {
          report.problem = "line \(number) is no entry"
          return report
        }
        let hash = String(decoding: line.prefix(64), as: UTF8.self)
        let body = line.dropFirst(65)
        guard hexadecimal(SHA256.hash(data: body)) == hash else {
          report.problem = "line \(number) has been changed: its hash is another"
          return report
        }
        guard let head = try? decoder.decode(Line.self, from: Data(body)) else {
          report.problem = "line \(number) is no entry"
          return report
        }
        guard head.prev == report.head.hash, head.n == number else {
          report.problem = "line \(number) does not follow the one before it: lines have been taken out or put in"
          return report
        }
        report.head = Head(number: number, hash: hash)
        if report.head.text == expected { hasExpected = true }
        report.goodBytes += UInt64(line.count + 1)
        start = rest.index(after: end)
      }
      rest = Data(rest[start...])
    }
    if !rest.isEmpty {
      report.problem = "the last line has no end"
      report.isCutOff = true
    } else if !hasExpected {
      report.problem = "the entry \(expected ?? "") is not there: the log has been cut off or replaced"
    }
    return report
  }

  private static func cut(_ path: String, at bytes: UInt64) throws -> Data {
    guard let handle = FileHandle(forUpdatingAtPath: path) else {
      throw AuditError(description: "\(path): cannot be written")
    }
    defer { try? handle.close() }
    try handle.seek(toOffset: bytes)
    let rest = try handle.readToEnd() ?? Data()
    try handle.truncate(atOffset: bytes)
    return rest
  }

  /// The newest entries, newest first.
  func tail(_ count: Int) throws -> [String] {
    guard let handle = FileHandle(forReadingAtPath: path) else { return [] }
    defer { try? handle.close() }
    let end = try handle.seekToEnd()
    // Entries are a few hundred bytes; a page of them is read from the end.
    let start = end > UInt64(count) * 4_096 ? end - UInt64(count) * 4_096 : 0
    try handle.seek(toOffset: start)
    var lines = String(decoding: try handle.readToEnd() ?? Data(), as: UTF8.self).split(separator: "\n")
    if start > 0 { lines = Array(lines.dropFirst()) }
    return lines.suffix(count).reversed().map { String($0.dropFirst(65)) }
  }
}

public struct AuditError: Error, CustomStringConvertible { public var description: String }

func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
  let digits = Array("0123456789abcdef".utf8)
  return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
}
