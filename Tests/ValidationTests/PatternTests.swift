import Foundation
import Testing

@testable import Validation

@Suite struct PatternTests {
  func matches(_ pattern: String, _ text: String) throws -> Bool {
    let compiled = try BytePattern(pattern)
    return Array(text.utf8).withUnsafeBufferPointer { compiled.matches($0) }
  }

  @Test(arguments: [
    ("SO-[0-9]{6}", ["SO-123456"], ["SO-12345", "SO-1234567", "so-123456", "", "xSO-123456"]),
    (#"\d+"#, ["1", "0099"], ["", "1a"]), ("a*", ["", "a", "aaaa"], ["b", "ab"]),
    ("a?b", ["b", "ab"], ["aab", "a"]), ("x{2,}", ["xx", "xxxxx"], ["x", ""]),
    ("x{0,2}y", ["y", "xy", "xxy"], ["xxxy"]),
    ("[^;]+", ["abc", "é"], [";", "a;b", ""]), (#"a\.b"#, ["a.b"], ["axb"]), (#"[\w-]+"#, ["a_b-9"], ["a b"]),
    (".*x", ["x", "xxx", "ax"], ["xa", ""]), ("[]a]+", ["]a"], ["b"]), ("[a-]", ["a", "-"], ["b"]),
    ("é", ["é"], ["e"]), ("M.ller", ["Müller", "M€ller", "M😀ller", "Maller"], ["Mueller", "Mller"]),
    (".{3}", ["äöü", "a😀b", "abc"], ["äö", "äöüß", "ä"]), ("[^;]{1,5}", ["äöüßé", "a"], ["äöüßéa", "ä;", ""]),
    ("ü+", ["ü", "üü", "üüü"], ["", "ö", "üö"]), ("ü{2}", ["üü"], ["ü", "üüü"]),
    ("Stra.e", ["Straße", "Strase"], ["Strasse"]),
    (".{0,35}", [String(repeating: "ß", count: 35)], [String(repeating: "ß", count: 36)]),
    ("[äöü]+", ["äöü"], ["a", "é", "äa"]), ("[^äa]", ["ö", "b", "😀"], ["ä", "a", ""]),
    (#"[^\Wä]"#, ["a"], ["ä", "ö", ";"]),
    (#"[\Wa]ä"#, ["öä", "aä", "ää"], ["bä"]), (#"\w"#, ["a"], ["ä"]), (#"\S\D\W"#, ["äöü"], ["ä"]),
    ("x.", ["x\u{7ff}"], ["x"]), ("", [""], ["a"]), (#"\S{1,3} \D"#, ["abc d"], ["abc 1", "abcd d"]),
  ]) func fits(_ pattern: String, _ good: [String], _ bad: [String]) throws {
    for text in good { #expect(try matches(pattern, text), "\(pattern) \(text)") }
    for text in bad { #expect(try !matches(pattern, text), "\(pattern) \(text)") }
  }

  @Test(arguments: [
    ("a{", 1), ("*a", 0), ("[a", 0), (#"a\"#, 1), ("(a)", 0), ("a|b", 1), ("^a$", 0), ("a{3,2}", 1), ("a{64}", 0),
    ("[z-a]", 1), (#"\q"#, 0), ("a{0}", 1), ("a]", 1), ("[é-ü]", 1), ("ab{60}c{5}", 6),
  ]) func isRefused(_ pattern: String, _ offset: Int) {
    do {
      _ = try BytePattern(pattern)
      Issue.record("\(pattern) is taken")
    } catch { #expect(error.offset == offset, "\(pattern): \(error)") }
  }

  /// Against Foundation's regular expressions, on random patterns and texts of few letters.
  @Test(arguments: Array(1...20) as [UInt64]) func agreesWithRegularExpressions(_ seed: UInt64) throws {
    var generator = SeededGenerator(seed)
    for _ in 0..<60 {
      var pattern = ""
      for _ in 0..<Int.random(in: 1...5, using: &generator) {
        pattern += ["a", "b", ".", "[ab]", "[^a]", "c", "ü", "[bü]", "[^ü]"].randomElement(using: &generator)!
        pattern += ["", "", "?", "*", "+", "{2}", "{1,3}", "{0,2}", "{2,}"].randomElement(using: &generator)!
      }
      let expression = try NSRegularExpression(pattern: "^(?:\(pattern))$", options: .dotMatchesLineSeparators)
      for _ in 0..<20 {
        let text = String(
          (0..<Int.random(in: 0...7, using: &generator)).map { _ in "abcü€".randomElement(using: &generator)! })
        let expected = expression.firstMatch(in: text, range: NSRange(location: 0, length: text.utf16.count)) != nil
        #expect(try matches(pattern, text) == expected, "\(pattern) on \(text), seed \(seed)")
      }
    }
  }

  /// Linear in the text: what makes backtracking matchers explode passes at once.
  @Test func noTextBlowsItUp() throws {
    let pattern = String(repeating: "a*", count: 30) + "b"
    let text = String(repeating: "a", count: 1_000_000)
    #expect(try !matches(pattern, text))
  }
}

/// SplitMix64, so that a failure can be repeated from its seed.
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64
  init(_ seed: UInt64) { state = seed &* 0x9e37_79b9_7f4a_7c15 }
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
    return z ^ z >> 31
  }
}
