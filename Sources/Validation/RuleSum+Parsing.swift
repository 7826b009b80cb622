import Domain

/// Why a text is no comparison, and where in it.
public struct RuleSumError: Error, Equatable, Sendable {
  public var offset: Int
  public var message: String
}

extension RuleSum {
  /// The most terms; a check with more is a report.
  public static let maximumTerms = 32

  /// Reads `net + tax + freight - discount = gross`: amounts with `+` and `-`, each with a whole factor before it if
  /// wanted (`2 * fee`), decimal constants, and one of `= <= >= < >`. `sum(lines[].net)` is what the lines of a record add up
  /// to.
  /// - Parameter noLines: Why the records of the source have no lines that can be added up; nil where they may have.
  public init(
    _ text: String, field: (String) -> RuleField?, known: [String], noLines: String? = nil
  ) throws(RuleSumError) {
    let bytes = Array(text.utf8)
    var at = 0
    var (terms, constant): ([Term], Int64) = ([], 0)
    var lines: [LinePath] = []
    var relation: Relation?
    func skip() { while at < bytes.count, bytes[at] == 0x20 || bytes[at] == 0x09 { at += 1 } }
    func take(_ isPart: (UInt8) -> Bool) -> String {
      let start = at
      while at < bytes.count, isPart(bytes[at]) { at += 1 }
      return String(decoding: bytes[start..<at], as: UTF8.self)
    }
    func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) || byte == 0x2e }
    func isLetter(_ byte: UInt8) -> Bool { (0x61...0x7a).contains(byte | 0x20) && byte < 0x80 || byte == 0x5f }
    var sign: Int64 = 1
    var needsTerm = true
    skip()
    while at < bytes.count {
      let start = at
      let byte = bytes[at]
      if needsTerm, byte == UInt8(ascii: "-") || byte == UInt8(ascii: "+") {
        if byte == UInt8(ascii: "-") { sign = -sign }
        at += 1
      } else if needsTerm, isDigit(byte) {
        var digits = take(isDigit)
        skip()
        let side: Int64 = relation == nil ? 1 : -1
        if at < bytes.count, bytes[at] == UInt8(ascii: "*") {
          guard let factor = Int64(digits), factor <= 1_000_000 else {
            throw RuleSumError(
              offset: start, message: "a factor is a whole number of at most a million, not '\(digits)'")
          }
          sign *= factor
          at += 1
          skip()
          guard at < bytes.count, isLetter(bytes[at]) else {
            throw RuleSumError(offset: at, message: "an amount is expected behind '*'")
          }
          continue
        }
        let value = digits.withUTF8 { (try? DecimalText($0)).flatMap { try? $0.units(decimals: 6) } }
        guard let value, value <= .max / 4, abs(constant) <= .max / 4 else {
          throw RuleSumError(offset: start, message: "'\(digits)' is no number of at most six decimals")
        }
        constant += side * sign * value
        (sign, needsTerm) = (1, false)
      } else if needsTerm, isLetter(byte) {
        let name = take { isLetter($0) || (0x30...0x39).contains($0) }
        var found = field(name)
        if name == "sum", at < bytes.count, bytes[at] == UInt8(ascii: "(") {
          if let noLines { throw RuleSumError(offset: start, message: noLines) }
          guard let close = bytes[at...].firstIndex(of: UInt8(ascii: ")")) else {
            throw RuleSumError(offset: at, message: "a bracket is not closed")
          }
          let path = try LinePath(bytes[(at + 1)..<close])
          if !lines.contains(path) { lines.append(path) }
          found = RuleField(.lines, index: UInt8(lines.firstIndex(of: path)!))
          at = close + 1
        }
        guard let found else {
          let hint = nearestName(name, in: known).map { "; did you mean '\($0)'?" } ?? ""
          throw RuleSumError(offset: start, message: "'\(name)' is no amount of this source\(hint)")
        }
        guard terms.count < RuleSum.maximumTerms else {
          throw RuleSumError(offset: start, message: "more than \(RuleSum.maximumTerms) amounts")
        }
        terms.append(
          Term(field: found, coefficient: relation == nil ? sign : -sign, isLeft: relation == nil))
        (sign, needsTerm) = (1, false)
      } else if !needsTerm, byte == UInt8(ascii: "-") || byte == UInt8(ascii: "+") {
        sign = byte == UInt8(ascii: "-") ? -1 : 1
        needsTerm = true
        at += 1
      } else if !needsTerm, "<>=".utf8.contains(byte) {
        let sign = take { "<>=".utf8.contains($0) }
        guard relation == nil, let found = Relation(rawValue: sign) else {
          throw RuleSumError(
            offset: start,
            message: relation == nil ? "'\(sign)' is none of = <= >= < >" : "there is more than one comparison")
        }
        relation = found
        needsTerm = true
      } else {
        throw RuleSumError(
          offset: start,
          message: needsTerm
            ? "an amount or a number is expected"
            : "'+', '-' or a comparison is expected, not '\(Character(Unicode.Scalar(byte)))'")
      }
      skip()
    }
    guard !needsTerm else { throw RuleSumError(offset: at, message: "an amount or a number is expected at the end") }
    guard let relation else { throw RuleSumError(offset: at, message: "there is no comparison (= <= >= < >)") }
    guard !terms.isEmpty else { throw RuleSumError(offset: 0, message: "there is no amount in it") }
    self.init(terms: terms, lines: lines, constant_u: constant, relation: relation)
  }
}

extension LinePath {
  /// Reads `order.lines[].amounts.net`, see `RuleSum`.
  public init(_ text: String) throws(RuleSumError) { try self.init(Array(text.utf8)[...]) }

  /// Reads `order.lines[].amounts.net`: names and quoted names with dots between them, and the one array in it.
  fileprivate init(_ bytes: ArraySlice<UInt8>) throws(RuleSumError) {
    var (array, field): ([String]?, [String]) = (nil, [])
    var at = bytes.startIndex
    func expected(_ what: String) -> RuleSumError {
      RuleSumError(offset: at, message: "\(what) is expected, as in sum(lines[].net)")
    }
    var needsName = true
    while at < bytes.endIndex {
      let byte = bytes[at]
      if byte == UInt8(ascii: "["), !needsName {
        guard array == nil, at + 1 < bytes.endIndex, bytes[at + 1] == UInt8(ascii: "]") else {
          throw expected(array == nil ? "'[]'" : "one array alone")
        }
        (array, field) = (field, [])
        at += 2
        continue
      }
      if byte == UInt8(ascii: "."), !needsName {
        needsName = true
        at += 1
        continue
      }
      guard needsName else { throw expected("'.' or '[]'") }
      let isQuoted = byte == UInt8(ascii: "'")
      let first = isQuoted ? at + 1 : at
      let last =
        isQuoted
        ? bytes[first...].firstIndex(of: UInt8(ascii: "'")) ?? first
        : bytes[first...].firstIndex { ".[]() ".utf8.contains($0) } ?? bytes.endIndex
      guard last > first else { throw expected("the name of a field") }
      field.append(String(decoding: bytes[first..<last], as: UTF8.self))
      at = isQuoted ? last + 1 : last
      needsName = false
    }
    guard let array else { throw expected("an array ('[]')") }
    if needsName { throw expected("the name of a field") }
    self.init(array: array, field: field)
  }
}
