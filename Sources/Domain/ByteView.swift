/// A borrowed run of bytes inside a buffer that somebody else owns: a Kafka message, a mapped file, a decoder's
/// scratch space. It stays valid only until the owner releases or refills the buffer, so whoever keeps a field
/// longer than one `apply` copies it.
///
/// The hot path passes these instead of `String`: sixteen bytes, no reference count, no allocation.
@frozen
public struct ByteView: @unchecked Sendable {
  public var base: UnsafePointer<UInt8>?
  public var count: Int

  @inlinable
  public init(base: UnsafePointer<UInt8>?, count: Int) {
    self.base = base
    self.count = count
  }

  @inlinable
  public init(_ buffer: UnsafeBufferPointer<UInt8>) {
    self.init(base: buffer.baseAddress, count: buffer.count)
  }

  /// No bytes: a field that the record does not carry.
  @inlinable
  public static var empty: ByteView { ByteView(base: nil, count: 0) }

  @inlinable
  public var isEmpty: Bool { count == 0 }

  @inlinable
  public var buffer: UnsafeBufferPointer<UInt8> { UnsafeBufferPointer(start: base, count: count) }

  /// The text of these bytes; bytes that are not UTF-8 become U+FFFD.
  public var string: String { String(decoding: buffer, as: UTF8.self) }

  /// Whether both views hold the same bytes.
  @inlinable @inline(__always)
  public func elementsEqual(_ other: ByteView) -> Bool {
    guard count == other.count else { return false }
    guard let a = base, let b = other.base, a != b else { return true }
    return memoryEqual(a, b, count)
  }
}

/// Whole words, and at the end a word that overlaps the one before: a loop over the last few bytes costs more than all
/// the rest of a key of sixteen.
@inlinable @inline(__always)
func memoryEqual(_ a: UnsafePointer<UInt8>, _ b: UnsafePointer<UInt8>, _ count: Int) -> Bool {
  let x = UnsafeRawPointer(a)
  let y = UnsafeRawPointer(b)
  if count >= 8 {
    var index = 0
    while index &+ 8 < count {
      if x.loadUnaligned(fromByteOffset: index, as: UInt64.self)
        != y.loadUnaligned(fromByteOffset: index, as: UInt64.self)
      {
        return false
      }
      index &+= 8
    }
    return x.loadUnaligned(fromByteOffset: count &- 8, as: UInt64.self)
      == y.loadUnaligned(fromByteOffset: count &- 8, as: UInt64.self)
  }
  if count >= 4 {
    return x.loadUnaligned(as: UInt32.self) == y.loadUnaligned(as: UInt32.self)
      && x.loadUnaligned(fromByteOffset: count &- 4, as: UInt32.self)
        == y.loadUnaligned(fromByteOffset: count &- 4, as: UInt32.self)
  }
  if count >= 2 {
    return x.loadUnaligned(as: UInt16.self) == y.loadUnaligned(as: UInt16.self)
      && x.loadUnaligned(fromByteOffset: count &- 2, as: UInt16.self)
        == y.loadUnaligned(fromByteOffset: count &- 2, as: UInt16.self)
  }
  return count == 0 || a[0] == b[0]
}
