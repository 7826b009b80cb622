import Configuration
import Domain
import Matching

/// The configurations of generated loads: what `config/examples/flat.yaml` and `northwind.yaml` map, in the program
/// itself, so that measurements need no file.
public enum LoadConfiguration {
  /// - Parameters:
  ///   - settings: YAML of further top-level sections.
  ///   - matching: Lines of the section `matching`.
  public static func yaml(
    _ shape: WorkloadShape, name: String, settings: String = "", matching: [String] = []
  ) -> String {
    let tolerance = shape == .flat ? [] : ["tolerances: {default: {absolute: 0.01}}"]
    let lines = (tolerance + matching).map { "  \($0)\n" }.joined()
    return "version: 1\nname: \(name)\n" + (shape == .flat ? flat : northwind) + settings
      + (lines.isEmpty ? "" : "matching:\n" + lines)
  }

  /// The lines of `matching` that `setHorizon` stands for.
  public static func policySettings(_ options: WorkloadOptions, openTies: Int) -> [String] {
    var policy = MatchingPolicy()
    setHorizon(&policy, options: options, openTies: openTies)
    // Long enough for a fetch, and little to wait for at the end.
    policy.idleTimeout_ms = 300
    return lines(policy)
  }

  /// For a load whose event times are those of now: breaks are provisional as soon as both sides are there, and what is
  /// missing is so after `window_ms`.
  public static func steadySettings(window_ms: Int64) -> [String] {
    var policy = MatchingPolicy()
    policy.window_ms = window_ms
    policy.grace_ms = 0
    policy.settle_ms = 0
    policy.retention_ms = 2_000
    policy.openRetention_ms = 2_000
    // Two records that are sent in one millisecond may be told in another order.
    policy.outOfOrderness_ms = 5
    policy.idleTimeout_ms = 1_000
    return lines(policy)
  }

  private static func lines(_ policy: MatchingPolicy) -> [String] {
    [
      "window: \(policy.window_ms)ms", "grace: \(policy.grace_ms)ms", "settle: \(policy.settle_ms)ms",
      "retention: \(policy.retention_ms)ms", "open_retention: \(policy.openRetention_ms)ms",
      "out_of_orderness: \(policy.outOfOrderness_ms)ms", "idle_timeout: \(policy.idleTimeout_ms)ms",
      "provisional: \(policy.reportsProvisional)",
    ]
  }

  /// The horizon is the load's: whatever trails by `shuffle` orders is in time, and a tie stays open until so many
  /// further orders have come that `openTies` are held at a time.
  ///
  /// Every tie is judged once, at its deadline, and forgotten right after it.
  /// - Parameter byCustomer: Whether the customer is a third dimension (flat).
  public static func configuration(
    _ shape: WorkloadShape, name: String, options: WorkloadOptions, openTies: Int, byCustomer: Bool = false
  ) throws -> Configuration {
    var text = yaml(shape, name: name)
    if byCustomer {
      precondition(shape == .flat, "only the flat shape has customers for a dimension")
      text.replace("dimensions: [region, channel]", with: "dimensions: [region, channel, customer]")
      text.replace("channel: channel}", with: "channel: channel, customer: customer_id}")
      text.replace("    amount: amount\n", with: "    amount: amount\n    dimensions: {customer: customer_id}\n")
    }
    var configuration = try Configuration.parse(yaml: text, file: name, directory: ".")
    setHorizon(&configuration.policy, options: options, openTies: openTies)
    return configuration
  }

  public static func setHorizon(_ policy: inout MatchingPolicy, options: WorkloadOptions, openTies: Int) {
    let interval_ms = max(1, options.interval_us / 1_000)
    // A posting's event time is a minute after its order's, wherever it arrives.
    policy.outOfOrderness_ms = Int64(options.shuffle + 2) * interval_ms + 120_000
    policy.window_ms = max(120_000, Int64(openTies) * interval_ms - policy.outOfOrderness_ms)
    policy.grace_ms = 0
    policy.settle_ms = policy.window_ms
    policy.reportsProvisional = false
    policy.retention_ms = interval_ms
    policy.openRetention_ms = interval_ms
    policy.idleTimeout_ms = 5_000
  }

  private static let flat = """
    dimensions: [region, channel]
    tables:
      accounts:
        entries: {"1200": receivable}
    sources:
      orders:
        kind: orders
        format: json
        fields:
          order: order_id
          event_id: event_id
          event: event_type
          event_time: {path: event_time, format: rfc3339}
          document: invoice_no
          customer: customer_id
          currency: currency
          net: net
          tax: tax
          freight: freight
          gross: gross
        dimensions: {region: region, channel: channel}
      ledger:
        kind: ledger
        format: json
        fields:
          order: order_id
          line_id: entry_id
          journal: journal_id
          document: invoice_no
          customer: customer_id
          role: {path: account, table: accounts}
          currency: currency
          event_time: {path: posted_at, format: rfc3339}
          posting_date: posting_date
          period: period
        amount: amount
    policy:
      replace_defaults: true
      invoiced: {receivable: +gross}

    """

  private static let northwind = """
    dimensions: [country, channel]
    tables:
      chart_of_accounts:
        entries:
          "1200": receivable
          "1900": cash
          "2400": tax
          "4000": revenue
          "4100": freight
          "4900": returns
          "6900": rounding
    sources:
      orders:
        kind: orders
        format: json
        fields:
          order: id
          event_id: event.id
          event: {path: event.type, values: {order.invoiced: invoiced}}
          event_time: {path: event.time, format: rfc3339}
          document_date: {path: event.time, format: rfc3339}
          document: invoice
          customer: account.id
          currency: amounts.currency
          line_count: line_count
          net: amounts.net
          freight: amounts.freight
          tax: amounts.tax
          gross: amounts.gross
        dimensions: {country: account.country, channel: channel}
      ledger:
        kind: ledger
        format: debezium
        fields:
          order: sales_order
          line_id: {concat: [journal_id, {constant: "-"}, line_no]}
          journal: journal_id
          document: document_no
          customer: customer_no
          account: account
          role: {path: account, table: chart_of_accounts}
          currency: currency
          event_time: {path: $.ts_ms, format: epoch_ms}
          posting_date: posting_date
          period: period
        amount: {debit: debit, credit: credit}

    """
}
