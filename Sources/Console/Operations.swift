import Configuration
import ConsoleStore
import Domain
import Foundation
import HTTPTypes
import Hummingbird

extension Console {
  /// Records that the store may be behind and still be ready: less than a second's worth.
  static let readyLag: Int64 = 10_000

  static func operationsEndpoints(_ configuration: Configuration) -> [Endpoint] {
    let health = Schemas.reference("Health")
    return [
      Endpoint(
        method: .get, path: "/healthz", operation: "getHealth", tag: "operations", help: "Whether the process lives.",
        access: .open, answers: [.init(status: 200, help: "It does.", schema: health)],
        handle: { _, _, _ in .json(["status": "ok"]) }),
      Endpoint(
        method: .get, path: "/readyz", operation: "getReadiness", tag: "operations",
        help: "Whether the store has caught up with the topics.", access: .open,
        answers: [
          .init(status: 200, help: "It has.", schema: health), .init(status: 503, help: "Not yet.", schema: health),
        ],
        handle: { console, _, _ in
          // What is wrong in detail is for those who may see the status.
          guard let reason = console.notReady() else { return .json(["status": "ok"]) }
          return .json(["status": "starting", "reason": .string(reason)], status: .serviceUnavailable)
        }),
      Endpoint(
        method: .get, path: "/metrics", operation: "getMetrics", tag: "operations",
        help: "Metrics in Prometheus' text format.",
        access: configuration.serve.isMetricsOpen ? .open : .needsEverything(.metrics),
        answers: [.init(status: 200, help: "Metrics.", type: "text/plain")],
        handle: { console, _, _ in
          .text(try await console.metricsPage(), type: "text/plain; version=0.0.4; charset=utf-8")
        }),
      Endpoint(
        method: .get, path: "/v1/status", operation: "getStatus", tag: "operations",
        help: "How far the store has followed the topics.", access: .needsEverything(.read),
        answers: [.init(status: 200, help: "The status.", schema: Schemas.reference("Status"))],
        handle: { console, _, _ in
          let status = console.followed()
          return .json([
            "version": .string(console.version), "generation": .string(try console.store.generation),
            "is_ready": .bool(console.notReady() == nil), "lag": .int(Int(status.lag)), "records": .int(status.records),
            "faults": .int(status.faults), "sequence": .int(Int(status.sequence)),
            "applied_at": status.applied_ms > 0 ? .string(formatTimestamp(status.applied_ms)) : .null,
            "missing_topics": .array(status.missingTopics.map { .string($0) }), "trouble": .optional(status.trouble),
            "started_at": .string(formatTimestamp(console.startedAt_ms)),
          ])
        }),
      Endpoint(
        method: .get, path: "/v1/openapi.json", operation: "getDescription", tag: "operations",
        help: "This description.", access: .needs(.any),
        answers: [
          .init(status: 200, help: "OpenAPI 3.1.", schema: ["type": "object", "additionalProperties": true])
        ],
        handle: { console, _, _ in .json(console.description) }),
    ]
  }

  func notReady() -> String? {
    let status = followed()
    if status.trouble != nil { return "the topics cannot be read" }
    if !status.isCaughtUp { return "the topics are being read for the first time since the start" }
    return status.lag > Console.readyLag ? "the store is behind" : nil
  }

  private func metricsPage() async throws -> String {
    let status = followed()
    let kafka = gateway.counts
    var gauges: [(name: String, help: String, kind: String, value: Double)] = [
      (
        "tieout_serve_store_lag_records", "Records of the topics that are not in the store yet.", "gauge",
        Double(status.lag)
      ),
      ("tieout_serve_store_ready", "1 where the store has caught up.", "gauge", notReady() == nil ? 1 : 0),
      (
        "tieout_serve_store_records_total", "Records taken into the store since the start.", "counter",
        Double(status.records)
      ),
      ("tieout_serve_store_batches_total", "Batches stored since the start.", "counter", Double(status.batches)),
      ("tieout_serve_store_faults_total", "Records that could not be stored.", "counter", Double(status.faults)),
      ("tieout_serve_store_sequence", "Number of the newest change.", "gauge", Double(status.sequence)),
      (
        "tieout_serve_store_batch_seconds", "Time that the last batch took.", "gauge",
        Double(status.lastBatch_us) / 1e6
      ),
      ("tieout_serve_kafka_sent_total", "Records acknowledged by Kafka.", "counter", Double(kafka.sent)),
      ("tieout_serve_kafka_failed_total", "Requests that Kafka did not acknowledge.", "counter", Double(kafka.failed)),
      ("tieout_serve_listeners", "Clients that listen for events.", "gauge", Double(events.count)),
      ("tieout_serve_audit_entries", "Entries of the audit log.", "gauge", Double(audit.head.number)),
      (
        "tieout_serve_resident_bytes", "Memory of the process, without the mapped file of the store.", "gauge",
        Double(ownBytes())
      ),
      ("tieout_serve_start_time_seconds", "When the process started.", "gauge", Double(startedAt_ms) / 1_000),
    ]
    for webhook in settings.webhooks {
      gauges.append(
        (
          "tieout_serve_webhook_waiting{webhook=\"\(Metrics.label(webhook.name))\"}", "Webhooks that wait to be sent.",
          "gauge", Double(try await state.waiting(webhook.name))
        ))
    }
    for (type, count) in try await openByType().sorted(by: { $0.key < $1.key }) {
      gauges.append(
        ("tieout_open_breaks{type=\"\(Metrics.label(type))\"}", "Open breaks, by type.", "gauge", Double(count)))
    }
    return metrics.page(gauges)
  }

  private func openByType() async throws -> [String: Int] {
    let store = store
    let text = try await summaries.get(RowScope(), sequence: followed().sequence) {
      try await Console.summaryBody(store, RowScope())
    }
    guard let summary = try? JSONDecoder().decode(JSON.self, from: Data(text.utf8)) else { return [:] }
    var counts: [String: Int] = [:]
    for row in summary["rows"]?.arrayValue ?? [] {
      counts[row["type"]?.stringValue ?? "", default: 0] += Int(row["count"]?.numberValue ?? 0)
    }
    return counts
  }
}
