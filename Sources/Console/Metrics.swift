import Foundation
import Synchronization

/// Counts of this process, told in Prometheus' text format.
final class Metrics: Sendable {
  /// Upper bounds of the buckets of request times, in seconds.
  static let bounds = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5]

  private struct Route: Hashable {
    var method: String
    var route: String
    var status: Int
  }
  private struct Timing {
    var buckets = [Int](repeating: 0, count: Metrics.bounds.count)
    var count = 0
    var sum_s = 0.0
  }
  private struct State {
    var requests: [Route: Int] = [:]
    var timings: [String: Timing] = [:]
    var counters: [String: Int] = [:]
    var gauges: [String: Double] = [:]
  }
  private let state = Mutex(State())

  func request(method: String, route: String, status: Int, seconds: Double) {
    state.withLock { state in
      state.requests[Route(method: method, route: route, status: status), default: 0] += 1
      var timing = state.timings[route] ?? Timing()
      for (index, bound) in Metrics.bounds.enumerated() where seconds <= bound { timing.buckets[index] += 1 }
      timing.count += 1
      timing.sum_s += seconds
      state.timings[route] = timing
    }
  }

  /// - Parameter name: with its labels, `tieout_intake_records_total{source="orders"}`.
  func add(_ name: String, _ count: Int = 1) { state.withLock { $0.counters[name, default: 0] += count } }

  func counter(_ name: String) -> Int { state.withLock { $0.counters[name] ?? 0 } }

  static func label(_ text: String) -> String {
    text.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"").replacing("\n", with: "\\n")
  }

  /// The page; `more` are gauges that are read now: name with labels, help, value.
  func page(_ more: [(name: String, help: String, kind: String, value: Double)]) -> String {
    let state = state.withLock { $0 }
    var lines: [String] = []
    var told: Set<String> = []
    func head(_ name: String, _ help: String, _ kind: String) {
      let family = String(name.prefix { $0 != "{" })
      guard told.insert(family).inserted else { return }
      lines.append("# HELP \(family) \(help)")
      lines.append("# TYPE \(family) \(kind)")
    }
    func number(_ value: Double) -> String {
      value == value.rounded() && abs(value) < 1e15 ? String(Int64(value)) : "\(value)"
    }
    head("tieout_serve_requests_total", "Requests answered, by method, route and status.", "counter")
    for (route, count) in state.requests.sorted(by: {
      ($0.key.route, $0.key.method, $0.key.status) < ($1.key.route, $1.key.method, $1.key.status)
    }) {
      lines.append(
        "tieout_serve_requests_total{method=\"\(route.method)\",route=\"\(Metrics.label(route.route))\",status=\"\(route.status)\"} \(count)"
      )
    }
    head("tieout_serve_request_seconds", "Time until a request was answered, by route.", "histogram")
    for (route, timing) in state.timings.sorted(by: { $0.key < $1.key }) {
      let label = Metrics.label(route)
      for (index, bound) in Metrics.bounds.enumerated() {
        lines.append("tieout_serve_request_seconds_bucket{route=\"\(label)\",le=\"\(bound)\"} \(timing.buckets[index])")
      }
      lines.append("tieout_serve_request_seconds_bucket{route=\"\(label)\",le=\"+Inf\"} \(timing.count)")
      lines.append("tieout_serve_request_seconds_sum{route=\"\(label)\"} \(timing.sum_s)")
      lines.append("tieout_serve_request_seconds_count{route=\"\(label)\"} \(timing.count)")
    }
    for (name, help) in Metrics.counters {
      head(name, help, "counter")
      let entries = state.counters.filter { $0.key == name || $0.key.hasPrefix(name + "{") }
      if entries.isEmpty { lines.append("\(name) 0") }
      for (name, count) in entries.sorted(by: { $0.key < $1.key }) { lines.append("\(name) \(count)") }
    }
    for entry in more.sorted(by: { $0.name < $1.name }) {
      head(entry.name, entry.help, entry.kind)
      lines.append("\(entry.name) \(number(entry.value))")
    }
    return lines.joined(separator: "\n") + "\n"
  }

  /// Every counter, with its help; the reference and the dashboards name no other.
  static let counters: [(String, String)] = [
    ("tieout_serve_refused_total", "Requests refused, by reason."),
    ("tieout_serve_intake_records_total", "Records taken in, by source."),
    ("tieout_serve_intake_faults_total", "Records refused at intake, by source."),
    ("tieout_serve_actions_total", "Actions on breaks, by kind."),
    ("tieout_serve_webhook_deliveries_total", "Webhooks delivered, by receiver."),
    ("tieout_serve_webhook_failures_total", "Tries that failed, by receiver."),
    ("tieout_serve_webhook_dead_total", "Webhooks given up, by receiver."),
  ]
}

/// Memory of this process alone, in bytes, from the kernel: without the store's file, which it maps and may take back.
func ownBytes() -> Int {
  guard let text = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8),
    let line = text.split(separator: "\n").first(where: { $0.hasPrefix("RssAnon:") })
  else { return 0 }
  return line.split(whereSeparator: { $0 == " " || $0 == "\t" }).compactMap { Int($0) }.first.map { $0 << 10 } ?? 0
}
