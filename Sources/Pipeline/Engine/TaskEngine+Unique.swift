import Configuration
import Decoding
import Domain

/// Values that must be unique: what the second stage is told of them.
extension TaskEngine {
  func tellValues(_ records: UnsafeBufferPointer<OrderEvent>, _ reader: UniqueReader?) {
    guard let reader else { return }
    let future = Set(outputs.quarantined)
    for at in records.indices where !future.contains(at) { reader.read(records[at], tellValue) }
  }

  func tellValues(_ records: UnsafeBufferPointer<Posting>, _ reader: UniqueReader?) {
    guard let reader else { return }
    let future = Set(outputs.quarantined)
    for at in records.indices where !future.contains(at) { reader.read(records[at], tellValue) }
  }

  private func tellValue(_ key: UniqueKey, _ record: UniqueRecord) {
    // The lines of a ledger document come one behind the other.
    guard key != lastValue else { return }
    lastValue = key
    for (name, value) in UniqueMessage.record(key, record).messages {
      outbox.add(
        .partials, partition: key.partition(of: configuration.partialsPartitions), key: name, value: value ?? [])
    }
  }
}
