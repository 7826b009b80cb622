import Foundation
import Testing

@testable import Configuration

@Suite struct ServeSettingsTests {
  private static let sources = """
    version: 1
    name: shop
    dimensions: [country]
    sources:
      orders: {kind: orders, topic: o, fields: {order: id, event: {constant: invoiced}, event_time: at}}
      ledger: {kind: ledger, topic: l, fields: {order: o, role: r, currency: c, event_time: at}, amount: a}

    """

  private func parse(_ serve: String) throws -> ServeSettings {
    try Configuration.parse(
      yaml: Self.sources + serve, file: "shop.yaml", directory: "/etc/tieout", environment: ["HOOK": "s3cret"]
    ).serve
  }

  @Test func everythingIsRead() throws {
    let settings = try parse(
      """
      serve:
        listen: "[::1]:9443"
        directory: data
        approval_limit: 2500.50
        reason_codes: [timing, other]
        metrics_open: true
        aggregates: {revenue: r.cells}
        tls: {certificate: c.pem, key: /k.pem, client_ca: ca.pem}
        tokens:
          ann: {sha256: \(String(repeating: "aB", count: 32)), roles: [analyst, viewer], scope: {country: [NO, SE]}}
        jwt: {jwks: keys.json, issuer: https://id.example, audience: tieout, roles_claim: groups, leeway: 5s}
        webhooks:
          desk: {url: https://desk.example/in, secret: {env: HOOK}, severities: [critical], minimum: 100}
        limits: {body: 1MiB, rate: 10, timeout: 2s}
        store: {url: "postgresql://u@db.example/x", password: {env: HOOK}}
        session: {lifetime: 8h, idle: 10m}
      """)
    #expect(settings.host == "::1" && settings.port == 9_443)
    #expect(settings.directory == "data")
    #expect(settings.approvalLimit_u == 2_500_500_000)
    #expect(settings.aggregates["revenue"] == "r.cells" && settings.aggregates["variance"] == "shop.variance")
    #expect(
      settings.tls == ServeTLS(certificate: "/etc/tieout/c.pem", key: "/k.pem", clientAuthorities: "/etc/tieout/ca.pem")
    )
    #expect(settings.tokens.first?.hash == String(repeating: "ab", count: 32))
    #expect(settings.tokens.first?.roles == [.analyst, .viewer])
    #expect(settings.tokens.first?.scope == ["country": ["NO", "SE"]])
    #expect(settings.jwt?.jwks == "/etc/tieout/keys.json" && settings.jwt?.leeway_s == 5)
    #expect(settings.webhooks.first?.secret.reveal == "s3cret")
    #expect(settings.webhooks.first?.minimum_u == 100_000_000)
    #expect(settings.requestRate == 10 && settings.requestBurst == 20)
    #expect(settings.sessionIdle_ms == 600_000)
    #expect(
      settings.store
        == ServeStore(url: "postgresql://u@db.example/x", password: Secret("s3cret"), schema: "tieout_shop"))
  }

  @Test(arguments: [
    ("serve: {store: {schema: x}}", "'url' is missing"),
    ("serve: {store: {url: sqlite}}", "postgresql://user@host/database is expected"),
    ("serve: {store: {url: 'postgresql://u:p@h/x'}}", "the password belongs into serve.store.password"),
    ("serve: {store: {url: 'postgresql://u@h/x?password=p'}}", "the password belongs into serve.store.password"),
    ("serve: {lisen: x}", "did you mean 'listen'"), ("serve: {listen: nowhere}", "HOST:PORT is expected"),
    ("serve: {tokens: {ann: {roles: [viewer]}}}", "'sha256' is missing"),
    ("serve: {tokens: {ann: {sha256: abc, roles: [viewer]}}}", "64 hexadecimal digits"),
    ("serve: {tokens: {ann: {sha256: \(String(repeating: "a", count: 64)), roles: [viwer]}}}", "did you mean 'viewer'"),
    ("serve: {tokens: {ann: {sha256: \(String(repeating: "a", count: 64))}}}", "at least one role"),
    (
      "serve: {tokens: {ann: {sha256: \(String(repeating: "a", count: 64)), roles: [viewer], scope: {contry: [NO]}}}}",
      "no configured dimension; did you mean 'country'"
    ),
    ("serve: {jwt: {jwks: 'http://id.example/k', issuer: i, audience: a}}", "over https only"),
    ("serve: {jwt: {jwks: k.json}}", "'issuer' is missing"),
    ("serve: {tls: {certificate: c.pem}}", "'key' is missing"),
    ("serve: {webhooks: {desk: {url: 'http://desk.example', secret: {env: HOOK}}}}", "https is expected"),
    ("serve: {webhooks: {desk: {url: 'https://desk.example'}}}", "'secret' is missing"),
    ("serve: {webhooks: {desk: {url: 'https://d', secret: {env: HOOK}, types: [CUTOF]}}}", "did you mean 'CUTOFF'"),
    ("topics: {actions: shop.breaks}", "is that of topics.breaks already"),
  ])
  func mistakesAreNamed(serve: String, message: String) {
    let error = #expect(throws: ConfigurationError.self) { try parse(serve) }
    #expect(error?.description.contains(message) == true, "\(error?.description ?? "")")
  }

  @Test func secretsAreNotPrinted() throws {
    let configuration = try Configuration.parse(
      yaml: Self.sources + "serve: {webhooks: {desk: {url: 'https://d', secret: {env: HOOK}}}}", file: "x",
      directory: ".", environment: ["HOOK": "s3cret"])
    #expect(!configuration.effectiveYAML().contains("s3cret"))
    #expect(!"\(configuration)".contains("s3cret"))
  }
}
