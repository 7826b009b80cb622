import Domain

/// Final breaks held against the generator's truth.
public struct TruthComparison: Sendable {
  /// A break as a reader of the topic or file knows it.
  public struct Found: Sendable, Equatable {
    public var order: String
    public var cause: String
    public var role: String
    public var expected: String?
    public var posted: String?
    public var isAccepted: Bool

    public init(
      order: String, type: String, hints: [String], role: String, expected: String?, posted: String?, isAccepted: Bool
    ) {
      self.order = order
      cause = type == "AMOUNT_MISMATCH" ? hints.first { Found.telling.contains($0) } ?? type : type
      self.role = role
      self.expected = expected
      self.posted = posted
      self.isAccepted = isAccepted
    }

    private static let telling = ["SIGN_FLIP", "SCALE_ERROR", "TRANSPOSITION"]
  }

  public private(set) var found = 0
  /// Faults that no break names.
  public private(set) var missed: [String] = []
  /// Breaks that name no fault, or another one.
  public private(set) var wrong: [String] = []

  public init(truth: [TruthRow], breaks: [Found]) {
    var byOrder: [String: TruthRow] = [:]
    for row in truth { byOrder[row.order] = row }
    for one in breaks {
      guard let row = byOrder.removeValue(forKey: one.order) else {
        wrong.append("\(one.order): \(one.cause) and no fault is left for it")
        continue
      }
      let agrees =
        one.cause == row.cause && one.role == row.role.name && one.expected == row.expectedText
        && one.posted == row.postedText && one.isAccepted == row.isAccepted
      if agrees {
        found += 1
      } else {
        wrong.append("\(one.order): \(one) instead of \(row)")
      }
    }
    missed = byOrder.values.map { "\($0.order): \($0.cause)" }.sorted()
  }

  public var isPerfect: Bool { missed.isEmpty && wrong.isEmpty }
}
