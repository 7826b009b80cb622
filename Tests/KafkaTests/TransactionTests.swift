import Foundation
import KafkaTesting
import Testing

@testable import Kafka

/// What exactly-once rests on, of the client library and of the broker: on the broker in memory, and on a real cluster.
@Suite(.serialized) struct TransactionTests {
  let cluster: TestCluster

  init() throws { cluster = try TestCluster() }

  func producer(_ id: String) throws -> Producer {
    let producer = try Producer(
      properties: cluster.properties + [KafkaProperty("transactional.id", cluster.unique(id))])
    try producer.initTransactions(timeout_ms: 30_000)
    return producer
  }

  func send(_ producer: Producer, _ topic: String, _ values: [String]) throws {
    for value in values { try producer.produce(topic: topic, partition: 0, key: nil, value: Array(value.utf8)) }
    try producer.flush(timeout_ms: 30_000)
  }

  func eventually(_ condition: () throws -> Bool) throws -> Bool {
    let until = Date().addingTimeInterval(30)
    while Date() < until {
      if try condition() { return true }
      Thread.sleep(forTimeInterval: 0.02)
    }
    return try condition()
  }

  @Test func onlyCommittedRecordsAreSeen() throws {
    let topic = cluster.unique("seen")
    try cluster.createTopic(topic, partitions: 1)
    let place = TopicPartition(topic, 0)
    let reader = try PartitionReader(properties: cluster.properties)
    defer { reader.close() }
    let (first, second) = (try producer("first"), try producer("second"))
    try first.beginTransaction()
    try send(first, topic, ["a", "b"])
    #expect(try reader.bounds(place, timeout_ms: 10_000) == (0, 0))
    try second.beginTransaction()
    try send(second, topic, ["never", "never"])
    try first.commitTransaction(timeout_ms: 30_000)
    // The second's are in between and open: what lies behind its first is not stable.
    #expect(try eventually { try reader.bounds(place, timeout_ms: 10_000).stable == 2 })
    try second.abortTransaction(timeout_ms: 30_000)
    try first.beginTransaction()
    try send(first, topic, ["c"])
    try first.commitTransaction(timeout_ms: 30_000)
    // Records and markers: a, b, two aborted, commit, abort, c, commit; the abort's may come after c.
    #expect(try eventually { try reader.bounds(place, timeout_ms: 10_000).stable == 8 })
    var values: [String] = []
    var offsets: [Int64] = []
    try reader.read(place, from: 0, end: 8) { message in
      values.append(String(decoding: message.value!, as: UTF8.self))
      offsets.append(message.offset)
      return true
    }
    #expect(values == ["a", "b", "c"])
    #expect(offsets == [0, 1, 5] || offsets == [0, 1, 6])
    #expect(try cluster.readAll(topic, partitions: 1).map(\.value) == ["a", "b", "c"])
  }

  /// Transactions of several producers, one within the other, of all sizes; many are aborted.
  @Test func whatIsAbortedIsNeverSeen() throws {
    let topic = cluster.unique("mixed")
    try cluster.createTopic(topic, partitions: 1)
    let producers = try (0..<3).map { try producer("mixed-\($0)") }
    var random = SystemRandomNumberGenerator()
    var open: [[String]?] = [nil, nil, nil]
    var committed: Set<String> = []
    var made = 0
    let filling = String(repeating: "x", count: 900)
    for _ in 0..<400 {
      let index = Int.random(in: 0..<3, using: &random)
      let producer = producers[index]
      if let values = open[index] {
        if Bool.random(using: &random) {
          try producer.commitTransaction(timeout_ms: 30_000)
          committed.formUnion(values)
        } else {
          try producer.abortTransaction(timeout_ms: 30_000)
        }
        open[index] = nil
      } else {
        try producer.beginTransaction()
        let count = Int.random(in: 1...(Int.random(in: 0..<10, using: &random) == 0 ? 1_500 : 20), using: &random)
        let values = (made..<made + count).map { "\($0) \(filling)" }
        made += count
        try send(producer, topic, values)
        open[index] = values
      }
    }
    for index in 0..<3 where open[index] != nil { try producers[index].abortTransaction(timeout_ms: 30_000) }
    let reader = try PartitionReader(properties: cluster.properties)
    defer { reader.close() }
    let place = TopicPartition(topic, 0)
    // The markers of the last ones may still be under way.
    let whole = try PartitionReader(
      properties: cluster.properties + [KafkaProperty("isolation.level", "read_uncommitted")])
    defer { whole.close() }
    #expect(
      try eventually {
        let last = try whole.bounds(place, timeout_ms: 10_000).stable
        return try reader.bounds(place, timeout_ms: 10_000).stable == last
      })
    let end = try reader.bounds(place, timeout_ms: 10_000).stable
    #expect(end > Int64(made))
    for from in [0, end / 3, end / 2] {
      var seen: [String] = []
      try reader.read(place, from: from, end: end) { message in
        seen.append(String(decoding: message.value!, as: UTF8.self))
        return true
      }
      #expect(seen.count == Set(seen).count, "each once")
      #expect(Set(seen).subtracting(committed).isEmpty, "none that was aborted")
      if from == 0 { #expect(Set(seen) == committed) }
      reader.rest()
    }
    #expect(Set(try cluster.readAll(topic, partitions: 1).map { $0.value! }) == committed)
  }

  @Test func whoIsReplacedIsFenced() throws {
    let topic = cluster.unique("fenced")
    try cluster.createTopic(topic, partitions: 1)
    let zombie = try producer("same")
    try zombie.beginTransaction()
    try send(zombie, topic, ["zombie"])
    let successor = try producer("same")
    try successor.beginTransaction()
    try send(successor, topic, ["successor"])
    try successor.commitTransaction(timeout_ms: 30_000)
    let error = #expect(throws: KafkaError.self) { try zombie.commitTransaction(timeout_ms: 30_000) }
    #expect(error?.isFatal == true, "\(error.map { "\($0)" } ?? "none")")
    #expect(try cluster.readAll(topic, partitions: 1).map(\.value) == ["successor"])
  }

  @Test func offsetsBelongToTheTransaction() throws {
    let (from, to) = (cluster.unique("from"), cluster.unique("to"))
    try cluster.createTopic(from, partitions: 1)
    try cluster.createTopic(to, partitions: 1)
    try cluster.produce(from, (0..<3).map { (nil, "\($0)", 0) })
    let place = TopicPartition(from, 0)
    let group = KafkaProperty("group.id", cluster.unique("group"))
    let consumer = try Consumer(
      properties: cluster.properties + [group, KafkaProperty("session.timeout.ms", "6000")], topics: [from])
    defer { consumer.close() }
    var count = 0
    #expect(
      try eventually {
        _ = try consumer.consume(timeout_ms: 50) { _ in count += 1 }
        try consumer.answerRebalance(start: .committed)
        return count == 3
      })
    let producer = try producer("offsets")
    func transact(_ offset: Int64, isCommit: Bool) throws {
      try producer.beginTransaction()
      try send(producer, to, ["\(offset)"])
      try producer.sendOffsets(
        [place: CommittedOffset(offset, metadata: "e1:\(offset):a")], group: try consumer.groupMetadata(),
        timeout_ms: 30_000)
      if isCommit {
        try producer.commitTransaction(timeout_ms: 30_000)
      } else {
        try producer.abortTransaction(timeout_ms: 30_000)
      }
    }
    try transact(2, isCommit: true)
    try transact(3, isCommit: false)
    // A reader that is no member waits until nothing is open any more.
    let reader = try PartitionReader(properties: cluster.properties + [group])
    defer { reader.close() }
    #expect(try reader.committed([place]) == [place: CommittedOffset(2, metadata: "e1:2:a")])
    #expect(try cluster.readAll(to, partitions: 1).map(\.value) == ["2"])
    // Of another generation, offsets are refused.
    let stranger = try consumer.groupMetadata()
    let other = try Consumer(
      properties: cluster.properties + [group, KafkaProperty("session.timeout.ms", "6000")], topics: [from])
    defer { other.close() }
    #expect(
      try eventually {
        _ = try consumer.consume(timeout_ms: 20) { _ in }
        try consumer.answerRebalance(start: .committed)
        _ = try other.consume(timeout_ms: 20) { _ in }
        try other.answerRebalance(start: .committed)
        return try consumer.groupMetadata() != stranger
      })
    try producer.beginTransaction()
    let error = #expect(throws: KafkaError.self) {
      try producer.sendOffsets([place: CommittedOffset(3)], group: stranger, timeout_ms: 30_000)
    }
    #expect(error?.requiresAbort == true, "\(error.map { "\($0)" } ?? "none")")
    try producer.abortTransaction(timeout_ms: 30_000)
    #expect(try reader.committed([place]) == [place: CommittedOffset(2, metadata: "e1:2:a")])
  }

  /// A member with a name of its own ends and comes back: the others keep what they have, and hear nothing of it.
  @Test func aStaticMemberComesBackWithoutARebalance() throws {
    let topic = cluster.unique("static")
    try cluster.createTopic(topic, partitions: 2)
    func member(_ name: String) throws -> Consumer {
      try Consumer(
        properties: cluster.properties + [
          KafkaProperty("group.id", cluster.unique("static")), KafkaProperty("session.timeout.ms", "20000"),
          KafkaProperty("group.instance.id", name),
        ], topics: [topic])
    }
    let stays = try member("stays")
    defer { stays.close() }
    var goes = try member("goes")
    var assigned: [String: [TopicPartition]] = [:]
    var rebalances = 0
    func serve(_ consumer: Consumer, _ name: String) throws {
      _ = try consumer.consume(timeout_ms: 20) { _ in }
      if let places = try consumer.answerRebalance(start: .committed) {
        assigned[name] = places
        if name == "stays" { rebalances += 1 }
      }
    }
    #expect(
      try eventually {
        try serve(stays, "stays")
        try serve(goes, "goes")
        return assigned["stays"]?.count == 1 && assigned["goes"]?.count == 1
      })
    let before = (assigned, rebalances)
    goes.close()
    goes = try member("goes")
    defer { goes.close() }
    assigned["goes"] = nil
    let started = Date()
    #expect(
      try eventually {
        try serve(goes, "goes")
        return assigned["goes"] != nil
      })
    #expect(Date().timeIntervalSince(started) < 10, "far less than the session")
    for _ in 0..<200 { try serve(stays, "stays") }
    #expect(assigned == before.0)
    #expect(rebalances == before.1)
  }
}
