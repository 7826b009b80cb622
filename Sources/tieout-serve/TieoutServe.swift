import ArgumentParser
import Configuration
import Console
import Foundation
import Logging
import Pipeline

@main
struct TieoutServe: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tieout-serve",
    abstract: "The HTTP API and console of tieout.",
    discussion: "`tieout serve` and `tieout audit` run this program.",
    version: version,
    subcommands: [Serve.self, Audit.self, Token.self, Describe.self, Examine.self, Measure.self],
    defaultSubcommand: Serve.self)
}

/// The version of this program.
let version = "0.1.0"

/// Ends the program the way all commands fail: a message on standard error, exit code 2.
func fail(_ error: any Error) -> Never {
  FileHandle.standardError.write(Data("tieout-serve: \(error)\n".utf8))
  Foundation.exit(2)
}

struct Serve: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Serves the API until SIGTERM or SIGINT.",
    discussion: """
      Follows the output topics into a store in serve.directory, serves them over HTTP, takes orders, postings and \
      actions in. The store can be made anew from the topics at any time with --rebuild. SIGHUP reads the configuration \
      again: tokens, keys, webhooks, limits, certificates and the log's level change without a stop.

      EXAMPLE
        tieout serve --config shop.yaml
      """)

  @Option(help: "Configuration file.") var config: String
  @Option(help: "Bootstrap servers instead of the configured ones.") var bootstrap: String?
  @Option(help: "HOST:PORT instead of serve.listen.") var listen: String?
  @Option(help: "Folder instead of serve.directory.") var directory: String?
  @Flag(help: "Empties the store first; the topics fill it again.") var rebuild = false
  @Option(help: "Write the port that it listens on into this file.") var portFile: String?

  /// Reads the file, and puts in place of it what the command line says.
  private func loader() throws -> @Sendable () throws -> Configuration {
    var address: (host: String, port: Int)?
    if let listen {
      guard let colon = listen.lastIndex(of: ":"), let port = Int(listen[listen.index(after: colon)...]) else {
        throw ValidationError("--listen '\(listen)' is not HOST:PORT.")
      }
      address = (String(listen[..<colon]), port)
    }
    return { [config, bootstrap, directory, address] in
      var configuration = try Configuration.load(path: config)
      if let bootstrap { configuration.kafka.bootstrap = bootstrap }
      if let directory { configuration.serve.directory = directory }
      if let address { (configuration.serve.host, configuration.serve.port) = address }
      return configuration
    }
  }

  func run() async throws {
    do {
      let load = try loader()
      let configuration = try load()
      let process = ProcessLog(configuration, label: "tieout-serve")
      let log = process.log
      var options = ConsoleServer.Options()
      options.rebuild = rebuild
      options.version = version
      options.load = load
      options.logLevel = process.level
      let portFile = portFile
      options.onListening = { port in
        log.info("listening", metadata: ["port": "\(port)"])
        if let portFile { try? "\(port)".write(toFile: portFile, atomically: true, encoding: .utf8) }
      }
      try await ConsoleServer(configuration: configuration, options: options, log: log).run()
      log.info("stopped")
    } catch let error as ValidationError {
      throw error
    } catch { fail(error) }
  }
}

struct Audit: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "The audit log.", subcommands: [Verify.self])

  struct Verify: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Checks the hash chain of an audit log.",
      discussion: """
        Ends with 0 where every entry is as it was written, and with 1 where one has been changed, taken out or put \
        in. Every action on its topic carries the head of the log (`audit`) at its time: with --head the log must hold \
        it, so that an end that was cut off is seen too.

        EXAMPLE
          tieout audit verify serve/audit.log --head 17:5feceb66ffc8…
        """)

    @Argument(help: "The log, serve.directory/audit.log.") var log: String
    @Option(help: "NUMBER:HASH that the log must hold.") var head: String?

    func run() throws {
      do {
        let report = try AuditLog.verify(path: log, expected: head)
        if let problem = report.problem {
          print("\(log): \(problem); \(report.head.number) entries before it are sound")
          throw ExitCode(1)
        }
        print("\(log): \(report.head.number) entries, all sound; head \(report.head.text)")
      } catch let code as ExitCode {
        throw code
      } catch { fail(error) }
    }
  }
}

struct Token: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Makes an API token and prints it with its hash.",
    discussion: "The hash goes into serve.tokens.NAME.sha256, the token to whom it is for. It stands nowhere else.")

  func run() {
    let (token, hash) = ConsoleToken.make()
    print("token:  \(token)\nsha256: \(hash)")
  }
}

struct Describe: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "openapi", abstract: "Prints the OpenAPI description of a configuration.")

  @Option(help: "Configuration file.") var config: String

  func run() throws {
    do {
      print(ConsoleServer.openAPI(try Configuration.load(path: config), version: version))
    } catch { fail(error) }
  }
}

struct Examine: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor", abstract: "Looks at the console's folder, store, audit log, keys and certificates.",
    discussion:
      "`tieout doctor` asks for this beside all else. Exit code 0: all is well, 1: warnings, 2: something fails.")

  @Option(help: "Configuration file.") var config: String
  @Flag(help: "Print JSON.") var json = false

  func run() async throws {
    do {
      LoggingSystem.bootstrap(StreamLogHandler.standardError)
      var report = DoctorReport()
      report.add(
        await ConsoleDoctor(configuration: try Configuration.load(path: config), log: Logger(label: "doctor")).run())
      print(json ? try report.json() : report.text)
      if report.exitCode != 0 { throw ExitCode(report.exitCode) }
    } catch let code as ExitCode {
      throw code
    } catch { fail(error) }
  }
}
