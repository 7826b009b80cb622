import Configuration
import ConsoleStore
import Domain
import Foundation
import HTTPTypes
import Hummingbird
import Kafka
import Logging
import NIOCore
import Pipeline
import Synchronization

/// A file of the web console, served under `/` to whoever asks: it holds no data.
public struct ConsoleAsset: Sendable {
  /// `/`, `/console.js`.
  public var path: String
  public var contentType: String
  public var bytes: [UInt8]

  public init(path: String, contentType: String, bytes: [UInt8]) {
    self.path = path
    self.contentType = contentType
    self.bytes = bytes
  }
}

/// Everything that the API works with.
final class Console: Sendable {
  let configuration: Configuration
  let store: any ConsoleStore
  let gateway: Gateway
  let live: Mutex<LiveSettings>
  /// What the server shows over TLS; nil without.
  let certificate: LiveCertificate?
  let sessions: Sessions
  let audit: AuditLog
  let metrics = Metrics()
  private let records: Mutex<Intake>
  let state: StateStore
  let events = EventHub()
  let log: Logger
  let version: String
  let startedAt_ms = wallClock_ms()
  let endpoints: [Endpoint]
  /// Of the projector; where there is none (tests) the store is what it is.
  let followed: @Sendable () -> Projector.Status
  let addressLimiter: RateLimiter
  private let working = Mutex(0)
  let summaries = SummaryCache()
  let pages = PageCache()
  let writeOffs = WriteOffClaims()

  /// Refused attempts a second of one address, after which it is told to wait: nobody tries tokens faster.
  static let refusalRate = 5
  static let refusalBurst = 30

  init(
    configuration: Configuration, store: any ConsoleStore, gateway: Gateway, audit: AuditLog,
    state: StateStore, version: String, log: Logger, followed: @escaping @Sendable () -> Projector.Status
  ) throws {
    self.configuration = configuration
    self.store = store
    self.gateway = gateway
    self.audit = audit
    self.state = state
    self.version = version
    self.log = log
    self.followed = followed
    sessions = Sessions(configuration.serve)
    live = Mutex(LiveSettings(configuration.serve, sessions: sessions, log: log))
    certificate = try configuration.serve.tls.map { try LiveCertificate($0) }
    records = Mutex(try Intake(configuration))
    addressLimiter = RateLimiter(rate: Console.refusalRate, burst: Console.refusalBurst)
    endpoints = Console.makeEndpoints(configuration)
  }

  /// The settings of now.
  var settings: ServeSettings { live.withLock { $0 }.settings }
  var authenticator: Authenticator { live.withLock { $0 }.authenticator }

  /// Records are checked by the tables of now.
  var intake: Intake { records.withLock { $0 } }

  /// Looks at the tables' files as often as the daemon does.
  func takeUp(_ tables: TableFiles) throws {
    guard tables.refresh() else { return }
    let next = try Intake(tables.configuration)
    records.withLock { $0 = next }
  }

  static func makeEndpoints(_ configuration: Configuration) -> [Endpoint] {
    operationsEndpoints(configuration) + sessionEndpoints() + breakEndpoints(configuration) + actionEndpoints()
      + orderEndpoints(configuration) + sumEndpoints(configuration) + catalogueEndpoints()
      + eventEndpoints(configuration)
      + administrationEndpoints()
  }

  // MARK: - The way of a request

  /// Checks who sends the request and whether they may, and answers it. Nothing is reachable around this.
  func answer(_ request: Request, _ context: ConsoleContext, _ endpoint: Endpoint) async -> Response {
    let started = DispatchTime.now().uptimeNanoseconds
    var context = context
    var response: Response
    do {
      try await admit(request, &context, endpoint)
      let isCounted = !endpoint.isStream && endpoint.access != .open
      if isCounted { try beginWork() }
      defer { if isCounted { working.withLock { $0 -= 1 } } }
      response = try await endpoint.handle(self, request, context)
    } catch {
      response = await refuse(error, request, context, endpoint)
    }
    Console.secure(&response, isTLS: settings.tls != nil)
    let seconds = Double(DispatchTime.now().uptimeNanoseconds - started) / 1e9
    metrics.request(
      method: request.method.rawValue, route: endpoint.path, status: response.status.code, seconds: seconds)
    return response
  }

  private func beginWork() throws {
    let isFull = working.withLock { count in
      if count >= settings.concurrency { return true }
      count += 1
      return false
    }
    if isFull { throw Problem.busy("too many requests are being worked on") }
  }

  private func admit(_ request: Request, _ context: inout ConsoleContext, _ endpoint: Endpoint) async throws {
    let now = wallClock_ms()
    let live = live.withLock { $0 }
    let permission: Permission
    switch endpoint.access {
    case .open: return
    case .needs(let needed), .needsEverything(let needed): permission = needed
    }
    do {
      guard let principal = try await live.authenticator.principal(of: request, now_ms: now) else {
        throw Problem.unauthorized("a bearer token or a session is needed")
      }
      context.principal = principal
    } catch let problem as Problem where problem.status == .unauthorized {
      // Whoever shows a good token is let in: behind a proxy all come from one address.
      if let wait = addressLimiter.take(context.address, now_ms: now) { throw Console.tooMany(wait) }
      throw problem
    }
    let principal = context.principal!
    if let wait = live.limiter.take(principal.name, now_ms: now) { throw Console.tooMany(wait) }
    if principal.means == .session, ![.get, .head].contains(request.method) {
      try live.authenticator.checkGenuine(request)
    }
    guard principal.may(permission) else {
      throw Problem.forbidden("this needs the permission '\(permission.rawValue)'")
    }
    if case .needsEverything = endpoint.access, !principal.scope.isEverything {
      throw Problem.forbidden("this is not shown to those who may see some rows only")
    }
  }

  static func tooMany(_ wait_s: Int) -> Problem {
    var problem = Problem(.tooManyRequests, "too_many_requests", "too many requests; wait \(wait_s) s")
    problem.headers[.retryAfter] = "\(wait_s)"
    return problem
  }

  private func refuse(
    _ error: any Error, _ request: Request, _ context: ConsoleContext, _ endpoint: Endpoint
  ) async -> Response {
    var problem: Problem
    switch error {
    case let known as Problem: problem = known
    case let kafka as KafkaError:
      log.error("Kafka has not taken a record", metadata: ["error": "\(kafka)"])
      problem = .busy("Kafka has not acknowledged it: \(kafka.message)", retryAfter_s: 2)
    case let unavailable as StoreUnavailable:
      log.error("the store does not answer", metadata: ["error": "\(unavailable)"])
      problem = .busy("the store does not answer", retryAfter_s: 5)
    case is CancellationError:
      problem = .busy("the query took too long; ask for less")
    case let audit as AuditError:
      log.critical("the audit log cannot be written: nothing is done", metadata: ["error": "\(audit)"])
      problem = .busy("the audit log cannot be written", retryAfter_s: 30)
    default:
      // What went wrong inside is for the log, not for whoever asks.
      log.error(
        "a request failed", metadata: ["route": "\(endpoint.path)", "error": "\(error)"])
      problem = Problem(.internalServerError, "internal", "the request could not be answered")
    }
    let isDenied = [.unauthorized, .forbidden, .tooManyRequests].contains(problem.status)
    if isDenied {
      metrics.add("tieout_serve_refused_total{reason=\"\(problem.code)\"}")
      do {
        try audit.write(
          AuditLog.Entry(
            actor: context.principal?.name ?? "", event: "\(request.method.rawValue) \(endpoint.path)",
            outcome: .refused, address: context.address,
            detail: [("status", .int(problem.status.code)), ("why", .string(problem.detail))]))
      } catch { log.critical("the audit log cannot be written", metadata: ["error": "\(error)"]) }
    }
    return problem.response
  }

  /// A query within the time that a request has; then it is interrupted. The timer is the connection's: cheaper than a
  /// task of its own.
  func limited<T: Sendable>(
    _ context: ConsoleContext, _ body: @escaping @Sendable () async throws -> T
  ) async throws -> T {
    let query = Task { try await body() }
    let timer = context.channel.eventLoop.scheduleTask(in: .milliseconds(settings.requestTimeout_ms)) { query.cancel() }
    defer { timer.cancel() }
    return try await withTaskCancellationHandler {
      try await query.value
    } onCancel: {
      query.cancel()
    }
  }

  /// Headers of every answer. Pages may run and load what this server gives, and nothing else.
  private static let secureHeaders: [(HTTPField.Name, String)] = [
    ("X-Content-Type-Options", "nosniff"), ("X-Frame-Options", "DENY"), ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"), ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=()"),
    (
      "Content-Security-Policy",
      "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        + "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ), ("Cache-Control", "no-store"),
  ].map { (HTTPField.Name($0.0)!, $0.1) }

  static func secure(_ response: inout Response, isTLS: Bool) {
    for (name, value) in secureHeaders where response.headers[name] == nil { response.headers[name] = value }
    if isTLS, response.headers[.strictTransportSecurity] == nil {
      response.headers[.strictTransportSecurity] = "max-age=31536000"
    }
  }
}
