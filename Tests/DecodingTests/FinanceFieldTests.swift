import Domain
import Testing

@testable import Decoding

/// Fields that few sources have: quantity and base amount of a posting, the service of an order event.
@Suite struct FinanceFieldTests {
  func posting(_ amount: String, _ more: String, base: Currency? = Currency("JPY")) throws -> Posting? {
    var spec = MappingSpecification(sourceName: "ledger", sourceIndex: 0, kind: .ledger, format: .json)
    spec.baseCurrency = base ?? .none
    var role = FieldMapping(.constant("revenue"))
    role.table = nil
    spec.fields = [
      "order": path("o"), "role": role, "currency": path("c"), "event_time": path("t"), "quantity": path("q"),
      "base_amount": path("b"), "line": path("l"),
    ]
    spec.amount = .signed(path("a"))
    var decoder = PostingDecoder(plan: try MappingPlan(spec))
    var postings = RecordBuffer<Posting>()
    let text = #"{"o":"O","c":"EUR","t":"2026-03-10T09:00:00Z","a":\#(amount)\#(more)}"#
    return try text.withView { payload in
      _ = try decoder.decode(
        key: ByteView(base: nil, count: 0), payload: payload,
        position: RecordPosition(source: 0, partition: 0, offset: 1), into: &postings)
      return postings.count == 1 ? postings[0] : nil
    }
  }

  @Test func quantityAndBaseAmount() throws {
    let plain = try #require(try posting("-10.00", ""))
    #expect(plain.extras == 0)
    let both = try #require(try posting("-10.00", #","q":2.5,"b":1605"#))
    #expect(both.extras == Posting.Extra.quantity | Posting.Extra.baseAmount)
    // In yen, which have no decimals; on the side of the amount.
    #expect(both.quantity_u == 2_500_000 && both.baseAmount == -1_605)
    #expect(try posting("-10.00", #","b":-1605"#)?.baseAmount == -1_605)
    #expect(try posting("10.00", #","b":-1605"#)?.baseAmount == 1_605)
    // A line that moves nothing but base currency says itself on which side it stands.
    #expect(try posting("0", #","b":-7"#)?.baseAmount == -7)
    #expect(try posting("10.00", #","q":null,"b":"""#)?.extras == 0)
    let wrong = #expect(throws: DataFault.self) { try posting("10.00", #","b":16.05"#) }
    #expect(wrong?.field == "base_amount")
  }

  /// Nothing of a record's line is left to the next one, in any format.
  @Test func lines() throws {
    #expect(try posting("-10.00", #","l":"""#)?.extras == 0)
    #expect(try posting("-10.00", #","l":10,"q":3"#)?.extras == Posting.Extra.quantity | Posting.Extra.line)
    func read(_ format: RecordFormat) throws -> [String] {
      var spec = jsonOrders { $0.fields["line"] = path("l") }
      spec.format = format
      var decoder = OrderDecoder(plan: try MappingPlan(spec))
      var events = RecordBuffer<OrderEvent>()
      var lines: [String] = []
      for more in [#","l":"10""#, "", #","l":20"#, #","l":null"#, #","l":"a\"b""#] {
        let row = #"{"id":"O","event":{"time":"2026-03-10T09:00:00Z","type":"x","id":"e"},"cur":"USD"\#(more)}"#
        let whole = format == .json ? row : #"{"op":"u","before":\#(row),"after":\#(row)}"#
        try whole.withView { payload in
          events.removeAll()
          _ = try decoder.decode(
            key: .empty, payload: payload, position: RecordPosition(source: 0, partition: 0, offset: 1), into: &events)
          let event = try #require(events.count == 1 ? events[0] : nil)
          #expect((event.extras & OrderEvent.Extra.line != 0) == !event.line.isEmpty)
          lines.append(event.line.string)
        }
      }
      return lines
    }
    #expect(try read(.json) == ["10", "", "20", "", "a\"b"])
    #expect(try read(.debezium) == ["10", "", "20", "", "a\"b"])
    let csv = FormatTests().csvOrders {
      $0.fields["line"] = FieldMapping(.concatenation([.path("C"), .constant("/"), .path("QTY")]))
    }
    let header = "ORDER,TYP,DAY,TIME,QTY,C"
    #expect(try decodeRow("O1,J,20200326,081257,2,10", csv, header: header).first?.line == "10/2")
    var hashed = csv
    hashed.fields["line"]!.mask = .hash
    hashed.maskKey = MaskKey(String(repeating: "k", count: 32))
    let masked = try decodeRow("O1,J,20200326,081257,2,10", hashed, header: header).first?.line
    #expect(masked?.isEmpty == false && masked != "10/2")
    #expect(try decodeRow("O2,M,20200327,081257,2,10", hashed, header: header).first?.line == masked)
    var avro = AvroTests.spec
    avro.fields["line"] = path("extra.number")
    #expect(try AvroTests().decoded(AvroTests.bytes().bytes, [5: AvroTests.order], avro).first?.line == "-77")
  }

  func service(
    _ more: String, term: ServiceTerm = .months, hasEnd: Bool = true
  ) throws -> (first_d: Int32, last_d: Int32)? {
    var spec = jsonOrders {
      $0.fields["service_start"] = path("from")
      $0.fields["service_end"] = path("to")
      $0.fields["service_periods"] = path("n")
    }
    spec.serviceTerm = term
    if !hasEnd { spec.fields["service_end"] = nil }
    var decoder = OrderDecoder(plan: try MappingPlan(spec))
    var events = RecordBuffer<OrderEvent>()
    let text = #"{"id":"O","event":{"time":"2026-03-10T09:00:00Z","type":"x","id":"e"},"cur":"USD"\#(more)}"#
    return try text.withView { payload in
      _ = try decoder.decode(
        key: ByteView(base: nil, count: 0), payload: payload,
        position: RecordPosition(source: 0, partition: 0, offset: 1), into: &events)
      return events[0].serviceEnd_d == absentDate ? nil : (events[0].serviceStart_d, events[0].serviceEnd_d)
    }
  }

  @Test func services() throws {
    let own = Int32(daysFromCivil(year: 2026, month: 3, day: 10))
    #expect(try service("") == nil)
    #expect(try service(#","from":"2026-03-01""#) == nil)
    let both = try #require(try service(#","from":"2026-03-01","to":"2027-02-28""#))
    #expect(both.first_d == own - 9 && both.last_d == own + 355)
    // Without a beginning, from the day of the document on.
    #expect(try service(#","to":"2026-03-10""#)?.first_d == own)
    let early = #expect(throws: DataFault.self) { try service(#","to":"2026-03-09""#) }
    #expect(early?.detail == "2026-03-09 is before the service begins, on 2026-03-10" && early?.field == "service_end")
    let long = #expect(throws: DataFault.self) { try service(#","to":"2226-03-09""#) }
    #expect(long?.detail == "a service from 2026-03-10 is longer than a century")
  }

  @Test func servicesOfSoManyPeriods() throws {
    func day(_ year: Int, _ month: Int, _ day: Int) -> Int32 {
      Int32(daysFromCivil(year: year, month: month, day: day))
    }
    func last(_ start: String, _ count: String, _ term: ServiceTerm = .months) throws -> String? {
      for hasEnd in [true, false] {
        let made = try service(#","from":"\#(start)","n":\#(count)"#, term: term, hasEnd: hasEnd)
        let other = try service(#","from":"\#(start)","n":"\#(count)""#, term: term, hasEnd: hasEnd)
        #expect(made?.last_d == other?.last_d)
        guard hasEnd else { return made.map { formatDate($0.last_d) } }
      }
      return nil
    }
    for (start, count, end) in [
      ("2026-01-15", "12", "2027-01-14"), ("2026-01-01", "12", "2026-12-31"), ("2026-01-31", "1", "2026-02-27"),
      ("2024-01-31", "1", "2024-02-28"), ("2026-12-31", "2", "2027-02-27"), ("2026-03-01", "1", "2026-03-31"),
      ("2026-02-28", "12", "2027-02-27"),
    ] { #expect(try last(start, count) == end, "\(start) \(count)") }
    for (start, count, end) in [
      ("2026-01-15", "12", "2026-12-31"), ("2026-01-31", "1", "2026-01-31"), ("2026-12-31", "2", "2027-01-31"),
    ] { #expect(try last(start, count, .periods(nil)) == end, "\(start) \(count)") }
    // Thirteen weeks as 4-4-5; behind them the months of the calendar.
    let calendar = try FiscalCalendar([
      .init(name: 202_601, first_d: day(2026, 1, 5), last_d: day(2026, 2, 1)),
      .init(name: 202_602, first_d: day(2026, 2, 2), last_d: day(2026, 3, 1)),
      .init(name: 202_603, first_d: day(2026, 3, 2), last_d: day(2026, 4, 5)),
    ])
    #expect(try last("2026-01-20", "3", .periods(calendar)) == "2026-04-05")
    #expect(try last("2026-01-20", "4", .periods(calendar)) == "2026-04-30")
    // The last day goes before; from the day of the document on where nothing says when it begins.
    #expect(try service(#","to":"2026-03-12","n":12"#)?.last_d == day(2026, 3, 12))
    let own = try #require(try service(#","n":1"#, hasEnd: false))
    #expect(own.first_d == day(2026, 3, 10) && own.last_d == day(2026, 4, 9))
    #expect(try service(#","n":null"#) == nil)
    for count in ["0", "-1", "1201"] {
      let fault = #expect(throws: DataFault.self) { try service(#","n":\#(count)"#) }
      #expect(fault?.field == "service_periods" && fault?.detail == "\(count) is no number of periods from 1 to 1200")
    }
    #expect(try service(#","n":1200,"from":"2026-01-01""#)?.last_d == day(2125, 12, 31))
    let part = #expect(throws: DataFault.self) { try service(#","n":1.5"#) }
    #expect(part?.field == "service_periods")
  }
}
