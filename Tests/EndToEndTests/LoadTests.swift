import Foundation
import Testing

/// The program as it was built beside these tests; nil where it is not there.
let builtProgram: URL? = {
  let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()
  // Next to the test bundle, wherever the build directory is.
  let bundles = (ProcessInfo.processInfo.arguments + Bundle.allBundles.map(\.bundlePath))
    .filter { $0.contains(".xctest") }
    .map { URL(fileURLWithPath: String($0[..<$0.range(of: ".xctest")!.lowerBound])).deletingLastPathComponent() }
  let found = (bundles + [root.appendingPathComponent(".build/debug")]).map { $0.appendingPathComponent("tieout") }
    .first { FileManager.default.isExecutableFile(atPath: $0.path) }
  if found == nil { print("the tests of `tieout load` are skipped: the program is not built") }
  return found
}()

/// Small runs of the load benchmark: it checks the breaks against the truth itself.
@Suite(.serialized, .enabled(if: builtProgram != nil)) struct LoadTests {
  func load(_ arguments: [String]) throws -> (code: Int32, report: [String: Any], errors: String) {
    let process = Process()
    process.executableURL = try #require(builtProgram)
    process.arguments = ["load", "--json"] + arguments
    let (output, errors) = (Pipe(), Pipe())
    process.standardOutput = output
    process.standardError = errors
    try process.run()
    let bytes = output.fileHandleForReading.readDataToEndOfFile()
    let text = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    let line = bytes.split(separator: 0x0a).last ?? Data()
    let report = (try? JSONSerialization.jsonObject(with: line) as? [String: Any]) ?? [:]
    return (process.terminationStatus, report, text)
  }

  @Test(arguments: ["flat", "northwind"]) func breaksAreTheTruth(shape: String) throws {
    let (code, report, errors) = try load([
      "--records", "40000", "--shape", shape, "--partitions", "4", "--codec", shape == "flat" ? "lz4" : "zstd",
    ])
    #expect(code == 0, "\(errors)")
    #expect(report["breaks_missed"] as? Int == 0 && report["breaks_false"] as? Int == 0)
    #expect(report["breaks_found"] as? Int ?? 0 > 100)
    #expect(report["ratio"] as? Double ?? 0 > 1)
    #expect(report["cpu_us_per_record"] as? Double ?? 0 > 0)
    #expect(report["peak_memory_bytes"] as? Int ?? 0 > 1 << 20)
  }

  @Test func skewedKeysAndSeveralPostings() throws {
    let (code, report, errors) = try load([
      "--records", "30000", "--partitions", "4", "--postings", "3", "--hot-keys", "20", "--invoices-per-hot-key", "40",
      "--workers", "1", "--record-bytes", "500", "--faults", "500",
    ])
    #expect(code == 0, "\(errors)")
    #expect(report["breaks_found"] as? Int ?? 0 > 100)
  }

  @Test func aSteadyRateGivesLatencies() throws {
    let (code, report, errors) = try load(["--rate", "2000", "--seconds", "5", "--partitions", "2"])
    #expect(code == 0, "\(errors)")
    let latency = try #require(report["latency_us"] as? [String: Int])
    #expect(latency["count"] ?? 0 > 20)
    #expect(latency["p50"] ?? 0 > 0 && latency["p99"] ?? 0 >= latency["p50"] ?? .max)
  }

  /// A load whose topics the broker cannot hold is an error of the run, not a wrong result.
  @Test func whatTheBrokerDropsIsAnError() throws {
    let (code, _, errors) = try load(["--records", "60000", "--partitions", "1", "--codec", "none"])
    // A real cluster holds it.
    if ProcessInfo.processInfo.environment["TIEOUT_TEST_BOOTSTRAP"] ?? "" == "" {
      #expect(code == 2)
      #expect(errors.contains("partitions"), "\(errors)")
    } else {
      #expect(code == 0)
    }
  }
}
