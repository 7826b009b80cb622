import Domain
import Testing

@testable import Matching

/// Whether a posting is in time: its period, and how far it is from the document that it is about.
@Suite struct PostingDateTests {
  let r = Records()

  @Test func dates() {
    let documentDay = day(ofMilliseconds: t0)
    func dated(_ offset: Int32) -> [String] {
      verdicts([r.sale()], r.invoice("O1", net: 100_00, tax: 19_00, freight: 5_00, date: documentDay + offset))
    }
    #expect(dated(0) == [])
    #expect(dated(5) == [])
    #expect(dated(6) == ["LATE_POSTING:revenue"])
    #expect(dated(-1) == [])
    #expect(dated(-2) == ["EARLY_POSTING:revenue"])
    // 2026-03-10 + 22 days is 2026-04-01.
    #expect(dated(21) == ["LATE_POSTING:revenue"])
    #expect(dated(22) == ["CUTOFF:revenue"])
    #expect(dated(-10) == ["CUTOFF:revenue"])
  }

  /// The posting of another sign takes the first invoice back, when that was cancelled, and is neither late for it nor early
  /// for the one that came under its number later.
  @Test(arguments: [7, 17] as [Int64]) func aNumberThatIsUsedAgainIsInTime(days: Int64) {
    let (end, again) = (t0 + days * 24 * hour, t0 + 2 * days * 24 * hour)
    let events = [
      r.event("O1", document: "D1", net: 100_00, gross: 100_00),
      r.event("O1", .invoiceCancelled, at: end, document: "D1", net: 100_00, gross: 100_00),
      r.event("O1", at: again, document: "D1", net: 90_00, gross: 90_00),
    ]
    let lines =
      r.invoice("O1", net: 100_00, document: "D1")
      + r.invoice("O1", net: -100_00, journal: "JE2", at: end, document: "D1")
    #expect(verdicts(events, lines + r.invoice("O1", net: 90_00, journal: "JE3", at: again, document: "D1")) == [])
    let late = r.invoice("O1", net: 90_00, journal: "JE3", at: again + 6 * 24 * hour, document: "D1")
    #expect(verdicts(events, lines + late).map { $0.hasSuffix("revenue") } == [true])
  }

  /// A posting that names no document takes a cancelled one back where it comes to as much; another one is dated as any.
  @Test func onlyWhatWasCancelledIsTakenBackWithoutAName() {
    let policy = testPolicy {
      $0.entries[Int(OrderEventKind.credited.rawValue)] = [.init(.revenue, 1, .net), .init(.receivable, -1, .gross)]
    }
    let april = t0 + 22 * 24 * hour
    let events = [
      r.event("O1", document: "D1", net: 100_00, gross: 100_00),
      r.event("O1", document: "D2", net: 500_00, gross: 500_00),
      r.event("O1", .invoiceCancelled, at: t0 + hour, document: "D1"),
      r.event("O1", .credited, at: t0 + 2 * hour, document: "C1", net: 30_00, gross: 30_00),
    ]
    let billed =
      r.invoice("O1", net: 100_00, document: "D1") + r.invoice("O1", net: 500_00, journal: "JE2", document: "D2")
    func back(_ net: Int64, _ journal: String, at time_ms: Int64, document: String = "") -> [Posting] {
      r.invoice("O1", net: -net, journal: journal, at: time_ms, document: document)
    }
    let credit = back(30_00, "JE4", at: t0 + 3 * hour, document: "C1")
    // The cancelled document, taken back in April.
    #expect(verdicts(events, billed + back(100_00, "JE3", at: april) + credit, policy: policy) == [])
    // The credit note, in April.
    let own = back(100_00, "JE3", at: t0 + 2 * hour, document: "D1")
    #expect(verdicts(events, billed + own + back(30_00, "JE4", at: april), policy: policy) == ["CUTOFF:revenue"])
  }

  /// What is posted in its period, and in a later one taken back and posted anew, is in its period all the same.
  @Test(arguments: [true, false]) func aPeriodThatAgreesIsNoCutoff(isReversal: Bool) {
    let april = day(ofMilliseconds: t0) + 22
    let first = r.invoice("O1", net: 100_00, document: "D1")
    let back = r.invoice("O1", net: -100_00, journal: "JE2", document: "D1", date: april).map {
      var posting = $0
      posting.isReversal = isReversal
      return posting
    }
    let again = r.invoice("O1", net: 100_00, journal: "JE3", document: "D1", date: april + 1)
    let sale = r.event("O1", document: "D1", net: 100_00, gross: 100_00)
    #expect(verdicts([sale], first + back + again) == [])
    let march = r.invoice("O1", net: -100_00, journal: "JE2", document: "D1").map {
      var posting = $0
      posting.isReversal = isReversal
      return posting
    }
    #expect(verdicts([sale], first + march + again) == ["CUTOFF:revenue"])
  }
}
