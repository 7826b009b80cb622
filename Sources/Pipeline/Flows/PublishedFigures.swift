import Domain

/// What stands in a topic of figures: by key the newest revision, and what it says.
struct PublishedFigures {
  private struct Known {
    var revision: UInt64
    /// Of the figures: the message up to its revision, which with what follows it says nothing of its own.
    var figures: Fingerprint
  }

  private var known: [[UInt8]: Known] = [:]
  /// Something has come from the topic since the last telling that is not what was kept.
  var isChanged = false

  /// Takes a message of the topic.
  /// - Returns: its bytes where it is one of ours and not an older one. What is none is passed over: it will be replaced.
  mutating func take(key: UnsafeBufferPointer<UInt8>?, value: UnsafeBufferPointer<UInt8>?) -> [UInt8]? {
    guard let key, let value else { return nil }
    let bytes = Array(value)
    guard let revision = PublishedFigures.revision(bytes) else { return nil }
    let name = Array(key)
    let before = known[name]
    guard revision >= before?.revision ?? 0 else { return nil }
    let made = Known(revision: revision, figures: PublishedFigures.figures(bytes))
    if before?.figures != made.figures { isChanged = true }
    known[name] = made
    return bytes
  }

  /// Takes note of what was sent.
  mutating func keep(key: [UInt8], value: [UInt8], revision: UInt64) {
    known[key] = Known(revision: revision, figures: PublishedFigures.figures(value))
  }

  /// 0 where nothing has been told under a key.
  func revision(_ key: [UInt8]) -> UInt64 { known[key]?.revision ?? 0 }

  /// Whether a message says something else than the newest under its key.
  func isNew(key: [UInt8], value: [UInt8]) -> Bool { known[key]?.figures != PublishedFigures.figures(value) }

  // MARK: - Parts of a message

  private static let mark = Array(",\"revision\":".utf8)

  /// Where the last mark begins. Revision, as-of time and watermarks are the last fields of a message; what a name of a
  /// source may hold is escaped.
  private static func place(_ bytes: [UInt8]) -> Int? {
    var at = bytes.count - mark.count
    while at >= 0 {
      if bytes[at] == mark[0], bytes[at..<at + mark.count].elementsEqual(mark) { return at }
      at -= 1
    }
    return nil
  }

  private static func figures(_ bytes: [UInt8]) -> Fingerprint {
    let end = place(bytes) ?? bytes.count
    return bytes.withUnsafeBufferPointer { Fingerprint(ByteView(UnsafeBufferPointer(rebasing: $0[..<end]))) }
  }

  private static func revision(_ bytes: [UInt8]) -> UInt64? {
    guard let place = place(bytes) else { return nil }
    let digits = bytes[(place + mark.count)...].prefix { $0 >= 0x30 && $0 <= 0x39 }
    return UInt64(String(decoding: digits, as: UTF8.self))
  }

  /// The parts of a key, which are joined by bars.
  static func parts(_ key: UnsafeBufferPointer<UInt8>) -> [String] {
    var parts: [String] = [""]
    var isEscaped = false
    for scalar in String(decoding: key, as: UTF8.self).unicodeScalars {
      switch (scalar, isEscaped) {
      case ("\\", false): isEscaped = true
      case ("|", false): parts.append("")
      default:
        parts[parts.count - 1].unicodeScalars.append(scalar)
        isEscaped = false
      }
    }
    return parts
  }
}
