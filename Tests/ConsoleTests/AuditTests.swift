import Foundation
import Testing

@testable import Console

@Suite struct AuditTests {
  private func made(_ count: Int = 5) throws -> String {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("audit-\(UUID().uuidString).log").path
    let log = try AuditLog(path: path)
    for number in 0..<count {
      try log.write(AuditLog.Entry(actor: "ann", event: "e\(number)", outcome: .done), now_ms: 1_750_000_000_000)
    }
    return path
  }

  private func change(_ path: String, _ body: (inout [String]) -> Void) throws {
    var lines = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").map(String.init)
    body(&lines)
    try (lines.joined(separator: "\n") + "\n").write(toFile: path, atomically: true, encoding: .utf8)
  }

  @Test func aWholeChainIsSound() throws {
    let path = try made()
    defer { try? FileManager.default.removeItem(atPath: path) }
    let report = try AuditLog.verify(path: path)
    #expect(report.problem == nil && report.head.number == 5)
    let log = try AuditLog(path: path)
    #expect(log.head == report.head, "it goes on where it ended")
    #expect(try log.tail(2).map { $0.contains("\"e4\"") } == [true, false])
    #expect(throws: AuditError.self, "one process writes it") { try AuditLog(path: path) }
  }

  @Test func everyChangeIsSeen() throws {
    let changes: [(String, (inout [String]) -> Void)] = [
      ("a word", { $0[2] = $0[2].replacing("ann", with: "bob") }), ("a line out", { $0.remove(at: 2) }),
      ("a line in", { $0.insert($0[1], at: 2) }), ("two lines turned", { $0.swapAt(1, 2) }),
      ("the first line out", { $0.removeFirst() }), ("no hash", { $0[3] = String($0[3].dropFirst(65)) }),
      (
        "a line with a hash that fits",
        {
          let body = String($0[2].dropFirst(65)).replacing("ann", with: "bob")
          $0[2] = hexadecimal(Sessions.hash(body)) + " " + body
        }
      ),
    ]
    for (name, edit) in changes {
      let path = try made()
      defer { try? FileManager.default.removeItem(atPath: path) }
      try change(path, edit)
      #expect(try AuditLog.verify(path: path).problem != nil, "\(name)")
      #expect(throws: AuditError.self, "\(name)") { try AuditLog(path: path) }
    }
  }

  @Test func aShortenedLogIsSeenByWhoKnowsItsHead() throws {
    let path = try made()
    defer { try? FileManager.default.removeItem(atPath: path) }
    let head = try AuditLog.verify(path: path).head
    try change(path) { $0.removeLast() }
    #expect(try AuditLog.verify(path: path).problem == nil, "the chain itself is whole")
    #expect(try AuditLog.verify(path: path, expected: head.text).problem?.contains("cut off") == true)
  }

  @Test func aLineThatACrashCutOffIsSetAside() throws {
    let path = try made()
    let folder = URL(fileURLWithPath: path).deletingLastPathComponent()
    let name = URL(fileURLWithPath: path).lastPathComponent
    defer {
      for file in (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? [] where file.hasPrefix(name) {
        try? FileManager.default.removeItem(atPath: folder.appendingPathComponent(file).path)
      }
    }
    let text = try String(contentsOfFile: path, encoding: .utf8)
    try String(text.dropLast(20)).write(toFile: path, atomically: true, encoding: .utf8)
    #expect(try AuditLog.verify(path: path).isCutOff)
    let log = try AuditLog(path: path)
    #expect(log.head.number == 4)
    try log.write(AuditLog.Entry(actor: "ann", event: "after", outcome: .done))
    #expect(try AuditLog.verify(path: path).problem == nil)
    let kept = try FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0.hasPrefix(name + ".cut-") }
    #expect(kept.count == 1)
  }

  @Test func aFloodOfRefusalsIsCounted() throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("audit-\(UUID().uuidString).log").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    let log = try AuditLog(path: path)
    for _ in 0..<1_000 { try log.write(AuditLog.Entry(actor: "", event: "x", outcome: .refused), now_ms: 5_000) }
    try log.write(AuditLog.Entry(actor: "", event: "x", outcome: .refused), now_ms: 6_000)
    let lines = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n")
    #expect(lines.count == AuditLog.maximumRefusals_s + 2)
    #expect(lines[AuditLog.maximumRefusals_s].contains(#""count":900"#))
    #expect(try AuditLog.verify(path: path).problem == nil)
  }
}

@Suite struct LimiterTests {
  @Test func aBucketFillsAtItsRate() {
    let limiter = RateLimiter(rate: 10, burst: 3)
    #expect((0..<5).map { _ in limiter.take("a", now_ms: 0) } == [nil, nil, nil, 1, 1])
    #expect(limiter.take("b", now_ms: 0) == nil)
    #expect(limiter.take("a", now_ms: 99) != nil)
    #expect(limiter.take("a", now_ms: 100) == nil)
    #expect(limiter.take("a", now_ms: 101) != nil)
    #expect((0..<5).map { _ in limiter.take("a", now_ms: 100_000) } == [nil, nil, nil, 1, 1])
    #expect(limiter.take("a", now_ms: 50_000) != nil, "a clock that goes back gives nothing")
  }
}
