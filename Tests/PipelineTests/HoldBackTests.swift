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
  /// By task, and in it by source: how far it has come, and what waits.
  private func ahead(_ tasks: [[(Int64, Int)]], waiting: Set<Int> = []) -> Set<Int> {
    sourcesAhead(
      tasks.map { $0.map { SourcePlace(reached_ms: $0.0, backlog: $0.1) } }, waiting: waiting, lead_ms: 100,
      leastBacklog: 10)
  }

  @Test func theOneAheadWaitsForABacklog() {
    #expect(ahead([[(1_000, 50), (1_101, 0)]]) == [1])
    #expect(ahead([[(1_000, 50), (1_100, 0)]]) == [])
    #expect(ahead([[(1_101, 9), (1_000, 50), (1_200, 70)]]) == [0, 2])
    // Next to nothing to read, or nothing: whoever waits for it would wait for ever.
    #expect(ahead([[(1_000, 9), (9_000, 0)]]) == [])
    #expect(ahead([[(.min, 0), (9_000, 50)]]) == [])
    #expect(ahead([]) == [])
  }

  /// A source whose records have not come yet is behind all others.
  @Test func oneThatWasNotReadYetIsBehind() {
    #expect(ahead([[(.min, 50), (9_000, 0)]]) == [1])
    #expect(ahead([[(.min, 50), (.min, 50)]]) == [])
    #expect(ahead([[(.min, 50), (Int64.max - 5, 0)]]) == [1])
  }

  @Test func waitingEndsBelowHalfTheLead() {
    #expect(ahead([[(1_000, 50), (1_060, 0)]], waiting: [1]) == [1])
    #expect(ahead([[(1_000, 50), (1_050, 0)]], waiting: [1]) == [])
    #expect(ahead([[(1_000, 50), (1_060, 0)]]) == [])
    // Overtaken: the other one waits.
    #expect(ahead([[(1_200, 0), (1_000, 50)]], waiting: [1]) == [0])
  }

  /// A source is as far ahead as in the task where it is least so: one that is behind somewhere never waits for itself.
  @Test func allPartitionsOfAWorkerAreLookedAt() {
    #expect(ahead([[(1_000, 50), (5_000, 0)], [(3_000, 50), (1_050, 0)]]) == [])
    #expect(ahead([[(1_000, 50), (5_000, 0)], [(3_000, 50), (2_000, 0)]]) == [1])
    #expect(ahead([[(1_000, 50), (5_000, 40)], [(3_000, 50), (900, 40)]]) == [])
  }
}
