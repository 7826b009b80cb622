import ConsoleStore
import Foundation

/// A PostgreSQL server for tests: data in a temporary folder, on a free port of 127.0.0.1, gone with the process.
public final class PostgresCluster: Sendable {
  /// nil, with the reason printed once, where there is no server program, or it does not start.
  public static let shared: PostgresCluster? = {
    do {
      return try PostgresCluster()
    } catch {
      print("PostgreSQL's tests are skipped: \(error)")
      return nil
    }
  }()

  public let port: Int
  public let user: String
  private let directory: String

  struct Unavailable: Error, CustomStringConvertible { var description: String }

  private static func programs() throws -> String {
    let versions = (try? FileManager.default.contentsOfDirectory(atPath: "/usr/lib/postgresql")) ?? []
    let folders =
      versions.sorted { (Int($0) ?? 0) > (Int($1) ?? 0) }.map { "/usr/lib/postgresql/\($0)/bin" }
      + (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":").map(String.init)
    guard
      let folder = folders.first(where: { folder in
        ["initdb", "postgres"].allSatisfy { FileManager.default.isExecutableFile(atPath: "\(folder)/\($0)") }
      })
    else { throw Unavailable(description: "there is no PostgreSQL server (Debian: apt-get install postgresql)") }
    return folder
  }

  private static func freePort() throws -> Int {
    let number = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(number) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isBound = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(number, $0, size) == 0 && getsockname(number, $0, &size) == 0
      }
    }
    guard isBound else { throw Unavailable(description: "no free port") }
    return Int(UInt16(bigEndian: address.sin_port))
  }

  private init() throws {
    let programs = try PostgresCluster.programs()
    directory =
      FileManager.default.temporaryDirectory.appendingPathComponent("tieout-postgres-\(UUID().uuidString)").path
    port = try PostgresCluster.freePort()
    // The server refuses to run as root.
    var prefix: [String] = []
    if getuid() == 0 {
      let names: [String] = ["postgres", "nobody"]
      guard let name = names.first(where: { getpwnam($0) != nil }) else {
        throw Unavailable(description: "it does not run as root, and there is no other user here")
      }
      guard FileManager.default.isExecutableFile(atPath: "/usr/bin/setpriv") else {
        throw Unavailable(description: "it does not run as root, and there is no setpriv")
      }
      let entry = getpwnam(name)!.pointee
      try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
      chown(directory, entry.pw_uid, entry.pw_gid)
      prefix = ["/usr/bin/setpriv", "--reuid=\(entry.pw_uid)", "--regid=\(entry.pw_gid)", "--clear-groups"]
    } else {
      try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    }
    user = "tester"
    // The shell ends the server when this process, at the other end of its standard input, is gone.
    let script = """
      set -e
      cd "$1"
      "$2/initdb" -D "$1/data" -U \(user) -A trust --no-sync --locale=C.UTF-8 >"$1/log" 2>&1
      "$2/postgres" -D "$1/data" -p "$3" -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off \
        -c max_connections=200 -c log_statement=none >>"$1/log" 2>&1 &
      server=$!
      cat >/dev/null
      kill -INT $server
      wait $server || true
      cd /
      rm -rf "$1"
      """
    let process = Process()
    let arguments = prefix + ["/bin/sh", "-c", script, "sh", directory, programs, "\(port)"]
    process.executableURL = URL(fileURLWithPath: arguments[0])
    process.arguments = Array(arguments.dropFirst())
    let input = Pipe()
    process.standardInput = input
    try process.run()
    // Held open for as long as this process lives.
    _ = Unmanaged.passRetained(input)
    let until = Date().addingTimeInterval(60)
    while Date() < until {
      guard process.isRunning else { break }
      if (try? PostgresStore.inspect(settings(schema: "none"), dimensions: [])) != nil { return }
      Thread.sleep(forTimeInterval: 0.1)
    }
    let log = (try? String(contentsOfFile: directory + "/log", encoding: .utf8)) ?? ""
    throw Unavailable(description: "it does not start: \(log.suffix(400))")
  }

  public var url: String { "postgresql://\(user)@127.0.0.1:\(port)/postgres" }

  public func settings(schema: String) throws -> PostgresSettings {
    try PostgresSettings(url: url, password: nil, schema: schema)
  }

  /// A schema that no other test uses.
  public func unique() -> String { "t_" + UUID().uuidString.lowercased().replacing("-", with: "") }
}
