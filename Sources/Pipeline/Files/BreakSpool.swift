import Domain
import Foundation

/// Collects break revisions of a file run on disk and writes the last one of each break, in order of break id.
///
/// Memory holds an id and a place for each break, never the messages.
final class BreakSpool {
  private struct Entry {
    var offset: Int
    var length: Int
    var isReported: Bool
  }

  private let path: String
  private let descriptor: Int32
  private var pending: [UInt8] = []
  private var written = 0
  /// By the bytes of the id: texts are equal where they only look alike.
  private var entries: [[UInt8]: Entry] = [:]

  init(directory: String) throws {
    path = directory + "/.breaks.spool"
    descriptor = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else {
      throw InputError(file: path, byteOffset: 0, message: String(cString: strerror(errno)))
    }
  }

  deinit {
    close(descriptor)
    unlink(path)
  }

  /// Takes a revision; `isReported` is whether a break in this state belongs into the result.
  func append(id: String, isReported: Bool, _ message: [UInt8]) throws {
    entries[Array(id.utf8)] = Entry(offset: written + pending.count, length: message.count, isReported: isReported)
    pending.append(contentsOf: message)
    if pending.count > 1 << 22 { try flush() }
  }

  private func flush() throws {
    try writeAll(descriptor, pending, path)
    written += pending.count
    pending.removeAll(keepingCapacity: true)
  }

  /// Writes the breaks that are open or accepted, one a line.
  func finish(to target: String) throws {
    try flush()
    let output = open(target, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    guard output >= 0 else { throw InputError(file: target, byteOffset: 0, message: String(cString: strerror(errno))) }
    defer { close(output) }
    var block: [UInt8] = []
    let ids = entries.filter(\.value.isReported).keys.sorted { $0.lexicographicallyPrecedes($1) }
    for id in ids {
      let entry = entries[id]!
      var line = [UInt8](repeating: 0, count: entry.length)
      let count = line.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress, $0.count, off_t(entry.offset)) }
      guard count == entry.length else {
        throw InputError(file: path, byteOffset: Int64(entry.offset), message: "the spool could not be read back")
      }
      block.append(contentsOf: line)
      block.append(0x0a)
      if block.count > 1 << 22 {
        try writeAll(output, block, target)
        block.removeAll(keepingCapacity: true)
      }
    }
    try writeAll(output, block, target)
  }
}

func writeAll(_ descriptor: Int32, _ bytes: [UInt8], _ path: String) throws {
  var done = 0
  while done < bytes.count {
    let count = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress! + done, bytes.count - done) }
    if count < 0 {
      if errno == EINTR { continue }
      throw InputError(file: path, byteOffset: Int64(done), message: String(cString: strerror(errno)))
    }
    done += count
  }
}
