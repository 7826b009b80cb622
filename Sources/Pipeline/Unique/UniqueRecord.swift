import Configuration
import Decoding
import Domain
import Validation

/// A record's value under a rule of uniqueness: what is told to the stage that owns the value.
struct UniqueRecord: Sendable, Equatable {
  /// The same for a record that comes again, however often.
  var identity: ValueDigest
  /// Records of one ledger document are no duplicates of each other.
  var document: ValueDigest
  var time_ms: Int64
  var within_ms: Int64
  /// Whether a duplicate is a break, or only counted.
  var flags: Bool
  var source: String
  var rule: String
  var subject: String
  /// `topic t, partition 1, offset 17`.
  var place: String
  var order: String
  /// Id of the event or of the ledger document; empty where it has none.
  var id: String
  var isOrder: Bool
  var customer: String
  var currency: Currency
  var dimensions: [String]

  /// Which of two records with one value was first: by event time; where that is the same, by what they are.
  func precedes(_ other: UniqueRecord) -> Bool { precedes(other.time_ms, other.order, other.identity) }

  func precedes(_ otherTime_ms: Int64, _ otherOrder: String, _ otherIdentity: ValueDigest) -> Bool {
    if time_ms != otherTime_ms { return time_ms < otherTime_ms }
    if order != otherOrder { return order.utf8.lexicographicallyPrecedes(otherOrder.utf8) }
    return identity < otherIdentity
  }
}

/// What the stage and the tasks write to the topic of partials about one value and one of its records.
struct UniqueKey: Hashable, Comparable, Sendable {
  var value: ValueDigest
  var identity: ValueDigest

  static func < (a: Self, b: Self) -> Bool { (a.value, a.identity) < (b.value, b.identity) }

  /// All records of a value meet in one partition.
  func partition(of count: Int) -> Int32 { Int32(value.low % UInt64(max(1, count))) }
}

/// A message about values, under a key by which the topic is compacted.
enum UniqueMessage: Equatable {
  case record(UniqueKey, UniqueRecord)
  /// A duplicate that has been told, as that of which record; and how many breaks the partition had opened with it, 0 where
  /// duplicates are only counted.
  case told(UniqueKey, revision: Int64, original: ValueDigest, opened: Int64)
  /// Breaks that have been opened in the partition, and the number of the telling.
  case opened(Int64, telling: Int64)
  /// The record is too old to matter.
  case forgotten(UniqueKey)

  private static let marker: UInt8 = 0xc3
  private static let version: UInt8 = 1
  private enum Kind: UInt8 { case record, told, opened }

  static func isKey(_ bytes: UnsafeBufferPointer<UInt8>) -> Bool { bytes.first == marker }

  private static func key(_ kind: Kind, _ key: UniqueKey?) -> [UInt8] {
    var writer = ByteWriter(capacity: 64)
    writer.write(marker)
    writer.write(kind.rawValue)
    if let key {
      for part in [key.value.high, key.value.low, key.identity.high, key.identity.low] { writer.write(part) }
    }
    return writer.array
  }

  /// Key and value of its messages; a value of nil deletes.
  var messages: [(key: [UInt8], value: [UInt8]?)] {
    var writer = ByteWriter(capacity: 256)
    writer.write(UniqueMessage.version)
    switch self {
    case .record(let key, let record):
      record.write(into: &writer)
      return [(UniqueMessage.key(.record, key), writer.array)]
    case .told(let key, let revision, let original, let opened):
      writer.write(revision)
      writer.write(opened)
      writer.write(original.high)
      writer.write(original.low)
      return [(UniqueMessage.key(.told, key), writer.array)]
    case .opened(let count, let telling):
      writer.write(count)
      writer.write(telling)
      return [(UniqueMessage.key(.opened, nil), writer.array)]
    case .forgotten(let key):
      return [(UniqueMessage.key(.record, key), nil), (UniqueMessage.key(.told, key), nil)]
    }
  }

  init(
    key: UnsafeBufferPointer<UInt8>, value: UnsafeBufferPointer<UInt8>?
  ) throws(ByteCodingError) {
    var reader = ByteReader(UnsafeRawBufferPointer(key))
    guard try reader.read(UInt8.self) == UniqueMessage.marker, let kind = Kind(rawValue: try reader.read()) else {
      throw ByteCodingError("no value of a rule of uniqueness")
    }
    var of = UniqueKey(value: .init(high: 0, low: 0), identity: .init(high: 0, low: 0))
    if kind != .opened {
      of.value = ValueDigest(high: try reader.read(), low: try reader.read())
      of.identity = ValueDigest(high: try reader.read(), low: try reader.read())
    }
    guard let value else {
      self = .forgotten(of)
      return
    }
    var values = ByteReader(UnsafeRawBufferPointer(value))
    guard try values.read(UInt8.self) == UniqueMessage.version else {
      throw ByteCodingError("a value of a rule of uniqueness in another version")
    }
    switch kind {
    case .record: self = .record(of, try UniqueRecord(identity: of.identity, from: &values))
    case .told:
      let revision: Int64 = try values.read()
      let opened: Int64 = try values.read()
      self = .told(
        of, revision: revision, original: ValueDigest(high: try values.read(), low: try values.read()), opened: opened)
    case .opened: self = .opened(try values.read(), telling: try values.read())
    }
  }
}

extension UniqueRecord {
  fileprivate func write(into writer: inout ByteWriter) {
    writer.write(document.high)
    writer.write(document.low)
    writer.write(time_ms)
    writer.write(within_ms)
    writer.write(UInt8((flags ? 1 : 0) | (isOrder ? 2 : 0)))
    writer.write(currency.rawValue)
    for text in [source, rule, subject, place, order, id, customer] { writer.write(text: text) }
    writer.writeVarint(UInt64(dimensions.count))
    for text in dimensions { writer.write(text: text) }
  }

  fileprivate init(identity: ValueDigest, from reader: inout ByteReader) throws(ByteCodingError) {
    self.identity = identity
    document = ValueDigest(high: try reader.read(), low: try reader.read())
    time_ms = try reader.read()
    within_ms = try reader.read()
    let bits: UInt8 = try reader.read()
    (flags, isOrder) = (bits & 1 != 0, bits & 2 != 0)
    currency = Currency(rawValue: try reader.read())
    source = try reader.readText()
    rule = try reader.readText()
    subject = try reader.readText()
    place = try reader.readText()
    order = try reader.readText()
    id = try reader.readText()
    customer = try reader.readText()
    dimensions = []
    for _ in 0..<(try reader.readCount(atMost: 8)) { dimensions.append(try reader.readText()) }
  }
}

/// Finds the values of a source's records, where it has rules of uniqueness. For one thread.
struct UniqueReader {
  private let rules: [UniqueRule]
  /// Before the value: rules of two sources, or of one, do not meet.
  private let prefixes: [[UInt8]]
  private let source: String
  private let topic: String
  private let isRouted: Bool
  private let isFile: Bool
  private let dimensionCount: Int

  /// - Parameter file: Path of the file that the records come from, where they do.
  /// - Returns: nil where the source has no such rules.
  init?(_ source: SourceSettings, dimensionCount: Int, file: String? = nil) {
    guard !source.uniqueRules.isEmpty else { return nil }
    rules = source.uniqueRules
    prefixes = rules.map { rule in
      var writer = ByteWriter(capacity: 64)
      writer.write(text: source.name)
      writer.write(text: rule.name)
      writer.write(text: rule.subject)
      return writer.array
    }
    self.source = source.name
    topic = file ?? source.originalTopic
    isRouted = source.isRouted
    isFile = file != nil
    self.dimensionCount = dimensionCount
  }

  func read(_ event: borrowing OrderEvent, _ body: (UniqueKey, UniqueRecord) -> Void) {
    guard !event.isDelete else { return }
    let bit: UInt32 = 1 << UInt32(event.kind.rawValue)
    for at in rules.indices where rules[at].applies & bit != 0 {
      var value = ByteWriter(capacity: 128)
      value.write(bytes: prefixes[at])
      var isWhole = true
      for field in rules[at].fields where isWhole { isWhole = Self.append(event.ruleText(field), to: &value) }
      guard isWhole else { continue }
      let identity = self.identity(event.order, event.id, event.position)
      body(
        UniqueKey(value: ValueDigest(value.bytes), identity: identity),
        record(
          at, identity, document: identity, event.time_ms, event.order, event.id, isOrder: true, event.customer,
          event.currency, event.position, event.dimensions))
    }
  }

  func read(_ posting: borrowing Posting, _ body: (UniqueKey, UniqueRecord) -> Void) {
    // A reversal names what it takes back.
    guard !posting.isDelete, !posting.isReversal, posting.reverses.isEmpty else { return }
    let bit: UInt32 = 1 << UInt32(posting.role.rawValue)
    for at in rules.indices where rules[at].applies & bit != 0 {
      var value = ByteWriter(capacity: 128)
      value.write(bytes: prefixes[at])
      var isWhole = true
      for field in rules[at].fields where isWhole { isWhole = Self.append(posting.ruleText(field), to: &value) }
      guard isWhole else { continue }
      let id = posting.journal.isEmpty ? posting.id : posting.journal
      let identity = self.identity(posting.order, id, posting.position)
      let document = id.isEmpty ? identity : self.identity(.empty, id, posting.position)
      body(
        UniqueKey(value: ValueDigest(value.bytes), identity: identity),
        record(
          at, identity, document: document, posting.time_ms, posting.order, id, isOrder: false, posting.customer,
          posting.currency, posting.position, posting.dimensions))
    }
  }

  /// - Returns: whether there is a text.
  private static func append(_ text: ByteView, to writer: inout ByteWriter) -> Bool {
    guard let base = text.base, text.count > 0 else { return false }
    writer.writeVarint(UInt64(text.count))
    writer.write(raw: base, count: text.count)
    return true
  }

  /// By the id, or without one by the place.
  private func identity(_ order: ByteView, _ id: ByteView, _ position: RecordPosition) -> ValueDigest {
    var writer = ByteWriter(capacity: 128)
    _ = Self.append(order, to: &writer)
    writer.write(UInt8(0))
    if !Self.append(id, to: &writer) {
      writer.write(position.partition)
      writer.write(position.offset)
    }
    return ValueDigest(writer.bytes)
  }

  private func record(
    _ at: Int, _ identity: ValueDigest, document: ValueDigest, _ time_ms: Int64, _ order: ByteView, _ id: ByteView,
    isOrder: Bool, _ customer: ByteView, _ currency: Currency, _ position: RecordPosition,
    _ dimensions: InlineArray<8, ByteView>
  ) -> UniqueRecord {
    let rule = rules[at]
    var (partition, offset) = (position.partition, position.offset)
    if isRouted { (partition, offset) = (Int32(truncatingIfNeeded: offset >> 44), offset & (1 << 44 - 1)) }
    return UniqueRecord(
      identity: identity, document: document, time_ms: time_ms, within_ms: rule.within_ms,
      flags: rule.severity == .flag, source: source, rule: rule.name, subject: rule.subject,
      place: isFile ? "\(topic), line \(offset)" : "topic \(topic), partition \(partition), offset \(offset)",
      order: order.string, id: id.string, isOrder: isOrder, customer: customer.string, currency: currency,
      dimensions: (0..<dimensionCount).map { dimensions[$0].string })
  }
}
