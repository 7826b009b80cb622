import Yams

extension ConfigurationReader {
  /// What is wrong with the YAML itself, with its place. The parser's own description is not used: it quotes the file,
  /// and with it any password in it.
  func syntaxProblem(_ error: YamlError, _ yaml: String) {
    switch error {
    case .scanner(let context, let text, let mark, _), .parser(let context, let text, let mark, _),
      .composer(let context, let text, let mark, _):
      let doing = context.map { "\($0.text) in line \($0.mark.line): " } ?? ""
      problem(line: mark.line, column: mark.column, "not valid YAML: \(doing)\(text)")
    case .reader(let text, let offset, _, _):
      let before = yaml.prefix(offset ?? 0)
      let line = before.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
      problem(line: line.count, column: (line.last?.count ?? 0) + 1, "not valid YAML: \(text)")
    case .duplicatedKeysInMapping(let duplicates, let context):
      let lines = yaml.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
      for key in duplicates {
        let places = Self.lines(of: key, line: context.mark.line, column: context.mark.column, lines)
        if places.count > 1 {
          for place in places.dropFirst() {
            problem(
              line: place, column: context.mark.column, "the key '\(key)' stands here again; first in line \(places[0])"
            )
          }
        } else {
          problem(line: context.mark.line, column: context.mark.column, "the key '\(key)' stands twice in this map")
        }
      }
    default: problem(nil, "not valid YAML")
    }
  }

  /// The lines on which a block map that starts at a place has a key: those of its own indentation, up to the first
  /// that is indented less. A map in braces gives none.
  private static func lines(of key: String, line: Int, column: Int, _ lines: [Substring]) -> [Int] {
    var found: [Int] = []
    guard line > 0, column > 0 else { return found }
    for (index, text) in lines.enumerated().dropFirst(line - 1) {
      let indent = text.prefix { $0 == " " }.count
      let content = text.dropFirst(indent)
      if index >= line {
        if content.isEmpty || content.first == "#" { continue }
        if indent < column - 1 { break }
        if indent > column - 1 { continue }
      }
      let entry = text.dropFirst(column - 1)
      let isKey = [key, "\"\(key)\"", "'\(key)'"].contains { spelling in
        entry.hasPrefix(spelling) && entry.dropFirst(spelling.count).drop { $0 == " " }.first == ":"
      }
      if isKey { found.append(index + 1) }
    }
    return found
  }
}
