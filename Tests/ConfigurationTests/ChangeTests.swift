import Testing

@testable import Configuration

@Suite struct ChangeTests {
  private func parse(_ text: String, secret: String = "one") throws -> Configuration {
    try Configuration.parse(
      yaml: """
        version: 1
        name: shop
        sources:
          orders: {kind: orders, topic: o, fields: {order: id, event: {constant: invoiced}, event_time: at}}
          ledger: {kind: ledger, topic: l, fields: {order: o, role: r, currency: c, event_time: at}, amount: a}

        """ + text, file: "shop.yaml", directory: "/etc", environment: ["SECRET": secret])
  }

  @Test func whatDiffersIsNamed() throws {
    let old = try parse("workers: 2")
    #expect(try parse("workers: 2").changedKeys(since: old) == [])
    #expect(try parse("").changedKeys(since: old) == ["workers"], "the default is another value")
    #expect(
      try parse("workers: 3\nserve: {limits: {rate: 5}}").changedKeys(since: old)
        == ["serve.limits.burst", "serve.limits.rate", "workers"], "and what follows from it")
    let token = "serve: {tokens: {ann: {sha256: \(String(repeating: "a", count: 64)), roles: [viewer]}}}"
    let added = try parse("workers: 2\n" + token).changedKeys(since: old)
    #expect(added == ["serve.tokens.ann.roles", "serve.tokens.ann.sha256"])
    #expect(try old.changedKeys(since: parse("workers: 2\n" + token)) == added, "what is gone is named the same")
  }

  @Test(arguments: [
    ("kafka: {properties: {sasl.password: {env: SECRET}}}", "kafka.properties.sasl.password"),
    ("serve: {webhooks: {desk: {url: 'https://d', secret: {env: SECRET}}}}", "serve.webhooks.desk.secret"),
    ("serve: {store: {url: 'postgresql://u@h/x', password: {env: SECRET}}}", "serve.store.password"),
  ]) func secretsThatDifferAreNamedAndNotTold(text: String, key: String) throws {
    let old = try parse(text)
    #expect(try parse(text).changedKeys(since: old) == [])
    #expect(try parse(text, secret: "two").changedKeys(since: old) == [key])
  }

  @Test func whatHasTakenEffectIsNotNamedAgain() throws {
    var active = try parse("workers: 2\nlogging: {level: info}")
    let next = try parse("workers: 3\nlogging: {level: debug}")
    #expect(next.changedKeys(since: active) == ["logging.level", "workers"])
    active.noteEffective(of: next) { $0 == "logging.level" }
    #expect(next.changedKeys(since: active) == ["workers"])
    #expect(try parse("workers: 2").changedKeys(since: active) == ["logging.level"], "back again")
  }
}
