/// SplitMix64: the same numbers on every machine for the same seed.
/// Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014.
public struct SeededRandom: RandomNumberGenerator, Sendable {
  private var state: UInt64

  public init(seed: UInt64) { state = seed }

  /// One of many independent sequences of a seed. The number is mixed before use: consecutive states of SplitMix64
  /// would give the same sequence, shifted by one.
  public init(seed: UInt64, stream: UInt64) {
    state = SeededRandom.mix(seed &+ 0x9e37_79b9_7f4a_7c15) ^ SeededRandom.mix(stream &* 0xd1b5_4a32_d192_ed03 &+ 1)
  }

  public mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    return SeededRandom.mix(state)
  }

  private static func mix(_ value: UInt64) -> UInt64 {
    var z = value
    z = (z ^ z >> 30) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ z >> 27) &* 0x94d0_49bb_1331_11eb
    return z ^ z >> 31
  }

  /// From 0 to `bound` − 1; the bias of the modulus is of no importance here.
  public mutating func below(_ bound: Int) -> Int { Int(truncatingIfNeeded: next() % UInt64(bound)) }

  /// True `rate` times in ten thousand.
  public mutating func chance(per10000 rate: Int) -> Bool { below(10_000) < rate }

  /// One of several values; there must be at least one.
  public mutating func pick<Value>(_ values: [Value]) -> Value { values[below(values.count)] }
}
