import Domain
import Testing

@testable import Decoding

/// What stands at the edges of a mapping: tables that skip, columns that stand twice, amounts that contradict their style.
@Suite struct MappingEdgeTests {
  /// `unlisted: skip` skips whatever field has the table.
  @Test func aTableSkipsWhateverTheField() throws {
    func skipping(_ field: String) throws -> [OrderEventText] {
      let spec = jsonOrders {
        var mapping = $0.fields[field]!
        mapping.table = ValueTable(name: "t", entries: ["known": "known"], unlisted: .skip)
        $0.fields[field] = mapping
      }
      return try decode(
        #"{"id":"A","event":{"id":"e","time":"2024-01-01T00:00:00Z","type":"x"},"cur":"EUR","amounts":{"net":1,"tax":2},"lines":[{},{"customer":"c"}]}"#,
        spec)
    }
    for field in ["currency", "order", "event_time", "net", "event_id", "customer"] {
      #expect(try skipping(field) == [], "\(field)")
    }
  }

  @Test(arguments: ["side", "amount", "debit", "credit", "currency", "order", "event_time", "role", "posting_date"])
  func aTableOfALedgerSkipsToo(_ field: String) throws {
    var spec = MappingSpecification(sourceName: "ledger", sourceIndex: 1, kind: .ledger, format: .json)
    spec.fields = [
      "order": path("o"), "role": path("r"), "currency": path("c"), "event_time": path("t"), "posting_date": path("p"),
    ]
    func skipping(_ name: String, _ own: String, _ entries: [String: String] = ["known": "debit"]) -> FieldMapping {
      var mapping = path(name)
      if own == field { mapping.table = ValueTable(name: "t", entries: entries, unlisted: .skip) }
      return mapping
    }
    for (name, place) in [
      ("order", "o"), ("role", "r"), ("currency", "c"), ("event_time", "t"), ("posting_date", "p"),
    ] {
      spec.fields[name] = skipping(place, name, ["known": name == "role" ? "cash" : "known"])
    }
    spec.amount =
      field == "debit" || field == "credit"
      ? .debitCredit(debit: skipping("d", "debit"), credit: skipping("h", "credit"))
      : .indicated(amount: skipping("d", "amount"), side: skipping("s", "side"))
    var decoder = PostingDecoder(plan: try MappingPlan(spec))
    var postings = RecordBuffer<Posting>()
    let text =
      #"{"o":"A","r":"cash","c":"EUR","t":"2024-01-01T00:00:00Z","p":"2024-01-01","d":1,"h":2,"s":"X"}"#
    let outcome = try text.withView {
      try decoder.decode(
        key: .empty, payload: $0, position: RecordPosition(source: 1, partition: 0, offset: 1), into: &postings)
    }
    #expect(outcome == .skipped && postings.count == 0)
  }

  @Test func aColumnThatStandsTwice() throws {
    var spec = MappingSpecification(sourceName: "o", sourceIndex: 0, kind: .orders, format: .csv)
    var event = FieldMapping(.constant("invoiced"))
    event.table = nil
    spec.fields = ["order": path("o"), "event": event, "event_time": path("t"), "customer": path("c")]
    let row = "A,2024-01-01T00:00:00Z,x,y,z"
    let twice = fault(row, spec, header: "o,t,c,c,z")
    #expect(twice?.field == "c" && twice?.detail.contains("more than once") == true, "\(twice as Any)")
    // One that nobody reads may stand as often as it likes.
    #expect(try decode(row, spec, header: "o,t,c,z,z").first?.customer == "x")
  }

  /// A text with a separator says itself where its decimals begin.
  @Test func impliedDecimalsTakeNoSeparator() throws {
    func amount(_ text: String, separator: String = ".") -> (Int64?, DataFault?) {
      let spec = jsonOrders {
        var net = path("amounts.net")
        net.decimal.impliedDecimals = 2
        net.decimal.decimalSeparator = separator.utf8.first!
        $0.fields["net"] = net
      }
      let record =
        #"{"id":"A","event":{"id":"e","time":"2024-01-01T00:00:00Z","type":"x"},"cur":"EUR","amounts":{"net":"\#(text)"}}"#
      do { return (try decode(record, spec).first?.net, nil) } catch { return (nil, error as? DataFault) }
    }
    #expect(amount("12345").0 == 123_45 && amount("-100").0 == -1_00)
    for (text, separator) in [("100.00", "."), ("100.", "."), ("1.5", "."), ("100,00", ",")] {
      let fault = amount(text, separator: separator).1
      #expect(fault?.reason == .nonDecimalAmount, "\(text)")
      #expect(fault?.detail.contains("without a separator, as implied_decimals says") == true, "\(fault as Any)")
    }
  }

  /// Integers of minor units have the decimals of the currency of their record.
  @Test(arguments: [true, false]) func minorUnitsAreThoseOfTheCurrency(_ isText: Bool) throws {
    let spec = jsonOrders {
      var net = path("amounts.net")
      net.decimal.isInMinorUnits = true
      // Numbers are read by what is left of such a style.
      net.decimal.groupingSeparator = UInt8(ascii: " ")
      $0.fields["net"] = net
    }
    func net(_ amount: String, _ currency: String) throws -> Int64? {
      let text = isText ? "\"\(amount)\"" : amount
      let record =
        #"{"id":"A","event":{"id":"e","time":"2024-01-01T00:00:00Z","type":"x"},"cur":"\#(currency)","amounts":{"net":\#(text)}}"#
      return try decode(record, spec).first?.net
    }
    for (amount, currency) in [("685600", "JPY"), ("685606", "EUR"), ("-1", "USD"), ("1234567", "KWD"), ("0", "EUR")] {
      #expect(try net(amount, currency) == Int64(amount), "what is told is minor units")
    }
    for amount in ["1.00", "1.5"] {
      let fault = #expect(throws: DataFault.self) { _ = try net(amount, "EUR") }
      #expect(fault?.detail.contains("without a separator, as implied_decimals says") == true, "\(fault as Any)")
    }
  }

  /// What separates and groups the digits of texts is nothing to a number, which JSON writes in one way.
  @Test(arguments: [true, false]) func aNumberIsNotRead(likeATextOfTheSource isQuick: Bool) throws {
    let spec = jsonOrders {
      var amount = FieldMapping(.firstPresent([.path("none"), .path("amounts.net")]))
      (amount.decimal.decimalSeparator, amount.decimal.groupingSeparator) = (UInt8(ascii: ","), UInt8(ascii: "."))
      amount.decimal.rounding = .halfUp
      amount.defaultText = "1.000"
      $0.fields["net"] = amount
      amount.value = .path("amounts.tax")
      $0.fields["tax"] = amount
      amount.value = .path("q")
      $0.fields["quantity"] = amount
    }
    func read(_ net: String, _ tax: String, _ quantity: String) throws -> [Int64?] {
      let record =
        #"{"id":"A","event":{"id":"e","time":"2024-01-01T00:00:00Z","type":"x"},"cur":"EUR","#
        + #""amounts":{"net":\#(net),"tax":\#(tax)},"q":\#(quantity)}"#
      var decoder = OrderDecoder(plan: try MappingPlan(spec), isQuick: isQuick)
      var events = RecordBuffer<OrderEvent>()
      return try record.withView {
        _ = try decoder.decode(
          key: .empty, payload: $0, position: RecordPosition(source: 0, partition: 0, offset: 1), into: &events)
        return [events[0].amounts[.net], events[0].amounts[.tax], events[0].quantity_u]
      }
    }
    #expect(try read("1.234", "10.500", "2.5") == [1_23, 10_50, 2_500_000])
    #expect(try read(#""1.234""#, #""10.500""#, #""2,5""#) == [1_234_00, 10_500_00, 2_500_000])
    #expect(try read("-1e2", "null", "1") == [-100_00, 1_000_00, 1_000_000])
    #expect(throws: DataFault.self) { try read(#""1.23""#, "1", "1") }
  }

  @Test func aNumberBesideOtherStyles() throws {
    func net(_ text: String, _ style: (inout DecimalStyle) -> Void) throws -> Int64? {
      let spec = jsonOrders { style(&$0.fields["net"]!.decimal) }
      return try decode(
        #"{"id":"A","event":{"id":"e","time":"2024-01-01T00:00:00Z","type":"x"},"cur":"EUR","amounts":{"net":\#(text)}}"#,
        spec
      ).first?.net
    }
    #expect(try net("1234") { $0.base64Scale = 2 } == 1_234_00)
    #expect(try net("12345") { ($0.impliedDecimals, $0.decimalSeparator) = (2, UInt8(ascii: ",")) } == 123_45)
    #expect(try net("-1.5") { ($0.allowsParentheses, $0.negate) = (true, true) } == 1_50)
    #expect(try net("1.5") { $0.groupingSeparator = 0x20 } == 1_50)
  }

  /// An id that lacks a part would be that of several records.
  @Test func anIdIsWholeOrNone() throws {
    let parts: ValueExpression = .concatenation([.path("e"), .constant("-"), .firstPresent([.path("n"), .path("m")])])
    let spec = jsonOrders {
      $0.fields["event_id"] = FieldMapping(parts)
      $0.fields["customer"] = FieldMapping(parts)
    }
    func ids(_ more: String) throws -> [String?] {
      let record = #"{"id":"A","event":{"time":"2024-01-01T00:00:00Z","type":"x"},"cur":"EUR"\#(more)}"#
      let event = try decode(record, spec).first
      return [event?.id, event?.customer]
    }
    #expect(try ids(#","e":"J","n":1"#) == ["J-1", "J-1"] && ids(#","e":"J","m":2"#) == ["J-2", "J-2"])
    #expect(try ids(#","e":"J""#) == ["", "J-"] && ids(#","n":1,"e":" ""#) == ["", "-1"] && ids("") == ["", ""])
  }

  @Test func theKeyOfARecordIsNotLookedInto() throws {
    for path in ["$key.id", "$key[0]"] {
      let spec = jsonOrders { $0.fields["customer"] = FieldMapping(.path(path)) }
      let error = #expect(throws: MappingError.self) { try MappingPlan(spec) }
      #expect(error?.field == "customer" && error?.message.contains("one text, $key") == true, "\(error as Any)")
    }
    let quoted = jsonOrders { $0.fields["customer"] = FieldMapping(.path("'$key'.id")) }
    #expect(
      try decode(
        #"{"id":"A","event":{"time":"2024-01-01T00:00:00Z","type":"x"},"cur":"EUR","$key":{"id":"C"}}"#, quoted
      ).first?.customer == "C")
  }

  /// Spaces that do not break stand between thousands as spaces do.
  @Test func spacesBetweenThousands() throws {
    func net(_ text: String) throws -> Int64? {
      let spec = jsonOrders {
        $0.fields["net"]!.decimal.groupingSeparator = 0x20
        $0.fields["net"]!.decimal.decimalSeparator = UInt8(ascii: ",")
      }
      return try decode(
        #"{"id":"A","event":{"time":"2024-01-01T00:00:00Z","type":"x"},"cur":"EUR","amounts":{"net":"\#(text)"}}"#, spec
      ).first?.net
    }
    for space in [" ", "\u{a0}", "\u{202f}", "\\u00a0"] {
      #expect(try net("1\(space)234\(space)567,89") == 1_234_567_89, "\(space)")
      #expect(throws: DataFault.self) { try net("1\(space)23,00") }
    }
    #expect(throws: DataFault.self) { try net("1\u{2009}234,00") }
    #expect(throws: DataFault.self) { try net("1\u{a3}234,00") }
  }

  @Test func faultsAreWords() throws {
    let absent = fault(#"{"id":"A","event":{"time":"2024-01-01T00:00:00Z"},"cur":"EUR"}"#, jsonOrders())
    #expect(absent?.field == "event" && absent?.detail == "is missing")
    let pattern = jsonOrders { $0.fields["event_time"]!.timeFormat = .pattern("yyyy qq") }
    #expect(throws: MappingError(source: "orders", field: "event_time", message: "'yyyy qq' is no date pattern")) {
      try MappingPlan(pattern)
    }
    let spec = jsonOrders { $0.fields["quantity"] = path("q") }
    func quantity(_ text: String) -> String? {
      fault(
        #"{"id":"A","event":{"id":"e","time":"2024-01-01T00:00:00Z","type":"x"},"cur":"EUR","q":"\#(text)"}"#, spec)?
        .detail
    }
    #expect(quantity("two") == "'two' is no quantity")
    #expect(quantity("99999999999999999999") == "'99999999999999999999' is too large")
  }
}
