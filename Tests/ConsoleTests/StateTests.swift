import ConsoleStore
import Foundation
import StoreTesting
import Testing

@testable import Console

/// What servers know that no topic does, in a file and in a database that several share.
@Suite struct StateTests {
  /// Two servers: of one file (one after the other would open it), or of one database.
  private static func pair(_ isShared: Bool) throws -> (StateStore, StateStore)? {
    guard isShared else {
      let path = FileManager.default.temporaryDirectory.appendingPathComponent("state-\(UUID().uuidString).db").path
      return (try StateStore(path: path), try StateStore(path: path))
    }
    guard let cluster = PostgresCluster.shared else { return nil }
    let settings = try cluster.settings(schema: cluster.unique())
    return (try StateStore(settings), try StateStore(settings))
  }

  @Test(arguments: [false, true]) func aRepeatedRequestGetsTheSameAnswerAtAnotherServer(isShared: Bool) async throws {
    guard let (one, other) = try Self.pair(isShared) else { return }
    #expect(try await one.begin("k", now_ms: 1_000) == .new)
    #expect(try await other.begin("k", now_ms: 1_001) == .running)
    #expect(try await other.begin("other", now_ms: 1_001) == .new)
    try await one.finish("k", digest: "d", body: "{}")
    #expect(try await other.begin("k", now_ms: 1_002) == .done(digest: "d", body: "{}"))
    #expect(try await one.begin("k", now_ms: 1_002) == .done(digest: "d", body: "{}"))
    // What failed may be tried again, anywhere.
    try await other.forget("other")
    #expect(try await one.begin("other", now_ms: 1_003) == .new)
    // After a day it is forgotten.
    #expect(try await one.begin("k", now_ms: 1_001 + StateStore.answerRetention_ms) == .new)
  }

  @Test(arguments: [false, true]) func whatAServerLeftUnfinishedIsFreeAfterItsLease(isShared: Bool) async throws {
    guard let (gone, other) = try Self.pair(isShared) else { return }
    let lease = StateStore.answerLease_ms
    #expect(try await gone.begin("k", now_ms: 0) == .new)
    try await gone.renew("k", now_ms: 10_000)
    #expect(try await other.begin("k", now_ms: lease + 1) == .running, "it has been renewed")
    #expect(try await other.begin("k", now_ms: 10_000 + lease + 1) == .new)
    // The first one was only slow: it has nothing to say any more.
    try await gone.finish("k", digest: "late", body: "late")
    try await gone.forget("k")
    #expect(try await gone.begin("k", now_ms: 10_000 + lease + 2) == .running)
    try await other.finish("k", digest: "d", body: "{}")
    #expect(try await gone.begin("k", now_ms: 10_000 + lease + 3) == .done(digest: "d", body: "{}"))
  }

  @Test(arguments: [false, true]) func aChangeIsPutOnItsWayOnce(isShared: Bool) async throws {
    guard let (one, other) = try Self.pair(isShared) else { return }
    func change(_ number: Int) -> StateStore.Change { .init(breakID: "b\(number)", revision: 1, body: "{}") }
    let start = StateStore.Cursor(generation: "g", sequence: 0)
    #expect(try await one.enqueue("desk", [], from: nil, to: start, now_ms: 0))
    #expect(try await !other.enqueue("desk", [], from: nil, to: start, now_ms: 0))
    let servers = [one, other]
    // Both have seen the same changes at the same time, again and again.
    let put = try await withThrowingTaskGroup(of: Int.self) { group in
      for server in servers {
        group.addTask {
          var count = 0
          for number in 0..<50 {
            let from = StateStore.Cursor(generation: "g", sequence: Int64(number))
            let to = StateStore.Cursor(generation: "g", sequence: Int64(number + 1))
            if try await server.enqueue("desk", [change(number)], from: from, to: to, now_ms: 0) { count += 1 }
            while try await server.cursor("desk")!.sequence <= number { await Task.yield() }
          }
          return count
        }
      }
      return try await group.reduce(0, +)
    }
    #expect(put == 50)
    #expect(try await one.waiting("desk") == 50)
    // Each is taken by one of them.
    let taken = try await withThrowingTaskGroup(of: [Int64].self) { group in
      for server in servers {
        group.addTask {
          var mine: [Int64] = []
          while true {
            let claimed = try await server.claim("desk", now_ms: 10)
            if claimed.isEmpty { return mine }
            #expect(claimed.count <= StateStore.claim)
            mine += claimed.map(\.id)
            // The same again and again is no end.
            if mine.count > 1_000 { return mine }
          }
        }
      }
      return try await group.reduce(into: []) { $0 += $1 }
    }
    #expect(taken.count == 50)
    #expect(Set(taken).count == 50)
    // Whoever took them is gone: they are due again when the lease has ended.
    #expect(try await other.claim("desk", now_ms: StateStore.claimLease_ms).isEmpty)
    let again = try await other.claim("desk", now_ms: 10 + StateStore.claimLease_ms)
    #expect(again.count == StateStore.claim)
    // Given back, they are due at once.
    try await other.release(again, now_ms: 20)
    #expect(try await one.claim("desk", now_ms: 20).map(\.id) == again.map(\.id))
  }

  @Test func aFileOfAnEarlierVersionIsTakenOver() async throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("state-\(UUID().uuidString).db").path
    let earlier = try SQLiteState(
      path: path,
      statements: """
        CREATE TABLE answers (key TEXT PRIMARY KEY, at_ms INTEGER NOT NULL, digest TEXT, body TEXT) WITHOUT ROWID;
        INSERT INTO answers VALUES ('k', 1000, 'd', '{}'), ('running', 1000, NULL, NULL);
        """)
    try await earlier.transaction { try $0.run("SELECT 1") }
    let state = try StateStore(path: path)
    #expect(try await state.begin("k", now_ms: 1_001) == .done(digest: "d", body: "{}"))
    #expect(try await state.begin("running", now_ms: 1_001) == .new)
  }
}
