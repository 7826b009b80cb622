import Aggregates
import Domain
import Simulation
import Testing

@testable import Matching

/// Plain records go a way of their own, which comes to the same end as that of all others: the same breaks, and a state
/// of the same bytes.
@Suite struct PlainRecordTests {
  static func matcher(_ policy: MatchingPolicy, dimensions: Int, plainly: Bool, addsUp: Bool = false) -> Matcher {
    var matcher = Matcher(policy: policy, dimensionCount: dimensions)
    matcher.takesPlain = plainly
    if addsUp {
      matcher.aggregates = TaskAggregates(
        dimensionCount: dimensions, settings: AggregateSettings(), calendar: .months)
      matcher.tracksPeriods = true
    }
    return matcher
  }

  /// Takes inputs in by batches, with leaps of time between them, in both ways.
  /// - Returns: how many ties tied out.
  func compare(
    _ inputs: [Input], _ policy: MatchingPolicy, dimensions: Int, addsUp: Bool, _ generator: inout SeededGenerator,
    _ place: String
  ) -> Int {
    var plain = Self.matcher(policy, dimensions: dimensions, plainly: true, addsUp: addsUp)
    var other = Self.matcher(policy, dimensions: dimensions, plainly: false, addsUp: addsUp)
    var (a, b) = (MatchOutputs(), MatchOutputs())
    var start = 0
    while start < inputs.count {
      let end = min(inputs.count, start + Int.random(in: 1...40, using: &generator))
      plain.takeTogether(inputs[start..<end], into: &a)
      other.takeTogether(inputs[start..<end], into: &b)
      start = end
      if Int.random(in: 0..<3, using: &generator) == 0 {
        let watermark = t0 + Int64.random(in: 0...40, using: &generator) * hour
        plain.watermarks.force(watermark)
        other.watermarks.force(watermark)
        plain.advance(now_ms: t0 + 1_000 * hour, outputs: &a)
        other.advance(now_ms: t0 + 1_000 * hour, outputs: &b)
      }
      expectEqual(plain, other, place)
      #expect(a.breaks == b.breaks, "\(place)")
      #expect(a.quarantined == b.quarantined, "\(place)")
    }
    plain.finish(outputs: &a)
    other.finish(outputs: &b)
    expectEqual(plain, other, "\(place) at the end")
    #expect(a.breaks == b.breaks, "\(place) at the end")
    return plain.counters.tiesTiedOut
  }

  func expectEqual(_ one: borrowing Matcher, _ other: borrowing Matcher, _ place: String) {
    let a = WrittenState(one)
    let b = WrittenState(other)
    #expect(a.shard.array == b.shard.array, "\(place): ties")
    #expect(a.sums.array == b.sums.array, "\(place): sums")
    #expect(a.cells.array == b.cells.array, "\(place): cells")
    // Space for what is to come is the matter of each, but none of it is lost.
    #expect(one.store.liveBytes == space(one), "\(place): memory")
    #expect(other.store.liveBytes == space(other), "\(place): memory")
  }

  /// Bytes of the store that ties and their breaks have.
  func space(_ matcher: borrowing Matcher) -> Int {
    var granules = 0
    var slots: [Int] = []
    matcher.forEachSlot(shard: 0, bits: 0) { slots.append($0) }
    for slot in slots {
      granules += matcher.bodyGranules(slot, matcher.bodyLength(slot))
      var record = matcher.ties[slot].breaks
      while record != 0 {
        let kept = matcher.store.breakRecord(record)
        granules += Int(kept.granules)
        record = kept.next
      }
    }
    return granules * 8
  }

  @Test func historiesLeaveTheSameState() {
    var tiedOut = 0
    for seed in 0..<120 as Range<UInt64> {
      var generator = SeededGenerator(state: seed)
      var source = HistoryGenerator(seed: seed, start_ms: t0)
      let storage = HistoryStorage()
      var inputs: [Input] = []
      for _ in 0..<3 {
        let history = source.next()
        inputs += history.events.map { Input.order(storage.record($0)) }
        inputs += history.postings.map { .posting(storage.record($0)) }
      }
      let policy = testPolicy {
        $0.checksPostingDates = seed % 3 != 0
        $0.reportsProvisional = seed % 4 != 0
        $0.quantities.isEnabled = seed % 7 == 0
        $0.outOfOrderness_ms = 48 * hour
        if seed % 5 == 0 { $0.checks = QuickJudgeTests.checks }
      }
      tiedOut += compare(
        inputs.shuffled(using: &generator), policy, dimensions: 0, addsUp: seed % 6 == 0, &generator, "seed \(seed)")
      withExtendedLifetime(storage) {}
    }
    #expect(tiedOut > 25, "the histories must hold ties that agree")
  }

  /// Records of which most are plain, and which differ in whatever a record has; texts come from a small set, so that
  /// "the same as before" and "continues" come up often.
  @Test func oddRecordsLeaveTheSameState() {
    var tiedOut = 0
    for seed in 0..<150 as Range<UInt64> {
      var generator = SeededGenerator(state: seed &* 77 &+ 5)
      let r = Records()
      func rarely() -> Bool { Int.random(in: 0..<12, using: &generator) == 0 }
      func text(_ key: String) -> ByteView {
        switch Int.random(in: 0..<9, using: &generator) {
        case 0: return .empty
        case 1: return r.view(key + "-\(Int.random(in: 0..<3, using: &generator))")
        case 2 where rarely():
          return r.view(String(repeating: "x", count: [63, 64, 126, 127, 128, 255].randomElement(using: &generator)!))
        case 3: return r.view("a longer text of some \(Int.random(in: 10..<30, using: &generator)) bytes")
        default: return r.view("T\(Int.random(in: 0..<4, using: &generator))")
        }
      }
      let numbers: [Int64] = [0, 1, -1, 127, 128, -129, 99_999, 1 << 40, -(1 << 61), 1 << 62 - 1]
      let times: [Int64] = [t0, t0, t0 + 1, t0 + hour, t0 - 30 * hour]
      var inputs: [Input] = []
      for _ in 0..<40 {
        let key = seed % 50 == 3 ? String(repeating: "k", count: 300) : "O\(Int.random(in: 0..<6, using: &generator))"
        let amount = [100, 100, 100, numbers.randomElement(using: &generator)!].randomElement(using: &generator)!
        let currency = [Currency("USD")!, Currency("USD")!, Currency("JPY")!, .none].randomElement(using: &generator)!
        let source = UInt16.random(in: 0...1, using: &generator) * 300
        if Bool.random(using: &generator) {
          var event = r.event(
            key, [.invoiced, .invoiced, .paid, .booked, .cancelled].randomElement(using: &generator)!)
          (event.id, event.document, event.customer) = (text(key), text(key), text(key))
          event.currency = currency
          event.time_ms = rarely() ? numbers.randomElement(using: &generator)! : times.randomElement(using: &generator)!
          event.documentDate_d =
            [absentDate, day(ofMilliseconds: t0), 20_000, -5].randomElement(using: &generator)!
          event.lineCount = [0, 0, 3, 70_000].randomElement(using: &generator)!
          event.amounts[.gross] = amount
          if Bool.random(using: &generator) { event.amounts[.net] = numbers.randomElement(using: &generator)! }
          if rarely() { (event.quantity_u, event.quantityPresent) = (7, true) }
          if rarely() { (event.serviceStart_d, event.serviceEnd_d) = (-20_000, 40_000) }
          if rarely() { event.line = text(key) }
          if rarely() { event.isUpsert = true }
          if rarely() { event.isDelete = true }
          if rarely() { event.brokenRules = 2 }
          if Bool.random(using: &generator) { event.dimensions[0] = text(key) }
          if Bool.random(using: &generator) { event.dimensions[1] = text(key) }
          event.position.source = source
          inputs.append(.order(event))
        } else {
          var posting = r.posting(key, [.receivable, .receivable, .cash].randomElement(using: &generator)!, amount)
          (posting.id, posting.document, posting.customer) = (text(key), text(key), text(key))
          posting.journal = text(key)
          posting.currency = currency
          posting.time_ms =
            rarely() ? numbers.randomElement(using: &generator)! : times.randomElement(using: &generator)!
          posting.postingDate_d =
            [absentDate, day(ofMilliseconds: t0), 19_999].randomElement(using: &generator)!
          posting.period = [0, 202_603, 202_603, 999_916].randomElement(using: &generator)!
          if rarely() { posting.reverses = text(key) }
          if rarely() { posting.isReversal = true }
          if rarely() { posting.isUpsert = true }
          if rarely() { posting.isDelete = true }
          if rarely() { posting.brokenRules = 1 }
          if rarely() { posting.extras = UInt8.random(in: 0...3, using: &generator) }
          if Bool.random(using: &generator) { posting.dimensions[1] = text(key) }
          posting.position.source = source + 1
          inputs.append(.posting(posting))
        }
      }
      let policy = testPolicy {
        $0.entries = MatchingPolicy.standardEntries
        $0.entries[Int(OrderEventKind.invoiced.rawValue)] = [PolicyEntry(.receivable, 1, .gross)]
        $0.checksPostingDates = seed % 3 != 0
        $0.checksCustomers = seed % 2 != 0
        $0.reportsProvisional = seed % 4 != 0
        $0.outOfOrderness_ms = 48 * hour
        $0.retention_ms = seed % 5 == 0 ? 1 : 7 * 24 * hour
      }
      tiedOut += compare(inputs, policy, dimensions: 2, addsUp: seed % 6 == 0, &generator, "seed \(seed)")
    }
    #expect(tiedOut > 30, "there must be ties that agree")
  }

  /// An order and its posting that agree, one detail of them changed: what the look at the two alone decides.
  @Test func pairsAreJudgedAlike() {
    var tiedOut = 0
    for seed in 0..<24 as Range<UInt64> {
      var generator = SeededGenerator(state: seed &* 13 &+ 1)
      let r = Records()
      var inputs: [Input] = []
      for pair in 0..<100 {
        var event = r.event("P\(pair)", document: "D1", gross: 500)
        var posting = r.posting("P\(pair)", .receivable, 500, document: "D1")
        for _ in 0..<Int.random(in: 0...2, using: &generator) { change(&event, &posting, r, &generator) }
        let sign: Int64 = Bool.random(using: &generator) ? 1 : -1
        (event.amounts[.gross], posting.amount) = (500 * sign, 500 * sign)
        inputs += pair % 4 == 0 ? [.posting(posting), .order(event)] : [.order(event), .posting(posting)]
      }
      let policy = testPolicy {
        $0.entries[Int(OrderEventKind.invoiced.rawValue)] =
          seed % 3 == 0
          ? [PolicyEntry(.receivable, 1, .gross), PolicyEntry(.revenue, -1, .net)]
          : [PolicyEntry(.receivable, 1, .gross)]
        $0.checksPostingDates = seed % 5 != 0
        $0.checksCustomers = seed % 7 != 0
        $0.lateAfter_d = [5, 0].randomElement(using: &generator)!
      }
      tiedOut += compare(inputs, policy, dimensions: 0, addsUp: false, &generator, "seed \(seed)")
    }
    #expect(tiedOut > 600, "there must be pairs that agree")
    #expect(tiedOut < 2_200, "and some that do not")
  }

  func change(
    _ event: inout OrderEvent, _ posting: inout Posting, _ r: Records, _ generator: inout SeededGenerator
  ) {
    let today = day(ofMilliseconds: t0)
    switch Int.random(in: 0..<12, using: &generator) {
    case 0: posting.customer = r.view(["C2", ""].randomElement(using: &generator)!)
    case 1: event.customer = .empty
    case 2: posting.postingDate_d = today + Int32.random(in: -8...8, using: &generator)
    case 3: posting.postingDate_d = absentDate
    case 4: posting.period = [202_603, 202_602, 202_604].randomElement(using: &generator)!
    case 5: event.documentDate_d = [absentDate, today - 12].randomElement(using: &generator)!
    case 6: posting.currency = Currency("EUR")!
    case 7: event.currency = Currency("EUR")!
    case 8: posting.role = [.cash, .tax].randomElement(using: &generator)!
    case 9: event.amounts[.net] = [0, 500, 2].randomElement(using: &generator)!
    case 10: event.kind = [.paid, .held, .refunded, .booked].randomElement(using: &generator)!
    default: posting.document = r.view(["D2", ""].randomElement(using: &generator)!)
    }
  }
}

extension Matcher {
  /// Takes inputs in, those of a side that follow each other as one batch.
  mutating func takeTogether(_ inputs: ArraySlice<Input>, into outputs: inout MatchOutputs) {
    let now_ms = t0 + 1_000 * hour
    var (orders, postings): ([OrderEvent], [Posting]) = ([], [])
    for input in inputs {
      switch input {
      case .order(let event): orders.append(event)
      case .posting(let posting): postings.append(posting)
      }
    }
    orders.withUnsafeBufferPointer { apply(orders: $0, now_ms: now_ms, outputs: &outputs) }
    postings.withUnsafeBufferPointer { apply(postings: $0, now_ms: now_ms, outputs: &outputs) }
  }
}
