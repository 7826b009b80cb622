/// What a ledger account is for. A chart of accounts maps account numbers to roles, and comparison is by role, never by
/// account number.
@frozen
public enum AccountRole: UInt8, CaseIterable, Sendable, Hashable {
  case receivable = 0, revenue, tax, freight, discount, returns, deferred, unbilled, deposit, cash, clearing, fees
  case cogs, inventory, writeOff, fx, rounding, intercompany

  /// The word in configuration, topics and documents.
  public var name: String { AccountRole.names[Int(rawValue)] }

  /// By raw value. Asking an enum for its case's name costs a microsecond, and every break's id holds one.
  private static let names = allCases.map { $0 == .writeOff ? "write_off" : "\($0)" }

  public init?(name: some StringProtocol) {
    guard let role = AccountRole.allCases.first(where: { $0.name == name }) else { return nil }
    self = role
  }

  @inlinable
  public static var count: Int { 18 }

  /// Whether an increase of the account stands on the debit side (assets and expenses) or on the credit side.
  public var normallyDebit: Bool {
    switch self {
    case .receivable, .discount, .returns, .unbilled, .cash, .clearing, .fees, .cogs, .inventory, .writeOff: true
    case .revenue, .tax, .freight, .deferred, .deposit, .fx, .rounding, .intercompany: false
    }
  }
}
