import Decoding
import Foundation
import KafkaTesting
import Testing

@testable import SchemaRegistry

@Suite struct SchemaRegistryTests {
  @Test func schemasAreReadWithTheirNamesAndLogicalTypes() throws {
    var parser = AvroSchemaParser()
    let schema = try parser.parse(
      """
      {"type":"record","name":"Order","namespace":"shop","fields":[
        {"name":"id","type":"string"},
        {"name":"net","type":{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}},
        {"name":"day","type":["null",{"type":"int","logicalType":"date"}],"default":null},
        {"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}},
        {"name":"kind","type":{"type":"enum","name":"Kind","symbols":["A","B"]}},
        {"name":"again","type":["null","shop.Kind"]},
        {"name":"parent","type":["null","Order"]},
        {"name":"odd","type":{"type":"string","logicalType":"decimal","scale":2}},
        {"name":"lines","type":{"type":"array","items":{"type":"map","values":"double"}}}]}
      """)
    #expect(schema.kind == .record && schema.name == "shop.Order" && schema.fields.count == 9)
    #expect(schema.fields[1].type.logical == .decimal(scale: 2))
    #expect(
      schema.fields[2].type.branches.map(\.kind) == [.null, .int] && schema.fields[2].type.branches[1].logical == .date)
    #expect(schema.fields[3].type.logical == .timestampMicros)
    #expect(schema.fields[5].type.branches[1] === schema.fields[4].type)
    #expect(schema.fields[6].type.branches[1] === schema)
    #expect(schema.fields[7].type.logical == .none)
    #expect(schema.fields[8].type.branches[0].branches[0].kind == .double)
  }

  @Test(arguments: [
    "{", #""strng""#, #"{"type":"record","name":"R"}"#, #"{"type":"record","fields":[]}"#, "[]",
    #"{"type":"record","name":"R","fields":[{"name":"a","type":"Unknown"}]}"#, #"{"type":"fixed","name":"F"}"#,
    #"[{"type":"enum","name":"E","symbols":["A"]},{"type":"enum","name":"E","symbols":["B"]}]"#, #"{"type":"array"}"#,
    String(repeating: #"{"type":"array","items":"#, count: 300) + "\"int\"" + String(repeating: "}", count: 300),
  ]) func whatIsNoSchemaIsRefused(_ text: String) {
    #expect(throws: AvroSchemaError.self) {
      var parser = AvroSchemaParser()
      _ = try parser.parse(text)
    }
  }

  @Test func anIDIsAskedForOnce() throws {
    let server = try TinyRegistry()
    defer { server.stop() }
    try server.put(7, #""string""#)
    let registry = SchemaRegistry(.init(url: server.url + "/"))
    #expect(registry.known(7) == nil)
    for _ in 0..<3 { try registry.load(7) }
    #expect(registry.known(7)?.kind == .string)
    try registry.load(8)
    try registry.load(8)
    #expect(registry.known(8) == nil)
    try server.put(9, #"{"type":"object"}"#, more: ["schemaType": "JSON"])
    try registry.load(9)
    #expect(registry.known(9) == nil && server.requests == ["/schemas/ids/7", "/schemas/ids/8", "/schemas/ids/9"])
  }

  @Test func referencesAreFollowed() throws {
    let server = try TinyRegistry()
    defer { server.stop() }
    func reference(_ subject: String, _ version: Int) -> [String: Any] {
      ["name": "n", "subject": subject, "version": version]
    }
    try server.put(
      1, #"{"type":"record","name":"O","fields":[{"name":"m","type":"x.Money"}]}"#,
      more: ["references": [reference("money/type", 3)]])
    func version(_ path: String, _ schema: String, _ references: [[String: Any]]) throws {
      let body = try JSONSerialization.data(withJSONObject: ["schema": schema, "references": references])
      server.put(path, String(decoding: body, as: UTF8.self))
    }
    try version(
      "/subjects/money%2Ftype/versions/3",
      #"{"type":"record","name":"x.Money","fields":[{"name":"c","type":"x.Currency"}]}"#, [reference("cur", 1)])
    try version("/subjects/cur/versions/1", #"{"type":"enum","name":"x.Currency","symbols":["EUR"]}"#, [])
    let registry = SchemaRegistry(.init(url: server.url))
    try registry.load(1)
    #expect(registry.known(1)?.fields[0].type.fields[0].type.symbols == ["EUR"])
    try server.put(2, #"{"type":"record","name":"P","fields":[]}"#, more: ["references": [reference("gone", 1)]])
    let error = #expect(throws: SchemaRegistryError.self) { try registry.load(2) }
    #expect(error?.description.contains("does not have version 1 of 'gone'") == true)
  }

  @Test func whatKeepsASchemaAwayIsSaid() throws {
    let server = try TinyRegistry(authorization: SchemaRegistry.Settings.basic(user: "u", password: "p"))
    try server.put(1, #""int""#)
    let stranger = #expect(throws: SchemaRegistryError.self) { try SchemaRegistry(.init(url: server.url)).load(1) }
    #expect(stranger?.description.contains("refuses the access (401: who are you)") == true)
    let registry = SchemaRegistry(
      .init(url: server.url, authorization: SchemaRegistry.Settings.basic(user: "u", password: "p")))
    try registry.load(1)
    #expect(registry.known(1)?.kind == .int)
    server.put("/schemas/ids/2", status: 503, "{}")
    let broken = #expect(throws: SchemaRegistryError.self) { try registry.load(2) }
    #expect(broken?.description.contains("answers 503") == true)
    #expect(server.requests.filter { $0 == "/schemas/ids/2" }.count == 3, "a passing error is tried again")
    // Another server's 404 does not mean that the schema is not there.
    server.put("/schemas/ids/3", status: 404, "not here")
    #expect(throws: SchemaRegistryError.self) { try registry.load(3) }
    try server.put(3, #""long""#)
    try registry.load(3)
    #expect(registry.known(3)?.kind == .long)
    server.stop()
    let away = #expect(throws: SchemaRegistryError.self) { try registry.load(4) }
    #expect(away?.description.contains("does not answer") == true)
    try registry.load(3)
  }
}
