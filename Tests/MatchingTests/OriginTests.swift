import Domain
import Testing

@testable import Matching

/// Time of routed sources: by the partitions that they are routed from.
@Suite struct OriginTests {
  typealias Report = Watermarks.OriginReport

  func marks(idle_ms: Int64 = 1_000) -> Watermarks {
    var marks = Watermarks(outOfOrderness_ms: 10, idleTimeout_ms: idle_ms)
    marks.register(source: 0, partition: 3, now_ms: 0)
    marks.register(source: 1, partition: 3, isRouted: true, now_ms: 0)
    return marks
  }

  /// The one that is farthest behind decides, also before it has spoken, whatever the records say that came.
  @Test func theOriginFarthestBehindDecides() {
    var marks = marks()
    func advanced(_ now_ms: Int64) -> Int64 { marks.advance(now_ms: now_ms) }
    marks.observe(source: 0, partition: 3, largest_ms: 90_000, now_ms: 1)
    marks.observe(source: 1, partition: 3, largest_ms: 80_000, now_ms: 1)
    #expect(advanced(1) == .min)
    func tell(_ reports: [Report], now_ms: Int64) {
      marks.observe(source: 1, partition: 3, origins: reports, count: 2, now_ms: now_ms)
    }
    tell([Report(partition: 0, next: 5, largest_ms: 80_000, isIdle: false)], now_ms: 2)
    #expect(advanced(2) == .min)
    // Silence of what is read says nothing of what has not been routed yet.
    #expect(advanced(50_000) == .min && marks.reached_ms(source: 1) == nil)
    tell([Report(partition: 1, next: 2, largest_ms: 500, isIdle: false)], now_ms: 50_001)
    marks.observe(source: 0, partition: 3, largest_ms: 90_000, now_ms: 50_001)
    #expect(advanced(50_001) == 490 && marks.reached_ms(source: 1) == 500)
    // Nothing more in it: the other one decides, then the other source.
    tell([Report(partition: 1, next: 2, largest_ms: 500, isIdle: true)], now_ms: 50_002)
    #expect(advanced(50_002) == 79_990 && marks.reached_ms(source: 1) == 80_000)
    tell([Report(partition: 0, next: 5, largest_ms: 80_000, isIdle: true)], now_ms: 50_003)
    #expect(advanced(50_003) == 89_990)
  }

  /// A report that comes late from a member that was replaced changes nothing, and nobody's time goes back.
  @Test func anOlderReportSaysNothing() {
    var marks = marks()
    func advanced(_ now_ms: Int64) -> Int64 { marks.advance(now_ms: now_ms) }
    func tell(_ report: Report) {
      marks.observe(source: 1, partition: 3, origins: [report], count: 1, now_ms: 1)
    }
    marks.observe(source: 0, partition: 3, largest_ms: 90_000, now_ms: 1)
    tell(Report(partition: 0, next: 9, largest_ms: 700, isIdle: false))
    tell(Report(partition: 0, next: 8, largest_ms: 900, isIdle: true))
    #expect(advanced(1) == 690)
    // The next owner has routed nothing yet.
    tell(Report(partition: 0, next: 9, largest_ms: .min, isIdle: false))
    #expect(advanced(1) == 690 && marks.reached_ms(source: 1) == 700)
    // A partition that was added holds the time until it is told of.
    marks.observe(source: 1, partition: 3, origins: [], count: 2, now_ms: 2)
    tell(Report(partition: 0, next: 10, largest_ms: 5_000, isIdle: false))
    #expect(advanced(2) == 690)
  }

  /// When all are idle, and what is read is silent, the clock takes over.
  @Test func theClockTakesOverWhenAllAreIdle() {
    var marks = marks()
    func advanced(_ now_ms: Int64) -> Int64 { marks.advance(now_ms: now_ms) }
    marks.observe(
      source: 1, partition: 3, origins: [Report(partition: 0, next: 1, largest_ms: 70, isIdle: true)], count: 1,
      now_ms: 5_000)
    // Told just now: source 0 is silent, but the routed one is not yet.
    #expect(advanced(5_999) == .min)
    #expect(advanced(6_000) == 5_990)
  }

  @Test func stateComesBack() throws {
    var marks = marks()
    marks.observe(
      source: 1, partition: 3, origins: [Report(partition: 1, next: 7, largest_ms: 70, isIdle: true)], count: 3,
      now_ms: 5)
    var writer = ByteWriter()
    marks.export(into: &writer)
    var restored = Watermarks(outOfOrderness_ms: 10, idleTimeout_ms: 1_000)
    var failure: ByteCodingError?
    writer.array.withUnsafeBytes { raw in
      var reader = ByteReader(raw)
      do throws(ByteCodingError) { try restored.restore(from: &reader) } catch { failure = error }
    }
    #expect(failure == nil)
    var again = ByteWriter()
    restored.export(into: &again)
    #expect(writer.array == again.array)
    #expect(restored.partitions[0].origins == nil)
    #expect(restored.partitions[1].origins == marks.partitions[1].origins && marks.partitions[1].origins?.count == 3)
  }

  /// What is read now, whatever single records are dated.
  @Test func theTypicalTimeIsThatOfMostRecords() {
    var marks = Watermarks(outOfOrderness_ms: 10, idleTimeout_ms: 1_000)
    #expect(marks.typical_ms(source: 0) == nil)
    marks.observe(source: 0, partition: 0, largest_ms: 9_000_000, now_ms: 1)
    #expect(marks.typical_ms(source: 0) == nil)
    for time_ms in [5_000, 5_010, 9_000_000, 5_020, 3, 5_030] as [Int64] {
      marks.sample(source: 0, partition: 0, time_ms: time_ms, now_ms: 1)
    }
    #expect(marks.typical_ms(source: 0) == 5_020)
    for time_ms in 0..<7 { marks.sample(source: 0, partition: 0, time_ms: 7_000 + Int64(time_ms), now_ms: 1) }
    #expect(marks.typical_ms(source: 0) == 7_003)
    #expect(marks.typical_ms(source: 1) == nil)
  }
}
