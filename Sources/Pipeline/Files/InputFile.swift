import CZlib
import CZstd
import Domain
import Foundation

/// An input that cannot be read any further; names the file and how far it got.
public struct InputError: Error, CustomStringConvertible {
  public var file: String
  public var byteOffset: Int64
  public var message: String
  public var description: String { byteOffset == 0 ? "\(file): \(message)" : "\(file), byte \(byteOffset): \(message)" }

  public init(file: String, byteOffset: Int64, message: String) {
    self.file = file
    self.byteOffset = byteOffset
    self.message = message
  }
}

/// How lines are cut out of a file.
public enum LineStyle: Sendable, Equatable {
  /// One JSON value a line; a key may stand before a TAB.
  case lines
  /// CSV rows: line ends inside quoted columns belong to the row. A column is quoted where the quote is its first
  /// byte, as RFC 4180 has it; a quote inside a column (`5" pipe`) is text.
  case csv(quote: UInt8?, delimiter: UInt8 = 0x2c)
}

/// Whether four bytes begin a frame of zstd: one of data, or one to skip (`0x184D2A50`…`5F`, as parallel compressors
/// write them first). Source: RFC 8878, 3.1.
private func isZstandard(_ a: UInt8, _ b: UInt8, _ c: UInt8, _ d: UInt8) -> Bool {
  a == 0x28 && b == 0xb5 && c == 0x2f && d == 0xfd || a & 0xf0 == 0x50 && b == 0x2a && c == 0x4d && d == 0x18
}

/// A file of records, plain or gzip or zstd (told by its first bytes), read in bounded memory.
///
/// Not for more than one thread at a time.
public final class InputFile {
  public let path: String
  /// Bytes read from the file itself, before decompression, and its size if known.
  public private(set) var bytesRead: Int64 = 0
  public let size: Int64?
  /// Opened once more, it gives the same again.
  var isRereadable: Bool { size != nil }
  /// Longer lines are cut: their beginning is handed out and `isCut` says so.
  public let maximumLineBytes: Int

  private enum Codec { case plain, gzip, zstd }
  private let descriptor: Int32
  private let style: LineStyle
  private var codec = Codec.plain
  private var raw: [UInt8]
  private var rawStart = 0
  private var rawEnd = 0
  private var isRawEnd = false
  private var buffer: [UInt8] = []
  private var start = 0
  private var isEnd = false
  private var lineNumber: Int64 = 1
  private var inflater = z_stream()
  private var isInflating = false
  private var zstd: OpaquePointer?
  private var isFrameOpen = false

  /// Opens a file, or standard input for `-`.
  public init(path: String, style: LineStyle, maximumLineBytes: Int) throws(InputError) {
    self.path = path
    self.style = style
    self.maximumLineBytes = maximumLineBytes
    raw = [UInt8](repeating: 0, count: 1 << 18)
    if path == "-" {
      descriptor = 0
      size = nil
    } else {
      descriptor = open(path, O_RDONLY)
      guard descriptor >= 0 else {
        throw InputError(file: path, byteOffset: 0, message: String(cString: strerror(errno)))
      }
      var info = stat()
      size = fstat(descriptor, &info) == 0 && info.st_mode & S_IFMT == S_IFREG ? Int64(info.st_size) : nil
    }
    try readRaw()
    // A pipe may hand out less than the first bytes that tell the format.
    while rawEnd < 4, !isRawEnd { try readRaw() }
    if rawEnd >= 2, raw[0] == 0x1f, raw[1] == 0x8b {
      codec = .gzip
      // 15 + 16: the largest window, gzip framing.
      inflateInit2_(&inflater, 31, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
      isInflating = true
    } else if rawEnd >= 4, isZstandard(raw[0], raw[1], raw[2], raw[3]) {
      codec = .zstd
      zstd = ZSTD_createDStream()
    }
  }

  deinit {
    if isInflating { inflateEnd(&inflater) }
    if let zstd { ZSTD_freeDStream(zstd) }
    if descriptor > 0 { close(descriptor) }
  }

  /// The next lines' bytes are appended to `block`, with their ends; at most about `limit` bytes of them.
  /// - Returns: whether anything was appended.
  public func next(into block: inout LineBlock, records: Int) throws(InputError) -> Bool {
    var appended = false
    // Sixteen megabytes at once: enough to keep the decoders busy, whatever the records' size.
    while block.count < records, block.bytes.count < 16 << 20 {
      if let end = try lineEnd() {
        let length = end.length
        if length > 0 || end.terminator == 0, !isBlank(length) {
          let from = start
          buffer.withUnsafeBufferPointer { bytes in
            block.append(
              UnsafeBufferPointer(rebasing: bytes[from..<from + min(length, maximumLineBytes)]), line: lineNumber,
              fullLength: fullLength)
          }
          appended = true
        }
        lineNumber += end.lines
        start += length + end.terminator
      } else {
        return appended
      }
    }
    return appended
  }

  /// Whether the line at `start` is nothing but spaces; a row of CSV may be one whose columns are empty.
  private func isBlank(_ length: Int) -> Bool {
    guard case .lines = style, length > 0, buffer[start] <= 0x20 else { return false }
    return buffer[start..<start + length].allSatisfy { $0 <= 0x20 }
  }

  /// Bytes of the line as it is in the file, also where the buffer holds its beginning only.
  private var fullLength = 0
  private var scanned = 0
  private var innerLines: Int64 = 0
  /// Where in a CSV column `scanned` stands.
  private var column = Column.start
  /// Distance from `start` to the first line end inside a quoted column; −1 if there is none.
  private var firstInnerEnd = -1

  private enum Column { case start, plain, quoted, afterQuote }

  /// How much of a line is read before it is cut, or, in quotes, given up.
  private var lookAhead: Int { maximumLineBytes + (1 << 20) }

  /// Finds the end of the line at `start`; nil at the end of the input.
  private func lineEnd() throws(InputError) -> (length: Int, terminator: Int, lines: Int64)? {
    scanned = 0
    innerLines = 0
    column = .start
    firstInnerEnd = -1
    var dropped = 0
    while true {
      let found = scan()
      if let found {
        var length = found
        if length > 0, buffer[start + length - 1] == 0x0d { length -= 1 }
        fullLength = dropped + length
        return (length, found - length + 1, innerLines + 1)
      }
      if column == .quoted, firstInnerEnd >= 0, isEnd || buffer.count - start > lookAhead {
        // A quote that nothing closes would swallow all that follows: it costs the one line it stands in, which the
        // decoder refuses, and the next line is a row again.
        let hasReturn = firstInnerEnd > 0 && buffer[start + firstInnerEnd - 1] == 0x0d
        let length = firstInnerEnd - (hasReturn ? 1 : 0)
        fullLength = dropped + length
        return (length, hasReturn ? 2 : 1, 1)
      }
      if isEnd {
        let rest = buffer.count - start
        if rest == 0 { return nil }
        fullLength = dropped + rest
        return (rest, 0, innerLines + 1)
      }
      // A line beyond all bounds: its beginning is kept, the rest is read over.
      if buffer.count - start > lookAhead {
        let keep = maximumLineBytes + 1
        let surplus = buffer.count - start - keep
        dropped += surplus
        buffer.removeSubrange(start + keep..<buffer.count)
        scanned = keep
      }
      try fill()
    }
  }

  /// The distance from `start` to the line's end, nil if the buffer does not hold it.
  private func scan() -> Int? {
    buffer.withUnsafeBufferPointer { bytes in
      guard let base = bytes.baseAddress else { return nil }
      let count = bytes.count
      if case .csv(let quote?, let delimiter) = style {
        return scanRow(base, count, quote, delimiter)
      }
      let from = start + scanned
      guard from < count else { return nil }
      if let found = memchr(base + from, 0x0a, count - from) {
        return found.assumingMemoryBound(to: UInt8.self) - UnsafeMutablePointer(mutating: base) - start
      }
      scanned = count - start
      return nil
    }
  }

  /// The distance from `start` to the row's end, nil if the buffer does not hold it; goes on where it stopped.
  private func scanRow(_ base: UnsafePointer<UInt8>, _ count: Int, _ quote: UInt8, _ delimiter: UInt8) -> Int? {
    var at = start + scanned
    while at < count {
      if column == .quoted {
        let byte = base[at]
        if byte == quote {
          column = .afterQuote
        } else if byte == 0x0a {
          innerLines += 1
          if firstInnerEnd < 0 { firstInnerEnd = at - start }
        }
        at += 1
        continue
      }
      let byte = base[at]
      if byte == 0x0a { return at - start }
      if byte == delimiter {
        column = .start
      } else if byte == quote, column == .start || column == .afterQuote {
        // At the beginning of a column, or the second of a doubled quote.
        column = .quoted
      } else {
        column = .plain
      }
      at += 1
    }
    scanned = count - start
    return nil
  }

  /// Reads more behind what has not been decoded yet.
  private func readRaw() throws(InputError) {
    if rawStart == rawEnd {
      rawStart = 0
      rawEnd = 0
    }
    while true {
      let count = raw.withUnsafeMutableBytes { read(descriptor, $0.baseAddress! + rawEnd, $0.count - rawEnd) }
      if count < 0 {
        if errno == EINTR { continue }
        throw InputError(file: path, byteOffset: bytesRead, message: String(cString: strerror(errno)))
      }
      rawEnd += count
      bytesRead += Int64(count)
      if count == 0 { isRawEnd = true }
      return
    }
  }

  /// Appends decoded bytes to the buffer, dropping what has been handed out.
  private func fill() throws(InputError) {
    let isFirst = lineNumber == 1 && start == 0 && buffer.isEmpty
    if start > 0 {
      buffer.removeSubrange(0..<start)
      start = 0
    }
    if rawStart == rawEnd, !isRawEnd { try readRaw() }
    switch codec {
    case .plain:
      buffer.append(contentsOf: raw[rawStart..<rawEnd])
      rawStart = rawEnd
      if isRawEnd { isEnd = true }
    case .gzip: try inflateSome()
    case .zstd: try decompressSome()
    }
    if isFirst, buffer.count >= 3, buffer[0] == 0xef, buffer[1] == 0xbb, buffer[2] == 0xbf {
      buffer.removeSubrange(0..<3)
    }
  }

  /// Bytes of the file that have been decoded.
  private var consumed: Int64 { bytesRead - Int64(rawEnd - rawStart) }

  private func inflateSome() throws(InputError) {
    if isRawEnd, rawStart == rawEnd {
      guard !isFrameOpen else {
        throw InputError(file: path, byteOffset: consumed, message: "the gzip data ends early")
      }
      isEnd = true
      return
    }
    let old = buffer.count
    buffer.append(contentsOf: repeatElement(0, count: 1 << 20))
    var status: Int32 = Z_OK
    var produced = 0
    raw.withUnsafeMutableBufferPointer { input in
      buffer.withUnsafeMutableBufferPointer { output in
        inflater.next_in = input.baseAddress! + rawStart
        inflater.avail_in = UInt32(rawEnd - rawStart)
        inflater.next_out = output.baseAddress! + old
        inflater.avail_out = UInt32(output.count - old)
        status = inflate(&inflater, Z_NO_FLUSH)
        rawStart = rawEnd - Int(inflater.avail_in)
        produced = output.count - old - Int(inflater.avail_out)
      }
    }
    buffer.removeSubrange(old + produced..<buffer.count)
    isFrameOpen = status != Z_STREAM_END
    if status == Z_STREAM_END {
      // Another member may follow.
      inflateReset(&inflater)
    } else if status != Z_OK && status != Z_BUF_ERROR {
      throw InputError(file: path, byteOffset: consumed, message: "damaged gzip data")
    }
  }

  private func decompressSome() throws(InputError) {
    let isDrained = isRawEnd && rawStart == rawEnd
    if isDrained, !isFrameOpen {
      isEnd = true
      return
    }
    let old = buffer.count
    buffer.append(contentsOf: repeatElement(0, count: 1 << 20))
    var result = 0
    var produced = 0
    raw.withUnsafeBytes { input in
      buffer.withUnsafeMutableBytes { output in
        var from = ZSTD_inBuffer(src: input.baseAddress! + rawStart, size: rawEnd - rawStart, pos: 0)
        var to = ZSTD_outBuffer(dst: output.baseAddress! + old, size: output.count - old, pos: 0)
        result = ZSTD_decompressStream(zstd, &to, &from)
        rawStart += from.pos
        produced = to.pos
      }
    }
    buffer.removeSubrange(old + produced..<buffer.count)
    guard ZSTD_isError(result) == 0 else {
      throw InputError(
        file: path, byteOffset: consumed, message: "damaged zstd data: \(String(cString: ZSTD_getErrorName(result)))")
    }
    // The decoder may hold decoded bytes back after it has taken the last of the input.
    guard !isDrained || produced > 0 else {
      throw InputError(file: path, byteOffset: consumed, message: "the zstd data ends early")
    }
    isFrameOpen = result != 0
  }
}

/// Lines copied out of a file, to be decoded elsewhere.
public struct LineBlock: Sendable {
  public struct Line: Sendable {
    public var start: Int
    public var length: Int
    /// As it was in the file; more than `length` where it was cut.
    public var fullLength: Int
    public var number: Int64
  }
  public private(set) var bytes: [UInt8] = []
  public private(set) var lines: [Line] = []

  public init() {}

  public var count: Int { lines.count }

  public mutating func append(_ line: UnsafeBufferPointer<UInt8>, line number: Int64, fullLength: Int) {
    lines.append(Line(start: bytes.count, length: line.count, fullLength: fullLength, number: number))
    bytes.append(contentsOf: line)
  }

  public mutating func removeAll() {
    bytes.removeAll(keepingCapacity: true)
    lines.removeAll(keepingCapacity: true)
  }
}
