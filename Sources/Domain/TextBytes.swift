/// A text that is put together from parts and read as a whole, in UTF-8: `"reversal of \(journal)"`.
///
/// An interpolated `String` grows with each of its parts, at several hundred instructions each. This takes its parts as
/// bytes, and one without parts is the literal itself.
public struct TextBytes: Sendable, ExpressibleByStringInterpolation {
  private var literal = ""
  /// What stands behind the literal.
  private var bytes: [UInt8] = []

  public init(stringLiteral value: String) { literal = value }

  public init(stringInterpolation parts: StringInterpolation) { bytes = parts.bytes }

  /// Bytes that are not UTF-8 become U+FFFD.
  public var string: String {
    if bytes.isEmpty { return literal }
    let rest = String(decoding: bytes, as: UTF8.self)
    return literal.isEmpty ? rest : literal + rest
  }

  public static func += (text: inout TextBytes, other: TextBytes) { add(other, to: &text.bytes) }

  private static func add(_ text: TextBytes, to bytes: inout [UInt8]) {
    add(text.literal, to: &bytes)
    bytes.append(contentsOf: text.bytes)
  }

  @inline(__always)
  private static func add(_ text: String, to bytes: inout [UInt8]) {
    let isDone: Void? = text.utf8.withContiguousStorageIfAvailable { bytes.append(contentsOf: $0) }
    if isDone == nil { bytes.append(contentsOf: text.utf8) }
  }

  public struct StringInterpolation: StringInterpolationProtocol {
    fileprivate var bytes: [UInt8] = []

    /// A part is a number or a name, as a rule; what is longer makes the space grow.
    private static let partBytes = 24

    public init(literalCapacity: Int, interpolationCount: Int) {
      bytes.reserveCapacity(literalCapacity + interpolationCount * StringInterpolation.partBytes)
    }

    public mutating func appendLiteral(_ literal: String) { if !literal.isEmpty { TextBytes.add(literal, to: &bytes) } }
    public mutating func appendInterpolation(_ text: String) { TextBytes.add(text, to: &bytes) }
    public mutating func appendInterpolation(_ text: TextBytes) { TextBytes.add(text, to: &bytes) }
    public mutating func appendInterpolation(_ text: ByteView) { bytes.append(contentsOf: text.buffer) }
    public mutating func appendInterpolation(_ number: Int) { TextBytes.add(String(number), to: &bytes) }
  }
}
