import ConsoleStore
import Domain
import Pipeline

/// JSON Schemas of what the API takes and gives, by name; parts of the OpenAPI description.
enum Schemas {
  static func reference(_ name: String) -> JSON { ["$ref": .string("#/components/schemas/\(name)")] }
  static func list(of item: JSON) -> JSON { ["type": "array", "items": item] }
  static func words(_ values: [String]) -> JSON { ["type": "string", "enum": .array(values.map { .string($0) })] }
  static let text: JSON = ["type": "string"]
  static let optionalText: JSON = ["type": ["string", "null"]]
  static let integer: JSON = ["type": "integer"]
  static let flag: JSON = ["type": "boolean"]
  static let amount: JSON = ["type": "string", "pattern": "^-?[0-9]+(\\.[0-9]+)?$"]
  static let optionalAmount: JSON = ["type": ["string", "null"], "pattern": "^-?[0-9]+(\\.[0-9]+)?$"]
  static let time: JSON = ["type": "string", "format": "date-time"]
  static let optionalTime: JSON = ["type": ["string", "null"], "format": "date-time"]

  static func object(_ properties: [(String, JSON)], optional: Set<String> = [], open: Bool = false) -> JSON {
    .object([
      ("type", "object"),
      ("required", .array(properties.map(\.0).filter { !optional.contains($0) }.map { .string($0) })),
      ("properties", .object(properties)), ("additionalProperties", .bool(open)),
    ])
  }

  static let states = BreakState.allCases.map(\.rawValue)
  static let types = BreakType.allCases.map(\.rawValue)
  static let severities = Severity.allCases.map(\.rawValue)
  static let roles = AccountRole.allCases.map(\.name)

  /// All of them, in the order of the description.
  static let all: [(String, JSON)] = [
    (
      "Problem",
      object(
        [
          ("type", text), ("title", text), ("status", integer), ("code", text), ("detail", text),
          ("errors", list(of: reference("RecordError"))),
        ], optional: ["errors"])
    ),
    (
      "Break",
      object(
        [
          ("id", text), ("order", text), ("type", text), ("role", text), ("currency", text),
          ("expected", optionalAmount), ("posted", optionalAmount), ("delta", optionalAmount),
          ("affected", amount), ("posted_currency", text), ("state", words(states)),
          ("reconciler_state", words(states)),
          ("provisional", flag), ("revision", integer), ("hints", list(of: text)), ("severity", words(severities)),
          ("customer", text), ("dimensions", ["type": "object", "additionalProperties": text]),
          ("first_event_time", optionalTime), ("deadline", optionalTime), ("as_of", optionalTime), ("reason", text),
          ("assignee", optionalText), ("reason_code", optionalText), ("proposed_write_off", optionalText),
          ("pending_approval", flag), ("comments", integer), ("updated_at", time),
        ], optional: ["affected", "posted_currency"])
    ),
    ("BreakPage", object([("items", list(of: reference("Break"))), ("next", optionalText)])),
    (
      "Revision",
      object([
        ("revision", integer), ("state", text), ("provisional", flag), ("severity", text), ("expected", optionalAmount),
        ("posted", optionalAmount), ("delta", optionalAmount), ("reason", text), ("as_of", optionalTime), ("at", time),
      ])
    ),
    (
      "Action",
      object(
        [
          ("id", text), ("kind", words(ActionKind.allCases.map(\.rawValue))), ("break", text), ("order", text),
          ("actor", text), ("at", time), ("revision", integer), ("basis", text), ("needs_approval", flag),
          ("assignee", text), ("comment", text), ("reason_code", text), ("of", text), ("bulk", text), ("audit", text),
          ("currency", text), ("lines", list(of: object([("role", text), ("amount", amount)]))),
        ], optional: ["assignee", "comment", "reason_code", "of", "bulk", "audit", "currency", "lines"])
    ),
    (
      "BreakDetail",
      object([
        ("break", reference("Break")),
        ("message", ["type": "object", "description": "The newest message of the topic."]),
        ("history", list(of: reference("Revision"))), ("actions", list(of: reference("Action"))),
        ("pending", list(of: text)),
      ])
    ),
    (
      "RoleExplanation",
      object([
        ("role", text), ("currency", text), ("expected", amount), ("posted", amount), ("delta", amount),
        ("status", words(["ties", "not_posted", "not_expected", "differs"])),
      ])
    ),
    (
      "OrderExplanation",
      object([
        ("order", text), ("customer", text), ("dimensions", ["type": "object", "additionalProperties": text]),
        ("as_of", optionalTime), ("is_tied_out", flag), ("roles", list(of: reference("RoleExplanation"))),
        ("missing", list(of: text)), ("events", list(of: text)), ("journals", list(of: text)),
        ("breaks", list(of: reference("BreakDetail"))), ("records", list(of: reference("SourceRecord"))),
      ])
    ),
    (
      "SourceRecord",
      object([
        ("source", text), ("kind", words(["orders", "ledger"])), ("topic", text), ("partition", integer),
        ("offset", integer), ("at", time), ("text", text),
      ])
    ),
    (
      "Summary",
      object([
        ("at", time), ("open", integer),
        (
          "rows",
          list(
            of: object([
              ("type", text), ("state", text), ("severity", text), ("currency", text), ("age", words(AgeBucket.names)),
              ("count", integer), ("amount", amount),
            ]))
        ),
      ])
    ),
    (
      "ActionRequest",
      object(
        [
          ("kind", words(ActionKind.allCases.map(\.rawValue))), ("assignee", optionalText), ("comment", optionalText),
          ("reason_code", optionalText), ("of", optionalText),
          ("revision", ["type": ["integer", "null"], "description": "Refuse where the break has another revision."]),
        ], optional: ["assignee", "comment", "reason_code", "of", "revision"])
    ),
    (
      "BulkActionRequest",
      object(
        [
          ("breaks", ["type": "array", "items": text, "minItems": 1, "maxItems": 1000]),
          ("kind", words(ActionKind.allCases.filter { ![.approve, .reject].contains($0) }.map(\.rawValue))),
          ("assignee", optionalText), ("comment", optionalText), ("reason_code", optionalText),
        ], optional: ["assignee", "comment", "reason_code"])
    ),
    (
      "ActionResult",
      object([
        (
          "actions",
          list(
            of: object([
              ("id", text), ("break", text), ("kind", text), ("status", words(["done", "pending_approval"])),
            ]))
        ),
        ("errors", list(of: object([("break", text), ("code", text), ("detail", text)]))),
        ("applied", ["type": "boolean", "description": "Whether this server shows the actions already."]),
      ])
    ),
    (
      "Cell",
      object([("cell", text), ("at", time), ("value", ["type": "object", "additionalProperties": true])])
    ),
    ("CellPage", object([("topic", text), ("items", list(of: reference("Cell"))), ("next", optionalText)])),
    ("Series", object([("topic", text), ("cell", text), ("points", list(of: reference("Cell")))])),
    (
      "Aggregates",
      object([("items", list(of: object([("name", text), ("topic", text), ("is_present", flag)])))])
    ),
    (
      "Sources",
      object([
        (
          "items",
          list(
            of: object([
              ("name", text), ("kind", words(["orders", "ledger"])), ("topic", text), ("format", text),
              ("routed", flag), ("accepts_intake", flag), ("dead_letters", ["type": ["integer", "null"]]),
            ]))
        )
      ])
    ),
    (
      "Catalogue",
      object([
        ("dimensions", list(of: text)), ("reason_codes", list(of: text)),
        ("break_types", list(of: object([("type", text), ("raised_when", text)]))),
        (
          "sources",
          list(
            of: object([
              ("source", text), ("kind", text),
              (
                "fields",
                list(
                  of: object([
                    ("canonical", text), ("from", text), ("table", optionalText), ("default", optionalText),
                  ]))
              ),
            ]))
        ),
      ])
    ),
    (
      "DeadLetterPage",
      object([
        ("items", list(of: ["type": "object", "additionalProperties": true])), ("next", optionalText),
      ])
    ),
    (
      "RecordError",
      object(
        [
          (
            "index",
            ["type": "integer", "description": "Of the record in the request, from 0; of the line in a stream."]
          ),
          ("reason", text), ("field", text), ("detail", text),
        ])
    ),
    (
      "IntakeResult",
      object([
        ("source", text), ("accepted", integer),
        (
          "waiting",
          [
            "type": "integer",
            "description":
              "Of those accepted: they name what a table does not know yet, and the reconciler waits for it.",
          ]
        ), ("skipped", integer), ("rejected", integer),
        ("errors", list(of: reference("RecordError"))),
        ("replayed", ["type": "boolean", "description": "The answer to an earlier request with the same key."]),
      ])
    ),
    (
      "Session",
      object([
        ("principal", text), ("roles", list(of: text)),
        ("scope", ["type": "object", "additionalProperties": list(of: text)]), ("csrf", optionalText),
      ])
    ),
    (
      "Status",
      object([
        ("version", text), ("generation", text), ("is_ready", flag), ("lag", integer), ("records", integer),
        ("faults", integer), ("sequence", integer), ("applied_at", optionalTime), ("missing_topics", list(of: text)),
        ("trouble", optionalText), ("started_at", time),
      ])
    ),
    (
      "Deliveries",
      object([
        (
          "items",
          list(
            of: object([
              ("id", integer), ("webhook", text), ("break", text), ("revision", integer), ("attempts", integer),
              ("status", words(["waiting", "dead"])), ("last_error", optionalText), ("next_at", optionalTime),
            ]))
        )
      ])
    ),
    (
      "Audit",
      object([
        ("number", integer), ("hash", text), ("items", list(of: ["type": "object", "additionalProperties": true])),
      ])
    ),
    ("Health", object([("status", words(["ok", "starting"])), ("reason", optionalText)], optional: ["reason"])),
  ]
}
