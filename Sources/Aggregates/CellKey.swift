import Domain

/// What a cell is about: dimension values, currency, view and period.
public struct CellKey: Hashable, Sendable, Comparable {
  /// The value of a dimension that stands for all values beyond the bound. A text that says just this is one of them.
  public static let other = "(other)"
  static let otherStorage: StaticString = "(other)"
  static var otherBytes: ByteView { ByteView(base: otherStorage.utf8Start, count: otherStorage.utf8CodeUnitCount) }

  /// By index of the configured dimension; empty where the facts carry none.
  public var dimensions: [String]
  public var currency: Currency
  /// Whether amounts are in the base currency, converted from whatever they were.
  public var isBase: Bool
  /// Accounting period; `CellTable.unknownPeriod` for none.
  public var period: Int32

  public init(dimensions: [String], currency: Currency, isBase: Bool = false, period: Int32) {
    self.dimensions = dimensions
    self.currency = currency
    self.isBase = isBase
    self.period = period
  }

  /// By dimensions, then currency, view and period, so that the periods of a series follow each other.
  public static func < (a: CellKey, b: CellKey) -> Bool {
    for (x, y) in zip(a.dimensions, b.dimensions) where x != y {
      return x.utf8.lexicographicallyPrecedes(y.utf8)
    }
    if a.dimensions.count != b.dimensions.count { return a.dimensions.count < b.dimensions.count }
    if a.currency != b.currency { return a.currency < b.currency }
    if a.isBase != b.isBase { return b.isBase }
    return a.period < b.period
  }

  /// The same key without its period: a series over time.
  public var series: CellKey { CellKey(dimensions: dimensions, currency: currency, isBase: isBase, period: 0) }

  /// The key as bytes, the same for equal keys alone: the key of a partial's message.
  public func write(into writer: inout ByteWriter) {
    writer.writeVarint(UInt64(dimensions.count))
    for value in dimensions { writer.write(text: value) }
    writer.write(currency.rawValue)
    writer.write(UInt8(isBase ? 1 : 0))
    writer.write(period)
  }

  public init(from reader: inout ByteReader) throws(ByteCodingError) {
    dimensions = []
    for _ in 0..<(try reader.readCount(atMost: maximumDimensions)) { dimensions.append(try reader.readText()) }
    currency = Currency(rawValue: try reader.read())
    isBase = try reader.read(UInt8.self) & 1 != 0
    period = try reader.read()
  }
}

extension CellValues {
  /// Sums whose presence one word of bits tells.
  static let wordCount = 64

  /// Only what is not zero, small numbers short: a word of the sums that are there, a word of those that need 128 bits,
  /// then the numbers. Where there are sums beyond the first 64, they come before these, in the same form, behind what
  /// could not be otherwise: a number that is not there and needs 128 bits.
  public func write(into writer: inout ByteWriter) {
    CellValues.write(into: &writer) { sums[$0] }
  }

  @inline(__always)
  static func write(into writer: inout ByteWriter, _ sum: (Int) -> Int128) {
    var isBeyond = false
    for index in wordCount..<count where sum(index) != 0 { isBeyond = true }
    if isBeyond {
      writer.writeVarint(0)
      writer.writeVarint(1)
      write(wordCount..<count, into: &writer, sum)
    }
    write(0..<wordCount, into: &writer, sum)
  }

  @inline(__always)
  private static func write(_ range: Range<Int>, into writer: inout ByteWriter, _ sum: (Int) -> Int128) {
    var present: UInt64 = 0
    var wide: UInt64 = 0
    for index in range {
      let value = sum(index)
      if value != 0 { present |= 1 << UInt64(index - range.lowerBound) }
      if Int64(exactly: value) == nil { wide |= 1 << UInt64(index - range.lowerBound) }
    }
    writer.writeVarint(present)
    writer.writeVarint(wide)
    for index in range where present & 1 << UInt64(index - range.lowerBound) != 0 {
      if wide & 1 << UInt64(index - range.lowerBound) != 0 {
        writer.write(sum(index))
      } else {
        writer.writeSigned(Int64(sum(index)))
      }
    }
  }

  public init(from reader: inout ByteReader) throws(ByteCodingError) {
    self.init()
    var words = (present: try reader.readVarint(), wide: try reader.readVarint())
    if words == (0, 1) {
      words = (try reader.readVarint(), try reader.readVarint())
      guard words.present != 0 else { throw ByteCodingError("a cell with sums that are not there") }
      try read(CellValues.wordCount..<CellValues.count, words.present, words.wide, from: &reader)
      words = (try reader.readVarint(), try reader.readVarint())
    }
    try read(0..<CellValues.wordCount, words.present, words.wide, from: &reader)
  }

  private mutating func read(
    _ range: Range<Int>, _ present: UInt64, _ wide: UInt64, from reader: inout ByteReader
  ) throws(ByteCodingError) {
    guard present >> UInt64(range.count) == 0, wide & ~present == 0 else {
      throw ByteCodingError("a cell with sums that are not known")
    }
    for index in range where present & 1 << UInt64(index - range.lowerBound) != 0 {
      let isWide = wide & 1 << UInt64(index - range.lowerBound) != 0
      sums[index] = isWide ? try reader.read() : Int128(try reader.readSigned())
    }
  }
}
