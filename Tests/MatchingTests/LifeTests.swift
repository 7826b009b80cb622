import Domain
import Testing

@testable import Matching

/// The life of ties and breaks over event time.
@Suite struct LifeTests {
  let r = Records()
  /// Window 24 h + grace 1 h.
  let horizon = 25 * hour
  let now = t0 + 10_000 * hour

  /// Moves the watermark by an order of no importance (it expects nothing, so it never breaks).
  func tick(_ matcher: inout Matcher, to time_ms: Int64, _ outputs: inout MatchOutputs) {
    matcher.take([.order(r.event("TICK", .booked, id: "tick-\(time_ms)", at: time_ms))], now_ms: now, into: &outputs)
    matcher.watermarks.observe(source: 1, partition: 0, largest_ms: time_ms, now_ms: now)
    matcher.advance(now_ms: now, outputs: &outputs)
  }

  func sale(at time_ms: Int64 = t0) -> OrderEvent { r.event("O1", at: time_ms, net: 100_00, gross: 100_00) }

  @Test(arguments: [true, false]) func nothingIsMissingBeforeWindowAndGrace(orderFirst: Bool) {
    var matcher = Matcher(policy: testPolicy(), dimensionCount: 0)
    var outputs = MatchOutputs()
    let input = orderFirst ? [Input.order(sale())] : r.invoice("O1", net: 100_00, at: t0).map { .posting($0) }
    matcher.take(input, now_ms: now, into: &outputs)
    tick(&matcher, to: t0 + horizon - 1, &outputs)
    #expect(outputs.breaks.isEmpty)
    // A record with this very time would still be in time, so the deadline itself has not passed.
    tick(&matcher, to: t0 + horizon, &outputs)
    #expect(outputs.breaks.isEmpty)
    tick(&matcher, to: t0 + horizon + 1, &outputs)
    #expect(outputs.breaks.map(\.type) == [orderFirst ? .missingInLedger : .missingOrder])
    #expect(outputs.breaks.first?.isProvisional == false)
    #expect(outputs.breaks.first?.deadline_ms == t0 + horizon)
  }

  @Test func counterpartAtTheLastMillisecond() {
    var matcher = Matcher(policy: testPolicy(), dimensionCount: 0)
    var outputs = MatchOutputs()
    matcher.take([.order(sale())], now_ms: now, into: &outputs)
    tick(&matcher, to: t0 + horizon, &outputs)
    matcher.take(
      r.invoice("O1", net: 100_00, at: t0 + 1, date: day(ofMilliseconds: t0)).map { .posting($0) }, now_ms: now,
      into: &outputs)
    tick(&matcher, to: t0 + 3 * horizon, &outputs)
    #expect(outputs.breaks.isEmpty)
    #expect(matcher.counters.late == 0)
  }

  @Test func provisionalThenClearedThenFinal() {
    var matcher = Matcher(policy: testPolicy(), dimensionCount: 0)
    var outputs = MatchOutputs()
    matcher.take([.order(sale())], now_ms: now, into: &outputs)
    matcher.take(
      [.posting(r.posting("O1", .receivable, 60_00, at: t0)), .posting(r.posting("O1", .revenue, -60_00, at: t0))],
      now_ms: now, into: &outputs)
    tick(&matcher, to: t0 + 60_000, &outputs)
    #expect(outputs.breaks.isEmpty)
    tick(&matcher, to: t0 + 60_001, &outputs)
    #expect(outputs.breaks.map(\.id) == ["O1:PARTIAL:receivable"])
    #expect(outputs.breaks.first?.isProvisional == true)
    matcher.take(
      [
        .posting(r.posting("O1", .receivable, 40_00, journal: "JE2", at: t0 + hour)),
        .posting(r.posting("O1", .revenue, -40_00, journal: "JE2", at: t0 + hour)),
      ], now_ms: now, into: &outputs)
    tick(&matcher, to: t0 + 2 * hour, &outputs)
    #expect(outputs.breaks.map(\.state) == [.open, .autoCleared])
    #expect(outputs.breaks.map(\.revision) == [1, 2])
    tick(&matcher, to: t0 + 3 * horizon, &outputs)
    #expect(outputs.breaks.count == 2)
    #expect(matcher.counters.tiesTiedOut == matcher.counters.tiesClosed)
  }

  @Test func provisionalBecomesFinalByARevision() {
    var matcher = Matcher(policy: testPolicy(), dimensionCount: 0)
    var outputs = MatchOutputs()
    matcher.take([.order(sale())], now_ms: now, into: &outputs)
    matcher.take(r.invoice("O1", net: 110_00, at: t0).map { .posting($0) }, now_ms: now, into: &outputs)
    tick(&matcher, to: t0 + hour, &outputs)
    tick(&matcher, to: t0 + 2 * horizon, &outputs)
    #expect(outputs.breaks.map(\.isProvisional) == [true, false])
    #expect(outputs.breaks.map(\.revision) == [1, 2])
    #expect(Set(outputs.breaks.map(\.id)) == ["O1:AMOUNT_MISMATCH:revenue"])
  }

  @Test func lateCounterpartClears() {
    var matcher = Matcher(policy: testPolicy(), dimensionCount: 0)
    var outputs = MatchOutputs()
    matcher.take([.order(sale())], now_ms: now, into: &outputs)
    tick(&matcher, to: t0 + horizon + 1, &outputs)
    #expect(outputs.breaks.map(\.type) == [.missingInLedger])
    matcher.take(r.invoice("O1", net: 100_00, at: t0).map { .posting($0) }, now_ms: now, into: &outputs)
    #expect(matcher.counters.late == 2)
    tick(&matcher, to: t0 + horizon + 2 * hour, &outputs)
    let last = outputs.breaks.suffix(2)
    #expect(last.contains { $0.type == .missingInLedger && $0.state == .autoCleared && $0.revision == 2 })
    #expect(last.contains { $0.type == .lateArrival && $0.state == .accepted })
    // And gone again: the posting is taken back, the break is the same one, reopened.
    var undone = r.posting("O1", .receivable, 100_00, at: t0)
    undone.isDelete = true
    var other = r.posting("O1", .revenue, -100_00, at: t0)
    other.isDelete = true
    matcher.take([.posting(undone), .posting(other)], now_ms: now, into: &outputs)
    tick(&matcher, to: t0 + horizon + 4 * hour, &outputs)
    let reopened = outputs.breaks.last { $0.type == .missingInLedger }
    #expect(reopened?.state == .reopened)
    #expect(reopened?.revision == 3)
    matcher.finish(outputs: &outputs)
    expectControlTotals(matcher.totals)
  }

  @Test func closedTiesAreRememberedAndThenForgotten() {
    var matcher = Matcher(policy: testPolicy { $0.retention_ms = 48 * hour }, dimensionCount: 0)
    var outputs = MatchOutputs()
    matcher.take([.order(sale())], now_ms: now, into: &outputs)
    matcher.take(r.invoice("O1", net: 100_00, document: "I1").map { .posting($0) }, now_ms: now, into: &outputs)
    tick(&matcher, to: t0 + 2 * horizon, &outputs)
    #expect(outputs.breaks.isEmpty)
    // A second posting of the same document, long after the tie was closed.
    matcher.take(
      r.invoice("O1", net: 100_00, journal: "JE2", at: t0 + 2 * horizon, document: "I1", date: day(ofMilliseconds: t0))
        .map { .posting($0) }, now_ms: now, into: &outputs)
    tick(&matcher, to: t0 + 4 * horizon, &outputs)
    #expect(outputs.breaks.last?.type == .duplicatePosting)
    let before = matcher.tieCount
    tick(&matcher, to: t0 + 100_000 * hour, &outputs)
    tick(&matcher, to: t0 + 100_001 * hour, &outputs)
    #expect(before > 1)
    #expect(matcher.counters.quarantined == 2, "both ticks are dated after the wall clock")
  }

  @Test func memoryIsFreed() {
    var matcher = Matcher(policy: testPolicy { $0.retention_ms = 0 }, dimensionCount: 0)
    var outputs = MatchOutputs()
    for round in 0..<20 {
      let start = t0 + Int64(round) * 4 * horizon
      for order in 0..<500 {
        let key = "R\(round)-\(order)"
        matcher.take([.order(r.event(key, at: start, net: 5, gross: 5))], now_ms: now, into: &outputs)
        matcher.take(r.invoice(key, net: 5, at: start).map { .posting($0) }, now_ms: now, into: &outputs)
      }
      tick(&matcher, to: start + 2 * horizon, &outputs)
    }
    tick(&matcher, to: t0 + 90 * horizon, &outputs)
    tick(&matcher, to: t0 + 190 * horizon, &outputs)
    #expect(matcher.tieCount <= 2)
    #expect(matcher.counters.tiesForgotten >= 10_000)
    #expect(matcher.store.liveBytes < 20_000)
    #expect(matcher.store.footprintBytes < 600_000, "freed records are used again")
  }

  @Test func stoppedInputStillCloses() {
    var matcher = Matcher(policy: testPolicy { $0.idleTimeout_ms = 30_000 }, dimensionCount: 0)
    var outputs = MatchOutputs()
    let start = t0
    matcher.take([.order(sale())], now_ms: start, into: &outputs)
    matcher.advance(now_ms: start + 29_999, outputs: &outputs)
    #expect(matcher.watermarks.current_ms == t0)
    matcher.advance(now_ms: start + horizon, outputs: &outputs)
    #expect(outputs.breaks.isEmpty)
    matcher.advance(now_ms: start + horizon + 1, outputs: &outputs)
    #expect(outputs.breaks.map(\.type) == [.missingInLedger])
  }

  @Test func idlePartitionDoesNotPinTheWatermark() {
    var matcher = Matcher(policy: testPolicy { $0.idleTimeout_ms = 30_000 }, dimensionCount: 0)
    var outputs = MatchOutputs()
    matcher.watermarks.register(source: 1, partition: 0, now_ms: t0)
    matcher.take([.order(sale())], now_ms: t0, into: &outputs)
    matcher.advance(now_ms: t0 + 1_000, outputs: &outputs)
    #expect(matcher.watermarks.current_ms == .min, "the silent ledger may still speak")
    matcher.take([.order(r.event("O2", .booked, at: t0 + hour))], now_ms: t0 + 40_000, into: &outputs)
    matcher.advance(now_ms: t0 + 40_000, outputs: &outputs)
    #expect(matcher.watermarks.current_ms == t0 + hour)
  }

  @Test func futureDatedRecordsAreQuarantined() {
    var matcher = Matcher(policy: testPolicy { $0.maximumFuture_ms = hour }, dimensionCount: 0)
    var outputs = MatchOutputs()
    matcher.take([.order(sale(at: t0 + hour))], now_ms: t0, into: &outputs)
    #expect(outputs.quarantined.isEmpty)
    matcher.take([.order(r.event("O2", at: t0 + hour + 1, net: 1, gross: 1))], now_ms: t0, into: &outputs)
    #expect(outputs.quarantined == [0])
    matcher.advance(now_ms: t0, outputs: &outputs)
    #expect(matcher.watermarks.current_ms == t0 + hour)
    #expect(matcher.tieCount == 1)
  }

  @Test func expiryIsPaced() {
    var matcher = Matcher(policy: testPolicy { $0.maximumExpiries = 10 }, dimensionCount: 0)
    var outputs = MatchOutputs()
    for order in 0..<35 {
      matcher.take([.order(r.event("P\(order)", at: t0, net: 1, gross: 1))], now_ms: now, into: &outputs)
    }
    var rounds = 0
    matcher.take([.order(r.event("X", .booked, at: t0 + 2 * horizon))], now_ms: now, into: &outputs)
    while matcher.advance(now_ms: now, outputs: &outputs) { rounds += 1 }
    #expect(rounds == 3)
    #expect(outputs.breaks.count == 35)
  }

  @Test func changeFeedKeepsTheNewestImage() {
    var first = r.posting("O1", .receivable, 90_00, at: t0)
    first.position.offset = 1
    var second = r.posting("O1", .receivable, 100_00, at: t0)
    second.isUpsert = true
    second.position.offset = 2
    let revenue = r.posting("O1", .revenue, -100_00)
    #expect(verdicts([sale()], [first, second, revenue]) == [])
    #expect(verdicts([sale()], [second, first, revenue]) == [])
    var gone = second
    gone.isDelete = true
    gone.position.offset = 3
    #expect(verdicts([sale()], [gone, second, first, revenue]) == ["UNBALANCED_DOCUMENT:receivable"])
  }

  @Test func overdueDocumentIsReportedWhileTheOrderGoesOn() {
    var matcher = Matcher(policy: testPolicy(), dimensionCount: 0)
    var outputs = MatchOutputs()
    matcher.take(
      [.order(r.event("O1", document: "A", net: 100_00, gross: 100_00))], now_ms: now, into: &outputs)
    matcher.take(
      [.order(r.event("O1", at: t0 + 20 * hour, document: "B", net: 50_00, gross: 50_00))], now_ms: now, into: &outputs)
    matcher.take(
      r.invoice("O1", net: 50_00, journal: "JB", at: t0 + 20 * hour, document: "B").map { .posting($0) }, now_ms: now,
      into: &outputs)
    tick(&matcher, to: t0 + 26 * hour, &outputs)
    let missing = outputs.breaks.last
    #expect(missing?.type == .missingInLedger)
    #expect(missing?.isProvisional == false)
    // Posted at last: the order ties out.
    matcher.take(
      r.invoice("O1", net: 100_00, journal: "JA", at: t0 + 26 * hour, document: "A", date: day(ofMilliseconds: t0))
        .map { .posting($0) }, now_ms: now, into: &outputs)
    tick(&matcher, to: t0 + 30 * hour, &outputs)
    #expect(outputs.breaks.last?.state == .autoCleared)
  }

  /// A tie whose documents that are due agree is not done: the one that is not due yet may still be missing.
  @Test func agreementOfWhatIsDueIsNotAgreementOfAll() {
    var matcher = Matcher(policy: testPolicy(), dimensionCount: 0)
    var outputs = MatchOutputs()
    matcher.take(
      [
        .order(r.event("D", id: "1", at: t0, document: "D1", net: 100, gross: 100)),
        .posting(r.posting("D", .receivable, 100, journal: "J1", at: t0 + 1, document: "D1")),
        .posting(r.posting("D", .revenue, -100, journal: "J1", at: t0 + 1, document: "D1")),
        .order(r.event("D", id: "2", at: t0 + 2 * hour, document: "D2", net: 70, gross: 70)),
        .order(r.event("X", .booked, at: t0 + horizon + hour)),
        .posting(r.posting("X", .receivable, 1, journal: "J2", at: t0 + horizon + hour)),
      ], now_ms: now, into: &outputs)
    matcher.advance(now_ms: now, outputs: &outputs)
    #expect(matcher.watermarks.current_ms == t0 + horizon + hour)
    #expect(outputs.breaks.filter { $0.order == "D" && !$0.isProvisional }.isEmpty)
    matcher.finish(outputs: &outputs)
    let last = outputs.breaks.last { $0.order == "D" }
    #expect(last?.type == .missingInLedger || last?.type == .partial)
    #expect(last?.state == .open && last?.isProvisional == false)
  }

  /// A tie that was closed gets records with a later deadline: it is judged again when that has passed.
  @Test func closedTieWithALaterDeadlineIsJudgedAgain() {
    var matcher = Matcher(policy: testPolicy(), dimensionCount: 0)
    var outputs = MatchOutputs()
    func time(_ at: Int64) {
      // Both sides say what time it is.
      matcher.take(
        [
          .order(r.event("CLOCK-\(at)", .booked, at: at)),
          .posting(r.posting("CLOCK-\(at)", .receivable, 1, journal: "C-\(at)", at: at)),
        ], now_ms: now, into: &outputs)
      matcher.advance(now_ms: now, outputs: &outputs)
    }
    matcher.take(
      [.order(r.event("L", id: "1", at: t0, document: "D1", net: 100, gross: 100))], now_ms: now, into: &outputs)
    time(t0 + horizon + hour)
    #expect(outputs.breaks.last { $0.order == "L" }?.type == .missingInLedger)
    // Its posting comes late, and with it a cancellation that is not due yet.
    matcher.take(
      [
        .posting(r.posting("L", .receivable, 100, journal: "J1", at: t0 + 1, document: "D1")),
        .posting(r.posting("L", .revenue, -100, journal: "J1", at: t0 + 1, document: "D1")),
        .order(r.event("L", .cancelled, id: "2", at: t0 + 3 * hour)),
      ], now_ms: now, into: &outputs)
    for hours in 2...12 { time(t0 + horizon + Int64(hours) * hour) }
    let open = Dictionary(grouping: outputs.breaks.filter { $0.order == "L" }, by: \.id).values
      .compactMap { $0.max { $0.revision < $1.revision } }.filter(\.state.isOpen)
    #expect(!open.isEmpty, "what was posted for a cancelled order is open")
    #expect(open.allSatisfy { !$0.isProvisional })
  }
}
