import CShims
import Foundation
import Glibc

/// What the machine and its system grant this process.
public struct MachineFacts: Sendable, Equatable {
  /// Files and sockets that may be open at once.
  public var descriptorLimit = Int.max
  /// Bytes of memory of the machine, or of the control group where that is less.
  public var memory_bytes = Int.max
  public var processors = 1
  /// Bytes of address space (`ulimit -v`); nil where it is not limited.
  public var addressSpace_bytes: Int?
  /// Whether the system promises only what it has (`vm.overcommit_memory=2`).
  public var isOvercommitForbidden = false
  /// Whether the kernel's clock is being kept right; nil where the kernel does not say.
  public var isClockSynchronised: Bool?
  /// The largest error of the clock that the kernel reckons with.
  public var clockError_us = 0

  public init() {}

  public static func read() -> MachineFacts {
    var facts = MachineFacts()
    func limit(_ resource: __rlimit_resource) -> Int {
      var value = rlimit()
      guard getrlimit(__rlimit_resource_t(resource.rawValue), &value) == 0 else { return .max }
      return Int(clamping: value.rlim_cur)
    }
    facts.descriptorLimit = limit(RLIMIT_NOFILE)
    let space = limit(RLIMIT_AS)
    facts.addressSpace_bytes = space == .max ? nil : space
    facts.processors = ProcessInfo.processInfo.activeProcessorCount
    facts.memory_bytes = min(Int(clamping: ProcessInfo.processInfo.physicalMemory), controlGroupMemory())
    facts.isOvercommitForbidden = number("/proc/sys/vm/overcommit_memory") == 2
    var error = 0
    switch tieout_clock_is_synchronised(&error) {
    case 1: facts.isClockSynchronised = true
    case 0: facts.isClockSynchronised = false
    default: break
    }
    facts.clockError_us = error
    return facts
  }

  private static func number(_ path: String) -> Int? {
    (try? String(contentsOfFile: path, encoding: .utf8)).flatMap {
      Int($0.trimmingCharacters(in: .whitespacesAndNewlines))
    }
  }

  /// The least that a control group of this process, or one above it, is limited to.
  private static func controlGroupMemory() -> Int {
    var least = number("/sys/fs/cgroup/memory/memory.limit_in_bytes") ?? .max
    let groups = (try? String(contentsOfFile: "/proc/self/cgroup", encoding: .utf8)) ?? ""
    var path = groups.split(separator: "\n").first { $0.hasPrefix("0::") }.map { String($0.dropFirst(3)) } ?? "/"
    while true {
      least = min(least, number("/sys/fs/cgroup\(path)/memory.max") ?? .max)
      guard path.count > 1 else { return least }
      path = (path as NSString).deletingLastPathComponent
    }
  }
}

/// A folder that something is to be written into.
public struct FolderFacts: Sendable, Equatable {
  public var path: String
  public var exists: Bool
  /// Why nothing can be written there (or the folder not be made); nil where it can.
  public var problem: String?
  public var free_bytes = 0
  public var total_bytes = 0

  public init(path: String, exists: Bool, problem: String? = nil, free_bytes: Int, total_bytes: Int) {
    self.path = path
    self.exists = exists
    self.problem = problem
    self.free_bytes = free_bytes
    self.total_bytes = total_bytes
  }

  /// Writes a small file and removes it. A folder that is missing is not made: the nearest that is there is asked.
  public static func read(_ path: String) -> FolderFacts {
    var facts = FolderFacts(path: path, exists: true, free_bytes: 0, total_bytes: 0)
    var place = URL(fileURLWithPath: path).standardizedFileURL.path
    var isFolder: ObjCBool = false
    while !FileManager.default.fileExists(atPath: place, isDirectory: &isFolder), place != "/" {
      facts.exists = false
      place = (place as NSString).deletingLastPathComponent
    }
    guard isFolder.boolValue else {
      facts.problem = "\(place) is no folder"
      return facts
    }
    var system = statvfs()
    if statvfs(place, &system) == 0 {
      facts.free_bytes = Int(system.f_bavail) * Int(system.f_frsize)
      facts.total_bytes = Int(system.f_blocks) * Int(system.f_frsize)
    }
    let probe = place + "/.tieout-doctor-\(getpid())"
    let file = open(probe, O_CREAT | O_EXCL | O_WRONLY, 0o600)
    guard file >= 0 else {
      facts.problem = "\(place): \(String(cString: strerror(errno)))"
      return facts
    }
    if write(file, "ok", 2) != 2 || fsync(file) != 0 {
      facts.problem = "\(place): \(String(cString: strerror(errno)))"
    }
    close(file)
    unlink(probe)
    return facts
  }

  static let scarce_bytes = 1 << 30
  static let none_bytes = 64 << 20

  public func finding(_ area: String, _ purpose: String) -> DoctorFinding {
    let subject = "\(purpose) \(path)"
    if let problem {
      return DoctorFinding(
        .failed, area, subject, "cannot be written: \(problem)",
        advice: "Give the user that the process runs as a folder that it may write to.")
    }
    let space = "\(DoctorText.bytes(free_bytes)) free of \(DoctorText.bytes(total_bytes))"
    if free_bytes < FolderFacts.none_bytes {
      return DoctorFinding(
        .failed, area, subject, space, advice: "There is no room: free some, or name a folder on another disk.")
    }
    if free_bytes < FolderFacts.scarce_bytes {
      return DoctorFinding(.warning, area, subject, space, advice: "It will soon be full: free some, or move it.")
    }
    return DoctorFinding(.ok, area, subject, exists ? "writable, \(space)" : "can be made, \(space)")
  }
}

/// How quantities are told.
public enum DoctorText {
  public static func bytes(_ count: Int) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"]
    var value = Double(count)
    var unit = 0
    while value >= 1_024, unit < units.count - 1 {
      value /= 1_024
      unit += 1
    }
    return unit == 0 ? "\(count) B" : String(format: "%.1f %@", value, units[unit])
  }

  /// `1 broker`, `2 brokers`.
  public static func count(_ number: Int, _ one: String) -> String { "\(number) \(one)\(number == 1 ? "" : "s")" }

  public static func duration(_ ms: Int64) -> String {
    for (name, size) in [("d", Int64(86_400_000)), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)]
    where abs(ms) >= 2 * size {
      return "\(ms / size) \(name)"
    }
    return "\(ms) ms"
  }
}
