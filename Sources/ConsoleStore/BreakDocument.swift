import Domain
import Foundation
import Pipeline

/// A revision of a break as its topic tells it (`config/schemas/break.schema.json`), with what the store files it under.
public struct BreakDocument: Decodable, Sendable, Equatable {
  public var id: String
  public var order: String
  public var type: String
  public var role: String
  public var currency: String
  public var expected: String?
  public var posted: String?
  public var delta: String?
  public var affected: String?
  public var postedCurrency: String?
  public var state: String
  public var isProvisional: Bool
  public var revision: Int
  public var hints: [String]
  public var severity: String
  public var customer: String
  public var dimensions: [String: String]
  public var firstEventTime: String?
  public var deadline: String?
  public var asOf: String?
  public var reason: String
  public var evidence: Evidence
  /// The task that takes actions on it in, where one does: that partition of the actions' topic.
  public var task: Int32?

  /// The amounts and the ids behind the tie; the rest of the evidence stays in the message.
  public struct Evidence: Decodable, Sendable, Equatable {
    public var roles: [Role]?
    public var events: [String]?
    public var journals: [String]?
  }

  public struct Role: Decodable, Sendable, Equatable {
    public var role: String
    public var currency: String
    public var expected: String?
    public var delta: String
    /// What the break explains of the difference, where that is not all of it.
    public var affected: String?

    /// What the break explains of the difference.
    public var own: String { affected ?? delta }
  }

  enum CodingKeys: String, CodingKey {
    case id, order, type, role, currency, expected, posted, delta, affected, state, revision, hints, severity, customer
    case dimensions, deadline, reason, evidence, task
    case postedCurrency = "posted_currency"
    case isProvisional = "provisional"
    case firstEventTime = "first_event_time"
    case asOf = "as_of"
  }

  /// What a person's decision is about: another difference is another matter.
  public var basis: String { "\(expected ?? "")|\(posted ?? "")|\(postedCurrency ?? currency)" }

  /// The part of the difference that this break explains, without its sign, in millionths of the major unit, for sorting
  /// and filtering across currencies with other exponents: several breaks of an order add up to what is open in it. Nothing
  /// where the amounts are right; in the base currency the difference there; where the sides are in two currencies and
  /// nothing else is told, the larger one. Amounts beyond the range count as its end.
  public var amount_u: Int64 {
    func micros(_ text: String?) -> Int64 {
      text.map { Int64(clamping: BreakDocument.units($0, decimals: 6).magnitude) } ?? 0
    }
    if BreakType(rawValue: type)?.isAboutTime == true { return 0 }
    if let affected { return micros(affected) }
    if delta == nil { return max(micros(expected), micros(posted)) }
    return type == BreakType.fxDifference.rawValue ? micros(delta) : 0
  }

  /// A decimal text as an integer with so many decimals; beyond the range, its end.
  public static func units(_ text: String, decimals: Int) -> Int64 {
    var text = text
    return text.withUTF8 { bytes in
      guard let decimal = try? DecimalText(bytes) else { return 0 }
      do throws(DecimalFault) {
        return try decimal.units(decimals: decimals, rounding: .down)
      } catch { return error == .overflow ? .max : 0 }
    }
  }

  /// The words that a search finds the break by.
  public var keys: String {
    ([order, id, customer] + (evidence.events ?? []).prefix(8) + (evidence.journals ?? []).prefix(8))
      .joined(separator: " ")
  }

  /// Since when it has been there, for its age: the first event of its tie.
  public var opened_ms: Int64? { (firstEventTime ?? asOf).flatMap(parseTimestamp_ms) }

  static let severities = Severity.allCases.map(\.rawValue)
  var severityRank: Int { BreakDocument.severities.firstIndex(of: severity) ?? 0 }

  /// The break in a list: everything but its evidence, with its life among people.
  func summary(_ workflow: Workflow, state effective: String, updated_ms: Int64) -> String {
    var json = JSONWriter()
    func text(_ key: String, _ value: String?) {
      json.key(key)
      if let value { json.string(value) } else { json.null() }
    }
    json.beginObject()
    text("id", id)
    text("order", order)
    text("type", type)
    text("role", role)
    text("currency", currency)
    text("expected", expected)
    text("posted", posted)
    text("delta", delta)
    if let affected { text("affected", affected) }
    if let postedCurrency { text("posted_currency", postedCurrency) }
    text("state", effective)
    text("reconciler_state", state)
    json.key("provisional")
    json.bool(isProvisional)
    json.key("revision")
    json.integer(revision)
    json.key("hints")
    json.beginArray()
    for hint in hints { json.string(hint) }
    json.endArray()
    text("severity", severity)
    text("customer", customer)
    json.key("dimensions")
    json.beginObject()
    for (name, value) in dimensions.sorted(by: { $0.key < $1.key }) { text(name, value) }
    json.endObject()
    text("first_event_time", firstEventTime)
    text("deadline", deadline)
    text("as_of", asOf)
    text("reason", reason)
    text("assignee", workflow.assignee)
    text("reason_code", workflow.reasonCode)
    text("proposed_write_off", workflow.proposedBasis == basis ? workflow.proposed : nil)
    json.key("pending_approval")
    json.bool(!workflow.pending.isEmpty)
    json.key("comments")
    json.integer(workflow.comments)
    text("updated_at", formatTimestamp(updated_ms))
    json.endObject()
    return json.text
  }
}
