import AsyncHTTPClient
import Configuration
import Foundation
import HummingbirdTesting
import NIOCore
import NIOSSL
import Testing
import X509
import Crypto
import SwiftASN1

@testable import Console

/// An authority and what it signs, in files.
struct TestAuthority {
  let directory: String
  private let key = P256.Signing.PrivateKey()
  private let name: DistinguishedName

  init(_ name: String) throws {
    directory = FileManager.default.temporaryDirectory.appendingPathComponent("tls-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    self.name = try DistinguishedName { CommonName(name) }
    try write("ca", try make(self.name, Certificate.PrivateKey(key).publicKey, isAuthority: true), key)
  }

  func remove() { try? FileManager.default.removeItem(atPath: directory) }

  private func make(
    _ subject: DistinguishedName, _ publicKey: Certificate.PublicKey, isAuthority: Bool
  ) throws -> Certificate {
    try Certificate(
      version: .v3, serialNumber: .init(), publicKey: publicKey, notValidBefore: Date().addingTimeInterval(-60),
      notValidAfter: Date().addingTimeInterval(3_600), issuer: name, subject: subject,
      signatureAlgorithm: .ecdsaWithSHA256,
      extensions: try Certificate.Extensions {
        if isAuthority {
          Critical(BasicConstraints.isCertificateAuthority(maxPathLength: nil))
        } else {
          SubjectAlternativeNames([.ipAddress(ASN1OctetString(contentBytes: [127, 0, 0, 1]))])
        }
      }, issuerPrivateKey: Certificate.PrivateKey(key))
  }

  private func write(_ file: String, _ certificate: Certificate, _ key: P256.Signing.PrivateKey) throws {
    try certificate.serializeAsPEM().pemString.write(toFile: path(file, "pem"), atomically: true, encoding: .utf8)
    try key.pemRepresentation.write(toFile: path(file, "key"), atomically: true, encoding: .utf8)
  }

  func path(_ file: String, _ kind: String) -> String { "\(directory)/\(file).\(kind)" }

  func sign(_ file: String) throws {
    let key = P256.Signing.PrivateKey()
    let subject = try DistinguishedName { CommonName(file) }
    try write(file, try make(subject, Certificate.PrivateKey(key).publicKey, isAuthority: false), key)
  }
}

@Suite(.serialized) struct TLSTests {
  private func status(port: Int, _ authority: TestAuthority, client: String?, of issuer: TestAuthority) async throws
    -> UInt
  {
    var tls = TLSConfiguration.makeClientConfiguration()
    tls.trustRoots = .file(authority.path("ca", "pem"))
    if let client {
      tls.certificateChain = try NIOSSLCertificate.fromPEMFile(issuer.path(client, "pem")).map { .certificate($0) }
      tls.privateKey = .privateKey(try NIOSSLPrivateKey(file: issuer.path(client, "key"), format: .pem))
    }
    var configuration = ConsoleServer.clientConfiguration
    configuration.tlsConfiguration = tls
    let http = HTTPClient(eventLoopGroupProvider: .singleton, configuration: configuration)
    do {
      var request = HTTPClientRequest(url: "https://127.0.0.1:\(port)/v1/sources")
      request.headers.add(name: "Authorization", value: "Bearer token-viewer")
      let response = try await http.execute(request, timeout: .seconds(10))
      #expect(response.headers.first(name: "strict-transport-security") != nil)
      let status = response.status.code
      try await http.shutdown()
      return status
    } catch {
      try await http.shutdown()
      throw error
    }
  }

  @Test func onlyClientsOfTheAuthorityConnect() async throws {
    let ours = try TestAuthority("ours")
    let theirs = try TestAuthority("theirs")
    defer {
      ours.remove()
      theirs.remove()
    }
    try ours.sign("server")
    try ours.sign("client")
    try theirs.sign("client")
    for isMutual in [false, true] {
      let test = try TestConsole(adjust: {
        $0.serve.tls = ServeTLS(
          certificate: ours.path("server", "pem"), key: ours.path("server", "key"),
          clientAuthorities: isMutual ? ours.path("ca", "pem") : nil)
      })
      let application = try test.console.application(assets: [])
      try await application.test(.live) { (client: any TestClientProtocol) async throws -> Void in
        let port = client.port!
        #expect(try await status(port: port, ours, client: "client", of: ours) == 200)
        if isMutual {
          await #expect(throws: (any Error).self, "no certificate") {
            try await status(port: port, ours, client: nil, of: ours)
          }
          await #expect(throws: (any Error).self, "of another authority") {
            try await status(port: port, ours, client: "client", of: theirs)
          }
        } else {
          #expect(try await status(port: port, ours, client: nil, of: ours) == 200)
        }
        await #expect(throws: (any Error).self, "a server of another authority is not trusted") {
          try await status(port: port, theirs, client: nil, of: ours)
        }
      }
    }
  }
}
