import Domain

/// Reads Avro records with Confluent's framing: walks the program of the writer's schema along the bytes and captures what
/// the paths ask for, as the JSON scanner does. What is no text becomes one: numbers in decimal digits, decimals with their
/// scale, dates and timestamps as in RFC 3339, bytes and fixed as base64.
///
/// Every load is checked against the end of the record, depth is bounded, and no count is believed that the bytes that are
/// left could not hold.
struct AvroReader: ~Copyable {
  private let nodes: [PathNode]
  private let schemas: any AvroSchemas
  private let maximumDepth: Int
  private var programs: [UInt32: AvroProgram] = [:]
  private var lastID: UInt32?
  private var last: AvroProgram?

  private var cursor: UnsafePointer<UInt8>
  private var start: UnsafePointer<UInt8>
  private var end: UnsafePointer<UInt8>

  init(nodes: [PathNode], schemas: any AvroSchemas, maximumDepth: Int) {
    self.nodes = nodes
    self.schemas = schemas
    self.maximumDepth = maximumDepth
    cursor = UnsafePointer(bitPattern: 1)!
    start = cursor
    end = cursor
  }

  /// Captures the values of a record; `values` have been cleared.
  mutating func read(
    _ payload: ByteView, values: UnsafeMutablePointer<CapturedValue>, scratch: inout ScratchArena
  ) throws(DataFault) {
    guard let base = payload.base, let id = AvroFraming.schemaID(payload.buffer) else {
      throw DataFault(
        .schemaInvalid,
        detail: "the record does not begin with a zero and the id of an Avro schema (Confluent framing)")
    }
    let program = try program(id)
    start = base
    cursor = base + AvroFraming.headerBytes
    end = base + payload.count
    try program.steps.withUnsafeBufferPointer { steps throws(DataFault) in
      try program.edges.withUnsafeBufferPointer { edges throws(DataFault) in
        try walk(0, steps.baseAddress!, edges.baseAddress, values, &scratch, depth: 0)
      }
    }
    guard cursor == end else { throw fault("\(end - cursor) bytes follow the record") }
  }

  private mutating func program(_ id: UInt32) throws(DataFault) -> AvroProgram {
    if id == lastID, let last { return last }
    let program: AvroProgram
    if let made = programs[id] {
      program = made
    } else {
      guard let schema = schemas.known(id) else {
        throw DataFault(.schemaInvalid, detail: "the schema registry has no schema \(id)")
      }
      guard schema.kind == .record else {
        throw DataFault(.schemaInvalid, detail: "the schema \(id) is no record")
      }
      program = AvroProgram(schema, nodes: nodes)
      // Ids are given for ever; a sender that makes a schema for every record is stopped here.
      guard programs.count < AvroReader.maximumSchemas else {
        throw DataFault(.schemaInvalid, detail: "more than \(AvroReader.maximumSchemas) schemas in one source")
      }
      programs[id] = program
    }
    (lastID, last) = (id, program)
    return program
  }

  static let maximumSchemas = 10_000

  private func fault(_ message: String) -> DataFault {
    DataFault(.schemaInvalid, detail: "no Avro record of its schema at byte \(cursor - start): \(message)")
  }

  private mutating func number() throws(DataFault) -> Int64 {
    var value: UInt64 = 0
    var shift: UInt64 = 0
    while true {
      guard cursor < end else { throw fault("it ends early") }
      let byte = cursor.pointee
      cursor += 1
      guard shift < 63 || byte <= 1 else { throw fault("a number has more than 64 bits") }
      value |= UInt64(byte & 0x7f) << shift
      if byte < 0x80 { break }
      shift += 7
    }
    return Int64(bitPattern: value >> 1) ^ -Int64(bitPattern: value & 1)
  }

  private mutating func take(_ count: Int64) throws(DataFault) -> ByteView {
    guard count >= 0, count <= end - cursor else { throw fault("it ends early, \(count) bytes are to follow") }
    defer { cursor += Int(count) }
    return ByteView(base: cursor, count: Int(count))
  }

  private mutating func walk(
    _ at: Int32, _ steps: UnsafePointer<AvroProgram.Step>, _ edges: UnsafePointer<AvroProgram.Edge>?,
    _ values: UnsafeMutablePointer<CapturedValue>, _ scratch: inout ScratchArena, depth: Int
  ) throws(DataFault) {
    let step = steps + Int(at)
    let slot = Int(step.pointee.slot)
    @inline(__always)
    func put(_ text: ByteView, _ kind: ValueKind) {
      if slot >= 0 { values[slot] = CapturedValue(base: text.base, count: text.count, kind: kind) }
    }
    switch step.pointee.kind {
    case .null: put(.empty, .null)
    case .boolean:
      let byte = try take(1).base!.pointee
      guard byte <= 1 else { throw fault("a boolean of \(byte)") }
      if slot >= 0 { put(scratch.word(byte == 1 ? "true" : "false"), .bool) }
    case .int, .long:
      let value = try number()
      if slot >= 0 {
        let isTime = step.pointee.logical != .none
        put(
          isTime ? scratch.time(value, step.pointee.logical) : scratch.decimal(Int128(value), scale: 0),
          isTime ? .string : .number)
      }
    case .float:
      let raw = UnsafeRawPointer(try take(4).base!).loadUnaligned(as: UInt32.self)
      if slot >= 0 { put(scratch.text("\(Float(bitPattern: UInt32(littleEndian: raw)))"), .number) }
    case .double:
      let raw = UnsafeRawPointer(try take(8).base!).loadUnaligned(as: UInt64.self)
      if slot >= 0 { put(scratch.text("\(Double(bitPattern: UInt64(littleEndian: raw)))"), .number) }
    case .bytes: try putBytes(try take(try number()), step, values, &scratch)
    case .fixed: try putBytes(try take(Int64(step.pointee.size)), step, values, &scratch)
    case .string:
      let text = try take(try number())
      guard slot >= 0 else { return }
      guard text.isUTF8 else { throw fault("a text is not UTF-8") }
      put(text, .string)
    case .enumeration:
      let symbol = try number()
      guard symbol >= 0, symbol < Int64(step.pointee.edgeCount) else { throw fault("there is no symbol \(symbol)") }
      put(edges![Int(step.pointee.firstEdge) + Int(symbol)].name, .string)
    case .union:
      let branch = try number()
      guard branch >= 0, branch < Int64(step.pointee.edgeCount) else { throw fault("there is no branch \(branch)") }
      // A union is no level of its own: its branches have the same place.
      guard depth < maximumDepth else { throw fault("nested too deeply") }
      try walk(
        edges![Int(step.pointee.firstEdge) + Int(branch)].step, steps, edges, values, &scratch, depth: depth + 1)
    case .record:
      guard depth < maximumDepth else { throw fault("nested too deeply") }
      put(ByteView(base: cursor, count: 0), .composite)
      for field in 0..<Int(step.pointee.edgeCount) {
        try walk(
          edges![Int(step.pointee.firstEdge) + field].step, steps, edges, values, &scratch, depth: depth + 1)
      }
    case .array, .map:
      guard depth < maximumDepth else { throw fault("nested too deeply") }
      put(ByteView(base: cursor, count: 0), .composite)
      try walkItems(step, steps, edges!, values, &scratch, depth: depth)
    }
  }

  private mutating func walkItems(
    _ step: UnsafePointer<AvroProgram.Step>, _ steps: UnsafePointer<AvroProgram.Step>,
    _ edges: UnsafePointer<AvroProgram.Edge>, _ values: UnsafeMutablePointer<CapturedValue>,
    _ scratch: inout ScratchArena, depth: Int
  ) throws(DataFault) {
    let mapped = edges + Int(step.pointee.firstEdge)
    let mappedCount = Int(step.pointee.edgeCount) - 1
    let isMap = step.pointee.kind == .map
    var index: Int64 = 0
    while true {
      var count = try number()
      if count == 0 { return }
      if count < 0 {
        // A negative count has the size of its block behind it.
        let size = try number()
        guard count > .min, size >= 0, size <= end - cursor else { throw fault("a block of \(size) bytes") }
        count = -count
      }
      // Items of no bytes at all (nulls) could be any number.
      guard count <= end - cursor else { throw fault("\(count) items in \(end - cursor) bytes") }
      for _ in 0..<count {
        var edge = mapped[mappedCount]
        if isMap {
          let key = try take(try number())
          for at in 0..<mappedCount where mapped[at].name.elementsEqual(key) { edge = mapped[at] }
        } else {
          for at in 0..<mappedCount where Int64(mapped[at].index) == index { edge = mapped[at] }
        }
        try walk(edge.step, steps, edges, values, &scratch, depth: depth + 1)
        index += 1
      }
    }
  }

  private func putBytes(
    _ bytes: ByteView, _ step: UnsafePointer<AvroProgram.Step>, _ values: UnsafeMutablePointer<CapturedValue>,
    _ scratch: inout ScratchArena
  ) throws(DataFault) {
    let slot = Int(step.pointee.slot)
    guard slot >= 0 else { return }
    guard step.pointee.logical == .decimal else {
      let text = scratch.base64(bytes)
      values[slot] = CapturedValue(base: text.base, count: text.count, kind: .string)
      return
    }
    guard bytes.count > 0, bytes.count <= 16 else { throw fault("a decimal of \(bytes.count) bytes") }
    var value: Int128 = bytes.base!.pointee >= 0x80 ? -1 : 0
    for at in 0..<bytes.count { value = value << 8 | Int128(bytes.base![at]) }
    let text = scratch.decimal(value, scale: Int(step.pointee.scale))
    values[slot] = CapturedValue(base: text.base, count: text.count, kind: .number)
  }
}

extension ByteView {
  /// Most texts are ASCII, which is looked at eight bytes at a time.
  fileprivate var isUTF8: Bool {
    guard let base, count > 0 else { return true }
    var at = 0
    while at + 8 <= count {
      if UnsafeRawPointer(base + at).loadUnaligned(as: UInt64.self) & 0x8080_8080_8080_8080 != 0 { break }
      at += 8
    }
    while at < count, base[at] < 0x80 { at += 1 }
    return at == count || String(validating: buffer, as: UTF8.self) != nil
  }
}

/// Values that stand in no record as text.
extension ScratchArena {
  mutating func word(_ text: StaticString) -> ByteView {
    ByteView(base: text.utf8Start, count: text.utf8CodeUnitCount)
  }

  mutating func text(_ text: String) -> ByteView {
    var text = text
    return text.withUTF8 { copy(ByteView($0)) }
  }

  /// `value` × 10^−`scale`.
  mutating func decimal(_ value: Int128, scale: Int) -> ByteView {
    // 39 digits, the sign, the point; a scale beyond the digits puts zeros before them.
    let most = 48 + max(0, scale)
    let target = reserve(most)
    var at = most
    var rest = value.magnitude
    var digits = 0
    repeat {
      at -= 1
      target[at] = UInt8(truncatingIfNeeded: rest % 10) + 0x30
      rest /= 10
      digits += 1
      if digits == scale {
        at -= 1
        target[at] = UInt8(ascii: ".")
      }
    } while rest > 0 || digits <= scale
    if value < 0 {
      at -= 1
      target[at] = UInt8(ascii: "-")
    }
    target.update(from: target + at, count: most - at)
    return commit(most - at)
  }

  /// A date, or a time in RFC 3339 (`Z` where it is no local one).
  mutating func time(_ value: Int64, _ logical: AvroProgram.Logical) -> ByteView {
    let target = reserve(32)
    var at = 0
    func put(_ value: Int, _ width: Int) {
      var rest = value
      for place in stride(from: at + width - 1, through: at, by: -1) {
        target[place] = UInt8(truncatingIfNeeded: rest % 10) + 0x30
        rest /= 10
      }
      at += width
    }
    func put(_ sign: UInt8) {
      target[at] = sign
      at += 1
    }
    let isMicros = logical == .timestampMicros || logical == .localMicros
    let perDay: Int64 = isMicros ? 86_400_000_000 : millisecondsPerDay
    var days = logical == .date ? value : value / perDay
    var inDay = logical == .date ? 0 : value % perDay
    if inDay < 0 {
      inDay += perDay
      days -= 1
    }
    let civil = civilFromDays(Int(days))
    // No date of four digits: the number itself, which no format takes for one.
    guard (0...9_999).contains(civil.year) else { return decimal(Int128(value), scale: 0) }
    put(civil.year, 4)
    put(UInt8(ascii: "-"))
    put(civil.month, 2)
    put(UInt8(ascii: "-"))
    put(civil.day, 2)
    if logical != .date {
      let perSecond: Int64 = isMicros ? 1_000_000 : 1_000
      let seconds = Int(inDay / perSecond)
      put(UInt8(ascii: "T"))
      put(seconds / 3_600, 2)
      put(UInt8(ascii: ":"))
      put(seconds / 60 % 60, 2)
      put(UInt8(ascii: ":"))
      put(seconds % 60, 2)
      put(UInt8(ascii: "."))
      put(Int(inDay % perSecond), isMicros ? 6 : 3)
      if logical == .timestampMillis || logical == .timestampMicros { put(UInt8(ascii: "Z")) }
    }
    return commit(at)
  }

  mutating func base64(_ bytes: ByteView) -> ByteView {
    let digits: StaticString = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    let count = (bytes.count + 2) / 3 * 4
    let target = reserve(max(1, count))
    var at = 0
    var from = 0
    while from < bytes.count {
      let left = bytes.count - from
      var group = UInt32(bytes.base![from]) << 16
      if left > 1 { group |= UInt32(bytes.base![from + 1]) << 8 }
      if left > 2 { group |= UInt32(bytes.base![from + 2]) }
      for place in 0..<4 {
        let isPadding = place > left
        target[at] = isPadding ? UInt8(ascii: "=") : digits.utf8Start[Int(group >> UInt32(18 - 6 * place) & 63)]
        at += 1
      }
      from += 3
    }
    return commit(count)
  }
}
