import CAllocations
import Domain
import Testing

@testable import Decoding

/// Decoding a record of a known shape allocates nothing, whatever its values are.
@Suite struct AllocationTests {
  /// Allocations of the second pass over the records.
  private func count(_ texts: [String], _ decode: (ByteView) -> Void) -> Int64 {
    var bytes: [[UInt8]] = texts.map { Array($0.utf8) + Array(repeating: 0, count: 128) }
    let views = bytes.indices.map { index in
      bytes[index].withUnsafeMutableBufferPointer { ByteView(base: $0.baseAddress, count: $0.count - 128) }
    }
    var counted: Int64 = 0
    for pass in 0..<3 {
      var index = 0
      while index < views.count {
        let view = views[index]
        let before = tieout_allocations()
        decode(view)
        if pass > 0 { counted += tieout_allocations() - before }
        index += 1
      }
    }
    withExtendedLifetime(bytes) {}
    return counted
  }

  @Test func countsAllocations() {
    guard tieout_allocations() >= 0 else { return print("skipped: allocations cannot be counted here") }
    let before = tieout_allocations()
    withExtendedLifetime([UInt8](repeating: 1, count: 1_000)) {}
    #expect(tieout_allocations() > before)
  }

  @Test func ordersAllocateNothing() throws {
    guard tieout_allocations() >= 0 else { return print("skipped: allocations cannot be counted here") }
    var spec = jsonOrders()
    spec.filters = [RecordFilter(value: .path("cur"), oneOf: ["USD", "JPY"])]
    var decoder = OrderDecoder(plan: try MappingPlan(spec))
    var events = RecordBuffer<OrderEvent>()
    let good = JSONDecodingTests().good
    let texts = [
      good, good.replacing("1863.40", with: "1e2"), good.replacing("O-1", with: "Ö-\\\"\\u00e9"),
      good.replacing("\"1863.40\"", with: "null"), good.replacing("order.invoiced", with: "order.viewed"),
      good.replacing("[1,2,{\"a\":null}]", with: "[]"), good.replacing("\"USD\"", with: "\"EUR\""),
    ]
    let allocations = count(texts) { view in
      _ = try? decoder.decode(
        key: .empty, payload: view, position: RecordPosition(source: 0, partition: 0, offset: 1), into: &events)
      if events.count > 100 { events.removeAll() }
      decoder.reset()
    }
    #expect(allocations == 0)
    #expect(events.count == 15)
  }

  @Test func postingsAllocateNothing() throws {
    guard tieout_allocations() >= 0 else { return print("skipped: allocations cannot be counted here") }
    let formats = FormatTests()
    var spec = formats.ledger()
    spec.fields["reversal"] = path("rev")
    var decoder = PostingDecoder(plan: try MappingPlan(spec))
    var postings = RecordBuffer<Posting>()
    let row = formats.row
    let other = row.replacing("O1", with: "O2").replacing("}", with: ",\"rev\":\"X\"}")
    let texts = [
      #"{"before":null,"after":\#(row),"op":"c","ts_ms":837012960000}"#,
      #"{"before":null,"after":\#(other),"op":"r","ts_ms":1837012960000}"#,
      #"{"before":\#(row),"after":\#(other),"op":"u","ts_ms":1837012960000.25}"#,
      #"{"before":\#(row),"after":null,"op":"d","ts_ms":"837012960000"}"#,
      #"{"before":null,"after":\#(row.replacing("1996-07-10", with: "1996-07-10T10:11:12+02:00")),"op":"c","ts_ms":1}"#,
    ]
    let allocations = count(texts) { view in
      _ = try? decoder.decode(
        key: .empty, payload: view, position: RecordPosition(source: 1, partition: 0, offset: 1), into: &postings)
      decoder.reset()
    }
    #expect(allocations == 0)
    #expect(postings.count == 18)
  }

  @Test func rowsAllocateNothing() throws {
    guard tieout_allocations() >= 0 else { return print("skipped: allocations cannot be counted here") }
    var decoder = OrderDecoder(plan: try MappingPlan(FormatTests().csvOrders()))
    try "ORDER,TYP,DAY,TIME,QTY,C".withView { try decoder.readHeader($0) }
    var events = RecordBuffer<OrderEvent>()
    let allocations = count(["O1,J,20200326,081257,1.667,\"Mü, \"\"x\"\"\"\r", "O2,M,20200326,081257,1,c"]) { view in
      _ = try? decoder.decode(
        key: .empty, payload: view, position: RecordPosition(source: 0, partition: 0, offset: 1), into: &events)
      decoder.reset()
    }
    // Unoptimised code allocates the context of the closure that takes the columns.
    #expect(allocations == (_isDebugAssertConfiguration() ? 4 : 0))
    #expect(events.count == 6)
  }
}
