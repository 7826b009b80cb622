import Foundation

/// A progress line on standard error, drawn only where that is a terminal.
public final class Progress {
  private let isTerminal = isatty(2) != 0
  private let started_ms = monotonic_ms()
  private var drawn_ms: Int64 = 0

  public init() {}

  /// Draws at most ten times a second.
  public func update(records: Int, fraction: Double?) {
    guard isTerminal else { return }
    let now = monotonic_ms()
    guard now - drawn_ms >= 100 else { return }
    drawn_ms = now
    let elapsed_ms = max(1, now - started_ms)
    var line = "\r\u{1b}[K"
    if let fraction {
      let filled = Int(fraction * 30)
      line += "[" + String(repeating: "█", count: filled) + String(repeating: "·", count: 30 - filled) + "] "
      line += "\(Int(fraction * 100)) %  "
      if fraction > 0.01 {
        line += "\(Int(Double(elapsed_ms) / 1_000 * (1 - fraction) / fraction)) s left  "
      }
    }
    line += "\(records) records  \(records * 1_000 / Int(elapsed_ms))/s"
    FileHandle.standardError.write(Data(line.utf8))
  }

  public func end() {
    guard isTerminal, drawn_ms > 0 else { return }
    FileHandle.standardError.write(Data("\r\u{1b}[K".utf8))
  }
}

/// Milliseconds of a clock that never goes back.
public func monotonic_ms() -> Int64 {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return Int64(time.tv_sec) * 1_000 + Int64(time.tv_nsec) / 1_000_000
}

/// Milliseconds since 1970-01-01T00:00:00Z by the wall clock.
public func wallClock_ms() -> Int64 {
  var time = timespec()
  clock_gettime(CLOCK_REALTIME, &time)
  return Int64(time.tv_sec) * 1_000 + Int64(time.tv_nsec) / 1_000_000
}
