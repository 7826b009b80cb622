import Domain

/// Turns the texts of dimensions into small numbers, the same text always into the same one.
///
/// Open addressing over 64 bits of fingerprint, texts compared in full. A dimension has a bounded number of values; the
/// texts that come when it is full all become `other`. Nothing ever leaves, so what a text became once it stays, and a
/// fact taken back finds the cell into which it went.
struct DimensionTable: ~Copyable {
  struct Entry {
    /// Fingerprint of text and dimension; 0 for an empty place.
    var hash: UInt64
    var text: UInt32
    var count: UInt8
    var dimension: UInt8
    var number: UInt16
  }

  /// A fact without a value of this dimension.
  static let empty: UInt16 = 0
  /// All values beyond the bound.
  static let other: UInt16 = 1
  /// Longer texts are cut, as they are in what a tie keeps.
  static let maximumTextBytes = 255
  /// Numbers are 16 bits wide, two of them are taken.
  static let maximumValues = 65_533

  let dimensionCount: Int
  /// By dimension: the most values.
  var limits: [Int]
  private var entries: UnsafeMutablePointer<Entry>
  private var mask: Int
  private var used = 0
  private var texts: UnsafeMutablePointer<UInt8>
  private var textCapacity = 4_096
  private var textCount = 0
  /// By dimension, then by number − 2: the text and the fingerprint.
  private(set) var values: [[(text: String, hash: UInt64)]]
  /// By dimension: facts whose value was beyond the bound (and not taken back).
  var otherFacts: InlineArray<8, Int64> = .init(repeating: 0)

  init(dimensionCount: Int, limits: [Int]) {
    precondition(dimensionCount >= 0 && dimensionCount <= maximumDimensions)
    self.dimensionCount = dimensionCount
    self.limits = limits
    mask = 1_023
    entries = .allocate(capacity: mask + 1)
    entries.initialize(repeating: Entry(hash: 0, text: 0, count: 0, dimension: 0, number: 0), count: mask + 1)
    texts = .allocate(capacity: textCapacity)
    values = Array(repeating: [], count: dimensionCount)
  }

  deinit {
    entries.deallocate()
    texts.deallocate()
  }

  var footprintBytes: Int { (mask + 1) * MemoryLayout<Entry>.stride + textCapacity + used * 48 }

  @inline(__always)
  static func hash(_ text: ByteView, _ dimension: Int) -> UInt64 {
    let hash = Fingerprint(text).low &+ UInt64(truncatingIfNeeded: dimension) &* 0x9e37_79b9_7f4a_7c15
    return hash == 0 ? 1 : hash
  }

  /// The number of a value; `other` where the dimension is full.
  @inline(__always)
  mutating func number(_ dimension: Int, _ value: ByteView, sign: Int64) -> UInt16 {
    if value.count == 0 { return DimensionTable.empty }
    var value = value
    if value.count > DimensionTable.maximumTextBytes { value.count = DimensionTable.maximumTextBytes }
    let hash = DimensionTable.hash(value, dimension)
    var at = Int(truncatingIfNeeded: hash) & mask
    while true {
      let entry = entries[at]
      if entry.hash == hash, entry.dimension == UInt8(truncatingIfNeeded: dimension), Int(entry.count) == value.count,
        ByteView(base: texts + Int(entry.text), count: value.count).elementsEqual(value)
      {
        return entry.number
      }
      if entry.hash == 0 { break }
      at = (at + 1) & mask
    }
    return insert(dimension, value, hash, sign: sign)
  }

  /// A value that is not known: new, beyond the bound, or not UTF-8.
  @inline(never)
  private mutating func insert(_ dimension: Int, _ value: ByteView, _ hash: UInt64, sign: Int64) -> UInt16 {
    var text = value.string
    if !text.utf8.elementsEqual(value.buffer) {
      // Repaired, and cut where a character ends: what is published is UTF-8, and equal texts are one value.
      while text.utf8.count > DimensionTable.maximumTextBytes { text.removeLast() }
      return text.withUTF8 { self.number(dimension, ByteView($0), sign: sign) }
    }
    let known = values[dimension].count
    guard known < limits[dimension], !value.elementsEqual(CellKey.otherBytes) else {
      otherFacts[dimension] += sign
      return DimensionTable.other
    }
    if (used + 1) * 2 > mask { grow() }
    if textCount + value.count > textCapacity {
      textCapacity = max(textCapacity * 2, textCount + value.count)
      let larger = UnsafeMutablePointer<UInt8>.allocate(capacity: textCapacity)
      larger.update(from: texts, count: textCount)
      texts.deallocate()
      texts = larger
    }
    (texts + textCount).update(from: value.base!, count: value.count)
    let number = UInt16(known + 2)
    place(
      Entry(
        hash: hash, text: UInt32(textCount), count: UInt8(value.count), dimension: UInt8(dimension), number: number))
    textCount += value.count
    used += 1
    values[dimension].append((text, hash))
    return number
  }

  private mutating func place(_ entry: Entry) {
    var at = Int(truncatingIfNeeded: entry.hash) & mask
    while entries[at].hash != 0 { at = (at + 1) & mask }
    entries[at] = entry
  }

  private mutating func grow() {
    let (old, oldCount) = (entries, mask + 1)
    mask = mask * 2 + 1
    entries = .allocate(capacity: mask + 1)
    entries.initialize(repeating: Entry(hash: 0, text: 0, count: 0, dimension: 0, number: 0), count: mask + 1)
    for at in 0..<oldCount where old[at].hash != 0 { place(old[at]) }
    old.deallocate()
  }

  /// The text of a number; empty for none, `CellKey.other` for the rest.
  func text(_ dimension: Int, _ number: UInt16) -> String {
    switch number {
    case DimensionTable.empty: ""
    case DimensionTable.other: CellKey.other
    default: values[dimension][Int(number) - 2].text
    }
  }

  /// The same on every machine for the same text, whatever its number.
  func contentHash(_ dimension: Int, _ number: UInt16) -> UInt64 {
    switch number {
    case DimensionTable.empty, DimensionTable.other: UInt64(number)
    default: values[dimension][Int(number) - 2].hash
    }
  }
}
