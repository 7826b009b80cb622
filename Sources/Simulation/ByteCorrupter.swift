import Domain

/// A way in which a record can be unreadable.
public enum Corruption: String, Sendable, CaseIterable {
  /// No text at all.
  case randomBytes
  /// JSON that ends too early.
  case truncated
  /// JSON, but no object.
  case notAnObject
  /// An object where the amount should be.
  case wrongType
  /// `NaN` for an amount, which JSON does not know.
  case notANumber
  /// An amount of more digits than 64 bits hold.
  case hugeNumber
  /// A byte sequence inside the order key that is not UTF-8.
  case invalidUTF8
  case emptyKey
  /// The field of the order key has another name.
  case missingKey
  /// A record of more than ten megabytes.
  case enormous
}

/// Damages good JSON records, so that each of them must end as a dead letter: neither taken in nor lost.
///
/// The bytes never hold a line end, so that a damaged record stays one line of a file, and never a TAB.
public struct ByteCorrupter: Sendable {
  private let keyField: [UInt8]
  private let amountField: [UInt8]
  private var random: SeededRandom

  /// - Parameters:
  ///   - keyField: Name of the field that holds the order key.
  ///   - amountField: Name of a field that holds an amount that is read.
  public init(seed: UInt64, keyField: String, amountField: String) {
    self.keyField = Array("\"\(keyField)\":".utf8)
    self.amountField = Array("\"\(amountField)\":".utf8)
    random = SeededRandom(seed: seed, stream: 0x636f_7272)
  }

  /// A damaged copy of a record of the generator: an object in which both fields hold texts without escapes.
  public mutating func corrupt(_ record: [UInt8], _ corruption: Corruption) -> [UInt8] {
    switch corruption {
    case .randomBytes:
      // The first byte alone makes it no JSON.
      var bytes = [UInt8(0x80 + random.below(0x80))]
      for _ in 0..<random.below(400) { bytes.append(UInt8(random.below(256))) }
      return bytes.filter { ![0x09, 0x0a, 0x0d].contains($0) }
    case .truncated: return Array(record[0..<1 + random.below(record.count - 1)])
    // No `null` among them: for a change-data-capture source that is a tombstone, and no fault.
    case .notAnObject: return Array(random.pick(["[]", "17", "\"text\"", "true", "[{}]", "x"]).utf8)
    case .wrongType: return replace(amountField, in: record, with: Array("{\"value\":[1,2]}".utf8))
    case .notANumber:
      return replace(amountField, in: record, with: Array(random.pick(["NaN", "Infinity", "-NaN", "0x10"]).utf8))
    case .hugeNumber:
      let digits = String(repeating: "9", count: 25 + random.below(200))
      return replace(amountField, in: record, with: Array(random.pick(["1e999", "\"\(digits)\"", digits]).utf8))
    case .invalidUTF8: return replace(keyField, in: record, with: [0x22, 0x41, 0xc3, 0x28, 0x22])
    case .emptyKey: return replace(keyField, in: record, with: [0x22, 0x22])
    case .missingKey:
      var bytes = record
      bytes[find(keyField, in: record) + 1] = UInt8(ascii: "#")
      return bytes
    case .enormous:
      return replace(keyField, in: record, with: [0x22] + [UInt8](repeating: 0x7a, count: 10_000_001) + [0x22])
    }
  }

  private func find(_ field: [UInt8], in record: [UInt8]) -> Int {
    let last = record.count - field.count
    guard last >= 0, let at = (0...last).first(where: { record[$0..<$0 + field.count].elementsEqual(field) }) else {
      preconditionFailure("the record has no \(String(decoding: field, as: UTF8.self))")
    }
    return at
  }

  /// Puts a value in the place of a text field's.
  private func replace(_ field: [UInt8], in record: [UInt8], with value: [UInt8]) -> [UInt8] {
    let start = find(field, in: record) + field.count
    precondition(record[start] == 0x22, "the field holds a text")
    let end = record[(start + 1)...].firstIndex(of: 0x22)! + 1
    return Array(record[..<start]) + value + Array(record[end...])
  }
}
