import Configuration
import Domain
import Foundation
import Kafka
import Pipeline

/// The version of the tables that a machine has seen.
final class SimulatedTables: TableVersionSource, @unchecked Sendable {
  // One thread at a time, as everything in the simulation.
  var current: TableVersion

  init(_ version: TableVersion) { current = version }
}

/// A run in which a table of customers is followed: it knows some of them from the beginning, others come and go, one
/// never comes. Records of those that it does not know wait. All customers are the same to the judgement, so that only
/// that depends on the table. The draws are of a stream of their own.
struct TableRun {
  var random: SeededRandom
  /// Records wait until the end of the run; or so shortly that some are given up, or find no room.
  let waitsForEver: Bool
  let isMasked: Bool
  private(set) var known: Set<String> = []
  /// Those that were unknown at some time.
  private(set) var wasUnknown: Set<String> = []
  var newest: TableVersion!
  /// By machine: what it has seen, and when it will look again.
  private var machines: [Int: (tables: SimulatedTables, look_ms: Int64)] = [:]
  /// By place: which record of the history stands there, and its customer.
  private(set) var arrived: [String: (record: Int, party: String, topic: String)] = [:]
  private(set) var early = 0
  /// Places of the records that were given up.
  var refused: Set<String> = []
  /// Records that wait at the end.
  var waiting = 0

  static let never = "P4"
  static let all = ["P0", "P1", "P2", "P3"]

  init(seed: UInt64) {
    random = SeededRandom(seed: seed, stream: 0x7461_626c)
    waitsForEver = random.below(2) == 0
    isMasked = random.below(2) == 0
    for party in TableRun.all where random.below(2) == 0 { known.insert(party) }
    wasUnknown = Set(TableRun.all + [TableRun.never]).subtracting(known)
  }

  var template: Result<Configuration, any Error> {
    isMasked ? ClusterSimulation.maskedTemplate : ClusterSimulation.tableTemplate
  }

  /// The customer of a record: the same whenever it comes.
  func party(_ record: String) -> String {
    let number = Array(record.utf8).reduce(UInt64(17)) { ($0 &* 31) &+ UInt64($1) } % 13
    return number == 12 ? TableRun.never : TableRun.all[Int(number % 4)]
  }

  mutating func noteArrival(_ input: ClusterSimulation.Input, _ place: TopicPartition, _ offset: Int64) {
    guard let record = input.record else { return }
    if !known.contains(input.party) { early += 1 }
    arrived["\(place.topic)[\(place.partition)]@\(offset)"] = (record, input.party, input.topic)
  }

  /// What a machine sees from now on: a process that starts reads what is there.
  mutating func seen(byMachine at: Int) -> SimulatedTables {
    let made = SimulatedTables(newest)
    machines[at] = (made, 0)
    return made
  }

  /// Customers come, and now and then go.
  mutating func change() {
    let party = random.pick(TableRun.all)
    if known.contains(party), random.below(3) == 0 {
      known.remove(party)
      wasUnknown.insert(party)
    } else {
      known.insert(party)
    }
  }

  mutating func complete() { known = Set(TableRun.all) }

  /// Each machine looks in its own time.
  mutating func look(now_ms: Int64, isForced: Bool) {
    for at in machines.keys.sorted() where isForced || now_ms >= machines[at]!.look_ms {
      machines[at]!.tables.current = newest
      machines[at]!.look_ms = now_ms + Int64(random.below(3_000))
    }
  }

  func refusedCount(_ topic: String) -> Int { refused.count { arrived[$0]?.topic == topic } }
}

extension ClusterSimulation {
  static let tableYAML =
    yaml.replacing("customer: note", with: "customer: {path: party, table: customers}")
    .replacing(
      "reverses: reverses\n", with: "reverses: reverses\n      customer: {path: party, table: customers}\n")
      + """

      tables: {customers: {topic: sim.customers}}
      master_data: {enabled: true, hold: {time: 1h}}
      """
  static let tableTemplate = Result {
    try Configuration.parse(yaml: tableYAML, file: "simulation", directory: ".", environment: [:])
  }
  /// With numbers of documents as hashes.
  static let maskedTemplate = Result {
    try Configuration.parse(
      yaml: tableYAML.replacing("document: document", with: "document: {path: document, mask: hash}")
        .replacing(" journal: journal", with: " journal: {path: journal, mask: hash}")
        .replacing("constant: \"-\"}, line]}", with: "constant: \"-\"}, line], mask: hash}")
        .replacing("reverses: reverses", with: "reverses: {path: reverses, mask: hash}")
        + "\nmasking: {key: {env: MASK}}",
      file: "simulation", directory: ".", environment: ["MASK": "a key of thirty-two bytes, or more"])
  }

  func beginTables() throws {
    guard var run = tables else { return }
    // At least once a routed record may come twice, and one of the two may be given up.
    let waitsForEver =
      run.waitsForEver || rawPartitions > 0 && configuration.kafka.delivery == .atLeastOnce
    configuration.hold!.time_ms = waitsForEver ? 10_000 * 3_600_000 : Int64(1 + run.random.below(120)) * 60_000
    if !waitsForEver, run.random.below(3) == 0 { configuration.hold!.records = 1 + run.random.below(3) }
    hash = configuration.matchingHash
    tables = run
    try writeTables()
  }

  /// A version stands in its topic before anybody sees it.
  private func writeTables() throws {
    let entries = Dictionary(uniqueKeysWithValues: tables!.known.map { ($0, "C") })
    tables!.newest = TableVersion(try configuration.replacingTables(["customers": entries]))
    for (key, value) in tables!.newest.messages {
      cluster.log(TopicPartition(configuration.tablesTopic, 0)).append(.init(key: key, value: value))
    }
    trace("the table knows \(tables!.known.sorted())")
  }

  func changeTables() {
    guard tables != nil else { return }
    if tables!.random.below(100) < 7 {
      tables!.change()
      try! writeTables()
    }
    tables!.look(now_ms: cluster.now_ms, isForced: false)
  }

  /// In the end it knows all but one.
  func completeTables() {
    guard tables != nil else { return }
    tables!.complete()
    try! writeTables()
    tables!.look(now_ms: cluster.now_ms, isForced: true)
  }

  /// The history without the records that were never taken in.
  var judged: History {
    guard let tables else { return history }
    var gone = Set(tables.refused.compactMap { tables.arrived[$0]?.record })
    for (record, party, _) in tables.arrived.values where party == TableRun.never { gone.insert(record) }
    var judged = History()
    judged.events = history.events.indices.filter { !gone.contains($0) }.map { history.events[$0] }
    judged.postings = history.postings.indices.filter { !gone.contains(history.events.count + $0) }
      .map { history.postings[$0] }
    return judged
  }

  /// No number of a journal or a document leaves as it came.
  private func checkMasks() {
    let plain = Set(
      history.postings.flatMap { [$0.journal, $0.document, $0.reverses] } + history.events.map(\.document)
    ).filter { !$0.isEmpty }
    for partition in 0..<partitions {
      for (_, _, value) in cluster.readCommitted(TopicPartition(configuration.breaksTopic, Int32(partition))) {
        let made = value.flatMap { try? JSONSerialization.jsonObject(with: Data($0)) } as? [String: Any]
        let evidence = made?["evidence"] as? [String: Any]
        for journal in evidence?["journals"] as? [String] ?? [] where plain.contains(journal) {
          fail("\(made?["id"] ?? "a break") shows \(journal), which is masked")
        }
      }
    }
  }

  /// Records wait as long as they are to and no longer: they are taken in when the table knows them, or given up.
  func checkTables(isWhole: Bool) {
    let tables = tables!
    outcome.early = tables.early
    for place in tables.refused.sorted() {
      guard let (_, party, _) = tables.arrived[place] else {
        fail("there is a dead letter of \(place), and no record")
        continue
      }
      if !tables.wasUnknown.contains(party) { fail("\(place) was refused, and \(party) was always known") }
    }
    if tables.isMasked { checkMasks() }
    guard isWhole else { return }
    let never = Set(tables.arrived.filter { $0.value.party == TableRun.never }.keys)
    let isForEver = configuration.hold!.time_ms > 1_000 * 3_600_000
    if isForEver {
      for place in tables.refused.sorted() { fail("\(place) was given up, and its time was not over") }
      let mayRepeat = rawPartitions > 0 && configuration.kafka.delivery == .atLeastOnce
      if mayRepeat ? tables.waiting < never.count : tables.waiting != never.count {
        fail("\(tables.waiting) records wait at the end instead of \(never.count)")
      }
    } else {
      for place in never.subtracting(tables.refused).sorted() { fail("\(place) was to be given up, and is not") }
      if tables.waiting != 0 { fail("\(tables.waiting) records wait at the end, and their time is over") }
    }
  }
}
