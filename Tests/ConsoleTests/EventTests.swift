import AsyncHTTPClient
import Configuration
import ConsoleStore
import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import NIOCore
import Testing

@testable import Console

@Suite(.serialized) struct EventTests {
  /// Reads events until there are as many of a name.
  private static func read(
    port: Int, _ uri: String, _ headers: [(String, String)] = [], until name: String, count: Int,
    whenOpen: @escaping @Sendable () throws -> Void = {}
  ) async throws -> [(event: String, data: String, id: String)] {
    var request = HTTPClientRequest(url: "http://127.0.0.1:\(port)\(uri)")
    request.headers.add(name: "Authorization", value: "Bearer token-viewer")
    for (key, value) in headers { request.headers.add(name: key, value: value) }
    let response = try await HTTPClient.shared.execute(request, timeout: .seconds(20))
    #expect(response.headers.first(name: "content-type") == "text/event-stream")
    var text = ""
    var events: [(event: String, data: String, id: String)] = []
    var isOpen = false
    for try await part in response.body {
      text += String(buffer: part)
      while let end = text.range(of: "\n\n") {
        var event = (event: "", data: "", id: "")
        for line in text[..<end.lowerBound].split(separator: "\n") {
          if line.hasPrefix("event: ") { event.event = String(line.dropFirst(7)) }
          if line.hasPrefix("data: ") { event.data = String(line.dropFirst(6)) }
          if line.hasPrefix("id: ") { event.id = String(line.dropFirst(4)) }
        }
        text = String(text[end.upperBound...])
        if !event.event.isEmpty { events.append(event) }
        if event.event == "status", !isOpen {
          isOpen = true
          try whenOpen()
        }
      }
      if events.filter({ $0.event == name }).count >= count { break }
    }
    return events
  }

  @Test func changesComeAsTheyHappen() async throws {
    let test = try TestConsole()
    try test.add([TestBreak(order: "SO-OLD")])
    try await test.run { client in
      let clock = Date()
      let delay = Box(0.0)
      let events = try await Self.read(
        port: client.port, "/v1/events?dimension.country=NO", until: "break", count: 2,
        whenOpen: {
          try test.cluster.produce(
            test.configuration.breaksTopic,
            ["SO-1", "SO-2", "SO-3"].map { order in
              let made = TestBreak(order: order, country: order == "SO-2" ? "DE" : "NO")
              return (key: made.id, value: made.json, partition: 0)
            })
          delay.value = Date().timeIntervalSince(clock)
        })
      let came = Date().timeIntervalSince(clock) - delay.value
      let orders = events.filter { $0.event == "break" }.map {
        (try? JSONDecoder().decode(JSON.self, from: Data($0.data.utf8)))?["order"]?.stringValue
      }
      #expect(orders == ["SO-1", "SO-3"], "only what passes the filter, only what is new")
      #expect(came < 1.5, "within a second or so: \(came)")
      // A client that was away goes on where it was.
      let generation = try test.store.generation.prefix(8)
      let again = try await Self.read(
        port: client.port, "/v1/events", [("Last-Event-ID", "\(generation)-2")], until: "mark", count: 1)
      #expect(again.filter { $0.event == "break" }.count == 2)
      #expect(again.last?.id == "\(generation)-4")
      let reset = try await Self.read(
        port: client.port, "/v1/events", [("Last-Event-ID", "other-1")], until: "status", count: 1)
      #expect(reset.first?.event == "reset", "the store was made anew: lists must be read again")
    }
  }

  @Test func listenersAreBounded() {
    let hub = EventHub()
    let all = (0..<EventHub.maximumListeners).map { _ in hub.listen() }
    #expect(all.allSatisfy { $0 != nil })
    #expect(hub.listen() == nil)
    hub.leave(all[0]!.id)
    #expect(hub.listen() != nil)
    hub.stop()
    #expect(hub.listen() == nil)
  }
}

@Suite(.serialized) struct WebhookTests {
  /// A receiver that answers as it is told and keeps what it got.
  final class Receiver: @unchecked Sendable {
    var got: [(headers: HTTPFields, body: String)] = []
    var status = HTTPResponse.Status.ok
  }

  @Test func breaksAreToldSignedAndAgain() async throws {
    let test = try TestConsole()
    let receiver = Receiver()
    let router = Router()
    router.post("in") { request, _ in
      let body = try await request.body.collect(upTo: 1 << 20)
      receiver.got.append((request.headers, String(buffer: body)))
      return receiver.status
    }
    let application = Application(router: router, configuration: .init(address: .hostname("127.0.0.1", port: 0)))
    try await application.test(.live) { client in
      var webhook = ServeWebhook(
        name: "desk", url: "http://127.0.0.1:\(client.port!)/in", secret: Secret("s3cret"))
      webhook.severities = ["high"]
      webhook.scope = ["country": ["NO"]]
      let service = WebhookService(console: test.console, client: HTTPClient.shared)
      try test.add([TestBreak(order: "SO-OLD", severity: "high")])
      try await service.enqueue(webhook)
      try await service.deliver(webhook)
      #expect(receiver.got.isEmpty, "nobody is told of what was there before")
      let made = TestBreak(order: "SO-NEW", severity: "high")
      try test.add([made, TestBreak(order: "SO-LOW"), TestBreak(order: "SO-DE", severity: "high", country: "DE")])
      receiver.status = .internalServerError
      let begun = Date()
      try await service.enqueue(webhook)
      try await service.deliver(webhook)
      // On a machine that stands still in between its time has come, and it is tried again.
      func isEarly() -> Bool { Date().timeIntervalSince(begun) < Double(WebhookService.firstPause_ms) / 1_000 }
      var attempts = try await test.console.state.waiting("desk", limit: 10).map(\.attempts)
      #expect(!isEarly() || receiver.got.count == 1)
      #expect(attempts == [receiver.got.count])
      try await service.enqueue(webhook)
      try await service.deliver(webhook)
      #expect(!isEarly() || receiver.got.count == 1, "not again before its time")
      attempts = try await test.console.state.waiting("desk", limit: 10).map(\.attempts)
      #expect(attempts == [receiver.got.count])
      let before = receiver.got.count
      receiver.status = .ok
      // As if the pause were over.
      let waiting = try await test.console.state.waiting("desk", limit: 10)
      try await test.console.state.release(waiting, now_ms: 0)
      try await service.deliver(webhook)
      #expect(receiver.got.count == before + 1)
      #expect(try await test.console.state.waiting("desk") == 0)
      let (headers, body) = receiver.got[before]
      let timestamp = Int64(headers[HTTPField.Name("Tieout-Timestamp")!]!)!
      #expect(
        headers[HTTPField.Name("Tieout-Signature")!]
          == WebhookService.signature(body, timestamp_s: timestamp, secret: "s3cret"))
      let told = try JSONDecoder().decode(JSON.self, from: Data(body.utf8))
      #expect(told["break"]?["order"]?.stringValue == "SO-NEW")
      #expect(
        receiver.got[0].headers[HTTPField.Name("Tieout-Delivery")!] == headers[HTTPField.Name("Tieout-Delivery")!])
    }
  }

  @Test func whatIsGivenUpIsKept() async throws {
    let test = try TestConsole()
    let state = test.console.state
    let webhook = ServeWebhook(name: "gone", url: "http://127.0.0.1:1/", secret: Secret("x"))
    _ = try await state.enqueue(
      "gone", [.init(breakID: "b", revision: 1, body: "{}")], from: nil, to: .init(generation: "g", sequence: 1),
      now_ms: 0)
    let client = HTTPClient(eventLoopGroupProvider: .singleton, configuration: ConsoleServer.clientConfiguration)
    let service = WebhookService(console: test.console, client: client)
    for attempt in 0..<WebhookService.maximumAttempts {
      try await service.deliver(webhook)
      if let waiting = try await state.waiting("gone", limit: 1).first {
        #expect(waiting.attempts == attempt + 1)
        // As if the pause were over.
        try await state.release([waiting], now_ms: 0)
      }
    }
    try await test.run { client in
      let dead = try await client.get("/v1/webhooks/deliveries?status=dead", as: "admin")
      #expect(dead.items.count == 1)
      #expect(dead.items.first?["last_error"]?.stringValue?.contains("cannot be reached") == true)
      let id = Int(dead.items.first!["id"]!.numberValue!)
      let retry = try await client.send(.post, "/v1/webhooks/deliveries/\(id)/retry", as: "admin")
      #expect(retry.status == 204)
    }
    #expect(try await state.waiting("gone") == 1)
    try await client.shutdown()
  }

  @Test func pausesGrowAndEnd() {
    let pauses = (0..<16).map { WebhookService.pause_ms(attempts: $0, jitter: 0) }
    #expect(pauses.prefix(4) == [1_000, 2_000, 4_000, 8_000])
    #expect(pauses.last == WebhookService.longestPause_ms)
    #expect(WebhookService.pause_ms(attempts: 0, jitter: 999) == 1_499)
  }

  /// Computed apart with another implementation of HMAC-SHA256.
  @Test func theSignatureIsHMAC() {
    #expect(
      WebhookService.signature("{}", timestamp_s: 1_750_000_000, secret: "s3cret")
        == "v1=7ed071297999979c3b6d47db8b9beddadc771fde0919b0c5ec89344fc689f728")
  }
}
