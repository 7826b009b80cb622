import Domain
import Testing

@testable import Matching

/// Random histories: the answer must not depend on the order of arrival, on batching, on how orders are split over
/// tasks, or on re-deliveries; and it must be the answer of a naive oracle that shares no code with the matcher.
@Suite struct PropertyTests {
  struct History {
    var events: [OrderEvent] = []
    var postings: [Posting] = []
    var inputs: [Input] { events.map { .order($0) } + postings.map { .posting($0) } }
  }

  /// Up to four orders with invoices, payments, credits and cancellations, posted right, wrong, twice or not at all.
  func history(_ r: Records, _ generator: inout SeededGenerator) -> History {
    var history = History()
    for order in 0..<Int.random(in: 1...4, using: &generator) {
      let key = "H\(order)"
      var journal = 0
      for document in 0..<Int.random(in: 0...3, using: &generator) {
        let name = "\(key)-D\(document)"
        let net = Int64.random(in: 1...99_999, using: &generator)
        let tax = Bool.random(using: &generator) ? net / 5 : 0
        let at = t0 + Int64(document) * hour + Int64.random(in: 0...60_000, using: &generator)
        let kind: OrderEventKind = [.invoiced, .invoiced, .invoiced, .credited, .paid].randomElement(using: &generator)!
        var lines: [(AccountRole, Int64)]
        switch kind {
        case .credited:
          history.events.append(
            r.event(key, kind, id: name, at: at, document: name, net: net, tax: tax, gross: net + tax))
          lines = [(.returns, net), (.tax, tax), (.receivable, -net - tax)]
        case .paid:
          history.events.append(r.event(key, kind, id: name, at: at, document: name, applied: net))
          lines = [(.cash, net), (.receivable, -net)]
        default:
          history.events.append(
            r.event(key, kind, id: name, at: at, document: name, net: net, tax: tax, gross: net + tax))
          lines = [(.receivable, net + tax), (.revenue, -net), (.tax, -tax)]
        }
        var copies = 1
        switch Int.random(in: 0..<10, using: &generator) {
        case 0: lines = []
        case 1: copies = 2
        case 2: lines = lines.map { ($0.0, -$0.1) }
        case 3: lines[0].1 += Int64.random(in: 1...500, using: &generator)
        case 4: lines = lines.map { ($0.0, $0.1 * 10) }
        default: break
        }
        for _ in 0..<copies {
          journal += 1
          for (index, line) in lines.enumerated() where line.1 != 0 {
            history.postings.append(
              r.posting(
                key, line.0, line.1, journal: "\(key)-J\(journal)", line: index + 1, at: at + 30_000, document: name))
          }
        }
      }
      if Int.random(in: 0..<6, using: &generator) == 0 {
        history.events.append(r.event(key, .cancelled, at: t0 + 5 * hour))
      }
    }
    // Re-deliveries change nothing.
    if let event = history.events.randomElement(using: &generator) { history.events.append(event) }
    if let posting = history.postings.randomElement(using: &generator) { history.postings.append(posting) }
    return history
  }

  func plain(_ breaks: [String: Break]) -> [String: Break] {
    breaks.filter { $0.value.state.isOpen || $0.value.state == .accepted }.mapValues {
      var copy = $0
      copy.revision = 0
      copy.state = copy.state.isOpen ? .open : copy.state
      copy.asOf_ms = 0
      return copy
    }
  }

  @Test(arguments: 0..<300 as Range<UInt64>) func anyArrivalGivesTheSameBreaks(seed: UInt64) {
    var generator = SeededGenerator(state: seed)
    let r = Records()
    let history = history(r, &generator)
    let reference = plain(finalBreaks(history.inputs))
    for round in 0..<3 {
      let shuffled = history.inputs.shuffled(using: &generator)
      #expect(plain(finalBreaks(shuffled)) == reference, "seed \(seed) round \(round)")
    }
    // With time moving in between, and provisional breaks coming and going.
    var matcher = Matcher(policy: testPolicy { $0.outOfOrderness_ms = 48 * hour }, dimensionCount: 0)
    var outputs = MatchOutputs()
    for input in history.inputs.shuffled(using: &generator) {
      matcher.take([input], into: &outputs)
      matcher.watermarks.force(t0 + Int64.random(in: 0...20, using: &generator) * hour)
      matcher.advance(now_ms: t0 + 1_000 * hour, outputs: &outputs)
    }
    matcher.finish(outputs: &outputs)
    expectControlTotals(matcher.totals)
    var last: [String: Break] = [:]
    for made in outputs.breaks {
      if let known = last[made.id] {
        #expect(made.revision == known.revision + 1, "seed \(seed): revisions rise by one")
      } else {
        #expect(made.revision == 1)
      }
      last[made.id] = made
    }
    #expect(plain(last) == reference, "seed \(seed) with time")
  }

  @Test(arguments: 0..<100 as Range<UInt64>) func anySplitGivesTheSameBreaks(seed: UInt64) {
    var generator = SeededGenerator(state: seed ^ 0xabcd)
    let r = Records()
    let inputs = history(r, &generator).inputs
    let reference = plain(finalBreaks(inputs))
    let parts = Int.random(in: 2...4, using: &generator)
    var together: [String: Break] = [:]
    for part in 0..<parts {
      let own = inputs.filter {
        let key: ByteView =
          switch $0 {
          case .order(let event): event.order
          case .posting(let posting): posting.order
          }
        return Int(Fingerprint(key).low % UInt64(parts)) == part
      }
      together.merge(finalBreaks(own)) { a, _ in a }
    }
    #expect(plain(together) == reference, "seed \(seed)")
  }

  /// The oracle: exact dictionaries, the standard policy written out once more, no tolerance.
  @Test(arguments: 0..<300 as Range<UInt64>) func agreesWithTheOracle(seed: UInt64) {
    var generator = SeededGenerator(state: seed &* 77 &+ 5)
    let r = Records()
    let history = history(r, &generator)
    var difference: [String: [AccountRole: Int64]] = [:]
    var seen: Set<String> = []
    let cancelled = Set(history.events.filter { $0.kind == .cancelled }.map(\.order.string))
    for event in history.events where seen.insert("e" + event.id.string).inserted {
      let order = event.order.string
      func expect(_ role: AccountRole, _ amount: Int64) { difference[order, default: [:]][role, default: 0] -= amount }
      switch event.kind {
      case .invoiced where !cancelled.contains(order):
        expect(.receivable, event.amounts[.gross])
        expect(.revenue, -event.amounts[.net])
        expect(.tax, -event.amounts[.tax])
      case .credited where !cancelled.contains(order):
        expect(.receivable, -event.amounts[.gross])
        expect(.returns, event.amounts[.net])
        expect(.tax, event.amounts[.tax])
      case .paid:
        expect(.cash, event.amounts[.applied])
        expect(.receivable, -event.amounts[.applied])
      default: break
      }
    }
    for posting in history.postings where seen.insert("p" + posting.id.string + posting.order.string).inserted {
      difference[posting.order.string, default: [:]][posting.role, default: 0] += posting.amount
    }
    let wrong = Set(difference.filter { $0.value.contains { $0.value != 0 } }.keys)
    let broken = plain(finalBreaks(history.inputs))
    #expect(Set(broken.values.map(\.order)) == wrong, "seed \(seed)")
    for made in broken.values {
      // Two differences of a role may come to nothing together, but none is about nothing.
      if let expected = made.expected, expected == made.posted {
        #expect(made.affected ?? 0 != 0, "\(seed) \(made.id)")
      }
      let sums = Dictionary(uniqueKeysWithValues: made.roles.map { ($0.role, $0.posted - $0.expected) })
      for (role, delta) in difference[made.order] ?? [:] { #expect(sums[role] ?? 0 == delta, "seed \(seed) \(role)") }
    }
  }
}
