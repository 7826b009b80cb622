import Domain
import Foundation
import Testing

@testable import Decoding

/// The scanner against `JSONSerialization` as the oracle: the same values, or both refuse.
///
/// Deliberate differences: a mapped key that comes twice is refused, and so is a comma before a closing brace, which
/// Foundation lets pass; numbers that no `Double` can hold are well-formed here (an amount of that size is refused
/// later, as an amount). Foundation also accepts a byte-order mark and UTF-16; records are UTF-8.
@Suite struct FuzzTests {
  struct Generator {
    var state: UInt64
    mutating func next() -> UInt64 {
      state &+= 0x9e37_79b9_7f4a_7c15
      var z = state
      z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
      z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
      return z ^ z >> 31
    }
    mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
    mutating func pick<T>(_ items: [T]) -> T { items[below(items.count)] }

    mutating func string() -> String {
      let pieces = [
        "a", "Zz9", " ", "é", "😀", "\\n", "\\\"", "\\\\", "\\/", "\\u0041", "\\u00e9", "\\ud83d\\ude00", "{", "[", ":",
        ",",
      ]
      return "\"" + (0..<below(5)).map { _ in pick(pieces) }.joined() + "\""
    }

    mutating func value(_ depth: Int) -> String {
      switch below(depth > 4 ? 5 : 7) {
      case 0: return string()
      case 1: return pick(["0", "-1", "12.50", "1e3", "-0.5E-2", "123456789012345678", "2e+2"])
      case 2: return "true"
      case 3: return "null"
      case 4: return "false"
      case 5:
        let keys = ["a", "b", "c", "d\\u0065", "é", "x y"].shuffled(using: &self).prefix(below(4))
        return "{"
          + keys.map { space() + "\"\($0)\"" + space() + ":" + space() + value(depth + 1) }.joined(separator: ",")
          + space() + "}"
      default:
        return "[" + (0..<below(4)).map { _ in space() + value(depth + 1) + space() }.joined(separator: ",") + "]"
      }
    }

    mutating func space() -> String { pick(["", "", "", " ", "\n", "\t", "\r"]) }
  }

  static let paths = ["a", "b", "c", "de", "é", "a.a", "a.b", "b.c", "a[0]", "a[1].b", "b[2]"]

  @Test(arguments: 0..<8 as Range<UInt64>) func agreesWithFoundation(block: UInt64) {
    var nodes = [PathNode()]
    var slots: [String: Int] = [:]
    let texts = PlanTexts()
    for path in FuzzTests.paths {
      var at = 0
      for step in path.replacingOccurrences(of: "[", with: ".[").split(separator: ".") {
        if step.hasPrefix("[") {
          let index = Int(step.dropFirst().dropLast())!
          if let found = nodes[at].indexes.firstIndex(of: index) {
            at = nodes[at].indexChildren[found]
          } else {
            nodes.append(PathNode())
            nodes[at].indexes.append(index)
            nodes[at].indexChildren.append(nodes.count - 1)
            at = nodes.count - 1
          }
        } else {
          let view = texts.intern(String(step))
          if let found = nodes[at].keys.firstIndex(where: { $0.elementsEqual(view) }) {
            at = nodes[at].children[found]
          } else {
            nodes.append(PathNode())
            nodes[at].keys.append(view)
            nodes[at].children.append(nodes.count - 1)
            at = nodes.count - 1
          }
        }
      }
      nodes[at].slot = slots.count
      slots[path] = nodes[at].slot
    }
    var scanner = JSONScanner(nodes: nodes, slotCount: slots.count, maximumDepth: 400)
    var accepted = 0
    var refused = 0
    for round in 0..<2_500 as Range<UInt64> {
      let seed = block << 32 | round
      var generator = Generator(state: seed)
      var bytes = Array(generator.value(0).utf8)
      switch generator.below(4) {
      case 0:
        for _ in 0...generator.below(3) where !bytes.isEmpty {
          bytes[generator.below(bytes.count)] =
            generator.below(2) == 0 ? UInt8(generator.below(256)) : generator.pick(Array("{}[]\",:\\0-e.u".utf8))
        }
      case 1: bytes.removeLast(min(bytes.count, generator.below(4)))
      case 2 where !bytes.isEmpty: bytes.insert(UInt8(generator.below(128)), at: generator.below(bytes.count))
      default: break
      }
      if bytes.starts(with: [0xef, 0xbb, 0xbf]) || bytes.contains(0) { continue }
      let oracle = try? JSONSerialization.jsonObject(with: Data(bytes), options: [.fragmentsAllowed])
      var message: JSONFault?
      let ours: Bool = bytes.withUnsafeBufferPointer { buffer in
        do throws(JSONFault) {
          try scanner.scan(ByteView(buffer), hasMargin: false)
          return true
        } catch {
          message = error
          return false
        }
      }
      if let message, "\(message.message)" == "a mapped key comes twice" { continue }
      if let message, oracle != nil, "\(message.message)" == "a key must start here",
        bytes[..<message.offset].last(where: { $0 > 0x20 }) == UInt8(ascii: ",")
      {
        continue
      }
      let text = String(decoding: bytes, as: UTF8.self)
      if ours, oracle == nil, text.contains(/[eE]\+?\d{3,}/) || text.contains(/\d{300,}/) { continue }
      #expect(ours == (oracle != nil), "seed \(seed): \(text) \(message.map { "\($0)" } ?? "")")
      guard ours, let oracle else {
        refused += 1
        continue
      }
      accepted += 1
      bytes.withUnsafeBufferPointer { buffer in
        _ = try? scanner.scan(ByteView(buffer), hasMargin: false)
        for (path, slot) in slots {
          let value = scanner.values[slot]
          let raw = value.view
          let expected = FuzzTests.look(oracle, path)
          let agrees: Bool
          switch value.kind {
          case .absent: agrees = expected == nil
          case .null: agrees = expected is NSNull
          case .composite: agrees = expected is [Any] || expected is [String: Any]
          case .bool: agrees = (expected as? Bool) == (raw.string == "true")
          case .number: agrees = (expected as? NSNumber)?.doubleValue == Double(raw.string)
          case .string: agrees = (expected as? String) == raw.string
          case .escapedString:
            var target = [UInt8](repeating: 0, count: raw.count)
            let count = target.withUnsafeMutableBufferPointer { JSONScanner.unescape(raw, into: $0.baseAddress!) }
            agrees = (expected as? String) == String(decoding: target[..<count], as: UTF8.self)
          }
          #expect(agrees, "seed \(seed) path \(path): \(String(decoding: bytes, as: UTF8.self))")
        }
      }
    }
    #expect(accepted > 500)
    #expect(refused > 300)
  }

  static func look(_ root: Any, _ path: String) -> Any? {
    var at: Any? = root
    for step in path.replacingOccurrences(of: "[", with: ".[").split(separator: ".") {
      if step.hasPrefix("[") {
        let index = Int(step.dropFirst().dropLast())!
        guard let list = at as? [Any], index < list.count else { return nil }
        at = list[index]
      } else {
        at = (at as? [String: Any])?[String(step)]
      }
    }
    return at
  }
}

extension FuzzTests.Generator: RandomNumberGenerator {}
