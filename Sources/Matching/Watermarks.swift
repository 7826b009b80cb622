/// How far event time has come, over all partitions of all sources of a task.
///
/// Each partition's own watermark trails its largest event time by the allowed out-of-orderness; the task's is the
/// least of them. A partition that has delivered nothing for `idleTimeout_ms` of wall-clock time no longer holds the
/// others back. When every partition is idle at its end, the inputs have told everything they know up to now, and the
/// wall clock takes over: unmatched ties still close when the input stops (confluentinc/ksql#9084). The watermark
/// never goes back.
///
/// A routed source has put the records of many partitions into the one that a task reads, one after the other as they were
/// read: what stands there latest says nothing of those that are yet to come. So it counts by its *origins*, the
/// partitions that it was routed from, as the router tells of them: each trails its own largest event time, the least of
/// them is the source's, and one holds the others back until the router has found it idle.
public struct Watermarks: Sendable {
  /// How far the router has come in one partition that it routes from.
  public struct OriginReport: Sendable, Equatable {
    public var partition: Int32
    /// The next record to be routed: an older report than one that is known says nothing.
    public var next: Int64
    /// The largest event time routed from it in this life of the router; `Int64.min` for none.
    public var largest_ms: Int64
    /// It was read to its end, and has been silent for the idle timeout.
    public var isIdle: Bool

    public init(partition: Int32, next: Int64, largest_ms: Int64, isIdle: Bool) {
      self.partition = partition
      self.next = next
      self.largest_ms = largest_ms
      self.isIdle = isIdle
    }
  }

  struct Origin: Equatable {
    var largest_ms = Int64.min
    var next: Int64 = 0
    var isIdle = false
  }

  struct Partition {
    var source: UInt16
    var partition: Int32
    var largest_ms = Int64.min
    var lastHeard_ms: Int64
    /// The input has been read to its end (files), so it holds nothing back any more.
    var isEnded = false
    /// By partition routed from; empty until the router has told of any. nil where the source is not routed.
    var origins: [Origin]?
    /// Event times of single records of late, in a ring. Not kept in checkpoints.
    var samples = InlineArray<7, Int64>(repeating: .min)
    var sampleCount = 0
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
  public mutating func register(source: UInt16, partition: Int32, isRouted: Bool = false, now_ms: Int64) {
    let at = index(source, partition, now_ms: now_ms)
    if isRouted, partitions[at].origins == nil { partitions[at].origins = [] }
  }

  /// Takes what the router tells of the partitions that a source is routed from.
  /// - Parameter count: How many of them there are. Those that it has never told of hold the watermark.
  public mutating func observe(
    source: UInt16, partition: Int32, origins reports: [OriginReport], count: Int, now_ms: Int64
  ) {
    let at = index(source, partition, now_ms: now_ms)
    partitions[at].lastHeard_ms = now_ms
    var origins = partitions[at].origins ?? []
    if origins.count < count { origins += Array(repeating: Origin(), count: count - origins.count) }
    for report in reports {
      let own = Int(report.partition)
      guard origins.indices.contains(own), report.next >= origins[own].next else { continue }
      origins[own].next = report.next
      origins[own].largest_ms = max(origins[own].largest_ms, report.largest_ms)
      origins[own].isIdle = report.isIdle
    }
    partitions[at].origins = origins
  }

  /// Takes the largest event time of a batch of one partition.
  public mutating func observe(source: UInt16, partition: Int32, largest_ms: Int64, now_ms: Int64) {
    let at = index(source, partition, now_ms: now_ms)
    partitions[at].largest_ms = max(partitions[at].largest_ms, largest_ms)
    partitions[at].lastHeard_ms = now_ms
  }

  /// Takes the event time of one record of a batch: whichever, for `typical_ms`.
  public mutating func sample(source: UInt16, partition: Int32, time_ms: Int64, now_ms: Int64) {
    let at = index(source, partition, now_ms: now_ms)
    partitions[at].samples[partitions[at].sampleCount % 7] = time_ms
    partitions[at].sampleCount += 1
  }

  /// The event time around which a source is being read: the median of some records of late. One that is dated far ahead or
  /// far back, as the largest time would be for good, does not change it. nil where nothing has been read lately.
  public func typical_ms(source: UInt16) -> Int64? {
    guard let partition = partitions.first(where: { $0.source == source && $0.sampleCount > 0 }) else { return nil }
    let count = min(partition.sampleCount, 7)
    return (0..<count).map { partition.samples[$0] }.sorted()[count / 2]
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

  /// How far a source has come without leaving anything behind: of a routed one, its partition that is farthest behind;
  /// nil where that is not known.
  public func reached_ms(source: UInt16) -> Int64? {
    for partition in partitions where partition.source == source {
      guard let origins = partition.origins else { continue }
      let behind_ms = origins.isEmpty ? .min : origins.lazy.filter { !$0.isIdle }.map(\.largest_ms).min() ?? .max
      if behind_ms == .min { return nil }
      if behind_ms < .max { return behind_ms }
    }
    return largest_ms(source: source)
  }

  /// Moves the watermark as far as the partitions and the clock allow.
  @discardableResult
  public mutating func advance(now_ms: Int64) -> Int64 {
    var least = Int64.max
    var isAnyActive = false
    for partition in partitions where !partition.isEnded {
      let isSilent = now_ms - partition.lastHeard_ms >= idleTimeout_ms
      if let origins = partition.origins {
        // What the router has not come to yet is not in the partition that is read here: silence here says nothing of it.
        let behind_ms = origins.isEmpty ? .min : origins.lazy.filter { !$0.isIdle }.map(\.largest_ms).min()
        if let behind_ms {
          isAnyActive = true
          least = min(least, behind_ms == .min ? .min : behind_ms - outOfOrderness_ms)
        } else if !isSilent {
          isAnyActive = true
        }
        continue
      }
      if isSilent { continue }
      isAnyActive = true
      let own = partition.largest_ms == .min ? .min : partition.largest_ms - outOfOrderness_ms
      least = min(least, own)
    }
    if !isAnyActive {
      guard !partitions.isEmpty, partitions.contains(where: { !$0.isEnded }) else { return current_ms }
      least = now_ms - outOfOrderness_ms
    }
    // Only routed sources are left that have just fallen silent.
    if least == .max { return current_ms }
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
