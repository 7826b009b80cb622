import Domain
import Matching
import Testing

@testable import Pipeline

/// What a router knows and tells of the partitions that it routes from.
@Suite struct RouterProgressTests {
  typealias Report = Watermarks.OriginReport

  func made(_ next: [Int64?], count: Int = 0) -> RouterProgress {
    RouterProgress(count: count, places: next.enumerated().map { (Int32($0), $1) }, now_ms: 0)
  }

  @Test func whatChangesIsTold() {
    var progress = made([nil, 40, nil], count: 5)
    func told(_ now_ms: Int64) -> RoutedProgress? { progress.told(now_ms: now_ms, retell_ms: 60_000) }
    // Nothing is known, so nothing is said.
    #expect(told(10_000) == nil)
    progress.routed(1, offset: 40, time_ms: 700, latest_ms: 1_000, now_ms: 10_000)
    progress.routed(1, offset: 41, time_ms: 600, latest_ms: 1_000, now_ms: 10_000)
    progress.routed(1, offset: 42, time_ms: 5_000, latest_ms: 1_000, now_ms: 10_000)
    progress.routed(1, offset: 43, time_ms: nil, latest_ms: 1_000, now_ms: 10_000)
    let first = RoutedProgress(
      count: 5, reports: [Report(partition: 1, next: 44, largest_ms: 700, isIdle: false)])
    #expect(told(10_000) == first)
    #expect(told(20_000) == nil)
    // A little later, together; and all of it from time to time.
    progress.routed(1, offset: 44, time_ms: 701, latest_ms: 1_000, now_ms: 20_000)
    #expect(told(10_000 + RouterProgress.pause_ms - 1) == nil)
    #expect(told(20_000)?.reports.count == 1)
    #expect(told(80_000)?.reports.map(\.next) == [45])
  }

  /// Idle is what was read to its end, has been silent, and of which the broker has no more; it is told at once, and so is
  /// its end.
  @Test func idlenessIsTheBrokersWord() {
    var progress = made([nil, nil])
    func told(_ now_ms: Int64) -> RoutedProgress? { progress.told(now_ms: now_ms, retell_ms: 60_000) }
    func maybeIdle(_ now_ms: Int64) -> [Int32] { progress.maybeIdle(after_ms: 500, now_ms: now_ms) }
    progress.ended(0, at: 12)
    #expect(maybeIdle(499) == [])
    #expect(maybeIdle(500) == [0])
    #expect(
      told(500)?.reports == [
        Report(partition: 0, next: 12, largest_ms: .min, isIdle: false)
      ])
    // There is more: it is asked again after as long.
    progress.answered(0, end: 13)
    #expect(told(501) == nil)
    #expect(
      maybeIdle(999) == [] && maybeIdle(1_000) == [0])
    progress.answered(0, end: 12)
    #expect(told(501)?.reports.map(\.isIdle) == [true])
    #expect(maybeIdle(9_000) == [])
    progress.routed(0, offset: 12, time_ms: 3, latest_ms: 10, now_ms: 9_000)
    #expect(
      told(502)?.reports == [
        Report(partition: 0, next: 13, largest_ms: 3, isIdle: false)
      ])
    // An answer to a question from before says nothing of what has come since.
    progress.answered(0, end: 12)
    #expect(told(9_000) == nil)
  }

  /// Who is ahead waits, until half of the lead is gone or nobody is behind.
  @Test func whoIsAheadWaits() {
    var progress = made([0, 0, 0])
    func isChanged() -> Bool { progress.holdBack(lead_ms: 100) }
    progress.routed(0, offset: 0, time_ms: 1_000, latest_ms: .max, now_ms: 0)
    #expect(!isChanged())
    progress.routed(1, offset: 0, time_ms: 899, latest_ms: .max, now_ms: 0)
    #expect(isChanged() && progress.isHeld(0) && !progress.isHeld(1) && !progress.isHeld(2))
    progress.routed(1, offset: 1, time_ms: 949, latest_ms: .max, now_ms: 0)
    #expect(!isChanged() && progress.isHeld(0))
    progress.routed(1, offset: 2, time_ms: 950, latest_ms: .max, now_ms: 0)
    #expect(isChanged() && !progress.isHeld(0))
    progress.routed(2, offset: 0, time_ms: 0, latest_ms: .max, now_ms: 0)
    #expect(isChanged() && progress.isHeld(0) && progress.isHeld(1))
    progress.ended(2, at: 1)
    #expect(isChanged() && !progress.isHeld(0) && !progress.isHeld(1))
  }

  @Test func theMessageIsReadAsItWasWritten() {
    let told = RoutedProgress(
      count: 7,
      reports: [
        Report(partition: 6, next: 1 << 40, largest_ms: 1_768_204_800_000, isIdle: true),
        Report(partition: 0, next: 0, largest_ms: .min, isIdle: false),
      ])
    var writer = ByteWriter()
    told.encode(into: &writer)
    writer.array.withUnsafeBufferPointer { #expect(RoutedProgress($0) == told && RoutedRecord($0) == nil) }
    // Cut short it is none, and no record either.
    writer.array.dropLast().withUnsafeBufferPointer { #expect(RoutedProgress($0) == nil && RoutedRecord($0) == nil) }
    let other: [UInt8] = [1, 3, 0, 0, 0, 0, 0, 0, 0]
    other.withUnsafeBufferPointer { #expect(RoutedProgress($0) == nil) }
    #expect(RoutedProgress(nil) == nil)
  }
}
