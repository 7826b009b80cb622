import ConsoleStore
import Domain
import Pipeline

/// Which journal writes the difference of a break off.
///
/// What is given up is an open item, and it leaves the balance in which it is open: that of the break's role, or where cash
/// or revenue differ, the one that holds the counter-entry. Neither the bank nor the revenue becomes another one by it.
enum WriteOff {
  /// Of other types the ledger lacks or has something that is to be posted, reversed or moved.
  private static let types: Set<BreakType> = [
    .amountMismatch, .freightMismatch, .discountMismatch, .quantityMismatch, .priceMismatch, .rounding, .shortPay,
    .overPay, .feeVariance,
  ]
  /// Where items are open, in the order in which they are asked for a counter-entry.
  private static let balances: [AccountRole] = [.receivable, .clearing, .deposit, .unbilled]
  private static let opposed: Set<AccountRole> = [.cash, .revenue, .freight, .discount, .returns, .fees]

  /// Signed debit − credit; the two lines sum to zero.
  static func journal(_ document: BreakDocument) throws(Problem) -> [Action.Line] {
    guard document.delta != nil, let affected = document.affected, document.amount_u != 0 else {
      throw Problem.unprocessable("there is no difference in one currency that could be written off")
    }
    guard let type = BreakType(rawValue: document.type), let role = AccountRole(name: document.role),
      types.contains(type)
    else {
      throw Problem.unprocessable(
        "\(document.type) is put right by what is posted, reversed or moved in the ledger, and is not written off")
    }
    if balances.contains(role) { return lines(out: role, negated(affected), affected) }
    guard opposed.contains(role), let host = counterpart(document, affected) else {
      throw Problem.unprocessable(
        "the difference in \(role.name) is no open item: no receivable, clearing, deposit or unbilled balance of the order "
          + "is off by as much the other way")
    }
    return lines(out: host, affected, negated(affected))
  }

  private static func lines(out role: AccountRole, _ amount: String, _ written: String) -> [Action.Line] {
    [Action.Line(role: role, amount: amount), Action.Line(role: .writeOff, amount: written)]
  }

  private static func negated(_ amount: String) -> String {
    amount.hasPrefix("-") ? String(amount.dropFirst()) : "-" + amount
  }

  /// The balance that is off by just as much the other way, else the first that is off by more.
  private static func counterpart(_ document: BreakDocument, _ affected: String) -> AccountRole? {
    let decimals = Currency(document.currency)?.exponent ?? 0
    let wanted = BreakDocument.units(affected, decimals: decimals)
    let open = balances.map { role in
      document.evidence.roles?.first { $0.role == role.name && $0.currency == document.currency }
        .map { BreakDocument.units($0.delta, decimals: decimals) } ?? 0
    }
    let place =
      open.firstIndex { $0 == 0 - wanted }
      ?? open.firstIndex { ($0 < 0) != (wanted < 0) && $0.magnitude > wanted.magnitude }
    return place.map { balances[$0] }
  }
}
