import Configuration
import Decoding
import Domain
import Foundation

extension Configuration {
  /// The source that a file of a command line is of, and its path: `SOURCE=PATH`, or a path alone where the configuration has
  /// one source of the kind.
  func source(of argument: String, _ kind: SourceKind) throws(FileRunError) -> (index: Int, path: String) {
    let candidates = sources.indices.filter { sources[$0].mapping.kind == kind }
    guard let only = candidates.first else {
      throw FileRunError("'\(argument)': the configuration has no source of kind \(kind.rawValue)")
    }
    let names = candidates.map { sources[$0].name }
    if let equals = argument.firstIndex(of: "=") {
      let (name, path) = (String(argument[..<equals]), String(argument[argument.index(after: equals)...]))
      if let named = sources.firstIndex(where: { $0.name == name }) {
        guard sources[named].mapping.kind == kind else {
          throw FileRunError(
            "'\(argument)': the source '\(name)' is of kind \(sources[named].mapping.kind.rawValue), not \(kind.rawValue)"
          )
        }
        return (named, path)
      }
      // A path may have the sign in it.
      if !name.contains("/"), access(argument, F_OK) != 0 {
        let hint = nearestName(name, in: names).map { "; did you mean '\($0)'?" } ?? ""
        throw FileRunError(
          "'\(argument)': there is no source '\(name)' of kind \(kind.rawValue) (\(names.joined(separator: ", ")))\(hint)"
        )
      }
    }
    guard candidates.count == 1 else {
      throw FileRunError(
        "'\(argument)': the configuration has several \(kind.rawValue) sources (\(names.joined(separator: ", "))); write "
          + "SOURCE=PATH")
    }
    return (only, argument)
  }
}
