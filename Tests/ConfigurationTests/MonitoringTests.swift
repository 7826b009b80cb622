import Testing

@testable import Configuration

@Suite struct MonitoringSettingsTests {
  private func parse(_ text: String) throws -> Configuration {
    try Configuration.parse(
      yaml: """
        version: 1
        name: shop
        sources:
          orders: {kind: orders, topic: o, fields: {order: id, event: {constant: invoiced}, event_time: at}}
          ledger: {kind: ledger, topic: l, fields: {order: o, role: r, currency: c, event_time: at}, amount: a}
        \(text)
        """, file: "shop.yaml", directory: "/etc/tieout", environment: ["METRICS": "s3cret"])
  }

  @Test func itIsOffByDefault() throws { #expect(try parse("").monitoring == nil) }

  @Test func addresses() throws {
    #expect(
      try parse("monitoring: {listen: '127.0.0.1:9464'}").monitoring
        == MonitoringSettings(host: "127.0.0.1", port: 9464, token: nil))
    #expect(try parse("monitoring: {listen: '[::1]:0'}").monitoring?.host == "::1")
    let remote = try parse("monitoring: {listen: '0.0.0.0:9464', token: {env: METRICS}}")
    #expect(remote.monitoring?.token?.reveal == "s3cret")
    #expect(!remote.effectiveYAML().contains("s3cret"))
    #expect(try parse("monitoring: {listen: '0.0.0.0:9464', open: true}").monitoring?.token == nil)
  }

  @Test(arguments: [
    ("monitoring: {open: true}", "'listen' is missing"),
    ("monitoring: {listen: '9464'}", "HOST:PORT is expected"),
    ("monitoring: {listen: '127.0.0.1:99999'}", "HOST:PORT is expected"),
    ("monitoring: {listen: '0.0.0.0:9464'}", "/metrics needs a 'token'"),
    ("monitoring: {listen: '127.0.0.1:1', token: plain}", "{env: NAME} or {file: path} is expected"),
    ("monitoring: {listen: '127.0.0.1:1', token: {env: METRICS}, open: true}", "exclude each other"),
    ("monitoring: {lisen: '127.0.0.1:1'}", "did you mean 'listen'"),
  ])
  func whatIsWrongIsSaid(text: String, message: String) {
    let error = #expect(throws: ConfigurationError.self) { try parse(text) }
    #expect(error?.description.contains(message) == true, "\(error?.description ?? "")")
  }
}
