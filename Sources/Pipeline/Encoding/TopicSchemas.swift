import Domain

/// The contracts of the output topics.
public enum TopicSchemas {
  private static func names<Word: CaseIterable & RawRepresentable<String>>(_: Word.Type) -> [String] {
    Word.allCases.map(\.rawValue)
  }
  private static let roles = AccountRole.allCases.map(\.name)

  public static let all: [TopicSchema] = [
    breakSchema, deadLetterSchema, totalSchema, revenue, cashflow, receivables, variance, quality,
  ]

  /// What people decide, by way of `tieout serve`: in JSON alone.
  public static let decided: [TopicSchema] = [action, proposal]

  public static let action = TopicSchema(
    name: "action", title: "Action",
    description: "What a person does to a break. An event: nothing is overwritten. Absent fields are left out.",
    fields: [
      SchemaField("id", .string, "The same for every repetition of one request: it takes effect once."),
      SchemaField("kind", .enumeration(names(ActionKind.self)), "What is done."),
      SchemaField("break", .string, "Id of the break."),
      SchemaField("order", .string, "Order key; the key of the record."),
      SchemaField("actor", .string, "Who did it."),
      SchemaField("at", .text(format: "date-time"), "When the server took it."),
      SchemaField("revision", .integer(minimum: 0), "Of the break, as the person saw it."),
      SchemaField("basis", .string, "The break's amounts, as the person saw them."),
      SchemaField("needs_approval", .boolean(), "It takes effect when a second person approves it."),
      SchemaField("assignee", .string, "To whom the break is given; absent for nobody.", required: false),
      SchemaField("comment", .string, "", required: false),
      SchemaField("reason_code", .string, "Why, as one of the configured codes.", required: false),
      SchemaField("of", .string, "The action that is approved or rejected.", required: false),
      SchemaField("bulk", .string, "The request that it was part of, where one named several breaks.", required: false),
      SchemaField("audit", .string, "Number and hash of the audit log's entry.", required: false),
      SchemaField("currency", .currency, "Of the lines.", required: false),
      SchemaField("lines", journal, "The journal that a write-off asks for.", required: false),
    ])

  private static let journal = SchemaType.list(
    .object([
      SchemaField("role", .enumeration(roles), "Account role."), SchemaField("amount", .decimal, "Of the line."),
    ]))

  public static let proposal = TopicSchema(
    name: "proposal", title: "Proposal",
    description:
      "A journal that writes a difference off, for the ledger to post; its posting settles the break where the daemon reads "
      + "the actions (`actions.enabled`). Amounts are decimal strings, signed debit − credit; the lines sum to zero. Upsert by id.",
    fields: [
      SchemaField("id", .string, "Of the action."),
      SchemaField("order", .string, "Order key."),
      SchemaField("break", .string, "Id of the break."),
      SchemaField("currency", .currency, "Of the amounts."),
      SchemaField("proposed_by", .string, "Who wants it written off."),
      SchemaField("proposed_at", .text(format: "date-time"), "When."),
      SchemaField("approved_by", .text(nullable: true), "Who agreed; null where nobody had to."),
      SchemaField("reason_code", .text(nullable: true), "Why, where a code was given."),
      SchemaField("comment", .text(nullable: true), ""),
      SchemaField("lines", journal, "Two: out of the balance in which the difference is open, and into write_off."),
    ])

  public static var breaks: String { breakSchema.json }
  public static var deadLetters: String { deadLetterSchema.json }

  static let breakSchema = TopicSchema(
    name: "break", title: "Break",
    description: "One revision of a break. Amounts are decimal strings, signed debit − credit. Upsert by id.",
    fields: [
      SchemaField(
        "id", .string,
        "ORDER:TYPE:role, with :CUR behind it for a second currency, or := and 16 hexadecimal digits for a value that only "
          + "one record may have"),
      SchemaField("order", .string, "Order key."),
      SchemaField("type", .enumeration(names(BreakType.self)), "What kind of disagreement it is."),
      SchemaField("role", .enumeration(roles), "Account role."),
      SchemaField("currency", .currency, "Of the amounts."),
      SchemaField("expected", .optionalDecimal, "What the orders say; null where they know nothing at all."),
      SchemaField("posted", .optionalDecimal, "What the ledger holds; null where it knows nothing at all."),
      SchemaField("delta", .optionalDecimal, "Posted − expected; null between two currencies."),
      SchemaField("posted_currency", .currency, "Of `posted`, where it is another one.", required: false),
      SchemaField(
        "affected", .decimal,
        "How much of the role it is about: what it explains of the difference, or what is posted at the wrong time. Not "
          + "there where it is about no amount, or no longer found.", required: false),
      SchemaField("state", .enumeration(names(BreakState.self)), "Where it stands in its life."),
      SchemaField(
        "provisional", .boolean(),
        "True until window and grace have passed for a part of the order, from where on that part and the documents which postings "
          + "name are judged for good; at the latest until the deadline has passed."),
      SchemaField("revision", .integer(minimum: 1), "Rises by one with each change."),
      SchemaField("hints", .list(.enumeration(names(BreakHint.self))), "What the difference looks like."),
      SchemaField("severity", .enumeration(names(Severity.self)), "By amount, and by age where that is configured."),
      SchemaField("customer", .string, "Empty where unknown."),
      SchemaField("dimensions", .map(.string), "Configured dimension to value."),
      SchemaField("first_event_time", .time, "Of the tie."),
      SchemaField(
        "deadline", .time,
        "When all of the tie is final: its latest event time + window + grace. What is overdue before is final before."),
      SchemaField("as_of", .time, "The watermark when this revision was made."),
      SchemaField("reason", .string, "One sentence for a person."),
      SchemaField(
        "decision",
        .object([
          SchemaField("action", .string, "Id of the action."), SchemaField("actor", .string, "Who decided."),
          SchemaField("reason_code", .string, "Why, where a code was given.", required: false),
          SchemaField("approver", .string, "Who agreed, where a second person had to.", required: false),
        ]), "The person's decision that the state rests on, where it does.", required: false),
      SchemaField(
        "task", .integer(minimum: 0), "The task that takes actions on it, where they are read.", required: false),
      SchemaField(
        "evidence",
        .object([
          SchemaField(
            "roles",
            .list(
              .object([
                SchemaField("role", .enumeration(roles)), SchemaField("currency", .currency),
                SchemaField("expected", .decimal), SchemaField("posted", .decimal), SchemaField("delta", .decimal),
                SchemaField(
                  "affected", .decimal, "How much of `delta` this break explains, where that is not all of it.",
                  required: false),
              ])), "Expected and posted of every role of the tie."),
          SchemaField("events", .list(.string), "Ids of order events, at most \(maximumEvidenceIDs)."),
          SchemaField("journals", .list(.string), "Ids of ledger documents, at most \(maximumEvidenceIDs)."),
          SchemaField(
            "quantities",
            .object([
              SchemaField("delivered", .decimal), SchemaField("shipped", .decimal), SchemaField("billed", .decimal),
            ]), "For the quantity types.", required: false),
          SchemaField(
            "lines",
            .list(
              .object([
                SchemaField("document", .string, "Empty where the order is compared as a whole."),
                SchemaField("line", .string), SchemaField("expected_quantity", .decimal),
                SchemaField("posted_quantity", .decimal),
                SchemaField("expected_price", .optionalDecimal, "Of one unit; null without a quantity."),
                SchemaField("posted_price", .optionalDecimal), SchemaField("expected", .decimal),
                SchemaField("posted", .decimal),
              ])),
            "Lines of documents whose price or quantity differs, the largest differences first, at most "
              + "\(maximumEvidenceLines).", required: false),
          SchemaField("line_count", .integer(minimum: 1), "As many lines differ.", required: false),
        ]), "What the judgement rests on."),
    ])

  static let deadLetterSchema = TopicSchema(
    name: "dead-letter", title: "Dead letter",
    description: "A record that could not be taken in, with its place, the reason and its bytes.",
    fields: [
      SchemaField("source", .string, "Name of the source."),
      SchemaField("topic", .string, "Where it stands.", required: false),
      SchemaField("partition", .integer(), required: false),
      SchemaField("offset", .integer(), required: false),
      SchemaField("file", .string, "Where it stands, of a file.", required: false),
      SchemaField("line", .integer(minimum: 1), required: false),
      SchemaField("key", .text(nullable: true), "Of the record, as text.", required: false),
      SchemaField("key_base64", .string, "The key where it is no UTF-8.", required: false),
      SchemaField("reason", .enumeration(names(DataFaultReason.self)), "Why."),
      SchemaField("field", .string, "The field at fault; empty where it is the record as a whole."),
      SchemaField("detail", .string, "What was wrong, for a person."),
      SchemaField("received_at", .time, required: false),
      SchemaField("payload", .text(nullable: true), "The record, as text.", required: false),
      SchemaField("payload_base64", .string, "The record where it is no UTF-8.", required: false),
      SchemaField("payload_bytes", .integer(minimum: 0), "As many it had; the payload may be cut."),
    ])

  static let totalSchema = TopicSchema(
    name: "total", title: "Total", description: "A number over all tasks. Upsert by cell.",
    fields: [
      SchemaField("cell", .string, "open_breaks:TYPE: open breaks of a type."),
      SchemaField("value", .integer(), "The number."),
      SchemaField("tasks", .integer(minimum: 0), "Tasks that hold a part of it."),
      SchemaField("revision", .integer(minimum: 0), "Rises with each change under the same key.", required: false),
      SchemaField(
        "as_of", .time,
        "Event time that all tasks had passed when the number was told. Absent before each has told, which they do where "
          + "aggregates, quality or rules of uniqueness are in use.", required: false),
    ])

  static let revenue = TopicSchema(
    name: "revenue", title: "Revenue",
    description: "Bookings, billings, revenue and balances of one cell of dimensions, currency and period. Amounts are "
      + "decimal strings, positive in the sense of their name. Upsert by key.",
    fields: FinanceFields.revenue.map(\.schema))

  static let cashflow = TopicSchema(
    name: "cashflow", title: "Cash flow",
    description: "Expected and actual cash of the next 13 weeks. Amounts are decimal strings. Upsert by key.",
    fields: FinanceFields.cashflow.map(\.schema))

  static let receivables = TopicSchema(
    name: "receivables", title: "Receivables",
    description: "Ageing and collection ratios at the end of a day. Amounts are decimal strings. Upsert by key.",
    fields: FinanceFields.receivables.map(\.schema))

  static let variance = TopicSchema(
    name: "variance", title: "Variance",
    description: "A measure against its budget. Amounts are decimal strings. Upsert by key.",
    fields: FinanceFields.variance.map(\.schema))

  static let quality = TopicSchema(
    name: "quality", title: "Quality",
    description: "How well a source ties out, month by month of event time. Upsert by key.",
    fields: FinanceFields.quality.map(\.schema))
}
