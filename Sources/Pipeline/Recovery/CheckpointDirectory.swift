import Checkpoints
import Foundation

/// What a directory of checkpoints asks of a file system.
public protocol CheckpointFiles: AnyObject {
  /// Names of the files in a directory; none where there is no directory.
  func names(in directory: String) throws -> [String]
  func read(_ path: String) throws -> [UInt8]
  /// Writes a whole file, in directories that are made where they are missing. It is on the disk when this returns.
  func write(_ bytes: [UInt8], to path: String) throws
  /// Takes the place of the target at once.
  func rename(_ path: String, to target: String) throws
  func remove(_ path: String) throws
}

/// Checkpoints of one task as files: `<directory>/<task>/<key>`.
struct CheckpointDirectory {
  private let path: String
  private let files: any CheckpointFiles

  init(path: String, task: Int32, files: any CheckpointFiles) {
    self.path = "\(path)/\(task)"
    self.files = files
  }

  private static let unfinished = "tmp."

  /// - Parameter kinds: What is read.
  func load(_ kinds: [Substring] = ["m.", "s.", "a."]) throws -> CheckpointContents {
    var contents = CheckpointContents()
    /// What cannot be read is as good as missing: an older checkpoint or the epochs may do without it.
    func reading<Value>(_ body: () throws -> Value) throws -> Value? {
      do { return try body() } catch let error as RecoveryError {
        contents.problems.append("\(error)")
        return nil
      }
    }
    for name in try reading({ try files.names(in: path) })?.sorted() ?? [] {
      if kinds.contains(name.prefix(2)) {
        if let bytes = try reading({ try files.read(path + "/" + name) }) { contents.put(name, bytes) }
      } else if name.hasPrefix(CheckpointDirectory.unfinished) {
        // Left by a process that died while it wrote: nothing needs it, so that it is removed with the next epoch.
        contents.put(name, [])
      }
    }
    return contents
  }

  /// A file is there whole or not at all.
  func apply(_ writes: [CheckpointWrite]) throws {
    for write in writes {
      let target = path + "/" + write.key
      guard let value = write.value else {
        try files.remove(target)
        continue
      }
      let temporary = path + "/" + CheckpointDirectory.unfinished + write.key
      try files.write(value, to: temporary)
      try files.rename(temporary, to: target)
    }
  }
}

/// The file system of the machine.
public final class SystemFiles: CheckpointFiles {
  public init() {}

  private func failure(_ what: String, _ path: String) -> RecoveryError {
    RecoveryError("cannot \(what) \(path): \(String(cString: strerror(errno)))")
  }

  public func names(in directory: String) throws -> [String] {
    guard let found = opendir(directory) else {
      if errno == ENOENT { return [] }
      throw failure("read", directory)
    }
    closedir(found)
    return try FileManager.default.contentsOfDirectory(atPath: directory)
  }

  private func make(directory: String) throws {
    guard mkdir(directory, 0o755) != 0, errno != EEXIST else { return }
    let parent = (directory as NSString).deletingLastPathComponent
    guard errno == ENOENT, !["", "/", directory].contains(parent) else { throw failure("make", directory) }
    try make(directory: parent)
    guard mkdir(directory, 0o755) == 0 || errno == EEXIST else { throw failure("make", directory) }
  }

  public func read(_ path: String) throws -> [UInt8] {
    guard let data = FileManager.default.contents(atPath: path) else { throw RecoveryError("cannot read \(path)") }
    return Array(data)
  }

  public func write(_ bytes: [UInt8], to path: String) throws {
    var descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o644)
    if descriptor < 0, errno == ENOENT {
      try make(directory: (path as NSString).deletingLastPathComponent)
      descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o644)
    }
    guard descriptor >= 0 else { throw failure("write", path) }
    defer { close(descriptor) }
    var done = 0
    while done < bytes.count {
      let count = bytes.withUnsafeBytes { Foundation.write(descriptor, $0.baseAddress! + done, bytes.count - done) }
      guard count > 0 else { throw failure("write", path) }
      done += count
    }
    guard fsync(descriptor) == 0 else { throw failure("write", path) }
  }

  public func rename(_ path: String, to target: String) throws {
    guard Foundation.rename(path, target) == 0 else { throw failure("write", target) }
  }

  public func remove(_ path: String) throws {
    guard unlink(path) == 0 || errno == ENOENT else { throw failure("remove", path) }
  }
}
