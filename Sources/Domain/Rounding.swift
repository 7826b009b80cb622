/// `numerator / denominator` in millionths, half to even; nil for a denominator of zero.
public func ratio_u(_ numerator: Int128, _ denominator: Int128) -> Int128? {
  guard denominator != 0 else { return nil }
  return dividedHalfEven(numerator * 1_000_000, denominator)
}

/// The quotient, rounded half to even.
public func dividedHalfEven(_ numerator: Int128, _ denominator: Int128) -> Int128 {
  let (quotient, rest) = numerator.quotientAndRemainder(dividingBy: denominator)
  let twice = rest.magnitude * 2
  guard twice > denominator.magnitude || twice == denominator.magnitude && quotient & 1 != 0 else { return quotient }
  return (numerator < 0) == (denominator < 0) ? quotient + 1 : quotient - 1
}
