import Configuration
import Crypto
import Foundation
import Synchronization

/// Sessions of the console: a random cookie that no script can read, and a second secret that only the page knows and
/// sends with every change. Both are kept as hashes.
final class Sessions: Sendable {
  static let cookie = "tieout_session"
  /// The oldest ones end beyond it.
  static let maximum = 10_000

  private struct Session {
    var principal: Principal
    var csrfHash: [UInt8]
    var created_ms: Int64
    var used_ms: Int64
  }
  private struct Limits {
    var lifetime_ms: Int64
    var idle_ms: Int64
    func has(_ session: Session, _ now_ms: Int64) -> Bool {
      now_ms - session.created_ms < lifetime_ms && now_ms - session.used_ms < idle_ms
    }
  }
  private let limits: Mutex<Limits>
  private let sessions = Mutex<[[UInt8]: Session]>([:])

  init(_ settings: ServeSettings) {
    limits = Mutex(Limits(lifetime_ms: settings.sessionLifetime_ms, idle_ms: settings.sessionIdle_ms))
  }

  /// For sessions that are there too.
  func limit(lifetime_ms: Int64, idle_ms: Int64) {
    limits.withLock { $0 = Limits(lifetime_ms: lifetime_ms, idle_ms: idle_ms) }
  }

  static func secret() -> String {
    var generator = SystemRandomNumberGenerator()
    return hexadecimal((0..<4).flatMap { _ in withUnsafeBytes(of: generator.next()) { Array($0) } })
  }

  static func hash(_ text: String) -> [UInt8] { Array(SHA256.hash(data: Data(text.utf8))) }

  func begin(_ principal: Principal, now_ms: Int64) -> (id: String, csrf: String) {
    let (id, csrf) = (Sessions.secret(), Sessions.secret())
    var principal = principal
    principal.means = .session
    let limits = limits.withLock { $0 }
    sessions.withLock { sessions in
      sessions = sessions.filter { limits.has($0.value, now_ms) }
      if sessions.count >= Sessions.maximum, let oldest = sessions.min(by: { $0.value.used_ms < $1.value.used_ms }) {
        sessions[oldest.key] = nil
      }
      sessions[Sessions.hash(id)] = Session(
        principal: principal, csrfHash: Sessions.hash(csrf), created_ms: now_ms, used_ms: now_ms)
    }
    return (id, csrf)
  }

  func find(_ id: String, now_ms: Int64) -> Principal? {
    let limits = limits.withLock { $0 }
    return sessions.withLock { sessions in
      let key = Sessions.hash(id)
      guard var session = sessions[key] else { return nil }
      guard limits.has(session, now_ms) else {
        sessions[key] = nil
        return nil
      }
      session.used_ms = now_ms
      sessions[key] = session
      return session.principal
    }
  }

  func isGenuine(_ id: String, csrf: String) -> Bool {
    sessions.withLock { sessions in
      guard let session = sessions[Sessions.hash(id)] else { return false }
      return constantTimeEqual(session.csrfHash, Sessions.hash(csrf))
    }
  }

  /// A new secret for a page that was loaded anew.
  func renew(_ id: String) -> String? {
    let csrf = Sessions.secret()
    return sessions.withLock { sessions in
      guard sessions[Sessions.hash(id)] != nil else { return nil }
      sessions[Sessions.hash(id)]!.csrfHash = Sessions.hash(csrf)
      return csrf
    }
  }

  /// Ends those whose principal it says.
  func endAll(where isOver: (Principal) -> Bool) {
    sessions.withLock { sessions in sessions = sessions.filter { !isOver($0.value.principal) } }
  }

  func end(_ id: String) { sessions.withLock { $0[Sessions.hash(id)] = nil } }
}

/// Takes the same time wherever they differ.
func constantTimeEqual(_ a: [UInt8], _ b: [UInt8]) -> Bool {
  guard a.count == b.count else { return false }
  var difference: UInt8 = 0
  for index in a.indices { difference |= a[index] ^ b[index] }
  return difference == 0
}

/// A new token and the hash that the configuration keeps of it.
public enum ConsoleToken {
  public static func make() -> (token: String, hash: String) {
    let token = "tieout_" + Sessions.secret()
    return (token, hexadecimal(Sessions.hash(token)))
  }
}
