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
  /// Posting policies are followed too. They change as often, and in the end are the standard ones, by which everything is
  /// judged then.
  let hasPolicies: Bool
  private var policyRandom: SeededRandom
  private(set) var policies: [String: String] = [:]
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
    policyRandom = SeededRandom(seed: seed, stream: 0x706f_6c69)
    hasPolicies = policyRandom.below(3) > 0
    for party in TableRun.all where random.below(2) == 0 { known.insert(party) }
    wasUnknown = Set(TableRun.all + [TableRun.never]).subtracting(known)
  }

  var template: Result<Configuration, any Error> {
    switch (isMasked, hasPolicies) {
    case (true, true): ClusterSimulation.maskedPolicyTemplate
    case (true, false): ClusterSimulation.maskedTemplate
    case (false, true): ClusterSimulation.policyTemplate
    case (false, false): ClusterSimulation.tableTemplate
    }
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

  /// Another row, or one less: in the beginning there is none.
  mutating func changePolicies(_ source: TableSource, firstDay: Int32) throws {
    let events = [OrderEventKind.invoiced, .invoiced, .credited, .paid]
    let roles = [AccountRole.receivable, .revenue, .deferred, .tax, .returns, .cash]
    if policyRandom.below(3) == 0, let gone = policies.keys.sorted().first {
      policies[gone] = nil
      return
    }
    let event = policyRandom.pick(events).name
    let role = policyRandom.pick(roles).name
    let component = policyRandom.pick([AmountComponent.net, .tax, .gross, .applied]).name
    let sign = policyRandom.pick(["debit", "credit", "none"])
    let day = firstDay + Int32(policyRandom.below(4)) - 1
    let from = policyRandom.below(2) == 0 ? "" : formatDate(day)
    let row =
      #"{"event":"\#(event)","role":"\#(role)","component":"\#(component)","sign":"\#(sign)","valid_from":"\#(from)"}"#
    let entry = try source.entry(key: Array("\(policyRandom.below(9))".utf8), value: Array(row.utf8))
    policies[entry.key] = entry.value
  }

  mutating func complete() {
    known = Set(TableRun.all)
    policies = [:]
  }

  mutating func mayChangePolicies() -> Bool { hasPolicies && policyRandom.below(100) < 7 }

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
  static let policyYAML = "\nposting_policies: {topic: sim.policies}\n"
  static let policyTemplate = Result {
    try Configuration.parse(yaml: tableYAML + policyYAML, file: "simulation", directory: ".", environment: [:])
  }
  static let tableTemplate = Result {
    try Configuration.parse(yaml: tableYAML, file: "simulation", directory: ".", environment: [:])
  }
  /// With numbers of documents as hashes.
  static let maskedTemplate = Result { try masked(tableYAML) }
  static let maskedPolicyTemplate = Result { try masked(tableYAML + policyYAML) }

  private static func masked(_ yaml: String) throws -> Configuration {
    try Configuration.parse(
      yaml: yaml.replacing("document: document", with: "document: {path: document, mask: hash}")
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
    var entries = ["customers": Dictionary(uniqueKeysWithValues: tables!.known.map { ($0, "C") })]
    if let source = policySource { entries[source.name] = tables!.policies }
    tables!.newest = TableVersion(try configuration.replacingTables(entries))
    for (key, value) in tables!.newest.messages {
      cluster.log(TopicPartition(configuration.tablesTopic, 0)).append(.init(key: key, value: value))
    }
    trace("the table knows \(tables!.known.sorted()); \(tables!.policies.count) posting policies")
  }

  private var policySource: TableSource? { configuration.tableSources.first { $0.kind == .policies } }

  func changeTables() {
    guard tables != nil else { return }
    var hasChanged = false
    if tables!.random.below(100) < 7 {
      tables!.change()
      hasChanged = true
    }
    if tables!.mayChangePolicies() {
      try! tables!.changePolicies(policySource!, firstDay: day(ofMilliseconds: base_ms) - 1)
      hasChanged = true
    }
    if hasChanged { try! writeTables() }
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
