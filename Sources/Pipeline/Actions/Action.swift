import Domain
import Foundation

/// What a person does to a break.
public enum ActionKind: String, Codable, Sendable, CaseIterable {
  /// Gives the break to somebody, or to nobody.
  case assign
  case comment
  /// Says why the difference is there, with a reason code: the break is `explained`.
  case explain
  /// The difference stands as it is: `accepted`.
  case accept
  /// Proposes a journal that writes the difference off; the ERP posts it, and the posting closes the break.
  case writeOff = "write_off"
  /// Ends the break without an agreement of both sides: `force_closed`.
  case forceClose = "force_close"
  /// Takes an earlier decision back: `reopened`.
  case reopen
  /// A second person agrees to an action that waits for one.
  case approve
  /// A second person declines it.
  case reject

  /// Whether it decides the state of the break.
  public var decides: Bool { [.explain, .accept, .forceClose, .reopen].contains(self) }

  /// What the matcher takes in; nil for what does not bear on a break's state.
  var matched: BreakAction.Kind? {
    switch self {
    case .explain: .explain
    case .accept: .accept
    case .forceClose: .forceClose
    case .reopen: .reopen
    case .approve: .approve
    case .reject: .reject
    case .writeOff: .writeOff
    case .assign, .comment: nil
    }
  }

  /// The word for the state that a break is in once the action has taken effect; nil where it decides none.
  public var decidedState: String? { matched?.decidedState?.rawValue }
}

/// One action on one break: an event on the topic of actions, keyed by the order.
public struct Action: Codable, Sendable, Equatable {
  /// The same for every repetition of the same request, so that it takes effect once.
  public var id: String
  public var kind: ActionKind
  public var breakID: String
  public var order: String
  public var actor: String
  /// When the server took it, RFC 3339.
  public var at: String
  /// What the break looked like to the person: revision and amounts.
  public var revision: Int
  public var basis: String
  /// Waits for a second person: it takes effect with the approval.
  public var needsApproval: Bool
  public var assignee: String?
  public var comment: String?
  public var reasonCode: String?
  /// The action that is approved or rejected.
  public var of: String?
  /// The request that it was part of, where one named several breaks.
  public var bulk: String?
  /// Of a write-off: the journal that is asked for, signed debit − credit. The lines sum to zero.
  public var currency: String?
  public var lines: [Line]?
  /// Number and hash of the audit entry that tells of it: the log cannot be cut off behind it unseen.
  public var audit: String?

  public struct Line: Codable, Sendable, Equatable {
    public var role: String
    public var amount: String

    public init(role: AccountRole, amount: String) { (self.role, self.amount) = (role.name, amount) }
  }

  enum CodingKeys: String, CodingKey {
    case id, kind, order, actor, at, revision, basis, assignee, comment, of, bulk, audit, currency, lines
    case breakID = "break"
    case needsApproval = "needs_approval"
    case reasonCode = "reason_code"
  }

  public init(
    id: String, kind: ActionKind, breakID: String, order: String, actor: String, at: String, revision: Int,
    basis: String, needsApproval: Bool = false
  ) {
    self.id = id
    self.kind = kind
    self.breakID = breakID
    self.order = order
    self.actor = actor
    self.at = at
    self.revision = revision
    self.basis = basis
    self.needsApproval = needsApproval
  }

  private static let encoder: JSONEncoder = {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return encoder
  }()

  /// One JSON object.
  public func encoded() throws -> [UInt8] { Array(try Action.encoder.encode(self)) }
}
