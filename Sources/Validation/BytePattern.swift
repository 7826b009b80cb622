/// Why a text is no pattern, and where in it.
public struct PatternError: Error, Equatable, Sendable {
  public var offset: Int
  public var message: String
}

/// The signs that a position of a pattern takes.
private struct SignSet: Equatable {
  /// By ASCII byte.
  var ascii = [Bool](repeating: false, count: 128)
  /// Beyond ASCII: the scalars listed, or all others.
  var listed: Set<UInt32> = []
  var isOthers = false

  static func ascii(_ isIn: (UInt8) -> Bool) -> SignSet {
    var set = SignSet()
    set.ascii = (0..<128).map { isIn(UInt8($0)) }
    return set
  }

  var negated: SignSet {
    var set = self
    set.ascii = ascii.map { !$0 }
    set.isOthers.toggle()
    return set
  }

  mutating func insert(_ scalar: Unicode.Scalar) {
    if scalar.isASCII { ascii[Int(scalar.value)] = true } else if !isOthers { listed.insert(scalar.value) }
  }

  mutating func formUnion(_ other: SignSet) {
    for at in 0..<128 where other.ascii[at] { ascii[at] = true }
    // Escapes list nothing beyond ASCII.
    if other.isOthers { (listed, isOthers) = ([], true) }
  }

  func contains(_ scalar: UInt32) -> Bool { listed.contains(scalar) != isOthers }
}

/// A pattern over texts in UTF-8 that matches in one pass, in time proportional to the text, whatever pattern or text: there is
/// no backtracking that a record could blow up.
///
/// A sign is a Unicode scalar. Literals, `.`, classes `[A-Z0-9_]` and `[^;]`, escapes `\d \w \s \D \W \S` (of ASCII) and `\` before any other sign, each followed
/// by `?`, `*`, `+`, `{n}`, `{n,}` or `{n,m}`. It must match the whole text. There is no alternation (give a list of
/// values instead) and no group.
///
/// Compiled into positions, at most 63, run as the bits of one word (shift-and, as in Navarro and Raffinot, "Flexible
/// Pattern Matching in Strings", chapter 4).
public struct BytePattern: Sendable, Equatable {
  public let text: String
  /// The positions that a sign fits: by ASCII byte, then of all other scalars but those of `scalars`.
  let masks: [UInt64]
  /// Scalars beyond ASCII that stand in the pattern, and the positions that each fits.
  let scalars: [ScalarMask]
  let loops: UInt64
  let optional: UInt64
  let count: Int

  /// Whether signs beyond ASCII fit some of it.
  public var isOfScalars: Bool { masks[BytePattern.others] != 0 || !scalars.isEmpty }

  struct ScalarMask: Sendable, Equatable {
    var scalar: UInt32
    var mask: UInt64
  }

  /// Bits of a word, one left for the end.
  public static let maximumPositions = 63

  public init(_ text: String) throws(PatternError) {
    self.text = text
    var masks = [UInt64](repeating: 0, count: BytePattern.others + 1)
    var sets: [SignSet] = []
    var (loops, optional): (UInt64, UInt64) = (0, 0)
    var positions = 0
    let bytes = Array(text.utf8)
    var at = 0
    func fail(_ message: String) -> PatternError { PatternError(offset: at, message: message) }
    while at < bytes.count {
      let start = at
      let set = try BytePattern.readSet(bytes, &at)
      var (least, most): (Int, Int?) = (1, 1)
      if at < bytes.count {
        switch bytes[at] {
        case UInt8(ascii: "?"): (least, most, at) = (0, 1, at + 1)
        case UInt8(ascii: "*"): (least, most, at) = (0, nil, at + 1)
        case UInt8(ascii: "+"): (least, most, at) = (1, nil, at + 1)
        case UInt8(ascii: "{"): (least, most) = try BytePattern.readBounds(bytes, &at)
        default: break
        }
      }
      // x{2,4} is x x x? x?; x{2,} is x x+; x* is an optional loop.
      var copies: [(isOptional: Bool, isLoop: Bool)] = []
      copies += repeatElement((isOptional: false, isLoop: false), count: least)
      if let most {
        copies += repeatElement((isOptional: true, isLoop: false), count: most - least)
      } else if least == 0 {
        copies = [(isOptional: true, isLoop: true)]
      } else {
        copies[least - 1].isLoop = true
      }
      for copy in copies {
        guard positions < BytePattern.maximumPositions else {
          at = start
          throw fail("the pattern has more than \(BytePattern.maximumPositions) positions")
        }
        let bit = UInt64(1) << UInt64(positions)
        for byte in 0..<128 where set.ascii[byte] { masks[byte] |= bit }
        if set.isOthers { masks[BytePattern.others] |= bit }
        sets.append(set)
        if copy.isLoop { loops |= bit }
        if copy.isOptional { optional |= bit }
        positions += 1
      }
    }
    self.masks = masks
    scalars = sets.reduce(into: Set<UInt32>()) { $0.formUnion($1.listed) }.sorted().map { scalar in
      var mask: UInt64 = 0
      for (position, set) in sets.enumerated() where set.contains(scalar) { mask |= 1 << UInt64(position) }
      return ScalarMask(scalar: scalar, mask: mask)
    }
    self.loops = loops
    self.optional = optional
    count = positions
  }

  private static func readBounds(_ bytes: [UInt8], _ at: inout Int) throws(PatternError) -> (Int, Int?) {
    let start = at
    func number() -> Int? {
      var value: Int?
      while at < bytes.count, (0x30...0x39).contains(bytes[at]), (value ?? 0) < 1_000 {
        value = (value ?? 0) * 10 + Int(bytes[at] - 0x30)
        at += 1
      }
      return value
    }
    at += 1
    guard let least = number() else { throw PatternError(offset: start, message: "'{' needs a number") }
    var most: Int? = least
    if at < bytes.count, bytes[at] == UInt8(ascii: ",") {
      at += 1
      most = number()
    }
    guard at < bytes.count, bytes[at] == UInt8(ascii: "}") else {
      throw PatternError(offset: start, message: "'{' without '}'")
    }
    at += 1
    if let most, most < least || most == 0 { throw PatternError(offset: start, message: "the bounds are in no order") }
    return (least, most)
  }

  /// Behind the masks of ASCII.
  private static let others = 128

  /// The scalar here, whole.
  private static func readScalar(_ bytes: [UInt8], _ at: inout Int) -> Unicode.Scalar {
    let first = bytes[at]
    at += 1
    while at < bytes.count, first >= 0xc0, bytes[at] & 0xc0 == 0x80 { at += 1 }
    let count = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4
    return String(decoding: bytes[(at - count)..<at], as: UTF8.self).unicodeScalars.first!
  }

  private static func readSet(_ bytes: [UInt8], _ at: inout Int) throws(PatternError) -> SignSet {
    let start = at
    let scalar = readScalar(bytes, &at)
    let first = scalar.isASCII ? UInt8(scalar.value) : 0xff
    switch first {
    case UInt8(ascii: "."): return SignSet().negated
    case UInt8(ascii: "\\"): return try escape(bytes, &at)
    case UInt8(ascii: "["):
      var set = SignSet()
      let isNegated = at < bytes.count && bytes[at] == UInt8(ascii: "^")
      if isNegated { at += 1 }
      var isEmpty = true
      while at < bytes.count, bytes[at] != UInt8(ascii: "]") || isEmpty {
        isEmpty = false
        if bytes[at] == UInt8(ascii: "\\") {
          at += 1
          set.formUnion(try escape(bytes, &at))
          continue
        }
        let place = at
        let low = readScalar(bytes, &at)
        if at + 1 < bytes.count, bytes[at] == UInt8(ascii: "-"), bytes[at + 1] != UInt8(ascii: "]") {
          at += 1
          let high = readScalar(bytes, &at)
          guard low.isASCII, high.isASCII, low <= high else {
            throw PatternError(
              offset: place, message: "a range from '\(Character(low))' is none; ranges are of ASCII")
          }
          for value in low.value...high.value { set.ascii[Int(value)] = true }
        } else {
          set.insert(low)
        }
      }
      guard at < bytes.count else { throw PatternError(offset: start, message: "'[' without ']'") }
      at += 1
      return isNegated ? set.negated : set
    case UInt8(ascii: "?"), UInt8(ascii: "*"), UInt8(ascii: "+"), UInt8(ascii: "{"):
      throw PatternError(offset: start, message: "nothing stands before '\(Character(Unicode.Scalar(first)))'")
    case UInt8(ascii: "("), UInt8(ascii: ")"), UInt8(ascii: "|"), UInt8(ascii: "^"), UInt8(ascii: "$"),
      UInt8(ascii: "]"), UInt8(ascii: "}"):
      throw PatternError(
        offset: start,
        message: "'\(Character(Unicode.Scalar(first)))' needs a backslash; the pattern always means the whole text")
    default:
      var set = SignSet()
      set.insert(scalar)
      return set
    }
  }

  private static func escape(_ bytes: [UInt8], _ at: inout Int) throws(PatternError) -> SignSet {
    guard at < bytes.count else { throw PatternError(offset: at - 1, message: "nothing stands behind '\\'") }
    let sign = bytes[at]
    at += 1
    func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }
    func isWord(_ byte: UInt8) -> Bool {
      isDigit(byte) || byte == 0x5f || (0x61...0x7a).contains(byte | 0x20) && byte < 0x80
    }
    func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0d).contains(byte) }
    switch sign {
    case UInt8(ascii: "d"): return .ascii(isDigit)
    case UInt8(ascii: "D"): return SignSet.ascii(isDigit).negated
    case UInt8(ascii: "w"): return .ascii(isWord)
    case UInt8(ascii: "W"): return SignSet.ascii(isWord).negated
    case UInt8(ascii: "s"): return .ascii(isSpace)
    case UInt8(ascii: "S"): return SignSet.ascii(isSpace).negated
    default:
      guard sign < 0x80, !isDigit(sign), !(0x61...0x7a).contains(sign | 0x20) else {
        throw PatternError(offset: at - 2, message: "'\\\(Character(Unicode.Scalar(sign)))' means nothing here")
      }
      return .ascii { $0 == sign }
    }
  }

  /// Whether the whole text fits.
  public func matches(_ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
    masks.withUnsafeBufferPointer { masks in
      scalars.withUnsafeBufferPointer {
        BytePattern.matches(
          bytes, masks: masks.baseAddress!, scalars: $0, loops: loops, optional: optional, count: count)
      }
    }
  }

  @inline(__always)
  static func matches(
    _ bytes: UnsafeBufferPointer<UInt8>, masks: UnsafePointer<UInt64>, scalars: UnsafeBufferPointer<ScalarMask>,
    loops: UInt64, optional: UInt64, count: Int
  ) -> Bool {
    var ready = closure(1, optional)
    var at = 0
    while at < bytes.count {
      let byte = bytes[at]
      at += 1
      let fits = byte < 0x80 ? masks[Int(byte)] : mask(byte, bytes, &at, masks, scalars)
      let hit = ready & fits
      if hit == 0 { return false }
      ready = closure(hit << 1 | hit & loops, optional)
    }
    return ready & 1 << UInt64(count) != 0
  }

  /// The positions that the scalar beyond ASCII fits whose first byte was taken; a byte that begins none is a sign of its own.
  @inline(never)
  private static func mask(
    _ first: UInt8, _ bytes: UnsafeBufferPointer<UInt8>, _ at: inout Int, _ masks: UnsafePointer<UInt64>,
    _ scalars: UnsafeBufferPointer<ScalarMask>
  ) -> UInt64 {
    var left = first < 0xc0 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3
    var scalar = UInt32(first) & (0x3f >> UInt32(left))
    while left > 0, at < bytes.count, bytes[at] & 0xc0 == 0x80 {
      scalar = scalar << 6 | UInt32(bytes[at] & 0x3f)
      at += 1
      left -= 1
    }
    if left == 0, first >= 0xc0 {
      for known in scalars where known.scalar == scalar { return known.mask }
    }
    return masks[others]
  }

  /// Positions that can be skipped are passed on.
  @inline(__always)
  private static func closure(_ ready: UInt64, _ optional: UInt64) -> UInt64 {
    var all = ready
    while true {
      let next = all | (all & optional) << 1
      if next == all { return all }
      all = next
    }
  }
}
