import Aggregates
import Decoding
import Domain

/// One key of the configuration file: drives the check for unknown keys and the generated reference.
public struct KeyReference: Sendable {
  /// Dotted path; `*` stands for a name that the file chooses.
  public var path: String
  public var type: String
  public var standard: String
  public var meaning: String

  init(_ path: String, _ type: String, _ standard: String, _ meaning: String) {
    self.path = path
    self.type = type
    self.standard = standard
    self.meaning = meaning
  }

  private static let field = "field"
  private static let classification = DataClassification.allCases.map(\.rawValue).joined(separator: ", ")

  /// The keys of a field, wherever one stands (`sources.*.fields.*`, `sources.*.amount`, `sources.*.dimensions.*`).
  public static let ofFields: [KeyReference] = [
    .init(
      "path", "text", "",
      "Where the value stands: `account.id`, `lines[0].sku`, a CSV column (its name, or its number from 1); a key with a dot or a bracket in it stands in quotes, `\"'a.b'.c\"`. `$key` is the record's key, the whole of it as one text. Of a Debezium record a column of the row; from the envelope with `$.`: `$.ts_ms`, `$.source.lsn`."
    ),
    .init("constant", "text", "", "This text, for every record."),
    .init(
      "concat", "list of paths or of parts", "",
      "The texts one after the other; a part is a map with one of `path`, `constant`, `concat`, `first`, and what stands here as `part.…`. Nothing where all paths lead to nothing. An `event_id`, a `line_id` or what a posting `reverses` is nothing where one of its parts is: put together of the rest it would be that of several records, which would count as one, or every posting would be a reversal. Without an id a record counts by its place."
    ),
    .init(
      "first", "list of paths or of parts", "",
      "The first that is there and not empty; of an amount or a quantity a part may be a `sum`."),
    .init(
      "part.values", "map of texts", "",
      "What the texts of a part of `concat` or `first` become before it is taken: `{first: [{path: type, values: {inv: invoiced}}, {constant: paid}]}`."
    ),
    .init("part.table", "name of a table", "", "As `part.values`, from `tables`."),
    .init(
      "part.unlisted", "reject, skip, keep, or {replace: text}", "that of the table, else reject", "For other texts."),
    .init(
      "part.strip_leading_zeros", "true, false", "false",
      "Before the table: `{concat: [BUKRS, {path: BELNR, strip_leading_zeros: true}]}`."),
    .init(
      "part.pad", "1–64", "",
      "Last of all: zeros before it up to so many characters. `{concat: [GJAHR, {path: MONAT, pad: 2}]}` is the period 202601 where the columns have `2026` and `1`. What is absent stays so."
    ),
    .init(
      "sum", "path of lines", "",
      "Of an amount or a quantity (json and debezium): what a field of nested lines adds up to, `{sum: 'refund_line_items[].total_tax'}`; the path is that of the record, with one array. A line without it adds nothing, an empty list is 0, and without the list the field is absent. `{first: [total_tax, {sum: 'refund_line_items[].total_tax'}]}` is one or the other. `decimal` says how the lines are written; implied decimals, rounding and `negate` are for the sum."
    ),
    .init("values", "map of texts", "", "What each literal text becomes."),
    .init("table", "name of a table", "", "As `values`, from `tables`."),
    .init("unlisted", "reject, skip, keep, or {replace: text}", "that of the table, else reject", "For other texts."),
    .init(
      "format", "rfc3339, epoch_s, epoch_ms, epoch_us, epoch_ns, epoch_days, yyyymmdd, auto, or a pattern", "auto",
      "How a date or time is written; patterns of `yyyy yy MM M MMM dd d HH H hh h mm ss SSS a`, other text in quotes."),
    .init(
      "time_zone", "Z, an offset such as +02:00, or a name such as Europe/Berlin", "Z",
      "Of times that carry none. A name (of the IANA database) goes with the changes between standard and summer time: of a time that the clocks show twice it is the first, and one that they skip counts by the offset before. Where it is given, a time that carries another one has the day that it has here, as numbers (`epoch_ms`) do; otherwise the day that is written."
    ),
    .init(
      "decimal", "map", "",
      "How an amount or a quantity is written in texts. What is a number in the record (of JSON, Avro) has the writing of the format; `implied_decimals`, `rounding` and `negate` hold for it too."
    ),
    .init("decimal.separator", "one character", ".", "Before the decimals."),
    .init(
      "decimal.grouping", "one character or `space`", "none",
      "Between thousands; `space` also is the one that does not break (U+00A0, U+202F)."),
    .init("decimal.trailing_minus", "true, false", "false", "`100-` is −100."),
    .init("decimal.parentheses", "true, false", "false", "`(100)` is −100."),
    .init(
      "decimal.implied_decimals", "integer from 0 to 18, or currency", "",
      "`12345` is 123.45 for 2. With `currency` as many as the currency of the record has: integers of minor units, `12345` is 123.45 EUR and 12345 JPY."
    ),
    .init("decimal.base64_scale", "integer from 0 to 18", "", "Debezium's binary decimals, with this scale."),
    .init(
      "decimal.rounding", RoundingRule.allCases.map(\.rawValue).joined(separator: ", "), "refuse",
      "What more decimals than the currency has become."),
    .init("decimal.negate", "true, false", "false", "The source writes credits positive."),
    .init(
      "default", "text", "",
      "Taken where the value is absent, null or empty: as if it stood there, so before `values` or `table`."),
    .init("strip_leading_zeros", "true, false", "false", "`0000080015` is `80015`."),
    .init(
      "mask", FieldMask.allCases.map(\.rawValue).joined(separator: ", "), "none",
      "What is written in place of the text, everywhere: 32 digits of its HMAC-SHA-256 under `masking.key`, or `(redacted)`. For names and numbers of orders, events, documents, customers and accounts, and dimensions; what joins records can only be hashed."
    ),
  ]

  /// The keys of a validation rule (`sources.*.rules`).
  public static let ofRules: [KeyReference] = [
    .init("name", "text", "the field or the check", "What dead letters and counts call it."),
    .init(
      "severity", "reject, flag, count", "reject",
      "A record that breaks the rule goes to dead letters, or is taken in and counted; with `flag` its order also has the break DATA_QUALITY, or MASTER_DATA_MISSING for a `table`, which names the rule. At most 16 names of rules of a source can flag."
    ),
    .init("when", "list of order events (orders) or account roles (ledger)", "all", "Records to which it applies."),
    .init(
      "field", "text", "",
      "A mapped field or dimension. Conditions other than `required` hold for a field that is absent."),
    .init("required", "true, false", "false", "The field must be there and not empty."),
    .init(
      "pattern", "text", "",
      "The whole text must match: literals, `.`, `[A-Z0-9]`, `[^;]`, `\\d \\w \\s` (of ASCII), each with `? * + {2} {2,} {2,4}`. Signs are Unicode scalars: `.` is one, be it `ü`."
    ),
    .init("one_of", "list of texts", "", "The text must be one of these."),
    .init("table", "name of a table", "", "The text must be a key of it; else MASTER_DATA_MISSING."),
    .init("minimum", "decimal", "", "Least amount (major units), quantity or line count."),
    .init("maximum", "decimal", "", "Largest."),
    .init("not_before", "date", "", "Earliest date."),
    .init("not_after", "date", "", "Latest date."),
    .init("within", "duration", "", "The date is at most so many days from the event time, before or after."),
    .init(
      "unique", "duration", "",
      "No other record of the source may have the text within so much event time, whatever its order; `flag` or `count` only. Records with the same id (in the ledger: lines of one journal) are one; reversals do not count. Not for Debezium."
    ),
    .init(
      "with", "list of fields", "[]", "Beside `unique`: texts that make up the value together with that of `field`."),
    .init(
      "check", "comparison of amounts", "",
      "Instead of a field: `net + tax + freight - discount = gross`, with `= <= >= < >`, whole factors (`2 * fee`) and decimal constants. Absent amounts count as 0; where none of a side is there, it holds. `sum(lines[].net)` adds up a field of the record's nested lines (json and debezium; the path is that of the record, the amounts are written like the others of the check): `sum(lines[].net) = net`, `sum(lines[].debit) = sum(lines[].credit)`."
    ),
    .init("tolerance", "decimal", "0", "Of a check, in major units, inclusive."),
  ]

  /// The names below a key of a field; of a field itself for the empty one.
  static func fieldKeys(below key: String = "") -> [String] {
    let prefix = key.isEmpty ? "" : key + "."
    return ofFields.map(\.path).filter { $0.hasPrefix(prefix) }.map { String($0.dropFirst(prefix.count)) }
      .filter { !$0.contains(".") }
  }

  public static let all: [KeyReference] = core + serve

  static let core: [KeyReference] = [
    .init("version", "integer", "1", "Version of the file's format."),
    .init("name", "text", "tieout", "Name of this reconciliation, in logs."),
    .init("prefix", "text", "the name", "Output topics are named `<prefix>.breaks` and so on."),
    .init("workers", "integer", "1", "Threads, each one member of the consumer group."),
    .init("dimensions", "list of names", "[]", "Up to eight dimensions that ride along with every order and break."),
    .init("kafka", "map", "", "The cluster."),
    .init("kafka.bootstrap", "text", "127.0.0.1:9092", "Bootstrap servers, comma-separated."),
    .init("kafka.group", "text", "tieout-<name>", "Consumer group."),
    .init(
      "kafka.start", "earliest, latest", "earliest",
      "Where a task starts that the group has never run: at the oldest records that Kafka has, or at the end."),
    .init(
      "kafka.delivery", "exactly_once, at_least_once", "exactly_once",
      "`exactly_once` commits outputs, offsets and the epoch in one transaction; `at_least_once` is for brokers without transactions."
    ),
    .init(
      "kafka.instance", "text", "",
      "Name of this process, unlike that of any other of the group and the same after a restart: its workers become static members, and a restart within the session timeout moves no partition."
    ),
    .init(
      "kafka.replication", "1–1000", "the brokers' default",
      "Replicas of the topics that tieout creates. The brokers' own default (`default.replication.factor`) is 1 unless it has been set: on a cluster of several brokers give 3."
    ),
    .init(
      "kafka.properties", "map of librdkafka properties", "{}",
      "Passed to every client as they are, but for those with a key of their own and those that delivery depends on (`enable.auto.commit`, `enable.auto.offset.store`, `enable.partition.eof`, `partition.assignment.strategy`, `auto.offset.reset`, `group.instance.id`, `transactional.id`)."
    ),
    .init(
      "kafka.properties.*", "text, or {env: NAME}, or {file: path}", "",
      "A property. What comes from a file or the environment this way, and passwords, tokens and keys however they come, are never printed."
    ),
    .init(
      "kafka.consumer", "map of librdkafka properties", "{}",
      "For consumers only. `group.instance.id` is extended by the number of the worker."),
    .init("kafka.consumer.*", "text, or {env: NAME}, or {file: path}", "", "A property."),
    .init("kafka.producer", "map of librdkafka properties", "{}", "For producers only."),
    .init("kafka.producer.*", "text, or {env: NAME}, or {file: path}", "", "A property."),
    .init("topics", "map", "", "Names of output topics, where they are not to follow the prefix."),
    .init("topics.breaks", "text", "<prefix>.breaks", "Breaks, keyed by break id; to be compacted."),
    .init("topics.dead_letters", "text", "<prefix>.dead-letters", "Records that could not be taken in."),
    .init("topics.epochs", "text", "<prefix>.epochs", "Internal: what each task did, epoch by epoch."),
    .init("topics.checkpoints", "text", "<prefix>.checkpoints", "Internal: the matching state; to be compacted."),
    .init("topics.partials", "text", "<prefix>.partials", "Internal: each task's part of the totals; to be compacted."),
    .init("topics.totals", "text", "<prefix>.totals", "Open breaks by type over all tasks; to be compacted."),
    .init("topics.revenue", "text", "<prefix>.revenue", "Aggregates, where they are enabled; to be compacted."),
    .init(
      "topics.cashflow", "text", "<prefix>.cashflow",
      "Cash of the next 13 weeks, where flows are enabled; to be compacted."
    ),
    .init(
      "topics.receivables", "text", "<prefix>.receivables",
      "Ageing and ratios, where flows are enabled; to be compacted."
    ),
    .init(
      "topics.variance", "text", "<prefix>.variance",
      "Actual against budget, where `variance` is enabled; to be compacted."
    ),
    .init(
      "topics.quality", "text", "<prefix>.quality",
      "Counts by source and month, where they are enabled; to be compacted."
    ),
    .init(
      "topics.tables", "text", "<prefix>.tables",
      "Versions of the tables, where `master_data` is enabled, and how far topics of tables and of the budget were looked at."
    ),
    .init(
      "topics.known_periods", "text", "<prefix>.known-periods",
      "The days of the periods by which there are sums, where `aggregates` or `quality` are enabled; to be compacted."),
    .init("topics.redriven", "text", "<prefix>.redriven", "What `tieout redrive` has sent; to be compacted."),
    .init("topics.actions", "text", "<prefix>.actions", "What people do to breaks, keyed by order; kept for ever."),
    .init("topics.proposals", "text", "<prefix>.proposals", "Journals that write differences off; to be compacted."),
    .init("outputs", "map", "", "How the output topics are written."),
    .init(
      "outputs.format", "json, avro", "json",
      "Of all of them. Avro has Confluent's framing and needs `schema_registry`; files of `tieout reconcile` are JSON in any case."
    ),
    .init("outputs.formats", "map", "{}", "By output: \(Output.allCases.map(\.rawValue).joined(separator: ", "))."),
    .init("outputs.formats.*", "json, avro", "outputs.format", "Of this one."),
    .init(
      "outputs.auto_register", "true, false", "true",
      "Whether a schema that the registry does not have is registered at start, under the subject `<topic>-value`. Otherwise whoever may do so registers those of `config/schemas/avro` before."
    ),
    .init(
      "schema_registry", "map", "",
      "Where the schemas of Avro records come from, and those of Avro outputs are registered."),
    .init(
      "schema_registry.url", "text", "", "Address, `https://registry:8081`; certificates as the system trusts them."),
    .init("schema_registry.user", "text", "", "For basic authentication."),
    .init("schema_registry.password", "{env: NAME} or {file: path}", "", "Belongs to the user."),
    .init("schema_registry.bearer", "{env: NAME} or {file: path}", "", "A token instead of user and password."),
    .init("schema_registry.timeout", "duration", "10s", "For one request; there are three attempts."),
    .init("master_data", "map", "", "Tables, periods and rates of files and topics that change while the daemon runs."),
    .init(
      "master_data.enabled", "true, false", "false",
      "Whether files and topics of `tables`, `calendar`, `fx` and `posting_policies` are read again when they change, and on SIGHUP. Every version is kept in `topics.tables`, so that a recovery or a replay decodes and judges each record with the version it was decoded and judged with."
    ),
    .init("master_data.interval", "duration", "30s", "How often the daemon looks for changes."),
    .init(
      "master_data.hold", "map", "",
      "Where it is given: a record whose reference no table knows waits for it, instead of becoming a dead letter (MASTER_DATA_MISSING), or giving its order a break where the rule flags, at once."
    ),
    .init("master_data.hold.time", "duration", "10m", "How long, by the clock; at most window and grace."),
    .init("master_data.hold.records", "integer", "10000", "As many may wait in a task; further ones do not."),
    .init("master_data.hold.bytes", "size", "16MiB", "As many bytes may wait in a task; further ones do not."),
    .init("masking", "map", "", "Fields that are masked on the way in (`mask` of a field)."),
    .init(
      "masking.key", "{env: NAME} or {file: path}", "",
      "The secret under which fields are hashed, at least 16 bytes. Another key gives other hashes: orders that are open then show breaks."
    ),
    .init("dead_letters", "map", "", "What dead letters hold."),
    .init(
      "dead_letters.raw", RawDeadLetters.allCases.map(\.rawValue).joined(separator: ", "), "unmasked",
      "Which of them carry the key and the bytes of the record; by default those of sources without masked fields. The place is always there."
    ),
    .init("tables", "map", "{}", "Named value tables."),
    .init("tables.*", "map", "", "A value table: literal text to literal text."),
    .init("tables.*.entries", "map of texts", "{}", "The entries."),
    .init("tables.*.entries.*", "text", "", "What the text becomes."),
    .init(
      "tables.*.file", "path", "",
      "A CSV file with the entries, relative to the configuration file. Commas stand between columns, or semicolons or tabs where the header has no comma; so in the files of `calendar`, `fx`, `posting_policies` and `variance`."
    ),
    .init(
      "tables.*.topic", "text", "",
      "In place of a file: a compacted topic of JSON objects, read to its end before the first record is decoded, then followed; a record without a value removes its row. Needs `master_data.enabled`."
    ),
    .init(
      "tables.*.key", "text", "first column, `$key`",
      "Column of the file, or field of the topic's records, that holds the key; `$key` is the record's own key."),
    .init(
      "tables.*.value", "text", "second column, the key",
      "Column of the file, or field of the topic's records, that holds the value."),
    .init(
      "tables.*.unlisted", "reject, skip, keep, or {replace: text}", "reject",
      "What an unlisted text does: the record goes to dead letters (MASTER_DATA_MISSING), is skipped and counted, keeps its text, or gets another."
    ),
    .init("sources", "map", "", "The inputs."),
    .init("sources.*", "map", "", "One input, by name."),
    .init("sources.*.kind", "orders, ledger", "", "What its records are."),
    .init("sources.*.topic", "text", "<prefix>.<source>", "Topic to consume."),
    .init(
      "sources.*.routed", "true, false", "false",
      "The topic is not keyed by order, or has another number of partitions: its records go through the internal topic `<prefix>.route.<source>`."
    ),
    .init(
      "sources.*.format", RecordFormat.allCases.map(\.rawValue).joined(separator: ", "), "json",
      "How its records are written. The Avro formats have Confluent's framing and need `schema_registry`."),
    .init("sources.*.csv", "map", "", "How CSV is written."),
    .init("sources.*.csv.delimiter", "one character or `tab`", ",", "Between columns."),
    .init("sources.*.csv.quote", "one character or `none`", "\"", "Around columns."),
    .init("sources.*.csv.encoding", "utf-8, iso-8859-1, windows-1252", "utf-8", "Of the file."),
    .init(
      "sources.*.csv.header", "true, false", "true",
      "Whether the first line of a file names the columns. A topic has no such line: its source needs `columns`, or `false`. With `false`, and without `columns`, paths are the numbers of the columns: `1`, `2`, …."
    ),
    .init(
      "sources.*.csv.columns", "list of names", "[]",
      "The columns, where no header names them (topics). The header of a file counts instead where it has one."),
    .init(
      "sources.*.csv.ragged", "true, false", "false",
      "Rows may have fewer columns than there are names: what they lack is empty. Otherwise such a row, which may have been cut off, is a dead letter."
    ),
    .init(
      "sources.*.where", "list of {path, in} or {path, not_in}", "[]",
      "Only records that pass every condition are taken in; the others are skipped and counted. Where an update of a change feed (Debezium) no longer passes, the row counts no more, as after a delete."
    ),
    .init("sources.*.fields", "map", "", "Canonical field to where it comes from."),
    .init("sources.*.fields.*", field, "", "See the list of canonical fields."),
    .init(
      "sources.*.amount", "field, or {debit, credit}, or {amount, side}", "",
      "Ledger sources: the signed amount, or two columns, or an amount and a text that a table turns into debit or credit."
    ),
    .init("sources.*.dimensions", "map", "{}", "Configured dimension to field."),
    .init("sources.*.dimensions.*", field, "", "A dimension of this source."),
    .init(
      "sources.*.policy", "map of event to entries", "{}",
      "What its events must put into the ledger, where that is not what `policy` says of them: of a system whose prices are with tax, beside one whose prices are without. Only for orders."
    ),
    .init(
      "sources.*.policy.*", "map of role to `+component` or `-component`", "",
      "In place of the entry of the event in `policy`, for all days: rows of `posting_policies` do not concern it. `{}`: nothing is expected of it."
    ),
    .init("sources.*.policy.*.*", "text", "", "Sign (debit `+`, credit `-`) and amount component, or a list of them."),
    .init(
      "sources.*.rules", "list of rules", "[]", "What records are held against before they are taken in; see below."),
    .init("matching", "map", "", "How ties are judged."),
    .init("matching.window", "duration", "3d", "How long after an event its counterpart may come (event time)."),
    .init("matching.grace", "duration", "1h", "Added before anything is called missing."),
    .init("matching.settle", "duration", "1m", "Both sides quiet this long before a provisional break."),
    .init("matching.retention", "duration", "7d", "How long a closed tie is remembered."),
    .init(
      "matching.open_retention", "duration", "90d",
      "How long a tie with an open break is remembered; at least as long as `retention`."),
    .init("matching.out_of_orderness", "duration", "1m", "How far the watermark trails the largest event time."),
    .init(
      "matching.idle_timeout", "duration", "30s",
      "A partition silent this long (wall clock) holds nothing back; when all are, the clock moves the watermark."),
    .init("matching.maximum_future", "duration", "1d", "Event times further ahead of the clock are quarantined."),
    .init("matching.provisional", "true, false", "true", "Whether breaks are reported before the deadline."),
    .init("matching.late_after_days", "integer", "5", "Posting dates this long after the document date are in time."),
    .init(
      "matching.early_before_days", "integer", "1", "Posting dates this long before the document date are in time."),
    .init("matching.posting_dates", "true, false", "true", "Compare posting dates (CUTOFF, LATE_, EARLY_POSTING)."),
    .init("matching.customers", "true, false", "true", "Compare customers (WRONG_CUSTOMER)."),
    .init("matching.quantities", "map", "", "Delivered, issued and billed quantities."),
    .init("matching.quantities.compare", "true, false", "false", "Compare them."),
    .init(
      "matching.quantities.basis", "delivered, shipped", "delivered",
      "What billing is compared with; with `delivered`, goods issues are compared with deliveries too."),
    .init("matching.quantities.tolerance", "decimal", "0", "Largest difference that counts as equal."),
    .init(
      "matching.quantities.ordered", "true, false", "false",
      "Whether no more may be delivered, shipped or billed than `booked` and `changed` have ordered, less `cancelled`; "
        + "orders without a quantity are not held against it."),
    .init(
      "matching.quantities.lines", "true, false", "false",
      "Whether a document whose total agrees is compared line by line too, where both sides tell `line` and `quantity`: "
        + "lines that are wrong in opposite directions are a PRICE_ or QUANTITY_MISMATCH without a difference."),
    .init("matching.tolerances", "map", "{}", "Tolerance by account role; `default` for all others."),
    .init("matching.tolerances.*", "map", "", "Inclusive; on the cumulative difference of an order."),
    .init("matching.tolerances.*.absolute", "decimal", "0", "Major units, both ways."),
    .init("matching.tolerances.*.under", "decimal", "absolute", "Major units below expected."),
    .init("matching.tolerances.*.over", "decimal", "absolute", "Major units above expected."),
    .init("matching.tolerances.*.percent", "decimal", "0", "Percent of |expected|."),
    .init("matching.tolerances.*.combine", "max, min", "max", "How absolute and percent combine."),
    .init("matching.entity", "name of a dimension", "", "Compare it between postings and order (WRONG_ENTITY)."),
    .init("matching.segment", "name of a dimension", "", "Compare it between postings and order (WRONG_SEGMENT)."),
    .init(
      "matching.cash_application", "true, false", "false",
      "Tell differences of cash, clearing, receivables and fees apart as cash application does (SHORT_PAY and others)."),
    .init(
      "matching.revenue_schedules", "map", "",
      "Where it is given: what is deferred by an event with a `service_end` or `service_periods` is released over the service (REVENUE_SCHEDULE_GAP)."
    ),
    .init(
      "matching.revenue_schedules.basis", "day, period", "day",
      "By the days of the service in each accounting period, or the same for every period that it touches."),
    .init(
      "matching.revenue_schedules.remainder", "spread, last", "spread",
      "Minor units that equal parts do not add up to: to the parts as they come, or all to the last period."),
    .init(
      "matching.revenue_schedules.grace", "duration", "5d",
      "After the end of a period its release may still be posted; whole days."),
    .init(
      "matching.intercompany", "true, false", "false",
      "Intercompany postings without a mirror entry are a difference of their own name (INTERCOMPANY_UNMATCHED)."),
    .init(
      "matching.severity", "list of three decimals, or a map", "[1000, 10000, 100000]",
      "|amount| from which a break is medium, high, critical; in the base currency where there is one."),
    .init("matching.severity.amounts", "list of three decimals", "[1000, 10000, 100000]", "The same."),
    .init(
      "matching.severity.age", "list of three durations, or none", "[24h, 72h, 120h]",
      "Age from which an open break is at least medium, high, critical; from the end of window and grace of the order's first event. With `none` age does not count."
    ),
    .init("matching.maximum_expiries", "integer", "50000", "Ties closed at the most in one turn."),
    .init(
      "calendar", "map", "calendar months",
      "Fiscal periods: they decide CUTOFF and the periods of the aggregates, and when each was closed (CLOSED_PERIOD); and the days on which nobody pays."
    ),
    .init(
      "calendar.file", "path", "",
      "CSV with the columns `period` (`2026-01`), `start`, `end` (dates, both inclusive), and, where wanted, `state` (open, closed) and `closed_at` (date or time). Rows with `holiday` as their period are days that are no business days; where there are no others, periods are the months of the calendar."
    ),
    .init(
      "calendar.topic", "text", "",
      "The same fields in the records of a compacted topic, as `tables.‹name›.topic`; in place of a file."),
    .init("calendar.periods", "list of maps", "[]", "The same, written out; in place of a file."),
    .init("calendar.periods.*", "map", "", "A period. They follow each other without gap or overlap."),
    .init(
      "calendar.periods.*.period", "year and number, or holiday", "",
      "`2026-01`, or `202601`, as postings state it; `holiday` for days that are no business days."),
    .init("calendar.periods.*.start", "date", "", "First day."),
    .init("calendar.periods.*.end", "date", "", "Last day."),
    .init("calendar.periods.*.state", "open, closed", "closed with a `closed_at`, else open", "Whether it is closed."),
    .init("calendar.periods.*.closed_at", "date or time", "", "From when on nothing may be entered into it (UTC)."),
    .init(
      "calendar.rest_days", "list of days of the week", "[]", "Days that are never business days: `[saturday, sunday]`."
    ),
    .init(
      "calendar.roll", BusinessDays.Roll.allCases.map(\.rawValue).joined(separator: ", "), "none",
      "Where a due date of terms and a day of expected cash go that are no business days: nowhere, to the next one, to the next one of the same month or else the one before, or to the one before."
    ),
    .init("fx", "map", "", "The base currency: a second view of the aggregates, base amounts, severity."),
    .init("fx.base", "currency", "", "ISO 4217."),
    .init(
      "fx.rates", "path", "",
      "CSV with the columns `date`, `from`, `to`, `rate`: one unit of `from` is so many of `to`; one of them is the base currency, or the pivot."
    ),
    .init(
      "fx.pivot", "currency", "",
      "By way of which a rate is put together where there is none to the base currency: that to the pivot times the pivot's to the base."
    ),
    .init(
      "fx.topic", "text", "",
      "The same fields in the records of a compacted topic, as `tables.‹name›.topic`; in place of `rates`."),
    .init("fx.maximum_age", "duration", "7d", "How long a rate stands where no newer one is there; whole days."),
    .init("fx.rounding", "half_even, half_up", "half_even", "To the minor unit; `half_up` is half away from zero."),
    .init(
      "fx.tolerance", "decimal", "0.01",
      "How far the base amounts of a role may be from the rate's, for an order; in major units of the base currency."),
    .init("policy", "map", "the standard policy", "What each order event must put into the ledger."),
    .init("policy.replace_defaults", "true, false", "false", "Start from an empty policy."),
    .init(
      "policy.*", "map of role to `+component` or `-component`", "",
      "Replaces the standard entry of the event; `{}` switches it off. A source may say otherwise of its own events (`sources.*.policy`)."
    ),
    .init("policy.*.*", "text", "", "Sign (debit `+`, credit `-`) and amount component, or a list of them."),
    .init(
      "posting_policies", "map", "",
      "Rows that change `policy` from given days of documents on; of each event the policy counts that is in force on the day of its document."
    ),
    .init(
      "posting_policies.file", "path", "",
      "CSV with the columns `event`, `role`, `component`, `sign` (`debit` or `+`, `credit` or `-`, `none` or `0`: nothing is expected) and, where wanted, `valid_from` (date; empty from the beginning). A row holds for its event, role and component until the next one; what no row is about is as `policy` says."
    ),
    .init(
      "posting_policies.topic", "text", "",
      "In place of a file: a compacted topic of JSON objects with these fields. A record that makes no row is a dead letter, and what stood under its key stays in force."
    ),
    .init("actions", "map", "", "What people do to breaks."),
    .init(
      "actions.enabled", "true, false", "false",
      "Whether the daemon reads `topics.actions`, so that `topics.breaks` says what has been decided, by whom and why."
    ),
    .init("aggregates", "map", "", "Bookings, billings, revenue and balances by dimensions, currency and period."),
    .init("aggregates.enabled", "true, false", "false", "Whether they are kept and written to `topics.revenue`."),
    .init("aggregates.interval", "duration", "1s", "How long changes are gathered before they are told."),
    .init(
      "aggregates.values", "integer, map", "1000",
      "Values of a dimension that are kept apart by a task; what comes later is `(other)`. A run over files has 16 tasks. A map of dimensions gives "
        + "single ones a number of their own, and leaves the others 1000."),
    .init("aggregates.values.*", "integer", "", "Of this dimension."),
    .init("aggregates.cells", "integer", "65536", "Cells of a task; beyond them sums go under `(other)`."),
    .init(
      "aggregates.quantities", "true, false", "false",
      "Whether quantities are added up too, for the price and volume parts of `variance`."),
    .init(
      "aggregates.inherit", "all, none, list of names", "all",
      "Dimensions that a posting without a value of its own has from its order; for the others its figures stand under "
        + "the empty value."),
    .init("quality", "map", "", "What came of each source and month, what matched, and what did not."),
    .init("quality.enabled", "true, false", "false", "Whether it is counted and written to `topics.quality`."),
    .init("quality.interval", "duration", "10s", "How long changes are gathered before they are told."),
    .init(
      "quality.periods", "integer", "240", "Months of a source that are kept apart; what comes later is `(other)`."),
    .init("flows", "map", "", "Expected and actual cash, ageing and collection ratios, made by `tieout flows`."),
    .init("flows.enabled", "true, false", "false", "Whether `topics.cashflow` and `topics.receivables` are written."),
    .init(
      "flows.by", "list of names", "[]",
      "What messages are kept apart by, beside the currency: dimensions, or `customer`."),
    .init(
      "flows.segment", "text", "",
      "The dimension of whose payments a customer without a history of its own is forecast."),
    .init(
      "flows.terms", "text", "NET30", "Payment terms of items for which no source says when they are due."),
    .init(
      "flows.backlog", "map", "", "What is ordered and not billed yet, as a part of expected cash of its own."),
    .init("flows.backlog.enabled", "true, false", "false", "Whether it is looked at."),
    .init(
      "flows.backlog.lag", "duration", "30d",
      "From an order to its invoice, where nothing has been learned of it; whole days."),
    .init(
      "flows.backlog.amount", "gross, net", "gross",
      "The amount of order events by which orders and invoices are compared: what bookings carry."),
    .init("flows.days", "integer", "90", "Days over which sales and the collection ratios are taken."),
    .init("flows.backtest", "integer", "70", "Percent of the time that the backtest learns from."),
    .init(
      "flows.history", "duration", "1095d",
      "How long an item counts after it has been settled; at least `flows.days` and 13 weeks."),
    .init("flows.interval", "duration", "10s", "How long changes are gathered before they are told."),
    .init(
      "flows.facts", "integer", "20000000",
      "The most lines of the ledger and invoices that are kept, some 120 bytes each; beyond it the job refuses to go on."
    ),
    .init("flows.sources", "map", "{}", "By source: when an item is due, where the source says it."),
    .init("flows.sources.*", "map", "", "A source."),
    .init("flows.sources.*.due_date", field, "", "Due date of an invoice, or of a line on a receivable account."),
    .init("flows.sources.*.terms", field, "", "Payment terms: `NET30`, `2/10NET30`, `EOM+15`, `COD`."),
    .init("variance", "map", "", "Actual against budget, by period, dimensions and measure, made by `tieout flows`."),
    .init(
      "variance.enabled", "true, false", "false",
      "Whether it is written to `topics.variance`; needs `aggregates.enabled`."),
    .init(
      "variance.budget", "path", "",
      "CSV with the columns `period` (`2026-01`), `currency`, `amount`, those of `variance.by`, and, where wanted, `measure` and `quantity`. It is read again when it changes, without a restart."
    ),
    .init(
      "variance.topic", "text", "",
      "The same fields in the records of a compacted topic, in place of a file; a record without a value removes its line."
    ),
    .init(
      "variance.by", "list of names", "[]", "Dimensions that the budget is by; actuals are summed over all others."),
    .init(
      "variance.measure", Measure.allCases.map(\.rawValue).joined(separator: ", "), "recognised_revenue",
      "Of rows of the budget that name none. What the ledger holds is taken by posting date."),
    .init(
      "variance.view", "transaction, base", "transaction",
      "Whether actuals are in the currency of the records, or in the base currency (`fx`)."),
    .init("variance.threshold", "map", "", "Beyond what size a variance is flagged; it must be over both."),
    .init("variance.threshold.absolute", "decimal", "0", "Major units of the currency of the amounts."),
    .init("variance.threshold.percent", "decimal", "0", "Percent of |budget|."),
    .init(
      "variance.interval", "duration", "10s",
      "How long changes are gathered before they are told, and how often the budget is looked at."),
    .init("governance", "map", "", "Who answers for what; `tieout catalog` writes it out. It changes nothing else."),
    .init(
      "governance.required", "true, false", "false",
      "Whether a configuration in which something has no owner, classification or definition is refused."),
    .init("governance.sources", "map", "{}", "By source."),
    .init("governance.sources.*", "map", "", "A source. Its fields inherit owner and classification."),
    .init("governance.sources.*.owner", "text", "", "Team or person who answers for it."),
    .init("governance.sources.*.definition", "text", "", "What it is."),
    .init("governance.sources.*.classification", classification, "", "How freely it may be passed on."),
    .init("governance.sources.*.fields", "map", "{}", "By canonical field, `amount`, or dimension."),
    .init("governance.sources.*.fields.*", "map", "", "A field that the source maps."),
    .init("governance.sources.*.fields.*.owner", "text", "that of the source", "Team or person."),
    .init("governance.sources.*.fields.*.definition", "text", "that of the canonical field", "What it is."),
    .init("governance.sources.*.fields.*.classification", classification, "that of the source", "How freely."),
    .init(
      "governance.master_data", "map", "{}",
      "By table of a file or topic; and `calendar`, `fx`, `posting_policies`, `budget`, where they are configured."),
    .init(
      "governance.master_data.*", "map", "", "A table, the calendar, the rates, the posting policies or the budget."),
    .init("governance.master_data.*.owner", "text", "", "Team or person who answers for it."),
    .init("governance.master_data.*.definition", "text", "", "What it is."),
    .init("governance.master_data.*.classification", classification, "", "How freely it may be passed on."),
    .init("governance.outputs", "map", "{}", "By output: \(Governance.outputNames.joined(separator: ", "))."),
    .init("governance.outputs.*", "map", "", "An output."),
    .init("governance.outputs.*.owner", "text", "", "Team or person who answers for it."),
    .init("governance.outputs.*.definition", "text", "", "What it is."),
    .init("governance.outputs.*.classification", classification, "", "How freely it may be passed on."),
    .init("epoch", "map", "", "The turn of a worker."),
    .init("epoch.records", "integer", "50000", "Records after which outputs are flushed and offsets stored."),
    .init("epoch.interval", "duration", "100ms", "Time after which they are."),
    .init(
      "epoch.interval_during_backlog", "duration", "500ms or `epoch.interval`",
      "The same while as many records wait as the epoch has taken: fewer and larger transactions until the daemon has caught up. Not below `epoch.interval`."
    ),
    .init("epoch.retention", "duration", "7d", "How long epochs are kept for `tieout replay` (set on the topic)."),
    .init("checkpoints", "map", "", "Where the matching state is kept."),
    .init("checkpoints.store", "topic, directory, off", "topic", "`off`: a restart replays all epochs."),
    .init("checkpoints.directory", "path", "", "For the store `directory`; every process must see it."),
    .init("checkpoints.interval", "duration", "60s", "Within which the whole state is written once, bit by bit."),
    .init("limits", "map", "", "Bounds."),
    .init("limits.memory", "size", "4GiB", "Matching state of the process at which intake slows down."),
    .init("limits.record_bytes", "size", "4MiB", "Longest record that is taken in."),
    .init(
      "limits.unique_values", "integer", "1000000",
      "Records that a process holds for rules of uniqueness, some 500 bytes each; beyond them those go first that matter for the shortest time."
    ),
    .init("limits.depth", "integer", "64", "Deepest nesting of JSON."),
    .init("logging", "map", "", "Logs, on standard error."),
    .init("logging.level", "trace, debug, info, notice, warning, error", "info", "Least severe level."),
    .init("logging.format", "text, json", "text", "One line a record."),
    .init(
      "monitoring", "map", "", "Where the daemon answers `/metrics`, `/healthz` and `/readyz`; without it, nowhere."),
    .init("monitoring.listen", "HOST:PORT", "", "Where it listens, plain HTTP."),
    .init(
      "monitoring.token", "{env: NAME} or {file: path}", "",
      "Bearer token that `/metrics` must be asked with. Needed where others than this machine reach the address."),
    .init("monitoring.open", "true, false", "false", "Whether `/metrics` needs no token although others reach it."),
  ]

  /// The keys that may stand below a path.
  static func children(of path: [String]) -> (names: [String], isOpen: Bool) {
    var names: [String] = []
    var isOpen = false
    for key in all {
      let parts = key.path.split(separator: ".").map(String.init)
      guard parts.count == path.count + 1, zip(parts, path).allSatisfy({ $0 == "*" || $0 == $1 }) else { continue }
      if parts.last == "*" { isOpen = true } else { names.append(parts.last!) }
    }
    return (names, isOpen)
  }

  /// The reference of all keys in Markdown.
  public static func markdown() -> String {
    var lines = [
      "# Configuration", "",
      "Generated by `tieout docs`; do not edit. An unknown key is an error that names the nearest one. `${NAME}` and",
      "`${NAME:-default}` in a value are replaced from the environment. Durations: `500ms 5s 10m 4h 7d 2w`; sizes:",
      "`64KiB 4MiB 2GiB`.", "", "| key | value | default | meaning |", "|---|---|---|---|",
    ]
    func cell(_ text: String) -> String { text.replacing("|", with: "\\|") }
    func row(_ key: KeyReference) -> String {
      let path = key.path.replacing("*", with: "‹name›")
      let standard = key.standard.isEmpty ? "" : "`\(cell(key.standard))`"
      return "| `\(path)` | \(cell(key.type)) | \(standard) | \(cell(key.meaning)) |"
    }
    lines += all.map(row)
    lines += [
      "", "## Field", "",
      "A plain text is a path. A map has exactly one of `path`, `constant`, `concat`, `first`, `sum`, and what else is needed.",
      "", "| key | value | default | meaning |", "|---|---|---|---|",
    ]
    lines += ofFields.map(row)
    lines += [
      "", "## Rule", "",
      "Rules are compiled at start and checked on every record that could be read, but not on deletes of a change feed.",
      "A rule has a `field` with conditions, or a `check`.", "", "| key | value | default | meaning |",
      "|---|---|---|---|",
    ]
    lines += ofRules.map(row)
    return lines.joined(separator: "\n") + "\n"
  }
}
