/// Why a text is no pattern, and where in it.
public struct PatternError: Error, Equatable, Sendable {
  public var offset: Int
  public var message: String
}

/// A pattern over bytes that matches in one pass, in time proportional to the text, whatever pattern or text: there is
/// no backtracking that a record could blow up.
///
/// Literals, `.`, classes `[A-Z0-9_]` and `[^;]`, escapes `\d \w \s \D \W \S` and `\` before any other sign, each followed
/// by `?`, `*`, `+`, `{n}`, `{n,}` or `{n,m}`. It must match the whole text. There is no alternation (give a list of
/// values instead) and no group.
///
/// Compiled into positions, at most 63, run as the bits of one word (shift-and, as in Navarro and Raffinot, "Flexible
/// Pattern Matching in Strings", chapter 4).
public struct BytePattern: Sendable, Equatable {
  public let text: String
  /// By byte: the positions that it fits.
  let masks: [UInt64]
  let loops: UInt64
  let optional: UInt64
  let count: Int

  /// Bits of a word, one left for the end.
  public static let maximumPositions = 63

  public init(_ text: String) throws(PatternError) {
    self.text = text
    var masks = [UInt64](repeating: 0, count: 256)
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
        for byte in 0..<256 where set[byte] { masks[byte] |= bit }
        if copy.isLoop { loops |= bit }
        if copy.isOptional { optional |= bit }
        positions += 1
      }
    }
    self.masks = masks
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

  private static func readSet(_ bytes: [UInt8], _ at: inout Int) throws(PatternError) -> [Bool] {
    let start = at
    let first = bytes[at]
    at += 1
    switch first {
    case UInt8(ascii: "."): return [Bool](repeating: true, count: 256)
    case UInt8(ascii: "\\"): return try escape(bytes, &at)
    case UInt8(ascii: "["):
      var set = [Bool](repeating: false, count: 256)
      let isNegated = at < bytes.count && bytes[at] == UInt8(ascii: "^")
      if isNegated { at += 1 }
      var isEmpty = true
      while at < bytes.count, bytes[at] != UInt8(ascii: "]") || isEmpty {
        isEmpty = false
        if bytes[at] == UInt8(ascii: "\\") {
          at += 1
          for (byte, isIn) in try escape(bytes, &at).enumerated() where isIn { set[byte] = true }
          continue
        }
        let low = bytes[at]
        at += 1
        if at + 1 < bytes.count, bytes[at] == UInt8(ascii: "-"), bytes[at + 1] != UInt8(ascii: "]") {
          let high = bytes[at + 1]
          guard low < 0x80, high < 0x80, low <= high else {
            throw PatternError(offset: at - 1, message: "a range from '\(Character(Unicode.Scalar(low)))' is none")
          }
          for byte in low...high { set[Int(byte)] = true }
          at += 2
        } else {
          guard low < 0x80 else { throw PatternError(offset: at - 1, message: "a class holds ASCII only") }
          set[Int(low)] = true
        }
      }
      guard at < bytes.count else { throw PatternError(offset: start, message: "'[' without ']'") }
      at += 1
      return isNegated ? set.map { !$0 } : set
    case UInt8(ascii: "?"), UInt8(ascii: "*"), UInt8(ascii: "+"), UInt8(ascii: "{"):
      throw PatternError(offset: start, message: "nothing stands before '\(Character(Unicode.Scalar(first)))'")
    case UInt8(ascii: "("), UInt8(ascii: ")"), UInt8(ascii: "|"), UInt8(ascii: "^"), UInt8(ascii: "$"),
      UInt8(ascii: "]"), UInt8(ascii: "}"):
      throw PatternError(
        offset: start,
        message: "'\(Character(Unicode.Scalar(first)))' needs a backslash; the pattern always means the whole text")
    default:
      var set = [Bool](repeating: false, count: 256)
      set[Int(first)] = true
      return set
    }
  }

  private static func escape(_ bytes: [UInt8], _ at: inout Int) throws(PatternError) -> [Bool] {
    guard at < bytes.count else { throw PatternError(offset: at - 1, message: "nothing stands behind '\\'") }
    let sign = bytes[at]
    at += 1
    func set(_ isIn: (UInt8) -> Bool) -> [Bool] { (0..<256).map { isIn(UInt8($0)) } }
    func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }
    func isWord(_ byte: UInt8) -> Bool {
      isDigit(byte) || byte == 0x5f || (0x61...0x7a).contains(byte | 0x20) && byte < 0x80
    }
    func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0d).contains(byte) }
    switch sign {
    case UInt8(ascii: "d"): return set(isDigit)
    case UInt8(ascii: "D"): return set { !isDigit($0) }
    case UInt8(ascii: "w"): return set(isWord)
    case UInt8(ascii: "W"): return set { !isWord($0) }
    case UInt8(ascii: "s"): return set(isSpace)
    case UInt8(ascii: "S"): return set { !isSpace($0) }
    default:
      guard sign < 0x80, !isDigit(sign), !(0x61...0x7a).contains(sign | 0x20) else {
        throw PatternError(offset: at - 2, message: "'\\\(Character(Unicode.Scalar(sign)))' means nothing here")
      }
      return set { $0 == sign }
    }
  }

  /// Whether the whole text fits.
  public func matches(_ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
    masks.withUnsafeBufferPointer {
      BytePattern.matches(bytes, masks: $0.baseAddress!, loops: loops, optional: optional, count: count)
    }
  }

  @inline(__always)
  static func matches(
    _ bytes: UnsafeBufferPointer<UInt8>, masks: UnsafePointer<UInt64>, loops: UInt64, optional: UInt64, count: Int
  ) -> Bool {
    var ready = closure(1, optional)
    for byte in bytes {
      let hit = ready & masks[Int(byte)]
      if hit == 0 { return false }
      ready = closure(hit << 1 | hit & loops, optional)
    }
    return ready & 1 << UInt64(count) != 0
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
