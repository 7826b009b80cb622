/// Where the amounts of a record's nested lines stand: `lines[].amounts.net`.
public struct LinePath: Hashable, Sendable {
  /// Keys from the record to the array.
  public var array: [String]
  /// Keys from an element to the amount; empty where the elements are amounts themselves.
  public var field: [String]

  public init(array: [String], field: [String]) {
    self.array = array
    self.field = field
  }
}

/// What the lines of one record add up to.
public struct LineSum: Sendable, Equatable {
  /// Millionths of the major unit.
  public var value_u: Int128 = 0
  /// Whether there are lines, be it none of them: an empty list adds up to zero.
  public var isPresent = false
  /// Whether something in them is no amount.
  public var isBroken = false

  public init() {}
}
