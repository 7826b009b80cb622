import AsyncHTTPClient
import Configuration
import ConsoleStore
import Foundation
import JWTKit
import Logging
import NIOCore

/// The public keys of an identity provider, and the check of tokens against them.
///
/// A token is taken only where all of this holds: its algorithm is RS256, ES256 or EdDSA; its key id is one of the set;
/// that key is of the algorithm's kind, whatever the token claims; the signature is right; `iss` and `aud` are the
/// configured ones, `exp` is there and has not passed, `nbf` has, where it is there.
actor KeySet {
  /// A set that was fetched is asked for anew after this time, and for an unknown key id not more often than every
  /// `retry_ms`.
  static let lifetime_ms: Int64 = 600_000
  static let retry_ms: Int64 = 30_000
  /// A set is a few kilobytes.
  static let maximumBytes = 1 << 20
  /// A token longer than this is none.
  static let maximumTokenBytes = 16 << 10

  /// Lives as long as the process.
  private static let client = HTTPClient(
    eventLoopGroupProvider: .singleton, configuration: ConsoleServer.clientConfiguration)

  private struct Key {
    var algorithm: String
    var keys: JWTKeyCollection
  }

  private let settings: ServeJWT
  private let log: Logger
  private var known: [String: Key] = [:]
  private var fetched_ms: Int64 = .min / 2

  init(_ settings: ServeJWT, log: Logger) {
    self.settings = settings
    self.log = log
  }

  private struct Claims: JWTPayload {
    var all: JSON
    init(from decoder: any Decoder) throws { all = try JSON(from: decoder) }
    func encode(to encoder: any Encoder) throws { try all.encode(to: encoder) }
    func verify(using algorithm: some JWTAlgorithm) async throws {}
  }

  /// Who the token speaks for; throws `Problem` where it is not taken. The detail never repeats the token.
  func principal(of token: String, now_ms: Int64) async throws -> Principal {
    func refuse(_ why: String) -> Problem { .unauthorized("the token is not accepted: \(why)") }
    guard token.utf8.count <= KeySet.maximumTokenBytes else { throw refuse("it is too long") }
    let parts = token.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 3, let headerBytes = base64URL(parts[0]),
      let header = try? JSONDecoder().decode(JSON.self, from: headerBytes), header.objectValue != nil
    else { throw refuse("it is no signed token") }
    guard let algorithm = header["alg"]?.stringValue, ["RS256", "ES256", "EdDSA"].contains(algorithm) else {
      throw refuse("its algorithm is none of RS256, ES256 and EdDSA")
    }
    // `crit` names extensions that must be understood, and none is.
    guard header["crit"] == nil else { throw refuse("it asks for extensions") }
    let id = header["kid"]?.stringValue ?? ""
    guard let key = try await key(id, now_ms: now_ms) else { throw refuse("its key is not known") }
    guard key.algorithm == algorithm else { throw refuse("its algorithm is not that of its key") }
    let claims: JSON
    do {
      claims = try await key.keys.verify(token, as: Claims.self).all
    } catch { throw refuse("the signature is wrong") }
    return try check(claims, now_s: Double(now_ms) / 1_000, refuse)
  }

  private func check(_ claims: JSON, now_s: Double, _ refuse: (String) -> Problem) throws -> Principal {
    let leeway = Double(settings.leeway_s)
    guard claims["iss"]?.stringValue == settings.issuer else { throw refuse("another issuer") }
    let audiences =
      claims["aud"]?.arrayValue?.compactMap(\.stringValue) ?? claims["aud"]?.stringValue.map { [$0] } ?? []
    guard audiences.contains(settings.audience) else { throw refuse("another audience") }
    guard let expires = claims["exp"]?.numberValue else { throw refuse("it does not say when it expires") }
    guard now_s < expires + leeway else { throw refuse("it has expired") }
    if let begins = claims["nbf"] {
      guard let time = begins.numberValue, now_s >= time - leeway else { throw refuse("it is not valid yet") }
    }
    guard let subject = claims["sub"]?.stringValue, !subject.isEmpty, subject.utf8.count <= 256 else {
      throw refuse("it names nobody")
    }
    let named =
      claims[settings.rolesClaim]?.arrayValue?.compactMap(\.stringValue)
      ?? claims[settings.rolesClaim]?.stringValue.map { $0.split(separator: " ").map(String.init) } ?? []
    var scope: [String: Set<String>] = [:]
    if let claim = claims[settings.scopeClaim] {
      // What cannot be read must not widen what may be seen.
      guard let entries = claim.objectValue else { throw refuse("its row scope cannot be read") }
      for (name, value) in entries {
        guard let values = value.arrayValue?.map(\.stringValue), !values.contains(nil) else {
          throw refuse("its row scope cannot be read")
        }
        scope[name] = Set(values.compactMap { $0 })
      }
    }
    return Principal(
      name: "jwt:\(subject)", roles: Set(named.compactMap(ServeRole.init(rawValue:))), scope: RowScope(scope),
      means: .jwt)
  }

  private func key(_ id: String, now_ms: Int64) async throws -> Key? {
    let age = now_ms - fetched_ms
    if known[id] == nil ? age > KeySet.retry_ms : age > KeySet.lifetime_ms {
      fetched_ms = now_ms
      do {
        known = try await load()
      } catch {
        // The keys that are there stay: the provider may be down for a while.
        log.error("the key set cannot be read", metadata: ["error": "\(error)"])
        if known.isEmpty { throw Problem.busy("the key set cannot be read", retryAfter_s: 30) }
      }
    }
    return known[id]
  }

  /// Has the set read anew before a key is looked up next; the keys that are there stay if that fails.
  func expire() { fetched_ms = .min / 2 }

  /// Reads the set anew.
  /// - Returns: how many of its keys can be used.
  func usableKeys() async throws -> Int { try await load().count }

  private struct Document: Decodable { var keys: [JSON] }

  private func load() async throws -> [String: Key] {
    let data: Data
    if settings.jwks.hasPrefix("https://") {
      let response = try await KeySet.client.execute(HTTPClientRequest(url: settings.jwks), timeout: .seconds(10))
      guard response.status == .ok else { throw AuditError(description: "\(settings.jwks) answers \(response.status)") }
      data = Data(buffer: try await response.body.collect(upTo: KeySet.maximumBytes))
    } else {
      data = try Data(contentsOf: URL(fileURLWithPath: settings.jwks))
    }
    var found: [String: Key] = [:]
    let document = try JSONDecoder().decode(Document.self, from: data)
    for entry in document.keys {
      // Symmetric keys and keys for encryption have no place here; one that is strange must not hide the others.
      guard (entry["use"]?.stringValue ?? "sig") == "sig", entry["kty"]?.stringValue != "oct" else { continue }
      let id = entry["kid"]?.stringValue ?? ""
      guard !id.isEmpty || document.keys.count == 1 else {
        log.warning("a key without an id is not used: there are others")
        continue
      }
      guard var jwk = try? JSONDecoder().decode(JWK.self, from: Data(entry.bytes)) else { continue }
      let wanted: JWK.Algorithm
      switch (entry["kty"]?.stringValue, entry["crv"]?.stringValue) {
      case ("RSA", _): wanted = .rs256
      case ("EC", "P-256"): wanted = .es256
      case ("OKP", "Ed25519"): wanted = .eddsa
      default: continue
      }
      if let declared = entry["alg"]?.stringValue, declared != wanted.rawValue { continue }
      jwk.algorithm = wanted
      jwk.privateExponent = nil
      jwk.keyIdentifier = JWKIdentifier(string: id)
      let keys = JWTKeyCollection()
      do {
        try await keys.add(jwk: jwk)
      } catch {
        log.warning("a key of the key set cannot be used", metadata: ["kid": "\(id)"])
        continue
      }
      found[id] = Key(algorithm: wanted.rawValue, keys: keys)
    }
    return found
  }
}

func base64URL(_ text: some StringProtocol) -> Data? {
  var plain = String(text.map { $0 == "-" ? "+" : $0 == "_" ? "/" : $0 })
  while plain.utf8.count % 4 != 0 { plain += "=" }
  return Data(base64Encoded: plain)
}
