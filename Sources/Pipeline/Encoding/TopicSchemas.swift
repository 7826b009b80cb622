import Domain

/// JSON Schemas of the output topics (draft 2020-12).
public enum TopicSchemas {
  private static func list(_ values: [String]) -> String { values.map { "\"\($0)\"" }.joined(separator: ", ") }
  private static let amount = #"{ "type": "string", "pattern": "^-?[0-9]+(\\.[0-9]+)?$" }"#
  private static let optionalAmount = #"{ "type": ["string", "null"], "pattern": "^-?[0-9]+(\\.[0-9]+)?$" }"#
  private static let currency = #"{ "type": "string", "pattern": "^([A-Z]{3})?$" }"#
  private static let time = #"{ "type": ["string", "null"], "format": "date-time" }"#
  private static let texts = #"{ "type": "array", "items": { "type": "string" } }"#

  public static var breaks: String {
    """
    {
      "$schema": "https://json-schema.org/draft/2020-12/schema",
      "title": "Break",
      "description": "One revision of a break. Amounts are decimal strings, signed debit − credit. Upsert by id.",
      "type": "object",
      "required": [
        "id", "order", "type", "role", "currency", "expected", "posted", "delta", "state", "provisional", "revision",
        "hints", "severity", "customer", "dimensions", "first_event_time", "deadline", "as_of", "reason", "evidence"
      ],
      "properties": {
        "id": { "type": "string", "description": "ORDER:TYPE:role, with :CUR behind it for a second currency" },
        "order": { "type": "string" },
        "type": { "enum": [\(list(BreakType.allCases.map(\.rawValue)))] },
        "role": { "enum": [\(list(AccountRole.allCases.map(\.name)))] },
        "currency": \(currency),
        "expected": \(optionalAmount),
        "posted": \(optionalAmount),
        "delta": \(optionalAmount),
        "posted_currency": \(currency),
        "state": { "enum": [\(list(BreakState.allCases.map(\.rawValue)))] },
        "provisional": { "type": "boolean" },
        "revision": { "type": "integer", "minimum": 1 },
        "hints": { "type": "array", "items": { "enum": [\(list(BreakHint.allCases.map(\.rawValue)))] } },
        "severity": { "enum": [\(list(Severity.allCases.map(\.rawValue)))] },
        "customer": { "type": "string" },
        "dimensions": { "type": "object", "additionalProperties": { "type": "string" } },
        "first_event_time": \(time),
        "deadline": \(time),
        "as_of": \(time),
        "reason": { "type": "string" },
        "evidence": {
          "type": "object",
          "required": ["roles", "events", "journals"],
          "properties": {
            "roles": {
              "type": "array",
              "items": {
                "type": "object",
                "required": ["role", "currency", "expected", "posted", "delta"],
                "properties": {
                  "role": { "enum": [\(list(AccountRole.allCases.map(\.name)))] },
                  "currency": \(currency),
                  "expected": \(amount),
                  "posted": \(amount),
                  "delta": \(amount)
                }
              }
            },
            "events": \(texts),
            "journals": \(texts),
            "quantities": {
              "type": "object",
              "properties": { "delivered": \(amount), "shipped": \(amount), "billed": \(amount) }
            }
          }
        }
      }
    }

    """
  }

  public static var deadLetters: String {
    """
    {
      "$schema": "https://json-schema.org/draft/2020-12/schema",
      "title": "Dead letter",
      "description": "A record that could not be taken in, with its place, the reason and its bytes.",
      "type": "object",
      "required": ["source", "reason", "field", "detail", "payload_bytes"],
      "properties": {
        "source": { "type": "string" },
        "topic": { "type": "string" },
        "partition": { "type": "integer" },
        "offset": { "type": "integer" },
        "file": { "type": "string" },
        "line": { "type": "integer", "minimum": 1 },
        "key": { "type": ["string", "null"] },
        "key_base64": { "type": "string" },
        "reason": { "enum": [\(list(DataFaultReason.allCases.map(\.rawValue)))] },
        "field": { "type": "string" },
        "detail": { "type": "string" },
        "received_at": \(time),
        "payload": { "type": ["string", "null"] },
        "payload_base64": { "type": "string" },
        "payload_bytes": { "type": "integer", "minimum": 0 }
      }
    }

    """
  }
}
