import AsyncHTTPClient
import Configuration
import ConsoleStore
import Crypto
import Domain
import Foundation
import Logging
import NIOCore
import Pipeline
import ServiceLifecycle

/// Tells receivers of breaks that change and pass their filters: signed, again and again with growing pauses, and at
/// last set aside where a person finds it.
struct WebhookService: Service {
  /// Tries before a delivery is set aside: with the pauses below after 34 to 51 minutes.
  static let maximumAttempts = 12
  static let firstPause_ms: Int64 = 1_000
  static let longestPause_ms: Int64 = 1_800_000
  static let timeout_s: Int64 = 10
  static let page = 200
  static let interval_ms = 500

  let console: Console
  let client: HTTPClient

  func run() async throws {
    // Receivers come and go with the configuration; each has a task of its own, so that one that hangs holds up no other.
    await withDiscardingTaskGroup { group in
      var followed: Set<String> = []
      while !Task.isCancelled, !Task.isShuttingDownGracefully {
        for webhook in console.settings.webhooks where followed.insert(webhook.name).inserted {
          group.addTask { await follow(webhook.name) }
        }
        try? await Task.sleep(for: .milliseconds(WebhookService.interval_ms))
      }
    }
  }

  private func current(_ name: String) -> ServeWebhook? { console.settings.webhooks.first { $0.name == name } }

  /// What a receiver is told while it is configured, as it is configured.
  private func follow(_ name: String) async {
    while !Task.isCancelled, !Task.isShuttingDownGracefully {
      if let webhook = current(name) {
        do {
          try await enqueue(webhook)
          try await deliver(webhook, while: { current(name) == webhook })
        } catch {
          console.log.error("a webhook cannot be served", metadata: ["webhook": "\(name)", "error": "\(error)"])
        }
      }
      try? await Task.sleep(for: .milliseconds(WebhookService.interval_ms))
    }
  }

  private struct Head: Decodable {
    var id: String
    var revision: Int
  }

  static func filter(_ webhook: ServeWebhook) -> BreakFilter {
    var filter = BreakFilter()
    filter.types = webhook.types
    filter.states = webhook.states
    filter.severities = webhook.severities
    filter.minimum_u = webhook.minimum_u > 0 ? webhook.minimum_u : nil
    return filter
  }

  /// What has changed since it was last looked. A receiver starts, or starts anew after the store was made anew, with
  /// what changes from then on: nobody is told of everything there ever was.
  func enqueue(_ webhook: ServeWebhook) async throws {
    guard console.followed().isCaughtUp else { return }
    let generation = try console.store.generation
    let known = try await console.state.cursor(webhook.name)
    guard var cursor = known, cursor.generation == generation else {
      let start = StateStore.Cursor(generation: generation, sequence: try await console.store.sequence())
      _ = try await console.state.enqueue(webhook.name, [], from: known, to: start, now_ms: wallClock_ms())
      return
    }
    var filter = WebhookService.filter(webhook)
    filter.after = cursor.sequence
    while true {
      let page = try await console.store.breaks(
        filter, scope: RowScope(webhook.scope), sort: .updatedUp, after: nil, limit: WebhookService.page)
      guard !page.rows.isEmpty else { return }
      let now = wallClock_ms()
      let changes = try page.rows.map { row -> StateStore.Change in
        let head = try JSONDecoder().decode(Head.self, from: Data(row.utf8))
        let body: JSON = [
          "event": "break", "webhook": .string(webhook.name), "at": .string(formatTimestamp(now)), "break": .raw(row),
        ]
        return StateStore.Change(breakID: head.id, revision: head.revision, body: body.text)
      }
      let next = StateStore.Cursor(generation: generation, sequence: page.sequence)
      // Where another server was quicker, it has seen the same changes.
      guard try await console.state.enqueue(webhook.name, changes, from: cursor, to: next, now_ms: now) else { return }
      cursor = next
      filter.after = page.sequence
      if page.next == nil { return }
    }
  }

  /// - Parameter isCurrent: Whether the receiver is still configured so; what is left is sent the other way.
  func deliver(_ webhook: ServeWebhook, while isCurrent: () -> Bool = { true }) async throws {
    while !Task.isShuttingDownGracefully {
      let due = try await console.state.claim(webhook.name, now_ms: wallClock_ms())
      if due.isEmpty { return }
      for (index, delivery) in due.enumerated() {
        if Task.isShuttingDownGracefully || !isCurrent() {
          try await console.state.release(Array(due[index...]), now_ms: wallClock_ms())
          return
        }
        guard let error = await attempt(delivery, webhook) else {
          try await console.state.delivered(delivery.id)
          console.metrics.add(
            "tieout_serve_webhook_deliveries_total{webhook=\"\(Metrics.label(webhook.name))\"}")
          continue
        }
        let label = "{webhook=\"\(Metrics.label(webhook.name))\"}"
        console.metrics.add("tieout_serve_webhook_failures_total" + label)
        let isDead = delivery.attempts + 1 >= WebhookService.maximumAttempts
        if isDead {
          console.metrics.add("tieout_serve_webhook_dead_total" + label)
          console.log.error(
            "a webhook is given up",
            metadata: ["webhook": "\(webhook.name)", "delivery": "\(delivery.id)", "error": "\(error)"])
        }
        try await console.state.failed(
          delivery, error: error,
          next_ms: wallClock_ms()
            + WebhookService.pause_ms(attempts: delivery.attempts, jitter: .random(in: 0..<1_000)),
          isDead: isDead)
      }
    }
  }

  /// Twice as long after each try, and up to half as long again, so that receivers are not called all at once.
  /// - Parameter jitter: thousandths.
  static func pause_ms(attempts: Int, jitter: Int64) -> Int64 {
    let pause = min(longestPause_ms, firstPause_ms << Int64(min(attempts, 20)))
    return pause + pause * jitter / 2_000
  }

  /// `v1=` and HMAC-SHA256 over `timestamp.body`, in hexadecimal.
  static func signature(_ body: String, timestamp_s: Int64, secret: String) -> String {
    let code = HMAC<SHA256>.authenticationCode(
      for: Data("\(timestamp_s).\(body)".utf8), using: SymmetricKey(data: Data(secret.utf8)))
    return "v1=" + hexadecimal(code)
  }

  /// nil where the receiver has taken it, else why not.
  private func attempt(_ delivery: StateStore.Delivery, _ webhook: ServeWebhook) async -> String? {
    let timestamp = wallClock_ms() / 1_000
    var request = HTTPClientRequest(url: webhook.url)
    request.method = .POST
    request.headers.add(name: "Content-Type", value: "application/json")
    request.headers.add(name: "User-Agent", value: "tieout")
    request.headers.add(name: "Tieout-Delivery", value: "\(delivery.id)")
    request.headers.add(name: "Tieout-Timestamp", value: "\(timestamp)")
    request.headers.add(
      name: "Tieout-Signature",
      value: WebhookService.signature(delivery.body, timestamp_s: timestamp, secret: webhook.secret.reveal))
    request.body = .bytes(ByteBuffer(string: delivery.body))
    do {
      let response = try await client.execute(request, timeout: .seconds(WebhookService.timeout_s))
      guard (200..<300).contains(response.status.code) else { return "the receiver answers \(response.status.code)" }
      return nil
    } catch { return "the receiver cannot be reached: \(error)" }
  }
}
