import Domain
import Testing

@testable import Decoding

/// Bytes as an Avro writer makes them.
struct AvroBytes {
  var bytes: [UInt8] = []

  init(id: UInt32) { bytes = [0, UInt8(id >> 24), UInt8(id >> 16 & 255), UInt8(id >> 8 & 255), UInt8(id & 255)] }

  func long(_ value: Int64) -> AvroBytes {
    var copy = self
    var rest = UInt64(bitPattern: value << 1 ^ value >> 63)
    while rest >= 0x80 {
      copy.bytes.append(UInt8(rest & 0x7f) | 0x80)
      rest >>= 7
    }
    copy.bytes.append(UInt8(rest))
    return copy
  }
  func raw(_ bytes: [UInt8]) -> AvroBytes {
    var copy = self
    copy.bytes += bytes
    return copy
  }
  func text(_ text: String) -> AvroBytes { long(Int64(text.utf8.count)).raw(Array(text.utf8)) }
  func sized(_ bytes: [UInt8]) -> AvroBytes { long(Int64(bytes.count)).raw(bytes) }
}

final class FixedSchemas: AvroSchemas {
  let schemas: [UInt32: AvroSchema]
  init(_ schemas: [UInt32: AvroSchema]) { self.schemas = schemas }
  func known(_ id: UInt32) -> AvroSchema? { schemas[id] }
}

@Suite struct AvroTests {
  static func record(_ name: String, _ fields: [(String, AvroSchema)]) -> AvroSchema {
    let made = AvroSchema(.record)
    made.name = name
    made.fields = fields.map { (name: $0.0, type: $0.1, hasDefault: false) }
    return made
  }
  static func of(_ kind: AvroSchema.Kind, _ logical: AvroSchema.Logical = .none) -> AvroSchema {
    let made = AvroSchema(kind)
    made.logical = logical
    return made
  }
  static func list(_ kind: AvroSchema.Kind, _ branches: [AvroSchema]) -> AvroSchema {
    let made = AvroSchema(kind)
    made.branches = branches
    return made
  }
  static func optional(_ type: AvroSchema) -> AvroSchema { list(.union, [of(.null), type]) }
  static func kinds(_ symbols: [String]) -> AvroSchema {
    let made = AvroSchema(.enumeration)
    made.symbols = symbols
    return made
  }

  /// id, event {type, time}, cur, amounts {net decimal, tax decimal fixed}, lines [{customer}], quantity double, extra map.
  static let order: AvroSchema = {
    let tax = of(.fixed, .decimal(scale: 3))
    tax.size = 4
    return record(
      "Order",
      [
        ("ignored", list(.array, [list(.map, [of(.bytes)])])), ("id", of(.string)),
        ("event", record("Event", [("type", kinds(["order.invoiced", "x"])), ("time", of(.long, .timestampMillis))])),
        ("cur", optional(of(.string))),
        ("amounts", optional(record("Amounts", [("net", of(.bytes, .decimal(scale: 2))), ("tax", tax)]))),
        ("lines", list(.array, [record("Line", [("customer", optional(of(.string)))])])),
        ("quantity", of(.double)), ("extra", list(.map, [of(.long)])), ("day", of(.int, .date)),
      ])
  }()

  static let spec = jsonOrders {
    $0.format = .avro
    $0.fields["event_id"] = path("extra.number")
    $0.fields["quantity"] = path("quantity")
    $0.fields["document_date"] = path("day")
  }

  static func bytes(_ id: UInt32 = 5) -> AvroBytes {
    AvroBytes(id: id)
      // ignored: a block with its size: one map of one entry
      .long(-1).long(7).long(1).text("k").sized([1, 2, 3]).long(0).long(0)
      .text("O-1").long(0).long(836_989_200_250).long(1).text("USD")
      .long(1).sized([0xfd, 0x28]).raw([0x00, 0x05, 0x6f, 0x9a])
      .long(2).long(1).text("no").long(1).text("Cé 😀").long(0)
      .raw([0, 0, 0, 0, 0, 0, 0xf8, 0x3f]).long(2).text("other").long(1).text("number").long(-77).long(0)
      .long(9_687)
  }

  func decoded(
    _ bytes: [UInt8], _ schemas: [UInt32: AvroSchema], _ spec: MappingSpecification = AvroTests.spec
  ) throws -> [OrderEventText] {
    var decoder = OrderDecoder(plan: try MappingPlan(spec), schemas: FixedSchemas(schemas))
    var events = RecordBuffer<OrderEvent>()
    // At the very end of the memory that it has: a byte too many would be seen by the sanitizer.
    let block = UnsafeMutablePointer<UInt8>.allocate(capacity: max(1, bytes.count))
    defer { block.deallocate() }
    block.initialize(from: bytes, count: bytes.count)
    let outcome = try decoder.decode(
      key: .empty, payload: ByteView(base: block, count: bytes.count),
      position: RecordPosition(source: 0, partition: 0, offset: 1), into: &events)
    guard case .appended(let count) = outcome else { return [] }
    return (0..<count).map { OrderEventText(events[$0]) }
  }

  func fault(_ bytes: [UInt8], _ schemas: [UInt32: AvroSchema] = [5: AvroTests.order]) -> DataFault? {
    do {
      _ = try decoded(bytes, schemas)
      return nil
    } catch { return error as? DataFault }
  }

  @Test func everyTypeIsRead() throws {
    let event = try #require(try decoded(Self.bytes().bytes, [5: Self.order]).first)
    #expect(event.order == "O-1" && event.kind == .invoiced && event.currency == "USD")
    #expect(formatTimestamp(event.time_ms) == "1996-07-10T09:00:00.250Z")
    #expect(event.net == -728 && event.tax == 356_25)
    #expect(event.customer == "Cé 😀" && event.id == "-77" && event.quantity_u == 1_500_000)
  }

  @Test func fieldsThatTheWriterDoesNotHaveAreAbsent() throws {
    let small = Self.record(
      "Order",
      [
        ("event", Self.record("E", [("time", Self.of(.long, .timestampMicros)), ("type", Self.of(.string))])),
        ("id", Self.of(.long)),
      ])
    let bytes = AvroBytes(id: 6).long(836_989_200_250_999).text("x").long(4_711).bytes
    let event = try #require(try decoded(bytes, [5: Self.order, 6: small]).first)
    #expect(event.order == "4711" && event.kind == .paid && event.net == nil && event.customer == "")
    #expect(formatTimestamp(event.time_ms) == "1996-07-10T09:00:00.250Z")
  }

  @Test func changeEventsInAvro() throws {
    let row = Self.record(
      "Row", [("id", Self.of(.string)), ("t", Self.of(.long, .timestampMillis)), ("n", Self.of(.long))])
    let envelope = Self.record(
      "Envelope", [("before", Self.optional(row)), ("after", Self.optional(row)), ("op", Self.of(.string))])
    var spec = MappingSpecification(sourceName: "o", sourceIndex: 0, kind: .orders, format: .debeziumAvro)
    spec.fields = [
      "order": path("id"), "event_time": path("t"), "event": FieldMapping(.constant("booked")), "event_id": path("n"),
    ]
    let made = AvroBytes(id: 1).long(0).long(1).text("A").long(1_000).long(7).text("c").bytes
    #expect(try decoded(made, [1: envelope], spec).map(\.order) == ["A"])
    let gone = AvroBytes(id: 1).long(1).text("B").long(1_000).long(7).long(0).text("d").bytes
    let event = try decoded(gone, [1: envelope], spec)
    #expect(event.map(\.order) == ["B"] && event[0].isDelete)
    let moved = AvroBytes(id: 1).long(1).text("A").long(1_000).long(7).long(1).text("B").long(1_000).long(7).text("u")
    #expect(try decoded(moved.bytes, [1: envelope], spec).map(\.order) == ["A", "B"])
  }

  @Test func whatIsNoRecordIsSaid() {
    let good = Self.bytes().bytes
    #expect(fault(Array("{\"id\":1}".utf8))?.detail.contains("Confluent framing") == true)
    #expect(fault(Self.bytes(9).bytes)?.detail == "the schema registry has no schema 9")
    #expect(fault(good + [0])?.detail.contains("1 bytes follow") == true)
    #expect(fault(AvroBytes(id: 5).bytes)?.detail.contains("ends early") == true)
    #expect(fault(good, [5: Self.of(.string)])?.detail.contains("no record") == true)
    // A number of ten bytes and more, a block that is longer than the record, nulls without end.
    let nulls = Self.record("N", [("a", Self.list(.array, [Self.of(.null)]))])
    #expect(fault(AvroBytes(id: 5).raw(Array(repeating: 0xff, count: 12)).bytes)?.detail.contains("64 bits") == true)
    #expect(fault(AvroBytes(id: 5).long(1 << 60).bytes, [5: nulls])?.detail.contains("items in") == true)
    let deep = Self.record("D", [])
    deep.fields = [(name: "next", type: Self.optional(deep), hasDefault: false)]
    let chain = AvroBytes(id: 5).raw(Array(repeating: 2, count: 10_000)).long(0)
    #expect(fault(chain.bytes, [5: deep])?.detail.contains("nested too deeply") == true)
  }

  /// Damaged bytes are refused or read as something else, and never read beyond their end.
  @Test func damagedBytesAreSurvived() {
    let good = Self.bytes().bytes
    // No byte at all is a tombstone.
    for count in 1..<good.count { #expect(fault(Array(good[..<count])) != nil, "\(count) bytes") }
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<5_000 {
      var bytes = good
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        bytes[Int.random(in: 5..<bytes.count, using: &generator)] = .random(in: 0...255, using: &generator)
      }
      _ = fault(bytes)
    }
  }

  @Test func decimalsAndDatesOfAllSizes() {
    var scratch = ScratchArena()
    func decimal(_ value: Int128, _ scale: Int) -> String { scratch.decimal(value, scale: scale).string }
    #expect(
      decimal(0, 0) == "0" && decimal(0, 2) == "0.00" && decimal(5, 2) == "0.05" && decimal(-12_345, 2) == "-123.45")
    #expect(decimal(.max, 0) == String(Int128.max) && decimal(.min, 0) == String(Int128.min))
    #expect(decimal(100, 2) == "1.00" && decimal(1, 38) == "0." + String(repeating: "0", count: 37) + "1")
    func time(_ value: Int64, _ logical: AvroProgram.Logical) -> String { scratch.time(value, logical).string }
    #expect(time(-1, .date) == "1969-12-31" && time(-1, .timestampMillis) == "1969-12-31T23:59:59.999Z")
    #expect(time(1_000_001, .localMicros) == "1970-01-01T00:00:01.000001")
    #expect(time(.max, .timestampMicros) == String(Int64.max))
    for count in 0..<6 {
      let bytes = [UInt8]([251, 255, 0, 17, 99, 128][..<count])
      let text = bytes.withUnsafeBufferPointer { scratch.base64(ByteView($0)).string }
      #expect(text == ["", "+w==", "+/8=", "+/8A", "+/8AEQ==", "+/8AEWM="][count])
    }
  }
}
