import ArgumentParser
import Configuration
import Foundation

struct MaskCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "mask",
    abstract: "Prints what hashed fields show in place of a text.",
    discussion: """
      For looking up a customer, an order or a document whose field has `mask: hash`: the breaks, dead letters and the \
      console know the hash alone. The text must be as it is after the field's tables and stripping. Without texts, one \
      a line is read from standard input, so that none stands in the shell's history.

      EXAMPLES
        tieout mask --config shop.yaml C-4711
        tieout mask --config shop.yaml < customers.txt
      """)

  @Option(help: "Configuration file.") var config: String
  @Argument(help: "Texts to hash.") var texts: [String] = []

  func run() throws {
    do {
      guard let key = try Configuration.load(path: config).maskKey else {
        throw ValidationError("\(config) has no masking.key")
      }
      if texts.isEmpty {
        while let line = readLine() { print(key.hash(line.trimmingCharacters(in: .whitespaces))) }
      } else {
        for text in texts { print(key.hash(text.trimmingCharacters(in: .whitespaces))) }
      }
    } catch { fail(error) }
  }
}
