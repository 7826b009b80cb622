/// How the clocks of a time zone stand: one offset, or offsets by the moments from which they hold.
public struct ZoneClock: Sendable, Equatable {
  /// `Z`, `+02:00`, or a name of the IANA time zone database.
  public let name: String
  /// The offset that holds until the first step, in seconds east of UTC.
  public let first_s: Int
  /// When the offset changes, rising.
  public let steps: [Step]

  /// From a moment on, in seconds since 1970-01-01T00:00:00Z, an offset holds, in seconds east of UTC.
  public struct Step: Sendable, Equatable {
    public let from_s: Int64
    public let offset_s: Int
    /// What the clocks show when they have got over the change, in seconds since 1970-01-01T00:00:00 on them: what they show
    /// before that they show, or would have shown, by the offset before.
    fileprivate let shown_s: Int64
  }

  /// - Parameter changes: Rising by moment.
  public init(name: String, first_s: Int, changes: [(from_s: Int64, offset_s: Int)] = []) {
    self.name = name
    self.first_s = first_s
    var before_s = first_s
    steps = changes.map { from_s, offset_s in
      defer { before_s = offset_s }
      return Step(from_s: from_s, offset_s: offset_s, shown_s: from_s + Int64(max(before_s, offset_s)))
    }
  }

  /// One offset at all times, in minutes east of UTC.
  public init(minutes: Int) {
    let parts = [minutes.magnitude / 60, minutes.magnitude % 60].map { ($0 < 10 ? "0" : "") + "\($0)" }
    let sign = minutes < 0 ? "-" : "+"
    self.init(name: minutes == 0 ? "Z" : sign + parts.joined(separator: ":"), first_s: minutes * 60)
  }

  /// Whether there is one offset at all times.
  public var isFixed: Bool { steps.isEmpty }

  /// Seconds east of UTC at a moment, in seconds since 1970-01-01T00:00:00Z.
  public func offset_s(at moment_s: Int64) -> Int { offset_s { $0.from_s <= moment_s } }

  /// Seconds east of UTC for what the clocks show, in seconds since 1970-01-01T00:00:00 on them. A time that they show twice
  /// is the first of the two; one that they skip is as far behind the change as it says.
  public func offset_s(shown shown_s: Int64) -> Int { offset_s { $0.shown_s <= shown_s } }

  /// The day on the clocks at a moment in milliseconds, days since 1970-01-01.
  public func day(ofMilliseconds ms: Int64) -> Int32 {
    Domain.day(ofMilliseconds: ms + Int64(offset_s(at: seconds(ofMilliseconds: ms))) * 1_000)
  }

  @inline(__always)
  private func offset_s(_ holds: (Step) -> Bool) -> Int {
    var (low, high) = (0, steps.count)
    while low < high {
      let middle = (low + high) / 2
      if holds(steps[middle]) { low = middle + 1 } else { high = middle }
    }
    return low == 0 ? first_s : steps[low - 1].offset_s
  }
}
