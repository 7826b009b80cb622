import Aggregates
import Configuration
import Domain
import Foundation
import Kafka
import Pipeline

extension ClusterSimulation {
  private struct Name: Hashable {
    var source: String
    var month: String
  }

  /// What the tasks have counted of each source, and what the second stage has told of it, are the oracle's counts.
  func checkQuality(_ breaks: [String: BreakMessage]) {
    let (counted, control, periods, sources) = countedQuality()
    checkPeriods(periods, control)
    let naive = NaiveQuality(judged)
    for (source, right) in zip(configuration.sources, [naive.orders, naive.ledger]) {
      // At least once a routed record may come again: a repetition more, and nothing else.
      let mayRepeat = source.isRouted && configuration.kafka.delivery == .atLeastOnce
      let months = Set(right.keys).union(counted.keys.filter { $0.source == source.name }.map(\.month))
      var deadLetters: Int64 = 0
      var refused: Int64 = 0
      for month in months.sorted() {
        let counts = counted[Name(source: source.name, month: month)] ?? QualityCounts()
        deadLetters += counts[.schemaInvalid]
        refused += counts[.masterDataMissing]
        var found = NaiveQuality.Counts(counts)
        var expected = right[month] ?? NaiveQuality.Counts()
        if mayRepeat {
          found.records -= found.duplicates
          expected.records -= expected.duplicates
          (found.duplicates, expected.duplicates) = (0, 0)
        }
        if found != expected { fail("quality of \(source.name) in \(month): \(found) instead of \(expected)") }
        if counts[.superseded] != 0 || counts[.flagged] != 0
          || counts.deadLetters != counts[.schemaInvalid] + counts[.masterDataMissing]
        {
          fail("quality of \(source.name) in \(month) counts what never was")
        }
        if counts.waits > counts[.matched] + counts[.duplicates] {
          fail("quality of \(source.name) in \(month): \(counts.waits) waits for \(counts[.matched]) records")
        }
      }
      if let tables, !mayRepeat, refused != Int64(tables.refusedCount(source.originalTopic)) {
        fail(
          "quality of \(source.name): \(refused) refused, and \(tables.refusedCount(source.originalTopic)) dead letters"
        )
      }
      let right = Int64(corruptedTopics.count { $0 == source.originalTopic })
      if mayRepeat ? deadLetters < right : deadLetters != right {
        fail("quality of \(source.name): \(deadLetters) dead letters instead of \(right)")
      }
    }
    let late = counted.values.reduce(0) { $0 + $1[.late] }
    if late != Int64(lateCount) { fail("quality: \(late) late records, and the tasks say \(lateCount)") }
    let oracle = NaiveOracle(judged)
    checkControl("all sources", control, of: oracle.orders, oracle, naive, breaks)
    // An order counts for every source that has a record in it.
    let orders = [Set(judged.events.map(\.order)), Set(judged.postings.map(\.order))]
    for (source, orders) in zip(configuration.sources, orders) {
      checkControl(
        source.name, sources[source.name] ?? QualityControl(), of: orders, oracle, naive,
        breaks.filter { orders.contains($0.value.order) })
    }
    for name in sources.keys where !configuration.sources.contains(where: { $0.name == name }) {
      fail("quality: orders of a source \(name), which is none")
    }
    if hasTotals { checkToldQuality(counted, control, periods, sources) }
  }

  /// How orders stand: all are due at the end, those without an open break tie out, every amount is the oracle's, and every
  /// difference is explained.
  private func checkControl(
    _ name: String, _ control: QualityControl, of orders: Set<String>, _ oracle: NaiveOracle, _ naive: NaiveQuality,
    _ breaks: [String: BreakMessage]
  ) {
    let open = breaks.values.filter(\.isOpen)
    let tiedOut = orders.subtracting(open.map(\.order))
    if control.closedOrders != Int64(orders.count) || control.tiedOutOrders != Int64(tiedOut.count) {
      fail(
        "quality of \(name): \(control.tiedOutOrders) of \(control.closedOrders) orders tie out, right is "
          + "\(tiedOut.count) of \(orders.count)")
    }
    if control.openBreaks != Int64(open.count) {
      fail("quality of \(name): \(control.openBreaks) open breaks, right is \(open.count)")
    }
    var sides: [NaiveOracle.Role: [Int128]] = [:]
    for (side, balance) in oracle.balances where orders.contains(side.order) {
      let role = NaiveOracle.Role(role: side.role, currency: side.currency)
      let sum = sides[role] ?? [0, 0]
      sides[role] = [sum[0] + Int128(balance.expected), sum[1] + Int128(balance.posted)]
    }
    for line in control.lines {
      for role in AccountRole.allCases {
        let right = sides.removeValue(forKey: .init(role: role, currency: line.currency)) ?? [0, 0]
        let found = [line.expected[Int(role.rawValue)], line.posted[Int(role.rawValue)]]
        if found != right {
          fail("quality of \(name): \(role.name) \(line.currency) is \(found), right is \(right)")
        }
      }
    }
    for (role, right) in sides where right != [0, 0] {
      fail("quality of \(name): \(role) is missing, right is \(right)")
    }
    // Where the events of an order were not all taken in, postings in another currency by mistake may be all there is of it.
    let whole = Dictionary(grouping: history.events, by: \.order).mapValues(\.count)
    let taken = Dictionary(grouping: judged.events, by: \.order).mapValues(\.count)
    guard
      judged.postings.allSatisfy({ $0.currency == NaiveQuality.currency || whole[$0.order] == taken[$0.order] })
    else { return }
    func value(_ orders: Set<String>) -> Int128 { orders.reduce(0) { $0 + (naive.values[$1] ?? 0) } }
    // The orders of a history are in one currency; postings may be in another one by mistake.
    let sums =
      control.lines.first { $0.currency == NaiveQuality.currency } ?? QualityControl.Line(NaiveQuality.currency)
    if sums.closed != value(orders) || sums.tiedOut != value(tiedOut) {
      fail(
        "quality of \(name): \(sums.tiedOut) of \(sums.closed) tie out, right is \(value(tiedOut)) of \(value(orders))")
    }
    for line in control.lines {
      let isOther = line.currency != NaiveQuality.currency
      if line.controlDifference != 0 || isOther && (line.closed != 0 || line.tiedOut != 0) {
        fail("quality of \(name): the control line \(line) is not explained")
      }
    }
    // Breaks of one order share its differences between them; where each has one alone, that explains all of its role.
    guard Set(breaks.values.filter(\.isReported).map(\.order)).count == breaks.values.count(where: \.isReported) else {
      return
    }
    let right = open.reduce(Int128(0)) { sum, made in
      guard let role = AccountRole(name: made.role), made.currency == NaiveQuality.currency.code else { return sum }
      let side = NaiveOracle.Side(order: made.order, role: role, currency: NaiveQuality.currency)
      return sum + Int128((oracle.balances[side] ?? .init()).delta.magnitude)
    }
    if sums.open != right { fail("quality of \(name): \(sums.open) in open breaks, right is \(right)") }
  }

  private typealias Counted = (
    months: [Name: QualityCounts], control: QualityControl, periods: [Int32: QualityControl],
    sources: [String: QualityControl]
  )

  /// The newest partial of each task, added up: by source and month, of all sources, by period and by source.
  private func countedQuality() -> Counted {
    var newest: [Name: [Int32: QualityPartial]] = [:]
    for partition in 0..<partitions {
      for (_, key, value) in cluster.readCommitted(TopicPartition(configuration.partialsTopic, Int32(partition))) {
        guard let key, let value, key.withUnsafeBytes({ QualityPartial.isKey($0) }) else { continue }
        let partial = key.withUnsafeBytes { key in
          value.withUnsafeBytes { try? QualityPartial(key: key, value: $0) }
        }
        guard let partial else {
          fail("a partial of quality cannot be read")
          continue
        }
        let name =
          partial.source == QualityKey.allSources || partial.period == QualityKey.allPeriods
          ? Name(source: partial.source, month: FinanceEncoder.period(partial.period))
          : Name(source: partial.source, month: NaiveQuality.month(ofPeriod: partial.period))
        let known = newest[name]?[partial.task]?.epoch ?? 0
        if configuration.kafka.delivery == .exactlyOnce, partial.epoch <= known {
          fail("quality of \(name.source), epoch \(partial.epoch) of task \(partial.task) comes after \(known)")
        }
        if partial.epoch > known { newest[name, default: [:]][partial.task] = partial }
      }
    }
    var control = QualityControl()
    var periods: [Int32: QualityControl] = [:]
    var sources: [String: QualityControl] = [:]
    for (name, parts) in newest
    where name.source == QualityKey.allSources || name.month == FinanceEncoder.period(QualityKey.allPeriods) {
      newest[name] = nil
      for partial in parts.values {
        guard let part = partial.control else {
          fail("a partial of all sources says nothing of them")
          continue
        }
        if partial.source != QualityKey.allSources {
          sources[partial.source, default: QualityControl()] += part
        } else if partial.period == QualityKey.allPeriods {
          control += part
        } else {
          periods[partial.period, default: QualityControl()] += part
        }
      }
    }
    let months = newest.mapValues { $0.values.reduce(into: QualityCounts()) { $0 += $1.counts } }
    return (months, control, periods, sources)
  }

  /// Role by role the control totals of the periods add up to those over all of them.
  private func checkPeriods(_ periods: [Int32: QualityControl], _ control: QualityControl) {
    var sum = QualityControl()
    for part in periods.values { sum += part }
    func roles(_ control: QualityControl) -> [String: [Int128]] {
      var found: [String: [Int128]] = [:]
      for line in control.lines {
        for role in AccountRole.allCases {
          let at = Int(role.rawValue)
          found["\(role.name) \(line.currency.code)"] = [
            line.expected[at], line.posted[at], line.openDifference[at], line.acceptedDifference[at],
          ]
        }
      }
      return found.filter { $0.value.contains { $0 != 0 } }
    }
    let (found, right) = (roles(sum), roles(control))
    for side in Set(found.keys).union(right.keys).sorted() where found[side] != right[side] {
      fail(
        "control totals of \(side): the periods come to \(found[side] ?? []), over all they are \(right[side] ?? [])")
    }
  }

  /// The last message of each source and month says what the tasks have counted, and revisions never go back.
  private func checkToldQuality(
    _ counted: [Name: QualityCounts], _ control: QualityControl, _ periods: [Int32: QualityControl],
    _ sources: [String: QualityControl]
  ) {
    var told: [Name: [String: Any]] = [:]
    for partition in 0..<partitions {
      for (_, _, value) in cluster.readCommitted(TopicPartition(configuration.qualityTopic, Int32(partition))) {
        guard let value, let message = try? JSONSerialization.jsonObject(with: Data(value)) as? [String: Any],
          let source = message["source"] as? String, let period = message["period"] as? String,
          let revision = message["revision"] as? Int
        else {
          fail("a message of the quality topic cannot be read")
          continue
        }
        let isAll = source == QualityKey.allSources
        let name = Name(
          source: source, month: isAll ? period : Int32(period).map { NaiveQuality.month(ofPeriod: $0) } ?? period)
        if let before = told[name]?["revision"] as? Int, before > revision {
          fail("quality of \(source) in \(period): revision \(revision) comes after \(before)")
        }
        told[name] = message
      }
    }
    /// What a message says of the amounts: in minor units, by currency.
    func amounts(_ message: [String: Any], _ field: String) -> [String: Int128] {
      var found: [String: Int128] = [:]
      for entry in message["amounts"] as? [[String: Any]] ?? [] {
        let value = Int128((entry[field] as? String ?? "?").replacing(".", with: ""))
        if value != 0 { found[entry["currency"] as? String ?? "?"] = value ?? -1 }
      }
      return found
    }
    let sums: [(String, (QualityControl.Line) -> Int128)] = [
      ("total", { $0.closed }), ("matched", { $0.tiedOut }), ("open_breaks", { $0.open }),
      ("control_difference", { $0.controlDifference }),
    ]
    for (source, control) in [(QualityKey.allSources, control)] + sources.sorted(by: { $0.key < $1.key }) {
      let all = told.removeValue(forKey: Name(source: source, month: FinanceEncoder.period(QualityKey.allPeriods)))
      let message = all ?? [:]
      for (field, right) in [
        ("orders_closed", control.closedOrders), ("orders_tied_out", control.tiedOutOrders),
        ("open_break_count", control.openBreaks),
      ] where message[field] as? Int ?? 0 != Int(right) {
        fail("the second stage has told of \(source): \(message[field] ?? "no") \(field), right is \(right)")
      }
      for (field, sum) in sums {
        let right = Dictionary(uniqueKeysWithValues: control.lines.map { ($0.currency.code, sum($0)) }).filter {
          $0.value != 0
        }
        if amounts(message, field) != right {
          fail("the second stage has told of \(source): \(field) \(amounts(message, field)), right is \(right)")
        }
      }
    }
    for (period, control) in periods {
      let name = Name(source: QualityKey.allSources, month: FinanceEncoder.period(period))
      let message = told.removeValue(forKey: name) ?? [:]
      let right = Dictionary(uniqueKeysWithValues: control.lines.map { ($0.currency.code, $0.controlDifference) })
      if amounts(message, "control_difference") != right.filter({ $0.value != 0 }) {
        fail(
          "the second stage has told of \(period): \(amounts(message, "control_difference")) in control totals, right is "
            + "\(right)")
      }
    }
    for (name, counts) in counted {
      let message = told.removeValue(forKey: name) ?? [:]
      let right = NaiveQuality.Counts(counts)
      if amounts(message, "total") != right.total || amounts(message, "matched") != right.matchedTotal {
        fail("the second stage has told of \(name.source): \(message["amounts"] ?? "no amounts"), right is \(right)")
      }
      for (field, right) in [
        ("records", counts[.records]), ("matched", counts[.matched]), ("unmatched", counts.unmatched),
        ("duplicates", counts[.duplicates]), ("late", counts[.late]), ("dead_letters", counts.deadLetters),
      ] where message[field] as? Int != Int(right) {
        fail("the second stage has told of \(name.source): \(message[field] ?? "no") \(field), right is \(right)")
      }
    }
    for name in told.keys { fail("the second stage has told of \(name), of which nobody has counted anything") }
  }
}
