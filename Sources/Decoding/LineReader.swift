import Domain

/// Adds up the amounts of nested lines, for the rules and fields of sources that ask for it. It walks once more over a record that the
/// decoder has found well-formed; other sources have none.
public struct LineReader: ~Copyable {
  private struct Path {
    var array: [[UInt8]]
    var field: [[UInt8]]
    var style: DecimalStyle
  }

  private let paths: [Path]
  private let isEnvelope: Bool

  /// - Parameter paths: with how the amounts are written.
  public init(_ format: RecordFormat, _ paths: [(path: LinePath, style: DecimalStyle)]) {
    isEnvelope = format.isEnvelope
    self.paths = paths.map { path, style in
      Path(array: path.array.map { Array($0.utf8) }, field: path.field.map { Array($0.utf8) }, style: style)
    }
  }

  /// The formats whose records have lines that can be added up.
  public static func reads(_ format: RecordFormat) -> Bool { format == .json || format == .debezium }

  /// - Parameter payload: of a record that was decoded.
  /// - Parameter sums: as many as there are paths.
  public func read(_ payload: ByteView, into sums: UnsafeMutablePointer<LineSum>) {
    for at in paths.indices { sums[at] = sum(at, payload) }
  }

  /// The sum of one path.
  /// - Parameter before: Of the row of a change feed before it changed.
  func sum(_ at: Int, _ payload: ByteView, before: Bool = false) -> LineSum {
    var sum = LineSum()
    sum.rounding = paths[at].style.rounding
    guard let base = payload.base else { return sum }
    var walker = LineWalker(base, payload.count)
    if isEnvelope {
      let image = [UInt8]((before ? "before" : "after").utf8)
      // With its schema the envelope stands under `payload`.
      var wrapped = walker
      if wrapped.enter([UInt8]("payload".utf8), &sum), wrapped.enter(image, &sum) {
        walker = wrapped
      } else if !walker.enter(image, &sum) {
        return sum
      }
    }
    walker.add(paths[at].array[...], paths[at].field, paths[at].style, &sum)
    return sum
  }
}

/// Walks over JSON that is known to be well-formed; every load is checked against the end all the same.
private struct LineWalker {
  private var at: UnsafePointer<UInt8>
  private let end: UnsafePointer<UInt8>

  init(_ base: UnsafePointer<UInt8>, _ count: Int) {
    at = base
    end = base + count
  }

  private var byte: UInt8 { at < end ? at.pointee : 0 }

  private mutating func skipSpace() {
    while at < end, at.pointee <= 0x20 { at += 1 }
  }

  /// From the opening quote to behind the closing one.
  private mutating func skipString() {
    at += 1
    while at < end, at.pointee != UInt8(ascii: "\"") { at += at.pointee == UInt8(ascii: "\\") ? 2 : 1 }
    at = min(at + 1, end)
  }

  private mutating func skipValue() {
    var depth = 0
    repeat {
      skipSpace()
      switch byte {
      case UInt8(ascii: "\""): skipString()
      case UInt8(ascii: "{"), UInt8(ascii: "["):
        depth += 1
        at += 1
      case UInt8(ascii: "}"), UInt8(ascii: "]"):
        depth -= 1
        at += 1
      case UInt8(ascii: ","), UInt8(ascii: ":"): at += 1
      default:
        let first = at
        while at < end, at.pointee > 0x20, !",:]}".utf8.contains(at.pointee) { at += 1 }
        if at == first { return }
      }
    } while depth > 0
  }

  private var isNull: Bool { byte == UInt8(ascii: "n") }

  /// Goes to the value of a key of the object here.
  /// - Returns: false where the key or the object is not there, or null; a key that comes twice breaks the sum.
  mutating func enter(_ key: [UInt8], _ sum: inout LineSum) -> Bool {
    skipSpace()
    guard byte == UInt8(ascii: "{") else { return false }
    at += 1
    var found: UnsafePointer<UInt8>?
    while true {
      skipSpace()
      guard byte == UInt8(ascii: "\"") else { break }
      let first = at + 1
      skipString()
      let name = ByteView(base: first, count: max(0, at - 1 - first))
      skipSpace()
      at = min(at + 1, end)
      skipSpace()
      if LineWalker.isSame(name, key) {
        if found != nil { sum.isBroken = true }
        found = at
      }
      skipValue()
      skipSpace()
      guard byte == UInt8(ascii: ",") else { break }
      at += 1
    }
    guard let found else { return false }
    at = found
    return !isNull
  }

  private static func isSame(_ name: ByteView, _ key: [UInt8]) -> Bool {
    if !name.buffer.contains(UInt8(ascii: "\\")) { return name.buffer.elementsEqual(key) }
    return withUnsafeTemporaryAllocation(of: UInt8.self, capacity: name.count) { space in
      let count = JSONScanner.unescape(name, into: space.baseAddress!)
      return space[..<count].elementsEqual(key)
    }
  }

  /// Adds up the amounts of the array that `keys` lead to from here.
  mutating func add(
    _ keys: ArraySlice<[UInt8]>, _ field: [[UInt8]], _ style: DecimalStyle, _ sum: inout LineSum
  ) {
    for key in keys {
      guard enter(key, &sum) else { return }
    }
    skipSpace()
    if isNull { return }
    sum.isPresent = true
    guard byte == UInt8(ascii: "[") else {
      sum.isBroken = true
      return
    }
    at += 1
    while true {
      skipSpace()
      if byte == UInt8(ascii: "]") || at >= end { return }
      var element = self
      element.addAmount(field, style, &sum)
      skipValue()
      skipSpace()
      guard byte == UInt8(ascii: ",") else { return }
      at += 1
    }
  }

  /// Adds the amount of the element here; one without it adds nothing.
  private mutating func addAmount(_ field: [[UInt8]], _ style: DecimalStyle, _ sum: inout LineSum) {
    if isNull { return }
    for key in field {
      guard byte == UInt8(ascii: "{") else {
        sum.isBroken = true
        return
      }
      guard enter(key, &sum) else { return }
      skipSpace()
    }
    let first = at
    skipValue()
    var text = ByteView(base: first, count: at - first)
    let isNumber = first < end && first.pointee != UInt8(ascii: "\"")
    if text.count >= 2, first.pointee == UInt8(ascii: "\"") {
      text = ByteView(base: first + 1, count: text.count - 2)
      var (start, count) = (first + 1, text.count)
      while count > 0, start.pointee <= 0x20 { (start, count) = (start + 1, count - 1) }
      while count > 0, start[count - 1] <= 0x20 { count -= 1 }
      if count == 0 { return }
      text = ByteView(base: start, count: count)
    }
    guard let amount = try? parseAmount(text, style, isNumber: isNumber).units(decimals: 6, rounding: .halfEven) else {
      sum.isBroken = true
      return
    }
    sum.value_u += Int128(amount)
    sum.isFound = true
  }
}
