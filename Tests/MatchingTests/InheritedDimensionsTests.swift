import Aggregates
import Domain
import Simulation
import Testing

@testable import Matching

/// Figures of the ledger under the dimensions of their orders: what a posting does not carry, the earliest event of its order
/// that has a value says, whatever came first.
@Suite struct InheritedDimensionsTests {
  let r = Records()
  let now = t0 + 10_000 * hour

  static func matcher(
    _ policy: MatchingPolicy = policy(), inheriting: UInt8 = 3, dimensions: Int = 2
  ) -> Matcher {
    var matcher = Matcher(policy: policy, dimensionCount: dimensions)
    matcher.aggregates = TaskAggregates(dimensionCount: dimensions)
    matcher.inheritedDimensions = inheriting
    return matcher
  }

  static func policy(_ rates: ExchangeRates? = nil) -> MatchingPolicy {
    testPolicy {
      if let rates {
        var checks = FinanceChecks()
        checks.exchange = ExchangeChecks(rates: rates)
        $0.checks = checks
      }
      $0.outOfOrderness_ms = 5_000 * hour
      ($0.retention_ms, $0.openRetention_ms) = (100_000 * hour, 100_000 * hour)
    }
  }

  func event(
    _ id: String, _ dimensions: [String], at time_ms: Int64 = t0, kind: OrderEventKind = .booked, net: Int64? = nil,
    order: String = "O1"
  ) -> OrderEvent {
    var event = r.event(order, kind, id: id, at: time_ms, net: net, gross: net)
    for (at, value) in dimensions.enumerated() { event.dimensions[at] = r.view(value) }
    return event
  }

  func line(
    _ amount: Int64, _ dimensions: [String] = [], number: Int = 1, at time_ms: Int64 = t0 + 1_000, order: String = "O1",
    role: AccountRole = .revenue
  ) -> Posting {
    var posting = r.posting(order, role, amount, line: number, at: time_ms)
    for (at, value) in dimensions.enumerated() { posting.dimensions[at] = r.view(value) }
    return posting
  }

  /// What the cells say of the ledger, as "region channel period: posted", by posting date; all dates and views agree.
  func figures(_ matcher: borrowing Matcher, _ role: AccountRole = .revenue) -> [String] {
    var table = CellTable(dimensionCount: matcher.dimensionCount)
    matcher.mergeAggregates(into: &table)
    return table.lines.compactMap { line in
      let posted = line.values[role, .posting]
      #expect(posted == line.values[role, .event])
      guard posted != 0 else { return nil }
      let text = "\(line.key.dimensions.joined(separator: " ")): \(posted)"
      return line.key.isBase ? "(\(text))" : text
    }
  }

  func figures(_ inputs: [Input], inheriting: UInt8 = 3) -> [String] {
    var matcher = Self.matcher(inheriting: inheriting)
    var outputs = MatchOutputs()
    matcher.take(inputs, now_ms: now, into: &outputs)
    let before = figures(matcher)
    matcher.finish(outputs: &outputs)
    // Nothing came twice: what is judged later changes nothing.
    #expect(figures(matcher) == before)
    return before
  }

  /// In every order of arrival the same.
  func expect(
    _ right: [String], _ inputs: [Input], inheriting: UInt8 = 3, isTold: Bool = true,
    _ place: SourceLocation = #_sourceLocation
  ) {
    func permute(_ rest: [Input], _ taken: [Input]) {
      guard !rest.isEmpty else {
        var matcher = Self.matcher(inheriting: inheriting)
        var outputs = MatchOutputs()
        matcher.take(taken, now_ms: now, into: &outputs)
        if isTold { #expect(figures(matcher) == right, sourceLocation: place) }
        matcher.finish(outputs: &outputs)
        #expect(figures(matcher) == right, sourceLocation: place)
        return
      }
      for at in rest.indices {
        var left = rest
        let next = left.remove(at: at)
        permute(left, taken + [next])
      }
    }
    permute(inputs, [])
  }

  @Test func aPostingStandsWhereItsOrderDoes() {
    let inputs: [Input] = [.order(event("E1", ["north", "shop"])), .posting(line(-70)), .posting(line(5, number: 2))]
    expect(["north shop: -65"], inputs)
    expect([" shop: -65"], inputs, inheriting: 2)
    expect([" : -65"], inputs, inheriting: 0)
  }

  @Test func whatAPostingCarriesIsItsOwn() {
    expect(
      ["north web: -7", "south shop: -70"],
      [
        .order(event("E1", ["north", "shop"])), .posting(line(-70, ["south"])),
        .posting(line(-7, ["", "web"], number: 2)),
      ])
    // Nobody's order.
    expect(["south : -70"], [.posting(line(-70, ["south"])), .order(event("E1", ["north", "shop"], order: "O2"))])
  }

  /// Each dimension has the value of the earliest event that has one.
  @Test func theEarliestEventWithAValueSpeaks() {
    expect(
      ["south shop: -70"],
      [
        .order(event("E1", ["north", ""], at: t0 + 3 * hour)), .order(event("E2", ["south", ""], at: t0 + 2 * hour)),
        .order(event("E3", ["", "shop"], at: t0 + 4 * hour)), .posting(line(-70)),
        .order(event("E4", [], at: t0 + hour)),
      ])
  }

  /// Of events of one time the one whose values come first, dimension by dimension.
  @Test func ofOneTimeTheFirstByItsValuesSpeaks() {
    expect(
      ["north web: -70"],
      [
        .order(event("E1", ["south", "shop"])), .order(event("E2", ["north", "web"])), .posting(line(-70)),
        .order(event("E3", ["northern", "app"])),
      ])
    // By bytes, not by length.
    expect(
      ["aaaa x: -70"],
      [.order(event("E1", ["b", "x"])), .order(event("E2", ["aaaa", "x"])), .posting(line(-70))])
  }

  @Test func anEventThatNoLongerCountsSpeaksNoMore() {
    let posting = Input.posting(line(-70))
    let other = Input.order(event("E2", ["west", "shop"], at: t0 + 9 * hour))
    // Another content under the same id: the first counts, and the second speaks for nobody.
    let (first, second) = (event("E1", ["", "web"], net: 7), event("E1", ["north", ""], at: t0 + hour, net: 5))
    expect(["west web: -70"], [.order(first), .order(second), posting, other], isTold: false)
    // A newer image of the row, and one that is deleted.
    func image(_ region: String, at time_ms: Int64, isDelete: Bool = false) -> Input {
      var event = event("E1", [region, ""], at: time_ms)
      (event.isUpsert, event.isDelete) = (!isDelete, isDelete)
      return .order(event)
    }
    expect(
      ["south shop: -70"], [image("north", at: t0), image("south", at: t0 + hour), posting, other], isTold: false)
    expect(
      ["west shop: -70"], [image("north", at: t0), image("", at: t0 + hour, isDelete: true), posting, other],
      isTold: false)
    // The same again.
    expect(
      ["north shop: -70"],
      [.order(event("E1", ["north", ""])), .order(event("E1", ["north", ""])), posting, other], isTold: false)
  }

  @Test func aPostingThatNoLongerCountsIsTakenBackFromWhereItStands() {
    func image(_ amount: Int64, _ region: String, at time_ms: Int64, isDelete: Bool = false) -> Input {
      var posting = line(amount, [region], at: time_ms)
      (posting.isUpsert, posting.isDelete) = (!isDelete, isDelete)
      return .posting(posting)
    }
    let event = Input.order(event("E1", ["north", "shop"], at: t0 + 5 * hour))
    expect(["south shop: -9"], [image(-70, "", at: t0), image(-9, "south", at: t0 + hour), event], isTold: false)
    expect(["north shop: -9"], [image(-70, "south", at: t0), image(-9, "", at: t0 + hour), event], isTold: false)
    expect([], [image(-70, "", at: t0), image(0, "", at: t0 + hour, isDelete: true), event], isTold: false)
    expect(["north shop: -70"], [.posting(line(-70)), .posting(line(-70)), event], isTold: false)
  }

  /// A late posting of an order that has been forgotten stands under its own values.
  @Test func whatAForgottenOrderSaidIsForgotten() {
    var policy = Self.policy()
    policy.outOfOrderness_ms = 0
    (policy.retention_ms, policy.openRetention_ms) = (hour, hour)
    var matcher = Self.matcher(policy)
    var outputs = MatchOutputs()
    matcher.take([.order(event("E1", ["north", "shop"])), .posting(line(-70))], now_ms: now, into: &outputs)
    matcher.watermarks.force(t0 + 100 * hour)
    while matcher.tieCount > 0 { matcher.advance(now_ms: now, outputs: &outputs) }
    matcher.take([.posting(line(-5, number: 2))], now_ms: now, into: &outputs)
    #expect(figures(matcher) == [" : -5", "north shop: -70"])
  }

  @Test func theBaseViewFollows() {
    var matcher = Self.matcher(Self.policy(ExchangeTests.rates()), inheriting: 1)
    var outputs = MatchOutputs()
    matcher.take([.posting(line(-100)), .order(event("E1", ["north"]))], now_ms: now, into: &outputs)
    let found = figures(matcher)
    #expect(found.count == 2 && found.allSatisfy { $0.contains("north") }, "\(found)")
  }

  /// What is in dispute is where the figure is.
  @Test(arguments: [false, true]) func whatIsInDisputeFollows(isPostedFirst: Bool) {
    let invoice = Input.order(event("E1", ["north", "shop"], kind: .invoiced, net: 100))
    let lines: [Input] = [
      .posting(line(90, number: 1, role: .receivable)), .posting(line(-90, number: 2)),
    ]
    // Another document with another value: which of the places is in doubt is told by where the posting stands.
    let other = Input.order(event("E2", ["south", "shop"], at: t0 + hour, kind: .invoiced, net: 50))
    let posted: [Input] = [
      .posting(line(50, ["south", "shop"], number: 3, role: .receivable)),
      .posting(line(-50, ["south", "shop"], number: 4)),
    ]
    var matcher = Self.matcher()
    var outputs = MatchOutputs()
    matcher.take(
      isPostedFirst ? lines + posted + [other, invoice] : [invoice, other] + lines + posted, now_ms: now, into: &outputs
    )
    matcher.finish(outputs: &outputs)
    var table = CellTable(dimensionCount: 2)
    matcher.mergeAggregates(into: &table)
    let found = table.lines.filter { $0.values[disputed: .revenue] != 0 }
    #expect(found.map(\.key.dimensions) == [["north", "shop"]])
    #expect(found.first?.values[disputed: .revenue] == 10 && found.first?.values[.revenue, .posting] == -90)
  }

  // MARK: - Over random sets of facts

  private struct Case {
    var inputs: [Input] = []
    /// By cell, as the rule has it.
    var right: [String: Int64] = [:]
  }

  /// Events and postings of some orders, and where the postings must stand: a fold that knows of the rule alone.
  private func makeCase(_ random: inout SeededRandom, inheriting: UInt8, facts: Int) -> Case {
    var made = Case()
    for order in 0..<3 {
      var events: [(time_ms: Int64, values: [String])] = []
      for number in 0..<1 + random.below(facts) {
        let values = [random.pick(["", "", "north", "south"]), random.pick(["", "shop", "web"])]
        let time_ms = t0 + Int64(random.below(6)) * 60_000
        events.append((time_ms, values))
        made.inputs.append(.order(event("E\(number)", values, at: time_ms, order: "O\(order)")))
      }
      events.sort { a, b in
        a.time_ms != b.time_ms ? a.time_ms < b.time_ms : a.values.lexicographicallyPrecedes(b.values)
      }
      for number in 0..<1 + random.below(facts) {
        let values = [random.pick(["", "", "east"]), random.pick(["", "", "shop"])]
        let amount = Int64(1 + random.below(1_000))
        made.inputs.append(.posting(line(-amount, values, number: number + 1, order: "O\(order)")))
        let place = values.enumerated().map { at, own in
          guard own.isEmpty, inheriting & 1 << UInt8(at) != 0 else { return own }
          return events.first { !$0.values[at].isEmpty }?.values[at] ?? ""
        }
        made.right[place.joined(separator: " "), default: 0] -= amount
      }
    }
    return made
  }

  /// Short ties and ties with bodies of many kilobytes, in any order of arrival, with a restart in the middle.
  @Test(arguments: 0..<120 as Range<UInt64>) func figuresFollowTheRule(seed: UInt64) throws {
    var random = SeededRandom(seed: seed)
    let inheriting = UInt8(seed % 4)
    let made = makeCase(&random, inheriting: inheriting, facts: seed % 3 == 0 ? 150 : 4)
    let right = made.right.map { "\($0.key): \($0.value)" }.sorted()
    for restarts in [false, true] {
      var matcher = Self.matcher(inheriting: inheriting)
      var outputs = MatchOutputs()
      let inputs = made.inputs.shuffled(using: &random)
      let cut = random.below(inputs.count)
      matcher.take(Array(inputs[..<cut]), now_ms: now, into: &outputs)
      if restarts {
        let state = WrittenState(matcher)
        matcher = Self.matcher(inheriting: inheriting)
        try matcher.read(shard: state.shard)
        try matcher.read(sums: state.sums)
        try matcher.read(cells: state.cells)
      }
      matcher.take(Array(inputs[cut...]), now_ms: now, into: &outputs)
      #expect(figures(matcher).sorted() == right, "seed \(seed)")
      matcher.finish(outputs: &outputs)
      #expect(figures(matcher).sorted() == right, "seed \(seed)")
    }
  }

  // MARK: - Sums that were made in another way

  private func lines(_ matcher: borrowing Matcher) -> [CellLine] {
    var table = CellTable(dimensionCount: matcher.dimensionCount)
    matcher.mergeAggregates(into: &table)
    return table.lines
  }

  /// A state whose sums were made with other inherited dimensions comes to those of now, what is in dispute included; so do
  /// aggregates that begin beside ties that are held.
  @Test(arguments: 0..<60 as Range<UInt64>) func sumsAreMovedWhereTheyWereMadeInAnotherWay(seed: UInt64) throws {
    var random = SeededRandom(seed: seed)
    var generator = OrderToCashGenerator(seed: seed)
    let history = generator.next()
    let storage = HistoryStorage()
    let inputs =
      (history.events.map { Input.order(storage.record($0)) } + history.postings.map { .posting(storage.record($0)) })
      .shuffled(using: &random)
    let cut = random.below(inputs.count)
    let policy = Self.policy(seed % 2 == 0 ? ExchangeTests.rates() : nil)
    func run(_ before: UInt8?, _ after: UInt8) throws -> [CellLine] {
      var matcher = Matcher(policy: policy, dimensionCount: 2)
      if let before { matcher = Self.matcher(policy, inheriting: before) }
      var outputs = MatchOutputs()
      matcher.take(Array(inputs[..<cut]), now_ms: now, into: &outputs)
      matcher.watermarks.force(t0 + 2_000 * hour)
      matcher.advance(now_ms: now, outputs: &outputs)
      if before != after {
        let state = WrittenState(matcher)
        var next = Matcher(policy: policy, dimensionCount: 2)
        next.watermarks = matcher.watermarks
        next.inheritedDimensions = before ?? after
        next.tracksDisputes = true
        try next.read(shard: state.shard)
        next.aggregates = TaskAggregates(dimensionCount: 2)
        if before == nil {
          try next.read(sums: state.sums)
          next.addHeldFacts()
          next.chargeOpenBreaks()
        } else {
          try next.read(cells: state.cells)
          try next.read(sums: state.sums)
          next.inherit(after, movesDisputes: true)
        }
        matcher = next
      }
      matcher.take(Array(inputs[cut...]), now_ms: now, into: &outputs)
      matcher.finish(outputs: &outputs)
      #expect(matcher.counters.tiesForgotten == 0)
      return lines(matcher)
    }
    for after: UInt8 in [3, 1, 0] {
      let right = try run(after, after)
      for before: UInt8 in [0, 2, 3] where before != after {
        #expect(try run(before, after) == right, "seed \(seed), from \(before) to \(after)")
      }
      #expect(try run(nil, after) == right, "seed \(seed), from nothing to \(after)")
    }
    withExtendedLifetime(storage) {}
  }
}
