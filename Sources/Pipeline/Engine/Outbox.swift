import Checkpoints
import Domain

/// Where an output goes.
public enum OutputTopic: UInt8, Sendable, CaseIterable {
  case breaks = 0
  case deadLetters
  case partials
}

/// The outputs of an epoch in the order in which they came to be, as bytes: what is sent is what is digested, and a
/// replay that makes the same bytes has proven every one of them.
public final class Outbox {
  public struct Message {
    public var topic: OutputTopic
    /// nil leaves the partition to the partitioner, by key.
    public var partition: Int32?
    fileprivate var start: Int
    fileprivate var keyCount: Int
    fileprivate var valueCount: Int
  }

  private var bytes = ByteWriter(capacity: 1 << 14)
  public private(set) var messages: [Message] = []
  /// Over topic, key and value of every message in order.
  public private(set) var digest: UInt64 = 0

  public init() {}

  public var isEmpty: Bool { messages.isEmpty }
  public var count: Int { messages.count }

  /// - Parameter key: nil for a message without a key.
  public func add(_ topic: OutputTopic, partition: Int32? = nil, key: [UInt8]?, value: [UInt8]) {
    let start = bytes.count
    if let key { bytes.write(bytes: key) }
    bytes.write(bytes: value)
    finish(topic, partition: partition, start: start, keyCount: key?.count ?? -1, valueCount: value.count)
  }

  /// Adds a break under its id.
  func add(_ made: Break, _ encoder: borrowing BreakEncoder) {
    let start = bytes.count
    bytes.write(utf8: made.id)
    let value = bytes.count
    encoder.encode(made, into: &bytes)
    finish(.breaks, partition: nil, start: start, keyCount: value - start, valueCount: bytes.count - value)
  }

  private func finish(_ topic: OutputTopic, partition: Int32?, start: Int, keyCount: Int, valueCount: Int) {
    messages.append(
      Message(topic: topic, partition: partition, start: start, keyCount: keyCount, valueCount: valueCount))
    let added = UnsafeRawBufferPointer(rebasing: bytes.bytes[start...])
    let seed =
      UInt64(topic.rawValue) &+ UInt64(valueCount) << 8 &+ UInt64(keyCount < 0 ? 0xffff : keyCount) << 40
    digest = (digest ^ seed) &* 0x9e37_79b9_7f4a_7c15 &+ Checksum.of(added)
  }

  /// Calls `body` with each message; its bytes are valid inside the call.
  public func forEach<Failure: Error>(
    _ body: (Message, _ key: UnsafeBufferPointer<UInt8>?, _ value: UnsafeBufferPointer<UInt8>) throws(Failure) -> Void
  ) throws(Failure) {
    let all = bytes.bytes.assumingMemoryBound(to: UInt8.self)
    for message in messages {
      let value = message.start + max(0, message.keyCount)
      try body(
        message,
        message.keyCount < 0 ? nil : UnsafeBufferPointer(rebasing: all[message.start..<value]),
        UnsafeBufferPointer(rebasing: all[value..<value + message.valueCount]))
    }
  }

  /// Where the outbox stands, to come back to.
  struct Mark {
    var bytes: Int
    var count: Int
    var digest: UInt64
  }
  var mark: Mark { Mark(bytes: bytes.count, count: messages.count, digest: digest) }

  /// Takes back what was added since.
  func rollback(to mark: Mark) {
    bytes.truncate(to: mark.bytes)
    messages.removeLast(messages.count - mark.count)
    digest = mark.digest
  }

  public func removeAll() {
    bytes.removeAll()
    messages.removeAll(keepingCapacity: true)
    digest = 0
  }
}
