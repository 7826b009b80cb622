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

  var decidedState: String? {
    switch self {
    case .explain: "explained"
    case .accept: "accepted"
    case .forceClose: "force_closed"
    case .reopen: "reopened"
    default: nil
    }
  }
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
  /// Number and hash of the audit entry that tells of it: the log cannot be cut off behind it unseen.
  public var audit: String?

  enum CodingKeys: String, CodingKey {
    case id, kind, order, actor, at, revision, basis, assignee, comment, of, bulk, audit
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

/// What all actions on a break add up to. A pure function of the actions in their order on the topic.
public struct Workflow: Sendable, Equatable {
  public var assignee: String?
  public var reasonCode: String?
  public var comments = 0
  /// The newest decision that has taken effect, and what it was about.
  public var decidedState: String?
  public var decidedBasis: String?
  /// Ids of actions that wait for a second person.
  public var pending: [String] = []
  /// The newest write-off that has been proposed to the ERP, and what it was about.
  public var proposed: String?
  public var proposedBasis: String?

  public init() {}

  public init(_ actions: [Action]) {
    var waiting: [String: Action] = [:]
    for action in actions {
      switch action.kind {
      case .assign: assignee = action.assignee.flatMap { $0.isEmpty ? nil : $0 }
      case .comment: comments += 1
      case .approve, .reject:
        // Nobody approves what they asked for themselves, whatever a message claims.
        guard let id = action.of, let asked = waiting[id], asked.actor != action.actor || action.kind == .reject else {
          continue
        }
        waiting[id] = nil
        pending.removeAll { $0 == id }
        if action.kind == .approve { decide(asked) }
      default:
        if action.needsApproval {
          waiting[action.id] = action
          pending.append(action.id)
        } else {
          decide(action)
        }
      }
      if action.kind != .comment, action.comment?.isEmpty == false { comments += 1 }
    }
  }

  private mutating func decide(_ action: Action) {
    if action.kind == .writeOff {
      proposed = action.id
      proposedBasis = action.basis
      reasonCode = action.reasonCode ?? reasonCode
    }
    guard let state = action.kind.decidedState else { return }
    decidedState = state
    decidedBasis = action.basis
    reasonCode = action.kind == .reopen ? nil : action.reasonCode ?? reasonCode
  }

  /// The state that a break is shown in. A decision holds as long as the difference is the one that it was about; what
  /// has tied out by itself needs none.
  public func state(reconciler: String, basis: String) -> String {
    guard let decidedState, decidedBasis == basis else { return reconciler }
    switch reconciler {
    case "expected", "open", "reopened": return decidedState
    case "explained", "accepted", "force_closed": return decidedState == "reopened" ? "reopened" : reconciler
    default: return reconciler
    }
  }
}
