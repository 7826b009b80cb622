import Foundation
import Kafka
import KafkaTesting
import Synchronization
import StoreTesting
import Testing

@testable import ConsoleStore

/// What threads have done together.
private final class Tally: @unchecked Sendable {
  private let condition = NSCondition()
  private(set) var applied = 0
  private(set) var known = 0
  private(set) var failures: [String] = []
  private var ended = 0

  func add(applied: Int, known: Int) {
    condition.withLock {
      self.applied += applied
      self.known += known
    }
  }

  func run(_ body: () throws -> Void) {
    let failure: String? = {
      do {
        try body()
        return nil
      } catch { return "\(error)" }
    }()
    condition.withLock {
      failures += failure.map { [$0] } ?? []
      ended += 1
      condition.broadcast()
    }
  }

  func wait(for count: Int) {
    condition.withLock { while ended < count { condition.wait() } }
  }
}

private final class Counter: Sendable {
  private let state = Mutex(0)
  var value: Int { state.withLock { $0 } }
  func count() { state.withLock { $0 += 1 } }
}

/// What only a store that several processes share has to do.
@Suite(.serialized, .enabled(if: PostgresCluster.shared != nil)) struct PostgresTests {
  private let cluster = PostgresCluster.shared!

  private func open(_ schema: String) throws -> PostgresStore {
    try PostgresStore(cluster.settings(schema: schema), dimensions: ["country", "channel"])
  }

  /// Ends the server's side of every connection of a name.
  private func endConnections(_ name: String) throws {
    let connection = try cluster.settings(schema: "public").connect()
    let ended = try connection.rows(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = ?", [.text(name)]
    ) { _ in }
    #expect(ended.count == 2, "a writer and a reader")
  }

  private func rows(_ store: any ConsoleStore) async throws -> [String] {
    try await store.breaks(BreakFilter(), scope: RowScope(), sort: .updatedUp, after: nil, limit: 5_000).rows.map {
      "\(field($0, "id")!) \(field($0, "revision")!) \(field($0, "state")!) \(field($0, "comments")!)"
    }
  }

  /// A stream of revisions and actions of few breaks.
  private func stream(_ count: Int, seed: UInt64) throws -> [StoreRecord] {
    var random = Seeded(state: seed)
    var revisions: [String: Int] = [:]
    return try (0..<count).map { number in
      var made = TestBreak()
      made.order = "SO-\(Int.random(in: 0..<20, using: &random))"
      if Int.random(in: 0..<4, using: &random) == 0 {
        var comment = action("a\(number)", .comment, on: made)
        comment.comment = "c"
        return try record(comment, Int64(number))
      }
      revisions[made.id, default: 0] += 1
      made.revision = revisions[made.id]!
      made.journals = ["JE-\(number)"]
      return made.record(Int64(number))
    }
  }

  /// Two processes read the same topics and bring their batches as it happens: each record takes effect once.
  @Test(arguments: 1...3) func twoProcessesBringTheSameRecords(seed: UInt64) async throws {
    let records = try stream(600, seed: seed)
    let alone = try TemporaryStore(.sqlite)
    _ = try alone.store.apply(records, now_ms: 1)
    let schema = cluster.unique()
    let stores = [try open(schema), try open(schema)]
    // Threads of their own, so that both are at it at the same time.
    let taken = Tally()
    for (number, store) in stores.enumerated() {
      Thread.detachNewThread {
        var random = Seeded(state: seed * 2 + UInt64(number))
        var at = 0
        taken.run {
          while at < records.count {
            let end = min(records.count, at + Int.random(in: 1...12, using: &random))
            let change = try store.apply(Array(records[at..<end]), now_ms: 1)
            taken.add(applied: end - at - change.known, known: change.known)
            at = end
          }
        }
      }
    }
    taken.wait(for: stores.count)
    #expect(taken.failures == [])
    #expect(taken.applied == records.count, "each is brought by one of them")
    #expect(taken.known == records.count)
    let wanted = try await rows(alone.store)
    for store in stores { #expect(try await rows(store) == wanted) }
    #expect(try await stores[0].sequence() == alone.store.sequence(), "the changes have the same numbers")
    #expect(try stores[1].positions() == alone.store.positions())
  }

  @Test func oneProcessMakesItAnewAndTheOthersFollow() async throws {
    let schema = cluster.unique()
    let (first, second) = (try open(schema), try open(schema))
    _ = try first.apply([TestBreak().record(7)], now_ms: 1)
    try second.refresh()
    try second.clear()
    #expect(try first.positions().isEmpty)
    // What comes now would stand behind a gap.
    #expect(throws: StoreMadeAnew.self) { try first.apply([TestBreak().record(8)], now_ms: 1) }
    #expect(try first.positions().isEmpty, "nothing of it was kept")
    #expect(first.generation == second.generation)
    _ = try first.apply([TestBreak().record(0)], now_ms: 1)
    try first.clear()
    #expect(throws: StoreMadeAnew.self, "whoever has nothing to bring sees it too") { try second.refresh() }
    try second.refresh()
  }

  @Test func connectionsThatTheServerEndsAreMadeAnew() async throws {
    let name = cluster.unique()
    let store = try PostgresStore(
      PostgresSettings(url: cluster.url + "?application_name=\(name)", password: nil, schema: name),
      dimensions: ["country", "channel"])
    _ = try store.apply([TestBreak().record(0)], now_ms: 1)
    #expect(try await store.sequence() == 1)
    try endConnections(name)
    #expect(try await store.sequence() == 1, "a reader tries again")
    #expect(throws: StoreUnavailable.self, "a writer says so") { try store.apply([TestBreak().record(1)], now_ms: 1) }
    var made = TestBreak()
    made.revision = 2
    #expect(try store.apply([made.record(1)], now_ms: 1).breaks == 1)
    #expect(try await rows(store).count == 1)
  }

  /// An index takes no text of three thousand bytes, and no text holds a zero: one record must not stop all others.
  @Test func aRecordThatTheDatabaseDoesNotTake() async throws {
    let store = try open(cluster.unique())
    var random = Seeded(state: 5)
    let letters = Array("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
    var records: [StoreRecord] = []
    for number in 0..<10 {
      var made = TestBreak()
      made.order =
        number == 4 ? String((0..<9_000).map { _ in letters.randomElement(using: &random)! }) : "SO-\(number)"
      if number == 6 { made.customer = #"zero\u0000inside"# }
      records.append(made.record(Int64(number)))
    }
    let change = try store.apply(records, now_ms: 1)
    #expect(change.breaks == 9 && change.faultCount == 1)
    #expect(change.faults.first?.hasPrefix("topic t.breaks, partition 0, offset 4: ") == true, "\(change.faults)")
    #expect(try await rows(store).count == 9)
    #expect(try store.positions() == [StorePlace("t.breaks", 0): 10])
    // The same break once more, by a key with a zero.
    var zero = TestBreak()
    zero.order = #"SO\u0000"#
    _ = try store.apply([zero.record(10)], now_ms: 1)
    zero.revision = 2
    #expect(try store.apply([zero.record(11)], now_ms: 1).breaks == 1)
    #expect(try await store.order("SO\0", scope: RowScope()).map { $0.document.revision } == [2])
  }

  @Test func aQueryThatTakesTooLongIsInterrupted() async throws {
    let store = try open(cluster.unique())
    let started = Date()
    let query = Task { try await store.rows("SELECT 1 FROM pg_sleep(30)") { $0.integer(0) } }
    try await Task.sleep(for: .milliseconds(300))
    query.cancel()
    await #expect(throws: CancellationError.self) { try await query.value }
    #expect(Date().timeIntervalSince(started) < 10)
    // At any moment: while the connection is made, before the statement has reached the server, while it runs.
    for pause_us in stride(from: 0, to: 20_000, by: 1_000) {
      let query = Task { try await store.rows("SELECT 1 FROM pg_sleep(30)") { $0.integer(0) } }
      try await Task.sleep(for: .microseconds(pause_us))
      query.cancel()
      await #expect(throws: CancellationError.self, "after \(pause_us) µs") { try await query.value }
    }
    #expect(Date().timeIntervalSince(started) < 25)
    // More than there are connections: each comes to its turn, and none is taken for another's interruption.
    try await withThrowingTaskGroup(of: Int64.self) { group in
      for _ in 0..<50 { group.addTask { try await store.sequence() } }
      for try await sequence in group { #expect(sequence == 0) }
    }
  }

  @Test func passwordsAreNotTold() throws {
    let secret = "pass-word-9"
    let settings = try PostgresSettings(
      url: "postgresql://tester:\(secret)@127.0.0.1:1/postgres?connect_timeout=1", password: secret, schema: "x")
    #expect("\(settings)" == "127.0.0.1:1/postgres")
    do {
      _ = try PostgresStore(settings, dimensions: [])
      Issue.record("nothing listens there")
    } catch let error as StoreUnavailable {
      #expect(!error.description.contains(secret))
      #expect(error.description.contains("127.0.0.1:1/postgres"))
    }
    #expect {
      try PostgresSettings(url: "postgresql://u:\(secret)@[broken", password: nil, schema: "x")
    } throws: { !"\($0)".contains(secret) }
    #expect(try !PostgresSettings(url: "postgresql://u@db.example/x", password: nil, schema: "x").isSafe)
    #expect(
      try PostgresSettings(url: "postgresql://u@db.example/x?sslmode=verify-full", password: nil, schema: "x").isSafe)
  }

  @Test func whatAnInspectionSees() throws {
    let settings = try cluster.settings(schema: cluster.unique())
    #expect(try PostgresStore.inspect(settings, dimensions: []).state == .missing)
    let store = try PostgresStore(settings, dimensions: [])
    let found = try PostgresStore.inspect(settings, dimensions: [])
    #expect(found.state == .same)
    #expect(abs(Double(found.clock_ms) / 1_000 - Date().timeIntervalSince1970) < 5)
    #expect(try PostgresStore.inspect(settings, dimensions: ["country"]).state == .other)
    #expect(try store.positions().isEmpty)
  }

  /// Two followers of one store beside each other, of which one is stopped and the store is made anew by the other.
  @Test func twoProjectorsShareAStore() async throws {
    let kafka = try TestCluster()
    let topic = kafka.unique("breaks")
    try kafka.createTopic(topic, partitions: 3)
    func produce(_ numbers: Range<Int>) throws {
      try kafka.produce(
        topic,
        numbers.map { number in
          var made = TestBreak()
          made.order = "SO-\(number)"
          return (key: made.id, value: made.json, partition: Int32(number % 3))
        })
    }
    func wait(_ condition: () throws -> Bool) rethrows -> Bool {
      let until = Date().addingTimeInterval(40)
      while Date() < until {
        if try condition() { return true }
        Thread.sleep(forTimeInterval: 0.02)
      }
      return false
    }
    let schema = cluster.unique()
    let restarts = Counter()
    let stores = [try open(schema), try open(schema)]
    let projectors = stores.map { store in
      Projector(
        store: store, topics: Projector.Topics(kinds: [topic: .breaks], required: [topic]),
        consumerProperties: kafka.properties, adminProperties: kafka.properties, log: { _, _ in }, onChange: { _ in },
        onRestart: { restarts.count() })
    }
    try produce(0..<300)
    for projector in projectors { projector.start() }
    #expect(wait { projectors.allSatisfy { $0.status.isCaughtUp && $0.status.lag == 0 } })
    #expect(try await stores[0].sequence() == 300, "each record has changed the store once")
    projectors[0].stop()
    try produce(300..<400)
    #expect(try wait { try stores[1].positions().values.reduce(0, +) == 400 })
    #expect(try await rows(stores[0]).count == 400)
    // As `tieout serve --rebuild` of another process does.
    try stores[0].clear()
    #expect(wait { restarts.value == 1 }, "seen without a record that would tell")
    #expect(try wait { try stores[1].positions().values.reduce(0, +) == 400 }, "read from the beginning")
    #expect(try await stores[1].sequence() == 400)
    projectors[1].stop()
  }
}
