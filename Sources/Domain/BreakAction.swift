/// What a person has done to a break that bears on its state, as the matcher takes it in. Plain data.
public struct BreakAction: Sendable, Equatable {
  public enum Kind: UInt8, CaseIterable, Sendable {
    case explain = 0
    case accept, forceClose, reopen
    /// A second person agrees to, or declines, an action that waits for one.
    case approve, reject
    /// Asks the ledger for a journal, and decides nothing before that is posted.
    case writeOff

    /// The state that a break is in once the action has taken effect; nil for approvals and write-offs.
    public var decidedState: BreakState? {
      switch self {
      case .explain: .explained
      case .accept: .accepted
      case .forceClose: .forceClosed
      case .reopen: .reopened
      case .approve, .reject, .writeOff: nil
      }
    }
  }

  /// The same for every repetition of the same request.
  public var id: String
  public var kind: Kind
  public var order: String
  public var type: BreakType
  public var role: AccountRole
  /// Not `none` where the break's id carries its currency.
  public var otherCurrency: Currency
  public var actor: String
  /// When it was taken, by the clock of whoever took it.
  public var at_ms: Int64
  /// The difference that it is about: `Break.basis`.
  public var basis: String
  /// Waits for a second person: it takes effect with the approval.
  public var needsApproval: Bool
  /// Empty for none.
  public var reasonCode: String
  /// The action that is approved or rejected; empty for other kinds.
  public var of: String
  /// What a write-off puts into `write_off`; nil for other kinds.
  public var writtenOff: WrittenOff?

  /// An amount that a person gives up, signed debit − credit in minor units.
  public struct WrittenOff: Sendable, Equatable {
    public var currency: Currency
    public var amount: Int64

    public init(currency: Currency, amount: Int64) { (self.currency, self.amount) = (currency, amount) }
  }

  /// - Parameter breakID: As in `Break.id`; nil is returned where it is none of that order's.
  public init?(
    id: String, kind: Kind, breakID: String, order: String, actor: String, at_ms: Int64, basis: String,
    needsApproval: Bool = false, reasonCode: String = "", of: String = ""
  ) {
    guard breakID.hasPrefix(order + ":") else { return nil }
    let parts = breakID.utf8.dropFirst(order.utf8.count + 1).split(
      separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
    guard parts.count == 2 || parts.count == 3, let type = BreakType(rawValue: String(parts[0]) ?? ""),
      let role = AccountRole(name: String(parts[1]) ?? "")
    else { return nil }
    otherCurrency = .none
    if parts.count == 3 {
      guard let currency = Currency(String(parts[2]) ?? "") else { return nil }
      otherCurrency = currency
    }
    self.id = id
    self.kind = kind
    self.order = order
    self.type = type
    self.role = role
    self.actor = actor
    self.at_ms = at_ms
    self.basis = basis
    self.needsApproval = needsApproval
    self.reasonCode = reasonCode
    self.of = of
  }
}

/// A person's decision that a break's state rests on.
public struct BreakDecision: Sendable, Equatable {
  /// The action that decided it, who took it, and why; the reason code is empty where none was given.
  public var action: String
  public var actor: String
  public var reasonCode: String
  /// Who agreed to it; empty where nobody had to.
  public var approver: String

  public init(action: String, actor: String, reasonCode: String, approver: String = "") {
    self.action = action
    self.actor = actor
    self.reasonCode = reasonCode
    self.approver = approver
  }
}

extension BreakState {
  /// The state of a break of which the reconciler says this, and people have decided another about the same difference.
  /// What has tied out by itself needs no decision, and what is within tolerance can only be reopened.
  public func decided(_ decision: BreakState) -> BreakState {
    switch self {
    case .expected, .open, .reopened, .explained, .forceClosed: decision
    case .accepted: decision == .reopened ? .reopened : self
    case .autoCleared, .closed: self
    }
  }
}

extension Break {
  /// What a person's decision is about: another difference is another matter. `expected|posted|currency`, the amounts as
  /// in messages, empty where that side knows nothing.
  public static func basis(
    expected: Int64?, posted: Int64?, currency: Currency, postedCurrency: Currency
  ) -> String {
    let other = postedCurrency == .none ? currency : postedCurrency
    func text(_ amount: Int64?, _ currency: Currency) -> String {
      amount.map { formatDecimal(Int128($0), decimals: currency.exponent) } ?? ""
    }
    return "\(text(expected, currency))|\(text(posted, other))|\(other.code)"
  }
}
