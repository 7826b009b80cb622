import Domain

/// Turns the JSON form of an output message into its Avro form, in one pass along the contract.
///
/// What a task writes is JSON first: that is what epochs are digested over and what a replay makes again, whatever ids a
/// registry gives out. The Avro form is a function of it. Fields stand in the message in the order of the contract, so
/// nothing is looked up; those that may be absent are null.
struct AvroMessageEncoder: Sendable {
  private final class Node: Sendable {
    enum Kind: Sendable {
      case text, integer, boolean, time, date
      case record([Field])
      case map(Node)
      case list(Node)
    }
    let kind: Kind
    /// A union of null and the type.
    let isUnion: Bool

    init(_ type: SchemaType, isOptional: Bool = false) {
      isUnion = isOptional || type.isNullable
      kind =
        switch type {
        case .text(_, "date-time", _): .time
        case .text(_, "date", _): .date
        case .text, .enumeration: .text
        case .integer: .integer
        case .boolean: .boolean
        case .object(let fields): .record(fields.map(Field.init))
        case .map(let inner): .map(Node(inner))
        case .list(let inner): .list(Node(inner))
        }
    }
  }

  private struct Field: Sendable {
    /// `"name":`
    let mark: [UInt8]
    let node: Node
    let isOptional: Bool

    init(_ field: SchemaField) {
      var writer = JSONWriter()
      writer.string(field.name)
      mark = writer.bytes + [UInt8(ascii: ":")]
      isOptional = !field.isRequired
      node = Node(field.type, isOptional: isOptional)
    }
  }

  private let name: String
  private let fields: [Field]

  init(_ schema: TopicSchema) {
    name = schema.name
    fields = schema.fields.map(Field.init)
  }

  /// Appends the record, without any framing. The message must be one of the contract's: anything else is a mistake of
  /// this program.
  func encode(_ json: UnsafeBufferPointer<UInt8>, into bytes: inout [UInt8]) {
    var cursor = Cursor(json: json, name: name)
    cursor.record(fields, into: &bytes)
    cursor.expect(cursor.isAtEnd, "nothing behind it")
  }

  private struct Cursor {
    let json: UnsafeBufferPointer<UInt8>
    let name: String
    var at = 0

    init(json: UnsafeBufferPointer<UInt8>, name: String) {
      self.json = json
      self.name = name
    }

    var isAtEnd: Bool { at == json.count }

    @inline(__always)
    func expect(_ isThere: Bool, _ what: @autoclosure () -> String) {
      precondition(isThere, "a message '\(name)' does not keep to its contract at byte \(at): expected \(what())")
    }

    @inline(__always)
    private var next: UInt8 { at < json.count ? json[at] : 0 }

    @inline(__always)
    private mutating func take(_ byte: UInt8) {
      expect(next == byte, "'\(Character(UnicodeScalar(byte)))'")
      at += 1
    }

    @inline(__always)
    private mutating func skip(_ byte: UInt8) -> Bool {
      guard next == byte else { return false }
      at += 1
      return true
    }

    private mutating func skip(_ mark: [UInt8]) -> Bool {
      guard json.count - at >= mark.count else { return false }
      for index in mark.indices where json[at + index] != mark[index] { return false }
      at += mark.count
      return true
    }

    private static let null = Array("null".utf8)
    private static let yes = Array("true".utf8)
    private static let no = Array("false".utf8)

    mutating func record(_ fields: [Field], into bytes: inout [UInt8]) {
      take(UInt8(ascii: "{"))
      var isFirst = true
      for field in fields {
        let start = at
        if (isFirst || skip(UInt8(ascii: ","))) && skip(field.mark) {
          isFirst = false
          value(field.node, into: &bytes)
        } else {
          at = start
          expect(field.isOptional, "the field \(String(decoding: field.mark, as: UTF8.self))")
          bytes.append(0)
        }
      }
      take(UInt8(ascii: "}"))
    }

    private mutating func value(_ node: Node, into bytes: inout [UInt8]) {
      if node.isUnion {
        if skip(Cursor.null) {
          bytes.append(0)
          return
        }
        // The second branch, in zigzag.
        bytes.append(2)
      }
      switch node.kind {
      case .text: string(into: &bytes)
      case .integer: Cursor.long(integer(), into: &bytes)
      case .boolean:
        let isTrue = skip(Cursor.yes)
        expect(isTrue || skip(Cursor.no), "true or false")
        bytes.append(isTrue ? 1 : 0)
      case .time: Cursor.long(time(), into: &bytes)
      case .date: Cursor.long(date(), into: &bytes)
      case .record(let fields): record(fields, into: &bytes)
      case .map(let inner):
        items(from: UInt8(ascii: "{"), to: UInt8(ascii: "}"), into: &bytes) { cursor, bytes in
          cursor.string(into: &bytes)
          cursor.take(UInt8(ascii: ":"))
          cursor.value(inner, into: &bytes)
        }
      case .list(let inner):
        items(from: UInt8(ascii: "["), to: UInt8(ascii: "]"), into: &bytes) { cursor, bytes in
          cursor.value(inner, into: &bytes)
        }
      }
    }

    /// Items in blocks whose number takes one byte.
    private mutating func items(
      from open: UInt8, to close: UInt8, into bytes: inout [UInt8], _ item: (inout Cursor, inout [UInt8]) -> Void
    ) {
      take(open)
      var (block, count) = (0, 0)
      while !skip(close) {
        if count == 0 {
          block = bytes.count
          bytes.append(0)
        } else {
          take(UInt8(ascii: ","))
        }
        item(&self, &bytes)
        count += 1
        bytes[block] = UInt8(count) << 1
        if count == 63, skip(UInt8(ascii: ",")) { count = 0 }
      }
      bytes.append(0)
    }

    static func long(_ value: Int64, into bytes: inout [UInt8]) {
      var rest = UInt64(bitPattern: value << 1 ^ value >> 63)
      while rest >= 0x80 {
        bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
        rest >>= 7
      }
      bytes.append(UInt8(rest))
    }

    private mutating func integer() -> Int64 {
      let isNegative = skip(UInt8(ascii: "-"))
      let start = at
      var value: Int64 = 0
      while next >= 0x30, next <= 0x39 {
        // Downwards, so that the least number fits.
        value = value * 10 - Int64(next - 0x30)
        at += 1
      }
      expect(at > start, "a whole number")
      return isNegative ? value : -value
    }

    private mutating func number(_ digits: Int) -> Int {
      var value = 0
      for _ in 0..<digits {
        expect(next >= 0x30 && next <= 0x39, "a digit")
        value = value * 10 + Int(next - 0x30)
        at += 1
      }
      return value
    }

    private mutating func civilDay() -> Int64 {
      let year = number(4)
      take(UInt8(ascii: "-"))
      let month = number(2)
      take(UInt8(ascii: "-"))
      return Int64(daysFromCivil(year: year, month: month, day: number(2)))
    }

    private mutating func date() -> Int64 {
      take(UInt8(ascii: "\""))
      let day = civilDay()
      take(UInt8(ascii: "\""))
      return day
    }

    /// `"1996-07-10T12:00:00.000Z"`, as milliseconds.
    private mutating func time() -> Int64 {
      take(UInt8(ascii: "\""))
      let day = civilDay()
      take(UInt8(ascii: "T"))
      let hour = number(2)
      take(UInt8(ascii: ":"))
      let minute = number(2)
      take(UInt8(ascii: ":"))
      let second = number(2)
      take(UInt8(ascii: "."))
      let millisecond = number(3)
      take(UInt8(ascii: "Z"))
      take(UInt8(ascii: "\""))
      return day * millisecondsPerDay + Int64(((hour * 60 + minute) * 60 + second) * 1_000 + millisecond)
    }

    private mutating func string(into bytes: inout [UInt8]) {
      take(UInt8(ascii: "\""))
      let start = at
      while next != UInt8(ascii: "\""), next != UInt8(ascii: "\\") {
        expect(at < json.count, "the end of a text")
        at += 1
      }
      let plain = UnsafeBufferPointer(rebasing: json[start..<at])
      if skip(UInt8(ascii: "\"")) {
        Cursor.long(Int64(plain.count), into: &bytes)
        bytes.append(contentsOf: plain)
        return
      }
      var text = Array(plain)
      while !skip(UInt8(ascii: "\"")) {
        expect(at < json.count, "the end of a text")
        if skip(UInt8(ascii: "\\")) {
          text.append(escaped())
        } else {
          text.append(next)
          at += 1
        }
      }
      Cursor.long(Int64(text.count), into: &bytes)
      bytes.append(contentsOf: text)
    }

    /// What is escaped in messages: quotes, backslashes, control characters.
    private mutating func escaped() -> UInt8 {
      let mark = next
      at += 1
      switch mark {
      case UInt8(ascii: "n"): return 0x0a
      case UInt8(ascii: "r"): return 0x0d
      case UInt8(ascii: "t"): return 0x09
      case UInt8(ascii: "u"):
        var value = 0
        for _ in 0..<4 {
          let digit = Character(UnicodeScalar(next)).hexDigitValue
          expect(digit != nil, "four hexadecimal digits")
          value = value << 4 | (digit ?? 0)
          at += 1
        }
        expect(value < 0x20, "a control character")
        return UInt8(value)
      default:
        expect(mark == UInt8(ascii: "\"") || mark == UInt8(ascii: "\\"), "an escape")
        return mark
      }
    }
  }
}
