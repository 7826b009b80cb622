import AsyncHTTPClient
import Configuration
import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import JWTKit
import Logging
import NIOCore
import NIOSSL
import Pipeline
import Synchronization
import Testing

@testable import Console

/// Keeps everything that is logged, as text.
final class LogKeeper: Sendable {
  private let lines = Mutex<[String]>([])
  var text: String { lines.withLock { $0.joined(separator: "\n") } }

  struct Handler: LogHandler {
    let keeper: LogKeeper
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.trace
    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
      get { metadata[key] }
      set { metadata[key] = newValue }
    }
    func log(event: LogEvent) {
      keeper.lines.withLock { $0.append("\(event.level) \(event.message) \(event.metadata ?? [:])") }
    }
  }
}

@Suite(.serialized) struct ReloadTests {
  /// The file of a console, as it is changed.
  private final class File: @unchecked Sendable {
    var yaml = TestConsole.yaml("")
    var secret = "old-secret"
    func replace(_ text: String, _ with: String) {
      precondition(yaml.contains(text))
      yaml = yaml.replacing(text, with: with)
    }
    func parse() throws -> Configuration {
      try Configuration.parse(yaml: yaml, file: "test.yaml", directory: "/tmp", environment: ["DESK": secret])
    }
  }

  private func entries(_ test: TestConsole) throws -> [JSON] {
    try test.audit.tail(50).map { try JSONDecoder().decode(JSON.self, from: Data($0.utf8)) }
      .filter { $0["event"]?.stringValue == "configuration reloaded" }
  }

  /// Of as many requests of the viewer at the same time, in order.
  private func statuses(_ test: TestConsole, _ count: Int) async throws -> [Int] {
    try await test.run { client in
      try await withThrowingTaskGroup(of: Int.self) { group in
        for _ in 0..<count { group.addTask { try await client.get("/v1/sources").status } }
        var found: [Int] = []
        for try await status in group { found.append(status) }
        return found.sorted()
      }
    }
  }

  private func hash(_ token: String) -> String { hexadecimal(Sessions.hash(token)) }

  @Test func whoMayDoWhatChangesAtOnce() async throws {
    let test = try TestConsole()
    let file = File()
    let reloader = Reloader(console: test.console, level: nil, load: file.parse)
    try await test.run { client in
      func session(_ name: String) async throws -> String {
        let begun = try await client.send(.post, "/v1/session", body: #"{"token": "token-\#(name)"}"#)
        return String(begun.headers[.setCookie]!.prefix { $0 != ";" })
      }
      let (viewer, analyst) = (try await session("viewer"), try await session("analyst"))
      #expect(try await client.get("/v1/sources").status == 200)
      let stream = Task {
        var request = HTTPClientRequest(url: "http://127.0.0.1:\(client.port)/v1/events")
        request.headers.add(name: "Authorization", value: "Bearer token-viewer")
        let response = try await HTTPClient.shared.execute(request, timeout: .seconds(30))
        var bytes = 0
        for try await part in response.body { bytes += part.readableBytes }
        return bytes
      }
      while test.console.events.count == 0 { try await Task.sleep(for: .milliseconds(20)) }

      file.replace(hash("token-viewer"), hash("token-another"))
      file.replace("roles: [feed]", "roles: [viewer]")
      let outcome = await reloader.reload()
      #expect(outcome.applied == ["serve.tokens.feed.roles", "serve.tokens.viewer.sha256"])
      #expect(outcome.refused == [] && outcome.failure == nil)
      #expect(try await client.get("/v1/sources").status == 401, "the old token is none any more")
      #expect(try await client.get("/v1/sources", as: "another").status == 200)
      #expect(try await client.get("/v1/sources", as: "feed").status == 200, "another role")
      #expect(try await client.send(.get, "/v1/sources", headers: [("Cookie", viewer)]).status == 401)
      #expect(try await client.send(.get, "/v1/sources", headers: [("Cookie", analyst)]).status == 200)
      #expect(try await stream.value > 0, "the stream has ended, so that its client signs in again")
    }
    let told = try #require(try entries(test).first)
    #expect(told["outcome"]?.stringValue == "done")
    #expect(told["applied"]?.arrayValue?.count == 2)
    #expect(await reloader.reload() == Reloader.Outcome(), "the same file again changes nothing")
  }

  @Test func aFileThatIsWrongChangesNothing() async throws {
    let test = try TestConsole()
    let file = File()
    let reloader = Reloader(console: test.console, level: nil, load: file.parse)
    file.replace(hash("token-viewer"), hash("token-another"))
    file.replace("roles: [feed]", "roles: [king]")
    let outcome = await reloader.reload()
    #expect(outcome.failure?.contains("'king' is not one of") == true)
    #expect(try await statuses(test, 1) == [200])
    #expect(try entries(test).first?["outcome"]?.stringValue == "failed")
    file.replace("roles: [king]", "roles: [feed]")
    #expect(await reloader.reload().applied == ["serve.tokens.viewer.sha256"], "repaired")
  }

  @Test func whatCannotChangeIsNamedAndStays() async throws {
    let test = try TestConsole()
    let file = File()
    let reloader = Reloader(console: test.console, level: nil, load: file.parse)
    file.replace("listen: 127.0.0.1:0", "listen: 127.0.0.1:1\n  metrics_open: true\n  approval_limit: 5")
    file.replace("rate: 100000, burst: 100000", "rate: 1, burst: 1, timeout: 3s")
    file.replace("topic: shop.ledger", "topic: other.ledger")
    for _ in 0..<2 {
      let outcome = await reloader.reload()
      #expect(
        outcome.refused == [
          .init(key: "serve.limits.timeout", reason: "the socket was opened with it"),
          .init(key: "serve.listen", reason: "the socket was opened with it"),
          .init(key: "serve.metrics_open", reason: "the routes are made at the start"),
          .init(key: "sources.ledger.topic", reason: "it is read at the start"),
        ], "each time again, until the next start")
    }
    #expect(test.console.settings.approvalLimit_u == 5_000_000)
    #expect(test.console.settings.requestTimeout_ms == 15_000)
    let found = try await statuses(test, 12)
    #expect(found.first == 200 && found.last == 429, "one request may be saved up: \(found)")
  }

  @Test func secretsAreNotTold() async throws {
    let keeper = LogKeeper()
    let test = try TestConsole(log: Logger(label: "test") { _ in LogKeeper.Handler(keeper: keeper) })
    let file = File()
    let hook = "  webhooks: {desk: {url: 'http://127.0.0.1:1/', secret: {env: DESK}}}\n"
    let level = LogLevelSwitch(.info)
    let reloader = Reloader(console: test.console, level: level, load: file.parse)
    file.yaml += "\n" + hook + "logging: {level: debug}\n"
    #expect(await reloader.reload().applied.contains("logging.level"))
    #expect(level.level == .debug)
    file.secret = "new-secret"
    #expect(await reloader.reload().applied == ["serve.webhooks.desk.secret"])
    #expect(test.console.settings.webhooks.first?.secret.reveal == "new-secret")
    file.replace(hash("token-viewer"), hash("token-another"))
    #expect(await reloader.reload().failure == nil)
    let log = keeper.text + (try test.audit.tail(50).joined())
    #expect(log.contains("serve.webhooks.desk.secret") && log.contains("serve.tokens.viewer.sha256"))
    for secret in ["old-secret", "new-secret", hash("token-another")] { #expect(!log.contains(secret)) }
  }

  @Test func receiversComeAndGo() async throws {
    let test = try TestConsole()
    let (first, second) = (WebhookTests.Receiver(), WebhookTests.Receiver())
    let router = Router()
    for (path, receiver) in [("first", first), ("second", second)] {
      router.post(RouterPath(path)) { request, _ in
        receiver.got.append((request.headers, String(buffer: try await request.body.collect(upTo: 1 << 20))))
        return receiver.status
      }
    }
    let file = File()
    let plain = file.yaml
    let reloader = Reloader(console: test.console, level: nil, load: file.parse)
    let service = Task { try await WebhookService(console: test.console, client: HTTPClient.shared).run() }
    defer { service.cancel() }
    @Sendable func wait(_ isThere: @Sendable () async throws -> Bool) async throws {
      for _ in 0..<500 where try await !isThere() { try await Task.sleep(for: .milliseconds(20)) }
      let isSeen = try await isThere()
      #expect(isSeen)
    }
    let application = Application(router: router, configuration: .init(address: .hostname("127.0.0.1", port: 0)))
    try await application.test(.live) { client in
      func configure(_ path: String) async {
        file.yaml =
          plain + "\n  webhooks: {desk: {url: 'http://127.0.0.1:\(client.port!)/\(path)', secret: {env: DESK}}}\n"
        #expect(await reloader.reload().failure == nil)
      }
      await configure("first")
      try await wait { try await test.console.state.cursor("desk") != nil }
      try test.add([TestBreak(order: "SO-1")])
      try await wait { first.got.count == 1 }
      await configure("second")
      try test.add([TestBreak(order: "SO-2")])
      try await wait { second.got.count == 1 }
      file.yaml = plain
      #expect(await reloader.reload().applied.allSatisfy { $0.hasPrefix("serve.webhooks.desk") })
      try test.add([TestBreak(order: "SO-3")])
      try await Task.sleep(for: .milliseconds(3 * WebhookService.interval_ms))
      #expect(first.got.count == 1 && second.got.count == 1, "nobody is told any more")
    }
  }

  /// A key of the provider that is not in the set yet would be looked for again after half a minute only.
  @Test func keysAreReadAgain() async throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("keys-\(UUID().uuidString).json").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    let serve = "\n  jwt: {jwks: \(path), issuer: 'https://id', audience: tieout}\n"
    let test = try TestConsole(serve: serve)
    let file = File()
    file.yaml = TestConsole.yaml(serve)
    let reloader = Reloader(console: test.console, level: nil, load: file.parse)
    let key = ES256PrivateKey()
    @Sendable func publish(_ id: String) throws {
      let (x, y) = (key.parameters!.x, key.parameters!.y)
      try #"{"keys": [{"kty": "EC", "crv": "P-256", "kid": "\#(id)", "x": "\#(x)", "y": "\#(y)"}]}"#
        .write(toFile: path, atomically: true, encoding: .utf8)
    }
    struct Claims: JWTPayload {
      var iss = "https://id"
      var aud = "tieout"
      var sub = "ann"
      var roles = ["viewer"]
      var exp = Date().addingTimeInterval(600).timeIntervalSince1970
      func verify(using algorithm: some JWTAlgorithm) async throws {}
    }
    let signer = JWTKeyCollection()
    await signer.add(ecdsa: key)
    let token = try await signer.sign(Claims(), kid: "new")
    try publish("old")
    let signed = [("Authorization", "Bearer \(token)")]
    try await test.run { client in
      #expect(try await client.send(.get, "/v1/sources", headers: signed).status == 401)
      try publish("new")
      #expect(try await client.send(.get, "/v1/sources", headers: signed).status == 401, "it was just looked for")
      #expect(await reloader.reload() == Reloader.Outcome())
      try await Task.sleep(for: .milliseconds(200))
      #expect(try await client.send(.get, "/v1/sources", headers: signed).status == 200)
    }
  }

  // MARK: - Certificates

  private func shown(port: Int, trusting authority: TestAuthority) async throws -> Bool {
    var tls = TLSConfiguration.makeClientConfiguration()
    tls.trustRoots = .file(authority.path("ca", "pem"))
    var configuration = ConsoleServer.clientConfiguration
    configuration.tlsConfiguration = tls
    let http = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
    let status = try? await http.execute(
      HTTPClientRequest(url: "https://127.0.0.1:\(port)/healthz"), timeout: .seconds(10)
    ).status
    try await http.shutdown()
    return status == .ok
  }

  @Test func anotherCertificateInTheSameFiles() async throws {
    let (ours, theirs) = (try TestAuthority("ours"), try TestAuthority("theirs"))
    defer {
      ours.remove()
      theirs.remove()
    }
    try ours.sign("server")
    try theirs.sign("server")
    @Sendable func install(_ authority: TestAuthority, _ kinds: [String] = ["pem", "key"]) throws {
      for kind in kinds {
        try String(contentsOfFile: authority.path("server", kind), encoding: .utf8)
          .write(toFile: ours.path("live", kind), atomically: true, encoding: .utf8)
      }
    }
    try install(ours)
    let serve = "\n  tls: {certificate: \(ours.path("live", "pem")), key: \(ours.path("live", "key"))}\n"
    let test = try TestConsole(serve: serve)
    let file = File()
    file.yaml = TestConsole.yaml(serve)
    let reloader = Reloader(console: test.console, level: nil, load: file.parse)
    let application = try test.console.application(assets: [])
    try await application.test(.live) { (client: any TestClientProtocol) async throws -> Void in
      let port = client.port!
      #expect(try await shown(port: port, trusting: ours))
      try install(theirs, ["pem"])
      let refused = await reloader.reload()
      #expect(refused.refused.map(\.key) == ["serve.tls.certificate"], "a certificate without its key")
      #expect(try await shown(port: port, trusting: ours), "the old one is shown")
      try install(theirs)
      #expect(await reloader.reload().applied == ["serve.tls.certificate"])
      #expect(try await shown(port: port, trusting: theirs))
      #expect(try await !shown(port: port, trusting: ours))
    }
  }
}
