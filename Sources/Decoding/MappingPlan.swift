import Domain

/// A mapping that cannot be compiled: the configuration is wrong, not the data.
public struct MappingError: Error, CustomStringConvertible, Equatable {
  public var source: String
  public var field: String
  public var message: String
  /// The entry of a value table that is at fault.
  public var entry: Entry?

  public struct Entry: Sendable, Hashable {
    public var table: String
    public var key: String

    public init(table: String, key: String) {
      self.table = table
      self.key = key
    }
  }

  public var description: String {
    field.isEmpty ? "source '\(source)': \(message)" : "source '\(source)', field '\(field)': \(message)"
  }
}

/// One step of an expression. Plain data; what it points to lives as long as the plan.
struct CompiledValue: BitwiseCopyable {
  enum Kind: UInt8, BitwiseCopyable { case slot, key, constant, concatenation, first, changed, sum, none }
  var kind: Kind
  /// A concatenation that is nothing where one of its parts is.
  var isWhole = false
  /// A part that is changed and the same for every record all the same.
  var isConstant = false
  /// Slot of the record as it is, and of its image before the change (Debezium). Of a part that is changed, and of
  /// a sum: its place in `MappingPlan.changes` or `sums`.
  var slot = -1
  var slotBefore = -1
  var text = ByteView.empty
  var parts = UnsafeBufferPointer<CompiledValue>(start: nil, count: 0)
}

/// One condition of `where`.
struct CompiledFilter: BitwiseCopyable {
  var value: CompiledValue
  var texts: UnsafeBufferPointer<ByteView>
  var negated: Bool
}

/// A value table, compiled: text → text. A class, so that a field that is passed on copies one reference.
final class CompiledTable: @unchecked Sendable {
  enum Unlisted: UInt8 { case reject, skip, keep, replace }
  var name: String
  var keys: [ByteView]
  var values: [ByteView]
  /// Open addressing by fingerprint: entry + 1, 0 is empty.
  var hash: [Int32]
  var unlisted: Unlisted
  var replacement: ByteView

  init(name: String, keys: [ByteView], values: [ByteView], hash: [Int32]) {
    self.name = name
    self.keys = keys
    self.values = values
    self.hash = hash
    unlisted = .reject
    replacement = .empty
  }

  func find(_ text: ByteView) -> Int {
    let mask = hash.count - 1
    var at = Int(truncatingIfNeeded: Fingerprint(text).high) & mask
    while hash[at] != 0 {
      let entry = Int(hash[at]) - 1
      if keys[entry].elementsEqual(text) { return entry }
      at = (at + 1) & mask
    }
    return -1
  }
}

/// What becomes of a part of a text, see `PartChange`.
struct CompiledChange {
  var stripsLeadingZeros: Bool
  var table: CompiledTable?
  var width: Int
  /// Whether its text must not be shown.
  var isMasked: Bool
}

struct CompiledField {
  var name: String
  var value: CompiledValue
  var table: CompiledTable?
  var time: TimeParser?
  var decimal: DecimalStyle
  var fallback: ByteView
  var stripsLeadingZeros: Bool
  var isMapped: Bool
  var mask = FieldMask.none
}

/// A mapping compiled for decoding; immutable, shared by all workers.
public final class MappingPlan: @unchecked Sendable {
  public let specification: MappingSpecification
  let nodes: [PathNode]
  let slotCount: Int
  /// By `OrderField` or `PostingField` in the order of `allCases`.
  /// In memory that never moves and is never written again, so that decoders read a field without copying it.
  let fields: UnsafePointer<CompiledField>
  let fieldCount: Int
  let dimensions: UnsafePointer<CompiledField>
  let dimensionCount: Int
  let filters: UnsafeBufferPointer<CompiledFilter>
  let amountKind: AmountKind
  let amount: UnsafePointer<CompiledField>
  let otherAmount: UnsafePointer<CompiledField>
  /// Slots of the Debezium envelope.
  let opSlot: Int
  let afterSlot: Int
  let beforeSlot: Int
  private let texts: PlanTexts
  /// CSV: the column names that paths ask for, by slot.
  let columns: [(name: String, slot: Int)]

  let changes: [CompiledChange]
  /// What is added up, and how it is written.
  let sums: [(path: LinePath, style: DecimalStyle)]

  /// What paths look for, to be able to say which of it no record has.
  let watched: [WatchedPath]

  private let amountCount: Int

  enum AmountKind { case none, signed, debitCredit, indicated }

  /// Compiles a mapping; throws where a field, path, table or format is wrong, naming the nearest known word.
  public init(_ specification: MappingSpecification) throws(MappingError) {
    self.specification = specification
    var compiler = Compiler(specification)
    let isOrders = specification.kind == .orders
    let known = isOrders ? OrderField.allCases.map(\.rawValue) : PostingField.allCases.map(\.rawValue)
    for name in specification.fields.keys.sorted() where !known.contains(name) {
      let hint = nearestName(name, in: known).map { "; did you mean '\($0)'?" } ?? ""
      throw compiler.error(name, "unknown field\(hint)")
    }
    let required =
      isOrders
      ? OrderField.allCases.filter(\.isRequired).map(\.rawValue)
      : PostingField.allCases.filter(\.isRequired).map(\.rawValue)
    for name in required where specification.fields[name] == nil {
      throw compiler.error(name, "is required and not mapped")
    }
    guard specification.dimensions.count <= maximumDimensions else {
      throw compiler.error("", "more than \(maximumDimensions) dimensions")
    }
    var fields: [CompiledField] = []
    for name in known {
      let isTime = MappingSpecification.timeFields.contains(name)
      fields.append(try compiler.field(name, specification.fields[name], isTime: isTime))
    }
    self.fields = MappingPlan.pin(fields)
    fieldCount = fields.count
    if isOrders {
      try compiler.checkTable("event", specification.fields["event"], known: OrderEventKind.allCases.map(\.name))
    } else {
      try compiler.checkTable("role", specification.fields["role"], known: AccountRole.allCases.map(\.name))
    }
    var dimensions: [CompiledField] = []
    for (index, mapping) in specification.dimensions.enumerated() {
      dimensions.append(try compiler.field("dimension \(index + 1)", mapping, isTime: false))
    }
    self.dimensions = MappingPlan.pin(dimensions)
    dimensionCount = dimensions.count
    var filters: [CompiledFilter] = []
    for filter in specification.filters {
      filters.append(
        CompiledFilter(
          value: try compiler.value("where", filter.value),
          texts: compiler.texts.pin(filter.oneOf.map { compiler.texts.intern($0) }), negated: filter.negated))
    }
    self.filters = compiler.texts.pin(filters)
    var amounts: [CompiledField] = []
    switch specification.amount {
    case nil:
      guard isOrders else { throw compiler.error("amount", "is required and not mapped") }
      amountKind = .none
      amounts = [try compiler.field("amount", nil, isTime: false)]
    case .signed(let mapping):
      amountKind = .signed
      amounts = [try compiler.field("amount", mapping, isTime: false)]
    case .debitCredit(let debit, let credit):
      amountKind = .debitCredit
      amounts = [
        try compiler.field("amount.debit", debit, isTime: false),
        try compiler.field("amount.credit", credit, isTime: false),
      ]
    case .indicated(let value, let side):
      amountKind = .indicated
      amounts = [
        try compiler.field("amount", value, isTime: false), try compiler.field("amount.side", side, isTime: false),
      ]
      try compiler.checkTable("amount.side", side, known: ["debit", "credit"])
    }
    amountCount = amounts.count
    amount = MappingPlan.pin(amounts)
    otherAmount = amount + (amounts.count - 1)
    if isOrders, specification.amount != nil { throw compiler.error("amount", "belongs to ledger sources") }
    if specification.format.isEnvelope {
      opSlot = try compiler.envelopeSlot("op")
      afterSlot = try compiler.envelopeSlot("after")
      beforeSlot = try compiler.envelopeSlot("before")
    } else {
      opSlot = -1
      afterSlot = -1
      beforeSlot = -1
    }
    nodes = compiler.nodes
    slotCount = compiler.slotCount
    texts = compiler.texts
    columns = compiler.columns
    changes = compiler.changes
    sums = compiler.sums
    watched = compiler.watched
  }

  deinit {
    MappingPlan.unpin(fields, fieldCount)
    MappingPlan.unpin(dimensions, dimensionCount)
    MappingPlan.unpin(amount, amountCount)
  }

  private static func pin(_ fields: [CompiledField]) -> UnsafePointer<CompiledField> {
    let memory = UnsafeMutablePointer<CompiledField>.allocate(capacity: max(fields.count, 1))
    for (index, field) in fields.enumerated() { (memory + index).initialize(to: field) }
    return UnsafePointer(memory)
  }

  private static func unpin(_ fields: UnsafePointer<CompiledField>, _ count: Int) {
    let memory = UnsafeMutablePointer(mutating: fields)
    memory.deinitialize(count: count)
    memory.deallocate()
  }
}

/// A place in the records of a source that its mapping reads.
struct WatchedPath {
  /// The field that is read from it, and the paths, of which one is enough.
  var field: String
  var paths: [String]
  var slots: [Int]
  /// Of lines that are added up, their places in `MappingPlan.sums`.
  var sums: [Int] = []
}

/// Builds the path tree and the compiled fields.
private struct Compiler {
  let specification: MappingSpecification
  var nodes = [PathNode()]
  var slotCount = 0
  var texts = PlanTexts()
  var columns: [(name: String, slot: Int)] = []
  var changes: [CompiledChange] = []
  var sums: [(path: LinePath, style: DecimalStyle)] = []
  var watched: [WatchedPath] = []
  /// Whether the field is masked.
  private var isMasked = false
  /// How the amounts of the field are written.
  private var decimal = DecimalStyle()
  /// Whether what is compiled is the field as a whole, or may be it.
  private var isWholeField = false
  /// Whether the field is an id: what is put together of some of its parts is that of several records.
  private var isIdentity = false

  init(_ specification: MappingSpecification) { self.specification = specification }

  func error(_ field: String, _ message: String) -> MappingError {
    MappingError(source: specification.sourceName, field: field, message: message)
  }

  enum Step: Equatable {
    case key(String)
    case index(Int)
  }

  /// `a.b[0].'c.d'` in steps.
  func steps(_ field: String, _ path: String) throws(MappingError) -> [Step] {
    var steps: [Step] = []
    var rest = Substring(path)
    var mustSeparate = false
    while let first = rest.first {
      if first == "[" {
        guard let close = rest.firstIndex(of: "]"), let index = Int(rest[rest.index(after: rest.startIndex)..<close]),
          index >= 0
        else {
          let hint = rest.hasPrefix("[]") ? " ({sum: '\(path)'} adds all elements up)" : ""
          throw error(field, "'\(path)': an array index in brackets is expected\(hint)")
        }
        steps.append(.index(index))
        rest = rest[rest.index(after: close)...]
        mustSeparate = true
        continue
      }
      if mustSeparate {
        guard first == "." else { throw error(field, "'\(path)': a dot is expected before '\(rest)'") }
        rest = rest.dropFirst()
        mustSeparate = false
        guard !rest.isEmpty else { throw error(field, "'\(path)' ends with a dot") }
        continue
      }
      if first == "'" {
        let body = rest.dropFirst()
        guard let close = body.firstIndex(of: "'") else { throw error(field, "'\(path)': a quote is not closed") }
        steps.append(.key(String(body[..<close])))
        rest = body[body.index(after: close)...]
      } else {
        let stop = rest.firstIndex { $0 == "." || $0 == "[" } ?? rest.endIndex
        guard stop > rest.startIndex else { throw error(field, "'\(path)': a name is missing") }
        steps.append(.key(String(rest[..<stop])))
        rest = rest[stop...]
      }
      mustSeparate = true
    }
    guard !steps.isEmpty else { throw error(field, "the path is empty") }
    return steps
  }

  /// The node that a path leads to below `start`, made where it does not exist.
  mutating func node(_ steps: [Step], below start: Int = 0) -> Int {
    var at = start
    for step in steps {
      switch step {
      case .key(let key):
        let view = texts.intern(key)
        if let found = nodes[at].keys.firstIndex(where: { $0.elementsEqual(view) }) {
          at = nodes[at].children[found]
        } else {
          nodes.append(PathNode())
          nodes[at].keys.append(view)
          nodes[at].children.append(nodes.count - 1)
          at = nodes.count - 1
        }
      case .index(let index):
        if let found = nodes[at].indexes.firstIndex(of: index) {
          at = nodes[at].indexChildren[found]
        } else {
          nodes.append(PathNode())
          nodes[at].indexes.append(index)
          nodes[at].indexChildren.append(nodes.count - 1)
          at = nodes.count - 1
        }
      }
    }
    return at
  }

  mutating func slot(_ steps: [Step]) -> Int {
    let at = node(steps)
    if nodes[at].slot < 0 {
      nodes[at].slot = slotCount
      slotCount += 1
    }
    return nodes[at].slot
  }

  /// A slot inside the Debezium envelope, which stands at the root or, with the schema, under `payload`.
  mutating func envelopeSlot(_ steps: [Step]) -> Int {
    let slot = slot(steps)
    nodes[node([.key("payload")] + steps)].slot = slot
    return slot
  }

  mutating func envelopeSlot(_ path: String) throws(MappingError) -> Int { envelopeSlot(try steps("", path)) }

  mutating func value(_ field: String, _ expression: ValueExpression) throws(MappingError) -> CompiledValue {
    switch expression {
    case .constant(let text):
      return CompiledValue(kind: .constant, text: texts.intern(text))
    case .concatenation(let parts), .firstPresent(let parts):
      guard !parts.isEmpty else { throw error(field, "an empty list") }
      let wasWhole = isWholeField
      if case .concatenation = expression { isWholeField = false }
      defer { isWholeField = wasWhole }
      var compiled: [CompiledValue] = []
      let before = watched.count
      for part in parts { compiled.append(try value(field, part)) }
      if case .firstPresent = expression { watchOne(from: before, parts) }
      let pinned = texts.pin(compiled)
      if case .concatenation = expression {
        return CompiledValue(kind: .concatenation, isWhole: isIdentity, parts: pinned)
      }
      return CompiledValue(kind: .first, parts: pinned)
    case .changed(let part, let change):
      let wasWhole = isWholeField
      isWholeField = false
      defer { isWholeField = wasWhole }
      let compiled = texts.pin([try value(field, part)])
      changes.append(
        CompiledChange(
          stripsLeadingZeros: change.stripsLeadingZeros, table: change.table.map { table($0) }, width: change.width,
          isMasked: isMasked))
      let isConstant = compiled[0].kind == .constant || compiled[0].isConstant
      return CompiledValue(kind: .changed, isConstant: isConstant, slot: changes.count - 1, parts: compiled)
    case .sum(let path): return try sum(field, path)
    case .path(let path):
      if path == "$key" { return CompiledValue(kind: .key) }
      if path.hasPrefix("$key.") || path.hasPrefix("$key["), specification.format != .csv {
        throw error(field, "'\(path)': the key of a record is one text, $key, and is not looked into")
      }
      let compiled = try slotValue(field, path)
      watched.append(WatchedPath(field: field, paths: [path], slots: [compiled.slot, compiled.slotBefore]))
      return compiled
    }
  }

  /// Of several paths of which the first present is taken, one is enough; with a constant or the key among them, none.
  private mutating func watchOne(from first: Int, _ parts: [ValueExpression]) {
    let all = watched[first...]
    watched.removeSubrange(first...)
    func isAlwaysThere(_ part: ValueExpression) -> Bool {
      switch part {
      case .constant, .path("$key"): true
      case .changed(let part, _): isAlwaysThere(part)
      default: false
      }
    }
    let needsNone = parts.contains(where: isAlwaysThere)
    guard let one = all.first, !needsNone else { return }
    watched.append(
      WatchedPath(
        field: one.field, paths: all.flatMap(\.paths), slots: all.flatMap(\.slots), sums: all.flatMap(\.sums)))
  }

  private mutating func slotValue(_ field: String, _ path: String) throws(MappingError) -> CompiledValue {
    switch specification.format {
    case .csv:
      let name = path
      if let found = columns.first(where: { $0.name == name }) {
        return CompiledValue(kind: .slot, slot: found.slot, slotBefore: found.slot)
      }
      if !specification.csv.columns.isEmpty, !specification.csv.columns.contains(name), Int(name) == nil {
        let hint = nearestName(name, in: specification.csv.columns).map { "; did you mean '\($0)'?" } ?? ""
        throw error(field, "no column '\(name)'\(hint)")
      }
      columns.append((name, slotCount))
      slotCount += 1
      return CompiledValue(kind: .slot, slot: slotCount - 1, slotBefore: slotCount - 1)
    case .json, .avro:
      let slot = slot(try steps(field, path))
      return CompiledValue(kind: .slot, slot: slot, slotBefore: slot)
    case .debezium, .debeziumAvro:
      if path.hasPrefix("$.") {
        let slot = envelopeSlot(try steps(field, String(path.dropFirst(2))))
        return CompiledValue(kind: .slot, slot: slot, slotBefore: slot)
      }
      let steps = try steps(field, path)
      let after = envelopeSlot([.key("after")] + steps)
      let before = envelopeSlot([.key("before")] + steps)
      return CompiledValue(kind: .slot, slot: after, slotBefore: before)
    }
  }

  mutating func field(_ name: String, _ mapping: FieldMapping?, isTime: Bool) throws(MappingError) -> CompiledField {
    guard let mapping else {
      return CompiledField(
        name: name, value: CompiledValue(kind: .none), table: nil, time: nil, decimal: DecimalStyle(),
        fallback: .empty, stripsLeadingZeros: false, isMapped: false)
    }
    if mapping.mask == .hash, specification.maskKey == nil { throw error(name, "is hashed, and there is no key") }
    var time: TimeParser?
    if isTime {
      let format = mapping.timeFormat ?? .automatic
      time = TimeParser(format, zone: mapping.timeZone)
      if time == nil, case .pattern(let text) = format { throw error(name, "'\(text)' is no date pattern") }
    } else if mapping.timeFormat != nil {
      throw error(name, "a date format on a field that is no date")
    }
    // A part of an id, or of a document that is taken back, is none.
    isIdentity = [OrderField.eventID.rawValue, PostingField.lineID.rawValue, PostingField.reverses.rawValue].contains(
      name)
    isMasked = mapping.mask != .none
    (decimal, isWholeField) = (mapping.decimal, true)
    defer { (isIdentity, isMasked, isWholeField) = (false, false, false) }
    return CompiledField(
      name: name, value: try value(name, mapping.value), table: mapping.table.map { table($0) }, time: time,
      decimal: mapping.decimal,
      fallback: mapping.defaultText.map { texts.intern($0) } ?? .empty,
      stripsLeadingZeros: mapping.stripsLeadingZeros, isMapped: true, mask: mapping.mask)
  }

  /// What lines add up to, as the whole of a field.
  private mutating func sum(_ field: String, _ path: LinePath) throws(MappingError) -> CompiledValue {
    guard LineReader.reads(specification.format) else {
      throw error(
        field,
        "sums over lines are for json and debezium: a record of \(specification.format.rawValue) is not read that way")
    }
    guard isWholeField else { throw error(field, "a sum over lines is an amount, and no part of a text") }
    watched.append(WatchedPath(field: field, paths: [path.text], slots: [], sums: [sums.count]))
    sums.append((path, decimal.ofLines))
    return CompiledValue(kind: .sum, slot: sums.count - 1)
  }

  func table(_ table: ValueTable) -> CompiledTable {
    let keys = table.entries.keys.sorted()
    var size = 8
    while size < keys.count * 2 { size *= 2 }
    let compiled = CompiledTable(
      name: table.name, keys: keys.map { texts.intern($0) }, values: keys.map { texts.intern(table.entries[$0]!) },
      hash: Array(repeating: 0, count: size))
    for (entry, key) in compiled.keys.enumerated() {
      var at = Int(truncatingIfNeeded: Fingerprint(key).high) & (size - 1)
      while compiled.hash[at] != 0 { at = (at + 1) & (size - 1) }
      compiled.hash[at] = Int32(entry + 1)
    }
    switch table.unlisted {
    case .reject: break
    case .skip: compiled.unlisted = .skip
    case .keep: compiled.unlisted = .keep
    case .replace(let text):
      compiled.unlisted = .replace
      compiled.replacement = texts.intern(text)
    }
    return compiled
  }

  /// Every text that a table can yield must be a word of the domain.
  func checkTable(_ name: String, _ mapping: FieldMapping?, known: [String]) throws(MappingError) {
    guard let mapping else { return }
    let yielded = mapping.table?.words ?? mapping.value.words.filter { !$0.text.isEmpty }
    for (text, entry) in yielded where !known.contains(text) {
      let hint = nearestName(text, in: known).map { "; did you mean '\($0)'?" } ?? ""
      var error = error(name, "'\(text)' is not one of \(known.joined(separator: ", "))\(hint)")
      error.entry = entry
      throw error
    }
  }
}

private typealias Word = (text: String, entry: MappingError.Entry?)

extension ValueExpression {
  /// The texts that it yields as they are written in the mapping, whatever the record has besides.
  fileprivate var words: [Word] {
    switch self {
    case .path, .concatenation, .sum: []
    case .constant(let text): [(text, nil)]
    case .firstPresent(let parts): parts.flatMap(\.words)
    case .changed(let part, let change): change.width > 0 ? [] : change.table?.words ?? part.words
    }
  }
}

extension ValueTable {
  fileprivate var words: [Word] {
    var words: [Word] = entries.sorted { ($0.value, $0.key) < ($1.value, $1.key) }.map {
      ($0.value, MappingError.Entry(table: name, key: $0.key))
    }
    if case .replace(let text) = unlisted { words.append((text, nil)) }
    return words
  }
}
