import Domain
import Foundation
import Testing

@testable import Simulation

@Suite struct HistoryTests {
  let usd = Currency("USD")!

  func event(_ kind: OrderEventKind, _ time: Int64, id: String = "D", gross: Int64 = 120) -> HistoryEvent {
    HistoryEvent(
      order: "A", id: id, kind: kind, document: id, currency: usd, time_ms: time,
      amounts: [.net: gross - 20, .tax: 20, .gross: gross])
  }

  func posting(_ role: AccountRole, _ amount: Int64, line: Int, journal: String = "J") -> HistoryPosting {
    HistoryPosting(
      order: "A", journal: journal, line: line, document: "D", role: role, currency: usd, amount: amount, time_ms: 2)
  }

  var invoice: [HistoryPosting] {
    [posting(.receivable, 120, line: 1), posting(.revenue, -100, line: 2), posting(.tax, -20, line: 3)]
  }

  @Test func oracleKnowsWhatTiesOut() {
    var history = History()
    history.events = [event(.invoiced, 1), event(.invoiced, 1)]
    history.postings = invoice + invoice
    #expect(NaiveOracle(history).tiedOut == ["A"], "delivered twice is not posted twice")
    history.postings[0].amount = 130
    // The second delivery is dropped whatever it says; the first one counts.
    let oracle = NaiveOracle(history)
    #expect(oracle.tiedOut.isEmpty)
    #expect(
      oracle.differences == [
        .init(order: "A", role: .receivable, currency: usd): .init(expected: 120, posted: 130)
      ])
    history.postings = invoice + invoice.map { posting($0.role, $0.amount, line: $0.line, journal: "K") }
    #expect(NaiveOracle(history).differences.count == 3, "another journal is posted twice")
  }

  @Test func oracleTakesBillingBackOnlyWhereNothingFollowsTheCancellation() {
    var history = History()
    history.events = [event(.invoiced, 1), event(.cancelled, 2, id: "C")]
    #expect(NaiveOracle(history).tiedOut == ["A"], "cancelled and not posted")
    history.postings = invoice
    #expect(NaiveOracle(history).tiedOut.isEmpty, "cancelled and not reversed")
    history.events.append(event(.booked, 3, id: "B"))
    #expect(NaiveOracle(history).tiedOut == ["A"], "booked again")
  }

  @Test func oracleSeesPostingsWithoutOrderAndOtherCurrencies() {
    var history = History()
    history.postings = invoice
    #expect(NaiveOracle(history).orders == ["A"] && NaiveOracle(history).tiedOut.isEmpty)
    history.events = [event(.invoiced, 1)]
    for index in history.postings.indices { history.postings[index].currency = Currency("EUR")! }
    #expect(NaiveOracle(history).differences.count == 6)
  }

  @Test func historiesAreSeededAndShowEverything() {
    func make(_ seed: UInt64) -> History {
      var generator = HistoryGenerator(seed: seed, start_ms: 1_000)
      return generator.next()
    }
    #expect(make(1) == make(1))
    let all = (0..<300).map { make(UInt64($0)) }
    #expect(Set(all.flatMap(\.events).map(\.kind)) == [.booked, .invoiced, .credited, .paid, .shipped, .cancelled])
    #expect(all.flatMap(\.postings).contains { !$0.reverses.isEmpty })
    #expect(all.flatMap(\.postings).contains { $0.currency == Currency("EUR")! })
    let results = all.map { NaiveOracle($0) }
    #expect(results.contains { !$0.differences.isEmpty } && results.contains { $0.tiedOut.count >= 3 })
    for history in all {
      let times = Dictionary(grouping: history.events, by: \.order).mapValues {
        Set($0.map { [$0.id, "\($0.time_ms)"] })
      }
      for (order, pairs) in times { #expect(Set(pairs.map { $0[1] }).count == pairs.count, "\(order): times differ") }
    }
  }

  @Test func storageKeepsTheBytes() {
    let storage = HistoryStorage()
    let first = storage.record(event(.invoiced, 86_400_000, id: "D-1"))
    var posting = posting(.tax, -20, line: 3)
    posting.reverses = "J0"
    let second = storage.record(posting)
    for number in 0..<10_000 { _ = storage.record(event(.booked, 1, id: "filler \(number)")) }
    #expect(first.order.string == "A" && first.id.string == "D-1" && first.amounts[.gross] == 120)
    #expect(first.amounts.contains(.tax) && !first.amounts.contains(.freight) && first.documentDate_d == 1)
    #expect(second.id.string == "J-3" && second.reverses.string == "J0" && second.isReversal && second.amount == -20)
    #expect(first.position != storage.record(event(.invoiced, 1)).position)
    withExtendedLifetime(storage) {}
  }

  @Test(arguments: Corruption.allCases) func corruptedRecordsAreUnreadable(corruption: Corruption) throws {
    var options = WorkloadOptions()
    options.orders = 40
    var load = Workload(options)
    var corrupter = ByteCorrupter(seed: 9, keyField: "order_id", amountField: "gross")
    var again = ByteCorrupter(seed: 9, keyField: "order_id", amountField: "gross")
    var count = 0
    while let record = load.next() {
      guard record.isOrder else { continue }
      let bytes = corrupter.corrupt(record.value, corruption)
      #expect(bytes == again.corrupt(record.value, corruption), "the same seed damages the same way")
      #expect(!bytes.isEmpty && !bytes.contains(0x0a) && !bytes.contains(0x09) && bytes != record.value)
      if corruption == .enormous { #expect(bytes.count > 10_000_000) }
      count += 1
      if let object = try? JSONSerialization.jsonObject(with: Data(bytes)) as? [String: Any] {
        let key = object["order_id"] as? String
        let gross = (object["gross"] as? String).flatMap { try? Money($0, usd) }
        let isFine = key.map { !$0.isEmpty && $0.utf8.count < 1_000_000 } == true && gross != nil
        // Foundation repairs what is not UTF-8.
        #expect(!isFine || corruption == .invalidUTF8)
      }
      if corruption == .enormous { break }
    }
    #expect(count > 0)
  }
}
