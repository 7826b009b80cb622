import Domain

/// What stands in the two topics of flows: by key the newest revision, and what it says.
struct PublishedFlows {
  struct Message {
    var isCash: Bool
    var series: MessageSeries
    var key: [UInt8]
    var value: [UInt8]
    var revision: UInt64
  }

  private struct Known {
    var revision: UInt64
    /// Of the figures: the message up to its revision, which with what follows it says nothing of its own.
    var figures: Fingerprint
  }

  private struct Name: Hashable {
    var isCash: Bool
    var key: [UInt8]
  }

  private var known: [Name: Known] = [:]
  private(set) var series: Set<MessageSeries> = []
  /// The latest day of which something was told.
  private(set) var asOf_d: Int32?
  /// Something has come from the topics since the last telling that is not what was kept.
  var isChanged = false

  /// Takes a message of one of the topics. What is none of ours is passed over: it will be replaced.
  mutating func take(isCash: Bool, key: UnsafeBufferPointer<UInt8>?, value: UnsafeBufferPointer<UInt8>?) {
    guard let key, let value else { return }
    let bytes = Array(value)
    guard let revision = PublishedFlows.revision(bytes) else { return }
    let name = Name(isCash: isCash, key: Array(key))
    if let made = PublishedFlows.series(key) { series.insert(made) }
    let before = known[name]
    guard revision >= before?.revision ?? 0 else { return }
    let made = Known(revision: revision, figures: PublishedFlows.figures(bytes))
    if before?.figures != made.figures { isChanged = true }
    known[name] = made
    noteDay(bytes)
  }

  private mutating func noteDay(_ bytes: [UInt8]) {
    guard let day = PublishedFlows.day(bytes) else { return }
    asOf_d = max(asOf_d ?? .min, day)
  }

  /// Takes note of what was sent.
  mutating func keep(_ message: Message) {
    noteDay(message.value)
    series.insert(message.series)
    known[Name(isCash: message.isCash, key: message.key)] = Known(
      revision: message.revision, figures: PublishedFlows.figures(message.value))
  }

  func revision(isCash: Bool, _ key: [UInt8]) -> UInt64 { known[Name(isCash: isCash, key: key)]?.revision ?? 0 }

  func isNew(_ message: Message) -> Bool {
    known[Name(isCash: message.isCash, key: message.key)]?.figures != PublishedFlows.figures(message.value)
  }

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

  private static let dayMark = Array("\"as_of_date\":\"".utf8)

  private static func day(_ bytes: [UInt8]) -> Int32? {
    // One of the first fields.
    guard let at = bytes.indices.first(where: { bytes[$0...].starts(with: dayMark) }) else { return nil }
    return DateStyle.iso.day(String(decoding: bytes[(at + dayMark.count)...].prefix(10), as: UTF8.self))
  }

  /// The series of a key: dimensions, currency, view, joined by bars.
  static func series(_ key: UnsafeBufferPointer<UInt8>) -> MessageSeries? {
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
    guard parts.count >= 2, let currency = Currency(parts[parts.count - 2]) else { return nil }
    return MessageSeries(
      dimensions: Array(parts.dropLast(2)), currency: currency, isBase: parts[parts.count - 1] == "base")
  }
}
