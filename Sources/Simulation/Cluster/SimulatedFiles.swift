import Kafka
import Pipeline

/// What lies on a machine's disk, or on one that several machines share. It outlives the processes.
final class SimulatedDisk: @unchecked Sendable {
  var files: [String: [UInt8]] = [:]
}

/// A process's view of a disk: it may die between any two operations, and in the middle of a write.
final class SimulatedFiles: CheckpointFiles {
  private let process: SimulatedProcess
  private let disk: SimulatedDisk

  init(_ process: SimulatedProcess, _ disk: SimulatedDisk) {
    self.process = process
    self.disk = disk
  }

  private func enter(_ call: StaticString) throws {
    process.scheduler.yield(process)
    if process.isDead { throw KafkaError(name: "_DESTROY", "the process is gone", context: "\(call)", isFatal: true) }
  }

  func names(in directory: String) throws -> [String] {
    try enter("names")
    let prefix = directory + "/"
    return disk.files.keys.filter { $0.hasPrefix(prefix) }.map { String($0.dropFirst(prefix.count)) }
  }

  func read(_ path: String) throws -> [UInt8] {
    try enter("read file")
    guard let bytes = disk.files[path] else { throw RecoveryError("cannot read \(path)") }
    return bytes
  }

  func write(_ bytes: [UInt8], to path: String) throws {
    try enter("write file")
    disk.files[path] = Array(bytes.prefix(bytes.count / 2))
    try enter("write file")
    disk.files[path] = bytes
  }

  func rename(_ path: String, to target: String) throws {
    try enter("rename file")
    guard let bytes = disk.files.removeValue(forKey: path) else { throw RecoveryError("cannot rename \(path)") }
    disk.files[target] = bytes
  }

  func remove(_ path: String) throws {
    try enter("remove file")
    disk.files[path] = nil
  }
}
