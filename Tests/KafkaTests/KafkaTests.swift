import Foundation
import KafkaTesting
import Testing

@testable import Kafka

@Suite(.serialized) struct KafkaTests {
  func consumer(_ cluster: TestCluster, _ group: String, _ topics: [String]) throws -> Consumer {
    try Consumer(
      properties: cluster.properties + [
        KafkaProperty("group.id", cluster.unique(group)), KafkaProperty("session.timeout.ms", "6000"),
      ], topics: topics)
  }

  @Test func roundTripWithNullsAndEmptyTexts() throws {
    let cluster = try TestCluster()
    let topic = cluster.unique("round")
    try cluster.createTopic(topic, partitions: 1)
    try cluster.produce(topic, [("k", "v", nil), (nil, "no key", 0), ("tomb", nil, nil), ("", "", 0)])
    let records = try cluster.readAll(topic, partitions: 1)
    #expect(records.map(\.key) == ["k", nil, "tomb", ""])
    #expect(records.map(\.value) == ["v", "no key", nil, ""])
    #expect(records.map(\.offset) == [0, 1, 2, 3])
  }

  @Test(arguments: ["none", "gzip", "snappy", "lz4", "zstd"]) func codecs(codec: String) throws {
    let cluster = try TestCluster()
    let topic = cluster.unique("codec-\(codec)")
    try cluster.createTopic(topic, partitions: 2)
    let producer = try Producer(properties: cluster.properties + [KafkaProperty("compression.codec", codec)])
    for index in 0..<500 {
      try producer.produce(topic: topic, key: Array("k\(index)".utf8), value: Array("value \(index)".utf8))
    }
    try producer.flush(timeout_ms: 30_000)
    #expect(producer.deliveredCount == 500)
    let records = try cluster.readAll(topic, partitions: 2)
    #expect(records.count == 500)
    for partition in Int32(0)..<2 {
      let offsets = records.filter { $0.partition == partition }.map(\.offset)
      #expect(offsets == Array(0..<Int64(offsets.count)), "no gap and no repetition")
    }
  }

  @Test func offsetsAreKeptByTheGroup() throws {
    let cluster = try TestCluster()
    let topic = cluster.unique("offsets")
    try cluster.createTopic(topic, partitions: 1)
    try cluster.produce(topic, (0..<10).map { (nil, "\($0)", 0) })
    let place = TopicPartition(topic, 0)
    func read(_ count: Int) throws -> [Int64] {
      let consumer = try consumer(cluster, "offsets", [topic])
      defer { consumer.close() }
      var offsets: [Int64] = []
      let until = Date().addingTimeInterval(30)
      while offsets.count < count, Date() < until {
        _ = try consumer.consume(timeout_ms: 50) { offsets.append($0.offset) }
        try consumer.answerRebalance(start: .committed)
      }
      try consumer.commit([place: CommittedOffset(6, metadata: "e1:7:ab")])
      #expect(try consumer.committed([place]) == [place: CommittedOffset(6, metadata: "e1:7:ab")])
      return offsets
    }
    #expect(try read(10) == Array(0..<10))
    #expect(try read(4) == [6, 7, 8, 9])
  }

  /// The range assignor gives a member the same partition of every co-partitioned topic.
  @Test func coPartitionedTopicsGoTogether() throws {
    let cluster = try TestCluster()
    let (a, b) = (cluster.unique("co-a"), cluster.unique("co-b"))
    try cluster.createTopic(a, partitions: 4)
    try cluster.createTopic(b, partitions: 4)
    let members = [try consumer(cluster, "co", [a, b]), try consumer(cluster, "co", [a, b])]
    defer { for member in members { member.close() } }
    var owned: [Set<TopicPartition>] = [[], []]
    let until = Date().addingTimeInterval(40)
    while owned.contains(where: { $0.count != 4 }), Date() < until {
      for (index, member) in members.enumerated() {
        _ = try member.consume(timeout_ms: 50) { _ in }
        if let places = try member.answerRebalance(start: .committed) { owned[index] = Set(places) }
      }
    }
    for places in owned {
      #expect(places.count == 4)
      #expect(
        Set(places.filter { $0.topic == a }.map(\.partition)) == Set(places.filter { $0.topic == b }.map(\.partition)))
    }
    #expect(owned[0].isDisjoint(with: owned[1]))
  }

  @Test func lostMessagesAreReported() throws {
    let cluster = try TestCluster()
    let topic = cluster.unique("lost")
    try cluster.createTopic(topic, partitions: 1)
    guard let broker = cluster.embedded else {
      print("skipped: a real broker cannot be taken down by a test")
      return
    }
    let producer = try Producer(properties: cluster.properties + [KafkaProperty("message.timeout.ms", "1000")])
    try producer.produce(topic: topic, key: nil, value: Array("there".utf8))
    try producer.flush(timeout_ms: 10_000)
    broker.setDown(true)
    try producer.produce(topic: topic, key: nil, value: Array("lost".utf8))
    #expect(throws: KafkaError.self) { try producer.flush(timeout_ms: 20_000) }
    #expect(producer.failureCount == 1)
    broker.setDown(false)
  }

  @Test func topicsAreListedAndCreated() throws {
    let cluster = try TestCluster()
    let topic = cluster.unique("list")
    try cluster.createTopic(topic, partitions: 3)
    let admin = try Admin(properties: cluster.properties)
    #expect(try admin.topics()[topic] == 3)
    #expect(try admin.topics()[cluster.unique("absent")] == nil)
    if cluster.isReal {
      #expect(try admin.createTopic(topic, partitions: 3) == .exists)
    } else {
      // The embedded broker never answers this request; the caller must get an error, and not wait for ever.
      #expect(throws: KafkaError.self) {
        _ = try admin.createTopic(cluster.unique("made"), partitions: 1, timeout_ms: 1_000)
      }
    }
  }

  @Test func secretsStaySecret() {
    let property = KafkaProperty("sasl.password", "hunter2", isSecret: true)
    #expect(!"\(property)\(String(reflecting: property))".contains("hunter2"))
    let error = #expect(throws: KafkaError.self) {
      _ = try Producer(properties: [KafkaProperty("acks", "hunter2", isSecret: true)])
    }
    #expect(error.map { !"\($0)".contains("hunter2") && "\($0)".contains("acks") } == true)
    #expect(throws: KafkaError.self) { _ = try Producer(properties: [KafkaProperty("no.such.property", "x")]) }
  }
}
