import Configuration
import Domain
import Foundation
import Simulation
import Testing

@testable import Pipeline

/// Random histories as files: through the decoders, a configuration, all tasks and the messages as they are written.
@Suite struct OrderToCashFileTests {
  func yaml(_ setting: OrderToCashSetting) -> String {
    let base = setting.options.rates == nil ? "" : ", base_amount: b"
    let inherited = ["region", "channel"].enumerated().filter { setting.inherited.contains($0.offset) }.map(\.element)
    let inherit =
      inherited.count == 2 ? "" : ", inherit: \(inherited.isEmpty ? "none" : "[" + inherited.joined() + "]")"
    var text = """
      version: 1
      name: books
      dimensions: [region, channel]
      aggregates: {enabled: true\(inherit)}
      sources:
        orders:
          kind: orders
          fields: {order: o, event_id: i, event: e, event_time: {path: t, format: epoch_ms}, document_date: dd,
            document: d, currency: c, net: net, tax: tax, freight: freight, discount: discount, gross: gross, cost: cost,
            deposit: deposit, fee: fee, applied: applied, quantity: q, service_start: ss, service_end: se}
          dimensions: {region: region, channel: channel}
        ledger:
          kind: ledger
          fields: {order: o, line_id: {concat: [j, {constant: "-"}, l]}, journal: j, document: d, role: r, currency: c,
            event_time: {path: t, format: epoch_ms}, posting_date: pd, period: p, reverses: rev\(base),
            quantity: q}
          amount: a
          dimensions: {region: region, channel: channel}
      matching: {window: 24h, grace: 1h, retention: 4000d, open_retention: 4000d, out_of_orderness: 0s,
        maximum_future: 4000d\(setting.options.policy == .scheduled ? ", revenue_schedules: {basis: day}" : "")}

      """
    if setting.options.policy != .pointInTime {
      text +=
        "policy: {invoiced: {receivable: +gross, deferred: -net, freight: -freight, tax: -tax, discount: +discount}}\n"
    }
    if setting.calendar != nil { text += "calendar: {file: periods.csv}\n" }
    if let rates = setting.options.rates {
      text += "fx: {base: \(rates.base.code), rates: rates.csv, maximum_age: \(rates.maximumAge_d)d}\n"
    }
    return text
  }

  func money(_ amount: Int64, _ currency: Currency) -> String {
    formatDecimal(Int128(amount), decimals: currency.exponent)
  }

  func dimensions(_ values: [String]) -> String { #","region":"\#(values[0])","channel":"\#(values[1])""# }

  func line(_ event: HistoryEvent) -> String {
    var text =
      #"{"o":"\#(event.order)","i":"\#(event.id)","e":"\#(event.kind.name)","t":\#(event.time_ms),"d":"\#(event.document)","#
      + #""dd":"\#(formatDate(event.day_d))","c":"\#(event.currency.code)""# + dimensions(event.dimensions)
    for (component, amount) in event.amounts { text += #","\#(component.name)":"\#(money(amount, event.currency))""# }
    if let service = event.service {
      text += #","ss":"\#(formatDate(service.lowerBound))","se":"\#(formatDate(service.upperBound))""#
    }
    if let quantity_u = event.quantity_u { text += #","q":\#(formatDecimal(Int128(quantity_u), decimals: 6))"# }
    return text + "}"
  }

  func line(_ posting: HistoryPosting, base: Currency?) -> String {
    var text =
      #"{"o":"\#(posting.order)","j":"\#(posting.journal)","l":"\#(posting.line)","d":"\#(posting.document)","#
      + #""r":"\#(posting.role.name)","c":"\#(posting.currency.code)","a":"\#(money(posting.amount, posting.currency))","#
      + #""t":\#(posting.time_ms),"pd":"\#(formatDate(posting.day_d))""# + dimensions(posting.dimensions)
    if posting.period != 0 { text += #","p":"\#(posting.period)""# }
    if !posting.reverses.isEmpty { text += #","rev":"\#(posting.reverses)""# }
    if let base, let amount = posting.baseAmount { text += #","b":"\#(money(amount, base))""# }
    if let quantity_u = posting.quantity_u { text += #","q":\#(formatDecimal(Int128(quantity_u), decimals: 6))"# }
    return text + "}"
  }

  @Test(arguments: Array(0..<16) as [UInt64]) func filesGiveTheBooks(seed: UInt64) throws {
    var setting = try OrderToCashSetting(seed: seed)
    setting.options.orders = 12
    var generator = OrderToCashGenerator(seed: seed, options: setting.options)
    let history = generator.next()
    let (books, oracle) = (setting.books(history), NaiveOracle(history, policy: setting.options.policy))
    let scratch = Scratch()
    var random = SeededRandom(seed: seed)
    if let calendar = setting.calendar {
      let rows = calendar.periods.map {
        "\($0.text),\(formatDate($0.first_d)),\(formatDate($0.last_d)),\($0.closedAt_ms.map { formatTimestamp($0) } ?? "")"
      }
      _ = scratch.write("periods.csv", "period,start,end,closed_at\n" + rows.joined(separator: "\n") + "\n")
    }
    if let rates = setting.options.rates {
      let rows = rates.entries.map {
        "\(formatDate($0.day_d)),\($0.currency.code),\(rates.base.code),\(formatDecimal($0.rate_u, decimals: 6))"
      }
      _ = scratch.write("rates.csv", "date,from,to,rate\n" + rows.joined(separator: "\n") + "\n")
    }
    let configuration = try Configuration.parse(yaml: yaml(setting), file: "books.yaml", directory: scratch.path)
    var written: [String] = []
    for threads in [1, 3] {
      // In any order, and over two files a side.
      func files(_ name: String, _ lines: [String]) -> [String] {
        let shuffled = lines.shuffled(using: &random)
        let half = shuffled.count / 2
        return [shuffled[..<half], shuffled[half...]].enumerated().map {
          scratch.write("\(name)\($0.offset).jsonl", $0.element.joined(separator: "\n") + "\n")
        }
      }
      let out = scratch.path + "/out\(threads)"
      let summary = try FileReconciler(
        configuration: configuration,
        options: FileRunOptions(
          orders: files("o", history.events.map { line($0) }),
          ledger: files("l", history.postings.map { line($0, base: setting.options.rates?.base) }), directory: out,
          threads: threads, now_ms: OrderToCashSetting.start_ms + 400 * OrderToCashSetting.day,
          asOf_ms: OrderToCashSetting.start_ms + 1_000 * OrderToCashSetting.day)
      ).run()
      func place() -> Comment { "seed \(seed), \(threads) threads\n\(history)" }
      #expect(summary.deadLetters == [:], place())
      for line in summary.totals.lines {
        var right = NaiveOracle.Balance()
        for (side, balance) in oracle.balances where side.role == line.role && side.currency == line.currency {
          right.expected += balance.expected
          right.posted += balance.posted
        }
        #expect(
          line.expected == right.expected && line.posted == right.posted && line.pending == 0,
          "\(line), right is \(right), \(place())")
      }
      written.append(try String(contentsOfFile: out + "/revenue.jsonl", encoding: .utf8))
      try expectBooks(written.last!, books, place)
    }
    #expect(written[0] == written[1], "seed \(seed)")
  }

  /// Each figure of each line is that of the books, and no cell of the books is missing.
  func expectBooks(_ text: String, _ books: NaiveBooks, _ place: () -> Comment) throws {
    var seen: Set<NaiveBooks.Cell> = []
    for line in text.split(separator: "\n") {
      let message = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
      let values = try #require(message["dimensions"] as? [String: String])
      let currency = try #require(Currency(message["currency"] as? String ?? ""))
      let cell = NaiveBooks.Cell(
        dimensions: [values["region"] ?? "", values["channel"] ?? ""], currency: currency,
        isBase: message["view"] as? String == "base", period: Int32(message["period"] as? String ?? "") ?? 0)
      #expect(seen.insert(cell).inserted, place())
      for (part, basis) in [("orders", ""), ("by_event_date", "@event"), ("by_posting_date", "@posting")] {
        for (name, text) in try #require(message[part] as? [String: String]) {
          let amount = Int128(try Money(text, currency).minorUnits)
          #expect(amount == books.figure(name + basis, cell), "\(name) of \(cell), \(place())")
        }
      }
      for (field, figure) in [("unvalued_events", "unvalued"), ("unvalued_postings", "unrated")] {
        #expect(Int128(message[field] as? Int ?? -1) == books.figure(figure, cell), "\(field) of \(cell), \(place())")
      }
    }
    let quantities: Set = ["billed", "posted"]
    let missing = books.cells.filter { !seen.contains($0.key) && !Set($0.value.keys).isSubset(of: quantities) }
    #expect(missing.isEmpty, "\(missing), \(place())")
  }
}
