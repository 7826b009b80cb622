import Configuration
import Foundation
import Kafka
import KafkaTesting
import Monitoring
import Pipeline
import Testing

#if canImport(FoundationNetworking)
  import FoundationNetworking
#endif

extension EndToEndTests {
  private struct Answer {
    var status: Int
    var headers: [String: String]
    var body: String
  }

  private func ask(
    _ port: Int, _ path: String, method: String = "GET", token: String? = nil, body: String? = nil
  ) async throws -> Answer {
    var request = URLRequest(url: URL(string: "http://127.0.0.1:\(port)\(path)")!, timeoutInterval: 10)
    request.httpMethod = method
    if let token { request.setValue("Bearer \(token)", forHTTPHeaderField: "Authorization") }
    request.httpBody = body.map { Data($0.utf8) }
    let (data, response) = try await URLSession(configuration: .ephemeral).data(for: request)
    let http = response as! HTTPURLResponse
    return Answer(
      status: http.statusCode,
      headers: Dictionary(http.allHeaderFields.map { ("\($0.key)".lowercased(), "\($0.value)") }) { $1 },
      body: String(decoding: data, as: UTF8.self))
  }

  /// Records behind somebody's open transaction are not taken in, and are seen to wait.
  @Test func anOpenTransactionIsALag() async throws {
    let cluster = try TestCluster()
    #expect(cluster.knowsTransactions)
    let configuration = try prepare("flat.yaml", cluster, partitions: 1, workers: 1)
    let (sent, _) = try load(configuration, cluster, orders: 20)
    let daemon = Daemon(configuration: configuration, log: silent)
    try daemon.start()
    defer {
      daemon.stop.stop()
      #expect(daemon.waitUntilStopped())
    }
    func wait(_ isDone: () -> Bool) async throws -> Bool {
      let until = Date().addingTimeInterval(60)
      while !isDone(), Date() < until { try await Task.sleep(for: .milliseconds(20)) }
      return isDone()
    }
    #expect(try await wait { daemon.status.decode.records >= sent && daemon.status.isReady && daemon.status.lag == 0 })
    let producer = try Producer(
      properties: cluster.properties + [KafkaProperty("transactional.id", cluster.unique("somebody"))])
    try producer.initTransactions(timeout_ms: 30_000)
    try producer.beginTransaction()
    for _ in 0..<3 {
      try producer.produce(topic: configuration.sources[0].topic, partition: 0, key: nil, value: Array("{}".utf8))
    }
    try producer.flush(timeout_ms: 30_000)
    #expect(try await wait { daemon.status.lag == 3 }, "\(daemon.status.lag)")
    #expect(daemon.status.decode.records == sent)
    try producer.commitTransaction(timeout_ms: 30_000)
    #expect(
      try await wait { daemon.status.decode.records == sent + 3 && daemon.status.lag == 0 }, "\(daemon.status.lag)")
  }

  /// What a daemon tells of itself, over HTTP, from its start to its end.
  @Test func theDaemonTellsHowItIs() async throws {
    let cluster = try TestCluster()
    let configuration = try prepare("flat.yaml", cluster, partitions: 2, workers: 2)
    let (sent, truth) = try load(configuration, cluster, orders: 300)
    try cluster.produce(configuration.sources[0].topic, [("nothing", nil, 0)])
    let daemon = Daemon(configuration: configuration, log: silent)
    let settings = MonitoringSettings(host: "127.0.0.1", port: 0, token: Secret("t0ken"))
    let server = try MonitoringServer(
      settings,
      .init(metrics: { daemon.metricsPage() }, isHealthy: { daemon.isRunning }, isReady: { daemon.status.isReady }))
    defer { server.stop() }
    let port = server.port
    #expect(try await ask(port, "/readyz").status == 503)
    #expect(try await ask(port, "/healthz").status == 503)
    try daemon.start()
    #expect(try await ask(port, "/healthz").status == 200)
    let until = Date().addingTimeInterval(60)
    // A worker may have had both partitions for a while before the other one joined.
    while !daemon.status.isReady || daemon.status.partitions < 2 || daemon.status.decode.records < sent
      || daemon.status.match.open.reduce(0, +) < truth.count / 2
      || daemon.status.lag > 0, Date() < until
    { try await Task.sleep(for: .milliseconds(50)) }
    #expect(try await ask(port, "/readyz").status == 200)
    let page = try await ask(port, "/metrics", token: "t0ken")
    #expect(page.status == 200)
    #expect(page.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8")
    func value(_ name: String) -> Double? {
      page.body.split(separator: "\n").first { $0.hasPrefix("tieout_daemon_\(name) ") }
        .flatMap { Double($0.split(separator: " ")[1]) }
    }
    // What was read and not committed when a partition moved is read again.
    #expect(value("records_total") ?? 0 >= Double(sent) && value("records_total") ?? 0 < Double(2 * sent))
    #expect(value("lag_records") == 0)
    #expect(value("tombstones_total") ?? 0 >= 1)
    #expect(value("partitions") == 2)
    #expect(value("ready") == 1)
    #expect(value("open_ties") == Double(daemon.status.ties))
    #expect((value("ties_closed") ?? -1) > 0)
    #expect((value("state_bytes") ?? -1) > 0)
    #expect((value("resident_bytes") ?? -1) > 1_000_000)
    #expect((value("commit_seconds_count") ?? -1) > 0)
    #expect((value("commit_seconds_sum") ?? -1) > 0)
    #expect(value("epoch_seconds_sum") ?? -1 >= value("commit_seconds_sum") ?? .infinity)
    #expect((value("rebalances_total") ?? -1) >= 2)
    // The load is of another year.
    #expect((value("watermark_delay_seconds") ?? -1) > 86_400)
    let byType = page.body.split(separator: "\n").filter { $0.hasPrefix("tieout_daemon_open_breaks{") }
    #expect(byType.compactMap { Int($0.split(separator: " ")[1]) }.reduce(0, +) > truth.count / 2)
    try holds(page.body)

    for token in [nil, "t0keN", "", "t0ken2"] {
      let refused = try await ask(port, "/metrics", token: token)
      #expect(refused.status == 401 && !refused.body.contains("tieout_"))
    }
    #expect(try await ask(port, "/metrics", method: "HEAD", token: "t0ken").body.isEmpty)
    #expect(try await ask(port, "/metrics", method: "DELETE", token: "t0ken").status == 405)
    #expect(try await ask(port, "/", token: "t0ken").status == 404)
    #expect(try await ask(port, "/metrics/x", token: "t0ken").status == 404)
    daemon.stop.stop()
    #expect(daemon.waitUntilStopped())
    #expect(try await ask(port, "/healthz").status == 503)
  }

  /// Every line is a comment or a sample, every sample has a type, and dashboards and alerts name no other metric.
  private func holds(_ page: String) throws {
    for line in page.split(separator: "\n") where !line.hasPrefix("#") {
      #expect(line.wholeMatch(of: #/[a-z_]+(\{([a-z_]+="[^"]*",?)+\})? -?[0-9.e+-]+/#) != nil, "\(line)")
      let family = line.prefix { $0 != "{" && $0 != " " }.replacing(#/_(sum|count)$/#, with: "")
      #expect(page.contains("# TYPE \(family) "), "\(family)")
    }
    for file in ["alerts.yaml", "grafana-tieout.json"] {
      let path = URL(fileURLWithPath: exampleConfigurations).deletingLastPathComponent()
        .appendingPathComponent("monitoring/" + file)
      let text = try String(contentsOf: path, encoding: .utf8)
      let named = Set(
        text.matches(of: #/tieout_daemon_[a-z_]+/#).map { String($0.output).replacing(#/_(sum|count)$/#, with: "") })
      #expect(named.count > 5, "\(file)")
      for name in named { #expect(page.contains("# TYPE \(name) "), "\(file): \(name)") }
    }
  }
}
