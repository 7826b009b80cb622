import Domain

@testable import Pipeline

/// The plain way to write a break: what `BreakEncoder` is held against, byte by byte.
struct PlainBreakEncoder {
  let dimensionNames: [String]
  var task: Int32?
  private var writer = JSONWriter()

  init(dimensionNames: [String]) { self.dimensionNames = dimensionNames }

  /// One JSON object without a line end.
  mutating func encode(_ made: Break) -> [UInt8] {
    writer.removeAll()
    writer.beginObject()
    write("id", made.id)
    write("order", made.order)
    write("type", made.type.rawValue)
    write("role", made.role.name)
    write("currency", made.currency.code)
    writer.key("expected")
    writer.amount(made.expected, made.currency)
    let postedCurrency = made.postedCurrency == .none ? made.currency : made.postedCurrency
    writer.key("posted")
    writer.amount(made.posted, postedCurrency)
    writer.key("delta")
    // A difference between two currencies is no amount.
    if made.postedCurrency == .none { writer.amount(Int128(made.delta), made.currency) } else { writer.null() }
    if made.postedCurrency != .none { write("posted_currency", made.postedCurrency.code) }
    if let affected = made.affected {
      writer.key("affected")
      writer.amount(Int128(affected), made.currency)
    }
    write("state", made.state.rawValue)
    writer.key("provisional")
    writer.bool(made.isProvisional)
    writer.key("revision")
    writer.integer(made.revision)
    writer.key("hints")
    strings(made.hints.map(\.rawValue))
    write("severity", made.severity.rawValue)
    write("customer", made.customer)
    writer.key("dimensions")
    writer.beginObject()
    for (name, value) in zip(dimensionNames, made.dimensions) { write(name, value) }
    writer.endObject()
    writer.key("first_event_time")
    writer.timestamp(made.firstEventTime_ms)
    writer.key("deadline")
    writer.timestamp(made.deadline_ms)
    writer.key("as_of")
    writer.timestamp(made.asOf_ms)
    write("reason", made.reason)
    if let decision = made.decision {
      writer.key("decision")
      writer.beginObject()
      write("action", decision.action)
      write("actor", decision.actor)
      if !decision.reasonCode.isEmpty { write("reason_code", decision.reasonCode) }
      if !decision.approver.isEmpty { write("approver", decision.approver) }
      writer.endObject()
    }
    if let task {
      writer.key("task")
      writer.integer(Int(task))
    }
    writer.key("evidence")
    writer.beginObject()
    writer.key("roles")
    writer.beginArray()
    for evidence in made.roles {
      writer.beginObject()
      write("role", evidence.role.name)
      write("currency", evidence.currency.code)
      writer.key("expected")
      writer.amount(Int128(evidence.expected), evidence.currency)
      writer.key("posted")
      writer.amount(Int128(evidence.posted), evidence.currency)
      writer.key("delta")
      writer.amount(Int128(evidence.delta), evidence.currency)
      if let affected = evidence.affected {
        writer.key("affected")
        writer.amount(Int128(affected), evidence.currency)
      }
      writer.endObject()
    }
    writer.endArray()
    writer.key("events")
    strings(made.events)
    writer.key("journals")
    strings(made.journals)
    if let quantities = made.quantities, quantities.count == 3 {
      writer.key("quantities")
      writer.beginObject()
      for (name, value) in zip(["delivered", "shipped", "billed"], quantities) {
        write(name, formatDecimal(Int128(value), decimals: 6))
      }
      writer.endObject()
    }
    writer.endObject()
    writer.endObject()
    return writer.bytes
  }

  private mutating func write(_ key: String, _ value: String) {
    writer.key(key)
    writer.string(value)
  }

  private mutating func strings(_ values: [String]) {
    writer.beginArray()
    for value in values { writer.string(value) }
    writer.endArray()
  }
}
