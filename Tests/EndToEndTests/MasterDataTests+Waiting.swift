import Configuration
import Domain
import Foundation
import Kafka
import KafkaTesting
import Pipeline
import Testing

/// Records that wait for rows of tables.
extension MasterDataTests {
  /// Records wait for their master data, over restarts with and without a checkpoint; what finds no room is a dead letter.
  @Test(arguments: ["off", "topic"]) func recordsWaitForTheirMasterData(store: String) throws {
    let world = try World()
    try world.write(["OLD,C1"])
    let first = try world.configuration {
      $0.replacing("interval: 1h}", with: "interval: 1h, hold: {time: 20h, records: 3}}")
        .replacing("{store: off}", with: "{store: \(store), interval: 100ms}")
    }
    try world.createTopics(first)
    func customers() throws -> [String: String] { try world.customers(first) }
    func run(_ configuration: Configuration, _ body: (Daemon) throws -> Void) throws {
      let daemon = Daemon(configuration: configuration, log: silent)
      try daemon.start()
      try body(daemon)
      daemon.stop.stop()
      #expect(daemon.waitUntilStopped() && daemon.status.restarts == 0 && daemon.status.recoveryProblems == 0)
    }
    try run(first) { daemon in
      try world.send([("A", "OLD"), ("B", "NEW"), ("C", "NEW"), ("D", "NEVER"), ("E", "NEW")], first)
      wait("the records") { daemon.status.waiting == 3 && daemon.status.hold.refused == 1 }
      #expect(daemon.status.hold.held == 3 && daemon.status.decode.records == 2)
      #expect(daemon.status.decode.deadLetters == 1)
      if store == "topic" {
        let done = daemon.status.checkpoints
        wait("a checkpoint that names them") { daemon.status.checkpoints >= done + 2 }
      }
    }
    // They are still waiting, and go on when the table knows them: by the version that does.
    try run(first) { daemon in
      wait("the recovery") { daemon.status.recoveries >= 1 && daemon.status.waiting == 3 }
      try world.write(["OLD,C1", "NEW,C9"])
      daemon.refreshTables(isForced: true)
      wait("what was waiting") { daemon.status.hold.released == 2 && daemon.status.waiting == 1 }
      #expect(daemon.status.hold.expired == 0)
      try world.send([("F", "NEW")], first)
      try wait("the breaks") { try customers().count == 4 }
    }
    func letters() throws -> [String] {
      try world.cluster.readAll(first.deadLettersTopic, partitions: 1).map {
        let letter = try JSONSerialization.jsonObject(with: Data($0.value!.utf8)) as! [String: Any]
        return "\(letter["reason"]!) \(letter["offset"]!)"
      }
    }
    #expect(try letters() == ["MASTER_DATA_MISSING 4"])
    // A recovery does all of that again.
    try run(first) { daemon in
      wait("the recovery") { daemon.status.recoveries >= 1 && daemon.status.waiting == 1 }
    }
    #expect(try letters() == ["MASTER_DATA_MISSING 4"])
    #expect(try customers() == ["A": "C1", "B": "C9", "C": "C9", "F": "C9"])
  }

  /// Who waits for too long is a dead letter, once, with its place.
  @Test func waitingHasAnEnd() throws {
    let world = try World()
    try world.write(["OLD,C1"])
    let configuration = try world.configuration {
      $0.replacing("interval: 1h}", with: "interval: 1h, hold: {time: 1s}}")
    }
    try world.createTopics(configuration)
    func letters() throws -> [String] {
      try world.cluster.readAll(configuration.deadLettersTopic, partitions: 1).map {
        let letter = try JSONSerialization.jsonObject(with: Data($0.value!.utf8)) as! [String: Any]
        return "\(letter["reason"]!) \(letter["topic"]!) \(letter["partition"]!) \(letter["offset"]!)"
      }
    }
    let expected = ["MASTER_DATA_MISSING \(configuration.sources[0].topic) 0 1"]
    for attempt in 0..<2 {
      let daemon = Daemon(configuration: configuration, log: silent)
      try daemon.start()
      if attempt == 0 {
        try world.send([("A", "OLD"), ("B", "NEVER")], configuration)
        wait("it waits") { daemon.status.hold.held == 1 }
        wait("the end") { daemon.status.hold.expired == 1 && daemon.status.waiting == 0 }
        #expect(daemon.status.decode.deadLetters == 1 && daemon.status.decode.records == 2)
      } else {
        wait("the recovery") { daemon.status.recoveries >= 1 }
        #expect(daemon.status.recoveryProblems == 0 && daemon.status.waiting == 0)
      }
      daemon.stop.stop()
      #expect(daemon.waitUntilStopped() && daemon.status.restarts == 0)
      #expect(try letters() == expected)
    }
  }

  /// What the rule only flags waits as well, over a restart and while a partition moves to another process, and goes on with a
  /// break when its time is over or there is no room; nothing of it is a dead letter.
  @Test func aRuleThatFlagsLetsGoOn() throws {
    let world = try World()
    try world.write(["OLD,C1"])
    func configuration() throws -> Configuration {
      try world.configuration {
        $0.replacing("interval: 1h}", with: "interval: 1h, hold: {time: 50s, records: 3}}")
          .replacing("{store: off}", with: "{store: topic, interval: 100ms}")
          .replacing("{path: c, table: customers}", with: "c")
          .replacing("one_of: [C1, C2, C9], severity", with: "table: customers, name: known, severity")
          // In the ledger nothing is missing yet: only what flags is told.
          .replacing("window: 1d", with: "window: 3650d, settle: 0s, out_of_orderness: 0s")
      }
    }
    let first = try configuration()
    for source in first.sources { try world.cluster.createTopic(source.topic, partitions: 2) }
    for topic in first.ownTopics {
      let partitions = topic.name.hasSuffix(".tables") ? 1 : 2
      try world.cluster.createTopic(topic.name, partitions: partitions, config: topic.config)
    }
    func send(_ key: String, _ customer: String, _ partition: Int32) throws {
      let at = formatTimestamp(wallClock_ms())
      try world.cluster.produce(
        first.sources[0].topic, [(key, #"{"o":"\#(key)","t":"\#(at)","c":"\#(customer)","g":10}"#, partition)])
      try world.cluster.produce(first.sources[1].topic, [(key, #"{"o":"\#(key)","t":"\#(at)","a":10}"#, partition)])
    }
    func breaks() throws -> [String: Int] {
      var found: [String: Int] = [:]
      for record in try world.cluster.readAll(first.breaksTopic, partitions: 2) {
        let message = try JSONSerialization.jsonObject(with: Data(record.value!.utf8)) as! [String: Any]
        let words = ["order", "type", "state", "reason"].map { message[$0] as? String ?? "" }.joined(separator: " ")
        found[words, default: 0] += 1
      }
      return found
    }
    func broken(_ order: String) -> String { "\(order) MASTER_DATA_MISSING open 1 record(s) broke known" }
    let daemon = Daemon(configuration: first, log: silent)
    try daemon.start()
    try send("A", "OLD", 0)
    for key in ["B", "C", "D", "E"] { try send(key, key == "C" ? "NEW" : "NEVER", 0) }
    try send("F", "NEW", 1)
    try send("G", "NEVER", 1)
    wait("who waits") { daemon.status.waiting == 5 && daemon.status.hold.refused == 1 }
    #expect(daemon.status.decode.violations == ["orders: known": 1])
    try wait("who found no room") { try breaks() == [broken("E"): 1] }
    let done = daemon.status.checkpoints
    wait("a checkpoint that names them") { daemon.status.checkpoints >= done + 4 }
    daemon.stop.stop()
    #expect(daemon.waitUntilStopped() && daemon.status.restarts == 0)

    let second = Daemon(configuration: try configuration(), log: silent)
    try second.start()
    wait("the recovery") { second.status.recoveries >= 2 && second.status.waiting == 5 }
    let third = Daemon(configuration: try configuration(), log: silent)
    try third.start()
    wait("the rebalance") { third.status.partitions == 1 && second.status.partitions == 1 }
    wait("all still wait") { second.status.waiting + third.status.waiting == 5 }
    try world.write(["OLD,C1", "NEW,C9"])
    for one in [second, third] { one.refreshTables(isForced: true) }
    wait("those that are known now") { second.status.hold.released + third.status.hold.released == 2 }
    #expect(second.status.hold.expired + third.status.hold.expired == 0)
    wait("the end") { second.status.hold.expired + third.status.hold.expired == 3 }
    let all = Dictionary(uniqueKeysWithValues: ["B", "D", "E", "G"].map { (broken($0), 1) })
    try wait("the breaks") { try breaks() == all }
    for one in [second, third] {
      one.stop.stop()
      #expect(one.waitUntilStopped() && one.status.restarts == 0 && one.status.recoveryProblems == 0)
    }
    // Whoever comes after does all of that again, and tells nothing twice.
    let last = Daemon(configuration: try configuration(), log: silent)
    try last.start()
    wait("the recovery") { last.status.recoveries >= 2 }
    last.stop.stop()
    #expect(last.waitUntilStopped() && last.status.recoveryProblems == 0 && last.status.waiting == 0)
    #expect(try breaks() == all)
    #expect(try world.cluster.readAll(first.deadLettersTopic, partitions: 2).isEmpty)
  }

  /// A record that is known when it is tried again, and that another rule refuses then, has not been released.
  @Test func whatIsRefusedAfterwardsIsNotReleased() throws {
    let world = try World()
    try world.write(["OLD,C1"])
    let configuration = try world.configuration {
      $0.replacing("interval: 1h}", with: "interval: 1h, hold: {time: 20h}}")
        .replacing("severity: flag}", with: "severity: reject}")
    }
    try world.createTopics(configuration)
    let daemon = Daemon(configuration: configuration, log: silent)
    try daemon.start()
    try world.send([("A", "GOOD"), ("B", "BAD")], configuration)
    wait("who waits") { daemon.status.waiting == 2 }
    try world.write(["OLD,C1", "GOOD,C9", "BAD,X"])
    daemon.refreshTables(isForced: true)
    wait("both have been tried") { daemon.status.waiting == 0 && daemon.status.hold.held == 2 }
    #expect(daemon.status.hold.released == 1 && daemon.status.hold.rejected == 1 && daemon.status.deadLetters == 1)
    #expect(daemon.status.decode.deadLetters == 1 && daemon.status.decode.records == 2)
    daemon.stop.stop()
    #expect(daemon.waitUntilStopped() && daemon.status.restarts == 0)
  }
}
