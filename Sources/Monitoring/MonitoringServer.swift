import Configuration
import NIOCore
import NIOHTTP1
import NIOPosix

/// Answers probes and Prometheus, on a thread of its own: nothing that is asked here reaches a worker but a look at the
/// status it has published.
public final class MonitoringServer: Sendable {
  /// What is asked, answered from any thread.
  public struct Sources: Sendable {
    public var metrics: @Sendable () -> String
    /// Whether the process does its work; not: a probe may restart it.
    public var isHealthy: @Sendable () -> Bool
    public var isReady: @Sendable () -> Bool

    public init(
      metrics: @escaping @Sendable () -> String, isHealthy: @escaping @Sendable () -> Bool,
      isReady: @escaping @Sendable () -> Bool
    ) {
      self.metrics = metrics
      self.isHealthy = isHealthy
      self.isReady = isReady
    }
  }

  /// Connections at once; a request and its headers must have come within the time, and the next one too.
  static let maximumConnections = 64
  static let idle_s: Int64 = 30

  private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
  private let channel: any Channel

  /// Listens.
  /// - Throws: where the address cannot be had.
  public init(_ settings: MonitoringSettings, _ sources: Sources) throws {
    let token = settings.token?.reveal
    let loop = group.next()
    // One thread: what is open is only counted on it.
    let count = NIOLoopBoundBox.makeBoxSendingValue(0, eventLoop: loop)
    do {
      channel = try ServerBootstrap(group: group)
        .serverChannelOption(.backlog, value: 64)
        .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
        .childChannelInitializer { channel in
          channel.eventLoop.makeCompletedFuture {
            guard count.value < MonitoringServer.maximumConnections else {
              channel.close(promise: nil)
              return
            }
            count.value += 1
            channel.closeFuture.whenComplete { _ in count.value -= 1 }
            let pipeline = channel.pipeline.syncOperations
            try pipeline.configureHTTPServerPipeline(withErrorHandling: true)
            try pipeline.addHandler(IdleStateHandler(readTimeout: .seconds(MonitoringServer.idle_s)))
            try pipeline.addHandler(MonitoringHandler(sources: sources, token: token))
          }
        }
        .bind(host: settings.host, port: settings.port).wait()
    } catch {
      try? group.syncShutdownGracefully()
      throw error
    }
  }

  public var port: Int { channel.localAddress?.port ?? 0 }

  public func stop() {
    try? channel.close().wait()
    try? group.syncShutdownGracefully()
  }
}

private final class MonitoringHandler: ChannelInboundHandler {
  typealias InboundIn = HTTPServerRequestPart
  typealias OutboundOut = HTTPServerResponsePart

  private let sources: MonitoringServer.Sources
  private let token: String?
  private var head: HTTPRequestHead?

  init(sources: MonitoringServer.Sources, token: String?) {
    self.sources = sources
    self.token = token
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data) {
    case .head(let head): self.head = head
    // Nobody has anything to send here.
    case .body: context.close(promise: nil)
    case .end:
      guard let head else { return }
      self.head = nil
      answer(head, context)
    }
  }

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if event is IdleStateHandler.IdleStateEvent { context.close(promise: nil) }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

  private func answer(_ head: HTTPRequestHead, _ context: ChannelHandlerContext) {
    var headers = HTTPHeaders([
      ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"), ("Content-Type", "text/plain"),
    ])
    var status = HTTPResponseStatus.ok
    var text = "ok\n"
    let path = head.uri.prefix { $0 != "?" }
    switch path {
    case _ where !["/healthz", "/readyz", "/metrics"].contains(path):
      (status, text) = (.notFound, "there is nothing here\n")
    case _ where ![.GET, .HEAD].contains(head.method):
      (status, text) = (.methodNotAllowed, "this method is not known here\n")
      headers.add(name: "Allow", value: "GET, HEAD")
    case "/healthz":
      if !sources.isHealthy() { (status, text) = (.serviceUnavailable, "stopping, or standing still\n") }
    case "/readyz":
      if !sources.isReady() { (status, text) = (.serviceUnavailable, "starting\n") }
    default:
      if isAllowed(head) {
        text = sources.metrics()
        headers.replaceOrAdd(name: "Content-Type", value: "text/plain; version=0.0.4; charset=utf-8")
      } else {
        (status, text) = (.unauthorized, "a bearer token is needed\n")
        headers.add(name: "WWW-Authenticate", value: "Bearer")
      }
    }
    headers.add(name: "Content-Length", value: "\(text.utf8.count)")
    if !head.isKeepAlive { headers.add(name: "Connection", value: "close") }
    context.write(
      wrapOutboundOut(.head(HTTPResponseHead(version: head.version, status: status, headers: headers))), promise: nil)
    if head.method != .HEAD {
      context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(string: text)))), promise: nil)
    }
    let end = context.writeAndFlush(wrapOutboundOut(.end(nil)))
    if !head.isKeepAlive {
      let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
      end.whenComplete { _ in bound.value.close(promise: nil) }
    }
  }

  private func isAllowed(_ head: HTTPRequestHead) -> Bool {
    guard let token else { return true }
    let given = Array((head.headers.first(name: "Authorization") ?? "").utf8)
    let wanted = Array("Bearer \(token)".utf8)
    // As long for every wrong one of the same length.
    guard given.count == wanted.count else { return false }
    return zip(given, wanted).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
  }
}
