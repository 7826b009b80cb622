/// How far event time has come, over all partitions of all sources of a task.
///
/// Each partition's own watermark trails its largest event time by the allowed out-of-orderness; the task's is the
/// least of them. A partition that has delivered nothing for `idleTimeout_ms` of wall-clock time no longer holds the
/// others back. When every partition is idle at its end, the inputs have told everything they know up to now, and the
/// wall clock takes over: unmatched ties still close when the input stops (confluentinc/ksql#9084). The watermark
/// never goes back.
public struct Watermarks: Sendable {
  struct Partition {
    var source: UInt16
    var partition: Int32
    var largest_ms = Int64.min
    var lastHeard_ms: Int64
    /// The input has been read to its end (files), so it holds nothing back any more.
    var isEnded = false
  }

  private let outOfOrderness_ms: Int64
  private let idleTimeout_ms: Int64
  private(set) var partitions: [Partition] = []
  private var lastFound = 0
  /// Event times below this are complete. `Int64.min` until every partition has spoken or gone idle.
  public private(set) var current_ms = Int64.min

  public init(outOfOrderness_ms: Int64, idleTimeout_ms: Int64) {
    self.outOfOrderness_ms = outOfOrderness_ms
    self.idleTimeout_ms = idleTimeout_ms
  }

  private mutating func index(_ source: UInt16, _ partition: Int32, now_ms: Int64) -> Int {
    if lastFound < partitions.count, partitions[lastFound].source == source,
      partitions[lastFound].partition == partition
    {
      return lastFound
    }
    if let found = partitions.firstIndex(where: { $0.source == source && $0.partition == partition }) {
      lastFound = found
    } else {
      partitions.append(Partition(source: source, partition: partition, lastHeard_ms: now_ms))
      lastFound = partitions.count - 1
    }
    return lastFound
  }

  /// Whether no input has been named yet.
  public var isEmpty: Bool { partitions.isEmpty }

  /// Names an input before its first record, so that a silent one holds the watermark until it is idle.
  public mutating func register(source: UInt16, partition: Int32, now_ms: Int64) {
    _ = index(source, partition, now_ms: now_ms)
  }

  /// Takes the largest event time of a batch of one partition.
  public mutating func observe(source: UInt16, partition: Int32, largest_ms: Int64, now_ms: Int64) {
    let at = index(source, partition, now_ms: now_ms)
    partitions[at].largest_ms = max(partitions[at].largest_ms, largest_ms)
    partitions[at].lastHeard_ms = now_ms
  }

  /// The input is being held back or has records waiting: silence is not idleness.
  public mutating func keepAlive(source: UInt16, partition: Int32, now_ms: Int64) {
    partitions[index(source, partition, now_ms: now_ms)].lastHeard_ms = now_ms
  }

  /// How long an input has said nothing; 0 for one that is not known.
  public func silence_ms(source: UInt16, partition: Int32, now_ms: Int64) -> Int64 {
    partitions.first { $0.source == source && $0.partition == partition }.map { now_ms - $0.lastHeard_ms } ?? 0
  }

  public mutating func end(source: UInt16, partition: Int32, now_ms: Int64) {
    partitions[index(source, partition, now_ms: now_ms)].isEnded = true
  }

  public mutating func remove(partition: Int32) {
    partitions.removeAll { $0.partition == partition }
    lastFound = 0
  }

  /// The watermark of one source alone, for reporting; nil before its first record.
  public func largest_ms(source: UInt16) -> Int64? {
    let largest = partitions.lazy.filter { $0.source == source }.map(\.largest_ms).max() ?? .min
    return largest == .min ? nil : largest
  }

  /// Moves the watermark as far as the partitions and the clock allow.
  @discardableResult
  public mutating func advance(now_ms: Int64) -> Int64 {
    var least = Int64.max
    var isAnyActive = false
    for partition in partitions where !partition.isEnded && now_ms - partition.lastHeard_ms < idleTimeout_ms {
      isAnyActive = true
      let own = partition.largest_ms == .min ? .min : partition.largest_ms - outOfOrderness_ms
      least = min(least, own)
    }
    if !isAnyActive {
      guard !partitions.isEmpty, partitions.contains(where: { !$0.isEnded }) else { return current_ms }
      least = now_ms - outOfOrderness_ms
    }
    if least > current_ms { current_ms = least }
    return current_ms
  }

  mutating func replace(_ partitions: [Partition], current_ms: Int64) {
    self.partitions = partitions
    self.current_ms = current_ms
    lastFound = 0
  }

  /// Sets the watermark by decree: the end of a bounded input, or a replayed clock reading.
  public mutating func force(_ watermark_ms: Int64) {
    current_ms = max(current_ms, watermark_ms)
  }
}
