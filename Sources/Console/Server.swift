import AsyncHTTPClient
import Configuration
import ConsoleStore
import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdCore
import HummingbirdTLS
import Kafka
import Logging
import NIOCore
import NIOSSL
import Pipeline
import ServiceLifecycle

/// The process behind `tieout serve`: store, projector, gateway, audit log and HTTP server.
public struct ConsoleServer: Sendable {
  public struct Options: Sendable {
    /// Empties the store first; the topics fill it again.
    public var rebuild = false
    public var version = ""
    public var assets = ConsolePage.assets
    /// Told once the server listens, with its port.
    public var onListening: @Sendable (Int) -> Void = { _ in }
    /// Reads the configuration again on SIGHUP; nil: the signal does nothing.
    public var load: (@Sendable () throws -> Configuration)?
    /// Of the log, for a configuration that is read again.
    public var logLevel: LogLevelSwitch?

    public init() {}
  }

  private let configuration: Configuration
  private let options: Options
  private let log: Logger

  public init(configuration: Configuration, options: Options, log: Logger) {
    self.configuration = configuration
    self.options = options
    self.log = log
  }

  /// The topics that the store is made of.
  public static func topics(_ configuration: Configuration) -> Projector.Topics {
    var kinds: [String: StoreTopicKind] = [
      configuration.breaksTopic: .breaks, configuration.actionsTopic: .actions,
      configuration.deadLettersTopic: .deadLetters, configuration.totalsTopic: .cells,
    ]
    for topic in configuration.serve.aggregates.values where kinds[topic] == nil { kinds[topic] = .cells }
    if configuration.serve.keepsRecords {
      for source in configuration.sources where kinds[source.topic] == nil { kinds[source.topic] = .records }
    }
    return Projector.Topics(kinds: kinds, required: [configuration.breaksTopic])
  }

  /// The store that is configured: SQLite in `serve.directory`, or a shared one.
  public static func openStore(_ configuration: Configuration) throws -> any ConsoleStore {
    guard let shared = configuration.serve.store else {
      return try SQLiteStore(
        path: configuration.serve.directory + "/store.db", dimensions: configuration.dimensions)
    }
    return try PostgresStore(PostgresSettings(shared), dimensions: configuration.dimensions)
  }

  /// The OpenAPI description as JSON.
  public static func openAPI(_ configuration: Configuration, version: String) -> String {
    Console.describe(Console.makeEndpoints(configuration), version: version).text
  }

  /// Serves until SIGTERM or SIGINT.
  public func run() async throws {
    // Before all else: one that comes too early must not end the process.
    signal(SIGHUP, SIG_IGN)
    let settings = configuration.serve
    try FileManager.default.createDirectory(
      atPath: settings.directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    // The lock on the audit log keeps a second process out of the folder.
    let audit = try AuditLog(path: settings.directory + "/audit.log")
    let store = try ConsoleServer.openStore(configuration)
    if options.rebuild { try store.clear() }
    let state = try StateStore.open(configuration)
    let log = log
    let kafkaLog: KafkaLogHandler = { level, facility, message in
      if level <= 4 { log.warning("\(facility): \(message)") }
    }
    let gateway = Gateway(properties: configuration.clientProperties(.producer), log: kafkaLog)
    let hub = HubBox()
    let projector = Projector(
      store: store, topics: ConsoleServer.topics(configuration),
      consumerProperties: configuration.clientProperties(.consumer(group: "", member: "")).filter {
        !["group.id", "isolation.level", "group.instance.id"].contains($0.name)
      }, adminProperties: configuration.clientProperties(.admin), outputs: OutputReader(configuration),
      log: { isProblem, message in log.log(level: isProblem ? .warning : .info, "\(message)") },
      onChange: { _ in hub.hub?.notify() }, onRestart: { hub.hub?.dismiss() })
    let console = try Console(
      configuration: configuration, store: store, gateway: gateway, audit: audit, state: state,
      version: options.version, log: log, followed: { projector.status })
    hub.hub = console.events
    try audit.write(AuditLog.Entry(actor: "", event: "server started", outcome: .done))
    gateway.start()
    let topics = ConsoleTopics(configuration, log: log)
    topics.start()
    projector.start()
    defer {
      projector.stop()
      topics.stop()
      gateway.stop()
    }
    if settings.tls == nil, !["127.0.0.1", "::1", "localhost"].contains(settings.host) {
      log.warning("the API speaks plain HTTP on \(settings.host): tokens can be read on the way")
    }
    if settings.tokens.isEmpty, settings.jwt == nil {
      log.warning("neither serve.tokens nor serve.jwt is configured: nobody can sign in")
    }
    let hangUps = options.load.map { load in
      let reloader = Reloader(console: console, level: options.logLevel, load: load)
      return ConsoleServer.onHangUp { Task { _ = await reloader.reload() } }
    }
    defer { hangUps?.cancel() }
    let client = HTTPClient(eventLoopGroupProvider: .singleton, configuration: ConsoleServer.clientConfiguration)
    var application = try console.application(assets: options.assets, onListening: options.onListening)
    application.addServices(WebhookService(console: console, client: client))
    if configuration.followsTables { application.addServices(TableService(console: console)) }
    do {
      try await application.runService()
    } catch {
      try? await client.shutdown()
      throw error
    }
    try await client.shutdown()
    try audit.write(AuditLog.Entry(actor: "", event: "server stopped", outcome: .done))
  }

  private static func onHangUp(_ body: @escaping @Sendable () -> Void) -> any DispatchSourceSignal {
    let source = DispatchSource.makeSignalSource(signal: SIGHUP, queue: .global())
    source.setEventHandler(handler: body)
    source.resume()
    return source
  }

  /// Nobody is sent on to another address, neither for keys nor with breaks; and whoever cannot be reached is tried
  /// again later, not at once.
  static var clientConfiguration: HTTPClient.Configuration {
    var configuration = HTTPClient.Configuration()
    configuration.redirectConfiguration = .disallow
    configuration.connectionPool.retryConnectionEstablishment = false
    configuration.timeout.connect = .seconds(5)
    return configuration
  }
}

/// Set once, before the projector starts.
private final class HubBox: @unchecked Sendable { var hub: EventHub? }

/// Wakes listeners now and then, so that they see that the connection lives; and lets them go at the end.
struct HeartbeatService: Service {
  let hub: EventHub

  func run() async throws {
    await withGracefulShutdownHandler {
      while !Task.isShuttingDownGracefully, !Task.isCancelled {
        try? await cancelWhenGracefulShutdown {
          try await Task.sleep(for: .milliseconds(Console.heartbeat_ms))
        }
        hub.notify()
      }
    } onGracefulShutdown: {
      hub.stop()
    }
  }
}

/// Follows the files of tables, by which records are checked that are taken in.
struct TableService: Service {
  let console: Console

  func run() async throws {
    guard let tables = TableFiles(console.configuration, log: console.log) else { return }
    let interval_ms = tables.interval_ms
    while !Task.isShuttingDownGracefully, !Task.isCancelled {
      try? await cancelWhenGracefulShutdown { try await Task.sleep(for: .milliseconds(interval_ms)) }
      do { try console.takeUp(tables) } catch {
        console.log.error("the tables stay as they are", metadata: ["error": "\(error)"])
      }
    }
  }
}

extension Console {
  /// The HTTP server.
  func application(
    assets: [ConsoleAsset], onListening: @escaping @Sendable (Int) -> Void = { _ in }
  ) throws -> Application<ConsoleResponder> {
    let configuration = ApplicationConfiguration(
      address: .hostname(settings.host, port: settings.port), serverName: nil, backlog: 1_024,
      reuseAddress: true, availableConnectionsDelegate: MaximumAvailableConnections(settings.connections))
    let http = HTTP1Channel.Configuration(
      idleTimeout: .milliseconds(max(settings.requestTimeout_ms, 1_000)),
      httpDecoderConfiguration: .init(
        maxHeaderFieldSize: 32 << 10, maxHeaderListSize: 64 << 10, maxHeaderFieldCount: 100))
    let server: HTTPServerBuilder
    if let tls = settings.tls, let certificate {
      server = try .tls(.http1(configuration: http), tlsConfiguration: certificate.configuration(tls))
    } else {
      server = .http1(configuration: http)
    }
    return Application(
      responder: ConsoleResponder(self, assets: assets), server: server, configuration: configuration,
      services: [HeartbeatService(hub: events)],
      onServerRunning: { channel in onListening(channel.localAddress?.port ?? 0) }, logger: log)
  }
}

extension PostgresSettings {
  init(_ store: ServeStore) throws {
    try self.init(url: store.url, password: store.password?.reveal, schema: store.schema)
  }
}

/// Leads every request to its endpoint, and everything else nowhere.
struct ConsoleResponder: HTTPResponder {
  typealias Context = ConsoleContext

  private let console: Console
  private let router: RouterResponder<ConsoleContext>
  private let patterns: [(parts: [Substring], method: HTTPRequest.Method)]
  private let assets: [String: ServedAsset]

  init(_ console: Console, assets: [ConsoleAsset]) {
    self.console = console
    let router = Router(context: ConsoleContext.self)
    for endpoint in console.endpoints {
      router.on(RouterPath(endpoint.path), method: endpoint.method) { request, context in
        await console.answer(request, context, endpoint)
      }
    }
    self.router = router.buildResponder()
    patterns = console.endpoints.map { ($0.path.split(separator: "/"), $0.method) }
    self.assets = Dictionary(assets.map { ($0.path, ServedAsset($0)) }) { first, _ in first }
  }

  func respond(to request: Request, context: ConsoleContext) async throws -> Response {
    let path = request.uri.path
    var response: Response
    if [.get, .head].contains(request.method), let asset = assets[path] {
      response = asset.response(to: request)
    } else {
      let parts = path.split(separator: "/", omittingEmptySubsequences: false).dropFirst()
      let methods = patterns.filter { pattern in
        pattern.parts.count == parts.count
          && zip(pattern.parts, parts).allSatisfy { $0.hasPrefix("{") ? !$1.isEmpty : $0 == $1 }
      }.map(\.method)
      if methods.contains(request.method) { return try await router.respond(to: request, context: context) }
      if methods.isEmpty {
        response = Problem.notFound("there is nothing here").response
      } else {
        var problem = Problem(.methodNotAllowed, "method_not_allowed", "this method is not known here")
        problem.headers[.allow] = methods.map(\.rawValue).joined(separator: ", ")
        response = problem.response
      }
    }
    Console.secure(&response, isTLS: console.settings.tls != nil)
    console.metrics.request(
      method: "", route: "other", status: response.status.code, seconds: 0)
    return response
  }
}
