import CShims
import Domain

/// How a captured value was written; the numbers are those of `RecordLayout.h`.
enum ValueKind: UInt32 {
  case absent = 0
  /// Text between the quotes without an escape in it.
  case string
  /// Text with escapes; `unescape` makes the real text.
  case escapedString
  case number, bool, null
  /// An object or an array where a path expects a value.
  case composite
}

/// A captured value: a view of the record's bytes (inside the quotes for strings).
typealias CapturedValue = tieout_value

extension tieout_value {
  @inline(__always)
  init(base: UnsafePointer<UInt8>?, count: Int, kind: ValueKind) {
    self.init(base: base, count: UInt32(truncatingIfNeeded: count), form: kind.rawValue)
  }

  @inline(__always)
  var kind: ValueKind { ValueKind(rawValue: form)! }

  @inline(__always)
  var view: ByteView { ByteView(base: base, count: Int(count)) }
}

/// Why a text is no JSON that can be taken in.
struct JSONFault: Error {
  var message: StaticString
  /// Byte offset in the record.
  var offset: Int
}

/// Walks one JSON text once, captures the values that the path tree asks for, and validates all the rest as RFC 8259
/// wants it: structure, literals, the grammar of numbers, escapes, control characters and the UTF-8 of strings, nesting
/// depth, and that nothing but white space follows.
///
/// This file, its extensions and `RecordLayout.c` are the one audited place where raw pointers walk over input. Every
/// load is checked against `end`; eight bytes are loaded at once only where eight are left. The walk along a learned
/// layout (`RecordLayouts`) may look behind the end within one page, and never believes what it sees there.
///
/// A key that is mapped and comes twice in one object is refused: which of the two a system meant cannot be known, and
/// readers differ. Keys that are not mapped may repeat.
struct JSONScanner: ~Copyable {
  private let paths: PathNodes
  private let maximumDepth: Int
  /// One per slot of the tree; behind them one for values that nobody reads, and one that is always absent.
  let values: UnsafeMutablePointer<CapturedValue>
  let slotCount: Int
  /// By node: whether it was met in this record.
  private let seen: UnsafeMutablePointer<Bool>
  var cursor: UnsafePointer<UInt8>
  var start: UnsafePointer<UInt8>
  var end: UnsafePointer<UInt8>
  /// Whether the record is an object.
  var isObject = true
  let walker: tieout_walk
  let place: UnsafeMutablePointer<tieout_place>
  var layouts: RecordLayouts
  var notes: LayoutNotes

  /// One byte that nobody reads: where the cursor points before the first record.
  nonisolated(unsafe) private static let nothing: UnsafePointer<UInt8> = {
    let byte = UnsafeMutablePointer<UInt8>.allocate(capacity: 1)
    byte.initialize(to: 0)
    return UnsafePointer(byte)
  }()

  /// `learns`: whether layouts are learned; without, every record takes the whole scanner, which is the reference for
  /// what the walk along a layout must yield.
  init(
    nodes: [PathNode], slotCount: Int, maximumDepth: Int, learns: Bool = true, walker: tieout_walk = tieout_best_walk()
  ) {
    self.walker = walker
    place = .allocate(capacity: 1)
    place.initialize(to: tieout_place())
    paths = PathNodes(nodes)
    self.slotCount = slotCount
    self.maximumDepth = maximumDepth
    values = .allocate(capacity: slotCount + 2)
    values.initialize(repeating: CapturedValue(base: nil, count: 0, kind: .absent), count: slotCount + 2)
    seen = .allocate(capacity: nodes.count)
    seen.initialize(repeating: false, count: nodes.count)
    cursor = JSONScanner.nothing
    start = cursor
    end = cursor
    layouts = RecordLayouts(isUsed: learns)
    notes = LayoutNotes()
  }

  deinit {
    values.deallocate()
    place.deallocate()
    seen.deallocate()
  }

  @inline(__always)
  mutating func clear() {
    for slot in 0..<slotCount { values[slot] = CapturedValue(base: nil, count: 0, kind: .absent) }
  }

  /// Scans a whole record. The captured values borrow from it. `hasMargin`: the bytes behind it can be read
  /// (`TIEOUT_OVERREAD_BYTES` of them).
  @inline(__always)
  mutating func scan(_ text: ByteView, hasMargin: Bool) throws(JSONFault) {
    guard let base = text.base, text.count > 0 else { throw JSONFault(message: "empty", offset: 0) }
    start = base
    end = base + text.count
    if hasMargin, walk() { return }
    try scanWhole()
  }

  /// Scans without a learned layout, and learns the record's.
  @inline(never)
  private mutating func scanWhole() throws(JSONFault) {
    clear()
    seen.update(repeating: false, count: paths.count)
    paths.rewind()
    cursor = start
    notes.begin(layouts.wantsMore)
    skipSpace()
    isObject = cursor < end && cursor.pointee == UInt8(ascii: "{")
    try scanValue(node: 0, depth: 0)
    skipSpace()
    guard cursor == end else { throw fault("something follows the value") }
    if notes.isTaking, isObject { learn() }
  }

  private func fault(_ message: StaticString) -> JSONFault { JSONFault(message: message, offset: cursor - start) }

  @inline(__always)
  mutating func skipSpace() {
    while cursor < end {
      let byte = cursor.pointee
      if byte > 0x20 { return }
      guard byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 else { return }
      cursor += 1
    }
  }

  /// Scans a value. `node` −1: nothing below it is wanted.
  mutating func scanValue(node: Int, depth: Int) throws(JSONFault) {
    guard cursor < end else { throw fault("the text ends early") }
    let first = cursor
    switch first.pointee {
    case UInt8(ascii: "\""):
      cursor += 1
      let isEscaped = try scanString()
      take(node, first + 1, cursor - first - 2, isEscaped ? .escapedString : .string, from: first, depth)
    case UInt8(ascii: "{"):
      guard depth < maximumDepth else { throw fault("nested too deeply") }
      takeComposite(node, depth)
      let mark = notes.count
      try scanObject(node: paths.hasKeys(node) ? node : -1, depth: depth + 1)
      // What is small keeps its shape; large objects are skipped as a whole.
      if node < 0, cursor - first > LayoutNotes.maximumInlined { noteSpare(since: mark, from: first, depth) }
    case UInt8(ascii: "["):
      guard depth < maximumDepth else { throw fault("nested too deeply") }
      takeComposite(node, depth)
      let mark = notes.count
      try scanArray(node: paths.hasIndexes(node) ? node : -1, depth: depth + 1)
      // Lists differ in length from record to record.
      if node < 0 { noteSpare(since: mark, from: first, depth) }
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"):
      try scanNumber()
      take(node, first, cursor - first, .number, from: first, depth)
    case UInt8(ascii: "t"):
      try scanLiteral("true")
      take(node, first, 4, .bool, from: first, depth)
    case UInt8(ascii: "f"):
      try scanLiteral("false")
      take(node, first, 5, .bool, from: first, depth)
    case UInt8(ascii: "n"):
      try scanLiteral("null")
      take(node, first, 4, .null, from: first, depth)
    default:
      throw fault("a value must start here")
    }
  }

  /// Captures a value that ends at the cursor, and notes it for the layout.
  @inline(__always)
  private mutating func take(
    _ node: Int, _ base: UnsafePointer<UInt8>, _ count: Int, _ kind: ValueKind, from first: UnsafePointer<UInt8>,
    _ depth: Int
  ) {
    let slot = paths.slot(node)
    if slot >= 0 { values[slot] = CapturedValue(base: base, count: count, kind: kind) }
    if notes.isTaking {
      // Where a path leads to or through, an object instead of a scalar is another layout.
      notes.add(
        LayoutNote(
          first: first - start, end: cursor - start, slot: slot >= 0 ? slot : slotCount, depth: depth,
          kind: node < 0 ? TIEOUT_STEP_SPARE : TIEOUT_STEP_VALUE))
    }
  }

  @inline(__always)
  private mutating func takeComposite(_ node: Int, _ depth: Int) {
    let slot = paths.slot(node)
    guard slot >= 0 else { return }
    values[slot] = CapturedValue(base: cursor, count: 0, kind: .composite)
    if notes.isTaking {
      notes.add(
        LayoutNote(
          first: cursor - start + 1, end: cursor - start + 1, slot: slot, depth: depth,
          kind: TIEOUT_STEP_COMPOSITE))
    }
  }

  /// Puts one note of an object or array that is skipped as a whole in place of those of its inside.
  private mutating func noteSpare(since mark: Int, from first: UnsafePointer<UInt8>, _ depth: Int) {
    guard notes.isTaking else { return }
    notes.count = mark
    notes.add(
      LayoutNote(
        first: first - start, end: cursor - start, slot: slotCount, depth: depth, kind: TIEOUT_STEP_SPARE))
  }

  private mutating func scanLiteral(_ literal: StaticString) throws(JSONFault) {
    let count = literal.utf8CodeUnitCount
    guard end - cursor >= count else { throw fault("the text ends early") }
    for at in 0..<count where cursor[at] != literal.utf8Start[at] { throw fault("not a literal of JSON") }
    cursor += count
  }

  private mutating func scanObject(node: Int, depth: Int) throws(JSONFault) {
    cursor += 1
    skipSpace()
    guard cursor < end else { throw fault("the text ends early") }
    if cursor.pointee == UInt8(ascii: "}") {
      cursor += 1
      return
    }
    while true {
      guard cursor < end, cursor.pointee == UInt8(ascii: "\"") else { throw fault("a key must start here") }
      cursor += 1
      let key = cursor
      let isEscaped = try scanString()
      let keyCount = cursor - 1 - key
      var child = -1
      if node >= 0 {
        let view = ByteView(base: key, count: keyCount)
        child = isEscaped ? findEscaped(node, view) : paths.child(of: node, key: view)
        if child >= 0 {
          guard !seen[child] else { throw fault("a mapped key comes twice") }
          seen[child] = true
        }
      }
      skipSpace()
      guard cursor < end, cursor.pointee == UInt8(ascii: ":") else { throw fault("a colon must follow the key") }
      cursor += 1
      skipSpace()
      try scanValue(node: child, depth: depth)
      skipSpace()
      guard cursor < end else { throw fault("the text ends early") }
      if cursor.pointee == UInt8(ascii: ",") {
        cursor += 1
        skipSpace()
      } else if cursor.pointee == UInt8(ascii: "}") {
        cursor += 1
        return
      } else {
        throw fault("a comma or a closing brace must follow")
      }
    }
  }

  private mutating func scanArray(node: Int, depth: Int) throws(JSONFault) {
    cursor += 1
    skipSpace()
    guard cursor < end else { throw fault("the text ends early") }
    if cursor.pointee == UInt8(ascii: "]") {
      cursor += 1
      return
    }
    var index = 0
    while true {
      var child = -1
      if node >= 0 { child = paths.child(of: node, index: index) }
      let mark = notes.count
      let first = cursor
      try scanValue(node: child, depth: depth)
      if child < 0 { noteSpare(since: mark, from: first, depth) }
      skipSpace()
      guard cursor < end else { throw fault("the text ends early") }
      if cursor.pointee == UInt8(ascii: ",") {
        cursor += 1
        skipSpace()
        index += 1
      } else if cursor.pointee == UInt8(ascii: "]") {
        cursor += 1
        return
      } else {
        throw fault("a comma or a closing bracket must follow")
      }
    }
  }

  private func findEscaped(_ node: Int, _ key: ByteView) -> Int {
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: key.count) { space in
      let used = JSONScanner.unescape(key, into: space.baseAddress!)
      return paths.child(of: node, key: ByteView(base: space.baseAddress!, count: used))
    }
  }

  // MARK: - Strings

  private static let lows: UInt64 = 0x0101_0101_0101_0101
  private static let highs: UInt64 = 0x8080_8080_8080_8080

  /// From behind the opening quote to behind the closing one. Returns whether there is an escape in it.
  mutating func scanString() throws(JSONFault) -> Bool {
    var isEscaped = false
    var isPlain = true
    let first = cursor
    while true {
      // Eight bytes at a time while none of them is a quote, a backslash, a control character, or above ASCII.
      while end - cursor >= 8 {
        let word = UnsafeRawPointer(cursor).loadUnaligned(as: UInt64.self).littleEndian
        let quotes = word ^ 0x2222_2222_2222_2222
        let slashes = word ^ 0x5c5c_5c5c_5c5c_5c5c
        let stops =
          ((quotes &- JSONScanner.lows) & ~quotes)
          | ((slashes &- JSONScanner.lows) & ~slashes)
          | ((word &- 0x2020_2020_2020_2020) & ~word)
          | word
        let mask = stops & JSONScanner.highs
        if mask == 0 {
          cursor += 8
          continue
        }
        cursor += mask.trailingZeroBitCount >> 3
        break
      }
      guard cursor < end else { throw fault("a string does not end") }
      let byte = cursor.pointee
      if byte == UInt8(ascii: "\"") {
        if !isPlain { try validateUTF8(first, cursor) }
        cursor += 1
        return isEscaped
      }
      if byte == UInt8(ascii: "\\") {
        isEscaped = true
        try scanEscape()
      } else if byte < 0x20 {
        throw fault("a control character in a string")
      } else {
        if byte >= 0x80 { isPlain = false }
        cursor += 1
      }
    }
  }

  private mutating func scanEscape() throws(JSONFault) {
    guard end - cursor >= 2 else { throw fault("a string does not end") }
    switch cursor[1] {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"), UInt8(ascii: "f"),
      UInt8(ascii: "n"), UInt8(ascii: "r"), UInt8(ascii: "t"):
      cursor += 2
    case UInt8(ascii: "u"):
      guard let unit = JSONScanner.hex4(cursor + 2, end) else { throw fault("not four hexadecimal digits") }
      if unit >= 0xd800, unit < 0xdc00 {
        guard end - cursor >= 12, cursor[6] == UInt8(ascii: "\\"), cursor[7] == UInt8(ascii: "u"),
          let low = JSONScanner.hex4(cursor + 8, end), low >= 0xdc00, low < 0xe000
        else { throw fault("half a surrogate pair") }
        cursor += 12
      } else {
        guard unit < 0xdc00 || unit >= 0xe000 else { throw fault("half a surrogate pair") }
        cursor += 6
      }
    default: throw fault("not an escape of JSON")
    }
  }

  private static func hex4(_ base: UnsafePointer<UInt8>, _ end: UnsafePointer<UInt8>) -> UInt32? {
    guard end - base >= 4 else { return nil }
    var value: UInt32 = 0
    for at in 0..<4 {
      let byte = base[at]
      let digit: UInt8
      switch byte {
      case 0x30...0x39: digit = byte - 0x30
      case 0x41...0x46: digit = byte - 0x41 + 10
      case 0x61...0x66: digit = byte - 0x61 + 10
      default: return nil
      }
      value = value << 4 | UInt32(digit)
    }
    return value
  }

  /// Well-formed UTF-8 by table 3-7 of the Unicode standard.
  private func validateUTF8(_ first: UnsafePointer<UInt8>, _ last: UnsafePointer<UInt8>) throws(JSONFault) {
    guard isUTF8(ByteView(base: first, count: last - first)) else {
      throw JSONFault(message: "a string is not UTF-8", offset: first - start)
    }
  }

  /// Writes the text of a scanned string to `target`, which has room for as many bytes as the source; returns how many
  /// were written. The escapes were validated by the scan.
  static func unescape(_ source: ByteView, into target: UnsafeMutablePointer<UInt8>) -> Int {
    guard let base = source.base else { return 0 }
    let end = base + source.count
    var at = base
    var out = target
    func put(_ byte: UInt8, _ out: inout UnsafeMutablePointer<UInt8>) {
      out.pointee = byte
      out += 1
    }
    while at < end {
      guard at.pointee == UInt8(ascii: "\\") else {
        put(at.pointee, &out)
        at += 1
        continue
      }
      switch at[1] {
      case UInt8(ascii: "b"): put(8, &out)
      case UInt8(ascii: "f"): put(12, &out)
      case UInt8(ascii: "n"): put(10, &out)
      case UInt8(ascii: "r"): put(13, &out)
      case UInt8(ascii: "t"): put(9, &out)
      case UInt8(ascii: "u"):
        var scalar = hex4(at + 2, end) ?? 0xfffd
        if scalar >= 0xd800, scalar < 0xdc00 {
          scalar = 0x10000 + (scalar - 0xd800) << 10 + ((hex4(at + 8, end) ?? 0xdc00) - 0xdc00)
          at += 6
        }
        at += 4
        if scalar < 0x80 {
          put(UInt8(scalar), &out)
        } else if scalar < 0x800 {
          put(UInt8(0xc0 | scalar >> 6), &out)
          put(UInt8(0x80 | scalar & 63), &out)
        } else if scalar < 0x10000 {
          put(UInt8(0xe0 | scalar >> 12), &out)
          put(UInt8(0x80 | scalar >> 6 & 63), &out)
          put(UInt8(0x80 | scalar & 63), &out)
        } else {
          put(UInt8(0xf0 | scalar >> 18), &out)
          put(UInt8(0x80 | scalar >> 12 & 63), &out)
          put(UInt8(0x80 | scalar >> 6 & 63), &out)
          put(UInt8(0x80 | scalar & 63), &out)
        }
      default: put(at[1], &out)
      }
      at += 2
    }
    return out - target
  }

  // MARK: - Numbers

  mutating func scanNumber() throws(JSONFault) {
    if cursor.pointee == UInt8(ascii: "-") { cursor += 1 }
    guard cursor < end else { throw fault("the text ends early") }
    if cursor.pointee == UInt8(ascii: "0") {
      cursor += 1
    } else {
      guard skipDigits() else { throw fault("a digit must follow") }
    }
    if cursor < end, cursor.pointee == UInt8(ascii: ".") {
      cursor += 1
      guard skipDigits() else { throw fault("a digit must follow the point") }
    }
    if cursor < end, cursor.pointee | 0x20 == UInt8(ascii: "e") {
      cursor += 1
      if cursor < end, cursor.pointee == UInt8(ascii: "+") || cursor.pointee == UInt8(ascii: "-") { cursor += 1 }
      guard skipDigits() else { throw fault("a digit must follow the exponent") }
    }
  }

  @inline(__always)
  private mutating func skipDigits() -> Bool {
    let first = cursor
    while cursor < end, cursor.pointee &- 0x30 <= 9 { cursor += 1 }
    return cursor != first
  }
}

/// Whether bytes are well-formed UTF-8 (Unicode standard, table 3-7).
func isUTF8(_ text: ByteView) -> Bool {
  guard var at = text.base else { return true }
  let end = at + text.count
  @inline(__always) func isContinuation(_ byte: UInt8) -> Bool { byte & 0xc0 == 0x80 }
  while at < end {
    let lead = at.pointee
    if lead < 0x80 {
      at += 1
    } else if lead < 0xc2 {
      return false
    } else if lead < 0xe0 {
      guard end - at >= 2, isContinuation(at[1]) else { return false }
      at += 2
    } else if lead < 0xf0 {
      guard end - at >= 3, isContinuation(at[1]), isContinuation(at[2]) else { return false }
      if lead == 0xe0, at[1] < 0xa0 { return false }
      if lead == 0xed, at[1] >= 0xa0 { return false }
      at += 3
    } else if lead < 0xf5 {
      guard end - at >= 4, isContinuation(at[1]), isContinuation(at[2]), isContinuation(at[3]) else { return false }
      if lead == 0xf0, at[1] < 0x90 { return false }
      if lead == 0xf4, at[1] >= 0x90 { return false }
      at += 4
    } else {
      return false
    }
  }
  return true
}
