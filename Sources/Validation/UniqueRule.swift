import Domain

/// A value that no two records of a source may have within some time of each other. Whether that holds is known where
/// the value is, whatever order its records belong to.
public struct UniqueRule: Sendable, Equatable {
  public var name: String
  /// Of the fields, as they are written, for messages.
  public var subject: String
  /// Texts that make up the value. Where one of them is absent, there is none.
  public var fields: [RuleField]
  /// `flag` or `count`.
  public var severity: RuleSeverity
  /// Bits of `OrderEventKind.rawValue` (orders) or `AccountRole.rawValue` (ledger) to which it applies.
  public var applies: UInt32
  /// Event time between two records up to which they must differ.
  public var within_ms: Int64

  public init(
    name: String, subject: String, fields: [RuleField], severity: RuleSeverity, applies: UInt32 = .max,
    within_ms: Int64
  ) {
    self.name = name
    self.subject = subject
    self.fields = fields
    self.severity = severity
    self.applies = applies
    self.within_ms = within_ms
  }
}
