import CShims
import Domain

/// What became of a record that is no fault.
public enum DecodeOutcome: Sendable, Equatable {
  /// So many canonical records were appended.
  case appended(Int)
  /// The mapping says that this record is not for this reconciliation.
  case skipped
  /// A null payload, as compaction and CDC connectors send it behind a delete.
  case tombstone
}

/// The source-format half of decoding, shared by orders and ledger: from bytes to the texts of the mapped fields.
struct Extractor: ~Copyable {
  let plan: MappingPlan
  private var scanner: JSONScanner
  private var scratch = ScratchArena()
  private let row: CSVRow
  private let sums: LineReader
  /// CSV: slot by column number, −1 where a column is not mapped.
  private var columnSlots: [Int] = []
  private var hasColumns = false
  private var key = ByteView.empty
  /// Whether paths read the image before the change.
  private(set) var readsBefore = false
  private(set) var isDelete = false
  private(set) var isUpsert = false
  /// Whether a row of a change feed was there before, in another image.
  private(set) var isUpdate = false
  /// Whether what is thrown is that the table of a part says to skip the record.
  private var isSkippedByPart = false

  let fields: QuickFields
  /// `fields.slots`, or those of the image before the change.
  private(set) var slots: UnsafeMutablePointer<UInt32>
  let values: UnsafeMutablePointer<CapturedValue>
  /// First byte of the record.
  private(set) var recordStart: UnsafePointer<UInt8>
  let exponents = Currency.exponents
  /// Amounts on their way from the record.
  let amounts = UnsafeMutablePointer<Int64>.allocate(capacity: AmountComponent.count)
  /// Room for what lines add up to, as a number is written; it is read before the next one comes.
  let sumText = UnsafeMutablePointer<UInt8>.allocate(capacity: 64)
  /// Dates met at the start of timestamps.
  let days = TextMemo()
  private let format: RecordFormat
  private let maximumRecordBytes: Int
  private let hasFilters: Bool
  private let masker: FieldMasker?
  private var avro: AvroReader?
  /// One record of forty ends so near to a page's end that nothing behind it may be looked at. Up to this size it is
  /// moved to where there is room, which costs less than scanning it in the general way.
  private static let maximumMoved = 1 << 14

  /// `isQuick`: whether layouts are learned and ordinary fields read without a detour. Without, every record is decoded
  /// in the general way, which is the reference.
  /// `schemas`: for Avro.
  /// `amounts`: the fields that are amounts.
  init(
    plan: MappingPlan, memoised: [Int], amounts: Range<Int>, isQuick: Bool, walker: tieout_walk,
    schemas: (any AvroSchemas)? = nil
  ) {
    self.plan = plan
    scanner = JSONScanner(
      nodes: plan.nodes, slotCount: plan.slotCount, maximumDepth: plan.specification.maximumDepth, learns: isQuick,
      walker: walker)
    fields = QuickFields(plan: plan, memoised: memoised, amounts: amounts, isUsed: isQuick)
    slots = fields.slots
    values = scanner.values
    recordStart = UnsafePointer(bitPattern: 1)!
    format = plan.specification.format
    // Places in a record are counted in 32 bits.
    maximumRecordBytes = min(plan.specification.maximumRecordBytes, Int(UInt32.max) - 1)
    hasFilters = !plan.filters.isEmpty
    masker = plan.specification.maskKey.map { FieldMasker($0) }
    avro =
      plan.specification.format.isAvro
      ? AvroReader(
        nodes: plan.nodes, schemas: schemas ?? NoSchemas.only, maximumDepth: plan.specification.maximumDepth) : nil
    row = CSVRow(dialect: plan.specification.csv)
    sums = LineReader(plan.specification.format, plan.sums)
    seen = Array(repeating: 0, count: plan.watched.count)
    watchedSlots = plan.watched.flatMap(\.slots)
    watchedPaths = plan.watched.map { .init(field: $0.field, path: $0.paths.joined(separator: " or ")) }
    watchedEnds = plan.watched.reduce(into: []) { $0.append(($0.last ?? 0) + $1.slots.count) }
    watchedSums = plan.watched.map(\.sums)
    if plan.specification.format == .csv, !plan.specification.csv.columns.isEmpty {
      setColumns(plan.specification.csv.columns)
    } else if plan.specification.format == .csv, !plan.specification.csv.hasHeader {
      let most = plan.columns.compactMap { Int($0.name) }.max() ?? 0
      setColumns((1...max(most, 1)).map(String.init))
    }
  }

  deinit {
    amounts.deallocate()
    sumText.deallocate()
  }

  // MARK: - Paths that lead to nothing

  /// So many of the first records are looked at, then one of so many.
  private static let everyRecord = 256
  private static let interval = 64
  private var untilLook = 1
  private var isByLine = false
  private var looked = 0
  private var seen: [Int]
  /// The slots of all watched paths one after the other, and where those of each end.
  private let watchedSlots: [Int]
  private let watchedEnds: [Int]
  /// Which sums of lines belong to it.
  private let watchedSums: [[Int]]
  private let watchedPaths: [PathCounts.Path]

  /// Which of the mapping's paths led to something, among the records that were looked at.
  var pathCounts: PathCounts {
    PathCounts(looked: looked, paths: watchedPaths, seen: seen)
  }

  /// Tells the line of the next record. Then lines decide which records are looked at, whoever reads them.
  @inline(__always)
  mutating func choose(line: Int64) {
    isByLine = true
    untilLook = line <= Int64(Extractor.everyRecord) || line % Int64(Extractor.interval) == 0 ? 1 : .max
  }

  @inline(never)
  private mutating func look() {
    looked += 1
    untilLook = isByLine ? .max : looked < Extractor.everyRecord ? 1 : Extractor.interval
    // Plain loops: no closure is made for it.
    let values = scanner.values
    var at = 0
    for index in 0..<watchedEnds.count {
      var isThere = false
      while at < watchedEnds[index] {
        let kind = values[watchedSlots[at]].kind
        if kind != .absent, kind != .null { isThere = true }
        at += 1
      }
      for sum in watchedSums[index] where lineSum(sum).isFound { isThere = true }
      if isThere { seen[index] += 1 }
    }
  }

  mutating func reset() { scratch.reset() }

  var misses: Int { scanner.misses }

  private mutating func setColumns(_ names: [String]) {
    columnSlots = names.enumerated().map { number, name in
      plan.columns.first { $0.name == name || $0.name == String(number + 1) }?.slot ?? -1
    }
    row.names.all = names
    hasColumns = true
  }

  /// Takes the first line of a CSV file.
  mutating func readHeader(_ line: ByteView) throws(DataFault) {
    var names: [String] = []
    try row.split(line, scratch: &scratch) { _, text in names.append(text.string) }
    for column in plan.columns where !names.contains(column.name) && Int(column.name) == nil {
      let hint = nearestName(column.name, in: names).map { "; did you mean '\($0)'?" } ?? ""
      throw DataFault(.schemaInvalid, field: column.name, detail: "the header has no such column\(hint)")
    }
    for column in plan.columns where names.count(where: { $0 == column.name }) > 1 {
      throw DataFault(
        .schemaInvalid, field: column.name,
        detail: "the header names this column more than once, and it is mapped: which one is meant?")
    }
    setColumns(names)
  }

  enum Taken {
    case record, skipped, tombstone
    /// An update of a row of a change feed whose new image does not pass the filters: what counted of it counts no more.
    case leaving
    /// A deletion whose image before it does not have what the filters ask for.
    case unfiltered
  }

  /// Reads the image before the change from now on.
  mutating func readBefore() {
    readsBefore = true
    slots = fields.slotsBefore
  }

  /// Reads one record so that `text` can be asked for its fields.
  @inline(__always)
  mutating func take(key: ByteView, payload: ByteView) throws(DataFault) -> Taken {
    self.key = key
    if format.isEnvelope {
      readsBefore = false
      slots = fields.slots
      isDelete = false
      isUpsert = false
      isUpdate = false
    }
    guard let start = payload.base else { return .tombstone }
    guard payload.count <= maximumRecordBytes else { throw tooLarge(payload.count) }
    recordStart = start
    switch format {
    case .json: try scan(payload)
    case .debezium:
      // An empty payload is how some sinks write a tombstone; a JSON null is how others do.
      if payload.count == 0 { return .tombstone }
      if payload.count == 4, start[0] == UInt8(ascii: "n") { return .tombstone }
      try scan(payload)
      guard let taken = try takeEnvelope() else { break }
      return taken
    case .csv: try split(payload)
    case .avro, .debeziumAvro:
      if payload.count == 0 { return .tombstone }
      scanner.clear()
      try avro!.read(payload, values: scanner.values, scratch: &scratch)
      if format == .debeziumAvro, let taken = try takeEnvelope() { return taken }
    }
    if hasFilters, !(try passesFilters()) {
      if isUpdate { return .leaving }
      if isDelete, try mayHavePassed() { return .unfiltered }
      return .skipped
    }
    untilLook &-= 1
    if untilLook == 0 { look() }
    return .record
  }

  private func tooLarge(_ count: Int) -> DataFault {
    DataFault(
      .schemaInvalid, detail: "the record has \(count) bytes, more than the limit of \(maximumRecordBytes)")
  }

  /// Whether the image that is read passes the filters.
  mutating func passesFilters() throws(DataFault) -> Bool {
    for index in 0..<plan.filters.count {
      let filter = plan.filters[index]
      let text = try text(filter.value)
      var isListed = false
      for at in 0..<filter.texts.count where filter.texts[at].elementsEqual(text) { isListed = true }
      if isListed == filter.negated { return false }
    }
    return true
  }

  /// Whether the row may be one that passed the filters: all that they say of its image is that something lacks.
  mutating func mayHavePassed() throws(DataFault) -> Bool {
    for filter in plan.filters {
      let text = try text(filter.value)
      if !text.isEmpty, filter.texts.contains(where: { $0.elementsEqual(text) }) == filter.negated { return false }
    }
    return true
  }

  @inline(__always)
  private mutating func scan(_ payload: ByteView) throws(DataFault) {
    var payload = payload
    var hasMargin = !JSONScanner.endsAtPage(payload)
    // An empty payload has nothing to move, and the scanner says what is wrong with it.
    if !hasMargin, payload.count > 0, payload.count <= Extractor.maximumMoved {
      payload = scratch.copy(payload)
      recordStart = payload.base!
      hasMargin = true
    }
    do throws(JSONFault) {
      try scanner.scan(payload, hasMargin: hasMargin)
    } catch {
      throw DataFault(.schemaInvalid, detail: "not valid JSON at byte \(error.offset): \(error.message)")
    }
    if !scanner.isObject {
      throw DataFault(.schemaInvalid, detail: "the record is not a JSON object")
    }
  }

  /// Reads `op`. Returns nil where the record goes on to be decoded.
  @inline(__always)
  private mutating func takeEnvelope() throws(DataFault) -> Taken? {
    let op = values[plan.opSlot]
    guard op.kind == .string, op.count == 1 else {
      throw DataFault(.schemaInvalid, field: "op", detail: "the envelope has no operation of one letter")
    }
    switch op.base.pointee {
    case UInt8(ascii: "c"): break
    case UInt8(ascii: "r"): isUpsert = true
    case UInt8(ascii: "u"):
      isUpsert = true
      isUpdate = true
    case UInt8(ascii: "d"):
      isDelete = true
      readBefore()
    case UInt8(ascii: "m"): return .skipped
    case UInt8(ascii: "t"):
      throw DataFault(
        .schemaInvalid, field: "op",
        detail: "the table was emptied (TRUNCATE), and its rows still count here: take them out by deletions")
    default: throw DataFault(.schemaInvalid, field: "op", detail: "unknown operation '\(quoted(op.view))'")
    }
    let slot = isDelete ? plan.beforeSlot : plan.afterSlot
    guard isObject(slot) else {
      throw DataFault(.schemaInvalid, field: isDelete ? "before" : "after", detail: "the envelope has no such image")
    }
    return nil
  }

  private func isObject(_ slot: Int) -> Bool { scanner.values[slot].kind == .composite }

  /// Whether an update carries the image before the change.
  var hasBefore: Bool { plan.beforeSlot >= 0 && isObject(plan.beforeSlot) }

  private mutating func split(_ payload: ByteView) throws(DataFault) {
    guard hasColumns else { throw DataFault(.schemaInvalid, detail: "a row before the header") }
    scanner.clear()
    guard payload.count > 0 else { throw DataFault(.schemaInvalid, detail: "empty row") }
    let values = scanner.values
    let slots = columnSlots
    let isOpenEnded = !plan.specification.csv.hasHeader && plan.specification.csv.columns.isEmpty
    let count = try row.split(payload, scratch: &scratch) { number, text in
      if number < slots.count, slots[number] >= 0, let base = text.base {
        values[slots[number]] = CapturedValue(base: base, count: text.count, kind: .string)
      }
    }
    guard isOpenEnded || count == slots.count || count < slots.count && plan.specification.csv.isRagged else {
      throw DataFault(
        .schemaInvalid,
        detail: "the row has \(count) columns, the header \(slots.count)"
          + (count < slots.count ? " (with csv.ragged what is missing is empty)" : ""))
    }
  }

  // MARK: - Texts

  /// The text of an expression, stripped of white space around it; empty where it is absent or null.
  @inline(__always)
  mutating func text(_ value: borrowing CompiledValue) throws(DataFault) -> ByteView {
    if value.kind == .slot { return try slotText(readsBefore ? value.slotBefore : value.slot) }
    return try composedText(value)
  }

  @inline(__always)
  private mutating func slotText(_ slot: Int) throws(DataFault) -> ByteView {
    let value = scanner.values[slot]
    switch value.kind {
    case .string, .number, .bool: return trimmed(value.view)
    case .absent, .null: return .empty
    case .escapedString:
      let target = scratch.reserve(Int(value.count))
      let count = JSONScanner.unescape(value.view, into: target)
      return trimmed(scratch.commit(count))
    case .composite:
      throw DataFault(.schemaInvalid, detail: "an object or array where a value is mapped")
    }
  }

  private mutating func composedText(_ value: CompiledValue) throws(DataFault) -> ByteView {
    switch value.kind {
    case .slot: return try slotText(readsBefore ? value.slotBefore : value.slot)
    case .key: return trimmed(key)
    case .constant: return value.text
    case .none: return .empty
    case .first:
      for index in 0..<value.parts.count {
        let text = try text(value.parts[index])
        if !text.isEmpty { return text }
      }
      return .empty
    case .concatenation: return try concatenated(value)
    case .changed: return try changed(value)
    case .sum: return try summed(value)
    }
  }

  /// What the lines of the record add up to, as a number; empty where there are none.
  @inline(never)
  private mutating func summed(_ value: CompiledValue) throws(DataFault) -> ByteView {
    let sum = lineSum(value.slot)
    if sum.isBroken {
      throw DataFault(
        .nonDecimalAmount, detail: "in \(plan.sums[value.slot].path.text) is something that is no amount")
    }
    guard sum.isPresent else { return .empty }
    var text = formatDecimal(sum.value_u, decimals: 6, leastDecimals: 0)
    let count = text.utf8.count
    text.withUTF8 { sumText.update(from: $0.baseAddress!, count: count) }
    return ByteView(base: sumText, count: count)
  }

  private func lineSum(_ sum: Int) -> LineSum {
    sums.sum(sum, ByteView(base: scanner.start, count: scanner.end - scanner.start), before: readsBefore)
  }

  /// A part after what is done to it.
  @inline(never)
  private mutating func changed(_ value: CompiledValue) throws(DataFault) -> ByteView {
    var text = try text(value.parts[0])
    if text.isEmpty { return text }
    let change = plan.changes[value.slot]
    if change.stripsLeadingZeros { text = withoutZeros(text) }
    if let table = change.table {
      let found = table.find(text)
      if found >= 0 {
        text = table.values[found]
      } else {
        switch table.unlisted {
        case .keep: break
        case .replace: text = table.replacement
        case .skip:
          isSkippedByPart = true
          throw DataFault(.masterDataMissing, detail: "")
        case .reject: throw missing(text, table, isMasked: change.isMasked)
        }
      }
    }
    guard !text.isEmpty, let base = text.base else { return .empty }
    // Characters are counted, not the bytes that continue one.
    let lacking = change.width - text.buffer.reduce(0) { $0 + ($1 & 0xc0 == 0x80 ? 0 : 1) }
    guard lacking > 0 else { return text }
    let target = scratch.reserve(lacking + text.count)
    target.update(repeating: UInt8(ascii: "0"), count: lacking)
    (target + lacking).update(from: base, count: text.count)
    return scratch.commit(lacking + text.count)
  }

  @inline(__always)
  private func withoutZeros(_ text: ByteView) -> ByteView {
    var text = text
    while text.count > 1, text.base!.pointee == UInt8(ascii: "0") {
      text = ByteView(base: text.base! + 1, count: text.count - 1)
    }
    return text
  }

  /// Absent as a whole where all that could differ is absent: constants alone say nothing. Of an id, where any of it is.
  private mutating func concatenated(_ value: CompiledValue) throws(DataFault) -> ByteView {
    var total = 0
    var isPresent = false
    // Eight pieces are more than keys are made of; a longer expression pays for an array.
    var pieces: InlineArray<8, ByteView> = .init(repeating: .empty)
    var more: [ByteView] = []
    for index in 0..<value.parts.count {
      let part = value.parts[index]
      let piece = try text(part)
      if part.kind != .constant, !part.isConstant {
        if !piece.isEmpty { isPresent = true } else if value.isWhole { return .empty }
      }
      total += piece.count
      if index < 8 { pieces[index] = piece } else { more.append(piece) }
    }
    guard isPresent else { return .empty }
    let target = scratch.reserve(total)
    var at = target
    for index in 0..<min(value.parts.count, 8) { at = ScratchArena.append(pieces[index], to: at) }
    for piece in more { at = ScratchArena.append(piece, to: at) }
    return scratch.commit(total)
  }

  @inline(__always)
  private func trimmed(_ text: ByteView) -> ByteView {
    guard var base = text.base else { return .empty }
    var count = text.count
    while count > 0, base.pointee <= 0x20 {
      base += 1
      count -= 1
    }
    while count > 0, base[count - 1] <= 0x20 { count -= 1 }
    return count == 0 ? .empty : ByteView(base: base, count: count)
  }

  /// The text of a field: expression, default, table. `isSkipped` is set where its table says to skip the record.
  mutating func fieldText(_ index: Int, isSkipped: inout Bool) throws(DataFault) -> ByteView {
    try finish(plan.fields + index, isSkipped: &isSkipped)
  }

  mutating func finish(_ field: UnsafePointer<CompiledField>, isSkipped: inout Bool) throws(DataFault) -> ByteView {
    var text: ByteView
    do throws(DataFault) {
      text =
        field.pointee.value.kind == .slot
        ? try slotText(readsBefore ? field.pointee.value.slotBefore : field.pointee.value.slot)
        : try composedText(field.pointee.value)
    } catch {
      if isSkippedByPart {
        isSkippedByPart = false
        isSkipped = true
        return .empty
      }
      throw DataFault(error.reason, field: field.pointee.name, detail: error.detail)
    }
    if text.isEmpty { text = field.pointee.fallback }
    if field.pointee.stripsLeadingZeros { text = withoutZeros(text) }
    if let table = field.pointee.table, !text.isEmpty { text = try look(text, up: table, field, isSkipped: &isSkipped) }
    return field.pointee.mask == .none ? text : masked(text, field.pointee.mask)
  }

  private func look(
    _ text: ByteView, up table: CompiledTable, _ field: UnsafePointer<CompiledField>, isSkipped: inout Bool
  ) throws(DataFault) -> ByteView {
    let found = table.find(text)
    if found >= 0 { return table.values[found] }
    switch table.unlisted {
    case .keep: return text
    case .replace: return table.replacement
    case .skip:
      isSkipped = true
      return .empty
    case .reject:
      var fault = missing(text, table, isMasked: field.pointee.mask != .none)
      fault.field = field.pointee.name
      throw fault
    }
  }

  private func missing(_ text: ByteView, _ table: CompiledTable, isMasked: Bool) -> DataFault {
    let shown = isMasked ? "the value (masked)" : "'\(quoted(text))'"
    return DataFault(.masterDataMissing, detail: "\(shown) is not in the table '\(table.name)'")
  }

  /// Absent stays absent.
  private mutating func masked(_ text: ByteView, _ mask: FieldMask) -> ByteView {
    guard !text.isEmpty else { return text }
    switch mask {
    case .none: return text
    case .redact:
      return ByteView(base: FieldMasker.redacted.utf8Start, count: FieldMasker.redacted.utf8CodeUnitCount)
    case .hash:
      // The plan has refused a hash without a key.
      masker.unsafelyUnwrapped.hash(text, into: scratch.reserve(FieldMasker.hashBytes))
      return scratch.commit(FieldMasker.hashBytes)
    }
  }
}

/// A piece of a record for an error message.
func quoted(_ text: ByteView) -> String {
  let shown = ByteView(base: text.base, count: min(text.count, DataFault.maximumQuotedBytes))
  return shown.string + (shown.count < text.count ? "…" : "")
}

/// Where no registry is configured.
private final class NoSchemas: AvroSchemas {
  static let only = NoSchemas()
  func known(_ id: UInt32) -> AvroSchema? { nil }
}

/// Among the records of a source that were looked at: which of the mapping's paths led to something. A path that no record
/// has is a misspelt one, or one of something that is rare.
public struct PathCounts: Sendable, Equatable {
  public struct Path: Sendable, Hashable, Comparable {
    /// The field of the mapping, and the path; several of which one is enough are joined by "or".
    public var field: String
    public var path: String

    public static func < (a: Path, b: Path) -> Bool { (a.field, a.path) < (b.field, b.path) }
  }

  public private(set) var looked = 0
  /// The paths of the mapping, and in how many of the records each led to something. Counts are taken with every epoch, so
  /// the names are made once.
  public private(set) var paths: [Path] = []
  public private(set) var seen: [Int] = []

  public init() {}

  init(looked: Int, paths: [Path], seen: [Int]) {
    self.looked = looked
    self.paths = paths
    self.seen = seen
  }

  /// Adds what other records have; where these are read by another mapping, that one alone counts.
  public mutating func add(_ other: PathCounts) {
    guard paths == other.paths else {
      self = other
      return
    }
    looked += other.looked
    for at in seen.indices { seen[at] += other.seen[at] }
  }

  /// Paths that led to nothing in any of the records.
  public var missing: [Path] { Set(zip(paths, seen).lazy.filter { $1 == 0 }.map { $0.0 }).sorted() }
}
