import Configuration
import Decoding
import Foundation
import KafkaTesting
import SchemaRegistry
import Simulation
import Testing

@testable import Pipeline

/// The Avro form of the output messages.
@Suite struct AvroOutputTests {
  static func schema(_ contract: TopicSchema) throws -> AvroSchema {
    var parser = AvroSchemaParser()
    return try parser.parse(contract.avro)
  }

  static func encode(_ contract: TopicSchema, _ json: [UInt8]) -> [UInt8] {
    var bytes: [UInt8] = []
    json.withUnsafeBufferPointer { AvroMessageEncoder(contract).encode($0, into: &bytes) }
    return bytes
  }

  static func decode(_ bytes: [UInt8], _ schema: AvroSchema) throws -> String {
    String(decoding: try bytes.withUnsafeBufferPointer { try AvroMessageReader.json($0, schema) }, as: UTF8.self)
  }

  /// What is written as Avro comes back byte for byte; but for a null that may be left out as well.
  static func checkRoundTrip(
    _ contract: TopicSchema, _ json: [UInt8], _ place: SourceLocation = #_sourceLocation
  ) throws {
    var before = String(decoding: json, as: UTF8.self)
    for field in contract.fields where !field.isRequired && field.type.isNullable {
      before = before.replacing("\"\(field.name)\":null,", with: "")
    }
    let after = try decode(encode(contract, json), schema(contract))
    #expect(after == before, sourceLocation: place)
  }

  @Test func valuesAreWrittenAsTheSpecificationWantsThem() throws {
    let contract = TopicSchema(
      name: "small", title: "S", description: "d",
      fields: [
        SchemaField("a", .string), SchemaField("b", .integer()), SchemaField("c", .boolean(), required: false),
        SchemaField("d", .time), SchemaField("e", .date), SchemaField("f", .list(.integer(nullable: true))),
        SchemaField("g", .map(.decimal)), SchemaField("h", .optionalDecimal),
        SchemaField("i", .object([SchemaField("j", .enumeration(["x"]))])),
      ])
    let json =
      #"{"a":"\"é\n\u001f","b":-65,"d":"1970-01-01T00:00:00.001Z","e":"1969-12-31","f":[1,null],"#
      + #""g":{"k":"-1.50"},"h":null,"i":{"j":"x"}}"#
    let bytes = Self.encode(contract, Array(json.utf8))
    #expect(
      bytes == [
        10, 0x22, 0xc3, 0xa9, 0x0a, 0x1f, 0x81, 0x01, 0, 2, 2, 1, 4, 2, 2, 0, 0, 2, 2, 0x6b, 10, 0x2d, 0x31, 0x2e, 0x35,
        0x30, 0, 0, 2, 0x78,
      ])
    #expect(try Self.decode(bytes, Self.schema(contract)) == json)
    let schema = try Self.schema(contract)
    #expect(schema.name == "tieout.Small" && schema.fields[8].type.name == "tieout.SmallI")
    #expect(schema.fields.map(\.hasDefault) == [false, false, true] + Array(repeating: false, count: 6))
  }

  /// Lists longer than a block's number fits in one byte, and numbers at the ends of their range.
  @Test func longListsAndLargeNumbers() throws {
    let contract = TopicSchema(
      name: "long", title: "L", description: "d",
      fields: [SchemaField("a", .list(.integer())), SchemaField("b", .map(.string))])
    for count in [0, 1, 62, 63, 64, 126, 127, 500] {
      var numbers = (0..<count).map { String($0 * 7_919) }
      if count > 2 { (numbers[0], numbers[1]) = ("\(Int64.min)", "\(Int64.max)") }
      let pairs = (0..<count).map { #""k\#($0)":"v""# }
      let json = "{\"a\":[\(numbers.joined(separator: ","))],\"b\":{\(pairs.joined(separator: ","))}}"
      try Self.checkRoundTrip(contract, Array(json.utf8))
    }
  }

  /// Bytes that are no record of the schema are refused, whatever they are.
  @Test func whatIsNoRecordIsRefused() throws {
    var encoder = DeadLetterEncoder()
    let json = encoder.encode(
      DeadLetter(
        source: "s", origin: "o", isFile: false, partition: 1, offset: 5, key: [0x6b], payload: nil,
        fault: .init(.schemaInvalid, field: "f", detail: "why"), payloadBytes: 3, receivedAt_ms: 7))
    let schema = try Self.schema(TopicSchemas.deadLetterSchema)
    let whole = Self.encode(TopicSchemas.deadLetterSchema, json)
    for count in 0..<whole.count {
      #expect(throws: AvroMessageError.self) { try Self.decode(Array(whole.prefix(count)), schema) }
    }
    #expect(throws: AvroMessageError.self) { try Self.decode(whole + [0], schema) }
    var random = SeededRandom(seed: 3, stream: 9)
    var refused = 0
    for _ in 0..<5_000 {
      var bytes = whole
      for _ in 0...random.below(3) { bytes[random.below(bytes.count)] = UInt8(random.below(256)) }
      do { _ = try Self.decode(bytes, schema) } catch is AvroMessageError { refused += 1 }
    }
    #expect(refused > 1_000)
    // Numbers that promise more than there is.
    let contract = TopicSchema(name: "l", title: "", description: "", fields: [SchemaField("a", .list(.string))])
    for bytes: [UInt8] in [
      [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
      [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
      Array(repeating: 0xff, count: 12), [2, 0xff, 0xff, 0xff, 0xff, 0x7f],
    ] { #expect(throws: AvroMessageError.self) { try Self.decode(bytes, Self.schema(contract)) } }
  }

  @Test func fieldsMayBeAddedThatHaveADefault() throws {
    func problems(_ old: [SchemaField], _ new: [SchemaField]) throws -> [String] {
      func data(_ fields: [SchemaField]) -> Data {
        Data(TopicSchema(name: "t", title: "T", description: "d", fields: fields).avro.utf8)
      }
      return try AvroCompatibility.problems(old: data(old), new: data(new))
    }
    let old = [
      SchemaField("a", .decimal), SchemaField("b", .enumeration(["x"])), SchemaField("c", .integer()),
      SchemaField("d", .object([SchemaField("e", .string)])), SchemaField("f", .list(.string)),
      SchemaField("g", .map(.time)), SchemaField("h", .string, required: false),
    ]
    func changed(_ at: Int, _ type: SchemaType) -> [SchemaField] {
      var fields = old
      fields[at].type = type
      return fields
    }
    #expect(try problems(old, old).isEmpty)
    #expect(try problems(old, old + [SchemaField("z", .string, "new", required: false)]).isEmpty)
    #expect(try problems(old, changed(1, .enumeration(["x", "y"]))).isEmpty)
    #expect(
      try problems(old, old + [SchemaField("z", .string)])
        == ["$.z: was added without a default; make it one that may be absent"])
    #expect(try problems(old, Array(old.dropFirst())) == ["$.a: was removed"])
    #expect(try problems(old, changed(0, .optionalDecimal)) == ["$.a: was string, is null or string"])
    #expect(try problems(old, changed(2, .time)) == ["$.c: was long, is null or long (timestamp-millis)"])
    #expect(
      try problems(old, changed(3, .object([SchemaField("e", .integer())]))) == ["$.d.e: was string, is long"])
    #expect(try problems(old, changed(4, .list(.integer()))) == ["$.f[]: was string, is long"])
    #expect(
      try problems(old, changed(5, .map(.date)))
        == ["$.g.*: was null or long (timestamp-millis), is int (date)"])
    var always = old
    always[6] = SchemaField("h", .text(nullable: true))
    #expect(try problems(old, always) == ["$.h: no longer has a default"])
  }

  @Test func schemasAreRegisteredOrLookedUp() throws {
    let registry = try TinyRegistry()
    defer { registry.stop() }
    func encoding(registers: Bool, _ change: (inout Configuration) -> Void = { _ in }) throws -> OutputEncoding? {
      var configuration = Configuration()
      configuration.breaksTopic = "b"
      configuration.totalsTopic = "t/ö"
      configuration.outputs.formats = [.totals: .avro]
      configuration.outputs.registers = registers
      configuration.schemaRegistry = SchemaRegistrySettings()
      configuration.schemaRegistry!.url = registry.url
      change(&configuration)
      return try OutputEncoding(configuration, [.breaks, .totals])
    }
    #expect(try encoding(registers: false) { $0.outputs.formats = [.cashflow: .avro] } == nil)
    let missing = #expect(throws: OutputFormatError.self) { try encoding(registers: false) }
    #expect(
      missing?.description
        == "topic t/ö: the schema registry at \(registry.url) does not have its schema under the subject 't/ö-value': "
        + "register config/schemas/avro/total.avsc there, or set outputs.auto_register")
    #expect(registry.schemas(of: "t/ö-value").isEmpty)
    // Refused by the registry's rule of compatibility.
    let path = "/subjects/t%2F%C3%B6-value/versions"
    registry.put(path, status: 409, #"{"error_code":409,"message":"reader has no default for 'tasks'"}"#)
    let refused = #expect(throws: OutputFormatError.self) { try encoding(registers: true) }
    #expect(
      refused?.description.contains("topic t/ö, subject t/ö-value: the schema registry at") == true
        && refused?.description.contains("(409: reader has no default for 'tasks')") == true)
    registry.forget(path)
    let made = try #require(try encoding(registers: true))
    let known = registry.schemas(of: "t/ö-value")
    #expect(known.map(\.schema) == [TopicSchemas.totalSchema.avro] && known[0].id == 101)
    let json = TotalEncoder.encode(cell: "c", value: -1, tasks: 2, revision: 9, asOf_ms: 1_700_000_000_123)
    // At the end the time: 3,400,000,000,246, twice the milliseconds.
    let head: [UInt8] = [0, 0, 0, 0, 101, 2, 0x63, 1, 4, 2, 18]
    #expect(made.bytes(.totals, json) == head + [2, 246, 161, 171, 254, 249, 98])
    #expect(made.bytes(.breaks, json) == json)
    var seen: [UInt8] = []
    json.withUnsafeBufferPointer { made.with(.totals, $0) { seen = Array($0) } }
    #expect(seen == made.bytes(.totals, json))
    // Another process, which may only look.
    let other = SchemaRegistry(.init(url: registry.url))
    #expect(try other.id(subject: "t/ö-value", schema: TopicSchemas.totalSchema.avro, registers: false) == 101)
    // Both formats are read, each message as what it is.
    var configuration = Configuration()
    configuration.schemaRegistry = SchemaRegistrySettings()
    configuration.schemaRegistry!.url = registry.url
    let reader = OutputReader(configuration)
    for message in [json, seen] {
      #expect(try message.withUnsafeBufferPointer { try reader.json($0) } == json)
    }
    let none = #expect(throws: OutputFormatError.self) {
      try seen.withUnsafeBufferPointer { try OutputReader().json($0) }
    }
    #expect(none?.description.contains("Avro with schema 101") == true)
    #expect(throws: OutputFormatError.self) {
      try [0, 0, 0, 0, 9, 1].withUnsafeBufferPointer { try reader.json($0) }
    }
  }
}
