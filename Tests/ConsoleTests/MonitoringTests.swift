import Configuration
import Foundation
import Testing

@testable import Console

/// What dashboards, rules and documents speak of must be there.
@Suite(.serialized) struct MonitoringTests {
  private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  private func names(in file: String) throws -> Set<String> {
    let text = try String(contentsOf: Self.root.appendingPathComponent(file), encoding: .utf8)
    // In expressions a name is followed by a brace, a bracket or the end; the job's and the dashboard's names are none.
    let found = text.matches(of: #/tieout_[a-z_]+/#).map { String($0.output) }
      // Those of the daemon are its own test's.
      .filter { !$0.hasPrefix("tieout_daemon_") }
    return Set(found.map { $0.replacing(#/_(bucket|sum|count)$/#, with: "") })
  }

  @Test(arguments: ["config/monitoring/alerts.yaml", "config/monitoring/grafana-tieout-serve.json"])
  func everyMetricExists(file: String) async throws {
    let test = try TestConsole(adjust: {
      $0.serve.webhooks = [ServeWebhook(name: "desk", url: "http://127.0.0.1:1", secret: Secret("x"))]
    })
    try test.add([TestBreak()])
    let named = try names(in: file)
    #expect(named.count > 5)
    try await test.run { client in
      _ = try await client.get("/v1/breaks")
      let page = try await client.get("/metrics")
      #expect(page.headers[.contentType]?.hasPrefix("text/plain; version=0.0.4") == true)
      for name in named {
        #expect(
          page.body.contains("\n\(name){") || page.body.contains("\n\(name) ")
            || page.body.contains("\n# TYPE \(name) "), "\(name)")
      }
      // Every line is a comment or a sample; every sample has a type.
      for line in page.body.split(separator: "\n") where !line.hasPrefix("#") {
        #expect(line.wholeMatch(of: #/[a-z_]+(\{([a-z_]+="[^"]*",?)+\})? -?[0-9.e+-]+/#) != nil, "\(line)")
        let family = line.prefix { $0 != "{" && $0 != " " }.replacing(#/_(bucket|sum|count)$/#, with: "")
        #expect(page.body.contains("# TYPE \(family) "), "\(family)")
      }
    }
  }

  @Test func sumsHaveTheDecimalsOfTheirCurrency() {
    #expect(Console.decimal(1_500_000, "EUR") == "1.50")
    #expect(Console.decimal(1_500_001, "EUR") == "1.500001")
    #expect(Console.decimal(2_000_000, "JPY") == "2")
    #expect(Console.decimal(2_000_000, "KWD") == "2.000")
    #expect(Console.decimal(0, "") == "0")
  }
}
