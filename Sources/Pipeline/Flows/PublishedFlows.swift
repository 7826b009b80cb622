import Domain

/// What stands in the two topics of flows.
struct PublishedFlows {
  struct Message {
    var isCash: Bool
    var series: MessageSeries
    var key: [UInt8]
    var value: [UInt8]
    var revision: UInt64
  }

  private var cash = PublishedFigures()
  private var receivables = PublishedFigures()
  private(set) var series: Set<MessageSeries> = []
  /// The latest day of which something was told.
  private(set) var asOf_d: Int32?
  /// Something has come from the topics since the last telling that is not what was kept.
  var isChanged: Bool {
    get { cash.isChanged || receivables.isChanged }
    set { (cash.isChanged, receivables.isChanged) = (newValue, newValue) }
  }

  /// Takes a message of one of the topics. What is none of ours is passed over: it will be replaced.
  mutating func take(isCash: Bool, key: UnsafeBufferPointer<UInt8>?, value: UnsafeBufferPointer<UInt8>?) {
    let taken = isCash ? cash.take(key: key, value: value) : receivables.take(key: key, value: value)
    guard let key, let bytes = taken else { return }
    if let made = PublishedFlows.series(key) { series.insert(made) }
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
    if message.isCash {
      cash.keep(key: message.key, value: message.value, revision: message.revision)
    } else {
      receivables.keep(key: message.key, value: message.value, revision: message.revision)
    }
  }

  func revision(isCash: Bool, _ key: [UInt8]) -> UInt64 { (isCash ? cash : receivables).revision(key) }

  func isNew(_ message: Message) -> Bool {
    (message.isCash ? cash : receivables).isNew(key: message.key, value: message.value)
  }

  private static let dayMark = Array("\"as_of_date\":\"".utf8)

  private static func day(_ bytes: [UInt8]) -> Int32? {
    // One of the first fields.
    guard let at = bytes.indices.first(where: { bytes[$0...].starts(with: dayMark) }) else { return nil }
    return DateStyle.iso.day(String(decoding: bytes[(at + dayMark.count)...].prefix(10), as: UTF8.self))
  }

  /// The series of a key: dimensions, currency, view.
  static func series(_ key: UnsafeBufferPointer<UInt8>) -> MessageSeries? {
    let parts = PublishedFigures.parts(key)
    guard parts.count >= 2, let currency = Currency(parts[parts.count - 2]) else { return nil }
    return MessageSeries(
      dimensions: Array(parts.dropLast(2)), currency: currency, isBase: parts[parts.count - 1] == "base")
  }
}
