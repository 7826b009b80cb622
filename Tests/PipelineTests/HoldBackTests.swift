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
