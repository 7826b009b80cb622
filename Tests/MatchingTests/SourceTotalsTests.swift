import Aggregates
import Domain
import Simulation
import Testing

@testable import Matching

/// How the orders of each source stand.
@Suite struct SourceTotalsTests {
  let r = Records()
  let now = t0 + 10_000 * hour
  /// More than a byte of a tie's set has bits for.
  static let count = 11

  static func matcher(_ policy: MatchingPolicy = DisputeTests.policy(), keeps: Bool = true) -> Matcher {
    var matcher = Matcher(policy: policy, dimensionCount: 0)
    matcher.quality = TaskQuality(sourceCount: count)
    matcher.tracksPeriods = true
    if keeps { matcher.tellSources(count) }
    return matcher
  }

  /// All that a control says; without since when breaks have been open, which says when they were looked at.
  static func text(_ control: QualityControl, ages: Bool = false) -> String {
    var text = "\(control.tiedOutOrders)/\(control.closedOrders) \(control.openBreaks)"
    for line in control.lines {
      text += "; \(line.currency) \(line.tiedOut)/\(line.closed) \(line.open)"
      if ages { text += " \(line.aged) \(line.openedAt_s)" }
      for role in AccountRole.allCases {
        let at = Int(role.rawValue)
        let sums = [line.expected[at], line.posted[at], line.openDifference[at], line.acceptedDifference[at]]
        if sums.contains(where: { $0 != 0 }) {
          text += ", \(role.name) \(sums.map(String.init).joined(separator: " "))"
        }
      }
    }
    return text
  }

  func texts(_ matcher: borrowing Matcher) -> [Int: String] {
    var found: [Int: String] = [:]
    for (source, control) in matcher.sourceControls.enumerated() where !control.isZero {
      found[source] = SourceTotalsTests.text(control)
    }
    return found
  }

  /// As of another source.
  func of(_ source: UInt16, _ input: Input) -> Input {
    switch input {
    case .order(var event):
      event.position.source = source
      return .order(event)
    case .posting(var posting):
      posting.position.source = source
      return .posting(posting)
    }
  }

  private func restored(_ matcher: borrowing Matcher, keeps: Bool = true) throws -> Matcher {
    let state = WrittenState(matcher)
    var second = SourceTotalsTests.matcher(keeps: keeps)
    second.watermarks = matcher.watermarks
    try second.read(shard: state.shard)
    try second.read(sums: state.sums)
    return second
  }

  @Test func aBreakCountsForEverySourceOfItsOrder() {
    var matcher = Self.matcher()
    var outputs = MatchOutputs()
    matcher.take([.order(r.event("A", net: 100, gross: 100))], into: &outputs)
    #expect(texts(matcher) == [0: "0/0 0; USD 0/0 0, receivable 100 0 0 0, revenue -100 0 0 0"])
    // Another source has a payment of it, and the ledger half of the invoice; a second order is the ledger's alone.
    matcher.take([of(10, .order(r.event("A", .paid, applied: 30)))], into: &outputs)
    matcher.take(r.invoice("A", net: 60).map { .posting($0) }, into: &outputs)
    matcher.take(r.invoice("B", net: 5).map { .posting($0) }, into: &outputs)
    matcher.finish(outputs: &outputs)
    let found = texts(matcher)
    let all = matcher.sourceControls
    #expect(Set(found.keys) == [0, 1, 10] && found[0] == found[10])
    #expect(all[0].closedOrders == 1 && all[0].tiedOutOrders == 0 && all[1].closedOrders == 2)
    let whole = matcher.qualityControl!
    #expect(whole.closedOrders == 2 && whole.openBreaks == Int64(matcher.counters.open.reduce(0, +)))
    // The ledger has a record in both orders: it stands as all of them, ages with it.
    #expect(Self.text(all[1], ages: true) == Self.text(whole, ages: true))
    #expect(whole.openBreaks > all[0].openBreaks && all[0].openBreaks > 0)
    for control in all { for line in control.lines { #expect(line.controlDifference == 0) } }
  }

  /// The record that a source had in an order is taken back: its figures go with it.
  @Test func aSourceLeavesWithItsLastRecord() {
    var row = r.posting("A", .receivable, 40, line: 9)
    row.isUpsert = true
    var gone = row
    (gone.isDelete, gone.time_ms) = (true, row.time_ms + 1)
    let event = r.event("A", id: "e", net: 100, gross: 100)
    var (other, otherGone) = (event, event)
    other.isUpsert = true
    (otherGone.isDelete, otherGone.time_ms) = (true, event.time_ms + 1)
    let invoice = r.invoice("A", net: 60).map { Input.posting($0) }
    for isJudgedBetween in [false, true] {
      for isReversed in [false, true] {
        var matcher = Self.matcher()
        var outputs = MatchOutputs()
        // Rows that are deleted again: a posting, and an event with the id that it has in another source.
        var inputs =
          [
            Input.order(event), of(7, .order(other)), of(7, .order(otherGone)), of(9, .posting(row)),
            of(9, .posting(gone)),
          ] + invoice
        if isReversed { inputs.reverse() }
        var hadRow = false
        for input in inputs {
          matcher.take([input], into: &outputs)
          guard isJudgedBetween else { continue }
          matcher.watermarks.force(t0 + 60 * hour)
          matcher.advance(now_ms: now, outputs: &outputs)
          if matcher.sourceControls[9].closedOrders > 0, matcher.sourceControls[9].openBreaks > 0 { hadRow = true }
        }
        // A row that comes after its deletion never stands.
        #expect(hadRow == (isJudgedBetween && !isReversed))
        matcher.finish(outputs: &outputs)
        let found = texts(matcher)
        #expect(Set(found.keys) == [0, 1], "\(found)")
        #expect(found[0] == found[1] && found[0] == Self.text(matcher.qualityControl!))
        #expect(matcher.counters.duplicates + matcher.counters.superseded == 2)
      }
    }
  }

  /// An order that has been forgotten counts on, and its place says nothing of the next one that takes it.
  @Test func whatIsForgottenStays() {
    let policy = testPolicy { ($0.retention_ms, $0.openRetention_ms) = (hour, hour) }
    var matcher = Self.matcher(policy)
    var outputs = MatchOutputs()
    matcher.take([of(5, .order(r.event("A", net: 100, gross: 100)))], into: &outputs)
    matcher.watermarks.force(t0 + 100 * hour)
    for _ in 0..<3 { matcher.advance(now_ms: now, outputs: &outputs) }
    #expect(matcher.tieCount == 0)
    let before = texts(matcher)
    matcher.take([of(6, .order(r.event("B", at: t0 + 100 * hour, net: 7, gross: 7)))], into: &outputs)
    matcher.finish(outputs: &outputs)
    let found = texts(matcher)
    #expect(found[5] == before[5] && matcher.sourceControls[6].closedOrders == 1)
  }

  @Test func changesAreToldOnce() {
    var matcher = Self.matcher()
    var outputs = MatchOutputs()
    matcher.take([.order(r.event("A", net: 100, gross: 100))], into: &outputs)
    matcher.take([of(3, .order(r.event("B", net: 7, gross: 7)))], into: &outputs)
    let first = matcher.tellQuality(now_ms: now, times: [])
    #expect(first.sources.map(\.source) == [0, 3])
    #expect(first.sources[1].control.lines.map { $0.pending(Int(AccountRole.revenue.rawValue)) } == [7])
    matcher.untellQuality()
    #expect(matcher.tellQuality(now_ms: now, times: []) == first)
    #expect(matcher.tellQuality(now_ms: now + 60_000, times: []).sources.isEmpty)
    matcher.take([.posting(r.posting("B", .revenue, -7))], into: &outputs)
    // Not before the interval is over.
    #expect(matcher.tellQuality(now_ms: now + 1, times: []).sources.isEmpty)
    #expect(matcher.tellQuality(now_ms: now + 60_000, times: []).sources.map(\.source) == [1, 3])
  }

  /// A state of before knows the orders that it holds.
  @Test func anEarlierStateBeginsWithWhatItHolds() throws {
    var first = Self.matcher(keeps: false)
    var outputs = MatchOutputs()
    matcherInputs(into: &first, &outputs)
    let second = try restored(first)
    var right = Self.matcher()
    matcherInputs(into: &right, &outputs)
    #expect(texts(second) == texts(right) && texts(right).count == 2)
    // Where they are wanted no longer, a state that has them can be read all the same.
    var third = try restored(second, keeps: false)
    #expect(third.sourceControls.isEmpty)
    #expect(third.qualityLines.elementsEqual(right.qualityLines) { $0 == $1 })
    third.finish(outputs: &outputs)
  }

  private func matcherInputs(into matcher: inout Matcher, _ outputs: inout MatchOutputs) {
    matcher.take(
      [.order(r.event("A", net: 100, gross: 100)), .order(r.event("B", at: t0 + 50 * hour, net: 9, gross: 9))],
      into: &outputs)
    matcher.take(r.invoice("A", net: 60).map { .posting($0) }, into: &outputs)
    matcher.watermarks.force(t0 + 40 * hour)
    matcher.advance(now_ms: now, outputs: &outputs)
  }

  // MARK: - Over random histories

  /// Each order by itself, in a matcher of its own: what all sources come to there is what each of its sources has of it.
  private func right(_ inputs: [Input]) -> [Int: String] {
    var sums: [Int: QualityControl] = [:]
    for (_, own) in Dictionary(grouping: inputs, by: { key($0).string }) {
      var matcher = Self.matcher(keeps: false)
      var outputs = MatchOutputs()
      matcher.take(own, into: &outputs)
      matcher.finish(outputs: &outputs)
      let control = matcher.qualityControl!
      for source in sources(own) { sums[source, default: QualityControl()] += control }
    }
    return sums.mapValues { SourceTotalsTests.text($0) }
  }

  /// The sources of which a record is left: of those with one id the newest row, or the earliest event.
  private func sources(_ inputs: [Input]) -> Set<Int> {
    var rows: [String: (time_ms: Int64, source: Int, isDelete: Bool)] = [:]
    var found: Set<Int> = []
    for input in inputs {
      switch input {
      case .order(let event): found.insert(Int(event.position.source))
      case .posting(let posting):
        let known = rows[posting.id.string]
        guard known == nil || posting.time_ms > known!.time_ms else { continue }
        rows[posting.id.string] = (posting.time_ms, Int(posting.position.source), posting.isDelete)
      }
    }
    return found.union(rows.values.filter { !$0.isDelete }.map(\.source))
  }

  private func key(_ input: Input) -> ByteView {
    switch input {
    case .order(let event): event.order
    case .posting(let posting): posting.order
    }
  }

  @Test(arguments: 0..<200 as Range<UInt64>) func sumsAreThoseOfTheOrders(seed: UInt64) throws {
    var generator = HistoryGenerator(seed: seed, start_ms: t0)
    let history = generator.next()
    let storage = HistoryStorage()
    var random = SeededRandom(seed: seed)
    // Payments, cash and one order in three have sources of their own.
    func isOther(_ order: String) -> Bool { order.utf8.reduce(0) { $0 + Int($1) } % 3 == 0 }
    var inputs =
      history.events.map { event in
        of(event.kind == .paid ? 8 : isOther(event.order) ? 3 : 0, .order(storage.record(event)))
      }
      + history.postings.map { posting in
        of(posting.role == .cash ? 10 : isOther(posting.order) ? 4 : 1, .posting(storage.record(posting)))
      }
    for (at, order) in Set(history.events.map(\.order)).sorted().enumerated() where random.below(2) == 0 {
      // A row of a source of its own, replaced by another one, and in every other order deleted in the end.
      var row = storage.record(
        HistoryPosting(
          order: order, journal: "R\(at)", line: 1, document: "", role: .clearing, currency: Currency("USD")!,
          amount: Int64(random.below(9_000)) + 1, time_ms: t0 + Int64(random.below(40)) * hour))
      row.isUpsert = true
      for step in 0..<1 + random.below(2) {
        (row.amount, row.time_ms) = (row.amount + 5, row.time_ms + hour)
        row.isDelete = step == 1
        row.position.offset += 10_000
        inputs.append(of(6, .posting(row)))
      }
    }
    let right = right(inputs)
    if history.postings.count > 3, !history.events.isEmpty { #expect(right.count > 1) }
    for round in 0..<4 {
      var sums = [QualityControl](repeating: QualityControl(), count: Self.count)
      let tasks = 1 + round % 2
      let shuffled = inputs.shuffled(using: &random)
      for task in 0..<tasks {
        let own = shuffled.filter { Int(Fingerprint(key($0)).low % UInt64(tasks)) == task }
        let cut = random.below(own.count + 1)
        // In the last round the state is one of a version that knew of no sources.
        var matcher = Self.matcher(keeps: round < 3)
        var outputs = MatchOutputs()
        for input in own[..<cut] {
          matcher.take([input], now_ms: now, into: &outputs)
          matcher.watermarks.force(max(t0 + Int64(random.below(60)) * hour, matcher.watermarks.current_ms))
          matcher.advance(now_ms: now, outputs: &outputs)
        }
        if round > 1 {
          let again = try restored(matcher)
          if round == 2 {
            #expect(WrittenState(again).sums.array == WrittenState(matcher).sums.array, "seed \(seed)")
          }
          matcher = again
        }
        matcher.take(Array(own[cut...]), now_ms: now, into: &outputs)
        matcher.finish(outputs: &outputs)
        for (source, control) in matcher.sourceControls.enumerated() { sums[source] += control }
        for control in matcher.sourceControls {
          for line in control.lines { #expect(line.controlDifference == 0, "seed \(seed)") }
        }
      }
      var found: [Int: String] = [:]
      for (source, control) in sums.enumerated() where !control.isZero { found[source] = Self.text(control) }
      for source in Set(found.keys).union(right.keys).sorted() where found[source] != right[source] {
        Issue.record(
          "seed \(seed) round \(round) source \(source): \(found[source] ?? "none") instead of \(right[source] ?? "none")"
        )
      }
    }
    withExtendedLifetime(storage) {}
  }
}
