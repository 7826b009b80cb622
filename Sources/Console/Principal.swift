import Configuration
import ConsoleStore
import Pipeline

/// Somebody who has shown who they are.
struct Principal: Sendable, Equatable {
  enum Means: String, Sendable { case token, jwt, session }

  /// `token:NAME` or `jwt:SUBJECT`: as the audit log and the actions name them.
  var name: String
  var roles: Set<ServeRole>
  var scope: RowScope
  var means: Means

  func may(_ permission: Permission) -> Bool { roles.contains { permission.roles.contains($0) } }
}

/// What an endpoint, or an action, asks for. Whatever is granted to nobody here is refused.
enum Permission: String, Sendable, CaseIterable {
  case read
  case assign, comment, explain, reopen, proposeWriteOff, accept, forceClose, approve
  /// Some action: which, its kind says.
  case act
  case intake
  case metrics
  /// The audit log, webhooks and their dead letters.
  case administer
  /// Whoever is known.
  case any

  var roles: Set<ServeRole> {
    switch self {
    case .read: [.viewer, .analyst, .controller, .admin]
    case .act, .assign, .comment, .explain, .reopen, .proposeWriteOff: [.analyst, .controller, .admin]
    case .accept, .forceClose, .approve: [.controller, .admin]
    case .intake: [.feed, .admin]
    case .metrics: [.viewer, .analyst, .controller, .admin]
    case .administer: [.admin]
    case .any: Set(ServeRole.allCases)
    }
  }
}

extension ActionKind {
  var permission: Permission {
    switch self {
    case .assign: .assign
    case .comment: .comment
    case .explain: .explain
    case .accept: .accept
    case .writeOff: .proposeWriteOff
    case .forceClose: .forceClose
    case .reopen: .reopen
    case .approve, .reject: .approve
    }
  }
}
