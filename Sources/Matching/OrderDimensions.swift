import Domain

/// What the events of an order say of its dimensions, for the postings of the order that carry none.
///
/// For each dimension one event speaks: of those of the tie that count (neither repetitions, nor older images of a row,
/// nor deleted, nor in conflict with an earlier one of their id) and that have a value of it, the earliest by event time;
/// of several of the same time the one whose values, in the order of the dimensions, come first byte by byte. So it
/// follows from the set of the events, and from no order of arrival. This is the only place that knows of it.
struct OrderDimensions {
  private struct Voice {
    var time_ms: Int64 = 0
    /// As in `Fact.dimensionBytes`, of the event that speaks.
    var bytes: ByteView = .empty
    var value: ByteView = .empty
  }

  /// Dimensions of which there is a value, a bit each.
  private(set) var known: UInt8 = 0
  private var latest_ms = Int64.min
  private var voices: InlineArray<8, Voice> = .init(repeating: Voice())

  @inline(__always)
  func value(_ dimension: Int) -> ByteView { voices[dimension].value }

  @inline(__always)
  mutating func clear() { known = 0 }

  /// Whether an event cannot speak for any of the wanted dimensions, for its time alone.
  @inline(__always)
  func isSilent(_ time_ms: Int64, wanted: UInt8) -> Bool { known == wanted && time_ms > latest_ms }

  /// Takes in an event that counts.
  /// - Parameter wanted: The dimensions that are asked for, a bit each.
  /// - Returns: for which of them it speaks now, and which have another value by that.
  @discardableResult
  mutating func hear(_ time_ms: Int64, _ bytes: ByteView, wanted: UInt8) -> (spoken: UInt8, changed: UInt8) {
    guard !isSilent(time_ms, wanted: wanted) else { return (0, 0) }
    var (spoken, changed): (UInt8, UInt8) = (0, 0)
    Fact.forEachDimension(of: bytes) { dimension, value in
      let bit = UInt8(1) &<< UInt8(dimension)
      guard wanted & bit != 0, value.count > 0 else { return }
      if known & bit != 0 {
        let voice = voices[dimension]
        guard time_ms < voice.time_ms || time_ms == voice.time_ms && OrderDimensions.precedes(bytes, voice.bytes) else {
          return
        }
        if !voice.value.elementsEqual(value) { changed |= bit }
      } else {
        changed |= bit
      }
      spoken |= bit
      known |= bit
      voices[dimension] = Voice(time_ms: time_ms, bytes: bytes, value: value)
    }
    if spoken != 0 {
      var latest = Int64.min
      forEachVoice { time_ms, _ in latest = max(latest, time_ms) }
      latest_ms = latest
    }
    return (spoken, changed)
  }

  /// The events that speak; one that speaks for several dimensions may come several times.
  func forEachVoice(_ body: (_ time_ms: Int64, _ bytes: ByteView) -> Void) {
    for dimension in 0..<8 where known & 1 << UInt8(dimension) != 0 {
      body(voices[dimension].time_ms, voices[dimension].bytes)
    }
  }

  /// The dimensions of which another order of events says something else.
  func differences(_ other: borrowing OrderDimensions) -> UInt8 {
    var differences = known ^ other.known
    for dimension in 0..<8 where known & other.known & 1 << UInt8(dimension) != 0 {
      if !value(dimension).elementsEqual(other.value(dimension)) { differences |= 1 << UInt8(dimension) }
    }
    return differences
  }

  private static func precedes(_ a: ByteView, _ b: ByteView) -> Bool {
    guard !a.elementsEqual(b) else { return false }
    for dimension in 0..<maximumDimensions {
      let (x, y) = (Fact.dimension(dimension, of: a), Fact.dimension(dimension, of: b))
      if !x.elementsEqual(y) { return x.buffer.lexicographicallyPrecedes(y.buffer) }
    }
    return false
  }
}

extension Fact {
  @inline(__always)
  static func forEachDimension(of bytes: ByteView, _ body: (_ dimension: Int, _ value: ByteView) -> Void) {
    var (offset, dimension) = (0, 0)
    while offset < bytes.count, dimension < maximumDimensions {
      let count = Int(bytes.base![offset])
      body(dimension, ByteView(base: bytes.base! + offset + 1, count: count))
      offset += 1 + count
      dimension += 1
    }
  }

  /// Dimensions of which there is a value, a bit each.
  @inline(__always)
  static func presentDimensions(_ bytes: ByteView) -> UInt8 {
    var present: UInt8 = 0
    forEachDimension(of: bytes) { if $1.count > 0 { present |= 1 &<< UInt8($0) } }
    return present
  }
}
