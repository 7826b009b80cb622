import Configuration
import Foundation
import KafkaTesting
import Logging
import Pipeline
import Testing

/// Files that are played into topics.
@Suite(.serialized) struct PlayTests {
  private func configuration(_ cluster: TestCluster) throws -> Configuration {
    let orders = "kind: orders, fields: {order: o, event: e, event_time: t, currency: c, net: n}"
    var configuration = try Configuration.parse(
      yaml: """
        version: 1
        prefix: \(cluster.unique("play"))
        sources:
          web: {\(orders)}
          store: {\(orders)}
          gl: {kind: ledger, fields: {order: o, role: r, currency: c, event_time: t}, amount: a}
        """, file: "t.yaml", directory: ".")
    configuration.kafka.bootstrap = cluster.bootstrap
    return configuration
  }

  /// Each file goes to the topic of the source that it names, and nothing is sent where one could go to several.
  @Test func everyFileGoesToItsTopic() throws {
    let cluster = try TestCluster()
    let configuration = try configuration(cluster)
    for source in configuration.sources { try cluster.createTopic(source.topic, partitions: 1) }
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("tieout-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    for (name, text) in [("a", "A\t{1}\nA\t{2}\n"), ("b", "B\t{3}\n"), ("l", "A\t{4}\n")] {
      try text.write(toFile: "\(folder)/\(name)", atomically: true, encoding: .utf8)
    }
    let player = try FilePlayer(configuration)
    let error = #expect(throws: FileRunError.self) {
      try player.play(orders: ["web=\(folder)/a", "\(folder)/b"], ledger: ["\(folder)/l"])
    }
    #expect(error?.description.contains("several orders sources (web, store)") == true)
    func sent(_ at: Int) throws -> [String?] {
      try cluster.readAll(configuration.sources[at].topic, partitions: 1).map(\.value)
    }
    #expect(try sent(0) == [] && sent(1) == [] && sent(2) == [])
    #expect(try player.play(orders: ["web=\(folder)/a", "store=\(folder)/b"], ledger: ["\(folder)/l"]) == 4)
    #expect(try sent(0) == ["{1}", "{2}"] && sent(1) == ["{3}"] && sent(2) == ["{4}"])
  }

  /// Keys that are JSON are keys; the TABs of rows that are separated by them are none.
  @Test func keysOfLines() throws {
    let cluster = try TestCluster()
    var configuration = try configuration(cluster)
    configuration.sources[1].mapping.format = .csv
    configuration.sources[1].mapping.csv.hasHeader = false
    for source in configuration.sources { try cluster.createTopic(source.topic, partitions: 1) }
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("tieout-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let lines = ["a": "{\"id\":1}\t{\"a\":1}\n", "b": "A\tA,booked\n", "c": "A\tbooked\n", "l": "{\"a\":\t4}\n"]
    for (name, text) in lines { try text.write(toFile: "\(folder)/\(name)", atomically: true, encoding: .utf8) }
    #expect(
      try FilePlayer(configuration).play(orders: ["web=\(folder)/a", "store=\(folder)/b"], ledger: ["\(folder)/l"]) == 3
    )
    configuration.sources[1].mapping.csv.delimiter = 0x09
    #expect(try FilePlayer(configuration).play(orders: ["store=\(folder)/c"], ledger: []) == 1)
    func sent(_ at: Int) throws -> [[String?]] {
      try cluster.readAll(configuration.sources[at].topic, partitions: 1).map { [$0.key, $0.value] }
    }
    #expect(try sent(0) == [["{\"id\":1}", "{\"a\":1}"]])
    #expect(try sent(1) == [["A", "A,booked"], [nil, "A\tbooked"]])
    #expect(try sent(2) == [[nil, "{\"a\":\t4}"]])
  }

  /// The header of a CSV file names columns: it is no record, and says whether the rows are those that the topic has.
  @Test func aHeaderIsNotSent() throws {
    let cluster = try TestCluster()
    var configuration = try configuration(cluster)
    configuration.sources[1].mapping.format = .csv
    for source in configuration.sources { try cluster.createTopic(source.topic, partitions: 1) }
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("tieout-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let files = ["a": "o,e,t,c,n\nA,booked,,,\"two\nlines\"\nB,booked,,,1\n", "b": "e,o,t,c,n\nbooked,A,,,1\n"]
    for (name, text) in files { try text.write(toFile: "\(folder)/\(name)", atomically: true, encoding: .utf8) }
    func play(_ file: String) throws -> Int {
      try FilePlayer(configuration).play(orders: ["store=\(folder)/\(file)"], ledger: [])
    }
    let none = #expect(throws: FileRunError.self) { try play("a") }
    #expect(none?.description.contains("records of the topic") == true, "the daemon would not know the columns")
    configuration.sources[1].mapping.csv.columns = ["o", "e", "t", "c", "n"]
    #expect(try play("a") == 2)
    let other = #expect(throws: FileRunError.self) { try play("b") }
    #expect(other?.description.contains("names the columns e, o, t, c, n") == true)
    let sent = try cluster.readAll(configuration.sources[1].topic, partitions: 1).map(\.value)
    #expect(sent == ["A,booked,,,\"two\nlines\"", "B,booked,,,1"])
  }

  /// Records without a key are spread over the partitions, where the orders of others are not.
  @Test func recordsWithoutAKeyNeedOnePartitionOrARouter() throws {
    let cluster = try TestCluster()
    var configuration = try configuration(cluster)
    for source in configuration.sources { try cluster.createTopic(source.topic, partitions: 2) }
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("tieout-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    for (name, text) in [("a", "A\t{1}\n{2}\n"), ("l", "A\t{4}\n")] {
      try text.write(toFile: "\(folder)/\(name)", atomically: true, encoding: .utf8)
    }
    func play() throws -> Int {
      try FilePlayer(configuration).play(orders: ["web=\(folder)/a"], ledger: ["\(folder)/l"])
    }
    let error = #expect(throws: FileRunError.self) { try play() }
    #expect(error?.description.contains("/a, line 2: the record has no key") == true, "\(error?.description ?? "")")
    for source in configuration.sources { #expect(try cluster.readAll(source.topic, partitions: 2).isEmpty) }
    configuration.sources[0].routedFrom = configuration.sources[0].topic
    #expect(try play() == 3)
  }

  /// What is asked about topics without making any says which of the outputs are there.
  @Test func outputsThatAreThereAreCounted() throws {
    let cluster = try TestCluster()
    let configuration = try configuration(cluster)
    for source in configuration.sources { try cluster.createTopic(source.topic, partitions: 2) }
    try cluster.createTopic(configuration.breaksTopic, partitions: 3)
    let counts = try TopicCheck(configuration).run(log: Logger(label: "test"), createsOutputs: false)
    #expect(counts[configuration.breaksTopic] == 3 && counts[configuration.deadLettersTopic] == nil)
    #expect(counts[configuration.sources[0].topic] == 2)
  }
}
