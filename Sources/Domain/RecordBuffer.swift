/// A growing buffer of plain records, emptied without giving its memory back.
///
/// The elements must hold no references (they are copied bytewise and never deinitialised).
@frozen
public struct RecordBuffer<Element: BitwiseCopyable>: ~Copyable {
  @usableFromInline var storage: UnsafeMutablePointer<Element>
  @usableFromInline var capacity: Int
  public private(set) var count = 0

  @inlinable
  public init(capacity: Int = 256) {
    self.capacity = max(capacity, 1)
    storage = .allocate(capacity: self.capacity)
  }

  @inlinable
  deinit { storage.deallocate() }

  @inlinable @inline(__always)
  public mutating func append(_ element: Element) {
    if count == capacity { grow() }
    (storage + count).initialize(to: element)
    setCount(count + 1)
  }

  /// Room for one record more, filled in place by the caller and taken in by `commit`. Holds anything before.
  @inlinable @inline(__always)
  public mutating func reserve() -> UnsafeMutablePointer<Element> {
    if count == capacity { grow() }
    return storage + count
  }

  /// Takes in the record that was filled where `reserve` said.
  @inlinable @inline(__always)
  public mutating func commit() {
    precondition(count < capacity)
    setCount(count + 1)
  }

  @usableFromInline @inline(__always)
  mutating func setCount(_ value: Int) { count = value }

  @usableFromInline @inline(never)
  mutating func grow() {
    let larger = UnsafeMutablePointer<Element>.allocate(capacity: capacity * 2)
    larger.update(from: storage, count: count)
    storage.deallocate()
    storage = larger
    capacity *= 2
  }

  @inlinable
  public mutating func removeAll() { setCount(0) }

  /// Forgets what was appended behind a count.
  @inlinable
  public mutating func truncate(to length: Int) {
    precondition(length >= 0 && length <= count)
    setCount(length)
  }

  @inlinable
  public subscript(index: Int) -> Element {
    get {
      precondition(index >= 0 && index < count)
      return storage[index]
    }
    set {
      precondition(index >= 0 && index < count)
      storage[index] = newValue
    }
  }

  @inlinable
  public var buffer: UnsafeBufferPointer<Element> { UnsafeBufferPointer(start: storage, count: count) }
}
