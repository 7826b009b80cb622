import Domain
import Testing

@testable import Decoding

@Suite struct FormatTests {
  func ledger(_ change: (inout MappingSpecification) -> Void = { _ in }) -> MappingSpecification {
    var spec = MappingSpecification(sourceName: "ledger", sourceIndex: 1, kind: .ledger, format: .debezium)
    var role = path("account")
    role.table = ValueTable(name: "chart", entries: ["1200": "receivable", "4000": "revenue"])
    var time = path("$.ts_ms")
    time.timeFormat = .epochMilliseconds
    spec.fields = [
      "order": path("so"), "line_id": FieldMapping(.concatenation([.path("je"), .constant("-"), .path("line")])),
      "journal": path("je"), "role": role, "currency": path("cur"), "event_time": time, "posting_date": path("date"),
      "period": path("period"),
    ]
    spec.amount = .debitCredit(debit: path("dr"), credit: path("cr"))
    change(&spec)
    return spec
  }

  func decode(_ text: String?, _ spec: MappingSpecification) throws -> [(String, AccountRole, Int64, Bool, Bool, Int32)]
  {
    var decoder = PostingDecoder(plan: try MappingPlan(spec))
    var postings = RecordBuffer<Posting>()
    let position = RecordPosition(source: 1, partition: 0, offset: 1)
    guard let text else {
      let outcome = try decoder.decode(key: .empty, payload: .empty, position: position, into: &postings)
      #expect(outcome == .tombstone)
      return []
    }
    return try text.withView {
      guard
        case .appended(let count) = try decoder.decode(key: .empty, payload: $0, position: position, into: &postings)
      else { return [] }
      return (0..<count).map {
        let posting = postings[$0]
        return (
          posting.order.string + "/" + posting.id.string, posting.role, posting.amount, posting.isDelete,
          posting.isUpsert, posting.period
        )
      }
    }
  }

  let row =
    #"{"je":"J1","line":3,"so":"O1","account":"4000","dr":"0.00","cr":"11.61","cur":"USD","date":"1996-07-10","period":"1996-07"}"#

  @Test func debeziumOperations() throws {
    let created = try decode(#"{"before":null,"after":\#(row),"op":"c","ts_ms":837012960000}"#, ledger())
    #expect(created.count == 1)
    #expect(created[0] == ("O1/J1-3", .revenue, -11_61, false, false, 199607))
    let wrapped = try decode(
      #"{"schema":{"type":"struct","fields":[]},"payload":{"op":"r","ts_ms":1,"after":\#(row),"before":null}}"#,
      ledger())
    #expect(wrapped[0] == ("O1/J1-3", .revenue, -11_61, false, true, 199607))
    let deleted = try decode(#"{"op":"d","before":\#(row),"after":null,"ts_ms":1}"#, ledger())
    #expect(deleted[0] == ("O1/J1-3", .revenue, -11_61, true, false, 199607))
    let other = row.replacing("O1", with: "O2")
    let moved = try decode(#"{"op":"u","before":\#(row),"after":\#(other),"ts_ms":1}"#, ledger())
    #expect(moved.map(\.0) == ["O1/J1-3", "O2/J1-3"])
    #expect(moved.map(\.3) == [true, false])
    let renumbered = row.replacing("\"line\":3", with: "\"line\":4")
    let renamed = try decode(#"{"op":"u","before":\#(row),"after":\#(renumbered),"ts_ms":1}"#, ledger())
    #expect(renamed.map(\.0) == ["O1/J1-3", "O1/J1-4"])
    #expect(renamed.map(\.3) == [true, false])
    let same = try decode(#"{"op":"u","before":\#(row),"after":\#(row),"ts_ms":1}"#, ledger())
    #expect(same.count == 1)
    #expect(try decode(nil, ledger()).isEmpty)
    #expect(try decode(#"{"op":"m","ts_ms":1}"#, ledger()).isEmpty)
    for bad in [
      #"{"op":"c","after":null,"ts_ms":1}"#, #"{"op":"z","after":\#(row),"ts_ms":1}"#, #"{"after":\#(row)}"#,
      #"{"op":"c","after":\#(row)}"#,
    ] {
      #expect(throws: DataFault.self, "\(bad)") { _ = try decode(bad, ledger()) }
    }
  }

  func ledgerFault(_ text: String, _ spec: MappingSpecification) -> DataFault? {
    do {
      _ = try decode(text, spec)
      return nil
    } catch { return error as? DataFault }
  }

  /// Rows that are gone without a deletion of each must not go without a trace.
  @Test func anEmptiedTableIsTold() {
    let fault = ledgerFault(#"{"op":"t","before":null,"after":null,"ts_ms":1}"#, ledger())
    #expect(fault?.field == "op" && fault?.detail.contains("TRUNCATE") == true, "\(fault as Any)")
  }

  /// A deletion needs no more than which row it takes out.
  @Test func aDeletionByItsKey() throws {
    let timed = ledger { $0.fields["event_time"] = path("$.ts_ms") }
    var timeless = timed
    timeless.fields["event_time"] = path("date")
    let filtered = ledger {
      $0.fields["event_time"] = path("$.ts_ms")
      $0.filters = [
        RecordFilter(value: .path("co"), oneOf: ["1000"]),
        RecordFilter(value: .path("st"), oneOf: ["x"], negated: true),
      ]
    }
    func deletion(_ before: String) -> String { #"{"op":"d","before":\#(before),"after":null,"ts_ms":"1996-07-10"}"# }
    let key = #"{"je":"J1","line":3,"so":"O1","account":null,"cur":null}"#
    for spec in [timed, filtered] {
      let taken = try decode(deletion(key), spec)
      #expect(taken.map(\.0) == ["O1/J1-3"] && taken.map(\.3) == [true])
    }
    // What a whole image does not have was not there; what it has decides.
    #expect(try decode(deletion(row), filtered).isEmpty)
    #expect(try decode(deletion(key.replacing("}", with: #","co":"2000"}"#)), filtered).isEmpty)
    #expect(try decode(deletion(key.replacing("}", with: #","co":"1000"}"#)), filtered).count == 1)
    for (before, spec, names) in [
      (#"{"je":"J1","line":3}"#, timed, "no order:"), (#"{"so":"O1"}"#, timed, "no line_id:"),
      (key, timeless, "no event_time:"), (#"{"x":1}"#, filtered, "no order, line_id:"),
    ] {
      let fault = ledgerFault(deletion(before), spec)
      #expect(fault?.field == "before" && fault?.detail.contains(names) == true, "\(fault as Any)")
      #expect(fault?.detail.contains("REPLICA IDENTITY FULL") == true && fault?.reason == .schemaInvalid)
    }
    #expect(ledgerFault(#"{"op":"c","after":\#(key),"ts_ms":"1996-07-10"}"#, timed)?.detail == "is missing")
    var orders = jsonOrders {
      $0.format = .debezium
      $0.fields["event_time"] = path("$.ts_ms")
    }
    let event = try #require(
      try DecodingTests.decode(deletion(#"{"id":"O1","event":{"id":"e1"}}"#), orders).first)
    #expect(event.order == "O1" && event.id == "e1" && event.isDelete)
    orders.fields["event_id"] = nil
    #expect(throws: DataFault.self) { try DecodingTests.decode(deletion(#"{"id":"O1"}"#), orders) }
  }

  /// Without an id nobody knows which line an image replaces; what comes new counts by its place.
  @Test func changesWithoutAnIdAreRefused() throws {
    for spec in [ledger(), ledger { $0.fields["line_id"] = nil }] {
      let row = spec.fields["line_id"] == nil ? row : row.replacing("\"line\":3", with: "\"line\":null")
      #expect(try decode(#"{"op":"c","before":null,"after":\#(row),"ts_ms":1}"#, spec).map(\.0) == ["O1/"])
      #expect(try decode(#"{"op":"r","before":null,"after":\#(row),"ts_ms":1}"#, spec).map(\.0) == ["O1/"])
      for change in [
        #"{"op":"u","before":null,"after":\#(row),"ts_ms":1}"#,
        #"{"op":"u","before":\#(row),"after":\#(row),"ts_ms":1}"#,
        #"{"op":"d","before":\#(row),"after":null,"ts_ms":1}"#,
      ] {
        let fault = ledgerFault(change, spec)
        #expect(fault?.field == "line_id" && fault?.detail.hasPrefix("a change of a row that has no line_id") == true)
      }
    }
  }

  /// What an update leaves behind is taken out, whichever condition its new image fails; what was never in stays silent.
  @Test func anUpdateThatLeavesTheFiltersTakesTheRowOut() throws {
    let spec = ledger {
      $0.fields["role"]!.table!.unlisted = .skip
      $0.filters = [
        RecordFilter(value: .path("st"), oneOf: ["parked"], negated: true),
        RecordFilter(value: .path("co"), oneOf: ["1000"]),
      ]
    }
    func row(_ state: String = "ok", company: String = "1000", order: String = "O1", account: String = "4000") -> String
    {
      #"{"je":"J1","line":3,"so":"\#(order)","account":"\#(account)","dr":"0.00","cr":"11.61","cur":"USD","st":"\#(state)","co":"\#(company)"}"#
    }
    func taken(_ op: String, _ before: String?, _ after: String) throws -> [String] {
      try decode(#"{"op":"\#(op)","before":\#(before ?? "null"),"after":\#(after),"ts_ms":5}"#, spec)
        .map { $0.0 + ($0.3 ? " gone" : "") }
    }
    for after in [row("parked"), row(company: "2000"), row("parked", order: ""), row(account: "9999")] {
      #expect(try taken("u", row(), after) == ["O1/J1-3 gone"], "\(after)")
      #expect(try taken("c", nil, after) == [] && taken("r", nil, after) == [], "\(after)")
      #expect(try taken("u", row("parked"), after) == [], "\(after)")
      #expect(try taken("u", row(account: "9999"), after) == [], "\(after)")
    }
    // It left on its way to another order, and came in on its way from one.
    #expect(try taken("u", row(), row("parked", order: "O2")) == ["O1/J1-3 gone"])
    #expect(try taken("u", row("parked"), row(order: "O2")) == ["O2/J1-3"])
    #expect(try taken("u", row(), row(order: "O2")) == ["O1/J1-3 gone", "O2/J1-3"])
    // A feed without images of before: by the order and the id, whatever else cannot be read.
    #expect(try taken("u", nil, row("parked", account: "9999")) == ["O1/J1-3 gone"])
    #expect(try taken("u", nil, row("parked", order: "")) == [])
    #expect(try taken("u", nil, row()) == ["O1/J1-3"])
    let nameless = ledger {
      $0.fields["line_id"] = nil
      $0.filters = spec.filters
    }
    #expect(try decode(#"{"op":"u","before":null,"after":\#(row("parked")),"ts_ms":5}"#, nameless).isEmpty)
  }

  @Test func unknownAccountIsMissingMasterData() {
    let text = #"{"op":"c","after":\#(row.replacing("4000", with: "9999")),"ts_ms":1}"#
    #expect {
      _ = try decode(text, ledger())
    } throws: {
      ($0 as? DataFault)?.reason == .masterDataMissing && ($0 as? DataFault)?.detail.contains("9999") == true
    }
  }

  @Test func base64Decimals() throws {
    var amount = path("amt")
    amount.decimal.base64Scale = 2
    let spec = ledger { $0.amount = .signed(amount) }
    // 300 is 0x012c, −1 is 0xff.
    for (text, value) in [("ASw=", Int64(300)), ("/w==", -1), ("AA==", 0), ("AP//", 65_535)] {
      let row = row.replacing(#""dr":"0.00""#, with: #""amt":"\#(text)""#)
      #expect(try decode(#"{"op":"c","after":\#(row),"ts_ms":1}"#, spec)[0].2 == value)
    }
    let bad = row.replacing(#""dr":"0.00""#, with: #""amt":"A""#)
    #expect(throws: DataFault.self) { _ = try decode(#"{"op":"c","after":\#(bad),"ts_ms":1}"#, spec) }
  }

  @Test func amountStyles() throws {
    func parse(_ text: String, _ change: (inout DecimalStyle) -> Void) throws -> Int64 {
      var style = DecimalStyle()
      change(&style)
      return try text.withView { try parseAmount($0, style).units(decimals: 2) }
    }
    let german: (inout DecimalStyle) -> Void = {
      $0.decimalSeparator = UInt8(ascii: ",")
      $0.groupingSeparator = UInt8(ascii: ".")
    }
    #expect(try parse("1.234.567,89", german) == 1_234_567_89)
    #expect(try parse("-1.234,5", german) == -1_234_50)
    #expect(throws: DecimalFault.self) { try parse("1.23", german) }
    #expect(throws: DecimalFault.self) { try parse("1.2345", german) }
    #expect(try parse("100.00-") { $0.allowsTrailingMinus = true } == -100_00)
    #expect(throws: DecimalFault.self) { try parse("100-") { _ in } }
    #expect(try parse("(7.5)") { $0.allowsParentheses = true } == -7_50)
    for twice in ["(-7.5)", "(+7.5)"] {
      #expect(throws: (any Error).self, "\(twice)") { try parse(twice) { $0.allowsParentheses = true } }
    }
    #expect(try parse("12345") { $0.impliedDecimals = 2 } == 123_45)
    #expect(try parse("1.5") { $0.negate = true } == -1_50)
  }

  func csvOrders(_ change: (inout MappingSpecification) -> Void = { _ in }) -> MappingSpecification {
    var spec = MappingSpecification(sourceName: "vbfa", sourceIndex: 0, kind: .orders, format: .csv)
    var event = path("TYP")
    event.table = ValueTable(name: "t", entries: ["J": "delivered", "M": "invoiced"], unlisted: .skip)
    var time = FieldMapping(.concatenation([.path("DAY"), .path("TIME")]))
    time.timeFormat = .compact
    spec.fields = [
      "order": path("ORDER"), "event": event, "event_time": time, "quantity": path("QTY"), "customer": path("C"),
    ]
    change(&spec)
    return spec
  }

  @Test func csvRows() throws {
    let header = "ORDER,TYP,DAY,TIME,QTY,C"
    let event = try #require(
      try decodeRow("O1,J,20200326,081257,1.667,\"Mü, \"\"x\"\"\"\r", csvOrders(), header: header).first)
    #expect(event.order == "O1")
    #expect(event.kind == .delivered)
    #expect(event.quantity_u == 1_667_000)
    #expect(event.customer == "Mü, \"x\"")
    #expect(formatTimestamp(event.time_ms) == "2020-03-26T08:12:57.000Z")
    #expect(try decodeRow("O1,Z,20200326,081257,1,", csvOrders(), header: header).isEmpty)
    #expect(
      try decodeRow("O1,M,20200326,081257", csvOrders { $0.csv.isRagged = true }, header: header).first?.quantity_u
        == nil)
    #expect(fault("O1,M,20200326,081257", csvOrders(), header: header)?.detail.contains("4 columns") == true)
    #expect(fault("O1,M,20200326,081257,1,c,extra", csvOrders(), header: header)?.detail.contains("7 columns") == true)
    #expect(fault("O1,M,20200326,081257,1,\"c", csvOrders(), header: header)?.detail.contains("does not end") == true)
    #expect(fault("x", csvOrders(), header: "ORDR,TYP")?.detail.contains("did you mean 'ORDR'") == true)
    #expect(fault("O1,M,20200326,081257,x,", csvOrders(), header: header)?.reason == .nonDecimalAmount)
  }

  /// A column in another encoding is named, and where the encoding is told.
  @Test func columnsThatAreNotUTF8AreNamed() throws {
    func detail(_ prepare: (inout OrderDecoder) throws -> Void, _ change: (inout MappingSpecification) -> Void) throws
      -> String
    {
      var decoder = OrderDecoder(plan: try MappingPlan(csvOrders(change)))
      try prepare(&decoder)
      var events = RecordBuffer<OrderEvent>()
      let bytes = Array("O1,M,20200326,081257,1,M".utf8) + [0xfc]
      return bytes.withUnsafeBufferPointer { buffer in
        do throws(DataFault) {
          _ = try decoder.decode(
            key: .empty, payload: ByteView(buffer), position: RecordPosition(source: 0, partition: 0, offset: 0),
            into: &events)
          return ""
        } catch { return error.detail }
      }
    }
    let header = "ORDER,TYP,DAY,TIME,QTY,C"
    let hint = " is not UTF-8 (csv.encoding, where the file is in iso-8859-1 or windows-1252)"
    #expect(
      try detail({ decoder in try header.withView { try decoder.readHeader($0) } }, { _ in }) == "column 6, C," + hint)
    #expect(
      try detail(
        { _ in },
        {
          $0.csv.hasHeader = false
          $0.fields["quantity"] = nil
          for (name, column) in [("order", "1"), ("event", "2"), ("customer", "6")] {
            $0.fields[name]!.value = .path(column)
          }
          $0.fields["event_time"]!.value = .concatenation([.path("3"), .path("4")])
        }) == "column 6" + hint)
  }

  @Test func csvEncodingsAndDialects() throws {
    var decoder = OrderDecoder(
      plan: try MappingPlan(
        csvOrders {
          $0.csv.delimiter = UInt8(ascii: ";")
          $0.csv.encoding = .windows1252
          $0.csv.columns = ["ORDER", "TYP", "DAY", "TIME", "C"]
          $0.fields["quantity"] = nil
        }))
    var events = RecordBuffer<OrderEvent>()
    let bytes = Array("O1;J;20200326;081257;".utf8) + [0x80, 0xe9]
    try bytes.withUnsafeBufferPointer { buffer in
      _ = try decoder.decode(
        key: .empty, payload: ByteView(buffer), position: RecordPosition(source: 0, partition: 0, offset: 0),
        into: &events)
      #expect(events[0].customer.string == "€é")
    }
  }

  @Test(arguments: [
    ("1996-07-10T09:00:00Z", TimeFormat.rfc3339, "1996-07-10T09:00:00.000Z"),
    ("1996-07-10 09:00:00.123456+02:00", .rfc3339, "1996-07-10T07:00:00.123Z"),
    ("1996-07-10", .rfc3339, "1996-07-10T00:00:00.000Z"), ("1700000000", .epochSeconds, "2023-11-14T22:13:20.000Z"),
    ("1700000000.5", .epochSeconds, "2023-11-14T22:13:20.500Z"),
    ("1700000000123", .epochMilliseconds, "2023-11-14T22:13:20.123Z"),
    ("1700000000123456", .epochMicroseconds, "2023-11-14T22:13:20.123Z"),
    ("1700000000123456789", .epochNanoseconds, "2023-11-14T22:13:20.123Z"),
    ("-1", .epochNanoseconds, "1969-12-31T23:59:59.999Z"),
    ("2026-01-02 10:00:00 +02:00", .rfc3339, "2026-01-02T08:00:00.000Z"),
    ("2026-01-02 10:00:00.5 -0130", .automatic, "2026-01-02T11:30:00.500Z"),
    ("2026-01-02T10:00:00 Z", .automatic, "2026-01-02T10:00:00.000Z"),
    ("-1", .epochMicroseconds, "1969-12-31T23:59:59.999Z"), ("19675", .epochDays, "2023-11-14T00:00:00.000Z"),
    ("20240229", .compact, "2024-02-29T00:00:00.000Z"), ("20240229235959", .compact, "2024-02-29T23:59:59.000Z"),
    ("4/6/2013", .pattern("M/d/yyyy"), "2013-04-06T00:00:00.000Z"),
    ("06-Apr-13 1:05 PM", .pattern("dd-MMM-yy h:mm a"), "2013-04-06T13:05:00.000Z"),
    ("20240229", .automatic, "2024-02-29T00:00:00.000Z"),
    ("2024-02-29T01:02:03Z", .automatic, "2024-02-29T01:02:03.000Z"),
  ]) func times(text: String, format: TimeFormat, expected: String) throws {
    let parser = try #require(TimeParser(format))
    #expect(text.withView { parser.parse($0) }.map { formatTimestamp($0.ms) } == expected)
  }

  @Test func wrongTimes() throws {
    let cases: [(String, TimeFormat)] = [
      ("2023-02-29", .rfc3339), ("2023-13-01", .rfc3339), ("2023-01-01T24:00:00Z", .rfc3339), ("", .rfc3339),
      ("2023-01-01T00:00:00+2", .rfc3339),
      ("2023-01-01T00:00:00  Z", .rfc3339), ("2023-01-01 00:00:00 x", .rfc3339), ("x", .epochSeconds),
      ("99999999999999999", .epochMilliseconds),
      ("2024-02-29", .compact), ("1/1", .pattern("M/d/yyyy")), ("1/1/2020x", .pattern("M/d/yyyy")),
    ]
    for (text, format) in cases {
      #expect(text.withView { TimeParser(format)!.parse($0) } == nil, "\(text)")
    }
    #expect(TimeParser(.pattern("qq")) == nil)
    let zone = try #require(TimeParser(.compact, zone: ZoneClock(minutes: 120)))
    let parsed = "20240301".withView { zone.parse($0) }
    #expect(parsed?.day == Int32(daysFromCivil(year: 2024, month: 3, day: 1)))
    #expect(parsed.map { formatTimestamp($0.ms) } == "2024-02-29T22:00:00.000Z")
  }

  /// With a zone of its own a field has the days of that zone, however the time is written.
  @Test(arguments: [true, false]) func daysAreThoseOfTheZone(_ isQuick: Bool) throws {
    func days(_ text: String, _ zone: ZoneClock?, _ format: TimeFormat? = nil) throws -> [String] {
      let spec = jsonOrders {
        for name in ["event_time", "document_date"] {
          var field = path(name == "event_time" ? "event.time" : "date")
          field.timeZone = zone
          field.timeFormat = format
          $0.fields[name] = field
        }
        $0.fields["document_date"]!.defaultText = ""
      }
      var bare = spec
      bare.fields["document_date"] = nil
      return try [spec, bare].map { spec in
        var decoder = OrderDecoder(plan: try MappingPlan(spec), isQuick: isQuick)
        var events = RecordBuffer<OrderEvent>()
        let record =
          #"{"id":"A","event":{"id":"e","time":"\#(text)","type":"x"},"date":"\#(text)","cur":"EUR","amounts":{"net":1}}"#
        return try record.withView {
          _ = try decoder.decode(
            key: .empty, payload: $0, position: RecordPosition(source: 0, partition: 0, offset: 1), into: &events)
          return formatDate(events[0].documentDate_d) + " " + formatTimestamp(events[0].time_ms)
        }
      }
    }
    for (text, zone, day, time) in [
      ("2026-03-31T22:30:00Z", 120, "2026-04-01", "2026-03-31T22:30:00.000Z"),
      ("2026-03-31T22:30:00.123456Z", 120, "2026-04-01", "2026-03-31T22:30:00.123Z"),
      ("2026-03-31T23:30:00+01:00", 120, "2026-04-01", "2026-03-31T22:30:00.000Z"),
      ("2026-03-31T22:30:00", 120, "2026-03-31", "2026-03-31T20:30:00.000Z"),
      ("2026-03-31T22:30:00Z", nil, "2026-03-31", "2026-03-31T22:30:00.000Z"),
      ("2026-03-31T23:30:00-05:00", nil, "2026-03-31", "2026-04-01T04:30:00.000Z"),
      ("2026-03-31T23:30:00-05:00", 0, "2026-04-01", "2026-04-01T04:30:00.000Z"),
      ("2026-04-01T00:30:00Z", -60, "2026-03-31", "2026-04-01T00:30:00.000Z"),
      ("2026-04-01", 120, "2026-04-01", "2026-03-31T22:00:00.000Z"),
    ] as [(String, Int?, String, String)] {
      let clock = zone.map { ZoneClock(minutes: $0) }
      #expect(try days(text, clock) == ["\(day) \(time)", "\(day) \(time)"], "\(text) \(zone as Any)")
    }
    // 2026-03-29T01:00:00Z and 2026-10-25T01:00:00Z.
    let berlin = ZoneClock(name: "Berlin", first_s: 3_600, changes: [(1_774_746_000, 7_200), (1_792_890_000, 3_600)])
    for (text, format, day, time) in [
      ("2026-06-30T22:30:00Z", nil, "2026-07-01", "2026-06-30T22:30:00.000Z"),
      ("2026-12-31T22:30:00Z", nil, "2026-12-31", "2026-12-31T22:30:00.000Z"),
      ("2026-12-31T22:30:00-01:00", nil, "2027-01-01", "2026-12-31T23:30:00.000Z"),
      ("2026-07-01T00:30:00", nil, "2026-07-01", "2026-06-30T22:30:00.000Z"),
      ("2026-01-01 00:30:00.250", nil, "2026-01-01", "2025-12-31T23:30:00.250Z"),
      ("2026-07-01", nil, "2026-07-01", "2026-06-30T22:00:00.000Z"),
      // The last moment before each change, the first behind it, and what is not shown or shown twice.
      ("2026-03-29T01:59:59", nil, "2026-03-29", "2026-03-29T00:59:59.000Z"),
      ("2026-03-29T03:00:00", nil, "2026-03-29", "2026-03-29T01:00:00.000Z"),
      ("2026-03-29T02:30:00", nil, "2026-03-29", "2026-03-29T01:30:00.000Z"),
      ("2026-10-25T02:59:59", nil, "2026-10-25", "2026-10-25T00:59:59.000Z"),
      ("2026-10-25T03:00:00", nil, "2026-10-25", "2026-10-25T02:00:00.000Z"),
      ("20260701003000", .compact, "2026-07-01", "2026-06-30T22:30:00.000Z"),
      ("20260701", nil, "2026-07-01", "2026-06-30T22:00:00.000Z"),
      ("1/7/2026 0:30", .pattern("d/M/yyyy H:mm"), "2026-07-01", "2026-06-30T22:30:00.000Z"),
      ("1782858600000", .epochMilliseconds, "2026-07-01", "2026-06-30T22:30:00.000Z"),
      ("1782858600", .epochSeconds, "2026-07-01", "2026-06-30T22:30:00.000Z"),
      ("20635", .epochDays, "2026-07-01", "2026-06-30T22:00:00.000Z"),
    ] as [(String, TimeFormat?, String, String)] {
      #expect(try days(text, berlin, format) == ["\(day) \(time)", "\(day) \(time)"], "\(text)")
    }
  }

  @Test func periods() {
    for text in ["1996-07", "199607", "1996/07", "07/1996", "1996-7"] {
      #expect(text.withView { parsePeriod($0) } == 199607, "\(text)")
    }
    for text in ["", "1996", "1996-17", "1996-00", "x", "1996-07-01"] {
      #expect(text.withView { parsePeriod($0) } == nil, "\(text)")
    }
  }
}

func decodeRow(_ text: String, _ spec: MappingSpecification, header: String) throws -> [OrderEventText] {
  try decode(text, spec, header: header)
}
