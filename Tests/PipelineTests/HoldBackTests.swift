import Testing

@testable import Pipeline

/// Which sources wait at the memory bound.
@Suite struct HoldBackTests {
  private func held(
    _ times_ms: [Int64], atEnd: [Bool] = [false, false], held: [Bool] = [false, false], over: Bool = true,
    near: Bool = true
  ) -> [Bool] {
    heldBack(times_ms: times_ms, isAtEnd: atEnd, isHeld: held, isOver: over, isNear: near)
  }

  @Test func theOneAheadWaits() {
    #expect(held([7_200_000, 1_000]) == [true, false])
    #expect(held([1_000, 7_200_000]) == [false, true])
    // One that has said nothing yet is behind all others.
    #expect(held([5, .min]) == [true, false])
    #expect(held([5, 5]) == [false, false])
    #expect(
      held([9, 5, 7, 5], atEnd: .init(repeating: false, count: 4), held: .init(repeating: false, count: 4)) == [
        true, false, true, false,
      ])
  }

  @Test func belowTheBoundNobodyWaits() {
    #expect(held([9, 5], over: false, near: false) == [false, false])
    // Not yet: it was not waiting, and the state is only near the bound.
    #expect(held([9, 5], over: false, near: true) == [false, false])
  }

  @Test func waitingEndsWhenCaughtUpOrShrunk() {
    #expect(held([9, 5], held: [true, false], over: false, near: true) == [true, false])
    #expect(held([9, 5], held: [true, false], over: false, near: false) == [false, false])
    #expect(held([9, 9], held: [true, false]) == [false, false])
    // Overtaken: now the other one waits.
    #expect(held([9, 10], held: [true, false]) == [false, true])
  }

  /// Where the one behind has nothing to read, waiting for it would never end.
  @Test func nobodyWaitsForASourceAtItsEnd() {
    #expect(held([9, 5], atEnd: [false, true]) == [false, false])
    #expect(held([9, 5], atEnd: [false, true], held: [true, false]) == [false, false])
  }
}

/// Which sources wait while a backlog is worked off.
@Suite struct SourcesAheadTests {
  /// By task, and in it by source: around which time it is read, and what waits. A negative count: nothing has come lately.
  private func ahead(_ tasks: [[(Int64?, Int)]], waiting: Set<Int> = []) -> Set<Int> {
    sourcesAhead(
      tasks.map { $0.map { SourcePlace(typical_ms: $0.0, backlog: max(0, $0.1), isSilent: $0.1 < 0) } },
      waiting: waiting, lead_ms: 100, leastBacklog: 10)
  }

  @Test func theOneAheadWaitsForABacklog() {
    #expect(ahead([[(1_000, 50), (1_101, 50)]]) == [1])
    #expect(ahead([[(1_000, 50), (1_100, 50)]]) == [])
    #expect(ahead([[(1_101, 30), (1_000, 50), (1_200, 70)]]) == [0, 2])
    // Next to nothing to read, or nothing: whoever waited for it would wait for ever.
    #expect(ahead([[(1_000, 9), (9_000, 50)]]) == [])
    #expect(ahead([[(nil, 0), (9_000, 50)]]) == [])
    #expect(ahead([]) == [])
  }

  /// One that is up to date does not begin to wait; one that waits goes on waiting, whatever is known of its backlog.
  @Test func whatIsUpToDateDoesNotWait() {
    #expect(ahead([[(1_000, 50), (9_000, 9)]]) == [])
    #expect(ahead([[(1_000, 50), (9_000, 9)]], waiting: [1]) == [1])
    // In one task at its end, in another not.
    #expect(ahead([[(1_000, 50), (9_000, 0)], [(1_000, 50), (9_000, 50)]]) == [1])
  }

  /// A source whose records have not come yet is behind all others.
  @Test func oneThatWasNotReadYetIsBehind() {
    #expect(ahead([[(nil, 50), (9_000, 50)]]) == [1])
    #expect(ahead([[(nil, 50), (nil, 50)]]) == [])
    // Farther apart than a time can say.
    #expect(ahead([[(.min + 1, 50), (.max, 50)]]) == [1])
  }

  @Test func waitingEndsBelowHalfTheLead() {
    #expect(ahead([[(1_000, 50), (1_060, 50)]], waiting: [1]) == [1])
    #expect(ahead([[(1_000, 50), (1_050, 50)]], waiting: [1]) == [])
    #expect(ahead([[(1_000, 50), (1_060, 50)]]) == [])
    // Overtaken: the other one waits.
    #expect(ahead([[(1_200, 50), (1_000, 50)]], waiting: [1]) == [0])
    // The one behind is as good as done.
    #expect(ahead([[(1_000, 9), (1_200, 50)]], waiting: [1]) == [])
  }

  /// A source waits in all tasks of a worker or in none: as soon as one of them has nobody who is behind, in none.
  @Test func allPartitionsOfAWorkerAreLookedAt() {
    #expect(ahead([[(1_000, 50), (5_000, 50)], [(3_000, 50), (3_050, 50)]]) == [])
    #expect(ahead([[(1_000, 50), (5_000, 50)], [(3_000, 50), (3_101, 50)]]) == [1])
    // Up to date there, with records that come: they are not kept waiting.
    #expect(ahead([[(1_000, 50), (5_000, 50)], [(5_000, 0), (5_000, 0)]]) == [])
    // Nothing comes there any more, or never did.
    #expect(ahead([[(1_000, 50), (5_000, 50)], [(5_000, 0), (700, -1)]]) == [1])
    #expect(ahead([[(1_000, 50), (5_000, 50)], [(5_000, 0), (nil, -1)]]) == [1])
    #expect(ahead([[(1_000, 0), (5_000, -1)], [(5_000, 0), (nil, -1)]]) == [])
  }

  @Test func whatComesNoFurtherIsNoMeasure() {
    var advance = SourceAdvance()
    func observe(_ next: Int64, atEnd: Bool = false, waits: Bool = false, _ now_ms: Int64) {
      advance.observe(next: next, isAtEnd: atEnd, waits: waits, now_ms: now_ms)
    }
    observe(10, 1_000)
    observe(10, 5_999)
    #expect(!advance.standsStill(5_999))
    #expect(advance.standsStill(6_000) && !advance.isSilent)
    observe(11, 6_000)
    #expect(!advance.standsStill(6_000))
    observe(11, atEnd: true, 11_000)
    #expect(advance.isSilent)
    // Held: that it stands says nothing, and it stays what it was.
    observe(11, atEnd: true, waits: true, 20_000)
    #expect(advance.isSilent && !advance.standsStill(20_000))
    observe(12, 20_100)
    #expect(!advance.isSilent)
    observe(12, atEnd: true, waits: true, 90_000)
    observe(12, atEnd: true, 90_100)
    #expect(!advance.isSilent)
  }
}

@Suite struct PulseTests {
  @Test func silenceOfMinutesIsStandingStill() {
    let pulse = Pulse()
    #expect(!pulse.standsStill(1_000_000_000))
    pulse.beat(1_000)
    #expect(!pulse.standsStill(1_000))
    #expect(!pulse.standsStill(301_000))
    #expect(pulse.standsStill(301_001))
    pulse.beat(301_001)
    #expect(!pulse.standsStill(301_002))
    // Another thread's clock reading may be a little older.
    #expect(!pulse.standsStill(300_000))
  }
}
