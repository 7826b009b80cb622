import Foundation

/// Where the CPU time of a task's thread goes, stage by stage. Laps are taken per batch, never per record.
public final class StageLaps {
  public enum Stage: Int, CaseIterable, Sendable {
    /// Bytes to records.
    case decode = 0
    /// Records into ties.
    case match
    /// Ties that are due: judged, closed, forgotten.
    case judge
    /// Breaks and dead letters to bytes.
    case encode
    /// The end of an epoch: its record and digests, and walking over the outputs.
    case epoch
    case other
  }

  public private(set) var times_ns = [Int64](repeating: 0, count: Stage.allCases.count)
  private var last_ns: Int64 = 0

  public init() {}

  /// The clock runs from now on.
  public func start() { last_ns = threadCPU_ns() }

  /// What has passed since the last call belongs to `stage`.
  func end(_ stage: Stage) {
    let now = threadCPU_ns()
    times_ns[stage.rawValue] += now - last_ns
    last_ns = now
  }

  public subscript(stage: Stage) -> Int64 { times_ns[stage.rawValue] }
  public var total_ns: Int64 { times_ns.reduce(0, +) }
  public func reset() { for at in times_ns.indices { times_ns[at] = 0 } }
}

/// CPU time of this thread, nanoseconds.
public func threadCPU_ns() -> Int64 {
  var time = timespec()
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
  return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
}
