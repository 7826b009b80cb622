import Decoding
import Testing

@testable import Configuration

@Suite struct MaskTests {
  let tests = ConfigurationTests()
  let environment = ["KEY": "sixteen bytes or more", "SHORT": "short"]

  /// Orders and ledger with a customer, a dimension and documents, each with its mask.
  func yaml(
    key: String = "KEY", orders: String = "", ledger: String = "", order: String = "id", ledgerOrder: String = "id",
    more: String = ""
  ) -> String {
    """
    name: t
    dimensions: [rep]
    masking: {key: {env: \(key)}}
    sources:
      orders:
        kind: orders
        fields: {order: \(order), event: {path: type, values: {inv: invoiced}}, event_time: time, currency: cur, gross: gross\(orders)}
        dimensions: {rep: {path: rep, mask: redact}}
    \(more)
      ledger:
        kind: ledger
        fields: {order: \(ledgerOrder), role: {constant: receivable}, currency: cur, event_time: time\(ledger)}
        amount: amt
    """
  }

  @Test func masksAreReadAndTheKeyIsNotShown() throws {
    let text = yaml(
      orders: ", customer: {path: c, mask: hash}", ledger: ", customer: {path: k, mask: hash}, journal: j")
    let configuration = try tests.parse(text, environment)
    #expect(configuration.sources[0].mapping.fields["customer"]?.mask == .hash)
    #expect(configuration.sources[0].mapping.dimensions[0]?.mask == .redact)
    #expect(configuration.sources.allSatisfy { $0.mapping.isMasked && !configuration.writesRaw(of: $0) })
    #expect(configuration.effectiveYAML().contains("***"))
    #expect(!"\(configuration)\(configuration.effectiveYAML())".contains("sixteen"))
    // Another key makes something else of the same records.
    let other = try tests.parse(text, ["KEY": "another key of this length"])
    #expect(other.matchingHash != configuration.matchingHash && other != configuration)
    let raw = try tests.parse(text + "\ndead_letters: {raw: always}", environment)
    #expect(raw.writesRaw(of: raw.sources[0]) && raw.matchingHash != configuration.matchingHash)
  }

  @Test func aKeyThatNothingUsesChangesNothing() throws {
    let plain = try tests.parse(tests.base)
    let keyed = try tests.parse(tests.base + "\nmasking: {key: {env: KEY}}", environment)
    #expect(plain.matchingHash == keyed.matchingHash)
    #expect(plain.writesRaw(of: plain.sources[0]))
  }

  @Test func whatIsComparedIsMaskedOnBothSides() {
    func found(_ text: String) -> [String] { tests.problems(text, environment) }
    #expect(
      found(yaml(orders: ", customer: {path: c, mask: hash}", ledger: ", customer: k"))
        == [
          "t.yaml:5:3: sources: the customer must be masked in all sources in the same way: customer of 'orders' has 'hash', "
            + "customer of 'ledger' has 'none'"
        ])
    #expect(
      found(yaml(ledger: ", journal: {path: j, mask: hash}, reverses: r")).first?.contains("document numbers") == true)
    #expect(found(yaml(order: "{path: id, mask: hash}")).first?.contains("the order must be masked") == true)
    #expect(found(yaml(order: "{path: id, mask: hash}", ledgerOrder: "{path: id, mask: hash}")) == [])
    let routed = found(
      yaml(order: "{path: id, mask: hash}", ledgerOrder: "{path: id, mask: hash}", more: "    routed: true"))
    #expect(routed.count == 1 && routed[0].contains("all sources must be routed or none"))
  }

  @Test func whatIsMaskedIsNotReadInTheClearBesideIt() {
    func found(_ orders: String, order: String = "{path: id, mask: hash}") -> [String] {
      tests.problems(yaml(orders: orders, order: order, ledgerOrder: "{path: id, mask: hash}"), environment)
    }
    #expect(
      found(", event_id: {concat: [id, {constant: '/'}, type]}")
        == [
          "t.yaml:5:3: sources.orders: 'event_id' reads 'id' in the clear, which 'order' masks: mask both, or read "
            + "something else"
        ])
    #expect(found(", event_id: {concat: [id, {constant: '/'}, type], mask: hash}") == [])
    #expect(found(", document: {first: [doc, id]}").first?.contains("'document' reads 'id' in the clear") == true)
    #expect(found(", document: {first: [doc, other]}") == [])
    // A dimension is one of them, on either side.
    #expect(found(", customer: rep").first?.contains("'customer' reads 'rep' in the clear, which 'rep' masks") == true)
  }

  @Test func masksThatMakeNoSenseAreRefused() {
    func found(_ text: String) -> [String] { tests.problems(text, environment) }
    #expect(
      found(yaml(orders: ", document: {path: d, mask: redact}")).first?.contains("can be hashed, not redacted") == true)
    #expect(found(yaml(orders: ", net: {path: d, mask: hash}")).first?.contains("computed with") == true)
    #expect(found(yaml(orders: ", customer: {path: d, mask: hsh}")).first?.contains("did you mean 'hash'?") == true)
    #expect(
      tests.problems(
        tests.base.replacingOccurrences(
          of: "order: id, event", with: "customer: {path: c, mask: hash}, order: id, event"))
        == ["t.yaml:5:40: sources.orders.fields.customer.mask: a field is hashed, and masking.key is missing"])
    #expect(found(yaml(key: "SHORT")) == ["t.yaml:3:16: masking.key: the key has fewer than 16 bytes"])
    #expect(found(yaml(key: "NONE")).first?.contains("the environment has no NONE") == true)
    let rule = found(
      yaml(orders: ", customer: {path: c, mask: hash}", more: "    rules: [{field: customer, pattern: 'C.*'}]"))
    #expect(rule.count == 1 && rule[0].contains("'customer' is masked, and rules see what is left of it"))
  }
}
