/// Why a record went to the dead-letter topic.
public enum DataFaultReason: String, CaseIterable, Sendable, Hashable {
  case schemaInvalid = "SCHEMA_INVALID"
  case masterDataMissing = "MASTER_DATA_MISSING"
  case futureDated = "FUTURE_DATED"
  case nonDecimalAmount = "NON_DECIMAL_AMOUNT"
}

/// A record that cannot be taken in: expected bad data, routed with its raw bytes, never fatal.
public struct DataFault: Error, Sendable, Equatable {
  public var reason: DataFaultReason
  /// The canonical or source field at fault; empty where the record as a whole is.
  public var field: String
  /// What was wrong, for a person, with the offending text shortened to `maximumQuotedBytes`.
  public var detail: String

  public init(_ reason: DataFaultReason, field: String = "", detail: String) {
    self.reason = reason
    self.field = field
    self.detail = detail
  }

  /// Longest piece of a record that an error message repeats.
  public static let maximumQuotedBytes = 120
}
