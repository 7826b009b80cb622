import Aggregates
import Configuration
import Domain
import Foundation
import Kafka
import KafkaTesting
import Pipeline
import Testing
import Validation

/// `<prefix>.quality` over the wire.
@Suite(.serialized) struct QualityTests {
  let support = EndToEndTests()

  /// By source and month.
  struct Counts: Equatable {
    var records = 0
    var matched = 0
    var flagged = 0
    /// Debits by currency, in cents.
    var total: [String: Int] = [:]
    var matchedTotal: [String: Int] = [:]

    mutating func add(_ cents: Int, _ currency: Any?, isMatched: Bool) {
      guard cents != 0, let currency = currency as? String else { return }
      total[currency, default: 0] += cents
      if isMatched { matchedTotal[currency, default: 0] += cents }
    }
  }

  /// Real orders and journal lines with a few records that cannot be read and a rule that flags: the daemon's counts are
  /// those of the files, over any partitioning and a restart.
  @Test(arguments: [1, 3]) func countsAreThoseOfTheFiles(partitions: Int) throws {
    guard let data = sharedData else {
      print("skipped: there is no ../shared/data")
      return
    }
    let (orders, ledger) = (data + "/northwind/orders.jsonl", data + "/northwind/ledger.jsonl")
    let cluster = try TestCluster()
    var quality = QualitySettings()
    quality.interval_ms = 100
    var configuration = try support.prepare(
      "northwind.yaml", cluster, partitions: partitions, workers: 2, quality: quality)
    // Gross of at most a thousand, counted where it is more.
    configuration.sources[0].rules = [
      RuleSpecification(
        name: "small", subject: "gross", severity: .count,
        condition: .range(
          RuleField(.component, index: AmountComponent.gross.rawValue), least: nil, most: 1_000_000_000))
    ]
    let sent = try FilePlayer(configuration).play(orders: [orders], ledger: [ledger])
    try cluster.produce(configuration.sources[1].topic, (0..<7).map { ("bad\($0)", "{\"after\":", nil) })

    // By hand, from the files.
    func json(_ line: Substring) throws -> (key: String, value: [String: Any]) {
      let parts = line.split(separator: "\t", maxSplits: 1)
      return (String(parts[0]), try JSONSerialization.jsonObject(with: Data(parts[1].utf8)) as! [String: Any])
    }
    func lines(_ path: String) throws -> [(key: String, value: [String: Any])] {
      try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").map(json)
    }
    func cents(_ amount: Any?) -> Int { Int((amount as! String).replacing(".", with: ""))! }
    let (ordered, posted) = (try lines(orders), try lines(ledger))
    let (orderKeys, ledgerKeys) = (Set(ordered.map(\.key)), Set(posted.map(\.key)))
    var expected: [String: Counts] = [:]
    for (key, value) in ordered {
      let event = value["event"] as! [String: Any]
      let month = "orders " + (event["time"] as! String).prefix(7).replacing("-", with: "")
      expected[month, default: Counts()].records += 1
      // What billing puts on the debit side is the gross.
      let amounts = value["amounts"] as! [String: Any]
      let gross = cents(amounts["gross"])
      expected[month]!.add(gross, amounts["currency"], isMatched: ledgerKeys.contains(key))
      if ledgerKeys.contains(key) { expected[month]!.matched += 1 }
      if gross > 100_000 { expected[month]!.flagged += 1 }
    }
    let calendar = { () -> Calendar in
      var calendar = Calendar(identifier: .gregorian)
      calendar.timeZone = TimeZone(identifier: "UTC")!
      return calendar
    }()
    for (key, value) in posted {
      let date = Date(timeIntervalSince1970: Double(value["ts_ms"] as! Int) / 1_000)
      let parts = calendar.dateComponents([.year, .month], from: date)
      let month = "ledger \(parts.year! * 100 + parts.month!)"
      expected[month, default: Counts()].records += 1
      let line = value["after"] as! [String: Any]
      expected[month]!.add(cents(line["debit"]), line["currency"], isMatched: orderKeys.contains(key))
      if orderKeys.contains(key) { expected[month]!.matched += 1 }
    }
    #expect(expected.count > 30 && expected.values.reduce(0) { $0 + $1.flagged } > 300)

    var found: [String: Counts] = [:]
    var deadLetters: [String: Int] = [:]
    var all: [String: Any] = [:]
    var periods: [String: [String: Any]] = [:]
    var standing: [String: [String: Any]] = [:]
    var breaks: [String: BreakMessage] = [:]
    // What the stage had not told before the daemon stopped, it tells after the next start.
    for attempt in 0..<4 where found != expected {
      breaks = try support.reconcile(configuration, records: attempt == 0 ? sent + 7 : 0)
      found = [:]
      deadLetters = [:]
      var revisions: [String: Int] = [:]
      for record in try cluster.readAll(configuration.qualityTopic, partitions: partitions) {
        let message = try JSONSerialization.jsonObject(with: Data(record.value!.utf8)) as! [String: Any]
        let name = "\(message["source"]!) \(message["period"]!)"
        #expect(record.key == name.replacing(" ", with: "|"))
        let revision = message["revision"] as! Int
        guard revision >= revisions[name] ?? 0 else { continue }
        revisions[name] = revision
        if message["source"] as? String == "(all)" {
          if message["period"] as? String == "(all)" { all = message } else { periods[name] = message }
        } else if message["period"] as? String == "(all)" {
          standing[message["source"] as! String] = message
        }
        var counts = Counts(
          records: message["records"] as! Int, matched: message["matched"] as! Int,
          flagged: message["flagged"] as! Int)
        for amount in message["amounts"] as! [[String: Any]] {
          let (total, matched) = (cents(amount["total"]), cents(amount["matched"]))
          counts.add(total - matched, amount["currency"], isMatched: false)
          counts.add(matched, amount["currency"], isMatched: true)
        }
        if counts.records > 0 { found[name] = counts }
        deadLetters[name] = message["dead_letters"] as? Int
        #expect(
          message["unmatched"] as! Int == counts.records - counts.matched && message["duplicates"] as! Int == 0)
      }
    }
    for name in Set(found.keys).union(expected.keys).sorted() where found[name] != expected[name] {
      Issue.record("\(name): \(found[name] ?? Counts()) instead of \(expected[name] ?? Counts())")
    }
    // Of a record that cannot be read the month is that in which it was written.
    let parts = calendar.dateComponents([.year, .month], from: Date())
    #expect(deadLetters["ledger \(parts.year! * 100 + parts.month!)"] == 7)
    #expect(deadLetters.values.reduce(0, +) == 7)
    // How the orders stand.
    let open = Set(breaks.values.filter(\.isOpen).map(\.order))
    let tiedOut = orderKeys.union(ledgerKeys).subtracting(open)
    #expect(all["orders_closed"] as? Int == orderKeys.union(ledgerKeys).count && !open.isEmpty)
    #expect(all["orders_tied_out"] as? Int == tiedOut.count)
    // The value of an order that ties out is its gross.
    let gross = try ordered.filter { tiedOut.contains($0.key) }.reduce(0) { sum, order in
      sum + cents(try #require(order.value["amounts"] as? [String: Any])["gross"])
    }
    let sums = try #require((all["amounts"] as? [[String: Any]])?.first { $0["currency"] as? String == "USD" })
    #expect(cents(sums["matched"]) == gross)
    #expect(cents(sums["total"]) > gross && cents(sums["open_breaks"]) > 0 && cents(sums["control_difference"]) == 0)
    #expect((sums["weighted_break_age_ms"] as? Int ?? -1) >= 0)
    // Everything is due: what is posted and not expected stands in breaks, role by role.
    let roles = try #require(sums["control_totals"] as? [[String: Any]])
    #expect(roles.count > 3)
    for role in roles {
      #expect(cents(role["pending"]) == 0, "\(role)")
      #expect(
        cents(role["posted"]) - cents(role["expected"]) == cents(role["open"]) + cents(role["accepted"]), "\(role)")
      // The periods add up to it.
      let own = periods.values.flatMap { $0["amounts"] as? [[String: Any]] ?? [] }
        .filter { $0["currency"] as? String == "USD" }
        .flatMap { $0["control_totals"] as? [[String: Any]] ?? [] }.filter {
          $0["role"] as? String == role["role"] as? String
        }
      for column in ["expected", "posted", "open", "accepted"] {
        #expect(own.reduce(0) { $0 + cents($1[column]) } == cents(role[column]), "\(column) of \(role)")
      }
    }
    #expect(periods.count > 1)
    // The same of the orders in which a source has a record.
    for (source, keys) in [("orders", orderKeys), ("ledger", ledgerKeys)] {
      let own = try #require(standing[source])
      let open = breaks.values.filter { $0.isOpen && keys.contains($0.order) }
      #expect(own["orders_closed"] as? Int == keys.count && own["records"] as? Int == 0)
      #expect(own["orders_tied_out"] as? Int == keys.subtracting(open.map(\.order)).count)
      #expect(own["open_break_count"] as? Int == open.count && !open.isEmpty)
      let sums = try #require((own["amounts"] as? [[String: Any]])?.first { $0["currency"] as? String == "USD" })
      #expect(cents(sums["matched"]) == gross && cents(sums["control_difference"]) == 0)
      #expect(cents(sums["open_breaks"]) > 0 && (sums["weighted_break_age_ms"] as? Int ?? -1) >= 0)
      let receivable = try #require(
        (sums["control_totals"] as? [[String: Any]])?.first { $0["role"] as? String == "receivable" })
      // What billing expects of the orders that the source knows of.
      let expected = try ordered.filter { keys.contains($0.key) }.reduce(0) { sum, order in
        let amounts = try #require(order.value["amounts"] as? [String: Any])
        return amounts["currency"] as? String == "USD" ? sum + cents(amounts["gross"]) : sum
      }
      #expect(cents(receivable["expected"]) == expected && expected > 0)
    }
    #expect(orderKeys != ledgerKeys && all["open_break_count"] as? Int == breaks.values.count(where: \.isOpen))
  }
}
