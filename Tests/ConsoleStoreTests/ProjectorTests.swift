import ConsoleStore
import Foundation
import Kafka
import KafkaTesting
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

  private func projector(_ store: any ConsoleStore, _ cluster: TestCluster, breaks: String, actions: String)
    -> Projector
  {
    Projector(
      store: store,
      topics: Projector.Topics(kinds: [breaks: .breaks, actions: .actions], required: [breaks]),
      consumerProperties: cluster.properties, adminProperties: cluster.properties, log: { _, _ in }, onChange: { _ in })
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
