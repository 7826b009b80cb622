import Configuration
import ConsoleStore
import Foundation
import Logging
import Pipeline
import Testing

@testable import Console

@Suite struct ConsoleDoctorTests {
  private func findings(_ configuration: Configuration) async -> [DoctorFinding] {
    await ConsoleDoctor(configuration: configuration, log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
      .run()
  }

  private func finding(_ findings: [DoctorFinding], _ subject: String) throws -> DoctorFinding {
    try #require(findings.first { $0.subject.contains(subject) }, "\(subject)")
  }

  @Test func aServerThatRunsAndOneThatWasNeverStarted() async throws {
    let test = try TestConsole()
    var configuration = test.configuration
    configuration.serve.directory = test.directory
    let running = await findings(configuration)
    #expect(running.filter { $0.status != .ok } == [], "beside the running server")
    configuration.serve.directory = test.directory + "/none"
    let never = await findings(configuration)
    #expect(never.filter { $0.status != .ok } == [])
    #expect(!FileManager.default.fileExists(atPath: configuration.serve.directory), "nothing is made")
  }

  @Test func whatIsWrongIsToldOneByOne() async throws {
    let test = try TestConsole()
    var configuration = test.configuration
    configuration.serve.directory = test.directory
    configuration.serve.tokens = []
    configuration.serve.host = "0.0.0.0"
    configuration.dimensions = ["country"]
    let state = test.console.state
    _ = try await state.enqueue(
      "desk", [.init(breakID: "b", revision: 1, body: "{}")], from: nil, to: .init(generation: "g", sequence: 1),
      now_ms: 0)
    let delivery = try await state.claim("desk", now_ms: 1).first
    try await state.failed(try #require(delivery), error: "no", next_ms: 0, isDead: true)
    try test.audit.write(AuditLog.Entry(actor: "ann", event: "one", outcome: .done))
    let audit = test.directory + "/audit.log"
    try String(contentsOfFile: audit, encoding: .utf8).replacing("ann", with: "bob")
      .write(toFile: audit, atomically: true, encoding: .utf8)
    let found = await findings(configuration)
    #expect(try finding(found, "sign-in").status == .warning)
    #expect(try finding(found, "TLS").found.contains("0.0.0.0"))
    #expect(try finding(found, "store ").found.contains("other dimensions"))
    #expect(try finding(found, "state ").found.hasPrefix("1 webhook"))
    #expect(try finding(found, "audit ").status == .failed)
    configuration.serve.directory = test.directory + "/other"
    try FileManager.default.createDirectory(atPath: configuration.serve.directory, withIntermediateDirectories: true)
    try "no database".write(
      toFile: configuration.serve.directory + "/store.db", atomically: true, encoding: .utf8)
    #expect(try finding(await findings(configuration), "store ").status == .failed)
  }

  @Test func keysAndCertificates() async throws {
    let authority = try TestAuthority("ours")
    defer { authority.remove() }
    try authority.sign("server")
    var configuration = try TestConsole.parsed()
    configuration.serve.directory = authority.directory + "/serve"
    let keys = authority.directory + "/keys.json"
    configuration.serve.jwt = ServeJWT(jwks: keys, issuer: "https://id", audience: "tieout")
    configuration.serve.tls = ServeTLS(
      certificate: authority.path("server", "pem"), key: authority.path("server", "key"))
    var found = await findings(configuration)
    #expect(try finding(found, "key set").status == .failed, "there is no such file")
    #expect(try finding(found, "TLS").status == .warning, "it ends within an hour")
    try #"{"keys": [{"kty": "oct", "kid": "a", "k": "AAAA"}]}"#.write(toFile: keys, atomically: true, encoding: .utf8)
    found = await findings(configuration)
    #expect(try finding(found, "key set").found.contains("no key"))
    configuration.serve.tls?.key = authority.path("ca", "key")
    #expect(try finding(await findings(configuration), "TLS").status == .failed, "another key")
  }
}
