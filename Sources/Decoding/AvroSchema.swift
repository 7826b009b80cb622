/// An Avro schema (specification 1.11) as the decoder uses it. Types that refer to themselves make a cycle, so schemas are
/// objects; they are not changed any more once they are complete.
public final class AvroSchema: @unchecked Sendable {
  public enum Kind: UInt8, Sendable, BitwiseCopyable {
    case null, boolean, int, long, float, double, bytes, string, fixed, enumeration, array, map, union, record
  }

  /// What a number or bytes mean; logical types that are not here are read as what they stand on.
  public enum Logical: Sendable, Equatable {
    case none
    /// Bytes or fixed: an integer in two's complement, the most significant byte first, of 10^−scale.
    case decimal(scale: Int)
    /// Int: days since 1970-01-01.
    case date
    /// Long: since 1970-01-01T00:00:00Z, or since then by the local clock.
    case timestampMillis, timestampMicros, localTimestampMillis, localTimestampMicros
  }

  public let kind: Kind
  public var logical = Logical.none
  /// Full name of a record, an enumeration or a fixed.
  public var name = ""
  /// `hasDefault`: the schema says what stands in for the field where it is absent.
  public var fields: [(name: String, type: AvroSchema, hasDefault: Bool)] = []
  /// Of an enumeration.
  public var symbols: [String] = []
  /// Of a union, in their order; of an array or a map the type of its items.
  public var branches: [AvroSchema] = []
  /// Bytes of a fixed.
  public var size = 0

  public init(_ kind: Kind) { self.kind = kind }
}

/// Where schemas come from.
public protocol AvroSchemas: AnyObject, Sendable {
  /// The schema of an id that has been asked for before; nil where the registry has none.
  func known(_ id: UInt32) -> AvroSchema?
}

/// The framing of Confluent's serializers: a zero, and the id of the schema in four bytes, most significant first.
public enum AvroFraming {
  public static let headerBytes = 5

  /// nil where a payload has no such header.
  @inline(__always)
  public static func schemaID(_ payload: UnsafeBufferPointer<UInt8>) -> UInt32? {
    guard payload.count >= headerBytes, payload[0] == 0 else { return nil }
    return UInt32(payload[1]) << 24 | UInt32(payload[2]) << 16 | UInt32(payload[3]) << 8 | UInt32(payload[4])
  }
}
