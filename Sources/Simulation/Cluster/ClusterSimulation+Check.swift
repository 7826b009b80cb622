import Aggregates
import Checkpoints
import Configuration
import Domain
import Foundation
import Kafka
import Logging
import Matching
import Pipeline

/// What is held against the oracle after a run.
extension ClusterSimulation {
  // MARK: - The check

  func fail(_ text: String) {
    if outcome.failures.count < 20 { outcome.failures.append(text) }
  }

  /// The epochs and the breaks as readers see them, for the trace of a failure.
  func traceTopics() {
    guard options.isTracing else { return }
    for partition in Int32(0)..<Int32(partitions) {
      for (offset, _, value) in cluster.readCommitted(TopicPartition(configuration.epochsTopic, partition)) {
        let record = value!.withUnsafeBytes { try? EpochRecord(bytes: $0) }
        guard let record else { continue }
        trace(
          "epoch \(record.number) of partition \(partition), offset \(offset), next \(record.next), "
            + "\(record.outputCount) outputs: \(record.events.suffix(40))")
      }
    }
    for partition in Int32(0)..<Int32(partitions) {
      for (_, _, value) in cluster.readCommitted(TopicPartition(configuration.breaksTopic, partition)) {
        trace("break: " + String(decoding: value ?? [], as: UTF8.self))
      }
      for source in configuration.sources {
        for (offset, key, value) in cluster.readCommitted(TopicPartition(source.topic, partition)) {
          trace(
            "\(source.name)[\(partition)] \(offset) \(String(decoding: key ?? [], as: UTF8.self)): "
              + String(decoding: value ?? [], as: UTF8.self))
        }
      }
      let told = cluster.readCommitted(TopicPartition(configuration.totalsTopic, partition))
      for (offset, _, value) in told {
        trace("totals[\(partition)] \(offset): \(String(decoding: value ?? [], as: UTF8.self))")
      }
      guard !isInDirectory else { continue }
      for (offset, key, value) in cluster.readCommitted(TopicPartition(configuration.checkpointsTopic, partition)) {
        trace(
          "checkpoints[\(partition)] \(offset) \(String(decoding: key ?? [], as: UTF8.self)): "
            + (value.map { "\($0.count) bytes" } ?? "deleted"))
      }
    }
  }

  func check() {
    traceTopics()
    let offsets = cluster.group(configuration.kafka.group).offsets
    var isWhole = true
    for topic in configuration.inputTopics {
      for partition in 0..<partitions {
        let place = TopicPartition(topic, Int32(partition))
        let log = cluster.log(place)
        let rest = (offsets[place]?.offset ?? 0)..<max(offsets[place]?.offset ?? 0, log.stable)
        // What a router tells again of how far it has come may come when everybody is leaving.
        let isRouted = configuration.sources.contains { $0.isRouted && $0.topic == topic }
        let isLeft = rest.contains { offset in
          log.isReadable(offset)
            && !(isRouted
              && log.entries[Int(offset)].value.map { $0.withUnsafeBufferPointer(RoutedProgress.isOne) } == true)
        }
        if isLeft {
          isWhole = false
          fail("\(place) has not been read to its end")
        }
      }
    }
    if let raw = configuration.sources[1].routedFrom, !checkRouting(raw) { isWhole = false }
    let breaks = checkRevisions()
    checkDeadLetters()
    if tables != nil { checkTables(isWhole: isWhole) }
    guard isWhole else { return }
    if hasBacklog, lateCount > 0 { fail("\(lateCount) records are late, and none was") }
    checkAgainstOracle(breaks)
    if hasActions { checkDecisions(breaks) }
    if hasTotals { checkTotals(breaks) }
    checkUnique(breaks)
    if configuration.quality != nil {
      // What the second stage finds is outside of what ties out.
      checkQuality(breaks.filter { !Auditor.isOfSecondStage(id: $0.value.id, order: $0.value.order) })
    }
    checkAgainstReplay(offsets)
  }

  /// Every record of a routed source stands in the routing topic, once; one that moves a row once for each of the two
  /// orders.
  /// - Returns: whether none is missing.
  func checkRouting(_ raw: String) -> Bool {
    var routed: [TopicPartition: [Int64: Int]] = [:]
    var left: [TopicPartition: [Int64: Int]] = [:]
    for partition in 0..<partitions {
      let place = TopicPartition(configuration.sources[1].topic, Int32(partition))
      for (_, _, value) in cluster.readCommitted(place) {
        // What the router tells of itself.
        if value?.first == 2 { continue }
        guard let value, value.count >= 18 else {
          fail("a record of the routing topic has no envelope")
          continue
        }
        let (from, offset) = value.withUnsafeBytes {
          (
            Int32(littleEndian: $0.loadUnaligned(fromByteOffset: 2, as: Int32.self)),
            Int64(littleEndian: $0.loadUnaligned(fromByteOffset: 6, as: Int64.self))
          )
        }
        if value[1] & 8 != 0 {
          left[TopicPartition(raw, from), default: [:]][offset, default: 0] += 1
        } else {
          routed[TopicPartition(raw, from), default: [:]][offset, default: 0] += 1
        }
      }
    }
    var isWhole = true
    for partition in 0..<rawPartitions {
      let place = TopicPartition(raw, Int32(partition))
      let sent = Set(cluster.readCommitted(place).map(\.offset))
      let counts = routed[place] ?? [:]
      for offset in sent.subtracting(counts.keys).sorted() {
        isWhole = false
        fail("\(place) offset \(offset) has not been routed")
      }
      for offset in Set(counts.keys).subtracting(sent).sorted() { fail("\(place) offset \(offset) is no record") }
      guard configuration.kafka.delivery == .exactlyOnce else { continue }
      for counts in [counts, left[place] ?? [:]] {
        for (offset, count) in counts.sorted(by: { $0.key < $1.key }) where count > 1 {
          fail("\(place) offset \(offset) has been routed \(count) times")
        }
      }
    }
    return isWhole
  }

  /// The last that the second stage has told of each cell is the number of open breaks.
  func checkTotals(_ breaks: [String: BreakMessage]) {
    var open: [String: Int] = [:]
    for made in breaks.values where made.isOpen {
      open["open_breaks:" + made.type, default: 0] += 1
    }
    var told: [String: Int] = [:]
    for partition in 0..<partitions {
      for (_, _, value) in cluster.readCommitted(TopicPartition(configuration.totalsTopic, Int32(partition))) {
        guard let value, let total = try? JSONSerialization.jsonObject(with: Data(value)) as? [String: Any],
          let cell = total["cell"] as? String, let sum = total["value"] as? Int
        else {
          fail("a total cannot be read")
          continue
        }
        told[cell] = sum
      }
    }
    if told.filter({ $0.value != 0 }) != open { fail("the second stage has told \(told), and the breaks are \(open)") }
  }

  /// The duplicates are those that a comparison of each event with each finds; where records are forgotten, some of them.
  func checkUnique(_ breaks: [String: BreakMessage]) {
    let found = breaks.values.filter { Auditor.isOfSecondStage(id: $0.id, order: $0.order) }
    guard let rule = configuration.sources[0].uniqueRules.first else {
      if !found.isEmpty { fail("there are duplicates, and no rule against them") }
      return
    }
    var seen: Set<String> = []
    let events = history.events.filter { seen.insert("\($0.order)|\($0.id)").inserted }
    var right: Set<String> = []
    for event in events {
      let isDuplicate = events.contains {
        ($0.time_ms, $0.order) < (event.time_ms, event.order) && event.time_ms - $0.time_ms <= rule.within_ms
          && ClusterSimulation.note($0) == ClusterSimulation.note(event)
      }
      if isDuplicate { right.insert("\(event.order)|\(event.id)") }
    }
    let named = Set(found.map { "\($0.order)|\($0.evidence.events.joined())" })
    if named.count != found.count { fail("a duplicate has two breaks") }
    outcome.duplicates += named.count
    let isForgetting = seed % 4 == 0
    for one in right.subtracting(named).sorted() where !isForgetting {
      fail("\(one) is a duplicate, and no break says so")
    }
    for one in named.subtracting(right).sorted() { fail("\(one) has a break as a duplicate, and is none") }
  }

  /// The newest state of each break; and that the revisions of each are 1, 2, 3, … as a reader sees them.
  func checkRevisions() -> [String: BreakMessage] {
    var newest: [String: BreakMessage] = [:]
    var seen: [String: [[UInt8]]] = [:]
    for partition in 0..<partitions {
      for (offset, _, value) in cluster.readCommitted(TopicPartition(configuration.breaksTopic, Int32(partition))) {
        guard let value, let made = try? JSONDecoder().decode(BreakMessage.self, from: Data(value)) else {
          fail("a message of the breaks topic cannot be read")
          continue
        }
        let known = seen[made.id]?.count ?? 0
        if made.revision == known + 1 {
          seen[made.id, default: []].append(value)
          newest[made.id] = made
        } else if made.revision <= known, configuration.kafka.delivery == .atLeastOnce {
          // A repetition, and the same bytes again; but for what the second stage tells of duplicates: its next owner may
          // have read more when it tells it again.
          let isOfSecondStage = Auditor.isOfSecondStage(id: made.id, order: made.order)
          if !isOfSecondStage, seen[made.id]![made.revision - 1] != value {
            fail("\(made.id) revision \(made.revision) comes twice with different contents")
          }
        } else {
          fail("\(made.id) has revision \(made.revision) after \(known), at offset \(offset) of partition \(partition)")
        }
      }
    }
    return newest
  }

  func checkDeadLetters() {
    var places: [String] = []
    var waited: [String] = []
    for partition in 0..<partitions {
      for (_, _, value) in cluster.readCommitted(TopicPartition(configuration.deadLettersTopic, Int32(partition))) {
        guard let value,
          let letter = try? JSONSerialization.jsonObject(with: Data(value)) as? [String: Any]
        else {
          fail("a dead letter cannot be read")
          continue
        }
        let place = "\(letter["topic"] ?? "")[\(letter["partition"] ?? "")]@\(letter["offset"] ?? "")"
        if letter["reason"] as? String == "MASTER_DATA_MISSING" { waited.append(place) } else { places.append(place) }
      }
    }
    let distinct = Set(places).count
    if distinct != corrupted { fail("\(distinct) dead letters instead of \(corrupted)") }
    tables?.refused = Set(waited)
    let count = places.count + waited.count
    if configuration.kafka.delivery == .exactlyOnce, count != distinct + Set(waited).count {
      fail("a dead letter comes twice")
    }
  }

  func checkAgainstOracle(_ breaks: [String: BreakMessage]) {
    let oracle = NaiveOracle(judged)
    func isReported(_ made: BreakMessage, beside types: Set<BreakType>) -> Bool {
      made.isReported && !types.contains { $0.rawValue == made.type }
    }
    let found = Set(breaks.values.filter { isReported($0, beside: NaiveOracle.noDifferences) }.map(\.order))
    let right = Set(oracle.differences.keys.map(\.order))
    for order in right.subtracting(found).sorted() { fail("order \(order) does not tie out, and no break says so") }
    let differing = breaks.values.filter {
      isReported($0, beside: NaiveOracle.noDifferences.union(NaiveOracle.perhapsDifferences))
    }
    for made in differing.sorted(by: { $0.id < $1.id }) where !right.contains(made.order) {
      fail("order \(made.order) ties out, and has the break \(made.id), \(made.state)")
    }
    // Every amount: Σ expected and Σ posted are the oracle's, and the breaks explain what lies between.
    var sums = oracle.sums
    for line in totals.lines {
      let right = sums.removeValue(forKey: .init(role: line.role, currency: line.currency)) ?? .init()
      if line.expected != right.expected || line.posted != right.posted {
        fail(
          "\(line.role.name) \(line.currency.code): the totals say \(line.expected) against \(line.posted), right is "
            + "\(right.expected) against \(right.posted)")
      }
      if line.pending != 0 { fail("\(line.role.name) \(line.currency.code): no break explains \(line.pending)") }
    }
    for (role, right) in sums where right != .init() {
      fail("\(role.role.name) \(role.currency.code) is missing in the totals")
    }
    var open: [String: Int64] = [:]
    for made in breaks.values where made.isOpen { open["open_breaks:" + made.type, default: 0] += 1 }
    var told: [String: Int64] = [:]
    for (cell, tasks) in partials() { told[cell] = tasks.values.reduce(0, +) }
    if told.filter({ $0.value != 0 }) != open { fail("the totals say \(told), and the breaks \(open)") }
    guard configuration.aggregates != nil else { return }
    let messages = (0..<partitions).flatMap {
      cluster.readCommitted(TopicPartition(configuration.partialsTopic, Int32($0))).map { (key: $0.1, value: $0.2) }
    }
    let books = NaiveBooks(
      judged, rates: configuration.policy.checks?.exchange == nil ? nil : ClusterSimulation.rates,
      countsQuantities: configuration.aggregates!.countsQuantities,
      inherited: configuration.aggregates!.inheritedDimensions == 0 ? [] : [0]
    ) { day in
      let (year, month, _) = civilFromDays(Int(day))
      return Int32(year * 100 + month)
    } dimensions: {
      $0.isEmpty ? [""] : $0
    }
    let settled = Set(breaks.values.filter { $0.isReported && !$0.isOpen }.map(\.order))
    var disputed: [NaiveOracle.Role: Int128] = [:]
    var uncertain: Set<NaiveOracle.Role> = []
    for (side, balance) in oracle.balances where balance.delta != 0 || settled.contains(side.order) {
      let cell = NaiveOracle.Role(role: side.role, currency: side.currency)
      if settled.contains(side.order) {
        uncertain.insert(cell)
      } else {
        disputed[cell, default: 0] += Int128(balance.delta.magnitude)
      }
    }
    let isAnyOpen = breaks.values.contains(where: \.isOpen)
    for problem in CellCheck.problems(
      messages, totals: totals, books: books, disputed: disputed, uncertain: uncertain, isAnyOpen: isAnyOpen)
    { fail(problem) }
  }

  func partials() -> [String: [String: Int64]] {
    var cells: [String: [String: Int64]] = [:]
    var epochs: [String: UInt64] = [:]
    for partition in 0..<partitions {
      for (_, key, value) in cluster.readCommitted(TopicPartition(configuration.partialsTopic, Int32(partition))) {
        let name = String(decoding: key ?? [], as: UTF8.self)
        // Cells have a check of their own; times are no totals.
        let isOther = key.map { $0.withUnsafeBytes { CellPartial.isKey($0) || QualityPartial.isKey($0) } } ?? false
        if key?.first == 0xc3 { continue }
        if isOther || name.hasPrefix("time:") { continue }
        let parts = name.split(separator: "|")
        let numbers = String(decoding: value ?? [], as: UTF8.self).split(separator: " ")
        guard parts.count == 2, numbers.count == 2, let number = Int64(numbers[0]), let epoch = UInt64(numbers[1])
        else {
          fail("a partial cannot be read")
          continue
        }
        if configuration.kafka.delivery == .atLeastOnce, epoch < epochs[name] ?? 0 { continue }
        if configuration.kafka.delivery == .exactlyOnce, epoch <= epochs[name] ?? 0 {
          fail("the partial \(name) of epoch \(epoch) comes after that of \(epochs[name]!)")
        }
        epochs[name] = epoch
        cells[String(parts[0]), default: [:]][String(parts[1])] = number
      }
    }
    return cells
  }

  /// An undisturbed replay of the recorded epochs, from the first, gives what readers see: the same messages, no others.
  func checkAgainstReplay(_ offsets: [TopicPartition: CommittedOffset]) {
    let process = SimulatedProcess(number: -1, scheduler: scheduler)
    let environment = SimulatedEnvironment(
      process, base_ms: base_ms, files: SimulatedFiles(process, machines[0].disk), defect: nil)
    var derived: [[UInt8]: [[UInt8]]] = [:]
    var isComplete = true
    for partition in Int32(0)..<Int32(partitions) {
      let committed = configuration.sources.map { offsets[TopicPartition($0.topic, partition)] }
      do {
        let auditor = Auditor(configuration, environment: environment, reader: SimulatedReader(process), hash: hash)
        let first: UInt64 = isTrimming ? .max : 0
        // Where retention has taken the first epochs, the newest checkpoint must still lead to the end.
        let summary = try auditor.audit(partition: partition, committed: committed, epochs: first ... .max) { output in
          if output.topic == .breaks { derived[output.key!, default: []].append(output.value) }
        }
        outcome.epochs += summary.epochs
        if isTrimming { isComplete = false }
      } catch {
        fail("replay of partition \(partition): \(error)")
        isComplete = false
      }
    }
    guard isComplete else { return }
    var sent: [[UInt8]: [[UInt8]]] = [:]
    for partition in 0..<partitions {
      for (_, key, value) in cluster.readCommitted(TopicPartition(configuration.breaksTopic, Int32(partition))) {
        if Auditor.isOfSecondStage(value!) { continue }
        if configuration.kafka.delivery == .atLeastOnce, sent[key!]?.contains(value!) == true { continue }
        sent[key!, default: []].append(value!)
      }
    }
    if sent != derived {
      for key in Set(sent.keys).union(derived.keys) where sent[key] != derived[key] {
        fail(
          "\(String(decoding: key, as: UTF8.self)): \(sent[key]?.count ?? 0) messages were sent, a replay gives "
            + "\(derived[key]?.count ?? 0)")
      }
    }
  }
}
