import ArgumentParser
import Foundation
import Pipeline

struct Docs: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Writes the generated reference documentation and schemas, or checks them.",
    discussion: """
      With --check nothing is written: exit code 1 where a file is out of date. With --against the schemas of the source \
      tree are compared with older ones: a field may be added, not removed or retyped.

      EXAMPLES
        tieout docs --root .
        tieout docs --root . --check --against /tmp/schemas-before
      """)

  @Option(help: "Root of the source tree.") var root = "."
  @Flag(help: "Write nothing; say what is out of date.") var check = false
  @Option(help: "Directory of older schemas to be compatible with.") var against: String?

  func run() throws {
    do {
      var problems: [String] = []
      for (path, text) in ReferenceDocuments.all() {
        let target = root + "/" + path
        if check {
          let committed = try? String(contentsOfFile: target, encoding: .utf8)
          if committed != text { problems.append("\(path) is out of date: run `tieout docs`") }
          continue
        }
        try FileManager.default.createDirectory(
          atPath: (target as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
        try text.write(toFile: target, atomically: true, encoding: .utf8)
      }
      if let against {
        problems += try SchemaCompatibility.problems(oldDirectory: against, newDirectory: root + "/config/schemas")
      }
      for problem in problems { print(problem) }
      if !problems.isEmpty { throw ExitCode(1) }
    } catch let code as ExitCode {
      throw code
    } catch { fail(error) }
  }
}
