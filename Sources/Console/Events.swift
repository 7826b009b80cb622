import Configuration
import ConsoleStore
import Foundation
import HTTPTypes
import Hummingbird
import NIOCore
import Pipeline
import Synchronization

/// Wakes those who wait for changes.
final class EventHub: Sendable {
  static let maximumListeners = 256

  private struct State {
    var listeners: [Int: AsyncStream<Void>.Continuation] = [:]
    var next = 0
    var isStopped = false
  }
  private let state = Mutex(State())

  var count: Int { state.withLock { $0.listeners.count } }

  /// A listener is woken at least once after every change; several changes may wake it once.
  func listen() -> (id: Int, stream: AsyncStream<Void>)? {
    let (stream, continuation) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
    let id = state.withLock { state -> Int? in
      guard !state.isStopped, state.listeners.count < EventHub.maximumListeners else { return nil }
      state.next += 1
      state.listeners[state.next] = continuation
      return state.next
    }
    return id.map { ($0, stream) }
  }

  func leave(_ id: Int) { state.withLock { $0.listeners.removeValue(forKey: id) }?.finish() }

  /// Something has changed, or it is time for a sign of life.
  func notify() { for listener in state.withLock({ Array($0.listeners.values) }) { listener.yield() } }

  /// Ends every stream there is; its client comes back and shows again who it is.
  func dismiss() {
    let all = state.withLock { state in
      defer { state.listeners = [:] }
      return Array(state.listeners.values)
    }
    for listener in all { listener.finish() }
  }

  func stop() {
    let all = state.withLock { state in
      state.isStopped = true
      defer { state.listeners = [:] }
      return Array(state.listeners.values)
    }
    for listener in all { listener.finish() }
  }
}

extension Console {
  /// Changes that one turn of a listener reads; what changed more often meanwhile comes once, as it is now.
  static let eventPage = 500
  static let heartbeat_ms = 10_000
  /// A stream ends then, and its client comes back and shows again who it is.
  static let streamLifetime_ms: Int64 = 900_000

  static func eventEndpoints(_ configuration: Configuration) -> [Endpoint] {
    let filters = filterParameters(configuration)
    return [
      Endpoint(
        method: .get, path: "/v1/events", operation: "streamEvents", tag: "events",
        help: "Server-sent events: `break` for every break that changes, `status` every few seconds, `reset` where the "
          + "store was made anew and lists must be read again.",
        access: .needs(.read),
        parameters: filters + [
          .init(
            name: "Last-Event-ID", schema: Schemas.text, help: "Goes on behind this event.", isHeader: true)
        ], answers: [.init(status: 200, help: "Events.", type: "text/event-stream")], isStream: true,
        handle: { try await $0.streamEvents($1, $2, filters) })
    ]
  }

  private func streamEvents(
    _ request: Request, _ context: ConsoleContext, _ parameters: [Endpoint.Parameter]
  ) async throws -> Response {
    var filter = try filter(try Query(request, parameters))
    let generation = String(try store.generation.prefix(8))
    var from = try await store.sequence()
    var isReset = false
    if let last = request.headers[HTTPField.Name("Last-Event-ID")!] {
      let parts = last.split(separator: "-")
      if parts.count == 2, parts[0] == generation, let sequence = Int64(parts[1]), sequence >= 0, sequence <= from {
        from = sequence
      } else {
        isReset = true
      }
    }
    guard events.count < EventHub.maximumListeners else {
      throw Problem.busy("too many listeners", retryAfter_s: 10)
    }
    filter.after = from
    let first = (filter: filter, scope: context.principal!.scope, isReset: isReset)
    let (store, events, followed, channel) = (store, events, followed, context.channel)
    let body = ResponseBody { writer in
      guard let (id, stream) = events.listen() else { return try await writer.finish(nil) }
      defer { events.leave(id) }
      channel.closeFuture.whenComplete { _ in events.leave(id) }
      var filter = first.filter
      try await writer.write(
        ByteBuffer(string: first.isReset ? "retry: 2000\nevent: reset\ndata: {}\n\n" : "retry: 2000\n\n"))
      events.notify()
      let end_ms = wallClock_ms() + Console.streamLifetime_ms
      for await _ in stream {
        if wallClock_ms() > end_ms { break }
        var isMore = true
        while isMore {
          let page = try await store.breaks(
            filter, scope: first.scope, sort: .updatedUp, after: nil, limit: Console.eventPage)
          isMore = page.next != nil
          var text = ""
          for row in page.rows { text += "event: break\ndata: \(row)\n\n" }
          if !page.rows.isEmpty {
            filter.after = page.sequence
            text += "id: \(generation)-\(page.sequence)\nevent: mark\ndata: {}\n\n"
          }
          if !text.isEmpty { try await writer.write(ByteBuffer(string: text)) }
        }
        let status = followed()
        let now: JSON = [
          "sequence": .int(Int(status.sequence)), "lag": .int(Int(status.lag)), "is_ready": .bool(status.isCaughtUp),
        ]
        try await writer.write(ByteBuffer(string: "event: status\ndata: \(now.text)\n\n"))
      }
      try await writer.finish(nil)
    }
    return Response(
      status: .ok, headers: [.contentType: "text/event-stream", .cacheControl: "no-store"], body: body)
  }
}
