import Configuration
import ConsoleStore
import Foundation
import HTTPTypes
import Hummingbird
import Logging

/// Finds out who sends a request.
struct Authenticator: Sendable {
  private let tokens: [(name: String, hash: [UInt8], principal: Principal)]
  let keys: KeySet?
  let sessions: Sessions

  /// - Parameter keeping: Keys that are known already, for the same provider.
  init(_ settings: ServeSettings, sessions: Sessions, log: Logger, keeping: KeySet? = nil) {
    tokens = settings.tokens.map { token in
      let principal = Principal(
        name: "token:\(token.name)", roles: token.roles, scope: RowScope(token.scope), means: .token)
      return (token.name, bytes(hexadecimal: token.hash), principal)
    }
    keys = keeping ?? settings.jwt.map { KeySet($0, log: log) }
    self.sessions = sessions
  }

  /// Who a bearer token speaks for.
  func principal(bearer token: String, now_ms: Int64) async throws -> Principal {
    let hash = Sessions.hash(token)
    var found: Principal?
    // All are looked at, so that the time says nothing.
    for entry in tokens where constantTimeEqual(entry.hash, hash) { found = entry.principal }
    if let found { return found }
    guard let keys, token.contains(".") else { throw Problem.unauthorized("the token is not known") }
    return try await keys.principal(of: token, now_ms: now_ms)
  }

  /// Who sends the request; nil where it does not say.
  func principal(of request: Request, now_ms: Int64) async throws -> Principal? {
    let given = request.headers[values: .authorization]
    if !given.isEmpty {
      guard given.count == 1, let space = given[0].firstIndex(of: " "),
        given[0][..<space].lowercased() == "bearer"
      else { throw Problem.unauthorized("a bearer token is expected") }
      let token = given[0][given[0].index(after: space)...].trimmingCharacters(in: .whitespaces)
      return try await principal(bearer: token, now_ms: now_ms)
    }
    guard let id = Authenticator.session(of: request) else { return nil }
    guard let principal = sessions.find(id, now_ms: now_ms) else {
      throw Problem.unauthorized("the session has ended")
    }
    return principal
  }

  static func session(of request: Request) -> String? { request.cookies[Sessions.cookie]?.value }

  static let csrfHeader = HTTPField.Name("X-CSRF-Token")!
  private static let fetchSite = HTTPField.Name("Sec-Fetch-Site")!

  /// A browser sends its cookie with whatever a page of somebody else makes it send: a change needs the page's own
  /// secret, and must not come from another site.
  func checkGenuine(_ request: Request) throws {
    if let site = request.headers[Authenticator.fetchSite], !["same-origin", "none"].contains(site) {
      throw Problem.forbidden("the request comes from another site")
    }
    if let origin = request.headers[.origin], let host = request.head.authority {
      guard origin == "http://\(host)" || origin == "https://\(host)" else {
        throw Problem.forbidden("the request comes from another site")
      }
    }
    guard let id = Authenticator.session(of: request), let csrf = request.headers[Authenticator.csrfHeader],
      sessions.isGenuine(id, csrf: csrf)
    else { throw Problem.forbidden("the header X-CSRF-Token is missing or wrong") }
  }
}

func bytes(hexadecimal text: String) -> [UInt8] {
  var result: [UInt8] = []
  var high: UInt8?
  for character in text {
    guard let digit = character.hexDigitValue.map(UInt8.init) else { return [] }
    if let first = high {
      result.append(first << 4 | digit)
      high = nil
    } else {
      high = digit
    }
  }
  return result
}
