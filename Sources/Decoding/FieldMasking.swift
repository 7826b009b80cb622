import Crypto
import Domain

/// The key under which fields are hashed. It is never printed, nor part of anything that is written.
public struct MaskKey: Sendable, Equatable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
  /// Half of what the hash can make use of.
  public static let minimumBytes = 16

  private let bytes: [UInt8]

  /// - Parameter secret: At least `minimumBytes` long.
  public init?(_ secret: String) {
    guard secret.utf8.count >= MaskKey.minimumBytes else { return nil }
    bytes = Array(secret.utf8)
  }

  public var description: String { "***" }
  public var debugDescription: String { "***" }
  public var customMirror: Mirror { Mirror(self, children: []) }

  /// What a text becomes, as in `FieldMask.hash`.
  public func hash(_ text: String) -> String {
    var text = text
    return text.withUTF8 { bytes in
      String(unsafeUninitializedCapacity: FieldMasker.hashBytes) { target in
        FieldMasker(self).hash(ByteView(bytes), into: target.baseAddress!)
        return FieldMasker.hashBytes
      }
    }
  }

  /// Tells keys apart without telling them.
  public var fingerprint: String { hash("tieout mask key") }

  fileprivate var symmetric: SymmetricKey { SymmetricKey(data: bytes) }
}

/// Hashes texts under one key.
struct FieldMasker {
  /// 128 bits in hexadecimal digits: a customer number of that length still fits into every topic, and two of 10¹² values
  /// are the same with a chance of 10⁻¹⁵.
  static let hashBytes = 32
  static let redacted: StaticString = "(redacted)"
  /// The key taken in, so that each text begins there.
  private let keyed: HMAC<SHA256>

  init(_ key: MaskKey) { keyed = HMAC<SHA256>(key: key.symmetric) }

  /// Writes `hashBytes` digits.
  func hash(_ text: ByteView, into target: UnsafeMutablePointer<UInt8>) {
    var running = keyed
    running.update(data: UnsafeRawBufferPointer(text.buffer))
    let digits: StaticString = "0123456789abcdef"
    running.finalize().withUnsafeBytes { code in
      for at in 0..<FieldMasker.hashBytes / 2 {
        target[2 * at] = digits.utf8Start[Int(code[at] >> 4)]
        target[2 * at + 1] = digits.utf8Start[Int(code[at] & 15)]
      }
    }
  }
}
