import Configuration
import ConsoleStore
import Domain
import Foundation
import Logging
import NIOSSL
import Pipeline

/// The console's part of `tieout doctor`: what it is configured with, its folder, its store and its audit log. Changes
/// nothing, and may run beside the server.
public struct ConsoleDoctor: Sendable {
  private let configuration: Configuration
  private var settings: ServeSettings { configuration.serve }
  private let log: Logger

  public init(configuration: Configuration, log: Logger) {
    self.configuration = configuration
    self.log = log
  }

  private func finding(
    _ status: DoctorFinding.Status, _ subject: String, _ found: String, _ advice: String = ""
  ) -> DoctorFinding {
    DoctorFinding(status, "console", subject, found, advice: advice)
  }

  public func run() async -> [DoctorFinding] {
    var findings = [access()]
    if settings.jwt != nil { findings.append(await keys()) }
    findings += transport()
    findings.append(FolderFacts.read(settings.directory).finding("disk", "console"))
    findings += files()
    return findings
  }

  private func access() -> DoctorFinding {
    let count = settings.tokens.count
    if count == 0, settings.jwt == nil {
      return finding(
        .warning, "sign-in", "neither tokens nor an identity provider",
        "Nobody can sign in: `tieout-serve token` makes a token for serve.tokens, or set serve.jwt.")
    }
    return finding(
      .ok, "sign-in", DoctorText.count(count, "token") + (settings.jwt.map { ", keys of \($0.issuer)" } ?? ""))
  }

  private func keys() async -> DoctorFinding {
    let jwt = settings.jwt!
    do {
      let count = try await KeySet(jwt, log: log).usableKeys()
      guard count > 0 else {
        return finding(
          .failed, "key set \(jwt.jwks)", "no key that can be used",
          "Nobody's token can be checked: keys for RS256, ES256 or EdDSA (Ed25519) are needed, with key ids.")
      }
      return finding(.ok, "key set \(jwt.jwks)", DoctorText.count(count, "key"))
    } catch {
      return finding(
        .failed, "key set \(jwt.jwks)", "cannot be read: \(error)",
        "Nobody's token can be checked: correct serve.jwt.jwks, or let this machine reach it.")
    }
  }

  // MARK: - TLS

  /// Certificates that end sooner are told of.
  private static let renewal_s: TimeInterval = 14 * 86_400

  private func transport() -> [DoctorFinding] {
    guard let tls = settings.tls else {
      let isLocal = ["127.0.0.1", "::1", "localhost"].contains(settings.host)
      return [
        isLocal
          ? finding(.ok, "TLS", "none, on \(settings.host) alone")
          : finding(
            .warning, "TLS", "none, on \(settings.host)",
            "Tokens can be read on the way: set serve.tls, or put it behind something that speaks TLS.")
      ]
    }
    do {
      _ = try NIOSSLContext(configuration: try LiveCertificate(tls).configuration(tls))
      let ends = try NIOSSLCertificate.fromPEMFile(tls.certificate).map {
        Date(timeIntervalSince1970: TimeInterval($0.notValidAfter))
      }.min()
      guard let ends else { throw AuditError(description: "no certificate in it") }
      let text = "\(tls.certificate), until \(formatTimestamp(Int64(ends.timeIntervalSince1970) * 1_000))"
      if ends < Date() {
        return [finding(.failed, "TLS", "\(text): it has ended", "Clients refuse it: renew it, then send SIGHUP.")]
      }
      if ends < Date().addingTimeInterval(ConsoleDoctor.renewal_s) {
        return [finding(.warning, "TLS", text, "It ends soon: renew it, then send SIGHUP.")]
      }
      return [finding(.ok, "TLS", text)]
    } catch {
      return [
        finding(
          .failed, "TLS", "\(tls.certificate), \(tls.key): \(error)",
          "The server would not start: the files of serve.tls must be PEM, readable, and belong together.")
      ]
    }
  }

  // MARK: - Files

  private func files() -> [DoctorFinding] {
    let exists = { FileManager.default.fileExists(atPath: $0) }
    var findings: [DoctorFinding] = []
    if let shared = settings.store {
      findings += sharedStore(shared)
    } else {
      let store = settings.directory + "/store.db"
      findings.append(exists(store) ? storeFile(store) : finding(.ok, "store \(store)", "will be made of the topics"))
    }
    let state = settings.directory + "/state.db"
    if settings.store == nil, exists(state) { findings.append(stateFile(state)) }
    let audit = settings.directory + "/audit.log"
    findings.append(exists(audit) ? auditLog(audit) : finding(.ok, "audit \(audit)", "will be begun"))
    return findings
  }

  private func storeFile(_ path: String) -> DoctorFinding {
    let advice =
      "`tieout serve --rebuild` makes it anew of the topics; where it cannot be opened at all, remove it first."
    do {
      let layout = try DatabaseFile.value(path, "SELECT value FROM meta WHERE key = 'layout'")
      guard layout == SQLiteStore.layout(dimensions: configuration.dimensions) else {
        return finding(
          .warning, "store \(path)", "of other dimensions, or of another version",
          "It is emptied at the next start, and filled again from the topics.")
      }
      let size = (try? FileManager.default.attributesOfItem(atPath: path)[.size] as? Int) ?? 0
      return finding(.ok, "store \(path)", DoctorText.bytes(size))
    } catch { return finding(.failed, "store \(path)", "cannot be read: \(error)", advice) }
  }

  private func sharedStore(_ store: ServeStore) -> [DoctorFinding] {
    do {
      let settings = try PostgresSettings(store)
      let subject = "store \(settings)"
      var findings: [DoctorFinding] = []
      if !settings.isSafe {
        findings.append(
          finding(
            .warning, subject, "over the network, without a check of the server's certificate and name",
            "Breaks can be read and changed on the way: add ?sslmode=verify-full to serve.store.url."))
      }
      do {
        let found = try PostgresStore.inspect(settings, dimensions: configuration.dimensions)
        let says = "PostgreSQL \(found.version), schema \(settings.schema)"
        switch found.state {
        case .same: findings.append(finding(.ok, subject, says))
        case .missing: findings.append(finding(.ok, subject, says + ", will be made of the topics"))
        case .other:
          findings.append(
            finding(
              .warning, subject, says + ", of other dimensions, or of another version",
              "It is emptied at the next start, and filled again from the topics; not while another process is at work "
                + "with it."))
        case .forbidden:
          findings.append(
            finding(
              .failed, subject, says + ", which is missing and may not be created",
              "Create it for the user: CREATE SCHEMA … AUTHORIZATION …; or GRANT CREATE ON DATABASE."))
        }
        if abs(found.clock_ms - wallClock_ms()) > 2_000 {
          findings.append(
            DoctorFinding(
              .warning, "clock", subject, "its clock says \(formatTimestamp(found.clock_ms))",
              advice: "One of the two clocks is wrong: have both kept right."))
        }
      } catch {
        findings.append(
          finding(
            .failed, subject, "\(error)",
            "The server would not start: correct serve.store, or let this machine and user connect (pg_hba.conf)."))
      }
      return findings
    } catch { return [finding(.failed, "store", "\(error)", "Correct serve.store.url.")] }
  }

  private func stateFile(_ path: String) -> DoctorFinding {
    do {
      let dead = try DatabaseFile.value(path, "SELECT count(*) FROM deliveries WHERE dead = 1") ?? "0"
      guard dead == "0" else {
        return finding(
          .warning, "state \(path)", "\(DoctorText.count(Int(dead) ?? 0, "webhook")) given up",
          "Look at GET /v1/webhooks/deliveries?status=dead; POST …/{id}/retry sends one again.")
      }
      return finding(.ok, "state \(path)", "readable, no webhook was given up")
    } catch {
      return finding(
        .failed, "state \(path)", "cannot be read: \(error)",
        "Webhooks on their way and answers to repeated requests are in it: restore it, or move it away to go on without."
      )
    }
  }

  private func auditLog(_ path: String) -> DoctorFinding {
    do {
      let report = try AuditLog.verify(path: path)
      guard let problem = report.problem else {
        return finding(.ok, "audit \(path)", "\(report.head.number) entries, all sound")
      }
      if report.isCutOff {
        return finding(
          .warning, "audit \(path)", problem,
          "A crash has cut it off, or it is being written: the next start sets the rest aside as evidence.")
      }
      return finding(
        .failed, "audit \(path)", "\(problem); \(report.head.number) entries before it are sound",
        "The server does not start with it. Keep it as evidence, find out who changed it, and begin another.")
    } catch {
      return finding(
        .failed, "audit \(path)", "\(error)", "The server does not start without: give its user the right to the file.")
    }
  }
}
