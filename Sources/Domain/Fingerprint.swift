/// A 128-bit fingerprint of a key. Two keys with equal fingerprints are still compared in full before they are taken
/// for the same key, so a collision costs time, never correctness. The value is the same on every machine and in every
/// version: partitioning of files and break order depend on it.
@frozen
public struct Fingerprint: Hashable, Sendable {
  public var high: UInt64
  public var low: UInt64

  @inlinable
  public init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }

  /// Two wide multiplies over overlapping 8-byte loads (the wyhash construction), a constant number for keys up to
  /// 16 bytes.
  @inlinable @inline(__always)
  public init(_ view: ByteView) {
    let count = view.count
    guard count >= 8, count <= 16, let base = view.base else {
      self.init(ofAny: view)
      return
    }
    // The usual key.
    let a = UnsafeRawPointer(base).loadUnaligned(as: UInt64.self)
    let b = UnsafeRawPointer(base).loadUnaligned(fromByteOffset: count &- 8, as: UInt64.self)
    let seed: UInt64 = 0xa076_1d64_78bd_642f ^ UInt64(truncatingIfNeeded: count)
    let high = Fingerprint.mix(a ^ seed, b ^ 0x8ebc_6af0_9c88_c6e3)
    self.init(high: high, low: Fingerprint.mix(b ^ 0xe703_7ed1_a0b4_28db ^ high, a ^ 0x1d8e_4e27_c47d_124f))
  }

  @usableFromInline @inline(never)
  init(ofAny view: ByteView) {
    let count = view.count
    var a: UInt64 = 0
    var b: UInt64 = 0
    var high: UInt64 = 0xa076_1d64_78bd_642f ^ UInt64(truncatingIfNeeded: count)
    var low: UInt64 = 0xe703_7ed1_a0b4_28db
    if let base = view.base {
      let raw = UnsafeRawPointer(base)
      var offset = 0
      var rest = count
      while rest > 16 {
        a = raw.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
        b = raw.loadUnaligned(fromByteOffset: offset + 8, as: UInt64.self)
        high = Fingerprint.mix(a ^ high, b ^ 0x8ebc_6af0_9c88_c6e3)
        low = Fingerprint.mix(b ^ low, a ^ 0x5899_65cc_7537_4cc3)
        offset += 16
        rest -= 16
      }
      if rest >= 8 {
        a = raw.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
        b = raw.loadUnaligned(fromByteOffset: offset + rest - 8, as: UInt64.self)
      } else if rest >= 4 {
        a = UInt64(raw.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
        b = UInt64(raw.loadUnaligned(fromByteOffset: offset + rest - 4, as: UInt32.self))
      } else if rest > 0 {
        a = UInt64(base[offset]) << 16 | UInt64(base[offset + rest / 2]) << 8 | UInt64(base[offset + rest - 1])
        b = 0
      } else {
        a = 0
        b = 0
      }
    }
    self.high = Fingerprint.mix(a ^ high, b ^ 0x8ebc_6af0_9c88_c6e3)
    self.low = Fingerprint.mix(b ^ low ^ self.high, a ^ 0x1d8e_4e27_c47d_124f)
  }

  @inlinable @inline(__always)
  static func mix(_ a: UInt64, _ b: UInt64) -> UInt64 {
    let product = a.multipliedFullWidth(by: b)
    return product.high ^ product.low
  }
}
