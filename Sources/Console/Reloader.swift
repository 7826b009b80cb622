import Configuration
import Foundation
import Logging
import Pipeline

/// Takes a changed configuration over while the server runs: what can be, is; the rest is named, and takes effect with
/// the next start. A file that cannot be read changes nothing.
actor Reloader {
  struct Outcome: Sendable, Equatable {
    /// Keys that have taken effect, `serve.tls.certificate` also where the file holds another certificate.
    var applied: [String] = []
    /// Keys that have not, and why.
    var refused: [Refusal] = []
    /// Why nothing was looked at.
    var failure: String?
  }
  struct Refusal: Sendable, Equatable {
    var key: String
    var reason: String
  }

  /// Keys named in one entry of the audit log.
  private static let maximumTold = 50

  private let console: Console
  private let load: @Sendable () throws -> Configuration
  private let level: LogLevelSwitch?
  /// What is in effect.
  private var active: Configuration

  /// - Parameter load: Reads the file again, with what the command line puts in place of it.
  init(console: Console, level: LogLevelSwitch?, load: @escaping @Sendable () throws -> Configuration) {
    self.console = console
    self.load = load
    self.level = level
    active = console.configuration
  }

  /// Keys that can be changed at any time, with everything below them.
  private static let live = [
    "serve.tokens", "serve.jwt", "serve.webhooks", "serve.approval_limit", "serve.reason_codes", "serve.session",
    "serve.limits.rate", "serve.limits.burst", "serve.limits.body", "serve.limits.stream", "serve.limits.concurrency",
    "logging.level",
  ]
  private static let transport = ["serve.tls.certificate", "serve.tls.key"]

  private static func isBelow(_ key: String, _ keys: [String]) -> Bool {
    keys.contains { key == $0 || key.hasPrefix($0 + ".") }
  }

  /// Why a key waits for the next start.
  private static func reason(_ key: String) -> String {
    switch key {
    case "serve.listen", "serve.limits.connections", "serve.limits.timeout": "the socket was opened with it"
    case "serve.directory": "the store is open"
    case _ where key.hasPrefix("serve.store"): "the store is open"
    case "serve.tls.client_ca": "the authorities of clients are read at the start"
    case _ where key.hasPrefix("serve.tls"): "TLS is switched on and off at the start"
    case "serve.metrics_open": "the routes are made at the start"
    default: "it is read at the start"
    }
  }

  func reload() -> Outcome {
    var outcome = Outcome()
    let next: Configuration
    do {
      next = try load()
    } catch {
      outcome.failure = "\(error)"
      console.log.error("the configuration cannot be read; nothing has changed", metadata: ["error": "\(error)"])
      note(outcome)
      return outcome
    }
    let hasTLS = active.serve.tls != nil && next.serve.tls != nil
    let taken = { (key: String) in
      Reloader.isBelow(key, Reloader.live) || (hasTLS && Reloader.isBelow(key, Reloader.transport))
    }
    for key in next.changedKeys(since: active) {
      if taken(key) {
        outcome.applied.append(key)
      } else {
        outcome.refused.append(Refusal(key: key, reason: Reloader.reason(key)))
      }
    }
    var settings = next.serve.live(over: active.serve)
    var certificate: LiveCertificate.Pair?
    if hasTLS, let tls = settings.tls {
      do {
        certificate = try LiveCertificate.read(tls)
      } catch {
        settings.tls = active.serve.tls
        outcome.applied.removeAll { Reloader.isBelow($0, Reloader.transport) }
        outcome.refused.append(Refusal(key: "serve.tls.certificate", reason: "the files cannot be used: \(error)"))
      }
    }
    // Without a word in the audit log nothing is done.
    guard note(outcome) else {
      outcome.failure = "the audit log cannot be written"
      (outcome.applied, outcome.refused) = ([], [])
      return outcome
    }
    if let certificate, console.certificate?.use(certificate) == true,
      !outcome.applied.contains(where: { Reloader.isBelow($0, Reloader.transport) })
    {
      outcome.applied.append("serve.tls.certificate")
    }
    console.apply(settings)
    level?.level = Logger.Level(rawValue: next.logLevel) ?? .info
    let tls = settings.tls
    active.serve = settings
    active.logLevel = next.logLevel
    active.noteEffective(of: next) { key in
      taken(key) && (tls == next.serve.tls || !Reloader.isBelow(key, Reloader.transport))
    }
    tell(outcome)
    return outcome
  }

  /// - Returns: whether it stands in the audit log.
  @discardableResult
  private func note(_ outcome: Outcome) -> Bool {
    func told(_ keys: [String]) -> JSON { .array(keys.prefix(Reloader.maximumTold).map { .string($0) }) }
    var detail = [("applied", told(outcome.applied)), ("refused", told(outcome.refused.map(\.key)))]
    if let failure = outcome.failure { detail = [("why", .string(String(failure.prefix(1_000))))] }
    do {
      try console.audit.write(
        AuditLog.Entry(
          actor: "", event: "configuration reloaded", outcome: outcome.failure == nil ? .done : .failed, detail: detail)
      )
      return true
    } catch {
      console.log.critical("the audit log cannot be written: nothing is reloaded", metadata: ["error": "\(error)"])
      return false
    }
  }

  private func tell(_ outcome: Outcome) {
    for refusal in outcome.refused {
      console.log.warning(
        "a change waits for the next start", metadata: ["key": "\(refusal.key)", "reason": "\(refusal.reason)"])
    }
    console.log.notice(
      "configuration reloaded",
      metadata: [
        "applied": "\(outcome.applied.isEmpty ? "nothing has changed" : outcome.applied.joined(separator: ", "))"
      ])
  }
}

extension ServeSettings {
  /// What can be changed at any time from these, everything else from `old`.
  func live(over old: ServeSettings) -> ServeSettings {
    var merged = old
    merged.tokens = tokens
    merged.jwt = jwt
    merged.webhooks = webhooks
    merged.approvalLimit_u = approvalLimit_u
    merged.reasonCodes = reasonCodes
    merged.requestRate = requestRate
    merged.requestBurst = requestBurst
    merged.bodyLimit = bodyLimit
    merged.streamLimit = streamLimit
    merged.concurrency = concurrency
    merged.sessionLifetime_ms = sessionLifetime_ms
    merged.sessionIdle_ms = sessionIdle_ms
    if let tls, merged.tls != nil {
      merged.tls?.certificate = tls.certificate
      merged.tls?.key = tls.key
    }
    return merged
  }
}

extension Console {
  /// Goes by other settings from now on. Whoever has lost a right has lost it at once: sessions that were begun with a
  /// token that is gone or may something else now end, and listeners have to show again who they are.
  func apply(_ settings: ServeSettings) {
    let old = live.withLock { live in
      let old = live
      live = LiveSettings(settings, after: old, log: log)
      return old
    }
    let keys = authenticator.keys
    Task { await keys?.expire() }
    sessions.limit(lifetime_ms: settings.sessionLifetime_ms, idle_ms: settings.sessionIdle_ms)
    guard settings.tokens != old.settings.tokens || settings.jwt != old.settings.jwt else { return }
    let kept = Set(settings.tokens.filter { old.settings.tokens.contains($0) }.map { "token:\($0.name)" })
    let keepsSigned = settings.jwt == old.settings.jwt
    sessions.endAll { principal in
      principal.name.hasPrefix("token:") ? !kept.contains(principal.name) : !keepsSigned
    }
    events.dismiss()
  }
}
