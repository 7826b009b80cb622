import Domain
import Foundation

/// Appends JSON to a byte buffer. It writes what it is told in the order told; the caller keeps the structure right.
public struct JSONWriter: Sendable {
  public private(set) var bytes: [UInt8] = []
  private var needsComma = false

  public init() {}

  public var text: String { String(decoding: bytes, as: UTF8.self) }

  public mutating func removeAll() {
    bytes.removeAll(keepingCapacity: true)
    needsComma = false
  }

  private mutating func separate() {
    if needsComma { bytes.append(UInt8(ascii: ",")) }
    needsComma = false
  }

  private mutating func raw(_ text: String) { bytes.append(contentsOf: text.utf8) }

  public mutating func beginObject() {
    separate()
    bytes.append(UInt8(ascii: "{"))
  }

  public mutating func endObject() {
    bytes.append(UInt8(ascii: "}"))
    needsComma = true
  }

  public mutating func beginArray() {
    separate()
    bytes.append(UInt8(ascii: "["))
  }

  public mutating func endArray() {
    bytes.append(UInt8(ascii: "]"))
    needsComma = true
  }

  public mutating func key(_ name: String) {
    string(name)
    needsComma = false
    bytes.append(UInt8(ascii: ":"))
  }

  public mutating func string(_ text: String) {
    separate()
    bytes.append(UInt8(ascii: "\""))
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "\""), UInt8(ascii: "\\"):
        bytes.append(UInt8(ascii: "\\"))
        bytes.append(byte)
      case 0x0a: raw("\\n")
      case 0x0d: raw("\\r")
      case 0x09: raw("\\t")
      case 0..<0x20:
        let digits = Array("0123456789abcdef".utf8)
        raw("\\u00")
        bytes.append(digits[Int(byte >> 4)])
        bytes.append(digits[Int(byte & 15)])
      default: bytes.append(byte)
      }
    }
    bytes.append(UInt8(ascii: "\""))
    needsComma = true
  }

  public mutating func integer(_ value: Int) {
    separate()
    raw(String(value))
    needsComma = true
  }

  /// A number with a fraction, for measurements; money is written as text.
  public mutating func decimal(_ value: Double, decimals: Int) {
    separate()
    raw(String(format: "%.\(decimals)f", value))
    needsComma = true
  }

  public mutating func bool(_ value: Bool) {
    separate()
    raw(value ? "true" : "false")
    needsComma = true
  }

  public mutating func null() {
    separate()
    raw("null")
    needsComma = true
  }

  /// A decimal string with as many decimals as the currency has.
  public mutating func amount(_ minorUnits: Int128, _ currency: Currency) {
    string(formatDecimal(minorUnits, decimals: currency.exponent))
  }

  public mutating func amount(_ minorUnits: Int64?, _ currency: Currency) {
    if let minorUnits { amount(Int128(minorUnits), currency) } else { null() }
  }

  public mutating func timestamp(_ ms: Int64) {
    // Beyond the years 0000–9999 nothing can be written: the end of a bounded input.
    if ms >= -62_167_219_200_000, ms < 253_402_300_800_000 { string(formatTimestamp(ms)) } else { null() }
  }
}
