import Testing

@testable import Configuration

@Suite struct OutputTests {
  func parse(_ more: String) throws -> Configuration {
    try Configuration.parse(
      yaml: """
        name: t
        sources:
          orders: {kind: orders, fields: {order: o, event: {constant: invoiced}, event_time: t}}
          ledger: {kind: ledger, fields: {order: o, role: {constant: cash}, currency: c, event_time: t}, amount: a}
        \(more)
        """, file: "t.yaml", directory: ".", environment: [:])
  }

  @Test func formatsAreForAllOrForOne() throws {
    let plain = try parse("")
    #expect(plain.outputs.registers && !plain.outputs.hasAvro && plain.outputs.format(.breaks) == .json)
    let registry = "schema_registry: {url: \"http://r\"}\n"
    let all = try parse(registry + "outputs: {format: avro, auto_register: false, formats: {dead_letters: json}}")
    #expect(Output.allCases.filter { all.outputs.format($0) == .avro }.count == Output.allCases.count - 1)
    #expect(all.outputs.format(.deadLetters) == .json && !all.outputs.registers)
    let one = try parse(registry + "outputs: {formats: {breaks: avro}}")
    #expect(Output.allCases.filter { one.outputs.format($0) == .avro } == [.breaks])
    // What is matched stays the same: a replay of before is one.
    #expect(one.matchingHash == plain.matchingHash && one != plain)
    let again = try Configuration.parse(yaml: all.effectiveYAML(), file: "e.yaml", directory: ".", environment: [:])
    #expect(again.outputs == all.outputs)
    #expect(Output.allCases.map { all.topic($0) }.contains("t.dead-letters"))
    #expect(Set(Output.allCases.map { all.topic($0) }).count == Output.allCases.count)
  }

  @Test(arguments: [
    ("outputs: {format: avro}", "t.yaml:5:10: outputs: the format avro needs schema_registry.url"),
    ("outputs: {formats: {totals: avro}}", "t.yaml:5:10: outputs: the format avro needs schema_registry.url"),
    (
      "outputs: {formats: {break: avro}}",
      "t.yaml:5:21: outputs.formats: there is no output 'break'; did you mean 'breaks'?"
    ),
    ("outputs: {format: xml}", "t.yaml:5:19: outputs.format: 'xml' is not one of json, avro"),
  ]) func whatMakesNoSenseIsRefused(_ yaml: String, _ problem: String) {
    let error = #expect(throws: ConfigurationError.self) { try parse(yaml) }
    #expect(error?.description == problem)
  }
}
