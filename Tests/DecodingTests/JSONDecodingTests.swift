import Domain
import Foundation
import Testing

@testable import Decoding

@Suite struct JSONDecodingTests {
  let good =
    #"{"id":"O-1","event":{"id":"e1","type":"order.invoiced","time":"1996-07-10T09:00:00.250Z"},"cur":"USD","#
    + #""amounts":{"net":"1863.40","tax":356.25,"more":[1,2,{"a":null}]},"lines":[{"customer":"no"},{"customer":"C\u00e9 \ud83d\ude00"}]}"#

  /// What paths lead to is counted, so that a misspelt one can be told from one of something rare.
  @Test(arguments: [true, false]) func pathsThatLeadToNothing(isQuick: Bool) throws {
    let spec = jsonOrders {
      $0.fields["net"] = path("amounts.nett")
      $0.fields["document"] = FieldMapping(.firstPresent([.path("doc"), .path("number")]))
      $0.fields["customer"] = FieldMapping(.firstPresent([.path("nobody"), .constant("C")]))
      $0.fields["line"] = FieldMapping(.concatenation([.path("number"), .constant("-"), .path("itm")]))
      $0.dimensions = [path("region")]
    }
    var decoder = OrderDecoder(plan: try MappingPlan(spec), isQuick: isQuick)
    var events = RecordBuffer<OrderEvent>()
    for number in 0..<1_000 {
      let region = number == 700 ? #","region":"north""# : #","region":null"#
      let text =
        #"{"id":"O\#(number)","event":{"id":"e","type":"x","time":"2025-01-01T00:00:00Z"},"cur":"EUR","#
        + #""amounts":{"net":"1.00","tax":"1.00"},"number":"7"\#(region)}"#
      text.withView { payload in
        _ = try? decoder.decode(
          key: .empty, payload: payload, position: RecordPosition(source: 0, partition: 0, offset: 0), into: &events)
      }
      events.removeAll()
      decoder.reset()
    }
    let counts = decoder.pathCounts
    #expect(counts.looked == 256 + (1_000 - 256) / 64)
    #expect(
      counts.missing.map { "\($0.field): \($0.path)" } == ["dimension 1: region", "line: itm", "net: amounts.nett"])
    func seen(_ field: String, _ path: String) -> Int? {
      counts.paths.firstIndex(of: .init(field: field, path: path)).map { counts.seen[$0] }
    }
    #expect(seen("tax", "amounts.tax") == counts.looked)
    #expect(seen("document", "doc or number") == counts.looked)
  }

  @Test func decodesNestedPathsEscapesAndNumbers() throws {
    let event = try #require(try decode(good, jsonOrders()).first)
    #expect(event.order == "O-1")
    #expect(event.id == "e1")
    #expect(event.kind == .invoiced)
    #expect(event.customer == "Cé 😀")
    #expect(event.currency == "USD")
    #expect(formatTimestamp(event.time_ms) == "1996-07-10T09:00:00.250Z")
    #expect(event.net == 1863_40)
    #expect(event.tax == 356_25)
  }

  @Test func keyOrderAndWhiteSpaceDoNotMatter() throws {
    let other =
      "\n { \"cur\" : \"USD\" , \"event\":{\"time\":\"1996-07-10T09:00:00Z\",\"type\":\"x\",\"id\":\"e\"},\r\n\t\"id\":\"O\" } "
    #expect(try decode(other, jsonOrders()).first?.kind == .paid)
  }

  @Test func unlistedEventsAreSkipped() throws {
    #expect(try decode(good.replacingOccurrences(of: "order.invoiced", with: "order.viewed"), jsonOrders()).isEmpty)
  }

  @Test(arguments: [
    ("", "not valid JSON at byte 0"), ("[]", "not a JSON object"), ("5", "not a JSON object"),
    ("{", "ends early"), (#"{"id":"a""#, "ends early"), (#"{"id":"a"} x"#, "something follows"),
    (#"{"id":"a",}"#, "a key must start"), (#"{"id" "a"}"#, "colon"), (#"{"id":'a'}"#, "a value must start"),
    (#"{"id":"a\x"}"#, "escape"), (#"{"id":"\ud800"}"#, "surrogate"), (#"{"id":"\udc00"}"#, "surrogate"),
    (#"{"id":"\u12"}"#, "hexadecimal"), ("{\"id\":\"a\nb\"}", "control character"), (#"{"a":01}"#, "comma"),
    (#"{"a":1.}"#, "digit"), (#"{"a":-}"#, "digit"), (#"{"a":1e}"#, "digit"), (#"{"a":.5}"#, "value must start"),
    (#"{"a":NaN}"#, "value must start"), (#"{"a":tru}"#, "literal"), (#"{"id":"a","id":"b"}"#, "twice"),
    (#"{"a":[1,]}"#, "value must start"), (#"{"a":[1 2]}"#, "bracket"),
  ]) func refusesWhatIsNoJSON(text: String, part: String) {
    let found = fault(text, jsonOrders())
    #expect(found?.reason == .schemaInvalid)
    #expect(found?.detail.contains(part) == true, "\(found?.detail ?? "accepted")")
  }

  @Test func depthIsBounded() {
    let spec = jsonOrders { $0.maximumDepth = 10 }
    func nested(_ depth: Int) -> String {
      String(good.dropLast()) + ",\"deep\":" + String(repeating: "[", count: depth)
        + String(repeating: "]", count: depth)
        + "}"
    }
    #expect(fault(nested(9), spec) == nil)
    #expect(fault(nested(10), spec)?.detail.contains("nested too deeply") == true)
    #expect(fault(nested(100_000), spec)?.detail.contains("nested too deeply") == true)
  }

  @Test func largeRecordsAreRefused() {
    let spec = jsonOrders { $0.maximumRecordBytes = 1_000 }
    let text = #"{"id":"\#(String(repeating: "x", count: 10_000_000))"}"#
    #expect(fault(text, spec)?.detail.contains("10000009 bytes") == true)
  }

  @Test(arguments: [
    (#""amounts":{"net":"NaN"}"#, DataFaultReason.nonDecimalAmount, "net"),
    (#""amounts":{"net":1e400}"#, .nonDecimalAmount, "net"), (#""amounts":{"net":"1.005"}"#, .nonDecimalAmount, "net"),
    (#""amounts":{"net":"1,5"}"#, .nonDecimalAmount, "net"), (#""amounts":{"net":{}}"#, .schemaInvalid, "net"),
    (#""amounts":{"net":true}"#, .nonDecimalAmount, "net"),
    (#""amounts":{"net":92233720368547758.07}"#, .nonDecimalAmount, "net"),
  ]) func badAmounts(piece: String, reason: DataFaultReason, field: String) {
    let text = #"{"id":"O","event":{"type":"x","time":"2026-01-01"},"cur":"USD",\#(piece)}"#
    let found = fault(text, jsonOrders())
    #expect(found?.reason == reason)
    #expect(found?.field == field)
  }

  @Test func amountsNeedACurrency() {
    let text = #"{"id":"O","event":{"type":"x","time":"2026-01-01"},"cur":" ","amounts":{"net":1}}"#
    #expect(fault(text, jsonOrders())?.field == "currency")
    #expect(fault(text.replacingOccurrences(of: "\" \"", with: "\"QQQ\""), jsonOrders())?.field == "currency")
  }

  @Test func emptyOrderKeyAndMissingTime() {
    #expect(fault(#"{"id":" ","event":{"type":"x","time":"2026-01-01"}}"#, jsonOrders())?.field == "order")
    #expect(fault(#"{"id":"a","event":{"type":"x"}}"#, jsonOrders())?.field == "event_time")
    #expect(fault(#"{"id":"a","event":{"type":"x","time":"2026-02-30"}}"#, jsonOrders())?.field == "event_time")
  }

  @Test func expressions() throws {
    let spec = jsonOrders {
      $0.fields["order"] = FieldMapping(.concatenation([.path("a"), .constant("-"), .path("b")]))
      $0.fields["event_id"] = FieldMapping(.firstPresent([.path("x"), .path("$key")]))
      var customer = path("c")
      customer.stripsLeadingZeros = true
      customer.defaultText = "nobody"
      $0.fields["customer"] = customer
    }
    let text = #"{"a":"A","b":7,"c":"0042","event":{"type":"x","time":"2026-01-01"}}"#
    let event = try #require(try decode(text, spec, key: "k1").first)
    #expect(event.order == "A-7")
    #expect(event.id == "k1")
    #expect(event.customer == "42")
    #expect(fault(#"{"event":{"type":"x","time":"2026-01-01"}}"#, spec)?.field == "order")
    let bare = try decode(#"{"a":"A","event":{"type":"x","time":"2026-01-01"}}"#, spec).first
    #expect(bare?.order == "A-")
    #expect(bare?.customer == "nobody")
  }

  @Test func filters() throws {
    let spec = jsonOrders { $0.filters = [RecordFilter(value: .path("s"), oneOf: ["a", "b"])] }
    let text = #"{"id":"O","s":"b","event":{"type":"x","time":"2026-01-01"}}"#
    #expect(try decode(text, spec).count == 1)
    #expect(try decode(text.replacingOccurrences(of: "\"b\"", with: "\"c\""), spec).isEmpty)
  }

  @Test func planErrorsNameTheNearestWord() {
    #expect(
      throws: MappingError(source: "orders", field: "custmer", message: "unknown field; did you mean 'customer'?")
    ) {
      _ = try MappingPlan(jsonOrders { $0.fields["custmer"] = path("x") })
    }
    #expect(throws: MappingError(source: "orders", field: "order", message: "is required and not mapped")) {
      _ = try MappingPlan(jsonOrders { $0.fields["order"] = nil })
    }
    for bad in ["", "a..b", "a[", "a[x]", "a.", "'a"] {
      #expect(throws: MappingError.self) { _ = try MappingPlan(jsonOrders { $0.fields["customer"] = path(bad) }) }
    }
    #expect(throws: MappingError.self) {
      _ = try MappingPlan(
        jsonOrders {
          $0.fields["event"]!.table = ValueTable(name: "t", entries: ["a": "invoicd"], unlisted: .skip)
        })
    }
  }

  /// A payload may end where the page ends, an empty one too: nothing behind it may be read.
  @Test func neverReadsPastTheEnd() throws {
    let page = Int(getpagesize())
    let map = mmap(nil, page * 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)!
    defer { munmap(map, page * 2) }
    #expect(mprotect(map + page, page, PROT_NONE) == 0)
    var decoder = OrderDecoder(plan: try MappingPlan(jsonOrders()))
    let bytes = Array(good.utf8)
    var accepted = 0
    for count in 0...bytes.count {
      let target = (map + page - count).assumingMemoryBound(to: UInt8.self)
      target.update(from: bytes, count: count)
      var events = RecordBuffer<OrderEvent>()
      do {
        _ = try decoder.decode(
          key: .empty, payload: ByteView(base: target, count: count),
          position: RecordPosition(source: 0, partition: 0, offset: 0), into: &events)
        accepted += 1
      } catch {}
      decoder.reset()
    }
    #expect(accepted == 1, "only the whole record is a record")
  }
}
