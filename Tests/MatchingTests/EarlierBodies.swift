import CShims
import Domain

@testable import Matching

/// Writes facts as the versions before short ones did, to see that what they have left behind is read.
struct EarlierBody {
  private(set) var bytes: [UInt8] = []
  private let key: ByteView
  private var cursor:
    (
      currency: Currency, source: UInt16, time_ms: Int64, date_d: Int32, period: Int32, document: [UInt8],
      customer: [UInt8], dimensions: [UInt8], journal: [UInt8]
    ) = (.none, FactCursor.noSource, 0, absentDate, 0, [], [], [], [])

  init(key: ByteView) {
    self.key = key
    var writer = ByteWriter()
    // The balance, then the key.
    writer.write(UInt16(0))
    EarlierBody.write(Array(key.buffer), &writer)
    bytes = writer.array
  }

  private static func write(_ text: [UInt8], _ writer: inout ByteWriter) {
    if text.count < 255 {
      writer.write(UInt8(text.count))
    } else {
      writer.write(UInt8(255))
      writer.write(UInt16(text.count))
    }
    for byte in text { writer.write(byte) }
  }

  private static func zigzag(_ value: Int64) -> UInt64 { UInt64(bitPattern: value << 1 ^ value >> 63) }
  private static func width(_ value: UInt64) -> Int { (71 - value.leadingZeroBitCount) / 8 }

  private static func write(_ value: UInt64, width: Int, _ writer: inout ByteWriter) {
    for at in 0..<width { writer.write(UInt8(truncatingIfNeeded: value >> UInt64(8 * at))) }
  }

  mutating func append(_ fact: Fact) {
    var heads = UInt32(fact.code) | (fact.isPosting ? 1 << 5 : 0)
    var more = fact.flags
    if bytes.count > Matcher.absoluteFrom {
      more |= 1 << 7
      cursor = (.none, FactCursor.noSource, 0, absentDate, 0, [], [], [], [])
    }
    if fact.currency == cursor.currency { heads |= 1 << 6 }
    if fact.source == cursor.source { heads |= 1 << 20 }
    var texts: [[UInt8]] = []
    func put(_ text: ByteView, _ last: inout [UInt8], _ shift: UInt32) {
      if text.isEmpty { return }
      if Array(text.buffer) == last {
        heads |= 2 << shift
      } else {
        heads |= 1 << shift
        texts.append(Array(text.buffer))
        last = Array(text.buffer)
      }
    }
    put(fact.document, &cursor.document, 8)
    put(fact.customer, &cursor.customer, 10)
    put(fact.dimensionBytes, &cursor.dimensions, 12)
    if fact.isPosting { put(fact.journal, &cursor.journal, 22) }
    if !fact.reverses.isEmpty { more |= 1 << 5 }
    if fact.lineCount != 0 { more |= 1 << 6 }
    if fact.isPosting, fact.mask != 1 { more |= 1 << 10 }
    if fact.id.isEmpty {
      more |= 1 << 8 | 1 << 9
    } else {
      let base = fact.isPosting ? fact.journal : fact.document
      if !base.isEmpty, fact.id.starts(with: base) {
        heads |= 2 << 14
        texts.append(Array(fact.id.dropped(base.count).buffer))
      } else if fact.id.starts(with: key) {
        heads |= 3 << 14
        texts.append(Array(fact.id.dropped(key.count).buffer))
      } else {
        heads |= 1 << 14
        texts.append(Array(fact.id.buffer))
      }
      if fact.isChange { more |= 1 << 8 }
    }
    if !fact.reverses.isEmpty { texts.append(Array(fact.reverses.buffer)) }
    if !fact.line.isEmpty || fact.flags & Fact.Flag.hasLine != 0 { texts.append(Array(fact.line.buffer)) }
    if more != 0 { heads |= 1 << 7 }
    let time = EarlierBody.zigzag(fact.time_ms &- cursor.time_ms)
    heads |= UInt32(EarlierBody.width(time)) << 24
    if fact.date_d == absentDate {
      heads |= 3 << 16
    } else if fact.date_d != cursor.date_d {
      heads |= (fact.date_d == day(ofMilliseconds: fact.time_ms) ? 1 : 2) << 16
    }
    if fact.statedPeriod != 0 { heads |= (fact.statedPeriod == cursor.period ? 1 : 2) << 18 }
    let amounts = (0..<fact.amountCount).map { EarlierBody.zigzag(fact.amounts[$0]) }
    let width = EarlierBody.width(amounts.reduce(0, |))
    heads |= UInt32(width) << 28

    var writer = ByteWriter()
    writer.write(heads)
    if more != 0 { writer.write(more) }
    if !fact.isPosting { writer.write(fact.mask) }
    if heads & 1 << 6 == 0 { writer.write(fact.currency.rawValue) }
    if heads & 1 << 20 == 0 { writer.write(fact.source) }
    if more & 1 << 6 != 0 { writer.write(fact.lineCount) }
    if more & 1 << 8 != 0 { writer.write(fact.offset) }
    if more & 1 << 9 != 0 { writer.write(fact.idHash) }
    if more & 1 << 10 != 0 { writer.write(fact.mask) }
    if more & Fact.Flag.flagged != 0 { writer.write(fact.brokenRules) }
    EarlierBody.write(time, width: EarlierBody.width(time), &writer)
    if heads >> 16 & 3 == 2 { writer.write(fact.date_d) }
    if heads >> 18 & 3 == 2 { writer.write(fact.statedPeriod) }
    for amount in amounts { EarlierBody.write(amount, width: width, &writer) }
    for text in texts { EarlierBody.write(text, &writer) }
    bytes += writer.array
    cursor.currency = fact.currency
    cursor.source = fact.source
    cursor.time_ms = fact.time_ms
    cursor.date_d = fact.date_d
    if fact.statedPeriod != 0 { cursor.period = fact.statedPeriod }
  }

  /// The value of the tie, at the end.
  mutating func end(_ value: TieValue) {
    let width = EarlierBody.width(UInt64(bitPattern: value.amount))
    var writer = ByteWriter()
    EarlierBody.write(UInt64(bitPattern: value.amount), width: width, &writer)
    writer.write(value.currency.rawValue)
    writer.write(UInt8(width))
    bytes += writer.array
  }
}
