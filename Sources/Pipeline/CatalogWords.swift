import Aggregates
import Configuration
import Decoding
import Domain

/// What the catalog says of canonical fields, mapping rules and lineage.
enum CatalogWords {
  /// - Parameter isMapped: Whether it is a canonical field of the source, and no dimension that has the name of one.
  static func definition(_ field: String, _ kind: SourceKind, isMapped: Bool) -> String {
    if isMapped, kind == .orders, let known = OrderField(rawValue: field) {
      return switch known {
      case .order: "Order key by which orders and postings are joined."
      case .eventID: "The event's own id, by which re-deliveries are told."
      case .event: "What happened to the order."
      case .eventTime: "When it happened."
      case .documentDate: "Date of the document; decides the expected accounting period."
      case .document: "Billing, delivery or payment document that the event is about."
      case .customer: "Customer number."
      case .currency: "Currency of the amounts, ISO 4217."
      case .lineCount: "Lines of the order or invoice; decides how large a rounding difference may be."
      case .quantity: "Quantity delivered, shipped or billed."
      case .line: "Line (item) of the document; by it price and quantity are compared with those of the ledger."
      case .serviceStart: "First day of the service that is billed; the document date where it is absent."
      case .serviceEnd: "Last day of the service that is billed: its revenue is released until then."
      case .servicePeriods: "How many months or accounting periods the service lasts, where it has no last day."
      case .net: "Amount without tax and freight."
      case .tax: "Tax."
      case .freight: "Freight."
      case .discount: "Discount, a reduction of revenue."
      case .gross: "What the customer owes: net + tax + freight − discount."
      case .cost: "Cost of the goods."
      case .deposit: "Deposit received or applied."
      case .fee: "Fee of a payment processor."
      case .applied: "What a payment, refund or write-off settles."
      }
    }
    if isMapped, kind == .ledger, let known = PostingField(rawValue: field) {
      return switch known {
      case .order: "Order key by which orders and postings are joined."
      case .lineID: "The posting line's own id, by which re-deliveries are told."
      case .journal: "Ledger document; its lines must sum to zero."
      case .document: "Billing, delivery or payment document that the line refers to."
      case .reverses: "The ledger document that this line reverses."
      case .reversal: "Whether the line belongs to a reversal."
      case .customer: "Customer number."
      case .account: "Account number."
      case .role: "What the account is for; comparison is by role."
      case .currency: "Currency of the amount, ISO 4217."
      case .eventTime: "When the line was posted or captured."
      case .postingDate: "Posting date; decides the accounting period."
      case .period: "Accounting period, year × 100 + period."
      case .quantity: "Quantity of the line; whether it is sold or taken back, the side of the amount says."
      case .line: "Line (item) of the document that is posted; by it price and quantity are compared."
      case .baseAmount: "The amount in the base currency, as the ledger has converted it."
      }
    }
    return switch field {
    case "amount": "Debit − credit."
    case "due_date": "When the invoice is due."
    case "terms": "Payment terms, by which the invoice is due."
    default: "Dimension by which breaks and sums are sliced."
    }
  }

  static func output(_ name: String) -> String {
    switch name {
    case "breaks": "What does not agree between orders and ledger, each with its life."
    case "dead_letters": "Records that could not be taken in, with their bytes and the reason."
    case "revenue": "Bookings, billings, revenue and balances by dimensions, currency and period."
    case "variance": "Actual against budget by period, dimensions and measure."
    case "cashflow": "Expected and actual cash by week, with the forecast held against what came."
    case "receivables": "Ageing of what is open, and collection ratios (DSO, ADD, CEI)."
    case "quality": "How complete, timely and matched each source is, and how the control totals stand."
    case "actions": "What people decide about breaks."
    case "proposals": "Journals that write differences off, for the ledger to post."
    case "totals": "Open breaks by type, over all tasks."
    default: ""
    }
  }

  // MARK: - Rules

  static func rule(_ field: String, _ source: SourceSettings, _ configuration: Configuration) -> String {
    let mapping = source.mapping
    if let own = mapping.fields[field] { return rule(own) }
    if field == "amount", let amount = mapping.amount {
      switch amount {
      case .signed(let field): return rule(field)
      case .debitCredit(let debit, let credit): return "\(rule(debit)) − \(rule(credit))"
      case .indicated(let amount, let side): return "\(rule(amount)), signed by \(rule(side))"
      }
    }
    if let at = configuration.dimensions.firstIndex(of: field), at < mapping.dimensions.count,
      let own = mapping.dimensions[at]
    {
      return rule(own)
    }
    let flow = configuration.flows?.sources[source.name]
    if field == "due_date", let own = flow?.dueDate { return rule(own) }
    if field == "terms", let own = flow?.terms { return rule(own) }
    return ""
  }

  private static func rule(_ field: FieldMapping) -> String {
    var text = expression(field.value)
    if let table = field.table { text += words(table) }
    if let format = field.timeFormat { text += ", written as \(words(format))" }
    if let zone = field.timeZone {
      text += ", in \(zone.name == "Z" ? "UTC" : zone.name.replacing("-", with: zone.isFixed ? "−" : "-"))"
    }
    text += words(field.decimal)
    if field.decimal.negate { text += ", negated" }
    if field.decimal.isInMinorUnits { text += ", in minor units of the currency" }
    if let scale = field.decimal.impliedDecimals { text += ", with \(scale) implied decimals" }
    if field.decimal.rounding != .refuse { text += ", rounded \(field.decimal.rounding.rawValue)" }
    if field.stripsLeadingZeros { text += ", without leading zeros" }
    if let standard = field.defaultText { text += ", empty read as '\(standard)'" }
    switch field.mask {
    case .none: break
    case .hash: text += ", hashed (HMAC-SHA-256)"
    case .redact: text += ", redacted"
    }
    return text
  }

  /// What a table makes of the texts that it has, where those are few, and of others.
  private static func words(_ table: ValueTable) -> String {
    let others =
      switch table.unlisted {
      case .reject: "others to dead letters"
      case .skip: "others skipped"
      case .keep: "others as they are"
      case .replace(let text): "others '\(text)'"
      }
    guard table.entries.count <= 6 else {
      return " by table \(table.name) of \(table.entries.count) entries (\(others))"
    }
    let entries = table.entries.sorted { $0.key < $1.key }.map { "\($0.key) → \($0.value)" }
    return " (\((entries + [others]).joined(separator: ", ")))"
  }

  /// How an amount is written, where that is not `-1234.56`.
  private static func words(_ style: DecimalStyle) -> String {
    func quoted(_ byte: UInt8) -> String { byte == 0x20 ? "a space" : "'\(Character(Unicode.Scalar(byte)))'" }
    var text = ""
    if style.decimalSeparator != DecimalStyle().decimalSeparator {
      text += ", decimals after \(quoted(style.decimalSeparator))"
    }
    if let grouping = style.groupingSeparator { text += ", thousands by \(quoted(grouping))" }
    if style.allowsTrailingMinus { text += ", minus behind" }
    if style.allowsParentheses { text += ", negative in parentheses" }
    if let scale = style.base64Scale { text += ", base64 with \(scale) decimals" }
    return text
  }

  private static func words(_ format: TimeFormat) -> String {
    switch format {
    case .rfc3339: "RFC 3339"
    case .epochSeconds: "seconds since 1970"
    case .epochMilliseconds: "milliseconds since 1970"
    case .epochMicroseconds: "microseconds since 1970"
    case .epochNanoseconds: "nanoseconds since 1970"
    case .epochDays: "days since 1970"
    case .compact: "yyyymmdd"
    case .pattern(let pattern): pattern
    case .automatic: "date or time"
    }
  }

  private static func expression(_ value: ValueExpression) -> String {
    switch value {
    case .path(let path): path
    case .constant(let text): "the text '\(text)'"
    case .concatenation(let parts): parts.map(expression).joined(separator: " & ")
    case .firstPresent(let parts): "first of " + parts.map(expression).joined(separator: ", ")
    case .sum(let path): "sum of \(path.text)"
    case .changed(let part, let change):
      expression(part) + (change.stripsLeadingZeros ? " without leading zeros" : "")
        + (change.table.map(words) ?? "") + (change.width > 0 ? ", with zeros to \(change.width) characters" : "")
    }
  }

  // MARK: - Sources

  /// The format, and how rows are written.
  static func format(_ mapping: MappingSpecification) -> String {
    guard mapping.format == .csv else { return mapping.format.rawValue }
    let csv = mapping.csv
    func sign(_ byte: UInt8) -> String { byte == 0x09 ? "a tab" : "'\(Character(Unicode.Scalar(byte)))'" }
    var text = "csv, columns between \(sign(csv.delimiter)), "
    text += csv.quote.map { "in quotes \(sign($0))" } ?? "no quotes"
    text += ", \(csv.encoding.rawValue), "
    let names =
      switch (csv.hasHeader, csv.columns.isEmpty) {
      case (true, true): "the first line names the columns"
      case (true, false): "the first line of a file names the columns, of a topic the configuration"
      case (false, true): "columns by number"
      case (false, false): "no header, the configuration names the columns"
      }
    return text + names + (csv.isRagged ? ", rows may be shorter" : "")
  }

  /// Which records are taken in; empty where all are.
  static func filter(_ mapping: MappingSpecification) -> String {
    guard !mapping.filters.isEmpty else { return "" }
    let conditions = mapping.filters.map { filter in
      "\(expression(filter.value)) is \(filter.negated ? "not " : "")"
        + filter.oneOf.map { "'\($0)'" }.joined(separator: filter.negated ? " and not " : " or ")
    }
    return "where \(conditions.joined(separator: ", and ")); others are skipped"
  }

  /// The order events that records of a source can tell; nil where the mapping leaves that to them, and in the ledger.
  static func events(_ source: SourceSettings) -> [OrderEventKind]? {
    guard source.mapping.kind == .orders, let texts = source.mapping.fields[OrderField.event.rawValue]?.texts else {
      return nil
    }
    return OrderEventKind.allCases.filter { texts.contains($0.name) }
  }

  // MARK: - Lineage

  /// Where a field's value shows or what it decides, by output.
  /// - Parameters:
  ///   - events: Those that the records of its source can tell; nil for all.
  ///   - source: Its number, by which it may have policies of its own; nil where it stands for all.
  static func outputs(
    _ field: String, _ kind: SourceKind, _ configuration: Configuration, of source: Int? = nil,
    events: [OrderEventKind]? = nil
  ) -> [String] {
    let events = events ?? OrderEventKind.allCases
    var outputs = breakOutputs(field, kind, configuration, of: source, events)
    if configuration.aggregates != nil {
      let uses = revenueUses(field, kind, configuration, events)
      if !uses.isEmpty { outputs.append("revenue: " + uses.joined(separator: ", ")) }
      if configuration.variance != nil, !uses.isEmpty {
        let slices = configuration.dimensions.contains(field) && !configuration.variance!.by.contains(field)
        if !slices { outputs.append("variance: actual") }
      }
    }
    if configuration.quality != nil {
      let uses = qualityUses(field, kind)
      if !uses.isEmpty { outputs.append("quality: " + uses) }
    }
    let uses = flowUses(field, kind, configuration)
    if !uses.isEmpty { outputs.append("cashflow, receivables: " + uses.joined(separator: ", ")) }
    return outputs
  }

  /// What of the messages of revenue a field decides: of an amount those measures to which an event adds it.
  private static func revenueUses(
    _ field: String, _ kind: SourceKind, _ configuration: Configuration, _ events: [OrderEventKind]
  ) -> [String] {
    if let at = configuration.dimensions.firstIndex(of: field) {
      guard configuration.aggregates!.inheritedDimensions(of: at + 1) & 1 << UInt8(at) != 0 else {
        return ["dimensions.\(field)"]
      }
      return [
        kind == .orders
          ? "dimensions.\(field), also of postings that carry none" : "dimensions.\(field), else that of the order"
      ]
    }
    if kind == .orders, let component = AmountComponent.allCases.first(where: { $0.name == field }) {
      return OrderFlow.flows(of: component, in: events).map(\.words)
    }
    switch (field, kind) {
    case ("amount", .ledger), ("role", .ledger): return ["what is posted"]
    case ("event", .orders): return ["what an event adds to"]
    case ("currency", _): return ["currency"]
    case ("event_time", _), ("document_date", .orders), ("posting_date", .ledger), ("period", .ledger):
      return ["period"]
    case ("base_amount", .ledger): return configuration.policy.checks?.exchange == nil ? [] : ["base view"]
    case ("service_start", .orders), ("service_end", .orders), ("service_periods", .orders):
      return configuration.policy.checks?.schedules == nil ? [] : ["releases due"]
    case ("quantity", _): return configuration.aggregates!.countsQuantities ? ["quantities"] : []
    default: return []
    }
  }

  private static func qualityUses(_ field: String, _ kind: SourceKind) -> String {
    switch field {
    case "order": "matched, orders_closed, orders_tied_out"
    case "event_id", "line_id": "duplicates, superseded"
    case "event_time": "period, late, time_to_match_ms, freshness_lag_ms"
    case "currency", "amount": "amounts"
    default: kind == .orders && AmountComponent.allCases.contains { $0.name == field } ? "amounts" : ""
    }
  }

  private static func flowUses(_ field: String, _ kind: SourceKind, _ configuration: Configuration) -> [String] {
    guard let flows = configuration.flows else { return [] }
    var uses: [String] = []
    switch (field, kind) {
    case ("amount", .ledger): uses = ["open", "expected cash", "actual cash"]
    case ("posting_date", .ledger), ("document_date", .orders): uses = ["due date", "ageing", "actual cash"]
    case ("due_date", _), ("terms", _): return ["due date", "ageing", "expected cash"]
    case ("document", _), ("journal", .ledger), ("reverses", .ledger): uses = ["what settles what"]
    case ("customer", _): uses = ["expected cash"] + (flows.by.contains(field) ? ["dimensions.customer"] : [])
    default: break
    }
    if field == flows.segment { uses.append("expected cash") }
    if configuration.dimensions.contains(field), flows.by.contains(field) { uses.append("dimensions.\(field)") }
    return uses
  }

  // MARK: - Master data

  /// File or topic of a table, the calendar, the rates or the budget.
  static func origin(_ name: String, _ configuration: Configuration) -> String {
    let file: String?
    let topic: String?
    switch name {
    case "budget":
      (file, topic) = (configuration.variance?.budgetPath, configuration.variance?.budgetTopic)
    case "calendar", "fx", "posting_policies":
      let kind: TableSource.Kind = name == "fx" ? .rates : name == "calendar" ? .calendar : .policies
      let source = configuration.tableSources.first { $0.kind == kind }
      (file, topic) = (source?.path, source?.topic)
    default:
      let source = configuration.tableSources.first { $0.kind == .values && $0.name == name }
      (file, topic) = (source?.path, source?.topic)
    }
    if let topic { return "topic \(topic)" }
    let last = file?.split(separator: "/").last.map(String.init) ?? ""
    return last.isEmpty ? "the configuration" : "file \(last)"
  }

  /// The fields that a table translates, or what the calendar, the rates and the budget decide.
  static func uses(_ name: String, _ configuration: Configuration) -> [String] {
    switch name {
    case "calendar": return ["accounting periods of breaks, revenue and variance"]
    case "fx": return ["base currency: FX_DIFFERENCE, FX_RATE_MISSING, the base view of revenue"]
    case "posting_policies":
      return [
        "what order events must put into the ledger: breaks, control totals"
          + (configuration.quality == nil ? "" : ", quality")
          + (configuration.aggregates == nil || configuration.policy.checks?.schedules == nil
            ? "" : ", revenue: releases_due of the schedules")
      ]
    case "budget": return ["variance: budget"]
    default: break
    }
    var uses: [String] = []
    for source in configuration.sources {
      func isUsed(_ field: FieldMapping?) -> Bool { field?.tables.contains { $0.name == name } ?? false }
      var fields = source.mapping.fields.filter { isUsed($0.value) }.map(\.key).sorted()
      for (at, field) in source.mapping.dimensions.enumerated() where isUsed(field) {
        fields.append(configuration.dimensions[at])
      }
      let flow = configuration.flows?.sources[source.name]
      if isUsed(flow?.dueDate) { fields.append("due_date") }
      if isUsed(flow?.terms) { fields.append("terms") }
      uses += fields.map { "\($0) of \(source.name)" }
    }
    return uses
  }

  private static func breakOutputs(
    _ field: String, _ kind: SourceKind, _ configuration: Configuration, of source: Int?, _ events: [OrderEventKind]
  ) -> [String] {
    if let component = AmountComponent.allCases.first(where: { $0.name == field }), kind == .orders {
      var uses: [String] = []
      for event in events {
        for (from_d, entry) in configuration.policy.entries(of: event, source: source)
        where entry.component == component {
          let since = from_d.map { " from \(formatDate($0))" } ?? ""
          uses.append("\(event.name) → \(entry.sign > 0 ? "+" : "−")\(entry.role.name)\(since)")
        }
      }
      return [
        uses.isEmpty
          ? "breaks: nothing, as no event of this source puts it into a role"
          : "breaks: expected of " + uses.joined(separator: ", ")
      ]
    }
    switch field {
    case "order": return ["breaks: id, order"]
    case "event_id": return ["breaks: evidence.events"]
    case "journal": return ["breaks: evidence.journals"]
    case "event": return ["breaks: what is expected"]
    case "event_time": return ["breaks: first_event_time, deadline, as_of"]
    case "document_date", "posting_date", "period": return ["breaks: CUTOFF, LATE_POSTING, EARLY_POSTING"]
    case "document": return ["breaks: DUPLICATE_POSTING, what belongs together"]
    case "customer": return ["breaks: customer, WRONG_CUSTOMER"]
    case "currency": return ["breaks: currency"]
    case "line_count": return ["breaks: ROUNDING"]
    case "service_start", "service_end", "service_periods":
      return configuration.policy.checks?.schedules == nil ? [] : ["breaks: REVENUE_SCHEDULE_GAP"]
    case "base_amount": return ["breaks: FX_DIFFERENCE"]
    case "quantity":
      var uses = configuration.policy.quantities.isEnabled ? ["evidence.quantities"] : []
      if [.orders, .ledger].allSatisfy({ kind in
        configuration.sources.contains { $0.mapping.kind == kind && $0.mapping.fields[field] != nil }
      }) {
        uses.append("PRICE_MISMATCH, QUANTITY_MISMATCH")
      }
      return uses.isEmpty ? [] : ["breaks: " + uses.joined(separator: ", ")]
    case "line" where !configuration.dimensions.contains(field):
      return ["breaks: PRICE_MISMATCH, QUANTITY_MISMATCH, evidence.lines"]
    case "reverses", "reversal": return ["breaks: ORPHAN_REVERSAL"]
    case "role": return ["breaks: role"]
    case "amount": return ["breaks: posted"]
    case "line_id", "account": return []
    default: return configuration.dimensions.contains(field) ? ["breaks: dimensions.\(field)"] : []
    }
  }
}
