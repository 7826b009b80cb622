import Checkpoints
import Foundation

/// Checkpoints of one task as files: `<directory>/<task>/<key>`.
public struct CheckpointDirectory {
  private let path: String

  public init(path: String, task: Int32) { self.path = "\(path)/\(task)" }

  public func load() throws -> CheckpointContents {
    var contents = CheckpointContents()
    guard let names = try? FileManager.default.contentsOfDirectory(atPath: path) else { return contents }
    for name in names where name.hasPrefix("m.") || name.hasPrefix("s.") {
      guard let data = FileManager.default.contents(atPath: path + "/" + name) else {
        throw RecoveryError("cannot read \(path)/\(name)")
      }
      contents.put(name, Array(data))
    }
    return contents
  }

  /// A file is there whole or not at all.
  public func apply(_ writes: [CheckpointWrite]) throws {
    guard !writes.isEmpty else { return }
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    for write in writes {
      let target = path + "/" + write.key
      guard let value = write.value else {
        try? FileManager.default.removeItem(atPath: target)
        continue
      }
      let temporary = path + "/tmp." + write.key
      let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC, 0o644)
      guard descriptor >= 0 else {
        throw RecoveryError("cannot write \(temporary): \(String(cString: strerror(errno)))")
      }
      var done = 0
      while done < value.count {
        let count = value.withUnsafeBytes { Foundation.write(descriptor, $0.baseAddress! + done, value.count - done) }
        guard count > 0 else {
          close(descriptor)
          throw RecoveryError("cannot write \(temporary): \(String(cString: strerror(errno)))")
        }
        done += count
      }
      fsync(descriptor)
      close(descriptor)
      guard rename(temporary, target) == 0 else {
        throw RecoveryError("cannot write \(target): \(String(cString: strerror(errno)))")
      }
    }
  }
}
