import Domain
import Pipeline

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
  /// Ids of the write-offs that have been proposed to the ERP, in the order in which that was.
  public var proposals: [String] = []
  /// The newest of them, and what it was about.
  public var proposed: String?
  public var proposedBasis: String?
  /// The revision of the break when it took effect.
  public var proposedRevision: Int?

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
        if action.kind == .approve { decide(asked, revision: action.revision) }
      default:
        if action.needsApproval {
          waiting[action.id] = action
          pending.append(action.id)
        } else {
          decide(action, revision: action.revision)
        }
      }
      if action.kind != .comment, action.comment?.isEmpty == false { comments += 1 }
    }
  }

  private mutating func decide(_ action: Action, revision: Int?) {
    if action.kind == .writeOff {
      proposed = action.id
      proposals.append(action.id)
      proposedBasis = action.basis
      proposedRevision = revision
      reasonCode = action.reasonCode ?? reasonCode
    }
    guard let state = action.kind.decidedState else { return }
    decidedState = state
    decidedBasis = action.basis
    reasonCode = action.kind == .reopen ? nil : action.reasonCode ?? reasonCode
  }

  /// The state that a break is shown in; the same where the reconciler reads the actions itself and says so already. A
  /// decision holds as long as the difference is the one that it was about; what
  /// has tied out by itself needs none.
  public func state(reconciler: String, basis: String) -> String {
    guard decidedBasis == basis, let own = BreakState(rawValue: reconciler),
      let decided = decidedState.flatMap(BreakState.init(rawValue:))
    else { return reconciler }
    return own.decided(decided).rawValue
  }
}
