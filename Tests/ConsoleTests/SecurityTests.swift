import ConsoleStore
import Crypto
import CryptoExtras
import Foundation
import HTTPTypes
import JWTKit
import Testing

@testable import Console

private func encode(_ data: some Sequence<UInt8>) -> String {
  Data(data).base64EncodedString().replacing("+", with: "-").replacing("/", with: "_").replacing("=", with: "")
}

/// An identity provider for tests: its keys and whatever tokens it is asked for.
final class TestIssuer: Sendable {
  let ec = P256.Signing.PrivateKey()
  let ed = Curve25519.Signing.PrivateKey()
  let rsa = try! _RSA.Signing.PrivateKey(keySize: .bits2048)
  let path: String
  let serve: String

  init() throws {
    path = FileManager.default.temporaryDirectory.appendingPathComponent("keys-\(UUID().uuidString).json").path
    let point = ec.publicKey.rawRepresentation
    let primitives = try rsa.publicKey.getKeyPrimitives()
    let keys = """
      {"keys":[
        {"kty":"RSA","kid":"rsa","n":"\(encode(primitives.modulus))","e":"\(encode(primitives.publicExponent))"},
        {"kty":"EC","crv":"P-256","kid":"ec","use":"sig","x":"\(encode(point.prefix(32)))","y":"\(encode(point.suffix(32)))"},
        {"kty":"OKP","crv":"Ed25519","kid":"ed","alg":"EdDSA","x":"\(encode(ed.publicKey.rawRepresentation))"},
        {"kty":"oct","kid":"shared","k":"c2VjcmV0"},
        {"kty":"EC","crv":"P-256","kid":"broken","x":"AA","y":"AA"},
        {"kty":"what","kid":"strange"}
      ]}
      """
    try keys.write(toFile: path, atomically: true, encoding: .utf8)
    serve = "  jwt: {jwks: \(path), issuer: https://id.example, audience: tieout}\n"
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func claims(_ changes: [String: Any?] = [:]) -> [String: Any] {
    let now = Int(Date().timeIntervalSince1970)
    var claims: [String: Any] = [
      "iss": "https://id.example", "aud": ["other", "tieout"], "sub": "ann", "exp": now + 300, "nbf": now - 5,
      "roles": ["viewer"],
    ]
    for (key, value) in changes { claims[key] = value }
    return claims
  }

  func input(_ header: [String: Any], _ claims: [String: Any]) -> String {
    let parts = [header, claims].map { encode(try! JSONSerialization.data(withJSONObject: $0)) }
    return parts.joined(separator: ".")
  }

  func token(
    _ header: [String: Any] = ["alg": "ES256", "kid": "ec"], _ claims: [String: Any]? = nil,
    key: P256.Signing.PrivateKey? = nil
  ) -> String {
    let input = input(header, claims ?? self.claims())
    let signature = try! (key ?? ec).signature(for: Data(input.utf8)).rawRepresentation
    return input + "." + encode(signature)
  }

  func edToken(_ header: [String: Any] = ["alg": "EdDSA", "kid": "ed"]) -> String {
    let input = input(header, claims())
    return input + "." + encode(try! ed.signature(for: Data(input.utf8)))
  }

  func rsaToken(_ header: [String: Any] = ["alg": "RS256", "kid": "rsa"]) -> String {
    let input = input(header, claims())
    let signature = try! rsa.signature(for: Data(input.utf8), padding: .insecurePKCS1v1_5)
    return input + "." + encode(signature.rawRepresentation)
  }

  func hmacToken(_ header: [String: Any], secret: Data) -> String {
    let input = input(header, claims())
    return input + "."
      + encode(HMAC<SHA256>.authenticationCode(for: Data(input.utf8), using: SymmetricKey(data: secret)))
  }
}

@Suite(.serialized) struct SecurityTests {
  @Test func tokensOfTheProviderAreTaken() async throws {
    let issuer = try TestIssuer()
    let test = try TestConsole(serve: issuer.serve)
    try test.add([TestBreak(), TestBreak(order: "SO-2", country: "DE")])
    try await test.run { client in
      for token in [issuer.token(), issuer.edToken(), issuer.rsaToken()] {
        let answer = try await client.send(.get, "/v1/breaks", headers: [("Authorization", "Bearer \(token)")])
        #expect(answer.status == 200, "\(answer.body)")
        #expect(answer.items.count == 2)
      }
      let scoped = issuer.token(["alg": "ES256", "kid": "ec"], issuer.claims(["tieout_scope": ["country": ["DE"]]]))
      let answer = try await client.send(.get, "/v1/breaks", headers: [("Authorization", "Bearer \(scoped)")])
      #expect(answer.items.map { $0["order"]?.stringValue } == ["SO-2"])
      let who = try await client.send(.get, "/v1/session", headers: [("Authorization", "Bearer \(scoped)")])
      #expect(who.json["principal"]?.stringValue == "jwt:ann")
      let nobody = issuer.token(["alg": "ES256", "kid": "ec"], issuer.claims(["roles": ["superuser"]]))
      #expect(
        try await client.send(.get, "/v1/breaks", headers: [("Authorization", "Bearer \(nobody)")]).status == 403,
        "a role that is not known is none")
    }
  }

  @Test func forgedTokensAreRefused() async throws {
    let issuer = try TestIssuer()
    let test = try TestConsole(serve: issuer.serve)
    let now = Int(Date().timeIntervalSince1970)
    let public_ = issuer.ec.publicKey
    let ec: [String: Any] = ["alg": "ES256", "kid": "ec"]
    let whole = issuer.token()
    let parts = whole.split(separator: ".").map(String.init)
    var attacks: [(String, String)] = [
      ("none", issuer.input(["alg": "none", "kid": "ec"], issuer.claims()) + "."),
      ("None with a signature", issuer.input(["alg": "None", "kid": "ec"], issuer.claims()) + "." + parts[2]),
      ("no algorithm", issuer.input(["kid": "ec"], issuer.claims()) + "." + parts[2]),
      ("no signature", parts[0] + "." + parts[1] + "."),
      (
        "other claims",
        parts[0] + "." + encode(try JSONSerialization.data(withJSONObject: issuer.claims(["roles": ["admin"]]))) + "."
          + parts[2]
      ),
      ("another key", issuer.token(key: P256.Signing.PrivateKey())),
      ("no key id", issuer.token(["alg": "ES256"])),
      ("an unknown key id", issuer.token(["alg": "ES256", "kid": "../../etc/passwd"])),
      ("the other key's algorithm", issuer.token(["alg": "EdDSA", "kid": "ec"])),
      ("the other key", issuer.token(["alg": "ES256", "kid": "ed"])),
      ("a broken key", issuer.token(["alg": "ES256", "kid": "broken"])),
      ("an asked extension", issuer.token(["alg": "ES256", "kid": "ec", "crit": ["b64"], "b64": false])),
      ("a longer algorithm", issuer.token(["alg": "ES384", "kid": "ec"])),
      ("a key in the header", issuer.token(["alg": "ES256", "kid": "mine", "jwk": ["kty": "EC"]])),
      ("RSA's longer algorithm", issuer.rsaToken(["alg": "RS512", "kid": "rsa"])),
      ("RSA as PSS", issuer.rsaToken(["alg": "PS256", "kid": "rsa"])),
      ("RSA under the other key", issuer.rsaToken(["alg": "RS256", "kid": "ec"])),
      ("four parts", whole + ".x"), ("two parts", parts[0] + "." + parts[1]), ("no JSON", "e30x.e30.AA"),
      ("dots", ".."),
      ("too long", String(repeating: "a", count: 9_000) + "." + String(repeating: "b", count: 9_000) + ".c"),
      ("expired", issuer.token(ec, issuer.claims(["exp": now - 31]))),
      ("expires never", issuer.token(ec, issuer.claims(["exp": nil as Any?]).filter { $0.key != "exp" })),
      ("expiry as text", issuer.token(ec, issuer.claims(["exp": "\(now + 99)"]))),
      ("not yet", issuer.token(ec, issuer.claims(["nbf": now + 120]))),
      ("another audience", issuer.token(ec, issuer.claims(["aud": "tieout2"]))),
      ("no audience", issuer.token(ec, issuer.claims().filter { $0.key != "aud" })),
      ("another issuer", issuer.token(ec, issuer.claims(["iss": "https://id.example.evil"]))),
      ("nobody", issuer.token(ec, issuer.claims(["sub": ""]))),
      ("a scope that cannot be read", issuer.token(ec, issuer.claims(["tieout_scope": "all"]))),
      ("half a scope", issuer.token(ec, issuer.claims(["tieout_scope": ["country": "NO"]]))),
    ]
    // HMAC with whatever is public as the key: the confusion of algorithms.
    for (name, secret) in [
      ("raw", public_.rawRepresentation), ("DER", public_.derRepresentation),
      ("PEM", Data(public_.pemRepresentation.utf8)),
      ("x963", public_.x963Representation), ("RSA's PEM", Data(issuer.rsa.publicKey.pemRepresentation.utf8)),
      ("RSA's DER", issuer.rsa.publicKey.derRepresentation), ("nothing", Data()),
      ("the shared one", Data("secret".utf8)),
    ] {
      for kid in ["ec", "shared", "ed", "rsa"] {
        attacks.append(("HS256 with \(name), \(kid)", issuer.hmacToken(["alg": "HS256", "kid": kid], secret: secret)))
        attacks.append(
          ("HMAC as ES256, \(name), \(kid)", issuer.hmacToken(["alg": "ES256", "kid": kid], secret: secret)))
      }
    }
    for (name, token) in attacks {
      do {
        let principal = try await test.console.authenticator.principal(bearer: token, now_ms: Int64(now) * 1_000)
        Issue.record("\(name) is taken as \(principal)")
      } catch let problem as Problem {
        #expect(problem.status == .unauthorized, "\(name)")
        #expect(!problem.detail.contains(parts[2]), "the detail repeats no token")
      }
    }
    // The hour of expiry, to the second, with the leeway of thirty.
    for (age, isTaken) in [(29, true), (31, false)] {
      let token = issuer.token(ec, issuer.claims(["exp": now - age]))
      let principal = try? await test.console.authenticator.principal(bearer: token, now_ms: Int64(now) * 1_000)
      #expect((principal != nil) == isTaken, "\(age) s after its expiry")
    }
    let first = attacks[0].1
    try await test.run { client in
      let answer = try await client.send(.get, "/v1/breaks", headers: [("Authorization", "Bearer \(first)")])
      #expect(answer.status == 401)
      for header in ["Basic dG9rZW4tYWRtaW46", "Bearer", "Bearer ", "token-admin", "bearer\ttoken-admin"] {
        #expect(
          try await client.send(.get, "/v1/breaks", headers: [("Authorization", header)]).status == 401, "\(header)")
      }
    }
    #expect(
      try String(contentsOfFile: test.directory + "/audit.log", encoding: .utf8).contains("its algorithm is none of"))
  }

  @Test func aSessionNeedsThePagesSecret() async throws {
    let test = try TestConsole()
    try test.add([TestBreak()])
    try await test.run { client in
      let wrong = try await client.send(.post, "/v1/session", body: #"{"token":"guess"}"#)
      #expect(wrong.status == 401)
      let asForm = try await client.send(
        .post, "/v1/session", body: "token=token-analyst", type: "application/x-www-form-urlencoded")
      #expect(asForm.status == 415)
      let login = try await client.send(.post, "/v1/session", body: #"{"token":"token-analyst"}"#)
      #expect(login.status == 200)
      let cookie = login.headers[.setCookie] ?? ""
      #expect(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"))
      let session = String(cookie.prefix { $0 != ";" })
      let csrf = login.json["csrf"]!.stringValue!
      let path = "/v1/breaks/\(TestBreak().id)/actions"
      let body = #"{"kind":"comment","comment":"x"}"#
      func act(_ headers: [(String, String)]) async throws -> Int {
        try await client.send(.post, path, body: body, headers: [("Cookie", session)] + headers).status
      }
      #expect(try await client.send(.get, "/v1/breaks", headers: [("Cookie", session)]).status == 200)
      #expect(try await act([]) == 403)
      #expect(try await act([("X-CSRF-Token", "00")]) == 403)
      #expect(try await act([("X-CSRF-Token", csrf), ("Sec-Fetch-Site", "cross-site")]) == 403)
      #expect(try await act([("X-CSRF-Token", csrf), ("Origin", "https://evil.example")]) == 403)
      #expect(try await act([("X-CSRF-Token", csrf)]) == 200)
      let renewed = try await client.send(.get, "/v1/session", headers: [("Cookie", session)])
      #expect(try await act([("X-CSRF-Token", csrf)]) == 403, "the earlier secret has ended")
      #expect(try await act([("X-CSRF-Token", renewed.json["csrf"]!.stringValue!)]) == 200)
      let out = try await client.send(
        .delete, "/v1/session",
        headers: [("Cookie", session), ("X-CSRF-Token", renewed.json["csrf"]!.stringValue!)])
      #expect(out.status == 204)
      #expect(try await client.send(.get, "/v1/breaks", headers: [("Cookie", session)]).status == 401)
      #expect(
        try await client.send(.get, "/v1/breaks", headers: [("Cookie", "tieout_session=token-admin")]).status == 401)
    }
  }

  @Test func sessionsEnd() {
    var settings = TestSettings.settings
    settings.sessionIdle_ms = 1_000
    settings.sessionLifetime_ms = 2_500
    let sessions = Sessions(settings)
    let principal = Principal(name: "x", roles: [.viewer], scope: RowScope(), means: .token)
    let (id, _) = sessions.begin(principal, now_ms: 0)
    #expect(sessions.find(id, now_ms: 900) != nil)
    #expect(sessions.find(id, now_ms: 1_800) != nil)
    #expect(sessions.find(id, now_ms: 2_499) != nil)
    #expect(sessions.find(id, now_ms: 2_500) == nil, "the longest time is over")
    let (other, _) = sessions.begin(principal, now_ms: 0)
    #expect(sessions.find(other, now_ms: 1_000) == nil, "nobody used it")
  }

  @Test func bodiesAreBounded() async throws {
    // The time for a request is left long: on a busy machine a short one would end these before their size does.
    let test = try TestConsole(adjust: { $0.serve.bodyLimit = 10_000 })
    try await test.run { (client: TestConsole.Client) async throws -> Void in
      #expect(
        try await client.send(.post, "/v1/actions", as: "admin", body: "kind=x", type: "text/plain").status == 415)
      let deep = String(repeating: "[", count: 5_000) + String(repeating: "]", count: 5_000)
      #expect(try await client.send(.post, "/v1/actions", as: "admin", body: deep).status == 400)
      let large = #"{"kind":"comment","comment":""# + String(repeating: "x", count: 20_000) + "\"}"
      for (path, who) in [("/v1/breaks/x/actions", "admin"), ("/v1/actions", "admin"), ("/v1/orders", "feed")] {
        let head =
          "POST \(path) HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token-\(who)\r\n"
          + "Content-Type: application/json\r\nConnection: close\r\n"
        let told = await RawConnection.answer(
          port: client.port, head + "Content-Length: \(large.utf8.count)\r\n\r\n" + large)
        // The server may close before all of it is read or sent, and the answer be lost on the way. It is counted.
        #expect(told.isEmpty || told.hasPrefix("HTTP/1.1 413"), "\(path): \(told.prefix(40))")
        // Nobody says how much comes.
        let chunks = String(repeating: "400\r\n" + String(repeating: "x", count: 0x400) + "\r\n", count: 15)
        let untold = await RawConnection.answer(
          port: client.port, head + "Transfer-Encoding: chunked\r\n\r\n" + chunks + "0\r\n\r\n")
        #expect(untold.isEmpty || untold.hasPrefix("HTTP/1.1 413"), "\(path): \(untold.prefix(40))")
      }
      for route in ["/v1/breaks/{id}/actions", "/v1/actions", "/v1/orders"] {
        // Where the answer was lost, the server may still be at counting it.
        var isCounted = false
        for _ in 0..<600 where !isCounted {
          isCounted = test.console.metrics.page([]).contains("method=\"POST\",route=\"\(route)\",status=\"413\"} 2")
          if !isCounted { try await Task.sleep(for: .milliseconds(50)) }
        }
        #expect(isCounted, "\(route)")
      }
    }
  }

  @Test func slowRequestsAreEnded() async throws {
    let test = try TestConsole(adjust: { $0.serve.requestTimeout_ms = 2_000 })
    try await test.run { (client: TestConsole.Client) async throws -> Void in
      // A body that comes a byte at a time, and a head that never ends.
      for start in [
        "POST /v1/actions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token-admin\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{",
        "GET /v1/breaks HTTP/1.1\r\nHost: x\r\nX-Slow: ",
      ] {
        let began = Date()
        let isClosed = await RawConnection.isClosedByServer(port: client.port, start: start, drip: "a", patience_s: 60)
        #expect(isClosed, "a slow request is ended: \(start.prefix(30))")
        #expect(Date().timeIntervalSince(began) < 45)
      }
      let after = await RawConnection.answer(
        port: client.port,
        "GET /v1/sources HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token-viewer\r\nConnection: close\r\n\r\n")
      #expect(after.hasPrefix("HTTP/1.1 200"), "others are served")
    }
  }

  @Test func headersCannotBeSplit() async throws {
    let test = try TestConsole()
    try await test.run { client in
      let answer = await RawConnection.answer(
        port: client.port,
        "GET /v1/breaks?cursor=%0d%0aSet-Cookie:%20x=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token-viewer\r\nConnection: close\r\n\r\n"
      )
      #expect(answer.hasPrefix("HTTP/1.1 400"))
      #expect(!answer.contains("\r\nSet-Cookie"))
      let smuggled = await RawConnection.answer(
        port: client.port,
        "POST /v1/actions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token-admin\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /v1/audit HTTP/1.1\r\nHost: x\r\n\r\n"
      )
      #expect(!smuggled.contains("HTTP/1.1 200"))
    }
  }
}

enum TestSettings {
  static let settings = try! TestConsole.parsed().serve
}
