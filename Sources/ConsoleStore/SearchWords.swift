import Foundation

/// The words of a text that a search looks for: runs of letters and digits, without case and accents. SQLite's full text
/// does the same by itself.
enum SearchWords {
  /// Longer words are cut: PostgreSQL takes no longer ones.
  private static let longest = 255

  static func of(_ text: String) -> [String] {
    var words: [String] = []
    for word in text.split(whereSeparator: { !($0.isLetter || $0.isNumber) }) {
      if word.utf8.allSatisfy({ $0 < 0x80 }) {
        words.append(word.prefix(longest).lowercased())
      } else {
        let folded = word.folding(options: [.caseInsensitive, .diacriticInsensitive], locale: nil)
        // A folded letter may be more than one, and one of them none.
        words.append(String(folded.filter { $0.isLetter || $0.isNumber }.prefix(longest)))
      }
    }
    return words.filter { !$0.isEmpty }
  }
}
