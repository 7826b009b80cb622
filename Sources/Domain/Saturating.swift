/// Arithmetic that ends at the ends of the range.
extension Int64 {
  @inlinable @inline(__always)
  public func addingSaturating(_ other: Int64) -> Int64 {
    let (sum, overflow) = addingReportingOverflow(other)
    return overflow ? (other < 0 ? .min : .max) : sum
  }

  @inlinable @inline(__always)
  public func subtractingSaturating(_ other: Int64) -> Int64 {
    let (difference, overflow) = subtractingReportingOverflow(other)
    return overflow ? (other < 0 ? .max : .min) : difference
  }

  /// Whether a sum may have been cut off here.
  @inlinable
  public var isAtLimit: Bool { self == .max || self == .min }
}
