import Decoding
import Domain
import Forecasting
import Yams

/// What `tieout flows` makes of the topics: expected and actual cash, ageing and collection ratios.
public struct FlowSettings: Sendable, Equatable {
  /// When an item is due, where a source says it.
  public struct Source: Sendable, Equatable {
    public var dueDate: FieldMapping?
    public var terms: FieldMapping?

    public init() {}
    public var isEmpty: Bool { dueDate == nil && terms == nil }
  }

  /// What messages are kept apart by, beside the currency: configured dimensions, or `customer`.
  public var by: [String] = []
  /// The dimension of whose payments a customer without a history of its own is forecast; empty for none.
  public var segment = ""
  /// Of items for which no source says when they are due.
  public var terms = PaymentTerms(net_d: 30)
  /// Days over which sales and the collection ratios are taken.
  public var days: Int32 = 90
  /// Part of the time that the backtest learns from, in percent.
  public var backtest_percent = 70
  /// How long an item counts after it has been settled; at least as long as figures look back.
  public var history_d: Int32 = 1_095
  /// How long changes are gathered before they are told.
  public var interval_ms: Int64 = 10_000
  /// The most lines of the ledger and invoices that are kept, at some 100 bytes each. Beyond it the job refuses to go on:
  /// sums of a part would be wrong ones.
  public var maximumFacts = 20_000_000
  /// By source.
  public var sources: [String: Source] = [:]
  /// What has been ordered and is still to be billed; nil where it is not looked at.
  public struct Backlog: Sendable, Equatable {
    /// Days from an order to its invoice where too few are known.
    public var lag_d: Int32 = 30
    /// The amount of order events by which orders and invoices are compared.
    public var amount = AmountComponent.gross

    public init() {}
  }
  public var backlog: Backlog?
  /// Of `calendar`.
  public var businessDays = BusinessDays()

  public init() {}

  /// The word in `by` for the customer of an item.
  public static let customer = "customer"
}

extension Configuration {
  /// After the sources: it must name them.
  mutating func readFlows(_ node: Node?, _ tables: [String: ValueTable], _ reader: ConfigurationReader) {
    let path = ["flows"]
    guard let nodes = reader.enabledNodes(node, path, "flows") else { return }
    var settings = FlowSettings()
    settings.by = reader.names(nodes["by"], path + ["by"])
    let known = dimensions + [FlowSettings.customer]
    for (at, name) in settings.by.enumerated() where !known.contains(name) {
      reader.problem(nodes["by"]?.sequence?[at], "flows.by: unknown dimension '\(name)'\(reader.hint(name, known))")
    }
    settings.segment = reader.text(nodes["segment"], path + ["segment"], "")
    if !settings.segment.isEmpty, !dimensions.contains(settings.segment) {
      reader.problem(
        nodes["segment"],
        "flows.segment: unknown dimension '\(settings.segment)'\(reader.hint(settings.segment, dimensions))")
    }
    let terms = reader.name(nodes["terms"], path + ["terms"], "NET30")
    if let made = PaymentTerms(terms) {
      settings.terms = made
    } else {
      reader.problem(nodes["terms"], "flows.terms: '\(terms)' are no payment terms (NET30, 2/10NET30, EOM+15, COD)")
    }
    settings.days = Int32(reader.integer(nodes["days"], path + ["days"], Int(settings.days), 1...3_650))
    settings.backtest_percent = reader.integer(
      nodes["backtest"], path + ["backtest"], settings.backtest_percent, 1...99)
    let history_ms = reader.duration_ms(
      nodes["history"], path + ["history"], Int64(settings.history_d) * millisecondsPerDay, atLeast: millisecondsPerDay)
    settings.history_d = Int32(clamping: history_ms / millisecondsPerDay)
    settings.interval_ms = reader.duration_ms(nodes["interval"], path + ["interval"], settings.interval_ms, atLeast: 1)
    settings.maximumFacts = reader.integer(
      nodes["facts"], path + ["facts"], settings.maximumFacts, 1_000...1_000_000_000)
    settings.backlog = readBacklog(nodes["backlog"], path + ["backlog"], reader)
    for (name, value, keyNode) in reader.mapping(nodes["sources"], path + ["sources"]) {
      guard let source = sources.first(where: { $0.name == name }) else {
        reader.problem(
          keyNode, "flows.sources: there is no source '\(name)'\(reader.hint(name, sources.map(\.name)))")
        continue
      }
      settings.sources[name] = readFlowSource(value, path + ["sources", name], source, tables, reader, keyNode)
    }
    if !sources.contains(where: { $0.mapping.kind == .ledger }) {
      reader.problem(node, "flows: there is no source of kind ledger, and receivables are what the ledger holds")
    }
    settings.businessDays = businessDays
    flows = settings
  }

  private func readBacklog(_ node: Node?, _ path: [String], _ reader: ConfigurationReader) -> FlowSettings.Backlog? {
    let nodes = reader.nodes(node, path)
    guard reader.bool(nodes["enabled"], path + ["enabled"], false) else { return nil }
    var made = FlowSettings.Backlog()
    let lag_ms = reader.duration_ms(nodes["lag"], path + ["lag"], Int64(made.lag_d) * millisecondsPerDay)
    if lag_ms % millisecondsPerDay != 0 || lag_ms > 3_650 * millisecondsPerDay {
      reader.problem(nodes["lag"], "\(reader.dotted(path)).lag: whole days are expected, at most ten years")
    }
    made.lag_d = Int32(clamping: lag_ms / millisecondsPerDay)
    enum Amount: String, CaseIterable { case gross, net }
    made.amount = reader.choice(nodes["amount"], path + ["amount"], Amount.gross) == .net ? .net : .gross
    let hasAmount = sources.contains { $0.mapping.kind == .orders && $0.mapping.fields[made.amount.name] != nil }
    if !hasAmount {
      reader.problem(
        nodes["amount"] ?? node,
        "\(reader.dotted(path)).amount: no source of order events maps '\(made.amount.name)'")
    }
    return made
  }

  private func readFlowSource(
    _ node: Node, _ path: [String], _ source: SourceSettings, _ tables: [String: ValueTable],
    _ reader: ConfigurationReader, _ keyNode: Node
  ) -> FlowSettings.Source {
    let nodes = reader.nodes(node, path)
    var made = FlowSettings.Source()
    if let node = nodes["due_date"] { made.dueDate = readDateField(node, path + ["due_date"], tables, reader) }
    if let node = nodes["terms"] { made.terms = readTextField(node, path + ["terms"], tables, reader) }
    let count = [made.dueDate, made.terms].compactMap { $0 }.count
    if dimensions.count + count > maximumDimensions {
      reader.problem(
        keyNode,
        "\(reader.dotted(path)): with \(dimensions.count) dimensions there is room for "
          + "\(maximumDimensions - dimensions.count) more fields, not \(count)")
    } else if !made.isEmpty {
      do throws(MappingError) {
        _ = try MappingPlan(source.flowMapping(made, dimensionCount: dimensions.count))
      } catch { reader.problem(keyNode, "\(reader.dotted(path)): \(error)") }
    }
    if let mapping = made.dueDate, DateReader(mapping) == nil {
      reader.problem(nodes["due_date"], "\(reader.dotted(path)).due_date: the pattern of its format makes no sense")
    }
    return made
  }
}

extension SourceSettings {
  /// The source's own mapping with the texts of due date and terms behind its dimensions.
  public func flowMapping(_ flow: FlowSettings.Source, dimensionCount: Int) -> MappingSpecification {
    var mapping = mapping
    mapping.dimensions += Array(repeating: nil, count: max(0, dimensionCount - mapping.dimensions.count))
    for var field in [flow.dueDate, flow.terms].compactMap({ $0 }) {
      (field.timeFormat, field.timeZone) = (nil, nil)
      mapping.dimensions.append(field)
    }
    return mapping
  }
}
