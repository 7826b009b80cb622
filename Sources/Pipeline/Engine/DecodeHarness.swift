import Configuration
import Decoding
import Domain
import Kafka

/// The decoder of one source by itself, as a task drives it: stretch by stretch, the records thrown away. What
/// measurements drive.
public final class DecodeHarness {
  private let lane: Lane
  private var messages = RecordBuffer<ConsumedMessage>(capacity: TaskEngine.stretch)
  private var faults: [StretchFault] = []
  public private(set) var decoded = 0

  public init(_ source: SourceSettings) throws { lane = Lane(try MappingPlan(source.mapping)) }

  public var counters: DecodeCounters { lane.counters }

  public func decode(_ records: borrowing PackedRecords) {
    var at = 0
    while at < records.count {
      messages.removeAll()
      for index in at..<min(at + TaskEngine.stretch, records.count) {
        let (key, value) = records.record(index)
        messages.append(
          ConsumedMessage(topic: 0, partition: 0, offset: Int64(index), timestamp_ms: 0, key: key, value: value))
      }
      at += messages.count
      switch lane {
      case .orders(let lane):
        lane.decode(messages.buffer, source: 0, isRouted: false, faults: &faults)
        decoded += lane.records.count
        lane.reset()
      case .ledger(let lane):
        lane.decode(messages.buffer, source: 0, isRouted: false, faults: &faults)
        decoded += lane.records.count
        lane.reset()
      }
    }
    precondition(faults.isEmpty, "a generated record could not be decoded: \(faults[0].fault)")
  }
}
