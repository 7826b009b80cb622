import Foundation

/// What a process has used so far.
struct ProcessUsage: Sendable {
  /// User and system time of all threads, microseconds.
  var cpu_us: Int64
  /// Clock that never goes back, microseconds.
  var at_us: Int64

  static var now: ProcessUsage {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    func us(_ time: timeval) -> Int64 { Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_usec) }
    return ProcessUsage(cpu_us: us(usage.ru_utime) + us(usage.ru_stime), at_us: clock_us())
  }

  static func clock_us() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1_000
  }

  /// A line `Name:  123 kB` of `/proc/<pid>/status`, in bytes; 0 where there is none.
  static func memory(_ name: String, pid: Int32? = nil) -> Int {
    guard let text = try? String(contentsOfFile: "/proc/\(pid.map(String.init) ?? "self")/status", encoding: .utf8)
    else { return 0 }
    for line in text.split(separator: "\n") where line.hasPrefix(name + ":") {
      return (line.split(separator: " ", omittingEmptySubsequences: true).dropFirst().first.flatMap { Int($0) } ?? 0)
        << 10
    }
    return 0
  }
}

/// What a part of a load run tells its parent, a line of JSON each.
struct PartReport: Codable, Sendable {
  var event: String
  var cpu_us: Int64 = 0
  var at_us: Int64 = 0
  var records = 0
  var bytes = 0
  var peakBytes = 0
  var text = ""
  /// Of a daemon.
  var firstRecord_us: Int64 = 0
  var ties = 0
  var epochs = 0
  var checkpoints = 0
  var deadLetters = 0
  var restarts = 0
  var longestPause_us = 0

  init(_ event: String) {
    self.event = event
    let usage = ProcessUsage.now
    (cpu_us, at_us) = (usage.cpu_us, usage.at_us)
  }

  func send() {
    guard let data = try? JSONEncoder().encode(self) else { return }
    FileHandle.standardOutput.write(data + Data([0x0a]))
  }
}

struct LoadError: Error, CustomStringConvertible {
  var description: String
  init(_ text: String) { description = text }
}

/// One process of a load run, started from this program's own file. It ends when the pipe to it closes, so that none
/// outlives its parent, and is killed by its number where it does not.
final class ChildProcess: @unchecked Sendable {
  let name: String
  private let process = Process()
  private let input = Pipe()
  private let output = Pipe()
  private let condition = NSCondition()
  private var reports: [PartReport] = []
  private var rest = Data()
  private var isOver = false
  let launched_us: Int64

  init(_ name: String, _ arguments: [String], log: FileHandle) throws {
    self.name = name
    process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
    process.arguments = ["load-part"] + arguments
    process.standardInput = input
    process.standardOutput = output
    process.standardError = log
    launched_us = ProcessUsage.clock_us()
    output.fileHandleForReading.readabilityHandler = { [weak self] handle in
      let data = handle.availableData
      self?.take(data)
      if data.isEmpty { handle.readabilityHandler = nil }
    }
    try process.run()
  }

  var pid: Int32 { process.processIdentifier }

  private func take(_ data: Data) {
    condition.lock()
    defer { condition.unlock() }
    if data.isEmpty { isOver = true }
    rest.append(data)
    while let end = rest.firstIndex(of: 0x0a) {
      if let report = try? JSONDecoder().decode(PartReport.self, from: rest[rest.startIndex..<end]) {
        reports.append(report)
      }
      rest.removeSubrange(rest.startIndex...end)
    }
    condition.broadcast()
  }

  func tell(_ line: String) { try? input.fileHandleForWriting.write(contentsOf: Data((line + "\n").utf8)) }

  /// Waits for a report; throws where the process ends first, reports a failure, or takes too long.
  func wait(for event: String, timeout_s: Double, isStopped: () -> Bool = { false }) throws -> PartReport {
    let until = Date().addingTimeInterval(timeout_s)
    condition.lock()
    defer { condition.unlock() }
    while true {
      if let found = reports.first(where: { $0.event == event }) { return found }
      if let failure = reports.first(where: { $0.event == "failed" }) { throw LoadError("\(name): \(failure.text)") }
      if isOver { throw LoadError("\(name) has ended before it was '\(event)'") }
      if isStopped() { throw LoadError("stopped") }
      guard Date() < until else { throw LoadError("\(name) was not '\(event)' within \(Int(timeout_s)) s") }
      _ = condition.wait(until: min(until, Date().addingTimeInterval(0.1)))
    }
  }

  /// Lets the process end, and ends it by force where it does not within `timeout_s`.
  func end(timeout_s: Double = 20) {
    try? input.fileHandleForWriting.close()
    let until = Date().addingTimeInterval(timeout_s)
    while process.isRunning, Date() < until { usleep(10_000) }
    if process.isRunning { kill(pid, SIGKILL) }
    process.waitUntilExit()
    output.fileHandleForReading.readabilityHandler = nil
  }
}
