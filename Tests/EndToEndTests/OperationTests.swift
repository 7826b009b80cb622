import Configuration
import Foundation
import Kafka
import KafkaTesting
import Pipeline
import Testing

#if canImport(FoundationNetworking)
  import FoundationNetworking
#endif

/// The programs as an operator starts them, and what the files in `config` say about them.
@Suite(.serialized, .enabled(if: builtProgram != nil)) struct OperationTests {
  private static let folder = URL(fileURLWithPath: exampleConfigurations).deletingLastPathComponent()

  private func text(_ path: String) throws -> String {
    try String(contentsOf: Self.folder.appendingPathComponent(path), encoding: .utf8)
  }

  private func output(_ program: String, _ arguments: [String], status: Int32 = 0) throws -> String {
    let process = Process()
    process.executableURL = try #require(builtProgram).deletingLastPathComponent().appendingPathComponent(program)
    process.arguments = arguments
    let output = Pipe()
    process.standardOutput = output
    try process.run()
    let bytes = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    #expect(process.terminationStatus == status, "\(program) \(arguments)")
    return String(decoding: bytes, as: UTF8.self)
  }

  /// The commands in units, manifests and images, as words.
  private func commands() throws -> [(file: String, words: [String])] {
    var found: [(String, [String])] = []
    for unit in ["tieout", "tieout-serve", "tieout-flows"] {
      for line in try text("systemd/\(unit).service").split(separator: "\n") where line.hasPrefix("ExecStart=") {
        found.append((unit, line.split(separator: " ").dropFirst().map(String.init)))
      }
    }
    for (file, key) in [
      ("kubernetes/tieout.yaml", "args: "), ("docker/compose.yaml", "command: ["), ("docker/Dockerfile", "CMD "),
    ] {
      for line in try text(file).split(separator: "\n") where line.contains(key) {
        let words = line.matches(of: #/"([^"]*)"/#).map { String($0.1) }
        found.append((file, words))
      }
    }
    return found
  }

  @Test func everyCommandAndOptionIsOneOfThePrograms() throws {
    let commands = try commands()
    #expect(Set(commands.map(\.file)).count == 6)
    for (file, words) in commands {
      let command = try #require(words.first, "\(file)")
      let help =
        command == "serve" ? try output("tieout-serve", ["help", "serve"]) : try output("tieout", ["help", command])
      let options = words.filter { $0.hasPrefix("--") }
      #expect(options.contains("--config"), "\(file)")
      for option in options {
        #expect(help.contains("\(option) ") || help.contains("\(option)\n"), "\(file): \(command) has no \(option)")
      }
    }
  }

  @Test func sinksReadTopicsThatAreThere() throws {
    let configuration = try Configuration.load(path: exampleConfigurations + "/console.yaml")
    let topics = Set((configuration.ownTopics + configuration.consoleTopics).map(\.name))
    let files = try FileManager.default.contentsOfDirectory(atPath: Self.folder.path + "/connect").filter {
      $0.hasSuffix(".json")
    }
    #expect(files.count >= 2)
    for file in files {
      let connector = try #require(
        JSONSerialization.jsonObject(with: Data(try text("connect/" + file).utf8)) as? [String: Any])
      let settings = try #require(connector["config"] as? [String: String], "\(file)")
      let read = (settings["topics"] ?? "").split(separator: ",").map(String.init)
      #expect(!read.isEmpty)
      for topic in read { #expect(topics.contains(topic), "\(file): nobody writes \(topic)") }
      // Output of transactions that were aborted is none.
      #expect(settings["consumer.override.isolation.level"] == "read_committed", "\(file)")
    }
  }

  /// The command that proves what was told, after a run: exit code 0 and every message of the topic reproduced; and 1 where
  /// the topic has one that no epoch explains.
  @Test func replayProvesWhatWasTold() throws {
    let cluster = try TestCluster()
    let directory = FileManager.default.temporaryDirectory.appendingPathComponent("tieout-proof-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: directory) }
    let prefix = cluster.unique("proof")
    let file = directory.appendingPathComponent("shop.yaml")
    try """
    name: proof
    prefix: \(prefix)
    workers: 1
    kafka: {bootstrap: "\(cluster.bootstrap)", group: \(prefix), consumer: {session.timeout.ms: 6000}}
    checkpoints: {store: off}
    matching: {window: 1h, grace: 1h, idle_timeout: 1s}
    tables: {customers: {file: customers.csv}}
    sources:
      orders: {kind: orders, topic: \(prefix).o, fields: {order: id, event: {constant: invoiced}, event_time: t,
        event_id: id, customer: {path: c, table: customers}, currency: {constant: EUR}, gross: g}}
      ledger: {kind: ledger, topic: \(prefix).l, fields: {order: o, role: {constant: receivable},
        currency: {constant: EUR}, event_time: t}, amount: a}
    policy: {replace_defaults: true, invoiced: {receivable: +gross}}
    """.write(to: file, atomically: true, encoding: .utf8)
    try "number,group\nC1,retail\n".write(
      to: directory.appendingPathComponent("customers.csv"), atomically: true, encoding: .utf8)
    let configuration = try Configuration.load(path: file.path)
    for source in configuration.sources { try cluster.createTopic(source.topic, partitions: 2) }
    for topic in configuration.ownTopics { try cluster.createTopic(topic.name, partitions: 2, config: topic.config) }
    let daemon = Daemon(configuration: configuration, log: silent)
    try daemon.start()
    func order(_ key: String, _ time: String) -> (key: String?, value: String?, partition: Int32?) {
      (key, #"{"id":"\#(key)","t":"\#(time)","c":"C1","g":10}"#, Int32(key.utf8.count % 2))
    }
    try cluster.produce(
      configuration.sources[0].topic,
      [order("A", "2024-01-01T00:00:00Z"), order("BB", "2024-01-01T00:00:00Z"), order("C", "2024-01-09T00:00:00Z")])
    let found = { try cluster.readAll(configuration.breaksTopic, partitions: 2) }
    try MasterDataTests().wait("the breaks") { try found().count >= 2 && daemon.status.uncommittedTasks == 0 }
    daemon.stop.stop()
    #expect(daemon.waitUntilStopped() && daemon.status.restarts == 0)
    let count = try found().count
    let told = try output("tieout", ["replay", "--config", file.path])
    #expect(told.contains("\(count) messages of \(configuration.breaksTopic) reproduced byte for byte"), "\(told)")
    #expect(told.contains("0 missing, 0 that no epoch explains"), "\(told)")
    #expect(!told.contains("other settings"))

    // A customer more is another table, by which these epochs were not recorded.
    try "number,group\nC1,retail\nC2,retail\n".write(
      to: directory.appendingPathComponent("customers.csv"), atomically: true, encoding: .utf8)
    let changed = try output("tieout", ["replay", "--config", file.path])
    #expect(changed.contains("were recorded under other settings or tables"), "\(changed)")

    try cluster.produce(configuration.breaksTopic, [("X:MISSING_IN_LEDGER:receivable", #"{"revision":1}"#, 0)])
    let forged = try output("tieout", ["replay", "--config", file.path], status: 1)
    #expect(forged.contains("not derived from the log: X:MISSING_IN_LEDGER:receivable"), "\(forged)")
  }

  /// Settings that the client library does not take together end the start, and are found before it.
  @Test func settingsOfTheClientsAreChecked() throws {
    let file = FileManager.default.temporaryDirectory.appendingPathComponent("tieout-\(UUID().uuidString).yaml")
    defer { try? FileManager.default.removeItem(at: file) }
    func write(_ acks: String) throws {
      try """
      name: acks
      kafka: {bootstrap: "127.0.0.1:1", producer: {acks: "\(acks)"}}
      sources:
        orders: {kind: orders, topic: o, fields: {order: id, event: {constant: invoiced}, event_time: t}}
        ledger: {kind: ledger, topic: l, fields: {order: o, role: r, currency: c, event_time: t}, amount: a}
      """.write(to: file, atomically: true, encoding: .utf8)
    }
    try write("1")
    let error = #expect(throws: KafkaError.self) {
      try Daemon(configuration: try Configuration.load(path: file.path), log: silent).start()
    }
    #expect(error?.description.contains("kafka.producer") == true && error?.description.contains("acks") == true)
    _ = try output("tieout", ["check", "--config", file.path], status: 2)
    try write("all")
    _ = try output("tieout", ["check", "--config", file.path])
  }

  /// `tieout run --serve` on one machine: both answer, and one signal ends both.
  @Test func oneProcessStartsTheOther() async throws {
    let cluster = try TestCluster()
    let directory = FileManager.default.temporaryDirectory.appendingPathComponent("tieout-one-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: directory) }
    let name = "one\(UInt32.random(in: 0 ... .max))"
    let file = directory.appendingPathComponent("shop.yaml")
    try """
    version: 1
    name: \(name)
    workers: 1
    kafka: {bootstrap: "\(cluster.bootstrap)"}
    sources:
      orders: {kind: orders, topic: \(name).o, fields: {order: id, event: {constant: invoiced}, event_time: {path: at, format: rfc3339}}}
      ledger: {kind: ledger, topic: \(name).l, fields: {order: o, role: r, currency: c, event_time: {path: at, format: rfc3339}}, amount: a}
    monitoring: {listen: "127.0.0.1:0"}
    serve: {listen: "127.0.0.1:0", directory: \(directory.path)/serve}
    """.write(to: file, atomically: true, encoding: .utf8)
    for topic in ["\(name).o", "\(name).l"] { try cluster.createTopic(topic, partitions: 2) }
    let configuration = try Configuration.load(path: file.path)
    for topic in configuration.ownTopics + configuration.consoleTopics { cluster.adopt(topic.name) }
    let log = directory.appendingPathComponent("log")
    FileManager.default.createFile(atPath: log.path, contents: nil)
    let process = Process()
    process.executableURL = try #require(builtProgram)
    process.arguments = ["run", "--config", file.path, "--serve"]
    process.standardError = try FileHandle(forWritingTo: log)
    try process.run()
    defer { if process.isRunning { kill(process.processIdentifier, SIGKILL) } }
    func port(_ message: String) throws -> Int? {
      let lines = try String(contentsOf: log, encoding: .utf8).split(separator: "\n").filter { $0.hasSuffix(message) }
      return lines.first?.firstMatch(of: #/port=(\d+)/#).flatMap { Int($0.1) }
    }
    func status(_ port: Int?, _ path: String) async -> Int? {
      guard let port, let url = URL(string: "http://127.0.0.1:\(port)\(path)") else { return nil }
      let answer = try? await URLSession(configuration: .ephemeral).data(for: URLRequest(url: url, timeoutInterval: 5))
      return (answer?.1 as? HTTPURLResponse)?.statusCode
    }
    var isReady = false
    for _ in 0..<1_200 where !isReady {
      try await Task.sleep(for: .milliseconds(100))
      let daemon = await status(try port("metrics are told"), "/readyz")
      let console = await status(try port("listening"), "/readyz")
      isReady = daemon == 200 && console == 200
    }
    let told = try String(contentsOf: log, encoding: .utf8)
    #expect(isReady, "\(told.suffix(2_000))")
    let console = try port("listening")
    let refused = await status(console, "/v1/breaks")
    #expect(refused == 401)
    process.terminate()
    for _ in 0..<300 where process.isRunning { try await Task.sleep(for: .milliseconds(100)) }
    #expect(!process.isRunning && process.terminationStatus == 0)
    let after = await status(console, "/healthz")
    #expect(after == nil, "the console has ended with it")
  }
}
