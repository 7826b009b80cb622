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

  @Test(arguments: TestCluster.kinds) func roundTripWithNullsAndEmptyTexts(kind: TestCluster.Kind) throws {
    let cluster = try TestCluster(kind)
    let topic = cluster.unique("round")
    try cluster.createTopic(topic, partitions: 1)
    try cluster.produce(topic, [("k", "v", nil), (nil, "no key", 0), ("tomb", nil, nil), ("", "", 0)])
    let records = try cluster.readAll(topic, partitions: 1)
    #expect(records.map(\.key) == ["k", nil, "tomb", ""])
    #expect(records.map(\.value) == ["v", "no key", nil, ""])
    #expect(records.map(\.offset) == [0, 1, 2, 3])
  }

  /// A queue that is full is looked at again when half of it has been taken, not a second later (librdkafka #2879).
  @Test(arguments: TestCluster.kinds) func aSmallQueueIsFilledAgainAtOnce(kind: TestCluster.Kind) throws {
    let cluster = try TestCluster(kind)
    let topic = cluster.unique("refill")
    let (partitions, count) = (2, 20_000)
    try cluster.createTopic(topic, partitions: partitions)
    let text = String(repeating: "x", count: 100)
    let producer = try Producer(properties: cluster.properties + [KafkaProperty("batch.num.messages", "100")])
    for index in 0..<count {
      try producer.produce(topic: topic, partition: Int32(index % partitions), key: nil, value: Array(text.utf8))
    }
    try producer.flush(timeout_ms: 30_000)
    // Dozens of times what the queue holds: as many seconds, were it not looked at.
    let small = [KafkaProperty("queued.min.messages", "200"), KafkaProperty("fetch.message.max.bytes", "10000")]

    let consumer = try Consumer(
      properties: cluster.properties + small + [KafkaProperty("group.id", cluster.unique("refill"))], topics: [topic])
    defer { consumer.close() }
    var (read, begun) = (0, Date())
    let patience = Date().addingTimeInterval(60)
    while read < count, Date() < patience {
      let before = read
      read += try consumer.consume(timeout_ms: 20) { _ in }
      if before == 0, read > 0 { begun = Date() }
      try consumer.answerRebalance(start: .beginning)
    }
    #expect(read == count)
    let taken_s = Date().timeIntervalSince(begun)
    #expect(taken_s < 8, "a group's member read \(count) records in \(taken_s) s")

    let reader = try PartitionReader(properties: cluster.properties + small)
    defer { reader.close() }
    read = 0
    begun = Date()
    try reader.read(TopicPartition(topic, 0), from: 0, end: Int64(count / partitions)) { _ in
      read += 1
      return true
    }
    #expect(read == count / partitions)
    let alone_s = Date().timeIntervalSince(begun)
    #expect(alone_s < 2.5, "a reader read \(read) records in \(alone_s) s")
  }

  /// Of a held topic nothing more is taken; it keeps what has come in its order, and stays where it is; an assignment holds none.
  @Test(arguments: TestCluster.kinds) func aHeldTopicWaitsAndLosesNothing(kind: TestCluster.Kind) throws {
    let cluster = try TestCluster(kind)
    let topics = [cluster.unique("held-a"), cluster.unique("held-b")]
    let (partitions, count) = (2, 6_000)
    for topic in topics {
      try cluster.createTopic(topic, partitions: partitions)
      try cluster.produce(topic, (0..<count).map { ("k\($0)", "v\($0)", Int32($0 % partitions)) })
    }
    // A fraction of what there is, so that a held topic is fetched further once it is let go.
    let consumer = try Consumer(
      properties: cluster.properties + [
        KafkaProperty("group.id", cluster.unique("held")), KafkaProperty("session.timeout.ms", "6000"),
        KafkaProperty("queued.min.messages", "400"), KafkaProperty("fetch.message.max.bytes", "4000"),
      ], topics: topics, batch: 100, held: 2)
    defer { consumer.close() }
    var places: [TopicPartition] = []
    var next: [TopicPartition: Int64] = [:]
    var gaps = 0
    func read(until isEnough: () -> Bool, seconds: TimeInterval = 30) throws {
      let until = Date().addingTimeInterval(seconds)
      while !isEnough(), Date() < until {
        _ = try consumer.consume(timeout_ms: 20) { message in
          let place = TopicPartition(topics[message.topic], message.partition)
          if message.offset != next[place, default: 0] { gaps += 1 }
          next[place] = message.offset + 1
        }
        if let now = try consumer.answerRebalance(start: .beginning) { places = now }
      }
    }
    func taken(_ topic: Int) -> Int64 { next.filter { $0.key.topic == topics[topic] }.map(\.value).reduce(0, +) }

    try read(until: { !places.isEmpty })
    #expect(places.count == 4)
    consumer.hold([1])
    try read(until: { taken(0) == Int64(count) })
    #expect(taken(0) == Int64(count))
    // No more than what had been handed on before.
    #expect(taken(1) < Int64(count) / 2)
    consumer.hold([0])
    try read(until: { taken(1) == Int64(count) })
    #expect(taken(1) == Int64(count))
    #expect(gaps == 0)

    // Taken up anew while one is held.
    consumer.hold([0, 1])
    try consumer.assign(Dictionary(uniqueKeysWithValues: places.map { ($0, .at(10)) }))
    next = Dictionary(uniqueKeysWithValues: places.map { ($0, 10) })
    try read(until: { taken(0) + taken(1) == Int64(2 * count) })
    #expect(taken(0) + taken(1) == Int64(2 * count))
    #expect(gaps == 0)
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

  @Test(arguments: TestCluster.kinds) func offsetsAreKeptByTheGroup(kind: TestCluster.Kind) throws {
    let cluster = try TestCluster(kind)
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
  @Test(arguments: TestCluster.kinds) func coPartitionedTopicsGoTogether(kind: TestCluster.Kind) throws {
    let cluster = try TestCluster(kind)
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
    let cluster = try TestCluster(TestCluster.kinds == [.real] ? .real : .embedded)
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
    let error = #expect(throws: KafkaError.self) { try producer.flush(timeout_ms: 20_000) }
    // To flush again would succeed, and the message would be forgotten.
    #expect(error?.isRetriable == false)
    #expect(producer.failureCount == 1)
    broker.setDown(false)
  }

  @Test(arguments: TestCluster.kinds) func topicsAreListedAndCreated(kind: TestCluster.Kind) throws {
    let cluster = try TestCluster(kind)
    let topic = cluster.unique("list")
    try cluster.createTopic(topic, partitions: 3)
    let admin = try Admin(properties: cluster.properties)
    #expect(try admin.topics()[topic] == 3)
    #expect(try admin.topics()[cluster.unique("absent")] == nil)
    if cluster.knowsTransactions {
      #expect(try admin.createTopic(topic, partitions: 3) == .exists)
      let error = #expect(throws: KafkaError.self) {
        try admin.createTopic(cluster.unique("wide"), partitions: 1, replication: 1_000)
      }
      #expect(error?.name == "INVALID_REPLICATION_FACTOR")
    } else {
      // The embedded broker never answers this request; the caller must get an error, and not wait for ever.
      #expect(throws: KafkaError.self) {
        _ = try admin.createTopic(cluster.unique("made"), partitions: 1, timeout_ms: 1_000)
      }
    }
  }

  @Test(arguments: TestCluster.kinds) func topicsAreAwaited(kind: TestCluster.Kind) throws {
    let cluster = try TestCluster(kind)
    let (here, absent) = (cluster.unique("here"), cluster.unique("absent"))
    try cluster.createTopic(here, partitions: 2)
    let admin = try Admin(properties: cluster.properties)
    #expect(try admin.await([here]) == [])
    #expect(try admin.await([here, absent], timeout_ms: 200) == [absent])
  }

  /// A topic that is missing is an error, not a topic with the settings of the broker, which may make topics by itself.
  @Test func producersMakeNoTopics() throws {
    // The embedded broker makes every topic that it is asked for.
    let cluster = try TestCluster()
    let absent = cluster.unique("absent")
    let producer = try Producer(
      properties: cluster.properties + [KafkaProperty("topic.metadata.propagation.max.ms", "500")])
    #expect(throws: KafkaError.self) {
      try producer.produce(topic: absent, key: [1], value: [1])
      try producer.flush(timeout_ms: 20_000)
    }
    Thread.sleep(forTimeInterval: 0.3)
    #expect(try Admin(properties: cluster.properties).topics()[absent] == nil)
  }

  /// What is not there is an error, and no leap to where something is.
  @Test(arguments: TestCluster.kinds) func offsetsOutOfRangeAreTold(kind: TestCluster.Kind) throws {
    let cluster = try TestCluster(kind)
    let topic = cluster.unique("range")
    try cluster.createTopic(topic, partitions: 1)
    try cluster.produce(topic, (0..<5).map { (nil, "\($0)", 0) })
    let place = TopicPartition(topic, 0)
    let consumer = try Consumer(
      properties: cluster.properties + [
        KafkaProperty("group.id", cluster.unique("range")), KafkaProperty("auto.offset.reset", "error"),
      ], topics: [topic])
    defer { consumer.close() }
    var errors: [KafkaError] = []
    var offsets: [Int64] = []
    var isAssigned = false
    let until = Date().addingTimeInterval(30)
    while offsets.isEmpty, Date() < until {
      _ = try consumer.consume(timeout_ms: 50) { offsets.append($0.offset) }
      if !errors.contains(where: \.isOutOfRange) {
        errors += consumer.errors
        // Told once, it goes on where it is sent.
        if errors.contains(where: \.isOutOfRange) { try consumer.assign([place: .at(3)]) }
      }
      if case .assigned = consumer.pendingRebalance, !isAssigned {
        isAssigned = true
        try consumer.assign([place: .at(1_000)])
      } else if consumer.pendingRebalance != nil {
        try consumer.unassign()
      }
    }
    #expect(errors.filter(\.isOutOfRange).map(\.place) == [place])
    #expect(offsets.first == 3)
  }

  /// Metadata of a client that has lost its place in the group lets brokers through whatever it sends.
  @Test(arguments: TestCluster.kinds) func metadataWithoutAMemberIsNone(kind: TestCluster.Kind) throws {
    func bytes(_ generation: Int32, _ member: String) -> [UInt8] {
      var made = Array("CGMDv2:".utf8)
      withUnsafeBytes(of: generation) { made += Array($0) }
      return made + Array("group".utf8) + [0] + Array(member.utf8) + [0, 1]
    }
    #expect(Consumer.namesMember(bytes(3, "tieout-1")))
    #expect(!Consumer.namesMember(bytes(-1, "tieout-1")))
    #expect(!Consumer.namesMember(bytes(3, "")))
    #expect(!Consumer.namesMember([]))
    // And the library still writes it like that.
    let cluster = try TestCluster(kind)
    let topic = cluster.unique("member")
    try cluster.createTopic(topic, partitions: 1)
    let consumer = try consumer(cluster, "member", [topic])
    defer { consumer.close() }
    #expect(throws: KafkaError.self) { try consumer.groupMetadata() }
    let until = Date().addingTimeInterval(30)
    while consumer.pendingRebalance == nil, Date() < until { _ = try consumer.consume(timeout_ms: 50) { _ in } }
    #expect(try !consumer.groupMetadata().bytes.isEmpty)
    try consumer.answerRebalance(start: .end)
  }

  /// A reader may rest, and read on or anew afterwards; and an error of one stretch spoils no other.
  @Test(arguments: TestCluster.kinds) func stretchesAreReadByThemselves(kind: TestCluster.Kind) throws {
    let cluster = try TestCluster(kind)
    let topic = cluster.unique("stretch")
    try cluster.createTopic(topic, partitions: 1)
    try cluster.produce(topic, (0..<100).map { (nil, "\($0)", 0) })
    let place = TopicPartition(topic, 0)
    let reader = try PartitionReader(properties: cluster.properties)
    defer { reader.close() }
    #expect(try reader.bounds(place, timeout_ms: 10_000) == (0, 100))
    func read(_ from: Int64, _ end: Int64) throws -> [Int64] {
      var offsets: [Int64] = []
      try reader.read(place, from: from, end: end) {
        offsets.append($0.offset)
        return true
      }
      return offsets
    }
    #expect(try read(10, 20) == Array(10..<20))
    #expect(try read(20, 25) == Array(20..<25))
    reader.rest()
    #expect(try read(25, 30) == Array(25..<30))
    reader.rest()
    let error = #expect(throws: KafkaError.self) { _ = try read(500, 510) }
    #expect(error?.isOutOfRange == true)
    #expect(try read(0, 3) == [0, 1, 2])
    #expect(try read(90, 100) == Array(90..<100))
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

  /// The end of a partition, empty or not, and without waiting for more.
  @Test(arguments: TestCluster.kinds) func theNewestRecordOfAPartition(kind: TestCluster.Kind) throws {
    let cluster = try TestCluster(kind)
    let topic = cluster.unique("newest")
    try cluster.createTopic(topic, partitions: 2)
    try cluster.produce(topic, (0..<100).map { (nil, "\($0)", 0) })
    let reader = try PartitionReader(properties: cluster.properties)
    defer { reader.close() }
    let stamp = try #require(try reader.newest(TopicPartition(topic, 0), timeout_ms: 20_000))
    #expect(stamp.offset == 99)
    #expect(abs(Double(stamp.timestamp_ms) / 1_000 - Date().timeIntervalSince1970) < 60)
    #expect(try reader.newest(TopicPartition(topic, 1), timeout_ms: 20_000) == nil)
    #expect(throws: KafkaError.self) { try reader.newest(TopicPartition(topic, 7), timeout_ms: 3_000) }
  }

  /// Behind the newest record stand what aborted transactions wrote, and their marks. The embedded broker keeps such records.
  @Test(arguments: TestCluster.kinds.filter { $0 != .embedded })
  func theNewestRecordBehindWhichTransactionsWereAborted(kind: TestCluster.Kind) throws {
    let cluster = try TestCluster(kind)
    let topic = cluster.unique("newest")
    try cluster.createTopic(topic, partitions: 1)
    try cluster.produce(topic, (0..<3).map { (nil, "\($0)", 0) })
    let producer = try Producer(
      properties: cluster.properties + [KafkaProperty("transactional.id", cluster.unique("newest"))])
    try producer.initTransactions(timeout_ms: 20_000)
    for _ in 0..<50 {
      try producer.beginTransaction()
      try producer.produce(topic: topic, partition: 0, key: nil, value: Array("none".utf8))
      try producer.flush(timeout_ms: 20_000)
      try producer.abortTransaction(timeout_ms: 20_000)
    }
    let reader = try PartitionReader(properties: cluster.properties)
    defer { reader.close() }
    #expect(try reader.newest(TopicPartition(topic, 0), timeout_ms: 20_000)?.offset == 2)
  }

  @Test(arguments: TestCluster.kinds) func writingAndCommittingAreTriedApart(kind: TestCluster.Kind) throws {
    let cluster = try TestCluster(kind)
    let topics = [cluster.unique("try-a"), cluster.unique("try-b"), cluster.unique("try-c")]
    for topic in topics { try cluster.createTopic(topic, partitions: 1) }
    let group = cluster.unique("try-group")
    func attempt() throws -> TransactionTrial {
      try TransactionTrial.run(
        topics: topics, commits: [(group, TopicPartition(topics[0], 0), 5)], timeout_ms: 20_000
      ) { () throws(KafkaError) in
        try Producer(
          properties: cluster.properties + [
            KafkaProperty("transaction.timeout.ms", "10000"), KafkaProperty("transactional.id", cluster.unique("try")),
          ])
      }
    }
    #expect(try attempt() == TransactionTrial(), "everything is allowed")
    let reader = try PartitionReader(properties: cluster.properties + [KafkaProperty("group.id", group)])
    defer { reader.close() }
    #expect(try reader.committed([TopicPartition(topics[0], 0)]) == [:], "no offset was left")
    guard let broker = cluster.embedded else {
      #expect(try cluster.readAll(topics[0], partitions: 1).isEmpty, "no record was left")
      // The coordinator has never heard of a transaction whose first topic was refused, and refuses to end it.
      guard let broker = cluster.transactional else {
        print("skipped: a real cluster refuses nothing to who may do everything")
        return
      }
      for refused in [[topics[0]], [topics[0], topics[1]], [topics[1], topics[2]], topics] {
        broker.refuse(Set(refused))
        let trial = try attempt()
        #expect(trial.takeover == nil && trial.transaction == nil && trial.committing.isEmpty)
        #expect(trial.writing.mapValues(\.name) == refused.reduce(into: [:]) { $0[$1] = "TOPIC_AUTHORIZATION_FAILED" })
      }
      return
    }
    // AddPartitionsToTxn is refused for the first topic, TxnOffsetCommit for the group.
    broker.failNext(apiKey: 24, codes: [29])
    broker.failNext(apiKey: 28, codes: [30])
    let trial = try attempt()
    #expect(trial.takeover == nil && trial.transaction == nil)
    #expect(trial.writing.mapValues(\.name) == [topics[0]: "TOPIC_AUTHORIZATION_FAILED"])
    #expect(trial.committing.mapValues(\.name) == [group: "GROUP_AUTHORIZATION_FAILED"])
    broker.failNext(apiKey: 22, codes: [53])
    #expect(try attempt().takeover?.name == "TRANSACTIONAL_ID_AUTHORIZATION_FAILED")
  }

  /// The embedded broker never answers this: that is an error after the time, not a wait for ever.
  @Test(arguments: TestCluster.kinds) func settingsOfTopics(kind: TestCluster.Kind) throws {
    let cluster = try TestCluster(kind)
    let topic = cluster.unique("settings")
    try cluster.createTopic(topic, partitions: 3, config: ["cleanup.policy": "compact"])
    let admin = try Admin(properties: cluster.properties)
    let description = try admin.describe()
    #expect(description.topics[topic]?.partitions.count == 3)
    #expect(description.topics[topic]?.partitions.allSatisfy { $0.leader >= 0 && $0.inSync > 0 } == true)
    #expect(description.isEmbedded != cluster.knowsTransactions)
    guard cluster.knowsTransactions else {
      let started = Date()
      #expect { try admin.settings(of: [topic], timeout_ms: 1_000) } throws: {
        ($0 as? KafkaError)?.name == "_TIMED_OUT"
      }
      #expect(Date().timeIntervalSince(started) < 10)
      return
    }
    let settings = try admin.settings(of: [topic, topic + "-none"])
    #expect(try settings[topic]?.get()["cleanup.policy"] == "compact")
    #expect(throws: KafkaError.self) { try settings[topic + "-none"]?.get() }
  }
}
