import Domain

/// Whether a source carries order events or ledger postings.
public enum SourceKind: String, Sendable, CaseIterable {
  case orders, ledger
}

/// How the bytes of one record are laid out.
public enum RecordFormat: String, Sendable, CaseIterable {
  /// One JSON object.
  case json
  /// A Debezium change event in JSON, with or without the schema wrapper. Paths start inside `after` (`before` for a
  /// delete); a path that starts with `$` starts at the envelope (`$.ts_ms`, `$.source.lsn`).
  case debezium
  /// One CSV row; paths are column names of the header, or numbers from 1 where `csv.header` is false.
  case csv
  /// An Avro record with Confluent's framing; its schema comes from the registry. Paths are as for JSON.
  case avro
  /// A Debezium change event in Avro, framed so. Paths are as for `debezium`.
  case debeziumAvro = "debezium_avro"

  public var isAvro: Bool { self == .avro || self == .debeziumAvro }
  /// Whether records are change events in an envelope.
  public var isEnvelope: Bool { self == .debezium || self == .debeziumAvro }
  /// Whether a line of a file, or the body of a request, can be such a record.
  public var isText: Bool { !isAvro }
}

/// How CSV rows are written (RFC 4180 by default).
public struct CSVDialect: Sendable, Equatable {
  public enum Encoding: String, Sendable, CaseIterable {
    case utf8 = "utf-8"
    case latin1 = "iso-8859-1"
    case windows1252 = "windows-1252"
  }
  public var delimiter: UInt8 = UInt8(ascii: ",")
  /// nil: no quoting.
  public var quote: UInt8? = UInt8(ascii: "\"")
  public var encoding: Encoding = .utf8
  /// Column names; empty until they are read from the first line of each file.
  public var columns: [String] = []
  /// Whether each file's first line names the columns. On a topic, `columns` must be configured.
  public var hasHeader = true
  /// Rows may have fewer columns than there are names: what they lack is empty. Otherwise such a row, which may have been cut
  /// off, is refused.
  public var isRagged = false

  public init() {}
}

/// How a date or a time is written.
public enum TimeFormat: Sendable, Equatable {
  case rfc3339
  case epochSeconds, epochMilliseconds, epochMicroseconds, epochNanoseconds, epochDays
  /// `YYYYMMDD`, optionally followed by `HHMMSS`.
  case compact
  /// Letters `yyyy yy MM M MMM dd d HH H hh h mm ss SSS a`, everything else (or text in single quotes) literal.
  case pattern(String)
  /// RFC 3339, ISO date, or compact, told apart by shape.
  case automatic
}

/// How an amount is written.
public struct DecimalStyle: Sendable, Equatable {
  public var decimalSeparator: UInt8 = UInt8(ascii: ".")
  /// Thousands separator, nil: none allowed.
  public var groupingSeparator: UInt8?
  /// `100-` is −100, as mainframes print it.
  public var allowsTrailingMinus = false
  /// Accountants' brackets: `(100)` is −100.
  public var allowsParentheses = false
  /// The text is an integer with this many decimals implied: `12345` is 123.45 for 2.
  public var impliedDecimals: Int?
  /// The text is an integer of minor units: as many decimals are implied as the currency has.
  public var isInMinorUnits = false
  /// Debezium's `base64` decimals (`decimal.handling.mode=precise`): big-endian two's complement with this scale.
  public var base64Scale: Int?
  /// Amounts written as binary floating-point noise (`24168654.339999996`) are rounded to the currency by this rule.
  public var rounding: RoundingRule = .refuse
  /// Multiplies by −1 (a source that writes credits positive).
  public var negate = false

  public init() {}
}

/// What an expression yields before it is interpreted as a field's type.
public indirect enum ValueExpression: Sendable, Equatable {
  /// A path into the record: object keys and array indexes, `account.id`, `lines[0].sku`; a key with a dot or a bracket
  /// in it is quoted, `'a.b'.c`. For CSV a column.
  case path(String)
  case constant(String)
  /// The texts one after the other.
  case concatenation([ValueExpression])
  /// The first that is present and not empty.
  case firstPresent([ValueExpression])
  /// A part of one of those, changed before it is taken; what is absent stays so.
  case changed(ValueExpression, PartChange)
  /// What nested lines add up to, of amounts and quantities of JSON records (`LineReader.reads`).
  case sum(LinePath)

  /// Every path that is read, those of parts too.
  public var paths: [String] {
    switch self {
    case .path(let path): [path]
    case .constant, .sum: []
    case .concatenation(let parts), .firstPresent(let parts): parts.flatMap(\.paths)
    case .changed(let part, _): part.paths
    }
  }

  /// The tables of all parts.
  public var tables: [ValueTable] {
    switch self {
    case .path, .constant, .sum: []
    case .concatenation(let parts), .firstPresent(let parts): parts.flatMap(\.tables)
    case .changed(let part, let change): part.tables + (change.table.map { [$0] } ?? [])
    }
  }

  /// The same with other tables in its parts.
  public func replacingTables(_ replace: (inout ValueTable) -> Void) -> ValueExpression {
    switch self {
    case .path, .constant, .sum: return self
    case .concatenation(let parts): return .concatenation(parts.map { $0.replacingTables(replace) })
    case .firstPresent(let parts): return .firstPresent(parts.map { $0.replacingTables(replace) })
    case .changed(let part, var change):
      if change.table != nil { replace(&change.table!) }
      return .changed(part.replacingTables(replace), change)
    }
  }

  /// Whether lines are added up somewhere in it.
  public var hasSums: Bool {
    switch self {
    case .path, .constant: false
    case .sum: true
    case .concatenation(let parts), .firstPresent(let parts): parts.contains(where: \.hasSums)
    case .changed(let part, _): part.hasSums
    }
  }

  /// Every text that it can yield; nil where the record decides.
  fileprivate var texts: Set<String>? {
    switch self {
    case .path, .concatenation, .sum: return nil
    case .constant(let text): return [text]
    case .firstPresent(let parts):
      return parts.reduce([]) { all, part in all.flatMap { all in part.texts.map { all.union($0) } } }
    case .changed(let part, let change):
      guard change.width == 0 else { return nil }
      return change.table.map { $0.texts(of: part.texts) } ?? (change.stripsLeadingZeros ? nil : part.texts)
    }
  }
}

/// What becomes of a part of a text before it is put together with others: zeros are stripped, then a table translates it, then
/// zeros are put before it.
public struct PartChange: Sendable, Equatable {
  public var stripsLeadingZeros = false
  public var table: ValueTable?
  /// Zeros stand before it up to so many characters; none at 0.
  public var width = 0

  public init() {}
}

/// What becomes of a field's text before anything else sees it.
public enum FieldMask: String, Sendable, CaseIterable {
  /// The text itself.
  case none
  /// 32 hexadecimal digits of its HMAC-SHA-256: the same text gives the same digits, so that both sides still compare.
  case hash
  /// `(redacted)`, whatever it was.
  case redact
}

/// How one canonical field is filled.
public struct FieldMapping: Sendable, Equatable {
  public var value: ValueExpression
  /// Translates the text (`order.invoiced` → `invoiced`); nil: as it is.
  public var table: ValueTable?
  public var timeFormat: TimeFormat?
  /// Of times without an offset. Where it is set, also the days of times with one are those of this zone.
  public var timeZone: ZoneClock?
  public var decimal = DecimalStyle()
  /// Taken where the value is absent, null or empty (before the table).
  public var defaultText: String?
  /// Strip leading and trailing white space (default) and, where set, leading zeros (SAP document numbers).
  public var stripsLeadingZeros = false
  /// Last of all: tables and defaults see the clear text.
  public var mask = FieldMask.none

  public init(_ value: ValueExpression) { self.value = value }

  /// Every text that the field can have, masked or not; nil where the record decides.
  public var texts: Set<String>? {
    let texts = value.texts.map { $0.union(defaultText.map { [$0] } ?? []) }
    return table.map { $0.texts(of: texts) } ?? texts
  }

  /// Its own table and those of its parts.
  public var tables: [ValueTable] { value.tables + (table.map { [$0] } ?? []) }
}

/// A value table: literal text → literal text.
public struct ValueTable: Sendable, Equatable {
  public var name: String
  public var entries: [String: String]
  /// What an unlisted text becomes.
  public var unlisted: Unlisted
  /// Whether it stands at its field (`values`).
  public var isInline = false

  public enum Unlisted: Sendable, Equatable {
    /// The record goes to dead letters: MASTER_DATA_MISSING.
    case reject
    /// The record is skipped and counted (events that this reconciliation is not about).
    case skip
    /// The text itself.
    case keep
    /// This text.
    case replace(String)
  }

  public init(name: String, entries: [String: String], unlisted: Unlisted = .reject) {
    self.name = name
    self.entries = entries
    self.unlisted = unlisted
  }

  /// What these texts become; of nil, texts that the record decides, what the table knows.
  fileprivate func texts(of texts: Set<String>?) -> Set<String>? {
    var all = Set(texts.map { $0.compactMap { entries[$0] } } ?? Array(entries.values))
    let others = texts?.filter { entries[$0] == nil }
    switch unlisted {
    case .reject, .skip: break
    case .keep:
      guard let others else { return nil }
      all.formUnion(others)
    case .replace(let text): if others?.isEmpty != true { all.insert(text) }
    }
    return all
  }
}

/// The amount of a posting: one signed column, or one column for debits and one for credits.
public enum PostingAmount: Sendable, Equatable {
  case signed(FieldMapping)
  /// debit − credit; an absent or empty column is zero, both absent is a fault.
  case debitCredit(debit: FieldMapping, credit: FieldMapping)
  /// An unsigned amount and a column that says which side (`S`/`H`, `D`/`C`): table to `debit` or `credit`.
  case indicated(amount: FieldMapping, side: FieldMapping)
}

/// Keeps only the records where a field has (or has not) one of these values; the rest is skipped and counted.
public struct RecordFilter: Sendable, Equatable {
  public var value: ValueExpression
  public var oneOf: [String]
  public var negated: Bool

  public init(value: ValueExpression, oneOf: [String], negated: Bool = false) {
    self.value = value
    self.oneOf = oneOf
    self.negated = negated
  }
}

/// The mapping of one source, as configured; `MappingPlan` is what it compiles to.
public struct MappingSpecification: Sendable, Equatable {
  public var sourceName: String
  public var sourceIndex: Int
  public var kind: SourceKind
  public var format: RecordFormat
  public var csv = CSVDialect()
  public var filters: [RecordFilter] = []
  /// Canonical field name → how it is filled. Names: `OrderField.allCases`, `PostingField.allCases`.
  public var fields: [String: FieldMapping] = [:]
  /// Event times of a change feed are read from its rows and not from the envelope: they are not when the rows changed.
  public var tellsRowTimes: Bool {
    let ofEnvelope = { (path: String) in
      path == "$key" || path.hasPrefix("$.") && !path.hasPrefix("$.after.") && !path.hasPrefix("$.before.")
    }
    return format.isEnvelope && (fields["event_time"]?.value.paths.contains { !ofEnvelope($0) } ?? false)
  }
  /// Ledger only.
  public var amount: PostingAmount?
  /// By index of the configured dimension.
  public var dimensions: [FieldMapping?] = []
  /// Of `base_amount`.
  public var baseCurrency = Currency.none
  /// Of `service_periods`.
  public var serviceTerm = ServiceTerm.months
  /// JSON objects and arrays deeper than this are refused.
  public var maximumDepth = 64
  /// Records longer than this are refused (10 MB records are a fault of the sender, not a reason to run out of memory).
  public var maximumRecordBytes = 4 << 20
  /// For fields that are hashed.
  public var maskKey: MaskKey?

  /// Canonical fields that are dates or times.
  public static let timeFields: Set<String> = [
    OrderField.eventTime.rawValue, OrderField.documentDate.rawValue, OrderField.serviceStart.rawValue,
    OrderField.serviceEnd.rawValue, PostingField.postingDate.rawValue,
  ]

  public init(sourceName: String, sourceIndex: Int, kind: SourceKind, format: RecordFormat) {
    self.sourceName = sourceName
    self.sourceIndex = sourceIndex
    self.kind = kind
    self.format = format
  }
}

extension MappingSpecification {
  /// Whether a clear value of this source must not be written anywhere.
  public var isMasked: Bool {
    fields.values.contains { $0.mask != .none } || dimensions.contains { ($0?.mask ?? .none) != .none }
  }

  /// The same without masks: for whoever hands records on to the source as they are, under the key that other senders use.
  public var unmasked: MappingSpecification {
    var clear = self
    for name in clear.fields.keys { clear.fields[name]!.mask = .none }
    for at in clear.dimensions.indices { clear.dimensions[at]?.mask = .none }
    return clear
  }
}

/// The canonical fields of an order event.
public enum OrderField: String, CaseIterable, Sendable {
  case order
  case eventID = "event_id"
  case event
  case eventTime = "event_time"
  case documentDate = "document_date"
  case document, customer, currency
  case lineCount = "line_count"
  case quantity
  case net, tax, freight, discount, gross, cost, deposit, fee, applied
  case serviceStart = "service_start"
  case serviceEnd = "service_end"
  case servicePeriods = "service_periods"
  case line

  public var isRequired: Bool {
    switch self {
    case .order, .event, .eventTime: true
    default: false
    }
  }
}

extension OrderField {
  /// The masks that leave the field of use: what joins records or tells them apart can be hashed, not redacted.
  public var masks: [FieldMask] {
    switch self {
    case .customer: [.hash, .redact]
    case .order, .eventID, .document, .line: [.hash]
    default: []
    }
  }
}

/// The canonical fields of a posting; its amount is mapped apart (`PostingAmount`).
public enum PostingField: String, CaseIterable, Sendable {
  case order
  case lineID = "line_id"
  case journal, document, reverses
  /// `true`/`false`, or a text that a table turns into one.
  case reversal
  case customer, account, role, currency
  case eventTime = "event_time"
  case postingDate = "posting_date"
  case period
  case quantity
  case baseAmount = "base_amount"
  case line

  public var isRequired: Bool {
    switch self {
    case .order, .role, .currency, .eventTime: true
    default: false
    }
  }
}

extension PostingField {
  /// See `OrderField.masks`.
  public var masks: [FieldMask] {
    switch self {
    case .customer, .account: [.hash, .redact]
    case .order, .lineID, .journal, .document, .reverses, .line: [.hash]
    default: []
    }
  }
}
