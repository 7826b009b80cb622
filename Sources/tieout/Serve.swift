import ArgumentParser
import Foundation
import Pipeline

/// The program beside this one that serves the API: apart, so that the reconciler carries no HTTP server.
enum ServeProgram {
  static let name = "tieout-serve"

  static func path() throws -> String {
    let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    let path = URL(fileURLWithPath: own).deletingLastPathComponent().appendingPathComponent(name).path
    guard FileManager.default.isExecutableFile(atPath: path) else {
      throw ValidationError("\(path) is not there; it is built by `swift build --product \(name)`.")
    }
    return path
  }

  /// Becomes that program.
  static func become(_ arguments: [String]) throws -> Never {
    let path = try path()
    var pointers = ([path] + arguments).map { strdup($0) }
    pointers.append(nil)
    execv(path, &pointers)
    throw ValidationError("\(path) cannot be run: \(String(cString: strerror(errno))).")
  }

  /// Starts it beside this process.
  static func start(config: String, bootstrap: String?) throws -> Process {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: try path())
    process.arguments = ["serve", "--config", config] + (bootstrap.map { ["--bootstrap", $0] } ?? [])
    try process.run()
    return process
  }

  /// Longest that its part of `tieout doctor` may take: an audit log of gigabytes is read whole.
  private static let doctorTimeout_s: TimeInterval = 300

  /// What it finds wrong with its part of a configuration.
  static func findings(config: String) -> [DoctorFinding] {
    func failed(_ what: String, _ advice: String) -> [DoctorFinding] {
      [DoctorFinding(.warning, "console", name, what, advice: advice)]
    }
    let process = Process()
    let output = Pipe()
    do {
      process.executableURL = URL(fileURLWithPath: try path())
      process.arguments = ["doctor", "--config", config, "--json"]
      process.standardOutput = output
      try process.run()
    } catch {
      return failed(
        "\(error)",
        "The console is configured, and its program is not beside this one: install both, or run it elsewhere.")
    }
    let limit = DispatchWorkItem { process.terminate() }
    DispatchQueue.global().asyncAfter(deadline: .now() + doctorTimeout_s, execute: limit)
    let text = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    limit.cancel()
    guard let report = try? JSONDecoder().decode(DoctorReport.self, from: text) else {
      return failed(
        "it gave no answer (status \(process.terminationStatus))",
        "Run `tieout-serve doctor --config \(config)` to see why.")
    }
    return report.checks
  }

  /// Ends it the way an operator would, and waits until it is gone.
  static func end(_ process: Process) {
    if process.isRunning { process.terminate() }
    process.waitUntilExit()
  }
}

struct Serve: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Serves the HTTP API and console (runs tieout-serve).",
    discussion: "EXAMPLE\n  tieout serve --config shop.yaml\n\n`tieout serve --help` shows its options.")

  @Argument(parsing: .captureForPassthrough, help: "Options of tieout-serve.") var arguments: [String] = []

  func run() throws { try ServeProgram.become(["serve"] + arguments) }
}

struct Audit: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Checks the audit log of the API (runs tieout-serve).",
    discussion: "EXAMPLE\n  tieout audit verify serve/audit.log")

  @Argument(parsing: .captureForPassthrough, help: "Options of tieout-serve audit.") var arguments: [String] = []

  func run() throws { try ServeProgram.become(["audit"] + arguments) }
}
