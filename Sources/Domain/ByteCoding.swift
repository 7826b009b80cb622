/// Writes plain values, little-endian, into a growing buffer that is emptied without giving its memory back.
public struct ByteWriter: ~Copyable {
  private var storage: UnsafeMutableRawPointer
  private var capacity: Int
  public private(set) var count = 0

  public init(capacity: Int = 4_096) {
    self.capacity = max(capacity, 64)
    storage = .allocate(byteCount: self.capacity, alignment: 16)
  }

  deinit { storage.deallocate() }

  public var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: storage, count: count) }
  public var array: [UInt8] { Array(bytes) }
  public var view: ByteView { ByteView(base: UnsafePointer(storage.assumingMemoryBound(to: UInt8.self)), count: count) }

  public mutating func removeAll() { count = 0 }

  /// Forgets what was written behind an offset.
  public mutating func truncate(to length: Int) {
    precondition(length <= count)
    count = length
  }

  /// Uninitialised space for `size` bytes at the end.
  @inline(__always)
  private mutating func extend(_ size: Int) -> UnsafeMutableRawPointer {
    if count + size > capacity { grow(count + size) }
    defer { count += size }
    return storage + count
  }

  /// Lets `body` write up to `most` bytes at the end, and takes what it says it has written.
  @inline(__always)
  public mutating func write(atMost most: Int, _ body: (UnsafeMutablePointer<UInt8>) -> Int) {
    if count + most > capacity { grow(count + most) }
    let written = body((storage + count).assumingMemoryBound(to: UInt8.self))
    precondition(written >= 0 && written <= most, "more was written than asked for")
    count += written
  }

  @inline(never)
  private mutating func grow(_ needed: Int) {
    capacity = max(needed, capacity * 2)
    let larger = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16)
    larger.copyMemory(from: storage, byteCount: count)
    storage.deallocate()
    storage = larger
  }

  public mutating func write<Value: FixedWidthInteger & BitwiseCopyable>(_ value: Value) {
    extend(MemoryLayout<Value>.size).storeBytes(of: value.littleEndian, as: Value.self)
  }

  /// Unsigned LEB128: seven bits a byte, the lowest first.
  public mutating func writeVarint(_ value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      write(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    write(UInt8(rest))
  }

  /// Signed, small magnitudes short (zigzag).
  public mutating func writeSigned(_ value: Int64) { writeVarint(UInt64(bitPattern: value << 1 ^ value >> 63)) }

  public mutating func write(raw source: UnsafeRawPointer, count size: Int) {
    guard size > 0 else { return }
    extend(size).copyMemory(from: source, byteCount: size)
  }

  public mutating func write(bytes source: [UInt8]) {
    source.withUnsafeBytes { if let base = $0.baseAddress { write(raw: base, count: $0.count) } }
  }

  /// The bytes of a text, without its length.
  public mutating func write(utf8 text: String) {
    let isDone: Void? = text.utf8.withContiguousStorageIfAvailable {
      if let base = $0.baseAddress { write(raw: base, count: $0.count) }
    }
    if isDone == nil { write(bytes: Array(text.utf8)) }
  }

  /// A text with its length before it.
  public mutating func write(text: String) {
    writeVarint(UInt64(text.utf8.count))
    write(utf8: text)
  }

  /// Overwrites an earlier value.
  public mutating func replace(at offset: Int, with value: UInt32) {
    precondition(offset + 4 <= count)
    (storage + offset).storeBytes(of: value.littleEndian, as: UInt32.self)
  }
}

/// The bytes do not hold what they should.
public struct ByteCodingError: Error, CustomStringConvertible {
  public var description: String
  public init(_ description: String) { self.description = description }
}

/// Reads what `ByteWriter` wrote. Every read is checked against the end.
public struct ByteReader {
  private let base: UnsafeRawPointer
  public let count: Int
  public private(set) var offset = 0

  /// The bytes must outlive the reader.
  public init(_ bytes: UnsafeRawBufferPointer) {
    base = bytes.baseAddress ?? UnsafeRawPointer(bitPattern: 16)!
    count = bytes.count
  }

  public var isAtEnd: Bool { offset == count }

  @inline(__always)
  private mutating func take(_ size: Int) throws(ByteCodingError) -> UnsafeRawPointer {
    guard size >= 0, count - offset >= size else { throw ByteCodingError("the bytes end early, at \(offset)") }
    defer { offset += size }
    return base + offset
  }

  public mutating func read<Value: FixedWidthInteger & BitwiseCopyable>(
    _: Value.Type = Value.self
  ) throws(ByteCodingError) -> Value {
    Value(littleEndian: try take(MemoryLayout<Value>.size).loadUnaligned(as: Value.self))
  }

  public mutating func readVarint() throws(ByteCodingError) -> UInt64 {
    var value: UInt64 = 0
    var shift: UInt64 = 0
    while true {
      let byte: UInt8 = try read()
      guard shift < 63 || byte <= 1 else { throw ByteCodingError("a number is too long, at \(offset)") }
      value |= UInt64(byte & 0x7f) << shift
      if byte < 0x80 { return value }
      shift += 7
    }
  }

  public mutating func readSigned() throws(ByteCodingError) -> Int64 {
    let raw = try readVarint()
    return Int64(bitPattern: raw >> 1) ^ -Int64(bitPattern: raw & 1)
  }

  /// What has been read since an offset.
  public func bytes(from start: Int) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: base + start, count: offset - start)
  }

  /// A count that must not exceed a bound, so that damaged bytes never ask for gigabytes.
  public mutating func readCount(atMost most: Int) throws(ByteCodingError) -> Int {
    let value = try readVarint()
    guard value <= UInt64(most) else { throw ByteCodingError("a count of \(value) at \(offset) cannot be") }
    return Int(value)
  }

  public mutating func readRaw(_ size: Int) throws(ByteCodingError) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: try take(size), count: size)
  }

  public mutating func readText() throws(ByteCodingError) -> String {
    let size = try readCount(atMost: count - offset)
    return String(decoding: try readRaw(size), as: UTF8.self)
  }
}
