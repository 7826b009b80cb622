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
  /// CSV: slot by column number, −1 where a column is not mapped.
  private var columnSlots: [Int] = []
  private var hasColumns = false
  private var key = ByteView.empty
  /// Whether paths read the image before the change.
  var readsBefore = false
  private(set) var isDelete = false
  private(set) var isUpsert = false

  init(plan: MappingPlan) {
    self.plan = plan
    scanner = JSONScanner(
      nodes: plan.nodes, slotCount: plan.slotCount, maximumDepth: plan.specification.maximumDepth)
    row = CSVRow(dialect: plan.specification.csv)
    if plan.specification.format == .csv, !plan.specification.csv.columns.isEmpty {
      setColumns(plan.specification.csv.columns)
    } else if plan.specification.format == .csv, !plan.specification.csv.hasHeader {
      let most = plan.columns.compactMap { Int($0.name) }.max() ?? 0
      setColumns((1...max(most, 1)).map(String.init))
    }
  }

  mutating func reset() { scratch.reset() }

  private mutating func setColumns(_ names: [String]) {
    columnSlots = names.enumerated().map { number, name in
      plan.columns.first { $0.name == name || $0.name == String(number + 1) }?.slot ?? -1
    }
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
    setColumns(names)
  }

  enum Taken { case record, skipped, tombstone }

  /// Reads one record so that `text` can be asked for its fields.
  mutating func take(key: ByteView, payload: ByteView) throws(DataFault) -> Taken {
    self.key = key
    readsBefore = false
    isDelete = false
    isUpsert = false
    guard payload.base != nil else { return .tombstone }
    guard payload.count <= plan.specification.maximumRecordBytes else {
      throw DataFault(
        .schemaInvalid,
        detail: "the record has \(payload.count) bytes, more than the limit of \(plan.specification.maximumRecordBytes)"
      )
    }
    switch plan.specification.format {
    case .json: try scan(payload)
    case .debezium:
      // An empty payload is how some sinks write a tombstone; a JSON null is how others do.
      if payload.count == 0 { return .tombstone }
      if payload.count == 4, payload.base![0] == UInt8(ascii: "n") { return .tombstone }
      try scan(payload)
      guard let taken = try takeEnvelope() else { break }
      return taken
    case .csv: try split(payload)
    }
    for filter in plan.filters {
      let text = try text(filter.value)
      let isListed = filter.texts.contains { $0.elementsEqual(text) }
      if isListed == filter.negated { return .skipped }
    }
    return .record
  }

  private mutating func scan(_ payload: ByteView) throws(DataFault) {
    do throws(JSONFault) {
      try scanner.scan(payload)
    } catch {
      throw DataFault(.schemaInvalid, detail: "not valid JSON at byte \(error.offset): \(error.message)")
    }
    // The root of a record is an object, whatever the paths ask for.
    var at = 0
    while at < payload.count, payload.base![at] <= 0x20 { at += 1 }
    guard at < payload.count, payload.base![at] == UInt8(ascii: "{") else {
      throw DataFault(.schemaInvalid, detail: "the record is not a JSON object")
    }
  }

  /// Reads `op`. Returns nil where the record goes on to be decoded.
  private mutating func takeEnvelope() throws(DataFault) -> Taken? {
    let op = scanner.values[plan.opSlot]
    guard op.kind == .string, op.count == 1 else {
      throw DataFault(.schemaInvalid, field: "op", detail: "the envelope has no operation of one letter")
    }
    switch op.base.pointee {
    case UInt8(ascii: "c"): break
    case UInt8(ascii: "r"), UInt8(ascii: "u"): isUpsert = true
    case UInt8(ascii: "d"):
      isDelete = true
      readsBefore = true
    case UInt8(ascii: "t"), UInt8(ascii: "m"): return .skipped
    default: throw DataFault(.schemaInvalid, field: "op", detail: "unknown operation '\(quoted(view(op)))'")
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
    var extra = 0
    try row.split(payload, scratch: &scratch) { number, text in
      guard number < slots.count else {
        if !isOpenEnded { extra += 1 }
        return
      }
      if slots[number] >= 0, let base = text.base {
        values[slots[number]] = CapturedValue(base: base, count: text.count, kind: .string)
      }
    }
    guard extra == 0 else {
      throw DataFault(.schemaInvalid, detail: "the row has \(slots.count + extra) columns, the header \(slots.count)")
    }
  }

  // MARK: - Texts

  private func view(_ value: CapturedValue) -> ByteView { ByteView(base: value.base, count: value.count) }

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
    case .string, .number, .bool: return trimmed(view(value))
    case .absent, .null: return .empty
    case .escapedString:
      let target = scratch.reserve(value.count)
      let count = JSONScanner.unescape(view(value), into: target)
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
      for part in value.parts {
        let text = try text(part)
        if !text.isEmpty { return text }
      }
      return .empty
    case .concatenation:
      // Absent as a whole where all that could differ is absent: constants alone say nothing.
      var total = 0
      var isPresent = false
      var pieces: [ByteView] = []
      for part in value.parts {
        let piece = try text(part)
        if part.kind != .constant, !piece.isEmpty { isPresent = true }
        total += piece.count
        pieces.append(piece)
      }
      guard isPresent else { return .empty }
      let target = scratch.reserve(total)
      var at = 0
      for piece in pieces where piece.count > 0 {
        (target + at).update(from: piece.base!, count: piece.count)
        at += piece.count
      }
      return scratch.commit(total)
    }
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
      throw DataFault(error.reason, field: field.pointee.name, detail: error.detail)
    }
    if text.isEmpty { text = field.pointee.fallback }
    if field.pointee.stripsLeadingZeros {
      while text.count > 1, text.base!.pointee == UInt8(ascii: "0") {
        text = ByteView(base: text.base! + 1, count: text.count - 1)
      }
    }
    guard let table = field.pointee.table, !text.isEmpty else { return text }
    let found = table.find(text)
    if found >= 0 { return table.values[found] }
    switch table.unlisted {
    case .keep: return text
    case .replace: return table.replacement
    case .skip:
      isSkipped = true
      return .empty
    case .reject:
      throw DataFault(
        .masterDataMissing, field: field.pointee.name, detail: "'\(quoted(text))' is not in the table '\(table.name)'")
    }
  }
}

/// A piece of a record for an error message.
func quoted(_ text: ByteView) -> String {
  let shown = ByteView(base: text.base, count: min(text.count, DataFault.maximumQuotedBytes))
  return shown.string + (shown.count < text.count ? "…" : "")
}
