import ArgumentParser
import Configuration
import Decoding
import Domain
import Foundation
import Kafka
import Pipeline

struct Replay: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Derives breaks again from the log, and says whether each one emitted is reproduced.",
    discussion: """
      Reads the recorded epochs and exactly the records that they took in, in their order and with their clock \
      readings, and compares every message that comes of it with what the breaks topic holds. It writes nothing and is \
      no member of the group. A task is replayed from its first epoch if Kafka still has it, else from the oldest \
      checkpoint. Epochs that were recorded under other settings or tables are named: they are proven with the \
      configuration of then.

      Exit code 0: everything is reproduced; 1: something is not; 2: the replay could not run.

      EXAMPLES
        tieout replay --config shop.yaml
        tieout replay --config shop.yaml --from 2026-11-01T00:00:00Z --to 2026-11-30T23:59:59Z
        tieout replay --config shop.yaml --order SO-4711
      """)

  @Option(help: "Configuration file.") var config: String
  @Option(help: "Bootstrap servers instead of the configured ones.") var bootstrap: String?
  @Option(help: "Only this partition.") var partition: Int32?
  @Option(help: "First epoch: its number, or a time (RFC 3339).") var from: String?
  @Option(help: "Last epoch: its number, or a time (RFC 3339).") var to: String?
  @Option(help: "Show what was said of this order, epoch by epoch.") var order: String?

  private struct Bound {
    var epoch: UInt64?
    var time_ms: Int64?

    init(_ text: String?, _ name: String) throws {
      guard let text else { return }
      if let number = UInt64(text) {
        epoch = number
      } else if let date = ISO8601DateFormatter().date(from: text) {
        time_ms = Int64(date.timeIntervalSince1970 * 1_000)
      } else {
        throw ValidationError("\(name) '\(text)' is neither an epoch's number nor a time such as 2026-11-30T12:00:00Z.")
      }
    }
  }

  func validate() throws {
    let (from, to) = (try Bound(from, "--from"), try Bound(to, "--to"))
    if (from.epoch ?? 0) > (to.epoch ?? .max) || (from.time_ms ?? .min) > (to.time_ms ?? .max) {
      throw ValidationError("--from lies behind --to.")
    }
  }

  func run() throws {
    do {
      var configuration = try Configuration.load(path: config)
      if let bootstrap { configuration.kafka.bootstrap = bootstrap }
      let log = ProcessLog(configuration, label: "tieout").log
      let counts = try TopicCheck(configuration).run(log: log, createsOutputs: false)
      configuration = try configuration.readingTopicTables(log: log)
      configuration.partialsPartitions =
        try Admin(properties: configuration.clientProperties(.admin)).topics()[configuration.partialsTopic] ?? 1
      let tasks = counts[configuration.sources[0].topic] ?? 1
      let reader = try PartitionReader(
        properties: configuration.clientProperties(.admin) + [KafkaProperty("group.id", configuration.kafka.group)])
      defer { reader.close() }
      let emitted = try emittedBreaks(configuration, reader)
      let (from, to) = (try Bound(from, "--from"), try Bound(to, "--to"))
      var (reproduced, replaced, missing) = (0, 0, 0)
      var derived: Set<Emitted> = []
      var settings: [String] = []
      var table = TextTable(["partition", "epochs", "first", "last", "records", "outputs"], numeric: [1, 2, 3, 4, 5])
      for partition in Int32(0)..<Int32(tasks) where self.partition ?? partition == partition {
        let places = configuration.sources.map { TopicPartition($0.topic, partition) }
        let committed = try reader.committed(places)
        let auditor = Auditor(configuration, environment: KafkaEnvironment(), reader: reader)
        let summary = try auditor.audit(
          partition: partition, committed: places.map { committed[$0] },
          epochs: (from.epoch ?? 0)...(to.epoch ?? .max), times_ms: (from.time_ms ?? .min)...(to.time_ms ?? .max)
        ) { output in
          guard output.topic == .breaks, let key = output.key else { return }
          let one = Emitted(key: key, value: output.value)
          derived.insert(one)
          let state: String
          if emitted.all.contains(one) {
            reproduced += 1
            state = "reproduced"
          } else if let newest = emitted.revisions[key], newest > revision(output.value) {
            // The topic is compacted: only the newest revision of a break has to be there.
            replaced += 1
            state = "compacted away"
          } else {
            missing += 1
            state = "NOT IN THE TOPIC"
          }
          if let order {
            let made = try JSONDecoder().decode(BreakMessage.self, from: Data(output.value))
            if made.order == order {
              print(
                "epoch \(output.epoch) of partition \(partition): \(made.id) revision \(made.revision) \(made.state), "
                  + "expected \(made.expected ?? "–") posted \(made.posted ?? "–"): \(state)")
            }
          } else if state.first == "N" {
            print("epoch \(output.epoch): \(String(decoding: key, as: UTF8.self)) \(state)")
          }
        }
        if let words = summary.settings { settings.append("partition \(partition): \(words)") }
        table.add(
          "\(partition)", "\(summary.epochs)", "\(summary.firstEpoch)", "\(summary.lastEpoch)", "\(summary.records)",
          "\(summary.outputs)")
      }
      var unexplained = 0
      if self.from == nil, self.to == nil, self.partition == nil {
        for one in emitted.all where !derived.contains(one) && !Auditor.isOfSecondStage(one.value) {
          unexplained += 1
          print("not derived from the log: \(String(decoding: one.key, as: UTF8.self))")
        }
      }
      print(table.text)
      for words in settings { print(words) }
      print(
        "\n\(reproduced) messages of \(configuration.breaksTopic) reproduced byte for byte, \(replaced) compacted away "
          + "since, \(missing) missing, \(unexplained) that no epoch explains")
      if missing + unexplained > 0 { throw ExitCode(1) }
    } catch let code as ExitCode {
      throw code
    } catch { fail(error) }
  }

  private struct Emitted: Hashable {
    var key: [UInt8]
    var value: [UInt8]
  }

  private func revision(_ value: [UInt8]) -> Int {
    (try? JSONDecoder().decode(BreakMessage.self, from: Data(value)))?.revision ?? 0
  }

  private func emittedBreaks(
    _ configuration: Configuration, _ reader: PartitionReader
  ) throws -> (all: Set<Emitted>, revisions: [[UInt8]: Int]) {
    var all: Set<Emitted> = []
    var revisions: [[UInt8]: Int] = [:]
    let count = try Admin(properties: configuration.clientProperties(.admin)).topics()[configuration.breaksTopic] ?? 0
    let outputs = OutputReader(configuration)
    var problem: (any Error)?
    for partition in Int32(0)..<Int32(count) {
      let place = TopicPartition(configuration.breaksTopic, partition)
      let bounds = try reader.bounds(place, timeout_ms: 30_000)
      try reader.read(place, from: bounds.low, end: bounds.stable) { message in
        guard let key = message.key, let value = message.value else { return true }
        do {
          let one = Emitted(key: Array(key), value: try outputs.json(value))
          revisions[one.key] = max(revisions[one.key] ?? 0, revision(one.value))
          all.insert(one)
          return true
        } catch {
          problem = OutputFormatError(description: "\(place), offset \(message.offset): \(error)")
          return false
        }
      }
      if let problem { throw problem }
    }
    return (all, revisions)
  }
}
