import Configuration
import ConsoleStore
import Domain
import Foundation
import Kafka
import KafkaTesting
import Pipeline
import Synchronization
import Testing

@Suite(.serialized) struct ProjectorTests {
  private func wait(_ timeout_s: Int = 30, until condition: () throws -> Bool) rethrows -> Bool {
    let end = Date().addingTimeInterval(TimeInterval(timeout_s))
    while Date() < end {
      if try condition() { return true }
      Thread.sleep(forTimeInterval: 0.02)
    }
    return false
  }

  private func projector(
    _ store: any ConsoleStore, _ cluster: TestCluster, breaks: String, actions: String,
    outputs: OutputReader = OutputReader(), faults: @escaping @Sendable (String) -> Void = { _ in }
  ) -> Projector {
    Projector(
      store: store,
      topics: Projector.Topics(kinds: [breaks: .breaks, actions: .actions], required: [breaks]),
      consumerProperties: cluster.properties, adminProperties: cluster.properties, outputs: outputs,
      log: { if $0 { faults($1) } }, onChange: { _ in })
  }

  /// A topic may hold both formats; what cannot be read is a fault, and stops nothing.
  @Test func avroIsStoredAsTheJSONItWasMadeOf() async throws {
    let registry = try TinyRegistry()
    defer { registry.stop() }
    let cluster = try TestCluster()
    let (breaks, actions) = (cluster.unique("breaks"), cluster.unique("actions"))
    try cluster.createTopic(breaks, partitions: 1)
    try cluster.createTopic(actions, partitions: 1)
    var configuration = Configuration()
    configuration.breaksTopic = breaks
    configuration.outputs.formats = [.breaks: .avro]
    configuration.schemaRegistry = SchemaRegistrySettings()
    configuration.schemaRegistry!.url = registry.url
    let encoding = try #require(try OutputEncoding(configuration, [.breaks]))
    func made(_ order: String) -> Break {
      Break(
        id: "\(order):TAX_MISMATCH:tax", order: order, type: .taxMismatch, role: .tax, currency: Currency("EUR")!,
        expected: 100, posted: 90, state: .open, isProvisional: false, revision: 1, firstEventTime_ms: 0,
        deadline_ms: 1, asOf_ms: 2)
    }
    let encoder = BreakEncoder(dimensionNames: [])
    let producer = try Producer(properties: cluster.properties)
    for (order, message) in [
      ("A", encoder.encode(made("A"))), ("B", encoding.bytes(.breaks, encoder.encode(made("B")))),
      ("X", [0, 0, 0, 3, 9, 1]), ("C", encoding.bytes(.breaks, encoder.encode(made("C")))),
    ] {
      try producer.produce(topic: breaks, partition: 0, key: Array("\(order):TAX_MISMATCH:tax".utf8), value: message)
    }
    try producer.flush(timeout_ms: 30_000)
    let temporary = try TemporaryStore(.sqlite)
    let faults = Mutex<[String]>([])
    let following = projector(
      temporary.store, cluster, breaks: breaks, actions: actions, outputs: OutputReader(configuration)
    ) { fault in faults.withLock { $0.append(fault) } }
    following.start()
    defer { following.stop() }
    #expect(wait { following.status.isCaughtUp && following.status.records == 4 })
    #expect(following.status.faults == 1)
    #expect(
      faults.withLock { $0 }.contains("\(breaks), partition 0, offset 2: the schema registry has no schema 777"))
    for order in ["A", "B", "C"] {
      let stored = try #require(
        try await temporary.store.detail(id: "\(order):TAX_MISMATCH:tax", scope: RowScope()))
      #expect(stored.message == String(decoding: encoder.encode(made(order)), as: UTF8.self))
    }
  }

  /// What was deleted before it was stored is passed over, and said. A topic that was made anew is not what the store knows:
  /// nothing of it is taken for what is in already.
  @Test func whatIsGoneIsSaid() throws {
    let cluster = try TestCluster()
    let (breaks, actions) = (cluster.unique("breaks"), cluster.unique("actions"))
    for topic in [breaks, actions] { try cluster.createTopic(topic, partitions: 1) }
    func produce(_ numbers: Range<Int>) throws {
      try cluster.produce(
        breaks,
        numbers.map { number in
          var made = TestBreak()
          made.order = "SO-\(number)"
          return (key: made.id, value: made.json, partition: 0)
        })
    }
    let temporary = try TemporaryStore(.sqlite)
    let faults = Mutex<[String]>([])
    func follow(_ body: (Projector) throws -> Void) rethrows {
      let following = projector(temporary.store, cluster, breaks: breaks, actions: actions) { fault in
        faults.withLock { $0.append(fault) }
      }
      following.start()
      defer { following.stop() }
      try body(following)
    }
    try produce(0..<5)
    follow { following in #expect(wait { following.status.records == 5 }) }
    try produce(5..<12)
    let admin = try Admin(properties: cluster.properties)
    try admin.deleteRecords(TopicPartition(breaks, 0), before: 9)
    follow { following in #expect(wait { following.status.isCaughtUp && following.status.records == 3 }) }
    #expect(
      faults.withLock { $0.filter { $0.contains("were deleted") } }
        == ["\(breaks)[0]: the messages from offset 5 to 8 were deleted before they were stored"])

    try admin.deleteTopic(breaks)
    #expect(try wait { try admin.topics()[breaks] == nil })
    try cluster.createTopic(breaks, partitions: 1)
    try produce(0..<2)
    follow { following in
      #expect(wait { following.status.trouble?.contains("created anew") == true }, "\(following.status)")
      #expect(following.status.records == 0 && !following.status.isCaughtUp)
    }
    #expect(try temporary.store.positions()[StorePlace(breaks, 0)] == 12)
    try temporary.store.clear()
    follow { following in #expect(wait { following.status.isCaughtUp && following.status.records == 2 }) }
  }

  /// A restart reads on where the store stands; a store that is cleared ends up the same.
  @Test(arguments: StoreKind.here) func itFollowsStopsAndGoesOn(kind: StoreKind) async throws {
    let cluster = try TestCluster()
    let (breaks, actions) = (cluster.unique("breaks"), cluster.unique("actions"))
    try cluster.createTopic(breaks, partitions: 3)
    try cluster.createTopic(actions, partitions: 3)
    func produce(_ numbers: Range<Int>, revision: Int) throws {
      try cluster.produce(
        breaks,
        numbers.map { number in
          var made = TestBreak()
          made.order = "SO-\(number)"
          made.revision = revision
          return (key: made.id, value: made.json, partition: Int32(number % 3))
        })
    }
    try produce(0..<500, revision: 1)
    let temporary = try TemporaryStore(kind)
    let store = temporary.store
    let first = projector(store, cluster, breaks: breaks, actions: actions)
    first.start()
    #expect(wait { first.status.isCaughtUp && first.status.records == 500 })
    var made = TestBreak()
    made.order = "SO-7"
    let accept = action("one", .accept, on: made)
    try cluster.produce(
      actions, [(key: "SO-7", value: String(decoding: try accept.encoded(), as: UTF8.self), partition: 1)])
    #expect(wait { first.status.records == 501 })
    first.stop()
    try produce(0..<10, revision: 2)
    let second = projector(store, cluster, breaks: breaks, actions: actions)
    second.start()
    #expect(wait { second.status.isCaughtUp && second.status.lag == 0 && second.status.records >= 10 })
    second.stop()
    #expect(second.status.records == 10, "only what the store does not have is read")
    func rows() async throws -> [String] {
      try await store.breaks(BreakFilter(), scope: RowScope(), sort: .amount, after: nil, limit: 1_000).rows.map {
        row in
        "\(field(row, "id")!) \(field(row, "revision")!) \(field(row, "state")!)"
      }.sorted()
    }
    let before = try await rows()
    #expect(before.count == 500)
    #expect(before.contains("SO-7:AMOUNT_MISMATCH:receivable 2 accepted"))
    try store.clear()
    #expect(try await rows().isEmpty)
    let third = projector(store, cluster, breaks: breaks, actions: actions)
    third.start()
    #expect(wait { third.status.isCaughtUp && third.status.records == 511 })
    third.stop()
    #expect(try await rows() == before)
  }

  /// It waits for its topics, and says which are missing.
  @Test(arguments: StoreKind.here) func aMissingTopicIsToldAndTakenUpWhenItComes(kind: StoreKind) async throws {
    let cluster = try TestCluster()
    let (breaks, actions) = (cluster.unique("breaks"), cluster.unique("actions"))
    let temporary = try TemporaryStore(kind)
    let projector = projector(temporary.store, cluster, breaks: breaks, actions: actions)
    projector.start()
    defer { projector.stop() }
    #expect(wait { projector.status.trouble?.contains(breaks) == true })
    try cluster.createTopic(breaks, partitions: 1)
    try cluster.produce(breaks, [(key: TestBreak().id, value: TestBreak().json, partition: 0)])
    #expect(wait { projector.status.records == 1 })
    #expect(projector.status.missingTopics == [actions])
    try cluster.createTopic(actions, partitions: 1)
    let accept = action("one", .accept, on: TestBreak())
    try cluster.produce(
      actions, [(key: "SO-1", value: String(decoding: try accept.encoded(), as: UTF8.self), partition: 0)])
    #expect(wait(40) { projector.status.records == 2 })
    #expect(try await temporary.store.detail(id: TestBreak().id, scope: RowScope())?.state == "accepted")
  }
}
