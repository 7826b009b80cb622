import Domain

/// A field of a decoded record that a rule can speak of.
@frozen
public struct RuleField: Hashable, Sendable {
  public enum Kind: UInt8, Sendable { case text, amount, quantity, count, date, time }

  public enum Name: UInt8, CaseIterable, Sendable {
    case order = 0, id, document, customer, journal, reverses, account, currency
    case quantity, lineCount, date, time
    /// Debit − credit of a posting.
    case amount
    case dimension, component
    /// Of a sum: what the nested lines of a record add up to.
    case lines
    /// The line of a document that the record is about.
    case line
  }

  public var name: Name
  /// Of a dimension, the raw value of an amount component, or the place in `RuleSum.lines`.
  public var index: UInt8 = 0

  public init(_ name: Name, index: UInt8 = 0) {
    self.name = name
    self.index = index
  }

  public var kind: Kind {
    switch name {
    case .order, .id, .document, .customer, .journal, .reverses, .account, .currency, .dimension, .line: .text
    case .amount, .component, .lines: .amount
    case .quantity: .quantity
    case .lineCount: .count
    case .date: .date
    case .time: .time
    }
  }
}

/// What happens to a record that breaks a rule.
public enum RuleSeverity: String, CaseIterable, Sendable {
  /// It goes to dead letters.
  case reject
  /// It is taken in, and its order has a break.
  case flag
  /// It is taken in and counted.
  case count
}

/// `Σ coefficient × amount + constant` on the left of a comparison with zero.
public struct RuleSum: Sendable, Equatable {
  public struct Term: Sendable, Equatable {
    public var field: RuleField
    public var coefficient: Int64
    /// Whether it stands left of the comparison.
    public var isLeft: Bool

    public init(field: RuleField, coefficient: Int64, isLeft: Bool) {
      self.field = field
      self.coefficient = coefficient
      self.isLeft = isLeft
    }
  }

  public enum Relation: String, CaseIterable, Sendable {
    case equal = "=", atMost = "<=", atLeast = ">=", less = "<", more = ">"
  }

  /// Both sides, the right one negated.
  public var terms: [Term]
  /// Of the terms that are sums over nested lines.
  public var lines: [LinePath] = []
  /// Millionths of the major unit.
  public var constant_u: Int64
  public var relation: Relation
  public var tolerance_u: Int64

  public init(
    terms: [Term], lines: [LinePath] = [], constant_u: Int64, relation: Relation, tolerance_u: Int64 = 0
  ) {
    self.terms = terms
    self.lines = lines
    self.constant_u = constant_u
    self.relation = relation
    self.tolerance_u = tolerance_u
  }
}

/// One rule as the configuration states it, checked.
public struct RuleSpecification: Sendable, Equatable {
  /// Rules of a source that flag, told apart by a bit each in what a tie keeps of a record.
  public static let maximumFlags = 16

  public enum Condition: Sendable, Equatable {
    case required(RuleField)
    case pattern(RuleField, BytePattern)
    case oneOf(RuleField, [String])
    /// The keys of a table of master data.
    case inTable(RuleField, table: String, keys: [String])
    /// Amounts and quantities in millionths (of the major unit, of the unit); line counts in ones. Inclusive.
    case range(RuleField, least: Int64?, most: Int64?)
    /// Days since 1970-01-01, inclusive; and at most so many days from the event time, either way.
    case dates(RuleField, first_d: Int32?, last_d: Int32?, fromEvent_d: Int32?)
    case sum(RuleSum)

    /// Where the amounts of nested lines stand that it adds up.
    public var lines: [LinePath] { if case .sum(let sum) = self { sum.lines } else { [] } }

    var isTable: Bool { if case .inTable = self { true } else { false } }
  }

  public var name: String
  /// Of the field or expression, as it is written, for messages.
  public var subject: String
  public var severity: RuleSeverity
  /// Bits of `OrderEventKind.rawValue` (orders) or `AccountRole.rawValue` (ledger) to which it applies.
  public var applies: UInt32
  public var condition: Condition

  public init(
    name: String, subject: String, severity: RuleSeverity = .reject, applies: UInt32 = .max, condition: Condition
  ) {
    self.name = name
    self.subject = subject
    self.severity = severity
    self.applies = applies
    self.condition = condition
  }
}

extension [RuleSpecification] {
  /// Names of the rules that flag: which bit of a record stands for which. A rule of several conditions has one; where a
  /// table is among them, that condition has another, behind those of all rules.
  public var flagNames: [String] { flags.map(\.name) }

  /// Which of them say that a table does not know a record's reference, a bit each.
  public var missingFlags: UInt16 {
    flags.enumerated().reduce(0) { $1.element.isMissing ? $0 | 1 << UInt16($1.offset) : $0 }
  }

  /// The bit of one of the rules, 0 where it does not flag.
  func flag(of rule: RuleSpecification) -> UInt16 {
    guard rule.severity == .flag else { return 0 }
    let at = flags.lastIndex { $0.name == rule.name && (!$0.isMissing || rule.condition.isTable) }
    return 1 << UInt16(at!)
  }

  private var flags: [(name: String, isMissing: Bool)] {
    var flags: [(name: String, isMissing: Bool)] = []
    let flagging = filter { $0.severity == .flag }
    for rule in flagging where !flags.contains(where: { $0.name == rule.name }) {
      flags.append((rule.name, flagging.allSatisfy { $0.name != rule.name || $0.condition.isTable }))
    }
    for rule in flagging where rule.condition.isTable {
      if !flags.contains(where: { $0.name == rule.name && $0.isMissing }) { flags.append((rule.name, true)) }
    }
    return flags
  }
}
